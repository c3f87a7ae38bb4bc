//! Numbers from a seed (splitmix64).
//!
//! It exists so that what is drawn can be drawn again. Each kind of mishap has a stream of its own, so that one more of one kind moves none
//! of another. It must not know entropy.

/// A stream of chance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chance(u64);

impl Chance {
    /// The `stream`-th stream of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed);
        let start = chance.word() ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(start)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(n);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number of 0 to 1, 1 not included.
    pub fn share(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens.
    pub fn hits(&mut self, probability: f64) -> bool {
        self.share() < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let first = |seed, stream| Chance::new(seed, stream).word();
        assert_eq!(first(1, 2), first(1, 2));
        assert!(first(1, 2) != first(1, 3) && first(1, 2) != first(2, 2));
        let mut chance = Chance::new(7, 0);
        let hits = (0..100_000).filter(|_| chance.hits(0.1)).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| chance.below(3) < 3) && chance.below(0) == 0);
    }
}
