//! What can be wrong with a bundle, by who is to blame.

use lavatube_base::limits::{BUNDLE_BLOCK_LEN_MAX, BUNDLE_BLOCKS_MAX, BUNDLE_LEN_MAX, BUNDLE_PAYLOAD_LEN_MAX};

/// Why a bundle was not read, or not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Bytes that break a rule of RFC 9171.
    #[error("malformed bundle at byte {at}: {rule}")]
    Malformed {
        /// Where.
        at: usize,
        /// Which rule.
        rule: &'static str,
    },
    /// Bytes that the library does not take for a bundle.
    #[error("malformed bundle: {0}")]
    Unread(String),
    /// More than we take.
    #[error(
        "the bundle has more than {BUNDLE_LEN_MAX} bytes, {BUNDLE_PAYLOAD_LEN_MAX} of payload, {BUNDLE_BLOCKS_MAX} blocks \
         or {BUNDLE_BLOCK_LEN_MAX} bytes in one of them"
    )]
    TooLong,
    /// Nothing protects the primary block: not a CRC, and no signature that we can see.
    #[error(
        "the bundle's primary block has neither a CRC nor a signature (RFC 9171, 4.3.1); it is not taken, whatever its \
         carrier was told: its sender must keep it and be set to add one"
    )]
    Unprotected,
    /// A piece of a bundle: we do not put such together.
    #[error("the bundle is a fragment; fragments are not taken")]
    Fragment,
    /// Neither a time of creation nor an age: nobody could tell when it ends.
    #[error("the bundle has neither a time of creation nor an age (RFC 9171, 4.4.2)")]
    Ageless,
    /// A name that is no endpoint we know.
    #[error("`{0}` is not an endpoint of the schemes ipn and dtn")]
    Endpoint(String),
    /// The payload is encrypted, and no key was given.
    #[error("the bundle's payload is encrypted, and no key is set for its source")]
    Sealed,
    /// The payload was to be signed and encrypted by the peer, and is not.
    #[error("the bundle's payload is not {0}, as all from this peer must be")]
    Open(&'static str),
    /// A signature or an encryption that the keys do not fit.
    #[error("the bundle's signature or encryption is not that of the peer: {0}")]
    Forged(String),
    /// Values of which no bundle can be made.
    #[error("no bundle can be made of this: {0}")]
    Unfit(String),
}
