//! The book: what left the depositor, what the vault gave a receipt for, in the order it happened.
//!
//! It is the memory of the onlooker, which no crash takes: invariants compare the world with it. It also watches for
//! what must never happen even once: two contents under one pack number, two notes in one session (FORMAT#F17). It must
//! not know drives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_base::digest::h16;
use lavatube_base::{ObjectId, SessionId, Verified};
use lavatube_client::spool::SpoolKind;
use lavatube_format::manifest::SignedManifest;
use lavatube_format::pack::Header;
use lavatube_format::release::Release;

use crate::wires::Wires;

/// An object that left the depositor.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its id.
    pub id: ObjectId,
    /// The vault's receipt, once there was one.
    pub receipt: Option<Vec<u8>>,
}

#[derive(Default)]
struct Inner {
    known: Vec<Known>,
    places: BTreeMap<ObjectId, usize>,
    packs: BTreeMap<(SessionId, u32), ObjectId>,
    /// By session and commitment, which stands for the key.
    notes: BTreeMap<(SessionId, Vec<u8>), [u8; 16]>,
    faults: Vec<String>,
    /// What releases name that were signed: objects that go, and packs that go in part.
    freed: BTreeSet<ObjectId>,
    /// Objects that the vault was seen to have let go of wholly.
    gone: BTreeSet<ObjectId>,
}

/// The book of one world.
pub struct Book {
    inner: Mutex<Inner>,
    wires: Arc<Wires>,
}

impl Book {
    /// An empty book.
    pub fn new(wires: &Arc<Wires>) -> Self {
        Self { inner: Mutex::default(), wires: wires.clone() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object leaves the depositor, be it for the vault or for the spool.
    pub fn leaves(&self, kind: SpoolKind, object: Verified<'_>) {
        let numbered = match kind {
            SpoolKind::Manifest => Some("manifest"),
            SpoolKind::Tags => Some("tags"),
            SpoolKind::Pack => None,
        };
        self.wires.name_object(&object.id().to_string(), numbered);
        let mut inner = self.inner();
        inner.know(object.id());
        let fault = match kind {
            SpoolKind::Pack => inner.pack(object),
            SpoolKind::Manifest => inner.manifest(object),
            SpoolKind::Tags => None,
        };
        inner.faults.extend(fault);
    }

    /// A card goes to the vault.
    pub fn card(&self, object: Verified<'_>) {
        self.wires.name_object(&object.id().to_string(), Some("card"));
        self.inner().know(object.id());
    }

    /// The vault gave a receipt.
    pub fn receipt(&self, id: ObjectId, receipt: Vec<u8>) {
        let mut inner = self.inner();
        let place = inner.know(id);
        inner.known[place].receipt = Some(receipt);
    }

    /// All objects, in the order they first left.
    pub fn known(&self) -> Vec<Known> {
        self.inner().known.clone()
    }

    /// Whether the vault gave a receipt for an object.
    pub fn has_receipt(&self, id: ObjectId) -> bool {
        let inner = self.inner();
        inner.places.get(&id).is_some_and(|n| inner.known[*n].receipt.is_some())
    }

    /// Where an object stands in that order; last of all when it never left.
    pub fn place(&self, id: ObjectId) -> usize {
        self.inner().places.get(&id).copied().unwrap_or(usize::MAX)
    }

    /// A release is signed: what it names may go from now on, whatever becomes of it.
    pub fn signed(&self, release: &Release) {
        let thinned = release.thins.iter().map(|(id, _)| id);
        self.inner().freed.extend(release.objects.iter().chain(thinned).copied());
    }

    /// What releases name that were signed.
    pub fn freed(&self) -> BTreeSet<ObjectId> {
        self.inner().freed.clone()
    }

    /// The vault was seen to have let go of an object wholly.
    pub fn is_gone(&self, id: ObjectId) {
        self.inner().gone.insert(id);
    }

    /// All of which that was seen.
    pub fn gone(&self) -> BTreeSet<ObjectId> {
        self.inner().gone.clone()
    }

    /// What happened that must never happen.
    pub fn faults(&self) -> Vec<String> {
        self.inner().faults.clone()
    }
}

impl Inner {
    fn know(&mut self, id: ObjectId) -> usize {
        let next = self.known.len();
        let place = *self.places.entry(id).or_insert(next);
        if place == next {
            self.known.push(Known { id, receipt: None });
        }
        place
    }

    fn pack(&mut self, object: Verified<'_>) -> Option<String> {
        let Ok(header) = Header::decode(object.bytes()) else {
            return Some(format!("pack {} has no header", object.id().short()));
        };
        let first = *self.packs.entry((header.session, header.number)).or_insert(object.id());
        //= FORMAT#F17 a pack number stands for one content for ever
        (first != object.id()).then(|| {
            format!(
                "pack number {} of session {} was sealed twice: {} and {}",
                header.number,
                header.session.short(),
                first.short(),
                object.id().short()
            )
        })
    }

    fn manifest(&mut self, object: Verified<'_>) -> Option<String> {
        let Ok(signed) = SignedManifest::decode(object.bytes()) else {
            return Some(format!("manifest {} cannot be decoded", object.id().short()));
        };
        let (session, sealed) = (signed.manifest.session, &signed.manifest.note);
        let note = h16(&[sealed]);
        let commitment = sealed[..32.min(sealed.len())].to_vec();
        let first = *self.notes.entry((session, commitment)).or_insert(note);
        (first != note).then(|| format!("session {} has two notes under one key and nonce", session.short()))
    }
}
