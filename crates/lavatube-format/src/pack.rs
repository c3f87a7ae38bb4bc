//! Packs: the geometry of sealed packs and the index inside them (FORMAT section 3).
//!
//! A pack is the unit that crosses the link and lies in the vault, always of one of eight exact sizes so that sizes tell
//! nothing. This file draws header, pieces, index and footer; it must not know keys. Step 5 of the walk.

use lavatube_base::limits::{CHUNK_LEN_MAX, FRAME_RAW_MAX, PACK_CLASSES, PACK_LEN_MIN, PIECE_LEN};
use lavatube_base::{ChunkId, SessionId};

use crate::wire::{Malformed, Reader, put_len, put_varint};

/// Bytes before the first piece.
pub const HEADER_LEN: usize = 96;
/// Bytes of an AES-256-GCM tag.
pub const TAG_LEN: usize = 16;
/// Stored bytes of a whole piece.
pub const PIECE_STORED: usize = PIECE_LEN + TAG_LEN;
/// Bytes of the footer that ends the plaintext.
pub const FOOTER_LEN: usize = 16;
/// First eight bytes of every pack.
pub const MAGIC: &[u8; 8] = b"LVTPACK\x01";
/// Name of the only suite there is.
pub const SUITE: &[u8; 8] = b"aesgcm-1";
const FOOTER_MAGIC: &[u8; 4] = b"LVTI";

/// Exact size of a pack of `class`.
///
/// # Panics
/// When `class` is not below [`PACK_CLASSES`].
pub const fn class_len(class: u8) -> usize {
    assert!(class < PACK_CLASSES, "no such pack class");
    PACK_LEN_MIN << (2 * class as usize)
}

/// Number of pieces in a pack of `class`.
pub const fn pieces(class: u8) -> usize {
    (class_len(class) - HEADER_LEN).div_ceil(PIECE_STORED)
}

/// Plaintext bytes a pack of `class` holds, index and footer included.
pub const fn capacity(class: u8) -> usize {
    class_len(class) - HEADER_LEN - TAG_LEN * pieces(class)
}

/// Where in the sealed pack the plaintext position `at` lies.
pub const fn sealed_position(at: usize) -> usize {
    HEADER_LEN + at / PIECE_LEN * PIECE_STORED + at % PIECE_LEN
}

/// The pieces that hold a range of plaintext, as piece numbers and as the range of sealed bytes they fill.
///
/// # Panics
/// When the range reaches beyond the capacity of `class`.
pub fn covering(class: u8, start: usize, len: usize) -> (usize, std::ops::Range<usize>) {
    assert!(start + len <= capacity(class), "range beyond the pack");
    let first = start / PIECE_LEN;
    let end = (start + len).div_ceil(PIECE_LEN).max(first + 1);
    let from = HEADER_LEN + first * PIECE_STORED;
    (first, from..(HEADER_LEN + end * PIECE_STORED).min(class_len(class)))
}

/// The first 96 bytes of a pack: all the vault can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Session the pack belongs to.
    pub session: SessionId,
    /// Its number there.
    pub number: u32,
    /// Its size class.
    pub class: u8,
    /// Commitment to the key the pieces are sealed with.
    pub commitment: [u8; 32],
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..16].copy_from_slice(SUITE);
        out[16..32].copy_from_slice(&self.session.0);
        out[32..36].copy_from_slice(&self.number.to_le_bytes());
        out[36] = self.class;
        out[64..].copy_from_slice(&self.commitment);
        out
    }

    /// Reads a header from the start of `bytes`; what follows is not looked at.
    ///
    /// # Errors
    /// [`Malformed`] on a wrong magic, an unknown suite or class, or reserved bytes that are not zero.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("pack header", bytes.get(..HEADER_LEN).unwrap_or(bytes));
        let magic = r.take(8)?;
        r.ensure(magic == MAGIC, "not a lavatube pack of version 1")?;
        let suite = r.take(8)?;
        r.ensure(suite == SUITE, "unknown suite")?;
        let session = SessionId(r.array()?);
        let number = r.u32()?;
        let class = r.u8()?;
        r.ensure(class < PACK_CLASSES, "no such size class")?;
        r.reserved(27)?;
        let commitment = r.array()?;
        r.finish()?;
        Ok(Self { session, number, class, commitment })
    }
}

/// How a frame's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As they are.
    Raw,
    /// One zstd frame (RFC 8878).
    Zstd,
}

impl Method {
    /// The number that stands for it in indexes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// The method of a number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A chunk stored as a difference from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delta {
    /// The chunk whose content is the prefix.
    pub base: ChunkId,
    /// Length of the content, as opposed to the body.
    pub content_len: usize,
}

/// One chunk in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Id of the content.
    pub id: ChunkId,
    /// Bytes in the frame.
    pub body_len: usize,
    /// Set when the body is not the content itself. Boxed: rare, and a pack may have many chunks.
    pub delta: Option<Box<Delta>>,
}

/// One frame in an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// How it is stored.
    pub method: Method,
    /// Bytes it takes in the pack.
    pub stored_len: usize,
    /// Its chunks in order.
    pub chunks: Vec<ChunkEntry>,
}

impl FrameEntry {
    /// Length of the frame before compression.
    pub fn raw_len(&self) -> usize {
        //= FORMAT#F8 the raw length is the sum of the bodies
        self.chunks.iter().map(|c| c.body_len).sum()
    }

    /// Appends the entry's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.method.code());
        put_len(out, self.stored_len);
        put_len(out, self.chunks.len());
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.id.0);
            put_varint(out, (chunk.body_len as u64) << 1 | u64::from(chunk.delta.is_some()));
            if let Some(delta) = &chunk.delta {
                out.extend_from_slice(&delta.base.0);
                put_len(out, delta.content_len);
            }
        }
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let method = Method::from_code(r.u8()?).ok_or_else(|| r.fail("unknown method"))?;
        let stored_len = r.varint_max(FRAME_RAW_MAX + 64, "frame is too long")?;
        // The shortest chunk entry is an id and one byte of length.
        let n = r.varint_max(r.left() / (ChunkId::LEN + 1), "more chunks than bytes")?;
        let mut chunks = Vec::with_capacity(n);
        let mut raw = 0usize;
        for _ in 0..n {
            let id = ChunkId(r.array()?);
            let coded = r.varint_max(CHUNK_LEN_MAX << 1 | 1, "chunk is too long")?;
            let delta = if coded & 1 == 1 {
                let base = ChunkId(r.array()?);
                Some(Box::new(Delta { base, content_len: r.varint_max(CHUNK_LEN_MAX, "chunk is too long")? }))
            } else {
                None
            };
            raw += coded >> 1;
            r.ensure(raw <= FRAME_RAW_MAX, "frame is too long")?;
            chunks.push(ChunkEntry { id, body_len: coded >> 1, delta });
        }
        r.ensure(method != Method::Raw || raw == stored_len, "raw frame whose lengths differ")?;
        Ok(Self { method, stored_len, chunks })
    }
}

/// Footer of a pack's plaintext: where the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Length of the index, which ends where the footer begins.
    pub index_len: usize,
    /// Length of all frames, which begin at 0.
    pub frames_len: usize,
    /// Number of frames.
    pub frames: usize,
}

impl Footer {
    /// The footer's bytes.
    ///
    /// # Panics
    /// When a length exceeds 32 bits, which no pack can hold.
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let word = |v: usize| u32::try_from(v).expect("a pack is shorter than 4 GiB").to_le_bytes();
        let mut out = [0; FOOTER_LEN];
        out[..4].copy_from_slice(&word(self.index_len));
        out[4..8].copy_from_slice(&word(self.frames_len));
        out[8..12].copy_from_slice(&word(self.frames));
        out[12..].copy_from_slice(FOOTER_MAGIC);
        out
    }

    /// Reads the footer of a pack of `class` from its plaintext's last 16 bytes.
    ///
    /// # Errors
    /// [`Malformed`] when frames, index and footer do not fit the pack.
    pub fn decode(class: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("pack footer", bytes);
        let (index, frames_len, frames) = (r.u32()?, r.u32()?, r.u32()?);
        let magic = r.take(4)?;
        r.ensure(magic == FOOTER_MAGIC, "no footer where it must be")?;
        let fits = u64::from(index) + u64::from(frames_len) + FOOTER_LEN as u64 <= capacity(class) as u64;
        r.ensure(fits, "index and frames exceed the pack")?;
        r.finish()?;
        Ok(Self { index_len: index as usize, frames_len: frames_len as usize, frames: frames as usize })
    }

    /// Plaintext position of the index.
    pub fn index_at(&self, class: u8) -> usize {
        capacity(class) - FOOTER_LEN - self.index_len
    }
}

/// Reads an index of `count` frames that fill `stored` bytes, where that is known.
///
/// # Errors
/// [`Malformed`] when it breaks its layout or its frames do not fill what the footer says.
pub fn decode_index(count: usize, stored: Option<usize>, bytes: &[u8]) -> Result<Vec<FrameEntry>, Malformed> {
    let mut r = Reader::new("pack index", bytes);
    // The shortest frame entry is three bytes.
    r.ensure(count <= r.left() / 3, "more frames than bytes")?;
    let mut frames = Vec::with_capacity(count);
    for _ in 0..count {
        frames.push(FrameEntry::decode(&mut r)?);
    }
    let sum: usize = frames.iter().map(|f| f.stored_len).sum();
    r.ensure(stored.is_none_or(|s| s == sum), "frames do not add up to the footer's length")?;
    r.finish()?;
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_class_ends_with_a_piece_that_holds_something() {
        for class in 0..PACK_CLASSES {
            let last = class_len(class) - HEADER_LEN - (pieces(class) - 1) * PIECE_STORED;
            assert!(last > TAG_LEN && last <= PIECE_STORED, "class {class}");
            assert_eq!(sealed_position(capacity(class) - 1) + 1 + TAG_LEN, class_len(class));
        }
    }

    #[test]
    fn covering_pieces_hold_the_range() {
        assert_eq!(covering(2, 0, 1), (0, 96..96 + 16400));
        assert_eq!(covering(2, 16383, 2), (0, 96..96 + 2 * 16400));
        assert_eq!(covering(2, 16384, 16384), (1, 96 + 16400..96 + 2 * 16400));
        let (first, range) = covering(0, capacity(0) - 1, 1);
        assert_eq!((first, range), (0, 96..4096));
    }

    fn entries() -> impl Strategy<Value = Vec<FrameEntry>> {
        let chunk = (any::<[u8; 24]>(), 0usize..5000, proptest::option::of((any::<[u8; 24]>(), 0usize..9000)));
        let frame = proptest::collection::vec(chunk, 0..5).prop_map(|chunks| {
            let chunks: Vec<_> = chunks
                .into_iter()
                .map(|(id, body_len, delta)| ChunkEntry {
                    id: ChunkId(id),
                    body_len,
                    delta: delta.map(|(base, content_len)| Box::new(Delta { base: ChunkId(base), content_len })),
                })
                .collect();
            FrameEntry { method: Method::Zstd, stored_len: 7, chunks }
        });
        proptest::collection::vec(frame, 0..6)
    }

    proptest! {
        #[test]
        fn an_index_survives(frames in entries()) {
            let mut bytes = Vec::new();
            frames.iter().for_each(|f| f.encode(&mut bytes));
            let footer = Footer { index_len: bytes.len(), frames_len: 7 * frames.len(), frames: frames.len() };
            prop_assert_eq!(Footer::decode(3, &footer.encode()), Ok(footer));
            prop_assert_eq!(decode_index(footer.frames, Some(footer.frames_len), &bytes), Ok(frames));
        }

        #[test]
        fn no_input_makes_the_index_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), n in 0usize..100) {
            let _ = decode_index(n, None, &bytes);
            let _ = Header::decode(&bytes);
            let _ = Footer::decode(0, &bytes);
        }
    }
}
