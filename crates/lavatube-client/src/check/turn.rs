//! Turns: which objects a check reads when it is not to read all of them.
//!
//! Turns follow each other around the ring of ids, so that checks of a share each come round to everything, and none is
//! read twice before all were. Ids are digests: a stretch of the ring is a fair sample. It must not know what objects hold.

use lavatube_base::ObjectId;

/// What a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Everything.
    All,
    /// The objects whose ids follow `after` on the ring, up to and with `upto`.
    Part {
        /// Where the last turn ended.
        after: ObjectId,
        /// Where this one ends.
        upto: ObjectId,
    },
}

/// An object of the vault.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The object.
    pub id: ObjectId,
    /// Its bytes.
    pub len: u64,
    /// It is a pack.
    pub is_pack: bool,
}

impl Turn {
    /// The turn that begins `after` the last one and has `share` (0 to 1) of the bytes of all objects or a little more,
    /// and at least one pack; and what share that is. `all` is in the order of ids.
    pub fn next(after: ObjectId, share: f64, all: &[Candidate]) -> (Self, f64) {
        let total: u64 = all.iter().map(|o| o.len).sum();
        let (before, behind) = all.split_at(all.partition_point(|o| o.id <= after));
        let (mut taken, mut pack) = (0, !all.iter().any(|o| o.is_pack));
        for (n, object) in behind.iter().chain(before).enumerate() {
            taken += object.len;
            pack |= object.is_pack;
            if pack && taken as f64 >= share * total as f64 && n + 1 < all.len() {
                return (Self::Part { after, upto: object.id }, taken as f64 / total as f64);
            }
        }
        (Self::All, 1.0)
    }

    /// Whether the turn has object `id`.
    pub fn has(&self, id: ObjectId) -> bool {
        match *self {
            Self::All => true,
            Self::Part { after, upto } if after < upto => after < id && id <= upto,
            Self::Part { after, upto } => after < id || id <= upto,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn objects(n: u8) -> Vec<Candidate> {
        let id = |i: u8| ObjectId([i.wrapping_mul(97); 32]);
        let mut all: Vec<_> =
            (0..n).map(|i| Candidate { id: id(i), len: 1000 + u64::from(i), is_pack: i % 3 > 0 }).collect();
        all.sort_by_key(|o| o.id);
        all
    }

    #[test]
    fn turns_come_round_to_everything_and_read_nothing_twice_before() {
        let all = objects(41);
        let (mut after, mut seen, mut turns) = (ObjectId([0; 32]), BTreeSet::new(), 0);
        while seen.len() < all.len() {
            let (next, share) = Turn::next(after, 0.1, &all);
            let Turn::Part { upto, .. } = next else { panic!("a tenth is no whole") };
            assert!((0.1..0.13).contains(&share), "{share}");
            let again = all.iter().filter(|o| next.has(o.id) && !seen.insert(o.id)).count();
            assert!(again == 0 || seen.len() == all.len(), "only the last turn goes on into the next round");
            (after, turns) = (upto, turns + 1);
        }
        assert!(turns <= 10);
    }

    #[test]
    fn a_turn_has_a_pack_and_all_is_all() {
        let all = objects(9);
        for after in 0..=255 {
            let (turn, share) = Turn::next(ObjectId([after; 32]), 1e-6, &all);
            assert!(all.iter().any(|o| o.is_pack && turn.has(o.id)) && share > 0.0);
            assert_eq!(Turn::next(ObjectId([after; 32]), 1.0, &all), (Turn::All, 1.0));
        }
        assert_eq!(Turn::next(ObjectId([0; 32]), 0.5, &[]), (Turn::All, 1.0));
    }
}
