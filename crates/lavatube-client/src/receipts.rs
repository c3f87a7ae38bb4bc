//! Receipts that came home in this life.
//!
//! A link gives no block twice, and a receipt is the same block whenever it is sent. So when an object waits again whose
//! receipt came before (a power cut undid that the spool let go of it, or an older state was put back), asking for the
//! receipt brings nothing: it must have been remembered. It must not know what receipts are worth: whoever uses one
//! verifies it.

use lavatube_base::limits::KEPT_MAX;
use lavatube_base::{Latest, ObjectId};
use lavatube_format::receipt::Receipt;

/// Receipts, as many as the link remembers blocks: those beyond it would give again.
#[derive(Debug)]
pub struct Receipts(Latest<ObjectId, Receipt>);

impl Default for Receipts {
    fn default() -> Self {
        Self(Latest::new(KEPT_MAX))
    }
}

impl Receipts {
    /// Remembers one; the oldest goes where there are too many.
    pub fn keep(&mut self, receipt: &Receipt) {
        self.0.insert(receipt.body.object, receipt.clone());
    }

    /// The receipt of an object, if it came.
    pub fn of(&self, id: ObjectId) -> Option<Receipt> {
        self.0.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::VaultId;
    use lavatube_base::sign::EdSigner;
    use lavatube_format::receipt::ReceiptBody;
    use lavatube_format::shard::ObjectKind;

    #[test]
    fn as_many_are_kept_as_the_limit_says_and_the_oldest_goes() {
        let id = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_le_bytes());
            ObjectId(id)
        };
        let (vault, kind) = (VaultId([1; 16]), ObjectKind::Pack);
        let body = |n| ReceiptBody { vault, sequence: 1, kind, object: id(n), check: [0; 16] };
        let receipt = body(0).sign(&EdSigner::from_seed(&[3; 32]).unwrap());
        let mut receipts = Receipts::default();
        for n in (0..=KEPT_MAX).chain([KEPT_MAX]) {
            // Nobody verifies here.
            receipts.keep(&Receipt { body: body(n), ..receipt.clone() });
        }
        assert!(receipts.of(id(0)).is_none() && receipts.of(id(1)).is_some() && receipts.of(id(KEPT_MAX)).is_some());
        assert_eq!(receipts.0.len(), KEPT_MAX);
    }
}
