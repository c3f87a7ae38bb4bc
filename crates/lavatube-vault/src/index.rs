//! The index: for every object, where its shards lie; the log; which drives are in quarantine. In memory only; made from the journal or
//! by a scan.
//!
//! Of packs, which are many, it knows only where the journal speaks of them. It is a cache of what the drives say and never the
//! truth. It must not know drives. Steps 16 and 20 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use lavatube_base::ObjectId;
use lavatube_base::merkle::Tree;
use lavatube_format::journal::{Check, Distrust, Line, NO_SLOT, Record};
use lavatube_format::log::Leaf;
use lavatube_format::remnant::Head;
use lavatube_format::shard::{Geometry, ObjectKind};

use crate::mentions::Mentions;
use crate::release::{Freed, FreedObjects};
use crate::retention::Age;

/// What the index says of one object.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: ObjectKind,
    pub(crate) geometry: Geometry,
    pub(crate) generation: u32,
    /// The journal record that made it durable; 0 when only a scan knows of it.
    pub(crate) sequence: u64,
    pub(crate) check: Check,
    /// The drive slot of each shard, or [`NO_SLOT`].
    pub(crate) slots: Box<[u8]>,
    /// Its place in the log.
    pub(crate) place: Option<u64>,
    /// The place that its shards claim, of what a scan found.
    pub(crate) claim: Option<u64>,
    /// How old the vault was when it took it, in seconds that it has witnessed.
    pub(crate) born_s: u64,
}

impl Entry {
    /// The drive slot of shard `index`.
    pub(crate) fn slot(&self, index: usize) -> Option<usize> {
        self.slots.get(index).filter(|s| **s != NO_SLOT).map(|s| usize::from(*s))
    }

    /// Whether a shard is on the drive of a slot.
    pub(crate) fn is_on(&self, slot: usize) -> bool {
        (0..self.geometry.shards()).any(|index| self.slot(index) == Some(slot))
    }

    /// The record that says this.
    pub(crate) fn record(&self, object: ObjectId) -> Record {
        Record::Stored {
            kind: self.kind,
            object,
            geometry: self.geometry,
            generation: self.generation,
            slots: self.slots.to_vec(),
        }
    }
}

/// What is known of one object, and what lies where its shards were before.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) entry: Entry,
    pub(crate) left: Vec<Left>,
}

impl Known {
    /// What is known when a further record about the object is taken in. A later record of the same generation or a newer one counts.
    pub(crate) fn with(mut this: Option<Self>, line: Line) -> Option<Self> {
        match line.record {
            Record::Stored { kind, geometry, generation, slots, .. } => {
                if this.as_ref().is_some_and(|known| known.entry.generation > generation) {
                    return this;
                }
                let (place, claim, born_s, mut left) = this
                    .map_or((None, None, 0, Vec::new()), |Self { entry, left }| {
                        (entry.place, entry.claim, entry.born_s, left)
                    });
                let (slots, sequence, check) = (slots.into_boxed_slice(), line.sequence, line.check);
                let entry = Entry { kind, geometry, generation, sequence, check, slots, place, claim, born_s };
                // What a scan took for the place is no leftover.
                left.retain(|l| entry.slot(l.index.into()) != Some(l.slot.into()));
                return Some(Self { entry, left });
            }
            Record::Moved { generation, index, slot, .. } => {
                let known = this.as_mut().filter(|known| known.entry.generation == generation);
                if let Some(Self { entry, left }) = known
                    && let Some(place) = entry.slots.get_mut(usize::from(index))
                {
                    let before = std::mem::replace(place, slot);
                    left.retain(|l| (l.index, l.slot) != (index, slot));
                    // What was given up was removed.
                    if before != slot && before != NO_SLOT && slot != NO_SLOT {
                        left.push(Left { index, slot: before, sequence: line.sequence });
                    }
                }
            }
            Record::Cleared { index, slot, .. } => {
                if let Some(known) = &mut this {
                    known.left.retain(|l| (l.index, l.slot) != (index, slot));
                }
            }
            _ => {}
        }
        this
    }
}

/// The object whose shards a record is about.
pub(crate) fn about(record: &Record) -> Option<ObjectId> {
    match record {
        Record::Stored { object, .. } | Record::Moved { object, .. } | Record::Cleared { object, .. } => Some(*object),
        _ => None,
    }
}

/// All objects.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Those that are no packs, and packs that only a scan knows, by id.
    pub(crate) objects: BTreeMap<ObjectId, Entry>,
    /// Where the journal speaks of packs.
    pub(crate) packs: Mentions,
    /// Packs of which something was moved or stored anew since it was looked what is left over of them.
    pub(crate) moved: BTreeSet<ObjectId>,
    /// What is logged, in the order of the journal.
    pub(crate) log: Tree<Leaf>,
    /// What was freed: it is not taken back.
    pub(crate) released: FreedObjects,
    /// By pack: the remnant that has what is kept of it.
    pub(crate) thin: BTreeMap<ObjectId, ObjectId>,
    /// What remnants say of themselves, of those that were asked lately.
    pub(crate) heads: Mutex<BTreeMap<ObjectId, Head>>,
    /// There are more packs to be thinned, which can be.
    pub(crate) is_thinning: bool,
    /// Packs that could not be thinned when that was tried last.
    pub(crate) stuck: BTreeSet<ObjectId>,
    /// Releases that were not followed to their end.
    pub(crate) open_releases: BTreeSet<ObjectId>,
    /// The highest number of a release that was followed.
    pub(crate) followed: u64,
    /// How far the vault has aged,
    pub(crate) age: Age,
    /// and as far as the journal says so.
    pub(crate) noted_age: Age,
    /// By slot: drives that the journal says are not trusted.
    pub(crate) quarantine: BTreeMap<usize, Distrust>,
    /// Those that were found out, and the journal does not say so yet.
    pub(crate) untold: BTreeMap<usize, Distrust>,
    /// Those that were let in, and the journal does not say so yet.
    pub(crate) admitted: BTreeSet<usize>,
    /// What lies where shards were before they were moved.
    pub(crate) left: BTreeMap<ObjectId, Vec<Left>>,
}

/// A shard where it was before it was moved: it stays until the new one has proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) index: u8,
    pub(crate) slot: u8,
    /// The journal record that moved it.
    pub(crate) sequence: u64,
}

impl Index {
    /// Takes in what the journal record at `place` says.
    pub(crate) fn apply(&mut self, line: Line, place: u64) {
        match line.record {
            Record::Stored { object, .. } | Record::Moved { object, .. } | Record::Cleared { object, .. }
                if self.released.contains_key(&object) => {}
            Record::Stored { kind: ObjectKind::Pack, object, .. } => {
                // The journal knows what a scan knew.
                self.objects.remove(&object);
                if self.packs.of(object).len() > 0 {
                    self.moved.insert(object);
                }
                self.packs.insert(object, place);
            }
            Record::Stored { object, .. } => self.change(object, line),
            Record::Moved { object, .. } | Record::Cleared { object, .. } => {
                if self.objects.contains_key(&object) {
                    return self.change(object, line);
                }
                self.moved.insert(object);
                self.packs.insert(object, place);
            }
            Record::Released { kind, object, number } => {
                self.release(object, number);
                self.released.insert(object, Freed { kind, is_journaled: true });
            }
            Record::Thinned { pack, remnant, number } => self.thin(pack, remnant, number),
            Record::Settled { release } => drop(self.open_releases.remove(&release)),
            Record::Aged { boot, up_s, total_s } => {
                self.noted_age = Age { boot, up_s, total_s };
                // On opening it is all that is known; later it was known before it was written.
                if self.age.total_s <= total_s {
                    self.age = self.noted_age;
                }
            }
            Record::Quarantined { slot, why } => {
                let slot = usize::from(slot);
                self.untold.remove(&slot);
                self.quarantine.entry(slot).and_modify(|known| *known = why.max(*known)).or_insert(why);
            }
            Record::Admitted { slot } => {
                let slot = usize::from(slot);
                self.admitted.remove(&slot);
                self.quarantine.remove(&slot);
            }
        }
    }

    /// Takes in what a record says of an object that is known here.
    fn change(&mut self, object: ObjectId, line: Line) {
        let left = self.left.remove(&object).unwrap_or_default();
        let known = self.objects.remove(&object).map(|entry| Known { entry, left });
        let (is_new, sequence) = (known.as_ref().is_none_or(|known| known.entry.sequence == 0), line.sequence);
        let Some(Known { mut entry, left }) = Known::with(known, line) else { return };
        if entry.sequence == sequence {
            //= FORMAT#F30 the first record of each says where it stands
            entry.place = entry.place.or_else(|| self.log(entry.kind, object));
            if is_new {
                // What only a scan knew begins anew: that makes it older than it was by no second.
                entry.born_s = self.noted_age.total_s;
            }
            if is_new && entry.kind == ObjectKind::Release {
                self.open_releases.insert(object);
            }
        }
        if !left.is_empty() {
            self.left.insert(object, left);
        }
        self.objects.insert(object, entry);
    }

    /// Puts a remnant in the place of its pack, and of what stood for that until now, unless a scan knew of this one.
    fn thin(&mut self, pack: ObjectId, remnant: ObjectId, number: u64) {
        if self.thin.get(&pack) != Some(&remnant) {
            self.release(pack, number);
        }
        self.released.insert(pack, Freed { kind: ObjectKind::Pack, is_journaled: true });
        self.thin.insert(pack, remnant);
    }

    /// Takes an object out that a release freed.
    pub(crate) fn release(&mut self, object: ObjectId, number: u64) {
        let kind = self.objects.remove(&object).map_or(ObjectKind::Pack, |entry| entry.kind);
        self.left.remove(&object);
        self.released.entry(object).or_insert(Freed { kind, is_journaled: false });
        self.followed = self.followed.max(number);
        if let Some(remnant) = self.thin.remove(&object) {
            // The journal says only that some of it went.
            self.released.insert(object, Freed { kind, is_journaled: false });
            self.release(remnant, number);
        }
    }

    /// Puts what is logged behind all that is in the log: its place.
    fn log(&mut self, kind: ObjectKind, object: ObjectId) -> Option<u64> {
        let place = self.log.size();
        kind.is_logged().then(|| {
            self.log.push(Leaf::new(kind, object));
            place
        })
    }
}
