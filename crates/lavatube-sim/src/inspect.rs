//! The onlooker: opens the vault without leaving a trace and compares what it gives with what is known.
//!
//! It restores snapshots as a fresh machine with the read key would, from whatever drives it is given. It must not
//! change the world.

use std::collections::BTreeSet;
use std::sync::Arc;

use lavatube_base::ObjectId;
use lavatube_client::browse::Listed;
use lavatube_client::courier::Promise;
use lavatube_client::fetch::Fetcher;
use lavatube_vault::Vault;

use crate::atlas::Placed;
use crate::chance::Chance;
use crate::invariants::{Verdict, calm, exact, proved, receipted, released, seen, visible};
use crate::link::{Reading, Wish};
use crate::reader::{self, LookError};
use crate::seams::far::SimFar;
use crate::seams::state::SimState;
use crate::wires::{Telling, Wires};
use crate::world::{Reported, World};

/// How much to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The newest snapshot and one more.
    Two,
    /// Every snapshot.
    All,
}

impl World {
    /// Where the vault has the shards of its objects, in the order in which they came.
    pub fn placed(&self) -> Vec<Placed> {
        let Ok((vault, _)) = self.open_quietly(&BTreeSet::new()) else { return Vec::new() };
        let shards = |id: ObjectId| {
            let health = vault.examine(id, lavatube_vault::Depth::Headers).ok()?;
            let mut shards: Vec<(u8, usize)> = health.shards.iter().filter_map(|s| Some((s.shard, s.slot?))).collect();
            // Which shard is in which slot may hang on a random id; which slots are taken does not.
            shards.sort_by_key(|(_, slot)| *slot);
            Some(shards)
        };
        let mut all: Vec<Placed> =
            vault.objects().filter_map(|o| Some(Placed { id: o.id, shards: shards(o.id)? })).collect();
        all.sort_by_key(|p| self.book.place(p.id));
        all
    }

    /// Looks at the vault without the drives of `away`: receipts, snapshots, and their content.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn inspect(&self, away: &BTreeSet<usize>, depth: Depth, chance: &mut Chance) -> Verdict {
        let (vault, _) = self.open_quietly(away)?;
        self.wires.tell(|| self.visible(&vault));
        let freed = self.book.freed();
        let known: Vec<_> = self.book.known().into_iter().filter(|known| !freed.contains(&known.id)).collect();
        receipted::readable(&vault, &known)?;
        released::stays_gone(&vault, &self.book)?;
        let state = SimState::new(&Arc::new(Wires::new(Telling::Nothing)), None);
        let far = SimFar::new(vault, &self.book);
        self.restored(&far, &state, depth, chance)?;
        // Nobody sees in which order that reads: it hangs on random ids.
        let proved =
            |fetcher: &mut Fetcher<'_>| Ok(proved::whole(fetcher.archive().sessions, &far, &state, &self.read));
        reader::look(&far, &state, &self.read, proved).map_err(|e| format!("the vault cannot be audited: {e}"))?
    }

    /// What the vault shows, for the story: manifests and cards by number, packs counted.
    fn visible(&self, vault: &Vault) -> String {
        let named = |o: lavatube_vault::ObjectEntry| self.wires.label(&o.id.to_string());
        let mut names: Vec<String> = vault.objects().filter_map(named).collect();
        names.sort_unstable();
        format!("    the vault shows {} objects, {}", vault.objects().count(), names.join(", "))
    }

    /// Restores snapshots from an opened vault with what a machine has in `state`.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn restore(&self, vault: Vault, state: &SimState, depth: Depth, chance: &mut Chance) -> Verdict {
        self.restored(&SimFar::new(vault, &self.book), state, depth, chance)
    }

    fn restored(&self, far: &SimFar, state: &SimState, depth: Depth, chance: &mut Chance) -> Verdict {
        let spooled = self.machine.spool.waiting() > 0;
        let mut due = self.reported.clone();
        due.iter_mut().for_each(|r| r.is_due &= r.promise == Promise::SafeThere || !spooled);
        due.iter_mut().for_each(|r| r.is_due &= !self.forgotten.contains(&r.id));
        let looked = reader::look(far, state, &self.read, |fetcher| Ok(self.snapshots(fetcher, &due, depth, chance)));
        looked.map_err(|e| format!("the vault cannot be read: {e}"))?
    }

    fn snapshots(&self, fetcher: &mut Fetcher<'_>, due: &[Reported], depth: Depth, chance: &mut Chance) -> Verdict {
        let listing = reader::list(fetcher).map_err(|e| e.to_string())?;
        visible::listed(&listing, due)?;
        let all = &listing.snapshots;
        let other = chance.index(all.len());
        for (n, listed) in all.iter().enumerate() {
            if depth == Depth::All || n + 1 == all.len() || n == other {
                let whole = !self.forgotten.contains(&listed.place.id);
                self.snapshot(fetcher, listed, whole).map_err(|e| self.blame(listed, &e))?;
            }
        }
        Ok(())
    }

    /// A snapshot restores bit-exact; when `whole` is not asked for, or says what is missing.
    fn snapshot(&self, fetcher: &mut Fetcher<'_>, listed: &Listed, whole: bool) -> Verdict {
        let log = self.logs.get(&listed.snapshot.time).ok_or("nobody took it")?;
        let (sink, outcome) = match reader::restore(fetcher, listed.place.id) {
            Ok(restored) => restored,
            Err(LookError::Restore(e)) if !whole => {
                self.wires.outcome("restore refused", 0);
                self.wires.tell(|| format!("    snapshot {} cannot be restored: {e}", listed.place.id.short()));
                return Ok(());
            }
            Err(e) => return Err(e.to_string()),
        };
        if whole {
            visible::whole(&outcome)?;
        }
        let all = sink.all();
        let stripped = self.stripped();
        exact::as_read(&all, log, &stripped, &outcome)?;
        seen::accounted(&all, log, &stripped, &listed.snapshot, &outcome)
    }

    /// Reads over the link, with what has come so far. What is given is exact; gives what was told not to be there, if anything was.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn read_far(&self, reading: &Reading) -> Result<Option<String>, String> {
        let looked = reader::look_far(&reading.distant, &self.read, |fetcher| Ok(self.far_snapshots(fetcher, reading)));
        looked.unwrap_or_else(|e| Ok(Some(format!("the vault cannot be read: {e}"))))
    }

    fn far_snapshots(&self, fetcher: &mut Fetcher<'_>, reading: &Reading) -> Result<Option<String>, String> {
        let listing = match reader::list(fetcher) {
            Ok(listing) => listing,
            Err(e) => return Ok(Some(e.to_string())),
        };
        let mut told = listing.unreadable.first().map(|(place, e)| format!("snapshot {}: {e}", place.id.short()));
        told = told.or_else(|| listing.refused.first().map(|r| format!("manifest {}: {}", r.id.short(), r.reason)));
        let (wish, all) = (reading.wish, &listing.snapshots);
        if told.is_none() {
            visible::listed(&listing, &self.due_to(reading))?;
        }
        let other = Chance::new(wish.draw).index(all.len());
        for (n, listed) in all.iter().enumerate() {
            let is_wanted = |depth| depth == Depth::All || n + 1 == all.len() || n == other;
            // What was released meanwhile need not come.
            if wish.depth.is_some_and(is_wanted) && !self.forgotten.contains(&listed.place.id) {
                let lacks = self.far_snapshot(fetcher, listed).map_err(|e| self.blame(listed, &e))?;
                told = told.or(lacks.map(|what| self.blame(listed, &what)));
            }
        }
        Ok(told)
    }

    /// The snapshots that whoever reads must be shown: what this machine made or lists, and what the vault had from the beginning.
    fn due_to(&self, reading: &Reading) -> Vec<Reported> {
        let mut due = self.reported.clone();
        // A vault whose drives are away may not know all that it has, and who asks it anew believes it.
        let is_shown = match reading.wish {
            Wish { refreshes: true, is_own, .. } => reading.must && (is_own && !self.forgot || !reading.spooled),
            Wish { is_own, .. } => is_own && !self.forgot,
        };
        due.iter_mut().for_each(|r| r.is_due &= is_shown && !self.forgotten.contains(&r.id));
        due
    }

    fn far_snapshot(&self, fetcher: &mut Fetcher<'_>, listed: &Listed) -> Result<Option<String>, String> {
        let log = self.logs.get(&listed.snapshot.time).ok_or("nobody took it")?;
        let (sink, outcome) = match reader::restore(fetcher, listed.place.id) {
            Ok(restored) => restored,
            Err(e) => return Ok(Some(e.to_string())),
        };
        let (all, stripped) = (sink.all(), self.stripped());
        exact::as_read(&all, log, &stripped, &outcome)?;
        seen::accounted(&all, log, &stripped, &listed.snapshot, &outcome)?;
        Ok(visible::whole(&outcome).err())
    }

    fn blame(&self, listed: &Listed, what: &str) -> String {
        let reported = self.reported.iter().any(|r| r.id == listed.place.id);
        let word = if reported { "reported" } else { "visible though never reported" };
        format!("snapshot {} ({word}): {what}", listed.place.id.short())
    }

    /// What a restore leaves out of paths: everything above the roots, with its slash.
    fn stripped(&self) -> Vec<u8> {
        let root = &self.roots[0];
        root.iter().rposition(|b| *b == b'/').map_or(Vec::new(), |slash| root[..=slash].to_vec())
    }

    /// The end: everything is whole, sound, and restores with any m drives gone.
    ///
    /// # Errors
    /// What is not.
    pub fn inspect_calm(&self, chance: &mut Chance) -> Verdict {
        let (vault, report) = self.open_quietly(&BTreeSet::new())?;
        calm::whole(&vault, &report)?;
        let far = SimFar::new(vault, &self.book);
        let state = SimState::new(&Arc::new(Wires::new(Telling::Nothing)), None);
        let structure = reader::look(&far, &state, &self.read, reader::check).map_err(|e| e.to_string())?;
        let own = self.machine.deposit.depositor();
        // Over a link the vault is not asked for manifests that the machine has forgotten.
        calm::sound(&structure, Some(own).filter(|_| self.plan.link == 0 || !self.forgot))?;
        released::settled(&far.vault(), &self.drives)?;
        self.inspect(&BTreeSet::new(), Depth::All, chance)?;
        let mut gone = BTreeSet::new();
        while gone.len() < usize::from(self.plan.m) {
            gone.insert(chance.index(self.drives.len()));
        }
        self.inspect(&gone, Depth::All, chance).map_err(|e| format!("with drives {gone:?} gone: {e}"))
    }

    /// The end where no word ever came back: whatever is given is exact; and if all is there, all is as it should be.
    ///
    /// # Errors
    /// What is not.
    pub fn inspect_one_way(&self, chance: &mut Chance) -> Verdict {
        let (vault, report) = self.open_quietly(&BTreeSet::new())?;
        calm::whole(&vault, &report)?;
        let all = self.machine.spool.ids().into_iter().all(|id| vault.contains(id));
        drop(vault);
        self.wires.tell(|| format!("  whether all is there: {all}"));
        self.inspect_loss()?;
        if all && !self.forgot { self.inspect(&BTreeSet::new(), Depth::All, chance) } else { Ok(()) }
    }

    /// After damage beyond the promise: whatever is given is exact, and whatever is not given is named.
    ///
    /// # Errors
    /// What is neither.
    pub fn inspect_loss(&self) -> Verdict {
        let Ok((vault, _)) = self.open_quietly(&BTreeSet::new()) else { return Ok(()) };
        let far = SimFar::new(vault, &self.book);
        let state = SimState::new(&Arc::new(Wires::new(Telling::Nothing)), None);
        let looked = reader::look(&far, &state, &self.read, |fetcher| {
            let listing = reader::list(fetcher)?;
            let each = |l: &Listed| self.snapshot(fetcher, l, false).map_err(|e| self.blame(l, &e));
            Ok(listing.snapshots.iter().try_for_each(each))
        });
        match looked {
            Ok(verdict) => verdict,
            Err(e) => {
                self.wires.tell(|| format!("    nothing can be read: {e}"));
                Ok(())
            }
        }
    }
}
