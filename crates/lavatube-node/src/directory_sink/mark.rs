//! The mark of a restore under way: a hidden empty file in the target, there until the restore has come to its end.
//!
//! A file gets its size and time before its bytes reach the medium, so that after a power loss it may look restored and
//! hold zeros. Who finds a mark believes no looks, and nobody believes those of a file from before the system started: so
//! a restore need not wait for the medium at its end. The name has a digest of what is restored: only the same restore, run
//! to its end, knows that every file was compared, and takes the mark away. It has the mode of what is unfinished, so that
//! it is nothing to those who look, and whoever runs has a lock on it. Step 21 of the walk.

use std::os::fd::OwnedFd;

use lavatube_base::digest::h16;
use lavatube_base::hex;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RawDir, Timespec, Timestamps, fchmod, flock, fstat, fsync, futimens, openat,
    statat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};

use super::{DirectorySink, UNFINISHED, is_unfinished};
use crate::descend::LOOK;

/// The mark of a restore; it stays when this is dropped.
#[derive(Debug)]
pub struct Mark {
    name: String,
    /// `None` when the target takes no mark.
    file: Option<OwnedFd>,
    is_new: bool,
    doubt: bool,
}

impl DirectorySink {
    /// Leaves the mark of a restore of `what`: the same bytes for the same entries of the same snapshot.
    pub fn begin(&self, what: &[u8]) -> Mark {
        let name = format!("{PREFIX}{}", hex(&h16(&[what])[..DIGEST_SHOWN]));
        // Whoever cannot tell has doubts.
        let others = self.marks().unwrap_or(true);
        match self.leave(&name) {
            Ok((file, is_new)) => Mark { name, file: Some(file), is_new, doubt: others },
            Err(_) => Mark { name, file: None, is_new: false, doubt: true },
        }
    }

    /// Whether there is a mark in the target.
    fn marks(&self) -> rustix::io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.root.fd, c".", flags, Mode::empty())?;
        let mut buf = Vec::with_capacity(GETDENTS_LEN);
        let mut entries = RawDir::new(&fd, buf.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes().starts_with(PREFIX.as_bytes())
                && statat(&self.root.fd, name, LOOK).is_ok_and(|st| is_unfinished(&st))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the mark or takes the one that is there, and makes it durable; says which.
    fn leave(&self, name: &str) -> rustix::io::Result<(OwnedFd, bool)> {
        let root = &self.root.fd;
        for _ in 0..TRIES {
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let created = retry_on_intr(|| openat(root, name, flags | OFlags::CREATE | OFlags::EXCL, UNFINISHED));
            let is_new = created.is_ok();
            let file = match created {
                Err(Errno::EXIST) if is_unfinished(&statat(root, name, LOOK)?) => {
                    match openat(root, name, flags, Mode::empty()) {
                        // The other one has just come to its end.
                        Err(Errno::NOENT) => continue,
                        other => other?,
                    }
                }
                other => other?,
            };
            // The other one is just about to take it away. Where nobody can lock there is one restore at a time.
            if flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
                return Err(Errno::WOULDBLOCK);
            }
            if !self.is_there(name, &file) {
                continue;
            }
            for fd in [&file, root] {
                match fsync(fd) {
                    // Some network file systems know no sync of folders.
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(e) => return Err(e),
                }
            }
            return Ok((file, is_new));
        }
        Err(Errno::BUSY)
    }

    fn is_there(&self, name: &str, file: &OwnedFd) -> bool {
        let same = |a: rustix::fs::Stat, b: rustix::fs::Stat| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino);
        fstat(file).is_ok_and(|own| statat(&self.root.fd, name, LOOK).is_ok_and(|there| same(own, there)))
    }

    /// Removes the mark, unless another restore holds it too, without a trace in the target's times.
    fn take_away(&self, mark: &Mark) -> rustix::io::Result<()> {
        let Some(file) = &mark.file else { return Ok(()) };
        let held = flock(file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK);
        if held || !self.is_there(&mark.name, file) {
            return Ok(());
        }
        let root = &self.root.fd;
        let before = fstat(root)?;
        let unlink = || unlinkat(root, mark.name.as_str(), AtFlags::empty());
        match unlink() {
            // The target has got its mode, and by that we may not write to it.
            Err(Errno::ACCESS) => {
                let mode = Mode::from_raw_mode(before.st_mode & 0o7777);
                fchmod(root, mode | Mode::RWXU)?;
                let unlinked = unlink();
                fchmod(root, mode)?;
                unlinked?;
            }
            other => other?,
        }
        let time = |s, ns| Timespec { tv_sec: s, tv_nsec: i64::try_from(ns).unwrap_or_default() };
        let times = Timestamps {
            last_access: time(before.st_atime, before.st_atime_nsec),
            last_modification: time(before.st_mtime, before.st_mtime_nsec),
        };
        // Only the owner may; whoever else restores into it changes its time by that anyway.
        let _ = futimens(root, &times);
        Ok(())
    }
}

impl Mark {
    /// Whether files that look restored may be less: another restore into the target was cut, or is under way.
    pub fn doubt(&self) -> bool {
        self.doubt
    }

    /// Ends a restore that came to its end: the mark goes away.
    pub fn end(self, sink: &DirectorySink) {
        // One that stays makes later restores slower, and nothing else.
        let _ = sink.take_away(&self);
    }

    /// Ends a restore that has written nothing.
    pub fn undo(self, sink: &DirectorySink) {
        if self.is_new {
            let _ = sink.take_away(&self);
        }
    }
}

/// How marks begin.
pub(crate) const PREFIX: &str = ".lavatube-restoring-";
/// Bytes of the digest in a name.
const DIGEST_SHOWN: usize = 8;
const GETDENTS_LEN: usize = 32 << 10;
const TRIES: usize = 8;
