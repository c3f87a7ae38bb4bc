//! Journal records: what the vault stored, in which order, and on which drives.
//!
//! `docs/FORMAT.md` section 6. Each record's check covers the check before it, so that a journal is a chain and the last
//! check stands for all of it; receipts quote it. It must not know drives or which copy is believed. Step 16 of the walk.

use lavatube_base::ObjectId;
use lavatube_base::digest::h16;
use lavatube_base::limits::JOURNAL_BODY_MAX;

use crate::Malformed;
use crate::shard::{Geometry, ObjectKind};
use crate::wire::Reader;

/// The check of a record: the first 16 bytes of a BLAKE3 chain.
pub type Check = [u8; 16];

/// The check before the first record.
pub const FIRST_CHECK: Check = [0; 16];

/// The drive slot that means "this shard is on no drive".
pub const NO_SLOT: u8 = 0xff;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// An object became durable.
    Stored {
        /// What it is.
        kind: ObjectKind,
        /// Its id.
        object: ObjectId,
        /// Its length and code.
        geometry: Geometry,
        /// The stripe's generation, from 1.
        generation: u32,
        /// The drive slot of each shard, [`NO_SLOT`] for a shard that was not written.
        slots: Vec<u8>,
    },
    /// A shard was written to another drive.
    Moved {
        /// What the object is.
        kind: ObjectKind,
        /// Its id.
        object: ObjectId,
        /// The stripe's generation, from 1.
        generation: u32,
        /// The shard.
        index: u8,
        /// Its new drive slot.
        slot: u8,
    },
    /// An object is not kept any more: a release freed it.
    Released {
        /// What the object was.
        kind: ObjectKind,
        /// Its id.
        object: ObjectId,
        /// Number of the release.
        number: u64,
    },
    /// Of a pack is kept only what a remnant has: a release thinned it.
    Thinned {
        /// The pack.
        pack: ObjectId,
        /// The remnant.
        remnant: ObjectId,
        /// Number of the release.
        number: u64,
    },
    /// Of a release nothing is left to be done: its shards are gone from all drives, or it is void.
    Settled {
        /// The release.
        release: ObjectId,
    },
    /// How far the vault has aged.
    Aged {
        /// Which start of its machine is counted from.
        boot: [u8; 16],
        /// How long that had been up, in seconds.
        up_s: u64,
        /// All that was witnessed, in seconds.
        total_s: u64,
    },
    /// A drive is not trusted any more: nothing new is written to it, and it is read last.
    Quarantined {
        /// Its slot.
        slot: u8,
        /// Why.
        why: Distrust,
    },
    /// A drive was read wholly and is trusted again, or an empty one took its place.
    Admitted {
        /// Its slot.
        slot: u8,
    },
    /// What a drive still had of a shard that was moved to another one was removed.
    Cleared {
        /// The object.
        object: ObjectId,
        /// The shard.
        index: u8,
        /// The drive slot it was in before.
        slot: u8,
    },
}

/// Why a drive is not trusted; of several reasons the last in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distrust {
    /// It was away, or put back to an older state, while things were written.
    Away,
    /// It is far slower than the others.
    Slow,
    /// It failed while it was written to.
    Failed,
    /// What it holds was wrong again and again.
    Wrong,
}

impl Distrust {
    /// All, by code from 1.
    pub const ALL: [Self; 4] = [Self::Away, Self::Slow, Self::Failed, Self::Wrong];

    pub(crate) fn code(self) -> u8 {
        Self::ALL.iter().zip(1u8..).find(|(why, _)| **why == self).map_or(0, |(_, code)| code)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// A record in its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its sequence number, from 1.
    pub sequence: u64,
    /// What it says.
    pub record: Record,
    /// Its check.
    pub check: Check,
}

impl Record {
    /// Appends the record to `out` as number `sequence` after a record with check `before`; returns its own check.
    ///
    /// # Panics
    /// When `slots` is not one per shard: a mistake of our caller.
    pub fn encode(&self, sequence: u64, before: &Check, out: &mut Vec<u8>) -> Check {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&sequence.to_le_bytes());
        match self {
            Self::Stored { kind, object, geometry, generation, slots } => {
                assert_eq!(slots.len(), geometry.shards(), "one slot per shard");
                out.extend_from_slice(&[STORED, kind.code()]);
                out.extend_from_slice(&object.0);
                out.extend_from_slice(&(geometry.object_len() as u64).to_le_bytes());
                out.extend_from_slice(&generation.to_le_bytes());
                out.extend_from_slice(&[geometry.k_code(), geometry.m_code()]);
                out.extend_from_slice(slots);
            }
            Self::Moved { kind, object, generation, index, slot } => {
                out.extend_from_slice(&[MOVED, kind.code()]);
                out.extend_from_slice(&object.0);
                out.extend_from_slice(&generation.to_le_bytes());
                out.extend_from_slice(&[*index, *slot]);
            }
            Self::Released { kind, object, number } => {
                out.extend_from_slice(&[RELEASED, kind.code()]);
                out.extend_from_slice(&object.0);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Thinned { pack, remnant, number } => {
                out.extend_from_slice(&[THINNED, ObjectKind::Pack.code()]);
                out.extend_from_slice(&pack.0);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&remnant.0);
            }
            Self::Settled { release } => {
                out.extend_from_slice(&[SETTLED, ObjectKind::Release.code()]);
                out.extend_from_slice(&release.0);
            }
            Self::Aged { boot, up_s, total_s } => {
                out.push(AGED);
                out.extend_from_slice(boot);
                out.extend_from_slice(&up_s.to_le_bytes());
                out.extend_from_slice(&total_s.to_le_bytes());
            }
            Self::Quarantined { slot, why } => out.extend_from_slice(&[QUARANTINED, *slot, why.code()]),
            Self::Admitted { slot } => out.extend_from_slice(&[ADMITTED, *slot]),
            Self::Cleared { object, index, slot } => {
                out.push(CLEARED);
                out.extend_from_slice(&object.0);
                out.extend_from_slice(&[*index, *slot]);
            }
        }
        let body = u32::try_from(out.len() - start - HEAD).expect("bodies are at most JOURNAL_BODY_MAX");
        out[start..start + 4].copy_from_slice(&body.to_le_bytes());
        let check = h16(&[before, &out[start..]]);
        out.extend_from_slice(&check);
        check
    }

    fn decode(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("journal record", body);
        if kind == AGED {
            let aged = Self::Aged { boot: r.array()?, up_s: r.u64()?, total_s: r.u64()? };
            r.finish()?;
            return Ok(aged);
        }
        if let Some(record) = Self::of_a_drive(kind, &mut r)? {
            r.finish()?;
            return Ok(record);
        }
        let code = r.u8()?;
        let object_kind = ObjectKind::from_code(code).ok_or_else(|| r.fail("unknown object kind"))?;
        let object = ObjectId(r.array()?);
        let record = match kind {
            STORED => {
                let (object_len, generation) = (r.u64()?, r.u32()?);
                let geometry = Geometry::new(object_len, r.u8()?, r.u8()?)
                    .ok_or_else(|| r.fail("object length or code beyond its limits"))?;
                let slots = r.take(geometry.shards())?.to_vec();
                Self::Stored { kind: object_kind, object, geometry, generation, slots }
            }
            MOVED => Self::Moved { kind: object_kind, object, generation: r.u32()?, index: r.u8()?, slot: r.u8()? },
            RELEASED => Self::Released { kind: object_kind, object, number: r.u64()? },
            THINNED if object_kind == ObjectKind::Pack => {
                Self::Thinned { pack: object, number: r.u64()?, remnant: ObjectId(r.array()?) }
            }
            SETTLED if object_kind == ObjectKind::Release => Self::Settled { release: object },
            _ => return Err(r.fail("unknown record type")),
        };
        if let Self::Stored { generation, .. } | Self::Moved { generation, .. } = &record {
            r.ensure(*generation >= 1, "generations count from 1")?;
        }
        r.finish()?;
        Ok(record)
    }

    /// A record about a drive, or what one has left.
    fn of_a_drive(kind: u8, r: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        match kind {
            QUARANTINED => {
                let (slot, code) = (r.u8()?, r.u8()?);
                let why = Distrust::from_code(code).ok_or_else(|| r.fail("unknown reason of a quarantine"))?;
                Ok(Some(Self::Quarantined { slot, why }))
            }
            ADMITTED => Ok(Some(Self::Admitted { slot: r.u8()? })),
            CLEARED => Ok(Some(Self::Cleared { object: ObjectId(r.array()?), index: r.u8()?, slot: r.u8()? })),
            _ => Ok(None),
        }
    }
}

impl Line {
    /// Reads the record number `sequence` at the start of `bytes`, where the record before has check `before`; returns it
    /// and its length. What follows it is not looked at.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not that record in that place.
    pub fn decode(bytes: &[u8], sequence: u64, before: &Check) -> Result<(Self, usize), Malformed> {
        let (line, len) = Self::read(bytes, before)?;
        match line.sequence == sequence {
            true => Ok((line, len)),
            false => Err(Malformed { what: "journal", at: 4, rule: "not the expected sequence number" }),
        }
    }

    /// As [`Line::decode`] for a record of which the place in the journal is known, and its number is not.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are no record that follows one with this check.
    pub fn read(bytes: &[u8], before: &Check) -> Result<(Self, usize), Malformed> {
        let mut r = Reader::new("journal", bytes);
        let body_len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        r.ensure(body_len <= JOURNAL_BODY_MAX, "record body longer than the limit")?;
        let sequence = r.u64()?;
        let kind = r.u8()?;
        let body = r.take(body_len)?;
        let covered = &bytes[..r.position()];
        let check: Check = r.array()?;
        r.ensure(h16(&[before, covered]) == check, "the record's check does not match")?;
        Ok((Self { sequence, record: Record::decode(kind, body)?, check }, r.position()))
    }

    /// As [`Line::decode`] for a record in which one byte is wrong: tries every change of one byte, at most a few
    /// thousand short hashes. Only for records with `shards` shards.
    pub fn decode_mended(bytes: &[u8], sequence: u64, before: &Check, shards: usize) -> Option<(Self, usize)> {
        let further =
            [QUARANTINED_BODY, ADMITTED_BODY, CLEARED_BODY, RELEASED_BODY, SETTLED_BODY, AGED_BODY, THINNED_BODY];
        [STORED_BODY + shards, MOVED_BODY].iter().chain(&further).find_map(|&body_len| {
            let len = HEAD + body_len + CHECK;
            let mut trial = bytes.get(..len)?.to_vec();
            // One wrong byte in the check: all else is right, and the chain says what it should be.
            let kept = trial.clone();
            let check = h16(&[before, &kept[..HEAD + body_len]]);
            if check.iter().zip(&kept[HEAD + body_len..]).filter(|(a, b)| a != b).count() <= 1 {
                trial[HEAD + body_len..].copy_from_slice(&check);
                return Self::decode(&trial, sequence, before).ok();
            }
            (0..HEAD + body_len).find_map(|at| {
                let found = (1..=255u8).find_map(|error| {
                    trial[at] = kept[at] ^ error;
                    Self::decode(&trial, sequence, before).ok().filter(|(_, n)| *n == len)
                });
                trial[at] = kept[at];
                found
            })
        })
    }
}

const STORED: u8 = 1;
const MOVED: u8 = 2;
const RELEASED: u8 = 12;
const SETTLED: u8 = 13;
const AGED: u8 = 14;
const THINNED: u8 = 15;
const QUARANTINED: u8 = 3;
const ADMITTED: u8 = 4;
const CLEARED: u8 = 5;
const HEAD: usize = 4 + 8 + 1;
const CHECK: usize = 16;
/// Longest record, with its head and its check.
pub const LINE_LEN_MAX: usize = HEAD + JOURNAL_BODY_MAX + CHECK;
const STORED_BODY: usize = 1 + 32 + 8 + 4 + 1 + 1;
const MOVED_BODY: usize = 1 + 32 + 4 + 1 + 1;
const RELEASED_BODY: usize = 1 + 32 + 8;
const SETTLED_BODY: usize = 1 + 32;
const AGED_BODY: usize = 16 + 8 + 8;
const THINNED_BODY: usize = 1 + 32 + 8 + 32;
const QUARANTINED_BODY: usize = 2;
const ADMITTED_BODY: usize = 1;
const CLEARED_BODY: usize = 32 + 1 + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(byte: u8) -> Record {
        Record::Stored {
            kind: ObjectKind::Pack,
            object: ObjectId([byte; 32]),
            geometry: Geometry::new(4096, 4, 2).unwrap(),
            generation: 1,
            slots: vec![3, 4, 5, 0, NO_SLOT, 2],
        }
    }

    fn moved(byte: u8) -> Record {
        Record::Moved { kind: ObjectKind::Manifest, object: ObjectId([byte; 32]), generation: 1, index: 4, slot: 1 }
    }

    fn journal() -> Vec<u8> {
        let mut out = Vec::new();
        let check = stored(7).encode(1, &FIRST_CHECK, &mut out);
        moved(7).encode(2, &check, &mut out);
        out
    }

    #[test]
    fn the_golden_journal_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/journal-v1.bin");
        assert_eq!(journal(), golden);
        let (first, n) = Line::decode(golden, 1, &FIRST_CHECK).unwrap();
        assert_eq!(first.record, stored(7));
        let (second, n2) = Line::decode(&golden[n..], 2, &first.check).unwrap();
        assert_eq!(second.record, moved(7));
        assert_eq!(n + n2, golden.len());
    }

    fn releasing() -> Vec<u8> {
        let mut out = Vec::new();
        let released = Record::Released { kind: ObjectKind::Tags, object: ObjectId([7; 32]), number: 3 };
        let check = released.encode(1, &FIRST_CHECK, &mut out);
        let check = Record::Settled { release: ObjectId([8; 32]) }.encode(2, &check, &mut out);
        Record::Aged { boot: [9; 16], up_s: 3600, total_s: 1 << 33 }.encode(3, &check, &mut out);
        out
    }

    #[test]
    fn the_golden_journal_of_a_release_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/journal_release-v1.bin");
        assert_eq!(releasing(), golden);
        let (first, n) = Line::decode(golden, 1, &FIRST_CHECK).unwrap();
        let (second, n2) = Line::decode(&golden[n..], 2, &first.check).unwrap();
        assert!(matches!(first.record, Record::Released { kind: ObjectKind::Tags, number: 3, .. }));
        assert!(matches!(second.record, Record::Settled { .. }));
        let (third, n3) = Line::decode(&golden[n + n2..], 3, &second.check).unwrap();
        assert_eq!(third.record, Record::Aged { boot: [9; 16], up_s: 3600, total_s: 1 << 33 });
        assert_eq!(n + n2 + n3, golden.len());
        for at in 0..n {
            let mut bad = golden.to_vec();
            bad[at] ^= 0x81;
            assert_eq!(Line::decode_mended(&bad, 1, &FIRST_CHECK, 6), Some((first.clone(), n)), "byte {at}");
        }
    }

    #[test]
    fn the_golden_record_of_a_thinned_pack_stays_as_it_is_and_one_wrong_byte_is_mended() {
        let golden = include_bytes!("../../../vectors/journal_thinned-v1.bin");
        let record = Record::Thinned { pack: ObjectId([7; 32]), remnant: ObjectId([8; 32]), number: 3 };
        let mut bytes = Vec::new();
        record.encode(1, &FIRST_CHECK, &mut bytes);
        assert_eq!(bytes, golden);
        let (line, n) = Line::decode(golden, 1, &FIRST_CHECK).unwrap();
        assert_eq!((&line.record, n), (&record, golden.len()));
        for at in 0..n {
            let mut bad = golden.to_vec();
            bad[at] ^= 0x81;
            assert_eq!(Line::decode_mended(&bad, 1, &FIRST_CHECK, 6), Some((line.clone(), n)), "byte {at}");
        }
    }

    /// A drive that is held back for each reason, and let in again.
    fn of_drives() -> Vec<u8> {
        let (mut out, mut check) = (Vec::new(), FIRST_CHECK);
        let held = Distrust::ALL.iter().zip(0u8..).map(|(why, slot)| Record::Quarantined { slot, why: *why });
        let cleared = Record::Cleared { object: ObjectId([7; 32]), index: 4, slot: 1 };
        for (record, sequence) in held.chain([Record::Admitted { slot: 2 }, cleared]).zip(1..) {
            check = record.encode(sequence, &check, &mut out);
        }
        out
    }

    #[test]
    fn the_golden_records_of_drives_stay_as_they_are() {
        let golden = include_bytes!("../../../vectors/journal_drives-v1.bin");
        assert_eq!(of_drives(), golden);
        let (mut at, mut check, mut last) = (0, FIRST_CHECK, None);
        for sequence in 1..=6 {
            let (line, n) = Line::decode(&golden[at..], sequence, &check).unwrap();
            (at, check, last) = (at + n, line.check, Some(line.record));
        }
        let cleared = Record::Cleared { object: ObjectId([7; 32]), index: 4, slot: 1 };
        assert_eq!((at, last), (golden.len(), Some(cleared)));
        for code in [0, 5, 255] {
            assert!(Record::decode(QUARANTINED, &[1, code]).is_err());
        }
        assert!(Record::decode(QUARANTINED, &[1]).is_err() && Record::decode(ADMITTED, &[1, 1]).is_err());
    }

    #[test]
    fn one_wrong_byte_of_a_record_of_a_drive_is_mended() {
        let good = of_drives();
        let (first, n) = Line::decode(&good, 1, &FIRST_CHECK).unwrap();
        for at in 0..n {
            let mut bad = good.clone();
            bad[at] ^= 0x81;
            assert_eq!(Line::decode_mended(&bad, 1, &FIRST_CHECK, 6), Some((first.clone(), n)), "byte {at}");
        }
    }

    #[test]
    fn a_record_is_only_good_in_its_place() {
        let bytes = journal();
        assert!(Line::decode(&bytes, 2, &FIRST_CHECK).is_err());
        assert!(Line::decode(&bytes, 1, &[1; 16]).is_err());
        assert!(Line::decode(&bytes[..bytes.len() / 2], 2, &FIRST_CHECK).is_err());
    }

    #[test]
    fn any_one_wrong_byte_of_a_record_is_noticed_and_mended() {
        let good = journal();
        let (first, n) = Line::decode(&good, 1, &FIRST_CHECK).unwrap();
        for at in 0..n {
            let mut bad = good.clone();
            bad[at] ^= 0x81;
            assert!(Line::decode(&bad, 1, &FIRST_CHECK).is_err(), "byte {at}");
            assert_eq!(Line::decode_mended(&bad, 1, &FIRST_CHECK, 6), Some((first.clone(), n)), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn records_survive(id: [u8; 32], len in 1u64..1 << 26, k in 1u8..100, m in 0u8..100, seq: u64, before: Check) {
            let geometry = Geometry::new(len, k, m).unwrap();
            let slots = (0..k + m).collect();
            let record =
                Record::Stored { kind: ObjectKind::Pack, object: ObjectId(id), geometry, generation: 9, slots };
            let mut out = Vec::new();
            let check = record.encode(seq, &before, &mut out);
            prop_assert_eq!(Line::decode(&out, seq, &before), Ok((Line { sequence: seq, record, check }, out.len())));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(kind: u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Line::decode(&bytes, 1, &FIRST_CHECK);
            let _ = Record::decode(kind % 16, &bytes);
        }
    }
}
