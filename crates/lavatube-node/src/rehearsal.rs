//! A rehearsal: both ends of a link on this computer, joined by two channels instead of a network, in real or in virtual time.
//!
//! The ends are the real ones, with real files; only their port is another. One thread turns them both, so that virtual time
//! can jump from one event to the next: a blackout of two weeks takes as long as the packets around it. It must not know what
//! crosses. No step of the walk.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_base::{Instant, ObjectId};
use lavatube_channel::{Channel, Tally, Way};
use lavatube_client::courier::CourierError;
use lavatube_client::spool::Spool;
use lavatube_link::{Line, Status};

use crate::carrier::Driver;
use crate::depositor::{Places, spool_folder, state_folder};
use crate::directory_spool::DirectorySpool;
use crate::far_end::{FarEnd, Listener};
use crate::link_folder::{self, LinkError, Pairing};
use crate::near_end::NearEnd;
use crate::port::{self, Port};
use crate::told::Told;

/// What is rehearsed.
pub struct Plan<'p> {
    /// The machine that has backed up; its vault's folder leads to the far one.
    pub near: &'p Places,
    /// The folder of the vault itself.
    pub far: &'p Path,
    /// To the vault, and back.
    pub ways: [Way; 2],
    /// What befalls packets is drawn from it.
    pub seed: u64,
    /// When it begins.
    pub start: Instant,
    /// In virtual time.
    pub fast: bool,
    /// Blackouts that no plan knows of, in order.
    pub blackouts: Vec<Blackout>,
    /// Set when it shall end.
    pub stop: &'p AtomicBool,
}

/// Nothing passes, either way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blackout {
    /// It begins when this share of all bytes has come out over there.
    pub after: f64,
    /// How long it lasts.
    pub lasts: Duration,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Moment {
    /// A contact opened, or light came back.
    Opens,
    /// A contact closed.
    Closes,
    /// A blackout began.
    Darkens(Duration),
    /// The near end, or the far one, told this.
    Told {
        /// It was the far one.
        far: bool,
        /// What it told.
        told: Told,
    },
    /// About each second: how it goes.
    Progress(Progress),
}

/// How it goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Bytes that wait for the vault, or have waited.
    pub len: u64,
    /// Bytes whose receipts are home.
    pub len_receipted: u64,
    /// Objects whose receipts are not.
    pub left: usize,
    /// Bits a second that came out over there, since the last time.
    pub rate_bit_s: f64,
    /// The share of datagrams lost, as the sender measures it.
    pub loss: f64,
    /// How long a packet waits at the link's entrance.
    pub backlog: Duration,
    /// Whether the sender finds the link open.
    pub line: Option<Line>,
}

/// What it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Objects that crossed.
    pub objects: usize,
    /// Their bytes.
    pub len: u64,
    /// From the first turn to the last receipt.
    pub took: Duration,
    /// How much of this the link was open.
    pub open: Duration,
    /// To the first object that was receipted.
    pub first: Duration,
    /// What became of packets: to the vault, and back.
    pub tallies: [Tally; 2],
    /// Symbols sent, how many of them once more, and those that came and were not needed.
    pub symbols: [u64; 3],
}

/// Drains the spool of `plan.near` into the vault of `plan.far`; `None` when it was stopped.
///
/// # Errors
/// [`LinkError`] as the two ends have it, and when the link never lets all of it through.
pub fn run(plan: &Plan<'_>, watch: &mut dyn FnMut(Duration, Moment)) -> Result<Option<Figures>, LinkError> {
    Rehearsal::open(plan)?.run(plan, watch)
}

/// The two channels, and the clock.
struct Sky {
    /// `None` when time is real.
    clock: Option<Instant>,
    channels: [Channel; 2],
    /// Until when each end waits.
    until: [Instant; 2],
}

impl Sky {
    fn now(&self) -> Instant {
        self.clock.unwrap_or_else(port::now)
    }

    /// Whether an end has something to do.
    fn is_due(&self, end: usize) -> bool {
        let arrives = self.channels[1 - end].poll_timeout();
        arrives.into_iter().chain([self.until[end]]).any(|at| at <= self.now())
    }

    /// Lets time pass until then; a part of it when it is real.
    fn advance(&mut self, to: Instant) {
        match &mut self.clock {
            Some(clock) => *clock = to.max(*clock),
            None => std::thread::sleep(to.since(port::now()).min(NAP_MAX)),
        }
    }
}

/// The port of one end.
struct Window {
    sky: Rc<RefCell<Sky>>,
    end: usize,
}

impl Port for Window {
    fn now(&self) -> Instant {
        self.sky.borrow().now()
    }

    fn has_peer(&self) -> bool {
        true
    }

    fn send(&mut self, datagram: &[u8]) {
        let mut sky = self.sky.borrow_mut();
        let now = sky.now();
        sky.channels[self.end].offer(datagram, now);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let mut sky = self.sky.borrow_mut();
        let now = sky.now();
        let datagram = sky.channels[1 - self.end].poll(now)?;
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Some(len)
    }

    fn genuine(&mut self) {}

    fn wait(&mut self, wait: Duration) -> Result<(), LinkError> {
        let mut sky = self.sky.borrow_mut();
        sky.until[self.end] = sky.now() + wait;
        Ok(())
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn moved(&mut self) -> Option<SocketAddr> {
        None
    }
}

/// What an end has told.
#[derive(Default)]
struct Ear {
    told: Vec<Told>,
    line: Option<Line>,
    status: Option<Status>,
}

impl Listener for Ear {
    fn told(&mut self, told: Told) {
        if let Told::Line(line) = told {
            self.line = Some(line);
        }
        self.told.push(told);
    }

    fn status(&mut self, status: &Status) {
        self.status = Some(status.clone());
    }
}

impl Ear {
    /// For how long an end waits that wants to wait so long: nobody comes by while the link is shut.
    fn wait(&self, wait: Duration) -> Duration {
        if self.line == Some(Line::Open) || wait.is_zero() { wait } else { wait.max(DARK_WAIT) }
    }
}

struct Rehearsal {
    sky: Rc<RefCell<Sky>>,
    near: NearEnd,
    far: FarEnd,
    ears: [Ear; 2],
    /// Objects that wait, and their bytes.
    waiting: BTreeMap<ObjectId, u64>,
    objects: usize,
    len: u64,
    len_receipted: u64,
    first: Option<Instant>,
    last: Instant,
    is_open: bool,
    /// Since when that has been so, and when it may change.
    turned: Instant,
    turns: Option<Instant>,
    open: Duration,
    told_at: Instant,
    told_len: u64,
}

impl Rehearsal {
    fn open(plan: &Plan<'_>) -> Result<Self, LinkError> {
        let start = if plan.fast { plan.start } else { port::now() };
        let [there, back] = plan.ways.clone();
        let channels = [Channel::new(there, plan.seed), Channel::new(back, !plan.seed)];
        let (is_open, turns) = (channels[0].is_open(start), channels[0].turns_after(start));
        let clock = plan.fast.then_some(start);
        let sky = Rc::new(RefCell::new(Sky { clock, channels, until: [start; 2] }));
        let driver =
            |end| move |pairing: &Pairing, sky| Driver::on(pairing, Box::new(Window { sky, end }) as Box<dyn Port>);
        let mut ears = [Ear::default(), Ear::default()];
        let near = NearEnd::open(plan.near, Duration::ZERO, |p| driver(0)(p, sky.clone()), &mut ears[0])?;
        let far = FarEnd::open(plan.far, Duration::ZERO, |p| driver(1)(p, sky.clone()), &mut ears[1])?;
        let folder = spool_folder(&state_folder(plan.near, link_folder::vault_id(&plan.near.vault)?));
        let mut waiting = BTreeMap::new();
        if let Some(spool) = DirectorySpool::beside(&folder).map_err(CourierError::from)? {
            for (_, id) in spool.list().map_err(CourierError::from)? {
                waiting.insert(id, spool.len(id).map_err(CourierError::from)?.unwrap_or(0));
            }
        }
        let (objects, len) = (waiting.len(), waiting.values().sum());
        Ok(Self {
            sky,
            near,
            far,
            ears,
            waiting,
            objects,
            len,
            len_receipted: 0,
            first: None,
            last: start,
            is_open,
            turned: start,
            turns,
            open: Duration::ZERO,
            told_at: start,
            told_len: 0,
        })
    }

    fn run(mut self, plan: &Plan<'_>, watch: &mut dyn FnMut(Duration, Moment)) -> Result<Option<Figures>, LinkError> {
        let start = self.turned;
        let mut blackouts = plan.blackouts.iter().peekable();
        let mut watch = |at: Instant, moment| watch(at.since(start), moment);
        if self.is_open {
            watch(start, Moment::Opens);
        }
        loop {
            if plan.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if !self.turn()? {
                break;
            }
            let now = self.sky.borrow().now();
            self.note(now, &mut watch);
            let crossed = self.sky.borrow().channels[0].tally().len_delivered;
            let share = crossed as f64 / self.len.max(1) as f64;
            if let Some(blackout) = blackouts.next_if(|b| share >= b.after) {
                self.darken(now, blackout.lasts);
                watch(now, Moment::Darkens(blackout.lasts));
            }
            if now.since(start) >= REHEARSAL_MAX {
                let why = format!("a rehearsal ends after {} days", REHEARSAL_MAX.as_secs() / 86_400);
                return Err(LinkError::Stuck { count: self.waiting.len(), why });
            }
            let mut sky = self.sky.borrow_mut();
            let arrivals = sky.channels.iter().filter_map(Channel::poll_timeout).chain(self.turns);
            let next = arrivals.chain(sky.until).min().unwrap_or(now);
            sky.advance(next);
        }
        let now = self.sky.borrow().now();
        self.note(now, &mut watch);
        Ok(Some(self.figures(start)))
    }

    /// Turns the ends that have something to do; whether the near one goes on.
    fn turn(&mut self) -> Result<bool, LinkError> {
        let [near, far] = &mut self.ears;
        if self.sky.borrow().is_due(0) {
            let Some(wait) = self.near.turn(true, near)? else { return Ok(false) };
            self.near.driver.pump(near.wait(wait))?;
        }
        if self.sky.borrow().is_due(1) {
            let wait = self.far.turn(far)?;
            self.far.driver.pump(far.wait(wait))?;
        }
        Ok(true)
    }

    /// Tells what has happened.
    fn note(&mut self, now: Instant, watch: &mut dyn FnMut(Instant, Moment)) {
        if self.turns.is_some_and(|at| at <= now) {
            self.weather(now, watch);
        }
        for (end, ear) in self.ears.iter_mut().enumerate() {
            for told in ear.told.drain(..) {
                if let Told::Receipted { id, .. } = told
                    && let Some(len) = self.waiting.remove(&id)
                {
                    self.len_receipted += len;
                    self.first.get_or_insert(now);
                    self.last = now;
                }
                watch(now, Moment::Told { far: end == 1, told });
            }
        }
        let since = now.since(self.told_at);
        if since >= TELL_EVERY {
            let sky = self.sky.borrow();
            let len = sky.channels[0].tally().len_delivered;
            let progress = Progress {
                len: self.len,
                len_receipted: self.len_receipted,
                left: self.waiting.len(),
                rate_bit_s: 8.0 * (len - self.told_len) as f64 / since.as_secs_f64(),
                loss: self.ears[0].status.as_ref().map_or(0.0, |status| status.loss),
                backlog: sky.channels[0].backlog(now),
                line: self.ears[0].line,
            };
            (self.told_at, self.told_len) = (now, len);
            watch(now, Moment::Progress(progress));
        }
    }

    /// Contacts open and close, blackouts end.
    fn weather(&mut self, now: Instant, watch: &mut dyn FnMut(Instant, Moment)) {
        let sky = self.sky.borrow();
        let is_open = sky.channels[0].is_open(now);
        self.turns = sky.channels[0].turns_after(now);
        if is_open == self.is_open {
            return;
        }
        if self.is_open {
            self.open += now.since(self.turned);
        }
        (self.is_open, self.turned) = (is_open, now);
        watch(now, if is_open { Moment::Opens } else { Moment::Closes });
    }

    fn darken(&mut self, now: Instant, lasts: Duration) {
        let mut sky = self.sky.borrow_mut();
        sky.channels.iter_mut().for_each(|channel| channel.way.dark.push((now, now + lasts)));
        if self.is_open {
            self.open += now.since(self.turned);
        }
        (self.is_open, self.turned) = (false, now);
        self.turns = sky.channels[0].turns_after(now);
    }

    fn figures(&self, start: Instant) -> Figures {
        let (sent, came) = (self.near.driver.status().totals, self.far.driver.status().totals);
        let open = if self.is_open { self.open + self.last.since(self.turned) } else { self.open };
        Figures {
            objects: self.objects - self.waiting.len(),
            len: self.len_receipted,
            took: self.last.since(start),
            open,
            first: self.first.unwrap_or(self.last).since(start),
            tallies: self.sky.borrow().channels.each_ref().map(Channel::tally),
            symbols: [sent.symbols_sent, sent.symbols_resent, came.symbols_needless],
        }
    }
}

/// How long an end may sleep that nothing can reach.
const DARK_WAIT: Duration = Duration::from_secs(60);
/// The longest sleep in real time: a signal to end is noticed after it.
const NAP_MAX: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longer than any link is planned for; who waits longer waits for ever.
const REHEARSAL_MAX: Duration = Duration::from_secs(1000 * 86_400);
