//! What a link is told at its birth: keys, a plan, and what to believe before anything was measured.
//!
//! It exists to be short: rate and windows are the plan's, loss, bursts and light time are measured. It must not know where
//! these come from.

use crate::code::Shape;
use crate::contact::ContactPlan;
use crate::guard::Key;
use crate::margin;

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
    /// The plan's rates are the most that may be sent; how fast is found out by what reports tell.
    pub governed: bool,
    /// Share of datagrams lost, before it was measured.
    pub loss: f64,
    /// How bursty losses are, before it was measured: 1 for independent ones, twice their length for bursts.
    pub dispersion: f64,
    /// How many datagrams this belief is worth: few when nothing was ever measured, and then more is sent of the first blocks.
    pub worth: f64,
    /// There is no way back.
    pub one_way: Option<OneWay>,
    /// There is no way there either: nothing is ever sent.
    pub listens_only: bool,
}

/// How blocks are sent where no report ever comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneWay {
    /// Share of datagrams lost that is provided for.
    pub loss: f64,
    /// How many are lost at a time, on average: 1 for independent losses.
    pub burst: f64,
    /// How probable it may be that one sending of a block does not arrive.
    pub failure: f64,
    /// In how many later contacts each block is sent once more.
    pub repeats: u8,
}

/// What is sent of a block where no report ever comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margin {
    /// Symbols of which the block is made again.
    pub needed: u64,
    /// Symbols sent each time.
    pub sent: u64,
    /// A bound on the probability that one sending does not arrive, if losses are no worse than provided for. It is more than what was
    /// wanted when the code has no more symbols.
    pub failure: f64,
}

impl OneWay {
    /// The advised margin for a block of `block_len` bytes; `None` when there is no such block.
    pub fn margin(&self, block_len: u64) -> Option<Margin> {
        let shape = Shape::of(block_len)?;
        let (needed, most) = (shape.k() as u64, shape.symbols() as u64);
        // Half of it is for symbols; the announcements, more often, may be lost as well.
        let wanted = self.failure.clamp(0.0, 1.0) / 2.0;
        let sent = margin::symbols(needed, self.loss, self.burst, wanted, most);
        let failure = 2.0 * margin::failure(needed, sent, self.loss, self.burst);
        Some(Margin { needed, sent, failure: failure.min(1.0) })
    }
}

impl Config {
    /// Settings for a link of two ways of which nothing is known but keys and plan.
    pub fn new(key_out: Key, key_in: Key, plan: ContactPlan) -> Self {
        Self {
            key_out,
            key_in,
            floor: 0,
            plan,
            governed: false,
            loss: 0.01,
            dispersion: 2.0,
            worth: 40.0,
            one_way: None,
            listens_only: false,
        }
    }
}

impl std::fmt::Debug for Config {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("floor", &self.floor)
            .field("plan", &self.plan)
            .field("governed", &self.governed)
            .field("loss", &self.loss)
            .field("dispersion", &self.dispersion)
            .field("worth", &self.worth)
            .field("one_way", &self.one_way)
            .field("listens_only", &self.listens_only)
            .finish_non_exhaustive()
    }
}
