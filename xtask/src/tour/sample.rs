//! A small folder with one of everything that backups tend to lose.
//!
//! It is the same every time, so that a difference is ours. What this machine cannot make (attributes on some file
//! systems) is left out and said. It must not know lavatube.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

const PICTURE_BYTES: u64 = 3 << 20;
const SPARSE_BYTES: u64 = 64 << 20;

/// Makes the folder and says, a line each, what is in it and why.
pub fn make(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut line = |name: &str, is: &str| lines.push(format!("{name:22} {is}"));
    fs::create_dir(dir)?;

    let diary: String =
        (1..=4000).map(|sol| format!("Sol {sol}: the lamp on drive {} blinked. All is well.\n", sol % 6)).collect();
    fs::write(dir.join("diary.txt"), diary)?;
    line("diary.txt", "text, which compresses well");

    fs::write(dir.join("picture.raw"), noise(PICTURE_BYTES))?;
    line("picture.raw", "3 MiB that do not compress, like a photograph");

    let mut sparse = File::create(dir.join("disk.img"))?;
    sparse.write_all(b"begins with data")?;
    sparse.seek(SeekFrom::Start(SPARSE_BYTES / 2))?;
    sparse.write_all(b"and has some in the middle")?;
    sparse.set_len(SPARSE_BYTES)?;
    line("disk.img", "64 MiB of which nearly all is a hole, and must stay one");

    fs::create_dir(dir.join("links"))?;
    fs::write(dir.join("links/one"), "two names, one file\n")?;
    fs::hard_link(dir.join("links/one"), dir.join("links/two"))?;
    line("links/one, two", "hard links: two names of one file");
    symlink("../diary.txt", dir.join("links/to-diary"))?;
    symlink("nowhere/at/all", dir.join("links/to-nowhere"))?;
    line("links/to-…", "symbolic links, one of them to nothing");

    fs::create_dir(dir.join("empty"))?;
    line("empty/", "a directory with nothing in it");
    fs::write(dir.join("empty.txt"), "")?;
    line("empty.txt", "a file with nothing in it");

    fs::write(dir.join(OsStr::from_bytes(b"caf\xe9.txt")), "a name from before UTF-8\n")?;
    line("caf\\xe9.txt", "a name that is not UTF-8");

    let deep = dir.join(["nest"; 40].join("/"));
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("egg"), "forty directories down\n")?;
    line("nest/nest/…/egg", "forty directories deep");

    fs::write(dir.join("run.sh"), "#!/bin/sh\necho hello\n")?;
    fs::set_permissions(dir.join("run.sh"), Permissions::from_mode(0o4750))?;
    fs::write(dir.join("secret"), "for my eyes\n")?;
    fs::set_permissions(dir.join("secret"), Permissions::from_mode(0o400))?;
    line("run.sh, secret", "odd permissions: set-user-id, and read-only for one");

    tool("mkfifo", &[], &dir.join("pipe"), &mut line, "a named pipe, which must not be read");
    tool(
        "setfattr",
        &["-n", "user.camera", "-v", "lens cap on"],
        &dir.join("picture.raw"),
        &mut line,
        "an extended attribute",
    );

    fs::write(dir.join("moon-landing.txt"), "20 July 1969, 20:17:40 UTC\n")?;
    let landing = UNIX_EPOCH - Duration::new(14_182_940, 0) + Duration::from_nanos(123_456_789);
    File::options()
        .write(true)
        .open(dir.join("moon-landing.txt"))?
        .set_times(FileTimes::new().set_modified(landing))?;
    line("moon-landing.txt", "last changed before 1970, with nanoseconds");
    File::open(dir.join("empty"))?
        .set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(86_400)))?;
    File::open(dir)?.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::new(981_173_106, 7)))?;
    Ok(lines)
}

/// Something the standard library cannot make, by the program that can.
fn tool(program: &str, args: &[&str], path: &Path, line: &mut impl FnMut(&str, &str), is: &str) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let done = Command::new(program).args(args).arg(path).output().is_ok_and(|out| out.status.success());
    if done {
        line(&name, is);
    } else {
        line(&name, &format!("(left out: {is}; `{program}` is missing or this file system refuses)"));
    }
}

/// The same incompressible bytes for the same length.
pub fn noise(bytes: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ bytes;
    let mut out = Vec::new();
    while (out.len() as u64) < bytes {
        // splitmix64: each word is a scrambled counter.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
    out
}
