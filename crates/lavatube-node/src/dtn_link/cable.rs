//! What bundles cross to the other end, as [`super::DtnLink`] sees it: it takes bundles under a ticket, brings others, and tells what became
//! of either.
//!
//! It exists so that the rules for bundles stand once, over TCPCL sessions (`sessions`) as over LTP (`ltp`). It must not know what
//! a bundle is for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::{BlockId, Instant};
use lavatube_link::{Contact, Status};

use crate::link_folder::LinkError;

/// A way for bundles.
pub(super) trait Cable {
    /// Where this end listens, if it is anywhere.
    fn address(&self) -> Option<SocketAddr>;

    /// From now on this contact is open, or none. Whether the other end is to be greeted, because it may have given us up.
    fn turn(&mut self, contact: Option<&Contact>) -> bool;

    /// When there is something to do, if nothing comes before.
    fn due(&self) -> Option<Instant>;

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`.
    ///
    /// # Errors
    /// When it is of no more use.
    fn pump(&mut self, wait: Duration) -> Result<(), LinkError>;

    /// Sends what was given, as far as that goes at once.
    fn flush(&mut self) {}

    /// The next thing that happened.
    fn news(&mut self) -> Option<News>;

    /// Whether the other end can be given anything.
    fn is_open(&self) -> bool;

    /// Longest block whose bundle is carried.
    fn block_len_max(&self) -> usize;

    /// Whether another block of `len` bytes may be read, beside what is in hand.
    fn has_room(&self, hand: Hand, len: usize) -> bool;

    /// Takes a bundle to the other end, or back to where something came from; whether it was taken.
    fn post(&mut self, ticket: u64, bundle: Vec<u8>, back_to: Option<Place>) -> bool;

    /// What this ticket stands for need not arrive any more.
    fn withdraw(&mut self, _ticket: u64) {}

    /// What came is the other end's for certain, and new: where that is.
    fn genuine(&mut self, place: Place) -> Option<SocketAddr>;

    /// What came is stored, or nothing more is to come of it.
    fn accepted(&mut self, place: Place);

    /// What came is none for us.
    fn refused(&mut self, place: Place);

    /// There is no room for what came, which is this block: it is to come again later.
    fn busy(&mut self, place: Place, id: BlockId);

    /// Says of itself what it knows. For people: it copies.
    fn describe(&self, status: &mut Status);
}

/// What happened.
pub(super) enum News {
    /// Something came that may be a bundle.
    Came { place: Place, bytes: Arc<Vec<u8>> },
    /// Whoever is next has the bundle of this ticket.
    There { ticket: u64 },
    /// It is to be sent again: later, where it was refused.
    Unsent { ticket: u64, refused: bool },
    /// What came over this session can be answered no more; it comes again.
    Gone { session: u64 },
}

/// Where something came in: over which session, under which number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub session: u64,
    pub number: u64,
}

/// Blocks on their way out whose bytes are in memory or were asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hand {
    /// How many, and their bytes.
    pub count: usize,
    pub len: usize,
    /// Bytes of those that no cable has.
    pub ahead: usize,
}
