//! What goes in comes out as the way says.

use super::*;
use crate::passes::Passes;

const MS: Duration = Duration::from_millis(1);

fn t(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// 8 Mbit/s: a packet of 1000 bytes takes a millisecond.
fn way() -> Way {
    Way::new(8_000_000, 100 * MS)
}

/// Offers a packet each millisecond; when each arrived, by its number.
fn arrivals(channel: &mut Channel, packets: u64) -> Vec<(u64, Instant)> {
    let mut out = Vec::new();
    for n in 0..packets {
        let mut packet = vec![0; 1000];
        packet[..8].copy_from_slice(&n.to_le_bytes());
        channel.offer(&packet, t(n));
    }
    while let Some(at) = channel.poll_timeout() {
        let packet = channel.poll(at).unwrap();
        assert!(channel.poll_timeout().is_none_or(|next| next >= at));
        // One that was cut may have lost its number.
        out.push((packet.first_chunk().map_or(u64::MAX, |n| u64::from_le_bytes(*n)), at));
    }
    out
}

#[test]
fn packets_leave_one_behind_the_other_and_those_that_would_wait_too_long_are_dropped() {
    let mut channel = Channel::new(Way { queue: 5 * MS, ..way() }, 1);
    (0..10).for_each(|_| channel.offer(&[0; 1000], t(0)));
    assert_eq!((channel.tally().overflowed, channel.backlog(t(0))), (4, 6 * MS));
    assert_eq!(channel.poll(t(100)), None);
    for ms in 101..=106 {
        assert_eq!(channel.poll_timeout(), Some(t(ms)));
        assert_eq!(channel.poll(t(ms)), Some(vec![0; 1000]));
    }
    assert_eq!(channel.poll_timeout(), None);
    let tally = channel.tally();
    assert_eq!((tally.offered, tally.delivered, tally.len_delivered), (10, 6, 6000));
}

#[test]
fn losses_have_their_share_and_spells_their_length() {
    for spell in [Duration::ZERO, 20 * MS] {
        let mut channel = Channel::new(way().losing(0.05, spell), 7);
        let there: Vec<u64> = arrivals(&mut channel, 200_000).into_iter().map(|(n, _)| n).collect();
        let lost = channel.tally().lost;
        assert!((8_500..11_500).contains(&lost), "{lost} of 200000 in spells of {spell:?}");
        let gaps = there.windows(2).filter(|pair| pair[1] > pair[0] + 1).count();
        let mean = lost as f64 / gaps as f64;
        let expected = if spell.is_zero() { 1.0..1.1 } else { 18.0..23.0 };
        assert!(expected.contains(&mean), "{mean} in spells of {spell:?}");
    }
}

#[test]
fn packets_are_turned_doubled_and_overtaken_as_often_as_was_said() {
    let way = Way { corrupted: 0.01, duplicated: 0.02, jitter: 10 * MS, ..way() };
    let mut channel = Channel::new(way, 3);
    let there = arrivals(&mut channel, 50_000);
    let tally = channel.tally();
    assert!((400..600).contains(&tally.corrupted), "{tally:?}");
    assert!((850..1150).contains(&tally.duplicated), "{tally:?}");
    assert_eq!(there.len() as u64, 50_000 + tally.duplicated);
    let overtaken = there.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    assert!(overtaken > 5_000, "{overtaken}");
}

#[test]
fn nothing_passes_outside_contacts_and_in_blackouts_but_what_is_in_flight_arrives() {
    let passes = Passes { seed: 1, first: t(0), every: 1000 * MS, open: 500 * MS, missed: 0.0, cut: 0.0 };
    let way = Way { passes: Some(passes), dark: vec![(t(1100), t(1200))], ..way() };
    let mut channel = Channel::new(way, 1);
    let there: Vec<u64> = arrivals(&mut channel, 2000).into_iter().map(|(n, _)| n).collect();
    // The one that leaves when the contact closes is lost.
    let passed: Vec<u64> = (0..499).chain(999..1099).chain(1199..1499).chain([1999]).collect();
    assert_eq!(there, passed);
    assert_eq!(channel.tally().shut, 2000 - 900);
    assert_eq!(
        [0, 600, 1000, 1150].map(|ms| channel.turns_after(t(ms))),
        [500, 1000, 1100, 1200].map(|ms| Some(t(ms)))
    );
}

#[test]
fn a_seed_is_one_run_and_one_mishap_more_moves_no_other() {
    let lossy = || Way { jitter: 3 * MS, ..way().losing(0.1, 5 * MS) };
    let run = |way: Way, seed| arrivals(&mut Channel::new(way, seed), 2000);
    assert_eq!(run(lossy(), 5), run(lossy(), 5));
    assert_ne!(run(lossy(), 5), run(lossy(), 6));
    let lost = |way: Way| {
        let mut channel = Channel::new(way, 5);
        let numbers: Vec<u64> = arrivals(&mut channel, 2000).into_iter().map(|(n, _)| n).collect();
        (0..2000).filter(|n| !numbers.contains(n)).collect::<Vec<u64>>()
    };
    assert_eq!(lost(lossy()), lost(Way { duplicated: 0.5, ..lossy() }));
}
