//! A drive in memory: what is staged, what is seen, what is durable, and how it fails.
//!
//! After a crash each staged effect has happened or not, in any combination; an unsynced append left any prefix of its
//! bytes, or rubbish of that length. A drive may be in a mood for a run: dying, full, failing its syncs. It remembers
//! what the vault last put under each name, so that the atlas can tell how much of a stripe is intact. It must not know
//! what the vault means by its files, except for the kind byte of a shard: what a random signature decides stays out of
//! the trace, and no mood strikes at it first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lavatube_format::shard::{ObjectKind, parse_shard_name};
use lavatube_vault::{Drive, DriveError, PutMode, Space};

use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::{Go, Halt, Wires};

/// Files by name; sharing bytes makes copies of whole drives cheap.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// How a drive is during a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should be.
    #[default]
    Sound,
    /// After so many puts of packs it answers nothing but errors.
    Dying(u32),
    /// After so many puts of packs it takes no more.
    Full(u32),
    /// Its next sync that matters fails.
    FailsSync,
}

#[derive(Clone)]
enum Effect {
    /// Name, bytes, and what a crash draws for it by.
    Put(String, Arc<Vec<u8>>, String),
    Append(String, Arc<Vec<u8>>),
    Remove(String),
}

/// What is under the heads of a drive.
#[derive(Default)]
pub struct Platter {
    /// What a reader sees.
    pub live: Files,
    durable: Files,
    effects: Vec<Effect>,
    /// What the vault last put under each name, whatever became of it.
    pub put: Files,
    /// Ranges of files that cannot be read.
    pub unreadable: BTreeMap<String, Vec<Range<u64>>>,
    /// How it is in this run.
    pub mood: Mood,
    puts: u32,
    broken: bool,
    /// With lying drives: what files were before they were replaced.
    before: Files,
    /// Intact shards that were removed or replaced by other bytes.
    pub destroyed: Vec<String>,
}

impl Platter {
    /// A copy of what is durable, to be put back later.
    pub fn image(&self) -> Files {
        self.durable.clone()
    }

    /// Replaces everything by `files`, as when another drive is put into the slot.
    pub fn replace(&mut self, files: Files) {
        self.live = files.clone();
        self.durable = files;
        self.effects.clear();
        self.unreadable.clear();
        self.before.clear();
    }

    /// Changes a file where it lies.
    pub fn spoil(&mut self, name: &str, bytes: Option<Vec<u8>>) {
        match bytes {
            Some(bytes) => {
                let bytes = Arc::new(bytes);
                self.live.insert(name.to_owned(), bytes.clone());
                self.durable.insert(name.to_owned(), bytes);
            }
            None => {
                self.live.remove(name);
                self.durable.remove(name);
            }
        }
    }

    /// Whether the file is there, readable, and what the vault last put under its name.
    pub fn is_intact(&self, name: &str) -> bool {
        let readable = self.unreadable.get(name).is_none_or(Vec::is_empty);
        readable && self.live.get(name).is_some_and(|b| self.put.get(name).is_some_and(|p| Arc::ptr_eq(b, p) || b == p))
    }

    /// A process opens the drive: what the one before had staged is gone.
    pub fn reopen(&mut self) {
        self.effects.retain(|e| !matches!(e, Effect::Put(..)));
        (self.broken, self.puts) = (false, 0);
    }

    /// Time passes and the system writes back what it still holds: nothing is in doubt any more.
    pub fn write_back(&mut self) {
        self.reopen();
        self.settle();
    }

    /// The power failed.
    pub fn lose_power(&mut self, draw: &mut dyn FnMut(&str) -> Chance) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Put(name, bytes, lot) => {
                    if draw(&lot).per_mille(500) {
                        self.durable.insert(name, bytes);
                    }
                }
                Effect::Append(name, bytes) => {
                    let torn = tear(&bytes, &mut draw(&name));
                    let file = self.durable.entry(name).or_default();
                    *file = Arc::new([&file[..], &torn].concat());
                }
                Effect::Remove(name) => {
                    if draw(&name).per_mille(500) {
                        self.durable.remove(&name);
                    }
                }
            }
        }
        self.live = self.durable.clone();
        (self.broken, self.puts, self.mood) = (false, 0, Mood::Sound);
        self.before.clear();
    }

    fn settle(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Put(name, bytes, _) => {
                    if let Some(before) = self.live.insert(name.clone(), bytes.clone()) {
                        self.before.insert(name.clone(), before);
                    }
                    self.durable.insert(name, bytes);
                }
                Effect::Append(name, bytes) => {
                    let file = self.durable.entry(name).or_default();
                    *file = Arc::new([&file[..], &bytes[..]].concat());
                }
                Effect::Remove(name) => drop(self.durable.remove(&name)),
            }
        }
    }

    /// A sync that lies: everything is seen, nothing is durable.
    fn pretend(&mut self) {
        for effect in &self.effects {
            if let Effect::Put(name, bytes, _) = effect {
                self.live.insert(name.clone(), bytes.clone());
            }
        }
    }

    /// A sync that failed: what was staged is gone, of what was appended any part is there.
    fn give_up(&mut self, chance: &mut Chance) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Put(..) => {}
                Effect::Append(name, bytes) => {
                    let torn = tear(&bytes, chance);
                    let file = self.durable.entry(name.clone()).or_default();
                    *file = Arc::new([&file[..], &torn].concat());
                    self.live.insert(name, file.clone());
                }
                Effect::Remove(name) => drop(self.durable.remove(&name)),
            }
        }
        self.broken = true;
    }
}

/// What is left of an append that was not synced.
fn tear(bytes: &[u8], chance: &mut Chance) -> Vec<u8> {
    match chance.below(5) {
        0 => Vec::new(),
        1 => bytes.to_vec(),
        2 => chance.bytes(bytes.len()),
        3 => vec![0; chance.index(bytes.len() + 1)],
        _ => bytes[..chance.index(bytes.len() + 1)].to_vec(),
    }
}

/// A drive as the vault holds it. Clones are the same drive.
#[derive(Clone)]
pub struct SimDrive {
    slot: usize,
    seed: u64,
    platter: Arc<Mutex<Platter>>,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
    /// An onlooker's view: neither traced nor counted nor failing.
    quiet: bool,
}

impl SimDrive {
    /// An empty drive in `slot`.
    pub fn new(slot: usize, seed: u64, wires: &Arc<Wires>, sabotage: Option<Sabotage>) -> Self {
        Self { slot, seed, platter: Arc::default(), wires: wires.clone(), sabotage, quiet: false }
    }

    /// The same drive for an onlooker, who leaves no trace and meets no moods.
    pub fn quietly(&self) -> Self {
        Self { quiet: true, sabotage: None, ..self.clone() }
    }

    /// What is under its heads.
    pub fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power failed in crash number `crash`: draws hang on what was done, not on where it happened to be done.
    pub fn lose_power(&self, crash: u64) {
        let (seed, slot) = (self.seed, self.slot);
        let mut draw = |lot: &str| {
            let lot = if lot.starts_with("lot ") { lot.to_owned() } else { format!("drive {slot} {lot}") };
            Chance::named(seed, &lot, crash)
        };
        self.platter().lose_power(&mut draw);
    }

    /// The name of a file in the trace; the error is the name of one whose place hangs on a random signature.
    fn plain(&self, name: &str) -> Result<String, String> {
        if let Some((object, _)) = parse_shard_name(name)
            && let Some(label) = self.wires.label(&object.to_string())
        {
            return Err(label);
        }
        Ok(format!("drive {} {name}", self.slot))
    }

    /// Announces a change of a file; gives also what a crash draws for it by.
    fn act(&self, what: &str, name: &str, len: u64) -> Result<(Go<'_>, String), DriveError> {
        match self.plain(name) {
            Ok(plain) => Ok((self.wires.act(what, &plain, len).map_err(failed)?, name.to_owned())),
            Err(label) => {
                let (go, turn) = self.wires.act_numbered(what, &label, len).map_err(failed)?;
                Ok((go, format!("lot {label} {turn}")))
            }
        }
    }

    /// A call that only reads. Neither traced nor timed: how much is read hangs on which drive has which shard of a
    /// numbered object.
    fn look(&self) -> Result<(), DriveError> {
        if self.quiet {
            return Ok(());
        }
        self.wires.alive().map_err(failed)?;
        let platter = self.platter();
        match platter.mood {
            Mood::Dying(n) if platter.puts >= n => Err(DriveError::Io("input/output error".into())),
            _ => Ok(()),
        }
    }

    /// What the mood of the drive has against this call.
    fn mood(platter: &mut Platter, call: Call) -> Result<(), DriveError> {
        if platter.broken {
            return Err(DriveError::Io("the drive failed before and was not opened anew since".into()));
        }
        platter.puts += u32::from(call == Call::PutPack);
        match platter.mood {
            Mood::Dying(n) if platter.puts > n => {
                platter.broken = true;
                Err(DriveError::Io("input/output error".into()))
            }
            Mood::Full(n) if platter.puts > n && call == Call::PutPack => Err(DriveError::Full),
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    PutPack,
    Other,
}

fn failed(halt: Halt) -> DriveError {
    match halt {
        Halt::Dead => DriveError::Io("the process is dead".into()),
        Halt::Fault => DriveError::Io("input/output error".into()),
    }
}

/// Learns from the header of a shard what is put.
fn kind_of(name: &str, parts: &[&[u8]]) -> Option<ObjectKind> {
    parse_shard_name(name)?;
    ObjectKind::from_code(*parts.first()?.get(12)?)
}

impl Drive for SimDrive {
    fn put(&self, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError> {
        let bytes = parts.concat();
        let (go, lot) = self.act("put", name, bytes.len() as u64)?;
        self.wires.search(&format!("drive {}", self.slot), &bytes);
        let mut platter = self.platter();
        let pack = kind_of(name, parts) == Some(ObjectKind::Pack);
        Self::mood(&mut platter, if pack { Call::PutPack } else { Call::Other })?;
        if mode == PutMode::New && platter.live.get(name).is_some_and(|there| **there != bytes) {
            return Err(DriveError::Exists);
        }
        let bytes = Arc::new(bytes);
        if platter.is_intact(name) && platter.live.get(name) != Some(&bytes) {
            platter.destroyed.push(name.to_owned());
        }
        if parse_shard_name(name).is_some() {
            platter.put.insert(name.to_owned(), bytes.clone());
        }
        platter.unreadable.remove(name);
        platter.effects.push(Effect::Put(name.to_owned(), bytes, lot));
        drop(platter);
        go.done();
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DriveError> {
        let (go, _) = self.act("append", name, bytes.len() as u64)?;
        self.wires.search(&format!("drive {}", self.slot), bytes);
        let mut platter = self.platter();
        Self::mood(&mut platter, Call::Other)?;
        let file = platter.live.entry(name.to_owned()).or_default();
        *file = Arc::new([&file[..], bytes].concat());
        platter.effects.push(Effect::Append(name.to_owned(), Arc::new(bytes.to_vec())));
        drop(platter);
        go.done();
        Ok(())
    }

    fn sync(&self) -> Result<(), DriveError> {
        let redacted = |e: &Effect| matches!(e, Effect::Put(name, ..) if self.plain(name).is_err());
        let (some, all) = {
            let platter = self.platter();
            (platter.effects.iter().any(redacted), platter.effects.iter().all(redacted))
        };
        // Which drive has which shard of such an object hangs on its random id.
        let go = match some && all {
            true => self.wires.act_numbered("sync", "a drive", 0).map(|(go, _)| go),
            false => self.wires.act("sync", &format!("drive {}", self.slot), 0),
        };
        let go = go.map_err(|halt| {
            if halt == Halt::Fault {
                self.platter().give_up(&mut Chance::named(self.seed, "failed sync", self.slot as u64));
            }
            failed(halt)
        })?;
        let mut platter = self.platter();
        Self::mood(&mut platter, Call::Other)?;
        if platter.mood == Mood::FailsSync && !some {
            platter.give_up(&mut Chance::named(self.seed, "failed sync", self.slot as u64));
            return Err(DriveError::Io("could not be made durable: input/output error".into()));
        }
        if self.sabotage == Some(Sabotage::DrivesForgetSyncs) {
            platter.pretend();
        } else if go.torn.is_none() {
            platter.settle();
        }
        drop(platter);
        go.done();
        Ok(())
    }

    fn abandon(&self) {
        self.platter().effects.retain(|e| !matches!(e, Effect::Put(..)));
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        self.look()?;
        let platter = self.platter();
        let stale = self.sabotage == Some(Sabotage::DrivesReadStale);
        let old = if stale { platter.before.get(name) } else { None };
        let file = old.or_else(|| platter.live.get(name)).ok_or(DriveError::NotFound)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.len());
        let n = buf.len().min(file.len() - from);
        let hit = |r: &Range<u64>| r.start < offset + n as u64 && offset < r.end;
        if platter.unreadable.get(name).is_some_and(|ranges| ranges.iter().any(hit)) {
            return Err(DriveError::Io("input/output error (unreadable sector)".into()));
        }
        buf[..n].copy_from_slice(&file[from..from + n]);
        Ok(n)
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DriveError> {
        self.look()?;
        Ok(self.platter().live.get(name).map(|f| f.len() as u64))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str)) -> Result<(), DriveError> {
        self.look()?;
        let names: Vec<String> = self.platter().live.keys().filter(|n| n.starts_with(prefix)).cloned().collect();
        names.iter().for_each(|n| each(n));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DriveError> {
        let (go, _) = self.act("remove", name, 0)?;
        let mut platter = self.platter();
        Self::mood(&mut platter, Call::Other)?;
        let intact = platter.is_intact(name);
        if platter.live.remove(name).is_some() {
            platter.destroyed.extend(intact.then(|| name.to_owned()));
            platter.effects.push(Effect::Remove(name.to_owned()));
        }
        drop(platter);
        go.done();
        Ok(())
    }

    fn space(&self) -> Result<Space, DriveError> {
        Ok(Space { total: 1 << 40, free: 1 << 39 })
    }
}
