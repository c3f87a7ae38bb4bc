//! Two LTP engines and the dark between them, in virtual time and from one seed: for the tests, and for the example `ltp_virtual`.
//!
//! The dark is the channel of rehearsals. Invariants are asserted at every step: nothing is received that was not sent, nothing twice,
//! nothing is called delivered that was not received, and no datagram is longer than a packet holds.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::Instant;
use lavatube_base::limits::DATAGRAM_LEN_MAX;
use lavatube_format::ltp::Reason;
use lavatube_link::ltp::{Block, Config, Engine, Event, PeerConfig};

use crate::world::{Chance, Channel, Way};

/// Engine ids of the two.
pub const IDS: [u64; 2] = [10, 977];

pub struct Dark {
    pub now: Instant,
    pub engines: [Engine; 2],
    pub channels: [Channel; 2],
    /// Blocks submitted by each, by key.
    pub sent: [BTreeMap<u64, Vec<u8>>; 2],
    pub delivered: [BTreeSet<u64>; 2],
    pub failed: [BTreeMap<u64, Reason>; 2],
    /// Keys of blocks that each received, and when.
    pub received: [BTreeMap<u64, Instant>; 2],
    pub abandoned: [Vec<Reason>; 2],
    /// Bytes of packets sent by each, and datagrams.
    pub len_sent: [u64; 2],
    pub datagrams: [u64; 2],
}

impl Dark {
    /// `rates`: from the first, from the second; contacts are open.
    pub fn new(seed: u64, ways: [Way; 2], rates: [u64; 2], change: impl Fn(&mut PeerConfig)) -> Self {
        let now = Instant(1_000_000_000);
        let lights = [ways[0].light, ways[1].light];
        let [there, back] = ways;
        let mut dark = Self {
            now,
            engines: [0, 1].map(|which| Engine::new(Config::new(IDS[which], seed ^ IDS[which] << 32))),
            channels: [Channel::new(there, seed), Channel::new(back, !seed)],
            sent: Default::default(),
            delivered: Default::default(),
            failed: Default::default(),
            received: Default::default(),
            abandoned: Default::default(),
            len_sent: [0; 2],
            datagrams: [0; 2],
        };
        for which in 0..2 {
            let mut peer = PeerConfig::new(IDS[1 - which], lights[which]);
            change(&mut peer);
            dark.engines[which].add_peer(peer, now).expect("a new peer");
            dark.engines[which].contact_opened(IDS[1 - which], rates[which], now);
        }
        dark
    }

    /// A block whose first bytes are its key.
    pub fn bytes(&self, key: u64, len: usize) -> Vec<u8> {
        let mut chance = Chance::new(key.wrapping_mul(0x1234_5678_9abc_def1), 0);
        let mut bytes = vec![0; len];
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&chance.word().to_le_bytes()[..chunk.len()]));
        let head = key.to_le_bytes();
        let n = len.min(8);
        bytes[..n].copy_from_slice(&head[..n]);
        bytes
    }

    pub fn send(&mut self, from: usize, key: u64, len: usize, red: bool) {
        let bytes = self.bytes(key, len);
        self.sent[from].insert(key, bytes.clone());
        let block = Block { red, ..Block::bundles(key, bytes) };
        self.engines[from].send(IDS[1 - from], block).expect("a block that may be sent");
    }

    pub fn close(&mut self, which: usize) {
        self.engines[which].contact_closed(IDS[1 - which], self.now);
    }

    pub fn open(&mut self, which: usize, rate_bit_s: u64) {
        self.engines[which].contact_opened(IDS[1 - which], rate_bit_s, self.now);
    }

    /// Runs until `done`, or nothing will ever happen, or `until`; whether it is done.
    pub fn run(&mut self, until: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut spins = 0;
        loop {
            (0..2).for_each(|which| self.pump(which));
            if done(self) {
                return true;
            }
            let mut next = self.channels.iter().filter_map(Channel::poll_timeout).min();
            for engine in &mut self.engines {
                next = [next, engine.poll_timeout(self.now)].into_iter().flatten().min();
            }
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = self.now.max(until);
                return false;
            };
            spins = if next > self.now { 0 } else { spins + 1 };
            assert!(spins < SPINS_MAX, "a loop that never waits at {:?}", self.now);
            self.now = self.now.max(next);
            for from in 0..2 {
                while let Some(datagram) = self.channels[from].poll(self.now) {
                    self.engines[1 - from].handle_datagram(&datagram, self.now);
                }
            }
            self.engines.iter_mut().for_each(|engine| engine.handle_timeout(self.now));
        }
    }

    fn pump(&mut self, which: usize) {
        let mut datagram = Vec::new();
        loop {
            let mut quiet = true;
            while let Some(event) = self.engines[which].poll_event() {
                quiet = false;
                self.handle(which, event);
            }
            while let Some(to) = self.engines[which].poll_transmit(self.now, &mut datagram) {
                quiet = false;
                assert_eq!(to, IDS[1 - which]);
                self.launch(which, std::mem::take(&mut datagram));
            }
            if quiet {
                return;
            }
        }
    }

    fn launch(&mut self, from: usize, datagram: Vec<u8>) {
        assert!((1..=DATAGRAM_LEN_MAX).contains(&datagram.len()), "{}", datagram.len());
        self.len_sent[from] += datagram.len() as u64 + 28;
        self.datagrams[from] += 1;
        self.channels[from].offer(&datagram, self.now);
    }

    fn handle(&mut self, which: usize, event: Event) {
        match event {
            Event::Delivered { peer, key } => {
                assert_eq!(peer, IDS[1 - which]);
                assert!(self.received[1 - which].contains_key(&key), "delivered means received there");
                assert!(self.delivered[which].insert(key), "delivered once");
            }
            Event::Sent { key, .. } => assert!(self.delivered[which].insert(key), "sent once"),
            Event::Failed { key, reason, .. } => {
                assert!(self.failed[which].insert(key, reason).is_none(), "failed once");
            }
            Event::Received { peer, session, bytes, whole, .. } => {
                assert_eq!((peer, session.engine), (IDS[1 - which], IDS[1 - which]));
                assert!(whole, "no block here has two colors");
                let sent = self.sent[1 - which].iter().find(|(_, sent)| **sent == bytes);
                let (key, _) = sent.expect("a block that was sent, byte for byte");
                assert!(self.received[which].insert(*key, self.now).is_none(), "received once");
            }
            Event::Abandoned { reason, .. } => self.abandoned[which].push(reason),
        }
    }

    /// Whether all that was sent is known to be there.
    pub fn is_delivered(&self) -> bool {
        (0..2).all(|which| self.delivered[which].len() == self.sent[which].len())
    }

    /// Whether neither has anything to do any more.
    pub fn is_at_rest(&self) -> bool {
        self.engines
            .iter()
            .all(|engine| engine.status().peers.iter().all(|peer| peer.outgoing.is_empty() && peer.incoming.is_empty()))
    }
}

/// Turns of the loop without time passing.
const SPINS_MAX: u32 = 1000;
