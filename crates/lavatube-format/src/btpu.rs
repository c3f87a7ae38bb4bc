//! BTPU messages, the words inside a datagram: symbols of blocks, announcements, reports, probes, echoes.
//!
//! `docs/FORMAT.md` section 11, after draft-ietf-dtn-btpu and draft-ietf-dtn-btpu-fec. It exists so that the link reads and
//! writes them without an allocation of its own. It must not know when to say what, nor what a symbol is worth. Steps 9
//! to 11 of the walk.

use lavatube_base::BlockId;
use lavatube_base::limits::{BLOCK_LEN_MAX, PROBE_ENTRIES_MAX, REPORT_ENTRIES_MAX, SYMBOL_LEN_MAX, SYMBOLS_MAX};

use crate::Malformed;
use crate::wire::Reader;

/// One message. What follows a type or a flag that we do not know is skipped and called foreign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// Nothing, to fill a frame.
    Padding,
    /// The sender gave a transfer up.
    Cancel {
        /// Which one.
        transfer: u32,
    },
    /// A piece of a block.
    Symbol(Symbol<'a>),
    /// What a transfer carries.
    Announce(Announce),
    /// What came in.
    Report(Report<'a>),
    /// Asks for a report at once, about these transfers among others.
    Probe(Transfers<'a>),
    /// Asks for the same number back.
    EchoRequest(u64),
    /// The number that was asked for.
    EchoReply(u64),
    /// A message of another kind, skipped.
    Foreign,
}

/// A source or repair symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The transfer it belongs to.
    pub transfer: u32,
    /// Whether it is a repair symbol.
    pub repair: bool,
    /// Its number: source symbols first, then repair symbols.
    pub number: u32,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What a transfer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// The sender's number for it.
    pub transfer: u32,
    /// Length of the block, 1 to [`BLOCK_LEN_MAX`].
    pub block_len: u64,
    /// Length of its symbols, 1 to [`SYMBOL_LEN_MAX`].
    pub symbol_len: u16,
    /// 0 goes first.
    pub priority: u8,
    /// `H16` of the block.
    pub block: BlockId,
}

/// What came in, as of the highest counter seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// Its numbers.
    pub tally: Tally,
    entries: &'a [u8],
}

/// The numbers of a report that are about datagrams, not blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// The highest counter that came in.
    pub horizon: u64,
    /// Datagrams that came in so far, modulo 2^32.
    pub received: u32,
    /// Microseconds since the horizon's datagram came in; `u32::MAX` for that much or more.
    pub age_us: u32,
}

/// What a report says of one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The transfer.
    pub transfer: u32,
    /// How far it is.
    pub standing: Standing,
    /// One past the highest symbol number held, so that a sender that lost its memory goes on from there.
    pub next: u32,
}

/// How far a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The block is stored.
    Kept,
    /// So many symbols are missing, 1 to [`SYMBOLS_MAX`].
    Missing(u32),
    /// Nobody here was told what this transfer carries.
    Unknown,
    /// The block is not wanted.
    Refused,
    /// Nothing is to be sent for now: it is being stored, or there is no room.
    Hold,
}

/// Transfer numbers in a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfers<'a>(&'a [u8]);

impl Report<'_> {
    /// Its entries, in order.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        self.entries.as_chunks::<ENTRY_LEN>().0.iter().filter_map(|bytes| Entry::decode(bytes).ok())
    }
}

impl Transfers<'_> {
    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes))
    }
}

/// The messages of a datagram, in order; ends after the first that is malformed.
#[derive(Debug, Clone)]
pub struct Messages<'a>(Option<Reader<'a>>);

impl<'a> Messages<'a> {
    /// The messages in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Some(Reader::new(WHAT, bytes)))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;
    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.0.as_mut().filter(|reader| reader.left() > 0)?;
        let message = read(reader);
        if message.is_err() {
            self.0 = None;
        }
        Some(message)
    }
}

fn read<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, Malformed> {
    let kind = r.u8()?;
    if kind == kind::PAD_ONE {
        return Ok(Message::Padding);
    }
    let [a, b, c] = r.array()?;
    let len = u32::from_be_bytes([0, a & 0x0f, b, c]);
    let content = r.take(usize::try_from(len).map_err(|_| r.fail("length"))?)?;
    //= FORMAT#F19 what is not known is skipped by its length
    if a >> 4 != 0 {
        return Ok(Message::Foreign);
    }
    let mut r = Reader::new(WHAT, content);
    let message = match kind {
        kind::PAD => return Ok(Message::Padding),
        kind::CANCEL => Message::Cancel { transfer: be32(&mut r)? },
        kind::SOURCE | kind::REPAIR => Message::Symbol(read_symbol(&mut r, kind == kind::REPAIR)?),
        kind::ANNOUNCE => Message::Announce(read_announce(&mut r)?),
        kind::REPORT => Message::Report(read_report(&mut r)?),
        kind::PROBE => {
            let n = r.left() / 4;
            r.ensure(n <= PROBE_ENTRIES_MAX, "more transfers than a probe may have")?;
            Message::Probe(Transfers(r.take(4 * n)?))
        }
        kind::ECHO_REQUEST => Message::EchoRequest(be64(&mut r)?),
        kind::ECHO_REPLY => Message::EchoReply(be64(&mut r)?),
        _ => return Ok(Message::Foreign),
    };
    r.finish()?;
    Ok(message)
}

fn read_symbol<'a>(r: &mut Reader<'a>, repair: bool) -> Result<Symbol<'a>, Malformed> {
    let transfer = be32(r)?;
    let instance = r.u8()?;
    r.ensure(instance == INSTANCE, "a code that nobody agreed on")?;
    let number = be24(r)?;
    r.ensure(number < SYMBOLS_END, "a symbol number beyond the code")?;
    //= FORMAT#F20 symbols have 1 to 1436 bytes
    r.ensure((1..=SYMBOL_LEN_MAX).contains(&r.left()), "a symbol of no length, or of too much")?;
    Ok(Symbol { transfer, repair, number, bytes: r.take(r.left())? })
}

fn read_announce(r: &mut Reader<'_>) -> Result<Announce, Malformed> {
    let (transfer, block_len) = (be32(r)?, be64(r)?);
    //= FORMAT#F20 blocks have 1 byte to 64 MiB + 4 KiB
    r.ensure((1..=BLOCK_LEN_MAX as u64).contains(&block_len), "a block of no length, or of too much")?;
    let symbol_len = be16(r)?;
    r.ensure((1..=SYMBOL_LEN_MAX).contains(&usize::from(symbol_len)), "a symbol of no length, or of too much")?;
    Ok(Announce { transfer, block_len, symbol_len, priority: r.u8()?, block: BlockId(r.array()?) })
}

fn read_report<'a>(r: &mut Reader<'a>) -> Result<Report<'a>, Malformed> {
    let (high, low) = (be16(r)?, be32(r)?);
    let tally = Tally { horizon: u64::from(high) << 32 | u64::from(low), received: be32(r)?, age_us: be32(r)? };
    let n = usize::from(be16(r)?);
    r.ensure(n <= REPORT_ENTRIES_MAX, "more entries than a report may have")?;
    let entries = r.take(n * ENTRY_LEN)?;
    for entry in entries.as_chunks::<ENTRY_LEN>().0 {
        Entry::decode(entry)?;
    }
    Ok(Report { tally, entries })
}

impl Entry {
    fn decode(bytes: &[u8; ENTRY_LEN]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let transfer = be32(&mut r)?;
        let standing = match be24(&mut r)? {
            0 => Standing::Kept,
            n if n <= SYMBOLS_END => Standing::Missing(n),
            UNKNOWN => Standing::Unknown,
            REFUSED => Standing::Refused,
            HOLD => Standing::Hold,
            _ => return Err(r.fail("more symbols missing than a block may have")),
        };
        let next = be24(&mut r)?;
        r.ensure(next <= SYMBOLS_END, "a symbol number beyond the code")?;
        Ok(Self { transfer, standing, next })
    }

    fn put(self, out: &mut Vec<u8>) {
        let missing = match self.standing {
            Standing::Kept => 0,
            Standing::Missing(n) => n,
            Standing::Unknown => UNKNOWN,
            Standing::Refused => REFUSED,
            Standing::Hold => HOLD,
        };
        out.extend_from_slice(&self.transfer.to_be_bytes());
        put24(out, missing);
        put24(out, self.next);
    }
}

/// Appends a symbol.
pub fn put_symbol(out: &mut Vec<u8>, symbol: Symbol<'_>) {
    let kind = if symbol.repair { kind::REPAIR } else { kind::SOURCE };
    put_message(out, kind, |out| {
        out.extend_from_slice(&symbol.transfer.to_be_bytes());
        out.push(INSTANCE);
        put24(out, symbol.number);
        out.extend_from_slice(symbol.bytes);
    });
}

/// Appends an announcement.
pub fn put_announce(out: &mut Vec<u8>, announce: &Announce) {
    put_message(out, kind::ANNOUNCE, |out| {
        out.extend_from_slice(&announce.transfer.to_be_bytes());
        out.extend_from_slice(&announce.block_len.to_be_bytes());
        out.extend_from_slice(&announce.symbol_len.to_be_bytes());
        out.push(announce.priority);
        out.extend_from_slice(&announce.block.0);
    });
}

/// Appends a report of at most [`REPORT_ENTRIES_MAX`] entries; more are left out.
pub fn put_report(out: &mut Vec<u8>, tally: &Tally, entries: impl Iterator<Item = Entry>) {
    put_message(out, kind::REPORT, |out| {
        out.extend_from_slice(&tally.horizon.to_be_bytes()[2..]);
        out.extend_from_slice(&tally.received.to_be_bytes());
        out.extend_from_slice(&tally.age_us.to_be_bytes());
        let at = out.len();
        out.extend_from_slice(&[0; 2]);
        let mut n = 0u16;
        for entry in entries.take(REPORT_ENTRIES_MAX) {
            entry.put(out);
            n += 1;
        }
        out[at..at + 2].copy_from_slice(&n.to_be_bytes());
    });
}

/// Appends a probe about at most [`PROBE_ENTRIES_MAX`] transfers; more are left out.
pub fn put_probe(out: &mut Vec<u8>, transfers: impl Iterator<Item = u32>) {
    put_message(out, kind::PROBE, |out| {
        transfers.take(PROBE_ENTRIES_MAX).for_each(|transfer| out.extend_from_slice(&transfer.to_be_bytes()));
    });
}

/// Appends the end of a transfer that nobody wants any more.
pub fn put_cancel(out: &mut Vec<u8>, transfer: u32) {
    put_message(out, kind::CANCEL, |out| out.extend_from_slice(&transfer.to_be_bytes()));
}

/// Appends an echo: a request, or with `reply` the answer to one.
pub fn put_echo(out: &mut Vec<u8>, reply: bool, nonce: u64) {
    let kind = if reply { kind::ECHO_REPLY } else { kind::ECHO_REQUEST };
    put_message(out, kind, |out| out.extend_from_slice(&nonce.to_be_bytes()));
}

fn put_message(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[kind, 0, 0, 0]);
    content(out);
    let len = out.len() - at - MESSAGE_HEAD_LEN;
    assert!(len < 1 << 20, "a message has at most 2^20 - 1 bytes");
    let [.., a, b, c] = len.to_be_bytes();
    out[at + 1..at + MESSAGE_HEAD_LEN].copy_from_slice(&[a, b, c]);
}

fn put24(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes()[1..]);
}

fn be16(r: &mut Reader<'_>) -> Result<u16, Malformed> {
    r.array().map(u16::from_be_bytes)
}

fn be24(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    r.array().map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
}

fn be32(r: &mut Reader<'_>) -> Result<u32, Malformed> {
    r.array().map(u32::from_be_bytes)
}

fn be64(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    r.array().map(u64::from_be_bytes)
}

/// Bytes of a symbol message around its symbol.
pub const SYMBOL_FRAMING_LEN: usize = MESSAGE_HEAD_LEN + 8;
/// Bytes of an announcement, its head included.
pub const ANNOUNCE_LEN: usize = MESSAGE_HEAD_LEN + 31;
/// Bytes of a report without entries, its head included.
pub const REPORT_LEN: usize = MESSAGE_HEAD_LEN + 16;
/// Bytes of one entry of a report.
pub const ENTRY_LEN: usize = 10;

const MESSAGE_HEAD_LEN: usize = 4;
const SYMBOLS_END: u32 = SYMBOLS_MAX as u32;
/// The one code there is: Reed-Solomon over GF(2^16), FORMAT section 11.
const INSTANCE: u8 = 1;
const UNKNOWN: u32 = 0xff_fffd;
const REFUSED: u32 = 0xff_fffe;
const HOLD: u32 = 0xff_ffff;
const WHAT: &str = "BTPU message";

/// Types of messages.
mod kind {
    pub const PAD_ONE: u8 = 0;
    pub const PAD: u8 = 1;
    pub const CANCEL: u8 = 5;
    pub const SOURCE: u8 = 0x70;
    pub const REPAIR: u8 = 0x72;
    pub const ANNOUNCE: u8 = 0x78;
    pub const REPORT: u8 = 0x79;
    pub const PROBE: u8 = 0x7a;
    pub const ECHO_REQUEST: u8 = 0x7b;
    pub const ECHO_REPLY: u8 = 0x7c;
}

#[cfg(test)]
mod tests;
