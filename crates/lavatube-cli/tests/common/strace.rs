//! The real command under `strace`: one of its system calls fails, or is its last.
//!
//! `strace` counts each call by its name and for each thread by itself. What these tests sweep over is done by one thread,
//! so that the n-th `fsync` is one certain `fsync`.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Machine, output, skipped};

/// A run in which something was done to a system call.
pub struct Injected {
    pub out: Output,
    /// The call as strace shows it.
    pub call: String,
}

impl Injected {
    /// Whether the call was about this file or folder, or something below it.
    pub fn is_about(&self, path: &Path) -> bool {
        self.call.contains(path.to_str().unwrap())
    }

    /// The label of the drive the call was about.
    pub fn drive(&self, machine: &Machine) -> Option<String> {
        (0..6).find(|n| self.is_about(&machine.drive(*n))).map(|n| format!("d{n}"))
    }

    /// Exit status, when the command was not killed.
    pub fn status(&self) -> Option<i32> {
        self.out.status.code()
    }
}

/// Whether strace may trace here and knows what it must; says so loudly when not.
pub fn can_trace(test: &str) -> bool {
    let mut command = strace();
    command.args([
        "--seccomp-bpf",
        "-e",
        "trace=fsync",
        "-e",
        "inject=fsync:error=EIO:when=1",
        "-o",
        "/dev/null",
        "/bin/true",
    ]);
    let works = command.output().is_ok_and(|out| out.status.success());
    if !works {
        skipped(test, "strace is not installed, too old, or may not trace here");
    }
    works
}

fn strace() -> Command {
    let mut command = Command::new("/usr/bin/env");
    command.args(["strace", "-f", "-y"]).env("PATH", "/usr/bin:/bin:/usr/local/bin");
    command
}

/// Runs `lavatube` with `--json`, and does `what` (`error=EIO`, `signal=KILL`) to its `n`-th `call`, counted from 1, or to
/// every one that is about one of `only`. Nothing when there is no such call: the command then ran undisturbed.
#[track_caller]
pub fn inject(
    machine: &Machine,
    args: &[&str],
    call: &str,
    what: &str,
    n: usize,
    only: &[PathBuf],
) -> Option<Injected> {
    let log = machine.path("trace");
    let mut command = strace();
    // Faster, but a call is then stopped where no signal can be put in its way.
    if !what.contains("signal") {
        command.arg("--seccomp-bpf");
    }
    for path in only {
        command.arg("-P").arg(path);
    }
    let when = if only.is_empty() { format!(":when={n}") } else { String::new() };
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:{what}{when}"), "-o"]);
    command.arg(&log).arg(env!("CARGO_BIN_EXE_lavatube"));
    let mut command = machine.wrapped(command, args);
    let out = output({
        command.arg("--json").env("PATH", "/usr/bin:/bin:/usr/local/bin");
        command
    });
    let trace = String::from_utf8_lossy(&std::fs::read(&log).unwrap()).into_owned();
    let call = hit(&trace, out.status.signal().is_some())?;
    Some(Injected { out, call })
}

/// The call that something was done to. A call may be told in two lines when another thread comes between.
fn hit(trace: &str, killed: bool) -> Option<String> {
    let lines: Vec<&str> = trace.lines().collect();
    let is_hit = |line: &str| if killed { line.ends_with("= ?") } else { line.contains("(INJECTED)") };
    let at = lines.iter().rposition(|line| is_hit(line))?;
    let thread = lines[at].split(' ').next();
    let begun = lines[..=at].iter().rfind(|line| line.split(' ').next() == thread && !line.contains(" resumed>"))?;
    Some((*begun).to_owned())
}
