//! Locks between commands: one writer of a vault's state at a time, and a message that says who it is.
//!
//! The lock is the kernel's (`flock`), so a killed holder frees it by dying; the file's text only tells people who holds
//! it. The file is never removed: two commands could otherwise hold locks on two files of one name. It must not know
//! what is protected. No step of the walk: every command begins with it.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

use crate::clock::wall_now;
use crate::process::host_name;
use crate::words::{plain, words};

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Other readers may.
    Shared,
    /// Nobody else may.
    Exclusive,
}

/// Who holds a lock, as far as the lock's file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The command, such as `lavatube backup`.
    pub command: String,
    /// Process id on `host`.
    pub pid: u32,
    /// Name of the host.
    pub host: String,
    /// Seconds since it took the lock; 0 when the clock was set back since.
    pub age_s: u64,
}

/// Why a lock was not had.
#[derive(Debug)]
pub enum LockError {
    /// Someone holds it, and did so until our patience ended.
    Held {
        /// The lock's file.
        path: PathBuf,
        /// Who; `None` when the file does not tell.
        by: Option<Holder>,
    },
    /// The lock's file cannot be used.
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the system said.
        text: String,
    },
}

/// A lock that is held until dropped, or until this process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    /// `None` where there is no file to lock and none can be made.
    file: Option<File>,
    line: String,
    mode: Mode,
    /// The file can be written to, and so tells others who holds it.
    writable: bool,
}

impl Lock {
    /// Takes the lock of the file `path`, made when missing in a folder that exists; `command` is what to tell others,
    /// `wait` how long to wait for them. A reader needs no right to write: where there is no file and none can be made (a
    /// medium that is read-only, a folder of someone else), it goes on without a lock.
    ///
    /// # Errors
    /// [`LockError::Held`] when someone else still holds it after `wait`; [`LockError::Io`] when the file cannot be used.
    pub fn acquire(path: &Path, command: &str, mode: Mode, wait: Duration) -> Result<Self, LockError> {
        let fail = |text: String| LockError::Io { path: path.to_owned(), text };
        let mut lock = Self { file: None, line: line(command), mode, writable: true };
        let file = match File::options().read(true).append(true).create(true).mode(0o600).open(path) {
            Err(e) if mode == Mode::Shared && is_not_permitted(&e) => {
                lock.writable = false;
                match File::open(path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(lock),
                    other => other,
                }
            }
            other => other,
        };
        let file = file.map_err(|e| fail(plain(&e.to_string())))?;
        let how = match mode {
            Mode::Shared => FlockOperation::NonBlockingLockShared,
            Mode::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        // A little patience always: a holder on its way out asks for more than it had, for a moment.
        let until = Instant::now() + wait.max(PAUSE * 4);
        loop {
            match flock(&file, how) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < until => std::thread::sleep(PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(LockError::Held { path: path.to_owned(), by: holder(&file) }),
                Err(Errno::INTR) => {}
                Err(e) => return Err(fail(words(e))),
            }
        }
        lock.file = Some(file);
        // Only a message to people: a full disk must not keep a restore from running.
        let _ = lock.introduce();
        Ok(lock)
    }

    fn introduce(&self) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref().filter(|_| self.writable) else { return Ok(()) };
        if self.mode == Mode::Exclusive {
            file.set_len(0)?;
        }
        if file.metadata()?.len() > TEXT_LEN_MAX {
            return Ok(());
        }
        file.write_all(self.line.as_bytes())
    }
}

/// Whether the system does not let us write there.
fn is_not_permitted(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

impl Drop for Lock {
    fn drop(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.writable) else { return };
        // The last one out wipes the slate.
        if self.mode == Mode::Exclusive || flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = file.set_len(0);
        }
    }
}

/// `pid, host, seconds since 1970, command` between tabs.
fn line(command: &str) -> String {
    let command: String = command.chars().filter(|c| !c.is_control()).take(COMMAND_CHARS_MAX).collect();
    let host: String = host_name().chars().filter(|c| !c.is_control()).collect();
    format!("{}\t{host}\t{}\t{command}\n", getpid().as_raw_nonzero(), wall_now().s)
}

/// The newest holder the file tells of that is not known to be dead.
fn holder(file: &File) -> Option<Holder> {
    let mut bytes = vec![0; 2 * usize::try_from(TEXT_LEN_MAX).ok()?];
    let n = file.read_at(&mut bytes, 0).ok()?;
    let text = String::from_utf8_lossy(&bytes[..n]);
    text.lines().rev().filter_map(parse).find(is_alive)
}

fn parse(line: &str) -> Option<Holder> {
    let mut parts = line.splitn(4, '\t');
    let pid = parts.next()?.parse().ok()?;
    let text = |s: &str| s.chars().filter(|c| !c.is_control()).take(COMMAND_CHARS_MAX).collect();
    let host = text(parts.next()?);
    let since: i64 = parts.next()?.parse().ok()?;
    let age_s = u64::try_from(wall_now().s.saturating_sub(since)).unwrap_or(0);
    Some(Holder { pid, host, age_s, command: text(parts.next()?) })
}

/// Whether a holder may still run; of another host we cannot tell.
fn is_alive(holder: &Holder) -> bool {
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    holder.host != host_name() || pid.is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { path, by: Some(by) } => write!(f, "{} is held by {by}", path.display()),
            Self::Held { path, by: None } => write!(f, "{} is held by another command", path.display()),
            Self::Io { path, text } => write!(f, "the lock {} cannot be used: {text}", path.display()),
        }
    }
}

impl std::error::Error for LockError {}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (pid {} on {}) for {}", self.command, self.pid, self.host, Age(self.age_s))
    }
}

/// Seconds in words a person would use.
struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s @ 0..60 => write!(f, "{s} s"),
            s @ 60..3600 => write!(f, "{} min", s / 60),
            s @ 3600..172_800 => write!(f, "{} h {} min", s / 3600, s % 3600 / 60),
            s => write!(f, "{} days", s / 86400),
        }
    }
}

/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(25);
/// Readers stop introducing themselves when the file is longer than this.
const TEXT_LEN_MAX: u64 = 4 << 10;
const COMMAND_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests;
