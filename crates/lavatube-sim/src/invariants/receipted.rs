//! Receipt ⇒ the object is in the vault and reads back, after any crash and with what redundancy promises broken.

use lavatube_vault::{ReadError, Receipt, Vault};

use super::Verdict;
use crate::book::Known;

/// Every object with a receipt reads back; reading verifies its id.
///
/// # Errors
/// The first that does not.
pub fn readable(vault: &Vault, known: &[Known]) -> Verdict {
    for object in known {
        let Some(receipt) = &object.receipt else { continue };
        let name = object.id.short();
        let receipt = Receipt::decode(receipt).map_err(|e| format!("the receipt for {name} cannot be decoded: {e}"))?;
        receipt.verify(&vault.vault_key()).map_err(|e| format!("the receipt for {name} does not verify: {e}"))?;
        if receipt.body.object != object.id {
            return Err(format!("the receipt for {name} is another object's"));
        }
        let Some(entry) = vault.find(object.id) else {
            return Err(format!("object {name} has a receipt and is not in the vault"));
        };
        let mut bytes = Vec::new();
        vault
            .read(object.id, 0..entry.len, &mut bytes)
            .map_err(|e| format!("object {name} has a receipt and does not read back: {}", told(&e)))?;
    }
    Ok(())
}

/// An error with all that is known of the damage.
fn told(e: &ReadError) -> String {
    let ReadError::Lost { damage, .. } = e else { return e.to_string() };
    let shards: Vec<String> =
        damage.iter().map(|s| format!("shard {} on {:?}: {:?}", s.shard, s.slot, s.state)).collect();
    format!("{e}; {}", shards.join("; "))
}
