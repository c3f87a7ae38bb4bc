//! The driver of a link: a socket, the real clock and a thread that turns the engine. Steps 10 and 11 of the walk.
//!
//! What the engine asks for of the disk that is the driver's own (counters, symbols) is done here; all other events go to
//! the caller. Where the other end is, is learnt from what it sends, once the engine has found it genuine. It must not know
//! what is in a block.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_link::{Event, Link, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::clock;
use crate::link_folder::{Counters, LinkError, Pairing, io_error};
use crate::symbol_files::SymbolFiles;
use crate::wire::Wire;
use crate::words::plain;
use crate::workshop::Workshop;

/// A link on this computer's network.
pub struct Driver {
    wire: Wire,
    workshop: Workshop,
    link: Link<SymbolFiles>,
    peer: Option<SocketAddr>,
    /// The peer moved, or was heard for the first time.
    moved: bool,
    counters: Counters,
    floor_kept_at: Instant,
    events: VecDeque<Event>,
    outgoing: Vec<u8>,
    ends: Vec<usize>,
}

impl Driver {
    /// A driver of the link of `pairing`, at `listen`; `peer` is where the other end is said to be.
    ///
    /// # Errors
    /// [`LinkError`] when an address or a file cannot be used.
    pub fn open(pairing: &Pairing, listen: Option<&str>, peer: Option<&str>) -> Result<Self, LinkError> {
        let peer = peer.or(pairing.file.address.as_deref()).map(resolve).transpose()?;
        let listen = match (listen, peer) {
            (Some(listen), _) => resolve(listen)?,
            (None, Some(SocketAddr::V6(_))) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            (None, _) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let bad = |e: io::Error| LinkError::Address { address: listen.to_string(), text: plain(&e.to_string()) };
        let wire = Wire::bind(listen).map_err(bad)?;
        let workshop = Workshop::new().map_err(bad)?;

        let mut counters = pairing.counters()?;
        let start = counters.reserved;
        counters.reserve(start + RESERVE)?;
        let symbols = pairing.own_folder()?.join("symbols");
        let store = SymbolFiles::open(&symbols).map_err(|e| io_error(&symbols, &e))?;
        let mut config = pairing.config()?;
        config.floor = counters.floor;
        let link = Link::new(config, start..start + RESERVE, store, now());
        Ok(Self {
            wire,
            workshop,
            link,
            peer,
            moved: peer.is_some(),
            counters,
            floor_kept_at: now(),
            events: VecDeque::new(),
            outgoing: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// The engine, to be told things.
    pub fn link(&mut self) -> &mut Link<SymbolFiles> {
        &mut self.link
    }

    /// Where this end listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.wire.address().ok()
    }

    /// Where the other end is, once after it was heard at a new place.
    pub fn moved(&mut self) -> Option<SocketAddr> {
        std::mem::take(&mut self.moved).then_some(self.peer).flatten()
    }

    /// How the link is. For people: it copies.
    pub fn status(&self) -> Status {
        self.link.status(now())
    }

    /// The next thing that is not the driver's own to do.
    ///
    /// # Errors
    /// When counters cannot be reserved: nothing may be sent then.
    pub fn event(&mut self) -> Result<Option<Event>, LinkError> {
        loop {
            match self.events.pop_front().or_else(|| self.link.poll_event()) {
                Some(Event::ReserveCounters { end }) => {
                    self.counters.reserve(end + RESERVE)?;
                    self.link.reserved(end + RESERVE);
                }
                other => return Ok(other),
            }
        }
    }

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`. Call it when there are no more
    /// events.
    ///
    /// # Errors
    /// When the floor cannot be kept, or the socket is of no more use.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.workshop.turn(&mut self.link, now);
        let more = self.send();
        self.gather();
        let begin = now();
        let until = match self.peer {
            // Nobody can be sent anything.
            None => begin + wait,
            Some(_) => self.link.poll_timeout(begin).map_or(begin + wait, |at| at.min(begin + wait)),
        };
        let wait = if more || !self.events.is_empty() { Duration::ZERO } else { until.since(begin).max(REST) };
        self.await_input(wait)?;
        self.receive();
        if now() >= until {
            self.link.handle_timeout(now());
        }
        self.workshop.turn(&mut self.link, now);
        self.gather();
        if now().since(self.floor_kept_at) >= FLOOR_EVERY {
            self.keep_floor()?;
        }
        Ok(())
    }

    /// Keeps what a next life must know.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_floor(&mut self) -> Result<(), LinkError> {
        self.floor_kept_at = now();
        self.counters.keep_floor(self.status().floor)
    }

    fn gather(&mut self) {
        while let Some(event) = self.link.poll_event() {
            self.events.push_back(event);
        }
    }

    /// Sends some datagrams; whether more may be sent at once.
    fn send(&mut self) -> bool {
        let Some(peer) = self.peer else { return false };
        for _ in 0..BATCHES {
            self.outgoing.clear();
            self.ends.clear();
            let most = self.wire.batch();
            let sent = self.link.poll_transmits(now(), &mut self.outgoing, &mut self.ends, most);
            self.wire.send(peer, &self.outgoing, &self.ends);
            if sent < most {
                return false;
            }
        }
        true
    }

    fn await_input(&self, wait: Duration) -> Result<(), LinkError> {
        let bell = self.workshop.bell();
        let mut fds = [PollFd::new(self.wire.socket(), PollFlags::IN), PollFd::new(&bell, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => {
                let address = self.address().map(|a| a.to_string()).unwrap_or_default();
                Err(LinkError::Address { address, text: plain(&io::Error::from(e).to_string()) })
            }
        }
    }

    /// Takes in some of what came.
    fn receive(&mut self) {
        for _ in 0..BATCHES {
            let (link, peer, moved) = (&mut self.link, &mut self.peer, &mut self.moved);
            let all = self.wire.receive(|from, datagrams| {
                if link.handle_datagrams(datagrams, now()) && *peer != Some(from) {
                    (*peer, *moved) = (Some(from), true);
                }
            });
            if all {
                return;
            }
        }
    }
}

/// The clock of links: the wall clock's time when this process began, and real time from there. Contact plans speak of
/// calendars; nothing else depends on where it began.
pub fn now() -> Instant {
    static ORIGIN: OnceLock<(u64, Instant)> = OnceLock::new();
    let (wall, began) = ORIGIN.get_or_init(|| {
        let wall = clock::wall_now();
        let ns = u64::try_from(wall.s).unwrap_or(0).saturating_mul(1_000_000_000);
        (ns.saturating_add(wall.ns.into()), clock::now())
    });
    Instant(wall.saturating_add(clock::now().since(*began).as_nanos().try_into().unwrap_or(u64::MAX)))
}

fn resolve(address: &str) -> Result<SocketAddr, LinkError> {
    let bad = |text: String| LinkError::Address { address: address.to_owned(), text };
    let mut all = address.to_socket_addrs().map_err(|e| bad(plain(&e.to_string())))?;
    all.next().ok_or_else(|| bad("it has no address".into()))
}

pub(crate) fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}

/// Counters reserved at a time.
const RESERVE: u64 = 1 << 20;
/// Batches sent before one looks whether any came in, and the other way round.
const BATCHES: usize = 4;
/// The shortest wait, so that no mistake of anybody's keeps a processor busy.
const REST: Duration = Duration::from_micros(50);
/// How often the floor goes to the disk.
const FLOOR_EVERY: Duration = Duration::from_secs(1);
