//! The time line of a rehearsal: a line for each thing that happens, and a live line between them.
//!
//! Must not know why things happen.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lavatube_base::ObjectId;
use lavatube_channel::{Preset, Way};
use lavatube_node::depositor::Outcome;
use lavatube_node::rehearsal::{Moment, Progress};
use lavatube_node::status::Line;
use lavatube_node::told::Told;
use serde_json::{Value, json};

use crate::errors::Failure;
use crate::screen::{Ink, Screen};
use crate::units;

/// The time line.
pub struct Timeline {
    screen: Screen,
    fast: bool,
    bar: Option<ProgressBar>,
    drawn: Option<Instant>,
    last: Progress,
    /// Tenths of all bytes that were told of.
    tenths: u64,
    silent: bool,
    /// An object was sent to where no word comes back.
    sent: bool,
    /// Nothing comes back.
    one_way: bool,
    /// The first failure to write.
    failed: Option<Failure>,
    /// For `--json`.
    pub events: Vec<Value>,
}

impl Timeline {
    /// A time line, empty.
    pub fn new(screen: Screen, fast: bool) -> Self {
        let bar = screen.progress.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{spinner} {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar
        });
        let (last, drawn) = (Progress::default(), None);
        Self {
            screen,
            fast,
            bar,
            drawn,
            last,
            tenths: 0,
            silent: false,
            sent: false,
            one_way: false,
            failed: None,
            events: Vec::new(),
        }
    }

    /// Says which link it is.
    pub fn introduce(&mut self, preset: &Preset, way: &Way, seed: u64) -> Result<(), Failure> {
        self.screen.tell(&format!("{}  {}", self.screen.ink(Ink::Bold, preset.name), preset.about))?;
        let (up, down) = preset.rates_bit_s;
        self.one_way = preset.is_one_way();
        let back = if self.one_way { "no way back".to_owned() } else { format!("{} back", rate(down as f64)) };
        let spells = match way.spell.as_millis() {
            0 => "each by itself".to_owned(),
            ms => format!("in spells of {ms} ms"),
        };
        let time = if self.fast { "played time" } else { "real time" };
        self.screen.tell(&self.screen.ink(
            Ink::Dim,
            &format!(
                "{} there, {back}, {:.2} s each way, {:.1} % lost {spells}; seed {seed}, {time}",
                rate(up as f64),
                way.light.as_secs_f64(),
                100.0 * way.loss
            ),
        ))
    }

    /// The backup is on this machine.
    pub fn safe_here(&mut self, outcome: &Outcome, took: Duration) -> Result<(), Failure> {
        self.screen.tell("")?;
        self.screen.tell(
            &self
                .screen
                .ink(Ink::Dim, &format!("{:>13}  {:>15}", "time", if self.one_way { "sent" } else { "safe there" })),
        )?;
        let (files, stored) = (outcome.report.totals.files, outcome.stored_bytes);
        self.last.len = stored;
        self.events.push(json!({ "at_s": 0.0, "event": "safe-here", "files": files, "stored_bytes": stored }));
        let text = format!(
            "{}: {}, sealed to {} in {}",
            self.screen.ink(Ink::Green, "safe here"),
            units::things(files, "file", "files"),
            units::bytes(stored),
            units::span(took)
        );
        self.line(Duration::ZERO, &text);
        Ok(())
    }

    /// Something happened.
    pub fn show(&mut self, at: Duration, moment: &Moment) {
        match moment {
            Moment::Opens => self.event(at, "opens", "the link opens"),
            Moment::Closes => self.event(at, "closes", "the link closes"),
            Moment::Darkens(lasts) => {
                let text = format!("a blackout of {} that no plan knows of", long(*lasts));
                self.event(at, "blackout", &self.screen.ink(Ink::Yellow, &text));
            }
            Moment::Told { far: false, told } => self.near(at, told),
            Moment::Told { far: true, told: Told::Denied { id, why } } => {
                self.event(at, "denied", &format!("the vault does not take object {}: {why}", id.short()));
            }
            Moment::Told { .. } => {}
            Moment::Progress(progress) => self.progress(at, progress),
            Moment::Sent => {
                (self.last.len_receipted, self.last.left) = (self.last.len, 0);
                let text = format!("{}: all of it was sent", self.screen.ink(Ink::Green, "likely there"));
                self.event(at, "all-sent", &text);
            }
            Moment::Asks => self.event(at, "asks", "everything is asked for again, over the link"),
            Moment::Comes(len, rate_bit_s) => {
                let text = format!("restoring: {} came back, {}", units::bytes(*len), rate(*rate_bit_s));
                self.draw(at, &text);
            }
            Moment::Home => {
                let text = format!("{}: all that was asked for came back", self.screen.ink(Ink::Green, "home"));
                self.event(at, "home", &text);
            }
        }
    }

    fn near(&mut self, at: Duration, told: &Told) {
        match told {
            Told::Line(Line::Silent) => {
                self.silent = true;
                self.event(at, "silent", "nobody answers: the sender only asks now and then");
            }
            Told::Line(Line::Open) if std::mem::take(&mut self.silent) => {
                self.event(at, "answered", "the far end answers again");
            }
            Told::Receipted { left: 0, .. } => {
                (self.last.len_receipted, self.last.left) = (self.last.len, 0);
                let text = format!("{}: every receipt is home", self.screen.ink(Ink::Green, "safe there"));
                self.event(at, "safe-there", &text);
            }
            Told::Sent { id, one_in } => self.sent(at, *id, *one_in),
            Told::Damaged(id) => self.event(at, "damaged", &format!("object {} is damaged here", id.short())),
            Told::Nonsense(what) => self.event(at, "nonsense", what),
            _ => {}
        }
    }

    /// Where no word comes back: the first object is told of, and that all of them went.
    fn sent(&mut self, at: Duration, id: ObjectId, one_in: u64) {
        if !std::mem::replace(&mut self.sent, true) {
            let text = format!("object {} was sent; 1 in {} that it did not arrive", id.short(), units::count(one_in));
            self.event(at, "sent", &text);
        }
    }

    fn progress(&mut self, at: Duration, progress: &Progress) {
        self.last = progress.clone();
        let tenths = 10 * progress.len_receipted / progress.len.max(1);
        let text = format!(
            "{}, {:.1} % lost, {:.1} s queued, {} to go",
            rate(progress.rate_bit_s),
            100.0 * progress.loss,
            progress.backlog.as_secs_f64(),
            units::things(progress.left as u64, "object", "objects")
        );
        if tenths > self.tenths && progress.left > 0 {
            self.tenths = tenths;
            self.events.push(json!({
                "at_s": at.as_secs_f64(), "event": "progress", "bytes_safe_there": progress.len_receipted,
                "rate_bit_s": progress.rate_bit_s, "loss": progress.loss, "queued_s": progress.backlog.as_secs_f64(),
                "left": progress.left,
            }));
            self.line(at, &text);
        }
        let line = match progress.line {
            Some(Line::Shut) => "  (shut)",
            Some(Line::Silent) => "  (silent)",
            _ => "",
        };
        self.draw(at, &format!("{text}{line}"));
    }

    /// The live line, now and then.
    fn draw(&mut self, at: Duration, text: &str) {
        if let Some(bar) = &self.bar
            && self.drawn.is_none_or(|drawn| drawn.elapsed() >= PAUSE)
        {
            self.drawn = Some(Instant::now());
            bar.set_message(format!("{}  {text}", self.head(at)));
            bar.tick();
        }
    }

    /// It is over.
    pub fn end(&mut self) -> Result<(), Failure> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.failed.take().map_or(Ok(()), Err)
    }

    fn event(&mut self, at: Duration, name: &str, text: &str) {
        self.events.push(json!({
            "at_s": at.as_secs_f64(), "event": name, "bytes_safe_there": self.last.len_receipted,
        }));
        self.line(at, text);
    }

    fn line(&mut self, at: Duration, text: &str) {
        let line = format!("{}  {text}", self.head(at));
        let tell = || self.screen.tell(&line);
        let told = match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        };
        self.failed = self.failed.take().or(told.err());
    }

    fn head(&self, at: Duration) -> String {
        let Progress { len, len_receipted, .. } = self.last;
        let percent = 100 * len_receipted / len.max(1);
        format!("{:>13}  {:>9} {percent:>3} %", watch(at), units::bytes(len_receipted))
    }
}

/// A time as a clock shows it: `00:03:25`, `14d 00:03:25`.
fn watch(at: Duration) -> String {
    let s = at.as_secs();
    let clock = format!("{:02}:{:02}:{:02}", s / 3600 % 24, s / 60 % 60, s % 60);
    match s / 86_400 {
        0 => clock,
        days => format!("{days}d {clock}"),
    }
}

/// A span that may be long: `12.3 s`, `00:03:25`, `14d 00:03:25`.
pub fn long_span(d: Duration) -> String {
    if d.as_secs() < 60 { units::span(d) } else { watch(d) }
}

/// A round span in words: `14 days`, `6 h 0 min`.
fn long(d: Duration) -> String {
    match d.as_secs() {
        s if s >= 2 * 86_400 && s % 86_400 == 0 => format!("{} days", s / 86_400),
        _ => units::span(d),
    }
}

/// Bits a second: `19.2 Mbit/s`.
fn rate(bit_s: f64) -> String {
    match bit_s {
        1e9.. => format!("{:.3} Gbit/s", bit_s / 1e9).replace(".000", ""),
        999_950.0.. => format!("{:.1} Mbit/s", bit_s / 1e6).replace(".0 ", " "),
        _ => format!("{:.1} kbit/s", bit_s / 1e3).replace(".0 ", " "),
    }
}

/// Between two pictures of the live line, in real time.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_read_well() {
        let s = Duration::from_secs;
        assert_eq!([s(205), s(14 * 86_400 + 205)].map(watch), ["00:03:25", "14d 00:03:25"]);
        assert_eq!([s(40), s(300_000)].map(long_span), ["40.0 s", "3d 11:20:00"]);
        assert_eq!([s(14 * 86_400), s(5400)].map(long), ["14 days", "1 h 30 min"]);
        assert_eq!(
            [1e9, 2.6e8, 19_234_000.0, 999_960.0, 16_000.0, 0.0].map(rate).join(" "),
            "1 Gbit/s 260 Mbit/s 19.2 Mbit/s 1 Mbit/s 16 kbit/s 0 kbit/s"
        );
    }
}
