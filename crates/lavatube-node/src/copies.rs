//! Small text files of a vault's folder that are kept twice, so that one which is lost or has a flipped bit is had from its copy.
//!
//! `<name>.copy` lies beside it. The text ends with a line that checks what is before it; a person who changes the file takes that line away, or
//! leaves it: what differs from its check by more than a bit was changed on purpose. Who only reads changes neither. It must not know what
//! the text says. No step of the walk.

use std::io;
use std::path::{Path, PathBuf};

use lavatube_base::digest::h16;
use lavatube_base::hex;

use crate::atomic::{self, IfThere};

/// Where the copy of a file is.
pub(crate) fn copy_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".copy");
    name.into()
}

/// Whether there is the file, or its copy.
pub(crate) fn exists(path: &Path) -> bool {
    path.exists() || copy_of(path).exists()
}

/// The text, without the line that checks it; `None` when there is neither the file nor a copy that is right.
///
/// # Errors
/// When the file cannot be read, and no copy is right.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let main = std::fs::read_to_string(path);
    let copy = std::fs::read_to_string(copy_of(path)).ok().and_then(|text| checked(&text).map(str::to_owned));
    match (main, copy) {
        (Ok(main), copy) => match (checked(&main), copy) {
            (Some(body), _) => Ok(Some(body.to_owned())),
            (None, Some(copy)) if is_broken(&main, &copy) => Ok(Some(copy)),
            (None, _) => Ok(Some(body_of(&main))),
        },
        (Err(_), Some(copy)) => Ok(Some(copy)),
        (Err(e), None) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        (Err(e), None) => Err(e),
    }
}

/// Writes the text and its copy.
///
/// # Errors
/// As [`atomic::write`]; where only the copy failed there is none, or an older one, which counts no more.
pub(crate) fn write(path: &Path, body: &str, if_there: IfThere) -> io::Result<()> {
    let text = with_check(body);
    atomic::write(path, text.as_bytes(), if_there)?;
    atomic::write(&copy_of(path), text.as_bytes(), IfThere::Replace)
}

/// Makes the file and its copy what [`read`] says, if they are not. Best effort: the next one does it again.
pub(crate) fn heal(path: &Path) {
    let Ok(Some(body)) = read(path) else { return };
    let text = with_check(&body);
    for file in [path.to_owned(), copy_of(path)] {
        if std::fs::read(&file).ok().as_deref() != Some(text.as_bytes()) {
            let _ = atomic::write(&file, text.as_bytes(), IfThere::Replace);
        }
    }
}

fn with_check(body: &str) -> String {
    let line = if body.is_empty() || body.ends_with('\n') { "" } else { "\n" };
    let body = format!("{body}{line}");
    format!("{body}{CHECK}{}\n", digits(&body))
}

/// The text before the line that checks it, when it is right.
fn checked(text: &str) -> Option<&str> {
    let (body, check) = text.rsplit_once(CHECK)?;
    (check.strip_suffix('\n') == Some(&digits(body))).then_some(body)
}

/// The text without that line, if there is one: a person may have written something below it.
fn body_of(text: &str) -> String {
    let lines = text.split_inclusive('\n').filter(|line| !line.starts_with(CHECK));
    lines.collect()
}

/// Whether a text without a right check is its copy with a flipped bit, or nothing at all: what a crash or rot leaves, and no person.
fn is_broken(main: &str, copy: &str) -> bool {
    let whole = with_check(copy);
    let flipped: u32 = main.bytes().zip(whole.bytes()).map(|(a, b)| (a ^ b).count_ones()).sum();
    main.len() == whole.len() && flipped == 1 || main.bytes().all(|byte| byte == 0)
}

fn digits(body: &str) -> String {
    hex(&h16(&[body.as_bytes()]))
}

const CHECK: &str = "# check (take this line away when you change the file): ";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_lost_or_flipped_is_had_from_its_copy_and_healed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.toml");
        assert_eq!((read(&path).unwrap(), exists(&path)), (None, false));
        write(&path, "a = 1\nb = 2\n", IfThere::Refuse).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for file in [path.clone(), copy_of(&path)] {
            let mut harms: Vec<Option<Vec<u8>>> = vec![None, Some(vec![]), Some(vec![0; whole.len()])];
            for bit in 0..whole.len() * 8 {
                let mut bad = whole.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                harms.push(Some(bad));
            }
            for harm in harms {
                match &harm {
                    Some(bad) => std::fs::write(&file, bad).unwrap(),
                    None => std::fs::remove_file(&file).unwrap(),
                }
                assert_eq!(read(&path).unwrap().as_deref(), Some("a = 1\nb = 2\n"), "{harm:?}");
                heal(&path);
                assert_eq!(std::fs::read(&path).unwrap(), whole);
                assert_eq!(std::fs::read(copy_of(&path)).unwrap(), whole);
            }
        }
    }

    #[test]
    fn what_a_person_changed_is_what_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list.toml");
        write(&path, "a = 1\nb = 2\n", IfThere::Refuse).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        for (changed, want) in [
            ("a = 3\n".to_owned(), "a = 3\n"),
            ("a = 1\n".to_owned(), "a = 1\n"),
            (whole.replace("b = 2\n", ""), "a = 1\n"),
            (whole.replace("a = 1", "a = 14"), "a = 14\nb = 2\n"),
            (format!("{whole}c = 5\n"), "a = 1\nb = 2\nc = 5\n"),
            (whole.replace("1", "8").replace("2", "7"), "a = 8\nb = 7\n"),
        ] {
            std::fs::write(&path, changed).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(want));
        }
        heal(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("a = 8\nb = 7\n"), "the copy follows");
        // A file of before has no line and no copy.
        std::fs::remove_file(copy_of(&path)).unwrap();
        std::fs::write(&path, "old = 1\n").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("old = 1\n"));
    }
}
