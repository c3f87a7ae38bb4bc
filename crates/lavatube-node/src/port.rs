//! What an end of a link stands on: a clock, and a way for datagrams in and out. Steps 10 and 11 of the walk.
//!
//! There are two: a socket and the real clock, here, and a rehearsal's, where both ends share a channel and a clock that may
//! be virtual. The ends and their driver cannot tell which. It must not know what is in a datagram.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::DATAGRAM_LEN_MAX;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::clock;
use crate::link_folder::LinkError;
use crate::wire::Wire;
use crate::words::plain;

/// A clock, and a way for datagrams. Losing them is allowed, waiting too short is too.
pub trait Port {
    /// What time it is. It never runs backwards.
    fn now(&self) -> Instant;

    /// Whether there is somebody to send to.
    fn has_peer(&self) -> bool;

    /// Sends a datagram.
    fn send(&mut self, datagram: &[u8]);

    /// How many datagrams are worth sending at a time.
    fn batch(&self) -> usize {
        16
    }

    /// Sends the datagrams in `bytes` that end at `ends`.
    fn send_many(&mut self, bytes: &[u8], ends: &[usize]) {
        let mut start = 0;
        for end in ends {
            self.send(&bytes[start..*end]);
            start = *end;
        }
    }

    /// Shows some of the datagrams that came in, those from one place together, and is told whether one of them was genuine; whether these
    /// were all.
    fn receive_many(&mut self, show: &mut dyn FnMut(&[&[u8]], Instant) -> bool) -> bool {
        let mut buffer = [0; DATAGRAM_LEN_MAX + 1];
        for _ in 0..self.batch() {
            let Some(len) = self.receive(&mut buffer) else { return true };
            if show(&[&buffer[..len]], self.now()) {
                self.genuine();
            }
        }
        false
    }

    /// Whether other threads do work while this one waits; without them, work is done at once, and a virtual clock does not notice.
    fn has_threads(&self) -> bool {
        false
    }

    /// The length of the next datagram that came in, which is in `buffer` then; `None` when there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// What was received last was genuine: who sent it is the other end.
    fn genuine(&mut self);

    /// Waits for datagrams, for at most so long.
    ///
    /// # Errors
    /// When none can ever come any more.
    fn wait(&mut self, wait: Duration) -> Result<(), LinkError>;

    /// Waits for datagrams or until `bell` can be read, for at most so long.
    ///
    /// # Errors
    /// When none can ever come any more.
    fn wait_or_bell(&mut self, wait: Duration, bell: BorrowedFd<'_>) -> Result<(), LinkError> {
        let _ = bell;
        self.wait(wait)
    }

    /// From now on `question` is answered by `answer`, whoever asks.
    fn answers(&mut self, _question: &[u8], _answer: Vec<u8>) {}

    /// Where this end listens, if it is anywhere.
    fn address(&self) -> Option<SocketAddr>;

    /// Where the other end is, once after it was heard at a new place.
    fn moved(&mut self) -> Option<SocketAddr>;
}

/// A socket of this computer, and the real clock.
pub struct UdpPort {
    wire: Wire,
    peer: Option<SocketAddr>,
    /// Who sent what was received last.
    from: Option<SocketAddr>,
    /// The peer moved, or was heard for the first time.
    moved: bool,
    /// A question that anybody may ask, and its answer.
    answers: Option<(Vec<u8>, Vec<u8>)>,
    answered_at: Option<Instant>,
}

impl UdpPort {
    /// A socket at `listen`; `peer` is where the other end is said to be.
    ///
    /// # Errors
    /// [`LinkError`] when an address cannot be used.
    pub fn open(listen: Option<&str>, peer: Option<&str>) -> Result<Self, LinkError> {
        let peer = peer.map(resolve).transpose()?;
        let listen = match (listen, peer) {
            (Some(listen), _) => resolve(listen)?,
            (None, Some(SocketAddr::V6(_))) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            (None, _) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        let bad = |e: io::Error| LinkError::Address { address: listen.to_string(), text: plain(&e.to_string()) };
        Ok(Self {
            wire: Wire::bind(listen).map_err(bad)?,
            peer,
            from: None,
            moved: peer.is_some(),
            answers: None,
            answered_at: None,
        })
    }

    fn poll(&self, fds: &mut [PollFd<'_>], wait: Duration) -> Result<(), LinkError> {
        match poll(fds, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => {
                let address = self.address().map(|a| a.to_string()).unwrap_or_default();
                Err(LinkError::Address { address, text: plain(&io::Error::from(e).to_string()) })
            }
        }
    }
}

impl Port for UdpPort {
    fn now(&self) -> Instant {
        now()
    }

    fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    fn batch(&self) -> usize {
        self.wire.batch()
    }

    fn send(&mut self, datagram: &[u8]) {
        self.send_many(datagram, &[datagram.len()]);
    }

    fn send_many(&mut self, bytes: &[u8], ends: &[usize]) {
        if let Some(peer) = self.peer {
            self.wire.send(peer, bytes, ends);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        for _ in 0..ERRORS_MAX {
            match self.wire.socket().recv_from(buffer) {
                Ok((len, from)) => {
                    self.from = Some(from);
                    return Some(len);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                // What the network says of earlier datagrams is no matter: they are lost.
                Err(_) => {}
            }
        }
        None
    }

    fn receive_many(&mut self, show: &mut dyn FnMut(&[&[u8]], Instant) -> bool) -> bool {
        let (peer, moved, answers) = (&mut self.peer, &mut self.moved, &self.answers);
        let mut asked = None;
        let all = self.wire.receive(|from, datagrams| {
            if answers.as_ref().is_some_and(|(question, _)| datagrams.contains(&&question[..])) {
                asked = Some(from);
            }
            if show(datagrams, now()) && *peer != Some(from) {
                (*peer, *moved) = (Some(from), true);
            }
        });
        let is_time = self.answered_at.is_none_or(|at| now().since(at) >= ANSWER_EVERY);
        if let (Some(from), Some((_, answer)), true) = (asked, &self.answers, is_time) {
            self.answered_at = Some(now());
            self.wire.send(from, answer, &[answer.len()]);
        }
        all
    }

    fn answers(&mut self, question: &[u8], answer: Vec<u8>) {
        self.answers = Some((question.to_vec(), answer));
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn genuine(&mut self) {
        if self.peer != self.from {
            self.peer = self.from;
            self.moved = true;
        }
    }

    fn wait(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.poll(&mut [PollFd::new(self.wire.socket(), PollFlags::IN)], wait)
    }

    fn wait_or_bell(&mut self, wait: Duration, bell: BorrowedFd<'_>) -> Result<(), LinkError> {
        let fds = [PollFd::new(self.wire.socket(), PollFlags::IN), PollFd::from_borrowed_fd(bell, PollFlags::IN)];
        self.poll(&mut { fds }, wait)
    }

    fn address(&self) -> Option<SocketAddr> {
        self.wire.address().ok()
    }

    fn moved(&mut self) -> Option<SocketAddr> {
        std::mem::take(&mut self.moved).then_some(self.peer).flatten()
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

/// What the network may say of earlier datagrams before one looks elsewhere.
/// A question that anybody may ask is answered at most so often.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
const ERRORS_MAX: usize = 256;
