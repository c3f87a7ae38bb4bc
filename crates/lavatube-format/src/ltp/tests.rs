use super::*;
use proptest::prelude::*;

const SESSION: SessionId = SessionId { engine: 19, number: 0xdead_beef };

fn one(bytes: &[u8]) -> Result<Segment<'_>, Malformed> {
    Segments::new(bytes).next().expect("bytes")
}

fn data<'a>(mark: Mark, offset: u64, bytes: &'a [u8]) -> Data<'a> {
    Data { mark, service: BUNDLES, offset, bytes }
}

fn put(put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out);
    out
}

fn report(head: ReportHead, claims: &[std::ops::Range<u64>], len: usize) -> (Vec<u8>, u64, usize) {
    let mut claims = claims.iter().cloned().peekable();
    let mut out = Vec::new();
    let upper = put_report(&mut out, SESSION, head, &mut claims, len);
    (out, upper, claims.count())
}

const HEAD: ReportHead = ReportHead { number: 77, checkpoint: 300, lower: 1000, upper: 9000 };

/// One of each, in the order of their types.
fn all() -> Vec<Vec<u8>> {
    let checkpoint = Checkpoint { number: 300, report: 0 };
    let marks = [
        Mark::Red,
        Mark::Checkpoint(checkpoint),
        Mark::RedEnd(Checkpoint { number: 301, report: 77 }),
        Mark::BlockEnd(Checkpoint { number: 16_383, report: u64::from(u32::MAX) }),
        Mark::Green,
        Mark::GreenEnd,
    ];
    let mut all: Vec<_> =
        marks.iter().map(|mark| put(|out| put_data(out, SESSION, &data(*mark, 1400, b"a piece")))).collect();
    all.push(report(HEAD, &[1000..1001, 2000..8999], 1472).0);
    all.push(put(|out| put_report_ack(out, SESSION, 77)));
    all.push(put(|out| put_cancel(out, SESSION, true, Reason::Cancelled)));
    all.push(put(|out| put_cancel_ack(out, SESSION, true)));
    all.push(put(|out| put_cancel(out, SESSION, false, Reason::System)));
    all.push(put(|out| put_cancel_ack(out, SESSION, false)));
    all
}

#[test]
fn the_golden_file_has_one_segment_of_each_type() {
    // Each is checked by tshark and scapy as well: scripts/interop-ltp.
    assert_eq!(all().concat(), include_bytes!("../../../../vectors/ltp-v1.bin"));
    let bytes = all().concat();
    let read: Vec<_> = Segments::new(&bytes).map(Result::unwrap).collect();
    assert_eq!(read.len(), 12);
    assert!(read.iter().all(|segment| segment.session == SESSION));
    let Content::Data(last) = &read[3].content else { panic!("data") };
    assert_eq!(last.mark.checkpoint(), Some(Checkpoint { number: 16_383, report: u64::from(u32::MAX) }));
    assert_eq!((last.service, last.offset, last.bytes), (1, 1400, &b"a piece"[..]));
    let Content::Report(report) = &read[6].content else { panic!("a report") };
    assert_eq!((report.number, report.checkpoint, report.lower, report.upper), (77, 300, 1000, 9000));
    assert_eq!(report.claims().collect::<Vec<_>>(), [1000..1001, 2000..8999]);
    assert_eq!(read[7].content, Content::ReportAck { report: 77 });
    assert_eq!(read[8].content, Content::CancelBySender(Reason::Cancelled));
    assert_eq!(read[9].content, Content::CancelAckToSender);
    assert_eq!(read[10].content, Content::CancelByReceiver(Reason::System));
    assert_eq!(read[11].content, Content::CancelAckToReceiver);
}

#[test]
fn a_segment_is_the_bytes_that_the_rfc_draws() {
    let bytes = put(|out| put_data(out, SessionId { engine: 1, number: 128 }, &data(Mark::Red, 300, b"xy")));
    assert_eq!(bytes, [0x00, 0x01, 0x81, 0x00, 0x00, 0x01, 0x82, 0x2c, 0x02, b'x', b'y']);
}

#[test]
fn extensions_of_head_and_trailer_are_skipped_whatever_their_tag() {
    // Authentication in the head (suite and key id), its value in the trailer, a cookie, and one of 15 that nobody knows.
    let bytes =
        [0x00, 0x01, 0x02, 0x31, 0x00, 0x02, 0xff, 0x09, 0x01, 0x01, 0x07, 0xc0, 0x00, 1, 0, 2, b'x', b'y', 0x00, 1, 5];
    let segment = one(&bytes).unwrap();
    assert_eq!(segment.content, Content::Data(data(Mark::Red, 0, b"xy")));
    for cut in 0..bytes.len() {
        assert!(cut == 0 || one(&bytes[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn numbers_of_64_bits_are_read_and_longer_ones_are_not() {
    let with = |sdnv: &[u8]| [&[0x0d], sdnv, &[0x01, 0x00]].concat();
    let most = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(one(&with(&most)).unwrap().session.engine, u64::MAX);
    let mut more = most;
    more[0] = 0x82;
    assert!(one(&with(&more)).is_err());
    // Leading zeros are allowed, ten bytes in all are not exceeded.
    assert_eq!(one(&with(&[0x80, 0x80, 0x07])).unwrap().session.engine, 7);
    assert!(one(&with(&[[0x80; 10].as_slice(), &[0x01]].concat())).is_err());
}

#[test]
fn what_breaks_a_rule_is_refused() {
    let bad: [&[u8]; 12] = [
        &[0x10, 1, 1, 0, 1, 0, 1, 9], // version 1
        &[0x05, 1, 1, 0, 1, 0, 1, 9], // undefined types
        &[0x06, 1, 1, 0, 1, 0, 1, 9],
        &[0x0a, 1, 1, 0],
        &[0x0b, 1, 1, 0],
        &[0x00, 1, 1, 0, 1, 0, 2, 9],                // longer than what is there
        &[0x01, 1, 1, 0, 1, 0, 1, 0, 0, 9],          // checkpoint 0
        &[0x08, 1, 1, 0, 0, 1, 9, 0, 0],             // report 0
        &[0x08, 1, 1, 0, 1, 1, 9, 9, 0],             // bounds
        &[0x08, 1, 1, 0, 1, 1, 9, 0, 1, 8, 2],       // beyond the bound
        &[0x08, 1, 1, 0, 1, 1, 9, 0, 1, 8, 0],       // nothing
        &[0x08, 1, 1, 0, 1, 1, 9, 0, 2, 4, 2, 5, 1], // overlap
    ];
    for bytes in bad {
        assert!(one(bytes).is_err(), "{bytes:x?}");
    }
    let end = [0x00, 1, 1, 0, 1, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 9];
    assert!(one(&end).is_err(), "offset and length exceed 64 bits");
}

#[test]
fn a_datagram_at_the_limit_is_read_and_one_byte_more_is_not() {
    let of = |len: usize| {
        let head = put(|out| put_data(out, SESSION, &data(Mark::Red, 0, &[])));
        // The length of the piece takes three bytes then.
        let piece = vec![7; len - head.len() - 2];
        put(|out| put_data(out, SESSION, &data(Mark::Red, 0, &piece)))
    };
    assert_eq!(of(LTP_DATAGRAM_LEN_MAX).len(), LTP_DATAGRAM_LEN_MAX);
    assert!(one(&of(LTP_DATAGRAM_LEN_MAX)).is_ok());
    assert!(one(&of(LTP_DATAGRAM_LEN_MAX + 1)).is_err());
}

#[test]
fn fifteen_extensions_are_skipped() {
    let head = [0x0d, 1, 1, LTP_EXTENSIONS_MAX << 4 | LTP_EXTENSIONS_MAX];
    let bytes = [head.as_slice(), &[0xee, 0].repeat(2 * usize::from(LTP_EXTENSIONS_MAX))].concat();
    assert_eq!(Segments::new(&bytes).map(Result::unwrap).count(), 1);
}

#[test]
fn a_report_that_does_not_fit_ends_with_its_last_claim() {
    let claims: Vec<_> = (0..2000).map(|i| 1000 + 4 * i..1000 + 4 * i + 2).collect();
    let (bytes, upper, left) = report(HEAD, &claims, 1472);
    assert!(bytes.len() <= 1472 && left > 0, "{} {left}", bytes.len());
    assert_eq!(upper, claims[claims.len() - left - 1].end);
    let Content::Report(read) = one(&bytes).unwrap().content else { panic!("a report") };
    assert_eq!((read.lower, read.upper), (1000, upper));
    assert_eq!(read.claims().collect::<Vec<_>>(), claims[..claims.len() - left]);
}

fn marks() -> impl Strategy<Value = Mark> {
    let checkpoint = (1u64.., any::<u64>()).prop_map(|(number, report)| Checkpoint { number, report });
    prop_oneof![
        Just(Mark::Red),
        Just(Mark::Green),
        Just(Mark::GreenEnd),
        checkpoint.clone().prop_map(Mark::Checkpoint),
        checkpoint.clone().prop_map(Mark::RedEnd),
        checkpoint.prop_map(Mark::BlockEnd),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for segment in Segments::new(&bytes).flatten() {
            if let Content::Report(report) = segment.content {
                let ends: Vec<_> = report.claims().collect();
                prop_assert!(ends.iter().all(|claim| report.lower <= claim.start && claim.end <= report.upper));
            }
        }
        prop_assert!(Segments::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn a_changed_or_cut_segment_is_read_without_a_panic(which in 0usize..12, at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let mut bytes = all().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(cut.index(bytes.len()) + 1);
        prop_assert!(Segments::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn pieces_survive(engine: u64, number: u64, mark in marks(), service: u64, offset in 0..=u64::MAX - 2000, bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let (session, data) = (SessionId { engine, number }, Data { mark, service, offset, bytes: &bytes });
        let out = put(|out| put_data(out, session, &data));
        prop_assert_eq!(one(&out), Ok(Segment { session, content: Content::Data(data) }));
        // The room of a datagram of that length is this piece, or one byte less where the length of the length changes.
        let room = room_for_data(out.len(), session, mark, service, offset);
        prop_assert!(room == bytes.len() || room + 1 == bytes.len() && [128, 16_384].contains(&bytes.len()), "{room}");
    }

    #[test]
    fn reports_survive(number in 1u64.., checkpoint: u64, lower in 0u64..1 << 40, steps in proptest::collection::vec((1u64..1 << 20, 1u64..1 << 20), 1..300), beyond in 0u64..1000, first in 0u64..2) {
        let mut at = lower;
        let claims: Vec<_> = steps.iter().enumerate().map(|(i, (gap, len))| {
            at += if i == 0 { gap * first } else { *gap };
            let claim = at..at + len;
            at += len;
            claim
        }).collect();
        let upper = at + beyond;
        let (mut left, mut head, mut got) = (claims.iter().cloned().peekable(), ReportHead { number, checkpoint, lower, upper }, Vec::new());
        while left.peek().is_some() {
            let mut out = Vec::new();
            let end = put_report(&mut out, SESSION, head, &mut left, 1472);
            prop_assert!(out.len() <= 1472);
            let Content::Report(read) = one(&out).unwrap().content else { panic!("a report") };
            prop_assert_eq!((read.number, read.checkpoint, read.lower, read.upper), (number, checkpoint, head.lower, end));
            got.extend(read.claims());
            head.lower = end;
        }
        prop_assert_eq!(head.lower, upper);
        prop_assert_eq!(got, claims);
    }

    #[test]
    fn short_segments_survive(code: u8, report: u64, to_sender: bool) {
        let out = put(|out| {
            put_report_ack(out, SESSION, report);
            put_cancel(out, SESSION, to_sender, Reason::from_code(code));
            put_cancel_ack(out, SESSION, to_sender);
        });
        let read: Vec<_> = Segments::new(&out).map(|segment| segment.unwrap().content).collect();
        let reason = Reason::from_code(code);
        prop_assert_eq!(reason.code(), code);
        let (cancel, ack) = if to_sender {
            (Content::CancelBySender(reason), Content::CancelAckToSender)
        } else {
            (Content::CancelByReceiver(reason), Content::CancelAckToReceiver)
        };
        prop_assert_eq!(read, [Content::ReportAck { report }, cancel, ack]);
    }
}
