//! The packer: frames into packs of exact sizes, sealed, checked, delivered. Steps 5 to 7 of the walk.
//!
//! Packs are closed when the next frame does not fit; a session's end is cut into ever smaller classes so that padding
//! stays small. What was sealed is opened and compared before it leaves. The packer must not know files or trees, nor
//! whether the far side is in this process or beyond the link.

use std::collections::VecDeque;

use lavatube_base::digest::sha256;
use lavatube_base::limits::PIECE_LEN;
use lavatube_base::{ChunkId, Verified};
use lavatube_format::catalog::PackRow;
use lavatube_format::open_session::PackDone;
use lavatube_format::pack::{
    FOOTER_LEN, Footer, FrameEntry, HEADER_LEN, Header, PIECE_STORED, capacity, class_len, sealed_position,
};
use lavatube_seal::{SealError, SessionKeys};

use crate::courier::{Courier, CourierError};
use crate::frame::{FrameError, PressedFrame};
use crate::meter::Meter;
use crate::session::OPEN_SESSION;
use crate::state::{State, StateError};

/// Class of a full pack: 16 MiB. Larger ones would need more memory than a backup may use.
pub const FULL_CLASS: u8 = 6;

/// Bytes that wait beyond a full pack, so that its last gap can be filled with a frame that fits.
const LOOK_AHEAD: usize = 2 << 20;
/// Chunks after which a pack is closed though it is not full: millions of tiny files must not make an index larger than
/// their data in memory.
const CHUNKS_MAX: usize = 64 << 10;

/// Why a session could not go on.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A frame could not be made.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Sealing failed.
    #[error("sealing failed: {0}")]
    Seal(#[from] SealError),
    /// A sealed pack did not open to what went in: nothing of it was stored.
    #[error("a sealed pack did not open to what went in (faulty memory or processor?); nothing of it was stored")]
    Misealed,
    /// The state folder failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault or the spool did not take a pack.
    #[error(transparent)]
    Courier(#[from] CourierError),
    /// An earlier error ended the session.
    #[error("the session was ended by an earlier error")]
    Ended,
}

/// A pack that is durable in the vault or in the spool.
#[derive(Debug)]
pub struct DeliveredPack {
    /// Its row for the catalog.
    pub row: PackRow,
    /// Its index.
    pub frames: Vec<FrameEntry>,
}

/// What a packer has made, once it is finished.
#[derive(Debug, Default)]
pub struct Packed {
    /// Packs in order: class, id and SHA-256.
    pub packs: Vec<(PackRow, [u8; 32])>,
    /// For each chunk that was asked for, the pack it went to.
    pub found: Vec<(ChunkId, u32)>,
}

/// The packer of one session.
pub struct Packer<'a> {
    keys: SessionKeys,
    state: &'a dyn State,
    courier: Courier<'a>,
    meter: &'a Meter,
    frames: VecDeque<PressedFrame>,
    /// Stored bytes of `frames` and of their index entries.
    waiting: usize,
    /// Chunks of `frames`.
    chunks: usize,
    packed: Packed,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a> Packer<'a> {
    /// A packer that seals with `keys`, hands packs to `courier` and notes each in the open session of `state`.
    pub fn new(keys: SessionKeys, state: &'a dyn State, courier: Courier<'a>, meter: &'a Meter) -> Self {
        let (frames, packed) = (VecDeque::new(), Packed::default());
        Self {
            keys,
            state,
            courier,
            meter,
            frames,
            waiting: 0,
            chunks: 0,
            packed,
            buffer: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes the next frame; returns the pack that was closed because of it, if any.
    ///
    /// # Errors
    /// When a pack could not be sealed or delivered. The session must end then.
    pub fn add(&mut self, frame: PressedFrame) -> Result<Option<DeliveredPack>, PackError> {
        let need = cost(&frame);
        let closed = if self.waiting + need > room(FULL_CLASS) + LOOK_AHEAD {
            let fitting = self.fitting(FULL_CLASS);
            Some(self.close(FULL_CLASS, &fitting)?)
        } else if self.chunks >= CHUNKS_MAX {
            let (class, fitting) = self.last_packs_choice();
            Some(self.close(class, &fitting)?)
        } else {
            None
        };
        self.waiting += need;
        self.chunks += frame.entry.chunks.len();
        self.frames.push_back(frame);
        Ok(closed)
    }

    /// Packs what waits into ever smaller packs and returns them. `ask` are chunks whose pack the caller must know.
    ///
    /// # Errors
    /// As [`Packer::add`].
    pub fn finish(mut self, ask: &[ChunkId]) -> Result<(Vec<DeliveredPack>, Packed, Courier<'a>), PackError> {
        let mut closed = Vec::new();
        while !self.frames.is_empty() {
            let (class, fitting) = self.last_packs_choice();
            closed.push(self.close(class, &fitting)?);
        }
        for pack in &closed {
            let ids = pack.frames.iter().flat_map(|f| &f.chunks).map(|c| c.id).filter(|id| ask.contains(id));
            self.packed.found.extend(ids.map(|id| (id, pack.row.number)));
        }
        Ok((closed, self.packed, self.courier))
    }

    /// Which of the waiting frames go into a pack of `class`: in order, and past the first that does not fit, whichever
    /// still does.
    fn fitting(&self, class: u8) -> Vec<bool> {
        let mut left = room(class);
        let fits = |frame: &PressedFrame| {
            let fits = cost(frame) <= left;
            left -= if fits { cost(frame) } else { 0 };
            fits
        };
        self.frames.iter().map(fits).collect()
    }

    /// The class and frames of the next of the last packs: the smallest pack that takes all, unless a smaller one can be
    /// filled so well that less is wasted in the end.
    fn last_packs_choice(&self) -> (u8, Vec<bool>) {
        let whole = (0..=FULL_CLASS).find(|c| self.waiting <= room(*c)).unwrap_or(FULL_CLASS);
        let wasted = room(whole).saturating_sub(self.waiting);
        if let Some(smaller) = whole.checked_sub(1) {
            let fitting = self.fitting(smaller);
            let filled: usize = self.frames.iter().zip(&fitting).filter(|(_, fits)| **fits).map(|(f, _)| cost(f)).sum();
            if filled > 0 && room(smaller) - filled < wasted / 2 {
                return (smaller, fitting);
            }
        }
        (whole, self.fitting(whole))
    }

    fn close(&mut self, class: u8, fitting: &[bool]) -> Result<DeliveredPack, PackError> {
        let (mut frames, mut rest) = (Vec::new(), VecDeque::new());
        for (frame, fits) in self.frames.drain(..).zip(fitting) {
            if *fits { frames.push(frame) } else { rest.push_back(frame) }
        }
        self.frames = rest;
        self.waiting -= frames.iter().map(cost).sum::<usize>();
        self.chunks -= frames.iter().map(|f| f.entry.chunks.len()).sum::<usize>();
        let number = u32::try_from(self.packed.packs.len()).unwrap_or(u32::MAX);
        let keys = self.keys.pack(number, class);
        let mut pack = std::mem::take(&mut self.buffer);
        lay_out(&frames, class, &mut pack);
        keys.seal_in_place(&mut pack)?;
        self.open_again(number, class, &frames, &pack)?;
        let object = Verified::hash(&pack);
        let row = PackRow { id: object.id(), class, session: self.keys.session(), number };
        let sha256 = sha256(&pack);
        self.courier.deliver_pack(object)?;
        self.meter.stored_bytes.add(pack.len() as u64);
        self.buffer = pack;
        let frames: Vec<FrameEntry> = frames.into_iter().map(|f| f.entry).collect();
        let mut log = Vec::new();
        let done = PackDone { row, sha256, frames };
        done.encode(&mut log);
        self.state.append(OPEN_SESSION, &log).map_err(StateError::on(OPEN_SESSION))?;
        self.packed.packs.push((row, sha256));
        Ok(DeliveredPack { row, frames: done.frames })
    }

    /// Opens a sealed pack and compares it with the frames it was made of.
    fn open_again(&mut self, number: u32, class: u8, frames: &[PressedFrame], pack: &[u8]) -> Result<(), PackError> {
        let header = Header::decode(pack).map_err(|_| PackError::Misealed)?;
        let opener = self.keys.pack(number, class).check(&header)?;
        let mut parts = Parts { frames, frame: 0, at: 0 };
        for (index, piece) in (0u32..).zip(pack[HEADER_LEN..].chunks(PIECE_STORED)) {
            self.scratch.clear();
            self.scratch.extend_from_slice(piece);
            let n = opener.open_pieces(index, &mut self.scratch).map_err(|_| PackError::Misealed)?;
            if !parts.equal_next(&self.scratch[..n]) {
                return Err(PackError::Misealed);
            }
        }
        Ok(())
    }
}

/// Bytes a pack of `class` has for frames and their index entries.
fn room(class: u8) -> usize {
    capacity(class) - FOOTER_LEN
}

/// Bytes a frame takes in a pack, with its index entry at its longest.
fn cost(frame: &PressedFrame) -> usize {
    let per_chunk = ChunkId::LEN + 4;
    frame.stored.len() + 12 + frame.entry.chunks.len() * per_chunk
}

/// Places frames, index and footer in a buffer of the pack's size, with holes for header and tags.
fn lay_out(frames: &[PressedFrame], class: u8, pack: &mut Vec<u8>) {
    pack.clear();
    pack.resize(class_len(class), 0);
    let mut at = 0;
    let mut index = Vec::new();
    for frame in frames {
        place(pack, at, &frame.stored);
        at += frame.stored.len();
        frame.entry.encode(&mut index);
    }
    let footer = Footer { index_len: index.len(), frames_len: at, frames: frames.len() };
    place(pack, footer.index_at(class), &index);
    place(pack, capacity(class) - FOOTER_LEN, &footer.encode());
}

/// Writes `bytes` at plaintext position `at`.
fn place(pack: &mut [u8], mut at: usize, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let n = bytes.len().min(PIECE_LEN - at % PIECE_LEN);
        let to = sealed_position(at);
        pack[to..to + n].copy_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        at += n;
    }
}

/// Walks over the stored bytes of frames.
struct Parts<'f> {
    frames: &'f [PressedFrame],
    frame: usize,
    at: usize,
}

impl Parts<'_> {
    /// Whether `plain` goes on with the frames' bytes; past the last frame anything may follow (padding and index).
    fn equal_next(&mut self, mut plain: &[u8]) -> bool {
        while let Some(frame) = self.frames.get(self.frame) {
            let rest = &frame.stored[self.at..];
            let n = rest.len().min(plain.len());
            if rest[..n] != plain[..n] {
                return false;
            }
            plain = &plain[n..];
            self.at += n;
            if self.at < frame.stored.len() {
                return true;
            }
            self.frame += 1;
            self.at = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests;
