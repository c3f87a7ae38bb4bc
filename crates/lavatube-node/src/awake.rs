//! When there is power for care: outside of these times a daemon neither scrubs nor repairs, and touches no drive of its own accord.
//!
//! Whoever deposits or reads is served all the same. The times are lines of a file, written as those of a contact plan are. A night is slept
//! through where one was: what is under way has its place on disk. It must not know what is done while it is awake. No step of the walk.

use std::path::Path;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::time::WallTime;
use lavatube_link::{ContactPlan, PlanError};

use crate::clock;

/// When to work.
#[derive(Debug, Clone)]
pub struct Awake(ContactPlan);

/// Why a plan is none.
#[derive(Debug, thiserror::Error)]
pub enum AwakeError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    Io(String, String),
    /// A line is not understood.
    #[error("{path}: {source}")]
    Plan {
        /// The file.
        path: String,
        /// What is wrong.
        source: PlanError,
    },
    /// A line is not about this.
    #[error(
        "{path}, line {line}: a line is `awake FROM TO [every SECONDS]`, times as dates in UTC or +SECONDS from now"
    )]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
    },
}

impl Awake {
    /// Reads a plan from a file.
    ///
    /// # Errors
    /// [`AwakeError`].
    pub fn read(file: &Path) -> Result<Self, AwakeError> {
        let path = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| AwakeError::Io(path.clone(), e.to_string()))?;
        Self::parse(&text, wall(), path)
    }

    fn parse(text: &str, origin: Instant, path: String) -> Result<Self, AwakeError> {
        let mut contacts = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.strip_prefix("awake ") {
                // A contact has a rate, and nothing is sent in these.
                Some(times) => contacts.push_str(&format!("contact {times} up 1\n")),
                None if line.is_empty() => contacts.push('\n'),
                None => return Err(AwakeError::Line { path, line: at + 1 }),
            }
        }
        ContactPlan::parse(&contacts, origin, 1, 2).map(Self).map_err(|source| AwakeError::Plan { path, source })
    }

    /// Whether it is time to work.
    pub(crate) fn is_now(&self) -> bool {
        self.is_at(wall())
    }

    fn is_at(&self, now: Instant) -> bool {
        self.0.at(now).is_some()
    }
}

/// Now by the wall clock, which goes on while the machine sleeps.
fn wall() -> Instant {
    let WallTime { s, ns } = clock::wall_now();
    Instant(0) + Duration::new(u64::try_from(s).unwrap_or(0), ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Result<Awake, AwakeError> {
        Awake::parse(text, Instant(0) + Duration::from_secs(1_800_000_000), "plan".into())
    }

    #[test]
    fn one_works_in_the_day_and_sleeps_through_the_night() {
        let moon = plan(
            "# a day on the Moon\nawake 2027-01-10T00:00:00Z 2027-01-24T00:00:00Z every 2551443   # 29.53 days\n\n",
        )
        .unwrap();
        let at = |days: u64| moon.is_at(Instant(0) + Duration::from_secs(1_799_539_200 + days * 86_400 + 60));
        assert_eq!(
            [at(0), at(13), at(14), at(29), at(30), at(43), at(44)],
            [true, true, false, false, true, true, false]
        );
        let soon = plan("awake +10 +20").unwrap();
        let after = |s: u64| soon.is_at(Instant(0) + Duration::from_secs(1_800_000_000 + s));
        assert_eq!([after(9), after(10), after(19), after(20)], [false, true, true, false]);
    }

    #[test]
    fn what_is_no_such_line_is_named() {
        assert!(matches!(plan("awake +0 +5\ncontact +9 +10 up 5"), Err(AwakeError::Line { line: 2, .. })));
        assert!(matches!(plan("awake yesterday +5"), Err(AwakeError::Plan { .. })));
        assert!(matches!(plan("awake +9 +5"), Err(AwakeError::Plan { .. })));
    }
}
