//! Two sessions over a stream in memory, cut anywhere; and peers that break rules, one at a time.

use super::*;
use lavatube_base::limits::{
    TCPCL_ANSWERS_MAX, TCPCL_HELD_LEN_MAX, TCPCL_HELD_MAX, TCPCL_QUEUE_LEN_MAX, TCPCL_QUEUE_MAX, TCPCL_UNANSWERED_MAX,
};
use lavatube_format::tcpcl::{put_ack, put_refuse, put_segment};
use proptest::prelude::*;

fn session(active: bool) -> Session {
    let node = if active { "ipn:1.0" } else { "ipn:2.0" };
    Session::new(Config { node: node.into(), active, keepalive_s: 60 }, at(0))
}

fn at(s: u64) -> Instant {
    Instant(s * 1_000_000_000)
}

/// All that a session would write.
fn written(session: &mut Session, now: Instant) -> Vec<u8> {
    let mut out = Vec::new();
    while session.poll_transmit(now, &mut out) {}
    out
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

/// Two sessions that are open, without events.
fn pair() -> (Session, Session) {
    let (mut a, mut b) = (session(true), session(false));
    for _ in 0..3 {
        exchange(&mut a, &mut b);
    }
    for (session, node) in [(&mut a, "ipn:2.0"), (&mut b, "ipn:1.0")] {
        let opened = Event::Opened { node: node.into(), transfer_mru: BUNDLE_LEN_MAX as u64 };
        assert_eq!(events(session), [opened]);
    }
    (a, b)
}

/// What each writes goes to the other.
fn exchange(a: &mut Session, b: &mut Session) {
    let to_b = written(a, at(0));
    assert_eq!(b.handle_bytes(&to_b, at(0)), to_b.len());
    let to_a = written(b, at(0));
    assert_eq!(a.handle_bytes(&to_a, at(0)), to_a.len());
}

/// A session that is open, whose peer is the test.
fn open() -> Session {
    let mut ours = session(true);
    feed(&mut ours, |out| {
        put_contact(out);
        put_init(out, &Init { keepalive_s: 60, segment_mru: 10, transfer_mru: 100, node: "ipn:2.0", strange: false });
    });
    assert_eq!(ours.stage(), Stage::Open);
    let _ = (events(&mut ours), written(&mut ours, at(0)));
    ours
}

fn feed(session: &mut Session, put: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    put(&mut out);
    assert_eq!(session.handle_bytes(&out, at(0)), out.len());
}

fn bundle(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ seed).collect()
}

proptest! {
    #[test]
    fn bundles_cross_both_ways_however_the_stream_is_cut(
        lens in prop::collection::vec(1..5000usize, 0..20),
        back in prop::collection::vec(1..5000usize, 0..20),
        cuts in prop::collection::vec(1..3000usize, 1..10),
    ) {
        let mut sessions = [session(true), session(false)];
        let sent = [&lens, &back].map(|lens| lens.iter().zip(0u8..).map(|(len, i)| bundle(*len, i)).collect::<Vec<_>>());
        let (mut streams, mut received, mut acknowledged) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
        for (session, bundles) in sessions.iter_mut().zip(&sent) {
            for (key, bytes) in bundles.iter().enumerate() {
                session.submit(key as u64, bytes.clone()).unwrap();
            }
        }
        let mut cuts = cuts.iter().cycle();
        let mut quiet = 0;
        while quiet < 4 {
            quiet += 1;
            for here in [0, 1] {
                while sessions[here].poll_transmit(at(0), &mut streams[here]) {}
                let len = streams[here].len().min(*cuts.next().unwrap());
                let taken = sessions[1 - here].handle_bytes(&streams[here][..len], at(0));
                streams[here].drain(..taken);
                quiet = if taken > 0 { 0 } else { quiet };
                while let Some(event) = sessions[1 - here].poll_event() {
                    match event {
                        Event::Received { transfer, bytes } => {
                            received[1 - here].push(bytes);
                            sessions[1 - here].accepted(transfer);
                        }
                        Event::Acknowledged { key } => acknowledged[1 - here].push(key as usize),
                        Event::Opened { .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
        for here in [0, 1] {
            prop_assert!(received[1 - here] == sent[here]);
            prop_assert!(acknowledged[here].iter().copied().eq(0..sent[here].len()));
        }
    }

    #[test]
    fn nothing_panics_on_any_stream_and_little_is_kept(
        parts in prop::collection::vec((0..10u8, prop::collection::vec(any::<u8>(), 0..60)), 0..20), active: bool,
    ) {
        let mut ours = session(active);
        feed(&mut ours, put_contact);
        for (kind, noise) in parts {
            let mut bytes = Vec::new();
            match kind {
                0 => put_init(&mut bytes, &Init { keepalive_s: 1, segment_mru: 9, transfer_mru: 9, node: "x", strange: false }),
                1 => put_segment(&mut bytes, 0, Some(3), false, b"abc"),
                2 => put_ack(&mut bytes, false, true, 0, 3),
                3 => put_refuse(&mut bytes, 0, Refusal::Retransmit),
                4 => put_end(&mut bytes, false, EndReason::Idle),
                n => bytes.push(n),
            }
            bytes.extend_from_slice(&noise);
            let _ = ours.submit(1, vec![1; 9]);
            let _ = ours.handle_bytes(&bytes, at(1));
            ours.handle_timeout(at(200));
            prop_assert!(ours.head.capacity() <= 2 * lavatube_base::limits::TCPCL_HEAD_LEN_MAX);
            prop_assert!(ours.receiving.is_in_segment() || ours.control.len() < 4000);
        }
    }
}

#[test]
fn many_are_under_way_before_the_first_is_answered_and_no_answer_is_given_before_one_is_stored() {
    let (mut a, mut b) = pair();
    for key in 0..5 {
        a.submit(key, bundle(1000, 1)).unwrap();
    }
    exchange(&mut a, &mut b);
    let came = events(&mut b);
    assert_eq!(came.len(), 5, "all five came, and none was answered");
    assert_eq!(events(&mut a), []);
    b.refused(1, Refusal::NoResources);
    b.accepted(2);
    exchange(&mut a, &mut b);
    assert_eq!(events(&mut a), [], "answers keep the order of what they answer");
    b.accepted(0);
    exchange(&mut a, &mut b);
    let refused = Event::Refused { key: 1, reason: Refusal::NoResources };
    assert_eq!(events(&mut a), [Event::Acknowledged { key: 0 }, refused, Event::Acknowledged { key: 2 }]);
    b.accepted(2);
    assert_eq!(written(&mut b, at(0)), [], "one is answered once");
}

#[test]
fn a_long_bundle_goes_in_segments_that_are_acknowledged_one_by_one() {
    let mut ours = open();
    ours.submit(7, bundle(25, 0)).unwrap();
    let (mut bytes, mut lens) = (Vec::new(), Vec::new());
    while ours.poll_transmit(at(0), &mut bytes) {
        lens.push(bytes.len());
    }
    // The peer takes segments of 10: a first one, with the length of the whole, and two more.
    assert_eq!(lens, [35 + 10, 35 + 10 + 18 + 10, 35 + 10 + 18 + 10 + 18 + 5]);
    feed(&mut ours, |out| put_ack(out, true, false, 0, 10));
    assert_eq!(events(&mut ours), []);
    feed(&mut ours, |out| put_ack(out, false, true, 0, 25));
    assert_eq!(events(&mut ours), [Event::Acknowledged { key: 7 }]);
    // A peer that does not say that the last segment is the last one.
    ours.submit(8, bundle(15, 0)).unwrap();
    let _ = written(&mut ours, at(0));
    feed(&mut ours, |out| put_ack(out, false, false, 1, 10));
    assert_eq!(events(&mut ours), []);
    feed(&mut ours, |out| put_ack(out, false, false, 1, 15));
    assert_eq!(events(&mut ours), [Event::Acknowledged { key: 8 }]);
}

#[test]
fn what_is_refused_stops_and_the_next_begins() {
    let mut ours = open();
    ours.submit(7, bundle(25, 0)).unwrap();
    ours.submit(8, bundle(5, 0)).unwrap();
    let mut bytes = Vec::new();
    assert!(ours.poll_transmit(at(0), &mut bytes));
    feed(&mut ours, |out| put_refuse(out, 0, Refusal::NotAcceptable));
    assert_eq!(events(&mut ours), [Event::Refused { key: 7, reason: Refusal::NotAcceptable }]);
    let mut expected = Vec::new();
    put_segment(&mut expected, 1, Some(5), true, &bundle(5, 0));
    assert_eq!(written(&mut ours, at(0)), expected);
    // An answer to what was refused before is no answer to anything.
    feed(&mut ours, |out| put_ack(out, true, false, 0, 10));
    feed(&mut ours, |out| put_refuse(out, 1, Refusal::Completed));
    assert_eq!(events(&mut ours), [Event::Acknowledged { key: 8 }], "it has it already");
}

#[test]
fn what_is_longer_than_the_peer_takes_is_not_sent() {
    let mut ours = open();
    assert_eq!(ours.submit(1, bundle(101, 0)), Err(SubmitError::Length));
    assert_eq!(ours.submit(1, vec![]), Err(SubmitError::Length));
    assert_eq!(session(true).submit(1, vec![0; BUNDLE_LEN_MAX + 1]), Err(SubmitError::Length));
    // Before the peer has said what it takes it cannot be known.
    let mut early = session(true);
    early.submit(1, bundle(101, 0)).unwrap();
    feed(&mut early, |out| {
        put_contact(out);
        put_init(out, &Init { keepalive_s: 0, segment_mru: 10, transfer_mru: 100, node: "", strange: false });
    });
    let _ = written(&mut early, at(0));
    assert!(events(&mut early).contains(&Event::Refused { key: 1, reason: Refusal::NotAcceptable }));
}

#[test]
fn transfers_that_break_a_rule_are_refused_and_the_session_goes_on() {
    let refused = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut ours = open();
        feed(&mut ours, put);
        let answer = written(&mut ours, at(0));
        let mut next = Vec::new();
        put_segment(&mut next, 9, Some(1), true, b"n");
        assert_eq!(ours.handle_bytes(&next, at(0)), next.len());
        assert_eq!(
            events(&mut ours),
            [Event::Received { transfer: 9, bytes: b"n".into() }],
            "the next one comes through"
        );
        match Message::decode(&answer).unwrap() {
            Message::Refuse { reason, transfer: 4 } => reason,
            other => panic!("{other:?}"),
        }
    };
    let too_long = BUNDLE_LEN_MAX as u64 + 1;
    assert_eq!(refused(&|out| put_segment(out, 4, Some(too_long), false, b"abc")), Refusal::NotAcceptable);
    assert_eq!(refused(&|out| put_segment(out, 4, Some(2), true, b"abc")), Refusal::NotAcceptable);
    assert_eq!(refused(&|out| put_segment(out, 4, Some(4), true, b"abc")), Refusal::NotAcceptable);
    let critical = |out: &mut Vec<u8>| {
        out.extend_from_slice(&[
            1, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, 1, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'x',
        ]);
    };
    assert_eq!(refused(&critical), Refusal::Extension);
}

#[test]
fn a_transfer_that_never_says_how_long_it_is_ends_at_the_limit() {
    let mut ours = open();
    let piece = vec![0; TCPCL_SEGMENT_LEN_MAX];
    let mut sent = 0;
    let answer = loop {
        feed(&mut ours, |out| match sent {
            0 => {
                out.extend_from_slice(&[1, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
                out.extend_from_slice(&(piece.len() as u64).to_be_bytes());
                out.extend_from_slice(&piece);
            }
            _ => put_segment(out, 4, None, false, &piece),
        });
        sent += piece.len();
        let answer = written(&mut ours, at(0));
        if let Message::Refuse { reason, .. } = Message::decode(&answer).unwrap() {
            break reason;
        }
        assert!(sent <= BUNDLE_LEN_MAX);
    };
    assert_eq!((answer, sent), (Refusal::NotAcceptable, (BUNDLE_LEN_MAX / piece.len() + 1) * piece.len()));
}

#[test]
fn peers_that_break_the_order_lose_the_session() {
    let broken = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut ours = open();
        ours.submit(1, bundle(10, 0)).unwrap();
        let _ = written(&mut ours, at(0));
        feed(&mut ours, put);
        let mut events = events(&mut ours);
        events.retain(|event| !matches!(event, Event::Received { .. }));
        assert_eq!(events[0], Event::Unsent { key: 1 });
        let rest = written(&mut ours, at(0));
        assert!(ours.is_closed());
        match events[1..] {
            [Event::Ended(Ended::Broken(rule))] => (rule, rest),
            _ => panic!("{events:?}"),
        }
    };
    let (rule, _) = broken(&|out| put_segment(out, 4, None, true, b"x"));
    assert_eq!(rule, "a segment of a transfer that was not begun");
    let (rule, _) = broken(&|out| {
        put_segment(out, 4, Some(9), false, b"x");
        put_segment(out, 5, Some(9), false, b"x");
    });
    assert_eq!(rule, "a transfer that begins inside another");
    let (rule, _) = broken(&|out| {
        put_segment(out, 4, Some(1), true, b"x");
        put_segment(out, 4, Some(1), true, b"x");
    });
    assert_eq!(rule, "a transfer of a number that is in use");
    assert_eq!(broken(&|out| put_ack(out, true, false, 0, 11)).0, "it acknowledged what was not sent");
    assert_eq!(broken(&|out| put_ack(out, true, true, 0, 9)).0, "it acknowledged what was not sent");
    assert_eq!(broken(&|out| put_reject(out, 2, 1)).0, "it rejected a message of ours");
    let (rule, rest) = broken(&|out| out.push(0x77));
    assert_eq!((rule, &rest[..3]), ("a message of a type or length that is not known", [6, 1, 0x77].as_slice()));
    let init = Init { keepalive_s: 0, segment_mru: 1, transfer_mru: 1, node: "", strange: false };
    let (rule, rest) = broken(&|out| put_init(out, &init));
    assert_eq!((rule, &rest[..3]), ("a message where it has no place", [6, 3, 7].as_slice()));
}

#[test]
fn tcpcl_segment_len_max() {
    let begun = |len: u64| {
        let mut ours = open();
        let mut head = vec![1, 2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        head.extend_from_slice(&len.to_be_bytes());
        feed(&mut ours, |out| out.extend_from_slice(&head));
        ours.stage()
    };
    assert_eq!(begun(TCPCL_SEGMENT_LEN_MAX as u64), Stage::Open);
    assert_eq!(begun(TCPCL_SEGMENT_LEN_MAX as u64 + 1), Stage::Closed);
    assert_eq!(begun(u64::MAX), Stage::Closed);
}

#[test]
fn tcpcl_held_max_and_tcpcl_held_len_max() {
    let (_, mut b) = pair();
    let mut stream = Vec::new();
    for transfer in 0..=TCPCL_HELD_MAX as u64 {
        put_segment(&mut stream, transfer, Some(1), true, b"x");
    }
    let taken = b.handle_bytes(&stream, at(0));
    assert_eq!((events(&mut b).len(), b.wants_input()), (TCPCL_HELD_MAX, false));
    assert_eq!(taken, stream.len() / (TCPCL_HELD_MAX + 1) * TCPCL_HELD_MAX);
    assert_eq!(b.handle_bytes(&stream[taken..], at(0)), 0, "nothing more until one is stored");
    b.accepted(0);
    assert_eq!(b.handle_bytes(&stream[taken..], at(0)), stream.len() - taken);

    let (_, mut b) = pair();
    let piece = vec![0; TCPCL_SEGMENT_LEN_MAX];
    for transfer in 0u64.. {
        assert_eq!(b.wants_input(), transfer < TCPCL_HELD_LEN_MAX.div_ceil(8 * piece.len()) as u64);
        if !b.wants_input() {
            break;
        }
        for i in 0..8 {
            let start = (i == 0).then_some(8 * piece.len() as u64);
            feed(&mut b, |out| put_segment(out, transfer, start, i == 7, &piece));
            let _ = written(&mut b, at(0));
        }
    }
}

#[test]
fn tcpcl_answers_max() {
    let (_, mut b) = pair();
    feed(&mut b, |out| put_segment(out, 0, Some(1), true, b"x"));
    feed(&mut b, |out| put_segment(out, 1, Some(1 << 20), false, b"x"));
    for _ in 2..TCPCL_ANSWERS_MAX {
        assert!(b.wants_input());
        feed(&mut b, |out| put_segment(out, 1, None, false, b"x"));
    }
    assert!(!b.wants_input() && written(&mut b, at(0)).is_empty());
    b.accepted(0);
    let answers = written(&mut b, at(0));
    assert_eq!((b.wants_input(), answers.len() / 18), (true, TCPCL_ANSWERS_MAX));
}

#[test]
fn tcpcl_queue_max_and_tcpcl_unanswered_max() {
    let mut ours = open();
    for key in 0..TCPCL_QUEUE_MAX as u64 {
        ours.submit(key, vec![1]).unwrap();
    }
    assert_eq!(ours.submit(9, vec![1]), Err(SubmitError::Full));
    let mut segments = 0;
    while ours.poll_transmit(at(0), &mut Vec::new()) {
        segments += 1;
    }
    assert_eq!(segments, TCPCL_UNANSWERED_MAX);
    feed(&mut ours, |out| put_ack(out, true, true, 0, 1));
    assert!(ours.poll_transmit(at(0), &mut Vec::new()));

    let mut long = session(true);
    for key in 0..(TCPCL_QUEUE_LEN_MAX / BUNDLE_LEN_MAX) as u64 {
        long.submit(key, vec![0; BUNDLE_LEN_MAX]).unwrap();
    }
    assert_eq!(long.submit(9, vec![1]), Err(SubmitError::Full));
}

#[test]
fn an_end_lets_what_is_under_way_finish_and_begins_nothing() {
    let (mut a, mut b) = pair();
    a.submit(1, bundle(TCPCL_SEGMENT_LEN_MAX + 1, 0)).unwrap();
    a.submit(2, bundle(5, 0)).unwrap();
    let mut first = Vec::new();
    assert!(a.poll_transmit(at(0), &mut first));
    assert_eq!(b.handle_bytes(&first, at(0)), first.len());
    b.submit(3, bundle(5, 0)).unwrap();
    b.end(at(0));
    assert_eq!(events(&mut b), [Event::Unsent { key: 3 }]);
    assert_eq!(b.submit(4, bundle(5, 0)), Err(SubmitError::Ending));
    let end = written(&mut b, at(0));
    assert_eq!(a.handle_bytes(&end, at(0)), end.len());
    assert_eq!(events(&mut a), [Event::Unsent { key: 2 }]);
    exchange(&mut a, &mut b);
    let [Event::Received { transfer, .. }] = events(&mut b)[..] else { panic!() };
    assert_eq!(b.stage(), Stage::Ending, "it waits for the owner");
    b.accepted(transfer);
    exchange(&mut a, &mut b);
    assert_eq!(events(&mut a), [Event::Acknowledged { key: 1 }, Event::Ended(Ended::Peer(EndReason::Unknown))]);
    assert_eq!(events(&mut b), [Event::Ended(Ended::Ours)]);
    assert!(a.is_closed() && b.is_closed());
}

#[test]
fn what_begins_after_an_end_is_refused() {
    let mut ours = open();
    ours.end(at(0));
    let _ = written(&mut ours, at(0));
    feed(&mut ours, |out| put_segment(out, 4, Some(3), true, b"abc"));
    let mut expected = Vec::new();
    put_refuse(&mut expected, 4, Refusal::Ending);
    assert_eq!(written(&mut ours, at(0)), expected);
    // A peer that never ends is left after a while.
    assert_eq!(ours.poll_timeout(), Some(at(60)));
    ours.handle_timeout(at(60));
    assert_eq!(events(&mut ours), [Event::Ended(Ended::Ours)]);
}

#[test]
fn a_peer_that_demands_tls_is_told_apart() {
    // One says so by ending before a session is there, one by hanging up.
    for end in [true, false] {
        let mut ours = session(true);
        assert_eq!(written(&mut ours, at(0)), *b"dtn!\x04\x00", "we say that we cannot");
        feed(&mut ours, |out| out.extend_from_slice(b"dtn!\x04\x01"));
        if end {
            feed(&mut ours, |out| put_end(out, false, EndReason::Contact));
        }
        ours.handle_closed();
        let why = Ended::NoSession(end.then_some(EndReason::Contact));
        assert_eq!(events(&mut ours), [Event::Ended(why)]);
        assert!(why.to_string().contains("TLS"));
    }
}

#[test]
fn strangers_are_told_apart() {
    let mut ours = session(false);
    assert_eq!(written(&mut ours, at(0)), [], "who accepts a connection waits for the greeting");
    feed(&mut ours, |out| out.extend_from_slice(b"GET / HTTP/1.1"));
    assert_eq!(events(&mut ours), [Event::Ended(Ended::Broken("does not begin with dtn!"))]);
    assert_eq!(written(&mut ours, at(0)), [], "and answers nothing to others");

    let mut ours = session(false);
    feed(&mut ours, |out| out.extend_from_slice(b"dtn!\x03\x00"));
    assert_eq!(events(&mut ours), [Event::Ended(Ended::Version(3))]);
    assert_eq!(written(&mut ours, at(0)), *b"dtn!\x04\x00\x05\x00\x02");

    let mut ours = session(true);
    feed(&mut ours, |out| {
        put_contact(out);
        out.extend_from_slice(&[
            7, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 5, 1, 0, 9, 0, 0,
        ]);
    });
    assert!(matches!(events(&mut ours)[..], [Event::Ended(Ended::Broken(rule))] if rule.contains("terms")));
}

#[test]
fn silence_is_broken_and_ends_a_session() {
    let mut ours = open();
    assert_eq!(ours.poll_timeout(), Some(at(60)));
    ours.handle_timeout(at(60));
    assert_eq!(written(&mut ours, at(60)), [4]);
    assert_eq!(ours.poll_timeout(), Some(at(120)));
    assert_eq!(ours.handle_bytes(&[4], at(90)), 1);
    ours.handle_timeout(at(179));
    assert_eq!(ours.stage(), Stage::Open);
    let _ = written(&mut ours, at(179));
    ours.handle_timeout(at(210));
    assert_eq!(ours.stage(), Stage::Ending);
    assert_eq!(written(&mut ours, at(210)), [5, 0, 1]);
    ours.handle_closed();
    assert_eq!(events(&mut ours), [Event::Ended(Ended::Idle)]);
}

#[test]
fn a_session_that_is_not_agreed_on_in_time_ends() {
    for greeted in [false, true] {
        let mut ours = session(true);
        if greeted {
            feed(&mut ours, put_contact);
        }
        ours.submit(1, vec![1]).unwrap();
        ours.handle_timeout(at(59));
        assert_eq!(events(&mut ours), []);
        ours.handle_timeout(at(60));
        assert_eq!(events(&mut ours), [Event::Unsent { key: 1 }, Event::Ended(Ended::Late)]);
        assert_eq!(ours.poll_timeout(), None);
    }
}

#[test]
fn a_lost_connection_gives_back_what_was_not_acknowledged() {
    let (mut a, mut b) = pair();
    for key in 0..3 {
        a.submit(key, bundle(9, 0)).unwrap();
    }
    exchange(&mut a, &mut b);
    b.accepted(0);
    exchange(&mut a, &mut b);
    a.submit(3, bundle(9, 0)).unwrap();
    a.handle_closed();
    let unsent = |key| Event::Unsent { key };
    assert_eq!(
        events(&mut a),
        [Event::Acknowledged { key: 0 }, unsent(1), unsent(2), unsent(3), Event::Ended(Ended::Lost)]
    );
}
