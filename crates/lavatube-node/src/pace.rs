//! The pace of a rehearsal that reads: a played clock stands still while the reader works, and runs while it waits.
//!
//! Without it weeks would pass while a processor opens a frame. Whoever turns the played link asks before each jump of the
//! clock; whoever reads says that what it wants is not there yet. It must not know what is wanted. No step of the walk.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between a reader and a rehearsal that turns its link.
#[derive(Debug)]
pub struct Pace {
    /// Time is played.
    played: bool,
    at: Mutex<At>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct At {
    /// How often something came for the reader.
    news: u64,
    /// Threads of the reader that found nothing since then.
    waiting: usize,
    /// The reader is done, or the link is turned no more.
    over: bool,
}

impl Pace {
    /// For a clock that is played, or a real one.
    pub(crate) fn new(played: bool) -> Self {
        Self { played, at: Mutex::default(), changed: Condvar::new() }
    }

    fn at(&self) -> MutexGuard<'_, At> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something came so far: to be asked before one looks, and shown to [`Pace::wait`].
    pub(crate) fn seen(&self) -> u64 {
        self.at().news
    }

    /// Waits until something more came than `seen`, or a little while in real time; whether anything can still come.
    pub(crate) fn wait(&self, seen: u64, real: Duration) -> bool {
        if !self.played {
            thread::sleep(real);
            return !self.at().over;
        }
        let mut at = self.at();
        if at.news == seen {
            at.waiting += 1;
            self.changed.notify_all();
        }
        while at.news == seen && !at.over {
            at = self.changed.wait(at).unwrap_or_else(PoisonError::into_inner);
        }
        !at.over
    }

    /// Something came: all who wait look again.
    pub(crate) fn tell(&self) {
        let mut at = self.at();
        at.news += 1;
        at.waiting = 0;
        self.changed.notify_all();
    }

    /// Before a played clock runs: lets the reader work until it waits again; whether it goes on. Gives up for now after a
    /// little while, so that whoever turns the link notices a signal.
    pub(crate) fn may_run(&self) -> Option<bool> {
        let mut at = self.at();
        if self.played && at.waiting == 0 && !at.over {
            at = self.changed.wait_timeout(at, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        if at.over {
            return None;
        }
        Some(!self.played || at.waiting > 0)
    }

    /// It is over: nobody waits any more.
    pub(crate) fn end(&self) {
        self.at().over = true;
        self.changed.notify_all();
    }
}

/// How long one who turns the link lets the reader work before it looks around.
const LOOK_EVERY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_played_clock_runs_while_the_reader_waits_and_only_then() {
        let pace = Pace::new(true);
        assert_eq!(pace.may_run(), Some(false), "the reader has not looked yet");
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let seen = pace.seen();
                (
                    pace.wait(seen, Duration::ZERO),
                    pace.wait(seen, Duration::ZERO),
                    pace.wait(pace.seen(), Duration::ZERO),
                )
            });
            while pace.may_run() != Some(true) {}
            pace.tell();
            // It looked again, found nothing, and waits for the end.
            while pace.may_run() != Some(true) {}
            pace.end();
            assert_eq!(reader.join().unwrap(), (true, true, false), "what came before it waited is not waited for");
        });
        assert_eq!(pace.may_run(), None);
    }

    #[test]
    fn a_real_clock_waits_for_nobody() {
        let pace = Pace::new(false);
        assert_eq!((pace.may_run(), pace.wait(pace.seen(), Duration::ZERO)), (Some(true), true));
        pace.end();
        assert_eq!((pace.may_run(), pace.wait(pace.seen(), Duration::ZERO)), (None, false));
    }
}
