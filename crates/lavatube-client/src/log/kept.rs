//! What is kept of the log: the checkpoint that is believed, and the evidence of an alarm (FORMAT section 16).
//!
//! Text, so that a person can read it. It must not know what is believed, nor why.

use std::collections::BTreeSet;
use std::fmt::Write;

use lavatube_base::ObjectId;
use lavatube_base::limits::{CHECKPOINT_LEN_MAX, LOG_ASKED_MAX};
use lavatube_base::time::WallTime;
use lavatube_format::checkpoint::SignedCheckpoint;

use super::Alarm;
use crate::far::{LogWord, Signer};
use crate::state::{State, StateError, read_all, write_all};

/// The checkpoint that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When a log of this size was first seen, in seconds since 1970 by this machine's clock.
    pub first: i64,
    /// When it was last seen.
    pub last: i64,
    /// It.
    pub note: SignedCheckpoint,
}

/// An alarm that nobody has looked at yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// When it was raised, in seconds since 1970; 0 when its file does not say so.
    pub found: i64,
    /// What kind of alarm.
    pub kind: String,
    /// Why, in words.
    pub why: String,
    /// Manifests that are missing.
    missing: Vec<ObjectId>,
    /// The checkpoint that came.
    then: Option<SignedCheckpoint>,
}

/// The checkpoint of `signer`'s log that is believed; `None` when there is none, or its file is damaged.
///
/// # Errors
/// When the state cannot be read.
pub fn seen(state: &dyn State, signer: &Signer) -> Result<Option<Seen>, StateError> {
    let text = read_text(state, SEEN)?.unwrap_or_default();
    let read = || {
        let (first, rest) = text.strip_prefix("first ")?.split_once('\n')?;
        let (last, note) = rest.strip_prefix("last ")?.split_once('\n')?;
        let note = SignedCheckpoint::decode(note.as_bytes()).ok()?;
        let own = note.checkpoint.vault == signer.vault && note.verify(&signer.key).is_ok();
        own.then_some(Seen { first: first.parse().ok()?, last: last.parse().ok()?, note })
    };
    Ok(read())
}

/// Keeps a checkpoint that goes on from the one that is kept.
pub(super) fn keep(
    state: &dyn State,
    signer: &Signer,
    note: &SignedCheckpoint,
    now: WallTime,
) -> Result<(), StateError> {
    let before = seen(state, signer)?;
    let size = |seen: &Seen| seen.note.checkpoint.size;
    if before.as_ref().is_some_and(|seen| size(seen) > note.checkpoint.size) {
        // Somebody else was told more meanwhile.
        return Ok(());
    }
    let first = before.filter(|seen| size(seen) == note.checkpoint.size).map_or(now.s, |seen| seen.first);
    write_all(state, SEEN, format!("first {first}\nlast {}\n{}", now.s, note.note()).as_bytes())
}

/// Keeps the evidence of an alarm. One that stands stays: what came first tells most.
pub(super) fn raise(
    state: &dyn State,
    seen: Option<&Seen>,
    word: &LogWord,
    alarm: &Alarm,
    missing: &[ObjectId],
    now: WallTime,
) -> Result<(), StateError> {
    if standing(state)?.is_some() {
        return Ok(());
    }
    let mut out = format!("found {}\nkind {}\nwhy {alarm}\n", now.s, alarm.kind());
    for id in missing {
        let _ = writeln!(out, "missing {id}");
    }
    if let Some(seen) = seen {
        put_block(&mut out, "before", seen.note.note());
    }
    match word {
        LogWord::Signed(answer) => put_block(&mut out, "then", &String::from_utf8_lossy(&answer.note)),
        LogWord::Read { checkpoint, .. } => put_block(&mut out, "then", &checkpoint.text()),
    }
    write_all(state, ALARM, out.as_bytes())
}

fn put_block(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "{name}");
    for line in text.lines() {
        let _ = writeln!(out, "{INDENT}{line}");
    }
}

/// The alarm that stands, if one does. Its file stands for it whatever is in it.
///
/// # Errors
/// When the state cannot be read.
pub fn standing(state: &dyn State) -> Result<Option<Standing>, StateError> {
    let Some(text) = read_text(state, ALARM)? else { return Ok(None) };
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let then = text.split_once("\nthen\n").map(|(_, block)| {
        let lines = block.lines().map_while(|line| line.strip_prefix(INDENT));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    });
    Ok(Some(Standing {
        found: line("found").and_then(|s| s.parse().ok()).unwrap_or_default(),
        kind: line("kind").unwrap_or_default().to_owned(),
        why: line("why").unwrap_or("the file that says why is damaged").to_owned(),
        missing: text.lines().filter_map(|line| line.strip_prefix("missing ")?.parse().ok()).collect(),
        then: then.and_then(|note| SignedCheckpoint::decode(note.as_bytes()).ok()),
    }))
}

/// Takes back an alarm after a person has looked: the log is believed from what it was then, and what is missing is not
/// asked for any more. The evidence stays, under another name, which is told; `None` when no alarm stands.
///
/// # Errors
/// When the state cannot be written.
pub fn accept(state: &dyn State, signer: &Signer, now: WallTime) -> Result<Option<String>, StateError> {
    let Some(standing) = standing(state)? else { return Ok(None) };
    if !standing.missing.is_empty() {
        let mut all = missing(state)?;
        all.extend(standing.missing);
        let text: String = all.iter().map(|id| format!("{id}\n")).collect();
        write_all(state, MISSING, text.as_bytes())?;
    }
    let is_fork = ["shrunk", "forked"].contains(&&*standing.kind);
    // Of what was replayed or is no word of the vault nothing is taken: the next answer is held to what was seen before.
    if is_fork {
        let own =
            standing.then.filter(|note| note.checkpoint.vault == signer.vault && note.verify(&signer.key).is_ok());
        match own {
            Some(note) => {
                write_all(state, SEEN, format!("first {0}\nlast {0}\n{1}", standing.found, note.note()).as_bytes())?;
            }
            // It was only read, not signed: the next word is trusted like a first one.
            None => state.remove(SEEN).map_err(StateError::on(SEEN))?,
        }
    }
    let looked = format!("{LOOKED}{}", now.s);
    state.rename(ALARM, &looked).map_err(StateError::on(ALARM))?;
    Ok(Some(looked))
}

/// Manifests that a person knows to be missing.
pub(super) fn missing(state: &dyn State) -> Result<BTreeSet<ObjectId>, StateError> {
    let text = read_text(state, MISSING)?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

fn read_text(state: &dyn State, name: &str) -> Result<Option<String>, StateError> {
    // A file that is too long is one of somebody else: it stands for itself and says nothing.
    let len = state.len(name).map_err(StateError::on(name))?;
    match len {
        Some(len) if len > TEXT_LEN_MAX => Ok(Some(String::new())),
        Some(_) => Ok(read_all(state, name, TEXT_LEN_MAX)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        None => Ok(None),
    }
}

const SEEN: &str = "log/seen";
const ALARM: &str = "log/alarm";
const LOOKED: &str = "log/looked-at-";
const MISSING: &str = "log/missing";
const INDENT: &str = "    ";
/// Longest file that is read: some thousand ids that are missing.
const TEXT_LEN_MAX: u64 = (2 * CHECKPOINT_LEN_MAX + 16 * LOG_ASKED_MAX * 2 * ObjectId::LEN) as u64;
