//! `DirectorySpool`: a folder of objects that wait for a contact, as a [`Spool`]. Step 6 of the walk.
//!
//! Made of a [`DirectoryDrive`], whose staging and syncing is just what *safe here* needs. Each object is a file,
//! `packs/<turn>-<id>`, `tags/<turn>-<id>` or `manifests/<turn>-<id>`, its bytes as they are; the turn keeps the order. It must not know
//! what the objects are.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use lavatube_base::limits::OBJECT_LEN_MAX;
use lavatube_base::{ObjectId, Verified};
use lavatube_client::spool::{Spool, SpoolError, SpoolKind};
use lavatube_vault::drive::{Drive, DriveError, PutMode};

use crate::atomic::{PRIVATE, make_folders};
use crate::directory_drive::DirectoryDrive;
use crate::words::plain;

/// Objects that wait in a folder. One process puts at a time and holds a [`crate::lock::Lock`]; another one may let go of
/// what was receipted meanwhile ([`DirectorySpool::beside`]).
#[derive(Debug)]
pub struct DirectorySpool {
    drive: DirectoryDrive,
    /// What is durable: kind and turn, in the order of sending.
    waiting: BTreeMap<(SpoolKind, u64), ObjectId>,
    staged: BTreeMap<(SpoolKind, u64), ObjectId>,
    next: u64,
}

impl DirectorySpool {
    /// Opens the spool in `folder`, which is made when missing, and removes what a crash left unfinished.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when it cannot be made or read.
    pub fn open(folder: &Path) -> Result<Self, SpoolError> {
        make_folders(folder, PRIVATE).map_err(|e| SpoolError::Io(plain(&e.to_string())))?;
        let drive = DirectoryDrive::open(folder).map_err(blame)?;
        let waiting = scan(&drive)?;
        let next = waiting.keys().map(|(_, turn)| turn + 1).max().unwrap_or(0);
        Ok(Self { drive, waiting, staged: BTreeMap::new(), next })
    }

    /// Opens the spool in `folder` to read and to let go of what was receipted, beside a command that puts: only who puts
    /// holds the lock. What is put later is not seen; `None` when nothing ever waited.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when it cannot be read.
    pub fn beside(folder: &Path) -> Result<Option<Self>, SpoolError> {
        let drive = match DirectoryDrive::open_beside(folder) {
            Err(DriveError::Gone) => return Ok(None),
            other => other.map_err(blame)?,
        };
        let waiting = scan(&drive)?;
        let next = waiting.keys().map(|(_, turn)| turn + 1).max().unwrap_or(0);
        Ok(Some(Self { drive, waiting, staged: BTreeMap::new(), next }))
    }

    /// What waits in the spool in `folder`, in the order of sending, without changing anything: for those who only want
    /// to know, whoever works on it. A folder that is not there has nothing waiting.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when it cannot be read.
    pub fn peek(folder: &Path) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError> {
        match DirectoryDrive::open_read_only(folder) {
            Ok(drive) => Ok(listed(&scan(&drive)?)),
            Err(DriveError::Gone) => Ok(Vec::new()),
            Err(e) => Err(blame(e)),
        }
    }

    /// Ids of what waits of one kind, in the order of sending.
    pub fn waiting(&self, kind: SpoolKind) -> impl Iterator<Item = ObjectId> + '_ {
        self.waiting.range((kind, 0)..=(kind, u64::MAX)).map(|(_, id)| *id)
    }

    /// Whether an object waits here.
    pub fn has(&self, id: ObjectId) -> bool {
        self.name(id).is_some()
    }

    /// Length of an object that waits here.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when its file fails.
    pub fn len(&self, id: ObjectId) -> Result<Option<u64>, SpoolError> {
        self.name(id).map_or(Ok(None), |name| self.drive.len(&name).map_err(blame))
    }

    /// Appends bytes `range` of an object to `out` when it waits here, and says whether it does. Nobody vouches for them:
    /// whoever asks verifies.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when it does not have them all; `out` is as before then.
    pub fn read(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<bool, SpoolError> {
        let Some(name) = self.name(id) else { return Ok(false) };
        let beyond = || SpoolError::Io(format!("{name} is shorter than it was"));
        let here = self.drive.len(&name).map_err(blame)?.is_some_and(|len| range.end <= len);
        let want = range.end.checked_sub(range.start).and_then(|n| usize::try_from(n).ok());
        let want = want.filter(|n| here && *n <= OBJECT_LEN_MAX).ok_or_else(beyond)?;
        let base = out.len();
        out.resize(base + want, 0);
        match self.drive.read_at(&name, range.start, &mut out[base..]).map_err(blame) {
            Ok(n) if n == want => Ok(true),
            other => {
                out.truncate(base);
                other.and(Err(beyond()))
            }
        }
    }

    /// The file of an object, whichever kind it is.
    fn name(&self, id: ObjectId) -> Option<String> {
        let turn = |kind| self.find(kind, id).map(|turn| file_name(kind, turn, id));
        SpoolKind::ALL.into_iter().find_map(turn)
    }

    fn find(&self, kind: SpoolKind, id: ObjectId) -> Option<u64> {
        let of_kind = self.waiting.range((kind, 0)..=(kind, u64::MAX));
        of_kind.filter(|(_, waiting)| **waiting == id).map(|((_, turn), _)| *turn).next()
    }
}

impl Spool for DirectorySpool {
    fn put(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<(), SpoolError> {
        let known =
            |of: &BTreeMap<(SpoolKind, u64), ObjectId>| of.iter().any(|(k, id)| k.0 == kind && *id == object.id());
        if self.find(kind, object.id()).is_some() || known(&self.staged) {
            return Ok(());
        }
        let space = self.drive.space().map_err(blame)?;
        if space.total > 0 && space.free < object.bytes().len() as u64 + KEPT_FREE {
            return Err(SpoolError::Full);
        }
        let turn = self.next;
        self.drive.put(&file_name(kind, turn, object.id()), &[object.bytes()], PutMode::New).map_err(blame)?;
        self.next += 1;
        self.staged.insert((kind, turn), object.id());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        let mut staged = std::mem::take(&mut self.staged);
        self.drive.sync().map_err(blame)?;
        self.waiting.append(&mut staged);
        Ok(())
    }

    fn list(&self) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError> {
        Ok(listed(&self.waiting))
    }

    fn get(&self, kind: SpoolKind, id: ObjectId) -> Result<Vec<u8>, SpoolError> {
        let absent = || SpoolError::Io(format!("object {id} does not wait here"));
        let name = file_name(kind, self.find(kind, id).ok_or_else(absent)?, id);
        let len = self.drive.len(&name).map_err(blame)?.ok_or_else(absent)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= OBJECT_LEN_MAX);
        let mut bytes = vec![0; len.ok_or_else(|| SpoolError::Io(format!("{name} is longer than any object")))?];
        let n = self.drive.read_at(&name, 0, &mut bytes).map_err(blame)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    fn remove(&mut self, kind: SpoolKind, id: ObjectId) -> Result<(), SpoolError> {
        let Some(turn) = self.find(kind, id) else { return Ok(()) };
        self.drive.remove(&file_name(kind, turn, id)).map_err(blame)?;
        self.waiting.remove(&(kind, turn));
        Ok(())
    }
}

fn listed(waiting: &BTreeMap<(SpoolKind, u64), ObjectId>) -> Vec<(SpoolKind, ObjectId)> {
    waiting.iter().map(|((kind, _), id)| (*kind, *id)).collect()
}

/// All objects in a spool, by kind and turn; files of other names are not ours.
fn scan(drive: &DirectoryDrive) -> Result<BTreeMap<(SpoolKind, u64), ObjectId>, SpoolError> {
    let mut found = BTreeMap::new();
    for kind in SpoolKind::ALL {
        let prefix = folder(kind);
        let each = &mut |name: &str| {
            let parts = name.strip_prefix(prefix).and_then(|n| n.strip_prefix('/')).and_then(|n| n.split_once('-'));
            let Some((turn, id)) = parts else { return };
            if let (Ok(turn), Ok(id)) = (u64::from_str_radix(turn, 16), id.parse()) {
                found.insert((kind, turn), id);
            }
        };
        drive.list(&format!("{prefix}/"), each).map_err(blame)?;
    }
    Ok(found)
}

fn folder(kind: SpoolKind) -> &'static str {
    match kind {
        SpoolKind::Pack => "packs",
        SpoolKind::Tags => "tags",
        SpoolKind::Manifest => "manifests",
    }
}

fn file_name(kind: SpoolKind, turn: u64, id: ObjectId) -> String {
    format!("{}/{turn:016x}-{id}", folder(kind))
}

fn blame(e: DriveError) -> SpoolError {
    match e {
        DriveError::Full => SpoolError::Full,
        e => SpoolError::Io(e.to_string()),
    }
}

/// What waits leaves so much of the disk to others: where the link cannot note counters and receipts, nothing ever leaves.
const KEPT_FREE: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_wait_in_order_packs_first_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/spool");
        assert_eq!(DirectorySpool::peek(&folder), Ok(vec![]));
        let mut spool = DirectorySpool::open(&folder).unwrap();
        let objects: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; 5000]).collect();
        let manifest = Verified::hash(b"manifest");
        spool.put(SpoolKind::Manifest, manifest).unwrap();
        let mut want: Vec<_> = objects.iter().map(|o| (SpoolKind::Pack, Verified::hash(o).id())).collect();
        want.push((SpoolKind::Manifest, manifest.id()));
        objects.iter().for_each(|o| spool.put(SpoolKind::Pack, Verified::hash(o)).unwrap());
        spool.put(SpoolKind::Pack, Verified::hash(&objects[3])).unwrap();
        assert_eq!(spool.list(), Ok(vec![]), "nothing counts before it is durable");
        spool.sync().unwrap();
        assert_eq!(spool.list().as_ref(), Ok(&want));
        assert_eq!(DirectorySpool::peek(&folder).as_ref(), Ok(&want));

        let mut spool = DirectorySpool::open(&folder).unwrap();
        assert_eq!(spool.list().as_ref(), Ok(&want));
        let second = want.remove(1);
        assert_eq!(spool.get(second.0, second.1).as_ref(), Ok(&objects[1]));
        spool.remove(second.0, second.1).unwrap();
        spool.remove(second.0, second.1).unwrap();
        assert!(spool.get(second.0, second.1).is_err());
        let mut part = vec![7];
        assert_eq!(spool.read(second.1, 0..1, &mut part), Ok(false));
        assert_eq!((spool.read(want[5].1, 4_998..5_000, &mut part), &part[..]), (Ok(true), &[7, 6, 6][..]));
        assert!(spool.read(want[5].1, 4_999..5_001, &mut part).is_err() && part == [7, 6, 6]);
        assert_eq!((spool.len(manifest.id()), spool.has(manifest.id())), (Ok(Some(8)), true));
        spool.put(SpoolKind::Pack, Verified::hash(b"late")).unwrap();
        spool.sync().unwrap();
        want.insert(want.len() - 1, (SpoolKind::Pack, Verified::hash(b"late").id()));
        assert_eq!(DirectorySpool::open(&folder).unwrap().list(), Ok(want));
    }

    #[test]
    fn one_may_let_go_while_another_puts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("spool");
        assert!(DirectorySpool::beside(&folder).unwrap().is_none());
        let mut puts = DirectorySpool::open(&folder).unwrap();
        let [one, two, three] = [b"1", b"2", b"3"].map(|bytes| Verified::hash(bytes));
        puts.put(SpoolKind::Pack, one).unwrap();
        puts.sync().unwrap();
        puts.put(SpoolKind::Pack, two).unwrap();
        let mut takes = DirectorySpool::beside(&folder).unwrap().unwrap();
        assert_eq!(takes.list(), Ok(vec![(SpoolKind::Pack, one.id())]), "what is not durable is not there");
        takes.remove(SpoolKind::Pack, one.id()).unwrap();
        puts.sync().unwrap();
        // It was let go of because the vault has it: it need not come again.
        puts.put(SpoolKind::Pack, one).unwrap();
        puts.put(SpoolKind::Manifest, three).unwrap();
        puts.sync().unwrap();
        let left = vec![(SpoolKind::Pack, two.id()), (SpoolKind::Manifest, three.id())];
        assert_eq!(DirectorySpool::beside(&folder).unwrap().unwrap().list(), Ok(left));
    }

    #[test]
    fn what_was_not_synced_does_not_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = DirectorySpool::open(dir.path()).unwrap();
        spool.put(SpoolKind::Pack, Verified::hash(b"x")).unwrap();
        drop(spool);
        assert_eq!(DirectorySpool::open(dir.path()).unwrap().list(), Ok(vec![]));
    }
}
