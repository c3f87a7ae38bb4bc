//! The targets of the link in virtual time: what share of a lossy link the packs get, and how long the last one takes.
//!
//! Why: figures that need no link and no root. `T = B / (share · (1 − p) · rate) + RTT`, first datagram sent to last receipt
//! in hand, is what nobody can beat. Run with `cargo run --release -p lavatube-link --example virtual`.

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use lavatube_base::Instant;
use lavatube_link::ContactPlan;
use world::{Way, World, s};

const RTT_S: f64 = 2.6;
const SHARE: f64 = 1436.0 / 1500.0;

struct Case {
    blocks: u64,
    block_len: usize,
    rates: (u64, u64),
    loss: f64,
    burst: f64,
    target: f64,
}

fn main() {
    println!(
        "{:<34} {:>5} {:>6} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9}",
        "case", "loss", "burst", "T s", "took s", "ratio", "worst", "target", "sent/need"
    );
    for loss in [0.0, 0.01, 0.05, 0.1] {
        show(&Case { blocks: 32, block_len: 8 << 20, rates: (100, 100), loss, burst: 1.0, target: 1.03 }, 5);
    }
    show(&Case { blocks: 32, block_len: 8 << 20, rates: (100, 100), loss: 0.02, burst: 50.0, target: 1.10 }, 20);
    for loss in [0.0, 0.01, 0.05, 0.1] {
        show(&Case { blocks: 1, block_len: 8 << 20, rates: (20, 2), loss, burst: 1.0, target: 1.05 }, 20);
    }
    show(&Case { blocks: 1, block_len: 8 << 20, rates: (20, 2), loss: 0.02, burst: 50.0, target: f64::NAN }, 20);
    show(&Case { blocks: 4, block_len: 64 << 20, rates: (100, 100), loss: 0.05, burst: 1.0, target: 1.03 }, 1);
    show(&Case { blocks: 4096, block_len: 16 << 10, rates: (20, 2), loss: 0.05, burst: 1.0, target: f64::NAN }, 1);
}

/// The median and the worst of some seeds.
fn show(case: &Case, seeds: u64) {
    let mut runs: Vec<(f64, f64)> = (0..seeds).map(|seed| run(case, seed)).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (took, worst) = (runs[runs.len() / 2].0, runs[runs.len() - 1].0);
    let sent = runs.iter().map(|run| run.1).sum::<f64>() / runs.len() as f64;
    let bits = case.blocks as f64 * case.block_len as f64 * 8.0;
    let ideal = bits / (SHARE * (1.0 - case.loss) * case.rates.0 as f64 * 1e6) + RTT_S;
    let name = format!("{} x {} KiB at {}/{} Mbit/s", case.blocks, case.block_len >> 10, case.rates.0, case.rates.1);
    let in_time = runs.iter().filter(|run| run.0 <= ideal * case.target).count();
    let met = if case.target.is_nan() { "no target".to_owned() } else { format!("{in_time} of {seeds}") };
    println!(
        "{name:<34} {:>5} {:>6} {ideal:>8.3} {took:>8.3} {:>7.4} {:>7.4} {:>9} {sent:>9.4}   {met}",
        case.loss,
        case.burst,
        took / ideal,
        worst / ideal,
        case.target
    );
}

/// Seconds until the last block is delivered, and bytes sent over bytes that had to be.
fn run(case: &Case, seed: u64) -> (f64, f64) {
    // A burst of so many packets at the rate is a spell of that time.
    let spell = if case.burst > 1.0 { s(case.burst * 1500.0 * 8.0 / (case.rates.0 as f64 * 1e6)) } else { s(0.0) };
    let way = Way::new(u64::MAX, s(RTT_S / 2.0)).losing(case.loss, spell);
    let (up, down) = (case.rates.0 * 1_000_000, case.rates.1 * 1_000_000);
    let plans = [ContactPlan::always(up, down), ContactPlan::always(down, up)];
    let mut world = World::new(seed, [way.clone(), way], plans, None);
    let start = world.now;
    for key in 0..case.blocks {
        world.submit(0, key, case.block_len, 1);
    }
    let done = world.run(Instant(u64::MAX), World::is_delivered);
    assert!(done, "stuck: {:?}", world.nodes[0].link.as_ref().map(|link| link.status(world.now)));
    let need = case.blocks as f64 * case.block_len as f64 / SHARE / (1.0 - case.loss);
    (world.now.since(start).as_secs_f64(), world.nodes[0].len_sent as f64 / need)
}
