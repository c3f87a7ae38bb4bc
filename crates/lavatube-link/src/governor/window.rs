//! What the governor has under way while it competes: a window that grows and shrinks as CUBIC's does (RFC 9438).
//!
//! It exists because nearly every TCP flow beside us is CUBIC's: the same rule beside the same queue gives about the same share. It
//! must not know what is a loss and what is weather. Step 9 of the walk.

use std::time::Duration;

use lavatube_base::Instant;

/// Bits that may be under way.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    bits: f64,
    /// What it had when last something was lost, and when that was.
    most: f64,
    since: Instant,
    /// When it has that again, in seconds from then.
    back: f64,
    /// What Reno would have by now.
    reno: f64,
}

impl Window {
    /// It begins with `bits`, and looks for more, slowly first.
    pub fn new(bits: f64, now: Instant) -> Self {
        let bits = bits.max(LEAST);
        Self { bits, most: bits, since: now, back: 0.0, reno: bits }
    }

    /// Bits that may be under way.
    pub fn bits(&self) -> f64 {
        self.bits
    }

    /// Nothing was lost in so many round trips, a part of one mostly.
    pub fn grow(&mut self, round_trip: Duration, rounds: f64, now: Instant) {
        //= rfc9438#4.2 the cubic function of the time since the last loss, a round trip from now, and half as much more at most.
        let cubic = C * PACKET_BITS;
        let ahead = (now.since(self.since) + round_trip).as_secs_f64();
        let aim = cubic * (ahead - self.back).powi(3) + self.most;
        self.bits += (aim.clamp(self.bits, 1.5 * self.bits) - self.bits) * rounds;
        //= rfc9438#4.3 never less than Reno would have.
        self.reno += RENO * PACKET_BITS * rounds;
        self.bits = self.bits.max(self.reno);
    }

    /// Something was lost: less by a part.
    pub fn cut(&mut self, now: Instant) {
        //= rfc9438#4.7 who did not come back to what it had has somebody beside it that is to find room.
        self.most = if self.bits < self.most { self.bits * (1.0 + KEEPS) / 2.0 } else { self.bits };
        self.bits = (self.bits * KEEPS).max(LEAST);
        self.back = ((self.most - self.bits).max(0.0) / (C * PACKET_BITS)).cbrt();
        (self.since, self.reno) = (now, self.bits);
    }
}

const PACKET_BITS: f64 = 12_000.0;
/// Two packets.
const LEAST: f64 = 2.0 * PACKET_BITS;
/// Packets a second, to the third.
const C: f64 = 0.4;
/// What is kept at a loss.
const KEEPS: f64 = 0.7;
/// What Reno would add each round trip if it kept as much.
const RENO: f64 = 3.0 * (1.0 - KEEPS) / (1.0 + KEEPS);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// Packets after so many steps of 25 ms, a quarter of a round trip each.
    fn grown(window: &mut Window, from_ms: u64, to_ms: u64) -> f64 {
        for ms in (from_ms..to_ms).step_by(25) {
            window.grow(Duration::from_millis(100), 0.25, at(ms));
        }
        window.bits() / PACKET_BITS
    }

    #[test]
    fn after_a_loss_it_is_back_when_the_cubic_function_says_and_hardly_grows_then() {
        let mut window = Window::new(1000.0 * PACKET_BITS, at(0));
        window.cut(at(0));
        assert!((window.bits() / PACKET_BITS - 700.0).abs() < 0.001);
        // The cube root of 300 / 0.4 is 9.09 s.
        let (half, back, beyond) =
            (grown(&mut window, 0, 4_500), grown(&mut window, 4_500, 9_100), grown(&mut window, 9_100, 10_600));
        assert!((955.0..975.0).contains(&half), "{half}");
        assert!((997.0..1001.0).contains(&back), "{back}");
        assert!((1000.0..1004.0).contains(&beyond), "{beyond}");
        assert!(grown(&mut window, 10_600, 16_000) > 1100.0);
    }

    #[test]
    fn who_is_cut_before_it_was_back_makes_room() {
        let mut window = Window::new(1000.0 * PACKET_BITS, at(0));
        window.cut(at(0));
        window.cut(at(100));
        // 490 now, and not more than 595 for a while.
        let later = grown(&mut window, 100, 6_600);
        assert!((585.0..600.0).contains(&later), "{later}");
    }

    #[test]
    fn a_small_one_grows_as_renos_and_there_is_always_one() {
        let mut window = Window::new(0.0, at(0));
        (0..10).for_each(|_| window.cut(at(0)));
        assert!((window.bits() - LEAST).abs() < 0.001);
        window = Window::new(20.0 * PACKET_BITS, at(0));
        window.cut(at(0));
        let second = grown(&mut window, 0, 1_000);
        assert!(second >= 14.0 + 9.0 * RENO, "{second}");
    }
}
