//! The pipeline of a backup: one thread reads and cuts, some press frames, one packs and seals, one delivers.
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
use lavatube_client::delivery::{DeliveredPack, Delivery, Packed};
use lavatube_client::frame::{Press, PressedFrame, RawFrame};
use lavatube_client::packer::{PackError, Packer, SealedPack};

/// Frames waiting for a press.
const RAW_QUEUE: usize = 4;
/// Pressed frames waiting for the packer.
const PRESSED_QUEUE: usize = 8;

/// How hard to press, and with how many hands.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// zstd level, 1 to 22.
    pub level: i32,
    /// Threads that compress.
    pub workers: usize,
}

/// What the threads of one session share.
#[derive(Default)]
struct Shared {
    frames: Mutex<Option<SyncSender<RawFrame>>>,
    delivered: Mutex<Vec<DeliveredPack>>,
    /// Of raw frames that were pressed.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Of packs that were delivered.
    pack_buffers: Mutex<Vec<Vec<u8>>>,
    /// A step failed or nothing more is wanted: the others stop where they are.
    ended: AtomicBool,
}

impl Shared {
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading thread's end of the pipeline.
struct Front<'p>(&'p Shared);

impl Outlet for Front<'_> {
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError> {
        if self.0.has_ended() {
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

/// How a pipeline ended: what was packed, and the courier.
pub type Finished<'a> = Result<(Packed, Courier<'a>), PackError>;

/// Runs `body` with an outlet whose frames are pressed by some threads, packed by one and delivered by another.
///
/// `body` hands in its last frame, then calls the closure it was given with the chunks whose packs it must know; that
/// closure waits for all frames to be delivered. It may be called once.
pub fn run<'a, R>(
    packer: Packer,
    delivery: Delivery<'a>,
    effort: Effort,
    body: impl FnOnce(&mut dyn Outlet, &mut dyn FnMut(&[ChunkId]) -> Finished<'a>) -> R,
) -> R {
    let shared = &Shared::default();
    let (raw_in, raw_out) = sync_channel(RAW_QUEUE);
    let (pressed_in, pressed_out) = sync_channel(PRESSED_QUEUE);
    // A pack is made while another is delivered; more would only take memory.
    let (sealed_in, sealed_out) = sync_channel(0);
    *lock(&shared.frames) = Some(raw_in);
    thread::scope(|scope| {
        let raw_out = Arc::new(Mutex::new(raw_out));
        let mut steps = Vec::new();
        for _ in 0..effort.workers.max(1) {
            let (raw, pressed) = (Arc::clone(&raw_out), pressed_in.clone());
            steps.push(scope.spawn(move || press_all(effort.level, &raw, &pressed, shared)));
        }
        drop((raw_out, pressed_in));
        steps.push(scope.spawn(move || pack_all(packer, pressed_out, &sealed_in, shared)));
        let deliver = scope.spawn(move || deliver_all(delivery, sealed_out, shared));
        let mut threads = Some((steps, deliver));
        let mut finish = |ask: &[ChunkId]| {
            lock(&shared.frames).take();
            let (steps, deliver) = threads.take().ok_or(PackError::Ended)?;
            let ends = steps.into_iter().map(|step| step.join().unwrap_or(Err(PackError::Ended)));
            let mut errors: Vec<PackError> = ends.filter_map(Result::err).collect();
            let delivery = deliver.join().unwrap_or(Err(PackError::Ended));
            let delivery = delivery.map_err(|e| errors.push(e)).ok();
            // The cause is the error of the step that failed, not of those that found their queue closed.
            let cause = errors.into_iter().reduce(|a, b| if matches!(a, PackError::Ended) { b } else { a });
            let delivery = cause.map_or(delivery.ok_or(PackError::Ended), Err)?;
            Ok(delivery.finish(&lock(&shared.delivered), ask))
        };
        let mut front = Front(shared);
        let out = body(&mut front, &mut finish);
        // Where `body` gave up early the threads still end: no sender is left.
        shared.end();
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
            pressed.send(frame).map_err(|_| PackError::Ended)?;
        }
    };
    run().inspect_err(|_| shared.end())
}

fn pack_all(
    mut packer: Packer,
    pressed: Receiver<PressedFrame>,
    sealed: &SyncSender<SealedPack>,
    shared: &Shared,
) -> Result<(), PackError> {
    let mut early: BTreeMap<u64, PressedFrame> = BTreeMap::new();
    let mut next = 0;
    let run = || {
        for frame in pressed {
            early.insert(frame.number, frame);
            while let Some(frame) = early.remove(&next) {
                next += 1;
                lock(&shared.pack_buffers).drain(..).for_each(|buffer| packer.recycle(buffer));
                if let Some(pack) = packer.add(frame)? {
                    sealed.send(pack).map_err(|_| PackError::Ended)?;
                }
            }
        }
        while !shared.has_ended()
            && let Some(pack) = packer.close_last()?
        {
            sealed.send(pack).map_err(|_| PackError::Ended)?;
        }
        Ok(())
    };
    run().inspect_err(|_| shared.end())
}

fn deliver_all<'a>(
    mut delivery: Delivery<'a>,
    sealed: Receiver<SealedPack>,
    shared: &Shared,
) -> Result<Delivery<'a>, PackError> {
    for pack in sealed {
        let (delivered, buffer) = delivery.deliver(pack).inspect_err(|_| shared.end())?;
        lock(&shared.delivered).push(delivered);
        lock(&shared.pack_buffers).push(buffer);
    }
    Ok(delivery)
}
