//! The vault's log as this machine has seen it: whether what the vault says now goes on from what it said before.
//!
//! The latest checkpoint that was believed is kept. At each contact the vault is asked for another, under a nonce; one that
//! is shorter, forked, old, or lacks a manifest that the vault has signed a receipt for is an alarm: both checkpoints are
//! kept as evidence, and nothing is deposited until a person has looked (promise P4). A vault that is met for the first time is trusted. It
//! must not know how a vault orders its log. Step 18 of the walk.

mod kept;

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_base::digest::sha256;
use lavatube_base::limits::LOG_ASKED_MAX;
use lavatube_base::merkle::{Hash, leaf_hash, verify_consistency, verify_inclusion};
use lavatube_base::time::WallTime;
use lavatube_format::checkpoint::{Checkpoint, Nonce, SignedCheckpoint};
use lavatube_format::log::{Leaf, Placed, Question};
use lavatube_format::shard::ObjectKind;

use crate::chain;
use crate::far::{Far, FarError, LogWord, Signer};
use crate::ledger;
use crate::state::{State, StateError};

pub use kept::{Seen, Standing, accept, seen, standing};

/// Why the vault is not believed any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// Its log is shorter than it was.
    #[error("its log has {now} entries and had {before}: it was put back to an older state")]
    Shrunk {
        /// Entries that were seen.
        before: u64,
        /// Entries there are.
        now: u64,
    },
    /// What was seen of its log is not the beginning of what it is now.
    #[error(
        "its log of {now} entries does not go on from the one of {before} that it had: something in it was replaced or taken out, or it goes on from an older copy of itself"
    )]
    Forked {
        /// Entries that were seen.
        before: u64,
        /// Entries there are.
        now: u64,
    },
    /// It signed receipts for manifests that its log lacks.
    #[error("it signed for {} that its log does not have, the first is {}", things(.0.len()), .0[0].short())]
    Missing(Vec<ObjectId>),
    /// It answered with a checkpoint of another time.
    #[error("it answered with a checkpoint that was made for another question: an old one was replayed")]
    Stale,
    /// What it says is no word of this vault.
    #[error("what it says of its log does not count: {0}")]
    Unfit(String),
}

fn things(count: usize) -> String {
    if count == 1 { "a manifest".to_owned() } else { format!("{count} manifests") }
}

impl Alarm {
    /// Its name in the file of evidence and for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Shrunk { .. } => "shrunk",
            Self::Forked { .. } => "forked",
            Self::Missing(_) => "missing",
            Self::Stale => "stale",
            Self::Unfit(_) => "unfit",
        }
    }
}

/// A contact at which nothing was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// What the log is now.
    pub checkpoint: Checkpoint,
    /// How many entries were known; `None` when the vault was met for the first time, and is trusted.
    pub known: Option<u64>,
    /// Manifests with receipts of which it was proved that the log has them.
    pub proved: usize,
    note: Option<SignedCheckpoint>,
}

impl Contact {
    /// Whether the vault signed for it.
    pub fn is_signed(&self) -> bool {
        self.note.is_some()
    }
}

/// How a contact ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The log goes on from what it was.
    Sound(Contact),
    /// It does not.
    Alarm(Alarm),
    /// Nothing could be said: the vault cannot be asked now.
    Unknown(String),
}

/// A question under way: what is asked, and what the answer will be held to.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// What is asked.
    pub question: Question,
    signer: Signer,
    seen: Option<Seen>,
}

impl Inquiry {
    /// What is to be asked of the vault `signer` now; `nonce` was drawn for it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn new(state: &dyn State, signer: Signer, nonce: Nonce) -> Result<Self, StateError> {
        let seen = seen(state, &signer)?;
        let known = seen.as_ref().map_or(0, |seen| seen.note.checkpoint.size);
        let question = Question { nonce, known, objects: owed(state)? };
        Ok(Self { question, signer, seen })
    }

    /// What is asked by who knows nothing of the vault.
    pub fn first(signer: Signer, nonce: Nonce) -> Self {
        Self { question: Question { nonce, known: 0, objects: Vec::new() }, signer, seen: None }
    }

    /// Whether what the vault says may be believed.
    ///
    /// # Errors
    /// An [`Alarm`]; it is not kept yet.
    pub fn judge(&self, word: &LogWord) -> Result<Contact, Alarm> {
        //= FORMAT#F33 signature, nonce, beginning, and what is owed
        let (checkpoint, note) = self.believe(word)?;
        let before = self.seen.as_ref().map(|seen| seen.note.checkpoint);
        let (known, root) = before.map_or((0, sha256(&[])), |seen| (seen.size, seen.root));
        let now = checkpoint.size;
        if now < known {
            return Err(Alarm::Shrunk { before: known, now });
        }
        let path = word.proofs().0.unwrap_or_default();
        if !verify_consistency(known, &root, now, &checkpoint.root, path) {
            return Err(Alarm::Forked { before: known, now });
        }
        let missing = self.missing(word, &checkpoint);
        if !missing.is_empty() {
            return Err(Alarm::Missing(missing));
        }
        Ok(Contact { checkpoint, known: before.map(|seen| seen.size), proved: self.question.objects.len(), note })
    }

    /// What was asked for and is not proved to be in the log.
    fn missing(&self, word: &LogWord, checkpoint: &Checkpoint) -> Vec<ObjectId> {
        let (_, objects) = word.proofs();
        self.question.objects.iter().filter(|id| !is_proved(**id, objects, checkpoint)).copied().collect()
    }

    /// The checkpoint, if it is the vault's, and of now.
    fn believe(&self, word: &LogWord) -> Result<(Checkpoint, Option<SignedCheckpoint>), Alarm> {
        let unfit = |text: String| Alarm::Unfit(text);
        let (checkpoint, note) = match word {
            LogWord::Read { checkpoint, .. } => (*checkpoint, None),
            LogWord::Signed(answer) => {
                let note = SignedCheckpoint::decode(&answer.note).map_err(|e| unfit(e.to_string()))?;
                note.verify(&self.signer.key).map_err(|e| unfit(e.to_string()))?;
                (note.checkpoint, Some(note))
            }
        };
        if checkpoint.vault != self.signer.vault {
            return Err(unfit("it is the log of another vault".into()));
        }
        if note.is_some() && checkpoint.nonce != Some(self.question.nonce) {
            return Err(Alarm::Stale);
        }
        Ok((checkpoint, note))
    }

    /// Judges what the vault says, and keeps what comes of it: its checkpoint, or the evidence.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn conclude(&self, state: &dyn State, word: &LogWord, now: WallTime) -> Result<Verdict, StateError> {
        match self.judge(word) {
            Ok(contact) => {
                if let Some(note) = &contact.note {
                    kept::keep(state, &self.signer, note, now)?;
                }
                Ok(Verdict::Sound(contact))
            }
            Err(alarm) => {
                let missing = self.believe(word).map_or(Vec::new(), |(now, _)| self.missing(word, &now));
                kept::raise(state, self.seen.as_ref(), word, &alarm, &missing, now)?;
                Ok(Verdict::Alarm(alarm))
            }
        }
    }
}

/// Whether the answer proves that a manifest is in the log.
fn is_proved(id: ObjectId, objects: &[Placed], checkpoint: &Checkpoint) -> bool {
    let place = objects.iter().find(|placed| placed.id == id).and_then(|placed| placed.place.as_ref());
    let leaf: Hash = leaf_hash(Leaf::new(ObjectKind::Manifest, id).as_ref());
    place.is_some_and(|(place, path)| verify_inclusion(&leaf, *place, checkpoint.size, path, &checkpoint.root))
}

/// The newest manifests for which the vault has signed, down to the first that a person knows to be missing. Of older ones
/// the kept checkpoint speaks: they were among the newest once.
fn owed(state: &dyn State) -> Result<Vec<ObjectId>, StateError> {
    let mut kept = chain::kept(state)?;
    kept.sort_by_key(|kept| (kept.sequence, kept.id));
    let receipted = ledger::receipted(state, &kept.iter().map(|kept| kept.id).collect())?;
    let missed: BTreeSet<ObjectId> = kept::missing(state)?;
    let newest = kept.iter().rev().map(|kept| kept.id).take_while(|id| !missed.contains(id));
    let owed = newest.filter(|id| receipted.contains(id));
    Ok(owed.take(LOG_ASKED_MAX).collect())
}

/// Asks the vault for its log, and keeps what comes of it.
///
/// # Errors
/// When the state fails. That the vault cannot be asked is a verdict, as is an alarm.
pub fn contact(far: &dyn Far, state: &dyn State, nonce: Nonce, now: WallTime) -> Result<Verdict, StateError> {
    let inquiry = Inquiry::new(state, far.signer(), nonce)?;
    match far.log(&inquiry.question) {
        Ok(word) => inquiry.conclude(state, &word, now),
        Err(e) => Ok(Verdict::Unknown(unknown(&e))),
    }
}

/// The same without keeping anything: for whoever only looks.
///
/// # Errors
/// When the state cannot be read.
pub fn look(far: &dyn Far, state: &dyn State, nonce: Nonce) -> Result<Verdict, StateError> {
    Ok(look_for(far, &Inquiry::new(state, far.signer(), nonce)?))
}

/// What the vault says to an inquiry. Nothing is kept.
pub fn look_for(far: &dyn Far, inquiry: &Inquiry) -> Verdict {
    match far.log(&inquiry.question).map(|word| inquiry.judge(&word)) {
        Ok(Ok(contact)) => Verdict::Sound(contact),
        Ok(Err(alarm)) => Verdict::Alarm(alarm),
        Err(e) => Verdict::Unknown(unknown(&e)),
    }
}

fn unknown(e: &FarError) -> String {
    match e {
        FarError::Away(text) => text.clone(),
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests;
