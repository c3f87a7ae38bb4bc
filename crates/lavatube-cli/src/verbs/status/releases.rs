//! Releases, as `lavatube status` and `lavatube vault status` tell of them. Must not know who may sign one.

use lavatube_node::embedded::EmbeddedVault;
use lavatube_vault::{OpenRelease, Standing};
use serde_json::{Value, json};

use crate::screen::{Ink, Screen};
use crate::units::{self, things};

/// What the vault says of releases.
pub struct Releases {
    /// In its log.
    taken: u64,
    /// Those of them that are not done.
    open: Vec<OpenRelease>,
    /// Packs of which only some is kept,
    thinned: u64,
    /// and bytes of these.
    stays: u64,
}

impl Releases {
    /// Asks the vault.
    pub fn of(vault: &EmbeddedVault) -> Self {
        let vault = vault.read();
        let (thinned, stays) = vault.thinned().fold((0, 0), |(n, bytes), (_, len)| (n + 1, bytes + len));
        Self { taken: vault.releases(), open: vault.open_releases(), thinned, stays }
    }

    /// Nothing where nothing was ever released.
    pub fn lines(&self, screen: &Screen) -> Vec<String> {
        if self.taken == 0 {
            return Vec::new();
        }
        let done = self.taken - self.open.len() as u64;
        let mut lines = vec![format!("  releases    {}, {} done", units::count(self.taken), units::count(done))];
        for open in &self.open {
            let what = match (open.objects, open.thins) {
                (all, 0) => things(all, "object", "objects"),
                (0, some) => format!("parts of {}", things(some, "pack", "packs")),
                (all, some) => {
                    format!("{} and parts of {}", things(all, "object", "objects"), things(some, "pack", "packs"))
                }
            };
            let why = screen.ink(Ink::Yellow, &standing(open));
            lines.push(format!("              release {}, of {what}: {why}", open.number));
        }
        if self.thinned > 0 {
            let packs = things(self.thinned, "pack is kept", "packs are kept");
            lines.push(format!("              {packs} in part: {}", units::bytes(self.stays)));
        }
        lines
    }

    /// The same for scripts.
    pub fn answer(&self) -> Value {
        let open = |open: &OpenRelease| {
            let waits = match &open.standing {
                Some(Standing::Waits(waits)) => waits.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            };
            let word = match open.standing {
                Some(Standing::Waits(_)) => "waits",
                Some(Standing::Followed) => "followed",
                Some(Standing::Void) => "void",
                None => "unknown",
            };
            json!({ "number": open.number, "standing": word, "waits": waits, "objects": open.objects, "thins": open.thins })
        };
        json!({
            "taken": self.taken,
            "open": self.open.iter().map(open).collect::<Vec<_>>(),
            "thinned": { "packs": self.thinned, "bytes": self.stays },
        })
    }
}

/// What an open release waits for.
fn standing(open: &OpenRelease) -> String {
    match &open.standing {
        Some(Standing::Waits(waits)) => {
            let ids: Vec<String> = waits.iter().map(|id| id.short()).collect();
            format!(
                "waits for one more backup of {} ({})",
                things(waits.len() as u64, "machine", "machines"),
                ids.join(", ")
            )
        }
        Some(Standing::Followed) => {
            "is followed; some is left on drives that are away, or of packs that cannot be rewritten now".into()
        }
        Some(Standing::Void) => "is void: a backup was finished without knowing of it".into(),
        None => "cannot be told: a manifest or a card cannot be read".into(),
    }
}
