//! The `Spool` seam: objects that are safe here and wait for a contact. Step 6 of the walk.
//!
//! With an embedded vault that can be reached nothing waits; when its drives are away, a backup still succeeds and is
//! *safe here*. It must not know what the objects are.

use lavatube_base::{ObjectId, Verified};
use lavatube_format::shard::ObjectKind;

/// A failure of the spool's medium, in the system's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// The medium is full.
    #[error("the spool has no space left")]
    Full,
    /// Anything else.
    #[error("the spool failed: {0}")]
    Io(String),
}

/// What kind of object waits; packs and their tags go before the manifest that names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolKind {
    /// A sealed pack.
    Pack,
    /// Tags of a session's packs.
    Tags,
    /// A signed manifest.
    Manifest,
}

impl SpoolKind {
    /// All kinds, in the order of sending.
    pub const ALL: [Self; 3] = [Self::Pack, Self::Tags, Self::Manifest];

    /// What waits in a spool as this, if any of it does.
    pub fn of(kind: ObjectKind) -> Option<Self> {
        Self::ALL.into_iter().find(|spooled| spooled.object_kind() == kind)
    }

    /// What the vault calls it.
    pub fn object_kind(self) -> ObjectKind {
        match self {
            Self::Pack => ObjectKind::Pack,
            Self::Tags => ObjectKind::Tags,
            Self::Manifest => ObjectKind::Manifest,
        }
    }
}

/// Objects on their way, durable on this machine once [`Spool::sync`] returned.
pub trait Spool: Send {
    /// Takes an object in; not durable before [`Spool::sync`].
    ///
    /// # Errors
    /// When it cannot be written; nothing of it counts then.
    fn put(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<(), SpoolError>;

    /// Makes all that was put durable.
    ///
    /// # Errors
    /// When that cannot be said: what was put since the last sync must be put again.
    fn sync(&mut self) -> Result<(), SpoolError>;

    /// The objects that wait, packs before tags before manifests, each in the order they were put.
    ///
    /// # Errors
    /// When the medium fails.
    fn list(&self) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError>;

    /// The bytes of an object.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn get(&self, kind: SpoolKind, id: ObjectId) -> Result<Vec<u8>, SpoolError>;

    /// Lets go of an object, after its receipt.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&mut self, kind: SpoolKind, id: ObjectId) -> Result<(), SpoolError>;
}
