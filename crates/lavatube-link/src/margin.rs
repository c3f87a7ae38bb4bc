//! How many symbols to send where no report ever comes, and how probable it is that a block does not arrive all the same.
//!
//! Why: a margin by feeling is either bytes thrown away or packs lost. Losses are those of a two-state chain: in its bad state all is lost,
//! as long on average as a burst; a burst of one is independent loss. What is stated is a bound, never less than the truth of
//! that chain (Chernoff's, by the greatest eigenvalue of the tilted chain). It must not know blocks. Step 9 of the walk.

/// A bound on the probability that fewer than `k` of `n` symbols arrive, at a mean share `loss` lost in bursts of `burst` on average.
pub fn failure(k: u64, n: u64, loss: f64, burst: f64) -> f64 {
    if n < k {
        return 1.0;
    }
    let (n, lost) = (n as f64, (n - k + 1) as f64);
    if loss <= 0.0 {
        return 0.0;
    }
    if loss >= 1.0 || loss * n >= lost {
        return 1.0;
    }
    // Convex in the tilt, so thirds lead to its lowest point.
    let (mut low, mut high) = (0.0, TILT_MAX);
    for _ in 0..STEPS {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if log_bound(n, lost, loss, burst, a) < log_bound(n, lost, loss, burst, b) {
            high = b;
        } else {
            low = a;
        }
    }
    log_bound(n, lost, loss, burst, f64::midpoint(low, high)).exp().min(1.0)
}

/// The logarithm of the bound on `lost` or more of `n` being lost, for one tilt.
fn log_bound(n: f64, lost: f64, loss: f64, burst: f64, tilt: f64) -> f64 {
    // Independent losses are a chain that forgets: bursts of 1 / (1 - loss).
    let leave = (1.0 / burst.max(1.0)).min(1.0 - loss);
    let enter = leave * loss / (1.0 - loss);
    let z = tilt.exp();
    let (stay_good, stay_bad) = (1.0 - enter, 1.0 - leave);
    let (trace, determinant) = (stay_good + stay_bad * z, (stay_good * stay_bad - enter * leave) * z);
    let root = f64::midpoint(trace, (trace * trace - 4.0 * determinant).max(0.0).sqrt());
    // The right eigenvector, of which the good state has 1.
    let bad = (root - stay_good) / (enter * z);
    let begins = (1.0 - loss + loss * bad) / bad.min(1.0);
    n * root.ln() - tilt * lost + begins.ln()
}

/// The fewest symbols of which `k` arrive but for a probability of `wanted`; no more than `most`.
pub fn symbols(k: u64, loss: f64, burst: f64, wanted: f64, most: u64) -> u64 {
    let (mut too_few, mut enough) = (k.saturating_sub(1), most.max(k));
    while enough - too_few > 1 {
        let n = too_few + (enough - too_few) / 2;
        if failure(k, n, loss, burst) <= wanted {
            enough = n;
        } else {
            too_few = n;
        }
    }
    enough
}

const TILT_MAX: f64 = 40.0;
const STEPS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    /// The exact probability for independent losses.
    fn exact(k: u64, n: u64, loss: f64) -> f64 {
        let mut log = 0.0;
        let mut sum = 0.0;
        for lost in 0..=n {
            if lost > 0 {
                log += ((n - lost + 1) as f64 / lost as f64).ln();
            }
            if lost > n - k {
                sum += (log + lost as f64 * loss.ln() + (n - lost) as f64 * (1.0 - loss).ln()).exp();
            }
        }
        sum
    }

    /// The exact probability for the chain: states and counts, step by step.
    fn exact_bursts(k: u64, n: u64, loss: f64, burst: f64) -> f64 {
        let leave = 1.0 / burst;
        let enter = leave * loss / (1.0 - loss);
        let len = usize::try_from(n).unwrap() + 1;
        let (mut good, mut bad) = (vec![0.0; len], vec![0.0; len]);
        (good[0], bad[0]) = (1.0 - loss, loss);
        for _ in 0..n {
            let (mut next_good, mut next_bad) = (vec![0.0; len], vec![0.0; len]);
            for lost in 0..len {
                next_good[lost] = good[lost] * (1.0 - enter) + bad[lost] * leave;
                if lost > 0 {
                    next_bad[lost] = good[lost - 1] * enter + bad[lost - 1] * (1.0 - leave);
                }
            }
            (good, bad) = (next_good, next_bad);
        }
        good.iter().zip(&bad).skip((n - k + 1) as usize).map(|(g, b)| g + b).sum()
    }

    #[test]
    fn what_is_stated_is_no_less_than_the_truth_and_not_much_more() {
        for (k, n) in [(1, 1), (1, 5), (12, 15), (100, 112), (5842, 6230), (5842, 6260)] {
            for loss in [0.001, 0.05, 0.2] {
                let (truth, stated) = (exact(k, n, loss), failure(k, n, loss, 1.0));
                assert!(stated >= truth * 0.999_999, "{k} {n} {loss}: {stated} {truth}");
                assert!(
                    stated <= 1.0 && (stated <= 40.0 * truth || stated < 1e-30),
                    "{k} {n} {loss}: {stated} {truth}"
                );
            }
        }
    }

    #[test]
    fn bursts_are_provided_for() {
        for (k, n, loss, burst) in [(100, 160, 0.02, 10.0), (300, 420, 0.05, 8.0), (50, 90, 0.1, 3.0)] {
            let (truth, stated) = (exact_bursts(k, n, loss, burst), failure(k, n, loss, burst));
            assert!(stated >= truth && stated <= 100.0 * truth, "{stated} {truth}");
        }
    }

    #[test]
    fn the_advised_number_is_the_first_that_is_enough() {
        for (loss, burst, wanted) in [(0.05, 1.0, 1e-6), (0.1, 1.0, 1e-3), (0.02, 50.0, 1e-4)] {
            for k in [1, 14, 5842] {
                let n = symbols(k, loss, burst, wanted, 10 * k + 1000);
                assert!(failure(k, n, loss, burst) <= wanted && failure(k, n - 1, loss, burst) > wanted, "{k} {n}");
            }
        }
        assert_eq!(symbols(5842, 0.05, 1.0, 1e-6, 6000), 6000, "no more than there are");
        assert_eq!(symbols(7, 0.0, 1.0, 1e-6, 100), 7);
        let n = symbols(5842, 0.05, 1.0, 1e-6, 10_000);
        assert!((6235..6260).contains(&n), "1.5 % beyond what the mean asks for: {n}");
    }
}
