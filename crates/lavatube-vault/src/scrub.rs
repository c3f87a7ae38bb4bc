//! Scrubbing: every byte of every object is read, one object after the other, and what is damaged on drives that are there is
//! written anew.
//!
//! A drive that is in quarantine when a scrub begins is on trial in it: read wholly by then, mended and right, it is let in at the end; one
//! that was wrong twice running is put there.
//!
//! A chore that goes on for days is done in steps, one object each, in the order of ids; where it is and what it found is a
//! [`ScrubRecord`] that whoever drives it keeps, so that a killed one goes on there. Shards on drives that are away are left to
//! `mend`: a drive that is only unplugged must not cause everything to be written again. It must not know the clock (times are
//! handed in), files, or why one rests. Step 18 of the walk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lavatube_base::limits::SCRUB_LOST_LISTED_MAX;
use lavatube_base::time::WallTime;
use lavatube_base::{DriveId, ObjectId};
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};

use crate::quarantine::Sight;
use crate::{
    Depth, Distrust, Health, MendError, ObjectEntry, ObjectKind, ReadError, ReadingTime, ShardHealth, ShardState,
    StoreError, Vault,
};

/// A scrub that is under way.
#[derive(Debug, Clone)]
pub struct Scrub {
    record: ScrubRecord,
    /// How long reads took, by slot, in this run of it.
    times: BTreeMap<usize, ReadingTime>,
    near: Near,
}

/// Objects that lie beside damaged ones: sectors die in clusters, so that they are looked at at once and not when it is their turn.
#[derive(Debug, Clone, Default)]
struct Near {
    ahead: VecDeque<ObjectId>,
    /// All that were put there.
    seen: BTreeSet<ObjectId>,
    /// Those that were handed out.
    under_way: BTreeSet<ObjectId>,
    /// Those that were looked at: when their turn comes they are only counted.
    done: BTreeSet<ObjectId>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It looked at an object.
    Looked(Box<Looked>),
    /// There is no further object: the scrub is at its end.
    Over,
}

/// An object that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The object.
    pub id: ObjectId,
    /// What it is.
    pub kind: ObjectKind,
    /// Its bytes.
    pub len: u64,
    /// Bytes that were read from drives.
    pub read: u64,
    /// Shards on drives that are there that were not as they should be.
    pub found: Vec<ShardHealth>,
    /// Shards on drives that are away, or that are on none.
    pub away: Vec<ShardHealth>,
    /// Those of `found`, and of those that were on no drive, that were written anew and are right when they are read again.
    pub mended: Vec<ShardHealth>,
    /// Those of `found` that are still not as they should be.
    pub left: Vec<ShardHealth>,
    /// Whether all its bytes can be read now.
    pub restorable: bool,
    /// Bytes of it are lost, and no drive that is away brings them back.
    pub lost: bool,
    /// Why nothing was mended, where something was to be.
    pub refused: Option<MendError>,
}

/// How fast to go: the stricter of both counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Bytes to read from drives in a second at most; `None` for as many as there are.
    pub bytes_s: Option<u64>,
    /// The share of time to rest, 0 to less than 1.
    pub rest: f64,
}

impl Pace {
    /// How long to rest after `worked`, in which `read` bytes were read.
    pub fn pause(&self, read: u64, worked: Duration) -> Duration {
        let rest = worked.mul_f64((self.rest / (1.0 - self.rest)).clamp(0.0, REST_MAX));
        let Some(bytes_s) = self.bytes_s else { return rest };
        let seconds = read as f64 / bytes_s.max(1) as f64;
        rest.max(Duration::from_secs_f64(seconds.min(PAUSE_S_MAX)).saturating_sub(worked))
    }
}

impl Scrub {
    /// A new one.
    pub fn begin(now: WallTime) -> Self {
        Self { record: ScrubRecord::begin(now), times: BTreeMap::new(), near: Near::default() }
    }

    /// One that was broken off, if `record` is of such a one.
    pub fn resume(record: &ScrubRecord) -> Option<Self> {
        (record.end == ScrubEnd::Open).then(|| Self {
            record: record.clone(),
            times: BTreeMap::new(),
            near: Near::default(),
        })
    }

    /// Where it is and what it found so far: to be kept.
    pub fn record(&self) -> &ScrubRecord {
        &self.record
    }

    /// Objects that it has not looked at yet, and their bytes.
    pub fn ahead(&self, vault: &Vault) -> (u64, u64) {
        vault.objects_after(self.record.upto).fold((0, 0), |(n, bytes), o| (n + 1, bytes + o.len))
    }

    /// The next objects to look at, `most` of them: none at its end. They may be examined side by side, and are then handed in with
    /// [`Scrub::handle_examined`], in this order.
    pub fn next(&mut self, vault: &Vault, most: usize, now: WallTime) -> Vec<ObjectEntry> {
        let near = std::iter::from_fn(|| self.near.ahead.pop_front()).filter_map(|id| vault.find(id)).take(most);
        let near: Vec<_> = near.collect();
        if !near.is_empty() {
            self.near.under_way.extend(near.iter().map(|object| object.id));
            return near;
        }
        while let Some(object) = vault.objects_after(self.record.upto).next().filter(|o| self.near.done.remove(&o.id)) {
            self.record.has_passed(object.id, object.len);
        }
        let in_turn = vault.objects_after(self.record.upto).take(most);
        let next: Vec<_> = in_turn.take_while(|object| !self.near.done.contains(&object.id)).collect();
        if self.record.objects == 0 {
            self.record.sequence = vault.journal.last();
            for slot in vault.on_trial() {
                found_on(&mut self.record, vault.slots[slot].card.drive).on_trial = true;
            }
        }
        if next.is_empty() {
            (self.record.until, self.record.end) = (now, ScrubEnd::Whole);
        }
        next
    }

    /// An object was examined, every byte of it: what is damaged of it is mended.
    pub fn handle_examined(
        &mut self,
        vault: &mut Vault,
        object: ObjectEntry,
        health: Result<Health, ReadError>,
        now: WallTime,
    ) -> Looked {
        self.record.until = now;
        let looked = vault.mend_examined(object, health);
        self.count(&looked, vault);
        self.look_beside(&looked, vault);
        for (slot, place) in vault.slots.iter().enumerate() {
            let took = place.reader().map(|drive| drive.reading_time()).unwrap_or_default();
            let all = self.times.entry(slot).or_default();
            (all.ns, all.reads) = (all.ns.saturating_add(took.ns), all.reads.saturating_add(took.reads));
        }
        looked
    }

    /// Looks at the next object and mends what is damaged of it.
    pub fn handle_step(&mut self, vault: &mut Vault, now: WallTime) -> Step {
        let Some(object) = self.next(vault, 1, now).pop() else { return Step::Over };
        let health = vault.examine(object.id, Depth::Bytes);
        Step::Looked(Box::new(self.handle_examined(vault, object, health, now)))
    }

    /// So long was worked for it.
    pub fn handle_worked(&mut self, worked: Duration) {
        self.record.worked_ms += u64::try_from(worked.as_millis()).unwrap_or(0);
    }

    fn count(&mut self, looked: &Looked, vault: &Vault) {
        let record = &mut self.record;
        if self.near.under_way.remove(&looked.id) {
            self.near.done.insert(looked.id);
        } else {
            record.has_passed(looked.id, looked.len);
        }
        record.read += looked.read;
        record.unsound += u64::from(!looked.found.is_empty());
        record.degraded += u64::from(!looked.away.is_empty());
        record.mended += looked.mended.len() as u64;
        record.left += looked.left.len() as u64;
        record.lost += u64::from(looked.lost);
        if looked.lost && record.lost_ids.len() < SCRUB_LOST_LISTED_MAX {
            record.lost_ids.push(looked.id);
        }
        let mut note = |shards: &[ShardHealth], count: &dyn Fn(&mut ScrubDrive, &ShardState)| {
            for shard in shards {
                let Some(slot) = shard.slot.and_then(|slot| vault.slots.get(slot)) else { continue };
                count(found_on(record, slot.card.drive), &shard.state);
            }
        };
        note(&looked.found, &|on, state| match state {
            ShardState::Missing => on.missing += 1,
            _ => on.damaged += 1,
        });
        note(&looked.away, &|on, _| on.away += 1);
        note(&looked.left, &|on, _| on.left += 1);
    }

    /// Looks next at what lies beside what is damaged, on the same drive.
    fn look_beside(&mut self, looked: &Looked, vault: &Vault) {
        let is_rot =
            |s: &&ShardHealth| !matches!(s.state, ShardState::Good | ShardState::Missing | ShardState::NotStored);
        let slots: BTreeSet<usize> = looked.found.iter().filter(is_rot).filter_map(|s| s.slot).collect();
        for slot in slots {
            // Finding neighbours takes a look at the whole index: where all is damaged its turn comes soon enough.
            if self.near.seen.len() >= BESIDE_MAX {
                return;
            }
            for id in vault.beside(looked.id, slot, BESIDE) {
                if id > self.record.upto && self.near.seen.insert(id) && id != looked.id {
                    self.near.ahead.push_back(id);
                }
            }
        }
    }

    /// At its end: lets those drives in that were read wholly and are trusted again, and holds those back that were wrong in this and in
    /// the whole scrub `before` it, or that are far slower than the others.
    ///
    /// # Errors
    /// [`StoreError`] when the journal could not be written: the next scrub does it.
    pub fn finish(&self, vault: &mut Vault, before: Option<&ScrubRecord>) -> Result<Judged, StoreError> {
        let (mut judged, slow) = (Judged::default(), slow(&self.times));
        if self.record.end != ScrubEnd::Whole {
            return Ok(judged);
        }
        for slot in 0..vault.slots.len() {
            let drive = vault.slots[slot].card.drive;
            let of = |record: &ScrubRecord| record.drives.iter().find(|on| on.drive == drive).copied();
            let on = of(&self.record).unwrap_or(ScrubDrive::of(drive));
            let seen = Sight { found: on.damaged + on.missing, left: on.left };
            match vault.distrust(slot) {
                //= FORMAT#F46 read wholly since it is on trial
                Some(why) if on.on_trial && on.away == 0 && vault.slots[slot].mender().is_some() => {
                    if seen.is_good(why) && !slow.contains(&slot) {
                        vault.admit(slot)?;
                        judged.admitted.push(slot);
                    }
                }
                Some(_) => {}
                None => {
                    let was_wrong =
                        before.and_then(of).is_some_and(|b| !b.on_trial && b.damaged + b.missing >= WRONG_MIN);
                    let why = if was_wrong && seen.found >= WRONG_MIN {
                        Distrust::Wrong
                    } else if slow.contains(&slot) {
                        Distrust::Slow
                    } else {
                        continue;
                    };
                    vault.quarantine(slot, why)?;
                    judged.held.push((slot, why));
                }
            }
        }
        // What was moved before two whole scrubs began is not needed any more.
        let upto = before.map_or(0, |before| before.sequence.min(self.record.sequence));
        judged.cleared = vault.clear_moved(upto)?;
        Ok(judged)
    }
}

/// What the end of a scrub changed: slots of drives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// They are trusted again.
    pub admitted: Vec<usize>,
    /// They are not any more, and why.
    pub held: Vec<(usize, Distrust)>,
    /// Shards that were removed where they were before they were moved.
    pub cleared: u64,
}

/// Slots of drives that are far slower than most: where reads take long, and many times as long as on others.
fn slow(times: &BTreeMap<usize, ReadingTime>) -> BTreeSet<usize> {
    let measured = times.iter().filter(|(_, time)| time.reads >= READS_MIN);
    let means: Vec<(usize, u64)> = measured.map(|(slot, time)| (*slot, time.ns / time.reads)).collect();
    let mut sorted: Vec<u64> = means.iter().map(|(_, mean)| *mean).collect();
    sorted.sort_unstable();
    let Some(median) = sorted.get(sorted.len() / 2).copied().filter(|_| sorted.len() >= DRIVES_COMPARED_MIN) else {
        return BTreeSet::new();
    };
    let is_slow = |mean: u64| mean >= SLOW_NS_MIN && mean >= median.saturating_mul(SLOWER_MIN);
    means.into_iter().filter(|(_, mean)| is_slow(*mean)).map(|(slot, _)| slot).collect()
}

/// What a scrub found on a drive so far.
fn found_on(record: &mut ScrubRecord, drive: DriveId) -> &mut ScrubDrive {
    let at = record.drives.iter().position(|found| found.drive == drive).unwrap_or(record.drives.len());
    if at == record.drives.len() {
        record.drives.push(ScrubDrive::of(drive));
    }
    &mut record.drives[at]
}

impl Vault {
    /// Objects that were written to the drive of a slot just before and after another one: they lie beside it, as far as anyone can tell.
    fn beside(&self, id: ObjectId, slot: usize, reach: usize) -> Vec<ObjectId> {
        let Some(own) = self.entry(id).map(|entry| entry.sequence) else { return Vec::new() };
        let mut nearest: BTreeSet<(u64, ObjectId)> = BTreeSet::new();
        self.each_entry(&mut |other, entry| {
            if other != id && entry.is_on(slot) {
                nearest.insert((entry.sequence.abs_diff(own), other));
                if nearest.len() > 2 * reach {
                    nearest.pop_last();
                }
            }
        });
        nearest.into_iter().map(|(_, other)| other).collect()
    }

    /// Objects behind `id`, in the order of their ids.
    fn objects_after(&self, id: ObjectId) -> impl Iterator<Item = ObjectEntry> + '_ {
        let behind = self.entries_from(id).filter(move |(own, _)| *own != id);
        behind.map(|(id, entry)| ObjectEntry::of(id, &entry))
    }

    /// Reads every byte of an object, and mends what is damaged of it.
    pub(crate) fn look_and_mend(&mut self, object: ObjectEntry) -> Looked {
        let health = self.examine(object.id, Depth::Bytes);
        self.mend_examined(object, health)
    }

    /// Mends what is damaged of an object on drives that are there, and writes what is on none where there is a drive for it; `health` is what reading
    /// every byte of it has shown.
    fn mend_examined(&mut self, object: ObjectEntry, mut health: Result<Health, ReadError>) -> Looked {
        let mut looked = Looked::of(object);
        match self.adopt_strays(object.id) {
            Ok(true) => health = self.examine(object.id, Depth::Bytes),
            Ok(false) => {}
            // Where the journal cannot be written they are looked for again the next time.
            Err(e) => looked.refused = Some(MendError::Store(e)),
        }
        let health = match health {
            Ok(health) => health,
            Err(e) => {
                looked.refused = Some(e.into());
                return looked;
            }
        };
        (looked.read, looked.restorable) = (self.bytes_read(object.id, &health), health.restorable);
        let bad = health.shards.iter().filter(|s| s.state != ShardState::Good).cloned();
        (looked.found, looked.away) = bad.partition(|s| self.is_shard_expected(s.slot));
        looked.lost = is_lost(&health, &looked.away);
        looked.left = looked.found.clone();
        // What was never stored no drive brings back.
        let has_room = self.has_free_drive(object.id);
        let homeless = looked.away.iter().filter(|s| s.slot.is_none() && has_room);
        let writable: Vec<_> = looked.found.iter().filter(|s| self.is_writable(s)).chain(homeless).cloned().collect();
        if writable.is_empty() || !looked.restorable {
            return looked;
        }
        let written = match self.mend_these(object.id, writable, None) {
            Ok(report) => report.mended,
            Err(e) => {
                looked.refused = Some(e);
                return looked;
            }
        };
        // What was written counts when it is read again and is right.
        let again = self.examine(object.id, Depth::Bytes).map(|health| health.shards).unwrap_or_default();
        let is_right = |s: &ShardHealth| again.iter().any(|a| a.shard == s.shard && a.state == ShardState::Good);
        let is_mended = |s: &ShardHealth| written.contains(s) && is_right(s);
        (looked.mended, looked.left) = looked.found.iter().cloned().partition(is_mended);
        let (housed, away) = looked.away.iter().cloned().partition(is_mended);
        looked.away = away;
        looked.mended.extend::<Vec<_>>(housed);
        looked
    }

    fn is_writable(&self, shard: &ShardHealth) -> bool {
        shard.slot.and_then(|slot| self.slots.get(slot)).is_some_and(|slot| slot.mender().is_some())
    }

    /// Bytes of shard files that could be read.
    fn bytes_read(&self, id: ObjectId, health: &Health) -> u64 {
        let Some(entry) = self.entry(id) else { return 0 };
        let there = |s: &&ShardHealth| !matches!(s.state, ShardState::NotStored | ShardState::Missing);
        let file = 2 * entry.geometry.header_len() + entry.geometry.shard_len();
        (health.shards.iter().filter(there).count() * file) as u64
    }
}

impl Looked {
    /// One of which nothing is known yet.
    fn of(ObjectEntry { id, kind, len }: ObjectEntry) -> Self {
        let (found, away, mended, left) = Default::default();
        Self { id, kind, len, read: 0, found, away, mended, left, restorable: false, lost: false, refused: None }
    }

    /// Whether every shard is where it should be and right.
    pub fn is_whole(&self) -> bool {
        self.found.is_empty() && self.away.is_empty()
    }
}

/// Whether bytes are lost that no drive which is away can bring back.
fn is_lost(health: &Health, away: &[ShardHealth]) -> bool {
    let good = health.shards.iter().filter(|s| s.state == ShardState::Good).count();
    let may_come = away.iter().filter(|s| s.slot.is_some()).count();
    !health.restorable && good + may_come < health.data
}

/// Objects before and after a damaged one that are looked at out of turn,
const BESIDE: usize = 4;
/// and how many of them in a run of a scrub.
const BESIDE_MAX: usize = 4096;
/// Shards of a drive that are wrong in each of two scrubs running before it is not trusted.
const WRONG_MIN: u64 = 3;
/// A drive is called slow by no fewer reads,
const READS_MIN: u64 = 100;
/// among no fewer drives,
const DRIVES_COMPARED_MIN: usize = 3;
/// when each takes so long on average,
const SLOW_NS_MIN: u64 = 50_000_000;
/// and so many times as long as on the one in the middle.
const SLOWER_MIN: u64 = 10;
/// Rests are at most so many times as long as work,
const REST_MAX: f64 = 1e4;
/// and as this many seconds.
const PAUSE_S_MAX: f64 = 1e7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_is_slow_when_its_reads_take_long_and_much_longer_than_those_of_others() {
        let of = |ms: &[u64], reads: u64| -> BTreeMap<usize, ReadingTime> {
            ms.iter().map(|ms| ReadingTime { ns: ms * 1_000_000 * reads, reads }).enumerate().collect()
        };
        let slots = |ms: &[u64]| slow(&of(ms, 100)).into_iter().collect::<Vec<_>>();
        assert_eq!(slots(&[5, 5, 60, 4, 6, 5]), [2]);
        assert_eq!(slots(&[5, 5, 49, 4, 6, 5]), [0; 0], "a rest of 50 ms is not long");
        assert_eq!(slots(&[9, 9, 80, 9, 9, 9]), [0; 0], "not ten times as long");
        assert_eq!(slots(&[80, 80, 80, 90, 80, 80]), [0; 0], "all are slow");
        assert_eq!(slots(&[5, 100]), [0; 0], "who is to say which of two");
        assert!(slow(&of(&[5, 5, 600, 4], 99)).is_empty(), "too few reads");
    }

    #[test]
    fn the_stricter_of_rate_and_rest_counts() {
        let second = Duration::from_secs(1);
        let pause = |bytes_s, rest| Pace { bytes_s, rest }.pause(3_000_000, second);
        assert_eq!(pause(None, 0.0), Duration::ZERO);
        assert_eq!(pause(None, 0.5), second);
        assert_eq!(pause(Some(1_000_000), 0.5), 2 * second, "three seconds' worth was read in one");
        assert_eq!(pause(Some(1_000_000), 0.9).as_millis(), 9_000);
        assert_eq!(pause(Some(10_000_000), 0.0), Duration::ZERO);
        assert!(pause(Some(0), 0.0) > Duration::from_secs(86_400), "nothing is not for ever");
    }
}
