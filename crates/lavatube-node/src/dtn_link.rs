//! Bundles as a carrier: blocks as sealed bundles (RFC 9171, 9173) over TCPCLv4 (RFC 9174), for a path that other nodes of the
//! standard's network make.
//!
//! What a convergence layer acknowledges or refuses is not the vault's word: acknowledged means that the other end has the
//! block, and only a receipt lets go of it; refused means later. An end that has no room says so at once instead of holding a
//! transfer open, because answers leave in order. Service 64 takes blocks, 7 answers whoever asks, 65 takes the answers to our own
//! questions. It must not know what is in a block.
//! No step of the walk, which takes the native way.

mod dial;
mod echoes;
mod out;
mod seen;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::limits::{
    BLOCK_LEN_MAX, DTN_SESSIONS_MAX, ECHO_BUNDLE_LEN_MAX, KEPT_MAX, QUEUE_MAX, TCPCL_UNANSWERED_MAX,
};
use lavatube_base::{BlockId, Instant, Latest};
use lavatube_bundle::{Bundle, BundleError, ECHO_SERVICE, Endpoint, Mac, PairKeys, echo};
use lavatube_format::tcpcl::Refusal;
use lavatube_link::tcpcl::{Event as CableEvent, Stage as CableStage};
use lavatube_link::{Block, Carrier, Contact, ContactPlan, Event, Line, Status, SubmitError, Totals};
use lavatube_seal::{BundleKeys, LinkEnd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::link_folder::{Counters, DtnFile, LinkError, Pairing};
use crate::port::now;
use crate::tcpcl_port::{TcpclListener, TcpclPort, timespec};
use dial::Dial;
use echoes::Echoes;
use out::Out;
use seen::Seen;

/// A link whose blocks are bundles.
pub struct DtnLink {
    /// Our node's number, and the other end's.
    nodes: [u32; 2],
    key_out: PairKeys,
    key_in: PairKeys,
    counters: Counters,
    /// The next bundle's number: never used again.
    sequence: u64,
    plan: ContactPlan,
    contact: Option<Contact>,
    contact_len_sent: u64,
    lifetime_ms: u64,
    patience: Duration,
    listener: Option<TcpclListener>,
    dial: Dial,
    sessions: Vec<Session>,
    named: u64,
    /// Blocks on their way out, by priority and age.
    queue: BTreeMap<Rank, Out>,
    keys: BTreeMap<u64, Rank>,
    serial: u64,
    /// What sessions carry for us: the block, or an answer that nobody waits for.
    tickets: BTreeMap<u64, Option<Rank>>,
    /// Blocks that came in and the end has not answered: by which session, transfer and bundle.
    incoming: BTreeMap<BlockId, (u64, u64, u64)>,
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

/// A connection to some node.
struct Session {
    name: u64,
    port: TcpclPort,
    /// It was made from here, to whom the owner named.
    dialed: bool,
    /// When something of the other end's came over it.
    genuine: Option<Instant>,
}

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
        let listener = dtn.listen.as_deref().or(listen).map(|at| TcpclListener::bind(at, &node_name(nodes[0])));
        let listener = listener.transpose().map_err(|e| LinkError::Address { address: e.address, text: e.text })?;
        let address = dtn.connect.or_else(|| peer.map(Into::into)).or_else(|| pairing.file.address.clone());
        let mut counters = pairing.counters()?;
        let sequence = counters.reserved;
        counters.reserve(sequence + RESERVE)?;
        let [key_out, key_in] = pairing.bundle_keys()?.map(|keys| pair_keys(&keys));
        let now = now();
        Ok(Self {
            nodes,
            key_out,
            key_in,
            seen: Seen::new(counters.floor),
            floor_kept_at: now,
            counters,
            sequence,
            plan: pairing.plan()?,
            contact: None,
            contact_len_sent: 0,
            lifetime_ms: dtn.lifetime_s * 1000,
            patience: Duration::from_secs(dtn.patience_s),
            listener,
            dial: Dial::new(address, node_name(nodes[0])),
            sessions: Vec::new(),
            named: 0,
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
        self.listener.as_ref().and_then(TcpclListener::address)
    }

    /// Where the other end's bundles come from, once after that changed.
    pub fn moved(&mut self) -> Option<SocketAddr> {
        self.moved.take()
    }

    /// The next thing for the end to do.
    ///
    /// # Errors
    /// When numbers cannot be reserved: nothing may be sent then.
    pub fn event(&mut self) -> Result<Option<Event>, LinkError> {
        if self.sequence + RESERVE / 2 >= self.counters.reserved {
            self.counters.reserve(self.sequence + RESERVE)?;
        }
        Ok(self.events.pop_front())
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
    /// When the listener is of no more use.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.turn();
        if self.events.is_empty() {
            self.wait(wait);
        }
        self.accept()?;
        if let Some(port) = self.dial.turn(self.is_alone()) {
            self.begin(port, true);
        }
        for at in 0..self.sessions.len() {
            self.sessions[at].port.pump(Duration::ZERO);
            while let Some(event) = self.sessions[at].port.event() {
                self.handle(at, event);
            }
        }
        self.sessions.retain(|session| !session.port.is_closed());
        self.send();
        if now().since(self.floor_kept_at) >= FLOOR_EVERY {
            self.keep_floor()?;
        }
        Ok(())
    }

    /// Opens and closes contacts as the plan says.
    fn turn(&mut self) {
        let contact = self.plan.at(now()).copied();
        if contact != self.contact {
            (self.contact, self.contact_len_sent) = (contact, 0);
            self.dial.anew();
        }
        if contact.is_none() {
            for session in std::mem::take(&mut self.sessions) {
                self.let_go(session);
            }
        }
    }

    /// A session is given up: what it carried is sent again over another one.
    fn let_go(&mut self, session: Session) {
        self.incoming.retain(|_, (name, ..)| *name != session.name);
        let theirs: Vec<u64> = self.tickets.keys().copied().filter(|ticket| self.is_of(*ticket, &session)).collect();
        theirs.into_iter().for_each(|ticket| self.unsent(ticket, false));
    }

    /// Tickets are numbered by the session that carries them.
    fn is_of(&self, ticket: u64, session: &Session) -> bool {
        ticket >> TICKET_BITS == session.name
    }

    /// Whether a connection is to be made.
    fn is_alone(&self) -> bool {
        let known = self.sessions.iter().any(|session| session.dialed || session.genuine.is_some());
        self.contact.is_some() && !known
    }

    fn wait(&self, wait: Duration) {
        let begin = now();
        let mut until = begin + wait;
        until = self.dial.due(self.is_alone()).map_or(until, |due| until.min(due));
        let idle = self.queue.values().filter(|out| out.ticket.is_none() && out.later > begin);
        until = idle.map(|out| out.later).min().map_or(until, |later| until.min(later));
        let mut fds = Vec::new();
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener.socket(), PollFlags::IN));
        }
        let mut left = until.since(begin);
        for session in &self.sessions {
            let (stream, flags, at) = session.port.waits_for();
            if !flags.is_empty() {
                fds.push(PollFd::new(stream, flags));
            }
            // Its clock is another one.
            left = left.min(at.map_or(left, |at| at.since(crate::clock::now())));
        }
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timespec(left.max(REST))));
    }

    fn accept(&mut self) -> Result<(), LinkError> {
        for _ in 0..DTN_SESSIONS_MAX {
            let Some(listener) = &self.listener else { return Ok(()) };
            let came = listener.accept(Duration::ZERO);
            match came.map_err(|e| LinkError::Address { address: e.address, text: e.text })? {
                Some(port) => self.begin(port, false),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn begin(&mut self, port: TcpclPort, dialed: bool) {
        if self.contact.is_none() {
            return;
        }
        if self.sessions.len() >= DTN_SESSIONS_MAX {
            // Strangers give way first, then whoever was quiet for longest.
            let quiet = (0..self.sessions.len()).min_by_key(|at| self.sessions[*at].genuine);
            let gone = quiet.map(|at| self.sessions.remove(at));
            gone.into_iter().for_each(|session| self.let_go(session));
        }
        self.named += 1;
        self.sessions.push(Session { name: self.named, port, dialed, genuine: None });
    }

    fn handle(&mut self, at: usize, event: CableEvent) {
        match event {
            CableEvent::Opened { .. } => {}
            CableEvent::Received { transfer, bytes } => self.received(at, transfer, &bytes),
            CableEvent::Acknowledged { key } => {
                if let Some(Some(rank)) = self.tickets.remove(&key) {
                    self.delivered(rank);
                }
            }
            CableEvent::Refused { key, reason: Refusal::Completed } => {
                if let Some(Some(rank)) = self.tickets.remove(&key) {
                    self.delivered(rank);
                }
            }
            CableEvent::Refused { key, .. } => self.unsent(key, true),
            CableEvent::Unsent { key } => self.unsent(key, false),
            CableEvent::Ended(_) => {
                let name = self.sessions[at].name;
                self.incoming.retain(|_, (of, ..)| *of != name);
            }
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
    fn received(&mut self, at: usize, transfer: u64, bytes: &[u8]) {
        self.totals.len_received += bytes.len() as u64;
        match self.take(at, transfer, bytes) {
            Ok(true) => self.sessions[at].port.accepted(transfer),
            Ok(false) => {}
            Err(_) => {
                self.totals.forged += 1;
                self.sessions[at].port.refused(transfer);
            }
        }
    }

    /// Takes a bundle in: whether nothing more is to come of it. An error when it is none for us.
    fn take(&mut self, at: usize, transfer: u64, bytes: &[u8]) -> Result<bool, BundleError> {
        let [own, other] = self.nodes;
        match Bundle::open(bytes, &self.key_in) {
            Ok(bundle) => {
                let ends = [Endpoint::ipn(other, BLOCKS), Endpoint::ipn(own, BLOCKS)];
                if [&bundle.source, &bundle.destination] != [&ends[0], &ends[1]] {
                    return Err(BundleError::Endpoint(bundle.destination.to_string()));
                }
                Ok(self.block(at, transfer, bundle))
            }
            Err(sealed) => {
                // What is not sealed may ask whether anybody is here, or answer that.
                let Ok(bundle) = Bundle::decode(bytes) else { return Err(sealed) };
                if bundle.payload.len() > ECHO_BUNDLE_LEN_MAX {
                    return Err(BundleError::TooLong);
                }
                if bundle.destination == Endpoint::ipn(own, ANSWERS) {
                    let answered = self.echoes.answered(&bundle.payload);
                    self.events.extend(answered.map(|(nonce, took)| Event::Echoed { nonce, took }));
                    return Ok(true);
                }
                let answer = echo(&bundle, own).ok_or(sealed)?;
                if self.echoes.may_answer() {
                    self.post(at, answer, None, false);
                }
                Ok(true)
            }
        }
    }

    /// A block came in, of the other end's for certain: whether it was known.
    fn block(&mut self, at: usize, transfer: u64, bundle: Bundle) -> bool {
        if !self.seen.take(bundle.sequence) {
            self.totals.replayed += 1;
            return true;
        }
        let session = &mut self.sessions[at];
        session.genuine = Some(now());
        let (name, peer) = (session.name, session.port.peer());
        if self.peer.replace(peer) != Some(peer) {
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
            self.sessions[at].port.busy(transfer);
            return false;
        }
        self.incoming.insert(id, (name, transfer, bundle.sequence));
        self.events.push_back(Event::Received { id, priority: 0, bytes: bundle.payload });
        false
    }

    /// Hands to a session what waits, in order, as far as it takes it.
    fn send(&mut self) {
        self.want();
        // A stranger who connects is given nothing of ours: he would say that he has it.
        let known = |session: &Session| session.dialed || session.genuine.is_some();
        let open = |session: &Session| session.port.stage() == CableStage::Open && known(session);
        // Where the other end was last heard.
        let best = (0..self.sessions.len()).filter(|at| open(&self.sessions[*at]));
        let Some(at) = best.max_by_key(|at| self.sessions[*at].genuine) else { return };
        while let Some(question) = self.echoes.next() {
            let (own, other) = (Endpoint::ipn(self.nodes[0], ANSWERS), Endpoint::ipn(self.nodes[1], ECHO_SERVICE));
            self.post(at, Bundle::new(own, other, question.to_vec()), None, false);
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
            if !self.post(at, Bundle::new(own, other, bytes), Some(rank), true)
                && let Some(out) = self.queue.get_mut(&rank)
            {
                // This node takes none of its length, or cannot now.
                out.unsent(true);
            }
        }
        self.want();
        self.sessions[at].port.pump(Duration::ZERO);
    }

    /// Gives a bundle to a session; whether it took it.
    fn post(&mut self, at: usize, mut bundle: Bundle, rank: Option<Rank>, sealed: bool) -> bool {
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
        let (len, ticket) =
            (bytes.len() as u64, (self.sessions[at].name << TICKET_BITS) | bundle.sequence & TICKET_MASK);
        if self.sessions[at].port.send(ticket, bytes).is_err() {
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

    /// Asks for the bytes of what goes next, as far as memory allows: what a session has counts until it is answered, so that it always
    /// takes what was asked for.
    fn want(&mut self) {
        let now = now();
        let len = |out: &Out| usize::try_from(out.block.len).unwrap_or(usize::MAX);
        let in_hand = self.queue.values().filter(|out| out.in_hand());
        let (mut count, mut held) = in_hand.fold((0, 0), |(count, held), out| (count + 1, held + len(out)));
        for out in self.queue.values_mut().filter(|out| !out.in_hand() && out.later <= now) {
            if count >= TCPCL_UNANSWERED_MAX || (count > 0 && held + len(out) > BLOCK_LEN_MAX) {
                return;
            }
            (count, held) = (count + 1, held + len(out));
            out.wanted = true;
            self.events.push_back(Event::Wanted { key: out.block.key });
        }
    }

    /// The session of this name.
    fn session(&mut self, name: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.name == name)
    }
}

impl Carrier for DtnLink {
    fn submit(&mut self, block: Block) -> Result<(), SubmitError> {
        if block.len == 0 || block.len > BLOCK_LEN_MAX as u64 {
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
        if let Some(rank) = self.keys.remove(&key) {
            self.queue.remove(&rank);
        }
    }

    fn accepted(&mut self, id: BlockId, _: Instant) {
        self.kept.insert(id, ());
        if let Some((name, transfer, _)) = self.incoming.remove(&id)
            && let Some(session) = self.session(name)
        {
            session.port.accepted(transfer);
        }
    }

    /// The end says itself why, in a message; to the network it is a bundle that arrived.
    fn refused(&mut self, id: BlockId, now: Instant) {
        self.accepted(id, now);
    }

    fn busy(&mut self, id: BlockId, _: Instant) {
        let Some((name, transfer, number)) = self.incoming.remove(&id) else { return };
        // A node between may bring the very same bundle again.
        self.seen.forget(number);
        if let Some(session) = self.session(name) {
            session.port.busy(transfer);
        }
    }

    fn ping(&mut self, nonce: u64) {
        self.echoes.ask(nonce);
    }

    fn status(&self, now: Instant) -> Status {
        let open = self.sessions.iter().any(|session| session.port.stage() == CableStage::Open);
        let line = match (self.contact, open) {
            (None, _) => Line::Shut,
            (Some(_), true) => Line::Open,
            (Some(_), false) => Line::Silent,
        };
        Status {
            line,
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
        }
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

fn node_name(node: u32) -> String {
    format!("ipn:{node}.0")
}

fn pair_keys(keys: &BundleKeys) -> PairKeys {
    PairKeys { mac: Mac::Sha256(*keys.mac.bytes()), cipher: *keys.cipher.bytes() }
}

/// The service that takes blocks, and the one that takes answers to our own pings.
const BLOCKS: u32 = 64;
const ANSWERS: u32 = 65;
/// Bundle numbers reserved at a time.
const RESERVE: u64 = 1 << 16;
/// A ticket is the session's name and a bundle's number.
const TICKET_BITS: u32 = 40;
const TICKET_MASK: u64 = (1 << TICKET_BITS) - 1;
/// The shortest wait, so that no mistake of anybody's keeps a processor busy.
const REST: Duration = Duration::from_micros(50);
/// How often the floor goes to the disk.
const FLOOR_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
