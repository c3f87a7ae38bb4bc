//! Audits: what Earth challenges a vault with, what the vault answers, and how far it has come (FORMAT section 17).
//!
//! One answer of 16 KiB stands for every byte of every pack it is about, whatever they are. The numbers that blocks are
//! multiplied with are drawn here, since both sides make them. Step 18 of the walk. It must not know who believes what.

use lavatube_base::digest::keyed_stream;
use lavatube_base::limits::{AUDIT_BAD_MAX, AUDIT_BLOCK_LEN, AUDIT_DEPOSITORS_MAX};
use lavatube_base::{Denial, DepositorId, ObjectId};

use crate::message::{denial, ground};
use crate::tags::TAG_LEN;
use crate::wire::{Malformed, Reader, has_check, put_check, put_len, put_varint};

/// One thing that an audit goes by, in the order in which it does: manifests by their ids, and each one's packs behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The manifest.
    pub manifest: ObjectId,
    /// 0 is the manifest itself, 1 its first pack.
    pub position: u32,
}

impl Place {
    /// Before everything.
    pub const START: Self = Self { manifest: ObjectId([0; 32]), position: 0 };
    /// Behind everything there can be.
    pub const END: Self = Self { manifest: ObjectId([0xff; 32]), position: u32::MAX };

    /// The place after this one, of the same manifest.
    pub fn next(self) -> Self {
        Self { position: self.position.saturating_add(1), ..self }
    }

    /// Behind a manifest and all its packs.
    pub fn behind(manifest: ObjectId) -> Self {
        let mut next = manifest.0;
        for byte in next.iter_mut().rev() {
            let carry;
            (*byte, carry) = byte.overflowing_add(1);
            if !carry {
                return Self { manifest: ObjectId(next), position: 0 };
            }
        }
        Self::END
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.manifest.0);
        out.extend_from_slice(&self.position.to_le_bytes());
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { manifest: ObjectId(r.array()?), position: r.u32()? })
    }
}

/// What a vault is asked to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Drawn for this challenge alone.
    pub nonce: [u8; 32],
    /// Where it begins,
    pub from: Place,
    /// and before what it ends.
    pub upto: Place,
    /// Whose sessions, and up to which number each. Ascending.
    pub depositors: Vec<(DepositorId, u64)>,
}

impl Challenge {
    /// The numbers, 16 bytes each, that the `blocks` blocks of what is at `place` are multiplied with.
    pub fn weights(&self, place: Place, blocks: u64) -> Vec<u8> {
        //= FORMAT#F34 numbers that nobody can know before the nonce
        let mut out = vec![0; usize::try_from(blocks).expect("blocks of an object") * TAG_LEN];
        keyed_stream(&self.nonce, &[&place.manifest.0, &place.position.to_le_bytes()], &mut out);
        out
    }

    /// Whether a session is among those that are asked for.
    pub fn is_about(&self, depositor: DepositorId, sequence: u64) -> bool {
        let at = self.depositors.binary_search_by_key(&depositor, |(id, _)| *id);
        at.is_ok_and(|at| sequence <= self.depositors[at].1)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.nonce.to_vec();
        self.from.put(&mut out);
        self.upto.put(&mut out);
        put_len(&mut out, self.depositors.len());
        for (id, sequence) in &self.depositors {
            out.extend_from_slice(&id.0);
            put_varint(&mut out, *sequence);
        }
        out
    }

    /// Reads one from the bytes of a layout it is a part of.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (nonce, from, upto) = (r.array()?, Place::read(r)?, Place::read(r)?);
        r.ensure(from <= upto, "it ends before it begins")?;
        let n = r.varint_max(AUDIT_DEPOSITORS_MAX, "more depositors than the limit")?;
        let mut depositors: Vec<(DepositorId, u64)> = Vec::new();
        for _ in 0..n {
            let id = DepositorId(r.array()?);
            r.ensure(depositors.last().is_none_or(|(last, _)| *last < id), "depositors that do not ascend")?;
            depositors.push((id, r.varint()?));
        }
        Ok(Self { nonce, from, upto, depositors })
    }
}

/// What a vault answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Before what it ended: before the end of the challenge when there was too much bad.
    pub upto: Place,
    /// Manifests it is about,
    pub manifests: u64,
    /// packs,
    pub packs: u64,
    /// and their bytes together.
    pub bytes: u64,
    /// What could not be read and is in none of the sums, in order, and on what ground.
    pub bad: Vec<(Place, Denial)>,
    /// The sum of all blocks, each times its number.
    pub sum: Vec<u8>,
    /// The sum of the packs' tags, each times the number of its block.
    pub tags: u128,
}

impl Answer {
    /// About nothing yet, up to `upto`.
    pub fn new(upto: Place) -> Self {
        Self { upto, manifests: 0, packs: 0, bytes: 0, bad: Vec::new(), sum: vec![0; AUDIT_BLOCK_LEN], tags: 0 }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(AUDIT_BLOCK_LEN + 128);
        self.upto.put(&mut out);
        [self.manifests, self.packs, self.bytes].iter().for_each(|n| put_varint(&mut out, *n));
        put_len(&mut out, self.bad.len());
        for (place, denial) in &self.bad {
            place.put(&mut out);
            out.push(ground(*denial));
        }
        out.extend_from_slice(&self.sum);
        out.extend_from_slice(&self.tags.to_le_bytes());
        out
    }

    /// Reads one from the bytes of a layout it is a part of.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let upto = Place::read(r)?;
        let (manifests, packs, bytes) = (r.varint()?, r.varint()?, r.varint()?);
        let n = r.varint_max(AUDIT_BAD_MAX, "more that is bad than the limit")?;
        let mut bad: Vec<(Place, Denial)> = Vec::new();
        for _ in 0..n {
            let place = Place::read(r)?;
            r.ensure(bad.last().is_none_or(|(last, _)| *last < place) && place < upto, "what is bad does not ascend")?;
            let code = r.u8()?;
            bad.push((place, denial(code).ok_or_else(|| r.fail("unknown ground of a denial"))?));
        }
        let sum = r.take(AUDIT_BLOCK_LEN)?.to_vec();
        Ok(Self { upto, manifests, packs, bytes, bad, sum, tags: u128::from_le_bytes(r.array()?) })
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { upto, manifests, packs, bytes, bad, .. } = self;
        write!(f, "Answer(up to {upto:?}, {manifests} manifests, {packs} packs, {bytes} bytes, bad {bad:?})")
    }
}

/// How far an answer has come: what a next process goes on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What was asked.
    pub challenge: Challenge,
    /// The answer so far: what is before its `upto` is in it.
    pub answer: Answer,
}

impl Progress {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = [&MAGIC[..], &self.challenge.encode(), &self.answer.encode()].concat();
        put_check(&mut out, 0);
        out
    }

    /// Reads it from exactly its bytes.
    ///
    /// # Errors
    /// [`Malformed`] when they are not what was written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("progress of a proof", bytes);
        let whole = has_check(bytes);
        r.ensure(whole, "its check does not match")?;
        let magic = r.take(MAGIC.len())?;
        r.ensure(magic == MAGIC, "not a progress of version 1")?;
        let out = Self { challenge: Challenge::read(&mut r)?, answer: Answer::read(&mut r)? };
        r.ensure(r.left() == 16, "more than it should have")?;
        Ok(out)
    }
}

const MAGIC: &[u8; 8] = b"LVTPRUF\x01";

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        let place = |n, position| Place { manifest: ObjectId([n; 32]), position };
        let depositors = vec![(DepositorId([1; 32]), 7), (DepositorId([2; 32]), u64::MAX)];
        let challenge = Challenge { nonce: [9; 32], from: Place::START, upto: Place::END, depositors };
        let mut answer = Answer::new(place(8, 3));
        (answer.manifests, answer.packs, answer.bytes, answer.tags) = (3, 900, 1 << 40, 5 << 120);
        answer.bad = vec![(place(1, 0), Denial::Lost), (place(8, 2), Denial::Absent)];
        answer.sum[77] = 1;
        Progress { challenge, answer }
    }

    #[test]
    fn a_progress_survives_and_a_changed_one_is_none() {
        let bytes = progress().encode();
        assert_eq!(Progress::decode(&bytes), Ok(progress()));
        for at in (0..bytes.len()).step_by(7) {
            assert!(Progress::decode(&bytes[..at]).is_err());
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Progress::decode(&bad).is_err());
        }
    }

    #[test]
    fn an_answer_has_sixteen_and_a_half_kilobytes_whatever_it_is_about() {
        let mut answer = progress().answer;
        answer.bad.clear();
        (answer.manifests, answer.packs, answer.bytes) = (1 << 30, 1 << 40, 1 << 60);
        assert!(answer.encode().len() <= 16_500, "{}", answer.encode().len());
    }

    #[test]
    fn behind_a_manifest_comes_the_next_id_there_can_be() {
        let mut id = [0xff; 32];
        assert_eq!(Place::behind(ObjectId(id)), Place::END);
        id[30] = 7;
        let next = Place::behind(ObjectId(id));
        assert_eq!((next.manifest.0[30..].to_vec(), next.position), (vec![8, 0], 0));
        assert!(Place { manifest: ObjectId(id), position: u32::MAX } < next);
    }

    #[test]
    fn what_is_asked_for_is_by_depositor_and_number() {
        let challenge = progress().challenge;
        assert!(challenge.is_about(DepositorId([1; 32]), 7) && challenge.is_about(DepositorId([2; 32]), 99));
        assert!(!challenge.is_about(DepositorId([1; 32]), 8) && !challenge.is_about(DepositorId([3; 32]), 1));
        let [a, b] = [1, 2].map(|position| challenge.weights(Place { position, ..Place::START }, 2));
        assert!(a != b && a[..16] != a[16..] && a.len() == 32);
    }

    #[test]
    fn limits_hold_at_their_edge() {
        let mut p = progress();
        p.challenge.depositors = (0..AUDIT_DEPOSITORS_MAX as u64 + 1)
            .map(|n| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&n.to_be_bytes());
                (DepositorId(id), 1)
            })
            .collect();
        assert!(Progress::decode(&p.encode()).is_err());
        p.challenge.depositors.pop();
        assert!(Progress::decode(&p.encode()).is_ok());
        p.answer.upto = Place::END;
        p.answer.bad =
            (0..=AUDIT_BAD_MAX as u32).map(|position| (Place { position, ..Place::START }, Denial::Lost)).collect();
        assert!(Progress::decode(&p.encode()).is_err());
        p.answer.bad.pop();
        assert!(Progress::decode(&p.encode()).is_ok());
        p.answer.bad.swap(0, 1);
        assert!(Progress::decode(&p.encode()).is_err());
    }
}
