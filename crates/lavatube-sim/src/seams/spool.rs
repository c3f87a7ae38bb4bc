//! The spool in memory: a map that loses what was not synced.
//!
//! What is put counts after a sync, wholly or not at all after a crash before it; a removal is durable at the next sync,
//! so that a crash may bring an object back. It must not know what the objects are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_base::{ObjectId, Verified};
use lavatube_client::spool::{Spool, SpoolError, SpoolKind};

use crate::book::Book;
use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::{Halt, Wires};

type Waiting = BTreeMap<(SpoolKind, u64), (ObjectId, Vec<u8>)>;

#[derive(Default)]
struct Media {
    live: Waiting,
    staged: Waiting,
    /// Removed, and not durably so.
    removed: Waiting,
    /// Said to be synced by a medium that lies.
    doubtful: Vec<(SpoolKind, u64)>,
    next: u64,
}

/// The spool of one machine; clones are the same spool.
#[derive(Clone)]
pub struct SimSpool {
    media: Arc<Mutex<Media>>,
    wires: Arc<Wires>,
    book: Arc<Book>,
    sabotage: Option<Sabotage>,
}

impl SimSpool {
    /// An empty spool whose traffic `book` takes note of.
    pub fn new(wires: &Arc<Wires>, book: &Arc<Book>, sabotage: Option<Sabotage>) -> Self {
        Self { media: Arc::default(), wires: wires.clone(), book: book.clone(), sabotage }
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power failed: each effect that was not synced has happened or not.
    pub fn lose_power(&self, chance: &mut Chance) {
        let mut media = self.media();
        for (key, object) in std::mem::take(&mut media.staged) {
            if chance.per_mille(500) {
                media.live.insert(key, object);
            }
        }
        for (key, object) in std::mem::take(&mut media.removed) {
            if chance.per_mille(500) {
                media.live.insert(key, object);
            }
        }
        for key in std::mem::take(&mut media.doubtful) {
            if chance.per_mille(500) {
                media.live.remove(&key);
            }
        }
    }

    /// A new process: what was staged by the one before is not there.
    pub fn reopen(&self) -> Self {
        self.media().staged.clear();
        self.clone()
    }

    /// Loses everything.
    pub fn wipe(&self) {
        *self.media() = Media::default();
    }

    /// Number of objects that wait.
    pub fn waiting(&self) -> usize {
        self.media().live.len()
    }

    /// Bytes that wait.
    pub fn waiting_len(&self) -> u64 {
        self.media().live.values().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Objects that wait, for an onlooker.
    pub fn ids(&self) -> BTreeSet<ObjectId> {
        self.media().live.values().map(|(id, _)| *id).collect()
    }

    /// An object that waits, without a trace.
    pub fn peek(&self, kind: SpoolKind, id: ObjectId) -> Option<Vec<u8>> {
        let media = self.media();
        let found = media.live.iter().find(|(key, (known, _))| key.0 == kind && *known == id);
        found.map(|(_, (_, bytes))| bytes.clone())
    }

    /// The name of an object in trace and story.
    fn name(&self, kind: SpoolKind, id: ObjectId) -> String {
        self.wires.label(&id.to_string()).unwrap_or_else(|| format!("{kind:?} {}", id.short()))
    }
}

fn failed(halt: Halt) -> SpoolError {
    match halt {
        Halt::Dead => SpoolError::Io("the process is dead".into()),
        Halt::Fault => SpoolError::Full,
    }
}

impl Spool for SimSpool {
    fn put(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<(), SpoolError> {
        self.book.leaves(kind, object);
        let (name, len) = (self.name(kind, object.id()), object.bytes().len() as u64);
        let go = self.wires.act("spool put", &name, len).map_err(failed)?;
        self.wires.search("the spool", object.bytes());
        let mut media = self.media();
        let known = |of: &Waiting| of.iter().any(|(key, (id, _))| key.0 == kind && *id == object.id());
        if !known(&media.live) && !known(&media.staged) {
            let turn = media.next;
            media.next += 1;
            media.staged.insert((kind, turn), (object.id(), object.bytes().to_vec()));
        }
        drop(media);
        go.done();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        let go = self.wires.act("spool sync", "", 0).map_err(|halt| {
            self.media().staged.clear();
            failed(halt)
        })?;
        if go.torn.is_none() {
            let mut media = self.media();
            let mut staged = std::mem::take(&mut media.staged);
            if self.sabotage == Some(Sabotage::SpoolForgets) {
                media.doubtful.extend(staged.keys());
            }
            media.live.append(&mut staged);
            media.removed.clear();
        }
        go.done();
        Ok(())
    }

    fn list(&self) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError> {
        self.wires.look("spool list", "").map_err(failed)?;
        Ok(self.media().live.iter().map(|((kind, _), (id, _))| (*kind, *id)).collect())
    }

    fn get(&self, kind: SpoolKind, id: ObjectId) -> Result<Vec<u8>, SpoolError> {
        self.wires.look("spool get", &self.name(kind, id)).map_err(failed)?;
        let media = self.media();
        let found = media.live.iter().find(|(key, (known, _))| key.0 == kind && *known == id);
        found.map(|(_, (_, bytes))| bytes.clone()).ok_or_else(|| SpoolError::Io("it does not wait here".into()))
    }

    fn remove(&mut self, kind: SpoolKind, id: ObjectId) -> Result<(), SpoolError> {
        let go = self.wires.act("spool remove", &self.name(kind, id), 0).map_err(failed)?;
        let mut media = self.media();
        let found = media.live.iter().find(|(key, (known, _))| key.0 == kind && *known == id).map(|(key, _)| *key);
        if let Some(key) = found
            && let Some(object) = media.live.remove(&key)
        {
            media.removed.insert(key, object);
        }
        drop(media);
        go.done();
        Ok(())
    }
}
