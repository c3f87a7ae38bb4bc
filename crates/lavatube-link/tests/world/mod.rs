//! Two nodes and the dark between them, in virtual time and from one seed: for the tests, and for the example `virtual`.
//!
//! It plays the two callers as well: it supplies what is wanted, stores what is received, reserves counters ahead and keeps
//! them over a death. Invariants are asserted at every step: no counter twice, nothing stored that was not sent, nothing
//! delivered that is not stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::{BlockId, Instant};
pub use lavatube_channel::{Chance, Channel, Way};
use lavatube_link::{Block, Config, ContactPlan, Event, Job, Link, MemoryStore, OneWay};

/// One node: its link, what is on its disk, and what its caller knows.
pub struct Node {
    pub link: Option<Link<MemoryStore>>,
    pub config: Config,
    /// On disk: the end of reserved counters.
    reserved: u64,
    /// Where this life's begin: its name.
    reserved_at_birth: u64,
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

pub struct World {
    pub now: Instant,
    pub nodes: [Node; 2],
    /// From node 0, from node 1.
    pub channels: [Channel; 2],
    /// Jobs take up to this.
    pub work: Duration,
    /// When they are done, where, and in which of its lives.
    jobs: Vec<(Instant, usize, u64, Job)>,
    chance: Chance,
    /// Block bytes are made from this and their key.
    seed: u64,
    ids: BTreeMap<BlockId, (usize, u64)>,
}

impl World {
    /// `ways` and `plans`: from node 0, from node 1.
    pub fn new(seed: u64, ways: [Way; 2], plans: [ContactPlan; 2], one_way: Option<OneWay>) -> Self {
        let [plan, plan_back] = plans;
        let now = Instant(1_000_000_000);
        let keys = ([1; 32], [2; 32]);
        let mut config = Config::new(keys.0, keys.1, plan);
        config.one_way = one_way;
        let back = Config::new(keys.1, keys.0, plan_back);
        let nodes = [Node::new(config), Node::new(back)];
        let [there, back] = ways;
        let mut world = Self {
            now,
            nodes,
            channels: [Channel::new(there, seed), Channel::new(back, !seed)],
            work: Duration::ZERO,
            jobs: Vec::new(),
            chance: Chance::new(seed, 6),
            seed,
            ids: BTreeMap::new(),
        };
        world.revive(0);
        world.revive(1);
        world
    }

    pub fn bytes(&self, from: usize, key: u64) -> Vec<u8> {
        let len = self.nodes[from].spool[&key].0;
        let mut chance = Chance::new(self.seed ^ key.wrapping_mul(0x1234_5678_9abc_def1), from as u64);
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
        node.reserved_at_birth = start;
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
            let mut next = self.channels.iter().filter_map(Channel::poll_timeout).min();
            next = self.jobs.iter().map(|(at, ..)| *at).chain(next).min();
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
            self.finish();
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

    /// Jobs that are done by now; those of an earlier life are nobody's.
    fn finish(&mut self) {
        let due = |job: &mut (Instant, usize, u64, Job)| job.0 <= self.now;
        for (_, which, life, job) in self.jobs.extract_if(.., due).collect::<Vec<_>>() {
            let node = &mut self.nodes[which];
            if let Some(link) = node.link.as_mut().filter(|_| node.reserved_at_birth == life) {
                link.finished(job.run(), self.now);
            }
        }
    }

    fn deliver(&mut self) {
        for (from, channel) in self.channels.iter_mut().enumerate() {
            while let Some(datagram) = channel.poll(self.now) {
                if let Some(link) = &mut self.nodes[1 - from].link {
                    link.handle_datagram(&datagram, self.now);
                }
            }
        }
    }

    fn pump(&mut self, which: usize) {
        let Some(mut link) = self.nodes[which].link.take() else { return };
        loop {
            let mut quiet = true;
            while let Some(job) = link.poll_job(self.now) {
                quiet = false;
                if self.work.is_zero() {
                    link.finished(job.run(), self.now);
                } else {
                    let took = Duration::from_nanos(self.chance.below(self.work.as_nanos() as u64));
                    self.jobs.push((self.now + took, which, self.nodes[which].reserved_at_birth, job));
                }
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
        self.channels[from].offer(&datagram, self.now);
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
            Event::Spent { key, .. } => {
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
            reserved_at_birth: 0,
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

/// How many of `blocks` blocks lose so many of their `sent` datagrams that fewer than `needed` arrive: counted, with no engine.
pub fn counted_lost(loss: f64, burst: f64, needed: u64, sent: u64, blocks: u64, chance: &mut Chance) -> u64 {
    let leave = (1.0 / burst).min(1.0 - loss);
    let enter = leave * loss / (1.0 - loss);
    let mut bad = false;
    let mut arrives = |_: &u64| {
        bad = chance.hits(if bad { 1.0 - leave } else { enter });
        !bad
    };
    (0..blocks).filter(|_| ((0..sent).filter(&mut arrives).count() as u64) < needed).count() as u64
}

pub fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const RESERVE: u64 = 1 << 18;
/// Turns of the loop without time passing.
const SPINS_MAX: u32 = 1000;
