//! The keys of a link (FORMAT section 13): each end has a static X25519 key, and both derive the same two keys from them, one
//! for each direction.
//!
//! They tag datagrams, and keys of bundles are made of them, and nothing else: what crosses the link is sealed already, and whoever learns a link key can at worst
//! keep the link busy. It must not know datagrams or files.

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use lavatube_base::VaultId;
use lavatube_format::key_file::Secret;
use zeroize::Zeroizing;

use crate::error::SealError;
use crate::kdf;

/// Which end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkEnd {
    /// The machine that deposits.
    Depositor,
    /// The vault.
    Vault,
}

/// The key of one end.
pub struct LinkKey {
    private: PrivateKey,
    public: [u8; 32],
}

/// The keys of both directions, as one end has them.
pub struct LinkKeys {
    /// Tags what this end sends.
    pub outbound: Secret,
    /// Tags what the other end sends.
    pub inbound: Secret,
}

/// The two keys of the bundles of one direction.
pub struct BundleKeys {
    /// Signs.
    pub mac: Secret,
    /// Encrypts.
    pub cipher: Secret,
}

impl BundleKeys {
    /// Those that go with `direction`, one of [`LinkKeys`].
    pub fn of(direction: &[u8; 32]) -> Self {
        let prk = kdf::extract(b"lavatube/1 bundles", direction);
        Self { mac: kdf::expand32(&prk, &[b"mac"]), cipher: kdf::expand32(&prk, &[b"cipher"]) }
    }
}

impl LinkKey {
    /// The key whose secret is `secret`: 32 random bytes.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library does not take it.
    pub fn new(secret: &Secret) -> Result<Self, SealError> {
        let private = PrivateKey::from_private_key(&X25519, secret.bytes())
            .map_err(|_| SealError::Library("taking a link key"))?;
        let public = private.compute_public_key().map_err(|_| SealError::Library("computing a public link key"))?;
        let public = public.as_ref().try_into().map_err(|_| SealError::Library("computing a public link key"))?;
        Ok(Self { private, public })
    }

    /// The public key, for the other end.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The keys of the link between this key's end, which is `end`, and that of `peer`, for the vault `vault`.
    ///
    /// # Errors
    /// [`SealError::Refused`] when `peer` is no key that can be agreed with, or our own.
    pub fn agree(&self, end: LinkEnd, peer: &[u8; 32], vault: VaultId) -> Result<LinkKeys, SealError> {
        if *peer == self.public {
            return Err(SealError::Refused("this is the link key of this very end; give the other end's"));
        }
        //= FORMAT#F25 the library refuses a shared secret of zeros
        let refused = SealError::Refused("this is no link key; give the line that the other end printed");
        let mut shared = Zeroizing::new([0; 32]);
        agree(&self.private, UnparsedPublicKey::new(&X25519, peer), refused, |secret| {
            shared.copy_from_slice(secret);
            Ok(())
        })?;
        let prk = kdf::extract(b"lavatube/1 link", &shared);
        let (depositors, vaults) = match end {
            LinkEnd::Depositor => (&self.public, peer),
            LinkEnd::Vault => (peer, &self.public),
        };
        let key = |direction: u8| kdf::expand32(&prk, &[&[direction], &vault.0, depositors, vaults]);
        let (to_vault, to_depositor) = (key(1), key(2));
        Ok(match end {
            LinkEnd::Depositor => LinkKeys { outbound: to_vault, inbound: to_depositor },
            LinkEnd::Vault => LinkKeys { outbound: to_depositor, inbound: to_vault },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> LinkKey {
        LinkKey::new(&Secret::new([n; 32])).unwrap()
    }

    #[test]
    fn both_ends_have_the_same_two_keys_and_no_other_link_has_them() {
        let (earth, moon, vault) = (key(1), key(2), VaultId([3; 16]));
        let here = earth.agree(LinkEnd::Depositor, moon.public(), vault).unwrap();
        let there = moon.agree(LinkEnd::Vault, earth.public(), vault).unwrap();
        assert_eq!((&here.outbound, &here.inbound), (&there.inbound, &there.outbound));
        assert_ne!(here.outbound, here.inbound);
        let others = [
            earth.agree(LinkEnd::Depositor, moon.public(), VaultId([4; 16])).unwrap(),
            earth.agree(LinkEnd::Vault, moon.public(), vault).unwrap(),
            earth.agree(LinkEnd::Depositor, key(5).public(), vault).unwrap(),
            key(5).agree(LinkEnd::Depositor, moon.public(), vault).unwrap(),
        ];
        for other in others {
            assert!(other.outbound != here.outbound && other.outbound != here.inbound);
            assert!(other.inbound != here.outbound && other.inbound != here.inbound);
        }
    }

    #[test]
    fn keys_that_cannot_be_agreed_with_are_refused() {
        let earth = key(1);
        for peer in [*earth.public(), [0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert!(matches!(earth.agree(LinkEnd::Depositor, &peer, VaultId([3; 16])), Err(SealError::Refused(_))));
        }
    }

    /// FORMAT section 13 recomputed with RustCrypto's HKDF, the agreement aside.
    #[test]
    fn the_derivation_is_the_one_of_the_format() {
        let (earth, moon, vault) = (key(1), key(2), VaultId([3; 16]));
        let mut shared = [0; 32];
        agree(&earth.private, UnparsedPublicKey::new(&X25519, moon.public()), (), |s| {
            shared.copy_from_slice(s);
            Ok(())
        })
        .unwrap();
        let hkdf = hkdf::Hkdf::<sha2::Sha512>::new(Some(b"lavatube/1 link"), &shared);
        let keys = earth.agree(LinkEnd::Depositor, moon.public(), vault).unwrap();
        for (direction, key) in [(1u8, &keys.outbound), (2, &keys.inbound)] {
            let info = [&[direction][..], &vault.0, earth.public(), moon.public()].concat();
            let mut out = [0; 32];
            hkdf.expand(&info, &mut out).unwrap();
            assert_eq!(key.bytes(), &out);
        }
    }
}
