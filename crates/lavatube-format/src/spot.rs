//! Spot proofs: slices of packs that a nonce picks, what the vault answers, and a file of both that anyone can check (FORMAT
//! section 19).
//!
//! Which slices they are follows from the nonce and the manifests alone, so that whoever checks knows that nobody chose them,
//! and no answer serves twice. It must not know what is believed. Step 18 of the walk.

use lavatube_base::digest::keyed_stream;
use lavatube_base::limits::{MANIFEST_LEN_MAX, SLICE_BESIDE_MAX, SPOT_FILE_LEN_MAX, SPOT_SLICES_MAX};
use lavatube_base::slice::{SLICE_LEN, Slice, slices_of};
use lavatube_base::{Denial, ObjectId};

use crate::manifest::Manifest;
use crate::message::{denial, ground};
use crate::pack::class_len;
use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint};

/// Drawn for one spot proof.
pub type SpotNonce = [u8; 32];

/// A slice that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pick {
    /// The pack.
    pub pack: ObjectId,
    /// The number of the slice.
    pub number: u64,
}

/// The packs that slices are picked of: of these manifests, in the order of their ids, each one's in order.
pub fn packs<'m>(manifests: impl IntoIterator<Item = &'m Manifest>) -> Vec<(ObjectId, u64)> {
    let all = manifests.into_iter().flat_map(|manifest| &manifest.leaves);
    all.map(|leaf| (leaf.id(), class_len(leaf.class) as u64)).collect()
}

/// The slices that a nonce picks of `packs`, ascending: `count` draws, the same one perhaps twice.
pub fn picks(nonce: &SpotNonce, packs: &[(ObjectId, u64)], count: usize) -> Vec<Pick> {
    let mut ends = Vec::with_capacity(packs.len());
    let mut total = 0u64;
    for (_, len) in packs {
        total += slices_of(*len);
        ends.push(total);
    }
    if total == 0 {
        return Vec::new();
    }
    let mut drawn = vec![0; 16 * count];
    keyed_stream(nonce, &[b"lavatube/1 spot"], &mut drawn);
    let one = |bytes: &[u8; 16]| {
        // What 2^128 is not divided by evenly tips no scale.
        let at = u64::try_from(u128::from_le_bytes(*bytes) % u128::from(total)).unwrap_or(0);
        let which = ends.partition_point(|end| *end <= at);
        let before = which.checked_sub(1).map_or(0, |before| ends[before]);
        Pick { pack: packs[which].0, number: at - before }
    };
    let mut out: Vec<Pick> = drawn.as_chunks::<16>().0.iter().map(one).collect();
    out.sort_unstable();
    out
}

/// What a vault is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotQuestion {
    /// Drawn for it.
    pub nonce: SpotNonce,
    /// The slices.
    pub picks: Vec<Pick>,
}

/// What a vault answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotAnswer {
    /// That of the question.
    pub nonce: SpotNonce,
    /// The slices in the order of the question, or why one is not to be had.
    pub slices: Vec<Result<Slice, Denial>>,
}

impl SpotQuestion {
    /// Appends the question.
    ///
    /// # Panics
    /// When it asks for more than its limit: a mistake of our caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.picks.len() <= SPOT_SLICES_MAX, "asked for too many slices");
        out.extend_from_slice(&self.nonce);
        put_len(out, self.picks.len());
        for pick in &self.picks {
            out.extend_from_slice(&pick.pack.0);
            put_varint(out, pick.number);
        }
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let nonce = r.array()?;
        let count = r.varint_max(SPOT_SLICES_MAX, MANY)?;
        let mut picks = Vec::new();
        for _ in 0..count {
            picks.push(Pick { pack: ObjectId(r.array()?), number: r.varint()? });
        }
        r.ensure(picks.is_sorted(), "slices that do not ascend")?;
        Ok(Self { nonce, picks })
    }
}

impl SpotAnswer {
    /// Appends the answer.
    ///
    /// # Panics
    /// When it has more slices than its limit: a mistake of our caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.slices.len() <= SPOT_SLICES_MAX, "too many slices");
        out.extend_from_slice(&self.nonce);
        put_len(out, self.slices.len());
        for slice in &self.slices {
            match slice {
                Ok(slice) => {
                    out.push(0);
                    put_bytes(out, &slice.bytes);
                    put_len(out, slice.beside.len());
                    slice.beside.iter().for_each(|hash| out.extend_from_slice(hash));
                }
                Err(denial) => out.push(ground(*denial)),
            }
        }
    }

    /// Reads an answer; the slices are for the caller to verify.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let nonce = r.array()?;
        let count = r.varint_max(SPOT_SLICES_MAX, MANY)?;
        let mut slices = Vec::new();
        for _ in 0..count {
            slices.push(match r.u8()? {
                0 => {
                    let bytes = r.bytes(SLICE_LEN)?.to_vec();
                    let n = r.varint_max(SLICE_BESIDE_MAX, "more hashes than any slice has beside it")?;
                    Ok(Slice { bytes, beside: (0..n).map(|_| r.array()).collect::<Result<_, _>>()? })
                }
                code => Err(denial(code).ok_or_else(|| r.fail("unknown ground of a denial"))?),
            });
        }
        Ok(Self { nonce, slices })
    }
}

/// A spot proof with all that it takes to check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotProof {
    /// When it was asked for, in seconds since 1970 by the clock of whoever asked.
    pub time_s: i64,
    /// The manifests it is about, as objects, in the order of their ids.
    pub manifests: Vec<Vec<u8>>,
    /// The answer.
    pub answer: SpotAnswer,
}

impl SpotProof {
    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = SPOT_MAGIC.to_vec();
        out.extend_from_slice(&self.time_s.to_le_bytes());
        put_len(&mut out, self.manifests.len());
        self.manifests.iter().for_each(|manifest| put_bytes(&mut out, manifest));
        self.answer.encode(&mut out);
        out
    }

    /// Reads exactly such a file.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("spot proof", bytes);
        r.ensure(bytes.len() <= SPOT_FILE_LEN_MAX, "longer than the limit")?;
        r.ensure(bytes.starts_with(SPOT_MAGIC), "no spot proof")?;
        r.take(SPOT_MAGIC.len())?;
        let time_s = i64::from_le_bytes(r.array()?);
        let count = r.varint_max(r.left(), "more manifests than bytes")?;
        let mut manifests = Vec::new();
        for _ in 0..count {
            manifests.push(r.bytes(MANIFEST_LEN_MAX + (8 << 10))?.to_vec());
        }
        let answer = SpotAnswer::decode(&mut r)?;
        r.finish()?;
        Ok(Self { time_s, manifests, answer })
    }
}

/// First eight bytes of a spot proof in a file.
pub const SPOT_MAGIC: &[u8; 8] = b"LVTSPOT\x01";

const MANY: &str = "more slices than the limit";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two() -> Vec<(ObjectId, u64)> {
        vec![(ObjectId([1; 32]), 4096), (ObjectId([2; 32]), 65_536)]
    }

    #[test]
    fn a_nonce_picks_slices_of_all_packs_by_their_length() {
        let all = picks(&[5; 32], &two(), 1000);
        assert_eq!((all.len(), picks(&[5; 32], &two(), 1000)), (1000, all.clone()));
        assert_ne!(picks(&[6; 32], &two(), 1000), all);
        let of_first = all.iter().filter(|pick| pick.pack == ObjectId([1; 32])).count();
        assert!((30..90).contains(&of_first), "{of_first} of 1000, and 4 of 68 slices are there");
        assert!(all.iter().all(|pick| pick.number < if pick.pack == ObjectId([1; 32]) { 4 } else { 64 }));
        assert!((0..64).all(|n| all.iter().any(|pick| pick.number == n)), "each slice has its turn");
        assert_eq!(picks(&[5; 32], &[], 10), []);
    }

    #[test]
    fn questions_answers_and_files_survive_and_have_limits() {
        let question = SpotQuestion { nonce: [1; 32], picks: picks(&[1; 32], &two(), 5) };
        let mut bytes = Vec::new();
        question.encode(&mut bytes);
        assert_eq!(SpotQuestion::decode(&mut Reader::new("", &bytes)), Ok(question));
        let slice = Slice { bytes: vec![7; 1024], beside: vec![[8; 32]; 6] };
        let answer = SpotAnswer { nonce: [1; 32], slices: vec![Ok(slice), Err(Denial::Lost)] };
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        assert_eq!(SpotAnswer::decode(&mut Reader::new("", &bytes)), Ok(answer.clone()));
        let proof = SpotProof { time_s: -5, manifests: vec![vec![1, 2], vec![]], answer };
        assert_eq!(SpotProof::decode(&proof.encode()), Ok(proof.clone()));
        assert!((0..proof.encode().len()).all(|cut| SpotProof::decode(&proof.encode()[..cut]).is_err()));
        let many = |count| {
            let mut bytes = vec![0; 32];
            put_len(&mut bytes, count);
            bytes.resize(bytes.len() + 33 * count, 0);
            SpotQuestion::decode(&mut Reader::new("", &bytes)).map(drop).map_err(|e| e.rule)
        };
        assert_eq!((many(SPOT_SLICES_MAX), many(SPOT_SLICES_MAX + 1)), (Ok(()), Err(MANY)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SpotQuestion::decode(&mut Reader::new("", &bytes));
            let _ = SpotAnswer::decode(&mut Reader::new("", &bytes));
            let _ = SpotProof::decode(&[&SPOT_MAGIC[..], &bytes].concat());
        }
    }
}
