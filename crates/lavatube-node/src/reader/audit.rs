//! An audit of a vault on this machine: Earth's side and the vault's, one after the other. Step 18 of the walk.
//!
//! The vault's side notes how far it has come, so that an audit that was killed goes on where it was. It must not know how
//! proofs are made or judged.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_client::audit::{AuditError, Bad, Fault, Known, Proves, Report};
use lavatube_client::far::{Far, FarError};
use lavatube_client::meter::Meter;
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::State;
use lavatube_format::audit::{Answer, Challenge, Progress};
use lavatube_vault::audit::Prover;

use super::{ReaderError, Session, Side};
use crate::depositor::{DepositorError, spooled};
use crate::embedded::EmbeddedVault;
use crate::keyring::KeyringError;
use crate::{audits, entropy};

impl Session<'_> {
    /// Has the vault on this machine prove that it has every byte of every session that is not waiting here.
    ///
    /// # Errors
    /// [`ReaderError`] when vault or state fail. That something is not proved is no error.
    pub fn audit(&self, meter: &Meter) -> Result<Report, ReaderError> {
        let state = self.reader.side.state();
        let Side::Here(holding) = &self.reader.side else {
            return Err(AuditError::from(FarError::Away("it is not audited over a link yet".into())).into());
        };
        let vault = &holding.vault;
        let waiting: BTreeSet<ObjectId> = spooled(state.folder())?
            .into_iter()
            .filter(|(kind, id)| *kind == SpoolKind::Manifest && !vault.has(*id).unwrap_or(false))
            .map(|(_, id)| id)
            .collect();
        let keys = self.reader.keys.audit_keys();
        let known =
            Known::new(&self.sessions, state, keys, |v| !waiting.contains(&v.id)).map_err(DepositorError::from)?;
        // Without entropy nothing may be asked: the vault could have known the nonce.
        entropy::bytes::<32>().map_err(|e| DepositorError::from(KeyringError::from(e)))?;
        let mut nonce =
            || entropy::bytes::<32>().unwrap_or_else(|e| panic!("the system gives no entropy any more: {e}"));
        let open = audits::open(state);
        let whole = match &open {
            Some(Progress { challenge, .. }) if known.is_current(challenge) => challenge.clone(),
            _ => known.challenge(nonce()),
        };
        meter.bytes_total.set(vault.read().status().bytes);
        let mut local = Local { vault, state, meter, open, whole: whole.nonce };
        let mut report = known.audit(whole, &mut local, &mut nonce)?;
        let gone = self.sessions.unlisted().keys().filter(|id| !waiting.contains(id));
        report.bad.extend(gone.map(|id| Bad { manifest: *id, pack: None, why: Fault::Absent }));
        audits::forget_open(state).map_err(DepositorError::from)?;
        Ok(report)
    }
}

/// The vault's side, in this process.
struct Local<'v> {
    vault: &'v EmbeddedVault,
    state: &'v dyn State,
    meter: &'v Meter,
    /// What an audit that was killed has left.
    open: Option<Progress>,
    /// The nonce of the challenge that is about everything.
    whole: [u8; 32],
}

impl Proves for Local<'_> {
    fn prove(&mut self, challenge: &Challenge) -> Result<Answer, FarError> {
        let resumed = self.open.take().filter(|open| open.challenge == *challenge);
        let mut prover = resumed.map_or_else(|| Prover::new(challenge.clone()), Prover::resumed);
        let vault = self.vault.read();
        let (mut noted, mut counted) = (prover.bytes(), 0);
        while prover.step(&vault) {
            let bytes = prover.bytes();
            self.meter.bytes.add(bytes - counted);
            counted = bytes;
            // Parts that are asked about again are soon done.
            if challenge.nonce == self.whole && bytes - noted >= NOTE_EVERY {
                noted = bytes;
                audits::keep_open(self.state, &prover.progress()).map_err(|e| FarError::Away(e.to_string()))?;
            }
        }
        Ok(prover.answer())
    }
}

/// Bytes after which the vault notes how far it has come.
const NOTE_EVERY: u64 = 256 << 20;

#[cfg(test)]
mod tests;
