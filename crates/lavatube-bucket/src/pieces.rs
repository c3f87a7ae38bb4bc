//! A file that is appended to, made of objects that cannot be.
//!
//! Each append is an object of its own, whose key says where its bytes belong: nothing is ever put over anything else, so a
//! put that was given up and comes late does no harm. Many small pieces become one: a longer one that begins where the
//! first of them does, put before they are removed. It must not know what is in the file.

use lavatube_base::limits::{BUCKET_PIECE_LEN_MAX, BUCKET_PIECES_MAX};
use lavatube_format::bucket::Piece;

/// The pieces of a file, as a list of the bucket tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pieces {
    pub(crate) generation: u32,
    /// By offset; what one repeats of those before it is not read.
    parts: Vec<Part>,
    /// Those that count for nothing any more.
    pub(crate) stale: Vec<Piece>,
}

/// A piece, and the first byte that is read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    piece: Piece,
    from: u64,
}

/// What to read of a file, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of a piece, from there on.
    Read(Piece, u64, usize),
    /// So many zeros: a piece is lost.
    Hole(usize),
}

impl Pieces {
    /// The file of these pieces; `None` when there is no piece.
    //= FORMAT#F55
    pub(crate) fn of(mut all: Vec<Piece>) -> Option<Self> {
        let generation = all.iter().map(|piece| piece.generation).max()?;
        // Of pieces that begin alike the longest comes first.
        all.sort_unstable_by_key(|piece| (piece.offset, std::cmp::Reverse(piece.len)));
        let mut out = Self { generation, parts: Vec::new(), stale: Vec::new() };
        for piece in all {
            let counts = piece.generation == generation && (out.parts.is_empty() || piece.end() > out.len());
            match counts {
                true => out.parts.push(Part { piece, from: piece.offset.max(out.len()) }),
                false => out.stale.push(piece),
            }
        }
        Some(out)
    }

    /// The file of one piece.
    pub(crate) fn one(piece: Piece) -> Self {
        Self { generation: piece.generation, parts: vec![Part { piece, from: 0 }], stale: Vec::new() }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.piece.end())
    }

    /// All pieces that count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Piece> {
        self.parts.iter().map(|part| part.piece)
    }

    /// Notes a piece at the end.
    pub(crate) fn push(&mut self, piece: Piece) {
        self.parts.push(Part { piece, from: piece.offset });
    }

    /// How to read `len` bytes from `offset` on, or what of them there is.
    pub(crate) fn steps(&self, offset: u64, len: usize) -> Vec<Step> {
        let until = offset.saturating_add(len as u64).min(self.len());
        let mut at = offset;
        let mut steps = Vec::new();
        let part_len = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        for part in self.parts.iter().filter(|part| part.piece.end() > offset) {
            if at < part.from.min(until) {
                steps.push(Step::Hole(part_len(at, part.from.min(until))));
                at = part.from;
            }
            let end = part.piece.end().min(until);
            if at >= end {
                continue;
            }
            steps.push(Step::Read(part.piece, at - part.piece.offset, part_len(at, end)));
            at = end;
        }
        steps
    }

    /// The last pieces, which are to be made one: those that together have grown as long as the one before them. So a byte is
    /// put again only as often as the file has doubled.
    pub(crate) fn to_join(&self) -> Option<Piece> {
        if self.parts.len() <= BUCKET_PIECES_MAX {
            return None;
        }
        let mut first = self.parts.len() - 1;
        let end = self.len();
        let together = |first: usize| end - self.parts[first].piece.offset;
        while first > 0
            && (u64::from(self.parts[first - 1].piece.len) < 2 * together(first) || self.parts.len() - first < 2)
            && together(first - 1) <= BUCKET_PIECE_LEN_MAX as u64
        {
            first -= 1;
        }
        if self.parts.len() - first < 2 {
            return None;
        }
        let offset = self.parts[first].piece.offset;
        Some(Piece { generation: self.generation, offset, len: u32::try_from(end - offset).ok()? })
    }

    /// Notes that `joined` was put; those that it makes needless are stale.
    pub(crate) fn join(&mut self, joined: Piece) {
        let at = self.parts.iter().position(|part| part.piece.offset >= joined.offset).unwrap_or(self.parts.len());
        self.stale.extend(self.parts.drain(at..).map(|part| part.piece));
        self.push(joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(generation: u32, offset: u64, len: u32) -> Piece {
        Piece { generation, offset, len }
    }

    #[test]
    fn the_longest_counts_and_what_it_repeats_is_stale() {
        let all =
            vec![piece(1, 0, 50), piece(2, 10, 5), piece(2, 0, 10), piece(2, 0, 15), piece(2, 15, 1), piece(2, 0, 0)];
        let pieces = Pieces::of(all).unwrap();
        assert_eq!((pieces.generation, pieces.len()), (2, 16));
        assert_eq!(pieces.iter().collect::<Vec<_>>(), [piece(2, 0, 15), piece(2, 15, 1)]);
        assert_eq!(pieces.stale, [piece(1, 0, 50), piece(2, 0, 10), piece(2, 0, 0), piece(2, 10, 5)]);
        assert_eq!(Pieces::of(Vec::new()), None);
        assert_eq!(Pieces::of(vec![piece(1, 0, 0)]).unwrap().len(), 0);
    }

    #[test]
    fn a_lost_piece_is_a_hole_and_a_piece_that_repeats_is_read_once() {
        let pieces = Pieces::of(vec![piece(1, 0, 10), piece(1, 8, 4), piece(1, 20, 5)]).unwrap();
        let steps = pieces.steps(5, 100);
        let of = |offset, len| piece(1, offset, len);
        assert_eq!(
            steps,
            [Step::Read(of(0, 10), 5, 5), Step::Read(of(8, 4), 2, 2), Step::Hole(8), Step::Read(of(20, 5), 0, 5)]
        );
        assert_eq!(pieces.steps(13, 3), [Step::Hole(3)]);
        assert_eq!(pieces.steps(25, 3), []);
        assert_eq!(pieces.steps(22, 1), [Step::Read(of(20, 5), 2, 1)]);
    }

    #[test]
    fn pieces_stay_few_and_bytes_are_put_seldom() {
        let (mut pieces, mut put, mut most) = (Pieces::one(piece(1, 0, 0)), 0u64, 0);
        for _ in 0..20_000 {
            pieces.push(piece(1, pieces.len(), 200));
            put += 200;
            while let Some(joined) = pieces.to_join() {
                put += u64::from(joined.len);
                pieces.join(joined);
                assert_eq!(pieces.len(), joined.end());
                pieces.stale.clear();
            }
            most = most.max(pieces.parts.len());
            let gaps = pieces.parts.windows(2).any(|two| two[0].piece.end() != two[1].piece.offset);
            assert!(!gaps);
        }
        assert_eq!(pieces.len(), 4_000_000);
        assert!(most <= BUCKET_PIECES_MAX, "{most} pieces");
        assert!(put < 20 * 4_000_000, "{put} bytes put for {}", pieces.len());
    }
}
