//! LTP segments (RFC 5326, CCSDS 734.1-B): pieces of blocks, checkpoints, reports, cancellations.
//!
//! The layout is not ours: it is what ION, HDTN and every other engine of the Licklider Transmission Protocol speak, one segment to a
//! UDP datagram. It exists so that `lavatube-link` reads and writes them without an allocation of its own. It must not
//! know sessions, timers, or what is in a block. Steps 9 to 11 of the walk, beside BTPU.

use lavatube_base::limits::{DATAGRAM_LEN_MAX, LTP_DATAGRAM_LEN_MAX, LTP_EXTENSIONS_MAX};

use crate::Malformed;
use crate::wire::Reader;

mod bundles;

pub use bundles::{Bundles, bundles};

/// Which block a segment is about: the engine that sends it, and that engine's number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    /// The engine that sends the block.
    pub engine: u64,
    /// Its number for it.
    pub number: u64,
}

/// One segment; extensions are skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Whose block it is about.
    pub session: SessionId,
    /// What it says.
    pub content: Content<'a>,
}

/// What a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// A piece of the block.
    Data(Data<'a>),
    /// What came in of it.
    Report(Report<'a>),
    /// A report came in.
    ReportAck {
        /// The number of the report.
        report: u64,
    },
    /// The sender gives the block up.
    CancelBySender(Reason),
    /// The sender's cancellation came in.
    CancelAckToSender,
    /// The receiver gives the block up.
    CancelByReceiver(Reason),
    /// The receiver's cancellation came in.
    CancelAckToReceiver,
}

/// A piece of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Data<'a> {
    /// Its place in the block.
    pub mark: Mark,
    /// Who the block is for at its receiver; [`BUNDLES`] for bundles.
    pub service: u64,
    /// Where its first byte lies in the block.
    pub offset: u64,
    /// Its bytes; offset and length together are at most `u64::MAX`.
    pub bytes: &'a [u8],
}

/// What is special about a piece of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Red (it is sent until it arrives), and nothing else.
    Red,
    /// Red, and a report is asked for.
    Checkpoint(Checkpoint),
    /// The last of the red part, green follows.
    RedEnd(Checkpoint),
    /// The last of the red part and of the block.
    BlockEnd(Checkpoint),
    /// Green: it is sent once.
    Green,
    /// The last of the green part and of the block.
    GreenEnd,
}

/// A request for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its number, 1 or more.
    pub number: u64,
    /// The report this answers, or 0.
    pub report: u64,
}

/// What came in of the red part between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Its number, 1 or more.
    pub number: u64,
    /// The checkpoint it answers, or 0.
    pub checkpoint: u64,
    /// First byte it speaks of.
    pub lower: u64,
    /// One past the last byte it speaks of.
    pub upper: u64,
    claims: &'a [u8],
}

/// Why a block is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Whoever it is for, or from, does not want it any more.
    Cancelled,
    /// There is nobody there whom it is for.
    Unreachable,
    /// Something was sent too often without an answer.
    Retries,
    /// Red came after green.
    Miscolored,
    /// The engine cannot go on.
    System,
    /// Too many rounds of sending again.
    Rounds,
    /// A code that RFC 5326 does not define.
    Other(u8),
}

impl Report<'_> {
    /// What is held, as offsets in the block, in order and without overlaps.
    pub fn claims(&self) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
        let (mut r, lower) = (Reader::new(WHAT, self.claims), self.lower);
        std::iter::from_fn(move || {
            let (offset, len) = (sdnv(&mut r).ok()?, sdnv(&mut r).ok()?);
            Some(lower + offset..lower + offset + len)
        })
    }
}

impl Mark {
    /// The checkpoint, if it is one.
    pub fn checkpoint(self) -> Option<Checkpoint> {
        match self {
            Self::Checkpoint(checkpoint) | Self::RedEnd(checkpoint) | Self::BlockEnd(checkpoint) => Some(checkpoint),
            Self::Red | Self::Green | Self::GreenEnd => None,
        }
    }

    /// Whether the piece is sent until it arrives.
    pub fn is_red(self) -> bool {
        !matches!(self, Self::Green | Self::GreenEnd)
    }

    fn kind(self) -> u8 {
        match self {
            Self::Red => kind::RED,
            Self::Checkpoint(_) => kind::CHECKPOINT,
            Self::RedEnd(_) => kind::RED_END,
            Self::BlockEnd(_) => kind::BLOCK_END,
            Self::Green => kind::GREEN,
            Self::GreenEnd => kind::GREEN_END,
        }
    }
}

impl Reason {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Cancelled,
            1 => Self::Unreachable,
            2 => Self::Retries,
            3 => Self::Miscolored,
            4 => Self::System,
            5 => Self::Rounds,
            other => Self::Other(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Cancelled => 0,
            Self::Unreachable => 1,
            Self::Retries => 2,
            Self::Miscolored => 3,
            Self::System => 4,
            Self::Rounds => 5,
            Self::Other(code) => code,
        }
    }
}

/// The segments of a datagram, in order; ends after the first that is malformed. Nearly always one.
#[derive(Debug, Clone)]
pub struct Segments<'a>(Option<Reader<'a>>);

impl<'a> Segments<'a> {
    /// The segments in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Some(Reader::new(WHAT, bytes)))
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut().filter(|reader| reader.left() > 0)?;
        let fit = reader.ensure(reader.position() + reader.left() <= LTP_DATAGRAM_LEN_MAX, "longer than a datagram");
        let segment = fit.and_then(|()| read(reader));
        if segment.is_err() {
            self.0 = None;
        }
        Some(segment)
    }
}

fn read<'a>(r: &mut Reader<'a>) -> Result<Segment<'a>, Malformed> {
    //= rfc5326#3.1 version in the high half, type in the low half, then session and counts of extensions
    let first = r.u8()?;
    r.ensure(first >> 4 == VERSION, "a version that is not 0")?;
    let session = SessionId { engine: sdnv(r)?, number: sdnv(r)? };
    let extensions = r.u8()?;
    skip_extensions(r, extensions >> 4)?;
    let content = match first & 0x0f {
        //= rfc5326#3.1.1 these three are undefined
        5 | 6 | 10 | 11 => return Err(r.fail("a type of segment that is not defined")),
        kind::REPORT => Content::Report(read_report(r)?),
        kind::REPORT_ACK => Content::ReportAck { report: sdnv(r)? },
        kind::CANCEL_BY_SENDER => Content::CancelBySender(Reason::from_code(r.u8()?)),
        kind::CANCEL_ACK_TO_SENDER => Content::CancelAckToSender,
        kind::CANCEL_BY_RECEIVER => Content::CancelByReceiver(Reason::from_code(r.u8()?)),
        kind::CANCEL_ACK_TO_RECEIVER => Content::CancelAckToReceiver,
        kind => Content::Data(read_data(r, kind)?),
    };
    skip_extensions(r, extensions & 0x0f)?;
    Ok(Segment { session, content })
}

/// Skips extensions, whatever their tag.
///
/// That goes for authentication (tag 0, RFC 5327) too: there is no key to check it with, and a segment whose tag nobody checks is worth
/// as much as one without a tag. What is in a block is authenticated above LTP. Cookies (tag 1) are not for CCSDS engines.
fn skip_extensions(r: &mut Reader<'_>, n: u8) -> Result<(), Malformed> {
    //= rfc5326#3.1.4 tag, length, value
    r.ensure(n <= LTP_EXTENSIONS_MAX, "more extensions than a segment may have")?;
    for _ in 0..n {
        let _tag = r.u8()?;
        let len = usize::try_from(sdnv(r)?).map_err(|_| r.fail("the length of an extension"))?;
        r.take(len)?;
    }
    Ok(())
}

fn read_data<'a>(r: &mut Reader<'a>, kind: u8) -> Result<Data<'a>, Malformed> {
    let (service, offset, len) = (sdnv(r)?, sdnv(r)?, sdnv(r)?);
    r.ensure(offset.checked_add(len).is_some(), "a piece beyond the end of numbers")?;
    let mut checkpoint = || {
        let (number, report) = (sdnv(r)?, sdnv(r)?);
        //= rfc5326#3.2.1 a checkpoint's number is not zero
        r.ensure(number > 0, "a checkpoint without a number")?;
        Ok(Checkpoint { number, report })
    };
    let mark = match kind {
        kind::RED => Mark::Red,
        kind::CHECKPOINT => Mark::Checkpoint(checkpoint()?),
        kind::RED_END => Mark::RedEnd(checkpoint()?),
        kind::BLOCK_END => Mark::BlockEnd(checkpoint()?),
        kind::GREEN => Mark::Green,
        _ => Mark::GreenEnd,
    };
    let len = usize::try_from(len).map_err(|_| r.fail("the length of a piece"))?;
    Ok(Data { mark, service, offset, bytes: r.take(len)? })
}

fn read_report<'a>(r: &mut Reader<'a>) -> Result<Report<'a>, Malformed> {
    //= rfc5326#3.2.2 number, checkpoint, upper bound, lower bound, claims by offset from the lower bound
    let (number, checkpoint, upper, lower, n) = (sdnv(r)?, sdnv(r)?, sdnv(r)?, sdnv(r)?, sdnv(r)?);
    r.ensure(number > 0, "a report without a number")?;
    r.ensure(lower < upper, "a report about nothing")?;
    // Each has two bytes at least, so the datagram's own length is the limit.
    let (mut ahead, mut end) = (r.clone(), 0);
    for _ in 0..n {
        let (offset, len) = (sdnv(&mut ahead)?, sdnv(&mut ahead)?);
        ahead.ensure(len > 0, "a claim of nothing")?;
        ahead.ensure(offset >= end, "claims out of order")?;
        end = offset.checked_add(len).ok_or_else(|| ahead.fail("a claim beyond the end of numbers"))?;
        ahead.ensure(end <= upper - lower, "a claim beyond the upper bound")?;
    }
    let claims = r.take(ahead.position() - r.position())?;
    Ok(Report { number, checkpoint, lower, upper, claims })
}

/// A number in pieces of seven bits, the highest first; ten bytes at most, shortest form not required.
fn sdnv(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for _ in 0..SDNV_LEN_MAX {
        let byte = r.u8()?;
        r.ensure(value >> 57 == 0, "a number beyond 64 bits")?;
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(r.fail("a number of more than ten bytes"))
}

/// Appends a piece of a block.
pub fn put_data(out: &mut Vec<u8>, session: SessionId, data: &Data<'_>) {
    put_head(out, data.mark.kind(), session);
    put_sdnv(out, data.service);
    put_sdnv(out, data.offset);
    put_sdnv(out, data.bytes.len() as u64);
    if let Some(checkpoint) = data.mark.checkpoint() {
        put_sdnv(out, checkpoint.number);
        put_sdnv(out, checkpoint.report);
    }
    out.extend_from_slice(data.bytes);
}

/// Most bytes of a piece with these fields that a datagram of `len` has room for.
pub fn room_for_data(len: usize, session: SessionId, mark: Mark, service: u64, offset: u64) -> usize {
    let head = 2 + sdnv_len(session.engine) + sdnv_len(session.number) + sdnv_len(service) + sdnv_len(offset);
    let checkpoint = mark.checkpoint().map_or(0, |c| sdnv_len(c.number) + sdnv_len(c.report));
    let room = len.saturating_sub(head + checkpoint);
    // The length takes room, too, and the longer it is the more.
    room.saturating_sub(sdnv_len(room.saturating_sub(1) as u64))
}

/// Appends a report; claims are offsets in the block, in order, within the bounds. As many as fit into `len` bytes are taken;
/// returns the upper bound: that of `bounds`, or, if not all fit, the end of the last claim.
pub fn put_report<I: Iterator<Item = std::ops::Range<u64>>>(
    out: &mut Vec<u8>,
    session: SessionId,
    head: ReportHead,
    claims: &mut std::iter::Peekable<I>,
    len: usize,
) -> u64 {
    let bounds = 2 * sdnv_len(head.upper) + SDNV_LEN_MAX;
    let own = 2 + sdnv_len(session.engine) + sdnv_len(session.number) + sdnv_len(head.number) + SDNV_LEN_MAX;
    let mut room = len.saturating_sub(own + bounds);
    let (mut list, mut n, mut end) = (Vec::new(), 0, head.lower);
    while let Some(claim) = claims.peek() {
        let before = list.len();
        put_sdnv(&mut list, claim.start - head.lower);
        put_sdnv(&mut list, claim.end - claim.start);
        if list.len() - before > room && n > 0 {
            list.truncate(before);
            break;
        }
        room = room.saturating_sub(list.len() - before);
        end = claim.end;
        n += 1;
        claims.next();
    }
    let upper = if claims.peek().is_some() { end } else { head.upper };
    put_head(out, kind::REPORT, session);
    for value in [head.number, head.checkpoint, upper, head.lower, n] {
        put_sdnv(out, value);
    }
    out.extend_from_slice(&list);
    upper
}

/// The numbers of a report that is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportHead {
    /// Its number.
    pub number: u64,
    /// The checkpoint it answers, or 0.
    pub checkpoint: u64,
    /// First byte it speaks of.
    pub lower: u64,
    /// One past the last byte it speaks of.
    pub upper: u64,
}

/// Appends the acknowledgement of a report.
pub fn put_report_ack(out: &mut Vec<u8>, session: SessionId, report: u64) {
    put_head(out, kind::REPORT_ACK, session);
    put_sdnv(out, report);
}

/// Appends the end of a block before it is whole, said by its sender or its receiver.
pub fn put_cancel(out: &mut Vec<u8>, session: SessionId, by_sender: bool, reason: Reason) {
    put_head(out, if by_sender { kind::CANCEL_BY_SENDER } else { kind::CANCEL_BY_RECEIVER }, session);
    out.push(reason.code());
}

/// Appends the acknowledgement of a cancellation that the sender said, or the receiver.
pub fn put_cancel_ack(out: &mut Vec<u8>, session: SessionId, to_sender: bool) {
    put_head(out, if to_sender { kind::CANCEL_ACK_TO_SENDER } else { kind::CANCEL_ACK_TO_RECEIVER }, session);
}

fn put_head(out: &mut Vec<u8>, kind: u8, session: SessionId) {
    out.push(VERSION << 4 | kind);
    put_sdnv(out, session.engine);
    put_sdnv(out, session.number);
    out.push(0);
}

fn put_sdnv(out: &mut Vec<u8>, value: u64) {
    for at in (1..sdnv_len(value)).rev() {
        out.push((value >> (7 * at)) as u8 | 0x80);
    }
    out.push(value as u8 & 0x7f);
}

fn sdnv_len(value: u64) -> usize {
    // 1 to 10.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// Client service 1 is bundles (CCSDS 734.1-B).
pub const BUNDLES: u64 = 1;
/// The port of LTP over UDP.
pub const PORT: u16 = 1113;

const VERSION: u8 = 0;
const SDNV_LEN_MAX: usize = 10;
const WHAT: &str = "LTP segment";

const _: () = assert!(DATAGRAM_LEN_MAX < LTP_DATAGRAM_LEN_MAX);

/// Types of segments.
mod kind {
    pub const RED: u8 = 0;
    pub const CHECKPOINT: u8 = 1;
    pub const RED_END: u8 = 2;
    pub const BLOCK_END: u8 = 3;
    pub const GREEN: u8 = 4;
    pub const GREEN_END: u8 = 7;
    pub const REPORT: u8 = 8;
    pub const REPORT_ACK: u8 = 9;
    pub const CANCEL_BY_SENDER: u8 = 12;
    pub const CANCEL_ACK_TO_SENDER: u8 = 13;
    pub const CANCEL_BY_RECEIVER: u8 = 14;
    pub const CANCEL_ACK_TO_RECEIVER: u8 = 15;
}

#[cfg(test)]
mod tests;
