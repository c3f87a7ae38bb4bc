//! Several bundles in one block: ION aggregates them, one after the other, with nothing between.
//!
//! A bundle of version 7 is one CBOR item, so where it ends is known without knowing what is in it. This file knows the
//! structure of CBOR (RFC 8949) and no more: whether an item is a bundle is for whoever reads it.

use lavatube_base::limits::LTP_BUNDLE_DEPTH_MAX;

use crate::Malformed;
use crate::wire::Reader;

/// The bundles of a block of client service 1, in order; ends after the first that is malformed.
pub fn bundles(block: &[u8]) -> Bundles<'_> {
    Bundles(block)
}

/// See [`bundles`].
#[derive(Debug, Clone)]
pub struct Bundles<'a>(&'a [u8]);

impl<'a> Iterator for Bundles<'a> {
    type Item = Result<&'a [u8], Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        match item_len(self.0) {
            Ok(len) => {
                let (bundle, rest) = self.0.split_at(len);
                self.0 = rest;
                Some(Ok(bundle))
            }
            Err(e) => {
                self.0 = &[];
                Some(Err(e))
            }
        }
    }
}

/// Length of the CBOR item at the start of `bytes`.
fn item_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut r = Reader::new("block of bundles", bytes);
    // For each item that is open, how many more items it has; none for one that a break ends.
    let mut open: Vec<Option<u64>> = Vec::with_capacity(LTP_BUNDLE_DEPTH_MAX);
    loop {
        let before = r.position();
        let inside = read_head(&mut r, open.last().copied())?;
        match inside {
            Head::Whole => {}
            Head::Open(n) => {
                r.ensure(open.len() < LTP_BUNDLE_DEPTH_MAX, "nested too deeply")?;
                open.push(n);
            }
            Head::Break => {
                open.pop();
            }
        }
        debug_assert!(r.position() > before, "every turn takes a byte");
        // An item ended: those that it was the last of end with it.
        if !matches!(inside, Head::Open(Some(1..) | None)) {
            if matches!(inside, Head::Open(_)) {
                open.pop();
            }
            while let Some(Some(left)) = open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                open.pop();
            }
            if open.is_empty() {
                return Ok(r.position());
            }
        }
    }
}

enum Head {
    /// An item without items in it.
    Whole,
    /// An item with so many in it, or with a break at its end.
    Open(Option<u64>),
    /// The break.
    Break,
}

fn read_head(r: &mut Reader<'_>, inside: Option<Option<u64>>) -> Result<Head, Malformed> {
    let first = r.u8()?;
    let (major, info) = (first >> 5, first & 0x1f);
    let value = match info {
        0..=23 => Some(u64::from(info)),
        24 => Some(u64::from(r.u8()?)),
        25 => Some(u64::from(u16::from_be_bytes(r.array()?))),
        26 => Some(u64::from(u32::from_be_bytes(r.array()?))),
        27 => Some(u64::from_be_bytes(r.array()?)),
        31 => None,
        _ => return Err(r.fail("a head that CBOR does not have")),
    };
    match (major, value) {
        (0 | 1 | 7, Some(_)) => Ok(Head::Whole),
        (2 | 3, Some(len)) => {
            r.take(usize::try_from(len).map_err(|_| r.fail("the length of a string"))?)?;
            Ok(Head::Whole)
        }
        // Pieces of a string up to a break are items like others here.
        (2..=5, None) => Ok(Head::Open(None)),
        (4, Some(n)) => Ok(Head::Open(Some(n))),
        (5, Some(n)) => Ok(Head::Open(Some(n.checked_mul(2).ok_or_else(|| r.fail("the length of a map"))?))),
        (6, Some(_)) => Ok(Head::Open(Some(1))),
        (7, None) if inside == Some(None) => Ok(Head::Break),
        _ => Err(r.fail("a head that CBOR does not have here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(block: &[u8]) -> Vec<&[u8]> {
        bundles(block).map(Result::unwrap).collect()
    }

    #[test]
    fn aggregated_bundles_are_told_apart() {
        // Indefinite arrays as bundles are, with an array, a byte string, a map, a tag and a nested indefinite array inside.
        let one: &[u8] = &[0x9f, 0x82, 0x01, 0x43, 1, 2, 3, 0xa1, 0x01, 0x9f, 0xff, 0xc1, 0x1a, 0, 0, 0, 1, 0xff];
        let two: &[u8] = &[0x9f, 0x80, 0xa0, 0x40, 0x5f, 0x41, 9, 0xff, 0xf6, 0xff];
        let plain: &[u8] = &[0x83, 1, 2, 0x81, 3];
        assert_eq!(split(&[one, two, plain, one].concat()), [one, two, plain, one]);
        assert_eq!(split(&[]), [[0u8; 0]; 0]);
    }

    #[test]
    fn what_is_cut_or_no_cbor_is_refused_once() {
        for bad in [
            &[0x9f, 0x01][..],
            &[0xff],
            &[0x82, 0x01],
            &[0x82, 0xff],
            &[0x1c],
            &[0x5b, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            let read: Vec<_> = bundles(bad).collect();
            assert!(matches!(read[..], [Err(_)]), "{bad:x?}");
        }
    }

    #[test]
    fn nesting_is_followed_to_its_limit_and_no_further() {
        let nested = |n| [vec![0x81; n], vec![0x01]].concat();
        assert_eq!(split(&nested(LTP_BUNDLE_DEPTH_MAX)).len(), 1);
        assert!(bundles(&nested(LTP_BUNDLE_DEPTH_MAX + 1)).next().unwrap().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_loss_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut len = 0;
            for bundle in bundles(&bytes) {
                match bundle {
                    Ok(bundle) => len += bundle.len(),
                    Err(_) => return Ok(()),
                }
            }
            prop_assert_eq!(len, bytes.len());
        }

        #[test]
        fn what_another_decoder_skips_ends_where_we_say(bytes in proptest::collection::vec(any::<u8>(), 1..60)) {
            let mut other = minicbor::Decoder::new(&bytes);
            if let (Ok(()), Some(Ok(ours))) = (other.skip(), bundles(&bytes).next()) {
                prop_assert_eq!(ours.len(), other.position());
            }
        }
    }
}
