//! The ledger: every receipt that came home, appended in the order in which they came (FORMAT section 9).
//!
//! A depositor's proof of what the vault said it has. It is only appended to, without a check of its own: each receipt is
//! signed. Nobody here verifies that; it must not know whose key would. Step 17 of the walk.

use lavatube_base::ObjectId;

use crate::receipt::Receipt;
use crate::wire::{Malformed, Reader};

/// Appends the entry of a receipt, as it came, about `object`.
///
/// # Panics
/// When the receipt is longer than 4 GiB, and so none.
pub fn put_entry(out: &mut Vec<u8>, object: ObjectId, receipt: &[u8]) {
    let len = u32::try_from(receipt.len()).expect("a receipt has less than 200 bytes");
    out.extend_from_slice(&object.0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(receipt);
}

/// Reads a ledger from its beginning.
#[derive(Debug)]
pub struct LedgerReader<'a> {
    r: Reader<'a>,
}

impl<'a> LedgerReader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { r: Reader::new("ledger", bytes) }
    }

    /// The next receipt, not verified, or `None` at the end.
    ///
    /// # Errors
    /// [`Malformed`] when what follows is no entry: a crash left a part of one, or it is damaged. What lies behind it
    /// cannot be found.
    pub fn next_receipt(&mut self) -> Result<Option<Receipt>, Malformed> {
        if self.r.left() == 0 {
            return Ok(None);
        }
        let object = ObjectId(self.r.array()?);
        let len = usize::try_from(self.r.u32()?).unwrap_or(usize::MAX);
        let receipt = Receipt::decode(self.r.take(len)?)?;
        self.r.ensure(receipt.body.object == object, "a receipt about another object")?;
        Ok(Some(receipt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::ReceiptBody;
    use crate::shard::ObjectKind;
    use lavatube_base::VaultId;
    use proptest::prelude::*;

    fn receipt(object: u8, sequence: u64) -> Receipt {
        let object = ObjectId([object; 32]);
        let body = ReceiptBody { vault: VaultId([1; 16]), sequence, kind: ObjectKind::Pack, object, check: [3; 16] };
        Receipt { body, signature: [4; 64] }
    }

    fn ledger(receipts: &[Receipt]) -> Vec<u8> {
        let mut out = Vec::new();
        receipts.iter().for_each(|r| put_entry(&mut out, r.body.object, &r.encode()));
        out
    }

    fn read(bytes: &[u8]) -> (Vec<Receipt>, Option<Malformed>) {
        let (mut reader, mut out) = (LedgerReader::new(bytes), Vec::new());
        loop {
            match reader.next_receipt() {
                Ok(Some(receipt)) => out.push(receipt),
                Ok(None) => return (out, None),
                Err(e) => return (out, Some(e)),
            }
        }
    }

    #[test]
    fn a_torn_tail_takes_nothing_with_it() {
        let all = [receipt(7, 1), receipt(8, u64::MAX)];
        let bytes = ledger(&all);
        let first = ledger(&all[..1]).len();
        for cut in first + 1..bytes.len() {
            let (kept, error) = read(&bytes[..cut]);
            assert_eq!(kept, all[..1], "cut at {cut}");
            assert!(error.is_some(), "cut at {cut}");
        }
    }

    #[test]
    fn a_receipt_about_another_object_is_refused() {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, ObjectId([9; 32]), &receipt(7, 1).encode());
        assert_eq!(read(&bytes).1.map(|e| e.rule), Some("a receipt about another object"));
    }

    proptest! {
        #[test]
        fn receipts_survive(raw in proptest::collection::vec((any::<u8>(), any::<u64>()), 0..9)) {
            let all: Vec<_> = raw.into_iter().map(|(object, sequence)| receipt(object, sequence)).collect();
            prop_assert_eq!(read(&ledger(&all)), (all, None));
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0usize..1000, value: u8) {
            let mut bytes = ledger(&[receipt(1, 2), receipt(3, 4)]);
            let at = at % bytes.len();
            bytes[at] = value;
            let (kept, error) = read(&bytes);
            if error.is_none() {
                prop_assert_eq!(ledger(&kept), bytes);
            }
        }
    }
}
