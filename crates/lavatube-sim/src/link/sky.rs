//! The sky between the two ends: time, clocks, channels, addresses, and somebody who throws datagrams.
//!
//! There is one true time, and each end has a clock of its own, which may be ten years off and runs a little too fast or
//! too slow. The near end may change its address; the far one sends to wherever it last heard something genuine from. It
//! must not know engines.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::{Channel, Way};

use super::weather::Weather;
use crate::chance::Chance;

/// The clock of one life of an end.
#[derive(Debug, Clone, Copy)]
struct Clock {
    born: Instant,
    said: Instant,
    ppm: i64,
}

impl Clock {
    fn at(&self, now: Instant) -> Instant {
        let lived = i128::try_from(now.since(self.born).as_nanos()).unwrap_or(0);
        let says = i128::from(self.said.0) + lived + lived * i128::from(self.ppm) / MILLION;
        Instant(u64::try_from(says).unwrap_or(u64::MAX))
    }

    /// The first true time at which the clock says this, or more.
    fn when(&self, says: Instant) -> Instant {
        let lived = i128::try_from(says.since(self.said).as_nanos()).unwrap_or(0);
        let lived = (lived * MILLION + MILLION + i128::from(self.ppm) - 1) / (MILLION + i128::from(self.ppm));
        let lived = u64::try_from(lived).unwrap_or(u64::MAX);
        // By rounding it may be a little less.
        let guess = Instant(self.born.0.saturating_add(lived));
        if self.at(guess) < says && guess.0 < u64::MAX { Instant(guess.0 + 1) } else { guess }
    }
}

/// Everything between the two ends.
pub struct Sky {
    /// What time it really is.
    pub now: Instant,
    channels: [Channel; 2],
    clocks: [Clock; 2],
    /// The address of the near end now. The far end's never changes.
    near_at: u8,
    /// Where the far end takes the near one to be.
    near_seems_at: u8,
}

impl Sky {
    /// With the channels of `weather`, at the beginning.
    pub fn new(seed: u64, weather: &Weather, start: Instant) -> Self {
        let [there, back] = weather.ways.clone();
        let channels = [Channel::new(there, seed), Channel::new(back, !seed)];
        let clock = Clock { born: start, said: start, ppm: 0 };
        Self { now: start, channels, clocks: [clock; 2], near_at: 1, near_seems_at: 0 }
    }

    /// An end begins to live: its clock is as wrong as the weather says.
    pub fn born(&mut self, end: usize, weather: &Weather, chance: &mut Chance) {
        let span = 2 * weather.clock_off_s * 1_000_000_000;
        let off = chance.below(span + 1);
        let said = Instant((self.now.0 + off).saturating_sub(span / 2));
        let ppm = i64::try_from(chance.below(2 * weather.drift_ppm + 1)).unwrap_or(0);
        let ppm = ppm - i64::try_from(weather.drift_ppm).unwrap_or(0);
        self.clocks[end] = Clock { born: self.now, said, ppm };
        if end == 1 {
            // It has not heard anything yet.
            self.near_seems_at = 0;
        }
    }

    /// What the clock of an end says.
    pub fn clock(&self, end: usize) -> Instant {
        self.clocks[end].at(self.now)
    }

    /// When the clock of an end will say this.
    pub fn when(&self, end: usize, says: Instant) -> Instant {
        self.clocks[end].when(says)
    }

    /// Whether an end knows where to send to.
    pub fn has_peer(&self, end: usize) -> bool {
        end == 0 || self.near_seems_at != 0
    }

    /// An end sends a datagram to where it takes the other one to be.
    pub fn send(&mut self, end: usize, datagram: &[u8]) {
        if end == 1 && self.near_seems_at != self.near_at {
            return;
        }
        let mut packet = Vec::with_capacity(1 + datagram.len());
        packet.push(self.near_at);
        packet.extend_from_slice(datagram);
        self.channels[end].offer(&packet, self.now);
    }

    /// The next datagram that has come to an end, and from where.
    pub fn receive(&mut self, end: usize) -> Option<(u8, Vec<u8>)> {
        let mut packet = self.channels[1 - end].poll(self.now)?;
        if packet.is_empty() {
            packet.push(0);
        }
        Some((packet[0], packet.split_off(1)))
    }

    /// What an end received from there was genuine.
    pub fn genuine(&mut self, end: usize, from: u8) {
        if end == 1 {
            self.near_seems_at = from;
        }
    }

    /// The near end has another address from now on.
    pub fn move_near(&mut self) {
        self.near_at = self.near_at % (ATTACKER - 1) + 1;
    }

    /// When the next datagram comes to an end.
    pub fn arrives(&self, end: usize) -> Option<Instant> {
        self.channels[1 - end].poll_timeout()
    }

    /// The channels are like this from now on; what is in flight has met its fate.
    pub fn become_like(&mut self, ways: [Way; 2]) {
        for (channel, way) in self.channels.iter_mut().zip(ways) {
            channel.way = way;
        }
    }

    /// Nothing passes from `end` for so long.
    pub fn darken(&mut self, end: usize, lasts: Duration) {
        self.channels[end].way.dark.push((self.now, self.now + lasts));
    }

    /// Packets that came out at the other side, for the trace.
    pub fn delivered(&self) -> [u64; 2] {
        self.channels.each_ref().map(|channel| channel.tally().delivered)
    }
}

/// Where whoever throws datagrams sits.
pub const ATTACKER: u8 = u8::MAX;
const MILLION: i128 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_says_what_it_was_asked_for_and_not_much_later() {
        for (ppm, said) in [(0, 5), (50, 900_000_000_000), (-50, 1), (50, 1 << 62)] {
            let clock = Clock { born: Instant(1 << 60), said: Instant(said), ppm };
            for later in [0, 1, 999, 1_000_000_007, 86_400_000_000_000] {
                let says = Instant(said + later);
                let when = clock.when(says);
                assert!(clock.at(when) >= says, "{ppm} {later}");
                assert!(when == clock.born || clock.at(Instant(when.0 - 2)) < says, "{ppm} {later}");
            }
        }
    }
}
