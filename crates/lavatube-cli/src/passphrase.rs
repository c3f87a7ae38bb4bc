//! Passphrases: from the terminal without echo, or from a file; never from arguments or environment, which others see.
//!
//! Must not know what they open.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::errors::{Condition, Failure};

/// Where passphrases come from, and what went wrong on the way.
pub struct Asker<'a> {
    file: Option<&'a Path>,
    failure: Option<Failure>,
}

impl<'a> Asker<'a> {
    /// Asks `file` when given, else the terminal.
    pub fn new(file: Option<&'a Path>) -> Self {
        Self { file, failure: None }
    }

    /// The passphrase, or `None` when there is nobody to ask; see [`Asker::blame`].
    pub fn ask(&mut self, prompt: &str) -> Option<Zeroizing<String>> {
        let answer = match self.file {
            Some(file) => from_file(file).map(Some),
            None => from_terminal(prompt),
        };
        answer.unwrap_or_else(|failure| {
            self.failure = Some(failure);
            None
        })
    }

    /// What went wrong while asking counts more than what followed from it.
    pub fn blame(self, e: impl Into<Failure>) -> Failure {
        self.failure.unwrap_or_else(|| e.into())
    }

    /// A new passphrase, asked for twice on a terminal.
    ///
    /// # Errors
    /// When there is nobody to ask, or the two differ.
    pub fn ask_new(&mut self, prompt: &str) -> Result<Zeroizing<String>, Failure> {
        if let Some(file) = self.file {
            return from_file(file);
        }
        let nobody = || {
            Failure::new(Condition::Usage, "there is no terminal to ask for a passphrase")
                .hint("give it with --passphrase-file FILE")
        };
        let first = from_terminal(prompt)?.ok_or_else(nobody)?;
        if first.is_empty() {
            return Err(
                Failure::new(Condition::Usage, "an empty passphrase protects nothing").hint("choose a longer one")
            );
        }
        let second = from_terminal("The same again")?.ok_or_else(nobody)?;
        if *first != *second {
            return Err(
                Failure::new(Condition::Usage, "the two passphrases differ; nothing was changed").hint("try again")
            );
        }
        Ok(first)
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bad = |why: String| Failure::new(Condition::Io, format!("the passphrase file {}: {why}", path.display()));
    let mut text = Zeroizing::new(String::with_capacity(LEN_MAX));
    let file = File::open(path).map_err(|e| bad(e.to_string()))?;
    let len_max = u64::try_from(LEN_MAX).unwrap_or(u64::MAX);
    file.take(len_max).read_to_string(&mut text).map_err(|e| bad(e.to_string()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(bad("its first line is empty".into())),
    }
}

/// Reads a line byte by byte with echo, line editing and signals off, so that even Ctrl-C leaves the terminal as it was.
fn from_terminal(prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    let Ok(mut terminal) = File::options().read(true).write(true).open("/dev/tty") else { return Ok(None) };
    let bad = |e: std::io::Error| Failure::new(Condition::Io, format!("the terminal: {e}"));
    let before = tcgetattr(&terminal).map_err(|e| bad(e.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    write!(terminal, "{prompt}: ").and_then(|()| terminal.flush()).map_err(bad)?;
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|e| bad(e.into()))?;
    let line = read_line(&mut terminal);
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &before);
    let _ = writeln!(terminal);
    restored.map_err(|e| bad(e.into()))?;
    line.map(Some)
}

fn read_line(terminal: &mut impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(LEN_MAX));
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => match byte[0] {
                b'\r' | b'\n' => break,
                CTRL_C => return Err(Failure::new(Condition::Interrupted, "interrupted")),
                CTRL_D if line.is_empty() => {
                    return Err(Failure::new(Condition::Interrupted, "no passphrase was given"));
                }
                CTRL_U => line.clear(),
                BACKSPACE | DELETE => {
                    // A character of several bytes goes as a whole.
                    while line.pop().is_some_and(|b| b & 0xc0 == 0x80) {}
                }
                b if line.len() < LEN_MAX => line.push(b),
                _ => {}
            },
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Failure::new(Condition::Io, format!("the terminal: {e}"))),
        }
    }
    match std::str::from_utf8(&line) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::new(Condition::Usage, "the passphrase is not UTF-8")),
    }
}

const LEN_MAX: usize = 1024;
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_edited() {
        let read = |bytes: &[u8]| read_line(&mut &bytes[..]).map(|l| l.to_string());
        assert_eq!(read(b"secret\nmore").unwrap(), "secret");
        assert_eq!(read("caf\u{e9}\u{7f}e\r".as_bytes()).unwrap(), "cafe");
        assert_eq!(read(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(read(b"ab\x03").unwrap_err().condition, Condition::Interrupted);
        assert_eq!(read(b"\x04").unwrap_err().condition, Condition::Interrupted);
    }
}
