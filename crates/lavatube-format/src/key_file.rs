//! Key files: the keys of a machine, a reader or a vault as a text file (FORMAT section 2).
//!
//! Armour around a CBOR map around a body, the body locked by a passphrase or not. The bytes are drawn here; the locking
//! itself is `lavatube-seal`'s. Secrets are zeroized when dropped and no `Debug` shows them. This file must not know
//! passphrases, nor where a key file lies.

use lavatube_base::limits::{KEY_FILE_MAX, TENANT_LEN_MAX};
use lavatube_base::sign::{ML_DSA_65_PUBLIC_LEN, PairPublic};
use minicbor::{Decoder, Encoder};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cbor::{check_same, malformed};
use crate::depositor_card::SignedCard;
use crate::manifest::{fixed, key};
use crate::wire::Malformed;

pub(crate) mod armour;

/// Bytes of a read public key (X-Wing).
pub const READ_PUBLIC_LEN: usize = 1216;
/// Bytes a lock adds to a body: nonce and tag.
pub const LOCK_OVERHEAD: usize = 12 + 16;

const WHAT: &str = "key file";
type DecodeError = minicbor::decode::Error;
type EncodeError = minicbor::encode::Error<std::convert::Infallible>;

/// 32 secret bytes: zeroized when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// Takes `bytes` into keeping.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for one who must compute with them.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Secret {
    /// Looks at every byte whatever the others were, so that the time taken tells nothing.
    fn eq(&self, other: &Self) -> bool {
        let differences = self.0.iter().zip(&other.0).fold(0, |d, (a, b)| d | std::hint::black_box(a ^ b));
        std::hint::black_box(differences) == 0
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Whose keys a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A machine that deposits: may add, may not read.
    Deposit,
    /// Whoever restores.
    Read,
    /// The vault.
    Vault,
    /// One end of a link.
    Link,
}

impl KeyKind {
    const ALL: [Self; 4] = [Self::Deposit, Self::Read, Self::Vault, Self::Link];

    /// The kind's number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Deposit => 1,
            Self::Read => 2,
            Self::Vault => 3,
            Self::Link => 4,
        }
    }

    /// The kind's word in the armour.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deposit => "DEPOSIT",
            Self::Read => "READ",
            Self::Vault => "VAULT",
            Self::Link => "LINK",
        }
    }
}

/// How a passphrase was made into the key of a lock: Argon2id and its costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Salt.
    pub salt: [u8; 16],
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Lock {
    /// Least memory, KiB: 64 MiB.
    pub const MEMORY_KIB_MIN: u32 = 64 << 10;
    /// Most memory, KiB: 4 GiB.
    pub const MEMORY_KIB_MAX: u32 = 4 << 20;
    /// Most passes.
    pub const PASSES_MAX: u32 = 16;
    /// Most lanes.
    pub const LANES_MAX: u32 = 16;

    /// Whether the costs lie between floor and ceiling: a weaker lock is no lock, a costlier one is an attack on whoever
    /// opens it.
    pub fn is_within_limits(&self) -> bool {
        //= FORMAT#F6 from 64 MiB and one pass to 4 GiB, 16 passes and 16 lanes
        (Self::MEMORY_KIB_MIN..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=Self::PASSES_MAX).contains(&self.passes)
            && (1..=Self::LANES_MAX).contains(&self.lanes)
    }
}

/// A key file: its outer map.
#[derive(Clone)]
pub struct KeyFile {
    /// Whose keys.
    pub kind: KeyKind,
    /// Set when the body is locked by a passphrase.
    pub lock: Option<Lock>,
    /// The body as stored: the body itself, or with a lock `nonce ‖ ciphertext ‖ tag`.
    pub body: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyFile").field("kind", &self.kind).field("lock", &self.lock).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// The file's text.
    pub fn encode(&self) -> Zeroizing<String> {
        armour::wrap(self.kind.word(), &self.encode_map())
    }

    fn encode_map(&self) -> Zeroizing<Vec<u8>> {
        zeroizing(self.body.len() + 100, |e| {
            write_head(e, self.kind, self.lock.as_ref(), 1)?;
            e.u8(3)?.bytes(&self.body)?;
            Ok(())
        })
    }

    /// Reads a file's text. White space around it and at line ends does not matter.
    ///
    /// # Errors
    /// [`Malformed`] when armour or map break the layout, or the lock's costs lie outside the limits.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        let fail = |rule| Malformed { what: WHAT, at: 0, rule };
        if text.len() > KEY_FILE_MAX {
            return Err(fail("longer than any key file"));
        }
        let (kind, bytes) = KeyKind::ALL
            .into_iter()
            .find_map(|kind| Some((kind, armour::strip(kind.word(), text)?)))
            .ok_or_else(|| fail("no line BEGIN LAVATUBE ... KEY with its END"))?;
        let bytes = bytes?;
        let out = Self::read(kind, &mut Decoder::new(&bytes)).map_err(malformed(WHAT))?;
        check_same(WHAT, &bytes, &out.encode_map())?;
        match &out.lock {
            Some(lock) if !lock.is_within_limits() => Err(fail("the lock's Argon2id costs lie outside the limits")),
            Some(_) if out.body.len() < LOCK_OVERHEAD => Err(fail("a locked body is shorter than nonce and tag")),
            _ => Ok(out),
        }
    }

    fn read(kind: KeyKind, d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let locked = match d.map()? {
            Some(3) => false,
            Some(4) => true,
            _ => return Err(DecodeError::message("a key file has three or four keys")),
        };
        key(d, 0)?;
        if d.u8()? != 1 {
            return Err(DecodeError::message("unknown version"));
        }
        key(d, 1)?;
        if d.u8()? != kind.code() {
            return Err(DecodeError::message("armour and map name different kinds"));
        }
        let lock = if locked { Some(read_lock(d)?) } else { None };
        key(d, 3)?;
        Ok(Self { kind, lock, body: Zeroizing::new(d.bytes()?.to_vec()) })
    }
}

/// What a locked body is bound to: the file's map without its body.
pub fn lock_aad(kind: KeyKind, lock: &Lock) -> Vec<u8> {
    zeroizing(100, |e| write_head(e, kind, Some(lock), 0)).to_vec()
}

fn write_head(e: &mut Encoder<&mut Vec<u8>>, kind: KeyKind, lock: Option<&Lock>, more: u64) -> Result<(), EncodeError> {
    e.map(2 + u64::from(lock.is_some()) + more)?;
    e.u8(0)?.u8(1)?.u8(1)?.u8(kind.code())?;
    if let Some(lock) = lock {
        e.u8(2)?.map(4)?.u8(1)?.bytes(&lock.salt)?;
        e.u8(2)?.u32(lock.memory_kib)?.u8(3)?.u32(lock.passes)?.u8(4)?.u32(lock.lanes)?;
    }
    Ok(())
}

fn read_lock(d: &mut Decoder<'_>) -> Result<Lock, DecodeError> {
    key(d, 2)?;
    if d.map()? != Some(4) {
        return Err(DecodeError::message("a lock has four keys"));
    }
    key(d, 1)?;
    let salt = fixed(d)?;
    key(d, 2)?;
    let memory_kib = d.u32()?;
    key(d, 3)?;
    let passes = d.u32()?;
    key(d, 4)?;
    Ok(Lock { salt, memory_kib, passes, lanes: d.u32()? })
}

/// What a depositing machine keeps. Nothing in it opens a finished session.
#[derive(Debug, Clone)]
pub struct DepositBody {
    /// Tenant the machine deposits for.
    pub tenant: String,
    /// The tenant's secret in every session key.
    pub psk: Secret,
    /// Key of chunk ids.
    pub chunk_id_key: Secret,
    /// Secret of the chunker.
    pub chunker_secret: Secret,
    /// Public key sessions are wrapped to, [`READ_PUBLIC_LEN`] bytes.
    pub read_public: Vec<u8>,
    /// Ed25519 seed of the deposit key.
    pub ed25519_seed: Secret,
    /// ML-DSA-65 seed of the deposit key.
    pub ml_dsa_65_seed: Secret,
    /// The authority's certificate.
    pub card: SignedCard,
}

impl DepositBody {
    /// The body's bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let card = self.card.encode();
        zeroizing(READ_PUBLIC_LEN + card.len() + self.tenant.len() + 500, |e| {
            e.map(8)?.u8(1)?.str(&self.tenant)?;
            e.u8(2)?.bytes(&self.psk.0)?.u8(3)?.bytes(&self.chunk_id_key.0)?;
            e.u8(4)?.bytes(&self.chunker_secret.0)?.u8(5)?.bytes(&self.read_public)?;
            e.u8(6)?.bytes(&self.ed25519_seed.0)?.u8(7)?.bytes(&self.ml_dsa_65_seed.0)?;
            e.u8(8)?.bytes(&card)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it, or the card in it, breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "deposit key";
        let mut d = Decoder::new(bytes);
        let mut read = || -> Result<_, DecodeError> {
            map_of(&mut d, 8)?;
            let tenant = tenant(&mut d)?;
            let [psk, chunk_id_key, chunker_secret] = [secret(&mut d, 2)?, secret(&mut d, 3)?, secret(&mut d, 4)?];
            key(&mut d, 5)?;
            let read_public = fixed::<READ_PUBLIC_LEN>(&mut d)?.to_vec();
            let [ed25519_seed, ml_dsa_65_seed] = [secret(&mut d, 6)?, secret(&mut d, 7)?];
            key(&mut d, 8)?;
            let card = d.bytes()?;
            Ok((tenant, psk, chunk_id_key, chunker_secret, read_public, ed25519_seed, ml_dsa_65_seed, card))
        };
        let (tenant, psk, chunk_id_key, chunker_secret, read_public, ed25519_seed, ml_dsa_65_seed, card) =
            read().map_err(malformed(WHAT))?;
        let card = SignedCard::decode(card)?;
        let out = Self { tenant, psk, chunk_id_key, chunker_secret, read_public, ed25519_seed, ml_dsa_65_seed, card };
        check_same(WHAT, bytes, &out.encode())?;
        Ok(out)
    }
}

/// What opens a tenant's sessions.
#[derive(Debug, Clone)]
pub struct ReadBody {
    /// The tenant.
    pub tenant: String,
    /// The tenant's secret in every session key.
    pub psk: Secret,
    /// Key of chunk ids.
    pub chunk_id_key: Secret,
    /// X-Wing decapsulation key, as a seed.
    pub x_wing_seed: Secret,
    /// The authority whose depositor cards count.
    pub authority: PairPublic,
}

impl ReadBody {
    /// The body's bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        zeroizing(ML_DSA_65_PUBLIC_LEN + self.tenant.len() + 500, |e| {
            e.map(6)?.u8(1)?.str(&self.tenant)?;
            e.u8(2)?.bytes(&self.psk.0)?.u8(3)?.bytes(&self.chunk_id_key.0)?.u8(4)?.bytes(&self.x_wing_seed.0)?;
            e.u8(5)?.bytes(&self.authority.ed25519)?.u8(6)?.bytes(&self.authority.ml_dsa_65)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "read key";
        let mut d = Decoder::new(bytes);
        let mut read = || -> Result<_, DecodeError> {
            map_of(&mut d, 6)?;
            let tenant = tenant(&mut d)?;
            let [psk, chunk_id_key, x_wing_seed] = [secret(&mut d, 2)?, secret(&mut d, 3)?, secret(&mut d, 4)?];
            key(&mut d, 5)?;
            let ed25519 = fixed(&mut d)?;
            key(&mut d, 6)?;
            let ml_dsa_65 = fixed::<ML_DSA_65_PUBLIC_LEN>(&mut d)?.to_vec();
            Ok(Self { tenant, psk, chunk_id_key, x_wing_seed, authority: PairPublic { ed25519, ml_dsa_65 } })
        };
        let out = read().map_err(malformed(WHAT))?;
        check_same(WHAT, bytes, &out.encode())?;
        Ok(out)
    }
}

/// What a vault keeps.
#[derive(Debug, Clone)]
pub struct VaultBody {
    /// Ed25519 seed that signs receipts.
    pub ed25519_seed: Secret,
}

impl VaultBody {
    /// The body's bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        zeroizing(100, |e| {
            e.map(1)?.u8(1)?.bytes(&self.ed25519_seed.0)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "vault key";
        let mut d = Decoder::new(bytes);
        let mut read = || -> Result<_, DecodeError> {
            map_of(&mut d, 1)?;
            Ok(Self { ed25519_seed: secret(&mut d, 1)? })
        };
        let out = read().map_err(malformed(WHAT))?;
        check_same(WHAT, bytes, &out.encode())?;
        Ok(out)
    }
}

/// The key of one end of a link.
#[derive(Debug)]
pub struct LinkBody {
    /// X25519 private key.
    pub x25519: Secret,
}

impl LinkBody {
    /// The body's bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        zeroizing(100, |e| {
            e.map(1)?.u8(1)?.bytes(&self.x25519.0)?;
            Ok(())
        })
    }

    /// Reads a body.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "link key";
        let mut d = Decoder::new(bytes);
        let mut read = || -> Result<_, DecodeError> {
            map_of(&mut d, 1)?;
            Ok(Self { x25519: secret(&mut d, 1)? })
        };
        let out = read().map_err(malformed(WHAT))?;
        check_same(WHAT, bytes, &out.encode())?;
        Ok(out)
    }
}

fn map_of(d: &mut Decoder<'_>, keys: u64) -> Result<(), DecodeError> {
    if d.map()? == Some(keys) { Ok(()) } else { Err(DecodeError::message("keys missing or unknown")) }
}

fn secret(d: &mut Decoder<'_>, n: u8) -> Result<Secret, DecodeError> {
    key(d, n)?;
    fixed(d).map(Secret)
}

fn tenant(d: &mut Decoder<'_>) -> Result<String, DecodeError> {
    key(d, 1)?;
    let name = d.str()?;
    if name.is_empty() || name.len() > TENANT_LEN_MAX {
        return Err(DecodeError::message("a tenant's name has between 1 and 255 bytes"));
    }
    Ok(name.to_owned())
}

/// Encodes into a vector that is zeroized when dropped; `room` must suffice, so that growing leaves no copy behind.
fn zeroizing(
    room: usize,
    write: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), EncodeError>,
) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(Vec::with_capacity(room));
    // Writing to a Vec cannot fail.
    let _: Result<(), EncodeError> = write(&mut Encoder::new(&mut *out));
    debug_assert!(out.len() <= room, "secrets were copied by a growing vector");
    out
}

#[cfg(test)]
mod tests;
