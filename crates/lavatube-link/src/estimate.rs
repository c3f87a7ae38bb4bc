//! What reports tell of the link: how much is lost, in what bursts, and how long the way is.
//!
//! It exists so that nobody configures a link by spreadsheet. Everything comes from counters and from times of this node's
//! own clock: the two clocks may differ by years. It must not know blocks. Steps 9 and 12 of the walk.

use std::time::Duration;

/// Loss, dispersion and round trip, as far as they are known.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// Datagrams passed and lost, older ones counting less; begins with what was configured.
    passed: f64,
    lost: f64,
    /// Variance of losses over that of independent ones: about twice the length of a burst.
    dispersion: f64,
    round_trip: Option<Duration>,
    /// Passed and lost since the last sample.
    sample: (u64, u64),
    /// Horizon and datagrams received of the last report.
    last: Option<(u64, u32)>,
}

impl Estimate {
    /// Before the first report: a loss and a dispersion that are believed, as if `worth` datagrams had shown them.
    pub fn new(loss: f64, dispersion: f64, worth: f64) -> Self {
        let loss = loss.clamp(0.0, LOSS_MAX);
        let dispersion = dispersion.clamp(1.0, DISPERSION_MAX);
        Self { passed: worth, lost: worth * loss, dispersion, round_trip: None, sample: (0, 0), last: None }
    }

    /// A report: `received` datagrams up to `horizon`. `first` is this node's first counter: what came before is of a life that is forgotten.
    /// Returns how many datagrams it is about that the report before was not, and how many of them came, where that is known.
    pub fn heard(&mut self, horizon: u64, received: u32, first: u64) -> Option<(u64, u64)> {
        let (from, before) = match self.last.replace((horizon, received)) {
            Some(last) => last,
            None if received == 0 || horizon < first => return None,
            // The peer may have been counting since long before us; then the first report is where we begin.
            None if u64::from(received) > horizon - first + 1 => return None,
            None => (first.wrapping_sub(1), 0),
        };
        let passed = horizon.wrapping_sub(from);
        let came = u64::from(received.wrapping_sub(before));
        if passed > u64::from(u32::MAX) || came > passed + LATE_MAX {
            // It counts from another beginning: the peer has restarted.
            self.sample = (0, 0);
            return None;
        }
        self.sample.0 += passed;
        self.sample.1 = (self.sample.1 + passed).saturating_sub(came);
        if self.sample.0 >= SAMPLE {
            self.learn();
        }
        Some((passed, came))
    }

    fn learn(&mut self) {
        let (passed, lost) = std::mem::take(&mut self.sample);
        let (passed, lost) = (passed as f64, lost as f64);
        // More than that is an outage: what was lost is sent again, but it does not say how much is lost when the link is up.
        if lost > passed * LOSS_MAX {
            return;
        }
        let expected = passed * self.loss();
        let variance = (expected * (1.0 - self.loss())).max(1.0);
        let weight = (passed / MEMORY).min(0.5);
        let measured = (lost - expected).powi(2) / variance;
        self.dispersion += weight * (measured.min(DISPERSION_MAX) - self.dispersion);
        let keep = if self.passed > MEMORY { 1.0 - weight } else { 1.0 };
        self.passed = keep * self.passed + passed;
        self.lost = keep * self.lost + lost;
    }

    /// A round trip took `took`.
    pub fn took(&mut self, took: Duration) {
        // The shortest is the way itself; longer ones had queues and reports that waited. It is forgotten slowly: orbits move.
        self.round_trip =
            Some(self.round_trip.map_or(took, |old| if took < old { took } else { old + (took - old) / 16 }));
    }

    /// Share of datagrams lost, 0 to [`LOSS_MAX`].
    pub fn loss(&self) -> f64 {
        (self.lost / self.passed).clamp(0.0, LOSS_MAX)
    }

    /// Variance of losses over that of independent ones, at least 1.
    pub fn dispersion(&self) -> f64 {
        self.dispersion.clamp(1.0, DISPERSION_MAX)
    }

    /// The way there and back, once it was measured.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// How many symbols must be under way, counting those that are, so that `missing` of them arrive unless chance is `sigmas` standard deviations unkind.
    ///
    /// The variance has two parts: what becomes of so many symbols at this loss, and how well the loss is known.
    pub fn symbols_for(&self, missing: u32, sigmas: f64) -> u64 {
        let (missing, loss) = (f64::from(missing), self.loss());
        let each = self.dispersion() * loss * (1.0 - loss);
        let mut n = missing;
        // A fixed point; the first steps bring it within a symbol.
        for _ in 0..5 {
            let deviation = (each * (n + n * n / self.passed)).sqrt();
            n = (missing + self.skewed(sigmas, n) * deviation) / (1.0 - loss);
        }
        // Rounded down: of few symbols, one more is much more. Neither negative nor beyond 2^53.
        n.max(missing).floor() as u64
    }

    /// The same for so few that no bell curve describes them, and so sure as three standard deviations are: a message is one symbol, and
    /// the time that its loss costs is dearer than a second one. They are not sent together, so bursts do not count.
    pub fn symbols_for_few(&self, missing: u32) -> u64 {
        let loss = self.loss();
        let loss = (loss + SURE * (loss * (1.0 - loss) / self.passed).sqrt()).min(LOSS_MAX);
        if loss == 0.0 || missing == 0 {
            return missing.into();
        }
        let mut n = missing;
        // The chance that fewer than `missing` of n arrive.
        let falls_short = |n: u32| {
            let mut term = loss.powf(f64::from(n));
            let mut sum = term;
            for arrived in 1..missing {
                term *= f64::from(n - arrived + 1) / f64::from(arrived) * (1.0 - loss) / loss;
                sum += term;
            }
            sum
        };
        while falls_short(n) > FALLS_SHORT && n < missing + FEW_MORE_MAX {
            n += 1;
        }
        n.into()
    }

    /// Standard deviations that are as rare for `n` symbols as `sigmas` are on a bell curve: where few bursts make up the losses, much more
    /// is not much rarer (Cornish and Fisher's first term, for bursts that come at random and are of geometric length).
    fn skewed(&self, sigmas: f64, n: f64) -> f64 {
        let (dispersion, lost) = (self.dispersion(), n * self.loss());
        if sigmas <= 1.0 || lost <= 0.0 {
            return sigmas;
        }
        let burst = f64::midpoint(dispersion, 1.0);
        let skewness = (6.0 * burst * (burst - 1.0) + 1.0) / (lost.sqrt() * dispersion.powf(1.5));
        (sigmas + (sigmas * sigmas - 1.0) / 6.0 * skewness).min(SIGMAS_MAX)
    }
}

/// Beyond that, bytes are dearer than the time of a second round.
const SIGMAS_MAX: f64 = 5.0;
/// Standard deviations, and how often more of them happen.
const SURE: f64 = 3.0;
const FALLS_SHORT: f64 = 1.35e-3;
const FEW_MORE_MAX: u32 = 32;

/// More than this lost is an outage.
pub const LOSS_MAX: f64 = 0.6;
/// Bursts longer than about half of this are outages.
pub const DISPERSION_MAX: f64 = 400.0;
/// Datagrams over which the past is forgotten.
const MEMORY: f64 = 20_000.0;
/// Datagrams in a sample: fewer say little about bursts.
const SAMPLE: u64 = 400;
/// Datagrams that may come later than the horizon that passed them.
const LATE_MAX: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports every 400 datagrams, of which `lost(i)` are lost.
    fn fed(lost: impl Fn(u32) -> u32) -> Estimate {
        let mut estimate = Estimate::new(0.01, 1.0, 200.0);
        let mut received = 0;
        for i in 0..500 {
            received += 400 - lost(i);
            estimate.heard(999 + u64::from(i + 1) * 400, received, 1000);
        }
        estimate
    }

    #[test]
    fn loss_and_bursts_are_measured() {
        let even = fed(|_| 20);
        assert!((even.loss() - 0.05).abs() < 0.001 && even.dispersion() < 1.5);
        let bursts = fed(|i| if i % 5 == 0 { 100 } else { 0 });
        assert!((bursts.loss() - 0.05).abs() < 0.01 && bursts.dispersion() > 30.0, "{bursts:?}");
        assert!(fed(|_| 0).loss() < 0.0001);
    }

    #[test]
    fn an_outage_is_not_weather() {
        let estimate = fed(|i| if (300..320).contains(&i) { 400 } else { 4 });
        assert!((estimate.loss() - 0.01).abs() < 0.001, "{estimate:?}");
    }

    #[test]
    fn a_peer_that_counts_anew_is_believed_from_there() {
        let mut estimate = fed(|_| 4);
        let before = estimate.loss();
        estimate.heard(300_000, 7, 1000);
        estimate.heard(300_400, 403, 1000);
        assert!((estimate.loss() - before).abs() < 0.001);
    }

    #[test]
    fn without_loss_as_many_are_sent_as_are_missing() {
        assert_eq!(Estimate::new(0.0, 1.0, 200.0).symbols_for(5842, 3.0), 5842);
        assert_eq!(Estimate::new(0.3, 1.0, 200.0).symbols_for(0, 0.0), 0);
        let n = Estimate::new(0.1, 1.0, 200.0).symbols_for(5842, 0.0);
        assert_eq!(n, 6491);
        assert!(Estimate::new(0.1, 1.0, 200.0).symbols_for(5842, 3.0) > n + 80);
    }

    #[test]
    fn a_message_is_sent_twice_where_one_in_a_hundred_is_lost() {
        let symbols = |loss, missing| Estimate::new(loss, 1.0, 200.0).symbols_for_few(missing);
        assert_eq!([0.0, 0.0001, 0.01, 0.05, 0.1, 0.3].map(|loss| symbols(loss, 1)), [1, 2, 2, 3, 4, 8]);
        assert_eq!([0.01, 0.1].map(|loss| symbols(loss, 8)), [11, 15]);
        assert_eq!((symbols(0.1, 0), Estimate::new(0.1, 400.0, 200.0).symbols_for_few(1)), (0, 4));
    }

    #[test]
    fn the_shortest_way_is_the_way() {
        let mut estimate = Estimate::new(0.0, 1.0, 200.0);
        [2700, 2600, 2650].into_iter().for_each(|ms| estimate.took(Duration::from_millis(ms)));
        let ms = estimate.round_trip().unwrap().as_millis();
        assert!((2600..2610).contains(&ms), "{ms}");
    }
}
