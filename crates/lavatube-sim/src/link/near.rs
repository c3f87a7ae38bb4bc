//! The near end: drains the simulated spool over the link, and does what lies on the desk. Steps 7, 17, 19 and 20 of the walk.
//!
//! It must do what `lavatube_node::near_end` does, in the same order, so that what is learnt here holds there; there is no
//! waybill, and nothing travels on disks. It must not know crashes: they unwind through it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lavatube_base::limits::{ASKED_MAX, CARD_LEN_MAX};
use lavatube_base::{BlockId, Denial, Instant, ObjectId, Refusal, Verified};
use lavatube_client::cards::{CARDS, Cards};
use lavatube_client::clerk::Clerk;
use lavatube_client::far::{ReceiptBytes, Signer};
use lavatube_client::ledger::{self, LedgerError};
use lavatube_client::order::{Before, Order};
use lavatube_client::receipts::Receipts;
use lavatube_client::sent::Sent;
use lavatube_client::spool::{Spool, SpoolKind};
use lavatube_client::state::{State, read_all};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::message::Message;
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Block, Carrier, ContactPlan, Event, Line, Outbox};

use super::disk::LinkDisk;
use super::driver::{Counter, Driver};
use super::sky::Sky;
use super::weather::Weather;
use crate::invariants::carried::{Passed, Watch};
use crate::sabotage::Sabotage;
use crate::seams::desk::SimDesk;
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
    /// It was sent to where no word comes back, as often as it is to be for now.
    Sent,
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
    needs: BTreeMap<ObjectId, Vec<ObjectId>>,
    order: Order,
    plan: ContactPlan,
    /// Where no word comes back: what was sent.
    sent: Option<Sent>,
    listed_at: Option<Instant>,
    question: Option<u64>,
    receipts: Receipts,
    cards: Cards,
    /// What is wanted of the vault.
    clerk: Clerk<SimDesk>,
    /// What an earlier life began to send, as far as this one has not.
    begun: BTreeSet<ObjectId>,
    disk: LinkDisk,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
}

/// What the machine of a near end has.
pub struct Machine<'m> {
    /// Of its link.
    pub disk: &'m LinkDisk,
    /// What waits.
    pub spool: &'m SimSpool,
    /// Of the vault.
    pub state: &'m SimState,
    /// What is wanted.
    pub desk: &'m SimDesk,
    /// Whose receipts count.
    pub signer: Signer,
}

impl Near {
    /// The near end of a machine.
    ///
    /// # Errors
    /// When the state fails.
    pub fn open(
        driver: Driver,
        machine: &Machine<'_>,
        weather: &Weather,
        wires: &Arc<Wires>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, String> {
        let Machine { disk, spool, state, desk, signer } = *machine;
        let mut end = Self {
            plan: weather.plan(0),
            sent: weather.one_way.map(|one_way| disk.sent(u32::from(one_way.repeats) + 1)),
            clerk: Clerk::new(desk.clone()),
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
            needs: BTreeMap::new(),
            order: Order::default(),
            listed_at: None,
            question: None,
            receipts: Receipts::default(),
            cards: Cards::default(),
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
    pub fn turn(&mut self, sky: &mut Sky, watch: &RefCell<Watch>) -> Result<(), String> {
        self.driver.wake(sky);
        loop {
            while let Some(event) = self.driver.event()? {
                self.handle(event, watch)?;
            }
            let now = self.driver.now();
            self.clerk.turn(&mut Counter { link: &mut self.driver, outbox: &mut self.outbox }, now)?;
            if self.listed_at.is_none_or(|at| now.since(at) >= LIST_EVERY) {
                self.list()?;
                self.ask();
                if self.driver.state().line == Line::Open {
                    let mut order = std::mem::take(&mut self.order);
                    order.pass(LIST_EVERY, |_, before| self.before(before));
                    self.order = order;
                }
            }
            let more = self.fill(watch);
            if !self.driver.send(sky)? && !more {
                return Ok(());
            }
        }
    }

    /// When it wants to be turned, if nothing comes before: by its own clock. What is put into the spool is seen at the
    /// next look; while nothing is awaited or nobody answers, looking is not worth
    /// while.
    pub fn timeout(&mut self, sky: &Sky) -> Option<Instant> {
        let open = self.driver.state().line == Line::Open;
        let awaits =
            !self.clerk.is_idle() || self.objects.values().any(|progress| matches!(progress, Progress::Awaited(_)));
        let lags = !self.queue.is_empty();
        let every = if open && (awaits || lags) { LIST_EVERY } else { DARK_EVERY };
        let look = self.listed_at.map_or(self.driver.now(), |at| at + every);
        Some(self.driver.timeout(sky).map_or(look, |at| at.min(look)))
    }

    /// How often something came for whoever reads.
    pub fn news(&self) -> u64 {
        self.clerk.news()
    }

    /// Where no word comes back: whether all that waits was sent as often as it is to be, the cards too.
    pub fn all_sent(&self) -> bool {
        self.listed_at.is_some()
            && self.queue.is_empty()
            && self.listed.iter().all(|id| self.sent.as_ref().is_some_and(|sent| !sent.is_due(*id, Instant(u64::MAX))))
            && self.driver.state().outgoing.is_empty()
    }

    /// The process ends in order.
    pub fn close(self) {
        self.driver.close();
    }

    /// How it is, for people.
    pub fn account(&self) -> String {
        let status = self.driver.state();
        let mut text = format!("the line is {:?}, {} wait", status.line, self.queue.len());
        text += &format!(", {:?}", status.outgoing.iter().take(4).collect::<Vec<_>>());
        self.objects.values().for_each(|progress| text += &format!(", {progress:?}"));
        text
    }

    fn tell(&self, id: ObjectId, what: &str) {
        self.wires.tell(|| format!("    near: {} {what}", self.wires.called(&id)));
    }

    fn introduce(&mut self) -> Result<(), String> {
        for name in self.state.list(CARDS).map_err(|e| e.to_string())? {
            if self.cards.has(&name) {
                continue;
            }
            let Ok(Some(card)) = read_all(&self.state, &name, CARD_LEN_MAX as u64) else { continue };
            let message = Message::Deposit { kind: ObjectKind::DepositorCard, object: &card };
            if let Some(key) = self.outbox.send(&mut self.driver, message.encode(0)) {
                self.cards.sent(&name, key, &card);
            }
        }
        Ok(())
    }

    fn list(&mut self) -> Result<(), String> {
        self.listed_at = Some(self.driver.now());
        self.introduce()?;
        let all = self.spool.list().map_err(|e| e.to_string())?;
        let here: BTreeSet<ObjectId> = all.iter().map(|(_, id)| *id).collect();
        let kinds: BTreeMap<ObjectId, SpoolKind> = all.iter().map(|(kind, id)| (*id, *kind)).collect();
        self.disk.retain_begun(&here);
        self.begun.retain(|id| here.contains(id));
        self.objects.retain(|id, _| here.contains(id));
        self.needs.retain(|id, _| here.contains(id));
        self.order.retain(&here);
        let manifests: Vec<ObjectId> =
            all.iter().filter(|(kind, _)| *kind == SpoolKind::Manifest).map(|(_, id)| *id).collect();
        for id in &manifests {
            if !self.needs.contains_key(id) {
                let bytes = self.spool.get(SpoolKind::Manifest, *id).unwrap_or_default();
                let signed = SignedManifest::decode(&bytes).ok();
                signed.iter().for_each(|signed| self.order.learn(*id, signed));
                let needs = signed.map(|s| s.manifest.needs().collect());
                self.needs.insert(*id, needs.unwrap_or_default());
            }
        }
        self.look_what_was_sent(&here)?;
        let mut seen: BTreeSet<ObjectId> = self.objects.keys().copied().collect();
        self.queue.clear();
        for manifest in manifests {
            let needs = self.needs.get(&manifest).into_iter().flatten();
            let needs = needs.filter_map(|id| kinds.get(id).map(|kind| (*kind, *id)));
            self.queue.extend(needs.chain([(SpoolKind::Manifest, manifest)]).filter(|(_, id)| seen.insert(*id)));
        }
        self.queue.extend(all.iter().filter(|(_, id)| seen.insert(*id)));
        self.listed = here;
        Ok(())
    }

    /// Where no word comes back, what was sent often enough for now is left, and a later contact takes it up again.
    fn look_what_was_sent(&mut self, here: &BTreeSet<ObjectId>) -> Result<(), String> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        if sent.retain(here) {
            self.disk.retain_sent(here);
        }
        let Some(contact) = self.plan.at(self.driver.now()) else { return Ok(()) };
        let mut repeats = false;
        for id in here {
            match (self.objects.get(id), sent.is_due(*id, contact.start)) {
                (None, false) => self.objects.insert(*id, Progress::Sent),
                (Some(Progress::Sent), true) => {
                    repeats = true;
                    self.objects.remove(id)
                }
                _ => None,
            };
        }
        if repeats {
            self.cards.again();
            self.introduce()?;
        }
        Ok(())
    }

    /// How it is with a manifest that another one follows.
    fn before(&self, before: ObjectId) -> Before {
        let comes = matches!(self.objects.get(&before), None | Some(Progress::UnderWay(_)));
        let Some(packs) = self.needs.get(&before).filter(|_| comes) else { return Before::Passed };
        // Where no word comes back, nobody knows what is there.
        let is_stuck = |pack: &ObjectId| matches!(self.objects.get(pack), Some(Progress::Stuck(_)));
        if self.sent.is_some() || packs.iter().any(is_stuck) {
            return Before::Passed;
        }
        let is_sent = self.objects.contains_key(&before);
        let lags = is_sent && !packs.iter().any(|pack| self.listed.contains(pack));
        if lags { Before::Lags } else { Before::Comes }
    }

    fn fill(&mut self, watch: &RefCell<Watch>) -> bool {
        let under_way: u64 = self.keys.values().map(|(_, _, len)| len).sum();
        if self.keys.len() >= WINDOW_BLOCKS || under_way >= WINDOW_LEN {
            return false;
        }
        let waits = |(kind, id): &(SpoolKind, ObjectId)| {
            *kind == SpoolKind::Manifest && self.order.waits(*id, |before| self.before(before))
        };
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
        if let Some(why) = self.cards.refusal(object.bytes()).filter(|_| kind == SpoolKind::Manifest) {
            self.objects.insert(id, Progress::Stuck(why.to_owned()));
            return true;
        }
        let message = Message::Deposit { kind: kind.object_kind(), object: object.bytes() }.encode(0);
        let key = self.outbox.key();
        let resumed = self.begun.remove(&id);
        if self.driver.submit(Block::of(key, OBJECTS, &message, resumed)).is_ok() {
            watch.borrow_mut().passes(Passed::Begun(id));
            self.keys.insert(key, (kind, id, message.len() as u64));
            self.objects.insert(id, Progress::UnderWay(key));
        }
        true
    }

    fn handle(&mut self, event: Event, watch: &RefCell<Watch>) -> Result<(), String> {
        let now = self.driver.now();
        match event {
            Event::Wanted { key } => self.supply(key)?,
            Event::Delivered { key } => {
                if let Some((kind, id, _)) = self.keys.remove(&key)
                    && !matches!(self.objects.get(&id), Some(Progress::Stuck(_)))
                {
                    self.tell(id, "is delivered");
                    watch.borrow_mut().delivered(id);
                    if self.sabotage == Some(Sabotage::SpoolLetsGoUnreceipted) {
                        self.spool.remove(kind, id).map_err(|e| e.to_string())?;
                    }
                    self.objects.insert(id, Progress::Awaited(now));
                    if let Some(receipt) = self.receipts.of(id) {
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
                if self.cards.refused_block(key).is_some() {
                    self.take_back_manifests();
                }
                self.clerk.refused(key);
                self.outbox.done(key);
            }
            Event::Received { id, bytes, .. } => self.message(id, &bytes)?,
            Event::Spent { key, one_in } => {
                self.spent(key, one_in, watch)?;
                self.outbox.done(key);
            }
            Event::Echoed { nonce, took } => self.clerk.echoed(nonce, took)?,
            Event::ReserveCounters { .. } => {}
        }
        Ok(())
    }

    /// A block was sent to where no word comes back.
    fn spent(&mut self, key: u64, one_in: u64, watch: &RefCell<Watch>) -> Result<(), String> {
        let now = self.driver.now();
        let Some((kind, id, _)) = self.keys.remove(&key) else { return Ok(()) };
        self.tell(id, "is sent");
        self.objects.insert(id, Progress::Sent);
        watch.borrow_mut().passes(Passed::Spent { id, one_in });
        if self.sabotage == Some(Sabotage::SpoolLetsGoWhenSent) {
            self.spool.remove(kind, id).map_err(|e| e.to_string())?;
        }
        if self.sabotage != Some(Sabotage::SentIsNotedEarly) {
            let contact = self.plan.at(now).map_or(now, |contact| contact.start);
            self.note_sent(id, contact)?;
        }
        Ok(())
    }

    fn note_sent(&mut self, id: ObjectId, contact: Instant) -> Result<(), String> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        let times = sent.note(id, contact);
        self.disk.note_sent(id, times, contact)
    }

    fn message(&mut self, id: BlockId, bytes: &[u8]) -> Result<(), String> {
        let now = self.driver.now();
        match Message::decode(bytes) {
            Ok(Message::Receipted(receipt)) => {
                self.receipts.keep(&receipt);
                self.receipted(&receipt)?;
                self.driver.accepted(id, now);
            }
            Ok(Message::Denied { id: object, denial, text }) => {
                self.denied(object, denial, text);
                self.driver.accepted(id, now);
            }
            Ok(Message::Parcel { request, parts }) => {
                // What cannot be put down is asked for again.
                let put = self.clerk.parcel(request, &parts, now);
                self.driver.accepted(id, now);
                if !put? {
                    // Whoever wanted it was killed: the rest need not come.
                    let nothing = Message::Fetch { request, parts: Vec::new() }.encode(now.0);
                    self.outbox.send(&mut self.driver, nothing);
                }
            }
            Ok(Message::Listed(page)) => {
                let put = self.clerk.listed(page, now);
                self.driver.accepted(id, now);
                put?;
            }
            Ok(Message::ReleaseTold { request, word }) => {
                let is_good = word.verify(self.signer.vault, &self.signer.key).is_ok();
                let put = if is_good { self.clerk.told_of_releases(request, &word) } else { Ok(()) };
                self.driver.accepted(id, now);
                put?;
            }
            _ => self.driver.refused(id, now),
        }
        Ok(())
    }

    fn supply(&mut self, key: u64) -> Result<(), String> {
        if let Some(message) = self.outbox.message(key) {
            let message = message.to_vec();
            self.driver.supply(key, message);
            return Ok(());
        }
        let Some((kind, id, len)) = self.keys.get(&key).copied() else {
            self.driver.withdraw(key);
            return Ok(());
        };
        self.disk.begin(id)?;
        if self.sabotage == Some(Sabotage::SentIsNotedEarly) {
            let now = self.driver.now();
            self.note_sent(id, self.plan.at(now).map_or(now, |contact| contact.start))?;
        }
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
        let Some(kind) = SpoolKind::of(receipt.body.kind) else { return Ok(()) };
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
        self.needs.remove(&id);
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
        // It is stored once it can be.
        if matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
            return;
        }
        let Some(progress) = self.objects.get(&id) else {
            if self.cards.denied(id, &why).is_some() {
                self.take_back_manifests();
            }
            return;
        };
        if denial == Denial::Absent {
            // It is sent again. What crosses just now was not there when it was asked for.
            if matches!(progress, Progress::Awaited(_)) {
                self.objects.remove(&id);
            }
            return;
        }
        self.objects.insert(id, Progress::Stuck(why));
    }

    /// A card was refused: manifests on their way are looked at again.
    fn take_back_manifests(&mut self) {
        let manifests = self.keys.iter().filter(|(_, (kind, ..))| *kind == SpoolKind::Manifest);
        for (key, id) in manifests.map(|(key, (_, id, _))| (*key, *id)).collect::<Vec<_>>() {
            self.keys.remove(&key);
            self.driver.withdraw(key);
            self.objects.remove(&id);
            self.queue.push_back((SpoolKind::Manifest, id));
        }
    }

    fn ask(&mut self) {
        if self.question.is_some_and(|key| self.outbox.has(key)) {
            return;
        }
        let round_trip = self.driver.state().light.unwrap_or_default() * 2;
        let (now, patience) = (self.driver.now(), self.driver.patience());
        let late = |p: &&mut Progress| matches!(p, Progress::Awaited(at) if now.since(*at) >= patience + round_trip);
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
/// How often the spool is looked at while nothing can be sent.
const DARK_EVERY: Duration = Duration::from_secs(60);
