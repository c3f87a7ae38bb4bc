//! Catalog runs: chunk id → where the chunk lies, sorted and immutable on disk (FORMAT section 9).
//!
//! One record of 40 bytes a chunk, found with one read thanks to a sparse index that costs less than a byte a chunk in
//! memory. This file draws the record; it must not know how runs are merged or looked up.

use lavatube_base::limits::CHUNK_LEN_MAX;
use lavatube_base::{ChunkId, ObjectId, SessionId};

use crate::pack::Method;
use crate::wire::{Malformed, Reader};

/// Bytes of one record of a run.
pub const RECORD_LEN: usize = 40;
/// First eight bytes of a run.
pub const MAGIC: &[u8; 8] = b"LVTCATA\x01";
/// Bytes before the first record: magic and number of records.
pub const RUN_HEADER_LEN: usize = 16;
/// Bytes of one record of the pack table.
pub const PACK_LEN: usize = 64;

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
        out
    }

    /// Reads a row.
    ///
    /// # Errors
    /// [`Malformed`] when it is not 64 bytes long or its class is unknown.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("pack table", bytes);
        let id = ObjectId(r.array()?);
        let class = r.u8()?;
        r.ensure(class < lavatube_base::limits::PACK_CLASSES, "no such size class")?;
        let out = Self { id, class, session: SessionId(r.array()?), number: r.u32()? };
        r.reserved(PACK_LEN - 53)?;
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
}
