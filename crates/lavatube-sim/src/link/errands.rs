//! What of the loop is reading over the link, and links from which no word comes back.
//!
//! A reader begins at any moment of a crossing and ends with it: the machine's state is its own for so long. Where no word comes
//! back, the loop notes which objects were sent while nothing struck that the sender had not provided for: they must be
//! there. It must not know what is drawn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use lavatube_base::{Instant, ObjectId};
use lavatube_client::spool::SpoolKind;
use lavatube_format::manifest::SignedManifest;

use super::crossing::Crossing;
use super::near::Near;
use super::reading::Reading;
use crate::chance::Chance;
use crate::inspect::Depth;
use crate::invariants::Verdict;
use crate::invariants::carried::Passed;
use crate::seams::state::SimState;
use crate::wires::{Crash, Telling, Wires};
use crate::world::{Hardship, World};

/// What somebody wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// The machine that deposits asks, with what it has.
    pub is_own: bool,
    /// It asks the vault for its lists, whatever this machine has.
    pub refreshes: bool,
    /// How many snapshots are restored; none, when they are only listed.
    pub depth: Option<Depth>,
    /// Which, is drawn from it.
    pub draw: u64,
}

impl Wish {
    /// What somebody may want.
    pub fn draw(chance: &mut Chance) -> Self {
        let depth = *chance.pick(&[None, Some(Depth::Two), Some(Depth::Two), Some(Depth::All)]);
        Self { is_own: chance.per_mille(500), refreshes: chance.per_mille(500), depth, draw: chance.draw() }
    }
}

/// What was sent to where no word comes back.
#[derive(Default)]
pub(super) struct OneWayBook {
    /// Objects that are being sent, since when.
    begun: BTreeMap<ObjectId, Instant>,
    /// Objects that were sent, from when until when.
    sent: Vec<(ObjectId, Instant, Instant)>,
    /// Objects that must be there.
    pub due: BTreeSet<ObjectId>,
    /// How often each was sent.
    times: BTreeMap<ObjectId, u32>,
    /// Until then something struck that nobody had provided for.
    spoiled: Instant,
}

impl OneWayBook {
    /// Something strikes until then that nobody has provided for.
    pub fn spoil(&mut self, until: Instant) {
        self.spoiled = self.spoiled.max(until);
    }

    /// What passed at the near end by now.
    pub fn note(&mut self, passed: Vec<Passed>, now: Instant) {
        for what in passed {
            match what {
                Passed::Begun(id) => drop(self.begun.insert(id, now)),
                Passed::Spent { id, one_in } => {
                    *self.times.entry(id).or_default() += 1;
                    if let Some(since) = self.begun.remove(&id).filter(|_| one_in >= ONE_IN_MIN) {
                        self.sent.push((id, since, now));
                    }
                }
            }
        }
    }

    /// The far end ends: what it had time to store until now is due, unless something struck.
    pub fn settle(&mut self, now: Instant) {
        let spoiled = self.spoiled;
        let clean = |(_, since, until): &(ObjectId, Instant, Instant)| *since > spoiled && *until + SETTLE <= now;
        self.due.extend(self.sent.drain(..).filter(clean).map(|(id, ..)| id));
    }
}

impl Crossing {
    /// Somebody begins to read.
    pub(super) fn begin_reading(&mut self, world: &World, wish: Wish, hardship: Hardship) {
        // Whoever read before does not any more.
        self.reading = None;
        if self.weather.one_way.is_some() {
            return;
        }
        let (machine, quiet) =
            (&world.machine, SimState::new(&std::sync::Arc::new(Wires::new(Telling::Nothing)), None));
        let (state, spool) = if wish.is_own { (&machine.state, Some(&machine.spool)) } else { (&quiet, None) };
        let spooled = machine.spool.waiting() > 0;
        // What a machine has forgotten it must ask for.
        let knows = wish.refreshes || (wish.is_own && !world.forgot);
        // Who has no card yet and a list of cards from before it came takes a manifest for a stranger's, and is told so.
        let must = knows
            && (wish.is_own || !spooled)
            && !hardship.fault
            && self.is_sound(world)
            && self.away.borrow().is_empty()
            && self.sky.now.since(self.there_since) >= SEEN_WITHIN;
        match Reading::begin(&self.desk, state, spool, world.vault, wish, spooled) {
            Ok(reading) => self.reading = Some(Reading { must, ..reading }),
            Err(e) => world.wires.tell(|| format!("    nobody can read: {e}")),
        }
    }

    /// Whoever reads looks whether something came. A read that cannot be completed must be told so; what is read is exact.
    ///
    /// # Errors
    /// What was wrong; where all must be there, also what it was told.
    pub(super) fn read(&mut self, world: &mut World, hardship: Hardship) -> Verdict {
        let (Some(reading), Some(near)) = (&mut self.reading, &self.near) else { return Ok(()) };
        let news = Some(near.news());
        if reading.seen == news {
            return Ok(());
        }
        reading.seen = news;
        reading.looks += 1;
        let looked = catch_unwind(AssertUnwindSafe(|| world.read_far(reading)));
        let (starved, looks, must) = (reading.starved(), reading.looks, reading.must);
        match looked {
            Err(payload) if payload.is::<Crash>() => {
                self.reading = None;
                let (power, fuse) = (self.chance.per_mille(500), self.fuse(hardship));
                self.kill(world, 0, power, fuse);
            }
            Err(payload) => resume_unwind(payload),
            Ok(found) => {
                let told = found.map_err(|e| format!("reading over the link: {e}"))?;
                match told {
                    Some(_) if starved => self.wakes[0] = self.sky.now,
                    told => {
                        world.wires.tell(|| format!("    what is read came home after {looks} looks; told: {told:?}"));
                        let counted = usize::from(told.is_some());
                        self.figures.reads[counted] += 1;
                        if let Some(reading) = self.reading.take() {
                            reading.end();
                        }
                        if let Some(why) = told.filter(|_| must) {
                            return Err(format!("what is read should be there, and is not: {why}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing strikes: what somebody wants to read comes home within a time that can be told.
    pub(super) fn read_calmly(&mut self, world: &mut World) -> Verdict {
        let vault = world.open_quietly(&BTreeSet::new())?.0;
        let len = vault.objects().map(|object| object.len).sum();
        drop(vault);
        let (patience, start) = (self.weather.patience_home(len), self.sky.now);
        // Whoever asks anew is not misled by what this machine has forgotten.
        let wish = Wish { refreshes: true, ..Wish::draw(&mut self.chance) };
        world.wires.tell(|| format!("  reading of {len} bytes at most, within {patience:?}: {wish:?}"));
        self.begin_reading(world, wish, Hardship::default());
        self.wakes[0] = self.sky.now;
        let mut none = VecDeque::new();
        while self.reading.is_some() {
            self.read(world, Hardship::default())?;
            if !self.step(world, start + patience, &mut none, Hardship::default())? {
                let why = self.near.as_ref().map(Near::account).unwrap_or_default();
                let looks = self.reading.as_ref().map_or(0, |reading| reading.looks);
                return Err(format!(
                    "what is read does not come home, though nothing strikes for {patience:?}; {looks} looks; {why}"
                ));
            }
        }
        let took = self.sky.now.since(start);
        world.wires.tell(|| format!("  all was read within {took:?}"));
        Ok(())
    }

    /// Nothing strikes, and no word comes back: all is sent as often as it is to be.
    pub(super) fn send_calmly(&mut self, world: &mut World, patience: Duration) -> Verdict {
        let (start, mut none, mut sent_at) = (self.sky.now, VecDeque::new(), None);
        while sent_at.is_none_or(|at| self.sky.now.since(at) <= SETTLE * 2) {
            let all = self.near.as_ref().is_some_and(Near::all_sent);
            sent_at = sent_at.filter(|_| all).or_else(|| all.then_some(self.sky.now));
            if !self.step(world, start + patience, &mut none, Hardship::default())? {
                let why = self.near.as_ref().map(Near::account).unwrap_or_default();
                return Err(format!("not all is sent, though nothing strikes for {patience:?}: {why}"));
            }
        }
        let least = self.weather.one_way.map_or(0, |one_way| u32::from(one_way.repeats) + 1);
        let often = |id: &ObjectId| self.one_way.times.get(id).copied().unwrap_or(0);
        match world.machine.spool.ids().into_iter().find(|id| often(id) < least) {
            Some(id) => {
                let (called, often) = (world.wires.called(&id), often(&id));
                Err(format!("{called} counts as sent {least} times, and was {often} times"))
            }
            None => Ok(()),
        }
    }

    /// The far end ends: what was sent while nothing struck that was not provided for is due; a manifest, if all that it needs is
    /// there by now, because what is held goes with whoever holds it.
    pub(super) fn settle_one_way(&mut self, world: &World) -> Verdict {
        self.one_way.settle(self.sky.now);
        if self.weather.one_way.is_none() || self.one_way.due.is_empty() {
            return Ok(());
        }
        let (vault, _) = world.open_quietly(&BTreeSet::new())?;
        let card = |signed: &SignedManifest| {
            let mut cards = vault.objects_of(lavatube_vault::ObjectKind::DepositorCard);
            cards.any(|o| world.card_of(o.id, &vault) == Some(signed.manifest.depositor))
        };
        self.one_way.due.retain(|id| {
            let Some(bytes) = world.machine.spool.peek(SpoolKind::Manifest, *id) else { return true };
            let Ok(signed) = SignedManifest::decode(&bytes) else { return true };
            card(&signed) && signed.manifest.needs().all(|id| vault.contains(id))
        });
        match self.one_way.due.iter().find(|id| !vault.contains(**id)) {
            Some(id) => Err(format!("{} was sent with a margin, and is not there", world.wires.called(id))),
            None => Ok(()),
        }
    }
}

/// A sending that is less certain than this says nothing of one object.
const ONE_IN_MIN: u64 = 100_000;
/// The far end opens its vault anew every five seconds when it lacks drives.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// How long what was sent takes to be stored: light, jitter, work, and what is held for a moment.
const SETTLE: Duration = Duration::from_secs(60);
