//! Sessions on the depositor's side: begun, finished with a signed manifest, or taken up again after a crash.
//!
//! The open session is noted on disk pack by pack. A run that finds one finishes it first: its packs get a manifest
//! without a snapshot, so that nothing that was sent is sent again. It must not know how packs are made.

use lavatube_base::{ChunkId, Digests, ObjectId, SessionId, Verified};
use lavatube_format::catalog::PackRow;
use lavatube_format::key_file::Secret;
use lavatube_format::manifest::{Leaf, Manifest, Mark, Note, Retention, Wrap, root_of};
use lavatube_format::open_session::{Begun, PackDone, Record, decode_log};
use lavatube_format::roll::Committed;
use lavatube_seal::{DepositKeys, SealError, Session, SessionKeys};

use crate::catalog::{Catalog, CatalogError, records_of};
use crate::chain::{self, Chain};
use crate::courier::{Courier, CourierError};
use crate::state::{State, StateError, read_all, write_all};
use crate::tags;

/// Name of the open session in the state.
pub const OPEN_SESSION: &str = "open-session";

/// Why a session could not begin or end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The state folder failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Sealing or signing failed.
    #[error("sealing failed: {0}")]
    Seal(#[from] SealError),
    /// The note did not open to what went in: nothing of it was stored.
    #[error("a sealed note did not open to what went in (faulty memory or processor?); the snapshot was not finished")]
    Misealed,
    /// The vault or spool did not take the manifest.
    #[error(transparent)]
    Courier(#[from] CourierError),
}

/// Chance, handed in: a session takes its id, its secret and the randomness of the wrap from it.
pub type Entropy<'e> = &'e mut dyn FnMut(&mut [u8]);

/// A session that was begun.
pub struct OpenSession {
    /// Keys of its packs.
    pub keys: SessionKeys,
    /// Its secret, wrapped.
    pub wraps: Vec<Wrap>,
}

/// Begins a session and notes it in `state`.
///
/// # Errors
/// When wrapping or writing fails.
pub fn begin(state: &dyn State, deposit: &DepositKeys, entropy: Entropy<'_>) -> Result<OpenSession, SessionError> {
    let (mut id, mut secret) = ([0; 16], [0; 32]);
    entropy(&mut id);
    entropy(&mut secret);
    let (session, secret) = (SessionId(id), Secret::new(secret));
    let (keys, wrap) = Session::begin(deposit, session, &secret, entropy)?;
    let wraps = vec![wrap];
    let mut log = Vec::new();
    let (depositor, tenant) = (deposit.depositor(), deposit.tenant().to_owned());
    Begun { session, depositor, tenant, secret, wraps: wraps.clone() }.encode(&mut log);
    tags::forget(state)?;
    write_all(state, OPEN_SESSION, &log)?;
    Ok(OpenSession { keys, wraps })
}

/// What the note of a session says, beside whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Chunks of snapshot records and the packs they are in.
    pub snapshots: Vec<(ChunkId, u32)>,
    /// Marks of snapshots that were there before.
    pub marks: Vec<Mark>,
    /// For how long nothing of the session may be freed.
    pub retention: Retention,
}

/// Ends a session: delivers the tags of its packs, signs its manifest as the next of `chain`, keeps it, delivers it. `committed` is what it read.
/// After this its snapshots exist, and its marks count.
///
/// # Errors
/// When signing or delivering fails; the session is still open then.
#[expect(clippy::too_many_arguments, reason = "what a manifest says")]
pub fn finish(
    state: &dyn State,
    deposit: &DepositKeys,
    session: &OpenSession,
    packs: &[(PackRow, [u8; 32])],
    said: Said,
    committed: &Committed,
    chain: &mut Chain,
    courier: &mut Courier<'_>,
) -> Result<(), SessionError> {
    let leaf = |(row, sha256): &(PackRow, [u8; 32])| Leaf {
        class: row.class,
        digests: Digests { blake3: row.id.0, sha256: *sha256 },
    };
    let leaves: Vec<Leaf> = packs.iter().map(leaf).collect();
    let ids: Vec<ObjectId> = packs.iter().map(|(row, _)| row.id).collect();
    let tags = tags::deliver(state, &ids, courier)?;
    let link = chain.next();
    let Said { snapshots, marks, retention } = said;
    let note = Note { tenant: deposit.tenant().to_owned(), snapshots, marks };
    let sealed_note = session.keys.seal_note(&note)?;
    if session.keys.open_note(&sealed_note)? != note {
        return Err(SessionError::Misealed);
    }
    let manifest = Manifest {
        session: session.keys.session(),
        depositor: deposit.depositor(),
        sequence: link.sequence,
        previous: link.previous,
        joins: link.joins,
        root: root_of(&leaves),
        leaves,
        wraps: session.wraps.clone(),
        note: sealed_note,
        tags,
        retention,
        releases: link.releases,
        files: Some(deposit.roll_key().commitment(session.keys.session(), committed)),
    };
    let signed = deposit.sign_manifest(manifest)?;
    let bytes = signed.encode();
    let object = Verified::hash(&bytes);
    chain.keep(state, &signed.manifest, object)?;
    Ok(courier.deliver_manifest(object)?)
}

/// Forgets the open session, with its secret and its tags.
///
/// # Errors
/// When the file cannot be removed.
pub fn close(state: &dyn State) -> Result<(), StateError> {
    state.remove(OPEN_SESSION).map_err(StateError::on(OPEN_SESSION))?;
    tags::forget(state)
}

/// What [`recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Packs of an interrupted session that were kept.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes up a session that was cut: gives its packs a manifest, unless they have one, and puts them into the catalog. A
/// session that another deposit key of the same tenant began has its secret wrapped anew: wraps name the depositor.
///
/// # Errors
/// When that cannot be completed; the session stays open.
pub fn recover(
    state: &dyn State,
    deposit: &DepositKeys,
    catalog: &mut Catalog<'_>,
    chain: &mut Chain,
    courier: &mut Courier<'_>,
    entropy: Entropy<'_>,
) -> Result<Recovered, SessionError> {
    let Some(log) = read_all(state, OPEN_SESSION, u64::MAX)? else { return Ok(Recovered::default()) };
    let mut records = decode_log(&log).into_iter();
    let begun = match records.next() {
        // What another tenant's keys sealed is nothing to this one, and of its catalog nothing fits.
        Some(Record::Begun(begun)) if begun.tenant == deposit.tenant() => begun,
        _ => {
            close(state)?;
            return Ok(Recovered::default());
        }
    };
    //= FORMAT#F17 the session is ended, never continued: a pack number that was used for a lost pack stays unused
    let packs: Vec<PackDone> = records.filter_map(|r| if let Record::Pack(p) = r { Some(p) } else { None }).collect();
    if !packs.is_empty() {
        match kept_manifest_of(state, begun.session, &packs)? {
            // It was signed already, by this state or by one that this is an older copy of: deliver the very same again.
            Some(bytes) => courier.deliver_manifest(Verified::hash(&bytes))?,
            None => {
                let Begun { session, depositor, secret, mut wraps, .. } = begun;
                let mut keys = Session::resume(deposit, session, &secret);
                if depositor != deposit.depositor() {
                    let wrap;
                    (keys, wrap) = Session::begin(deposit, session, &secret, entropy)?;
                    wraps = vec![wrap];
                }
                let rows: Vec<_> = packs.iter().map(|p| (p.row, p.sha256)).collect();
                let (open, committed) = (OpenSession { keys, wraps }, Committed::nothing());
                finish(state, deposit, &open, &rows, Said::default(), &committed, chain, courier)?;
            }
        }
        add_missing(catalog, &packs)?;
    }
    close(state)?;
    let bytes = packs.iter().map(|p| lavatube_format::pack::class_len(p.row.class) as u64).sum();
    Ok(Recovered { packs: packs.len() as u64, bytes })
}

/// A kept manifest of `session` that names all of `packs`: its bytes.
fn kept_manifest_of(
    state: &dyn State,
    session: SessionId,
    packs: &[PackDone],
) -> Result<Option<Vec<u8>>, SessionError> {
    // It is one of the last, unless a state was put back that is much older than the vault.
    for kept in chain::kept(state)?.iter().rev() {
        let Some((bytes, signed)) = kept.read(state)? else { continue };
        let Manifest { session: of, leaves, .. } = signed.manifest;
        let names = |p: &PackDone| leaves.get(p.row.number as usize).is_some_and(|leaf| leaf.id() == p.row.id);
        if of == session && packs.iter().all(names) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Completes a catalog whose last writer was cut after it had added packs and before it had added their chunks: they are
/// in the open session still.
///
/// # Errors
/// When state or catalog fail.
pub fn complete_catalog(state: &dyn State, catalog: &mut Catalog<'_>) -> Result<(), CatalogError> {
    let Some(log) = read_all(state, OPEN_SESSION, u64::MAX)? else { return Ok(()) };
    let mut records = Vec::new();
    for record in decode_log(&log) {
        let Record::Pack(pack) = record else { continue };
        let row = catalog.packs().iter().rposition(|r| r.id == pack.row.id).and_then(|n| u32::try_from(n).ok());
        let first = pack.frames.first().and_then(|f| f.chunks.first());
        if let (Some(row), Some(first)) = (row, first)
            && !catalog.knows(&first.id)?
        {
            records.extend(records_of(row, &pack.frames));
        }
    }
    catalog.add_records(records)
}

/// Adds packs that the catalog does not have yet: a crash may have come before or after it took some of them.
fn add_missing(catalog: &mut Catalog<'_>, packs: &[PackDone]) -> Result<(), CatalogError> {
    let known: Vec<ObjectId> = catalog.packs().iter().rev().take(packs.len() + 64).map(|r| r.id).collect();
    let mut records = Vec::new();
    for pack in packs {
        let row = if known.contains(&pack.row.id) {
            let at = catalog.packs().iter().rposition(|r| r.id == pack.row.id);
            at.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::MAX)
        } else {
            catalog.add_packs(&[pack.row])?
        };
        records.extend(records_of(row, &pack.frames));
    }
    catalog.add_records(records)
}
