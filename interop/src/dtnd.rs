//! The daemon of dtn7-rs as a process, with the programs that come with it. `DTN7_BIN` names the folder they are in, else they
//! are looked for on the `PATH`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running daemon, `dtn://seven/`, with an endpoint `in`.
pub struct Dtnd {
    process: Child,
    folder: tempfile::TempDir,
    web: u16,
    /// Where it listens for TCPCL.
    pub address: SocketAddr,
}

fn program(name: &str) -> PathBuf {
    std::env::var_os("DTN7_BIN").map_or_else(|| name.into(), |folder| PathBuf::from(folder).join(name))
}

impl Dtnd {
    /// A daemon that connects to `peer`, if any. `None`, said aloud, where dtn7 is not installed.
    pub fn start(what: &str, peer: Option<(SocketAddr, &str)>) -> Option<Self> {
        let quiet = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        };
        let mut probe = Command::new(program("dtnd"));
        quiet(probe.arg("--version"));
        if probe.status().is_err() {
            crate::skip(what, "dtnd is not installed (scripts/interop --dtn7 installs it into the target folder)");
            return None;
        }
        let (address, web) = (crate::ours::free_address(), crate::ours::free_address().port());
        let folder = tempfile::tempdir().expect("a folder");
        let mut daemon = Command::new(program("dtnd"));
        daemon.args(["-n", "dtn://seven/", "--disable_nd", "-D", "mem", "-e", "in", "-r", "epidemic", "-j", "1s"]);
        daemon.arg("-C").arg(format!("tcp:port={}:bind=127.0.0.1", address.port()));
        daemon.arg("-w").arg(web.to_string()).arg("-W").arg(folder.path());
        if let Some((at, node)) = peer {
            daemon.arg("-s").arg(format!("tcp://{at}/{node}"));
        }
        quiet(&mut daemon);
        let process = daemon.spawn().expect("dtnd starts");
        Some(Self { process, folder, web, address })
    }

    /// Sends a payload.
    pub fn send(&self, receiver: &str, payload: &[u8]) {
        let file = self.folder.path().join("payload");
        std::fs::write(&file, payload).expect("a file");
        self.retried(|| {
            let mut send = Command::new(program("dtnsend"));
            send.args(["-p", &self.web.to_string(), "-r", receiver]).arg(&file);
            let out = send.output().expect("dtnsend runs");
            out.status.success().then_some(())
        })
        .expect("dtnsend sends");
    }

    /// Gives it a bundle as it is, over its web interface.
    pub fn insert(&self, bundle: &[u8]) {
        self.retried(|| {
            let mut stream = TcpStream::connect(("127.0.0.1", self.web)).ok()?;
            let head = format!(
                "POST /insert HTTP/1.1\r\nHost: dtnd\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                bundle.len()
            );
            stream.write_all(&[head.as_bytes(), bundle].concat()).ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).ok()?;
            answer.starts_with(b"HTTP/1.1 200").then_some(())
        })
        .expect("dtnd takes a bundle");
    }

    /// The next payload at its endpoint `in`.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let file = self.folder.path().join("received");
        self.retried(|| {
            let _ = std::fs::remove_file(&file);
            let mut receive = Command::new(program("dtnrecv"));
            receive.args(["-p", &self.web.to_string(), "-e", "in", "-o"]).arg(&file);
            receive.output().expect("dtnrecv runs");
            std::fs::read(&file).ok().filter(|bytes| !bytes.is_empty())
        })
    }

    fn retried<T>(&self, attempt: impl Fn() -> Option<T>) -> Option<T> {
        let begin = Instant::now();
        loop {
            let got = attempt();
            if got.is_some() || begin.elapsed() > Duration::from_secs(30) {
                return got;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Dtnd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
