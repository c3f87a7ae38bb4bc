//! What of the loop is letting go: snapshots are forgotten, what only they need is released, and each of that may die.
//!
//! It does what `lavatube_node::forgetting` and `releasing` do, in the same order. Over a link the release is left at the desk, and whoever turns the link takes it
//! along with what is backed up meanwhile. It must not know how a vault follows a release.

use std::collections::BTreeSet;

use lavatube_base::{ChunkId, ObjectId, Verified};
use lavatube_client::desk::{Desk, Errand};
use lavatube_client::far::Far;
use lavatube_client::meter::Meter;
use lavatube_client::release;
use lavatube_client::released::Released;
use lavatube_client::session::OPEN_SESSION;
use lavatube_client::state::State;
use lavatube_format::release::{Release, ReleaseNote};
use lavatube_format::release_word::ReleaseQuestion;
use lavatube_seal::Reads;
use lavatube_vault::{Standing, Vault};

use crate::chance::Chance;
use crate::depositor;
use crate::invariants::{Verdict, growing};
use crate::reader;
use crate::sabotage::Sabotage;
use crate::seams::far::SimFar;
use crate::world::World;

impl World {
    /// Forgets some snapshots, or releases what only forgotten ones need.
    ///
    /// # Errors
    /// What was wrong.
    pub fn let_go(&mut self, chance: &mut Chance) -> Verdict {
        if !chance.per_mille(self.plan.release) || self.is_one_way() {
            return Ok(());
        }
        let receipted = self.receipted();
        match chance.below(3) {
            0 => self.forget(chance),
            _ => self.release(chance),
        }
        let freed = self.book.freed();
        let others = receipted.into_iter().filter(|id| !freed.contains(id)).collect();
        growing::nothing_destroyed(&self.drives, &others)
    }

    /// Of the snapshots that were reported any but the newest may be forgotten.
    fn forget(&mut self, chance: &mut Chance) {
        let hardship = self.hardship(chance);
        let due: Vec<ChunkId> = self.reported.iter().filter(|r| r.is_due).map(|r| r.id).collect();
        let older = due.len().saturating_sub(1);
        let chosen: BTreeSet<ChunkId> = due[..older].iter().filter(|_| chance.per_mille(700)).copied().collect();
        if chosen.is_empty() {
            return;
        }
        self.wires.tell(|| format!("  forget {} snapshots, {hardship:?}", chosen.len()));
        self.forgotten.extend(chosen.iter().copied());
        let mut entropy = Chance::named(self.seed, "entropy of marks", chance.draw());
        let is_far = self.plan.link == 1;
        let marked = self.run("forget", hardship, chance, |world| -> Result<(), String> {
            let vault = match is_far {
                true => world.open_quietly(&BTreeSet::new())?.0,
                false => world.open(&BTreeSet::new()).map_err(|e| e.to_string())?.0,
            };
            let far = SimFar::new(vault, &world.book);
            let marks = reader::look(&far, &world.machine.state, &world.read, |fetcher| {
                let listing = reader::list(fetcher)?;
                let chosen = listing.snapshots.iter().filter(|l| chosen.contains(&l.place.id));
                Ok(chosen.filter_map(|l| fetcher.archive().sessions.mark(&l.place, true)).collect())
            });
            let marks = marks.map_err(|e| e.to_string())?;
            let far = (!is_far).then_some(&far);
            depositor::mark(&world.machine, far, marks, &mut entropy, &world.wires).map_err(|e| e.to_string())
        });
        self.wires.tell(|| format!("  forgotten: {marked:?}"));
    }

    /// Releases what only forgotten snapshots need, or leaves a release at the desk.
    fn release(&mut self, chance: &mut Chance) {
        let hardship = self.hardship(chance);
        self.wires.tell(|| format!("  release, {hardship:?}"));
        let (is_far, mut nonce) = (self.plan.link == 1, [0; 32]);
        chance.fill(&mut nonce);
        let left = self.run("release", hardship, chance, |world| -> Result<Option<Vec<u8>>, String> {
            let vault = match is_far {
                true => world.open_quietly(&BTreeSet::new())?.0,
                false => world.open(&BTreeSet::new()).map_err(|e| e.to_string())?.0,
            };
            let far = SimFar::new(vault, &world.book);
            let Some(release) = world.statement(&far, nonce, is_far)? else { return Ok(None) };
            world.book.signed(&release);
            let bytes = world.sign(release)?;
            if !is_far {
                far.deliver_release(Verified::hash(&bytes)).map_err(|e| e.to_string())?;
                let keys = world.machine.deposit.release_keys();
                Released::take_in(&world.machine.state, &keys, &bytes).map_err(|e| e.to_string())?;
                while far.vault().settle_releases().is_ok_and(|more| more) {}
                return Ok(None);
            }
            let question = ReleaseQuestion {
                nonce: nonce[..16].try_into().unwrap_or_default(),
                from: u64::MAX,
                lifts: Vec::new(),
                release: Some(bytes.clone()),
            };
            let crossing = world.crossing.as_ref().ok_or("there is no link")?;
            crossing.desk().ask(&Errand::Releases(question))?;
            Ok(Some(bytes))
        });
        self.wires.tell(|| format!("  released: {:?}", left.as_ref().map(|left| left.as_ref().map(Option::is_some))));
        if let Some(Ok(Some(bytes))) = left {
            self.left = Some((bytes, false));
        }
    }

    /// What a release says, when there is something to be freed and nothing is in doubt.
    fn statement(&self, far: &SimFar, nonce: [u8; 32], is_far: bool) -> Result<Option<Release>, String> {
        let is_hasty = self.sabotage == Some(Sabotage::ReleasesAreSignedInDoubt);
        let state = &self.machine.state;
        let is_cut = state.len(OPEN_SESSION).map_err(|e| e.to_string())?.is_some();
        if (self.machine.spool.waiting() > 0 || is_cut) && !is_hasty {
            return Err("something waits here".into());
        }
        let sight = far.vault().look_at_log(0, &[]).map_err(|e| e.to_string())?.checkpoint;
        let vault = far.vault().id();
        let number = far.vault().releases() + 1;
        let pending = pending(&far.vault())?;
        let plan = reader::look(far, state, &self.read, |fetcher| {
            Ok(release::plan(fetcher, &BTreeSet::new(), &pending, &Meter::default()))
        });
        let plan = plan.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        if plan.is_empty() {
            return Ok(None);
        }
        let vouches = !is_far || self.sabotage == Some(Sabotage::ReleasesVouchFromAfar);
        // A state that has forgotten what it handed over vouches for nothing.
        let settled = Some(self.machine.deposit.depositor()).filter(|_| vouches && !self.forgot);
        let note = ReleaseNote { tenant: "default".into(), snapshots: plan.snapshots };
        let note = self.read.release_keys().seal(vault, &nonce, &note).map_err(|e| e.to_string())?;
        let objects: Vec<ObjectId> = plan.objects.into_iter().collect();
        self.wires.tell(|| {
            format!("    release {number} names {} objects, and parts of {}", objects.len(), plan.thins.len())
        });
        Ok(Some(Release {
            vault,
            nonce,
            size: sight.size,
            root: sight.root,
            number,
            objects,
            settled: settled.into_iter().collect(),
            note,
            lifts: Vec::new(),
            thins: plan.thins,
        }))
    }

    /// Looks what became of a release that crossed, and says that this machine knows of one that was taken. It may die.
    ///
    /// # Errors
    /// What the vault says of a release that is not so.
    pub fn hear_of_release(&mut self, chance: &mut Chance) -> Verdict {
        let Some((bytes, false)) = self.left.clone() else { return Ok(()) };
        let Some(signed) = self.crossing.as_ref().and_then(|crossing| crossing.desk().release()) else { return Ok(()) };
        signed.verify(self.vault.vault, &self.vault.key).map_err(|e| format!("a word about a release: {e}"))?;
        let id = Verified::hash(&bytes).id();
        let Some(about) = signed.word.about.filter(|about| about.id == id) else { return Ok(()) };
        self.wires.tell(|| format!("  what became of the release: {:?}", about.outcome.as_ref().map(Vec::len)));
        if let Err(why) = about.outcome {
            self.wires.outcome("release refused", 0);
            self.wires.tell(|| format!("  because {why}"));
            self.left = None;
            return Ok(());
        }
        self.wires.outcome("release taken", 0);
        if self.open_quietly(&BTreeSet::new())?.0.find(id).is_none() {
            return Err("a release was said to be taken, and is not in the vault".into());
        }
        let hardship = self.hardship(chance);
        let mut entropy = Chance::named(self.seed, "entropy of knowing", chance.draw());
        let said = self.run("acknowledge", hardship, chance, |world| -> Result<(), String> {
            let keys = world.machine.deposit.release_keys();
            Released::take_in(&world.machine.state, &keys, &bytes).map_err(|e| e.to_string())?;
            depositor::mark(&world.machine, None, Vec::new(), &mut entropy, &world.wires).map_err(|e| e.to_string())
        });
        if let Some(Ok(())) = said {
            self.left = Some((bytes, true));
        }
        Ok(())
    }
    /// Nothing strikes: what became of the last release is heard, and the vault hears that this machine knows of all.
    ///
    /// # Errors
    /// When it is not.
    pub fn hear_calmly(&mut self, chance: &mut Chance) -> Verdict {
        let plan = self.plan;
        self.plan = crate::plan::Plan { crash: 0, fault: 0, ..plan };
        let heard = self.hear_of_release(chance);
        self.plan = plan;
        heard?;
        if self.left.as_ref().is_some_and(|(_, heard)| !heard) {
            return Err("a release was not answered, though nothing strikes".into());
        }
        self.cross_calmly()
    }
}

/// What releases name that are still to be followed.
fn pending(vault: &Vault) -> Result<Released, String> {
    let mut out = Released::default();
    for open in vault.open_releases() {
        match open.standing {
            Some(Standing::Void) => continue,
            Some(_) => out.add(&vault.release(open.id).ok_or("a release cannot be read")?),
            None => return Err("a release cannot be told to be followed or not".into()),
        }
    }
    Ok(out)
}
