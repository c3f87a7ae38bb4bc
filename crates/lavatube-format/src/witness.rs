//! Witnesses: whoever countersigns checkpoints that go on from what he has seen (FORMAT section 16, C2SP tlog-witness,
//! tlog-cosignature and signed-note's keys).
//!
//! All of it is text that goes from hand to hand: a request with a proof and a checkpoint, the checkpoint with one signature
//! more, and keys in one line. It must not know what a witness has seen. Step 18 of the walk.

use lavatube_base::digest::sha256;
use lavatube_base::hex;
use lavatube_base::limits::{CHECKPOINT_LEN_MAX, LOG_PROOF_MAX};
use lavatube_base::merkle::Hash;

use crate::Malformed;
use crate::checkpoint::SignedCheckpoint;
use crate::key_file::armour;

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The text of a note: a vault's.
    Note,
    /// A cosignature with its time: a witness's.
    Cosignature,
}

impl KeyKind {
    const fn code(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key of notes with the name of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Whose.
    pub name: String,
    /// For what.
    pub kind: KeyKind,
    /// Ed25519.
    pub key: [u8; 32],
}

impl VerifierKey {
    /// The beginning of its digest, as signatures name it.
    pub fn id(&self) -> [u8; 4] {
        let hash = sha256(&[self.name.as_bytes(), b"\n", &[self.kind.code()], &self.key].concat());
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The line.
    pub fn line(&self) -> String {
        let mut out = format!("{}+{}+", self.name, hex(&self.id()));
        armour::put_base64(&mut out, &[&[self.kind.code()], &self.key[..]].concat());
        out
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`Malformed`] when it is none, or its digits are not those of its key.
    pub fn parse(line: &str) -> Result<Self, Malformed> {
        let fail = |rule| Malformed { what: "verifier key", at: 0, rule };
        let mut parts = line.trim().splitn(3, '+');
        let (name, key) = (parts.next().unwrap_or_default(), parts.nth(1));
        let key = armour::decode(key.ok_or_else(|| fail("not `name+digits+key`"))?)?;
        let (kind, key) = key.split_first().ok_or_else(|| fail("no key"))?;
        let kind = [KeyKind::Note, KeyKind::Cosignature].into_iter().find(|k| k.code() == *kind);
        let out = Self {
            name: name.to_owned(),
            kind: kind.ok_or_else(|| fail("a key of another kind"))?,
            key: key.try_into().map_err(|_| fail("a key of another length"))?,
        };
        if !is_name(name) {
            return Err(fail("a name that no signature can have"));
        }
        if out.line() == line.trim() { Ok(out) } else { Err(fail("the digits are not those of the key")) }
    }
}

/// Whether signatures can bear this name.
pub fn is_name(name: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    !name.is_empty() && name.len() <= NAME_LEN_MAX && !name.chars().any(odd)
}

/// What is asked of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The size of the log that it has seen, as whoever asks knows.
    pub old: u64,
    /// What proves that the log of that size is the beginning of this one.
    pub proof: Vec<Hash>,
    /// The checkpoint to be signed.
    pub note: SignedCheckpoint,
}

impl Request {
    /// The text.
    pub fn encode(&self) -> String {
        let mut out = format!("old {}\n", self.old);
        for hash in &self.proof {
            armour::put_base64(&mut out, hash);
            out.push('\n');
        }
        out.push('\n');
        out.push_str(self.note.note());
        out
    }

    /// Reads exactly a request.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let fail = |rule| Malformed { what: "request to a witness", at: 0, rule };
        if bytes.len() > REQUEST_LEN_MAX {
            return Err(fail("longer than the limit"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| fail("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or_else(|| fail("no checkpoint behind an empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")?.parse().ok());
        let old = old.ok_or_else(|| fail("the first line does not say what is known"))?;
        let proof = lines.map(|line| {
            let hash = armour::decode(line)?;
            hash[..].try_into().map_err(|_| fail("a hash that is none"))
        });
        let proof: Vec<Hash> = proof.collect::<Result<_, _>>()?;
        if proof.len() > LOG_PROOF_MAX {
            return Err(fail("a proof longer than the limit"));
        }
        let out = Self { old, proof, note: SignedCheckpoint::decode(note.as_bytes())? };
        if out.encode() == text { Ok(out) } else { Err(fail("not the text of a request")) }
    }
}

const NAME_LEN_MAX: usize = 128;
const REQUEST_LEN_MAX: usize = CHECKPOINT_LEN_MAX + 64 + 45 * LOG_PROOF_MAX;

#[cfg(test)]
mod tests {
    use lavatube_base::VaultId;
    use lavatube_base::sign::EdSigner;
    use proptest::prelude::*;

    use super::*;
    use crate::checkpoint::Checkpoint;

    fn note() -> SignedCheckpoint {
        let checkpoint = Checkpoint { vault: VaultId([3; 16]), size: 7, root: [9; 32], nonce: None };
        checkpoint.sign(&EdSigner::from_seed(&[1; 32]).unwrap())
    }

    fn witness(seed: u8) -> (EdSigner, VerifierKey) {
        let signer = EdSigner::from_seed(&[seed; 32]).unwrap();
        let key = VerifierKey { name: "ann.example/w".into(), kind: KeyKind::Cosignature, key: signer.public() };
        (signer, key)
    }

    #[test]
    fn a_cosignature_counts_for_its_key_its_text_and_its_time() {
        let (signer, key) = witness(5);
        let signed = note().cosign(&key.name, &signer, 1_795_000_000).unwrap();
        assert_eq!(signed.cosigned(&key), Ok(1_795_000_000));
        signed.verify(&EdSigner::from_seed(&[1; 32]).unwrap().public()).unwrap();
        assert!(note().cosigned(&key).is_err());
        assert!(signed.cosigned(&witness(6).1).is_err());
        assert!(signed.cosigned(&VerifierKey { name: "bob".into(), ..key.clone() }).is_err());
        let grown = SignedCheckpoint::decode(signed.note().replace("\n7\n", "\n8\n").as_bytes()).unwrap();
        assert!(grown.cosigned(&key).is_err());
        // The time is signed, too: bytes 4 to 12 of what stands in the line.
        let line = signed.note().lines().last().unwrap().to_owned();
        let (head, text) = line.rsplit_once(' ').unwrap();
        let mut bytes = armour::decode(text).unwrap();
        bytes[11] ^= 1;
        let mut later = format!("{head} ");
        armour::put_base64(&mut later, &bytes);
        let later = SignedCheckpoint::decode(signed.note().replace(&line, &later).as_bytes()).unwrap();
        assert!(later.cosigned(&key).is_err());
    }

    #[test]
    fn keys_and_requests_survive_and_have_one_form() {
        let (_, key) = witness(5);
        assert_eq!(VerifierKey::parse(&key.line()), Ok(key.clone()));
        assert_eq!(VerifierKey::parse(&format!(" {}\n", key.line())), Ok(key.clone()));
        let wrong = key.line().replacen("+", "+0", 1);
        for bad in ["", "a+b", "a+00000000+AAAA", &wrong, &key.line().replace("ann", "bob")] {
            assert!(VerifierKey::parse(bad).is_err(), "{bad}");
        }
        let request = Request { old: 3, proof: vec![[1; 32], [2; 32]], note: note() };
        assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request.clone()));
        let text = request.encode();
        for bad in [
            text.replace("old 3", "old 03"),
            text.replace("old", "new"),
            text.replacen("\n\n", "\n", 1),
            format!("{text}x"),
        ] {
            assert!(Request::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        let long = Request { proof: vec![[1; 32]; LOG_PROOF_MAX + 1], ..request };
        assert!(Request::decode(long.encode().as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoders_panic(text in "[ -~\n+]{0,200}") {
            let _ = Request::decode(text.as_bytes());
            let _ = VerifierKey::parse(&text);
        }
    }
}
