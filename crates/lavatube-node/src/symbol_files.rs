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
use std::time::{Duration, SystemTime};

use lavatube_base::BlockId;
use lavatube_base::many::h16_many;
use lavatube_link::{StoreError, SymbolStore, Symbols};

use crate::atomic::{PRIVATE, make_folders};
use crate::words::plain;

/// Symbols of blocks that are coming in, in a folder.
#[derive(Debug)]
pub struct SymbolFiles {
    folder: PathBuf,
    open: BTreeMap<BlockId, Slots>,
    /// Symbols that were put and not written, all of one block and one after the other.
    pending: Option<Pending>,
    /// Counts calls, so that the file that was longest without use is closed first, and at which the folder was looked through.
    calls: u64,
    purged_at: u64,
}

#[derive(Debug)]
struct Slots {
    file: File,
    symbols: u32,
    symbol_len: usize,
    used: u64,
}

#[derive(Debug)]
struct Pending {
    block: BlockId,
    first: u32,
    count: u32,
    /// What is hashed of each: block, number, symbol.
    bytes: Vec<u8>,
}

impl SymbolFiles {
    /// The symbols in `folder`, which is made when missing. One process uses it at a time. What is too old or too much goes.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folders(folder, PRIVATE)?;
        let files = Self { folder: folder.to_owned(), open: BTreeMap::new(), pending: None, calls: 0, purged_at: 0 };
        files.purge(KEPT_FOR, KEPT_LEN_MAX)?;
        Ok(files)
    }

    fn path(&self, block: BlockId) -> PathBuf {
        self.folder.join(block.to_string())
    }

    fn slots(&self, block: BlockId) -> Result<&Slots, StoreError> {
        self.open.get(&block).ok_or_else(|| StoreError("the block is not open".into()))
    }

    /// Removes what nobody has added to for `age`, and then the oldest, until no more than `len` bytes are there. Blocks that are
    /// open stay.
    fn purge(&self, age: Duration, len: u64) -> io::Result<()> {
        let (mut found, mut sum) = (Vec::new(), 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Ok(meta) = entry.metadata() else { continue };
            // Sparse files count by what they take.
            let taken = rustix::fs::stat(entry.path()).map_or(meta.len(), |stat| stat.st_blocks.unsigned_abs() * 512);
            sum += taken;
            if meta.is_file() && !self.open.keys().any(|block| *block.to_string() == *entry.file_name()) {
                found.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), taken, entry.path()));
            }
        }
        found.sort();
        for (modified, taken, path) in found {
            if sum > len || modified.elapsed().unwrap_or_default() > age {
                // One that stays costs space.
                let _ = std::fs::remove_file(path);
                sum -= taken;
            }
        }
        Ok(())
    }

    /// Writes what is pending.
    fn flush(&mut self) -> Result<(), StoreError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let slots = self.slots(pending.block)?;
        let space = rustix::fs::fstatvfs(&slots.file).map_err(|e| failed(e.into()))?;
        if space.f_blocks > 0 && space.f_bavail.saturating_mul(space.f_frsize) < KEPT_FREE {
            return Err(StoreError("the disk is almost full".into()));
        }
        let hashed: Vec<&[u8]> = pending.bytes.chunks_exact(PREFIX_LEN + slots.symbol_len).collect();
        let mut checks = Vec::with_capacity(hashed.len());
        h16_many(None, &hashed, &mut checks);
        let mut out = Vec::with_capacity(pending.bytes.len());
        for (hashed, check) in hashed.iter().zip(&checks) {
            out.extend_from_slice(&hashed[PREFIX_LEN..]);
            out.extend_from_slice(&check[..CHECK_LEN]);
        }
        let slot_len = slots.symbol_len + CHECK_LEN;
        slots.file.write_all_at(&out, u64::from(pending.first) * slot_len as u64).map_err(failed)
    }
}

impl SymbolStore for SymbolFiles {
    fn open(&mut self, block: BlockId, symbols: usize, symbol_len: usize) -> Result<Vec<u32>, StoreError> {
        let symbols = u32::try_from(symbols).map_err(|_| StoreError("more symbols than any block has".into()))?;
        self.flush()?;
        self.calls += 1;
        if self.calls - self.purged_at >= PURGE_EVERY {
            self.purged_at = self.calls;
            self.purge(KEPT_FOR, KEPT_LEN_MAX).map_err(failed)?;
        }
        if self.open.len() >= OPEN_MAX {
            let oldest = self.open.iter().min_by_key(|(_, slots)| slots.used).map(|(block, _)| *block);
            oldest.and_then(|block| self.open.remove(&block));
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path(block)).map_err(failed)?;
        self.open.insert(block, Slots { file, symbols, symbol_len, used: self.calls });
        let mut held = Vec::new();
        self.symbols(block)?(&mut |number, _| held.push(number))?;
        Ok(held)
    }

    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        let follows = |p: &Pending| p.block == block && p.first + p.count == number && p.count < PENDING_MAX;
        if self.pending.as_ref().is_some_and(|pending| !follows(pending)) {
            self.flush()?;
        }
        self.calls += 1;
        let calls = self.calls;
        let slots = self.open.get_mut(&block).ok_or_else(|| StoreError("the block is not open".into()))?;
        if number >= slots.symbols || symbol.len() != slots.symbol_len {
            return Err(StoreError("a symbol that the block does not have".into()));
        }
        slots.used = calls;
        let pending = self.pending.get_or_insert_with(|| Pending { block, first: number, count: 0, bytes: Vec::new() });
        pending.count += 1;
        pending.bytes.extend_from_slice(&block.0);
        pending.bytes.extend_from_slice(&number.to_le_bytes());
        pending.bytes.extend_from_slice(symbol);
        Ok(())
    }

    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError> {
        self.flush()?;
        let Slots { file, symbols, symbol_len, .. } = self.slots(block)?;
        let (file, symbols, symbol_len) = (file.try_clone().map_err(failed)?, *symbols, *symbol_len);
        Ok(Box::new(move |show| read(&file, block, symbols, symbol_len, show)))
    }

    fn remove(&mut self, block: BlockId) {
        self.pending.take_if(|pending| pending.block == block);
        self.open.remove(&block);
        // One that stays costs space, and is used again if the block comes again.
        let _ = std::fs::remove_file(self.path(block));
    }
}

impl Drop for SymbolFiles {
    fn drop(&mut self) {
        // What is lost is sent again.
        let _ = self.flush();
    }
}

/// Shows the symbols of a file whose checks are right.
fn read(
    file: &File,
    block: BlockId,
    symbols: u32,
    symbol_len: usize,
    show: &mut dyn FnMut(u32, &[u8]),
) -> Result<(), StoreError> {
    let slot_len = symbol_len + CHECK_LEN;
    let mut buffer = vec![0; (READ_LEN / slot_len).max(1) * slot_len];
    let (mut number, mut at) = (0, 0);
    let (mut hashed, mut checks) = (Vec::with_capacity(buffer.len() * 2), Vec::new());
    while number < symbols {
        let read = read_up_to(file, at, &mut buffer).map_err(failed)?;
        let slots = || buffer[..read].chunks_exact(slot_len).zip(number..symbols);
        hashed.clear();
        checks.clear();
        for (slot, number) in slots() {
            hashed.extend_from_slice(&block.0);
            hashed.extend_from_slice(&number.to_le_bytes());
            hashed.extend_from_slice(&slot[..symbol_len]);
        }
        h16_many(None, &hashed.chunks_exact(PREFIX_LEN + symbol_len).collect::<Vec<_>>(), &mut checks);
        for ((slot, number), check) in slots().zip(&checks) {
            let (symbol, stored) = slot.split_at(symbol_len);
            if check[..CHECK_LEN] == *stored {
                show(number, symbol);
            }
        }
        number += u32::try_from(checks.len()).unwrap_or(u32::MAX);
        if read < buffer.len() {
            break;
        }
        at += read as u64;
    }
    Ok(())
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

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn failed(e: io::Error) -> StoreError {
    StoreError(plain(&e.to_string()))
}

const CHECK_LEN: usize = 8;
/// What is hashed before the symbol: block and number.
const PREFIX_LEN: usize = 16 + 4;
/// Bytes read at a time.
const READ_LEN: usize = 256 << 10;
/// Symbols written at a time: as many as a kill may cost, half a hundredth of an 8 MiB block.
const PENDING_MAX: u32 = 32;
/// What the folder leaves to others: without room for its counters a link cannot go on.
const KEPT_FREE: u64 = 4 << 20;
/// Files open at a time.
const OPEN_MAX: usize = 256;
/// The folder is looked through once in so many calls.
const PURGE_EVERY: u64 = 1 << 20;
/// Symbols nobody has added to for so long are those of a block that does not come any more: longer than a lunar night.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes the folder may take when it is looked through: beyond, the oldest go.
const KEPT_LEN_MAX: u64 = 16 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(store: &mut SymbolFiles, block: BlockId) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        store.symbols(block).unwrap()(&mut |n, s| out.push((n, s.to_vec()))).unwrap();
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

        drop(store);
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

    #[test]
    fn a_kill_costs_no_more_than_what_is_pending() {
        let dir = tempfile::tempdir().unwrap();
        let block = BlockId([1; 16]);
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        assert_eq!(SymbolStore::open(&mut store, block, 3000, 1436), Ok(vec![]));
        (0..100).for_each(|n| store.put(block, n, &[n as u8; 1436]).unwrap());
        // Killed: nothing is flushed.
        std::mem::forget(store);
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        assert_eq!(SymbolStore::open(&mut store, block, 3000, 1436), Ok((0..96).collect()));
        assert_eq!(held(&mut store, block)[95], (95, vec![95; 1436]));
    }

    #[test]
    fn old_symbols_and_those_beyond_the_limit_go_and_open_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        let now = SystemTime::now();
        for n in 1..=5u8 {
            let block = BlockId([n; 16]);
            SymbolStore::open(&mut store, block, 100, 1000).unwrap();
            (0..100).for_each(|i| store.put(block, i, &[n; 1000]).unwrap());
            store.flush().unwrap();
            let days = Duration::from_secs(24 * 3600 * u64::from(10 - n));
            store.open[&block].file.set_modified(now - days).unwrap();
            if n != 2 {
                store.open.remove(&block);
            }
        }
        let there =
            || (1..=5u8).filter(|n| dir.path().join(BlockId([*n; 16]).to_string()).exists()).collect::<Vec<_>>();
        store.purge(Duration::from_secs(3600 * (24 * 7 + 1)), u64::MAX).unwrap();
        assert_eq!(there(), [2, 3, 4, 5], "the first is nine days old; the second is open");
        store.purge(Duration::MAX, 250_000).unwrap();
        assert_eq!(there(), [2, 5]);
    }

    #[test]
    fn no_more_files_are_open_than_the_limit_says() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        let block = |n: usize| BlockId((n as u128).to_be_bytes());
        for n in 0..=OPEN_MAX {
            SymbolStore::open(&mut store, block(n), 2, 10).unwrap();
            store.put(block(n), 1, &[3; 10]).unwrap();
        }
        assert_eq!(store.open.len(), OPEN_MAX);
        assert!(store.put(block(0), 0, &[3; 10]).is_err(), "it must be opened again");
        assert_eq!(SymbolStore::open(&mut store, block(0), 2, 10), Ok(vec![1]));
    }
}
