//! The ledger: every receipt that came home, appended in the order in which they came (FORMAT section 9).
//!
//! A depositor's proof of what the vault said it has. It is only appended to. Each receipt is signed; nobody here
//! verifies that, and it must not know whose key would. Step 17 of the walk.

use lavatube_base::ObjectId;
use lavatube_base::digest::h16;

use crate::receipt::{RECEIPT_LEN_MAX, Receipt};
use crate::wire::{Malformed, Reader};

/// Appends the entry of a receipt, as it came, about `object`.
///
/// # Panics
/// When the receipt is longer than 4 GiB, and so none.
pub fn put_entry(out: &mut Vec<u8>, object: ObjectId, receipt: &[u8]) {
    let len = u32::try_from(receipt.len()).expect("a receipt has less than 200 bytes");
    let start = out.len();
    out.extend_from_slice(&object.0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(receipt);
    let check = h16(&[&out[start..]]);
    out.extend_from_slice(&check);
}

/// More than any entry has.
pub const ENTRY_LEN_MAX: usize = ObjectId::LEN + 4 + RECEIPT_LEN_MAX + 16;

/// Reads a ledger from its beginning.
#[derive(Debug)]
pub struct LedgerReader<'a>(&'a [u8]);

impl<'a> LedgerReader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl Iterator for LedgerReader<'_> {
    type Item = Receipt;

    /// The next receipt, not verified. What is no entry (a crash left a part of one, or it is damaged) is passed over byte by
    /// byte until one has its check.
    fn next(&mut self) -> Option<Receipt> {
        while !self.0.is_empty() {
            if let Some((receipt, len)) = read_entry(self.0) {
                self.0 = &self.0[len..];
                return Some(receipt);
            }
            self.0 = &self.0[1..];
        }
        None
    }
}

/// The receipt of the entry that `bytes` begin with, and the entry's length; `None` when there is no whole one.
pub fn read_entry(bytes: &[u8]) -> Option<(Receipt, usize)> {
    entry(bytes).ok()
}

fn entry(bytes: &[u8]) -> Result<(Receipt, usize), Malformed> {
    let mut r = Reader::new("ledger", bytes);
    let object = ObjectId(r.array()?);
    let len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
    r.ensure(len <= RECEIPT_LEN_MAX, "longer than any receipt")?;
    let receipt = r.take(len)?;
    let check = h16(&[&bytes[..r.position()]]);
    let kept = r.array()? == check;
    r.ensure(kept, "check does not match")?;
    let receipt = Receipt::decode(receipt)?;
    r.ensure(receipt.body.object == object, "a receipt about another object")?;
    Ok((receipt, r.position()))
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

    fn read(bytes: &[u8]) -> Vec<Receipt> {
        LedgerReader::new(bytes).collect()
    }

    #[test]
    fn what_a_crash_left_of_an_entry_takes_no_other_with_it() {
        let all = [receipt(7, 1), receipt(8, u64::MAX), receipt(9, 300)];
        let bytes = ledger(&all);
        let (first, last) = (ledger(&all[..1]), ledger(&all[2..]));
        for cut in first.len()..bytes.len() - last.len() {
            let torn = [&bytes[..cut], &last].concat();
            assert_eq!(read(&torn), [all[0].clone(), all[2].clone()], "cut at {cut}");
        }
    }

    #[test]
    fn a_receipt_about_another_object_is_none() {
        let mut bytes = Vec::new();
        put_entry(&mut bytes, ObjectId([9; 32]), &receipt(7, 1).encode());
        assert_eq!(read(&bytes), []);
    }

    proptest! {
        #[test]
        fn receipts_survive(raw in proptest::collection::vec((any::<u8>(), any::<u64>()), 0..9)) {
            let all: Vec<_> = raw.into_iter().map(|(object, sequence)| receipt(object, sequence)).collect();
            prop_assert_eq!(read(&ledger(&all)), all);
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_changed_byte_costs_one_receipt_at_most(at in 0usize..1000, value: u8) {
            let all = [receipt(1, 2), receipt(3, 4)];
            let mut bytes = ledger(&all);
            let at = at % bytes.len();
            bytes[at] = value;
            let kept = read(&bytes);
            prop_assert!(kept.contains(&all[0]) || kept.contains(&all[1]));
        }
    }
}
