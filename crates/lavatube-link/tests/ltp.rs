//! Two LTP engines in virtual time: whatever the dark does to segments, blocks arrive once, byte for byte, and limits hold.
//!
//! Single situations come first; the last ones run seeds of everything at once.

#![expect(clippy::single_range_in_vec_init, reason = "claims are ranges, and often one")]
#![expect(clippy::unwrap_used, reason = "helpers of tests beside those that are marked as such")]

#[path = "ltp_world/mod.rs"]
mod ltp_world;
#[path = "world/mod.rs"]
#[expect(dead_code, reason = "the tests of the native mode use the rest")]
mod world;

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::{BLOCK_LEN_MAX, DATAGRAM_LEN_MAX, LTP_PEERS_MAX, LTP_STRETCHES_MAX};
use lavatube_format::ltp::{
    Checkpoint, Content, Data, Mark, Reason, ReportHead, Segment, Segments, SessionId, put_cancel, put_data, put_report,
};
use lavatube_link::Line;
use lavatube_link::ltp::{Block, Config, Engine, Event, Outgoing, PeerConfig, PeerError, SendError, Totals};
use ltp_world::{Dark, IDS};
use world::{Chance, Way, s};

const MBIT: u64 = 1_000_000;
const SEEDS: u64 = if cfg!(debug_assertions) { 60 } else { 2000 };
const FOREVER: Instant = Instant(u64::MAX);

fn dark(seed: u64, light_s: f64, loss: f64, rate: u64) -> Dark {
    Dark::new(seed, [way(light_s, loss), way(light_s, loss)], [rate; 2], |_| {})
}

/// A way that is as fast as any engine.
fn way(light_s: f64, loss: f64) -> Way {
    Way::new(u64::MAX, s(light_s)).losing(loss, Duration::ZERO)
}

fn totals(dark: &Dark, which: usize) -> Totals {
    dark.engines[which].status().peers[0].totals
}

/// An engine that hears what a test puts together by hand.
struct Alone {
    engine: Engine,
    now: Instant,
}

impl Alone {
    fn new(change: impl Fn(&mut PeerConfig)) -> Self {
        let (mut engine, now) = (Engine::new(Config::new(1, 5)), Instant(1_000_000_000));
        let mut peer = PeerConfig::new(2, s(0.5));
        change(&mut peer);
        engine.add_peer(peer, now).unwrap();
        engine.contact_opened(2, 1000 * MBIT, now);
        Self { engine, now }
    }

    fn wait(&mut self, seconds: f64) {
        let until = self.now + s(seconds);
        while let Some(next) = self.engine.poll_timeout(self.now).filter(|next| *next <= until && *next > self.now) {
            self.now = next;
            self.engine.handle_timeout(self.now);
        }
        self.now = until;
        self.engine.handle_timeout(self.now);
    }

    fn hear(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        put(&mut out);
        self.engine.handle_datagram(&out, self.now);
        self.engine.handle_timeout(self.now);
    }

    fn piece(&mut self, number: u64, mark: Mark, offset: u64, bytes: &[u8]) {
        let session = SessionId { engine: 2, number };
        self.hear(|out| put_data(out, session, &Data { mark, service: 1, offset, bytes }));
    }

    /// All that is sent at once.
    fn said(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            if self.engine.poll_transmit(self.now, &mut out).is_none() {
                return all;
            }
            all.push(out);
        }
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.engine.poll_event()).collect()
    }
}

fn segments(datagrams: &[Vec<u8>]) -> Vec<Segment<'_>> {
    datagrams.iter().map(|datagram| Segments::new(datagram).next().unwrap().unwrap()).collect()
}

#[test]
fn blocks_of_all_lengths_cross_and_nothing_is_left_behind() {
    let mut dark = dark(1, 0.01, 0.0, 100 * MBIT);
    let lens = [1, 2, 16, 255, 256, 257, 272, 273, 1456, 1457, 1458, 1473, 1474, 2914, 100_000, 1 << 20];
    for (key, len) in (0..).zip(lens) {
        dark.send(0, key, len, true);
        dark.send(1, key + 100, len, true);
    }
    assert!(dark.run(FOREVER, Dark::is_delivered));
    assert!(dark.run(dark.now + s(60.0), Dark::is_at_rest));
    for which in 0..2 {
        let status = &dark.engines[which].status().peers[0];
        assert_eq!((status.export_len, status.import_len), (0, 0));
        assert_eq!(status.totals.len_resent, 0, "nothing was lost, so nothing is sent again");
        let light = status.light.expect("measured");
        assert!(light.abs_diff(s(0.01)) < s(0.015), "{light:?}");
    }
}

#[test]
fn the_longest_block_crosses_and_a_longer_one_is_not_taken() {
    let mut dark = dark(2, 0.01, 0.02, 1000 * MBIT);
    dark.send(0, 1, BLOCK_LEN_MAX, true);
    let to = IDS[1];
    let engine = &mut dark.engines[0];
    assert_eq!(engine.send(to, Block::bundles(2, vec![0; BLOCK_LEN_MAX + 1])), Err(SendError::Length));
    assert_eq!(engine.send(to, Block::bundles(2, vec![])), Err(SendError::Length));
    assert_eq!(engine.send(to, Block::bundles(1, vec![0])), Err(SendError::Known));
    assert_eq!(engine.send(to + 1, Block::bundles(2, vec![0])), Err(SendError::Peer));
    assert!(dark.run(FOREVER, Dark::is_delivered));
}

#[test]
fn what_waits_to_be_sent_is_limited() {
    let mut alone = Alone::new(|peer| peer.export_len_max = 1000);
    let mut send = |key, len| alone.engine.send(2, Block::bundles(key, vec![0; len]));
    assert_eq!(send(1, 1001), Ok(()), "one block may always wait");
    assert_eq!(send(2, 1), Err(SendError::Full));
    alone.engine.cancel(2, 1);
    let mut send = |key, len| alone.engine.send(2, Block::bundles(key, vec![0; len]));
    assert_eq!((send(3, 999), send(4, 1), send(5, 1)), (Ok(()), Ok(()), Err(SendError::Full)));
}

#[test]
fn peers_are_known_by_their_engine_ids_alone() {
    let mut alone = Alone::new(|_| {});
    let now = alone.now;
    assert_eq!(alone.engine.add_peer(PeerConfig::new(1, s(1.0)), now), Err(PeerError::Known));
    assert_eq!(alone.engine.add_peer(PeerConfig::new(2, s(1.0)), now), Err(PeerError::Known));
    let none = PeerConfig { sessions_max: 0, ..PeerConfig::new(9, s(1.0)) };
    assert_eq!(alone.engine.add_peer(none, now), Err(PeerError::Sessions));
    for id in 3..=LTP_PEERS_MAX as u64 + 1 {
        alone.engine.add_peer(PeerConfig::new(id, s(1.0)), now).unwrap();
    }
    assert_eq!(alone.engine.add_peer(PeerConfig::new(9999, s(1.0)), now), Err(PeerError::Full));
    // A stranger's piece is nothing, a peer's is the peer's.
    let end = Mark::BlockEnd(Checkpoint { number: 1, report: 0 });
    let stranger = SessionId { engine: 9999, number: 1 };
    alone.hear(|out| put_data(out, stranger, &Data { mark: end, service: 1, offset: 0, bytes: b"x" }));
    assert!(alone.events().is_empty() && alone.said().is_empty());
    assert_eq!(alone.engine.status().foreign, 1);
    alone.piece(1, end, 0, b"y");
    assert!(matches!(&alone.events()[..], [Event::Received { peer: 2, bytes, .. }] if bytes == b"y"));
    let said = alone.said();
    assert!(matches!(
        segments(&said)[..],
        [Segment { session: SessionId { engine: 2, number: 1 }, content: Content::Report(_) }]
    ));
}

#[test]
fn a_block_that_came_is_not_received_again_however_late_its_pieces_come() {
    let mut alone = Alone::new(|_| {});
    let end = Mark::BlockEnd(Checkpoint { number: 7, report: 0 });
    alone.piece(1, Mark::Red, 0, b"ab");
    alone.piece(1, end, 2, b"c");
    assert_eq!(alone.events().len(), 1);
    let said = alone.said();
    let [Content::Report(report)] = &segments(&said).iter().map(|s| s.content.clone()).collect::<Vec<_>>()[..] else {
        panic!("one report at once, its copies later")
    };
    let number = report.number;
    // It is open until the report is acknowledged, and remembered after that.
    alone.piece(1, Mark::Red, 0, b"ab");
    alone.hear(|out| lavatube_format::ltp::put_report_ack(out, SessionId { engine: 2, number: 1 }, number));
    assert!(alone.engine.status().peers[0].incoming.is_empty());
    alone.wait(1.0);
    alone.said();
    for _ in 0..3 {
        alone.piece(1, Mark::Red, 0, b"ab");
        assert!(alone.said().is_empty());
        alone.piece(1, end, 2, b"c");
        let said = alone.said();
        let [Segment { content: Content::Report(report), .. }] = segments(&said)[..] else { panic!("a report") };
        assert_eq!((report.checkpoint, report.claims().collect::<Vec<_>>()), (7, vec![0..3]));
        assert!(report.number > number);
    }
    assert!(alone.events().is_empty());
}

#[test]
fn a_report_waits_for_what_is_late_and_not_when_all_is_there() {
    let mut alone = Alone::new(|_| {});
    alone.piece(1, Mark::Red, 0, b"ab");
    alone.piece(1, Mark::BlockEnd(Checkpoint { number: 7, report: 0 }), 4, b"e");
    assert!(alone.said().is_empty(), "bytes 2 and 3 may be on its heels");
    alone.wait(0.01);
    alone.piece(1, Mark::Red, 2, b"cd");
    let said = alone.said();
    let [Segment { content: Content::Report(report), .. }] = segments(&said)[..] else { panic!("a report") };
    assert_eq!(report.claims().collect::<Vec<_>>(), [0..5]);

    alone.piece(2, Mark::Red, 0, b"ab");
    alone.piece(2, Mark::BlockEnd(Checkpoint { number: 7, report: 0 }), 4, b"e");
    alone.wait(0.02);
    let said = alone.said();
    let reports: Vec<_> = segments(&said).into_iter().filter(|s| s.session.number == 2).collect();
    let [Segment { content: Content::Report(report), .. }] = reports[..] else { panic!("a report") };
    assert_eq!((report.lower, report.upper), (0, 5));
    assert_eq!(report.claims().collect::<Vec<_>>(), [0..2, 4..5]);
    let number = report.number;
    // The answer to that report is answered from where that report began.
    alone.piece(2, Mark::Checkpoint(Checkpoint { number: 8, report: number }), 2, b"c");
    alone.wait(0.02);
    let said = alone.said();
    let last = segments(&said).into_iter().rfind(|s| s.session.number == 2).unwrap().content;
    let Content::Report(report) = last else { panic!("a report") };
    assert_eq!((report.checkpoint, report.lower, report.upper), (8, 0, 3));
    assert_eq!(report.claims().collect::<Vec<_>>(), [0..3]);
}

/// What an engine that sent one block of 10,000 bytes is told by hand.
fn sent_one(alone: &mut Alone) -> (SessionId, u64) {
    alone.engine.send(2, Block::bundles(1, vec![7; 10_000])).unwrap();
    let said = alone.said();
    let all = segments(&said);
    let Some(Content::Data(last)) = all.last().map(|s| s.content.clone()) else { panic!("data") };
    let Mark::BlockEnd(checkpoint) = last.mark else { panic!("the last is a checkpoint") };
    assert_eq!((last.offset, last.bytes.len(), checkpoint.report), (10_000 - 16, 16, 0));
    assert!(all[..all.len() - 1].iter().all(|s| matches!(&s.content, Content::Data(d) if d.mark == Mark::Red)));
    assert!(said[..said.len() - 2].iter().all(|datagram| datagram.len() == DATAGRAM_LEN_MAX));
    (all[0].session, checkpoint.number)
}

fn report(alone: &mut Alone, session: SessionId, head: ReportHead, claims: &[std::ops::Range<u64>]) {
    let mut claims = claims.iter().cloned().peekable();
    alone.hear(|out| {
        put_report(out, session, head, &mut claims, DATAGRAM_LEN_MAX);
    });
}

#[test]
fn reports_in_several_segments_make_one_round() {
    let mut alone = Alone::new(|_| {});
    let (session, checkpoint) = sent_one(&mut alone);
    alone.wait(1.0);
    alone.said();
    let head = ReportHead { number: 50, checkpoint, lower: 0, upper: 4000 };
    report(&mut alone, session, head, &[0..1000, 2000..4000]);
    report(&mut alone, session, ReportHead { number: 51, lower: 4000, upper: 10_000, ..head }, &[5000..10_000]);
    let said = alone.said();
    let acks: Vec<_> = segments(&said).into_iter().map(|s| s.content).collect();
    assert_eq!(
        acks,
        [Content::ReportAck { report: 50 }, Content::ReportAck { report: 51 }],
        "at once, and nothing else"
    );
    alone.wait(0.021);
    let said = alone.said();
    let mut pieces = Vec::new();
    for segment in segments(&said) {
        let Content::Data(data) = segment.content else { panic!("data") };
        pieces.push((data.offset..data.offset + data.bytes.len() as u64, data.mark));
    }
    let Some((last, Mark::Checkpoint(asked))) = pieces.pop() else { panic!("a checkpoint at the end") };
    assert_eq!((last, asked.report, asked.number), (4984..5000, 50, checkpoint + 1), "it answers the lowest report");
    pieces.dedup();
    assert!(pieces.iter().all(|(_, mark)| *mark == Mark::Red));
    assert!(pieces.iter().any(|(p, _)| *p == (1000..2000)) && pieces.iter().any(|(p, _)| *p == (4000..4984)));
    // A report that was on its way meanwhile wants nothing of what is on its way.
    report(
        &mut alone,
        session,
        ReportHead { number: 52, checkpoint, lower: 0, upper: 10_000 },
        &[0..1000, 2000..10_000],
    );
    alone.wait(0.1);
    assert!(segments(&alone.said()).iter().all(|s| !matches!(&s.content, Content::Data(d) if d.mark == Mark::Red)));
    report(&mut alone, session, ReportHead { number: 53, checkpoint: asked.number, lower: 0, upper: 5000 }, &[0..5000]);
    assert_eq!(alone.events(), [Event::Delivered { peer: 2, key: 1 }]);
    // A report about a block that is done is still acknowledged.
    alone.said();
    report(&mut alone, session, ReportHead { number: 54, checkpoint, lower: 0, upper: 10_000 }, &[0..10_000]);
    assert_eq!(segments(&alone.said())[0].content, Content::ReportAck { report: 54 });
}

#[test]
fn a_block_whose_peer_says_only_half_is_asked_about_again() {
    // RFC 5326: the first of several segments of a report ends the wait for the checkpoint's answer. If the others never come,
    // nobody there is left to speak.
    let mut alone = Alone::new(|_| {});
    let (session, checkpoint) = sent_one(&mut alone);
    alone.wait(1.0);
    alone.said();
    report(&mut alone, session, ReportHead { number: 50, checkpoint, lower: 0, upper: 4000 }, &[0..4000]);
    alone.said();
    alone.wait(3.0);
    let said = alone.said();
    let Content::Data(data) = segments(&said)[0].content else { panic!("data") };
    let Mark::BlockEnd(asked) = data.mark else { panic!("a checkpoint about the whole block") };
    assert_eq!((asked.report, asked.number), (50, checkpoint + 1));
    report(
        &mut alone,
        session,
        ReportHead { number: 51, checkpoint: asked.number, lower: 0, upper: 10_000 },
        &[0..10_000],
    );
    assert_eq!(alone.events(), [Event::Delivered { peer: 2, key: 1 }]);
}

#[test]
fn a_peer_that_claims_what_was_not_sent_or_says_nothing_new_for_ever_is_not_believed() {
    let mut alone = Alone::new(|_| {});
    let (session, checkpoint) = sent_one(&mut alone);
    report(&mut alone, session, ReportHead { number: 50, checkpoint, lower: 0, upper: 10_001 }, &[0..10_001]);
    assert!(alone.events().is_empty());
    for number in 100..200 {
        alone.wait(0.03);
        report(&mut alone, session, ReportHead { number, checkpoint: 0, lower: 0, upper: 10_000 }, &[0..1]);
        alone.said();
    }
    assert_eq!(alone.events(), [Event::Failed { peer: 2, key: 1, reason: Reason::Rounds }]);
}

#[test]
fn a_lost_checkpoint_is_repeated_from_when_it_left_and_given_up_after_so_many_times() {
    let mut alone = Alone::new(|peer| peer.repeats_max = 3);
    // It waits for an hour before it leaves: no clock runs.
    alone.engine.contact_closed(2, alone.now);
    alone.engine.send(2, Block::bundles(1, vec![7; 300])).unwrap();
    alone.wait(3600.0);
    assert!(alone.said().is_empty());
    alone.engine.contact_opened(2, 1000 * MBIT, alone.now);
    assert_eq!(alone.said().len(), 2);
    let mut asked = 1;
    for _ in 0..600 {
        alone.wait(0.1);
        asked += alone.said().len();
        if let [Event::Failed { key: 1, reason: Reason::Retries, .. }] = alone.events()[..] {
            break;
        }
    }
    // Each time twice, a few milliseconds apart; the cancellation may be among the last.
    assert!((8..=10).contains(&asked), "{asked}");
    let status = &alone.engine.status().peers[0];
    assert_eq!((status.line, status.outgoing[0].state), (Line::Silent, Outgoing::GivingUp));
    alone.hear(|out| lavatube_format::ltp::put_cancel_ack(out, status.outgoing[0].session, true));
    assert!(alone.engine.status().peers[0].outgoing.is_empty());
}

#[test]
fn both_sides_may_give_a_block_up_and_the_other_hears_of_it() {
    let mut dark = dark(3, 1.3, 0.3, 20 * MBIT);
    dark.send(0, 1, 1 << 20, true);
    dark.send(0, 2, 1 << 20, true);
    assert!(!dark.run(dark.now + s(0.2), |_| false));
    dark.engines[0].cancel(IDS[1], 1);
    assert!(dark.run(dark.now + s(600.0), |dark| dark.delivered[0].contains(&2) && dark.is_at_rest()));
    assert_eq!(dark.failed[0].get(&1), Some(&Reason::Cancelled));
    assert_eq!(dark.abandoned[1], [Reason::Cancelled]);
    assert!(!dark.received[1].contains_key(&1));

    // The receiver has nobody for this service.
    let block = Block { service: 5, ..Block::bundles(3, vec![1; 5000]) };
    dark.engines[0].send(IDS[1], block).unwrap();
    assert!(dark.run(dark.now + s(600.0), |dark| dark.failed[0].contains_key(&3)));
    assert_eq!(dark.failed[0].get(&3), Some(&Reason::Unreachable));
}

#[test]
fn red_after_green_and_ends_that_differ_are_refused() {
    let end = |number| Mark::BlockEnd(Checkpoint { number, report: 0 });
    let cases: [&[(Mark, u64)]; 5] = [
        &[(Mark::Green, 0), (Mark::Red, 0)],
        &[(Mark::RedEnd(Checkpoint { number: 1, report: 0 }), 100), (Mark::Green, 50)],
        &[(end(1), 100), (end(2), 200)],
        &[(end(1), 100), (Mark::Red, 200)],
        &[(Mark::Red, BLOCK_LEN_MAX as u64)],
    ];
    for (pieces, number) in cases.iter().zip(1..) {
        let mut alone = Alone::new(|_| {});
        pieces.iter().for_each(|(mark, offset)| alone.piece(number, *mark, *offset, b"abc"));
        let reason = if number <= 2 { Reason::Miscolored } else { Reason::System };
        let said = alone.said();
        let told = segments(&said).iter().any(|s| s.content == Content::CancelByReceiver(reason));
        assert!(told, "{number}");
        assert!(matches!(alone.events()[..], [Event::Abandoned { reason: why, .. }] if why == reason));
        alone.hear(|out| lavatube_format::ltp::put_cancel_ack(out, SessionId { engine: 2, number }, false));
        assert!(alone.engine.status().peers[0].incoming.is_empty());
        // What comes late is told the same.
        alone.said();
        alone.piece(number, Mark::Red, 0, b"abc");
        assert_eq!(segments(&alone.said())[0].content, Content::CancelByReceiver(reason));
    }
}

#[test]
fn a_cancelled_block_that_comes_again_is_ignored_and_the_cancellation_acknowledged_each_time() {
    let mut alone = Alone::new(|_| {});
    alone.piece(9, Mark::Red, 0, b"abc");
    let session = SessionId { engine: 2, number: 9 };
    for _ in 0..2 {
        alone.hear(|out| put_cancel(out, session, true, Reason::Cancelled));
        assert_eq!(segments(&alone.said())[0].content, Content::CancelAckToSender);
        alone.piece(9, Mark::BlockEnd(Checkpoint { number: 1, report: 0 }), 0, b"abc");
    }
    assert!(matches!(alone.events()[..], [Event::Abandoned { reason: Reason::Cancelled, .. }]));
    assert!(alone.engine.status().peers[0].incoming.is_empty());
}

#[test]
fn a_block_of_which_nothing_comes_any_more_is_given_up() {
    let mut alone = Alone::new(|peer| peer.idle_max = s(100.0));
    alone.piece(1, Mark::Red, 0, b"abc");
    alone.wait(99.0);
    assert!(alone.events().is_empty());
    // The contact is closed meanwhile: that does not count.
    alone.engine.contact_closed(2, alone.now);
    alone.wait(1000.0);
    alone.engine.contact_opened(2, MBIT, alone.now);
    alone.wait(0.9);
    assert!(alone.events().is_empty());
    alone.wait(0.2);
    assert!(matches!(alone.events()[..], [Event::Abandoned { reason: Reason::Retries, .. }]));
}

#[test]
fn green_blocks_are_sent_once_and_whole_ones_are_received() {
    let mut dark = dark(4, 0.5, 0.0, 20 * MBIT);
    for (key, len) in (0..).zip([1, 1457, 1458, 100_000]) {
        dark.send(0, key, len, false);
    }
    assert!(dark.run(FOREVER, |dark| dark.is_delivered() && dark.received[1].len() == 4));
    assert_eq!(dark.datagrams[1], 0, "nobody reports");
    assert!(dark.is_at_rest());

    let mut dark = self::dark(4, 0.5, 0.5, 20 * MBIT);
    dark.send(0, 1, 100_000, false);
    assert!(dark.run(FOREVER, Dark::is_delivered));
    assert!(!dark.run(dark.now + s(100.0), |dark| !dark.received[1].is_empty()), "half of it is not handed out");
}

#[test]
fn the_red_part_does_not_wait_long_for_the_green_one() {
    let mut alone = Alone::new(|_| {});
    alone.piece(1, Mark::RedEnd(Checkpoint { number: 1, report: 0 }), 0, b"red");
    alone.piece(1, Mark::GreenEnd, 6, b"een");
    assert!(alone.events().is_empty());
    alone.wait(3.0);
    let [Event::Received { bytes, red_len: 3, whole: false, .. }] = &alone.events()[..] else { panic!("the red part") };
    assert_eq!(bytes, b"red");
    alone.piece(2, Mark::RedEnd(Checkpoint { number: 1, report: 0 }), 0, b"red");
    alone.piece(2, Mark::Green, 3, b"gr");
    alone.piece(2, Mark::GreenEnd, 5, b"een");
    let [Event::Received { bytes, red_len: 3, whole: true, .. }] = &alone.events()[..] else { panic!("both") };
    assert_eq!(bytes, b"redgreen");
}

#[test]
fn a_closed_contact_stops_all_clocks() {
    let mut dark = dark(5, 1.3, 0.01, 20 * MBIT);
    (0..8).for_each(|key| dark.send(0, key, 1 << 20, true));
    assert!(!dark.run(dark.now + s(2.0), |_| false));
    (0..2).for_each(|which| dark.close(which));
    let sent = dark.len_sent;
    assert!(!dark.run(dark.now + s(36_000.0), |_| false));
    assert_eq!(dark.len_sent, sent, "nothing is sent into a closed contact");
    (0..2).for_each(|which| dark.open(which, 20 * MBIT));
    assert!(dark.run(FOREVER, Dark::is_delivered));
    let bytes = (8 << 20) as f64;
    assert!(dark.len_sent[0] as f64 <= bytes * 1.07, "{}", dark.len_sent[0] as f64 / bytes);
    assert!(dark.failed[0].is_empty());
}

#[test]
fn a_link_that_is_cut_for_an_hour_costs_a_few_seconds_of_bytes_and_no_block() {
    let cut = (Instant(2_000_000_000), Instant(3_602_000_000_000));
    let channel = Way { dark: vec![cut], ..way(1.3, 0.01) };
    let mut dark = Dark::new(6, [channel.clone(), channel], [20 * MBIT; 2], |_| {});
    (0..40).for_each(|key| dark.send(0, key, 1 << 20, true));
    assert!(!dark.run(cut.1, |_| false));
    assert_eq!(dark.engines[0].status().peers[0].line, Line::Silent);
    // Two patiences until it is noticed, and then only checkpoints.
    let seconds = dark.len_sent[0] as f64 * 8.0 / (20.0 * MBIT as f64);
    assert!(seconds < 15.0, "{seconds}");
    let back = dark.now;
    assert!(dark.run(FOREVER, Dark::is_delivered));
    let took = dark.now.since(back).as_secs_f64();
    assert!(took < 300.0 + 17.0 + 15.0, "{took}");
    assert!(dark.failed[0].is_empty());
}

#[test]
fn five_round_trips_of_bytes_are_under_way_and_not_much_more() {
    let back = Way { dark: vec![(Instant(0), FOREVER)], ..way(1.3, 0.0) };
    let mut dark = Dark::new(7, [way(1.3, 0.0), back], [20 * MBIT; 2], |_| {});
    (0..400).for_each(|key| dark.send(0, key, 100_000, true));
    let mut most = 0;
    dark.run(dark.now + s(4.0), |dark| {
        let status = &dark.engines[0].status().peers[0];
        let begun = status.outgoing.iter().filter(|o| o.state != Outgoing::Waiting);
        most = most.max(begun.map(|o| o.len).sum::<u64>());
        false
    });
    // Nothing comes back: after two patiences it stops by itself; the window allows for more than what was sent until then.
    assert!((8_000_000..=45_000_000).contains(&most), "{most}");
    let slow = Dark::new(8, [way(1.3, 0.0), way(1.3, 0.0)], [MBIT / 10; 2], |_| {});
    let mut slow = slow;
    (0..400).for_each(|key| slow.send(0, key, 100_000, true));
    let mut most = 0;
    slow.run(slow.now + s(100.0), |dark| {
        let status = &dark.engines[0].status().peers[0];
        let begun = status.outgoing.iter().filter(|o| o.state != Outgoing::Waiting);
        most = most.max(begun.map(|o| o.len).sum::<u64>());
        false
    });
    assert!(most <= 1 << 20, "{most}");
}

#[test]
fn no_more_blocks_are_under_way_than_the_peer_is_said_to_take() {
    let channel = way(0.1, 0.05);
    let limit = |peer: &mut PeerConfig| peer.sessions_max = 3;
    let mut dark = Dark::new(9, [channel.clone(), channel], [100 * MBIT; 2], limit);
    (0..30).for_each(|key| dark.send(0, key, 20_000, true));
    let mut most = 0;
    assert!(dark.run(FOREVER, |dark| {
        let status = &dark.engines[0].status().peers[0];
        most = most.max(status.outgoing.iter().filter(|o| o.state != Outgoing::Waiting).count());
        dark.is_delivered()
    }));
    assert_eq!(most, 3);
}

#[test]
fn memory_for_what_comes_in_is_limited_and_all_of_it_still_comes() {
    let channel = way(0.05, 0.02);
    let limit = |peer: &mut PeerConfig| peer.import_len_max = 1 << 20;
    let mut dark = Dark::new(10, [channel.clone(), channel], [200 * MBIT; 2], limit);
    (0..24).for_each(|key| dark.send(0, key, 700_000, true));
    let mut most = 0;
    assert!(dark.run(FOREVER, |dark| {
        most = most.max(dark.engines[1].status().peers[0].import_len);
        dark.is_delivered()
    }));
    // The limit, and one block that may be finished; a vector that grows has up to twice its bytes.
    assert!(most <= 2 * ((1 << 20) + 700_000), "{most}");
    assert!(totals(&dark, 1).no_room > 0);
}

#[test]
fn of_two_blocks_for_which_there_is_no_memory_the_older_becomes_whole() {
    let mut alone = Alone::new(|peer| peer.import_len_max = 1000);
    let end = Mark::BlockEnd(Checkpoint { number: 1, report: 0 });
    alone.piece(1, Mark::Red, 0, &[1; 500]);
    alone.piece(2, Mark::Red, 0, &[2; 500]);
    alone.piece(2, end, 500, &[2; 100]);
    assert!(alone.events().is_empty());
    alone.piece(1, end, 500, &[1; 100]);
    assert!(matches!(&alone.events()[..], [Event::Received { bytes, .. }] if *bytes == [1; 600]));
    alone.piece(2, end, 500, &[2; 100]);
    assert!(matches!(&alone.events()[..], [Event::Received { bytes, .. }] if *bytes == [2; 600]));
}

#[test]
fn a_block_whose_sender_is_no_more_gives_way_where_memory_is_short() {
    let mut alone = Alone::new(|peer| peer.import_len_max = 2000);
    let end = Mark::BlockEnd(Checkpoint { number: 7, report: 0 });
    alone.piece(1, Mark::Red, 0, &[1; 1400]);
    alone.wait(200.0);
    // It may still be sent.
    alone.piece(2, end, 1300, &[2; 100]);
    alone.piece(2, Mark::Red, 0, &[2; 1300]);
    assert!(alone.events().is_empty());
    alone.wait(200.0);
    alone.piece(2, end, 1300, &[2; 100]);
    let gone = alone.events();
    assert!(matches!(
        &gone[..],
        [Event::Abandoned { session: SessionId { number: 1, .. }, reason: Reason::System, .. }]
    ));
    alone.piece(2, Mark::Red, 0, &[2; 1300]);
    alone.piece(2, end, 1300, &[2; 100]);
    assert!(alone.events().iter().any(|event| matches!(event, Event::Received { bytes, .. } if *bytes == [2; 1400])));
}

#[test]
fn whoever_waits_for_a_block_that_an_earlier_life_began_is_told_that_none_comes() {
    let mut alone = Alone::new(|_| {});
    let head = ReportHead { number: 3, checkpoint: 4, lower: 0, upper: 100 };
    report(&mut alone, SessionId { engine: 1, number: 77 }, head, &[0..10]);
    let said = alone.said();
    let [Segment { session: SessionId { engine: 1, number: 77 }, content: Content::CancelBySender(_) }] =
        segments(&said)[..]
    else {
        panic!("{said:?}")
    };
    // Of another's block it says nothing, nor where it cannot know whose it is.
    report(&mut alone, SessionId { engine: 3, number: 77 }, head, &[0..10]);
    let now = alone.now;
    alone.engine.add_peer(PeerConfig::new(3, s(1.0)), now).unwrap();
    report(&mut alone, SessionId { engine: 1, number: 78 }, head, &[0..10]);
    assert!(alone.said().is_empty());
}

#[test]
fn a_silence_in_which_nobody_waits_for_anything_is_broken_by_a_question() {
    let mut alone = Alone::new(|_| {});
    alone.engine.contact_opened(2, MBIT, alone.now);
    let len = 2_000_000;
    alone.engine.send(2, Block::bundles(1, vec![7; len])).unwrap();
    let run = |alone: &mut Alone, seconds: u64| {
        let mut said = Vec::new();
        for _ in 0..seconds * 100 {
            alone.wait(0.01);
            said.extend(alone.said());
        }
        said
    };
    let asked = |said: &[Vec<u8>]| {
        let checkpoint = |segment: Segment<'_>| match segment.content {
            Content::Data(data) => data.mark.checkpoint().map(|c| (segment.session, c.number)),
            _ => None,
        };
        segments(said).into_iter().filter_map(checkpoint).next_back()
    };
    let mut said = Vec::new();
    while asked(&said).is_none() {
        said = run(&mut alone, 1);
    }
    let (session, checkpoint) = asked(&said).unwrap();
    let upper = len as u64;
    report(&mut alone, session, ReportHead { number: 50, checkpoint, lower: 0, upper }, &[upper - 16..upper]);
    // Nearly all is sent again, which takes a while, and meanwhile something is said to which no answer comes.
    let stranger = SessionId { engine: 2, number: 9 };
    run(&mut alone, 1);
    alone.hear(|out| put_data(out, stranger, &Data { mark: Mark::Red, service: 77, offset: 0, bytes: b"x" }));
    run(&mut alone, 8);
    let status = &alone.engine.status().peers[0];
    assert_eq!((status.line, status.outgoing[0].state), (Line::Silent, Outgoing::Resending));
    let said = run(&mut alone, 20);
    let (_, checkpoint) = asked(&said).expect("a question");
    report(&mut alone, session, ReportHead { number: 51, checkpoint, lower: 0, upper }, &[0..upper]);
    assert_eq!(alone.events(), [Event::Delivered { peer: 2, key: 1 }]);
}

#[test]
fn crumbs_are_kept_up_to_the_limit_and_no_further() {
    let mut alone = Alone::new(|_| {});
    // The last first, so that all others lie before it; then every second byte.
    alone.piece(1, Mark::Red, 400_000, b"x");
    let (crumbs, most) = (LTP_STRETCHES_MAX as u64 + 500, LTP_STRETCHES_MAX as u64);
    (0..crumbs).for_each(|n| alone.piece(1, Mark::Red, 2 * n, b"x"));
    let held = |alone: &Alone| alone.engine.status().peers[0].incoming[0].len;
    assert_eq!(held(&alone), most);
    // What fills a gap is still taken.
    alone.piece(1, Mark::Red, 1, b"x");
    assert_eq!(held(&alone), most + 1);
    assert_eq!(alone.engine.status().peers[0].totals.no_room, 501);
}

#[test]
fn a_thousand_blocks_at_once_are_all_asked_about_after_a_silence() {
    let cut = (Instant(2_000_000_000), Instant(60_000_000_000));
    let channel = Way { dark: vec![cut], ..way(0.3, 0.3) };
    let mut dark = Dark::new(13, [channel.clone(), channel], [50 * MBIT; 2], |peer| peer.sessions_max = 5000);
    (0..4000).for_each(|key| dark.send(0, key, 1000, true));
    assert!(dark.run(dark.now + s(3600.0), Dark::is_delivered));
}

#[test]
fn what_is_small_goes_first_and_what_is_sent_again_before_what_is_new() {
    let mut dark = dark(11, 1.3, 0.05, 20 * MBIT);
    (0..40).for_each(|key| dark.send(0, key, 1 << 20, true));
    assert!(dark.run(FOREVER, Dark::is_delivered));
    // The first block was whole a round trip or two after it was sent, although 39 others were waiting.
    let first = dark.received[1][&0].since(Instant(1_000_000_000)).as_secs_f64();
    assert!(first < 0.5 + 1.3 + 2.0 * 2.7, "{first}");
}

#[test]
fn one_engine_serves_several_peers_and_each_has_its_turn() {
    let now = Instant(1_000_000_000);
    let mut engine = Engine::new(Config::new(1, 5));
    for id in 2..5 {
        engine.add_peer(PeerConfig::new(id, s(1.0)), now).unwrap();
        engine.contact_opened(id, 1000 * MBIT, now);
        engine.send(id, Block::bundles(7, vec![id as u8; 100_000])).unwrap();
    }
    let (mut out, mut to) = (Vec::new(), Vec::new());
    while let Some(id) = engine.poll_transmit(now, &mut out) {
        let Some(Ok(Segment { content: Content::Data(data), .. })) = Segments::new(&out).next() else { panic!("data") };
        assert!(data.bytes.iter().all(|byte| u64::from(*byte) == id), "each is sent its own");
        to.push(id);
        out.clear();
    }
    assert!([2, 3, 4].iter().all(|id| to.iter().filter(|to| *to == id).count() > 60));
    let first: std::collections::BTreeSet<_> = to[..150].iter().collect();
    assert!(first.len() > 1, "nobody waits for all of another's");
}

#[test]
fn seeds_of_everything_at_once() {
    for seed in 0..SEEDS {
        let mut chance = Chance::new(seed ^ 0x5eed, 0);
        let light = [0.001, 0.05, 0.3, 1.3, 20.0][chance.below(5) as usize];
        let rate = [MBIT / 2, 5 * MBIT, 100 * MBIT][chance.below(3) as usize];
        let channel = |chance: &mut Chance| Way {
            spell: if chance.hits(0.3) { Duration::from_micros(20 * 120) } else { Duration::ZERO },
            duplicated: [0.0, 0.1, 0.5][chance.below(3) as usize],
            jitter: s([0.0, 0.005, 0.2, 3.0][chance.below(4) as usize]),
            ..way(light, [0.0, 0.01, 0.1, 0.3, 0.5][chance.below(5) as usize])
        };
        let channels = [channel(&mut chance), channel(&mut chance)];
        let rates = [rate, rate / (1 + chance.below(10))];
        let guess = s(light * [1.0, 0.5, 2.0][chance.below(3) as usize]);
        let mut dark = Dark::new(seed, channels, rates, |peer| peer.light = guess);
        for key in 0..1 + chance.below(20) {
            let from = usize::from(chance.hits(0.4));
            let most = [50, 2000, 300_000][chance.below(3) as usize];
            let len = 1 + chance.below(most) as usize;
            dark.send(from, key, len, true);
        }
        for _ in 0..chance.below(4) {
            dark.run(dark.now + s(0.1 + light * 4.0 * chance.share()), Dark::is_delivered);
            (0..2).for_each(|which| dark.close(which));
            dark.run(dark.now + s(3600.0 * chance.share()), Dark::is_delivered);
            (0..2).for_each(|which| dark.open(which, rates[which]));
        }
        let done = dark.run(dark.now + s(200_000.0), Dark::is_delivered);
        assert!(
            done,
            "seed {seed}: {:?} {:?}",
            dark.failed,
            dark.engines.iter().map(Engine::status).collect::<Vec<_>>()
        );
        assert!(dark.run(dark.now + s(200_000.0), Dark::is_at_rest), "seed {seed} rests");
        assert!(dark.failed.iter().all(|failed| failed.is_empty()), "seed {seed}");
        assert!(dark.engines.iter().all(|engine| engine.status().malformed + engine.status().foreign == 0));
    }
}

#[test]
fn no_bytes_make_an_engine_panic_or_exceed_its_limits() {
    for seed in 0..40 {
        let mut chance = Chance::new(seed, 0);
        let mut alone = Alone::new(|peer| (peer.import_len_max, peer.repeats_max) = (1 << 20, 3));
        alone.engine.send(2, Block::bundles(1, vec![7; 50_000])).unwrap();
        let mut seen: Vec<Vec<u8>> = alone.said();
        for step in 0..2000 {
            let mut bytes = if chance.hits(0.3) {
                seen[chance.below(seen.len() as u64) as usize].clone()
            } else {
                hostile(&mut chance, &seen[0])
            };
            if chance.hits(0.3) {
                let at = chance.below(bytes.len() as u64) as usize;
                bytes[at] = chance.word() as u8;
            }
            alone.engine.handle_datagram(&bytes, alone.now);
            if step % 7 == 0 {
                alone.wait(chance.share() * 0.2);
            }
            let said = alone.said();
            assert!(said.iter().all(|datagram| datagram.len() <= DATAGRAM_LEN_MAX));
            seen.extend(said);
            seen.truncate(2000);
            alone.events();
            let status = &alone.engine.status().peers[0];
            assert!(status.import_len <= (1 << 20) + 2 * BLOCK_LEN_MAX, "{}", status.import_len);
        }
    }
}

/// A segment that the peer may send, with numbers near those that matter.
fn hostile(chance: &mut Chance, ours: &[u8]) -> Vec<u8> {
    let ours = Segments::new(ours).next().unwrap().unwrap().session;
    let number =
        |chance: &mut Chance| [0, 1, 2, 50_000, 1 << 20, u64::MAX / 2][chance.below(6) as usize] + chance.below(3);
    let session = SessionId { engine: 2, number: chance.below(4) };
    let mut out = Vec::new();
    match chance.below(6) {
        0..3 => {
            let checkpoint = Checkpoint { number: 1 + chance.below(300), report: number(chance) };
            let marks = [
                Mark::Red,
                Mark::Checkpoint(checkpoint),
                Mark::RedEnd(checkpoint),
                Mark::BlockEnd(checkpoint),
                Mark::Green,
                Mark::GreenEnd,
            ];
            let (mark, offset) = (marks[chance.below(6) as usize], number(chance));
            let bytes = vec![1; chance.below(1400) as usize];
            put_data(&mut out, session, &Data { mark, service: 1, offset, bytes: &bytes });
        }
        3 => {
            let (lower, len) = (number(chance), 1 + chance.below(60_000));
            let head = ReportHead { number: 1 + number(chance), checkpoint: number(chance), lower, upper: lower + len };
            let mut claims = vec![lower + chance.below(len)..lower + len].into_iter().peekable();
            put_report(&mut out, ours, head, &mut claims, DATAGRAM_LEN_MAX);
        }
        4 => put_cancel(&mut out, session, true, Reason::Cancelled),
        _ => lavatube_format::ltp::put_report_ack(&mut out, session, number(chance)),
    }
    out
}

#[test]
fn status_says_where_blocks_are() {
    let mut dark = dark(12, 1.3, 0.0, 20 * MBIT);
    dark.send(0, 1, 1 << 20, true);
    dark.run(dark.now + s(1.5), |_| false);
    let status = dark.engines[0].status();
    let peer = &status.peers[0];
    assert_eq!((peer.engine, peer.rate_bit_s, peer.light), (IDS[1], 20 * MBIT, None));
    assert_eq!((peer.outgoing[0].key, peer.outgoing[0].acked, peer.outgoing[0].state), (1, 0, Outgoing::Asking));
    let there = dark.engines[1].status();
    assert!(there.peers[0].incoming[0].len > 100_000 && there.peers[0].incoming[0].red_len.is_none());
    assert_eq!(Duration::ZERO, peer.light.unwrap_or_default());
}
