//! Counters a running backup, restore or check turns, for whoever shows progress.
//!
//! Plain atomics: the engines add, a terminal elsewhere reads. It must not know how they are shown.

use std::sync::atomic::{AtomicU64, Ordering};

use lavatube_format::tree::Content;

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets the counter, for totals that become known.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Takes `n` back that was added and turned out not to count.
    pub fn take_back(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// The present value.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counters of one run.
#[derive(Debug, Default)]
pub struct Meter {
    /// Files dealt with.
    pub files: Count,
    /// Directories and other entries dealt with.
    pub others: Count,
    /// Bytes of the files dealt with and of those under way, without holes.
    pub bytes: Count,
    /// Bytes of holes, which nobody reads or writes: part of what is expected.
    pub holes: Count,
    /// Bytes of content that were new.
    pub new_bytes: Count,
    /// Bytes stored (packs as they cross the link), or fetched.
    pub stored_bytes: Count,
    /// 1 while something must come over a link first.
    pub waits: Count,
    /// Entries that could not be dealt with.
    pub errors: Count,
    /// Files expected; 0 when nobody knows.
    pub files_total: Count,
    /// Apparent bytes expected; 0 when nobody knows.
    pub bytes_total: Count,
    /// Bytes of holes expected among them; 0 when nobody knows.
    pub holes_total: Count,
}

impl Meter {
    /// A file is dealt with, of whose content `counted` bytes were counted on the way.
    pub fn finish_file(&self, content: &Content, counted: u64) {
        let data = content.extents.as_ref().map_or(content.size, |extents| extents.iter().map(|e| e.len).sum());
        self.files.add(1);
        self.bytes.add(data.saturating_sub(counted));
        self.holes.add(content.size.saturating_sub(data));
    }
}
