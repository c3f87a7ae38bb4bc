//! The end of a rehearsal: its figures, the promises that were kept, and those that were not.
//!
//! Must not know how any of it came about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_channel::{Preset, Way};
use lavatube_node::depositor::{Outcome, Places};
use lavatube_node::rehearsal::{Figures, Home, OneWay};
use lavatube_node::stage::Stage;
use serde_json::json;

use super::RehearseArgs;
use super::home::Asked;
use super::timeline::{self, Timeline};
use crate::compare::Compared;
use crate::errors::{Condition, End, Failure};
use crate::screen::{Ink, Screen};
use crate::units;

/// A rehearsal that came to its end, to be told.
pub struct Done<'a> {
    /// What was wanted.
    pub args: &'a RehearseArgs,
    /// The link.
    pub preset: &'a Preset,
    /// What its way there was like.
    pub way: &'a Way,
    /// The backup.
    pub outcome: &'a Outcome,
    /// What the crossing came to.
    pub figures: Figures,
    /// What the way home came to, where one can ask.
    pub home: Option<(Home, Asked)>,
    /// What came back.
    pub compared: Compared,
    /// How long the backup took, in real time.
    pub safe_here: Duration,
    /// How long everything took, in real time.
    pub took: Duration,
}

impl Done<'_> {
    /// What nobody can beat: every packet full, every loss made good by one more packet, and one way there and, for a
    /// receipt, back.
    fn ideal(&self) -> Duration {
        let ways = if self.figures.one_way.is_some() { 1 } else { 2 };
        let bits = 8.0 * self.figures.len as f64 / PAYLOAD_SHARE;
        Duration::from_secs_f64(bits / (1.0 - self.way.loss) / self.way.rate_bit_s as f64) + self.way.light * ways
    }

    fn efficiency(&self) -> f64 {
        self.ideal().as_secs_f64() / self.figures.open.as_secs_f64().max(0.001)
    }

    /// Differences are the mission's failure, unless the backup said that it could not take everything; and so is what did
    /// not arrive where nobody can ask for it again.
    pub fn failure(&self) -> Option<Failure> {
        if let Some(lost) = self.lost() {
            return Some(lost);
        }
        let first = self.compared.differences.first().filter(|_| self.end() == End::Done)?;
        let count = units::things(self.compared.differences.len() as u64, "difference", "differences");
        let what =
            format!("{count} between what went and what came back, the first {}: {}", first.0.display(), first.1);
        let hint = "if it was changed meanwhile, rehearse with something that is left alone; else report it";
        Some(Failure::new(Condition::Lost, what).hint(hint))
    }

    fn lost(&self) -> Option<Failure> {
        let way = self.figures.one_way.filter(|way| way.stored < self.figures.objects)?;
        let lost = units::things((self.figures.objects - way.stored) as u64, "object", "objects");
        let what = format!(
            "{lost} of {} did not arrive; if losses were no worse than provided for, the chance of that was one in {}",
            self.figures.objects,
            units::count(way.one_in)
        );
        let hint = "they still wait here: a later contact, or a disk, takes them; against worse losses set loss, burst or \
                    repeats in [one_way] of link.toml";
        Some(Failure::new(Condition::Lost, what).hint(hint))
    }

    /// How the command ends.
    pub fn end(&self) -> End {
        let report = &self.outcome.report;
        if report.totals.skipped > 0 || report.changed_count > 0 { End::Partly } else { End::Done }
    }

    /// What the crossing and the way home came to, where word comes back.
    fn rows_of_receipts(&self) -> Vec<Row> {
        let figures = &self.figures;
        let first = format!("the first object after {}", timeline::long_span(figures.first));
        let mut rows = vec![("safe there", timeline::long_span(figures.took), first)];
        if let Some((home, asked)) = &self.home {
            let how = format!(
                "in {} and {}; the rest was known here",
                units::things(asked.requests, "request", "requests"),
                units::things(asked.round_trips, "round trip", "round trips"),
            );
            let carried =
                format!("{} over the link, {} to ask", units::bytes(home.lens[1]), units::bytes(home.lens[0]));
            rows.push(("asked for", units::bytes(asked.len), how));
            rows.push(("brought back", timeline::long_span(home.took), carried));
        }
        rows
    }

    /// The same where none does.
    fn rows_of_one_way(&self, way: &OneWay) -> Vec<Row> {
        let of_all = |n: usize| format!("{} of {}", n, self.figures.objects);
        let chance = format!("1 in {}", units::count(way.one_in));
        vec![
            ("all sent", timeline::long_span(self.figures.took), "no word says whether it arrived".to_owned()),
            ("chance", chance, "at most, that something did not, if losses are as provided for".to_owned()),
            ("still here", of_all(way.kept), "objects: nobody receipted them, so the spool lets go of none".to_owned()),
            ("over there", of_all(way.stored), "objects were stored, as somebody there can see".to_owned()),
        ]
    }

    /// Shows it to people.
    ///
    /// # Errors
    /// When the reader went away.
    pub fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let (figures, [up, down]) = (&self.figures, self.figures.tallies);
        let percent = |part: u64, of: u64| 100.0 * part as f64 / of.max(1) as f64;
        let mut lost = format!("{:.2} % of them lost", percent(up.lost, up.lost + up.delivered));
        for (n, why) in [(up.shut, "sent while the link was shut"), (up.overflowed, "dropped at its entrance")] {
            lost.push_str(&if n > 0 { format!(", {} {why}", units::count(n)) } else { String::new() });
        }
        let [sent, resent, needless] = figures.symbols;
        let mut rows =
            vec![("safe here", units::span(self.safe_here), "of real time: the backup was on this machine".to_owned())];
        rows.extend(figures.one_way.as_ref().map_or_else(|| self.rows_of_receipts(), |way| self.rows_of_one_way(way)));
        rows.extend([
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
        ]);
        screen.tell("")?;
        for (name, value, note) in rows {
            let line = format!("  {name:<12} {value:>12}  {}", screen.ink(Ink::Dim, &note));
            screen.tell(line.trim_end())?;
        }
        if self.compared.differences.is_empty() && self.lost().is_none() {
            let kept = screen.ink(Ink::Green, "every promise kept");
            screen.tell(&match &figures.one_way {
                None => format!("{kept}: all receipts are home, and what came back is what went."),
                Some(way) => format!(
                    "{kept}: safe here, and likely there, with a chance of at most 1 in {} that something is missing.\n\
                     This time all of it arrived, and what was read in the vault's folder, as a person over there would, is \
                     what went.",
                    units::count(way.one_in)
                ),
            })?;
        }
        Ok(())
    }

    fn verdict(&self) -> String {
        match self.compared.differences.len() {
            0 => "compared byte by byte with what went".into(),
            n => format!("with {}", units::things(n as u64, "difference", "differences")),
        }
    }

    /// Where things are that were kept.
    pub fn where_it_is(&self, folder: &Path, stage: &Stage) -> String {
        let Places { vault, state, keys } = &stage.far;
        format!(
            "note: everything is in {}. To look into the far vault:\n  lavatube snapshots --vault {} --state {} --keys {}",
            folder.display(),
            vault.display(),
            state.display(),
            keys.display()
        )
    }

    /// The answer for `--json`.
    pub fn answer(&self, timeline: &Timeline, folder: Option<&PathBuf>) -> serde_json::Value {
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
            "first_safe_there_s": figures.one_way.is_none().then_some(figures.first.as_secs_f64()),
            "safe_there_s": figures.one_way.is_none().then_some(figures.took.as_secs_f64()),
            "one_way": figures.one_way.map(|way| json!({
                "sent_s": figures.took.as_secs_f64(), "one_in": way.one_in, "stored_objects": way.stored,
                "kept_objects": way.kept,
            })),
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
                "seconds": self.home.map(|(h, _)| h.took.as_secs_f64()),
                "open_s": self.home.map(|(h, _)| h.open.as_secs_f64()),
                "asked_bytes": self.home.map(|(_, a)| a.len),
                "requests": self.home.map(|(_, a)| a.requests),
                "round_trips": self.home.map(|(_, a)| a.round_trips),
                "up_bytes": self.home.map(|(h, _)| h.lens[0]),
                "down_bytes": self.home.map(|(h, _)| h.lens[1]),
            },
            "folder": folder.map(|f| f.to_string_lossy()),
            "seconds": self.took.as_secs_f64(),
            "exit": self.end().status(),
        })
    }
}

/// A row of figures: name, value, and what it means.
type Row = (&'static str, String, String);

/// What a full packet holds of a pack.
const PAYLOAD_SHARE: f64 = 1436.0 / 1500.0;
