//! The coefficients of the code, and the rows that express some shards by others.
//!
//! Why: encoding, rebuilding and mending are the same hot loop with different coefficients; this is
//! where those come from. What it must not know: shard bytes, lengths, speed.

use crate::gf;

/// `c(i, j)` of the crate's documentation: parity row `i`, data column `j`, of a code with `k` data
/// shards. Needs `j < k` and `k + i <= 254`.
pub fn coefficient(k: usize, i: usize, j: usize) -> u8 {
    debug_assert!(j < k && k + i <= 254);
    gf::mul((k ^ j) as u8, gf::inverse(((k + i) ^ j) as u8))
}

/// The rows that give the shards `want` as sums of the shards `from`: `want.len()` rows of `k`
/// coefficients, row after row, columns in the order of `from`.
///
/// `from` names exactly `k` distinct shards, data before parity; all numbers are below `k + m`.
///
/// Only the `e` data shards missing from `from` need solving for: with `P` the parity rows in
/// `from`, `p = C[P, present] d_present + C[P, missing] d_missing`, so
/// `d_missing = B (p + C[P, present] d_present)` with `B` the inverse of the `e * e` square
/// `C[P, missing]`, which a Cauchy matrix always has.
pub fn express(k: usize, from: &[usize], want: &[usize]) -> Vec<u8> {
    assert_eq!(from.len(), k, "exactly k shards express the others");
    let present = from.iter().take_while(|&&shard| shard < k).count();
    let (data, parity) = from.split_at(present);
    let missing: Vec<usize> = (0..k).filter(|shard| !data.contains(shard)).collect();

    let mut square = Vec::with_capacity(missing.len() * missing.len());
    for &shard in parity {
        square.extend(missing.iter().map(|&j| coefficient(k, shard - k, j)));
    }
    let solved = invert(square, missing.len());

    // One row for each missing data shard, in terms of `from`.
    let mut missing_rows = vec![vec![0; k]; missing.len()];
    for (row, inverse_row) in missing_rows.iter_mut().zip(solved.chunks(missing.len().max(1))) {
        for (&b, &shard) in inverse_row.iter().zip(parity) {
            for (entry, &j) in row.iter_mut().zip(data) {
                *entry ^= gf::mul(b, coefficient(k, shard - k, j));
            }
        }
        row[present..].copy_from_slice(inverse_row);
    }

    let mut rows = Vec::with_capacity(want.len() * k);
    for &shard in want {
        let mut row = vec![0; k];
        if let Some(at) = from.iter().position(|&f| f == shard) {
            row[at] = 1;
        } else if let Some(at) = missing.iter().position(|&j| j == shard) {
            row.copy_from_slice(&missing_rows[at]);
        } else {
            for (entry, &j) in row.iter_mut().zip(data) {
                *entry = coefficient(k, shard - k, j);
            }
            for (&j, missing_row) in missing.iter().zip(&missing_rows) {
                let c = coefficient(k, shard - k, j);
                for (entry, &x) in row.iter_mut().zip(missing_row) {
                    *entry ^= gf::mul(c, x);
                }
            }
        }
        rows.extend_from_slice(&row);
    }
    rows
}

/// The inverse of a square matrix of `size * size` numbers, row after row (Gauss and Jordan).
/// Panics if there is none, which for a square of Cauchy coefficients cannot be.
fn invert(mut square: Vec<u8>, size: usize) -> Vec<u8> {
    let mut inverse = vec![0; size * size];
    for i in 0..size {
        inverse[i * size + i] = 1;
    }
    for column in 0..size {
        let pivot = (column..size)
            .find(|&row| square[row * size + column] != 0)
            .expect("every square part of a Cauchy matrix can be inverted");
        for x in 0..size {
            square.swap(pivot * size + x, column * size + x);
            inverse.swap(pivot * size + x, column * size + x);
        }
        let scale = gf::inverse(square[column * size + column]);
        for x in 0..size {
            square[column * size + x] = gf::mul(scale, square[column * size + x]);
            inverse[column * size + x] = gf::mul(scale, inverse[column * size + x]);
        }
        for row in (0..size).filter(|&row| row != column) {
            let factor = square[row * size + column];
            for x in 0..size {
                square[row * size + x] ^= gf::mul(factor, square[column * size + x]);
                inverse[row * size + x] ^= gf::mul(factor, inverse[column * size + x]);
            }
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_parity_row_is_all_ones() {
        for k in 1..=254 {
            assert!((0..k).all(|j| coefficient(k, 0, j) == 1), "k = {k}");
        }
    }

    #[test]
    fn no_coefficient_is_zero() {
        for k in 1..=254 {
            for i in 0..255 - k {
                assert!((0..k).all(|j| coefficient(k, i, j) != 0), "k = {k}, row {i}");
            }
        }
    }

    #[test]
    fn a_shard_expressed_by_itself_is_a_unit_row() {
        let rows = express(3, &[0, 2, 4], &[2, 4]);
        assert_eq!(rows, [0, 1, 0, 0, 0, 1]);
    }

    #[test]
    fn the_largest_square_can_be_inverted() {
        let from: Vec<usize> = (127..254).collect();
        let want: Vec<usize> = (0..127).collect();
        let there = express(127, &from, &want);
        // Parity expressed by data, after data expressed by parity, is the identity.
        let back = express(127, &want, &from);
        for row in 0..127 {
            for column in 0..127 {
                let sum = (0..127).fold(0, |sum, x| sum ^ gf::mul(back[row * 127 + x], there[x * 127 + column]));
                assert_eq!(sum, u8::from(row == column));
            }
        }
    }
}
