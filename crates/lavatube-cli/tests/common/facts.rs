//! What is really there: every fact about a tree that a restore owes, gathered with plain system calls.
//!
//! Written without any of the program's own walking, so that it cannot share a mistake with it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, lgetxattr, llistxattr, openat, seek, statat};
use rustix::io::Errno;

/// What is known of one entry, a line of text for people and for comparing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Everything that must be equal.
    pub line: String,
    /// 512-byte blocks that are allocated: a restore must not need more.
    pub blocks: u64,
}

/// Facts by path below the root; the root itself is the empty path.
pub type Facts = BTreeMap<Vec<u8>, Fact>;

/// Looks at everything at and below `root`. Paths may be longer than PATH_MAX.
pub fn look(root: &Path) -> Facts {
    let mut looker = Looker { facts: Facts::new(), inodes: BTreeMap::new() };
    let parent = root.parent().unwrap();
    let dir = openat(CWD, parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = std::os::unix::ffi::OsStrExt::as_bytes(root.file_name().unwrap());
    looker.entry(&dir, name, Vec::new());
    looker.facts
}

struct Looker {
    facts: Facts,
    inodes: BTreeMap<u64, Vec<u8>>,
}

impl Looker {
    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: Vec<u8>) {
        let st =
            statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap_or_else(|e| panic!("{}: {e}", path.escape_ascii()));
        let kind = FileType::from_raw_mode(st.st_mode);
        let mut line = format!(
            "{kind:?} mode {:o} owner {}:{} mtime {}.{:09}",
            st.st_mode & 0o7777,
            st.st_uid,
            st.st_gid,
            st.st_mtime,
            st.st_mtime_nsec
        );
        match kind {
            FileType::RegularFile => {
                let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).unwrap();
                let _ = write!(line, " size {} content {}", st.st_size, content(&file, st.st_size.cast_unsigned()));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).unwrap();
                let _ = write!(line, " target {}", target.as_bytes().escape_ascii());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let (major, minor) = (rustix::fs::major(st.st_rdev), rustix::fs::minor(st.st_rdev));
                let _ = write!(line, " device {major}:{minor}");
            }
            _ => {}
        }
        if kind != FileType::Directory && st.st_nlink > 1 {
            let first = self.inodes.entry(st.st_ino).or_insert_with(|| path.clone());
            let _ = write!(line, " links {} first {}", st.st_nlink, first.escape_ascii());
        }
        xattrs(dir, name, &mut line);
        self.facts.insert(path.clone(), Fact { line, blocks: st.st_blocks.cast_unsigned() });
        if kind == FileType::Directory {
            let below =
                openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).unwrap();
            let mut names: Vec<Vec<u8>> = Vec::new();
            for entry in Dir::read_from(&below).unwrap() {
                names.push(entry.unwrap().file_name().to_bytes().to_vec());
            }
            names.retain(|n| n != b"." && n != b"..");
            names.sort();
            for name in names {
                let mut deeper = path.clone();
                if !deeper.is_empty() {
                    deeper.push(b'/');
                }
                deeper.extend_from_slice(&name);
                self.entry(&below, &name, deeper);
            }
        }
    }
}

/// Digest of the data, and where data and holes are.
fn content(file: &OwnedFd, size: u64) -> String {
    let mut map = String::new();
    let mut hasher = DefaultHasher::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            Err(e) => panic!("{e}"),
        };
        let end = seek(file, SeekFrom::Hole(data)).unwrap().min(size);
        let _ = write!(map, " {data}-{end}");
        at = data;
        while at < end {
            let n = buf.len().min((end - at) as usize);
            let n = rustix::io::pread(file, &mut buf[..n], at).unwrap();
            assert!(n > 0, "a file became shorter");
            hasher.write(&buf[..n]);
            at += n as u64;
        }
    }
    format!("{:016x} data{map}", hasher.finish())
}

fn xattrs(dir: &OwnedFd, name: &[u8], line: &mut String) {
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let mut list = vec![0; 64 << 10];
    let len = match llistxattr(path.as_slice(), &mut list) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => panic!("{}: {e}", path.escape_ascii()),
    };
    let mut names: Vec<_> = list[..len].split(|b| *b == 0).filter(|n| !n.is_empty()).collect();
    names.sort_unstable();
    for name in names {
        let mut value = vec![0; 64 << 10];
        let len = lgetxattr(path.as_slice(), name, &mut value).unwrap();
        let mut hasher = DefaultHasher::new();
        hasher.write(&value[..len]);
        let _ = write!(line, " {}={len}:{:08x}", name.escape_ascii(), hasher.finish() as u32);
    }
}

/// Where two trees differ, a line each; empty when nothing does.
pub fn differences(want: &Facts, have: &Facts) -> String {
    let mut out = String::new();
    for (path, fact) in want {
        match have.get(path) {
            None => drop(writeln!(out, "missing   {}\n  want    {}", short(path), fact.line)),
            Some(other) if other.line != fact.line => {
                let _ = writeln!(out, "differs   {}\n  want    {}\n  have    {}", short(path), fact.line, other.line);
            }
            // A block more for the file system's own map of a file is no fault of ours.
            Some(other) if other.blocks > fact.blocks + 8 => {
                let _ = writeln!(out, "fatter    {}: {} blocks, not {}", short(path), other.blocks, fact.blocks);
            }
            Some(_) => {}
        }
    }
    for path in have.keys().filter(|p| !want.contains_key(*p)) {
        let _ = writeln!(out, "unwanted  {}", short(path));
    }
    out
}

fn short(path: &[u8]) -> String {
    let text = path.escape_ascii().to_string();
    if text.len() < 300 { text } else { format!("{}… ({} bytes)", &text[..300], path.len()) }
}

/// Panics when the tree at `have` is not what `want` says.
#[track_caller]
pub fn assert_same(want: &Facts, have: &Path, what: &str) {
    let text = differences(want, &look(have));
    assert!(text.is_empty(), "{what}:\n{text}");
}
