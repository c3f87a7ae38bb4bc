use lavatube_base::sign::PairPublic;

use super::out::LATER;
use super::*;
use crate::embedded::{self, DriveSpec};
use crate::link_folder::{own_line, pair};

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
        let (near, far) = (pair(&near, &lines[0], |_| {}).unwrap(), pair(&far, &lines[1], |_| {}).unwrap());
        Self { near, far, _folder: folder }
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

fn block(key: u64, bytes: &[u8]) -> Block {
    Block { key, priority: 1, len: bytes.len() as u64, id: BlockId(h16(&[bytes])), resumed: false }
}

/// Turns both until `done` says so of an event: the events of each, by end.
fn turn(near: &mut DtnLink, far: &mut DtnLink, mut done: impl FnMut(bool, &mut DtnLink, Event) -> bool) {
    for _ in 0..LONG {
        for (is_far, link) in [(false, &mut *near), (true, &mut *far)] {
            link.pump(TICK).unwrap();
            while let Some(event) = link.event().unwrap() {
                if done(is_far, link, event) {
                    return;
                }
            }
        }
    }
    panic!("it does not come");
}

#[test]
fn blocks_cross_both_ways_and_are_delivered_when_the_end_has_stored_them() {
    let ends = Ends::new();
    let (mut near, mut far) = ends.open();
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
        while let Some(event) = far.event().unwrap() {
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
    assert!(again.totals.replayed == 1 && again.event().unwrap().is_none());
    assert!(again.sessions.iter().all(|session| session.genuine.is_none()), "what is old makes nobody known");
}

#[test]
fn a_stranger_is_given_nothing_of_ours() {
    let (_, mut far) = Ends::new().open();
    let mut stranger = TcpclPort::connect(&far.address().unwrap().to_string(), "ipn:1.0").unwrap();
    far.submit(block(1, b"a receipt")).unwrap();
    for _ in 0..200 {
        far.pump(TICK).unwrap();
        while let Some(event) = far.event().unwrap() {
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
