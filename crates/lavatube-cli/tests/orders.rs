//! Work orders with the real command and daemon, and a robot that speaks HTTP and exchanges drives while backups flow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use common::facts::{assert_same, look};
use common::pair::{Pair, Running};
use common::{Chance, Machine, number, seed, text, wait_until};
use serde_json::{Value, json};

#[test]
fn a_person_claims_an_order_does_it_and_the_vault_looks_whether_it_helped() {
    let machine = Machine::in_memory(seed(0x0d01));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 10, 100_000);
    machine.backup();
    let want = look(&machine.src());
    // One drive to spare is wanted, and nothing else.
    let orders = machine.json(&["vault", "orders"], 4)["orders"].clone();
    assert_eq!((orders.as_array().unwrap().len(), text(&orders[0]["id"])), (1, "add-drives".into()), "{orders:#}");
    fs::rename(machine.drive(2), machine.path("away2")).unwrap();
    let orders = machine.json(&["vault", "orders"], 4)["orders"].clone();
    let id = text(&orders[0]["id"]);
    assert!(id.starts_with("reseat-") && orders[0]["about"][0]["label"] == "d2", "{orders:#}");
    let worth = |order: &Value, field: &str| order["worth"][field].as_f64().unwrap();
    assert!(worth(&orders[0], "lost_share_after") < worth(&orders[0], "lost_share"), "{orders:#}");
    let claimed = machine.json(&["vault", "orders", "claim", &id, "--by", "Ana"], 0);
    assert_eq!((&claimed["order"]["state"], &claimed["order"]["claim"]["by"]), (&json!("claimed"), &json!("Ana")));
    assert_eq!(machine.answer(&["vault", "orders", "claim", &id, "--by", "Bo"]).0, 13);
    assert_eq!(machine.answer(&["vault", "orders", "claim", "reseat-0", "--by", "Bo"]).0, 2);
    machine
        .json(&["vault", "orders", "progress", &id, "--by", "Ana", "--percent", "50", "--note", "the tray is out"], 0);
    let listed = machine.json(&["vault", "orders"], 4)["orders"][0]["claim"].clone();
    assert_eq!((&listed["percent"], &listed["note"]), (&json!(50), &json!("the tray is out")));
    // She says that it is done, and it is not.
    let done = machine.json(&["vault", "orders", "done", &id, "--by", "Ana"], 4);
    assert_eq!(done["order"]["state"], "vain", "{done:#}");
    let orders = machine.json(&["vault", "orders"], 4);
    let id = text(&orders["orders"][0]["id"]);
    assert!(id.starts_with("replace-"), "what was reseated in vain is replaced: {orders:#}");
    assert_eq!((&orders["ended"][0]["by"], &orders["ended"][0]["helped"]), (&json!("Ana"), &json!(false)));
    fs::create_dir(machine.drive(2)).unwrap();
    machine.json(&["vault", "orders", "claim", &id, "--by", "Bo"], 0);
    let done = machine.json(&["vault", "orders", "done", &id, "--by", "Bo"], 0);
    assert_eq!(done["order"]["state"], "done", "{done:#}");
    machine.json(&["check", "--read-data"], 0);
    // And a further one.
    machine.json(&["vault", "orders", "claim", "add-drives", "--by", "Bo"], 0);
    let drive = format!("{},label=N1,shelf=left", machine.path("new").display());
    machine.json(&["vault", "orders", "done", "add-drives", "--by", "Bo", "--drive", &drive], 0);
    assert_eq!(machine.json(&["vault", "orders"], 0)["orders"], json!([]));
    assert_eq!(machine.json(&["vault", "status"], 0)["drives"][6]["label"], "N1");
    assert_same(&want, &machine.restore("latest", "back").join("src"), "after both");
}

fn at_far(pair: &Pair, args: &[&str]) -> (i32, Value) {
    let mut command = pair.at_far(args);
    command.arg("--json");
    pair.machine.read(args, &common::output(command))
}

/// A robot: it asks what is to be done, and does it.
struct Robot<'p> {
    pair: &'p Pair,
    address: String,
    token: String,
}

impl Robot<'_> {
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: vault\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn post(&self, id: &str, verb: &str, body: Value) -> Value {
        let (status, answer) = self.ask("POST", &format!("/orders/{id}/{verb}"), &body);
        assert!(status == 200 || status == 202, "{verb} {id}: {status} {answer:#}");
        answer
    }

    /// Orders about drives, once there are some.
    fn order(&self, task: &str) -> Value {
        let mut found = Value::Null;
        let is_there = wait_until(Duration::from_secs(30), || {
            let (status, answer) = self.ask("GET", "/orders", &Value::Null);
            let all = if status == 200 { answer["orders"].as_array().unwrap().clone() } else { Vec::new() };
            found = all.into_iter().find(|o| o["task"] == task).unwrap_or_default();
            !found.is_null()
        });
        assert!(is_there, "no order to {task}: {:#}", self.ask("GET", "/orders", &Value::Null).1);
        found
    }

    /// Tells that it is done, and waits for what the vault says.
    fn done(&self, id: &str, drives: &[String]) -> String {
        self.post(id, "progress", json!({ "by": "arm", "percent": 90, "note": "screws" }));
        self.post(id, "done", json!({ "by": "arm", "drives": drives }));
        let mut state = String::new();
        let ended = |state: &str| ["done", "vain"].contains(&state);
        wait_until(Duration::from_secs(60), || {
            let (_, orders) = at_far(self.pair, &["vault", "orders"]);
            let last = orders["ended"].as_array().unwrap().iter().rev().find(|e| e["id"] == id).cloned();
            state = last.map_or("told", |e| if e["helped"] == true { "done" } else { "vain" }).into();
            ended(&state)
        });
        state
    }
}

#[test]
fn a_robot_exchanges_drives_over_http_while_backups_flow() {
    let pair = Pair::new(0x0d02);
    let args = ["vault", "serve", "--listen", "127.0.0.1:0", "--orders", "127.0.0.1:0", "--lock-wait", "20", "--json"];
    let log = pair.far().join("serve.log");
    let out = fs::File::create(&log).unwrap();
    let vault = Running(pair.at_far(&args).stdout(out).stderr(Stdio::null()).spawn().unwrap());
    let event = |name: &str| -> Option<Value> {
        let lines = fs::read_to_string(&log).ok()?;
        lines.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).find(|v| v["event"] == name)
    };
    assert!(wait_until(Duration::from_secs(20), || event("orders").is_some() && event("listening").is_some()));
    let token = fs::read_to_string(pair.far().join("orders.token")).unwrap().trim().to_owned();
    let robot = Robot { pair: &pair, address: text(&event("orders").unwrap()["address"]), token };
    let drive = |n: usize| pair.far().join(format!("drives/d{n}"));
    let mut backups = 0;
    let mut flow = || {
        fs::write(pair.machine.src().join(format!("flow{backups}")), vec![backups as u8; 150_000]).unwrap();
        pair.machine.json(&["backup", "src", "--lock-wait", "30"], 0);
        backups += 1;
    };
    let address = text(&event("listening").unwrap()["address"]);
    let node = Running(pair.machine.start(&["node", "--peer", &address, "--lock-wait", "20"]));
    for n in [1usize, 4, 2] {
        flow();
        // It dies: reseating does not help, so it is exchanged for an empty one.
        fs::rename(drive(n), pair.far().join(format!("dead{n}"))).unwrap();
        flow();
        // The daemon sees that when it opens the vault anew, or writes: told or not, the order comes.
        let order = robot.order("reseat");
        let id = text(&order["id"]);
        robot.post(&id, "claim", json!({ "by": "arm", "for_s": 600 }));
        let (status, refused) = robot.ask("POST", &format!("/orders/{id}/claim"), &json!({ "by": "another" }));
        assert_eq!(status, 409, "{refused:#}");
        flow();
        assert_eq!(robot.done(&id, &[]), "vain");
        let order = robot.order("replace");
        let id = text(&order["id"]);
        assert_eq!(order["about"][0]["label"], format!("d{n}"), "{order:#}");
        robot.post(&id, "claim", json!({ "by": "arm" }));
        fs::create_dir(drive(n)).unwrap();
        flow();
        assert_eq!(robot.done(&id, &[]), "done");
        assert!(drive(n).join("drive.card").exists() && drive(n).join("shards").exists());
    }
    let id = text(&robot.order("add")["id"]);
    robot.post(&id, "claim", json!({ "by": "arm" }));
    assert_eq!(robot.done(&id, &[format!("{},label=N1", pair.far().join("new").display())]), "done");
    flow();
    let all_there = || pair.machine.answer(&["status"]).1["waiting"] == 0;
    assert!(wait_until(Duration::from_secs(120), all_there), "{:#}", pair.machine.answer(&["status"]).1);
    node.stop();
    vault.stop();
    // Three of six are others by now, and nothing is missing anywhere.
    let (_, status) = at_far(&pair, &["vault", "status"]);
    assert_eq!((number(&status["lost"]), status["drives"].as_array().unwrap().len()), (0, 7), "{status:#}");
    let (_, scrubbed) = at_far(&pair, &["vault", "scrub"]);
    assert_eq!(number(&scrubbed["scrub"]["lost"]), 0, "{scrubbed:#}");
    let (status, repaired) = at_far(&pair, &["vault", "repair"]);
    assert_eq!((status, number(&repaired["degraded"]["objects"])), (0, 0), "{repaired:#}");
    pair.is_whole_there("after three drives were exchanged");
}
