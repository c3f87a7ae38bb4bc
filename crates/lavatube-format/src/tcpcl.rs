//! TCPCLv4, the messages of the TCP convergence layer: greeting, session, segments of transfers, acknowledgements.
//!
//! RFC 9174; it is drawn there, and `docs/FORMAT.md` section 15 says what of it we use. It exists so that the link reads a
//! stream of bytes as it comes: [`head_len`] tells how many bytes a message needs, from those that are there, and no more
//! than [`TCPCL_HEAD_LEN_MAX`] of them are ever gathered; the bytes of a segment are not among them. It must not know when to
//! say what.

use lavatube_base::limits::{TCPCL_EXTENSIONS_LEN_MAX, TCPCL_HEAD_LEN_MAX, TCPCL_NODE_LEN_MAX};

use crate::Malformed;
use crate::wire::Reader;

/// The greeting with which each side begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Version of the protocol; 4 is ours.
    pub version: u8,
    /// Whether it can do TLS. We cannot.
    pub can_tls: bool,
}

/// One message, without the bytes of a segment: those follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// A piece of a transfer; `len` bytes of it follow.
    Segment(Segment),
    /// How much of a transfer has come in.
    Ack {
        /// Flags of the segment that is answered.
        start: bool,
        /// Whether it was the last one.
        end: bool,
        /// Which transfer.
        transfer: u64,
        /// Bytes of it so far.
        len: u64,
    },
    /// A transfer is not taken.
    Refuse {
        /// Why.
        reason: Refusal,
        /// Which transfer.
        transfer: u64,
    },
    /// Nothing, so that the other side knows that we live.
    Keepalive,
    /// The session ends: no new transfers begin.
    End {
        /// Whether this answers an end.
        reply: bool,
        /// Why.
        reason: EndReason,
    },
    /// A message was not understood.
    Reject {
        /// 1 unknown type, 2 not supported, 3 not expected now.
        reason: u8,
        /// Its type.
        kind: u8,
    },
    /// What a side is and takes.
    Init(Init<'a>),
}

/// The head of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Whether it is the first of its transfer.
    pub start: bool,
    /// Whether it is the last one.
    pub end: bool,
    /// Which transfer.
    pub transfer: u64,
    /// Length of the whole transfer, where its first segment says so.
    pub whole: Option<u64>,
    /// Whether something must be understood that we do not know.
    pub strange: bool,
    /// Length of the bytes that follow.
    pub len: u64,
}

/// What a side is and takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Init<'a> {
    /// It sends something at least so often, in seconds; 0 for never.
    pub keepalive_s: u16,
    /// Longest segment it takes.
    pub segment_mru: u64,
    /// Longest transfer it takes.
    pub transfer_mru: u64,
    /// Its name, such as `ipn:2.0`; empty when it does not say.
    pub node: &'a str,
    /// Whether something must be understood that we do not know.
    pub strange: bool,
}

/// Why a transfer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing is said.
    Unknown,
    /// It is there already.
    Completed,
    /// There is no room.
    NoResources,
    /// It is to be sent anew.
    Retransmit,
    /// It will never be taken.
    NotAcceptable,
    /// Something in it is not understood.
    Extension,
    /// The session ends.
    Ending,
    /// A reason we do not know.
    Other(u8),
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Nothing is said.
    Unknown,
    /// Nothing was heard, or sent, for long.
    Idle,
    /// There is no version that both know.
    Version,
    /// Too much to do.
    Busy,
    /// It cannot be agreed on how to talk: TLS, for one.
    Contact,
    /// Something ran out.
    Resources,
    /// A reason we do not know.
    Other(u8),
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Completed => 1,
            Self::NoResources => 2,
            Self::Retransmit => 3,
            Self::NotAcceptable => 4,
            Self::Extension => 5,
            Self::Ending => 6,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        let known = [
            Self::Unknown,
            Self::Completed,
            Self::NoResources,
            Self::Retransmit,
            Self::NotAcceptable,
            Self::Extension,
            Self::Ending,
        ];
        known.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::Other(code))
    }
}

impl EndReason {
    fn code(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Idle => 1,
            Self::Version => 2,
            Self::Busy => 3,
            Self::Contact => 4,
            Self::Resources => 5,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        let known = [Self::Unknown, Self::Idle, Self::Version, Self::Busy, Self::Contact, Self::Resources];
        known.into_iter().find(|reason| reason.code() == code).unwrap_or(Self::Other(code))
    }
}

impl Contact {
    /// Reads a greeting.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8; CONTACT_LEN]) -> Result<Self, Malformed> {
        let mut r = Reader::new("TCPCL greeting", bytes);
        //= rfc9174#4.2 the magic is dtn!
        let magic: [u8; 4] = r.array()?;
        r.ensure(&magic == MAGIC, "does not begin with dtn!")?;
        let (version, flags) = (r.u8()?, r.u8()?);
        Ok(Self { version, can_tls: flags & CAN_TLS != 0 })
    }
}

/// How many bytes the message at the front of `bytes` has, without those of a segment, or `None` when that cannot be told
/// yet.
///
/// # Errors
/// [`Malformed`] at a type that does not exist, and at more than we gather.
pub fn head_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let r = Reader::new(WHAT, bytes);
    let Some(&kind) = bytes.first() else { return Ok(None) };
    let number = |at: usize, n: usize| {
        let field = bytes.get(at..at + n)?;
        field.iter().try_fold(0usize, |sum, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    let lists = |at: usize| match number(at, 4) {
        Some(len) => {
            r.ensure(len <= TCPCL_EXTENSIONS_LEN_MAX, "more extensions than we take")?;
            Ok(Some(at + 4 + len))
        }
        None => Ok(None),
    };
    let len = match kind {
        kind::SEGMENT => match bytes.get(1) {
            Some(flags) if flags & START == 0 => Some(SEGMENT_LEN),
            Some(_) => lists(10)?.map(|at| at + 8),
            None => None,
        },
        kind::ACK => Some(18),
        kind::REFUSE => Some(10),
        kind::KEEPALIVE => Some(1),
        kind::END | kind::REJECT => Some(3),
        kind::INIT => match number(19, 2) {
            Some(len) => {
                r.ensure(len <= TCPCL_NODE_LEN_MAX, "a longer name than we take")?;
                lists(21 + len)?
            }
            None => None,
        },
        _ => return Err(r.fail("a type of message that does not exist")),
    };
    assert!(len.is_none_or(|len| len <= TCPCL_HEAD_LEN_MAX), "no head is longer than its parts");
    Ok(len)
}

impl<'a> Message<'a> {
    /// Reads a message of the length that [`head_len`] told.
    ///
    /// # Errors
    /// [`Malformed`] when a rule is broken.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let message = match r.u8()? {
            kind::SEGMENT => {
                let flags = r.u8()?;
                let (start, end, transfer) = (flags & START != 0, flags & END != 0, be64(&mut r)?);
                let (mut whole, mut strange) = (None, false);
                if start {
                    strange = extensions(&mut r, |kind, value| {
                        //= rfc9174#5.2.5.1 the length of the whole transfer
                        let known = kind == WHOLE_LEN && value.len() == 8;
                        if let (true, Ok(value)) = (known, value.try_into()) {
                            whole = Some(u64::from_be_bytes(value));
                        }
                        known
                    })?;
                }
                Self::Segment(Segment { start, end, transfer, whole, strange, len: be64(&mut r)? })
            }
            kind::ACK => {
                let flags = r.u8()?;
                let (start, end) = (flags & START != 0, flags & END != 0);
                Self::Ack { start, end, transfer: be64(&mut r)?, len: be64(&mut r)? }
            }
            kind::REFUSE => Self::Refuse { reason: Refusal::of(r.u8()?), transfer: be64(&mut r)? },
            kind::KEEPALIVE => Self::Keepalive,
            kind::END => Self::End { reply: r.u8()? & REPLY != 0, reason: EndReason::of(r.u8()?) },
            kind::REJECT => Self::Reject { reason: r.u8()?, kind: r.u8()? },
            kind::INIT => {
                let keepalive_s = r.array().map(u16::from_be_bytes)?;
                let (segment_mru, transfer_mru) = (be64(&mut r)?, be64(&mut r)?);
                let len = r.array().map(u16::from_be_bytes)?;
                let node = str::from_utf8(r.take(usize::from(len))?).map_err(|_| r.fail("a name that is no text"))?;
                let strange = extensions(&mut r, |_, _| false)?;
                Self::Init(Init { keepalive_s, segment_mru, transfer_mru, node, strange })
            }
            _ => return Err(r.fail("a type of message that does not exist")),
        };
        r.finish()?;
        Ok(message)
    }
}

/// Reads a list of extensions; whether one of them that `known` does not take must be understood.
fn extensions(r: &mut Reader<'_>, mut known: impl FnMut(u16, &[u8]) -> bool) -> Result<bool, Malformed> {
    let len = r.array().map(u32::from_be_bytes)?;
    let mut list = Reader::new(WHAT, r.take(usize::try_from(len).map_err(|_| r.fail("length"))?)?);
    let mut strange = false;
    while list.left() > 0 {
        let (flags, kind, len): (u8, u16, u16) =
            (list.u8()?, list.array().map(u16::from_be_bytes)?, list.array().map(u16::from_be_bytes)?);
        let value = list.take(usize::from(len))?;
        //= rfc9174#4.8 what is critical and not known must not be passed over
        strange |= !known(kind, value) && flags & CRITICAL != 0;
    }
    Ok(strange)
}

/// Appends our greeting: version 4, no TLS.
pub fn put_contact(out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[VERSION, 0]);
}

/// Appends what we are and take.
pub fn put_init(out: &mut Vec<u8>, init: &Init<'_>) {
    assert!(init.node.len() <= TCPCL_NODE_LEN_MAX, "our name is short");
    out.push(kind::INIT);
    out.extend_from_slice(&init.keepalive_s.to_be_bytes());
    out.extend_from_slice(&init.segment_mru.to_be_bytes());
    out.extend_from_slice(&init.transfer_mru.to_be_bytes());
    let [.., a, b] = init.node.len().to_be_bytes();
    out.extend_from_slice(&[a, b]);
    out.extend_from_slice(init.node.as_bytes());
    out.extend_from_slice(&[0; 4]);
}

/// Appends a segment; the first one of a transfer says how long the whole is.
pub fn put_segment(out: &mut Vec<u8>, transfer: u64, start: Option<u64>, end: bool, bytes: &[u8]) {
    let flags = if start.is_some() { START } else { 0 } | if end { END } else { 0 };
    out.extend_from_slice(&[kind::SEGMENT, flags]);
    out.extend_from_slice(&transfer.to_be_bytes());
    if let Some(whole) = start {
        out.extend_from_slice(&[0, 0, 0, 13, 0, 0, 1, 0, 8]);
        out.extend_from_slice(&whole.to_be_bytes());
    }
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends how much of a transfer has come in.
pub fn put_ack(out: &mut Vec<u8>, start: bool, end: bool, transfer: u64, len: u64) {
    out.extend_from_slice(&[kind::ACK, if start { START } else { 0 } | if end { END } else { 0 }]);
    out.extend_from_slice(&transfer.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
}

/// Appends that a transfer is not taken.
pub fn put_refuse(out: &mut Vec<u8>, transfer: u64, reason: Refusal) {
    out.extend_from_slice(&[kind::REFUSE, reason.code()]);
    out.extend_from_slice(&transfer.to_be_bytes());
}

/// Appends nothing, in one byte.
pub fn put_keepalive(out: &mut Vec<u8>) {
    out.push(kind::KEEPALIVE);
}

/// Appends the end of the session.
pub fn put_end(out: &mut Vec<u8>, reply: bool, reason: EndReason) {
    out.extend_from_slice(&[kind::END, if reply { REPLY } else { 0 }, reason.code()]);
}

/// Appends that a message of type `kind` was not understood.
pub fn put_reject(out: &mut Vec<u8>, reason: u8, kind: u8) {
    out.extend_from_slice(&[kind::REJECT, reason, kind]);
}

fn be64(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    r.array().map(u64::from_be_bytes)
}

/// Bytes of a greeting.
pub const CONTACT_LEN: usize = 6;
/// The version we speak.
pub const VERSION: u8 = 4;
/// Bytes of a segment before its own, when it is not the first of its transfer.
pub const SEGMENT_LEN: usize = 18;
/// In [`Message::Reject`]: there is no such type.
pub const REJECT_UNKNOWN: u8 = 1;
/// In [`Message::Reject`]: the message has no place here.
pub const REJECT_UNEXPECTED: u8 = 3;

const MAGIC: &[u8; 4] = b"dtn!";
const CAN_TLS: u8 = 1;
const END: u8 = 1;
const START: u8 = 2;
const REPLY: u8 = 1;
const CRITICAL: u8 = 1;
const WHOLE_LEN: u16 = 1;
const WHAT: &str = "TCPCL message";

/// Types of messages.
mod kind {
    pub const SEGMENT: u8 = 1;
    pub const ACK: u8 = 2;
    pub const REFUSE: u8 = 3;
    pub const KEEPALIVE: u8 = 4;
    pub const END: u8 = 5;
    pub const REJECT: u8 = 6;
    pub const INIT: u8 = 7;
}

#[cfg(test)]
mod tests;
