//! One journal of all copies: each record is the one that most drives have, or else one mended from any.
//!
//! Copies are read side by side, a window at a time, so that memory does not grow with them; what is alike in a window is looked at
//! once. It must not know what records mean. Step 20 of the walk.

use lavatube_format::journal::{Check, LINE_LEN_MAX, Line};

use crate::Drive;
use crate::chain::Point;
use crate::journal::JOURNAL;

/// A copy of a journal.
pub(crate) trait Copy {
    /// Its length.
    fn len(&self) -> u64;

    /// Reads from `place` into `buf`: how many bytes. Fewer are the end of it.
    fn read(&self, place: u64, buf: &mut [u8]) -> usize;
}

/// The copy on a drive, as long as it was when it was looked at.
pub(crate) struct OnDrive<'a> {
    drive: &'a dyn Drive,
    len: u64,
}

impl<'a> OnDrive<'a> {
    /// `None` when there is none.
    pub(crate) fn find(drive: &'a dyn Drive) -> Option<Self> {
        let len = drive.len(JOURNAL).ok()??;
        // One that cannot be read at all is as good as none.
        drive.read_at(JOURNAL, 0, &mut [0; 1]).ok()?;
        Some(Self { drive, len })
    }
}

impl Copy for OnDrive<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, place: u64, buf: &mut [u8]) -> usize {
        self.drive.read_at(JOURNAL, place, buf).unwrap_or(0)
    }
}

/// What several copies of a journal say together.
pub(crate) struct Merged {
    /// The end of the chain.
    pub(crate) end: Point,
    /// Records that no copy had whole and that were mended.
    pub(crate) mended: u64,
    /// Some copy goes on in a way that could not be read, or says otherwise: records may be missing.
    pub(crate) doubtful: bool,
    /// Of each copy: where it is not the chain any more; `None` when the chain is all that is in it.
    pub(crate) parted: Vec<Option<Parted>>,
    /// The chain, unless it is too long.
    pub(crate) image: Option<Vec<u8>>,
}

/// Where a copy and the chain part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parted {
    pub(crate) at: Point,
    /// The copy has another record there, which follows from those before.
    pub(crate) goes_on: bool,
}

impl Merged {
    /// Number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.end.sequence - 1
    }

    /// Check of the last record.
    pub(crate) fn check(&self) -> Check {
        self.end.before
    }
}

/// A window of copies that are alike in it.
struct Kind {
    bytes: Vec<u8>,
    copies: Vec<usize>,
    /// Length of the longest of them.
    longest: u64,
}

/// A record as some copies have it.
struct Vote {
    count: usize,
    longest: u64,
    kind: usize,
    len: usize,
    line: Line,
}

/// All copies where one stands.
struct Window<'a> {
    copies: &'a [&'a dyn Copy],
    /// Those that have said nothing else than the chain, but for damage.
    follows: Vec<bool>,
    begins: u64,
    kinds: Vec<Kind>,
}

impl Window<'_> {
    /// Reads on from `place`, unless a whole record is sure to be in the window.
    fn reach(&mut self, place: u64) {
        let at = (place - self.begins) as usize;
        if !self.kinds.is_empty() && at + LINE_LEN_MAX <= WINDOW {
            return;
        }
        self.begins = place;
        self.kinds.clear();
        for (copy, text) in self.copies.iter().enumerate().filter(|(copy, _)| self.follows[*copy]) {
            let mut bytes =
                vec![0; usize::try_from(text.len().saturating_sub(place)).map_or(WINDOW, |n| n.min(WINDOW))];
            let len = text.read(place, &mut bytes);
            bytes.truncate(len);
            match self.kinds.iter_mut().find(|kind| kind.bytes == bytes) {
                Some(kind) => {
                    kind.copies.push(copy);
                    kind.longest = kind.longest.max(text.len());
                }
                None => self.kinds.push(Kind { bytes, copies: vec![copy], longest: text.len() }),
            }
        }
    }

    /// What is left of each kind from `place` on.
    fn rests(&self, place: u64) -> impl Iterator<Item = &[u8]> {
        let at = (place - self.begins) as usize;
        self.kinds.iter().map(move |kind| kind.bytes.get(at..).unwrap_or_default())
    }

    /// The records that copies have at `at`.
    fn votes(&self, at: Point) -> Vec<Vote> {
        let mut votes: Vec<Vote> = Vec::new();
        for (kind, rest) in self.rests(at.place).enumerate() {
            let Ok((line, len)) = Line::decode(rest, at.sequence, &at.before) else { continue };
            let Kind { copies, longest, .. } = &self.kinds[kind];
            match votes.iter_mut().find(|v| v.line.check == line.check) {
                Some(vote) => (vote.count, vote.longest) = (vote.count + copies.len(), vote.longest.max(*longest)),
                None => votes.push(Vote { count: copies.len(), longest: *longest, kind, len, line }),
            }
        }
        votes
    }

    /// The chain goes on at `at` with these bytes. A copy with another valid record here follows another chain from now on.
    fn follow(&mut self, at: Point, bytes: &[u8], parted: &mut [Option<Parted>]) {
        let from = (at.place - self.begins) as usize;
        let follows = &mut self.follows;
        self.kinds.retain(|kind| {
            let rest = kind.bytes.get(from..).unwrap_or_default();
            if rest.starts_with(bytes) {
                return true;
            }
            let goes_on = Line::decode(rest, at.sequence, &at.before).is_ok();
            for copy in &kind.copies {
                parted[*copy].get_or_insert(Parted { at, goes_on });
                follows[*copy] &= !goes_on;
            }
            !goes_on
        });
    }
}

/// Makes one chain of all copies and gives each record to `each`, with its place: the one that most copies have, else one mended from any.
/// The chain itself is given back when it is not longer than `image_max`.
pub(crate) fn merge(copies: &[&dyn Copy], shards: usize, image_max: u64, each: &mut dyn FnMut(Line, u64)) -> Merged {
    let mut window = Window { copies, follows: vec![true; copies.len()], begins: 0, kinds: Vec::new() };
    let (end, parted) = (Point::START, vec![None; copies.len()]);
    let mut merged = Merged { end, mended: 0, doubtful: false, parted, image: Some(Vec::new()) };
    loop {
        let at = merged.end;
        window.reach(at.place);
        let votes = window.votes(at);
        merged.doubtful |= votes.len() > 1;
        let mut bytes = Vec::new();
        let line = if let Some(vote) = votes.into_iter().max_by_key(|v| (v.count, v.longest)) {
            let rest = window.rests(at.place).nth(vote.kind).unwrap_or_default();
            bytes.extend_from_slice(&rest[..vote.len]);
            vote.line
        } else {
            let mut rests = window.rests(at.place).filter(|rest| !rest.is_empty()).peekable();
            let is_end = rests.peek().is_none();
            let Some((line, _)) = rests.find_map(|r| Line::decode_mended(r, at.sequence, &at.before, shards)) else {
                merged.doubtful |= !is_end;
                break;
            };
            line.record.encode(at.sequence, &at.before, &mut bytes);
            merged.mended += 1;
            line
        };
        window.follow(at, &bytes, &mut merged.parted);
        merged.end = at.behind(&line, bytes.len());
        if merged.end.place > image_max {
            merged.image = None;
        }
        if let Some(image) = &mut merged.image {
            image.extend_from_slice(&bytes);
        }
        each(line, at.place);
    }
    // What goes on behind the end, in whatever way, is not the chain alone.
    let at = merged.end;
    for (_, parted) in copies.iter().zip(&mut merged.parted).filter(|(copy, _)| copy.len() != at.place) {
        parted.get_or_insert(Parted { at, goes_on: false });
    }
    merged
}

/// Bytes of each copy that are in memory at a time.
const WINDOW: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ObjectId;
    use lavatube_format::journal::{FIRST_CHECK, Record};
    use lavatube_format::shard::{Geometry, ObjectKind};

    impl Copy for Vec<u8> {
        fn len(&self) -> u64 {
            self.len() as u64
        }

        fn read(&self, place: u64, buf: &mut [u8]) -> usize {
            let rest = self.get(place as usize..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            buf[..len].copy_from_slice(&rest[..len]);
            len
        }
    }

    fn chain(ids: &[u8]) -> Vec<u8> {
        let (mut out, mut check) = (Vec::new(), FIRST_CHECK);
        for (n, id) in ids.iter().enumerate() {
            let record = Record::Stored {
                kind: ObjectKind::Pack,
                object: ObjectId([*id; 32]),
                geometry: Geometry::new(4096, 4, 2).unwrap(),
                generation: 1,
                slots: vec![0, 1, 2, 3, 4, 5],
            };
            check = record.encode(n as u64 + 1, &check, &mut out);
        }
        out
    }

    fn merge_all(copies: &[&Vec<u8>]) -> Merged {
        let copies: Vec<&dyn Copy> = copies.iter().map(|copy| *copy as &dyn Copy).collect();
        merge(&copies, 6, u64::MAX, &mut |_, _| {})
    }

    /// What the chain is, what was mended, whether there is doubt.
    fn told(merged: Merged) -> (Vec<u8>, u64, bool) {
        (merged.image.unwrap(), merged.mended, merged.doubtful)
    }

    #[test]
    fn copies_damaged_in_different_records_are_whole_together() {
        let whole = chain(&[1, 2, 3, 4]);
        let (mut a, mut b) = (whole.clone(), whole.clone());
        a[20] ^= 1;
        b[200] ^= 1;
        let merged = merge_all(&[&a, &b]);
        assert!(merged.parted.iter().all(|parted| parted.as_ref().is_some_and(|p| !p.goes_on)));
        assert_eq!(told(merged), (whole, 0, false));
    }

    #[test]
    fn one_wrong_byte_in_the_same_record_of_every_copy_is_mended() {
        let whole = chain(&[1, 2, 3, 4]);
        for at in 0..whole.len() {
            let mut copy = whole.clone();
            copy[at] ^= 0x55;
            let merged = merge_all(&[&copy, &copy]);
            assert_eq!(told(merged), (whole.clone(), 1, false), "byte {at}");
        }
    }

    #[test]
    fn a_torn_tail_is_left_out_and_said() {
        let whole = chain(&[1, 2, 3]);
        let two = chain(&[1, 2]).len();
        let torn = whole[..two + 30].to_vec();
        let merged = merge_all(&[&torn]);
        assert_eq!((merged.last(), merged.doubtful), (2, true));
        let merged = merge_all(&[&torn, &whole]);
        assert_eq!((merged.last(), merged.doubtful), (3, false));
        assert_eq!(merged.parted[1], None);
        assert_eq!(merged.parted[0].as_ref().map(|p| (p.at.sequence, p.goes_on)), Some((3, false)));
    }

    #[test]
    fn the_future_that_most_drives_share_is_the_one_that_counts() {
        let (lone, shared) = (chain(&[1, 2, 9, 5, 6]), chain(&[1, 2, 3]));
        let merged = merge_all(&[&lone, &shared, &shared]);
        assert_eq!(merged.parted[0].as_ref().map(|p| (p.at.sequence, p.goes_on)), Some((3, true)));
        assert_eq!(told(merged), (shared, 0, true));
    }

    #[test]
    fn what_is_longer_than_a_window_is_read_through() {
        let ids: Vec<u8> = (0..12_000u32).map(|n| n as u8).collect();
        let whole = chain(&ids);
        assert!(whole.len() > 3 * WINDOW);
        let (mut a, mut b) = (whole.clone(), whole.clone());
        // On both sides of where windows part.
        (WINDOW - 200..WINDOW - 100).for_each(|at| a[at] ^= 0xff);
        (2 * WINDOW - 50..2 * WINDOW + 50).for_each(|at| b[at] ^= 0xff);
        a.truncate(whole.len() - 5000);
        let mut places = Vec::new();
        let copies: [&dyn Copy; 2] = [&a, &b];
        let merged = merge(&copies, 6, u64::MAX, &mut |line, place| places.push((line.sequence, place)));
        assert_eq!(places.len(), ids.len());
        assert!(places.is_sorted() && places.iter().all(|(n, place)| place / (n - 1).max(1) <= 90));
        assert_eq!(told(merged), (whole, 0, false));
    }
}
