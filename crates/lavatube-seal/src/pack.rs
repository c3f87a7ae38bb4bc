//! Sealing and opening packs, in place: header with key commitment, then pieces of AES-256-GCM (FORMAT section 3).
//!
//! One key per pack and a counter as nonce: order, truncation and exchange of pieces are noticed because each piece's
//! nonce says where it belongs and whether it is the last. This is the hot path: no copies, no allocation. It must not
//! know what is inside a pack. Steps 5 and 21 of the walk.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use lavatube_base::SessionId;
use lavatube_base::limits::PIECE_LEN;
use lavatube_format::Malformed;
use lavatube_format::pack::{HEADER_LEN, Header, PIECE_STORED, TAG_LEN, class_len, pieces};

use crate::error::SealError;

/// The keys of one pack: they seal it, and after [`PackKeys::check`] open it.
pub struct PackKeys {
    header: Header,
    key: LessSafeKey,
}

impl std::fmt::Debug for PackKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackKeys({}, pack {}, class {})", self.header.session, self.header.number, self.header.class)
    }
}

impl PackKeys {
    pub(crate) fn new(session: SessionId, number: u32, class: u8, key: LessSafeKey, commitment: [u8; 32]) -> Self {
        // Panics on a class that does not exist, before anything is sealed.
        let _ = class_len(class);
        Self { header: Header { session, number, class, commitment }, key }
    }

    /// The header that packs sealed with these keys have.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Seals a pack in place. `pack` is exactly as long as its class, with piece i's plaintext at 96 + i · 16400; the
    /// header and the 16 bytes behind each piece are written here.
    ///
    /// # Errors
    /// [`SealError::Misuse`] when the length is not that of the class, [`SealError::Library`] when the library fails; the
    /// pack must then be thrown away.
    pub fn seal_in_place(&self, pack: &mut [u8]) -> Result<(), SealError> {
        if pack.len() != class_len(self.header.class) {
            return Err(SealError::Misuse("a pack's buffer is not as long as its class"));
        }
        let (header, body) = pack.split_at_mut(HEADER_LEN);
        header.copy_from_slice(&self.header.encode());
        for (index, piece) in (0u32..).zip(body.chunks_mut(PIECE_STORED)) {
            let (plain, hole) = piece.split_at_mut(piece.len() - TAG_LEN);
            let tag = self
                .key
                .seal_in_place_separate_tag(nonce(self.header.class, index), Aad::empty(), plain)
                .map_err(|_| SealError::Library("sealing a pack"))?;
            hole.copy_from_slice(tag.as_ref());
        }
        Ok(())
    }

    /// Compares a pack's header with these keys; only then can its pieces be opened.
    ///
    /// # Errors
    /// [`SealError::OtherPack`] when it is another pack's, [`SealError::WrongKey`] when the commitment does not fit.
    pub fn check(self, header: &Header) -> Result<PackOpener, SealError> {
        let Header { session, number, class, commitment } = *header;
        if (session, number, class) != (self.header.session, self.header.number, self.header.class) {
            return Err(SealError::OtherPack { session, number, class });
        }
        //= FORMAT#F7 the commitment is compared before any piece is opened: the type below is made nowhere else
        verify_slices_are_equal(&commitment, &self.header.commitment).map_err(|_| SealError::WrongKey("this pack"))?;
        Ok(PackOpener { class, key: self.key })
    }

    /// Opens a whole pack in place: checks its header, opens every piece, and leaves the plaintext at the front of the
    /// buffer. Gives its length.
    ///
    /// # Errors
    /// As [`PackKeys::check`] and [`PackOpener::open_pieces`]; [`SealError::Malformed`] when it has no header.
    pub fn open_pack(self, pack: &mut [u8]) -> Result<usize, SealError> {
        let opener = self.check(&Header::decode(pack)?)?;
        let body = pack.get_mut(HEADER_LEN..).unwrap_or_default();
        let len = opener.open_pieces(0, body)?;
        if len != lavatube_format::pack::capacity(opener.class) {
            return Err(malformed(len, "a pack is shorter than its class"));
        }
        pack.copy_within(HEADER_LEN..HEADER_LEN + len, 0);
        Ok(len)
    }
}

/// The keys of a pack whose commitment was compared: opens its pieces.
pub struct PackOpener {
    class: u8,
    key: LessSafeKey,
}

impl std::fmt::Debug for PackOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PackOpener(class {})", self.class)
    }
}

impl PackOpener {
    /// Opens whole consecutive pieces in place, the first of them being number `first_piece`, and moves their plaintext
    /// to the front of `stored`. Gives its length. Plaintext position of the first byte: `first_piece` · 16384.
    ///
    /// # Errors
    /// [`SealError::Tampered`] at the first piece that is not as it was sealed, after which nothing in `stored` may be
    /// used; [`SealError::Malformed`] when `stored` is not made of whole pieces of such a pack.
    pub fn open_pieces(&self, first_piece: u32, stored: &mut [u8]) -> Result<usize, SealError> {
        let last = last_piece(self.class);
        let mut len = 0;
        let (mut index, mut at) = (first_piece, 0);
        while at < stored.len() {
            if index > last {
                return Err(malformed(at, "more pieces than a pack of this class has"));
            }
            let piece_len = if index == last { last_piece_stored(self.class) } else { PIECE_STORED };
            let end = at + piece_len;
            let piece = stored.get_mut(at..end).ok_or_else(|| malformed(at, "a piece is cut"))?;
            self.key
                .open_in_place(nonce(self.class, index), Aad::empty(), piece)
                .map_err(|_| SealError::Tampered { piece: index })?;
            stored.copy_within(at..end - TAG_LEN, len);
            len += piece_len - TAG_LEN;
            at = end;
            index += 1;
        }
        Ok(len)
    }
}

/// Nonce of a piece: seven zero bytes, its number big-endian, and 1 for the last.
fn nonce(class: u8, index: u32) -> Nonce {
    let mut out = [0; 12];
    out[7..11].copy_from_slice(&index.to_be_bytes());
    out[11] = u8::from(index == last_piece(class));
    Nonce::assume_unique_for_key(out)
}

fn last_piece(class: u8) -> u32 {
    u32::try_from(pieces(class) - 1).expect("the largest pack has 4096 pieces")
}

fn last_piece_stored(class: u8) -> usize {
    class_len(class) - HEADER_LEN - (pieces(class) - 1) * PIECE_STORED
}

fn malformed(at: usize, rule: &'static str) -> SealError {
    SealError::Malformed(Malformed { what: "sealed pack", at, rule })
}

const _: () = assert!(PIECE_STORED == PIECE_LEN + TAG_LEN);

#[cfg(test)]
mod tests;
