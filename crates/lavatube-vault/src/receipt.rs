//! The claim that an object is safe, carried by a type: a receipt is signed for a [`Durable`] and for nothing else.
//!
//! Step 17 of the walk. It must not know how durability is reached; the one constructor asks the journal.

use lavatube_base::sign::EdSigner;
use lavatube_base::{ObjectId, VaultId};
use lavatube_format::receipt::{Receipt, ReceiptBody};

use crate::Vault;

/// Proof that an object's shards, and then the journal record that names them, were synced on enough drives.
#[derive(Debug)]
pub struct Durable {
    body: ReceiptBody,
}

impl Durable {
    /// The object.
    pub fn object(&self) -> ObjectId {
        self.body.object
    }

    /// The vault that keeps it.
    pub fn vault(&self) -> VaultId {
        self.body.vault
    }
}

/// Signs the receipt of a durable object.
pub fn sign_receipt(durable: &Durable, signer: &EdSigner) -> Receipt {
    durable.body.clone().sign(signer)
}

impl Vault {
    /// The only constructor of [`Durable`]: the object's record is settled, that is, synced on enough drives.
    pub(crate) fn durable(&self, object: ObjectId) -> Option<Durable> {
        let entry = self.entry(object)?;
        if !self.journal.is_settled(entry.sequence) {
            return None;
        }
        let (vault, sequence) = (self.card.vault, entry.sequence);
        Some(Durable { body: ReceiptBody { vault, sequence, kind: entry.kind, object, check: entry.check } })
    }

    /// The receipt of an object that is durable here; `None` when it is not here, or this vault was opened without its
    /// signing key, or too few drives are there to make its record safe.
    pub fn receipt_for(&mut self, object: ObjectId) -> Option<Receipt> {
        self.settle_journal().ok()?;
        let durable = self.durable(object)?;
        Some(sign_receipt(&durable, self.signer.as_ref()?))
    }
}
