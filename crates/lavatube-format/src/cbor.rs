//! Small helpers over `minicbor` for our deterministic CBOR maps (RFC 8949 section 4.2.1).
//!
//! Determinism is checked the simple way: whatever was decoded is encoded again and must give the same bytes. Each
//! layout calls [`check_same`] once; it must not know what the maps mean. There is no limit of nesting, since nothing
//! nests: each decoder asks for one fixed shape, item by item, and never for "whatever comes", so it does not recurse.

use crate::Malformed;
use crate::manifest::NOTE_PADDING;

/// Turns a decoding error of `minicbor` into ours.
pub fn malformed(what: &'static str) -> impl Fn(minicbor::decode::Error) -> Malformed {
    move |e| Malformed { what, at: e.position().unwrap_or(0), rule: "not the CBOR map that FORMAT describes" }
}

/// `Ok` when `again` equals `input`.
///
/// # Errors
/// [`Malformed`] at the first difference: the input was not in deterministic form.
pub fn check_same(what: &'static str, input: &[u8], again: &[u8]) -> Result<(), Malformed> {
    //= FORMAT#F4 one value has one encoding
    if input == again {
        return Ok(());
    }
    let at = input.iter().zip(again).take_while(|(a, b)| a == b).count();
    Err(Malformed { what, at, rule: "CBOR is not in deterministic form, or has unknown keys" })
}

/// A note's map padded with zeros to a multiple of [`NOTE_PADDING`].
pub fn padded(mut map: Vec<u8>) -> Vec<u8> {
    map.resize(map.len().next_multiple_of(NOTE_PADDING), 0);
    map
}

/// `Ok` when `bytes` are `map` padded like that; `end` is where the map ends in them.
///
/// # Errors
/// [`Malformed`] when the map is another one, or what follows is no such padding.
pub fn check_padded(what: &'static str, bytes: &[u8], end: usize, map: &[u8]) -> Result<(), Malformed> {
    let (found, padding) = bytes.split_at(end);
    check_same(what, found, map)?;
    //= FORMAT#F5 the padding is zero, and as short as it can be
    if padding.iter().any(|b| *b != 0) || bytes.len() != end.next_multiple_of(NOTE_PADDING) {
        return Err(Malformed { what, at: end, rule: "padding is zeros up to a multiple of 256 bytes" });
    }
    Ok(())
}
