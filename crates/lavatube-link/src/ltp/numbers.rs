//! Session numbers that look random and do not repeat: a shuffled count, from a seed that is handed in.
//!
//! RFC 5326 wants numbers nobody guesses, CCSDS 734.1-B wants 32 bits, and the peer takes a number that it has just seen for the
//! same block. So each number of 32 bits but 0 is used once before any is used twice. It must not know where the seed is from.

/// Gives session numbers, and first numbers of checkpoints and reports.
#[derive(Debug)]
pub(crate) struct Numbers {
    seed: u64,
    next: u32,
}

impl Numbers {
    /// The numbers of this seed: another life of the engine, another seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    /// A number for a session, 1 to 2^32 - 1.
    pub fn session(&mut self) -> u64 {
        loop {
            let number = shuffled(self.seed, self.next);
            self.next = self.next.wrapping_add(1);
            if number > 0 {
                return u64::from(number);
            }
        }
    }

    /// Where the numbers of a session's checkpoints or reports begin, 1 to 2^14 - 1 (CCSDS 734.1-B 3.5.2).
    pub fn first(&self, session: u64) -> u64 {
        mix(self.seed ^ session.rotate_left(32) ^ FIRST) % ((1 << 14) - 1) + 1
    }
}

/// A permutation of 32 bits: four rounds of a Feistel network.
fn shuffled(seed: u64, count: u32) -> u32 {
    let (mut left, mut right) = ((count >> 16) as u16, count as u16);
    for round in 0..4u64 {
        let f = mix(seed ^ round << 56 ^ u64::from(right)) as u16;
        (left, right) = (right, left ^ f);
    }
    u32::from(left) << 16 | u32::from(right)
}

/// Splitmix64's finish.
fn mix(word: u64) -> u64 {
    let z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Tells first numbers from session numbers.
const FIRST: u64 = 0x6669_7273_7400_0000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_number_comes_twice_and_none_is_zero() {
        let mut numbers = Numbers::new(7);
        let all: BTreeSet<u64> = (0..200_000).map(|_| numbers.session()).collect();
        assert_eq!(all.len(), 200_000);
        assert!(all.iter().all(|n| (1..=u64::from(u32::MAX)).contains(n)));
        // They are spread: about half are in the upper half.
        let upper = all.iter().filter(|n| **n >= 1 << 31).count();
        assert!((95_000..105_000).contains(&upper), "{upper}");
    }

    #[test]
    fn another_seed_gives_other_numbers() {
        let first = |seed| (Numbers::new(seed).session(), Numbers::new(seed).first(9));
        assert_eq!(first(1), first(1));
        assert_ne!(first(1).0, first(2).0);
        assert!((0..1000).all(|seed| (1..1 << 14).contains(&first(seed).1)));
    }
}
