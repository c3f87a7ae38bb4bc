//! The far end: takes deposits into the real vault and answers with receipts. Steps 17 and 20 of the walk.
//!
//! It must do what `lavatube_node::far_end` and its worker do for deposits, in the same order, so that what is learnt here
//! holds there; the worker works at once, and nobody reads. It must not know crashes: they unwind through it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::{BlockId, Denial, Instant, ObjectId, Refusal, Verified};
use lavatube_format::message::Message;
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::ObjectKind;
use lavatube_link::Event;
use lavatube_vault::{DepositError, Vault};

use std::sync::Arc;

use super::disk::LinkDisk;
use super::driver::{Driver, Outbox};
use super::sky::Sky;
use crate::book::Book;
use crate::sabotage::Sabotage;
use crate::wires::Wires;

/// Opens the vault as it is now.
pub type Opener = Box<dyn Fn() -> Option<Vault>>;

/// A manifest whose packs are under way, or the card of whoever made it.
struct HeldManifest {
    missing: BTreeSet<ObjectId>,
    is_strange: bool,
    bytes: Vec<u8>,
}

/// What became of a block.
enum Verdict {
    Accepted,
    Refused,
    Held,
}

/// One life of the far end.
pub struct Far {
    /// What it is turned on.
    pub driver: Driver,
    outbox: Outbox,
    vault: Vault,
    open: Opener,
    opened: Instant,
    disk: LinkDisk,
    held: BTreeMap<BlockId, HeldManifest>,
    /// When the depositor was told that an object is held.
    told: BTreeMap<ObjectId, Instant>,
    book: Arc<Book>,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
    /// With a planted bug: blocks that were accepted and not yet stored, and when they will be.
    later: Vec<(Instant, BlockId, Vec<u8>)>,
}

impl Far {
    /// The far end of the vault that `open` opens.
    ///
    /// # Errors
    /// When the vault cannot be opened, or the disk fails.
    pub fn open(
        mut driver: Driver,
        disk: &LinkDisk,
        open: Opener,
        book: &Arc<Book>,
        wires: &Arc<Wires>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, String> {
        let vault = open().ok_or("the vault cannot be opened")?;
        let blocks = disk.open_kept(|id| vault.contains(id))?;
        blocks.into_iter().for_each(|block| driver.accepted(block));
        Ok(Self {
            outbox: Outbox::default(),
            vault,
            open,
            opened: driver.now(),
            driver,
            disk: disk.clone(),
            held: BTreeMap::new(),
            told: BTreeMap::new(),
            book: book.clone(),
            wires: wires.clone(),
            sabotage,
            later: Vec::new(),
        })
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// When the process must end.
    pub fn turn(&mut self, sky: &mut Sky) -> Result<(), String> {
        self.driver.wake(sky);
        let now = self.driver.now();
        for (_, block, bytes) in self.later.extract_if(.., |(at, ..)| *at <= now).collect::<Vec<_>>() {
            self.handle(block, &bytes)?;
        }
        loop {
            while let Some(event) = self.driver.event()? {
                match event {
                    Event::Received { id, bytes, .. } if self.sabotage == Some(Sabotage::FarEndAcceptsEarly) => {
                        self.driver.accepted(id);
                        self.later.push((now + EARLY, id, bytes));
                    }
                    Event::Received { id, bytes, .. } => self.handle(id, &bytes)?,
                    Event::Wanted { key } => match self.outbox.message(key) {
                        Some(message) => self.driver.supply(key, message),
                        None => self.driver.withdraw(key),
                    },
                    Event::Delivered { key } | Event::Refused { key } | Event::Spent { key, .. } => {
                        self.outbox.done(key);
                    }
                    Event::ReserveCounters { .. } | Event::Echoed { .. } => {}
                }
            }
            if !self.driver.send(sky)? {
                return Ok(());
            }
        }
    }

    /// When it wants to be turned, if nothing comes before: by its own clock.
    pub fn timeout(&mut self, sky: &Sky) -> Option<Instant> {
        let later = self.later.iter().map(|(at, ..)| *at);
        self.driver.timeout(sky).into_iter().chain(later).min()
    }

    /// The process ends in order.
    pub fn close(self) {
        self.driver.close();
    }

    /// Does what a block asks for, and what can be done now that it is.
    fn handle(&mut self, block: BlockId, bytes: &[u8]) -> Result<(), String> {
        let turn = Message::turn(bytes);
        match Message::decode(bytes) {
            Ok(Message::Deposit { kind: ObjectKind::Manifest, object }) => self.manifest(block, object.to_vec()),
            Ok(Message::Deposit { kind, object }) => {
                let object = Verified::hash(object);
                let stored = match self.store(kind, object) {
                    Ok(receipt) => {
                        self.stored(block, object.id(), &receipt)?;
                        true
                    }
                    Err(e) => {
                        self.not_stored(block, object.id(), e.denial(), e.to_string());
                        false
                    }
                };
                if stored { self.release(kind, object.id()) } else { Ok(()) }
            }
            Ok(Message::Asked(ids)) => {
                let answers: Vec<_> = ids.into_iter().map(|id| self.answer(id, turn)).collect();
                self.finish(block, Verdict::Accepted, answers);
                Ok(())
            }
            _ => {
                self.finish(block, Verdict::Refused, Vec::new());
                Ok(())
            }
        }
    }

    fn tell(&self, id: ObjectId, what: &str) {
        self.wires.tell(|| format!("    far: {} {what}", self.wires.called(&id)));
    }

    fn finish(&mut self, block: BlockId, verdict: Verdict, messages: Vec<Vec<u8>>) {
        match verdict {
            Verdict::Accepted => self.driver.accepted(block),
            Verdict::Refused => self.driver.refused(block),
            Verdict::Held => self.driver.busy(block),
        }
        for message in messages {
            self.outbox.send(&mut self.driver, message);
        }
    }

    fn answer(&mut self, id: ObjectId, turn: u64) -> Vec<u8> {
        match self.vault.receipt_for(id) {
            Some(receipt) => {
                self.book.receipt(id, receipt.encode());
                Message::Receipted(receipt)
            }
            None => Message::Denied { id, denial: Denial::Absent, text: "it is not here".into() },
        }
        .encode(turn)
    }

    fn manifest(&mut self, block: BlockId, bytes: Vec<u8>) -> Result<(), String> {
        let object = Verified::hash(&bytes);
        let id = object.id();
        match self.store(ObjectKind::Manifest, object) {
            Ok(receipt) => self.stored(block, id, &receipt),
            Err(DepositError::MissingPacks { missing }) => {
                let missing = missing.into_iter().collect();
                self.hold(block, HeldManifest { missing, is_strange: false, bytes });
                self.tell(id, "is held for its packs");
                self.finish(block, Verdict::Held, Vec::new());
                Ok(())
            }
            Err(DepositError::UnknownDepositor(_)) => {
                let mut messages = Vec::new();
                if self.held.contains_key(&block) && self.may_tell(id) {
                    let text = "its depositor is not known".into();
                    let denied = Message::Denied { id, denial: Denial::Away, text };
                    messages.push(denied.encode(self.driver.now().0));
                }
                self.hold(block, HeldManifest { missing: BTreeSet::new(), is_strange: true, bytes });
                self.tell(id, "is held for the card of its depositor");
                self.finish(block, Verdict::Held, messages);
                Ok(())
            }
            Err(e) => {
                self.not_stored(block, id, e.denial(), e.to_string());
                Ok(())
            }
        }
    }

    /// Stores an object; a vault whose drives went or came is opened anew once.
    fn store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        let now = self.driver.now();
        match self.try_store(kind, object) {
            Err(e) if e.denial() == Denial::Away && now.since(self.opened) >= REOPEN_EVERY => {
                self.opened = now;
                match (self.open)() {
                    Some(vault) => {
                        self.vault = vault;
                        self.try_store(kind, object)
                    }
                    None => Err(e),
                }
            }
            other => other,
        }
    }

    fn try_store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        let receipt = match kind {
            ObjectKind::Pack => self.vault.store(kind, object)?,
            ObjectKind::Manifest => self.vault.deposit_manifest(object.bytes())?,
            ObjectKind::DepositorCard => {
                self.book.card(object);
                self.vault.deposit_card(object.bytes())?
            }
        };
        self.book.receipt(object.id(), receipt.encode());
        Ok(receipt)
    }

    fn stored(&mut self, block: BlockId, id: ObjectId, receipt: &Receipt) -> Result<(), String> {
        self.tell(id, "is stored");
        self.disk.keep(block, id)?;
        self.finish(block, Verdict::Accepted, vec![Message::Receipted(receipt.clone()).encode(0)]);
        Ok(())
    }

    /// Whether it is time to tell the depositor that an object is held.
    fn may_tell(&mut self, id: ObjectId) -> bool {
        let at = self.driver.now();
        self.told.retain(|_, told| at.since(*told) < TELL_HELD_EVERY);
        let is_time = !self.told.contains_key(&id) && self.told.len() < TELL_HELD_MAX;
        if is_time {
            self.told.insert(id, at);
        }
        is_time
    }

    fn hold(&mut self, block: BlockId, manifest: HeldManifest) {
        if self.held.len() < HELD_MANIFESTS_MAX || self.held.contains_key(&block) {
            self.held.insert(block, manifest);
        }
    }

    /// Takes the manifests that this pack or card was the last to be missing for.
    fn release(&mut self, kind: ObjectKind, id: ObjectId) -> Result<(), String> {
        self.held.values_mut().for_each(|held| {
            held.missing.remove(&id);
            held.is_strange &= kind != ObjectKind::DepositorCard;
        });
        let is_whole = |held: &HeldManifest| held.missing.is_empty() && !held.is_strange;
        let whole: Vec<BlockId> = self.held.iter().filter(|(_, h)| is_whole(h)).map(|(id, _)| *id).collect();
        for block in whole {
            if let Some(held) = self.held.remove(&block) {
                self.manifest(block, held.bytes)?;
            }
        }
        Ok(())
    }

    /// What to do with an object that was not stored: hold it when that may change, else say so.
    fn not_stored(&mut self, block: BlockId, id: ObjectId, denial: Denial, text: String) {
        if matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
            self.tell(id, &format!("is held: {text}"));
            let mut messages = Vec::new();
            if self.may_tell(id) {
                messages.push(Message::Denied { id, denial, text }.encode(self.driver.now().0));
            }
            return self.finish(block, Verdict::Held, messages);
        }
        self.tell(id, &format!("is refused: {text}"));
        self.finish(block, Verdict::Refused, vec![Message::Denied { id, denial, text }.encode(0)]);
    }
}

/// Manifests held in memory beside what the link holds of them.
const HELD_MANIFESTS_MAX: usize = 4;
const TELL_HELD_EVERY: Duration = Duration::from_secs(600);
const TELL_HELD_MAX: usize = 64;
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// How much too early a planted bug accepts.
const EARLY: Duration = Duration::from_secs(2);
