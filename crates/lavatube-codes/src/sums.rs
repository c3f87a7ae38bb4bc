//! Sums over GF(2^128): many blocks into one, each times a number of its own, and a block into one element.
//!
//! Why: the first is what a vault answers when it proves that it has every block, the second is what a tag of a block is made of;
//! both read every byte there is, so that they must be faster than drives and digests. Products are added up at twice their
//! width and reduced once at the end. An engine that fails its self-test is not used: a wrong proof would say that data are
//! lost. Step 18 of the walk. What it must not know: what is summed, and where the numbers come from.

use std::sync::OnceLock;

use crate::field::{ELEMENT_LEN, Wide, dot, element, elements, product};
#[cfg(target_arch = "x86_64")]
use crate::simd;

/// Which instructions sums use on this machine: "vpclmul-avx512", "pclmul" or "portable".
pub fn sums_engine_name() -> &'static str {
    Engine::best().name()
}

/// Many blocks added up into one: `sum[j] = XOR over i of dot(weight[i], block[i][j])`, for each element `j` of a block.
#[derive(Clone, Debug)]
pub struct Sums {
    engine: Engine,
    planes: Planes,
}

/// The parts of [`Wide`] of each element, in rows of their own.
#[derive(Clone, Debug)]
pub struct Planes {
    pub low: Vec<u8>,
    pub middle: Vec<u8>,
    pub high: Vec<u8>,
}

impl Sums {
    /// No blocks yet, of `block_len` bytes each: a multiple of 64.
    pub fn new(block_len: usize) -> Self {
        Self::resumed(&vec![0; block_len])
    }

    /// Goes on from what [`Sums::sum`] was.
    pub fn resumed(sum: &[u8]) -> Self {
        Self::by(Engine::best(), sum)
    }

    fn by(engine: Engine, sum: &[u8]) -> Self {
        assert!(!sum.is_empty() && sum.len().is_multiple_of(STEP), "blocks of whole steps");
        // What is reduced already is the high part of something whose lower part is zero.
        let zeros = vec![0; sum.len()];
        Self { engine, planes: Planes { low: zeros.clone(), middle: zeros, high: sum.to_vec() } }
    }

    /// Adds the blocks that `bytes` are cut into, the last of which may be shorter and counts as if zeros followed, each times
    /// its weight.
    pub fn add(&mut self, weights: &[u128], bytes: &[u8]) {
        let len = self.planes.low.len();
        assert_eq!(weights.len(), bytes.len().div_ceil(len), "a weight for each block");
        let whole = bytes.len() / len;
        let (blocks, rest) = bytes.split_at(whole * len);
        for (weights, blocks) in weights[..whole].chunks(BLOCKS_MAX).zip(blocks.chunks(BLOCKS_MAX * len)) {
            self.engine.accumulate(weights, blocks, &mut self.planes);
        }
        if !rest.is_empty() {
            let mut block = rest.to_vec();
            block.resize(len, 0);
            self.engine.accumulate(&weights[whole..], &block, &mut self.planes);
        }
    }

    /// The sum so far, `block_len` bytes.
    pub fn sum(&self) -> Vec<u8> {
        let Planes { low, middle, high } = &self.planes;
        let parts = elements(low).zip(elements(middle)).zip(elements(high));
        parts.flat_map(|((low, middle), high)| Wide { low, middle, high }.reduced().to_le_bytes()).collect()
    }
}

/// A hash of blocks into one element that is linear in the block: POLYVAL (RFC 8452) under a secret.
#[derive(Clone)]
pub struct Polyval {
    engine: Engine,
    /// Of the secret, the highest first: what each element of a block is multiplied with.
    powers: Vec<u8>,
}

impl Polyval {
    /// For blocks of `block_len` bytes: a multiple of 64.
    pub fn new(secret: u128, block_len: usize) -> Self {
        Self::by(Engine::best(), secret, block_len)
    }

    fn by(engine: Engine, secret: u128, block_len: usize) -> Self {
        assert!(block_len > 0 && block_len.is_multiple_of(STEP), "blocks of whole steps");
        let mut powers = vec![0; block_len];
        let mut power = secret;
        for place in powers.chunks_exact_mut(ELEMENT_LEN).rev() {
            place.copy_from_slice(&power.to_le_bytes());
            power = dot(power, secret);
        }
        Self { engine, powers }
    }

    /// The hash of a block; one that is shorter counts as if zeros followed.
    pub fn of(&self, block: &[u8]) -> u128 {
        assert!(block.len() <= self.powers.len(), "a block");
        let whole = block.len() / STEP * STEP;
        let mut sum = self.engine.inner(&self.powers[..whole], &block[..whole]);
        let rest = block[whole..].chunks(ELEMENT_LEN).map(element);
        for (x, power) in rest.zip(elements(&self.powers[whole..])) {
            sum.add(product(x, power));
        }
        sum.reduced()
    }
}

/// The sum of the products of the elements of `a` and `b` at the same place; what one has more than the other does not count.
pub fn inner_product(a: &[u8], b: &[u8]) -> u128 {
    let len = a.len().min(b.len()) / ELEMENT_LEN * ELEMENT_LEN;
    let whole = len / STEP * STEP;
    let mut sum = Engine::best().inner(&a[..whole], &b[..whole]);
    sum.add(inner(&a[whole..len], &b[whole..len]));
    sum.reduced()
}

/// A way to compute. The variants other than `Portable` hold the proof that the CPU has the instructions.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Clmul(simd::Clmul),
    #[cfg(target_arch = "x86_64")]
    WideClmul(simd::WideClmul),
}

impl Engine {
    /// The fastest engine this machine has that passes its self-test; found once.
    fn best() -> Self {
        static BEST: OnceLock<Engine> = OnceLock::new();
        *BEST.get_or_init(|| {
            let mut found = Self::available();
            found.retain(|engine| engine.self_test());
            found.pop().expect("a CPU that cannot even shift and add must not prove anything")
        })
    }

    /// Every engine this machine can run, slowest first.
    fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let special = [simd::Clmul::detect().map(Engine::Clmul), simd::WideClmul::detect().map(Engine::WideClmul)];
        #[cfg(not(target_arch = "x86_64"))]
        let special: [Option<Engine>; 0] = [];
        Some(Engine::Portable).into_iter().chain(special.into_iter().flatten()).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Engine::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Engine::Clmul(_) => "pclmul",
            #[cfg(target_arch = "x86_64")]
            Engine::WideClmul(_) => "vpclmul-avx512",
        }
    }

    /// Both loops against products one by one, over numbers with every bit set somewhere.
    fn self_test(self) -> bool {
        let bytes: Vec<u8> = (0..3 * STEP).map(|i| (i as u8).wrapping_mul(151).wrapping_add(7)).collect();
        let weights: Vec<u128> = (1..=3).map(|i: u128| (i << 127 | i).wrapping_mul(u128::MAX / 11)).collect();
        let mut sums = Sums::by(self, &[0; STEP]);
        sums.add(&weights, &bytes);
        let want = (0..STEP / ELEMENT_LEN).flat_map(|j| {
            let of = |(&weight, block): (&u128, &[u8])| dot(weight, element(&block[j * ELEMENT_LEN..][..ELEMENT_LEN]));
            weights.iter().zip(bytes.chunks_exact(STEP)).map(of).fold(0, |sum, x| sum ^ x).to_le_bytes()
        });
        let hash = Polyval::by(self, weights[2], bytes.len());
        let slow = elements(&bytes).fold(0, |sum, x| dot(sum ^ x, weights[2]));
        sums.sum().into_iter().eq(want) && hash.of(&bytes) == slow
    }

    /// Adds to the planes up to [`BLOCKS_MAX`] whole blocks.
    fn accumulate(self, weights: &[u128], blocks: &[u8], planes: &mut Planes) {
        match self {
            Engine::Portable => accumulate(weights, blocks, planes),
            #[cfg(target_arch = "x86_64")]
            Engine::Clmul(cpu) => cpu.accumulate(weights, blocks, planes),
            #[cfg(target_arch = "x86_64")]
            Engine::WideClmul(cpu) => cpu.accumulate(weights, blocks, planes),
        }
    }

    /// The sum of the products of elements at the same place; whole steps.
    fn inner(self, a: &[u8], b: &[u8]) -> Wide {
        match self {
            Engine::Portable => inner(a, b),
            #[cfg(target_arch = "x86_64")]
            Engine::Clmul(cpu) => cpu.inner(a, b),
            #[cfg(target_arch = "x86_64")]
            Engine::WideClmul(cpu) => cpu.inner(a, b),
        }
    }
}

fn accumulate(weights: &[u128], blocks: &[u8], planes: &mut Planes) {
    let len = planes.low.len();
    for (&weight, block) in weights.iter().zip(blocks.chunks_exact(len)) {
        for (j, x) in elements(block).enumerate() {
            let place = j * ELEMENT_LEN..(j + 1) * ELEMENT_LEN;
            let Wide { low, middle, high } = product(x, weight);
            for (plane, part) in [(&mut planes.low, low), (&mut planes.middle, middle), (&mut planes.high, high)] {
                let sum = element(&plane[place.clone()]) ^ part;
                plane[place.clone()].copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
}

fn inner(a: &[u8], b: &[u8]) -> Wide {
    elements(a).zip(elements(b)).fold(Wide::default(), |mut sum, (a, b)| {
        sum.add(product(a, b));
        sum
    })
}

/// Bytes that the widest engine takes at once.
pub const STEP: usize = 64;
/// The most blocks an engine reads side by side: they are a power of two apart, and more would throw each other out of the cache.
pub const BLOCKS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    #[test]
    fn every_engine_of_this_machine_passes_its_self_test() {
        for engine in Engine::available() {
            assert!(engine.self_test(), "{}", engine.name());
        }
    }

    proptest! {
        #[test]
        fn every_engine_agrees_with_the_naive_sums(
            steps in 1usize..9,
            bytes in 0usize..6000,
            cut in 0usize..20,
            seed in any::<u64>(),
        ) {
            let mut noise = crate::code::tests::noise(seed);
            let (len, bytes) = (steps * STEP, noise(bytes));
            let weights: Vec<u128> = bytes.chunks(len).map(|_| element(&noise(16))).collect();
            let secret = element(&noise(16));
            let want = naive::weighted_sum(len, &weights, &bytes);
            for engine in Engine::available() {
                // In two goes, with the sum written down between them.
                let blocks = cut.min(weights.len());
                let at = (blocks * len).min(bytes.len());
                let mut sums = Sums::by(engine, &vec![0; len]);
                sums.add(&weights[..blocks], &bytes[..at]);
                let mut sums = Sums::by(engine, &sums.sum());
                sums.add(&weights[blocks..], &bytes[at..]);
                prop_assert!(sums.sum() == want, "{}", engine.name());

                let hash = Polyval::by(engine, secret, len);
                for block in bytes.chunks(len) {
                    let mut padded = block.to_vec();
                    padded.resize(len, 0);
                    let padded: Vec<u128> = elements(&padded).collect();
                    prop_assert_eq!(hash.of(block), naive::polyval(secret, &padded), "{}", engine.name());
                }
            }
        }

        /// What proofs rest on: the hash of a weighted sum is the weighted sum of the hashes.
        #[test]
        fn hashing_and_summing_change_places(blocks in 1usize..20, seed in any::<u64>()) {
            let mut noise = crate::code::tests::noise(seed);
            let bytes = noise(blocks * 256 - 100);
            let weights: Vec<u128> = (0..blocks).map(|_| element(&noise(16))).collect();
            let hash = Polyval::new(element(&noise(16)), 256);
            let mut sums = Sums::new(256);
            sums.add(&weights, &bytes);
            let of_hashes = bytes.chunks(256).zip(&weights).fold(0, |sum, (block, &w)| sum ^ dot(w, hash.of(block)));
            prop_assert_eq!(hash.of(&sums.sum()), of_hashes);
            let hashes: Vec<u8> = bytes.chunks(256).flat_map(|block| hash.of(block).to_le_bytes()).collect();
            let weights: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
            prop_assert_eq!(inner_product(&hashes, &weights), of_hashes);
        }
    }
}
