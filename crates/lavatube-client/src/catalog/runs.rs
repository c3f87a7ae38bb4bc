//! The sorted runs of a catalog: written once, searched page by page, merged so that there are few. Step 3 of the walk.
//!
//! In memory one 8-byte key per page of 102 records: a look-up is one small read per run. A page is believed only with
//! its check: a record that rotted would send a reader to a wrong place, and what is whole would be called lost. It must
//! not know what becomes of a run that is damaged.

use std::cmp::Reverse;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use lavatube_base::ChunkId;
use lavatube_format::Malformed;
use lavatube_format::catalog::{
    PAGE_LEN, PAGE_RECORDS, Place, RECORD_LEN, Record, RunHeader, check_page, page_records, seal_page,
};

use super::{CatalogError, FOLDER, damaged};
use crate::state::{NewFile, State, StateError, read_exact};

/// All runs, the oldest first.
pub(super) struct Runs {
    list: Vec<Run>,
    next: u64,
}

/// One sorted run.
struct Run {
    name: String,
    number: u64,
    header: RunHeader,
    /// First eight bytes of the first id of each page.
    pages: Vec<u64>,
    /// Which pages were checked by a look-up.
    checked: Vec<AtomicBool>,
}

impl Runs {
    /// No runs; those to come are numbered from `next`.
    pub(super) fn new(next: u64) -> Self {
        Self { list: Vec::new(), next }
    }

    /// Opens the run in file `name`, if that is the name of one, after all that were opened before.
    pub(super) fn open(&mut self, state: &dyn State, name: &str) -> Result<(), CatalogError> {
        let number = name.strip_prefix(FOLDER).and_then(|n| n.strip_suffix(".run")).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            self.next = self.next.max(number + 1);
            self.list.push(Run::open(state, name, number)?);
            self.list.sort_by_key(|r| r.number);
        }
        Ok(())
    }

    /// Where chunk `id` lies: `most` places at most, the newest first.
    pub(super) fn find(&self, state: &dyn State, id: &ChunkId, most: usize) -> Result<Vec<Place>, CatalogError> {
        let mut out = Vec::new();
        for run in self.list.iter().rev() {
            run.find(state, id, most, &mut out)?;
            if out.len() == most {
                break;
            }
        }
        Ok(out)
    }

    /// Number of records.
    pub(super) fn records(&self) -> u64 {
        self.list.iter().map(|r| r.header.records).sum()
    }

    /// Rows a pack table must have for all records to point into it.
    pub(super) fn packs(&self) -> u32 {
        self.list.iter().map(|r| r.header.packs).max().unwrap_or(0)
    }

    /// Number of the next run.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Names of their files.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|r| &r.name[..])
    }

    /// Forgets the run in file `name`; the file stays.
    pub(super) fn forget(&mut self, name: &str) {
        self.list.retain(|r| r.name != name);
    }

    /// Writes `records`, which come in any order, as a new run.
    ///
    /// # Errors
    /// When it cannot be written; nothing has changed then.
    pub(super) fn put(&mut self, state: &dyn State, mut records: Vec<Record>) -> Result<(), CatalogError> {
        if records.is_empty() {
            return Ok(());
        }
        // Of one chunk's places the newest comes first: packs are numbered in the order in which they come.
        records.sort_unstable_by_key(|r| (r.id, Reverse(r.place.pack)));
        records.dedup_by_key(|r| (r.id, r.place.pack));
        let packs = records.iter().map(|r| r.place.pack.saturating_add(1)).max().unwrap_or(0);
        let mut new = RunWriter::create(state, self.next, RunHeader { records: records.len() as u64, packs })?;
        for record in &records {
            new.put(&record.encode())?;
        }
        self.commit(new)
    }

    /// Merges runs of like size, the newest first.
    ///
    /// # Errors
    /// When a run cannot be written, or one of those to be merged is damaged: the error names it, and both are still there.
    pub(super) fn merge(&mut self, state: &dyn State) -> Result<(), CatalogError> {
        while let [.., older, newer] = &self.list[..]
            && older.header.records <= newer.header.records * 2
        {
            self.merge_last_two(state)?;
        }
        Ok(())
    }

    fn merge_last_two(&mut self, state: &dyn State) -> Result<(), CatalogError> {
        let [.., a, b] = &self.list[..] else { return Ok(()) };
        let old = [a.name.clone(), b.name.clone()];
        let (records, packs) = (a.header.records + b.header.records, a.header.packs.max(b.header.packs));
        let mut new = RunWriter::create(state, self.next, RunHeader { records, packs })?;
        let (mut left, mut right) = (RunReader::new(state, a), RunReader::new(state, b));
        loop {
            match (left.peek()?, right.peek()?) {
                (None, None) => break,
                // What the newer run has of a chunk comes before what the older one has.
                (l, Some(r)) if l.is_none_or(|l| r[..24] <= l[..24]) => {
                    new.put(r)?;
                    right.advance();
                }
                (Some(l), _) => {
                    new.put(l)?;
                    left.advance();
                }
                (None, Some(_)) => break,
            }
        }
        self.commit(new)?;
        // The merged run is durable before the two it replaces go; a crash in between leaves the same records twice.
        for name in old {
            state.remove(&name).map_err(StateError::on(&name))?;
            self.forget(&name);
        }
        Ok(())
    }

    fn commit(&mut self, new: RunWriter<'_>) -> Result<(), CatalogError> {
        self.list.push(new.finish()?);
        self.next += 1;
        Ok(())
    }
}

fn key(id: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id[..8]);
    u64::from_be_bytes(first)
}

/// Stored bytes of the first `records` of a run, with the checks of their pages.
fn stored_len(records: u64) -> Option<u64> {
    let checks = records.div_ceil(PAGE_RECORDS as u64).checked_mul((PAGE_LEN - PAGE_RECORDS * RECORD_LEN) as u64)?;
    records.checked_mul(RECORD_LEN as u64)?.checked_add(checks)
}

/// What a page is read into.
type PageBuf = [u8; PAGE_LEN];

impl Run {
    fn new(name: String, number: u64, header: RunHeader, pages: Vec<u64>) -> Self {
        let checked = pages.iter().map(|_| AtomicBool::new(false)).collect();
        Self { name, number, header, pages, checked }
    }

    fn open(state: &dyn State, name: &str, number: u64) -> Result<Self, CatalogError> {
        let fail = |rule| damaged(name)(Malformed { what: "catalog run", at: 0, rule });
        let len = state.len(name).map_err(StateError::on(name))?.unwrap_or(0);
        if len < PAGE_LEN as u64 {
            return Err(fail("shorter than its header"));
        }
        let mut head = [0; PAGE_LEN];
        read_exact(state, name, 0, &mut head)?;
        let header = RunHeader::decode(&head).map_err(damaged(name))?;
        let at = stored_len(header.records).and_then(|n| n.checked_add(PAGE_LEN as u64));
        let keys = header.records.div_ceil(PAGE_RECORDS as u64) * 8;
        let at =
            at.filter(|at| at.checked_add(keys + 32) == Some(len)).ok_or_else(|| fail("not as long as it states"))?;
        let mut tail = vec![0; usize::try_from(len - at).map_err(|_| fail("too long for this machine"))?];
        read_exact(state, name, at, &mut tail)?;
        let (index, digest) = tail.split_at(tail.len() - 32);
        if digest_of(&head, index) != digest {
            return Err(fail("header and keys do not match their digest"));
        }
        let pages = index.chunks_exact(8).map(key).collect();
        Ok(Self::new(name.to_owned(), number, header, pages))
    }

    /// Adds where chunk `id` lies to `out`, until that has `most` places.
    fn find(&self, state: &dyn State, id: &ChunkId, most: usize, out: &mut Vec<Place>) -> Result<(), CatalogError> {
        let want = key(&id.0);
        // The last page that begins below the key, and those after it that begin with the very same eight bytes.
        let first = self.pages.partition_point(|begin| *begin < want).saturating_sub(1);
        let end = self.pages.partition_point(|begin| *begin <= want);
        for page in first..end {
            let mut buf = [0; PAGE_LEN];
            let records = self.records(state, page, &mut buf)?;
            let from = records.partition_point(|r| r[..24] < id.0[..]);
            for record in records[from..].iter().take_while(|r| r[..24] == id.0[..]) {
                let place = Record::decode(record).map_err(damaged(&self.name))?.place;
                // A crash while runs are merged leaves the same records twice.
                if !out.contains(&place) {
                    out.push(place);
                }
                if out.len() == most {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The records of page `page`.
    fn records<'b>(
        &self,
        state: &dyn State,
        page: usize,
        buf: &'b mut PageBuf,
    ) -> Result<&'b [[u8; RECORD_LEN]], CatalogError> {
        let bytes = self.read(state, page as u64, buf)?;
        // Once is enough for a look-up: the check costs twice as much as the read.
        if !self.checked[page].load(Ordering::Relaxed) {
            check_page(page as u64, bytes).map_err(damaged(&self.name))?;
            self.checked[page].store(true, Ordering::Relaxed);
        }
        Ok(page_records(bytes))
    }

    /// Reads page `page`.
    fn read<'b>(&self, state: &dyn State, page: u64, buf: &'b mut PageBuf) -> Result<&'b mut [u8], StateError> {
        let records = (self.header.records - page * PAGE_RECORDS as u64).min(PAGE_RECORDS as u64);
        let len = stored_len(records).and_then(|n| usize::try_from(n).ok()).unwrap_or(PAGE_LEN);
        let buf = &mut buf[..len];
        // The header is as long as a page.
        read_exact(state, &self.name, (page + 1) * PAGE_LEN as u64, buf)?;
        Ok(buf)
    }
}

fn digest_of(head: &PageBuf, index: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(head).update(index).finalize().as_bytes()
}

/// Writes one run, record by record in order.
struct RunWriter<'s> {
    name: String,
    number: u64,
    file: Box<dyn NewFile + 's>,
    header: RunHeader,
    records: u64,
    page: Vec<u8>,
    pages: Vec<u64>,
}

impl<'s> RunWriter<'s> {
    fn create(state: &'s dyn State, number: u64, header: RunHeader) -> Result<Self, CatalogError> {
        let name = format!("{FOLDER}{number:08}.run");
        let file = state.create(&name).map_err(StateError::on(&name))?;
        let page = Vec::with_capacity(PAGE_LEN);
        let mut out = Self { name, number, file, header, records: 0, page, pages: Vec::new() };
        out.write(&header.encode())?;
        Ok(out)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CatalogError> {
        Ok(self.file.write_all(bytes).map_err(StateError::on(&self.name))?)
    }

    fn put(&mut self, record: &[u8; RECORD_LEN]) -> Result<(), CatalogError> {
        match self.page.last_chunk::<RECORD_LEN>() {
            None => self.pages.push(key(record)),
            Some(last) => debug_assert!(last[..24] <= record[..24], "records come in order"),
        }
        self.page.extend_from_slice(record);
        self.records += 1;
        if self.page.len() == PAGE_RECORDS * RECORD_LEN { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<(), CatalogError> {
        let mut page = std::mem::take(&mut self.page);
        seal_page(self.pages.len() as u64 - 1, &mut page);
        self.write(&page)?;
        page.clear();
        self.page = page;
        Ok(())
    }

    fn finish(mut self) -> Result<Run, CatalogError> {
        assert_eq!(self.records, self.header.records, "a run holds as many records as it states");
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let index: Vec<u8> = self.pages.iter().flat_map(|p| p.to_be_bytes()).collect();
        let digest = digest_of(&self.header.encode(), &index);
        self.write(&index)?;
        self.write(&digest)?;
        self.file.commit().map_err(StateError::on(&self.name))?;
        Ok(Run::new(self.name, self.number, self.header, self.pages))
    }
}

/// Reads one run in order.
struct RunReader<'s, 'r> {
    state: &'s dyn State,
    run: &'r Run,
    next: u64,
    page: Vec<[u8; RECORD_LEN]>,
    at: usize,
}

impl<'s, 'r> RunReader<'s, 'r> {
    fn new(state: &'s dyn State, run: &'r Run) -> Self {
        Self { state, run, next: 0, page: Vec::new(), at: 0 }
    }

    fn peek(&mut self) -> Result<Option<&[u8; RECORD_LEN]>, CatalogError> {
        if self.at == self.page.len() && self.next < self.run.pages.len() as u64 {
            let mut buf = [0; PAGE_LEN];
            let bytes = self.run.read(self.state, self.next, &mut buf)?;
            check_page(self.next, bytes).map_err(damaged(&self.run.name))?;
            self.page.clear();
            self.page.extend_from_slice(page_records(bytes));
            self.next += 1;
            self.at = 0;
        }
        Ok(self.page.get(self.at))
    }

    fn advance(&mut self) {
        self.at += 1;
    }
}
