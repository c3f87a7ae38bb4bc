//! The loop: torment, round after round, in which nothing may ever be wrong; then calm, in which all must become well.
//!
//! A round changes the source, breaks something, takes a backup that may die, and perhaps repairs, looks, or loses the
//! machine; the onlooker compares after each. It must not know how anything of that is done.

use std::collections::BTreeSet;

use lavatube_base::Verified;
use lavatube_client::backup::{Request, Sizes};
use lavatube_client::courier::Promise;
use lavatube_vault::Drive;

use crate::chance::Chance;
use crate::depositor::{self, Outcome, RunError};
use crate::inspect::Depth;
use crate::invariants::{Verdict, calm, growing, numbered, sealed};
use crate::reader::{self, Repaired};
use crate::seams::drive::Mood;
use crate::seams::far::SimFar;
use crate::wires::Fuse;
use crate::world::{Hardship, Reported, World};

impl World {
    /// Lives through so many rounds and the calm after them.
    ///
    /// # Errors
    /// The first thing that was wrong.
    pub fn live(&mut self, rounds: u64) -> Verdict {
        for n in 0..rounds {
            self.wires.tell(|| format!("round {n}"));
            self.wires.outcome("round", n);
            let mut chance = Chance::named(self.seed, "round", n);
            self.round(&mut chance).map_err(|e| format!("round {n}: {e}"))?;
        }
        let mut chance = Chance::named(self.seed, "calm", 0);
        if self.plan.beyond_promise == 1 {
            return self.inspect_loss().map_err(|e| format!("beyond the promise: {e}"));
        }
        self.wires.tell(|| "calm".into());
        self.calm(&mut chance).map_err(|e| format!("calm: {e}"))
    }

    /// Takes a backup, changes the source, takes another that dies as `fuse` says, and comes to a calm end. Says whether it
    /// died.
    ///
    /// # Errors
    /// The first thing that was wrong.
    pub fn live_until(&mut self, fuse: Fuse) -> Result<bool, String> {
        let mut chance = Chance::named(self.seed, "sweep", 0);
        let none = BTreeSet::new();
        self.backup(&none, Hardship::default(), &mut chance)??;
        self.source.change(8);
        let hardship = Hardship { fuse: Some(fuse), ..Hardship::default() };
        let died = self.backup(&none, hardship, &mut chance)?.is_err();
        self.onlook(&mut chance)?;
        self.calm(&mut chance)?;
        Ok(died)
    }

    /// Takes backups; then all drives are put back to what they were before the last of them, as a thief or a careless
    /// person would, and with `forks` another machine goes on from there. Whoever knew more must notice, and send nothing.
    ///
    /// # Errors
    /// When it is not noticed, or something was written.
    pub fn live_put_back(&mut self, forks: bool) -> Verdict {
        let mut chance = Chance::named(self.seed, "put back", 0);
        let (none, ease) = (BTreeSet::new(), Hardship::default());
        self.backup(&none, ease, &mut chance)??;
        let images: Vec<_> = self.drives.iter().map(|drive| drive.platter().image()).collect();
        self.source.change(8);
        self.backup(&none, ease, &mut chance)??;
        self.drives.iter().zip(images).for_each(|(drive, image)| drive.platter().replace(image));
        self.is_put_back = true;
        if forks {
            let own = self.machine.state.copy();
            self.machine.state.put_back(Default::default());
            for _ in 0..2 {
                self.source.change(8);
                self.backup(&none, ease, &mut chance)??;
            }
            self.machine.state.put_back(own);
        }
        let before: Vec<_> = self.drives.iter().map(|drive| drive.platter().image()).collect();
        self.source.change(8);
        let came = self.backup(&none, ease, &mut chance)?;
        let expected = if forks { "does not go on from" } else { "put back to an older state" };
        if !came.as_ref().is_err_and(|e| e.contains("ALARM") && e.contains(expected)) {
            return Err(format!("a vault that was put back is not noticed: {came:?}"));
        }
        let is_same = self.drives.iter().zip(before).all(|(drive, image)| drive.platter().image() == image);
        if is_same { Ok(()) } else { Err("something was sent to a vault that is not believed".into()) }
    }

    fn round(&mut self, chance: &mut Chance) -> Verdict {
        self.wires.pass(1_000_000_000 * chance.below(100_000));
        self.source.change(chance.below(6));
        if chance.per_mille(self.plan.damage) {
            self.strike(chance);
        }
        if chance.per_mille(200) {
            let slot = chance.index(self.drives.len());
            self.atlas.remember(slot, &self.drives[slot]);
        }
        self.torment(chance)?;
        if self.plan.release > 0 {
            // A stream of its own, so that worlds without are what they were.
            let mut chance = Chance::named(self.seed, "letting go", self.wires.now().s.unsigned_abs());
            self.hear_of_release(&mut chance)?;
            self.let_go(&mut chance)?;
        }
        self.onlook(chance)?;
        if chance.per_mille(self.plan.loss) {
            self.lose(chance)?;
        }
        self.put_back();
        if chance.per_mille(self.plan.repair) {
            let hardship = self.hardship(chance);
            self.repair(hardship, chance)?;
        }
        if chance.per_mille(250) {
            self.look(chance)?;
        }
        self.onlook(chance)
    }

    /// What never may be wrong, whatever strikes.
    fn onlook(&mut self, chance: &mut Chance) -> Verdict {
        sealed::nothing_in_clear(&self.wires)?;
        numbered::once(&self.book)?;
        // Where no word comes back, what is there may build on what is not.
        if self.plan.beyond_promise == 1 || self.is_one_way() {
            return self.inspect_loss();
        }
        self.inspect(&BTreeSet::new(), Depth::Two, chance)
    }

    fn strike(&mut self, chance: &mut Chance) {
        let placed = self.placed();
        for _ in 0..=chance.below(2) {
            if let Some(what) = self.atlas.strike(&self.drives, &placed, &self.wires, &self.plan, chance) {
                self.wires.tell(|| format!("  STRIKE: {what}"));
            }
        }
    }

    pub(crate) fn hardship(&self, chance: &mut Chance) -> Hardship {
        let (crash, fault) = (chance.per_mille(self.plan.crash), chance.per_mille(self.plan.fault));
        Hardship { crash, fault, fuse: None }
    }

    /// A backup under hardship. It may fail; it may not lie.
    fn torment(&mut self, chance: &mut Chance) -> Verdict {
        let mut away = BTreeSet::new();
        let all = self.drives.len();
        if chance.per_mille(self.plan.missing) {
            away.insert(chance.index(all));
        }
        if chance.per_mille(self.plan.away) {
            // All but some: too few to write to.
            let there = chance.index(usize::from(self.plan.k)).max(1);
            away = (0..all).collect();
            for _ in 0..there {
                away.remove(&chance.index(all));
            }
        }
        if chance.per_mille(self.plan.moods) {
            let puts = u32::try_from(chance.below(4)).unwrap_or(0);
            let mood = *chance.pick(&[Mood::Dying(puts), Mood::Full(puts), Mood::FailsSync]);
            let slot = chance.index(all);
            self.wires.tell(|| format!("  drive {slot} is in a mood: {mood:?}"));
            self.drives[slot].platter().mood = mood;
        }
        if self.plan.link == 1 {
            return self.torment_far(&away, chance);
        }
        let hardship = self.hardship(chance);
        let card = self.machine.deposit.card().encode();
        let admitted = self.book.has_receipt(Verified::hash(&card).id());
        let sound = self.drives.iter().all(|d| d.platter().mood == Mood::Sound);
        // A drive that is missing on top of damage is more than what was promised to be borne.
        let borne = away.is_empty() || (self.plan.m > 0 && !self.atlas.struck());
        let came = self.backup(&away, hardship, chance)?;
        self.drives.iter().for_each(|d| d.platter().mood = Mood::Sound);
        // What meets hardship may fail; it is known by what it leaves. Drives that are away are none: there is the spool.
        match came {
            Err(e)
                if sound && hardship == Hardship::default() && borne && admitted && self.plan.beyond_promise == 0 =>
            {
                Err(format!("a backup that met no hardship failed: {e}"))
            }
            _ => Ok(()),
        }
    }

    /// A backup into the spool, and a crossing of what waits there, each under its own hardship.
    fn torment_far(&mut self, away: &BTreeSet<usize>, chance: &mut Chance) -> Verdict {
        let hardship = self.hardship(chance);
        let came = self.backup(&BTreeSet::new(), hardship, chance)?;
        if let (Err(e), true) = (came, hardship == Hardship::default()) {
            return Err(format!("a backup that met no hardship failed: {e}"));
        }
        let receipted = self.receipted();
        let hardship = self.hardship(chance);
        self.cross(away, hardship)?;
        self.drives.iter().for_each(|d| d.platter().mood = Mood::Sound);
        growing::nothing_destroyed(&self.drives, &receipted)
    }

    /// Takes a backup. The inner value is what came of it, if the process lived and succeeded.
    fn backup(
        &mut self,
        away: &BTreeSet<usize>,
        hardship: Hardship,
        chance: &mut Chance,
    ) -> Result<Result<Promise, String>, String> {
        let receipted = self.receipted();
        let now = self.wires.now();
        let missing: Vec<usize> = away.iter().copied().collect();
        self.wires.tell(|| format!("  backup, drives away: {missing:?}, {hardship:?}"));
        self.source.begin();
        let request = Request {
            roots: self.roots.clone(),
            exclude: &|_, _| false,
            one_file_system: chance.per_mille(500),
            read_all: chance.per_mille(100),
            allow_empty: true,
            accept_shrink: true,
            host: "rover".into(),
            tags: Vec::new(),
            description: None,
            program: "lavatube-sim".into(),
            now,
            sizes: Sizes::DEFAULT,
        };
        let mut entropy = Chance::named(self.seed, "entropy", chance.draw());
        let out = self.run("backup", hardship, chance, |world| -> Result<Outcome, RunError> {
            if world.plan.link == 1 {
                return depositor::backup_for_far(&world.machine, &world.source, &request, &mut entropy, &world.wires);
            }
            let (vault, _) = world.open(away)?;
            let far = SimFar::new(vault, &world.book);
            depositor::backup(&world.machine, &far, &world.source, &request, &mut entropy, &world.wires)
        });
        self.logs.insert(now, self.source.log());
        growing::nothing_destroyed(&self.drives, &receipted)?;
        let outcome = match out {
            None => return Ok(Err("it died".into())),
            // Nothing that strikes takes back what was signed for.
            Some(Err(e @ RunError::Alarm(_))) if self.plan.beyond_promise == 0 && !self.is_put_back => {
                return Err(format!("a vault that is what it was is not believed: {e}"));
            }
            Some(Err(e)) => {
                self.wires.outcome("failed", 0);
                self.wires.tell(|| format!("  the backup failed: {e}"));
                return Ok(Err(e.to_string()));
            }
            Some(Ok(outcome)) => outcome,
        };
        self.note(&outcome, now)?;
        Ok(Ok(outcome.promise))
    }

    fn note(&mut self, outcome: &Outcome, time: lavatube_base::time::WallTime) -> Verdict {
        let totals = &outcome.report.totals;
        self.wires.tell(|| {
            format!(
                "  reported: {:?}, {} files, {} bytes ({} new), {} skipped, {} changing; drained {}, recovered {} packs",
                outcome.promise,
                totals.files,
                totals.bytes,
                totals.new_bytes,
                totals.skipped,
                outcome.report.changed_count,
                outcome.drained.delivered,
                outcome.recovered.packs
            )
        });
        self.wires.outcome("reported files", totals.files);
        self.wires.outcome("reported bytes", totals.bytes);
        let id = outcome.report.snapshot.ok_or("a backup succeeded without a snapshot")?;
        self.reported.push(Reported { id, time, promise: outcome.promise, is_due: true });
        if outcome.promise == Promise::SafeThere && self.machine.spool.waiting() > 0 {
            return Err("a backup said that all is safe there while objects wait in the spool".into());
        }
        Ok(())
    }

    /// A repair, which may die.
    fn repair(&mut self, hardship: Hardship, chance: &mut Chance) -> Result<Option<Repaired>, String> {
        self.wires.tell(|| format!("  repair, {hardship:?}"));
        let receipted = self.receipted();
        let repaired = self.run("repair", hardship, chance, |world| -> Option<Repaired> {
            let (mut vault, report) = world.open(&BTreeSet::new()).ok()?;
            let spare = |slot: usize| Some(Box::new(world.drives[slot].clone()) as Box<dyn Drive>);
            Some(reader::repair(&mut vault, &report, &world.book, &spare, hardship == Hardship::default()))
        });
        growing::nothing_destroyed(&self.drives, &receipted)?;
        let Some(Some(repaired)) = repaired else { return Ok(None) };
        self.wires.outcome("mended", repaired.mended as u64);
        self.wires.tell(|| format!("  repaired: {repaired:?}"));
        if calm::repaired(&repaired).is_ok() && !hardship.fault {
            self.atlas.repaired();
        }
        Ok(Some(repaired))
    }

    /// Somebody looks into the vault on the depositor's machine, and may die of it. If not, all is there and exact.
    fn look(&mut self, chance: &mut Chance) -> Verdict {
        let hardship = self.hardship(chance);
        self.wires.tell(|| format!("  list and restore with the read key on this machine, {hardship:?}"));
        let mut draw = Chance::named(self.seed, "look", chance.draw());
        let spooled = self.machine.spool.waiting() > 0;
        let looked = self.run("look", hardship, chance, |world| {
            let (vault, _) = world.open(&BTreeSet::new()).map_err(|e| e.to_string())?;
            world.restore(vault, &world.machine.state, Depth::Two, &mut draw)
        });
        match looked {
            // What waits in the spool may be what the catalog of this machine names first, and where no word comes back, what is
            // there may build on what is not.
            Some(Err(e))
                if hardship == Hardship::default()
                    && self.plan.beyond_promise == 0
                    && !spooled
                    && !self.is_one_way() =>
            {
                Err(format!("looking on the depositor's own machine: {e}"))
            }
            _ => Ok(()),
        }
    }

    /// The machine loses its state; perhaps its catalog is made anew from the vault.
    fn lose(&mut self, chance: &mut Chance) -> Verdict {
        let new_key = chance.per_mille(500);
        self.wires.tell(|| format!("  LOSS of the machine's state, {}", if new_key { "new key" } else { "same key" }));
        self.lose_machine(new_key)?;
        if chance.per_mille(500) {
            self.look(chance)?;
        }
        Ok(())
    }

    /// Now and then somebody keeps a copy of the machine's state, or puts the last one back. The chance is its own, so
    /// that seeds are in all else what they were.
    fn put_back(&mut self) {
        let mut chance = Chance::named(self.seed, "put back", self.wires.now().s.unsigned_abs());
        if chance.per_mille(self.plan.loss)
            && let Some(older) = self.older_state.take()
        {
            self.wires.tell(|| "  an older copy of the machine's STATE is put back".into());
            self.forgot = true;
            self.machine.state.put_back(older);
        }
        if chance.per_mille(300) {
            self.older_state = Some(self.machine.state.copy());
        }
    }

    /// Nothing strikes any more.
    fn calm(&mut self, chance: &mut Chance) -> Verdict {
        let ease = Hardship::default();
        self.repair(ease, chance)?.ok_or("the vault cannot be opened to repair it")?;
        let promise = self.backup(&BTreeSet::new(), ease, chance)?.map_err(|e| format!("the backup failed: {e}"))?;
        if self.plan.link == 1 {
            self.cross_calmly()?;
            if self.plan.release > 0 && !self.is_one_way() {
                self.hear_calmly(chance)?;
            }
        } else if promise != Promise::SafeThere {
            return Err("the backup went to the spool though all drives are there".into());
        }
        let repaired = self.repair(ease, chance)?.ok_or("the vault cannot be opened to repair it")?;
        calm::repaired(&repaired)?;
        sealed::nothing_in_clear(&self.wires)?;
        numbered::once(&self.book)?;
        if self.is_one_way() {
            return self.inspect_one_way(chance);
        }
        self.inspect_calm(chance)
    }
}
