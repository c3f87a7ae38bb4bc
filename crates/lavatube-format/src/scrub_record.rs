//! What a vault remembers of its scrubs: one small file of the vault's folder (FORMAT section 9).
//!
//! The last entry may be of a scrub that is under way: it says where that is, so that a killed one goes on there. Losing the file
//! costs the history and a scrub from the beginning. Step 18 of the walk. It must not know how a scrub is done.

use lavatube_base::limits::{DRIVES_MAX, SCRUB_LOST_LISTED_MAX, SCRUBS_KEPT_MAX};
use lavatube_base::time::WallTime;
use lavatube_base::{DriveId, ObjectId};

use crate::Malformed;
use crate::wire::{Reader, has_check, put_check, put_len, put_time, put_varint};

/// How a scrub stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScrubEnd {
    /// It is under way, or was broken off and goes on where it was.
    Open,
    /// It came to its end.
    Whole,
    /// Another one was begun before it came to its end.
    Dropped,
}

impl ScrubEnd {
    pub(crate) fn code(self) -> u8 {
        ENDS.iter().zip(0u8..).find(|(end, _)| **end == self).map_or(0, |(_, code)| code)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        ENDS.get(usize::from(code)).copied()
    }
}

/// What was found on one drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubDrive {
    /// The drive.
    pub drive: DriveId,
    /// Shards on it that were damaged.
    pub damaged: u64,
    /// Shards that should be on it and were not there, while the drive was.
    pub missing: u64,
    /// Shards on it that could not be looked at, because the drive was away.
    pub away: u64,
    /// Damaged and missing ones that are still not as they should be.
    pub left: u64,
    /// It was in quarantine when the scrub began: a scrub that is to let it in again.
    pub on_trial: bool,
}

impl ScrubDrive {
    /// One on which nothing was found yet.
    pub fn of(drive: DriveId) -> Self {
        Self { drive, damaged: 0, missing: 0, away: 0, left: 0, on_trial: false }
    }
}

/// A scrub, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubRecord {
    /// When it began, by the vault's clock.
    pub began: WallTime,
    /// When it ended, or when this was noted.
    pub until: WallTime,
    /// How it stands.
    pub end: ScrubEnd,
    /// The object that was looked at last, in the order of ids; zeros before the first.
    pub upto: ObjectId,
    /// Time that was spent on it, in milliseconds; pauses are not in it.
    pub worked_ms: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Their bytes, before parity.
    pub bytes: u64,
    /// Bytes that were read from drives.
    pub read: u64,
    /// Objects that had damaged or missing shards on drives that were there.
    pub unsound: u64,
    /// Objects that have shards on drives that are away, or on none.
    pub degraded: u64,
    /// Shards that were written anew.
    pub mended: u64,
    /// Shards on drives that were there that are still not as they should be.
    pub left: u64,
    /// Objects of which bytes are lost, as far as drives are there.
    pub lost: u64,
    /// Some of those.
    pub lost_ids: Vec<ObjectId>,
    /// Drives on which something was found, in the order of their slots.
    pub drives: Vec<ScrubDrive>,
    /// Records of the vault's journal when it began; 0 where nobody noted it.
    pub sequence: u64,
}

/// The bytes of the file: all of them, oldest first.
///
/// # Panics
/// When there are more than [`SCRUBS_KEPT_MAX`]: a mistake of our caller.
pub fn encode_scrubs(records: &[ScrubRecord]) -> Vec<u8> {
    assert!(records.len() <= SCRUBS_KEPT_MAX, "the oldest are forgotten before");
    let mut out = MAGIC.to_vec();
    put_len(&mut out, records.len());
    records.iter().for_each(|record| record.put(&mut out));
    put_check(&mut out, 0);
    out
}

/// Reads the file.
///
/// # Errors
/// [`Malformed`] when the bytes are not one.
pub fn decode_scrubs(bytes: &[u8]) -> Result<Vec<ScrubRecord>, Malformed> {
    let mut r = Reader::new(WHAT, bytes);
    let kept = has_check(bytes);
    r.ensure(kept, "check does not match")?;
    let magic = r.take(MAGIC.len())?;
    let is_first = magic == FIRST_MAGIC;
    r.ensure(is_first || magic == MAGIC, "not the scrubs of a vault, version 1 or 2")?;
    let n = r.varint_max(SCRUBS_KEPT_MAX, "more scrubs than are kept")?;
    let mut records = Vec::new();
    for at in 1..=n {
        let record = ScrubRecord::read(&mut r, is_first)?;
        r.ensure(record.end != ScrubEnd::Open || at == n, "only the last scrub may be under way")?;
        records.push(record);
    }
    r.take(CHECK)?;
    r.finish()?;
    Ok(records)
}

impl ScrubRecord {
    /// A scrub that begins.
    pub fn begin(now: WallTime) -> Self {
        Self {
            began: now,
            until: now,
            end: ScrubEnd::Open,
            upto: ObjectId([0; ObjectId::LEN]),
            worked_ms: 0,
            objects: 0,
            bytes: 0,
            read: 0,
            unsound: 0,
            degraded: 0,
            mended: 0,
            left: 0,
            lost: 0,
            lost_ids: Vec::new(),
            drives: Vec::new(),
            sequence: 0,
        }
    }

    /// What was counted, in the order of the file: from `worked_ms` to `lost`.
    pub fn counts(&self) -> [u64; SCRUB_COUNTS] {
        let Self { worked_ms, objects, bytes, read, unsound, degraded, mended, left, lost, .. } = *self;
        [worked_ms, objects, bytes, read, unsound, degraded, mended, left, lost]
    }

    /// The same with other [counts](ScrubRecord::counts).
    pub fn with_counts(self, counts: [u64; SCRUB_COUNTS]) -> Self {
        let [worked_ms, objects, bytes, read, unsound, degraded, mended, left, lost] = counts;
        Self { worked_ms, objects, bytes, read, unsound, degraded, mended, left, lost, ..self }
    }

    /// The turn of an object has come and gone.
    pub fn has_passed(&mut self, object: ObjectId, len: u64) {
        self.upto = object;
        self.objects += 1;
        self.bytes += len;
    }

    fn put(&self, out: &mut Vec<u8>) {
        for time in [self.began, self.until] {
            put_time(out, time);
        }
        out.push(self.end.code());
        out.extend_from_slice(&self.upto.0);
        self.counts().iter().for_each(|n| put_varint(out, *n));
        let listed = &self.lost_ids[..self.lost_ids.len().min(SCRUB_LOST_LISTED_MAX)];
        put_len(out, listed.len());
        listed.iter().for_each(|id| out.extend_from_slice(&id.0));
        put_len(out, self.drives.len());
        for found in &self.drives {
            out.extend_from_slice(&found.drive.0);
            put_varint(out, found.damaged);
            put_varint(out, found.missing);
            put_varint(out, found.away);
            put_varint(out, found.left);
            out.push(u8::from(found.on_trial));
        }
        put_varint(out, self.sequence);
    }

    fn read(r: &mut Reader<'_>, is_first: bool) -> Result<Self, Malformed> {
        let (began, until) = (r.time()?, r.time()?);
        let code = r.u8()?;
        let end = ScrubEnd::from_code(code).ok_or_else(|| r.fail("unknown end"))?;
        let upto = ObjectId(r.array()?);
        let record = Self { until, end, upto, ..Self::begin(began) }.with_counts(read_scrub_counts(r)?);
        let listed = r.varint_max(SCRUB_LOST_LISTED_MAX, "more lost objects than are listed")?;
        r.ensure(listed as u64 <= record.lost, "more lost objects are listed than were counted")?;
        let lost_ids = (0..listed).map(|_| r.array().map(ObjectId)).collect::<Result<_, _>>()?;
        let mut drives = Vec::new();
        for _ in 0..r.varint_max(DRIVES_MAX, "more drives than a vault can have")? {
            let mut found = ScrubDrive::of(DriveId(r.array()?));
            (found.damaged, found.missing) = (r.varint()?, r.varint()?);
            if !is_first {
                (found.away, found.left) = (r.varint()?, r.varint()?);
                found.on_trial = r.flag("a drive is on trial, or not")?;
            }
            drives.push(found);
        }
        let sequence = if is_first { 0 } else { r.varint()? };
        Ok(Self { lost_ids, drives, sequence, ..record })
    }
}

/// The counts of a scrub, as [`ScrubRecord::counts`] has them.
pub(crate) fn read_scrub_counts(r: &mut Reader<'_>) -> Result<[u64; SCRUB_COUNTS], Malformed> {
    let mut counts = [0; SCRUB_COUNTS];
    for count in &mut counts {
        *count = r.varint()?;
    }
    Ok(counts)
}

/// How many counts a scrub has.
pub const SCRUB_COUNTS: usize = 9;

const WHAT: &str = "scrubs of a vault";
const FIRST_MAGIC: &[u8; 8] = b"LVTSCRB\x01";
const MAGIC: &[u8; 8] = b"LVTSCRB\x02";
const ENDS: [ScrubEnd; 3] = [ScrubEnd::Open, ScrubEnd::Whole, ScrubEnd::Dropped];
const CHECK: usize = 16;

#[cfg(test)]
mod tests {
    use lavatube_base::digest::h16;
    use proptest::prelude::*;

    use super::*;

    fn record(end: ScrubEnd) -> ScrubRecord {
        ScrubRecord {
            end,
            upto: ObjectId([7; 32]),
            objects: 300,
            lost: 2,
            lost_ids: vec![ObjectId([8; 32])],
            drives: vec![ScrubDrive {
                damaged: 1,
                missing: 1 << 40,
                on_trial: true,
                ..ScrubDrive::of(DriveId([9; 16]))
            }],
            ..ScrubRecord::begin(WallTime { s: -5, ns: 999_999_999 })
        }
    }

    #[test]
    fn scrubs_survive_and_only_the_last_may_be_under_way() {
        let (open, whole, dropped) = (ScrubEnd::Open, ScrubEnd::Whole, ScrubEnd::Dropped);
        for (ends, good) in [
            (vec![], true),
            (vec![open], true),
            (vec![whole, dropped, open], true),
            (vec![open, whole], false),
            (vec![whole; SCRUBS_KEPT_MAX], true),
        ] {
            let records: Vec<_> = ends.into_iter().map(record).collect();
            assert_eq!(decode_scrubs(&encode_scrubs(&records)).ok(), good.then_some(records));
        }
    }

    #[test]
    fn more_than_is_listed_is_counted_and_not_listed() {
        let many = vec![ObjectId([1; 32]); SCRUB_LOST_LISTED_MAX + 1];
        let lost = many.len() as u64;
        let bytes = encode_scrubs(&[ScrubRecord { lost, lost_ids: many, ..record(ScrubEnd::Whole) }]);
        let read = decode_scrubs(&bytes).unwrap();
        assert_eq!((read[0].lost, read[0].lost_ids.len()), (lost, SCRUB_LOST_LISTED_MAX));
        // One more drive than a vault can have.
        let found = ScrubDrive::of(DriveId([1; 16]));
        for (drives, good) in [(DRIVES_MAX, true), (DRIVES_MAX + 1, false)] {
            let drives = vec![found; drives];
            assert_eq!(
                decode_scrubs(&encode_scrubs(&[ScrubRecord { drives, ..record(ScrubEnd::Whole) }])).is_ok(),
                good
            );
        }
    }

    #[test]
    fn a_cut_or_changed_file_is_none() {
        let bytes = encode_scrubs(&[record(ScrubEnd::Whole)]);
        for at in 0..bytes.len() {
            assert!(decode_scrubs(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode_scrubs(&bad).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_scrubs(&bytes);
            let mut sealed = MAGIC.to_vec();
            sealed.append(&mut bytes);
            let check = h16(&[&sealed]);
            sealed.extend_from_slice(&check);
            let _ = decode_scrubs(&sealed);
        }
    }
}
