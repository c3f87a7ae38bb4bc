//! Forgetting on this machine: marks of snapshots go to the vault in a session of their own, or wait for it in the spool.
//!
//! A mark frees nothing and opens nothing. It must not know how snapshots are chosen. Step 7 of the walk.

use std::collections::BTreeSet;
use std::time::Duration;

use lavatube_base::ObjectId;
use lavatube_base::limits::MARKS_MAX;
use lavatube_client::catalog::Catalog;
use lavatube_client::chain::Chain;
use lavatube_client::courier::{Courier, CourierError, Promise};
use lavatube_client::far::Far;
use lavatube_client::released::Released;
use lavatube_client::session::{self, Said};
use lavatube_format::manifest::Mark;
use lavatube_format::release::SignedRelease;
use lavatube_format::roll::Committed;

use crate::depositor::{
    DepositorError, Places, keep_card, open_session, open_state, spool_folder, spooled, state_folder, unlearnt,
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

/// Says to a vault at the other end of a link that this machine knows of a release (`bytes` of it), in a session without anything else: it waits in the
/// spool. What waits there then; nothing when an earlier release is not known here, so that nothing can be said.
///
/// # Errors
/// [`DepositorError`].
pub fn acknowledge(places: &Places, bytes: &[u8], wait: Duration) -> Result<BTreeSet<ObjectId>, DepositorError> {
    let folder = state_folder(places, link_folder::vault_id(&places.vault)?);
    let state = open_state(&folder)?;
    let _lock = Lock::acquire(&folder.join("lock"), "lavatube release", Mode::Exclusive, wait)?;
    vault_log::stop_at_alarm(&state)?;
    let deposit = Keyring::at(&places.keys).deposit()?;
    let released = Released::take_in(&state, &deposit.release_keys(), bytes)?;
    let number = SignedRelease::decode(bytes).map_or(u64::MAX, |signed| signed.release.number);
    if released.number < number {
        return Ok(BTreeSet::new());
    }
    keep_card(&state, &deposit.card().encode())?;
    let mut spool = DirectorySpool::open(&spool_folder(&folder)).map_err(CourierError::from)?;
    let mut courier = Courier::new(None, &mut spool, &state);
    let mut catalog = Catalog::open(&state)?;
    let mut chain = Chain::known(&state, &deposit)?.knowing(released.number);
    let (_, open) = open_session(&state, &deposit, &mut catalog, &mut chain, &mut courier)?;
    session::finish(&state, &deposit, &open, &[], Said::default(), &Committed::nothing(), &mut chain, &mut courier)?;
    session::close(&state)?;
    Ok(spooled(&folder)?.into_iter().map(|(_, id)| id).collect())
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
