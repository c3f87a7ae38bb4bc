//! The packet code column by column, on machines that have [`Lanes`]: the same bytes as the crate's, several times as fast.
//!
//! Why: the crate transforms whole symbols, 12 MB for 8 MiB, and finds them in memory at each layer. Here 64 bytes of every symbol
//! go through all layers in the second-level cache. Field, basis and skews are the crate's tables; the crate is the oracle of the
//! tests, and what other machines use. Few missing symbols are cheaper to solve for than to transform for ([`few`]). It must not
//! know datagrams. Steps 9 and 12 of the walk.

use std::sync::OnceLock;

use lavatube_codes::lanes::{Factor, Lane, Lanes, add};
use reed_solomon_simd::engine::tables::{get_exp_log, get_skew, mul};
use reed_solomon_simd::engine::{GF_BITS, GF_MODULUS, GF_ORDER};

use super::{Rebuild, Shape};

mod few;

/// The first `count` repair symbols.
pub fn repair(lanes: Lanes, shape: &Shape, block: &[u8], count: usize) -> Vec<u8> {
    let len = shape.symbol_len;
    let mut out = vec![0; count * len];
    let mut columns = Columns::new(2 * shape.r);
    for at in (0..len).step_by(COLUMNS * LANE_LEN) {
        let width = (COLUMNS * LANE_LEN).min(len - at);
        repair_columns(lanes, shape, |number| shape.source(block, number), count, &mut columns, (at, width));
        for (row, symbol) in out.chunks_exact_mut(len).enumerate() {
            columns.get(row, &mut symbol[at..at + width]);
        }
    }
    out
}

/// Bytes `at..at + width` of the first `count` repair symbols of these sources, as the first rows of `columns`.
fn repair_columns<'a>(
    lanes: Lanes,
    shape: &Shape,
    source: impl Fn(usize) -> &'a [u8],
    count: usize,
    columns: &mut Columns,
    (at, width): (usize, usize),
) {
    let (r, skews) = (shape.r, skews(shape.k.next_multiple_of(shape.r) + shape.r));
    for first in (0..shape.k).step_by(r) {
        for row in 0..r {
            columns.put(r + row, source(first + row), at, width);
        }
        for column in columns.used(width) {
            let (sums, chunk) = column.split_at_mut(r);
            lanes.inverse(chunk, &skews[first + r..first + 2 * r - 1]);
            if first == 0 {
                sums.copy_from_slice(chunk);
            } else {
                sums.iter_mut().zip(&*chunk).for_each(|(sum, lane)| add(sum, lane));
            }
        }
    }
    // At the first points of the space, the first butterfly of each layer changes nothing: what lies behind is not needed.
    let rows = count.next_power_of_two().min(r);
    for column in columns.used(width) {
        lanes.fft(&mut column[..rows], &skews[..rows - 1]);
    }
}

/// Fills in the source symbols that are missing.
pub fn decode(lanes: Lanes, rebuild: &mut Rebuild) {
    if few::is_few(&rebuild.shape, rebuild.repair_numbers.len()) {
        few::decode(lanes, rebuild);
    } else {
        decode_all(lanes, rebuild);
    }
}

/// [`decode`], whatever is missing.
pub fn decode_all(lanes: Lanes, rebuild: &mut Rebuild) {
    let Shape { k, r, symbol_len: len, .. } = rebuild.shape;
    let n = (k + r).next_power_of_two();
    // Repair symbols come first here; what lies behind the last source symbol is known to be zeros.
    let mut erased = vec![false; n];
    for (row, erased) in erased[..k + r].iter_mut().enumerate() {
        *erased = !rebuild.held[if row < r { k + row } else { row - r }];
    }
    let (skews, by_log, logs) = (skews(n), by_log(), locator(&erased));
    let factors: Vec<Factor> = logs.iter().map(|log| by_log[usize::from(*log)]).collect();
    let missing: Vec<usize> = (0..k).filter(|number| !rebuild.held[*number]).collect();
    let mut columns = Columns::new(n);
    for at in (0..len).step_by(COLUMNS * LANE_LEN) {
        let width = (COLUMNS * LANE_LEN).min(len - at);
        columns.clear();
        for (number, symbol) in rebuild.repair_numbers.iter().zip(rebuild.repairs.chunks_exact(len)) {
            columns.put(*number, symbol, at, width);
        }
        for (number, symbol) in rebuild.sources.chunks_exact(len).enumerate() {
            // One that is missing is zeros.
            columns.put(r + number, symbol, at, width);
        }
        for column in columns.used(width) {
            lanes.scale(column, &factors);
            lanes.inverse(column, &skews[..n - 1]);
            lanes.derive(column);
            lanes.fft(column, &skews[..n - 1]);
            for number in &missing {
                let row = r + number;
                let inverse = by_log[usize::from(GF_MODULUS - logs[row])];
                lanes.scale(&mut column[row..=row], &[inverse]);
            }
        }
        for number in &missing {
            columns.get(r + number, &mut rebuild.sources[number * len + at..][..width]);
        }
    }
}

/// Some columns of lanes: [`COLUMNS`] of them at a time, so that a symbol's bytes are fetched a few cache lines at once.
struct Columns {
    rows: usize,
    lanes: Vec<Lane>,
}

impl Columns {
    fn new(rows: usize) -> Self {
        Self { rows, lanes: vec![[0; LANE_LEN]; rows * COLUMNS] }
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

/// For each row the logarithm of the product of its distances to all rows that are erased, itself left out: a convolution.
fn locator(erased: &[bool]) -> Vec<u16> {
    let n = erased.len();
    let log = &get_exp_log().log;
    let mut distances: Vec<i64> = (0..n).map(|i| if i == 0 { 0 } else { i64::from(log[i]) }).collect();
    let mut sums: Vec<i64> = erased.iter().map(|erased| i64::from(*erased)).collect();
    walsh(&mut distances);
    walsh(&mut sums);
    let modulus = i64::from(GF_MODULUS);
    sums.iter_mut().zip(&distances).for_each(|(sum, distance)| *sum = *sum * (distance % modulus) % modulus);
    walsh(&mut sums);
    // The transform there and back multiplies by n; and 2^16 is 1 here.
    let undo = 1 << (GF_BITS as u32 - n.trailing_zeros());
    sums.into_iter().map(|sum| (sum.rem_euclid(modulus) * undo % modulus) as u16).collect()
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
/// Columns worked on at a time.
const COLUMNS: usize = 4;
/// Rows of blocks of 8 MiB.
const FEW_ROWS: usize = 1 << 13;
