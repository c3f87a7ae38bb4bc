//! Roots and audit paths over hashes that are at hand: of leaves, or of whole groups of them.
//!
//! A tree over groups of a power of two of leaves (the last may be smaller) has the shape of the tree over the leaves from
//! there up: so a roll of millions of files is kept as one hash in sixteen. It must not know what is below a hash.

use super::{Hash, node_hash, split_of};
use crate::digest::sha256;

/// The root over these hashes; of none, the hash of nothing.
pub fn root_over(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => sha256(&[]),
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(split_of(hashes.len()));
            node_hash(&root_over(left), &root_over(right))
        }
    }
}

/// The audit path of the hash at `place`; `None` when there is none.
pub fn path_over(hashes: &[Hash], mut place: usize) -> Option<Vec<Hash>> {
    if place >= hashes.len() {
        return None;
    }
    let (mut rest, mut out) = (hashes, Vec::new());
    while rest.len() > 1 {
        let (left, right) = rest.split_at(split_of(rest.len()));
        if place < left.len() {
            out.push(root_over(right));
            rest = left;
        } else {
            out.push(root_over(left));
            place -= left.len();
            rest = right;
        }
    }
    out.reverse();
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::{Tree, leaf_hash, verify_inclusion};
    use super::*;

    #[test]
    fn roots_and_paths_are_those_of_the_tree_over_the_leaves_and_over_groups_of_them() {
        for size in [0usize, 1, 2, 15, 16, 17, 31, 32, 33, 100, 257] {
            let mut tree = Tree::default();
            (0..size).for_each(|i| tree.push(i.to_le_bytes()));
            let hashes: Vec<Hash> = (0..size).map(|i| leaf_hash(&i.to_le_bytes())).collect();
            let groups: Vec<Hash> = hashes.chunks(16).map(root_over).collect();
            assert_eq!((root_over(&hashes), root_over(&groups)), (tree.root(), tree.root()), "{size}");
            for place in 0..size {
                let path = path_over(&hashes, place).unwrap();
                assert_eq!(Some(&path), tree.inclusion(place as u64).as_ref());
                let group = place / 16;
                let inside = path_over(&hashes[16 * group..size.min(16 * group + 16)], place % 16).unwrap();
                assert_eq!([inside, path_over(&groups, group).unwrap()].concat(), path);
                assert!(verify_inclusion(&hashes[place], place as u64, size as u64, &path, &tree.root()));
            }
            assert_eq!(path_over(&hashes, size), None);
        }
    }
}
