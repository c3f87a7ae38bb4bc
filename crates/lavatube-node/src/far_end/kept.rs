//! Which blocks were stored, so that they are not carried again after a restart. FORMAT section 13.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use lavatube_base::digest::h16;
use lavatube_base::limits::KEPT_MAX;
use lavatube_base::{BlockId, ObjectId};

use crate::atomic;
use crate::link_folder::{LinkError, io_error};

/// Which blocks were stored, so that they are not carried again after a restart. Losing it costs that.
pub(super) struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    /// Opens the list, and tells the last blocks on it whose objects are there; the newest ones, which may still come again, only
    /// if they are sound: what was lost since is taken anew.
    pub(super) fn open(
        path: PathBuf,
        is_there: impl Fn(ObjectId) -> bool,
        is_sound: impl Fn(ObjectId) -> bool,
    ) -> Result<(Self, Vec<BlockId>), LinkError> {
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|e| io_error(&path, &e))?,
        };
        let mut entries = entries(&bytes);
        entries.retain(|(_, object)| is_there(*object));
        entries.drain(..entries.len().saturating_sub(KEPT_MAX));
        let newest = entries.split_off(entries.len().saturating_sub(EXAMINED_MAX));
        entries.extend(newest.into_iter().filter(|(_, object)| is_sound(*object)));
        // Made anew each time, it stays short.
        let text: Vec<u8> = entries.iter().flat_map(|(block, object)| entry(*block, *object)).collect();
        let file = atomic::anew(&path, &text).map_err(|e| io_error(&path, &e))?;
        Ok((Self { path, file }, entries.into_iter().map(|(block, _)| block).collect()))
    }

    pub(super) fn add(&mut self, block: BlockId, object: ObjectId) -> Result<(), LinkError> {
        self.file.write_all(&entry(block, object)).map_err(|e| io_error(&self.path, &e))
    }
}

fn entry(block: BlockId, object: ObjectId) -> Vec<u8> {
    [&h16(&[&block.0, &object.0])[..], &block.0, &object.0].concat()
}

/// All entries; what a crash has cut is passed over.
fn entries(bytes: &[u8]) -> Vec<(BlockId, ObjectId)> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while rest.len() >= ENTRY_LEN {
        let (check, body) = rest.split_at(CHECK_LEN);
        let (block, object) = (BlockId::from_slice(&body[..16]), ObjectId::from_slice(&body[16..48]));
        match (block, object) {
            (Some(block), Some(object)) if h16(&[&block.0, &object.0]) == check => {
                out.push((block, object));
                rest = &rest[ENTRY_LEN..];
            }
            _ => rest = &rest[1..],
        }
    }
    out
}

/// Objects that are looked at: each costs some reads of every drive.
const EXAMINED_MAX: usize = 256;
const CHECK_LEN: usize = 16;
const ENTRY_LEN: usize = CHECK_LEN + 16 + 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_again_and_what_a_crash_has_cut_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        let (block, object) = (|n| BlockId([n; 16]), |n| ObjectId([n; 32]));
        let (mut kept, before) = Kept::open(path.clone(), |_| true, |_| true).unwrap();
        assert_eq!(before, []);
        (1..=3).for_each(|n| kept.add(block(n), object(n)).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.splice(ENTRY_LEN..ENTRY_LEN, bytes[..ENTRY_LEN / 2].to_vec());
        std::fs::write(&path, bytes).unwrap();
        let (_, before) = Kept::open(path.clone(), |id| id != object(1), |_| true).unwrap();
        assert_eq!(before, [block(2), block(3)]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * ENTRY_LEN as u64);
        let (_, before) = Kept::open(path, |_| true, |id| id != object(3)).unwrap();
        assert_eq!(before, [block(2)], "what is lost may come again");
    }
}
