//! A world: one depositor, one vault on simulated drives, and everything that is known of them.
//!
//! It holds what a crash takes (by way of the seams) and what an onlooker remembers. Runs of processes happen here: they
//! begin, perhaps die, and leave behind what the seams kept. It must not know in which order things happen: that is the
//! loop's.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;

use lavatube_base::sign::EdSigner;
use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, DepositorId, DriveId, ObjectId, VaultId};
use lavatube_client::courier::Promise;
use lavatube_client::far::Signer;
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::drive_card::SlotCard;
use lavatube_format::key_file::Secret;
use lavatube_format::release::Release;
use lavatube_seal::{DepositKeys, ReadKeys, Reads, Root};
use lavatube_vault::{Drive, NewDrive, NewVault, OpenError, OpenReport, Vault};

use crate::atlas::Atlas;
use crate::book::Book;
use crate::chance::Chance;
use crate::depositor::Machine;
use crate::link::Opener;
use crate::link::crossing::Crossing;
use crate::plan::Plan;
use crate::sabotage::Sabotage;
use crate::seams::drive::SimDrive;
use crate::seams::source::{Log, SimSource};
use crate::seams::spool::SimSpool;
use crate::seams::state::SimState;
use crate::wires::{Crash, Fuse, Telling, When, Wires};

/// A snapshot that a backup reported.
#[derive(Debug, Clone)]
pub struct Reported {
    /// Its id.
    pub id: ChunkId,
    /// When its walk began.
    pub time: WallTime,
    /// What was promised.
    pub promise: Promise,
    /// Whether it must be found in the vault, as soon as the spool is drained.
    pub is_due: bool,
}

/// Everything there is.
pub struct World {
    /// The seed.
    pub seed: u64,
    /// What it is like.
    pub plan: Plan,
    /// Clock, trace, fuse.
    pub wires: Arc<Wires>,
    /// What left and was receipted.
    pub book: Arc<Book>,
    /// The drives by slot.
    pub drives: Vec<SimDrive>,
    /// What is broken.
    pub atlas: Atlas,
    /// The depositor.
    pub machine: Machine,
    /// The source.
    pub source: SimSource,
    /// What is backed up.
    pub roots: Vec<Vec<u8>>,
    /// What opens it again.
    pub read: ReadKeys,
    /// What snapshots were reported.
    pub reported: Vec<Reported>,
    /// Snapshots that somebody began to forget: nobody need have them any more.
    pub forgotten: BTreeSet<ChunkId>,
    /// The release that was last left at the desk, and whether what became of it was looked at.
    pub left: Option<(Vec<u8>, bool)>,
    /// What each walk saw, by the time it began.
    pub logs: BTreeMap<WallTime, Log>,
    /// What the machine's state was some time ago, to be put back one day.
    pub older_state: Option<BTreeMap<String, Vec<u8>>>,
    /// The machine has lost its state, or got an older one back: it may not know what its own manifests are.
    pub forgot: bool,
    /// All drives were put back to what they were.
    pub is_put_back: bool,
    /// What is planted.
    pub sabotage: Option<Sabotage>,
    /// Whose receipts count.
    pub vault: Signer,
    /// The link to the vault, where it is far.
    pub crossing: Option<Crossing>,
    root: Root,
    signer: [u8; 32],
    crashes: u64,
    machines: u64,
    /// Changing calls of the last whole run of each kind.
    lengths: BTreeMap<&'static str, u64>,
}

/// Hardships of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hardship {
    /// Whether the process dies.
    pub crash: bool,
    /// Whether one call fails.
    pub fault: bool,
    /// Where exactly the process dies, if that is not to be drawn.
    pub fuse: Option<Fuse>,
}

impl World {
    /// The world of a seed, with a vault just made.
    ///
    /// # Errors
    /// When it cannot be made: nothing strikes before it is.
    pub fn new(seed: u64, plan: Plan, sabotage: Option<Sabotage>, telling: Telling) -> Result<Self, String> {
        let mut chance = Chance::named(seed, "world", 0);
        let wires = Arc::new(Wires::new(telling));
        let book = Arc::new(Book::new(&wires));
        let mut bytes32 = || {
            let mut out = [0; 32];
            chance.fill(&mut out);
            out
        };
        let seeds = [bytes32(), bytes32()];
        wires.keep_secret("the root", &seeds[0]);
        let root = Root::new(Secret::new(seeds[0]));
        let text = |e: lavatube_seal::SealError| e.to_string();
        let read = root.read_keys("default").map_err(text)?;
        wires.keep_secret("the read key", read.body().x_wing_seed.bytes());
        wires.keep_secret("the tenant's psk", read.body().psk.bytes());
        let deposit = new_keys(&root, &wires, seed, 0)?;
        let state = SimState::new(&wires, sabotage);
        let spool = SimSpool::new(&wires, &book, sabotage);
        let roots = match chance.below(3) {
            0 => vec![b"home".to_vec()],
            1 => vec![b"home/rover".to_vec()],
            _ => vec![b"m/a".to_vec(), b"m/b".to_vec()],
        };
        let source = SimSource::new(seed, &roots, (plan.tick, plan.restless), &wires, sabotage);
        let drives: Vec<SimDrive> = (0..plan.drives()).map(|n| SimDrive::new(n, seed, &wires, sabotage)).collect();
        let mut world = Self {
            seed,
            plan,
            wires,
            book,
            drives,
            atlas: Atlas::default(),
            machine: Machine { deposit, state, spool },
            source,
            roots,
            read,
            reported: Vec::new(),
            forgotten: BTreeSet::new(),
            left: None,
            logs: BTreeMap::new(),
            older_state: None,
            forgot: false,
            is_put_back: false,
            sabotage,
            vault: Signer { vault: VaultId([0; 16]), key: [0; 32] },
            crossing: None,
            root,
            signer: seeds[1],
            crashes: 0,
            machines: 0,
            lengths: BTreeMap::new(),
        };
        world.vault = world.create(&mut chance)?;
        world.crossing = (plan.link == 1).then(|| Crossing::new(&world));
        Ok(world)
    }

    fn create(&self, chance: &mut Chance) -> Result<Signer, String> {
        let mut id = || {
            let mut out = [0; 16];
            chance.fill(&mut out);
            out
        };
        let vault = VaultId(id());
        let new = |(n, drive): (usize, &SimDrive)| NewDrive {
            drive: Box::new(drive.clone()),
            card: SlotCard {
                drive: DriveId(id()),
                label: format!("drive {n}"),
                shelf: format!("shelf {}", n % 3),
                maker: "Lunar".into(),
                model: "L1".into(),
                retired: false,
            },
        };
        let drives = self.drives.iter().enumerate().map(new).collect();
        let authority = self.read.authority_public().clone();
        let (k, m) = (self.plan.k, self.plan.m);
        let new = NewVault { vault, k, m, authority, signer: self.signer()?, drives };
        let vault = Vault::create(new).map_err(|e| e.to_string())?;
        Ok(Signer { vault: vault.id(), key: vault.vault_key() })
    }

    fn signer(&self) -> Result<EdSigner, String> {
        EdSigner::from_seed(&self.signer).map_err(|e| e.to_string())
    }

    /// Opens the vault as a process does, without the drives of `away`.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub fn open(&self, away: &BTreeSet<usize>) -> Result<(Vault, OpenReport), OpenError> {
        open(&self.drives, away, self.signer().ok())
    }

    /// What opens the vault as a process does, whenever, without the drives that are away then.
    pub fn opener(&self, away: &Rc<RefCell<BTreeSet<usize>>>) -> Opener {
        let (drives, away, signer) = (self.drives.clone(), away.clone(), self.signer);
        Box::new(move || open(&drives, &away.borrow(), EdSigner::from_seed(&signer).ok()).ok().map(|(vault, _)| vault))
    }

    /// Opens the vault as an onlooker, who leaves no trace, without the drives of `away`.
    ///
    /// # Errors
    /// When there is nothing to go by.
    pub fn open_quietly(&self, away: &BTreeSet<usize>) -> Result<(Vault, OpenReport), String> {
        let drive = |(slot, drive): (usize, &SimDrive)| -> Option<Box<dyn Drive>> {
            (!away.contains(&slot)).then(|| Box::new(drive.quietly()) as Box<dyn Drive>)
        };
        Vault::open_with(self.drives.iter().enumerate().map(drive).collect(), None, journal_max(&self.drives))
            .map_err(|e| format!("the vault cannot be opened: {e}"))
    }

    /// Runs a process of this `kind`; `None` when it died.
    pub fn run<T>(
        &mut self,
        kind: &'static str,
        hardship: Hardship,
        chance: &mut Chance,
        body: impl FnOnce(&Self) -> T,
    ) -> Option<T> {
        let length = self.lengths.get(kind).copied().unwrap_or(60);
        let at = chance.below(length + length / 4 + 3);
        let when = *chance.pick(&[When::Before, When::During, When::After]);
        let fault = chance.below(length);
        let fuse = hardship.fuse.or(hardship.crash.then_some(Fuse { at, when }));
        self.wires.begin(fuse, hardship.fault.then_some(fault));
        let out = catch_unwind(AssertUnwindSafe(|| body(self)));
        let calls = self.wires.end();
        self.wires.outcome(kind, calls);
        match out {
            Ok(out) => {
                self.lengths.insert(kind, calls.max(1));
                Some(out)
            }
            Err(payload) if payload.is::<Crash>() => {
                self.lose_power();
                None
            }
            Err(payload) => resume_unwind(payload),
        }
    }

    /// The power of the drives fails.
    pub fn cut_drives(&mut self) {
        self.crashes += 1;
        self.drives.iter().for_each(|d| d.lose_power(self.crashes));
    }

    /// The power fails: whatever was not durable has happened or not.
    fn lose_power(&mut self) {
        self.cut_drives();
        self.crossing.iter_mut().for_each(Crossing::lose_power);
        let mut chance = Chance::named(self.seed, "power", self.crashes);
        self.machine.state.lose_power(&mut chance);
        self.machine.spool.lose_power(&mut chance);
    }

    /// The machine loses all it had but perhaps its key.
    ///
    /// # Errors
    /// When no new key can be made.
    pub fn lose_machine(&mut self, new_key: bool) -> Result<(), String> {
        let spooled = self.machine.spool.waiting() > 0;
        self.reported.iter_mut().filter(|r| spooled && r.promise == Promise::SafeHere).for_each(|r| r.is_due = false);
        self.crossing.iter_mut().for_each(Crossing::lose_machine);
        (self.forgot, self.left) = (true, None);
        self.machine.state.wipe();
        self.machine.spool.wipe();
        // What it knew of the spool is gone with that.
        self.older_state = None;
        if new_key {
            self.machines += 1;
            self.machine.deposit = new_keys(&self.root, &self.wires, self.seed, self.machines)?;
        }
        Ok(())
    }

    /// Whether no word ever comes back from the vault.
    pub fn is_one_way(&self) -> bool {
        self.crossing.as_ref().is_some_and(Crossing::is_one_way)
    }

    /// Whose card an object of the vault is, if it is one.
    pub fn card_of(&self, id: ObjectId, vault: &Vault) -> Option<DepositorId> {
        let mut bytes = Vec::new();
        vault.read(id, 0..vault.find(id)?.len, &mut bytes).ok()?;
        SignedCard::decode(&bytes).ok().map(|signed| signed.card.id())
    }

    /// Objects that have a receipt, and that no release names.
    pub fn receipted(&self) -> BTreeSet<ObjectId> {
        let freed = self.book.freed();
        let receipted = self.book.known().into_iter().filter(|k| k.receipt.is_some()).map(|k| k.id);
        receipted.filter(|id| !freed.contains(id)).collect()
    }

    /// The authority signs a release.
    ///
    /// # Errors
    /// When it cannot.
    pub fn sign(&self, release: Release) -> Result<Vec<u8>, String> {
        Ok(self.root.sign_release(release).map_err(|e| e.to_string())?.encode())
    }
}

fn open(
    drives: &[SimDrive],
    away: &BTreeSet<usize>,
    signer: Option<EdSigner>,
) -> Result<(Vault, OpenReport), OpenError> {
    let drive = |(slot, drive): (usize, &SimDrive)| -> Option<Box<dyn Drive>> {
        drive.platter().reopen();
        (!away.contains(&slot)).then(|| Box::new(drive.clone()) as Box<dyn Drive>)
    };
    let all = drives.iter().enumerate().map(drive).collect();
    let (mut vault, report) = Vault::open_with(all, signer, journal_max(drives))?;
    // As `lavatube_node::embedded` does. What cannot be done now is done another time.
    let _ = vault.settle_releases();
    Ok((vault, report))
}

/// In worlds with an odd number of drives there is no room for the journal in memory.
fn journal_max(drives: &[SimDrive]) -> u64 {
    if drives.len().is_multiple_of(2) { u64::MAX } else { 0 }
}

fn new_keys(root: &Root, wires: &Wires, seed: u64, machine: u64) -> Result<DepositKeys, String> {
    let mut chance = Chance::named(seed, "deposit key", machine);
    let mut secret = || {
        let mut out = [0; 32];
        chance.fill(&mut out);
        wires.keep_secret("a deposit key", &out);
        Secret::new(out)
    };
    let (ed, ml) = (secret(), secret());
    DepositKeys::new(root, "default", "rover", ed, ml).map_err(|e| e.to_string())
}
