//! The stage of a rehearsal: keys, a far vault and a machine that backs up to it, paired, all below one folder.
//!
//! It exists so that a rehearsal is played by what `lavatube init` and `lavatube pair` make, and its contact plan is one that
//! a person could have written. It must not know what is played. No step of the walk.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::Way;
use lavatube_link::LOSS_MAX;

use crate::atomic::{self, COMMON, IfThere};
use crate::depositor::{self, DepositorError, Places, VaultPlan};
use crate::link_folder::{self, LinkError, OneWayFile, Pairing, io_error};

/// The two machines of a rehearsal.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Where the machine that backs up has its things; the vault's folder leads to the far one.
    pub near: Places,
    /// Where the far machine has its things, and the keys to look into its vault with.
    pub far: Places,
}

/// Makes both machines in `folder`.
///
/// # Errors
/// As `init` and `pair` have them.
pub fn set(folder: &Path, vault: &VaultPlan) -> Result<Stage, DepositorError> {
    let places = |vault: &str, state: &str| Places {
        vault: folder.join(vault),
        state: folder.join(state),
        keys: folder.join("keys"),
    };
    let stage = Stage { near: places("near", "state"), far: places("far", "far-state") };
    depositor::init(&stage.far, vault, Duration::ZERO)?;
    let lines = [link_folder::own_line(&stage.near.vault)?, link_folder::own_line(&stage.far.vault)?];
    link_folder::pair(&stage.near.vault, &lines[1].encode(), |_| {})?;
    link_folder::pair(&stage.far.vault, &lines[0].encode(), |_| {})?;
    Ok(stage)
}

impl Stage {
    /// Tells both machines the rates of a link, and the contacts that are promised from `start` on.
    ///
    /// # Errors
    /// [`LinkError`] when a file cannot be written.
    pub fn promise(&self, ways: &[Way; 2], start: Instant) -> Result<(), LinkError> {
        let [there, back] = ways;
        let origin = Instant(start.0 / SECOND * SECOND);
        for (folder, out, coming) in [(&self.near.vault, there, back), (&self.far.vault, back, there)] {
            let plan = plan_text(out, coming, origin);
            if let Some(text) = &plan {
                let path = folder.join(PLAN);
                atomic::write(&path, text.as_bytes(), IfThere::Replace).map_err(|e| io_error(&path, &e))?;
            }
            let peer = Pairing::open(folder)?.file.peer;
            link_folder::pair(folder, &peer, |file| {
                file.rate_up_bit_s = Some(out.rate_bit_s).filter(|_| !is_shut(out));
                file.rate_down_bit_s = Some(coming.rate_bit_s).filter(|_| !is_shut(coming));
                if is_shut(back) {
                    // As a careful person would: for twice what the link is said to lose.
                    let usual = OneWayFile::default();
                    let loss = (2.0 * there.loss).clamp(usual.loss, LOSS_MAX);
                    (file.return_path, file.one_way) = (Some(false), Some(OneWayFile { loss, ..usual }));
                }
                file.plan_origin_unix_s = plan.as_ref().map(|_| origin.0 / SECOND);
                file.plan = plan.map(|_| PLAN.into());
            })?;
        }
        Ok(())
    }
}

/// Whether nothing ever passes this way.
fn is_shut(way: &Way) -> bool {
    way.dark.contains(&(Instant(0), Instant(u64::MAX)))
}

/// The promised contacts of one end, or `None` when the link is always up.
fn plan_text(out: &Way, coming: &Way, origin: Instant) -> Option<String> {
    let passes = out.passes?;
    let mut text = String::from("# The contacts of a rehearsal, as they are promised.\n");
    for n in 0..CONTACTS {
        let (from, to) = passes.promised(n);
        if to.since(origin) > PLANNED {
            break;
        }
        let (from, to, light) =
            (from.since(origin).as_secs_f64(), to.since(origin).as_secs_f64(), out.light.as_secs_f64());
        let (up, down) = (out.rate_bit_s, coming.rate_bit_s);
        let _ = writeln!(text, "contact +{from} +{to} up {up} down {down} light {light}");
    }
    Some(text)
}

/// The file of the plan, in the folder of either end.
const PLAN: &str = "contacts.txt";
/// As far as contacts are planned, and how many at most.
const PLANNED: Duration = Duration::from_secs(1000 * 86_400);
const CONTACTS: u64 = 20_000;
const SECOND: u64 = 1_000_000_000;

/// Makes a folder for a rehearsal that nobody else can look into.
///
/// # Errors
/// When it cannot be made, or holds something already.
pub fn make_folder(folder: &Path) -> std::io::Result<()> {
    atomic::make_folders(folder.parent().unwrap_or(Path::new(".")), COMMON)?;
    atomic::make_folders(folder, atomic::PRIVATE)?;
    match folder.read_dir()?.next() {
        None => Ok(()),
        Some(_) => Err(std::io::ErrorKind::DirectoryNotEmpty.into()),
    }
}
