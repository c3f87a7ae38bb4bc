//! Our side of a connection: a port, and what came of it.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use lavatube_bundle::{Bundle, Endpoint};
use lavatube_node::tcpcl_port::{Ended, TcpclEvent, TcpclPort};

/// A TCPCL session of ours that stores what comes in.
pub struct Ours {
    pub port: TcpclPort,
    /// The peer's name.
    pub peer: Option<String>,
    /// Bundles that came in.
    pub received: Vec<Vec<u8>>,
    /// Keys of bundles that were acknowledged.
    pub acknowledged: Vec<u64>,
    /// Keys of bundles that were refused, or never sent.
    pub failed: Vec<u64>,
    pub ended: Option<Ended>,
}

impl Ours {
    pub fn new(port: TcpclPort) -> Self {
        Self { port, peer: None, received: vec![], acknowledged: vec![], failed: vec![], ended: None }
    }

    /// Turns the session until `done`, for two minutes at most; whether it was.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        self.within(Duration::from_secs(120), done)
    }

    pub fn within(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let begin = Instant::now();
        while !done(self) {
            if begin.elapsed() > time {
                return false;
            }
            self.port.pump(Duration::from_millis(10));
            while let Some(event) = self.port.event() {
                match event {
                    TcpclEvent::Opened { node, .. } => self.peer = Some(node),
                    TcpclEvent::Received { transfer, bytes } => {
                        self.received.push(bytes);
                        self.port.accepted(transfer);
                    }
                    TcpclEvent::Acknowledged { key } => self.acknowledged.push(key),
                    TcpclEvent::Refused { key, .. } | TcpclEvent::Unsent { key } => self.failed.push(key),
                    TcpclEvent::Ended(why) => self.ended = Some(why),
                }
            }
        }
        true
    }

    /// Ends the session and waits for it.
    pub fn end(mut self) {
        self.port.end();
        assert!(self.until(|ours| ours.port.is_closed()));
        assert_eq!(self.ended, Some(Ended::Ours));
    }
}

/// An address on this machine where nobody listens.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Milliseconds since 2000, as bundles count.
pub fn dtn_now() -> u64 {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(unix.as_millis()).unwrap() - 946_684_800_000
}

/// A bundle of now, from a service of node 1.
pub fn bundle(sequence: u64, destination: &str, payload: Vec<u8>) -> Bundle {
    let mut bundle = Bundle::new(Endpoint::ipn(1, 1), destination.parse().unwrap(), payload);
    (bundle.time_ms, bundle.sequence) = (dtn_now(), sequence);
    bundle.hops = Some(lavatube_bundle::Hops { limit: 32, count: 0 });
    bundle
}

/// Bytes that do not repeat soon.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}
