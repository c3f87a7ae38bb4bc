//! The care of a vault at the other end of a link, from this machine: how it is asked how it is and told what to do.
//!
//! What is asked lies at the desk until it is answered, whoever turns the link, also when nobody waits for it any more; the last report stays there. Others work with this
//! machine's state meanwhile: a scrub over there must hold up no backup here. Step 18 of the walk. It must not know how a
//! mandate is followed, nor how anything crosses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use lavatube_base::time::WallTime;
use lavatube_client::desk::{Desk, Errand};
use lavatube_client::far::{FarError, Signer};
use lavatube_format::care::CareQuestion;
use lavatube_format::mandate::{Mandate, SignedMandate};

use crate::depositor::{DepositorError, Places, open_state, state_folder};
use crate::directory_desk::DirectoryDesk;
use crate::entropy;
use crate::keyring::KeyringError;
use crate::link_folder::{LinkError, Pairing};
pub use crate::mandates::Said;
use crate::own_link::{Errands, TurnedLink};

/// How one waits for an answer.
pub struct Waiting<'w> {
    /// Give up when nothing came for so long; never, when not set.
    pub patience: Option<Duration>,
    /// Set when it shall end.
    pub stop: &'w AtomicBool,
}

/// A vault that this machine reaches over a link.
pub struct Afar {
    places: Places,
    desk: DirectoryDesk,
    signer: Signer,
    /// Nothing comes back over its link.
    is_one_way: bool,
}

/// A mandate that was left at the desk and not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// It.
    pub mandate: Mandate,
    errand: u64,
}

/// Whether the vault that `places.vault` leads to ever said how it is. Makes nothing that is not there.
///
/// # Errors
/// When it is not paired.
pub fn has_said(places: &Places) -> Result<bool, DepositorError> {
    let vault = crate::link_folder::vault_id(&places.vault)?;
    Ok(DirectoryDesk::has_report(&state_folder(places, vault)))
}

/// What became of a question.
#[derive(Debug)]
pub enum Answered {
    /// The vault said this.
    Said(Box<Said>),
    /// Nobody waits any more; it lies at the desk until it is answered.
    NotYet,
}

impl Afar {
    /// The vault that `places.vault` leads to.
    ///
    /// # Errors
    /// When it is not paired, or this machine's state cannot be used.
    pub fn open(places: &Places) -> Result<Self, DepositorError> {
        let pairing = Pairing::open(&places.vault)?;
        let folder = state_folder(places, pairing.vault());
        open_state(&folder)?;
        let desk = DirectoryDesk::open(&folder).map_err(|source| DepositorError::Io { path: folder, source })?;
        let is_one_way = pairing.one_way()?.is_some();
        Ok(Self { places: places.clone(), desk, signer: pairing.signer(), is_one_way })
    }

    /// The vault, and the key that it signs with.
    pub fn signer(&self) -> Signer {
        self.signer
    }

    /// What the vault said last, and when; `None` when it never did.
    pub fn last(&self) -> Option<Said> {
        self.last_of().map(|(_, said)| said)
    }

    fn last_of(&self) -> Option<(u64, Said)> {
        let (errand, signed, came) = self.desk.report()?;
        //= FORMAT#F60 it lay in a file meanwhile
        signed.verify(&self.signer.key).ok().filter(|()| signed.report.vault == self.signer.vault)?;
        let came = came.duration_since(UNIX_EPOCH).unwrap_or_default();
        let came = WallTime { s: i64::try_from(came.as_secs()).unwrap_or(0), ns: 0 };
        Some((errand, Said { len: signed.encode().len(), report: signed.report, came }))
    }

    /// Mandates that were left at the desk and are not answered, by number.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    pub fn left(&self) -> Result<Vec<Left>, DepositorError> {
        let read = |errand: u64| match self.desk.errand(errand)? {
            Errand::Care(question) => {
                let mandate = SignedMandate::decode(&question.mandate?).ok()?.mandate;
                Some(Left { mandate, errand })
            }
            _ => None,
        };
        let mut all: Vec<Left> = self.asked()?.into_iter().filter_map(read).collect();
        all.sort_by_key(|left| left.mandate.number);
        Ok(all)
    }

    /// Takes a mandate back from the desk. If it has left before, the vault may follow it all the same.
    pub fn withdraw(&self, left: &Left) {
        self.desk.done(left.errand);
    }

    /// The number that a new mandate has, by what is known here: above that of the last one that the vault took and of those that wait here. `None` when
    /// the vault never said.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    pub fn next_number(&self) -> Result<Option<u64>, DepositorError> {
        let Some(said) = self.last() else { return Ok(None) };
        let waits = self.left()?.last().map_or(0, |left| left.mandate.number);
        Ok(Some(said.report.last_mandate.max(waits).saturating_add(1)))
    }

    /// Asks how the vault is, or waits with whoever has asked before.
    ///
    /// # Errors
    /// When the link fails, or patience ends.
    pub fn ask(&self, waiting: &Waiting<'_>) -> Result<Answered, DepositorError> {
        let is_bare = |errand: &u64| matches!(self.desk.errand(*errand), Some(Errand::Care(question)) if question.mandate.is_none());
        let before = self.asked()?.into_iter().find(is_bare);
        let errand = before.map_or_else(|| self.leave(None), Ok)?;
        self.await_it(errand, waiting)
    }

    /// Leaves a mandate for the vault, to be waited for.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn tell(&self, mandate: &SignedMandate) -> Result<u64, DepositorError> {
        self.leave(Some(mandate.encode()))
    }

    fn leave(&self, mandate: Option<Vec<u8>>) -> Result<u64, DepositorError> {
        let nonce = entropy::bytes().map_err(KeyringError::from)?;
        self.desk.ask(&Errand::Care(CareQuestion { nonce, mandate })).map_err(|e| self.io(e))
    }

    /// Waits until an errand is answered. Turns the link, unless a daemon does.
    ///
    /// # Errors
    /// When the link fails, or patience ends.
    pub fn await_it(&self, errand: u64, waiting: &Waiting<'_>) -> Result<Answered, DepositorError> {
        if self.is_one_way {
            self.desk.done(errand);
            let text = "nothing comes back over this link, and so no answer";
            return Err(DepositorError::Link(LinkError::Ended(text.into())));
        }
        if !until_over(&self.places, &self.desk, errand, waiting)? {
            return Ok(Answered::NotYet);
        }
        match self.last_of() {
            Some((answered, said)) if answered == errand => Ok(Answered::Said(Box::new(said))),
            // A later answer tells as much, but for why this one was refused.
            Some((_, said)) if said.report.refusal.is_empty() => Ok(Answered::Said(Box::new(said))),
            _ => Err(DepositorError::Link(LinkError::Ended("the answer came, and is not to be found here".into()))),
        }
    }

    fn asked(&self) -> Result<Vec<u64>, DepositorError> {
        self.desk.asked().map_err(|e| self.io(e))
    }

    fn io(&self, source: std::io::Error) -> DepositorError {
        DepositorError::Io { path: state_folder(&self.places, self.signer.vault), source }
    }
}

/// Waits until an errand at the desk is over. Turns the link, unless a daemon does. Whether it is; not when it was stopped before.
pub(crate) fn until_over(
    places: &Places,
    desk: &DirectoryDesk,
    errand: u64,
    waiting: &Waiting<'_>,
) -> Result<bool, DepositorError> {
    let link = TurnedLink::open(places, Errands::Read)?;
    let mut quiet_since = (Instant::now(), None);
    while desk.is_asked(errand) {
        if waiting.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let received = link.look().map_err(LinkError::Ended)?;
        if quiet_since.1 != Some(received) {
            quiet_since = (Instant::now(), Some(received));
        }
        if let Some(patience) = waiting.patience.filter(|patience| quiet_since.0.elapsed() >= *patience) {
            let text = format!("nothing came for {} s", patience.as_secs());
            return Err(DepositorError::Link(LinkError::Ended(FarError::Away(text).to_string())));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(true)
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
