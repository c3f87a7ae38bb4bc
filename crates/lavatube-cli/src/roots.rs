//! What a backup is of, and what it always leaves out: roots made absolute and apart, vault, state and keys excluded.
//!
//! A vault that holds itself grows without end, and keys in the vault they open help nobody. Must not know how a tree is
//! walked.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lavatube_base::hex;
use lavatube_client::source::{Found, FoundKind};
use lavatube_format::tree::path_order;
use lavatube_node::depositor::Places;
use lavatube_node::{directory_source, embedded, places};
use serde_json::Value;

use crate::errors::{Condition, Failure};
use crate::patterns::Patterns;
use crate::units;

/// The paths of a backup as the client wants them: absolute, no leading slash, sorted, none below another.
///
/// # Errors
/// When one does not exist or lies in a folder of ours.
pub fn resolve(paths: &[PathBuf], ours: &Ours) -> Result<Vec<Vec<u8>>, Failure> {
    let mut roots = Vec::new();
    for path in paths {
        let bad = |why: String| Failure::new(Condition::Io, format!("cannot read {}: {why}", path.display()));
        std::fs::symlink_metadata(path).map_err(|e| bad(plain(&e)))?;
        let root = directory_source::resolve(path).map_err(|e| bad(e.to_string()))?;
        if let Some(what) = ours.holder(&root) {
            let what = format!("{} belongs to the {what}, which is never backed up", path.display());
            return Err(Failure::new(Condition::Usage, what).hint("name what you want to keep"));
        }
        roots.push(root);
    }
    // In the order of a tree, where `a/b` comes before `a-b`: the walk must never step back.
    roots.sort_by(|a, b| path_order(a, b));
    roots.dedup();
    let all = roots.clone();
    roots.retain(|r| !all.iter().any(|other| other != r && is_within(r, other)));
    Ok(roots)
}

/// What to say of paths that are symbolic links and will be saved as such.
pub fn links(paths: &[PathBuf]) -> Vec<String> {
    let links = paths.iter().filter(|p| {
        let follow = p.as_os_str().as_bytes().ends_with(b"/") || p.as_os_str().as_bytes().ends_with(b"/.");
        !follow && p.is_symlink()
    });
    let say = |p: &PathBuf| {
        let remedy = match p.is_dir() {
            true => format!("write {}/ to save the folder it leads to", p.display()),
            false => "name what it leads to, to save that".to_owned(),
        };
        format!("{} is a symbolic link, and only the link is saved: {remedy}", p.display())
    };
    links.map(say).collect()
}

/// What the system said, without its number.
pub fn plain(e: &std::io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Our own folders: by path in the tree, whether they are there or not, and what they are.
pub struct Ours {
    folders: Vec<(Vec<u8>, &'static str)>,
    /// Device and inode of those that are there: a bind mount shows them under another path.
    inodes: Vec<(u64, u64)>,
}

impl Ours {
    /// Vault with its drives, state and keys.
    pub fn new(places: &Places) -> Self {
        let mut folders = vec![
            (places.vault.clone(), "vault"),
            (places.state.clone(), "state folder"),
            (places.keys.clone(), "folder of the keys"),
        ];
        let drives = embedded::drive_folders(&places.vault).unwrap_or_default();
        // A bucket is in no tree.
        folders.extend(drives.into_iter().filter(|d| places::bucket(d).is_none()).map(|d| (d, "vault")));
        let inode = |(path, _): &(PathBuf, _)| path.metadata().ok().map(|m| (m.dev(), m.ino()));
        let inodes = folders.iter().filter_map(inode).collect();
        let in_tree = |(path, what): (PathBuf, _)| Some((path_in_tree(&path)?, what));
        Self { folders: folders.into_iter().filter_map(in_tree).collect(), inodes }
    }

    /// What `path` belongs to, if it lies in one of them.
    pub fn holder(&self, path: &[u8]) -> Option<&'static str> {
        self.folders.iter().find(|(folder, _)| is_within(path, folder)).map(|(_, what)| *what)
    }

    fn has(&self, path: &[u8], inode: (u64, u64)) -> bool {
        self.folders.iter().any(|(folder, _)| folder == path) || self.inodes.contains(&inode)
    }
}

/// Where `path` is in the tree, or would be: no link on the way, no leading slash. What is not there yet is made before
/// the walk comes to it.
pub fn path_in_tree(path: &Path) -> Option<Vec<u8>> {
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    let (above, real) = there?;
    let whole = match path.strip_prefix(above) {
        Ok(rest) if rest.as_os_str().is_empty() => real,
        Ok(rest) => real.join(rest),
        Err(_) => return None,
    };
    let mut bytes = whole.into_os_string().into_vec();
    bytes.remove(0);
    Some(bytes)
}

/// What is left out, and how often it was.
pub struct Excluder<'a> {
    /// Patterns of the user.
    pub patterns: Patterns,
    /// Leave out folders with a CACHEDIR.TAG.
    pub caches: bool,
    /// Leave out folders that hold an entry of one of these names.
    pub if_present: Vec<OsString>,
    /// Our own folders.
    pub ours: &'a Ours,
    /// How many of our own folders were met.
    pub own: AtomicU64,
}

impl Excluder<'_> {
    /// Whether to leave out what was found at `path`.
    pub fn exclude(&self, path: &[u8], found: &Found) -> bool {
        let own = self.is_ours(path, found);
        self.own.fetch_add(u64::from(own), Ordering::Relaxed);
        own || self.is_unwanted(path, found)
    }

    /// The same, for those who only count.
    pub fn would_exclude(&self, path: &[u8], found: &Found) -> bool {
        self.is_ours(path, found) || self.is_unwanted(path, found)
    }

    fn is_ours(&self, path: &[u8], found: &Found) -> bool {
        found.kind == FoundKind::Directory && self.ours.has(path, (found.stamp.device, found.stamp.inode))
    }

    fn is_unwanted(&self, path: &[u8], found: &Found) -> bool {
        let directory = found.kind == FoundKind::Directory;
        if !self.patterns.is_empty() && self.patterns.choose(path, directory) {
            return true;
        }
        directory && (self.caches || !self.if_present.is_empty()) && self.is_marked(path)
    }

    fn is_marked(&self, path: &[u8]) -> bool {
        let folder = Path::new("/").join(OsStr::from_bytes(path));
        self.if_present.iter().any(|name| folder.join(name).symlink_metadata().is_ok())
            || (self.caches && has_cache_tag(&folder))
    }
}

/// Whether a folder is marked as a cache (<https://bford.info/cachedir/>).
fn has_cache_tag(folder: &Path) -> bool {
    let tag = folder.join("CACHEDIR.TAG");
    // A fifo of that name must not hang us.
    let mut start = [0; CACHE_TAG.len()];
    tag.symlink_metadata().is_ok_and(|m| m.is_file())
        && File::open(tag).and_then(|mut f| f.read_exact(&mut start)).is_ok()
        && start == CACHE_TAG
}

const CACHE_TAG: [u8; 43] = *b"Signature: 8a477f597d28d172789f06886806bc55";

/// A path of the tree as JSON: text, with what is no UTF-8 replaced.
pub fn json_path(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The bytes of a path of the tree in hexadecimal, leading slash included, where text does not tell them all.
pub fn json_hex(path: &[u8]) -> Option<String> {
    std::str::from_utf8(path).is_err().then(|| format!("2f{}", hex(path)))
}

/// Puts a path into a JSON object as `name`, and as `name_hex` too where it is no UTF-8.
pub fn put_path(object: &mut Value, name: &str, path: &[u8]) {
    object[name] = json_path(path).into();
    if let Some(hex) = json_hex(path) {
        object[format!("{name}_hex")] = hex.into();
    }
}

/// The same for the path of an object that is about it.
pub fn with_path(path: &[u8], mut object: Value) -> Value {
    put_path(&mut object, "path", path);
    object
}

/// Puts a list of paths into a JSON object as `name`, and where one is no UTF-8 as `name_hex` too, with null for the others.
pub fn put_paths(object: &mut Value, name: &str, paths: &[Vec<u8>]) {
    object[name] = paths.iter().map(|p| json_path(p)).collect();
    let hex: Vec<_> = paths.iter().map(|p| json_hex(p)).collect();
    if hex.iter().any(Option::is_some) {
        object[format!("{name}_hex")] = hex.into();
    }
}

/// Up to `max` lines of `path: reason`, and a last one that counts the others.
pub fn listing<'a>(items: impl ExactSizeIterator<Item = (&'a [u8], &'a str)>, total: u64, max: usize) -> Vec<String> {
    let shown = items.len().min(max);
    let line = |(path, reason): (&[u8], &str)| match reason {
        "" => format!("  {}", units::tree_path(path)),
        reason => format!("  {}: {reason}", units::tree_path(path)),
    };
    let mut lines: Vec<_> = items.take(max).map(line).collect();
    let rest = total.saturating_sub(shown as u64);
    if rest > 0 {
        lines.push(format!("  and {} more", units::count(rest)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_client::source::Source;
    use lavatube_node::directory_source::DirectorySource;

    fn nobody() -> Ours {
        Ours { folders: Vec::new(), inodes: Vec::new() }
    }

    fn in_tree(path: &Path) -> Vec<u8> {
        path.as_os_str().as_bytes()[1..].to_vec()
    }

    fn found(path: &Path) -> Found {
        let source = DirectorySource::new().unwrap();
        let (dir, name) = source.enter(&in_tree(path)).unwrap();
        source.look(&dir, &name).unwrap()
    }

    #[test]
    fn roots_are_absolute_and_apart() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        for d in ["a/b", "ab"] {
            std::fs::create_dir_all(base.join(d)).unwrap();
        }
        let found = resolve(&[base.join("a/b"), base.join("ab"), base.join("a"), base.join("a/")], &nobody()).unwrap();
        let want: Vec<_> = ["a", "ab"].iter().map(|d| base.join(d).as_os_str().as_bytes()[1..].to_vec()).collect();
        assert_eq!(found, want);
        assert_eq!(resolve(&[base.join("none")], &nobody()).unwrap_err().condition, Condition::Io);
    }

    #[test]
    fn folders_of_ours_are_never_backed_up() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        let places = Places { vault: base.join("v"), state: base.join("s"), keys: base.join("k") };
        std::fs::create_dir_all(base.join("v/drives/d0")).unwrap();
        let ours = Ours::new(&places);
        assert_eq!(resolve(&[base.join("v/drives")], &ours).unwrap_err().condition, Condition::Usage);
        let patterns = Patterns::new(&[]).unwrap();
        let excluder =
            Excluder { patterns, caches: false, if_present: Vec::new(), ours: &ours, own: AtomicU64::new(0) };
        std::fs::write(base.join("f"), "").unwrap();
        let (vault, state) = (in_tree(&base.join("v")), in_tree(&base.join("s")));
        assert!(
            excluder.exclude(&vault, &found(&base.join("v"))) && !excluder.exclude(&vault, &found(&base.join("f")))
        );
        // A bind mount shows the vault elsewhere; the state folder is made later.
        assert!(excluder.exclude(&in_tree(&base.join("else")), &found(&base.join("v"))));
        std::fs::create_dir(base.join("s")).unwrap();
        assert!(excluder.exclude(&state, &found(&base.join("s"))));
        assert_eq!(excluder.own.into_inner(), 3);
    }

    #[test]
    fn the_place_of_what_is_not_there_yet_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink("real", base.join("link")).unwrap();
        assert_eq!(path_in_tree(&base.join("link/a/b")), Some(in_tree(&base.join("real/a/b"))));
        assert_eq!(path_in_tree(&base.join("link")), Some(in_tree(&base.join("real"))));
        assert_eq!(path_in_tree(Path::new("/")), Some(Vec::new()));
    }

    #[test]
    fn caches_and_marked_folders_are_left_out_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let base = std::fs::canonicalize(dir.path()).unwrap();
        for d in ["cache", "fake", "marked"] {
            std::fs::create_dir(base.join(d)).unwrap();
        }
        std::fs::write(base.join("cache/CACHEDIR.TAG"), [&CACHE_TAG[..], b"\n# more"].concat()).unwrap();
        std::fs::write(base.join("fake/CACHEDIR.TAG"), "Signature: none").unwrap();
        std::fs::write(base.join("marked/.nobackup"), "").unwrap();
        let (ours, patterns) = (nobody(), Patterns::new(&[]).unwrap());
        let if_present = vec![".nobackup".into()];
        let excluder = Excluder { patterns, caches: true, if_present, ours: &ours, own: AtomicU64::new(0) };
        let out = |name: &str| excluder.exclude(&in_tree(&base.join(name)), &found(&base.join(name)));
        assert_eq!([out("cache"), out("fake"), out("marked")], [true, false, true]);
    }

    #[test]
    fn paths_that_are_no_text_are_in_json_byte_by_byte_too() {
        let mut object = serde_json::json!({});
        put_path(&mut object, "path", b"a/b");
        put_path(&mut object, "from", b"a/\xff");
        put_paths(&mut object, "paths", &[b"a".to_vec(), b"\xfe".to_vec()]);
        let want = serde_json::json!({
            "path": "/a/b",
            "from": "/a/\u{fffd}",
            "from_hex": "2f612fff",
            "paths": ["/a", "/\u{fffd}"],
            "paths_hex": [null, "2ffe"],
        });
        assert_eq!(object, want);
    }

    #[test]
    fn long_lists_end_with_a_count() {
        let items = [(&b"a"[..], "gone"), (b"b", "")];
        assert_eq!(listing(items.into_iter(), 2, 10), ["  /a: gone", "  /b"]);
        assert_eq!(listing(items.into_iter(), 1234, 1), ["  /a: gone", "  and 1,233 more"]);
    }
}
