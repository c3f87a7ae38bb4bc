//! The two daemons over LTP: real processes, killed and started again, over a way that loses datagrams. LTP says that a block
//! arrived before anybody has stored it, so what is tried here is that nothing is thought to be there that is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, wait_until};

const LONG: Duration = Duration::from_secs(90);

/// A way between the two ends that loses one datagram in so many, each way.
struct Way {
    /// Where each end hears, and where it sends to: this machine, the vault.
    hears: [SocketAddr; 2],
    sends: [SocketAddr; 2],
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Way {
    fn new(chance: &Chance, one_in: usize) -> Self {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        // Ports that are free now: LTP learns no address, so both are known before.
        let hears = [socket(), socket()].map(|socket| socket.local_addr().unwrap());
        let (lost, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let middle = [socket(), socket()];
        let sends = [&middle[0], &middle[1]].map(|socket| socket.local_addr().unwrap());
        let begun = middle.into_iter().zip([hears[1], hears[0]]).map(|(from, to)| {
            let (lost, stop, mut chance) = (Arc::clone(&lost), Arc::clone(&stop), chance.clone());
            std::thread::spawn(move || {
                from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((len, _)) = from.recv_from(&mut buffer) else { continue };
                    if chance.below(one_in) == 0 {
                        lost.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // Nobody there is a loss, too.
                        let _ = from.send_to(&buffer[..len], to);
                    }
                }
            })
        });
        let threads = begun.collect();
        Self { hears, sends, lost, stop, threads }
    }

    /// Has the two ends use it.
    fn between(&self, pair: &Pair) {
        pair.over_ltp(self.hears[0], self.sends[1]);
        pair.knows(&self.sends[0].to_string());
    }

    fn serve(&self, pair: &Pair) -> Running {
        pair.serve(&self.hears[1].to_string()).0
    }

    fn node(&self, pair: &Pair) -> Running {
        pair.start_node(&self.sends[0].to_string())
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// All that is backed up crosses, whoever is killed meanwhile, and comes back.
fn crosses(pair: &Pair, way: &Way, chance: &mut Chance, what: &str) {
    way.between(pair);
    pair.machine.backup();
    let mut vault = way.serve(pair);
    let answer = pair.machine.json(&["ping", "--count", "2", "--link-wait", "30"], 0);
    assert_eq!(answer["received"], 2, "{answer:#}");
    let whole = pair.spooled();
    for round in 0..6 {
        let node = way.node(pair);
        std::thread::sleep(Duration::from_millis(100) + chance.upto(Duration::from_millis(400)));
        if round % 2 == 0 {
            node.kill();
            assert!(round > 0 || pair.spooled() > 0, "it was killed in the middle");
        } else {
            // What it has acknowledged and not stored is gone with it, while the node lives on for a while.
            vault.kill();
            vault = way.serve(pair);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert_eq!(way.node(pair).ends(LONG), Some(0), "{} of {whole} left", pair.spooled());
    assert_eq!(pair.spooled(), 0);
    assert_eq!(pair.machine.json(&["status"], 0)["receipted"], 1);
    let status = pair.machine.json(&["link", "status"], 0);
    assert_eq!(status["carrier"], "ltp");
    assert!(status["light_s"].as_f64().is_some_and(|s| s > 0.0 && s < 1.0), "{status:#}");
    // What was never here before is asked for over the same link.
    fs::remove_dir_all(pair.machine.state()).unwrap();
    let target = pair.machine.path("over");
    pair.machine.json(&["restore", "latest", "--target", target.to_str().unwrap(), "--link-wait", "60"], 0);
    assert_same(&look(&pair.machine.src()), &target.join("src"), what);
    vault.stop();
    pair.is_whole_there(what);
}

#[test]
fn over_ltp_the_same_crosses_and_is_read_back() {
    let pair = Pair::new(0x117b);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 40, 64 << 20);
    let way = Way::new(&chance, usize::MAX);
    crosses(&pair, &way, &mut chance, "over LTP");
}

#[test]
fn over_ltp_what_is_lost_on_the_way_is_sent_again() {
    let pair = Pair::new(0x117c);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 40, 40 << 20);
    let way = Way::new(&chance, 10);
    crosses(&pair, &way, &mut chance, "over LTP that loses a tenth");
    let lost = way.lost.load(Ordering::Relaxed);
    assert!(lost > 1000, "{lost}");
    // The engine has measured that.
    common::fill(&pair.machine.src().join("more"), &mut chance, 10, 20 << 20);
    pair.machine.backup();
    let vault = way.serve(&pair);
    assert_eq!(way.node(&pair).ends(LONG), Some(0));
    let loss = pair.machine.json(&["link", "status"], 0)["loss"].as_f64().unwrap();
    assert!((0.05..0.2).contains(&loss), "{loss}");
    vault.stop();
}

#[test]
fn over_ltp_a_vault_that_cannot_store_now_keeps_what_arrived_and_stores_it_later() {
    stores_later(0x117d, |_, vault| vault);
}

#[test]
fn over_ltp_what_a_killed_vault_had_acknowledged_and_not_stored_is_sent_again() {
    stores_later(0x117e, |restart, vault| {
        vault.kill();
        restart()
    });
}

/// Drives are away, then come back; `meanwhile` the vault's daemon may be another.
fn stores_later(own: u64, meanwhile: impl FnOnce(&dyn Fn() -> Running, Running) -> Running) {
    let pair = Pair::new(own);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 5, 300_000);
    let way = Way::new(&chance, usize::MAX);
    way.between(&pair);
    pair.machine.backup();
    let mut drives: Vec<_> =
        fs::read_dir(pair.far().join("drives")).unwrap().map(|entry| entry.unwrap().path()).collect();
    drives.truncate(3);
    let away = |drive: &PathBuf| pair.machine.path("away").join(drive.file_name().unwrap());
    fs::create_dir(pair.machine.path("away")).unwrap();
    drives.iter().for_each(|drive| fs::rename(drive, away(drive)).unwrap());
    let vault = way.serve(&pair);
    let mut node = way.node(&pair);
    let status = || pair.machine.json(&["status"], 0);
    assert!(wait_until(LONG, || status()["held"].as_u64() > Some(0)), "{:#}", status());
    assert_ne!(pair.spooled(), 0, "what is not stored is not let go of");
    drives.iter().for_each(|drive| fs::rename(away(drive), drive).unwrap());
    let vault = meanwhile(&|| way.serve(&pair), vault);
    assert_eq!(node.ends(LONG), Some(0), "{} left", pair.spooled());
    vault.stop();
    pair.is_whole_there("after its drives were away");
}
