//! LTP in virtual time: what share of a lossy link the blocks get, and how long the last one takes.
//!
//! Why: figures that need no link and no root, beside those of the native mode (example `virtual`). `T = B / (share · (1 − p) · rate)
//! + RTT`, first datagram sent to last report in hand, is what nobody can beat; LTP needs a round trip more for what was lost.
//! Run with `cargo run --release -p lavatube-link --example ltp_virtual`.

#[path = "../tests/ltp_world/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod ltp_world;
#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use lavatube_base::Instant;
use ltp_world::Dark;
use world::{Way, s};

const RTT_S: f64 = 2.6;
const SHARE: f64 = 1457.0 / 1500.0;

struct Case {
    blocks: u64,
    block_len: usize,
    /// In Mbit/s, there and back.
    rates: (u64, u64),
    loss: f64,
    burst: f64,
}

fn main() {
    println!(
        "{:<34} {:>5} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>10} {:>10}",
        "case", "loss", "burst", "T s", "took s", "there s", "ratio", "worst", "sent/need", "sent/least"
    );
    for block_len in [1 << 20, 8 << 20] {
        let blocks = (256 << 20) / block_len as u64;
        for loss in [0.0, 0.01, 0.05, 0.1] {
            show(&Case { blocks, block_len, rates: (100, 100), loss, burst: 1.0 }, 3);
        }
        show(&Case { blocks, block_len, rates: (100, 100), loss: 0.02, burst: 50.0 }, 3);
    }
    for loss in [0.0, 0.01, 0.05, 0.1] {
        show(&Case { blocks: 1, block_len: 8 << 20, rates: (20, 2), loss, burst: 1.0 }, 20);
    }
    for loss in [0.0, 0.01, 0.1] {
        show(&Case { blocks: 50, block_len: 1_000_000, rates: (20, 2), loss, burst: 1.0 }, 5);
    }
}

/// The median and the worst of some seeds.
fn show(case: &Case, seeds: u64) {
    let mut runs: Vec<(f64, f64, f64)> = (0..seeds).map(|seed| run(case, seed)).collect();
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (took, there, _) = runs[runs.len() / 2];
    let worst = runs[runs.len() - 1].0;
    let sent = runs.iter().map(|run| run.2).sum::<f64>() / runs.len() as f64;
    let bits = case.blocks as f64 * case.block_len as f64 * 8.0;
    let ideal = bits / (SHARE * (1.0 - case.loss) * case.rates.0 as f64 * 1e6) + RTT_S;
    let name = format!("{} x {} KiB at {}/{} Mbit/s", case.blocks, case.block_len >> 10, case.rates.0, case.rates.1);
    println!(
        "{name:<34} {:>5} {:>6} {ideal:>8.3} {took:>8.3} {there:>8.3} {:>7.4} {:>7.4} {sent:>10.4} {:>10.4}",
        case.loss,
        case.burst,
        took / ideal,
        worst / ideal,
        sent / (1.0 - case.loss),
    );
}

/// Seconds until the sender knows that the last block is there, and until it was there; bytes sent over bytes that had to be.
fn run(case: &Case, seed: u64) -> (f64, f64, f64) {
    let spell = if case.burst > 1.0 { s(case.burst * 1500.0 * 8.0 / (case.rates.0 as f64 * 1e6)) } else { s(0.0) };
    let channel = Way::new(u64::MAX, s(RTT_S / 2.0)).losing(case.loss, spell);
    let (up, down) = (case.rates.0 * 1_000_000, case.rates.1 * 1_000_000);
    let mut dark = Dark::new(seed, [channel.clone(), channel], [up, down], |_| {});
    let start = dark.now;
    for key in 0..case.blocks {
        dark.send(0, key, case.block_len, true);
    }
    let done = dark.run(Instant(u64::MAX), Dark::is_delivered);
    assert!(done, "stuck: {:?}", dark.engines[0].status());
    let need = case.blocks as f64 * case.block_len as f64 / SHARE / (1.0 - case.loss);
    let there = dark.received[1].values().max().expect("blocks").since(start).as_secs_f64();
    (dark.now.since(start).as_secs_f64(), there, dark.len_sent[0] as f64 / need)
}
