//! The far end of a link: takes deposits into the vault and answers with receipts, until it is told to stop.
//!
//! One thread turns the driver, another works with the vault, so that a slow drive costs no datagrams. A block is accepted
//! when its object is durable, and held when it cannot be stored yet: because packs of a manifest are still under way, or
//! because there is no room. What is asked for is read when the link has room for it. Steps 17 and 20 of the walk. It must
//! not know what objects hold.

mod kept;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::time::Duration;

use lavatube_base::{BlockId, Instant, ObjectId};
use lavatube_format::audit::Progress;
use lavatube_format::care::{CareQuestion, SignedReport};
use lavatube_link::{Block, Event, Line, Outbox, Status};
use lavatube_seal::LinkEnd;
use lavatube_vault::parcels::Parcels;
use lavatube_vault::worker::{BlockDone, Done, Job, Verdict, Word, Worker, Workplace};
use lavatube_vault::{Depth, DriveStatus, Vault};

use crate::atomic::{self, IfThere};
use crate::awake::Awake;
use crate::carrier::Driver;
use crate::embedded::{self, EmbeddedVault};
use crate::link_folder::{LinkError, Pairing};
use crate::lock::{Lock, Mode};
use crate::mandates::Mandates;
use crate::orders::{Board, Home, Steward, StewardPlan};
use crate::port;
use crate::queue::Waiting;
use crate::scrubbing::{Chore, ChorePlan};
use crate::told::Told;
use kept::Kept;

/// How a daemon is run.
pub struct Run<'r> {
    /// Where to listen: host:port.
    pub listen: Option<&'r str>,
    /// Where the other end is said to be.
    pub peer: Option<&'r str>,
    /// How long to wait for others who use the vault.
    pub wait: Duration,
    /// Set when it shall end.
    pub stop: &'r AtomicBool,
    /// At the vault: how its drives are scrubbed meanwhile, if they are.
    pub scrub: Option<ChorePlan>,
    /// At the vault: how its drives are looked after meanwhile, and where what is seen is shown.
    pub steward: Option<(StewardPlan, Arc<Board>)>,
    /// At the vault: when both may work; `None` for always.
    pub awake: Option<Awake>,
}

/// What is told while it runs: what happened, and about each second how the link is.
pub trait Listener {
    /// Something happened.
    fn told(&mut self, told: Told);
    /// How the link is.
    fn status(&mut self, status: &Status);
    /// What waits to be sent to a far vault, now that it was looked at.
    fn queue(&mut self, _queue: &[Waiting]) {}
    /// What waits and cannot be sent now, and why, now that it was looked at: some of it, where it is much.
    fn stuck(&mut self, _stuck: &[(ObjectId, String)]) {}
}

/// Serves the vault in `folder` over its link until `run.stop` is set.
///
/// # Errors
/// [`LinkError`] when it is not paired, in use, or its disk fails. What was receipted is durable whatever happens.
pub fn serve(folder: &Path, run: &Run<'_>, listener: &mut dyn Listener) -> Result<(), LinkError> {
    let driver = |pairing: &Pairing| Driver::open(pairing, run.listen, run.peer);
    let mut end = FarEnd::open(folder, run.wait, driver, listener)?;
    std::thread::scope(|scope| {
        let (jobs, todo) = channel();
        let (results, done) = channel();
        if let Hands::Own(mut worker) = std::mem::replace(&mut end.hands, Hands::Thread { jobs, done }) {
            let chore = run.scrub.map(|plan| Chore::new(folder, plan));
            if chore.is_some() {
                worker.place().read_past_cache();
            }
            let steward = run.steward.as_ref().map(|(plan, board)| Steward::new(folder, *plan, board));
            let care = Care { chore, steward, awake: run.awake.clone() };
            scope.spawn(move || work(*worker, &todo, &results, care));
        }
        end.run(run, listener)
    })
}

/// What was last told of the link.
#[derive(Default)]
pub(crate) struct Last {
    at: Option<Instant>,
    line: Option<Line>,
}

impl Last {
    /// Tells what changed, about once a second.
    pub(crate) fn tell(&mut self, driver: &mut Driver, listener: &mut dyn Listener) {
        if let Some(address) = driver.moved() {
            listener.told(Told::Peer(address));
        }
        let now = driver.now();
        if self.at.is_some_and(|at| now.since(at) < TELL_EVERY) {
            return;
        }
        self.at = Some(now);
        let status = driver.status();
        if self.line != Some(status.line) {
            self.line = Some(status.line);
            listener.told(Told::Line(status.line));
        }
        listener.status(&status);
    }
}

/// The far end itself, to be turned.
pub(crate) struct FarEnd {
    /// What it is turned on.
    pub driver: Driver,
    outbox: Outbox,
    hands: Hands,
    parcels: Parcels,
    /// Parcels that were handed to the link: what they were then, and their bytes until the link wants them.
    handed: BTreeMap<u64, Handed>,
    /// Bytes that the worker has not answered yet, and parcels.
    in_work: usize,
    reading: usize,
    /// A proof is asked for; the worker goes on with it now.
    proves: bool,
    proving: bool,
    last: Last,
    _locks: [Lock; 2],
}

/// A parcel that was handed to the link.
struct Handed {
    id: BlockId,
    bytes: Option<Vec<u8>>,
}

/// Who works with the vault.
enum Hands {
    /// Who turns the end.
    Own(Box<Worker<House>>),
    /// Another thread, until the end goes.
    Thread { jobs: Sender<Job>, done: Receiver<Done> },
}

impl FarEnd {
    /// The far end of the link of `folder`, which works with the vault in there itself. The driver is made once nobody else
    /// has one: it takes counters.
    pub fn open(
        folder: &Path,
        wait: Duration,
        driver: impl FnOnce(&Pairing) -> Result<Driver, LinkError>,
        listener: &mut dyn Listener,
    ) -> Result<Self, LinkError> {
        let pairing = Pairing::open(folder)?;
        if pairing.end() != LinkEnd::Vault {
            return Err(LinkError::NoVaultHere(folder.to_owned()));
        }
        let own = pairing.own_folder()?;
        let locks = [
            Lock::acquire(&own.join("lock"), COMMAND, Mode::Exclusive, wait)?,
            Lock::acquire(&embedded::lock_path(folder), COMMAND, Mode::Exclusive, wait)?,
        ];
        let vault = EmbeddedVault::open(folder, true)?;
        let mut driver = driver(&pairing)?;
        // Where drives are away, nobody can tell.
        let all_here = vault.read().drives().iter().all(DriveStatus::is_well);
        let is_sound = |id| {
            let health = vault.read().examine(id, Depth::Headers);
            !all_here || health.is_ok_and(|health| health.restorable)
        };
        let (kept, blocks) = Kept::open(own.join("kept"), |id| vault.read().contains(id), is_sound)?;
        // Not to be carried once more.
        let begin = driver.now();
        blocks.into_iter().for_each(|block| driver.link().accepted(block, begin));
        if let Some(address) = driver.address() {
            listener.told(Told::Listening(address));
        }
        let mandates = Some(Mandates::open(folder, vault.read().last_mandate()));
        let house = House { folder: folder.to_owned(), vault, kept, past_cache: false, mandates };
        let hands = Hands::Own(Box::new(Worker::new(house)));
        Ok(Self {
            driver,
            outbox: Outbox::default(),
            hands,
            parcels: Parcels::default(),
            handed: BTreeMap::new(),
            in_work: 0,
            reading: 0,
            // What an earlier life has begun.
            proves: true,
            proving: false,
            last: Last::default(),
            _locks: locks,
        })
    }

    fn run(mut self, run: &Run<'_>, listener: &mut dyn Listener) -> Result<(), LinkError> {
        while !run.stop.load(Ordering::Relaxed) {
            let wait = self.turn(listener)?;
            self.driver.pump(wait)?;
        }
        listener.status(&self.driver.status());
        self.driver.keep_floor()
    }

    /// Does what there is to do: for how long the driver may wait then.
    pub fn turn(&mut self, listener: &mut dyn Listener) -> Result<Duration, LinkError> {
        if self.driver.switched() {
            // Whoever comes with other keys remembers nothing of what was under way.
            (self.outbox, self.parcels, self.handed) = Default::default();
            listener.told(Told::Recovered);
        }
        while let Some(event) = self.driver.event() {
            self.handle(event, listener);
        }
        while let Hands::Thread { done, .. } = &self.hands {
            match done.try_recv() {
                Ok(done) => self.finish(done, listener),
                Err(TryRecvError::Empty) => break,
                // It has said why. Nothing is stored any more, so nobody shall think that somebody listens.
                Err(TryRecvError::Disconnected) => return Err(LinkError::Ended(NO_HANDS.into())),
            }
        }
        // One is read while another is on its way to the link.
        while self.reading < READING_MAX
            && let Some((key, parcel)) = self.parcels.next(|| self.outbox.key())
        {
            self.reading += 1;
            self.set_to_work(Job::Parcel(key, parcel), listener);
        }
        // Behind whatever else there is to do.
        if self.proves && !self.proving {
            self.proving = true;
            self.set_to_work(Job::Prove, listener);
        }
        self.last.tell(&mut self.driver, listener);
        Ok(if self.in_work + self.reading > 0 || self.proving { WORK_WAIT } else { IDLE_WAIT })
    }

    fn set_to_work(&mut self, job: Job, listener: &mut dyn Listener) {
        match &mut self.hands {
            // If it lives no more, that is noticed in the next turn.
            Hands::Thread { jobs, .. } => drop(jobs.send(job)),
            Hands::Own(worker) => {
                for done in worker.do_all(job) {
                    self.finish(done, listener);
                }
            }
        }
    }

    fn handle(&mut self, event: Event, listener: &mut dyn Listener) {
        match event {
            Event::Received { id, bytes, .. } if self.in_work > IN_WORK_MAX => {
                drop(bytes);
                let now = self.driver.now();
                self.driver.link().busy(id, now);
            }
            Event::Received { id, bytes, .. } => {
                self.in_work += bytes.len();
                self.set_to_work(Job::Block(id, bytes), listener);
            }
            Event::Wanted { key } => self.supply(key, listener),
            Event::Delivered { key } | Event::Refused { key } | Event::Spent { key, .. } => {
                self.outbox.done(key);
                self.parcels.done(key);
                self.handed.remove(&key);
            }
            Event::ReserveCounters { .. } | Event::Echoed { .. } => {}
        }
    }

    fn supply(&mut self, key: u64, listener: &mut dyn Listener) {
        if let Some(message) = self.outbox.message(key) {
            let message = message.to_vec();
            self.driver.link().supply(key, message);
            return;
        }
        if let Some(bytes) = self.handed.get_mut(&key).and_then(|handed| handed.bytes.take()) {
            self.driver.link().supply(key, bytes);
            return;
        }
        match self.parcels.get(key).cloned() {
            Some(parcel) => {
                self.reading += 1;
                self.set_to_work(Job::Parcel(key, parcel), listener);
            }
            None => self.driver.link().withdraw(key),
        }
    }

    fn finish(&mut self, done: Done, listener: &mut dyn Listener) {
        match done {
            Done::Block(done) => self.finish_block(done, listener),
            Done::Parcel(key, bytes) => {
                self.reading -= 1;
                self.hand_over(key, bytes);
            }
            Done::Prove(ready, more) => {
                (self.proving, self.proves) = (false, more);
                if let Some(message) = ready {
                    // One that finds no room is asked for again.
                    self.outbox.send(self.driver.link(), message);
                }
            }
        }
    }

    /// Hands a parcel to the link, or its bytes when the link has asked for them.
    fn hand_over(&mut self, key: u64, bytes: Vec<u8>) {
        // It was given up meanwhile.
        let Some(parcel) = self.parcels.get(key) else { return };
        let block = Block::of(key, if parcel.is_short { SHORT_PARCELS } else { PARCELS }, &bytes, false);
        match self.handed.get(&key) {
            Some(handed) if handed.id == block.id => self.driver.link().supply(key, bytes),
            Some(_) => {
                // The vault reads other than before: what is missing is asked for again.
                self.driver.link().withdraw(key);
                self.handed.remove(&key);
                self.parcels.done(key);
            }
            None => {
                let held: usize = self.handed.values().filter_map(|h| h.bytes.as_ref()).map(Vec::len).sum();
                let (id, keep) = (block.id, held + bytes.len() <= HANDED_LEN_MAX);
                self.handed.insert(key, Handed { id, bytes: keep.then_some(bytes) });
                if self.driver.link().submit(block).is_err() {
                    self.handed.remove(&key);
                    self.parcels.done(key);
                }
            }
        }
    }

    fn finish_block(&mut self, done: BlockDone, listener: &mut dyn Listener) {
        self.in_work = self.in_work.saturating_sub(done.len);
        let now = self.driver.now();
        let link = self.driver.link();
        match done.verdict {
            Verdict::Accepted => link.accepted(done.block, now),
            Verdict::Refused => link.refused(done.block, now),
            Verdict::Held => link.busy(done.block, now),
        }
        for message in done.messages {
            // One that finds no room is asked for again.
            self.outbox.send(link, message);
        }
        if let Some((request, turn, parts)) = done.fetch {
            for key in self.parcels.ask(request, turn, &parts) {
                self.driver.link().withdraw(key);
                self.handed.remove(&key);
                self.parcels.done(key);
            }
        }
        self.proves |= done.proves;
        done.told.into_iter().for_each(|word| listener.told(told(word)));
    }
}

/// The vault in a folder, and the list of what was stored.
struct House {
    folder: PathBuf,
    vault: EmbeddedVault,
    kept: Kept,
    /// Shards are read from the disks, so that a scrub sees what is there.
    past_cache: bool,
    /// What the authority has told it; `None` while that works with the house.
    mandates: Option<Mandates>,
}

impl Workplace for House {
    fn vault(&self) -> impl Deref<Target = Vault> {
        self.vault.read()
    }

    fn vault_mut(&mut self) -> impl DerefMut<Target = Vault> {
        self.vault.write()
    }

    fn reopen(&mut self) -> bool {
        let folder = &self.folder;
        let opened =
            if self.past_cache { EmbeddedVault::open_past_cache(folder) } else { EmbeddedVault::open(folder, true) };
        opened.map(|vault| self.vault = vault).is_ok()
    }

    fn keep(&mut self, block: BlockId, object: ObjectId) {
        // That is no reason to keep the receipt back.
        let _ = self.kept.add(block, object);
    }

    fn now(&self) -> Instant {
        port::now()
    }

    fn care(&mut self, question: &CareQuestion) -> Option<SignedReport> {
        self.with_mandates(|mandates, house| mandates.care(house, question)).flatten()
    }

    fn mandate_told(&mut self) -> Option<String> {
        self.mandates.as_mut().and_then(Mandates::take_told)
    }

    fn keep_proof(&mut self, progress: &Progress) {
        // Without it a next life begins anew.
        let _ = atomic::write(&self.proof_path(), &progress.encode(), IfThere::Replace);
    }

    fn proof(&self) -> Option<Progress> {
        Progress::decode(&std::fs::read(self.proof_path()).ok()?).ok()
    }
}

impl House {
    /// Works with the mandates and the house both.
    fn with_mandates<T>(&mut self, work: impl FnOnce(&mut Mandates, &mut Self) -> T) -> Option<T> {
        let mut mandates = self.mandates.take()?;
        let out = work(&mut mandates, self);
        self.mandates = Some(mandates);
        Some(out)
    }

    fn proof_path(&self) -> PathBuf {
        self.folder.join(PROOF)
    }
}

impl Home for House {
    fn vault(&self) -> &EmbeddedVault {
        &self.vault
    }

    fn open_again(&mut self) -> bool {
        self.reopen()
    }

    fn read_past_cache(&mut self) {
        if !std::mem::replace(&mut self.past_cache, true) {
            self.reopen();
        }
    }
}

/// What is done for the drives while nobody wants anything.
struct Care {
    chore: Option<Chore>,
    steward: Option<Steward>,
    awake: Option<Awake>,
}

impl Care {
    /// How long until there is something to do.
    fn wait(&self, house: &House) -> Duration {
        if !self.is_awake() {
            return ASLEEP_WAIT;
        }
        let told = house.mandates.as_ref().and_then(Mandates::wait).unwrap_or(CHORE_WAIT);
        let wait = told.min(self.chore.as_ref().map_or(CHORE_WAIT, Chore::wait)).min(CHORE_WAIT);
        self.steward.as_ref().map_or(wait, |steward| steward.wait().min(wait))
    }

    fn is_awake(&self) -> bool {
        self.awake.as_ref().is_none_or(Awake::is_now)
    }

    fn handle_timeout(&mut self, house: &mut House) {
        if !self.is_awake() {
            return;
        }
        if let Some(steward) = &mut self.steward {
            steward.handle_timeout(house);
        }
        let scrubbed = house.with_mandates(|mandates, house| {
            let before = mandates.is_scrubbing();
            mandates.handle_timeout(house);
            (before, mandates.is_scrubbing())
        });
        let Some(chore) = &mut self.chore else { return };
        match scrubbed {
            // There is one scrub at a time, and this one is what was asked for.
            Some((_, true)) => {}
            Some((true, false)) => chore.look_again(),
            _ => chore.handle_timeout(&mut house.vault_mut()),
        }
    }
}

/// Works until nobody wants anything any more. While nobody does, drives are looked after and scrubbed.
fn work(mut worker: Worker<House>, todo: &Receiver<Job>, results: &Sender<Done>, mut care: Care) {
    loop {
        let wait = care.wait(worker.place());
        match todo.recv_timeout(wait) {
            Ok(job) => {
                if worker.do_all(job).into_iter().any(|done| results.send(done).is_err()) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                care.handle_timeout(worker.place());
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn told(word: Word) -> Told {
    match word {
        Word::Stored { kind, id, len } => Told::Stored { kind, id, len },
        Word::Held { id, why } => Told::Held { id, why },
        Word::NotNow { id, why } => Told::NotNow { id, why },
        Word::Denied { id, why } => Told::Denied { id, why },
        Word::Mandate(text) => Told::Mandate(text),
        Word::Nonsense(text) => Told::Nonsense(text),
    }
}

const COMMAND: &str = "lavatube vault serve";
/// How far a proof has come, in the vault's folder.
const PROOF: &str = "link/proof";
const NO_HANDS: &str = "the thread that works with the vault has ended";
/// Priority of parcels: receipts go before them, and short requests before long ones.
const SHORT_PARCELS: u8 = 1;
const PARCELS: u8 = 2;
/// Parcels that are read at a time.
const READING_MAX: usize = 1;
/// Bytes of parcels that wait in memory until the link wants them; others are read again then.
const HANDED_LEN_MAX: usize = 32 << 20;
/// Bytes the worker may have before it; what comes then is held by the link.
const IN_WORK_MAX: usize = 128 << 20;
/// How long to wait for datagrams while the worker works, and while it does not.
const WORK_WAIT: Duration = Duration::from_millis(2);
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// How long the worker sleeps at most.
const CHORE_WAIT: Duration = Duration::from_secs(3600);
/// How long until the next look whether it is day.
const ASLEEP_WAIT: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::depositor::VaultPlan;
    use crate::embedded::DriveSpec;
    use crate::stage;

    struct Nobody;

    impl Listener for Nobody {
        fn told(&mut self, _told: Told) {}
        fn status(&mut self, _status: &Status) {}
    }

    #[test]
    fn a_daemon_whose_thread_for_the_vault_has_ended_ends_too() {
        let dir = tempfile::tempdir().unwrap();
        let drive =
            |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
        let stage = stage::set(dir.path(), &VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() }).unwrap();
        let driver = |pairing: &Pairing| Driver::open(pairing, Some("127.0.0.1:0"), None);
        let mut end = FarEnd::open(&stage.far.vault, Duration::ZERO, driver, &mut Nobody).unwrap();
        let ((jobs, _todo), (results, done)) = (channel(), channel());
        end.hands = Hands::Thread { jobs, done };
        assert!(end.turn(&mut Nobody).is_ok());
        drop(results);
        assert!(matches!(end.turn(&mut Nobody), Err(LinkError::Ended(_))));
    }
}
