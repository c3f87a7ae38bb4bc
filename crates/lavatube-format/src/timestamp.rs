//! Time-stamp tokens of RFC 3161, as far as evidence needs them: the question to an authority, and of its token what it is
//! about and when it was made.
//!
//! Whether the authority signed it is not looked at here: that needs its certificate, and is done with `openssl ts -verify`.
//! It must not know what is stamped.

use crate::wire::Malformed;

/// What a token says. Its signature is not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The SHA-256 digest it is about.
    pub imprint: [u8; 32],
    /// When it was made: as it stands there, `20261127233000Z` say.
    pub time: String,
}

/// A question for a token about `imprint`, a SHA-256 digest, that asks for the authority's certificate, too.
pub fn query(imprint: &[u8; 32], nonce: [u8; 8]) -> Vec<u8> {
    //= rfc3161#2.4.1 version 1, digest, nonce, certificate asked for
    let digest =
        der(SEQUENCE, &[&der(SEQUENCE, &[SHA_256, &[0x05, 0x00]].concat())[..], &der(OCTETS, imprint)].concat());
    // A number that begins with a set bit would be negative, one that begins with zeros not be shortest.
    let nonce = der(INTEGER, &[&[0x40 | (nonce[0] & 0x3f)], &nonce[1..]].concat());
    der(SEQUENCE, &[&der(INTEGER, &[1])[..], &digest, &nonce, &[0x01, 0x01, 0xff]].concat())
}

impl Token {
    /// Reads an authority's reply, or the token in it.
    ///
    /// # Errors
    /// [`Malformed`] when it is neither, says that it was refused, or is about another kind of digest.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut outer = Der::new(bytes).enter(SEQUENCE)?;
        // A reply begins with a status, a token with what it is.
        let mut content = match outer.peek() {
            Some(SEQUENCE) => {
                let status = outer.enter(SEQUENCE)?.take(INTEGER)?;
                if !matches!(status, [0 | 1]) {
                    return Err(fail("the authority refused"));
                }
                outer.enter(SEQUENCE)?
            }
            _ => outer,
        };
        if content.take(OID)? != SIGNED_DATA {
            return Err(fail("nothing signed"));
        }
        let mut signed = content.enter(CONTEXT_0)?.enter(SEQUENCE)?;
        signed.take(INTEGER)?;
        signed.take(SET)?;
        let mut inside = signed.enter(SEQUENCE)?;
        if inside.take(OID)? != TST_INFO {
            return Err(fail("signed, but no time stamp"));
        }
        let mut octets = inside.enter(CONTEXT_0)?;
        let mut info = Der::new(octets.take(OCTETS)?).enter(SEQUENCE)?;
        info.take(INTEGER)?;
        info.take(OID)?;
        let mut about = info.enter(SEQUENCE)?;
        let mut algorithm = about.enter(SEQUENCE)?;
        if algorithm.take(OID)? != SHA_256.get(2..).unwrap_or_default() {
            return Err(fail("about another digest than SHA-256"));
        }
        let imprint = about.take(OCTETS)?.try_into().map_err(|_| fail("a digest that is no SHA-256"))?;
        info.take(INTEGER)?;
        let time = std::str::from_utf8(info.take(TIME)?).ok().filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
        Ok(Self { imprint, time: time.ok_or_else(|| fail("a time that is none"))?.to_owned() })
    }
}

/// Values one after the other.
struct Der<'b>(&'b [u8]);

impl<'b> Der<'b> {
    fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next value, which has this tag.
    fn take(&mut self, tag: u8) -> Result<&'b [u8], Malformed> {
        let cut = || fail("it ends too early");
        let (found, rest) = self.0.split_first().ok_or_else(cut)?;
        if *found != tag {
            return Err(fail("not built like a time stamp"));
        }
        let (first, rest) = rest.split_first().ok_or_else(cut)?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or_else(cut)?;
                (digits.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return Err(fail("a length of another form")),
        };
        let (content, rest) = rest.split_at_checked(len).ok_or_else(cut)?;
        self.0 = rest;
        Ok(content)
    }

    fn enter(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.take(tag).map(Self)
    }
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).ok().filter(|len| *len < 0x80).expect("a question is short");
    [&[tag, len][..], content].concat()
}

fn fail(rule: &'static str) -> Malformed {
    Malformed { what: "time-stamp token", at: 0, rule }
}

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;
/// 2.16.840.1.101.3.4.2.1, with its head.
const SHA_256: &[u8] = &[0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.16.1.4.
const TST_INFO: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x04];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_question_is_the_der_of_the_standard() {
        let query = query(&[0xab; 32], [0xff, 2, 3, 4, 5, 6, 7, 8]);
        let head = "3043020101 3031 300d 0609608648016503040201 0500 0420".replace(' ', "");
        let text: String = query.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, format!("{head}{}02087f02030405060708 0101ff", "ab".repeat(32)).replace(' ', ""));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Token::decode(&bytes);
            let _ = Token::decode(&[&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff][..], &bytes].concat());
            let _ = Token::decode(&[&[SEQUENCE, 0x81, 200], &[OID, 9][..], SIGNED_DATA, &bytes].concat());
        }
    }
}
