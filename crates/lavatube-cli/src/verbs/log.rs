//! `lavatube log`: the vault's log, whether it is what it was, and how one goes on when it is not.
//!
//! Must not know how a log is proved.

use lavatube_client::log::{Contact, Seen, Standing, Verdict};
use lavatube_node::vault_log::{self, Audit, LogEntry, Shown};
use lavatube_vault::ObjectKind;
use serde_json::{Value, json};

use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::units::{self, things};
use lavatube_base::hex;

use super::witness;
use crate::date;

/// Look at the vault's log: everything it took in, in order.
///
/// The vault logs each manifest and each depositor's card, and signs how long its log is and what is in it. This machine
/// keeps the latest of these checkpoints, and at each contact (backup, check, status) asks for a proof that the log goes on from there. So it is
/// noticed when a vault is put back to an older state, goes on in two ways, or hides something: the command then ends with status 14, and
/// nothing is backed up until a person has looked.
///
/// JSON fields: vault, size, root, verdict (sound, alarm or unknown), reason, known, signed, first_sight, seen {size, root, first, last},
/// alarm {time, kind, reason, evidence}, entries [{place, kind, object, sequence}], exit. Of a far vault it is what this machine knows: no entries.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  lavatube log\n  lavatube log --all\n  lavatube log --json | jq .root")]
pub struct LogArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// List all entries, not only the newest
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Compute the root over the whole log anew, and compare it with all that the vault lists and has signed for
    ///
    /// A witness that is trusted (`lavatube log trust`) must have signed, and the log must go on from there.
    ///
    /// JSON fields: entries, manifests, receipted, unplaced, faults, witnesses [{witness, size, time, goes_on}], exit.
    #[command(after_help = "Examples:\n  lavatube log verify\n  lavatube log verify --json | jq .faults")]
    Verify,
    /// Write a request to a witness: the vault's checkpoint, and the proof that it goes on from what the witness signed
    ///
    /// A witness is a machine or person that countersigns checkpoints, each time only if the log goes on from the one that it signed
    /// before. Two depositors that the vault shows two different futures are told so by their common witness. The request is
    /// a text (C2SP tlog-witness) that may travel any way; what comes back is taken in with `lavatube log cosigned`.
    ///
    /// JSON fields: request, old, size, vault_key, exit.
    #[command(
        after_help = "Examples:\n  lavatube log request --output ann.request\n  lavatube log request --old 17 --output ann.request   the witness said it has seen 17 entries"
    )]
    Request {
        /// Where the request goes
        #[arg(long, short, value_name = "FILE")]
        output: std::path::PathBuf,
        /// How many entries the witness has seen [default: what this machine knows of the only one it trusts, else 0]
        #[arg(long, value_name = "ENTRIES")]
        old: Option<u64>,
    },
    /// Be a witness: sign the checkpoint of a request, if the log goes on from what this witness signed before
    ///
    /// Needs no vault and no keys of an archive: the folder of --book has the witness's own key, made the first time, and what it signed.
    /// What it must not sign it says why, with exit status 14 when the vault has shown it two futures.
    ///
    /// JSON fields: witness, vault, size, before, reply, exit.
    #[command(
        after_help = "Examples:\n  lavatube log witness ann.request --book ~/witness --name ann.example --vault-key 'lavatube/…+…+…' --output ann.reply\n  lavatube log witness ann.request --book ~/witness --output ann.reply"
    )]
    Witness {
        /// The request
        #[arg(value_name = "REQUEST")]
        request: std::path::PathBuf,
        /// Folder of the witness
        #[arg(long, value_name = "DIR")]
        book: std::path::PathBuf,
        /// Name of a new witness, without spaces
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The vault's key as `lavatube log request` tells it: the first time
        #[arg(long, value_name = "LINE")]
        vault_key: Option<String>,
        /// Where the signed checkpoint goes
        #[arg(long, short, value_name = "FILE")]
        output: std::path::PathBuf,
    },
    /// Take in a checkpoint that a witness has signed
    ///
    /// JSON fields: size, witnesses [{witness, time}], exit.
    #[command(after_help = "Examples:\n  lavatube log cosigned ann.reply")]
    Cosigned {
        /// What came back from the witness
        #[arg(value_name = "REPLY")]
        reply: std::path::PathBuf,
    },
    /// Ask for the signatures of a witness from now on: `log verify` is not content without them
    ///
    /// JSON fields: witness, trusted, exit.
    #[command(
        after_help = "Examples:\n  lavatube log trust 'ann.example+1f2e3d4c+BG9k…'\n  lavatube log trust --no-more 'ann.example+1f2e3d4c+BG9k…'"
    )]
    Trust {
        /// The witness's key, as `lavatube log witness` tells it
        #[arg(value_name = "LINE")]
        key: String,
        /// Ask for them no more
        #[arg(long)]
        no_more: bool,
    },
    /// Go on after an alarm: believe the vault again, as its log was then
    ///
    /// Only for a person who knows why the vault is not what it was: drives that were put back from a copy, say. What it lacks is lost
    /// there: the next backup sends again what this machine still has. The evidence is kept.
    ///
    /// JSON fields: accepted, evidence, exit.
    #[command(after_help = "Examples:\n  lavatube log accept")]
    Accept,
}

/// Shows it.
///
/// # Errors
/// When vault or state cannot be opened.
pub fn run(args: &LogArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    match &args.action {
        None => show(args.all, settings, screen),
        Some(Action::Verify) => verify(settings, screen),
        Some(Action::Accept) => accept(settings, screen),
        Some(Action::Request { output, old }) => witness::request(output, *old, settings, screen),
        Some(Action::Witness { request, book, name, vault_key, output }) => {
            let key = vault_key.as_deref();
            witness::sign(&witness::Paper { request, book, name: name.as_deref(), key, output }, settings, screen)
        }
        Some(Action::Cosigned { reply }) => witness::cosigned(reply, settings, screen),
        Some(Action::Trust { key, no_more }) => witness::trust(key, !no_more, settings, screen),
    }
}

fn show(all: bool, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let shown = vault_log::show(&settings.places, settings.lock_wait)?;
    let alarm = shown.standing.is_some() || matches!(shown.now, Some(Verdict::Alarm(_)));
    let end = if alarm { End::Alarm } else { End::Done };
    screen.say(&format!("{}  {}", screen.ink(Ink::Bold, "log of vault"), shown.vault))?;
    if let Some(Verdict::Sound(contact)) = &shown.now {
        screen.say(&format!("  entries     {}", units::count(contact.checkpoint.size)))?;
        screen.say(&format!("  root        {}", hex(&contact.checkpoint.root)))?;
    }
    for line in [Some(seen_in_words(shown.seen.as_ref())), shown.now.as_ref().map(|v| in_words(v, HEAD, screen))] {
        line.map_or(Ok(()), |line| screen.say(&format!("  {line}")))?;
    }
    if let Some(standing) = &shown.standing {
        for line in standing_in_words(standing, screen) {
            screen.say(&line)?;
        }
    }
    let first = if all { 0 } else { shown.entries.len().saturating_sub(SHOWN_MAX) };
    for (place, entry) in shown.entries.iter().enumerate().skip(first) {
        screen.say(&format!("  {place:>9}  {}", entry_in_words(entry)))?;
    }
    if first > 0 {
        screen.tell(
            &screen
                .ink(Ink::Dim, &format!("  and {} before; --all lists them", things(first as u64, "entry", "entries"))),
        )?;
    }
    screen.answer(&answer(&shown, end))?;
    Ok(end)
}

fn entry_in_words(entry: &LogEntry) -> String {
    let what = match (entry.kind, entry.sequence) {
        (ObjectKind::Manifest, Some(n)) => format!("manifest {n} of this machine"),
        (kind, _) => word(kind).replace('-', " "),
    };
    format!("{}  {what}", entry.id.short())
}

fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Manifest => "manifest",
        ObjectKind::DepositorCard => "depositor-card",
        ObjectKind::Release => "release",
        ObjectKind::Remnant => "remnant",
        _ => "object",
    }
}

fn seen_in_words(seen: Option<&Seen>) -> String {
    match seen {
        None => "known       nothing yet: it is trusted when it is first asked, at a backup".to_owned(),
        Some(seen) => {
            let time = date::of_unix;
            let entries = things(seen.note.checkpoint.size, "entry", "entries");
            format!("known       {entries}, first seen {}, last {}", time(seen.first), time(seen.last))
        }
    }
}

/// How the log is, in words: a line whose head takes `width` columns.
pub fn in_words(verdict: &Verdict, width: usize, screen: &Screen) -> String {
    let head = format!("{:<width$}", "log");
    match verdict {
        Verdict::Sound(Contact { known: None, checkpoint, .. }) => {
            format!("{head}{}, not compared with anything yet", things(checkpoint.size, "entry", "entries"))
        }
        Verdict::Sound(Contact { known: Some(known), checkpoint, .. }) => {
            let entries = things(checkpoint.size, "entry", "entries");
            let verdict = screen.ink(Ink::Green, "goes on from what was known");
            format!("{head}{entries}; {verdict} ({known})")
        }
        Verdict::Alarm(alarm) => format!("{}{alarm}", screen.ink(Ink::Red, &head)),
        Verdict::Unknown(why) => format!("{head}cannot be compared now: {why}"),
    }
}

/// An alarm that stands, and what it means.
pub fn standing_in_words(standing: &Standing, screen: &Screen) -> [String; 2] {
    let time = date::of_unix(standing.found);
    [
        format!("  {}       since {time}: {}", screen.ink(Ink::Red, "ALARM"), standing.why),
        "              nothing is backed up to it until a person has looked: `lavatube log accept`".to_owned(),
    ]
}

/// How the log is, for programs.
pub fn to_json(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Sound(contact) => json!({
            "verdict": "sound",
            "size": contact.checkpoint.size,
            "root": hex(&contact.checkpoint.root),
            "known": contact.known,
            "signed": contact.is_signed(),
            "first_sight": contact.known.is_none(),
            "reason": null,
        }),
        Verdict::Alarm(alarm) => json!({ "verdict": "alarm", "kind": alarm.kind(), "reason": alarm.to_string() }),
        Verdict::Unknown(why) => json!({ "verdict": "unknown", "reason": why }),
    }
}

fn answer(shown: &Shown, end: End) -> Value {
    let time = date::of_unix;
    let mut value = shown.now.as_ref().map_or(json!({ "verdict": "unknown", "reason": "it is far" }), to_json);
    value["vault"] = shown.vault.to_string().into();
    value["seen"] = shown.seen.as_ref().map_or(Value::Null, |seen| {
        let checkpoint = &seen.note.checkpoint;
        json!({ "size": checkpoint.size, "root": hex(&checkpoint.root), "first": time(seen.first), "last": time(seen.last) })
    });
    value["alarm"] = shown.standing.as_ref().map_or(Value::Null, standing_to_json);
    let entry = |(place, entry): (usize, &LogEntry)| json!({ "place": place, "kind": word(entry.kind), "object": entry.id.to_string(), "sequence": entry.sequence });
    value["entries"] = shown.entries.iter().enumerate().map(entry).collect();
    value["exit"] = end.status().into();
    value
}

/// An alarm that stands, for programs.
pub fn standing_to_json(standing: &Standing) -> Value {
    let time = date::of_unix(standing.found);
    json!({ "time": time, "kind": standing.kind, "reason": standing.why })
}

fn verify(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let mut audit = vault_log::verify(&settings.places, settings.lock_wait)?;
    let mut witnessed = witness::standing(settings)?;
    audit.faults.append(&mut witnessed.faults);
    let end = if audit.faults.is_empty() { End::Done } else { End::Alarm };
    let Audit { entries, manifests, receipted, unplaced, faults } = &audit;
    screen.say(&format!("entries     {}, computed anew", units::count(*entries)))?;
    screen.say(&format!(
        "manifests   {} in the vault, {} signed for to this machine",
        units::count(*manifests),
        units::count(*receipted)
    ))?;
    if *unplaced > 0 {
        let entries = things(*unplaced, "entry has", "entries have");
        screen.say(&format!(
            "places      {entries} shards that do not tell their place; `lavatube check --repair` writes it"
        ))?;
    }
    witnessed.lines.iter().try_for_each(|line| screen.say(line))?;
    faults.iter().try_for_each(|fault| screen.say(&format!("{}       {fault}", screen.ink(Ink::Red, "fault"))))?;
    if faults.is_empty() {
        screen.say(&format!(
            "{}: the log has all of them, and goes on from what was known.",
            screen.ink(Ink::Green, "sound")
        ))?;
    }
    screen.answer(&json!({
        "entries": entries,
        "manifests": manifests,
        "receipted": receipted,
        "unplaced": unplaced,
        "faults": faults,
        "witnesses": witnessed.listed,
        "exit": end.status(),
    }))?;
    Ok(end)
}

fn accept(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let accepted = vault_log::accept(&settings.places, settings.lock_wait)?;
    let alarm = matches!(accepted.now, Some(Verdict::Alarm(_)));
    let end = if alarm { End::Alarm } else { End::Done };
    match &accepted.evidence {
        None => screen.say("Nothing is wrong with the vault's log: there is nothing to accept.")?,
        Some(path) => screen.say(&format!("Accepted. The evidence is in {}.", path.display()))?,
    }
    if let Some(now) = &accepted.now {
        screen.say(&in_words(now, HEAD, screen))?;
    }
    screen.answer(&json!({
        "accepted": accepted.evidence.is_some(),
        "evidence": accepted.evidence.as_ref().map(|path| path.to_string_lossy()),
        "exit": end.status(),
    }))?;
    Ok(end)
}

/// Columns of the heads of lines.
pub const HEAD: usize = 12;
/// Entries that are listed unless all are asked for.
const SHOWN_MAX: usize = 20;
