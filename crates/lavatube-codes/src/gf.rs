//! GF(2^8) with polynomial 0x11d, and its multiplication laid out as each engine wants it.
//!
//! Why: one source for every table, computed by the compiler, so that nothing is built at run time
//! and no copy can drift. What it must not know: matrices, shards, CPU features.

/// `a * b`.
pub const fn mul(a: u8, b: u8) -> u8 {
    let row = &NIBBLES[a as usize];
    row[(b & 15) as usize] ^ row[16 + (b >> 4) as usize]
}

/// The number that `a` must be multiplied with to give 1. Panics for 0, which has none.
pub const fn inverse(a: u8) -> u8 {
    assert!(a != 0, "zero has no inverse");
    INVERSES[a as usize]
}

/// For each `c`: `c * x` for the 16 low nibbles `x`, then `c * (x << 4)` for the 16 high ones. The
/// product of `c` and a byte is the XOR of one entry from each half: what `PSHUFB` looks up.
pub static NIBBLES: [[u8; 32]; 256] = {
    let mut tables = [[0; 32]; 256];
    let mut c = 0;
    while c < 256 {
        let mut x = 0;
        while x < 16 {
            tables[c][x] = shift_and_add(c as u8, x as u8);
            tables[c][16 + x] = shift_and_add(c as u8, (x << 4) as u8);
            x += 1;
        }
        c += 1;
    }
    tables
};

/// For each `c`: multiplication by `c` as the 8x8 bit matrix that `GF2P8AFFINEQB` takes. Output bit
/// `i` of that instruction is the parity of (input AND byte `7 - i` of the matrix).
#[cfg(any(target_arch = "x86_64", test))]
pub static AFFINE: [u64; 256] = {
    let mut matrices = [0; 256];
    let mut c = 0;
    while c < 256 {
        let mut input_bit = 0;
        while input_bit < 8 {
            let product = shift_and_add(c as u8, 1 << input_bit);
            let mut output_bit = 0;
            while output_bit < 8 {
                if product >> output_bit & 1 == 1 {
                    matrices[c] |= 1 << (8 * (7 - output_bit) + input_bit);
                }
                output_bit += 1;
            }
            input_bit += 1;
        }
        c += 1;
    }
    matrices
};

/// `INVERSES[a]` is `a^254`, since `a^255 = 1`; entry 0 is never read.
static INVERSES: [u8; 256] = {
    let mut inverses = [0; 256];
    let mut a = 1;
    while a < 256 {
        let mut power = 1;
        let mut exponent = 0;
        while exponent < 254 {
            power = mul(power, a as u8);
            exponent += 1;
        }
        inverses[a] = power;
        a += 1;
    }
    inverses
};

/// Multiplication from the definition: double, reduce, add. Only the tables above are made of it.
const fn shift_and_add(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 != 0 { REDUCE } else { 0 };
        b >>= 1;
    }
    product
}

/// `x^8` as lower powers: 0x11d without its top bit.
pub const REDUCE: u8 = 0x1d;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree_with_the_naive_field_for_all_pairs() {
        let field = crate::naive::Field::new();
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), field.mul(a, b), "{a} * {b}");
            }
            if a != 0 {
                assert_eq!(mul(a, inverse(a)), 1, "inverse of {a}");
            }
        }
    }

    /// No GFNI is needed for this: the instruction is spelled out as its manual defines it.
    #[test]
    fn affine_matrices_multiply_as_the_instruction_is_defined() {
        for c in 0..=255u8 {
            let rows = AFFINE[usize::from(c)].to_le_bytes();
            for x in 0..=255u8 {
                let mut product = 0;
                for bit in 0..8 {
                    product |= (((rows[7 - bit] & x).count_ones() & 1) as u8) << bit;
                }
                assert_eq!(product, mul(c, x), "{c} * {x}");
            }
        }
    }
}
