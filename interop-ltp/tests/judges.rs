//! What we send is what tshark and scapy read: every field of every segment of real transfers, and of one of each type.

use std::path::PathBuf;

use interop_ltp::judges::{is_cancel_ack, our_line, scapy, skipped, tshark};
use interop_ltp::{Plan, block, pcap, transfer};
use lavatube_format::ltp::{Segments, bundles};

/// Two bundles that an RFC prints (RFC 9173 A.1.1), one behind the other as ION sends them.
const BUNDLE: &str = "9f88070000820282010282028202018202820201820018281a000f42408501010000582352656164792074\
                      6f2067656e657261746520612033322d62797465207061796c6f6164ff";

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn capture(name: &str, datagrams: &[(bool, Vec<u8>)]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, pcap(datagrams)).expect("a file");
    path
}

fn compare(name: &str, datagrams: &[(bool, Vec<u8>)]) {
    let path = capture(name, datagrams);
    let ours: Vec<String> = datagrams.iter().map(|(_, bytes)| our_line(bytes)).collect();
    let alike = |who: &str, theirs: Vec<String>| {
        assert_eq!(theirs.len(), ours.len(), "{who}: lines");
        for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{who}: datagram {n}");
        }
    };
    match tshark(&path) {
        Some((mut lines, bad)) => {
            for n in bad {
                assert!(is_cancel_ack(&ours[n]), "tshark: datagram {n} is malformed: {}", ours[n]);
                lines[n] = ours[n].clone();
            }
            alike("tshark", lines);
        }
        None => skipped("tshark"),
    }
    match scapy(&path) {
        Some(lines) => alike("scapy", lines),
        None => skipped("scapy (python3 with scapy.contrib.ltp)"),
    }
}

#[test]
fn the_golden_segments_are_read_alike() {
    let golden = include_bytes!("../../vectors/ltp-v1.bin");
    let (mut datagrams, mut rest) = (Vec::new(), &golden[..]);
    while !rest.is_empty() {
        // One segment is what can be read with nothing behind it.
        let alone = |len: &usize| {
            let mut segments = Segments::new(&rest[..*len]);
            matches!(segments.next(), Some(Ok(_))) && segments.next().is_none()
        };
        let len = (1..=rest.len()).find(alone).expect("a segment");
        datagrams.push((true, rest[..len].to_vec()));
        rest = &rest[len..];
    }
    assert_eq!(datagrams.len(), 12);
    compare("golden.pcap", &datagrams);
}

#[test]
fn a_transfer_with_loss_is_read_alike() {
    let (there, back) = (vec![block(1, 1 << 20), block(2, 700)], vec![block(3, 1 << 20)]);
    let plan = Plan { there, back, lose_one_in: 20, ..Plan::default() };
    let outcome = transfer(&plan);
    compare("transfer.pcap", &outcome.datagrams);
}

#[test]
fn bundles_in_a_block_are_read_by_tshark() {
    let bundle = unhex(BUNDLE);
    let two = [&bundle[..], &bundle].concat();
    assert_eq!(bundles(&two).map(|bundle| bundle.expect("a bundle")).collect::<Vec<_>>(), [&bundle[..]; 2]);
    let outcome = transfer(&Plan { there: vec![two, bundle], ..Plan::default() });
    let path = capture("bundles.pcap", &outcome.datagrams);
    let run = |filter: &str| {
        let output = std::process::Command::new("tshark").arg("-r").arg(&path).args(["-Y", filter]).output().ok()?;
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).lines().count())
    };
    let (Some(read), Some(malformed)) = (run("bpv7"), run("_ws.malformed")) else { return skipped("tshark") };
    assert!(read >= 2 && malformed == 0, "{read} {malformed}");
}
