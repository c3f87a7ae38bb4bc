//! Parcels: what a far vault still has to send to those who read from it.
//!
//! Requests are cut into pieces and pieces put together into blocks. Short requests go before long ones, past what of those is with
//! the link already, so that a file does not wait for a whole restore; long ones take turns. Nothing of it is on the disk: who misses something asks again. The bytes are read
//! when the link wants them, so that little waits in memory. Step 20 of the walk. It must not know the vault.

use std::collections::{BTreeMap, VecDeque};

use lavatube_base::limits::{PART_PIECE_LEN, PARTS_MAX};
use lavatube_format::message::{Part, pieces_of};

/// What is to be sent to one peer.
#[derive(Debug, Default)]
pub struct Parcels {
    /// By number of the request.
    waiting: BTreeMap<u64, Request>,
    /// By name of the block: what is in it, and its length where that is known.
    under_way: BTreeMap<u64, Parcel>,
}

/// What is left of a request.
#[derive(Debug)]
struct Request {
    /// The last time it was asked for.
    turn: u64,
    is_short: bool,
    pieces: VecDeque<Part>,
}

/// Pieces that go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Whose.
    pub request: u64,
    /// Which time it was asked for.
    pub turn: u64,
    /// The whole request is short: it goes before those that are not.
    pub is_short: bool,
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
        if self.waiting.get(&request).is_some_and(|before| turn < before.turn) {
            return Vec::new();
        }
        let pieces: VecDeque<Part> = parts.iter().flat_map(pieces_of).collect();
        self.waiting.remove(&request);
        if pieces.is_empty() {
            let of_request = self.under_way.iter().filter(|(_, parcel)| parcel.request == request);
            return of_request.map(|(key, _)| *key).collect();
        }
        let all = self.waiting.values().map(|other| other.pieces.len()).sum::<usize>() + pieces.len();
        if self.waiting.len() < REQUESTS_MAX && pieces.len() <= PIECES_MAX && all <= 2 * PIECES_MAX {
            // What is under way need not go twice.
            let under_way = self.under_way.values().filter(|parcel| parcel.request == request);
            let sent: std::collections::BTreeSet<Part> = under_way.flat_map(|parcel| parcel.pieces.clone()).collect();
            let is_short = pieces.iter().map(|piece| piece.len + PIECE_OWN_LEN).sum::<u64>() <= SHORT_LEN;
            let pieces = pieces.into_iter().filter(|piece| !sent.contains(piece)).collect();
            self.waiting.insert(request, Request { turn, is_short, pieces });
        }
        Vec::new()
    }

    /// The next parcel, when there is one and room for it, to be sent as block `key`.
    pub fn next(&mut self, key: impl FnOnce() -> u64) -> Option<(u64, Parcel)> {
        self.waiting.retain(|_, request| !request.pieces.is_empty());
        // Short ones have a window of their own: they need not wait until long ones make room.
        let [has_room, has_room_for_short] = [false, true].map(|is_short| {
            let with_link = self.under_way.values().filter(|parcel| parcel.is_short == is_short);
            let (blocks, len) = with_link.fold((0, 0), |(blocks, len), parcel| (blocks + 1, len + parcel.len()));
            let (blocks_max, len_max) =
                if is_short { (SHORT_WINDOW_BLOCKS, SHORT_WINDOW_LEN) } else { (WINDOW_BLOCKS, WINDOW_LEN) };
            blocks < blocks_max && len < len_max
        });
        let mut with_link: BTreeMap<u64, u64> = BTreeMap::new();
        self.under_way.values().for_each(|parcel| *with_link.entry(parcel.request).or_default() += parcel.len());
        let may_go = |request: &Request| if request.is_short { has_room_for_short } else { has_room };
        // Of those of a kind, the one that has least on its way: they take turns.
        let rank = |(number, request): &(&u64, &mut Request)| {
            (!request.is_short, with_link.get(number).copied().unwrap_or(0), request.pieces.len())
        };
        let (number, request) = self.waiting.iter_mut().filter(|(_, request)| may_go(request)).min_by_key(rank)?;
        let (turn, is_short, pieces) = (request.turn, request.is_short, &mut request.pieces);
        let mut parcel = Parcel { request: *number, turn, is_short, pieces: Vec::new() };
        while let Some(piece) = pieces.front()
            && (parcel.pieces.is_empty() || parcel.len() + piece.len <= PARCEL_LEN && parcel.pieces.len() < PARTS_MAX)
        {
            parcel.pieces.push(*piece);
            pieces.pop_front();
        }
        let key = key();
        self.under_way.insert(key, parcel.clone());
        Some((key, parcel))
    }

    /// What is in the block of this name.
    pub fn get(&self, key: u64) -> Option<&Parcel> {
        self.under_way.get(&key)
    }

    /// The block of this name has arrived, or is given up.
    pub fn done(&mut self, key: u64) -> bool {
        self.under_way.remove(&key).is_some()
    }
}

/// What a piece takes beside its bytes, at most.
const PIECE_OWN_LEN: u64 = 48;
/// Bytes of a parcel: enough for the link's code to be at its best.
const PARCEL_LEN: u64 = 2 * PART_PIECE_LEN;
/// What is handed to the link at a time: more than is on its way to the Moon's Earth at 260 Mbit/s.
const WINDOW_LEN: u64 = 128 << 20;
const WINDOW_BLOCKS: usize = 64;
/// A request of so many bytes is short: a file, or the indexes and trees that a restore begins with.
const SHORT_LEN: u64 = PARCEL_LEN;
/// What of short requests is handed to the link at a time, beside the others.
const SHORT_WINDOW_LEN: u64 = 32 << 20;
const SHORT_WINDOW_BLOCKS: usize = 64;
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
        assert_eq!(
            sent[0].1,
            Parcel { request: 2, turn: 5, is_short: true, pieces: vec![part(2, 7, 100), part(2, 900, 5)] }
        );
        let pieces: Vec<_> = sent[1..].iter().flat_map(|(_, parcel)| parcel.pieces.clone()).collect();
        assert_eq!(pieces, pieces_of(&part(1, 0, 60 << 20)).collect::<Vec<_>>());
        assert!(sent[1..].iter().all(|(_, parcel)| parcel.request == 1 && parcel.len() <= PARCEL_LEN + (1 << 20)));
    }

    #[test]
    fn a_short_request_need_not_wait_until_the_link_has_carried_a_long_one() {
        let mut parcels = Parcels::default();
        parcels.ask(1, 5, &(0..8).map(|id| part(id, 0, 64 << 20)).collect::<Vec<_>>());
        let mut key = 0;
        let mut next = |parcels: &mut Parcels| {
            key += 1;
            parcels.next(|| key)
        };
        while next(&mut parcels).is_some() {}
        parcels.ask(2, 5, &[part(20, 7, 100)]);
        let (key, parcel) = next(&mut parcels).unwrap();
        assert!(parcel.request == 2 && parcel.is_short && parcels.done(key));
        assert_eq!(next(&mut parcels), None);
        // Short ones are bounded as well.
        for request in 3..3 + REQUESTS_MAX as u64 {
            parcels.ask(request, 5, &[part(20, 0, SHORT_LEN - (1 << 10))]);
        }
        let len: u64 = std::iter::from_fn(|| next(&mut parcels)).map(|(_, parcel)| parcel.len()).sum();
        assert!((SHORT_WINDOW_LEN..SHORT_WINDOW_LEN + SHORT_LEN).contains(&len), "{len}");
    }

    #[test]
    fn long_requests_take_turns_and_each_comes_in_order() {
        let mut parcels = Parcels::default();
        parcels.ask(1, 5, &(0..4).map(|id| part(id, 0, 64 << 20)).collect::<Vec<_>>());
        let first = all(&mut parcels);
        assert!(first.iter().all(|(_, parcel)| parcel.request == 1));
        parcels.ask(2, 5, &[part(9, 0, 60 << 20)]);
        let mut sent = first.clone();
        for (key, _) in first {
            assert!(parcels.done(key));
            sent.extend(all(&mut parcels));
        }
        let of = |request: u64| sent.iter().filter(move |(_, parcel)| parcel.request == request);
        let pieces: Vec<_> = of(2).flat_map(|(_, parcel)| parcel.pieces.clone()).collect();
        assert_eq!(pieces, pieces_of(&part(9, 0, 60 << 20)).collect::<Vec<_>>(), "as soon as there is room");
        assert!(of(1).flat_map(|(_, parcel)| &parcel.pieces).is_sorted_by_key(|piece| (piece.id, piece.start)));
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
        assert!(all(&mut parcels).is_empty() && parcels.under_way.is_empty());
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
