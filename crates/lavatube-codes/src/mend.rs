//! Mending a row of blocks in which too many are wrong, but each only in a few bytes.
//!
//! Why: when more than `m` blocks of a row fail their hash, no `k` good ones are left to rebuild
//! from, yet nearly all of their bytes are right. Parity works byte column by byte column, and in
//! a column where few bytes are wrong the code finds and corrects them without being told where.
//! What it must not know: hashes. It proposes; the caller checks the blocks' hashes and throws away
//! what does not match, so a wrong proposal is harmless. Step 20 of the walk.

use crate::code::{Code, CodeError};
use crate::{gf, kernel, matrix};

/// What the caller knows of one block of a row.
#[derive(Debug)]
pub enum Block<'a> {
    /// Not there: an erasure. It is not filled in; [`Code::rebuild`] does that afterwards.
    Absent,
    /// Its hash is right: it is read and never changed.
    Sound(&'a [u8]),
    /// There, but some of its bytes are wrong: it may be changed.
    Suspect(&'a mut [u8]),
}

/// What [`Code::mend`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// The bytes that were changed as (shard, column), in the order of the columns.
    pub changed: Vec<(usize, usize)>,
    /// Columns that still break the parity equations, because more bytes are wrong in them than
    /// can be found. They were left as they were.
    pub unsolved: usize,
}

impl Mended {
    /// Whether every column now satisfies every parity equation. With all `m` blocks to spare
    /// absent there is no equation left, and this says nothing.
    pub fn is_consistent(&self) -> bool {
        self.unsolved == 0
    }
}

impl Code {
    /// Corrects what it can in one row: `blocks` are those of shards `0..k + m` in order, all that
    /// are there of one length.
    ///
    /// With `a` absent blocks, `r = m - a` parity equations are left for every column (the bytes at
    /// one offset of all blocks). A column that satisfies them is left alone. For one that does
    /// not, the smallest set of suspect bytes is sought whose change satisfies them, of at most
    /// `min(r / 2, 2)` bytes; up to `r / 2` that set is unique, so if no more bytes than that are
    /// wrong in the column it is the right one, and if more are wrong it may be a wrong one. So
    /// 4+2 corrects one wrong byte in every column, 4+2 with a block absent none, 20+8 two, even
    /// with 4 absent.
    ///
    /// Consistent columns cost what encoding costs. A column mended at one byte costs well under a
    /// microsecond; one in which two are sought in vain about 30 microseconds at 20+8 and 300 at
    /// 64+16 with every block a suspect. `changed` grows with the wrong columns too, so call a block
    /// that is known to be rubbish `Absent`, and blocks whose hash is right `Sound`.
    ///
    /// Errors: [`CodeError::BlockCount`], [`CodeError::Length`], [`CodeError::Shortfall`] if fewer
    /// than `k` blocks are there; then nothing was changed.
    pub fn mend(&self, blocks: &mut [Block<'_>]) -> Result<Mended, CodeError> {
        let (k, shards) = (self.k(), self.shards());
        if blocks.len() != shards {
            return Err(CodeError::BlockCount { need: shards, have: blocks.len() });
        }
        let there: Vec<(usize, usize)> =
            (0..shards).filter_map(|shard| Some((shard, blocks[shard].bytes()?.len()))).collect();
        self.check_lengths(there.iter().copied())?;
        if there.len() < k {
            return Err(CodeError::Shortfall { need: k, have: there.len() });
        }
        let len = there[0].1;
        let row = Row::new(k, there.into_iter().map(|(shard, _)| shard).collect(), blocks);

        let mut mended = Mended::default();
        let mut expected = vec![0; row.checks.len() * TILE_BYTES.min(len)];
        for start in (0..len).step_by(TILE_BYTES) {
            row.mend_tile(blocks, start..len.min(start + TILE_BYTES), &mut expected, &mut mended);
        }
        Ok(mended)
    }
}

impl Block<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Block::Absent => None,
            Block::Sound(bytes) => Some(bytes),
            Block::Suspect(bytes) => Some(bytes),
        }
    }
}

/// The parity equations of the blocks that are there: `basis` determines each of `checks`.
struct Row {
    /// The first `k` shards that are there.
    basis: Vec<usize>,
    /// The others.
    checks: Vec<usize>,
    /// `checks.len()` rows of `k`: the checks expressed by the basis.
    rows: Vec<u8>,
    /// The shards that may be changed, each with how much a wrong bit 0 in it upsets each equation.
    suspects: Vec<(usize, Vec<u8>)>,
}

impl Row {
    fn new(k: usize, mut there: Vec<usize>, blocks: &[Block<'_>]) -> Self {
        let checks = there.split_off(k);
        let basis = there;
        let rows = matrix::express(k, &basis, &checks);
        let influence = |shard: usize| match basis.iter().position(|&b| b == shard) {
            Some(at) => rows.chunks(k).map(|row| row[at]).collect(),
            None => checks.iter().map(|&check| u8::from(check == shard)).collect(),
        };
        let suspects = (0..blocks.len())
            .filter(|&shard| matches!(blocks[shard], Block::Suspect(_)))
            .map(|shard| (shard, influence(shard)))
            .collect();
        Row { basis, checks, rows, suspects }
    }

    /// Mends the columns of one range. `expected` is scratch for the checks of a tile.
    fn mend_tile(
        &self,
        blocks: &mut [Block<'_>],
        range: std::ops::Range<usize>,
        expected: &mut [u8],
        mended: &mut Mended,
    ) {
        if self.checks.is_empty() {
            return;
        }
        let part = |shard: usize| &blocks[shard].bytes().expect("it is there")[range.clone()];
        let inputs: Vec<&[u8]> = self.basis.iter().map(|&shard| part(shard)).collect();
        let mut outputs: Vec<&mut [u8]> = expected.chunks_mut(range.len()).collect();
        outputs.truncate(self.checks.len());
        kernel::combine(&self.rows, &inputs, &mut outputs);

        // The difference between what the checks are and what they should be: the syndrome.
        let mut clean = true;
        for (output, &shard) in outputs.iter_mut().zip(&self.checks) {
            clean &= **output == *part(shard);
            output.iter_mut().zip(part(shard)).for_each(|(out, is)| *out ^= is);
        }
        if clean {
            return;
        }
        let unknowns = (self.checks.len() / 2).min(UNKNOWNS_MAX);
        for column in 0..range.len() {
            let syndrome: Vec<u8> = outputs.iter().map(|output| output[column]).collect();
            if syndrome.iter().all(|&s| s == 0) {
                continue;
            }
            let Some(errors) = (1..=unknowns).find_map(|t| explain(&syndrome, &self.suspects, t)) else {
                mended.unsolved += 1;
                continue;
            };
            for (shard, error) in errors {
                if let Block::Suspect(bytes) = &mut blocks[shard] {
                    bytes[range.start + column] ^= error;
                    mended.changed.push((shard, range.start + column));
                }
            }
        }
    }
}

/// Finds `count >= 1` of the suspects, in order, and an error for each, that together make up the
/// syndrome; `None` if there are none. It tries every suspect: one equation gives the error there,
/// the others are rewritten without it, and the suspects after it must explain what remains.
fn explain(syndrome: &[u8], suspects: &[(usize, Vec<u8>)], count: usize) -> Option<Vec<(usize, u8)>> {
    for (at, (shard, influence)) in suspects.iter().enumerate() {
        // None only if the suspects before it use up all equations this one appears in.
        let Some(pivot) = influence.iter().position(|&h| h != 0) else {
            continue;
        };
        let scale = gf::inverse(influence[pivot]);
        if count == 1 {
            let error = gf::mul(syndrome[pivot], scale);
            if influence.iter().zip(syndrome).all(|(&h, &s)| gf::mul(error, h) == s) {
                return Some(vec![(*shard, error)]);
            }
            continue;
        }
        let without = |column: &[u8]| -> Vec<u8> {
            let factor = gf::mul(column[pivot], scale);
            column.iter().zip(influence).map(|(&x, &h)| x ^ gf::mul(factor, h)).collect()
        };
        let later = &suspects[at + 1..];
        let rest: Vec<_> = later.iter().map(|(shard, column)| (*shard, without(column))).collect();
        if let Some(mut errors) = explain(&without(syndrome), &rest, count - 1) {
            // Back to the equation given up: what the later errors do not account for in it.
            let mut own = syndrome[pivot];
            for (shard, column) in later {
                for (_, error) in errors.iter().filter(|(found, _)| found == shard) {
                    own ^= gf::mul(*error, column[pivot]);
                }
            }
            errors.insert(0, (*shard, gf::mul(own, scale)));
            return Some(errors);
        }
    }
    None
}

/// Wrong bytes sought in one column: three would cost minutes for a wide row of rubbish, and random
/// flips rarely meet in threes.
const UNKNOWNS_MAX: usize = 2;

/// Bytes of each block looked at together, so that a wide row's checks stay in cache.
const TILE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests;
