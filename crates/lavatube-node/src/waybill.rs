//! Waybills: what whoever turns the link may know of a manifest that waits: which snapshot it ends, and how urgent it is.
//!
//! The manifest itself is sealed to all but the read key. A waybill lies beside the spool, names nothing but ids and a time,
//! and goes when the receipt comes; without one a manifest is as urgent as most. It must not know the link.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lavatube_base::ObjectId;
use lavatube_format::manifest::Preciousness;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, IfThere, PRIVATE, make_folders};

/// What is known of a manifest that waits.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Waybill {
    /// The snapshot, in hex.
    pub snapshot: String,
    /// When it was taken, in seconds since 1970.
    pub taken_unix_s: i64,
    /// How urgent.
    #[serde(default)]
    pub priority: Priority,
}

/// How urgent a snapshot is: all of a more urgent one goes before all of a less urgent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// In the order in which they were taken.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// How precious it is once it is there.
    pub(crate) fn preciousness(self) -> Preciousness {
        match self {
            Self::High => Preciousness::High,
            Self::Normal => Preciousness::Normal,
            Self::Low => Preciousness::Low,
        }
    }
}

fn folder(state: &Path) -> PathBuf {
    state.join("waybills")
}

/// Keeps the waybill of a manifest, in a folder of state.
///
/// # Errors
/// When it cannot be written.
pub fn keep(state: &Path, manifest: ObjectId, waybill: &Waybill) -> io::Result<()> {
    make_folders(&folder(state), PRIVATE)?;
    let text = toml::to_string(waybill).map_err(io::Error::other)?;
    atomic::write(&folder(state).join(manifest.to_string()), text.as_bytes(), IfThere::Replace)
}

/// The waybill of a manifest, if it has one that can be read.
pub fn read(state: &Path, manifest: ObjectId) -> Option<Waybill> {
    toml::from_str(&fs::read_to_string(folder(state).join(manifest.to_string())).ok()?).ok()
}

/// Its manifest is receipted.
pub fn forget(state: &Path, manifest: ObjectId) {
    let _ = fs::remove_file(folder(state).join(manifest.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waybill_is_kept_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let id = ObjectId([7; 32]);
        let waybill = Waybill { snapshot: "ab".into(), taken_unix_s: -5, priority: Priority::High };
        assert_eq!(read(dir.path(), id), None);
        keep(dir.path(), id, &waybill).unwrap();
        assert_eq!(read(dir.path(), id), Some(waybill));
        forget(dir.path(), id);
        assert_eq!(read(dir.path(), id), None);
        assert!(Priority::High < Priority::Normal && Priority::Normal < Priority::Low);
    }
}
