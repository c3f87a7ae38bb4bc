//! Where in the journal each pack is spoken of: eight bytes a record.
//!
//! A vault may keep 10^8 packs, and what the journal says of each is ten times as long as what there is memory for. So only where it says
//! it is known here, by the beginning of the pack's id, and whoever looks for a pack reads those few records. Ids are hashes: their beginnings
//! are even, and a wrong guess costs one more record to be read. It must not know what records say. Steps 16 and 20 of the walk.

use std::ops::Range;

use lavatube_base::ObjectId;

/// The places of records, by the beginning of the id that they are about, and then in the order of the journal.
#[derive(Debug)]
pub(crate) struct Mentions {
    /// Bits of an id that tell its bucket.
    bits: u32,
    /// In each, sorted: 24 bits of the id, and 40 of the place.
    buckets: Vec<Vec<u64>>,
    len: usize,
}

impl Default for Mentions {
    fn default() -> Self {
        Self { bits: BITS_MIN, buckets: vec![Vec::new(); 1 << BITS_MIN], len: 0 }
    }
}

impl Mentions {
    /// Notes that the record at `place` is about `id`.
    pub(crate) fn insert(&mut self, id: ObjectId, place: u64) {
        debug_assert!(place <= PLACE_MAX, "journals are not longer than JOURNAL_LEN_MAX");
        if self.len >= self.buckets.len() * USUAL && self.bits < BITS_MAX {
            self.split();
        }
        let bucket = self.bucket_of(id);
        let bucket = &mut self.buckets[bucket];
        let mention = beginning(id) << PLACE_BITS | place.min(PLACE_MAX);
        if let Err(at) = bucket.binary_search(&mention) {
            if bucket.len() == bucket.capacity() {
                // Doubled, half of it would be in vain.
                bucket.reserve_exact(GROWTH);
            }
            bucket.insert(at, mention);
            self.len += 1;
        }
    }

    /// Places of records that may be about `id`, in the order of the journal.
    pub(crate) fn of(&self, id: ObjectId) -> impl ExactSizeIterator<Item = u64> + '_ {
        let bucket = &self.buckets[self.bucket_of(id)];
        let from = bucket.partition_point(|mention| mention >> PLACE_BITS < beginning(id));
        let len = bucket[from..].partition_point(|mention| mention >> PLACE_BITS == beginning(id));
        bucket[from..from + len].iter().map(|mention| mention & PLACE_MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Buckets from that of `id` on: their ids come one after the other.
    pub(crate) fn buckets_from(&self, id: ObjectId) -> Range<usize> {
        self.bucket_of(id)..self.buckets.len()
    }

    /// Places of the records of one bucket.
    pub(crate) fn in_bucket(&self, bucket: usize) -> impl Iterator<Item = u64> + '_ {
        self.buckets.get(bucket).into_iter().flatten().map(|mention| mention & PLACE_MAX)
    }

    fn bucket_of(&self, id: ObjectId) -> usize {
        // At most 20 bits.
        (first_bits(id) >> (64 - self.bits)) as usize
    }

    /// Makes four buckets of each.
    fn split(&mut self) {
        self.bits += SPLIT_BITS;
        let mut buckets = Vec::with_capacity(self.buckets.len() << SPLIT_BITS);
        for bucket in std::mem::take(&mut self.buckets) {
            let mut rest = &bucket[..];
            for part in 1..=1u64 << SPLIT_BITS {
                // The bits of the beginning that tell these buckets apart.
                let shift = PLACE_BITS + BEGINNING_BITS - (self.bits - BEGINNING_FROM);
                let len = rest.partition_point(|mention| (mention >> shift) & ((1 << SPLIT_BITS) - 1) < part);
                let mut own = Vec::with_capacity(len + GROWTH);
                own.extend_from_slice(&rest[..len]);
                buckets.push(own);
                rest = &rest[len..];
            }
        }
        self.buckets = buckets;
    }
}

fn first_bits(id: ObjectId) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|at| id.0[at]))
}

/// Bits 8 to 31 of an id: those before are the bucket's in any case.
fn beginning(id: ObjectId) -> u64 {
    first_bits(id) << BEGINNING_FROM >> (64 - BEGINNING_BITS)
}

const PLACE_BITS: u32 = 40;
const PLACE_MAX: u64 = (1 << PLACE_BITS) - 1;
const BEGINNING_FROM: u32 = BITS_MIN;
const BEGINNING_BITS: u32 = 24;
const BITS_MIN: u32 = 8;
const BITS_MAX: u32 = 20;
const SPLIT_BITS: u32 = 2;
/// Mentions in a bucket, on average, before all are split.
const USUAL: usize = 512;
/// Mentions for which there is room at a time.
const GROWTH: usize = 16;

const _: () = assert!(lavatube_base::limits::JOURNAL_LEN_MAX <= PLACE_MAX);
const _: () = assert!(BITS_MAX <= BEGINNING_FROM + BEGINNING_BITS && PLACE_BITS + BEGINNING_BITS == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::Verified;

    fn id(n: u64) -> ObjectId {
        Verified::hash(&n.to_le_bytes()).id()
    }

    #[test]
    fn what_was_noted_is_found_in_the_order_of_ids_and_of_the_journal() {
        let mut mentions = Mentions::default();
        let most = 600_000;
        for n in 0..most {
            mentions.insert(id(n % (most / 2)), n * 100);
        }
        assert!(mentions.bits > BITS_MIN, "buckets were split");
        for n in 0..most / 2 {
            let of: Vec<u64> = mentions.of(id(n)).collect();
            assert!(of.is_sorted() && of.contains(&(n * 100)) && of.contains(&((n + most / 2) * 100)), "{n}: {of:?}");
            assert!(of.len() < 8, "{of:?}");
        }
        let all = mentions.buckets_from(ObjectId([0; 32])).flat_map(|bucket| mentions.in_bucket(bucket));
        let ids: Vec<ObjectId> = all.map(|place| id(place / 100 % (most / 2))).collect();
        assert_eq!(ids.len() as u64, most);
        assert!(ids.is_sorted_by_key(|id| first_bits(*id) >> 32));
        assert_eq!(mentions.buckets_from(ObjectId([255; 32])).len(), 1);
    }

    #[test]
    fn ids_that_begin_alike_are_told_apart_by_who_reads() {
        let (mut one, mut other) = ([7; 32], [7; 32]);
        (one[31], other[31]) = (1, 2);
        let mut mentions = Mentions::default();
        mentions.insert(ObjectId(other), 500);
        mentions.insert(ObjectId(one), PLACE_MAX);
        mentions.insert(ObjectId(one), 0);
        mentions.insert(ObjectId(one), 0);
        assert_eq!(mentions.of(ObjectId(one)).collect::<Vec<_>>(), [0, 500, PLACE_MAX]);
    }

    #[test]
    fn a_mention_takes_nine_bytes_or_so() {
        let mut mentions = Mentions::default();
        (0..1_000_000).for_each(|n| mentions.insert(id(n), n));
        let taken: usize = mentions.buckets.iter().map(|bucket| 24 + 16 + 8 * bucket.capacity()).sum();
        assert!(taken < 10_000_000, "{taken}");
    }
}
