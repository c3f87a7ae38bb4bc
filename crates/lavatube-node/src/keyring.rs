//! The keys of this machine: made once, kept in separate files, read when a command needs them.
//!
//! `deposit.key` can only add; `read.key` can open; the recovery key is the root of both and belongs on paper. Losing
//! them apart is the point: the machine that backs up needs only the first. It must not know what keys do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_format::key_file::{DepositBody, KeyFile, KeyKind, LinkBody, ReadBody, Secret};
use lavatube_format::recovery::RecoveryError;
use lavatube_seal::lock::{Costs, lock, unlock, unlocked};
use lavatube_seal::{DepositKeys, ReadKeys, Reads, Root, SealError};
use zeroize::Zeroizing;

use crate::atomic::{self, IfThere, PRIVATE, make_folders};
use crate::entropy;
use crate::keys_io::{KeyFileError, read_key_text, write_key_text};
use crate::lock::{Lock, LockError, Mode};

/// Name of the tenant whose keys a first run makes.
pub const DEFAULT_TENANT: &str = "default";

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Its content.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SealError,
    },
    /// It is locked, and no passphrase was given.
    #[error("{} is locked with a passphrase", .0.display())]
    Locked(PathBuf),
    /// It should hold a recovery key.
    #[error("{}: {source}", path.display())]
    Recovery {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RecoveryError,
    },
    /// Keys could not be made.
    #[error("keys could not be made: {0}")]
    Make(SealError),
    /// Another command makes keys in the same folder.
    #[error(transparent)]
    Busy(#[from] LockError),
    /// A deposit key is to be made for an archive whose recovery key is not here.
    #[error("there is no deposit key {}, and only the recovery key of this archive can make one", .0.display())]
    NoRoot(PathBuf),
    /// A key that is here was made from another recovery key: the two must not lie beside each other.
    #[error("{} was not made from this recovery key", .0.display())]
    OtherRoot(PathBuf),
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
}

/// The folder of a machine's keys.
#[derive(Debug, Clone)]
pub struct Keyring {
    folder: PathBuf,
}

/// Gives a passphrase when one is needed; the argument is what to ask for.
pub type AskPassphrase<'a> = &'a mut dyn FnMut(&str) -> Option<Zeroizing<String>>;

impl Keyring {
    /// The keys in `folder`.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the deposit key is or would be.
    pub fn deposit_path(&self) -> PathBuf {
        self.folder.join("deposit.key")
    }

    /// Where the read key is or would be.
    pub fn read_path(&self) -> PathBuf {
        self.folder.join("read.key")
    }

    /// Where a first run leaves the recovery key, until it is on paper.
    pub fn recovery_path(&self) -> PathBuf {
        self.folder.join("recovery-key.txt")
    }

    /// Whether this machine has a deposit key.
    pub fn can_deposit(&self) -> bool {
        self.deposit_path().exists()
    }

    /// Makes all keys from a new root: deposit key, read key, recovery key. Returns whether there was anything to make.
    ///
    /// # Errors
    /// [`KeyringError`]; existing files are never overwritten.
    pub fn make(&self, label: &str) -> Result<bool, KeyringError> {
        let _lock = self.lock()?;
        if self.can_deposit() {
            // Another command, which we waited for, has made them.
            return Ok(false);
        }
        // The recovery key first: whatever happens next, what is made can be made again from it. One that is there already
        // is what an interrupted run left.
        let root = match self.left_recovery()? {
            Some(root) => root,
            // A new root would not be the one of the read key.
            None if self.read_path().exists() => return Err(KeyringError::NoRoot(self.deposit_path())),
            None => {
                let root = Root::new(Secret::new(entropy::bytes()?));
                write_key_text(&self.recovery_path(), &recovery_text(&root))?;
                root
            }
        };
        self.complete(&root, label).map(|()| true)
    }

    /// One maker of keys at a time: two would each make a root, and the keys of both would get mixed.
    fn lock(&self) -> Result<Lock, KeyringError> {
        make_folders(&self.folder, PRIVATE).map_err(|e| self.failed(&e))?;
        Ok(Lock::acquire(&self.folder.join(LOCK_FILE), "lavatube init", Mode::Exclusive, PATIENCE)?)
    }

    /// The root in the recovery key file, when that is still here.
    ///
    /// # Errors
    /// [`KeyringError`] when the file is there and holds no recovery key.
    pub fn left_recovery(&self) -> Result<Option<Root>, KeyringError> {
        let path = self.recovery_path();
        let text = match read_key_text(&path) {
            Err(KeyFileError::Missing(_)) => return Ok(None),
            other => other?,
        };
        let line = text.lines().map(str::trim).find(|l| l.starts_with("LVT1-")).unwrap_or_default();
        Root::from_recovery_text(line).map(Some).map_err(|source| KeyringError::Recovery { path, source })
    }

    /// Makes deposit key and read key from an existing root, where they are missing.
    ///
    /// # Errors
    /// As [`Keyring::make`]; [`KeyringError::OtherRoot`] when a key that is here already was made from another root.
    pub fn make_from(&self, root: &Root, label: &str) -> Result<(), KeyringError> {
        let _lock = self.lock()?;
        self.complete(root, label)
    }

    /// Writes the link key of whoever has nothing but the recovery key, for a machine that takes the place of those that
    /// were lost.
    ///
    /// # Errors
    /// As [`Keyring::make`].
    pub fn make_recovery_link(&self, root: &Root) -> Result<(), KeyringError> {
        let _lock = self.lock()?;
        if !self.recovery_link_path().exists() {
            let (secret, _) = root.link_key().map_err(KeyringError::Make)?;
            let body = LinkBody { x25519: secret }.encode();
            write_key_text(&self.recovery_link_path(), &unlocked(KeyKind::Link, &body).encode())?;
        }
        Ok(())
    }

    /// Where [`Keyring::make_recovery_link`] writes it.
    pub fn recovery_link_path(&self) -> PathBuf {
        self.folder.join("recovery-link.key")
    }

    /// The public link key of whoever has nothing but the recovery key, if this machine knows it.
    pub fn recovery_link(&self) -> Option<[u8; 32]> {
        let text = std::fs::read_to_string(self.folder.join(RECOVERY_LINK)).ok()?;
        let digits = text.trim().as_bytes().as_chunks::<2>().0;
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        digits.iter().map(byte).collect::<Option<Vec<u8>>>()?.try_into().ok()
    }

    fn complete(&self, root: &Root, label: &str) -> Result<(), KeyringError> {
        self.compare(root)?;
        let (_, link) = root.link_key().map_err(KeyringError::Make)?;
        let digits = lavatube_base::hex(link.public());
        let path = self.folder.join(RECOVERY_LINK);
        atomic::write(&path, format!("{digits}\n").as_bytes(), IfThere::Replace).map_err(|e| self.failed(&e))?;
        if !self.read_path().exists() {
            let body = root.read_body(DEFAULT_TENANT).map_err(KeyringError::Make)?;
            write_key_text(&self.read_path(), &unlocked(KeyKind::Read, &body.encode()).encode())?;
        }
        if !self.deposit_path().exists() {
            let (ed, ml) = (Secret::new(entropy::bytes()?), Secret::new(entropy::bytes()?));
            let keys = DepositKeys::new(root, DEFAULT_TENANT, label, ed, ml).map_err(KeyringError::Make)?;
            let body = keys.body().encode();
            write_key_text(&self.deposit_path(), &unlocked(KeyKind::Deposit, &body).encode())?;
        }
        // What is on the disk now is what a loss will be mended with.
        self.compare(root)
    }

    /// Whether all key files that are here, and can be opened without a passphrase, come from `root`.
    fn compare(&self, root: &Root) -> Result<(), KeyringError> {
        let authority = root.authority_public().map_err(KeyringError::Make)?;
        if self.left_recovery()?.is_some_and(|left| *left.to_recovery_text() != *root.to_recovery_text()) {
            return Err(KeyringError::OtherRoot(self.recovery_path()));
        }
        if here(self.read(None, &mut |_| None))?.is_some_and(|keys| *keys.authority_public() != authority) {
            return Err(KeyringError::OtherRoot(self.read_path()));
        }
        if here(self.deposit())?.is_some_and(|keys| keys.card().verify(&authority).is_err()) {
            return Err(KeyringError::OtherRoot(self.deposit_path()));
        }
        Ok(())
    }

    fn failed(&self, e: &std::io::Error) -> KeyringError {
        KeyFileError::Io { path: self.folder.clone(), text: e.to_string() }.into()
    }

    /// The deposit key.
    ///
    /// # Errors
    /// [`KeyringError`] when it is not there or not usable.
    pub fn deposit(&self) -> Result<DepositKeys, KeyringError> {
        let path = self.deposit_path();
        let body = open(&path, KeyKind::Deposit, &mut |_| None)?;
        let body = DepositBody::decode(&body).map_err(|e| content(&path, e.into()))?;
        DepositKeys::from_body(body).map_err(|e| content(&path, e))
    }

    /// The read key in `path`, or in this folder.
    ///
    /// # Errors
    /// [`KeyringError`] when it is not there, or not usable with the passphrase given.
    pub fn read(&self, path: Option<&Path>, ask: AskPassphrase<'_>) -> Result<ReadKeys, KeyringError> {
        let own = self.read_path();
        let path = path.unwrap_or(&own);
        let body = open(path, KeyKind::Read, ask)?;
        let body = ReadBody::decode(&body).map_err(|e| content(path, e.into()))?;
        ReadKeys::from_body(body).map_err(|e| content(path, e))
    }

    /// Writes the read key to `to`, locked when `passphrase` is given. The key here stays.
    ///
    /// # Errors
    /// [`KeyringError`]; nothing is overwritten.
    pub fn copy_read(
        &self,
        from: &Path,
        to: &Path,
        ask: AskPassphrase<'_>,
        passphrase: Option<&str>,
    ) -> Result<(), KeyringError> {
        let body = open(from, KeyKind::Read, ask)?;
        ReadBody::decode(&body).map_err(|e| content(from, e.into()))?;
        let file = match passphrase {
            None => unlocked(KeyKind::Read, &body),
            Some(p) => lock(KeyKind::Read, &body, p.as_bytes(), Costs::DAILY, entropy::bytes()?, entropy::bytes()?)
                .map_err(|e| content(to, e))?,
        };
        Ok(write_key_text(to, &file.encode())?)
    }
}

/// Keys, when they are here and not locked.
fn here<K>(keys: Result<K, KeyringError>) -> Result<Option<K>, KeyringError> {
    match keys {
        Err(KeyringError::File(KeyFileError::Missing(_)) | KeyringError::Locked(_)) => Ok(None),
        other => other.map(Some),
    }
}

fn content(path: &Path, source: SealError) -> KeyringError {
    KeyringError::Content { path: path.to_owned(), source }
}

fn open(path: &Path, kind: KeyKind, ask: AskPassphrase<'_>) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
    let text = read_key_text(path)?;
    let file = KeyFile::decode(&text).map_err(|e| content(path, e.into()))?;
    let passphrase = if file.lock.is_some() {
        let asked = ask(&format!("Passphrase of {}", path.display()));
        Some(asked.ok_or_else(|| KeyringError::Locked(path.to_owned()))?)
    } else {
        None
    };
    unlock(&file, kind, passphrase.as_ref().map(|p| p.as_bytes())).map_err(|e| content(path, e))
}

const LOCK_FILE: &str = "lock";
const RECOVERY_LINK: &str = "recovery-link.pub";
/// How long to wait for another command that makes keys in the same folder; that takes it a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a recovery key file says.
fn recovery_text(root: &Root) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "lavatube recovery key\n\n    {}\n\nWhoever has this line can read everything and make every other key again.\n\
         Without it, a lost read key means lost data.\n\
         Print this file or copy the line by hand, keep it far from the machine, then delete the file.\n",
        root.to_recovery_text().as_str()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(keyring: &Keyring) -> Root {
        keyring.left_recovery().unwrap().unwrap()
    }

    #[test]
    fn keys_are_made_once_however_many_ask() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::at(&dir.path().join("keys"));
        let made: usize = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..4).map(|_| scope.spawn(|| keyring.make("host").unwrap())).collect();
            makers.into_iter().map(|m| usize::from(m.join().unwrap())).sum()
        });
        assert_eq!(made, 1);
        keyring.compare(&root(&keyring)).unwrap();
    }

    #[test]
    fn what_an_interrupted_run_left_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = Keyring::at(dir.path());
        keyring.make("host").unwrap();
        for cut in [&["deposit.key"][..], &["deposit.key", "read.key"]] {
            cut.iter().for_each(|name| std::fs::remove_file(dir.path().join(name)).unwrap());
            assert!(keyring.make("host").unwrap());
            keyring.compare(&root(&keyring)).unwrap();
        }
    }

    #[test]
    fn keys_of_two_roots_are_not_put_beside_each_other() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (Keyring::at(one.path()), Keyring::at(two.path()));
        a.make("host").unwrap();
        b.make("host").unwrap();
        let other = root(&b);
        let refused = |named: PathBuf| match a.make_from(&other, "host") {
            Err(KeyringError::OtherRoot(path)) => assert_eq!(path, named),
            other => panic!("{other:?}"),
        };
        refused(a.recovery_path());
        std::fs::remove_file(a.recovery_path()).unwrap();
        refused(a.read_path());
        // A new root would not be the read key's.
        std::fs::remove_file(a.deposit_path()).unwrap();
        assert!(matches!(a.make("host"), Err(KeyringError::NoRoot(_))));
        refused(a.read_path());
        assert!(!a.can_deposit() && !a.recovery_path().exists());
        std::fs::remove_file(a.read_path()).unwrap();
        a.make_from(&other, "host").unwrap();
        a.compare(&other).unwrap();
    }
}
