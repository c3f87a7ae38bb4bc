//! The near end of a link: drains the spool of a depositing machine to a far vault, until it is told to stop.
//!
//! It holds neither the lock of the state nor that of a vault: backups put into the spool meanwhile. It alone lets go of what is in
//! there, and it alone writes the ledger; a lock of its own sees to that. A snapshot's packs go before its manifest, and one
//! snapshot before the next, so that the first is whole as early as can be. Steps 7 and 17 of the walk. It
//! must not know what objects hold.

mod again;
mod answers;
mod logged;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lavatube_base::{Instant, ObjectId, Verified};
use lavatube_client::cards::{CARDS, Cards};
use lavatube_client::clerk::{Clerk, Post, Sight};
use lavatube_client::courier::CourierError;
use lavatube_client::far::Signer;
use lavatube_client::order::{Before, Order};
use lavatube_client::receipts::Receipts;
use lavatube_client::spool::{Spool, SpoolKind};
use lavatube_client::state::{State, read_all};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::message::Message;
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Block, Carrier, ContactPlan, Event, Line, Outbox};
use lavatube_seal::LinkEnd;

use crate::begun::Begun;
use crate::carrier::Driver;
use crate::depositor::{Places, spool_folder, state_folder};
use crate::directory_desk::DirectoryDesk;
use crate::directory_spool::DirectorySpool;
use crate::directory_state::DirectoryState;
use crate::far_end::{Last, Listener, Run};
use crate::link_folder::{LinkError, Pairing, io_error};
use crate::lock::{Lock, Mode};
use crate::queue::{self, Waiting};
use crate::seed;
use crate::sent::SentFile;
use crate::told::Told;
use crate::waybill::{self, Priority, Waybill};
use again::Again;
use logged::LogAsking;

/// Drains the spool over the link of `places.vault` until `run.stop` is set or, with `once`, nothing waits any more.
///
/// # Errors
/// [`LinkError`] when it is not paired, in use, or its disk fails; with `once`, when something is left that cannot be sent.
pub fn drain(places: &Places, run: &Run<'_>, once: bool, listener: &mut dyn Listener) -> Result<(), LinkError> {
    let driver = |pairing: &Pairing| Driver::open(pairing, run.listen, run.peer);
    NearEnd::open(places, run.wait, driver, listener)?.run(run, once, listener)
}

/// Does what commands want of the vault over the link of `places.vault`, and sends nothing that waits, until `run.stop` is
/// set: for a command that reads, where no daemon runs.
///
/// # Errors
/// As [`drain`].
pub fn run_errands(places: &Places, run: &Run<'_>, listener: &mut dyn Listener) -> Result<(), LinkError> {
    let driver = |pairing: &Pairing| Driver::open(pairing, run.listen, run.peer);
    let mut end = NearEnd::open(places, run.wait, driver, listener)?;
    end.deposits = false;
    end.run(run, false, listener)
}

/// Where an object of the spool is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// On its way, as the block of this name.
    UnderWay(u64),
    /// The other end has it, and its receipt is awaited since then.
    Awaited(Instant),
    /// The other end had it and could not store it then; its receipt is awaited since then.
    Held(Instant),
    /// It travels on a disk, and was last asked for then.
    Travels(Option<Instant>),
    /// It was sent to where no word comes back, as often as it is to be for now.
    Sent,
    /// It cannot be sent, because of this.
    Stuck(String),
    /// It cannot be read, or is not what it was, and was last looked at then.
    Unfit(String, Instant),
    /// Its receipt is home, and could not be noted.
    Unnoted,
}

/// The link and its outbox, as the clerk sees them.
struct Counter<'e> {
    link: &'e mut dyn Carrier,
    outbox: &'e mut Outbox,
}

impl Post for Counter<'_> {
    fn send(&mut self, message: Vec<u8>) -> Option<u64> {
        self.outbox.send(self.link, message)
    }

    fn has(&self, key: u64) -> bool {
        self.outbox.has(key)
    }

    fn ping(&mut self, nonce: u64) {
        self.link.ping(nonce);
    }

    fn patience(&self) -> Duration {
        self.link.patience()
    }

    fn look(&self, now: Instant) -> Sight {
        let status = self.link.status(now);
        let incoming = status.incoming.iter().map(|block| (block.id, block.held)).collect();
        Sight { is_open: status.line == Line::Open, light: status.light, incoming }
    }
}

/// The near end itself, to be turned.
pub(crate) struct NearEnd {
    /// What it is turned on.
    pub driver: Driver,
    outbox: Outbox,
    spool_folder: PathBuf,
    spool: Option<DirectorySpool>,
    state: DirectoryState,
    signer: Signer,
    /// What waits and is not on its way, in order.
    queue: VecDeque<(SpoolKind, ObjectId)>,
    objects: BTreeMap<ObjectId, Progress>,
    /// Blocks on their way: object, and its bytes.
    keys: BTreeMap<u64, (SpoolKind, ObjectId, u64)>,
    /// The packs of the manifests that wait.
    needs: BTreeMap<ObjectId, Vec<ObjectId>>,
    order: Order,
    cards: Cards,
    receipts: Receipts,
    again: Again,
    /// What is known of them.
    waybills: BTreeMap<ObjectId, Waybill>,
    /// How urgent the packs of those are that are so.
    urgency: BTreeMap<ObjectId, Priority>,
    /// Lengths of what waits.
    lens: BTreeMap<ObjectId, u64>,
    plan: ContactPlan,
    /// Where no word comes back: what was sent.
    sent: Option<SentFile>,
    listed_at: Option<Instant>,
    /// The question that is on its way.
    question: Option<u64>,
    /// What an earlier life may have sent in part, and what this one does.
    begun: Begun,
    /// How many objects were last said to wait.
    said: usize,
    /// Nothing waits any more, and the other end is given until then to hear that its last receipts are home.
    lingers: Option<Instant>,
    /// Whether what waits is sent.
    deposits: bool,
    /// What commands want of the vault.
    clerk: Clerk<DirectoryDesk>,
    /// How the vault's log is asked for.
    log: LogAsking,
    last: Last,
    _lock: Lock,
}

impl NearEnd {
    /// The near end of the link of `places.vault`. The driver is made once nobody else has one: it takes counters.
    pub fn open(
        places: &Places,
        wait: Duration,
        driver: impl FnOnce(&Pairing) -> Result<Driver, LinkError>,
        listener: &mut dyn Listener,
    ) -> Result<Self, LinkError> {
        let pairing = Pairing::open(&places.vault)?;
        if pairing.end() != LinkEnd::Depositor {
            return Err(LinkError::VaultHere(places.vault.clone()));
        }
        let lock = Lock::acquire(&pairing.own_folder()?.join("lock"), COMMAND, Mode::Exclusive, wait)?;
        let folder = state_folder(places, pairing.vault());
        let state = DirectoryState::open(&folder).map_err(|e| io_error(&folder, &e))?;
        let driver = driver(&pairing)?;
        let path = pairing.own_folder()?.join("begun");
        let begun = Begun::open(path.clone()).map_err(|e| io_error(&path, &e))?;
        if let Some(address) = driver.address() {
            listener.told(Told::Listening(address));
        }
        let mut end = Self {
            driver,
            outbox: Outbox::default(),
            spool_folder: spool_folder(&folder),
            spool: None,
            state,
            signer: pairing.signer(),
            queue: VecDeque::new(),
            objects: BTreeMap::new(),
            keys: BTreeMap::new(),
            needs: BTreeMap::new(),
            order: Order::default(),
            cards: Cards::default(),
            receipts: Receipts::default(),
            again: Again::default(),
            waybills: BTreeMap::new(),
            urgency: BTreeMap::new(),
            lens: BTreeMap::new(),
            plan: pairing.plan()?,
            sent: open_sent(&pairing)?,
            listed_at: None,
            question: None,
            begun,
            said: 0,
            lingers: None,
            deposits: true,
            clerk: Clerk::new(DirectoryDesk::open(&folder).map_err(|e| io_error(&folder, &e))?),
            log: LogAsking::default(),
            last: Last::default(),
            _lock: lock,
        };
        end.introduce()?;
        Ok(end)
    }

    fn run(&mut self, run: &Run<'_>, once: bool, listener: &mut dyn Listener) -> Result<(), LinkError> {
        while !run.stop.load(Ordering::Relaxed) {
            let Some(wait) = self.turn(once, listener)? else { break };
            self.driver.pump(wait)?;
        }
        listener.status(&self.driver.status());
        self.driver.keep_floor()
    }

    /// From now on only does what commands want of the vault.
    pub fn only_reads(&mut self) {
        (self.deposits, self.lingers) = (false, None);
    }

    /// How often something came for commands that read.
    pub fn news(&self) -> u64 {
        self.clerk.news()
    }

    /// Does what there is to do: for how long the driver may wait then, or `None` when, with `once`, all is over.
    pub fn turn(&mut self, once: bool, listener: &mut dyn Listener) -> Result<Option<Duration>, LinkError> {
        while let Some(event) = self.driver.event() {
            self.handle(event, listener)?;
        }
        let now = self.driver.now();
        if let Some(until) = self.lingers {
            return Ok((now < until).then_some(LINGER_WAIT));
        }
        let turned = self.clerk.turn(&mut Counter { link: self.driver.link(), outbox: &mut self.outbox }, now);
        if turned.is_err() {
            self.was_put(turned, listener);
        }
        self.ask_for_log(listener);
        if self.deposits && self.listed_at.is_none_or(|at| now.since(at) >= LIST_EVERY) {
            self.list(listener)?;
            self.ask();
            if self.driver.status().line == Line::Open {
                let mut order = std::mem::take(&mut self.order);
                order.pass(LIST_EVERY, |id, before| self.before(id, before));
                self.order = order;
            }
            if let Some(why) = self.log.alarm().filter(|_| once && self.clerk.is_idle()) {
                return Err(LinkError::LogAlarm(why));
            }
            if once && self.clerk.is_idle() && self.is_over()? && !self.is_log_awaited() {
                self.lingers = Some(now + LINGER);
                return Ok(Some(LINGER_WAIT));
            }
        }
        let more = self.fill(listener)?;
        self.last.tell(&mut self.driver, listener);
        Ok(Some(if more { Duration::ZERO } else { IDLE_WAIT }))
    }

    /// Sends this machine's cards first, those that are new: a vault takes no manifest from a depositor it does not know.
    fn introduce(&mut self) -> Result<(), LinkError> {
        for name in self.state.list(CARDS).map_err(|e| io_error(self.state.folder(), &e))? {
            if self.cards.has(&name) {
                continue;
            }
            let Ok(Some(card)) = read_all(&self.state, &name, CARD_LEN_MAX) else { continue };
            let message = Message::Deposit { kind: ObjectKind::DepositorCard, object: &card };
            if let Some(key) = self.outbox.send(self.driver.link(), message.encode(0)) {
                self.cards.sent(&name, key, &card);
            }
        }
        Ok(())
    }

    /// Looks what waits.
    fn list(&mut self, listener: &mut dyn Listener) -> Result<(), LinkError> {
        self.listed_at = Some(self.driver.now());
        self.introduce()?;
        self.spool = DirectorySpool::beside(&self.spool_folder).map_err(CourierError::from)?;
        self.try_again(listener)?;
        let Some(spool) = &self.spool else { return Ok(()) };
        let all = spool.list().map_err(CourierError::from)?;
        let here: BTreeSet<ObjectId> = all.iter().map(|(_, id)| *id).collect();
        let kinds: BTreeMap<ObjectId, SpoolKind> = all.iter().map(|(kind, id)| (*id, *kind)).collect();
        // Where it cannot be written, some bytes of the link are lost.
        let _ = self.begun.retain(&here);
        self.again.retain(&here);
        self.objects.retain(|id, _| here.contains(id));
        self.needs.retain(|id, _| here.contains(id));
        self.order.retain(&here);
        self.waybills.retain(|id, _| here.contains(id));
        self.lens.retain(|id, _| here.contains(id));
        let mut manifests: Vec<ObjectId> = spool.waiting(SpoolKind::Manifest).collect();
        for id in &manifests {
            if !self.waybills.contains_key(id)
                && let Some(waybill) = waybill::read(self.state.folder(), *id)
            {
                self.waybills.insert(*id, waybill);
            }
            if !self.needs.contains_key(id)
                && let Ok(bytes) = spool.get(SpoolKind::Manifest, *id)
            {
                let signed = SignedManifest::decode(&bytes).ok();
                signed.iter().for_each(|signed| self.order.learn(*id, signed));
                let needs = signed.map(|s| s.manifest.needs().collect());
                self.needs.insert(*id, needs.unwrap_or_default());
            }
        }
        for (_, id) in &all {
            if !self.lens.contains_key(id) {
                self.lens.insert(*id, spool.len(*id).ok().flatten().unwrap_or(0));
            }
        }
        // What travels on a disk is asked for now and then, and not sent; when it travels no more, it is.
        let travels = seed::travelling(&self.state)?;
        self.objects.retain(|id, progress| !matches!(progress, Progress::Travels(_)) || travels.contains(id));
        for id in travels.intersection(&here) {
            self.objects.entry(*id).or_insert(Progress::Travels(None));
        }
        self.look_what_was_sent(&here)?;
        // A session that is whole, then the next, more urgent ones before others; what belongs to none yet comes last.
        let urgency = |id: &ObjectId| self.waybills.get(id).map_or(Priority::Normal, |waybill| waybill.priority);
        manifests.sort_by_key(urgency);
        self.urgency.clear();
        for id in manifests.iter().rev() {
            let packs = self.needs.get(id).into_iter().flatten();
            self.urgency.extend(packs.chain([id]).map(|object| (*object, urgency(id))));
        }
        self.tell_queue(&manifests, &all, listener);
        self.tell_stuck(listener);
        let mut seen: BTreeSet<ObjectId> = self.objects.keys().copied().collect();
        self.queue.clear();
        for manifest in manifests {
            let needs = self.needs.get(&manifest).into_iter().flatten();
            let needs = needs.filter_map(|id| kinds.get(id).map(|kind| (*kind, *id)));
            self.queue.extend(needs.chain([(SpoolKind::Manifest, manifest)]).filter(|(_, id)| seen.insert(*id)));
        }
        self.queue.extend(all.iter().filter(|(_, id)| seen.insert(*id)));
        if here.len() > self.said {
            listener.told(Told::Waiting(here.len()));
        }
        self.said = here.len();
        Ok(())
    }

    /// Where no word comes back, what was sent often enough for now is left, and a later contact takes it up again.
    fn look_what_was_sent(&mut self, here: &BTreeSet<ObjectId>) -> Result<(), LinkError> {
        let Some(sent) = &mut self.sent else { return Ok(()) };
        let _ = sent.retain(here);
        let now = self.driver.now();
        let Some(contact) = self.plan.at(now) else { return Ok(()) };
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
            // What is repeated is worth nothing to a vault that the card has not reached either.
            self.cards.again();
            self.introduce()?;
        }
        Ok(())
    }

    /// Tells what waits, by session in the order of sending.
    fn tell_queue(&self, manifests: &[ObjectId], all: &[(SpoolKind, ObjectId)], listener: &mut dyn Listener) {
        let len = |id: &ObjectId| self.lens.get(id).copied().unwrap_or(0);
        let mut left: BTreeSet<ObjectId> = all.iter().map(|(_, id)| *id).collect();
        let mut session = |manifest: Option<ObjectId>, objects: Vec<ObjectId>| {
            let here: Vec<_> = objects.into_iter().filter(|id| left.remove(id)).collect();
            let waybill = manifest.and_then(|id| self.waybills.get(&id).cloned());
            let (objects, len) = (here.len() as u64, here.iter().map(len).sum());
            Waiting { manifest, waybill, objects, len, there_at: None }
        };
        let mut queue: Vec<Waiting> = manifests
            .iter()
            .map(|id| session(Some(*id), self.needs.get(id).into_iter().flatten().chain([id]).copied().collect()))
            .collect();
        let rest = session(None, all.iter().map(|(_, id)| *id).collect());
        queue.extend(Some(rest).filter(|rest| rest.objects > 0));
        let status = self.driver.status();
        let round_trip = 2 * status.light.unwrap_or_default();
        queue::expect(&mut queue, &self.plan, self.driver.now(), status.loss, round_trip);
        listener.queue(&queue);
    }

    /// How it is with a manifest that `id` follows.
    fn before(&self, id: ObjectId, before: ObjectId) -> Before {
        let urgency = |id: &ObjectId| self.urgency.get(id).map_or(Priority::Normal, |p| *p);
        let comes = matches!(self.objects.get(&before), None | Some(Progress::UnderWay(_)));
        let Some(packs) = self.needs.get(&before).filter(|_| comes && urgency(&before) <= urgency(&id)) else {
            return Before::Passed;
        };
        let is_left = |pack: &&ObjectId| {
            matches!(self.objects.get(pack), Some(Progress::Stuck(_) | Progress::Unfit(..) | Progress::Travels(_)))
        };
        // Where no word comes back, nobody knows what is there.
        if self.sent.is_some() || packs.iter().any(|pack| is_left(&pack)) {
            return Before::Passed;
        }
        // One that was not sent yet waits itself.
        let is_sent = self.objects.contains_key(&before);
        let lags = is_sent && !packs.iter().any(|pack| self.lens.contains_key(pack));
        if lags { Before::Lags } else { Before::Comes }
    }

    /// Hands the next object to the link when there is room; whether there may be more.
    fn fill(&mut self, listener: &mut dyn Listener) -> Result<bool, LinkError> {
        if self.log.alarm().is_some() {
            return Ok(false);
        }
        let under_way: u64 = self.keys.values().map(|(_, _, len)| len).sum();
        if self.keys.len() >= WINDOW_BLOCKS || under_way >= WINDOW_LEN {
            return Ok(false);
        }
        let waits = |(kind, id): &(SpoolKind, ObjectId)| {
            *kind == SpoolKind::Manifest && self.order.waits(*id, |b| self.before(*id, b))
        };
        let next = self.queue.iter().position(|object| !waits(object)).and_then(|at| self.queue.remove(at));
        let (Some((kind, id)), Some(spool)) = (next, &self.spool) else { return Ok(false) };
        let bytes = match spool.get(kind, id) {
            Ok(bytes) => bytes,
            Err(e) => {
                let why = e.to_string();
                self.is_unfit(id, Told::Unreadable { id, why: why.clone() }, why, listener);
                return Ok(true);
            }
        };
        let Some(object) = Verified::check(&bytes, id) else {
            self.is_unfit(id, Told::Damaged(id), format!("object {id} is not what it was"), listener);
            return Ok(true);
        };
        self.again.is_fit(id);
        if let Some(why) = self.cards.refusal(object.bytes()).filter(|_| kind == SpoolKind::Manifest) {
            self.objects.insert(id, Progress::Stuck(why.to_owned()));
            return Ok(true);
        }
        let message = Message::Deposit { kind: kind.object_kind(), object: object.bytes() }.encode(0);
        let key = self.outbox.key();
        let resumed = self.begun.was_before(id);
        let priority = OBJECTS + self.urgency.get(&id).map_or(Priority::Normal, |p| *p) as u8;
        if self.driver.link().submit(Block::of(key, priority, &message, resumed)).is_ok() {
            self.keys.insert(key, (kind, id, message.len() as u64));
            self.objects.insert(id, Progress::UnderWay(key));
        }
        Ok(true)
    }

    fn handle(&mut self, event: Event, listener: &mut dyn Listener) -> Result<(), LinkError> {
        let now = self.driver.now();
        match event {
            Event::Wanted { key } => self.supply(key),
            Event::Spent { key, one_in } => {
                if let Some((_, id, _)) = self.keys.remove(&key) {
                    self.objects.insert(id, Progress::Sent);
                    let contact = self.plan.at(now).map_or(now, |contact| contact.start);
                    // Where it cannot be written, a next life sends it once more.
                    let _ = self.sent.as_mut().map_or(Ok(()), |sent| sent.note(id, contact));
                    listener.told(Told::Sent { id, one_in });
                }
                self.outbox.done(key);
            }
            Event::Delivered { key } => {
                if let Some((_, id, _)) = self.keys.remove(&key)
                    // The vault's own word that it does not take it may have come first.
                    && !matches!(self.objects.get(&id), Some(Progress::Stuck(_)))
                {
                    self.objects.insert(id, Progress::Awaited(now));
                    if let Some(receipt) = self.receipts.of(id) {
                        self.receipted(&receipt, listener)?;
                    }
                }
                self.outbox.done(key);
            }
            Event::Refused { key } => {
                if let Some((_, id, _)) = self.keys.remove(&key) {
                    let why = format!("the vault refuses object {id}");
                    self.objects.entry(id).and_modify(|p| match p {
                        Progress::Stuck(_) => {}
                        other => *other = Progress::Stuck(why),
                    });
                }
                if self.cards.refused_block(key).is_some() {
                    self.take_back_manifests();
                }
                self.clerk.refused(key);
                self.outbox.done(key);
            }
            Event::Received { id, bytes, .. } => self.message(id, &bytes, listener)?,
            Event::Echoed { nonce, took } => {
                let put = self.clerk.echoed(nonce, took);
                self.was_put(put, listener);
            }
            Event::ReserveCounters { .. } => {}
        }
        Ok(())
    }

    fn supply(&mut self, key: u64) {
        if let Some(message) = self.outbox.message(key) {
            let message = message.to_vec();
            self.driver.link().supply(key, message);
            return;
        }
        let Some((kind, id, len)) = self.keys.get(&key).copied() else {
            self.driver.link().withdraw(key);
            return;
        };
        let _ = self.begun.note(id);
        let bytes = self.spool.as_ref().and_then(|spool| spool.get(kind, id).ok());
        // What is not what it was would cross in vain.
        let bytes = bytes.filter(|bytes| Verified::check(bytes, id).is_some());
        let message = bytes.map(|b| Message::Deposit { kind: kind.object_kind(), object: &b }.encode(0));
        match message.filter(|message| message.len() as u64 == len) {
            Some(message) => self.driver.link().supply(key, message),
            None => {
                // It changed since it was looked at; looked at again, it will be told.
                self.driver.link().withdraw(key);
                self.keys.remove(&key);
                self.objects.remove(&id);
            }
        }
    }

    /// Whether nothing waits any more; an error when what waits cannot be sent.
    fn is_over(&mut self) -> Result<bool, LinkError> {
        let waiting = self.spool.as_ref().map_or(Ok(Vec::new()), Spool::list).map_err(CourierError::from)?;
        let mut stuck = waiting.iter().filter_map(|(_, id)| match self.objects.get(id) {
            Some(Progress::Stuck(why) | Progress::Unfit(why, _)) => Some(why.clone()),
            _ => None,
        });
        let first = stuck.next();
        match first {
            // A manifest whose packs are stuck is held over there for ever.
            Some(why) if self.keys.values().all(|(kind, ..)| *kind == SpoolKind::Manifest) && self.queue.is_empty() => {
                Err(LinkError::Stuck { count: 1 + stuck.count(), why })
            }
            // What travels on a disk is not on its way here, and was asked for once; of what is sent to where no word comes
            // back there is no more to be known.
            _ => {
                let is_done = |(_, id): &(SpoolKind, ObjectId)| {
                    let progress = self.objects.get(id);
                    matches!(progress, Some(Progress::Travels(Some(_)) | Progress::Sent | Progress::Unnoted))
                };
                let is_over = waiting.iter().all(is_done) && self.question.is_none_or(|key| !self.outbox.has(key));
                let unnoted = self.objects.values().any(|progress| *progress == Progress::Unnoted);
                let error = if is_over && unnoted { self.again.unnoted() } else { None };
                error.map_or(Ok(is_over), Err)
            }
        }
    }
}

/// The list of what was sent, where no word comes back.
fn open_sent(pairing: &Pairing) -> Result<Option<SentFile>, LinkError> {
    let Some(one_way) = pairing.one_way()? else { return Ok(None) };
    let path = pairing.own_folder()?.join("sent");
    SentFile::open(path.clone(), one_way.repeats.saturating_add(1)).map(Some).map_err(|e| io_error(&path, &e))
}

const COMMAND: &str = "lavatube node";
/// Priority of objects: messages go before them.
const OBJECTS: u8 = 1;
/// Blocks that are on their way at a time, and their bytes: more than the fastest link to the Moon holds.
const WINDOW_BLOCKS: usize = 256;
const WINDOW_LEN: u64 = 1 << 30;
const CARD_LEN_MAX: u64 = 1 << 17;
/// How often one looks whether something new waits.
const LIST_EVERY: Duration = Duration::from_secs(2);
const IDLE_WAIT: Duration = Duration::from_millis(250);
const LINGER: Duration = Duration::from_millis(400);
const LINGER_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
