//! A depositor's chain of manifests: which of them there are, where it ends, and what the next one follows.
//!
//! Each manifest names every end of the chain that its maker knew, so that a vault which hides or rolls back one that a
//! later one follows is found out (promise P4). State and vault are always asked both: the state may be older than the
//! vault (it was put back) or know more (the vault was). Where the vault lists what cannot be read now, the chain has a
//! second line for a while, and the next manifest that can read both joins them. It must not know what sessions hold.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::limits::CHAIN_JOINS_MAX;
use lavatube_base::{DepositorId, ObjectId, Verified};
use lavatube_format::manifest::{Manifest, SignedManifest};
use lavatube_seal::DepositKeys;

use crate::courier::CourierError;
use crate::far::{Far, FarError};
use crate::ledger;
use crate::session::SessionError;
use crate::state::{State, StateError, read_all, write_all};
use crate::vaulted::{self, OBJECT_MAX, SessionsError};

const MANIFESTS: &str = "manifests/";

/// A manifest that is kept in the state because this machine signed it, or found it to be of its own depositor. All of
/// this is in its file's name, so that the ends of a chain of ten thousand are found without reading one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    /// Tag of whose it is.
    depositor: String,
    /// Its number.
    pub sequence: u64,
    /// Tag of the one before; zeros when there is none.
    previous: String,
    /// Whether it joins more.
    joins: bool,
    /// It.
    pub id: ObjectId,
}

impl Kept {
    fn of(manifest: &Manifest, id: ObjectId) -> Self {
        let previous = manifest.previous.map_or(tag(&[0; 32]), |id| tag(&id.0));
        let joins = !manifest.joins.is_empty();
        Self { depositor: tag(&manifest.depositor.0), sequence: manifest.sequence, previous, joins, id }
    }

    fn name(&self) -> String {
        let Self { depositor, sequence, previous, joins, id } = self;
        format!("{MANIFESTS}{depositor}-{sequence:010}-{previous}{}-{id}", if *joins { "+" } else { "" })
    }

    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(MANIFESTS)?.split('-');
        let (depositor, sequence, before, id) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (previous, joins) = before.strip_suffix('+').map_or((before, false), |previous| (previous, true));
        let (sequence, id) = (sequence.parse().ok()?, id.parse().ok()?);
        Some(Self { depositor: depositor.to_owned(), sequence, previous: previous.to_owned(), joins, id })
    }

    /// What is kept, when it still has its id and can be decoded.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn read(&self, state: &dyn State) -> Result<Option<(Vec<u8>, SignedManifest)>, StateError> {
        let bytes = read_all(state, &self.name(), OBJECT_MAX)?.filter(|b| Verified::check(b, self.id).is_some());
        Ok(bytes.and_then(|bytes| SignedManifest::decode(&bytes).ok().map(|signed| (bytes, signed))))
    }
}

/// The beginning of an id, for names of files.
pub(crate) fn tag(id: &[u8; 32]) -> String {
    let mut out = ObjectId(*id).to_string();
    out.truncate(TAG_DIGITS);
    out
}

const TAG_DIGITS: usize = 16;

/// All manifests that are kept, by depositor and number.
///
/// # Errors
/// When the state cannot be read.
pub fn kept(state: &dyn State) -> Result<Vec<Kept>, StateError> {
    kept_under(state, MANIFESTS)
}

fn kept_under(state: &dyn State, prefix: &str) -> Result<Vec<Kept>, StateError> {
    let names = state.list(prefix).map_err(StateError::on(prefix))?;
    let mut out: Vec<Kept> = names.iter().filter_map(|n| Kept::parse(n)).collect();
    out.sort();
    Ok(out)
}

fn prefix(depositor: &DepositorId) -> String {
    format!("{MANIFESTS}{}-", tag(&depositor.0))
}

/// What the next manifest follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub sequence: u64,
    /// The one before it: of several ends the one with the highest number.
    pub previous: Option<ObjectId>,
    /// Other ends that it joins, ascending.
    pub joins: Vec<ObjectId>,
    /// How many of the vault's releases its maker knows.
    pub releases: u64,
}

/// Where a depositor's chain stands, as far as state and vault say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its ends: number and id, ascending. One, unless two went on from the same manifest without knowing of each other.
    ends: Vec<(u64, ObjectId)>,
    /// No manifest that the vault lists and that cannot be read has a higher number than this, or there is none.
    floor: u64,
    /// Manifests the vault lists and that cannot be read now: some may be this depositor's.
    pub unread: u64,
    /// Manifests of this depositor in the vault that this state, which had some, did not know. Someone else made them, or
    /// this very machine did and an older state was put back.
    pub strange: u64,
    /// Manifests the vault signed for and does not list: it was rolled back, or hides them.
    pub withdrawn: u64,
    /// How many of the vault's releases are known here: nothing that follows leans on what they freed.
    pub releases: u64,
}

impl Chain {
    /// Where the chain of `deposit` stands as far as the state knows, for when the vault cannot be asked.
    ///
    /// # Errors
    /// When the state fails.
    pub fn known(state: &dyn State, deposit: &DepositKeys) -> Result<Self, SessionError> {
        let kept = kept_under(state, &prefix(&deposit.depositor()))?;
        Ok(Self { ends: ends(state, &kept)?, ..Self::default() })
    }

    /// Learns from state and vault where the chain of `deposit` stands. What is found in the vault is kept in the state.
    ///
    /// # Errors
    /// When the vault refuses to say what it holds, or the state fails. A manifest that cannot be read is no error.
    pub fn survey(state: &dyn State, deposit: &DepositKeys, far: &dyn Far) -> Result<Self, SessionError> {
        let depositor = deposit.depositor();
        let before = kept_under(state, &prefix(&depositor))?;
        let mut out = Self::default();
        let listed = match far.manifests() {
            // There is the spool, and what the state knows.
            Err(FarError::Away(_)) => return Self::known(state, deposit),
            listed => listed.map_err(CourierError::from)?,
        };
        let known: BTreeSet<ObjectId> = before.iter().map(|k| k.id).collect();
        let mut copies = vaulted::copies(state)?;
        for (id, len) in listed.iter().filter(|(id, _)| !known.contains(id)) {
            let copy = copies.remove(id);
            // Of a copy the name says whose it is.
            if copy.as_ref().is_some_and(|copy| copy.depositor != tag(&depositor.0)) {
                continue;
            }
            match vaulted::manifest(far, state, copy.as_ref(), *id, *len) {
                Ok(Ok(bytes)) => out.strange += u64::from(adopt(state, deposit, &bytes)?),
                // Away now, damaged, or lost: others will have to be asked, another time.
                Ok(Err(_)) | Err(SessionsError::Far(_)) => out.unread += 1,
                Err(SessionsError::State(e)) => return Err(e.into()),
            }
        }
        if before.is_empty() {
            // Nothing of it is strange to who knew nothing.
            out.strange = 0;
        }
        let there: BTreeSet<ObjectId> = listed.iter().map(|(id, _)| *id).collect();
        let gone: BTreeSet<ObjectId> = known.difference(&there).copied().collect();
        out.withdrawn = ledger::receipted(state, &gone)?.len() as u64;
        if out.unread > 0 {
            out.floor = listed.len() as u64;
        }
        out.ends = ends(state, &kept_under(state, &prefix(&depositor))?)?;
        Ok(out)
    }

    /// The same, in the knowledge of so many releases.
    #[must_use]
    pub fn knowing(self, releases: u64) -> Self {
        Self { releases, ..self }
    }

    /// What the next manifest follows.
    pub fn next(&self) -> Link {
        let before = self.ends.last();
        //= FORMAT#F24 above all it follows, and above all of which nobody knows whether it should follow them
        let sequence = before.map_or(0, |(n, _)| *n).max(self.floor) + 1;
        let others = self.ends.iter().rev().skip(1).take(CHAIN_JOINS_MAX);
        let mut joins: Vec<ObjectId> = others.map(|(_, id)| *id).collect();
        joins.sort();
        Link { sequence, previous: before.map(|(_, id)| *id), joins, releases: self.releases }
    }

    /// Goes on from a manifest that was signed with [`Chain::next`], and keeps it in the state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep(
        &mut self,
        state: &dyn State,
        manifest: &Manifest,
        bytes: Verified<'_>,
    ) -> Result<(), StateError> {
        keep(state, manifest, bytes)?;
        self.ends.retain(|(_, id)| manifest.follows().all(|followed| followed != *id));
        self.ends.push((manifest.sequence, bytes.id()));
        Ok(())
    }
}

fn keep(state: &dyn State, manifest: &Manifest, bytes: Verified<'_>) -> Result<(), StateError> {
    write_all(state, &Kept::of(manifest, bytes.id()).name(), bytes.bytes())
}

/// Keeps a manifest that is this depositor's; says whether it is.
fn adopt(state: &dyn State, deposit: &DepositKeys, bytes: &[u8]) -> Result<bool, StateError> {
    let Ok(signed) = SignedManifest::decode(bytes) else { return Ok(false) };
    let own = signed.manifest.depositor == deposit.depositor();
    if !own || signed.verify(&deposit.card().card.public).is_err() {
        return Ok(false);
    }
    keep(state, &signed.manifest, Verified::hash(bytes))?;
    Ok(true)
}

/// The manifests that no other of `all` follows: number and id, ascending.
fn ends(state: &dyn State, all: &[Kept]) -> Result<Vec<(u64, ObjectId)>, StateError> {
    let mut followed: BTreeSet<String> = all.iter().map(|k| k.previous.clone()).collect();
    for kept in all.iter().filter(|k| k.joins) {
        let joins = kept.read(state)?.map_or(Vec::new(), |(_, signed)| signed.manifest.joins);
        followed.extend(joins.iter().map(|id| tag(&id.0)));
    }
    let mut out: Vec<_> =
        all.iter().filter(|k| !followed.contains(&tag(&k.id.0))).map(|k| (k.sequence, k.id)).collect();
    out.sort_unstable();
    Ok(out)
}

/// Which of the kept manifests `listed` lacks, with the vault's receipt for them or without.
pub(crate) fn unlisted(
    state: &dyn State,
    listed: &BTreeSet<ObjectId>,
) -> Result<BTreeMap<ObjectId, Unlisted>, StateError> {
    let mut out = BTreeMap::new();
    for kept in kept(state)?.into_iter().filter(|k| !listed.contains(&k.id)) {
        // A copy that is damaged tells nothing.
        if let Some((_, SignedManifest { manifest: Manifest { depositor, sequence, .. }, .. })) = kept.read(state)? {
            out.insert(kept.id, Unlisted { depositor, sequence, receipted: false });
        }
    }
    for id in ledger::receipted(state, &out.keys().copied().collect())? {
        out.entry(id).and_modify(|unlisted| unlisted.receipted = true);
    }
    Ok(out)
}

/// A manifest that this machine signed and that neither vault nor spool lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlisted {
    /// Whose.
    pub depositor: DepositorId,
    /// Its number.
    pub sequence: u64,
    /// Whether the vault signed for it.
    pub receipted: bool,
}

#[cfg(test)]
mod tests;
