//! Our LTP against others': what the tests share.
//!
//! [`transfer`] runs blocks between our engine on its socket and `licklider-core` on another, through a relay that loses a share of the
//! datagrams and keeps all; [`pcap`] makes a capture of what was kept, for tshark and scapy. It must not know what is in the
//! engines.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lavatube_format::ltp::{BUNDLES, PORT};
use lavatube_link::ltp::{Block, Event, PeerConfig};
use lavatube_node::ltp_port::LtpPort;
use licklider_core::{
    Config, Engine, EngineId, Input, Notice, Output, PeerConfig as TheirPeer, Timestamp, TransmissionRequest,
};

pub mod judges;

/// Engine ids.
pub const OURS: u64 = 19;
/// Theirs, of two bytes.
pub const THEIRS: u64 = 300;

/// What is to cross.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Blocks from us to them.
    pub there: Vec<Vec<u8>>,
    /// Blocks from them to us.
    pub back: Vec<Vec<u8>>,
    /// Of this many datagrams, one is lost; 0 for none.
    pub lose_one_in: u64,
    /// How far they are, one way.
    pub light: Duration,
    /// Bits a second of the way between, both ways, with a queue as long as it takes; `None` for what the machine can do.
    pub rate_bit_s: Option<u64>,
    /// Bytes of the block in their segments, if not 1400: ION's are often longer than a packet.
    pub their_segment_len: Option<usize>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Blocks that came to them, and to us; in the order of their bytes.
    pub there: Vec<Vec<u8>>,
    /// Blocks that came to us.
    pub back: Vec<Vec<u8>>,
    /// All datagrams: whether it is ours, and its bytes.
    pub datagrams: Vec<(bool, Vec<u8>)>,
    /// How long it took, until both sides knew of all and had rested.
    pub took: Duration,
    /// When the last block was there, and when the last one was here.
    pub arrived: [Option<Duration>; 2],
    /// Bytes of datagrams sent by us.
    pub len_sent: u64,
}

/// Runs a plan until both sides know that all has arrived.
///
/// # Panics
/// When it does not within two minutes, or a block is given up.
pub fn transfer(plan: &Plan) -> Outcome {
    let bind = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(2))).expect("a timeout");
        socket
    };
    let (relay_ours, relay_theirs, foreign) = (bind(), bind(), bind());
    let mut port = LtpPort::open(OURS, &[BUNDLES], "127.0.0.1:0").expect("a port");
    let at = |socket: &UdpSocket| socket.local_addr().expect("an address");
    let (ours_at, theirs_at) = (port.address().expect("an address"), at(&foreign));
    let light = plan.light.max(Duration::from_millis(1));
    port.add_peer(PeerConfig::new(THEIRS, light), &at(&relay_ours).to_string()).expect("a peer");
    port.contact_opened(THEIRS, plan.rate_bit_s.unwrap_or(300_000_000));
    let (stop, kept) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let begin = Instant::now();
    let mut outcome = std::thread::scope(|scope| {
        let (stop, kept) = (&stop, &kept);
        let (relay_ours, relay_theirs) = (&relay_ours, &relay_theirs);
        scope.spawn(move || relay(relay_ours, relay_theirs, theirs_at, (plan, 7), (kept, true), stop));
        scope.spawn(move || relay(relay_theirs, relay_ours, ours_at, (plan, 8), (kept, false), stop));
        let to = at(relay_theirs);
        let their = scope.spawn(move || theirs(&foreign, to, plan, stop));
        let (back, here) = ours(&mut port, plan, || their.is_finished());
        stop.store(true, Ordering::Relaxed);
        let (there, far) = their.join().expect("their side");
        Outcome { there, back, arrived: [far, here].map(|at| Some(at? - begin)), ..Outcome::default() }
    });
    outcome.took = begin.elapsed();
    outcome.len_sent = port.status().peers[0].totals.len_sent;
    assert_eq!((port.status().malformed, port.status().foreign), (0, 0), "we understand all that they say");
    outcome.datagrams = kept.into_inner().expect("nobody panicked");
    outcome.there.sort();
    outcome.back.sort();
    outcome
}

/// What came in, and when the last of it did.
type Came = (Vec<Vec<u8>>, Option<Instant>);

/// Our side.
fn ours(port: &mut LtpPort, plan: &Plan, mut is_finished: impl FnMut() -> bool) -> Came {
    for (key, block) in (0..).zip(&plan.there) {
        port.send(THEIRS, Block::bundles(key, block.clone())).expect("room");
    }
    let (begin, mut delivered, mut received, mut last) = (Instant::now(), 0, Vec::new(), None);
    while delivered < plan.there.len() || received.len() < plan.back.len() || !is_finished() {
        assert!(
            begin.elapsed() < PATIENCE,
            "ours: {delivered} delivered, {} received: {:?}",
            received.len(),
            port.status()
        );
        port.pump(Duration::from_millis(5)).expect("a socket");
        while let Some(event) = port.event() {
            match event {
                Event::Delivered { peer: THEIRS, .. } => delivered += 1,
                Event::Received { peer: THEIRS, service: BUNDLES, bytes, whole: true, .. } => {
                    received.push(bytes);
                    last = Some(Instant::now());
                }
                other => panic!("ours: {other:?}"),
            }
        }
    }
    (received, last)
}

/// Their side.
fn theirs(socket: &UdpSocket, to: SocketAddr, plan: &Plan, stop: &AtomicBool) -> Came {
    let mut config = Config::new(EngineId(THEIRS), 5);
    let light = licklider_core::Duration::from_millis(u64::try_from(plan.light.as_millis()).unwrap_or(0));
    config.local_delay = licklider_core::Duration::from_millis(100);
    // Their own way of counting ends a block of many gaps.
    (config.max_recv_sessions, config.max_send_sessions, config.max_claims_per_rs) = (1000, 1000, 64);
    let mut engine = Engine::new(config).expect("their engine");
    let mut peer = TheirPeer::new(EngineId(OURS));
    peer.remote_delay = licklider_core::Duration::from_millis(100);
    (peer.owlt_out, peer.owlt_in) = (light, light);
    peer.max_segment_len = plan.their_segment_len.unwrap_or(peer.max_segment_len);
    engine.add_peer(peer).expect("their peer");
    engine.register_client_service(BUNDLES);
    let begin = Instant::now();
    let now = || Timestamp::from_micros(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
    let (there, wanted) = (plan.there.len(), plan.back.len());
    for block in plan.back.clone() {
        let (destination, red_len) = (EngineId(OURS), block.len() as u64);
        let request = TransmissionRequest { destination, client_service: BUNDLES, data: Bytes::from(block), red_len };
        engine.request_transmission(now(), request).expect("room");
    }
    let (mut received, mut completed, mut done_at, mut buffer) = (Vec::new(), 0, None, vec![0; 65_536]);
    let mut last = None;
    loop {
        // They have no pacer.
        for _ in 0..BURST {
            match engine.poll_output(now()) {
                Some(Output::Transmit { segment, .. }) => drop(socket.send_to(&segment, to)),
                Some(Output::Notice(Notice::RedPartReceived { data, eob: true, .. })) => {
                    received.push(data);
                    last = Some(Instant::now());
                }
                Some(Output::Notice(Notice::TransmissionSessionCompleted { .. })) => completed += 1,
                Some(Output::Notice(
                    notice @ (Notice::TransmissionSessionCancelled { .. } | Notice::ReceptionSessionCancelled { .. }),
                )) => panic!("theirs: {notice:?}"),
                Some(Output::Notice(_)) => {}
                None => break,
            }
        }
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            engine.handle_input(now(), Input::Segment { peer: EngineId(OURS), data: &buffer[..len] });
        }
        if engine.next_timeout().is_some_and(|at| at <= now()) {
            engine.handle_timeout(now());
        }
        if received.len() == there && completed == wanted {
            done_at.get_or_insert(Instant::now());
        }
        // Our last words are still answered.
        let rested = done_at.is_some_and(|at: Instant| at.elapsed() > Duration::from_millis(300));
        if rested && engine.session_count() == (0, 0) || stop.load(Ordering::Relaxed) {
            return (received, last);
        }
        let waited = begin.elapsed() > PATIENCE;
        assert!(!waited, "theirs: {} received, {completed} completed: {:?}", received.len(), engine.stats());
    }
}

/// All datagrams: whether it is ours, and its bytes.
type Kept = Mutex<Vec<(bool, Vec<u8>)>>;

/// Carries datagrams from one socket to where the other leads, late and one after the other as the plan has it, but for those that
/// are lost, and keeps all.
fn relay(
    from: &UdpSocket,
    out: &UdpSocket,
    to: SocketAddr,
    (plan, seed): (&Plan, u64),
    (kept, is_ours): (&Kept, bool),
    stop: &AtomicBool,
) {
    let (mut word, mut buffer) = (seed, vec![0; 65_536]);
    let (mut under_way, mut free_at): (VecDeque<(Instant, Vec<u8>)>, _) = (VecDeque::new(), Instant::now());
    while !stop.load(Ordering::Relaxed) {
        while let Some((_, bytes)) = under_way.pop_front_if(|(due, _)| *due <= Instant::now()) {
            let _ = out.send_to(&bytes, to);
        }
        let Ok((len, _)) = from.recv_from(&mut buffer) else { continue };
        kept.lock().expect("nobody panicked").push((is_ours, buffer[..len].to_vec()));
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A packet that is lost has taken its time on the way all the same.
        let takes = plan.rate_bit_s.map_or(0, |rate| (len as u64 + 28) * 8_000_000_000 / rate);
        free_at = free_at.max(Instant::now()) + Duration::from_nanos(takes);
        if plan.lose_one_in == 0 || (word >> 33) % plan.lose_one_in > 0 {
            under_way.push_back((free_at + plan.light, buffer[..len].to_vec()));
        }
    }
}

/// A block of so many bytes that nothing compresses.
pub fn block(seed: u64, len: usize) -> Vec<u8> {
    let mut word = seed;
    let mut next = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (word >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A capture of datagrams, as packets of IPv4 and UDP to and from LTP's port.
pub fn pcap<'a>(datagrams: impl IntoIterator<Item = &'a (bool, Vec<u8>)>) -> Vec<u8> {
    let mut out = Vec::new();
    // Magic, version 2.4, zone, accuracy, longest packet, packets of IP.
    for word in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 0xffff, 101u32] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for (n, (is_ours, bytes)) in (0u32..).zip(datagrams) {
        let (udp_len, ip_len) = (bytes.len() as u32 + 8, bytes.len() as u32 + 28);
        for word in [n / 1000, n % 1000 * 1000, ip_len, ip_len] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        let (from, to) = if *is_ours { (0x0a00_0001, 0x0a00_0002) } else { (0x0a00_0002, 0x0a00_0001) };
        let mut head = [0x4500_0000 | ip_len, n << 16, 0x4011_0000, from, to];
        let sum: u32 = head.iter().map(|word| (word >> 16) + (word & 0xffff)).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        head[2] |= !((folded & 0xffff) + (folded >> 16)) & 0xffff;
        for word in head.into_iter().chain([u32::from(PORT) << 16 | u32::from(PORT), udp_len << 16]) {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(bytes);
    }
    out
}

const PATIENCE: Duration = Duration::from_secs(120);
/// Datagrams of theirs at a time: what a receive buffer holds.
const BURST: usize = 64;
