//! The driver of a TCPCL session: a TCP connection, the real clock and a loop that turns the machine. The only place that
//! talks TCP to foreign nodes.
//!
//! Plain calls on one thread: [`TcpclPort::pump`] writes, waits and reads, [`TcpclPort::event`] tells what came of it. A
//! bundle that came in stays unacknowledged until its owner has stored it. It must not know what a bundle is.
//! No step of the walk, which takes the native way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_link::tcpcl::{Config, Event, Session, Stage, SubmitError};
pub use lavatube_link::tcpcl::{Ended, Event as TcpclEvent, SubmitError as TcpclSubmitError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use crate::clock;
use crate::words::plain;

/// An address that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {text}")]
pub struct TcpclError {
    /// Which one.
    pub address: String,
    /// What the system said.
    pub text: String,
}

/// Where foreign nodes may connect.
pub struct TcpclListener {
    listener: TcpListener,
    node: String,
}

/// One session over one connection.
pub struct TcpclPort {
    stream: TcpStream,
    peer: SocketAddr,
    session: Session,
    /// Read, and not yet taken by the session: from `taken` on.
    incoming: Vec<u8>,
    taken: usize,
    /// To be written: from `written` on.
    outgoing: Vec<u8>,
    written: usize,
}

impl TcpclListener {
    /// Listens at `address`, as `node`.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn bind(address: &str, node: &str) -> Result<Self, TcpclError> {
        let bad = |e: io::Error| fault(address, &e);
        let listener = TcpListener::bind(address).map_err(bad)?;
        listener.set_nonblocking(true).map_err(bad)?;
        Ok(Self { listener, node: node.to_owned() })
    }

    pub(crate) fn socket(&self) -> &TcpListener {
        &self.listener
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// The next one that connected, if anybody did within `wait`.
    ///
    /// # Errors
    /// When the listener is of no more use.
    pub fn accept(&self, wait: Duration) -> Result<Option<TcpclPort>, TcpclError> {
        let bad = |e: io::Error| fault(&self.address().map(|a| a.to_string()).unwrap_or_default(), &e);
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, Some(&timespec(wait)));
        match self.listener.accept() {
            Ok((stream, peer)) => TcpclPort::new(stream, peer, &self.node, false).map(Some).map_err(bad),
            Err(e) if is_passing(&e) || e.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            Err(e) => Err(bad(e)),
        }
    }
}

impl TcpclPort {
    /// Connects to `address`, as `node`; tries each of its addresses for a few seconds.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(address: &str, node: &str) -> Result<Self, TcpclError> {
        let mut last = io::Error::other("it has no address");
        for peer in address.to_socket_addrs().map_err(|e| fault(address, &e))? {
            match TcpStream::connect_timeout(&peer, CONNECT_MAX).and_then(|stream| Self::new(stream, peer, node, true))
            {
                Ok(port) => return Ok(port),
                Err(e) => last = e,
            }
        }
        Err(fault(address, &last))
    }

    fn new(stream: TcpStream, peer: SocketAddr, node: &str, active: bool) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        // Answers are small and should not wait for more.
        stream.set_nodelay(true)?;
        let config = Config { node: node.to_owned(), active, keepalive_s: KEEPALIVE_S };
        Ok(Self {
            stream,
            peer,
            session: Session::new(config, clock::now()),
            incoming: Vec::new(),
            taken: 0,
            outgoing: Vec::new(),
            written: 0,
        })
    }

    /// Who is at the other end of the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// How far the session is.
    pub fn stage(&self) -> Stage {
        self.session.stage()
    }

    /// A bundle is to be sent; `key` comes back in events.
    ///
    /// # Errors
    /// [`SubmitError`] when it is not taken.
    pub fn send(&mut self, key: u64, bundle: Vec<u8>) -> Result<(), SubmitError> {
        self.session.submit(key, bundle)
    }

    /// A bundle that came in is stored.
    pub fn accepted(&mut self, transfer: u64) {
        self.session.accepted(transfer);
    }

    /// A bundle that came in is no bundle, or one that will never be taken.
    pub fn refused(&mut self, transfer: u64) {
        self.session.refused(transfer, lavatube_format::tcpcl::Refusal::NotAcceptable);
    }

    /// There is no room for a bundle that came in: its sender shall try again later.
    pub fn busy(&mut self, transfer: u64) {
        self.session.refused(transfer, lavatube_format::tcpcl::Refusal::NoResources);
    }

    /// What the connection waits for, and until when; nothing when the session takes nothing and has nothing to write.
    pub(crate) fn waits_for(&self) -> (&TcpStream, PollFlags, Option<Instant>) {
        let mut flags = PollFlags::empty();
        if self.session.wants_input() {
            flags |= PollFlags::IN;
        }
        if self.written < self.outgoing.len() {
            flags |= PollFlags::OUT;
        }
        // What the session could not take before may be taken now.
        let at = if self.taken < self.incoming.len() && self.session.wants_input() {
            Some(clock::now())
        } else {
            self.session.poll_timeout()
        };
        (&self.stream, flags, at)
    }

    /// The session is to end when what is under way has been answered.
    pub fn end(&mut self) {
        self.session.end(clock::now());
    }

    /// Whether there is nothing more to do; what is left are events.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed() && self.written == self.outgoing.len()
    }

    /// The next thing to be told.
    pub fn event(&mut self) -> Option<Event> {
        self.session.poll_event()
    }

    /// Writes what may be written and takes in what came; waits for that at most for `wait`. Call it when there are no more
    /// events.
    pub fn pump(&mut self, wait: Duration) {
        if self.write().and_then(|()| self.await_peer(wait)).and_then(|()| self.read()).is_err() {
            self.hang_up();
        }
        let now = clock::now();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_timeout(now);
        }
        // Answers to what was read leave at once.
        if self.write().is_err() {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.session.handle_closed();
        self.outgoing.clear();
        self.written = 0;
    }

    fn write(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            if self.written == self.outgoing.len() {
                self.outgoing.clear();
                self.written = 0;
                if !self.session.poll_transmit(clock::now(), &mut self.outgoing) {
                    break;
                }
            }
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(len) => self.written += len,
                Err(e) if is_passing(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn await_peer(&self, wait: Duration) -> io::Result<()> {
        let (stream, flags, at) = self.waits_for();
        let left = at.map_or(wait, |at| at.since(clock::now()));
        let mut fds = [PollFd::new(stream, flags)];
        // With nothing to wait for, a peer that hung up would wake us for ever.
        let fds = if flags.is_empty() { &mut [] } else { &mut fds[..] };
        match poll(fds, Some(&timespec(wait.min(left)))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        for _ in 0..BATCH {
            self.taken += self.session.handle_bytes(&self.incoming[self.taken..], clock::now());
            if self.taken < self.incoming.len() || !self.session.wants_input() {
                break;
            }
            self.taken = 0;
            self.incoming.resize(READ_LEN, 0);
            let read = self.stream.read(&mut self.incoming);
            self.incoming.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(e) if is_passing(&e) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Whether one need only try again.
fn is_passing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn fault(address: &str, e: &io::Error) -> TcpclError {
    TcpclError { address: address.to_owned(), text: plain(&e.to_string()) }
}

pub(crate) fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}

/// How long one address is tried.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Something is sent at least so often, in seconds.
const KEEPALIVE_S: u16 = 60;
/// Reads or writes before the other is looked at.
const BATCH: usize = 16;
/// Bytes that are read at a time.
const READ_LEN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const TICK: Duration = Duration::from_millis(20);

    fn ports() -> (TcpclPort, TcpclPort) {
        let listener = TcpclListener::bind("127.0.0.1:0", "ipn:2.0").unwrap();
        let here = TcpclPort::connect(&listener.address().unwrap().to_string(), "ipn:1.0").unwrap();
        let there = (0..500).find_map(|_| listener.accept(TICK).unwrap()).unwrap();
        (here, there)
    }

    #[test]
    fn bundles_cross_a_connection_and_are_acknowledged_when_they_are_stored() {
        let (mut here, mut there) = ports();
        let bundle = |key: u64| {
            vec![u8::try_from(key).unwrap(); [1, 1000, 9 << 20, 3_000_000][usize::try_from(key).unwrap() % 4]]
        };
        for key in 0..12 {
            here.send(key, bundle(key)).unwrap();
        }
        let (mut acknowledged, mut stored) = (Vec::new(), BTreeMap::new());
        for _ in 0..5000 {
            here.pump(Duration::ZERO);
            there.pump(TICK);
            while let Some(event) = there.event() {
                if let Event::Received { transfer, bytes } = event {
                    assert!(!acknowledged.contains(&transfer), "nothing is acknowledged before it is stored");
                    stored.insert(transfer, bytes);
                    there.accepted(transfer);
                }
            }
            while let Some(event) = here.event() {
                if let Event::Acknowledged { key } = event {
                    acknowledged.push(key);
                }
            }
            if acknowledged.len() == 12 {
                break;
            }
        }
        assert_eq!(acknowledged, (0..12).collect::<Vec<_>>());
        assert!(stored.into_iter().all(|(key, bytes)| bytes == bundle(key)));
        here.end();
        while !(here.is_closed() && there.is_closed()) {
            here.pump(TICK);
            there.pump(TICK);
        }
        assert_eq!(here.event(), Some(Event::Ended(Ended::Ours)));
    }

    #[test]
    fn who_does_not_store_is_not_sent_more_than_fits() {
        let (mut here, mut there) = ports();
        for key in 0..40 {
            here.send(key, vec![7; 100]).unwrap();
        }
        let mut held = Vec::new();
        for _ in 0..50 {
            here.pump(Duration::ZERO);
            there.pump(Duration::from_millis(2));
            held.extend(std::iter::from_fn(|| there.event()).filter(|event| matches!(event, Event::Received { .. })));
        }
        assert_eq!(held.len(), lavatube_base::limits::TCPCL_HELD_MAX);
        for _ in 0..50 {
            for event in held.drain(..) {
                if let Event::Received { transfer, .. } = event {
                    there.accepted(transfer);
                }
            }
            there.pump(Duration::from_millis(2));
            here.pump(Duration::ZERO);
            held.extend(std::iter::from_fn(|| there.event()));
        }
        let acknowledged = std::iter::from_fn(|| here.event()).filter(|e| matches!(e, Event::Acknowledged { .. }));
        assert_eq!(acknowledged.count(), 40);
    }

    #[test]
    fn a_connection_that_is_cut_gives_back_what_was_not_acknowledged() {
        let (mut here, mut there) = ports();
        for _ in 0..20 {
            here.pump(Duration::from_millis(2));
            there.pump(Duration::from_millis(2));
        }
        assert_eq!((here.stage(), there.stage()), (Stage::Open, Stage::Open));
        here.send(5, vec![1; 100]).unwrap();
        here.pump(Duration::ZERO);
        drop(there);
        for _ in 0..20 {
            here.pump(Duration::from_millis(2));
        }
        let events: Vec<Event> = std::iter::from_fn(|| here.event()).skip(1).collect();
        assert_eq!(events, [Event::Unsent { key: 5 }, Event::Ended(Ended::Lost)]);
        assert!(here.is_closed());
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_address() {
        let gone = TcpclListener::bind("127.0.0.1:0", "ipn:2.0").unwrap().address().unwrap().to_string();
        let Err(e) = TcpclPort::connect(&gone, "ipn:1.0") else { panic!() };
        assert_eq!(e.to_string(), format!("{gone}: connection refused"));
    }
}
