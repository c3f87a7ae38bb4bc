//! Releases: which snapshots go with what is freed, told to whoever has the tenant's secret and to nobody else.
//!
//! The authority signs for anyone to see what may go. It must not know what packs hold, nor what a vault does with a release.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use lavatube_base::VaultId;
use lavatube_format::key_file::Secret;
use lavatube_format::manifest::NOTE_OVERHEAD;
use lavatube_format::release::{RELEASE_CONTEXT, Release, ReleaseNote, SignedRelease};
use zeroize::Zeroizing;

use crate::error::SealError;
use crate::kdf;
use crate::root::Root;
use crate::session::aead_key;

/// The keys of the notes of one tenant's releases.
pub struct ReleaseKeys(Secret);

impl std::fmt::Debug for ReleaseKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReleaseKeys")
    }
}

impl ReleaseKeys {
    /// Those of the tenant with this PSK.
    pub fn of(psk: &Secret) -> Self {
        Self(psk.clone())
    }

    /// Seals the note of a release. A nonce is of one release alone: its key is made of it.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library refuses, which nothing should make it do.
    pub fn seal(&self, vault: VaultId, nonce: &[u8; 32], note: &ReleaseNote) -> Result<Vec<u8>, SealError> {
        let (key, commitment) = self.keys(vault, nonce);
        let mut plain = Zeroizing::new(note.encode());
        let tag = key
            .seal_in_place_separate_tag(zero_nonce(), Aad::empty(), &mut plain)
            .map_err(|_| SealError::Library("sealing the note of a release"))?;
        Ok([&commitment[..], &plain, tag.as_ref()].concat())
    }

    /// Opens the note of a release.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when it is another tenant's; else when it was altered.
    pub fn open(&self, release: &Release) -> Result<ReleaseNote, SealError> {
        let altered = || SealError::Altered("the note of this release");
        if release.note.len() < NOTE_OVERHEAD {
            return Err(altered());
        }
        let (key, commitment) = self.keys(release.vault, &release.nonce);
        let (found, body) = release.note.split_at(commitment.len());
        //= FORMAT#F7 commitment first
        verify_slices_are_equal(found, &commitment).map_err(|_| SealError::WrongKey("the note of this release"))?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = key.open_in_place(zero_nonce(), Aad::empty(), &mut body).map_err(|_| altered())?;
        Ok(ReleaseNote::decode(plain)?)
    }

    fn keys(&self, vault: VaultId, nonce: &[u8; 32]) -> (LessSafeKey, [u8; 32]) {
        let prk = kdf::extract(self.0.bytes(), nonce);
        let (key, commitment) = kdf::key_and_commitment(&prk, &[LABEL, &vault.0]);
        (aead_key(&key), commitment)
    }
}

impl Root {
    /// Signs a release as the authority.
    ///
    /// # Errors
    /// [`SealError`] when it is none that anybody could read, or the library refuses.
    pub fn sign_release(&self, release: Release) -> Result<SignedRelease, SealError> {
        let body = release.encode_body();
        // Better no release than a signed one that nobody can read.
        Release::decode_body(&body)?;
        let signature =
            self.authority()?.sign(RELEASE_CONTEXT, &body).map_err(|_| SealError::Library("signing the release"))?;
        Ok(SignedRelease { release, body, signature })
    }
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

const LABEL: &[u8] = b"lavatube/1 release";

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::{ChunkId, ObjectId};

    fn release(keys: &ReleaseKeys) -> Release {
        let note = ReleaseNote { tenant: "default".into(), snapshots: vec![ChunkId([9; 24])] };
        let (vault, nonce) = (VaultId([1; 16]), [2; 32]);
        let note = keys.seal(vault, &nonce, &note).unwrap();
        let objects = vec![ObjectId([3; 32])];
        Release {
            vault,
            nonce,
            size: 5,
            root: [4; 32],
            number: 1,
            objects,
            settled: Vec::new(),
            note,
            lifts: Vec::new(),
            thins: Vec::new(),
        }
    }

    #[test]
    fn only_the_authority_releases_and_only_the_tenant_reads_what_goes_with_it() {
        let (root, other) = (Root::new(Secret::new([5; 32])), Root::new(Secret::new([6; 32])));
        let keys = ReleaseKeys::of(&root.tenant("default").psk);
        let signed = root.sign_release(release(&keys)).unwrap();
        let again = SignedRelease::decode(&signed.encode()).unwrap();
        again.verify(&root.authority_public().unwrap()).unwrap();
        assert!(again.verify(&other.authority_public().unwrap()).is_err());
        assert_eq!(keys.open(&again.release).unwrap().snapshots, [ChunkId([9; 24])]);
        let strange = ReleaseKeys::of(&root.tenant("other").psk);
        assert!(matches!(strange.open(&again.release), Err(SealError::WrongKey(_))));
        let replayed = Release { vault: VaultId([7; 16]), ..again.release.clone() };
        assert!(keys.open(&replayed).is_err());
        let mut altered = again.release;
        *altered.note.last_mut().unwrap() ^= 1;
        assert!(matches!(keys.open(&altered), Err(SealError::Altered(_))));
    }

    #[test]
    fn what_frees_nothing_is_not_signed() {
        let root = Root::new(Secret::new([5; 32]));
        let keys = ReleaseKeys::of(&root.tenant("default").psk);
        assert!(root.sign_release(Release { objects: Vec::new(), ..release(&keys) }).is_err());
    }
}
