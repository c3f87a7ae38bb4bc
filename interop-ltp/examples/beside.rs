//! One block of 8 MiB over a link to the Moon, sent by our LTP and by `licklider-core`, each to the other: when it is there.
//!
//! Run with `cargo run --release --example beside` in this folder. RTT 2.56 s, 20 Mbit/s both ways with a queue that drops nothing, independent
//! losses both ways, three seeds of blocks.

use std::time::Duration;

use interop_ltp::{Plan, block, transfer};

fn main() {
    println!("{:>6} {:>12} {:>14}", "loss", "ours sends s", "theirs sends s");
    for lose_one_in in [0, 100, 20, 10] {
        let [mut ours, mut theirs] = [Vec::new(), Vec::new()];
        for seed in 1..=3 {
            let plan = Plan { lose_one_in, light: LIGHT, rate_bit_s: Some(20_000_000), ..Plan::default() };
            let there = transfer(&Plan { there: vec![block(seed, LEN)], ..plan.clone() });
            let back = transfer(&Plan { back: vec![block(seed, LEN)], ..plan });
            assert!(there.there == [block(seed, LEN)] && back.back == [block(seed, LEN)]);
            ours.extend(there.arrived[0]);
            theirs.extend(back.arrived[1]);
        }
        let middle = |mut all: Vec<Duration>| {
            all.sort();
            all[all.len() / 2].as_secs_f64()
        };
        let loss = if lose_one_in == 0 { "0".into() } else { format!("{} %", 100 / lose_one_in) };
        println!("{loss:>6} {:>12.1} {:>14.1}", middle(ours), middle(theirs));
    }
}

const LEN: usize = 8 << 20;
const LIGHT: Duration = Duration::from_millis(1280);
