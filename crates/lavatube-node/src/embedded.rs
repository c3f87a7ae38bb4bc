//! An embedded vault: the vault of this machine, and the far side of its client in one process.
//!
//! Steps 7 to 12 of the walk are a function call here. A folder holds the vault's own small files: which drives there
//! are, its key, and a lock; everything else is on the drives. It must not know how anything is encoded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use lavatube_base::sign::{EdSigner, PairPublic, SignError};
use lavatube_base::{DriveId, ObjectId, VaultId, Verified};
use lavatube_client::far::{Far, FarError, LogWord, ReceiptBytes, Signer};
use lavatube_format::drive_card::DriveCard;
use lavatube_format::key_file::{KeyFile, KeyKind, Secret, VaultBody};
use lavatube_format::log::Question;
use lavatube_format::receipt::Receipt;
use lavatube_format::shard::{ObjectKind, SHARDS};
use lavatube_vault::{
    CreateError, DepositError, Depth, Drive, DriveError, DriveState, LogError, LogSight, NewDrive, NewVault, OpenError,
    OpenReport, StoreError, Vault,
};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, COMMON, IfThere, make_folders};
use crate::clock;
use crate::copies;
pub use crate::drive_spec::DriveSpec;
use crate::entropy;
use crate::keys_io::{self, KeyFileError};
use crate::mounts;
use crate::places::{self, Access, CARD_FILE, Seen};

const VAULT_FILE: &str = "vault.toml";
const KEY_FILE: &str = "vault.key";
/// Stands for a far vault when there is no vault file beside it.
pub(crate) const LINK_FILE: &str = "link.toml";
const LOCK_FILE: &str = "lock";
/// How much of time may be forgotten by a vault that is killed.
const AGE_NOTED_EVERY: Duration = Duration::from_secs(3600);

/// Why an embedded vault cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// There is none.
    #[error("there is no vault in {}", .0.display())]
    NoVault(PathBuf),
    /// It is at the other end of a link.
    #[error("the vault of {} is at the other end of a link, and this cannot be done over a link", .0.display())]
    Far(PathBuf),
    /// Its folder or file failed.
    #[error("{}: {text}", path.display())]
    Io {
        /// What failed.
        path: PathBuf,
        /// The system's words.
        text: String,
    },
    /// The list of drives is no such list.
    #[error("{} is not a vault file: {text}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// A drive in a bucket failed.
    #[error("{place}: {text}")]
    Bucket {
        /// Which.
        place: String,
        /// What was said.
        text: String,
    },
    /// It does not sign for its log.
    #[error("the vault does not sign for its log now: {0}")]
    Unsigned(String),
    /// Its key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// It could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It did not take the depositor's card.
    #[error("the vault refuses this machine's deposit key: {0}")]
    Card(DepositError),
    /// The read key belongs to another archive.
    #[error("the read key belongs to another archive than the vault in {}", .0.display())]
    OtherArchive(PathBuf),
    /// Its signing key is none.
    #[error("the vault's key: {0}")]
    Signer(SignError),
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
}

/// Which drives a vault has: `vault.toml`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultFile {
    vault: String,
    drives: Vec<PathBuf>,
    /// Where the disks of those drives are mounted that are not on the vault folder's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    mounts: BTreeMap<PathBuf, PathBuf>,
}

/// Whether there is a vault in `folder`.
pub fn is_vault(folder: &Path) -> bool {
    copies::exists(&folder.join(VAULT_FILE))
}

/// The file that is locked while a vault is in use.
pub fn lock_path(folder: &Path) -> PathBuf {
    folder.join(LOCK_FILE)
}

/// Where the drives of the vault in `folder` are: folders, and buckets.
///
/// # Errors
/// [`VaultError`] when there is no vault file or it cannot be read.
pub fn drive_folders(folder: &Path) -> Result<Vec<PathBuf>, VaultError> {
    Ok(read_vault_file(folder)?.drives.into_iter().map(|d| places::at(folder, &d)).collect())
}

/// By drive: the mount point that its disk should be mounted at, where nothing is mounted now.
///
/// # Errors
/// As [`drive_folders`].
pub fn unmounted(folder: &Path) -> Result<Vec<Option<PathBuf>>, VaultError> {
    let file = read_vault_file(folder)?;
    let away = |drive| file.mounts.get(drive).filter(|mount| mounts::is_unmounted(mount, &folder.join(drive)));
    Ok(file.drives.iter().map(|drive| away(drive).cloned()).collect())
}

/// Remembers where the disks of the drives are mounted of which `is_present` says that they are there.
///
/// # Errors
/// As [`drive_folders`], and when the vault file cannot be written.
pub fn note_mounts(folder: &Path, is_present: impl Fn(usize) -> bool) -> Result<(), VaultError> {
    let mut file = read_vault_file(folder)?;
    let known = file.mounts.clone();
    for (_, drive) in file.drives.iter().enumerate().filter(|(slot, _)| is_present(*slot)) {
        file.mounts.remove(drive);
        file.mounts.extend(own_mount(folder, drive).map(|mount| (drive.clone(), mount)));
    }
    if file.mounts == known { Ok(()) } else { write_vault_file(folder, &file, IfThere::Replace) }
}

/// Where among the drives of the vault in `folder` the folder `drive` stands, if it does.
pub(crate) fn position_of(folder: &Path, drive: &Path) -> Result<Option<usize>, VaultError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let all = drive_folders(folder)?;
    Ok(all.iter().position(|known| real(known) == real(drive)))
}

/// Lists a further drive.
pub(crate) fn list_drive(folder: &Path, drive: &Path) -> Result<(), VaultError> {
    let mut file = read_vault_file(folder)?;
    file.drives.push(drive.to_owned());
    file.mounts.extend(own_mount(folder, drive).map(|mount| (drive.to_owned(), mount)));
    write_vault_file(folder, &file, IfThere::Replace)
}

/// Where the disk of `drive` is mounted, unless the vault's folder is on it: then it is there when the vault file is.
fn own_mount(folder: &Path, drive: &Path) -> Option<PathBuf> {
    if places::bucket(drive).is_some() {
        return None;
    }
    let mount = mounts::mount_of(&folder.join(drive)).ok()?;
    let with_vault = folder.canonicalize().is_ok_and(|folder| folder.starts_with(&mount));
    (!with_vault).then_some(mount)
}

/// The id of the vault in `folder`.
///
/// # Errors
/// As [`drive_folders`].
pub fn vault_id(folder: &Path) -> Result<VaultId, VaultError> {
    let text = read_vault_file(folder)?.vault;
    text.parse().map_err(|e: lavatube_base::id::IdError| VaultError::Unfit {
        path: folder.join(VAULT_FILE),
        text: e.to_string(),
    })
}

fn read_vault_file(folder: &Path) -> Result<VaultFile, VaultError> {
    let path = folder.join(VAULT_FILE);
    let Some(text) = copies::read(&path).map_err(io(&path))? else {
        let is_far = folder.join(LINK_FILE).exists();
        return Err(if is_far { VaultError::Far(folder.to_owned()) } else { VaultError::NoVault(folder.to_owned()) });
    };
    toml::from_str(&text).map_err(|e| VaultError::Unfit { path, text: e.to_string() })
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> VaultError {
    let path = path.to_owned();
    move |e| VaultError::Io { path, text: crate::words::plain(&e.to_string()) }
}

/// Looks whether a vault can be made in `folder` over `drives`, before keys are made for it: every folder can be made and
/// written to, and none holds another vault. The caller holds the lock.
///
/// # Errors
/// [`VaultError`]; what it made by then is used by the next try.
pub fn check_drives(folder: &Path, drives: &[DriveSpec]) -> Result<(), VaultError> {
    let signer = own_signer(folder)?;
    if taken_up_again(folder, drives, &signer).is_some() {
        return Ok(());
    }
    for spec in drives {
        let path = places::at(folder, &spec.folder);
        if places::bucket(&path).is_some() {
            let drive = open_bucket(&path)?;
            let card = places::card_in_bucket(&*drive).map_err(in_bucket(&path))?;
            if card.is_some_and(|card| card.vault_key != signer.public()) {
                return Err(CreateError::Taken { label: spec.label.clone() }.into());
            }
            continue;
        }
        std::fs::create_dir_all(&path).map_err(io(&path))?;
        let may = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::access(&path, may).map_err(|e| io(&path)(e.into()))?;
        if path.join(CARD_FILE).exists() && own_card(&path, &signer).is_none() {
            return Err(CreateError::Taken { label: spec.label.clone() }.into());
        }
    }
    Ok(())
}

/// Makes a vault in `folder` over `drives` with k data and m parity shards, for depositors that `authority` certifies.
/// The caller holds the lock. Returns whether it is a new one: where these drives hold a vault of this very folder, whose
/// list of drives was lost, that is taken up again.
///
/// # Errors
/// [`VaultError`]. A vault that was made in part is completed by making it again with the same drives.
pub fn create(folder: &Path, k: u8, m: u8, drives: &[DriveSpec], authority: PairPublic) -> Result<bool, VaultError> {
    make_folders(folder, COMMON).map_err(io(folder))?;
    let signer = own_signer(folder)?;
    if let Some(card) = taken_up_again(folder, drives, &signer) {
        return begin_vault_file(folder, card.vault, drives).map(|()| false);
    }
    let vault = VaultId(entropy::bytes()?);
    let mut new = Vec::new();
    for spec in drives {
        let path = places::at(folder, &spec.folder);
        let drive = if places::bucket(&path).is_some() {
            let drive = open_bucket(&path)?;
            forget_half_made_in_bucket(&*drive, &signer).map_err(in_bucket(&path))?;
            drive
        } else {
            make_folders(&path, COMMON).map_err(io(&path))?;
            forget_half_made(&path, &signer)?;
            places::open(&path, Access::Write).map_err(|text| VaultError::Io { path, text })?.0
        };
        let card = spec.card(DriveId(entropy::bytes()?));
        new.push(NewDrive { drive, card });
    }
    Vault::create(NewVault { vault, k, m, authority, signer, drives: new })?;
    begin_vault_file(folder, vault, drives)?;
    Ok(true)
}

/// The card of the vault that these drives hold already, when only its list of drives was lost.
fn taken_up_again(folder: &Path, drives: &[DriveSpec], signer: &EdSigner) -> Option<DriveCard> {
    let folders = drives.iter().filter(|d| places::bucket(&d.folder).is_none());
    let card = folders.map(|d| folder.join(&d.folder)).find_map(|path| card_of_a_full_drive(&path, signer));
    card.filter(|card| card.slots.len() == drives.len())
}

fn begin_vault_file(folder: &Path, vault: VaultId, drives: &[DriveSpec]) -> Result<(), VaultError> {
    let drives: Vec<PathBuf> = drives.iter().map(|d| d.folder.clone()).collect();
    let mounts = drives.iter().filter_map(|drive| Some((drive.clone(), own_mount(folder, drive)?))).collect();
    write_vault_file(folder, &VaultFile { vault: vault.to_string(), drives, mounts }, IfThere::Refuse)
}

fn write_vault_file(folder: &Path, file: &VaultFile, if_there: IfThere) -> Result<(), VaultError> {
    let path = folder.join(VAULT_FILE);
    let text = toml::to_string(file).map_err(|e| VaultError::Unfit { path: path.clone(), text: e.to_string() })?;
    let head = "# The drives of this vault: folders, relative to this file, and where their disks are mounted.";
    let text = format!("{head}\n{text}");
    copies::write(&path, &text, if_there).map_err(io(&path))
}

/// The signing key of a vault that is being made: the one an interrupted run left, or a new one.
fn own_signer(folder: &Path) -> Result<EdSigner, VaultError> {
    let path = folder.join(KEY_FILE);
    if !copies::exists(&path) {
        let body = VaultBody { ed25519_seed: Secret::new(entropy::bytes()?) }.encode();
        keys_io::write_key_text(&path, &lavatube_seal::lock::unlocked(KeyKind::Vault, &body).encode())?;
    }
    read_signer(folder)
}

/// The card of a drive, when it names the key of the vault that is being made.
fn own_card(drive: &Path, signer: &EdSigner) -> Option<DriveCard> {
    let card = DriveCard::decode(&std::fs::read(drive.join(CARD_FILE)).ok()?).ok()?;
    (card.vault_key == signer.public()).then_some(card)
}

/// The card of a drive that holds shards of the vault whose key this is.
fn card_of_a_full_drive(drive: &Path, signer: &EdSigner) -> Option<DriveCard> {
    own_card(drive, signer).filter(|_| has_shards(drive))
}

fn has_shards(drive: &Path) -> bool {
    // What cannot be looked into is not known to be empty.
    match std::fs::read_dir(drive.join(SHARDS)) {
        Ok(mut shards) => shards.next().is_some(),
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
    }
}

/// Takes the card off a drive that an interrupted [`create`] wrote it to: there is no vault file yet, the card names the
/// very key that is being used, and nothing is on it.
fn forget_half_made(drive: &Path, signer: &EdSigner) -> Result<(), VaultError> {
    let path = drive.join(CARD_FILE);
    if own_card(drive, signer).is_some() && !has_shards(drive) {
        std::fs::remove_file(&path).map_err(io(&path))?;
    }
    Ok(())
}

/// Opens the drive in a bucket to write to it.
fn open_bucket(path: &Path) -> Result<Box<dyn Drive>, VaultError> {
    let of = |text| VaultError::Bucket { place: path.display().to_string(), text };
    places::open(path, Access::Write).map(|(drive, _)| drive).map_err(of)
}

fn in_bucket(path: &Path) -> impl Fn(DriveError) -> VaultError {
    let place = path.display().to_string();
    move |e| VaultError::Bucket { place: place.clone(), text: e.to_string() }
}

/// As [`forget_half_made`], in a bucket.
fn forget_half_made_in_bucket(drive: &dyn Drive, signer: &EdSigner) -> Result<(), DriveError> {
    let mut is_empty = true;
    drive.list(SHARDS, &mut |_| is_empty = false)?;
    if is_empty && places::card_in_bucket(drive)?.is_some_and(|card| card.vault_key == signer.public()) {
        drive.remove(CARD_FILE)?;
    }
    Ok(())
}

fn signer_of(seed: &Secret) -> Result<EdSigner, VaultError> {
    EdSigner::from_seed(seed.bytes()).map_err(VaultError::Signer)
}

/// A vault of this machine, opened.
pub struct EmbeddedVault {
    vault: RwLock<Vault>,
    /// It was opened with its key.
    may_sign: bool,
    report: OpenReport,
    /// By position among the vault's drives.
    places: Vec<(PathBuf, Seen)>,
    hurt: Mutex<BTreeSet<String>>,
}

impl EmbeddedVault {
    /// Opens the vault in `folder`, to read only or to write too. The caller holds the lock.
    ///
    /// # Errors
    /// [`VaultError`] when there is nothing to go by; missing and damaged drives are in the report.
    pub fn open(folder: &Path, write: bool) -> Result<Self, VaultError> {
        Self::open_with(folder, if write { Access::Write } else { Access::Read })
    }

    /// Opens the vault in `folder` to write to, too, and reads shards from the disks even where the system remembers them.
    ///
    /// # Errors
    /// As [`EmbeddedVault::open`].
    pub fn open_past_cache(folder: &Path) -> Result<Self, VaultError> {
        Self::open_with(folder, Access::PastCache)
    }

    fn open_with(folder: &Path, access: Access) -> Result<Self, VaultError> {
        let (all, write) = (drive_folders(folder)?, access != Access::Read);
        let opened = places::open_all(&all, access);
        let seen = opened.iter().map(|opened| match opened {
            Ok((_, probed)) => Seen { probed: probed.clone(), trouble: None },
            Err(text) => Seen { probed: None, trouble: Some(text.clone()) },
        });
        let places = all.into_iter().zip(seen).collect();
        let drives: Vec<_> = opened.into_iter().map(|opened| opened.ok().map(|(drive, _)| drive)).collect();
        let signer = if write { Some(read_signer(folder)?) } else { None };
        if write {
            copies::heal(&folder.join(VAULT_FILE));
        }
        let (mut vault, report) = Vault::open(drives, signer)?;
        // What a crash has cut of a release, or drives that were away have kept of it. Where that cannot be done now it is done another time.
        let _ = vault.settle_releases();
        Ok(Self { vault: RwLock::new(vault), may_sign: write, report, places, hurt: Mutex::default() })
    }

    /// What was found on opening.
    pub fn report(&self) -> &OpenReport {
        &self.report
    }

    /// Where the vault's drives are, as they are listed, and what was seen of each place on opening.
    pub fn places(&self) -> &[(PathBuf, Seen)] {
        &self.places
    }

    /// Labels of drives that were not as they should be on opening, or had missing or damaged shards of what was fetched.
    pub fn hurt(&self) -> BTreeSet<String> {
        let opened = self.report.drives.iter().filter(|d| !is_well(&d.state)).map(|d| d.label.clone());
        let fetched = self.hurt.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.chain(fetched).collect()
    }

    /// The vault, to ask it things.
    pub fn read(&self) -> RwLockReadGuard<'_, Vault> {
        self.vault.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vault, to change it.
    pub fn write(&self) -> RwLockWriteGuard<'_, Vault> {
        let mut vault = self.vault.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((boot, up)) = clock::uptime() {
            vault.handle_uptime(boot, up);
            // A vault that is asked something now and then ages, also when nothing is deposited.
            let _ = vault.note_age(AGE_NOTED_EVERY);
        }
        vault
    }

    /// Makes a depositor known to the vault.
    ///
    /// # Errors
    /// [`VaultError::Card`] when the vault's authority did not sign the card.
    pub fn admit(&self, card: &[u8]) -> Result<(), VaultError> {
        let id = Verified::hash(card).id();
        let known = self.read().contains(id);
        if known && self.read().examine(id, Depth::Headers).is_ok_and(|health| health.is_whole()) {
            return Ok(());
        }
        match self.write().deposit_card(card) {
            // What an interrupted run has left of it, or damage has, is enough to go on with.
            Err(_) if known => Ok(()),
            other => other.map(drop).map_err(VaultError::Card),
        }
    }
}

fn is_well(state: &DriveState) -> bool {
    matches!(state, DriveState::Present | DriveState::Retired)
}

/// The vault's signing key, from its file or the copy of that: the one that the drives' cards name, where they can be read. The other is made what it was.
fn read_signer(folder: &Path) -> Result<EdSigner, VaultError> {
    let (path, copy) = (folder.join(KEY_FILE), copies::copy_of(&folder.join(KEY_FILE)));
    let own = read_key(&path);
    let card = |folder: &PathBuf| DriveCard::decode(&std::fs::read(folder.join(CARD_FILE)).ok()?).ok();
    // Of drives in buckets nothing is asked: one that is away would be waited for.
    let wanted = drive_folders(folder).ok().and_then(|all| all.iter().find_map(card)).map(|card| card.vault_key);
    let is_right = |signer: &EdSigner| wanted.is_none_or(|key| signer.public() == key);
    // Rights that are too wide are for a person to think about.
    if own.as_ref().is_ok_and(is_right) || matches!(&own, Err(VaultError::Key(KeyFileError::Exposed(_)))) {
        let same = std::fs::read(&copy).is_ok_and(|bytes| std::fs::read(&path).is_ok_and(|own| own == bytes));
        if own.is_ok() && !same {
            keep_key(&path, &copy);
        }
        return own;
    }
    match read_key(&copy) {
        Ok(signer) if wanted.is_some() && is_right(&signer) => {
            keep_key(&copy, &path);
            Ok(signer)
        }
        // Nothing tells which is right while a vault is being made.
        Ok(signer) if own.is_err() => Ok(signer),
        _ => own,
    }
}

/// Writes a key file over a lost or damaged one. Best effort: the next one does it again.
fn keep_key(from: &Path, to: &Path) {
    if let Ok(text) = keys_io::read_key_text(from) {
        let _ = atomic::write(to, text.as_bytes(), IfThere::Replace);
    }
}

fn read_key(path: &Path) -> Result<EdSigner, VaultError> {
    let path = path.to_owned();
    let unfit = |text: String| VaultError::Unfit { path: path.clone(), text };
    let text = keys_io::read_key_text(&path)?;
    let file = KeyFile::decode(&text).map_err(|e| unfit(e.to_string()))?;
    let body = lavatube_seal::lock::unlock(&file, KeyKind::Vault, None).map_err(|e| unfit(e.to_string()))?;
    let body = VaultBody::decode(&body).map_err(|e| unfit(e.to_string()))?;
    signer_of(&body.ed25519_seed)
}

impl EmbeddedVault {
    fn store(&self, kind: ObjectKind, object: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        deposited(object.id(), self.write().store(kind, object).map_err(DepositError::from))
    }
}

/// What came of a deposit, as depositors are told it.
fn deposited(id: ObjectId, receipt: Result<Receipt, DepositError>) -> Result<ReceiptBytes, FarError> {
    receipt.map(|receipt| ReceiptBytes(receipt.encode())).map_err(|e| FarError::of(id, e.denial(), e.to_string()))
}

impl Far for EmbeddedVault {
    fn signer(&self) -> Signer {
        let vault = self.read();
        Signer { vault: vault.id(), key: vault.vault_key() }
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.store(ObjectKind::Pack, pack)
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.store(ObjectKind::Tags, tags)
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        deposited(manifest.id(), self.write().deposit_manifest(manifest.bytes()))
    }

    fn deliver_release(&self, release: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        deposited(release.id(), self.write().deposit_release(release.bytes()))
    }

    fn releases(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(self.read().objects_of(ObjectKind::Release).map(|o| (o.id, o.len)).collect())
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        let report = self.read().read(id, range, out).map_err(|e| FarError::of(id, e.denial(), e.to_string()))?;
        let labels = report.damage.into_iter().map(|shard| shard.label).filter(|label| !label.is_empty());
        self.hurt.lock().unwrap_or_else(PoisonError::into_inner).extend(labels);
        Ok(())
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(self.read().objects_of(ObjectKind::Manifest).map(|o| (o.id, o.len)).collect())
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        Ok(self.read().contains(id))
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        Ok(self.read().find(pack).filter(|object| object.kind == ObjectKind::Pack).map(|object| object.len))
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        if self.may_sign {
            match self.write().answer_log(question) {
                Ok(answer) => return Ok(LogWord::Signed(answer)),
                // Too few drives to write to may be enough to see that something is wrong.
                Err(LogError::Store(StoreError::Shortfall { .. })) => {}
                Err(e) => return Err(FarError::Away(e.to_string())),
            }
        }
        let seen = self.read().look_at_log(question.known, &question.objects);
        let LogSight { checkpoint, consistency, objects } = seen.map_err(|e| FarError::Away(e.to_string()))?;
        Ok(LogWord::Read { checkpoint, consistency, objects })
    }
}
