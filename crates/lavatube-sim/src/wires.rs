//! What every simulated seam is wired to: the virtual clock, the trace, the fuse and the list of secrets.
//!
//! Each seam call ticks the clock and goes into the trace, a BLAKE3 of all calls and outcomes. Calls that change
//! something are counted, and any of them may be the last: at the armed one the process dies by an unwinding panic with
//! [`Crash`] as its payload, before the effect, in the middle of it (where an effect can be torn) or after it; whatever
//! is called while the stack unwinds answers that it is dead. Reads change nothing, so a death at a read is a death at
//! the change after it and needs no counting.
//!
//! What a random signature decides stays out of the trace and does not tick: ML-DSA signing draws entropy of its own, so
//! the ids of manifests and cards, and with them the place of their shards, differ from run to run. Such objects have
//! numbers for names here ([`Wires::label`]), and reads of drives are neither traced nor timed. Where damage or a failing
//! drive meets such a shard, what follows may still differ in a few seeds of a hundred. It must not know what the seams do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lavatube_base::ObjectId;
use lavatube_base::time::WallTime;

/// The payload of the panic by which a simulated process dies.
#[derive(Debug)]
pub struct Crash;

/// Where in a call the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Nothing of the call happened.
    Before,
    /// A part of it happened, where that can be.
    During,
    /// All of it happened, and nobody was told.
    After,
}

/// A death that is going to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuse {
    /// At which changing call of the run, from 0.
    pub at: u64,
    /// Where in it.
    pub when: When,
}

/// Why a call did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    /// The process is dead; this is its stack unwinding.
    Dead,
    /// The medium fails this once.
    Fault,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Telling {
    /// Nothing but how it ended.
    #[default]
    Nothing,
    /// What happened.
    Story,
    /// What happened, and every call that is traced.
    EveryCall,
}

/// A call that goes on; to be ended with [`Go::done`].
#[must_use]
pub struct Go<'w> {
    wires: &'w Wires,
    /// Set when the process dies in the middle: draws what is left of the effect.
    pub torn: Option<u64>,
    dies: bool,
}

impl Go<'_> {
    /// The effect is there. The process dies here if it was to die after it.
    pub fn done(self) {
        if self.dies {
            self.wires.die();
        }
    }
}

struct Inner {
    now: u64,
    calls: u64,
    turns: BTreeMap<String, u64>,
    fuse: Option<Fuse>,
    fault: Option<u64>,
    dead: bool,
    trace: blake3::Hasher,
    traced: u64,
    story: Option<Vec<String>>,
    every_call: bool,
    labels: BTreeMap<String, String>,
    secrets: Secrets,
    leaks: Vec<String>,
}

/// The wires of one world.
pub struct Wires(Mutex<Inner>);

impl Wires {
    /// Wires at the beginning of virtual time, with as much of a story as somebody wants to read.
    pub fn new(telling: Telling) -> Self {
        Self(Mutex::new(Inner {
            now: BIRTH_NS,
            calls: 0,
            turns: BTreeMap::new(),
            fuse: None,
            fault: None,
            dead: false,
            trace: blake3::Hasher::new(),
            traced: 0,
            story: (telling != Telling::Nothing).then(Vec::new),
            every_call: telling == Telling::EveryCall,
            labels: BTreeMap::new(),
            secrets: Secrets::default(),
            leaks: Vec::new(),
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run of a process: it dies as `fuse` says; its `fault`-th changing call fails once.
    pub fn begin(&self, fuse: Option<Fuse>, fault: Option<u64>) {
        let mut inner = self.inner();
        (inner.calls, inner.fuse, inner.fault, inner.dead) = (0, fuse, fault, false);
        inner.turns.clear();
    }

    /// Ends a run; gives the number of its changing calls.
    pub fn end(&self) -> u64 {
        let mut inner = self.inner();
        (inner.fuse, inner.fault, inner.dead) = (None, None, false);
        inner.calls
    }

    /// The process dies between two calls: whatever is called while it goes answers that it is dead.
    pub fn kill(&self) {
        self.inner().dead = true;
    }

    /// Whether the process lives: for calls that leave no trace.
    ///
    /// # Errors
    /// [`Halt::Dead`].
    pub fn alive(&self) -> Result<(), Halt> {
        if self.inner().dead { Err(Halt::Dead) } else { Ok(()) }
    }

    /// A call that changes nothing.
    ///
    /// # Errors
    /// [`Halt::Dead`].
    pub fn look(&self, what: &str, name: &str) -> Result<(), Halt> {
        let mut inner = self.inner();
        if inner.dead {
            return Err(Halt::Dead);
        }
        inner.note(what, name, 0);
        inner.now += LOOK_NS;
        Ok(())
    }

    /// A call that changes something.
    ///
    /// # Errors
    /// [`Halt`]; then it changes nothing.
    pub fn act(&self, what: &str, name: &str, len: u64) -> Result<Go<'_>, Halt> {
        let mut inner = self.inner();
        if inner.dead {
            return Err(Halt::Dead);
        }
        inner.note(what, name, len);
        inner.now += ACT_NS;
        let number = inner.calls;
        inner.calls += 1;
        if inner.fault == Some(number) {
            inner.note("fault", name, number);
            inner.tell(|| format!("  {what} {name}: the medium fails"));
            return Err(Halt::Fault);
        }
        let when = inner.fuse.filter(|f| f.at == number).map(|f| f.when);
        if let Some(when) = when {
            inner.note("crash", name, number);
            inner.tell(|| format!("  CRASH at change {number}, {when:?}: {what} {name} ({len} bytes)"));
        }
        drop(inner);
        match when {
            Some(When::Before) => self.die(),
            Some(When::During) => Ok(Go { wires: self, torn: Some(number), dies: true }),
            Some(When::After) => Ok(Go { wires: self, torn: None, dies: true }),
            None => Ok(Go { wires: self, torn: None, dies: false }),
        }
    }

    /// As [`Self::act`], about an object that has a number for a name: which drive this is hangs on its random id, so a
    /// fault waits for the next call. Gives also how many such calls there were in this run.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn act_numbered(&self, what: &str, label: &str, len: u64) -> Result<(Go<'_>, u64), Halt> {
        let turn = {
            let mut inner = self.inner();
            if inner.fault == Some(inner.calls) {
                inner.fault = Some(inner.calls + 1);
            }
            let turn = inner.turns.entry(label.to_owned()).or_default();
            *turn += 1;
            *turn
        };
        Ok((self.act(what, label, len)?, turn))
    }

    fn die(&self) -> ! {
        self.inner().dead = true;
        // No panic hook is called: nothing is printed.
        std::panic::resume_unwind(Box::new(Crash))
    }

    /// Puts an outcome into the trace.
    pub fn outcome(&self, what: &str, n: u64) {
        self.inner().note("outcome", what, n);
    }

    /// What the wall clock says.
    pub fn now(&self) -> WallTime {
        wall(self.inner().now)
    }

    /// What a file system that ticks every `tick` nanoseconds stamps.
    pub fn stamp(&self, tick: u64) -> WallTime {
        let now = self.inner().now;
        wall(now - now % tick.max(1))
    }

    /// Lets time pass.
    pub fn pass(&self, ns: u64) {
        self.inner().now += ns;
    }

    /// Number of calls traced so far and the hash over them.
    pub fn trace(&self) -> (u64, [u8; 32]) {
        let inner = self.inner();
        (inner.traced, *inner.trace.finalize().as_bytes())
    }

    /// Adds a line to the story, if there is one.
    pub fn tell(&self, line: impl FnOnce() -> String) {
        if self.inner().story.is_some() {
            // Made while nothing is locked: a line may ask for names.
            let line = line();
            self.inner().tell(|| line);
        }
    }

    /// The story so far.
    pub fn story(&self) -> Vec<String> {
        self.inner().story.clone().unwrap_or_default()
    }

    /// A name for object `id` that a random signature does not change: manifests and cards are numbered.
    pub fn name_object(&self, id: &str, numbered: Option<&str>) {
        let mut inner = self.inner();
        if let Some(kind) = numbered
            && !inner.labels.contains_key(id)
        {
            let number = inner.labels.values().filter(|l| l.starts_with(kind)).count() + 1;
            inner.labels.insert(id.to_owned(), format!("{kind} {number}"));
        }
    }

    /// The label of an object whose id depends on a random signature; `None` for a pack.
    pub fn label(&self, id: &str) -> Option<String> {
        self.inner().labels.get(id).cloned()
    }

    /// The name of an object for people.
    pub fn called(&self, id: &ObjectId) -> String {
        self.label(&id.to_string()).unwrap_or_else(|| format!("pack {}", id.short()))
    }

    /// Bytes that must never leave the machine in clear.
    pub fn keep_secret(&self, what: &str, bytes: &[u8]) {
        self.inner().secrets.keep(what, bytes);
    }

    /// Looks for secrets in bytes that `place` was given.
    pub fn search(&self, place: &str, bytes: &[u8]) {
        let mut inner = self.inner();
        let found = inner.secrets.find(bytes).map(|what| format!("{what} is in clear in {place}"));
        inner.leaks.extend(found);
    }

    /// Secrets that were found where they must not be.
    pub fn leaks(&self) -> Vec<String> {
        self.inner().leaks.clone()
    }
}

impl Inner {
    fn note(&mut self, what: &str, name: &str, n: u64) {
        self.traced += 1;
        if self.every_call {
            self.tell(|| format!("      {what} {name} {n}"));
        }
        self.trace.update(what.as_bytes()).update(&[0]).update(name.as_bytes()).update(&[0]).update(&n.to_le_bytes());
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        let now = self.now - BIRTH_NS;
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9}.{:03} s  {}", now / 1_000_000_000, now / 1_000_000 % 1000, line()));
        }
    }
}

/// Looks for several secrets in one pass.
#[derive(Default)]
struct Secrets {
    all: Vec<(String, Vec<u8>)>,
    /// By their first two bytes.
    by_start: BTreeMap<[u8; 2], Vec<usize>>,
    starts: Vec<bool>,
}

impl Secrets {
    fn keep(&mut self, what: &str, secret: &[u8]) {
        if let Some(start) = secret.first_chunk::<2>() {
            self.starts.resize(1 << 16, false);
            self.starts[usize::from(u16::from_le_bytes(*start))] = true;
            self.by_start.entry(*start).or_default().push(self.all.len());
            self.all.push((what.to_owned(), secret.to_vec()));
        }
    }

    fn find(&self, bytes: &[u8]) -> Option<&str> {
        for (at, start) in bytes.windows(2).enumerate() {
            let start = [start[0], start[1]];
            if self.starts.get(usize::from(u16::from_le_bytes(start))) == Some(&true) {
                let here = |n: &&usize| bytes[at..].starts_with(&self.all[**n].1);
                if let Some(n) = self.by_start.get(&start).and_then(|list| list.iter().find(here)) {
                    return Some(&self.all[*n].0);
                }
            }
        }
        None
    }
}

fn wall(ns: u64) -> WallTime {
    let s = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    WallTime { s, ns: u32::try_from(ns % 1_000_000_000).unwrap_or(0) }
}

/// 2026-11-23, in nanoseconds since 1970.
const BIRTH_NS: u64 = 1_795_392_000 * 1_000_000_000;
/// What a read takes.
const LOOK_NS: u64 = 20_000;
/// What a change takes.
const ACT_NS: u64 = 90_000;
