//! Small helpers over `minicbor` for our deterministic CBOR maps (RFC 8949 section 4.2.1).
//!
//! Determinism is checked the simple way: whatever was decoded is encoded again and must give the same bytes. Each
//! layout calls [`check_same`] once; it must not know what the maps mean. There is no limit of nesting, since nothing
//! nests: each decoder asks for one fixed shape, item by item, and never for "whatever comes", so it does not recurse.

use crate::Malformed;

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
