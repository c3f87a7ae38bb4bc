//! Rolls: which files a session read, so that evidence of each can be made one day (FORMAT section 19).
//!
//! A manifest commits to a tree over the files' lengths and digests, each under a salt of its own, so that whoever sees one
//! leaf learns nothing of the others. The roll, sealed in the session's packs, says which files of the snapshot these are
//! and has one hash for sixteen of them. It must not know keys, nor where salts come from. Step 6 of the walk.

use lavatube_base::digest::{Digests, sha256};
use lavatube_base::limits::ROLL_GROUP;
use lavatube_base::merkle::{Hash, leaf_hash};

use crate::tree::{Extent, put_extents};
use crate::wire::{Malformed, Reader, put_len, put_varint};

/// Hides what a digest is of.
pub type Salt = [u8; 32];

/// What is said of one file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its length, holes included.
    pub len: u64,
    /// Both digests of its content stream: of all of its bytes, or where there are holes, of its data extents.
    pub digests: Digests,
    /// Data extents, of a file with holes.
    pub extents: Option<Vec<Extent>>,
}

impl FileFacts {
    /// The hash of its leaf.
    pub fn leaf(&self, salt: &Salt) -> Hash {
        let mut out = Vec::with_capacity(104);
        out.extend_from_slice(salt);
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.digests.blake3);
        out.extend_from_slice(&self.digests.sha256);
        if let Some(extents) = &self.extents {
            put_extents(&mut out, extents);
        }
        leaf_hash(&out)
    }
}

/// What a manifest commits to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// When the session's snapshot began, in seconds since 1970 by the depositor's clock; 0 without one.
    pub time_s: i64,
    /// How many files it read.
    pub count: u64,
    /// The root over their leaves.
    pub root: Hash,
}

impl Committed {
    /// What a session without a snapshot commits to.
    pub fn nothing() -> Self {
        Self { time_s: 0, count: 0, root: sha256(&[]) }
    }

    /// The commitment, which tells nothing without `blind`.
    pub fn sealed(&self, blind: &Salt) -> [u8; 32] {
        let (time, count) = (self.time_s.to_le_bytes(), self.count.to_le_bytes());
        sha256(&[b"lavatube/1 files\0", &blind[..], &time, &count, &self.root].concat())
    }
}

/// Which files of a snapshot were read in its session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roll {
    /// In the order of the tree, regular files alone: so many that were not read, then so many that were.
    pub runs: Vec<(u64, u64)>,
    /// The root over each [`ROLL_GROUP`] of the leaves, the last over what is left.
    pub groups: Vec<Hash>,
}

impl Roll {
    /// How many files were read.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(_, take)| take).sum()
    }

    /// Notes that the file of this number in the tree was read, after all those before it.
    pub fn take(&mut self, ordinal: u64) {
        let end: u64 = self.runs.iter().map(|(skip, take)| skip + take).sum();
        self.take_after(ordinal, end);
    }

    /// The same, when the number after the last file that was read is known.
    pub fn take_after(&mut self, ordinal: u64, end: u64) {
        match self.runs.last_mut() {
            Some((_, take)) if ordinal == end => *take += 1,
            _ => self.runs.push((ordinal.saturating_sub(end), 1)),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        put_len(&mut out, self.runs.len());
        for (skip, take) in &self.runs {
            put_varint(&mut out, *skip);
            put_varint(&mut out, *take);
        }
        self.groups.iter().for_each(|hash| out.extend_from_slice(hash));
        out
    }

    /// Reads exactly a roll.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks a rule of the layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("roll", bytes);
        let version = r.u8()?;
        r.ensure(version == 1, "unknown version")?;
        let n = r.varint_max(r.left() / 2, "more runs than bytes")?;
        let (mut runs, mut end, mut count) = (Vec::with_capacity(n), 0u64, 0u64);
        for i in 0..n {
            let (skip, take) = (r.varint()?, r.varint()?);
            r.ensure(take > 0 && (skip > 0 || i == 0), "two runs that are one")?;
            let after = end.checked_add(skip).and_then(|end| end.checked_add(take));
            end = after.ok_or_else(|| r.fail("more files than 64 bits count"))?;
            count += take;
            runs.push((skip, take));
        }
        let groups = count.div_ceil(ROLL_GROUP as u64);
        r.ensure((r.left() / 32) as u64 == groups, "hashes that are not those of its groups")?;
        let groups = (0..groups).map(|_| r.array()).collect::<Result<_, _>>()?;
        r.finish()?;
        Ok(Self { runs, groups })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_that_were_read_become_runs() {
        let mut roll = Roll::default();
        [0, 1, 5, 6, 7, 100].into_iter().for_each(|ordinal| roll.take(ordinal));
        assert_eq!(roll.runs, [(0, 2), (3, 3), (92, 1)]);
        roll.groups = vec![[9; 32]];
        assert_eq!((roll.count(), Roll::decode(&roll.encode())), (6, Ok(roll.clone())));
        roll.groups.push([8; 32]);
        assert!(Roll::decode(&roll.encode()).is_err(), "a hash too many");
        let split = Roll { runs: vec![(0, 2), (0, 3)], groups: vec![[9; 32]] };
        assert_eq!(Roll::decode(&split.encode()).unwrap_err().rule, "two runs that are one");
    }

    #[test]
    fn each_fact_and_the_salt_count() {
        let facts = FileFacts { len: 5, digests: Digests::of(b"hello"), extents: None };
        let leaf = facts.leaf(&[1; 32]);
        let mut others = vec![facts.leaf(&[2; 32]), FileFacts { len: 6, ..facts.clone() }.leaf(&[1; 32])];
        others.push(FileFacts { extents: Some(vec![Extent { at: 0, len: 5 }]), ..facts.clone() }.leaf(&[1; 32]));
        for at in [0, 31] {
            let (mut blake3, mut sha256) = (facts.clone(), facts.clone());
            blake3.digests.blake3[at] ^= 1;
            sha256.digests.sha256[at] ^= 1;
            others.extend([blake3.leaf(&[1; 32]), sha256.leaf(&[1; 32])]);
        }
        assert!(others.iter().all(|other| *other != leaf));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(roll) = Roll::decode(&bytes) {
                prop_assert_eq!(roll.encode(), bytes);
            }
        }
    }
}
