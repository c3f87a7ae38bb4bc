//! What tshark and scapy read in a capture, as lines that can be compared with what we read.
//!
//! A line has the fields of one segment, a tab between them and a comma between several of one. A judge who is not on the machine is missed
//! aloud. It must not know engines.

use std::path::Path;
use std::process::Command;

use lavatube_format::ltp::{Content, Mark, Reason, Segments};

/// Fields of a line, by tshark's names.
const FIELDS: [&str; 17] = [
    "ltp.type",
    "ltp.session.orig",
    "ltp.session.number",
    "ltp.data.client.id",
    "ltp.data.offset",
    "ltp.data.length",
    "ltp.data.chkp",
    "ltp.data.rpt",
    "ltp.rpt.sno",
    "ltp.rpt.chkp",
    "ltp.rpt.ub",
    "ltp.rpt.lb",
    "ltp.rpt.clm.cnt",
    "ltp.rpt.clm.off",
    "ltp.rpt.clm.len",
    "ltp.rpt.ack.sno",
    "ltp.cancel.code",
];

/// What we read in a datagram.
///
/// # Panics
/// When it is not one good segment.
pub fn our_line(datagram: &[u8]) -> String {
    let mut segments = Segments::new(datagram);
    let segment = segments.next().expect("a segment").expect("a good segment");
    assert!(segments.next().is_none(), "one segment in a datagram");
    let mut fields = [const { String::new() }; 17];
    fields[1] = segment.session.engine.to_string();
    fields[2] = segment.session.number.to_string();
    let kind = match segment.content {
        Content::Data(data) => {
            fields[3] = data.service.to_string();
            fields[4] = data.offset.to_string();
            fields[5] = data.bytes.len().to_string();
            if let Some(checkpoint) = data.mark.checkpoint() {
                fields[6] = checkpoint.number.to_string();
                fields[7] = checkpoint.report.to_string();
            }
            match data.mark {
                Mark::Red => 0,
                Mark::Checkpoint(_) => 1,
                Mark::RedEnd(_) => 2,
                Mark::BlockEnd(_) => 3,
                Mark::Green => 4,
                Mark::GreenEnd => 7,
            }
        }
        Content::Report(report) => {
            let list = |of: &dyn Fn(&std::ops::Range<u64>) -> u64| {
                report.claims().map(|claim| of(&claim).to_string()).collect::<Vec<_>>().join(",")
            };
            fields[8] = report.number.to_string();
            fields[9] = report.checkpoint.to_string();
            fields[10] = report.upper.to_string();
            fields[11] = report.lower.to_string();
            fields[12] = report.claims().count().to_string();
            fields[13] = list(&|claim| claim.start - report.lower);
            fields[14] = list(&|claim| claim.end - claim.start);
            8
        }
        Content::ReportAck { report } => {
            fields[15] = report.to_string();
            9
        }
        Content::CancelBySender(reason) => {
            fields[16] = code(reason);
            12
        }
        Content::CancelAckToSender => 13,
        Content::CancelByReceiver(reason) => {
            fields[16] = code(reason);
            14
        }
        Content::CancelAckToReceiver => 15,
    };
    fields[0] = kind.to_string();
    fields.join("\t")
}

fn code(reason: Reason) -> String {
    match reason {
        Reason::Cancelled => "0".into(),
        Reason::Unreachable => "1".into(),
        Reason::Retries => "2".into(),
        Reason::Miscolored => "3".into(),
        Reason::System => "4".into(),
        Reason::Rounds => "5".into(),
        Reason::Other(code) => code.to_string(),
    }
}

/// What tshark reads in a capture, and the numbers (from 0) of the packets that it calls malformed; `None` when it is not there.
///
/// # Panics
/// When it fails.
pub fn tshark(capture: &Path) -> Option<(Vec<String>, Vec<usize>)> {
    let run = |args: &[&str]| {
        // What is in the blocks is for another test.
        let off = ["--disable-protocol", "bpv6", "--disable-protocol", "bpv7", "-T", "fields"];
        let output = Command::new("tshark").arg("-r").arg(capture).args(off).args(args).output().ok()?;
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let args: Vec<&str> = FIELDS.iter().flat_map(|field| ["-e", field]).collect();
    let lines = run(&args)?.iter().map(|line| plain(line)).collect();
    let bad = run(&["-Y", "_ws.malformed || _ws.expert.severity >= 6291456 || !ltp", "-e", "frame.number"])?;
    Some((lines, bad.iter().filter_map(|number| number.parse::<usize>().ok()).map(|number| number - 1).collect()))
}

/// A line of tshark's with all numbers decimal.
fn plain(line: &str) -> String {
    let decimal = |field: &str| match field.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16)) {
        Some(Ok(number)) => number.to_string(),
        _ => field.to_owned(),
    };
    line.split('\t').map(decimal).collect::<Vec<_>>().join("\t")
}

/// Whether a line of ours is that of an acknowledged cancellation. It has nothing behind its head (RFC 5326 3.2.4); tshark 4.0 draws the head
/// one byte too long and so calls every one malformed, whoever made it.
pub fn is_cancel_ack(line: &str) -> bool {
    line.starts_with("13\t") || line.starts_with("15\t")
}

/// What scapy reads in a capture; `None` when it is not there.
///
/// # Panics
/// When it fails.
pub fn scapy(capture: &Path) -> Option<Vec<String>> {
    let python = std::env::var("INTEROP_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", "import scapy.contrib.ltp"]).output().ok()?.status.success();
    if !there {
        return None;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/judge.py");
    let output = Command::new(&python).arg(script).arg(capture).output().ok()?;
    assert!(output.status.success(), "scapy: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Says so that nobody misses it that a judge is not there.
pub fn skipped(who: &str) {
    eprintln!("!!!! SKIPPED: {who} is not on this machine; nobody but us has judged these segments");
}
