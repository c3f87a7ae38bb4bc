//! The channel: packets go in at one end of one direction of a link, and come out at the other, or do not.
//!
//! A packet waits for those before it, is sent at the link's rate, crosses in the time that light takes, and meets on its way
//! what the seed has for it. One file because the order of these is the physics. It must not know what is in a packet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use lavatube_base::Instant;

use crate::way::Way;
use lavatube_base::Chance;

/// One direction of a link. After [`Channel::offer`], ask [`Channel::poll_timeout`], and [`Channel::poll`] then.
#[derive(Debug, Clone)]
pub struct Channel {
    /// What it is like. It may be changed on the way; what is in flight has met its fate.
    pub way: Way,
    /// When all that was offered has left.
    free_at: Instant,
    /// In a spell of loss, as of then.
    spell: (bool, Instant),
    losses: Chance,
    errors: Chance,
    copies: Chance,
    delays: Chance,
    /// When a packet arrives, and a number to keep the order of those that arrive at once.
    in_flight: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    serial: u64,
    tally: Tally,
}

/// What became of all packets that were offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Packets.
    pub offered: u64,
    /// Their bytes, with those of lower layers.
    pub len_offered: u64,
    /// Dropped because too many waited.
    pub overflowed: u64,
    /// Dropped because no contact was open, or because of a blackout.
    pub shut: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Arrived with errors.
    pub corrupted: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Packets that came out.
    pub delivered: u64,
    /// Their bytes, with those of lower layers.
    pub len_delivered: u64,
}

impl Channel {
    /// A channel, empty.
    pub fn new(way: Way, seed: u64) -> Self {
        Self {
            way,
            free_at: Instant(0),
            spell: (false, Instant(0)),
            losses: Chance::new(seed, 1),
            errors: Chance::new(seed, 2),
            copies: Chance::new(seed, 3),
            delays: Chance::new(seed, 4),
            in_flight: BinaryHeap::new(),
            serial: 0,
            tally: Tally::default(),
        }
    }

    /// A packet comes to the entrance of the link.
    pub fn offer(&mut self, packet: &[u8], now: Instant) {
        self.tally.offered += 1;
        self.tally.len_offered += self.len(packet);
        let begin = self.free_at.max(now);
        if begin.since(now) > self.way.queue {
            self.tally.overflowed += 1;
            return;
        }
        self.free_at = begin + self.way.takes(packet.len());
        let leaves = self.free_at;
        // The weather is drawn for all, so that a contact that fails does not change it.
        let lost = self.loses(leaves);
        if !self.is_open(leaves) {
            self.tally.shut += 1;
        } else if lost {
            self.tally.lost += 1;
        } else {
            self.carry(packet.to_vec(), leaves);
        }
    }

    /// A packet has left, and will arrive.
    fn carry(&mut self, mut packet: Vec<u8>, leaves: Instant) {
        if self.errors.hits(self.way.corrupted) && !packet.is_empty() {
            self.tally.corrupted += 1;
            let at = usize::try_from(self.errors.below(packet.len() as u64)).unwrap_or(0);
            packet[at] ^= 1 << self.errors.below(8);
            if self.errors.hits(CUT) {
                packet.truncate(at);
            }
        }
        let copies = if self.copies.hits(self.way.duplicated) { 2 } else { 1 };
        self.tally.duplicated += copies - 1;
        for _ in 0..copies {
            let jitter = u64::try_from(self.way.jitter.as_nanos()).unwrap_or(u64::MAX);
            let late = Duration::from_nanos(self.delays.below(jitter.saturating_add(1)));
            self.serial += 1;
            let arrives = leaves + self.way.light_at(leaves) + late;
            self.in_flight.push(Reverse((arrives, self.serial, packet.clone())));
        }
    }

    /// The next packet that has arrived.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        let Reverse((.., packet)) = self.in_flight.pop()?;
        self.tally.delivered += 1;
        self.tally.len_delivered += self.len(&packet);
        Some(packet)
    }

    /// When the next packet arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.peek().map(|Reverse((at, ..))| *at)
    }

    /// Whether anything passes at `now`.
    pub fn is_open(&self, now: Instant) -> bool {
        let promised = self.way.passes.is_none_or(|passes| passes.is_open(now));
        promised && !self.way.dark.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    /// The next time after `now` at which that changes, if it ever does.
    pub fn turns_after(&self, now: Instant) -> Option<Instant> {
        let dark = self.way.dark.iter().flat_map(|(from, to)| [*from, *to]).filter(|at| *at > now);
        dark.chain(self.way.passes.map(|passes| passes.turns_after(now))).min()
    }

    /// How long a packet that is offered now waits for those before it.
    pub fn backlog(&self, now: Instant) -> Duration {
        self.free_at.since(now)
    }

    /// What became of all packets so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Gilbert and Elliott's chain of two states, in continuous time: in a spell all is lost.
    fn loses(&mut self, now: Instant) -> bool {
        let loss = self.way.loss;
        if self.way.spell.is_zero() || loss <= 0.0 || loss >= 1.0 {
            return self.losses.hits(loss);
        }
        let (bad, at) = self.spell;
        let leave = 1.0 / self.way.spell.as_secs_f64();
        let enter = leave * loss / (1.0 - loss);
        let fades = (-(leave + enter) * now.since(at).as_secs_f64()).exp();
        let was = if bad { 1.0 } else { 0.0 };
        self.spell = (self.losses.hits(loss + (was - loss) * fades), now);
        self.spell.0
    }

    fn len(&self, packet: &[u8]) -> u64 {
        packet.len() as u64 + self.way.own_len
    }
}

/// The share of packets with errors that are cut as well.
const CUT: f64 = 0.3;

#[cfg(test)]
mod tests;
