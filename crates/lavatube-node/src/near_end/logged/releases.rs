//! Asks the far vault for releases whenever its log has grown, so that the next backup knows of them without anybody asking.
//!
//! What comes lies on the desk until a backup takes it in: this process holds no lock on the state. Step 7 of the walk. It must
//! not know what a release says.

use lavatube_client::desk::{Desk, Errand};
use lavatube_client::released;
use lavatube_format::shard::ObjectKind;

use super::super::NearEnd;
use crate::directory_desk::DirectoryDesk;

/// How releases are asked for.
#[derive(Default)]
pub(super) struct ReleaseAsking {
    /// The size of the log of which all was asked.
    size: Option<u64>,
    /// The errand for their list, while it is under way.
    listing: Option<u64>,
    /// The errand for those that nobody here knew.
    fetching: Option<u64>,
}

impl NearEnd {
    /// The vault's log has so many entries.
    pub(super) fn log_is_of(&mut self, size: u64) {
        if self.log.releases.size == Some(size) {
            return;
        }
        let Ok(desk) = DirectoryDesk::open(self.state.folder()) else { return };
        // What cannot be asked now is asked when the log is answered again.
        if let Ok(number) = desk.ask(&Errand::List(ObjectKind::Release)) {
            self.log.releases.size = Some(size);
            self.log.releases.listing = Some(number);
        }
    }

    /// Asks for the releases that a list names and nobody here knows.
    pub(super) fn ask_for_releases(&mut self) {
        let Some(number) = self.log.releases.listing else { return };
        let Ok(desk) = DirectoryDesk::open(self.state.folder()) else { return };
        if desk.is_asked(number) {
            return;
        }
        self.log.releases.listing = None;
        let parts = released::unknown_on(&desk, &self.state).unwrap_or_default();
        if !parts.is_empty() {
            self.log.releases.fetching = desk.ask(&Errand::Fetch(parts)).ok();
            if self.log.releases.fetching.is_none() {
                self.log.releases.size = None;
            }
        }
    }

    /// Whether some are still to come: who could end waits for them.
    pub(super) fn are_releases_awaited(&mut self) -> bool {
        self.ask_for_releases();
        let asking = &mut self.log.releases;
        if let (Some(number), Ok(desk)) = (asking.fetching, DirectoryDesk::open(self.state.folder())) {
            asking.fetching = Some(number).filter(|number| desk.is_asked(*number));
        }
        asking.listing.is_some() || asking.fetching.is_some()
    }
}
