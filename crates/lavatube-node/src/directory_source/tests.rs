use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use lavatube_base::time::WallTime;

use super::*;

fn enter(dir: &Path) -> (DirectorySource, SourceDir) {
    let source = DirectorySource::below(dir).unwrap();
    let (above, name) = source.enter(b"").unwrap();
    let dir = source.open_dir(&above, &name).unwrap();
    (source, dir)
}

fn listed(source: &DirectorySource, dir: &SourceDir) -> Vec<Vec<u8>> {
    let mut names = source.names(dir).unwrap();
    names.sort();
    (0..names.len()).map(|i| names.name(i).to_vec()).collect()
}

#[test]
fn names_that_are_not_text_are_listed_as_they_are() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    let mut names: Vec<Vec<u8>> = (0..3000).map(|n| format!("file number {n}").into_bytes()).collect();
    names.extend([b"\xff\xfe".to_vec(), b"new\nline".to_vec(), vec![b'n'; 255], b"-".to_vec(), b"...".to_vec()]);
    for name in &names {
        openat(&dir.fd, name.as_slice(), OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    }
    names.sort();
    assert_eq!(listed(&source, &dir), names);
    assert_eq!(listed(&source, &dir), names, "a second listing starts anew");
}

#[test]
fn an_entered_directory_can_be_listed_too() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("a/b")).unwrap();
    let source = DirectorySource::below(tmp.path()).unwrap();
    let (dir, last) = source.enter(b"a/b").unwrap();
    assert_eq!(last, b"b");
    assert_eq!(listed(&source, &dir), [b"b".to_vec()]);
    assert_eq!(source.look(&dir, &last).unwrap().kind, FoundKind::Directory);
}

#[test]
fn what_stat_says_is_found() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    fs::write(tmp.path().join("f"), b"12345").unwrap();
    fs::hard_link(tmp.path().join("f"), tmp.path().join("g")).unwrap();
    fs::set_permissions(tmp.path().join("f"), fs::Permissions::from_mode(0o6751)).unwrap();
    let time = rustix::fs::Timespec { tv_sec: -5, tv_nsec: 123_456_789 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&dir.fd, "f", &times, rustix::fs::AtFlags::empty()).unwrap();
    symlink("no/such\u{e9}", tmp.path().join("l")).unwrap();
    let f = source.look(&dir, b"f").unwrap();
    assert_eq!((f.kind, f.size, f.mode, f.links), (FoundKind::File, 5, 0o6751, 2));
    assert_eq!(f.mtime, WallTime { s: -5, ns: 123_456_789 });
    let st = fs::metadata(tmp.path().join("f")).unwrap();
    assert_eq!((f.stamp.inode, f.stamp.device, f.stamp.ctime.s), (st.ino(), st.dev(), st.ctime()));
    assert_eq!(source.look(&dir, b"l").unwrap().kind, FoundKind::Symlink);
    assert_eq!(source.target(&dir, b"l").unwrap(), "no/such\u{e9}".as_bytes());
    assert_eq!(source.target(&dir, b"f"), Err(SourceError::Changed));
    assert_eq!(source.look(&dir, b"gone"), Err(SourceError::Vanished));
    assert_eq!(source.look(&dir, b"f").unwrap(), source.open(&dir, b"f").unwrap().1);
}

#[test]
fn a_file_that_became_something_else_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    symlink("/etc/passwd", tmp.path().join("link")).unwrap();
    fs::create_dir(tmp.path().join("dir")).unwrap();
    rustix::fs::mkfifoat(&dir.fd, "fifo", Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tmp.path().join("socket")).unwrap();
    for name in [&b"link"[..], b"dir", b"fifo", b"socket"] {
        assert_eq!(source.open(&dir, name).unwrap_err(), SourceError::Changed, "{}", name.escape_ascii());
    }
    fs::write(tmp.path().join("file"), b"").unwrap();
    symlink("dir", tmp.path().join("dirlink")).unwrap();
    for name in [&b"file"[..], b"dirlink", b"fifo"] {
        assert_eq!(source.open_dir(&dir, name).unwrap_err(), SourceError::Changed);
    }
    assert_eq!(source.open(&dir, b"gone").unwrap_err(), SourceError::Vanished);
}

#[test]
fn a_directory_that_vanishes_while_it_is_listed_is_said_to() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    fs::create_dir(tmp.path().join("d")).unwrap();
    let gone = source.open_dir(&dir, b"d").unwrap();
    fs::remove_dir(tmp.path().join("d")).unwrap();
    assert_eq!(source.names(&gone).unwrap_err(), SourceError::Vanished);
    assert_eq!(source.look(&gone, b"x").unwrap_err(), SourceError::Vanished);
    assert_eq!(source.open_dir(&dir, b"d").unwrap_err(), SourceError::Vanished);
}

#[test]
fn paths_longer_than_the_kernel_takes_are_walked() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, mut dir) = enter(tmp.path());
    let mut path = Vec::new();
    for depth in 0..40 {
        let name = vec![b'a' + depth % 26; 200];
        rustix::fs::mkdirat(&dir.fd, name.as_slice(), Mode::RWXU).unwrap();
        dir = source.open_dir(&dir, &name).unwrap();
        path.extend_from_slice(&name);
        path.push(b'/');
    }
    openat(&dir.fd, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    path.push(b'f');
    assert!(path.len() > 8000);
    let (deep, last) = source.enter(&path).unwrap();
    assert_eq!(source.look(&deep, &last).unwrap().kind, FoundKind::File);
    assert_eq!(source.xattrs(&deep, &last, FoundKind::File), Ok(vec![]));
    assert!(source.open(&deep, &last).is_ok());
}

#[test]
fn entering_never_follows_a_link_and_says_where_it_stopped() {
    let tmp = tempfile::tempdir().unwrap();
    fs::create_dir_all(tmp.path().join("a/b")).unwrap();
    symlink("b", tmp.path().join("a/l")).unwrap();
    let source = DirectorySource::below(tmp.path()).unwrap();
    let said = |path: &[u8]| source.enter(path).unwrap_err().to_string();
    assert!(said(b"a/l/x").starts_with("/a/l is not a directory (or a link"), "{}", said(b"a/l/x"));
    assert_eq!(said(b"a/n/x"), "/a/n: no such file or directory");
    assert!(source.enter(b"../etc/passwd").is_err());
    assert!(source.enter(b"a/../../x").is_err());
    let resolved = resolve(&tmp.path().join("a/l/x")).unwrap();
    assert!(resolved.ends_with(b"/a/b/x") && resolved[0] != b'/');
    assert!(resolve(&tmp.path().join("a/l")).unwrap().ends_with(b"/a/l"), "the last link stays a link");
    assert_eq!(resolve(Path::new("/")).unwrap(), b"");
    assert!(resolve(&tmp.path().join("a/b/..")).unwrap().ends_with(b"/a"));
}

#[test]
fn extents_tell_data_from_holes() {
    use std::os::unix::fs::FileExt;
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    let size = 10 << 20;
    let file = fs::File::create(tmp.path().join("sparse")).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    file.write_all_at(&[2; 5000], 4 << 20).unwrap();
    file.set_len(size).unwrap();
    fs::File::create(tmp.path().join("hole")).unwrap().set_len(size).unwrap();
    fs::write(tmp.path().join("full"), vec![7; 100_000]).unwrap();
    fs::write(tmp.path().join("empty"), b"").unwrap();
    let extents = |name: &[u8], size| source.extents(&source.open(&dir, name).unwrap().0, size).unwrap();
    let Some(sparse) = extents(b"sparse", size).filter(|e| e.len() == 2) else {
        return eprintln!("SKIPPED: this file system does not tell holes");
    };
    assert_eq!(sparse[0], Extent { at: 1 << 20, len: 4096 });
    assert_eq!((sparse[1].at, sparse[1].len >= 5000), (4 << 20, true));
    assert_eq!(extents(b"hole", size), Some(vec![]));
    assert_eq!(extents(b"full", 100_000), Some(vec![Extent { at: 0, len: 100_000 }]));
    assert_eq!(extents(b"full", 50_000), Some(vec![Extent { at: 0, len: 50_000 }]), "clipped to what is asked for");
    assert_eq!(extents(b"empty", 0), Some(vec![]));
    assert_eq!(extents(b"full", 200_000), Some(vec![Extent { at: 0, len: 100_000 }]), "shrunk meanwhile");
    let found = source.look(&dir, b"sparse").unwrap();
    assert!(found.allocated < found.size);
}

#[test]
fn attributes_are_read_sorted_and_without_opening() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    fs::write(tmp.path().join("f"), b"x").unwrap();
    fs::set_permissions(tmp.path().join("f"), fs::Permissions::from_mode(0o0)).unwrap();
    symlink("f", tmp.path().join("l")).unwrap();
    rustix::fs::mkfifoat(&dir.fd, "p", Mode::RUSR).unwrap();
    let path = tmp.path().join("f");
    let big = vec![5; 3000];
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let set = |name: &str, value: &[u8]| rustix::fs::setxattr(&path, name, value, rustix::fs::XattrFlags::empty());
    if let Err(e) = set("user.zebra", b"") {
        return eprintln!("SKIPPED: this file system has no user attributes: {e}");
    }
    set("user.big", &big).unwrap();
    let long: Vec<String> = (0..9).map(|n| format!("user.{n}{}", "n".repeat(90))).collect();
    long.iter().for_each(|name| set(name, b"v").unwrap());
    let xattrs = source.xattrs(&dir, b"f", FoundKind::File).unwrap();
    assert_eq!(xattrs.len(), 11);
    assert!(xattrs.is_sorted());
    assert!(xattrs.contains(&(b"user.big".to_vec(), big)) && xattrs.contains(&(b"user.zebra".to_vec(), vec![])));
    assert_eq!(source.xattrs(&dir, b"l", FoundKind::Symlink), Ok(vec![]), "a link's own, not its target's");
    assert_eq!(source.xattrs(&dir, b"p", FoundKind::Fifo), Ok(vec![]));
    assert_eq!(source.xattrs(&dir, b"gone", FoundKind::File), Err(SourceError::Vanished));

    let blind = DirectorySource { root: openat(&dir.fd, ".", OFlags::RDONLY, Mode::empty()).unwrap(), has_proc: false };
    assert_eq!(blind.xattrs(&dir, b"f", FoundKind::File).unwrap().len(), 11);
    assert_eq!(blind.xattrs(&dir, b"l", FoundKind::Symlink), Ok(vec![]));
}

#[test]
fn reading_leaves_no_access_time_and_sees_changes() {
    let tmp = tempfile::tempdir().unwrap();
    let (source, dir) = enter(tmp.path());
    fs::write(tmp.path().join("f"), b"12345").unwrap();
    let old = rustix::fs::Timespec { tv_sec: 1, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(&dir.fd, "f", &times, rustix::fs::AtFlags::empty()).unwrap();
    let (file, found) = source.open(&dir, b"f").unwrap();
    let mut buf = [0; 9];
    assert_eq!(source.read_at(&file, 2, &mut buf), Ok(3));
    assert_eq!(source.read_at(&file, 5, &mut buf), Ok(0));
    assert_eq!(fs::metadata(tmp.path().join("f")).unwrap().atime(), 1);
    assert_eq!(source.look_again(&file).unwrap(), found);
    fs::write(tmp.path().join("f"), b"123456").unwrap();
    assert_ne!(source.look_again(&file).unwrap(), found);
}
