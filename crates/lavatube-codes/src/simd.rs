//! The hot loop in the vector instructions of x86-64, and the only `unsafe` code of lavatube.
//!
//! Why: 16 or 64 products an instruction instead of one keep the code faster than any drive. Each
//! engine is a token that only `detect` creates, so holding one proves the CPU has the instructions.
//! AVX2 looks products up by nibble (`PSHUFB`); GFNI multiplies by a bit matrix. What it must not
//! know: everything but bytes and coefficients.

use std::arch::x86_64::*;

use crate::gf::{AFFINE, NIBBLES};
use crate::kernel::Coefficients;

macro_rules! engine {
    ($(#[$doc:meta])* $name:ident, $rows:ident, $($feature:tt),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(());

        impl $name {
            /// The token, if this CPU has the instructions.
            pub fn detect() -> Option<Self> {
                ($(is_x86_feature_detected!($feature))&&+).then_some($name(()))
            }

            /// Runs the whole blocks and returns how many bytes they are. All slices are of one
            /// length; with `add` the outputs are added to, else overwritten.
            pub fn run<const R: usize>(
                self,
                coefficients: &Coefficients<R>,
                inputs: &[&[u8]],
                outputs: &mut [&mut [u8]; R],
                add: bool,
            ) -> usize {
                // SAFETY: the function needs no more than the CPU features, and `detect`, the only
                // maker of `self`, found them all.
                unsafe { $rows(coefficients, inputs, outputs, add) }
            }
        }
    };
}

engine!(
    /// AVX2: two 16-entry lookups a byte, 32 bytes an instruction.
    Avx2, avx2_rows, "avx2"
);
engine!(
    /// GFNI in its 32-byte form, for CPUs without AVX-512.
    GfniAvx2, gfni_avx2_rows, "avx2", "gfni"
);
engine!(
    /// GFNI in its 64-byte form.
    GfniAvx512, gfni_avx512_rows, "avx512f", "gfni"
);

/// Each step: 64 bytes of every input, as two vectors, into `R` pairs of sums held in registers.
#[target_feature(enable = "avx2")]
fn avx2_rows<const R: usize>(
    coefficients: &Coefficients<R>,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    add: bool,
) -> usize {
    let tables = coefficients.map(|column| column.map(|c| NIBBLES[usize::from(c)]));
    let low_nibbles = _mm256_set1_epi8(15);
    let whole = outputs.first().map_or(0, |output| output.len() / 64 * 64);
    for at in (0..whole).step_by(64) {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        if add {
            for (sum, output) in sums.iter_mut().zip(&*outputs) {
                *sum = load_pair(output, at);
            }
        }
        for (input, column) in inputs.iter().zip(&tables) {
            let x = load_pair(input, at);
            let low = x.map(|x| _mm256_and_si256(x, low_nibbles));
            let high = x.map(|x| _mm256_and_si256(_mm256_srli_epi16::<4>(x), low_nibbles));
            for (sum, table) in sums.iter_mut().zip(column) {
                let [low_table, high_table] = load_table(table);
                for half in 0..2 {
                    let product = _mm256_xor_si256(
                        _mm256_shuffle_epi8(low_table, low[half]),
                        _mm256_shuffle_epi8(high_table, high[half]),
                    );
                    sum[half] = _mm256_xor_si256(sum[half], product);
                }
            }
        }
        for (sum, output) in sums.iter().zip(outputs.iter_mut()) {
            store_pair(output, at, *sum);
        }
    }
    whole
}

/// As [`avx2_rows`], with one multiplication instead of two lookups.
#[target_feature(enable = "avx2,gfni")]
fn gfni_avx2_rows<const R: usize>(
    coefficients: &Coefficients<R>,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    add: bool,
) -> usize {
    let matrices = coefficients.map(|column| column.map(|c| AFFINE[usize::from(c)]));
    let whole = outputs.first().map_or(0, |output| output.len() / 64 * 64);
    for at in (0..whole).step_by(64) {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        if add {
            for (sum, output) in sums.iter_mut().zip(&*outputs) {
                *sum = load_pair(output, at);
            }
        }
        for (input, column) in inputs.iter().zip(&matrices) {
            let x = load_pair(input, at);
            for (sum, &matrix) in sums.iter_mut().zip(column) {
                let matrix = _mm256_set1_epi64x(matrix.cast_signed());
                for half in 0..2 {
                    let product = _mm256_gf2p8affine_epi64_epi8::<0>(x[half], matrix);
                    sum[half] = _mm256_xor_si256(sum[half], product);
                }
            }
        }
        for (sum, output) in sums.iter().zip(outputs.iter_mut()) {
            store_pair(output, at, *sum);
        }
    }
    whole
}

/// As [`gfni_avx2_rows`], in vectors of 64 bytes.
#[target_feature(enable = "avx512f,gfni")]
fn gfni_avx512_rows<const R: usize>(
    coefficients: &Coefficients<R>,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    add: bool,
) -> usize {
    let matrices = coefficients.map(|column| column.map(|c| AFFINE[usize::from(c)]));
    let whole = outputs.first().map_or(0, |output| output.len() / 64 * 64);
    for at in (0..whole).step_by(64) {
        let mut sums = [_mm512_setzero_si512(); R];
        if add {
            for (sum, output) in sums.iter_mut().zip(&*outputs) {
                *sum = load_wide(output, at);
            }
        }
        for (input, column) in inputs.iter().zip(&matrices) {
            let x = load_wide(input, at);
            for (sum, &matrix) in sums.iter_mut().zip(column) {
                let matrix = _mm512_set1_epi64(matrix.cast_signed());
                let product = _mm512_gf2p8affine_epi64_epi8::<0>(x, matrix);
                *sum = _mm512_xor_si512(*sum, product);
            }
        }
        for (&sum, output) in sums.iter().zip(outputs.iter_mut()) {
            store_wide(output, at, sum);
        }
    }
    whole
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_pair(bytes: &[u8], at: usize) -> [__m256i; 2] {
    let block = &bytes[at..at + 64];
    // SAFETY: `block` is 64 readable bytes; unaligned loads of bytes 0..32 and 32..64 stay inside.
    unsafe { [_mm256_loadu_si256(block.as_ptr().cast()), _mm256_loadu_si256(block.as_ptr().add(32).cast())] }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_pair(bytes: &mut [u8], at: usize, pair: [__m256i; 2]) {
    let block = &mut bytes[at..at + 64];
    // SAFETY: `block` is 64 writable bytes; unaligned stores to bytes 0..32 and 32..64 stay inside.
    unsafe {
        _mm256_storeu_si256(block.as_mut_ptr().cast(), pair[0]);
        _mm256_storeu_si256(block.as_mut_ptr().add(32).cast(), pair[1]);
    }
}

/// The two halves of a nibble table, each repeated in both lanes as `PSHUFB` wants it.
#[inline]
#[target_feature(enable = "avx2")]
fn load_table(table: &[u8; 32]) -> [__m256i; 2] {
    // SAFETY: `table` is 32 readable bytes; unaligned loads of bytes 0..16 and 16..32 stay inside.
    let halves = unsafe { [_mm_loadu_si128(table.as_ptr().cast()), _mm_loadu_si128(table.as_ptr().add(16).cast())] };
    halves.map(|half| _mm256_broadcastsi128_si256(half))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_wide(bytes: &[u8], at: usize) -> __m512i {
    let block = &bytes[at..at + 64];
    // SAFETY: `block` is 64 readable bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_wide(bytes: &mut [u8], at: usize, vector: __m512i) {
    let block = &mut bytes[at..at + 64];
    // SAFETY: `block` is 64 writable bytes, and the store needs no alignment.
    unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), vector) }
}
