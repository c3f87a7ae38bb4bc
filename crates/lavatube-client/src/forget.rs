//! Forgetting: which snapshots a policy keeps, and why each one.
//!
//! The words and what they mean are restic's, since people know them: of each bucket of time that has snapshots the newest is
//! kept, for so many buckets; times are those that the snapshots tell, in UTC. It must not know where snapshots come from, nor
//! what becomes of those that are forgotten. Beside the walk.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::time::WallTime;

/// How many of something are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Count {
    /// None for this reason.
    #[default]
    None,
    /// So many.
    Of(u32),
    /// All there are.
    All,
}

/// A time before the newest snapshot: calendar years, months and days, then hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The newest ones.
    pub last: Count,
    /// The newest of each hour,
    pub hourly: Count,
    /// day,
    pub daily: Count,
    /// ISO week,
    pub weekly: Count,
    /// month,
    pub monthly: Count,
    /// year.
    pub yearly: Count,
    /// All that were taken so shortly before the newest of the group.
    pub within: Option<Span>,
    /// Those that have all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
}

/// A snapshot as a policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// When it was taken.
    pub time: WallTime,
    /// Its tags.
    pub tags: Vec<String>,
    /// Snapshots of one group are judged together.
    pub group: Vec<Vec<u8>>,
}

impl Policy {
    /// Whether it keeps nothing, whatever there is.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why each of `all` is kept: no reason for those that are not. Of no group all are given up.
    pub fn judge(&self, all: &[Candidate], now: WallTime) -> Vec<Vec<String>> {
        let mut reasons = vec![Vec::new(); all.len()];
        let mut groups: BTreeMap<&[Vec<u8>], Vec<usize>> = BTreeMap::new();
        for (n, candidate) in all.iter().enumerate() {
            groups.entry(&candidate.group).or_default().push(n);
        }
        for members in groups.values_mut() {
            // Newest first; of two with one time the one that is listed later.
            members.sort_by_key(|n| std::cmp::Reverse((all[*n].time, *n)));
            self.judge_group(all, members, now, &mut reasons);
            if members.iter().all(|n| reasons[*n].is_empty()) {
                reasons[members[0]].push("the newest: of no group all are forgotten".into());
            }
        }
        reasons
    }

    fn judge_group(&self, all: &[Candidate], members: &[usize], now: WallTime, reasons: &mut [Vec<String>]) {
        // What claims to come from the future must not make all else old.
        let latest = members.iter().map(|n| all[*n].time).find(|time| *time <= now).unwrap_or(all[members[0]].time);
        let since = self.within.map(|span| span.before(latest));
        let mut buckets = [
            Bucket::new(self.last, "last", |_, n| n as i64),
            Bucket::new(self.hourly, "hourly", |t, _| t.s.div_euclid(3600)),
            Bucket::new(self.daily, "daily", |t, _| day_of(t)),
            // 1970-01-01 was a Thursday: weeks begin on Mondays.
            Bucket::new(self.weekly, "weekly", |t, _| (day_of(t) + 3).div_euclid(7)),
            Bucket::new(self.monthly, "monthly", |t, _| {
                let (year, month, _) = civil(day_of(t));
                year * 12 + month
            }),
            Bucket::new(self.yearly, "yearly", |t, _| civil(day_of(t)).0),
        ];
        for (place, n) in members.iter().enumerate() {
            let (candidate, reasons) = (&all[*n], &mut reasons[*n]);
            let have: BTreeSet<&String> = candidate.tags.iter().collect();
            for tags in self.tags.iter().filter(|tags| tags.iter().all(|tag| have.contains(tag))) {
                reasons.push(format!("tag {}", tags.join(",")));
            }
            if since.is_some_and(|since| candidate.time > since) {
                reasons.push("within".into());
            }
            let is_oldest = place + 1 == members.len();
            reasons.extend(buckets.iter_mut().filter_map(|b| b.take(candidate.time, place, is_oldest)));
        }
    }
}

impl Span {
    /// About how many seconds that is: a year has 365.25 days, a month a twelfth of that.
    pub fn seconds(self) -> u64 {
        const YEAR_S: u64 = 31_557_600;
        let Self { years, months, days, hours } = self;
        u64::from(years) * YEAR_S
            + u64::from(months) * (YEAR_S / 12)
            + u64::from(days) * 86_400
            + u64::from(hours) * 3600
    }

    /// The time so long before `time`: calendar parts first, and a day beyond the end of a month runs over into the next.
    fn before(self, time: WallTime) -> WallTime {
        let (year, month, day) = civil(day_of(time));
        let months = year * 12 + (month - 1) - 12 * i64::from(self.years) - i64::from(self.months);
        let first = days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1);
        let days = first + day - 1 - i64::from(self.days);
        let s = days * DAY_S + time.s.rem_euclid(DAY_S) - 3600 * i64::from(self.hours);
        WallTime { s, ns: time.ns }
    }
}

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const RULE: &str = "a time such as 30d, 2y6m or 1y5m7d2h: years, months, days, hours";
        let mut out = Self::default();
        let mut digits = String::new();
        for c in text.chars() {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            let n: u32 = std::mem::take(&mut digits).parse().ok().filter(|n| *n <= SPAN_MAX).ok_or(RULE)?;
            let part = match c {
                'y' => &mut out.years,
                'm' => &mut out.months,
                'd' => &mut out.days,
                'h' => &mut out.hours,
                _ => return Err(RULE),
            };
            *part = n;
        }
        if digits.is_empty() && out != Self::default() { Ok(out) } else { Err(RULE) }
    }
}

impl std::str::FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" | "unlimited" | "-1" => Ok(Self::All),
            number => number.parse().ok().filter(|n| *n > 0).map(Self::Of).ok_or("a number from 1 on, or all"),
        }
    }
}

/// One of `--keep-daily` and its like, at work.
struct Bucket {
    left: Count,
    name: &'static str,
    of: fn(WallTime, usize) -> i64,
    last: Option<i64>,
}

impl Bucket {
    fn new(left: Count, name: &'static str, of: fn(WallTime, usize) -> i64) -> Self {
        Self { left, name, of, last: None }
    }

    /// The reason to keep a snapshot, if it is the newest of its bucket and that is still wanted. The oldest of all is kept as
    /// long as there are fewer buckets than are wanted: it is what the next ones grow from.
    fn take(&mut self, time: WallTime, place: usize, is_oldest: bool) -> Option<String> {
        let left = match self.left {
            Count::None | Count::Of(0) => return None,
            Count::Of(n) => Count::Of(n - 1),
            Count::All => Count::All,
        };
        let bucket = (self.of)(time, place);
        let is_new = self.last != Some(bucket);
        if !is_new && !is_oldest {
            return None;
        }
        (self.left, self.last) = (left, Some(bucket));
        Some(if is_new { self.name.to_owned() } else { format!("oldest {}", self.name) })
    }
}

fn day_of(time: WallTime) -> i64 {
    time.s.div_euclid(DAY_S)
}

/// Year, month and day of a day that is counted from 1970-01-01 (proleptic Gregorian calendar, Howard Hinnant's way).
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// The day of the first of a month, counted from 1970-01-01.
fn days_from_civil(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (year.div_euclid(400), year.rem_euclid(400));
    let doy = (153 * ((month + 9) % 12) + 2) / 5;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

const DAY_S: i64 = 86_400;
/// The most of one unit in a [`Span`].
const SPAN_MAX: u32 = 100_000;

#[cfg(test)]
mod tests;
