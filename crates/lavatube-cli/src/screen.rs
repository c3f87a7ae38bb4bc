//! The terminal: what goes to standard output, what to standard error, in colour or not, in words or as JSON.
//!
//! Answers go to standard output, notes and warnings to standard error. A reader that went away (`| head`) is no error.
//! Must not know what is said.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

use crate::errors::{Condition, Failure};

/// How to speak.
#[derive(Debug, Clone, Copy, Default)]
pub struct Screen {
    /// One JSON object instead of words.
    pub json: bool,
    /// Only errors and what was asked for.
    pub quiet: bool,
    /// Progress bars, if standard error is a terminal.
    pub progress: bool,
    out_colour: bool,
    err_colour: bool,
}

/// A way to set words apart. On a pipe, or with NO_COLOR set, none does.
#[derive(Debug, Clone, Copy)]
pub enum Ink {
    /// What matters.
    Bold,
    /// What is there for completeness.
    Dim,
    /// Good.
    Green,
    /// Look here.
    Yellow,
    /// Bad.
    Red,
}

impl Screen {
    /// A screen for this process.
    pub fn new(json: bool, quiet: bool, no_progress: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            json,
            quiet,
            progress: err && !quiet && !no_progress,
            out_colour: out && !plain,
            err_colour: err && !plain,
        }
    }

    /// Words on standard output in `ink`.
    pub fn ink(&self, ink: Ink, text: &str) -> String {
        paint(self.out_colour, ink, text)
    }

    /// Whether standard error has colours.
    pub fn has_colour(&self) -> bool {
        self.err_colour
    }

    /// An answer in words: standard output, unless JSON was asked for.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn say(&self, text: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { write_line(text) }
    }

    /// A summary nobody asked for: as [`Screen::say`], and not when quiet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, text: &str) -> Result<(), Failure> {
        if self.quiet { Ok(()) } else { self.say(text) }
    }

    /// The answer as JSON, if that was asked for.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn answer(&self, value: &Value) -> Result<(), Failure> {
        if self.json { write_line(&value.to_string()) } else { Ok(()) }
    }

    /// A note beside the answer: standard error, not when quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A warning: standard error, also when quiet.
    pub fn warn(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{} {text}", paint(self.err_colour, Ink::Yellow, "warning:"));
    }

    /// A failure: what, and a hint; as JSON too if that was asked for.
    pub fn fail(&self, failure: &Failure) {
        let row = failure.row();
        if failure.condition == Condition::PipeClosed {
            return;
        }
        if self.json {
            let value = serde_json::json!({
                "error": { "code": row.code, "message": failure.what, "hint": failure.advice() },
                "exit": row.status,
            });
            let _ = write_line(&value.to_string());
        }
        let _ = writeln!(io::stderr(), "{} {}", paint(self.err_colour, Ink::Red, "error:"), failure.what);
        if !failure.advice().is_empty() {
            let _ = writeln!(io::stderr(), " {} {}", paint(self.err_colour, Ink::Bold, "hint:"), failure.advice());
        }
    }
}

fn write_line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).map_err(written)
}

/// The failure of a write to standard output.
pub fn written(e: io::Error) -> Failure {
    match e.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Condition::PipeClosed, "standard output was closed"),
        _ => Failure::new(Condition::Io, format!("standard output: {e}")),
    }
}

fn paint(colour: bool, ink: Ink, text: &str) -> String {
    if !colour {
        return text.to_owned();
    }
    let code = match ink {
        Ink::Bold => "1",
        Ink::Dim => "2",
        Ink::Green => "32",
        Ink::Yellow => "1;33",
        Ink::Red => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
