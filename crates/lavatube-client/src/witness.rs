//! Witnesses, from both sides: whether a witness may sign a checkpoint, and what a depositor keeps of those that were signed.
//!
//! A vault that shows two depositors two futures is found out when both ask the same witness: what goes on from the one
//! does not go on from the other. It must not know how requests travel. Step 18 of the walk.

use lavatube_base::hex;
use lavatube_base::limits::CHECKPOINT_LEN_MAX;
use lavatube_base::merkle::{Hash, verify_consistency};
use lavatube_format::checkpoint::SignedCheckpoint;
use lavatube_format::witness::{KeyKind, Request, VerifierKey};

use crate::far::{LogWord, Signer};
use crate::state::{State, StateError, read_all, write_all};

/// Why a witness does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwitnessed {
    /// The vault did not sign.
    #[error("the vault did not sign this checkpoint")]
    Unsigned,
    /// The proof begins elsewhere than at what the witness has seen.
    #[error("this witness has seen {seen} entries, and the proof begins at {old}: ask for a request from {seen} on")]
    Elsewhere {
        /// What it has seen.
        seen: u64,
        /// Where the proof begins.
        old: u64,
    },
    /// The log is shorter than what was seen, or another.
    #[error(
        "the log of {now} entries does not go on from that of {seen} which this witness has signed: the vault has shown two futures, or was put back"
    )]
    Forked {
        /// What it has seen.
        seen: u64,
        /// What it is shown.
        now: u64,
    },
}

/// Whether a witness that has `seen` a log of this size and root may sign the checkpoint in `request`.
///
/// # Errors
/// [`Unwitnessed`].
pub fn judge(request: &Request, vault_key: &[u8; 32], seen: Option<(u64, Hash)>) -> Result<(), Unwitnessed> {
    //= FORMAT#F43 only what goes on from what was signed before
    let (note, now) = (&request.note, request.note.checkpoint);
    note.verify(vault_key).map_err(|_| Unwitnessed::Unsigned)?;
    let Some((size, root)) = seen else { return Ok(()) };
    let forked = Unwitnessed::Forked { seen: size, now: now.size };
    if now.size < size || (now.size == size && now.root != root) {
        return Err(forked);
    }
    if now.size == size {
        return Ok(());
    }
    if request.old != size {
        return Err(Unwitnessed::Elsewhere { seen: size, old: request.old });
    }
    if verify_consistency(size, &root, now.size, &now.root, &request.proof) { Ok(()) } else { Err(forked) }
}

/// Whether what the vault says of its log goes on from `size` entries with this root; `None` when that is not told.
pub fn goes_on(word: &LogWord, vault: &Signer, size: u64, root: &Hash) -> Option<bool> {
    let checkpoint = match word {
        LogWord::Read { checkpoint, .. } => *checkpoint,
        LogWord::Signed(answer) => {
            let note = SignedCheckpoint::decode(&answer.note).ok()?;
            note.verify(&vault.key).ok()?;
            note.checkpoint
        }
    };
    let path = word.proofs().0.unwrap_or_default();
    Some(checkpoint.vault == vault.vault && verify_consistency(size, root, checkpoint.size, &checkpoint.root, path))
}

/// The witnesses whose signatures are asked for, in order.
///
/// # Errors
/// When the state cannot be read.
pub fn trusted(state: &dyn State) -> Result<Vec<VerifierKey>, StateError> {
    let text = read_all(state, TRUSTED, TEXT_MAX)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(|line| VerifierKey::parse(line).ok()).collect())
}

/// Asks for a witness's signatures from now on, or not any more.
///
/// # Errors
/// When the state cannot be written.
pub fn trust(state: &dyn State, key: &VerifierKey, is_trusted: bool) -> Result<(), StateError> {
    let mut all = trusted(state)?;
    all.retain(|known| known != key);
    if is_trusted {
        all.push(key.clone());
    }
    let text: String = all.iter().map(|key| format!("{}\n", key.line())).collect();
    write_all(state, TRUSTED, text.as_bytes())
}

/// The latest checkpoint of the vault that a witness has signed, and when.
///
/// # Errors
/// When the state cannot be read.
pub fn witnessed(
    state: &dyn State,
    vault: &Signer,
    witness: &VerifierKey,
) -> Result<Option<(SignedCheckpoint, u64)>, StateError> {
    let Some(bytes) = read_all(state, &file_name(witness), CHECKPOINT_LEN_MAX as u64)? else { return Ok(None) };
    let note = SignedCheckpoint::decode(&bytes).ok();
    Ok(note.and_then(|note| Some((note.clone(), own(&note, vault, witness)?))))
}

/// When `witness` signed a checkpoint of this very vault, which signed it, too.
fn own(note: &SignedCheckpoint, vault: &Signer, witness: &VerifierKey) -> Option<u64> {
    let is_own = note.checkpoint.vault == vault.vault && note.verify(&vault.key).is_ok();
    note.cosigned(witness).ok().filter(|_| is_own && witness.kind == KeyKind::Cosignature)
}

/// Keeps a checkpoint that witnesses have signed: for each of those that are trusted, and have not signed a longer log
/// before. Gives them, and when they signed.
///
/// # Errors
/// When the state cannot be written.
pub fn keep(state: &dyn State, vault: &Signer, note: &SignedCheckpoint) -> Result<Vec<(VerifierKey, u64)>, StateError> {
    let mut out = Vec::new();
    for witness in trusted(state)? {
        let Some(time) = own(note, vault, &witness) else { continue };
        let before = witnessed(state, vault, &witness)?;
        if before.is_none_or(|(before, _)| before.checkpoint.size <= note.checkpoint.size) {
            write_all(state, &file_name(&witness), note.note().as_bytes())?;
        }
        out.push((witness, time));
    }
    Ok(out)
}

fn file_name(witness: &VerifierKey) -> String {
    format!("log/witnessed/{}", hex(&witness.key))
}

const TRUSTED: &str = "log/witnesses";
const TEXT_MAX: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use lavatube_base::VaultId;
    use lavatube_base::merkle::Tree;
    use lavatube_base::sign::EdSigner;
    use lavatube_format::checkpoint::Checkpoint;

    use super::*;
    use crate::memory::MemoryState;

    fn vault() -> EdSigner {
        EdSigner::from_seed(&[1; 32]).unwrap()
    }

    fn tree(leaves: &str) -> Tree<[u8; 1]> {
        let mut tree = Tree::default();
        leaves.bytes().for_each(|byte| tree.push([byte]));
        tree
    }

    fn request(leaves: &str, old: u64) -> Request {
        let tree = tree(leaves);
        let checkpoint = Checkpoint { vault: VaultId([2; 16]), size: tree.size(), root: tree.root(), nonce: None };
        Request { old, proof: tree.consistency(old).unwrap_or_default(), note: checkpoint.sign(&vault()) }
    }

    #[test]
    fn a_witness_signs_what_goes_on_from_what_it_has_seen_and_nothing_else() {
        let seen = Some((3, tree("abc").root()));
        let judge = |request: &Request, seen| judge(request, &vault().public(), seen);
        assert_eq!(judge(&request("abcde", 0), None), Ok(()), "first sight is trusted");
        assert_eq!(judge(&request("abcde", 3), seen), Ok(()));
        assert_eq!(judge(&request("abc", 3), seen), Ok(()), "nothing new");
        assert_eq!(judge(&request("abcde", 2), seen), Err(Unwitnessed::Elsewhere { seen: 3, old: 2 }));
        for (leaves, now) in [("abx", 3), ("ab", 2), ("abxde", 5), ("xbcde", 5)] {
            assert_eq!(judge(&request(leaves, 3), seen), Err(Unwitnessed::Forked { seen: 3, now }), "{leaves}");
        }
        let other = EdSigner::from_seed(&[9; 32]).unwrap().public();
        assert_eq!(super::judge(&request("abcde", 3), &other, seen), Err(Unwitnessed::Unsigned));
    }

    #[test]
    fn what_trusted_witnesses_signed_is_kept_and_nothing_older_takes_its_place() {
        let state = MemoryState::default();
        let signer = Signer { vault: VaultId([2; 16]), key: vault().public() };
        let ann = EdSigner::from_seed(&[5; 32]).unwrap();
        let key = VerifierKey { name: "ann".into(), kind: KeyKind::Cosignature, key: ann.public() };
        let sign = |leaves: &str, time| request(leaves, 0).note.cosign("ann", &ann, time).unwrap();
        assert_eq!(keep(&state, &signer, &sign("abc", 10)).unwrap(), [], "nobody trusts ann yet");
        trust(&state, &key, true).unwrap();
        assert_eq!(keep(&state, &signer, &request("abc", 0).note).unwrap(), [], "not signed");
        assert_eq!(keep(&state, &signer, &sign("abc", 10)).unwrap(), [(key.clone(), 10)]);
        keep(&state, &signer, &sign("ab", 11)).unwrap();
        let (note, time) = witnessed(&state, &signer, &key).unwrap().unwrap();
        assert_eq!((note.checkpoint.size, time), (3, 10));
        let elsewhere = Signer { vault: VaultId([3; 16]), ..signer };
        assert_eq!(witnessed(&state, &elsewhere, &key).unwrap(), None);
        trust(&state, &key, false).unwrap();
        assert_eq!(trusted(&state).unwrap(), []);
    }
}
