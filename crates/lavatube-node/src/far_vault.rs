//! A vault at the other end of a link, as the client's far side: questions go over the desk to whoever turns the link.
//!
//! What waits in the spool is read from there, what was kept of packs that were sent from the state, what came before from
//! the desk: only the rest crosses. Where no daemon turns the link, this process does. It must not know what is in an
//! object, nor how the link carries anything. Steps 19 and 20 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lavatube_base::limits::{CARD_LEN_MAX, PARTS_MAX};
use lavatube_base::{ObjectId, Verified};
use lavatube_client::courier::CourierError;
use lavatube_client::far::{Far, FarError, ReceiptBytes, Signer};
use lavatube_client::heads::Heads;
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::State;
use lavatube_format::check_record::CheckRecord;
use lavatube_format::message::Part;
use lavatube_format::shard::ObjectKind;

use crate::checks;
use crate::depositor::{CARDS, DepositorError, Places, open_state, spool_folder, state_folder};
use crate::desk::{Desk, Errand, parts_of, pieces_of};
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::link_folder::Pairing;
use crate::lock::{Lock, Mode};
use crate::own_link::{Errands, TurnedLink};
use crate::pace::Pace;

/// How a far vault is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asking {
    /// Ask it for its lists even where this machine has one.
    pub refresh: bool,
    /// Give up when nothing came for so long; never, when not set.
    pub patience: Option<Duration>,
}

/// A far vault, with this machine's state of it, locked.
pub struct FarVault {
    pub(crate) state: DirectoryState,
    signer: Signer,
    spool: Option<DirectorySpool>,
    heads: Heads,
    desk: Desk,
    asking: Asking,
    known: Mutex<Known>,
    tally: Tally,
    link: TurnedLink,
    /// Where a rehearsal turns the link.
    pace: Option<Arc<Pace>>,
    _lock: Lock,
}

/// What this command knows of the desk.
#[derive(Default)]
struct Known {
    /// By object and start: length of pieces that are here or were asked for.
    pieces: BTreeMap<ObjectId, BTreeMap<u64, u64>>,
    /// Pieces that were asked for, with the errand.
    asked: BTreeMap<Part, u64>,
    /// Kinds whose list was asked for by this very command.
    listed: BTreeSet<u8>,
}

/// What was asked for and what came, for people.
#[derive(Debug, Default)]
pub struct Tally {
    asked_len: AtomicU64,
    errands: AtomicU64,
    rounds: AtomicU64,
    /// Something was asked for, and nothing was waited for since.
    is_asking: AtomicBool,
    waiting: AtomicBool,
}

impl Tally {
    /// Bytes of objects that were asked for.
    pub fn asked_len(&self) -> u64 {
        self.asked_len.load(Ordering::Relaxed)
    }

    /// How many requests that took.
    pub fn errands(&self) -> u64 {
        self.errands.load(Ordering::Relaxed)
    }

    /// How often something was asked for only after an answer had been waited for: round trips, one after the other.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Whether something is waited for now.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }
}

impl FarVault {
    /// The vault that `places.vault` leads to. Turns its link while it is open, unless a daemon does.
    ///
    /// # Errors
    /// [`DepositorError`] when it is not paired, or another command works with this machine's state of it.
    pub fn open(places: &Places, command: &str, asking: Asking, wait: Duration) -> Result<Self, DepositorError> {
        let pairing = Pairing::open(&places.vault)?;
        let folder = state_folder(places, pairing.vault());
        let state = open_state(&folder)?;
        let lock = Lock::acquire(&folder.join("lock"), command, Mode::Exclusive, wait)?;
        let io = |source| DepositorError::Io { path: folder.clone(), source };
        let desk = Desk::open(&folder).map_err(io)?;
        // Errands of commands that are no more; whoever wants it still asks anew, for what has not come.
        desk.asked().map_err(io)?.into_iter().for_each(|number| desk.done(number));
        let mut known = Known::default();
        for piece in desk.pieces().map_err(io)? {
            known.pieces.entry(piece.id).or_default().insert(piece.start, piece.len);
        }
        let spool = DirectorySpool::beside(&spool_folder(&folder)).map_err(CourierError::from)?;
        Ok(Self {
            state,
            signer: pairing.signer(),
            spool,
            heads: Heads::default(),
            desk,
            asking,
            known: Mutex::new(known),
            tally: Tally::default(),
            link: TurnedLink::open(places, Errands::Read)?,
            pace: None,
            _lock: lock,
        })
    }

    /// A rehearsal turns the link, at this pace.
    pub fn keep_pace(&mut self, pace: Arc<Pace>) {
        self.pace = Some(pace);
    }

    /// Remembers what a check found.
    ///
    /// # Errors
    /// When the state's files fail.
    pub fn keep_check(&self, record: &CheckRecord) -> Result<(), DepositorError> {
        Ok(checks::keep(&self.state, record)?)
    }

    /// What was asked for.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether an object waits on this machine.
    pub fn is_waiting(&self, id: ObjectId) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.has(id))
    }

    /// Objects that wait on this machine.
    pub fn waiting(&self, kind: SpoolKind) -> Vec<ObjectId> {
        self.spool.as_ref().map(|spool| spool.waiting(kind).collect()).unwrap_or_default()
    }

    /// All depositor cards of the vault: those that this machine has, unless it has none or is to ask.
    ///
    /// # Errors
    /// When the vault does not answer.
    pub fn cards(&self) -> Result<Vec<Vec<u8>>, FarError> {
        let here = self.state.list(CARDS).unwrap_or_default();
        if !here.is_empty() && !self.asking.refresh {
            return Ok(Vec::new());
        }
        let cards = self.list(ObjectKind::DepositorCard)?;
        let cards: Vec<_> = cards.into_iter().filter(|(_, len)| *len <= CARD_LEN_MAX as u64).collect();
        self.want(&cards.iter().map(|(id, len)| (*id, 0..*len)).collect::<Vec<_>>())?;
        let mut out = Vec::new();
        for (id, len) in cards {
            let mut bytes = Vec::new();
            match self.fetch(id, 0..len, &mut bytes) {
                Ok(()) if Verified::check(&bytes, id).is_some() => out.push(bytes),
                Err(e @ (FarError::Away(_) | FarError::NoRoom(_))) => return Err(e),
                // One that is damaged or lost certifies nobody; what it would have certified is told then.
                _ => {}
            }
        }
        Ok(out)
    }

    /// How long an echo takes.
    ///
    /// # Errors
    /// When none comes back.
    pub fn ping(&self) -> Result<Duration, FarError> {
        let number = self.ask(&Errand::Ping)?;
        let took = self.wait_for(|| self.desk.take_echo(number));
        self.desk.done(number);
        took
    }

    /// Forgets what came for this command: it has it.
    pub fn forget_pieces(&self) {
        let known = std::mem::take(&mut *self.known());
        known.asked.keys().for_each(|piece| self.desk.forget(piece));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, errand: &Errand) -> Result<u64, FarError> {
        self.tally.errands.fetch_add(1, Ordering::Relaxed);
        if !self.tally.is_asking.swap(true, Ordering::Relaxed) {
            self.tally.rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.desk.ask(errand).map_err(|e| away(&format!("what is wanted of it cannot be written down: {e}")))
    }

    /// Waits until `what` is there. Gives up when there is no reason to wait any longer.
    fn wait_for<T>(&self, what: impl Fn() -> Option<T>) -> Result<T, FarError> {
        let begin = Instant::now();
        let mut quiet_since = (begin, None);
        loop {
            let seen = self.pace.as_ref().map(|pace| pace.seen());
            if let Some(there) = what() {
                self.tally.waiting.store(false, Ordering::Relaxed);
                return Ok(there);
            }
            let received = match self.pace {
                None => Some(self.link.look().map_err(|e| away(&e))?),
                // A rehearsal turns it, and nobody else.
                Some(_) => None,
            };
            if received != quiet_since.1 {
                quiet_since = (Instant::now(), received);
            }
            if let Some(patience) = self.asking.patience.filter(|patience| quiet_since.0.elapsed() >= *patience) {
                return Err(away(&format!("nothing came for {} s", patience.as_secs())));
            }
            self.tally.waiting.store(begin.elapsed() >= SOON, Ordering::Relaxed);
            self.tally.is_asking.store(false, Ordering::Relaxed);
            match (&self.pace, seen) {
                (Some(pace), Some(seen)) => {
                    if !pace.wait(seen, LOOK_EVERY) {
                        return Err(away("its link is turned no more"));
                    }
                }
                _ => thread::sleep(LOOK_EVERY),
            }
        }
    }

    /// All objects of a kind: the list that is here, unless there is none or the vault is to be asked.
    fn list(&self, kind: ObjectKind) -> Result<Vec<(ObjectId, u64)>, FarError> {
        let asked = self.known().listed.contains(&kind.code());
        if (asked || !self.asking.refresh)
            && let Some((objects, _)) = self.desk.list(kind)
        {
            return Ok(objects);
        }
        let number = self.ask(&Errand::List(kind))?;
        let listed = self.wait_for(|| {
            let done = !self.desk.is_asked(number);
            done.then(|| self.desk.list(kind))
        })?;
        let why = || self.desk.refusal(kind).unwrap_or("its list of objects is not what it says it is".into());
        let (objects, _) = listed.ok_or_else(|| away(&why()))?;
        self.known().listed.insert(kind.code());
        Ok(objects)
    }

    /// Manifests that this machine made: the vault has them, or they wait here.
    fn sent_manifests(&self) -> Vec<(ObjectId, u64)> {
        let names = self.state.list(SENT).unwrap_or_default();
        let all = names.iter().filter_map(|name| {
            let id = name.rsplit('-').next()?.parse().ok()?;
            Some((id, self.state.len(name).ok()??))
        });
        all.collect()
    }

    /// The piece that has byte `at` of an object, if it is here or was asked for.
    fn piece_at(&self, id: ObjectId, at: u64) -> Option<Part> {
        let known = self.known();
        let mut before = known.pieces.get(&id)?.range(..=at).rev();
        // A longer one may begin before a shorter one.
        let (start, len) = before.find(|(start, len)| **start + **len > at)?;
        Some(Part { id, start: *start, len: *len })
    }

    /// Asks for parts, those that are known left out.
    fn ask_for(&self, parts: &[Part]) -> Result<(), FarError> {
        // All of it lies here until whoever wants it has it: better said now than when days of contacts have filled the disk.
        let need = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.len));
        if let Some(free) = self.desk.room().filter(|free| *free < need.saturating_add(KEPT_FREE)) {
            let (need, free) = (need.div_ceil(1 << 20), free >> 20);
            let folder = self.desk.folder().display();
            return Err(FarError::NoRoom(format!("it takes {need} MiB, and the disk of {folder} has {free} MiB left")));
        }
        for parts in parts.chunks(PARTS_MAX) {
            let number = self.ask(&Errand::Fetch(parts.to_vec()))?;
            self.tally.asked_len.fetch_add(parts.iter().map(|part| part.len).sum(), Ordering::Relaxed);
            let mut known = self.known();
            for piece in parts.iter().flat_map(pieces_of) {
                known.pieces.entry(piece.id).or_default().insert(piece.start, piece.len);
                known.asked.insert(piece, number);
            }
        }
        Ok(())
    }

    /// The bytes of a piece, waited for.
    fn await_piece(&self, piece: &Part) -> Result<Vec<u8>, FarError> {
        for again in 0..=ASKED_AGAIN {
            if again > 0 {
                self.ask_for(&[*piece])?;
            }
            let number = self.known().asked.get(piece).copied();
            let there = self.wait_for(|| {
                let there = self.desk.piece(piece);
                // Its errand is over, and it is not here: something took it away.
                let lost = there.is_none() && number.is_none_or(|number| !self.desk.is_asked(number));
                if lost && !self.desk.has(piece) { Some(None) } else { there.map(Some) }
            })?;
            match there {
                Some(Ok(bytes)) => return Ok(bytes),
                Some(Err((denial, text))) => return Err(FarError::of(piece.id, denial, text)),
                None => {}
            }
        }
        Err(away("what came from it is gone from this machine's disk again and again"))
    }

    /// Reads from this machine, where it can.
    fn read_here(&self, id: ObjectId, range: &Range<u64>, out: &mut Vec<u8>) -> bool {
        let spooled = self.spool.as_ref().is_some_and(|spool| spool.read(id, range.clone(), out) == Ok(true));
        spooled || self.heads.read(&self.state, id, range, out)
    }
}

impl Far for FarVault {
    fn signer(&self) -> Signer {
        self.signer
    }

    fn deliver_pack(&self, _pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Err(away("it is far, and what is for it goes through the spool"))
    }

    fn deliver_manifest(&self, _manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Err(away("it is far, and what is for it goes through the spool"))
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        if self.read_here(id, &range, out) {
            return Ok(());
        }
        let base = out.len();
        let mut at = range.start;
        let read = (|| {
            while at < range.end {
                let piece = match self.piece_at(id, at) {
                    Some(piece) => piece,
                    None => {
                        self.ask_for(&[Part { id, start: at, len: range.end - at }])?;
                        continue;
                    }
                };
                let bytes = self.await_piece(&piece)?;
                let from = usize::try_from(at - piece.start).unwrap_or(usize::MAX);
                let upto = usize::try_from(range.end.min(piece.start + piece.len) - piece.start).unwrap_or(usize::MAX);
                out.extend_from_slice(&bytes[from..upto]);
                at = piece.start + upto as u64;
            }
            Ok(())
        })();
        if read.is_err() {
            out.truncate(base);
        }
        read
    }

    fn is_distant(&self) -> bool {
        true
    }

    fn want(&self, parts: &[(ObjectId, Range<u64>)]) -> Result<(), FarError> {
        let mut missing = BTreeSet::new();
        let mut scratch = Vec::new();
        for (id, range) in parts {
            scratch.clear();
            if range.is_empty() || self.read_here(*id, range, &mut scratch) {
                continue;
            }
            let whole = Part { id: *id, start: range.start, len: range.end - range.start };
            missing.extend(pieces_of(&whole).filter(|piece| {
                let known = self.piece_at(*id, piece.start);
                known.is_none_or(|known| known.start + known.len < piece.start + piece.len)
            }));
        }
        if missing.is_empty() { Ok(()) } else { self.ask_for(&parts_of(&missing)) }
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        let mut all: BTreeMap<ObjectId, u64> = self.sent_manifests().into_iter().collect();
        if self.asking.refresh {
            // What the vault does not list is not there, unless it still waits here.
            all.retain(|id, _| self.is_waiting(*id));
        }
        if all.is_empty() || self.asking.refresh || self.desk.list(ObjectKind::Manifest).is_some() {
            all.extend(self.list(ObjectKind::Manifest)?);
        }
        Ok(all.into_iter().collect())
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        if self.is_waiting(id) {
            return Ok(true);
        }
        for kind in [ObjectKind::Pack, ObjectKind::Manifest] {
            if self.list(kind)?.binary_search_by_key(&id, |(id, _)| *id).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn away(text: &str) -> FarError {
    FarError::Away(text.to_owned())
}

const SENT: &str = "manifests/";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is here within this was hardly waited for.
const SOON: Duration = Duration::from_millis(500);
/// How often something is asked for once more that came and was taken away.
const ASKED_AGAIN: u8 = 2;
/// What is asked for leaves so much of the disk to others.
const KEPT_FREE: u64 = 1 << 20;

#[cfg(test)]
mod tests;
