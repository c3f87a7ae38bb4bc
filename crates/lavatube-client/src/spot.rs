//! Spot proofs on Earth's side: what a nonce picks, and whether what the vault shows is that. Step 18 of the walk.
//!
//! Whoever has the manifests can judge; no key is needed. It must not know how a vault makes slices, nor what is shown.

use lavatube_base::slice::{SLICE_LEN, verify_slice};
use lavatube_base::{Denial, ObjectId};
use lavatube_format::manifest::Manifest;
use lavatube_format::spot::{Pick, SpotAnswer, SpotNonce, SpotQuestion, packs, picks};

/// What a spot proof is about.
#[derive(Debug, Clone)]
pub struct Spot {
    /// All packs, with their lengths.
    packs: Vec<(ObjectId, u64)>,
    /// What is asked.
    pub question: SpotQuestion,
}

/// A slice that was not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// Which.
    pub pick: Pick,
    /// Why, as the vault says; `None` when what it shows is something else.
    pub why: Option<Denial>,
}

/// What a spot proof shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Slices that were asked for.
    pub asked: u64,
    /// Packs they were picked of,
    pub packs: u64,
    /// and bytes of these.
    pub bytes: u64,
    /// What was not shown.
    pub missed: Vec<Missed>,
}

impl Shown {
    /// How likely it is that this would have shown a loss of this share (0 to 1) of what it is about.
    pub fn certainty(&self, share: f64) -> f64 {
        let draws = i32::try_from(self.asked).unwrap_or(i32::MAX);
        1.0 - (1.0 - share).powi(draws)
    }
}

/// Why an answer says nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Void {
    /// It has another nonce: it was made for another question.
    #[error("it answers another question than this one: an old answer, shown again")]
    Replayed,
    /// It has more or fewer slices than were asked for.
    #[error("it has {found} slices, and {asked} were asked for")]
    Count {
        /// How many it has.
        found: usize,
        /// How many were asked for.
        asked: usize,
    },
}

impl Spot {
    /// `count` slices of the packs of these manifests, in the order of their ids, as `nonce` picks them.
    pub fn new<'m>(manifests: impl IntoIterator<Item = &'m Manifest>, nonce: SpotNonce, count: usize) -> Self {
        let packs = packs(manifests);
        let question = SpotQuestion { nonce, picks: picks(&nonce, &packs, count) };
        Self { packs, question }
    }

    /// What an answer shows.
    ///
    /// # Errors
    /// [`Void`] when it is none to this question.
    pub fn judge(&self, answer: &SpotAnswer) -> Result<Shown, Void> {
        //= FORMAT#F42 only slices that this nonce picks, each hashing to its pack's id
        if answer.nonce != self.question.nonce {
            return Err(Void::Replayed);
        }
        let (found, asked) = (answer.slices.len(), self.question.picks.len());
        if found != asked {
            return Err(Void::Count { found, asked });
        }
        let lens: std::collections::BTreeMap<ObjectId, u64> = self.packs.iter().copied().collect();
        let missed = self.question.picks.iter().zip(&answer.slices).filter_map(|(pick, slice)| {
            let why = match slice {
                Err(denial) => Some(*denial),
                Ok(slice) => {
                    let len = lens.get(&pick.pack).copied().unwrap_or(0);
                    if verify_slice(pick.pack, len, pick.number, slice) {
                        return None;
                    }
                    None
                }
            };
            Some(Missed { pick: *pick, why })
        });
        let missed = missed.collect();
        let bytes = self.packs.iter().map(|(_, len)| len).sum();
        Ok(Shown { asked: asked as u64, packs: self.packs.len() as u64, bytes, missed })
    }
}

/// How many slices about fit an answer of so many bytes: each with the hashes beside it.
pub fn slices_in(bytes: u64) -> u64 {
    (bytes / (SLICE_LEN as u64 + 16 * 32)).max(1)
}

#[cfg(test)]
mod tests {
    use lavatube_base::slice::slice;
    use lavatube_base::{DepositorId, Digests, SessionId, Verified};
    use lavatube_format::manifest::{Leaf, root_of};

    use super::*;

    fn pack(class: u8, seed: u8) -> Vec<u8> {
        let len = lavatube_format::pack::class_len(class);
        (0..len).map(|i| (i * i % 251) as u8 ^ seed).collect()
    }

    fn world() -> (Vec<Vec<u8>>, Manifest) {
        let packs = vec![pack(0, 1), pack(2, 2), pack(3, 3)];
        let classes = [0, 2, 3];
        let leaves = packs.iter().zip(classes).map(|(pack, class)| Leaf { class, digests: Digests::of(pack) });
        let leaves: Vec<Leaf> = leaves.collect();
        let manifest = Manifest {
            session: SessionId([1; 16]),
            depositor: DepositorId([2; 32]),
            sequence: 1,
            previous: None,
            joins: Vec::new(),
            root: root_of(&leaves),
            leaves,
            wraps: Vec::new(),
            note: Vec::new(),
            tags: Vec::new(),
            retention: Default::default(),
            releases: 0,
            files: None,
        };
        (packs, manifest)
    }

    fn answer(packs: &[Vec<u8>], question: &SpotQuestion) -> SpotAnswer {
        let find = |id| packs.iter().find(|pack| Verified::hash(pack).id() == id);
        let one = |pick: &Pick| find(pick.pack).and_then(|pack| slice(pack, pick.number)).ok_or(Denial::Lost);
        SpotAnswer { nonce: question.nonce, slices: question.picks.iter().map(one).collect() }
    }

    #[test]
    fn what_is_there_is_shown_and_what_is_gone_changed_or_old_is_not() {
        let (packs, manifest) = world();
        let spot = Spot::new([&manifest], [4; 32], 60);
        let good = answer(&packs, &spot.question);
        let shown = spot.judge(&good).unwrap();
        assert_eq!((shown.asked, shown.packs, shown.missed.len()), (60, 3, 0));
        let lost = answer(&packs[..2], &spot.question);
        let missed = spot.judge(&lost).unwrap().missed;
        assert!(missed.len() > 20 && missed.iter().all(|m| m.why == Some(Denial::Lost)));
        let mut changed = good.clone();
        changed.slices[7].as_mut().unwrap().bytes[5] ^= 1;
        let missed = spot.judge(&changed).unwrap().missed;
        assert_eq!(missed, [Missed { pick: spot.question.picks[7], why: None }]);
        // Another question's answer, or one that was cut.
        let other = Spot::new([&manifest], [5; 32], 60);
        assert_eq!(other.judge(&good), Err(Void::Replayed));
        let renamed = SpotAnswer { nonce: [5; 32], ..good.clone() };
        assert!(!other.judge(&renamed).unwrap().missed.is_empty(), "a nonce picks others");
        let cut = SpotAnswer { slices: good.slices[1..].to_vec(), ..good };
        assert_eq!(spot.judge(&cut), Err(Void::Count { found: 59, asked: 60 }));
    }

    #[test]
    fn certainty_is_that_of_draws() {
        let shown = Shown { asked: 500, ..Shown::default() };
        assert!((shown.certainty(0.01) - 0.99343).abs() < 1e-4, "{}", shown.certainty(0.01));
        assert!(shown.certainty(0.0) < 1e-12 && shown.certainty(1.0) > 0.999);
        assert_eq!(slices_in(1_536_000), 1000);
    }
}
