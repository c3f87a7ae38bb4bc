//! How connections to another node are made: in a thread, because that takes as long as it takes, and more and more rarely where nobody
//! answers. It must not know what they carry.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use lavatube_base::Instant;

use crate::port::now;
use crate::tcpcl_port::{TcpclError, TcpclPort};

/// Whom to connect to, if to anybody, and when next.
pub(super) struct Dial {
    address: Option<String>,
    /// This node's name.
    node: String,
    trying: Option<Receiver<Result<TcpclPort, TcpclError>>>,
    next: Instant,
    failures: u32,
}

impl Dial {
    pub fn new(address: Option<String>, node: String) -> Self {
        Self { address, node, trying: None, next: now(), failures: 0 }
    }

    /// A contact began or ended: what was before does not count.
    pub fn anew(&mut self) {
        (self.next, self.failures) = (now(), 0);
    }

    /// When [`Dial::turn`] has something to do, where a connection `is_missing`.
    pub fn due(&self, is_missing: bool) -> Option<Instant> {
        match self.trying {
            Some(_) => Some(now() + TICK),
            None => (is_missing && self.address.is_some()).then_some(self.next),
        }
    }

    /// A connection that was made; begins to make one where one `is_missing`.
    pub fn turn(&mut self, is_missing: bool) -> Option<TcpclPort> {
        let made = match self.trying.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => None,
            Some(Ok(Ok(port))) => {
                (self.trying, self.failures) = (None, 0);
                // One that opens and closes at once is not hammered.
                self.next = now() + EVERY;
                return Some(port);
            }
            Some(Ok(Err(_)) | Err(TryRecvError::Disconnected)) => {
                self.trying = None;
                self.next = now() + (EVERY * (1 << self.failures.min(DOUBLED_MAX))).min(EVERY_MAX);
                self.failures += 1;
                None
            }
        };
        if let (Some(address), true) = (&self.address, is_missing && self.trying.is_none() && self.next <= now()) {
            let (tell, told) = channel();
            let (address, node) = (address.clone(), self.node.clone());
            // Nobody waits for it any more when the link is gone.
            std::thread::spawn(move || drop(tell.send(TcpclPort::connect(&address, &node))));
            self.trying = Some(told);
        }
        made
    }
}

const EVERY: Duration = Duration::from_secs(1);
const EVERY_MAX: Duration = Duration::from_secs(60);
const DOUBLED_MAX: u32 = 6;
/// How often one looks whether a connection is there.
const TICK: Duration = Duration::from_millis(20);
