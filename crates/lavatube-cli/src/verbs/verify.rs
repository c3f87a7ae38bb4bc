//! `lavatube verify`: whether a file is the one that evidence is about, and whose word that is.
//!
//! Needs no keys, no state and no vault. Must not know how evidence is made.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use lavatube_base::hex;
use lavatube_base::limits::{EVIDENCE_LEN_MAX, SPOT_FILE_LEN_MAX};
use lavatube_client::evidence::{Flaw, Proven, compare, judge};
use lavatube_format::evidence::Evidence;
use lavatube_format::timestamp::Token;
use lavatube_format::witness::VerifierKey;
use lavatube_node::facts;
use serde_json::{Value, json};

use crate::date;
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::units;
use crate::verbs::spot;

/// Check a file against evidence of the original
///
/// Says whether the file is, to the last byte, the one that was backed up, who signed for it, and what is only claimed. Needs no
/// keys, no vault and no network: the evidence has all that it takes. Whose keys it has is another question: compare the two
/// fingerprints with what their owner has published, or name them here.
///
/// Exit status: 0 proven; 16 not proven, with the reason.
///
/// A spot proof is checked, too, without a file: it has the manifests that it is about.
///
/// JSON fields: proven, file, name, length, blake3, sha256, depositor, depositor_id, backed_up, files, vault_id, entry, entries, made,
/// authority, authority_checked, vault, vault_checked, witnesses [{witness, time}], stamp {time, matches}, exit; of a spot proof those of `lavatube audit --spot`, time and manifests.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The evidence, or a spot proof (`lavatube audit --spot --save`)
    #[arg(value_name = "EVIDENCE")]
    evidence: PathBuf,
    /// The file; not of a spot proof
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Who must have certified the machine that backed it up: the authority's fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    authority: Option<String>,
    /// Which vault must have signed: the fingerprint of its key
    #[arg(long = "vault-key", value_name = "FINGERPRINT")]
    vault_key: Option<String>,
    /// A witness that must have signed the checkpoint, by the line with its key; several may be named
    #[arg(long, value_name = "LINE")]
    witness: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  lavatube verify landing.raw.evidence landing.raw
  lavatube verify will.evidence will.pdf --authority 5f3c…   the whole fingerprint, 64 digits
  lavatube verify landing.raw.evidence landing.raw --json | jq .proven";

/// Checks.
///
/// # Errors
/// When it is not proven, and why.
pub fn run(args: &VerifyArgs, screen: &Screen) -> Result<End, Failure> {
    let Some(file) = &args.file else {
        if spot::is_one(&read_file(&args.evidence, SPOT_FILE_LEN_MAX)?) {
            return spot::verify(&args.evidence, screen);
        }
        return Err(Failure::new(Condition::Usage, "evidence is checked against a file: name that, too"));
    };
    let evidence = read(&args.evidence)?;
    let found = match &evidence.facts.extents {
        None => facts::of_file(file),
        Some(extents) => facts::of_extents(file, extents),
    };
    let found = found.map(|looked| looked.facts).map_err(|e| Failure::of_file(file, &e))?;
    // Evidence that is not worth anything is said first: whatever the file is, it proves nothing.
    let proven = judge(&evidence).map_err(|flaw| not_proven(&args.evidence, &flaw))?;
    anchors(args, &proven)?;
    let witnesses = witnesses(args, &evidence)?;
    let stamp = stamp(&evidence, &args.evidence)?;
    compare(&evidence, &found).map_err(|flaw| not_proven(file, &flaw))?;
    let seen = Seen { evidence: &evidence, proven: &proven, stamp: stamp.as_ref(), witnesses: &witnesses };
    show(args, file, &seen, screen)?;
    screen.answer(&answer(args, file, &seen))?;
    Ok(End::Done)
}

/// Reads evidence.
///
/// # Errors
/// When the file cannot be read, or is none.
pub fn read(path: &Path) -> Result<Evidence, Failure> {
    let bytes = read_file(path, EVIDENCE_LEN_MAX)?;
    Evidence::decode(&bytes).map_err(|e| {
        let what = format!("{} is no whole evidence: {e}", path.display());
        Failure::new(Condition::NotProven, what)
            .hint("it was cut or changed on its way: get it anew from whoever made it")
    })
}

/// A whole file, of at most so many bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_file(path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let fail = |e: &std::io::Error| Failure::of_file(path, e);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| fail(&e))?;
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
    if bytes.len() > max {
        return Err(Failure::new(Condition::NotProven, format!("{} is longer than any there is", path.display())));
    }
    Ok(bytes)
}

fn not_proven(path: &Path, flaw: &Flaw) -> Failure {
    Failure::new(Condition::NotProven, format!("not proven: {}: {flaw}", path.display()))
}

/// Whether the keys are those that were asked for.
fn anchors(args: &VerifyArgs, proven: &Proven) -> Result<(), Failure> {
    let differs = |asked: &Option<String>, found: &str| {
        asked.as_ref().is_some_and(|asked| asked.trim().to_ascii_lowercase() != found)
    };
    if differs(&args.authority, &proven.authority) {
        let found = proven.authority.clone();
        return Err(not_proven(&args.evidence, &Flaw::OtherAuthority { found }));
    }
    if differs(&args.vault_key, &proven.vault) {
        return Err(not_proven(&args.evidence, &Flaw::OtherVault { found: proven.vault.clone() }));
    }
    Ok(())
}

/// What the evidence's time-stamp token says; one about something else proves that something was changed.
fn stamp(evidence: &Evidence, path: &Path) -> Result<Option<Token>, Failure> {
    let Some(token) = &evidence.token else { return Ok(None) };
    let fail = |what: String| Failure::new(Condition::NotProven, format!("not proven: {}: {what}", path.display()));
    let token = Token::decode(token).map_err(|e| fail(e.to_string()))?;
    if token.imprint == evidence.stamped() {
        Ok(Some(token))
    } else {
        Err(fail("its time stamp is about another text".into()))
    }
}

/// What there is to say of evidence that proves its file.
struct Seen<'e> {
    evidence: &'e Evidence,
    proven: &'e Proven,
    stamp: Option<&'e Token>,
    /// By name, with the time of each signature.
    witnesses: &'e [(String, i64)],
}

/// The witnesses that were named, and when each signed.
fn witnesses(args: &VerifyArgs, evidence: &Evidence) -> Result<Vec<(String, i64)>, Failure> {
    let one = |line: &String| {
        let usage = |e: lavatube_format::Malformed| Failure::new(Condition::Usage, format!("{line:?}: {e}"));
        let key = VerifierKey::parse(line).map_err(usage)?;
        let time = evidence.checkpoint.cosigned(&key);
        let time = time.map_err(|_| not_proven(&args.evidence, &Flaw::Unwitnessed(key.name.clone())))?;
        Ok((key.name, i64::try_from(time).unwrap_or(i64::MAX)))
    };
    args.witness.iter().map(one).collect()
}

fn show(args: &VerifyArgs, file: &Path, seen: &Seen<'_>, screen: &Screen) -> Result<(), Failure> {
    let Seen { evidence: e, proven, stamp, witnesses } = seen;
    let time = date::of_unix;
    let checkpoint = &e.checkpoint.checkpoint;
    let file = file.display();
    screen.say(&format!(
        "{}: {file} is, to the last byte, a file that was backed up",
        screen.ink(Ink::Green, "proven")
    ))?;
    let of = if e.facts.extents.is_some() { ", and zeros between; of its data" } else { "," };
    screen.say(&format!("  content    {}{of} SHA-256 {}", units::bytes(e.facts.len), hex(&e.facts.digests.sha256)))?;
    let card = &e.card.card;
    screen.say(&format!(
        "  signed by  {} (depositor {}), with Ed25519 and ML-DSA-65",
        card.label,
        card.id().short()
    ))?;
    screen.say(&format!("  certified  by authority {}{}", proven.authority, asked(args.authority.is_some())))?;
    let (entry, all) = (units::count(e.logged.place), units::count(checkpoint.size));
    screen.say(&format!("  logged     entry {entry} of {all} of vault {}", checkpoint.vault))?;
    screen.say(&format!("  signed by  vault key {}{}", proven.vault, asked(args.vault_key.is_some())))?;
    for (witness, signed) in *witnesses {
        let signed = time(*signed);
        screen.say(&format!("  witnessed  {signed} by {witness}: whose clock it is, and who signed it"))?;
    }
    screen.say(&format!("{}, and not proved:", screen.ink(Ink::Bold, "claimed")))?;
    screen.say(&format!("  name       {}", name(e)))?;
    screen.say(&format!("  backed up  {}: the clock of {}, who signed it", time(e.committed.time_s), card.label))?;
    screen.say(&format!("  made       {}: the clock of whoever made the evidence", time(e.made_s)))?;
    if let Some(token) = stamp {
        screen.say(&format!(
            "  stamped    {}: in a time stamp about this very text; who signed it is checked with",
            token_time(token)
        ))?;
        let digest = hex(&e.stamped());
        screen.say(&format!(
            "             sed -n '/^token$/,$p' {} | tail -n +2 | tr -d ' ' | base64 -d > reply.tsr\n             openssl ts -verify -digest {digest} -in reply.tsr -CAfile AUTHORITY.pem",
            args.evidence.display()
        ))?;
    }
    if args.authority.is_none() || args.vault_key.is_none() {
        screen.tell("Keys not named with --authority or --vault-key are the evidence's own word: compare their fingerprints with what their owner says.")?;
    }
    Ok(())
}

fn asked(is_asked: bool) -> &'static str {
    if is_asked { ", as asked for" } else { "" }
}

fn answer(args: &VerifyArgs, file: &Path, seen: &Seen<'_>) -> Value {
    let Seen { evidence: e, proven, stamp, witnesses } = seen;
    let time = date::of_unix;
    let (card, checkpoint) = (&e.card.card, &e.checkpoint.checkpoint);
    json!({
        "proven": true,
        "file": file.display().to_string(),
        "name": e.name.as_ref().map(|name| String::from_utf8_lossy(name)),
        "length": e.facts.len,
        "blake3": hex(&e.facts.digests.blake3),
        "sha256": hex(&e.facts.digests.sha256),
        "depositor": card.label,
        "depositor_id": card.id().to_string(),
        "backed_up": time(e.committed.time_s),
        "files": e.committed.count,
        "vault_id": checkpoint.vault.to_string(),
        "entry": e.logged.place,
        "entries": checkpoint.size,
        "made": time(e.made_s),
        "authority": proven.authority,
        "authority_checked": args.authority.is_some(),
        "vault": proven.vault,
        "vault_checked": args.vault_key.is_some(),
        "witnesses": witnesses.iter().map(|(w, t)| json!({ "witness": w, "time": time(*t) })).collect::<Vec<_>>(),
        "stamp": stamp.map(|token| json!({ "time": token_time(token), "matches": true })),
        "exit": 0,
    })
}

/// The file's name as the evidence says it.
pub fn name(e: &Evidence) -> String {
    match &e.name {
        Some(name) => units::tree_path(name).trim_start_matches('/').to_owned(),
        None => "without its name".into(),
    }
}

/// The time in a token, as dates are written here: `2026-11-27T23:30:00Z`.
pub fn token_time(token: &Token) -> String {
    let t = &token.time;
    match (t.get(0..4), t.get(4..6), t.get(6..8), t.get(8..10), t.get(10..12), t.get(12..)) {
        (Some(y), Some(m), Some(d), Some(h), Some(min), Some(s)) => format!("{y}-{m}-{d}T{h}:{min}:{s}"),
        _ => t.clone(),
    }
}
