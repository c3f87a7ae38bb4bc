//! What audits found, in the order in which they were done, and how far one has come that was killed: two files of the state.
//!
//! Step 18 of the walk: that data are *still there* is said because of these. It must not know how an audit is done.

use lavatube_client::state::{State, StateError, read_all, write_all};
use lavatube_format::audit::Progress;
use lavatube_format::audit_record::{AUDIT_RECORD_LEN, AuditRecord, Outcome};

use crate::depositor::{DepositorError, Places, state_to_read};

const HISTORY: &str = "audits/history";
const OPEN: &str = "audits/open";

/// Keeps the record of an audit. The caller holds the state's lock.
///
/// # Errors
/// When the state cannot be written.
pub fn keep(state: &dyn State, record: &AuditRecord) -> Result<(), StateError> {
    state.append(HISTORY, &record.encode()).map_err(StateError::on(HISTORY))
}

/// All audits of a vault that this machine remembers, oldest first.
///
/// # Errors
/// When the state cannot be read.
pub fn history(places: &Places) -> Result<Vec<AuditRecord>, DepositorError> {
    let Some(state) = state_to_read(places)? else { return Ok(Vec::new()) };
    // What is longer has no place here.
    let bytes = read_all(&state, HISTORY, (HISTORY_MAX * AUDIT_RECORD_LEN) as u64)?;
    Ok(AuditRecord::history(&bytes.unwrap_or_default()))
}

/// What a history says of how it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// The last audit that was passed: what *still there* rests on.
    pub passed: Option<AuditRecord>,
    /// The last audit since then that failed, or could not tell.
    pub failed: Option<AuditRecord>,
}

impl Standing {
    /// Of this history.
    pub fn of(history: &[AuditRecord]) -> Self {
        let begin = history.iter().rposition(|r| r.outcome == Outcome::Passed);
        let since = &history[begin.map_or(0, |at| at + 1)..];
        // What was lost is not taken back by an audit that could not tell.
        let failed = since.iter().rev().find(|r| r.outcome == Outcome::Failed).or(since.last());
        Self { passed: begin.map(|at| history[at]), failed: failed.copied() }
    }
}

/// How far an audit has come that did not end; `None` when there is none or it is damaged.
pub(crate) fn open(state: &dyn State) -> Option<Progress> {
    let bytes = read_all(state, OPEN, PROGRESS_LEN_MAX).ok()??;
    Progress::decode(&bytes).ok()
}

pub(crate) fn keep_open(state: &dyn State, progress: &Progress) -> Result<(), StateError> {
    write_all(state, OPEN, &progress.encode())
}

pub(crate) fn forget_open(state: &dyn State) -> Result<(), StateError> {
    state.remove(OPEN).map_err(StateError::on(OPEN))
}

/// Audits that are remembered: one a day for as long as anyone wants to know.
const HISTORY_MAX: usize = 1 << 16;
/// A progress with as much in it as its limits allow.
const PROGRESS_LEN_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use lavatube_base::time::WallTime;

    use super::*;

    #[test]
    fn still_there_rests_on_the_last_audit_that_was_passed_and_a_later_one_speaks_beside_it() {
        let record = |s, outcome| AuditRecord {
            time: WallTime { s, ns: 0 },
            outcome,
            manifests: 1,
            packs: 2,
            bytes: 3,
            untagged: 0,
            bad: 0,
            answered: 4,
        };
        let times = |history: &[AuditRecord]| {
            let Standing { passed, failed } = Standing::of(history);
            (passed.map(|r| r.time.s), failed.map(|r| r.time.s))
        };
        let mut history = Vec::new();
        assert_eq!(times(&history), (None, None));
        for (s, outcome, want) in [
            (1, Outcome::Away, (None, Some(1))),
            (2, Outcome::Passed, (Some(2), None)),
            (3, Outcome::Failed, (Some(2), Some(3))),
            (4, Outcome::Away, (Some(2), Some(3))),
            (5, Outcome::Passed, (Some(5), None)),
        ] {
            history.push(record(s, outcome));
            assert_eq!(times(&history), want);
        }
    }
}
