//! One row of a stripe: the blocks at the same place of all its shards, and how wrong ones are made good.
//!
//! Hashes, not luck, say which blocks are right: any `k` right ones give the rest. With fewer, the code proposes which
//! bytes are wrong and the hashes decide; what the code cannot tell apart (two wrong bytes in one column) is found by
//! trying the values of the few columns that break parity. It must not know drives or where the row lies. Steps 18 and 20.

use lavatube_base::digest::h16;
use lavatube_codes::{Block, Code};

/// What is known of one block of a row.
#[derive(Clone, Default)]
pub(crate) struct RowBlock {
    /// Its bytes as read, or `None` when there are none.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Its hash, when a header that says it is left.
    pub(crate) hash: Option<[u8; 16]>,
    /// Whether `bytes` are known to be right.
    pub(crate) good: bool,
}

impl RowBlock {
    /// A block as read: right when its hash is.
    pub(crate) fn read(bytes: Option<Vec<u8>>, hash: Option<[u8; 16]>) -> Self {
        let good = matches!((&bytes, hash), (Some(b), Some(h)) if h16(&[b]) == h);
        Self { bytes, hash, good }
    }

    fn is_suspect(&self) -> bool {
        !self.good && self.bytes.is_some() && self.hash.is_some()
    }

    /// Takes `bytes` as its own when they are right.
    fn offer(&mut self, bytes: &[u8]) -> bool {
        let right = self.hash == Some(h16(&[bytes]));
        if right {
            self.bytes = Some(bytes.to_vec());
            self.good = true;
        }
        right
    }
}

/// Number of blocks known to be right.
pub(crate) fn good(row: &[RowBlock]) -> usize {
    row.iter().filter(|b| b.good).count()
}

/// Makes every block of the row right if that is possible; `len` is the length of its blocks. Returns whether it was; if
/// not, blocks that could be mended alone are good. `allowance` is how many bytes may still be hashed in vain, so that
/// an object beyond help does not take for ever.
pub(crate) fn settle(code: &Code, row: &mut [RowBlock], len: usize, allowance: &mut u64) -> bool {
    loop {
        if good(row) >= code.k() {
            return rebuild(code, row, len);
        }
        if !mend_by_code(code, row) && !mend_by_hash(code, row, len, allowance) {
            return false;
        }
    }
}

/// Computes all blocks that are not good from `k` that are. `false`, and nothing changed, if one then contradicts its hash.
fn rebuild(code: &Code, row: &mut [RowBlock], len: usize) -> bool {
    let have: Vec<(usize, &[u8])> = good_blocks(row).collect();
    let mut made: Vec<(usize, Vec<u8>)> = (0..row.len()).filter(|&i| !row[i].good).map(|i| (i, vec![0; len])).collect();
    let mut want: Vec<(usize, &mut [u8])> = made.iter_mut().map(|(i, bytes)| (*i, &mut bytes[..])).collect();
    if code.rebuild(&have, &mut want).is_err() {
        return false;
    }
    if made.iter().any(|(i, bytes)| row[*i].hash.is_some_and(|h| h != h16(&[bytes]))) {
        return false;
    }
    for (i, bytes) in made {
        row[i].bytes = Some(bytes);
        row[i].good = true;
    }
    true
}

fn good_blocks(row: &[RowBlock]) -> impl Iterator<Item = (usize, &[u8])> {
    row.iter().enumerate().filter(|(_, b)| b.good).filter_map(|(i, b)| Some((i, b.bytes.as_deref()?)))
}

/// Lets the code correct a few bytes per column; keeps the blocks whose hash is right afterwards. Whether any is.
fn mend_by_code(code: &Code, row: &mut [RowBlock]) -> bool {
    let mut trial = row.to_vec();
    let mut blocks: Vec<Block<'_>> = trial
        .iter_mut()
        .map(|b| match (b.good, b.is_suspect(), &mut b.bytes) {
            (true, _, Some(bytes)) => Block::Sound(bytes),
            (_, true, Some(bytes)) => Block::Suspect(bytes),
            _ => Block::Absent,
        })
        .collect();
    if !code.mend(&mut blocks).is_ok_and(|mended| !mended.changed.is_empty()) {
        return false;
    }
    let mut any = false;
    for (block, tried) in row.iter_mut().zip(&trial).filter(|(block, _)| block.is_suspect()) {
        any |= tried.bytes.as_ref().is_some_and(|bytes| block.offer(bytes));
    }
    any
}

/// Tries, in each suspect block, other values of one byte in the columns that break parity; where none does (wrong bytes
/// may cancel out, or no parity is left), in all columns. Whether a block became good.
fn mend_by_hash(code: &Code, row: &mut [RowBlock], len: usize, allowance: &mut u64) -> bool {
    let suspects = row.iter().filter(|b| b.is_suspect()).count();
    if good(row) + suspects < code.k() {
        return false;
    }
    let mut columns = broken_columns(code, row, len);
    if columns.len() > COLUMNS_TRIED_MAX {
        return false;
    }
    if columns.is_empty() {
        columns.extend(0..len);
    }
    let all_values = columns.len() * 255 * len <= BYTES_HASHED_MAX;
    let errors = (1..=255u8).filter(|error| all_values || error.is_power_of_two());
    let cost = (columns.len() * errors.clone().count() * len) as u64;
    let mut any = false;
    for block in row.iter_mut().filter(|b| b.is_suspect()) {
        let Some(mut trial) = block.bytes.clone().filter(|_| *allowance >= cost) else { continue };
        let found = columns.iter().any(|&at| {
            let kept = trial[at];
            let found = errors.clone().any(|error| {
                trial[at] = kept ^ error;
                block.offer(&trial)
            });
            trial[at] = kept;
            found
        });
        any |= found;
        *allowance -= if found { 0 } else { cost };
    }
    any
}

/// The columns of a row in which the blocks that are there contradict each other: any `k` of them predict the others.
fn broken_columns(code: &Code, row: &[RowBlock], len: usize) -> Vec<usize> {
    let there = |b: &RowBlock| b.good || b.is_suspect();
    let present: Vec<(usize, &[u8])> =
        row.iter().enumerate().filter(|(_, b)| there(b)).filter_map(|(i, b)| Some((i, b.bytes.as_deref()?))).collect();
    if present.len() <= code.k() {
        return Vec::new();
    }
    let (basis, checks) = present.split_at(code.k());
    let mut predicted: Vec<(usize, Vec<u8>)> = checks.iter().map(|(i, _)| (*i, vec![0; len])).collect();
    let mut want: Vec<(usize, &mut [u8])> = predicted.iter_mut().map(|(i, bytes)| (*i, &mut bytes[..])).collect();
    if code.rebuild(basis, &mut want).is_err() {
        return Vec::new();
    }
    let breaks = |at: &usize| predicted.iter().zip(checks).any(|((_, p), (_, is))| p[*at] != is[*at]);
    (0..len).filter(breaks).take(COLUMNS_TRIED_MAX + 1).collect()
}

/// Beyond this the damage is not a few flipped bytes: 64 columns of 6 blocks are 100,000 hashes of 16 KiB, under a second.
const COLUMNS_TRIED_MAX: usize = 64;
/// Bytes hashed in vain for one object: about two seconds.
pub(crate) const ALLOWANCE: u64 = 8 << 30;
/// Bytes hashed in search of one wrong byte, per block: about 0.1 s. Where it is not enough, wrong bits are sought.
const BYTES_HASHED_MAX: usize = 1 << 29;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row_of(k: usize, m: usize, len: usize, seed: u8) -> (Code, Vec<RowBlock>) {
        let code = Code::new(k, m).unwrap();
        let byte =
            |j: usize, b: usize| (j * 31 + b * 7 + usize::from(seed)).to_le_bytes()[0] ^ (b >> 3).to_le_bytes()[0];
        let data: Vec<Vec<u8>> = (0..k).map(|j| (0..len).map(|b| byte(j, b)).collect()).collect();
        let mut parity = vec![vec![0; len]; m];
        let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|p| &mut p[..]).collect();
        code.encode(&data.iter().map(|d| &d[..]).collect::<Vec<_>>(), &mut out);
        let blocks = data.into_iter().chain(parity);
        (code, blocks.map(|b| RowBlock { hash: Some(h16(&[&b])), bytes: Some(b), good: true }).collect())
    }

    fn reread(row: &[RowBlock]) -> Vec<RowBlock> {
        row.iter().map(|b| RowBlock::read(b.bytes.clone(), b.hash)).collect()
    }

    fn bytes(row: &[RowBlock]) -> Vec<&Option<Vec<u8>>> {
        row.iter().map(|b| &b.bytes).collect()
    }

    #[test]
    fn a_byte_wrong_in_the_same_column_of_every_block_is_mended() {
        for (k, m) in [(1, 0), (1, 1), (2, 1), (4, 2), (10, 4)] {
            let (code, whole) = row_of(k, m, 448, 5);
            let mut bad = whole.clone();
            bad.iter_mut().enumerate().for_each(|(i, b)| b.bytes.as_mut().unwrap()[17] ^= (i * i + 3) as u8);
            let mut bad = reread(&bad);
            assert_eq!(good(&bad), 0);
            assert!(settle(&code, &mut bad, 448, &mut ALLOWANCE.clone()), "{k}+{m}");
            assert_eq!(bytes(&bad), bytes(&whole));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn one_wrong_byte_in_every_block_is_mended(seed: u8, at in proptest::collection::vec((0usize..1024, 1u8..), 14)) {
            for (k, m) in [(1, 1), (2, 1), (4, 2), (10, 4)] {
                let (code, whole) = row_of(k, m, 1024, seed);
                let mut bad = whole.clone();
                bad.iter_mut().zip(&at).for_each(|(b, (at, error))| b.bytes.as_mut().unwrap()[*at] ^= error);
                let mut bad = reread(&bad);
                prop_assert!(settle(&code, &mut bad, 1024, &mut ALLOWANCE.clone()));
                prop_assert_eq!(bytes(&bad), bytes(&whole));
            }
        }

        #[test]
        fn too_much_damage_is_never_passed_off_as_good(seed: u8, lost in proptest::collection::vec(any::<bool>(), 6)) {
            let (code, whole) = row_of(4, 2, 300, seed);
            let mut bad = whole.clone();
            for (b, _) in bad.iter_mut().zip(&lost).filter(|(_, lost)| **lost) {
                b.bytes.as_mut().unwrap().iter_mut().for_each(|x| *x = x.wrapping_mul(91) ^ 0x35);
            }
            let mut bad = reread(&bad);
            prop_assert_eq!(settle(&code, &mut bad, 300, &mut ALLOWANCE.clone()), lost.iter().filter(|l| **l).count() <= 2);
            for (b, w) in bad.iter().zip(&whole).filter(|(b, _)| b.good) {
                prop_assert_eq!(&b.bytes, &w.bytes);
            }
        }
    }
}
