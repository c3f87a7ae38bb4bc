//! What a restore and a key agent say to each other over a local socket (FORMAT section 10).
//!
//! The agent holds the read key; a restore gets the secrets of single sessions from it, never the key. On the socket a
//! message follows its length ([`head`]). It must not know sockets, nor who is allowed to ask.

use lavatube_base::limits::{AGENT_MESSAGE_LEN_MAX, AGENT_REASON_LEN_MAX, TENANT_LEN_MAX};
use lavatube_base::sign::{ED25519_PUBLIC_LEN, ML_DSA_65_PUBLIC_LEN, PairPublic};
use lavatube_base::{DepositorId, SessionId};
use zeroize::Zeroizing;

use crate::key_file::Secret;
use crate::manifest::{CT_LEN, ENC_LEN, Wrap};
use crate::wire::{Malformed, Reader, put_bytes, put_len};

/// Bytes that go before every message: its length.
pub const HEAD_LEN: usize = 4;

/// What goes before `message` on the socket.
///
/// # Errors
/// [`Malformed`] when the message is longer than any that is read.
pub fn head(message: &[u8]) -> Result<[u8; HEAD_LEN], Malformed> {
    let len = u32::try_from(message.len()).ok().filter(|_| message.len() <= AGENT_MESSAGE_LEN_MAX);
    len.map(u32::to_le_bytes).ok_or(Malformed { what: MESSAGE, at: 0, rule: TOO_LONG })
}

/// Length of the message that follows `head`.
///
/// # Errors
/// [`Malformed`] when it claims to be longer than any that is read.
pub fn message_len(head: [u8; HEAD_LEN]) -> Result<usize, Malformed> {
    let len = usize::try_from(u32::from_le_bytes(head)).ok().filter(|len| *len <= AGENT_MESSAGE_LEN_MAX);
    len.ok_or(Malformed { what: MESSAGE, at: 0, rule: TOO_LONG })
}

const MESSAGE: &str = "agent message";
const TOO_LONG: &str = "message is longer than its limit";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Whose keys these are, and what a reader needs beside sessions.
    Hello,
    /// The secret of a session.
    Open {
        /// The session.
        session: SessionId,
        /// Who deposited it.
        depositor: DepositorId,
        /// The wraps of its manifest.
        wraps: Vec<Wrap>,
    },
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// The tenant.
        tenant: String,
        /// The tenant's PSK.
        psk: Secret,
        /// The key of its chunk ids.
        chunk_id_key: Secret,
        /// The authority that certifies its depositors.
        authority: PairPublic,
    },
    /// To [`Request::Open`].
    Opened(Secret),
    /// The agent could not, and why.
    Refused(String),
}

impl Request {
    /// The message without its length.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello => vec![1],
            Self::Open { session, depositor, wraps } => {
                let mut out = vec![2];
                out.extend_from_slice(&session.0);
                out.extend_from_slice(&depositor.0);
                put_len(&mut out, wraps.len());
                for wrap in wraps {
                    out.extend_from_slice(&wrap.key_id);
                    out.extend_from_slice(&wrap.enc);
                    out.extend_from_slice(&wrap.ct);
                }
                out
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("agent request", bytes);
        let out = match r.u8()? {
            1 => Self::Hello,
            2 => {
                let (session, depositor) = (SessionId(r.array()?), DepositorId(r.array()?));
                let n = r.varint_max(r.left() / (8 + ENC_LEN + CT_LEN), "more wraps than bytes")?;
                let mut wraps = Vec::with_capacity(n);
                for _ in 0..n {
                    let key_id = r.array()?;
                    wraps.push(Wrap { key_id, enc: r.take(ENC_LEN)?.to_vec(), ct: r.take(CT_LEN)?.to_vec() });
                }
                Self::Open { session, depositor, wraps }
            }
            _ => return Err(r.fail("unknown request")),
        };
        r.finish()?;
        Ok(out)
    }
}

impl Reply {
    /// The message without its length.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(4096));
        match self {
            Self::Hello { tenant, psk, chunk_id_key, authority } => {
                out.push(1);
                put_bytes(&mut out, tenant.as_bytes());
                out.extend_from_slice(psk.bytes());
                out.extend_from_slice(chunk_id_key.bytes());
                out.extend_from_slice(&authority.ed25519);
                out.extend_from_slice(&authority.ml_dsa_65);
            }
            Self::Opened(secret) => {
                out.push(2);
                out.extend_from_slice(secret.bytes());
            }
            Self::Refused(reason) => {
                out.push(3);
                let cut = reason.floor_char_boundary(AGENT_REASON_LEN_MAX);
                put_bytes(&mut out, &reason.as_bytes()[..cut]);
            }
        }
        out
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`] when it breaks its layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("agent reply", bytes);
        let text = |r: &mut Reader<'_>, max| {
            let bytes = r.bytes(max)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| r.fail("text is not UTF-8"))
        };
        let out = match r.u8()? {
            1 => Self::Hello {
                tenant: text(&mut r, TENANT_LEN_MAX)?,
                psk: Secret::new(r.array()?),
                chunk_id_key: Secret::new(r.array()?),
                authority: PairPublic {
                    ed25519: r.array::<ED25519_PUBLIC_LEN>()?,
                    ml_dsa_65: r.take(ML_DSA_65_PUBLIC_LEN)?.to_vec(),
                },
            },
            2 => Self::Opened(Secret::new(r.array()?)),
            3 => Self::Refused(text(&mut r, AGENT_REASON_LEN_MAX)?),
            _ => return Err(r.fail("unknown reply")),
        };
        r.finish()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics_and_what_is_read_is_what_is_written(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000), kind in 0u8..5) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(request) = Request::decode(&bytes) {
                prop_assert_eq!(&request.encode(), &bytes);
            }
            if let Ok(reply) = Reply::decode(&bytes) {
                prop_assert_eq!(&reply.encode()[..], &bytes[..]);
            }
        }

        #[test]
        fn a_head_says_the_length_or_nothing(head_bytes: [u8; HEAD_LEN], len in 0usize..2 * AGENT_MESSAGE_LEN_MAX) {
            if let Ok(len) = message_len(head_bytes) {
                prop_assert_eq!(head(&vec![0; len]), Ok(head_bytes));
            }
            let again = head(&vec![0; len]).and_then(message_len);
            prop_assert_eq!(again.ok(), (len <= AGENT_MESSAGE_LEN_MAX).then_some(len));
        }
    }

    #[test]
    fn messages_survive_and_cuts_are_refused() {
        let wraps = vec![Wrap { key_id: [1; 8], enc: vec![2; ENC_LEN], ct: vec![3; CT_LEN] }; 2];
        let open = Request::Open { session: SessionId([4; 16]), depositor: DepositorId([5; 32]), wraps };
        for request in [Request::Hello, open] {
            let bytes = request.encode();
            assert!((0..bytes.len()).all(|n| Request::decode(&bytes[..n]).is_err()));
            assert_eq!(Request::decode(&bytes), Ok(request));
        }
        let authority = PairPublic { ed25519: [6; 32], ml_dsa_65: vec![7; ML_DSA_65_PUBLIC_LEN] };
        let (psk, chunk_id_key) = (Secret::new([8; 32]), Secret::new([9; 32]));
        let hello = Reply::Hello { tenant: "t".into(), psk, chunk_id_key, authority };
        for reply in [hello, Reply::Opened(Secret::new([1; 32])), Reply::Refused("no".into())] {
            let bytes = reply.encode();
            assert!((0..bytes.len()).all(|n| Reply::decode(&bytes[..n]).is_err()));
            assert_eq!(Reply::decode(&bytes), Ok(reply));
        }
    }
}
