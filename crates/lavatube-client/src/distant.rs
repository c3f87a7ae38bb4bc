//! A vault at the other end of a link, as the client's far side: questions go over the desk to whoever turns the link.
//!
//! What waits in the spool is read from there, what was kept of packs that were sent from the state, what came before from
//! the desk: only the rest crosses. It must not know what is in an object, how the link carries anything, nor how one
//! waits. Steps 19 and 20 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lavatube_base::limits::{CARD_LEN_MAX, PARTS_MAX};
use lavatube_base::{ObjectId, Verified};
use lavatube_format::audit::{Answer, Challenge};
use lavatube_format::log::{self, Question};
use lavatube_format::message::{Part, parts_of, pieces_of};
use lavatube_format::release_word::{ReleaseQuestion, ReleaseWord};
use lavatube_format::shard::ObjectKind;
use lavatube_format::spot::{SpotAnswer, SpotQuestion};

use crate::cards::CARDS;
use crate::desk::{Desk, Errand};
use crate::far::{Far, FarError, LogWord, ReceiptBytes, Signer};
use crate::heads::Heads;
use crate::state::State;

/// What is on this side of the link.
pub trait Here: Send + Sync {
    /// Its desk.
    type Desk: Desk;

    /// The desk, at which nobody else waits for anything.
    fn desk(&self) -> &Self::Desk;

    /// This machine's state of the vault.
    fn state(&self) -> &dyn State;

    /// Whether an object waits on this machine.
    fn is_waiting(&self, id: ObjectId) -> bool;

    /// Appends bytes of an object that waits on this machine; whether it does, and has them.
    fn read_waiting(&self, id: ObjectId, range: &Range<u64>, out: &mut Vec<u8>) -> bool;

    /// Waits until `there`, which looks at the desk.
    ///
    /// # Errors
    /// When there is no reason to wait any longer.
    fn wait(&self, tally: &Tally, there: &mut dyn FnMut() -> bool) -> Result<(), FarError>;
}

/// A distant vault.
pub struct Distant<H> {
    here: H,
    signer: Signer,
    heads: Heads,
    /// Ask it for its lists even where this machine has one.
    refresh: bool,
    known: Mutex<Known>,
    tally: Tally,
}

/// What this command knows of the desk.
#[derive(Default)]
struct Known {
    /// By object and start: length of pieces that are here or were asked for.
    pieces: BTreeMap<ObjectId, BTreeMap<u64, u64>>,
    /// Pieces that were asked for, with the errand.
    asked: BTreeMap<Part, u64>,
    /// Kinds whose list was asked for by this very command, and came.
    listed: BTreeSet<u8>,
    /// Kinds whose list was asked for and is awaited, with the errand.
    listing: BTreeMap<u8, u64>,
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

    /// What was waited for is here.
    pub fn is_here(&self) {
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Whoever asked waits for answers from now on; `long` when that can be felt.
    pub fn waits(&self, long: bool) {
        self.waiting.store(long, Ordering::Relaxed);
        self.is_asking.store(false, Ordering::Relaxed);
    }
}

impl<H: Here> Distant<H> {
    /// A distant vault whose receipts are `signer`'s; `refresh`: ask it for its lists even where this machine has one.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    pub fn new(here: H, signer: Signer, refresh: bool) -> Result<Self, <H::Desk as Desk>::Error> {
        let desk = here.desk();
        // Errands of commands that are no more; whoever wants it still asks anew, for what has not come.
        // Mandates, releases, and who asks how the vault is, wait for their answers without a command.
        let stays = |number: &u64| desk.errand(*number).is_some_and(|errand| errand.outlives_its_command());
        desk.asked()?.into_iter().filter(|number| !stays(number)).for_each(|number| desk.done(number));
        let mut known = Known::default();
        for piece in desk.pieces()? {
            known.pieces.entry(piece.id).or_default().insert(piece.start, piece.len);
        }
        let (heads, known, tally) = (Heads::default(), Mutex::new(known), Tally::default());
        Ok(Self { here, signer, heads, refresh, known, tally })
    }

    /// What is on this side.
    pub fn here(&self) -> &H {
        &self.here
    }

    /// The same, to be changed.
    pub fn here_mut(&mut self) -> &mut H {
        &mut self.here
    }

    /// What was asked for.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// All depositor cards of the vault: those that this machine has, unless it has none or is to ask.
    ///
    /// # Errors
    /// When the vault does not answer.
    pub fn cards(&self) -> Result<Vec<Vec<u8>>, FarError> {
        let here = self.here.state().list(CARDS).unwrap_or_default();
        if !here.is_empty() && !self.refresh {
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
        let took = self.wait_for(|| self.here.desk().take_echo(number));
        self.here.desk().done(number);
        took
    }

    /// The vault's answer to a challenge.
    ///
    /// # Errors
    /// When none comes.
    pub fn prove(&self, challenge: &Challenge) -> Result<Answer, FarError> {
        let answer = self.answer_to(&Errand::Prove(challenge.clone()), |desk, number| desk.take_proof(number))?;
        answer.ok_or_else(|| away("its proof came, and could not be written down"))
    }

    /// The vault's answer to a spot question.
    ///
    /// # Errors
    /// When none comes.
    pub fn spot(&self, question: &SpotQuestion) -> Result<SpotAnswer, FarError> {
        let answer = self.answer_to(&Errand::Spot(question.clone()), |desk, number| desk.take_spot(number))?;
        answer.ok_or_else(|| away("its spot proof came, and could not be written down"))
    }

    /// What the vault says that a release would stand on; `None` when it does not know the question.
    ///
    /// # Errors
    /// When no answer comes, or none that is the vault's.
    pub fn word_of_releases(&self, question: &ReleaseQuestion) -> Result<Option<ReleaseWord>, FarError> {
        let answer = self.answer_to(&Errand::Releases(question.clone()), |desk, number| {
            let refused = desk.take_refusal(number).then_some(None);
            refused.or_else(|| desk.take_release_word(number).map(Some))
        })?;
        let Some(signed) = answer.ok_or_else(|| away("its word came, and could not be written down"))? else {
            return Ok(None);
        };
        //= FORMAT#F62 the vault's, and of now
        let is_good = signed.verify(self.signer.vault, &self.signer.key).is_ok();
        if is_good && signed.word.nonce == question.nonce && signed.word.from == question.from.min(signed.word.size) {
            return Ok(Some(signed.word));
        }
        Err(away("what it says of releases is not its word of now"))
    }

    fn ask_log(&self, question: &Question) -> Result<log::Answer, FarError> {
        let word = self.answer_to(&Errand::Log(question.clone()), |desk, number| desk.take_word(number))?;
        word.ok_or_else(|| away("its word came, and could not be written down"))
    }

    /// Runs an errand until its one answer is there; `None` when that came, and is not to be had.
    fn answer_to<T>(&self, errand: &Errand, take: impl Fn(&H::Desk, u64) -> Option<T>) -> Result<Option<T>, FarError> {
        let number = self.ask(errand)?;
        let answer = self.wait_for(|| {
            let over = !self.here.desk().is_asked(number);
            take(self.here.desk(), number).map(Some).or(over.then_some(None))
        });
        self.here.desk().done(number);
        answer
    }

    /// Forgets what came for this command: it has it.
    pub fn forget_pieces(&self) {
        let known = std::mem::take(&mut *self.known());
        known.asked.keys().for_each(|piece| self.here.desk().forget(piece));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, errand: &Errand) -> Result<u64, FarError> {
        self.tally.errands.fetch_add(1, Ordering::Relaxed);
        if !self.tally.is_asking.swap(true, Ordering::Relaxed) {
            self.tally.rounds.fetch_add(1, Ordering::Relaxed);
        }
        self.here.desk().ask(errand).map_err(|e| away(&format!("what is wanted of it cannot be written down: {e}")))
    }

    /// Waits until `what` is there. Gives up when there is no reason to wait any longer.
    fn wait_for<T>(&self, what: impl Fn() -> Option<T>) -> Result<T, FarError> {
        let mut found = None;
        self.here.wait(&self.tally, &mut || {
            found = what();
            found.is_some()
        })?;
        found.ok_or_else(|| away("nobody waits for it"))
    }

    /// All objects of a kind: the list that is here, unless there is none or the vault is to be asked.
    fn list(&self, kind: ObjectKind) -> Result<Vec<(ObjectId, u64)>, FarError> {
        let asked = self.known().listed.contains(&kind.code());
        if (asked || !self.refresh)
            && let Some(objects) = self.here.desk().list(kind)
        {
            return Ok(objects);
        }
        // Who gave up waiting waits for what he asked.
        let before = self.known().listing.get(&kind.code()).copied();
        let number = before.map_or_else(|| self.ask(&Errand::List(kind)), Ok)?;
        self.known().listing.insert(kind.code(), number);
        let listed = self.wait_for(|| {
            let done = !self.here.desk().is_asked(number);
            done.then(|| self.here.desk().list(kind))
        })?;
        self.known().listing.remove(&kind.code());
        let refusal =
            || self.here.desk().refusal(kind).unwrap_or("its list of objects is not what it says it is".into());
        let objects = listed.ok_or_else(|| away(&refusal()))?;
        self.known().listed.insert(kind.code());
        Ok(objects)
    }

    /// Manifests that this machine made: the vault has them, or they wait here.
    fn sent_manifests(&self) -> Vec<(ObjectId, u64)> {
        let names = self.here.state().list(SENT).unwrap_or_default();
        let all = names.iter().filter_map(|name| {
            let id = name.rsplit('-').next()?.parse().ok()?;
            Some((id, self.here.state().len(name).ok()??))
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
        if let Some(free) = self.here.desk().room().filter(|free| *free < need.saturating_add(KEPT_FREE)) {
            let (need, free) = (need.div_ceil(1 << 20), free >> 20);
            return Err(FarError::NoRoom(format!("{need} MiB, and the disk of the state folder has {free} MiB left")));
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
                let there = self.here.desk().piece(piece);
                // Its errand is over, and it is not here: something took it away.
                let lost = there.is_none() && number.is_none_or(|number| !self.here.desk().is_asked(number));
                if lost && !self.here.desk().has(piece) { Some(None) } else { there.map(Some) }
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
        let spooled = self.here.read_waiting(id, range, out);
        spooled || self.heads.read(self.here.state(), id, range, out)
    }
}

impl<H: Here> Far for Distant<H> {
    fn signer(&self) -> Signer {
        self.signer
    }

    fn deliver_pack(&self, _pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Err(away("it is far, and what is for it goes through the spool"))
    }

    fn deliver_tags(&self, _tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
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
        if self.refresh {
            // What the vault does not list is not there, unless it still waits here.
            all.retain(|id, _| self.here.is_waiting(*id));
        }
        if all.is_empty() || self.refresh || self.here.desk().list(ObjectKind::Manifest).is_some() {
            all.extend(self.list(ObjectKind::Manifest)?);
        }
        Ok(all.into_iter().collect())
    }

    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        // They are learnt with the other lists: whoever does not ask has copies of those that were learnt before.
        if self.refresh || self.here.desk().list(ObjectKind::Release).is_some() {
            return self.list(ObjectKind::Release);
        }
        Ok(Vec::new())
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        if self.here.is_waiting(id) {
            return Ok(true);
        }
        for kind in [ObjectKind::Pack, ObjectKind::Manifest, ObjectKind::Tags] {
            if self.list(kind)?.binary_search_by_key(&id, |(id, _)| *id).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        let packs = self.list(ObjectKind::Pack)?;
        Ok(packs.binary_search_by_key(&pack, |(id, _)| *id).ok().map(|at| packs[at].1))
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        self.ask_log(question).map(LogWord::Signed)
    }
}

fn away(text: &str) -> FarError {
    FarError::Away(text.to_owned())
}

/// Where the manifests are that this machine made.
const SENT: &str = "manifests/";
/// How often something is asked for once more that came and was taken away.
pub const ASKED_AGAIN: u8 = 2;
/// What is asked for leaves so much of the disk to others.
const KEPT_FREE: u64 = 1 << 20;
