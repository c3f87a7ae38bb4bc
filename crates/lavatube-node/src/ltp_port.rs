//! An LTP engine on this computer's network: what turns it on a UDP socket. Steps 10 and 11 of the walk, for peers that are not ours.
//!
//! One socket, one engine, any number of peers. Where a peer hears is set, not learnt: LTP has no tag by which a datagram is known to be
//! genuine, and ION sends from another port than it hears at. It must not know what is in a block.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use lavatube_link::ltp::{Block, Config, Engine, Event, Load, PeerConfig, PeerError, SendError, Status};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::entropy::{self, EntropyError};
use crate::port::{now, timespec};
use crate::wire::Wire;
use crate::words::plain;

/// An LTP engine, on a socket.
pub struct LtpPort {
    wire: Wire,
    engine: Engine,
    addresses: BTreeMap<u64, SocketAddr>,
    /// Datagrams for one peer, and where each ends.
    outgoing: Vec<u8>,
    ends: Vec<usize>,
}

/// Why a port or a peer cannot be.
#[derive(Debug, thiserror::Error)]
pub enum LtpPortError {
    /// The address is none, or not ours, or taken.
    #[error("{address}: {text}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What the system says.
        text: String,
    },
    /// There is nothing to make session numbers of.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The engine does not take the peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

impl LtpPort {
    /// The engine with this id, at `listen`; it takes blocks for these client services.
    ///
    /// # Errors
    /// [`LtpPortError`] when the address cannot be used.
    pub fn open(engine: u64, services: &[u64], listen: &str) -> Result<Self, LtpPortError> {
        let wire = resolve(listen).and_then(|at| Wire::bind(at).map_err(|e| unusable(listen, &e)))?;
        let seed = u64::from_le_bytes(entropy::bytes()?);
        let config = Config { services: services.to_vec(), ..Config::new(engine, seed) };
        let (addresses, outgoing, ends) = (BTreeMap::new(), Vec::new(), Vec::new());
        Ok(Self { wire, engine: Engine::new(config), addresses, outgoing, ends })
    }

    /// A peer that hears at `address`, which is told resolved. Nothing is sent to it before [`LtpPort::contact_opened`].
    ///
    /// # Errors
    /// [`LtpPortError`] when it is not taken.
    pub fn add_peer(&mut self, peer: PeerConfig, address: &str) -> Result<SocketAddr, LtpPortError> {
        let at = resolve(address)?;
        self.engine.add_peer(peer, now())?;
        self.addresses.insert(peer.engine, at);
        Ok(at)
    }

    /// From now on a peer may be sent so many bits of packets a second.
    pub fn contact_opened(&mut self, peer: u64, rate_bit_s: u64) {
        self.engine.contact_opened(peer, rate_bit_s, now());
    }

    /// From now on a peer is sent nothing, and no clock runs for it.
    pub fn contact_closed(&mut self, peer: u64) {
        self.engine.contact_closed(peer, now());
    }

    /// A block is to be sent.
    ///
    /// # Errors
    /// [`SendError`] when it is not taken.
    pub fn send(&mut self, peer: u64, block: Block) -> Result<(), SendError> {
        self.engine.send(peer, block)
    }

    /// A block is no longer to be sent.
    pub fn cancel(&mut self, peer: u64, key: u64) {
        self.engine.cancel(peer, key);
    }

    /// From now on blocks that are coming from a peer may take so many bytes of memory.
    pub fn set_import_len_max(&mut self, peer: u64, len: usize) {
        self.engine.set_import_len_max(peer, len);
    }

    /// How busy the way to a peer is.
    pub fn load(&self, peer: u64) -> Option<Load> {
        self.engine.load(peer)
    }

    /// The next thing that happened.
    pub fn event(&mut self) -> Option<Event> {
        self.engine.poll_event()
    }

    /// Where this engine hears.
    pub fn address(&self) -> Option<SocketAddr> {
        self.wire.address().ok()
    }

    /// How the engine is. For people: it copies.
    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`. Call it when there are no more events.
    ///
    /// # Errors
    /// When the socket is of no more use.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LtpPortError> {
        let more = self.transmit();
        let begin = now();
        let until = self.engine.poll_timeout(begin).map_or(begin + wait, |at| at.min(begin + wait));
        let wait = if more { Duration::ZERO } else { until.since(begin).max(REST) };
        self.await_input(wait)?;
        self.receive();
        self.engine.handle_timeout(now());
        Ok(())
    }

    /// Sends a batch of datagrams; whether there are more that may be sent.
    fn transmit(&mut self) -> bool {
        let (mut to, batch, at) = (None, self.wire.batch(), now());
        while self.ends.len() < batch {
            let start = self.outgoing.len();
            let Some(peer) = self.engine.poll_transmit(at, &mut self.outgoing) else {
                self.flush(to, self.outgoing.len());
                return false;
            };
            if to.is_some_and(|to| to != peer) {
                self.flush(to, start);
            }
            to = Some(peer);
            self.ends.push(self.outgoing.len());
        }
        self.flush(to, self.outgoing.len());
        true
    }

    /// Sends the datagrams up to `end`.
    fn flush(&mut self, to: Option<u64>, end: usize) {
        if let Some(address) = to.and_then(|to| self.addresses.get(&to)) {
            self.wire.send(*address, &self.outgoing[..end], &self.ends);
        }
        self.outgoing.drain(..end);
        self.ends.clear();
    }

    fn await_input(&self, wait: Duration) -> Result<(), LtpPortError> {
        let mut fds = [PollFd::new(self.wire.socket(), PollFlags::IN)];
        match poll(&mut fds, Some(&timespec(wait))) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(unusable(&self.address().map(|a| a.to_string()).unwrap_or_default(), &e.into())),
        }
    }

    /// Takes in some of what came.
    fn receive(&mut self) {
        for _ in 0..ROUNDS {
            let at = now();
            let engine = &mut self.engine;
            let all = self.wire.receive(|_, datagrams| datagrams.iter().for_each(|d| engine.handle_datagram(d, at)));
            if all {
                return;
            }
        }
    }
}

fn resolve(address: &str) -> Result<SocketAddr, LtpPortError> {
    let mut all = address.to_socket_addrs().map_err(|e| unusable(address, &e))?;
    let none = || LtpPortError::Address { address: address.to_owned(), text: "it has no address".into() };
    all.next().ok_or_else(none)
}

fn unusable(address: &str, e: &io::Error) -> LtpPortError {
    LtpPortError::Address { address: address.to_owned(), text: plain(&e.to_string()) }
}

/// Times that one takes in before one sends again.
const ROUNDS: usize = 4;
/// The shortest wait, so that no mistake of anybody's keeps a processor busy.
const REST: Duration = Duration::from_micros(50);

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_format::ltp::BUNDLES;

    const HERE: &str = "127.0.0.1:0";

    fn opened(engine: u64) -> LtpPort {
        LtpPort::open(engine, &[BUNDLES], HERE).unwrap()
    }

    fn meet(a: &mut LtpPort, b_engine: u64, b: &LtpPort) {
        let peer = PeerConfig::new(b_engine, Duration::from_millis(1));
        a.add_peer(peer, &b.address().unwrap().to_string()).unwrap();
        a.contact_opened(b_engine, 500_000_000);
    }

    fn block(key: u64) -> Vec<u8> {
        (0..300_000 + key).map(|n| (n * 7 + key) as u8).collect()
    }

    #[test]
    fn blocks_cross_real_sockets_both_ways_and_to_two_peers() {
        let (mut one, mut two, mut three) = (opened(1), opened(2), opened(3));
        meet(&mut one, 2, &two);
        meet(&mut one, 3, &three);
        meet(&mut two, 1, &one);
        meet(&mut three, 1, &one);
        for key in 0..8 {
            one.send(2 + key % 2, Block::bundles(key, block(key))).unwrap();
            two.send(1, Block::bundles(key, block(key))).unwrap();
        }
        let (mut delivered, mut received) = (0, [0; 3]);
        let begin = now();
        while delivered < 16 {
            assert!(now().since(begin) < Duration::from_secs(60), "{:?}", one.status());
            for (port, received) in [&mut one, &mut two, &mut three].into_iter().zip(&mut received) {
                port.pump(Duration::from_millis(1)).unwrap();
                while let Some(event) = port.event() {
                    match event {
                        Event::Delivered { .. } => delivered += 1,
                        Event::Received { bytes, .. } => {
                            assert!(bytes == block(bytes.len() as u64 - 300_000));
                            *received += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        assert_eq!(received, [8, 4, 4]);
    }

    #[test]
    fn what_is_no_address_is_named() {
        let error = LtpPort::open(1, &[BUNDLES], "nowhere").err().unwrap();
        assert!(error.to_string().starts_with("nowhere: "), "{error}");
        let mut port = opened(1);
        let at = port.address().unwrap().to_string();
        assert!(LtpPort::open(2, &[BUNDLES], &at).is_err(), "it is taken");
        assert!(port.add_peer(PeerConfig::new(1, Duration::ZERO), &at).is_err(), "that is itself");
        assert!(port.add_peer(PeerConfig::new(2, Duration::ZERO), "nowhere").is_err());
    }
}
