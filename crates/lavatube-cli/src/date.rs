//! UTC dates for people: seconds since 1970 to `2026-11-23T07:12:37Z`, and for listings without the letters.
//!
//! A screen of arithmetic (the civil calendar, counted in eras of 400 years from 1 March) instead of a date library:
//! only printing is needed, and in UTC on purpose, so that two machines name a snapshot's time alike. Must not know the
//! clock.

use lavatube_base::time::WallTime;

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(t: WallTime) -> String {
    let (day, time) = parts(t);
    format!("{day}T{time}Z")
}

/// The same of seconds since 1970.
pub fn of_unix(s: i64) -> String {
    rfc3339(WallTime { s, ns: 0 })
}

/// RFC 3339 in UTC, to the nanosecond.
pub fn rfc3339_exact(t: WallTime) -> String {
    let (day, time) = parts(t);
    format!("{day}T{time}.{:09}Z", t.ns)
}

/// Date and time to the second, for tables whose head says UTC.
pub fn table(t: WallTime) -> String {
    let (day, time) = parts(t);
    format!("{day} {time}")
}

fn parts(t: WallTime) -> (String, String) {
    let (days, s) = (t.s.div_euclid(86_400), t.s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    (format!("{year:04}-{month:02}-{day:02}"), format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60))
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_OF_ERA: i64 = 146_097;
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let since_march = days.saturating_add(719_468);
    let (era, day_of_era) = (since_march.div_euclid(DAYS_OF_ERA), since_march.rem_euclid(DAYS_OF_ERA));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::of_unix as at;

    #[test]
    fn known_moments_are_right() {
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(at(1_795_417_957), "2026-11-23T07:12:37Z");
        assert_eq!(at(-62_135_596_800), "0001-01-01T00:00:00Z");
        assert_eq!(table(WallTime { s: 0, ns: 5 }), "1970-01-01 00:00:00");
        assert_eq!(rfc3339_exact(WallTime { s: 0, ns: 5 }), "1970-01-01T00:00:00.000000005Z");
    }

    #[test]
    fn days_follow_each_other() {
        let mut before = civil(-800_000);
        for day in -799_999..800_000 {
            let (y, m, d) = civil(day);
            let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let (by, bm, bd) = before;
            let next = match (bm, bd) {
                (12, 31) => (by + 1, 1, 1),
                _ if (y, m) != (by, bm) => (by, bm + 1, 1),
                _ => (by, bm, bd + 1),
            };
            assert_eq!((y, m, d), next);
            assert!((1..=lengths[usize::try_from(m).unwrap() - 1]).contains(&d));
            before = (y, m, d);
        }
    }

    #[test]
    fn nonsense_does_not_panic() {
        at(i64::MAX);
        at(i64::MIN);
    }
}
