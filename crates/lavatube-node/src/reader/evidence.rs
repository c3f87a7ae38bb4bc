//! Making evidence of a file on this machine: its digests, its leaf in a roll, and the vault's word for the manifest. Step 21
//! of the walk.
//!
//! It must not know how leaves are found, nor how evidence is judged.

use lavatube_base::{ObjectId, Verified};
use lavatube_client::evidence::{self, FindError, Leaf, Wanted};
use lavatube_client::far::{Far, LogWord};
use lavatube_client::log::{Inquiry, Verdict};
use lavatube_client::vaulted;
use lavatube_client::witness;
use lavatube_format::checkpoint::SignedCheckpoint;
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::evidence::{Evidence, Placed};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::tree::Content;

use super::{ReaderError, Session, Side};
use crate::depositor::DepositorError;
use crate::embedded::VaultError;
use crate::facts::Looked;
use crate::{clock, entropy};

/// Why there is no evidence of a file.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// Vault, state or link failed.
    #[error(transparent)]
    Reader(Box<ReaderError>),
    /// No session has read a file with this content.
    #[error("no backup that can be proved has this content")]
    Unknown {
        /// Sessions that were finished before there were rolls: the file may be in one of them.
        before: u64,
        /// Sessions that have it and wait on this machine.
        waiting: u64,
    },
    /// The vault does not sign for its log now.
    #[error("the vault does not sign for its log now: {0}")]
    Log(String),
    /// The vault is not what it was.
    #[error("the vault cannot be believed: {0}")]
    Alarm(String),
}

impl From<ReaderError> for ProveError {
    fn from(e: ReaderError) -> Self {
        Self::Reader(Box::new(e))
    }
}

impl From<FindError> for ProveError {
    fn from(e: FindError) -> Self {
        ReaderError::from(e).into()
    }
}

impl Session<'_> {
    /// Evidence that a content was backed up: of the oldest session that read it.
    ///
    /// # Errors
    /// [`ProveError`].
    pub fn prove(&self, wanted: &[Wanted], name: Option<Vec<u8>>) -> Result<Evidence, ProveError> {
        let leaf = self.leaf(wanted)?;
        let (checkpoint, logged) = self.logged(leaf.manifest)?;
        let state = self.reader.side.state();
        let bytes = vaulted::manifest_bytes(&*self.far, state, leaf.manifest).map_err(ReaderError::from)?;
        let lost = |_| ProveError::Log("its manifest cannot be read any more".into());
        let manifest = SignedManifest::decode(&bytes).map_err(lost)?;
        let card = self.card(&manifest)?;
        let Leaf { facts, salt, file, committed, blind, .. } = leaf;
        Ok(Evidence {
            name,
            facts,
            salt,
            file,
            committed,
            blind,
            manifest,
            card,
            authority: self.reader.keys.authority_public().clone(),
            logged,
            checkpoint,
            vault_key: self.far.signer().key,
            made_s: clock::wall_now().s,
            token: None,
        })
    }

    /// What to look for to prove a file of a snapshot: it is read back.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn wanted(&self, content: &Content) -> Result<Wanted, ReaderError> {
        let facts = evidence::facts_of(&mut self.fetcher()?, content)?;
        let chunk = content.refs.first().filter(|_| content.digest.is_none()).map(|only| only.id);
        Ok(Wanted { facts, chunk })
    }

    /// What to look for to prove a file on this machine, as it was looked at.
    pub fn wanted_here(&self, looked: Looked) -> Wanted {
        let chunk = looked.stream.map(|stream| self.reader.ids.id(&stream));
        Wanted { facts: looked.facts, chunk }
    }

    /// The leaf of a content, in the oldest session that read it and is in the vault.
    fn leaf(&self, wanted: &[Wanted]) -> Result<Leaf, ProveError> {
        let (key, state) = (self.reader.keys.roll_key(), self.reader.side.state());
        let (mut found, mut waiting, mut before): (Vec<Leaf>, u64, u64) = (Vec::new(), 0, 0);
        let (waits, mut unknown) = (self.waiting()?, Vec::new());
        for vaulted in self.sessions.all() {
            let session = evidence::Session { manifest: &vaulted.manifest, id: vaulted.id };
            if vaulted.manifest.files.is_none() {
                before += 1;
                continue;
            }
            match evidence::look(state, &key, &session, wanted)
                .map_err(DepositorError::from)
                .map_err(ReaderError::from)?
            {
                evidence::Looked::Found(_) if waits.contains(&vaulted.id) => waiting += 1,
                evidence::Looked::Found(leaf) => found.push(*leaf),
                evidence::Looked::Absent => {}
                evidence::Looked::Unknown => unknown.push(vaulted.id),
            }
        }
        // What the state does not know is read from the vault, where the state alone has nothing.
        if found.is_empty() && !unknown.is_empty() {
            found.extend(self.leaf_in_vault(wanted, &unknown)?);
        }
        found.into_iter().min_by_key(|leaf| leaf.committed.time_s).ok_or(ProveError::Unknown { before, waiting })
    }

    fn leaf_in_vault(&self, wanted: &[Wanted], sessions: &[ObjectId]) -> Result<Option<Leaf>, ProveError> {
        let (key, mut fetcher) = (self.reader.keys.roll_key(), self.fetcher().map_err(ReaderError::from)?);
        for listed in self.snapshots()?.snapshots.iter().filter(|l| sessions.contains(&l.place.manifest)) {
            let vaulted = self.sessions.position(listed.place.manifest).and_then(|at| self.sessions.all().get(at));
            let Some(vaulted) = vaulted else { continue };
            let session = evidence::Session { manifest: &vaulted.manifest, id: vaulted.id };
            if let Some(leaf) = evidence::look_in_vault(&mut fetcher, &key, &session, listed, wanted)? {
                return Ok(Some(leaf));
            }
        }
        Ok(None)
    }

    /// The vault's word that a manifest is in its log.
    fn logged(&self, manifest: ObjectId) -> Result<(SignedCheckpoint, Placed), ProveError> {
        let state = self.reader.side.state();
        let failed = |e: lavatube_client::state::StateError| ReaderError::from(DepositorError::from(e));
        let nonce = entropy::bytes().map_err(|e| ReaderError::from(DepositorError::from(VaultError::from(e))))?;
        let mut inquiry = Inquiry::new(state, self.far.signer(), nonce).map_err(failed)?;
        inquiry.question.objects = vec![manifest];
        let word = self.ask_log(&inquiry)?;
        match inquiry.conclude(state, &word, clock::wall_now()).map_err(failed)? {
            Verdict::Sound(contact) if contact.is_signed() => {}
            Verdict::Sound(_) => return Err(ProveError::Log("too few of its drives are there".into())),
            Verdict::Alarm(alarm) => return Err(ProveError::Alarm(alarm.to_string())),
            Verdict::Unknown(why) => return Err(ProveError::Log(why)),
        }
        let LogWord::Signed(answer) = word else { return Err(ProveError::Log("it gave no signature".into())) };
        let note = SignedCheckpoint::decode(&answer.note).map_err(|e| ProveError::Log(e.to_string()))?;
        let placed = answer.objects.into_iter().find(|placed| placed.id == manifest).and_then(|placed| placed.place);
        let (place, path) = placed.ok_or_else(|| ProveError::Log("the manifest is not in its log".into()))?;
        Ok((self.witnessed(&note).unwrap_or(note), Placed { place, path }))
    }

    /// The same checkpoint as a witness that is trusted has signed it, if one has: its date is somebody else's word.
    fn witnessed(&self, note: &SignedCheckpoint) -> Option<SignedCheckpoint> {
        let (state, signer) = (self.reader.side.state(), self.far.signer());
        let what = |note: &SignedCheckpoint| (note.checkpoint.size, note.checkpoint.root);
        let all = witness::trusted(state).ok()?.into_iter();
        let mut kept = all.filter_map(|key| witness::witnessed(state, &signer, &key).ok()?.map(|(note, _)| note));
        kept.find(|kept| what(kept) == what(note))
    }

    fn ask_log(&self, inquiry: &Inquiry) -> Result<LogWord, ProveError> {
        let word = match &self.reader.side {
            Side::Here(holding) => holding.vault.log(&inquiry.question),
            Side::Far(vault) => vault.log(&inquiry.question),
        };
        word.map_err(|e| ProveError::Log(e.to_string()))
    }

    /// The card of who made a manifest, as the authority signed it.
    fn card(&self, manifest: &SignedManifest) -> Result<SignedCard, ProveError> {
        let state = self.reader.side.state();
        let depositor = manifest.manifest.depositor;
        for name in lavatube_client::state::State::list(state, lavatube_client::cards::CARDS).unwrap_or_default() {
            let bytes = lavatube_client::state::read_all(state, &name, lavatube_base::limits::CARD_LEN_MAX as u64);
            let whole = bytes.ok().flatten().filter(|bytes| name.ends_with(&Verified::hash(bytes).id().to_string()));
            let signed = whole.and_then(|bytes| SignedCard::decode(&bytes).ok());
            if let Some(card) = signed.filter(|signed| signed.card.id() == depositor)
                && self.reader.keys.verify_card(&card).is_ok()
            {
                return Ok(card);
            }
        }
        Err(ProveError::Log(format!("the card of depositor {} is not here any more", depositor.short())))
    }
}
