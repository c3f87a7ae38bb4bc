//! Compares two trees as a suspicious user would: everything a file system lets us see.
//!
//! It shares no code with lavatube, so that one mistake cannot hide in both. Access and change times are not compared:
//! reading alters the one, and nobody can set the other. It must not know how the second tree came about.

use super::same_bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file has holes when it takes this many bytes less than its size says.
const HOLE_BYTES_MIN: u64 = 1 << 20;

/// What was seen, and what was not the same.
#[derive(Debug, Default)]
pub struct Found {
    pub differences: Vec<String>,
    /// What could not be compared here.
    pub notes: Vec<String>,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    /// First path of each group of hard links, by device and inode, on either side.
    groups: [BTreeMap<(u64, u64), PathBuf>; 2],
    owners_too: bool,
}

impl Found {
    /// One line that counts what was compared.
    pub fn summary(&self) -> String {
        format!(
            "{} files ({} bytes), {} directories, {} others compared.",
            self.files, self.bytes, self.directories, self.others
        )
    }

    fn differ(&mut self, path: &Path, what: impl Into<String>) {
        self.differences.push(format!("{}: {}", path.display(), what.into()));
    }
}

/// Compares all of `left` (what went in) with all of `right` (what came back).
pub fn trees(left: &Path, right: &Path) -> io::Result<Found> {
    let mut found = Found { owners_too: fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0), ..Found::default() };
    if !found.owners_too {
        found.notes.push("owners are not compared: only root can restore them".into());
    }
    entry(left, right, Path::new(""), &mut found)?;
    match (attributes(left), attributes(right)) {
        (Some(a), Some(b)) => {
            let paths: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for path in paths.into_iter().filter(|path| a.get(*path) != b.get(*path)) {
                found.differ(Path::new(path), "extended attributes or ACL");
            }
        }
        _ => found.notes.push("extended attributes are not compared: `getfattr` is missing (Debian: attr)".into()),
    }
    Ok(found)
}

fn entry(left: &Path, right: &Path, path: &Path, found: &mut Found) -> io::Result<()> {
    let a = fs::symlink_metadata(left)?;
    let b = match fs::symlink_metadata(right) {
        Ok(b) => b,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            found.differ(path, "did not come back");
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    if kind(&a) != kind(&b) {
        found.differ(path, format!("was a {}, is a {}", kind(&a), kind(&b)));
        return Ok(());
    }
    metadata(path, &a, &b, found);
    if a.is_dir() {
        found.directories += 1;
        let names: BTreeSet<OsString> = names(left)?;
        for extra in self::names(right)?.difference(&names) {
            found.differ(&path.join(extra), "was not there before");
        }
        for name in names {
            entry(&left.join(&name), &right.join(&name), &path.join(&name), found)?;
        }
    } else if a.is_file() {
        found.files += 1;
        found.bytes += a.len();
        content(left, right, path, (&a, &b), found)?;
    } else {
        found.others += 1;
        if a.is_symlink() && fs::read_link(left)? != fs::read_link(right)? {
            found.differ(path, "link target");
        }
    }
    Ok(())
}

fn metadata(path: &Path, a: &Metadata, b: &Metadata, found: &mut Found) {
    if a.mode() != b.mode() {
        found.differ(path, format!("mode was {:o}, is {:o}", a.mode(), b.mode()));
    }
    if (a.mtime(), a.mtime_nsec()) != (b.mtime(), b.mtime_nsec()) {
        found.differ(
            path,
            format!("modified was {}.{:09}, is {}.{:09}", a.mtime(), a.mtime_nsec(), b.mtime(), b.mtime_nsec()),
        );
    }
    if found.owners_too && (a.uid(), a.gid()) != (b.uid(), b.gid()) {
        found.differ(path, format!("owner was {}:{}, is {}:{}", a.uid(), a.gid(), b.uid(), b.gid()));
    }
    if (a.file_type().is_block_device() || a.file_type().is_char_device()) && a.rdev() != b.rdev() {
        found.differ(path, "device number");
    }
    if !a.is_dir() {
        let mut first = |side: usize, meta: &Metadata| {
            let group = found.groups[side].entry((meta.dev(), meta.ino()));
            group.or_insert_with(|| path.to_path_buf()).clone()
        };
        let (was, is) = (first(0, a), first(1, b));
        if was != is {
            found.differ(path, format!("hard link: was one with {}, is one with {}", was.display(), is.display()));
        }
    }
}

fn content(
    left: &Path,
    right: &Path,
    path: &Path,
    (a, b): (&Metadata, &Metadata),
    found: &mut Found,
) -> io::Result<()> {
    if a.len() != b.len() {
        found.differ(path, format!("size was {}, is {}", a.len(), b.len()));
    } else if !same_bytes(&mut File::open(left)?, &mut File::open(right)?)? {
        found.differ(path, "content");
    }
    let holes = |meta: &Metadata| meta.len().saturating_sub(meta.blocks() * 512) >= HOLE_BYTES_MIN;
    if a.dev() == b.dev() && holes(a) && !holes(b) {
        found.differ(path, "had holes, and has none");
    }
    Ok(())
}

fn names(dir: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name())).collect()
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_file() => "file",
        () if kind.is_symlink() => "symbolic link",
        () if kind.is_fifo() => "named pipe",
        () if kind.is_socket() => "socket",
        () if kind.is_block_device() => "block device",
        () => "character device",
    }
}

/// Path → its attributes as `getfattr` prints them; nothing when there is no such program.
fn attributes(dir: &Path) -> Option<BTreeMap<String, Vec<String>>> {
    let args = ["--recursive", "--physical", "--no-dereference", "--dump", "--match=-", "--encoding=hex", "."];
    let out = Command::new("getfattr").args(args).current_dir(dir).output().ok()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut found = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines();
        if let Some(path) = lines.next().and_then(|line| line.strip_prefix("# file: ")) {
            let mut values: Vec<String> = lines.map(str::to_owned).collect();
            values.sort();
            found.insert(path.to_owned(), values);
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use std::fs::{FileTimes, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::UNIX_EPOCH;

    /// The sample and a faithful copy of it by `cp`, in a folder of this test's own.
    fn pair(name: &str) -> (PathBuf, PathBuf, PathBuf) {
        let place = std::env::temp_dir().join(format!("lavatube-xtask-{name}-{}", std::process::id()));
        fs::create_dir(&place).expect("a fresh folder");
        let (left, right) = (place.join("left"), place.join("right"));
        sample::make(&left).expect("the sample");
        let copied = Command::new("cp").args(["-a", "--sparse=always"]).args([&left, &right]).status().expect("cp");
        assert!(copied.success());
        (place, left, right)
    }

    #[test]
    fn a_faithful_copy_has_no_difference() {
        let (place, left, right) = pair("same");
        let found = trees(&left, &right).expect("readable");
        assert_eq!(found.differences, Vec::<String>::new());
        assert!(found.files >= 9 && found.directories >= 43 && found.others >= 2, "{}", found.summary());
        fs::remove_dir_all(place).expect("ours");
    }

    #[test]
    fn each_kind_of_loss_is_found() {
        let (place, left, right) = pair("loss");
        let at = |name: &str| right.join(name);
        let touch = |name: &str| {
            File::open(at(name)).expect("there").set_times(FileTimes::new().set_modified(UNIX_EPOCH)).expect("ours")
        };
        let mut picture = fs::read(at("picture.raw")).expect("there");
        picture[1_000_000] ^= 1;
        fs::write(at("picture.raw"), picture).expect("ours");
        fs::remove_dir(at("empty")).expect("ours");
        fs::write(at("stranger"), "").expect("ours");
        fs::set_permissions(at("run.sh"), Permissions::from_mode(0o750)).expect("ours");
        touch("moon-landing.txt");
        fs::remove_file(at("links/two")).expect("ours");
        fs::copy(at("links/one"), at("links/two")).expect("ours");
        fs::remove_file(at("links/to-diary")).expect("ours");
        symlink("../diary", at("links/to-diary")).expect("ours");
        let whole = fs::read(at("disk.img")).expect("there");
        fs::write(at("disk.img"), whole).expect("ours");

        let found = trees(&left, &right).expect("readable").differences.join("\n");
        for loss in [
            "picture.raw: content",
            "empty: did not come back",
            "stranger: was not there before",
            "run.sh: mode was 104750, is 100750",
            "moon-landing.txt: modified was -14182940.123456789, is 0.000000000",
            "links/two: hard link: was one with links/one, is one with links/two",
            "links/to-diary: link target",
            "disk.img: had holes, and has none",
        ] {
            assert!(found.contains(loss), "`{loss}` is not in\n{found}");
        }
        fs::remove_dir_all(place).expect("ours");
    }
}
