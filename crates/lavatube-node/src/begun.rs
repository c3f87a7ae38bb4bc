//! Which objects of the spool were begun to be sent: a next life asks how far they came before it spends bytes on them, and sends
//! the others at once. Step 9 of the walk.
//!
//! Losing it costs bytes of the link, nothing else; so it is appended to and not synced. It must not know what objects hold.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lavatube_base::ObjectId;

use crate::atomic;

/// Objects that were begun and are not known to have arrived.
#[derive(Debug)]
pub(crate) struct Begun {
    path: PathBuf,
    file: File,
    /// As the file has them.
    objects: BTreeSet<ObjectId>,
    /// Those of an earlier life that this one has not asked about yet.
    before: BTreeSet<ObjectId>,
}

impl Begun {
    /// What the file at `path` says, which is made when missing.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        // The dot says that the line is whole: one that a crash has cut is passed over.
        let objects: BTreeSet<ObjectId> =
            text.lines().filter_map(|line| line.strip_suffix(" .")?.parse().ok()).collect();
        let file = anew(&path, &objects)?;
        Ok(Self { path, file, before: objects.clone(), objects })
    }

    /// Whether an earlier life has begun it; asked once, it is this life's.
    pub fn was_before(&mut self, id: ObjectId) -> bool {
        self.before.remove(&id)
    }

    /// It is begun.
    pub fn note(&mut self, id: ObjectId) -> io::Result<()> {
        if self.objects.insert(id) {
            self.file.write_all(line(&id).as_bytes())?;
        }
        Ok(())
    }

    /// Only these are still in the spool.
    pub fn retain(&mut self, here: &BTreeSet<ObjectId>) -> io::Result<()> {
        let count = self.objects.len();
        self.objects.retain(|id| here.contains(id));
        self.before.retain(|id| here.contains(id));
        if self.objects.len() < count {
            self.file = anew(&self.path, &self.objects)?;
        }
        Ok(())
    }
}

fn anew(path: &Path, objects: &BTreeSet<ObjectId>) -> io::Result<File> {
    let text: String = objects.iter().map(line).collect();
    atomic::anew(path, text.as_bytes())
}

fn line(id: &ObjectId) -> String {
    format!("{id} .\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_life_began_is_known_once_and_what_a_crash_has_cut_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("begun");
        let [one, two, three] = [1, 2, 3].map(|n| ObjectId([n; 32]));
        let mut begun = Begun::open(path.clone()).unwrap();
        begun.note(one).unwrap();
        begun.note(two).unwrap();
        begun.note(two).unwrap();
        assert!(!begun.was_before(one), "that is this life's");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        std::fs::write(&path, format!("{text}{}", &line(&three)[..50])).unwrap();
        let mut begun = Begun::open(path.clone()).unwrap();
        assert!(begun.was_before(one) && !begun.was_before(one) && !begun.was_before(three));
        begun.retain(&[one].into()).unwrap();
        assert!(!begun.was_before(two));
        let mut begun = Begun::open(path).unwrap();
        assert!(begun.was_before(one) && !begun.was_before(two));
    }
}
