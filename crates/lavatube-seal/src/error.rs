//! What can go wrong with keys, by blame: the key, the bytes, their form, a limit, or our caller.
//!
//! Every message says what happened and what to do next. None of them carries secret bytes.

use lavatube_base::sign::SignError;
use lavatube_format::Malformed;

/// Why something was not sealed, opened, wrapped, unwrapped or signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key at hand is not the one this was made for.
    #[error("{0} was not made for this key; use the read key of the archive and tenant it was deposited to")]
    WrongKey(&'static str),
    /// The passphrase does not open the key file (or the file was altered: the two cannot be told apart).
    #[error("the passphrase does not open this key file; try again, or use a copy of the file if it may be damaged")]
    WrongPassphrase,
    /// The key file is locked and no passphrase was given.
    #[error("this key file is locked; give its passphrase")]
    PassphraseMissing,
    /// A piece of a pack is not what was sealed.
    #[error("piece {piece} of the pack was altered or damaged; fetch the pack again, from other drives if it repeats")]
    Tampered {
        /// Which piece, from 0.
        piece: u32,
    },
    /// Something other than a pack's piece is not what was sealed.
    #[error("{0} was altered or damaged; fetch it again, and distrust its source if it repeats")]
    Altered(&'static str),
    /// Another pack than the one asked for.
    #[error("this is pack {number} of session {session}, class {class}, and not the one asked for; fetch it again")]
    OtherPack {
        /// Session in its header.
        session: lavatube_base::SessionId,
        /// Number in its header.
        number: u32,
        /// Class in its header.
        class: u8,
    },
    /// Bytes that break a layout.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A signature or signing key that does not hold.
    #[error("{what}: {why}; do not use it before you know where it came from")]
    Untrusted {
        /// What was to be believed.
        what: &'static str,
        /// Why it was not.
        why: SignError,
    },
    /// A policy or limit forbids it.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// Our caller asked for something that makes no sense.
    #[error("a mistake in lavatube: {0}; please report it")]
    Misuse(&'static str),
    /// The cryptographic library, or memory, failed.
    #[error("{0} failed on this machine; nothing was sealed or opened")]
    Library(&'static str),
}
