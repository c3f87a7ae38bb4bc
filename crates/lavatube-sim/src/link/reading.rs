//! Whoever reads over the link, at the near end: with what is on this machine, and what came.
//!
//! A real reader waits where it is until something comes. Here, where all is one thread, what it wants lies on the desk, it is told
//! that the vault cannot be reached now, and it begins anew when something came: so each wait is also a read that was told
//! so, and must not lie. What asks, and remembers what it has asked for, is the real one. It must not know what is read.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use lavatube_base::ObjectId;
use lavatube_client::desk::Desk;
use lavatube_client::distant::{Distant, Here, Tally};
use lavatube_client::far::{FarError, Signer};
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::State;

use super::errands::Wish;
use crate::seams::desk::SimDesk;
use crate::seams::spool::SimSpool;
use crate::seams::state::SimState;

/// This side of the link, for one reader.
pub struct Side {
    desk: SimDesk,
    state: SimState,
    /// None for a machine that has nothing but the way to the vault.
    spool: Option<SimSpool>,
    /// What was in it when the reader began, as `DirectorySpool` remembers it.
    waiting: BTreeSet<ObjectId>,
    /// Something was waited for.
    starved: AtomicBool,
}

impl Here for Side {
    type Desk = SimDesk;

    fn desk(&self) -> &SimDesk {
        &self.desk
    }

    fn state(&self) -> &dyn State {
        &self.state
    }

    fn is_waiting(&self, id: ObjectId) -> bool {
        self.waiting.contains(&id)
    }

    fn read_waiting(&self, id: ObjectId, range: &Range<u64>, out: &mut Vec<u8>) -> bool {
        let Some(spool) = self.spool.as_ref().filter(|_| self.waiting.contains(&id)) else { return false };
        let Some(bytes) = SpoolKind::ALL.into_iter().find_map(|kind| spool.peek(kind, id)) else { return false };
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let part = bytes.get(place(range.start)..place(range.end));
        part.map(|part| out.extend_from_slice(part)).is_some()
    }

    fn wait(&self, tally: &Tally, there: &mut dyn FnMut() -> bool) -> Result<(), FarError> {
        if there() {
            return Ok(());
        }
        tally.waits(true);
        self.starved.store(true, Ordering::Relaxed);
        Err(FarError::Away("it has not come yet".into()))
    }
}

/// One reader.
pub struct Reading {
    /// What it asks.
    pub distant: Distant<Side>,
    /// What is wanted.
    pub wish: Wish,
    /// Whether something waited on this machine when it began.
    pub spooled: bool,
    /// Nothing that is read was away or broken when it began, so that it must come home, if it comes at all.
    pub must: bool,
    /// What had come for it when it last looked.
    pub seen: Option<u64>,
    /// How often it has looked.
    pub looks: u64,
}

impl Reading {
    /// A reader on the machine of that desk and state; without a spool it has nothing but the way to the vault.
    ///
    /// # Errors
    /// When the desk fails.
    pub fn begin(
        desk: &SimDesk,
        state: &SimState,
        spool: Option<&SimSpool>,
        signer: Signer,
        wish: Wish,
        spooled: bool,
    ) -> Result<Self, String> {
        let waiting = spool.map(SimSpool::ids).unwrap_or_default();
        let (desk, state, spool) = (desk.clone(), state.clone(), spool.cloned());
        let side = Side { desk, state, spool, waiting, starved: AtomicBool::new(false) };
        let distant = Distant::new(side, signer, wish.refreshes)?;
        Ok(Self { distant, wish, spooled, must: false, seen: None, looks: 0 })
    }

    /// Whether something was waited for since this was last asked.
    pub fn starved(&self) -> bool {
        self.distant.here().starved.swap(false, Ordering::Relaxed)
    }

    /// What is read is read, or not wanted any more: errands that are open are taken back.
    pub fn end(self) {
        let desk = self.distant.here().desk();
        desk.asked().unwrap_or_default().into_iter().for_each(|number| desk.done(number));
    }
}
