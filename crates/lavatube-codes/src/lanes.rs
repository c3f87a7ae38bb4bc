//! Transforms over GF(2^16) by bit matrices: what makes the link's packet code as fast as its memory.
//!
//! Why: the additive FFT of a packet code is butterflies, and a butterfly is one product and two sums. GFNI multiplies by any
//! linear map of bits, so an element of GF(2^16) is four 8 x 8 matrices, in whatever basis its maker likes. A lane is 32
//! elements, low bytes first, then high bytes; a column of lanes stays in the second-level cache from the first butterfly to the
//! last, which a transform of whole symbols does not. What it must not know: the field's polynomial, its basis, what a packet is.

#[cfg(target_arch = "x86_64")]
use crate::simd;

/// 32 elements: 32 low bytes, then 32 high bytes.
pub type Lane = [u8; 64];

/// Multiplication by one element, as bit matrices in the form of `GF2P8AFFINEQB`: low to low, high to low, low to high, high to high.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(pub(crate) [u64; 4]);

impl Factor {
    /// Everything times this is zero.
    pub const ZERO: Self = Self([0; 4]);

    /// The factor whose product with the element `1 << i` is `products[i]`.
    pub fn new(products: [u16; 16]) -> Self {
        let bytes = |first: usize, shift: u32| {
            // Row `i` is the product with bit `i`; the instruction wants output bits as rows, the highest in the lowest byte.
            let rows: [u8; 8] = std::array::from_fn(|i| (products[first + i] >> shift & 0xff) as u8);
            transpose(u64::from_le_bytes(rows)).swap_bytes()
        };
        Self([bytes(0, 0), bytes(8, 0), bytes(0, 8), bytes(8, 8)])
    }

    /// The product with `element`, bit by bit: for the self-test.
    pub fn times(self, element: u16) -> u16 {
        let [low, high] = element.to_le_bytes();
        let apply = |matrix: u64, byte: u8| {
            let rows = matrix.to_le_bytes();
            (0..8).fold(0, |out, bit| out | ((rows[7 - bit] & byte).count_ones() as u8 & 1) << bit)
        };
        let [a, b, c, d] = self.0;
        u16::from_le_bytes([apply(a, low) ^ apply(b, high), apply(c, low) ^ apply(d, high)])
    }
}

/// An 8 x 8 bit matrix with rows and columns exchanged: byte `i`, bit `j` becomes byte `j`, bit `i`.
fn transpose(mut x: u64) -> u64 {
    for (shift, mask) in [(7, 0x00aa_00aa_00aa_00aa), (14, 0x0000_cccc_0000_cccc), (28, 0x0000_0000_f0f0_f0f0)] {
        let swapped = (x ^ x >> shift) & mask;
        x ^= swapped ^ swapped << shift;
    }
    x
}

/// A way to transform lanes on this machine.
#[derive(Clone, Copy, Debug)]
pub enum Lanes {
    /// AVX2 and GFNI.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    Pair(simd::LanesAvx2),
    /// AVX-512 and GFNI.
    #[cfg(target_arch = "x86_64")]
    #[doc(hidden)]
    Wide(simd::LanesAvx512),
}

impl Lanes {
    /// The fastest way this machine has that passes its self-test; `None` where there is none, and another code must do.
    pub fn best() -> Option<Self> {
        static BEST: std::sync::OnceLock<Option<Lanes>> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available().into_iter().rfind(|lanes| lanes.self_test()))
    }

    /// Every way this machine has, the slowest first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let found = [simd::LanesAvx2::detect().map(Self::Pair), simd::LanesAvx512::detect().map(Self::Wide)]
            .into_iter()
            .flatten();
        #[cfg(not(target_arch = "x86_64"))]
        let found = std::iter::empty();
        found.collect()
    }

    /// The transform, a power of two of lanes long. Of a binary tree of butterflies in order, `factors` has one for each:
    /// the middle one joins the halves, and so on down.
    pub fn fft(self, lanes: &mut [Lane], factors: &[Factor]) {
        check(lanes, factors);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pair(cpu) => cpu.fft(lanes, factors),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(cpu) => cpu.fft(lanes, factors),
        }
    }

    /// The inverse of [`Lanes::fft`] with the same factors.
    pub fn inverse(self, lanes: &mut [Lane], factors: &[Factor]) {
        check(lanes, factors);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pair(cpu) => cpu.inverse(lanes, factors),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(cpu) => cpu.inverse(lanes, factors),
        }
    }

    /// Each lane times its factor.
    pub fn scale(self, lanes: &mut [Lane], factors: &[Factor]) {
        assert_eq!(lanes.len(), factors.len(), "a factor for each lane");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pair(cpu) => cpu.scale(lanes, factors),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(cpu) => cpu.scale(lanes, factors),
        }
    }

    /// The part of [`Lanes::inverse`] that joins two halves, where only the lower half of what comes of it is wanted: into `low`.
    pub fn join(self, low: &mut [Lane], high: &[Lane], factor: &Factor) {
        assert_eq!(low.len(), high.len(), "two halves");
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Pair(cpu) => cpu.join(low, high, factor),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(cpu) => cpu.join(low, high, factor),
        }
    }

    /// Some products, sums and a transform there and back, compared bit by bit.
    fn self_test(self) -> bool {
        let factor = |i: u16| Factor::new(std::array::from_fn(|bit| i.wrapping_mul(40_503).rotate_left(bit as u32)));
        let factors: Vec<Factor> = (0..64).map(factor).collect();
        let noise = |i: usize| -> Lane { std::array::from_fn(|b| (i * 64 + b).wrapping_mul(167) as u8 ^ i as u8) };
        let lanes: Vec<Lane> = (0..64).map(noise).collect();
        let (mut scaled, mut turned, mut naive) = (lanes.clone(), lanes.clone(), lanes.clone());
        self.scale(&mut scaled, &factors);
        let mut products = lanes.iter().zip(&factors).zip(&scaled);
        let right = products.all(|((lane, factor), scaled)| product(lane, *factor) == *scaled);
        naive_fft(&mut naive, &factors[..63]);
        self.fft(&mut turned, &factors[..63]);
        let forth = naive == turned;
        let joined = self.inverse_by_halves(&turned, &factors[..63]);
        self.inverse(&mut turned, &factors[..63]);
        right && forth && turned == lanes && joined == lanes[..32]
    }

    /// The lower half of what [`Lanes::inverse`] gives, by [`Lanes::join`].
    fn inverse_by_halves(self, lanes: &[Lane], factors: &[Factor]) -> Vec<Lane> {
        let (low, high) = lanes.split_at(lanes.len() / 2);
        let (mut low, mut high) = (low.to_vec(), high.to_vec());
        self.inverse(&mut low, &factors[..high.len() - 1]);
        self.inverse(&mut high, &factors[low.len()..]);
        self.join(&mut low, &high, &factors[high.len() - 1]);
        low
    }
}

fn check(lanes: &[Lane], factors: &[Factor]) {
    assert!(lanes.len().is_power_of_two(), "a transform of a power of two");
    assert_eq!(lanes.len(), factors.len() + 1, "a factor for each butterfly");
}

/// A lane times a factor, element by element.
fn product(lane: &Lane, factor: Factor) -> Lane {
    let mut out = [0; 64];
    for i in 0..32 {
        let [low, high] = factor.times(u16::from_le_bytes([lane[i], lane[32 + i]])).to_le_bytes();
        (out[i], out[32 + i]) = (low, high);
    }
    out
}

/// The transform for reading: the oracle of the fast ones.
fn naive_fft(lanes: &mut [Lane], factors: &[Factor]) {
    let half = lanes.len() / 2;
    if half == 0 {
        return;
    }
    let (low, high) = lanes.split_at_mut(half);
    for (a, b) in low.iter_mut().zip(high.iter_mut()) {
        add(a, &product(b, factors[half - 1]));
        add(b, a);
    }
    naive_fft(low, &factors[..half - 1]);
    naive_fft(high, &factors[half..]);
}

/// `a += b`.
pub fn add(a: &mut Lane, b: &Lane) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_of_this_machine_passes_its_self_test() {
        for lanes in Lanes::available() {
            assert!(lanes.self_test(), "{lanes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_factor_is_linear_and_does_what_it_was_made_of(products: [u16; 16], element: u16) {
            let factor = Factor::new(products);
            let sum = (0..16).filter(|bit| element >> bit & 1 == 1).fold(0, |sum, bit| sum ^ products[bit]);
            prop_assert_eq!(factor.times(element), sum);
        }

        #[test]
        fn every_way_transforms_as_the_naive_one_does_and_back(log2 in 0u32..8, seed: u64) {
            let mut noise = crate::code::tests::noise(seed);
            let n = 1usize << log2;
            let mut word = || u16::from_le_bytes(noise(2).try_into().unwrap());
            let factors: Vec<Factor> = (1..n).map(|_| Factor::new(std::array::from_fn(|_| word()))).collect();
            let before: Vec<Lane> = (0..n).map(|_| noise(64).try_into().unwrap()).collect();
            let mut naive = before.clone();
            naive_fft(&mut naive, &factors);
            for lanes in Lanes::available() {
                let mut turned = before.clone();
                lanes.fft(&mut turned, &factors);
                prop_assert!(turned == naive, "{:?}", lanes);
                let half = (n > 1).then(|| lanes.inverse_by_halves(&turned, &factors));
                prop_assert!(half.is_none_or(|half| half == before[..n / 2]), "{:?}", lanes);
                lanes.inverse(&mut turned, &factors);
                prop_assert!(turned == before, "{:?}", lanes);
            }
        }
    }
}
