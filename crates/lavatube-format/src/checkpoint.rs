//! Checkpoints: the vault's signed word for how long its log is and what is in it (FORMAT section 16).
//!
//! Text of C2SP tlog-checkpoint, signed as a C2SP signed-note, so that tools of others read it: origin, size, root, and a
//! line of ours with the nonce it answers. It must not know what a log holds or which checkpoint is believed. Step 17 of
//! the walk.

use lavatube_base::limits::{CHECKPOINT_LEN_MAX, CHECKPOINT_SIGNATURES_MAX};
use lavatube_base::merkle::Hash;
use lavatube_base::sign::{ED25519_SIGNATURE_LEN, EdSigner, SignError, verify_note};
use lavatube_base::{VaultId, hex};

use crate::Malformed;
use crate::key_file::armour;
use crate::witness::{KeyKind, VerifierKey};

/// What whoever asks draws, so that the answer cannot be an old one.
pub type Nonce = [u8; 16];

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The vault whose log it is.
    pub vault: VaultId,
    /// Number of leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// The nonce it answers.
    pub nonce: Option<Nonce>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n{}\n", origin(self.vault), self.size);
        armour::put_base64(&mut out, &self.root);
        out.push('\n');
        if let Some(nonce) = self.nonce {
            out.push_str(NONCE);
            out.push_str(&hex(&nonce));
            out.push('\n');
        }
        out
    }

    /// Signs it with the vault's key.
    pub fn sign(self, signer: &EdSigner) -> SignedCheckpoint {
        let text = self.text();
        let signature = signer.sign_note(&text);
        let origin = origin(self.vault);
        let mut note = format!("{text}\n{DASH}{origin} ");
        armour::put_base64(&mut note, &[&key_id(&origin, &signer.public()), &signature[..]].concat());
        note.push('\n');
        SignedCheckpoint { checkpoint: self, note }
    }

    fn decode(text: &str) -> Result<Self, Malformed> {
        let mut lines = text.split('\n');
        let mut line = |rule| lines.next().ok_or_else(|| fail(rule));
        let vault = line("no origin")?.strip_prefix(ORIGIN).and_then(|id| id.parse().ok());
        let size = line("no size")?;
        let root = armour::decode(line("no root")?)?;
        let out = Self {
            vault: vault.ok_or_else(|| fail("not the origin of a vault's log"))?,
            size: size.parse().map_err(|_| fail("a size that is no number"))?,
            root: root[..].try_into().map_err(|_| fail("a root that is no SHA-256"))?,
            nonce: match line("no end")? {
                "" => None,
                nonce => Some(nonce_in(nonce.strip_prefix(NONCE)).ok_or_else(|| fail("a line that is no nonce"))?),
            },
        };
        // One text for one checkpoint: no signs, leading zeros, capitals or lines of others.
        if out.text() == text { Ok(out) } else { Err(fail("not the text of a checkpoint")) }
    }
}

/// A checkpoint with signatures, not yet verified, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    note: String,
}

impl SignedCheckpoint {
    /// The note: text, an empty line, and signatures.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// Reads a note from exactly its bytes, without verifying signatures.
    ///
    /// # Errors
    /// [`Malformed`] when they are none, or not of a vault's checkpoint.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > CHECKPOINT_LEN_MAX {
            return Err(fail("longer than the limit"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| fail("not UTF-8"))?;
        if note.chars().any(|c| c.is_ascii_control() && c != '\n') {
            return Err(fail("a control character"));
        }
        let (text, signatures) = split(note).ok_or_else(|| fail("no signatures behind an empty line"))?;
        let lines = signatures.strip_suffix('\n').ok_or_else(|| fail("the last line has no end"))?.split('\n');
        if lines.clone().count() > CHECKPOINT_SIGNATURES_MAX {
            return Err(fail("more signatures than the limit"));
        }
        if lines.map(signature).any(|signature| signature.is_none()) {
            return Err(fail("a line that is no signature"));
        }
        Ok(Self { checkpoint: Checkpoint::decode(text)?, note: note.to_owned() })
    }

    /// Verifies the vault's own signature. Those of others are passed over.
    ///
    /// # Errors
    /// [`SignError::Signature`] when there is none, or it is wrong.
    pub fn verify(&self, vault_key: &[u8; 32]) -> Result<(), SignError> {
        let missing = SignError::Signature("Ed25519");
        let origin = origin(self.checkpoint.vault);
        let id = key_id(&origin, vault_key);
        let (text, signatures) = split(&self.note).ok_or(missing)?;
        let all = signatures.lines().filter_map(signature).filter(|(name, _)| *name == origin);
        let mut good = all.filter(|(_, bytes)| {
            let parts = bytes.split_first_chunk::<4>();
            let own = parts.filter(|(key, signature)| **key == id && signature.len() == ED25519_SIGNATURE_LEN);
            own.is_some_and(|(_, signature)| verify_note(vault_key, text, signature).is_ok())
        });
        good.next().map(drop).ok_or(missing)
    }
}

impl SignedCheckpoint {
    /// The same with the cosignature of a witness behind the others, if there is room for one more.
    ///
    /// # Errors
    /// [`Malformed`] when there is none.
    pub fn cosign(&self, name: &str, signer: &EdSigner, time_s: u64) -> Result<Self, Malformed> {
        let (text, _) = split(&self.note).ok_or_else(|| fail("no signatures behind an empty line"))?;
        let signature = signer.sign_note(&cosigned_text(time_s, text));
        let key = VerifierKey { name: name.to_owned(), kind: KeyKind::Cosignature, key: signer.public() };
        let mut note = format!("{}{DASH}{name} ", self.note);
        armour::put_base64(&mut note, &[&key.id()[..], &time_s.to_be_bytes(), &signature].concat());
        note.push('\n');
        Self::decode(note.as_bytes())
    }

    /// When a witness signed it, in seconds since 1970 by the witness's clock.
    ///
    /// # Errors
    /// [`SignError::Signature`] when it did not.
    pub fn cosigned(&self, witness: &VerifierKey) -> Result<u64, SignError> {
        let missing = SignError::Signature("witness's Ed25519");
        let (text, signatures) = split(&self.note).ok_or(missing)?;
        let all = signatures.lines().filter_map(signature).filter(|(name, _)| *name == witness.name);
        let good = |(_, bytes): (&str, Vec<u8>)| {
            let (id, rest) = bytes.split_first_chunk::<4>()?;
            let (time, signature) = rest.split_first_chunk::<8>()?;
            let time = u64::from_be_bytes(*time);
            let is_own = *id == witness.id() && signature.len() == ED25519_SIGNATURE_LEN;
            (is_own && verify_note(&witness.key, &cosigned_text(time, text), signature).is_ok()).then_some(time)
        };
        all.filter_map(good).max().ok_or(missing)
    }
}

/// What a witness signs (C2SP tlog-cosignature).
fn cosigned_text(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// The text with its last line's end, and the lines of signatures.
fn split(note: &str) -> Option<(&str, &str)> {
    let at = note.rfind("\n\n")?;
    Some((&note[..=at], &note[at + 2..]))
}

/// Name and bytes of a line with a signature.
fn signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, text) = line.strip_prefix(DASH)?.split_once(' ')?;
    let bytes = armour::decode(text).ok().filter(|bytes| !name.is_empty() && bytes.len() > 4)?;
    let mut again = String::new();
    armour::put_base64(&mut again, &bytes);
    (again == text).then(|| (name, bytes.to_vec()))
}

/// The first line of a vault's checkpoints, and the name of its key.
pub fn origin(vault: VaultId) -> String {
    format!("{ORIGIN}{vault}")
}

/// C2SP's name of an Ed25519 key in notes.
fn key_id(name: &str, key: &[u8; 32]) -> [u8; 4] {
    VerifierKey { name: name.to_owned(), kind: KeyKind::Note, key: *key }.id()
}

fn nonce_in(text: Option<&str>) -> Option<Nonce> {
    text?.parse::<VaultId>().ok().map(|bytes| bytes.0)
}

fn fail(rule: &'static str) -> Malformed {
    Malformed { what: "checkpoint", at: 0, rule }
}

const ORIGIN: &str = "lavatube/";
const NONCE: &str = "nonce ";
const DASH: &str = "\u{2014} ";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signer() -> EdSigner {
        EdSigner::from_seed(&[4; 32]).unwrap()
    }

    fn sample() -> Checkpoint {
        Checkpoint { vault: VaultId([0xa1; 16]), size: 12_345, root: [0x5a; 32], nonce: Some([0x0f; 16]) }
    }

    #[test]
    fn a_checkpoint_verifies_under_its_vault_key() {
        let note = sample().sign(&signer());
        let read = SignedCheckpoint::decode(note.note().as_bytes()).unwrap();
        assert_eq!(read.checkpoint, sample());
        read.verify(&signer().public()).unwrap();
    }

    #[test]
    fn only_the_vaults_own_signature_over_the_very_text_counts() {
        let note = sample().sign(&signer());
        assert!(note.verify(&EdSigner::from_seed(&[5; 32]).unwrap().public()).is_err());
        let other = Checkpoint { vault: VaultId([0xa2; 16]), ..sample() }.sign(&signer());
        // A good signature under another name, or another text, is none.
        let (text, _) = split(note.note()).unwrap();
        let (_, signatures) = split(other.note()).unwrap();
        let mixed = SignedCheckpoint::decode(format!("{text}\n{signatures}").as_bytes()).unwrap();
        assert!(mixed.verify(&signer().public()).is_err());
        let grown = note.note().replace("12345", "12346");
        assert!(SignedCheckpoint::decode(grown.as_bytes()).unwrap().verify(&signer().public()).is_err());
    }

    #[test]
    fn signatures_of_witnesses_are_passed_over() {
        let note = sample().sign(&signer());
        let line = "\u{2014} witness.example/w1 AAAAAAAAAAAAAAAAAAAAAAAA\n";
        let (text, own) = split(note.note()).unwrap();
        for all in [format!("{own}{line}"), format!("{line}{own}")] {
            let read = SignedCheckpoint::decode(format!("{text}\n{all}").as_bytes()).unwrap();
            read.verify(&signer().public()).unwrap();
        }
        let many = |count| SignedCheckpoint::decode(format!("{text}\n{}", line.repeat(count)).as_bytes());
        assert!(many(CHECKPOINT_SIGNATURES_MAX).is_ok());
        assert_eq!(many(CHECKPOINT_SIGNATURES_MAX + 1).unwrap_err().rule, "more signatures than the limit");
        assert!(many(1).unwrap().verify(&signer().public()).is_err(), "only the vault speaks for itself");
    }

    #[test]
    fn another_text_for_the_same_is_refused() {
        let note = sample().sign(&signer()).note().to_owned();
        for (from, to) in [
            ("12345", "012345"),
            ("12345", "+12345"),
            ("nonce 0f", "nonce 0F"),
            ("\n12345\n", "\r\n12345\n"),
            ("nonce ", "once "),
            ("\n\n", "\nanother line\n\n"),
            ("lavatube/", "lavatub/"),
            ("\u{2014} ", "- "),
        ] {
            let bad = note.replacen(from, to, 1);
            assert!(bad != note && SignedCheckpoint::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(SignedCheckpoint::decode(&note.as_bytes()[..note.len() - 1]).is_err());
        let long = format!("{note}{}", "\u{2014} a AAAAAAAA\n".repeat(CHECKPOINT_LEN_MAX / 14));
        assert_eq!(SignedCheckpoint::decode(long.as_bytes()).unwrap_err().rule, "longer than the limit");
    }

    proptest! {
        #[test]
        fn checkpoints_survive(vault: [u8; 16], size: u64, root: Hash, nonce: Option<Nonce>) {
            let checkpoint = Checkpoint { vault: VaultId(vault), size, root, nonce };
            let signed = checkpoint.sign(&signer());
            prop_assert_eq!(SignedCheckpoint::decode(signed.note().as_bytes()), Ok(signed));
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in "[ -~\n\u{2014}]{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SignedCheckpoint::decode(text.as_bytes());
            let _ = SignedCheckpoint::decode(&bytes);
            let text = format!("lavatube/{}\n1\n{text}\n\n\u{2014} a AAAAAAAA\n", VaultId([1; 16]));
            let _ = SignedCheckpoint::decode(text.as_bytes());
        }
    }
}
