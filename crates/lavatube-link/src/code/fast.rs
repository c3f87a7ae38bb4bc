//! The packet code column by column, on machines that have [`Lanes`]: the same bytes as the crate's, several times as fast.
//!
//! Why: the crate transforms whole symbols, 12 MB for 8 MiB, and finds them in memory at each layer. Here 64 bytes of every symbol
//! go through all layers in the first and second-level caches. Field, basis and skews are the crate's tables; the crate is the
//! oracle of the tests, and what other machines use. Transforms are as long as repair symbols are many, not as the block ([`Repairs`],
//! [`solve`]). It must not know datagrams. Steps 9 and 12 of the walk.

use std::sync::OnceLock;

use lavatube_codes::lanes::{Factor, Lane, Lanes, add};
use reed_solomon_simd::engine::tables::{get_exp_log, get_skew, mul};
use reed_solomon_simd::engine::{GF_BITS, GF_MODULUS, GF_ORDER};

use super::{Rebuild, Shape};

mod solve;

pub use solve::decode;

/// The first `count` repair symbols.
pub fn repair(lanes: Lanes, shape: &Shape, block: &[u8], count: usize) -> Vec<u8> {
    let len = shape.symbol_len;
    let mut out = vec![0; count * len];
    let mut repairs = Repairs::new(lanes, shape, count);
    for (at, width) in repairs.pieces() {
        repairs.make(|number| shape.source(block, number), (at, width));
        for (row, symbol) in out.chunks_exact_mut(len).enumerate() {
            repairs.values.get(row, &mut symbol[at..at + width]);
        }
    }
    out
}

/// The first repair symbols, made column by column of the sources there are.
///
/// The sources are R by R the values of a polynomial each, and a repair symbol is a value of their sum. The first `rows` values
/// hang on the first `rows` coefficients alone, so that of a polynomial no more than these are made: of each `rows` sources, and
/// then joined pair by pair. What is worked on is so little that it stays in the caches.
struct Repairs<'a> {
    lanes: Lanes,
    shape: &'a Shape,
    skews: &'static [Factor],
    rows: usize,
    columns: usize,
    /// The first `rows` repair symbols.
    values: Columns,
    /// The coefficients of `rows << level` sources, by level; at the last one those of R.
    levels: Vec<Columns>,
}

impl<'a> Repairs<'a> {
    fn new(lanes: Lanes, shape: &'a Shape, count: usize) -> Self {
        let rows = count.next_power_of_two().max(ROWS_MIN).min(shape.r);
        let columns = (COLUMNS_LEN / LANE_LEN / rows).clamp(COLUMNS_MIN, shape.symbol_len.div_ceil(LANE_LEN));
        let levels = (shape.r / rows).trailing_zeros() + 1;
        Self {
            lanes,
            shape,
            skews: skews(shape.k.next_multiple_of(shape.r) + shape.r),
            rows,
            columns,
            values: Columns::new(rows, columns),
            levels: (0..levels).map(|_| Columns::new(rows, columns)).collect(),
        }
    }

    /// The bytes of a symbol as they are worked on at a time: where, and how many.
    fn pieces(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (len, width) = (self.shape.symbol_len, self.columns * LANE_LEN);
        (0..len).step_by(width).map(move |at| (at, width.min(len - at)))
    }

    /// Makes `values` of bytes `at..at + width` of the sources; one that has none is zeros.
    fn make<'b>(&mut self, source: impl Fn(usize) -> &'b [u8], (at, width): (usize, usize)) {
        let top = self.levels.len() - 1;
        for first in (0..self.shape.k).step_by(self.shape.r) {
            self.coefficients(top, first, &source, (at, width));
            if first == 0 {
                std::mem::swap(&mut self.values, &mut self.levels[top]);
            } else {
                self.values.add_all(&self.levels[top]);
            }
        }
        for column in self.values.used(width) {
            self.lanes.fft(column, &self.skews[..self.rows - 1]);
        }
    }

    /// Makes a level of the sources from `first` on.
    fn coefficients<'b>(
        &mut self,
        level: usize,
        first: usize,
        source: &impl Fn(usize) -> &'b [u8],
        (at, width): (usize, usize),
    ) {
        let (rows, point) = (self.rows, self.shape.r + first);
        if first >= self.shape.k {
            return self.levels[level].clear();
        }
        if level == 0 {
            for row in 0..rows {
                self.levels[0].put(row, source(first + row), at, width);
            }
            for column in self.levels[0].used(width) {
                self.lanes.inverse(column, &self.skews[point..point + rows - 1]);
            }
            return;
        }
        let half = rows << (level - 1);
        self.coefficients(level - 1, first, source, (at, width));
        self.levels.swap(level - 1, level);
        self.coefficients(level - 1, first + half, source, (at, width));
        let (below, here) = self.levels.split_at_mut(level);
        for (low, high) in here[0].used(width).zip(below[level - 1].used(width)) {
            self.lanes.join(low, high, &self.skews[point + half - 1]);
        }
    }
}

/// Some columns of lanes, so that a symbol's bytes are fetched many cache lines at once.
struct Columns {
    rows: usize,
    lanes: Vec<Lane>,
}

impl Columns {
    fn new(rows: usize, columns: usize) -> Self {
        Self { rows, lanes: vec![[0; LANE_LEN]; rows * columns] }
    }

    fn clear(&mut self) {
        self.lanes.fill([0; LANE_LEN]);
    }

    /// The columns that `width` bytes take.
    fn used(&mut self, width: usize) -> impl Iterator<Item = &mut [Lane]> {
        self.lanes.chunks_exact_mut(self.rows).take(width.div_ceil(LANE_LEN))
    }

    /// Puts bytes `at..at + width` of a symbol into a row; what it does not have is zeros.
    fn put(&mut self, row: usize, symbol: &[u8], at: usize, width: usize) {
        let symbol = symbol.get(at..).unwrap_or_default();
        for (i, start) in (0..width).step_by(LANE_LEN).enumerate() {
            let lane = &mut self.lanes[i * self.rows + row];
            let part = symbol.get(start..).unwrap_or_default();
            match part.first_chunk() {
                Some(whole) if width - start >= LANE_LEN => *lane = *whole,
                _ => *lane = spread(part, LANE_LEN.min(width - start)),
            }
        }
    }

    /// Adds bytes `at..at + width` of a symbol to a row.
    fn add(&mut self, row: usize, symbol: &[u8], at: usize, width: usize) {
        let symbol = symbol.get(at..at + width).unwrap_or_default();
        for (i, part) in symbol.chunks(LANE_LEN).enumerate() {
            let whole = part.first_chunk().copied();
            add(&mut self.lanes[i * self.rows + row], &whole.unwrap_or_else(|| spread(part, part.len())));
        }
    }

    /// Adds others, lane by lane.
    fn add_all(&mut self, others: &Self) {
        self.lanes.iter_mut().zip(&others.lanes).for_each(|(lane, other)| add(lane, other));
    }

    /// Gets bytes of a row back.
    fn get(&self, row: usize, symbol: &mut [u8]) {
        for (i, part) in symbol.chunks_mut(LANE_LEN).enumerate() {
            let lane = &self.lanes[i * self.rows + row];
            let (low, high) = part.split_at_mut(part.len() / 2);
            low.copy_from_slice(&lane[..low.len()]);
            high.copy_from_slice(&lane[HALF..HALF + high.len()]);
        }
    }
}

/// The last bytes of a symbol as a lane: of `len` bytes, the first half is low bytes, the second high ones.
fn spread(bytes: &[u8], len: usize) -> Lane {
    let (mut lane, half) = ([0; LANE_LEN], len / 2);
    let (low, high) = bytes.split_at(bytes.len().min(half));
    lane[..low.len()].copy_from_slice(low);
    let high = &high[..high.len().min(len - half)];
    lane[HALF..HALF + high.len()].copy_from_slice(high);
    lane
}

/// The factors by which elements are multiplied, by logarithm; the logarithm of one is 0 and [`GF_MODULUS`].
fn by_log() -> &'static [Factor] {
    static FACTORS: OnceLock<Vec<Factor>> = OnceLock::new();
    FACTORS.get_or_init(|| {
        let tables = get_exp_log();
        let product = |log| move |bit: usize| mul(1 << bit, log, &tables.exp, &tables.log);
        (0..=GF_MODULUS).map(|log| Factor::new(std::array::from_fn(product(log)))).collect()
    })
}

/// The factors of the butterflies of a transform of `n` rows.
fn skews(n: usize) -> &'static [Factor] {
    static FEW: OnceLock<Vec<Factor>> = OnceLock::new();
    static ALL: OnceLock<Vec<Factor>> = OnceLock::new();
    let make = |n: usize| {
        let factor = |log: &u16| if *log == GF_MODULUS { Factor::ZERO } else { by_log()[usize::from(*log)] };
        get_skew().iter().take(n).map(factor).collect()
    };
    // Most blocks have 8 MiB; the longest need four times the memory.
    if n <= FEW_ROWS { FEW.get_or_init(|| make(FEW_ROWS)) } else { ALL.get_or_init(|| make(GF_ORDER)) }
}

/// For each of `n` points the logarithm of the product of its distances to some, itself left out, each to the power of its weight
/// (-1 divides): a convolution.
fn distances(mut weights: Vec<i64>) -> Vec<i64> {
    let n = weights.len();
    let log = &get_exp_log().log;
    let mut distances: Vec<i64> = (0..n).map(|i| if i == 0 { 0 } else { i64::from(log[i]) }).collect();
    walsh(&mut distances);
    walsh(&mut weights);
    let modulus = i64::from(GF_MODULUS);
    weights.iter_mut().zip(&distances).for_each(|(sum, distance)| *sum = *sum * (distance % modulus) % modulus);
    walsh(&mut weights);
    // The transform there and back multiplies by n; and 2^16 is 1 here.
    let undo = 1 << (GF_BITS as u32 - n.trailing_zeros());
    weights.iter_mut().for_each(|sum| *sum = sum.rem_euclid(modulus) * undo % modulus);
    weights
}

/// The logarithm of the product of the distances of `point` to some points, itself left out.
fn product(point: usize, of: impl IntoIterator<Item = usize>) -> i64 {
    let log = &get_exp_log().log;
    of.into_iter().filter(|other| *other != point).map(|other| i64::from(log[other ^ point])).sum()
}

/// What multiplies by the element of this logarithm.
fn factor(log: i64) -> Factor {
    by_log()[usize::try_from(log.rem_euclid(i64::from(GF_MODULUS))).unwrap_or(0)]
}

/// By R sources: the polynomial that is zero at the first R points, at the first of theirs, over its slope: it is the same at all of
/// them, and at the first R points.
fn constants(shape: &Shape) -> Vec<i64> {
    let r = shape.r;
    (0..shape.k).step_by(r).map(|first| product(r + first, 0..r) - product(0, 0..r)).collect()
}

/// The Walsh-Hadamard transform.
fn walsh(values: &mut [i64]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            low.iter_mut().zip(high).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
        }
        half *= 2;
    }
}

const LANE_LEN: usize = 64;
const HALF: usize = LANE_LEN / 2;
/// Columns worked on at a time: what they take, so that few of them stay in the second-level cache, and how many at least, because
/// each look at all symbols costs as many misses as there are pages.
const COLUMNS_LEN: usize = 2 << 20;
const COLUMNS_MIN: usize = 4;
/// Fewest rows that are worth a transform of their own.
const ROWS_MIN: usize = 32;
/// Rows of blocks of 8 MiB.
const FEW_ROWS: usize = 1 << 13;
