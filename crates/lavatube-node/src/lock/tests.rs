use std::process::{Child, Command, Stdio};

use super::*;

const NOW: Duration = Duration::ZERO;

/// Not a test of its own: the other process of the tests below, which re-run this binary with a path in its environment.
#[test]
fn other_process() {
    let Some(path) = std::env::var_os("LAVATUBE_TEST_LOCK") else { return };
    let _lock = Lock::acquire(Path::new(&path), "lavatube backup\x1b[31m", Mode::Exclusive, NOW).unwrap();
    std::fs::write(Path::new(&path).with_extension("ready"), b"").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

fn spawn_holder(path: &Path) -> Child {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lock::tests::other_process"])
        .env("LAVATUBE_TEST_LOCK", path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while !path.with_extension("ready").exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_killed_holder_is_named_and_then_frees_the_lock() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("lock");
    let mut child = spawn_holder(&path);
    for mode in [Mode::Shared, Mode::Exclusive] {
        let e = Lock::acquire(&path, "lavatube restore", mode, NOW).unwrap_err();
        let want =
            format!("{} is held by `lavatube backup[31m` (pid {} on {}) for ", path.display(), child.id(), host_name());
        assert!(e.to_string().starts_with(&want), "{e}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    Lock::acquire(&path, "lavatube restore", Mode::Exclusive, NOW).unwrap();
}

#[test]
fn waiting_ends_when_the_holder_does() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("lock");
    let held = Lock::acquire(&path, "first", Mode::Exclusive, NOW).unwrap();
    let waiter = std::thread::spawn({
        let path = path.clone();
        move || Lock::acquire(&path, "second", Mode::Exclusive, Duration::from_secs(20)).map(drop)
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiter.is_finished());
    drop(held);
    waiter.join().unwrap().unwrap();
}

#[test]
fn readers_share_and_keep_writers_out() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("lock");
    let first = Lock::acquire(&path, "lavatube check", Mode::Shared, NOW).unwrap();
    let second = Lock::acquire(&path, "lavatube list", Mode::Shared, NOW).unwrap();
    let by = |e| match e {
        Err(LockError::Held { by: Some(by), .. }) => by.command,
        other => panic!("{other:?}"),
    };
    assert_eq!(by(Lock::acquire(&path, "w", Mode::Exclusive, NOW)), "lavatube list");
    drop(second);
    assert!(Lock::acquire(&path, "w", Mode::Exclusive, NOW).is_err());
    drop(first);
    assert_eq!(std::fs::read(&path).unwrap(), b"", "the last reader wipes the slate");
    let _writer = Lock::acquire(&path, "w", Mode::Exclusive, NOW).unwrap();
    assert_eq!(by(Lock::acquire(&path, "r", Mode::Shared, NOW)), "w");
}

#[test]
fn a_strange_text_in_the_file_harms_nobody() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("lock");
    for text in [&b"\xff\xff\t\t\t\n"[..], b"99999999999\tx\ty\tz\n", &[b'a'; 100_000], b"1\t2\n"] {
        let other = File::options().append(true).create(true).open(&path).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        other.set_len(0).unwrap();
        (&other).write_all(text).unwrap();
        let e = Lock::acquire(&path, "w", Mode::Exclusive, NOW).unwrap_err();
        assert!(e.to_string().ends_with("is held by another command"), "{e}");
    }
    assert!(matches!(Lock::acquire(&tmp.path().join("no/lock"), "w", Mode::Shared, NOW), Err(LockError::Io { .. })));
}

#[test]
fn ages_are_said_as_people_say_them() {
    let said = [0, 59, 60, 3599, 3600, 86_400, 200_000].map(|s| Age(s).to_string());
    assert_eq!(said, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "24 h 0 min", "2 days"]);
}
