//! The machine: datagrams, time and blocks in; datagrams, events and blocks out.
//!
//! It finds out which peer a segment is of, by engine ids and session numbers alone (an engine's UDP port may be any, and change),
//! and whose turn it is to be sent something. It must not know sockets or clocks: after any call, drain
//! [`Engine::poll_transmit`] and [`Engine::poll_event`], then ask [`Engine::poll_timeout`].

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::Instant;
use lavatube_base::limits::{BLOCK_LEN_MAX, LTP_ENDED_MAX, LTP_PEERS_MAX, LTP_SESSIONS_MAX};
use lavatube_format::ltp::{BUNDLES, Content, Reason, Segment, Segments, SessionId};

use super::config::{Config, PeerConfig};
use super::numbers::Numbers;
use super::peer::Peer;
use super::status::{Load, Status};

/// An LTP engine.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    numbers: Numbers,
    peers: BTreeMap<u64, Peer>,
    /// Whose turn it is to be sent something, and how much it was sent in a row.
    turn: u64,
    run: u32,
    /// Which peer a block of ours goes to, also for a while after its end; in order of their beginnings.
    ours: BTreeMap<u64, u64>,
    order: VecDeque<u64>,
    events: VecDeque<Event>,
    foreign: u64,
    malformed: u64,
}

/// A block to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The caller's name for it.
    pub key: u64,
    /// Who it is for at the peer.
    pub service: u64,
    /// Red is sent until it arrives, green once.
    pub red: bool,
    /// 1 byte to 64 MiB + 4 KiB.
    pub bytes: Vec<u8>,
}

impl Block {
    /// One bundle or several, to be sent until they arrive.
    pub fn bundles(key: u64, bytes: Vec<u8>) -> Self {
        Self { key, service: BUNDLES, red: true, bytes }
    }
}

/// What an engine tells its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A block arrived in whole; that is not to say that it is stored.
    Delivered {
        /// The peer.
        peer: u64,
        /// The block.
        key: u64,
    },
    /// A green block was sent; nobody will say whether it arrived.
    Sent {
        /// The peer.
        peer: u64,
        /// The block.
        key: u64,
    },
    /// A block was given up.
    Failed {
        /// The peer.
        peer: u64,
        /// The block.
        key: u64,
        /// Why.
        reason: Reason,
    },
    /// A block came in.
    Received {
        /// The engine that sent it.
        peer: u64,
        /// Its name between the engines.
        session: SessionId,
        /// Who it is for.
        service: u64,
        /// The block, which may be several bundles: [`lavatube_format::ltp::bundles`] splits them.
        bytes: Vec<u8>,
        /// Length of its red part.
        red_len: u64,
        /// Whether it is all of the block; if not, it is the red part, and the green one did not arrive.
        whole: bool,
    },
    /// A block that was coming in was given up, here or by the peer.
    Abandoned {
        /// The engine that sent it.
        peer: u64,
        /// Its name between the engines.
        session: SessionId,
        /// Why.
        reason: Reason,
    },
}

/// Why a peer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It is known, or is this engine.
    #[error("an engine with this id is known")]
    Known,
    /// There are too many.
    #[error("too many peers")]
    Full,
    /// A limit of its settings is not one.
    #[error("1 to 16384 blocks may be under way")]
    Sessions,
}

/// Why a block is not taken to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nobody knows this peer.
    #[error("no such peer")]
    Peer,
    /// It is empty or too long.
    #[error("a block has 1 byte to 64 MiB + 4 KiB")]
    Length,
    /// Its key is in use.
    #[error("a block with this key is on its way")]
    Known,
    /// Too many wait, or too much: after a block was delivered, there is room again.
    #[error("too much waits to be sent")]
    Full,
}

impl Engine {
    /// An engine without peers.
    pub fn new(config: Config) -> Self {
        let numbers = Numbers::new(config.seed);
        Self {
            config,
            numbers,
            peers: BTreeMap::new(),
            turn: 0,
            run: 0,
            ours: BTreeMap::new(),
            order: VecDeque::new(),
            events: VecDeque::new(),
            foreign: 0,
            malformed: 0,
        }
    }

    /// A peer, whose contact is closed.
    ///
    /// # Errors
    /// [`PeerError`] when it is not taken.
    pub fn add_peer(&mut self, config: PeerConfig, now: Instant) -> Result<(), PeerError> {
        if config.engine == self.config.engine || self.peers.contains_key(&config.engine) {
            return Err(PeerError::Known);
        }
        if self.peers.len() >= LTP_PEERS_MAX {
            return Err(PeerError::Full);
        }
        if !(1..=LTP_SESSIONS_MAX).contains(&config.sessions_max) {
            return Err(PeerError::Sessions);
        }
        self.peers.insert(config.engine, Peer::new(config, now));
        Ok(())
    }

    /// From now on `peer` may be sent `rate_bit_s` bits of packets a second, and hears. Also when the rate has changed.
    pub fn contact_opened(&mut self, peer: u64, rate_bit_s: u64, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.open(rate_bit_s, now);
            peer.handle_timeout(now, &mut self.events);
        }
    }

    /// From now on `peer` is sent nothing, and nobody waits for its answers: all clocks stand still.
    pub fn contact_closed(&mut self, peer: u64, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.close(now);
        }
    }

    /// A block is to be sent.
    ///
    /// # Errors
    /// [`SendError`] when it is not taken.
    pub fn send(&mut self, peer: u64, block: Block) -> Result<(), SendError> {
        if !(1..=BLOCK_LEN_MAX).contains(&block.bytes.len()) {
            return Err(SendError::Length);
        }
        let to = self.peers.get_mut(&peer).ok_or(SendError::Peer)?;
        to.room_for(&block)?;
        let session = SessionId { engine: self.config.engine, number: self.numbers.session() };
        to.submit(session, block, self.numbers.first(session.number));
        self.ours.insert(session.number, peer);
        self.order.push_back(session.number);
        if self.order.len() > LTP_SESSIONS_MAX * self.peers.len() + LTP_ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ours.remove(&oldest);
        }
        Ok(())
    }

    /// A block is no longer to be sent; [`Event::Failed`] follows, unless it was delivered meanwhile.
    pub fn cancel(&mut self, peer: u64, key: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.cancel(key, &mut self.events);
        }
    }

    /// A datagram came in.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Instant) {
        for segment in Segments::new(bytes) {
            match segment {
                Ok(segment) => self.handle_segment(&segment, now),
                Err(_) => self.malformed += 1,
            }
        }
    }

    fn handle_segment(&mut self, segment: &Segment<'_>, now: Instant) {
        let SessionId { engine, number } = segment.session;
        let about_ours = match segment.content {
            Content::Report(_) | Content::CancelByReceiver(_) | Content::CancelAckToSender => true,
            Content::Data(_)
            | Content::ReportAck { .. }
            | Content::CancelBySender(_)
            | Content::CancelAckToReceiver => false,
        };
        let peer = if about_ours {
            self.ours.get(&number).copied().filter(|_| engine == self.config.engine)
        } else {
            Some(engine)
        };
        let Some(peer) = peer.and_then(|peer| self.peers.get_mut(&peer)) else {
            self.foreign += 1;
            self.disown(segment);
            return;
        };
        peer.heard(now);
        let (events, first) = (&mut self.events, self.numbers.first(number));
        match &segment.content {
            Content::Data(data) => {
                let wanted = self.config.services.contains(&data.service);
                peer.handle_data(segment.session, data, wanted, first, now, events);
            }
            Content::Report(report) => peer.handle_report(segment.session, report, now, events),
            Content::ReportAck { report } => peer.handle_report_ack(number, *report, now, events),
            Content::CancelBySender(reason) => peer.handle_cancel(segment.session, *reason, true, now, events),
            Content::CancelByReceiver(reason) => peer.handle_cancel(segment.session, *reason, false, now, events),
            Content::CancelAckToSender => peer.handle_cancel_ack(number, true, now, events),
            Content::CancelAckToReceiver => peer.handle_cancel_ack(number, false, now, events),
        }
    }

    /// A report about a block that nobody knows: an earlier life of this engine began it. Whoever waits for the rest is told that
    /// none will come; which peer that is shows where there is only one.
    fn disown(&mut self, segment: &Segment<'_>) {
        let is_ours = segment.session.engine == self.config.engine;
        if let (Content::Report(_), true, 1) = (&segment.content, is_ours, self.peers.len()) {
            self.peers.values_mut().for_each(|peer| peer.disown(segment.session));
        }
    }

    /// From now on blocks that are coming from `peer` may take so many bytes of memory, and one block more may be finished.
    pub fn set_import_len_max(&mut self, peer: u64, len: usize) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.set_import_len_max(len);
        }
    }

    /// How busy the way to `peer` is.
    pub fn load(&self, peer: u64) -> Option<Load> {
        self.peers.get(&peer).map(Peer::load)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.handle_timeout(now, &mut self.events);
        }
    }

    /// Appends the next datagram to `out`, and says to which peer it goes; `None` when none may or need be sent now.
    ///
    /// All datagrams but the last of a piece of a block have the same length, so that several can be handed to the kernel at once.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<u64> {
        // Those from the one whose turn it is, then the others.
        for from_turn in [true, false] {
            let range = if from_turn { self.turn..=u64::MAX } else { 0..=self.turn };
            for (id, peer) in self.peers.range_mut(range) {
                if peer.put(out, now, &mut self.events) {
                    // It stays at it for a while: then there is a batch for one address.
                    self.run = if self.turn == *id { self.run + 1 } else { 1 };
                    (self.turn, self.run) = if self.run < RUN_MAX { (*id, self.run) } else { (id.wrapping_add(1), 0) };
                    return Some(*id);
                }
            }
        }
        None
    }

    /// The next thing to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Engine::handle_timeout`] and [`Engine::poll_transmit`] next, if nothing happens before; it may be in the past.
    pub fn poll_timeout(&mut self, now: Instant) -> Option<Instant> {
        self.peers.values_mut().filter_map(|peer| peer.timeout(now)).min()
    }

    /// How it is. For people: it copies.
    pub fn status(&self) -> Status {
        let peers = self.peers.values().map(Peer::status).collect();
        Status { peers, foreign: self.foreign, malformed: self.malformed }
    }
}

/// Datagrams to one peer in a row, while others wait.
const RUN_MAX: u32 = 64;
