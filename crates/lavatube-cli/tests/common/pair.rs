//! Two machines at the ends of a link, with their daemons.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::facts::{assert_same, look};
use super::{Machine, files_below, seed, text, wait_until};

/// A machine whose vault is at the far end of a link: `vault` here leads to it, `far` is it.
pub struct Pair {
    pub machine: Machine,
}

impl Pair {
    /// Makes keys and vault, carries the vault away, and pairs the two.
    pub fn new(own: u64) -> Self {
        let machine = Machine::new(seed(own));
        machine.json(&["init"], 0);
        fs::rename(machine.vault(), machine.path("far")).unwrap();
        let pair = Self { machine };
        let (vaults, earths) = (pair.far_json(&["pair"]), pair.machine.json(&["pair"], 0));
        pair.machine.json(&["pair", &text(&vaults["line"]), "--rate-up", "200000000", "--rate-down", "200000000"], 0);
        let paired =
            pair.far_json(&["pair", &text(&earths["line"]), "--rate-up", "200000000", "--rate-down", "200000000"]);
        assert_eq!((&paired["end"], &paired["paired"]), (&"vault".into(), &true.into()));
        pair
    }

    pub fn far(&self) -> PathBuf {
        self.machine.path("far")
    }

    /// A command at the far vault.
    pub fn at_far(&self, args: &[&str]) -> Command {
        let mut command = self.machine.command(args);
        command.env("LAVATUBE_VAULT", self.far()).env("LAVATUBE_STATE", self.machine.path("far-state"));
        command
    }

    #[track_caller]
    pub fn far_json(&self, args: &[&str]) -> Value {
        self.far_json_status(args, 0)
    }

    #[track_caller]
    pub fn far_json_status(&self, args: &[&str], want: i32) -> Value {
        let mut command = self.at_far(args);
        command.arg("--json");
        let (status, answer) = self.machine.read(args, &super::output(command));
        assert_eq!(status, want, "{args:?}: {answer:#}");
        answer
    }

    /// Starts the far daemon at `address`, and returns where it listens.
    pub fn serve(&self, address: &str) -> (Running, String) {
        let mut command = self.at_far(&["vault", "serve", "--listen", address, "--json", "--lock-wait", "20"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(first["event"], "listening");
        // Somebody must read on.
        std::thread::spawn(move || lines.for_each(drop));
        (Running(child), text(&first["address"]))
    }

    /// Notes where the vault listens.
    pub fn knows(&self, address: &str) {
        let line = text(&self.far_json(&["pair"])["line"]);
        self.machine.json(&["pair", &line, "--peer", address], 0);
    }

    /// Lets bundles carry what crosses, over TCPCL.
    pub fn over_bundles(&self) {
        let how = || "carrier = \"tcpcl\"".to_owned();
        self.carried_by([how(), how()]);
    }

    /// Lets bundles carry what crosses, over LTP: the vault hears at `far` and sends to `to_near`, this machine hears at `near`.
    pub fn over_ltp(&self, near: SocketAddr, to_near: SocketAddr) {
        let far = format!("carrier = \"ltp\"\nconnect = \"{to_near}\"");
        let near = format!("carrier = \"ltp\"\nlisten = \"{near}\"");
        self.carried_by([near, far]);
    }

    fn carried_by(&self, ends: [String; 2]) {
        for (folder, how) in [self.machine.vault(), self.far()].into_iter().zip(ends) {
            let file = folder.join("link.toml");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, format!("{text}\n[dtn]\n{how}\npatience_s = 3\n")).unwrap();
        }
    }

    pub fn start_node(&self, address: &str) -> Running {
        Running(self.machine.start(&["node", "--once", "--peer", address, "--lock-wait", "20"]))
    }

    pub fn spooled(&self) -> usize {
        files_below(&self.machine.state().join("spool")).len()
    }

    /// The far vault has everything, and gives it back exactly.
    #[track_caller]
    pub fn is_whole_there(&self, what: &str) {
        self.far_json(&["check", "--read-data"]);
        let target = self.machine.path("back");
        self.far_json(&["restore", "latest", "--target", target.to_str().unwrap()]);
        assert_same(&look(&self.machine.src()), &target.join("src"), what);
        fs::remove_dir_all(target).unwrap();
    }
}

/// A daemon that ends with the test.
pub struct Running(pub Child);

impl Running {
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Ends it as a service manager does.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }

    pub fn ends(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        wait_until(limit, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.and_then(|s| s.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
