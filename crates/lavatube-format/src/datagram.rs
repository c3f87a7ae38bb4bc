//! The datagram of the link: whose it is, which one, what it says, and a tag over all of it.
//!
//! `docs/FORMAT.md` section 11. It exists so that a stranger's datagram is told by its first two bytes and its tag before
//! anything is made of it. It must not know keys: `lavatube-link` computes tags. Steps 9 to 11 of the walk.

use lavatube_base::limits::{DATAGRAM_LEN_MAX, DATAGRAM_OWN_LEN};

use crate::Malformed;

/// Bytes of a tag.
pub const TAG_LEN: usize = 16;
/// The highest counter: 48 bits.
pub const COUNTER_MAX: u64 = (1 << 48) - 1;

/// A datagram taken apart; nothing of it is to be believed before the tag was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Which key its tag was made with.
    pub key_id: u16,
    /// Never the same twice under one key.
    pub counter: u64,
    /// The BTPU messages.
    pub messages: &'a [u8],
    /// All that the tag covers.
    pub tagged: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; TAG_LEN],
}

impl<'a> Datagram<'a> {
    /// Takes a datagram apart.
    ///
    /// # Errors
    /// [`Malformed`] when it is shorter than its own fields or longer than the longest one.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fail = |rule| Malformed { what: WHAT, at: bytes.len(), rule };
        //= FORMAT#F18 no longer than a packet of 1500 bytes holds
        if bytes.len() > DATAGRAM_LEN_MAX {
            return Err(fail("longer than a datagram may be"));
        }
        let (tagged, tag) = bytes.split_last_chunk().ok_or_else(|| fail("shorter than its tag"))?;
        let (head, messages) = tagged.split_first_chunk::<HEAD_LEN>().ok_or_else(|| fail("shorter than its head"))?;
        let head = u64::from_be_bytes(*head);
        let key_id = u16::try_from(head >> 48).map_err(|_| fail("key id"))?;
        Ok(Self { key_id, counter: head & COUNTER_MAX, messages, tagged, tag })
    }
}

/// Appends the head of a datagram; messages follow, and then the tag over all from the head on.
pub fn put_head(out: &mut Vec<u8>, key_id: u16, counter: u64) {
    assert!(counter <= COUNTER_MAX, "a counter has 48 bits");
    out.extend_from_slice(&(u64::from(key_id) << 48 | counter).to_be_bytes());
}

const HEAD_LEN: usize = DATAGRAM_OWN_LEN - TAG_LEN;
const WHAT: &str = "datagram";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_of_the_greatest_length_is_read_and_one_byte_more_is_not() {
        assert!(Datagram::decode(&[0; DATAGRAM_LEN_MAX]).is_ok());
        assert!(Datagram::decode(&[0; DATAGRAM_LEN_MAX + 1]).is_err());
        assert!(Datagram::decode(&[0; DATAGRAM_OWN_LEN]).is_ok());
        assert!(Datagram::decode(&[0; DATAGRAM_OWN_LEN - 1]).is_err());
    }

    #[test]
    fn the_golden_datagram_stays_as_it_is() {
        let golden = include_bytes!("../../../vectors/datagram-v1.bin");
        let datagram = Datagram::decode(golden).unwrap();
        assert_eq!((datagram.key_id, datagram.counter), (0x1234, 0x5678_9abc_def0));
        let mut out = Vec::new();
        put_head(&mut out, datagram.key_id, datagram.counter);
        assert_eq!([&out, datagram.messages, datagram.tag].concat(), golden);
    }

    proptest! {
        #[test]
        fn what_is_put_is_what_is_read(key_id: u16, counter in 0..=COUNTER_MAX, messages in proptest::collection::vec(any::<u8>(), 0..100), tag: [u8; TAG_LEN]) {
            let mut out = Vec::new();
            put_head(&mut out, key_id, counter);
            out.extend_from_slice(&messages);
            out.extend_from_slice(&tag);
            let read = Datagram::decode(&out).unwrap();
            prop_assert_eq!((read.key_id, read.counter, read.messages, read.tag), (key_id, counter, &messages[..], &tag));
            prop_assert_eq!(read.tagged, &out[..out.len() - TAG_LEN]);
        }
    }
}
