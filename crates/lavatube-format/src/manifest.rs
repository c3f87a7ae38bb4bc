//! Manifests: what a session consists of, signed, and the only thing that finishes it (FORMAT section 5).
//!
//! A manifest lists the sealed packs of a session by two digests each, carries the session's secret wrapped to the read
//! keys, and chains to the depositor's manifest before. Anyone can read it and check its signatures; only its note is
//! sealed. This file must not know keys, and takes no view on whether a manifest is believed.

use lavatube_base::digest::{Digests, merkle_root};
use lavatube_base::limits::{CHAIN_JOINS_MAX, MANIFEST_LEN_MAX, MARKS_MAX, PACK_CLASSES};
use lavatube_base::sign::{PairPublic, PairSignature, SignError};
use lavatube_base::{ChunkId, DepositorId, ObjectId, SessionId};
use minicbor::bytes::ByteArray;
use minicbor::{Decoder, Encoder};

use crate::cbor::{check_padded, check_same, malformed, padded};
use crate::tags;
use crate::wire::Malformed;

pub(crate) mod signed;

/// First eight bytes of every manifest.
pub const MAGIC: &[u8; 8] = b"LVTMANI\x01";
/// Context of the signatures.
pub const MANIFEST_CONTEXT: &str = "lavatube/1 manifest";
/// Bytes of an encapsulated key of X-Wing.
pub const ENC_LEN: usize = 1120;
/// Bytes of a wrapped session secret: 32 and a tag.
pub const CT_LEN: usize = 48;
/// The note's plaintext is padded to a multiple of this.
pub const NOTE_PADDING: usize = 256;
/// Bytes of a sealed note that are not its plaintext: commitment and tag.
pub const NOTE_OVERHEAD: usize = 32 + 16;

const WHAT: &str = "manifest";
type DecodeError = minicbor::decode::Error;
type EncodeError = minicbor::encode::Error<std::convert::Infallible>;

/// One sealed pack of a session; its number is its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Size class.
    pub class: u8,
    /// Both digests of the sealed bytes; the BLAKE3 one is the pack's id.
    pub digests: Digests,
}

impl Leaf {
    /// The leaf as it enters the Merkle tree: `class ‖ BLAKE3 ‖ SHA-256`.
    pub fn bytes(&self) -> [u8; 65] {
        let mut out = [0; 65];
        out[0] = self.class;
        out[1..33].copy_from_slice(&self.digests.blake3);
        out[33..].copy_from_slice(&self.digests.sha256);
        out
    }

    /// The pack's id.
    pub fn id(&self) -> ObjectId {
        ObjectId(self.digests.blake3)
    }
}

/// A session's secret, wrapped to one read key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrap {
    /// First eight bytes of BLAKE3 of the read public key.
    pub key_id: [u8; 8],
    /// Encapsulated key, [`ENC_LEN`] bytes.
    pub enc: Vec<u8>,
    /// Wrapped secret, [`CT_LEN`] bytes.
    pub ct: Vec<u8>,
}

/// What a session consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The session.
    pub session: SessionId,
    /// Who deposits it.
    pub depositor: DepositorId,
    /// Number among the depositor's manifests, from 1: above those of all manifests it follows.
    pub sequence: u64,
    /// The depositor's manifest before; `None` in the first, and in one whose maker could not read what came before.
    pub previous: Option<ObjectId>,
    /// Further ends of the depositor's chain that this manifest follows, ascending.
    pub joins: Vec<ObjectId>,
    /// Its packs in order of their numbers.
    pub leaves: Vec<Leaf>,
    /// RFC 6962 tree hash of the leaves: [`root_of`].
    pub root: [u8; 32],
    /// The session secret for each read key.
    pub wraps: Vec<Wrap>,
    /// Sealed note: commitment, ciphertext and tag.
    pub note: Vec<u8>,
    /// Objects with the tags of all its packs ([`crate::tags`]); none when they were not made.
    pub tags: Vec<ObjectId>,
    /// For how long nothing of it may be freed, and how precious it is.
    pub retention: Retention,
    /// How many of the vault's releases its maker knew: it leans on nothing that they free.
    pub releases: u64,
    /// What it commits to about the files that its session read ([`crate::roll`]); `None` from before there was that.
    pub files: Option<[u8; 32]>,
}

/// For how long nothing of a session may be freed, nor of what it may lean on; and how precious it is while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Seconds, as the vault witnesses them from when it has taken the manifest.
    pub s: u64,
    /// Until the authority lifts it.
    pub hold: bool,
    /// What gives up redundancy first where room has ended.
    pub precious: Preciousness,
}

/// How precious what a session brought is to its maker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Preciousness {
    /// It loses redundancy last.
    High,
    /// Like most.
    #[default]
    Normal,
    /// It loses redundancy first.
    Low,
}

impl Preciousness {
    fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::High => 1,
            Self::Low => 2,
        }
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match d.u8()? {
            1 => Ok(Self::High),
            2 => Ok(Self::Low),
            _ => Err(DecodeError::message("a session is precious, or least so")),
        }
    }
}

impl Retention {
    /// Whether it says that anything is to be kept.
    fn is_kept(self) -> bool {
        self.s > 0 || self.hold
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if d.array()? != Some(2) {
            return Err(DecodeError::message("a retention has two fields"));
        }
        let s = d.u64()?;
        match d.u8()? {
            0 => Ok(Self { s, hold: false, ..Self::default() }),
            1 => Ok(Self { s, hold: true, ..Self::default() }),
            _ => Err(DecodeError::message("a session is held or is not")),
        }
    }
}

/// The Merkle root over `leaves`.
pub fn root_of(leaves: &[Leaf]) -> [u8; 32] {
    merkle_root(&leaves.iter().map(Leaf::bytes).collect::<Vec<_>>())
}

impl Manifest {
    /// The manifests it follows directly.
    pub fn follows(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.previous.iter().chain(&self.joins).copied()
    }

    /// The objects that are in the vault before it is: its packs, then their tags.
    pub fn needs(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.leaves.iter().map(Leaf::id).chain(self.tags.iter().copied())
    }

    /// The body: what is signed.
    pub fn encode_body(&self) -> Vec<u8> {
        let mut e = Encoder::new(Vec::new());
        // Writing to a Vec cannot fail.
        let _: Result<(), EncodeError> = self.write(&mut e);
        e.into_writer()
    }

    fn write(&self, e: &mut Encoder<Vec<u8>>) -> Result<(), EncodeError> {
        let further = [
            self.previous.is_some(),
            !self.joins.is_empty(),
            !self.tags.is_empty(),
            self.retention.is_kept(),
            self.releases > 0,
            self.files.is_some(),
            self.retention.precious != Preciousness::Normal,
        ];
        e.map(7 + further.map(u64::from).iter().sum::<u64>())?;
        e.u8(1)?.bytes(&self.session.0)?;
        e.u8(2)?.bytes(&self.depositor.0)?;
        e.u8(3)?.u64(self.sequence)?;
        if let Some(previous) = &self.previous {
            e.u8(4)?.bytes(&previous.0)?;
        }
        e.u8(5)?.array(self.leaves.len() as u64)?;
        for leaf in &self.leaves {
            e.array(3)?.u8(leaf.class)?.bytes(&leaf.digests.blake3)?.bytes(&leaf.digests.sha256)?;
        }
        e.u8(6)?.bytes(&self.root)?;
        e.u8(7)?.array(self.wraps.len() as u64)?;
        for wrap in &self.wraps {
            e.array(3)?.bytes(&wrap.key_id)?.bytes(&wrap.enc)?.bytes(&wrap.ct)?;
        }
        e.u8(8)?.bytes(&self.note)?;
        if !self.joins.is_empty() {
            e.u8(9)?.array(self.joins.len() as u64)?;
            for id in &self.joins {
                e.bytes(&id.0)?;
            }
        }
        if !self.tags.is_empty() {
            e.u8(10)?.array(self.tags.len() as u64)?;
            for id in &self.tags {
                e.bytes(&id.0)?;
            }
        }
        if self.retention.is_kept() {
            e.u8(11)?.array(2)?.u64(self.retention.s)?.u8(self.retention.hold.into())?;
        }
        if self.releases > 0 {
            e.u8(12)?.u64(self.releases)?;
        }
        if let Some(files) = &self.files {
            e.u8(13)?.bytes(files)?;
        }
        if self.retention.precious != Preciousness::Normal {
            e.u8(16)?.u8(self.retention.precious.code())?;
        }
        Ok(())
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it is not such a map in deterministic form, a length or class is not one of ours, it follows
    /// what it cannot follow, or the root does not fit the leaves.
    pub fn decode_body(bytes: &[u8]) -> Result<Self, Malformed> {
        let fail = |rule| Err(Malformed { what: WHAT, at: 0, rule });
        if bytes.len() > MANIFEST_LEN_MAX {
            return fail("body exceeds its limit");
        }
        let out = Self::read(&mut Decoder::new(bytes)).map_err(malformed(WHAT))?;
        //= FORMAT#F24 the first follows none, and only who follows one can join more
        if out.sequence == 0 || (out.sequence == 1 && out.previous.is_some()) {
            return fail("sequence numbers begin at 1, and the first has no manifest before it");
        }
        let joins = &out.joins;
        let others = joins.is_sorted_by(|a, b| a < b) && out.previous.is_none_or(|p| !joins.contains(&p));
        if joins.len() > CHAIN_JOINS_MAX || !others || (out.previous.is_none() && !joins.is_empty()) {
            return fail("the ends that a manifest joins are few, ascending, and others than the one before it");
        }
        if out.leaves.iter().any(|l| l.class >= PACK_CLASSES) {
            return fail("no such pack class");
        }
        //= FORMAT#F35 tags of all packs, or of none
        if !out.tags.is_empty() && out.tags.len() as u64 != tags::objects_of(&out.leaves) {
            return fail("the tags are not those of its packs");
        }
        if out.wraps.iter().any(|w| w.enc.len() != ENC_LEN || w.ct.len() != CT_LEN) {
            return fail("a wrap does not have the lengths of its suite");
        }
        if out.note.len() <= NOTE_OVERHEAD || !(out.note.len() - NOTE_OVERHEAD).is_multiple_of(NOTE_PADDING) {
            return fail("the note is not padded");
        }
        check_same(WHAT, bytes, &out.encode_body())?;
        if out.root != root_of(&out.leaves) {
            return fail("the root does not fit the leaves");
        }
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let keys = d.map()?;
        key(d, 1)?;
        let session = SessionId(fixed(d)?);
        key(d, 2)?;
        let depositor = DepositorId(fixed(d)?);
        key(d, 3)?;
        let sequence = d.u64()?;
        let (previous, mut left) = match d.u8()? {
            4 => {
                let previous = Some(ObjectId(fixed(d)?));
                key(d, 5)?;
                (previous, keys.unwrap_or(0).checked_sub(8))
            }
            5 => (None, keys.unwrap_or(0).checked_sub(7)),
            _ => return Err(DecodeError::message("keys missing or out of order")),
        };
        let leaves = list(d, |d| {
            triple(d)?;
            Ok(Leaf { class: d.u8()?, digests: Digests { blake3: fixed(d)?, sha256: fixed(d)? } })
        })?;
        key(d, 6)?;
        let root = fixed(d)?;
        key(d, 7)?;
        let wraps = list(d, |d| {
            triple(d)?;
            Ok(Wrap { key_id: fixed(d)?, enc: d.bytes()?.to_vec(), ct: d.bytes()?.to_vec() })
        })?;
        key(d, 8)?;
        let note = d.bytes()?.to_vec();
        let (mut joins, mut tags, mut releases) = (Vec::new(), Vec::new(), 0);
        let (mut retention, mut files) = (Retention::default(), None);
        let mut last = 8;
        while let Some(n @ 1..) = left {
            let key = d.u8()?;
            if key <= last {
                return Err(DecodeError::message("keys missing or out of order"));
            }
            // An empty one would be read as none, and then it is not what was signed.
            match key {
                9 => joins = list(d, |d| Ok(ObjectId(fixed(d)?)))?,
                10 => tags = list(d, |d| Ok(ObjectId(fixed(d)?)))?,
                11 => retention = Retention::read(d)?,
                16 => retention.precious = Preciousness::read(d)?,
                12 => releases = d.u64()?,
                13 => files = Some(fixed(d)?),
                _ => return Err(DecodeError::message("no such key")),
            }
            (last, left) = (key, Some(n - 1));
        }
        if left != Some(0) {
            return Err(DecodeError::message("a manifest has seven keys and some of those that may be absent"));
        }
        Ok(Self {
            session,
            depositor,
            sequence,
            previous,
            joins,
            leaves,
            root,
            wraps,
            note,
            tags,
            retention,
            releases,
            files,
        })
    }
}

/// A manifest with its body as it was signed, and the signature. Decoding does not verify; [`SignedManifest::verify`]
/// does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedManifest {
    /// What the body says.
    pub manifest: Manifest,
    /// The signed bytes.
    pub body: Vec<u8>,
    /// The depositor's signature.
    pub signature: PairSignature,
}

impl SignedManifest {
    /// The manifest as an object.
    ///
    /// # Panics
    /// When the signature is not one of ML-DSA-65, or the body exceeds 4 GiB.
    pub fn encode(&self) -> Vec<u8> {
        signed::encode(MAGIC, &self.body, &self.signature)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`Malformed`] when the envelope or body (see [`Manifest::decode_body`]) breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, signature) = signed::decode(WHAT, MAGIC, MANIFEST_LEN_MAX, bytes)?;
        Ok(Self { manifest: Manifest::decode_body(body)?, body: body.to_vec(), signature })
    }

    /// Verifies both signatures with the depositor's public keys. That these keys are the ones of
    /// `manifest.depositor` is for the caller to know (a card's id).
    ///
    /// # Errors
    /// [`SignError::Signature`] naming the algorithm that refused.
    pub fn verify(&self, depositor: &PairPublic) -> Result<(), SignError> {
        //= FORMAT#F14 both signatures, over the context and the body
        depositor.verify(MANIFEST_CONTEXT, &self.body, &self.signature)
    }
}

/// What the note of a manifest says once it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Tenant name.
    pub tenant: String,
    /// Snapshots finished in this session, and the number of the pack that has each one's record.
    pub snapshots: Vec<(ChunkId, u32)>,
    /// What is said of snapshots that were there before.
    pub marks: Vec<Mark>,
}

/// That a snapshot is forgotten, or is not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The snapshot.
    pub snapshot: ChunkId,
    /// Whether it is forgotten.
    pub forgotten: bool,
    /// Of several marks of one snapshot the highest counts.
    pub edition: u64,
    /// Proof that whoever says so could read the snapshot.
    pub proof: [u8; 32],
}

impl Note {
    /// Whether it says no more than whose it is.
    pub fn says_nothing(&self) -> bool {
        self.snapshots.is_empty() && self.marks.is_empty()
    }

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
        e.map(if self.marks.is_empty() { 2 } else { 3 })?.u8(1)?.str(&self.tenant)?;
        e.u8(2)?.array(self.snapshots.len() as u64)?;
        for (id, pack) in &self.snapshots {
            e.array(2)?.bytes(&id.0)?.u32(*pack)?;
        }
        if !self.marks.is_empty() {
            e.u8(3)?.array(self.marks.len() as u64)?;
            for Mark { snapshot, forgotten, edition, proof } in &self.marks {
                e.array(4)?.bytes(&snapshot.0)?.u8((*forgotten).into())?.u64(*edition)?.bytes(proof)?;
            }
        }
        Ok(())
    }

    /// Reads a note's plaintext.
    ///
    /// # Errors
    /// [`Malformed`] when the map or the padding breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "note of a manifest";
        let mut d = Decoder::new(bytes);
        let out = Self::read(&mut d).map_err(malformed(WHAT))?;
        check_padded(WHAT, bytes, d.position(), &out.encode_map())?;
        Ok(out)
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let keys = d.map()?.filter(|keys| (2..=3).contains(keys));
        let keys = keys.ok_or_else(|| DecodeError::message("a note has two or three keys"))?;
        key(d, 1)?;
        let tenant = d.str()?.to_owned();
        key(d, 2)?;
        let snapshots = list(d, |d| {
            if d.array()? != Some(2) {
                return Err(DecodeError::message("a snapshot is an id and a pack number"));
            }
            Ok((ChunkId(fixed(d)?), d.u32()?))
        })?;
        let mut marks = Vec::new();
        if keys == 3 {
            key(d, 3)?;
            // An empty list would be read as none, and then it is not what was sealed.
            marks = list(d, Mark::read)?;
        }
        if marks.len() > MARKS_MAX {
            return Err(DecodeError::message("more marks than a note may have"));
        }
        Ok(Self { tenant, snapshots, marks })
    }
}

impl Mark {
    fn read(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        if d.array()? != Some(4) {
            return Err(DecodeError::message("a mark has four fields"));
        }
        let snapshot = ChunkId(fixed(d)?);
        let forgotten = match d.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::message("a snapshot is forgotten or is not")),
        };
        Ok(Self { snapshot, forgotten, edition: d.u64()?, proof: fixed(d)? })
    }
}

/// Expects map key `n` next.
pub(crate) fn key(d: &mut Decoder<'_>, n: u8) -> Result<(), DecodeError> {
    if d.u8()? == n { Ok(()) } else { Err(DecodeError::message("keys missing or out of order")) }
}

/// Expects a byte string of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], DecodeError> {
    d.decode::<ByteArray<N>>().map(ByteArray::into)
}

fn triple(d: &mut Decoder<'_>) -> Result<(), DecodeError> {
    if d.array()? == Some(3) { Ok(()) } else { Err(DecodeError::message("expected an array of three")) }
}

/// A definite array; grows with what is read, never ahead of it.
pub(crate) fn list<T>(
    d: &mut Decoder<'_>,
    mut one: impl FnMut(&mut Decoder<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let n = d.array()?.ok_or_else(|| DecodeError::message("indefinite array"))?;
    let mut out = Vec::new();
    for _ in 0..n {
        out.push(one(d)?);
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
