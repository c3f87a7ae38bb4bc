//! What lies where shards were before they were moved to other drives: it stays, and can be read, until two whole scrubs that began after
//! that have found the new ones right; then it goes, or before that where a drive is full.
//!
//! Whoever removes reads the whole object first, as it is now. What lies on retired drives, or on such as are away, is left alone. It must
//! not know why a shard was moved. Step 18 of the walk.

use lavatube_base::ObjectId;
use lavatube_format::journal::Record;

use crate::index::{Entry, Left};
use crate::{Depth, ShardHealth, ShardState, StoreError, Vault};

impl Vault {
    /// Shards that lie where they were before they were moved, on drives that are there and in use.
    pub fn left_over(&self) -> u64 {
        self.index.left.values().flatten().filter(|left| self.is_clearable(left)).count() as u64
    }

    /// Removes what was moved before the journal record `upto`, of objects that are whole. How many shards went.
    ///
    /// # Errors
    /// [`StoreError`] when the journal could not be written: the next one does it again.
    pub(crate) fn clear_moved(&mut self, upto: u64) -> Result<u64, StoreError> {
        let is_old = |left: &Left| left.sequence <= upto;
        let ids: Vec<ObjectId> =
            self.index.left.iter().filter(|(_, left)| left.iter().any(is_old)).map(|(id, _)| *id).collect();
        let mut cleared = 0;
        for id in ids {
            cleared += self.clear(id, &is_old)?;
        }
        Ok(cleared)
    }

    /// Makes room on a drive that is full, by what is left over there: of a few objects. Whether anything went.
    pub(crate) fn make_room(&mut self, slot: usize) -> Result<bool, StoreError> {
        let is_there = |left: &Left| usize::from(left.slot) == slot;
        let with = self.index.left.iter().filter(|(_, left)| left.iter().any(is_there));
        let ids: Vec<ObjectId> = with.map(|(id, _)| *id).take(CLEARED_AT_ONCE).collect();
        let mut cleared = 0;
        for id in ids {
            cleared += self.clear(id, &is_there)?;
        }
        Ok(cleared > 0)
    }

    /// Removes what is left over of an object, if that is whole without it.
    fn clear(&mut self, id: ObjectId, which: &dyn Fn(&Left) -> bool) -> Result<u64, StoreError> {
        let left: Vec<Left> = self.index.left.get(&id).cloned().unwrap_or_default();
        // A scan, and the records that follow from it, may have taken an old place for the place.
        let is_in_use = |l: &Left| {
            let entry = self.entry(id);
            entry.is_none_or(|entry| entry.slot(l.index.into()) == Some(l.slot.into()))
        };
        let left: Vec<Left> = left.into_iter().filter(|l| which(l) && self.is_clearable(l) && !is_in_use(l)).collect();
        if left.is_empty() || !self.examine(id, Depth::Bytes).is_ok_and(|health| health.is_whole()) {
            return Ok(0);
        }
        self.settle_journal()?;
        let mut records = Vec::new();
        for Left { index, slot, .. } in left {
            if self.remove_shard(slot.into(), id, index) {
                records.push(Record::Cleared { object: id, index, slot });
            }
        }
        let cleared = records.len() as u64;
        self.append(records)?;
        Ok(cleared)
    }

    fn is_clearable(&self, left: &Left) -> bool {
        self.slots.get(usize::from(left.slot)).is_some_and(|slot| slot.writer().is_some())
    }

    /// The object with those shards that are not good taken from where they were before, where they still are.
    pub(crate) fn with_left_over(&self, id: ObjectId, entry: &Entry, damage: &[ShardHealth]) -> Option<Entry> {
        let left = self.index.left.get(&id)?;
        let mut tried = entry.clone();
        let mut any = false;
        for shard in damage.iter().filter(|s| s.state != ShardState::Good) {
            let before = left.iter().rev().find(|l| l.index == shard.shard);
            if let Some((before, place)) = before.zip(tried.slots.get_mut(usize::from(shard.shard))) {
                *place = before.slot;
                any = true;
            }
        }
        any.then_some(tried)
    }
}

/// Objects of which a full drive is relieved at a time.
const CLEARED_AT_ONCE: usize = 16;
