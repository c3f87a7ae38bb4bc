//! The real clock: the only place that asks what time it is.
//!
//! Every room below takes time as a number, so that a simulation can run decades in seconds. This file must not know
//! what the time is for. No step of the walk.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lavatube_base::Instant;
use lavatube_base::time::WallTime;
use rustix::time::{ClockId, clock_gettime};

/// Monotonic time since the first call in this process.
pub fn now() -> Instant {
    static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(std::time::Instant::now).elapsed();
    Instant(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// What the wall clock says; it may jump, and is for people only.
pub fn wall_now() -> WallTime {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(d) => WallTime { s: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), ns: d.subsec_nanos() },
        Err(before) => {
            let d = before.duration();
            let s = i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
            match d.subsec_nanos() {
                0 => WallTime { s: -s, ns: 0 },
                ns => WallTime { s: -s - 1, ns: 1_000_000_000 - ns },
            }
        }
    }
}

/// When the system started, by its wall clock of today.
pub fn booted() -> WallTime {
    let (now, up) = (wall_now(), clock_gettime(ClockId::Boottime));
    let ns = i64::from(now.ns) - up.tv_nsec;
    let borrow = i64::from(ns < 0);
    WallTime { s: now.s - up.tv_sec - borrow, ns: u32::try_from(ns + borrow * 1_000_000_000).unwrap_or_default() }
}

/// How long the system has been up, and which start of it that is; `None` where it does not say. Nobody sets this clock.
pub fn uptime() -> Option<([u8; 16], Duration)> {
    // It is the same as long as a process lives.
    static BOOT: OnceLock<Option<[u8; 16]>> = OnceLock::new();
    let boot = (*BOOT.get_or_init(boot_id))?;
    let up = clock_gettime(ClockId::Boottime);
    Some((boot, Duration::new(u64::try_from(up.tv_sec).ok()?, u32::try_from(up.tv_nsec).ok()?)))
}

fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string(BOOT_ID).ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    Some(u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?.to_be_bytes())
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let (a, wall) = (now(), wall_now());
        assert!(now() >= a);
        assert!(booted() <= wall && booted().s > wall.s - 10 * 366 * 86_400);
        assert!(wall.s > 1_700_000_000 && wall.ns < 1_000_000_000);
        let (a, b) = (uptime().unwrap(), uptime().unwrap());
        assert!(a.0 == b.0 && a.1 <= b.1 && a.1 > Duration::ZERO);
    }
}
