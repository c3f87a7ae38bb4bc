//! `SymbolFiles`: a folder as the link's [`SymbolStore`], so that memory is bounded and a restart goes on where it was.
//! Step 11 of the walk.
//!
//! A file per block, made of slots: a symbol and a check of it. A slot is there when its check is right, so neither a kill
//! nor a power cut can make one up, and nothing has to be synced: what is lost is sent again. It must not know codes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lavatube_base::BlockId;
use lavatube_base::digest::h16;
use lavatube_link::{StoreError, SymbolStore};

use crate::atomic::{PRIVATE, make_folders};
use crate::words::plain;

/// Symbols of blocks that are coming in, in a folder.
#[derive(Debug)]
pub struct SymbolFiles {
    folder: PathBuf,
    open: BTreeMap<BlockId, Slots>,
    slot: Vec<u8>,
}

#[derive(Debug)]
struct Slots {
    file: File,
    symbols: u32,
    symbol_len: usize,
}

impl SymbolFiles {
    /// The symbols in `folder`, which is made when missing. One process uses it at a time.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folders(folder, PRIVATE)?;
        Ok(Self { folder: folder.to_owned(), open: BTreeMap::new(), slot: Vec::new() })
    }

    fn path(&self, block: BlockId) -> PathBuf {
        self.folder.join(block.to_string())
    }

    fn slots(&self, block: BlockId) -> Result<&Slots, StoreError> {
        self.open.get(&block).ok_or_else(|| StoreError("the block is not open".into()))
    }
}

impl SymbolStore for SymbolFiles {
    fn open(&mut self, block: BlockId, symbols: usize, symbol_len: usize) -> Result<Vec<u32>, StoreError> {
        let symbols = u32::try_from(symbols).map_err(|_| StoreError("more symbols than any block has".into()))?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path(block)).map_err(failed)?;
        self.open.insert(block, Slots { file, symbols, symbol_len });
        let mut held = Vec::new();
        self.read(block, &mut |number, _| held.push(number))?;
        Ok(held)
    }

    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        let mut slot = std::mem::take(&mut self.slot);
        let slots = self.slots(block)?;
        if number >= slots.symbols || symbol.len() != slots.symbol_len {
            return Err(StoreError("a symbol that the block does not have".into()));
        }
        slot.clear();
        slot.extend_from_slice(symbol);
        slot.extend_from_slice(&check(block, number, symbol));
        let done = slots.file.write_all_at(&slot, u64::from(number) * slot.len() as u64);
        self.slot = slot;
        done.map_err(failed)
    }

    fn read(&mut self, block: BlockId, show: &mut dyn FnMut(u32, &[u8])) -> Result<(), StoreError> {
        let slots = self.slots(block)?;
        let slot_len = slots.symbol_len + CHECK_LEN;
        let some = (READ_LEN / slot_len).max(1);
        let mut buffer = vec![0; some * slot_len];
        let (mut number, mut at) = (0, 0);
        while number < slots.symbols {
            let read = read_up_to(&slots.file, at, &mut buffer).map_err(failed)?;
            for slot in buffer[..read].chunks_exact(slot_len).take((slots.symbols - number) as usize) {
                let (symbol, stored) = slot.split_at(slots.symbol_len);
                if check(block, number, symbol) == stored {
                    show(number, symbol);
                }
                number += 1;
            }
            if read < buffer.len() {
                break;
            }
            at += read as u64;
        }
        Ok(())
    }

    fn remove(&mut self, block: BlockId) {
        self.open.remove(&block);
        // One that stays costs space, and is used again if the block comes again.
        let _ = std::fs::remove_file(self.path(block));
    }
}

/// Reads until `buffer` is full or the file ends.
fn read_up_to(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn check(block: BlockId, number: u32, symbol: &[u8]) -> [u8; CHECK_LEN] {
    let hash = h16(&[&block.0, &number.to_le_bytes(), symbol]);
    let mut out = [0; CHECK_LEN];
    out.copy_from_slice(&hash[..CHECK_LEN]);
    out
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn failed(e: io::Error) -> StoreError {
    StoreError(plain(&e.to_string()))
}

const CHECK_LEN: usize = 8;
/// Bytes read at a time.
const READ_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(store: &mut SymbolFiles, block: BlockId) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        store.read(block, &mut |n, s| out.push((n, s.to_vec()))).unwrap();
        out
    }

    #[test]
    fn symbols_outlive_their_process_and_torn_ones_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("symbols");
        let (one, two) = (BlockId([1; 16]), BlockId([2; 16]));
        let mut store = SymbolFiles::open(&folder).unwrap();
        assert_eq!(SymbolStore::open(&mut store, one, 3000, 1436), Ok(vec![]));
        assert_eq!(SymbolStore::open(&mut store, two, 2, 10), Ok(vec![]));
        for number in [0, 7, 2999] {
            store.put(one, number, &[number as u8; 1436]).unwrap();
        }
        store.put(two, 1, &[5; 10]).unwrap();
        assert!(store.put(one, 3000, &[0; 1436]).is_err() && store.put(one, 1, &[0; 1435]).is_err());
        assert!(store.put(BlockId([3; 16]), 0, &[0; 1436]).is_err());

        let mut store = SymbolFiles::open(&folder).unwrap();
        assert_eq!(SymbolStore::open(&mut store, one, 3000, 1436), Ok(vec![0, 7, 2999]));
        assert_eq!(held(&mut store, one)[1], (7, vec![7; 1436]));
        let file = OpenOptions::new().write(true).open(folder.join(one.to_string())).unwrap();
        file.write_all_at(&[9], 7 * 1444 + 100).unwrap();
        file.set_len(2999 * 1444 + 1443).unwrap();
        assert_eq!(SymbolStore::open(&mut store, one, 3000, 1436), Ok(vec![0]));
        store.remove(one);
        store.remove(one);
        assert_eq!(SymbolStore::open(&mut store, one, 3000, 1436), Ok(vec![]));
        assert_eq!(SymbolStore::open(&mut store, two, 2, 10), Ok(vec![1]));
    }
}
