//! What is asked: the vault, its drives, what befalls them and what is done about it.

use crate::{Ages, Code};

/// A vault and its world. Rates are a year, spans are days or years as their names say, shares are 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// Drives at the beginning.
    pub drives: u32,
    /// Shelves they stand on, evenly; a shelf may go as a whole.
    pub shelves: u32,
    /// Makers they are of, evenly.
    pub makers: u32,
    /// The code at the beginning.
    pub code: Code,
    /// Bytes of a drive.
    pub drive_bytes: f64,
    /// The share of all drives that is used at the beginning.
    pub full: f64,
    /// Failures of a drive a year, at a factor of 1.
    pub yearly: f64,
    /// How that changes with age.
    pub ages: Ages,
    /// A maker's drives that fail together.
    pub batch: Batch,
    /// Shelves that go, of one, a year.
    pub shelf_yearly: f64,
    /// Times a drive gets unreadable places, a year, and bytes of such a place.
    pub latent_yearly: f64,
    /// Days within which every byte is read.
    pub scrub_days: f64,
    /// How a lost drive's shards are made good.
    pub repair: Repair,
    /// Days after which a dead drive is replaced, if anybody does.
    pub replace_days: Option<f64>,
    /// For so long.
    pub years: f64,
}

/// Drives of one maker that fail together: firmware, a bad batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// How often that happens to a maker.
    pub yearly: f64,
    /// How many of its drives it takes.
    pub share: f64,
    /// Within how many days.
    pub days: f64,
}

/// What becomes of the shards of a lost drive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Repair {
    /// They are made anew on the others within so many days, while there is room.
    Within(f64),
    /// Nothing.
    Never,
}

impl Repair {
    /// Days within which they are, if ever.
    pub fn days(self) -> Option<f64> {
        match self {
            Self::Within(days) => Some(days),
            Self::Never => None,
        }
    }
}

/// Terms that make no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TermsError(pub String);

impl std::fmt::Display for TermsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TermsError {}

impl Terms {
    /// Whether they make sense.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), TermsError> {
        let fail = |text: String| Err(TermsError(text));
        let Code { k, m } = self.code;
        if k == 0 || m == 0 || self.code.width() > WIDTH_MAX {
            return fail(format!(
                "{k}+{m} is no code: it takes a data shard and a parity shard at least, and {WIDTH_MAX} shards at most"
            ));
        }
        if !(self.code.width()..=DRIVES_MAX).contains(&self.drives) {
            return fail(format!(
                "{k}+{m} needs {} drives at least, and {DRIVES_MAX} are the most that are reckoned with",
                self.code.width()
            ));
        }
        if !(1..=self.drives).contains(&self.shelves) || !(1..=self.drives).contains(&self.makers) {
            return fail("there are as many shelves and makers as drives at most, and one at least".into());
        }
        let shares = [("full", self.full), ("the share of a batch", self.batch.share)];
        if let Some((name, _)) = shares.iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return fail(format!("{name}: a share is 0 to 100 %"));
        }
        let rates = [self.yearly, self.batch.yearly, self.shelf_yearly, self.latent_yearly];
        if rates.iter().any(|rate| !(0.0..=RATE_MAX).contains(rate)) {
            return fail(format!("a rate is 0 to {RATE_MAX} a year"));
        }
        let spans =
            [self.scrub_days, self.repair.days().unwrap_or(1.0), self.batch.days, self.replace_days.unwrap_or(1.0)];
        if spans.iter().any(|days| !(days.is_finite() && *days > 0.0)) {
            return fail("a span is more than 0 days".into());
        }
        if !(self.years > 0.0 && self.years <= YEARS_MAX && self.drive_bytes > 0.0 && self.drive_bytes < 1e18) {
            return fail(format!(
                "years are more than 0 and {YEARS_MAX} at most; a drive has more than 0 bytes and less than an exabyte"
            ));
        }
        Ok(())
    }

    /// Bytes of data at the beginning.
    pub fn data_bytes(&self) -> f64 {
        f64::from(self.drives) * self.drive_bytes * self.full / self.code.expansion()
    }

    /// The maker of the drive at a place: every shelf has all.
    pub(crate) fn maker(&self, place: usize) -> u32 {
        u32::try_from(place).unwrap_or(0) % self.makers
    }

    /// The shelf of a place.
    pub(crate) fn shelf(&self, place: usize) -> u32 {
        u32::try_from(place).unwrap_or(0) / self.makers % self.shelves
    }

    /// The chance that a given place of a shard is unreadable when it is wanted: it was found and mended at the last scrub, half a period ago.
    pub fn latent(&self) -> f64 {
        self.latent_yearly * (self.scrub_days / 2.0 / YEAR_DAYS) * (LATENT_LEN / self.drive_bytes).min(1.0)
    }
}

/// Days of a year.
pub(crate) const YEAR_DAYS: f64 = 365.25;
/// Bytes of an unreadable place: they come in clusters.
const LATENT_LEN: f64 = 1e6;
const WIDTH_MAX: u32 = 255;
const DRIVES_MAX: u32 = 10_000;
const RATE_MAX: f64 = 10.0;
const YEARS_MAX: f64 = 200.0;
