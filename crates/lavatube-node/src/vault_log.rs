//! The log of a vault from this machine: shown, verified against all that the vault lists, and believed again after a
//! person has looked.
//!
//! What is believed is decided in `lavatube-client`. It must not know how a log is proved. Step 18 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::digest::merkle_root;
use lavatube_base::{ObjectId, VaultId};
use lavatube_client::chain;
use lavatube_client::far::Far;
use lavatube_client::ledger;
use lavatube_client::log::{self, Inquiry, Seen, Standing, Verdict};
use lavatube_format::shard::ObjectKind;

use crate::depositor::{DepositorError, Places, open_state, state_folder, state_to_read};
use crate::directory_state::DirectoryState;
use crate::embedded::{EmbeddedVault, VaultError};
use crate::holding::Holding;
use crate::link_folder::{self, Pairing};
use crate::lock::{Lock, Mode};
use crate::{clock, entropy};

/// Where the evidence of an alarm is, in a folder of state.
const ALARM: &str = "log/alarm";

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEntry {
    /// What it is.
    pub kind: ObjectKind,
    /// The object.
    pub id: ObjectId,
    /// Its number in its depositor's chain, of manifests that this machine knows.
    pub sequence: Option<u64>,
}

/// What is known of a vault's log.
#[derive(Debug)]
pub struct Shown {
    /// The vault.
    pub vault: VaultId,
    /// What this machine has seen and believes.
    pub seen: Option<Seen>,
    /// An alarm that nobody has looked at.
    pub standing: Option<Standing>,
    /// How the log is now; `None` of a vault at the other end of a link.
    pub now: Option<Verdict>,
    /// All of it, in order; nothing of a vault at the other end of a link.
    pub entries: Vec<LogEntry>,
}

/// What was found wrong with a whole log, and what was looked at.
#[derive(Debug, Default)]
pub struct Audit {
    /// Entries.
    pub entries: u64,
    /// Manifests of the vault, all of which should be in it.
    pub manifests: u64,
    /// Manifests that the vault has signed receipts for, to this machine.
    pub receipted: u64,
    /// What is wrong.
    pub faults: Vec<String>,
    /// Entries some of whose shards do not tell their place: they were stored by an older program.
    pub unplaced: u64,
}

/// Refuses to go on when an alarm stands.
pub(crate) fn stop_at_alarm(state: &DirectoryState) -> Result<(), DepositorError> {
    match log::standing(state)? {
        None => Ok(()),
        Some(standing) => Err(alarm(state, standing.why)),
    }
}

/// That an alarm stands.
pub(crate) fn alarm(state: &DirectoryState, why: String) -> DepositorError {
    DepositorError::LogAlarm { why, evidence: state.folder().join(ALARM) }
}

/// Meets the vault before anything is handed over to it.
pub(crate) fn meet(holding: &Holding) -> Result<Verdict, DepositorError> {
    stop_at_alarm(&holding.state)?;
    match holding.meet_log()? {
        Verdict::Alarm(why) => Err(alarm(&holding.state, why.to_string())),
        verdict => Ok(verdict),
    }
}

/// The alarm that stands for the vault of `places`, if one does.
///
/// # Errors
/// When the state cannot be read.
pub fn standing(places: &Places) -> Result<Option<Standing>, DepositorError> {
    Ok(state_to_read(places)?.map_or(Ok(None), |state| log::standing(&state))?)
}

/// How the log of an opened vault is, compared with what this machine has seen; nothing is kept.
///
/// # Errors
/// When there is no entropy, or the state cannot be read.
pub fn look(places: &Places, vault: &EmbeddedVault) -> Result<Verdict, DepositorError> {
    let (folder, nonce) = (state_folder(places, vault.signer().vault), entropy::bytes().map_err(VaultError::from)?);
    // Whoever looks makes no state.
    if !folder.exists() {
        return Ok(log::look_for(vault, &Inquiry::first(vault.signer(), nonce)));
    }
    Ok(log::look(vault, &DirectoryState::of_reader(&folder), nonce)?)
}

/// What is known of the log, and of a vault on this machine all that is in it.
///
/// # Errors
/// When vault or state cannot be opened.
pub fn show(places: &Places, wait: Duration) -> Result<Shown, DepositorError> {
    if link_folder::is_far(&places.vault) {
        let pairing = Pairing::open(&places.vault)?;
        let state = open_state(&state_folder(places, pairing.vault()))?;
        let (seen, standing) = (log::seen(&state, &pairing.signer())?, log::standing(&state)?);
        return Ok(Shown { vault: pairing.vault(), seen, standing, now: None, entries: Vec::new() });
    }
    let holding = Holding::open(places, "lavatube log", false, wait)?;
    let (state, signer) = (&holding.state, holding.vault.signer());
    let known: BTreeMap<ObjectId, u64> = chain::kept(state)?.into_iter().map(|k| (k.id, k.sequence)).collect();
    let vault = holding.vault.read();
    let entry = |leaf: &lavatube_vault::Leaf| {
        let sequence = known.get(&leaf.id()).copied();
        leaf.kind().map(|kind| LogEntry { kind, id: leaf.id(), sequence })
    };
    let entries = vault.log().iter().filter_map(entry).collect();
    drop(vault);
    Ok(Shown {
        vault: signer.vault,
        seen: log::seen(state, &signer)?,
        standing: log::standing(state)?,
        now: Some(holding.look_at_log()?),
        entries,
    })
}

/// Computes the root over all entries anew, and compares them with all that the vault lists and has signed for.
///
/// # Errors
/// When vault or state cannot be opened; what is wrong is in the result.
pub fn verify(places: &Places, wait: Duration) -> Result<Audit, DepositorError> {
    let holding = Holding::open(places, "lavatube log verify", false, wait)?;
    let (state, signer) = (&holding.state, holding.vault.signer());
    let mut out = Audit::default();
    match holding.look_at_log()? {
        Verdict::Sound(_) => {}
        Verdict::Alarm(alarm) => out.faults.push(alarm.to_string()),
        Verdict::Unknown(why) => out.faults.push(format!("it cannot be told whether this is all of it: {why}")),
    }
    let vault = holding.vault.read();
    let leaves = vault.log();
    out.entries = leaves.len() as u64;
    let seen = log::seen(state, &signer)?.map(|seen| seen.note.checkpoint);
    if let Some(seen) = seen {
        let beginning = usize::try_from(seen.size).ok().and_then(|size| leaves.get(..size));
        if beginning.is_none_or(|leaves| merkle_root(leaves) != seen.root) {
            out.faults.push(format!("its first {} entries are not those that this machine has seen", seen.size));
        }
    }
    let logged: BTreeSet<ObjectId> = leaves.iter().map(lavatube_vault::Leaf::id).collect();
    if logged.len() != leaves.len() {
        out.faults.push("an object is in it twice".into());
    }
    for object in vault.objects().filter(|object| object.kind.is_logged()) {
        out.manifests += u64::from(object.kind == ObjectKind::Manifest);
        if !logged.contains(&object.id) {
            out.faults.push(format!("object {} is in the vault and not in its log", object.id.short()));
        }
    }
    for leaf in leaves {
        if vault.find(leaf.id()).is_none_or(|object| Some(object.kind) != leaf.kind()) {
            out.faults.push(format!("object {} is in the log and not in the vault", leaf.id().short()));
        }
        out.unplaced += u64::from(vault.has_shards_without_place(leaf.id()));
    }
    let receipted = ledger::receipted(state, &chain::kept(state)?.into_iter().map(|kept| kept.id).collect())?;
    out.receipted = receipted.len() as u64;
    for id in receipted.difference(&logged) {
        out.faults.push(format!("the vault signed for manifest {} and its log does not have it", id.short()));
    }
    Ok(out)
}

/// What came of accepting a log.
#[derive(Debug)]
pub struct Accepted {
    /// Where the evidence is now; `None` when nothing was wrong.
    pub evidence: Option<std::path::PathBuf>,
    /// How the log is now; `None` of a vault at the other end of a link.
    pub now: Option<Verdict>,
}

/// Believes the vault again, as its log was when the alarm was raised: a person has looked.
///
/// # Errors
/// When vault or state cannot be opened or written.
pub fn accept(places: &Places, wait: Duration) -> Result<Accepted, DepositorError> {
    let command = "lavatube log accept";
    if link_folder::is_far(&places.vault) {
        let pairing = Pairing::open(&places.vault)?;
        let folder = state_folder(places, pairing.vault());
        let state = open_state(&folder)?;
        let _lock = Lock::acquire(&folder.join("lock"), command, Mode::Exclusive, wait)?;
        let name = log::accept(&state, &pairing.signer(), clock::wall_now())?;
        return Ok(Accepted { evidence: name.map(|name| state.folder().join(name)), now: None });
    }
    let holding = Holding::open(places, command, true, wait)?;
    // What it is accepted to be is what it is now.
    if log::standing(&holding.state)?.is_none() {
        holding.meet_log()?;
    }
    let name = log::accept(&holding.state, &holding.vault.signer(), clock::wall_now())?;
    let now = Some(holding.meet_log()?);
    Ok(Accepted { evidence: name.map(|name| holding.state.folder().join(name)), now })
}
