//! What one direction of a link is like: numbers only.
//!
//! It exists apart from the channel so that presets are tables. It must not know packets.

use std::time::Duration;

use lavatube_base::Instant;

use crate::passes::Passes;

/// One direction of a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// Bits of packets a second; `u64::MAX` when that is no matter.
    pub rate_bit_s: u64,
    /// How long light takes, or whatever carries the packets.
    pub light: Duration,
    /// How that changes.
    pub swing: Option<Swing>,
    /// How long a packet may wait for those before it; what would wait longer is dropped.
    pub queue: Duration,
    /// The mean share of packets that are lost.
    pub loss: f64,
    /// How long a spell lasts on average in which all is lost; zero when losses are independent.
    pub spell: Duration,
    /// The share of packets that arrive with a bit turned, and sometimes cut.
    pub corrupted: f64,
    /// The share of packets that arrive twice.
    pub duplicated: f64,
    /// Packets are late by up to this, each by itself, and so overtake each other.
    pub jitter: Duration,
    /// Bytes that lower layers add to each packet.
    pub own_len: u64,
    /// When the link is up; always, when there are none.
    pub passes: Option<Passes>,
    /// Nothing passes between these, whatever was promised.
    pub dark: Vec<(Instant, Instant)>,
}

/// A light time that swings, as with a body on an orbit that is not round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swing {
    /// The most it differs from the mean.
    pub by: Duration,
    /// From one farthest point to the next.
    pub every: Duration,
}

impl Way {
    /// A direction of a link that is always up and loses nothing.
    pub fn new(rate_bit_s: u64, light: Duration) -> Self {
        Self {
            rate_bit_s,
            light,
            swing: None,
            queue: QUEUE,
            loss: 0.0,
            spell: Duration::ZERO,
            corrupted: 0.0,
            duplicated: 0.0,
            jitter: Duration::ZERO,
            own_len: 0,
            passes: None,
            dark: Vec::new(),
        }
    }

    /// It loses so much: all by itself, or in spells that last so long on average.
    #[must_use]
    pub fn losing(self, loss: f64, spell: Duration) -> Self {
        Self { loss, spell, ..self }
    }

    /// How long light takes at `now`: up and down in straight lines, which no receiver can tell from an orbit.
    pub fn light_at(&self, now: Instant) -> Duration {
        let Some(Swing { by, every }) = self.swing else { return self.light };
        let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(4);
        let (at, quarter) = (now.0 % every, every / 4);
        let share = |ns: u64| ns as f64 / quarter as f64;
        let off = match at / quarter {
            0 => share(at),
            1 | 2 => 2.0 - share(at),
            _ => share(at) - 4.0,
        };
        let by = by.min(self.light).mul_f64(off.abs().min(1.0));
        if off < 0.0 { self.light - by } else { self.light + by }
    }

    /// How long the link is busy with a packet of that many bytes.
    pub fn takes(&self, len: usize) -> Duration {
        let bits = (len as u128 + u128::from(self.own_len)) * 8;
        let ns = (bits * 1_000_000_000).div_ceil(u128::from(self.rate_bit_s.max(1)));
        // Without a rate, it is a nanosecond at most.
        if self.rate_bit_s == u64::MAX {
            Duration::ZERO
        } else {
            Duration::from_nanos(ns.try_into().unwrap_or(u64::MAX))
        }
    }
}

/// What routers hold at most before they drop.
const QUEUE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_swings_within_its_bounds_and_comes_back() {
        let swing = Swing { by: Duration::from_millis(85), every: Duration::from_secs(400) };
        let way = Way { swing: Some(swing), ..Way::new(1, Duration::from_millis(1285)) };
        let at = |s: u64| way.light_at(Instant(s * 1_000_000_000)).as_millis();
        assert_eq!([0, 50, 100, 200, 300, 400, 450].map(at), [1285, 1327, 1370, 1285, 1200, 1285, 1327]);
    }

    #[test]
    fn a_packet_takes_as_long_as_its_bits() {
        let way = Way { own_len: 28, ..Way::new(20_000_000, Duration::ZERO) };
        assert_eq!(way.takes(1472), Duration::from_micros(600));
        assert_eq!(Way::new(u64::MAX, Duration::ZERO).takes(1 << 20), Duration::ZERO);
    }
}
