//! What stays of a pack that a release thinned: whole blocks, and the hashes of BLAKE3's tree that stand for the others.
//!
//! A pack's length is a power of two, and so is a block's: each block is a subtree of BLAKE3's tree. With the hashes of the largest
//! subtrees that went, what stays still hashes to the pack's id. It must not know why blocks went, nor how any of it is stored.
//! Step 18 of the walk.

use std::ops::Range;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::ObjectId;
use crate::limits::{AUDIT_BLOCK_LEN, PACK_LEN_MAX};
use crate::slice::{SLICE_LEN, Slice, slices_of};

/// Bytes of a block: what one tag is of.
const BLOCK: usize = AUDIT_BLOCK_LEN;

/// Which blocks of a pack stay: the first and the last one always do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stays {
    /// Lengths of runs of blocks that stay, go, stay, …, stay. Each has one block at least.
    runs: Vec<u32>,
}

impl Stays {
    /// All of a pack of `len` bytes; `None` where it is none that can be thinned: of a power of two of four blocks at least.
    pub fn all(len: usize) -> Option<Self> {
        let blocks = len / BLOCK;
        let fits = len.is_multiple_of(BLOCK) && blocks.is_power_of_two() && blocks >= 4 && len <= PACK_LEN_MAX;
        fits.then(|| Self { runs: vec![u32::try_from(blocks).expect("blocks of a pack")] })
    }

    /// From runs of blocks that stay, go, stay, …, stay; `None` where these are none of a pack.
    pub fn from_runs(runs: Vec<u32>) -> Option<Self> {
        let blocks = runs.iter().try_fold(0u32, |sum, run| sum.checked_add(*run))?;
        let whole = Self::all(usize::try_from(blocks).ok()?.checked_mul(BLOCK)?);
        let is_good = runs.len() % 2 == 1 && !runs.contains(&0);
        whole.filter(|_| is_good).map(|_| Self { runs })
    }

    /// Of a pack of `len` bytes all blocks that these bytes touch, with the first and the last block.
    pub fn touching(len: usize, bytes: impl IntoIterator<Item = Range<usize>>) -> Option<Self> {
        let blocks = Self::all(len)?.blocks();
        let mut keep = vec![false; blocks];
        (keep[0], keep[blocks - 1]) = (true, true);
        for range in bytes.into_iter().filter(|range| !range.is_empty()) {
            keep[range.start / BLOCK..range.end.div_ceil(BLOCK).min(blocks)].fill(true);
        }
        Some(Self::of(&keep))
    }

    fn of(keep: &[bool]) -> Self {
        let run = |part: &[bool]| u32::try_from(part.len()).expect("blocks of a pack");
        Self { runs: keep.chunk_by(|a, b| a == b).map(run).collect() }
    }

    fn flags(&self) -> Vec<bool> {
        let runs = self.runs.iter().zip([true, false].into_iter().cycle());
        runs.flat_map(|(run, stays)| std::iter::repeat_n(stays, *run as usize)).collect()
    }

    /// Lengths of runs of blocks that stay, go, stay, …, stay.
    pub fn runs(&self) -> &[u32] {
        &self.runs
    }

    /// Blocks of the pack.
    pub fn blocks(&self) -> usize {
        self.runs.iter().map(|run| *run as usize).sum()
    }

    /// Bytes of the pack as it was.
    pub fn len_before(&self) -> usize {
        self.blocks() * BLOCK
    }

    /// Bytes that stay.
    pub fn len(&self) -> usize {
        self.runs.iter().step_by(2).map(|run| *run as usize * BLOCK).sum()
    }

    /// Never: the first block stays.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether nothing went.
    pub fn is_whole(&self) -> bool {
        self.runs.len() == 1
    }

    /// What stays of the pack where both say so; `None` where they are of packs of different lengths.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let both = self.flags().into_iter().zip(other.flags()).map(|(a, b)| a && b);
        (self.blocks() == other.blocks()).then(|| Self::of(&both.collect::<Vec<_>>()))
    }

    /// The bytes of the pack that stay, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.parts().filter(|(_, stays)| *stays).map(|(range, _)| range)
    }

    /// The bytes of the pack that went, ascending.
    pub fn gone(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.parts().filter(|(_, stays)| !*stays).map(|(range, _)| range)
    }

    fn parts(&self) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
        let runs = self.runs.iter().zip([true, false].into_iter().cycle());
        runs.scan(0, |at, (run, stays)| {
            let start = *at;
            *at += *run as usize * BLOCK;
            Some((start..*at, stays))
        })
    }

    /// Whether all of these bytes of the pack stay.
    pub fn has(&self, bytes: &Range<usize>) -> bool {
        bytes.is_empty() || self.ranges().any(|range| range.start <= bytes.start && bytes.end <= range.end)
    }

    /// Where a byte that stays lies when all that stays is laid together.
    pub fn position(&self, byte: usize) -> Option<usize> {
        let mut before = 0;
        for range in self.ranges() {
            if range.contains(&byte) {
                return Some(before + byte - range.start);
            }
            before += range.len();
        }
        None
    }

    /// The largest subtrees of which nothing stays, ascending: how many hashes stand for what went.
    pub fn subtrees_gone(&self) -> Vec<Range<usize>> {
        let mut out = Vec::new();
        self.visit(0..self.len_before(), &mut out);
        out
    }

    fn visit(&self, node: Range<usize>, out: &mut Vec<Range<usize>>) {
        if self.gone().any(|gone| gone.start <= node.start && node.end <= gone.end) {
            out.push(node);
        } else if !self.has(&node) {
            let middle = node.start + node.len() / 2;
            self.visit(node.start..middle, out);
            self.visit(middle..node.end, out);
        }
    }
}

/// A pack of which some blocks went: its bytes with zeros there, and the hashes that stand for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thinned {
    stays: Stays,
    /// As long as the pack was.
    bytes: Vec<u8>,
    /// Of each of [`Stays::subtrees_gone`].
    gone: Vec<(Range<usize>, ChainingValue)>,
}

impl Thinned {
    /// A whole pack; `None` where it is none that can be thinned.
    pub fn whole(bytes: Vec<u8>) -> Option<Self> {
        let stays = Stays::all(bytes.len())?;
        Some(Self { stays, bytes, gone: Vec::new() })
    }

    /// From what stays, laid together, and the hashes that stand for what went; `None` where there are not as many as there must be.
    pub fn from_parts(stays: Stays, hashes: &[ChainingValue], together: &[u8]) -> Option<Self> {
        let subtrees = stays.subtrees_gone();
        if together.len() != stays.len() || hashes.len() != subtrees.len() {
            return None;
        }
        let mut bytes = vec![0; stays.len_before()];
        let mut rest = together;
        for range in stays.ranges() {
            let (part, after) = rest.split_at(range.len());
            bytes[range].copy_from_slice(part);
            rest = after;
        }
        Some(Self { stays, bytes, gone: subtrees.into_iter().zip(hashes.iter().copied()).collect() })
    }

    /// Which blocks stay.
    pub fn stays(&self) -> &Stays {
        &self.stays
    }

    /// Its bytes, as long as the pack was: zeros where they went.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hashes that stand for what went.
    pub fn hashes(&self) -> impl Iterator<Item = &ChainingValue> {
        self.gone.iter().map(|(_, hash)| hash)
    }

    /// Lets all go but what `stays`, too; `None` where that is of a pack of another length.
    pub fn thin(&self, stays: &Stays) -> Option<Self> {
        let stays = self.stays.and(stays)?;
        let gone = stays.subtrees_gone().into_iter().map(|node| (node.clone(), self.value(node))).collect();
        let mut bytes = self.bytes.clone();
        stays.gone().for_each(|range| bytes[range].fill(0));
        Some(Self { stays, bytes, gone })
    }

    /// Whether what stays, with the hashes of what went, hashes to this id.
    #[must_use]
    pub fn is_of(&self, id: ObjectId) -> bool {
        let middle = self.bytes.len() / 2;
        let [left, right] = [0..middle, middle..self.bytes.len()].map(|node| self.value(node));
        *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes() == id.0
    }

    /// A slice, where it stays.
    pub fn slice(&self, number: u64) -> Option<Slice> {
        let at = usize::try_from(number).ok().filter(|_| number < slices_of(self.bytes.len() as u64))? * SLICE_LEN;
        if !self.stays.has(&(at..at + SLICE_LEN)) {
            return None;
        }
        let (mut node, mut beside) = (0..self.bytes.len(), Vec::new());
        while node.len() > SLICE_LEN {
            let middle = node.start + node.len() / 2;
            let (left, right) = (node.start..middle, middle..node.end);
            let (way, other) = if left.contains(&at) { (left, right) } else { (right, left) };
            beside.push(self.value(other));
            node = way;
        }
        beside.reverse();
        Some(Slice { bytes: self.bytes[node].to_vec(), beside })
    }

    /// The hash of a subtree.
    fn value(&self, node: Range<usize>) -> ChainingValue {
        if let Ok(at) = self.gone.binary_search_by_key(&(node.start, node.end), |(gone, _)| (gone.start, gone.end)) {
            return self.gone[at].1;
        }
        if node.len() <= BLOCK || self.stays.has(&node) {
            let mut hasher = blake3::Hasher::new();
            return hasher.set_input_offset(node.start as u64).update(&self.bytes[node]).finalize_non_root();
        }
        let middle = node.start + node.len() / 2;
        let [left, right] = [node.start..middle, middle..node.end].map(|node| self.value(node));
        merge_subtrees_non_root(&left, &right, Mode::Hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::verify_slice;
    use crate::{Chance, Verified};

    fn pack(blocks: usize) -> Vec<u8> {
        let mut out = vec![0; blocks * BLOCK];
        blake3::Hasher::new().update(&blocks.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    fn some(blocks: usize, chance: &mut Chance) -> Stays {
        let kept = (0..blocks).filter(|_| chance.below(3) > 0).map(|block| block * BLOCK + 5..block * BLOCK + 6);
        Stays::touching(blocks * BLOCK, kept.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn what_stays_of_what_stays_hashes_to_the_packs_id() {
        let mut chance = Chance::new(7, 1);
        for blocks in [4, 8, 64] {
            for _ in 0..20 {
                let bytes = pack(blocks);
                let id = Verified::hash(&bytes).id();
                let whole = Thinned::whole(bytes.clone()).unwrap();
                assert!(whole.is_of(id));
                let (first, second) = (some(blocks, &mut chance), some(blocks, &mut chance));
                let thinned = whole.thin(&first).unwrap().thin(&second).unwrap();
                assert_eq!(thinned, whole.thin(&first.and(&second).unwrap()).unwrap(), "in one step or in two");
                assert!(thinned.is_of(id) && !thinned.is_of(ObjectId([1; 32])));
                let stays = thinned.stays().clone();
                let together: Vec<u8> = stays.ranges().flat_map(|range| bytes[range].to_vec()).collect();
                let hashes: Vec<_> = thinned.hashes().copied().collect();
                let again = Thinned::from_parts(stays.clone(), &hashes, &together).unwrap();
                assert_eq!(again, thinned);
                for number in 0..slices_of(bytes.len() as u64) {
                    let at = usize::try_from(number).unwrap() * SLICE_LEN;
                    match thinned.slice(number) {
                        Some(slice) => assert!(verify_slice(id, bytes.len() as u64, number, &slice)),
                        None => assert!(stays.gone().any(|gone| gone.contains(&at))),
                    }
                    let laid = stays.position(at).map(|position| together[position]);
                    assert_eq!(laid, stays.has(&(at..at + 1)).then(|| bytes[at]));
                }
                let mut bad = together.clone();
                bad[0] ^= 1;
                assert!(!Thinned::from_parts(stays.clone(), &hashes, &bad).unwrap().is_of(id));
                assert!(Thinned::from_parts(stays, &hashes, &together[1..]).is_none());
            }
        }
    }

    #[test]
    fn runs_are_those_of_a_pack_and_first_and_last_block_stay() {
        let touched = std::iter::once(2 * BLOCK..3 * BLOCK + 1);
        assert_eq!(Stays::touching(8 * BLOCK, touched).unwrap().runs(), [1, 1, 2, 3, 1]);
        assert!(Stays::all(4 * BLOCK).unwrap().is_whole());
        for len in [0, 4096, BLOCK, 2 * BLOCK, 3 * BLOCK, 5 * BLOCK, 2 * PACK_LEN_MAX] {
            assert_eq!(Stays::all(len), None, "{len}");
        }
        for runs in [vec![], vec![1, 3], vec![1, 0, 3], vec![0, 3, 1], vec![1, 1, 1], vec![u32::MAX, 1, u32::MAX]] {
            assert_eq!(Stays::from_runs(runs.clone()), None, "{runs:?}");
        }
        assert_eq!(Stays::from_runs(vec![1, 2, 1]).unwrap().len(), 2 * BLOCK);
    }
}
