//! The far end: takes deposits into the real vault and answers with receipts, and sends whoever reads what he asks for. Steps
//! 17 and 20 of the walk.
//!
//! It must do what `lavatube_node::far_end` does, in the same order, so that what is learnt here holds there; the worker is
//! the real one and works at once. It must not know crashes: they unwind through it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::{BlockId, Instant, ObjectId, Verified};
use lavatube_format::message::Message;
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Block, Carrier, Event, Outbox};
use lavatube_vault::Vault;
use lavatube_vault::parcels::Parcels;
use lavatube_vault::worker::{BlockDone, Done, Job, Verdict, Word, Worker, Workplace};

use super::disk::LinkDisk;
use super::driver::Driver;
use super::sky::Sky;
use crate::book::Book;
use crate::sabotage::Sabotage;
use crate::wires::Wires;

/// Opens the vault as it is now.
pub type Opener = Box<dyn Fn() -> Option<Vault>>;

/// The vault on simulated drives, and the list of what was stored.
struct House {
    vault: Vault,
    open: Opener,
    disk: LinkDisk,
    book: Arc<Book>,
    now: Instant,
}

impl Workplace for House {
    fn vault(&self) -> impl Deref<Target = Vault> {
        &self.vault
    }

    fn vault_mut(&mut self) -> impl DerefMut<Target = Vault> {
        &mut self.vault
    }

    fn reopen(&mut self) -> bool {
        (self.open)().map(|vault| self.vault = vault).is_some()
    }

    fn keep(&mut self, block: BlockId, object: ObjectId) {
        // Whoever dies now has stored it.
        if let Some(receipt) = self.vault.receipt_for(object) {
            self.book.receipt(object, receipt.encode());
        }
        let _ = self.disk.keep(block, object);
    }

    fn now(&self) -> Instant {
        self.now
    }
}

/// A parcel that was handed to the link.
struct Handed {
    id: BlockId,
    bytes: Option<Vec<u8>>,
}

/// One life of the far end.
pub struct Far {
    /// What it is turned on.
    pub driver: Driver,
    outbox: Outbox,
    worker: Worker<House>,
    parcels: Parcels,
    handed: BTreeMap<u64, Handed>,
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
        let now = driver.now();
        blocks.into_iter().for_each(|block| driver.accepted(block, now));
        let house = House { vault, open, disk: disk.clone(), book: book.clone(), now };
        Ok(Self {
            outbox: Outbox::default(),
            worker: Worker::new(house),
            parcels: Parcels::default(),
            handed: BTreeMap::new(),
            driver,
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
            self.block(block, bytes);
        }
        loop {
            while let Some(event) = self.driver.event()? {
                self.handle(event);
            }
            while let Some((key, parcel)) = self.parcels.next(|| self.outbox.key()) {
                self.work(Job::Parcel(key, parcel));
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

    fn handle(&mut self, event: Event) {
        let now = self.driver.now();
        match event {
            Event::Received { id, bytes, .. } if self.sabotage == Some(Sabotage::FarEndAcceptsEarly) => {
                self.driver.accepted(id, now);
                self.later.push((now + EARLY, id, bytes));
            }
            Event::Received { id, bytes, .. } => self.block(id, bytes),
            Event::Wanted { key } => self.supply(key),
            Event::Delivered { key } | Event::Refused { key } | Event::Spent { key, .. } => {
                self.outbox.done(key);
                self.parcels.done(key);
                self.handed.remove(&key);
            }
            Event::ReserveCounters { .. } | Event::Echoed { .. } => {}
        }
    }

    /// Does what a block asks for, and what can be done now that it is.
    fn block(&mut self, id: BlockId, bytes: Vec<u8>) {
        if let Ok(Message::Deposit { kind: ObjectKind::DepositorCard, object }) = Message::decode(&bytes) {
            self.book.card(Verified::hash(object));
        }
        self.work(Job::Block(id, bytes));
    }

    fn work(&mut self, job: Job) {
        self.worker.place().now = self.driver.now();
        for done in self.worker.do_all(job) {
            match done {
                Done::Block(done) => self.finish(done),
                Done::Parcel(key, bytes) => self.hand_over(key, bytes),
                // Nobody asks for one here.
                Done::Prove(..) => {}
            }
        }
    }

    fn supply(&mut self, key: u64) {
        if let Some(message) = self.outbox.message(key) {
            let message = message.to_vec();
            self.driver.supply(key, message);
        } else if let Some(bytes) = self.handed.get_mut(&key).and_then(|handed| handed.bytes.take()) {
            self.driver.supply(key, bytes);
        } else if let Some(parcel) = self.parcels.get(key).cloned() {
            self.work(Job::Parcel(key, parcel));
        } else {
            self.driver.withdraw(key);
        }
    }

    /// Hands a parcel to the link, or its bytes when the link has asked for them.
    fn hand_over(&mut self, key: u64, bytes: Vec<u8>) {
        // It was given up meanwhile.
        let Some(parcel) = self.parcels.get(key) else { return };
        let block = Block::of(key, if parcel.is_short { SHORT_PARCELS } else { PARCELS }, &bytes, false);
        match self.handed.get(&key) {
            Some(handed) if handed.id == block.id => self.driver.supply(key, bytes),
            Some(_) => {
                // The vault reads other than before: what is missing is asked for again.
                self.driver.withdraw(key);
                self.handed.remove(&key);
                self.parcels.done(key);
            }
            None => {
                let held: usize = self.handed.values().filter_map(|h| h.bytes.as_ref()).map(Vec::len).sum();
                let (id, keep) = (block.id, held + bytes.len() <= HANDED_LEN_MAX);
                self.handed.insert(key, Handed { id, bytes: keep.then_some(bytes) });
                if self.driver.submit(block).is_err() {
                    self.handed.remove(&key);
                    self.parcels.done(key);
                }
            }
        }
    }

    fn finish(&mut self, done: BlockDone) {
        let now = self.driver.now();
        match done.verdict {
            Verdict::Accepted => self.driver.accepted(done.block, now),
            Verdict::Refused => self.driver.refused(done.block, now),
            Verdict::Held => self.driver.busy(done.block, now),
        }
        for message in done.messages {
            if let Ok(Message::Receipted(receipt)) = Message::decode(&message) {
                self.book.receipt(receipt.body.object, receipt.encode());
            }
            // One that finds no room is asked for again.
            self.outbox.send(&mut self.driver, message);
        }
        if let Some((request, turn, parts)) = done.fetch {
            self.wires.tell(|| format!("    far: request {request} is for {} parts", parts.len()));
            for key in self.parcels.ask(request, turn, &parts) {
                self.driver.withdraw(key);
                self.handed.remove(&key);
                self.parcels.done(key);
            }
        }
        done.told.into_iter().for_each(|word| self.tell(word));
    }

    fn tell(&self, word: Word) {
        let called = |id| self.wires.called(&id);
        self.wires.tell(|| match word {
            Word::Stored { id, .. } => format!("    far: {} is stored", called(id)),
            Word::Held { id, why } | Word::NotNow { id, why } => format!("    far: {} is held: {why}", called(id)),
            Word::Denied { id, why } => format!("    far: {} is refused: {why}", called(id)),
            Word::Mandate(text) => format!("    far: {text}"),
            Word::Nonsense(why) => format!("    far: nonsense: {why}"),
        });
    }
}

/// Priority of parcels: receipts go before them, and short requests before long ones.
const SHORT_PARCELS: u8 = 1;
const PARCELS: u8 = 2;
/// Bytes of parcels that wait in memory until the link wants them: fewer than in a real node, so that some are read again.
const HANDED_LEN_MAX: usize = 64 << 10;
/// How much too early a planted bug accepts.
const EARLY: Duration = Duration::from_secs(2);
