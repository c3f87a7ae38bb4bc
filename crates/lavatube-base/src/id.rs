//! Identifiers: fixed-size byte strings with a type each, so that a session id is never taken for a drive id.
//!
//! `docs/FORMAT.md` section 1 says what each one is. All print as lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

/// A string that is not an identifier: wrong length or not hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits, got {got:?}")]
pub struct IdError {
    /// Number of digits an identifier of this type has.
    pub expected: usize,
    /// What was given, shortened to 80 characters.
    pub got: String,
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Number of bytes.
            pub const LEN: usize = $len;

            /// The first eight hexadecimal digits: enough for a person to tell two apart.
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }

            /// The identifier in `bytes`, or `None` when the length is not [`Self::LEN`].
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                let mut out = [0u8; $len];
                parse_hex(s, &mut out).map(|()| Self(out))
            }
        }
    };
}

id!(
    /// A vault, random at its birth.
    VaultId, 16
);
id!(
    /// A drive of a vault, random when the drive is added.
    DriveId, 16
);
id!(
    /// One backup run, random.
    SessionId, 16
);
id!(
    /// A depositing machine: digest of its two public keys.
    DepositorId, 32
);
id!(
    /// Anything a vault keeps (pack, manifest, card): BLAKE3-256 of its bytes.
    ObjectId, 32
);
id!(
    /// A chunk: keyed BLAKE3 of its content, cut to 24 bytes (FORMAT section 1 says why 24).
    ChunkId, 24
);

id!(
    /// A block on the link: `H16` of its bytes.
    BlockId, 16
);

fn parse_hex(s: &str, out: &mut [u8]) -> Result<(), IdError> {
    let fail = || IdError { expected: out.len() * 2, got: s.chars().take(80).collect() };
    if s.len() != out.len() * 2 || !s.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(fail());
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&s[2 * i..2 * i + 2], 16).unwrap_or_default();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text() {
        let id = SessionId([0xab; 16]);
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        assert_eq!(id.short(), "abababab");
    }

    #[test]
    fn wrong_text_is_refused() {
        assert!("abc".parse::<SessionId>().is_err());
        assert!("zz".repeat(16).parse::<SessionId>().is_err());
        assert!("é".repeat(16).parse::<SessionId>().is_err());
        assert!("+1".repeat(16).parse::<SessionId>().is_err());
    }
}
