//! The same code written to be read: exponent and logarithm tables, one byte at a time.
//!
//! Why: it is the oracle of the property tests and the model for readers in other languages. It
//! shares nothing with the fast path, neither tables nor the way of solving, so that one mistake
//! cannot hide in both. What it must not know: speed.

/// GF(2^8) with polynomial 0x11d, by the powers of its generator 2.
pub struct Field {
    exp: [u8; 255],
    log: [usize; 256],
}

impl Field {
    /// Walks once around the powers of 2.
    #[expect(clippy::new_without_default, reason = "an oracle needs no second way to be made")]
    pub fn new() -> Self {
        let mut field = Field { exp: [0; 255], log: [0; 256] };
        let mut power = 1;
        for exponent in 0..255 {
            field.exp[exponent] = power as u8;
            field.log[power] = exponent;
            power *= 2;
            if power >= 256 {
                power ^= 0x11d;
            }
        }
        field
    }

    /// `a * b`.
    pub fn mul(&self, a: u8, b: u8) -> u8 {
        if a == 0 || b == 0 {
            return 0;
        }
        self.exp[(self.log[usize::from(a)] + self.log[usize::from(b)]) % 255]
    }

    /// `1 / a`. Panics for 0.
    pub fn inverse(&self, a: u8) -> u8 {
        assert!(a != 0, "zero has no inverse");
        self.exp[(255 - self.log[usize::from(a)]) % 255]
    }
}

/// All `k + m` rows of the code: the identity, then the parity rows `c(i, j)`.
pub fn generator(field: &Field, k: usize, m: usize) -> Vec<Vec<u8>> {
    let mut rows = Vec::new();
    for shard in 0..k + m {
        let mut row = vec![0; k];
        for (j, entry) in row.iter_mut().enumerate() {
            *entry = if shard < k {
                u8::from(shard == j)
            } else {
                let scale = (k ^ j) as u8;
                field.mul(scale, field.inverse((shard ^ j) as u8))
            };
        }
        rows.push(row);
    }
    rows
}

/// The `m` parity shards of `data` (`k` shards of one length).
pub fn encode(m: usize, data: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let field = Field::new();
    let k = data.len();
    let rows = generator(&field, k, m);
    rows[k..].iter().map(|row| sum(&field, row, data)).collect()
}

/// All data shards, from exactly `k` numbered shards: the rows of those shards as `k` equations in
/// the data, solved by elimination.
pub fn decode(k: usize, m: usize, have: &[(usize, Vec<u8>)]) -> Vec<Vec<u8>> {
    assert_eq!(have.len(), k, "k equations for k unknowns");
    let field = Field::new();
    let all = generator(&field, k, m);
    let mut left: Vec<Vec<u8>> = have.iter().map(|(shard, _)| all[*shard].clone()).collect();
    let mut right: Vec<Vec<u8>> = have.iter().map(|(_, bytes)| bytes.clone()).collect();
    for column in 0..k {
        let pivot = (column..k).find(|&row| left[row][column] != 0).expect("solvable");
        left.swap(pivot, column);
        right.swap(pivot, column);
        let scale = field.inverse(left[column][column]);
        for x in left[column].iter_mut().chain(&mut right[column]) {
            *x = field.mul(scale, *x);
        }
        let pivot = (left[column].clone(), right[column].clone());
        for row in (0..k).filter(|&row| row != column) {
            let factor = left[row][column];
            add_product(&field, &mut left[row], factor, &pivot.0);
            add_product(&field, &mut right[row], factor, &pivot.1);
        }
    }
    right
}

/// The sum of `row[j] * shards[j]`, byte for byte.
fn sum(field: &Field, row: &[u8], shards: &[Vec<u8>]) -> Vec<u8> {
    let mut total = vec![0; shards[0].len()];
    for (&c, shard) in row.iter().zip(shards) {
        add_product(field, &mut total, c, shard);
    }
    total
}

/// Adds `c * bytes` to `total`, byte for byte.
fn add_product(field: &Field, total: &mut [u8], c: u8, bytes: &[u8]) {
    for (t, &x) in total.iter_mut().zip(bytes) {
        *t ^= field.mul(c, x);
    }
}

/// `dot(a, b)` of RFC 8452 from its definition: `a * b`, a coefficient at a time, then divided by `x` 128 times.
pub fn dot(a: u128, b: u128) -> u128 {
    // x^128 as lower powers.
    const REDUCE: u128 = 1 << 127 | 1 << 126 | 1 << 121 | 1;
    let mut product = 0;
    for i in (0..128).rev() {
        product = product << 1 ^ if product >> 127 == 1 { REDUCE } else { 0 };
        product ^= if b >> i & 1 == 1 { a } else { 0 };
    }
    for _ in 0..128 {
        // Where x does not divide it, it does after the polynomial was added.
        product = if product & 1 == 1 { (product ^ REDUCE) >> 1 | 1 << 127 } else { product >> 1 };
    }
    product
}

/// POLYVAL of RFC 8452.
pub fn polyval(h: u128, blocks: &[u128]) -> u128 {
    blocks.iter().fold(0, |sum, x| dot(sum ^ x, h))
}

/// The blocks of `block_len` bytes that `bytes` are cut into, the last padded with zeros, added up into one, each times its weight.
pub fn weighted_sum(block_len: usize, weights: &[u128], bytes: &[u8]) -> Vec<u8> {
    let mut sum = vec![0; block_len];
    for (block, &weight) in bytes.chunks(block_len).zip(weights) {
        let mut block = block.to_vec();
        block.resize(block_len, 0);
        for (sum, x) in sum.chunks_exact_mut(16).zip(block.chunks_exact(16)) {
            let x = u128::from_le_bytes(x.try_into().expect("16 bytes"));
            for (s, p) in sum.iter_mut().zip(dot(weight, x).to_le_bytes()) {
                *s ^= p;
            }
        }
    }
    sum
}
