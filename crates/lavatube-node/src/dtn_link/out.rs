//! A block on its way out as a bundle. It must not know sessions.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_link::{Block, Sending, Stage};

use crate::port::now;

/// A block on its way out.
pub(super) struct Out {
    pub block: Block,
    pub bytes: Option<Vec<u8>>,
    pub wanted: bool,
    /// A session has it, under this number.
    pub ticket: Option<u64>,
    /// It was refused so often, and is sent again then.
    refusals: u32,
    pub later: Instant,
}

impl Out {
    pub fn new(block: Block) -> Self {
        Self { block, bytes: None, wanted: false, ticket: None, refusals: 0, later: Instant(0) }
    }

    /// Whether its bytes are in memory, or were asked for, or a session has them.
    pub fn in_hand(&self) -> bool {
        self.bytes.is_some() || self.wanted || self.ticket.is_some()
    }

    /// It is to be sent again: more and more rarely where it was refused, because all of it crosses again.
    pub fn unsent(&mut self, refused: bool) {
        self.ticket = None;
        if refused {
            self.later = now() + LATER * (1 << self.refusals.min(LATER_DOUBLED_MAX));
            self.refusals += 1;
        }
    }

    /// It, for people.
    pub fn sending(&self) -> Sending {
        Sending {
            key: self.block.key,
            priority: self.block.priority,
            len: self.block.len,
            symbols: 1,
            missing: 1,
            sent: u64::from(self.ticket.is_some()),
            stage: if self.ticket.is_some() { Stage::Resting } else { Stage::Waiting },
            provided: None,
        }
    }
}

/// What was refused is sent again after this, and twice as long each time, to 11 minutes.
pub(super) const LATER: Duration = Duration::from_secs(5);
const LATER_DOUBLED_MAX: u32 = 7;
