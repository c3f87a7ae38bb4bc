//! Contacts that come again and again: when they are promised, and what becomes of the promise.
//!
//! A plan tells the promise; some contacts never open, and some close early. Which ones is drawn from the seed and their
//! number alone, so that one may ask for any time in any order. It must not know packets.

use std::time::Duration;

use lavatube_base::Instant;

use lavatube_base::Chance;

/// Contacts that come again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Passes {
    /// What failing contacts are drawn from; the same for both directions of a link.
    pub seed: u64,
    /// When the first one opens.
    pub first: Instant,
    /// From one opening to the next.
    pub every: Duration,
    /// How long each is promised to be open.
    pub open: Duration,
    /// The share of contacts that never open.
    pub missed: f64,
    /// The share of contacts that close early, anywhere within their time.
    pub cut: f64,
}

impl Passes {
    /// The promise of the `n`-th contact.
    pub fn promised(&self, n: u64) -> (Instant, Instant) {
        let start = self.first + times(self.every, n);
        (start, start + self.open)
    }

    /// What the `n`-th contact is, or `None` when it never opens.
    pub fn kept(&self, n: u64) -> Option<(Instant, Instant)> {
        let (start, end) = self.promised(n);
        let mut chance = Chance::new(self.seed, STREAM ^ n);
        if chance.hits(self.missed) {
            return None;
        }
        let (cut, share) = (chance.hits(self.cut), chance.share());
        Some(if cut { (start, start + self.open.mul_f64(share)) } else { (start, end) })
    }

    /// Whether a contact is open at `now`.
    pub fn is_open(&self, now: Instant) -> bool {
        let Some(n) = self.number_at(now) else { return false };
        self.kept(n).is_some_and(|(start, end)| start <= now && now < end)
    }

    /// The next time after `now` at which a contact opens or closes.
    pub fn turns_after(&self, now: Instant) -> Instant {
        let from = self.number_at(now).unwrap_or(0);
        let kept = (from..from + LOOK_AHEAD).filter_map(|n| self.kept(n));
        let turns = kept.flat_map(|(start, end)| [start, end]);
        // All missed: the last that was looked at is as good a time to look again as any.
        turns.into_iter().find(|at| *at > now).unwrap_or(self.promised(from + LOOK_AHEAD).0)
    }

    /// The number of the contact that was last promised to open.
    fn number_at(&self, now: Instant) -> Option<u64> {
        let since = now.0.checked_sub(self.first.0)?;
        Some(since / u64::try_from(self.every.as_nanos()).unwrap_or(u64::MAX).max(1))
    }
}

fn times(each: Duration, n: u64) -> Duration {
    let ns = each.as_nanos().saturating_mul(n.into());
    Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Sets the streams of contacts apart from those of packets.
const STREAM: u64 = 1 << 63;
/// Contacts one looks at for the next that opens.
const LOOK_AHEAD: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    fn passes(missed: f64, cut: f64) -> Passes {
        let (every, open) = (Duration::from_secs(100), Duration::from_secs(30));
        Passes { seed: 3, first: s(10), every, open, missed, cut }
    }

    #[test]
    fn a_plan_that_is_kept_is_open_when_it_says() {
        let plan = passes(0.0, 0.0);
        let open: Vec<bool> = [0, 9, 10, 39, 40, 109, 110, 139, 140].map(|t| plan.is_open(s(t))).to_vec();
        assert_eq!(open, [false, false, true, true, false, false, true, true, false]);
        assert_eq!([0, 10, 39, 40].map(|t| plan.turns_after(s(t))), [s(10), s(40), s(40), s(110)]);
        assert_eq!(plan.promised(2), (s(210), s(240)));
    }

    #[test]
    fn some_contacts_fail_and_some_close_early_as_often_as_was_said() {
        let plan = passes(0.2, 0.5);
        let kept: Vec<_> = (0..10_000).map(|n| (plan.kept(n), plan.promised(n))).collect();
        let missed = kept.iter().filter(|(kept, _)| kept.is_none()).count();
        let cut = kept.iter().filter(|(kept, promised)| kept.is_some_and(|k| k.1 < promised.1)).count();
        assert!((1_800..2_200).contains(&missed) && (3_700..4_300).contains(&cut), "{missed} {cut}");
        assert!(kept.iter().all(|(kept, promised)| kept.is_none_or(|k| k.0 == promised.0 && k.1 <= promised.1)));
        let missed = (0..1000).find(|n| plan.kept(*n).is_none()).unwrap();
        assert!(!plan.is_open(plan.promised(missed).0));
        assert!(plan.turns_after(plan.promised(missed).0) > plan.promised(missed).1);
        assert!(passes(1.0, 0.0).turns_after(s(10)) > s(10));
    }
}
