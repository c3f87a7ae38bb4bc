//! What was sent to a vault from which no word comes back: how often, and in which contact last. Step 9 of the walk.
//!
//! The objects stay in the spool, because nobody has receipted them. This is why a restart does not send them all once more, and
//! how a later contact knows what to repeat. It must not know what objects hold, nor where this is kept.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::{Instant, ObjectId};

/// Objects that were sent one way.
#[derive(Debug, Clone)]
pub struct Sent {
    /// How often, and when the contact began in which it was sent last.
    objects: BTreeMap<ObjectId, (u32, Instant)>,
    /// How often in all.
    times: u32,
}

impl Sent {
    /// These were sent; each object is to be sent `times` times.
    pub fn new(objects: BTreeMap<ObjectId, (u32, Instant)>, times: u32) -> Self {
        Self { objects, times }
    }

    /// How often each was sent, and when the contact began in which it was sent last.
    pub fn objects(&self) -> &BTreeMap<ObjectId, (u32, Instant)> {
        &self.objects
    }

    /// Whether an object is to be sent in the contact that began at `contact`.
    pub fn is_due(&self, id: ObjectId, contact: Instant) -> bool {
        self.objects.get(&id).is_none_or(|(times, last)| *times < self.times && *last < contact)
    }

    /// It was sent in that contact; how often by now.
    pub fn note(&mut self, id: ObjectId, contact: Instant) -> u32 {
        let times = self.objects.get(&id).map_or(0, |(times, _)| *times).saturating_add(1);
        self.objects.insert(id, (times, contact));
        times
    }

    /// Only these are still in the spool; whether that changes anything.
    pub fn retain(&mut self, here: &BTreeSet<ObjectId>) -> bool {
        let before = self.objects.len();
        self.objects.retain(|id, _| here.contains(id));
        self.objects.len() < before
    }
}
