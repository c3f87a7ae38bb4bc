//! Releasing at a vault at the other end of a link: what a release stands on is asked for and verified, the authority signs here, and the release waits
//! at the desk until the vault has answered.
//!
//! Of what the vault tells nothing is believed that its log does not prove: the leaves give the root of its signed checkpoint, which goes on from
//! what was seen before. A release vouches for nobody here: what this machine backs up while the release is under way must not be refused there, so
//! that the vault waits for a session of this machine that knows of it, and such a one is made when the answer is home. Step 18 of the walk. It
//! must not know how anything crosses, nor print anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use lavatube_base::limits::LIFTS_ASKED_MAX;
use lavatube_base::merkle::Tree;
use lavatube_base::time::WallTime;
use lavatube_base::{DepositorId, ObjectId, Verified};
use lavatube_client::desk::{Desk, Errand};
use lavatube_client::far::{Far, FarError, Signer};
use lavatube_client::log::{self, Verdict};
use lavatube_client::meter::Meter;
use lavatube_client::release::Plan;
use lavatube_client::released::Released;
use lavatube_client::session::OPEN_SESSION;
use lavatube_client::spool::SpoolKind;
use lavatube_client::state::{State, StateError};
use lavatube_format::receipt::Receipt;
use lavatube_format::release::{Release, SignedRelease};
use lavatube_format::release_word::{About, KeptWord, OpenWord, ReleaseQuestion, ReleaseWord, StandingWord};
use lavatube_format::shard::ObjectKind;
use lavatube_seal::Root;
use lavatube_vault::{Kept, Leaf};

use super::{Looked, ReleasingError, Terms, doubt, signed, vouches};
use crate::depositor::{DepositorError, Places, open_state, state_folder};
use crate::directory_desk::DirectoryDesk;
use crate::far_vault::FarVault;
use crate::from_afar::{Waiting, until_over};
use crate::keyring::Keyring;
use crate::link_folder::{LinkError, Pairing};
use crate::reader::{Reader, Session, Side};
use crate::{clock, entropy, forgetting, own_link, vault_log};

/// What a release stands on, as the vault told it and its log proves it.
#[derive(Debug, Clone)]
pub struct Ground {
    leaves: Tree<Leaf>,
    kept: KeptWord,
    open: Vec<OpenWord>,
}

/// Sees that nothing stands in the way, and asks the vault what its log is.
pub(super) fn begin(vault: &FarVault) -> Result<Looked, ReleasingError> {
    let state = vault.state();
    vault_log::stop_at_alarm(state)?;
    let waiting: usize = SpoolKind::ALL.iter().map(|kind| vault.waiting(*kind).len()).sum();
    if waiting > 0 {
        return doubt(format!("{waiting} objects wait on this machine for the vault"));
    }
    if state.len(OPEN_SESSION).map_err(StateError::on(OPEN_SESSION)).map_err(DepositorError::from)?.is_some() {
        return doubt("a backup was cut on this machine; the next one takes it up".into());
    }
    let seen = log::contact(&**vault, state, entropy::bytes()?, clock::wall_now()).map_err(DepositorError::from)?;
    let checkpoint = match seen {
        Verdict::Sound(contact) => contact.checkpoint,
        Verdict::Alarm(why) => return Err(vault_log::alarm(state, why.to_string()).into()),
        Verdict::Unknown(why) => return Err(FarError::Away(why).into()),
    };
    let ground = ground(vault, &[])?;
    let (size, root) = (ground.leaves.size(), ground.leaves.root());
    //= FORMAT#F63 the leaves are those of a checkpoint that goes on from what was seen
    if (size, root) != (checkpoint.size, checkpoint.root) {
        return doubt("the vault's log grows at this moment; once it has, the command can be run again".into());
    }
    Ok(Looked { size, root, afar: Some(ground) })
}

/// Asks the vault what a release stands on, and verifies that the leaves are all of its log.
fn ground(vault: &FarVault, lifts: &[ObjectId]) -> Result<Ground, ReleasingError> {
    if lifts.len() > LIFTS_ASKED_MAX {
        return doubt(format!("more than {LIFTS_ASKED_MAX} holds at once cannot be asked about"));
    }
    let mut leaves = Tree::default();
    loop {
        let from = leaves.size();
        let question = ReleaseQuestion { nonce: entropy::bytes()?, from, lifts: lifts.to_vec(), release: None };
        let Some(word) = vault.word_of_releases(&question)? else { return Err(ReleasingError::OlderVault) };
        let ReleaseWord { size, root, kept, open, leaves: more, .. } = word;
        let is_over = more.is_empty();
        more.into_iter().for_each(|leaf| leaves.push(leaf));
        if leaves.size() == size && leaves.root() == root {
            return Ok(Ground { leaves, kept, open });
        }
        if is_over || leaves.size() >= size {
            return doubt("what the vault tells of its log is not all of it, or it grows at this moment".into());
        }
    }
}

/// The same when these holds are lifted.
pub(super) fn ground_but_for(vault: &FarVault, looked: &Looked, lifts: &[ObjectId]) -> Result<Ground, ReleasingError> {
    match &looked.afar {
        Some(ground) if lifts.is_empty() => Ok(ground.clone()),
        _ => {
            let ground = ground(vault, lifts)?;
            if (ground.leaves.size(), ground.leaves.root()) != (looked.size, looked.root) {
                return doubt("the vault's log has grown meanwhile".into());
            }
            Ok(ground)
        }
    }
}

impl Ground {
    pub(super) fn leaves(&self) -> &[Leaf] {
        self.leaves.leaves()
    }

    /// Releases that are not done, by number, and whom each waits for.
    pub(super) fn open(&self) -> Vec<(u64, Vec<DepositorId>)> {
        self.open.iter().map(|open| (open.number, waits_for(open))).collect()
    }

    /// All releases of the log with their places: the session has learnt of them.
    pub(super) fn releases(&self, reader: &Reader) -> Result<Vec<(usize, Release)>, ReleasingError> {
        let state = reader.side.state();
        let mut out = Vec::new();
        for (place, leaf) in self.leaves().iter().enumerate().filter(|(_, l)| l.kind() == Some(ObjectKind::Release)) {
            let copy = Released::copy_of(state, leaf.id(), reader.authority()).map_err(DepositorError::from)?;
            match copy {
                Some(release) => out.push((place, release)),
                None => return doubt(format!("release {} of the log cannot be read", leaf.id().short())),
            }
        }
        Ok(out)
    }

    /// What releases name that may still be followed. Which are void the log tells, and nobody need be believed.
    pub(super) fn pending(&self, session: &Session<'_>, releases: &[(usize, Release)]) -> Released {
        //= FORMAT#F64 void is what a later manifest did not know of
        let known: BTreeMap<ObjectId, u64> = session.all_manifests().map(|(id, said)| (id, said.releases)).collect();
        let mut out = Released::default();
        for (place, release) in releases {
            let after = self.leaves()[*place..].iter();
            let is_void = after.filter_map(|leaf| known.get(&leaf.id())).any(|knows| *knows < release.number);
            if !is_void {
                out.add(release);
            }
        }
        out
    }

    /// What may not be freed yet: what the vault says, and at least what is held by manifests that are here.
    pub(super) fn kept(
        &self,
        session: &Session<'_>,
        releases: &[(usize, Release)],
        lifts: &[ObjectId],
    ) -> Result<Option<Kept>, ReleasingError> {
        let kept = match self.kept {
            KeptWord::Nothing => None,
            KeptWord::Unread => return doubt("the vault cannot read a manifest, which may keep something".into()),
            KeptWord::Kept { place, left_s } => {
                let leaf = usize::try_from(place).ok().and_then(|place| self.leaves().get(place));
                let Some(leaf) = leaf else { return doubt("the vault keeps what its log does not have".into()) };
                Some(Kept { manifest: leaf.id(), place, left_s })
            }
        };
        let lifted: BTreeSet<ObjectId> =
            releases.iter().flat_map(|(_, release)| &release.lifts).chain(lifts).copied().collect();
        let held: BTreeSet<ObjectId> = session
            .all_manifests()
            .filter(|(id, said)| said.retention.hold && !lifted.contains(id))
            .map(|(id, _)| id)
            .collect();
        let held = (0..).zip(self.leaves()).filter(|(_, leaf)| held.contains(&leaf.id())).last();
        //= FORMAT#F64 a hold is in a manifest, whatever the vault says
        let held = held.map(|(place, leaf)| Kept { manifest: leaf.id(), place, left_s: None });
        Ok(held.filter(|held| kept.is_none_or(|kept| kept.place < held.place)).or(kept))
    }

    fn next_number(&self) -> u64 {
        self.leaves().iter().filter(|leaf| leaf.kind() == Some(ObjectKind::Release)).count() as u64 + 1
    }
}

fn waits_for(open: &OpenWord) -> Vec<DepositorId> {
    match &open.standing {
        StandingWord::Waits(waits) => waits.clone(),
        _ => Vec::new(),
    }
}

/// A release that lies at the desk, and that the vault has not answered.
#[derive(Debug, Clone)]
pub struct Left {
    /// The release.
    pub id: ObjectId,
    /// Its number.
    pub number: u64,
    /// The object.
    bytes: Vec<u8>,
    errand: u64,
}

/// Signs a release of what was found: the bytes of the object, for [`Afar::leave`].
///
/// # Errors
/// [`ReleasingError`]; nothing is freed then.
pub fn sign(reader: &Reader, root: &Root, plan: &Plan, terms: Terms) -> Result<Vec<u8>, ReleasingError> {
    let (Side::Far(vault), Some(ground)) = (&reader.side, &terms.looked.afar) else {
        return doubt("the vault is on this machine".into());
    };
    let about = (vault.signer().vault, ground.next_number());
    signed(reader, root, plan, terms, about, None)
}

/// This machine, when it may say of itself that it knows of a release: its state has handed over all that the vault has of it.
pub fn who_can_say(session: &Session<'_>, reader: &Reader, keys: &Keyring) -> Option<DepositorId> {
    let Side::Far(vault) = &reader.side else { return None };
    let own = keys.deposit().ok()?.depositor();
    vouches(vault.state(), session, own).then_some(own)
}

/// What became of a release.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The release, its number, and the vault's receipt or why it is not taken.
    pub about: About,
    /// How it stands, if it is not done.
    pub open: Option<OpenWord>,
    /// When that came.
    pub came: WallTime,
}

impl Outcome {
    /// Why it was not taken, if it was not.
    pub fn refusal(&self) -> Option<&str> {
        self.about.outcome.as_ref().err().map(String::as_str)
    }

    /// Depositors that it waits for.
    pub fn waits(&self) -> Vec<DepositorId> {
        self.open.as_ref().map(waits_for).unwrap_or_default()
    }
}

/// What became of waiting.
#[derive(Debug)]
pub enum Answered {
    /// The vault said this.
    Said(Box<Outcome>),
    /// Nobody waits any more; it lies at the desk until it is answered.
    NotYet,
}

/// The releases that go to a vault over a link.
pub struct Afar {
    places: Places,
    desk: DirectoryDesk,
    signer: Signer,
}

/// Whether the vault that `places.vault` leads to was ever sent a release from here, or anything waits for it. Makes nothing that is not there.
///
/// # Errors
/// When it is not paired.
pub fn has_any(places: &Places) -> Result<bool, DepositorError> {
    let vault = crate::link_folder::vault_id(&places.vault)?;
    Ok(DirectoryDesk::has_release(&state_folder(places, vault)))
}

impl Afar {
    /// Those to the vault that `places.vault` leads to.
    ///
    /// # Errors
    /// When it is not paired, nothing comes back over its link, or this machine's state cannot be used.
    pub fn open(places: &Places) -> Result<Self, DepositorError> {
        let pairing = Pairing::open(&places.vault)?;
        if pairing.one_way()?.is_some() {
            let text = "nothing comes back over this link, and so nobody can know what a release would free";
            return Err(LinkError::Ended(text.into()).into());
        }
        let folder = state_folder(places, pairing.vault());
        open_state(&folder)?;
        let desk = DirectoryDesk::open(&folder).map_err(|source| DepositorError::Io { path: folder, source })?;
        Ok(Self { places: places.clone(), desk, signer: pairing.signer() })
    }

    /// The release that lies at the desk and is not answered, if one does.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    pub fn left(&self) -> Result<Option<Left>, DepositorError> {
        let read = |errand: u64| match self.desk.errand(errand)? {
            Errand::Releases(ReleaseQuestion { release: Some(bytes), .. }) => {
                let number = SignedRelease::decode(&bytes).ok()?.release.number;
                Some(Left { id: Verified::hash(&bytes).id(), number, bytes, errand })
            }
            _ => None,
        };
        let all = self.desk.asked().map_err(|e| self.io(e))?;
        Ok(all.into_iter().filter_map(read).max_by_key(|left| left.number))
    }

    /// Leaves a release at the desk for the vault.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn leave(&self, bytes: Vec<u8>) -> Result<Left, ReleasingError> {
        let number = SignedRelease::decode(&bytes).map_or(0, |signed| signed.release.number);
        // No leaves: they are here.
        let (from, release) = (u64::MAX, Some(bytes.clone()));
        let question = ReleaseQuestion { nonce: entropy::bytes()?, from, lifts: Vec::new(), release };
        let errand = self.desk.ask(&Errand::Releases(question)).map_err(|e| self.io(e))?;
        Ok(Left { id: Verified::hash(&bytes).id(), number, bytes, errand })
    }

    /// Takes a release back from the desk. If it has left before, the vault may take it all the same.
    pub fn withdraw(&self, left: &Left) {
        self.desk.done(left.errand);
    }

    /// What became of the last release that was answered.
    pub fn last(&self) -> Option<Outcome> {
        self.last_of().map(|(_, outcome)| outcome)
    }

    fn last_of(&self) -> Option<(u64, Outcome)> {
        let (errand, mut signed, mut came) = self.desk.release()?;
        //= FORMAT#F62 it lay in a file meanwhile
        signed.verify(self.signer.vault, &self.signer.key).ok()?;
        if let Some((later, at)) = self.desk.standing_of_releases().filter(|(_, at)| *at >= came)
            && later.verify(self.signer.vault, &self.signer.key).is_ok()
            && later.word.size >= signed.word.size
        {
            (signed.word.open, came) = (later.word.open, at);
        }
        let came = came.duration_since(UNIX_EPOCH).unwrap_or_default();
        let came = WallTime { s: i64::try_from(came.as_secs()).unwrap_or(0), ns: 0 };
        let about = signed.word.about?;
        if let Ok(receipt) = &about.outcome {
            let receipt = Receipt::decode(receipt).ok()?;
            let is_good = receipt.body.object == about.id && receipt.verify(&self.signer.key).is_ok();
            is_good.then_some(())?;
        }
        let open = signed.word.open.into_iter().find(|open| open.id == about.id);
        Some((errand, Outcome { about, open, came }))
    }

    /// Waits until the vault has answered. Turns the link, unless a daemon does.
    ///
    /// # Errors
    /// When the link fails, patience ends, or the vault's program is too old.
    pub fn await_it(&self, left: &Left, waiting: &Waiting<'_>) -> Result<Answered, ReleasingError> {
        if !until_over(&self.places, &self.desk, left.errand, waiting)? {
            return Ok(Answered::NotYet);
        }
        if self.desk.take_refusal(left.errand) {
            return Err(ReleasingError::OlderVault);
        }
        match self.last_of().filter(|(_, outcome)| outcome.about.id == left.id) {
            Some((_, outcome)) => Ok(Answered::Said(Box::new(outcome))),
            None => {
                let text = "the answer came, and is not to be found here";
                Err(DepositorError::from(LinkError::Ended(text.into())).into())
            }
        }
    }

    /// Says to the vault that this machine knows of the release, and hands that over. Whether the vault has heard it.
    ///
    /// # Errors
    /// When the state or the link fail.
    pub fn acknowledge(
        &self,
        left: &Left,
        patience: Option<Duration>,
        wait: Duration,
        meter: &Meter,
    ) -> Result<bool, DepositorError> {
        let objects = forgetting::acknowledge(&self.places, &left.bytes, wait)?;
        Ok(!objects.is_empty() && own_link::deliver(&self.places, &objects, patience, meter)?)
    }

    /// Asks how releases stand. What it says is kept; `None` when it was stopped before.
    ///
    /// # Errors
    /// As [`Afar::await_it`].
    pub fn ask(&self, waiting: &Waiting<'_>) -> Result<Option<Outcome>, ReleasingError> {
        let nonce = entropy::bytes()?;
        let question = ReleaseQuestion { nonce, from: u64::MAX, lifts: Vec::new(), release: None };
        let errand = self.desk.ask(&Errand::Releases(question)).map_err(|e| self.io(e))?;
        let over = until_over(&self.places, &self.desk, errand, waiting);
        // Nobody reads it but from where it is kept.
        drop((self.desk.take_release_word(errand), self.desk.done(errand)));
        Ok(over?.then(|| self.last()).flatten())
    }

    fn io(&self, source: std::io::Error) -> DepositorError {
        DepositorError::Io { path: state_folder(&self.places, self.signer.vault), source }
    }
}
