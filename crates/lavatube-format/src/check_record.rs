//! What the last check found: one small file of the depositor's state (FORMAT section 9).
//!
//! Kept so that it can be told since when nobody has looked. It proves nothing to anybody else: signed audits will take
//! its place. Step 18 of the walk. It must not know how a check is done.

use lavatube_base::time::WallTime;

use crate::Malformed;
use crate::wire::{Reader, has_check, put_check, put_time};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was wrong.
    Sound,
    /// Damage was found, and all of it was mended.
    Mended,
    /// Damage was left, and no file was lost.
    Damaged,
    /// Files were lost, or what was lost could not be told.
    Lost,
}

/// A check, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckRecord {
    /// When it ended, by this machine's clock.
    pub time: WallTime,
    /// How.
    pub verdict: Verdict,
    /// Snapshots that were looked at; `None` when the read key was not there.
    pub snapshots: Option<u64>,
    /// Share of the data that was read, in millionths; 0 when only heads were looked at.
    pub share: u32,
    /// Bytes of the objects that were read.
    pub bytes: u64,
    /// Packs that were opened.
    pub packs: u64,
    /// Objects that were not whole.
    pub unsound: u64,
    /// Files that could not be restored.
    pub files: u64,
}

/// Length of the record.
pub const CHECK_RECORD_LEN: usize = 82;
/// All of the data, as [`CheckRecord::share`] has it.
pub const WHOLE_SHARE: u32 = 1_000_000;

const WHAT: &str = "check record";
const MAGIC: &[u8; 8] = b"LVTCHCK\x01";
const VERDICTS: [Verdict; 4] = [Verdict::Sound, Verdict::Mended, Verdict::Damaged, Verdict::Lost];

impl CheckRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_time(&mut out, self.time);
        let verdict = VERDICTS.iter().zip(0u8..).find(|(v, _)| **v == self.verdict).map_or(0, |(_, n)| n);
        out.extend([verdict, u8::from(self.snapshots.is_some())]);
        out.extend_from_slice(&self.share.to_le_bytes());
        for n in [self.snapshots.unwrap_or(0), self.bytes, self.packs, self.unsound, self.files] {
            out.extend_from_slice(&n.to_le_bytes());
        }
        put_check(&mut out, 0);
        out
    }

    /// Reads a record from exactly its bytes.
    ///
    /// # Errors
    /// [`Malformed`] when they are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let kept = has_check(bytes);
        r.ensure(kept && bytes.len() == CHECK_RECORD_LEN, "check or length does not match")?;
        let magic = r.take(MAGIC.len())?;
        r.ensure(magic == MAGIC, "not a check record of version 1")?;
        let time = r.time()?;
        let verdict = VERDICTS.get(usize::from(r.u8()?)).copied().ok_or_else(|| r.fail("unknown verdict"))?;
        let inside = r.flag("neither with nor without the read key")?;
        let share = r.u32()?;
        r.ensure(share <= WHOLE_SHARE, "more than all was read")?;
        let snapshots = r.u64()?;
        r.ensure(inside || snapshots == 0, "snapshots without the read key")?;
        let snapshots = inside.then_some(snapshots);
        let (bytes, packs, unsound, files) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        Ok(Self { time, verdict, snapshots, share, bytes, packs, unsound, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> CheckRecord {
        CheckRecord {
            time: WallTime { s: -5, ns: 999_999_999 },
            verdict: Verdict::Damaged,
            snapshots: Some(3),
            share: 50_000,
            bytes: 1 << 40,
            packs: 7,
            unsound: 2,
            files: 0,
        }
    }

    #[test]
    fn all_verdicts_survive_with_the_read_key_and_without() {
        for verdict in VERDICTS {
            for snapshots in [None, Some(0), Some(u64::MAX)] {
                let record = CheckRecord { verdict, snapshots, share: WHOLE_SHARE, ..record() };
                assert_eq!(CheckRecord::decode(&record.encode()), Ok(record));
            }
        }
    }

    #[test]
    fn a_cut_or_changed_record_is_none() {
        let bytes = record().encode();
        for at in 0..bytes.len() {
            assert!(CheckRecord::decode(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(CheckRecord::decode(&bad).is_err());
        }
        assert!(CheckRecord::decode(&CheckRecord { share: WHOLE_SHARE + 1, ..record() }.encode()).is_err());
    }
}
