//! Placement: which drive gets which shard of a stripe.
//!
//! Shards of a stripe go to different drives, then as evenly as can be over shelves, then over makers; among equals a
//! hash of object and drive chooses, weighted by the drives' sizes, so that stripes and their parity spread evenly.
//! It must not know files. Step 14 of the walk.

use lavatube_base::digest::h16;
use lavatube_base::{DriveId, ObjectId};

/// A drive that can take a shard.
pub(crate) struct Candidate<'a> {
    pub(crate) slot: usize,
    pub(crate) drive: DriveId,
    pub(crate) shelf: &'a str,
    pub(crate) maker: &'a str,
    /// Size of the drive: how often it is chosen relative to others.
    pub(crate) weight: u64,
}

/// The slots of shards 0, 1, … of `object`: `shards` of them, or as many as there are candidates. `taken` are drives that
/// already hold a shard of it and stand for their shelf and maker, but are not chosen again.
pub(crate) fn place(
    object: ObjectId,
    shards: usize,
    candidates: &[Candidate<'_>],
    taken: &[Candidate<'_>],
) -> Vec<usize> {
    let mut chosen: Vec<&Candidate<'_>> = Vec::new();
    let mut rest: Vec<(&Candidate<'_>, f64)> = candidates.iter().map(|c| (c, preference(object, c))).collect();
    while chosen.len() < shards && !rest.is_empty() {
        let used =
            |same: &dyn Fn(&Candidate<'_>) -> bool| chosen.iter().copied().chain(taken).filter(|c| same(c)).count();
        let best = (0..rest.len()).min_by(|&a, &b| {
            let rank = |i: usize| {
                let c = rest[i].0;
                (used(&|o| o.shelf == c.shelf), used(&|o| o.maker == c.maker))
            };
            rank(a).cmp(&rank(b)).then(rest[a].1.total_cmp(&rest[b].1))
        });
        let Some(best) = best else { break };
        chosen.push(rest.swap_remove(best).0);
    }
    chosen.iter().map(|c| c.slot).collect()
}

/// Weighted rendezvous hashing: smaller is preferred, drives win in proportion to their weight.
fn preference(object: ObjectId, candidate: &Candidate<'_>) -> f64 {
    let hash = h16(&[&object.0, &candidate.drive.0]);
    let draw = u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]]);
    let uniform = (f64::from(draw) + 0.5) / (f64::from(u32::MAX) + 1.0);
    let gigabytes = u32::try_from(candidate.weight >> 30).unwrap_or(u32::MAX).max(1);
    -uniform.ln() / f64::from(gigabytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drives(shelves: &[&'static str], makers: &[&'static str]) -> Vec<Candidate<'static>> {
        let of = |slot: usize| Candidate {
            slot,
            drive: DriveId([u8::try_from(slot).unwrap(); 16]),
            shelf: shelves[slot % shelves.len()],
            maker: makers[slot % makers.len()],
            weight: 1 << 40,
        };
        (0..12).map(of).collect()
    }

    #[test]
    fn shards_spread_over_drives_then_shelves_then_makers() {
        let all = drives(&["a", "b", "c"], &["x", "x", "x", "y", "y", "y"]);
        for n in 0..50 {
            let slots = place(ObjectId([n; 32]), 6, &all, &[]);
            let mut distinct = slots.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), 6);
            for shelf in ["a", "b", "c"] {
                assert_eq!(slots.iter().filter(|s| all[**s].shelf == shelf).count(), 2);
            }
            for maker in ["x", "y"] {
                assert_eq!(slots.iter().filter(|s| all[**s].maker == maker).count(), 3);
            }
        }
    }

    #[test]
    fn every_drive_gets_its_share_of_first_shards() {
        let all = drives(&["a"], &["x"]);
        let mut firsts = [0; 12];
        for n in 0..1200u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_le_bytes());
            firsts[place(ObjectId(id), 6, &all, &[])[0]] += 1;
        }
        assert!(firsts.iter().all(|n| (60..150).contains(n)), "{firsts:?}");
    }
}
