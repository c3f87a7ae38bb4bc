//! How fast LTP is over real sockets of this machine, and what a bit costs.
//!
//! Why: HDTN publishes 2.4 Gbit/s for a transfer of files by LTP. Two engines in this process, each on its thread and socket; blocks in
//! memory, datagrams of a 1500-byte packet. LTP has no congestion control: the rate is what one sets, and above what the machine
//! can do its own receive buffer loses the rest; so several rates are tried. Run with
//! `cargo run --release -p lavatube-node --example ltp_speed -- [MIB] [GBIT_S…]`.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lavatube_format::ltp::BUNDLES;
use lavatube_link::ltp::{Block, Event, PeerConfig, SendError, Totals};
use lavatube_node::ltp_port::LtpPort;

const BLOCK_LEN: usize = 8 << 20;
const WAIT: Duration = Duration::from_millis(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let blocks = args.next().map_or(Ok(2048), |mib| mib.parse::<usize>())? * (1 << 20) / BLOCK_LEN;
    let rates = args.map(|rate| rate.parse::<f64>()).collect::<Result<Vec<_>, _>>()?;
    let rates = if rates.is_empty() { vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0] } else { rates };
    println!("{:>10} {:>10} {:>12} {:>12} {:>10}", "Gbit/s set", "Gbit/s", "near CPU s", "far CPU s", "sent/need");
    for rate in rates {
        measure(blocks, (rate * 1e9) as u64)?;
    }
    println!(
        "Gbit/s of blocks, {} MiB each, from the first byte to the last report; CPU is the kernel's, too",
        BLOCK_LEN >> 20
    );
    Ok(())
}

fn measure(blocks: usize, rate: u64) -> Result<(), Box<dyn Error>> {
    let (mut near, mut far) =
        (LtpPort::open(1, &[BUNDLES], "127.0.0.1:0")?, LtpPort::open(2, &[BUNDLES], "127.0.0.1:0")?);
    let address = |port: &LtpPort| port.address().map(|at| at.to_string()).ok_or("no address");
    near.add_peer(PeerConfig::new(2, Duration::from_micros(100)), &address(&far)?)?;
    far.add_peer(PeerConfig::new(1, Duration::from_micros(100)), &address(&near)?)?;
    near.contact_opened(2, rate);
    far.contact_opened(1, rate);
    let stop = AtomicBool::new(false);
    let (took, near_cpu, totals, far_cpu) = std::thread::scope(|scope| -> Result<_, String> {
        let far = scope.spawn(|| receive(far, &stop));
        let result = send(near, blocks);
        stop.store(true, Ordering::Relaxed);
        let far_cpu = far.join().map_err(|_| "the far end")?;
        result.map(|(took, cpu, totals)| (took, cpu, totals, far_cpu))
    })?;
    let len = (blocks * BLOCK_LEN) as f64;
    println!(
        "{:>10.1} {:>10.2} {near_cpu:>12.2} {far_cpu:>12.2} {:>10.3}",
        rate as f64 / 1e9,
        len * 8.0 / 1e9 / took.as_secs_f64(),
        totals.len_sent as f64 / (len * 1500.0 / 1457.0)
    );
    Ok(())
}

fn send(mut port: LtpPort, blocks: usize) -> Result<(Duration, f64, Totals), String> {
    let mut word = 1u64;
    let mut bytes = vec![0; BLOCK_LEN];
    for chunk in bytes.chunks_exact_mut(8) {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&word.rotate_left(32).to_le_bytes());
    }
    let (begin, ran, mut submitted, mut delivered) = (Instant::now(), ran_s(), 0, 0);
    while delivered < blocks {
        // A few at a time: the blocks are made while others are on their way, as a store would read them.
        while submitted < blocks && submitted < delivered + AHEAD {
            match port.send(2, Block::bundles(submitted as u64, bytes.clone())) {
                Ok(()) => submitted += 1,
                Err(SendError::Full) => break,
                Err(e) => return Err(e.to_string()),
            }
        }
        port.pump(WAIT).map_err(|e| e.to_string())?;
        while let Some(event) = port.event() {
            match event {
                Event::Delivered { .. } => delivered += 1,
                other => return Err(format!("{other:?}")),
            }
        }
    }
    Ok((begin.elapsed(), ran_s() - ran, port.status().peers[0].totals))
}

/// Takes blocks until it is told to stop; the seconds of a core that it took.
fn receive(mut port: LtpPort, stop: &AtomicBool) -> f64 {
    let ran = ran_s();
    while !stop.load(Ordering::Relaxed) && port.pump(WAIT).is_ok() {
        while let Some(event) = port.event() {
            if let Event::Received { bytes, .. } = event {
                assert_eq!(bytes.len(), BLOCK_LEN);
            }
        }
    }
    ran_s() - ran
}

/// Seconds this thread had a core.
fn ran_s() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// Blocks under way.
const AHEAD: usize = 16;
