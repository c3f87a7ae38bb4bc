//! `lavatube prove`: writes evidence that a file was backed up, for whoever wants to be sure of the original.
//!
//! Step 21 of the walk from the terminal. Must not know what evidence consists of.

use std::path::{Path, PathBuf};

use lavatube_base::hex;
use lavatube_client::evidence::{Proven, Wanted, judge};
use lavatube_format::evidence::Evidence;
use lavatube_format::timestamp::{self, Token};
use lavatube_format::tree::{Entry, Kind};
use lavatube_node::atomic::{self, IfThere};
use lavatube_node::reader::{ProveError, Session};
use lavatube_node::{entropy, facts, link_folder};
use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::date;
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use crate::verbs::verify;

/// Write evidence that a file was in a backup
///
/// The evidence is one small text: the file's length and digests, the signed statement of the machine that backed it up, and
/// the vault's signature over the log that has it. Anyone who has it and the file can check both with `lavatube verify`, in
/// decades, without keys and without asking anybody, and tells the original from whatever was made to look like it. It
/// says nothing about other files. Of several backups that have the content the oldest counts.
///
/// Dates are what clocks of machines said, unless an authority signs one: --timestamp-query writes a question for a time-stamp
/// authority (RFC 3161), and --attach puts its reply into the evidence.
///
/// A file is found by its content: it may lie anywhere and have any name. What was backed up before there was evidence
/// is not found: `lavatube backup --read-all` reads it once more.
///
/// JSON fields: evidence, bytes, name, length, blake3, sha256, backed_up, made, files, entry, entries, authority, vault, query, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ProveArgs {
    /// A file here, or SNAPSHOT:PATH for one in a snapshot; with --attach an evidence
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the evidence goes [default: the file's name and `.evidence`, here]
    #[arg(long, short, value_name = "EVIDENCE")]
    output: Option<PathBuf>,
    /// Leave the file's name out
    #[arg(long)]
    without_name: bool,
    /// Write a question for a time-stamp authority to FILE, too
    #[arg(long, value_name = "FILE")]
    timestamp_query: Option<PathBuf>,
    /// Put the reply of a time-stamp authority into the evidence that FILE is
    #[arg(long, value_name = "REPLY", conflicts_with_all = ["output", "without_name", "timestamp_query"])]
    attach: Option<PathBuf>,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube prove photos/landing.raw
  lavatube prove latest:/home/ann/will.pdf --output will.evidence
  lavatube prove landing.raw --timestamp-query landing.tsq
  curl -sH 'Content-Type: application/timestamp-query' --data-binary @landing.tsq https://AUTHORITY > landing.tsr
  lavatube prove landing.raw.evidence --attach landing.tsr
  lavatube verify landing.raw.evidence landing.raw";

/// Makes it.
///
/// # Errors
/// When the file is in no backup that can be proved, or the vault does not sign.
pub fn run(args: &ProveArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    if let Some(reply) = &args.attach {
        return attach(&settings.here.join(&args.file), &settings.here.join(reply), screen);
    }
    let path = settings.here.join(&args.file);
    let spec = archive::spec_bytes(&args.file);
    let is_here = path.exists() || !spec.contains(&b':');
    // What is here is read before anyone types a passphrase.
    let local = if is_here { Some(look_at(&path)?) } else { None };
    // Who only reads gets no signature of a vault on this machine.
    let sign = !link_folder::is_far(&settings.places.vault);
    let reader = archive::open(settings, &args.read_key, "lavatube prove", sign)?;
    let session = archive::session(&reader, screen)?;
    let (wanted, name): (Vec<Wanted>, PathBuf) = match local {
        Some(whole) => {
            let sparse = facts::extents(&path).map(|e| facts::of_extents(&path, &e)).transpose();
            let sparse =
                sparse.map_err(|e| Failure::of_file(&path, &e))?.filter(|looked| looked.facts.extents.is_some());
            let wanted = [Some(whole), sparse].into_iter().flatten().map(|looked| session.wanted_here(looked));
            (wanted.collect(), args.file.clone())
        }
        None => {
            let (wanted, path) = in_snapshot(&session, spec)?;
            (vec![wanted], path)
        }
    };
    let name = name.file_name().unwrap_or_default().to_owned();
    let told = (!args.without_name).then(|| archive::spec_bytes(Path::new(&name)).to_vec());
    let evidence = session.prove(&wanted, told).map_err(blame)?;
    // Nothing leaves that would not be believed.
    let proven = judge(&evidence)
        .map_err(|flaw| Failure::new(Condition::Failed, format!("the evidence would prove nothing: {flaw}")))?;
    let output = args.output.clone().unwrap_or_else(|| {
        let mut file = name.clone();
        file.push(".evidence");
        PathBuf::from(file)
    });
    let text = evidence.encode();
    write(&settings.here.join(&output), text.as_bytes(), IfThere::Refuse)?;
    let mut query = None;
    if let Some(file) = &args.timestamp_query {
        let nonce = entropy::bytes().map_err(|e| Failure::new(Condition::Failed, e.to_string()))?;
        write(&settings.here.join(file), &timestamp::query(&evidence.stamped(), nonce), IfThere::Refuse)?;
        query = Some(file.display().to_string());
    }
    show(&evidence, &proven, &output, text.len(), query.as_deref(), screen)?;
    Ok(End::Done)
}

fn look_at(path: &Path) -> Result<facts::Looked, Failure> {
    facts::of_file(path).map_err(|e| Failure::of_file(path, &e))
}

/// What a file in a snapshot is: read back, since its tree does not say all of it.
fn in_snapshot(session: &Session<'_>, spec: &[u8]) -> Result<(Wanted, PathBuf), Failure> {
    use std::os::unix::ffi::OsStrExt;
    let named = archive::named(session, spec)?;
    let no_file = || Failure::new(Condition::Usage, "evidence is about a file: a path of one here, or SNAPSHOT:PATH");
    let path = named.path.ok_or_else(no_file)?;
    let mut content = None;
    session.list(&named.listed.snapshot, &path, false, |entry: Entry| {
        if entry.path == path
            && let Kind::File(found) = entry.kind
        {
            content = Some(found);
        }
    })?;
    let wanted = session.wanted(&content.ok_or_else(no_file)?)?;
    Ok((wanted, PathBuf::from(std::ffi::OsStr::from_bytes(&path))))
}

fn write(path: &Path, bytes: &[u8], if_there: IfThere) -> Result<(), Failure> {
    atomic::write(path, bytes, if_there).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Condition::Exists, format!("{} is there already", path.display()))
                .hint("name another file with --output, or move it away")
        }
        _ => Failure::of_file(path, &e),
    })
}

fn blame(e: ProveError) -> Failure {
    let text = e.to_string();
    match e {
        ProveError::Reader(e) => (*e).into(),
        ProveError::Unknown { waiting: 1.., .. } => {
            Failure::new(Condition::NotInVault, "the backup that has this content waits on this machine: the vault has not signed for it")
                .hint("bring its drives or its link back, and `lavatube backup` again; then it can be proved")
        }
        ProveError::Unknown { before: n @ 1.., .. } => Failure::new(
            Condition::NotInVault,
            format!("{text}; {} from before evidence could be made", things(n, "backup is", "backups are")),
        )
        .hint("if it is unchanged since then, `lavatube backup --read-all` reads it once more; from then on it can be proved"),
        ProveError::Unknown { .. } => Failure::new(Condition::NotInVault, text)
            .hint("is it what was backed up, to the last byte? If it is new or changed, `lavatube backup` it first"),
        ProveError::Log(_) => Failure::new(Condition::VaultAway, text),
        ProveError::Alarm(_) => Failure::new(Condition::LogAlarm, text),
    }
}

fn show(
    e: &Evidence,
    proven: &Proven,
    output: &Path,
    bytes: usize,
    query: Option<&str>,
    screen: &Screen,
) -> Result<(), Failure> {
    let time = date::of_unix;
    let checkpoint = &e.checkpoint.checkpoint;
    screen.say(&format!(
        "{}  {} ({})",
        screen.ink(Ink::Green, "evidence"),
        output.display(),
        units::bytes(bytes as u64)
    ))?;
    screen.say(&format!("  of         {}, {}", verify::name(e), units::bytes(e.facts.len)))?;
    screen.say(&format!("  backed up  {}, by the clock of {}", time(e.committed.time_s), e.card.card.label))?;
    screen.say(&format!(
        "  log        entry {} of {} of vault {}",
        units::count(e.logged.place),
        units::count(checkpoint.size),
        checkpoint.vault
    ))?;
    screen.say(&format!("  authority  {}", proven.authority))?;
    screen.say(&format!("  vault key  {}", proven.vault))?;
    screen.tell("Publish the last two where others can find them: by them they know whose word it is.")?;
    if let Some(query) = query {
        screen.tell(&format!(
            "Send {query} to a time-stamp authority, and then: lavatube prove {} --attach REPLY",
            output.display()
        ))?;
    }
    screen.answer(&json!({
        "evidence": output.display().to_string(),
        "bytes": bytes,
        "name": e.name.as_ref().map(|name| String::from_utf8_lossy(name)),
        "length": e.facts.len,
        "blake3": hex(&e.facts.digests.blake3),
        "sha256": hex(&e.facts.digests.sha256),
        "backed_up": time(e.committed.time_s),
        "made": time(e.made_s),
        "files": e.committed.count,
        "entry": e.logged.place,
        "entries": checkpoint.size,
        "authority": proven.authority,
        "vault": proven.vault,
        "query": query,
        "exit": 0,
    }))
}

/// Puts a token into an evidence.
fn attach(path: &Path, reply: &Path, screen: &Screen) -> Result<End, Failure> {
    let mut evidence = verify::read(path)?;
    let bytes = verify::read_file(reply, lavatube_base::limits::TOKEN_LEN_MAX)?;
    let token =
        Token::decode(&bytes).map_err(|e| Failure::new(Condition::NotProven, format!("{}: {e}", reply.display())))?;
    if token.imprint != evidence.stamped() {
        return Err(Failure::new(
            Condition::NotProven,
            format!("{} is about something else than this evidence", reply.display()),
        )
        .hint("it is the reply to another question: ask again with the question that was written with this evidence"));
    }
    evidence.token = Some(bytes);
    write(path, evidence.encode().as_bytes(), IfThere::Replace)?;
    screen.say(&format!("{} now has a time stamp of {}", path.display(), verify::token_time(&token)))?;
    screen.answer(&json!({ "evidence": path.display().to_string(), "time": verify::token_time(&token), "exit": 0 }))?;
    Ok(End::Done)
}
