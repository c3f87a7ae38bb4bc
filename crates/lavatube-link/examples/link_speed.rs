//! How fast one core drives both ends of a link at once: encoding, tags, checking, the symbol store, decoding.
//!
//! Why: the engine must not be what limits a link. No sockets: datagrams go from one machine's buffer into the other. Run with
//! `cargo run --release -p lavatube-link --example link_speed`.

#![expect(
    clippy::disallowed_methods,
    reason = "the kernel says in a file how long this thread ran; other programs' time does not count"
)]

use std::time::Instant as Stopwatch;

use lavatube_base::digest::h16;
use lavatube_base::{BlockId, Instant};
use lavatube_link::{Block, Config, ContactPlan, Event, Link, MemoryStore};

fn main() {
    println!("{:>9} {:>6} {:>10} {:>10} {:>10} {:>10}", "block", "loss", "both", "sender", "receiver", "sent/need");
    for block_len in [1 << 20, 8 << 20, 64 << 20] {
        for loss_percent in [0, 1, 10] {
            measure(block_len, loss_percent);
        }
    }
    println!("Gbit/s of blocks on one core; sender and receiver are the same run, each end's time taken alone");
}

/// Datagrams handed over at a time: about what a socket takes.
const BATCH: usize = 44;

/// Seconds this thread had a core.
fn ran_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// The far end takes datagrams in, stores what is whole, and its reports go home.
fn receive(far: &mut Link<MemoryStore>, near: &mut Link<MemoryStore>, arrived: &[&[u8]], now: &dyn Fn() -> Instant) {
    far.handle_datagrams(arrived, now());
    while let Some(job) = far.poll_job(now()) {
        far.finished(job.run(), now());
    }
    while let Some(event) = far.poll_event() {
        if let Event::Received { id, .. } = event {
            far.accepted(id, now());
        }
    }
    far.handle_timeout(now());
    let mut report = Vec::new();
    while far.poll_transmit(now(), &mut report) {
        near.handle_datagram(&report, now());
        report.clear();
    }
}

fn measure(block_len: usize, loss_percent: u64) {
    let blocks = (256 << 20) / block_len;
    let mut word = 1u64;
    let mut random = move || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    };
    let bytes: Vec<u8> = (0..block_len / 8).flat_map(|_| random().to_le_bytes()).collect();
    // Blocks differ in their first bytes; their digests are the spool's work, not the link's.
    let block = |key: u64| [&key.to_le_bytes(), &bytes[8..]].concat();
    let ids: Vec<BlockId> = (0..blocks as u64).map(|key| BlockId(h16(&[&block(key)]))).collect();

    let clock = Stopwatch::now();
    let now = || Instant(u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let plan = ContactPlan::always(100_000_000_000, 100_000_000_000);
    let out = Config::new([1; 32], [2; 32], plan.clone());
    let mut near = Link::new(out, 0..1 << 30, MemoryStore::default(), now());
    let mut far = Link::new(Config::new([2; 32], [1; 32], plan), 0..1 << 30, MemoryStore::default(), now());
    for (key, id) in (0..).zip(&ids) {
        let block = Block { key, priority: 1, len: block_len as u64, id: *id, resumed: false };
        near.submit(block).expect("a block that may be submitted");
    }
    let (mut buffer, mut ends, mut delivered) = (Vec::with_capacity(1 << 20), Vec::new(), 0);
    let (mut sending, mut receiving) = (0.0, 0.0);
    while delivered < blocks {
        while let Some(event) = near.poll_event() {
            match event {
                Event::Wanted { key } => near.supply(key, block(key)),
                Event::Delivered { .. } => delivered += 1,
                _ => {}
            }
        }
        buffer.clear();
        ends.clear();
        let start = ran_s();
        while let Some(job) = near.poll_job(now()) {
            near.finished(job.run(), now());
        }
        near.handle_timeout(now());
        near.poll_transmits(now(), &mut buffer, &mut ends, BATCH);
        sending += ran_s() - start;
        let (start, mut from) = (ran_s(), 0);
        let mut arrived = Vec::with_capacity(BATCH);
        for end in &ends {
            if random() % 100 >= loss_percent {
                arrived.push(&buffer[from..*end]);
            }
            from = *end;
        }
        receive(&mut far, &mut near, &arrived, &now);
        receiving += ran_s() - start;
    }
    let bits = (blocks * block_len * 8) as f64 / 1e9;
    let need = (blocks * block_len) as f64 / (1436.0 / 1500.0) / (1.0 - loss_percent as f64 / 100.0);
    println!(
        "{:>5} KiB {loss_percent:>4} % {:>10.2} {:>10.2} {:>10.2} {:>10.3}",
        block_len >> 10,
        bits / (sending + receiving),
        bits / sending,
        bits / receiving,
        near.totals().len_sent as f64 / need
    );
}
