//! Thousands of links in virtual time, each from one seed: whatever the dark does, the blocks arrive, once and exact.
//!
//! A seed that fails is named.

mod world;

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_link::{Contact, ContactPlan, Line, OneWay};
use world::{Chance, Way, World, counted_lost, s};

/// How many links are drawn: fewer where the code is slow.
const SEEDS: u64 = if cfg!(debug_assertions) { 300 } else { 3000 };
const CALM: Instant = Instant(u64::MAX);

fn delivered(world: &mut World, within: Duration) -> bool {
    let until = world.now + within;
    world.run(until, World::is_delivered)
}

fn all_as_sent(world: &World) {
    for (which, node) in world.nodes.iter().enumerate() {
        let link = world.link(which);
        assert_eq!(node.stored.len(), world.nodes[1 - which].spool.len());
        assert_eq!(node.received_twice, 0);
        assert_eq!((link.totals().malformed, link.totals().damaged), (0, 0));
        assert!(link.status(world.now).outgoing.is_empty());
    }
}

/// A link of which everything is drawn.
fn drawn(chance: &mut Chance) -> Way {
    let loss = if chance.hits(0.2) { 0.0 } else { 0.3 * chance.share() };
    let slot = Duration::from_micros(100 + chance.below(5000));
    let spell = if chance.hits(0.5) { Duration::ZERO } else { slot.mul_f64(1.0 + 60.0 * chance.share()) };
    let light = s(0.002 + 1.4 * chance.share());
    // Some links are slower than their plan says.
    let rate = if chance.hits(0.8) { u64::MAX } else { 150_000 + chance.below(30_000_000) };
    Way {
        duplicated: if chance.hits(0.3) { 0.2 * chance.share() } else { 0.0 },
        corrupted: if chance.hits(0.3) { 0.01 * chance.share() } else { 0.0 },
        jitter: if chance.hits(0.3) { s(10.0 * chance.share().powi(3)) } else { Duration::ZERO },
        ..Way::new(rate, light).losing(loss, spell)
    }
}

/// Windows with gaps, or always, with a rate.
fn plan(chance: &mut Chance) -> ContactPlan {
    let rate = 200_000 + chance.below(30_000_000);
    if chance.hits(0.6) {
        return ContactPlan::always(rate, rate);
    }
    let (mut at, mut contacts) = (0.0, Vec::new());
    for _ in 0..400 {
        let (gap, len) = (60.0 * chance.share(), 5.0 + 60.0 * chance.share());
        let budget = chance.hits(0.2).then(|| 10_000 + chance.below(1 << 20));
        let (start, end) = (Instant(0) + s(at + gap), Instant(0) + s(at + gap + len));
        contacts.push(Contact { start, end, rate_up_bit_s: rate, rate_down_bit_s: rate, light: None, budget });
        at += gap + len;
    }
    ContactPlan::new(contacts).expect("windows in order")
}

#[test]
fn every_seed_ends_complete() {
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed, 5);
        let ways = [drawn(&mut chance), drawn(&mut chance)];
        let plans = [plan(&mut chance), plan(&mut chance)];
        let mut world = World::new(seed, ways, plans, None);
        world.work = s(chance.share() * if chance.hits(0.5) { 0.5 } else { 0.0 });
        for which in 0..2 {
            // Outages of one way, up to five minutes.
            for _ in 0..chance.below(3) {
                let from = world.now + s(60.0 * chance.share());
                world.channels[which].way.dark.push((from, from + s(300.0 * chance.share().powi(2))));
            }
            for key in 0..chance.below(6) {
                let magnitude = 4 + chance.below(14);
                let len = 1 + chance.below(1 << magnitude);
                world.submit(which, key, len as usize, chance.below(3) as u8);
            }
            world.nodes[which].busy = if chance.hits(0.2) { 2 } else { 0 };
        }
        // Either may die twice in the middle of it.
        for _ in 0..chance.below(3) {
            let until = world.now + s(20.0 * chance.share());
            if world.run(until, |_| false) {
                break;
            }
            let which = chance.below(2) as usize;
            let store = world.kill(which);
            let until = world.now + s(10.0 * chance.share());
            world.run(until, |_| false);
            world.revive_with(which, store);
        }
        assert!(
            delivered(&mut world, s(24.0 * 3600.0)),
            "seed {seed}: {:#?}",
            world.nodes.each_ref().map(|n| n.link.as_ref().map(|l| l.status(world.now)))
        );
        all_as_sent(&world);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || {
        let mut chance = Chance::new(7, 5);
        let ways = [drawn(&mut chance), drawn(&mut chance)];
        let mut world = World::new(
            7,
            ways,
            [ContactPlan::always(9_000_000, 9_000_000), ContactPlan::always(900_000, 900_000)],
            None,
        );
        (0..5).for_each(|key| world.submit(0, key, 50_000, 1));
        assert!(delivered(&mut world, s(3600.0)));
        (world.now, world.nodes[0].len_sent, world.nodes[1].len_sent)
    };
    assert_eq!(run(), run());
}

/// A megabyte a block at 20 Mbit/s up to the Moon.
fn moon(loss: f64) -> World {
    let way = Way::new(u64::MAX, s(1.3)).losing(loss, Duration::ZERO);
    let plans = [ContactPlan::always(20_000_000, 2_000_000), ContactPlan::always(2_000_000, 20_000_000)];
    World::new(1, [way.clone(), way], plans, None)
}

/// Sixteen blocks; symbols that arrived and were not needed, and all that were.
fn needless(dies: Option<(usize, f64)>) -> (u64, u64) {
    let mut world = moon(0.0);
    // Without a loss to provide for, whatever is needless was sent again.
    let store = world.kill(0);
    world.nodes[0].config.loss = 0.0;
    world.revive_with(0, store);
    (0..16).for_each(|key| world.submit(0, key, 1 << 20, 1));
    if let Some((which, after)) = dies {
        let until = world.now + s(after);
        world.run(until, |_| false);
        let before = world.link(1).totals().symbols_needless;
        let store = world.kill(which);
        let until = world.now + s(5.0);
        world.run(until, |_| false);
        world.revive_with(which, store);
        assert!(delivered(&mut world, s(300.0)), "{which} after {after} s");
        all_as_sent(&world);
        let totals = world.link(1).totals();
        return (totals.symbols_needless + if which == 1 { before } else { 0 }, 16 * (1u64 << 20).div_ceil(1436));
    }
    assert!(delivered(&mut world, s(300.0)));
    (world.link(1).totals().symbols_needless, 16 * (1u64 << 20).div_ceil(1436))
}

#[test]
fn either_end_may_die_at_any_moment_and_hardly_a_byte_is_sent_again() {
    let (undisturbed, symbols) = needless(None);
    for which in 0..2 {
        for after in [0.3, 1.7, 3.1, 4.9, 8.2] {
            let (needless, _) = needless(Some((which, after)));
            assert!(
                needless.saturating_sub(undisturbed) * 100 <= symbols,
                "{which} after {after} s: {needless}, {undisturbed}"
            );
        }
    }
}

#[test]
fn an_hour_of_darkness_costs_time_and_few_bytes() {
    let mut world = moon(0.01);
    (0..64).for_each(|key| world.submit(0, key, 1 << 20, 1));
    let from = world.now + s(3.0);
    for channel in &mut world.channels {
        channel.way.dark.push((from, from + s(3600.0)));
    }
    let until = from + s(3600.0);
    world.run(until, |_| false);
    assert_eq!(world.link(0).status(world.now).line, Line::Silent);
    let in_the_dark = world.nodes[0].len_sent;
    assert!(delivered(&mut world, s(120.0)));
    all_as_sent(&world);
    // Three seconds of light, and one round trip and a half of hope.
    assert!(in_the_dark < 20 << 20, "{in_the_dark}");
    let totals = world.link(1).totals();
    assert!(totals.symbols_needless * 50 <= totals.symbols_received, "{totals:?}");
}

#[test]
fn the_most_precious_goes_first_even_when_it_comes_last() {
    let mut world = moon(0.0);
    (0..8).for_each(|key| world.submit(0, key, 4 << 20, 5));
    let until = world.now + s(1.0);
    world.run(until, |_| false);
    world.submit(0, 99, 4096, 0);
    let until = world.now + s(3.0);
    world.run(until, |_| false);
    assert!(world.nodes[0].delivered.contains(&99) && world.nodes[0].delivered.len() == 1);
}

#[test]
fn nothing_is_sent_outside_a_window_nor_beyond_its_budget() {
    let plan =
        ContactPlan::new(vec![contact(5.0, 6.0, None), contact(10.0, 12.0, Some(100_000)), contact(20.0, 60.0, None)])
            .unwrap();
    let way = Way::new(u64::MAX, s(0.1));
    let mut world = World::new(3, [way.clone(), way], [plan, ContactPlan::always(8_000_000, 0)], None);
    (0..4).for_each(|key| world.submit(0, key, 1 << 20, 1));
    let sent = |world: &mut World, until: f64| {
        world.run(Instant(0) + s(until), |_| false);
        world.nodes[0].len_sent
    };
    assert_eq!(sent(&mut world, 4.99), 0);
    let first = sent(&mut world, 6.0);
    assert!((1_000_000..1_100_000).contains(&first), "{first}");
    assert_eq!(sent(&mut world, 9.99), first);
    let second = sent(&mut world, 19.99) - first;
    assert!((98_000..=100_000).contains(&second), "{second}");
    assert!(delivered(&mut world, s(40.0)));
}

#[test]
fn a_busy_receiver_pushes_back_and_nothing_is_lost() {
    let mut world = moon(0.05);
    world.nodes[1].busy = 5;
    (0..4).for_each(|key| world.submit(0, key, 1 << 20, 1));
    assert!(delivered(&mut world, s(600.0)));
    all_as_sent(&world);
}

#[test]
fn a_rate_that_nobody_wrote_down_is_found_out() {
    for (mbit_s, loss) in [(20, 0.0), (20, 0.05), (100, 0.01)] {
        let ways = [mbit_s, 5]
            .map(|mbit| Way { own_len: 28, ..Way::new(mbit * 1_000_000, s(0.3)).losing(loss, Duration::ZERO) });
        let plans = [ContactPlan::always(1_000_000_000, 5_000_000), ContactPlan::always(5_000_000, 1_000_000_000)];
        let mut world = World::new(4, ways, plans, None);
        let store = world.kill(0);
        world.nodes[0].config.governed = true;
        world.revive_with(0, store);
        let blocks = mbit_s * 3;
        (0..blocks).for_each(|key| world.submit(0, key, 1 << 20, 1));
        let begin = world.now;
        assert!(delivered(&mut world, s(200.0)));
        all_as_sent(&world);
        let ideal = (blocks << 20) as f64 * 8.0 / (0.956 * (1.0 - loss) * mbit_s as f64 * 1e6);
        let took = world.now.since(begin).as_secs_f64();
        let tally = world.channels[0].tally();
        // Some seconds of finding out, then all of it; and hardly a packet dropped by a full queue.
        assert!(took < 1.05 * ideal + 7.0, "{mbit_s} {loss}: {took} {ideal} {tally:?}");
        assert!(tally.overflowed * 50 <= tally.offered, "{mbit_s} {loss}: {tally:?}");
    }
}

#[test]
fn one_way_blocks_arrive_without_a_word_coming_back() {
    let one_way = OneWay { loss: 0.05, burst: 1.0, failure: 1e-4, repeats: 0 };
    let mut dead = Way::new(u64::MAX, s(0.01));
    dead.dark.push((Instant(0), CALM));
    let ways = [Way::new(u64::MAX, s(0.3)).losing(0.05, Duration::ZERO), dead];
    let plans = [ContactPlan::always(50_000_000, 0), ContactPlan::always(1, 50_000_000)];
    let mut world = World::new(5, ways, plans, Some(one_way));
    (0..300).for_each(|key| world.submit(0, key, 100_000, 1));
    assert!(world.run(CALM, |world| world.nodes[0].spent.len() == 300));
    let until = world.now + s(1.0);
    world.run(until, |_| false);
    assert_eq!(world.nodes[1].stored.len(), 300);
}

/// Blocks of which many are to be lost: the engine loses as many as counting says, and no more than is stated.
#[test]
fn one_way_blocks_are_lost_as_often_as_they_are_counted_to_be() {
    // Their symbols leave room for an announcement beside each, so that a datagram is a symbol.
    const BLOCKS: u64 = 600;
    const LEN: usize = 18_000;
    let slot = s(1485.0 * 8.0 / 50e6);
    for (loss, burst) in [(0.1f64, 1.0), (0.15, 4.0)] {
        let one_way = OneWay { loss, burst, failure: 0.8, repeats: 0 };
        let margin = one_way.margin(LEN as u64).unwrap();
        // A spell in continuous time whose bursts, slot by slot, have that mean length.
        let decay = -(1.0 - 1.0 / (burst * (1.0 - loss))).ln();
        let spell = if burst > 1.0 { slot.div_f64(decay * (1.0 - loss)) } else { Duration::ZERO };
        let out = Way { own_len: 28, ..Way::new(50_000_000, s(0.3)).losing(loss, spell) };
        let mut dead = Way::new(u64::MAX, s(0.01));
        dead.dark.push((Instant(0), CALM));
        let plans = [ContactPlan::always(50_000_000, 0), ContactPlan::always(1, 50_000_000)];
        let mut world = World::new(11, [out, dead], plans, Some(one_way));
        (0..BLOCKS).for_each(|key| world.submit(0, key, LEN, 1));
        assert!(world.run(CALM, |world| world.nodes[0].spent.len() as u64 == BLOCKS));
        let until = world.now + s(1.0);
        world.run(until, |_| false);
        let lost = 1.0 - world.nodes[1].stored.len() as f64 / BLOCKS as f64;
        let counted = counted_lost(loss, burst, margin.needed, margin.sent, 40_000, &mut Chance::new(5, 0));
        let counted = counted as f64 / 40_000.0;
        let deviation = (counted * (1.0 - counted) / BLOCKS as f64).sqrt();
        assert!((lost - counted).abs() < 4.0 * deviation, "{lost} {counted} {deviation}");
        assert!(counted > 0.02 && counted < margin.failure, "{counted} {margin:?}");
    }
}

#[test]
fn one_way_blocks_are_sent_once_more_in_the_next_contact() {
    let plan = ContactPlan::new(vec![contact(2.0, 12.0, None), contact(100.0, 110.0, None)]).unwrap();
    let mut out = Way::new(u64::MAX, s(0.3)).losing(0.05, Duration::ZERO);
    out.dark.push((Instant(0), Instant(0) + s(50.0)));
    let one_way = OneWay { loss: 0.05, burst: 1.0, failure: 1e-4, repeats: 1 };
    let mut world = World::new(5, [out, Way::new(u64::MAX, s(0.3))], [plan, ContactPlan::default()], Some(one_way));
    (0..10).for_each(|key| world.submit(0, key, 100_000, 1));
    let arrived = |world: &World| world.nodes[0].spent.len() == 10 && world.nodes[1].stored.len() == 10;
    let all = world.run(Instant(0) + s(120.0), arrived);
    let status = world.link(0).status(world.now);
    assert!(all, "{:?} {} {status:?}", world.nodes[0].spent, world.nodes[1].stored.len());
}

fn contact(from: f64, to: f64, budget: Option<u64>) -> Contact {
    let (start, end) = (Instant(0) + s(from), Instant(0) + s(to));
    Contact { start, end, rate_up_bit_s: 8_000_000, rate_down_bit_s: 8_000_000, light: None, budget }
}
