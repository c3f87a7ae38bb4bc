//! Forgetting on this machine: marks of snapshots go to the vault in a session of their own, or wait for it in the spool.
//!
//! A mark frees nothing and opens nothing. It must not know how snapshots are chosen. Step 7 of the walk.

use std::time::Duration;

use lavatube_base::limits::MARKS_MAX;
use lavatube_client::catalog::Catalog;
use lavatube_client::chain::Chain;
use lavatube_client::courier::{Courier, CourierError, Promise};
use lavatube_client::far::Far;
use lavatube_client::released::Released;
use lavatube_client::session::{self, Said};
use lavatube_format::manifest::Mark;
use lavatube_format::roll::Committed;

use crate::depositor::{
    DepositorError, Places, keep_card, open_session, open_state, spool_folder, state_folder, unlearnt,
};
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::holding::Holding;
use crate::keyring::Keyring;
use crate::link_folder;
use crate::lock::{Lock, Mode};
use crate::vault_log;

/// Deposits marks. Which promise holds for them then.
///
/// # Errors
/// [`DepositorError`]; some of the marks may have been deposited.
pub fn mark(places: &Places, marks: &[Mark], wait: Duration) -> Result<Promise, DepositorError> {
    const COMMAND: &str = "lavatube forget";
    if link_folder::is_far(&places.vault) {
        let folder = state_folder(places, link_folder::vault_id(&places.vault)?);
        let state = open_state(&folder)?;
        let _lock = Lock::acquire(&folder.join("lock"), COMMAND, Mode::Exclusive, wait)?;
        vault_log::stop_at_alarm(&state)?;
        return deposit(places, None, &state, marks);
    }
    let holding = Holding::open(places, COMMAND, true, wait)?;
    vault_log::meet(&holding)?;
    holding.vault.admit(&Keyring::at(&places.keys).deposit()?.card().encode())?;
    let promise = deposit(places, Some(&holding.vault), &holding.state, marks)?;
    holding.meet_log()?;
    Ok(promise)
}

fn deposit(
    places: &Places,
    far: Option<&dyn Far>,
    state: &DirectoryState,
    marks: &[Mark],
) -> Result<Promise, DepositorError> {
    let deposit = Keyring::at(&places.keys).deposit()?;
    keep_card(state, &deposit.card().encode())?;
    let mut spool = DirectorySpool::open(&spool_folder(state.folder())).map_err(CourierError::from)?;
    let mut courier = Courier::new(far, &mut spool, state);
    let mut catalog = Catalog::open(state)?;
    if far.is_some() {
        courier.drain_spool()?;
    }
    let keys = deposit.release_keys();
    let (chain, released) = match far {
        Some(far) => (Chain::survey(state, &deposit, far)?, Released::learn(far, state, &keys).map_err(unlearnt)?),
        None => (Chain::known(state, &deposit)?, Released::known(state, &keys)?),
    };
    let mut chain = chain.knowing(released.number);
    for marks in marks.chunks(MARKS_MAX) {
        let (_, open) = open_session(state, &deposit, &mut catalog, &mut chain, &mut courier)?;
        let said = Said { marks: marks.to_vec(), ..Said::default() };
        session::finish(state, &deposit, &open, &[], said, &Committed::nothing(), &mut chain, &mut courier)?;
        session::close(state)?;
    }
    Ok(courier.promise())
}
