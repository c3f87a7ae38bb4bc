//! How fast the link is over real sockets of this machine, and what a bit costs: driver, engine, symbol files, all but the vault.
//!
//! Why: `link_speed` of `lavatube-link` has no sockets, no files, no threads. Two drivers in this process, and between them a relay that loses a
//! share of the datagrams; the CPU time of each end is that of its threads. Run with
//! `cargo run --release -p lavatube-node --example link_sockets -- FOLDER [MIB [MBIT/S [BLOCK MIB [LOSS %]]]]`; the folder should be on a disk of the sort that
//! symbols will lie on.

use std::error::Error;
use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use lavatube_base::BlockId;
use lavatube_base::digest::h16;
use lavatube_base::sign::PairPublic;
use lavatube_link::{Block, Event};
use lavatube_node::carrier::Driver;
use lavatube_node::embedded::{self, DriveSpec};
use lavatube_node::link_folder::{Pairing, own_line, pair};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

/// More than the machine can do, so that nothing waits for the pacer.
const RATE: u64 = 20_000_000_000;
const WAIT: Duration = Duration::from_millis(20);
/// Where the kernel's receive buffer is small, more at a time is lost at its door.
const BUFFERS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("give a folder")?;
    let len = args.next().map_or(Ok(1024), |mib| mib.parse::<usize>())? << 20;
    let rates = match args.next() {
        Some(rate) => vec![rate.parse::<u64>()? * 1_000_000],
        None => vec![1_000_000_000, RATE],
    };
    let block_len = args.next().map_or(Ok(8), |mib| mib.parse::<usize>())? << 20;
    let losses = match args.next() {
        Some(loss) => vec![loss.parse::<f64>()? / 100.0],
        None => vec![0.0, 0.01, 0.1],
    };
    println!(
        "{:>6} {:>10} {:>10} {:>12} {:>12} {:>12} {:>12} {:>12} {:>9}",
        "loss", "Gbit/s set", "Gbit/s", "near CPU s", "far CPU s", "jobs CPU s", "Gbit/CPU s", "sent/need", "peak MiB"
    );
    for rate in rates {
        for loss in &losses {
            measure(Path::new(&folder), (len / block_len, block_len), rate, *loss)?;
        }
    }
    println!(
        "CPU is the kernel's, too; jobs are repair symbols made and blocks rebuilt, for both ends; Gbit/CPU s is of all together, without the relay"
    );
    Ok(())
}

fn measure(folder: &Path, (blocks, block_len): (usize, usize), rate: u64, loss: f64) -> Result<(), Box<dyn Error>> {
    let folder = folder.join("link_sockets");
    let (near, far) = (folder.join("near"), folder.join("far"));
    let drive = |name: &str| DriveSpec {
        folder: far.join(name),
        label: name.into(),
        shelf: "A".into(),
        maker: "none".into(),
        model: "none".into(),
    };
    let authority = PairPublic { ed25519: [1; 32], ml_dsa_65: vec![1; 1952] };
    embedded::create(&far, 1, 1, &[drive("one"), drive("two")], authority)?;
    let lines = [own_line(&far)?.encode(), own_line(&near)?.encode()];
    let set = |file: &mut lavatube_node::link_folder::LinkFile| {
        (file.rate_up_bit_s, file.rate_down_bit_s) = (Some(rate), Some(rate));
    };
    let pairings = [pair(&near, &lines[0], set)?, pair(&far, &lines[1], set)?];
    let stop = AtomicBool::new(false);
    let (relay_near, relay_far) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let [near_cpu, far_cpu, relay_cpu] = [const { AtomicU64::new(0) }; 3];
    let before = all_ns();
    // Forgets the peak of the run before.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (took, sent) = std::thread::scope(|scope| -> Result<_, Box<dyn Error>> {
        let address = relay_far.local_addr()?.to_string();
        let (tell, told) = std::sync::mpsc::channel();
        let (far, stop, far_cpu, relay_cpu) = (&pairings[1], &stop, &far_cpu, &relay_cpu);
        let (relay_near, relay_far) = (&relay_near, &relay_far);
        scope.spawn(move || counted(far_cpu, || receive(far, &address, &tell, stop)));
        let far_at = told.recv()?;
        scope.spawn(move || counted(relay_cpu, || relay(relay_near, relay_far, far_at, loss, stop)));
        let address = relay_near.local_addr()?.to_string();
        let result = counted(&near_cpu, || send(&pairings[0], &address, blocks, block_len));
        stop.store(true, Ordering::Relaxed);
        result.map_err(Into::into)
    })?;
    let all = (all_ns() - before) as f64 / 1e9;
    let gbit = (blocks * block_len * 8) as f64 / 1e9;
    let cpu = |ns: &AtomicU64| ns.load(Ordering::Relaxed) as f64 / 1e9;
    let need = (blocks * block_len) as f64 / (1436.0 / 1500.0) / (1.0 - loss);
    let ours = all - cpu(&relay_cpu);
    println!(
        "{:>4.0} % {:>10.1} {:>10.2} {:>12.2} {:>12.2} {:>12.2} {:>12.2} {:>12.3} {:>9}",
        loss * 100.0,
        rate as f64 / 1e9,
        gbit / took.as_secs_f64(),
        cpu(&near_cpu),
        cpu(&far_cpu),
        ours - cpu(&near_cpu) - cpu(&far_cpu),
        gbit / ours,
        sent as f64 / need,
        peak_mib()
    );
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}

fn send(pairing: &Pairing, peer: &str, blocks: usize, block_len: usize) -> Result<(Duration, u64), String> {
    let mut driver = Driver::open(pairing, None, Some(peer)).map_err(|e| e.to_string())?;
    let mut word = 1u64;
    let mut bytes = vec![0; block_len];
    for chunk in bytes.chunks_exact_mut(8) {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chunk.copy_from_slice(&word.rotate_left(32).to_le_bytes());
    }
    for key in 0..blocks as u64 {
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        let id = BlockId(h16(&[&bytes]));
        let of = Block { key, priority: 1, len: block_len as u64, id, resumed: false };
        driver.link().submit(of).map_err(|e| e.to_string())?;
    }
    let mut block = |key: u64| {
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        bytes.clone()
    };
    let (begin, mut delivered) = (Instant::now(), 0);
    while delivered < blocks {
        while let Some(event) = driver.event() {
            match event {
                Event::Wanted { key } => driver.link().supply(key, block(key)),
                Event::Delivered { .. } => delivered += 1,
                other => return Err(format!("{other:?}")),
            }
        }
        driver.pump(WAIT).map_err(|e| e.to_string())?;
    }
    Ok((begin.elapsed(), driver.status().totals.len_sent))
}

fn receive(pairing: &Pairing, peer: &str, tell: &Sender<SocketAddr>, stop: &AtomicBool) {
    let Ok(mut driver) = Driver::open(pairing, Some("127.0.0.1:0"), Some(peer)) else { return };
    driver.address().and_then(|address| tell.send(address).ok());
    while !stop.load(Ordering::Relaxed) {
        while let Some(event) = driver.event() {
            if let Event::Received { id, .. } = event {
                let now = driver.now();
                driver.link().accepted(id, now);
            }
        }
        if driver.pump(WAIT).is_err() {
            return;
        }
    }
}

/// Passes datagrams on, but for some on the way there.
fn relay(near: &UdpSocket, far: &UdpSocket, far_at: SocketAddr, loss: f64, stop: &AtomicBool) {
    let mut near_at = None;
    let mut word = 1u64;
    let (Ok(near_state), Ok(far_state)) = (UdpSocketState::new(near.into()), UdpSocketState::new(far.into())) else {
        return;
    };
    for (state, socket) in [(&near_state, near), (&far_state, far)] {
        let _ = socket.set_nonblocking(true);
        let _ = state.set_recv_buffer_size(socket.into(), 8 << 20);
        let _ = state.set_send_buffer_size(socket.into(), 8 << 20);
    }
    let mut buffers = vec![vec![0; 64 << 10]; BUFFERS];
    let mut kept = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut idle = true;
        for up in [true, false] {
            let (from, from_state, to, to_state) =
                if up { (near, &near_state, far, &far_state) } else { (far, &far_state, near, &near_state) };
            let mut metas = [RecvMeta::default(); BUFFERS];
            let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let Ok(count) = from_state.recv(from.into(), &mut slices, &mut metas) else { continue };
            idle = false;
            for (buffer, meta) in buffers.iter().zip(&metas[..count]) {
                kept.clear();
                for datagram in buffer[..meta.len].chunks(meta.stride) {
                    word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    if !up || (word >> 40) as f64 / (1 << 24) as f64 >= loss {
                        kept.extend_from_slice(datagram);
                    }
                }
                if up {
                    near_at = Some(meta.addr);
                }
                let (Some(destination), false) = (if up { Some(far_at) } else { near_at }, kept.is_empty()) else {
                    continue;
                };
                let segment_size = Some(meta.stride);
                let transmit = Transmit { destination, ecn: None, contents: &kept, segment_size, src_ip: None };
                for _ in 0..10_000 {
                    match to_state.try_send(to.into(), &transmit) {
                        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
                        _ => break,
                    }
                }
            }
        }
        if idle {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// Runs it, and notes the CPU time of this thread.
fn counted<T>(cpu: &AtomicU64, run: impl FnOnce() -> T) -> T {
    let before = own_ns();
    let out = run();
    cpu.store(own_ns() - before, Ordering::Relaxed);
    out
}

/// The most memory this process had: both ends, the relay, and the example's own two blocks.
fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 10
}

/// Nanoseconds this thread had a core.
fn own_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Nanoseconds all threads of this process had a core, those that are gone as well.
fn all_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>() * 10_000_000
}
