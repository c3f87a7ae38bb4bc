//! Prints how fast this machine encodes and rebuilds, in GB of data (`k` shards) a second.
//!
//! Why: the figures in `docs/BENCHMARKS.md` need something to come from. What it must not know:
//! anything but the crate's public face. Run with `cargo run --release -p lavatube-codes --example codes_speed`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use lavatube_codes::{Block, Code, engine_name};

fn main() {
    println!("engine: {}", engine_name());
    println!("{:>6} {:>9} {:>8} {:>8} {:>8} {:>8}", "code", "shard", "encode", "rebuild", "one", "check");
    for (k, m) in [(4, 2), (10, 4), (20, 8), (64, 16)] {
        for kib in [64, 1024] {
            let [encode, rebuild, one, check] = measure(k, m, kib << 10);
            let code = format!("{k}+{m}");
            println!("{code:>6} {kib:>5} KiB {encode:>8.1} {rebuild:>8.1} {one:>8.1} {check:>8.1}");
        }
    }
    println!("GB/s of data. rebuild: m data shards; one: a single data shard; check: mend of a clean row");
}

fn measure(k: usize, m: usize, len: usize) -> [f64; 4] {
    let code = Code::new(k, m).expect("a shape that exists");
    let data: Vec<Vec<u8>> = (0..k).map(|j| (0..len).map(|i| (i * 7 + i / 251 + j * 31) as u8).collect()).collect();
    let views: Vec<&[u8]> = data.iter().map(|shard| &shard[..]).collect();
    let mut parity = vec![vec![0; len]; m];
    let mut out: Vec<&mut [u8]> = parity.iter_mut().map(|shard| &mut shard[..]).collect();
    let encode = rate(k * len, || code.encode(black_box(&views), &mut out));

    let lost = m.min(k);
    let all: Vec<(usize, &[u8])> = data.iter().chain(&parity).map(|shard| &shard[..]).enumerate().collect();
    let mut rebuilt = vec![vec![0; len]; lost];
    let mut want: Vec<(usize, &mut [u8])> = rebuilt.iter_mut().map(|shard| &mut shard[..]).enumerate().collect();
    let rebuild = rate(k * len, || code.rebuild(black_box(&all[lost..]), &mut want).expect("k"));
    let one = rate(k * len, || code.rebuild(black_box(&all[1..]), &mut want[..1]).expect("k"));
    assert!(rebuilt == data[..lost], "rebuilt what was lost");

    let mut blocks: Vec<Block> = all.iter().map(|(_, bytes)| Block::Sound(bytes)).collect();
    let check = rate(k * len, || assert!(code.mend(&mut blocks).expect("all").is_consistent()));
    [encode, rebuild, one, check]
}

/// Bytes a nanosecond over at least a fifth of a second, the best of three.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    work();
    let mut best: f64 = 0.0;
    for _ in 0..3 {
        let (start, mut rounds) = (Instant::now(), 0usize);
        while start.elapsed() < Duration::from_millis(200) {
            work();
            rounds += 1;
        }
        best = best.max((rounds * bytes) as f64 / start.elapsed().as_nanos() as f64);
    }
    best
}
