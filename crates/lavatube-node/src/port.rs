//! What an end of a link stands on: a clock, and a way for datagrams in and out. Steps 10 and 11 of the walk.
//!
//! There are two: a socket and the real clock, here, and a rehearsal's, where both ends share a channel and a clock that may
//! be virtual. The ends and their driver cannot tell which. It must not know what is in a datagram.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use lavatube_base::Instant;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::time::Timespec;

use crate::clock;
use crate::link_folder::LinkError;
use crate::words::plain;

/// A clock, and a way for datagrams. Losing them is allowed, waiting too short is too.
pub trait Port {
    /// What time it is. It never runs backwards.
    fn now(&self) -> Instant;

    /// Whether there is somebody to send to.
    fn has_peer(&self) -> bool;

    /// Sends a datagram.
    fn send(&mut self, datagram: &[u8]);

    /// The length of the next datagram that came in, which is in `buffer` then; `None` when there is none.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize>;

    /// What was received last was genuine: who sent it is the other end.
    fn genuine(&mut self);

    /// Waits for datagrams, for at most so long.
    ///
    /// # Errors
    /// When none can ever come any more.
    fn wait(&mut self, wait: Duration) -> Result<(), LinkError>;

    /// Where this end listens, if it is anywhere.
    fn address(&self) -> Option<SocketAddr>;

    /// Where the other end is, once after it was heard at a new place.
    fn moved(&mut self) -> Option<SocketAddr>;
}

/// A socket of this computer, and the real clock: the only place that sends a datagram to a network or receives one.
#[derive(Debug)]
pub struct UdpPort {
    socket: UdpSocket,
    peer: Option<SocketAddr>,
    /// Who sent what was received last.
    from: Option<SocketAddr>,
    /// The peer moved, or was heard for the first time.
    moved: bool,
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
        let socket = UdpSocket::bind(listen).map_err(bad)?;
        socket.set_nonblocking(true).map_err(bad)?;
        // As much as the system allows: while a block is decoded, what comes in waits there.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER_LEN);
        let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER_LEN);
        Ok(Self { socket, peer, from: None, moved: peer.is_some() })
    }
}

impl Port for UdpPort {
    fn now(&self) -> Instant {
        now()
    }

    fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    fn send(&mut self, datagram: &[u8]) {
        let Some(peer) = self.peer else { return };
        // One that the network does not take is lost like any other, and the engine finds out.
        if let Err(e) = self.socket.send_to(datagram, peer)
            && e.kind() == io::ErrorKind::WouldBlock
        {
            let mut fds = [PollFd::new(&self.socket, PollFlags::OUT)];
            let _ = poll(&mut fds, Some(&timespec(SEND_PATIENCE)));
            let _ = self.socket.send_to(datagram, peer);
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        for _ in 0..ERRORS_MAX {
            match self.socket.recv_from(buffer) {
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

    fn genuine(&mut self) {
        if self.peer != self.from {
            self.peer = self.from;
            self.moved = true;
        }
    }

    fn wait(&mut self, wait: Duration) -> Result<(), LinkError> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => {
                let address = self.address().map(|a| a.to_string()).unwrap_or_default();
                Err(LinkError::Address { address, text: plain(&io::Error::from(e).to_string()) })
            }
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
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

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}

/// What the sockets' buffers should hold.
const BUFFER_LEN: usize = 8 << 20;
const SEND_PATIENCE: Duration = Duration::from_millis(10);
/// What the network may say of earlier datagrams before one looks elsewhere.
const ERRORS_MAX: usize = 256;
