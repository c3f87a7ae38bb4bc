//! The pipeline of a backup: one thread reads and cuts, some press frames, one packs, seals and delivers.
//!
//! The client's steps know nothing of threads; this file strings them together with bounded queues, so that memory stays
//! bounded and every core is busy. An error at any step ends all of them and is reported once, by its cause. Steps 2 to
//! 7 of the walk; it must not know what any step does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use lavatube_base::ChunkId;
use lavatube_client::collect::{FRAME_LEN, Outlet};
use lavatube_client::courier::Courier;
use lavatube_client::frame::{Press, PressedFrame, RawFrame};
use lavatube_client::packer::{DeliveredPack, PackError, Packed, Packer};

/// Frames waiting for a press.
const RAW_QUEUE: usize = 4;
/// Pressed frames waiting for the packer.
const PRESSED_QUEUE: usize = 8;

/// What the threads of one session share.
#[derive(Default)]
struct Shared {
    frames: Mutex<Option<SyncSender<RawFrame>>>,
    delivered: Mutex<Vec<DeliveredPack>>,
    buffers: Mutex<Vec<Vec<u8>>>,
    ended: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading thread's end of the pipeline.
struct Front<'p>(&'p Shared);

impl Outlet for Front<'_> {
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError> {
        if self.0.ended.load(Ordering::Relaxed) {
            return Err(PackError::Ended);
        }
        let sender = lock(&self.0.frames).clone().ok_or(PackError::Ended)?;
        sender.send(frame).map_err(|_| PackError::Ended)
    }

    fn delivered(&mut self) -> Vec<DeliveredPack> {
        std::mem::take(&mut *lock(&self.0.delivered))
    }

    fn buffer(&mut self) -> Vec<u8> {
        lock(&self.0.buffers).pop().unwrap_or_else(|| Vec::with_capacity(FRAME_LEN + FRAME_LEN / 8))
    }
}

/// How a pipeline ended: the packer's yield and its courier.
pub type Finished<'a> = Result<(Packed, Courier<'a>), PackError>;

/// Runs `body` with an outlet whose frames are pressed at zstd `level` by `workers` threads and packed by one more.
///
/// `body` hands in its last frame, then calls the closure it was given with the chunks whose packs it must know; that
/// closure waits for all frames to be delivered. It may be called once.
pub fn run<'a, R>(
    packer: Packer<'a>,
    level: i32,
    workers: usize,
    body: impl FnOnce(&mut dyn Outlet, &mut dyn FnMut(&[ChunkId]) -> Finished<'a>) -> R,
) -> R {
    let shared = Shared::default();
    let (raw_in, raw_out) = sync_channel(RAW_QUEUE);
    let (pressed_in, pressed_out) = sync_channel(PRESSED_QUEUE);
    *lock(&shared.frames) = Some(raw_in);
    thread::scope(|scope| {
        let raw_out = Arc::new(Mutex::new(raw_out));
        let presses: Vec<_> = (0..workers.max(1))
            .map(|_| {
                let (raw, pressed, shared) = (Arc::clone(&raw_out), pressed_in.clone(), &shared);
                scope.spawn(move || press_all(level, &raw, &pressed, shared))
            })
            .collect();
        drop((raw_out, pressed_in));
        let pack = scope.spawn(|| pack_all(packer, pressed_out, &shared));
        let mut threads = Some((presses, pack));
        let mut finish = |ask: &[ChunkId]| {
            lock(&shared.frames).take();
            let (presses, pack) = threads.take().ok_or(PackError::Ended)?;
            let mut first = Ok(());
            for press in presses {
                let end = press.join().unwrap_or(Err(PackError::Ended));
                first = first.and(end);
            }
            let packer = pack.join().unwrap_or(Err(PackError::Ended));
            // The packer's own error is the cause when a press merely found the queue closed.
            let packer = match (first, packer) {
                (_, Err(e)) if !matches!(e, PackError::Ended) => Err(e),
                (Err(e), _) | (Ok(()), Err(e)) => Err(e),
                (Ok(()), Ok(packer)) => Ok(packer),
            }?;
            let (last, packed, courier) = packer.finish(ask)?;
            lock(&shared.delivered).extend(last);
            Ok((packed, courier))
        };
        let mut front = Front(&shared);
        let out = body(&mut front, &mut finish);
        // Where `body` gave up early the threads still end: no sender is left.
        lock(&shared.frames).take();
        out
    })
}

fn press_all(
    level: i32,
    raw: &Mutex<Receiver<RawFrame>>,
    pressed: &SyncSender<PressedFrame>,
    shared: &Shared,
) -> Result<(), PackError> {
    let run = || {
        let mut press = Press::new(level)?;
        loop {
            let Ok(frame) = lock(raw).recv() else { return Ok(()) };
            let (frame, buffer) = press.press(frame)?;
            if let Some(mut buffer) = buffer {
                buffer.clear();
                lock(&shared.buffers).push(buffer);
            }
            if pressed.send(frame).is_err() {
                return Err(PackError::Ended);
            }
        }
    };
    run().inspect_err(|_| shared.ended.store(true, Ordering::Relaxed))
}

fn pack_all<'a>(
    mut packer: Packer<'a>,
    pressed: Receiver<PressedFrame>,
    shared: &Shared,
) -> Result<Packer<'a>, PackError> {
    let mut early: BTreeMap<u64, PressedFrame> = BTreeMap::new();
    let mut next = 0;
    let run = || {
        for frame in pressed {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                next += 1;
                if let Some(pack) = packer.add(frame)? {
                    lock(&shared.delivered).push(pack);
                }
            }
        }
        Ok(())
    };
    run().inspect_err(|_: &PackError| shared.ended.store(true, Ordering::Relaxed))?;
    Ok(packer)
}
