//! Remnants: what stays of a pack that a release thinned (FORMAT section 18).
//!
//! A remnant says whose it is and which blocks stay, and has the hashes with which these still hash to the pack's id, so that a vault
//! that is found by its shards alone has all that is to be known. It must not know why blocks went.

use std::ops::Range;

use lavatube_base::limits::AUDIT_BLOCK_LEN;
use lavatube_base::{ObjectId, Stays, Thinned};

use crate::wire::{Malformed, Reader};

/// The first bytes of a remnant: the magic and version 1.
pub const MAGIC: &[u8; 8] = b"LVTREMN\x01";

const WHAT: &str = "remnant";
const HASH: usize = 32;
const FIXED: usize = 8 + 32 + 4;
/// Longest head: each second block of the longest pack went.
pub const HEAD_LEN_MAX: usize = FIXED + (4 + HASH) * (lavatube_base::limits::PACK_LEN_MAX / AUDIT_BLOCK_LEN + 1);

/// What a remnant says before the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The pack.
    pub pack: ObjectId,
    /// What stays of it.
    pub stays: Stays,
}

impl Head {
    /// Its bytes, with those of the hashes.
    pub fn len(stays: &Stays) -> usize {
        FIXED + 4 * stays.runs().len() + HASH * stays.subtrees_gone().len()
    }

    /// Where bytes of the pack lie in the remnant; `None` where some of them went.
    pub fn place(&self, bytes: &Range<usize>) -> Option<Range<usize>> {
        if !self.stays.has(bytes) {
            return None;
        }
        let start = Self::len(&self.stays) + self.stays.position(bytes.start)?;
        Some(start..start + bytes.len())
    }

    /// Reads what stands before the hashes, of the first bytes of a remnant: all of its head at least, or [`HEAD_LEN_MAX`].
    ///
    /// # Errors
    /// [`Malformed`] when it breaks the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(&mut Reader::new(WHAT, bytes))
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let magic = r.take(MAGIC.len())?;
        r.ensure(magic == MAGIC, "not a remnant of version 1")?;
        let pack = ObjectId(r.array()?);
        let runs = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
        r.ensure(runs <= r.left() / 4, "more runs than there are bytes")?;
        let runs = (0..runs).map(|_| r.u32()).collect::<Result<Vec<u32>, _>>()?;
        let stays = Stays::from_runs(runs).ok_or_else(|| r.fail("these are no runs of a pack"))?;
        r.ensure(!stays.is_whole(), "nothing went of it")?;
        Ok(Self { pack, stays })
    }
}

/// Length of the remnant of which this stays.
pub fn len_of(stays: &Stays) -> u64 {
    (Head::len(stays) + stays.len()) as u64
}

/// The remnant of a pack.
pub fn encode(pack: ObjectId, thinned: &Thinned) -> Vec<u8> {
    let stays = thinned.stays();
    let mut out = Vec::with_capacity(Head::len(stays) + stays.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&pack.0);
    let runs = u32::try_from(stays.runs().len()).expect("fewer runs than blocks");
    out.extend_from_slice(&runs.to_le_bytes());
    stays.runs().iter().for_each(|run| out.extend_from_slice(&run.to_le_bytes()));
    thinned.hashes().for_each(|hash| out.extend_from_slice(hash));
    stays.ranges().for_each(|range| out.extend_from_slice(&thinned.bytes()[range]));
    out
}

/// Reads a remnant. Only one that hashes to the id of its pack is one.
///
/// # Errors
/// [`Malformed`] when it breaks the layout.
pub fn decode(bytes: &[u8]) -> Result<(ObjectId, Thinned), Malformed> {
    let mut r = Reader::new(WHAT, bytes);
    let Head { pack, stays } = Head::read(&mut r)?;
    let n = stays.subtrees_gone().len();
    let hashes = (0..n).map(|_| r.array::<HASH>()).collect::<Result<Vec<_>, _>>()?;
    let together = r.take(r.left())?;
    let fail = r.fail("not as long as what stays");
    let thinned = Thinned::from_parts(stays, &hashes, together).ok_or(fail)?;
    //= FORMAT#F50 what stays proves itself with the pack's own id
    r.ensure(thinned.is_of(pack), "what stays does not hash to the pack's id")?;
    Ok((pack, thinned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::Verified;
    use proptest::prelude::*;

    fn thinned() -> (ObjectId, Thinned, Vec<u8>) {
        let pack: Vec<u8> = (0..8 * AUDIT_BLOCK_LEN).map(|i| (i * i % 251) as u8).collect();
        let stays = Stays::from_runs(vec![1, 1, 2, 3, 1]).unwrap();
        (Verified::hash(&pack).id(), Thinned::whole(pack.clone()).unwrap().thin(&stays).unwrap(), pack)
    }

    #[test]
    fn a_remnant_has_what_stays_where_its_head_says_and_proves_it() {
        let (id, thinned, pack) = thinned();
        let bytes = encode(id, &thinned);
        assert_eq!(bytes.len() as u64, len_of(thinned.stays()));
        assert_eq!(decode(&bytes), Ok((id, thinned.clone())));
        let head = Head::decode(&bytes).unwrap();
        let block = AUDIT_BLOCK_LEN;
        for range in [0..9, block - 1..block, 2 * block..4 * block, 7 * block + 5..8 * block] {
            assert_eq!(&bytes[head.place(&range).unwrap()], &pack[range]);
        }
        for range in [0..block + 1, block..block + 1, 2 * block - 1..2 * block + 1, 4 * block..5 * block] {
            assert_eq!(head.place(&range), None);
        }
        for at in (0..bytes.len()).step_by(97).chain(0..300) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
        assert!((0..bytes.len()).step_by(89).all(|n| decode(&bytes[..n]).is_err()));
    }

    #[test]
    fn the_golden_remnant_stays_as_it_is() {
        let (id, thinned, _) = thinned();
        assert!(encode(id, &thinned) == include_bytes!("../../../vectors/remnant-v1.bin"));
    }

    proptest! {
        #[test]
        fn no_input_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = Head::decode(&[MAGIC.as_slice(), &bytes].concat());
            let _ = decode(&[MAGIC.as_slice(), &bytes].concat());
        }
    }
}
