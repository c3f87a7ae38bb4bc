//! A vault that can be read passes its audit: every byte of every session in it is proved, and one block that is passed over is
//! noticed.

use lavatube_client::audit::{Known, Proves};
use lavatube_client::far::FarError;
use lavatube_client::state::State;
use lavatube_client::vaulted::Sessions;
use lavatube_format::audit::{Answer, Challenge};
use lavatube_seal::{ReadKeys, Reads};
use lavatube_vault::audit::Prover;

use super::Verdict;
use crate::seams::far::SimFar;

/// The vault, which tells the truth but for one bit of its first answer, where it is asked to.
struct Proving<'v> {
    far: &'v SimFar,
    lies: bool,
}

impl Proves for Proving<'_> {
    fn prove(&mut self, challenge: &Challenge) -> Result<Answer, FarError> {
        let mut prover = Prover::new(challenge.clone());
        while prover.step(&self.far.vault()) {}
        let mut answer = prover.answer();
        if std::mem::take(&mut self.lies) {
            answer.sum[4711] ^= 1;
        }
        Ok(answer)
    }
}

/// Everything in the vault is proved, and with one answer.
///
/// # Errors
/// What is not.
pub fn whole(sessions: &Sessions<'_>, far: &SimFar, state: &dyn State, keys: &ReadKeys) -> Verdict {
    let known = Known::new(sessions, state, keys.audit_keys(), |_| true).map_err(|e| e.to_string())?;
    let mut drawn = 0u64;
    let mut nonce = || {
        drawn += 1;
        let mut nonce = [7; 32];
        nonce[..8].copy_from_slice(&drawn.to_le_bytes());
        nonce
    };
    for lies in [false, true] {
        let whole = known.challenge(nonce());
        let report = known.audit(whole, &mut Proving { far, lies }, &mut nonce).map_err(|e| e.to_string())?;
        if let Some(bad) = report.bad.first() {
            return Err(format!("an audit finds {} that are not proved, the first is {bad:?}", report.bad.len()));
        }
        if report.manifests > 1 && (report.answers == 1) == lies {
            return Err(format!("{} answers, where one was wrong: {lies}", report.answers));
        }
    }
    Ok(())
}
