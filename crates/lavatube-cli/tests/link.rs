//! A vault at the other end of a link: two real daemons over a socket of this machine, backed up to, killed, and lied to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, files_below, text, wait_until};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn what_was_backed_up_here_crosses_and_is_receipted() {
    let pair = Pair::new(0x11a1);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 30, 4 << 20);
    let answer = pair.machine.backup();
    assert_eq!(answer["promise"], "safe-here");
    assert!(pair.spooled() > 1);
    let (vault, address) = pair.serve("127.0.0.1:0");
    let out = pair.machine.run(&["node", "--once", "--peer", &address]);
    assert!(out.status.success() && out.stdout.is_empty(), "{}", common::show(&["node"], &out));
    assert_eq!(pair.spooled(), 0);
    // The second one sends only what is new.
    fs::write(pair.machine.path("src/letter"), "dear moon").unwrap();
    pair.machine.backup();
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    let status = pair.machine.json(&["link", "status"], 0);
    assert!(status["datagrams"]["received"].as_u64().unwrap() > 0, "{status:#}");
    vault.stop();
    pair.is_whole_there("over the link");
    // What cannot be done over a link is said so.
    for (args, status) in [(&["init"][..], 12), (&["check", "--repair"], 2), (&["check", "--read-data"], 2)] {
        let error = &pair.machine.json(args, status)["error"];
        assert!(text(&error["message"]).contains("link"), "{args:?}: {error}");
    }
}

#[test]
fn over_a_diode_all_is_sent_once_a_contact_and_stays_here_unreceipted() {
    let pair = Pair::new(0x11b3);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 30, 4 << 20);
    for folder in [pair.machine.vault(), pair.far()] {
        let path = folder.join("link.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}[one_way]\nloss = 0.01\nfailure = 1e-9\nrepeats = 2\n")).unwrap();
    }
    assert_eq!(pair.machine.backup()["promise"], "safe-here");
    let waiting = pair.spooled();
    let (vault, address) = pair.serve("127.0.0.1:0");
    let node = ["node", "--once", "--peer", &address, "--json"];
    let sent = |out: std::process::Output| {
        assert!(out.status.success(), "{}", common::show(&node, &out));
        String::from_utf8(out.stdout).unwrap().matches("\"sent\"").count()
    };
    assert_eq!(sent(pair.machine.run(&node)), waiting);
    // Whatever the vault has to say, it only listens.
    assert_eq!(pair.spooled(), waiting, "nothing was receipted");
    assert_eq!(sent(pair.machine.run(&node)), 0, "the contact is the same");
    vault.stop();
    pair.is_whole_there("over a diode");
}

#[test]
fn over_a_diode_a_later_contact_makes_up_for_one_in_which_nobody_listened() {
    let pair = Pair::new(0x11b7);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 5, 1 << 20);
    let plan = pair.machine.path("contacts");
    // Contacts of three seconds, one after the other.
    let contacts: String = (0..40).map(|n| format!("contact +{} +{} up 100000000\n", 3 * n, 3 * n + 2)).collect();
    fs::write(&plan, contacts).unwrap();
    for folder in [pair.machine.vault(), pair.far()] {
        let path = folder.join("link.toml");
        let text = fs::read_to_string(&path).unwrap();
        let more = format!(
            "plan = {plan:?}\nplan_origin_unix_s = {}\n",
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
        );
        fs::write(&path, format!("{more}{text}[one_way]\nfailure = 1e-9\nrepeats = 30\n")).unwrap();
    }
    pair.machine.backup();
    let waiting = pair.spooled();
    // The vault does not know this machine yet: its card has to cross as well.
    let cards = files_below(&pair.machine.state().join("cards"));
    let card = cards[0].file_name().unwrap().to_str().unwrap();
    for file in files_below(&pair.far().join("drives")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with(card) || name == "journal" {
            fs::remove_file(file).unwrap();
        }
    }
    let shards = || {
        files_below(&pair.far().join("drives"))
            .iter()
            .filter(|file| file.to_string_lossy().contains("/shards/"))
            .count()
    };
    let before = shards();
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    // In the first contact all goes to nobody.
    std::thread::sleep(Duration::from_secs(3));
    drop(listener);
    let (vault, _) = pair.serve(&address);
    // All that waits here, and the card.
    let is_there = || shards() == before + 6 * (waiting + 1);
    assert!(wait_until(LONG, is_there), "{} of {} shards", shards() - before, 6 * (waiting + 1));
    node.stop();
    vault.stop();
    pair.is_whole_there("over a diode, in a later contact");
}

#[test]
fn what_is_there_is_read_over_the_link() {
    let pair = Pair::new(0x11a7);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 40, 12 << 20);
    let letter = chance.noise(700_000);
    fs::write(pair.machine.path("src/letter"), &letter).unwrap();
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    pair.knows(&address);
    let restore = |what: &str, more: &[&str]| {
        let target = pair.machine.path("back");
        let args = [&["restore", what, "--target", target.to_str().unwrap(), "--link-wait", "30"], more].concat();
        let answer = pair.machine.json(&args, 0);
        (answer, target)
    };

    // With what this machine kept, a file costs one request, and no more than its own frame.
    let (answer, target) = restore("latest:letter", &[]);
    assert!(fs::read(target.join("letter")).unwrap() == letter);
    assert_eq!(answer["link"]["requests"], 1, "{answer:#}");
    assert!(answer["link"]["bytes_asked"].as_u64().unwrap() < 2 << 20, "{answer:#}");
    fs::remove_dir_all(&target).unwrap();

    // So does all of it; and a daemon does it as well.
    for daemon in [false, true] {
        let node = daemon.then(|| Running(pair.machine.start(&["node", "--peer", &address])));
        if daemon {
            wait_until(LONG, || pair.machine.json(&["link", "status"], 0)["age_s"] == 0);
        }
        let (answer, target) = restore("latest", &[]);
        assert_eq!(answer["link"]["requests"], 1, "{answer:#}");
        assert_same(&look(&pair.machine.src()), &target.join("src"), "over the link");
        // Restored again, nothing crosses.
        let (answer, _) = restore("latest", &[]);
        assert_eq!(answer["link"]["requests"], 0, "{answer:#}");
        fs::remove_dir_all(&target).unwrap();
        if let Some(node) = node {
            node.stop();
        }
    }

    // Snapshots and trees are known here; a check asks the vault what it has.
    assert_eq!(pair.machine.json(&["snapshots"], 0)["snapshots"].as_array().unwrap().len(), 1);
    let ls = pair.machine.run(&["ls", "latest:letter"]);
    assert!(String::from_utf8_lossy(&ls.stdout).contains("letter"));
    let cat = pair.machine.run(&["cat", "latest:letter"]);
    assert!(cat.stdout == letter);
    assert_eq!(pair.machine.json(&["check", "--link-wait", "30"], 0)["structure"]["snapshots"], 1);

    // A machine that lost all its state asks for everything, and gets it.
    fs::remove_dir_all(pair.machine.state()).unwrap();
    let (answer, target) = restore("latest", &[]);
    assert_same(&look(&pair.machine.src()), &target.join("src"), "cold");
    assert!(answer["link"]["requests"].as_u64().unwrap() < 16, "{answer:#}");
    vault.stop();

    // Nobody answers any more.
    fs::remove_dir_all(pair.machine.state()).unwrap();
    let away = pair.machine.json(&["snapshots", "--link-wait", "1"], 12);
    assert_eq!(away["error"]["code"], "vault-away", "{away:#}");
}

#[test]
fn the_link_says_how_it_is_and_what_waits() {
    let pair = Pair::new(0x11a8);
    let mut chance = Chance::new(pair.machine.seed);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    let answer = pair.machine.json(&["ping", "--count", "2", "--link-wait", "30"], 0);
    assert_eq!(answer["received"], 2, "{answer:#}");

    // A backup that waits for the vault ends with the better promise.
    fs::write(pair.machine.path("src/one"), chance.noise(300_000)).unwrap();
    let src = pair.machine.src();
    let backup = |more: &[&str]| pair.machine.json(&[&["backup", src.to_str().unwrap()], more].concat(), 0);
    assert_eq!(backup(&["--wait", "there", "--link-wait", "60"])["promise"], "safe-there");
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    fs::write(pair.machine.path("src/two"), chance.noise(300_000)).unwrap();
    assert_eq!(backup(&["--wait", "there", "--link-wait", "1"])["promise"], "safe-here");

    // Outside of a contact nothing is sent; what is urgent is first in the queue, and the plan says when it will be there.
    let settings = pair.machine.vault().join("link.toml");
    let more = "plan = \"plan.txt\"\ncost_per_gb = 1000.0\ncurrency = \"EUR\"\n";
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + more).unwrap();
    let plan = "contact 2400-01-01T00:00:00Z 2400-01-01T06:00:00Z up 8000000\n";
    fs::write(pair.machine.vault().join("plan.txt"), plan).unwrap();
    for (file, priority) in [("three", "low"), ("four", "high")] {
        fs::write(pair.machine.path("src").join(file), chance.noise(300_000)).unwrap();
        backup(&["--priority", priority]);
    }
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    let mut queue = Vec::new();
    wait_until(LONG, || {
        let status = pair.machine.run(&["link", "status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        queue = status["queue"].as_array().cloned().unwrap_or_default();
        queue.len() == 3
    });
    let order: Vec<_> = queue.iter().map(|waiting| text(&waiting["priority"])).collect();
    assert_eq!(order, ["high", "normal", "low"]);
    let there: Vec<_> = queue.iter().map(|waiting| waiting["there_unix_s"].as_u64().unwrap()).collect();
    assert!(there.is_sorted() && there[0] >= 13_569_465_600, "{there:?}");
    let status = pair.machine.json(&["link", "status"], 0);
    assert_eq!((&status["line"], &status["datagrams"]["sent"]), (&"shut".into(), &0.into()));
    node.stop();
    let planned = pair.machine.json(&["link", "plan"], 0);
    assert!(planned["cost"]["amount"].as_f64().unwrap() > 0.9, "{planned:#}");
    assert_eq!(pair.machine.json(&["link", "plan", "--size", "30GB"], 0)["there_unix_s"], Value::Null);
    assert_eq!(pair.machine.json(&["ping", "--count", "1", "--link-wait", "1"], 12)["error"]["code"], "vault-away");
}

#[test]
fn what_travels_on_a_disk_does_not_cross_and_is_receipted_all_the_same() {
    let pair = Pair::new(0x11a9);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 4 << 20);
    pair.machine.backup();
    let disk = pair.machine.path("disk");
    let disk = disk.to_str().unwrap();
    let exported = pair.machine.json(&["seed", "export", disk], 0);
    assert_eq!(exported["objects"].as_u64().unwrap() as usize, pair.spooled(), "{exported:#}");
    assert_eq!(pair.machine.json(&["seed", "export", disk], 0)["objects"], 0);

    // While the disk travels, what is new crosses, and nothing else.
    fs::write(pair.machine.path("src/letter"), chance.noise(300_000)).unwrap();
    pair.machine.backup();
    let travels = exported["objects"].as_u64().unwrap() as usize;
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), travels);
    let sent = pair.far_json(&["link", "status"])["symbols"]["received"].as_u64().unwrap();
    assert!(sent < 1000, "{sent}");
    assert_eq!(pair.far_json_status(&["seed", "import", disk], 10)["error"]["code"], "locked");
    vault.stop();

    // It arrives, is taken in once, and the receipts come over the link.
    let imported = pair.far_json(&["seed", "import", disk]);
    assert_eq!(imported["failed"], serde_json::json!([]), "{imported:#}");
    assert_eq!(pair.far_json(&["seed", "import", disk])["known"].as_u64().unwrap() as usize, travels);
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    pair.is_whole_there("seeded");

    // A disk that is lost: what was on it goes over the link.
    fs::write(pair.machine.path("src/second"), chance.noise(300_000)).unwrap();
    pair.machine.backup();
    pair.machine.json(&["seed", "export", disk], 0);
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert!(pair.spooled() > 0);
    pair.machine.json(&["seed", "forget"], 0);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    pair.is_whole_there("after a lost disk");
}

#[test]
fn a_spool_that_is_lost_is_noticed_by_the_next_backup() {
    let pair = Pair::new(0x11aa);
    let mut chance = Chance::new(pair.machine.seed);
    let (vault, address) = pair.serve("127.0.0.1:0");
    common::fill(&pair.machine.src(), &mut chance, 20, 3 << 20);
    pair.machine.backup();
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    fs::write(pair.machine.path("src/second"), chance.noise(400_000)).unwrap();
    pair.machine.backup();
    fs::remove_dir_all(pair.machine.state().join("spool")).unwrap();
    let answer = pair.machine.backup();
    assert!(answer["doubted"].as_u64().unwrap() > 0, "{answer:#}");
    // What was lost, and not what the vault has.
    let new = answer["new_bytes"].as_u64().unwrap();
    assert!((400_000..1_000_000).contains(&new), "{new}");
    assert_eq!(pair.machine.backup()["doubted"], 0);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    // The snapshot that was lost is lost, and a check says so; the last one has everything.
    assert!(pair.far_json_status(&["check"], 5)["structure"]["chain"][0].is_string());
    let target = pair.machine.path("back");
    pair.far_json(&["restore", "latest", "--target", target.to_str().unwrap()]);
    assert_same(&look(&pair.machine.src()), &target.join("src"), "after a lost spool");
}

#[test]
fn with_every_machine_lost_the_recovery_key_and_an_address_bring_everything_back() {
    let pair = Pair::new(0x11ab);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 30, 4 << 20);
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    let key = fs::read_to_string(pair.machine.path("keys/recovery-key.txt")).unwrap();
    // All that is left is on paper.
    for lost in ["keys", "vault", "state"] {
        fs::rename(pair.machine.path(lost), pair.machine.path(&format!("lost-{lost}"))).unwrap();
    }
    fs::write(pair.machine.path("paper"), key).unwrap();
    let mut import = pair.machine.command(&["key", "import-recovery"]);
    import.stdin(fs::File::open(pair.machine.path("paper")).unwrap());
    let imported = common::output(import);
    assert!(imported.status.success(), "{}", common::show(&["key"], &imported));
    pair.machine.json(&["pair", "--recover", &address, "--rate-up", "200000000", "--rate-down", "200000000"], 0);
    let snapshots = pair.machine.json(&["snapshots", "--link-wait", "60"], 0);
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 1);
    let target = pair.machine.path("back");
    let restore = ["restore", "latest", "--link-wait", "60", "--target", target.to_str().unwrap()];
    pair.machine.json(&restore, 0);
    assert_same(&look(&pair.machine.src()), &target.join("src"), "from paper");

    // The machine takes the place of the one that was lost.
    fs::write(pair.machine.path("src/after"), chance.noise(300_000)).unwrap();
    pair.machine.backup();
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    // The lost one is found again, and is heard too.
    for lost in ["keys", "vault", "state"] {
        fs::remove_dir_all(pair.machine.path(lost)).unwrap();
        fs::rename(pair.machine.path(&format!("lost-{lost}")), pair.machine.path(lost)).unwrap();
    }
    pair.knows(&address);
    assert_eq!(pair.machine.json(&["ping", "--count", "1", "--link-wait", "60"], 0)["received"], 1);
    vault.stop();
}

#[test]
fn killed_at_either_end_it_goes_on() {
    let pair = Pair::new(0x11a2);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 30, 24 << 20);
    pair.machine.backup();
    let (mut vault, address) = pair.serve("127.0.0.1:0");
    let whole = pair.spooled();
    for round in 0..6 {
        let mut node = pair.start_node(&address);
        std::thread::sleep(Duration::from_millis(150) + chance.upto(Duration::from_millis(400)));
        if round % 2 == 0 {
            node.kill();
        } else {
            vault.kill();
            vault = pair.serve(&address).0;
            std::thread::sleep(Duration::from_millis(100));
            let over = node.ends(Duration::from_millis(300));
            assert!(over.is_none_or(|status| status == 0));
        }
    }
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0), "{} of {whole} left", pair.spooled());
    assert_eq!(pair.spooled(), 0);
    vault.stop();
    pair.is_whole_there("killed now and then");
}

#[test]
fn a_manifest_that_overtook_its_packs_is_answered_when_they_are_there() {
    let pair = Pair::new(0x11a5);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 2 << 20);
    pair.machine.backup();
    let packs = files_below(&pair.machine.state().join("spool/packs"));
    let aside = pair.machine.path("aside");
    fs::rename(&packs[0], &aside).unwrap();
    let (vault, address) = pair.serve("127.0.0.1:0");
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    // All but the manifest are receipted, and the node waits on.
    assert!(wait_until(LONG, || pair.spooled() == 1), "{} left", pair.spooled());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(files_below(&pair.machine.state().join("spool/manifests")).len(), 1);
    fs::rename(&aside, &packs[0]).unwrap();
    assert!(wait_until(LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    node.stop();
    vault.stop();
    pair.is_whole_there("after a manifest that came first");
}

#[test]
fn a_vault_that_cannot_store_now_says_so_here_and_stores_later() {
    let pair = Pair::new(0x11ab);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 5, 300_000);
    pair.machine.backup();
    let before = pair.machine.json(&["status"], 0);
    assert_eq!((&before["backups"], &before["receipted"], &before["link"]), (&1.into(), &0.into(), &Value::Null));
    let mut drives: Vec<_> =
        fs::read_dir(pair.far().join("drives")).unwrap().map(|entry| entry.unwrap().path()).collect();
    drives.truncate(3);
    let away = |drive: &PathBuf| pair.machine.path("away").join(drive.file_name().unwrap());
    fs::create_dir(pair.machine.path("away")).unwrap();
    drives.iter().for_each(|drive| fs::rename(drive, away(drive)).unwrap());
    let (vault, address) = pair.serve("127.0.0.1:0");
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    let status = |verb: &[&str]| pair.machine.json(verb, 0);
    assert!(wait_until(LONG, || status(&["status"])["held"].as_u64() > Some(0)), "{:#}", status(&["status"]));
    let held = &status(&["link", "status"])["held"][0];
    assert!(held["reason"].as_str().is_some_and(|why| !why.is_empty()), "{held:#}");
    assert_ne!(pair.spooled(), 0);
    drives.iter().for_each(|drive| fs::rename(away(drive), drive).unwrap());
    assert!(wait_until(LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    assert!(wait_until(LONG, || status(&["status"])["held"] == 0));
    let after = status(&["status"]);
    assert_eq!((&after["receipted"], &after["waiting"], &after["checked"]), (&1.into(), &0.into(), &Value::Null));
    // What a check over the link saw is remembered; it read no data.
    pair.machine.json(&["check"], 0);
    let checked = status(&["status"]);
    assert_eq!((&checked["checked"]["snapshots"], &checked["read"]), (&1.into(), &Value::Null));
    node.stop();
    vault.stop();
    pair.is_whole_there("after its drives were away");
}

#[test]
fn over_bundles_the_same_crosses_and_is_read_back() {
    let pair = Pair::new(0x11ac);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 60, 800_000);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    vault.stop();
    pair.over_bundles();
    pair.machine.backup();
    let (mut vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    let answer = pair.machine.json(&["ping", "--count", "2", "--link-wait", "30"], 0);
    assert_eq!(answer["received"], 2, "{answer:#}");
    // Killed and started again at either end.
    for _ in 0..3 {
        let node = pair.start_node(&address);
        std::thread::sleep(Duration::from_millis(chance.below(300) as u64));
        node.kill();
        vault.kill();
        vault = pair.serve(&address).0;
    }
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0), "{} left", pair.spooled());
    assert_eq!(pair.spooled(), 0);
    assert_eq!(pair.machine.json(&["link", "status"], 0)["carrier"], "tcpcl");
    // What was never here before is asked for over the same network.
    fs::remove_dir_all(pair.machine.state()).unwrap();
    let target = pair.machine.path("over");
    pair.machine.json(&["restore", "latest", "--target", target.to_str().unwrap(), "--link-wait", "60"], 0);
    assert_same(&look(&pair.machine.src()), &target.join("src"), "over bundles");
    vault.stop();
    pair.is_whole_there("over bundles");
}

#[test]
fn backups_are_taken_while_the_node_drains() {
    let pair = Pair::new(0x11a6);
    let mut chance = Chance::new(pair.machine.seed);
    let (vault, address) = pair.serve("127.0.0.1:0");
    let node = Running(pair.machine.start(&["node", "--peer", &address]));
    for round in 0..5 {
        common::fill(&pair.machine.src().join(format!("round{round}")), &mut chance, 10, 2 << 20);
        assert_eq!(pair.machine.backup()["promise"], "safe-here");
    }
    assert!(wait_until(LONG, || pair.spooled() == 0), "{} left", pair.spooled());
    // A second node for the same link is refused while the first runs.
    assert_eq!(pair.machine.json(&["node", "--once", "--peer", &address], 10)["error"]["code"], "locked");
    node.stop();
    vault.stop();
    assert_eq!(pair.far_json(&["snapshots"])["snapshots"].as_array().unwrap().len(), 5);
    pair.is_whole_there("backed up while it was drained");
}

#[test]
fn a_stranger_changes_nothing() {
    let pair = Pair::new(0x11a3);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 20, 2 << 20);
    pair.machine.backup();
    let (vault, address) = pair.serve("127.0.0.1:0");
    // Who listens in between passes on what comes, keeps it, and sends it once more with noise between.
    let tap = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tapped = tap.local_addr().unwrap().to_string();
    let passed = std::thread::spawn({
        let (far, mut chance) = (address.clone(), chance.clone());
        move || {
            tap.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let far: std::net::SocketAddr = far.parse().unwrap();
            let (mut captured, mut near, mut buffer) = (Vec::new(), None, [0; 2048]);
            let mut idle = 0;
            while idle < 8 {
                let Ok((len, from)) = tap.recv_from(&mut buffer) else {
                    idle += 1;
                    continue;
                };
                idle = 0;
                let to = if from == far { near } else { Some(far) };
                if from != far {
                    near = Some(from);
                }
                let Some(to) = to else { continue };
                let _ = tap.send_to(&buffer[..len], to);
                captured.push((buffer[..len].to_vec(), to));
                if captured.len() % 16 == 0 {
                    let (old, to) = &captured[chance.below(captured.len())];
                    let noise = chance.clone().noise(old.len());
                    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
                    stranger.send_to(old, to).unwrap();
                    stranger.send_to(&noise, to).unwrap();
                    chance.word();
                }
            }
            captured
        }
    });
    assert_eq!(pair.start_node(&tapped).ends(LONG), Some(0));
    assert_eq!(pair.spooled(), 0);
    let before = files_below(&pair.far().join("drives"));
    let captured = passed.join().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (datagram, to) in &captured {
        stranger.send_to(datagram, to).unwrap();
    }
    std::thread::sleep(Duration::from_millis(1500));
    let status = pair.far_json(&["link", "status"]);
    assert!(status["datagrams"]["refused"].as_u64().unwrap() > 0, "{status:#}");
    assert_eq!(files_below(&pair.far().join("drives")), before);
    vault.stop();
    pair.is_whole_there("with a stranger on the line");
}

/// The stage of a mandate, as the vault last told when it was asked.
fn stage(pair: &Pair, number: u64) -> String {
    let (_, status) = pair.machine.answer(&["vault", "status", "--link-wait", "20"]);
    let mandates = status["mandates"].as_array().unwrap();
    mandates.iter().find(|m| m["number"] == number).map(|m| text(&m["stage"])).unwrap_or_default()
}

#[test]
fn a_vault_far_away_is_looked_after_in_the_authoritys_name() {
    let pair = Pair::new(0x11d1);
    let mut chance = Chance::new(pair.machine.seed);
    common::fill(&pair.machine.src(), &mut chance, 10, 2 << 20);
    pair.machine.backup();
    // Nothing is known yet.
    assert_eq!(pair.machine.json(&["vault", "status", "--last"], 12)["error"]["code"], "vault-away");
    let (vault, address) = pair.serve("127.0.0.1:0");
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    pair.knows(&address);
    let status = pair.machine.json(&["vault", "status"], 0);
    let there = pair.far_json(&["vault", "status"]);
    for field in ["redundancy", "lost", "left_over", "one_disk"] {
        assert_eq!(status[field], there[field], "{field}");
    }
    assert_eq!(
        (&status["vault"]["objects"], &status["vault"]["id"]),
        (&there["vault"]["objects"], &there["vault"]["id"])
    );
    assert_eq!(status["years"]["why"], there["years"]["why"]);
    assert!(status["told"]["bytes"].as_u64().unwrap() < 700, "{status:#}");
    // Short ones are done at once.
    let named = pair.machine.json(&["vault", "drive", "label", "d3", "--label", "A3", "--shelf", "left"], 0);
    assert_eq!((&named["mandate"]["stage"], &named["mandate"]["number"]), (&"done".into(), &1.into()));
    assert_eq!(pair.far_json(&["vault", "status"])["drives"][3]["label"], "A3");
    // What takes time is taken, and told about.
    let shard = files_below(&pair.far().join("drives/d1")).into_iter().find(|path| common::is_shard(path)).unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert_eq!(pair.machine.json(&["vault", "scrub"], 0)["mandate"]["task"], "scrub");
    assert!(wait_until(LONG, || stage(&pair, 2) == "done"));
    let scrub = pair.machine.json(&["vault", "status", "--last"], 0)["scrubs"][0].clone();
    assert_eq!((&scrub["end"], &scrub["mended"]), (&"whole".into(), &1.into()));
    // A drive more, and one less.
    let extra = pair.machine.path("extra");
    let refused = pair.machine.json(&["vault", "drive", "retire", "d0"], 13);
    assert!(text(&refused["error"]["message"]).contains("5 drives would be left"), "{refused:#}");
    let added = pair.machine.json(&["vault", "drive", "add", &format!("{},label=X", extra.display())], 0);
    assert_eq!(added["mandate"]["stage"], "done", "{added:#}");
    pair.machine.json(&["vault", "drive", "retire", "d0"], 0);
    assert!(wait_until(LONG, || stage(&pair, 4) == "done"));
    let drives = pair.machine.json(&["vault", "status", "--last"], 0)["drives"].clone();
    assert_eq!((&drives[0]["state"], &drives[6]["label"]), (&"retired".into(), &"X".into()));
    pair.machine.json(&["vault", "repair"], 0);
    assert!(wait_until(LONG, || stage(&pair, 5) == "done"));
    vault.stop();
    pair.is_whole_there("after a drive was retired from afar");
    // Nothing answers: what was said last is shown, and how old it is.
    assert!(pair.machine.json(&["vault", "status", "--last"], 0)["told"]["age_s"].as_i64().unwrap() >= 0);
    assert_eq!(pair.machine.json(&["vault", "status", "--link-wait", "1"], 12)["error"]["code"], "vault-away");
}

#[test]
fn a_mandate_waits_for_a_contact_is_followed_once_and_is_nobodys_but_the_authoritys() {
    let pair = Pair::new(0x11d2);
    let (vault, address) = pair.serve("127.0.0.1:0");
    pair.knows(&address);
    pair.machine.json(&["vault", "status"], 0);
    vault.stop();
    // A question that the vault had no time for may wait here, too.
    let asked = || -> BTreeSet<_> {
        let all = files_below(&pair.machine.state()).into_iter();
        all.filter(|path| path.parent().unwrap().ends_with("desk/asked")).collect()
    };
    let before = asked();
    // No contact: it waits here, and can be taken back.
    let label = |to: &str| ["vault", "drive", "label", "d3", "--no-wait", "--label", to].map(str::to_owned);
    let tell = |to: &str, status: i32| {
        let args = label(to);
        pair.machine.json(&args.iter().map(String::as_str).collect::<Vec<_>>(), status)
    };
    assert_eq!(tell("B3", 0)["mandate"]["stage"], "unanswered");
    assert_eq!(tell("C3", 0)["mandate"]["number"], 2);
    assert_eq!(pair.machine.json(&["vault", "withdraw", "2"], 0)["withdrawn"]["number"], 2);
    pair.machine.json(&["vault", "withdraw", "2"], 2);
    let last = pair.machine.json(&["vault", "status", "--last"], 0);
    assert_eq!(last["unanswered"][0]["number"], 1);
    // Somebody keeps what he saw of it. Other commands leave it where it is.
    let desk = asked().difference(&before).next().unwrap().clone();
    let copy = fs::read(&desk).unwrap();
    let (vault, _) = pair.serve(&address);
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert!(!desk.exists());
    let named = |pair: &Pair| text(&pair.far_json(&["vault", "status"])["drives"][3]["label"]);
    assert_eq!(named(&pair), "B3");
    // It is named otherwise since. The same mandate again changes nothing, whatever the vault remembers.
    pair.machine.json(&["vault", "drive", "label", "B3", "--label", "D3"], 0);
    for forgets in [false, true] {
        let vault = if forgets { pair.far().join("mandates") } else { pair.machine.path("nothing") };
        let _ = fs::remove_file(vault);
        fs::write(&desk, &copy).unwrap();
        assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
        assert_eq!(named(&pair), "D3");
    }
    vault.stop();
    let (vault, _) = pair.serve(&address);
    fs::write(&desk, &copy).unwrap();
    assert_eq!(pair.start_node(&address).ends(LONG), Some(0));
    assert_eq!(named(&pair), "D3");
    let last = pair.machine.json(&["vault", "status", "--last"], 0);
    assert!(text(&last["told"]["refusal"]).contains("mandate 2 was taken before"), "{last:#}");
    // Whoever has all that this machine backs up with, and no recovery key, tells the vault nothing.
    let stick = pair.machine.path("stick");
    fs::rename(pair.machine.path("keys/recovery-key.txt"), &stick).unwrap();
    assert_eq!(pair.machine.json(&["vault", "drive", "retire", "d0"], 11)["error"]["code"], "no-key");
    let other = common::Machine::new(pair.machine.seed + 1);
    other.json(&["init"], 0);
    let others = other.path("keys/recovery-key.txt");
    let with = |key: &std::path::Path, status: i32| {
        let key = key.to_str().unwrap();
        pair.machine.json(&["vault", "drive", "label", "D3", "--label", "E3", "--recovery-key", key], status)
    };
    assert_eq!(with(&others, 11)["error"]["code"], "wrong-key");
    assert_eq!(with(&stick, 0)["mandate"]["number"], 3);
    assert_eq!(pair.far_json_status(&["vault", "repair", "--recovery-key", "x"], 2)["error"]["code"], "usage");
    vault.stop();
}

#[test]
fn lines_of_the_wrong_end_and_folders_that_are_not_paired_are_named() {
    let pair = Pair::new(0x11a4);
    let own = text(&pair.machine.json(&["pair"], 0)["line"]);
    assert_eq!(pair.machine.json(&["pair", &own], 2)["error"]["code"], "usage");
    assert_eq!(pair.machine.json(&["pair", "LVTP1-NOLINE"], 2)["error"]["code"], "usage");
    assert_eq!(pair.machine.json(&["vault", "serve"], 12)["error"]["code"], "no-vault");
    let other = pair.machine.path("other");
    let other = ["node", "--vault", other.to_str().unwrap()];
    assert_eq!(pair.machine.json(&other, 12)["error"]["code"], "no-vault");
    assert_eq!(pair.machine.json(&["node", "--vault", pair.far().to_str().unwrap()], 2)["error"]["code"], "usage");
}
