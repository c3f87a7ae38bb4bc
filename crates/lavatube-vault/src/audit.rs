//! Proving that everything is still there: the answer to a challenge of Earth, one object at a time (FORMAT section 17).
//!
//! Every block of every pack that is asked about goes into one sum, and so does its tag; of neither does the vault know what
//! Earth knows. Bytes are read as for anyone who wants them, so that nothing enters the sum that no hash vouches for. Step 18
//! of the walk. It must not know keys; of manifests it knows whose they are and which packs and tags they name.

use std::ops::Range;

use lavatube_base::limits::{AUDIT_BAD_MAX, AUDIT_BLOCK_LEN};
use lavatube_base::{Denial, ObjectId, Refusal, Stays};
use lavatube_codes::field::elements;
use lavatube_codes::{Sums, inner_product};
use lavatube_format::audit::{Answer, Challenge, Place, Progress};
use lavatube_format::manifest::{Manifest, SignedManifest};
use lavatube_format::pack::class_len;
use lavatube_format::tags::{self, TAG_LEN, blocks, clear_weights};

use crate::{ObjectKind, Vault};

/// An answer that is being made.
pub struct Prover {
    challenge: Challenge,
    /// All but the sum of blocks.
    answer: Answer,
    sums: Sums,
    open: Option<Open>,
    buffer: Vec<u8>,
}

/// The manifest whose packs are gone by.
struct Open {
    id: ObjectId,
    manifest: Manifest,
    len: u64,
    /// The number of the first tag of the pack that is next, and the position of that pack.
    tag: (u32, u64),
    /// The object of tags that was read last, and which it is.
    tags: Option<(usize, Vec<u8>)>,
}

impl Prover {
    /// Begins an answer.
    pub fn new(challenge: Challenge) -> Self {
        let answer = Answer::new(challenge.from);
        Self::resumed(Progress { challenge, answer })
    }

    /// Goes on with one.
    pub fn resumed(progress: Progress) -> Self {
        let Progress { challenge, answer } = progress;
        Self { sums: Sums::resumed(&answer.sum), challenge, answer, open: None, buffer: Vec::new() }
    }

    /// What a next process can go on with.
    pub fn progress(&self) -> Progress {
        Progress { challenge: self.challenge.clone(), answer: self.answer() }
    }

    /// The answer: whole once [`Prover::step`] has said so.
    pub fn answer(&self) -> Answer {
        Answer { sum: self.sums.sum(), ..self.answer.clone() }
    }

    /// What is to be proved.
    pub fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Bytes that it is about so far.
    pub fn bytes(&self) -> u64 {
        self.answer.bytes
    }

    /// Goes by one more manifest or pack. Whether there is more to do.
    pub fn step(&mut self, vault: &Vault) -> bool {
        let upto = self.challenge.upto;
        if self.answer.upto >= upto || self.answer.bad.len() >= AUDIT_BAD_MAX {
            return false;
        }
        let Some(place) = self.place(vault).filter(|place| *place < upto) else {
            self.answer.upto = upto;
            return false;
        };
        if self.open.as_ref().is_none_or(|open| open.id != place.manifest)
            && let Err(denial) = self.open(vault, place.manifest)
        {
            // What its packs are is not to be known: with it goes all that was still to come of it.
            if place.position > 0 {
                self.answer.upto = place;
                return false;
            }
            self.answer.bad.push((place, denial));
            self.answer.upto = Place::behind(place.manifest).min(upto);
            return true;
        }
        self.answer.upto = self.go_by(vault, place).unwrap_or_else(|| Place::behind(place.manifest)).min(upto);
        true
    }

    /// Where the next thing is, or that there is none.
    fn place(&self, vault: &Vault) -> Option<Place> {
        let next = self.answer.upto;
        let manifest = vault.manifest_from(next.manifest)?;
        Some(if manifest == next.manifest { next } else { Place { manifest, position: 0 } })
    }

    fn open(&mut self, vault: &Vault, id: ObjectId) -> Result<(), Denial> {
        self.open = None;
        let len = read(vault, id, None, &mut self.buffer)?;
        let signed = SignedManifest::decode(&self.buffer).map_err(|_| Denial::Refused(Refusal::Object))?;
        self.open = Some(Open { id, manifest: signed.manifest, len, tag: (1, 0), tags: None });
        Ok(())
    }

    /// Takes in what is at `place`, of the open manifest. The place behind it, or `None` when there is no more of that one.
    fn go_by(&mut self, vault: &Vault, place: Place) -> Option<Place> {
        let open = self.open.as_mut()?;
        let Manifest { depositor, sequence, leaves, .. } = &open.manifest;
        if !self.challenge.is_about(*depositor, *sequence) {
            return None;
        }
        let Some(index) = place.position.checked_sub(1) else {
            let weights = self.challenge.weights(place, blocks(open.len));
            self.sums.add(&elements(&weights).collect::<Vec<_>>(), &self.buffer);
            self.answer.manifests += 1;
            self.answer.bytes += open.len;
            return Some(place.next());
        };
        let leaf = usize::try_from(index).ok().and_then(|index| leaves.get(index)).copied();
        // Of a session without tags there is nothing to compare with.
        let leaf = leaf.filter(|_| !open.manifest.tags.is_empty())?;
        if vault.is_released(leaf.id()) {
            return Some(place.next());
        }
        let thinned = vault.is_thinned(leaf.id());
        let len = class_len(leaf.class) as u64;
        let (first, n) = (open.first_tag(place.position), blocks(len));
        let proof = open.tags(vault, first, n).map_err(|denial| match denial {
            Denial::Away => denial,
            _ => Denial::Refused(Refusal::Object),
        });
        let read = |out: &mut Vec<u8>| match thinned {
            true => read_thinned(vault, leaf.id(), out).map(Some),
            false => read(vault, leaf.id(), Some(len), out).map(|_| None),
        };
        let proof = proof.and_then(|tags| Ok((tags, read(&mut self.buffer)?)));
        match proof {
            Ok((tags, stays)) => {
                let mut weights = self.challenge.weights(place, n);
                let len = stays.as_ref().map_or(len, |stays| stays.len() as u64);
                stays.iter().for_each(|stays| clear_weights(stays, &mut weights));
                self.sums.add(&elements(&weights).collect::<Vec<_>>(), &self.buffer);
                self.answer.tags ^= inner_product(&tags, &weights);
                self.answer.packs += 1;
                self.answer.bytes += len;
            }
            Err(denial) => self.answer.bad.push((place, denial)),
        }
        Some(place.next())
    }
}

impl Open {
    /// The number of the first tag of the pack at `position`.
    fn first_tag(&mut self, position: u32) -> u64 {
        let (known, first) = self.tag;
        let (known, first) = if known <= position { (known, first) } else { (1, 0) };
        let between = [known, position].map(|n| usize::try_from(n - 1).unwrap_or(usize::MAX));
        let first = first + tags::tags_of(&self.manifest.leaves[between[0]..between[1]]);
        self.tag = (position, first);
        first
    }

    /// So many tags from number `first` on.
    fn tags(&mut self, vault: &Vault, first: u64, n: u64) -> Result<Vec<u8>, Denial> {
        let mut out = Vec::new();
        for (index, range) in tags::places(first, n) {
            if self.tags.as_ref().is_none_or(|(have, _)| *have != index) {
                let id = *self.manifest.tags.get(index).ok_or(Denial::Absent)?;
                let mut bytes = Vec::new();
                self.tags = None;
                read(vault, id, None, &mut bytes)?;
                self.tags = Some((index, bytes));
            }
            let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let Range { start, end } = range;
            let bytes = self.tags.as_ref().and_then(|(_, bytes)| bytes.get(place(start)..place(end)));
            out.extend_from_slice(bytes.ok_or(Denial::Lost)?);
        }
        debug_assert_eq!(out.len() as u64, n * TAG_LEN as u64, "as many as were asked for");
        Ok(out)
    }
}

/// Reads what is kept of a pack that was thinned, zeros in the place of what went, and tells which that is.
fn read_thinned(vault: &Vault, pack: ObjectId, out: &mut Vec<u8>) -> Result<Stays, Denial> {
    let or_away = |denial| if vault.lacks_drives() { Denial::Away } else { denial };
    let thinned = vault.read_thinned(pack).ok_or(Denial::Absent)?.map_err(|e| or_away(e.denial()))?;
    out.clear();
    out.extend_from_slice(thinned.bytes());
    Ok(thinned.stays().clone())
}

impl Vault {
    /// The first manifest with this id or a higher one.
    fn manifest_from(&self, id: ObjectId) -> Option<ObjectId> {
        // Those that are no packs are all here.
        let from = self.index.objects.range(id..);
        from.filter(|(_, entry)| entry.kind == ObjectKind::Manifest).map(|(id, _)| *id).next()
    }
}

/// Reads a whole object, of `len` bytes when that is known, in place of what is in `out`; its length.
fn read(vault: &Vault, id: ObjectId, len: Option<u64>, out: &mut Vec<u8>) -> Result<u64, Denial> {
    out.clear();
    // Drives that are away may have it.
    let or_away = |denial| if vault.lacks_drives() { Denial::Away } else { denial };
    let has = vault.find(id).ok_or_else(|| or_away(Denial::Absent))?.len;
    if len.is_some_and(|len| len != has) {
        return Err(Denial::Lost);
    }
    vault.read(id, 0..has, out).map_err(|e| or_away(e.denial()))?;
    Ok(has)
}

const _: () = assert!(AUDIT_BLOCK_LEN.is_multiple_of(64), "whole steps of the fastest engine");
