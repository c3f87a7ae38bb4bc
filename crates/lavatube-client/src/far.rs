//! The far side as the client sees it: what it asks of a vault, be that in this process or beyond the link.
//!
//! Steps 7, 17 and 20 of the walk in one narrow trait. It must not know shards, drives, contacts or sockets; packs and
//! manifests are opaque, verified bytes to whoever implements it.

use std::ops::Range;

pub use lavatube_base::Refusal;
use lavatube_base::merkle::Hash;
use lavatube_base::{Denial, ObjectId, VaultId, Verified};
use lavatube_format::checkpoint::Checkpoint;
use lavatube_format::log::{Answer, Placed, Question};

/// Why the far side did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FarError {
    /// It has no such object.
    #[error("the vault does not have object {0}")]
    Absent(ObjectId),
    /// It has the object but not these bytes any more.
    #[error("the vault has lost part of object {id}: {text}")]
    Lost {
        /// The object.
        id: ObjectId,
        /// The vault's account.
        text: String,
    },
    /// It refuses.
    #[error("the vault refuses: {text}")]
    Refused {
        /// On what ground.
        why: Refusal,
        /// The vault's account.
        text: String,
    },
    /// It is not to be reached now.
    #[error("the vault cannot be reached: {0}")]
    Away(String),
    /// This machine has no room for what it would send.
    #[error("no room for what the vault would send: {0}")]
    NoRoom(String),
}

impl FarError {
    /// What a vault's denial of something about object `id` is to its client; `text` is the vault's account.
    pub fn of(id: ObjectId, denial: Denial, text: String) -> Self {
        match denial {
            Denial::Absent => Self::Absent(id),
            Denial::Lost => Self::Lost { id, text },
            Denial::Away => Self::Away(text),
            Denial::Refused(why) => Self::Refused { why, text },
        }
    }
}

/// A receipt of the vault: its bytes as they came (FORMAT section 6), to be kept in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptBytes(pub Vec<u8>);

/// Whose receipts count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// The vault.
    pub vault: VaultId,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
}

/// What is said of the vault's log. Not yet believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWord {
    /// By the vault, for good: what it signs is settled.
    Signed(Answer),
    /// By who reads its drives here, without its key: nobody can be held to it.
    Read {
        /// Size and root.
        checkpoint: Checkpoint,
        /// As in an [`Answer`].
        consistency: Option<Vec<Hash>>,
        /// As in an [`Answer`].
        objects: Vec<Placed>,
    },
}

impl LogWord {
    /// The proof that it goes on from what was known, and the places that were asked for.
    pub(crate) fn proofs(&self) -> (Option<&[Hash]>, &[Placed]) {
        let (consistency, objects) = match self {
            Self::Signed(answer) => (&answer.consistency, &answer.objects),
            Self::Read { consistency, objects, .. } => (consistency, objects),
        };
        (consistency.as_deref(), objects)
    }
}

/// What a client asks of a vault.
pub trait Far: Send + Sync {
    /// The vault whose receipts the far side hands on.
    fn signer(&self) -> Signer;

    /// Hands over a pack. A receipt means: durable there.
    ///
    /// # Errors
    /// When it was not stored; nothing of it counts then.
    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError>;

    /// Hands over tags of packs, before the manifest that names both.
    ///
    /// # Errors
    /// As [`Far::deliver_pack`].
    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError>;

    /// Hands over a signed manifest, after all its packs. A receipt means: the session is there.
    ///
    /// # Errors
    /// When it was not stored.
    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError>;

    /// Hands over a release that the authority signed. A receipt means: it is in the log; when it is followed is for the vault to
    /// know.
    ///
    /// # Errors
    /// When it was not taken.
    fn deliver_release(&self, _release: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Err(FarError::Away("releases are not handed over this way".into()))
    }

    /// Ids and lengths of all releases the vault holds.
    ///
    /// # Errors
    /// When the vault cannot be asked.
    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(Vec::new())
    }

    /// Appends bytes `range` of an object to `out`.
    ///
    /// # Errors
    /// When they cannot be had. `out` is as before then.
    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError>;

    /// Says that these bytes of an object will be asked for next. Whoever can use the time until then does.
    fn expect(&self, _id: ObjectId, _range: Range<u64>) {}

    /// Whether each question costs a round trip that is felt: who knows all he will fetch says so first.
    fn is_distant(&self) -> bool {
        false
    }

    /// Says that all these bytes of objects will be fetched. Who is distant asks for them at once.
    ///
    /// # Errors
    /// When the vault cannot be asked.
    fn want(&self, _parts: &[(ObjectId, Range<u64>)]) -> Result<(), FarError> {
        Ok(())
    }

    /// Ids and lengths of all manifests the vault holds.
    ///
    /// # Errors
    /// When the vault cannot be asked.
    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError>;

    /// Whether the vault holds the object durably.
    ///
    /// # Errors
    /// When the vault cannot be asked.
    fn has(&self, id: ObjectId) -> Result<bool, FarError>;

    /// Bytes of a pack that the vault holds: fewer than it has where a release thinned it. `None` when there is none, or nobody says.
    ///
    /// # Errors
    /// When the vault cannot be asked.
    fn kept_len(&self, _pack: ObjectId) -> Result<Option<u64>, FarError> {
        Ok(None)
    }

    /// What the vault's log is.
    ///
    /// # Errors
    /// When the vault cannot be asked now, or not this way.
    fn log(&self, _question: &Question) -> Result<LogWord, FarError> {
        Err(FarError::Away("it is not asked for its log this way".into()))
    }
}

impl<F: Far + ?Sized> Far for &F {
    fn signer(&self) -> Signer {
        (**self).signer()
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        (**self).deliver_pack(pack)
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        (**self).deliver_tags(tags)
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        (**self).deliver_manifest(manifest)
    }

    fn deliver_release(&self, release: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        (**self).deliver_release(release)
    }

    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        (**self).releases()
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        (**self).fetch(id, range, out)
    }

    fn expect(&self, id: ObjectId, range: Range<u64>) {
        (**self).expect(id, range);
    }

    fn is_distant(&self) -> bool {
        (**self).is_distant()
    }

    fn want(&self, parts: &[(ObjectId, Range<u64>)]) -> Result<(), FarError> {
        (**self).want(parts)
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        (**self).manifests()
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        (**self).has(id)
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        (**self).kept_len(pack)
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        (**self).log(question)
    }
}
