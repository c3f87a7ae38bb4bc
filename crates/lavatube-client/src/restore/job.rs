//! Jobs: batches of entries that one thread restores in one go.
//!
//! A job is a stretch of the tree of some megabytes that ends where a frame ends, so that no frame is opened by two
//! threads, and that touches few directories, so that few are open. It carries all it needs but a fetcher and the sink.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use lavatube_format::catalog::Place;
use lavatube_format::tree::{Entry, Kind};

use super::dirs::{DirNode, release};
use super::file::{End, FileError, FileWriter, existing};
use super::{Outcome, Rules, Stopped, name};
use crate::fetch::Fetcher;
use crate::meter::Meter;
use crate::sink::{Sink, SinkError};

struct Task<S: Sink> {
    dir: Arc<DirNode<S>>,
    entry: Entry,
    place: Option<Place>,
}

/// A batch of entries to restore.
pub struct Job<S: Sink> {
    tasks: VecDeque<Task<S>>,
    rules: Rules,
    stop: Arc<Stop>,
}

/// Why a restore ends early, once one of its jobs has found out: all others see it.
pub(super) type Stop = OnceLock<Stopped>;

impl<S: Sink> Job<S> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }
}

/// The job being collected.
pub(super) struct Batch<S: Sink> {
    tasks: VecDeque<Task<S>>,
    rules: Rules,
    stop: Arc<Stop>,
    bytes: u64,
    dirs: usize,
    frame: Option<(u32, u32)>,
}

const BYTES: u64 = 4 << 20;
const TASKS: usize = 256;
const DIRS: usize = 32;
/// A job whose frame does not end is cut at this many times its size.
const STRETCH: usize = 4;
/// Files with more references than this are read ahead by themselves.
const REFS_EXPECTED: usize = 256;

impl<S: Sink> Batch<S> {
    pub(super) fn new(rules: Rules) -> Self {
        Self { tasks: VecDeque::new(), rules, stop: Arc::default(), bytes: 0, dirs: 0, frame: None }
    }

    /// Why the restore ends early, if it does.
    pub(super) fn stopped(&self) -> Option<&Stopped> {
        self.stop.get()
    }

    /// Adds an entry; gives the job before it when that is large enough.
    pub(super) fn push(&mut self, fetcher: &mut Fetcher<'_>, dir: Arc<DirNode<S>>, entry: Entry) -> Option<Job<S>> {
        let content = if let Kind::File(content) = &entry.kind { Some(content) } else { None };
        let first = content.filter(|c| c.depth == 0).and_then(|c| c.refs.first());
        // A chunk that is not known is reported when it is wanted.
        let place = first.and_then(|r| fetcher.place(&r.id).ok());
        let frame = place.map(|p| (p.pack, p.frame_at));
        let over = |n: usize| self.bytes >= BYTES * n as u64 || self.tasks.len() >= TASKS * n || self.dirs >= DIRS * n;
        let job = if over(1) && (frame != self.frame || over(STRETCH)) { self.take() } else { None };
        self.bytes += content.map_or(0, |c| c.size);
        self.dirs += usize::from(self.tasks.back().is_none_or(|t| !Arc::ptr_eq(&t.dir, &dir)));
        self.frame = frame.or(self.frame);
        self.tasks.push_back(Task { dir, entry, place });
        job
    }

    /// Gives up what was collected.
    pub(super) fn abandon(&mut self, sink: &S, outcome: &mut Outcome) {
        let tasks = std::mem::take(&mut self.tasks);
        let Some(why) = self.stopped() else { return };
        for task in tasks {
            outcome.not_attempted(&task.entry.path, why);
            release(task.dir, sink, outcome);
        }
    }

    /// What was collected, if anything.
    pub(super) fn take(&mut self) -> Option<Job<S>> {
        let tasks = std::mem::take(&mut self.tasks);
        (self.bytes, self.dirs, self.frame) = (0, 0, None);
        (!tasks.is_empty()).then(|| Job { tasks, rules: self.rules, stop: Arc::clone(&self.stop) })
    }
}

/// Restores the entries of a job. What cannot be restored is in the outcome; everything else is there afterwards.
pub fn run_job<S: Sink>(job: Job<S>, fetcher: &mut Fetcher<'_>, sink: &S, meter: &Meter) -> Outcome {
    let mut outcome = Outcome::default();
    if job.stop.get().is_none() {
        expect(&job, fetcher);
    }
    let Job { mut tasks, rules, stop } = job;
    while let Some(task) = tasks.pop_front() {
        match stop.get() {
            Some(why) => {
                meter.errors.add(1);
                outcome.not_attempted(&task.entry.path, why);
            }
            None => run_task(&task.entry, &task.dir, rules, fetcher, sink, meter, &mut outcome),
        }
        if let Some(why) = &outcome.stopped {
            // The first to find out says why; the others see it.
            let _ = stop.set(why.clone());
        }
        release(task.dir, sink, &mut outcome);
    }
    outcome
}

/// Tells the fetcher what the whole job will ask for.
fn expect<S: Sink>(job: &Job<S>, fetcher: &mut Fetcher<'_>) {
    let mut places = Vec::with_capacity(job.tasks.len());
    for task in &job.tasks {
        places.extend(task.place);
        if let Kind::File(content) = &task.entry.kind
            && content.depth == 0
            && content.refs.len() <= REFS_EXPECTED
        {
            places.extend(content.refs.iter().skip(1).filter_map(|r| fetcher.place(&r.id).ok()));
        }
    }
    fetcher.expect(places);
}

/// Restores one entry that is no directory, and says so in `outcome` and `meter`.
pub(super) fn run_task<S: Sink>(
    entry: &Entry,
    dir: &DirNode<S>,
    rules: Rules,
    fetcher: &mut Fetcher<'_>,
    sink: &S,
    meter: &Meter,
    outcome: &mut Outcome,
) {
    let mut counted = 0;
    let end = match &entry.kind {
        Kind::File(content) => {
            let mut writer = FileWriter { fetcher, sink, dir: &dir.dir, rules, meter, counted: 0 };
            let end = writer.restore(entry, content, dir.fresh);
            counted = writer.counted;
            end
        }
        _ => special(entry, dir, rules, sink),
    };
    let size = if let Kind::File(content) = &entry.kind { Some(content.size) } else { None };
    match &end {
        Ok(End::Written(_)) if size.is_some() => {
            outcome.files += 1;
            outcome.bytes += size.unwrap_or(0);
        }
        Ok(End::Written(_)) => outcome.others += 1,
        Ok(End::AlreadyThere) => outcome.already_there += 1,
        Ok(End::Kept(_)) | Err(_) => meter.errors.add(1),
    }
    match &entry.kind {
        Kind::File(content) => meter.finish_file(content, counted),
        _ => meter.others.add(1),
    }
    match end {
        Ok(End::Written(warnings)) => outcome.warn(&entry.path, warnings),
        Ok(End::AlreadyThere) => {}
        Ok(End::Kept(reason)) => outcome.keep(&entry.path, reason),
        Err(e) => {
            if e.ends_all() {
                outcome.stopped = Some(Stopped { fault: e.fault(), reason: e.to_string() });
            }
            outcome.fail(&entry.path, e.fault(), e);
        }
    }
}

fn special<S: Sink>(entry: &Entry, dir: &DirNode<S>, rules: Rules, sink: &S) -> Result<End, FileError> {
    let name = name(&entry.path);
    let make = || sink.make_special(&dir.dir, name, &entry.kind, &entry.meta);
    match make() {
        Ok(warnings) => return Ok(End::Written(warnings)),
        Err(SinkError::Exists) => {}
        Err(e) => return Err(e.into()),
    }
    if let Some(end) = existing(sink, &dir.dir, entry, rules.overwrite)?.1 {
        return Ok(end);
    }
    sink.remove(&dir.dir, name)?;
    Ok(End::Written(make()?))
}
