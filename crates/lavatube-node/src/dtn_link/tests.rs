use std::net::UdpSocket;

use lavatube_base::limits::DTN_BUSY_LEN_MAX;
use lavatube_base::sign::PairPublic;
use lavatube_link::ltp::{Block as LtpBlock, PeerConfig};
use lavatube_link::tcpcl::{Event as CableEvent, Stage as CableStage};

use super::out::LATER;
use super::*;
use crate::embedded::{self, DriveSpec};
use crate::link_folder::{LinkFile, own_line, pair};
use crate::ltp_port::LtpPort;
use crate::tcpcl_port::TcpclPort;

const TICK: Duration = Duration::from_millis(2);
const LONG: usize = 10_000;

/// Two ends that are paired, in a folder.
struct Ends {
    near: Pairing,
    far: Pairing,
    _folder: tempfile::TempDir,
}

impl Ends {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (near, far) = (folder.path().join("near"), folder.path().join("far"));
        let drive = |name: &str| DriveSpec {
            folder: far.join(name),
            label: name.into(),
            shelf: "A".into(),
            maker: "none".into(),
            model: "none".into(),
        };
        let authority = PairPublic { ed25519: [1; 32], ml_dsa_65: vec![1; 1952] };
        embedded::create(&far, 1, 1, &[drive("one"), drive("two")], authority).unwrap();
        let lines = [own_line(&far).unwrap().encode(), own_line(&near).unwrap().encode()];
        let fast = |file: &mut LinkFile| file.rate_up_bit_s = Some(1_000_000_000);
        let (near, far) = (pair(&near, &lines[0], fast).unwrap(), pair(&far, &lines[1], fast).unwrap());
        Self { near, far, _folder: folder }
    }

    /// Both over LTP, where each hears.
    fn open_ltp(&self) -> (DtnLink, DtnLink) {
        let free = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = [free(), free()].map(|socket| socket.local_addr().unwrap().to_string());
        let open = |pairing, own: usize| DtnLink::open(pairing, over_ltp(), Some(&at[own]), Some(&at[1 - own]));
        (open(&self.near, 0).unwrap(), open(&self.far, 1).unwrap())
    }

    fn open(&self) -> (DtnLink, DtnLink) {
        let far = DtnLink::open(&self.far, settings(), Some("127.0.0.1:0"), None).unwrap();
        let near = DtnLink::open(&self.near, settings(), None, Some(&far.address().unwrap().to_string())).unwrap();
        (near, far)
    }
}

fn settings() -> DtnFile {
    toml::from_str("carrier = \"tcpcl\"").unwrap()
}

fn over_ltp() -> DtnFile {
    toml::from_str("carrier = \"ltp\"").unwrap()
}

fn block(key: u64, bytes: &[u8]) -> Block {
    Block { key, priority: 1, len: bytes.len() as u64, id: BlockId(h16(&[bytes])), resumed: false }
}

/// Turns both until `done` says so of an event: the events of each, by end.
fn turn(near: &mut DtnLink, far: &mut DtnLink, mut done: impl FnMut(bool, &mut DtnLink, Event) -> bool) {
    for _ in 0..LONG {
        for (is_far, link) in [(false, &mut *near), (true, &mut *far)] {
            link.pump(TICK).unwrap();
            while let Some(event) = link.event() {
                if done(is_far, link, event) {
                    return;
                }
            }
        }
    }
    panic!("it does not come");
}

#[test]
fn blocks_cross_both_ways_and_are_delivered() {
    let ends = Ends::new();
    cross(ends.open());
    cross(ends.open_ltp());
}

fn cross((mut near, mut far): (DtnLink, DtnLink)) {
    let payload = |key: u64| vec![u8::try_from(key).unwrap(); 1 + usize::try_from(key).unwrap() * 700_000];
    for key in 0..6 {
        near.submit(block(key, &payload(key))).unwrap();
        far.submit(block(key, &payload(key + 20)[..9])).unwrap();
    }
    assert_eq!(near.submit(block(0, b"again")), Err(SubmitError::Known));
    let (mut stored, mut delivered) = (Vec::new(), [0, 0]);
    turn(&mut near, &mut far, |is_far, link, event| {
        match event {
            Event::Wanted { key } if is_far => link.supply(key, payload(key + 20)[..9].to_vec()),
            Event::Wanted { key } => link.supply(key, payload(key)),
            Event::Received { id, bytes, .. } => {
                assert_eq!(id, BlockId(h16(&[&bytes])));
                stored.push(bytes);
                link.accepted(id, now());
            }
            Event::Delivered { .. } => delivered[usize::from(is_far)] += 1,
            other => panic!("{other:?}"),
        }
        delivered == [6, 6]
    });
    stored.sort();
    stored.dedup();
    assert_eq!(stored.len(), 12);
    assert_eq!((near.status(now()).line, near.status(now()).outgoing), (Line::Open, vec![]));
}

#[test]
fn what_finds_no_room_is_sent_again_and_what_was_stored_meanwhile_is_not_handed_out_twice() {
    let ends = Ends::new();
    let (mut near, mut far) = ends.open();
    near.submit(block(1, b"a pack")).unwrap();
    let (mut times, begin) = (0, now());
    turn(&mut near, &mut far, |_, link, event| match event {
        Event::Wanted { key } => {
            link.supply(key, b"a pack".to_vec());
            false
        }
        Event::Received { id, .. } => {
            times += 1;
            link.busy(id, now());
            // It could be stored all the same, a little later.
            link.accepted(id, now());
            false
        }
        Event::Delivered { key: 1 } => true,
        other => panic!("{other:?}"),
    });
    assert!(times == 1 && now().since(begin) >= LATER);
}

#[test]
fn a_stranger_is_answered_and_changes_nothing() {
    let ends = Ends::new();
    let (near, mut far) = ends.open();
    // The other end's own words, that somebody recorded: with a number that was used.
    let mut recorded = Bundle::new(Endpoint::ipn(1, BLOCKS), Endpoint::ipn(2, BLOCKS), b"old".to_vec());
    (recorded.age_ms, recorded.sequence) = (Some(0), near.sequence + 500);
    let recorded = recorded.seal(&near.key_out).unwrap();
    let mut forged = recorded.clone();
    *forged.last_mut().unwrap() ^= 1;
    let mut ask = Bundle::new(Endpoint::ipn(9, 1), Endpoint::ipn(2, ECHO_SERVICE), b"hello?".to_vec());
    ask.age_ms = Some(0);
    let mut stranger = TcpclPort::connect(&far.address().unwrap().to_string(), "ipn:9.0").unwrap();
    let all = [recorded.clone(), forged, b"no bundle".to_vec(), recorded, ask.encode().unwrap()];
    let (mut handed, mut answers, mut standings) = (0, Vec::new(), Vec::new());
    let mut sent = false;
    for _ in 0..LONG {
        far.pump(TICK).unwrap();
        while let Some(event) = far.event() {
            if let Event::Received { id, .. } = event {
                handed += 1;
                far.accepted(id, now());
            }
        }
        stranger.pump(TICK);
        if !sent && stranger.stage() == CableStage::Open {
            sent = true;
            for (key, bytes) in (0..).zip(&all) {
                stranger.send(key, bytes.clone()).unwrap();
            }
        }
        while let Some(event) = stranger.event() {
            match event {
                CableEvent::Acknowledged { key } => standings.push((key, true)),
                CableEvent::Refused { key, .. } => standings.push((key, false)),
                CableEvent::Received { transfer, bytes } => {
                    answers.push(Bundle::decode(&bytes).unwrap());
                    stranger.accepted(transfer);
                }
                _ => {}
            }
        }
        if standings.len() == all.len() && !answers.is_empty() {
            break;
        }
    }
    assert_eq!(standings, [(0, true), (1, false), (2, false), (3, true), (4, true)]);
    assert_eq!((handed, far.totals.forged, far.totals.replayed), (1, 2, 1));
    assert_eq!((&answers[0].destination, &answers[0].payload[..]), (&Endpoint::ipn(9, 1), &b"hello?"[..]));
    // Nor after a restart.
    far.keep_floor().unwrap();
    drop(far);
    let (_, mut again) = ends.open();
    assert_eq!(again.seen.next_floor(), near.sequence + 501);
    let mut stranger = TcpclPort::connect(&again.address().unwrap().to_string(), "ipn:9.0").unwrap();
    stranger.send(9, all[0].clone()).unwrap();
    for _ in 0..LONG {
        again.pump(TICK).unwrap();
        stranger.pump(TICK);
        if again.totals.replayed > 0 {
            break;
        }
    }
    assert!(again.totals.replayed == 1 && again.event().is_none());
    assert!(again.peer.is_none(), "what is old makes nobody known");
}

#[test]
fn a_stranger_is_given_nothing_of_ours() {
    let (_, mut far) = Ends::new().open();
    let mut stranger = TcpclPort::connect(&far.address().unwrap().to_string(), "ipn:1.0").unwrap();
    far.submit(block(1, b"a receipt")).unwrap();
    for _ in 0..200 {
        far.pump(TICK).unwrap();
        while let Some(event) = far.event() {
            assert_eq!(event, Event::Wanted { key: 1 });
            far.supply(1, b"a receipt".to_vec());
        }
        stranger.pump(TICK);
        while let Some(event) = stranger.event() {
            assert!(matches!(event, CableEvent::Opened { .. }), "{event:?}");
        }
    }
    assert_eq!((stranger.stage(), far.totals.datagrams_sent), (CableStage::Open, 0));
}

#[test]
fn over_ltp_what_finds_no_room_is_brought_again_though_it_was_acknowledged() {
    let ends = Ends::new();
    let (mut near, mut far) = ends.open_ltp();
    near.submit(block(1, b"a pack")).unwrap();
    let (mut delivered, mut brought, begin) = (false, 0, now());
    turn(&mut near, &mut far, |is_far, link, event| {
        match event {
            Event::Wanted { key } => link.supply(key, b"a pack".to_vec()),
            Event::Delivered { .. } => delivered = true,
            Event::Received { id, bytes, .. } => {
                assert!(is_far && bytes == b"a pack");
                brought += 1;
                match brought {
                    1 => link.busy(id, now()),
                    _ => link.accepted(id, now()),
                }
            }
            other => panic!("{other:?}"),
        }
        brought == 2
    });
    assert!(delivered && now().since(begin) >= Duration::from_secs(10));
    far.pump(TICK).unwrap();
    assert_eq!((far.event(), far.cable.due(), far.incoming.len()), (None, None, 0));
}

#[test]
fn over_ltp_no_more_waits_for_room_than_the_limit_says() {
    let ends = Ends::new();
    let (mut near, mut far) = ends.open_ltp();
    let len = DTN_BUSY_LEN_MAX / 3;
    let bytes = |key: u64| vec![u8::try_from(key).unwrap(); len];
    (0..4).for_each(|key| near.submit(block(key, &bytes(key))).unwrap());
    let (mut arrived, mut acknowledged) = (0, 0);
    turn(&mut near, &mut far, |_, link, event| {
        match event {
            Event::Wanted { key } => link.supply(key, bytes(key)),
            Event::Delivered { .. } => acknowledged += 1,
            Event::Received { id, .. } => {
                arrived += 1;
                link.busy(id, now());
                // Nor can the end answer twice.
                link.busy(id, now());
            }
            other => panic!("{other:?}"),
        }
        arrived >= 4 && acknowledged == 4
    });
    // Two of them and what bundles add fit.
    let mut again = BTreeMap::new();
    let until = now() + Duration::from_secs(12);
    while now() < until {
        far.pump(TICK).unwrap();
        while let Some(event) = far.event() {
            let Event::Received { id, .. } = event else { panic!("{event:?}") };
            *again.entry(id).or_insert(0) += 1;
            far.accepted(id, now());
        }
    }
    assert_eq!(again.into_values().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn over_ltp_several_bundles_of_a_block_are_taken_and_forged_ones_are_not() {
    let ends = Ends::new();
    let (near, mut far) = ends.open_ltp();
    let at = far.address().unwrap().to_string();
    let sealed = |payload: &[u8], number: u64| {
        let mut bundle = Bundle::new(Endpoint::ipn(1, BLOCKS), Endpoint::ipn(2, BLOCKS), payload.to_vec());
        (bundle.age_ms, bundle.sequence) = (Some(0), near.sequence + number);
        bundle.seal(&near.key_out).unwrap()
    };
    let mut forged = sealed(b"forged", 3);
    let last = forged.len() - 20;
    forged[last] ^= 1;
    let mut ask = Bundle::new(Endpoint::ipn(1, 9), Endpoint::ipn(2, ECHO_SERVICE), b"hello?".to_vec());
    ask.age_ms = Some(0);
    let block = [sealed(b"one", 1), forged, ask.encode().unwrap(), sealed(b"two", 2), sealed(b"one", 1)];
    let (own, key_in) = (near.address().unwrap().to_string(), pair_keys(&ends.near.bundle_keys().unwrap()[1]));
    drop(near);
    // Somebody with this engine id, as the next node would be.
    let mut node = LtpPort::open(1, &[1], &own).unwrap();
    node.add_peer(PeerConfig::new(2, Duration::ZERO), &at).unwrap();
    node.contact_opened(2, 10_000_000);
    node.send(2, LtpBlock::bundles(1, block.concat())).unwrap();
    node.send(2, LtpBlock::bundles(2, b"\xffno bundle".to_vec())).unwrap();
    let (mut came, mut there, mut answer) = (Vec::new(), 0, None);
    for _ in 0..LONG {
        far.pump(TICK).unwrap();
        while let Some(event) = far.event() {
            let Event::Received { id, bytes, .. } = event else { panic!("{event:?}") };
            came.push(bytes);
            far.accepted(id, now());
        }
        node.pump(TICK).unwrap();
        while let Some(event) = node.event() {
            match event {
                lavatube_link::ltp::Event::Delivered { .. } => there += 1,
                lavatube_link::ltp::Event::Received { bytes, .. } => {
                    let bundle = Bundle::decode(&bytes).unwrap();
                    answer = answer.or((bundle.destination == Endpoint::ipn(1, 9)).then_some(bundle));
                    assert!(Bundle::open(&bytes, &key_in).is_err());
                }
                other => panic!("{other:?}"),
            }
        }
        if there == 2 && far.totals.forged == 2 && answer.is_some() {
            break;
        }
    }
    assert_eq!(came, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!((there, far.totals.forged, far.totals.replayed), (2, 2, 1));
    assert_eq!(answer.unwrap().payload, b"hello?");
    assert_eq!(far.moved(), Some(own.parse().unwrap()));
}

#[test]
fn over_ltp_an_end_without_an_address_is_refused() {
    let ends = Ends::new();
    for [listen, peer] in [[Some("127.0.0.1:0"), None], [None, Some("127.0.0.1:9")]] {
        assert!(matches!(DtnLink::open(&ends.near, over_ltp(), listen, peer), Err(LinkError::Unfit { .. })));
    }
    let same: DtnFile = toml::from_str("carrier = \"ltp\"\nengine = 5\npeer_engine = 5").unwrap();
    assert!(DtnLink::open(&ends.near, same, Some("127.0.0.1:0"), Some("127.0.0.1:9")).is_err());
}

#[test]
fn over_ltp_contacts_open_and_close_by_the_plan_and_what_is_paid_for_is_not_exceeded() {
    const BUDGET: u64 = 500_000;
    let ends = Ends::new();
    let origin = now().0 / 1_000_000_000 + 1;
    let plan = format!("contact +1 +3 up 100000000 budget {BUDGET}\ncontact +4 +600 up 100000000\n");
    std::fs::write(ends.near.folder().join("plan"), plan).unwrap();
    let (_, mut far) = ends.open_ltp();
    let at = far.address().unwrap().to_string();
    let mut near = Pairing::open(ends.near.folder()).unwrap();
    (near.file.plan, near.file.plan_origin_unix_s) = (Some("plan".into()), Some(origin));
    let own = far.cable.genuine(Place { session: 0, number: 0 }).unwrap().to_string();
    let mut near = DtnLink::open(&near, over_ltp(), Some(&own), Some(&at)).unwrap();
    assert_eq!(near.status(now()).line, Line::Shut);
    let bytes = |key: u64| vec![u8::try_from(key).unwrap(); 100_000];
    (0..8).for_each(|key| near.submit(block(key, &bytes(key))).unwrap());
    let (mut delivered, mut sent, mut first) = (0, BTreeMap::new(), 0);
    turn(&mut near, &mut far, |is_far, link, event| {
        match event {
            Event::Wanted { key } => link.supply(key, bytes(key)),
            Event::Received { id, .. } => link.accepted(id, now()),
            Event::Delivered { .. } => delivered += 1,
            other => panic!("{other:?}"),
        }
        if !is_far {
            let second = (now().0 / 1_000_000_000).saturating_sub(origin);
            sent.insert(second, link.status(now()).totals.len_sent);
            first += usize::from(second < 4 && matches!(event, Event::Delivered { .. }));
        }
        delivered == 8
    });
    assert!(now().0 >= (origin + 4) * 1_000_000_000);
    assert!((2..=4).contains(&first), "{first}");
    let paid = sent.range(1..4).map(|(_, len)| *len).max();
    assert!(paid.is_some_and(|len| (200_000..=BUDGET).contains(&len)), "{sent:?}");
    let status = near.status(now());
    assert!(status.line == Line::Open && status.light.is_some() && status.contact.is_some());
}
