//! Heads of packs that went to a far vault: what a reader needs of them before he knows what he wants is kept here.
//!
//! With them, listing a snapshot costs no round trip, and a restore knows all it must ask for before it asks. They are
//! copies of sealed bytes: who has no read key can keep them and not read them. Losing them costs round trips. Steps 6
//! and 19 of the walk.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use lavatube_base::ObjectId;
use lavatube_base::limits::OBJECT_LEN_MAX;
use lavatube_format::kept_head;

use crate::state::{State, StateError, read_all, write_all};

const HEADS: &str = "heads/";

fn name(pack: ObjectId) -> String {
    format!("{HEADS}{pack}")
}

/// Keeps `ranges` of a pack.
///
/// # Errors
/// When the state's files fail.
pub fn keep(state: &dyn State, pack: ObjectId, bytes: &[u8], ranges: &[Range<usize>]) -> Result<(), StateError> {
    let parts: Vec<_> = ranges.iter().map(|r| (r.start as u64, &bytes[r.clone()])).collect();
    write_all(state, &name(pack), &kept_head::encode(&parts))
}

/// The heads that are kept, to be read.
pub struct Heads {
    /// Those that were read last, the newest behind the others.
    lately: Mutex<Vec<(ObjectId, Option<Arc<Head>>)>>,
}

struct Head {
    parts: Vec<(u64, Vec<u8>)>,
}

impl Default for Heads {
    fn default() -> Self {
        Self { lately: Mutex::new(Vec::new()) }
    }
}

impl Heads {
    /// Appends bytes `range` of a pack to `out` if all of them are kept, and says whether they are. One that is damaged is
    /// not there.
    pub fn read(&self, state: &dyn State, pack: ObjectId, range: &Range<u64>, out: &mut Vec<u8>) -> bool {
        let Some(head) = self.head(state, pack) else { return false };
        let part = head.parts.iter().find(|(at, bytes)| *at <= range.start && range.end <= at + bytes.len() as u64);
        let place = part.and_then(|(at, bytes)| {
            let start = usize::try_from(range.start - at).ok()?;
            bytes.get(start..usize::try_from(range.end - at).ok()?)
        });
        place.map(|bytes| out.extend_from_slice(bytes)).is_some()
    }

    fn head(&self, state: &dyn State, pack: ObjectId) -> Option<Arc<Head>> {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = lately.iter().position(|(id, _)| *id == pack) {
            lately[at..].rotate_left(1);
        } else {
            if lately.len() == HELD {
                lately.remove(0);
            }
            lately.push((pack, load(state, pack).map(Arc::new)));
        }
        lately.last().and_then(|(_, head)| head.clone())
    }
}

fn load(state: &dyn State, pack: ObjectId) -> Option<Head> {
    let bytes = read_all(state, &name(pack), 2 * OBJECT_LEN_MAX as u64).ok().flatten()?;
    let parts = kept_head::decode(&bytes).ok()?;
    Some(Head { parts: parts.into_iter().map(|(at, bytes)| (at, bytes.to_vec())).collect() })
}

/// Heads held in memory.
const HELD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryState;

    #[test]
    fn what_was_kept_is_read_and_nothing_else() {
        let (state, heads) = (MemoryState::default(), Heads::default());
        let (pack, other) = (ObjectId([1; 32]), ObjectId([2; 32]));
        let bytes: Vec<u8> = (0..200).collect();
        keep(&state, pack, &bytes, &[0..10, 90..120]).unwrap();
        let read = |id, range| {
            let mut out = vec![7];
            let there = heads.read(&state, id, &range, &mut out);
            assert_eq!(there, out.len() > 1);
            out.split_off(1)
        };
        assert_eq!(read(pack, 95..97), [95, 96]);
        assert_eq!(read(pack, 0..10), bytes[..10]);
        assert!(read(pack, 0..11).is_empty() && read(pack, 89..91).is_empty() && read(other, 0..1).is_empty());
    }
}
