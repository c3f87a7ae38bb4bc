//! What an endpoint does, found by trying: S3 is a name for many engines, and not all heed all of it.
//!
//! What it does not do is not its failure: it says how the drive does without. It must not know what the drive is for.

use std::sync::Arc;

use lavatube_format::bucket::{ObjectLock, PROBE, Probed};

use crate::objects::{Condition, Echo, Fault, Objects};

/// Tries the endpoint below `prefix` and keeps there what it has shown.
///
/// # Errors
/// [`Fault`], when it does not even put, read and remove.
pub(crate) fn probe(objects: &dyn Objects, prefix: &str) -> Result<Probed, Fault> {
    let key = format!("{prefix}{PROBE}/try");
    let (first, second) = (Arc::new(pattern(1)), Arc::new(pattern(2)));
    let mut found = Probed::default();
    objects.delete(&key)?;
    let echo = match objects.put(&key, first.clone(), Condition::New)() {
        // It does not know the condition at all.
        Err(Fault::Unknown(_)) => objects.put(&key, first.clone(), Condition::Always)()?,
        other => {
            let echo = other?;
            match objects.put(&key, second.clone(), Condition::New)() {
                Err(Fault::Taken) => found.conditional_put = true,
                Err(Fault::Unknown(_)) | Ok(_) => {}
                Err(e) => return Err(e),
            }
            echo
        }
    };
    if echo == Echo::Other {
        return Err(Fault::Other("the endpoint says that it got other bytes than were sent".into()));
    }
    found.checksum = echo == Echo::Same;
    let whole = objects.get_whole(&key, LEN)?;
    if whole != *first && (found.conditional_put || whole != *second) {
        return Err(Fault::Other("the endpoint gives back other bytes than were put".into()));
    }
    found.ranges = objects.get(&key, 1000..1016).is_ok_and(|part| part == whole[1000..1016]);
    objects
        .list(&format!("{prefix}{PROBE}/"), &mut |name, len| found.lists_at_once |= name == key && len == LEN as u64)?;
    found.lock = objects.lock();
    objects.delete(&key)?;
    let kept = Arc::new(found.encode().into_bytes());
    objects.put(&result_key(prefix), kept, Condition::Always)()?;
    Ok(found)
}

/// What the last probe has found, when there was one.
///
/// # Errors
/// [`Fault`], but for what is not there or cannot be read as such.
pub(crate) fn remembered(objects: &dyn Objects, prefix: &str) -> Result<Option<Probed>, Fault> {
    match objects.get_whole(&result_key(prefix), LEN) {
        Ok(text) => Ok(Probed::decode(&text).ok()),
        Err(Fault::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

fn result_key(prefix: &str) -> String {
    format!("{prefix}{PROBE}/result")
}

fn pattern(seed: u8) -> Vec<u8> {
    (0..LEN).map(|at| (at % 251) as u8 ^ seed).collect()
}

/// Bytes of what is tried with.
const LEN: usize = 4096;

/// What an endpoint does, line by line: the word, whether it does it, and what that means.
pub fn words(probed: &Probed) -> Vec<(&'static str, bool, String)> {
    let line = |name, yes: bool, with: &str, without: &str| (name, yes, if yes { with } else { without }.to_owned());
    let mut lines = vec![
        line(
            "conditional put",
            probed.conditional_put,
            "it refuses to put what is there already",
            "this endpoint does not refuse a second put of a key (If-None-Match): lavatube looks before each put, so two machines must not write to it at once",
        ),
        line(
            "checksum",
            probed.checksum,
            "it says a checksum of what it got, and lavatube compares it",
            "this endpoint does not say a checksum of what it got: lavatube reads back what it puts",
        ),
        line(
            "parts",
            probed.ranges,
            "it reads parts of objects",
            "this endpoint does not read parts of objects: lavatube reads whole ones, which takes longer",
        ),
        line(
            "list",
            probed.lists_at_once,
            "what was put is in its list at once",
            "this endpoint does not list at once what was put: when the vault is opened soon after, lavatube takes the end of the journal from other drives",
        ),
    ];
    lines.push(match probed.lock {
        ObjectLock::Untold => {
            ("object lock", false, "this endpoint does not say whether it can keep objects from being deleted".into())
        }
        ObjectLock::Off => {
            ("object lock", false, "this bucket does not keep objects from being deleted: who has its keys can".into())
        }
        ObjectLock::On { days: 0 } => (
            "object lock",
            true,
            "this bucket can keep objects from being deleted, and has no rule that it does: set a default retention"
                .into(),
        ),
        ObjectLock::On { days } => {
            ("object lock", true, format!("this bucket keeps objects from being deleted for {days} days"))
        }
    });
    lines
}
