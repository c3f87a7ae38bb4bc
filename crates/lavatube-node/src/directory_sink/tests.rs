use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use lavatube_base::time::WallTime;
use lavatube_client::source::{Source, Xattrs};
use rustix::fs::XattrFlags;

use super::*;
use crate::directory_source::DirectorySource;
use crate::process::is_root;

fn target() -> (tempfile::TempDir, DirectorySink, Arc<SinkDir>) {
    let tmp = tempfile::tempdir().unwrap();
    let sink = DirectorySink::open(tmp.path()).unwrap();
    let root = sink.root();
    (tmp, sink, root)
}

fn meta(mode: u32) -> Meta {
    let mtime = WallTime { s: -86_400, ns: 987_654_321 };
    let (uid, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode, uid, gid, mtime, ..Meta::default() }
}

fn restore(sink: &DirectorySink, dir: &SinkDir, name: &[u8], bytes: &[u8], whole: bool, meta: &Meta) -> Vec<String> {
    let mut file = sink.create(dir, name, whole).unwrap();
    sink.write_at(&mut file, 0, bytes).unwrap();
    sink.finish_file(dir, name, file, bytes.len() as u64, meta).unwrap()
}

/// What the source says of `name` below `folder`: the restored entry as the next backup will see it.
fn seen(folder: &Path, name: &[u8]) -> (Found, Xattrs) {
    let source = DirectorySource::below(folder).unwrap();
    let (dir, last) = source.enter(name).unwrap();
    let found = source.look(&dir, &last).unwrap();
    (found, source.xattrs(&dir, &last, found.kind).unwrap())
}

#[test]
fn files_come_back_with_mode_and_time() {
    let (tmp, sink, root) = target();
    for (n, mode) in [0o600, 0o644, 0o755, 0o0, 0o4755, 0o2751, 0o1777, 0o7777].into_iter().enumerate() {
        for whole in [true, false] {
            let name = format!("{n} {whole} \u{fc}").into_bytes();
            assert_eq!(restore(&sink, &root, &name, b"content", whole, &meta(mode)), Vec::<String>::new());
            let (found, _) = seen(tmp.path(), &name);
            assert_eq!((found.mode, found.mtime, found.size), (mode, meta(0).mtime, 7));
        }
    }
    restore(&sink, &root, b"\xff\n", b"", true, &meta(0o644));
    assert_eq!(seen(tmp.path(), b"\xff\n").0.size, 0);
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 17, "no unfinished names remain");
}

#[test]
fn owners_are_given_and_suid_survives_it() {
    if !is_root() {
        return eprintln!("SKIPPED: only root can give files away");
    }
    let (tmp, sink, root) = target();
    let other = Meta { uid: 12345, gid: 23456, ..meta(0o4755) };
    assert!(restore(&sink, &root, b"f", b"x", true, &other).is_empty());
    let dir = sink.make_dir(&root, b"d").unwrap();
    assert!(restore(&sink, &dir, b"mine", b"x", true, &meta(0o644)).is_empty());
    assert!(sink.finish_dir(&dir, &Meta { mode: 0o3755, ..other.clone() }).unwrap().is_empty());
    assert!(sink.make_special(&root, b"l", &Kind::Symlink(b"nowhere".to_vec()), &other).unwrap().is_empty());
    assert!(sink.make_special(&root, b"p", &Kind::Fifo, &other).unwrap().is_empty());
    for (name, mode) in [(&b"f"[..], 0o4755), (b"d", 0o3755), (b"l", 0o777), (b"p", 0o4755)] {
        let (found, _) = seen(tmp.path(), name);
        assert_eq!((found.uid, found.gid, found.mode), (12345, 23456, mode), "{}", name.escape_ascii());
        assert_eq!(found.mtime, other.mtime);
    }
    let (found, _) = seen(tmp.path(), b"d/mine");
    assert_eq!((found.uid, found.gid, found.mode), (meta(0).uid, meta(0).gid, 0o644));
    let none = Meta { uid: u32::MAX, ..meta(0o4644) };
    assert_eq!(restore(&sink, &root, b"none", b"x", true, &none).len(), 2, "no such owner, hence no suid");
    assert_eq!(seen(tmp.path(), b"none").0.mode, 0o644);
}

#[test]
fn below_a_setgid_folder_groups_come_out_right() {
    if !is_root() {
        return eprintln!("SKIPPED: only root can give files away");
    }
    let tmp = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(tmp.path(), None, Some(4321)).unwrap();
    fs::set_permissions(tmp.path(), fs::Permissions::from_mode(0o2775)).unwrap();
    let sink = DirectorySink::open(tmp.path()).unwrap();
    let dir = sink.make_dir(&sink.root(), b"d").unwrap();
    restore(&sink, &dir, b"mine", b"x", true, &meta(0o644));
    restore(&sink, &dir, b"theirs", b"x", true, &Meta { gid: 4321, ..meta(0o644) });
    sink.finish_dir(&dir, &meta(0o755)).unwrap();
    let of = |name| Some(seen(tmp.path(), name).0).map(|f| (f.gid, f.mode));
    assert_eq!(of(b"d"), Some((meta(0).gid, 0o755)));
    assert_eq!(of(b"d/mine"), Some((meta(0).gid, 0o644)));
    assert_eq!(of(b"d/theirs"), Some((4321, 0o644)));
}

#[test]
fn an_ordinary_user_gets_warnings_and_no_suid() {
    if is_root() {
        return eprintln!("SKIPPED: root may do everything; run the tests as an ordinary user too");
    }
    let (tmp, sink, root) = target();
    let other = Meta { uid: 12345, gid: 23456, ..meta(0o4755) };
    assert_eq!(restore(&sink, &root, b"f", b"x", true, &other).len(), 2);
    assert_eq!(seen(tmp.path(), b"f").0.mode, 0o755);
    let device = Kind::CharDevice { major: 1, minor: 3 };
    assert!(matches!(sink.make_special(&root, b"n", &device, &meta(0o600)), Err(SinkError::Io(_))));
    fs::create_dir(tmp.path().join("locked")).unwrap();
    fs::set_permissions(tmp.path().join("locked"), fs::Permissions::from_mode(0o0)).unwrap();
    let dir = sink.make_dir(&root, b"locked").unwrap();
    restore(&sink, &dir, b"f", b"x", true, &meta(0o644));
}

#[test]
fn specials_come_back() {
    let (tmp, sink, root) = target();
    sink.make_special(&root, b"p", &Kind::Fifo, &meta(0o640)).unwrap();
    sink.make_special(&root, b"s", &Kind::Socket, &meta(0o777)).unwrap();
    sink.make_special(&root, b"l", &Kind::Symlink(b"../\xff".to_vec()), &meta(0o777)).unwrap();
    assert!(fs::metadata(tmp.path().join("p")).unwrap().file_type().is_fifo());
    for (name, mode) in [(&b"p"[..], 0o640), (b"s", 0o777), (b"l", 0o777)] {
        let (found, _) = seen(tmp.path(), name);
        assert_eq!((found.mode, found.mtime), (mode, meta(0).mtime), "{}", name.escape_ascii());
    }
    assert_eq!(sink.make_special(&root, b"p", &Kind::Fifo, &meta(0o640)), Err(SinkError::Exists));
    let file = Kind::File(lavatube_format::tree::Content::default());
    assert!(matches!(sink.make_special(&root, b"x", &file, &meta(0o640)), Err(SinkError::Io(_))));
    if !is_root() {
        return eprintln!("SKIPPED: only root can make devices");
    }
    match sink.make_special(&root, b"null", &Kind::CharDevice { major: 1, minor: 3 }, &meta(0o666)) {
        Err(e) => return eprintln!("SKIPPED: no right to make devices here: {e}"),
        Ok(warnings) => assert!(warnings.is_empty()),
    }
    sink.make_special(&root, b"sda", &Kind::BlockDevice { major: 259, minor: 70_000 }, &meta(0o660)).unwrap();
    use lavatube_client::source::FoundKind;
    assert_eq!(seen(tmp.path(), b"null").0.kind, FoundKind::CharDevice(1, 3));
    assert_eq!(seen(tmp.path(), b"sda").0.kind, FoundKind::BlockDevice(259, 70_000));
    let far = Kind::CharDevice { major: 1 << 40, minor: 0 };
    assert!(sink.make_special(&root, b"far", &far, &meta(0o600)).is_err());
}

#[test]
fn attributes_and_acls_come_back() {
    let (tmp, sink, root) = target();
    let mut m = meta(0o444);
    m.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![0, 255, 7])];
    let probe = tmp.path().join("probe");
    fs::write(&probe, b"").unwrap();
    if rustix::fs::setxattr(&probe, "user.x", b"", XattrFlags::empty()).is_err() {
        return eprintln!("SKIPPED: this file system has no user attributes");
    }
    // An ACL made by the system's own tool, so that its bytes are nobody's guess.
    let acl = Command::new("setfacl").args(["-m", "u:4242:rw,g:77:r"]).arg(&probe).status();
    if acl.is_ok_and(|s| s.success()) {
        let mut value = vec![0; 1024];
        let n = rustix::fs::getxattr(&probe, ACL_ACCESS, &mut value[..]).unwrap();
        m.xattrs.insert(0, (ACL_ACCESS.to_vec(), value[..n].to_vec()));
        m.mode = fs::metadata(&probe).unwrap().mode() & 0o7777;
    } else {
        eprintln!("SKIPPED in part: no setfacl, or no ACLs on this file system");
    }
    assert_eq!(restore(&sink, &root, b"f", b"x", true, &m), Vec::<String>::new());
    assert_eq!(seen(tmp.path(), b"f").1, m.xattrs);
    assert_eq!(seen(tmp.path(), b"f").0.mode, m.mode);
    let dir = sink.make_dir(&root, b"d").unwrap();
    assert!(sink.finish_dir(&dir, &m).unwrap().is_empty());
    assert_eq!(seen(tmp.path(), b"d").1, m.xattrs);
    // A fifo cannot have users' attributes: said, and the fifo is there.
    let warnings = sink.make_special(&root, b"p", &Kind::Fifo, &m).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    m.xattrs = vec![(b"nonsense.x".to_vec(), vec![1])];
    let warnings = restore(&sink, &root, b"g", b"x", true, &m);
    assert_eq!(warnings, ["attribute nonsense.x could not be set: operation not supported"]);
}

#[test]
fn a_default_acl_of_the_target_does_not_leak_into_what_is_restored() {
    let tmp = tempfile::tempdir().unwrap();
    let acl = Command::new("setfacl").args(["-d", "-m", "u:4242:rwx"]).arg(tmp.path()).status();
    if !acl.is_ok_and(|s| s.success()) {
        return eprintln!("SKIPPED: no setfacl, or no ACLs on this file system");
    }
    let sink = DirectorySink::open(tmp.path()).unwrap();
    let root = sink.root();
    let dir = sink.make_dir(&root, b"d").unwrap();
    for dir in [&root, &dir] {
        restore(&sink, dir, b"f", b"x", true, &meta(0o640));
        restore(&sink, dir, b"g", b"x", false, &meta(0o640));
        sink.make_special(dir, b"p", &Kind::Fifo, &meta(0o640)).unwrap();
    }
    sink.finish_dir(&dir, &meta(0o750)).unwrap();
    for name in [&b"f"[..], b"g", b"p", b"d", b"d/f", b"d/g", b"d/p"] {
        let (found, xattrs) = seen(tmp.path(), name);
        assert_eq!(xattrs, [], "{}", name.escape_ascii());
        assert_eq!(found.mode & 0o777, if name == b"d" { 0o750 } else { 0o640 });
    }
}

#[test]
fn holes_stay_holes() {
    let (tmp, sink, root) = target();
    let size: u64 = 64 << 20;
    for whole in [true, false] {
        let name = format!("sparse {whole}").into_bytes();
        let mut file = sink.create(&root, &name, whole).unwrap();
        sink.write_at(&mut file, 32 << 20, &[7; 4096]).unwrap();
        sink.write_at(&mut file, 1 << 20, &[8; 4096]).unwrap();
        sink.finish_file(&root, &name, file, size, &meta(0o644)).unwrap();
        let (found, _) = seen(tmp.path(), &name);
        assert_eq!(found.size, size);
        if found.allocated > 1 << 20 {
            return eprintln!("SKIPPED: this file system has no holes");
        }
        let source = DirectorySource::below(tmp.path()).unwrap();
        let (dir, last) = source.enter(&name).unwrap();
        let extents = source.extents(&source.open(&dir, &last).unwrap().0, size).unwrap().unwrap();
        let at: Vec<_> = extents.iter().map(|e| (e.at, e.len)).collect();
        assert_eq!(at, [(1 << 20, 4096), (32 << 20, 4096)]);
    }
}

#[test]
fn nothing_is_overwritten_and_no_link_is_followed() {
    let (tmp, sink, root) = target();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), tmp.path().join("link")).unwrap();
    symlink(outside.path().join("x"), tmp.path().join("dangling")).unwrap();
    fs::write(tmp.path().join("file"), b"old").unwrap();
    for name in [&b"link"[..], b"file", b"dangling"] {
        assert_eq!(sink.make_dir(&root, name).unwrap_err(), SinkError::Exists);
        assert_eq!(sink.create(&root, name, true).unwrap_err(), SinkError::Exists);
    }
    assert!(sink.hard_link(b"link/x", &root, b"h").is_err());
    assert!(sink.hard_link(b"../x", &root, b"h").is_err());
    let mut file = sink.create(&root, b"late", false).unwrap();
    sink.write_at(&mut file, 0, b"new").unwrap();
    fs::write(tmp.path().join("late"), b"other").unwrap();
    assert_eq!(sink.finish_file(&root, b"late", file, 3, &meta(0o644)), Err(SinkError::Exists));
    assert_eq!(fs::read(tmp.path().join("late")).unwrap(), b"other");
    assert_eq!(fs::read(tmp.path().join("file")).unwrap(), b"old");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 4);
    assert!(sink.remove(&root, b"link").is_ok() && sink.remove(&root, b"link").is_ok());
    assert!(outside.path().exists());
    sink.make_dir(&root, b"d").unwrap();
    assert!(sink.remove(&root, b"d").is_err());
    assert_eq!(sink.look(&root, b"link"), Ok(None));
}

#[test]
fn hard_links_share_an_inode_at_any_depth() {
    let (tmp, sink, root) = target();
    let (mut dir, mut first) = (root.clone(), Vec::new());
    for _ in 0..40 {
        let name = vec![b'd'; 200];
        dir = sink.make_dir(&dir, &name).unwrap();
        first.extend_from_slice(&name);
        first.push(b'/');
    }
    first.push(b'f');
    restore(&sink, &dir, b"f", b"x", true, &meta(0o644));
    sink.hard_link(&first, &root, b"g").unwrap();
    assert_eq!(sink.hard_link(&first, &root, b"g"), Err(SinkError::Exists));
    assert_eq!(fs::metadata(tmp.path().join("g")).unwrap().nlink(), 2);
}

#[test]
fn an_unfinished_file_has_a_hidden_name_and_is_cleared_by_the_next_try() {
    let (tmp, sink, root) = target();
    let long = vec![b'n'; 255];
    for name in [&b"big"[..], &long] {
        let mut file = sink.create(&root, name, false).unwrap();
        sink.write_at(&mut file, 0, b"half").unwrap();
        drop(file);
        assert_eq!(sink.look(&root, name), Ok(None));
        restore(&sink, &root, name, b"whole", false, &meta(0o644));
        assert_eq!(seen(tmp.path(), name).0.size, 5);
    }
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 2);
    // A saved tree may itself hold such a name; it is not ours to remove.
    restore(&sink, &root, b".x.lavatube-part", b"theirs", true, &meta(0o600));
    restore(&sink, &root, b"x", b"whole", false, &meta(0o644));
    assert_eq!(fs::read(tmp.path().join(".x.lavatube-part")).unwrap(), b"theirs");
    assert_eq!(fs::read(tmp.path().join("x")).unwrap(), b"whole");
}

#[test]
fn what_is_there_can_be_read_and_a_directory_be_used_again() {
    let (tmp, sink, root) = target();
    restore(&sink, &root, b"f", b"0123456789", true, &meta(0o400));
    let mut buf = [0; 4];
    assert_eq!(sink.read_existing(&root, b"f", 8, &mut buf), Ok(2));
    assert_eq!(&buf[..2], b"89");
    assert!(sink.read_existing(&root, b"gone", 0, &mut buf).is_err());
    let dir = sink.make_dir(&root, b"d").unwrap();
    sink.finish_dir(&dir, &meta(0o500)).unwrap();
    let again = sink.make_dir(&root, b"d").unwrap();
    restore(&sink, &again, b"f", b"x", true, &meta(0o644));
    assert_eq!(seen(tmp.path(), b"d/f").0.uid, meta(0).uid);
    let f = fs::File::open(tmp.path().join("f")).unwrap();
    f.read_exact_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"0123");
}

#[test]
fn threads_share_a_sink() {
    let (tmp, sink, root) = target();
    std::thread::scope(|s| {
        for t in 0..4 {
            let (sink, root) = (&sink, &root);
            s.spawn(move || {
                let dir = sink.make_dir(root, format!("d{}", t % 2).as_bytes()).unwrap();
                for n in 0..50 {
                    restore(sink, &dir, format!("{t}-{n}").as_bytes(), b"x", n % 2 == 0, &meta(0o644));
                }
            });
        }
    });
    let count = |d| fs::read_dir(tmp.path().join(d)).unwrap().count();
    assert_eq!((count("d0"), count("d1")), (100, 100));
}

fn marks(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(mark::PREFIX)).count()
}

#[test]
fn a_mark_stays_until_the_same_restore_comes_to_its_end() {
    let (tmp, sink, root) = target();
    let first = sink.begin(b"all");
    assert!(!first.doubt(), "nothing was there");
    assert_eq!(marks(tmp.path()), 1);
    drop(first);
    // Cut. Another restore has doubts and leaves the mark for whoever knows what it stands for.
    let other = sink.begin(b"some");
    assert!(other.doubt());
    other.end(&sink);
    assert_eq!(marks(tmp.path()), 1);
    let again = sink.begin(b"all");
    assert!(again.doubt());
    sink.finish_dir(&root, &meta(0o755)).unwrap();
    again.end(&sink);
    assert_eq!(marks(tmp.path()), 0);
    let time = fs::metadata(tmp.path()).unwrap().mtime();
    assert_eq!(time, meta(0).mtime.s, "and the target keeps the time it was given");
    let last = sink.begin(b"all");
    assert!(!last.doubt());
    last.undo(&sink);
    assert_eq!(marks(tmp.path()), 0);
}

#[test]
fn of_two_restores_at_once_the_last_takes_the_mark_away() {
    let (tmp, sink, _) = target();
    let (one, two) = (sink.begin(b"all"), sink.begin(b"all"));
    assert!(!one.doubt() && two.doubt());
    one.end(&sink);
    assert_eq!(marks(tmp.path()), 1);
    two.end(&sink);
    assert_eq!(marks(tmp.path()), 0);
}

#[test]
fn a_file_that_is_called_like_a_mark_is_none() {
    let (tmp, sink, _) = target();
    let name = format!("{}theirs", mark::PREFIX);
    fs::write(tmp.path().join(&name), "theirs").unwrap();
    let mark = sink.begin(b"all");
    assert!(!mark.doubt());
    mark.end(&sink);
    assert_eq!(fs::read(tmp.path().join(name)).unwrap(), b"theirs");
}
