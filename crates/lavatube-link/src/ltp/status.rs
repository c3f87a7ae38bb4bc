//! What an engine says of itself. Values only, taken at one moment; nothing decides by them.

use std::time::Duration;

use lavatube_format::ltp::SessionId;

use super::stages::{Incoming, Outgoing};
use crate::line::Line;

/// An engine at one moment: each of its peers, by engine id.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Its peers.
    pub peers: Vec<PeerStatus>,
    /// Segments of engines that are no peers, or about blocks that are not known.
    pub foreign: u64,
    /// Datagrams that break a rule.
    pub malformed: u64,
}

/// The way to one peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Its engine id.
    pub engine: u64,
    /// Whether anything is sent, and if not, why.
    pub line: Line,
    /// Bits a second of packets.
    pub rate_bit_s: u64,
    /// One-way light time, if it was measured.
    pub light: Option<Duration>,
    /// Share of segments lost.
    pub loss: f64,
    /// Blocks on their way out: in the order of their session numbers.
    pub outgoing: Vec<Sending>,
    /// Blocks on their way in.
    pub incoming: Vec<Receiving>,
    /// Bytes of blocks that wait or are under way.
    pub export_len: u64,
    /// Bytes of memory of blocks that are coming in.
    pub import_len: usize,
    /// Counts since birth.
    pub totals: Totals,
}

/// How busy the way to one peer is: what decides whether it is given more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Bytes of blocks of which nothing was sent yet.
    pub waiting_len: u64,
    /// Bytes of packets sent since birth, IP and UDP included.
    pub len_sent: u64,
}

/// A block on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The caller's name for it.
    pub key: u64,
    /// Its name between the engines.
    pub session: SessionId,
    /// Its bytes.
    pub len: u64,
    /// Bytes of it that are there by the reports.
    pub acked: u64,
    /// Where it is.
    pub state: Outgoing,
}

/// A block on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiving {
    /// Its name between the engines.
    pub session: SessionId,
    /// Bytes of it that are here.
    pub len: u64,
    /// Bytes of its red part, once they are known.
    pub red_len: Option<u64>,
    /// Where it is.
    pub state: Incoming,
}

/// Counts since birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Bytes of packets sent, IP and UDP included.
    pub len_sent: u64,
    /// Of these, bytes of packets with pieces that were sent before.
    pub len_resent: u64,
    /// Segments that came in.
    pub segments_received: u64,
    /// Of these, pieces that came before, or came too late.
    pub needless: u64,
    /// Pieces for which there was no room.
    pub no_room: u64,
    /// Blocks sent and known to be there, or sent once if they were green.
    pub blocks_sent: u64,
    /// Blocks received.
    pub blocks_received: u64,
    /// Blocks given up, either way and by either side.
    pub blocks_failed: u64,
}
