//! Writing behind: a thread that writes a large file while whoever makes its bytes goes on. Step 21 of the walk.
//!
//! A failure is told at the next write or at the end, and nothing counts as written before [`WriteBehind::finish`] said
//! so. It must not know what the file is.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use rustix::io::{Errno, pwrite, retry_on_intr};

/// Writes that wait, beside the one under way.
const QUEUE: usize = 4;

/// Bytes and where they belong.
type Write = (u64, Vec<u8>);

/// A file that is written behind.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    writes: Option<SyncSender<Write>>,
    /// Buffers to use again.
    spare: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<rustix::io::Result<()>>>,
}

impl WriteBehind {
    /// Starts to write to `file`.
    pub(crate) fn start(file: OwnedFd) -> Self {
        let (writes, todo) = sync_channel(QUEUE);
        let (done, spare) = channel();
        let thread = thread::spawn(move || write_all(&file, todo, &done));
        Self { writes: Some(writes), spare, thread: Some(thread) }
    }

    /// Has `bytes` written at `offset`.
    ///
    /// # Errors
    /// That of an earlier write.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> rustix::io::Result<()> {
        let mut buffer = self.spare.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        match self.writes.as_ref().is_some_and(|writes| writes.send((offset, buffer)).is_ok()) {
            true => Ok(()),
            false => Err(self.finish().err().unwrap_or(Errno::IO)),
        }
    }

    /// Waits for all writes.
    ///
    /// # Errors
    /// The first that failed.
    pub(crate) fn finish(&mut self) -> rustix::io::Result<()> {
        self.writes = None;
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or(Err(Errno::IO)))
    }
}

impl Drop for WriteBehind {
    fn drop(&mut self) {
        // Whoever drops it before the end has given the file up.
        let _ = self.finish();
    }
}

fn write_all(file: &OwnedFd, todo: Receiver<Write>, done: &Sender<Vec<u8>>) -> rustix::io::Result<()> {
    for (offset, bytes) in todo {
        write_at(file, offset, &bytes)?;
        // Nobody takes buffers back once the last write was handed in.
        let _ = done.send(bytes);
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_at(file: impl AsFd, mut offset: u64, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match retry_on_intr(|| pwrite(&file, bytes, offset))? {
            0 => return Err(Errno::IO),
            n => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn everything_is_there_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let mut behind = WriteBehind::start(File::create(&path).unwrap().into());
        let parts: Vec<Vec<u8>> = (0..50u8).map(|n| vec![n; 1000 + usize::from(n)]).collect();
        let mut at = 0;
        for part in &parts {
            behind.write(at, part).unwrap();
            at += part.len() as u64;
        }
        behind.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), parts.concat());
    }

    #[test]
    fn a_failure_is_told_by_a_later_write_or_at_the_end() {
        let read_only = || OwnedFd::from(File::open("/dev/null").unwrap());
        let mut behind = WriteBehind::start(read_only());
        let told = (0..100).find_map(|n| behind.write(n, b"x").err());
        assert_eq!(told, Some(Errno::BADF));
        let mut behind = WriteBehind::start(read_only());
        let _ = behind.write(0, b"x");
        assert_eq!(behind.finish(), Err(Errno::BADF));
    }
}
