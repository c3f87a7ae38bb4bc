//! The window: plaintext of consecutive pieces of one pack, read on from stretch to stretch.
//!
//! Bytes stay in the buffer they were opened in; only a frame that two stretches share is put together elsewhere. It must
//! not know which frames there are, nor what will be wanted next.

use std::ops::Range;

use super::FetchCause;
use super::pack::OpenPack;
use crate::far::Far;

/// Plaintext of a pack, from `at` on.
#[derive(Default)]
pub(super) struct Window {
    pack: Option<u32>,
    at: usize,
    bytes: Vec<u8>,
    /// A frame that began in the stretch before, whole.
    joint: Vec<u8>,
    joint_at: usize,
}

/// Where the window has a frame.
pub(super) struct Spot {
    joint: bool,
    range: Range<usize>,
}

impl Window {
    /// The frame of `len` bytes at `at`, if it is here.
    pub(super) fn find(&self, pack: u32, at: usize, len: usize) -> Option<Spot> {
        if self.pack != Some(pack) {
            return None;
        }
        if self.joint_at == at && self.joint.len() == len {
            return Some(Spot { joint: true, range: 0..len });
        }
        let start = at.checked_sub(self.at)?;
        (start + len <= self.bytes.len()).then_some(Spot { joint: false, range: start..start + len })
    }

    /// The bytes of a frame that was found.
    pub(super) fn get(&self, spot: &Spot) -> &[u8] {
        &(if spot.joint { &self.joint } else { &self.bytes })[spot.range.clone()]
    }

    /// Bytes that were read last.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where the window ends in its pack.
    pub(super) fn end(&self) -> usize {
        self.at + self.bytes.len()
    }

    /// Where to read on from for the frame at `at`: the window's end when it begins in the window, else `at`.
    pub(super) fn next(&self, pack: u32, at: usize) -> usize {
        if self.pack == Some(pack) && (self.at..self.end()).contains(&at) { self.end() } else { at }
    }

    /// Reads the pack up to `upto`, from [`Window::next`] of `frame`, a range of it, on.
    pub(super) fn read(
        &mut self,
        number: u32,
        pack: &OpenPack,
        far: &dyn Far,
        frame: Range<usize>,
        upto: usize,
    ) -> Result<(), FetchCause> {
        let from = self.next(number, frame.start);
        self.joint.clear();
        if from > frame.start {
            self.joint.extend_from_slice(&self.bytes[frame.start - self.at..]);
        }
        self.pack = None;
        self.at = pack.read(far, from, upto - from, &mut self.bytes)?;
        if from > frame.start {
            self.joint_at = frame.start;
            self.joint.extend_from_slice(&self.bytes[..frame.end - from]);
        }
        self.pack = Some(number);
        Ok(())
    }
}
