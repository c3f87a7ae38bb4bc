//! Mandates: what the authority tells a vault far away to do for its drives, and how far it is (FORMAT section 22).
//!
//! A mandate is for one vault and has a number that the vault takes once. Nobody but the authority makes one: whoever stole a machine that backs up
//! retires no drive. Step 18 of the walk. It must not know keys, nor how anything is done.

use lavatube_base::limits::{MANDATE_LEN_MAX, MANDATE_TEXT_MAX, MANDATES_KEPT_MAX};
use lavatube_base::sign::{PairPublic, PairSignature, SignError};
use lavatube_base::{DriveId, VaultId};

use crate::manifest::signed;
use crate::wire::{Malformed, Reader, has_check, put_bytes, put_check, put_len, put_varint};

/// The first bytes of a mandate: the magic and version 1.
pub const MAGIC: &[u8; 8] = b"LVTMAND\x01";
/// What its signatures are over, before a zero byte and the body.
pub const MANDATE_CONTEXT: &str = "lavatube/1 mandate";

const WHAT: &str = "mandate";
const BOOK: &str = "book of mandates";
const BOOK_MAGIC: &[u8; 8] = b"LVTMBOK\x01";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read every byte, and mend; one that is under way goes on.
    Scrub {
        /// Bytes from all drives in a second at most; 0 for as fast as they go.
        bytes_s: u64,
        /// Of a hundred parts of the time, those in which to rest.
        rest_percent: u8,
        /// Stop after so many seconds; 0 for never.
        for_s: u64,
        /// Begin anew, even if one is under way.
        anew: bool,
    },
    /// Bring redundancy back.
    Repair,
    /// Name a drive anew.
    Label {
        /// The drive.
        drive: DriveId,
        /// Label, shelf, maker, model; those that are not given stay.
        names: [Option<String>; 4],
    },
    /// Take a further drive in.
    Add {
        /// Its folder over there, and what is known of it.
        drive: String,
    },
    /// Read a drive in quarantine wholly, and trust it again if it is right.
    Admit {
        /// The drive.
        drive: DriveId,
    },
    /// Write what is on a drive to others, and retire it.
    Retire {
        /// The drive.
        drive: DriveId,
    },
}

/// What the authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mandate {
    /// The vault it is for.
    pub vault: VaultId,
    /// Its number, from 1: above those of all mandates that the vault took before.
    pub number: u64,
    /// What is to be done.
    pub task: Task,
}

impl Task {
    /// Its number in the layout.
    pub fn code(&self) -> u8 {
        match self {
            Self::Scrub { .. } => SCRUB,
            Self::Repair => REPAIR,
            Self::Label { .. } => LABEL,
            Self::Add { .. } => ADD,
            Self::Admit { .. } => ADMIT,
            Self::Retire { .. } => RETIRE,
        }
    }

    /// The drive it is about, if that has an id.
    pub fn drive(&self) -> Option<DriveId> {
        match self {
            Self::Label { drive, .. } | Self::Admit { drive } | Self::Retire { drive } => Some(*drive),
            Self::Scrub { .. } | Self::Repair | Self::Add { .. } => None,
        }
    }
}

impl Mandate {
    /// The body, which is what is signed.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut out = self.vault.0.to_vec();
        put_varint(&mut out, self.number);
        out.push(self.task.code());
        match &self.task {
            Task::Scrub { bytes_s, rest_percent, for_s, anew } => {
                put_varint(&mut out, *bytes_s);
                out.push(*rest_percent);
                put_varint(&mut out, *for_s);
                out.push(u8::from(*anew));
            }
            Task::Repair => {}
            Task::Label { drive, names } => {
                out.extend_from_slice(&drive.0);
                for name in names {
                    out.push(u8::from(name.is_some()));
                    name.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
                }
            }
            Task::Add { drive } => put_bytes(&mut out, drive.as_bytes()),
            Task::Admit { drive } | Task::Retire { drive } => out.extend_from_slice(&drive.0),
        }
        out
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout.
    pub fn decode_body(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        r.ensure(bytes.len() <= MANDATE_LEN_MAX, "body exceeds its limit")?;
        let (vault, number) = (VaultId(r.array()?), r.varint()?);
        r.ensure(number > 0, "mandates count from 1")?;
        let task = match r.u8()? {
            SCRUB => {
                let (bytes_s, rest_percent, for_s) = (r.varint()?, r.u8()?, r.varint()?);
                r.ensure(rest_percent < 100, "who only rests does nothing")?;
                Task::Scrub { bytes_s, rest_percent, for_s, anew: r.flag(NEITHER)? }
            }
            REPAIR => Task::Repair,
            LABEL => {
                let drive = DriveId(r.array()?);
                let mut name = || if r.flag(NEITHER)? { text(&mut r).map(Some) } else { Ok(None) };
                let names = [name()?, name()?, name()?, name()?];
                r.ensure(names.iter().any(Option::is_some), "it names nothing anew")?;
                Task::Label { drive, names }
            }
            ADD => Task::Add { drive: text(&mut r)? },
            ADMIT => Task::Admit { drive: DriveId(r.array()?) },
            RETIRE => Task::Retire { drive: DriveId(r.array()?) },
            _ => return Err(r.fail("unknown task")),
        };
        r.finish()?;
        Ok(Self { vault, number, task })
    }
}

/// A mandate and its signatures. That they are right is for [`SignedMandate::verify`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedMandate {
    /// What it says.
    pub mandate: Mandate,
    /// The body as it was signed.
    pub body: Vec<u8>,
    /// Both signatures.
    pub signature: PairSignature,
}

impl SignedMandate {
    /// The bytes that cross.
    pub fn encode(&self) -> Vec<u8> {
        signed::encode(MAGIC, &self.body, &self.signature)
    }

    /// Reads one. The signatures are not verified.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, signature) = signed::decode(WHAT, MAGIC, MANDATE_LEN_MAX, bytes)?;
        Ok(Self { mandate: Mandate::decode_body(body)?, body: body.to_vec(), signature })
    }

    /// Verifies both signatures with the authority's keys.
    ///
    /// # Errors
    /// [`SignError::Signature`] naming the algorithm that refused.
    pub fn verify(&self, authority: &PairPublic) -> Result<(), SignError> {
        //= FORMAT#F58 nobody but the authority tells a vault what to do
        authority.verify(MANDATE_CONTEXT, &self.body, &self.signature)
    }
}

/// More bytes than any signed mandate has.
pub const SIGNED_MANDATE_LEN_MAX: usize = MANDATE_LEN_MAX + signed::OVERHEAD;

/// How a mandate stands with the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is taken, and its turn comes.
    Waits,
    /// It is being followed.
    UnderWay,
    /// All of it was done.
    Done,
    /// It ended, and not all that was wanted could be done.
    InPart,
    /// It could not be followed.
    Failed,
}

impl Stage {
    const ALL: [Self; 5] = [Self::Waits, Self::UnderWay, Self::Done, Self::InPart, Self::Failed];

    pub(crate) fn code(self) -> u8 {
        Self::ALL.iter().zip(1u8..).find(|(stage, _)| **stage == self).map_or(0, |(_, code)| code)
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Waits | Self::UnderWay)
    }
}

/// How far a mandate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How it stands.
    pub stage: Stage,
    /// Since when it stands so, in seconds since 1970 by the vault's clock.
    pub since_s: i64,
    /// Objects that were looked at,
    pub done: u64,
    /// and all there are to be; 0 where that is not known.
    pub total: u64,
    /// What came of it, for people; cut where it is too long.
    pub text: String,
}

impl Progress {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.stage.code());
        out.extend_from_slice(&self.since_s.to_le_bytes());
        put_varint(out, self.done);
        put_varint(out, self.total);
        put_bytes(out, cut(&self.text, MANDATE_TEXT_MAX).as_bytes());
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = r.u8()?;
        let stage = Stage::from_code(code).ok_or_else(|| r.fail("unknown stage of a mandate"))?;
        let since_s = r.u64()?.cast_signed();
        Ok(Self { stage, since_s, done: r.varint()?, total: r.varint()?, text: text(r)? })
    }
}

/// The bytes of a vault's book of mandates: those that it took, the newest last, and how far each is.
///
/// # Panics
/// When there are more than [`MANDATES_KEPT_MAX`]: a mistake of our caller.
pub fn encode_book(entries: &[(Mandate, Progress)]) -> Vec<u8> {
    assert!(entries.len() <= MANDATES_KEPT_MAX, "the oldest are forgotten before");
    let mut out = BOOK_MAGIC.to_vec();
    put_len(&mut out, entries.len());
    for (mandate, progress) in entries {
        put_bytes(&mut out, &mandate.encode_body());
        progress.put(&mut out);
    }
    put_check(&mut out, 0);
    out
}

/// Reads a book.
///
/// # Errors
/// [`Malformed`] when the bytes are not one.
pub fn decode_book(bytes: &[u8]) -> Result<Vec<(Mandate, Progress)>, Malformed> {
    let mut r = Reader::new(BOOK, bytes);
    let whole = has_check(bytes);
    r.ensure(whole, "its check does not match")?;
    let magic = r.take(BOOK_MAGIC.len())?;
    r.ensure(magic == BOOK_MAGIC, "not a book of version 1")?;
    let n = r.varint_max(MANDATES_KEPT_MAX, "more mandates than are kept")?;
    let mut out = Vec::new();
    for _ in 0..n {
        let mandate = Mandate::decode_body(r.bytes(MANDATE_LEN_MAX)?)?;
        out.push((mandate, Progress::read(&mut r)?));
    }
    r.ensure(r.left() == 16, "more than it should have")?;
    Ok(out)
}

/// As much of `text` as has at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    let end = (0..=text.len().min(max)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

pub(crate) fn text(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let bytes = r.bytes(MANDATE_TEXT_MAX)?;
    let text = std::str::from_utf8(bytes).map_err(|_| r.fail("text that is not UTF-8"))?;
    Ok(text.to_owned())
}

pub(crate) const NEITHER: &str = "neither yes nor no";
const SCRUB: u8 = 1;
const REPAIR: u8 = 2;
const LABEL: u8 = 3;
const ADD: u8 = 4;
const ADMIT: u8 = 5;
const RETIRE: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Vec<Task> {
        let drive = DriveId([7; 16]);
        let names = [Some("A3".to_owned()), None, Some(String::new()), None];
        vec![
            Task::Scrub { bytes_s: 50_000_000, rest_percent: 80, for_s: 7200, anew: true },
            Task::Scrub { bytes_s: 0, rest_percent: 0, for_s: 0, anew: false },
            Task::Repair,
            Task::Label { drive, names },
            Task::Add { drive: "/mnt/g/lavatube,label=A7".into() },
            Task::Admit { drive },
            Task::Retire { drive },
        ]
    }

    fn book() -> Vec<(Mandate, Progress)> {
        let stage = |n: usize| Stage::ALL[n % 5];
        let of = |(n, task): (usize, Task)| {
            let mandate = Mandate { vault: VaultId([1; 16]), number: n as u64 + 1, task };
            (
                mandate,
                Progress { stage: stage(n), since_s: -1, done: 3, total: 900, text: "two drives are gone".into() },
            )
        };
        tasks().into_iter().enumerate().map(of).collect()
    }

    #[test]
    fn mandates_survive_and_nothing_else_is_one() {
        for (mandate, _) in book() {
            let body = mandate.encode_body();
            assert_eq!(Mandate::decode_body(&body), Ok(mandate));
            for at in 0..body.len() {
                assert!(Mandate::decode_body(&body[..at]).is_err());
            }
        }
        let refused = |number, task| {
            let body = Mandate { vault: VaultId([1; 16]), number, task }.encode_body();
            Mandate::decode_body(&body).unwrap_err().rule
        };
        assert_eq!(refused(0, Task::Repair), "mandates count from 1");
        let rests = Task::Scrub { bytes_s: 0, rest_percent: 100, for_s: 0, anew: false };
        assert_eq!(refused(1, rests), "who only rests does nothing");
        let nothing = Task::Label { drive: DriveId([7; 16]), names: [None, None, None, None] };
        assert_eq!(refused(1, nothing), "it names nothing anew");
        assert_eq!(refused(1, Task::Add { drive: "x".repeat(MANDATE_TEXT_MAX + 1) }), "length exceeds its limit");
    }

    #[test]
    fn a_book_survives_and_a_changed_one_is_none() {
        let bytes = encode_book(&book());
        assert_eq!(decode_book(&bytes), Ok(book()));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode_book(&bad).is_err() && decode_book(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn what_came_of_one_is_cut_between_characters() {
        let mut long = book();
        long[0].1.text = "é".repeat(MANDATE_TEXT_MAX);
        assert_eq!(decode_book(&encode_book(&long)).unwrap()[0].1.text, "é".repeat(MANDATE_TEXT_MAX / 2));
    }
}
