//! A drive in memory with faults, and a vault on a few of them. It loses an arbitrary part of what was not synced when the
//! power fails.

#![expect(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use lavatube_base::sign::{EdSigner, PairPublic, PairSigner};
use lavatube_base::{Digests, DriveId, SessionId, VaultId, Verified};
use lavatube_format::depositor_card::{CARD_CONTEXT, DepositorCard, SignedCard, depositor_id};
use lavatube_format::drive_card::SlotCard;
use lavatube_format::manifest::{Leaf, MANIFEST_CONTEXT, Manifest, Retention, SignedManifest, Wrap, root_of};
use lavatube_vault::{
    Drive, DriveError, NewDrive, NewVault, ObjectKind, OpenReport, PutMode, ReadingTime, Receipt, Space, Trial, Vault,
};

pub type Files = BTreeMap<String, Vec<u8>>;

/// A seeded generator (xorshift), so that a failing test fails again.
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out: Vec<u8> = (0..n.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        out.truncate(n);
        out
    }
}

/// What happens to unsynced effects when the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    None,
    All,
    Random,
}

#[derive(Clone)]
enum Effect {
    Put(String, Vec<u8>),
    Append(String, Vec<u8>),
    Remove(String),
}

/// The power supply that drives share: after `left` operations it fails.
pub struct Power {
    pub left: usize,
    pub used: usize,
}

#[derive(Default)]
pub struct State {
    pub files: Files,
    staged: Vec<Effect>,
    /// What is durable of files that a process has appended to that was killed before it synced.
    durable: Files,
    pub dead: bool,
    pub full: bool,
    /// Bytes that it can hold.
    pub limit: Option<usize>,
    /// Takes everything and keeps nothing: for measuring what the vault itself costs.
    pub discard: bool,
    pub fail_sync: bool,
    /// Bytes that were read.
    pub read: usize,
    /// How long a read takes, in nanoseconds, and how many there were since that was asked.
    pub read_ns: u64,
    reads: u64,
}

/// A drive in memory; clones are the same drive.
#[derive(Clone)]
pub struct MemoryDrive {
    pub state: Arc<Mutex<State>>,
    pub power: Arc<Mutex<Power>>,
}

impl MemoryDrive {
    pub fn new(power: &Arc<Mutex<Power>>) -> Self {
        Self { state: Arc::default(), power: power.clone() }
    }

    pub fn with<T>(&self, act: impl FnOnce(&mut Files) -> T) -> T {
        act(&mut self.state.lock().unwrap().files)
    }

    pub fn delete_all(&self) {
        self.with(|f| f.clear());
    }

    pub fn noise(&self, chance: &mut Chance) {
        self.with(|f| f.values_mut().for_each(|v| *v = chance.bytes(v.len())));
    }

    pub fn shard_files(&self) -> Vec<String> {
        self.with(|f| f.keys().filter(|n| n.starts_with("shards/")).cloned().collect())
    }

    /// What the drive holds after the power failed: synced effects, and of the others what `crash` says.
    pub fn lose_power(&self, crash: Crash, chance: &mut Chance) {
        let mut state = self.state.lock().unwrap();
        let staged = std::mem::take(&mut state.staged);
        let durable = std::mem::take(&mut state.durable);
        state.files.extend(durable);
        for effect in staged {
            let happens = match crash {
                Crash::None => false,
                Crash::All => true,
                Crash::Random => chance.below(2) == 1,
            };
            match effect {
                Effect::Append(name, bytes) if crash == Crash::Random => {
                    let mut torn = bytes;
                    torn.truncate(chance.below(torn.len() + 1));
                    if chance.below(3) == 0 {
                        torn = chance.bytes(torn.len());
                    }
                    state.files.entry(name).or_default().extend(torn);
                }
                effect if happens => apply(&mut state.files, effect),
                _ => {}
            }
        }
    }

    /// The process that writes is killed: what it put is gone, what it appended is with the system.
    pub fn kill(&self) {
        let mut state = self.state.lock().unwrap();
        for effect in std::mem::take(&mut state.staged) {
            if let Effect::Append(name, _) = &effect {
                let before = state.files.get(name).cloned().unwrap_or_default();
                state.durable.entry(name.clone()).or_insert(before);
                apply(&mut state.files, effect);
            }
        }
    }

    fn spend(&self) -> Result<(), DriveError> {
        let mut power = self.power.lock().unwrap();
        power.used += 1;
        if power.left == 0 {
            return Err(DriveError::Gone);
        }
        power.left -= 1;
        drop(power);
        if self.state.lock().unwrap().dead { Err(DriveError::Io("input/output error".into())) } else { Ok(()) }
    }
}

fn apply(files: &mut Files, effect: Effect) {
    match effect {
        Effect::Put(name, bytes) => drop(files.insert(name, bytes)),
        Effect::Append(name, bytes) => files.entry(name).or_default().extend(bytes),
        Effect::Remove(name) => drop(files.remove(&name)),
    }
}

impl Drive for MemoryDrive {
    fn put(&self, name: &str, parts: &[&[u8]], mode: PutMode) -> Result<(), DriveError> {
        self.spend()?;
        let mut state = self.state.lock().unwrap();
        if state.discard {
            return Ok(());
        }
        let bytes = parts.concat();
        let held: usize = state.files.values().map(Vec::len).sum();
        let staged: usize = state.staged.iter().map(|e| if let Effect::Put(_, b) = e { b.len() } else { 0 }).sum();
        let is_over =
            name.starts_with("shards/") && state.limit.is_some_and(|limit| held + staged + bytes.len() > limit);
        if state.full || is_over {
            return Err(DriveError::Full);
        }
        if mode == PutMode::New && state.files.get(name).is_some_and(|there| *there != bytes) {
            return Err(DriveError::Exists);
        }
        state.staged.push(Effect::Put(name.into(), bytes));
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), DriveError> {
        self.spend()?;
        self.state.lock().unwrap().staged.push(Effect::Append(name.into(), bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> Result<(), DriveError> {
        self.spend()?;
        let mut state = self.state.lock().unwrap();
        let staged = std::mem::take(&mut state.staged);
        if state.fail_sync {
            return Err(DriveError::Io("input/output error".into()));
        }
        for effect in staged {
            if let Effect::Put(name, _) | Effect::Append(name, _) = &effect {
                state.durable.remove(name);
            }
            apply(&mut state.files, effect);
        }
        Ok(())
    }

    fn abandon(&self) {
        // The dead abandon nothing.
        if self.power.lock().unwrap().left > 0 {
            self.state.lock().unwrap().staged.retain(|effect| !matches!(effect, Effect::Put(..)));
        }
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> Result<usize, DriveError> {
        let mut state = self.state.lock().unwrap();
        if state.dead {
            return Err(DriveError::Io("input/output error".into()));
        }
        let file = state.files.get(name).ok_or(DriveError::NotFound)?;
        let from = (offset as usize).min(file.len());
        let n = buf.len().min(file.len() - from);
        buf[..n].copy_from_slice(&file[from..from + n]);
        state.read += n;
        state.reads += 1;
        Ok(n)
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DriveError> {
        Ok(self.state.lock().unwrap().files.get(name).map(|f| f.len() as u64))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str)) -> Result<(), DriveError> {
        let names: Vec<String> = self.with(|f| f.keys().filter(|n| n.starts_with(prefix)).cloned().collect());
        names.iter().for_each(|n| each(n));
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DriveError> {
        self.spend()?;
        self.state.lock().unwrap().staged.push(Effect::Remove(name.into()));
        Ok(())
    }

    fn space(&self) -> Result<Space, DriveError> {
        Ok(Space { total: 1 << 40, free: 1 << 39 })
    }

    fn reading_time(&self) -> ReadingTime {
        let mut state = self.state.lock().unwrap();
        let reads = std::mem::take(&mut state.reads);
        ReadingTime { ns: reads * state.read_ns, reads }
    }
}

/// Drives and the keys of the vault on them.
pub struct World {
    pub drives: Vec<MemoryDrive>,
    pub power: Arc<Mutex<Power>>,
    pub chance: Chance,
}

thread_local! {
    static OPENED: Cell<u32> = const { Cell::new(0) };
}

/// Opens a vault: every other one has no room for its journal in memory.
pub fn open(
    drives: Vec<Option<Box<dyn Drive>>>,
    signer: Option<EdSigner>,
) -> Result<(Vault, OpenReport), lavatube_vault::OpenError> {
    let opened = OPENED.replace(OPENED.get() + 1);
    let journal_max = if opened.is_multiple_of(2) { 0 } else { u64::MAX };
    Vault::open_with(drives, signer, journal_max)
}

pub fn signer() -> EdSigner {
    EdSigner::from_seed(&[42; 32]).unwrap()
}

pub fn authority() -> PairSigner {
    PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap()
}

fn authority_public() -> PairPublic {
    static KEY: std::sync::OnceLock<PairPublic> = std::sync::OnceLock::new();
    KEY.get_or_init(|| authority().public()).clone()
}

impl World {
    pub fn new(drives: usize) -> Self {
        let power = Arc::new(Mutex::new(Power { left: usize::MAX, used: 0 }));
        let drives = (0..drives).map(|_| MemoryDrive::new(&power)).collect();
        Self { drives, power, chance: Chance(0x9e37_79b9_7f4a_7c15) }
    }

    pub fn spec(&self, k: u8, m: u8) -> NewVault {
        let drive = |(n, d): (usize, &MemoryDrive)| NewDrive {
            drive: Box::new(d.clone()),
            card: SlotCard {
                drive: DriveId([n as u8 + 1; 16]),
                label: format!("d{n}"),
                shelf: format!("shelf {}", n % 3),
                maker: "Lunar".into(),
                model: "L1".into(),
                retired: false,
            },
        };
        NewVault {
            vault: VaultId([7; 16]),
            k,
            m,
            authority: authority_public(),
            signer: signer(),
            drives: self.drives.iter().enumerate().map(drive).collect(),
        }
    }

    pub fn create(&self, k: u8, m: u8) -> Vault {
        Vault::create(self.spec(k, m)).unwrap()
    }

    pub fn create_discarding(&self, k: u8, m: u8) -> Vault {
        let vault = self.create(k, m);
        self.drives.iter().for_each(|d| d.state.lock().unwrap().discard = true);
        vault
    }

    pub fn boxed(&self) -> Vec<Option<Box<dyn Drive>>> {
        self.drives.iter().map(|d| Some(Box::new(d.clone()) as Box<dyn Drive>)).collect()
    }

    pub fn open(&self) -> (Vault, OpenReport) {
        open(self.boxed(), Some(signer())).unwrap()
    }

    pub fn images(&self) -> Vec<Files> {
        self.drives.iter().map(|d| d.with(|f| f.clone())).collect()
    }

    pub fn restore(&self, images: &[Files]) {
        self.drives.iter().zip(images).for_each(|(d, image)| d.with(|f| *f = image.clone()));
    }

    /// Has a vault on drives as they were `act`, until power fails at operation `at`: what came of it.
    pub fn cut<T>(&mut self, images: &[Files], at: usize, crash: Crash, act: impl FnOnce(&mut Vault) -> T) -> T {
        self.restore(images);
        self.power.lock().unwrap().left = usize::MAX;
        let (mut vault, _) = self.open();
        self.power.lock().unwrap().left = at;
        let acted = act(&mut vault);
        drop(vault);
        self.drives.iter().for_each(|drive| drive.lose_power(crash, &mut self.chance));
        self.power.lock().unwrap().left = usize::MAX;
        acted
    }
}

/// A depositor's card, certified by `authority`.
pub fn card(depositor: &PairSigner, authority: &PairSigner) -> Vec<u8> {
    let card = DepositorCard { label: "laptop".into(), public: depositor.public() };
    let body = card.encode_body();
    let signature = authority.sign(CARD_CONTEXT, &body).unwrap();
    SignedCard { card, body, signature }.encode()
}

/// The first manifest of a depositor, about packs of these leaves.
pub fn manifest(depositor: &PairSigner, leaves: Vec<Leaf>) -> Manifest {
    Manifest {
        session: SessionId([1; 16]),
        depositor: depositor_id(&depositor.public()),
        sequence: 1,
        previous: None,
        joins: Vec::new(),
        root: root_of(&leaves),
        leaves,
        wraps: vec![Wrap { key_id: [4; 8], enc: vec![5; 1120], ct: vec![6; 48] }],
        note: vec![7; 32 + 16 + 256],
        tags: Vec::new(),
        retention: Retention::default(),
        releases: 0,
        files: None,
    }
}

/// Leaves of packs of the least class.
pub fn leaves(packs: &[&[u8]]) -> Vec<Leaf> {
    packs.iter().map(|pack| Leaf { class: 0, digests: Digests::of(pack) }).collect()
}

pub fn signed(manifest: Manifest, depositor: &PairSigner) -> Vec<u8> {
    let body = manifest.encode_body();
    let signature = depositor.sign(MANIFEST_CONTEXT, &body).unwrap();
    SignedManifest { manifest, body, signature }.encode()
}

pub fn store(vault: &mut Vault, bytes: &[u8]) -> Receipt {
    vault.store(ObjectKind::Pack, Verified::hash(bytes)).unwrap()
}

/// Reads drives in quarantine wholly, and lets them in as far as they are right. How many were let in.
pub fn admit(vault: &mut Vault) -> usize {
    let slots = vault.on_trial();
    let tried = slots.into_iter().filter(|slot| {
        let Some(mut trial) = Trial::begin(vault, *slot) else { return false };
        while trial.handle_step(vault).is_some() {}
        trial.finish(vault).unwrap()
    });
    tried.count()
}

pub fn keep(vault: &mut Vault, bytes: &[u8]) {
    store(vault, bytes);
}

pub fn read(vault: &Vault, bytes: &[u8]) -> Result<(), String> {
    let mut out = Vec::new();
    let report = vault.read(Verified::hash(bytes).id(), 0..bytes.len() as u64, &mut out);
    report.map_err(|e| e.to_string())?;
    if out == bytes { Ok(()) } else { Err("WRONG BYTES".into()) }
}
