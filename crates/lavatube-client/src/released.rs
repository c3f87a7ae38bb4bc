//! What releases have freed: packs that no backup builds on and no reader misses, and snapshots that went with them.
//!
//! Whoever backs up takes the vault's word for it: what is said to be gone is sent again at worst. Whoever reads believes a
//! release only when the authority signed it, and takes what it names for gone only where it is gone. Copies lie in the state,
//! so that a backup knows them while the vault is away. Steps 3 and 19 of the walk. It must not know why anything was freed.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::limits::{PARTS_MAX, RELEASE_LEN_MAX};
use lavatube_base::sign::{ED25519_SIGNATURE_LEN, ML_DSA_65_SIGNATURE_LEN, PairPublic};
use lavatube_base::{ChunkId, ObjectId, Stays, Verified};
use lavatube_format::log::Question;
use lavatube_format::message::{Part, pieces_of};
use lavatube_format::release::{Release, SignedRelease};
use lavatube_format::remnant;
use lavatube_format::shard::ObjectKind;
use lavatube_seal::ReleaseKeys;

use crate::cache;
use crate::desk::Desk;
use crate::far::{Far, FarError};
use crate::state::{State, StateError, read_all, write_all};
use crate::vaulted::SessionsError;

/// What was freed, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Released {
    /// So many releases are known, and none before them is not.
    pub number: u64,
    /// Packs and tags.
    pub objects: BTreeSet<ObjectId>,
    /// Packs of which some was freed, and what stays of each.
    pub stays: BTreeMap<ObjectId, Stays>,
    /// Snapshots that are not whole any more, where that can be told.
    pub snapshots: BTreeSet<ChunkId>,
}

impl Released {
    /// What a depositor is to build on no more: learns from the vault what is new, and forgets the caches of snapshots that went.
    ///
    /// # Errors
    /// When the state fails, or the vault refuses to say. One that is away is no error.
    pub fn learn(far: &dyn Far, state: &dyn State, keys: &ReleaseKeys) -> Result<Self, SessionsError> {
        let listed = match far.releases() {
            Err(FarError::Away(_)) => return Ok(Self::known(state, keys)?),
            listed => listed?,
        };
        let copies = copies(state)?;
        let unlisted: Vec<&String> = copies
            .iter()
            .filter(|(id, _)| !listed.iter().any(|(there, _)| there == *id))
            .map(|(_, name)| name)
            .collect();
        // A copy of what the vault does not list is of a release that it never took, unless the drives that know of it are away.
        let question = Question { nonce: [0; 16], known: 0, objects: Vec::new() };
        if !unlisted.is_empty() && far.log(&question).is_ok() {
            for name in unlisted {
                state.remove(name).map_err(StateError::on(name))?;
            }
        }
        for (id, len) in listed.into_iter().filter(|(id, _)| !copies.contains_key(id)) {
            // What cannot be read now is learnt another time, and until then nobody says that it is known.
            let Some(signed) = fetch(far, id, len)? else { continue };
            Self::take(state, keys, id, &signed)?;
        }
        Ok(Self::known(state, keys)?)
    }

    /// The same from what others have left on a desk, without asking anybody.
    ///
    /// # Errors
    /// When the state fails.
    pub fn take_from<D: Desk>(desk: &D, state: &dyn State, keys: &ReleaseKeys) -> Result<Self, StateError> {
        let copies = copies(state)?;
        for (id, len) in desk.list(ObjectKind::Release).unwrap_or_default() {
            if copies.contains_key(&id) || len > OBJECT_MAX {
                continue;
            }
            let pieces = pieces_of(&Part { id, start: 0, len });
            let parts = pieces.map(|piece| desk.piece(&piece)?.ok()).collect::<Option<Vec<_>>>();
            if let Some(signed) = parts.and_then(|parts| decode(&parts.concat(), id)) {
                Self::take(state, keys, id, &signed)?;
            }
        }
        Self::known(state, keys)
    }

    /// Takes in a release that is new.
    fn take(state: &dyn State, keys: &ReleaseKeys, id: ObjectId, signed: &SignedRelease) -> Result<(), StateError> {
        match keys.open(&signed.release) {
            Ok(note) => cache::forget_those_of(state, &note.snapshots.into_iter().collect())?,
            // Another tenant's: nothing here is of that.
            Err(lavatube_seal::SealError::WrongKey(_)) => {}
            Err(_) => cache::forget(state)?,
        }
        // After the caches: a crash in between forgets them once more.
        keep(state, id, signed)
    }

    /// Takes in a release that the vault has taken from this machine: `bytes` of it.
    ///
    /// # Errors
    /// When the state fails.
    pub fn take_in(state: &dyn State, keys: &ReleaseKeys, bytes: &[u8]) -> Result<Self, StateError> {
        if let Ok(signed) = SignedRelease::decode(bytes) {
            Self::take(state, keys, Verified::hash(bytes).id(), &signed)?;
        }
        Self::known(state, keys)
    }

    /// A release of which the state has a copy, when the authority signed it.
    ///
    /// # Errors
    /// When the state fails.
    pub fn copy_of(state: &dyn State, id: ObjectId, authority: &PairPublic) -> Result<Option<Release>, StateError> {
        let bytes = read_all(state, &format!("{RELEASES}{id}"), OBJECT_MAX)?.unwrap_or_default();
        let signed = decode(&bytes, id).filter(|signed| signed.verify(authority).is_ok());
        Ok(signed.map(|signed| signed.release))
    }

    /// What the copies in the state say.
    ///
    /// # Errors
    /// When the state fails.
    pub fn known(state: &dyn State, keys: &ReleaseKeys) -> Result<Self, StateError> {
        let mut out = Self::default();
        let mut numbers = BTreeSet::new();
        for (id, name) in copies(state)? {
            let bytes = read_all(state, &name, OBJECT_MAX)?.unwrap_or_default();
            let Some(signed) = decode(&bytes, id) else { continue };
            numbers.insert(signed.release.number);
            out.snapshots.extend(keys.open(&signed.release).map(|note| note.snapshots).unwrap_or_default());
            out.add(&signed.release);
        }
        out.number = (1..).take_while(|n| numbers.contains(n)).count() as u64;
        Ok(out)
    }

    /// What is gone for a reader: what releases name that the authority signed, and that the vault does not have.
    ///
    /// # Errors
    /// When the vault cannot be asked, or the state fails.
    pub fn load(
        far: &dyn Far,
        state: &dyn State,
        authority: &PairPublic,
        keys: &ReleaseKeys,
    ) -> Result<Self, SessionsError> {
        let copies = copies(state)?;
        let mut out = Self::default();
        let mut thins: Vec<Thins> = Vec::new();
        for (id, len) in far.releases()? {
            let copy = match copies.get(&id) {
                Some(name) => read_all(state, name, OBJECT_MAX)?.and_then(|bytes| decode(&bytes, id)),
                None => None,
            };
            let signed = match copy {
                Some(signed) => Some(signed),
                None => fetch(far, id, len)?,
            };
            let Some(signed) = signed else { continue };
            //= FORMAT#F37 nobody but the authority makes a loss no loss
            if signed.verify(authority).is_err() || signed.release.vault != far.signer().vault {
                continue;
            }
            keep(state, id, &signed)?;
            out.number = out.number.max(signed.release.number);
            let mut gone = Vec::new();
            for object in &signed.release.objects {
                if !far.has(*object)? {
                    gone.push(*object);
                }
            }
            let snapshots = || keys.open(&signed.release).map(|note| note.snapshots).unwrap_or_default();
            // One that is not followed yet has freed nothing.
            if !gone.is_empty() {
                out.snapshots.extend(snapshots());
            }
            out.objects.extend(gone);
            if !signed.release.thins.is_empty() {
                thins.push((signed.release.number, snapshots(), signed.release.thins));
            }
        }
        out.follow(far, thins)?;
        Ok(out)
    }

    /// Takes in what releases say stays of packs, as far as the vault has followed them: what it says it holds of a pack tells how far.
    fn follow(&mut self, far: &dyn Far, mut thins: Vec<Thins>) -> Result<(), FarError> {
        thins.sort_by_key(|(number, ..)| *number);
        // Of each pack, what stays after each release.
        let mut steps: BTreeMap<ObjectId, Vec<(usize, Stays)>> = BTreeMap::new();
        for (at, (.., packs)) in thins.iter().enumerate() {
            for (pack, stays) in packs.iter().filter(|(pack, _)| !self.objects.contains(pack)) {
                let steps = steps.entry(*pack).or_default();
                let both = steps.last().map_or(Some(stays.clone()), |(_, before)| before.and(stays));
                steps.extend(both.map(|both| (at, both)));
            }
        }
        let mut followed = BTreeSet::new();
        for (pack, steps) in steps {
            let kept = far.kept_len(pack)?;
            let done = steps.iter().rposition(|(_, stays)| Some(remnant::len_of(stays)) == kept);
            let Some(done) = done else { continue };
            followed.extend(steps[..=done].iter().map(|(at, _)| *at));
            self.stays.insert(pack, steps[done].1.clone());
        }
        self.snapshots.extend(followed.into_iter().flat_map(|at| thins[at].1.clone()));
        Ok(())
    }

    /// Takes in what a release names.
    pub fn add(&mut self, release: &Release) {
        self.objects.extend(release.objects.iter().copied());
        release.thins.iter().for_each(|(pack, stays)| self.thin(*pack, stays.clone()));
        self.stays.retain(|pack, _| !self.objects.contains(pack));
    }

    /// Some of a pack was freed.
    fn thin(&mut self, pack: ObjectId, stays: Stays) {
        let both = self.stays.get(&pack).map_or(Some(stays.clone()), |known| known.and(&stays));
        self.stays.insert(pack, both.unwrap_or(stays));
    }
}

/// Number of a release, snapshots that go with it, and what stays of packs.
type Thins = (u64, Vec<ChunkId>, Vec<(ObjectId, Stays)>);

/// Parts of releases that a list on a desk names, and that are neither there nor in the state.
///
/// # Errors
/// When the state fails.
pub fn unknown_on<D: Desk>(desk: &D, state: &dyn State) -> Result<Vec<Part>, StateError> {
    let copies = copies(state)?;
    let listed = desk.list(ObjectKind::Release).unwrap_or_default().into_iter();
    let unknown = listed.filter(|(id, len)| !copies.contains_key(id) && (1..=OBJECT_MAX).contains(len));
    let parts = unknown.map(|(id, len)| Part { id, start: 0, len });
    Ok(parts.filter(|part| !pieces_of(part).all(|piece| desk.has(&piece))).take(PARTS_MAX).collect())
}

fn fetch(far: &dyn Far, id: ObjectId, len: u64) -> Result<Option<SignedRelease>, SessionsError> {
    if len > OBJECT_MAX {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    match far.fetch(id, 0..len, &mut bytes) {
        Err(e @ (FarError::Away(_) | FarError::NoRoom(_))) => Err(e.into()),
        Err(_) => Ok(None),
        Ok(()) => Ok(decode(&bytes, id)),
    }
}

fn decode(bytes: &[u8], id: ObjectId) -> Option<SignedRelease> {
    Verified::check(bytes, id).and_then(|_| SignedRelease::decode(bytes).ok())
}

fn keep(state: &dyn State, id: ObjectId, signed: &SignedRelease) -> Result<(), StateError> {
    let name = format!("{RELEASES}{id}");
    match state.len(&name).map_err(StateError::on(&name))? {
        Some(_) => Ok(()),
        None => write_all(state, &name, &signed.encode()),
    }
}

fn copies(state: &dyn State) -> Result<BTreeMap<ObjectId, String>, StateError> {
    let names = state.list(RELEASES).map_err(StateError::on(RELEASES))?;
    Ok(names.into_iter().filter_map(|name| Some((name[RELEASES.len()..].parse().ok()?, name))).collect())
}

const RELEASES: &str = "releases/";
/// Longest release as an object: magic and length, body, both signatures.
const OBJECT_MAX: u64 = (12 + RELEASE_LEN_MAX + ED25519_SIGNATURE_LEN + ML_DSA_65_SIGNATURE_LEN) as u64;
