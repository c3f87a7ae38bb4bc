//! `BucketDrive`: a prefix of a bucket as a [`Drive`] of the vault. Steps 15 and 16 of the walk.
//!
//! A put of a new file begins at once, so that all drives are written at the same time, and [`Drive::sync`] waits for the endpoint's word on every one. What replaces a file waits in
//! memory for the sync. What the endpoint says it got is compared, or read back. An endpoint that is gone is not asked again for a while: the vault goes on with the others. It must not
//! know what a shard or a journal is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lavatube_base::limits::{BUCKET_FILE_LEN_MAX, BUCKET_PIECES_LISTED_MAX, BUCKET_STAGED_LEN_MAX};
use lavatube_format::bucket::{PROBE, Piece, Probed};
use lavatube_vault::drive::{Drive, DriveError, PutMode, ReadingMeter, ReadingTime, Space};

use crate::objects::{Condition, Echo, Fault, Objects, Waiting};
use crate::pieces::{Pieces, Step};
use crate::probe;
use crate::refusals::Refusals;

/// How a drive in a bucket is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// To read and to write: the endpoint is tried.
    ToWrite,
    /// To read: what it has shown before is remembered.
    ToRead,
}

/// A prefix of a bucket that holds what the vault writes.
pub struct BucketDrive {
    objects: Box<dyn Objects>,
    /// With a slash at its end, or empty.
    prefix: String,
    opened: Opened,
    probed: Option<Probed>,
    size: Option<u64>,
    state: Mutex<State>,
    /// Names of new files that are put and not synced: they are not seen.
    unseen: Mutex<BTreeSet<String>>,
    /// Until when the endpoint is not asked.
    down: Mutex<Option<Instant>>,
    /// Objects that it does not give back.
    refusals: Refusals,
    reading: ReadingMeter,
}

/// What was asked for since the last sync, and what is known of the bucket.
#[derive(Default)]
struct State {
    begun: Vec<Begun>,
    begun_len: usize,
    /// New files that have ended well: taken away if all is abandoned.
    made: Vec<String>,
    replaced: BTreeMap<String, Arc<Vec<u8>>>,
    replaced_len: usize,
    pieces: BTreeMap<String, Option<Pieces>>,
    /// Bytes in the bucket below the prefix, where a size is set.
    used: Option<u64>,
    /// What broke: nothing is written any more until the drive is opened anew.
    broken: Option<DriveError>,
}

/// What a put is of.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A file that was not there.
    New(String),
    /// A piece: nothing else ever has its key.
    Piece,
    /// What takes the place of another.
    Instead,
}

/// A put under way.
struct Begun {
    key: String,
    kind: Kind,
    bytes: Arc<Vec<u8>>,
    waiting: Waiting,
}

impl BucketDrive {
    /// Opens the drive below `prefix`. There is one writer at a time; callers hold a lock.
    ///
    /// # Errors
    /// [`Fault::Gone`] when the endpoint cannot be reached; else what it said.
    pub fn open(objects: Box<dyn Objects>, prefix: &str, size: Option<u64>, opened: Opened) -> Result<Self, Fault> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let probed = match opened {
            Opened::ToWrite => Some(probe::probe(&*objects, &prefix)?),
            Opened::ToRead => probe::remembered(&*objects, &prefix)?,
        };
        Ok(Self {
            objects,
            prefix,
            opened,
            probed,
            size,
            state: Mutex::default(),
            unseen: Mutex::default(),
            down: Mutex::default(),
            refusals: Refusals::default(),
            reading: Default::default(),
        })
    }

    /// What the endpoint has shown of itself; `None` when it was never tried.
    pub fn probed(&self) -> Option<&Probed> {
        self.probed.as_ref()
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What is staged, when writing is still allowed.
    fn writing(&self) -> Result<MutexGuard<'_, State>, DriveError> {
        if self.opened == Opened::ToRead {
            return Err(DriveError::Io("the drive was opened for reading only".into()));
        }
        let state = lock(&self.state);
        match &state.broken {
            None => Ok(state),
            Some(e) => Err(DriveError::Io(format!("the drive failed before and was not opened anew since: {e}"))),
        }
    }

    /// Asks the endpoint, unless it was found gone a moment ago.
    fn ask<T>(&self, act: impl FnOnce() -> Result<T, Fault>) -> Result<T, DriveError> {
        self.check_up()?;
        self.heed(act())
    }

    fn check_up(&self) -> Result<(), DriveError> {
        let is_down = lock(&self.down).is_some_and(|until| Instant::now() < until);
        if is_down { Err(DriveError::Gone) } else { Ok(()) }
    }

    /// Remembers an endpoint that is gone.
    fn heed<T>(&self, answer: Result<T, Fault>) -> Result<T, DriveError> {
        match &answer {
            Err(Fault::Gone(_)) => *lock(&self.down) = Some(Instant::now() + DOWN_FOR),
            _ => *lock(&self.down) = None,
        }
        answer.map_err(blame)
    }

    /// Begins a put, after waiting until what is under way leaves room for it.
    fn begin(&self, state: &mut State, key: String, kind: Kind, bytes: Arc<Vec<u8>>) -> Result<(), DriveError> {
        while !state.begun.is_empty()
            && (state.begun_len + bytes.len() > BUCKET_STAGED_LEN_MAX || state.begun.len() >= PUTS_MAX)
        {
            let first = state.begun.remove(0);
            self.end_put(state, first)?;
        }
        let heeds = self.probed.as_ref().is_some_and(|p| p.conditional_put);
        if matches!(kind, Kind::New(_)) && !heeds && self.ask(|| self.objects.len(&key))?.is_some() {
            // Where the endpoint does not look, we do.
            return if self.is_same(&key, &bytes)? { Ok(()) } else { Err(DriveError::Exists) };
        }
        let when = if kind != Kind::Instead && heeds { Condition::New } else { Condition::Always };
        self.check_up()?;
        let waiting = self.objects.put(&key, bytes.clone(), when);
        self.refusals.forget(&key);
        state.begun_len += bytes.len();
        state.begun.push(Begun { key, kind, bytes, waiting });
        Ok(())
    }

    /// Waits for a put, and makes sure that the endpoint has what was sent.
    fn end_put(&self, state: &mut State, put: Begun) -> Result<(), DriveError> {
        state.begun_len -= put.bytes.len();
        // Whatever is known of the endpoint meanwhile: a put that is not waited for might come after later ones.
        match self.heed((put.waiting)()) {
            Ok(Echo::Same) => {}
            Ok(Echo::Other) => {
                return Err(DriveError::Io(format!("the endpoint says that it got other bytes for {}", put.key)));
            }
            //= FORMAT#F56
            Ok(Echo::Silent) => {
                if !self.is_same(&put.key, &put.bytes)? {
                    return Err(DriveError::Io(format!("the endpoint gives back other bytes for {}", put.key)));
                }
            }
            // It may be our own, of a try whose answer was lost.
            Err(DriveError::Exists) if self.is_same(&put.key, &put.bytes)? => return Ok(()),
            Err(e) => return Err(e),
        }
        if let Some(used) = &mut state.used {
            *used = used.saturating_add(put.bytes.len() as u64);
        }
        if let Kind::New(name) = put.kind {
            state.made.push(name);
        }
        Ok(())
    }

    fn end_all(&self, state: &mut State) -> Result<(), DriveError> {
        let begun = std::mem::take(&mut state.begun);
        let mut result = Ok(());
        // All are waited for, so that none comes late.
        for put in begun {
            let ended = self.end_put(state, put);
            result = result.and(ended);
        }
        result
    }

    fn is_same(&self, key: &str, bytes: &[u8]) -> Result<bool, DriveError> {
        if self.ask(|| self.objects.len(key))? != Some(bytes.len() as u64) {
            return Ok(false);
        }
        Ok(self.ask(|| self.objects.get_whole(key, bytes.len()))? == bytes)
    }

    /// Refuses what would be more than the drive is to hold.
    fn check_room(&self, state: &mut State, len: usize) -> Result<(), DriveError> {
        let Some(size) = self.size else { return Ok(()) };
        let used = self.used(state)?;
        let staged = (state.begun_len + state.replaced_len + len) as u64;
        if used.saturating_add(staged) > size { Err(DriveError::Full) } else { Ok(()) }
    }

    /// Bytes below the prefix: counted once, then kept.
    fn used(&self, state: &mut State) -> Result<u64, DriveError> {
        if let Some(used) = state.used {
            return Ok(used);
        }
        let mut used = 0u64;
        self.ask(|| self.objects.list(&self.prefix, &mut |_, len| used = used.saturating_add(len)))?;
        state.used = Some(used);
        Ok(used)
    }

    /// The pieces of a file that is appended to.
    fn pieces<'s>(&self, state: &'s mut State, name: &str) -> Result<&'s mut Option<Pieces>, DriveError> {
        if !state.pieces.contains_key(name) {
            let (mut all, mut too_many) = (Vec::new(), false);
            let below = format!("{}/", self.key(name));
            self.ask(|| {
                self.objects.list(&below, &mut |key, len| {
                    let piece = key.strip_prefix(&self.prefix).and_then(|key| Piece::parse(name, key));
                    // A piece of another length than its name says is none.
                    if let Some(piece) = piece.filter(|piece| u64::from(piece.len) == len) {
                        too_many |= all.len() >= BUCKET_PIECES_LISTED_MAX;
                        all.extend(Some(piece).filter(|_| !too_many));
                    }
                })
            })?;
            if too_many {
                return Err(DriveError::Io(format!("{name} is in more than {BUCKET_PIECES_LISTED_MAX} pieces")));
            }
            state.pieces.insert(name.to_owned(), Pieces::of(all));
        }
        Ok(state.pieces.entry(name.to_owned()).or_default())
    }

    fn read_pieces(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        let steps = {
            let mut state = lock(&self.state);
            let pieces = self.pieces(&mut state, name)?;
            pieces.as_ref().ok_or(DriveError::NotFound)?.steps(offset, buf.len())
        };
        let mut filled = 0;
        for step in steps {
            let len = match step {
                Step::Hole(len) => {
                    buf[filled..filled + len].fill(0);
                    len
                }
                Step::Read(piece, from, len) => {
                    let read = self.read_object(&piece.name(name), from, &mut buf[filled..filled + len]);
                    match read {
                        // A piece that cannot be read is a hole: what follows it keeps its place.
                        Ok(read) => buf[filled + read..filled + len].fill(0),
                        Err(DriveError::NotFound) => buf[filled..filled + len].fill(0),
                        Err(e) => return Err(e),
                    }
                    len
                }
            };
            filled += len;
        }
        Ok(filled)
    }

    fn read_object(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        if buf.is_empty() {
            return Ok(0);
        }
        let key = self.key(name);
        let begin = Instant::now();
        self.refusals.check(&key, begin)?;
        let bytes = self.ask(|| self.get(&key, offset, buf.len()));
        self.refusals.note(&key, &bytes, begin, Instant::now());
        let bytes = bytes?;
        let read = bytes.len().min(buf.len());
        buf[..read].copy_from_slice(&bytes[..read]);
        Ok(read)
    }

    fn get(&self, key: &str, offset: u64, len: usize) -> Result<Vec<u8>, Fault> {
        let has_ranges = self.probed.as_ref().is_none_or(|p| p.ranges);
        if has_ranges {
            return self.objects.get(key, offset..offset.saturating_add(len as u64));
        }
        let whole = self.objects.get_whole(key, BUCKET_FILE_LEN_MAX)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole[from..whole.len().min(from.saturating_add(len))].to_vec())
    }

    /// Waits for all, then replaces what is to be replaced.
    fn settle(&self, state: &mut State) -> Result<(), DriveError> {
        self.end_all(state)?;
        let replaced = std::mem::take(&mut state.replaced);
        state.replaced_len = 0;
        let mut appended = Vec::new();
        for (name, bytes) in replaced {
            if is_appended(&name) {
                let generation = self.pieces(state, &name)?.as_ref().map_or(0, |pieces| pieces.generation);
                let generation = generation.checked_add(1).ok_or(DriveError::Full)?;
                let len = u32::try_from(bytes.len()).map_err(|_| DriveError::Full)?;
                let piece = Piece { generation, offset: 0, len };
                self.begin(state, self.key(&piece.name(&name)), Kind::Piece, bytes)?;
                appended.push((name, piece));
            } else {
                self.begin(state, self.key(&name), Kind::Instead, bytes)?;
            }
        }
        self.end_all(state)?;
        for (name, piece) in appended {
            let mut new = Pieces::one(piece);
            if let Some(Some(old)) = state.pieces.remove(&name) {
                new.stale.extend(old.iter().chain(old.stale.iter().copied()));
            }
            state.pieces.insert(name, Some(new));
        }
        state.made.clear();
        lock(&self.unseen).clear();
        self.tidy(state);
        Ok(())
    }

    /// Makes many pieces few, and takes away what counts for nothing. Best effort: all that matters is durable already.
    fn tidy(&self, state: &mut State) {
        let names: Vec<String> = state.pieces.keys().cloned().collect();
        for name in names {
            while let Some(joined) = state.pieces.get(&name).and_then(|p| p.as_ref()?.to_join()) {
                if self.join(state, &name, joined).is_err() {
                    break;
                }
            }
            let Some(Some(pieces)) = state.pieces.get_mut(&name) else { continue };
            let removed = |piece: &Piece| self.ask(|| self.objects.delete(&self.key(&piece.name(&name)))).is_ok();
            pieces.stale.retain(|piece| !removed(piece));
        }
    }

    fn join(&self, state: &mut State, name: &str, joined: Piece) -> Result<(), DriveError> {
        let Some(Some(pieces)) = state.pieces.get(name) else { return Ok(()) };
        let len = usize::try_from(joined.len).map_err(|_| DriveError::Full)?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        for step in pieces.steps(joined.offset, len) {
            // What is lost is not made up: then the pieces stay as they are.
            let Step::Read(piece, from, len) = step else { return Err(DriveError::NotFound) };
            let read = self.read_object(&piece.name(name), from, &mut bytes[filled..filled + len])?;
            if read != len {
                return Err(DriveError::NotFound);
            }
            filled += len;
        }
        self.begin(state, self.key(&joined.name(name)), Kind::Piece, Arc::new(bytes))?;
        self.end_all(state)?;
        if let Some(Some(pieces)) = state.pieces.get_mut(name) {
            pieces.join(joined);
        }
        Ok(())
    }

    /// Takes back what was begun. Best effort: what stays is harmless, or was never told of.
    fn drop_staged(&self, state: &mut State) {
        // One that is under way must not come after what is put next.
        let _ = self.end_all(state);
        for name in std::mem::take(&mut state.made) {
            let _ = self.ask(|| self.objects.delete(&self.key(&name)));
            self.refusals.forget(&self.key(&name));
        }
        state.replaced.clear();
        state.replaced_len = 0;
        // What was appended may or may not be there.
        state.pieces.clear();
        state.used = None;
        lock(&self.unseen).clear();
    }

    /// After a failure nothing staged remains, and nothing is written any more.
    fn end(&self, state: &mut State, result: Result<(), DriveError>) -> Result<(), DriveError> {
        if let Err(e) = &result {
            self.drop_staged(state);
            // One that is full has said so of each file, and may have room again.
            state.broken = Some(e.clone()).filter(|e| *e != DriveError::Full);
        }
        result
    }
}

impl Drive for BucketDrive {
    fn put(&self, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError> {
        check_name(name)?;
        let mut state = self.writing()?;
        let state = &mut *state;
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > BUCKET_FILE_LEN_MAX {
            return Err(DriveError::Io(format!("{name} has {len} bytes, and {BUCKET_FILE_LEN_MAX} are put at most")));
        }
        self.check_room(state, len)?;
        let bytes = Arc::new(parts.concat());
        if mode == PutMode::New && !is_appended(name) {
            let begun = self.begin(state, self.key(name), Kind::New(name.to_owned()), bytes);
            self.end(state, begun)?;
            lock(&self.unseen).insert(name.to_owned());
            return Ok(());
        }
        if mode == PutMode::New && self.pieces(state, name)?.is_some() {
            return Err(DriveError::Exists);
        }
        if state.replaced_len + len > BUCKET_STAGED_LEN_MAX && !state.replaced.is_empty() {
            let settled = self.settle(state);
            self.end(state, settled)?;
        }
        state.replaced_len += len;
        if let Some(before) = state.replaced.insert(name.to_owned(), bytes) {
            state.replaced_len -= before.len();
        }
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DriveError> {
        check_name(name)?;
        let mut state = self.writing()?;
        let state = &mut *state;
        if !is_appended(name) {
            return Err(DriveError::Io(format!("{name} is no file that is appended to")));
        }
        if state.replaced.contains_key(name) {
            let settled = self.settle(state);
            self.end(state, settled)?;
        }
        let (generation, offset) = match self.pieces(state, name)? {
            // What is there is durable.
            Some(_) if bytes.is_empty() => return Ok(()),
            Some(pieces) => (pieces.generation, pieces.len()),
            None => (1, 0),
        };
        self.check_room(state, bytes.len())?;
        let len = u32::try_from(bytes.len()).map_err(|_| DriveError::Full)?;
        let piece = Piece { generation, offset, len };
        let key = self.key(&piece.name(name));
        let begun = self.begin(state, key, Kind::Piece, Arc::new(bytes.to_vec()));
        self.end(state, begun)?;
        match state.pieces.get_mut(name) {
            Some(Some(pieces)) => pieces.push(piece),
            _ => drop(state.pieces.insert(name.to_owned(), Some(Pieces::one(piece)))),
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), DriveError> {
        let mut state = self.writing()?;
        let settled = self.settle(&mut state);
        self.end(&mut state, settled)
    }

    fn abandon(&self) {
        self.drop_staged(&mut lock(&self.state));
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        if lock(&self.unseen).contains(name) {
            return Err(DriveError::NotFound);
        }
        let begin = Instant::now();
        let read = match is_appended(name) {
            true => self.read_pieces(name, offset, buf)?,
            false => self.read_object(name, offset, buf)?,
        };
        self.reading.note(begin.elapsed());
        Ok(read)
    }

    fn reading_time(&self) -> ReadingTime {
        self.reading.take()
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DriveError> {
        if is_appended(name) {
            return Ok(self.pieces(&mut lock(&self.state), name)?.as_ref().map(Pieces::len));
        }
        if lock(&self.unseen).contains(name) {
            return Ok(None);
        }
        self.ask(|| self.objects.len(&self.key(name)))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str)) -> Result<(), DriveError> {
        let unseen = lock(&self.unseen).clone();
        let mut appended = BTreeSet::new();
        self.ask(|| {
            self.objects.list(&self.key(prefix), &mut |key, _| {
                let Some(name) = key.strip_prefix(&self.prefix) else { return };
                match APPENDED.iter().find(|file| Piece::parse(file, name).is_some()) {
                    Some(file) => drop(appended.insert(*file)),
                    None if name.split('/').next() == Some(PROBE) || unseen.contains(name) => {}
                    None => each(name),
                }
            })
        })?;
        appended.into_iter().for_each(each);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DriveError> {
        check_name(name)?;
        let mut state = self.writing()?;
        let state = &mut *state;
        if is_appended(name) {
            let Some(pieces) = self.pieces(state, name)?.take() else { return Ok(()) };
            for piece in pieces.iter().chain(pieces.stale.iter().copied()) {
                self.ask(|| self.objects.delete(&self.key(&piece.name(name))))?;
            }
            return Ok(());
        }
        let key = self.key(name);
        let len = match self.size {
            Some(_) => self.ask(|| self.objects.len(&key))?.unwrap_or(0),
            None => 0,
        };
        self.ask(|| self.objects.delete(&key))?;
        self.refusals.forget(&key);
        state.used = state.used.map(|used| used.saturating_sub(len));
        Ok(())
    }

    fn space(&self) -> Result<Space, DriveError> {
        let Some(total) = self.size else {
            return Err(DriveError::Io("an endpoint does not say how much room it has".into()));
        };
        let used = self.used(&mut lock(&self.state))?;
        Ok(Space { total, free: total.saturating_sub(used) })
    }
}

fn is_appended(name: &str) -> bool {
    APPENDED.contains(&name)
}

/// Refuses what is no name for a file of a drive.
fn check_name(name: &str) -> Result<(), DriveError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let sound = name.split('/').all(|c| !c.is_empty() && c != "." && c != ".." && c.chars().all(plain));
    let first = name.split('/').next().unwrap_or_default();
    let is_ours = first == PROBE || (name != first && is_appended(first));
    if sound && !is_ours { Ok(()) } else { Err(DriveError::Io(format!("{name:?} is no name for a file of a drive"))) }
}

fn blame(fault: Fault) -> DriveError {
    match fault {
        Fault::NotFound => DriveError::NotFound,
        Fault::Taken => DriveError::Exists,
        Fault::Full => DriveError::Full,
        Fault::Gone(_) => DriveError::Gone,
        Fault::Unknown(text) | Fault::Other(text) => DriveError::Io(text),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that are appended to.
const APPENDED: &[&str] = &["journal"];
/// Most puts under way.
const PUTS_MAX: usize = 16;
/// For so long an endpoint that was gone is not asked.
const DOWN_FOR: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
