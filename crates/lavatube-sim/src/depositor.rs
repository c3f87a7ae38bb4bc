//! One run of `lavatube backup` on simulated seams: the rooms composed as `lavatube-node` composes them, in one thread.
//!
//! It must do what `lavatube_node::depositor::backup` does, in the same order, so that what is learnt here holds there. It
//! must not know crashes: they unwind through it.

use std::collections::BTreeSet;
use std::sync::Arc;

use lavatube_base::Verified;
use lavatube_client::backup::{self, BackupError, Report, Request};
use lavatube_client::catalog::{Catalog, CatalogError};
use lavatube_client::chain::Chain;
use lavatube_client::courier::{Courier, CourierError, Drained, Promise};
use lavatube_client::delivery::Delivery;
use lavatube_client::doubt;
use lavatube_client::far::Far;
use lavatube_client::log::{self, Alarm, Verdict};
use lavatube_client::meter::Meter;
use lavatube_client::packer::{PackError, Packer};
use lavatube_client::released::Released;
use lavatube_client::session::{self, OpenSession, Recovered, Said, SessionError};
use lavatube_client::state::{State, StateError, write_all};
use lavatube_client::vaulted::SessionsError;
use lavatube_format::manifest::Mark;
use lavatube_format::roll::Committed;
use lavatube_seal::DepositKeys;
use lavatube_vault::{DepositError, OpenError};

use crate::chance::Chance;
use crate::seams::far::SimFar;
use crate::seams::outlet::Line;
use crate::seams::source::SimSource;
use crate::seams::spool::SimSpool;
use crate::seams::state::SimState;
use crate::wires::Wires;

/// Why a run ended without a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The vault could not be opened.
    #[error("open: {0}")]
    Open(#[from] OpenError),
    /// The vault did not take the depositor's card.
    #[error("card: {0}")]
    Card(#[from] DepositError),
    /// The backup.
    #[error("backup: {0}")]
    Backup(#[from] BackupError),
    /// The session.
    #[error("session: {0}")]
    Session(#[from] SessionError),
    /// Packing.
    #[error("pack: {0}")]
    Pack(#[from] PackError),
    /// Delivering.
    #[error("courier: {0}")]
    Courier(#[from] CourierError),
    /// The catalog.
    #[error("catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// The state.
    #[error("state: {0}")]
    State(#[from] StateError),
    /// Releases could not be learnt of.
    #[error("releases: {0}")]
    Released(#[from] SessionsError),
    /// The vault is not what it was.
    #[error("ALARM: {0}")]
    Alarm(Alarm),
}

/// A machine that deposits.
pub struct Machine {
    /// Its keys.
    pub deposit: DepositKeys,
    /// Its state.
    pub state: SimState,
    /// Its spool.
    pub spool: SimSpool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The client's report.
    pub report: Report,
    /// Which promise holds.
    pub promise: Promise,
    /// What an earlier, interrupted run had left.
    pub recovered: Recovered,
    /// Objects that went from the spool to the vault.
    pub drained: Drained,
}

/// Takes a snapshot into the vault behind `far`, or into the spool where that is away.
///
/// # Errors
/// [`RunError`]; what was delivered before the error is kept for the next run.
pub fn backup(
    machine: &Machine,
    far: &SimFar,
    source: &SimSource,
    request: &Request<'_>,
    chance: &mut Chance,
    wires: &Arc<Wires>,
) -> Result<Outcome, RunError> {
    let card = machine.deposit.card().encode();
    let state = &machine.state;
    meet(far, state, wires)?;
    far.admit(&card)?;
    keep_card(state, &card)?;
    let mut spool = machine.spool.reopen();
    let mut courier = Courier::new(Some(far as &dyn Far), &mut spool, state);
    let mut catalog = Catalog::open(state)?;
    let released = Released::learn(far, state, &machine.deposit.release_keys())?;
    let drained = courier.drain_spool()?;
    let mut dice = |out: &mut [u8]| {
        chance.fill(out);
        if out.len() == 32 {
            wires.keep_secret("a session's secret", out);
        }
    };
    let mut chain = Chain::survey(state, &machine.deposit, far)?.knowing(released.number);
    let recovered = session::recover(state, &machine.deposit, &mut catalog, &mut chain, &mut courier, &mut dice)?;
    doubt::settle(state, far, &drained, &released, &mut courier, &mut catalog)?;
    let open = session::begin(state, &machine.deposit, &mut dice)?;
    let meter = Meter::default();
    let (report, promise) = take(machine, source, request, &open, &mut catalog, &mut chain, courier, false, &meter)?;
    meet(far, state, wires)?;
    Ok(Outcome { report, promise, recovered, drained })
}

/// Asks whether the vault's log goes on from what was seen of it.
fn meet(far: &SimFar, state: &SimState, wires: &Wires) -> Result<(), RunError> {
    let now = wires.now();
    // Time never stands still, so that no two questions have one nonce.
    let nonce = u128::from(now.s.cast_unsigned()) << 32 | u128::from(now.ns);
    match log::contact(far, state, nonce.to_le_bytes(), now)? {
        Verdict::Alarm(alarm) => Err(RunError::Alarm(alarm)),
        Verdict::Sound(_) | Verdict::Unknown(_) => Ok(()),
    }
}

/// Takes a snapshot into the spool, for a vault at the other end of a link, as `lavatube_node::depositor` does there.
///
/// # Errors
/// [`RunError`]; what was put into the spool before the error is kept for the next run.
pub fn backup_for_far(
    machine: &Machine,
    source: &SimSource,
    request: &Request<'_>,
    chance: &mut Chance,
    wires: &Arc<Wires>,
) -> Result<Outcome, RunError> {
    let state = &machine.state;
    keep_card(state, &machine.deposit.card().encode())?;
    let mut spool = machine.spool.reopen();
    let mut courier = Courier::new(None, &mut spool, state);
    let mut catalog = Catalog::open(state)?;
    let mut dice = |out: &mut [u8]| {
        chance.fill(out);
        if out.len() == 32 {
            wires.keep_secret("a session's secret", out);
        }
    };
    let released = Released::known(state, &machine.deposit.release_keys())?;
    let mut chain = Chain::known(state, &machine.deposit)?.knowing(released.number);
    let recovered = session::recover(state, &machine.deposit, &mut catalog, &mut chain, &mut courier, &mut dice)?;
    let open = session::begin(state, &machine.deposit, &mut dice)?;
    let waiting = machine.spool.ids();
    doubt::account(state, &waiting, &BTreeSet::new(), &released, &mut courier, &mut catalog)?;
    let meter = Meter::default();
    let (report, promise) = take(machine, source, request, &open, &mut catalog, &mut chain, courier, true, &meter)?;
    Ok(Outcome { report, promise, recovered, drained: Drained::default() })
}

/// Hands over marks, or into the spool where the vault is far, as `lavatube_node::forgetting` does. Without marks it only says which releases are known.
///
/// # Errors
/// [`RunError`].
pub fn mark(
    machine: &Machine,
    far: Option<&SimFar>,
    marks: Vec<Mark>,
    chance: &mut Chance,
    wires: &Arc<Wires>,
) -> Result<(), RunError> {
    let (state, keys) = (&machine.state, machine.deposit.release_keys());
    keep_card(state, &machine.deposit.card().encode())?;
    let mut spool = machine.spool.reopen();
    let mut courier = Courier::new(far.map(|far| far as &dyn Far), &mut spool, state);
    let mut catalog = Catalog::open(state)?;
    let (chain, released) = match far {
        Some(far) => {
            meet(far, state, wires)?;
            far.admit(&machine.deposit.card().encode())?;
            courier.drain_spool()?;
            (Chain::survey(state, &machine.deposit, far)?, Released::learn(far, state, &keys)?)
        }
        None => (Chain::known(state, &machine.deposit)?, Released::known(state, &keys)?),
    };
    let mut chain = chain.knowing(released.number);
    let mut dice = |out: &mut [u8]| {
        chance.fill(out);
        if out.len() == 32 {
            wires.keep_secret("a session's secret", out);
        }
    };
    session::recover(state, &machine.deposit, &mut catalog, &mut chain, &mut courier, &mut dice)?;
    let open = session::begin(state, &machine.deposit, &mut dice)?;
    let (said, nothing) = (Said { marks, ..Said::default() }, Committed::nothing());
    session::finish(state, &machine.deposit, &open, &[], said, &nothing, &mut chain, &mut courier)?;
    Ok(session::close(state)?)
}

#[expect(clippy::too_many_arguments, reason = "what a backup consists of")]
fn take<'a>(
    machine: &'a Machine,
    source: &SimSource,
    request: &Request<'_>,
    open: &OpenSession,
    catalog: &mut Catalog<'a>,
    chain: &mut Chain,
    courier: Courier<'a>,
    far: bool,
    meter: &'a Meter,
) -> Result<(Report, Promise), RunError> {
    let state = &machine.state;
    let delivery =
        Delivery::new(open.keys.session(), machine.deposit.audit_keys(), state, courier, meter).keeping_heads(far);
    let line = Line::new(Packer::new(open.keys.clone()), delivery)?;
    let mut front = line.front();
    let prepared =
        backup::prepare(source, request, &machine.deposit, open.keys.session(), state, catalog, &mut front, meter)?;
    let ask: Vec<_> = prepared.report.snapshot.into_iter().collect();
    let (packed, mut courier) = line.finish(&ask)?;
    session::finish(
        state,
        &machine.deposit,
        open,
        &packed.packs,
        Said { snapshots: packed.found, ..Said::default() },
        &prepared.committed,
        chain,
        &mut courier,
    )?;
    let report = prepared.complete()?;
    session::close(state)?;
    let promise = courier.promise();
    Ok((report, promise))
}

/// Keeps a copy of the depositor's card, as `lavatube_node` does.
fn keep_card(state: &SimState, card: &[u8]) -> Result<(), StateError> {
    let name = format!("cards/{}", Verified::hash(card).id());
    match state.len(&name).map_err(StateError::on(&name))? {
        Some(_) => Ok(()),
        None => write_all(state, &name, card),
    }
}
