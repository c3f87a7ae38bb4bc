//! One stripe: k data and m parity shards on k + m drives. What it loses when so many drives are gone.
//!
//! Exact sums of binomial, hypergeometric and Poisson terms. It must not know why drives are gone, nor time.

/// A code: any k of k + m shards give everything back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// Data shards.
    pub k: u32,
    /// Parity shards.
    pub m: u32,
}

impl Code {
    /// Shards.
    pub fn width(self) -> u32 {
        self.k + self.m
    }

    /// Bytes on drives for a byte of data.
    pub fn expansion(self) -> f64 {
        f64::from(self.width()) / f64::from(self.k)
    }

    /// The chance that more than m of k + m shards are gone, when each is with chance `p`, by itself.
    pub fn loss_if_each(self, p: f64) -> f64 {
        more_than(self.width(), self.m, p)
    }

    /// The chance that a stripe is lost in a year, by the model that Backblaze published in 2018: time is cut into windows of `window_days`, in which
    /// a shard is lost with the chance of that part of the year and at whose end everything is repaired. `yearly` is the shard's chance in a year.
    pub fn yearly_loss_by_windows(self, yearly: f64, window_days: f64) -> f64 {
        let windows = DAYS_OF_YEAR / window_days;
        self.loss_if_each(yearly / windows) * windows
    }

    /// The chance that a stripe whose drives are never replaced nor rebuilt is lost within `years`, at a constant `yearly` rate of failure.
    pub fn loss_without_repair(self, yearly: f64, years: f64) -> f64 {
        self.loss_if_each(-f64::exp_m1(-yearly * years))
    }

    /// The share of stripes (or of their rows) that cannot be read while `gone` of `drives` drives are missing, whichever they are, and each
    /// shard that is left is unreadable at a given row with chance `latent`.
    pub fn loss_if_gone(self, drives: u32, gone: u32, latent: f64) -> f64 {
        let (width, gone) = (self.width(), gone.min(drives));
        (0..=width.min(gone))
            .map(|j| hypergeometric(drives, gone, width, j) * self.loss_if_missing(j, latent))
            .sum::<f64>()
            .min(1.0)
    }

    /// The chance that a row is lost of which `missing` shards are gone and each other is unreadable with chance `latent`.
    pub fn loss_if_missing(self, missing: u32, latent: f64) -> f64 {
        match self.m.checked_sub(missing) {
            None => 1.0,
            Some(_) if latent <= 0.0 => 0.0,
            Some(spare) => more_than(self.width() - missing, spare, latent),
        }
    }

    /// Loss a year, as a share of all data, of a vault whose drives fail `failures` times a year by themselves, each anew, and of which
    /// `under_way` on the mean are gone and not yet made good. What a failure takes is what is lost with it and was not before;
    /// `loss_if_gone` is [`Code::loss_if_gone`], by drives gone.
    pub fn yearly_loss(
        self,
        drives: u32,
        failures: f64,
        under_way: f64,
        loss_if_gone: &mut dyn FnMut(u32) -> f64,
    ) -> f64 {
        let (mut sum, mut before) = (0.0, loss_if_gone(0));
        for gone in 0..drives {
            let after = loss_if_gone(gone + 1);
            let term = poisson(under_way, gone) * (after - before).max(0.0);
            sum += term;
            // Far beyond the mean terms only shrink.
            if f64::from(gone) > under_way + f64::from(self.m) && term < sum * NEGLIGIBLE {
                break;
            }
            before = after;
        }
        sum * failures
    }
}

/// The chance of more than `most` of `n`, each with chance `p`.
pub fn more_than(n: u32, most: u32, p: f64) -> f64 {
    if p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return if n > most { 1.0 } else { 0.0 };
    }
    (most + 1..=n)
        .map(|i| (ln_choose(n, i) + f64::from(i) * p.ln() + f64::from(n - i) * (-p).ln_1p()).exp())
        .sum::<f64>()
        .min(1.0)
}

/// The chance that of `drawn` of `all`, of which `marked` are marked, exactly `j` are.
pub fn hypergeometric(all: u32, marked: u32, drawn: u32, j: u32) -> f64 {
    if j > marked || j > drawn || drawn > all || drawn - j > all - marked {
        return 0.0;
    }
    (ln_choose(marked, j) + ln_choose(all - marked, drawn - j) - ln_choose(all, drawn)).exp()
}

/// The chance of exactly `n` where `mean` is the mean.
pub fn poisson(mean: f64, n: u32) -> f64 {
    if mean <= 0.0 {
        return if n == 0 { 1.0 } else { 0.0 };
    }
    (f64::from(n) * mean.ln() - mean - ln_factorial(n)).exp()
}

/// Logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: u32, k: u32) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Logarithm of n!: exact sums for few, Stirling's series for many.
fn ln_factorial(n: u32) -> f64 {
    if n < SMALL {
        return (2..=n).map(|i| f64::from(i).ln()).sum();
    }
    let x = f64::from(n) + 1.0;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
        + 1.0 / (1260.0 * x.powi(5))
}

/// Days of a year, as Backblaze's model counts them.
pub const DAYS_OF_YEAR: f64 = 365.0;
const NEGLIGIBLE: f64 = 1e-9;
const SMALL: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a:e} is not {b:e}");
    }

    #[test]
    fn the_published_model_of_backblaze() {
        // 17+3, a shard's yearly chance 0.00405, 6.5 days to rebuild: 7.354e-12 (backblaze.com, "Cloud Storage Durability", 2018).
        near(Code { k: 17, m: 3 }.yearly_loss_by_windows(0.00405, 6.5), 7.354e-12, 5e-4);
    }

    #[test]
    fn without_repair_it_is_the_binomial() {
        for (code, years, loss) in [
            (Code { k: 17, m: 3 }, 5.0, 0.04),
            (Code { k: 17, m: 3 }, 10.0, 0.25),
            (Code { k: 10, m: 4 }, 5.0, 0.0015),
            (Code { k: 10, m: 4 }, 10.0, 0.025),
            (Code { k: 10, m: 10 }, 5.0, 1e-8),
            (Code { k: 10, m: 10 }, 10.0, 8e-6),
        ] {
            // The figures are published with one or two digits.
            near(code.loss_without_repair(0.0136, years), loss, 0.25);
        }
        // Exactly: 2 of 3 with a half each.
        near(Code { k: 2, m: 1 }.loss_if_each(0.5), 0.5, 1e-12);
        near(
            more_than(20, 3, 0.01),
            1.0 - (0..=3)
                .map(|i| (ln_choose(20, i)).exp() * 0.01f64.powi(i as i32) * 0.99f64.powi(20 - i as i32))
                .sum::<f64>(),
            1e-9,
        );
    }

    #[test]
    fn chances_of_all_cases_are_one() {
        let sum: f64 = (0..=28).map(|j| hypergeometric(60, 9, 28, j)).sum();
        near(sum, 1.0, 1e-12);
        near((0..200).map(|n| poisson(31.5, n)).sum(), 1.0, 1e-12);
        // Both sides of the place where the factorial changes its way.
        near(ln_factorial(SMALL) - ln_factorial(SMALL - 1), f64::from(SMALL).ln(), 1e-11);
    }

    #[test]
    fn what_is_lost_when_drives_are_gone_is_counted_by_hand() {
        let code = Code { k: 2, m: 1 };
        // Of 4 drives 2 are gone; a stripe lies on 3 of 4, and has both of them in 2 of 4 cases.
        near(code.loss_if_gone(4, 2, 0.0), 0.5, 1e-12);
        assert_eq!((code.loss_if_gone(4, 1, 0.0), code.loss_if_gone(4, 4, 0.0)), (0.0, 1.0));
        // One gone, and of the two that are left one or both unreadable.
        near(code.loss_if_missing(1, 0.1), 0.19, 1e-12);
        assert_eq!(code.loss_if_missing(2, 0.1), 1.0);
    }

    #[test]
    fn few_failures_under_way_give_the_first_term_of_the_series() {
        // 4 drives, 2+1, one failure a year, half a day each: a second one in that time takes half of all stripes.
        let (failures, under_way) = (4.0 * 0.01, 4.0 * 0.01 * 0.5 / 365.0);
        let code = Code { k: 2, m: 1 };
        let loss = code.yearly_loss(4, failures, under_way, &mut |gone| code.loss_if_gone(4, gone, 0.0));
        near(loss, failures * under_way * 0.5, 1e-3);
    }
}
