//! What audits found: a file of the depositor's state that only grows (FORMAT section 9).
//!
//! That data are *still there* is told from these alone. Step 18 of the walk. It must not know how an audit is done.

use lavatube_base::time::WallTime;

use crate::Malformed;
use crate::wire::{Reader, has_check, put_check, put_time};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The vault proved that it has what it was asked for.
    Passed,
    /// Of some of it nothing can be told now: drives are away that may have it, or its tags are lost.
    Away,
    /// The vault lacks some of it, or its proof is wrong.
    Failed,
}

/// An audit, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditRecord {
    /// When it ended, by this machine's clock.
    pub time: WallTime,
    /// How it ended.
    pub outcome: Outcome,
    /// Manifests that were proved,
    pub manifests: u64,
    /// packs,
    pub packs: u64,
    /// and their bytes together.
    pub bytes: u64,
    /// Packs without tags, which no proof covers.
    pub untagged: u64,
    /// Packs and manifests that are lost, away or not proved.
    pub bad: u64,
    /// Bytes of the vault's answers.
    pub answered: u64,
}

/// Bytes of a record.
pub const AUDIT_RECORD_LEN: usize = 86;

const WHAT: &str = "audit record";
const MAGIC: &[u8; 8] = b"LVTAUDT\x01";
/// All audits are of everything that has tags.
const WHOLE: u8 = 0;
const OUTCOMES: [Outcome; 3] = [Outcome::Passed, Outcome::Away, Outcome::Failed];

impl AuditRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_time(&mut out, self.time);
        let outcome = OUTCOMES.iter().zip(0u8..).find(|(o, _)| **o == self.outcome).map_or(0, |(_, n)| n);
        out.extend([WHOLE, outcome]);
        for n in [self.manifests, self.packs, self.bytes, self.untagged, self.bad, self.answered] {
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
        r.ensure(kept && bytes.len() == AUDIT_RECORD_LEN, "check or length does not match")?;
        let magic = r.take(MAGIC.len())?;
        r.ensure(magic == MAGIC, "not an audit record of version 1")?;
        let time = r.time()?;
        //= FORMAT#F5 kinds of audits that there are not yet
        let extent = r.u8()?;
        r.ensure(extent == WHOLE, "an audit of another extent")?;
        let outcome = OUTCOMES.get(usize::from(r.u8()?)).copied().ok_or_else(|| r.fail("unknown outcome"))?;
        let (manifests, packs, bytes) = (r.u64()?, r.u64()?, r.u64()?);
        let (untagged, bad, answered) = (r.u64()?, r.u64()?, r.u64()?);
        Ok(Self { time, outcome, manifests, packs, bytes, untagged, bad, answered })
    }

    /// All records of a history. What a crash has cut is passed over.
    pub fn history(bytes: &[u8]) -> Vec<Self> {
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(record) = bytes.get(at..at + AUDIT_RECORD_LEN) {
            match Self::decode(record) {
                Ok(record) => {
                    out.push(record);
                    at += AUDIT_RECORD_LEN;
                }
                Err(_) => at += 1,
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> AuditRecord {
        AuditRecord {
            time: WallTime { s: -5, ns: 999_999_999 },
            outcome: OUTCOMES[n as usize % 3],
            manifests: n,
            packs: 7,
            bytes: 1 << 50,
            untagged: u64::MAX,
            bad: 3,
            answered: 16_400,
        }
    }

    #[test]
    fn a_history_survives_and_what_was_cut_is_passed_over() {
        let mut bytes: Vec<u8> = (0..6).flat_map(|n| record(n).encode()).collect();
        assert_eq!(AuditRecord::history(&bytes), (0..6).map(record).collect::<Vec<_>>());
        bytes.truncate(bytes.len() - 9);
        bytes.extend(record(9).encode());
        assert_eq!(AuditRecord::history(&bytes), [0, 1, 2, 3, 4, 9].map(record));
        assert_eq!(AuditRecord::history(&[]), []);
    }

    #[test]
    fn a_cut_or_changed_record_is_none() {
        let bytes = record(1).encode();
        for at in 0..bytes.len() {
            assert!(AuditRecord::decode(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(AuditRecord::decode(&bad).is_err());
        }
    }
}
