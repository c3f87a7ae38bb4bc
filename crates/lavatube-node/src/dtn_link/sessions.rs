//! TCPCLv4 sessions (RFC 9174) as a cable: those that other nodes open, and the one that is opened from here.
//!
//! An end that has no room says so at once instead of holding a transfer open, because answers leave in order. Strangers may
//! connect; they are given nothing. It must not know what a bundle is.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::limits::{BLOCK_LEN_MAX, DTN_SESSIONS_MAX, TCPCL_UNANSWERED_MAX};
use lavatube_base::{BlockId, Instant};
use lavatube_format::tcpcl::Refusal;
use lavatube_link::tcpcl::{Event, Stage};
use lavatube_link::{Contact, Line, Status};
use rustix::event::{PollFd, PollFlags, poll};

use super::cable::{Cable, Hand, News, Place};
use super::dial::Dial;
use crate::link_folder::LinkError;
use crate::port::now;
use crate::tcpcl_port::{TcpclError, TcpclListener, TcpclPort, timespec};

/// All sessions of a link.
pub(super) struct Sessions {
    listener: Option<TcpclListener>,
    dial: Dial,
    all: Vec<Session>,
    named: u64,
    /// Whether there is a contact.
    is_up: bool,
    news: VecDeque<News>,
}

/// A connection to some node.
struct Session {
    name: u64,
    port: TcpclPort,
    /// It was made from here, to whom the owner named.
    dialed: bool,
    /// When something of the other end's came over it.
    genuine: Option<Instant>,
    /// The tickets of what it carries.
    carries: BTreeSet<u64>,
}

impl Session {
    /// A stranger who connects is given nothing of ours: he would say that he has it.
    fn is_known(&self) -> bool {
        self.dialed || self.genuine.is_some()
    }
}

impl Sessions {
    /// Sessions of the node `node`, which listens at `listen` and connects to `address`.
    ///
    /// # Errors
    /// [`LinkError`] when it cannot listen there.
    pub fn open(listen: Option<&str>, address: Option<String>, node: &str) -> Result<Self, LinkError> {
        let listener = listen.map(|at| TcpclListener::bind(at, node)).transpose().map_err(unusable)?;
        let (dial, all, news) = (Dial::new(address, node.to_owned()), Vec::new(), VecDeque::new());
        Ok(Self { listener, dial, all, named: 0, is_up: false, news })
    }

    /// A session is given up: what it carried is sent again over another one.
    fn let_go(&mut self, session: Session) {
        self.news.push_back(News::Gone { session: session.name });
        self.news.extend(session.carries.into_iter().map(|ticket| News::Unsent { ticket, refused: false }));
    }

    /// Whether a connection is to be made.
    fn is_alone(&self) -> bool {
        self.is_up && !self.all.iter().any(Session::is_known)
    }

    fn wait(&self, wait: Duration) {
        let mut left = wait;
        let mut fds = Vec::new();
        if let Some(listener) = &self.listener {
            fds.push(PollFd::new(listener.socket(), PollFlags::IN));
        }
        for session in &self.all {
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
            match listener.accept(Duration::ZERO).map_err(unusable)? {
                Some(port) => self.begin(port, false),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn begin(&mut self, port: TcpclPort, dialed: bool) {
        if !self.is_up {
            return;
        }
        if self.all.len() >= DTN_SESSIONS_MAX {
            // Strangers give way first, then whoever was quiet for longest.
            let quiet = (0..self.all.len()).min_by_key(|at| self.all[*at].genuine);
            let gone = quiet.map(|at| self.all.remove(at));
            gone.into_iter().for_each(|session| self.let_go(session));
        }
        self.named += 1;
        self.all.push(Session { name: self.named, port, dialed, genuine: None, carries: BTreeSet::new() });
    }

    /// The open session over which the other end was last heard, of those that are known.
    fn best(&self) -> Option<usize> {
        let open = |session: &Session| session.port.stage() == Stage::Open && session.is_known();
        (0..self.all.len()).filter(|at| open(&self.all[*at])).max_by_key(|at| self.all[*at].genuine)
    }

    fn session(&mut self, place: Place) -> Option<&mut Session> {
        self.all.iter_mut().find(|session| session.name == place.session)
    }
}

impl Session {
    fn told(&mut self, event: Event) -> Option<News> {
        Some(match event {
            Event::Opened { .. } => return None,
            Event::Received { transfer, bytes } => {
                News::Came { place: Place { session: self.name, number: transfer }, bytes: Arc::new(bytes) }
            }
            Event::Acknowledged { key } | Event::Refused { key, reason: Refusal::Completed } => {
                self.carries.remove(&key);
                News::There { ticket: key }
            }
            Event::Refused { key, .. } => {
                self.carries.remove(&key);
                News::Unsent { ticket: key, refused: true }
            }
            Event::Unsent { key } => {
                self.carries.remove(&key);
                News::Unsent { ticket: key, refused: false }
            }
            Event::Ended(_) => News::Gone { session: self.name },
        })
    }
}

impl Cable for Sessions {
    fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(TcpclListener::address)
    }

    fn turn(&mut self, contact: Option<&Contact>) -> bool {
        self.is_up = contact.is_some();
        self.dial.anew();
        if !self.is_up {
            std::mem::take(&mut self.all).into_iter().for_each(|session| self.let_go(session));
        }
        false
    }

    fn due(&self) -> Option<Instant> {
        self.dial.due(self.is_alone())
    }

    fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        if !wait.is_zero() {
            self.wait(wait);
        }
        self.accept()?;
        if let Some(port) = self.dial.turn(self.is_alone()) {
            self.begin(port, true);
        }
        for session in &mut self.all {
            session.port.pump(Duration::ZERO);
            while let Some(event) = session.port.event() {
                self.news.extend(session.told(event));
            }
        }
        self.all.retain(|session| !session.port.is_closed());
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(at) = self.best() {
            self.all[at].port.pump(Duration::ZERO);
        }
    }

    fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn is_open(&self) -> bool {
        self.best().is_some()
    }

    fn block_len_max(&self) -> usize {
        BLOCK_LEN_MAX
    }

    /// What a session has counts until it is answered, so that it always takes what was asked for.
    fn has_room(&self, hand: Hand, len: usize) -> bool {
        hand.count < TCPCL_UNANSWERED_MAX && (hand.count == 0 || hand.len + len <= BLOCK_LEN_MAX)
    }

    fn post(&mut self, ticket: u64, bundle: Vec<u8>, back_to: Option<Place>) -> bool {
        let at = match back_to {
            Some(place) => self.all.iter().position(|session| session.name == place.session),
            None => self.best(),
        };
        let Some(session) = at.map(|at| &mut self.all[at]) else { return false };
        let taken = session.port.send(ticket, bundle).is_ok();
        if taken {
            session.carries.insert(ticket);
        }
        taken
    }

    fn genuine(&mut self, place: Place) -> Option<SocketAddr> {
        let session = self.session(place)?;
        session.genuine = Some(now());
        Some(session.port.peer())
    }

    fn accepted(&mut self, place: Place) {
        if let Some(session) = self.session(place) {
            session.port.accepted(place.number);
        }
    }

    fn refused(&mut self, place: Place) {
        if let Some(session) = self.session(place) {
            session.port.refused(place.number);
        }
    }

    fn busy(&mut self, place: Place, _: BlockId) {
        if let Some(session) = self.session(place) {
            session.port.busy(place.number);
        }
    }

    fn describe(&self, status: &mut Status) {
        let open = self.all.iter().any(|session| session.port.stage() == Stage::Open);
        status.line = match (self.is_up, open) {
            (false, _) => Line::Shut,
            (true, true) => Line::Open,
            (true, false) => Line::Silent,
        };
    }
}

fn unusable(e: TcpclError) -> LinkError {
    LinkError::Address { address: e.address, text: e.text }
}

/// The shortest wait, so that no mistake of anybody's keeps a processor busy.
const REST: Duration = Duration::from_micros(50);
