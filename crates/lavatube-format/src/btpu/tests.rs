use super::*;
use crate::datagram::{Datagram, TAG_LEN, put_head};
use proptest::prelude::*;

fn entries() -> Vec<Entry> {
    let standings =
        [Standing::Kept, Standing::Missing(SYMBOLS_END), Standing::Unknown, Standing::Refused, Standing::Hold];
    standings
        .into_iter()
        .zip(7..)
        .map(|(standing, transfer)| Entry { transfer, standing, next: transfer * 9 })
        .collect()
}

fn tally() -> Tally {
    Tally { horizon: 0x0102_0304_0506, received: 0x0708_090a, age_us: 0x0b0c_0d0e }
}

/// One of each, in the order of their types.
fn all() -> Vec<u8> {
    let mut out = Vec::new();
    out.push(kind::PAD_ONE);
    put_message(&mut out, kind::PAD, |out| out.extend_from_slice(&[9; 3]));
    put_message(&mut out, 2, |out| out.extend_from_slice(b"a whole bundle"));
    put_cancel(&mut out, 5);
    put_symbol(&mut out, Symbol { transfer: 6, repair: false, number: 0, bytes: b"source" });
    put_symbol(&mut out, Symbol { transfer: 6, repair: true, number: SYMBOLS_END - 1, bytes: b"repair" });
    put_announce(&mut out, &announce());
    put_report(&mut out, &tally(), entries().into_iter());
    put_probe(&mut out, [6, u32::MAX].into_iter());
    put_echo(&mut out, false, 1);
    put_echo(&mut out, true, u64::MAX);
    out
}

fn announce() -> Announce {
    Announce { transfer: 6, block_len: BLOCK_LEN_MAX as u64, symbol_len: 1436, priority: 3, block: BlockId([0xb0; 16]) }
}

#[test]
fn the_golden_datagram_has_one_message_of_each_kind() {
    let golden = include_bytes!("../../../../vectors/datagram-v1.bin");
    let mut out = Vec::new();
    put_head(&mut out, 0x1234, 0x5678_9abc_def0);
    out.extend_from_slice(&all());
    out.extend_from_slice(&[0xee; TAG_LEN]);
    assert_eq!(out, golden);

    let messages: Vec<Message<'_>> =
        Messages::new(Datagram::decode(golden).unwrap().messages).collect::<Result<_, _>>().unwrap();
    assert_eq!(messages.len(), 11);
    assert_eq!(messages[..2], [Message::Padding, Message::Padding]);
    assert_eq!(messages[2], Message::Foreign);
    assert_eq!(messages[3], Message::Cancel { transfer: 5 });
    assert_eq!(messages[4], Message::Symbol(Symbol { transfer: 6, repair: false, number: 0, bytes: b"source" }));
    assert_eq!(messages[6], Message::Announce(announce()));
    let Message::Report(report) = &messages[7] else { panic!("a report") };
    assert_eq!(report.tally, tally());
    assert_eq!(report.entries().collect::<Vec<_>>(), entries());
    let Message::Probe(transfers) = &messages[8] else { panic!("a probe") };
    assert_eq!(transfers.iter().collect::<Vec<_>>(), [6, u32::MAX]);
    assert_eq!(messages[9..], [Message::EchoRequest(1), Message::EchoReply(u64::MAX)]);
}

#[test]
fn lengths_are_taken_at_their_limits_and_refused_one_past_them() {
    let one = |bytes: &[u8]| Messages::new(bytes).next().unwrap().is_ok();
    let made = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        one(&out)
    };
    let symbol = |len: usize, number| {
        made(&|out| put_symbol(out, Symbol { transfer: 1, repair: true, number, bytes: &vec![0; len] }))
    };
    assert!(symbol(SYMBOL_LEN_MAX, SYMBOLS_END - 1) && symbol(1, 0));
    assert!(!symbol(SYMBOL_LEN_MAX + 1, 0) && !symbol(0, 0) && !symbol(1, SYMBOLS_END));

    let block = |len: usize, symbol_len| {
        made(&|out| put_announce(out, &Announce { block_len: len as u64, symbol_len, ..announce() }))
    };
    assert!(block(BLOCK_LEN_MAX, 1436) && block(1, 1));
    assert!(!block(BLOCK_LEN_MAX + 1, 1436) && !block(0, 1) && !block(1, 0) && !block(1, 1437));

    let missing = |n| {
        made(&|out| put_report(out, &tally(), [Entry { standing: Standing::Missing(n), ..entries()[0] }].into_iter()))
    };
    assert!(missing(SYMBOLS_END) && !missing(SYMBOLS_END + 1));
    let next = |next| made(&|out| put_report(out, &tally(), [Entry { next, ..entries()[0] }].into_iter()));
    assert!(next(SYMBOLS_END) && !next(SYMBOLS_END + 1));
}

#[test]
fn more_entries_than_a_report_or_a_probe_may_have_are_left_out_and_refused() {
    let mut out = Vec::new();
    put_report(&mut out, &tally(), std::iter::repeat_n(entries()[0], REPORT_ENTRIES_MAX + 1));
    let Some(Ok(Message::Report(report))) = Messages::new(&out).next() else { panic!("a report") };
    assert_eq!(report.entries().count(), REPORT_ENTRIES_MAX);
    let mut forged = Vec::new();
    put_message(&mut forged, kind::PROBE, |out| out.extend_from_slice(&[0; 4 * (PROBE_ENTRIES_MAX + 1)]));
    assert!(Messages::new(&forged).next().unwrap().is_err());
}

#[test]
fn a_flag_that_nobody_knows_skips_the_message_and_no_more() {
    let mut out = Vec::new();
    put_cancel(&mut out, 5);
    out[1] |= 0x80;
    put_cancel(&mut out, 6);
    let messages: Vec<_> = Messages::new(&out).collect();
    assert_eq!(messages, [Ok(Message::Foreign), Ok(Message::Cancel { transfer: 6 })]);
}

#[test]
fn a_cut_message_ends_the_reading() {
    let whole = all();
    let count = Messages::new(&whole).count();
    for at in 0..whole.len() {
        let messages: Vec<_> = Messages::new(&whole[..at]).collect();
        assert!(messages.len() <= count);
        assert!(messages.iter().rev().skip(1).all(Result::is_ok));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Messages::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn changed_messages_do_not_make_it_panic_either(at in 0usize..300, with: u8) {
        let mut bytes = all();
        let at = at % bytes.len();
        bytes[at] = with;
        prop_assert!(Messages::new(&bytes).count() <= bytes.len());
    }

    #[test]
    fn symbols_survive(transfer: u32, repair: bool, number in 0..SYMBOLS_END, bytes in proptest::collection::vec(any::<u8>(), 1..=SYMBOL_LEN_MAX)) {
        let symbol = Symbol { transfer, repair, number, bytes: &bytes };
        let mut out = Vec::new();
        put_symbol(&mut out, symbol);
        prop_assert_eq!(out.len(), bytes.len() + SYMBOL_FRAMING_LEN);
        prop_assert_eq!(Messages::new(&out).collect::<Vec<_>>(), [Ok(Message::Symbol(symbol))]);
    }

    #[test]
    fn reports_survive(horizon in 0u64..1 << 48, received: u32, age_us: u32, raw in proptest::collection::vec((any::<u32>(), 0u32..8, 0..=SYMBOLS_END), 0..20)) {
        let standing = |n| match n {
            0 => Standing::Kept,
            1 => Standing::Unknown,
            2 => Standing::Refused,
            3 => Standing::Hold,
            n => Standing::Missing(n),
        };
        let entries: Vec<Entry> = raw.into_iter().map(|(transfer, n, next)| Entry { transfer, standing: standing(n), next }).collect();
        let tally = Tally { horizon, received, age_us };
        let mut out = Vec::new();
        put_report(&mut out, &tally, entries.iter().copied());
        prop_assert_eq!(out.len(), REPORT_LEN + ENTRY_LEN * entries.len());
        let Some(Ok(Message::Report(report))) = Messages::new(&out).next() else { panic!("a report") };
        prop_assert_eq!(report.tally, tally);
        prop_assert_eq!(report.entries().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn announcements_survive(transfer: u32, block_len in 1..=BLOCK_LEN_MAX as u64, symbol_len in 1u16..=1436, priority: u8, block: [u8; 16]) {
        let announce = Announce { transfer, block_len, symbol_len, priority, block: BlockId(block) };
        let mut out = Vec::new();
        put_announce(&mut out, &announce);
        prop_assert_eq!(out.len(), ANNOUNCE_LEN);
        prop_assert_eq!(Messages::new(&out).collect::<Vec<_>>(), [Ok(Message::Announce(announce))]);
    }
}
