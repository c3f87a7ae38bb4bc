//! `lavatube rehearse`: a whole mission on this machine, over a link that does not exist.
//!
//! Steps 1 to 21 of the walk in one go: keys, backup, both ends of the link, the vault, and home again. Must not know how
//! any of them works.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use lavatube_channel::{PRESETS, Preset, Way, preset};
use lavatube_client::backup::{Request, Sizes};
use lavatube_client::meter::Meter;
use lavatube_client::restore::{Overwrite, RestoreRequest};
use lavatube_client::source::Found;
use lavatube_node::depositor::{self, Outcome, Places};
use lavatube_node::pipeline::Effort;
use lavatube_node::rehearsal::{self, Blackout, Figures};
use lavatube_node::stage::{self, Stage};
use lavatube_node::waybill::Priority;
use lavatube_node::{clock, port, process};
use serde_json::json;

use crate::archive::{self, ReadArgs};
use crate::compare::{self, Compared};
use crate::config::Config;
use crate::drives::{self, ShapeArgs};
use crate::errors::{Condition, End, Failure};
use crate::patterns::Patterns;
use crate::roots::{self, Excluder, Ours};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::version;
use crate::{daemon, progress, units};

use timeline::Timeline;

mod timeline;

/// Rehearse a mission on this machine: back up, cross a link that does not exist, restore, compare.
///
/// It makes keys, a machine that backs up and a far vault in a folder of its own, takes a backup of PATH, and takes it to
/// the vault over a link with the rate, light time, contacts and losses of one that people know. Both ends are those of
/// `lavatube node` and `lavatube vault serve`; only the network between them is played, from a seed. Then everything is
/// restored from the far vault and compared with PATH. Nothing of this machine is touched, and no rights are needed. The
/// folder takes about four times the size of PATH, and is removed at the end unless --keep names it.
///
/// With --fast time is played too, so that weeks take minutes. The restore reads the vault's folder where it lies: it does
/// not cross the link. Losses and failing contacts of the links are assumptions to rehearse with.
///
/// JSON fields: link, about, seed, fast, objects, bytes, safe_here_s (real time), first_safe_there_s, safe_there_s, open_s
/// (of it, the link was open), ideal_s, efficiency, up and down {packets, bytes, lost, overflowed, shut, delivered}, symbols
/// {sent, resent, needless}, timeline [{at_s, event, …}], restored {files, bytes, differences [{path, what}]}, folder,
/// seconds (real time), exit.
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
    #[arg(long, value_name = "SHARE", value_parser = share)]
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

/// Links to rehearse with: those with a way back for receipts.
fn links() -> PossibleValuesParser {
    let value = |preset: &Preset| clap::builder::PossibleValue::new(preset.name).help(preset.about);
    PossibleValuesParser::new(PRESETS.iter().filter(|p| p.rates_bit_s.1 > 0).map(value))
}

fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    percent.filter(|n| (0.0..100.0).contains(n)).map(|n| n / 100.0).ok_or_else(|| "a share is 0% to 99%".into())
}

fn blackout(text: &str) -> Result<Blackout, String> {
    let bad = || "a blackout is TIME@SHARE, such as 14d@50% or 90m@10%".to_owned();
    let (lasts, after) = text.split_once('@').ok_or_else(bad)?;
    let unit = lasts.chars().last().ok_or_else(bad)?;
    let number: f64 = lasts.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or_else(bad)?;
    let seconds = match unit {
        'd' => 86_400.0,
        'h' => 3600.0,
        'm' => 60.0,
        's' => 1.0,
        _ => return Err(bad()),
    };
    let lasts = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
    if lasts > BLACKOUT_MAX {
        return Err("a blackout lasts 365 days at most".into());
    }
    Ok(Blackout { after: share(after)?, lasts })
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
    let plan = rehearsal::Plan {
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
    let figures = rehearsal::run(&plan, &mut |at, moment| timeline.show(at, &moment))?;
    timeline.end()?;
    let Some(figures) = figures else { return Err(interrupted()) };
    let compared = come_home(&folder.path, &stage, &roots, settings, screen)?;
    if stop.load(Ordering::Relaxed) {
        return Err(interrupted());
    }

    let done =
        Done { args, preset, way: &ways[0], outcome: &outcome, figures, compared, safe_here, took: begin.elapsed() };
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
        depositor::backup(&stage.near, &request, Priority::Normal, effort, Duration::ZERO, &meter)
    })?;
    if excluder.own.load(Ordering::Relaxed) > 0 {
        screen.warn("the rehearsal's own folder lies in what was backed up, and was left out");
    }
    Ok((roots, outcome))
}

/// Restores from the far vault, and compares.
fn come_home(
    folder: &Path,
    stage: &Stage,
    roots: &[Vec<u8>],
    settings: &Settings,
    screen: &Screen,
) -> Result<Compared, Failure> {
    let far = Settings {
        places: stage.far.clone(),
        config: Config::default(),
        config_file: None,
        lock_wait: Duration::ZERO,
        passphrase_file: None,
        here: settings.here.clone(),
    };
    let reader = archive::open(&far, &ReadArgs::default(), "lavatube rehearse", false)?;
    let session = archive::session(&reader, screen)?;
    let named = archive::named(&session, b"latest")?;
    let back = folder.join("back");
    std::fs::create_dir(&back).map_err(|e| io(&back, &e))?;
    let request = RestoreRequest {
        snapshot: named.listed.place.id,
        inside: None,
        select: &|_, _| true,
        overwrite: Overwrite::Never,
        doubt: false,
        booted: clock::booted(),
    };
    let meter = Meter::default();
    progress::during(screen, "restoring", &meter, || {
        session.restore(&back, request, b"", settings.workers(), &meter).map_err(Failure::from)
    })?;
    let roots: Vec<PathBuf> = roots.iter().map(|r| Path::new("/").join(OsString::from_vec(r.clone()))).collect();
    let above = common_parent(&roots);
    let mut all = Compared::default();
    for was in &roots {
        let is = back.join(was.strip_prefix(&above).unwrap_or(was));
        let found = compare::trees(was, &is).map_err(|e| io(was, &e))?;
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

fn io(path: &Path, e: &std::io::Error) -> Failure {
    Failure::new(Condition::Io, format!("{}: {}", path.display(), roots::plain(e)))
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

/// A rehearsal that came to its end, to be told.
struct Done<'a> {
    args: &'a RehearseArgs,
    preset: &'a Preset,
    way: &'a Way,
    outcome: &'a Outcome,
    figures: Figures,
    compared: Compared,
    safe_here: Duration,
    took: Duration,
}

impl Done<'_> {
    /// What nobody can beat: every packet full, every loss made good by one more packet, and one way there and back.
    fn ideal(&self) -> Duration {
        let bits = 8.0 * self.figures.len as f64 / PAYLOAD_SHARE;
        Duration::from_secs_f64(bits / (1.0 - self.way.loss) / self.way.rate_bit_s as f64) + self.way.light * 2
    }

    fn efficiency(&self) -> f64 {
        self.ideal().as_secs_f64() / self.figures.open.as_secs_f64().max(0.001)
    }

    /// Differences are the mission's failure, unless the backup said that it could not take everything.
    fn failure(&self) -> Option<Failure> {
        let first = self.compared.differences.first().filter(|_| self.end() == End::Done)?;
        let count = units::things(self.compared.differences.len() as u64, "difference", "differences");
        let what =
            format!("{count} between what went and what came back, the first {}: {}", first.0.display(), first.1);
        let hint = "if it was changed meanwhile, rehearse with something that is left alone; else report it";
        Some(Failure::new(Condition::Lost, what).hint(hint))
    }

    fn end(&self) -> End {
        let report = &self.outcome.report;
        if report.totals.skipped > 0 || report.changed_count > 0 { End::Partly } else { End::Done }
    }

    fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let (figures, [up, down]) = (&self.figures, self.figures.tallies);
        let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        let mut lost = format!("{:.2} % of them lost", percent(up.lost, up.lost + up.delivered));
        for (n, why) in [(up.shut, "sent while the link was shut"), (up.overflowed, "dropped at its entrance")] {
            lost.push_str(&if n > 0 { format!(", {} {why}", units::count(n)) } else { String::new() });
        }
        let [sent, resent, needless] = figures.symbols;
        let rows = [
            ("safe here", units::span(self.safe_here), "of real time: the backup was on this machine".to_owned()),
            (
                "safe there",
                timeline::long_span(figures.took),
                format!("the first object after {}", timeline::long_span(figures.first)),
            ),
            (
                "link open",
                timeline::long_span(figures.open),
                format!("{:.1} % of what an open link can do", 100.0 * self.efficiency()),
            ),
            (
                "ideal",
                timeline::long_span(self.ideal()),
                "nothing can be faster at this rate, light time and loss".to_owned(),
            ),
            ("crossed", units::bytes(figures.len), units::things(figures.objects as u64, "object", "objects")),
            ("sent there", units::bytes(up.len_offered), format!("in {} packets, {lost}", units::count(up.offered))),
            ("sent back", units::bytes(down.len_offered), format!("in {} packets", units::count(down.offered))),
            (
                "sent again",
                format!("{:.2} %", percent(resent, sent)),
                format!("of what was sent; {:.2} % came in and was not needed", percent(needless, sent)),
            ),
            (
                "came home",
                units::bytes(self.compared.bytes),
                format!("{}, {}", units::things(self.compared.files, "file", "files"), self.verdict()),
            ),
            ("real time", units::span(self.took), String::new()),
        ];
        screen.tell("")?;
        for (name, value, note) in rows {
            let line = format!("  {name:<11} {value:>12}  {}", screen.ink(Ink::Dim, &note));
            screen.tell(line.trim_end())?;
        }
        if self.compared.differences.is_empty() {
            let kept = screen.ink(Ink::Green, "every promise kept");
            screen.tell(&format!("{kept}: all receipts are home, and what came back is what went."))?;
            screen.tell("The restore read the vault's folder where it lies; it did not cross the link.")?;
        }
        Ok(())
    }

    fn verdict(&self) -> String {
        match self.compared.differences.len() {
            0 => "compared byte by byte with what went".into(),
            n => format!("with {}", units::things(n as u64, "difference", "differences")),
        }
    }

    fn where_it_is(&self, folder: &Path, stage: &Stage) -> String {
        let Places { vault, state, keys } = &stage.far;
        format!(
            "note: everything is in {}. To look into the far vault:\n  lavatube snapshots --vault {} --state {} --keys {}",
            folder.display(),
            vault.display(),
            state.display(),
            keys.display()
        )
    }

    fn answer(&self, timeline: &Timeline, folder: Option<&PathBuf>) -> serde_json::Value {
        let figures = &self.figures;
        let [up, down] = figures.tallies.map(|t| {
            json!({
                "packets": t.offered, "bytes": t.len_offered, "lost": t.lost, "overflowed": t.overflowed, "shut": t.shut,
                "delivered": t.delivered,
            })
        });
        let differences = self.compared.differences.iter();
        let differences = differences.map(|(path, what)| json!({ "path": path.to_string_lossy(), "what": what }));
        json!({
            "link": self.preset.name,
            "about": self.preset.about,
            "seed": self.args.seed,
            "fast": self.args.fast,
            "objects": figures.objects,
            "bytes": figures.len,
            "safe_here_s": self.safe_here.as_secs_f64(),
            "first_safe_there_s": figures.first.as_secs_f64(),
            "safe_there_s": figures.took.as_secs_f64(),
            "open_s": figures.open.as_secs_f64(),
            "ideal_s": self.ideal().as_secs_f64(),
            "efficiency": self.efficiency(),
            "up": up,
            "down": down,
            "symbols": { "sent": figures.symbols[0], "resent": figures.symbols[1], "needless": figures.symbols[2] },
            "timeline": timeline.events,
            "restored": {
                "files": self.compared.files,
                "bytes": self.compared.bytes,
                "differences": differences.collect::<Vec<_>>(),
            },
            "folder": folder.map(|f| f.to_string_lossy()),
            "seconds": self.took.as_secs_f64(),
            "exit": self.end().status(),
        })
    }
}

/// When played time begins: some moment, always the same.
const START: lavatube_base::Instant = lavatube_base::Instant(1_800_000_000 * 1_000_000_000);
/// What IP and UDP add to a datagram.
const PACKET_OWN_LEN: u64 = 28;
/// What a full packet holds of a pack.
const PAYLOAD_SHARE: f64 = 1436.0 / 1500.0;
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
        assert_eq!(share("5%"), Ok(0.05));
        assert!(share("100%").is_err() && share("5").is_err());
    }
}
