//! The file of what was sent to a vault from which no word comes back. Step 9 of the walk.
//!
//! Losing it costs bytes of the link, nothing else; so it is appended to and not synced. It must not know what objects hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lavatube_base::{Instant, ObjectId};
use lavatube_client::sent::Sent;

use crate::atomic;

/// Objects that were sent one way, in a file.
#[derive(Debug)]
pub(crate) struct SentFile {
    path: PathBuf,
    file: File,
    sent: Sent,
}

impl SentFile {
    /// What the file at `path` says, which is made when missing; each object is to be sent `times` times.
    pub fn open(path: PathBuf, times: u32) -> io::Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        // The last line about an object counts; one that a crash has cut is passed over.
        let objects = text.lines().filter_map(parse).collect();
        let file = anew(&path, &objects)?;
        Ok(Self { path, file, sent: Sent::new(objects, times) })
    }

    /// Whether an object is to be sent in the contact that began at `contact`.
    pub fn is_due(&self, id: ObjectId, contact: Instant) -> bool {
        self.sent.is_due(id, contact)
    }

    /// It was sent in that contact.
    pub fn note(&mut self, id: ObjectId, contact: Instant) -> io::Result<()> {
        let times = self.sent.note(id, contact);
        self.file.write_all(line(id, times, contact).as_bytes())
    }

    /// Only these are still in the spool.
    pub fn retain(&mut self, here: &BTreeSet<ObjectId>) -> io::Result<()> {
        if self.sent.retain(here) {
            self.file = anew(&self.path, self.sent.objects())?;
        }
        Ok(())
    }
}

fn anew(path: &Path, objects: &BTreeMap<ObjectId, (u32, Instant)>) -> io::Result<File> {
    let text: String = objects.iter().map(|(id, (times, contact))| line(*id, *times, *contact)).collect();
    atomic::anew(path, text.as_bytes())
}

fn line(id: ObjectId, times: u32, contact: Instant) -> String {
    format!("{id} {times} {} .\n", contact.0)
}

fn parse(line: &str) -> Option<(ObjectId, (u32, Instant))> {
    let mut words = line.split(' ');
    let (id, times, contact, end) = (words.next()?, words.next()?, words.next()?, words.next()?);
    // The dot says that the line is whole.
    (end == "." && words.next().is_none()).then_some(())?;
    Some((id.parse().ok()?, (times.parse().ok()?, Instant(contact.parse().ok()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_sent_so_many_times_and_once_a_contact_even_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sent");
        let (one, two) = (ObjectId([1; 32]), ObjectId([2; 32]));
        let mut sent = SentFile::open(path.clone(), 2).unwrap();
        assert!(sent.is_due(one, Instant(5)));
        sent.note(one, Instant(5)).unwrap();
        sent.note(two, Instant(5)).unwrap();
        assert!(!sent.is_due(one, Instant(5)) && sent.is_due(one, Instant(6)));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{}", &text[..70])).unwrap();
        let mut sent = SentFile::open(path.clone(), 2).unwrap();
        assert!(!sent.is_due(one, Instant(5)) && sent.is_due(one, Instant(6)));
        sent.note(one, Instant(6)).unwrap();
        assert!(!sent.is_due(one, Instant(7)) && sent.is_due(two, Instant(7)));
        sent.retain(&[one].into()).unwrap();
        sent.note(two, Instant(9)).unwrap();
        let sent = SentFile::open(path, 2).unwrap();
        assert!(!sent.is_due(one, Instant(10)) && !sent.is_due(two, Instant(9)) && sent.is_due(two, Instant(10)));
    }
}
