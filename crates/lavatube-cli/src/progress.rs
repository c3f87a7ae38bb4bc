//! Progress: a bar with bytes, files, rate and time left while a command turns a meter's counters.
//!
//! A thread of its own reads the counters ten times a second, so that the engines never wait for a terminal; without a
//! terminal on standard error there is neither thread nor bar. Must not know what the engines do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lavatube_client::meter::Meter;

use crate::screen::Screen;
use crate::units;

/// Ends the drawing thread, however the work ends.
struct Ending<'a>(&'a AtomicBool, Thread);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

/// Does `work` while a bar titled `title` shows what `meter` says.
pub fn during<R>(screen: &Screen, title: &str, meter: &Meter, work: impl FnOnce() -> R) -> R {
    during_with(screen, title, meter, |_| {}, work)
}

/// The same, with a thread `beside` that finds out what the bar is to come to. It must end soon when told that all is over.
pub fn during_with<R>(
    screen: &Screen,
    title: &str,
    meter: &Meter,
    beside: impl FnOnce(&AtomicBool) + Send,
    work: impl FnOnce() -> R,
) -> R {
    if !screen.progress {
        return work();
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let drawer = scope.spawn(|| draw(screen, title, meter, &over));
        scope.spawn(|| beside(&over));
        let _ending = Ending(&over, drawer.thread().clone());
        work()
    })
}

/// Steps of a computation that are counted, not measured in bytes.
pub struct Steps {
    bar: Option<ProgressBar>,
    begin: Instant,
}

impl Steps {
    /// So many steps, called `unit`; 0 where nobody knows how many.
    pub fn new(screen: &Screen, unit: &str, total: u64) -> Self {
        let bar = screen.progress.then(|| {
            let template = if total > 0 { "{bar:24} {percent:>3}%  {pos} {msg}" } else { "{spinner} {pos} {msg}" };
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::with_draw_target((total > 0).then_some(total), ProgressDrawTarget::hidden());
            bar.with_style(style.progress_chars("━╸─")).with_message(unit.to_owned())
        });
        Self { bar, begin: Instant::now() }
    }

    /// One more is done.
    pub fn step(&self) {
        let Some(bar) = &self.bar else { return };
        if bar.is_hidden() && self.begin.elapsed() >= QUIET_FOR {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        bar.inc(1);
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(screen: &Screen, title: &str, meter: &Meter, over: &AtomicBool) {
    let begin = Instant::now();
    while begin.elapsed() < QUIET_FOR {
        if over.load(Ordering::Relaxed) {
            return;
        }
        thread::park_timeout(QUIET_FOR.saturating_sub(begin.elapsed()));
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let mut rate = Rate::default();
    let mut shape = None;
    while !over.load(Ordering::Relaxed) {
        let (done, total) = (meter.bytes.now(), expected(meter));
        let now = (total > 0, is_wide());
        if shape != Some(now) {
            shape = Some(now);
            bar.set_style(style(screen, now));
        }
        if total > 0 {
            bar.set_length(total);
            bar.set_position(done);
        }
        bar.set_message(line(title, meter, rate.update(begin.elapsed(), done)));
        bar.tick();
        thread::park_timeout(PAUSE);
    }
    bar.finish_and_clear();
}

/// Whether the terminal has room for a bar beside the figures.
fn is_wide() -> bool {
    rustix::termios::tcgetwinsize(std::io::stderr()).is_ok_and(|size| size.ws_col >= WIDE)
}

fn style(screen: &Screen, (has_total, wide): (bool, bool)) -> ProgressStyle {
    // A message that does not fit is cut: two lines would dance.
    let template = match (has_total, wide, screen.has_colour()) {
        (true, true, true) => "{bar:24.cyan/dim} {percent:>3}%  {wide_msg}",
        (true, true, false) => "{bar:24} {percent:>3}%  {wide_msg}",
        (true, false, true) => "{percent:>3.cyan}%  {wide_msg}",
        (true, false, false) => "{percent:>3}%  {wide_msg}",
        (false, _, true) => "{spinner:.cyan} {wide_msg}",
        (false, _, false) => "{spinner} {wide_msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}

/// Bytes that the work comes to, as far as is known: without holes, which cost nothing.
fn expected(meter: &Meter) -> u64 {
    match meter.bytes_total.now() {
        0 => 0,
        total => total.saturating_sub(meter.holes.now().max(meter.holes_total.now())).max(meter.bytes.now()),
    }
}

fn line(title: &str, meter: &Meter, rate: f64) -> String {
    let (done, total) = (meter.bytes.now(), expected(meter));
    let mut parts = vec![title.to_owned(), units::bytes(done)];
    if total > 0 {
        parts[1].push_str(&format!(" of {}", units::bytes(total)));
    }
    parts.push(units::things(meter.files.now(), "file", "files"));
    if rate >= 1.0 {
        parts.push(format!("{}/s", units::bytes(rate as u64)));
        let left = total.saturating_sub(done) as f64 / rate;
        if total > done && left < 1e6 {
            parts.push(format!("{} left", units::whole_span(left as u64 + 1)));
        }
    }
    if meter.waits.now() > 0 {
        parts.push("waiting for the link".into());
    }
    if meter.errors.now() > 0 {
        parts.push(units::things(meter.errors.now(), "problem", "problems"));
    }
    parts.join("  ")
}

/// Bytes a second, smoothed over some seconds.
#[derive(Default)]
struct Rate {
    at: Duration,
    bytes: u64,
    smooth: f64,
}

impl Rate {
    fn update(&mut self, at: Duration, bytes: u64) -> f64 {
        let dt = at.saturating_sub(self.at).as_secs_f64();
        if dt > 0.0 {
            let now = bytes.saturating_sub(self.bytes) as f64 / dt;
            let first = self.smooth == 0.0;
            self.smooth = if first { now } else { self.smooth + (now - self.smooth) * (1.0 - (-dt / SMOOTH_S).exp()) };
            (self.at, self.bytes) = (at, bytes);
        }
        self.smooth
    }
}

/// A command that is done within this shows no bar at all.
const QUIET_FOR: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(100);
const SMOOTH_S: f64 = 3.0;
/// Columns from which on there is a bar.
const WIDE: u16 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_neither_done_nor_left_to_do() {
        let meter = Meter::default();
        meter.bytes.add(1_000_000);
        assert_eq!(line("backing up", &meter, 0.0), "backing up  1.00 MB  0 files");
        meter.bytes_total.set(1_004_000_000);
        meter.holes.add(1_000_000_000);
        assert_eq!(line("backing up", &meter, 1e6), "backing up  1.00 MB of 4.00 MB  0 files  1.00 MB/s  4 s left");
        meter.bytes.add(9_000_000);
        assert_eq!(expected(&meter), 10_000_000, "more than was expected");
        meter.bytes_total.set(2_000_000_000);
        meter.holes_total.set(1_900_000_000);
        assert_eq!(expected(&meter), 100_000_000, "holes that are yet to come");
    }
}
