//! The vault's log: its leaves, what is asked of it, and what it answers (FORMAT section 16).
//!
//! A leaf is the kind and the id of an object. An answer stands on its checkpoint, whose signature and nonce the caller
//! verifies, and on proofs. It must not know in which order a vault takes things in, nor what is believed. Steps 17 and 18
//! of the walk.

use lavatube_base::ObjectId;
use lavatube_base::limits::{CHECKPOINT_LEN_MAX, LOG_ASKED_MAX, LOG_PROOF_MAX};
use lavatube_base::merkle::Hash;

use crate::Malformed;
use crate::checkpoint::Nonce;
use crate::shard::ObjectKind;
use crate::wire::{Reader, put_bytes, put_len, put_varint};

/// A leaf of the log: `kind u8 ‖ ObjectId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf([u8; LEAF_LEN]);

impl Leaf {
    /// The leaf of an object.
    pub fn new(kind: ObjectKind, id: ObjectId) -> Self {
        let mut out = [kind.code(); LEAF_LEN];
        out[1..].copy_from_slice(&id.0);
        Self(out)
    }

    /// What the object is; `None` of no leaf that was made here.
    pub fn kind(&self) -> Option<ObjectKind> {
        ObjectKind::from_code(self.0[0])
    }

    /// The object.
    pub fn id(&self) -> ObjectId {
        let mut out = [0; ObjectId::LEN];
        out.copy_from_slice(&self.0[1..]);
        ObjectId(out)
    }
}

impl AsRef<[u8]> for Leaf {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What is asked of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Drawn for this question.
    pub nonce: Nonce,
    /// Size of the log that is known: the proof begins there.
    pub known: u64,
    /// Objects whose places are asked for.
    pub objects: Vec<ObjectId>,
}

/// What a vault says of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The checkpoint: a note.
    pub note: Vec<u8>,
    /// What proves that the log of the known size is the beginning of this one; nothing when this one is shorter.
    pub consistency: Option<Vec<Hash>>,
    /// The objects that were asked for, in that order.
    pub objects: Vec<Placed>,
}

/// Where an object is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The object.
    pub id: ObjectId,
    /// Its place, from 0, and the proof of it; `None` when it is not in the log.
    pub place: Option<(u64, Vec<Hash>)>,
}

impl Question {
    /// Appends the question.
    ///
    /// # Panics
    /// When it asks for more objects than its limit says: a mistake of our caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.objects.len() <= LOG_ASKED_MAX, "asked for too many places at once");
        out.extend_from_slice(&self.nonce);
        put_varint(out, self.known);
        put_len(out, self.objects.len());
        self.objects.iter().for_each(|id| out.extend_from_slice(&id.0));
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (nonce, known) = (r.array()?, r.varint()?);
        let count = r.varint_max(LOG_ASKED_MAX, "more places asked for than the limit")?;
        let objects = (0..count).map(|_| r.array().map(ObjectId)).collect::<Result<_, _>>()?;
        Ok(Self { nonce, known, objects })
    }
}

impl Answer {
    /// Appends the answer.
    ///
    /// # Panics
    /// When it has more objects or longer proofs than the limits say: a mistake of our caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.objects.len() <= LOG_ASKED_MAX && self.note.len() <= CHECKPOINT_LEN_MAX, "too long an answer");
        put_bytes(out, &self.note);
        out.push(u8::from(self.consistency.is_some()));
        self.consistency.iter().for_each(|path| put_path(out, path));
        put_len(out, self.objects.len());
        for placed in &self.objects {
            out.extend_from_slice(&placed.id.0);
            match &placed.place {
                None => put_varint(out, 0),
                Some((place, path)) => {
                    put_varint(out, place + 1);
                    put_path(out, path);
                }
            }
        }
    }

    /// Reads an answer; note and proofs are for the caller to verify.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let note = r.bytes(CHECKPOINT_LEN_MAX)?.to_vec();
        let consistency = match r.u8()? {
            0 => None,
            1 => Some(path(r)?),
            _ => return Err(r.fail("neither with nor without a proof")),
        };
        let count = r.varint_max(LOG_ASKED_MAX, "more places than the limit")?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            let id = ObjectId(r.array()?);
            let place = r.varint()?.checked_sub(1);
            objects.push(Placed { id, place: place.map(|place| path(r).map(|path| (place, path))).transpose()? });
        }
        Ok(Self { note, consistency, objects })
    }
}

fn put_path(out: &mut Vec<u8>, path: &[Hash]) {
    assert!(path.len() <= LOG_PROOF_MAX, "no proof is as long");
    put_len(out, path.len());
    path.iter().for_each(|hash| out.extend_from_slice(hash));
}

fn path(r: &mut Reader<'_>) -> Result<Vec<Hash>, Malformed> {
    let count = r.varint_max(LOG_PROOF_MAX, "a proof longer than the limit")?;
    (0..count).map(|_| r.array()).collect()
}

const LEAF_LEN: usize = 1 + ObjectId::LEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_kind_and_id() {
        let leaf = Leaf::new(ObjectKind::Manifest, ObjectId([7; 32]));
        assert_eq!((leaf.kind(), leaf.id()), (Some(ObjectKind::Manifest), ObjectId([7; 32])));
        assert_eq!(leaf.as_ref(), [&[2][..], &[7; 32]].concat());
    }

    #[test]
    fn questions_and_answers_have_limits() {
        let objects = |count| {
            let mut bytes = vec![0; 17];
            put_len(&mut bytes, count);
            bytes.resize(bytes.len() + 32 * count, 0);
            Question::decode(&mut Reader::new("", &bytes)).map(drop).map_err(|e| e.rule)
        };
        assert_eq!(objects(LOG_ASKED_MAX), Ok(()));
        assert_eq!(objects(LOG_ASKED_MAX + 1), Err("more places asked for than the limit"));
        let answer = |hashes, places| {
            let mut bytes = vec![0, 1];
            put_len(&mut bytes, hashes);
            bytes.resize(bytes.len() + 32 * hashes, 0);
            put_len(&mut bytes, places);
            bytes.resize(bytes.len() + 33 * places, 0);
            Answer::decode(&mut Reader::new("", &bytes)).map(drop).map_err(|e| e.rule)
        };
        assert_eq!(answer(LOG_PROOF_MAX, LOG_ASKED_MAX), Ok(()));
        assert_eq!(answer(LOG_PROOF_MAX + 1, 0), Err("a proof longer than the limit"));
        assert_eq!(answer(0, LOG_ASKED_MAX + 1), Err("more places than the limit"));
        let mut long = Vec::new();
        put_bytes(&mut long, &[0; CHECKPOINT_LEN_MAX + 1]);
        long.extend([0, 0]);
        assert!(Answer::decode(&mut Reader::new("", &long)).is_err());
    }
}
