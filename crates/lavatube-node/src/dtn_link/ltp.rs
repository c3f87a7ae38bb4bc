//! LTP (RFC 5326) as a cable: one engine on a UDP socket, one peer, blocks of one bundle to it and of any number from it.
//!
//! An engine acknowledges what arrived before anybody has stored it, and its peer sends nothing twice then. So what this end has no
//! room for is kept here and brought again, up to a limit; what is above that is forgotten, and its sender asks for a receipt in
//! vain and sends it anew. What was brought and not answered counts as the engine's memory, so that it takes in no more than the
//! end can store. It must not know what a bundle is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::limits::{
    BLOCK_LEN_MAX, BUNDLE_OWN_LEN_MAX, DTN_BUSY_LEN_MAX, LTP_IMPORT_LEN_MAX, LTP_UNANSWERED_LEN_MAX, LTP_UNANSWERED_MAX,
};
use lavatube_base::{BlockId, Instant};
use lavatube_format::ltp::{BUNDLES, bundles};
use lavatube_link::ltp::{Block, Event, PeerConfig, PeerStatus};
use lavatube_link::{Contact, Receiving, Status};

use super::cable::{Cable, Hand, News, Place};
use crate::link_folder::LinkError;
use crate::ltp_port::{LtpPort, LtpPortError};
use crate::port::now;

/// An LTP engine with one peer.
pub(super) struct Ltp {
    port: LtpPort,
    /// The peer's engine id, and where it hears.
    peer: u64,
    at: SocketAddr,
    contact: Option<Contact>,
    /// Bytes of packets that may be sent by the end of this contact, and whether they were.
    sent_max: u64,
    is_spent: bool,
    /// A block that came in, and where its next bundle begins.
    splitting: Option<(Arc<Vec<u8>>, usize)>,
    named: u64,
    /// Bundles that were brought and not answered, and their bytes.
    unanswered: BTreeMap<u64, Arc<Vec<u8>>>,
    unanswered_len: usize,
    /// Bundles for which there was no room: when they are brought again; and their bytes.
    busy: BTreeMap<BlockId, (Instant, Arc<Vec<u8>>)>,
    busy_len: usize,
}

/// The two engines of a link.
pub(super) struct Engines {
    pub own: u64,
    pub peer: u64,
}

impl Ltp {
    /// An engine at `listen` whose peer hears at `address`; `light` is how far that is, where that is known.
    ///
    /// # Errors
    /// [`LinkError`] when an address cannot be used.
    pub fn open(engines: &Engines, listen: &str, address: &str, light: Option<Duration>) -> Result<Self, LinkError> {
        let mut port = LtpPort::open(engines.own, &[BUNDLES], listen).map_err(unusable)?;
        let peer = PeerConfig {
            import_len_max: LTP_IMPORT_LEN_MAX,
            sessions_max: LTP_UNANSWERED_MAX,
            export_len_max: (LTP_UNANSWERED_LEN_MAX + LTP_UNANSWERED_MAX * BUNDLE_OWN_LEN_MAX) as u64,
            // What was begun by an engine that is no more does not take the memory for ever.
            idle_max: IDLE_MAX,
            ..PeerConfig::new(engines.peer, light.unwrap_or(LIGHT_UNKNOWN))
        };
        let at = port.add_peer(peer, address).map_err(unusable)?;
        Ok(Self {
            port,
            peer: engines.peer,
            at,
            contact: None,
            sent_max: u64::MAX,
            is_spent: false,
            splitting: None,
            named: 0,
            unanswered: BTreeMap::new(),
            unanswered_len: 0,
            busy: BTreeMap::new(),
            busy_len: 0,
        })
    }

    fn len_sent(&self) -> u64 {
        self.port.load(self.peer).map_or(0, |load| load.len_sent)
    }

    /// Brings a bundle to the end.
    fn bring(&mut self, bytes: Arc<Vec<u8>>) -> News {
        self.named += 1;
        self.unanswered_len += bytes.len();
        self.unanswered.insert(self.named, Arc::clone(&bytes));
        News::Came { place: Place { session: 0, number: self.named }, bytes }
    }

    /// The next bundle of the block that is being split.
    fn split(&mut self) -> Option<News> {
        let (block, start) = self.splitting.take()?;
        let rest = block.get(start..).filter(|rest| !rest.is_empty())?;
        // What is no bundle goes on as one: it is refused, and counted, where all others are.
        let len = bundles(rest).next().and_then(Result::ok).map_or(rest.len(), <[u8]>::len);
        let bundle = if len == block.len() { Arc::clone(&block) } else { Arc::new(rest[..len].to_vec()) };
        self.splitting = Some((block, start + len));
        Some(self.bring(bundle))
    }

    /// What was there no room for is brought again.
    fn bring_again(&mut self) -> Option<News> {
        let at = now();
        let (id, _) = self.busy.iter().find(|(_, (due, _))| *due <= at)?;
        let (_, bytes) = self.busy.remove(&{ *id })?;
        self.busy_len -= bytes.len();
        Some(self.bring(bytes))
    }

    fn answered(&mut self, place: Place) -> Option<Arc<Vec<u8>>> {
        let bytes = self.unanswered.remove(&place.number)?;
        self.unanswered_len -= bytes.len();
        Some(bytes)
    }

    fn status(&self) -> Option<PeerStatus> {
        self.port.status().peers.pop()
    }
}

impl Cable for Ltp {
    fn address(&self) -> Option<SocketAddr> {
        self.port.address()
    }

    fn turn(&mut self, contact: Option<&Contact>) -> bool {
        self.contact = contact.copied();
        self.is_spent = false;
        let budget = contact.and_then(|contact| contact.budget);
        self.sent_max = budget.map_or(u64::MAX, |budget| self.len_sent().saturating_add(budget));
        match contact {
            Some(contact) => self.port.contact_opened(self.peer, contact.rate_up_bit_s),
            None => self.port.contact_closed(self.peer),
        }
        contact.is_some()
    }

    fn due(&self) -> Option<Instant> {
        self.busy.values().map(|(due, _)| *due).min()
    }

    fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        // What is paid for is not exceeded, by repeats neither.
        if !self.is_spent && self.contact.is_some() && self.len_sent().saturating_add(BATCH_LEN) > self.sent_max {
            self.is_spent = true;
            self.port.contact_closed(self.peer);
        }
        let brought = self.unanswered_len + self.busy_len;
        self.port.set_import_len_max(self.peer, LTP_IMPORT_LEN_MAX.saturating_sub(brought));
        self.port.pump(wait).map_err(unusable)
    }

    fn news(&mut self) -> Option<News> {
        loop {
            if let Some(news) = self.split().or_else(|| self.bring_again()) {
                return Some(news);
            }
            match self.port.event()? {
                Event::Received { bytes, .. } => self.splitting = Some((Arc::new(bytes), 0)),
                Event::Delivered { key, .. } => return Some(News::There { ticket: key }),
                Event::Failed { key, .. } => return Some(News::Unsent { ticket: key, refused: true }),
                Event::Sent { .. } | Event::Abandoned { .. } => {}
            }
        }
    }

    fn is_open(&self) -> bool {
        self.contact.is_some() && !self.is_spent
    }

    fn block_len_max(&self) -> usize {
        BLOCK_LEN_MAX - BUNDLE_OWN_LEN_MAX
    }

    /// As much as the engine sends in a moment is read ahead, and not more, so that what is urgent need not wait for it.
    fn has_room(&self, hand: Hand, len: usize) -> bool {
        let rate_bit_s = self.contact.map_or(0, |contact| contact.rate_up_bit_s);
        let moment = (rate_bit_s / 8).clamp(AHEAD_LEN_MIN, AHEAD_LEN_MAX);
        let waiting = self.port.load(self.peer).map_or(0, |load| load.waiting_len) + hand.ahead as u64;
        let fits = hand.count < LTP_UNANSWERED_MAX && hand.len + len <= LTP_UNANSWERED_LEN_MAX;
        hand.count == 0 || fits && waiting < moment
    }

    fn post(&mut self, ticket: u64, bundle: Vec<u8>, _: Option<Place>) -> bool {
        self.is_open() && self.port.send(self.peer, Block::bundles(ticket, bundle)).is_ok()
    }

    fn withdraw(&mut self, ticket: u64) {
        self.port.cancel(self.peer, ticket);
    }

    fn genuine(&mut self, _: Place) -> Option<SocketAddr> {
        Some(self.at)
    }

    fn accepted(&mut self, place: Place) {
        self.answered(place);
    }

    fn refused(&mut self, place: Place) {
        self.answered(place);
    }

    fn busy(&mut self, place: Place, id: BlockId) {
        let Some(bytes) = self.answered(place) else { return };
        if self.busy.contains_key(&id) || self.busy_len + bytes.len() > DTN_BUSY_LEN_MAX {
            return;
        }
        self.busy_len += bytes.len();
        self.busy.insert(id, (now() + AGAIN, bytes));
    }

    fn describe(&self, status: &mut Status) {
        let Some(peer) = self.status() else { return };
        status.line = peer.line;
        status.loss = peer.loss;
        status.light = peer.light.or(status.light);
        status.incoming = peer
            .incoming
            .iter()
            .map(|block| Receiving {
                // What it is shows only when it is whole.
                id: BlockId(h16(&[&block.session.engine.to_be_bytes(), &block.session.number.to_be_bytes()])),
                priority: 0,
                len: block.red_len.unwrap_or(block.len),
                symbols: block.red_len.unwrap_or(block.len),
                held: block.len,
                whole: false,
                waits: false,
            })
            .collect();
        let totals = &mut status.totals;
        (totals.datagrams_sent, totals.len_sent) = (peer.totals.datagrams_sent, peer.totals.len_sent);
        totals.datagrams_received = peer.totals.segments_received;
        let engine = self.port.status();
        (totals.foreign, totals.malformed) = (engine.foreign, engine.malformed);
    }
}

fn unusable(e: LtpPortError) -> LinkError {
    match e {
        LtpPortError::Address { address, text } => LinkError::Address { address, text },
        LtpPortError::Entropy(e) => LinkError::Entropy(e),
        LtpPortError::Peer(e) => LinkError::Ended(e.to_string()),
    }
}

/// How far the peer is thought to be before anything was measured or told. More than most links are: whoever takes a far peer for a near
/// one sends a block and waits for word of it before the next, and thinks that nobody is there.
const LIGHT_UNKNOWN: Duration = Duration::from_secs(2);
/// When something is brought again for which there was no room.
const AGAIN: Duration = Duration::from_secs(10);
/// Bytes of packets that leave before one looks at the budget again: a batch of datagrams.
const BATCH_LEN: u64 = 64 * 1500;
/// A block of which nothing comes for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(10 * 60);
/// Bytes of blocks that wait in the engine, at least and at most.
const AHEAD_LEN_MIN: u64 = 1 << 16;
const AHEAD_LEN_MAX: u64 = 16 << 20;
