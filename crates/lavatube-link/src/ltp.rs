//! LTP (RFC 5326, CCSDS 734.1-B): blocks to and from engines that speak no other way of crossing a long link, ION and HDTN.
//!
//! An [`Engine`] has any number of peers and any number of blocks on their way to and from each. It sends a block once, gets reports of what came,
//! and sends what is missing until nothing is. What makes it fast are numbers, not other segments: many blocks at once; a
//! checkpoint of a few bytes, said more than once, so that it is hardly ever a timer that notices its loss; reports and
//! repeats that wait a moment for what is late; repeats before anything new, and more than one of each on a link that has
//! nothing else to do. Whatever the segments say, each waits, holds and remembers within limits. An acknowledgement says that
//! a block arrived, not that it is stored. It must not know what is in a block, sockets, clocks or entropy.
//!
//! # The loop around it
//!
//! ```
//! use std::time::Duration;
//! use lavatube_link::ltp::{Block, Config, Engine, Event, PeerConfig};
//! # use lavatube_base::Instant;
//! # fn clock() -> Instant { Instant(0) }
//! # fn send(_to: u64, _datagram: &[u8]) {}
//! # fn receive(_until: Option<Instant>) -> Option<Vec<u8>> { None }
//! # let (random, mut rounds) = (1, 0..3);
//! let mut engine = Engine::new(Config::new(1, random));
//! engine.add_peer(PeerConfig::new(2, Duration::from_millis(1280)), clock()).unwrap();
//! engine.contact_opened(2, 20_000_000, clock());
//! engine.send(2, Block::bundles(7, b"two bundles, say".to_vec())).unwrap();
//! let mut datagram = Vec::new();
//! while rounds.next().is_some() {
//!     while let Some(event) = engine.poll_event() {
//!         match event {
//!             Event::Received { peer, bytes, .. } => { /* split, store */ }
//!             Event::Delivered { peer, key } => { /* it arrived; it is not stored yet */ }
//!             _ => {}
//!         }
//!     }
//!     while let Some(peer) = engine.poll_transmit(clock(), &mut datagram) {
//!         send(peer, &datagram);
//!         datagram.clear();
//!     }
//!     match receive(engine.poll_timeout(clock())) {
//!         Some(datagram) => engine.handle_datagram(&datagram, clock()),
//!         None => engine.handle_timeout(clock()),
//!     }
//! }
//! ```
//!
//! | file | is |
//! |---|---|
//! | `engine` | the machine: who is spoken of, whose turn it is |
//! | `peer` | one peer: when it may be sent something, and what goes first |
//! | `export`, `import`, `stages` | one block on its way out, or in; where it is |
//! | `desk` | what is said before any data, some of it more than once |
//! | `measure` | light time, loss, and what follows from them |
//! | `wait`, `alarms` | questions without an answer yet; who is called when |
//! | `ranges`, `numbers`, `ended` | stretches of bytes; session numbers; blocks that ended |
//! | `config`, `status` | what goes in at birth, what is told of it |

use std::time::Duration;

mod alarms;
mod config;
mod desk;
mod ended;
mod engine;
mod export;
mod import;
mod measure;
mod numbers;
mod peer;
mod ranges;
mod stages;
mod status;
mod wait;

pub use config::{Config, PeerConfig};
pub use engine::{Block, Engine, Event, PeerError, SendError};
pub use stages::{Incoming, Outgoing};
pub use status::{Load, PeerStatus, Receiving, Sending, Status, Totals};

/// What is late is waited for so long, before a report is made and before anything is sent again.
const DEFER: Duration = Duration::from_millis(20);
