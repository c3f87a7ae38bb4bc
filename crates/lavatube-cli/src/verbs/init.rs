//! `lavatube init`: keys and a vault, explicitly; `backup` does the same by itself on a fresh machine.
//!
//! Must not know how keys or vaults are made.

use std::path::Path;

use lavatube_node::depositor::{self, Made, VaultPlan};
use lavatube_node::embedded::{self, DriveSpec};
use lavatube_node::keyring::Keyring;
use serde_json::json;

use crate::drives::{self, ShapeArgs};
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;

/// Make keys and a vault, over drives of your choice.
///
/// What is there already is never overwritten: running it twice does no harm, and one that was cut short is completed.
/// A drive is a folder, best the mount point of a disk of its own, or a prefix of a bucket: s3://bucket/prefix, with credentials from where
/// the AWS tools keep them (docs/OPERATING.md). Shards of one stripe go to different drives, then to
/// different shelves (what fails together: a server, a rack, a room), then to different makers.
///
/// JSON fields: vault {path, id, made}, keys {path, made, recovery_file}, data, parity, drives [{folder, label, shelf,
/// maker, model}], exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct InitArgs {
    /// One drive: its folder, or its bucket (then also with endpoint=URL, region, profile and size=2TB), and what is known of it. Repeat it for each
    #[arg(long, value_name = "DIR|s3://BUCKET/PREFIX[,label=A][,shelf=S][,maker=M][,model=M]")]
    drive: Vec<DriveSpec>,
    #[command(flatten)]
    shape: ShapeArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube init
  lavatube init --drives /mnt/a,/mnt/b,/mnt/c --parity 1
  lavatube init --vault /srv/vault --data 2 --parity 2 \\
      --drive /mnt/a,shelf=left,maker=WD --drive /mnt/b,shelf=left,maker=Seagate \\
      --drive /mnt/c,shelf=right,maker=WD --drive /mnt/d,shelf=right,maker=Toshiba
  lavatube init --data 2 --parity 1 --drive s3://moon-a/v,shelf=a,endpoint=http://10.0.0.1:8333 \\
      --drive s3://moon-b/v,shelf=b,endpoint=http://10.0.0.2:8333 --drive /mnt/c,shelf=here";

/// Makes them.
///
/// # Errors
/// When they cannot be made.
pub fn run(args: &InitArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let plan = drives::plan(&args.drive, &args.shape, &settings.config, &settings.here)?;
    let there = embedded::is_vault(&settings.places.vault);
    if there && (args.shape.is_given() || !args.drive.is_empty()) {
        let what =
            format!("there is a vault in {} already; its drives stay as they are", settings.places.vault.display());
        return Err(Failure::new(Condition::Exists, what).hint("leave the options away, or name another --vault DIR"));
    }
    let made = make(&plan, settings, screen)?;
    if made == Made::default() {
        screen.tell("Vault and keys are there already; nothing was changed.")?;
    }
    introduce(&plan, made, settings, screen)?;
    screen.answer(&answer(made, settings)?)?;
    Ok(End::Done)
}

/// Makes what is missing.
///
/// # Errors
/// When it cannot be made.
pub fn make(plan: &VaultPlan, settings: &Settings, screen: &Screen) -> Result<Made, Failure> {
    let recovery = Keyring::at(&settings.places.keys).recovery_path();
    let known = recovery.exists();
    depositor::init(&settings.places, plan, settings.lock_wait).map_err(|e| {
        if !known && recovery.exists() {
            screen.warn(&format!("keys were made in {}: {}", settings.places.keys.display(), keep(&recovery)));
        }
        let failure = Failure::from(e);
        if failure.condition != Condition::NoKey || failure.hint.is_some() {
            return failure;
        }
        let hint = "a vault is made for the holder of the read key: bring it back with `lavatube key bring-read FILE`";
        failure.hint(hint)
    })
}

/// How to keep the recovery key.
fn keep(recovery: &Path) -> String {
    format!("print {}, keep it far away, delete the file: it makes lost keys again.", recovery.display())
}

/// Says where all is that was made, and how to keep the recovery key as long as its file lies here: whoever ran this
/// before may not have seen it.
///
/// # Errors
/// When it cannot be written.
pub fn introduce(plan: &VaultPlan, made: Made, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    if made.vault {
        let may_fail = match plan.m {
            0 => "none may fail".to_owned(),
            1 => "any one may fail".to_owned(),
            m => format!("any {m} may fail"),
        };
        let (path, drives) = (settings.places.vault.display(), plan.drives.len());
        let shape = format!("{drives} drives, {} data + {} parity: {may_fail}", plan.k, plan.m);
        screen.tell(&format!("New vault  {path} ({shape})"))?;
    }
    if made.keys {
        let path = settings.places.keys.display();
        screen.tell(&format!("New keys   {path} (deposit.key adds backups, read.key opens them)"))?;
    }
    let recovery = Keyring::at(&settings.places.keys).recovery_path();
    if !recovery.exists() {
        return Ok(());
    }
    if screen.quiet || screen.json {
        screen.warn(&format!("the recovery key: {}", keep(&recovery)));
        return Ok(());
    }
    screen.tell(&format!("{}  {}", screen.ink(Ink::Yellow, "Please do"), keep(&recovery)))
}

fn answer(made: Made, settings: &Settings) -> Result<serde_json::Value, Failure> {
    let keyring = Keyring::at(&settings.places.keys);
    let id = embedded::vault_id(&settings.places.vault)?;
    let recovery = keyring.recovery_path();
    let status = embedded::EmbeddedVault::open(&settings.places.vault, false)?.read().status();
    let folders = embedded::drive_folders(&settings.places.vault)?;
    let drives = status.drives.iter().map(|d| {
        let folder = folders.get(d.slot).map(|f| f.to_string_lossy());
        json!({ "folder": folder, "label": d.label, "shelf": d.shelf, "maker": d.maker, "model": d.model })
    });
    Ok(json!({
        "vault": { "path": settings.places.vault.to_string_lossy(), "id": id.to_string(), "made": made.vault },
        "keys": {
            "path": settings.places.keys.to_string_lossy(),
            "made": made.keys,
            "recovery_file": recovery.exists().then(|| recovery.to_string_lossy().into_owned()),
        },
        "data": status.k,
        "parity": status.m,
        "drives": drives.collect::<Vec<_>>(),
        "exit": 0,
    }))
}
