//! Whether endpoints of buckets that did not answer do so by now.
//!
//! A folder is looked at every few seconds; an endpoint may take its time to answer, and does not want to be asked often. So
//! each is asked now and then, on a thread of its own while all else goes on. Must not know what is in a bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use lavatube_base::Instant;

use crate::places;

/// Asks at the doors of those who are away.
pub(crate) struct Knocking {
    answers: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
    doors: BTreeMap<PathBuf, Door>,
}

struct Door {
    /// When it was asked last, or first seen to be away.
    since: Instant,
    /// What comes of it.
    asked: Option<Receiver<bool>>,
}

impl Default for Knocking {
    fn default() -> Self {
        Self { answers: Arc::new(places::answers), doors: BTreeMap::new() }
    }
}

impl Knocking {
    /// Whether one of those that are `away` answers by now; asks those whose turn it is.
    pub(crate) fn has_come(&mut self, away: &BTreeSet<PathBuf>, now: Instant) -> bool {
        // One that is being asked is kept until it has answered, so that there is one thread for each at most.
        self.doors.retain(|place, door| away.contains(place) || door.asked.is_some());
        for place in away {
            self.doors.entry(place.clone()).or_insert(Door { since: now, asked: None });
        }
        let mut has_come = false;
        for (place, door) in &mut self.doors {
            match door.asked.as_ref().map(Receiver::try_recv) {
                Some(Err(TryRecvError::Empty)) => continue,
                Some(answer) => {
                    has_come |= answer == Ok(true) && away.contains(place);
                    door.asked = None;
                }
                None => {}
            }
            if now.since(door.since) >= ASK_EVERY && away.contains(place) {
                door.since = now;
                door.asked = ask(self.answers.clone(), place.clone());
            }
        }
        has_come
    }
}

fn ask(answers: Arc<dyn Fn(&Path) -> bool + Send + Sync>, place: PathBuf) -> Option<Receiver<bool>> {
    let (tell, told) = channel();
    let knock = move || {
        // Nobody may want to know any more.
        let _ = tell.send(answers(&place));
    };
    let thread = std::thread::Builder::new().name("knock".into()).spawn(knock);
    // Without a thread it is asked the next time.
    thread.is_ok().then_some(told)
}

/// How often one is asked: three small requests, when it answers.
const ASK_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Sender, SyncSender, sync_channel};

    use super::*;

    /// Endpoints that answer when they are told to.
    fn at_hand() -> (Knocking, Receiver<PathBuf>, SyncSender<bool>) {
        let (asked, is_asked): (Sender<PathBuf>, _) = channel();
        let (answer, answers) = sync_channel::<bool>(0);
        let both = Mutex::new((asked, answers));
        let answers = move |place: &Path| {
            let both = both.lock().unwrap();
            both.0.send(place.to_owned()).unwrap();
            both.1.recv().unwrap()
        };
        (Knocking { answers: Arc::new(answers), doors: BTreeMap::new() }, is_asked, answer)
    }

    /// Looks until what was answered is heard, or nobody is asked any more.
    fn heard(knocking: &mut Knocking, away: &BTreeSet<PathBuf>, now: Instant) -> bool {
        loop {
            let has_come = knocking.has_come(away, now);
            if has_come || knocking.doors.values().all(|door| door.asked.is_none()) {
                return has_come;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_that_is_away_is_asked_now_and_then_and_heard_when_it_answers() {
        let (mut knocking, asked, answer) = at_hand();
        let away = BTreeSet::from([PathBuf::from("s3://abc/moon")]);
        let at = |n: u64| Instant(0) + Duration::from_secs(n);
        let ask_s = ASK_EVERY.as_secs();
        for n in 0..ask_s {
            assert!(!knocking.has_come(&away, at(n)));
        }
        assert!(asked.try_recv().is_err(), "it was asked when the vault was opened");
        for (n, is_there) in [(ask_s, false), (2 * ask_s, false), (3 * ask_s, true)] {
            assert!(!knocking.has_come(&away, at(n)));
            assert_eq!(asked.recv().unwrap(), Path::new("s3://abc/moon"));
            assert!(!knocking.has_come(&away, at(n + 9 * ask_s)), "it is not asked while it is being asked");
            answer.send(is_there).unwrap();
            assert_eq!(heard(&mut knocking, &away, at(n)), is_there);
            assert!(asked.try_recv().is_err());
        }
        assert!(!knocking.has_come(&BTreeSet::new(), at(9 * ask_s)) && knocking.doors.is_empty());
    }

    #[test]
    fn one_that_does_not_answer_keeps_nobody_and_what_it_says_late_is_not_heard() {
        let (mut knocking, asked, answer) = at_hand();
        let away = BTreeSet::from([PathBuf::from("s3://abc/moon")]);
        let later = Instant(0) + ASK_EVERY;
        assert!(!knocking.has_come(&away, Instant(0)) && !knocking.has_come(&away, later));
        asked.recv().unwrap();
        assert!(!knocking.has_come(&BTreeSet::new(), later), "it came by itself");
        answer.send(true).unwrap();
        assert!(!heard(&mut knocking, &BTreeSet::new(), later));
    }
}
