//! Short messages on their way out: kept until the other end has them. Step 8 of the walk.
//!
//! They are not on the disk: whoever misses one asks. It must not know what is in them.

use std::collections::BTreeMap;

use lavatube_base::BlockId;
use lavatube_base::digest::h16;

use crate::{Block, Carrier};

/// Short messages on their way out, and the names of all blocks of this end.
#[derive(Debug, Default)]
pub struct Outbox {
    next: u64,
    messages: BTreeMap<u64, Vec<u8>>,
    /// Bytes of them.
    len: usize,
}

impl Outbox {
    /// A name that no block has had.
    pub fn key(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends a short message before all else. Returns its name, or `None` when too many wait: the other end will ask.
    pub fn send(&mut self, link: &mut dyn Carrier, message: Vec<u8>) -> Option<u64> {
        if self.messages.len() >= MESSAGES_MAX || self.len + message.len() > MESSAGES_LEN_MAX {
            return None;
        }
        let key = self.key();
        let block = Block::of(key, 0, &message, false);
        // Asked for at once, it must be here.
        self.len += message.len();
        self.messages.insert(key, message);
        if link.submit(block).is_err() {
            self.done(key);
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
        let message = self.messages.remove(&key);
        self.len -= message.as_ref().map_or(0, Vec::len);
        message.is_some()
    }
}

impl Block {
    /// A block of these bytes.
    pub fn of(key: u64, priority: u8, bytes: &[u8], resumed: bool) -> Self {
        Self { key, priority, len: bytes.len() as u64, id: BlockId(h16(&[bytes])), resumed }
    }
}

/// Most messages that wait, and their bytes: lists of seven million objects, however often they are asked for.
const MESSAGES_MAX: usize = 1 << 16;
const MESSAGES_LEN_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, ContactPlan, Link, MemoryStore};

    #[test]
    fn whoever_asks_again_and_again_does_not_fill_the_memory() {
        let plan = ContactPlan::always(1, 1);
        let mut link =
            Link::new(Config::new([1; 32], [2; 32], plan), 0..1, MemoryStore::default(), lavatube_base::Instant(0));
        let mut outbox = Outbox::default();
        let page = |n: u8| vec![n; MESSAGES_LEN_MAX / 4];
        let keys: Vec<_> = (0..5).map(|n| outbox.send(&mut link, page(n))).collect();
        assert!(keys[..4].iter().all(Option::is_some) && keys[4].is_none());
        assert!(outbox.done(keys[0].unwrap()) && outbox.send(&mut link, page(5)).is_some());
        assert!(outbox.send(&mut link, vec![1]).is_none());
    }
}
