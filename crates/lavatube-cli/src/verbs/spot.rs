//! Spot proofs: `lavatube audit --spot`, and `lavatube verify` of one that was kept.
//!
//! Must not know how slices are made or judged.

use std::path::Path;

use lavatube_base::limits::{SPOT_FILE_LEN_MAX, SPOT_SLICES_MAX};
use lavatube_base::{Denial, Verified};
use lavatube_client::meter::Meter;
use lavatube_client::spot::{Missed, Shown, Spot, slices_in};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::spot::{SPOT_MAGIC, SpotProof};
use lavatube_node::atomic::{self, IfThere};
use lavatube_node::reader::{Reader, Session};
use serde_json::{Value, json};

use crate::archive;
use crate::date;
use crate::errors::{Condition, End, Failure};
use crate::quantities;
use crate::screen::{Ink, Screen};
use crate::units::{self, things};
use crate::verbs::verify::read_file;

/// How many slices `N` or a size are.
///
/// # Errors
/// In words, when it is neither, or too many.
pub fn parse(text: &str) -> Result<usize, String> {
    let count = match text.parse::<u64>() {
        Ok(count) => count,
        Err(_) => quantities::size(text).map(slices_in)?,
    };
    let fits = usize::try_from(count).ok().filter(|count| (1..=SPOT_SLICES_MAX).contains(count));
    fits.ok_or_else(|| format!("1 to {SPOT_SLICES_MAX} slices, or a size up to 1.5 MB"))
}

/// Has the vault show slices.
///
/// # Errors
/// When it could not be asked; what it does not show is no error.
pub fn audit(
    reader: &Reader,
    session: &Session<'_>,
    count: usize,
    save: Option<&Path>,
    screen: &Screen,
) -> Result<End, Failure> {
    let meter = Meter::default();
    let ask = || session.spot(count, &meter).map_err(Failure::from);
    let spotted = archive::reading(reader, screen, "the vault shows slices", &meter, ask)?;
    let void =
        |e: lavatube_client::spot::Void| Failure::new(Condition::NotProven, format!("the vault's answer is void: {e}"));
    let shown = spotted.spot.judge(&spotted.proof.answer).map_err(void)?;
    if let Some(path) = save {
        let written = atomic::write(path, &spotted.proof.encode(), IfThere::Replace);
        written.map_err(|e| Failure::of_file(path, &e))?;
    }
    let end = end(&shown);
    say(&shown, screen)?;
    let crossed =
        format!("asked with {}, answered with {}", units::bytes(spotted.sent), units::bytes(spotted.received));
    screen.tell(&format!("{crossed}; a sample says nothing of a single pack: `lavatube audit` proves all"))?;
    if let Some(path) = save {
        screen.tell(&format!(
            "{} has the answer and the manifests it is about: `lavatube verify` checks it anywhere",
            path.display()
        ))?;
    }
    let mut answer = to_json(&shown, end);
    answer["sent"] = spotted.sent.into();
    answer["received"] = spotted.received.into();
    answer["saved"] = save.map(|path| path.display().to_string()).into();
    screen.answer(&answer)?;
    Ok(end)
}

/// Whether a file is a spot proof.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.starts_with(SPOT_MAGIC)
}

/// Checks a spot proof that was kept.
///
/// # Errors
/// When it is not whole, or answers another question than its nonce asks.
pub fn verify(path: &Path, screen: &Screen) -> Result<End, Failure> {
    let fail = |text: String| Failure::new(Condition::NotProven, format!("not proven: {}: {text}", path.display()));
    let bytes = read_file(path, SPOT_FILE_LEN_MAX)?;
    let proof = SpotProof::decode(&bytes).map_err(|e| fail(e.to_string()))?;
    let decoded = proof.manifests.iter().map(|bytes| SignedManifest::decode(bytes)).collect::<Result<Vec<_>, _>>();
    let manifests = decoded.map_err(|e| fail(e.to_string()))?;
    let ids: Vec<_> = proof.manifests.iter().map(|bytes| Verified::hash(bytes).id()).collect();
    if !ids.is_sorted_by(|a, b| a < b) {
        return Err(fail("its manifests do not ascend".into()));
    }
    let spot = Spot::new(manifests.iter().map(|m| &m.manifest), proof.answer.nonce, proof.answer.slices.len());
    let shown = spot.judge(&proof.answer).map_err(|e| fail(e.to_string()))?;
    say(&shown, screen)?;
    let time = date::of_unix(proof.time_s);
    screen.say(&format!("{}, and not proved:", screen.ink(Ink::Bold, "claimed")))?;
    screen.say(&format!("  asked      {time}: the clock of whoever asked, who drew the nonce"))?;
    screen.say("  about      all sessions there were: these manifests, by their ids")?;
    ids.iter().take(SHOWN_MAX).try_for_each(|id| screen.say(&format!("             {id}")))?;
    if ids.len() > SHOWN_MAX {
        screen.say(&format!("             and {} more (--json names all)", ids.len() - SHOWN_MAX))?;
    }
    let is_whole = shown.missed.is_empty();
    let mut answer = to_json(&shown, if is_whole { End::Done } else { End::Lost });
    answer["time"] = time.into();
    answer["manifests"] = ids.iter().map(ToString::to_string).collect::<Vec<_>>().into();
    if is_whole {
        screen.answer(&answer)?;
        return Ok(End::Done);
    }
    Err(fail(format!("{} of {} slices were not shown", shown.missed.len(), shown.asked)).hint(
        "the vault could not show them when it was asked: `lavatube audit` and `lavatube check` tell which files that touches",
    ))
}

fn end(shown: &Shown) -> End {
    match &shown.missed[..] {
        [] => End::Done,
        missed if missed.iter().all(|m| m.why == Some(Denial::Away)) => End::Damaged,
        _ => End::Lost,
    }
}

fn why(missed: &Missed) -> &'static str {
    match missed.why {
        None => "what the vault shows is something else",
        Some(Denial::Absent) => "the vault does not have it",
        Some(Denial::Lost) => "the vault cannot read it any more",
        Some(Denial::Away) => "the vault cannot read it while drives are away",
        Some(Denial::Refused(_)) => "the vault refuses to show it",
    }
}

fn say(shown: &Shown, screen: &Screen) -> Result<(), Failure> {
    for missed in shown.missed.iter().take(SHOWN_MAX) {
        screen.say(&format!("pack {}, slice {}: {}", missed.pick.pack.short(), missed.pick.number, why(missed)))?;
    }
    if shown.missed.len() > SHOWN_MAX {
        screen.say(&format!("… and {} more (--json names all)", shown.missed.len() - SHOWN_MAX))?;
    }
    let of = format!("{} in {}", units::bytes(shown.bytes), things(shown.packs, "pack", "packs"));
    let slices = things(shown.asked, "slice", "slices");
    if shown.asked == 0 {
        return screen.tell("Nothing is in the vault yet.");
    }
    if shown.missed.is_empty() {
        let sure = 100.0 * shown.certainty(0.01);
        screen.say(&format!(
            "{}: {slices} of 1 KiB, picked by chance of {of}; had 1 % been gone, this would have shown it with {sure:.1} %",
            screen.ink(Ink::Green, "all shown")
        ))
    } else {
        let missed = units::count(shown.missed.len() as u64);
        screen.say(&format!("{} {missed} of {slices}, picked by chance of {of}", screen.ink(Ink::Red, "Not shown:")))
    }
}

fn to_json(shown: &Shown, end: End) -> Value {
    let missed =
        shown.missed.iter().map(|m| json!({ "pack": m.pick.pack.to_string(), "slice": m.pick.number, "why": why(m) }));
    json!({
        "slices": shown.asked,
        "packs": shown.packs,
        "bytes": shown.bytes,
        "missed": missed.collect::<Vec<_>>(),
        "certainty": shown.certainty(0.01),
        "exit": end.status(),
    })
}

const SHOWN_MAX: usize = 20;
