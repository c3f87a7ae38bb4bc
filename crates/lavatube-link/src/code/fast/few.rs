//! Few missing source symbols, solved for.
//!
//! Why: the transforms of [`decode_all`](super::decode_all) go over all symbols twice, however few are missing. The repair symbols of
//! what is there, taken from those that came, are sums of the missing sources alone; and since the code evaluates a polynomial of degree
//! below R on each R sources at other points, each coefficient of these sums is `c / (x + y)`: x the point of the repair symbol, y that of the
//! source, c of y's R sources only. Such a (Cauchy) matrix has an inverse in closed form. Costs what encoding does, and the square of
//! what is missing. Step 12 of the walk.

use lavatube_codes::lanes::{Factor, Lane, Lanes, add};
use reed_solomon_simd::engine::GF_MODULUS;
use reed_solomon_simd::engine::tables::get_exp_log;

use super::{COLUMNS, Columns, LANE_LEN, Rebuild, Shape, by_log, repair_columns};

/// Whether so few are missing of a block that solving costs less than transforming: measured from 1 to 64 MiB, where a square of
/// three to five times K costs the same (decision 0007).
pub fn is_few(shape: &Shape, missing: usize) -> bool {
    missing.saturating_mul(missing) <= 4 * shape.k
}

/// Fills in the source symbols that are missing: as many as there are repair symbols.
pub fn decode(lanes: Lanes, rebuild: &mut Rebuild) {
    let (shape, len) = (rebuild.shape, rebuild.shape.symbol_len);
    let missing: Vec<usize> = (0..shape.k).filter(|number| !rebuild.held[*number]).collect();
    let Solved { of_repairs, quotients, of_sources } = solve(&shape, &rebuild.repair_numbers, &missing);
    let count = rebuild.repair_numbers.iter().max().map_or(0, |last| last + 1);
    let mut columns = Columns::new(2 * shape.r);
    let (mut sums, mut terms) = (vec![[0; LANE_LEN]; missing.len()], vec![[0; LANE_LEN]; missing.len()]);
    for at in (0..len).step_by(COLUMNS * LANE_LEN) {
        let width = (COLUMNS * LANE_LEN).min(len - at);
        let sources = &rebuild.sources;
        // One that is missing is zeros.
        let source = |number| sources.get(number * len..(number + 1) * len).unwrap_or_default();
        repair_columns(lanes, &shape, source, count, &mut columns, (at, width));
        for (row, symbol) in rebuild.repair_numbers.iter().zip(rebuild.repairs.chunks_exact(len)) {
            columns.add(*row, symbol, at, width);
        }
        for column in columns.used(width) {
            for (sum, row) in sums.iter_mut().zip(&rebuild.repair_numbers) {
                *sum = column[*row];
            }
            lanes.scale(&mut sums, &of_repairs);
            for (row, quotients) in quotients.chunks_exact(missing.len()).enumerate() {
                terms.copy_from_slice(&sums);
                lanes.scale(&mut terms, quotients);
                column[row] = sum(&terms);
            }
            lanes.scale(&mut column[..missing.len()], &of_sources);
        }
        for (row, number) in missing.iter().enumerate() {
            columns.get(row, &mut rebuild.sources[number * len + at..][..width]);
        }
    }
}

/// What turns sums of missing sources into the sources: the inverse of a Cauchy matrix, as factors.
struct Solved {
    /// Of each sum.
    of_repairs: Vec<Factor>,
    /// Of each sum for each source, source by source.
    quotients: Vec<Factor>,
    /// Of each source.
    of_sources: Vec<Factor>,
}

fn solve(shape: &Shape, repairs: &[usize], missing: &[usize]) -> Solved {
    let (r, by_log) = (shape.r, by_log());
    let log = |point: usize| i64::from(get_exp_log().log[point]);
    let factor = |log: i64| by_log[usize::try_from(log.rem_euclid(i64::from(GF_MODULUS))).unwrap_or(0)];
    // Repair symbols are the first R points, sources follow. A sum of points is a difference, and that of a point with itself is left out.
    let sources: Vec<usize> = missing.iter().map(|number| r + number).collect();
    let product =
        |point: usize, of: &[usize]| -> i64 { of.iter().filter(|p| **p != point).map(|p| log(p ^ point)).sum() };
    let of_repairs = repairs.iter().map(|x| factor(product(*x, &sources) - product(*x, repairs)));
    let quotients = sources.iter().flat_map(|y| repairs.iter().map(move |x| factor(-log(x ^ y))));
    // The polynomial that is zero at the first R points, at the first point of each R sources, over its slope: it is the same at all
    // of them, and at the first R points.
    let space: Vec<usize> = (0..r).collect();
    let chunks: Vec<i64> =
        (0..shape.k).step_by(r).map(|first| product(r + first, &space) - product(0, &space)).collect();
    let of_sources = sources.iter().map(|y| {
        let constant = chunks.get((y - r) / r).copied().unwrap_or(0);
        factor(product(*y, repairs) - product(*y, &sources) - constant)
    });
    Solved { of_repairs: of_repairs.collect(), quotients: quotients.collect(), of_sources: of_sources.collect() }
}

fn sum(terms: &[Lane]) -> Lane {
    let mut sum = [0; LANE_LEN];
    terms.iter().for_each(|term| add(&mut sum, term));
    sum
}
