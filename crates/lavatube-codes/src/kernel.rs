//! The one hot loop: outputs = rows of coefficients times inputs.
//!
//! Why: encoding, rebuilding and checking differ only in their coefficients, so they share one
//! loop, its tiling and its choice of CPU instructions. Every engine computes the same bytes; an
//! engine that fails its self-test at start-up is not used, because wrong parity would only be
//! noticed when it is needed. What it must not know: which shard is data and which is parity.

use std::sync::OnceLock;

use crate::gf;
#[cfg(target_arch = "x86_64")]
use crate::simd;

/// Which instructions the codes use on this machine: "gfni-avx512", "gfni-avx2", "avx2" or
/// "portable". For benchmarks and status pages.
pub fn engine_name() -> &'static str {
    Engine::best().name()
}

/// A way to run the loop. The variants other than `Portable` hold the proof, which only detection
/// hands out, that the CPU has the instructions.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(simd::Avx2),
    #[cfg(target_arch = "x86_64")]
    GfniAvx2(simd::GfniAvx2),
    #[cfg(target_arch = "x86_64")]
    GfniAvx512(simd::GfniAvx512),
}

/// The largest part of a row group that an engine takes at once, as many as it has registers for.
pub const ROWS_MAX: usize = 4;

/// The most inputs an engine reads side by side: shards are often a power of two apart, and more
/// streams than the first cache has ways would throw each other out.
pub const COLUMNS_MAX: usize = 8;

/// Coefficients of one call of an engine: a column of rows for each input.
pub type Coefficients<const R: usize> = [[u8; R]; COLUMNS_MAX];

/// `outputs[r] = XOR over c of rows[r * inputs.len() + c] * inputs[c]`, overwriting the outputs.
/// At least one input; all slices of one length. Shapes are the caller's duty and are asserted.
pub fn combine(rows: &[u8], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    combine_with(Engine::best(), rows, inputs, outputs);
}

/// [`combine`] by a named engine.
pub fn combine_with(engine: Engine, rows: &[u8], inputs: &[&[u8]], outputs: &mut [&mut [u8]]) {
    assert!(!inputs.is_empty(), "a sum of no inputs has no length");
    assert_eq!(rows.len(), inputs.len() * outputs.len(), "one coefficient for each pair");
    let len = inputs[0].len();
    assert!(inputs.iter().all(|input| input.len() == len), "inputs of one length");
    assert!(outputs.iter().all(|output| output.len() == len), "outputs as long as inputs");

    let mut start = 0;
    while start < len {
        let end = len.min(start + TILE_BYTES);
        let mut first_row = 0;
        for group in outputs.chunks_mut(ROWS_MAX) {
            let rows = &rows[first_row * inputs.len()..];
            match group {
                [a] => tile(engine, rows, inputs, start..end, [a]),
                [a, b] => tile(engine, rows, inputs, start..end, [a, b]),
                [a, b, c] => tile(engine, rows, inputs, start..end, [a, b, c]),
                [a, b, c, d] => tile(engine, rows, inputs, start..end, [a, b, c, d]),
                _ => unreachable!("chunks of at most ROWS_MAX"),
            }
            first_row += ROWS_MAX;
        }
        start = end;
    }
}

/// `R` rows over one range of bytes: the inputs a few at a time, adding up in the outputs, which
/// stay in the first cache meanwhile.
fn tile<const R: usize>(
    engine: Engine,
    rows: &[u8],
    inputs: &[&[u8]],
    range: std::ops::Range<usize>,
    outputs: [&mut &mut [u8]; R],
) {
    let mut outputs = outputs.map(|output| &mut output[range.clone()]);
    for (group, some) in inputs.chunks(COLUMNS_MAX).enumerate() {
        let first_column = group * COLUMNS_MAX;
        let mut coefficients = [[0; R]; COLUMNS_MAX];
        let mut parts: [&[u8]; COLUMNS_MAX] = [&[]; COLUMNS_MAX];
        for (c, input) in some.iter().enumerate() {
            coefficients[c] = std::array::from_fn(|r| rows[r * inputs.len() + first_column + c]);
            parts[c] = &input[range.clone()];
        }
        let parts = &parts[..some.len()];
        let done = engine.run(&coefficients, parts, &mut outputs, first_column > 0);
        bytewise(&coefficients, parts, &mut outputs, first_column > 0, done);
    }
}

impl Engine {
    /// The fastest engine this machine has that passes its self-test; found once.
    pub fn best() -> Self {
        static BEST: OnceLock<Engine> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut found = Self::available();
            found.retain(|engine| engine.self_test());
            found.pop().expect("a CPU that cannot even shift and add must not make parity")
        })
    }

    /// Every engine this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        let portable = Some(Engine::Portable);
        #[cfg(target_arch = "x86_64")]
        let special = [
            simd::Avx2::detect().map(Engine::Avx2),
            simd::GfniAvx2::detect().map(Engine::GfniAvx2),
            simd::GfniAvx512::detect().map(Engine::GfniAvx512),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Engine>; 0] = [];
        portable.into_iter().chain(special.into_iter().flatten()).collect()
    }

    /// Its name, as in [`engine_name`].
    pub fn name(self) -> &'static str {
        match self {
            Engine::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx2(_) => "gfni-avx2",
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx512(_) => "gfni-avx512",
        }
    }

    /// Sums over more inputs than are read at once, with every coefficient somewhere and every byte
    /// under it, compared with the table.
    fn self_test(self) -> bool {
        const COLUMNS: usize = COLUMNS_MAX + 1;
        let inputs: [Vec<u8>; COLUMNS] =
            std::array::from_fn(|c| (0..=255u8).map(|x| x.wrapping_mul(3).wrapping_add(c as u8)).collect());
        let views = inputs.each_ref().map(|input| &input[..]);
        let mut outputs = [[0; 256]; ROWS_MAX];
        (0..=255).step_by(ROWS_MAX * COLUMNS).all(|first| {
            let rows: [u8; ROWS_MAX * COLUMNS] = std::array::from_fn(|i| (first + i) as u8);
            combine_with(self, &rows, &views, &mut outputs.each_mut().map(|output| &mut output[..]));
            rows.chunks(COLUMNS).zip(&outputs).all(|(row, output)| {
                (0..256).all(|at| {
                    let sum = |sum, (&c, input): (&u8, &Vec<u8>)| sum ^ gf::mul(c, input[at]);
                    output[at] == row.iter().zip(&inputs).fold(0, sum)
                })
            })
        })
    }

    /// Runs the whole blocks it can and returns how many bytes those are. With `add` the outputs
    /// are added to, else overwritten.
    fn run<const R: usize>(
        self,
        coefficients: &Coefficients<R>,
        inputs: &[&[u8]],
        outputs: &mut [&mut [u8]; R],
        add: bool,
    ) -> usize {
        match self {
            Engine::Portable => portable(coefficients, inputs, outputs, add),
            #[cfg(target_arch = "x86_64")]
            Engine::Avx2(cpu) => cpu.run(coefficients, inputs, outputs, add),
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx2(cpu) => cpu.run(coefficients, inputs, outputs, add),
            #[cfg(target_arch = "x86_64")]
            Engine::GfniAvx512(cpu) => cpu.run(coefficients, inputs, outputs, add),
        }
    }
}

/// Sixteen words of eight bytes: enough that a compiler uses whatever vectors the machine has.
type Words = [u64; WORDS];
const WORDS: usize = 16;
const WORDS_BYTES: usize = 8 * WORDS;

/// The loop without special instructions: the input is doubled seven times, and each output adds
/// the doublings whose bit is set in its coefficient.
fn portable<const R: usize>(
    coefficients: &Coefficients<R>,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    add: bool,
) -> usize {
    let whole = outputs.first().map_or(0, |output| output.len() / WORDS_BYTES * WORDS_BYTES);
    for at in (0..whole).step_by(WORDS_BYTES) {
        let mut sums = [[0; WORDS]; R];
        if add {
            for (sum, output) in sums.iter_mut().zip(&*outputs) {
                *sum = words(&output[at..at + WORDS_BYTES]);
            }
        }
        for (input, column) in inputs.iter().zip(coefficients) {
            let mut power = words(&input[at..at + WORDS_BYTES]);
            let all_bits = column.iter().fold(0, |bits, c| bits | c);
            for bit in 0..8 - all_bits.leading_zeros() {
                for (sum, c) in sums.iter_mut().zip(column) {
                    if c >> bit & 1 == 1 {
                        sum.iter_mut().zip(&power).for_each(|(s, p)| *s ^= p);
                    }
                }
                power = power.map(double);
            }
        }
        for (sum, output) in sums.iter().zip(outputs.iter_mut()) {
            for (bytes, word) in output[at..at + WORDS_BYTES].chunks_exact_mut(8).zip(sum) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
    whole
}

/// Eight bytes, each multiplied by 2.
fn double(word: u64) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let carries = word >> 7 & LOW;
    // Each carry becomes 0x1d = 1 + 4 + 8 + 16 in its own byte.
    let reduce = carries ^ carries << 2 ^ carries << 3 ^ carries << 4;
    const { assert!(gf::REDUCE == 1 ^ 1 << 2 ^ 1 << 3 ^ 1 << 4) };
    (word & (LOW * 0x7f)) << 1 ^ reduce
}

fn words(bytes: &[u8]) -> Words {
    let (eights, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(eights[i]))
}

/// The bytes from `from` on that are too few for an engine's block.
fn bytewise<const R: usize>(
    coefficients: &Coefficients<R>,
    inputs: &[&[u8]],
    outputs: &mut [&mut [u8]; R],
    add: bool,
    from: usize,
) {
    for (r, output) in outputs.iter_mut().enumerate() {
        for (at, out) in output.iter_mut().enumerate().skip(from) {
            let sum =
                inputs.iter().zip(coefficients).fold(0, |sum, (input, column)| sum ^ gf::mul(column[r], input[at]));
            *out = if add { *out ^ sum } else { sum };
        }
    }
}

/// Bytes of each shard worked on before going on to the next rows: a group of inputs and a group of
/// outputs stay in the second-level cache, the outputs in the first. Measured: 4 to 32 KiB are
/// alike, less and more are slower.
const TILE_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_engine_of_this_machine_passes_its_self_test() {
        for engine in Engine::available() {
            assert!(engine.self_test(), "{}", engine.name());
        }
    }

    proptest! {
        #[test]
        fn every_engine_agrees_with_the_table_bytewise(
            columns in 1usize..20,
            rows in 0usize..10,
            len in prop_oneof![0usize..300, 4000usize..9000],
            seed in any::<u64>(),
        ) {
            let mut noise = crate::code::tests::noise(seed);
            let inputs: Vec<Vec<u8>> = (0..columns).map(|_| noise(len)).collect();
            let coefficients = noise(rows * columns);
            let views: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
            for engine in Engine::available() {
                // Outputs start dirty: whatever was there must not shine through.
                let mut outputs: Vec<Vec<u8>> = (0..rows).map(|_| noise(len)).collect();
                let mut out: Vec<&mut [u8]> = outputs.iter_mut().map(|o| &mut o[..]).collect();
                combine_with(engine, &coefficients, &views, &mut out);
                for (r, output) in outputs.iter().enumerate() {
                    for (at, &byte) in output.iter().enumerate() {
                        let want = (0..columns).fold(0, |sum, c| {
                            sum ^ gf::mul(coefficients[r * columns + c], inputs[c][at])
                        });
                        prop_assert_eq!(byte, want, "{} row {} byte {}", engine.name(), r, at);
                    }
                }
            }
        }
    }
}
