//! The governor: how fast to send over a link whose rate nobody wrote down.
//!
//! ```text
//!               crowded                   crowded for long
//!   Starting -----------> Steady ----------------------------> Competing
//!                            ^                                     |
//!                            +-------------------------------------+
//!                                          drained
//! ```
//!
//! *Crowded*: packets wait longer than they should, or more are lost than the weather takes. What arrives then is what the link
//! carries: a little less is sent, then slowly more, so that few wait and none are dropped. Where the queue stays full whatever we do,
//! somebody else fills it, and the governor takes what a TCP flow would. Losses alone do not slow it. It must not
//! know blocks, datagrams or the contact plan but for the most it allows. Step 9 of the walk.

use std::collections::VecDeque;
use std::time::Duration;

use lavatube_base::Instant;

/// What one report says of the link.
#[derive(Debug, Clone, Copy)]
pub struct Heard {
    /// When the last datagram arrived of which it speaks, by this node's clock: the way back is in it, and does not matter.
    pub arrived: Instant,
    /// The way there and back of that datagram, without the time it lay there.
    pub round_trip: Option<Duration>,
    /// Datagrams that were sent since the report before up to that one, and how many of them came.
    pub passed: u64,
    pub came: u64,
}

/// Where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The rate doubles each round trip.
    Starting,
    /// The rate stays about what arrived when last more was sent than the link carries.
    Steady,
    /// Somebody else fills the queue.
    Competing,
}

/// What may happen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Happening {
    /// More is sent than the link carries.
    Crowded,
    /// And it stays so, whatever is done.
    CrowdedForLong,
    /// Hardly anything waits any more.
    Drained,
}

impl State {
    /// The one transition table; what it does not name changes nothing.
    fn next(self, happening: Happening) -> Self {
        match (self, happening) {
            (Self::Starting, Happening::Crowded) => Self::Steady,
            (Self::Steady, Happening::CrowdedForLong) => Self::Competing,
            (Self::Competing, Happening::Drained) => Self::Steady,
            (state, _) => state,
        }
    }
}

/// Sets the rate of a link by what is heard of it.
#[derive(Debug)]
pub struct Governor {
    state: State,
    /// Bits of packets a second, and the most that is allowed.
    rate: f64,
    most: f64,
    /// The shortest round trips lately: when, and how long.
    shortest: VecDeque<(Instant, Duration)>,
    /// How long packets waited in the last step, and at most lately.
    waited: Duration,
    waited_most: Duration,
    /// The share that is lost when nothing is crowded.
    weather: f64,
    /// Steps so far, up to a few, and round trips in which nothing was crowded.
    steps: u32,
    quiet: f64,
    /// Bits and packets sent since the last step.
    sent_bits: f64,
    sent: u64,
    /// What was heard since the last step.
    step: Step,
    /// When the rate was last lowered, and since when it is crowded.
    lowered_at: Option<Instant>,
    crowded_since: Option<Instant>,
    /// What the link carried when it was last crowded.
    carries: Option<f64>,
}

/// What is heard between two steps.
#[derive(Debug, Clone, Copy)]
struct Step {
    begin: Instant,
    /// When the last datagram arrived of which the step before heard.
    arrived: Option<Instant>,
    passed: u64,
    came: u64,
    shortest: Option<Duration>,
}

impl Step {
    fn new(begin: Instant, arrived: Option<Instant>) -> Self {
        Self { begin, arrived, passed: 0, came: 0, shortest: None }
    }
}

impl Governor {
    /// For a link that carries at most `most_bit_s`, and loses about `loss`.
    pub fn new(most_bit_s: u64, loss: f64, now: Instant) -> Self {
        let most = most_bit_s as f64;
        Self {
            state: State::Starting,
            rate: FIRST_BIT_S.min(most),
            most,
            shortest: VecDeque::new(),
            waited: Duration::ZERO,
            waited_most: Duration::ZERO,
            weather: loss,
            steps: 0,
            quiet: 0.0,
            sent_bits: 0.0,
            sent: 0,
            step: Step::new(now, None),
            lowered_at: None,
            crowded_since: None,
            carries: None,
        }
    }

    /// Bits of packets a second that may be sent.
    pub fn rate_bit_s(&self) -> u64 {
        // Between LEAST and what was given.
        self.rate.min(self.most) as u64
    }

    /// A packet of `len` bytes left.
    pub fn sent(&mut self, len: usize) {
        self.sent_bits += len as f64 * 8.0;
        self.sent += 1;
    }

    /// A report came.
    pub fn heard(&mut self, heard: Heard, now: Instant) {
        self.step.passed += heard.passed;
        self.step.came += heard.came;
        if let Some(took) = heard.round_trip {
            self.step.shortest = Some(self.step.shortest.map_or(took, |least| least.min(took)));
            // A short one makes all longer ones before it needless; old ones go, because orbits move.
            self.shortest.retain(|(at, least)| *least < took && now.since(*at) < REMEMBERED);
            self.shortest.push_back((now, took));
        }
        let Some((_, least)) = self.shortest.front().copied() else { return };
        let due = now.since(self.step.begin) >= STEP_MIN.max(least / STEPS);
        if due && self.step.passed >= PACKETS_MIN {
            let step = std::mem::replace(&mut self.step, Step::new(now, Some(heard.arrived)));
            self.turn(step, heard.arrived, least, now);
            (self.sent_bits, self.sent) = (0.0, 0);
        }
    }

    fn turn(&mut self, step: Step, arrived: Instant, least: Duration, now: Instant) {
        let took = now.since(step.begin).as_secs_f64();
        let waited = step.shortest.unwrap_or(least).saturating_sub(least);
        self.waited_most = waited.max(self.waited_most.mul_f64(FADES));
        let target = TARGET_MIN.max(least / TARGET_PART).min(TARGET_MAX);
        let lost = 1.0 - step.came as f64 / step.passed as f64;
        // As much more than the weather's as chance can hardly make.
        let passed = step.passed as f64;
        let chance = (3.0 * (self.weather.max(0.005) * passed).sqrt() + 3.0) / passed;
        // What is lost of the first few is the weather, unless it is too much for any.
        self.steps = self.steps.saturating_add(1);
        if self.steps <= LEARNS {
            self.weather += (lost.min(LOST_MOST / 2.0) - self.weather) / f64::from(self.steps);
        }
        let overflows = lost > self.weather + chance + LOST_MORE.max(self.weather / 2.0);
        // What is sent already will make it longer, as it did in this step.
        let growth = waited.saturating_sub(self.waited).mul_f64(least.as_secs_f64() / took.max(0.001));
        let crowded = waited > target || (waited > target / 4 && waited + growth > target) || overflows;
        let busy = self.sent_bits >= BUSY * self.rate * took;
        let packet = if self.sent > 0 { self.sent_bits / self.sent as f64 } else { PACKET_BITS };
        let span = step.arrived.map(|before| arrived.since(before).as_secs_f64()).filter(|span| *span > 0.0);
        // What would arrive without weather: when a queue stands, just what the link carries.
        let arrives = span.map(|span| step.came as f64 * packet / span / (1.0 - self.weather));
        let round_trip = least + waited;
        let rounds = (took / round_trip.as_secs_f64().max(0.001)).min(1.0);
        // The effect of a lower rate is seen a round trip later, by a step that began then.
        let told = self.lowered_at.is_none_or(|at| step.begin.since(at) >= round_trip);
        // Beyond what the link is known to carry, more that is lost is no weather.
        let beyond = self.carries.is_some_and(|carries| self.rate > carries);
        if !overflows && waited <= target && (!beyond || lost < self.weather) {
            self.weather += rounds.clamp(0.05, 0.3) * (lost - self.weather);
        } else if overflows && told && self.carries.is_some() && !beyond {
            // Slower, and still so many are lost: it is the weather that has changed.
            self.weather += 0.1 * (lost.min(LOST_MOST) - self.weather);
        }
        self.crowded_since = if crowded { self.crowded_since.or(Some(now)) } else { None };
        if crowded {
            self.state = self.state.next(Happening::Crowded);
        }
        if self.crowded_since.is_some_and(|since| now.since(since) >= round_trip * LONG) {
            self.state = self.state.next(Happening::CrowdedForLong);
        }
        if waited < target / 2 {
            self.state = self.state.next(Happening::Drained);
        }
        match self.state {
            State::Starting if busy => self.rate *= (rounds * std::f64::consts::LN_2).exp(),
            // As a TCP flow beside it would: less by a part when the full queue drops some, and a packet more each round trip.
            State::Competing
                if lost > self.weather + 3.0 * (self.weather.max(0.000_5) / passed).sqrt()
                    && waited >= self.waited_most / 2 =>
            {
                if told {
                    self.lower(self.rate * TCP_KEEPS, now);
                }
            }
            State::Competing => self.rate += packet / round_trip.as_secs_f64().max(0.001) * rounds,
            State::Steady if crowded => {
                // What grows shorter is on its way to be gone.
                if told
                    && (overflows || waited >= self.waited)
                    && let Some(arrives) = arrives
                {
                    // Without a queue it arrives no faster than it was sent, whatever the weather took.
                    let arrives = if waited > target { arrives } else { arrives.min(self.rate) };
                    self.carries = Some(arrives);
                    // More of it, the longer they wait: the queue is to be gone in a few round trips.
                    let excess = waited.as_secs_f64() / (waited + 2 * target).as_secs_f64();
                    self.lower(arrives * (1.0 - EASE.max(excess * EASE_MOST)), now);
                }
            }
            State::Steady if busy && told => {
                let room = 1.0 - waited.as_secs_f64() / target.as_secs_f64();
                self.faster(rounds, room.max(0.0), target.as_secs_f64() / round_trip.as_secs_f64());
                self.rate += packet / round_trip.as_secs_f64().max(0.001) * rounds;
            }
            State::Starting | State::Steady => {}
        }
        self.waited = waited;
        self.rate = self.rate.clamp(LEAST_BIT_S, self.most.max(LEAST_BIT_S));
    }

    /// Fast where the link is known to carry it, slowly beyond: by a part each round trip, `bound` at most.
    fn faster(&mut self, rounds: f64, room: f64, bound: f64) {
        let below = self.carries.is_some_and(|carries| self.rate < carries * BELOW);
        // Twice as fast for each so many round trips in which it has found no end. That is told a round trip late, and the
        // queue must hold what is too much until then.
        self.quiet += rounds;
        let bold = (FASTER * (self.quiet / DOUBLES).exp2()).min(bound.clamp(FASTER, FASTER_MOST));
        self.rate *= 1.0 + if below { FASTER_BELOW.max(bold) } else { bold } * rounds * room;
    }

    fn lower(&mut self, rate: f64, now: Instant) {
        self.rate = self.rate.min(rate);
        self.quiet = 0.0;
        self.lowered_at = Some(now);
    }
}

/// The first rate: what nearly any link carries.
const FIRST_BIT_S: f64 = 1_000_000.0;
/// The lowest: reports must have something to speak of.
const LEAST_BIT_S: f64 = 16_000.0;
const PACKET_BITS: f64 = 12_000.0;
/// Something is decided so often in a round trip, but not more often than this, and not by fewer datagrams.
const STEPS: u32 = 4;
const STEP_MIN: Duration = Duration::from_millis(50);
const PACKETS_MIN: u64 = 10;
/// How long the shortest round trip is remembered.
const REMEMBERED: Duration = Duration::from_secs(120);
/// How long packets may wait: a part of the round trip, within bounds.
const TARGET_PART: u32 = 8;
const TARGET_MIN: Duration = Duration::from_millis(15);
const TARGET_MAX: Duration = Duration::from_millis(150);
/// What is sent is what could be sent, if it is so much of it.
const BUSY: f64 = 0.7;
/// More lost than the weather takes, at least.
const LOST_MORE: f64 = 0.03;
/// More than this is an outage, not weather.
const LOST_MOST: f64 = 0.6;
/// Crowded for so many round trips: it is not our own queue.
const LONG: u32 = 8;
/// By how much less than it carries is sent when it is crowded: at least, and where the queue is long.
const EASE: f64 = 0.03;
const EASE_MOST: f64 = 0.3;
/// By how much faster each round trip, where it is known to be carried and beyond.
const BELOW: f64 = 0.97;
const FASTER_BELOW: f64 = 0.1;
const FASTER: f64 = 0.025;
const FASTER_MOST: f64 = 0.5;
const DOUBLES: f64 = 6.0;
/// Steps whose losses are taken for weather.
const LEARNS: u32 = 4;
/// What TCP keeps of its rate at a loss: Reno's half (CUBIC keeps more, and takes more).
const TCP_KEEPS: f64 = 0.5;
/// The longest wait is forgotten by so much each step.
const FADES: f64 = 0.995;

#[cfg(test)]
mod tests;
