//! The first look at foreign bytes: whether they have the shape of a bundle, within our limits.
//!
//! The library makes a value of every block it meets, in maps; ten million blocks of six bytes would be ten million values.
//! So bytes are walked once here, without an allocation, before it sees any. What RFC 9171 calls deterministic and definite
//! is demanded to the letter: a bundle that is not canonical could not be passed on as it came.

use lavatube_base::limits::{BUNDLE_BLOCK_LEN_MAX, BUNDLE_BLOCKS_MAX, BUNDLE_LEN_MAX, BUNDLE_PAYLOAD_LEN_MAX};
use minicbor::Decoder;
use minicbor::data::Type;

use crate::BundleError;

/// Whether `bytes` have the shape of a bundle.
///
/// # Errors
/// [`BundleError`] at the first rule that is broken.
pub fn scan(bytes: &[u8]) -> Result<(), BundleError> {
    if bytes.len() > BUNDLE_LEN_MAX {
        return Err(BundleError::TooLong);
    }
    //= rfc9171#4.1 a bundle is one array of indefinite length, from the first byte to the last
    let Some((&ARRAY, rest)) = bytes.split_first() else { return Err(bad(0, "not an array of indefinite length")) };
    let mut at = 1 + primary(rest)?;
    let mut blocks = 1;
    loop {
        match &bytes[at..] {
            [] => return Err(bad(at, "it ends too early")),
            [BREAK] => return Ok(()),
            [BREAK, ..] => return Err(bad(at, "bytes behind its end")),
            rest => {
                blocks += 1;
                if blocks > BUNDLE_BLOCKS_MAX {
                    return Err(BundleError::TooLong);
                }
                at += block(rest, at)?;
            }
        }
    }
}

/// Length of the primary block in front of `rest`.
fn primary(rest: &[u8]) -> Result<usize, BundleError> {
    // Walking is bounded by the window: what is nested cannot be deeper than it is long.
    let window = &rest[..rest.len().min(BUNDLE_BLOCK_LEN_MAX)];
    let mut d = Decoder::new(window);
    //= rfc9171#4.3.1 8 to 11 elements, of which the first is the version
    if !matches!(d.array(), Ok(Some(8..=11))) || !matches!(d.u8(), Ok(7)) {
        return Err(bad(1, "not a primary block of version 7"));
    }
    let mut d = Decoder::new(window);
    match d.skip() {
        Ok(()) => Ok(d.position()),
        Err(_) if window.len() < rest.len() => Err(BundleError::TooLong),
        Err(_) => Err(bad(1 + d.position(), "the primary block is cut or not CBOR")),
    }
}

/// Length of the block in front of `rest`, which lies at `at`.
fn block(rest: &[u8], at: usize) -> Result<usize, BundleError> {
    let mut d = Decoder::new(rest);
    let cut = |_| bad(at, "a block is cut, or not an array of its few fields");
    //= rfc9171#4.3.2 five elements, six with a CRC
    let elements = d.array().map_err(cut)?;
    if !matches!(elements, Some(5..=6)) {
        return Err(bad(at, "a block of neither five nor six fields"));
    }
    let kind = d.u64().map_err(cut)?;
    for _ in 0..3 {
        d.u64().map_err(cut)?;
    }
    definite(&d, at)?;
    let data = d.bytes().map_err(cut)?;
    let (len, max) = if kind == PAYLOAD { (data.len(), BUNDLE_PAYLOAD_LEN_MAX) } else { (d.position(), LIMIT) };
    if elements == Some(6) {
        definite(&d, at)?;
        let crc = d.bytes().map_err(cut)?;
        if crc.len() > 4 {
            return Err(bad(at, "a CRC of more than four bytes"));
        }
    }
    if len > max { Err(BundleError::TooLong) } else { Ok(d.position()) }
}

fn definite(d: &Decoder<'_>, at: usize) -> Result<(), BundleError> {
    match d.datatype() {
        Ok(Type::Bytes) => Ok(()),
        _ => Err(bad(at, "no byte string of definite length where one must be")),
    }
}

fn bad(at: usize, rule: &'static str) -> BundleError {
    BundleError::Malformed { at, rule }
}

const ARRAY: u8 = 0x9f;
const BREAK: u8 = 0xff;
const PAYLOAD: u64 = 1;
/// Of a block that is not the payload's, up to its CRC.
const LIMIT: usize = BUNDLE_BLOCK_LEN_MAX - 5;
