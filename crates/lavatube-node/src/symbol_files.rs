//! `SymbolFiles`: a folder as the link's [`SymbolStore`], so that memory is bounded and a restart goes on where it was.
//! Step 11 of the walk.
//!
//! A file per block, made of slots: a symbol and a check of it. A slot is there when its check is right, so neither a kill
//! nor a power cut can make one up, and nothing has to be synced: what is lost is sent again. What came lately is in memory, too, so
//! that a block that came in one go is not read back; and a file that is done with is used again, because making pages for a new one
//! costs the kernel several times what writing to them does. It must not know codes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lavatube_base::BlockId;
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
    /// Files of blocks that are done with, for the next ones. What is in their slots is of other blocks, so that no check is right.
    spares: Vec<(PathBuf, File)>,
    spares_made: u64,
    /// Times that something was written since the disk was last seen to have room.
    unlooked: u32,
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
    /// All that is written, while all of it came in this life and there is room.
    recent: Option<Vec<Run>>,
}

/// Symbols of a block, one after the other.
#[derive(Debug)]
struct Run {
    first: u32,
    /// As in the file: each with its check.
    slots: Vec<u8>,
}

#[derive(Debug)]
struct Pending {
    block: BlockId,
    count: u32,
    run: Run,
}

impl SymbolFiles {
    /// The symbols in `folder`, which is made when missing. One process uses it at a time. What is too old or too much goes.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(folder: &Path) -> io::Result<Self> {
        make_folders(folder, PRIVATE)?;
        let files = Self {
            folder: folder.to_owned(),
            open: BTreeMap::new(),
            pending: None,
            spares: Vec::new(),
            spares_made: 0,
            unlooked: LOOK_EVERY,
            calls: 0,
            purged_at: 0,
        };
        files.purge(KEPT_FOR, KEPT_LEN_MAX)?;
        Ok(files)
    }

    fn path(&self, block: BlockId) -> PathBuf {
        self.folder.join(block.to_string())
    }

    /// Removes what nobody has added to for `age`, and then the oldest, until no more than `len` bytes are there. Blocks that are
    /// open stay.
    fn purge(&self, age: Duration, len: u64) -> io::Result<()> {
        let (mut found, mut sum) = (Vec::new(), 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SPARE) {
                if !self.spares.iter().any(|(path, _)| *path == entry.path()) {
                    // Of an earlier life.
                    let _ = std::fs::remove_file(entry.path());
                }
                continue;
            }
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
        self.look_for_room()?;
        let Pending { block, mut run, .. } = pending;
        let slots = self.open.get_mut(&block).ok_or_else(not_open)?;
        let (slot_len, check) = (slots.symbol_len + CHECK_LEN, check_of(block));
        for (slot, number) in run.slots.chunks_exact_mut(slot_len).zip(run.first..) {
            let (symbol, to) = slot.split_at_mut(slots.symbol_len);
            to.copy_from_slice(&check(number, symbol));
        }
        slots.file.write_all_at(&run.slots, u64::from(run.first) * slot_len as u64).map_err(failed)?;
        if let Some(recent) = &mut slots.recent {
            run.slots.shrink_to_fit();
            recent.push(run);
        }
        Ok(())
    }

    /// That the disk has room for more symbols. Asking costs as much as writing some, so it is asked once in a while: less than
    /// [`KEPT_FREE`] is written in between.
    fn look_for_room(&mut self) -> Result<(), StoreError> {
        self.unlooked += 1;
        if self.unlooked < LOOK_EVERY {
            return Ok(());
        }
        if !has_room(&self.folder)? {
            // Nothing is kept for later where there is no room for what is there now.
            self.spares.drain(..).for_each(|(path, _)| drop(std::fs::remove_file(path)));
            if !has_room(&self.folder)? {
                return Err(StoreError("the disk is almost full".into()));
            }
        }
        self.unlooked = 0;
        Ok(())
    }

    /// The file of a block, and whether it may have symbols of it.
    fn file(&mut self, block: BlockId) -> io::Result<(File, bool)> {
        let (path, mut options) = (self.path(block), OpenOptions::new());
        let options = options.read(true).write(true).mode(0o600);
        match options.open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            there => return there.map(|file| (file, true)),
        }
        while let Some((spare, file)) = self.spares.pop() {
            if std::fs::rename(spare, &path).is_ok() {
                return Ok((file, false));
            }
        }
        options.create(true).truncate(false).open(&path).map(|file| (file, false))
    }

    /// Keeps in memory no more than there is room for: what was longest without use goes.
    fn make_room(&mut self) {
        let len = |slots: &Slots| slots.recent.iter().flatten().map(|run| run.slots.len()).sum::<usize>();
        while self.open.values().map(len).sum::<usize>() > RECENT_LEN_MAX {
            let held = self.open.values_mut().filter(|slots| slots.recent.is_some());
            let Some(oldest) = held.min_by_key(|slots| slots.used) else { return };
            oldest.recent = None;
        }
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
        let (file, is_known) = self.file(block).map_err(failed)?;
        let mut held = Vec::new();
        if is_known {
            read(&file, block, symbols, symbol_len, &mut |number, _| held.push(number))?;
        }
        let recent = held.is_empty().then(Vec::new);
        self.open.insert(block, Slots { file, symbols, symbol_len, used: self.calls, recent });
        Ok(held)
    }

    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        let follows = |p: &Pending| p.block == block && p.run.first + p.count == number && p.count < PENDING_MAX;
        if self.pending.as_ref().is_some_and(|pending| !follows(pending)) {
            self.flush()?;
        }
        self.calls += 1;
        let calls = self.calls;
        let slots = self.open.get_mut(&block).ok_or_else(not_open)?;
        if number >= slots.symbols || symbol.len() != slots.symbol_len {
            return Err(StoreError("a symbol that the block does not have".into()));
        }
        slots.used = calls;
        let room = (symbol.len() + CHECK_LEN) * PENDING_MAX as usize;
        let run = || Run { first: number, slots: Vec::with_capacity(room) };
        let pending = self.pending.get_or_insert_with(|| Pending { block, count: 0, run: run() });
        pending.count += 1;
        pending.run.slots.extend_from_slice(symbol);
        pending.run.slots.extend_from_slice(&[0; CHECK_LEN]);
        if self.calls.is_multiple_of(ROOM_EVERY) {
            self.make_room();
        }
        Ok(())
    }

    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError> {
        self.flush()?;
        let slots = self.open.get_mut(&block).ok_or_else(not_open)?;
        if let Some(recent) = slots.recent.take() {
            let symbol_len = slots.symbol_len;
            return Ok(Box::new(move |show| {
                for run in recent {
                    let slots = run.slots.chunks_exact(symbol_len + CHECK_LEN).zip(run.first..);
                    slots.for_each(|(slot, number)| show(number, &slot[..symbol_len]));
                }
                Ok(())
            }));
        }
        let (file, symbols, symbol_len) = (slots.file.try_clone().map_err(failed)?, slots.symbols, slots.symbol_len);
        Ok(Box::new(move |show| read(&file, block, symbols, symbol_len, show)))
    }

    fn remove(&mut self, block: BlockId) {
        self.pending.take_if(|pending| pending.block == block);
        let (path, slots) = (self.path(block), self.open.remove(&block));
        let fits = |file: &File| file.metadata().is_ok_and(|meta| meta.len() <= SPARE_LEN_MAX);
        if let Some(Slots { file, .. }) = slots.filter(|slots| self.spares.len() < SPARES_MAX && fits(&slots.file)) {
            self.spares_made += 1;
            let spare = self.folder.join(format!("{SPARE}{}", self.spares_made));
            if std::fs::rename(&path, &spare).is_ok() {
                self.spares.push((spare, file));
                return;
            }
        }
        // One that stays costs space, and is used again if the block comes again.
        let _ = std::fs::remove_file(path);
    }
}

impl Drop for SymbolFiles {
    fn drop(&mut self) {
        // What is lost is sent again.
        let _ = self.flush();
    }
}

/// Whether the disk has room for more symbols.
fn has_room(folder: &Path) -> Result<bool, StoreError> {
    let space = rustix::fs::statvfs(folder).map_err(|e| failed(e.into()))?;
    Ok(space.f_blocks == 0 || space.f_bavail.saturating_mul(space.f_frsize) >= KEPT_FREE)
}

/// Shows the symbols of a file whose checks are right.
fn read(
    file: &File,
    block: BlockId,
    symbols: u32,
    symbol_len: usize,
    show: &mut dyn FnMut(u32, &[u8]),
) -> Result<(), StoreError> {
    let (slot_len, check) = (symbol_len + CHECK_LEN, check_of(block));
    let mut slots = vec![0; (READ_LEN / slot_len).max(1) * slot_len];
    let (mut first, mut at) = (0, 0);
    while first < symbols {
        let len = read_up_to(file, at, &mut slots).map_err(failed)?;
        for (slot, number) in slots[..len].chunks_exact(slot_len).zip(first..symbols) {
            let (symbol, stored) = slot.split_at(symbol_len);
            if *stored == check(number, symbol) {
                show(number, symbol);
            }
        }
        if len < slots.len() {
            break;
        }
        first += u32::try_from(len / slot_len).unwrap_or(u32::MAX);
        at += len as u64;
    }
    Ok(())
}

/// The check of a symbol of `block` with a number: against accidents alone, since the block's id says whether all of them are
/// right, and as cheap as it can be, since each symbol has one.
fn check_of(block: BlockId) -> impl Fn(u32, &[u8]) -> [u8; CHECK_LEN] {
    let mut begun = crc32fast::Hasher::new();
    begun.update(&block.0);
    let [a, b, c, d, ..] = block.0;
    move |number, symbol| {
        let mut crc = begun.clone();
        crc.update(&number.to_le_bytes());
        crc.update(symbol);
        let [w, x, y, z] = crc.finalize().to_le_bytes();
        [w, x, y, z, a, b, c, d]
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

fn not_open() -> StoreError {
    StoreError("the block is not open".into())
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn failed(e: io::Error) -> StoreError {
    StoreError(plain(&e.to_string()))
}

const CHECK_LEN: usize = 8;
/// Bytes read at a time.
const READ_LEN: usize = 256 << 10;
/// Symbols written at a time: as many as a kill may cost, half a hundredth of an 8 MiB block.
const PENDING_MAX: u32 = 32;
/// What the folder leaves to others: without room for its counters a link cannot go on.
const KEPT_FREE: u64 = 4 << 20;
/// Room is looked for once in so many times that something is written, each at most [`PENDING_MAX`] symbols.
const LOOK_EVERY: u32 = 16;
/// Bytes of symbols kept in memory, too: two packs, so that a receiver with one that is being rebuilt stays within its share.
const RECENT_LEN_MAX: usize = 17 << 20;
/// That is looked at once in so many calls.
const ROOM_EVERY: u64 = 64;
/// Files kept for blocks to come: their names, how many, and how long each may be.
const SPARE: &str = "spare-";
const SPARES_MAX: usize = 4;
const SPARE_LEN_MAX: u64 = 16 << 20;
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
    fn a_file_that_is_used_again_holds_nothing_of_the_block_before() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (BlockId([1; 16]), BlockId([2; 16]));
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        assert_eq!(SymbolStore::open(&mut store, one, 100, 1436), Ok(vec![]));
        (0..100).for_each(|n| store.put(one, n, &[n as u8; 1436]).unwrap());
        assert_eq!(held(&mut store, one).len(), 100);
        store.remove(one);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the file is kept");
        assert_eq!(SymbolStore::open(&mut store, two, 100, 1436), Ok(vec![]));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "and used");
        store.put(two, 7, &[9; 1436]).unwrap();
        // From memory, and then from the disk.
        assert_eq!(held(&mut store, two), [(7, vec![9; 1436])]);
        assert_eq!(held(&mut store, two), [(7, vec![9; 1436])]);
        store.remove(two);
        drop(store);
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no longer than a life");
        assert_eq!(SymbolStore::open(&mut store, two, 100, 1436), Ok(vec![]));
    }

    #[test]
    fn what_there_is_no_room_for_in_memory_is_read_from_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        let (block, count) = (|n: u8| BlockId([n; 16]), 8 << 10);
        for n in 1..=3 {
            SymbolStore::open(&mut store, block(n), count, 1024).unwrap();
            (0..count as u32).for_each(|i| store.put(block(n), i, &[n; 1024]).unwrap());
        }
        let in_memory = |store: &SymbolFiles, n| store.open[&block(n)].recent.is_some();
        assert!(!in_memory(&store, 1) && in_memory(&store, 2) && in_memory(&store, 3));
        for n in 1..=3 {
            let held = held(&mut store, block(n));
            assert!(held.len() == count && held.iter().all(|(_, symbol)| symbol == &[n; 1024]));
        }
        // One that is held in part from before is not in memory.
        drop(store);
        let mut store = SymbolFiles::open(dir.path()).unwrap();
        assert_eq!(SymbolStore::open(&mut store, block(1), count, 1024).unwrap().len(), count);
        assert!(!in_memory(&store, 1));
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
