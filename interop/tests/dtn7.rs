//! Bundles to and from the daemon of dtn7-rs over TCPCL. Skipped, aloud, where it is not installed.

use std::time::Duration;

use lavatube_bundle::{Bundle, BundleError, Mac, PairKeys};
use lavatube_interop::dtnd::Dtnd;
use lavatube_interop::ours::{Ours, bundle, noise};
use lavatube_node::tcpcl_port::{TcpclListener, TcpclPort, TcpclSubmitError};

const WAIT: Duration = Duration::from_secs(60);

fn sorted(mut payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    payloads.sort();
    payloads
}

#[test]
fn ours_reach_dtn7() {
    let Some(daemon) = Dtnd::start("bundles from us to dtn7", None) else { return };
    let port = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        TcpclPort::connect(&daemon.address.to_string(), "ipn:1.0").ok()
    });
    let mut ours = Ours::new(port.expect("dtnd listens"));
    assert!(ours.until(|ours| ours.peer.is_some()));
    assert_eq!(ours.peer.as_deref(), Some("dtn://seven/"));
    // It says that it takes no transfer beyond 64,000 bytes, so what is longer is not even begun.
    let long = bundle(8, "dtn://seven/in", noise(64_000, 8)).encode().unwrap();
    assert_eq!(ours.port.send(8, long), Err(TcpclSubmitError::Length));
    let sent: Vec<Vec<u8>> = (0..20).map(|i| noise(1 << 10 | 3000 * i, 1 + i as u64)).collect();
    for (key, payload) in (0..).zip(&sent) {
        ours.port.send(key, bundle(key, "dtn://seven/in", payload.clone()).encode().unwrap()).unwrap();
    }
    let signed = bundle(99, "dtn://seven/in", noise(2000, 99));
    ours.port.send(99, signed.sign(&Mac::Sha256([1; 32])).unwrap()).unwrap();
    let done = ours.within(WAIT, |ours| ours.acknowledged.len() == sent.len() + 1);
    assert!(done, "{:?} {:?} {:?}", ours.acknowledged, ours.failed, ours.ended);
    let received: Vec<Vec<u8>> = (0..=sent.len()).map(|_| daemon.receive().expect("a payload")).collect();
    assert!(sorted(received) == sorted([sent, vec![signed.payload]].concat()));
    ours.end();
}

#[test]
fn dtn7s_reach_us_and_are_refused() {
    let listener = TcpclListener::bind("127.0.0.1:0", "dtn://us/").unwrap();
    let at = listener.address().unwrap();
    let Some(daemon) = Dtnd::start("bundles from dtn7 to us", Some((at, "us"))) else { return };
    let sent = vec![noise(1 << 10, 1), noise(1 << 20, 2), noise(50_000, 3), noise(60_000, 4), noise(70_000, 5)];
    let mut received: Vec<Vec<u8>> = Vec::new();
    std::thread::scope(|threads| {
        threads.spawn(|| sent.iter().for_each(|payload| daemon.send("dtn://us/out", payload)));
        // It may connect once for all or for each, and gives up one that it finds slow.
        while received.len() < sent.len() {
            let mut ours = Ours::new(listener.accept(WAIT).unwrap().expect("dtnd connects"));
            let missing = sent.len() - received.len();
            ours.within(WAIT, |ours| ours.received.len() == missing || ours.ended.is_some());
            received.append(&mut ours.received);
        }
    });
    // Its bundles have no CRC in their primary blocks: they cross, and are refused aloud.
    for bytes in &received {
        assert_eq!(Bundle::decode(bytes), Err(BundleError::Unprotected));
    }
}

#[test]
fn what_dtn7_passes_on_reaches_us() {
    let listener = TcpclListener::bind("127.0.0.1:0", "dtn://us/").unwrap();
    let at = listener.address().unwrap();
    let Some(daemon) = Dtnd::start("bundles through dtn7 to us", Some((at, "us"))) else { return };
    let mut sent = bundle(1, "dtn://us/out", noise(50_000, 6));
    // It takes from its own applications only what names it as its source.
    sent.source = "dtn://seven/in".parse().unwrap();
    daemon.insert(&sent.seal(&keys()).unwrap());
    let mut received = Vec::new();
    while received.is_empty() {
        let mut ours = Ours::new(listener.accept(WAIT).unwrap().expect("dtnd connects"));
        ours.within(WAIT, |ours| !ours.received.is_empty() || ours.ended.is_some());
        received.append(&mut ours.received);
    }
    let opened = Bundle::open(&received[0], &keys()).unwrap();
    assert!(opened.payload == sent.payload);
    assert_eq!(opened.previous_node, Some("dtn://seven/".parse().unwrap()));
    assert_eq!(opened.hops.map(|hops| hops.count), Some(1));
}

fn keys() -> PairKeys {
    PairKeys { mac: Mac::Sha256([1; 32]), cipher: [2; 32] }
}
