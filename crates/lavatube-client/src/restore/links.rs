//! Hard links: further names of files (of links and devices, too), made when all first names are there.
//!
//! The first name that is restored becomes the file, whichever of its names that is; the others are linked to it. When
//! that name was kept or failed, or the target cannot link, the next one is restored as a file of its own from its own
//! record: a link never leads to something that was not restored. It must not know jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lavatube_format::tree::{Entry, Kind, Meta, path_order};

use super::dirs::{DirNode, Dirs};
use super::file::{End, existing};
use super::job::run_task;
use super::{Outcome, Overwrite, Rules, name, parent};
use crate::fault::Fault;
use crate::fetch::Fetcher;
use crate::meter::Meter;
use crate::sink::{Sink, SinkError};

struct Link {
    entry: Entry,
    leader: Vec<u8>,
}

/// The hard links that wait.
pub(super) struct Links {
    strip: Vec<u8>,
    /// First name of a group that is not restored itself → the name that stands for it.
    leaders: BTreeMap<Vec<u8>, Vec<u8>>,
    links: Vec<Link>,
    /// Metadata of the directories with links and of those above: adding a name changes a directory's times.
    dirs: BTreeMap<Vec<u8>, Option<Meta>>,
}

impl Links {
    /// Links below path `strip` of the tree.
    pub(super) fn new(strip: Vec<u8>) -> Self {
        Self { strip, leaders: BTreeMap::new(), links: Vec::new(), dirs: BTreeMap::new() }
    }

    /// The name that `entry` is to be linked to, or `None` when it is to be a file itself. `chosen` tells whether a
    /// path is restored.
    pub(super) fn leader(&mut self, entry: &Entry, chosen: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let first = entry.meta.first_link.as_ref()?;
        if let Some(leader) = self.leaders.get(first) {
            return Some(leader.clone());
        }
        if chosen(first) {
            return Some(first.clone());
        }
        self.leaders.insert(first.clone(), entry.path.clone());
        None
    }

    /// Puts a link off until all files are there.
    pub(super) fn defer<S: Sink>(&mut self, entry: Entry, leader: Vec<u8>, dirs: &Dirs<S>) {
        for (path, meta) in dirs.present() {
            if !self.dirs.contains_key(path) {
                self.dirs.insert(path.to_vec(), meta.cloned());
            }
        }
        self.links.push(Link { entry, leader });
    }

    /// Makes all links.
    pub(super) fn make<S: Sink>(
        self,
        sink: &S,
        fetcher: &mut Fetcher<'_>,
        rules: Rules,
        meter: &Meter,
        outcome: &mut Outcome,
    ) {
        if self.links.is_empty() {
            return;
        }
        let Self { strip, links, dirs: metas, .. } = self;
        let bad = outcome.failed.iter().chain(&outcome.kept).map(|f| f.path.clone()).collect();
        let mut maker = Maker { sink, strip: &strip, bad, moved: BTreeMap::new(), rules };
        let mut dirs = Dirs::<S>::new(strip.clone());
        // Links were put off in the order of the tree, so each directory is come to once.
        let mut todo: Vec<(&Vec<u8>, Option<Link>)> = metas.keys().map(|path| (path, None)).collect();
        let homes: Vec<Vec<u8>> = links.iter().map(|l| parent(&l.entry.path).to_vec()).collect();
        todo.extend(homes.iter().zip(links).map(|(home, link)| (home, Some(link))));
        todo.sort_by(|a, b| path_order(a.0, b.0).then(a.1.is_some().cmp(&b.1.is_some())));
        for (path, link) in todo {
            let Some(link) = link else {
                if let Some(Some(meta)) = metas.get(path) {
                    dirs.enter(path, meta.clone(), sink, outcome);
                }
                continue;
            };
            dirs.enter_parent(&link.entry.path, sink, outcome);
            let Some(dir) = dirs.open(sink, rules.overwrite, outcome) else {
                meter.errors.add(1);
                outcome.fail(&link.entry.path, Fault::Target, "its directory could not be opened again");
                continue;
            };
            maker.link(link, &dir, fetcher, meter, outcome);
            super::dirs::release(dir, sink, outcome);
            if outcome.stopped.is_some() {
                break;
            }
        }
        dirs.close_all(sink, outcome);
    }
}

struct Maker<'m, S: Sink> {
    sink: &'m S,
    strip: &'m [u8],
    /// Names under which there is not what was to be restored.
    bad: BTreeSet<Vec<u8>>,
    /// Bad leader → the name that took its place.
    moved: BTreeMap<Vec<u8>, Vec<u8>>,
    rules: Rules,
}

impl<S: Sink> Maker<'_, S> {
    fn link(
        &mut self,
        link: Link,
        dir: &Arc<DirNode<S>>,
        fetcher: &mut Fetcher<'_>,
        meter: &Meter,
        outcome: &mut Outcome,
    ) {
        let Link { entry, leader } = link;
        let target = match self.moved.get(&leader) {
            Some(moved) => Some(moved),
            None if self.bad.contains(&leader) => None,
            None => Some(&leader),
        };
        let linked = target.map(|target| self.link_to(target, dir, &entry));
        match linked {
            Some(Ok(End::Written(_))) => outcome.links += 1,
            Some(Ok(End::AlreadyThere)) => outcome.already_there += 1,
            Some(Ok(End::Kept(reason))) => {
                meter.errors.add(1);
                outcome.keep(&entry.path, reason);
                return;
            }
            Some(Err(_)) | None => {
                if let Some(Err(e)) = linked {
                    outcome.warn(&entry.path, vec![format!("is a file of its own instead of a hard link: {e}")]);
                }
                let before = outcome.failed.len() + outcome.kept.len();
                run_task(&entry, dir, self.rules, fetcher, self.sink, meter, outcome);
                if outcome.failed.len() + outcome.kept.len() == before {
                    self.moved.insert(leader, entry.path);
                }
                return;
            }
        }
        match &entry.kind {
            Kind::File(content) => meter.finish_file(content, 0),
            _ => meter.others.add(1),
        }
    }

    fn link_to(&self, target: &[u8], dir: &DirNode<S>, entry: &Entry) -> Result<End, SinkError> {
        let below = target.strip_prefix(self.strip).unwrap_or(target);
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let name = name(&entry.path);
        match self.sink.hard_link(below, &dir.dir, name) {
            Ok(()) => {}
            Err(SinkError::Exists) => {
                let (found, end) = existing(self.sink, &dir.dir, entry, self.rules.overwrite)?;
                match end {
                    // The first name's content was compared; that this is another name of it is not known.
                    Some(End::AlreadyThere) if self.rules.doubts(found.as_ref()) => {}
                    Some(end) => return Ok(end),
                    None => {}
                }
                self.sink.remove(&dir.dir, name)?;
                self.sink.hard_link(below, &dir.dir, name)?;
            }
            Err(e) => return Err(e),
        }
        // Under the first name there may be something the tree knows nothing of.
        if let (_, Some(End::AlreadyThere)) = existing(self.sink, &dir.dir, entry, Overwrite::Never)? {
            return Ok(End::Written(Vec::new()));
        }
        self.sink.remove(&dir.dir, name)?;
        Err(SinkError::Io("what is under its first name is not the file".into()))
    }
}
