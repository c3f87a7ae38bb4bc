//! How a part of an object is cut for the way (FORMAT section 12), so that whoever asks and whoever sends mean the same
//! pieces.
//!
//! It must not know who they are.

use lavatube_base::limits::PART_PIECE_LEN;

use super::{Part, Sent, Withheld};

/// The pieces that a part is sent in.
pub fn pieces_of(part: &Part) -> impl Iterator<Item = Part> + use<> {
    let part = *part;
    let pieces = part.len.div_ceil(PART_PIECE_LEN);
    (0..pieces).map(move |n| {
        let begin = n * PART_PIECE_LEN;
        Part { id: part.id, start: part.start + begin, len: PART_PIECE_LEN.min(part.len - begin) }
    })
}

/// Parts that are sent in just these pieces, which ascend.
pub fn parts_of<'p>(pieces: impl IntoIterator<Item = &'p Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for piece in pieces {
        match out.last_mut() {
            Some(last)
                if last.id == piece.id
                    && last.start + last.len == piece.start
                    && last.len.is_multiple_of(PART_PIECE_LEN) =>
            {
                last.len += piece.len
            }
            _ => out.push(*piece),
        }
    }
    out
}

/// Which piece was sent.
pub fn piece_sent(sent: &Sent<'_>) -> Part {
    let len = sent.bytes.as_ref().map_or_else(|Withheld { len, .. }| *len, |bytes| bytes.len() as u64);
    Part { id: sent.id, start: sent.start, len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ObjectId;

    fn part(id: u8, start: u64, len: u64) -> Part {
        Part { id: ObjectId([id; 32]), start, len }
    }

    #[test]
    fn parts_are_cut_the_same_way_wherever_one_takes_them_up() {
        let whole = part(1, 5, 2 * PART_PIECE_LEN + 7);
        let pieces: Vec<_> = pieces_of(&whole).collect();
        assert_eq!(pieces.len(), 3);
        for from in 0..pieces.len() {
            let rest: Vec<_> = parts_of(&pieces[from..]).iter().flat_map(pieces_of).collect();
            assert_eq!(rest, pieces[from..]);
        }
        assert_eq!(parts_of(&pieces), [whole]);
        let (short, next) = (part(1, 0, 10), part(1, 10, 10));
        assert_eq!(parts_of(&[short, next, part(2, 20, 1)]), [short, next, part(2, 20, 1)]);
    }
}
