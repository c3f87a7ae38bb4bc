//! Raw frames kept for the next chunk: least recently used goes first, bounded in bytes.
//!
//! Chunks that follow each other in a tree mostly lie in one frame, so the slot used last is looked at first. Buffers of
//! evicted frames are filled again instead of going back to the allocator. It must not know what a frame holds.

/// A place that names a frame: row of the pack, position in it.
pub(super) type FrameKey = (u32, u32);

struct Slot {
    key: FrameKey,
    raw: Vec<u8>,
    used: u64,
}

/// Most frames kept, however small: a look-up scans them.
const SLOTS_MAX: usize = 256;

/// The frames.
pub(super) struct FrameCache {
    slots: Vec<Slot>,
    budget: usize,
    held: usize,
    clock: u64,
    last: usize,
    spare: Vec<u8>,
}

impl FrameCache {
    /// A cache of at most `budget` bytes, or one frame if that is longer.
    pub(super) fn new(budget: usize) -> Self {
        Self { slots: Vec::new(), budget, held: 0, clock: 0, last: 0, spare: Vec::new() }
    }

    /// The slot of frame `key`.
    pub(super) fn find(&mut self, key: FrameKey) -> Option<usize> {
        if self.slots.get(self.last).is_none_or(|s| s.key != key) {
            self.last = self.slots.iter().position(|s| s.key == key)?;
        }
        self.clock += 1;
        self.slots[self.last].used = self.clock;
        Some(self.last)
    }

    /// The frame in `slot`.
    pub(super) fn raw(&self, slot: usize) -> &[u8] {
        &self.slots[slot].raw
    }

    /// An empty buffer to open a frame into.
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.spare);
        buffer.clear();
        buffer
    }

    /// Keeps `raw` as frame `key`, lets go of the ones used longest ago, and gives its slot.
    pub(super) fn insert(&mut self, key: FrameKey, raw: Vec<u8>) -> usize {
        self.held += raw.capacity();
        while self.held > self.budget || self.slots.len() >= SLOTS_MAX {
            let Some((oldest, _)) = self.slots.iter().enumerate().min_by_key(|(_, s)| s.used) else { break };
            let gone = self.slots.swap_remove(oldest);
            self.held -= gone.raw.capacity();
            if gone.raw.capacity() > self.spare.capacity() {
                self.spare = gone.raw;
            }
        }
        self.clock += 1;
        self.slots.push(Slot { key, raw, used: self.clock });
        self.last = self.slots.len() - 1;
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_used_longest_ago_goes_first() {
        let mut cache = FrameCache::new(300);
        for at in 0..3 {
            let raw = vec![at as u8; 100];
            cache.insert((0, at), raw);
        }
        assert!(cache.find((0, 0)).is_some());
        cache.insert((0, 3), vec![3; 100]);
        assert!(cache.find((0, 1)).is_none());
        let slot = cache.find((0, 0)).unwrap();
        assert_eq!(cache.raw(slot), &[0; 100]);
        assert!(cache.find((0, 2)).is_some() && cache.find((0, 3)).is_some());
    }

    #[test]
    fn a_frame_beyond_the_budget_is_kept_alone() {
        let mut cache = FrameCache::new(10);
        cache.insert((0, 0), vec![0; 5]);
        let slot = cache.insert((0, 1), vec![1; 100]);
        assert_eq!(cache.raw(slot).len(), 100);
        assert!(cache.find((0, 0)).is_none());
        assert_eq!(cache.buffer().capacity(), 5);
    }
}
