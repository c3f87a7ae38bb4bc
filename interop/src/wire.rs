//! What crossed, as tshark reads it: bytes put into a capture by us, so that nobody needs to listen on an interface.

use std::process::{Command, Stdio};

/// A capture of packets of one link type.
pub struct Capture {
    bytes: Vec<u8>,
}

/// A TCP connection in a capture, from the first byte of both directions on.
pub struct Stream {
    /// Next byte of each direction: of the one that connected, and of the other.
    next: [u32; 2],
    ports: [u16; 2],
}

impl Default for Capture {
    fn default() -> Self {
        // pcap: magic, version 2.4, no offset of zones, longest packet, link type 228: raw IPv4.
        let words = [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 1 << 18, 228];
        Self { bytes: words.iter().flat_map(|word| word.to_be_bytes()).collect() }
    }
}

impl Capture {
    fn packet(&mut self, protocol: u8, side: usize, content: &[u8]) {
        let len = u16::try_from(20 + content.len()).expect("a packet");
        let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        (ip[15], ip[19]) = if side == 0 { (1, 2) } else { (2, 1) };
        ip[2..4].copy_from_slice(&len.to_be_bytes());
        let sum: u32 = ip.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("a sum of ten words");
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        for word in [1_800_000_000, 0, u32::from(len), u32::from(len)] {
            self.bytes.extend_from_slice(&u32::to_be_bytes(word));
        }
        self.bytes.extend_from_slice(&ip);
        self.bytes.extend_from_slice(content);
    }

    /// A UDP packet from a port to another.
    pub fn udp(&mut self, from: u16, to: u16, content: &[u8]) {
        let len = u16::try_from(8 + content.len()).expect("a packet");
        let head = [from, to, len, 0].map(u16::to_be_bytes);
        self.packet(17, 0, &[head.as_flattened(), content].concat());
    }

    /// Begins a connection to `port`.
    pub fn connect(&mut self, port: u16) -> Stream {
        let mut stream = Stream { next: [1000, 2000], ports: [40_000, port] };
        for (side, flags) in [(0, 0x02), (1, 0x12), (0, 0x10)] {
            self.segment(&stream, side, flags, &[]);
            stream.next[side] += u32::from(flags & 2 != 0);
        }
        stream
    }

    /// Bytes of a connection from one side, 0 or 1.
    pub fn tcp(&mut self, stream: &mut Stream, side: usize, bytes: &[u8]) {
        for part in bytes.chunks(1400) {
            self.segment(stream, side, 0x18, part);
            stream.next[side] += u32::try_from(part.len()).expect("a segment");
        }
    }

    fn segment(&mut self, stream: &Stream, side: usize, flags: u8, content: &[u8]) {
        let (here, there) = (side, 1 - side);
        let mut head = [stream.ports[here], stream.ports[there]].map(u16::to_be_bytes).concat();
        head.extend_from_slice(&stream.next[here].to_be_bytes());
        head.extend_from_slice(&if flags & 0x10 == 0 { 0 } else { stream.next[there] }.to_be_bytes());
        head.extend_from_slice(&[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        self.packet(6, side, &[&head, content].concat());
    }

    /// What tshark says of it: lines of fields, separated by tabs. `None`, said aloud, where tshark is not installed.
    pub fn read(&self, what: &str, fields: &[&str]) -> Option<Vec<Vec<String>>> {
        if Command::new("tshark").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            crate::skip(what, "tshark is not installed (on Debian: apt-get install tshark)");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("capture.pcap");
        std::fs::write(&path, &self.bytes).expect("a file");
        let mut tshark = Command::new("tshark");
        tshark.arg("-2").arg("-r").arg(&path).args(["-T", "fields", "-E", "occurrence=a"]);
        // Twice over it: what a message is answered by comes after it. Sums that a network card would make are not made here.
        tshark.args(["-o", "tcp.check_checksum:FALSE", "-o", "udp.check_checksum:FALSE"]);
        fields.iter().for_each(|field| {
            tshark.args(["-e", field]);
        });
        let out = tshark.output().expect("tshark runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8(out.stdout).expect("text");
        Some(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }
}
