//! Time as a number that is handed in. Only `lavatube-node` (real) and `lavatube-sim` (virtual) make these.

use std::time::Duration;

/// A point of a monotonic clock, in nanoseconds since an origin only its maker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// What a wall clock said: seconds since 1970 (negative before) and nanoseconds below 1,000,000,000. For people; no
/// decision rests on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime {
    /// Seconds since 1970-01-01T00:00:00Z, rounded down.
    pub s: i64,
    /// Nanoseconds after `s`.
    pub ns: u32,
}
