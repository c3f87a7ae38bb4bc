use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicBool;

use lavatube_base::time::WallTime;
use lavatube_channel::Way;
use lavatube_client::backup::{Request, Sizes};
use lavatube_client::meter::Meter;
use lavatube_format::manifest::Retention;
use lavatube_link::Status;
use lavatube_seal::Reads;

use super::*;
use crate::embedded::{self, DriveSpec};
use crate::keyring::Keyring;
use crate::pipeline::Effort;
use crate::port::Port;
use crate::rehearsal::Rehearsal;
use crate::stage::Stage;
use crate::{depositor, link_folder, rehearsal};

/// A machine and a far vault that has never heard of it, paired.
fn strangers(folder: &Path) -> Stage {
    let places = |vault: &str, state: &str| Places {
        vault: folder.join(vault),
        state: folder.join(state),
        keys: folder.join("keys"),
    };
    let stage = Stage { near: places("near", "state"), far: places("far", "far-state") };
    let keyring = Keyring::at(&stage.near.keys);
    assert!(keyring.make("rover").unwrap());
    let authority = keyring.read(None, &mut |_| None).unwrap().authority_public().clone();
    let drive = |n: u8| {
        let folder: PathBuf = folder.join(format!("drive{n}"));
        std::fs::create_dir(&folder).unwrap();
        DriveSpec { folder, label: format!("d{n}"), shelf: "s".into(), maker: "m".into(), model: "m".into() }
    };
    embedded::create(&stage.far.vault, 2, 1, &[drive(0), drive(1), drive(2)], authority).unwrap();
    let lines = [&stage.near.vault, &stage.far.vault].map(|folder| link_folder::own_line(folder).unwrap().encode());
    link_folder::pair(&stage.near.vault, &lines[1], |_| {}).unwrap();
    link_folder::pair(&stage.far.vault, &lines[0], |_| {}).unwrap();
    stage
}

fn back_up(stage: &Stage, root: &Path) {
    let request = Request {
        roots: vec![root.as_os_str().as_encoded_bytes()[1..].to_vec()],
        exclude: &|_, _| false,
        one_file_system: false,
        read_all: false,
        allow_empty: true,
        accept_shrink: true,
        host: "rover".into(),
        tags: Vec::new(),
        description: None,
        program: "test".into(),
        now: WallTime { s: 1_800_000_000, ns: 0 },
        sizes: Sizes::DEFAULT,
    };
    let effort = Effort { level: 1, workers: 1 };
    let outcome = depositor::backup(
        &stage.near,
        &request,
        Retention::default(),
        Priority::Normal,
        effort,
        Duration::ZERO,
        &Meter::default(),
    )
    .unwrap();
    assert!(outcome.far);
}

fn source(folder: &Path) -> PathBuf {
    let root = folder.join("home");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("moon"), b"far away").unwrap();
    root
}

#[test]
fn a_manifest_that_overtakes_the_card_of_its_maker_is_not_refused() {
    for seed in 1..=6 {
        let dir = tempfile::tempdir().unwrap();
        let stage = strangers(dir.path());
        back_up(&stage, &source(dir.path()));
        let way = Way {
            jitter: Duration::from_secs(3),
            ..Way::new(20_000_000, Duration::from_millis(10)).losing(0.1, Duration::ZERO)
        };
        let plan = rehearsal::Plan {
            near: &stage.near,
            far: &stage.far.vault,
            ways: [way.clone(), way],
            seed,
            start: Instant(1_800_000_000_000_000_000),
            fast: true,
            blackouts: Vec::new(),
            stop: &AtomicBool::new(false),
        };
        let figures = Rehearsal::open(&plan).and_then(|mut played| played.drain(&mut |_, _| {}));
        let objects = figures.unwrap_or_else(|e| panic!("seed {seed}: {e}")).map(|figures| figures.objects);
        assert!(objects.is_some_and(|n| n >= 2), "seed {seed}: pack and manifest crossed: {objects:?}");
    }
}

/// A port on which nobody is heard; its clock goes on by what is waited.
struct Deaf(Rc<Cell<Instant>>);

impl Port for Deaf {
    fn now(&self) -> Instant {
        self.0.get()
    }
    fn has_peer(&self) -> bool {
        true
    }
    fn send(&mut self, _datagram: &[u8]) {}
    fn receive(&mut self, _buffer: &mut [u8]) -> Option<usize> {
        None
    }
    fn genuine(&mut self) {}
    fn wait(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.0.set(self.0.get() + wait);
        Ok(())
    }
    fn address(&self) -> Option<SocketAddr> {
        None
    }
    fn moved(&mut self) -> Option<SocketAddr> {
        None
    }
}

struct Nobody;

impl Listener for Nobody {
    fn told(&mut self, _told: Told) {}
    fn status(&mut self, _status: &Status) {}
}

#[test]
fn a_card_that_is_made_while_the_near_end_lives_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let stage = strangers(dir.path());
    let clock = Rc::new(Cell::new(Instant(1_800_000_000_000_000_000)));
    let driver = |pairing: &Pairing| Driver::on(pairing, Box::new(Deaf(clock.clone())));
    let mut end = NearEnd::open(&stage.near, Duration::ZERO, driver, &mut Nobody).unwrap();
    let live = |end: &mut NearEnd| {
        let until = clock.get() + Duration::from_secs(3);
        while clock.get() < until {
            let wait = end.turn(false, &mut Nobody).unwrap().unwrap();
            end.driver.pump(wait).unwrap();
        }
        let blocks = end.driver.status().outgoing;
        blocks.iter().map(|block| block.priority).collect::<Vec<u8>>()
    };
    assert_eq!(live(&mut end), [0], "the question about the log");
    back_up(&stage, &source(dir.path()));
    let messages = live(&mut end).into_iter().filter(|priority| *priority == 0);
    assert_eq!(messages.count(), 2, "the card goes before objects");
}
