//! Opening a vault to read it, for the verbs that do: the read key, its passphrase, the manifests, and the words that
//! name a snapshot and a path in it.
//!
//! Must not know what is read.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_client::browse::{self, Listed};
use lavatube_client::layers::LostRange;
use lavatube_client::log::Verdict;
use lavatube_client::meter::Meter;
use lavatube_client::vaulted::SnapshotPlace;
use lavatube_format::tree::Entry;
use lavatube_node::agent::AgentKeys;
use lavatube_node::depositor;
use lavatube_node::directory_spool::DirectorySpool;
use lavatube_node::far_vault::Asking;
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder;
use lavatube_node::reader::{Reader, Session, Side};
use lavatube_node::vault_log;
use lavatube_seal::Reads;

use crate::errors::{Condition, Failure};
use crate::passphrase::Asker;
use crate::progress;
use crate::screen::Screen;
use crate::settings::Settings;
use crate::units::{self, things};

/// How a vault is read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReadArgs {
    /// Use the read key in FILE (a stick, say) instead of the one in the folder of the keys
    #[arg(long, value_name = "FILE")]
    pub read_key: Option<PathBuf>,

    /// Ask the key agent at SOCKET (`lavatube key agent`) instead of reading a key
    #[arg(long, value_name = "SOCKET", conflicts_with = "read_key")]
    pub agent: Option<PathBuf>,

    /// Ask a far vault what it holds, even if this machine knows of snapshots: others may have added some
    #[arg(long)]
    pub refresh: bool,

    /// Give up when nothing came over the link for so long [default: wait for the next contact, and the one after it]
    #[arg(long, value_name = "SECONDS")]
    pub link_wait: Option<u64>,
}

impl ReadArgs {
    /// How a far vault is asked.
    fn asking(&self) -> Asking {
        Asking { refresh: self.refresh, patience: self.link_wait.map(Duration::from_secs) }
    }
}

/// The read key.
///
/// # Errors
/// When it is not there, or not usable.
pub fn keys(settings: &Settings, args: &ReadArgs) -> Result<Box<dyn Reads>, Failure> {
    if let Some(socket) = &args.agent {
        return Ok(Box::new(AgentKeys::connect(&settings.here.join(socket))?));
    }
    let file = args.read_key.as_ref().map(|p| settings.here.join(p));
    let mut asker = Asker::new(settings.passphrase_file.as_deref());
    let keys = Keyring::at(&settings.places.keys).read(file.as_deref(), &mut |prompt| asker.ask(prompt));
    Ok(Box::new(keys.map_err(|e| asker.blame(e))?))
}

/// Opens the vault to read, or to mend too.
///
/// # Errors
/// When the key or the vault is not to be had.
pub fn open(settings: &Settings, args: &ReadArgs, command: &str, write: bool) -> Result<Reader, Failure> {
    // A missing vault is said before anyone types a passphrase.
    link_folder::vault_id(&settings.places.vault)?;
    let keys = keys(settings, args)?;
    Ok(Reader::open(&settings.places, keys, command, write, args.asking(), settings.lock_wait)?)
}

/// Says it when the vault is not what it was: what is listed may not be all that was there.
///
/// # Errors
/// When the state cannot be read.
pub fn warn_of_the_log(reader: &Reader, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    let standing = vault_log::standing(&settings.places)?.map(|standing| standing.why);
    let seen = match &reader.side {
        Side::Here(holding) if standing.is_none() => holding.look_at_log()?,
        _ => Verdict::Unknown(String::new()),
    };
    let alarm = if let Verdict::Alarm(alarm) = seen { Some(alarm.to_string()) } else { standing };
    if let Some(why) = alarm {
        screen.warn(&format!("ALARM: the vault is not what it was, and may lack snapshots: {why} (`lavatube log`)"));
    }
    Ok(())
}

/// Loads the manifests, and what this machine has yet to learn about the vault.
///
/// # Errors
/// When the vault goes away or the state fails.
pub fn session<'r>(reader: &'r Reader, screen: &Screen) -> Result<Session<'r>, Failure> {
    let meter = Meter::default();
    let session =
        reading(reader, screen, "reading the vault's index", &meter, || reader.session(&meter).map_err(Failure::from))?;
    if !session.rebuilt.lost.is_empty() {
        let n = units::things(session.rebuilt.lost.len() as u64, "pack has an index", "packs have indexes");
        screen.warn(&format!("{n} that cannot be read (`lavatube check` says what that touches)"));
    }
    Ok(session)
}

/// Does `work` while a bar shows what `meter` says, and whether a far vault is waited for.
pub fn reading<R>(reader: &Reader, screen: &Screen, title: &str, meter: &Meter, work: impl FnOnce() -> R) -> R {
    let beside = |over: &AtomicBool| {
        let Some(far) = reader.side.far() else { return };
        while !over.load(Ordering::Relaxed) {
            meter.waits.set(u64::from(far.tally().is_waiting()));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    progress::during_with(screen, title, meter, beside, work)
}

/// How many objects of backups wait on this machine for the vault.
///
/// # Errors
/// When the spool cannot be read.
pub fn waiting(settings: &Settings) -> Result<usize, Failure> {
    let id = link_folder::vault_id(&settings.places.vault)?;
    let folder = depositor::spool_folder(&depositor::state_folder(&settings.places, id));
    match DirectorySpool::peek(&folder) {
        Ok(waiting) => Ok(waiting.len()),
        Err(e) => Err(Failure::new(Condition::Io, format!("{}: {e}", folder.display()))),
    }
}

/// A snapshot, and a path in it if one was given.
#[derive(Debug)]
pub struct Named {
    /// The snapshot.
    pub listed: Listed,
    /// The path, without slashes at its ends.
    pub path: Option<Vec<u8>>,
}

/// What `SNAPSHOT[:PATH]` names. A relative path is looked for in and beside the snapshot's source folders.
///
/// # Errors
/// When no snapshot fits, or it has nothing at that path.
pub fn named(session: &Session<'_>, spec: &[u8]) -> Result<Named, Failure> {
    let (words, path) = browse::split_spec(spec);
    let listed = listed(session, &String::from_utf8_lossy(words))?;
    let Some(path) = path else { return Ok(Named { listed, path: None }) };
    let absolute = spec[words.len()..].starts_with(b":/");
    let mut places = vec![path.to_vec()];
    if !absolute {
        for root in &listed.snapshot.paths {
            let root = root.strip_prefix(b"/").unwrap_or(root);
            let parent = root.iter().rposition(|b| *b == b'/').map_or(&b""[..], |slash| &root[..slash]);
            places.extend([parent, root].map(|base| join(base, path)));
        }
    }
    for place in places {
        if place.is_empty() || is_there(session, &listed, &place)? {
            return Ok(Named { listed, path: Some(place) });
        }
    }
    let what = format!("snapshot {} has nothing at {}", listed.place.id.short(), units::tree_path(path));
    Err(Failure::new(Condition::NoPath, what))
}

/// The snapshot that `words` name. Where some cannot be read, `latest` could be one of them: an older one is never taken
/// in its place, only one that its machine is known to have taken after them.
fn listed(session: &Session<'_>, words: &str) -> Result<Listed, Failure> {
    let listing = session.snapshots()?;
    let unread = (listing.unreadable.len() + listing.refused.len()) as u64;
    let lost = |what: &str| {
        Failure::new(
            Condition::Lost,
            format!("{} of snapshots cannot be read: {what}", things(unread, "record", "records")),
        )
    };
    if unread > 0 && listing.snapshots.is_empty() {
        return Err(
            lost("there is none left to choose").hint("`lavatube status` lists the drives; bring missing ones back")
        );
    }
    let words_id = words.to_ascii_lowercase();
    if let Some((place, e)) = listing.unreadable.iter().find(|(p, _)| p.id.to_string().starts_with(&words_id)) {
        return Err(Failure::new(Condition::Lost, format!("snapshot {} cannot be read: {e}", place.id.short())));
    }
    if unread > 0 && words.starts_with("latest") {
        let after = |l: &&Listed| {
            let before = |p: &SnapshotPlace| session.follows(&l.place, p);
            listing.refused.is_empty() && listing.unreadable.iter().all(|(p, _)| before(p))
        };
        return browse::resolve(&listing.snapshots, words).ok().filter(after).cloned().ok_or_else(|| {
            lost("which one is the latest cannot be told")
                .hint("`lavatube snapshots` lists those that can be read: name one")
        });
    }
    Ok(browse::resolve(&listing.snapshots, words)?.clone())
}

fn join(base: &[u8], path: &[u8]) -> Vec<u8> {
    if base.is_empty() { path.to_vec() } else { [base, b"/", path].concat() }
}

/// Whether the snapshot has something at `path`, or one of its source folders below it.
fn is_there(session: &Session<'_>, listed: &Listed, path: &[u8]) -> Result<bool, Failure> {
    let above = |root: &Vec<u8>| is_within(root.strip_prefix(b"/").unwrap_or(root), path);
    if listed.snapshot.paths.iter().any(above) {
        return Ok(true);
    }
    let mut found = false;
    let lost = session.list(&listed.snapshot, path, false, |entry: Entry| found |= entry.path == path)?;
    // Where the tree cannot be read, the verb that follows says what is lost.
    Ok(found || !lost.is_empty())
}

/// Whether `path` is `folder` or below it.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// A part of a tree that cannot be read, in words.
pub fn lost_in_words(lost: &LostRange) -> String {
    let from = units::tree_path(&lost.from);
    match &lost.until {
        Some(until) => format!("everything from {from} to before {}: {}", units::tree_path(until), lost.error),
        None => format!("everything from {from} on: {}", lost.error),
    }
}

/// The first bytes of an argument as the system gave it.
pub fn spec_bytes(spec: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    spec.as_os_str().as_bytes()
}
