//! LTP: segments as they are read, and an engine that is sent them by a stranger between its own.
//!
//! LTP has no keys: whoever reaches the port may send anything. The engine must neither panic nor keep more than it was allowed.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_format::ltp::{Content, Segments, bundles};
use lavatube_fuzz::fuzz_target;
use lavatube_link::ltp::{Block, Config, Engine, PeerConfig};

fuzz_target!(|bytes: &[u8]| {
    for segment in Segments::new(bytes).flatten() {
        if let Content::Report(report) = &segment.content {
            assert!(report.claims().all(|claim| claim.start < claim.end));
        }
    }
    assert!(bundles(bytes).count() <= bytes.len().max(1));
    // Datagrams with their lengths in front, and in between time, and what the engine has to say.
    let mut engine = Engine::new(Config::new(1, 7));
    let mut peer = PeerConfig::new(2, Duration::from_millis(100));
    (peer.import_len_max, peer.sessions_max) = (1 << 16, 8);
    let mut now = Instant(0);
    engine.add_peer(peer, now).expect("the first");
    engine.contact_opened(2, 1_000_000, now);
    let _ = engine.send(2, Block::bundles(1, vec![7; 5000]));
    let (mut rest, mut out) = (bytes, Vec::new());
    while let Some((&[len, wait], after)) = rest.split_first_chunk() {
        let (datagram, after) = after.split_at(after.len().min(usize::from(len)));
        rest = after;
        engine.handle_datagram(datagram, now);
        now = now + Duration::from_millis(u64::from(wait) * u64::from(wait));
        engine.handle_timeout(now);
        out.clear();
        (0..8).take_while(|_| engine.poll_transmit(now, &mut out).is_some()).count();
        while engine.poll_event().is_some() {}
        let _ = (engine.poll_timeout(now), engine.status());
    }
});
