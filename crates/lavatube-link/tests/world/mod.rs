//! Two nodes and the dark between them, in virtual time and from one seed: for the tests, and for the example `virtual`.
//!
//! It plays the two callers as well: it supplies what is wanted, stores what is received, reserves counters ahead and keeps
//! them over a death. Invariants are asserted at every step: no counter twice, nothing stored that was not sent, nothing
//! delivered that is not stored.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::{BlockId, Instant};
use lavatube_link::{Block, Config, ContactPlan, Event, Link, MemoryStore, OneWay};

/// Numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.word() % n.max(1)
    }

    pub fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn hits(&mut self, probability: f64) -> bool {
        self.share() < probability
    }
}

/// What happens to datagrams one way.
#[derive(Debug, Clone)]
pub struct Channel {
    pub delay: Duration,
    /// Mean share lost.
    pub loss: f64,
    /// Mean length of a burst of losses in slots; 1 for independent ones.
    pub burst: f64,
    /// How long a datagram takes on a busy link: bursts last so many of these, whether anything is sent or not.
    pub slot: Duration,
    pub duplicated: f64,
    pub corrupted: f64,
    /// Datagrams are late by up to this.
    pub jitter: Duration,
    /// Nothing passes between these.
    pub outages: Vec<(Instant, Instant)>,
    /// In a burst, as of then.
    pub bad: (bool, Instant),
}

impl Channel {
    pub fn new(delay: Duration, loss: f64) -> Self {
        let (burst, duplicated, corrupted, jitter) = (1.0, 0.0, 0.0, Duration::ZERO);
        let slot = Duration::from_micros(120);
        Self { delay, loss, burst, slot, duplicated, corrupted, jitter, outages: Vec::new(), bad: (false, Instant(0)) }
    }

    /// Gilbert-Elliott: a bad state in which all is lost, as long on average as a burst.
    pub fn loses(&mut self, now: Instant, chance: &mut Chance) -> bool {
        if self.burst <= 1.0 {
            return chance.hits(self.loss);
        }
        let leave = 1.0 / self.burst;
        let enter = leave * self.loss / (1.0 - self.loss);
        let (bad, at) = self.bad;
        // The two-state chain after so many slots; a datagram that follows at once is one slot later.
        let slots = (now.since(at).as_secs_f64() / self.slot.as_secs_f64()).max(1.0);
        let (was, fades) = (if bad { 1.0 } else { 0.0 }, (1.0 - leave - enter).powf(slots));
        self.bad = (chance.hits(self.loss + (was - self.loss) * fades), now);
        self.bad.0
    }
}

/// One node: its link, what is on its disk, and what its caller knows.
pub struct Node {
    pub link: Option<Link<MemoryStore>>,
    pub config: Config,
    /// On disk: the end of reserved counters.
    reserved: u64,
    /// Blocks to be sent, by key: length and priority.
    pub spool: BTreeMap<u64, (usize, u8)>,
    pub delivered: BTreeSet<u64>,
    pub spent: BTreeSet<u64>,
    /// Blocks stored for good.
    pub stored: BTreeMap<BlockId, usize>,
    pub received_twice: u64,
    /// Blocks of the other node that this caller says busy to, so many times.
    pub busy: u32,
    next_counter: u64,
    /// Symbol bytes sent in all lives.
    pub len_sent: u64,
}

/// When it arrives, a number to keep the order, where, and what.
type InFlight = (Instant, u64, usize, Vec<u8>);

pub struct World {
    pub now: Instant,
    pub nodes: [Node; 2],
    pub channels: [Channel; 2],
    pub chance: Chance,
    dark: BinaryHeap<Reverse<InFlight>>,
    serial: u64,
    /// Block bytes are made from this and their key.
    seed: u64,
    ids: BTreeMap<BlockId, (usize, u64)>,
}

impl World {
    /// `rates`: from node 0, from node 1.
    pub fn new(seed: u64, channels: [Channel; 2], plans: [ContactPlan; 2], one_way: Option<OneWay>) -> Self {
        let [plan, plan_back] = plans;
        let now = Instant(1_000_000_000);
        let keys = ([1; 32], [2; 32]);
        let mut config = Config::new(keys.0, keys.1, plan);
        config.one_way = one_way;
        if one_way.is_some() {
            (config.loss, config.dispersion) = (channels[0].loss, 2.0 * channels[0].burst);
        }
        let back = Config::new(keys.1, keys.0, plan_back);
        let nodes = [Node::new(config), Node::new(back)];
        let mut world = Self {
            now,
            nodes,
            channels,
            chance: Chance(seed),
            dark: BinaryHeap::new(),
            serial: 0,
            seed,
            ids: BTreeMap::new(),
        };
        world.revive(0);
        world.revive(1);
        world
    }

    pub fn bytes(&self, from: usize, key: u64) -> Vec<u8> {
        let len = self.nodes[from].spool[&key].0;
        let mut chance = Chance(self.seed ^ key.wrapping_mul(0x1234_5678_9abc_def1) ^ from as u64);
        let mut bytes = vec![0; len];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&chance.word().to_le_bytes()[..chunk.len()]));
        bytes
    }

    pub fn submit(&mut self, from: usize, key: u64, len: usize, priority: u8) {
        self.nodes[from].spool.insert(key, (len, priority));
        let id = BlockId(h16(&[&self.bytes(from, key)]));
        self.ids.insert(id, (from, key));
        let block = Block { key, priority, len: len as u64, id, resumed: false };
        if let Some(link) = &mut self.nodes[from].link {
            link.submit(block).expect("a block that may be submitted");
        }
    }

    /// The machine of a node that is alive.
    pub fn link(&self, which: usize) -> &Link<MemoryStore> {
        self.nodes[which].link.as_ref().expect("alive")
    }

    /// The machine dies; disk, counters and store stay.
    pub fn kill(&mut self, which: usize) -> MemoryStore {
        self.nodes[which].link.take().expect("alive").into_store()
    }

    fn revive(&mut self, which: usize) {
        self.revive_with(which, MemoryStore::default());
    }

    /// A new life: what is not delivered is submitted again, what was stored is told.
    pub fn revive_with(&mut self, which: usize, store: MemoryStore) {
        let node = &mut self.nodes[which];
        let start = node.reserved;
        node.reserved += RESERVE;
        let mut link = Link::new(node.config.clone(), start..node.reserved, store, self.now);
        node.stored.keys().for_each(|id| link.accepted(*id, self.now));
        node.link = Some(link);
        let ids: Vec<(BlockId, u64)> =
            self.ids.iter().filter(|(_, (from, _))| *from == which).map(|(id, (_, key))| (*id, *key)).collect();
        let node = &mut self.nodes[which];
        for (id, key) in ids.into_iter().filter(|(_, key)| !node.delivered.contains(key)) {
            let (len, priority) = node.spool[&key];
            let block = Block { key, priority, len: len as u64, id, resumed: true };
            node.link.as_mut().expect("alive").submit(block).expect("a block that may be submitted");
        }
    }

    /// Runs until `done`, or nothing will ever happen, or `until`; whether it is done.
    pub fn run(&mut self, until: Instant, mut done: impl FnMut(&World) -> bool) -> bool {
        let mut spins = 0;
        loop {
            for which in 0..2 {
                self.pump(which);
            }
            if done(self) {
                return true;
            }
            let mut next = self.dark.peek().map(|Reverse((at, ..))| *at);
            for node in &mut self.nodes {
                let timeout = node.link.as_mut().and_then(|link| link.poll_timeout(self.now));
                next = [next, timeout].into_iter().flatten().min();
            }
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return false;
            };
            spins = if next > self.now { 0 } else { spins + 1 };
            assert!(spins < SPINS_MAX, "a loop that never waits at {:?}", self.now);
            self.now = self.now.max(next);
            self.deliver();
            for node in &mut self.nodes {
                if let Some(link) = &mut node.link
                    && link.poll_timeout(self.now).is_some_and(|at| at <= self.now)
                {
                    link.handle_timeout(self.now);
                }
            }
        }
    }

    fn deliver(&mut self) {
        while self.dark.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, to, datagram))) = self.dark.pop() else { return };
            if let Some(link) = &mut self.nodes[to].link {
                link.handle_datagram(&datagram, self.now);
            }
        }
    }

    fn pump(&mut self, which: usize) {
        let Some(mut link) = self.nodes[which].link.take() else { return };
        loop {
            let mut quiet = true;
            while let Some(job) = link.poll_job(self.now) {
                quiet = false;
                link.finished(job.run(), self.now);
            }
            while let Some(event) = link.poll_event() {
                quiet = false;
                self.handle(which, &mut link, event);
            }
            let mut datagram = Vec::new();
            while link.poll_transmit(self.now, &mut datagram) {
                quiet = false;
                self.send(which, std::mem::take(&mut datagram));
            }
            if quiet {
                break;
            }
        }
        self.nodes[which].link = Some(link);
    }

    fn send(&mut self, from: usize, datagram: Vec<u8>) {
        let node = &mut self.nodes[from];
        let counter = u64::from_be_bytes(datagram[..8].try_into().expect("eight")) & ((1 << 48) - 1);
        assert!(
            counter >= node.next_counter && counter < node.reserved,
            "no counter twice, none beyond what is on disk"
        );
        node.next_counter = counter + 1;
        node.len_sent += datagram.len() as u64 + 28;
        let (channel, chance) = (&mut self.channels[from], &mut self.chance);
        let out = channel.outages.iter().any(|(from, to)| (*from..*to).contains(&self.now));
        if channel.loses(self.now, chance) || out {
            return;
        }
        for _ in 0..1 + u32::from(chance.hits(channel.duplicated)) {
            let mut datagram = datagram.clone();
            if chance.hits(channel.corrupted) {
                let at = chance.below(datagram.len() as u64) as usize;
                datagram[at] ^= 1 << chance.below(8);
                if chance.hits(0.3) {
                    datagram.truncate(at);
                }
            }
            let late = Duration::from_nanos(chance.below(channel.jitter.as_nanos() as u64 + 1));
            self.serial += 1;
            self.dark.push(Reverse((self.now + channel.delay + late, self.serial, 1 - from, datagram)));
        }
    }

    fn handle(&mut self, which: usize, link: &mut Link<MemoryStore>, event: Event) {
        match event {
            Event::Wanted { key } => {
                let bytes = self.bytes(which, key);
                link.supply(key, bytes);
            }
            Event::Delivered { key } => {
                let (id, _) = self.ids.iter().find(|(_, of)| **of == (which, key)).expect("submitted");
                assert!(self.nodes[1 - which].stored.contains_key(id), "delivered means stored there");
                assert!(self.nodes[which].delivered.insert(key), "delivered once");
            }
            Event::Received { id, bytes, .. } => {
                let (from, key) = *self.ids.get(&id).expect("a block that was submitted");
                assert_eq!(from, 1 - which);
                assert!(bytes == self.bytes(from, key), "exact bytes");
                let node = &mut self.nodes[which];
                if node.busy > 0 {
                    node.busy -= 1;
                    link.busy(id, self.now);
                    return;
                }
                node.received_twice += u64::from(node.stored.insert(id, bytes.len()).is_some());
                link.accepted(id, self.now);
            }
            Event::ReserveCounters { end } => {
                let node = &mut self.nodes[which];
                assert_eq!(end, node.reserved);
                node.reserved += RESERVE;
                link.reserved(node.reserved);
            }
            Event::Spent { key } => {
                self.nodes[which].spent.insert(key);
            }
            Event::Refused { .. } => panic!("nobody refuses here"),
            Event::Echoed { .. } => {}
        }
    }

    /// Whether all that node 0 and node 1 submitted is delivered.
    pub fn is_delivered(&self) -> bool {
        self.nodes.iter().all(|node| node.delivered.len() == node.spool.len())
    }
}

impl Node {
    fn new(config: Config) -> Self {
        Self {
            link: None,
            config,
            reserved: 0,
            spool: BTreeMap::new(),
            delivered: BTreeSet::new(),
            spent: BTreeSet::new(),
            stored: BTreeMap::new(),
            received_twice: 0,
            busy: 0,
            next_counter: 0,
            len_sent: 0,
        }
    }
}

pub fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const RESERVE: u64 = 1 << 18;
/// Turns of the loop without time passing.
const SPINS_MAX: u32 = 1000;
