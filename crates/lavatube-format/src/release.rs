//! Releases: the authority's word that packs may go (FORMAT section 18).
//!
//! A release is made for one state of one vault's log, and says nothing to any other. What it frees anyone can read; which
//! snapshots go with it only its tenant can. This file must not know keys, nor when a vault follows one.

use lavatube_base::limits::{DEPOSITORS_SETTLED_MAX, RELEASE_LEN_MAX};
use lavatube_base::sign::{PairPublic, PairSignature, SignError};
use lavatube_base::{ChunkId, DepositorId, ObjectId, Stays, VaultId};
use minicbor::{Decoder, Encoder};

use crate::cbor::{check_padded, check_same, malformed, padded};
use crate::manifest::{NOTE_OVERHEAD, NOTE_PADDING, fixed, key, list, signed};
use crate::wire::Malformed;

/// The first bytes of a release: the magic and version 1.
pub const MAGIC: &[u8; 8] = b"LVTRLSE\x01";
/// What its signatures are over, before a zero byte and the body.
pub const RELEASE_CONTEXT: &str = "lavatube/1 release";

const WHAT: &str = "release";
type DecodeError = minicbor::decode::Error;
type EncodeError = minicbor::encode::Error<std::convert::Infallible>;

/// What may go, and what was looked at before that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The vault it is for.
    pub vault: VaultId,
    /// Random; the keys of its note are made of it.
    pub nonce: [u8; 32],
    /// Leaves of the vault's log when it was made: all of them were looked at.
    pub size: u64,
    /// Root of the log of that size.
    pub root: [u8; 32],
    /// Its number among the releases of the vault, from 1.
    pub number: u64,
    /// Packs and objects of tags that may go, ascending.
    pub objects: Vec<ObjectId>,
    /// Depositors that have nothing under way from before they knew of this release, ascending: nobody waits for them.
    pub settled: Vec<DepositorId>,
    /// The sealed note: commitment, ciphertext, tag.
    pub note: Vec<u8>,
    /// Manifests that are held no more, ascending.
    pub lifts: Vec<ObjectId>,
    /// Packs of which some blocks may go, ascending, and what stays of each.
    pub thins: Vec<(ObjectId, Stays)>,
}

impl Release {
    /// The CBOR body, which is what is signed.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _: Result<(), EncodeError> = self.write(&mut e);
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), EncodeError> {
        let keys = 8 + u64::from(!self.lifts.is_empty()) + u64::from(!self.thins.is_empty());
        e.map(keys)?.u8(1)?.bytes(&self.vault.0)?.u8(2)?.bytes(&self.nonce)?;
        e.u8(3)?.u64(self.size)?.u8(4)?.bytes(&self.root)?.u8(5)?.u64(self.number)?;
        e.u8(6)?.array(self.objects.len() as u64)?;
        for id in &self.objects {
            e.bytes(&id.0)?;
        }
        e.u8(7)?.array(self.settled.len() as u64)?;
        for id in &self.settled {
            e.bytes(&id.0)?;
        }
        e.u8(8)?.bytes(&self.note)?;
        if !self.lifts.is_empty() {
            e.u8(9)?.array(self.lifts.len() as u64)?;
            for id in &self.lifts {
                e.bytes(&id.0)?;
            }
        }
        if !self.thins.is_empty() {
            e.u8(10)?.array(self.thins.len() as u64)?;
            for (id, stays) in &self.thins {
                e.array(1 + stays.runs().len() as u64)?.bytes(&id.0)?;
                for run in stays.runs() {
                    e.u32(*run)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout.
    pub fn decode_body(bytes: &[u8]) -> Result<Self, Malformed> {
        let fail = |rule| Err(Malformed { what: WHAT, at: 0, rule });
        if bytes.len() > RELEASE_LEN_MAX {
            return fail("body exceeds its limit");
        }
        let out = Self::read(&mut Decoder::new(bytes)).map_err(malformed(WHAT))?;
        if out.number == 0 || (out.objects.is_empty() && out.lifts.is_empty() && out.thins.is_empty()) {
            return fail("releases count from 1, and each frees or lifts something");
        }
        let ascending = |ids: &[ObjectId]| ids.is_sorted_by(|a, b| a < b);
        let goes = |id: &ObjectId| out.objects.binary_search(id).is_ok();
        if !out.thins.is_sorted_by(|a, b| a.0 < b.0) || out.thins.iter().any(|(id, stays)| stays.is_whole() || goes(id))
        {
            return fail("packs that are thinned are ascending, each once, and some of each goes and some stays");
        }
        if !ascending(&out.objects) || !ascending(&out.lifts) || !out.settled.is_sorted_by(|a, b| a < b) {
            return fail("objects and depositors are ascending, each once");
        }
        if out.settled.len() > DEPOSITORS_SETTLED_MAX {
            return fail("more depositors than a release may name");
        }
        if out.note.len() <= NOTE_OVERHEAD || !(out.note.len() - NOTE_OVERHEAD).is_multiple_of(NOTE_PADDING) {
            return fail("the note is not padded");
        }
        check_same(WHAT, bytes, &out.encode_body())?;
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let keys = d.map()?.filter(|keys| (8..=10).contains(keys));
        let keys = keys.ok_or_else(|| DecodeError::message("a release has eight to ten keys"))?;
        key(d, 1)?;
        let vault = VaultId(fixed(d)?);
        key(d, 2)?;
        let nonce = fixed(d)?;
        key(d, 3)?;
        let size = d.u64()?;
        key(d, 4)?;
        let root = fixed(d)?;
        key(d, 5)?;
        let number = d.u64()?;
        key(d, 6)?;
        let objects = list(d, |d| Ok(ObjectId(fixed(d)?)))?;
        key(d, 7)?;
        let settled = list(d, |d| Ok(DepositorId(fixed(d)?)))?;
        key(d, 8)?;
        let note = d.bytes()?.to_vec();
        let (mut lifts, mut thins) = (Vec::new(), Vec::new());
        for _ in 8..keys {
            // An empty one would be read as none, and then it is not what was signed; nor is what comes in another order.
            match d.u8()? {
                9 => lifts = list(d, |d| Ok(ObjectId(fixed(d)?)))?,
                10 => thins = list(d, thinned)?,
                _ => return Err(DecodeError::message("unknown key")),
            }
        }
        Ok(Self { vault, nonce, size, root, number, objects, settled, note, lifts, thins })
    }
}

fn thinned(d: &mut Decoder<'_>) -> Result<(ObjectId, Stays), DecodeError> {
    let fail = || DecodeError::message("these are no runs of a pack");
    let parts = d.array()?.and_then(|n| n.checked_sub(1)).ok_or_else(fail)?;
    let pack = ObjectId(fixed(d)?);
    let mut runs = Vec::new();
    // What is not there ends it: nothing is allocated by a number that is read.
    for _ in 0..parts {
        runs.push(d.u32()?);
    }
    Ok((pack, Stays::from_runs(runs).ok_or_else(fail)?))
}

/// A release and its signatures. That they are right is for [`SignedRelease::verify`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRelease {
    /// What it says.
    pub release: Release,
    /// The body as it was signed.
    pub body: Vec<u8>,
    /// Both signatures.
    pub signature: PairSignature,
}

impl SignedRelease {
    /// The object as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        signed::encode(MAGIC, &self.body, &self.signature)
    }

    /// Reads an object. The signatures are not verified.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, signature) = signed::decode(WHAT, MAGIC, RELEASE_LEN_MAX, bytes)?;
        Ok(Self { release: Release::decode_body(body)?, body: body.to_vec(), signature })
    }

    /// Verifies both signatures with the authority's keys.
    ///
    /// # Errors
    /// [`SignError::Signature`] naming the algorithm that refused.
    pub fn verify(&self, authority: &PairPublic) -> Result<(), SignError> {
        //= FORMAT#F37 nobody but the authority frees anything
        authority.verify(RELEASE_CONTEXT, &self.body, &self.signature)
    }
}

/// What the note of a release says once it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseNote {
    /// Tenant name.
    pub tenant: String,
    /// Snapshots that go.
    pub snapshots: Vec<ChunkId>,
}

impl ReleaseNote {
    /// The note's plaintext, padded with zeros to a multiple of [`NOTE_PADDING`].
    pub fn encode(&self) -> Vec<u8> {
        padded(self.encode_map())
    }

    fn encode_map(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _: Result<(), EncodeError> = self.write(&mut e);
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), EncodeError> {
        e.map(2)?.u8(1)?.str(&self.tenant)?.u8(2)?.array(self.snapshots.len() as u64)?;
        for id in &self.snapshots {
            e.bytes(&id.0)?;
        }
        Ok(())
    }

    /// Reads a note's plaintext.
    ///
    /// # Errors
    /// [`Malformed`] when the map or the padding breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "note of a release";
        let mut d = Decoder::new(bytes);
        let out = Self::read(&mut d).map_err(malformed(WHAT))?;
        check_padded(WHAT, bytes, d.position(), &out.encode_map())?;
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if d.map()? != Some(2) {
            return Err(DecodeError::message("a note of a release has two keys"));
        }
        key(d, 1)?;
        let tenant = d.str()?.to_owned();
        key(d, 2)?;
        let snapshots = list(d, |d| Ok(ChunkId(fixed(d)?)))?;
        Ok(Self { tenant, snapshots })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn release(objects: usize) -> Release {
        let id = |n: usize| lavatube_base::Verified::hash(&n.to_le_bytes()).id();
        let mut objects: Vec<ObjectId> = (0..objects).map(id).collect();
        objects.sort();
        Release {
            vault: VaultId([1; 16]),
            nonce: [2; 32],
            size: 300,
            root: [3; 32],
            number: 7,
            objects,
            settled: vec![DepositorId([4; 32]), DepositorId([5; 32])],
            note: vec![6; NOTE_OVERHEAD + NOTE_PADDING],
            lifts: Vec::new(),
            thins: Vec::new(),
        }
    }

    #[test]
    fn a_release_frees_something_and_names_each_once() {
        let good = release(3);
        assert_eq!(Release::decode_body(&good.encode_body()), Ok(good.clone()));
        let refused = |change: fn(&mut Release)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(Release::decode_body(&bad.encode_body()).is_err(), "{bad:?}");
        };
        refused(|r| r.objects.clear());
        refused(|r| r.objects.swap(0, 1));
        refused(|r| r.objects[1] = r.objects[0]);
        refused(|r| r.settled.swap(0, 1));
        refused(|r| r.number = 0);
        refused(|r| r.lifts = vec![ObjectId([2; 32]), ObjectId([1; 32])]);
        let lifting = Release { objects: Vec::new(), lifts: vec![ObjectId([1; 32])], ..good.clone() };
        assert_eq!(Release::decode_body(&lifting.encode_body()), Ok(lifting));
        let stays = |runs: &[u32]| Stays::from_runs(runs.to_vec()).unwrap();
        let thins = vec![(ObjectId([0; 32]), stays(&[1, 2, 1])), (ObjectId([1; 32]), stays(&[300, 700, 24]))];
        let thinning = Release { objects: Vec::new(), thins, ..good.clone() };
        assert_eq!(Release::decode_body(&thinning.encode_body()), Ok(thinning.clone()));
        let both = Release { lifts: vec![ObjectId([1; 32])], ..thinning };
        assert_eq!(Release::decode_body(&both.encode_body()), Ok(both));
        refused(|r| r.thins = vec![(r.objects[0], Stays::from_runs(vec![1, 2, 1]).unwrap())]);
        refused(|r| r.thins = vec![(ObjectId([0; 32]), Stays::from_runs(vec![4]).unwrap())]);
        refused(|r| r.thins = vec![(ObjectId([0; 32]), Stays::from_runs(vec![1, 2, 1]).unwrap()); 2]);
        refused(|r| r.note.truncate(NOTE_OVERHEAD));
        refused(|r| r.note.push(0));
        let settled = |n: u16| {
            (0..n).map(|n| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&n.to_be_bytes());
                DepositorId(id)
            })
        };
        let most = u16::try_from(DEPOSITORS_SETTLED_MAX).unwrap();
        let at = Release { settled: settled(most).collect(), ..good.clone() };
        assert!(Release::decode_body(&at.encode_body()).is_ok());
        let beyond = Release { settled: settled(most + 1).collect(), ..good };
        assert!(Release::decode_body(&beyond.encode_body()).is_err());
    }

    #[test]
    fn every_truncation_is_refused_and_so_is_what_is_too_long() {
        let body = release(3).encode_body();
        assert!((0..body.len()).all(|n| Release::decode_body(&body[..n]).is_err()));
        let one = release(2).encode_body().len() - release(1).encode_body().len();
        let beyond = release(RELEASE_LEN_MAX / one + 1).encode_body();
        assert!(beyond.len() > RELEASE_LEN_MAX && Release::decode_body(&beyond).is_err());
        let within = release((RELEASE_LEN_MAX - 1000) / one);
        assert_eq!(Release::decode_body(&within.encode_body()), Ok(within));
    }

    proptest! {
        #[test]
        fn any_note_survives(tenant in "\\PC{0,40}", snapshots in proptest::collection::vec(any::<[u8; 24]>(), 0..40)) {
            let note = ReleaseNote { tenant, snapshots: snapshots.into_iter().map(ChunkId).collect() };
            let bytes = note.encode();
            prop_assert!(bytes.len().is_multiple_of(NOTE_PADDING));
            prop_assert_eq!(ReleaseNote::decode(&bytes), Ok(note));
        }

        #[test]
        fn no_input_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = SignedRelease::decode(&bytes);
            let _ = Release::decode_body(&bytes);
            let _ = ReleaseNote::decode(&bytes);
        }

        #[test]
        fn a_changed_byte_is_refused_or_says_what_it_says(at in 0usize..500, bit in 0u8..8) {
            let mut body = release(3).encode_body();
            let at = at % body.len();
            body[at] ^= 1 << bit;
            if let Ok(other) = Release::decode_body(&body) {
                prop_assert_eq!(other.encode_body(), body);
            }
        }
    }
}
