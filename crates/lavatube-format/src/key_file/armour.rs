//! The text around a key file: `BEGIN` and `END` lines and base64 (RFC 4648 section 4) in 64 columns.
//!
//! It exists so that a key survives mail, paper and editors. Base64 is strict: padded, no stray bits, one text for one
//! key. It must not know what it wraps. Characters are computed, not looked up, so that secrets index no table.

use zeroize::Zeroizing;

use crate::wire::Malformed;

const WHAT: &str = "key file";
const COLUMNS: usize = 64;

/// The armoured text of `bytes`.
pub(super) fn wrap(word: &str, bytes: &[u8]) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(bytes.len() * 3 / 2 + 200));
    out.push_str(&format!("-----BEGIN LAVATUBE {word} KEY-----\n"));
    for line in bytes.chunks(COLUMNS / 4 * 3) {
        put_base64(&mut out, line);
        out.push('\n');
    }
    out.push_str(&format!("-----END LAVATUBE {word} KEY-----\n"));
    out
}

/// Appends the base64 of `bytes`, in one line.
pub(crate) fn put_base64(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            out.push(if i <= group.len() { symbol(bits >> (18 - 6 * i) & 63) } else { '=' });
        }
    }
}

/// The bytes in armour with this word; `None` when the text has no such armour.
pub(super) fn strip(word: &str, text: &str) -> Option<Result<Zeroizing<Vec<u8>>, Malformed>> {
    let rest = text.trim().strip_prefix(&format!("-----BEGIN LAVATUBE {word} KEY-----"))?;
    let inner = rest.strip_suffix(&format!("-----END LAVATUBE {word} KEY-----"))?;
    Some(decode(inner))
}

/// The bytes of base64; white space is passed over.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, Malformed> {
    let fail = |rule| Malformed { what: WHAT, at: 0, rule };
    let symbols = Zeroizing::new(text.bytes().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<_>>());
    if !symbols.len().is_multiple_of(4) {
        return Err(fail("base64 is cut: its length is not a multiple of four"));
    }
    let padding = symbols.iter().rev().take(2).take_while(|s| **s == b'=').count();
    let mut out = Zeroizing::new(Vec::with_capacity(symbols.len() / 4 * 3));
    let body = &symbols[..symbols.len() - padding];
    for group in body.chunks(4) {
        let mut bits = 0;
        for i in 0..4 {
            let value = group.get(i).map_or(Some(0), |s| value(*s)).ok_or_else(|| fail("not a base64 character"))?;
            bits = bits << 6 | value;
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        // Four symbols are three bytes, three are two, two are one; one alone cannot be (the length was checked).
        let (bytes, spare) = bytes.split_at(group.len() - 1);
        if spare.iter().any(|b| *b != 0) {
            return Err(fail("base64 has stray bits at its end"));
        }
        out.extend_from_slice(bytes);
    }
    Ok(out)
}

/// All ones when `from <= v <= to`, else zero.
const fn between(v: u32, from: u32, to: u32) -> u32 {
    let inside = (v.wrapping_sub(from) | to.wrapping_sub(v)) >> 31;
    inside.wrapping_sub(1)
}

fn symbol(v: u32) -> char {
    let code = between(v, 0, 25) & (v + 65)
        | between(v, 26, 51) & (v + 71)
        | between(v, 52, 61) & v.wrapping_sub(4)
        | between(v, 62, 62) & 43
        | between(v, 63, 63) & 47;
    char::from_u32(code).unwrap_or('=')
}

fn value(symbol: u8) -> Option<u32> {
    let c = u32::from(symbol);
    let one_more = between(c, 65, 90) & c.wrapping_sub(64)
        | between(c, 97, 122) & c.wrapping_sub(70)
        | between(c, 48, 57) & (c + 5)
        | between(c, 43, 43) & 63
        | between(c, 47, 47) & 64;
    one_more.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> String {
        wrap("READ", bytes).lines().filter(|l| !l.starts_with('-')).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(text(plain.as_bytes()), coded);
            assert_eq!(decode(coded).unwrap().as_slice(), plain.as_bytes());
        }
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        for (n, c) in (0u32..).zip(alphabet.chars()) {
            assert_eq!(symbol(n), c);
            assert_eq!(value(u8::try_from(c).unwrap()), Some(n));
        }
        let valid = (0..=255u8).filter(|b| value(*b).is_some()).count();
        assert_eq!(valid, 64);
    }

    #[test]
    fn base64_in_another_form_is_refused() {
        for bad in ["Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zg==Zg==", "Zm-v", "Zm9v="] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn armour_survives_mail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = wrap("VAULT", &bytes);
            prop_assert!(text.lines().all(|l| l.len() <= COLUMNS));
            let mailed = format!("\r\n  {}\r\n", text.replace('\n', " \r\n"));
            let stripped = strip("VAULT", &mailed).unwrap().unwrap();
            prop_assert_eq!(stripped.as_slice(), &bytes[..]);
            prop_assert!(strip("READ", &mailed).is_none());
        }
    }
}
