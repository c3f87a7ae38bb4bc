//! Sessions: one secret per backup, wrapped to the read key, from which every pack key and the note key come.
//!
//! Wrapping is HPKE base mode with X-Wing: content stays closed as long as one of ML-KEM-768 and X25519 holds, and beyond
//! both the tenant's PSK is needed (promise P9). It must not know what packs hold. Step 5 of the walk.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::Prk;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha512;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use lavatube_base::{ChunkId, DepositorId, SessionId};
use lavatube_format::key_file::{READ_PUBLIC_LEN, Secret};
use lavatube_format::manifest::{Mark, NOTE_OVERHEAD, Note, Wrap};
use lavatube_format::pack::SUITE;
use zeroize::Zeroizing;

use crate::deposit::DepositKeys;
use crate::error::SealError;
use crate::kdf;
use crate::pack::PackKeys;

const NOTE: &[u8] = b"lavatube/1 note";
const EMPTY_NOTE: &[u8] = b"lavatube/1 empty note";
const MARK: &[u8] = b"lavatube/1 mark";
const COMMITMENT_LEN: usize = 32;

pub(crate) type ReadPrivate = <XWing as Kem>::PrivateKey;

/// A read key's public half: what sessions are wrapped to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPublic {
    key: <XWing as Kem>::PublicKey,
    id: [u8; 8],
}

impl ReadPublic {
    /// The key in these bytes.
    ///
    /// # Errors
    /// [`SealError::Refused`] when they are not an X-Wing encapsulation key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        let key = <XWing as Kem>::PublicKey::from_bytes(bytes)
            .map_err(|_| SealError::Refused("this is not an X-Wing public key; the key file is not one of ours"))?;
        let mut id = [0; 8];
        id.copy_from_slice(&blake3::hash(bytes).as_bytes()[..8]);
        Ok(Self { key, id })
    }

    /// The key's bytes, [`READ_PUBLIC_LEN`] of them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = self.key.to_bytes().to_vec();
        debug_assert_eq!(bytes.len(), READ_PUBLIC_LEN);
        bytes
    }

    /// First eight bytes of BLAKE3 of the key: which wrap is whose.
    pub fn id(&self) -> [u8; 8] {
        self.id
    }
}

/// Beginning and resuming sessions.
pub struct Session;

impl Session {
    /// Begins a session with a fresh random `secret`: its keys, and the wrap for the manifest. `entropy` fills what it is
    /// given with random bytes; wrapping takes 64.
    ///
    /// # Errors
    /// [`SealError::Library`] when wrapping fails.
    pub fn begin(
        keys: &DepositKeys,
        session: SessionId,
        secret: &Secret,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(SessionKeys, Wrap), SealError> {
        let wrap = Self::wrap(keys.read_public(), session, keys.depositor(), secret, entropy)?;
        Ok((Self::resume(keys, session, secret), wrap))
    }

    /// The keys of a session that was begun before and whose secret was kept.
    pub fn resume(keys: &DepositKeys, session: SessionId, secret: &Secret) -> SessionKeys {
        SessionKeys::derive(session, keys.psk(), secret)
    }

    /// Wraps a session's secret to one more read key (escrow).
    ///
    /// # Errors
    /// [`SealError::Library`] when HPKE fails.
    pub fn wrap(
        to: &ReadPublic,
        session: SessionId,
        depositor: DepositorId,
        secret: &Secret,
        entropy: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Wrap, SealError> {
        let (enc, ct) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha512, XWing>(
            &OpModeS::Base,
            &to.key,
            &hpke_info(session, depositor),
            secret.bytes(),
            &[],
            &mut HandedIn(entropy),
        )
        .map_err(|_| SealError::Library("wrapping the session's secret"))?;
        Ok(Wrap { key_id: to.id, enc: enc.to_bytes().to_vec(), ct })
    }
}

/// Unwraps a session's secret.
pub(crate) fn unwrap(
    key: &ReadPrivate,
    session: SessionId,
    depositor: DepositorId,
    wrap: &Wrap,
) -> Result<Secret, SealError> {
    let altered = |_| SealError::Altered("the wrapped secret of this session");
    let enc = <XWing as Kem>::EncappedKey::from_bytes(&wrap.enc).map_err(altered)?;
    let plain = Zeroizing::new(
        hpke::single_shot_open::<AesGcm256, HkdfSha512, XWing>(
            &OpModeR::Base,
            key,
            &enc,
            &hpke_info(session, depositor),
            &wrap.ct,
            &[],
        )
        .map_err(altered)?,
    );
    let secret = plain.as_slice().try_into().map_err(|_| SealError::Altered("the wrapped secret of this session"))?;
    Ok(Secret::new(secret))
}

fn hpke_info(session: SessionId, depositor: DepositorId) -> Vec<u8> {
    [&b"lavatube/1 session"[..], &session.0, &depositor.0].concat()
}

/// The keys of one session: all of its packs and its note, and nothing of any other session.
#[derive(Clone)]
pub struct SessionKeys {
    session: SessionId,
    prk: Prk,
}

impl std::fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKeys({})", self.session)
    }
}

impl SessionKeys {
    /// The keys that a tenant's PSK and the session's secret make together.
    pub fn derive(session: SessionId, psk: &Secret, secret: &Secret) -> Self {
        Self { session, prk: kdf::extract(psk.bytes(), secret.bytes()) }
    }

    /// The session.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The keys of one pack.
    ///
    //= FORMAT#F17 said here because only the caller can keep it
    /// A number belongs to one content for ever: sealing two contents under the same session, number and class would use
    /// a nonce twice and open both. Whoever seals writes the number down before the sealed bytes can leave, and after a
    /// crash goes on with a number that was never used.
    ///
    /// # Panics
    /// When `class` is not below `PACK_CLASSES`.
    pub fn pack(&self, number: u32, class: u8) -> PackKeys {
        let label = b"lavatube/1 pack";
        let info: [&[u8]; 5] = [label, SUITE, &self.session.0, &number.to_le_bytes(), &[class]];
        let (key, commitment) = kdf::key_and_commitment(&self.prk, &info);
        PackKeys::new(self.session, number, class, aead_key(&key), commitment)
    }

    /// Seals the note of the session's manifest. A session has one note that names snapshots: only the run that began it
    /// seals that, once. A note that names none has keys of its own and is always the same, so that whoever ends a
    /// session that was cut may seal it again, whatever was sealed before.
    ///
    /// # Errors
    /// [`SealError::Library`] when the library fails.
    pub fn seal_note(&self, note: &Note) -> Result<Vec<u8>, SealError> {
        //= FORMAT#F17 no two notes under one key
        let (key, commitment) = self.note_keys(if note.says_nothing() { EMPTY_NOTE } else { NOTE });
        let mut plain = Zeroizing::new(note.encode());
        let tag = key
            .seal_in_place_separate_tag(note_nonce(), Aad::empty(), &mut plain)
            .map_err(|_| SealError::Library("sealing the note"))?;
        Ok([&commitment[..], &plain, tag.as_ref()].concat())
    }

    /// Opens the note of the session's manifest.
    ///
    /// # Errors
    /// [`SealError::WrongKey`] when it was sealed under other keys, [`SealError::Altered`] when it is not as it was
    /// sealed, [`SealError::Malformed`] when what is inside breaks its layout.
    pub fn open_note(&self, sealed: &[u8]) -> Result<Note, SealError> {
        let altered = SealError::Altered("the note of this manifest");
        if sealed.len() < NOTE_OVERHEAD {
            return Err(altered);
        }
        let (found, body) = sealed.split_at(COMMITMENT_LEN);
        //= FORMAT#F7 commitment first
        let fits = |keys: &(LessSafeKey, [u8; COMMITMENT_LEN])| verify_slices_are_equal(found, &keys.1).is_ok();
        let (key, _) = [NOTE, EMPTY_NOTE]
            .map(|label| self.note_keys(label))
            .into_iter()
            .find(fits)
            .ok_or(SealError::WrongKey("the note of this manifest"))?;
        let mut body = Zeroizing::new(body.to_vec());
        let plain = key.open_in_place(note_nonce(), Aad::empty(), &mut body).map_err(|_| altered)?;
        Ok(Note::decode(plain)?)
    }

    /// A mark of a snapshot of this session: only who can open the session can make one.
    pub fn mark(&self, snapshot: ChunkId, forgotten: bool, edition: u64) -> Mark {
        let info: [&[u8]; 5] = [MARK, &self.session.0, &snapshot.0, &[forgotten.into()], &edition.to_le_bytes()];
        Mark { snapshot, forgotten, edition, proof: *kdf::expand32(&self.prk, &info).bytes() }
    }

    /// Whether a mark of a snapshot of this session was made by someone who can open it.
    pub fn is_right(&self, mark: &Mark) -> bool {
        //= FORMAT#F36 a mark counts with its proof alone
        let should = self.mark(mark.snapshot, mark.forgotten, mark.edition);
        verify_slices_are_equal(&should.proof, &mark.proof).is_ok()
    }

    fn note_keys(&self, label: &[u8]) -> (LessSafeKey, [u8; COMMITMENT_LEN]) {
        let (key, commitment) = kdf::key_and_commitment(&self.prk, &[label, &self.session.0]);
        (aead_key(&key), commitment)
    }
}

pub(crate) fn aead_key(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 keys have 32 bytes"))
}

fn note_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// Entropy that was handed in, in the shape `hpke` asks for.
struct HandedIn<'a>(&'a mut dyn FnMut(&mut [u8]));

impl TryRng for HandedIn<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut out = [0; 4];
        (self.0)(&mut out);
        Ok(u32::from_le_bytes(out))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut out = [0; 8];
        (self.0)(&mut out);
        Ok(u64::from_le_bytes(out))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        (self.0)(out);
        Ok(())
    }
}

impl TryCryptoRng for HandedIn<'_> {}
