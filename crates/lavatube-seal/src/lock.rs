//! Locking key files with a passphrase: Argon2id, then AES-256-GCM over the body, bound to the file's head.
//!
//! The layout is `lavatube-format`'s, the costs are here. It must not know where passphrases come from; it never keeps
//! one.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::aead::{Aad, Nonce};
use lavatube_format::key_file::{KeyFile, KeyKind, Lock, lock_aad};
use zeroize::Zeroizing;

use crate::error::SealError;
use crate::session::aead_key;

const NONCE_LEN: usize = 12;

/// What it costs to try one passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Costs {
    /// For key files in daily use: 256 MiB, three passes, under a second.
    pub const DAILY: Self = Self { memory_kib: 256 << 10, passes: 3, lanes: 1 };
    /// The least a reader accepts: 64 MiB, one pass.
    pub const FLOOR: Self = Self { memory_kib: Lock::MEMORY_KIB_MIN, passes: 1, lanes: 1 };
}

/// A key file without a lock.
pub fn unlocked(kind: KeyKind, body: &[u8]) -> KeyFile {
    KeyFile { kind, lock: None, body: Zeroizing::new(body.to_vec()) }
}

/// A key file locked with a passphrase. `salt` and `nonce` are fresh random bytes.
///
/// # Errors
/// [`SealError::Refused`] when the costs lie outside the limits or the passphrase is empty, [`SealError::Library`] when
/// there is not enough memory.
pub fn lock(
    kind: KeyKind,
    body: &[u8],
    passphrase: &[u8],
    costs: Costs,
    salt: [u8; 16],
    nonce: [u8; NONCE_LEN],
) -> Result<KeyFile, SealError> {
    if passphrase.is_empty() {
        return Err(SealError::Refused("an empty passphrase locks nothing; give one, or keep the file unlocked"));
    }
    let lock = Lock { salt, memory_kib: costs.memory_kib, passes: costs.passes, lanes: costs.lanes };
    let key = aead_key(&*stretch(&lock, passphrase)?);
    let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE_LEN + body.len() + 16));
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(body);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(lock_aad(kind, &lock)),
            &mut sealed[NONCE_LEN..],
        )
        .map_err(|_| SealError::Library("locking a key file"))?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(KeyFile { kind, lock: Some(lock), body: sealed })
}

/// The body of a key file, which must be of `kind`. The passphrase is looked at only when the file is locked.
///
/// # Errors
/// [`SealError::Refused`] when the file is of another kind or its costs lie outside the limits,
/// [`SealError::PassphraseMissing`], [`SealError::WrongPassphrase`], or [`SealError::Library`] when there is not enough
/// memory.
pub fn unlock(file: &KeyFile, kind: KeyKind, passphrase: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SealError> {
    if file.kind != kind {
        return Err(SealError::Refused("this key file is of another kind; give the one that was asked for"));
    }
    let Some(lock) = &file.lock else {
        return Ok(file.body.clone());
    };
    let key = aead_key(&*stretch(lock, passphrase.ok_or(SealError::PassphraseMissing)?)?);
    let (nonce, sealed) = file.body.split_at_checked(NONCE_LEN).ok_or(SealError::WrongPassphrase)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::WrongPassphrase)?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let len = key
        .open_in_place(nonce, Aad::from(lock_aad(kind, lock)), &mut plain)
        .map_err(|_| SealError::WrongPassphrase)?
        .len();
    plain.truncate(len);
    Ok(plain)
}

/// Argon2id, version 0x13.
fn stretch(lock: &Lock, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    //= FORMAT#F6 neither weaker nor costlier than the limits, whoever wrote the file
    if !lock.is_within_limits() {
        return Err(SealError::Refused("the Argon2id costs of this lock lie outside 64 MiB × 1 … 4 GiB × 16 × 16"));
    }
    let params = Params::new(lock.memory_kib, lock.passes, lock.lanes, Some(32))
        .map_err(|_| SealError::Refused("Argon2id does not take these costs"))?;
    let mut memory = Zeroizing::new(Vec::new());
    let blocks = params.block_count();
    memory.try_reserve_exact(blocks).map_err(|_| SealError::Library("finding memory for the passphrase's lock"))?;
    memory.resize(blocks, Block::default());
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, &lock.salt, &mut key[..], &mut memory[..])
        .map_err(|_| SealError::Library("stretching the passphrase"))?;
    Ok(key)
}

#[cfg(test)]
mod tests;
