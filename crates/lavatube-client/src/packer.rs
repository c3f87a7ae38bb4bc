//! The packer: frames into packs of exact sizes, sealed and checked. Steps 5 and 6 of the walk.
//!
//! Packs are closed when the next frame does not fit; a session's end is cut into ever smaller classes so that padding
//! stays small. What was sealed is opened and compared before it leaves. The packer must not know files or trees, nor
//! where its packs go.

use std::collections::VecDeque;
use std::ops::Range;

use lavatube_base::ChunkId;
use lavatube_base::digest::sha256;
use lavatube_base::limits::PIECE_LEN;
use lavatube_format::pack::{
    FOOTER_LEN, Footer, FrameEntry, HEADER_LEN, Header, PIECE_STORED, capacity, class_len, sealed_position,
};
use lavatube_seal::{SealError, SessionKeys};

use crate::collect::Lane;
use crate::courier::CourierError;
use crate::fetch::pack::{index_tail, sealed_ranges};
use crate::frame::{FrameError, PressedFrame};
use crate::state::StateError;

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

/// A sealed pack, on its way to be delivered.
#[derive(Debug)]
pub struct SealedPack {
    /// Its place in the session, from 0.
    pub number: u32,
    /// Its size class.
    pub class: u8,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// Its index.
    pub frames: Vec<FrameEntry>,
    /// What of its bytes a reader needs to find content: header, trees, index. Ascending.
    pub head: Vec<Range<usize>>,
}

/// The packer of one session.
pub struct Packer {
    keys: SessionKeys,
    frames: VecDeque<PressedFrame>,
    /// Stored bytes of `frames` and of their index entries.
    waiting: usize,
    /// Chunks of `frames`.
    chunks: usize,
    /// Packs made so far.
    made: u32,
    /// Buffers of packs that were delivered.
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl Packer {
    /// A packer that seals with `keys`.
    pub fn new(keys: SessionKeys) -> Self {
        let (frames, spare, scratch) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { keys, frames, waiting: 0, chunks: 0, made: 0, spare, scratch }
    }

    /// Takes the next frame; returns the pack that was closed because of it, if any.
    ///
    /// # Errors
    /// When a pack could not be sealed. The session must end then.
    pub fn add(&mut self, frame: PressedFrame) -> Result<Option<SealedPack>, PackError> {
        let need = cost(&frame);
        let closed = if self.waiting + need > room(FULL_CLASS) + LOOK_AHEAD {
            let fitting = self.fitting(FULL_CLASS);
            Some(self.close(FULL_CLASS, &fitting)?)
        } else if self.chunks >= CHUNKS_MAX {
            self.close_last()?
        } else {
            None
        };
        self.waiting += need;
        self.chunks += frame.entry.chunks.len();
        self.frames.push_back(frame);
        Ok(closed)
    }

    /// Closes the next of the session's last packs, which are ever smaller; `None` when nothing waits any more.
    ///
    /// # Errors
    /// As [`Packer::add`].
    pub fn close_last(&mut self) -> Result<Option<SealedPack>, PackError> {
        if self.frames.is_empty() {
            return Ok(None);
        }
        let (class, fitting) = self.last_packs_choice();
        self.close(class, &fitting).map(Some)
    }

    /// Takes back the buffer of a pack that was delivered.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
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

    fn close(&mut self, class: u8, fitting: &[bool]) -> Result<SealedPack, PackError> {
        let (mut frames, mut rest) = (Vec::new(), VecDeque::new());
        for (frame, fits) in self.frames.drain(..).zip(fitting) {
            if *fits { frames.push(frame) } else { rest.push_back(frame) }
        }
        self.frames = rest;
        self.waiting -= frames.iter().map(cost).sum::<usize>();
        self.chunks -= frames.iter().map(|f| f.entry.chunks.len()).sum::<usize>();
        let number = self.made;
        self.made += 1;
        let mut bytes = self.spare.pop().unwrap_or_default();
        let plan = Plan::new(&frames, class);
        plan.lay_out(&mut bytes);
        self.keys.pack(number, class).seal_in_place(&mut bytes)?;
        open_again(&self.keys, number, &plan, &bytes, &mut self.scratch)?;
        let sha256 = sha256(&bytes);
        let head = plan.head();
        let frames = frames.into_iter().map(|f| f.entry).collect();
        Ok(SealedPack { number, class, bytes, sha256, frames, head })
    }
}

/// Opens a sealed pack and compares all of it with what it was made of.
fn open_again(
    keys: &SessionKeys,
    number: u32,
    plan: &Plan<'_>,
    pack: &[u8],
    scratch: &mut Vec<u8>,
) -> Result<(), PackError> {
    let header = Header::decode(pack).map_err(|_| PackError::Misealed)?;
    let opener = keys.pack(number, plan.class).check(&header)?;
    let mut parts = plan.parts();
    let mut part: &[u8] = &[];
    for (index, piece) in (0u32..).zip(pack[HEADER_LEN..].chunks(PIECE_STORED)) {
        scratch.clear();
        scratch.extend_from_slice(piece);
        let n = opener.open_pieces(index, scratch).map_err(|_| PackError::Misealed)?;
        let mut plain = &scratch[..n];
        while !plain.is_empty() {
            if part.is_empty() {
                part = parts.next().ok_or(PackError::Misealed)?;
            }
            let n = part.len().min(plain.len());
            if part[..n] != plain[..n] {
                return Err(PackError::Misealed);
            }
            (part, plain) = (&part[n..], &plain[n..]);
        }
    }
    // All of it, and no more.
    if part.is_empty() && parts.all(<[u8]>::is_empty) { Ok(()) } else { Err(PackError::Misealed) }
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

/// What a pack's plaintext is made of.
struct Plan<'f> {
    class: u8,
    frames: &'f [PressedFrame],
    /// Zeros between frames and index.
    padding: usize,
    /// Index and footer.
    tail: Vec<u8>,
}

impl<'f> Plan<'f> {
    fn new(frames: &'f [PressedFrame], class: u8) -> Self {
        let mut tail = Vec::new();
        frames.iter().for_each(|frame| frame.entry.encode(&mut tail));
        let frames_len = frames.iter().map(|frame| frame.stored.len()).sum();
        let footer = Footer { index_len: tail.len(), frames_len, frames: frames.len() };
        tail.extend_from_slice(&footer.encode());
        Self { class, frames, padding: footer.index_at(class) - frames_len, tail }
    }

    /// The plaintext, from its first byte to its last.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let frames = self.frames.iter().map(|frame| &frame.stored[..]);
        let whole = (0..self.padding / ZEROS.len()).map(|_| &ZEROS[..]);
        frames.chain(whole).chain([&ZEROS[..self.padding % ZEROS.len()], &self.tail])
    }

    /// The sealed bytes a reader needs to find content: header, trees, index.
    fn head(&self) -> Vec<Range<usize>> {
        let mut at = 0;
        let frames = self.frames.iter().map(|frame| {
            at += frame.stored.len();
            (frame.lane, at - frame.stored.len()..at)
        });
        let trees: Vec<_> = frames.filter(|(lane, _)| *lane == Lane::Tree).map(|(_, range)| range).collect();
        let tail = index_tail(self.class, self.tail.len() - FOOTER_LEN);
        let index = std::iter::once(tail..capacity(self.class));
        sealed_ranges(self.class, trees.into_iter().chain(index))
    }

    /// Places it in a buffer of the pack's size, with holes for header and tags.
    fn lay_out(&self, pack: &mut Vec<u8>) {
        pack.clear();
        pack.resize(class_len(self.class), 0);
        let mut at = 0;
        for part in self.parts() {
            place(pack, at, part);
            at += part.len();
        }
    }
}

static ZEROS: [u8; PIECE_LEN] = [0; PIECE_LEN];

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

#[cfg(test)]
mod tests;
