//! One sealed pack, opened: ranges of its plaintext and its index, straight from the far side.
//!
//! The header is fetched and its commitment compared once; from then on ranges are fetched in whole pieces and opened in
//! the buffer they came in. It must not know frames' insides or who asks.

use std::ops::Range;

use lavatube_base::limits::PIECE_LEN;
use lavatube_format::catalog::PackRow;
use lavatube_format::pack::{
    FOOTER_LEN, Footer, FrameEntry, HEADER_LEN, Header, capacity, covering, decode_index, pieces,
};
use lavatube_seal::PackOpener;

use super::{Archive, FetchCause};
use crate::far::Far;

/// Pieces fetched at first for the index: enough for that of a pack with some thousand chunks.
const TAIL_PIECES: usize = 4;

/// A pack whose key commitment was compared.
#[derive(Debug)]
pub struct OpenPack {
    /// Which pack.
    pub row: PackRow,
    opener: PackOpener,
    /// Some of it was freed.
    is_thinned: bool,
}

impl OpenPack {
    /// Opens pack `row`: derives its keys, fetches its header and compares.
    ///
    /// # Errors
    /// When no believed manifest names the pack, the read key does not open its session, the far side does not have it,
    /// or its header is not what the catalog says.
    pub fn open(archive: &Archive<'_>, row: PackRow) -> Result<Self, FetchCause> {
        let keys = archive.sessions.keys_of(&row)?.ok_or(FetchCause::NotListed)?.pack(row.number, row.class);
        let mut header = Vec::with_capacity(HEADER_LEN);
        fetch_exact(archive.far, &row, 0..HEADER_LEN as u64, &mut header)?;
        //= FORMAT#F7 the commitment is compared before any piece is opened
        let opener = keys.check(&Header::decode(&header)?)?;
        let is_thinned = archive.sessions.released().stays.contains_key(&row.id);
        Ok(Self { row, opener, is_thinned })
    }

    /// Opens the pieces that hold plaintext `start .. start + len` into `out`, in place of what it had, and gives the
    /// plaintext position of its first byte.
    ///
    /// # Errors
    /// When the range does not lie in the pack, cannot be fetched, or a piece is not as it was sealed; `out` is empty
    /// then.
    pub fn read(&self, far: &dyn Far, start: usize, len: usize, out: &mut Vec<u8>) -> Result<usize, FetchCause> {
        out.clear();
        if start.checked_add(len).is_none_or(|end| end > capacity(self.row.class)) {
            return Err(FetchCause::Damaged("the catalog points beyond the pack's end".into()));
        }
        let (first, range) = self.sealed(start, len);
        fetch_exact(far, &self.row, range, out)?;
        let opened = self.opener.open_pieces(u32::try_from(first).unwrap_or(u32::MAX), out);
        out.truncate(*opened.as_ref().unwrap_or(&0));
        opened?;
        Ok(first * PIECE_LEN)
    }

    /// Tells the far side that plaintext `start .. start + len` will be asked for next.
    pub fn expect(&self, far: &dyn Far, start: usize, len: usize) {
        far.expect(self.row.id, self.sealed(start, len).1);
    }

    fn sealed(&self, start: usize, len: usize) -> (usize, Range<u64>) {
        let (first, range) = covering(self.row.class, start, len);
        (first, range.start as u64..range.end as u64)
    }

    /// The sealed bytes behind the last frame: what a pack is filled up with, its index, and what ends it.
    ///
    /// # Errors
    /// As [`OpenPack::read`], or when the footer breaks its layout.
    pub(crate) fn tail_range(&self, far: &dyn Far) -> Result<Range<usize>, FetchCause> {
        let class = self.row.class;
        let mut bytes = Vec::new();
        self.read(far, capacity(class) - FOOTER_LEN, FOOTER_LEN, &mut bytes)?;
        let footer = Footer::decode(class, &bytes[bytes.len() - FOOTER_LEN..])?;
        Ok(covering(class, footer.frames_len, capacity(class) - footer.frames_len).1)
    }

    /// The pack's index.
    ///
    /// # Errors
    /// As [`OpenPack::read`], or when footer or index break their layout.
    pub fn index(&self, far: &dyn Far) -> Result<Vec<FrameEntry>, FetchCause> {
        let class = self.row.class;
        let end = capacity(class) - FOOTER_LEN;
        // Before the index of one that was thinned nothing may be left.
        let tail_at = if self.is_thinned { (pieces(class) - 1) * PIECE_LEN } else { tail_at(class, far) };
        let mut bytes = Vec::new();
        let at = self.read(far, tail_at, capacity(class) - tail_at, &mut bytes)?;
        let footer = Footer::decode(class, &bytes[end - at..])?;
        let index_at = footer.index_at(class);
        if index_at >= at {
            return Ok(decode_index(footer.frames, Some(footer.frames_len), &bytes[index_at - at..end - at])?);
        }
        let at = self.read(far, index_at, footer.index_len, &mut bytes)?;
        Ok(decode_index(footer.frames, Some(footer.frames_len), &bytes[index_at - at..end - at])?)
    }
}

/// Where a reader begins that knows nothing of a pack's index: a distant one is asked for no more than holds the footer.
fn tail_at(class: u8, far: &dyn Far) -> usize {
    if far.is_distant() { (pieces(class) - 1) * PIECE_LEN } else { index_tail(class, 0) }
}

/// Asks a distant vault for the indexes of `packs` at once: two round trips, where one by one each pack costs two.
///
/// # Errors
/// When the vault does not answer.
pub(crate) fn want_indexes(archive: &Archive<'_>, packs: &[PackRow]) -> Result<(), FetchCause> {
    let far = archive.far;
    if !far.is_distant() {
        return Ok(());
    }
    let mut parts = Vec::with_capacity(2 * packs.len());
    for row in packs {
        let at = tail_at(row.class, far);
        let (_, tail) = covering(row.class, at, capacity(row.class) - at);
        parts.extend([(row.id, 0..HEADER_LEN as u64), (row.id, tail.start as u64..tail.end as u64)]);
    }
    far.want(&parts)?;
    parts.clear();
    for row in packs {
        let at = tail_at(row.class, far);
        // What does not open is told when it is wanted.
        let Ok(pack) = OpenPack::open(archive, *row) else { continue };
        let mut bytes = Vec::new();
        let footer = match pack.read(far, at, capacity(row.class) - at, &mut bytes) {
            Ok(_) => Footer::decode(row.class, &bytes[bytes.len() - FOOTER_LEN..]),
            Err(cause) if cause.is_away() => return Err(cause),
            Err(_) => continue,
        };
        let Ok(footer) = footer else { continue };
        let index_at = footer.index_at(row.class);
        if index_at < at {
            let (_, sealed) = covering(row.class, index_at, footer.index_len);
            parts.push((row.id, sealed.start as u64..sealed.end as u64));
        }
    }
    Ok(far.want(&parts)?)
}

/// The sealed bytes of a pack of `class` that hold its header and these ranges of its plaintext, which ascend.
pub(crate) fn sealed_ranges(class: u8, plain: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let sealed = plain.into_iter().map(|range| covering(class, range.start, range.len()).1);
    let mut out: Vec<Range<usize>> = Vec::new();
    for range in std::iter::once(0..HEADER_LEN).chain(sealed) {
        match out.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

/// Where a reader begins that wants the index of a pack, whose length is at least `index_len`.
pub(crate) fn index_tail(class: u8, index_len: usize) -> usize {
    let guess = pieces(class).saturating_sub(TAIL_PIECES) * PIECE_LEN;
    guess.min(capacity(class) - FOOTER_LEN - index_len)
}

/// Fetches exactly `range`: a far side that sends less or more is not believed.
fn fetch_exact(far: &dyn Far, row: &PackRow, range: Range<u64>, out: &mut Vec<u8>) -> Result<(), FetchCause> {
    let want = range.end - range.start;
    out.clear();
    let fetched = far.fetch(row.id, range, out);
    if fetched.is_ok() && out.len() as u64 == want {
        return Ok(());
    }
    let got = out.len();
    out.clear();
    fetched?;
    Err(FetchCause::Damaged(format!("the vault sent {got} bytes instead of {want}")))
}
