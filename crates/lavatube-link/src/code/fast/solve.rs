//! The source symbols that are missing, out of the repair symbols that came.
//!
//! Why: the repair symbols of what is there, taken from those that came, are sums of the missing sources alone; and since the code
//! evaluates a polynomial of degree below R on each R sources at other points, each coefficient of these sums is `c / (x + y)`: x the
//! point of the repair symbol, y that of the source, c of y's R sources only. Such a (Cauchy) matrix has an inverse in closed form: a
//! sum of the same kind for each source, of the sums times factors of theirs. That sum is the value of one polynomial at y, over one
//! that is zero at the first `rows` points and the same at all of the `rows` around y. The first is known where repair symbols came and
//! zero at the rest of the first `rows` points: a transform gives its coefficients, and one for each `rows` sources that miss
//! something its values. Nothing that is transformed is longer than what is missing asks for. Step 12 of the walk.

use lavatube_codes::lanes::{Factor, Lanes};

use super::{Columns, LANE_LEN, Rebuild, Repairs, Shape, constants, distances, factor, product};

/// Fills in the source symbols that are missing: as many as there are repair symbols.
pub fn decode(lanes: Lanes, rebuild: &mut Rebuild) {
    let (shape, len) = (rebuild.shape, rebuild.shape.symbol_len);
    let missing: Vec<usize> = (0..shape.k).filter(|number| !rebuild.held[*number]).collect();
    let count = rebuild.repair_numbers.iter().max().map_or(0, |last| last + 1);
    let mut repairs = Repairs::new(lanes, &shape, count);
    let rows = repairs.rows;
    let (of_repairs, of_sources) = solve(&shape, rows, &rebuild.repair_numbers, &missing);
    let (mut values, mut found) = (vec![[0; LANE_LEN]; rows], Columns::new(missing.len(), repairs.columns));
    for (at, width) in repairs.pieces() {
        let sources = &rebuild.sources;
        // One that is missing is zeros.
        repairs.make(|number| sources.get(number * len..(number + 1) * len).unwrap_or_default(), (at, width));
        for (row, symbol) in rebuild.repair_numbers.iter().zip(rebuild.repairs.chunks_exact(len)) {
            repairs.values.add(*row, symbol, at, width);
        }
        for (coefficients, found) in repairs.values.used(width).zip(found.used(width)) {
            lanes.scale(coefficients, &of_repairs);
            lanes.inverse(coefficients, &repairs.skews[..rows - 1]);
            let mut row = 0;
            for missing in missing.chunk_by(|a, b| a / rows == b / rows) {
                let point = shape.r + missing[0] / rows * rows;
                values.copy_from_slice(coefficients);
                lanes.fft(&mut values, &repairs.skews[point..point + rows - 1]);
                for number in missing {
                    found[row] = values[number % rows];
                    row += 1;
                }
            }
            lanes.scale(found, &of_sources);
        }
        for (row, number) in missing.iter().enumerate() {
            found.get(row, &mut rebuild.sources[number * len + at..][..width]);
        }
    }
}

/// What the first `rows` values are multiplied with to be those of the polynomial, and what its values at the missing sources are.
fn solve(shape: &Shape, rows: usize, repairs: &[usize], missing: &[usize]) -> (Vec<Factor>, Vec<Factor>) {
    let Shape { k, r, .. } = *shape;
    let mut weights = vec![0; (k + r).next_power_of_two()];
    missing.iter().for_each(|number| weights[r + number] = 1);
    repairs.iter().for_each(|number| weights[*number] = -1);
    let distances = distances(weights);
    // The polynomial that is zero at the first `rows` points: its slope, and what it is at each other `rows` of them.
    let slope = product(0, 0..rows);
    let levels: Vec<i64> = (0..k).step_by(rows).map(|first| product(r + first, 0..rows)).collect();
    let constants = constants(shape);
    let mut of_repairs = vec![Factor::ZERO; rows];
    repairs.iter().for_each(|number| of_repairs[*number] = factor(distances[*number] + slope));
    let of_source = |number: &usize| factor(-distances[r + number] - levels[number / rows] - constants[number / r]);
    (of_repairs, missing.iter().map(of_source).collect())
}
