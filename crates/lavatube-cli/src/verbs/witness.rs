//! The part of `lavatube log` that is about witnesses: requests, signatures, and who is trusted.
//!
//! Must not know when a witness may sign.

use std::path::Path;

use lavatube_base::limits::EVIDENCE_LEN_MAX;
use lavatube_client::witness::Unwitnessed;
use lavatube_format::checkpoint::SignedCheckpoint;
use lavatube_format::witness::{KeyKind, Request, VerifierKey};
use lavatube_node::atomic::{self, IfThere};
use lavatube_node::witnesses::{Asker, Book, BookError, Standing, any_trusted};
use serde_json::{Value, json};

use crate::date;
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use crate::verbs::verify::read_file;

/// What a witness is given.
pub struct Paper<'a> {
    /// The request.
    pub request: &'a Path,
    /// Its folder.
    pub book: &'a Path,
    /// Name of a new one.
    pub name: Option<&'a str>,
    /// The vault's key.
    pub key: Option<&'a str>,
    /// Where the reply goes.
    pub output: &'a Path,
}

/// Writes a request.
///
/// # Errors
/// When the vault does not sign, or is not what it was.
pub fn request(output: &Path, old: Option<u64>, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let asker = Asker::open(&settings.places, "lavatube log request", settings.lock_wait)?;
    let standing = asker.standing()?;
    let only = if let [one] = &standing[..] { Some(&one.witness) } else { None };
    let asked = asker.request(old, only)?;
    let (old, size) = (asked.request.old, asked.request.note.checkpoint.size);
    write(&settings.here.join(output), asked.request.encode().as_bytes())?;
    screen.say(&format!("{}  from {} to {}", output.display(), old, things(size, "entry", "entries")))?;
    screen.say(&format!("  vault key  {}", asked.vault.line()))?;
    screen.tell("Give the request to the witness, and the first time the line with the key by another way.")?;
    screen.answer(&json!({
        "request": output.display().to_string(),
        "old": old,
        "size": size,
        "vault_key": asked.vault.line(),
        "exit": 0,
    }))?;
    Ok(End::Done)
}

/// Signs as a witness.
///
/// # Errors
/// When it must not, or its book is not as it should be.
pub fn sign(paper: &Paper<'_>, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let path = settings.here.join(paper.request);
    let bytes = read_file(&path, EVIDENCE_LEN_MAX)?;
    let unfit = |e: lavatube_format::Malformed| Failure::new(Condition::Usage, format!("{}: {e}", path.display()));
    let request = Request::decode(&bytes).map_err(unfit)?;
    let key = paper.key.map(parse).transpose()?;
    let book = Book::open(&settings.here.join(paper.book), paper.name, settings.lock_wait).map_err(blame)?;
    let signed = book.sign(&request, key.as_ref()).map_err(blame)?;
    write(&settings.here.join(paper.output), signed.note.note().as_bytes())?;
    let checkpoint = &signed.note.checkpoint;
    let before = match signed.before {
        Some(n) => format!("it goes on from the {} seen before", things(n, "entry", "entries")),
        None => "seen for the first time, and trusted".to_owned(),
    };
    let entries = things(checkpoint.size, "entry", "entries");
    screen.say(&format!("{}: {entries} of vault {}; {before}", screen.ink(Ink::Green, "signed"), checkpoint.vault))?;
    screen.say(&format!("  witness  {}", book.key().line()))?;
    screen.tell(&format!(
        "Give {} back: there, `lavatube log cosigned` takes it in, once they `log trust` the line above.",
        paper.output.display()
    ))?;
    screen.answer(&json!({
        "witness": book.key().line(),
        "vault": checkpoint.vault.to_string(),
        "size": checkpoint.size,
        "before": signed.before,
        "reply": paper.output.display().to_string(),
        "exit": 0,
    }))?;
    Ok(End::Done)
}

/// Takes in what a witness signed.
///
/// # Errors
/// When no trusted witness did.
pub fn cosigned(reply: &Path, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let path = settings.here.join(reply);
    let bytes = read_file(&path, EVIDENCE_LEN_MAX)?;
    let fail = |text: String| Failure::new(Condition::NotProven, format!("{}: {text}", path.display()));
    let note = SignedCheckpoint::decode(&bytes).map_err(|e| fail(e.to_string()))?;
    let asker = Asker::open(&settings.places, "lavatube log cosigned", settings.lock_wait)?;
    let all = asker.keep(&note)?;
    if all.is_empty() {
        return Err(fail("no witness that is trusted here has signed this, of this vault".into()).hint(
            "`lavatube log trust LINE` first, with the line that the witness gave you; and see that the reply is about this vault",
        ));
    }
    for (witness, time) in &all {
        screen.say(&format!(
            "{}: {} by {}, {}",
            screen.ink(Ink::Green, "witnessed"),
            things(note.checkpoint.size, "entry", "entries"),
            witness.name,
            time_of(*time)
        ))?;
    }
    let listed: Vec<Value> = all.iter().map(|(w, t)| json!({ "witness": w.line(), "time": time_of(*t) })).collect();
    screen.answer(&json!({ "size": note.checkpoint.size, "witnesses": listed, "exit": 0 }))?;
    Ok(End::Done)
}

/// Trusts a witness, or not any more.
///
/// # Errors
/// When the line is no key of a witness.
pub fn trust(line: &str, is_trusted: bool, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let key = parse(line)?;
    if key.kind != KeyKind::Cosignature {
        return Err(Failure::new(Condition::Usage, "that is a vault's key, and not a witness's"));
    }
    let asker = Asker::open(&settings.places, "lavatube log trust", settings.lock_wait)?;
    asker.trust(&key, is_trusted)?;
    let word = if is_trusted { "trusted from now on" } else { "trusted no more" };
    screen.say(&format!("{}: {word}", key.name))?;
    screen.answer(&json!({ "witness": key.line(), "trusted": is_trusted, "exit": 0 }))?;
    Ok(End::Done)
}

/// What `log verify` says of witnesses.
#[derive(Default)]
pub struct Said {
    /// What is well.
    pub lines: Vec<String>,
    /// What is not.
    pub faults: Vec<String>,
    /// All of it.
    pub listed: Vec<Value>,
}

/// What there is to say of the witnesses that are trusted.
///
/// # Errors
/// When the state fails.
pub fn standing(settings: &Settings) -> Result<Said, Failure> {
    if !any_trusted(&settings.places)? {
        return Ok(Said::default());
    }
    let asker = Asker::open(&settings.places, "lavatube log verify", settings.lock_wait)?;
    let Said { mut lines, mut faults, mut listed } = Said::default();
    for Standing { witness, signed, goes_on } in asker.standing()? {
        let name = &witness.name;
        match (signed, goes_on) {
            (None, _) => faults.push(format!("witness {name} has signed nothing that is here")),
            (Some((size, _)), Some(false)) => faults.push(format!(
                "the log does not go on from the {} that witness {name} has signed: the vault showed it another one",
                things(size, "entry", "entries")
            )),
            (Some((size, time)), goes_on) => {
                let rest =
                    if goes_on.is_some() { "" } else { "; the vault could not be asked whether it goes on from there" };
                lines.push(format!("witness     {name}: {} on {}{rest}", units::count(size), time_of(time)));
            }
        }
        let (size, time) = (signed.map(|(size, _)| size), signed.map(|(_, time)| time_of(time)));
        listed.push(json!({ "witness": witness.line(), "size": size, "time": time, "goes_on": goes_on }));
    }
    Ok(Said { lines, faults, listed })
}

fn parse(line: &str) -> Result<VerifierKey, Failure> {
    VerifierKey::parse(line).map_err(|e| Failure::new(Condition::Usage, format!("{line:?}: {e}")))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    atomic::write(path, bytes, IfThere::Replace).map_err(|e| Failure::of_file(path, &e))
}

fn time_of(s: u64) -> String {
    date::of_unix(i64::try_from(s).unwrap_or(i64::MAX))
}

fn blame(e: BookError) -> Failure {
    let text = e.to_string();
    match e {
        BookError::Unwitnessed(Unwitnessed::Forked { .. }) => Failure::new(Condition::LogAlarm, text).hint(
            "tell everyone who uses this vault: what it has signed is kept in the book, and proves that it has shown two futures",
        ),
        BookError::Unwitnessed(Unwitnessed::Elsewhere { seen, .. }) => {
            Failure::new(Condition::Usage, text).hint(format!("there: lavatube log request --old {seen} --output FILE"))
        }
        BookError::Unwitnessed(Unwitnessed::Unsigned) => Failure::new(Condition::NotProven, text),
        BookError::Key(e) => e.into(),
        BookError::Lock(e) => e.into(),
        BookError::Io { .. } => Failure::new(Condition::Io, text),
        BookError::Entropy(_) => Failure::new(Condition::Failed, text),
        BookError::Unfit(_) => Failure::new(Condition::Usage, text),
    }
}
