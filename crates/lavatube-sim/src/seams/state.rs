//! The depositor's state in memory: a map that keeps only what was committed.
//!
//! A commit, an append and a rename are durable when they return, as the contract says; an append in whose middle the
//! power fails leaves a prefix. A removal is durable only once something else of the same folder is: a crash before that
//! may bring the file back. It must not know what the files mean.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_client::state::{NewFile, State};

use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::{Halt, Wires};

#[derive(Default)]
struct Media {
    live: BTreeMap<String, Vec<u8>>,
    /// What a crash may bring back: files that were removed, or (with a lying medium) replaced.
    undone: BTreeMap<String, Option<Vec<u8>>>,
}

/// State files of one machine; clones are the same files.
#[derive(Clone)]
pub struct SimState {
    media: Arc<Mutex<Media>>,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
}

impl SimState {
    /// An empty state.
    pub fn new(wires: &Arc<Wires>, sabotage: Option<Sabotage>) -> Self {
        Self { media: Arc::default(), wires: wires.clone(), sabotage }
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power failed: what was not durable may or may not have happened.
    pub fn lose_power(&self, chance: &mut Chance) {
        let mut media = self.media();
        for (name, before) in std::mem::take(&mut media.undone) {
            if chance.per_mille(500) {
                match before {
                    Some(bytes) => drop(media.live.insert(name, bytes)),
                    None => drop(media.live.remove(&name)),
                }
            }
        }
    }

    /// Loses everything.
    pub fn wipe(&self) {
        *self.media() = Media::default();
    }

    /// All files as they are, to be put back one day.
    pub fn copy(&self) -> BTreeMap<String, Vec<u8>> {
        self.media().live.clone()
    }

    /// Somebody puts an older copy back.
    pub fn put_back(&self, live: BTreeMap<String, Vec<u8>>) {
        *self.media() = Media { live, ..Media::default() };
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.media().live.is_empty()
    }

    /// Names of all files with their lengths, for the story.
    pub fn files(&self) -> Vec<(String, usize)> {
        self.media().live.iter().map(|(name, bytes)| (name.clone(), bytes.len())).collect()
    }

    /// Puts bytes under a name; durable unless the medium lies.
    fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut media = self.media();
        let before = media.live.insert(name.to_owned(), bytes);
        if self.sabotage == Some(Sabotage::StateForgetsCommits) {
            media.undone.entry(name.to_owned()).or_insert(before);
        } else {
            media.settle(name);
        }
    }
}

impl Media {
    /// The folder of `name` was synced: removals in it are durable.
    fn settle(&mut self, name: &str) {
        let folder = |n: &str| n.rfind('/').map_or(String::new(), |at| n[..at].to_owned());
        let mine = folder(name);
        self.undone.retain(|n, _| folder(n) != mine);
    }
}

/// Names without what a random signature decides.
fn plain(name: &str) -> String {
    if name.starts_with("manifests/") {
        return name.split('-').take(2).collect::<Vec<_>>().join("-");
    }
    let folder = ["vaulted/", "cards/"].into_iter().find(|folder| name.starts_with(folder));
    folder.unwrap_or(name).to_owned()
}

fn failed(halt: Halt) -> io::Error {
    match halt {
        Halt::Dead => io::Error::other("the process is dead"),
        Halt::Fault => io::Error::from(io::ErrorKind::StorageFull),
    }
}

struct Beginning<'s> {
    state: &'s SimState,
    name: String,
    bytes: Vec<u8>,
}

impl Write for Beginning<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state.wires.look("state write", &plain(&self.name)).map_err(failed)?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Beginning<'_> {
    fn commit(self: Box<Self>) -> io::Result<()> {
        let Self { state, name, bytes } = *self;
        let go = state.wires.act("state commit", &plain(&name), bytes.len() as u64).map_err(failed)?;
        if go.torn.is_none_or(|n| n % 2 == 0) {
            state.put(&name, bytes);
        }
        go.done();
        Ok(())
    }
}

impl State for SimState {
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.wires.look("state read", &plain(name)).map_err(failed)?;
        let media = self.media();
        let file = media.live.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = usize::try_from(offset).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.wires.look("state len", &plain(name)).map_err(failed)?;
        Ok(self.media().live.get(name).map(|f| f.len() as u64))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile + '_>> {
        self.wires.look("state create", &plain(name)).map_err(failed)?;
        Ok(Box::new(Beginning { state: self, name: name.to_owned(), bytes: Vec::new() }))
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let go = self.wires.act("state append", &plain(name), bytes.len() as u64).map_err(failed)?;
        let part = go.torn.map_or(bytes.len(), |n| Chance::new(n).index(bytes.len() + 1));
        let mut media = self.media();
        if !media.live.contains_key(name) {
            media.settle(name);
        }
        media.live.entry(name.to_owned()).or_default().extend_from_slice(&bytes[..part]);
        drop(media);
        go.done();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let go = self.wires.act("state rename", &plain(from), 0).map_err(failed)?;
        if go.torn.is_none_or(|n| n % 2 == 0) {
            let bytes = self.media().live.remove(from).ok_or(io::ErrorKind::NotFound)?;
            self.put(to, bytes);
        }
        go.done();
        Ok(())
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.wires.look("state list", prefix).map_err(failed)?;
        Ok(self.media().live.keys().filter(|n| n.starts_with(prefix)).cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let go = self.wires.act("state remove", &plain(name), 0).map_err(failed)?;
        let mut media = self.media();
        if let Some(bytes) = media.live.remove(name) {
            media.undone.entry(name.to_owned()).or_insert(Some(bytes));
        }
        drop(media);
        go.done();
        Ok(())
    }
}
