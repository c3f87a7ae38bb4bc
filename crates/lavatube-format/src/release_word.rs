//! Releases that are signed far from the vault: what Earth asks, and what the vault says, signed (FORMAT section 23).
//!
//! A word tells what a release stands on: the leaves of the log in order, what is kept and for how long, which releases are not done. A question may carry a
//! release, and then the word says what became of it. Step 18 of the walk. It must not know what is believed, nor how a release is followed.

use lavatube_base::limits::{
    DEPOSITORS_SETTLED_MAX, LEAVES_TOLD_MAX, LIFTS_ASKED_MAX, MANDATE_TEXT_MAX, RELEASE_LEN_MAX, RELEASES_TOLD_MAX,
};
use lavatube_base::sign::{ED25519_SIGNATURE_LEN, EdSigner, SignError, verify_ed25519};
use lavatube_base::{DepositorId, ObjectId, VaultId};

use crate::log::Leaf;
use crate::mandate::{NEITHER, cut, text};
use crate::manifest::signed;
use crate::receipt::RECEIPT_LEN_MAX;
use crate::shard::ObjectKind;
use crate::wire::{Malformed, Reader, put_bytes, put_len, put_varint};

const CONTEXT: &str = "lavatube/1 release word";

/// What is asked of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseQuestion {
    /// Drawn for this question: the word has it.
    pub nonce: [u8; 16],
    /// From which place on the leaves of the log are wanted.
    pub from: u64,
    /// Manifests whose holds are taken to be lifted.
    pub lifts: Vec<ObjectId>,
    /// A signed release, if the vault is to take one. Not yet looked at.
    pub release: Option<Vec<u8>>,
}

impl ReleaseQuestion {
    /// Appends the question.
    ///
    /// # Panics
    /// When it lifts more than its limit says: a mistake of our caller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        assert!(self.lifts.len() <= LIFTS_ASKED_MAX, "asked with too many lifts at once");
        out.extend_from_slice(&self.nonce);
        put_varint(out, self.from);
        put_len(out, self.lifts.len());
        self.lifts.iter().for_each(|id| out.extend_from_slice(&id.0));
        out.push(u8::from(self.release.is_some()));
        self.release.iter().for_each(|release| put_bytes(out, release));
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (nonce, from) = (r.array()?, r.varint()?);
        let n = r.varint_max(LIFTS_ASKED_MAX, "more lifts than the limit")?;
        let lifts = (0..n).map(|_| r.array().map(ObjectId)).collect::<Result<_, _>>()?;
        let has = r.flag(NEITHER)?;
        let release = if has { Some(r.bytes(SIGNED_RELEASE_LEN_MAX)?.to_vec()) } else { None };
        Ok(Self { nonce, from, lifts, release })
    }
}

/// What keeps something from being freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptWord {
    /// Nothing does.
    Nothing,
    /// The manifest at this place, and with it all before it.
    Kept {
        /// Its place.
        place: u64,
        /// Seconds of the vault's uptime for which that is so at least; `None` until a hold is lifted.
        left_s: Option<u64>,
    },
    /// A manifest cannot be read now, and may keep something.
    Unread,
}

/// How a release stands that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StandingWord {
    /// What tells that cannot be read now.
    Unknown,
    /// These depositors have not said yet that they know of it; the first of them, where they are many.
    Waits(Vec<DepositorId>),
    /// It frees nothing, ever.
    Void,
    /// It is followed, and something is left to be done.
    Followed,
}

/// A release that is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWord {
    /// It.
    pub id: ObjectId,
    /// Its number,
    pub number: u64,
    /// objects that it frees,
    pub objects: u64,
    /// and packs of which it frees some.
    pub thins: u64,
    /// How it stands.
    pub standing: StandingWord,
}

/// What became of the release that came with the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// It.
    pub id: ObjectId,
    /// Its number; 0 when it is none.
    pub number: u64,
    /// The vault's receipt for it, or why it is not taken.
    pub outcome: Result<Vec<u8>, String>,
}

/// What a vault says of releases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseWord {
    /// The vault.
    pub vault: VaultId,
    /// That of the question.
    pub nonce: [u8; 16],
    /// What became of the release that came with it, if one did.
    pub about: Option<About>,
    /// Entries of the log now,
    pub size: u64,
    /// and its root.
    pub root: [u8; 32],
    /// What is kept, when the lifts of the question are done.
    pub kept: KeptWord,
    /// Releases that are not done, the newest where they are many.
    pub open: Vec<OpenWord>,
    /// The place of the first leaf here.
    pub from: u64,
    /// Leaves from there on; where they are many there are more behind them.
    pub leaves: Vec<Leaf>,
}

impl ReleaseWord {
    /// Its bytes, which are what is signed.
    ///
    /// # Panics
    /// When it has more of anything than its limits say: a mistake of our caller.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.open.len() <= RELEASES_TOLD_MAX && self.leaves.len() <= LEAVES_TOLD_MAX, "too much is told");
        let mut out = [&self.vault.0[..], &self.nonce].concat();
        match &self.about {
            None => out.push(0),
            Some(About { id, number, outcome }) => {
                out.push(if outcome.is_ok() { 1 } else { 2 });
                out.extend_from_slice(&id.0);
                put_varint(&mut out, *number);
                match outcome {
                    Ok(receipt) => put_bytes(&mut out, receipt),
                    Err(why) => put_bytes(&mut out, cut(why, MANDATE_TEXT_MAX).as_bytes()),
                }
            }
        }
        put_varint(&mut out, self.size);
        out.extend_from_slice(&self.root);
        match self.kept {
            KeptWord::Nothing => out.push(0),
            KeptWord::Kept { place, left_s } => {
                out.push(if left_s.is_some() { 1 } else { 2 });
                put_varint(&mut out, place);
                left_s.iter().for_each(|s| put_varint(&mut out, *s));
            }
            KeptWord::Unread => out.push(3),
        }
        put_len(&mut out, self.open.len());
        for open in &self.open {
            out.extend_from_slice(&open.id.0);
            [open.number, open.objects, open.thins].iter().for_each(|n| put_varint(&mut out, *n));
            put_standing(&mut out, &open.standing);
        }
        put_varint(&mut out, self.from);
        put_len(&mut out, self.leaves.len());
        self.leaves.iter().for_each(|leaf| out.extend_from_slice(leaf.as_ref()));
        out
    }

    /// Signs it with the vault's key.
    pub fn sign(self, signer: &EdSigner) -> SignedWord {
        let signature = signer.sign(CONTEXT, &self.encode());
        SignedWord { word: self, signature }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (vault, nonce) = (VaultId(r.array()?), r.array()?);
        let about = match r.u8()? {
            0 => None,
            taken @ 1..=2 => {
                let (id, number) = (ObjectId(r.array()?), r.varint()?);
                let outcome = if taken == 1 { Ok(r.bytes(RECEIPT_LEN_MAX)?.to_vec()) } else { Err(text(r)?) };
                Some(About { id, number, outcome })
            }
            _ => return Err(r.fail("neither taken nor refused")),
        };
        let (size, root) = (r.varint()?, r.array()?);
        let kept = match r.u8()? {
            0 => KeptWord::Nothing,
            1 => KeptWord::Kept { place: r.varint()?, left_s: Some(r.varint()?) },
            2 => KeptWord::Kept { place: r.varint()?, left_s: None },
            3 => KeptWord::Unread,
            _ => return Err(r.fail("neither kept nor free")),
        };
        let n = r.varint_max(RELEASES_TOLD_MAX, "more releases than are told")?;
        let open = (0..n).map(|_| read_open(r)).collect::<Result<_, _>>()?;
        let from = r.varint()?;
        let n = r.varint_max(LEAVES_TOLD_MAX, "more leaves than are told")?;
        let leaves = (0..n).map(|_| read_leaf(r)).collect::<Result<_, _>>()?;
        Ok(Self { vault, nonce, about, size, root, kept, open, from, leaves })
    }
}

fn put_standing(out: &mut Vec<u8>, standing: &StandingWord) {
    out.push(match standing {
        StandingWord::Unknown => 0,
        StandingWord::Waits(_) => 1,
        StandingWord::Void => 2,
        StandingWord::Followed => 3,
    });
    if let StandingWord::Waits(waits) = standing {
        let waits = &waits[..waits.len().min(DEPOSITORS_SETTLED_MAX)];
        put_len(out, waits.len());
        waits.iter().for_each(|id| out.extend_from_slice(&id.0));
    }
}

fn read_open(r: &mut Reader<'_>) -> Result<OpenWord, Malformed> {
    let (id, number, objects, thins) = (ObjectId(r.array()?), r.varint()?, r.varint()?, r.varint()?);
    let standing = match r.u8()? {
        0 => StandingWord::Unknown,
        1 => {
            let n = r.varint_max(DEPOSITORS_SETTLED_MAX, "more depositors than are told")?;
            StandingWord::Waits((0..n).map(|_| r.array().map(DepositorId)).collect::<Result<_, _>>()?)
        }
        2 => StandingWord::Void,
        3 => StandingWord::Followed,
        _ => return Err(r.fail("unknown standing of a release")),
    };
    Ok(OpenWord { id, number, objects, thins, standing })
}

fn read_leaf(r: &mut Reader<'_>) -> Result<Leaf, Malformed> {
    let kind = ObjectKind::from_code(r.u8()?).filter(|kind| kind.is_logged());
    let kind = kind.ok_or_else(|| r.fail("a leaf of what is not in the log"))?;
    Ok(Leaf::new(kind, ObjectId(r.array()?)))
}

/// A word with its signature; not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedWord {
    /// What it says.
    pub word: ReleaseWord,
    /// Ed25519 signature by the vault's key.
    pub signature: [u8; ED25519_SIGNATURE_LEN],
}

impl SignedWord {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.word.encode()[..], &self.signature].concat()
    }

    /// Reads one from the bytes of a layout it is the last part of.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { word: ReleaseWord::read(r)?, signature: r.array()? })
    }

    /// Verifies that it is the word of the vault `vault`, whose public key this is.
    ///
    /// # Errors
    /// [`SignError::Signature`] when it is not.
    pub fn verify(&self, vault: VaultId, vault_key: &[u8; 32]) -> Result<(), SignError> {
        //= FORMAT#F62 nobody else says what became of a release
        verify_ed25519(vault_key, CONTEXT, &self.word.encode(), &self.signature)?;
        if self.word.vault == vault { Ok(()) } else { Err(SignError::Signature("another vault's")) }
    }
}

/// Longest release as an object.
pub const SIGNED_RELEASE_LEN_MAX: usize = RELEASE_LEN_MAX + signed::OVERHEAD;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn word(leaves: usize, waits: usize) -> ReleaseWord {
        let open = |standing| OpenWord { id: ObjectId([5; 32]), number: 300, objects: 7, thins: 0, standing };
        let kinds = [ObjectKind::Manifest, ObjectKind::DepositorCard, ObjectKind::Release];
        let leaf = |n: usize| Leaf::new(kinds[n % 3], ObjectId([n as u8; 32]));
        ReleaseWord {
            vault: VaultId([1; 16]),
            nonce: [2; 16],
            about: Some(About { id: ObjectId([3; 32]), number: 300, outcome: Ok(vec![9; RECEIPT_LEN_MAX]) }),
            size: 900,
            root: [4; 32],
            kept: KeptWord::Kept { place: 300, left_s: Some(1 << 40) },
            open: vec![
                open(StandingWord::Waits(vec![DepositorId([6; 32]); waits])),
                open(StandingWord::Unknown),
                open(StandingWord::Void),
                open(StandingWord::Followed),
            ],
            from: 880,
            leaves: (0..leaves).map(leaf).collect(),
        }
    }

    fn decoded(bytes: &[u8]) -> Result<SignedWord, Malformed> {
        let mut r = Reader::new("release word", bytes);
        let signed = SignedWord::decode(&mut r)?;
        r.finish()?;
        Ok(signed)
    }

    #[test]
    fn only_the_vault_says_what_a_release_stands_on_and_no_byte_of_that_is_changed() {
        let signer = EdSigner::from_seed(&[5; 32]).unwrap();
        let signed = word(3, 2).sign(&signer);
        let bytes = signed.encode();
        let is_good = |word: &SignedWord| word.verify(VaultId([1; 16]), &signer.public()).is_ok();
        assert_eq!(decoded(&bytes).as_ref(), Ok(&signed));
        assert!(is_good(&signed));
        assert!(signed.verify(VaultId([2; 16]), &signer.public()).is_err());
        assert!(signed.verify(VaultId([1; 16]), &EdSigner::from_seed(&[6; 32]).unwrap().public()).is_err());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decoded(&bad).map_or(true, |bad| !is_good(&bad)), "{at}");
            assert!(decoded(&bytes[..at]).is_err());
        }
    }

    #[test]
    fn words_have_limits_and_what_is_too_much_is_cut_or_told_another_time() {
        let signer = EdSigner::from_seed(&[5; 32]).unwrap();
        let most = word(LEAVES_TOLD_MAX, DEPOSITORS_SETTLED_MAX + 1).sign(&signer);
        let back = decoded(&most.encode()).unwrap();
        let StandingWord::Waits(waits) = &back.word.open[0].standing else { panic!("it waits") };
        assert_eq!((waits.len(), back.word.leaves.len()), (DEPOSITORS_SETTLED_MAX, LEAVES_TOLD_MAX));
        assert!(back.verify(VaultId([1; 16]), &signer.public()).is_ok());
        let why = "é".repeat(MANDATE_TEXT_MAX);
        let about = Some(About { id: ObjectId([3; 32]), number: 0, outcome: Err(why) });
        let refused = decoded(&ReleaseWord { about, ..word(0, 0) }.sign(&signer).encode()).unwrap();
        assert_eq!(refused.word.about.unwrap().outcome, Err("é".repeat(MANDATE_TEXT_MAX / 2)));
        let mut bytes = ReleaseWord { open: Vec::new(), leaves: Vec::new(), ..word(0, 0) }.encode();
        bytes.truncate(bytes.len() - 1);
        put_len(&mut bytes, LEAVES_TOLD_MAX + 1);
        bytes.resize(bytes.len() + 33 * (LEAVES_TOLD_MAX + 1) + 64, 2);
        assert_eq!(decoded(&bytes).map_err(|e| e.rule), Err("more leaves than are told"));
        let lifts = |n: usize| {
            let mut bytes = vec![0; 17];
            put_len(&mut bytes, n);
            bytes.resize(bytes.len() + 32 * n + 1, 0);
            ReleaseQuestion::decode(&mut Reader::new("", &bytes)).map(drop).map_err(|e| e.rule)
        };
        assert_eq!((lifts(LIFTS_ASKED_MAX), lifts(LIFTS_ASKED_MAX + 1)), (Ok(()), Err("more lifts than the limit")));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decoded(&bytes);
            let _ = ReleaseQuestion::decode(&mut Reader::new("", &bytes));
        }
    }
}
