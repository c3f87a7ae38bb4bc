//! GF(2^128), the field of POLYVAL (RFC 8452): how 16 bytes are multiplied with 16 bytes.
//!
//! Why: a proof that data are still there adds up all of them, each block times a number that nobody
//! could know before, and only in a field this large is a wrong sum never right by chance. It is
//! POLYVAL's because its products fit instructions that every processor has, and because others
//! published vectors. Step 18 of the walk. What it must not know: blocks, tags, keys.
//!
//! An element is 16 bytes, little-endian: bit `i` of the number is the coefficient of `x^i`. The
//! polynomial is `x^128 + x^127 + x^126 + x^121 + 1`, addition is XOR, and the product is that of the
//! RFC: `dot(a, b) = a * b * x^-128`.

/// `dot(a, b)` of RFC 8452. In constant time where the processor multiplies in it.
pub fn dot(a: u128, b: u128) -> u128 {
    product(a, b).reduced()
}

/// The element in up to 16 bytes; what is missing is zero.
pub fn element(bytes: &[u8]) -> u128 {
    let mut whole = [0; ELEMENT_LEN];
    whole[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(whole)
}

/// The elements in bytes, one after the other.
pub fn elements(bytes: &[u8]) -> impl Iterator<Item = u128> {
    bytes.chunks_exact(ELEMENT_LEN).map(element)
}

/// A sum of products before it is reduced: `low + (middle * x^64) + (high * x^128)`. Products can be added
/// up like this without end, and be reduced once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wide {
    pub low: u128,
    pub middle: u128,
    pub high: u128,
}

impl Wide {
    /// Adds another.
    pub fn add(&mut self, other: Wide) {
        self.low ^= other.low;
        self.middle ^= other.middle;
        self.high ^= other.high;
    }

    /// Times `x^-128`, in the field: the lower half is made zero by adding multiples of the polynomial, 64 bits at a time.
    pub fn reduced(self) -> u128 {
        let (low, high) = (self.low ^ self.middle << 64, self.high ^ self.middle >> 64);
        let fold = |word: u128| word << 64 ^ word << 63 ^ word << 62 ^ word << 57;
        let upper = low >> 64 ^ fold(low & LOW_WORD);
        high ^ upper >> 64 ^ fold(upper & LOW_WORD)
    }
}

/// The product as polynomials, by instructions that every processor has.
pub(crate) fn product(a: u128, b: u128) -> Wide {
    let [a, b] = [a, b].map(|x| (x as u64, (x >> 64) as u64));
    Wide { low: carryless(a.0, b.0), middle: carryless(a.0, b.1) ^ carryless(a.1, b.0), high: carryless(a.1, b.1) }
}

/// The product of two polynomials of 64 coefficients.
fn carryless(a: u64, b: u64) -> u128 {
    let low = lower_half(a, b);
    // A product read backwards is that of the factors read backwards.
    let high = lower_half(a.reverse_bits(), b.reverse_bits()).reverse_bits() >> 1;
    u128::from(high) << 64 | u128::from(low)
}

/// The lower 64 coefficients of a product. Every fourth bit is multiplied at a time, so that up to 15 carries fall between
/// the bits that count, and 16 only where they leave the number.
fn lower_half(a: u64, b: u64) -> u64 {
    let every_fourth = |x: u64, first: usize| x & 0x1111_1111_1111_1111 << first;
    let mut product = 0;
    for class in 0..4 {
        let terms = (0..4).map(|i| every_fourth(a, i).wrapping_mul(every_fourth(b, (class + 4 - i) % 4)));
        product |= every_fourth(terms.fold(0, |sum, term| sum ^ term), class);
    }
    product
}

/// Bytes of an element.
pub const ELEMENT_LEN: usize = 16;
const LOW_WORD: u128 = u64::MAX as u128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    fn hex(text: &str) -> u128 {
        u128::from_str_radix(text, 16).unwrap().swap_bytes()
    }

    #[test]
    fn products_are_those_of_rfc_8452() {
        // Section 7.
        let a = hex("66e94bd4ef8a2c3b884cfa59ca342b2e");
        let b = hex("ff000000000000000000000000000000");
        let want = hex("ebe563401e7e91ea3ad6426b8140c394");
        assert_eq!(dot(a, b), want);
        assert_eq!(naive::dot(a, b), want);
        // Appendix A.
        let h = hex("25629347589242761d31f826ba4b757b");
        let x = [hex("4f4f95668c83dfb6401762bb2d01a262"), hex("d1a24ddd2721d006bbe45f20d3c9f362")];
        assert_eq!(naive::polyval(h, &x), hex("f7a3b47b846119fae5b7866cf5e5b77e"));
    }

    proptest! {
        #[test]
        fn products_agree_with_the_naive_ones(a in any::<u128>(), b in any::<u128>(), c in any::<u128>()) {
            prop_assert_eq!(dot(a, b), naive::dot(a, b));
            let mut sum = product(a, b);
            sum.add(product(c, b));
            prop_assert_eq!(sum.reduced(), naive::dot(a ^ c, b));
        }
    }

    #[test]
    fn bits_at_the_edges_carry_nowhere() {
        for a in [1, u128::MAX, 1 << 127, 1 << 63, 1 << 64, u128::from(u64::MAX), !u128::from(u64::MAX)] {
            for b in [0, 1, u128::MAX, 1 << 127, 1 << 60, u128::from(u64::MAX)] {
                assert_eq!(dot(a, b), naive::dot(a, b), "{a:x} {b:x}");
            }
        }
    }
}
