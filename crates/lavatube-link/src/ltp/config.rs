//! What an engine is told at its birth, and of each peer.
//!
//! It exists to be short: light time and loss are measured, what is here is only where that begins, and limits. It must not know
//! where these come from.

use std::time::Duration;

use lavatube_base::limits::LTP_SESSIONS_MAX;
use lavatube_format::ltp::BUNDLES;

/// Settings of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its own engine id.
    pub engine: u64,
    /// Session numbers are made from this: for each life of the engine another, which nobody can guess.
    pub seed: u64,
    /// Client services that blocks are taken for; others are refused.
    pub services: Vec<u64>,
}

impl Config {
    /// An engine that takes bundles.
    pub fn new(engine: u64, seed: u64) -> Self {
        Self { engine, seed, services: vec![BUNDLES] }
    }
}

/// Settings of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeerConfig {
    /// Its engine id.
    pub engine: u64,
    /// One-way light time, before it was measured.
    pub light: Duration,
    /// Share of segments lost, before it was measured.
    pub loss: f64,
    /// Most blocks that are under way to it at a time, 1 to [`LTP_SESSIONS_MAX`]: ION and HDTN are told a number, too.
    pub sessions_max: usize,
    /// Bytes of blocks that may wait or be under way to it.
    pub export_len_max: u64,
    /// Bytes of memory for blocks that are coming from it; one block more may be finished, so that there is always one that can be.
    pub import_len_max: usize,
    /// How often a checkpoint or a report is repeated without an answer.
    pub repeats_max: u32,
    /// A block of which nothing comes for so long is given up.
    pub idle_max: Duration,
}

impl PeerConfig {
    /// A peer at a light time, with limits for nodes of a few hundred MiB.
    pub fn new(engine: u64, light: Duration) -> Self {
        Self {
            engine,
            light,
            loss: 0.01,
            sessions_max: 1024.min(LTP_SESSIONS_MAX),
            export_len_max: 512 << 20,
            import_len_max: 512 << 20,
            repeats_max: 20,
            idle_max: Duration::from_secs(2 * 3600),
        }
    }
}
