//! The deposit keys of one machine: they seal and sign, and open nothing that is finished (promises P2 and P3).
//!
//! They are what a thief of the machine gets: the tenant's secrets, a signing pair with its certificate, and the *public*
//! read key. It must not know the root seed (except while being made) nor any private read key.

use lavatube_base::DepositorId;
use lavatube_base::sign::PairSigner;
use lavatube_format::depositor_card::{CARD_CONTEXT, DepositorCard, SignedCard};
use lavatube_format::key_file::{DepositBody, Secret};
use lavatube_format::manifest::{MANIFEST_CONTEXT, Manifest, SignedManifest};

use crate::audit::AuditKeys;
use crate::chunk_id::ChunkIdKey;
use crate::error::SealError;
use crate::release::ReleaseKeys;
use crate::roll::RollKey;
use crate::root::{Root, TenantSecrets};
use crate::session::ReadPublic;

/// The deposit keys of one machine.
pub struct DepositKeys {
    body: DepositBody,
    signer: PairSigner,
    read_public: ReadPublic,
}

impl std::fmt::Debug for DepositKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DepositKeys({:?}, {})", self.body.tenant, self.depositor())
    }
}

impl DepositKeys {
    /// New keys for a machine called `label`, certified by the authority of `root`, from two random seeds.
    ///
    /// # Errors
    /// [`SealError::Library`] when signing or a key fails.
    pub fn new(
        root: &Root,
        tenant: &str,
        label: &str,
        ed25519_seed: Secret,
        ml_dsa_65_seed: Secret,
    ) -> Result<Self, SealError> {
        let signer = signer_of(&ed25519_seed, &ml_dsa_65_seed)?;
        let card = DepositorCard { label: label.to_owned(), public: signer.public() };
        let body = card.encode_body();
        let signature = root
            .authority()?
            .sign(CARD_CONTEXT, &body)
            .map_err(|_| SealError::Library("signing the depositor card"))?;
        let TenantSecrets { psk, chunk_id_key, chunker_secret } = root.tenant(tenant);
        let read_public = root.read_public()?;
        let body = DepositBody {
            tenant: tenant.to_owned(),
            psk,
            chunk_id_key,
            chunker_secret,
            read_public: read_public.to_bytes(),
            ed25519_seed,
            ml_dsa_65_seed,
            card: SignedCard { card, body, signature },
        };
        Ok(Self { body, signer, read_public })
    }

    /// The keys in a deposit key file's body.
    ///
    /// # Errors
    /// [`SealError::Refused`] when the card is not these keys' or the read key is none.
    pub fn from_body(body: DepositBody) -> Result<Self, SealError> {
        let signer = signer_of(&body.ed25519_seed, &body.ml_dsa_65_seed)?;
        if body.card.card.public != signer.public() {
            return Err(SealError::Refused(
                "the card in this deposit key is another machine's; make a new deposit key",
            ));
        }
        let read_public = ReadPublic::from_bytes(&body.read_public)?;
        Ok(Self { body, signer, read_public })
    }

    /// The body for a deposit key file.
    pub fn body(&self) -> &DepositBody {
        &self.body
    }

    /// The tenant the machine deposits for.
    pub fn tenant(&self) -> &str {
        &self.body.tenant
    }

    /// Who deposits.
    pub fn depositor(&self) -> DepositorId {
        self.body.card.card.id()
    }

    /// The authority's certificate.
    pub fn card(&self) -> &SignedCard {
        &self.body.card
    }

    /// The key of the tenant's chunk ids.
    pub fn chunk_id_key(&self) -> ChunkIdKey {
        ChunkIdKey::new(self.body.chunk_id_key.clone())
    }

    /// The secret of the tenant's chunker.
    pub fn chunker_secret(&self) -> &Secret {
        &self.body.chunker_secret
    }

    /// The public key sessions are wrapped to.
    pub fn read_public(&self) -> &ReadPublic {
        &self.read_public
    }

    /// The keys that make tags of packs.
    pub fn audit_keys(&self) -> AuditKeys {
        AuditKeys::of(&self.body.psk)
    }

    /// The keys of the notes of releases.
    pub fn release_keys(&self) -> ReleaseKeys {
        ReleaseKeys::of(&self.body.psk)
    }

    /// The key of rolls.
    pub fn roll_key(&self) -> RollKey {
        RollKey::of(&self.body.psk)
    }

    pub(crate) fn psk(&self) -> &Secret {
        &self.body.psk
    }

    /// Signs a manifest, which must be this depositor's and readable by everyone.
    ///
    /// # Errors
    /// [`SealError::Misuse`] when it is another depositor's, [`SealError::Malformed`] when a reader would refuse it,
    /// [`SealError::Library`] when signing fails.
    pub fn sign_manifest(&self, manifest: Manifest) -> Result<SignedManifest, SealError> {
        if manifest.depositor != self.depositor() {
            return Err(SealError::Misuse("a manifest of another depositor was to be signed"));
        }
        let body = manifest.encode_body();
        // Better no manifest than a signed one that nobody can read.
        Manifest::decode_body(&body)?;
        let signature =
            self.signer.sign(MANIFEST_CONTEXT, &body).map_err(|_| SealError::Library("signing the manifest"))?;
        Ok(SignedManifest { manifest, body, signature })
    }
}

fn signer_of(ed25519_seed: &Secret, ml_dsa_65_seed: &Secret) -> Result<PairSigner, SealError> {
    PairSigner::from_seeds(ed25519_seed.bytes(), ml_dsa_65_seed.bytes())
        .map_err(|_| SealError::Library("reading the deposit key"))
}
