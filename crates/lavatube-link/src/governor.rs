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
//! carries: a little less is sent, then slowly more, so that few wait and none are dropped. Where the queue does not go whatever we
//! do, somebody else fills it, and the governor takes what a TCP flow would ([`window`]); after each loss it sends still less for
//! a while, and if the queue goes then, nobody is there any more. Losses alone do not slow it. It must not
//! know blocks, datagrams or the contact plan but for the most it allows. Step 9 of the walk.

use std::collections::VecDeque;
use std::time::Duration;

use lavatube_base::Instant;

mod window;

use window::Window;

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
    /// Bits that came in the last step, and in how many seconds.
    came: Option<(f64, f64)>,
    /// When the rate was last lowered, and since when it is crowded.
    lowered_at: Option<Instant>,
    crowded_since: Option<Instant>,
    /// What the link carried when it was last crowded.
    carries: Option<f64>,
    /// What arrived at most, a while ago counting for less.
    had: f64,
    /// What is under way while it competes, or was when it last did, and until when that was.
    window: Option<Window>,
    competes_since: Instant,
    competed: Option<Instant>,
    /// Since when so little is under way that a queue of ours alone would be gone.
    dip: Option<Dip>,
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

/// What a step says of the link.
#[derive(Debug, Clone, Copy)]
struct Seen {
    now: Instant,
    /// The round trip without a queue, how long packets wait, both together, and how long they may wait.
    least: Duration,
    waited: Duration,
    round_trip: Duration,
    target: Duration,
    /// Datagrams that it is about, and the share of them that was lost.
    passed: f64,
    lost: f64,
    /// More is lost than weather takes; more is sent than the link carries; what was sent is what might be.
    overflows: bool,
    crowded: bool,
    busy: bool,
    /// It began when the last lower rate had its effect.
    told: bool,
    /// Bits of a packet, and bits a second that would arrive without weather.
    packet: f64,
    arrives: Option<f64>,
    /// How long it was, in round trips, 1 at most.
    rounds: f64,
}

/// Who is alone sees it by sending less for a while: then the queue goes, or as much arrives as before.
#[derive(Debug, Clone, Copy)]
struct Dip {
    since: Instant,
    /// What is under way.
    bits: f64,
    /// What arrived before, in bits a second.
    arrives: f64,
}

impl Dip {
    /// The same, or a deeper one, or none any more.
    fn next(self, seen: &Seen) -> Option<Self> {
        if seen.now.since(self.since) < seen.round_trip * DIP {
            return Some(self);
        }
        let as_much = seen.arrives.is_some_and(|arrives| arrives >= AS_MUCH * self.arrives);
        (as_much && seen.waited > seen.target).then_some(Self {
            since: seen.now,
            bits: self.bits * DIP_OF_WINDOW,
            ..self
        })
    }
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
            came: None,
            lowered_at: None,
            crowded_since: None,
            carries: None,
            had: 0.0,
            window: None,
            competes_since: now,
            competed: None,
            dip: None,
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
            // Beside others the queue may be full for long.
            let remembered = if self.state == State::Competing { 5 * REMEMBERED } else { REMEMBERED };
            self.shortest.retain(|(at, least)| *least < took && now.since(*at) < remembered);
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

    /// Decides once, by all that was heard since the last time.
    fn turn(&mut self, step: Step, arrived: Instant, least: Duration, now: Instant) {
        let seen = self.see(&step, arrived, least, now);
        self.learn(&seen);
        self.change(&seen);
        match self.state {
            State::Starting if seen.busy => self.rate *= (seen.rounds * std::f64::consts::LN_2).exp(),
            State::Competing => self.compete(&seen),
            State::Steady if seen.crowded => self.ease(&seen),
            State::Steady if seen.busy && seen.told => self.faster(&seen),
            State::Starting | State::Steady => {}
        }
        self.waited = seen.waited;
        self.rate = self.rate.clamp(LEAST_BIT_S, self.most.max(LEAST_BIT_S));
    }

    /// What a step says.
    fn see(&mut self, step: &Step, arrived: Instant, least: Duration, now: Instant) -> Seen {
        let took = now.since(step.begin).as_secs_f64();
        let waited = step.shortest.unwrap_or(least).saturating_sub(least);
        self.waited_most = waited.max(self.waited_most.mul_f64(FADES));
        let target = TARGET_MIN.max(least / TARGET_PART).min(TARGET_MAX);
        let passed = step.passed as f64;
        let lost = 1.0 - step.came as f64 / passed;
        // As much more than the weather's as chance can hardly make.
        let chance = (3.0 * (self.weather.max(0.005) * passed).sqrt() + 3.0) / passed;
        // What is lost of the first few is the weather, unless it is too much for any.
        self.steps = self.steps.saturating_add(1);
        if self.steps <= LEARNS {
            self.weather += (lost.min(LOST_MOST / 2.0) - self.weather) / f64::from(self.steps);
        }
        let overflows = lost > self.weather + chance + LOST_MORE.max(self.weather / 2.0);
        // What is sent already will make it longer, as it did in this step.
        let growth = waited.saturating_sub(self.waited).mul_f64(least.as_secs_f64() / took.max(0.001));
        let packet = if self.sent > 0 { self.sent_bits / self.sent as f64 } else { PACKET_BITS };
        let span = step.arrived.map(|before| arrived.since(before).as_secs_f64()).filter(|span| *span > 0.0);
        // Over two steps: one of which this node heard late looks as if less had come, and the next as if more.
        let came = span.map(|span| (step.came as f64 * packet, span));
        let before = std::mem::replace(&mut self.came, came);
        let both = came.map(|(bits, span)| before.map_or((bits, span), |(b, s)| (bits + b, span + s)));
        // One step in which all was late is this node's own sleep, or the peer's; a queue is seen by the next one, too.
        let stands = self.state == State::Starting || self.waited > target / 8;
        let round_trip = least + waited;
        Seen {
            now,
            least,
            waited,
            round_trip,
            target,
            passed,
            lost,
            overflows,
            crowded: overflows || (stands && (waited > target || (waited > target / 4 && waited + growth > target))),
            busy: self.sent_bits >= BUSY * self.rate * took,
            // The effect of a lower rate is seen a round trip later, by a step that began then.
            told: self.lowered_at.is_none_or(|at| step.begin.since(at) >= round_trip),
            packet,
            // When a queue stands, just what the link carries.
            arrives: both.map(|(bits, span)| bits / span / (1.0 - self.weather)),
            rounds: (took / round_trip.as_secs_f64().max(0.001)).min(1.0),
        }
    }

    /// What is weather, and what was had.
    fn learn(&mut self, seen: &Seen) {
        // Beyond what the link is known to carry, more that is lost is no weather.
        let beyond = self.carries.is_some_and(|carries| self.rate > carries);
        let slower = self.carries.is_some() && !beyond && self.state != State::Competing;
        if !seen.overflows && seen.waited <= seen.target && (!beyond || seen.lost < self.weather) {
            self.weather += seen.rounds.clamp(0.05, 0.3) * (seen.lost - self.weather);
        } else if seen.overflows && seen.told && slower {
            // Slower, and still so many are lost: it is the weather that has changed.
            self.weather += 0.1 * (seen.lost.min(LOST_MOST) - self.weather);
        }
        let arrives = seen.arrives.map_or(0.0, |arrives| arrives.min(self.rate));
        self.had = (self.had * (1.0 - seen.rounds * FORGETS)).max(arrives);
    }

    /// Goes through the table.
    fn change(&mut self, seen: &Seen) {
        let now = seen.now;
        let drained = seen.waited < seen.target / 2;
        if seen.crowded {
            self.state = self.state.next(Happening::Crowded);
            self.crowded_since = self.crowded_since.or(Some(now));
        } else if drained {
            // A queue of our own goes when less is sent. One that only comes and goes around the target is held there by others.
            self.crowded_since = None;
        }
        let recent = self.competed.is_some_and(|at| now.since(at) < seen.round_trip * RECENT);
        let long = if recent { LONG_AGAIN } else { LONG };
        if self.crowded_since.is_some_and(|since| now.since(since) >= (seen.round_trip + 2 * STEP_MIN) * long) {
            if self.state == State::Steady {
                // Not with what is left after giving way, but with what was there before.
                let left = self.window.filter(|_| recent).map_or(0.0, |window| window.bits());
                let bits = left.max(self.had * seen.least.as_secs_f64());
                (self.window, self.dip, self.competes_since) = (Some(Window::new(bits, now)), None, now);
            }
            self.state = self.state.next(Happening::CrowdedForLong);
        }
        if drained {
            if self.state == State::Competing {
                // Who was there for so long will be there again.
                let others = now.since(self.competes_since) >= seen.round_trip * PROVES;
                self.competed = others.then_some(now);
            }
            self.state = self.state.next(Happening::Drained);
        }
    }

    /// As a TCP flow beside it would, but for losses that are weather, and for dips that tell whether anybody is there.
    fn compete(&mut self, seen: &Seen) {
        let window = self.window.get_or_insert_with(|| Window::new(0.0, seen.now));
        let chance = 3.0 * (self.weather.max(0.000_5) / seen.passed).sqrt();
        let dropped = seen.lost > self.weather + chance && seen.waited >= self.waited_most / 2;
        if dropped && seen.told {
            window.cut(seen.now);
            self.lowered_at = Some(seen.now);
            self.dip = seen.arrives.map(|arrives| {
                let of_link = arrives * seen.least.as_secs_f64() * DIP_OF_LINK;
                Dip { since: seen.now, bits: of_link.max(window.bits() * DIP_OF_WINDOW), arrives }
            });
        } else if !dropped && seen.busy {
            window.grow(seen.round_trip, seen.rounds, seen.now);
        }
        self.dip = self.dip.and_then(|dip| dip.next(seen));
        let bits = self.dip.map_or(window.bits(), |dip| dip.bits.min(window.bits()));
        // A queue that has just gone is not to be filled at once.
        let most = seen.arrives.map_or(f64::INFINITY, |arrives| arrives * AHEAD);
        self.rate = (bits / seen.round_trip.as_secs_f64().max(0.001)).min(most);
    }

    /// Less than arrives, where more is sent than the link carries.
    fn ease(&mut self, seen: &Seen) {
        // What grows shorter is on its way to be gone.
        if seen.told
            && (seen.overflows || seen.waited >= self.waited)
            && let Some(arrives) = seen.arrives
        {
            // Without a queue it arrives no faster than it was sent, whatever the weather took.
            let arrives = if seen.waited > seen.target { arrives } else { arrives.min(self.rate) };
            self.carries = Some(arrives);
            // More of it, the longer they wait: the queue is to be gone in a few round trips.
            let excess = seen.waited.as_secs_f64() / (seen.waited + 2 * seen.target).as_secs_f64();
            self.rate = self.rate.min(arrives * (1.0 - EASE.max(excess * EASE_MOST)));
            self.quiet = 0.0;
            self.lowered_at = Some(seen.now);
        }
    }

    /// Fast where the link is known to carry it, slowly beyond: by a part each round trip, and a packet.
    fn faster(&mut self, seen: &Seen) {
        let below = self.carries.is_some_and(|carries| self.rate < carries * BELOW);
        let room = (1.0 - seen.waited.as_secs_f64() / seen.target.as_secs_f64()).max(0.0);
        let bound = seen.target.as_secs_f64() / seen.round_trip.as_secs_f64();
        // Twice as fast for each so many round trips in which it has found no end. That is told a round trip late, and the
        // queue must hold what is too much until then.
        self.quiet += seen.rounds;
        let bold = (FASTER * (self.quiet / DOUBLES).exp2()).min(bound.clamp(FASTER, FASTER_MOST));
        self.rate *= 1.0 + if below { FASTER_BELOW.max(bold) } else { bold } * seen.rounds * room;
        self.rate += seen.packet / seen.round_trip.as_secs_f64().max(0.001) * seen.rounds;
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
const LONG: u32 = 6;
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
/// The same, where it competed so many round trips ago at most.
const LONG_AGAIN: u32 = 2;
const RECENT: u32 = 30;
/// What is under way in a dip: of what the link holds of ours, but not less than this of the window; and for how many round trips.
const DIP_OF_LINK: f64 = 0.9;
const DIP_OF_WINDOW: f64 = 0.5;
const DIP: u32 = 3;
/// How long a stay shows that somebody is there.
const PROVES: u32 = 2;
/// How much of what it had is forgotten each round trip.
const FORGETS: f64 = 0.01;
/// How much more than what arrives is sent at most.
const AHEAD: f64 = 2.0;
/// What arrives in a dip is as much as before, if it is so much of it.
const AS_MUCH: f64 = 0.93;
/// The longest wait is forgotten by so much each step.
const FADES: f64 = 0.995;

#[cfg(test)]
mod tests;
