//! The keys of this machine: made once, kept in separate files, read when a command needs them.
//!
//! `deposit.key` can only add; `read.key` can open; the recovery key is the root of both and belongs on paper. Losing
//! them apart is the point: the machine that backs up needs only the first. It must not know what keys do.

use std::path::{Path, PathBuf};

use lavatube_format::key_file::{DepositBody, KeyFile, KeyKind, ReadBody, Secret};
use lavatube_format::recovery::RecoveryError;
use lavatube_seal::lock::{Costs, lock, unlock, unlocked};
use lavatube_seal::{DepositKeys, ReadKeys, Root, SealError};
use zeroize::Zeroizing;

use crate::entropy;
use crate::keys_io::{KeyFileError, read_key_text, write_key_text};

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

    /// Makes all keys from a new root: deposit key, read key, recovery key.
    ///
    /// # Errors
    /// [`KeyringError`]; existing files are never overwritten.
    pub fn make(&self, label: &str) -> Result<(), KeyringError> {
        std::fs::create_dir_all(&self.folder).map_err(|e| self.failed(&e))?;
        // The recovery key first: whatever happens next, what is made can be made again from it. One that is there already
        // is what an interrupted run left.
        let root = match self.left_recovery()? {
            Some(root) => root,
            None => {
                let root = Root::new(Secret::new(entropy::bytes()?));
                write_key_text(&self.recovery_path(), &recovery_text(&root))?;
                root
            }
        };
        self.make_from(&root, label)
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
    /// As [`Keyring::make`].
    pub fn make_from(&self, root: &Root, label: &str) -> Result<(), KeyringError> {
        std::fs::create_dir_all(&self.folder).map_err(|e| self.failed(&e))?;
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

/// What a recovery key file says.
fn recovery_text(root: &Root) -> Zeroizing<String> {
    Zeroizing::new(format!(
        "lavatube recovery key\n\n    {}\n\nWhoever has this line can read everything and make every other key again.\n\
         Without it, a lost read key means lost data.\n\
         Print this file or copy the line by hand, keep it far from the machine, then delete the file.\n",
        root.to_recovery_text().as_str()
    ))
}
