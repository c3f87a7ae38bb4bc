//! Parcels: what a far vault still has to send to those who read from it.
//!
//! Requests are cut into pieces and pieces put together into blocks; short requests go before long ones, so that a file
//! does not wait for a whole restore. Nothing of it is on the disk: who misses something asks again. The bytes are read
//! when the link wants them, so that little waits in memory. Step 20 of the walk. It must not know the vault.

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::limits::{PART_PIECE_LEN, PARTS_MAX};
use lavatube_format::message::{Part, pieces_of};

/// What is to be sent to one peer.
#[derive(Debug, Default)]
pub struct Parcels {
    /// By number of the request: its last turn, and what is left of it.
    waiting: BTreeMap<u64, (u64, VecDeque<Part>)>,
    /// By name of the block: what is in it, and its length where that is known.
    under_way: BTreeMap<u64, Parcel>,
    under_way_len: u64,
}

/// Pieces that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Whose.
    pub request: u64,
    /// Which time it was asked for.
    pub turn: u64,
    /// Which.
    pub pieces: Vec<Part>,
}

impl Parcel {
    fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len + PIECE_OWN_LEN).sum()
    }
}

impl Parcels {
    /// A request came, or came again: this is what is left of it. Too many at a time are forgotten, and asked for again, and one
    /// that a later one has overtaken says nothing any more. Returns the names of blocks that are not wanted any more.
    pub fn ask(&mut self, request: u64, turn: u64, parts: &[Part]) -> Vec<u64> {
        if self.waiting.get(&request).is_some_and(|(last, _)| turn < *last) {
            return Vec::new();
        }
        let pieces: VecDeque<Part> = parts.iter().flat_map(pieces_of).collect();
        self.waiting.remove(&request);
        if pieces.is_empty() {
            let of_request = self.under_way.iter().filter(|(_, parcel)| parcel.request == request);
            return of_request.map(|(key, _)| *key).collect();
        }
        let all = self.waiting.values().map(|(_, pieces)| pieces.len()).sum::<usize>() + pieces.len();
        if self.waiting.len() < REQUESTS_MAX && pieces.len() <= PIECES_MAX && all <= 2 * PIECES_MAX {
            // What is under way need not go twice.
            let under_way = self.under_way.values().filter(|parcel| parcel.request == request);
            let sent: std::collections::BTreeSet<Part> = under_way.flat_map(|parcel| parcel.pieces.clone()).collect();
            self.waiting.insert(request, (turn, pieces.into_iter().filter(|piece| !sent.contains(piece)).collect()));
        }
        Vec::new()
    }

    /// The next parcel, when there is one and room for it, to be sent as block `key`.
    pub fn next(&mut self, key: impl FnOnce() -> u64) -> Option<(u64, Parcel)> {
        if self.under_way_len >= WINDOW_LEN || self.under_way.len() >= WINDOW_BLOCKS {
            return None;
        }
        self.waiting.retain(|_, (_, pieces)| !pieces.is_empty());
        let (request, (turn, pieces)) = self.waiting.iter_mut().min_by_key(|(_, (_, pieces))| pieces.len())?;
        let mut parcel = Parcel { request: *request, turn: *turn, pieces: Vec::new() };
        while let Some(piece) = pieces.front()
            && (parcel.pieces.is_empty() || parcel.len() + piece.len <= PARCEL_LEN && parcel.pieces.len() < PARTS_MAX)
        {
            parcel.pieces.push(*piece);
            pieces.pop_front();
        }
        let key = key();
        self.under_way_len += parcel.len();
        self.under_way.insert(key, parcel.clone());
        Some((key, parcel))
    }

    /// What is in the block of this name.
    pub fn get(&self, key: u64) -> Option<&Parcel> {
        self.under_way.get(&key)
    }

    /// The block of this name has arrived, or is given up.
    pub fn done(&mut self, key: u64) -> bool {
        let parcel = self.under_way.remove(&key);
        self.under_way_len -= parcel.as_ref().map_or(0, Parcel::len);
        parcel.is_some()
    }
}

/// What a piece takes beside its bytes, at most.
const PIECE_OWN_LEN: u64 = 48;
/// Bytes of a parcel: enough for the link's code to be at its best.
const PARCEL_LEN: u64 = 2 * PART_PIECE_LEN;
/// What is handed to the link at a time: more than is on its way to the Moon's Earth at 260 Mbit/s.
const WINDOW_LEN: u64 = 128 << 20;
const WINDOW_BLOCKS: usize = 64;
const REQUESTS_MAX: usize = 64;
/// Pieces of a request: more than a message can ask for would be a mistake of the peer's. Of all requests there are twice as
/// many.
const PIECES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ObjectId;

    fn part(id: u8, start: u64, len: u64) -> Part {
        Part { id: ObjectId([id; 32]), start, len }
    }

    fn all(parcels: &mut Parcels) -> Vec<(u64, Parcel)> {
        let mut key = parcels.under_way.keys().last().copied().unwrap_or(0);
        std::iter::from_fn(|| {
            parcels.next(|| {
                key += 1;
                key
            })
        })
        .collect()
    }

    #[test]
    fn a_file_goes_before_a_restore() {
        let mut parcels = Parcels::default();
        parcels.ask(1, 5, &[part(1, 0, 60 << 20)]);
        parcels.ask(2, 5, &[part(2, 7, 100), part(2, 900, 5)]);
        let sent = all(&mut parcels);
        assert_eq!(sent[0].1, Parcel { request: 2, turn: 5, pieces: vec![part(2, 7, 100), part(2, 900, 5)] });
        let pieces: Vec<_> = sent[1..].iter().flat_map(|(_, parcel)| parcel.pieces.clone()).collect();
        assert_eq!(pieces, pieces_of(&part(1, 0, 60 << 20)).collect::<Vec<_>>());
        assert!(sent[1..].iter().all(|(_, parcel)| parcel.request == 1 && parcel.len() <= PARCEL_LEN + (1 << 20)));
    }

    #[test]
    fn what_is_under_way_is_bounded_and_does_not_go_twice() {
        let mut parcels = Parcels::default();
        let parts: Vec<_> = (0..8).map(|id| part(id, 0, 64 << 20)).collect();
        parcels.ask(1, 5, &parts);
        let sent = all(&mut parcels);
        let len: u64 = sent.iter().map(|(_, parcel)| parcel.len()).sum();
        assert!((WINDOW_LEN..WINDOW_LEN + 2 * PARCEL_LEN).contains(&len), "{len}");
        parcels.ask(1, 5, &parts);
        assert!(parcels.done(sent[0].0) && !parcels.done(sent[0].0));
        let more = all(&mut parcels);
        assert_eq!(more.len(), 1);
        assert!(sent.iter().all(|(_, parcel)| parcel.pieces.iter().all(|p| !more[0].1.pieces.contains(p))));
        let mut unwanted = parcels.ask(1, 5, &[]);
        unwanted.sort_unstable();
        let on_their_way: Vec<u64> = sent[1..].iter().chain(&more).map(|(key, _)| *key).collect();
        assert_eq!(unwanted, on_their_way);
        sent.iter().chain(&more).for_each(|(key, _)| {
            parcels.done(*key);
        });
        assert!(all(&mut parcels).is_empty() && parcels.under_way_len == 0);
        // What was overtaken says nothing any more.
        parcels.ask(2, 7, &parts[..1]);
        parcels.ask(2, 6, &parts);
        parcels.ask(2, 6, &[]);
        assert!(
            all(&mut parcels)
                .iter()
                .flat_map(|(_, parcel)| &parcel.pieces)
                .eq(pieces_of(&parts[0]).collect::<Vec<_>>().iter())
        );
    }
}
