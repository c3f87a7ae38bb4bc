//! The ledger: what the vault has signed for. Step 17 of the walk.
//!
//! Nothing leaves the spool before its receipt was verified and is in the ledger: whoever wants to know later what the vault
//! owes looks here. It must not know what the objects hold.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_format::ledger::{ENTRY_LEN_MAX, put_entry, read_entry};
use lavatube_format::receipt::Receipt;

use crate::far::{ReceiptBytes, Signer};
use crate::spool::SpoolKind;
use crate::state::{State, StateError};

/// Its name in the state.
pub const LEDGER: &str = "ledger";
const WINDOW_LEN: usize = 64 << 10;

/// Why a receipt does not count.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It is no receipt, is about something else, or the vault did not sign it.
    #[error("the vault's receipt for object {id} does not count: {why}")]
    Unfit {
        /// The object.
        id: ObjectId,
        /// What is wrong.
        why: String,
    },
    /// The state folder failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Verifies a receipt for object `id` and keeps it.
///
/// # Errors
/// [`LedgerError`]; the object must stay where it is then.
pub fn note(
    state: &dyn State,
    signer: &Signer,
    kind: SpoolKind,
    id: ObjectId,
    receipt: &ReceiptBytes,
) -> Result<(), LedgerError> {
    //= FORMAT#F24 what the spool may let go of has a receipt that was verified
    verify(signer, kind, id, receipt).map_err(|why| LedgerError::Unfit { id, why })?;
    let mut entry = Vec::new();
    put_entry(&mut entry, id, &receipt.0);
    Ok(state.append(LEDGER, &entry).map_err(StateError::on(LEDGER))?)
}

/// Which of `asked` the ledger has a receipt for. What a crash left of an entry is passed over.
///
/// # Errors
/// When the state cannot be read.
pub fn receipted(state: &dyn State, asked: &BTreeSet<ObjectId>) -> Result<BTreeSet<ObjectId>, StateError> {
    let mut out = BTreeSet::new();
    if asked.is_empty() || state.len(LEDGER).map_err(StateError::on(LEDGER))?.is_none() {
        return Ok(out);
    }
    let (mut window, mut from, mut offset) = (Vec::new(), 0, 0);
    loop {
        if window.len() - from < ENTRY_LEN_MAX {
            window.drain(..std::mem::take(&mut from));
            let more = window.len();
            window.resize(more + WINDOW_LEN, 0);
            let n = state.read_at(LEDGER, offset, &mut window[more..]).map_err(StateError::on(LEDGER))?;
            window.truncate(more + n);
            offset += n as u64;
            if n == 0 && window.is_empty() {
                return Ok(out);
            }
        }
        match read_entry(&window[from..]) {
            Some((receipt, len)) => {
                out.extend(asked.get(&receipt.body.object));
                from += len;
            }
            None => from += 1,
        }
    }
}

fn verify(signer: &Signer, kind: SpoolKind, id: ObjectId, receipt: &ReceiptBytes) -> Result<(), String> {
    let receipt = Receipt::decode(&receipt.0).map_err(|e| e.to_string())?;
    receipt.verify(&signer.key).map_err(|e| e.to_string())?;
    let body = &receipt.body;
    if (body.vault, body.object, body.kind) != (signer.vault, id, kind.object_kind()) {
        return Err("it is about something else".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lavatube_base::VaultId;
    use lavatube_base::sign::EdSigner;
    use lavatube_format::ledger::LedgerReader;
    use lavatube_format::receipt::ReceiptBody;
    use lavatube_format::shard::ObjectKind;

    use super::*;
    use crate::memory::MemoryState;
    use crate::state::read_all;

    fn receipt(vault: u8, object: u8, kind: ObjectKind, seed: u8) -> ReceiptBytes {
        let (vault, object) = (VaultId([vault; 16]), ObjectId([object; 32]));
        let body = ReceiptBody { vault, sequence: 7, kind, object, check: [3; 16] };
        ReceiptBytes(body.sign(&EdSigner::from_seed(&[seed; 32]).unwrap()).encode())
    }

    #[test]
    fn only_the_vaults_own_word_about_the_very_object_is_kept() {
        let state = MemoryState::default();
        let signer = Signer { vault: VaultId([1; 16]), key: EdSigner::from_seed(&[4; 32]).unwrap().public() };
        let id = ObjectId([2; 32]);
        let keep = |receipt: &ReceiptBytes| note(&state, &signer, SpoolKind::Pack, id, receipt);
        for unfit in [
            receipt(9, 2, ObjectKind::Pack, 4),
            receipt(1, 9, ObjectKind::Pack, 4),
            receipt(1, 2, ObjectKind::Manifest, 4),
            receipt(1, 2, ObjectKind::Pack, 9),
            ReceiptBytes(Vec::new()),
        ] {
            assert!(matches!(keep(&unfit), Err(LedgerError::Unfit { .. })));
        }
        assert_eq!(read_all(&state, LEDGER, 1 << 20).unwrap(), None);
        let good = receipt(1, 2, ObjectKind::Pack, 4);
        keep(&good).unwrap();
        let kept = read_all(&state, LEDGER, 1 << 20).unwrap().unwrap();
        assert!(LedgerReader::new(&kept).map(|receipt| receipt.encode()).eq([good.0]));
    }

    #[test]
    fn receipts_are_found_among_many_and_behind_a_torn_entry() {
        let state = MemoryState::default();
        let signer = Signer { vault: VaultId([1; 16]), key: EdSigner::from_seed(&[4; 32]).unwrap().public() };
        let asked: BTreeSet<ObjectId> = [2, 3, 4].map(|n| ObjectId([n; 32])).into();
        assert_eq!(receipted(&state, &asked).unwrap(), BTreeSet::new());
        let keep = |n: u8| {
            let one = receipt(1, n, ObjectKind::Pack, 4);
            note(&state, &signer, SpoolKind::Pack, ObjectId([n; 32]), &one).unwrap();
        };
        keep(2);
        let torn = read_all(&state, LEDGER, 1 << 20).unwrap().unwrap();
        state.append(LEDGER, &torn[..torn.len() - 9]).unwrap();
        (0..600).for_each(|_| keep(9));
        keep(3);
        assert_eq!(receipted(&state, &asked).unwrap(), [2, 3].map(|n| ObjectId([n; 32])).into());
    }
}
