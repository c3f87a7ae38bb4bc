//! The journal as it is read again: a record at its place, or one after the other, from memory or from any drive that has it.
//!
//! Each record is believed by its own check and the one before it, so that a drive which rots meanwhile is passed over for
//! another. What is known of a pack is in no other place: it is read each time it is asked for. It must not know how the
//! journal came to be the one that counts. Steps 16 and 20 of the walk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::Peekable;

use lavatube_base::ObjectId;
use lavatube_format::journal::{Check, FIRST_CHECK, LINE_LEN_MAX, Line, Record};

use crate::index::{Entry, Known, about};
use crate::journal::{JOURNAL, Journal};
use crate::status::Slot;
use crate::{Drive, DriveError, ObjectKind, PutMode, Vault};

/// Where the journal can be read now.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'v> {
    journal: &'v Journal,
    slots: &'v [Slot],
}

/// Where in a journal one stands: what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    /// Bytes before it.
    pub(crate) place: u64,
    /// Number of the record there.
    pub(crate) sequence: u64,
    /// Check of the record before it.
    pub(crate) before: Check,
}

impl Point {
    pub(crate) const START: Self = Self { place: 0, sequence: 1, before: FIRST_CHECK };

    /// Behind a record of so many bytes that stands here.
    pub(crate) fn behind(self, line: &Line, len: usize) -> Self {
        Self { place: self.place + len as u64, sequence: line.sequence + 1, before: line.check }
    }
}

impl<'v> Chain<'v> {
    pub(crate) fn new(journal: &'v Journal, slots: &'v [Slot]) -> Self {
        Self { journal, slots }
    }

    /// Drives that have all of it.
    fn drives(self) -> impl Iterator<Item = &'v dyn Drive> {
        let all = self.slots.iter().enumerate().filter(move |(slot, _)| self.journal.has_all(*slot));
        all.filter_map(|(_, slot)| slot.reader())
    }

    /// The record at `place`; `None` when it cannot be read anywhere.
    pub(crate) fn line(self, place: u64) -> Option<Line> {
        let from = place.saturating_sub(CHECK_LEN as u64);
        if let Some(image) = self.journal.image() {
            return decode(image.get(usize::try_from(from).ok()?..)?, place);
        }
        self.drives().find_map(|drive| {
            let mut bytes = [0; CHECK_LEN + LINE_LEN_MAX];
            let len = drive.read_at(JOURNAL, from, &mut bytes).ok()?;
            decode(&bytes[..len], place)
        })
    }

    /// Gives each record from `point` on, with its place and its bytes, until `each` wants no more. Whether it came to the end.
    pub(crate) fn walk(self, point: Point, each: &mut dyn FnMut(u64, &Line, &[u8]) -> bool) -> bool {
        if let Some(image) = self.journal.image() {
            let from = usize::try_from(point.place).unwrap_or(usize::MAX);
            let mut point = point;
            return walk_in(image.get(from..).unwrap_or_default(), &mut point, each).is_some_and(|rest| rest == 0);
        }
        let (mut point, mut window) = (point, Vec::new());
        while point.place < self.journal.len() {
            let left = usize::try_from(self.journal.len() - point.place).unwrap_or(usize::MAX);
            let before = point;
            // A drive on which a record is not what it was is passed over, for this window.
            for drive in self.drives() {
                window.resize(left.min(WINDOW), 0);
                let len = drive.read_at(JOURNAL, point.place, &mut window).unwrap_or(0);
                match walk_in(&window[..len], &mut point, each) {
                    None => return false,
                    Some(_) if point != before => break,
                    Some(_) => {}
                }
            }
            if point == before {
                return false;
            }
        }
        true
    }

    /// Writes all of it to a drive, in place of what that has. It may be staged until the next sync. Whether all of it could be read.
    ///
    /// # Errors
    /// Those of the drive that is written to.
    pub(crate) fn copy_to(self, drive: &dyn Drive) -> Result<bool, DriveError> {
        if let Some(image) = self.journal.image() {
            return drive.put(JOURNAL, &[image], PutMode::Replace).map(|()| true);
        }
        // Cut between, what it has is an older journal.
        let (mut part, mut is_first, mut result) = (Vec::new(), true, Ok(()));
        let mut write = |part: &mut Vec<u8>| {
            match std::mem::take(&mut is_first) {
                true => drive.put(JOURNAL, &[part], PutMode::Replace).and_then(|()| drive.sync())?,
                false => drive.append(JOURNAL, part)?,
            }
            part.clear();
            Ok(())
        };
        let is_whole = self.walk(Point::START, &mut |_, _, bytes| {
            part.extend_from_slice(bytes);
            if part.len() >= PART {
                result = write(&mut part);
            }
            result.is_ok()
        });
        result?;
        write(&mut part).map(|()| is_whole)
    }

    /// All of it.
    pub(crate) fn whole(self) -> Option<Vec<u8>> {
        if let Some(image) = self.journal.image() {
            return Some(image.to_vec());
        }
        let mut out = Vec::new();
        let is_whole = self.walk(Point::START, &mut |_, _, bytes| {
            out.extend_from_slice(bytes);
            true
        });
        is_whole.then_some(out)
    }
}

/// The record at `place`, of which `bytes` begin with the check before it.
fn decode(bytes: &[u8], place: u64) -> Option<Line> {
    let (before, rest) = match place {
        0 => (FIRST_CHECK, bytes),
        _ => bytes.split_first_chunk().map(|(before, rest)| (*before, rest))?,
    };
    Line::read(rest, &before).ok().map(|(line, _)| line)
}

/// Gives the records that `bytes` begin with, as many as are whole and right, and sets `point` behind them: how many bytes are left then,
/// or `None` when `each` wants no more.
fn walk_in(bytes: &[u8], point: &mut Point, each: &mut dyn FnMut(u64, &Line, &[u8]) -> bool) -> Option<usize> {
    let mut rest = bytes;
    while let Ok((line, len)) = Line::decode(rest, point.sequence, &point.before) {
        let place = point.place;
        *point = point.behind(&line, len);
        if !each(place, &line, &rest[..len]) {
            return None;
        }
        rest = &rest[len..];
    }
    Some(rest.len())
}

impl Vault {
    /// The journal, to be read.
    pub(crate) fn chain(&self) -> Chain<'_> {
        Chain::new(&self.journal, &self.slots)
    }

    /// What is known of an object; `None` when it is not here.
    pub(crate) fn entry(&self, id: ObjectId) -> Option<Cow<'_, Entry>> {
        match self.index.objects.get(&id) {
            Some(entry) => Some(Cow::Borrowed(entry)),
            None => self.pack(id).map(|known| Cow::Owned(known.entry)),
        }
    }

    /// Whether an object is here.
    pub(crate) fn has_entry(&self, id: ObjectId) -> bool {
        self.entry(id).is_some()
    }

    /// What the journal says of a pack.
    fn pack(&self, id: ObjectId) -> Option<Known> {
        if self.index.packs.of(id).len() == 0 || self.index.released.contains_key(&id) {
            return None;
        }
        let chain = self.chain();
        let lines = self.index.packs.of(id).filter_map(|place| chain.line(place));
        lines.filter(|line| about(&line.record) == Some(id)).fold(None, Known::with)
    }

    /// Gives all objects, in no order that means anything: how many records about packs can be read on no drive any more, which may be as
    /// many packs.
    pub(crate) fn each_entry(&self, each: &mut dyn FnMut(ObjectId, &Entry)) -> u64 {
        self.index.objects.iter().for_each(|(id, entry)| each(*id, entry));
        if self.index.packs.is_empty() {
            return 0;
        }
        let mut upto = None;
        let is_whole = self.chain().walk(Point::START, &mut |place, line, _| {
            upto = Some(place);
            let Record::Stored { kind: ObjectKind::Pack, object: id, .. } = line.record else { return true };
            let mut mentions = self.index.packs.of(id);
            let (first, more) = (mentions.next(), mentions.len());
            if first.is_none() || self.index.released.contains_key(&id) {
                return true;
            }
            // Of most there is one record.
            let known = if more == 0 { Known::with(None, line.clone()) } else { self.told_first_at(place, id) };
            if let Some(known) = known {
                each(id, &known.entry);
            }
            true
        });
        if is_whole { 0 } else { self.each_behind(upto, each) }
    }

    /// Gives the packs of which the first record is behind a place, each looked for by itself: how many records cannot be read.
    fn each_behind(&self, place: Option<u64>, each: &mut dyn FnMut(ObjectId, &Entry)) -> u64 {
        let mut unread = 0;
        for bucket in self.index.packs.buckets_from(ObjectId([0; 32])) {
            let packs = self.packs_in(bucket, &mut unread);
            let behind = packs.into_iter().filter(|(_, (first, _))| Some(*first) > place);
            behind.for_each(|(id, (_, entry))| each(id, &entry));
        }
        unread
    }

    /// A pack, if the record at `place` is the first about it.
    fn told_first_at(&self, place: u64, id: ObjectId) -> Option<Known> {
        let mut earlier = self.index.packs.of(id).take_while(|at| *at < place);
        let is_about = |at| self.chain().line(at).is_some_and(|line| about(&line.record) == Some(id));
        if earlier.any(is_about) { None } else { self.pack(id) }
    }

    /// Objects from `id` on, in the order of ids.
    pub(crate) fn entries_from(&self, id: ObjectId) -> impl Iterator<Item = (ObjectId, Cow<'_, Entry>)> {
        let others = self.index.objects.range(id..).map(|(id, entry)| (*id, Cow::Borrowed(entry)));
        let packs = self.index.packs.buckets_from(id).flat_map(|bucket| self.packs_in(bucket, &mut 0));
        let packs = packs.filter(move |(own, _)| *own >= id).map(|(id, (_, entry))| (id, Cow::Owned(entry)));
        Merged { one: others.peekable(), other: packs.peekable() }
    }

    /// The packs of a bucket, in the order of ids, with the place of the first record about each. Records that cannot be read are added to `unread`.
    fn packs_in(&self, bucket: usize, unread: &mut u64) -> BTreeMap<ObjectId, (u64, Entry)> {
        let chain = self.chain();
        let mut all: BTreeMap<ObjectId, (u64, Option<Known>)> = BTreeMap::new();
        for place in self.index.packs.in_bucket(bucket) {
            let Some(line) = chain.line(place) else {
                *unread += 1;
                continue;
            };
            let Some(id) = about(&line.record).filter(|id| !self.index.released.contains_key(id)) else { continue };
            let (_, known) = all.entry(id).or_insert((place, None));
            *known = Known::with(known.take(), line);
        }
        all.into_iter().filter_map(|(id, (first, known))| Some((id, (first, known?.entry)))).collect()
    }

    /// Notes what is left over of packs of which something was moved.
    pub(crate) fn look_what_is_left(&mut self) {
        for id in std::mem::take(&mut self.index.moved) {
            match self.pack(id).map(|known| known.left).filter(|left| !left.is_empty()) {
                Some(left) => drop(self.index.left.insert(id, left)),
                None => drop(self.index.left.remove(&id)),
            }
        }
    }
}

/// Two sorted sequences as one.
struct Merged<A: Iterator, B: Iterator> {
    one: Peekable<A>,
    other: Peekable<B>,
}

impl<V, A: Iterator<Item = (ObjectId, V)>, B: Iterator<Item = (ObjectId, V)>> Iterator for Merged<A, B> {
    type Item = (ObjectId, V);

    fn next(&mut self) -> Option<Self::Item> {
        let is_other = match (self.one.peek(), self.other.peek()) {
            (Some((one, _)), Some((other, _))) => other < one,
            (one, _) => one.is_none(),
        };
        if is_other { self.other.next() } else { self.one.next() }
    }
}

/// Length of a check.
const CHECK_LEN: usize = size_of::<Check>();
/// Bytes of a journal that are read at a time,
const WINDOW: usize = 1 << 20;
/// and written.
const PART: usize = 4 << 20;
