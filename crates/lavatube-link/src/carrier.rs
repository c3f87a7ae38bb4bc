//! What an end of a link asks of whatever carries its blocks: this crate's engine, or bundles of the standard's network.
//!
//! It exists so that the ends cannot tell which. It must not know what is in a block. No step of the walk.

use std::time::Duration;

use lavatube_base::{BlockId, Instant};

use crate::{Block, Link, Status, SubmitError, SymbolStore};

/// What an end of a link asks of whatever carries its blocks. The meanings are those of [`Link`].
pub trait Carrier {
    /// A block is to be sent.
    ///
    /// # Errors
    /// [`SubmitError`] when it is not taken.
    fn submit(&mut self, block: Block) -> Result<(), SubmitError>;
    /// The bytes of a block, after [`crate::Event::Wanted`].
    fn supply(&mut self, key: u64, bytes: Vec<u8>);
    /// A block is no longer to be sent.
    fn withdraw(&mut self, key: u64);
    /// A block that came in is stored for good.
    fn accepted(&mut self, id: BlockId, now: Instant);
    /// A block that came in is not wanted.
    fn refused(&mut self, id: BlockId, now: Instant);
    /// There is no room for a block that came in; it is handed out again later.
    fn busy(&mut self, id: BlockId, now: Instant);
    /// Asks the other end to send `nonce` back.
    fn ping(&mut self, nonce: u64);
    /// How it is. For people: it copies.
    fn status(&self, now: Instant) -> Status;
    /// How long an answer may take before one asks again, beside the measured way there and back.
    fn patience(&self) -> Duration;
}

impl<S: SymbolStore> Carrier for Link<S> {
    fn submit(&mut self, block: Block) -> Result<(), SubmitError> {
        Link::submit(self, block)
    }

    fn supply(&mut self, key: u64, bytes: Vec<u8>) {
        Link::supply(self, key, bytes);
    }

    fn withdraw(&mut self, key: u64) {
        Link::withdraw(self, key);
    }

    fn accepted(&mut self, id: BlockId, now: Instant) {
        Link::accepted(self, id, now);
    }

    fn refused(&mut self, id: BlockId, now: Instant) {
        Link::refused(self, id, now);
    }

    fn busy(&mut self, id: BlockId, now: Instant) {
        Link::busy(self, id, now);
    }

    fn ping(&mut self, nonce: u64) {
        Link::ping(self, nonce);
    }

    fn status(&self, now: Instant) -> Status {
        Link::status(self, now)
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }
}

/// How long an answer may take over the native link, beside the way there and back.
const PATIENCE: Duration = Duration::from_secs(5);
