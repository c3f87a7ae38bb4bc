//! Bundles as a carrier: blocks as sealed bundles (RFC 9171, 9173) over TCPCLv4 (RFC 9174) or LTP (RFC 5326), for a path that other
//! nodes of the standard's network make, or engines of theirs.
//!
//! The rules for bundles are here, the two ways to move them are cables. What a cable acknowledges or refuses is not the vault's
//! word: acknowledged means that somebody has the block, and only a receipt lets go of it; refused means later. Service 64 takes
//! blocks, 7 answers whoever asks, 65 takes the answers to our own questions. It must not know what is in a block.
//! No step of the walk, which takes the native way.

mod cable;
mod dial;
mod echoes;
mod ltp;
mod out;
mod seen;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::limits::{ECHO_BUNDLE_LEN_MAX, KEPT_MAX, QUEUE_MAX};
use lavatube_base::{BlockId, Instant, Latest};
use lavatube_bundle::{Bundle, BundleError, ECHO_SERVICE, Endpoint, Mac, PairKeys, echo};
use lavatube_link::{Block, Carrier, Contact, ContactPlan, Event, Line, Status, SubmitError, Totals};
use lavatube_seal::{BundleKeys, LinkEnd};

use crate::link_folder::{CarrierFile, Counters, DtnFile, LinkError, Pairing};
use crate::port::now;
use cable::{Cable, Hand, News, Place};
use echoes::Echoes;
use ltp::{Engines, Ltp};
use out::Out;
use seen::Seen;
use sessions::Sessions;

/// A link whose blocks are bundles.
pub struct DtnLink {
    /// Our node's number, and the other end's.
    nodes: [u32; 2],
    key_out: PairKeys,
    key_in: PairKeys,
    counters: Counters,
    /// When numbers may be reserved again, after a time when they could not.
    reserve_at: Instant,
    /// The next bundle's number: never used again.
    sequence: u64,
    plan: ContactPlan,
    contact: Option<Contact>,
    contact_len_sent: u64,
    lifetime_ms: u64,
    patience: Duration,
    cable: Box<dyn Cable>,
    /// Blocks on their way out, by priority and age.
    queue: BTreeMap<Rank, Out>,
    keys: BTreeMap<u64, Rank>,
    serial: u64,
    /// What the cable carries for us, by bundle number: the block, or an answer that nobody waits for.
    tickets: BTreeMap<u64, Option<Rank>>,
    /// Blocks that came in and the end has not answered: where, and by which bundle.
    incoming: BTreeMap<BlockId, (Place, u64)>,
    kept: Latest<BlockId, ()>,
    seen: Seen,
    floor_kept_at: Instant,
    echoes: Echoes,
    events: VecDeque<Event>,
    moved: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    totals: Totals,
}

/// Priority, then age.
type Rank = (u8, u64);

impl DtnLink {
    /// The link of `pairing` as `dtn` says; `listen` and `peer` are the caller's words for what `dtn` does not say.
    ///
    /// # Errors
    /// [`LinkError`] when an address or a file cannot be used.
    pub(crate) fn open(
        pairing: &Pairing,
        dtn: DtnFile,
        listen: Option<&str>,
        peer: Option<&str>,
    ) -> Result<Self, LinkError> {
        let (own, other) = if pairing.end() == LinkEnd::Depositor { (1, 2) } else { (2, 1) };
        let nodes = [dtn.node.unwrap_or(own), dtn.peer_node.unwrap_or(other)];
        let plan = pairing.plan()?;
        let listen = dtn.listen.as_deref().or(listen);
        let address = dtn.connect.clone().or_else(|| peer.map(Into::into)).or_else(|| pairing.file.address.clone());
        let cable: Box<dyn Cable> = match dtn.carrier {
            CarrierFile::Tcpcl => Box::new(Sessions::open(listen, address, &format!("ipn:{}.0", nodes[0]))?),
            CarrierFile::Ltp => {
                let engines = Engines { own: dtn.engine_of(nodes[0]), peer: dtn.peer_engine_of(nodes[1]) };
                let (listen, address) = listen.zip(address.as_deref()).ok_or_else(|| pairing.unfit(&NO_WAY_BACK))?;
                let first = plan.at(now()).or_else(|| plan.next(now()));
                Box::new(Ltp::open(&engines, listen, address, first.and_then(|contact| contact.light))?)
            }
        };
        let mut counters = pairing.counters()?;
        let sequence = counters.reserved;
        counters.reserve(sequence + RESERVE)?;
        let [key_out, key_in] = pairing.bundle_keys()?.map(|keys| pair_keys(&keys));
        Ok(Self {
            nodes,
            key_out,
            key_in,
            seen: Seen::new(counters.floor),
            floor_kept_at: now(),
            counters,
            reserve_at: Instant(0),
            sequence,
            plan,
            contact: None,
            contact_len_sent: 0,
            lifetime_ms: dtn.lifetime_s * 1000,
            patience: Duration::from_secs(dtn.patience_s),
            cable,
            queue: BTreeMap::new(),
            keys: BTreeMap::new(),
            serial: 0,
            tickets: BTreeMap::new(),
            incoming: BTreeMap::new(),
            kept: Latest::new(KEPT_MAX),
            echoes: Echoes::new(),
            events: VecDeque::new(),
            moved: None,
            peer: None,
            totals: Totals::default(),
        })
    }

    /// Where this end listens, if it is anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.cable.address()
    }

    /// Where the other end's bundles come from, once after that changed.
    pub fn moved(&mut self) -> Option<SocketAddr> {
        self.moved.take()
    }

    /// The next thing for the end to do.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Reserves numbers. A full disk does not end the link: what is reserved is used, and then nothing is sent.
    fn reserve(&mut self) {
        let is_due = self.sequence + RESERVE / 2 >= self.counters.reserved && self.reserve_at <= now();
        if is_due && self.counters.reserve(self.sequence + RESERVE).is_err() {
            self.reserve_at = now() + RESERVE_AGAIN;
        }
    }

    /// Keeps which numbers came in.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep_floor(&mut self) -> Result<(), LinkError> {
        self.floor_kept_at = now();
        self.counters.keep_floor(self.seen.next_floor())
    }

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`. Call it when there are no more events.
    ///
    /// # Errors
    /// When a socket is of no more use.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.turn();
        self.reserve();
        self.send();
        self.cable.pump(if self.events.is_empty() { self.idle(wait) } else { Duration::ZERO })?;
        while let Some(news) = self.cable.news() {
            self.handle(news);
        }
        self.send();
        if now().since(self.floor_kept_at) >= FLOOR_EVERY {
            // A full disk must not stop the link.
            let _ = self.keep_floor();
        }
        Ok(())
    }

    /// Opens and closes contacts as the plan says.
    fn turn(&mut self) {
        let contact = self.plan.at(now()).copied();
        if contact != self.contact {
            (self.contact, self.contact_len_sent) = (contact, 0);
            if self.cable.turn(contact.as_ref()) {
                self.echoes.ask(GREETING);
            }
        }
    }

    /// How long there is nothing to do, at most `wait`, if nothing comes.
    fn idle(&self, wait: Duration) -> Duration {
        let begin = now();
        let later = self.queue.values().filter(|out| out.ticket.is_none() && out.later > begin).map(|out| out.later);
        let due = later.chain(self.cable.due()).min();
        due.map_or(wait, |due| wait.min(due.since(begin)))
    }

    fn handle(&mut self, news: News) {
        match news {
            News::Came { place, bytes } => self.received(place, &bytes),
            News::There { ticket } => {
                if let Some(Some(rank)) = self.tickets.remove(&ticket) {
                    self.delivered(rank);
                }
            }
            News::Unsent { ticket, refused } => self.unsent(ticket, refused),
            News::Gone { session } => self.incoming.retain(|_, (place, _)| place.session != session),
        }
    }

    fn delivered(&mut self, rank: Rank) {
        if let Some(out) = self.queue.remove(&rank) {
            self.keys.remove(&out.block.key);
            self.events.push_back(Event::Delivered { key: out.block.key });
        }
    }

    /// What a ticket stood for is to be sent again: more and more rarely where it was refused, because all of it crosses again.
    fn unsent(&mut self, ticket: u64, refused: bool) {
        let rank = self.tickets.remove(&ticket).flatten();
        let Some(out) = rank.and_then(|rank| self.queue.get_mut(&rank)) else { return };
        out.unsent(refused);
    }

    /// A bundle came in from some node.
    fn received(&mut self, place: Place, bytes: &[u8]) {
        self.totals.len_received += bytes.len() as u64;
        match self.take(place, bytes) {
            Ok(true) => self.cable.accepted(place),
            Ok(false) => {}
            Err(_) => {
                self.totals.forged += 1;
                self.cable.refused(place);
            }
        }
    }

    /// Takes a bundle in: whether nothing more is to come of it. An error when it is none for us.
    fn take(&mut self, place: Place, bytes: &[u8]) -> Result<bool, BundleError> {
        let [own, other] = self.nodes;
        match Bundle::open(bytes, &self.key_in) {
            Ok(bundle) => {
                let ends = [Endpoint::ipn(other, BLOCKS), Endpoint::ipn(own, BLOCKS)];
                if [&bundle.source, &bundle.destination] != [&ends[0], &ends[1]] {
                    return Err(BundleError::Endpoint(bundle.destination.to_string()));
                }
                Ok(self.block(place, bundle))
            }
            Err(sealed) => {
                // What is not sealed may ask whether anybody is here, or answer that.
                let Ok(bundle) = Bundle::decode(bytes) else { return Err(sealed) };
                if bundle.payload.len() > ECHO_BUNDLE_LEN_MAX {
                    return Err(BundleError::TooLong);
                }
                if bundle.destination == Endpoint::ipn(own, ANSWERS) {
                    let answered = self.echoes.answered(&bundle.payload).filter(|(nonce, _)| *nonce != GREETING);
                    self.events.extend(answered.map(|(nonce, took)| Event::Echoed { nonce, took }));
                    return Ok(true);
                }
                let answer = echo(&bundle, own).ok_or(sealed)?;
                if self.echoes.may_answer() {
                    self.post(Some(place), answer, None, false);
                }
                Ok(true)
            }
        }
    }

    /// A block came in, of the other end's for certain: whether it was known.
    fn block(&mut self, place: Place, bundle: Bundle) -> bool {
        if !self.seen.take(bundle.sequence) {
            self.totals.replayed += 1;
            return true;
        }
        if let Some(peer) = self.cable.genuine(place)
            && self.peer.replace(peer) != Some(peer)
        {
            self.moved = Some(peer);
        }
        self.totals.datagrams_received += 1;
        let id = BlockId(h16(&[&bundle.payload]));
        if self.kept.contains(&id) {
            return true;
        }
        // Of one that comes twice at once the first is answered; what becomes of it shows then.
        if self.incoming.contains_key(&id) {
            self.seen.forget(bundle.sequence);
            self.cable.busy(place, id);
            return false;
        }
        self.incoming.insert(id, (place, bundle.sequence));
        self.events.push_back(Event::Received { id, priority: 0, bytes: bundle.payload });
        false
    }

    /// Hands to the cable what waits, in order, as far as it takes it.
    fn send(&mut self) {
        self.want();
        if !self.cable.is_open() {
            return;
        }
        while let Some(question) = self.echoes.next() {
            let (own, other) = (Endpoint::ipn(self.nodes[0], ANSWERS), Endpoint::ipn(self.nodes[1], ECHO_SERVICE));
            self.post(None, Bundle::new(own, other, question.to_vec()), None, false);
        }
        let now = now();
        let due = |out: &Out| out.ticket.is_none() && out.bytes.is_some() && out.later <= now;
        let ready: Vec<Rank> = self.queue.iter().filter(|(_, out)| due(out)).map(|(rank, _)| *rank).collect();
        let budget = self.contact.and_then(|contact| contact.budget).unwrap_or(u64::MAX);
        for rank in ready {
            let Some(out) = self.queue.get_mut(&rank) else { continue };
            if self.contact_len_sent.saturating_add(out.block.len) > budget {
                break;
            }
            let Some(bytes) = out.bytes.take() else { continue };
            let (own, other) = (Endpoint::ipn(self.nodes[0], BLOCKS), Endpoint::ipn(self.nodes[1], BLOCKS));
            if !self.post(None, Bundle::new(own, other, bytes), Some(rank), true)
                && let Some(out) = self.queue.get_mut(&rank)
            {
                // This node takes none of its length, or cannot now.
                out.unsent(true);
            }
        }
        self.want();
        self.cable.flush();
    }

    /// Gives a bundle to the cable; whether it took it.
    fn post(&mut self, back_to: Option<Place>, mut bundle: Bundle, rank: Option<Rank>, sealed: bool) -> bool {
        // No clock is trusted: the time of making is 0, and the age counts.
        (bundle.age_ms, bundle.sequence) = (Some(0), self.sequence);
        if sealed {
            bundle.lifetime_ms = self.lifetime_ms;
        }
        if self.sequence >= self.counters.reserved {
            return false;
        }
        self.sequence += 1;
        let bytes = if sealed { bundle.seal(&self.key_out) } else { bundle.encode() };
        let Ok(bytes) = bytes else { return false };
        let (len, ticket) = (bytes.len() as u64, bundle.sequence);
        if !self.cable.post(ticket, bytes, back_to) {
            return false;
        }
        self.tickets.insert(ticket, rank);
        if let Some(out) = rank.and_then(|rank| self.queue.get_mut(&rank)) {
            out.ticket = Some(ticket);
            self.totals.symbols_sent += 1;
        }
        self.totals.datagrams_sent += 1;
        self.totals.len_sent += len;
        self.contact_len_sent += len;
        true
    }

    /// Asks for the bytes of what goes next, as far as memory allows.
    fn want(&mut self) {
        let now = now();
        let len = |out: &Out| usize::try_from(out.block.len).unwrap_or(usize::MAX);
        let mut hand = Hand::default();
        for out in self.queue.values().filter(|out| out.in_hand()) {
            (hand.count, hand.len) = (hand.count + 1, hand.len + len(out));
            hand.ahead += if out.ticket.is_none() { len(out) } else { 0 };
        }
        for out in self.queue.values_mut().filter(|out| !out.in_hand() && out.later <= now) {
            if !self.cable.has_room(hand, len(out)) {
                return;
            }
            hand = Hand { count: hand.count + 1, len: hand.len + len(out), ahead: hand.ahead + len(out) };
            out.wanted = true;
            self.events.push_back(Event::Wanted { key: out.block.key });
        }
    }
}

impl Carrier for DtnLink {
    fn submit(&mut self, block: Block) -> Result<(), SubmitError> {
        if block.len == 0 || block.len > self.cable.block_len_max() as u64 {
            return Err(SubmitError::Length);
        }
        if self.keys.contains_key(&block.key) {
            return Err(SubmitError::Known);
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(SubmitError::Full);
        }
        let rank = (block.priority, self.serial);
        self.serial += 1;
        self.keys.insert(block.key, rank);
        self.queue.insert(rank, Out::new(block));
        self.want();
        Ok(())
    }

    fn supply(&mut self, key: u64, bytes: Vec<u8>) {
        let out = self.keys.get(&key).and_then(|rank| self.queue.get_mut(rank));
        if let Some(out) = out.filter(|out| out.wanted && out.block.len == bytes.len() as u64) {
            (out.bytes, out.wanted) = (Some(bytes), false);
        }
    }

    fn withdraw(&mut self, key: u64) {
        let out = self.keys.remove(&key).and_then(|rank| self.queue.remove(&rank));
        if let Some(ticket) = out.and_then(|out| out.ticket) {
            self.cable.withdraw(ticket);
        }
    }

    fn accepted(&mut self, id: BlockId, _: Instant) {
        self.kept.insert(id, ());
        if let Some((place, _)) = self.incoming.remove(&id) {
            self.cable.accepted(place);
        }
    }

    /// The end says itself why, in a message; to the network it is a bundle that arrived.
    fn refused(&mut self, id: BlockId, now: Instant) {
        self.accepted(id, now);
    }

    fn busy(&mut self, id: BlockId, _: Instant) {
        let Some((place, number)) = self.incoming.remove(&id) else { return };
        // The cable, or a node between, may bring the very same bundle again.
        self.seen.forget(number);
        self.cable.busy(place, id);
    }

    fn ping(&mut self, nonce: u64) {
        self.echoes.ask(nonce);
    }

    fn status(&self, now: Instant) -> Status {
        let mut status = Status {
            line: Line::Shut,
            contact: self.contact,
            next_contact: self.plan.next(now).copied(),
            contact_len_sent: self.contact_len_sent,
            rate_up_bit_s: self.contact.map_or(0, |contact| contact.rate_up_bit_s),
            loss: 0.0,
            dispersion: 1.0,
            light: self.contact.and_then(|contact| contact.light),
            outgoing: self.queue.values().map(Out::sending).collect(),
            incoming: Vec::new(),
            totals: self.totals,
            floor: self.seen.next_floor(),
        };
        self.cable.describe(&mut status);
        status
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

fn pair_keys(keys: &BundleKeys) -> PairKeys {
    PairKeys { mac: Mac::Sha256(*keys.mac.bytes()), cipher: *keys.cipher.bytes() }
}

/// The service that takes blocks, and the one that takes answers to our own pings.
const BLOCKS: u32 = 64;
const ANSWERS: u32 = 65;
/// Bundle numbers reserved at a time.
const RESERVE: u64 = 1 << 16;
const RESERVE_AGAIN: Duration = Duration::from_secs(2);
/// The question with which an end begins, whose answer nobody waits for.
const GREETING: u64 = u64::MAX;
const NO_WAY_BACK: &str = "over LTP nobody's address is learnt: each end needs one where it hears (dtn.listen, or --listen) and that of the other \
     end (dtn.connect, or --peer)";
/// How often the floor goes to the disk.
const FLOOR_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
