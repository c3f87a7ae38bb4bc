//! The read keys: what opens finished sessions. They live where people restore, never on a machine that deposits.
//!
//! [`Unwrap`] is the seam: restore asks it for a session's keys and does not care whether the read key lies in this
//! process or behind an agent. It must not know packs or where manifests come from. Step 19 of the walk.

use hpke::kem::XWing;
use hpke::{Deserializable, Kem, Serializable};
use lavatube_base::sign::PairPublic;
use lavatube_base::{DepositorId, SessionId};
use lavatube_format::depositor_card::{DepositorCard, SignedCard};
use lavatube_format::key_file::{ReadBody, Secret};
use lavatube_format::manifest::{SignedManifest, Wrap};

use crate::audit::AuditKeys;
use crate::chunk_id::ChunkIdKey;
use crate::error::SealError;
use crate::release::ReleaseKeys;
use crate::roll::RollKey;
use crate::session::{ReadPrivate, ReadPublic, SessionKeys, unwrap};

/// Whoever can open sessions: read keys at hand, or an agent that holds them.
pub trait Unwrap: Send + Sync {
    /// The keys of a session from the wraps in its manifest.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when no wrap is for this read key, [`SealError::Altered`] when one is but does not open.
    fn open_session(
        &self,
        session: SessionId,
        depositor: DepositorId,
        wraps: &[Wrap],
    ) -> Result<SessionKeys, SealError>;
}

/// All that a reader asks of its keys, wherever they are: sessions, chunk ids, and whom to believe.
pub trait Reads: Unwrap {
    /// The key of the tenant's chunk ids.
    fn chunk_id_key(&self) -> ChunkIdKey;

    /// The keys that tell whether a vault's proof is right.
    fn audit_keys(&self) -> AuditKeys;

    /// The keys of the notes of releases.
    fn release_keys(&self) -> ReleaseKeys;

    /// The key of rolls.
    fn roll_key(&self) -> RollKey;

    /// The authority whose depositor cards count.
    fn authority_public(&self) -> &PairPublic;

    /// Whether the authority made `card`.
    ///
    /// # Errors
    /// [`SealError::Untrusted`] when a signature does not verify.
    fn verify_card(&self, card: &SignedCard) -> Result<(), SealError> {
        let untrusted = |why| SealError::Untrusted { what: "the depositor card", why };
        card.verify(self.authority_public()).map_err(untrusted)
    }
}

/// The read keys of one tenant.
pub struct ReadKeys {
    body: ReadBody,
    private: ReadPrivate,
    public: ReadPublic,
}

impl std::fmt::Debug for ReadKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadKeys({:?})", self.body.tenant)
    }
}

impl ReadKeys {
    /// The keys in a read key file's body.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library refuses its own key.
    pub fn from_body(body: ReadBody) -> Result<Self, SealError> {
        Ok(Self { private: private_of(&body.x_wing_seed)?, public: read_public_of(&body.x_wing_seed)?, body })
    }

    /// The body for a read key file.
    pub fn body(&self) -> &ReadBody {
        &self.body
    }

    /// The tenant.
    pub fn tenant(&self) -> &str {
        &self.body.tenant
    }

    /// The public half, to which sessions are wrapped.
    pub fn read_public(&self) -> &ReadPublic {
        &self.public
    }

    /// The secret of a session from the wraps in its manifest, for an agent that hands it on.
    ///
    /// # Errors
    /// As [`Unwrap::open_session`].
    pub fn open_secret(&self, session: SessionId, depositor: DepositorId, wraps: &[Wrap]) -> Result<Secret, SealError> {
        let mut outcome = Err(SealError::WrongKey("this session"));
        for wrap in wraps.iter().filter(|w| w.key_id == self.public.id()) {
            match unwrap(&self.private, session, depositor, wrap) {
                Ok(secret) => return Ok(secret),
                Err(e) => outcome = Err(e),
            }
        }
        outcome
    }
}

/// Whether the depositor of `card`, which the authority has certified ([`Reads::verify_card`]), signed `manifest`.
///
/// # Errors
/// [`SealError::Untrusted`] when a signature does not verify, [`SealError::Refused`] when the card is another
/// depositor's.
pub fn verify_manifest(manifest: &SignedManifest, card: &DepositorCard) -> Result<(), SealError> {
    if manifest.manifest.depositor != card.id() {
        return Err(SealError::Refused("the manifest names another depositor than the card; find that one's card"));
    }
    //= FORMAT#F14 both signatures verify, with the keys the depositor's id is the digest of
    manifest.verify(&card.public).map_err(|why| SealError::Untrusted { what: "the manifest", why })
}

impl Unwrap for ReadKeys {
    fn open_session(
        &self,
        session: SessionId,
        depositor: DepositorId,
        wraps: &[Wrap],
    ) -> Result<SessionKeys, SealError> {
        let secret = self.open_secret(session, depositor, wraps)?;
        Ok(SessionKeys::derive(session, &self.body.psk, &secret))
    }
}

impl Reads for ReadKeys {
    fn chunk_id_key(&self) -> ChunkIdKey {
        ChunkIdKey::new(self.body.chunk_id_key.clone())
    }

    fn audit_keys(&self) -> AuditKeys {
        AuditKeys::of(&self.body.psk)
    }

    fn release_keys(&self) -> ReleaseKeys {
        ReleaseKeys::of(&self.body.psk)
    }

    fn roll_key(&self) -> RollKey {
        RollKey::of(&self.body.psk)
    }

    fn authority_public(&self) -> &PairPublic {
        &self.body.authority
    }
}

fn private_of(seed: &Secret) -> Result<ReadPrivate, SealError> {
    ReadPrivate::from_bytes(seed.bytes()).map_err(|_| SealError::Library("reading the X-Wing key"))
}

pub(crate) fn read_public_of(seed: &Secret) -> Result<ReadPublic, SealError> {
    ReadPublic::from_bytes(&XWing::sk_to_pk(&private_of(seed)?).to_bytes())
}
