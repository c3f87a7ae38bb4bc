//! `lavatube rehearse`: a whole mission on this machine, over a link that does not exist.
//!
//! Steps 1 to 21 of the walk in one go: keys, backup, both ends of the link, the vault, and home again. Must not know how
//! any of them works.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use lavatube_channel::{PRESETS, Preset, Way, preset};
use lavatube_client::backup::{Request, Sizes};
use lavatube_client::meter::Meter;
use lavatube_client::source::Found;
use lavatube_format::manifest::Retention;
use lavatube_node::depositor::{self, Outcome, Places};
use lavatube_node::pipeline::Effort;
use lavatube_node::rehearsal::{Blackout, Plan, Rehearsal};
use lavatube_node::stage::{self, Stage};
use lavatube_node::waybill::Priority;
use lavatube_node::{clock, port, process};

use crate::compare::Compared;
use crate::config::Config;
use crate::drives::{self, ShapeArgs};
use crate::errors::{Condition, End, Failure};
use crate::patterns::Patterns;
use crate::quantities;
use crate::roots::{self, Excluder, Ours};
use crate::screen::Screen;
use crate::settings::Settings;
use crate::verbs::version;
use crate::{daemon, progress};

use done::Done;
use timeline::Timeline;

mod done;
mod home;
mod timeline;

/// Rehearse a mission on this machine: back up, cross a link that does not exist, restore, compare.
///
/// It makes keys, a machine that backs up and a far vault in a folder of its own, takes a backup of PATH, and takes it to
/// the vault over a link with the rate, light time, contacts and losses of one that people know. Both ends are those of
/// `lavatube node` and `lavatube vault serve`; only the network between them is played, from a seed. Then everything is
/// restored from the far vault and compared with PATH. Nothing of this machine is touched, and no rights are needed. The
/// folder takes about four times the size of PATH, and is removed at the end unless --keep names it.
///
/// The restore is that of the machine that backed up: it asks the far vault over the same link. Where no word comes back
/// (diode), the end says with what chance everything arrived, and what is restored is read in the vault's folder, as a
/// person over there would. With --fast time is played
/// too, so that weeks take minutes. Losses and failing contacts of the links are assumptions to rehearse with.
///
/// JSON fields: link, about, seed, fast, objects, bytes, safe_here_s (real time), first_safe_there_s, safe_there_s (null
/// where no receipt comes back), one_way (null, or {sent_s, one_in, stored_objects, kept_objects}), open_s
/// (of it, the link was open), ideal_s, efficiency, up and down {packets, bytes, lost, overflowed, shut, delivered}, symbols
/// {sent, resent, needless}, timeline [{at_s, event, …}], restored {files, bytes, differences [{path, what}], seconds,
/// open_s, asked_bytes, requests, round_trips, up_bytes, down_bytes}, folder, seconds (real time), exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct RehearseArgs {
    /// Files and folders to rehearse with
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The link
    #[arg(long, value_name = "LINK", default_value = "lunar-optical", value_parser = links())]
    link: String,
    /// Play time too: do not wait for anything
    #[arg(long)]
    fast: bool,
    /// A blackout that nobody expects: 14d@50% lasts 14 days and begins when half has crossed (d, h, m or s). Repeat it
    #[arg(long, value_name = "TIME@SHARE", value_parser = blackout)]
    blackout: Vec<Blackout>,
    /// Lose this share of all packets instead of the link's own, such as 5%
    #[arg(long, value_name = "SHARE", value_parser = quantities::share)]
    loss: Option<f64>,
    /// What befalls packets is drawn from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Rehearse in DIR, which must be empty or missing, and leave everything there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  lavatube rehearse ~/photos --fast
  lavatube rehearse ~/photos --link ship
  lavatube rehearse ~/photos --link lunar-optical --blackout 14d@50% --fast
  lavatube rehearse ~/photos --link polar-station --loss 5% --seed 7 --fast --json";

/// Links to rehearse with.
fn links() -> PossibleValuesParser {
    let value = |preset: &Preset| clap::builder::PossibleValue::new(preset.name).help(preset.about);
    PossibleValuesParser::new(PRESETS.iter().map(value))
}

fn blackout(text: &str) -> Result<Blackout, String> {
    let bad = || "a blackout is TIME@SHARE, such as 14d@50% or 90m@10%".to_owned();
    let (lasts, after) = text.split_once('@').ok_or_else(bad)?;
    let seconds = quantities::seconds(lasts).map_err(|_| bad())?;
    let lasts = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
    if lasts > BLACKOUT_MAX {
        return Err("a blackout lasts 365 days at most".into());
    }
    Ok(Blackout { after: quantities::share(after)?, lasts })
}

/// Rehearses.
///
/// # Errors
/// When something cannot be done, or what came back is not what went.
pub fn run(args: &RehearseArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let begin = Instant::now();
    let stop = daemon::stop_flag()?;
    let preset = preset(&args.link).ok_or_else(|| Failure::new(Condition::Usage, "there is no such link"))?;
    let folder = Folder::make(args.keep.as_deref().map(|keep| settings.here.join(keep)))?;
    let ways = |start| preset.ways(start, args.seed).map(|way| conditions(way, args.loss));
    let mut timeline = Timeline::new(*screen, args.fast);
    timeline.introduce(preset, &ways(START)[0], args.seed)?;

    let vault = drives::plan(&[], &ShapeArgs::default(), &Config::default(), &folder.path)?;
    let stage = stage::set(&folder.path, &vault)?;
    let (roots, outcome) = back_up(args, &folder.path, &stage, settings, screen)?;
    let safe_here = begin.elapsed();
    let start = if args.fast { START } else { port::now() };
    let ways = ways(start);
    stage.promise(&ways, start)?;
    let plan = Plan {
        near: &stage.near,
        far: &stage.far.vault,
        ways: ways.clone(),
        seed: args.seed,
        start,
        fast: args.fast,
        blackouts: in_order(&args.blackout),
        stop: &stop,
    };
    timeline.safe_here(&outcome, safe_here)?;
    let mut rehearsal = Rehearsal::open(&plan)?;
    let mut watch = |at, moment| timeline.show(at, &moment);
    let figures = rehearsal.drain(&mut watch)?.ok_or_else(interrupted)?;
    let back = folder.path.join("back");
    let mut home = None;
    if preset.is_one_way() {
        // Nobody can ask: the ends let go, and somebody over there looks.
        drop(rehearsal);
        timeline.end()?;
        if figures.one_way.is_some_and(|way| way.stored == figures.objects) {
            home::look(&back, &stage.far, settings, screen)?;
        }
    } else {
        let came = rehearsal.read(&mut watch, |pace| home::ask(&back, &stage.near, pace, settings));
        timeline.end()?;
        let (came, asked) = came?.ok_or_else(interrupted)?;
        home = Some((came, asked?));
    }
    let compared = if back.exists() { home::compare_all(&folder.path, &back, &roots)? } else { Compared::default() };
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted());
    }

    let took = begin.elapsed();
    let done = Done { args, preset, way: &ways[0], outcome: &outcome, figures, home, compared, safe_here, took };
    done.show(screen)?;
    if folder.kept {
        screen.note(&done.where_it_is(&folder.path, &stage));
    }
    if let Some(failure) = done.failure() {
        return Err(failure);
    }
    screen.answer(&done.answer(&timeline, folder.kept.then_some(&folder.path)))?;
    Ok(done.end())
}

fn interrupted() -> Failure {
    Failure::new(Condition::Interrupted, "the rehearsal was stopped").hint("nothing but its own folder was touched")
}

/// What the link is like today: with the user's losses, and counting what IP and UDP add.
fn conditions(way: Way, loss: Option<f64>) -> Way {
    Way { loss: loss.unwrap_or(way.loss), own_len: PACKET_OWN_LEN, ..way }
}

fn in_order(blackouts: &[Blackout]) -> Vec<Blackout> {
    let mut all = blackouts.to_vec();
    all.sort_by(|a, b| a.after.total_cmp(&b.after));
    all
}

/// Takes the backup; its roots, and what came of it.
fn back_up(
    args: &RehearseArgs,
    folder: &Path,
    stage: &Stage,
    settings: &Settings,
    screen: &Screen,
) -> Result<(Vec<Vec<u8>>, Outcome), Failure> {
    roots::links(&args.paths).iter().for_each(|text| screen.warn(text));
    // The rehearsal itself is left out, and nothing else: what came back is compared with all there is.
    let own = Places { vault: folder.to_owned(), state: folder.to_owned(), keys: folder.to_owned() };
    let ours = Ours::new(&own);
    let roots = roots::resolve(&args.paths, &ours)?;
    let patterns = Patterns::new(&[])?;
    let excluder = Excluder { patterns, caches: false, if_present: Vec::new(), ours: &ours, own: AtomicU64::new(0) };
    let exclude = |path: &[u8], found: &Found| excluder.exclude(path, found);
    let request = Request {
        roots: roots.clone(),
        exclude: &exclude,
        one_file_system: false,
        read_all: false,
        allow_empty: false,
        accept_shrink: false,
        host: process::host_name(),
        tags: Vec::new(),
        description: Some("a rehearsal".into()),
        program: version::PROGRAM.to_owned(),
        now: clock::wall_now(),
        sizes: Sizes::DEFAULT,
    };
    let effort = Effort { level: 3, workers: settings.workers() };
    let meter = Meter::default();
    let outcome = progress::during(screen, "backing up", &meter, || {
        depositor::backup(&stage.near, &request, Retention::default(), Priority::Normal, effort, Duration::ZERO, &meter)
    })?;
    if excluder.own.load(Ordering::Relaxed) > 0 {
        screen.warn("the rehearsal's own folder lies in what was backed up, and was left out");
    }
    Ok((roots, outcome))
}

/// The folder of a rehearsal; it goes with it unless it is kept.
struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn make(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let kept = keep.is_some();
        let own = || std::env::temp_dir().join(format!("lavatube-rehearsal-{}", std::process::id()));
        let path = keep.unwrap_or_else(own);
        stage::make_folder(&path).map_err(|e| {
            let what = format!("the folder of the rehearsal, {}: {}", path.display(), roots::plain(&e));
            Failure::new(if kept { Condition::Exists } else { Condition::Io }, what)
        })?;
        // As the system calls it, so that it is known where it is met.
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self { path, kept })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// When played time begins: some moment, always the same.
const START: lavatube_base::Instant = lavatube_base::Instant(1_800_000_000 * 1_000_000_000);
/// What IP and UDP add to a datagram.
const PACKET_OWN_LEN: u64 = 28;
const BLACKOUT_MAX: Duration = Duration::from_secs(365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blackouts_and_shares_are_read_as_people_write_them() {
        let is = |text: &str, s: f64, after: f64| {
            assert_eq!(blackout(text), Ok(Blackout { after, lasts: Duration::from_secs_f64(s) }), "{text}");
        };
        is("14d@50%", 14.0 * 86_400.0, 0.5);
        is("1.5h@0%", 5400.0, 0.0);
        is("90s@12.5%", 90.0, 0.125);
        for bad in ["14d", "14@50%", "d@50%", "14d@50", "-1d@50%", "14d@150%", "999d@5%", "é@1%", "@", ""] {
            assert!(blackout(bad).is_err(), "{bad}");
        }
    }
}
