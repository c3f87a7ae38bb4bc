//! What can go wrong, as a user meets it: one table of conditions with exit status and hint.
//!
//! The libraries say what happened and where; only here it gets a code, a hint and a number for scripts. The table is
//! printed by `lavatube help` and is the source of `docs/ERRORS.md`, so that none of them can drift. Which library error
//! is which condition is told in `blame`. Must not know how any verb works.

use std::fmt::Write;
use std::path::Path;

use crate::roots::plain;

/// What kind of failure it is. Each has one row in [`TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Anything without a row of its own.
    Failed,
    /// A file or folder of ours, or a source, cannot be used.
    Io,
    /// Options or arguments make no sense.
    Usage,
    /// The configuration file makes no sense.
    Config,
    /// No snapshot of that name.
    NoSnapshot,
    /// No such path in a snapshot.
    NoPath,
    /// Damage was found and can be, or was, mended.
    Damaged,
    /// Data are lost.
    Lost,
    /// The vault's log is not what it was.
    LogAlarm,
    /// Evidence does not prove what it should.
    NotProven,
    /// No backup that can be proved has a file.
    NotInVault,
    /// Someone else uses the vault or the state.
    Locked,
    /// A key is not there.
    NoKey,
    /// A key does not fit, is damaged, or its passphrase is wrong.
    WrongKey,
    /// Others may read a key file.
    KeyExposed,
    /// There is no vault.
    NoVault,
    /// The vault is there but cannot be used now.
    VaultAway,
    /// The source has no files.
    Empty,
    /// The source lost most of its files.
    Shrunk,
    /// No space.
    Full,
    /// Something is there already that would be overwritten.
    Exists,
    /// The vault refuses.
    Refused,
    /// Something is not known for certain, so that nothing is freed.
    Doubt,
    /// The reader of our output went away: no failure.
    PipeClosed,
    /// The user stopped it at a prompt.
    Interrupted,
}

/// One row of the table.
pub struct Row {
    /// The condition.
    pub condition: Condition,
    /// Its name in JSON and documents.
    pub code: &'static str,
    /// Exit status.
    pub status: u8,
    /// What it means.
    pub meaning: &'static str,
    /// What to do, unless the failure itself knows better.
    pub hint: &'static str,
}

/// What a failed or incomplete command tells.
#[derive(Debug)]
pub struct Failure {
    /// Which condition.
    pub condition: Condition,
    /// What happened and where.
    pub what: String,
    /// What to do; else the table's hint.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure with the table's hint.
    pub fn new(condition: Condition, what: impl Into<String>) -> Self {
        Self { condition, what: what.into(), hint: None }
    }

    /// That a file or folder could not be read or written.
    pub fn of_file(path: &Path, e: &std::io::Error) -> Self {
        Self::new(Condition::Io, format!("{}: {}", path.display(), plain(e)))
    }

    /// The same with a better hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The row of the table.
    pub fn row(&self) -> &'static Row {
        row(self.condition)
    }

    /// The hint to print; empty when there is nothing to do.
    pub fn advice(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.row().hint)
    }
}

/// The row of a condition.
pub fn row(condition: Condition) -> &'static Row {
    TABLE.iter().find(|r| r.condition == condition).unwrap_or(&TABLE[0])
}

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// All of it was done.
    Done,
    /// Done, but some entries were skipped or changed while they were read.
    Partly,
    /// Damage was found that can be, or was, mended.
    Damaged,
    /// Data are lost, and were named.
    Lost,
    /// The vault is not what it was.
    Alarm,
}

impl End {
    /// The exit status.
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Partly => 3,
            Self::Damaged => 4,
            Self::Lost => 5,
            Self::Alarm => 14,
        }
    }
}

/// Exit statuses and what each says to a script.
pub const STATUSES: &[(u8, &str)] = &[
    (0, "done"),
    (1, "failed; nothing was changed, or only what the next run completes"),
    (2, "wrong usage: options, arguments or the configuration file"),
    (3, "done, but some entries were skipped or changed while they were read"),
    (4, "damage was found, and was mended or can be (check, restore)"),
    (5, "data are lost; the files are named"),
    (10, "locked: another command uses the vault or its state"),
    (11, "a key is missing, or is the wrong one"),
    (12, "the vault is missing or cannot be reached"),
    (13, "refused: source empty or shrunk, no space, or something would be overwritten"),
    (14, "alarm: the vault's log is not what it was; nothing is sent until a person has looked"),
    (15, "in doubt: nothing is freed while something cannot be read, waits, or is not as it should be"),
    (16, "not proven: the evidence is not whole, not about this file, or not signed by whom it should (verify)"),
    (130, "interrupted"),
];

/// All conditions.
pub const TABLE: &[Row] = &[
    Row {
        condition: Condition::Failed,
        code: "failed",
        status: 1,
        meaning: "Something without an entry of its own went wrong.",
        hint: "run the command again: what was done so far is kept; if it repeats, report it with this message",
    },
    Row {
        condition: Condition::Io,
        code: "io",
        status: 1,
        meaning: "A file or folder could not be read or written.",
        hint: "see that it exists, that its disk is mounted and that you may use it",
    },
    Row {
        condition: Condition::Usage,
        code: "usage",
        status: 2,
        meaning: "Options or arguments make no sense.",
        hint: "`lavatube help VERB` has examples",
    },
    Row {
        condition: Condition::Config,
        code: "config",
        status: 2,
        meaning: "The configuration file has a mistake.",
        hint: "`lavatube help config` lists every key",
    },
    Row {
        condition: Condition::NoSnapshot,
        code: "no-snapshot",
        status: 1,
        meaning: "No snapshot fits the name, or several do.",
        hint: "`lavatube snapshots` lists them; `latest` is the newest, and the first digits of an id are enough",
    },
    Row {
        condition: Condition::NoPath,
        code: "no-path",
        status: 1,
        meaning: "The snapshot has nothing at that path.",
        hint: "`lavatube ls SNAPSHOT --recursive` shows what it has",
    },
    Row {
        condition: Condition::Damaged,
        code: "damaged",
        status: 4,
        meaning: "Damage was found that parity can mend, or did.",
        hint: "`lavatube check --read-data --repair` mends what parity allows",
    },
    Row {
        condition: Condition::Lost,
        code: "lost",
        status: 5,
        meaning: "More was lost than parity can make up for. Every file that is touched is named; all others can be restored.",
        hint: "bring missing drives back if you can, and back the named files up again where they still exist",
    },
    Row {
        condition: Condition::LogAlarm,
        code: "log-alarm",
        status: 14,
        meaning: "The vault's log does not go on from what this machine has seen of it: it was put back to an older state, goes on in two ways, \
                  or hides something. Nothing was sent.",
        hint: "keep all drives and copies, find out what happened (`lavatube log`, `lavatube check`), then go on with `lavatube log accept`",
    },
    Row {
        condition: Condition::NotProven,
        code: "not-proven",
        status: 16,
        meaning: "Evidence does not prove what it was asked for: the file is another one or was changed, the evidence was, or somebody \
                  else signed it.",
        hint: "get the file and the evidence anew from whoever made it: one changed byte in either is enough",
    },
    Row {
        condition: Condition::NotInVault,
        code: "not-in-vault",
        status: 1,
        meaning: "No backup that can be proved has this very content.",
        hint: "`lavatube backup` it; from then on it can be proved",
    },
    Row {
        condition: Condition::Locked,
        code: "locked",
        status: 10,
        meaning: "Another command uses the vault or its state. Locks end with the process that holds them.",
        hint: "let it finish, or wait for it with --lock-wait SECONDS",
    },
    Row {
        condition: Condition::NoKey,
        code: "no-key",
        status: 11,
        meaning: "A key is not on this machine.",
        hint: "`lavatube key` shows which keys are here; `lavatube key bring-read FILE` or `lavatube key import-recovery` brings them back",
    },
    Row {
        condition: Condition::WrongKey,
        code: "wrong-key",
        status: 11,
        meaning: "A key is damaged or belongs to another archive, or its passphrase is wrong.",
        hint: "try again with the right passphrase or key file; `lavatube key` shows which keys are here",
    },
    Row {
        condition: Condition::KeyExposed,
        code: "key-exposed",
        status: 11,
        meaning: "Others may read a key file, so it is not used.",
        hint: "take their right away, and think about who may have read it",
    },
    Row {
        condition: Condition::NoVault,
        code: "no-vault",
        status: 12,
        meaning: "There is no vault where one was looked for.",
        hint: "name it with --vault DIR; `lavatube init` makes a new one",
    },
    Row {
        condition: Condition::VaultAway,
        code: "vault-away",
        status: 12,
        meaning: "The vault is there, but its drives cannot be used now.",
        hint: "see that the drives are mounted: `lavatube status` lists them",
    },
    Row {
        condition: Condition::Empty,
        code: "empty",
        status: 13,
        meaning: "The source has no files. An unmounted disk looks like that.",
        hint: "see that the source is mounted; --allow-empty takes the snapshot all the same",
    },
    Row {
        condition: Condition::Shrunk,
        code: "shrunk",
        status: 13,
        meaning: "The source lost more than half of its entries since the last snapshot. An unmounted disk looks like that.",
        hint: "see that everything is mounted; --accept-shrink takes the snapshot all the same (older ones stay)",
    },
    Row {
        condition: Condition::Full,
        code: "full",
        status: 13,
        meaning: "No space is left on a drive or in the state folder.",
        hint: "make room and run it again: what was stored so far is kept and not sent twice",
    },
    Row {
        condition: Condition::Exists,
        code: "exists",
        status: 13,
        meaning: "Something is there already that would be overwritten.",
        hint: "name another place, or move it away",
    },
    Row {
        condition: Condition::Refused,
        code: "refused",
        status: 13,
        meaning: "The vault does not take this.",
        hint: "`lavatube status` shows how the vault is",
    },
    Row {
        condition: Condition::Doubt,
        code: "doubt",
        status: 15,
        meaning: "Something that a release must know for certain is not: a manifest or a tree cannot be read, something waits, or a chain of \
                  manifests has a fault. Nothing was freed.",
        hint: "`lavatube check` says what is wrong, `lavatube backup` and `lavatube check --repair`, or `lavatube node --once` over a link, bring what waits to the vault; then try again",
    },
    Row {
        condition: Condition::PipeClosed,
        code: "pipe-closed",
        status: 0,
        meaning: "Whoever read the output has had enough (`lavatube ls … | head`). No failure, nothing is printed.",
        hint: "",
    },
    Row {
        condition: Condition::Interrupted,
        code: "interrupted",
        status: 130,
        meaning: "Stopped by you.",
        hint: "run the command again: it carries on where it was",
    },
];

/// The statuses as lines for `lavatube help`.
pub fn statuses_for_help() -> String {
    let mut out = String::new();
    for (status, says) in STATUSES {
        let _ = writeln!(out, "  {status:>3}  {says}");
    }
    out
}

#[cfg(test)]
fn document() -> String {
    let mut out = String::from(
        "# Exit statuses and errors\n\n\
         Generated from `crates/lavatube-cli/src/errors.rs`; `UPDATE=1 cargo test -p lavatube-cli` rewrites it.\n\n\
         Every error prints what happened, where, and a `hint:` line with what to do. With `--json` the same is on standard\n\
         output as `{\"error\": {\"code\", \"message\", \"hint\"}, \"exit\"}`. Options that\n\
         cannot be understood at all are told in words only.\n\n\
         | exit status | means |\n|---|---|\n",
    );
    for (status, says) in STATUSES {
        let _ = writeln!(out, "| {status} | {says} |");
    }
    out.push_str("\n| code | exit status | what happened | what to do |\n|---|---|---|---|\n");
    for row in TABLE {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", row.code, row.status, row.meaning, row.hint);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_documented_and_every_code_is_unique() {
        for row in TABLE {
            assert!(STATUSES.iter().any(|(s, _)| *s == row.status), "{}", row.code);
            assert_eq!(TABLE.iter().filter(|r| r.code == row.code).count(), 1);
            assert!(!row.hint.is_empty() || row.status == 0);
        }
    }

    #[test]
    fn docs_errors_is_the_table() {
        crate::documents::compare("ERRORS.md", &document());
    }
}
