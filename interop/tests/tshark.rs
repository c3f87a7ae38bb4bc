//! What we write, as tshark reads it: bundles plain, signed and sealed, and TCPCL sessions that carry them.

use lavatube_base::Instant;
use lavatube_bundle::{Bundle, Endpoint, Hops, Mac, PairKeys};
use lavatube_format::tcpcl::Refusal;
use lavatube_interop::ours::noise;
use lavatube_interop::wire::Capture;
use lavatube_link::tcpcl::{Config, Event, Session};

fn bundle(sequence: u64, len: usize) -> Bundle {
    let mut bundle = Bundle::new(Endpoint::ipn(1, 1), Endpoint::ipn(2, 1), noise(len, 1 + sequence));
    (bundle.sequence, bundle.age_ms) = (sequence, Some(17));
    bundle.hops = Some(Hops { limit: 32, count: 1 });
    bundle.previous_node = Some(Endpoint::ipn(3, 0));
    bundle
}

fn keys() -> PairKeys {
    PairKeys { mac: Mac::Sha256([1; 32]), cipher: [2; 32] }
}

/// Fields that must be empty, and that say which protocols were found.
const FIELDS: &[&str] = &["_ws.malformed", "_ws.expert.severity", "_ws.expert.message", "frame.protocols"];
/// Severities of tshark's experts from which on something is wrong: warnings and errors.
const WARNING: u32 = 0x60_0000;
/// But for this: tshark does not know what a payload for `ipn:2.1` is. It is not to know.
const OPAQUE: &str = "Unknown type code";

/// Fails on malformed packets and on what tshark warns of; gives back the protocols of each packet and further fields.
fn checked(rows: Vec<Vec<String>>) -> Vec<Vec<String>> {
    for row in &rows {
        assert_eq!(row[0], "", "malformed: {row:?}");
        let severities = row[1].split(',').filter_map(|severity| severity.parse::<u32>().ok());
        for (severity, message) in severities.zip(row[2].split(',')) {
            assert!(severity < WARNING || message == OPAQUE, "{message}: {row:?}");
        }
    }
    rows.into_iter().map(|row| row[3..].to_vec()).collect()
}

#[test]
fn bundles_are_read_plain_signed_and_sealed() {
    let mut capture = Capture::default();
    let mut clocked = bundle(4, 100);
    (clocked.time_ms, clocked.report_to) = (850_000_000_000, "dtn://earth/reports".parse().unwrap());
    let bundles = [
        bundle(1, 100).encode().unwrap(),
        bundle(2, 100).sign(&keys().mac).unwrap(),
        bundle(3, 100).seal(&keys()).unwrap(),
        clocked.encode().unwrap(),
    ];
    bundles.iter().for_each(|bytes| capture.udp(5000, 4556, bytes));
    let fields = [
        "bpv7.primary.dst_uri",
        "bpv7.primary.src_uri",
        "bpv7.create_ts.seqno",
        "bpv7.crc_status",
        "bpv7.canonical.type_code",
    ];
    let Some(rows) = capture.read("how tshark reads our bundles", &[FIELDS, &fields].concat()) else {
        return;
    };
    let rows = checked(rows);
    assert_eq!(rows.len(), bundles.len());
    for (row, sequence) in rows.iter().zip(1..) {
        assert!(row[0].contains("bpv7"), "{row:?}");
        assert_eq!(row[0].contains("bpsec"), [2, 3].contains(&sequence), "{row:?}");
        assert_eq!(row[1..4], ["ipn:2.1", "ipn:1.1", sequence.to_string().as_str()], "{row:?}");
        // 1 is what tshark calls a good CRC.
        assert!(!row[4].is_empty() && row[4].split(',').all(|status| status == "1"), "{row:?}");
    }
    let kinds = |row: usize| {
        rows[row][5].split(',').map(|n| {
            u64::from_str_radix(n.trim_start_matches("0x"), if n.starts_with("0x") { 16 } else { 10 }).unwrap()
        })
    };
    let mut sealed: Vec<u64> = kinds(2).collect();
    sealed.sort_unstable();
    assert_eq!(sealed, [1, 6, 7, 10, 11, 12, 12], "payload, node, age, hops, a signature and two encryptions");
}

#[test]
fn damaged_bundles_are_told() {
    // So that the test above can fail.
    let mut capture = Capture::default();
    let mut bytes = bundle(1, 100).encode().unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    capture.udp(5000, 4556, &bytes);
    let Some(rows) = capture.read("how tshark reads our bundles", FIELDS) else { return };
    assert!(rows[0][1].split(',').filter_map(|s| s.parse::<u32>().ok()).max() >= Some(WARNING), "{rows:?}");
    assert!(rows[0][2].contains("failed CRC"), "{rows:?}");
}

#[test]
fn sessions_are_read_from_greeting_to_end() {
    let now = Instant(0);
    let session = |node: &str, active| Session::new(Config { node: node.into(), active, keepalive_s: 60 }, now);
    let mut sides = [session("ipn:1.0", true), session("ipn:2.0", false)];
    let bundles = [
        bundle(1, 100).encode().unwrap(),
        bundle(2, 40_000).seal(&keys()).unwrap(),
        bundle(3, 2000).sign(&keys().mac).unwrap(),
        bundle(4, 9).encode().unwrap(),
    ];
    for (key, bytes) in (0..).zip(&bundles) {
        sides[0].submit(key, bytes.clone()).unwrap();
    }
    sides[1].submit(9, bundle(9, 1000).encode().unwrap()).unwrap();
    let mut capture = Capture::default();
    let mut stream = capture.connect(4556);
    let (mut rounds, mut answered) = (0, 0);
    while !(sides[0].is_closed() && sides[1].is_closed()) {
        rounds += 1;
        assert!(rounds < 100);
        for here in [0, 1] {
            let mut bytes = Vec::new();
            // A message begins a packet: tshark looks into the first bundle that ends in one only.
            while sides[here].poll_transmit(now, &mut bytes) {
                capture.tcp(&mut stream, here, &bytes);
                assert_eq!(sides[1 - here].handle_bytes(&bytes, now), bytes.len());
                bytes.clear();
            }
        }
        for side in &mut sides {
            while let Some(event) = side.poll_event() {
                match event {
                    // One is refused, for its message to be seen as well.
                    Event::Received { transfer: 3, .. } => side.refused(3, Refusal::NoResources),
                    Event::Received { transfer, .. } => side.accepted(transfer),
                    Event::Acknowledged { .. } | Event::Refused { .. } => answered += 1,
                    _ => {}
                }
            }
        }
        if answered == bundles.len() + 1 {
            sides[0].end(now);
            answered += 1;
        }
    }
    let fields = ["tcpcl.v4.mhdr.type", "tcpcl.v4.sess_init.nodeid_data", "bpv7.create_ts.seqno"];
    let Some(rows) = capture.read("how tshark reads our TCPCL", &[FIELDS, &fields].concat()) else { return };
    let rows = checked(rows);
    let all = |column: usize| {
        let values = rows.iter().flat_map(|row| row[column].split(',')).filter(|value| !value.is_empty());
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let protocols = rows.iter().map(|row| row[0].as_str()).collect::<String>();
    assert!(["tcpcl", "bpv7", "bpsec"].iter().all(|name| protocols.contains(name)), "{protocols}");
    let kinds = all(1);
    for kind in ["0x01", "0x02", "0x03", "0x05", "0x07"] {
        assert!(kinds.iter().any(|seen| seen == kind), "no message {kind} among {kinds:?}");
    }
    assert_eq!(all(2), ["ipn:1.0", "ipn:2.0"]);
    let mut sequences = all(3);
    sequences.sort();
    assert_eq!(sequences, ["1", "2", "3", "4", "9"], "each bundle is found inside its transfer");
}
