//! Reading ahead: a thread that fetches what a reader said it will ask for next, while the reader works on what it has.
//!
//! One at a time for each reader: what waits takes no more memory than one answer. Step 20 of the walk. It must not know
//! what the bytes are.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use lavatube_base::{ObjectId, Verified};
use lavatube_client::far::{Far, FarError, LogWord, ReceiptBytes, Signer};
use lavatube_format::log::Question;

/// Bytes of an object.
type Part = (ObjectId, Range<u64>);

/// What is being fetched ahead of time.
enum Ahead {
    /// Nothing.
    Idle,
    /// The reader wants it soon.
    Wanted(Part),
    /// The thread is at it.
    Under(Part),
    /// It is here, unless it could not be had: then the reader will ask again and be told why.
    Ready(Part, Option<Vec<u8>>),
    /// No more will be wanted.
    Over,
}

struct ReadAhead<'f> {
    far: &'f dyn Far,
    ahead: Mutex<Ahead>,
    changed: Condvar,
    /// A buffer that was swapped for one with an answer.
    spare: Mutex<Vec<u8>>,
}

/// Runs `body` with a far side that answers as `far` does, and uses the time between [`Far::expect`] and [`Far::fetch`].
pub fn with_read_ahead<R>(far: &dyn Far, body: impl FnOnce(&dyn Far) -> R) -> R {
    let ahead = ReadAhead { far, ahead: Mutex::new(Ahead::Idle), changed: Condvar::new(), spare: Mutex::default() };
    thread::scope(|scope| {
        scope.spawn(|| ahead.work());
        let _over = Over(&ahead);
        body(&ahead)
    })
}

/// Ends the thread, also when the body panics.
struct Over<'a, 'f>(&'a ReadAhead<'f>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.set(Ahead::Over);
    }
}

impl ReadAhead<'_> {
    fn lock(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, guard: MutexGuard<'g, Ahead>) -> MutexGuard<'g, Ahead> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, ahead: Ahead) {
        *self.lock() = ahead;
        self.changed.notify_all();
    }

    fn work(&self) {
        let mut ahead = self.lock();
        loop {
            match &*ahead {
                Ahead::Over => return,
                Ahead::Wanted(part) => {
                    let part = part.clone();
                    *ahead = Ahead::Under(part.clone());
                    drop(ahead);
                    let mut bytes = std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner));
                    bytes.clear();
                    let fetched = self.far.fetch(part.0, part.1.clone(), &mut bytes).is_ok();
                    ahead = self.lock();
                    if matches!(&*ahead, Ahead::Under(under) if *under == part) {
                        *ahead = Ahead::Ready(part, fetched.then_some(bytes));
                        self.changed.notify_all();
                    }
                }
                _ => ahead = self.wait(ahead),
            }
        }
    }

    /// What was fetched ahead of the bytes of `id` from `start` on, waiting for it when it is under way.
    fn take(&self, id: ObjectId, start: u64) -> Option<Vec<u8>> {
        let begins = |part: &Part| part.0 == id && part.1.start == start;
        let mut ahead = self.lock();
        loop {
            match &mut *ahead {
                Ahead::Under(part) if begins(part) => ahead = self.wait(ahead),
                Ahead::Ready(part, bytes) if begins(part) => {
                    let bytes = bytes.take();
                    *ahead = Ahead::Idle;
                    return bytes;
                }
                // The reader is faster: it does it itself.
                Ahead::Wanted(part) if begins(part) => {
                    *ahead = Ahead::Idle;
                    return None;
                }
                _ => return None,
            }
        }
    }
}

impl Far for ReadAhead<'_> {
    fn signer(&self) -> Signer {
        self.far.signer()
    }

    fn fetch(&self, id: ObjectId, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FarError> {
        let (base, mut from) = (out.len(), range.start);
        if let Some(mut bytes) = self.take(id, range.start) {
            bytes.truncate(usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
            from += bytes.len() as u64;
            if base == 0 {
                std::mem::swap(out, &mut bytes)
            } else {
                out.append(&mut bytes)
            }
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        }
        if from == range.end {
            return Ok(());
        }
        self.far.fetch(id, from..range.end, out).inspect_err(|_| out.truncate(base))
    }

    fn is_distant(&self) -> bool {
        self.far.is_distant()
    }

    fn want(&self, parts: &[(ObjectId, Range<u64>)]) -> Result<(), FarError> {
        self.far.want(parts)
    }

    fn expect(&self, id: ObjectId, range: Range<u64>) {
        self.set(Ahead::Wanted((id, range)));
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.far.deliver_pack(pack)
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.far.deliver_tags(tags)
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.far.deliver_manifest(manifest)
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        self.far.manifests()
    }

    fn has(&self, id: ObjectId) -> Result<bool, FarError> {
        self.far.has(id)
    }

    fn kept_len(&self, pack: ObjectId) -> Result<Option<u64>, FarError> {
        self.far.kept_len(pack)
    }

    fn log(&self, question: &Question) -> Result<LogWord, FarError> {
        self.far.log(question)
    }
}
