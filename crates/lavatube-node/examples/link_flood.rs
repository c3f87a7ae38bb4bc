//! What a flood of forged and replayed datagrams costs us, what it costs whoever sends it, and whether the transfer beside it ends.
//!
//! Why: a datagram that is not the peer's may cost a hash and nothing else. Two ends in this process, a path between them where somebody
//! listens, and somebody who sends to the far end what he heard: again as it was, or with another counter, from a socket of his own, 40
//! datagrams a call. Run with `cargo run --release -p lavatube-node --example link_flood -- FOLDER [MIB]`.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lavatube_base::BlockId;
use lavatube_base::digest::h16;
use lavatube_base::sign::PairPublic;
use lavatube_link::{Block, Event, Totals};
use lavatube_node::carrier::Driver;
use lavatube_node::embedded::{self, DriveSpec};
use lavatube_node::link_folder::{LinkFile, Pairing, own_line, pair};
use quinn_udp::{Transmit, UdpSocketState};

const RATE: u64 = 100_000_000;
const BLOCK_LEN: usize = 8 << 20;
const WAIT: Duration = Duration::from_millis(20);
/// Datagrams of the flood a second: ten times what the link carries.
const FLOOD: f64 = 10.0 * RATE as f64 / 12_000.0;
const AT_A_TIME: usize = 40;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    Noise,
    Forged,
    Replayed,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("give a folder")?;
    let len = args.next().map_or(Ok(64), |mib| mib.parse::<usize>())? << 20;
    println!(
        "flood      sent /s   came in    dropped as (forged, replayed, foreign)   took s   attacker us each   we us each"
    );
    let mut before = 0.0;
    for kind in [Kind::None, Kind::Noise, Kind::Forged, Kind::Replayed] {
        let run = measure(Path::new(&folder), len / BLOCK_LEN, kind)?;
        let Totals { forged, replayed, foreign, .. } = run.totals;
        let came = forged + replayed + foreign;
        let each = |seconds: f64, of: u64| if of == 0 { 0.0 } else { seconds * 1e6 / of as f64 };
        println!(
            "{:<9} {:>8.0} {:>9} {:>41} {:>8.2} {:>18.2} {:>12.2}",
            format!("{kind:?}"),
            run.sent as f64 / run.took,
            came,
            format!("({forged}, {replayed}, {foreign})"),
            run.took,
            each(run.attacker, run.sent),
            each(run.far - before, came),
        );
        if kind == Kind::None {
            before = run.far;
        }
    }
    println!(
        "us: CPU time, the kernel's too; on one machine the kernel does much of the receiving in the sender's name. Ours is what the flood added."
    );
    Ok(())
}

struct Run {
    took: f64,
    sent: u64,
    /// CPU seconds.
    attacker: f64,
    far: f64,
    totals: Totals,
}

fn measure(folder: &Path, blocks: usize, kind: Kind) -> Result<Run, Box<dyn Error>> {
    let folder = folder.join("link_flood");
    let (near, far) = (folder.join("near"), folder.join("far"));
    let drive = |name: &str| DriveSpec { folder: far.join(name), label: name.into(), ..DriveSpec::default() };
    let authority = PairPublic { ed25519: [1; 32], ml_dsa_65: vec![1; 1952] };
    embedded::create(&far, 1, 1, &[drive("one"), drive("two")], authority)?;
    let lines = [own_line(&far)?.encode(), own_line(&near)?.encode()];
    let set = |file: &mut LinkFile| (file.rate_up_bit_s, file.rate_down_bit_s) = (Some(RATE), Some(RATE));
    let pairings = [pair(&near, &lines[0], set)?, pair(&far, &lines[1], set)?];
    let (stop, heard, sent) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicU64::new(0));
    let [far_cpu, attacker_cpu] = [const { AtomicU64::new(0) }; 2];
    let totals = Mutex::new(Totals::default());
    let (relay_near, relay_far) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    let took = std::thread::scope(|scope| -> Result<Duration, Box<dyn Error>> {
        let address = relay_far.local_addr()?.to_string();
        let (tell, told) = std::sync::mpsc::channel();
        let (far, stop, heard, totals, sent) = (&pairings[1], &stop, &heard, &totals, &sent);
        let (far_cpu, attacker_cpu) = (&far_cpu, &attacker_cpu);
        scope.spawn(move || {
            counted(far_cpu, || {
                let end = receive(far, &address, &tell, stop);
                *totals.lock().unwrap_or_else(PoisonError::into_inner) = end.unwrap_or_default();
            });
        });
        let far_at = told.recv()?;
        let (relay_near, relay_far) = (&relay_near, &relay_far);
        scope.spawn(move || relay(relay_near, relay_far, far_at, heard, stop));
        scope.spawn(move || relay_back(relay_far, relay_near, stop));
        scope.spawn(move || counted(attacker_cpu, || flood(far_at, kind, heard, sent, stop)));
        let took = send(&pairings[0], &relay_near.local_addr()?.to_string(), blocks);
        stop.store(true, Ordering::Relaxed);
        took.map_err(Into::into)
    })?;
    std::fs::remove_dir_all(&folder)?;
    let cpu = |ns: &AtomicU64| ns.load(Ordering::Relaxed) as f64 / 1e9;
    let (attacker, far, sent) = (cpu(&attacker_cpu), cpu(&far_cpu), sent.load(Ordering::Relaxed));
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Run { took: took.as_secs_f64(), sent, attacker, far, totals })
}

fn send(pairing: &Pairing, peer: &str, blocks: usize) -> Result<Duration, String> {
    let mut driver = Driver::open(pairing, None, Some(peer)).map_err(|e| e.to_string())?;
    let block = |key: u64| vec![key as u8; BLOCK_LEN];
    for key in 0..blocks as u64 {
        let id = BlockId(h16(&[&block(key)]));
        let of = Block { key, priority: 1, len: BLOCK_LEN as u64, id, resumed: false };
        driver.link().submit(of).map_err(|e| e.to_string())?;
    }
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
    Ok(begin.elapsed())
}

fn receive(pairing: &Pairing, peer: &str, tell: &Sender<SocketAddr>, stop: &AtomicBool) -> Option<Totals> {
    let mut driver = Driver::open(pairing, Some("127.0.0.1:0"), Some(peer)).ok()?;
    driver.address().and_then(|address| tell.send(address).ok())?;
    while !stop.load(Ordering::Relaxed) {
        while let Some(event) = driver.event() {
            if let Event::Received { id, .. } = event {
                let now = driver.now();
                driver.link().accepted(id, now);
            }
        }
        driver.pump(WAIT).ok()?;
    }
    Some(driver.status().totals)
}

/// Passes on what goes there, and writes some of it down.
fn relay(from: &UdpSocket, to: &UdpSocket, far: SocketAddr, heard: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) {
    let (mut buffer, _) = (vec![0; 2048], from.set_read_timeout(Some(WAIT)));
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, at)) = from.recv_from(&mut buffer) else { continue };
        let _ = from.connect(at);
        let _ = to.send_to(&buffer[..len], far);
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.len() < AT_A_TIME && len == 1472 {
            heard.push(buffer[..len].to_vec());
        }
    }
}

fn relay_back(from: &UdpSocket, to: &UdpSocket, stop: &AtomicBool) {
    let (mut buffer, _) = (vec![0; 2048], from.set_read_timeout(Some(WAIT)));
    while !stop.load(Ordering::Relaxed) {
        if let Ok(len) = from.recv(&mut buffer) {
            let _ = to.send(&buffer[..len]);
        }
    }
}

/// Sends to the far end what was heard, as `kind` says, from another socket.
fn flood(far: SocketAddr, kind: Kind, heard: &Mutex<Vec<Vec<u8>>>, sent: &AtomicU64, stop: &AtomicBool) {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return };
    let Ok(state) = UdpSocketState::new((&socket).into()) else { return };
    let _ = state.set_send_buffer_size((&socket).into(), 8 << 20);
    let (mut datagrams, mut counter) = (Vec::new(), 1u64 << 40);
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if datagrams.len() < AT_A_TIME {
            datagrams = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        let due = (begin.elapsed().as_secs_f64() * FLOOD) as u64;
        if kind == Kind::None || datagrams.len() < AT_A_TIME || sent.load(Ordering::Relaxed) >= due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        for datagram in &mut datagrams {
            counter += 1;
            match kind {
                // Who has no idea what we speak.
                Kind::Noise => datagram[..16].fill(0x5a),
                // Who heard the key's id, and would have it taken for something new.
                Kind::Forged => datagram[2..8].copy_from_slice(&counter.to_be_bytes()[2..]),
                Kind::Replayed | Kind::None => {}
            }
        }
        let contents = datagrams.concat();
        let transmit =
            Transmit { destination: far, ecn: None, contents: &contents, segment_size: Some(1472), src_ip: None };
        if state.try_send((&socket).into(), &transmit).is_ok() {
            sent.fetch_add(AT_A_TIME as u64, Ordering::Relaxed);
        }
    }
}

/// Runs it, and notes the CPU time of this thread.
fn counted(cpu: &AtomicU64, run: impl FnOnce()) {
    let own_ns = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = own_ns();
    run();
    cpu.store(own_ns() - before, Ordering::Relaxed);
}
