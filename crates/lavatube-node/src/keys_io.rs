//! Key files on disk: private, never overwritten, durable before anyone relies on them.
//!
//! A key that others may read is no key, so such a file is refused rather than used. What is in the text belongs to
//! `lavatube_format::key_file` and `lavatube_seal`; this file must not know it. No step of the walk.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use lavatube_base::limits::KEY_FILE_MAX;
use zeroize::Zeroizing;

use crate::atomic::{self, IfThere};
use crate::words::plain;

/// Why a key file was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no key file {}", .0.display())]
    Missing(PathBuf),
    /// Others may read it.
    #[error("the key file {} can be read by others: run `chmod 600 {}`, and think about who may have read it", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// One is there already; keys are never overwritten.
    #[error("{} is there already, and keys are never overwritten", .0.display())]
    Exists(PathBuf),
    /// It is not a regular file, too long, or not text.
    #[error("{} is no key file: {rule}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What it breaks.
        rule: &'static str,
    },
    /// Anything else, in the system's words.
    #[error("the key file {} failed: {text}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        text: String,
    },
}

/// The text of a key file; it is wiped from memory when dropped.
///
/// # Errors
/// [`KeyFileError`]; [`KeyFileError::Exposed`] when group or others have any right to it.
pub fn read_key_text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let unfit = |rule| KeyFileError::Unfit { path: path.to_owned(), rule };
    // NONBLOCK: a fifo of that name must not hang us.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblock).open(path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => failed(path, &e),
    })?;
    let found = file.metadata().map_err(|e| failed(path, &e))?;
    if !found.is_file() {
        return Err(unfit("it is not a regular file"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(KeyFileError::Exposed(path.to_owned()));
    }
    // Room from the start: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_MAX + 1));
    let limit = u64::try_from(KEY_FILE_MAX).unwrap_or(u64::MAX) + 1;
    (&file).take(limit).read_to_end(&mut bytes).map_err(|e| failed(path, &e))?;
    if bytes.len() > KEY_FILE_MAX {
        return Err(unfit("it is too long"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(unfit("it is not text")),
    }
}

/// Writes a new key file, for its owner only; once this returns it is durable.
///
/// # Errors
/// [`KeyFileError::Exists`] when there is anything of that name; else what the system said.
pub fn write_key_text(path: &Path, text: &str) -> Result<(), KeyFileError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyFileError::Exists(path.to_owned()));
    }
    atomic::write(path, text.as_bytes(), IfThere::Refuse).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => failed(path, &e),
    })
}

fn failed(path: &Path, e: &io::Error) -> KeyFileError {
    KeyFileError::Io { path: path.to_owned(), text: plain(&e.to_string()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_written_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deposit.key");
        write_key_text(&path, "secret").unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(*read_key_text(&path).unwrap(), "secret");
        assert_eq!(write_key_text(&path, "other"), Err(KeyFileError::Exists(path.clone())));
        assert_eq!(*read_key_text(&path).unwrap(), "secret");
    }

    #[test]
    fn a_key_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        write_key_text(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o601, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let e = read_key_text(&path).unwrap_err();
            assert!(e.to_string().contains(&format!("chmod 600 {}", path.display())), "{e}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        assert_eq!(read_key_text(&path), Err(KeyFileError::Missing(path.clone())));
        write_key_text(&path, &"x".repeat(KEY_FILE_MAX)).unwrap();
        assert!(read_key_text(&path).is_ok());
        std::fs::write(&path, "x".repeat(KEY_FILE_MAX + 1)).unwrap();
        assert!(matches!(read_key_text(&path), Err(KeyFileError::Unfit { .. })));
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(read_key_text(&path), Err(KeyFileError::Unfit { .. })));
        assert!(matches!(read_key_text(dir.path()), Err(KeyFileError::Unfit { .. })));
    }
}
