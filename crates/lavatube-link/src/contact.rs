//! The contact plan: when the link is up, how fast, how far, and how much of it is paid for.
//!
//! It exists so that outside a window nothing is sent and no timer runs. Text in, values out: times in it count from an
//! origin that the caller names, because no clock is known here. It must not know what is sent.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::CONTACTS_MAX;

/// One window in which this node may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// From here on.
    pub start: Instant,
    /// Up to here, not included.
    pub end: Instant,
    /// Bits of IP packets a second that may leave.
    pub rate_up_bit_s: u64,
    /// Bits of IP packets a second that may come; 0 when nothing does.
    pub rate_down_bit_s: u64,
    /// One-way light time, where it is known. It is measured anyway.
    pub light: Option<Duration>,
    /// Bytes of IP packets that may leave in this window.
    pub budget: Option<u64>,
}

/// Windows in order, none over another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContactPlan(Vec<Contact>);

/// Why a text or a list is not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A line that is not understood, counted from 1.
    #[error("line {line}: {rule}")]
    Line {
        /// Which.
        line: usize,
        /// What it should have been.
        rule: &'static str,
    },
    /// Two windows at one time, or one that ends before it starts.
    #[error("contacts overlap, or one ends before it starts")]
    Order,
    /// Too many windows.
    #[error("more than {CONTACTS_MAX} contacts")]
    TooMany,
}

impl ContactPlan {
    /// A plan of these windows, in whatever order.
    ///
    /// # Errors
    /// [`PlanError`] when they overlap, are empty, or are more than [`CONTACTS_MAX`].
    pub fn new(mut contacts: Vec<Contact>) -> Result<Self, PlanError> {
        if contacts.len() > CONTACTS_MAX {
            return Err(PlanError::TooMany);
        }
        contacts.sort_by_key(|c| c.start);
        let ordered = contacts.iter().all(|c| c.start < c.end) && contacts.windows(2).all(|w| w[0].end <= w[1].start);
        if ordered { Ok(Self(contacts)) } else { Err(PlanError::Order) }
    }

    /// A link that is always up.
    pub fn always(rate_up_bit_s: u64, rate_down_bit_s: u64) -> Self {
        let (start, end) = (Instant(0), Instant(u64::MAX));
        Self(vec![Contact { start, end, rate_up_bit_s, rate_down_bit_s, light: None, budget: None }])
    }

    /// Reads a plan. Lines of ours are `contact FROM TO [every S] up RATE [down RATE] [light S] [budget BYTES]`, in bits a
    /// second; those of ION are `a contact FROM TO NODE NODE RATE` (bytes a second) and `a range FROM TO NODE NODE S`, of which
    /// those between `here` and `there` count. A time is `+SECONDS` from `origin`, or a date in UTC:
    /// `2026-11-27T08:30:00Z`, as ION has it `2026/11/27-08:30:00`. One that comes `every` so often does so for ten years.
    /// What follows `#` is for people.
    ///
    /// # Errors
    /// [`PlanError`] with the first line that is not understood.
    pub fn parse(text: &str, origin: Instant, here: u64, there: u64) -> Result<Self, PlanError> {
        let (mut contacts, mut down, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
        for (index, line) in text.lines().enumerate() {
            let fail = |rule| PlanError::Line { line: index + 1, rule };
            let mut words = Words { origin, words: line.split('#').next().unwrap_or_default().split_whitespace() };
            match words.next_pair() {
                (None, _) => {}
                (Some("contact"), Some(start)) => {
                    let (first, every) = words.contact(start).ok_or_else(|| fail(OURS))?;
                    contacts.extend(repeated(first, every));
                }
                (Some("a"), Some(kind @ ("contact" | "range"))) => {
                    let ion = words.ion().ok_or_else(|| fail(IONS))?;
                    let ours = [(here, there), (there, here)].contains(&(ion.from, ion.to));
                    match (kind, ion.from == here) {
                        _ if !ours => {}
                        ("range", _) => ranges.push(ion),
                        (_, true) => contacts.push(ion.contact().ok_or_else(|| fail(IONS))?),
                        (_, false) => down.push(ion),
                    }
                }
                _ => return Err(fail("neither `contact …` nor `a contact …` nor `a range …`")),
            }
            if contacts.len().max(down.len()).max(ranges.len()) > CONTACTS_MAX {
                return Err(PlanError::TooMany);
            }
        }
        let mut plan = Self::new(contacts)?;
        for contact in &mut plan.0 {
            let over = |ion: &&Ion| ion.start < contact.end && contact.start < ion.end;
            if let Some(ion) = down.iter().find(over) {
                contact.rate_down_bit_s = ion.number_as_rate().unwrap_or_default();
            }
            if let Some(ion) = ranges.iter().find(over) {
                contact.light = Duration::try_from_secs_f64(ion.number).ok();
            }
        }
        Ok(plan)
    }

    /// The window that is open at `now`.
    pub fn at(&self, now: Instant) -> Option<&Contact> {
        self.0.get(self.first_after(now)).filter(|c| c.start <= now)
    }

    /// The first window that opens after `now`.
    pub fn next(&self, now: Instant) -> Option<&Contact> {
        self.0[self.first_after(now)..].iter().find(|c| c.start > now)
    }

    /// When `bytes` of IP packets will have left that begin to leave at `from`; `None` when no window is left for them.
    /// Budgets count from the beginning of each window.
    pub fn when_sent(&self, from: Instant, bytes: u64) -> Option<Instant> {
        self.passes(from, bytes).last().filter(|pass| pass.is_last).map(|pass| pass.end)
    }

    /// The parts of windows that `bytes` of IP packets take which begin to leave at `from`.
    pub fn passes(&self, from: Instant, bytes: u64) -> Vec<Pass> {
        let mut out = Vec::new();
        let mut left = bytes;
        for contact in &self.0[self.first_after(from)..] {
            if left == 0 {
                break;
            }
            let start = contact.start.max(from);
            let room = bytes_in(contact.rate_up_bit_s, contact.end.since(start));
            let sent = left.min(room).min(contact.budget.unwrap_or(u64::MAX));
            let is_last = sent == left;
            let took = time_for(contact.rate_up_bit_s, sent);
            left -= sent;
            out.push(Pass { start, end: contact.end.min(start + took), bytes: sent, is_last });
        }
        out
    }

    /// All windows.
    pub fn contacts(&self) -> &[Contact] {
        &self.0
    }

    /// The first window that has not ended.
    fn first_after(&self, now: Instant) -> usize {
        self.0.partition_point(|c| c.end <= now)
    }
}

/// A part of a window that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// From here on.
    pub start: Instant,
    /// Up to here.
    pub end: Instant,
    /// Bytes of IP packets that leave.
    pub bytes: u64,
    /// Nothing is left after it.
    pub is_last: bool,
}

fn bytes_in(rate_bit_s: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(rate_bit_s) * time.as_nanos() / 8_000_000_000).unwrap_or(u64::MAX)
}

fn time_for(rate_bit_s: u64, bytes: u64) -> Duration {
    let ns = u128::from(bytes) * 8_000_000_000 / u128::from(rate_bit_s.max(1));
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// A contact, and those that follow it.
fn repeated(first: Contact, every: Option<Duration>) -> impl Iterator<Item = Contact> {
    let times = every.map_or(1, |every| (TEN_YEARS.as_nanos() / every.as_nanos()).clamp(1, REPEATED_MAX));
    (0..u32::try_from(times).unwrap_or(1)).map(move |n| {
        let later = every.unwrap_or_default().saturating_mul(n);
        Contact { start: first.start + later, end: first.end + later, ..first }
    })
}

struct Words<'a> {
    origin: Instant,
    words: std::str::SplitWhitespace<'a>,
}

/// What ION's lines have in common; the number is a rate in bytes a second or a range in seconds.
struct Ion {
    start: Instant,
    end: Instant,
    from: u64,
    to: u64,
    number: f64,
}

impl Ion {
    fn number_as_rate(&self) -> Option<u64> {
        rate(self.number * 8.0)
    }

    fn contact(&self) -> Option<Contact> {
        let (start, end, rate_up_bit_s) = (self.start, self.end, self.number_as_rate()?);
        Some(Contact { start, end, rate_up_bit_s, rate_down_bit_s: 0, light: None, budget: None })
    }
}

impl<'a> Words<'a> {
    fn next_pair(&mut self) -> (Option<&'a str>, Option<&'a str>) {
        (self.words.next(), self.words.next())
    }

    fn contact(&mut self, start: &str) -> Option<(Contact, Option<Duration>)> {
        let mut every = None;
        let (start, end) = (self.instant(start)?, self.words.next()?);
        let end = self.instant(end)?;
        let mut contact = Contact { start, end, rate_up_bit_s: 0, rate_down_bit_s: 0, light: None, budget: None };
        while let (Some(name), value) = self.next_pair() {
            let value = value?;
            match name {
                "every" => {
                    every = Some(Duration::try_from_secs_f64(value.parse().ok()?).ok()?).filter(|e| !e.is_zero())
                }
                "up" => contact.rate_up_bit_s = value.parse().ok()?,
                "down" => contact.rate_down_bit_s = value.parse().ok()?,
                "light" => contact.light = Some(Duration::try_from_secs_f64(value.parse().ok()?).ok()?),
                "budget" => contact.budget = Some(value.parse().ok()?),
                _ => return None,
            }
        }
        Some((contact, every)).filter(|(c, _)| c.rate_up_bit_s > 0)
    }

    fn ion(&mut self) -> Option<Ion> {
        let (Some(start), Some(end)) = self.next_pair() else { return None };
        let (start, end) = (self.instant(start)?, self.instant(end)?);
        let mut word = || self.words.next();
        let (from, to) = (word()?.parse().ok()?, word()?.parse().ok()?);
        // A confidence may follow; it does not change when one may send.
        Some(Ion { start, end, from, to, number: word()?.parse().ok()? })
    }

    fn instant(&self, word: &str) -> Option<Instant> {
        match word.strip_prefix('+') {
            Some(seconds) => Some(self.origin + Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?),
            None => date(word),
        }
    }
}

/// A date in UTC: `YYYY-MM-DDThh:mm:ssZ`, or `YYYY/MM/DD-hh:mm:ss`.
fn date(word: &str) -> Option<Instant> {
    let word = word.strip_suffix('Z').unwrap_or(word);
    let numbers: Vec<u64> = word.split(['-', '/', 'T', ':']).map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = numbers[..] else { return None };
    let shape = [b"dddd-dd-ddTdd:dd:dd", b"dddd/dd/dd-dd:dd:dd"];
    let is_digit = |b: u8| if b.is_ascii_digit() { b'd' } else { b };
    let fits = shape.iter().any(|s| word.bytes().map(is_digit).eq(s.iter().copied()));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !fits
        || !(1970..2500).contains(&year)
        || !(1..=*length).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let leaps_before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let days = 365 * (year - 1970) + leaps_before(year) - leaps_before(1970);
    let days = days + lengths.iter().take(usize::try_from(month - 1).ok()?).sum::<u64>() + day - 1;
    Some(Instant(0) + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

/// A whole number of bits a second, of 0 to 10^15.
fn rate(bit_s: f64) -> Option<u64> {
    let whole = Duration::try_from_secs_f64(bit_s).ok()?.as_secs();
    Some(whole).filter(|rate| *rate <= 1_000_000_000_000_000)
}

const OURS: &str = "not `contact FROM TO [every S] up RATE [down RATE] [light S] [budget BYTES]`";
const IONS: &str = "not `a contact|range FROM TO NODE NODE NUMBER`";
const TEN_YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);
/// Contacts that one line stands for.
const REPEATED_MAX: u128 = 1 << 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn our_lines_are_read() {
        let text = "# polar station\ncontact +10 +20.5 up 150000000 down 20000000 light 0.3 budget 1000\n\ncontact +30 +40 up 5 # slow\n";
        let plan = ContactPlan::parse(text, s(100), 1, 2).unwrap();
        let [first, second] = plan.contacts() else { panic!("two") };
        assert_eq!((first.start, first.end), (s(110), Instant(120_500_000_000)));
        assert_eq!((first.rate_up_bit_s, first.rate_down_bit_s, first.budget), (150_000_000, 20_000_000, Some(1000)));
        assert_eq!(first.light, Some(Duration::from_millis(300)));
        assert_eq!((second.rate_up_bit_s, second.rate_down_bit_s, second.light), (5, 0, None));
        assert_eq!((plan.at(s(109)), plan.at(s(110)), plan.next(s(110))), (None, Some(first), Some(second)));
        assert_eq!((plan.at(s(125)), plan.next(s(125)), plan.next(s(30 + 100))), (None, Some(second), None));
    }

    #[test]
    fn ions_lines_are_read_for_these_two_nodes() {
        let text = "a contact +0 +3600 1 2 100000 0.9\na contact +0 +3600 2 1 2500000\na contact +0 +99 1 3 7\na range +0 +3600 1 2 1.28\n";
        let plan = ContactPlan::parse(text, s(0), 1, 2).unwrap();
        let [contact] = plan.contacts() else { panic!("one") };
        assert_eq!((contact.rate_up_bit_s, contact.rate_down_bit_s), (800_000, 20_000_000));
        assert_eq!(contact.light, Some(Duration::from_millis(1280)));
        let back = ContactPlan::parse(text, s(0), 2, 1).unwrap();
        assert_eq!(back.contacts()[0].rate_up_bit_s, 20_000_000);
    }

    #[test]
    fn dates_are_read_in_both_ways() {
        let ours = "contact 2026-11-27T08:30:00Z 2028-02-29T23:59:59Z up 5";
        let ions = "a contact 2026/11/27-08:30:00 2028/02/29-23:59:59 1 2 100";
        for text in [ours, ions] {
            let plan = ContactPlan::parse(text, s(7), 1, 2).unwrap();
            assert_eq!((plan.contacts()[0].start, plan.contacts()[0].end), (s(1_795_768_200), s(1_835_481_599)));
        }
    }

    #[test]
    fn a_contact_may_come_every_day() {
        let plan = ContactPlan::parse("contact +0 +21600 every 86400 up 8000", s(0), 1, 2).unwrap();
        assert_eq!(plan.contacts().len(), 3660);
        assert_eq!(plan.at(s(86_400 * 1000 + 5)).unwrap().start, s(86_400 * 1000));
    }

    #[test]
    fn what_is_to_be_sent_takes_its_windows() {
        let text = "contact +10 +20 up 8000\ncontact +30 +40 up 8000 budget 3000\ncontact +50 +60 up 80000";
        let plan = ContactPlan::parse(text, s(0), 1, 2).unwrap();
        let when = |from, bytes| plan.when_sent(s(from), bytes);
        assert_eq!((when(0, 5000), when(15, 5000), when(0, 10_000)), (Some(s(15)), Some(s(20)), Some(s(20))));
        assert_eq!((when(15, 8000), when(15, 18_000)), (Some(s(33)), Some(s(51))));
        assert_eq!((when(55, 50_000), when(55, 50_001), when(70, 1)), (Some(s(60)), None, None));
        let passes: Vec<_> = plan.passes(s(15), 9000).iter().map(|p| (p.start, p.end, p.bytes)).collect();
        assert_eq!(passes, [(s(15), s(20), 5000), (s(30), s(33), 3000), (s(50), Instant(50_100_000_000), 1000)]);
        assert_eq!(plan.when_sent(s(0), 0), None);
    }

    #[test]
    fn other_lines_are_named() {
        let bad = [
            "contract +0 +1",
            "contact +0 +1",
            "contact 0 +1 up 5",
            "contact +0 +1 up -5",
            "contact +0 +1 up 5 left 2",
            "a contact 2026/02/29-00:00:00 +1 1 2 3",
            "a contact 2026-01-01 +1 1 2 3",
            "contact 2026-13-01T00:00:00Z +1 up 5",
            "contact +0 +1 every 0x up 5",
            "a contact +0 +1 1 2",
            "a contact +0 +1 1 2 nan",
            "a contact +0 +1 1 2 1e300",
            "a",
        ];
        for line in bad {
            let text = format!("\n{line}");
            assert!(matches!(ContactPlan::parse(&text, s(0), 1, 2), Err(PlanError::Line { line: 2, .. })), "{line}");
        }
        assert_eq!(ContactPlan::parse("contact +0 +2 up 1\ncontact +1 +3 up 1", s(0), 1, 2), Err(PlanError::Order));
        assert_eq!(ContactPlan::parse("contact +2 +2 up 1", s(0), 1, 2), Err(PlanError::Order));
    }

    #[test]
    fn a_plan_has_as_many_contacts_as_its_limit_and_no_more() {
        let contact = |i: u64| Contact { start: s(i), end: s(i + 1), ..ContactPlan::always(1, 1).0[0] };
        let contacts: Vec<Contact> = (0..=CONTACTS_MAX as u64).map(contact).collect();
        assert!(ContactPlan::new(contacts[1..].to_vec()).is_ok());
        assert_eq!(ContactPlan::new(contacts), Err(PlanError::TooMany));
    }
}
