//! Thinning: where room has ended, objects that could lose most give up a parity shard for those that could lose least.
//!
//! Drives die and nobody replaces them, so that one day what was lost has nowhere to go. Repair must not stop then: an object that outlives
//! more losses than the one to be repaired will, of the same kind, gives a shard up, so that all sink together and none to nothing while others are
//! whole. What less hangs on gives up to what more hangs on, down to a floor. Nothing is given up for what is new: that is refused. It must
//! not know why a shard is written. Step 18 of the walk.

use std::cmp::{Ordering, Reverse};

use lavatube_base::ObjectId;
use lavatube_format::journal::{NO_SLOT, Record};

use crate::index::Entry;
use crate::precious::worth;
use crate::{Depth, StoreError, Vault};

/// An object that could give up a parity shard.
struct Giver {
    worth: u8,
    standing: usize,
    id: ObjectId,
    index: u8,
    /// Further losses that it outlives.
    own: usize,
}

impl Vault {
    /// Makes room on the drive of a slot for a shard of the object `wants`, which outlives `spare` losses once it is written. Whether something went.
    ///
    /// # Errors
    /// [`StoreError`] when the journal could not be written.
    //= FORMAT#F49
    pub(crate) fn thin(&mut self, slot: usize, spare: usize, wants: ObjectId) -> Result<bool, StoreError> {
        let Some(kind) = self.entry(wants).map(|entry| entry.kind) else { return Ok(false) };
        let precious = self.precious();
        let mut able: Vec<Giver> = Vec::new();
        self.each_entry(&mut |id, entry| {
            let (own, k) = (self.spare_of(entry), entry.geometry.k());
            let parity = (k..entry.geometry.shards()).find(|i| entry.slot(*i) == Some(slot));
            let standing = precious.standing(id, own);
            let gives = own > FLOOR
                && match worth(entry.kind).cmp(&worth(kind)) {
                    Ordering::Less => false,
                    Ordering::Equal => standing > precious.standing(wants, spare),
                    Ordering::Greater => true,
                };
            if let Some(index) = parity.and_then(|i| u8::try_from(i).ok()).filter(|_| gives) {
                able.push(Giver { worth: worth(entry.kind), standing, id, index, own });
            }
        });
        // First what least hangs on, and of equals those that could lose most.
        able.sort_by_key(|giver| (Reverse(giver.worth), Reverse(giver.standing), giver.id));
        for Giver { id, index, own, .. } in able.into_iter().take(TRIED_MAX) {
            // What is thought to be there is read before anything is given up for it.
            let sure =
                self.examine(id, Depth::Bytes).is_ok_and(|h| h.restorable && usize::from(h.losses_survivable) >= own);
            if sure {
                self.give_up(id, index, slot)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes a shard: first from the journal, so that it is missed by nobody, then from its drive. Cut between, it is found there again.
    fn give_up(&mut self, id: ObjectId, index: u8, slot: usize) -> Result<(), StoreError> {
        let Some((kind, generation)) = self.entry(id).map(|e| (e.kind, e.generation)) else {
            return Ok(());
        };
        self.append(vec![Record::Moved { kind, object: id, generation, index, slot: NO_SLOT }])?;
        self.remove_shard(slot, id, index);
        self.forget_headers(id);
        Ok(())
    }

    /// How many further losses an object outlives, as far as the drives' states tell.
    pub(crate) fn spare_of(&self, entry: &Entry) -> usize {
        let there = (0..entry.geometry.shards()).filter(|&i| self.is_shard_expected(entry.slot(i))).count();
        there.saturating_sub(entry.geometry.k())
    }
}

/// No object gives up what it needs to outlive the next loss.
const FLOOR: usize = 1;
/// Objects that are read before it is given up to find one that is what it seems.
const TRIED_MAX: usize = 4;
