//! When this machine last looked whether all is *still there*, what it saw, and where the next look at a share begins: three small files of the state.
//!
//! Step 18 of the walk. Signed audits will take their place. It must not know how a check is done.

use lavatube_base::ObjectId;
use lavatube_client::check::Turn;
use lavatube_client::state::{State, StateError, read_all, write_all};
use lavatube_format::check_record::{CHECK_RECORD_LEN, CheckRecord, Verdict, WHOLE_SHARE};

use crate::depositor::{DepositorError, Places, state_to_read};

const LAST: &str = "checks/last";
const READ: &str = "checks/read";
const TURN: &str = "checks/turn";

/// What is remembered of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// The last check of any kind.
    pub last: Option<CheckRecord>,
    /// The last that read data.
    pub read: Option<CheckRecord>,
}

/// Keeps the record of a check. That data are lost is remembered until all data are read again: the next share is another.
/// The caller holds the state's lock.
///
/// # Errors
/// When the state's files fail.
pub fn keep(state: &dyn State, record: &CheckRecord) -> Result<(), StateError> {
    write_all(state, LAST, &record.encode())?;
    let is_lost = |r: &CheckRecord| r.verdict == Verdict::Lost;
    let stays = record.share < WHOLE_SHARE && !is_lost(record) && of(state, READ)?.as_ref().is_some_and(is_lost);
    if record.share > 0 && !stays { write_all(state, READ, &record.encode()) } else { Ok(()) }
}

/// A record, unless it is damaged: then it proves nothing.
fn of(state: &dyn State, name: &str) -> Result<Option<CheckRecord>, StateError> {
    let bytes = read_all(state, name, CHECK_RECORD_LEN as u64)?;
    Ok(bytes.and_then(|b| CheckRecord::decode(&b).ok()))
}

/// Where the last check of a share ended; before the first object when there was none, or that is not to be known.
pub fn last_turn(state: &dyn State) -> ObjectId {
    let bytes = read_all(state, TURN, ObjectId::LEN as u64).ok().flatten();
    bytes.and_then(|b| b.try_into().ok()).map_or(ObjectId([0; ObjectId::LEN]), ObjectId)
}

/// Remembers where a check of a share ended. The caller holds the state's lock.
///
/// # Errors
/// When the state's files fail.
pub fn keep_turn(state: &dyn State, turn: Turn) -> Result<(), StateError> {
    match turn {
        Turn::All => Ok(()),
        Turn::Part { upto, .. } => write_all(state, TURN, &upto.0),
    }
}

/// What is remembered.
///
/// # Errors
/// When the state's files fail.
pub fn remembered(places: &Places) -> Result<Remembered, DepositorError> {
    let Some(state) = state_to_read(places)? else { return Ok(Remembered::default()) };
    Ok(Remembered { last: of(&state, LAST)?, read: of(&state, READ)? })
}
