//! Sessions on the depositor's side: begun, finished with a signed manifest, or taken up again after a crash.
//!
//! The open session is noted on disk pack by pack. A run that finds one finishes it first: its packs get a manifest
//! without a snapshot, so that nothing that was sent is sent again. It must not know how packs are made.

use lavatube_base::{ChunkId, Digests, ObjectId, SessionId, Verified};
use lavatube_format::Malformed;
use lavatube_format::catalog::PackRow;
use lavatube_format::key_file::Secret;
use lavatube_format::ledger::put_entry;
use lavatube_format::manifest::{Leaf, Manifest, Note, SignedManifest, Wrap, root_of};
use lavatube_format::open_session::{Begun, PackDone, Record, decode_log};
use lavatube_seal::{DepositKeys, SealError, Session, SessionKeys};

use crate::catalog::{Catalog, CatalogError, records_of};
use crate::courier::{Courier, CourierError};
use crate::far::{Far, ReceiptBytes};
use crate::state::{State, StateError, read_all, write_all};
use crate::vaulted::OBJECT_MAX;

/// Name of the open session in the state.
pub const OPEN_SESSION: &str = "open-session";
const MANIFESTS: &str = "manifests/";
const LEDGER: &str = "ledger";

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
    /// The vault or spool did not take the manifest.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// A manifest in the state is damaged.
    #[error("the state file {name} is damaged: {source}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        source: Malformed,
    },
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
    Begun { session, secret, wraps: wraps.clone() }.encode(&mut log);
    write_all(state, OPEN_SESSION, &log)?;
    Ok(OpenSession { keys, wraps })
}

/// Where the depositor's chain of manifests stands: number and id of the last.
///
/// # Errors
/// When the state cannot be read.
pub fn last_manifest(state: &dyn State) -> Result<Option<(u64, ObjectId)>, StateError> {
    let names = state.list(MANIFESTS).map_err(StateError::on(MANIFESTS))?;
    Ok(names.iter().filter_map(|n| parse_name(n)).max())
}

/// All manifests of this depositor that are kept here: number, id and file name, in order.
///
/// # Errors
/// When the state cannot be read.
pub fn kept_manifests(state: &dyn State) -> Result<Vec<(u64, ObjectId, String)>, StateError> {
    let names = state.list(MANIFESTS).map_err(StateError::on(MANIFESTS))?;
    let mut out: Vec<_> = names.into_iter().filter_map(|n| parse_name(&n).map(|(s, id)| (s, id, n))).collect();
    out.sort();
    Ok(out)
}

/// Learns from the vault where this depositor's chain of manifests stands, when the state does not know: it was lost,
/// and a chain that began anew would look like a vault that lies.
///
/// # Errors
/// When the vault went away or the state cannot be written.
pub fn catch_up_chain(state: &dyn State, deposit: &DepositKeys, far: &dyn Far) -> Result<(), SessionError> {
    if last_manifest(state)?.is_some() {
        return Ok(());
    }
    let mut newest: Option<(u64, Vec<u8>)> = None;
    for (id, len) in far.manifests().map_err(CourierError::from)? {
        let mut bytes = Vec::new();
        if len > OBJECT_MAX || far.fetch(id, 0..len, &mut bytes).is_err() || Verified::check(&bytes, id).is_none() {
            continue;
        }
        let Ok(signed) = SignedManifest::decode(&bytes) else { continue };
        let sequence = signed.manifest.sequence;
        let own =
            signed.manifest.depositor == deposit.depositor() && signed.verify(&deposit.card().card.public).is_ok();
        if own && newest.as_ref().is_none_or(|(known, _)| *known < sequence) {
            newest = Some((sequence, bytes));
        }
    }
    match newest {
        Some((sequence, bytes)) => Ok(keep_manifest(state, sequence, Verified::hash(&bytes))?),
        None => Ok(()),
    }
}

/// Keeps a manifest among this depositor's.
///
/// # Errors
/// When it cannot be written.
pub fn keep_manifest(state: &dyn State, sequence: u64, manifest: Verified<'_>) -> Result<(), StateError> {
    write_all(state, &format!("{MANIFESTS}{sequence:010}-{}", manifest.id()), manifest.bytes())
}

fn parse_name(name: &str) -> Option<(u64, ObjectId)> {
    let (sequence, id) = name.strip_prefix(MANIFESTS)?.split_once('-')?;
    Some((sequence.parse().ok()?, id.parse().ok()?))
}

/// Ends a session: signs its manifest, keeps it, delivers it. `snapshots` are chunks of snapshot records and the packs
/// they are in. After this the snapshots exist.
///
/// # Errors
/// When signing or delivering fails; the session is still open then.
pub fn finish(
    state: &dyn State,
    deposit: &DepositKeys,
    session: &OpenSession,
    packs: &[(PackRow, [u8; 32])],
    snapshots: Vec<(ChunkId, u32)>,
    courier: &mut Courier<'_>,
) -> Result<(), SessionError> {
    let leaf = |(row, sha256): &(PackRow, [u8; 32])| Leaf {
        class: row.class,
        digests: Digests { blake3: row.id.0, sha256: *sha256 },
    };
    let leaves: Vec<Leaf> = packs.iter().map(leaf).collect();
    let last = last_manifest(state)?;
    let note = Note { tenant: deposit.tenant().to_owned(), snapshots };
    let manifest = Manifest {
        session: session.keys.session(),
        depositor: deposit.depositor(),
        sequence: last.map_or(1, |(s, _)| s + 1),
        previous: last.map(|(_, id)| id),
        root: root_of(&leaves),
        leaves,
        wraps: session.wraps.clone(),
        note: session.keys.seal_note(&note)?,
    };
    let sequence = manifest.sequence;
    let bytes = deposit.sign_manifest(manifest)?.encode();
    let object = Verified::hash(&bytes);
    keep_manifest(state, sequence, object)?;
    Ok(courier.deliver_manifest(object)?)
}

/// Forgets the open session, with its secret.
///
/// # Errors
/// When the file cannot be removed.
pub fn close(state: &dyn State) -> Result<(), StateError> {
    state.remove(OPEN_SESSION).map_err(StateError::on(OPEN_SESSION))
}

/// What [`recover`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Packs of an interrupted session that were kept.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Takes up a session that was cut: gives its packs a manifest and puts them into the catalog.
///
/// # Errors
/// When that cannot be completed; the session stays open.
pub fn recover(
    state: &dyn State,
    deposit: &DepositKeys,
    catalog: &mut Catalog<'_>,
    courier: &mut Courier<'_>,
) -> Result<Recovered, SessionError> {
    let Some(log) = read_all(state, OPEN_SESSION, u64::MAX)? else { return Ok(Recovered::default()) };
    let mut records = decode_log(&log).into_iter();
    let Some(Record::Begun(begun)) = records.next() else {
        close(state)?;
        return Ok(Recovered::default());
    };
    //= FORMAT#F17 the session is ended, never continued: a pack number that was used for a lost pack stays unused
    let packs: Vec<PackDone> = records.filter_map(|r| if let Record::Pack(p) = r { Some(p) } else { None }).collect();
    if !packs.is_empty() {
        match kept_manifest_of(state, begun.session)? {
            // It was signed already: deliver the very same bytes again.
            Some(bytes) => courier.deliver_manifest(Verified::hash(&bytes))?,
            None => {
                let keys = Session::resume(deposit, begun.session, &begun.secret);
                let session = OpenSession { keys, wraps: begun.wraps };
                let rows: Vec<_> = packs.iter().map(|p| (p.row, p.sha256)).collect();
                finish(state, deposit, &session, &rows, Vec::new(), courier)?;
            }
        }
        add_missing(catalog, &packs)?;
    }
    close(state)?;
    let bytes = packs.iter().map(|p| lavatube_format::pack::class_len(p.row.class) as u64).sum();
    Ok(Recovered { packs: packs.len() as u64, bytes })
}

fn kept_manifest_of(state: &dyn State, session: SessionId) -> Result<Option<Vec<u8>>, SessionError> {
    let Some((_, _, name)) = kept_manifests(state)?.pop() else { return Ok(None) };
    let bytes = read_all(state, &name, u64::MAX)?.unwrap_or_default();
    let signed = SignedManifest::decode(&bytes).map_err(|source| SessionError::Damaged { name, source })?;
    Ok((signed.manifest.session == session).then_some(bytes))
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

/// Appends receipts to the ledger.
///
/// # Errors
/// When the ledger cannot be written.
pub fn note_receipts(state: &dyn State, receipts: &[(ObjectId, ReceiptBytes)]) -> Result<(), StateError> {
    if receipts.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for (id, receipt) in receipts {
        put_entry(&mut bytes, *id, &receipt.0);
    }
    state.append(LEDGER, &bytes).map_err(StateError::on(LEDGER))
}
