//! The root seed, made once and kept on paper: everything an archive's readers and its authority need (FORMAT section 2).
//!
//! Derivation only. It must not know how the seed is printed or where derived keys are kept.

use aws_lc_rs::hkdf::Prk;
use lavatube_base::sign::{PairPublic, PairSigner};
use lavatube_format::key_file::{ReadBody, Secret};
use lavatube_format::recovery::{self, RecoveryError};
use zeroize::Zeroizing;

use crate::LinkKey;
use crate::error::SealError;
use crate::kdf;
use crate::read::{ReadKeys, read_public_of};
use crate::session::ReadPublic;

/// The root seed of an archive.
#[derive(Debug, Clone)]
pub struct Root(Secret);

/// What a tenant's depositors share with its readers.
#[derive(Debug, Clone)]
pub struct TenantSecrets {
    /// Mixed into every session key.
    pub psk: Secret,
    /// Key of chunk ids.
    pub chunk_id_key: Secret,
    /// Secret of the chunker.
    pub chunker_secret: Secret,
}

impl Root {
    /// The root of 32 random bytes.
    pub fn new(seed: Secret) -> Self {
        Self(seed)
    }

    /// Reads a recovery key as a person typed it.
    ///
    /// # Errors
    /// [`RecoveryError`] says what to look for.
    pub fn from_recovery_text(text: &str) -> Result<Self, RecoveryError> {
        recovery::decode(text).map(|seed| Self(Secret::new(*seed)))
    }

    /// The recovery key to print.
    pub fn to_recovery_text(&self) -> Zeroizing<String> {
        recovery::encode(self.0.bytes())
    }

    /// The secrets of the tenant `name`.
    pub fn tenant(&self, name: &str) -> TenantSecrets {
        let derive = |what: &str| self.derive(&format!("tenant/{name}/{what}"));
        TenantSecrets { psk: derive("psk"), chunk_id_key: derive("chunk-id"), chunker_secret: derive("chunker") }
    }

    /// The signing pair that certifies depositors.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library refuses a seed, which no seed should make it do.
    pub fn authority(&self) -> Result<PairSigner, SealError> {
        let (ed, ml) = (self.derive("authority/ed25519"), self.derive("authority/ml-dsa-65"));
        PairSigner::from_seeds(ed.bytes(), ml.bytes()).map_err(|_| SealError::Library("deriving the authority's key"))
    }

    /// The authority's public keys.
    ///
    /// # Errors
    /// As [`Root::authority`].
    pub fn authority_public(&self) -> Result<PairPublic, SealError> {
        Ok(self.authority()?.public())
    }

    /// The public key sessions are wrapped to.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library refuses its own key.
    pub fn read_public(&self) -> Result<ReadPublic, SealError> {
        read_public_of(&self.derive("read/x-wing"))
    }

    /// The read key file's body for `tenant`.
    ///
    /// # Errors
    /// As [`Root::authority`].
    pub fn read_body(&self, tenant: &str) -> Result<ReadBody, SealError> {
        let TenantSecrets { psk, chunk_id_key, .. } = self.tenant(tenant);
        Ok(ReadBody {
            tenant: tenant.to_owned(),
            psk,
            chunk_id_key,
            x_wing_seed: self.derive("read/x-wing"),
            authority: self.authority_public()?,
        })
    }

    /// The read keys for `tenant`.
    ///
    /// # Errors
    /// As [`Root::authority`].
    pub fn read_keys(&self, tenant: &str) -> Result<ReadKeys, SealError> {
        ReadKeys::from_body(self.read_body(tenant)?)
    }

    /// The link key of whoever has nothing but the recovery key.
    ///
    /// # Errors
    /// As [`LinkKey::new`].
    pub fn link_key(&self) -> Result<(Secret, LinkKey), SealError> {
        let secret = self.derive("link/x25519");
        let key = LinkKey::new(&secret)?;
        Ok((secret, key))
    }

    fn derive(&self, label: &str) -> Secret {
        let prk: Prk = kdf::extract(b"lavatube/1", self.0.bytes());
        kdf::expand32(&prk, &[label.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_survives_paper() {
        let root = Root::new(Secret::new([5; 32]));
        let again = Root::from_recovery_text(&root.to_recovery_text().to_lowercase()).unwrap();
        assert_eq!(again.tenant("a").psk.bytes(), root.tenant("a").psk.bytes());
    }

    #[test]
    fn tenants_and_purposes_share_no_secret() {
        let root = Root::new(Secret::new([5; 32]));
        let mut all: Vec<[u8; 32]> = Vec::new();
        for name in ["default", "a", "b"] {
            let t = root.tenant(name);
            all.extend([*t.psk.bytes(), *t.chunk_id_key.bytes(), *t.chunker_secret.bytes()]);
        }
        all.extend(
            ["read/x-wing", "authority/ed25519", "authority/ml-dsa-65", "link/x25519"].map(|l| *root.derive(l).bytes()),
        );
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
    }

    #[test]
    fn debug_shows_no_secret() {
        let root = Root::new(Secret::new([0xa5; 32]));
        let shown = format!("{root:?} {:?}", root.tenant("default"));
        assert!(!shown.contains("165") && !shown.to_lowercase().contains("a5"), "{shown}");
    }
}
