//! The driver of an end: what turns the real engine on the sky. Steps 10 and 11 of the walk.
//!
//! It does what `lavatube_node::driver` does on a socket, in the same order, but that it is woken when there is something to
//! do instead of looking. It must not know what is in a block.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use lavatube_base::{BlockId, Instant};
use lavatube_client::clerk::{Post, Sight};
use lavatube_link::{Block, Carrier, Config, Event, Job, Line, Link, OneWay, Outbox, Status, SubmitError};

use super::disk::{LinkDisk, SimSymbols};
use super::sky::{ATTACKER, Sky};
use super::weather::{Weather, share};
use crate::chance::Chance;
use crate::invariants::carried::Watch;

/// A link, on the sky.
pub struct Driver {
    end: usize,
    link: Link<SimSymbols>,
    disk: LinkDisk,
    floor_kept_at: Instant,
    events: VecDeque<Event>,
    /// Jobs that are being done, and until when.
    jobs: Vec<(Instant, Job)>,
    work: Duration,
    chance: Chance,
    watch: Rc<RefCell<Watch>>,
    /// What the engine was last asked to be woken at.
    timeout: Option<Instant>,
    /// The time by this end's clock.
    now: Instant,
}

impl Driver {
    /// A driver of `end`, whose disk this is.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn open(
        end: usize,
        weather: &Weather,
        disk: &LinkDisk,
        sky: &Sky,
        watch: &Rc<RefCell<Watch>>,
        chance: Chance,
    ) -> Result<Self, String> {
        let now = sky.clock(end);
        let (start, floor) = disk.counters();
        disk.reserve(start + RESERVE)?;
        let keys = [[1; 32], [2; 32]];
        let mut config = Config::new(keys[end], keys[1 - end], weather.plan(end));
        (config.governed, config.floor) = (weather.governed && weather.one_way.is_none(), floor);
        if let Some(one_way) = weather.one_way {
            (config.one_way, config.listens_only) = (Some(OneWay { repeats: 0, ..one_way }), end == 1);
        }
        if let Some((loss, dispersion)) = disk.weather() {
            (config.loss, config.dispersion) = (loss, dispersion);
        }
        watch.borrow_mut().born(end, disk.floor());
        let link = Link::new(config, start..start + RESERVE, disk.symbols(weather.open_max), now);
        Ok(Self {
            end,
            link,
            disk: disk.clone(),
            floor_kept_at: now,
            events: VecDeque::new(),
            jobs: Vec::new(),
            work: weather.work,
            chance,
            watch: watch.clone(),
            timeout: Some(now),
            now,
        })
    }

    /// What time it is here.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How the link is.
    pub fn state(&self) -> Status {
        self.link.status(self.now)
    }

    /// Symbols that came, and that were not needed.
    pub fn symbols(&self) -> [u64; 2] {
        let totals = self.link.totals();
        [totals.symbols_received, totals.symbols_needless]
    }

    /// Blocks of several symbols that come in, and how many symbols of each are held.
    pub fn held(&self) -> Vec<(BlockId, usize)> {
        let several = self.state().incoming.into_iter().filter(|block| block.symbols > 1 && !block.waits);
        several.map(|block| (block.id, usize::try_from(block.held).unwrap_or(usize::MAX))).collect()
    }

    /// The next thing that is not the driver's own to do.
    ///
    /// # Errors
    /// When counters cannot be reserved.
    pub fn event(&mut self) -> Result<Option<Event>, String> {
        loop {
            self.gather();
            match self.events.pop_front() {
                Some(Event::ReserveCounters { end }) => {
                    self.disk.reserve(end + RESERVE)?;
                    self.link.reserved(end + RESERVE);
                }
                other => return Ok(other),
            }
        }
    }

    /// Takes in what came, and what time brought.
    pub fn wake(&mut self, sky: &mut Sky) {
        self.now = sky.clock(self.end);
        while let Some((from, datagram)) = sky.receive(self.end) {
            if self.link.handle_datagram(&datagram, self.now) {
                self.watch.borrow_mut().heard(self.end, &datagram);
                sky.genuine(self.end, from);
            }
        }
        if self.timeout.is_some_and(|at| at <= self.now) {
            self.link.handle_timeout(self.now);
        }
        self.work();
        self.gather();
    }

    /// Takes over what the engine tells, before it is told anything.
    fn gather(&mut self) {
        while let Some(event) = self.link.poll_event() {
            if let Event::Received { id, bytes, .. } = &event {
                self.watch.borrow_mut().given(self.end, *id, bytes);
            }
            self.events.push_back(event);
        }
    }

    /// Does what may be done by now.
    fn work(&mut self) {
        let now = self.now;
        for (_, job) in self.jobs.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            self.link.finished(job.run(), now);
        }
        while let Some(job) = self.link.poll_job(now) {
            if job.is_small() || self.work.is_zero() {
                self.link.finished(job.run(), now);
            } else {
                self.jobs.push((now + self.work.mul_f64(share(&mut self.chance)), job));
            }
        }
    }

    /// Sends what may be sent; whether there is something to be handled before one waits.
    ///
    /// # Errors
    /// When the floor cannot be kept.
    pub fn send(&mut self, sky: &mut Sky) -> Result<bool, String> {
        self.work();
        let mut datagram = Vec::new();
        while sky.has_peer(self.end) && self.link.poll_transmit(self.now, &mut datagram) {
            self.watch.borrow_mut().leaves(self.end, &datagram, self.disk.counters().0);
            sky.send(self.end, &datagram);
            datagram.clear();
        }
        self.work();
        self.gather();
        if self.now.since(self.floor_kept_at) >= FLOOR_EVERY {
            self.keep_floor()?;
        }
        Ok(!self.events.is_empty())
    }

    /// When it wants to be woken, if nothing comes before: by its own clock.
    pub fn timeout(&mut self, sky: &Sky) -> Option<Instant> {
        self.timeout = match sky.has_peer(self.end) {
            true => self.link.poll_timeout(self.now),
            // Nobody can be sent anything.
            false => Some(self.now + ALONE),
        };
        // No mistake of anybody's keeps a processor busy.
        let timeout = self.timeout.map(|at| at.max(self.now + REST));
        let floor = (self.state().floor > self.disk.floor()).then(|| self.floor_kept_at + FLOOR_EVERY);
        let jobs = self.jobs.iter().map(|(at, _)| *at);
        timeout.into_iter().chain(floor).chain(jobs).min()
    }

    fn keep_floor(&mut self) -> Result<(), String> {
        self.floor_kept_at = self.now;
        let status = self.state();
        if status.totals.datagrams_sent >= MEASURED {
            self.disk.keep_weather(status.loss, status.dispersion);
        }
        self.disk.keep_floor(status.floor)
    }

    /// The process ends in order.
    pub fn close(mut self) {
        // What is not kept is as after a kill.
        let _ = self.keep_floor();
        self.link.into_store().close();
    }

    /// Somebody throws a datagram at this end. Nothing but counts may change, unless `may_be_new`.
    pub fn suffer(&mut self, datagram: &[u8], may_be_new: bool, sky: &mut Sky) {
        // What time brings is not the datagram's doing.
        self.link.handle_timeout(self.now);
        let before = self.changeable();
        if !self.link.handle_datagram(datagram, self.now) {
            if self.changeable() != before {
                let after = self.changeable();
                let what = format!("a datagram that was refused has changed the session: {before:?} became {after:?}");
                self.watch.borrow_mut().blame(what);
            }
            return;
        }
        if !may_be_new {
            self.watch.borrow_mut().blame("a datagram was believed that is forged, or came before".into());
        }
        self.watch.borrow_mut().heard(self.end, datagram);
        sky.genuine(self.end, ATTACKER);
        self.timeout = Some(self.now);
    }

    /// The status, but for what strangers may count up.
    fn changeable(&self) -> Status {
        let mut status = self.state();
        (status.totals.foreign, status.totals.forged, status.totals.replayed) = (0, 0, 0);
        status
    }
}

impl Carrier for Driver {
    fn submit(&mut self, block: Block) -> Result<(), SubmitError> {
        self.watch.borrow_mut().submitted(self.end, block.id, block.len);
        self.link.submit(block)
    }

    fn supply(&mut self, key: u64, bytes: Vec<u8>) {
        self.link.supply(key, bytes);
    }

    fn withdraw(&mut self, key: u64) {
        self.link.withdraw(key);
    }

    fn accepted(&mut self, id: BlockId, now: Instant) {
        self.watch.borrow_mut().answered(self.end, id);
        self.link.accepted(id, now);
    }

    fn refused(&mut self, id: BlockId, now: Instant) {
        self.watch.borrow_mut().answered(self.end, id);
        self.link.refused(id, now);
    }

    fn busy(&mut self, id: BlockId, now: Instant) {
        self.link.busy(id, now);
    }

    fn ping(&mut self, nonce: u64) {
        self.link.ping(nonce);
    }

    fn status(&self, now: Instant) -> Status {
        self.link.status(now)
    }

    fn patience(&self) -> Duration {
        Carrier::patience(&self.link)
    }
}

/// The link and its outbox, as the clerk sees them.
pub struct Counter<'e> {
    /// The link.
    pub link: &'e mut Driver,
    /// Its short messages.
    pub outbox: &'e mut Outbox,
}

impl Post for Counter<'_> {
    fn send(&mut self, message: Vec<u8>) -> Option<u64> {
        self.outbox.send(self.link, message)
    }

    fn has(&self, key: u64) -> bool {
        self.outbox.has(key)
    }

    fn ping(&mut self, nonce: u64) {
        self.link.ping(nonce);
    }

    fn patience(&self) -> Duration {
        Carrier::patience(self.link)
    }

    fn look(&self, now: Instant) -> Sight {
        let status = Carrier::status(self.link, now);
        let incoming = status.incoming.iter().map(|block| (block.id, block.held)).collect();
        Sight { is_open: status.line == Line::Open, light: status.light, incoming }
    }
}

/// Counters reserved at a time: fewer than a real driver takes, so that ranges end.
const RESERVE: u64 = (1 << 16) + 1000;
/// Datagrams that say something about the weather.
const MEASURED: u64 = 400;
const FLOOR_EVERY: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_micros(50);
const ALONE: Duration = Duration::from_secs(60);
