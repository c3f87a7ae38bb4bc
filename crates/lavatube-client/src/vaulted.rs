//! What the vault holds, as its manifests say: the sessions that are believed, and their keys once they are asked for.
//!
//! Nothing is read from a pack that no believed manifest names. A manifest is believed when its bytes have the id the
//! vault lists it under and both signatures verify with the keys of a depositor's card. Keys are opened lazily, because
//! unwrapping costs a KEM operation and most restores touch few sessions. Steps 19 and 20 of the walk. It must not know
//! packs' insides, nor where cards come from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use lavatube_base::limits::MANIFEST_LEN_MAX;
use lavatube_base::sign::{ED25519_SIGNATURE_LEN, ML_DSA_65_SIGNATURE_LEN};
use lavatube_base::{ChunkId, DepositorId, ObjectId, SessionId, Verified};
use lavatube_format::catalog::PackRow;
use lavatube_format::depositor_card::DepositorCard;
use lavatube_format::manifest::{Leaf, Manifest, Mark, SignedManifest};
use lavatube_seal::{SealError, SessionKeys, Unwrap, verify_manifest};

use crate::chain::{self, Unlisted};
use crate::far::{Far, FarError};
use crate::released::Released;
use crate::state::{State, StateError, read_all};

/// Why the sessions of a vault cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SessionsError {
    /// The vault did not answer.
    #[error(transparent)]
    Far(#[from] FarError),
    /// The folder of the state failed.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A manifest that is not believed, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The manifest.
    pub id: ObjectId,
    /// The reason, for people.
    pub reason: String,
}

/// One believed session.
#[derive(Debug)]
pub struct Vaulted {
    /// Id of its manifest.
    pub id: ObjectId,
    /// Its manifest, whose signatures verified.
    pub manifest: Manifest,
    keys: OnceLock<Result<SessionKeys, SealError>>,
}

/// Where a snapshot's record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotPlace {
    /// The snapshot.
    pub id: ChunkId,
    /// Who deposited it.
    pub depositor: DepositorId,
    /// Manifest that finished it.
    pub manifest: ObjectId,
    /// Sequence number of that manifest.
    pub sequence: u64,
    /// Pack with its record; `None` when the note names a pack the session does not have.
    pub pack: Option<ObjectId>,
    /// The mark that counts; `None` when nobody ever said anything of it.
    pub mark: Option<Mark>,
}

impl SnapshotPlace {
    /// Whether it is marked as forgotten.
    pub fn is_forgotten(&self) -> bool {
        self.mark.is_some_and(|mark| mark.forgotten)
    }
}

/// All sessions of a vault, by depositor and sequence number, and what is known of others. Shared by all threads that read.
pub struct Sessions<'k> {
    unwrap: &'k dyn Unwrap,
    all: Vec<Vaulted>,
    by_session: BTreeMap<SessionId, Vec<usize>>,
    by_id: BTreeMap<ObjectId, usize>,
    refused: Vec<Refused>,
    unlisted: BTreeMap<ObjectId, Unlisted>,
    released: Released,
}

/// Tells the card of a depositor whose certificate the caller has verified.
pub type Cards<'a> = dyn Fn(&DepositorId) -> Option<DepositorCard> + 'a;

const SENT: &str = "manifests/";
const FETCHED: &str = "vaulted/";
/// Longest manifest as an object: magic and length, body, both signatures.
pub(crate) const OBJECT_MAX: u64 = (12 + MANIFEST_LEN_MAX + ED25519_SIGNATURE_LEN + ML_DSA_65_SIGNATURE_LEN) as u64;

impl<'k> Sessions<'k> {
    /// Learns all sessions of the vault. Manifests that `state` has a copy of are not fetched; fetched ones are kept
    /// there under `vaulted/`.
    ///
    /// # Errors
    /// When the vault cannot be asked or the state's files fail. A single manifest that cannot be fetched or believed is
    /// no error; see [`Sessions::refused`].
    pub fn load(
        far: &dyn Far,
        state: &dyn State,
        cards: &Cards<'_>,
        unwrap: &'k dyn Unwrap,
    ) -> Result<Self, SessionsError> {
        let copies = copies(state)?;
        let mut found = Vec::new();
        let mut refused = Vec::new();
        let mut listed = BTreeSet::new();
        let all = far.manifests()?;
        if far.is_distant() {
            let unknown = all.iter().filter(|(id, len)| !copies.contains_key(id) && *len <= OBJECT_MAX);
            far.want(&unknown.map(|(id, len)| (*id, 0..*len)).collect::<Vec<_>>())?;
        }
        for (id, len) in all {
            listed.insert(id);
            match manifest(far, state, copies.get(&id), id, len)? {
                Ok(bytes) => found.push((id, bytes)),
                Err(reason) => refused.push(Refused { id, reason }),
            }
        }
        let unlisted = chain::unlisted(state, &listed)?;
        Ok(Self { unlisted, ..Self::build(found, refused, cards, unwrap) })
    }

    /// The sessions whose manifests `state` has copies of, for when the vault is away.
    ///
    /// # Errors
    /// When the state's files fail.
    pub fn local(state: &dyn State, cards: &Cards<'_>, unwrap: &'k dyn Unwrap) -> Result<Self, SessionsError> {
        let mut found = Vec::new();
        for (id, copy) in copies(state)? {
            if let Some(bytes) = read_all(state, &copy.name, OBJECT_MAX)?
                && Verified::check(&bytes, id).is_some()
            {
                found.push((id, bytes));
            }
        }
        Ok(Self::build(found, Vec::new(), cards, unwrap))
    }

    fn build(
        found: Vec<(ObjectId, Vec<u8>)>,
        mut refused: Vec<Refused>,
        cards: &Cards<'_>,
        unwrap: &'k dyn Unwrap,
    ) -> Self {
        let mut all = Vec::new();
        let mut known: BTreeMap<DepositorId, Option<DepositorCard>> = BTreeMap::new();
        for (id, bytes) in found {
            match believe(&bytes, |d| known.entry(*d).or_insert_with(|| cards(d)).as_ref()) {
                Ok(manifest) => all.push(Vaulted { id, manifest, keys: OnceLock::new() }),
                Err(reason) => refused.push(Refused { id, reason }),
            }
        }
        all.sort_by_key(|v| (v.manifest.depositor, v.manifest.sequence, v.id));
        let mut by_session: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
        for (i, vaulted) in all.iter().enumerate() {
            by_session.entry(vaulted.manifest.session).or_default().push(i);
        }
        refused.sort_by_key(|r| r.id);
        let by_id = all.iter().enumerate().map(|(i, v)| (v.id, i)).collect();
        Self { unwrap, all, by_session, by_id, refused, unlisted: BTreeMap::new(), released: Released::default() }
    }

    /// The same, in the knowledge of what was freed of them.
    #[must_use]
    pub fn without(self, released: Released) -> Self {
        Self { released, ..self }
    }

    /// What was freed of them.
    pub fn released(&self) -> &Released {
        &self.released
    }

    /// The believed sessions, by depositor and sequence number.
    pub fn all(&self) -> &[Vaulted] {
        &self.all
    }

    /// Manifests the vault lists but which are not believed.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Manifests this machine signed and nobody lists.
    pub fn unlisted(&self) -> &BTreeMap<ObjectId, Unlisted> {
        &self.unlisted
    }

    /// Where in [`Sessions::all`] a manifest stands.
    pub fn position(&self, manifest: ObjectId) -> Option<usize> {
        self.by_id.get(&manifest).copied()
    }

    /// Whether manifest `later` was made by someone who knew `earlier`: it follows it, or one that does.
    pub fn follows(&self, later: ObjectId, earlier: ObjectId) -> bool {
        let mut seen = BTreeSet::new();
        let mut left = vec![later];
        while let Some(id) = left.pop() {
            let Some(position) = self.position(id).filter(|_| seen.insert(id)) else { continue };
            left.extend(self.all[position].manifest.follows());
            if left.contains(&earlier) {
                return true;
            }
        }
        false
    }

    /// The keys of the session that has pack `row`, or `None` when no believed manifest names that pack.
    ///
    /// # Errors
    /// [`SealError`] when the read key does not open the session.
    pub fn keys_of(&self, row: &PackRow) -> Result<Option<&SessionKeys>, SealError> {
        let named = |i: &&usize| self.leaf(**i, row.number).is_some_and(|l| l.id() == row.id && l.class == row.class);
        match self.by_session.get(&row.session).and_then(|list| list.iter().find(named)) {
            Some(i) => self.keys(&self.all[*i]).map(Some),
            None => Ok(None),
        }
    }

    /// The keys of a session; opened at the first call.
    ///
    /// # Errors
    /// [`SealError`] when the read key does not open it.
    pub fn keys<'v>(&self, vaulted: &'v Vaulted) -> Result<&'v SessionKeys, SealError> {
        let m = &vaulted.manifest;
        let opened = vaulted.keys.get_or_init(|| self.unwrap.open_session(m.session, m.depositor, &m.wraps));
        opened.as_ref().map_err(Clone::clone)
    }

    /// All snapshots the notes name, by depositor and sequence number, and the manifests whose notes do not open. Their
    /// times are in their records ([`crate::browse::snapshots`]).
    pub fn snapshots(&self) -> (Vec<SnapshotPlace>, Vec<Refused>) {
        let (mut out, mut closed, mut marks) = (Vec::new(), Vec::new(), Vec::new());
        let mut seen = BTreeMap::new();
        for (i, vaulted) in self.all.iter().enumerate() {
            let m = &vaulted.manifest;
            let note = match self.keys(vaulted).and_then(|keys| keys.open_note(&m.note)) {
                Ok(note) => note,
                Err(e) => {
                    closed.push(Refused { id: vaulted.id, reason: e.to_string() });
                    continue;
                }
            };
            marks.extend(note.marks);
            for (id, number) in note.snapshots.into_iter().filter(|(id, _)| !self.released.snapshots.contains(id)) {
                let pack = self.leaf(i, number).map(Leaf::id);
                seen.entry(id).or_insert_with(|| {
                    let (depositor, sequence) = (m.depositor, m.sequence);
                    out.push(SnapshotPlace { id, depositor, manifest: vaulted.id, sequence, pack, mark: None });
                    out.len() - 1
                });
            }
        }
        for mark in marks {
            if let Some(place) = seen.get(&mark.snapshot).and_then(|n| out.get_mut(*n)) {
                self.put_mark(place, mark);
            }
        }
        (out, closed)
    }

    /// Takes a mark for the one that counts, if it does.
    fn put_mark(&self, place: &mut SnapshotPlace, mark: Mark) {
        // Of two that stand equally high the careful one.
        let rank = |mark: &Mark| (mark.edition, !mark.forgotten);
        if place.mark.is_none_or(|known| rank(&mark) > rank(&known))
            && self.keys_at(place.manifest).is_some_and(|keys| keys.is_right(&mark))
        {
            place.mark = Some(mark);
        }
    }

    fn keys_at(&self, manifest: ObjectId) -> Option<&SessionKeys> {
        self.keys(&self.all[self.position(manifest)?]).ok()
    }

    /// A mark of a snapshot that counts before all marks of it that are here.
    pub fn mark(&self, place: &SnapshotPlace, forgotten: bool) -> Option<Mark> {
        let edition = place.mark.map_or(0, |mark| mark.edition).saturating_add(1);
        Some(self.keys_at(place.manifest)?.mark(place.id, forgotten, edition))
    }

    /// Rows for the pack table of all packs of a session that were not freed, in order.
    pub fn standing<'v>(&'v self, vaulted: &'v Vaulted) -> impl Iterator<Item = PackRow> + 'v {
        Self::rows(vaulted).filter(|row| !self.released.objects.contains(&row.id))
    }

    fn rows(vaulted: &Vaulted) -> impl Iterator<Item = PackRow> + '_ {
        let m = &vaulted.manifest;
        (0u32..).zip(&m.leaves).map(|(number, leaf)| PackRow {
            id: leaf.id(),
            class: leaf.class,
            session: m.session,
            number,
        })
    }

    fn leaf(&self, session: usize, number: u32) -> Option<&Leaf> {
        self.all[session].manifest.leaves.get(usize::try_from(number).ok()?)
    }
}

impl std::fmt::Debug for Sessions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({} believed, {} refused)", self.all.len(), self.refused.len())
    }
}

/// The manifest in `bytes`, when there is reason to believe it.
fn believe<'c>(bytes: &[u8], card: impl FnOnce(&DepositorId) -> Option<&'c DepositorCard>) -> Result<Manifest, String> {
    let signed = SignedManifest::decode(bytes).map_err(|e| e.to_string())?;
    let depositor = signed.manifest.depositor;
    let card = card(&depositor).ok_or_else(|| format!("no card certifies depositor {}", depositor.short()))?;
    verify_manifest(&signed, card).map_err(|e| e.to_string())?;
    Ok(signed.manifest)
}

/// A copy of a manifest in the state.
pub(crate) struct Copied {
    /// Tag of whose it is.
    pub(crate) depositor: String,
    pub(crate) name: String,
}

impl Copied {
    /// Whether it is as it went out from here.
    pub(crate) fn is_own(&self) -> bool {
        self.name.starts_with(SENT)
    }
}

/// The manifests that went out from here, of which the state has copies.
///
/// # Errors
/// When the state cannot be read.
pub fn sent(state: &dyn State) -> Result<BTreeSet<ObjectId>, StateError> {
    Ok(copies(state)?.into_iter().filter(|(_, copied)| copied.is_own()).map(|(id, _)| id).collect())
}

/// The bytes of manifest `id`: the state's copy, or the vault's.
///
/// # Errors
/// When they are not to be had, or the state fails.
pub fn manifest_bytes(far: &dyn Far, state: &dyn State, id: ObjectId) -> Result<Vec<u8>, SessionsError> {
    let listed = far.manifests()?.into_iter().find(|(listed, _)| *listed == id);
    let len = listed.map(|(_, len)| len).ok_or(FarError::Absent(id))?;
    let bytes = manifest(far, state, copies(state)?.get(&id), id, len)?;
    bytes.map_err(|text| FarError::Lost { id, text }.into())
}

/// Copies of manifests in the state.
pub(crate) fn copies(state: &dyn State) -> Result<BTreeMap<ObjectId, Copied>, StateError> {
    let mut out = BTreeMap::new();
    for prefix in [FETCHED, SENT] {
        for name in state.list(prefix).map_err(StateError::on(prefix))? {
            let mut parts = name[prefix.len()..].split('-');
            let depositor = parts.next().unwrap_or_default().to_owned();
            if let Some(id) = parts.next_back().and_then(|id| id.parse().ok()) {
                out.insert(id, Copied { depositor, name });
            }
        }
    }
    Ok(out)
}

/// The bytes of a manifest that the vault lists: the state's copy where it is whole, else the vault's, of which a copy is
/// then kept. The inner error is the vault's or the bytes' fault.
///
/// # Errors
/// When the vault is away or the state fails.
pub(crate) fn manifest(
    far: &dyn Far,
    state: &dyn State,
    copy: Option<&Copied>,
    id: ObjectId,
    len: u64,
) -> Result<Result<Vec<u8>, String>, SessionsError> {
    if let Some(copy) = copy
        && let Some(bytes) = read_all(state, &copy.name, OBJECT_MAX)?.filter(|b| Verified::check(b, id).is_some())
    {
        return Ok(Ok(bytes));
    }
    if len > OBJECT_MAX {
        return Ok(Err(format!("{len} bytes are more than a manifest may have")));
    }
    let mut bytes = Vec::new();
    match far.fetch(id, 0..len, &mut bytes) {
        Err(e @ (FarError::Away(_) | FarError::NoRoom(_))) => return Err(e.into()),
        Err(e) => return Ok(Err(e.to_string())),
        Ok(()) => {}
    }
    if Verified::check(&bytes, id).is_none() {
        return Ok(Err("its bytes do not have its id".into()));
    }
    // What is none need not be kept.
    if let Ok(signed) = SignedManifest::decode(&bytes) {
        crate::state::write_all(state, &format!("{FETCHED}{}-{id}", chain::tag(&signed.manifest.depositor.0)), &bytes)?;
    }
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests;
