//! Cursors over bytes: the primitives of `docs/FORMAT.md` section 1 that every layout is made of.
//!
//! [`Reader`] never panics and hands out slices of its input; [`put_varint`] and friends append to a `Vec`. It knows
//! nothing of what the bytes mean.

use lavatube_base::digest::h16;
use lavatube_base::time::WallTime;

/// Bytes that break a rule of a layout: what was being read, where, and which rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} at byte {at}: {rule}")]
pub struct Malformed {
    /// The layout, such as `"pack index"`.
    pub what: &'static str,
    /// Offset in the input where the rule was broken.
    pub at: usize,
    /// The rule, in words.
    pub rule: &'static str,
}

/// A cursor over the bytes of one layout.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    what: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`; `what` names the layout in errors.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes, at: 0 }
    }

    /// An error at the present position.
    pub fn fail(&self, rule: &'static str) -> Malformed {
        Malformed { what: self.what, at: self.at, rule }
    }

    /// `Ok` when `kept`, else an error naming `rule`.
    ///
    /// # Errors
    /// [`Malformed`] with `rule` when `kept` is false.
    pub fn ensure(&self, kept: bool, rule: &'static str) -> Result<(), Malformed> {
        if kept { Ok(()) } else { Err(self.fail(rule)) }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Number of bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `n` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        //= FORMAT#F2 a length is compared with what is left before anything is made of it
        self.ensure(n <= self.left(), "longer than what is left of the input")?;
        let out = &self.bytes[self.at..self.at + n];
        self.at += n;
        Ok(out)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end of the input.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian `u32`.
    ///
    /// # Errors
    /// When fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A little-endian `u64`.
    ///
    /// # Errors
    /// When fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A byte that is 1 for yes and 0 for no.
    ///
    /// # Errors
    /// When it is missing, or another.
    pub fn flag(&mut self, rule: &'static str) -> Result<bool, Malformed> {
        let byte = self.u8()?;
        self.ensure(byte <= 1, rule)?;
        Ok(byte == 1)
    }

    /// A time as [`put_time`] has it.
    ///
    /// # Errors
    /// When bytes are missing, or the nanoseconds are a second or more.
    pub fn time(&mut self) -> Result<WallTime, Malformed> {
        let time = WallTime { s: self.u64()?.cast_signed(), ns: self.u32()? };
        self.ensure(time.ns < 1_000_000_000, "more than a second of nanoseconds")?;
        Ok(time)
    }

    /// A varint in shortest form.
    ///
    /// # Errors
    /// When it is longer than needed, exceeds 64 bits, or is cut.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            //= FORMAT#F1 shortest form only, and nothing beyond 64 bits
            self.ensure(shift < 63 || low <= 1, "varint exceeds 64 bits")?;
            value |= low << shift;
            if byte & 0x80 == 0 {
                self.ensure(byte != 0 || shift == 0, "varint is not in shortest form")?;
                return Ok(value);
            }
        }
        Err(self.fail("varint is longer than 10 bytes"))
    }

    /// A varint that must not exceed `max`.
    ///
    /// # Errors
    /// As [`Reader::varint`], or when it exceeds `max`.
    pub fn varint_max(&mut self, max: usize, rule: &'static str) -> Result<usize, Malformed> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(v) if v <= max => Ok(v),
            _ => Err(self.fail(rule)),
        }
    }

    /// A zigzag-coded signed integer.
    ///
    /// # Errors
    /// As [`Reader::varint`].
    pub fn zigzag(&mut self) -> Result<i64, Malformed> {
        let v = self.varint()?;
        Ok((v >> 1).cast_signed() ^ -((v & 1).cast_signed()))
    }

    /// A varint length and that many bytes, at most `max`.
    ///
    /// # Errors
    /// When longer than `max` or than what is left.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let n = self.varint_max(max, "length exceeds its limit")?;
        self.take(n)
    }

    /// `n` bytes that must all be zero.
    ///
    /// # Errors
    /// When one is not.
    pub fn reserved(&mut self, n: usize) -> Result<(), Malformed> {
        let zero = self.take(n)?.iter().all(|b| *b == 0);
        //= FORMAT#F5 reserved bytes are zero
        self.ensure(zero, "reserved bytes are not zero")
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn finish(self) -> Result<(), Malformed> {
        //= FORMAT#F3 nothing may follow a complete value
        self.ensure(self.left() == 0, "bytes follow the end")
    }
}

/// Appends a time: seconds since 1970 and nanoseconds.
pub fn put_time(out: &mut Vec<u8>, time: WallTime) {
    out.extend_from_slice(&time.s.to_le_bytes());
    out.extend_from_slice(&time.ns.to_le_bytes());
}

/// Appends the H16 of all that `out` has from `start` on.
pub fn put_check(out: &mut Vec<u8>, start: usize) {
    let check = h16(&[&out[start..]]);
    out.extend_from_slice(&check);
}

/// Whether the last 16 bytes are the H16 of those before.
pub fn has_check(bytes: &[u8]) -> bool {
    bytes.split_last_chunk::<16>().is_some_and(|(body, check)| *check == h16(&[body]))
}

/// Appends a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a `usize` as varint.
pub fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, len as u64);
}

/// Appends a zigzag-coded signed integer.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Appends a varint length and the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_survive(v: u64, z: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            put_zigzag(&mut out, z);
            let mut r = Reader::new("test", &out);
            prop_assert_eq!(r.varint(), Ok(v));
            prop_assert_eq!(r.zigzag(), Ok(z));
            prop_assert_eq!(r.finish(), Ok(()));
        }

        #[test]
        fn any_varint_that_decodes_is_the_one_that_encodes(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut r = Reader::new("test", &bytes);
            if let Ok(v) = r.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, v);
                prop_assert_eq!(&out[..], &bytes[..r.position()]);
            }
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::MAX);
        assert!(Reader::new("test", &out).bytes(usize::MAX).is_err());
    }
}
