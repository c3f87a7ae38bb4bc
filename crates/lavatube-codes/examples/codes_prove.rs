//! Prints how fast this machine proves and tags, in GB/s of one core.
//!
//! Why: the figures of an audit in `docs/decisions/0014-audit.md` need something to come from. What it must not know:
//! anything but the crate's public face. Run with `cargo run --release -p lavatube-codes --example codes_prove`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use lavatube_codes::{Polyval, Sums, sums_engine_name};

fn main() {
    println!("engine: {}", sums_engine_name());
    let (block, object) = (16 << 10, 64 << 20);
    let bytes: Vec<u8> = (0..object).map(|i: usize| (i * 7 + i / 251) as u8).collect();
    let weights: Vec<u128> = (1..).map(|i: u128| i.wrapping_mul(u128::MAX / 11)).take(object / block).collect();
    let mut sums = Sums::new(block);
    let prove = rate(object, || sums.add(black_box(&weights), black_box(&bytes)));
    let hash = Polyval::new(weights[3], block);
    let tag = rate(object, || {
        for block in black_box(&bytes).chunks(block) {
            black_box(hash.of(block));
        }
    });
    black_box(sums.sum());
    println!("prove {prove:.1} GB/s, tag {tag:.1} GB/s (64 MiB from memory)");
}

/// Bytes a nanosecond over at least half a second, the best of three.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        let (start, mut rounds) = (Instant::now(), 0usize);
        while start.elapsed() < Duration::from_millis(500) {
            work();
            rounds += 1;
        }
        best = best.max((rounds * bytes) as f64 / start.elapsed().as_nanos() as f64);
    }
    best
}
