//! Floor 2: carries opaque blocks between two nodes over a link that is slow, lossy, far and often down.
//!
//! A [`Link`] cuts each block into symbols, sends as many as the measured loss asks for, and goes on with the next block while
//! the peer's reports come home; any K symbols give the block, a lost report costs nothing, and both ends go on after a
//! restart where they were. It must not know what is in a block, nor sockets, files, clocks, entropy: datagrams and time are
//! handed in, symbols lie behind [`SymbolStore`]. Steps 8 to 12 of the walk.
//!
//! # The loop around it
//!
//! ```
//! use lavatube_link::{Config, ContactPlan, Event, Link, MemoryStore};
//! # use lavatube_base::Instant;
//! # struct Socket;
//! # impl Socket {
//! #     fn send(&mut self, _: &[u8]) {}
//! #     fn receive(&mut self, _: &mut Vec<u8>, _until: Option<Instant>) -> Option<usize> { None }
//! # }
//! # fn clock() -> Instant { Instant(0) }
//! # let (key_out, key_in, mut socket, mut rounds) = ([1; 32], [2; 32], Socket, 0..2);
//! let config = Config::new(key_out, key_in, ContactPlan::always(20_000_000, 2_000_000));
//! // Counters 0 to 2^20 were put on disk before this line; the next life begins at 2^20.
//! let mut link = Link::new(config, 0..1 << 20, MemoryStore::default(), clock());
//! let (mut datagram, mut incoming) = (Vec::new(), Vec::new());
//! while rounds.next().is_some() {
//!     // Repair symbols and whole blocks are made where there is time for it: in another thread, or here.
//!     while let Some(job) = link.poll_job(clock()) {
//!         link.finished(job.run(), clock());
//!     }
//!     while let Some(event) = link.poll_event() {
//!         match event {
//!             Event::Wanted { key } => link.supply(key, vec![/* read from the spool */]),
//!             Event::Received { id, bytes, .. } => {
//!                 // Store and sync `bytes`, then:
//!                 link.accepted(id, clock());
//!             }
//!             Event::ReserveCounters { end } => link.reserved(end + (1 << 20)), // on disk first
//!             Event::Delivered { .. } | Event::Refused { .. } | Event::Spent { .. } | Event::Echoed { .. } => {}
//!         }
//!     }
//!     // `poll_transmits` appends several datagrams to one buffer, for one system call.
//!     while link.poll_transmit(clock(), &mut datagram) {
//!         socket.send(&datagram);
//!         datagram.clear();
//!     }
//!     let until = link.poll_timeout(clock());
//!     match socket.receive(&mut incoming, until) {
//!         Some(len) => {
//!             link.handle_datagram(&incoming[..len], clock());
//!         }
//!         None => link.handle_timeout(clock()),
//!     }
//! }
//! ```
//!
//! Events come first: a block that was stored just now is in the report that leaves next. Sending may ask for the next block, so a
//! loop that wants the link full drains both until both are empty before it waits.
//!
//! | file | is |
//! |---|---|
//! | `link` | the machine: what comes in, what goes out, when |
//! | `sender`, `outgoing` | which block and how many symbols; one block on its way out |
//! | `receiver`, `early` | symbols in, blocks out, reports; symbols of which nobody knows yet what they are |
//! | `margin` | how many symbols where no report comes |
//! | `estimate` | loss, bursts, light time, and what follows for the number of symbols |
//! | `code`, `job` | the packet code; work that is done elsewhere |
//! | `guard` | tags, counters, replay window |
//! | `contact`, `pacer`, `line` | when, how fast, and whether anybody answers |
//! | `governor` | how fast, where nobody says |
//! | `store` | the seam for symbols that came in |
//! | `carrier`, `outbox` | what an end asks of a link; its short messages until the other end has them |
//! | `config`, `status` | what goes in at birth, what is told of it |
//! | `ltp` | the other way across: LTP, for engines that are not ours |
//! | `tcpcl` | the other way to carry: sessions over TCP, with foreign nodes |

mod carrier;
mod code;
mod config;
mod contact;
mod early;
mod estimate;
mod governor;
mod guard;
mod job;
mod line;
mod link;
pub mod ltp;
mod margin;
mod outbox;
mod outgoing;
mod pacer;
mod receiver;
mod sender;
mod status;
mod store;
pub mod tcpcl;

pub use carrier::Carrier;
pub use config::{Config, Margin, OneWay};
pub use contact::{Contact, ContactPlan, PlanError};
pub use estimate::{DISPERSION_MAX, LOSS_MAX};
pub use guard::{Key, counter_under};
pub use job::{Done, Job};
pub use line::Line;
pub use link::{Event, Link, SubmitError};
pub use outbox::Outbox;
pub use outgoing::Block;
pub use status::{Receiving, Sending, Stage, Status, Totals};
pub use store::{MemoryStore, StoreError, SymbolStore, Symbols};
