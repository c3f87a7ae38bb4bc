//! The pacer: never more than the contact's rate, never more than a short burst of it at once.
//!
//! Why: what is sent faster than the link is lost at its entrance, and counts as weather. One number, the time at which all
//! that was sent would be through at the rate, says everything. It must not know what is sent. Step 9 of the walk.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::DATAGRAM_LEN_MAX;

/// Bytes of IPv4 and UDP around a datagram: the link's rate is that of packets.
pub const PACKET_OWN_LEN: usize = 28;

/// Paces datagrams at a rate.
#[derive(Debug)]
pub struct Pacer {
    rate_bit_s: u64,
    /// When all that was sent would be through.
    through: Instant,
    /// How far ahead of `through` one may be: a burst.
    ahead: Duration,
}

impl Pacer {
    /// At `rate_bit_s` bits of IP packets a second; nothing ever at 0.
    pub fn new(rate_bit_s: u64, now: Instant) -> Self {
        Self { rate_bit_s, through: now, ahead: cost(rate_bit_s, BURST * (DATAGRAM_LEN_MAX + PACKET_OWN_LEN)) }
    }

    /// From now on at another rate; what was sent counts as it did.
    pub fn set_rate(&mut self, rate_bit_s: u64) {
        self.rate_bit_s = rate_bit_s;
        // At a low rate a whole burst would be a queue of its own.
        let burst = cost(rate_bit_s, BURST * (DATAGRAM_LEN_MAX + PACKET_OWN_LEN));
        self.ahead = burst.min(AHEAD_MAX.max(cost(rate_bit_s, 2 * (DATAGRAM_LEN_MAX + PACKET_OWN_LEN))));
    }

    /// Whether a datagram may leave now.
    pub fn is_open(&self, now: Instant) -> bool {
        self.rate_bit_s > 0 && self.through.since(now) < self.ahead
    }

    /// A datagram left.
    pub fn sent(&mut self, datagram_len: usize, now: Instant) {
        self.through = self.through.max(now) + cost(self.rate_bit_s, datagram_len + PACKET_OWN_LEN);
    }

    /// When to ask again after [`Pacer::is_open`] said no: not for each datagram, but for a batch of a millisecond.
    pub fn opens_at(&self) -> Option<Instant> {
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        let first = Instant(self.through.0.saturating_sub(ns(self.ahead)));
        (self.rate_bit_s > 0).then(|| first + BATCH.min(self.ahead / 2))
    }
}

/// How long `len` bytes take.
pub fn cost(rate_bit_s: u64, len: usize) -> Duration {
    let ns = (len as u128 * 8_000_000_000).div_ceil(u128::from(rate_bit_s.max(1)));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Datagrams of full length in a burst.
const BURST: usize = 64;
/// How far ahead one may be where the rate is measured.
const AHEAD_MAX: Duration = Duration::from_millis(4);
const BATCH: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_carries_the_rate_and_one_burst() {
        let mut pacer = Pacer::new(12_000_000, Instant(0));
        let (mut now, mut sent) = (Instant(0), 0);
        while now < Instant(1_000_000_000) {
            while pacer.is_open(now) {
                pacer.sent(1472, now);
                sent += 1;
            }
            now = pacer.opens_at().unwrap();
        }
        assert!((1000 + BURST - 2..=1000 + BURST).contains(&sent), "{sent}");
    }

    #[test]
    fn idle_time_is_not_saved_beyond_a_burst() {
        let mut pacer = Pacer::new(12_000_000, Instant(0));
        let later = Instant(3_600_000_000_000);
        let sent = (0..1000).take_while(|_| {
            let open = pacer.is_open(later);
            pacer.sent(1472, later);
            open
        });
        assert_eq!(sent.count(), BURST);
    }

    #[test]
    fn nothing_leaves_at_no_rate() {
        let pacer = Pacer::new(0, Instant(0));
        assert!(!pacer.is_open(Instant(u64::MAX)));
        assert_eq!(pacer.opens_at(), None);
    }
}
