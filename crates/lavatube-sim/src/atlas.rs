//! The atlas of physical faults: what is broken where, so that no more breaks than redundancy promises to bear.
//!
//! A fault is tried on the drives and taken back when some object that could be read before would have fewer than k
//! intact shards, or no journal that names it, after it; and no more than m drives are ever hurt as a whole between two
//! repairs. An object that was stored while drives were missing is promised what it has, not what it might have. It must
//! not know the client.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::ObjectId;
use lavatube_format::journal::{FIRST_CHECK, Line, Record};
use lavatube_format::shard::shard_name;

use crate::chance::Chance;
use crate::plan::Plan;
use crate::seams::drive::{Files, SimDrive};
use crate::wires::Wires;

/// An object, and the slot of each of its shards as the vault has them.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The object.
    pub id: ObjectId,
    /// Shard index and slot.
    pub shards: Vec<(u8, usize)>,
}

/// What is known of broken things.
#[derive(Default)]
pub struct Atlas {
    /// Slots hurt as a whole (emptied, put back stale, journal or card damaged) since the last full repair.
    hurt: BTreeSet<usize>,
    /// Whether anything was broken since then.
    struck: bool,
    /// Old images of drives, to be put back one day.
    images: BTreeMap<usize, Files>,
}

impl Atlas {
    /// Everything was made whole.
    pub fn repaired(&mut self) {
        self.hurt.clear();
        self.struck = false;
    }

    /// Whether anything was broken since everything was whole.
    pub fn struck(&self) -> bool {
        self.struck
    }

    /// Remembers what a drive holds now.
    pub fn remember(&mut self, slot: usize, drive: &SimDrive) {
        self.images.insert(slot, drive.platter().image());
    }

    /// Breaks something, as `chance` has it; gives what, or `None` when nothing may break.
    pub fn strike(
        &mut self,
        drives: &[SimDrive],
        placed: &[Placed],
        wires: &Wires,
        plan: &Plan,
        chance: &mut Chance,
    ) -> Option<String> {
        drives.iter().for_each(|d| d.platter().write_back());
        let before = alive(drives, placed, plan);
        for _ in 0..6 {
            // A stream for each attempt: what one draws does not shift the next.
            let chance = &mut Chance::new(chance.draw());
            let slot = chance.index(drives.len());
            let images: Vec<Saved> = drives.iter().map(Saved::of).collect();
            let Some((text, whole)) = self.break_one(slot, drives, placed, wires, chance) else { continue };
            let mut hurt = self.hurt.clone();
            hurt.extend(whole);
            let bearable = hurt.len() <= usize::from(plan.m) && alive(drives, placed, plan).is_superset(&before);
            if plan.beyond_promise == 1 || bearable {
                (self.hurt, self.struck) = (hurt, true);
                return Some(text);
            }
            drives.iter().zip(images).for_each(|(drive, image)| image.put_back(drive));
        }
        None
    }

    /// Breaks something on the drive of `slot`, or of one object; gives what, and the slot if it is hurt as a whole.
    fn break_one(
        &self,
        slot: usize,
        drives: &[SimDrive],
        placed: &[Placed],
        wires: &Wires,
        chance: &mut Chance,
    ) -> Option<(String, Option<usize>)> {
        let mut platter = drives[slot].platter();
        match chance.below(10) {
            0 => {
                platter.replace(Files::new());
                Some((format!("drive {slot} was exchanged for an empty one"), Some(slot)))
            }
            1 => {
                platter.replace(self.images.get(&slot)?.clone());
                Some((format!("drive {slot} was put back as it was some time ago"), Some(slot)))
            }
            2 | 3 => {
                let name = *chance.pick(&["journal", "drive.card"]);
                let bytes = spoil(platter.live.get(name)?, chance);
                platter.spoil(name, bytes);
                Some((format!("{name} of drive {slot} was damaged"), Some(slot)))
            }
            _ => {
                drop(platter);
                let Placed { id, shards } = placed.get(chance.index(placed.len()))?;
                let (index, slot) = *shards.get(chance.index(shards.len()))?;
                let name = shard_name(*id, index);
                let mut platter = drives[slot].platter();
                let what = if chance.per_mille(250) {
                    let at = chance.below(platter.live.get(&name)?.len() as u64);
                    platter.unreadable.entry(name.clone()).or_default().push(at..at + 512);
                    "has an unreadable sector"
                } else {
                    let bytes = spoil(platter.live.get(&name)?, chance);
                    platter.spoil(&name, bytes);
                    "was damaged"
                };
                let object = wires.label(&id.to_string()).unwrap_or_else(|| id.short());
                Some((format!("the shard of {object} on drive {slot} {what}"), None))
            }
        }
    }
}

/// What a drive held, to be put back.
struct Saved {
    files: Files,
    live: Files,
    unreadable: BTreeMap<String, Vec<std::ops::Range<u64>>>,
}

impl Saved {
    fn of(drive: &SimDrive) -> Self {
        let platter = drive.platter();
        Self { files: platter.image(), live: platter.live.clone(), unreadable: platter.unreadable.clone() }
    }

    fn put_back(self, drive: &SimDrive) {
        let mut platter = drive.platter();
        platter.replace(self.files);
        (platter.live, platter.unreadable) = (self.live, self.unreadable);
    }
}

/// Damaged bytes for a file; `None` when it is gone.
fn spoil(bytes: &[u8], chance: &mut Chance) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    let at = chance.index(out.len());
    match chance.below(5) {
        0 => return None,
        1 => out.truncate(at),
        2 if !out.is_empty() => {
            let n = (1 + chance.index(2000)).min(out.len() - at);
            let noise = chance.bytes(n);
            out[at..at + n].copy_from_slice(&noise);
        }
        3 if !out.is_empty() => out[at..].fill(0),
        _ => {
            for _ in 0..=chance.below(3) {
                let at = chance.index(out.len());
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << chance.below(8);
                }
            }
        }
    }
    Some(out)
}

/// What must not become less: the objects with enough intact shards where the vault looks for them, and the objects that
/// some journal names.
fn alive(drives: &[SimDrive], placed: &[Placed], plan: &Plan) -> BTreeSet<(bool, ObjectId)> {
    let intact = |p: &&Placed| {
        let whole = |(index, slot): &&(u8, usize)| drives[*slot].platter().is_intact(&shard_name(p.id, *index));
        p.shards.iter().filter(whole).count() >= usize::from(plan.k)
    };
    let named = drives.iter().flat_map(journaled).map(|id| (true, id));
    placed.iter().filter(intact).map(|p| (false, p.id)).chain(named).collect()
}

/// The objects that the journal of a drive names.
fn journaled(drive: &SimDrive) -> Vec<ObjectId> {
    let journal = drive.platter().live.get("journal").cloned().unwrap_or_default();
    let (mut at, mut check, mut out) = (0, FIRST_CHECK, Vec::new());
    for sequence in 1.. {
        let Ok((line, len)) = Line::decode(journal.get(at..).unwrap_or_default(), sequence, &check) else { break };
        (at, check) = (at + len, line.check);
        if let Record::Stored { object, .. } = line.record {
            out.push(object);
        }
    }
    out
}
