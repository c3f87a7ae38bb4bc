//! Restoring: a snapshot's tree, or a part of it, into a folder. Steps 19 to 21 of the walk.
//!
//! One coordinator ([`Restore`]) walks the tree, makes directories and hands out [`Job`]s; any number of threads run
//! [`run_job`] with a fetcher each; hard links come last. Nothing that is there is overwritten without permission, no
//! symbolic link in the target is followed, and whatever was not restored is in the [`Outcome`] by path and reason
//! (promise P6). Run again after a cut it carries on: what has the right size and time counts as done, once its content
//! was compared where a power loss may have left only those. It must not know threads, nor what a folder really is.

mod dirs;
mod file;
mod job;
mod links;
mod plan;

pub use job::{Job, run_job};
pub use plan::Plan;

use std::sync::Arc;

use lavatube_base::ChunkId;
use lavatube_base::time::WallTime;
use lavatube_format::tree::{Entry, Kind};

use crate::fault::Fault;
use crate::fetch::Fetcher;
use crate::layers::{LostRange, Step, TreeError, TreeReader, is_within, read_snapshot};
use crate::meter::Meter;
use crate::sink::Sink;
use crate::source::Found;

use dirs::{DirNode, Dirs};
use job::Batch;
use links::Links;

/// Which entries to restore: by path in the tree and whether it is a directory. A directory that is not selected is
/// made all the same when something below it is.
pub type Select<'a> = dyn Fn(&[u8], bool) -> bool + Sync + 'a;

/// What to do with what is there already. Directories are never replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Leave it. An entry of the same kind, size and time counts as restored.
    Never,
    /// Replace it unless it has the same kind, size and time.
    IfChanged,
    /// Replace it.
    Always,
}

/// Why an entry is kept whose place a directory has: what is in that nobody was asked about.
pub const DIRECTORY_THERE: &str = "a directory of that name is there, which is never removed: move it away";

/// What to restore and how.
#[derive(Clone, Copy)]
pub struct RestoreRequest<'a> {
    /// The snapshot.
    pub snapshot: ChunkId,
    /// Only what is at and below this path of the tree.
    pub inside: Option<&'a [u8]>,
    /// Which entries.
    pub select: &'a Select<'a>,
    /// What to do with what is there.
    pub overwrite: Overwrite,
    /// A restore into the target was cut, and what it wrote may never have reached the medium: a file of the right size
    /// and time is compared before it counts as restored, and written again when it does not hold its content.
    pub doubt: bool,
    /// When the system started: what was changed before may have been cut by a power loss, and is compared too.
    pub booted: WallTime,
}

impl RestoreRequest<'_> {
    fn rules(&self) -> Rules {
        Rules { overwrite: self.overwrite, doubt: self.doubt, booted: self.booted }
    }
}

/// How what is there is treated; see [`RestoreRequest`].
#[derive(Debug, Clone, Copy)]
struct Rules {
    overwrite: Overwrite,
    doubt: bool,
    booted: WallTime,
}

impl Rules {
    /// Whether what was found may look like what it should be and not be it.
    fn doubts(&self, found: Option<&Found>) -> bool {
        self.doubt || found.is_some_and(|found| found.stamp.ctime < self.booted)
    }
}

/// Why a restore could not begin or go on at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot's record or a layer cannot be read, or the vault went away.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Nothing in the snapshot fits what was asked for.
    #[error("nothing in the snapshot fits what was asked for; nothing was restored")]
    Nothing,
}

/// An entry that was not restored, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Path in the tree.
    pub path: Vec<u8>,
    /// Whose fault it is.
    pub fault: Fault,
    /// Reason, for people.
    pub reason: String,
}

/// Why a restore ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Whose fault it is.
    pub fault: Fault,
    /// Reason, for people.
    pub reason: String,
}

/// Something that was restored but for a detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Path in the tree.
    pub path: Vec<u8>,
    /// What is missing.
    pub text: String,
}

/// What became of a restore or of one job of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Files written.
    pub files: u64,
    /// Directories made or opened.
    pub directories: u64,
    /// Symbolic links, pipes, devices and sockets made.
    pub others: u64,
    /// Further names given to files.
    pub links: u64,
    /// Apparent bytes of the files written.
    pub bytes: u64,
    /// Entries that were there already, with the right kind, size and time.
    pub already_there: u64,
    /// Entries left as they are because something else is there.
    pub kept: Vec<Failed>,
    /// Entries that could not be restored.
    pub failed: Vec<Failed>,
    /// Parts of the tree that cannot be read: which entries they have is not known.
    pub lost: Vec<LostRange>,
    /// The first thousand details that are missing.
    pub warnings: Vec<Warning>,
    /// How many details are missing.
    pub warnings_total: u64,
    /// Set when the restore ended early; what was not attempted is then not listed.
    pub stopped: Option<Stopped>,
}

const WARNINGS_MAX: usize = 1000;

impl Outcome {
    /// Whether everything that was asked for is there now, exactly.
    pub fn is_whole(&self) -> bool {
        self.kept.is_empty() && self.failed.is_empty() && self.lost.is_empty() && self.stopped.is_none()
    }

    /// Adds what another job did.
    pub fn absorb(&mut self, other: Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.others += other.others;
        self.links += other.links;
        self.bytes += other.bytes;
        self.already_there += other.already_there;
        self.kept.extend(other.kept);
        self.failed.extend(other.failed);
        self.lost.extend(other.lost);
        self.warnings_total += other.warnings_total;
        let room = WARNINGS_MAX - self.warnings.len();
        self.warnings.extend(other.warnings.into_iter().take(room));
        self.stopped = self.stopped.take().or(other.stopped);
    }

    fn fail(&mut self, path: &[u8], fault: Fault, reason: impl ToString) {
        self.failed.push(Failed { path: path.to_vec(), fault, reason: reason.to_string() });
    }

    fn not_attempted(&mut self, path: &[u8], why: &Stopped) {
        self.fail(path, why.fault, format!("not attempted: {}", why.reason));
    }

    fn keep(&mut self, path: &[u8], reason: &str) {
        self.kept.push(Failed { path: path.to_vec(), fault: Fault::Taken, reason: reason.to_owned() });
    }

    fn warn(&mut self, path: &[u8], texts: Vec<String>) {
        for text in texts {
            self.warnings_total += 1;
            if self.warnings.len() < WARNINGS_MAX {
                self.warnings.push(Warning { path: path.to_vec(), text });
            }
        }
    }
}

/// The coordinator of one restore.
pub struct Restore<'a, S: Sink> {
    sink: &'a S,
    request: RestoreRequest<'a>,
    meter: &'a Meter,
    reader: TreeReader,
    dirs: Dirs<S>,
    batch: Batch<S>,
    links: Links,
    outcome: Outcome,
    matched: bool,
    ended: bool,
}

impl<'a, S: Sink> Restore<'a, S> {
    /// Reads the snapshot's record and gets ready. The target keeps the last component of each source path (or of
    /// `inside`) and drops what is before it.
    ///
    /// # Errors
    /// [`RestoreError::Tree`] when the record or a layer cannot be read.
    pub fn begin(
        fetcher: &mut Fetcher<'_>,
        sink: &'a S,
        request: RestoreRequest<'a>,
        meter: &'a Meter,
    ) -> Result<Self, RestoreError> {
        let snapshot = read_snapshot(fetcher, &request.snapshot)?;
        let inside = request.inside.map(trim).filter(|p| !p.is_empty());
        let strip = match inside {
            Some(inside) => parent(inside).to_vec(),
            None => common_parent(&snapshot.paths),
        };
        if inside.is_none() {
            meter.files_total.set(snapshot.totals.files);
            meter.bytes_total.set(snapshot.totals.bytes);
        }
        let reader = TreeReader::open(fetcher, &snapshot, inside)?;
        Ok(Self {
            sink,
            request,
            meter,
            reader,
            dirs: Dirs::new(strip.clone()),
            batch: Batch::new(request.rules()),
            links: Links::new(strip),
            outcome: Outcome::default(),
            matched: false,
            ended: false,
        })
    }

    /// The next piece of work, or `None` when all was handed out. Jobs may run in any order and at the same time.
    ///
    /// # Errors
    /// [`RestoreError::Tree`] when the vault went away. Jobs that were handed out are still worth running.
    pub fn next_job(&mut self, fetcher: &mut Fetcher<'_>) -> Result<Option<Job<S>>, RestoreError> {
        while !self.ended && self.batch.stopped().is_none() {
            match self.reader.next(fetcher)? {
                Some(Step::Lost(lost)) => {
                    self.meter.errors.add(1);
                    self.outcome.lost.push(lost);
                }
                Some(Step::Entry(entry)) => {
                    if let Some(job) = self.take(fetcher, entry) {
                        return Ok(Some(job));
                    }
                }
                None => self.ended = true,
            }
        }
        self.dirs.close_all(self.sink, &mut self.outcome);
        if self.batch.stopped().is_some() {
            self.batch.abandon(self.sink, &mut self.outcome);
        }
        Ok(self.batch.take())
    }

    /// Takes note of what a job did.
    pub fn absorb(&mut self, report: Outcome) {
        self.outcome.absorb(report);
    }

    /// Makes the hard links, after all jobs were run and absorbed, and tells what became of the restore.
    ///
    /// # Errors
    /// [`RestoreError::Nothing`] when there was nothing to restore: an empty restore is no success.
    pub fn finish(mut self, fetcher: &mut Fetcher<'_>) -> Result<Outcome, RestoreError> {
        self.dirs.close_all(self.sink, &mut self.outcome);
        if self.outcome.stopped.is_none() {
            self.links.make(self.sink, fetcher, self.request.rules(), self.meter, &mut self.outcome);
        }
        if !self.matched && self.outcome.is_whole() {
            return Err(RestoreError::Nothing);
        }
        Ok(self.outcome)
    }

    fn take(&mut self, fetcher: &mut Fetcher<'_>, entry: Entry) -> Option<Job<S>> {
        let is_dir = entry.kind == Kind::Directory;
        let strip = self.dirs.root();
        // Directories above what was asked for are neither made nor changed.
        if !is_within(&entry.path, strip) || (entry.path == strip && !strip.is_empty()) {
            return None;
        }
        let selected = (self.request.select)(&entry.path, is_dir);
        self.matched |= selected;
        if is_dir {
            self.dirs.enter(&entry.path, entry.meta, self.sink, &mut self.outcome);
            if selected {
                self.make_dir();
            }
            return None;
        }
        if !selected {
            return None;
        }
        if entry.path.is_empty() {
            self.outcome.fail(&entry.path, Fault::Lost, "the tree says the root is no directory");
            return None;
        }
        self.dirs.enter_parent(&entry.path, self.sink, &mut self.outcome);
        let Some(dir) = self.open_dir() else {
            self.meter.errors.add(1);
            self.outcome.fail(&entry.path, Fault::Target, "its directory could not be made");
            return None;
        };
        let chosen = |first: &[u8]| {
            let inside = self.request.inside.map_or(&b""[..], trim);
            is_within(first, inside) && is_within(first, self.dirs.root()) && (self.request.select)(first, false)
        };
        if let Some(leader) = self.links.leader(&entry, chosen) {
            self.links.defer(entry, leader, &self.dirs);
            dirs::release(dir, self.sink, &mut self.outcome);
            return None;
        }
        self.batch.push(fetcher, dir, entry)
    }

    /// Makes the directory the walk has come to.
    fn make_dir(&mut self) {
        let failed = self.outcome.failed.len();
        match self.open_dir() {
            Some(dir) => {
                dirs::release(dir, self.sink, &mut self.outcome);
                self.outcome.directories += 1;
            }
            None => {
                self.meter.errors.add(1);
                if self.outcome.failed.len() == failed {
                    self.outcome.fail(self.dirs.path(), Fault::Target, "its directory could not be made");
                }
            }
        }
        self.meter.others.add(1);
    }

    fn open_dir(&mut self) -> Option<Arc<DirNode<S>>> {
        self.dirs.open(self.sink, self.request.overwrite, &mut self.outcome)
    }
}

/// Restores in one thread.
///
/// # Errors
/// As [`Restore::begin`], [`Restore::next_job`] and [`Restore::finish`].
pub fn restore<S: Sink>(
    fetcher: &mut Fetcher<'_>,
    sink: &S,
    request: RestoreRequest<'_>,
    meter: &Meter,
) -> Result<Outcome, RestoreError> {
    let mut restore = Restore::begin(fetcher, sink, request, meter)?;
    while let Some(job) = restore.next_job(fetcher)? {
        let report = run_job(job, fetcher, sink, meter);
        restore.absorb(report);
    }
    restore.finish(fetcher)
}

/// A path as trees have it: without slashes at its ends.
pub(crate) fn trim(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"/") {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    path
}

/// All of a path but its last component.
fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(&[], |slash| &path[..slash])
}

/// The last component of a path.
fn name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// The longest path that holds the parents of all `paths`.
fn common_parent(paths: &[Vec<u8>]) -> Vec<u8> {
    let mut parents = paths.iter().map(|p| parent(trim(p)));
    let mut common = parents.next().unwrap_or_default();
    for other in parents {
        while !is_within(other, common) {
            common = parent(common);
        }
    }
    common.to_vec()
}

#[cfg(test)]
mod tests;
