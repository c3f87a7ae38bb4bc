//! A Merkle tree that grows at its end (RFC 6962 section 2.1): its root, proofs of it, and how they are verified.
//!
//! The vault's log is one. A tree keeps its leaves and the hashes of whole tiles of 256 of them, so that a root or a proof
//! costs some hundred hashes whatever its size, and a million leaves cost 0.1 MB beside themselves.
//! [`merkle_root`](crate::digest::merkle_root) is the readable twin. It must not know what leaves stand for. Step 17 of
//! the walk.

use crate::digest::sha256;
use crate::limits::LOG_PROOF_MAX;

mod hashed;

pub use hashed::{path_over, root_over};

/// A hash of the tree: SHA-256.
pub type Hash = [u8; 32];

/// A tree over leaves that are byte strings.
#[derive(Debug, Clone)]
pub struct Tree<L> {
    leaves: Vec<L>,
    /// `tiles[j][i]`: hash over leaves i · 2^(8 + j) … (i + 1) · 2^(8 + j), for all of these that are whole.
    tiles: Vec<Vec<Hash>>,
}

impl<L> Default for Tree<L> {
    fn default() -> Self {
        Self { leaves: Vec::new(), tiles: Vec::new() }
    }
}

impl<L: AsRef<[u8]>> Tree<L> {
    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The leaves, in order.
    pub fn leaves(&self) -> &[L] {
        &self.leaves
    }

    /// Puts a leaf behind all others.
    pub fn push(&mut self, leaf: L) {
        self.leaves.push(leaf);
        let size = self.leaves.len();
        if !size.is_multiple_of(TILE) {
            return;
        }
        let mut hash = self.split(size - TILE, size);
        for level in 0.. {
            if level == self.tiles.len() {
                self.tiles.push(Vec::new());
            }
            let tiles = &mut self.tiles[level];
            tiles.push(hash);
            match tiles[..] {
                [.., left, right] if tiles.len().is_multiple_of(2) => hash = node_hash(&left, &right),
                _ => return,
            }
        }
    }

    /// The root over all leaves; of none, the hash of nothing.
    pub fn root(&self) -> Hash {
        if self.leaves.is_empty() { sha256(&[]) } else { self.hash(0, self.leaves.len()) }
    }

    /// The root over the first `size` leaves, `None` when there are fewer.
    pub fn root_of(&self, size: u64) -> Option<Hash> {
        match self.within(size)? {
            0 => Some(sha256(&[])),
            size => Some(self.hash(0, size)),
        }
    }

    /// The proof that the tree over the first `size` leaves is the beginning of this one; `None` when there are fewer.
    pub fn consistency(&self, size: u64) -> Option<Vec<Hash>> {
        let (size, mut out) = (self.within(size)?, Vec::new());
        if size > 0 {
            self.prove_beginning(size, 0, self.leaves.len(), true, &mut out);
        }
        Some(out)
    }

    /// The proof that leaf `place`, from 0, is in the tree: its audit path; `None` when there is no such leaf.
    pub fn inclusion(&self, place: u64) -> Option<Vec<Hash>> {
        let place = usize::try_from(place).ok().filter(|place| *place < self.leaves.len())?;
        let (mut lo, mut hi, mut out) = (0, self.leaves.len(), Vec::new());
        while hi - lo > 1 {
            let middle = lo + split_of(hi - lo);
            if place < middle {
                out.push(self.hash(middle, hi));
                hi = middle;
            } else {
                out.push(self.hash(lo, middle));
                lo = middle;
            }
        }
        out.reverse();
        Some(out)
    }

    fn within(&self, size: u64) -> Option<usize> {
        usize::try_from(size).ok().filter(|size| *size <= self.leaves.len())
    }

    /// SUBPROOF of RFC 6962 section 2.1.2 over leaves `lo..hi`, of which the first `size` are known.
    fn prove_beginning(&self, size: usize, lo: usize, hi: usize, whole: bool, out: &mut Vec<Hash>) {
        if size == hi - lo {
            if !whole {
                out.push(self.hash(lo, hi));
            }
            return;
        }
        let left = split_of(hi - lo);
        if size <= left {
            self.prove_beginning(size, lo, lo + left, whole, out);
            out.push(self.hash(lo + left, hi));
        } else {
            self.prove_beginning(size - left, lo + left, hi, false, out);
            out.push(self.hash(lo, lo + left));
        }
    }

    /// The hash over leaves `lo..hi`, at least one, which are a subtree of some tree over the first leaves.
    fn hash(&self, lo: usize, hi: usize) -> Hash {
        let len = hi - lo;
        if len.is_power_of_two() && len >= TILE {
            let level = (len / TILE).trailing_zeros() as usize;
            if let Some(hash) = self.tiles.get(level).and_then(|tiles| tiles.get(lo / len)) {
                return *hash;
            }
        }
        self.split(lo, hi)
    }

    fn split(&self, lo: usize, hi: usize) -> Hash {
        if hi - lo == 1 {
            return leaf_hash(self.leaves[lo].as_ref());
        }
        let middle = lo + split_of(hi - lo);
        node_hash(&self.hash(lo, middle), &self.hash(middle, hi))
    }
}

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    sha256(&[&[0u8], leaf].concat())
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1u8][..], left, right].concat())
}

/// Leaves of the left subtree of `len`, at least 2: the largest power of two below it.
fn split_of(len: usize) -> usize {
    len.next_power_of_two() / 2
}

/// Whether a tree of `size` leaves with this root has the leaf of this hash at `place` (RFC 9162 section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: &Hash, place: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    root_by(leaf, place, size, path).is_some_and(|found| found == *root)
}

/// The root of a tree of `size` leaves to which a leaf's hash and its audit path come; `None` when no path is like that.
#[must_use]
pub fn root_by(leaf: &Hash, place: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if place >= size || path.len() > LOG_PROOF_MAX {
        return None;
    }
    let mut walk = Walk { at: place, last: size - 1 };
    let mut hash = *leaf;
    for beside in path {
        hash = if walk.step()? { node_hash(beside, &hash) } else { node_hash(&hash, beside) };
    }
    (walk.last == 0).then_some(hash)
}

/// Whether a tree of `first` leaves with root `first_root` is the beginning of one of `second` leaves with root
/// `second_root` (RFC 9162 section 2.1.4.2). A tree without leaves is the beginning of any.
#[must_use]
pub fn verify_consistency(first: u64, first_root: &Hash, second: u64, second_root: &Hash, path: &[Hash]) -> bool {
    if first > second || path.len() > LOG_PROOF_MAX {
        return false;
    }
    if first == second || first == 0 {
        let root = if first == 0 { sha256(&[]) } else { *second_root };
        return path.is_empty() && *first_root == root;
    }
    // A first tree that is a whole subtree of the second is not told again.
    let told = path.split_first();
    let (seed, path) = if first.is_power_of_two() {
        (*first_root, path)
    } else if let Some((seed, rest)) = told {
        (*seed, rest)
    } else {
        return false;
    };
    let mut walk = Walk { at: first - 1, last: second - 1 };
    walk.rise();
    let (mut before, mut after) = (seed, seed);
    for beside in path {
        match walk.step() {
            Some(true) => (before, after) = (node_hash(beside, &before), node_hash(beside, &after)),
            Some(false) => after = node_hash(&after, beside),
            None => return false,
        }
    }
    walk.last == 0 && before == *first_root && after == *second_root
}

/// Where a verifier stands: a node of a level, and the last node of that level.
struct Walk {
    at: u64,
    last: u64,
}

impl Walk {
    /// Goes up while the node is a right one.
    fn rise(&mut self) {
        while self.at & 1 == 1 {
            (self.at, self.last) = (self.at >> 1, self.last >> 1);
        }
    }

    /// Goes up by one hash of a path: whether that stands to the left; `None` at the root, where nothing stands beside.
    fn step(&mut self) -> Option<bool> {
        if self.last == 0 {
            return None;
        }
        let is_left = self.at & 1 == 1 || self.at == self.last;
        if is_left {
            while self.at & 1 == 0 && self.at != 0 {
                (self.at, self.last) = (self.at >> 1, self.last >> 1);
            }
        }
        (self.at, self.last) = (self.at >> 1, self.last >> 1);
        Some(is_left)
    }
}

/// Leaves of a tile.
const TILE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::merkle_root;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<[u8; 4]> {
        (0..count).map(|n| u32::try_from(n).unwrap().to_be_bytes()).collect()
    }

    fn tree(count: usize) -> Tree<[u8; 4]> {
        let mut tree = Tree::default();
        leaves(count).into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }

    /// The tests of the first certificate logs: <https://github.com/google/certificate-transparency>, eight leaves.
    #[test]
    fn the_roots_are_those_that_other_logs_compute() {
        let leaves: [&[u8]; 8] = [
            &[],
            &[0x00],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
        ];
        let mut tree = Tree::default();
        let hex = |hash: Hash| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(tree.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        let root = |size| hex(tree.root_of(size).unwrap());
        assert_eq!(root(1), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert_eq!(root(2), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
        assert_eq!(root(3), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
        assert_eq!(root(8), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }

    #[test]
    fn a_tree_of_any_size_is_what_its_twin_says() {
        let (all, mut tree) = (leaves(1100), Tree::default());
        for (size, leaf) in all.iter().enumerate() {
            if size < 40 || size % 97 == 0 || size % TILE < 2 {
                assert_eq!(tree.root(), merkle_root(&all[..size]), "{size}");
            }
            tree.push(*leaf);
        }
        for size in [0, 1, 255, 256, 257, 512, 768, 1023, 1024] {
            assert_eq!(tree.root_of(size as u64), Some(merkle_root(&all[..size])), "{size}");
        }
        assert_eq!((tree.root_of(1101), tree.consistency(1101), tree.inclusion(1100)), (None, None, None));
    }

    #[test]
    fn every_beginning_of_a_small_tree_is_proved_and_no_other_is() {
        for second in 0..=33u64 {
            let tree = tree(usize::try_from(second).unwrap());
            for first in 0..=second {
                let (path, root) = (tree.consistency(first).unwrap(), tree.root_of(first).unwrap());
                assert!(verify_consistency(first, &root, second, &tree.root(), &path), "{first} of {second}");
                assert!(!verify_consistency(first, &[7; 32], second, &tree.root(), &path), "{first} of {second}");
                if first > 0 {
                    assert!(!verify_consistency(first, &root, second, &[7; 32], &path), "{first} of {second}");
                }
                assert!(!verify_consistency(first, &root, second, &tree.root(), &[&path[..], &[[0; 32]]].concat()));
                for lost in 0..path.len() {
                    let mut path = path.clone();
                    path.remove(lost);
                    assert!(!verify_consistency(first, &root, second, &tree.root(), &path), "{first} of {second}");
                }
            }
            assert!(!verify_consistency(second + 1, &tree.root(), second, &tree.root(), &[]));
        }
    }

    #[test]
    fn every_leaf_of_a_small_tree_is_proved_in_its_place_and_no_other() {
        for size in 1..=33u64 {
            let tree = tree(usize::try_from(size).unwrap());
            for place in 0..size {
                let (path, leaf) =
                    (tree.inclusion(place).unwrap(), leaf_hash(&tree.leaves()[usize::try_from(place).unwrap()]));
                for claimed in 0..=size {
                    let good = verify_inclusion(&leaf, claimed, size, &path, &tree.root());
                    assert_eq!(good, claimed == place, "{claimed} for {place} of {size}");
                }
                assert!(!verify_inclusion(&[7; 32], place, size, &path, &tree.root()));
                assert!(!verify_inclusion(&leaf, place, size, &[&path[..], &[[0; 32]]].concat(), &tree.root()));
                assert!(path.is_empty() || !verify_inclusion(&leaf, place, size, &path[1..], &tree.root()));
            }
        }
    }

    proptest! {
        #[test]
        fn proofs_of_larger_trees_hold_and_a_changed_one_does_not(
            size in 1usize..3000, first in 0usize..3000, place in 0usize..3000, at: usize, bit in 0u8..8,
        ) {
            let tree = tree(size);
            let (first, place, all) = ((first % (size + 1)) as u64, (place % size) as u64, size as u64);
            let mut path = tree.consistency(first).unwrap();
            let root = tree.root_of(first).unwrap();
            prop_assert!(verify_consistency(first, &root, all, &tree.root(), &path));
            if !path.is_empty() {
                let at = at % (32 * path.len());
                path[at / 32][at % 32] ^= 1 << bit;
                prop_assert!(!verify_consistency(first, &root, all, &tree.root(), &path));
            }
            let leaf = leaf_hash(&tree.leaves()[usize::try_from(place).unwrap()]);
            let mut path = tree.inclusion(place).unwrap();
            prop_assert!(verify_inclusion(&leaf, place, all, &path, &tree.root()));
            if !path.is_empty() {
                let at = at % (32 * path.len());
                path[at / 32][at % 32] ^= 1 << bit;
                prop_assert!(!verify_inclusion(&leaf, place, all, &path, &tree.root()));
            }
        }

        #[test]
        fn no_numbers_make_a_verifier_panic(a: u64, b: u64, path in proptest::collection::vec(any::<Hash>(), 0..80)) {
            let _ = verify_inclusion(&[1; 32], a, b, &path, &[2; 32]);
            let _ = verify_consistency(a, &[1; 32], b, &[2; 32], &path);
        }
    }
}
