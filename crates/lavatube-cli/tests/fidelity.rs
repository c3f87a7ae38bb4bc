//! Fidelity on a real file system: whatever can be in a folder comes back as it was, and what does not is said.
//!
//! Trees are built with plain system calls, backed up and restored by the real command, and compared by an eye of the
//! tests' own (`common/facts.rs`). What needs root, or a feature the file system lacks, is skipped aloud.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::facts::{assert_same, look};
use common::{Chance, Machine, has_program, is_root, number, paths, seed, skipped, text};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mkdirat, mknodat,
    openat, utimensat,
};

fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Sets the time of an entry itself, of a link not of what it points to.
fn set_time(path: &Path, s: i64, ns: i64) {
    let time = Timespec { tv_sec: s, tv_nsec: ns };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_xattr(path: &Path, attribute: &str, value: &[u8]) -> bool {
    match lsetxattr(path, attribute, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(rustix::io::Errno::OPNOTSUPP) => false,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

fn shell(dir: &Path, program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).current_dir(dir).status().unwrap().success()
}

/// A file of `len` bytes with data only at the given places.
fn sparse(path: &Path, len: u64, data: &[(u64, &[u8])]) {
    let file = fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    for (at, bytes) in data {
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, *at).unwrap();
    }
    file.sync_all().unwrap();
}

fn names_of_every_kind(src: &Path) {
    let dir = src.join("names");
    fs::create_dir(&dir).unwrap();
    let names: [&[u8]; 12] = [
        b"-rf",
        b"--help",
        b"new\nline",
        b"tab\tand \"quotes\" and 'more' \\",
        b"\xff\xfe not UTF-8",
        b"\xc3\xa4 composed",
        b"a\xcc\x88 decomposed",
        b" leading and trailing ",
        b"*?[a]{b}",
        b"...",
        b"\x01\x7f",
        &[b'x'; 255],
    ];
    for n in names {
        fs::write(dir.join(name(n)), n).unwrap();
    }
    fs::create_dir(dir.join(name(b"\xfe directory"))).unwrap();
    fs::write(dir.join(name(b"\xfe directory")).join("inside"), "x").unwrap();
    // The order of a tree is not the order of whole paths.
    for n in ["order", "order-", "order.d", "order0"] {
        fs::create_dir(dir.join(n)).unwrap();
        fs::write(dir.join(n).join("f"), n).unwrap();
    }
}

fn times_and_modes(src: &Path, root: bool) {
    let dir = src.join("modes");
    fs::create_dir(&dir).unwrap();
    for mode in [0o0, 0o200, 0o444, 0o600, 0o755, 0o777, 0o1666, 0o2755, 0o4755, 0o6711, 0o7777] {
        let path = dir.join(format!("file {mode:o}"));
        fs::write(&path, format!("{mode:o}")).unwrap();
        let folder = dir.join(format!("folder {mode:o}"));
        fs::create_dir(&folder).unwrap();
        if root {
            fs::write(folder.join("inside"), "deep").unwrap();
            chown(&path, Some(1234), Some(5678)).unwrap();
            chown(&folder, Some(5678), Some(1234)).unwrap();
            chown(folder.join("inside"), Some(0), Some(4_294_967_294)).unwrap();
        }
        // After the owner, because a change of owner takes suid away.
        set_mode(&path, mode);
        if root || mode & 0o700 == 0o700 {
            set_mode(&folder, mode);
        }
    }
    let times =
        [(0, 0), (-1, 999_999_999), (-1_000_000_000, 1), (1, 123_456_789), (2_147_483_648, 5), (9_000_000_000, 7)];
    for (s, ns) in times {
        let path = dir.join(format!("time {s} {ns}"));
        fs::write(&path, "t").unwrap();
        set_time(&path, s, ns);
        let link = dir.join(format!("link {s} {ns}"));
        symlink(&path, &link).unwrap();
        set_time(&link, s - 1, ns + 1 - i64::from(ns == 999_999_999));
        let folder = dir.join(format!("folder {s} {ns}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("inside"), "t").unwrap();
        set_time(&folder, s, ns);
    }
}

fn links(src: &Path) {
    let dir = src.join("links");
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::create_dir_all(dir.join("0 before")).unwrap();
    fs::write(dir.join("one"), "one inode, four names").unwrap();
    for other in ["two", "a/b/three", "0 before/four"] {
        fs::hard_link(dir.join("one"), dir.join(other)).unwrap();
    }
    fs::write(dir.join("empty"), "").unwrap();
    fs::hard_link(dir.join("empty"), dir.join("a/empty too")).unwrap();
    // As many bytes, another inode: must stay apart.
    fs::write(dir.join("same content"), "one inode, four names").unwrap();
    symlink("one", dir.join("relative")).unwrap();
    symlink("/nowhere/at/all", dir.join("dangling")).unwrap();
    symlink("..", dir.join("up")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink(name(b"\xff\n\xfe"), dir.join("strange")).unwrap();
    symlink(name(&[b'y'; 4095]), dir.join("long")).unwrap();
    symlink("a", dir.join("to a folder")).unwrap();
    // A link with two names.
    fs::hard_link(dir.join("relative"), dir.join("relative too")).unwrap();
}

fn attributes(src: &Path, root: bool) {
    let dir = src.join("attributes");
    fs::create_dir(&dir).unwrap();
    let file = dir.join("file");
    fs::write(&file, "with attributes").unwrap();
    if !set_xattr(&file, "user.empty", b"") {
        skipped("extended attributes", "the file system has none");
        return;
    }
    assert!(set_xattr(&file, "user.large", &Chance::new(1).noise(3 << 10)));
    assert!(set_xattr(&file, "user.text", b"zero\0inside"));
    let full = dir.join("4 KiB value");
    fs::write(&full, "").unwrap();
    if lsetxattr(&full, "user.v", &[7u8; 4096], XattrFlags::empty()).is_err() {
        // ext4 keeps all attributes in one block unless told otherwise: as much as fits then.
        assert!(set_xattr(&full, "user.v", &[7u8; 3900]));
    }
    assert!(set_xattr(&dir, "user.on a folder", b"yes"));
    if root {
        let link = dir.join("link");
        symlink("file", &link).unwrap();
        assert!(set_xattr(&link, "trusted.of.the.link", b"itself"));
        let able = dir.join("able");
        fs::write(&able, "#!").unwrap();
        // cap_net_raw, as setcap writes it. It goes away when the owner is changed after it.
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        chown(&able, Some(1234), Some(1234)).unwrap();
        assert!(set_xattr(&able, "security.capability", &capability));
    }
    if has_program("ACLs", "setfacl") {
        fs::write(dir.join("acl"), "for some").unwrap();
        fs::create_dir(dir.join("heirs")).unwrap();
        fs::write(dir.join("heirs/before"), "no heir").unwrap();
        let ok = shell(&dir, "setfacl", &["-m", "u:1234:rw,g:5678:r,m::rw", "acl"])
            && shell(&dir, "setfacl", &["-m", "d:u:1234:rwx,d:g::r-x,d:o::---", "heirs"]);
        if !ok {
            skipped("ACLs", "the file system has none");
            return;
        }
        fs::write(dir.join("heirs/after"), "inherits").unwrap();
        fs::create_dir(dir.join("heirs/folder")).unwrap();
        // What has no ACL in a folder that gives one away must come back without.
        fs::create_dir(dir.join("heirs/plain")).unwrap();
        assert!(shell(&dir, "setfacl", &["-b", "heirs/plain"]) && shell(&dir, "setfacl", &["-b", "heirs/before"]));
    }
}

fn contents(src: &Path, chance: &mut Chance) {
    let dir = src.join("contents");
    fs::create_dir_all(dir.join("an empty folder/in an empty folder")).unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::write(dir.join("one byte"), "\0").unwrap();
    fs::write(dir.join("zeros, no hole"), vec![0; 100_000]).unwrap();
    fs::write(dir.join("noise"), chance.noise(3 << 20)).unwrap();
    fs::write(dir.join("prose"), chance.prose(3 << 20)).unwrap();
    fs::write(dir.join("prose again"), fs::read(dir.join("prose")).unwrap()).unwrap();
    let block = chance.noise(8192);
    sparse(&dir.join("hole first"), 1 << 20, &[((1 << 20) - 8192, &block)]);
    sparse(&dir.join("hole last"), 5_000_000, &[(0, &block)]);
    sparse(&dir.join("hole between"), 3 << 20, &[(0, &block), (1 << 20, &block), ((3 << 20) - 8192, &block)]);
    sparse(&dir.join("all hole"), 7_654_321, &[]);
    sparse(&dir.join("all hole, one block"), 4096, &[]);
    sparse(&dir.join("all hole, less than a block"), 1000, &[]);
    sparse(&dir.join("a terabyte of hole"), 1 << 40, &[(1 << 39, b"in the middle")]);
    let islands: Vec<(u64, &[u8])> = (0..300).map(|i| (i * 65_536, &block[..4096])).collect();
    sparse(&dir.join("300 islands"), 300 * 65_536, &islands);
    // More chunks than one list holds, with a hole in it.
    let many = chance.prose(20 << 20);
    sparse(&dir.join("many chunks"), 40 << 20, &[(0, &many[..10 << 20]), (30 << 20, &many[10 << 20..])]);
}

fn specials(src: &Path) {
    let dir = src.join("specials");
    fs::create_dir(&dir).unwrap();
    let make = |n: &str, kind, mode, device| {
        mknodat(CWD, dir.join(n), kind, Mode::from_raw_mode(mode), device).unwrap();
        set_mode(&dir.join(n), mode);
        chown(dir.join(n), Some(1), Some(2)).unwrap();
        set_time(&dir.join(n), -5, 5);
    };
    make("fifo", FileType::Fifo, 0o640, 0);
    make("socket", FileType::Socket, 0o751, 0);
    make("null", FileType::CharacterDevice, 0o666, makedev(1, 3));
    make("large numbers", FileType::CharacterDevice, 0o600, makedev(4000, 1_000_000));
    make("disk", FileType::BlockDevice, 0o660, makedev(259, 300));
    // Names of one inode are not for files alone.
    for (first, other) in [("fifo", "another fifo"), ("null", "zz null again")] {
        fs::hard_link(dir.join(first), dir.join(other)).unwrap();
    }
}

/// A folder whose path has more than 6,000 bytes, with a few things at its end.
fn deeper_than_path_max(src: &Path) {
    let mut dir = openat(CWD, src, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for i in 0..25 {
        let step = format!("{i:03}{}", "d".repeat(247));
        mkdirat(&dir, step.as_str(), Mode::from_raw_mode(0o750)).unwrap();
        dir = openat(&dir, step.as_str(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o604)).unwrap();
    rustix::io::write(&file, b"deep down").unwrap();
    rustix::fs::linkat(&dir, "bottom", &dir, "bottom too", AtFlags::empty()).unwrap();
    rustix::fs::symlinkat("bottom", &dir, "link").unwrap();
    let _ = rustix::fs::fsetxattr(&file, "user.deep", b"yes", XattrFlags::empty());
}

/// Everything there is, in `src` and in `src of its own`.
fn rich_tree(machine: &Machine) {
    let (src, root) = (machine.src(), rustix::process::geteuid().is_root());
    names_of_every_kind(&src);
    times_and_modes(&src, root);
    links(&src);
    attributes(&src, root);
    contents(&src, &mut Chance::new(machine.seed));
    if root {
        specials(&src);
    }
    deeper_than_path_max(&src);
    set_mode(&src, 0o2750);
    set_time(&src, -86_400, 42);
}

fn attributes_by_foreign_eyes(dir: &Path) -> Vec<String> {
    let show = |program: &str, args: &[&str]| {
        let out = Command::new(program).args(args).current_dir(dir).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    vec![
        show("getfattr", &["-R", "-P", "-h", "-d", "-m-", "-e", "hex", "."]),
        show("getfacl", &["-R", "-P", "-n", "."]),
    ]
}

#[test]
fn everything_in_a_folder_comes_back_as_it_was() {
    if !is_root("everything_in_a_folder_comes_back_as_it_was") {
        return;
    }
    let machine = Machine::new(seed(1));
    rich_tree(&machine);
    let want = look(&machine.src());
    let done = machine.backup();
    assert_eq!(number(&done["files"]) + number(&done["directories"]) + number(&done["others"]), want.len() as u64);
    let back = machine.restore("latest", "back").join("src");
    assert_same(&want, &back, "restored");
    assert_same(&want, &machine.src(), "the source itself is as it was");
    if has_program("foreign eyes on attributes", "getfattr") && has_program("foreign eyes on ACLs", "getfacl") {
        let (a, b) = (attributes_by_foreign_eyes(&machine.src()), attributes_by_foreign_eyes(&back));
        assert!(a[0].contains("user.large") && a[1].contains("default:user:1234:rwx"), "{a:?}");
        assert!(a == b, "getfattr and getfacl see the same");
    }
    // Restored again over itself nothing is written; all of it counts as there.
    let again = machine.json(&["restore", "latest", "--target", "back"], 0);
    assert_eq!(number(&again["files"]) + number(&again["others"]), 0, "{again:#}");
    assert_same(&want, &back, "after a second restore");
    // And over itself with force: everything is replaced and the same again.
    machine.json(&["restore", "latest", "--target", "back", "--overwrite", "always"], 0);
    assert_same(&want, &back, "overwritten");
}

#[test]
fn an_unchanged_source_is_not_read_again_and_costs_one_small_pack() {
    let test = "an_unchanged_source_is_not_read_again_and_costs_one_small_pack";
    let machine = Machine::new(seed(2));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 60, 2 << 20);
    std::thread::sleep(std::time::Duration::from_millis(30));
    let first = machine.backup();
    let before = machine.stored_bytes();
    let second = machine.backup();
    assert_eq!(number(&second["files"]), number(&first["files"]));
    assert_eq!((number(&second["files_read"]), number(&second["new_bytes"])), (0, 0));
    assert_eq!(number(&second["stored_bytes"]), 4096, "one pack of the smallest class");
    let grown = machine.stored_bytes() - before;
    assert!(grown < 40_000, "a pack of 4 KiB and a manifest, each on six drives: {grown}");
    if !has_program(test, "strace") {
        return;
    }
    let log = machine.path("trace");
    let mut strace = Command::new("/usr/bin/env");
    strace.args(["strace", "-f", "-y", "-e", "trace=open,openat,openat2,read,pread64,readv,preadv", "-o"]);
    strace.arg(&log).arg(env!("CARGO_BIN_EXE_lavatube"));
    let mut traced = machine.wrapped(strace, &["backup", "src", "--json"]);
    traced.env("PATH", "/usr/bin:/bin");
    let out = common::output(traced);
    if !out.status.success() {
        skipped(test, "strace cannot trace here");
        return;
    }
    let trace = fs::read_to_string(log).unwrap();
    let src = machine.src().canonicalize().unwrap();
    let inside = |line: &&str| line.contains(&*src.to_string_lossy());
    assert!(trace.lines().filter(inside).any(|l| l.contains("O_DIRECTORY")), "the trace sees the walk:\n{trace}");
    let files: Vec<_> = trace.lines().filter(inside).filter(|l| !l.contains("O_DIRECTORY")).collect();
    assert!(files.is_empty(), "files of the source were opened or read:\n{}", files.join("\n"));
}

#[test]
fn a_change_of_metadata_alone_is_carried_without_its_content() {
    let machine = Machine::new(seed(3));
    let src = machine.src();
    common::fill(&src, &mut Chance::new(machine.seed), 40, 1 << 20);
    symlink("large-noise", src.join("link")).unwrap();
    let first = look(&src);
    machine.backup();
    let file = |i: usize| src.join(format!("dir{}/sub{}/file{i:04}", i % 7, i % 3));
    set_mode(&file(1), 0o4711);
    set_time(&file(2), 77, 88);
    set_time(&src.join("link"), 99, 11);
    set_mode(&src.join("dir3"), 0o700);
    let attributes = set_xattr(&file(3), "user.new", b"attribute") && set_xattr(&src.join("dir4"), "user.x", b"y");
    if !attributes {
        skipped("attributes as a change", "the file system has none");
    }
    fs::hard_link(file(4), src.join("another name")).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(file(5), Some(1234), Some(5678)).unwrap();
    }
    let second = look(&src);
    let done = machine.backup();
    assert_eq!(number(&done["new_bytes"]), 0, "{done:#}");
    assert_same(&second, &machine.restore("latest", "second").join("src"), "with the changes");
    assert_same(&first, &machine.restore("latest~1", "first").join("src"), "without them");
}

#[test]
fn sources_side_by_side_come_back_whatever_their_names() {
    let machine = Machine::new(seed(4));
    for dir in ["src/a/c", "src/a-b", "src/a", "src/a.d", "src/a b"] {
        fs::create_dir_all(machine.path(dir)).unwrap();
        fs::write(machine.path(dir).join("file"), dir).unwrap();
    }
    for round in 0..3 {
        fs::write(machine.path("src/a/c/file"), format!("{round}")).unwrap();
        fs::remove_file(machine.path("src/a/file")).ok();
        machine.json(&["backup", "src/a b", "src/a-b", "src/a.d", "src/a/c", "src/a-b/file"], 0);
    }
    let back = machine.restore("latest", "back");
    let want = |p: &Path| look(p).into_iter().map(|(k, f)| (k, f.line)).collect::<Vec<_>>();
    for dir in ["a/c", "a-b", "a.d", "a b"] {
        assert_eq!(want(&machine.src().join(dir)), want(&back.join(dir)), "{dir}");
    }
}

#[test]
fn a_vault_inside_its_source_never_holds_itself() {
    let machine = Machine::new(seed(5));
    fs::write(machine.path("src/f"), "x").unwrap();
    machine.json(&["backup", "."], 0);
    let sizes: Vec<_> = (0..3)
        .map(|_| {
            let done = machine.json(&["backup", "."], 0);
            assert_eq!(number(&done["own_folders_excluded"]), 3, "{done:#}");
            number(&done["bytes"])
        })
        .collect();
    assert_eq!(sizes, [1, 1, 1]);
    let files = machine.json(&["ls", "-R", "latest"], 0);
    let listed = paths(&files["entries"]);
    assert!(listed.iter().any(|p| p.ends_with("src/f")), "{listed:?}");
    let secret = listed.iter().find(|p| p.contains("/vault") || p.contains("/state") || p.contains("/keys"));
    assert_eq!(secret, None);
}

#[test]
fn a_source_without_files_is_refused_unless_one_says_so() {
    let machine = Machine::new(seed(6));
    fs::create_dir(machine.path("src/folder")).unwrap();
    symlink("nowhere", machine.path("src/link")).unwrap();
    let refused = machine.json(&["backup", "src"], 13);
    assert_eq!(text(&refused["error"]["code"]), "empty");
    assert!(machine.snapshots().is_empty());
    machine.json(&["backup", "src", "--allow-empty"], 0);
    let want = look(&machine.src());
    assert_same(&want, &machine.restore("latest", "back").join("src"), "folders and links alone");
}

fn everything(machine: &Machine) -> PathBuf {
    let src = machine.src();
    for (path, content) in [("keep/a.txt", "a"), ("keep/b.jpg", "b"), ("keep/deep/c.txt", "c"), ("skip/d.txt", "d")] {
        fs::create_dir_all(src.join(path).parent().unwrap()).unwrap();
        fs::write(src.join(path), content).unwrap();
    }
    fs::hard_link(src.join("keep/a.txt"), src.join("skip/z.txt")).unwrap();
    src
}

#[test]
fn a_part_can_be_restored_by_path_and_by_pattern() {
    let machine = Machine::new(seed(7));
    let src = everything(&machine);
    machine.backup();
    let inside = format!("latest:{}/keep", src.canonicalize().unwrap().display());
    let back = machine.restore(&inside, "inside");
    assert_eq!(common::files_below(&back).len(), 3);
    assert_eq!(fs::read(back.join("keep/deep/c.txt")).unwrap(), b"c");
    let names = |target: &str, args: &[&str]| {
        machine.json(&[&["restore", "latest", "--target", target], args].concat(), 0);
        let back = machine.path(target).join("src");
        let files = common::files_below(&back);
        files.iter().map(|p| p.strip_prefix(&back).unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("t1", &["--include", "*.txt"]), ["keep/a.txt", "keep/deep/c.txt", "skip/d.txt", "skip/z.txt"]);
    assert_eq!(names("t2", &["--exclude", "skip/"]), ["keep/a.txt", "keep/b.jpg", "keep/deep/c.txt"]);
    assert_eq!(names("t3", &["--include", "keep", "--exclude", "deep"]), ["keep/a.txt", "keep/b.jpg"]);
    // The further name of a file whose first name was not asked for is the file.
    assert_eq!(names("t4", &["--include", "z.txt"]), ["skip/z.txt"]);
    assert_eq!(fs::read(machine.path("t4/src/skip/z.txt")).unwrap(), b"a");
    let none = machine.json(&["restore", "latest", "--target", "t5", "--include", "*.none"], 1);
    assert_eq!(text(&none["error"]["code"]), "no-path");
}

#[test]
fn what_is_in_the_target_stays_unless_one_says_so() {
    let machine = Machine::new(seed(8));
    let src = everything(&machine);
    let want = look(&src);
    machine.backup();
    let target = machine.path("t");
    let outside = machine.path("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(target.join("src/keep/b.jpg")).unwrap();
    fs::write(target.join("src/keep/b.jpg/mine"), "mine").unwrap();
    fs::write(target.join("src/keep/a.txt"), "mine").unwrap();
    fs::write(target.join("src/keep/other"), "mine").unwrap();
    // A link where a folder belongs must not lead the restore out of the target.
    symlink(&outside, target.join("src/skip")).unwrap();
    let before = look(&target);
    let kept = machine.json(&["restore", "latest", "--target", "t"], 3);
    let mut listed = paths(&kept["kept"]);
    listed.extend(paths(&kept["failed"]));
    let named = |part: &str| listed.iter().any(|p| p.contains(part));
    assert!(named("keep/a.txt") && named("keep/b.jpg") && named("src/skip"), "{kept:#}");
    for (path, fact) in look(&target) {
        // Folders get the times they had; files and links stay exactly as they are.
        let old = before.get(&path).filter(|old| !old.line.starts_with("Directory"));
        assert!(old.is_none_or(|old| *old == fact), "{}", path.escape_ascii());
    }
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "nothing was written through the link");
    assert_eq!(fs::read(target.join("src/keep/deep/c.txt")).unwrap(), b"c", "what was free is restored");
    // A folder with something in it is never replaced by a file.
    fs::remove_dir_all(target.join("src/keep/b.jpg")).unwrap();
    machine.answer(&["restore", "latest", "--target", "t", "--overwrite", "changed"]);
    assert!(fs::read_dir(&outside).unwrap().next().is_none(), "nor with permission to overwrite");
    assert_eq!(fs::read(target.join("src/keep/other")).unwrap(), b"mine", "what the snapshot does not have stays");
    fs::remove_file(target.join("src/keep/other")).unwrap();
    if target.join("src/skip").symlink_metadata().unwrap().is_symlink() {
        fs::remove_file(target.join("src/skip")).unwrap();
    }
    machine.json(&["restore", "latest", "--target", "t", "--overwrite", "changed"], 0);
    assert_same(&want, &target.join("src"), "at last");
}
