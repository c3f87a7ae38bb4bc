//! Objects that an endpoint does not give back, remembered for a while.
//!
//! An engine that checks what it keeps refuses all that lies in a block of its own when a byte of it is wrong, and may take its
//! own tries each time: some take more than ten seconds. Who reads a shard block by block would wait for each of them. So
//! an object that was refused after long, or a few times running, is not asked for again for a while: until something is put
//! there, somebody insists, or the time is over, as it may heal. A refusal says nothing of the endpoint, which answers. It must
//! not know what an object is, nor the clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lavatube_base::limits::BUCKET_REFUSALS_MAX;
use lavatube_vault::drive::DriveError;

/// What was refused lately, by key.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeMap<String, Refused>>);

/// How an object was refused.
#[derive(Debug)]
struct Refused {
    /// Refusals since it was read last.
    running: u8,
    /// One of them came late: the engine has tried for long.
    is_slow: bool,
    /// The last one, in the endpoint's words.
    why: DriveError,
    until: Instant,
}

impl Refused {
    fn is_given_up(&self) -> bool {
        self.is_slow || self.running >= RUNNING_MAX
    }
}

impl Refusals {
    /// Whether an object may be asked for.
    ///
    /// # Errors
    /// What the endpoint said of it, when it is not to be asked for now.
    pub(crate) fn check(&self, key: &str, now: Instant) -> Result<(), DriveError> {
        match self.all().get(key).filter(|refused| refused.is_given_up() && now < refused.until) {
            Some(refused) => Err(refused.why.clone()),
            None => Ok(()),
        }
    }

    /// Notes what came of asking for an object, or a part of it.
    pub(crate) fn note<T>(&self, key: &str, answer: &Result<T, DriveError>, begin: Instant, end: Instant) {
        let mut all = self.all();
        let why = match answer {
            Err(why @ DriveError::Io(_)) => why.clone(),
            // That says nothing of the object.
            Err(DriveError::Gone) => return,
            _ => return drop(all.remove(key)),
        };
        if all.len() >= BUCKET_REFUSALS_MAX && !all.contains_key(key) {
            all.retain(|_, refused| end < refused.until);
            if all.len() >= BUCKET_REFUSALS_MAX {
                return;
            }
        }
        let before = all.get(key).filter(|refused| begin < refused.until).map_or(0, |refused| refused.running);
        let is_slow = end.duration_since(begin) >= SLOW;
        all.insert(key.to_owned(), Refused { running: before.saturating_add(1), is_slow, why, until: end + FOR });
    }

    /// Forgets an object: it is another now, or somebody wants it all the same.
    pub(crate) fn forget(&self, key: &str) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Quick refusals running after which an object is given up: a bad sector below a plain gateway is one, its neighbours are read.
const RUNNING_MAX: u8 = 3;
/// A refusal that takes so long is enough by itself.
const SLOW: Duration = Duration::from_secs(1);
/// For so long after the last refusal.
const FOR: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<(), DriveError> {
        Err(DriveError::Io("the endpoint answers 500".into()))
    }

    #[test]
    fn a_slow_refusal_counts_at_once_and_quick_ones_when_nothing_is_read_between() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let note = |key: &str, answer: &Result<(), DriveError>, took| refusals.note(key, answer, now, now + took);
        let quick = Duration::from_millis(200);
        for _ in 0..10 {
            note("sector", &refused(), quick);
            note("sector", &refused(), quick);
            assert_eq!(refusals.check("sector", now), Ok(()));
            note("sector", &Ok(()), quick);
        }
        (0..3).for_each(|_| note("block", &refused(), quick));
        note("slow", &refused(), SLOW);
        for key in ["block", "slow"] {
            assert_eq!(refusals.check(key, now), refused());
            note(key, &Err(DriveError::Gone), quick);
            assert_eq!(refusals.check(key, now), refused(), "an endpoint that is gone says nothing of it");
        }
        refusals.forget("block");
        assert_eq!(refusals.check("block", now), Ok(()));
    }

    #[test]
    fn a_refusal_is_not_remembered_for_ever_and_not_without_bounds() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        refusals.note("x", &refused(), now, now + SLOW);
        assert_eq!(refusals.check("x", now + SLOW + FOR - Duration::from_nanos(1)), refused());
        assert_eq!(refusals.check("x", now + SLOW + FOR), Ok(()));
        for n in 0..2 * BUCKET_REFUSALS_MAX {
            refusals.note(&n.to_string(), &refused(), now, now + SLOW);
        }
        assert_eq!(refusals.all().len(), BUCKET_REFUSALS_MAX);
        let later = now + SLOW + FOR;
        refusals.note("y", &refused(), later, later + SLOW);
        assert_eq!(refusals.check("y", later), refused());
        assert_eq!(refusals.all().len(), 1);
    }
}
