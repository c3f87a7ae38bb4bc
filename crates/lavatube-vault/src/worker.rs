//! Works with the vault for the far end of a link: keeps what is deposited, reads what is asked for.
//!
//! It does one job after the other, on whichever thread, and says what became of each. It must not know the link, nor where
//! the vault's drives are. Steps 17 and 20 of the walk.

mod releases;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use lavatube_base::limits::LISTED_MAX;
use lavatube_base::{BlockId, Denial, Instant, ObjectId, Refusal, Verified};
use lavatube_format::audit::{Answer, Challenge, Progress};
use lavatube_format::care::{CareQuestion, SignedReport};
use lavatube_format::log::Question;
use lavatube_format::message::{Message, Page, Part, Sent, Withheld, list_digest};
use lavatube_format::receipt::Receipt;
use lavatube_format::spot::SpotQuestion;

use crate::audit::Prover;
use crate::parcels::Parcel;
use crate::spot::SpotProver;
use crate::{DepositError, ObjectKind, Vault};

/// What is to be done.
pub enum Job {
    /// What a block asks for.
    Block(BlockId, Vec<u8>),
    /// Read what goes into the block of this name.
    Parcel(u64, Parcel),
    /// Go on with what takes long, a proof that is being made or packs that are thinned, for a while.
    Prove,
}

/// What became of it.
pub enum Done {
    /// Of a block.
    Block(BlockDone),
    /// The bytes of the block of this name.
    Parcel(u64, Vec<u8>),
    /// Of the proof: the message once it is ready, and whether there is more to do.
    Prove(Option<Vec<u8>>, bool),
}

/// What became of a block.
pub struct BlockDone {
    /// The block.
    pub block: BlockId,
    /// Bytes of it that the driver counts as in work.
    pub len: usize,
    /// What is said of it to the link.
    pub verdict: Verdict,
    /// Answers.
    pub messages: Vec<Vec<u8>>,
    /// A request for parts of objects: its number, its turn.
    pub fetch: Option<(u64, u64, Vec<Part>)>,
    /// It asks for a proof, or has packs thinned: that is done by and by.
    pub proves: bool,
    /// What happened, for people.
    pub told: Vec<Word>,
}

/// What is said of a block to the link.
pub enum Verdict {
    /// What it asked for is done for good.
    Accepted,
    /// It is not wanted.
    Refused,
    /// It cannot be done now.
    Held,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// An object was stored.
    Stored {
        /// What it is.
        kind: ObjectKind,
        /// The object.
        id: ObjectId,
        /// Its bytes.
        len: u64,
    },
    /// A manifest is held until its packs, or the card of whoever made it, are there.
    Held {
        /// The object.
        id: ObjectId,
        /// What is missing.
        why: String,
    },
    /// An object cannot be stored now, and is held.
    NotNow {
        /// The object.
        id: ObjectId,
        /// What is wrong.
        why: String,
    },
    /// An object is not taken.
    Denied {
        /// The object.
        id: ObjectId,
        /// Why.
        why: String,
    },
    /// A mandate was taken, or was not, and why.
    Mandate(String),
    /// A block makes no sense.
    Nonsense(String),
}

impl BlockDone {
    fn new(block: BlockId, verdict: Verdict) -> Self {
        Self { block, len: 0, verdict, messages: Vec::new(), fetch: None, proves: false, told: Vec::new() }
    }
}

/// A manifest whose packs are under way, or the card of whoever made it.
struct HeldManifest {
    missing: BTreeSet<ObjectId>,
    is_strange: bool,
    bytes: Vec<u8>,
}

/// Where a worker works.
pub trait Workplace {
    /// The vault, to ask it things.
    fn vault(&self) -> impl Deref<Target = Vault>;
    /// The vault, to change it.
    fn vault_mut(&mut self) -> impl DerefMut<Target = Vault>;
    /// Opens the vault anew: drives may have gone or come. Whether that worked; if not, it is as it was.
    fn reopen(&mut self) -> bool;
    /// Remembers that what was in a block is stored, as well as that can be done: without it, a next life has it carried once
    /// more.
    fn keep(&mut self, block: BlockId, object: ObjectId);
    /// What time it is.
    fn now(&self) -> Instant;
    /// Remembers how far a proof has come, as well as that can be done: without it, a next life begins it anew.
    fn keep_proof(&mut self, _progress: &Progress) {}
    /// How the vault is, for whoever asks from afar, and whether it does what it is told; `None` when that cannot be said now.
    fn care(&mut self, _question: &CareQuestion) -> Option<SignedReport> {
        None
    }
    /// What became of a mandate just now, for people.
    fn mandate_told(&mut self) -> Option<String> {
        None
    }
    /// How far a proof has come, if that was remembered.
    fn proof(&self) -> Option<Progress> {
        None
    }
}

/// Works with the vault.
pub struct Worker<W> {
    place: W,
    opened: Instant,
    /// Beside what the link holds, so that they are taken as soon as their last pack is.
    held: BTreeMap<BlockId, HeldManifest>,
    /// When the depositor was told that an object is held for want of room or drives, and in which words.
    told: BTreeMap<ObjectId, (Instant, String)>,
    proof: Option<Proof>,
    /// The last challenge that was answered, and the answer.
    proved: Option<(Challenge, Answer)>,
    /// A spot proof that is being made: request, turn, and it.
    spot: Option<(u64, u64, SpotProver)>,
}

/// A proof that is being made.
struct Proof {
    request: u64,
    turn: u64,
    prover: Prover,
    /// Bytes it was about when that was last remembered.
    kept: u64,
}

impl<W: Workplace> Worker<W> {
    /// A worker whose vault was opened just now.
    pub fn new(place: W) -> Self {
        Self {
            opened: place.now(),
            place,
            held: BTreeMap::new(),
            told: BTreeMap::new(),
            proof: None,
            proved: None,
            spot: None,
        }
    }

    /// Where it works.
    pub fn place(&mut self) -> &mut W {
        &mut self.place
    }

    /// Does a job, and what can be done now that it is.
    pub fn do_all(&mut self, job: Job) -> Vec<Done> {
        let (block, bytes) = match job {
            Job::Block(block, bytes) => (block, bytes),
            Job::Parcel(key, parcel) => return vec![Done::Parcel(key, self.parcel(&parcel))],
            Job::Prove => {
                let message = self.prove();
                if self.place.vault().is_thinning() {
                    // What cannot be done now is done when the vault is opened the next time.
                    let _ = self.place.vault_mut().settle_releases();
                }
                let more = self.proof.is_some() || self.spot.is_some() || self.place.vault().is_thinning();
                return vec![Done::Prove(message, more)];
            }
        };
        let len = bytes.len();
        let (done, stored) = self.handle(block, bytes);
        let proves = done.proves || self.place.vault().is_thinning();
        let mut all = vec![BlockDone { len, proves, ..done }];
        if let Some((kind, id)) = stored {
            all.extend(self.release(kind, id));
        }
        all.into_iter().map(Done::Block).collect()
    }

    /// Reads what goes into a parcel. What cannot be read is withheld, and said so.
    fn parcel(&mut self, parcel: &Parcel) -> Vec<u8> {
        let mut all = self.read(&parcel.pieces);
        // Before it is said that something is lost: its drives may be back.
        if all.iter().any(|(_, bytes)| bytes.is_err()) && self.place.vault().lacks_drives() && self.reopen() {
            all = self.read(&parcel.pieces);
        }
        let parts = all.iter().map(|(piece, bytes)| Sent {
            id: piece.id,
            start: piece.start,
            bytes: bytes.as_ref().map(Vec::as_slice).map_err(Clone::clone),
        });
        Message::Parcel { request: parcel.request, parts: parts.collect() }.encode(parcel.turn)
    }

    fn read<'p>(&self, pieces: &'p [Part]) -> Vec<(&'p Part, Result<Vec<u8>, Withheld>)> {
        let vault = self.place.vault();
        let read = |piece: &Part| {
            let mut bytes = Vec::new();
            let range = piece.start..piece.start + piece.len;
            match vault.read(piece.id, range, &mut bytes) {
                Ok(_) => Ok(bytes),
                Err(e) => Err(Withheld { len: piece.len, denial: e.denial(), text: e.to_string() }),
            }
        };
        pieces.iter().map(|piece| (piece, read(piece))).collect()
    }

    /// Opens the vault anew, unless it was just now; whether that worked.
    fn reopen(&mut self) -> bool {
        let now = self.place.now();
        let is_time = now.since(self.opened) >= REOPEN_EVERY;
        if is_time {
            self.opened = now;
        }
        is_time && self.place.reopen()
    }

    /// The pages of a list, or one without objects when the list is known.
    fn list(&self, kind: ObjectKind, known: [u8; 16], turn: u64) -> Vec<Vec<u8>> {
        let vault = self.place.vault();
        let mut objects: Vec<_> = vault.objects_of(kind).map(|o| (o.id, o.len)).collect();
        if kind == ObjectKind::Pack {
            objects.extend(vault.thinned());
        }
        drop(vault);
        objects.sort_unstable();
        let (digest, total) = (list_digest(&objects), objects.len() as u64);
        if digest == known {
            objects.clear();
        }
        let page = |first: u64, objects: &[(ObjectId, u64)]| {
            Message::Listed(Page { kind, digest, total, first, objects: objects.to_vec() }).encode(turn)
        };
        if objects.is_empty() {
            return vec![page(0, &[])];
        }
        let firsts = (0..).step_by(LISTED_MAX);
        firsts.zip(objects.chunks(LISTED_MAX)).map(|(first, objects)| page(first, objects)).collect()
    }

    /// Does what a block asks for; with the pack or card that was stored, if one was.
    fn handle(&mut self, block: BlockId, bytes: Vec<u8>) -> (BlockDone, Option<(ObjectKind, ObjectId)>) {
        let turn = Message::turn(&bytes);
        match Message::decode(&bytes) {
            Ok(Message::Deposit { kind: ObjectKind::Manifest, object }) => {
                let object = object.to_vec();
                (self.manifest(block, object), None)
            }
            Ok(Message::Deposit { kind, object }) => {
                let object = Verified::hash(object);
                let done = self.deposit(block, kind, object);
                let stored = matches!(done.verdict, Verdict::Accepted);
                (done, stored.then_some((kind, object.id())))
            }
            Ok(Message::Asked(ids)) => {
                let mut done = BlockDone::new(block, Verdict::Accepted);
                done.messages = ids.into_iter().map(|id| self.answer(id, turn)).collect();
                (done, None)
            }
            Ok(Message::Fetch { request, parts }) => {
                let mut done = BlockDone::new(block, Verdict::Accepted);
                done.fetch = Some((request, turn, parts));
                (done, None)
            }
            Ok(Message::List { kind, known }) => {
                let mut done = BlockDone::new(block, Verdict::Accepted);
                done.messages = self.list(kind, known, turn);
                (done, None)
            }
            Ok(Message::Challenge { request, challenge }) => (self.challenged(block, request, turn, challenge), None),
            Ok(Message::SpotAsked { request, question }) => (self.spot_asked(block, request, turn, question), None),
            Ok(Message::CareAsked { request, question }) => {
                let mut done = BlockDone::new(block, Verdict::Accepted);
                let report = self.place.care(&question).map(Box::new);
                done.told.extend(self.place.mandate_told().map(Word::Mandate));
                // Where nothing can be said, whoever asks asks again.
                done.messages =
                    report.map(|report| Message::Cared { request, report }.encode(turn)).into_iter().collect();
                (done, None)
            }
            Ok(Message::ReleaseAsked { request, question }) => {
                (self.of_releases(block, request, turn, &question), None)
            }
            Ok(Message::LogAsked(question)) => {
                let mut done = BlockDone::new(block, Verdict::Accepted);
                // Where too few drives are there to tell, nothing is said, and whoever asks asks again.
                done.messages = self.answer_log(&question, turn).into_iter().collect();
                (done, None)
            }
            Ok(
                Message::Receipted(_)
                | Message::Denied { .. }
                | Message::Parcel { .. }
                | Message::Listed(_)
                | Message::Proof { .. }
                | Message::Logged(_)
                | Message::Cared { .. }
                | Message::ReleaseTold { .. }
                | Message::Spot { .. },
            ) => {
                let mut done = BlockDone::new(block, Verdict::Refused);
                done.told.push(Word::Nonsense("a message that only vaults send".into()));
                (done, None)
            }
            Err(e) => {
                let mut done = BlockDone::new(block, Verdict::Refused);
                done.told.push(Word::Nonsense(e.to_string()));
                (done, None)
            }
        }
    }

    /// A spot proof is asked for. Asked again for the same it goes on with what it has.
    fn spot_asked(&mut self, block: BlockId, request: u64, turn: u64, question: SpotQuestion) -> BlockDone {
        match &mut self.spot {
            Some((number, last, prover)) if *prover.question() == question => (*number, *last) = (request, turn),
            _ => self.spot = Some((request, turn, SpotProver::new(question))),
        }
        let mut done = BlockDone::new(block, Verdict::Accepted);
        done.proves = true;
        done
    }

    /// A proof is asked for, perhaps once more: one that is being made goes on, one that was made is sent again.
    fn challenged(&mut self, block: BlockId, request: u64, turn: u64, challenge: Challenge) -> BlockDone {
        let mut done = BlockDone::new(block, Verdict::Accepted);
        if let Some((_, answer)) = self.proved.as_ref().filter(|(proved, _)| *proved == challenge) {
            done.messages.push(Message::Proof { request, answer: answer.clone() }.encode(turn));
            return done;
        }
        done.proves = true;
        match &mut self.proof {
            Some(proof) if *proof.prover.challenge() == challenge => (proof.request, proof.turn) = (request, turn),
            _ => {
                let kept = self.place.proof().filter(|progress| progress.challenge == challenge);
                let prover = kept.map_or_else(|| Prover::new(challenge), Prover::resumed);
                self.proof = Some(Proof { request, turn, kept: prover.bytes(), prover });
            }
        }
        done
    }

    /// Goes on with the proof; the message when it is ready. A spot proof, which somebody waits for, goes first.
    fn prove(&mut self) -> Option<Vec<u8>> {
        if let Some((request, turn, mut prover)) = self.spot.take() {
            if prover.step(&self.place.vault()) {
                self.spot = Some((request, turn, prover));
                return None;
            }
            return Some(Message::Spot { request, answer: prover.into_answer() }.encode(turn));
        }
        let proof = self.proof.as_mut()?;
        let begin = proof.prover.bytes();
        let vault = self.place.vault();
        let mut more = true;
        while more && proof.prover.bytes() - begin < PROVED_AT_A_TIME {
            more = proof.prover.step(&vault);
        }
        drop(vault);
        if more {
            if proof.prover.bytes() - proof.kept >= KEEP_PROOF_EVERY {
                proof.kept = proof.prover.bytes();
                self.place.keep_proof(&proof.prover.progress());
            }
            return None;
        }
        let Proof { request, turn, prover, .. } = self.proof.take()?;
        let answer = prover.answer();
        self.proved = Some((prover.challenge().clone(), answer.clone()));
        Some(Message::Proof { request, answer }.encode(turn))
    }

    fn answer_log(&mut self, question: &Question, turn: u64) -> Option<Vec<u8>> {
        let answer = self.place.vault_mut().answer_log(question);
        let answer = match answer {
            Err(_) if self.reopen() => self.place.vault_mut().answer_log(question),
            other => other,
        };
        answer.ok().map(|answer| Message::Logged(answer).encode(turn))
    }

    fn answer(&mut self, id: ObjectId, turn: u64) -> Vec<u8> {
        let at = self.place.now();
        let receipt = self.place.vault_mut().receipt_for(id);
        let told = self.told.get(&id).filter(|(told, _)| at.since(*told) < TELL_HELD_EVERY);
        match (receipt, told) {
            (Some(receipt), _) => Message::Receipted(receipt),
            // It arrived in this life: it need not be sent again before that is told once more.
            (None, Some((_, why))) => Message::Denied { id, denial: Denial::Away, text: why.clone() },
            (None, None) => Message::Denied { id, denial: Denial::Absent, text: "it is not here".into() },
        }
        .encode(turn)
    }

    fn deposit(&mut self, block: BlockId, kind: ObjectKind, object: Verified<'_>) -> BlockDone {
        match self.store(kind, object) {
            Ok(receipt) => self.stored(block, kind, object, &receipt),
            Err(e) => self.not_stored(block, object.id(), e.denial(), e.to_string()),
        }
    }

    fn manifest(&mut self, block: BlockId, bytes: Vec<u8>) -> BlockDone {
        let object = Verified::hash(&bytes);
        let id = object.id();
        match self.store(ObjectKind::Manifest, object) {
            Ok(receipt) => self.stored(block, ObjectKind::Manifest, object, &receipt),
            // It has overtaken its packs.
            Err(DepositError::MissingPacks { missing }) => {
                let mut done = BlockDone::new(block, Verdict::Held);
                done.told.push(Word::Held { id, why: format!("{} of its packs are under way", missing.len()) });
                let missing = missing.into_iter().collect();
                self.hold(block, HeldManifest { missing, is_strange: false, bytes });
                done
            }
            // It has overtaken the card of whoever made it.
            Err(e @ DepositError::UnknownDepositor(_)) => {
                let mut done = BlockDone::new(block, Verdict::Held);
                let why = e.to_string();
                if self.held.contains_key(&block) && self.may_tell(id, &why) {
                    // Not only for a moment.
                    done.messages.push(
                        Message::Denied { id, denial: Denial::Away, text: why.clone() }.encode(self.place.now().0),
                    );
                    done.told.push(Word::NotNow { id, why });
                } else {
                    done.told.push(Word::Held { id, why });
                }
                self.hold(block, HeldManifest { missing: BTreeSet::new(), is_strange: true, bytes });
                done
            }
            Err(e) => self.not_stored(block, id, e.denial(), e.to_string()),
        }
    }

    /// Stores an object; a vault whose drives went or came is opened anew once.
    fn store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        match self.try_store(kind, object) {
            Err(e) if e.denial() == Denial::Away && self.reopen() => self.try_store(kind, object),
            other => other,
        }
    }

    fn try_store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        let mut vault = self.place.vault_mut();
        match kind {
            ObjectKind::Pack | ObjectKind::Tags => Ok(vault.store(kind, object)?),
            ObjectKind::Manifest => vault.deposit_manifest(object.bytes()),
            ObjectKind::DepositorCard => vault.deposit_card(object.bytes()),
            ObjectKind::Release => vault.deposit_release(object.bytes()),
            ObjectKind::Remnant => Err(DepositError::OwnMaking),
        }
    }

    fn stored(&mut self, block: BlockId, kind: ObjectKind, object: Verified<'_>, receipt: &Receipt) -> BlockDone {
        // Without it, a next life has it carried once more: that is no reason to keep the receipt back.
        self.place.keep(block, object.id());
        let mut done = BlockDone::new(block, Verdict::Accepted);
        done.messages.push(Message::Receipted(receipt.clone()).encode(0));
        done.told.push(Word::Stored { kind, id: object.id(), len: object.bytes().len() as u64 });
        done
    }

    fn hold(&mut self, block: BlockId, manifest: HeldManifest) {
        if self.held.len() < HELD_MANIFESTS_MAX || self.held.contains_key(&block) {
            self.held.insert(block, manifest);
        }
    }

    /// Takes the manifests that this pack or card was the last to be missing for.
    fn release(&mut self, kind: ObjectKind, id: ObjectId) -> Vec<BlockDone> {
        self.held.values_mut().for_each(|held| {
            held.missing.remove(&id);
            held.is_strange &= kind != ObjectKind::DepositorCard;
        });
        let is_whole = |held: &HeldManifest| held.missing.is_empty() && !held.is_strange;
        let whole: Vec<BlockId> = self.held.iter().filter(|(_, h)| is_whole(h)).map(|(id, _)| *id).collect();
        let held: Vec<_> = whole.into_iter().filter_map(|id| Some((id, self.held.remove(&id)?))).collect();
        held.into_iter().map(|(block, held)| self.manifest(block, held.bytes)).collect()
    }

    /// What to do with an object that was not stored: hold it when that may change, else say so.
    fn not_stored(&mut self, block: BlockId, id: ObjectId, denial: Denial, why: String) -> BlockDone {
        let denied = Message::Denied { id, denial, text: why.clone() };
        if !matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
            let mut done = BlockDone::new(block, Verdict::Refused);
            done.messages.push(denied.encode(0));
            done.told.push(Word::Denied { id, why });
            return done;
        }
        let mut done = BlockDone::new(block, Verdict::Held);
        // It is tried again every few seconds, and said now and then, in words that the link has not carried yet.
        if self.may_tell(id, &why) {
            done.messages.push(denied.encode(self.place.now().0));
            done.told.push(Word::NotNow { id, why });
        }
        done
    }

    /// Whether it is time to tell the depositor that an object is held.
    fn may_tell(&mut self, id: ObjectId, why: &str) -> bool {
        let at = self.place.now();
        self.told.retain(|_, (told, _)| at.since(*told) < TELL_HELD_EVERY);
        let is_time = !self.told.contains_key(&id) && self.told.len() < TELL_HELD_MAX;
        if is_time {
            self.told.insert(id, (at, why.to_owned()));
        }
        is_time
    }
}

/// Manifests held in memory beside what the link holds of them.
const HELD_MANIFESTS_MAX: usize = 4;
/// Bytes of packs that go into a proof before other work is looked at: a fraction of a second's.
const PROVED_AT_A_TIME: u64 = 64 << 20;
/// Bytes after which it is remembered how far a proof has come.
const KEEP_PROOF_EVERY: u64 = 1 << 30;
/// A vault whose drives are away is opened anew at most so often.
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// How often a depositor is told that an object is held, and of how many objects at a time: as many as it sends at a time.
const TELL_HELD_EVERY: Duration = Duration::from_secs(600);
const TELL_HELD_MAX: usize = 256;
