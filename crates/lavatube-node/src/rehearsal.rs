//! A rehearsal: both ends of a link on this computer, joined by two channels instead of a network, in real or in virtual time.
//!
//! The ends are the real ones, with real files; only their port is another. One thread turns them both, so that virtual time
//! can jump from one event to the next: a blackout of two weeks takes as long as the packets around it. It must not know what
//! crosses. No step of the walk.

mod sky;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
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
use crate::pace::Pace;
use crate::port::{self, Port};
use crate::told::Told;
use sky::{Sky, Window};

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
    /// All of it was sent to where no word comes back.
    Sent,
    /// What was sent is asked for again.
    Asks,
    /// About each second while it comes: bytes that came back, and bits a second since the last time.
    Comes(u64, f64),
    /// All that was asked for is here.
    Home,
}

/// How it goes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Bytes that wait for the vault, or have waited.
    pub len: u64,
    /// Bytes whose receipts are home; where none come, those that were sent.
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
    /// Where no word comes back: what is known all the same.
    pub one_way: Option<OneWay>,
    /// Symbols sent, how many of them once more, and those that came and were not needed.
    pub symbols: [u64; 3],
}

/// What is known of a crossing from which no word comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneWay {
    /// The chance that something did not arrive is at most one in so many, if losses are no worse than provided for.
    pub one_in: u64,
    /// Objects that the vault stored, as only somebody over there can see.
    pub stored: usize,
    /// Objects that still wait here, because nobody has receipted them.
    pub kept: usize,
}

/// What the way home came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Home {
    /// From the first question to the last answer.
    pub took: Duration,
    /// How much of this the link was open.
    pub open: Duration,
    /// Bytes that were sent meanwhile: to the vault, and back.
    pub lens: [u64; 2],
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

/// A rehearsal that has begun.
pub struct Rehearsal<'p> {
    plan: &'p Plan<'p>,
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
    start: Instant,
    /// What had come back before something was asked for.
    asked_after: Option<u64>,
    /// The spool of the near end.
    folder: PathBuf,
    /// Where no word comes back: what was sent, with the chance that it did not arrive, and what the vault stored.
    sent: Option<BTreeMap<ObjectId, f64>>,
    stored: BTreeSet<ObjectId>,
}

impl<'p> Rehearsal<'p> {
    /// Opens both ends.
    ///
    /// # Errors
    /// [`LinkError`] as the two ends have it.
    pub fn open(plan: &'p Plan<'p>) -> Result<Self, LinkError> {
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
        let is_one_way = Pairing::open(&plan.near.vault)?.one_way()?.is_some();
        let (objects, len) = (waiting.len(), waiting.values().sum());
        Ok(Self {
            plan,
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
            start,
            asked_after: None,
            folder,
            sent: is_one_way.then(BTreeMap::new),
            stored: BTreeSet::new(),
        })
    }

    /// Drains the spool of the near end into the vault of the far one; `None` when it was stopped.
    ///
    /// # Errors
    /// [`LinkError`] as the two ends have it, and when the link never lets all of it through.
    pub fn drain(&mut self, watch: &mut dyn FnMut(Duration, Moment)) -> Result<Option<Figures>, LinkError> {
        let plan = self.plan;
        let mut blackouts = plan.blackouts.iter().peekable();
        if self.is_open {
            self.tell(self.start, watch, Moment::Opens);
        }
        loop {
            if plan.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if !self.turn(true)? {
                break;
            }
            let now = self.now();
            self.note(now, watch);
            let crossed = self.sky.borrow().channels[0].tally().len_delivered;
            let share = crossed as f64 / self.len.max(1) as f64;
            if let Some(blackout) = blackouts.next_if(|b| share >= b.after) {
                self.darken(now, blackout.lasts);
                self.tell(now, watch, Moment::Darkens(blackout.lasts));
            }
            self.pass()?;
        }
        if self.sent.is_some() {
            self.note(self.now(), watch);
            self.tell(self.now(), watch, Moment::Sent);
            self.arrive(watch)?;
        }
        self.note(self.now(), watch);
        Ok(Some(self.figures(self.start)?))
    }

    /// Lets what is on its way arrive: no word says that it has.
    fn arrive(&mut self, watch: &mut dyn FnMut(Duration, Moment)) -> Result<(), LinkError> {
        let light = self.plan.ways[0].light;
        let until = self.now() + self.sky.borrow().channels[0].backlog(self.now()) + light + SETTLES;
        while self.now() < until && !self.plan.stop.load(Ordering::Relaxed) {
            self.sky.borrow_mut().until[0] = until;
            if self.sky.borrow().is_due(1) {
                let wait = self.far.turn(&mut self.ears[1])?;
                self.far.driver.pump(wait)?;
            }
            self.note(self.now(), watch);
            self.pass()?;
        }
        Ok(())
    }

    /// Turns the link while `read` asks the vault over it, on a thread of its own and with no more than this pace; `None`
    /// when it was stopped. In played time, reading itself takes no time.
    ///
    /// # Errors
    /// [`LinkError`] as the two ends have it, and when the link never lets all of it through.
    pub fn read<R: Send>(
        &mut self,
        watch: &mut dyn FnMut(Duration, Moment),
        read: impl FnOnce(Arc<Pace>) -> R + Send,
    ) -> Result<Option<(Home, R)>, LinkError> {
        let begin = self.now();
        let lens = self.lens();
        self.near.only_reads();
        (self.asked_after, self.told_at, self.told_len) = (Some(lens[1]), begin, lens[1]);
        (self.open, self.turned) = (Duration::ZERO, begin);
        self.tell(begin, watch, Moment::Asks);
        let pace = Arc::new(Pace::new(self.plan.fast));
        let (ended, outcome) = std::thread::scope(|scope| {
            let over = Over(Arc::clone(&pace));
            let reader = scope.spawn(move || {
                let over = over;
                read(Arc::clone(&over.0))
            });
            let ended = self.turn_for(&pace, watch);
            // Who still waits is told that nothing comes any more.
            pace.end();
            (ended, reader.join())
        });
        let outcome = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        if !ended? {
            return Ok(None);
        }
        let (now, after) = (self.now(), self.lens());
        self.note(now, watch);
        self.tell(now, watch, Moment::Home);
        let open = self.open + if self.is_open { now.since(self.turned) } else { Duration::ZERO };
        let home = Home { took: now.since(begin), open, lens: [after[0] - lens[0], after[1] - lens[1]] };
        Ok(Some((home, outcome)))
    }

    /// Turns the link until the reader is done; `false` when it was stopped.
    fn turn_for(&mut self, pace: &Pace, watch: &mut dyn FnMut(Duration, Moment)) -> Result<bool, LinkError> {
        let mut news = self.near.news();
        loop {
            if self.plan.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            match pace.may_run() {
                None => return Ok(true),
                Some(false) => continue,
                Some(true) => {}
            }
            self.turn(false)?;
            self.note(self.now(), watch);
            if self.near.news() == news {
                self.pass()?;
            } else {
                news = self.near.news();
                pace.tell();
            }
        }
    }

    fn now(&self) -> Instant {
        self.sky.borrow().now()
    }

    /// Bytes that were sent so far, to the vault and back.
    fn lens(&self) -> [u64; 2] {
        self.sky.borrow().channels.each_ref().map(|channel| channel.tally().len_offered)
    }

    fn tell(&self, at: Instant, watch: &mut dyn FnMut(Duration, Moment), moment: Moment) {
        watch(at.since(self.start), moment);
    }

    /// Lets time pass until something happens.
    fn pass(&self) -> Result<(), LinkError> {
        let mut sky = self.sky.borrow_mut();
        let now = sky.now();
        if now.since(self.start) >= REHEARSAL_MAX {
            let why = format!("a rehearsal ends after {} days", REHEARSAL_MAX.as_secs() / 86_400);
            return Err(LinkError::Stuck { count: self.waiting.len(), why });
        }
        let arrivals = sky.channels.iter().filter_map(Channel::poll_timeout).chain(self.turns);
        let next = arrivals.chain(sky.until).min().unwrap_or(now);
        sky.advance(next);
        Ok(())
    }

    /// Turns the ends that have something to do; whether the near one goes on.
    fn turn(&mut self, once: bool) -> Result<bool, LinkError> {
        let [near, far] = &mut self.ears;
        if self.sky.borrow().is_due(0) {
            let Some(wait) = self.near.turn(once, near)? else { return Ok(false) };
            self.near.driver.pump(near.wait(wait))?;
        }
        if self.sky.borrow().is_due(1) {
            let wait = self.far.turn(far)?;
            self.far.driver.pump(far.wait(wait))?;
        }
        Ok(true)
    }

    /// Tells what has happened.
    fn note(&mut self, now: Instant, watch: &mut dyn FnMut(Duration, Moment)) {
        if self.turns.is_some_and(|at| at <= now) {
            self.weather(now, watch);
        }
        for (end, ear) in self.ears.iter_mut().enumerate() {
            for told in ear.told.drain(..) {
                // Where no word comes back, what was sent is all that is known here.
                let done = match (&told, &mut self.sent) {
                    (Told::Receipted { id, .. }, None) => Some(*id),
                    (Told::Sent { id, one_in }, Some(sent)) => {
                        sent.insert(*id, 1.0 / (*one_in).max(1) as f64);
                        Some(*id)
                    }
                    (Told::Stored { id, .. }, _) => {
                        self.stored.insert(*id);
                        None
                    }
                    _ => None,
                };
                if let Some(len) = done.and_then(|id| self.waiting.remove(&id)) {
                    self.len_receipted += len;
                    self.first.get_or_insert(now);
                    self.last = now;
                }
                watch(now.since(self.start), Moment::Told { far: end == 1, told });
            }
        }
        let since = now.since(self.told_at);
        if since >= TELL_EVERY
            && let Some(before) = self.asked_after
        {
            let len = self.sky.borrow().channels[1].tally().len_delivered;
            let rate_bit_s = 8.0 * len.saturating_sub(self.told_len) as f64 / since.as_secs_f64();
            (self.told_at, self.told_len) = (now, len);
            self.tell(now, watch, Moment::Comes(len.saturating_sub(before), rate_bit_s));
        } else if since >= TELL_EVERY {
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
            drop(sky);
            self.tell(now, watch, Moment::Progress(progress));
        }
    }

    /// Contacts open and close, blackouts end.
    fn weather(&mut self, now: Instant, watch: &mut dyn FnMut(Duration, Moment)) {
        let sky = self.sky.borrow();
        let is_open = sky.channels[0].is_open(now);
        self.turns = sky.channels[0].turns_after(now);
        if is_open == self.is_open {
            return;
        }
        if self.is_open {
            self.open += now.since(self.turned);
        }
        drop(sky);
        (self.is_open, self.turned) = (is_open, now);
        self.tell(now, watch, if is_open { Moment::Opens } else { Moment::Closes });
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

    fn one_way(&self) -> Result<Option<OneWay>, LinkError> {
        let Some(sent) = &self.sent else { return Ok(None) };
        let chance: f64 = sent.values().sum();
        let spool = DirectorySpool::beside(&self.folder).map_err(CourierError::from)?;
        let kept = spool.map_or(Ok(Vec::new()), |spool| spool.list()).map_err(CourierError::from)?.len();
        let stored = sent.keys().filter(|id| self.stored.contains(id)).count();
        // Rounded down, so that no more is said than is known.
        Ok(Some(OneWay { one_in: (1.0 / chance.max(1e-18)) as u64, stored, kept }))
    }

    fn figures(&self, start: Instant) -> Result<Figures, LinkError> {
        let (sent, came) = (self.near.driver.status().totals, self.far.driver.status().totals);
        let open = if self.is_open { self.open + self.last.since(self.turned) } else { self.open };
        Ok(Figures {
            one_way: self.one_way()?,
            objects: self.objects - self.waiting.len(),
            len: self.len_receipted,
            took: self.last.since(start),
            open,
            first: self.first.unwrap_or(self.last).since(start),
            tallies: self.sky.borrow().channels.each_ref().map(Channel::tally),
            symbols: [sent.symbols_sent, sent.symbols_resent, came.symbols_needless],
        })
    }
}

/// Ends the pace, also when the reader panics.
struct Over(Arc<Pace>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// How long an end may sleep that nothing can reach.
const DARK_WAIT: Duration = Duration::from_secs(60);
/// The far end is done with what arrived within this.
const SETTLES: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longer than any link is planned for; who waits longer waits for ever.
const REHEARSAL_MAX: Duration = Duration::from_secs(1000 * 86_400);
