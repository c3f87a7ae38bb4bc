//! Short messages on their way out: kept until the other end has them. Step 8 of the walk.
//!
//! They are not on the disk: whoever misses one asks. It must not know what is in them.

use std::collections::BTreeMap;

use lavatube_base::BlockId;
use lavatube_base::digest::h16;
use lavatube_link::Block;

use crate::carrier::Carrier;

/// Short messages on their way out, and the names of all blocks of this end.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    next: u64,
    messages: BTreeMap<u64, Vec<u8>>,
}

impl Outbox {
    /// A name that no block has had.
    pub fn key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends a short message before all else. Returns its name, or `None` when too many wait: the other end will ask.
    pub fn send(&mut self, link: &mut dyn Carrier, message: Vec<u8>) -> Option<u64> {
        if self.messages.len() >= MESSAGES_MAX {
            return None;
        }
        let key = self.key();
        let block = block(key, 0, &message, false);
        // Asked for at once, it must be here.
        self.messages.insert(key, message);
        if link.submit(block).is_err() {
            self.messages.remove(&key);
            return None;
        }
        Some(key)
    }

    /// The bytes of a message.
    pub fn message(&self, key: u64) -> Option<&[u8]> {
        self.messages.get(&key).map(Vec::as_slice)
    }

    /// Whether the message is still on its way.
    pub fn has(&self, key: u64) -> bool {
        self.messages.contains_key(&key)
    }

    /// The other end has it, or does not want it.
    pub fn done(&mut self, key: u64) -> bool {
        self.messages.remove(&key).is_some()
    }
}

/// A block of these bytes.
pub(crate) fn block(key: u64, priority: u8, bytes: &[u8], resumed: bool) -> Block {
    Block { key, priority, len: bytes.len() as u64, id: BlockId(h16(&[bytes])), resumed }
}

/// Most messages that wait.
const MESSAGES_MAX: usize = 1 << 16;
