//! Frames: a few chunks compressed together. Step 4 of the walk, before the sealing.
//!
//! Small chunks compress badly alone; a frame gives them each other as context and stays small enough to be opened for
//! one of them. [`Press::press`] is a pure function of its frame so that any number of workers may run it. It must not know
//! packs or keys.

use lavatube_base::limits::{FRAME_RAW_MAX, ZSTD_WINDOW_LOG_MAX};
use lavatube_format::pack::{ChunkEntry, FrameEntry, Method};

use crate::collect::Lane;

/// Chunks that were collected for one frame.
#[derive(Debug, Default)]
pub struct RawFrame {
    /// Counts frames of a session: packs are filled in this order.
    pub number: u64,
    /// What it holds; who measures wants to know.
    pub lane: Lane,
    /// The chunks' bodies, concatenated.
    pub bytes: Vec<u8>,
    /// The chunks in order.
    pub chunks: Vec<ChunkEntry>,
}

/// A frame ready to be packed.
#[derive(Debug)]
pub struct PressedFrame {
    /// As in [`RawFrame`].
    pub number: u64,
    /// As in [`RawFrame`].
    pub lane: Lane,
    /// What the index will say of it.
    pub entry: FrameEntry,
    /// The stored bytes.
    pub stored: Vec<u8>,
}

/// Why a frame cannot be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// What the compressor made does not open to what went in: memory or library is broken, and nothing was lost yet.
    #[error("a compressed frame did not open to what went in (faulty memory or library?); nothing was stored")]
    Miscompressed,
    /// The compressor refused.
    #[error("compression failed: {0}")]
    Compressor(String),
    /// The stored bytes do not open to the stated length.
    #[error("a frame does not decompress: {0}")]
    Corrupt(String),
}

/// One worker's compressor and the decompressor that checks it.
pub struct Press {
    compressor: zstd::bulk::Compressor<'static>,
    sampler: Sampler,
    opener: FrameOpener,
    packed: Vec<u8>,
    check: Vec<u8>,
}

impl Press {
    /// A press at zstd `level` (1..=22).
    ///
    /// # Errors
    /// [`FrameError::Compressor`] when zstd refuses the level.
    pub fn new(level: i32) -> Result<Self, FrameError> {
        let compressor = zstd::bulk::Compressor::new(level).map_err(|e| FrameError::Compressor(e.to_string()))?;
        Ok(Self {
            compressor,
            sampler: Sampler::new()?,
            opener: FrameOpener::new()?,
            packed: Vec::new(),
            check: Vec::new(),
        })
    }

    /// Compresses a frame, opens the result and compares; stores it raw when that is not longer. Gives back the raw
    /// buffer when it is not needed any more.
    ///
    /// # Errors
    /// [`FrameError::Miscompressed`] when the comparison fails.
    pub fn press(&mut self, frame: RawFrame) -> Result<(PressedFrame, Option<Vec<u8>>), FrameError> {
        let RawFrame { number, lane, bytes, chunks } = frame;
        if self.sampler.compresses(&bytes) {
            self.packed.resize(zstd::zstd_safe::compress_bound(bytes.len()), 0);
            let n = self.compressor.compress_to_buffer(&bytes, &mut self.packed[..]);
            let n = n.map_err(|e| FrameError::Compressor(e.to_string()))?;
            // Not worth opening again when it saves less than one part in 64.
            if n + bytes.len() / 64 < bytes.len() {
                let stored = self.packed[..n].to_vec();
                self.compare(&stored, &bytes)?;
                let entry = FrameEntry { method: Method::Zstd, stored_len: stored.len(), chunks };
                return Ok((PressedFrame { number, lane, entry, stored }, Some(bytes)));
            }
        }
        let entry = FrameEntry { method: Method::Raw, stored_len: bytes.len(), chunks };
        Ok((PressedFrame { number, lane, entry, stored: bytes }, None))
    }

    /// Whether what was compressed opens to what went in.
    fn compare(&mut self, stored: &[u8], bytes: &[u8]) -> Result<(), FrameError> {
        self.check.clear();
        let opened = self.opener.open(Method::Zstd, stored, bytes.len(), &mut self.check);
        if opened.is_ok() && self.check == bytes { Ok(()) } else { Err(FrameError::Miscompressed) }
    }
}

/// Tells cheaply whether bytes are worth compressing, from four samples.
pub struct Sampler {
    compressor: zstd::bulk::Compressor<'static>,
    samples: Vec<u8>,
    out: Vec<u8>,
}

/// Bytes of one sample, and of all four.
const SAMPLE_LEN: usize = 4 << 10;
const SAMPLES_LEN: usize = 4 * SAMPLE_LEN;

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// [`FrameError::Compressor`] when zstd cannot be set up.
    pub fn new() -> Result<Self, FrameError> {
        let compressor = zstd::bulk::Compressor::new(1).map_err(|e| FrameError::Compressor(e.to_string()))?;
        let out = vec![0; zstd::zstd_safe::compress_bound(SAMPLES_LEN)];
        Ok(Self { compressor, samples: Vec::with_capacity(SAMPLES_LEN), out })
    }

    /// Whether four samples of `bytes` compress to less than 97 %. Short bytes always count as worth it.
    pub fn compresses(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() < 2 * SAMPLES_LEN {
            return true;
        }
        self.samples.clear();
        let stride = (bytes.len() - SAMPLE_LEN) / 3;
        for i in 0..4 {
            self.samples.extend_from_slice(&bytes[i * stride..i * stride + SAMPLE_LEN]);
        }
        match self.compressor.compress_to_buffer(&self.samples, &mut self.out[..]) {
            Ok(n) => n < SAMPLES_LEN / 100 * 97,
            Err(_) => true,
        }
    }
}

/// Opens stored frames.
pub struct FrameOpener(zstd::bulk::Decompressor<'static>);

impl FrameOpener {
    /// An opener that accepts windows up to the limit.
    ///
    /// # Errors
    /// [`FrameError::Compressor`] when zstd cannot be set up.
    pub fn new() -> Result<Self, FrameError> {
        let mut zstd = zstd::bulk::Decompressor::new().map_err(|e| FrameError::Compressor(e.to_string()))?;
        zstd.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| FrameError::Compressor(e.to_string()))?;
        Ok(Self(zstd))
    }

    /// Appends the raw frame, which must be exactly `raw_len` bytes, to `out`.
    ///
    /// # Errors
    /// [`FrameError::Corrupt`] when it is not.
    pub fn open(&mut self, method: Method, stored: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), FrameError> {
        if raw_len > FRAME_RAW_MAX {
            return Err(FrameError::Corrupt("longer than any frame may be".into()));
        }
        match method {
            Method::Raw if stored.len() == raw_len => out.extend_from_slice(stored),
            Method::Raw => return Err(FrameError::Corrupt("a raw frame of another length".into())),
            Method::Zstd => {
                let at = out.len();
                out.resize(at + raw_len, 0);
                match self.0.decompress_to_buffer(stored, &mut out[at..]) {
                    Ok(n) if n == raw_len => {}
                    Ok(_) => return Err(FrameError::Corrupt("shorter than its index says".into())),
                    Err(e) => return Err(FrameError::Corrupt(e.to_string())),
                }
            }
        }
        Ok(())
    }

    /// Like [`FrameOpener::open`] for a frame whose raw length is not known beforehand: zstd frames state theirs.
    ///
    /// # Errors
    /// [`FrameError::Corrupt`] when it states none, or more than a frame may have.
    pub fn open_whole(&mut self, method: Method, stored: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let raw_len = match method {
            Method::Raw => stored.len(),
            Method::Zstd => match zstd::zstd_safe::get_frame_content_size(stored) {
                Ok(Some(n)) => usize::try_from(n).unwrap_or(usize::MAX),
                _ => return Err(FrameError::Corrupt("no content size".into())),
            },
        };
        self.open(method, stored, raw_len, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ChunkId;

    fn frame(bytes: Vec<u8>) -> RawFrame {
        let chunks = vec![ChunkEntry { id: ChunkId([0; 24]), body_len: bytes.len(), delta: None }];
        RawFrame { number: 1, lane: Lane::Data, bytes, chunks }
    }

    #[test]
    fn what_compresses_is_compressed_and_opens_again() {
        let bytes = b"moon ".repeat(1000);
        let (pressed, _) = Press::new(3).unwrap().press(frame(bytes.clone())).unwrap();
        assert_eq!(pressed.entry.method, Method::Zstd);
        assert!(pressed.stored.len() < 100);
        let mut out = vec![7];
        let mut opener = FrameOpener::new().unwrap();
        opener.open(Method::Zstd, &pressed.stored, bytes.len(), &mut out).unwrap();
        assert_eq!(&out[1..], &bytes);
        out.clear();
        opener.open_whole(Method::Zstd, &pressed.stored, &mut out).unwrap();
        assert_eq!(out, bytes);
        assert!(opener.open(Method::Zstd, &pressed.stored, bytes.len() - 1, &mut out).is_err());
        assert!(opener.open(Method::Zstd, &pressed.stored, bytes.len() + 1, &mut out).is_err());
        assert!(opener.open(Method::Zstd, &pressed.stored[1..], bytes.len(), &mut out).is_err());
    }

    #[test]
    fn a_compressor_that_errs_is_found_out() {
        let mut press = Press::new(3).unwrap();
        let bytes = b"moon ".repeat(1000);
        let other = b"mood ".repeat(1000);
        let stored = press.press(frame(bytes.clone())).unwrap().0.stored;
        assert_eq!(press.compare(&stored, &bytes), Ok(()));
        for (stored, bytes) in
            [(&stored[..], &other[..]), (&stored[..stored.len() - 1], &bytes), (&stored, &bytes[1..])]
        {
            assert_eq!(press.compare(stored, bytes), Err(FrameError::Miscompressed));
        }
    }

    #[test]
    fn what_does_not_compress_is_stored_raw() {
        let mut bytes = vec![0; 10_000];
        blake3::Hasher::new().update(b"x").finalize_xof().fill(&mut bytes);
        let (pressed, _) = Press::new(3).unwrap().press(frame(bytes.clone())).unwrap();
        assert_eq!((pressed.entry.method, &pressed.stored), (Method::Raw, &bytes));
    }
}
