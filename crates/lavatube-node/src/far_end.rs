//! The far end of a link: takes deposits into the vault and answers with receipts, until it is told to stop.
//!
//! One thread turns the driver, another works with the vault, so that a slow drive costs no datagrams. A block is accepted
//! when its object is durable, and held when it cannot be stored yet: because packs of a manifest are still under way, or
//! because there is no room. Step 17 of the walk. It must not know what objects hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::limits::KEPT_MAX;
use lavatube_base::{BlockId, Denial, Instant, ObjectId, Refusal, Verified};
use lavatube_format::message::Message;
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Event, Line, Status};
use lavatube_seal::LinkEnd;
use lavatube_vault::DepositError;

use crate::atomic::{self, IfThere};
use crate::driver::Driver;
use crate::embedded::{self, EmbeddedVault};
use crate::link_folder::{LinkError, Pairing, io_error};
use crate::lock::{Lock, Mode};
use crate::outbox::Outbox;
use crate::port::now;
use crate::told::Told;

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
}

/// What is told while it runs: what happened, and about each second how the link is.
pub trait Listener {
    /// Something happened.
    fn told(&mut self, told: Told);
    /// How the link is.
    fn status(&mut self, status: &Status);
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
        if let Hands::Own(worker) = std::mem::replace(&mut end.hands, Hands::Thread { jobs, done }) {
            scope.spawn(move || worker.work(&todo, &results));
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
    /// Bytes that the worker has not answered yet.
    in_work: usize,
    last: Last,
    _locks: [Lock; 2],
}

/// Who works with the vault.
enum Hands {
    /// Who turns the end.
    Own(Box<Worker>),
    /// Another thread, until the end goes.
    Thread { jobs: Sender<(BlockId, Vec<u8>)>, done: Receiver<Done> },
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
        let (kept, blocks) = Kept::open(own.join("kept"), |id| vault.read().contains(id))?;
        // Not to be carried once more.
        let begin = driver.now();
        blocks.into_iter().for_each(|block| driver.link().accepted(block, begin));
        if let Some(address) = driver.address() {
            listener.told(Told::Listening(address));
        }
        let worker = Worker { folder: folder.to_owned(), vault, opened: now(), kept, held: BTreeMap::new() };
        let hands = Hands::Own(Box::new(worker));
        Ok(Self { driver, outbox: Outbox::default(), hands, in_work: 0, last: Last::default(), _locks: locks })
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
        while let Some(event) = self.driver.event()? {
            self.handle(event, listener)?;
        }
        while let Hands::Thread { done, .. } = &self.hands
            && let Ok(done) = done.try_recv()
        {
            self.finish(done, listener)?;
        }
        self.last.tell(&mut self.driver, listener);
        Ok(if self.in_work > 0 { WORK_WAIT } else { IDLE_WAIT })
    }

    fn handle(&mut self, event: Event, listener: &mut dyn Listener) -> Result<(), LinkError> {
        match event {
            Event::Received { id, bytes, .. } if self.in_work > IN_WORK_MAX => {
                drop(bytes);
                let now = self.driver.now();
                self.driver.link().busy(id, now);
            }
            Event::Received { id, bytes, .. } => {
                self.in_work += bytes.len();
                match &mut self.hands {
                    // It lives as long as we do; if it does not, the block is held and nothing is promised.
                    Hands::Thread { jobs, .. } => drop(jobs.send((id, bytes))),
                    Hands::Own(worker) => {
                        for done in worker.do_all(id, bytes) {
                            self.finish(done, listener)?;
                        }
                    }
                }
            }
            Event::Wanted { key } => match self.outbox.message(key) {
                Some(message) => self.driver.link().supply(key, message.to_vec()),
                None => self.driver.link().withdraw(key),
            },
            Event::Delivered { key } | Event::Refused { key } | Event::Spent { key } => {
                self.outbox.done(key);
            }
            Event::ReserveCounters { .. } | Event::Echoed { .. } => {}
        }
        Ok(())
    }

    fn finish(&mut self, done: Done, listener: &mut dyn Listener) -> Result<(), LinkError> {
        self.in_work = self.in_work.saturating_sub(done.len);
        let now = self.driver.now();
        let link = self.driver.link();
        match done.verdict {
            Verdict::Accepted => link.accepted(done.block, now),
            Verdict::Refused => link.refused(done.block, now),
            Verdict::Held => link.busy(done.block, now),
            Verdict::Failed(e) => return Err(e),
        }
        for message in done.messages {
            // One that finds no room is asked for again.
            self.outbox.send(link, message);
        }
        done.told.into_iter().for_each(|told| listener.told(told));
        Ok(())
    }
}

/// What became of a block.
struct Done {
    block: BlockId,
    /// Bytes of it that the driver counts as in work.
    len: usize,
    verdict: Verdict,
    messages: Vec<Vec<u8>>,
    told: Vec<Told>,
}

enum Verdict {
    Accepted,
    Refused,
    Held,
    Failed(LinkError),
}

impl Done {
    fn new(block: BlockId, verdict: Verdict) -> Self {
        Self { block, len: 0, verdict, messages: Vec::new(), told: Vec::new() }
    }
}

/// A manifest whose packs are under way.
struct HeldManifest {
    missing: BTreeSet<ObjectId>,
    bytes: Vec<u8>,
}

/// Works with the vault.
struct Worker {
    folder: PathBuf,
    vault: EmbeddedVault,
    opened: Instant,
    kept: Kept,
    /// Beside what the link holds, so that they are taken as soon as their last pack is.
    held: BTreeMap<BlockId, HeldManifest>,
}

impl Worker {
    fn work(mut self, todo: &Receiver<(BlockId, Vec<u8>)>, results: &Sender<Done>) {
        for (block, bytes) in todo {
            if self.do_all(block, bytes).into_iter().any(|done| results.send(done).is_err()) {
                return;
            }
        }
    }

    /// Does what a block asks for, and what can be done now that it is.
    fn do_all(&mut self, block: BlockId, bytes: Vec<u8>) -> Vec<Done> {
        let len = bytes.len();
        let (done, stored) = self.handle(block, bytes);
        let mut all = vec![Done { len, ..done }];
        if let Some(pack) = stored {
            all.extend(self.release(pack));
        }
        all
    }

    /// Does what a block asks for; with the pack that was stored, if one was.
    fn handle(&mut self, block: BlockId, bytes: Vec<u8>) -> (Done, Option<ObjectId>) {
        match Message::decode(&bytes) {
            Ok(Message::Deposit { kind: ObjectKind::Manifest, object }) => {
                let object = object.to_vec();
                (self.manifest(block, object), None)
            }
            Ok(Message::Deposit { kind, object }) => {
                let object = Verified::hash(object);
                let done = self.deposit(block, kind, object);
                let stored = matches!(done.verdict, Verdict::Accepted) && kind == ObjectKind::Pack;
                (done, stored.then_some(object.id()))
            }
            Ok(Message::Asked(ids)) => {
                let mut done = Done::new(block, Verdict::Accepted);
                done.messages = ids.into_iter().map(|id| self.answer(id)).collect();
                (done, None)
            }
            Ok(Message::Receipted(_) | Message::Denied { .. }) => {
                let mut done = Done::new(block, Verdict::Refused);
                done.told.push(Told::Nonsense("a message that only vaults send".into()));
                (done, None)
            }
            Err(e) => {
                let mut done = Done::new(block, Verdict::Refused);
                done.told.push(Told::Nonsense(e.to_string()));
                (done, None)
            }
        }
    }

    fn answer(&self, id: ObjectId) -> Vec<u8> {
        match self.vault.write().receipt_for(id) {
            Some(receipt) => Message::Receipted(receipt),
            None => Message::Denied { id, denial: Denial::Absent, text: "it is not here".into() },
        }
        .encode()
    }

    fn deposit(&mut self, block: BlockId, kind: ObjectKind, object: Verified<'_>) -> Done {
        match self.store(kind, object) {
            Ok(receipt) => self.stored(block, kind, object, &receipt),
            Err(e) => not_stored(block, object.id(), e.denial(), e.to_string()),
        }
    }

    fn manifest(&mut self, block: BlockId, bytes: Vec<u8>) -> Done {
        let object = Verified::hash(&bytes);
        let id = object.id();
        match self.store(ObjectKind::Manifest, object) {
            Ok(receipt) => self.stored(block, ObjectKind::Manifest, object, &receipt),
            // It has overtaken its packs.
            Err(DepositError::MissingPacks { missing }) => {
                let mut done = Done::new(block, Verdict::Held);
                done.told.push(Told::Held { id, why: format!("{} of its packs are under way", missing.len()) });
                if self.held.len() < HELD_MANIFESTS_MAX || self.held.contains_key(&block) {
                    self.held.insert(block, HeldManifest { missing: missing.into_iter().collect(), bytes });
                }
                done
            }
            Err(e) => not_stored(block, id, e.denial(), e.to_string()),
        }
    }

    /// Stores an object; a vault whose drives went or came is opened anew once.
    fn store(&mut self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        match self.try_store(kind, object) {
            Err(e) if e.denial() == Denial::Away && now().since(self.opened) >= REOPEN_EVERY => {
                self.opened = now();
                match EmbeddedVault::open(&self.folder, true) {
                    Ok(vault) => {
                        self.vault = vault;
                        self.try_store(kind, object)
                    }
                    Err(_) => Err(e),
                }
            }
            other => other,
        }
    }

    fn try_store(&self, kind: ObjectKind, object: Verified<'_>) -> Result<Receipt, DepositError> {
        let mut vault = self.vault.write();
        match kind {
            ObjectKind::Pack => Ok(vault.store(kind, object)?),
            ObjectKind::Manifest => vault.deposit_manifest(object.bytes()),
            ObjectKind::DepositorCard => vault.deposit_card(object.bytes()),
        }
    }

    fn stored(&mut self, block: BlockId, kind: ObjectKind, object: Verified<'_>, receipt: &Receipt) -> Done {
        if let Err(e) = self.kept.add(block, object.id()) {
            return Done::new(block, Verdict::Failed(e));
        }
        let mut done = Done::new(block, Verdict::Accepted);
        done.messages.push(Message::Receipted(receipt.clone()).encode());
        done.told.push(Told::Stored { kind, id: object.id(), len: object.bytes().len() as u64 });
        done
    }

    /// Takes the manifests in whose last pack this was.
    fn release(&mut self, pack: ObjectId) -> Vec<Done> {
        self.held.values_mut().for_each(|held| {
            held.missing.remove(&pack);
        });
        let whole: Vec<BlockId> = self.held.iter().filter(|(_, h)| h.missing.is_empty()).map(|(id, _)| *id).collect();
        let held: Vec<_> = whole.into_iter().filter_map(|id| Some((id, self.held.remove(&id)?))).collect();
        held.into_iter().map(|(block, held)| self.manifest(block, held.bytes)).collect()
    }
}

/// What to do with an object that was not stored: hold it when that may change, else say so.
fn not_stored(block: BlockId, id: ObjectId, denial: Denial, why: String) -> Done {
    if matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
        let mut done = Done::new(block, Verdict::Held);
        done.told.push(Told::Held { id, why });
        return done;
    }
    let mut done = Done::new(block, Verdict::Refused);
    done.messages.push(Message::Denied { id, denial, text: why.clone() }.encode());
    done.told.push(Told::Denied { id, why });
    done
}

/// Which blocks were stored, so that they are not carried again after a restart. Losing it costs that.
struct Kept {
    path: PathBuf,
    file: File,
}

impl Kept {
    /// Opens the list, and tells the last blocks on it whose objects are there.
    fn open(path: PathBuf, is_there: impl Fn(ObjectId) -> bool) -> Result<(Self, Vec<BlockId>), LinkError> {
        let bytes = match std::fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            other => other.map_err(|e| io_error(&path, &e))?,
        };
        let mut entries = entries(&bytes);
        entries.retain(|(_, object)| is_there(*object));
        entries.drain(..entries.len().saturating_sub(KEPT_MAX));
        // Made anew each time, it stays short.
        let text: Vec<u8> = entries.iter().flat_map(|(block, object)| entry(*block, *object)).collect();
        atomic::write(&path, &text, IfThere::Replace).map_err(|e| io_error(&path, &e))?;
        let file = OpenOptions::new().append(true).mode(0o600).open(&path).map_err(|e| io_error(&path, &e))?;
        Ok((Self { path, file }, entries.into_iter().map(|(block, _)| block).collect()))
    }

    fn add(&mut self, block: BlockId, object: ObjectId) -> Result<(), LinkError> {
        self.file.write_all(&entry(block, object)).map_err(|e| io_error(&self.path, &e))
    }
}

fn entry(block: BlockId, object: ObjectId) -> Vec<u8> {
    [&h16(&[&block.0, &object.0])[..], &block.0, &object.0].concat()
}

/// All entries; what a crash has cut is passed over.
fn entries(bytes: &[u8]) -> Vec<(BlockId, ObjectId)> {
    let (mut rest, mut out) = (bytes, Vec::new());
    while rest.len() >= ENTRY_LEN {
        let (check, body) = rest.split_at(CHECK_LEN);
        let (block, object) = (BlockId::from_slice(&body[..16]), ObjectId::from_slice(&body[16..48]));
        match (block, object) {
            (Some(block), Some(object)) if h16(&[&block.0, &object.0]) == check => {
                out.push((block, object));
                rest = &rest[ENTRY_LEN..];
            }
            _ => rest = &rest[1..],
        }
    }
    out
}

const COMMAND: &str = "lavatube vault serve";
const CHECK_LEN: usize = 16;
const ENTRY_LEN: usize = CHECK_LEN + 16 + 32;
/// Manifests held in memory beside what the link holds of them.
const HELD_MANIFESTS_MAX: usize = 4;
/// Bytes the worker may have before it; what comes then is held by the link.
const IN_WORK_MAX: usize = 128 << 20;
/// A vault whose drives are away is opened anew at most so often.
const REOPEN_EVERY: Duration = Duration::from_secs(5);
/// How long to wait for datagrams while the worker works, and while it does not.
const WORK_WAIT: Duration = Duration::from_millis(2);
const IDLE_WAIT: Duration = Duration::from_millis(250);
const TELL_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_known_again_and_what_a_crash_has_cut_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        let (block, object) = (|n| BlockId([n; 16]), |n| ObjectId([n; 32]));
        let (mut kept, before) = Kept::open(path.clone(), |_| true).unwrap();
        assert_eq!(before, []);
        (1..=3).for_each(|n| kept.add(block(n), object(n)).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.splice(ENTRY_LEN..ENTRY_LEN, bytes[..ENTRY_LEN / 2].to_vec());
        std::fs::write(&path, bytes).unwrap();
        let (_, before) = Kept::open(path.clone(), |id| id != object(1)).unwrap();
        assert_eq!(before, [block(2), block(3)]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * ENTRY_LEN as u64);
    }
}
