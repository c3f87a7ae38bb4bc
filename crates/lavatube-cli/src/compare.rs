//! Compares a tree that came back with the one it came from: kinds, names, links, permissions and every byte.
//!
//! It shares no code with the backup or the restore, so that one mistake cannot hide in both. Must not know how the second
//! tree came about.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What was compared, and what is not the same.
#[derive(Debug, Default)]
pub struct Compared {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths, and what is different about them.
    pub differences: Vec<(PathBuf, &'static str)>,
}

/// Compares what is at `was` with what is at `is`.
///
/// # Errors
/// When either cannot be read.
pub fn trees(was: &Path, is: &Path) -> io::Result<Compared> {
    let mut compared = Compared::default();
    compared.entry(was, is)?;
    Ok(compared)
}

impl Compared {
    fn differ(&mut self, path: &Path, what: &'static str) {
        self.differences.push((path.to_owned(), what));
    }

    fn entry(&mut self, was: &Path, is: &Path) -> io::Result<()> {
        let a = fs::symlink_metadata(was)?;
        let b = match fs::symlink_metadata(is) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.differ(was, "did not come back");
                return Ok(());
            }
            other => other?,
        };
        if a.file_type() != b.file_type() {
            self.differ(was, "came back as something else");
            return Ok(());
        }
        if a.mode() != b.mode() && !a.is_symlink() {
            self.differ(was, "permissions");
        }
        if a.is_dir() {
            return self.directory(was, is);
        }
        if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
            self.differ(was, "time");
        }
        if a.is_symlink() && fs::read_link(was)? != fs::read_link(is)? {
            self.differ(was, "where the link leads");
        }
        if a.is_file() { self.content(was, is, &a, &b) } else { Ok(()) }
    }

    fn directory(&mut self, was: &Path, is: &Path) -> io::Result<()> {
        let names = |folder: &Path| -> io::Result<BTreeSet<_>> {
            fs::read_dir(folder)?.map(|entry| entry.map(|e| e.file_name())).collect()
        };
        let here = names(was)?;
        for name in names(is)?.difference(&here) {
            self.differ(&was.join(name), "was not there before");
        }
        here.into_iter().try_for_each(|name| self.entry(&was.join(&name), &is.join(&name)))
    }

    fn content(&mut self, was: &Path, is: &Path, a: &Metadata, b: &Metadata) -> io::Result<()> {
        self.files += 1;
        self.bytes += a.len();
        if a.len() != b.len() || !same_bytes(was, is)? {
            self.differ(was, "content");
        }
        Ok(())
    }
}

fn same_bytes(was: &Path, is: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(was)?, File::open(is)?);
    let (mut left, mut right) = (vec![0; BUFFER_LEN], vec![0; BUFFER_LEN]);
    loop {
        let n = fill(&mut a, &mut left)?;
        let m = fill(&mut b, &mut right)?;
        if left[..n] != right[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

const BUFFER_LEN: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    #[test]
    fn a_copy_is_the_same_and_every_difference_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (was, is) = (dir.path().join("was"), dir.path().join("is"));
        fs::create_dir_all(was.join("deep/er")).unwrap();
        for name in ["one", "two", "three", "deep/four"] {
            fs::write(was.join(name), vec![b'a'; 300_000]).unwrap();
        }
        symlink("one", was.join("link")).unwrap();
        assert!(Command::new("cp").arg("-a").args([&was, &is]).status().unwrap().success());
        let same = trees(&was, &is).unwrap();
        assert_eq!((same.files, same.bytes, same.differences), (4, 1_200_000, Vec::new()));

        let keep = fs::metadata(is.join("two")).unwrap().modified().unwrap();
        let mut bytes = vec![b'a'; 300_000];
        bytes[299_999] = b'b';
        fs::write(is.join("two"), bytes).unwrap();
        File::options().write(true).open(is.join("two")).unwrap().set_modified(keep).unwrap();
        fs::remove_file(is.join("three")).unwrap();
        fs::write(is.join("deep/stranger"), "").unwrap();
        fs::remove_dir(is.join("deep/er")).unwrap();
        fs::remove_file(is.join("link")).unwrap();
        symlink("two", is.join("link")).unwrap();
        let mut found: Vec<_> = trees(&was, &is).unwrap().differences;
        found.retain(|(_, what)| *what != "time");
        found.sort();
        let name = |n: &str| was.join(n);
        let want = [
            (name("deep/er"), "did not come back"),
            (name("deep/stranger"), "was not there before"),
            (name("link"), "where the link leads"),
            (name("three"), "did not come back"),
            (name("two"), "content"),
        ];
        assert_eq!(found, want);
    }
}
