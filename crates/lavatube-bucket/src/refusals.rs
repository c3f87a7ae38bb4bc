//! Parts of objects that an endpoint does not give back, remembered for a while.
//!
//! An engine that checks what it keeps refuses all that lies in a block of its own when a byte of it is wrong, and may take its
//! own tries each time: some take more than ten seconds. Who reads a shard block by block would wait for each of them. So
//! what was refused after long, or a few times running, is not asked for again for a while, and neither is what lies beside
//! it: until something is put there, or the time is over, as it may heal. What lies farther off, the second header of a shard for
//! one, is asked for. A refusal says nothing of the endpoint, which answers. It must not know what an object is, nor the clock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lavatube_base::limits::BUCKET_REFUSALS_MAX;
use lavatube_vault::drive::DriveError;

/// What was refused lately, by key and stretch.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<(String, u64), Refused>>);

/// How a stretch of an object was refused.
#[derive(Debug, Clone)]
struct Refused {
    /// Refusals since something of it was read.
    running: u8,
    /// It is not asked for.
    is_given_up: bool,
    /// The last one, in the endpoint's words.
    why: DriveError,
    until: Instant,
}

impl Refusals {
    /// Whether bytes of an object may be asked for.
    ///
    /// # Errors
    /// What the endpoint said of them, when they are not to be asked for now.
    pub(crate) fn check(&self, key: &str, range: &Range<u64>, now: Instant) -> Result<(), DriveError> {
        let all = self.all();
        let mut there = all.range(self::range(key, stretches(range))).map(|(_, refused)| refused);
        match there.find(|refused| refused.is_given_up && now < refused.until) {
            Some(refused) => Err(refused.why.clone()),
            None => Ok(()),
        }
    }

    /// Notes what came of asking for bytes of an object.
    pub(crate) fn note<T>(
        &self,
        key: &str,
        range: &Range<u64>,
        answer: &Result<T, DriveError>,
        begin: Instant,
        end: Instant,
    ) {
        let mut all = self.all();
        let touched = stretches(range);
        let why = match answer {
            Err(why @ DriveError::Io(_)) => why.clone(),
            // That says nothing of the object.
            Err(DriveError::Gone) => return,
            _ => return remove(&mut all, key, touched),
        };
        let until = end + FOR;
        if end.duration_since(begin) >= SLOW {
            let block = touched.start / STRETCHES;
            // Of a read that lies in two blocks nobody knows which was refused: smaller ones will tell.
            if block == (touched.end - 1) / STRETCHES {
                let refused = Refused { running: RUNNING_MAX, is_given_up: true, why, until };
                (block * STRETCHES..(block + 1) * STRETCHES)
                    .for_each(|at| keep(&mut all, key, at, refused.clone(), end));
            }
        } else if touched.end - touched.start == 1 {
            let before = all.get(&(key.to_owned(), touched.start)).filter(|refused| begin < refused.until);
            let running = before.map_or(0, |refused| refused.running).saturating_add(1);
            let refused = Refused { running, is_given_up: running >= RUNNING_MAX, why, until };
            keep(&mut all, key, touched.start, refused, end);
        }
    }

    /// Forgets an object: it is another now.
    pub(crate) fn forget(&self, key: &str) {
        remove(&mut self.all(), key, 0..u64::MAX);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(all: &mut BTreeMap<(String, u64), Refused>, key: &str, at: u64, refused: Refused, now: Instant) {
    if all.len() >= BUCKET_REFUSALS_MAX {
        all.retain(|_, refused| now < refused.until);
    }
    if all.len() < BUCKET_REFUSALS_MAX {
        all.insert((key.to_owned(), at), refused);
    }
}

fn remove(all: &mut BTreeMap<(String, u64), Refused>, key: &str, stretches: Range<u64>) {
    let known: Vec<_> = all.range(range(key, stretches)).map(|(at, _)| at.clone()).collect();
    known.iter().for_each(|at| drop(all.remove(at)));
}

fn range(key: &str, stretches: Range<u64>) -> Range<(String, u64)> {
    (key.to_owned(), stretches.start)..(key.to_owned(), stretches.end)
}

/// The stretches that bytes lie in.
fn stretches(range: &Range<u64>) -> Range<u64> {
    range.start / STRETCH..range.end.max(range.start + 1).div_ceil(STRETCH)
}

/// Bytes that are given up together after quick refusals: engines have blocks of 1 MiB and more.
const STRETCH: u64 = 1 << 20;
/// So many of them after a slow one: engines that try for long have blocks of 4 MiB and more.
const STRETCHES: u64 = 4;
/// Quick refusals running after which a stretch is given up: a bad sector below a plain gateway is one, its neighbours are read.
const RUNNING_MAX: u8 = 3;
/// A refusal that takes so long is enough by itself.
const SLOW: Duration = Duration::from_secs(1);
/// For so long after the last refusal.
const FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(200);

    fn refused() -> Result<(), DriveError> {
        Err(DriveError::Io("the endpoint answers 500".into()))
    }

    #[test]
    fn a_slow_refusal_counts_at_once_and_quick_ones_when_nothing_is_read_between() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let note =
            |key: &str, answer: &Result<(), DriveError>, took| refusals.note(key, &(0..9), answer, now, now + took);
        for _ in 0..10 {
            note("sector", &refused(), QUICK);
            note("sector", &refused(), QUICK);
            assert_eq!(refusals.check("sector", &(0..9), now), Ok(()));
            note("sector", &Ok(()), QUICK);
        }
        (0..3).for_each(|_| note("block", &refused(), QUICK));
        note("slow", &refused(), SLOW);
        for key in ["block", "slow"] {
            assert_eq!(refusals.check(key, &(0..9), now), refused());
            note(key, &Err(DriveError::Gone), QUICK);
            assert_eq!(refusals.check(key, &(0..9), now), refused(), "an endpoint that is gone says nothing of it");
        }
        refusals.forget("block");
        assert_eq!(refusals.check("block", &(0..9), now), Ok(()));
    }

    #[test]
    fn what_lies_farther_off_is_asked_for() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let open = |key: &str, at: u64| refusals.check(key, &(at..at + 9), now).is_ok();
        (0..3).for_each(|_| refusals.note("quick", &(STRETCH..STRETCH + 9), &refused(), now, now + QUICK));
        assert_eq!((0..4).filter(|n| open("quick", n * STRETCH)).collect::<Vec<_>>(), [0, 2, 3]);
        assert!(!open("quick", STRETCH - 1), "a byte of it lies there");
        refusals.note("slow", &(5 * STRETCH..5 * STRETCH + 9), &refused(), now, now + SLOW);
        assert_eq!((0..10).filter(|n| open("slow", n * STRETCH)).collect::<Vec<_>>(), [0, 1, 2, 3, 8, 9]);
        // Which of two it was is not known.
        (0..9).for_each(|_| refusals.note("two", &(STRETCH - 1..STRETCH + 1), &refused(), now, now + QUICK));
        refusals.note("two", &(4 * STRETCH - 1..4 * STRETCH + 1), &refused(), now, now + SLOW);
        assert_eq!((0..8).filter(|n| open("two", n * STRETCH)).count(), 8);
    }

    #[test]
    fn a_refusal_is_not_remembered_for_ever_and_not_without_bounds() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        refusals.note("x", &(0..1), &refused(), now, now + SLOW);
        assert_eq!(refusals.check("x", &(0..1), now + SLOW + FOR - Duration::from_nanos(1)), refused());
        assert_eq!(refusals.check("x", &(0..1), now + SLOW + FOR), Ok(()));
        for n in 0..2 * BUCKET_REFUSALS_MAX {
            refusals.note(&n.to_string(), &(0..1), &refused(), now, now + SLOW);
        }
        assert_eq!(refusals.all().len(), BUCKET_REFUSALS_MAX);
        let later = now + SLOW + FOR;
        refusals.note("y", &(0..1), &refused(), later, later + QUICK);
        assert_eq!(refusals.all().len(), 1, "what is over makes room");
    }
}
