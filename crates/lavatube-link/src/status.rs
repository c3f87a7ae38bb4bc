//! What a link says of itself, for `link status` and for pictures of it.
//!
//! Values only, taken at one moment; nothing decides by them. It must not know how they are shown.

use std::time::Duration;

use lavatube_base::BlockId;

use crate::contact::Contact;
use crate::line::Line;

/// A link at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Whether anything is sent, and if not, why.
    pub line: Line,
    /// The window that is open.
    pub contact: Option<Contact>,
    /// The next one.
    pub next_contact: Option<Contact>,
    /// Bytes of packets sent in this window.
    pub contact_len_sent: u64,
    /// Bits of packets a second that may leave now: as planned, or as found out.
    pub rate_up_bit_s: u64,
    /// Share of datagrams lost on the way out, as measured.
    pub loss: f64,
    /// Variance of these losses over that of independent ones.
    pub dispersion: f64,
    /// One-way light time: half of the measured way there and back.
    pub light: Option<Duration>,
    /// Blocks on their way out, in the order in which they go.
    pub outgoing: Vec<Sending>,
    /// Blocks on their way in.
    pub incoming: Vec<Receiving>,
    /// Counts since birth.
    pub totals: Totals,
    /// One past the highest counter that came in: persist it, it is the next life's [`crate::Config::floor`].
    pub floor: u64,
}

/// A block on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The caller's name for it.
    pub key: u64,
    /// 0 goes first.
    pub priority: u8,
    /// Its bytes.
    pub len: u64,
    /// Symbols it needs.
    pub symbols: u64,
    /// Symbols that were missing there by the last report.
    pub missing: u32,
    /// Symbols sent.
    pub sent: u64,
    /// Where it is.
    pub stage: Stage,
    /// One way: symbols that are sent each time ([`crate::OneWay::margin`] says what for).
    pub provided: Option<u64>,
}

/// Where a block is on its way out.
pub use crate::outgoing::State as Stage;

/// A block on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiving {
    /// Its id.
    pub id: BlockId,
    /// 0 goes first.
    pub priority: u8,
    /// Its bytes.
    pub len: u64,
    /// Symbols it needs, and those that are held.
    pub symbols: u64,
    /// Symbols held.
    pub held: u64,
    /// It is complete, and the caller has not said yet that it is stored.
    pub whole: bool,
    /// It waits for room.
    pub waits: bool,
}

/// Counts since birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of packets sent, IP and UDP included.
    pub len_sent: u64,
    /// Datagrams that came in and were the peer's and new.
    pub datagrams_received: u64,
    /// Bytes of their packets.
    pub len_received: u64,
    /// Symbols sent, and how many of them not for the first time.
    pub symbols_sent: u64,
    /// Symbols sent that were sent before.
    pub symbols_resent: u64,
    /// Symbols that came in.
    pub symbols_received: u64,
    /// Of these, symbols that were not needed any more.
    pub symbols_needless: u64,
    /// Blocks whose bytes were wrong when they were whole.
    pub damaged: u64,
    /// Datagrams of strangers.
    pub foreign: u64,
    /// Datagrams with a wrong tag.
    pub forged: u64,
    /// Datagrams that came before.
    pub replayed: u64,
    /// Datagrams of the peer that say something that breaks a rule.
    pub malformed: u64,
}
