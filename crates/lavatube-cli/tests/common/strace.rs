//! The real command under `strace`: one of its system calls fails, or is its last.
//!
//! `strace` counts each call by its name and for each thread by itself, so that the n-th `fsync` of a run is one for each
//! thread that syncs so often.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Machine, output, skipped};

/// A run in which something was done to system calls.
pub struct Injected {
    pub out: Output,
    /// The calls as strace shows them: one, or one of each of several threads.
    pub calls: Vec<String>,
}

impl Injected {
    /// The labels of the drives the calls were about, in order.
    pub fn drives(&self, machine: &Machine) -> Vec<String> {
        let about = |drive: &Path| self.calls.iter().any(|call| call.contains(drive.to_str().unwrap()));
        (0..6).filter(|n| about(&machine.drive(*n))).map(|n| format!("d{n}")).collect()
    }

    /// Whether it came to the command's own output: by then all is done.
    pub fn is_over(&self) -> bool {
        self.calls.iter().any(|call| call.contains("(1<"))
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
    let calls = hits(&trace, out.status.signal().is_some());
    (!calls.is_empty()).then_some(Injected { out, calls })
}

/// The calls that something was done to. A call may be told in two lines when another thread comes between.
fn hits(trace: &str, killed: bool) -> Vec<String> {
    let lines: Vec<&str> = trace.lines().collect();
    let is_hit = |line: &str| if killed { line.ends_with("= ?") } else { line.contains("(INJECTED)") };
    let begun = |at: usize| {
        let thread = lines[at].split(' ').next();
        lines[..=at].iter().rfind(|line| line.split(' ').next() == thread && !line.contains(" resumed>"))
    };
    (0..lines.len()).filter(|&at| is_hit(lines[at])).filter_map(begun).map(|line| (*line).to_owned()).collect()
}
