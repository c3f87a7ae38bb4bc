use std::fs;

use super::*;

fn names(drive: &DirectoryDrive, prefix: &str) -> Vec<String> {
    let mut out = Vec::new();
    drive.list(prefix, &mut |name| out.push(name.to_owned())).unwrap();
    out.sort();
    out
}

fn read(drive: &DirectoryDrive, name: &str) -> Result<Vec<u8>, DriveError> {
    let mut buf = vec![0; 1 << 20];
    drive.read_at(name, 0, &mut buf).map(|n| buf[..n].to_vec())
}

#[test]
fn a_put_is_not_seen_before_the_sync() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("shards/ab/x.00", &[b"he", b"", b"llo"], PutMode::New).unwrap();
    drive.put("drive.card", &[b"card"], PutMode::Replace).unwrap();
    assert_eq!(drive.len("shards/ab/x.00"), Ok(None));
    assert_eq!(read(&drive, "drive.card"), Err(DriveError::NotFound));
    assert_eq!(names(&drive, ""), Vec::<String>::new());
    drive.sync().unwrap();
    assert_eq!(names(&drive, ""), ["drive.card", "shards/ab/x.00"]);
    assert_eq!(names(&drive, "shards/a"), ["shards/ab/x.00"]);
    assert_eq!(names(&drive, "shards/b"), Vec::<String>::new());
    assert_eq!(names(&drive, "shards/"), ["shards/ab/x.00"]);
    assert_eq!(drive.len("shards/ab/x.00"), Ok(Some(5)));
    assert_eq!(read(&drive, "shards/ab/x.00").unwrap(), b"hello");
    let mut buf = [0; 3];
    assert_eq!(drive.read_at("shards/ab/x.00", 3, &mut buf), Ok(2));
    assert_eq!(drive.read_at("shards/ab/x.00", 9, &mut buf), Ok(0));
    drive.put("drive.card", &[b"new"], PutMode::Replace).unwrap();
    drive.sync().unwrap();
    assert_eq!(read(&drive, "drive.card").unwrap(), b"new");
    assert_eq!(fs::read_dir(tmp.path().join(TMP)).unwrap().count(), 0);
}

#[test]
fn another_file_of_the_name_stays_and_the_same_is_fine() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    let long = vec![3; COMPARE_LEN * 2];
    drive.put("a/x", &[&long], PutMode::New).unwrap();
    drive.sync().unwrap();
    drive.put("a/x", &[&long], PutMode::New).unwrap();
    drive.sync().unwrap();
    drive.put("a/x", &[&long[1..]], PutMode::New).unwrap();
    drive.put("a/y", &[b"y"], PutMode::New).unwrap();
    assert_eq!(drive.sync(), Err(DriveError::Exists));
    assert_eq!(read(&drive, "a/x").unwrap(), long);
    assert_eq!(drive.len("a/y"), Ok(None));
    assert_eq!(fs::read_dir(tmp.path().join(TMP)).unwrap().count(), 0);
    let e = drive.put("a/z", &[b"z"], PutMode::New).unwrap_err().to_string();
    assert!(e.contains("not opened anew"), "{e}");
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("a/z", &[b"z"], PutMode::New).unwrap();
    drive.sync().unwrap();
}

#[test]
fn leftovers_of_a_crash_are_removed_by_the_next_writer_only() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    let count = || fs::read_dir(tmp.path().join(TMP)).unwrap().count();
    let reader = DirectoryDrive::open_read_only(tmp.path()).unwrap();
    assert_eq!(count(), 1, "a reader leaves a running writer's files alone");
    assert_eq!(names(&reader, ""), Vec::<String>::new());
    assert!(reader.put("y", &[b"y"], PutMode::New).is_err() && reader.append("y", b"y").is_err());
    assert!(reader.remove("y").is_err() && reader.sync().is_err());
    drop(drive);
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    assert_eq!(count(), 0);
    assert_eq!(names(&drive, ""), Vec::<String>::new());
}

#[test]
fn an_abandoned_put_is_forgotten() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    drive.abandon();
    drive.sync().unwrap();
    assert_eq!(names(&drive, ""), Vec::<String>::new());
    assert_eq!(fs::read_dir(tmp.path().join(TMP)).unwrap().count(), 0);
}

#[test]
fn appends_add_up() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.append("journal", b"one ").unwrap();
    drive.append("deep/er/journal", b"x").unwrap();
    drive.append("journal", b"two ").unwrap();
    drive.sync().unwrap();
    drive.append("journal", b"three").unwrap();
    drive.sync().unwrap();
    assert_eq!(read(&drive, "journal").unwrap(), b"one two three");
    drive.put("journal", &[b"anew "], PutMode::Replace).unwrap();
    drive.sync().unwrap();
    drive.append("journal", b"on").unwrap();
    drive.sync().unwrap();
    assert_eq!(read(&drive, "journal").unwrap(), b"anew on");
}

#[test]
fn more_files_than_may_be_open_at_once_are_staged() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    let n = OPEN_MAX * 2 + 3;
    for i in 0..n {
        drive.put(&format!("shards/{:02x}/{i}", i % 5), &[i.to_string().as_bytes()], PutMode::New).unwrap();
    }
    assert_eq!(names(&drive, "shards/").len(), 0);
    drive.sync().unwrap();
    assert_eq!(names(&drive, "shards/").len(), n);
    assert_eq!(read(&drive, "shards/02/7").unwrap(), b"7");
}

#[test]
fn files_are_removed_and_names_stay_inside() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("a/x", &[b"x"], PutMode::New).unwrap();
    drive.sync().unwrap();
    drive.remove("a/x").unwrap();
    drive.remove("a/x").unwrap();
    drive.remove("b/x").unwrap();
    drive.sync().unwrap();
    assert_eq!(drive.len("a/x"), Ok(None));
    for name in ["", "/etc/x", "../x", "a/../../x", "tmp/x", "tmp", "a//x", "a\0"] {
        assert!(drive.put(name, &[b"x"], PutMode::New).is_err(), "{name:?}");
        assert!(drive.append(name, b"x").is_err() && drive.remove(name).is_err());
    }
    let space = drive.space().unwrap();
    assert!(space.total >= space.free && space.free > 0);
}

#[test]
fn a_drive_that_is_not_there_is_gone() {
    let tmp = tempfile::tempdir().unwrap();
    assert_eq!(DirectoryDrive::open(&tmp.path().join("none")).unwrap_err(), DriveError::Gone);
    let folder = tmp.path().join("drive");
    fs::create_dir(&folder).unwrap();
    let drive = DirectoryDrive::open(&folder).unwrap();
    fs::remove_dir(&folder).unwrap();
    assert_eq!(drive.put("x", &[b"x"], PutMode::New), Err(DriveError::Gone));
}

#[test]
fn a_full_drive_says_so_and_stages_nothing() {
    // A file system of one megabyte, where we may mount one.
    let tmp = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "lavatube-test"])
        .arg(tmp.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        return eprintln!("SKIPPED: no right to mount a small file system");
    }
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    let result = drive.put("x", &[&vec![1; 2 << 20]], PutMode::New);
    let left = fs::read_dir(tmp.path().join(TMP)).unwrap().count();
    drive.put("y", &[b"small"], PutMode::New).unwrap();
    let synced = drive.sync();
    let listed = names(&drive, "");
    drop(drive);
    std::process::Command::new("umount").arg(tmp.path()).status().unwrap();
    assert_eq!((result, left, synced), (Err(DriveError::Full), 0, Ok(())));
    assert_eq!(listed, ["y"]);
}

#[test]
fn folders_that_a_killed_process_made_are_made_durable_once() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    // Made, and killed before any sync.
    fs::create_dir_all(tmp.path().join("shards/ab")).unwrap();
    let touched = |write: &dyn Fn()| {
        write();
        let mut staged = lock(&drive.staged);
        settle_bytes(&mut staged).unwrap();
        drive.settle_names(&mut staged).unwrap();
        staged.appended.clear();
        std::mem::take(&mut staged.touched).into_iter().collect::<Vec<_>>()
    };
    let put = |name: &'static str| move |drive: &DirectoryDrive| drive.put(name, &[b"x"], PutMode::New).unwrap();
    assert_eq!(touched(&|| put("shards/ab/x")(&drive)), ["", "shards", "shards/ab"]);
    assert_eq!(touched(&|| put("shards/ab/y")(&drive)), ["shards/ab"], "once is enough");
    assert_eq!(touched(&|| put("shards/cd/x")(&drive)), ["shards", "shards/cd"]);
    fs::remove_dir_all(tmp.path().join("shards/ab")).unwrap();
    assert_eq!(touched(&|| put("shards/ab/x")(&drive)), ["shards", "shards/ab"], "made anew");
    fs::write(tmp.path().join("journal"), "written, never synced").unwrap();
    assert_eq!(touched(&|| drive.append("journal", b"x").unwrap()), [""]);
    assert!(touched(&|| drive.append("journal", b"x").unwrap()).is_empty());
}

#[test]
fn how_long_reads_took_is_told_once() {
    let tmp = tempfile::tempdir().unwrap();
    let drive = DirectoryDrive::open(tmp.path()).unwrap();
    drive.put("a", &[&vec![7; 100_000]], PutMode::New).unwrap();
    drive.sync().unwrap();
    assert_eq!(drive.reading_time(), ReadingTime::default());
    (0..3).for_each(|_| drop(read(&drive, "a")));
    let took = drive.reading_time();
    assert!(took.reads == 3 && took.ns > 0, "{took:?}");
    assert_eq!(drive.reading_time(), ReadingTime::default());
}
