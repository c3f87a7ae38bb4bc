//! What a link is told at its birth: keys, a plan, and what to believe before anything was measured.
//!
//! It exists to be short: rate and windows are the plan's, loss, bursts and light time are measured. It must not know where
//! these come from.

use crate::contact::ContactPlan;
use crate::guard::Key;

/// Settings of a link.
#[derive(Clone)]
pub struct Config {
    /// Tags what leaves; the peer's `key_in`.
    pub key_out: Key,
    /// Tags what comes; the peer's `key_out`. Never the same as `key_out`.
    pub key_in: Key,
    /// Counters below this came in before a restart ([`crate::Status::floor`], persisted now and then): older datagrams are replays.
    pub floor: u64,
    /// When the link is up, and how fast.
    pub plan: ContactPlan,
    /// Share of datagrams lost, before it was measured; for one way, what to provide for.
    pub loss: f64,
    /// How bursty losses are, before it was measured: 1 for independent ones, twice their length for bursts.
    pub dispersion: f64,
    /// There is no way back.
    pub one_way: Option<OneWay>,
}

/// How blocks are sent where no report ever comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneWay {
    /// How probable it may be that one sending of a block does not arrive.
    pub failure: f64,
    /// In how many later contacts each block is sent once more.
    pub repeats: u8,
}

impl OneWay {
    /// The deviations of a normal distribution that are exceeded with at most that probability, by a bound on the safe side.
    pub(crate) fn sigmas(self) -> f64 {
        (2.0 * self.failure.clamp(1e-12, 0.5).recip().ln()).sqrt()
    }
}

impl Config {
    /// Settings for a link of two ways of which nothing is known but keys and plan.
    pub fn new(key_out: Key, key_in: Key, plan: ContactPlan) -> Self {
        Self { key_out, key_in, floor: 0, plan, loss: 0.01, dispersion: 2.0, one_way: None }
    }
}

impl std::fmt::Debug for Config {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("floor", &self.floor)
            .field("plan", &self.plan)
            .field("loss", &self.loss)
            .field("dispersion", &self.dispersion)
            .field("one_way", &self.one_way)
            .finish_non_exhaustive()
    }
}
