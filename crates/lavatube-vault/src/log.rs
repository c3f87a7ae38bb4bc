//! The log: every manifest and depositor card in the order in which the vault took it in, so that taking one back shows.
//!
//! The order is that of the journal; each shard header tells the place too, so that it outlives all journals (decision
//! 0015). Roots and proofs are computed from what the index keeps; a checkpoint is signed only for what is settled. It must
//! not know who asks, nor what was answered before: whoever asks remembers. Steps 17 and 18 of the walk.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use lavatube_base::ObjectId;
use lavatube_base::merkle::Hash;
use lavatube_format::checkpoint::Checkpoint;
use lavatube_format::journal::Record;
use lavatube_format::log::{Answer, Leaf, Placed, Question};
use lavatube_format::shard::shard_name;

use crate::index::{Entry, Index};
use crate::scan::{is_readable, read_header, shards_of};
use crate::{MendError, ShardHealth, ShardState, StoreError, Vault};

/// Why nothing can be said of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// What the drives say may not be all that was stored.
    #[error("{need} drives with an up-to-date journal must be there to tell what its log is, and {have} are")]
    Shortfall {
        /// Drives needed.
        need: usize,
        /// Drives there.
        have: usize,
    },
    /// It cannot be settled.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// The log as whoever reads the drives sees it: not signed, and not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSight {
    /// Size and root; no nonce.
    pub checkpoint: Checkpoint,
    /// As in an [`Answer`].
    pub consistency: Option<Vec<Hash>>,
    /// As in an [`Answer`].
    pub objects: Vec<Placed>,
}

impl Vault {
    /// All that is in the log, in order.
    pub fn log(&self) -> &[Leaf] {
        self.index.log.leaves()
    }

    /// Answers a question about the log, with a signed checkpoint.
    ///
    /// # Errors
    /// [`LogError`] when too few drives are there to make sure of what was stored, or there is no key to sign with.
    pub fn answer_log(&mut self, question: &Question) -> Result<Answer, LogError> {
        //= FORMAT#F32 first it is settled, and then signed
        self.settle_journal()?;
        let signer = self.signer.as_ref().ok_or(StoreError::ReadOnly)?;
        let checkpoint = Checkpoint { nonce: Some(question.nonce), ..self.checkpoint() }.sign(signer);
        let note = checkpoint.note().as_bytes().to_vec();
        Ok(Answer {
            note,
            consistency: self.index.log.consistency(question.known),
            objects: self.places(&question.objects),
        })
    }

    /// What is seen of the log by who may not write: enough drives must agree that nothing settled can be missing. What is
    /// seen may be more than is settled, so that nobody may hold the vault to it.
    ///
    /// # Errors
    /// [`LogError::Shortfall`].
    pub fn look_at_log(&self, known: u64, objects: &[ObjectId]) -> Result<LogSight, LogError> {
        // Any two such sets of drives have one in common.
        let need = self.in_use() + 1 - self.journals_needed();
        let have = self.journals_current();
        if have < need {
            return Err(LogError::Shortfall { need, have });
        }
        let consistency = self.index.log.consistency(known);
        Ok(LogSight { checkpoint: self.checkpoint(), consistency, objects: self.places(objects) })
    }

    fn checkpoint(&self) -> Checkpoint {
        let log = &self.index.log;
        Checkpoint { vault: self.card.vault, size: log.size(), root: log.root(), nonce: None }
    }

    fn places(&self, objects: &[ObjectId]) -> Vec<Placed> {
        let place = |id: &ObjectId| self.entry(*id).and_then(|entry| entry.place);
        let proved = |place| Some((place, self.index.log.inclusion(place)?));
        objects.iter().map(|id| Placed { id: *id, place: place(id).and_then(proved) }).collect()
    }

    /// Whether some shard of what is logged, on a drive that is there, tells another place in its header, or none.
    pub fn has_shards_without_place(&self, id: ObjectId) -> bool {
        self.entry(id).is_some_and(|entry| self.shards_without_place(id, &entry).next().is_some())
    }

    fn shards_without_place(&self, id: ObjectId, entry: &Entry) -> impl Iterator<Item = ShardHealth> {
        let place = entry.place;
        let differs = move |shard: u8| {
            let slot = entry.slot(shard.into())?;
            let drive = self.slots.get(slot)?.reader()?;
            let header = read_header(drive, &shard_name(id, shard)).ok()??;
            let label = self.slots[slot].card.label.clone();
            (header.place != place).then_some(ShardHealth {
                shard,
                slot: Some(slot),
                label,
                state: ShardState::HeadersLost,
            })
        };
        (0..entry.geometry.k_code() + entry.geometry.m_code()).filter_map(differs)
    }

    /// Writes the place of what is logged into the headers of those of its shards that tell another or none: they were
    /// written before there was a log, or the journal was lost with its end. How many shards were written.
    ///
    /// # Errors
    /// [`MendError`]; then no file was replaced.
    pub fn mark_place(&mut self, id: ObjectId) -> Result<usize, MendError> {
        let Some(entry) = self.entry(id).filter(|entry| entry.place.is_some()) else { return Ok(0) };
        let len = entry.geometry.object_len() as u64;
        let shards: Vec<ShardHealth> = self.shards_without_place(id, &entry).collect();
        if shards.is_empty() {
            return Ok(0);
        }
        let mut object = Vec::new();
        self.read(id, 0..len, &mut object)?;
        Ok(self.rewrite(id, &object, shards, None)?.mended.len())
    }
}

type Found<'a> = (&'a ObjectId, &'a Entry);

/// Records of what only a scan knows and can be read: what is logged in its order.
pub(crate) fn unwritten(index: &Index) -> Vec<Record> {
    let all = || index.objects.iter().filter(|(_, e)| e.sequence == 0 && is_readable(e));
    let (logged, others): (Vec<_>, Vec<_>) = all().partition(|(_, e)| e.kind.is_logged());
    let ordered = order(index.log.size(), logged);
    others.into_iter().chain(ordered).map(|(id, e)| e.record(*id)).collect()
}

/// What is logged and was found by its shards, in the order of the places it claims, from `first` on. What has none, or one
/// that is another's, fills gaps, and then comes last.
fn order<'a>(first: u64, mut found: Vec<Found<'a>>) -> Vec<Found<'a>> {
    //= FORMAT#F31 the places that shards claim, each once
    found.sort_by_key(|(id, e)| (e.claim, usize::MAX - shards_of(e), **id));
    let mut placed: BTreeMap<u64, Found<'a>> = BTreeMap::new();
    let mut rest = VecDeque::new();
    for one in found {
        match one.1.claim.filter(|claim| *claim >= first && !placed.contains_key(claim)) {
            Some(claim) => drop(placed.insert(claim, one)),
            None => rest.push_back(one),
        }
    }
    let mut out = Vec::new();
    for (claim, one) in placed {
        while first + (out.len() as u64) < claim
            && let Some(filler) = rest.pop_front()
        {
            out.push(filler);
        }
        out.push(one);
    }
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_format::journal::FIRST_CHECK;
    use lavatube_format::shard::{Geometry, ObjectKind};

    /// Entries of objects 0, 1, … with these claims and numbers of shards.
    fn ordered(first: u64, claims: &[(Option<u64>, u8)]) -> Vec<u8> {
        let entry = |(claim, shards): &(Option<u64>, u8)| Entry {
            kind: ObjectKind::Manifest,
            geometry: Geometry::new(100, 4, 2).unwrap(),
            generation: 1,
            sequence: 0,
            check: FIRST_CHECK,
            slots: (0..*shards).collect(),
            place: None,
            claim: *claim,
            born_s: 0,
        };
        let entries: Vec<Entry> = claims.iter().map(entry).collect();
        let ids: Vec<ObjectId> = (0..claims.len()).map(|n| ObjectId([u8::try_from(n).unwrap(); 32])).collect();
        order(first, ids.iter().zip(&entries).collect()).into_iter().map(|(id, _)| id.0[0]).collect()
    }

    #[test]
    fn leaves_stand_where_their_shards_say() {
        assert_eq!(ordered(0, &[(Some(2), 6), (Some(0), 6), (Some(1), 6)]), [1, 2, 0]);
        // One with more shards is believed; the other fills a gap, or comes last.
        assert_eq!(ordered(0, &[(Some(0), 5), (Some(0), 6), (Some(1), 6)]), [1, 2, 0]);
        assert_eq!(ordered(0, &[(Some(0), 5), (Some(0), 6), (Some(2), 6)]), [1, 0, 2]);
        // What was stored before there was a log comes before what was stored since.
        assert_eq!(ordered(0, &[(Some(3), 6), (None, 6), (None, 6), (Some(2), 6)]), [1, 2, 3, 0]);
        // Behind a journal that has lost its end.
        assert_eq!(ordered(5, &[(Some(6), 6), (Some(5), 6), (Some(2), 6)]), [1, 0, 2]);
        // A leaf that is lost leaves no gap that anything could be put into.
        assert_eq!(ordered(0, &[(Some(4), 6), (Some(1), 6)]), [1, 0]);
    }
}
