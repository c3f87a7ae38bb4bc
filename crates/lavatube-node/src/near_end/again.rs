//! What this machine's own disk failed at, and is tried again: receipts that could not be noted, objects that could not be read.
//!
//! A full disk or a bad sector ends no daemon: everything else goes on, it is told once, and tried again now and then. Step 17 of
//! the walk. It must not know how messages cross.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use lavatube_base::ObjectId;
use lavatube_client::courier::CourierError;
use lavatube_client::ledger::LedgerError;

use super::{NearEnd, Progress};
use crate::far_end::Listener;
use crate::link_folder::LinkError;
use crate::told::Told;

/// What was told and has not come right since.
#[derive(Debug, Default)]
pub(super) struct Again {
    /// Objects that cannot be read, or are not what they were, and why.
    unfit: BTreeMap<ObjectId, String>,
    /// Why receipts cannot be noted.
    unnoted: Option<LedgerError>,
    /// The desk does not take what comes for commands.
    is_unput: bool,
}

impl Again {
    /// Only these are still in the spool.
    pub fn retain(&mut self, here: &BTreeSet<ObjectId>) {
        self.unfit.retain(|id, _| here.contains(id));
    }

    /// An object could be read.
    pub fn is_fit(&mut self, id: ObjectId) {
        self.unfit.remove(&id);
    }

    /// A receipt could be noted.
    pub fn is_noted(&mut self) {
        self.unnoted = None;
    }

    /// Why receipts cannot be noted, as an error.
    pub fn unnoted(&mut self) -> Option<LinkError> {
        self.unnoted.take().map(|e| CourierError::from(e).into())
    }
}

impl NearEnd {
    /// An object of the spool cannot be sent now, because of this; it is looked at again later.
    pub(super) fn is_unfit(&mut self, id: ObjectId, told: Told, why: String, listener: &mut dyn Listener) {
        if self.again.unfit.insert(id, why.clone()).is_none() {
            listener.told(told);
        }
        self.objects.insert(id, Progress::Unfit(why, self.driver.now()));
    }

    /// The receipt of an object is home, and the ledger does not take it. The spool keeps the object, and nothing of it need be sent.
    pub(super) fn cannot_note(&mut self, id: ObjectId, error: LedgerError, listener: &mut dyn Listener) {
        if let Some(Progress::UnderWay(key)) = self.objects.insert(id, Progress::Unnoted) {
            self.keys.remove(&key);
            self.driver.link().withdraw(key);
        }
        if self.again.unnoted.is_none() {
            listener.told(Told::NotNoted(error.to_string()));
        }
        self.again.unnoted = Some(error);
    }

    /// What the clerk did at the desk, if it could: it goes on when it cannot, and so does all else.
    pub(super) fn was_put<T>(&mut self, put: io::Result<T>, listener: &mut dyn Listener) -> Option<T> {
        match put {
            Ok(done) => {
                self.again.is_unput = false;
                Some(done)
            }
            Err(e) => {
                if !std::mem::replace(&mut self.again.is_unput, true) {
                    listener.told(Told::NotPut(e.to_string()));
                }
                None
            }
        }
    }

    /// Tries again what is due.
    pub(super) fn try_again(&mut self, listener: &mut dyn Listener) -> Result<(), LinkError> {
        let now = self.driver.now();
        self.objects.retain(|_, progress| !matches!(progress, Progress::Unfit(_, at) if now.since(*at) >= UNFIT_EVERY));
        let is_unnoted = |(id, progress): (&ObjectId, &Progress)| matches!(progress, Progress::Unnoted).then_some(*id);
        for id in self.objects.iter().filter_map(is_unnoted).collect::<Vec<_>>() {
            match self.receipts.of(id) {
                Some(receipt) => self.receipted(&receipt, listener)?,
                // It is asked for.
                None => drop(self.objects.insert(id, Progress::Awaited(now))),
            }
            if matches!(self.objects.get(&id), Some(Progress::Unnoted)) {
                break;
            }
        }
        Ok(())
    }

    /// What cannot be sent now, and why, for people.
    pub(super) fn tell_stuck(&self, listener: &mut dyn Listener) {
        let refused = self.objects.iter().filter_map(|(id, progress)| match progress {
            Progress::Stuck(why) => Some((id, why)),
            _ => None,
        });
        let stuck = refused.chain(&self.again.unfit).map(|(id, why)| (*id, why.clone()));
        listener.stuck(&stuck.take(STUCK_TOLD_MAX).collect::<Vec<_>>());
    }
}

/// How often an object that could not be read is looked at again.
const UNFIT_EVERY: Duration = Duration::from_secs(30);
/// Objects of which it is told why they do not leave.
const STUCK_TOLD_MAX: usize = 20;
