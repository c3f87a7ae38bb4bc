//! Catalog runs: chunk id → where the chunk lies, sorted and immutable on disk (FORMAT section 9).
//!
//! One record of 40 bytes a chunk, found with one read thanks to a sparse index that costs less than a byte a chunk in
//! memory. Header, pages and rows carry checks: a wrong place would be taken for data that are lost. This file draws
//! the pieces; it must not know how runs are merged or looked up.

use lavatube_base::digest::h16;
use lavatube_base::limits::CHUNK_LEN_MAX;
use lavatube_base::{ChunkId, ObjectId, SessionId};

use crate::pack::Method;
use crate::wire::{Malformed, Reader};

/// Bytes of one record of a run.
pub const RECORD_LEN: usize = 40;
/// Records of a full page.
pub const PAGE_RECORDS: usize = 102;
/// Bytes of a full page: what is read at once, and what the header of a run takes too.
pub const PAGE_LEN: usize = 4096;
/// Bytes of one record of the pack table.
pub const PACK_LEN: usize = 64;

const MAGIC: &[u8; 8] = b"LVTCATA\x02";
const CHECK_LEN: usize = 16;
const ROW_CHECK_LEN: usize = 11;
const _: () = assert!(PAGE_RECORDS * RECORD_LEN + CHECK_LEN == PAGE_LEN);

/// What a run says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunHeader {
    /// Number of its records.
    pub records: u64,
    /// All its pack numbers are below this: a shorter table is not the one it was written for.
    pub packs: u32,
}

impl RunHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; PAGE_LEN] {
        let mut out = [0; PAGE_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..20].copy_from_slice(&self.packs.to_le_bytes());
        out
    }

    /// Reads a header. Its check is at the end of the run, over the keys too.
    ///
    /// # Errors
    /// [`Malformed`] when it is not that of a run of this version.
    pub fn decode(bytes: &[u8; PAGE_LEN]) -> Result<Self, Malformed> {
        let mut r = Reader::new("catalog run", bytes);
        let magic: [u8; 8] = r.array()?;
        r.ensure(magic == *MAGIC, "not a catalog run of version 2")?;
        let out = Self { records: r.u64()?, packs: r.u32()? };
        r.reserved(PAGE_LEN - 20)?;
        r.finish()?;
        Ok(out)
    }
}

/// Appends its check to page `number`, which holds records.
pub fn seal_page(number: u64, page: &mut Vec<u8>) {
    page.extend_from_slice(&place_of(number));
    let check = h16(&[page]);
    page.truncate(page.len() - CHECK_LEN);
    page.extend_from_slice(&check);
}

/// Checks that page `number` is what was written there. Its check is overwritten.
///
/// # Errors
/// [`Malformed`] when it is not.
pub fn check_page(number: u64, page: &mut [u8]) -> Result<(), Malformed> {
    let fail = |rule| Malformed { what: "catalog page", at: 0, rule };
    let end = page.last_chunk_mut().ok_or_else(|| fail("shorter than its check"))?;
    let check = std::mem::replace(end, place_of(number));
    if h16(&[page]) == check { Ok(()) } else { Err(fail("check does not match")) }
}

/// The records of a page that was checked, in order.
pub fn page_records(page: &[u8]) -> &[[u8; RECORD_LEN]] {
    page[..page.len().saturating_sub(CHECK_LEN)].as_chunks().0
}

/// What the check of page `number` is made over in its own place: one piece of four KiB is hashed much faster than two.
fn place_of(number: u64) -> [u8; CHECK_LEN] {
    u128::from(number).to_le_bytes()
}

/// Where a chunk lies: everything needed to fetch and cut it, without the pack's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Row of the pack table.
    pub pack: u32,
    /// Position of the frame in the pack's plaintext.
    pub frame_at: u32,
    /// Stored length of the frame.
    pub frame_len: u32,
    /// How the frame is stored.
    pub method: Method,
    /// Position of the chunk's body in the raw frame.
    pub body_at: u32,
    /// Whether the body is a delta.
    pub delta: bool,
}

/// One record of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The chunk.
    pub id: ChunkId,
    /// Where it lies.
    pub place: Place,
}

const LEN_MASK: u32 = (1 << 30) - 1;
const DELTA_BIT: u32 = 1 << 31;
const _: () = assert!(CHUNK_LEN_MAX < LEN_MASK as usize);

impl Record {
    /// The record's bytes.
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let p = &self.place;
        let mut out = [0; RECORD_LEN];
        out[..24].copy_from_slice(&self.id.0);
        out[24..28].copy_from_slice(&p.pack.to_le_bytes());
        out[28..32].copy_from_slice(&p.frame_at.to_le_bytes());
        let method = u32::from(p.method.code()) << 30;
        out[32..36].copy_from_slice(&(p.frame_len & LEN_MASK | method).to_le_bytes());
        let delta = if p.delta { DELTA_BIT } else { 0 };
        out[36..40].copy_from_slice(&(p.body_at & !DELTA_BIT | delta).to_le_bytes());
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Malformed`] when it is not 40 bytes long or names an unknown method.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("catalog record", bytes);
        let id = ChunkId(r.array()?);
        let (pack, frame_at, len, body) = (r.u32()?, r.u32()?, r.u32()?, r.u32()?);
        let code = u8::try_from(len >> 30).unwrap_or(u8::MAX);
        let method = Method::from_code(code).ok_or_else(|| r.fail("unknown method"))?;
        r.finish()?;
        let place = Place {
            pack,
            frame_at,
            frame_len: len & LEN_MASK,
            method,
            body_at: body & !DELTA_BIT,
            delta: body & DELTA_BIT != 0,
        };
        Ok(Self { id, place })
    }
}

/// One row of the pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// The pack.
    pub id: ObjectId,
    /// Its class.
    pub class: u8,
    /// Its session.
    pub session: SessionId,
    /// Its number there.
    pub number: u32,
}

impl PackRow {
    /// The row's bytes.
    pub fn encode(&self) -> [u8; PACK_LEN] {
        let mut out = [0; PACK_LEN];
        out[..32].copy_from_slice(&self.id.0);
        out[32] = self.class;
        out[33..49].copy_from_slice(&self.session.0);
        out[49..53].copy_from_slice(&self.number.to_le_bytes());
        let check = h16(&[&out[..53]]);
        out[53..].copy_from_slice(&check[..ROW_CHECK_LEN]);
        out
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`Malformed`] when it is not 64 bytes long, its check does not match, or its class is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("pack table", bytes);
        let id = ObjectId(r.array()?);
        let class = r.u8()?;
        r.ensure(class < lavatube_base::limits::PACK_CLASSES, "no such size class")?;
        let out = Self { id, class, session: SessionId(r.array()?), number: r.u32()? };
        let check: [u8; ROW_CHECK_LEN] = r.array()?;
        r.ensure(h16(&[&bytes[..53]])[..ROW_CHECK_LEN] == check, "check does not match")?;
        r.finish()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive(id: [u8; 24], pack: u32, frame_at: u32, len in 0u32..1 << 30, body in 0u32..1 << 31, zstd: bool, delta: bool) {
            let method = if zstd { Method::Zstd } else { Method::Raw };
            let place = Place { pack, frame_at, frame_len: len, method, body_at: body, delta };
            let record = Record { id: ChunkId(id), place };
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }

        #[test]
        fn rows_survive(id: [u8; 32], class in 0u8..8, session: [u8; 16], number: u32) {
            let row = PackRow { id: ObjectId(id), class, session: SessionId(session), number };
            prop_assert_eq!(PackRow::decode(&row.encode()), Ok(row));
        }
    }

    #[test]
    fn no_byte_of_a_page_or_a_row_can_change_unnoticed() {
        let place = Place { pack: 1, frame_at: 2, frame_len: 3, method: Method::Raw, body_at: 4, delta: false };
        let records: Vec<[u8; RECORD_LEN]> =
            (0..PAGE_RECORDS as u8).map(|n| Record { id: ChunkId([n; 24]), place }.encode()).collect();
        let mut page = records.concat();
        seal_page(7, &mut page);
        assert_eq!(page.len(), PAGE_LEN);
        assert_eq!(page_records(&page), records);
        let open = |number, page: &[u8]| check_page(number, &mut page.to_vec());
        assert_eq!(open(7, &page), Ok(()));
        assert!(open(8, &page).is_err(), "another page's place");
        let mut row = PackRow { id: ObjectId([6; 32]), class: 6, session: SessionId([7; 16]), number: 8 }.encode();
        for at in 0..PAGE_LEN {
            page[at] ^= 1;
            assert!(open(7, &page).is_err(), "byte {at} of a page");
            page[at] ^= 1;
        }
        for at in 0..PACK_LEN {
            row[at] ^= 1;
            assert!(PackRow::decode(&row).is_err(), "byte {at} of a row");
            row[at] ^= 1;
        }
        assert!(open(7, &page[..15]).is_err());
    }

    #[test]
    fn headers_survive() {
        let header = RunHeader { records: 1 << 40, packs: 9 };
        assert_eq!(RunHeader::decode(&header.encode()), Ok(header));
        let mut old = header.encode();
        old[7] = 1;
        assert!(RunHeader::decode(&old).is_err());
    }
}
