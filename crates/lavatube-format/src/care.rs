//! How a vault far away is: what Earth asks, and what the vault says, signed (FORMAT section 22).
//!
//! A report is short whatever the vault holds: counts, a line for each drive, the last scrubs, the last mandates. It is about the moment at which it was
//! made, and has the nonce of its question. Step 18 of the walk. It must not know how anything is found out.

use lavatube_base::limits::{
    DRIVES_MAX, MANDATE_TEXT_MAX, REPORT_MANDATES_MAX, REPORT_NAME_LEN_MAX, REPORT_SCRUBS_MAX,
};
use lavatube_base::sign::{ED25519_SIGNATURE_LEN, EdSigner, SignError, verify_ed25519};
use lavatube_base::{DriveId, VaultId};

use crate::journal::Distrust;
use crate::mandate::{NEITHER, Progress, SIGNED_MANDATE_LEN_MAX, cut, text};
use crate::scrub_record::{SCRUB_COUNTS, ScrubEnd, read_scrub_counts};
use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint};

const CONTEXT: &str = "lavatube/1 care report";

/// What is asked of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CareQuestion {
    /// Drawn for this question: the report has it.
    pub nonce: [u8; 16],
    /// A signed mandate, if the vault is to do something. Not yet looked at.
    pub mandate: Option<Vec<u8>>,
}

impl CareQuestion {
    /// Appends the question.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.nonce);
        out.push(u8::from(self.mandate.is_some()));
        self.mandate.iter().for_each(|mandate| put_bytes(out, mandate));
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let nonce = r.array()?;
        let has = r.flag(NEITHER)?;
        let mandate = if has { Some(r.bytes(SIGNED_MANDATE_LEN_MAX)?.to_vec()) } else { None };
        Ok(Self { nonce, mandate })
    }
}

/// How a drive is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveWord {
    /// It is there and used.
    Present,
    /// Its card is damaged.
    CardDamaged,
    /// Nothing of the vault is on it.
    Blank,
    /// It is another vault's.
    Foreign,
    /// It is not there.
    Missing,
    /// It was retired.
    Retired,
    /// It failed while it was written to.
    Failed,
    /// It is full.
    Full,
    /// It is there and not trusted.
    Quarantined,
}

impl DriveWord {
    const ALL: [Self; 9] = [
        Self::Present,
        Self::CardDamaged,
        Self::Blank,
        Self::Foreign,
        Self::Missing,
        Self::Retired,
        Self::Failed,
        Self::Full,
        Self::Quarantined,
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().zip(1u8..).find(|(word, _)| **word == self).map_or(0, |(_, code)| code)
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}

/// A drive in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CareDrive {
    /// It.
    pub drive: DriveId,
    /// Label, shelf, maker, model; cut where they are long.
    pub names: [String; 4],
    /// How it is.
    pub word: DriveWord,
    /// Why it is not trusted, if it is not.
    pub distrust: Option<Distrust>,
    /// Its size in bytes; 0 when it does not answer.
    pub total: u64,
    /// What is free of that.
    pub free: u64,
    /// Shards that the latest scrub found damaged on it,
    pub damaged: u64,
    /// and those it missed there.
    pub missing: u64,
}

/// A scrub in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CareScrub {
    /// How it stands.
    pub end: ScrubEnd,
    /// When it began, in seconds since 1970 by the vault's clock,
    pub began_s: i64,
    /// and when it ended, or was noted last.
    pub until_s: i64,
    /// Milliseconds of work, objects, their bytes, bytes read, objects not whole, objects short of shards, shards mended, shards left, objects lost: as
    /// in the record of a scrub.
    pub counts: [u64; SCRUB_COUNTS],
}

/// How a vault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The vault.
    pub vault: VaultId,
    /// That of the question.
    pub nonce: [u8; 16],
    /// When it was made, in seconds since 1970 by the vault's clock.
    pub time_s: i64,
    /// Why the mandate that came with the question is not taken; empty when it is, or none came.
    pub refusal: String,
    /// Data shards of a new stripe,
    pub k: u8,
    /// and parity shards.
    pub m: u8,
    /// Objects, their bytes, those that too few drives are there for, shards left where they were before they were moved.
    pub counts: [u64; 4],
    /// All drives are folders of one file system.
    pub one_disk: bool,
    /// Objects that outlive the loss of any 0, 1, … more drives.
    pub redundancy: Vec<u64>,
    /// Its drives, by slot.
    pub drives: Vec<CareDrive>,
    /// The last scrub that came to its end, and one that is under way.
    pub scrubs: Vec<CareScrub>,
    /// Number of the last mandate that it took; 0 for none.
    pub last_mandate: u64,
    /// The last mandates: number, the code of what was to be done, how far it is. The newest last.
    pub mandates: Vec<(u64, u8, Progress)>,
}

impl Report {
    /// Its bytes, which are what is signed.
    ///
    /// # Panics
    /// When it has more of anything than its limits say: a mistake of our caller.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.redundancy.len() <= REDUNDANCY_MAX && self.drives.len() <= DRIVES_MAX, "more drives than can be");
        assert!(
            self.scrubs.len() <= REPORT_SCRUBS_MAX && self.mandates.len() <= REPORT_MANDATES_MAX,
            "too much is told"
        );
        let mut out = [&self.vault.0[..], &self.nonce, &self.time_s.to_le_bytes()].concat();
        put_bytes(&mut out, cut(&self.refusal, MANDATE_TEXT_MAX).as_bytes());
        out.extend([self.k, self.m]);
        self.counts.iter().for_each(|n| put_varint(&mut out, *n));
        out.push(u8::from(self.one_disk));
        put_len(&mut out, self.redundancy.len());
        self.redundancy.iter().for_each(|n| put_varint(&mut out, *n));
        put_len(&mut out, self.drives.len());
        for drive in &self.drives {
            out.extend_from_slice(&drive.drive.0);
            drive.names.iter().for_each(|name| put_bytes(&mut out, cut(name, REPORT_NAME_LEN_MAX).as_bytes()));
            out.extend([drive.word.code(), drive.distrust.map_or(0, Distrust::code)]);
            [drive.total, drive.free, drive.damaged, drive.missing].iter().for_each(|n| put_varint(&mut out, *n));
        }
        put_len(&mut out, self.scrubs.len());
        for scrub in &self.scrubs {
            out.push(scrub.end.code());
            out.extend_from_slice(&scrub.began_s.to_le_bytes());
            out.extend_from_slice(&scrub.until_s.to_le_bytes());
            scrub.counts.iter().for_each(|n| put_varint(&mut out, *n));
        }
        put_varint(&mut out, self.last_mandate);
        put_len(&mut out, self.mandates.len());
        for (number, task, progress) in &self.mandates {
            put_varint(&mut out, *number);
            out.push(*task);
            progress.put(&mut out);
        }
        out
    }

    /// Signs it with the vault's key.
    pub fn sign(self, signer: &EdSigner) -> SignedReport {
        let signature = signer.sign(CONTEXT, &self.encode());
        SignedReport { report: self, signature }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (vault, nonce, time_s) = (VaultId(r.array()?), r.array()?, r.u64()?.cast_signed());
        let refusal = text(r)?;
        let (k, m) = (r.u8()?, r.u8()?);
        let counts = [r.varint()?, r.varint()?, r.varint()?, r.varint()?];
        let one_disk = r.flag(NEITHER)?;
        let n = r.varint_max(REDUNDANCY_MAX, "more redundancy than there can be")?;
        let redundancy = (0..n).map(|_| r.varint()).collect::<Result<_, _>>()?;
        let n = r.varint_max(DRIVES_MAX, "more drives than a vault has")?;
        let drives = (0..n).map(|_| read_drive(r)).collect::<Result<_, _>>()?;
        let n = r.varint_max(REPORT_SCRUBS_MAX, "more scrubs than are told")?;
        let scrubs = (0..n).map(|_| read_scrub(r)).collect::<Result<_, _>>()?;
        let last_mandate = r.varint()?;
        let n = r.varint_max(REPORT_MANDATES_MAX, "more mandates than are told")?;
        let mandates = (0..n).map(|_| Ok((r.varint()?, r.u8()?, Progress::read(r)?))).collect::<Result<_, _>>()?;
        Ok(Self {
            vault,
            nonce,
            time_s,
            refusal,
            k,
            m,
            counts,
            one_disk,
            redundancy,
            drives,
            scrubs,
            last_mandate,
            mandates,
        })
    }
}

fn read_drive(r: &mut Reader<'_>) -> Result<CareDrive, Malformed> {
    let drive = DriveId(r.array()?);
    let mut name = || {
        let bytes = r.bytes(REPORT_NAME_LEN_MAX)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| r.fail("a name that is not UTF-8"))
    };
    let names = [name()?, name()?, name()?, name()?];
    let (code, why) = (r.u8()?, r.u8()?);
    let word = DriveWord::from_code(code).ok_or_else(|| r.fail("unknown state of a drive"))?;
    let distrust = match why {
        0 => None,
        why => Some(Distrust::from_code(why).ok_or_else(|| r.fail("unknown reason of a quarantine"))?),
    };
    let (total, free) = (r.varint()?, r.varint()?);
    Ok(CareDrive { drive, names, word, distrust, total, free, damaged: r.varint()?, missing: r.varint()? })
}

fn read_scrub(r: &mut Reader<'_>) -> Result<CareScrub, Malformed> {
    let code = r.u8()?;
    let end = ScrubEnd::from_code(code).ok_or_else(|| r.fail("unknown end of a scrub"))?;
    let (began_s, until_s) = (r.u64()?.cast_signed(), r.u64()?.cast_signed());
    let counts = read_scrub_counts(r)?;
    Ok(CareScrub { end, began_s, until_s, counts })
}

/// A report with its signature; not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReport {
    /// What it says.
    pub report: Report,
    /// Ed25519 signature by the vault's key.
    pub signature: [u8; ED25519_SIGNATURE_LEN],
}

impl SignedReport {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.report.encode()[..], &self.signature].concat()
    }

    /// Reads one from the bytes of a layout it is the last part of.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { report: Report::read(r)?, signature: r.array()? })
    }

    /// Verifies the signature against the vault's public key.
    ///
    /// # Errors
    /// [`SignError::Signature`] when it is not the vault's.
    pub fn verify(&self, vault_key: &[u8; 32]) -> Result<(), SignError> {
        //= FORMAT#F60 nobody else says how the vault is
        verify_ed25519(vault_key, CONTEXT, &self.report.encode(), &self.signature)
    }
}

/// An object has 255 shards at most.
const REDUNDANCY_MAX: usize = DRIVES_MAX + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mandate::Stage;
    use lavatube_base::limits::REPORT_LEN_MAX;

    fn report(drives: usize, name: &str, counts: u64) -> Report {
        let drive = |n: usize| CareDrive {
            drive: DriveId([n as u8; 16]),
            names: [0; 4].map(|_| name.to_owned()),
            word: DriveWord::ALL[n % 9],
            distrust: [None, Some(Distrust::Wrong)][n % 2],
            total: counts,
            free: counts,
            damaged: counts,
            missing: counts,
        };
        let scrub = CareScrub { end: ScrubEnd::Open, began_s: -5, until_s: 9, counts: [counts; 9] };
        let text = "x".repeat(MANDATE_TEXT_MAX);
        let progress = Progress { stage: Stage::UnderWay, since_s: 5, done: counts, total: counts, text: text.clone() };
        Report {
            vault: VaultId([1; 16]),
            nonce: [2; 16],
            time_s: 1_790_000_000,
            refusal: text,
            k: 20,
            m: 8,
            counts: [counts; 4],
            one_disk: false,
            redundancy: vec![counts; drives + 1],
            drives: (0..drives).map(drive).collect(),
            scrubs: vec![scrub; REPORT_SCRUBS_MAX],
            last_mandate: counts,
            mandates: vec![(counts, 6, progress); REPORT_MANDATES_MAX],
        }
    }

    fn decoded(bytes: &[u8]) -> Result<SignedReport, Malformed> {
        let mut r = Reader::new("care report", bytes);
        let signed = SignedReport::decode(&mut r)?;
        r.finish()?;
        Ok(signed)
    }

    #[test]
    fn only_the_vault_says_how_it_is_and_no_byte_of_that_is_changed() {
        let signer = EdSigner::from_seed(&[5; 32]).unwrap();
        let signed = report(3, "A3", 77).sign(&signer);
        let bytes = signed.encode();
        assert_eq!(decoded(&bytes).as_ref(), Ok(&signed));
        assert!(signed.verify(&signer.public()).is_ok());
        assert!(signed.verify(&EdSigner::from_seed(&[6; 32]).unwrap().public()).is_err());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decoded(&bad).is_err() || decoded(&bad).is_ok_and(|bad| bad.verify(&signer.public()).is_err()));
            assert!(decoded(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn the_longest_report_is_within_its_limit_and_long_names_are_cut() {
        let signer = EdSigner::from_seed(&[5; 32]).unwrap();
        let signed = report(DRIVES_MAX, &"é".repeat(200), u64::MAX).sign(&signer);
        let bytes = signed.encode();
        assert!(bytes.len() <= REPORT_LEN_MAX, "{}", bytes.len());
        let back = decoded(&bytes).unwrap();
        assert!(back.verify(&signer.public()).is_ok());
        assert_eq!(back.report.drives[0].names[0], "é".repeat(REPORT_NAME_LEN_MAX / 2));
        let usual = report(10, "A3", 40).encode().len();
        assert!(usual < 6000, "{usual}");
    }
}
