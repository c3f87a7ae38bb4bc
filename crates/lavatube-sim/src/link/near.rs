//! The near end: drains the simulated spool over the link. Steps 7 and 17 of the walk.
//!
//! It must do what `lavatube_node::near_end` does for deposits, in the same order, so that what is learnt here holds there;
//! there is no desk, no waybill and no diode. It must not know crashes: they unwind through it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::limits::{ASKED_MAX, CARD_LEN_MAX};
use lavatube_base::{Denial, Instant, ObjectId, Refusal, Verified};
use lavatube_client::far::{ReceiptBytes, Signer};
use lavatube_client::ledger::{self, LedgerError};
use lavatube_client::spool::{Spool, SpoolKind};
use lavatube_client::state::{State, read_all};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::message::Message;
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Event, Line};

use super::disk::LinkDisk;
use super::driver::{Driver, Outbox};
use super::sky::Sky;
use crate::invariants::carried::Watch;
use crate::sabotage::Sabotage;
use crate::seams::spool::SimSpool;
use crate::seams::state::SimState;
use crate::wires::Wires;

/// Where an object of the spool is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// On its way, as the block of this name.
    UnderWay(u64),
    /// The other end has it, and its receipt is awaited since then.
    Awaited(Instant),
    /// It cannot be sent, because of this.
    Stuck(String),
}

/// One life of the near end.
pub struct Near {
    /// What it is turned on.
    pub driver: Driver,
    outbox: Outbox,
    spool: SimSpool,
    state: SimState,
    signer: Signer,
    queue: VecDeque<(SpoolKind, ObjectId)>,
    /// What was in the spool when it was looked at, as `DirectorySpool` remembers it.
    listed: BTreeSet<ObjectId>,
    objects: BTreeMap<ObjectId, Progress>,
    keys: BTreeMap<u64, (SpoolKind, ObjectId, u64)>,
    leaves: BTreeMap<ObjectId, Vec<ObjectId>>,
    follows: BTreeMap<ObjectId, Vec<ObjectId>>,
    /// For how long a manifest has waited for one that lags behind its packs.
    waited: BTreeMap<ObjectId, Duration>,
    listed_at: Option<Instant>,
    question: Option<u64>,
    receipts: BTreeMap<ObjectId, Receipt>,
    /// Names of cards that were sent.
    cards: BTreeSet<String>,
    /// What an earlier life began to send, as far as this one has not.
    begun: BTreeSet<ObjectId>,
    disk: LinkDisk,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
}

impl Near {
    /// The near end of a machine's `spool` and `state`.
    ///
    /// # Errors
    /// When the state fails.
    pub fn open(
        driver: Driver,
        disk: &LinkDisk,
        spool: &SimSpool,
        state: &SimState,
        signer: Signer,
        wires: &Arc<Wires>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, String> {
        let mut end = Self {
            begun: disk.begun(),
            disk: disk.clone(),
            driver,
            outbox: Outbox::default(),
            spool: spool.clone(),
            state: state.clone(),
            signer,
            queue: VecDeque::new(),
            listed: BTreeSet::new(),
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            leaves: BTreeMap::new(),
            follows: BTreeMap::new(),
            waited: BTreeMap::new(),
            listed_at: None,
            question: None,
            receipts: BTreeMap::new(),
            cards: BTreeSet::new(),
            wires: wires.clone(),
            sabotage,
        };
        end.introduce()?;
        Ok(end)
    }

    /// Does what there is to do.
    ///
    /// # Errors
    /// When the process must end.
    pub fn turn(&mut self, sky: &mut Sky, watch: &std::cell::RefCell<Watch>) -> Result<(), String> {
        self.driver.wake(sky);
        loop {
            while let Some(event) = self.driver.event()? {
                self.handle(event, watch)?;
            }
            let now = self.driver.now();
            if self.listed_at.is_none_or(|at| now.since(at) >= LIST_EVERY) {
                self.list()?;
                self.ask();
                if self.driver.status().line == Line::Open {
                    let lags = |id: &ObjectId| self.before(*id).any(|packs_wait| !packs_wait);
                    let lag: Vec<ObjectId> = self.leaves.keys().copied().filter(lags).collect();
                    lag.into_iter().for_each(|id| *self.waited.entry(id).or_default() += LIST_EVERY);
                }
            }
            let more = self.fill();
            if !self.driver.send(sky)? && !more {
                return Ok(());
            }
        }
    }

    /// When it wants to be turned, if nothing comes before: by its own clock. What is put into the spool is seen at the
    /// next look; while nothing is awaited or nobody answers, looking is not worth
    /// while.
    pub fn timeout(&mut self, sky: &Sky) -> Option<Instant> {
        let open = self.driver.status().line == Line::Open;
        let awaits = self.objects.values().any(|progress| matches!(progress, Progress::Awaited(_)));
        let lags = !self.queue.is_empty();
        let every = if open && (awaits || lags) { LIST_EVERY } else { DARK_EVERY };
        let look = self.listed_at.map_or(self.driver.now(), |at| at + every);
        Some(self.driver.timeout(sky).map_or(look, |at| at.min(look)))
    }

    /// The process ends in order.
    pub fn close(self) {
        self.driver.close();
    }

    /// How it is, for people.
    pub fn account(&self) -> String {
        let status = self.driver.status();
        let mut text = format!("the line is {:?}, {} wait", status.line, self.queue.len());
        text += &format!(", {:?}", status.outgoing);
        self.objects.values().for_each(|progress| text += &format!(", {progress:?}"));
        text
    }

    fn tell(&self, id: ObjectId, what: &str) {
        self.wires.tell(|| format!("    near: {} {what}", self.wires.called(&id)));
    }

    fn introduce(&mut self) -> Result<(), String> {
        for name in self.state.list("cards/").map_err(|e| e.to_string())? {
            if self.cards.contains(&name) {
                continue;
            }
            let Ok(Some(card)) = read_all(&self.state, &name, CARD_LEN_MAX as u64) else { continue };
            let message = Message::Deposit { kind: ObjectKind::DepositorCard, object: &card };
            if self.outbox.send(&mut self.driver, message.encode(0)).is_some() {
                self.cards.insert(name);
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), String> {
        self.listed_at = Some(self.driver.now());
        self.introduce()?;
        let all = self.spool.list().map_err(|e| e.to_string())?;
        let here: BTreeSet<ObjectId> = all.iter().map(|(_, id)| *id).collect();
        self.disk.retain_begun(&here);
        self.begun.retain(|id| here.contains(id));
        self.objects.retain(|id, _| here.contains(id));
        self.leaves.retain(|id, _| here.contains(id));
        self.waited.retain(|id, _| here.contains(id));
        let manifests: Vec<ObjectId> =
            all.iter().filter(|(kind, _)| *kind == SpoolKind::Manifest).map(|(_, id)| *id).collect();
        for id in &manifests {
            if !self.leaves.contains_key(id) {
                let bytes = self.spool.get(SpoolKind::Manifest, *id).unwrap_or_default();
                let signed = SignedManifest::decode(&bytes).ok();
                let follows = signed.as_ref().map(|s| s.manifest.follows().collect());
                self.follows.insert(*id, follows.unwrap_or_default());
                let leaves = signed.map(|s| s.manifest.leaves.iter().map(|leaf| leaf.id()).collect());
                self.leaves.insert(*id, leaves.unwrap_or_default());
            }
        }
        let mut seen: BTreeSet<ObjectId> = self.objects.keys().copied().collect();
        self.queue.clear();
        for manifest in manifests {
            let packs = self.leaves.get(&manifest).into_iter().flatten().filter(|id| here.contains(id));
            let packs = packs.map(|id| (SpoolKind::Pack, *id));
            self.queue.extend(packs.chain([(SpoolKind::Manifest, manifest)]).filter(|(_, id)| seen.insert(*id)));
        }
        self.queue.extend(all.iter().filter(|(_, id)| seen.insert(*id)));
        self.listed = here;
        Ok(())
    }

    /// Of the manifests that `id` follows and that are not there yet: whether they, or some pack of theirs, wait.
    fn before(&self, id: ObjectId) -> impl Iterator<Item = bool> + '_ {
        let follows = self.follows.get(&id).into_iter().flatten();
        follows.filter_map(|before| {
            let comes = matches!(self.objects.get(before), None | Some(Progress::UnderWay(_)));
            let packs = self.leaves.get(before).filter(|_| comes)?;
            let is_stuck = |pack: &ObjectId| matches!(self.objects.get(pack), Some(Progress::Stuck(_)));
            let is_sent = self.objects.contains_key(before);
            (!packs.iter().any(is_stuck)).then(|| !is_sent || packs.iter().any(|pack| self.listed.contains(pack)))
        })
    }

    /// Whether a manifest waits for one that it follows.
    fn waits(&self, id: ObjectId) -> bool {
        let waited = self.waited.get(&id).copied().unwrap_or_default();
        self.before(id).any(|packs_wait| packs_wait || waited < LAGS_MAX)
    }

    fn fill(&mut self) -> bool {
        let under_way: u64 = self.keys.values().map(|(_, _, len)| len).sum();
        if self.keys.len() >= WINDOW_BLOCKS || under_way >= WINDOW_LEN {
            return false;
        }
        let waits = |(kind, id): &(SpoolKind, ObjectId)| *kind == SpoolKind::Manifest && self.waits(*id);
        let next = self.queue.iter().position(|object| !waits(object)).and_then(|at| self.queue.remove(at));
        let Some((kind, id)) = next else { return false };
        let bytes = match self.spool.get(kind, id) {
            Ok(bytes) => bytes,
            Err(e) => {
                self.objects.insert(id, Progress::Stuck(e.to_string()));
                return true;
            }
        };
        let Some(object) = Verified::check(&bytes, id) else {
            self.objects.insert(id, Progress::Stuck("it is not what it was".into()));
            return true;
        };
        let message = Message::Deposit { kind: kind.object_kind(), object: object.bytes() }.encode(0);
        let key = self.outbox.key();
        let resumed = self.begun.remove(&id);
        if self.driver.submit(key, OBJECTS, &message, resumed) {
            self.keys.insert(key, (kind, id, message.len() as u64));
            self.objects.insert(id, Progress::UnderWay(key));
        }
        true
    }

    fn handle(&mut self, event: Event, watch: &std::cell::RefCell<Watch>) -> Result<(), String> {
        let now = self.driver.now();
        match event {
            Event::Wanted { key } => self.supply(key)?,
            Event::Delivered { key } => {
                if let Some((kind, id, _)) = self.keys.remove(&key) {
                    self.tell(id, "is delivered");
                    watch.borrow_mut().delivered(id);
                    if self.sabotage == Some(Sabotage::SpoolLetsGoUnreceipted) {
                        self.spool.remove(kind, id).map_err(|e| e.to_string())?;
                    }
                    self.objects.insert(id, Progress::Awaited(now));
                    if let Some(receipt) = self.receipts.get(&id).cloned() {
                        self.receipted(&receipt)?;
                    }
                }
                self.outbox.done(key);
            }
            Event::Refused { key } => {
                if let Some((_, id, _)) = self.keys.remove(&key) {
                    self.objects.entry(id).and_modify(|p| match p {
                        Progress::Stuck(_) => {}
                        other => *other = Progress::Stuck("the vault refuses it".into()),
                    });
                }
                self.outbox.done(key);
            }
            Event::Received { id, bytes, .. } => match Message::decode(&bytes) {
                Ok(Message::Receipted(receipt)) => {
                    self.receipts.insert(receipt.body.object, receipt.clone());
                    self.receipted(&receipt)?;
                    self.driver.accepted(id);
                }
                Ok(Message::Denied { id: object, denial, text }) => {
                    self.denied(object, denial, text);
                    self.driver.accepted(id);
                }
                _ => self.driver.refused(id),
            },
            Event::Spent { .. } | Event::Echoed { .. } | Event::ReserveCounters { .. } => {}
        }
        Ok(())
    }

    fn supply(&mut self, key: u64) -> Result<(), String> {
        if let Some(message) = self.outbox.message(key) {
            self.driver.supply(key, message);
            return Ok(());
        }
        let Some((kind, id, len)) = self.keys.get(&key).copied() else {
            self.driver.withdraw(key);
            return Ok(());
        };
        self.disk.begin(id)?;
        let bytes = if self.listed.contains(&id) { self.spool.get(kind, id).ok() } else { None };
        let message = bytes.map(|b| Message::Deposit { kind: kind.object_kind(), object: &b }.encode(0));
        match message.filter(|message| message.len() as u64 == len) {
            Some(message) => self.driver.supply(key, message),
            None => {
                self.driver.withdraw(key);
                self.keys.remove(&key);
                self.objects.remove(&id);
            }
        }
        Ok(())
    }

    fn receipted(&mut self, receipt: &Receipt) -> Result<(), String> {
        let id = receipt.body.object;
        let kind = match receipt.body.kind {
            ObjectKind::Pack => SpoolKind::Pack,
            ObjectKind::Manifest => SpoolKind::Manifest,
            ObjectKind::DepositorCard => return Ok(()),
        };
        if !self.listed.contains(&id) {
            self.tell(id, "is receipted, and does not wait");
            return Ok(());
        }
        match ledger::note(&self.state, &self.signer, kind, id, &ReceiptBytes(receipt.encode())) {
            Ok(()) => {}
            Err(LedgerError::Unfit { .. }) => return Ok(()),
            Err(e) => return Err(e.to_string()),
        }
        self.spool.remove(kind, id).map_err(|e| e.to_string())?;
        self.tell(id, "is receipted");
        self.listed.remove(&id);
        self.leaves.remove(&id);
        if let Some(Progress::UnderWay(key)) = self.objects.remove(&id) {
            self.keys.remove(&key);
            self.driver.withdraw(key);
        }
        if self.listed.is_empty() {
            self.listed_at = None;
        }
        Ok(())
    }

    fn denied(&mut self, id: ObjectId, denial: Denial, why: String) {
        self.tell(id, &format!("is denied: {why}"));
        let Some(progress) = self.objects.get(&id) else { return };
        if denial == Denial::Absent {
            // It is sent again. What crosses just now was not there when it was asked for.
            if matches!(progress, Progress::Awaited(_)) {
                self.objects.remove(&id);
            }
            return;
        }
        // It is stored once it can be.
        if !matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
            self.objects.insert(id, Progress::Stuck(why));
        }
    }

    fn ask(&mut self) {
        if self.question.is_some_and(|key| self.outbox.has(key)) {
            return;
        }
        let round_trip = self.driver.status().light.unwrap_or_default() * 2;
        let now = self.driver.now();
        let late = |p: &&mut Progress| matches!(p, Progress::Awaited(at) if now.since(*at) >= PATIENCE + round_trip);
        let mut ids = Vec::new();
        for (id, progress) in self.objects.iter_mut().filter(|(_, p)| late(p)).take(ASKED_MAX) {
            self.wires.tell(|| format!("    near: {} is asked for", self.wires.called(id)));
            ids.push(*id);
            *progress = Progress::Awaited(now);
        }
        if !ids.is_empty() {
            let question = Message::Asked(ids).encode(now.0);
            self.question = self.outbox.send(&mut self.driver, question);
        }
    }
}

/// Priority of objects that are not urgent: messages go before them.
const OBJECTS: u8 = 2;
/// Blocks that are on their way at a time, and their bytes: fewer than in a real node, so that the window fills.
const WINDOW_BLOCKS: usize = 8;
const WINDOW_LEN: u64 = 1 << 30;
const LIST_EVERY: Duration = Duration::from_secs(2);
const LAGS_MAX: Duration = Duration::from_secs(900);
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the spool is looked at while nothing can be sent.
const DARK_EVERY: Duration = Duration::from_secs(60);
