//! The real vault as the client sees it, on simulated drives and over a perfect channel. Steps 7, 17 and 20 of the walk.
//!
//! What `lavatube-node` does for a vault in the same process, and it tells the book of every object and every receipt. It
//! must not know how drives fail.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_base::{ObjectId, Verified};
use lavatube_client::far::{Far, FarError, LogWord, ReceiptBytes, Signer};
use lavatube_client::spool::SpoolKind;
use lavatube_format::log::Question;
use lavatube_vault::{DepositError, Depth, LogError, LogSight, ObjectKind, StoreError, Vault};

use crate::book::Book;

/// A vault within reach.
pub struct SimFar {
    vault: Mutex<Vault>,
    book: Arc<Book>,
}

impl SimFar {
    /// The vault within reach, watched by `book`.
    pub fn new(vault: Vault, book: &Arc<Book>) -> Self {
        Self { vault: Mutex::new(vault), book: book.clone() }
    }

    /// The vault itself.
    pub fn vault(&self) -> MutexGuard<'_, Vault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a depositor known to the vault.
    ///
    /// # Errors
    /// What the vault says.
    pub fn admit(&self, card: &[u8]) -> Result<(), DepositError> {
        let object = Verified::hash(card);
        let known = self.vault().contains(object.id());
        let whole = |vault: &Vault| vault.examine(object.id(), Depth::Headers).is_ok_and(|health| health.is_whole());
        if known && whole(&self.vault()) {
            return Ok(());
        }
        self.book.card(object);
        let came = self.vault().deposit_card(card);
        match came {
            Ok(receipt) => self.book.receipt(object.id(), receipt.encode()),
            // What an interrupted run has left of it, or damage has, is enough to go on with.
            Err(_) if known => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn store(&self, kind: SpoolKind, object: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.book.leaves(kind, object);
        let receipt = self
            .vault()
            .store(kind.object_kind(), object)
            .map_err(|e| FarError::of(object.id(), e.denial(), e.to_string()))?;
        self.book.receipt(object.id(), receipt.encode());
        Ok(ReceiptBytes(receipt.encode()))
    }
}

impl Far for SimFar {
    fn signer(&self) -> Signer {
        let vault = self.vault();
        Signer { vault: vault.id(), key: vault.vault_key() }
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.store(SpoolKind::Pack, pack)
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.store(SpoolKind::Tags, tags)
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.book.leaves(SpoolKind::Manifest, manifest);
        let receipt = self
            .vault()
            .deposit_manifest(manifest.bytes())
            .map_err(|e| FarError::of(manifest.id(), e.denial(), e.to_string()))?;
        self.book.receipt(manifest.id(), receipt.encode());
        Ok(ReceiptBytes(receipt.encode()))
    }

    fn deliver_release(&self, release: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        let receipt = self
            .vault()
            .deposit_release(release.bytes())
            .map_err(|e| FarError::of(release.id(), e.denial(), e.to_string()))?;
        Ok(ReceiptBytes(receipt.encode()))
    }

    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(self.vault().objects().filter(|o| o.kind == ObjectKind::Release).map(|o| (o.id, o.len)).collect())
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        Ok(self.vault().find(pack).filter(|object| object.kind == ObjectKind::Pack).map(|object| object.len))
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        self.vault().read(id, range, out).map(drop).map_err(|e| FarError::of(id, e.denial(), e.to_string()))
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        let vault = self.vault();
        let manifests = vault.objects_of(ObjectKind::Manifest);
        let mut all: Vec<(ObjectId, u64)> = manifests.map(|o| (o.id, o.len)).collect();
        // Their ids hang on random signatures; the order in which they came does not.
        all.sort_by_key(|(id, _)| self.book.place(*id));
        Ok(all)
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        Ok(self.vault().contains(id))
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        match self.vault().answer_log(question) {
            Ok(answer) => return Ok(LogWord::Signed(answer)),
            Err(LogError::Store(StoreError::Shortfall { .. })) => {}
            Err(e) => return Err(FarError::Away(e.to_string())),
        }
        let seen = self.vault().look_at_log(question.known, &question.objects);
        let LogSight { checkpoint, consistency, objects } = seen.map_err(|e| FarError::Away(e.to_string()))?;
        Ok(LogWord::Read { checkpoint, consistency, objects })
    }
}
