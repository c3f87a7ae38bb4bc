//! What is measured of the way to one engine: there and back, and the share of pieces that are lost.
//!
//! It exists so that nobody has to fill in a table of timers: the light time handed in is where it begins, and each report corrects
//! it. From both follow when an answer is overdue, how often small things are said, and how often pieces are sent again
//! at once when the link has nothing else to do. It must not know sessions.

use std::time::Duration;

use super::DEFER;

/// Measurements of one way.
#[derive(Debug)]
pub(crate) struct Measure {
    round_trip: Duration,
    deviation: Duration,
    /// Something was measured.
    measured: bool,
    /// Measurements in a row that were not taken because something had been sent twice.
    doubtful: u32,
    lost: f64,
    sent: f64,
}

impl Measure {
    /// Before anything was measured: `light` one way, a share of `loss`.
    pub fn new(light: Duration, loss: f64) -> Self {
        let round_trip = 2 * light;
        let deviation = (round_trip / 8).min(DEVIATION_FIRST_MAX) + DEFER;
        let (lost, sent) = (loss.clamp(0.0, 0.9) * PRIOR, PRIOR);
        Self { round_trip, deviation, measured: false, doubtful: 0, lost, sent }
    }

    /// An answer came after `took`; `again` when the question was repeated, so that it may have been a later one that was answered.
    pub fn answered(&mut self, took: Duration, again: bool) {
        if again {
            self.doubtful += 1;
            // The true time is that or less. Where nothing else is ever measured, it is longer than what we believe.
            if self.doubtful < DOUBTFUL_MAX || took < self.round_trip {
                return;
            }
        }
        self.doubtful = 0;
        if self.measured {
            let off = took.abs_diff(self.round_trip);
            self.deviation = (3 * self.deviation + off) / 4;
            self.round_trip = (7 * self.round_trip + took) / 8;
        } else {
            (self.measured, self.round_trip, self.deviation) = (true, took, took / 16 + DEFER);
        }
    }

    /// Of `sent` pieces, `lost` did not arrive.
    pub fn pieces(&mut self, lost: f64, sent: f64) {
        self.lost += lost.min(sent);
        self.sent += sent;
        if self.sent > MEMORY {
            (self.lost, self.sent) = (self.lost / 2.0, self.sent / 2.0);
        }
    }

    /// There and back.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Half of there and back, if it was measured.
    pub fn light(&self) -> Option<Duration> {
        self.measured.then_some(self.round_trip / 2)
    }

    /// The share of pieces that are lost.
    pub fn loss(&self) -> f64 {
        self.lost / self.sent
    }

    /// How long to wait for an answer.
    pub fn patience(&self) -> Duration {
        self.round_trip + (4 * self.deviation).max(MARGIN_MIN) + 2 * DEFER
    }

    /// How often something small is said at once, so that it need hardly ever be said a whole round trip later.
    pub fn copies(&self) -> u32 {
        let loss = self.loss().clamp(LOSS_MIN, 0.5);
        (1..COPIES_MAX).find(|n| loss.powi(n.cast_signed()) <= COPIES_FAIL).unwrap_or(COPIES_MAX)
    }

    /// How often `pieces` are sent again at once on a link that has nothing else to send, each of which takes `slot`: so that all are
    /// there soonest. Two laps may cost less than one and another round trip.
    pub fn laps(&self, pieces: usize, slot: Duration) -> u32 {
        let (loss, slot, round_trip) = (self.loss().clamp(0.0, 0.5), slot.as_secs_f64(), self.round_trip.as_secs_f64());
        let cost = |laps: u32| {
            let left = pieces as f64 * loss.powi(laps.cast_signed());
            // One round more if anything is left, and further ones while more than a piece is.
            let rounds = (1.0 - (-left).exp()) + left.max(1.0).ln() / loss.recip().ln().max(0.1);
            f64::from(laps) * pieces as f64 * slot + rounds * round_trip
        };
        (1..=LAPS_MAX).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1)
    }
}

const DEVIATION_FIRST_MAX: Duration = Duration::from_secs(2);
const MARGIN_MIN: Duration = Duration::from_millis(50);
const DOUBTFUL_MAX: u32 = 3;
/// Pieces that the first guess of the loss counts for.
const PRIOR: f64 = 200.0;
/// Pieces beyond which older ones count half.
const MEMORY: f64 = 20_000.0;
/// A loss below this is not believed in when something must not be lost.
const LOSS_MIN: f64 = 0.002;
/// How probable it may be that all copies are lost.
const COPIES_FAIL: f64 = 2e-4;
const COPIES_MAX: u32 = 5;
const LAPS_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_light_time_is_that_of_the_answers() {
        let mut measure = Measure::new(1300 * MS, 0.01);
        assert_eq!(measure.light(), None);
        assert!(measure.patience() > 2600 * MS);
        for _ in 0..40 {
            measure.answered(510 * MS, false);
        }
        assert_eq!(measure.light(), Some(255 * MS));
        assert!(measure.patience() < 650 * MS, "{:?}", measure.patience());
    }

    #[test]
    fn a_light_time_that_was_far_too_short_is_found_although_all_is_asked_twice() {
        let mut measure = Measure::new(MS, 0.01);
        let asked = |measure: &Measure| measure.patience() < 2600 * MS;
        for _ in 0..10 {
            let again = asked(&measure);
            measure.answered(2600 * MS, again);
        }
        assert!(measure.patience() > 2600 * MS);
    }

    #[test]
    fn what_is_answered_after_a_repeat_makes_nothing_shorter() {
        let mut measure = Measure::new(1300 * MS, 0.01);
        for _ in 0..20 {
            measure.answered(10 * MS, true);
        }
        assert_eq!((measure.light(), measure.round_trip()), (None, 2600 * MS));
    }

    #[test]
    fn loss_is_measured_and_says_how_often() {
        let of = |loss: f64| {
            let mut measure = Measure::new(1300 * MS, 0.01);
            (0..100).for_each(|_| measure.pieces(loss * 1000.0, 1000.0));
            assert!((measure.loss() - loss).abs() < 0.001, "{}", measure.loss());
            measure
        };
        assert_eq!([0.0, 0.01, 0.05, 0.1, 0.4].map(|loss| of(loss).copies()), [2, 2, 3, 4, 5]);
        // A few pieces are sent often, many once where the link would be busy with them for longer than a round trip.
        assert_eq!(of(0.1).laps(60, 600 * Duration::from_micros(1)), 4);
        assert_eq!(of(0.01).laps(60, 600 * Duration::from_micros(1)), 2);
        assert_eq!(of(0.0).laps(60, 600 * Duration::from_micros(1)), 1);
        assert_eq!(of(0.1).laps(100_000, 600 * Duration::from_micros(1)), 1);
    }
}
