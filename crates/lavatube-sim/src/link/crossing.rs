//! The loop of a link: both ends in one thread, from one event to the next, with whatever strikes them.
//!
//! An end that dies loses its memory, and what its disks may lose; after a while it lives again. The near end may outlive a
//! crossing, as a daemon does; the far one ends with it, because others need the vault. It must not know what is drawn.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use lavatube_base::{Instant, ObjectId};
use lavatube_client::ledger;

use super::blows::{self, Blow};
use super::disk::{LinkDisk, PENDING_MAX};
use super::driver::Driver;
use super::errands::OneWayBook;
use super::far::Far;
use super::near::{self, Near};
use super::reading::Reading;
use super::sky::Sky;
use super::weather::{Weather, share};
use crate::chance::Chance;
use crate::invariants::Verdict;
use crate::invariants::carried::{Watch, name};
use crate::seams::desk::SimDesk;
use crate::seams::drive::Mood;
use crate::wires::{Crash, Fuse, When, Wires};
use crate::world::{Hardship, World};

/// The link of a world.
pub struct Crossing {
    pub(super) weather: Weather,
    pub(super) sky: Sky,
    watch: Rc<RefCell<Watch>>,
    disks: [LinkDisk; 2],
    pub(super) near: Option<Near>,
    far: Option<Far>,
    /// When an end wants to be turned, or to live again: in true time.
    pub(super) wakes: [Instant; 2],
    /// The drives that are away now.
    pub(super) away: Rc<RefCell<BTreeSet<usize>>>,
    pub(super) chance: Chance,
    /// Changing calls of the last crossing.
    length: u64,
    /// What waited in the spool when the crossing began.
    waited: BTreeSet<ObjectId>,
    /// How many datagrams the near end had heard then.
    came_back: u64,
    /// What is wanted at the near machine, and who wants it now.
    pub(super) desk: SimDesk,
    /// Since when no drive is away.
    pub(super) there_since: Instant,
    pub(super) reading: Option<Reading>,
    pub(super) one_way: OneWayBook,
    pub(super) figures: Figures,
}

/// What came of all crossings.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Deaths of either end.
    pub deaths: u64,
    /// Symbols that came, and those of them that were not needed.
    pub symbols: [u64; 2],
    /// Reads that were completed, and those that were told that they cannot be.
    pub reads: [u64; 2],
}

impl Crossing {
    /// A link that nobody has used.
    pub fn new(world: &World) -> Self {
        let start = Instant(BIRTH_NS);
        let weather = Weather::draw(world.seed, start);
        let disk = |end| LinkDisk::new(name(end), &world.wires, world.sabotage);
        Self {
            sky: Sky::new(world.seed, &weather, start),
            watch: Rc::new(RefCell::new(Watch::new(&world.book, &world.wires))),
            disks: [disk(0), disk(1)],
            near: None,
            far: None,
            wakes: [start; 2],
            away: Rc::default(),
            chance: Chance::named(world.seed, "crossing", 0),
            length: 60,
            waited: BTreeSet::new(),
            came_back: 0,
            desk: SimDesk::new(&world.wires, world.sabotage),
            there_since: start,
            reading: None,
            one_way: OneWayBook::default(),
            figures: Figures::default(),
            weather,
        }
    }

    /// The power fails everywhere while nothing crosses.
    pub fn lose_power(&mut self) {
        (self.near, self.far, self.reading) = (None, None, None);
        self.desk.lose_power(&mut self.chance);
        self.disks.iter().for_each(|disk| disk.lose_power(&mut self.chance));
    }

    /// The near machine is lost; the folder of its link is not.
    pub fn lose_machine(&mut self) {
        (self.near, self.reading) = (None, None);
        self.desk.wipe();
        self.disks[0].lose_process();
    }

    /// Whether nothing of the drives is broken.
    pub(super) fn is_sound(&self, world: &World) -> bool {
        !world.atlas.struck() && world.drives.iter().all(|drive| drive.platter().mood == Mood::Sound)
    }

    /// Where what is wanted of the vault lies.
    pub fn desk(&self) -> &SimDesk {
        &self.desk
    }

    /// Whether no word ever comes back.
    pub fn is_one_way(&self) -> bool {
        self.weather.one_way.is_some()
    }

    /// What waits crosses, or some of it, while whatever strikes strikes.
    fn suffer(&mut self, world: &mut World, hardship: Hardship) -> Verdict {
        self.sky.become_like(self.weather.ways.clone());
        let span = SPAN_MAX.mul_f64(share(&mut self.chance).powi(5));
        let mut blows: VecDeque<_> = blows::draw(&self.weather, self.sky.now, span, &mut self.chance).into();
        world.wires.tell(|| format!("  {:?}; {:?}", self.sky.now, self.weather));
        world.wires.tell(|| format!("  crossing for {span:?} at most, {hardship:?}: {blows:?}"));
        let fault = hardship.fault.then(|| self.chance.below(self.length));
        let fuse = self.fuse(hardship);
        self.begin(world, fuse, fault);
        let until = self.sky.now + span;
        let lingers = self.chance.per_mille(300);
        if self.chance.per_mille(self.weather.deaf) {
            world.wires.tell(|| "    no word comes back".into());
            self.sky.darken(1, span);
        }
        if hardship.fault || !self.is_sound(world) || !self.away.borrow().is_empty() {
            self.one_way.spoil(until);
        }
        for _ in 0..STEPS_MAX {
            self.read(world, hardship)?;
            let is_over = world.machine.spool.waiting() == 0 && !lingers && self.reading.is_none();
            if is_over || !self.step(world, until, &mut blows, hardship)? {
                break;
            }
        }
        self.end(world, hardship)
    }

    /// Nothing strikes any more: all crosses within a time that can be told.
    fn calm(&mut self, world: &mut World) -> Verdict {
        self.sky.become_like(self.weather.calm());
        self.away.borrow_mut().clear();
        let len = world.machine.spool.waiting_len();
        let patience = self.weather.patience(len);
        world.wires.tell(|| format!("  a calm crossing of {len} bytes, within {patience:?}"));
        self.begin(world, None, None);
        if let Some(one_way) = self.weather.one_way {
            self.send_calmly(world, patience * (u32::from(one_way.repeats) + 2))?;
            return self.end(world, Hardship::default());
        }
        let (start, mut none) = (self.sky.now, VecDeque::new());
        world.wires.tell(|| format!("  packets that came out so far: {:?}; {:?}", self.sky.delivered(), self.weather));
        while world.machine.spool.waiting() > 0 {
            if !self.step(world, start + patience, &mut none, Hardship::default())? {
                let why = self.near.as_ref().map(Near::account).unwrap_or_default();
                let left = world.machine.spool.waiting();
                let packets = self.sky.delivered();
                return Err(format!(
                    "{left} objects do not cross, though nothing strikes for {patience:?}: {why}; packets that came out so far: {packets:?}"
                ));
            }
        }
        let took = self.sky.now.since(start);
        world.wires.tell(|| format!("  all crossed within {took:?}; {:?}", self.figures));
        self.read_calmly(world)?;
        self.end(world, Hardship::default())
    }

    pub(super) fn fuse(&mut self, hardship: Hardship) -> Option<Fuse> {
        let at = self.chance.below(self.length + self.length / 4 + 3);
        let when = *self.chance.pick(&[When::Before, When::During, When::After]);
        (hardship.crash && self.chance.per_mille(750)).then_some(Fuse { at, when })
    }

    fn begin(&mut self, world: &World, fuse: Option<Fuse>, fault: Option<u64>) {
        world.wires.begin(fuse, fault);
        self.waited = world.machine.spool.ids();
        self.came_back = self.watch.borrow().all_heard(0);
        // While nothing crossed, time went on; who was alive was asleep.
        let gap = Duration::from_secs(self.chance.below(100));
        self.pass(&world.wires, gap);
        self.wakes = [self.sky.now; 2];
    }

    /// The vault is needed by others; the near end may live on.
    fn end(&mut self, world: &mut World, hardship: Hardship) -> Verdict {
        let power = self.chance.per_mille(300);
        // Others need the machine's state; errands that are left are taken back by whoever reads next.
        self.reading = None;
        self.settle_one_way(world)?;
        match self.chance.below(4) {
            0 if hardship.crash => self.kill(world, 1, power, None),
            _ => self.stop(world, 1),
        }
        match self.chance.below(4) {
            0 if hardship.crash => self.kill(world, 0, power, None),
            1 => self.stop(world, 0),
            _ => {}
        }
        self.length = world.wires.end().max(20);
        let [there, back] = self.sky.delivered();
        world.wires.outcome("crossed", there);
        world.wires.outcome("crossed back", back);
        let left = world.machine.spool.waiting();
        world.wires.tell(|| format!("  {left} objects are left; packets that came out so far: {there}, {back}"));
        self.check(world)
    }

    /// What never may be wrong.
    fn check(&self, world: &World) -> Verdict {
        self.watch.borrow().verdict()?;
        let here = world.machine.spool.ids();
        let gone: BTreeSet<ObjectId> = self.waited.difference(&here).copied().collect();
        if !gone.is_empty() && self.watch.borrow().all_heard(0) == self.came_back {
            return Err(format!("the spool let go of {} objects, and no word came back", gone.len()));
        }
        let receipted = ledger::receipted(&world.machine.state, &gone).map_err(|e| e.to_string())?;
        match gone.iter().find(|id| !receipted.contains(id) || !world.book.has_receipt(**id)) {
            Some(id) => Err(format!("the spool let go of object {} without a receipt in the ledger", id.short())),
            None => Ok(()),
        }
    }

    /// Goes on to the next thing that happens before `until`; whether there was one.
    pub(super) fn step(
        &mut self,
        world: &mut World,
        until: Instant,
        blows: &mut VecDeque<(Instant, Blow)>,
        hardship: Hardship,
    ) -> Result<bool, String> {
        for end in [0, 1] {
            let is_alive = if end == 0 { self.near.is_some() } else { self.far.is_some() };
            let arrives = self.sky.arrives(end).filter(|_| is_alive);
            if arrives.into_iter().chain([self.wakes[end]]).min().is_some_and(|at| at <= self.sky.now) {
                self.turn(world, end, hardship);
                self.watch.borrow().verdict()?;
            } else if arrives.is_none() && !is_alive {
                // Nobody is there to take it.
                while self.sky.receive(end).is_some() {}
            }
        }
        while let Some((_, blow)) = blows.pop_front_if(|(at, _)| *at <= self.sky.now) {
            self.strike(world, blow, hardship)?;
        }
        let arrives = [0, 1].into_iter().filter_map(|end| self.sky.arrives(end));
        let next = arrives.chain(self.wakes).chain(blows.front().map(|(at, _)| *at)).min().unwrap_or(until);
        if next > until {
            self.pass(&world.wires, until.since(self.sky.now));
            return Ok(false);
        }
        self.pass(&world.wires, next.since(self.sky.now));
        Ok(true)
    }

    fn pass(&mut self, wires: &Wires, time: Duration) {
        self.sky.now = self.sky.now + time;
        wires.pass(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Turns an end, or begins its next life.
    fn turn(&mut self, world: &mut World, end: usize, hardship: Hardship) {
        let turned = catch_unwind(AssertUnwindSafe(|| -> Result<Option<Instant>, String> {
            if end == 0 {
                let near = match &mut self.near {
                    Some(near) => near,
                    None => {
                        let driver = self.driver(0)?;
                        let (spool, state) = (&world.machine.spool, &world.machine.state);
                        let (disk, desk, signer) = (&self.disks[0], &self.desk, world.vault);
                        let machine = near::Machine { disk, spool, state, desk, signer };
                        self.near.insert(Near::open(driver, &machine, &self.weather, &world.wires, world.sabotage)?)
                    }
                };
                near.turn(&mut self.sky, &self.watch)?;
                self.one_way.note(self.watch.borrow_mut().passed(), self.sky.now);
                Ok(near.timeout(&self.sky))
            } else {
                let far = match &mut self.far {
                    Some(far) => far,
                    None => {
                        let driver = self.driver(1)?;
                        self.one_way.spoil(self.sky.now);
                        let open = world.opener(&self.away);
                        let far = Far::open(driver, &self.disks[1], open, &world.book, &world.wires, world.sabotage)?;
                        self.far.insert(far)
                    }
                };
                far.turn(&mut self.sky)?;
                Ok(far.timeout(&self.sky))
            }
        }));
        match turned {
            Ok(Ok(wake)) => {
                let never = Instant(u64::MAX);
                self.wakes[end] = wake.map_or(never, |at| self.sky.when(end, at).max(self.sky.now));
            }
            Ok(Err(e)) => {
                world.wires.tell(|| format!("    {} ends: {e}", name(end)));
                self.stop(world, end);
            }
            Err(payload) if payload.is::<Crash>() => {
                let power = self.chance.per_mille(500);
                let fuse = self.fuse(hardship);
                self.kill(world, end, power, fuse);
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    fn driver(&mut self, end: usize) -> Result<Driver, String> {
        self.sky.born(end, &self.weather, &mut self.chance);
        let chance = Chance::new(self.chance.draw());
        Driver::open(end, &self.weather, &self.disks[end], &self.sky, &self.watch, chance)
    }

    /// An end is told to end; after a while it begins anew.
    fn stop(&mut self, world: &mut World, end: usize) {
        self.spoil_if(end == 1);
        self.note(end);
        let closed = catch_unwind(AssertUnwindSafe(|| match end {
            0 => self.near.take().map_or((), Near::close),
            _ => self.far.take().map_or((), Far::close),
        }));
        match closed {
            Ok(()) => self.wakes[end] = self.sky.now + self.pause(),
            Err(payload) if payload.is::<Crash>() => self.kill(world, end, true, None),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// An end dies; after a while it lives again.
    pub(super) fn kill(&mut self, world: &mut World, end: usize, power: bool, fuse: Option<Fuse>) {
        world.wires.tell(|| format!("    {} is killed{}", name(end), if power { ", the power is cut" } else { "" }));
        self.spoil_if(end == 1);
        self.note(end);
        self.figures.deaths += 1;
        world.wires.kill();
        let held = self.driver_of(end).map(Driver::held).unwrap_or_default();
        if end == 0 {
            self.near = None
        } else {
            self.far = None
        }
        world.wires.end();
        match (end, power) {
            (_, false) => {
                self.disks[end].lose_process();
                let lost = held.iter().map(|(block, held)| held.saturating_sub(self.disks[end].held(*block)));
                // What was not written yet, and what a disk that failed once did not take.
                if lost.sum::<usize>() > 2 * PENDING_MAX + 2 {
                    self.watch.borrow_mut().blame(format!("{} lost more symbols than a kill may cost", name(end)));
                }
            }
            (0, true) => {
                world.machine.state.lose_power(&mut self.chance);
                world.machine.spool.lose_power(&mut self.chance);
                self.disks[0].lose_power(&mut self.chance);
                self.reading = None;
                self.desk.lose_power(&mut self.chance);
            }
            _ => {
                world.cut_drives();
                self.disks[1].lose_power(&mut self.chance);
            }
        }
        world.wires.begin(fuse, None);
        self.wakes[end] = self.sky.now + self.pause();
    }

    fn spoil_if(&mut self, strikes: bool) {
        if strikes {
            self.one_way.spoil(self.sky.now);
        }
    }

    /// How long an end is dead.
    fn pause(&mut self) -> Duration {
        let most = *self.chance.pick(&[1_000, 100_000]);
        Duration::from_millis(10 + self.chance.below(most))
    }

    fn driver_of(&self, end: usize) -> Option<&Driver> {
        if end == 0 { self.near.as_ref().map(|e| &e.driver) } else { self.far.as_ref().map(|e| &e.driver) }
    }

    /// Counts what an end received that dies now.
    fn note(&mut self, end: usize) {
        let [came, needless] = self.driver_of(end).map(Driver::symbols).unwrap_or_default();
        let [all, all_needless] = &mut self.figures.symbols;
        (*all, *all_needless) = (*all + came, *all_needless + needless);
    }

    fn strike(&mut self, world: &mut World, blow: Blow, hardship: Hardship) -> Verdict {
        world.wires.tell(|| format!("    {blow:?}"));
        match blow {
            Blow::Kill { end, power } => {
                let fuse = self.fuse(hardship);
                self.kill(world, end, power, fuse);
            }
            Blow::Stop(end) => self.stop(world, end),
            Blow::Outage { from, lasts } => {
                if from[0] {
                    self.one_way.spoil(self.sky.now + lasts);
                }
                [0, 1].into_iter().filter(|end| from[*end]).for_each(|end| self.sky.darken(end, lasts));
            }
            Blow::Attack(times) => {
                for _ in 0..times {
                    let end = self.chance.index(2);
                    self.turn(world, end, hardship);
                    // What is thrown may be new, and its symbol the last thing an end writes.
                    match catch_unwind(AssertUnwindSafe(|| self.attack(end))) {
                        Err(payload) if payload.is::<Crash>() => {
                            let (power, fuse) = (self.chance.per_mille(500), self.fuse(hardship));
                            self.kill(world, end, power, fuse);
                            continue;
                        }
                        Err(payload) => resume_unwind(payload),
                        Ok(()) => {}
                    }
                    self.wakes[end] = self.sky.now;
                    self.watch.borrow().verdict()?;
                }
            }
            Blow::Move => self.sky.move_near(),
            Blow::DrivesComeBack => {
                if !self.away.borrow().is_empty() {
                    self.there_since = self.sky.now;
                }
                self.away.borrow_mut().clear();
            }
            Blow::Read(wish) => {
                self.begin_reading(world, wish, hardship);
                self.wakes[0] = self.wakes[0].min(self.sky.now + Duration::from_secs(1));
            }
        }
        Ok(())
    }

    /// Somebody throws a datagram at an end.
    fn attack(&mut self, end: usize) {
        let chance = &mut self.chance;
        let from = if chance.per_mille(200) { end } else { 1 - end };
        let recorded = self.watch.borrow().recorded(from, chance).unwrap_or_default();
        let (mut datagram, mut may_be_new) = (recorded, false);
        match chance.below(6) {
            0 => {
                let at = chance.index(datagram.len());
                datagram.truncate(at);
            }
            1 => datagram.push(0),
            2 => {
                let len = chance.index(1600);
                datagram = chance.bytes(len);
            }
            3 if !datagram.is_empty() => {
                let at = chance.index(datagram.len());
                datagram[at] ^= 1 << chance.below(8);
            }
            _ => may_be_new = from != end && self.watch.borrow().may_be_new(end, &datagram),
        }
        let driver =
            if end == 0 { self.near.as_mut().map(|e| &mut e.driver) } else { self.far.as_mut().map(|e| &mut e.driver) };
        if let Some(driver) = driver {
            driver.suffer(&datagram, may_be_new, &mut self.sky);
        }
    }
}

impl World {
    /// What waits in the spool crosses to the far vault, whose drives of `away` are missing at first; as far as it comes.
    ///
    /// # Errors
    /// What was wrong.
    pub fn cross(&mut self, away: &BTreeSet<usize>, hardship: Hardship) -> Verdict {
        let mut crossing = self.crossing.take().ok_or("there is no link in this world")?;
        crossing.away.borrow_mut().clone_from(away);
        let verdict = crossing.suffer(self, hardship);
        self.crossing = Some(crossing);
        verdict.map_err(|e| format!("crossing: {e}"))
    }

    /// All that waits crosses, while nothing strikes.
    ///
    /// # Errors
    /// What was wrong, and that it does not cross.
    pub fn cross_calmly(&mut self) -> Verdict {
        let mut crossing = self.crossing.take().ok_or("there is no link in this world")?;
        let verdict = crossing.calm(self);
        self.crossing = Some(crossing);
        verdict.map_err(|e| format!("crossing: {e}"))
    }
}

/// The longest crossing that is tormented.
const SPAN_MAX: Duration = Duration::from_secs(20 * 86_400);
/// Steps of such a crossing: what is only held is held again and again, and nothing new comes of it.
const STEPS_MAX: u32 = 12_000;
/// Where true time begins: 2026-11-23, in nanoseconds since 1970.
const BIRTH_NS: u64 = 1_795_392_000 * 1_000_000_000;
