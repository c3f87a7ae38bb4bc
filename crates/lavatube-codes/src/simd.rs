//! The hot loop in the vector instructions of x86-64, and the only `unsafe` code of lavatube.
//!
//! Why: 16 or 64 products an instruction instead of one keep the code faster than any drive. Each
//! engine is a token that only `detect` creates, so holding one proves the CPU has the instructions.
//! AVX2 looks products up by nibble (`PSHUFB`); GFNI multiplies by a bit matrix; PCLMULQDQ multiplies
//! polynomials. What it must not know: everything but bytes and coefficients.

use std::arch::x86_64::*;

use crate::field::{Wide, element};
use crate::gf::{AFFINE, NIBBLES};
use crate::kernel::Coefficients;
use crate::lanes::{Factor, Lane};
use crate::sums::{BLOCKS_MAX, Planes};

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

/// Transforms of lanes ([`crate::lanes`]) for one width of vectors: two layers of butterflies at a time in registers, the upper
/// layers first and then each quarter by itself, so that a quarter that fits a cache stays in it.
macro_rules! lanes {
    ($(#[$doc:meta])* $name:ident, $features:literal, [$($feature:tt),+], $fft:ident, $inverse:ident, $scale:ident, $join:ident,
     $load:ident, $store:ident, $matrix:ident, $times:ident, $add:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(());

        impl $name {
            /// The token, if this CPU has the instructions.
            pub fn detect() -> Option<Self> {
                ($(is_x86_feature_detected!($feature))&&+).then_some($name(()))
            }

            pub fn fft(self, lanes: &mut [Lane], factors: &[Factor]) {
                // SAFETY: the function needs no more than the CPU features, and `detect`, the only maker of `self`, found them all.
                unsafe { $fft(lanes, factors) }
            }

            pub fn inverse(self, lanes: &mut [Lane], factors: &[Factor]) {
                // SAFETY: as in `fft`.
                unsafe { $inverse(lanes, factors) }
            }

            pub fn scale(self, lanes: &mut [Lane], factors: &[Factor]) {
                // SAFETY: as in `fft`.
                unsafe { $scale(lanes, factors) }
            }

            pub fn join(self, low: &mut [Lane], high: &[Lane], factor: &Factor) {
                // SAFETY: as in `fft`.
                unsafe { $join(low, high, factor) }
            }
        }

        #[target_feature(enable = $features)]
        fn $fft(lanes: &mut [Lane], factors: &[Factor]) {
            let quarter = lanes.len() / 4;
            if quarter == 0 {
                if let [a, b] = lanes {
                    let (mut low, mut high) = ($load(a, 0), $load(b, 0));
                    low = $add(low, $times(high, &$matrix(&factors[0])));
                    high = $add(high, low);
                    $store(a, 0, low);
                    $store(b, 0, high);
                }
                return;
            }
            let [middle, left, right] = [2 * quarter, quarter, 3 * quarter].map(|at| $matrix(&factors[at - 1]));
            let (low, high) = lanes.split_at_mut(2 * quarter);
            let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let [mut w, mut x, mut y, mut z] = [$load(a, 0), $load(b, 0), $load(c, 0), $load(d, 0)];
                w = $add(w, $times(y, &middle));
                x = $add(x, $times(z, &middle));
                y = $add(y, w);
                z = $add(z, x);
                w = $add(w, $times(x, &left));
                y = $add(y, $times(z, &right));
                x = $add(x, w);
                z = $add(z, y);
                $store(a, 0, w);
                $store(b, 0, x);
                $store(c, 0, y);
                $store(d, 0, z);
            }
            if quarter > 1 {
                for (i, lanes) in lanes.chunks_exact_mut(quarter).enumerate() {
                    $fft(lanes, &factors[i * quarter..(i + 1) * quarter - 1]);
                }
            }
        }

        #[target_feature(enable = $features)]
        fn $inverse(lanes: &mut [Lane], factors: &[Factor]) {
            let quarter = lanes.len() / 4;
            if quarter == 0 {
                if let [a, b] = lanes {
                    let (mut low, mut high) = ($load(a, 0), $load(b, 0));
                    high = $add(high, low);
                    low = $add(low, $times(high, &$matrix(&factors[0])));
                    $store(a, 0, low);
                    $store(b, 0, high);
                }
                return;
            }
            if quarter > 1 {
                for (i, lanes) in lanes.chunks_exact_mut(quarter).enumerate() {
                    $inverse(lanes, &factors[i * quarter..(i + 1) * quarter - 1]);
                }
            }
            let [middle, left, right] = [2 * quarter, quarter, 3 * quarter].map(|at| $matrix(&factors[at - 1]));
            let (low, high) = lanes.split_at_mut(2 * quarter);
            let ((a, b), (c, d)) = (low.split_at_mut(quarter), high.split_at_mut(quarter));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let [mut w, mut x, mut y, mut z] = [$load(a, 0), $load(b, 0), $load(c, 0), $load(d, 0)];
                x = $add(x, w);
                z = $add(z, y);
                w = $add(w, $times(x, &left));
                y = $add(y, $times(z, &right));
                y = $add(y, w);
                z = $add(z, x);
                w = $add(w, $times(y, &middle));
                x = $add(x, $times(z, &middle));
                $store(a, 0, w);
                $store(b, 0, x);
                $store(c, 0, y);
                $store(d, 0, z);
            }
        }

        #[target_feature(enable = $features)]
        fn $scale(lanes: &mut [Lane], factors: &[Factor]) {
            for (lane, factor) in lanes.iter_mut().zip(factors) {
                let product = $times($load(lane, 0), &$matrix(factor));
                $store(lane, 0, product);
            }
        }

        #[target_feature(enable = $features)]
        fn $join(low: &mut [Lane], high: &[Lane], factor: &Factor) {
            let matrix = $matrix(factor);
            for (a, b) in low.iter_mut().zip(high) {
                let low = $load(a, 0);
                let sum = $add(low, $times($add(low, $load(b, 0)), &matrix));
                $store(a, 0, sum);
            }
        }
    };
}

lanes!(
    /// GFNI in its 32-byte form.
    LanesAvx2, "avx2,gfni", ["avx2", "gfni"], fft_pairs, inverse_pairs, scale_pairs, join_pairs,
    load_pair, store_pair, matrix_pair, times_pair, add_pair
);
lanes!(
    /// GFNI in its 64-byte form.
    LanesAvx512, "avx512f,gfni", ["avx512f", "gfni"], fft_wide, inverse_wide, scale_wide, join_wide,
    load_wide, store_wide, matrix_wide, times_wide, add_wide
);

#[inline]
#[target_feature(enable = "avx2")]
fn matrix_pair(factor: &Factor) -> [__m256i; 4] {
    factor.0.map(|matrix| _mm256_set1_epi64x(matrix.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2,gfni")]
fn times_pair([low, high]: [__m256i; 2], matrix: &[__m256i; 4]) -> [__m256i; 2] {
    let part = |x, i: usize| _mm256_gf2p8affine_epi64_epi8::<0>(x, matrix[i]);
    [_mm256_xor_si256(part(low, 0), part(high, 1)), _mm256_xor_si256(part(low, 2), part(high, 3))]
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_pair(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
    [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
}

/// What keeps a half in its place, and what brings it to the other one.
#[inline]
#[target_feature(enable = "avx512f")]
fn matrix_wide(factor: &Factor) -> [__m512i; 2] {
    let [low_low, high_low, low_high, high_high] = factor.0.map(u64::cast_signed);
    let halves = |low, high| _mm512_mask_set1_epi64(_mm512_set1_epi64(low), 0xf0, high);
    [halves(low_low, high_high), halves(high_low, low_high)]
}

#[inline]
#[target_feature(enable = "avx512f,gfni")]
fn times_wide(x: __m512i, matrix: &[__m512i; 2]) -> __m512i {
    let crossed = _mm512_shuffle_i64x2::<0b01_00_11_10>(x, x);
    _mm512_xor_si512(
        _mm512_gf2p8affine_epi64_epi8::<0>(x, matrix[0]),
        _mm512_gf2p8affine_epi64_epi8::<0>(crossed, matrix[1]),
    )
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_wide(a: __m512i, b: __m512i) -> __m512i {
    _mm512_xor_si512(a, b)
}

/// Sums over GF(2^128) ([`crate::sums`]) for one width of vectors: products of 64 by 64 coefficients, added up where they belong.
macro_rules! sums {
    ($(#[$doc:meta])* $name:ident, $features:literal, [$($feature:tt),+], $bytes:literal, $accumulate:ident, $inner:ident,
     $load:ident, $store:ident, $zero:ident, $all:ident, $add:ident, $clmul:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(());

        impl $name {
            /// The token, if this CPU has the instructions.
            pub fn detect() -> Option<Self> {
                ($(is_x86_feature_detected!($feature))&&+).then_some($name(()))
            }

            pub fn accumulate(self, weights: &[u128], blocks: &[u8], planes: &mut Planes) {
                // SAFETY: the function needs no more than the CPU features, and `detect`, the only maker of `self`, found them all.
                unsafe { $accumulate(weights, blocks, planes) }
            }

            pub fn inner(self, a: &[u8], b: &[u8]) -> Wide {
                // SAFETY: as in `accumulate`.
                unsafe { $inner(a, b) }
            }
        }

        #[target_feature(enable = $features)]
        fn $accumulate(weights: &[u128], blocks: &[u8], planes: &mut Planes) {
            let len = planes.low.len();
            let mut all = [$zero(); BLOCKS_MAX];
            for (vector, &weight) in all.iter_mut().zip(weights) {
                *vector = $all(weight);
            }
            let all = &all[..weights.len()];
            for at in (0..len).step_by($bytes) {
                let mut low = $load(&planes.low, at);
                let mut middle = $load(&planes.middle, at);
                let mut high = $load(&planes.high, at);
                for (block, &weight) in blocks.chunks_exact(len).zip(all) {
                    let x = $load(block, at);
                    low = $add(low, $clmul::<0x00>(x, weight));
                    middle = $add(middle, $add($clmul::<0x01>(x, weight), $clmul::<0x10>(x, weight)));
                    high = $add(high, $clmul::<0x11>(x, weight));
                }
                $store(&mut planes.low, at, low);
                $store(&mut planes.middle, at, middle);
                $store(&mut planes.high, at, high);
            }
        }

        #[target_feature(enable = $features)]
        fn $inner(a: &[u8], b: &[u8]) -> Wide {
            let [mut low, mut middle, mut crossed, mut high] = [$zero(); 4];
            for at in (0..a.len().min(b.len())).step_by($bytes) {
                let (x, y) = ($load(a, at), $load(b, at));
                low = $add(low, $clmul::<0x00>(x, y));
                middle = $add(middle, $clmul::<0x01>(x, y));
                crossed = $add(crossed, $clmul::<0x10>(x, y));
                high = $add(high, $clmul::<0x11>(x, y));
            }
            let [low, middle, high] = [low, $add(middle, crossed), high].map(|vector| {
                let mut bytes = [0; $bytes];
                $store(&mut bytes, 0, vector);
                bytes.chunks_exact(16).fold(0, |sum, part| sum ^ element(part))
            });
            Wide { low, middle, high }
        }
    };
}

sums!(
    /// PCLMULQDQ: one product an instruction.
    Clmul, "sse2,pclmulqdq", ["sse2", "pclmulqdq"], 16, accumulate_narrow, inner_narrow,
    load_narrow, store_narrow, _mm_setzero_si128, all_narrow, _mm_xor_si128, _mm_clmulepi64_si128
);
sums!(
    /// VPCLMULQDQ in its 64-byte form: four products an instruction.
    WideClmul, "avx512f,vpclmulqdq", ["avx512f", "vpclmulqdq"], 64, accumulate_wide, inner_wide,
    load_wide, store_wide, _mm512_setzero_si512, all_wide, _mm512_xor_si512, _mm512_clmulepi64_epi128
);

#[inline]
#[target_feature(enable = "sse2")]
fn load_narrow(bytes: &[u8], at: usize) -> __m128i {
    let block = &bytes[at..at + 16];
    // SAFETY: `block` is 16 readable bytes, and the load needs no alignment.
    unsafe { _mm_loadu_si128(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store_narrow(bytes: &mut [u8], at: usize, vector: __m128i) {
    let block = &mut bytes[at..at + 16];
    // SAFETY: `block` is 16 writable bytes, and the store needs no alignment.
    unsafe { _mm_storeu_si128(block.as_mut_ptr().cast(), vector) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn all_narrow(weight: u128) -> __m128i {
    load_narrow(&weight.to_le_bytes(), 0)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all_wide(weight: u128) -> __m512i {
    _mm512_broadcast_i32x4(load_narrow(&weight.to_le_bytes(), 0))
}
