//! What `lavatube vault status` says of drives in buckets: what their endpoints do, and why some cannot be reached.
//!
//! It must not know how an endpoint is tried.

use std::path::PathBuf;

use lavatube_node::places::{ObjectLock, Seen, probe};
use serde_json::{Value, json};

use crate::screen::{Ink, Screen};

/// What the endpoints of drives in buckets do and do not, and why some could not be reached.
pub(super) fn lines(buckets: &[(PathBuf, Seen)], screen: &Screen) -> Vec<String> {
    if buckets.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new(), screen.ink(Ink::Bold, "buckets")];
    for (place, seen) in buckets {
        lines.push(format!("  {}", place.display()));
        if let Some(why) = &seen.trouble {
            lines.push(screen.ink(Ink::Yellow, &format!("    {why}")));
        } else if let Some(probed) = &seen.probed {
            let words = probe::words(probed);
            let yes: Vec<&str> = words.iter().filter(|word| word.1).map(|word| word.0).collect();
            lines.push(screen.ink(Ink::Dim, &format!("    has {}", yes.join(", "))));
            let without = words.into_iter().filter(|word| !word.1);
            lines.extend(without.map(|(name, _, text)| format!("    no {name}: {text}")));
        } else {
            lines.push(screen.ink(Ink::Dim, "    not tried yet: it is when something is written"));
        }
    }
    lines
}

/// The same as JSON.
pub(super) fn to_json((place, seen): &(PathBuf, Seen)) -> Value {
    let probed = seen.probed.as_ref().map(|p| {
        let lock = match p.lock {
            ObjectLock::Untold => Value::Null,
            ObjectLock::Off => json!(false),
            ObjectLock::On { days } => json!({ "days": days }),
        };
        json!({
            "conditional_put": p.conditional_put,
            "checksum": p.checksum,
            "ranges": p.ranges,
            "lists_at_once": p.lists_at_once,
            "object_lock": lock,
        })
    });
    json!({ "place": place.to_string_lossy(), "trouble": seen.trouble, "endpoint": probed })
}
