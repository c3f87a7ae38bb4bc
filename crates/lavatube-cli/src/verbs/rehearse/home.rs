//! The way home of a rehearsal: restoring over the played link, or in the vault's folder, and comparing.
//!
//! Must not know how a link is played.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lavatube_client::distant::Tally;
use lavatube_client::meter::Meter;
use lavatube_client::restore::{Overwrite, RestoreRequest};
use lavatube_node::clock;
use lavatube_node::depositor::Places;
use lavatube_node::pace::Pace;
use lavatube_node::reader::{Reader, Side};

use crate::archive::{self, ReadArgs};
use crate::compare::{self, Compared};
use crate::config::Config;
use crate::errors::Failure;
use crate::progress;
use crate::screen::Screen;
use crate::settings::Settings;

/// What the restore asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Bytes of objects.
    pub len: u64,
    /// In so many requests.
    pub requests: u64,
    /// So often an answer was waited for before more was asked for.
    pub round_trips: u64,
}

/// Restores into `back` as `lavatube restore` does on the machine of `places`, whose link a rehearsal turns.
///
/// # Errors
/// As that command.
pub fn ask(back: &Path, places: &Places, pace: Arc<Pace>, settings: &Settings) -> Result<Asked, Failure> {
    let mut reader = open(places, settings)?;
    if let Side::Far(vault) = &mut reader.side {
        vault.keep_pace(pace);
    }
    restore(&reader, back, settings, &Meter::default())?;
    let tally = reader.side.far().map(|far| far.tally());
    let of = |count: fn(&Tally) -> u64| tally.map_or(0, count);
    Ok(Asked { len: of(Tally::asked_len), requests: of(Tally::errands), round_trips: of(Tally::rounds) })
}

/// Restores into `back` from the vault in the folder of `places`, as somebody over there would.
///
/// # Errors
/// As `lavatube restore`.
pub fn look(back: &Path, places: &Places, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    let (reader, meter) = (open(places, settings)?, Meter::default());
    progress::during(screen, "restoring", &meter, || restore(&reader, back, settings, &meter))
}

fn open(places: &Places, settings: &Settings) -> Result<Reader, Failure> {
    let own = Settings {
        places: places.clone(),
        config: Config::default(),
        config_file: None,
        lock_wait: Duration::ZERO,
        passphrase_file: None,
        here: settings.here.clone(),
    };
    archive::open(&own, &ReadArgs::default(), "lavatube rehearse", false)
}

/// Restores the only snapshot there is.
fn restore(reader: &Reader, back: &Path, settings: &Settings, meter: &Meter) -> Result<(), Failure> {
    let session = reader.session(meter)?;
    let named = archive::named(&session, b"latest")?;
    std::fs::create_dir(back).map_err(|e| Failure::of_file(back, &e))?;
    let request = RestoreRequest {
        snapshot: named.listed.place.id,
        inside: None,
        select: &|_, _| true,
        overwrite: Overwrite::Never,
        doubt: false,
        booted: clock::booted(),
    };
    session.restore(back, request, b"", settings.workers(), meter)?;
    Ok(())
}

/// Compares what came back with what went.
///
/// # Errors
/// When either cannot be read.
pub fn compare_all(folder: &Path, back: &Path, roots: &[Vec<u8>]) -> Result<Compared, Failure> {
    let roots: Vec<PathBuf> = roots.iter().map(|r| Path::new("/").join(OsString::from_vec(r.clone()))).collect();
    let above = common_parent(&roots);
    let mut all = Compared::default();
    for was in &roots {
        let is = back.join(was.strip_prefix(&above).unwrap_or(was));
        let found = compare::trees(was, &is).map_err(|e| Failure::of_file(was, &e))?;
        all.files += found.files;
        all.bytes += found.bytes;
        all.differences.extend(found.differences);
    }
    // What lies in what was backed up was left out of it.
    all.differences.retain(|(path, _)| !path.starts_with(folder));
    Ok(all)
}

/// The folder that all lie in: a restore puts its content into the target.
fn common_parent(roots: &[PathBuf]) -> PathBuf {
    let mut above = roots.first().and_then(|root| root.parent()).unwrap_or(Path::new("/")).to_owned();
    while !roots.iter().all(|root| root.parent().is_none_or(|parent| parent.starts_with(&above))) && above.pop() {}
    above
}
