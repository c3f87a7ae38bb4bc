//! A code of `k` data and `m` parity shards: making parity, and making what is lost.
//!
//! Why: steps 14 and 18 to 20 of the walk. What it must not know: why a shard is missing, or
//! whether the bytes it is given are right. It computes from them; the caller checks hashes before
//! and after.

use std::fmt;

use crate::{kernel, matrix};

/// A systematic erasure code: `k` data shards, then `m` parity shards, any `k` of which suffice.
/// The crate's documentation defines every coefficient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    k: usize,
    m: usize,
    /// `m` rows of `k` coefficients, row after row.
    parity_rows: Vec<u8>,
}

/// What was wrong with what [`Code`] was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodeError {
    /// No code has this shape: `k >= 1` and `k + m <= 255` are needed.
    Shape {
        /// Data shards asked for.
        k: usize,
        /// Parity shards asked for.
        m: usize,
    },
    /// Fewer shards than the data needs: nothing can be computed, more shards must be found.
    Shortfall {
        /// Shards needed: `k`.
        need: usize,
        /// Shards given.
        have: usize,
    },
    /// A shard number is not below `k + m`.
    NoSuchShard {
        /// The number.
        shard: usize,
    },
    /// A shard was given twice, which could hide that there are too few.
    Repeated {
        /// Its number.
        shard: usize,
    },
    /// A slice is not as long as the others.
    Length {
        /// The shard it belongs to.
        shard: usize,
        /// Its bytes.
        bytes: usize,
        /// The bytes of the first slice given.
        expected: usize,
    },
    /// [`Code::mend`] was not given exactly `k + m` blocks.
    BlockCount {
        /// Blocks needed: `k + m`.
        need: usize,
        /// Blocks given.
        have: usize,
    },
}

impl Code {
    /// A code of `k >= 1` data and `m >= 0` parity shards, `k + m <= 255`; else
    /// [`CodeError::Shape`]. Costs `k * m` multiplications.
    pub fn new(k: usize, m: usize) -> Result<Self, CodeError> {
        if k == 0 || k > SHARDS_MAX || m > SHARDS_MAX - k {
            return Err(CodeError::Shape { k, m });
        }
        let parity_rows = (0..m).flat_map(|i| (0..k).map(move |j| matrix::coefficient(k, i, j))).collect();
        Ok(Code { k, m, parity_rows })
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Parity shards.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Data and parity shards together.
    pub fn shards(&self) -> usize {
        self.k + self.m
    }

    /// Computes all `m` parity shards from all `k` data shards, overwriting `parity`.
    ///
    /// Panics unless there are `k` and `m` slices, all of one length (0 is a length).
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        assert_eq!(data.len(), self.k, "data shards");
        assert_eq!(parity.len(), self.m, "parity shards");
        kernel::combine(&self.parity_rows, data, parity);
    }

    /// Computes the shards `want` (data or parity, each with a buffer that is overwritten) from
    /// the shards `have`, which must be right: at least `k` different ones, in any order. Of more,
    /// `k` are used, data first, then parity from row 0 on; the others are not looked at, so to
    /// search for right shards among doubtful ones, pass `k` at a time.
    ///
    /// All slices are of one length. The matrix is solved anew for each call (`e^3 + e * e * k`
    /// multiplications for `e` missing data shards), so pass long slices.
    ///
    /// Errors: [`CodeError::NoSuchShard`], [`CodeError::Repeated`] (in `have`; in `want` it is
    /// only a waste), [`CodeError::Length`], [`CodeError::Shortfall`]; then nothing was written.
    pub fn rebuild(&self, have: &[(usize, &[u8])], want: &mut [(usize, &mut [u8])]) -> Result<(), CodeError> {
        let lengths = have.iter().map(|(shard, bytes)| (*shard, bytes.len()));
        self.check_lengths(lengths.chain(want.iter().map(|(shard, out)| (*shard, out.len()))))?;

        let mut sorted: Vec<(usize, &[u8])> = have.to_vec();
        sorted.sort_unstable_by_key(|(shard, _)| *shard);
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(CodeError::Repeated { shard: pair[0].0 });
        }
        if sorted.len() < self.k {
            return Err(CodeError::Shortfall { need: self.k, have: sorted.len() });
        }
        let (from, inputs): (Vec<usize>, Vec<&[u8]>) = sorted.into_iter().take(self.k).unzip();
        let wanted: Vec<usize> = want.iter().map(|(shard, _)| *shard).collect();
        let rows = matrix::express(self.k, &from, &wanted);
        let mut outputs: Vec<&mut [u8]> = want.iter_mut().map(|(_, out)| &mut **out).collect();
        kernel::combine(&rows, &inputs, &mut outputs);
        Ok(())
    }

    /// Every shard number is one of ours and every length is that of the first.
    pub(crate) fn check_lengths(&self, mut shards: impl Iterator<Item = (usize, usize)>) -> Result<(), CodeError> {
        let mut first = None;
        shards.try_for_each(|(shard, bytes)| {
            let expected = *first.get_or_insert(bytes);
            if shard >= self.shards() {
                Err(CodeError::NoSuchShard { shard })
            } else if bytes != expected {
                Err(CodeError::Length { shard, bytes, expected })
            } else {
                Ok(())
            }
        })
    }
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeError::Shape { k, m } => {
                write!(f, "no code has {k} data and {m} parity shards (1 to 255 together)")
            }
            CodeError::Shortfall { need, have } => {
                write!(f, "{need} shards are needed and {have} are there")
            }
            CodeError::NoSuchShard { shard } => write!(f, "there is no shard {shard}"),
            CodeError::Repeated { shard } => write!(f, "shard {shard} was given twice"),
            CodeError::Length { shard, bytes, expected } => {
                write!(f, "shard {shard} has {bytes} bytes where the others have {expected}")
            }
            CodeError::BlockCount { need, have } => {
                write!(f, "a row has {need} blocks and {have} were given")
            }
        }
    }
}

impl std::error::Error for CodeError {}

/// The points of the Cauchy matrix are the numbers `0..k + m`, and 255 of them is our limit.
const SHARDS_MAX: usize = 255;

#[cfg(test)]
pub(crate) mod tests;
