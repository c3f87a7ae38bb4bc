//! The catalog: which chunks the vault has and where (chunk id → pack and range). Step 3 of the walk.
//!
//! Sorted immutable runs on disk, 40 bytes a chunk, and in memory one 8-byte key per page of 102 records: a look-up is
//! one small read per run, and runs are merged so that there are few. It is a cache: it
//! can be filled anew from the packs' own indexes. It must not know what a chunk holds.

use std::io::{self, Write};

use lavatube_base::ChunkId;
use lavatube_format::Malformed;
use lavatube_format::catalog::{MAGIC, PACK_LEN, PackRow, Place, RECORD_LEN, RUN_HEADER_LEN, Record};
use lavatube_format::pack::FrameEntry;

use crate::state::{NewFile, State, StateError, read_all, read_exact};

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Its files failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A file of it is damaged. Rebuilding it from the vault mends it.
    #[error("the catalog file {name} is damaged: {source}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        source: Malformed,
    },
}

const PACKS: &str = "catalog/packs";
/// Records of a page: the unit of one read.
const PAGE_RECORDS: usize = 102;
const PAGE_LEN: usize = PAGE_RECORDS * RECORD_LEN;

/// One sorted run.
struct Run {
    name: String,
    number: u64,
    records: u64,
    /// First eight bytes of the first id of each page.
    pages: Vec<u64>,
}

/// The catalog of one vault.
pub struct Catalog<'s> {
    state: &'s dyn State,
    runs: Vec<Run>,
    packs: Vec<PackRow>,
}

impl<'s> Catalog<'s> {
    /// Opens the catalog in `state`; an absent one is empty.
    ///
    /// # Errors
    /// When its files fail or are damaged.
    pub fn open(state: &'s dyn State) -> Result<Self, CatalogError> {
        let mut runs = Vec::new();
        for name in state.list("catalog/").map_err(StateError::on("catalog/"))? {
            let number =
                name.strip_prefix("catalog/").and_then(|n| n.strip_suffix(".run")).and_then(|n| n.parse().ok());
            if let Some(number) = number {
                runs.push(Run::open(state, name, number)?);
            }
        }
        runs.sort_by_key(|r| r.number);
        let mut packs = Vec::new();
        let table = read_all(state, PACKS, u64::MAX)?.unwrap_or_default();
        // A torn last row is one that nothing refers to yet.
        for row in table.chunks_exact(PACK_LEN) {
            packs.push(PackRow::decode(row).map_err(damaged(PACKS))?);
        }
        if table.len() % PACK_LEN != 0 {
            let whole = &table[..packs.len() * PACK_LEN];
            crate::state::write_all(state, PACKS, whole)?;
        }
        Ok(Self { state, runs, packs })
    }

    /// Where chunk `id` lies, if the vault has it.
    ///
    /// # Errors
    /// When a run cannot be read.
    pub fn find(&self, id: &ChunkId) -> Result<Option<Place>, CatalogError> {
        for run in self.runs.iter().rev() {
            if let Some(place) = run.find(self.state, id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Row `pack` of the pack table.
    pub fn pack(&self, pack: u32) -> Option<&PackRow> {
        self.packs.get(usize::try_from(pack).ok()?)
    }

    /// All packs, in the order of their rows.
    pub fn packs(&self) -> &[PackRow] {
        &self.packs
    }

    /// Number of records (a chunk that was stored twice counts twice).
    pub fn chunks(&self) -> u64 {
        self.runs.iter().map(|r| r.records).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.packs.is_empty()
    }

    /// Adds rows for packs and returns the number of the first.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub fn add_packs(&mut self, rows: &[PackRow]) -> Result<u32, CatalogError> {
        let first = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        let bytes: Vec<u8> = rows.iter().flat_map(PackRow::encode).collect();
        self.state.append(PACKS, &bytes).map_err(StateError::on(PACKS))?;
        self.packs.extend_from_slice(rows);
        Ok(first)
    }

    /// Adds records in any order as a new run, and merges runs of like size.
    ///
    /// # Errors
    /// When a run cannot be written; the catalog is as before then.
    pub fn add_records(&mut self, mut records: Vec<Record>) -> Result<(), CatalogError> {
        if records.is_empty() {
            return Ok(());
        }
        records.sort_unstable_by_key(|r| r.id);
        records.dedup_by_key(|r| r.id);
        let number = self.runs.last().map_or(1, |r| r.number + 1);
        let mut new = RunWriter::create(self.state, number, records.len() as u64)?;
        for record in &records {
            new.put(&record.encode())?;
        }
        self.runs.push(new.finish()?);
        drop(records);
        while let [.., older, newer] = &self.runs[..]
            && older.records <= newer.records * 2
        {
            self.merge_last_two()?;
        }
        Ok(())
    }

    /// Forgets everything, before a rebuild.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn clear(&mut self) -> Result<(), CatalogError> {
        for run in self.runs.drain(..) {
            self.state.remove(&run.name).map_err(StateError::on(&run.name))?;
        }
        self.packs.clear();
        self.state.remove(PACKS).map_err(StateError::on(PACKS))?;
        Ok(())
    }

    fn merge_last_two(&mut self) -> Result<(), CatalogError> {
        let [.., a, b] = &self.runs[..] else { return Ok(()) };
        let mut new = RunWriter::create(self.state, b.number + 1, a.records + b.records)?;
        let (mut left, mut right) = (RunReader::new(self.state, a), RunReader::new(self.state, b));
        loop {
            match (left.peek()?, right.peek()?) {
                (None, None) => break,
                (Some(l), r) if r.is_none_or(|r| l[..24] <= r[..24]) => {
                    new.put(l)?;
                    left.advance();
                }
                (_, Some(r)) => {
                    new.put(r)?;
                    right.advance();
                }
                (Some(_), None) => break,
            }
        }
        let merged = new.finish()?;
        // The merged run is durable before the two it replaces go; a crash in between leaves the same records twice.
        for old in self.runs.split_off(self.runs.len() - 2) {
            self.state.remove(&old.name).map_err(StateError::on(&old.name))?;
        }
        self.runs.push(merged);
        Ok(())
    }
}

/// Removes all files of a catalog that cannot be opened any more.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget(state: &dyn State) -> Result<(), StateError> {
    for name in state.list("catalog/").map_err(StateError::on("catalog/"))? {
        state.remove(&name).map_err(StateError::on(&name))?;
    }
    Ok(())
}

/// The catalog records of a pack's index. `pack` is the pack's row.
pub fn records_of(pack: u32, frames: &[FrameEntry]) -> Vec<Record> {
    let mut out = Vec::with_capacity(frames.iter().map(|f| f.chunks.len()).sum());
    let mut frame_at = 0u32;
    // Positions in a pack fit 32 bits: `base::limits` bounds packs, and the index reader bounds frames by their pack.
    let word = |v: usize| u32::try_from(v).unwrap_or(u32::MAX);
    for frame in frames {
        let mut body_at = 0u32;
        for chunk in &frame.chunks {
            let place = Place {
                pack,
                frame_at,
                frame_len: word(frame.stored_len),
                method: frame.method,
                body_at,
                delta: chunk.delta.is_some(),
            };
            out.push(Record { id: chunk.id, place });
            body_at = body_at.saturating_add(word(chunk.body_len));
        }
        frame_at = frame_at.saturating_add(word(frame.stored_len));
    }
    out
}

fn damaged(name: &str) -> impl Fn(Malformed) -> CatalogError {
    let name = name.to_owned();
    move |source| CatalogError::Damaged { name: name.clone(), source }
}

fn key(id: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id[..8]);
    u64::from_be_bytes(first)
}

impl Run {
    fn open(state: &dyn State, name: String, number: u64) -> Result<Self, CatalogError> {
        let fail =
            |rule| CatalogError::Damaged { name: name.clone(), source: Malformed { what: "catalog run", at: 0, rule } };
        let len = state.len(&name).map_err(StateError::on(&name))?.unwrap_or(0);
        let mut head = [0; RUN_HEADER_LEN];
        read_exact(state, &name, 0, &mut head)?;
        let mut count = [0; 8];
        count.copy_from_slice(&head[8..]);
        let records = u64::from_le_bytes(count);
        let pages = records.div_ceil(PAGE_RECORDS as u64);
        let want = records.checked_mul(RECORD_LEN as u64).and_then(|n| n.checked_add(RUN_HEADER_LEN as u64 + 32));
        if &head[..8] != MAGIC || want.and_then(|w| w.checked_add(pages * 8)) != Some(len) {
            return Err(fail("not a catalog run of version 1 with the length it states"));
        }
        let at = RUN_HEADER_LEN as u64 + records * RECORD_LEN as u64;
        let mut tail = vec![0; usize::try_from(len - at).map_err(|_| fail("too long for this machine"))?];
        read_exact(state, &name, at, &mut tail)?;
        let (index, digest) = tail.split_at(tail.len() - 32);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head).update(index);
        if hasher.finalize().as_bytes() != digest {
            return Err(fail("its page index does not match its digest"));
        }
        Ok(Self { name, number, records, pages: index.chunks_exact(8).map(key).collect() })
    }

    fn find(&self, state: &dyn State, id: &ChunkId) -> Result<Option<Place>, CatalogError> {
        let want = key(&id.0);
        // The last page that begins at or below the key, and those before it that begin with the very same eight bytes.
        let mut page = self.pages.partition_point(|first| *first <= want);
        while page > 0 {
            page -= 1;
            if let Some(record) = self.find_in_page(state, page, id)? {
                return Ok(Some(record.place));
            }
            if self.pages[page] < want {
                break;
            }
        }
        Ok(None)
    }

    fn find_in_page(&self, state: &dyn State, page: usize, id: &ChunkId) -> Result<Option<Record>, CatalogError> {
        let at = page as u64 * PAGE_LEN as u64;
        let len = (self.records * RECORD_LEN as u64 - at).min(PAGE_LEN as u64);
        let mut buf = [0; PAGE_LEN];
        let buf = &mut buf[..usize::try_from(len).unwrap_or(PAGE_LEN)];
        read_exact(state, &self.name, RUN_HEADER_LEN as u64 + at, buf)?;
        let (records, _) = buf.as_chunks::<RECORD_LEN>();
        match records.binary_search_by(|r| r[..24].cmp(&id.0[..])) {
            Ok(i) => Record::decode(&records[i]).map(Some).map_err(damaged(&self.name)),
            Err(_) => Ok(None),
        }
    }
}

/// Writes one run, record by record in order.
struct RunWriter<'s> {
    name: String,
    number: u64,
    file: io::BufWriter<Box<dyn NewFile + 's>>,
    expected: u64,
    records: u64,
    pages: Vec<u64>,
    last: Option<[u8; 24]>,
}

impl<'s> RunWriter<'s> {
    fn create(state: &'s dyn State, number: u64, expected: u64) -> Result<Self, CatalogError> {
        let name = format!("catalog/{number:08}.run");
        let file = state.create(&name).map_err(StateError::on(&name))?;
        let mut out =
            Self { name, number, file: io::BufWriter::new(file), expected, records: 0, pages: Vec::new(), last: None };
        out.write(MAGIC)?;
        out.write(&expected.to_le_bytes())?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CatalogError> {
        Ok(self.file.write_all(bytes).map_err(StateError::on(&self.name))?)
    }

    fn put(&mut self, record: &[u8; RECORD_LEN]) -> Result<(), CatalogError> {
        if self.records.is_multiple_of(PAGE_RECORDS as u64) {
            self.pages.push(key(record));
        }
        self.records += 1;
        let mut id = [0; 24];
        id.copy_from_slice(&record[..24]);
        debug_assert!(self.last.is_none_or(|last| last <= id), "records come in order");
        self.last = Some(id);
        self.write(record)
    }

    fn finish(mut self) -> Result<Run, CatalogError> {
        assert_eq!(self.records, self.expected, "a run holds as many records as it states");
        let index: Vec<u8> = self.pages.iter().flat_map(|p| p.to_be_bytes()).collect();
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC).update(&self.expected.to_le_bytes()).update(&index);
        self.write(&index)?;
        self.write(hasher.finalize().as_bytes())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error);
        file.and_then(NewFile::commit).map_err(StateError::on(&self.name))?;
        Ok(Run { name: self.name, number: self.number, records: self.records, pages: self.pages })
    }
}

/// Reads one run in order.
struct RunReader<'s, 'r> {
    state: &'s dyn State,
    run: &'r Run,
    next: u64,
    buf: Vec<u8>,
    at: usize,
}

impl<'s, 'r> RunReader<'s, 'r> {
    fn new(state: &'s dyn State, run: &'r Run) -> Self {
        Self { state, run, next: 0, buf: Vec::new(), at: 0 }
    }

    fn peek(&mut self) -> Result<Option<&[u8; RECORD_LEN]>, CatalogError> {
        if self.at == self.buf.len() {
            let n = (self.run.records - self.next).min(16 * PAGE_RECORDS as u64);
            self.buf.resize(usize::try_from(n).unwrap_or(0) * RECORD_LEN, 0);
            let offset = RUN_HEADER_LEN as u64 + self.next * RECORD_LEN as u64;
            read_exact(self.state, &self.run.name, offset, &mut self.buf)?;
            self.next += n;
            self.at = 0;
        }
        Ok(self.buf[self.at..].first_chunk())
    }

    fn advance(&mut self) {
        self.at += RECORD_LEN;
    }
}

#[cfg(test)]
mod tests;
