//! Counters a running backup, restore or check turns, for whoever shows progress.
//!
//! Plain atomics: the engines add, a terminal elsewhere reads. It must not know how they are shown.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Apparent bytes of the files dealt with.
    pub bytes: Count,
    /// Bytes of content that were new.
    pub new_bytes: Count,
    /// Bytes stored (packs as they cross the link), or fetched.
    pub stored_bytes: Count,
    /// Entries that could not be dealt with.
    pub errors: Count,
    /// Files expected; 0 when nobody knows.
    pub files_total: Count,
    /// Bytes expected; 0 when nobody knows.
    pub bytes_total: Count,
}
