//! In which order snapshots were taken, as far as that can be known.
//!
//! A clock may be wrong; a manifest cannot name one that did not exist yet, nor a snapshot its parent. So what follows
//! another is newer, and times decide only between snapshots that do not know of each other: those of two depositors, or
//! of two ends of one chain. The newest is looked for first: a clock that once was years ahead then does not hide what
//! others took since. It must not know what snapshots hold.

use std::collections::{BTreeMap, BinaryHeap};

use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, ObjectId};

use super::Listed;
use crate::vaulted::Sessions;

/// Sorts snapshots, oldest first.
pub(super) fn oldest_first(sessions: &Sessions<'_>, snapshots: &mut [Listed]) {
    let mut nodes: Vec<Node> = sessions.all().iter().map(|v| Node::new(v.manifest.sequence, v.id)).collect();
    let mut of: BTreeMap<ChunkId, usize> = BTreeMap::new();
    for listed in &*snapshots {
        let Some(position) = sessions.position(listed.place.manifest) else { continue };
        let node = &mut nodes[position];
        node.time = node.time.max(Some(listed.snapshot.time));
        of.insert(listed.place.id, position);
    }
    //= FORMAT#F25 who follows another is newer, and a snapshot than its parent; else times decide
    link(sessions, &mut nodes);
    for listed in &*snapshots {
        let parent = listed.snapshot.parent.and_then(|parent| of.get(&parent));
        if let (Some(own), Some(parent)) = (of.get(&listed.place.id), parent)
            && own != parent
        {
            nodes[*own].after.push(*parent);
        }
    }
    let mut rank = vec![0; nodes.len()];
    for (place, node) in newest_first(&nodes).into_iter().enumerate() {
        rank[node] = nodes.len() - place;
    }
    let rank = |l: &Listed| sessions.position(l.place.manifest).map(|position| rank[position]);
    snapshots.sort_by_key(|l| (rank(l), l.snapshot.time, l.place.id));
}

/// Notes for each manifest which it follows. Where one of them is missing, or could not be read when it was made, it
/// follows at least what lies below the gap in its number.
fn link(sessions: &Sessions<'_>, nodes: &mut [Node]) {
    let all = sessions.all();
    let mut followed = vec![false; all.len()];
    let mut gaps = Vec::new();
    for (at, vaulted) in all.iter().enumerate() {
        let before: Vec<Option<usize>> = vaulted.manifest.follows().map(|id| sessions.position(id)).collect();
        let below = before.iter().flatten().map(|i| all[*i].manifest.sequence).max().unwrap_or(0);
        if before.contains(&None) || vaulted.manifest.sequence > below + 1 {
            gaps.push(at);
        }
        for before in before.into_iter().flatten() {
            followed[before] = true;
            nodes[at].after.push(before);
        }
    }
    for at in gaps {
        let m = &all[at].manifest;
        let below = |i: &usize| {
            let other = &all[*i].manifest;
            !followed[*i] && other.depositor == m.depositor && other.sequence < m.sequence
        };
        nodes[at].after.extend((0..all.len()).filter(below));
    }
}

/// A manifest.
#[derive(Debug)]
struct Node {
    /// When its snapshot was taken; `None` when it has none.
    time: Option<WallTime>,
    /// For what has no other order.
    tie: (u64, ObjectId),
    /// What it follows.
    after: Vec<usize>,
}

impl Node {
    fn new(sequence: u64, id: ObjectId) -> Self {
        Self { time: None, tie: (sequence, id), after: Vec::new() }
    }

    /// Of those that nothing left follows, the highest is next. What has no time is passed at once.
    fn weight(&self) -> (bool, Option<WallTime>, (u64, ObjectId)) {
        (self.time.is_none(), self.time, self.tie)
    }
}

/// Positions of all nodes, newest first.
fn newest_first(nodes: &[Node]) -> Vec<usize> {
    let mut followers = vec![0_usize; nodes.len()];
    nodes.iter().flat_map(|n| &n.after).for_each(|before| followers[*before] += 1);
    let free = (0..nodes.len()).filter(|i| followers[*i] == 0);
    let mut ready: BinaryHeap<_> = free.map(|i| (nodes[i].weight(), i)).collect();
    let mut placed = vec![false; nodes.len()];
    let mut out = Vec::new();
    while out.len() < nodes.len() {
        // Parents of put-together states may run in a circle: then it is cut at its newest.
        let cut = || (0..nodes.len()).filter(|i| !placed[*i]).max_by_key(|i| nodes[*i].weight());
        let Some(next) = ready.pop().map(|(_, i)| i).or_else(cut) else { break };
        if std::mem::replace(&mut placed[next], true) {
            continue;
        }
        out.push(next);
        for before in &nodes[next].after {
            followers[*before] -= 1;
            if followers[*before] == 0 {
                ready.push((nodes[*before].weight(), *before));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes of these times, each with what it follows.
    fn order(nodes: &[(i64, &[usize])]) -> Vec<usize> {
        let node = |(i, (s, after)): (usize, &(i64, &[usize]))| Node {
            time: (*s > 0).then_some(WallTime { s: *s, ns: 0 }),
            after: after.to_vec(),
            ..Node::new(i as u64, ObjectId([0; 32]))
        };
        let mut out = newest_first(&nodes.iter().enumerate().map(node).collect::<Vec<_>>());
        out.reverse();
        out
    }

    #[test]
    fn within_a_chain_its_order_counts_and_no_clock() {
        assert_eq!(order(&[(2029, &[]), (2026, &[0]), (2027, &[1])]), [0, 1, 2]);
        assert_eq!(order(&[(2026, &[]), (1970, &[0])]), [0, 1]);
    }

    #[test]
    fn between_chains_times_count_and_a_clock_that_was_ahead_hides_nothing() {
        assert_eq!(order(&[(2025, &[]), (2027, &[0]), (2024, &[]), (2026, &[2])]), [2, 0, 3, 1]);
        // The first chain's clock said 2029 once; the second chain's last is the newest.
        let all = order(&[(2029, &[]), (2026, &[0]), (2027, &[])]);
        assert_eq!(all, [0, 1, 2]);
    }

    #[test]
    fn a_session_without_a_snapshot_passes_the_order_on() {
        assert_eq!(order(&[(2029, &[]), (0, &[0]), (2026, &[1])]), [0, 1, 2]);
    }

    #[test]
    fn two_ends_are_ordered_by_time_until_one_joins_them() {
        assert_eq!(order(&[(1, &[]), (4, &[0]), (3, &[0]), (2, &[1, 2])]), [0, 2, 1, 3]);
    }

    #[test]
    fn a_circle_is_cut_and_loses_nothing() {
        let mut all = order(&[(1, &[1]), (2, &[0]), (3, &[])]);
        assert_eq!(all[2], 2);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
    }
}
