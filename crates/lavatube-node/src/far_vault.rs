//! A far vault with this machine's files: its desk, its state, its spool, and whoever turns the link.
//!
//! What is asked, and from where, is the client's ([`Distant`]); here is how one waits for it. Where no daemon turns the
//! link, this process does. It must not know what is in an object, nor how the link carries anything. Steps 19 and 20 of
//! the walk.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use lavatube_base::ObjectId;
use lavatube_client::courier::CourierError;
use lavatube_client::distant::{Distant, Here, Tally};
use lavatube_client::far::FarError;
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::State;
use lavatube_format::check_record::CheckRecord;

use crate::checks;
use crate::depositor::{DepositorError, Places, open_state, spool_folder, state_folder};
use crate::directory_desk::DirectoryDesk;
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::link_folder::Pairing;
use crate::lock::{Lock, Mode};
use crate::own_link::{Errands, TurnedLink};
use crate::pace::Pace;

/// How a far vault is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asking {
    /// Ask it for its lists even where this machine has one.
    pub refresh: bool,
    /// Give up when nothing came for so long; never, when not set.
    pub patience: Option<Duration>,
}

/// A far vault, with this machine's state of it, locked.
pub struct FarVault {
    distant: Distant<Machine>,
    _lock: Lock,
}

/// This side of the link.
pub struct Machine {
    state: DirectoryState,
    spool: Option<DirectorySpool>,
    desk: DirectoryDesk,
    patience: Option<Duration>,
    /// Turned from when the desk was cleared on.
    link: Option<TurnedLink>,
    /// Where a rehearsal turns the link.
    pace: Option<Arc<Pace>>,
}

impl FarVault {
    /// The vault that `places.vault` leads to. Turns its link while it is open, unless a daemon does.
    ///
    /// # Errors
    /// [`DepositorError`] when it is not paired, or another command works with this machine's state of it.
    pub fn open(places: &Places, command: &str, asking: Asking, wait: Duration) -> Result<Self, DepositorError> {
        let pairing = Pairing::open(&places.vault)?;
        let folder = state_folder(places, pairing.vault());
        let state = open_state(&folder)?;
        let lock = Lock::acquire(&folder.join("lock"), command, Mode::Exclusive, wait)?;
        let io = |source| DepositorError::Io { path: folder.clone(), source };
        let machine = Machine {
            state,
            spool: DirectorySpool::beside(&spool_folder(&folder)).map_err(CourierError::from)?,
            desk: DirectoryDesk::open(&folder).map_err(io)?,
            patience: asking.patience,
            link: None,
            pace: None,
        };
        let mut distant = Distant::new(machine, pairing.signer(), asking.refresh).map_err(io)?;
        distant.here_mut().link = Some(TurnedLink::open(places, Errands::Read)?);
        Ok(Self { distant, _lock: lock })
    }

    /// A rehearsal turns the link, at this pace.
    pub fn keep_pace(&mut self, pace: Arc<Pace>) {
        self.distant.here_mut().pace = Some(pace);
    }

    /// Remembers what a check found.
    ///
    /// # Errors
    /// When the state's files fail.
    pub fn keep_check(&self, record: &CheckRecord) -> Result<(), DepositorError> {
        Ok(checks::keep(self.state(), record)?)
    }

    /// This machine's state of the vault.
    pub(crate) fn state(&self) -> &DirectoryState {
        &self.here().state
    }

    /// Whether an object waits on this machine.
    pub fn is_waiting(&self, id: ObjectId) -> bool {
        self.here().is_waiting(id)
    }

    /// Objects that wait on this machine.
    pub fn waiting(&self, kind: SpoolKind) -> Vec<ObjectId> {
        self.here().spool.as_ref().map(|spool| spool.waiting(kind).collect()).unwrap_or_default()
    }
}

impl Deref for FarVault {
    type Target = Distant<Machine>;

    fn deref(&self) -> &Distant<Machine> {
        &self.distant
    }
}

impl Here for Machine {
    type Desk = DirectoryDesk;

    fn desk(&self) -> &DirectoryDesk {
        &self.desk
    }

    fn state(&self) -> &dyn State {
        &self.state
    }

    fn is_waiting(&self, id: ObjectId) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.has(id))
    }

    fn read_waiting(&self, id: ObjectId, range: &Range<u64>, out: &mut Vec<u8>) -> bool {
        self.spool.as_ref().is_some_and(|spool| spool.read(id, range.clone(), out) == Ok(true))
    }

    fn wait(&self, tally: &Tally, there: &mut dyn FnMut() -> bool) -> Result<(), FarError> {
        let begin = Instant::now();
        let mut quiet_since = (begin, None);
        loop {
            let seen = self.pace.as_ref().map(|pace| pace.seen());
            if there() {
                tally.is_here();
                return Ok(());
            }
            // A rehearsal turns it itself.
            let link = self.link.as_ref().filter(|_| self.pace.is_none());
            let received = link.map(TurnedLink::look).transpose().map_err(FarError::Away)?;
            if received != quiet_since.1 {
                quiet_since = (Instant::now(), received);
            }
            if let Some(patience) = self.patience.filter(|patience| quiet_since.0.elapsed() >= *patience) {
                return Err(FarError::Away(format!("nothing came for {} s", patience.as_secs())));
            }
            tally.waits(begin.elapsed() >= SOON);
            match (&self.pace, seen) {
                (Some(pace), Some(seen)) => {
                    if !pace.wait(seen, LOOK_EVERY) {
                        return Err(FarError::Away("its link is turned no more".into()));
                    }
                }
                _ => thread::sleep(LOOK_EVERY),
            }
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// What is here within this was hardly waited for.
const SOON: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
