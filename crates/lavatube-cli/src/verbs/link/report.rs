//! The state of a link in words. Must not know how a link works.

use std::collections::BTreeSet;

use lavatube_base::time::WallTime;
use lavatube_node::clock;
use serde_json::Value;

use crate::screen::{Ink, Screen};
use crate::{date, units};

/// What a status says, a line each.
pub(super) fn lines(status: &Value, screen: &Screen) -> Vec<String> {
    let mut rows = vec![("line", line(status, screen)), ("contact", contact(status))];
    match status["carrier"].as_str() {
        Some("tcpcl") => rows.push(("carrier", "bundles over TCPCLv4".into())),
        Some("ltp") => rows.push(("carrier", "bundles over LTP".into())),
        _ => {}
    }
    let rate = |of: &Value, name: &str| units::bit_rate(number(&of[name]));
    if status["contact"].is_object() {
        let contact = &status["contact"];
        let allowed = format!("{} up, {} down", rate(contact, "rate_up_bit_s"), rate(contact, "rate_down_bit_s"));
        rows.push(("rate", allowed));
    }
    if status["measured"].is_object() {
        let measured = &status["measured"];
        rows.push(("measured", format!("{} up, {} down", rate(measured, "up_bit_s"), rate(measured, "down_bit_s"))));
    }
    rows.push(("loss", format!("{:.2} %, measured or assumed", 100.0 * status["loss"].as_f64().unwrap_or_default())));
    let light = status["light_s"].as_f64().map_or("not measured yet".into(), |s| format!("{s:.3} s one way"));
    rows.push(("light time", light));
    let out = &status["outgoing"];
    let on_its_way = units::things(number(&out["blocks"]), "block", "blocks");
    rows.push(("on its way", format!("{on_its_way}, {} missing there", units::bytes(number(&out["bytes_missing"])))));
    rows.push(("coming in", units::things(number(&status["incoming"]["blocks"]), "block", "blocks")));
    let datagrams = &status["datagrams"];
    rows.push((
        "datagrams",
        format!(
            "{} sent, {} received, {} of strangers or double",
            units::count(number(&datagrams["sent"])),
            units::count(number(&datagrams["received"])),
            units::count(number(&datagrams["refused"]))
        ),
    ));
    let log = &status["log"];
    match log["verdict"].as_str() {
        Some("sound") => {
            let entries = units::things(number(&log["size"]), "entry", "entries");
            rows.push(("log", format!("{entries}; goes on from what was known")));
        }
        Some(_) => {
            let why = log["reason"].as_str().unwrap_or_default();
            rows.push(("log", format!("{}: {why}", screen.ink(Ink::Red, "ALARM, nothing is sent"))));
        }
        None => {}
    }
    let mut out: Vec<String> = rows.into_iter().map(|(name, value)| format!("{name:<11} {value}")).collect();
    out.extend(reasons(status, "held", "there cannot be stored now", screen));
    out.extend(reasons(status, "stuck", "here cannot be sent", screen));
    out.extend(queue(status, screen));
    out.extend(deficits(status, screen));
    out
}

fn line(status: &Value, screen: &Screen) -> String {
    match status["line"].as_str() {
        Some("open") => screen.ink(Ink::Green, "open"),
        Some("silent") => screen.ink(Ink::Yellow, "silent: nobody answers"),
        Some("shut") => "shut: no contact now, by the plan".into(),
        _ => "?".into(),
    }
}

fn contact(status: &Value) -> String {
    let now = &status["contact"];
    let mut text = match (now.is_object(), now["end_unix_s"].as_u64()) {
        (false, _) => "none now".to_owned(),
        (true, None) => "always".to_owned(),
        (true, Some(end)) => format!("until {}, {} from now", when(end), from_now(end)),
    };
    if let Some(budget) = now["budget_bytes"].as_u64() {
        let sent = units::bytes(number(&status["contact_bytes_sent"]));
        text.push_str(&format!("; {sent} of {} sent", units::bytes(budget)));
    }
    if let Some(start) = status["next_contact"]["start_unix_s"].as_u64() {
        text.push_str(&format!("; next at {}, {} from now", when(start), from_now(start)));
    }
    text
}

/// What waits, in the order of sending.
fn queue(status: &Value, screen: &Screen) -> Vec<String> {
    let all = status["queue"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![screen.ink(
        Ink::Bold,
        "waiting     taken (UTC)          priority   objects      left  there (UTC), if all goes by the plan",
    )];
    for waiting in all.iter().take(SHOWN_MAX) {
        let short = |id: &Value| id.as_str().map(|id| id.chars().take(8).collect::<String>());
        let name = short(&waiting["snapshot"]).or_else(|| short(&waiting["manifest"])).unwrap_or("unfinished".into());
        let taken = waiting["taken_unix_s"].as_i64().map_or_else(String::new, |s| date::table(WallTime { s, ns: 0 }));
        let there = match waiting["there_unix_s"].as_u64() {
            Some(at) => format!("{}, in {}", when(at), from_now(at)),
            None => screen.ink(Ink::Yellow, "not within the plan"),
        };
        lines.push(format!(
            "  {name:<10}{taken:<20} {:<8} {:>9} {:>9}  {there}",
            waiting["priority"].as_str().unwrap_or_default(),
            units::count(number(&waiting["objects"])),
            units::bytes(number(&waiting["bytes"])),
        ));
    }
    more(all.len(), &mut lines);
    lines
}

/// What cannot go on, once for each reason.
fn reasons(status: &Value, name: &str, what: &str, screen: &Screen) -> Vec<String> {
    let all = status[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let reasons: BTreeSet<&str> = all.iter().filter_map(|held| held["reason"].as_str()).collect();
    let of = |reason: &str| {
        let n = all.iter().filter(|held| held["reason"] == reason).count();
        let text = format!("{} {what}: {reason}", units::things(n as u64, "object", "objects"));
        format!("{name:<11} {}", screen.ink(Ink::Yellow, &text))
    };
    reasons.into_iter().map(of).collect()
}

/// What is missing of each block that is on its way.
fn deficits(status: &Value, screen: &Screen) -> Vec<String> {
    let all = status["outgoing"]["first"].as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![screen.ink(Ink::Bold, "on its way     size   symbols      sent     missing there")];
    for block in all.iter().take(SHOWN_MAX) {
        let count = |name: &str| units::count(number(&block[name]));
        let size = units::bytes(number(&block["bytes"]));
        let missing = if block["held"] == true { "there, not stored".to_owned() } else { count("missing") };
        lines.push(format!("  {size:>17} {:>9} {:>9} {missing:>17}", count("symbols"), count("sent")));
    }
    more(all.len(), &mut lines);
    lines
}

fn more(all: usize, lines: &mut Vec<String>) {
    if all > SHOWN_MAX {
        lines.push(format!("  and {} more", all - SHOWN_MAX));
    }
}

/// A time, as tables have it.
pub(super) fn when(unix_s: u64) -> String {
    date::table(WallTime { s: i64::try_from(unix_s).unwrap_or(i64::MAX), ns: 0 })
}

fn from_now(unix_s: u64) -> String {
    let now = u64::try_from(clock::wall_now().s).unwrap_or(0);
    units::whole_span(unix_s.saturating_sub(now))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

const SHOWN_MAX: usize = 10;
