//! An audit, of a vault on this machine (Earth's side and the vault's, one after the other) or at the other end of a link.
//! Step 18 of the walk.
//!
//! What was asked is noted, and how far a vault here has come, so that an audit that was killed goes on where it was. It must
//! not know how proofs are made or judged.

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_client::audit::{AuditError, Bad, Fault, Known, Proves, Report};
use lavatube_client::far::FarError;
use lavatube_client::meter::Meter;
use lavatube_client::spool::SpoolKind;
use lavatube_client::spot::Spot;
use lavatube_client::state::State;
use lavatube_client::vaulted::{self, Vaulted};
use lavatube_format::audit::{Answer, Challenge, Progress};
use lavatube_format::spot::SpotProof;
use lavatube_vault::audit::Prover;
use lavatube_vault::spot::SpotProver;

use super::{ReaderError, Session, Side};
use crate::depositor::{DepositorError, spooled};
use crate::embedded::EmbeddedVault;
use crate::far_vault::FarVault;
use crate::keyring::KeyringError;
use crate::{audits, clock, entropy};

impl Session<'_> {
    /// Has the vault prove that it has every byte of every session that is not waiting here.
    ///
    /// # Errors
    /// [`ReaderError`] when vault, link or state fail. That something is not proved is no error.
    pub fn audit(&self, meter: &Meter) -> Result<Report, ReaderError> {
        let state = self.reader.side.state();
        let waiting = self.waiting()?;
        let keys = self.reader.keys.audit_keys();
        let known = Known::new(&self.sessions, state, keys, |v| !waiting.contains(&v.id));
        let known = known.map_err(DepositorError::from)?;
        // Without entropy nothing may be asked: the vault could have known the nonce.
        entropy::bytes::<32>().map_err(|e| DepositorError::from(KeyringError::from(e)))?;
        let mut nonce =
            || entropy::bytes::<32>().unwrap_or_else(|e| panic!("the system gives no entropy any more: {e}"));
        let open = audits::open(state).filter(|open| known.is_current(&open.challenge));
        let whole = open.as_ref().map_or_else(|| known.challenge(nonce()), |open| open.challenge.clone());
        let mut vault: Box<dyn Proves + '_> = match &self.reader.side {
            Side::Here(holding) => {
                meter.bytes_total.set(holding.vault.read().status().bytes);
                Box::new(Local { vault: &holding.vault, state, meter, open, whole: whole.nonce })
            }
            Side::Far(vault) => {
                // Whoever asks again asks the same, and the vault goes on.
                let begun = Progress { challenge: whole.clone(), answer: Answer::new(whole.from) };
                audits::keep_open(state, &begun).map_err(DepositorError::from)?;
                Box::new(Remote(vault))
            }
        };
        let mut report = known.audit(whole, &mut *vault, &mut nonce)?;
        let gone = self.sessions.unlisted().keys().filter(|id| !waiting.contains(id));
        report.bad.extend(gone.map(|id| Bad { manifest: *id, pack: None, why: Fault::Absent }));
        audits::forget_open(state).map_err(DepositorError::from)?;
        Ok(report)
    }

    /// Has the vault show slices that a nonce picks of all packs of every session that is not waiting here.
    ///
    /// # Errors
    /// [`ReaderError`] when vault, link or state fail.
    pub fn spot(&self, count: usize, meter: &Meter) -> Result<Spotted, ReaderError> {
        let waiting = self.waiting()?;
        // Whoever checks it knows nothing of releases: sessions that lack packs are not asked about.
        let stays = &self.sessions.released().stays;
        let is_whole = |v: &Vaulted| {
            let whole = self.sessions.standing(v).filter(|row| !stays.contains_key(&row.id));
            whole.count() == v.manifest.leaves.len()
        };
        let there = self.sessions.all().iter().filter(|v| !waiting.contains(&v.id) && is_whole(v));
        let mut about: Vec<_> = there.collect();
        about.sort_by_key(|vaulted| vaulted.id);
        let nonce = entropy::bytes::<32>().map_err(|e| DepositorError::from(KeyringError::from(e)))?;
        let spot = Spot::new(about.iter().map(|v| &v.manifest), nonce, count);
        let answer = match &self.reader.side {
            Side::Here(holding) => {
                let mut prover = SpotProver::new(spot.question.clone());
                let vault = holding.vault.read();
                while prover.step(&vault) {
                    meter.files.add(1);
                }
                prover.into_answer()
            }
            Side::Far(vault) => vault.spot(&spot.question).map_err(AuditError::from)?,
        };
        let mut manifests = Vec::new();
        for vaulted in &about {
            manifests.push(vaulted::manifest_bytes(&*self.far, self.reader.side.state(), vaulted.id)?);
        }
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        spot.question.encode(&mut sent);
        answer.encode(&mut received);
        let proof = SpotProof { time_s: clock::wall_now().s, manifests, answer };
        Ok(Spotted { spot, proof, sent: sent.len() as u64, received: received.len() as u64 })
    }

    /// Manifests that wait here and are not in the vault as far as is known.
    pub(super) fn waiting(&self) -> Result<BTreeSet<ObjectId>, ReaderError> {
        Ok(match &self.reader.side {
            Side::Here(holding) => {
                let all = spooled(holding.state.folder())?.into_iter();
                let own = all.filter(|(kind, id)| *kind == SpoolKind::Manifest && !holding.vault.read().contains(*id));
                own.map(|(_, id)| id).collect()
            }
            Side::Far(vault) => vault.waiting(SpoolKind::Manifest).into_iter().collect(),
        })
    }
}

/// A spot proof, and what crossed for it.
pub struct Spotted {
    /// What was asked.
    pub spot: Spot,
    /// What was answered, for a file.
    pub proof: SpotProof,
    /// Bytes of the question,
    pub sent: u64,
    /// and of the answer.
    pub received: u64,
}

/// The vault's side, at the other end of a link.
struct Remote<'v>(&'v FarVault);

impl Proves for Remote<'_> {
    fn prove(&mut self, challenge: &Challenge) -> Result<Answer, FarError> {
        self.0.prove(challenge)
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
