//! What scrubs did and found, in words and as JSON: for the scrub itself and for the vault's status. Must not know how one is done.

use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};
use serde_json::{Value, json};

use crate::screen::Ink;
use crate::{date, units};

/// What a scrub found on a drive.
pub(super) fn on_drive(found: ScrubDrive) -> String {
    let shards = |n: u64| units::things(n, "shard", "shards");
    match (found.damaged, found.missing) {
        (damaged, 0) => format!("the last scrub found {} damaged on it", shards(damaged)),
        (0, missing) => format!("the last scrub missed {} on it", shards(missing)),
        (damaged, missing) => {
            format!("the last scrub found {} damaged on it, and {} missing", shards(damaged), shards(missing))
        }
    }
}

/// What a scrub read, and in which time.
pub(super) fn read_in(scrub: &ScrubRecord) -> String {
    format!(
        "{}, {} read in {}",
        units::things(scrub.objects, "object", "objects"),
        units::bytes(scrub.read),
        units::span(std::time::Duration::from_millis(scrub.worked_ms))
    )
}

/// What a scrub found.
pub(super) fn verdict(scrub: &ScrubRecord) -> (Ink, String) {
    let objects = |n: u64| units::things(n, "object", "objects");
    let shards = |n: u64| units::things(n, "shard", "shards");
    let mut parts = Vec::new();
    if scrub.unsound > 0 {
        parts.push(format!("damage in {}", objects(scrub.unsound)));
    }
    if scrub.mended > 0 {
        parts.push(format!("{} mended", shards(scrub.mended)));
    }
    if scrub.left > 0 {
        parts.push(format!("{} not mended", shards(scrub.left)));
    }
    if scrub.degraded > 0 {
        parts.push(format!("{} short of shards on drives that are away", objects(scrub.degraded)));
    }
    if scrub.lost > 0 {
        parts.push(format!("{} lost", objects(scrub.lost)));
    }
    let ink = match () {
        () if scrub.lost > 0 => Ink::Red,
        () if scrub.left + scrub.degraded > 0 => Ink::Yellow,
        () => Ink::Green,
    };
    (ink, if parts.is_empty() { "nothing was wrong".into() } else { parts.join(", ") })
}

/// A scrub as JSON.
pub(super) fn scrub_to_json(scrub: &ScrubRecord, label: &dyn Fn(&ScrubDrive) -> Option<String>) -> Value {
    let end = match scrub.end {
        ScrubEnd::Open => "open",
        ScrubEnd::Whole => "whole",
        ScrubEnd::Dropped => "dropped",
    };
    let drive = |f: &ScrubDrive| {
        let (damaged, missing, away, left) = (f.damaged, f.missing, f.away, f.left);
        json!({ "label": label(f), "damaged": damaged, "missing": missing, "away": away, "left": left, "on_trial": f.on_trial })
    };
    json!({
        "began": date::rfc3339(scrub.began),
        "until": date::rfc3339(scrub.until),
        "end": end,
        "worked_s": scrub.worked_ms as f64 / 1000.0,
        "objects": scrub.objects,
        "bytes": scrub.bytes,
        "read": scrub.read,
        "not_whole": scrub.unsound,
        "degraded": scrub.degraded,
        "mended": scrub.mended,
        "left": scrub.left,
        "lost": scrub.lost,
        "lost_ids": scrub.lost_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "drives": scrub.drives.iter().map(drive).collect::<Vec<_>>(),
    })
}
