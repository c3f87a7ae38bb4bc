//! The link, turned by a thread of this process while a command needs it and no daemon turns it.
//!
//! Whoever starts a daemon meanwhile is told that the link is in use. It must not know what crosses.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lavatube_base::ObjectId;
use lavatube_client::courier::CourierError;
use lavatube_client::ledger;
use lavatube_client::meter::Meter;
use lavatube_link::Status;

use crate::depositor::{DepositorError, Places, open_state, spool_folder, state_folder};
use crate::directory_spool::DirectorySpool;
use crate::far_end::{Listener, Run};
use crate::link_folder::{LinkError, Pairing};
use crate::lock::{Lock, LockError, Mode};
use crate::near_end;
use crate::told::Told;

/// What the link is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errands {
    /// Asking for what the vault has.
    Read,
    /// Sending what waits, too.
    Deposit,
}

/// The link, turned by a thread of this process while a command reads.
struct OwnLink {
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The link, whoever turns it: another process as long as it does, else a thread of this one.
pub(crate) struct TurnedLink {
    places: Places,
    errands: Errands,
    own: Mutex<(Option<OwnLink>, Instant)>,
}

impl TurnedLink {
    /// Sees to it that somebody turns the link.
    pub fn open(places: &Places, errands: Errands) -> Result<Self, DepositorError> {
        let own = Mutex::new((OwnLink::start(places, errands)?, Instant::now()));
        Ok(Self { places: places.clone(), errands, own })
    }

    /// Takes the link over when whoever turned it is no more. Returns how many datagrams came in, as far as this process
    /// knows.
    ///
    /// # Errors
    /// Why it cannot be turned, for people.
    pub fn look(&self) -> Result<u64, String> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let (link, looked_at) = &mut *own;
        if let Some(error) = link.as_ref().and_then(OwnLink::error) {
            return Err(error);
        }
        if link.as_ref().is_none_or(OwnLink::is_over) && looked_at.elapsed() >= TAKE_OVER_EVERY {
            *looked_at = Instant::now();
            *link = OwnLink::start(&self.places, self.errands).map_err(|e| e.to_string())?;
        }
        Ok(link.as_ref().map_or(0, OwnLink::received))
    }
}

/// What the thread says.
#[derive(Default)]
struct Seen {
    received: AtomicU64,
    error: Mutex<Option<String>>,
}

impl OwnLink {
    /// Starts it, unless somebody else turns the link.
    fn start(places: &Places, errands: Errands) -> Result<Option<Self>, DepositorError> {
        let lock = Pairing::open(&places.vault)?.own_folder()?.join("lock");
        match Lock::acquire(&lock, COMMAND, Mode::Exclusive, Duration::ZERO) {
            // Taken anew by the thread.
            Ok(_) => {}
            Err(LockError::Held { .. }) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let (places, over, told) = (places.clone(), Arc::clone(&stop), Arc::clone(&seen));
        let work = move || {
            let run = Run {
                listen: None,
                peer: None,
                wait: Duration::from_secs(1),
                stop: &over,
                scrub: None,
                steward: None,
                awake: None,
            };
            let mut listener = Quiet { seen: Arc::clone(&told), deposits: errands == Errands::Deposit };
            let end = match errands {
                Errands::Read => near_end::run_errands(&places, &run, &mut listener),
                Errands::Deposit => near_end::drain(&places, &run, false, &mut listener),
            };
            // A daemon that was faster does as well.
            if let Err(e) = end
                && !matches!(e, LinkError::Lock(LockError::Held { .. }))
            {
                *told.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
            }
        };
        Ok(Some(Self { stop, seen, thread: Some(thread::spawn(work)) }))
    }

    /// Datagrams that came in.
    fn received(&self) -> u64 {
        self.seen.received.load(Ordering::Relaxed)
    }

    /// Whether it ended, without an error when somebody else was faster.
    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(thread::JoinHandle::is_finished)
    }

    /// Why it ended, if it should not have.
    fn error(&self) -> Option<String> {
        self.seen.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for OwnLink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that was not said.
            let _ = thread.join();
        }
    }
}

struct Quiet {
    seen: Arc<Seen>,
    /// What cannot be sent is waited for in vain.
    deposits: bool,
}

impl Listener for Quiet {
    fn told(&mut self, told: Told) {
        let why = match told {
            Told::Denied { id, why } => format!("the vault does not take object {}: {why}", id.short()),
            Told::Damaged(id) => format!("object {} on this machine is damaged and is not sent", id.short()),
            Told::Unreadable { id, why } => format!("object {} on this machine cannot be read: {why}", id.short()),
            Told::LogAlarm(why) => format!("the vault cannot be believed: {why}"),
            Told::NotNoted(why) => format!("the vault's receipts cannot be noted on this machine: {why}"),
            _ => return,
        };
        if self.deposits {
            self.seen.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        }
    }

    fn status(&mut self, status: &Status) {
        self.seen.received.store(status.totals.datagrams_received, Ordering::Relaxed);
    }
}

/// Waits until none of `objects` is in the spool any more: the vault has receipted them. Turns the link, unless a daemon
/// does. Gives up when none went for as long as `patience`; whether all went.
///
/// # Errors
/// When the link or the spool fail, or the vault refuses one of them.
pub fn deliver(
    places: &Places,
    objects: &BTreeSet<ObjectId>,
    patience: Option<Duration>,
    meter: &Meter,
) -> Result<bool, DepositorError> {
    let state = state_folder(places, Pairing::open(&places.vault)?.vault());
    let folder = spool_folder(&state);
    let link = TurnedLink::open(places, Errands::Deposit)?;
    let mut lens = None;
    let mut last = (usize::MAX, Instant::now());
    loop {
        let spool = DirectorySpool::beside(&folder).map_err(CourierError::from)?;
        let left: Vec<ObjectId> =
            objects.iter().filter(|id| spool.as_ref().is_some_and(|s| s.has(**id))).copied().collect();
        let len = |id: &ObjectId| spool.as_ref().and_then(|s| s.len(*id).ok().flatten()).unwrap_or(0);
        let len: u64 = left.iter().map(len).sum();
        let total = *lens.get_or_insert(len);
        meter.bytes_total.set(total);
        meter.bytes.set(total.saturating_sub(len));
        if left.is_empty() {
            // Receipts count, and nothing else that may have emptied the spool.
            let known = ledger::receipted(&open_state(&state)?, objects)?.len();
            let gone = || LinkError::Ended(format!("{} objects are neither here nor receipted", objects.len() - known));
            return if known == objects.len() { Ok(true) } else { Err(gone().into()) };
        }
        link.look().map_err(LinkError::Ended)?;
        if left.len() != last.0 {
            last = (left.len(), Instant::now());
        }
        if patience.is_some_and(|patience| last.1.elapsed() >= patience) {
            return Ok(false);
        }
        thread::sleep(LOOK_EVERY);
    }
}

const COMMAND: &str = "a command that needs the link";
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often one looks whether somebody else still turns the link.
const TAKE_OVER_EVERY: Duration = Duration::from_secs(1);
