//! Retention: what may not be freed yet, counted by what the vault itself has witnessed of time.
//!
//! A manifest may say for how long nothing of its session, nor of anything before it in the log that it may lean on, is freed; or
//! that it is held until the authority lifts that. Time is the machine's own since it started: differences within one start are
//! added up and journaled, so that a clock that is set changes nothing, and what is lost of the sum makes retention longer, never
//! shorter. It must not know the clock: it is handed in. Step 18 of the walk.

use std::collections::BTreeSet;
use std::time::Duration;

use lavatube_base::ObjectId;
use lavatube_format::journal::Record;
use lavatube_format::manifest::Manifest;
use lavatube_format::shard::ObjectKind;

use crate::{ReleaseError, StoreError, Vault};

/// How far the vault has aged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Age {
    /// Which start of its machine is counted from.
    pub(crate) boot: [u8; 16],
    /// How long that had been up, in seconds.
    pub(crate) up_s: u64,
    /// All that was witnessed, in seconds.
    pub(crate) total_s: u64,
}

impl Age {
    fn record(self) -> Record {
        let Self { boot, up_s, total_s } = self;
        Record::Aged { boot, up_s, total_s }
    }
}

/// What holds something in the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The last manifest in the log that is kept: with it all that is before it.
    pub manifest: ObjectId,
    /// Its place.
    pub place: u64,
    /// Seconds of uptime for which that is so at least; `None` until a hold is lifted.
    pub left_s: Option<u64>,
}

impl Vault {
    /// How long the machine has been up since the start that `boot` names.
    pub fn handle_uptime(&mut self, boot: [u8; 16], up: Duration) {
        let (age, up_s) = (self.index.age, up.as_secs());
        // Of the time between two starts nobody can tell, and a start that runs backwards is none.
        let passed = if boot == age.boot { up_s.saturating_sub(age.up_s) } else { 0 };
        if boot != age.boot || passed > 0 {
            self.index.age = Age { boot, up_s, total_s: age.total_s.saturating_add(passed) };
        }
    }

    /// Journals how far the vault has aged, if that is `at_least` more than the journal says.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn note_age(&mut self, at_least: Duration) -> Result<(), StoreError> {
        let (age, noted) = (self.index.age, self.index.noted_age);
        let is_news = age.boot != noted.boot || age.total_s >= noted.total_s.saturating_add(at_least.as_secs());
        if age == noted || !is_news || self.signer.is_none() {
            return Ok(());
        }
        self.settle_journal()?;
        self.append(vec![age.record()])
    }

    /// Seconds that the vault has witnessed.
    pub fn age_s(&self) -> u64 {
        self.index.age.total_s
    }

    /// What may not be freed, if anything.
    ///
    /// # Errors
    /// [`ReleaseError::Unread`] when a manifest cannot be read.
    pub fn kept(&self) -> Result<Option<Kept>, ReleaseError> {
        self.kept_but_for(&[])
    }

    /// The same, when the holds of these manifests are lifted, too.
    ///
    /// # Errors
    /// As [`Vault::kept`].
    pub fn kept_but_for(&self, lifts: &[ObjectId]) -> Result<Option<Kept>, ReleaseError> {
        let lifted = self.lifted(lifts);
        let mut kept: Option<Kept> = None;
        self.each_manifest(|place, manifest, Manifest { retention, .. }| {
            let born = self.entry(manifest).map_or(u64::MAX, |entry| entry.born_s);
            let held = retention.hold && !lifted.contains(&manifest);
            let left = retention.s.saturating_sub(self.index.age.total_s.saturating_sub(born));
            if (held || left > 0) && kept.is_none_or(|known| known.place < place) {
                kept = Some(Kept { manifest, place, left_s: (!held).then_some(left) });
            }
        })?;
        Ok(kept)
    }

    /// Manifests whose holds were lifted.
    fn lifted(&self, also: &[ObjectId]) -> BTreeSet<ObjectId> {
        let releases = self.objects_of(ObjectKind::Release);
        let lifted = releases.filter_map(|o| self.release(o.id)).flat_map(|release| release.lifts);
        lifted.chain(also.iter().copied()).collect()
    }
}
