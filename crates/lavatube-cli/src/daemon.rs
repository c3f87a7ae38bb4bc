//! What the daemons of the link share on the terminal: a line for each thing that happens, and the file for `link status`.
//!
//! In words on a terminal, as a JSON object a line when that was asked for, else only warnings. Must not know how a link
//! works.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use lavatube_base::ObjectId;
use lavatube_format::shard::ObjectKind;
use lavatube_node::far_end::Listener;
use lavatube_node::link_folder;
use lavatube_node::queue::Waiting;
use lavatube_node::status::{Contact, Line, Stage, Status};
use lavatube_node::told::Told;
use lavatube_node::waybill::Priority;
use lavatube_node::{clock, signals};
use serde_json::{Value, json};

use crate::errors::{Condition, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::{date, units};

/// The terminal of a daemon.
pub struct Daemon<'s> {
    screen: &'s Screen,
    words: bool,
    /// What waits, and what was counted when last asked.
    queue: Vec<Waiting>,
    counted: Option<(Instant, u64, u64)>,
    /// What the vault cannot store now, and why.
    held: BTreeMap<ObjectId, String>,
    /// What cannot be sent now, and why.
    stuck: Vec<(ObjectId, String)>,
    folder: PathBuf,
    /// What carries what crosses.
    carrier: &'static str,
    /// How the vault's log was found.
    log: Value,
    /// The first failure to write: nobody listens any more.
    pub failed: Option<Failure>,
}

impl<'s> Daemon<'s> {
    /// A daemon of the link in the vault's folder.
    pub fn new(settings: &Settings, screen: &'s Screen) -> Self {
        let words = !screen.json && !screen.quiet && stdout().is_terminal();
        let folder = settings.places.vault.clone();
        let carrier = link_folder::carrier_name(&folder).unwrap_or("native");
        Self {
            screen,
            words,
            queue: Vec::new(),
            counted: None,
            held: BTreeMap::new(),
            stuck: Vec::new(),
            folder,
            carrier,
            log: Value::Null,
            failed: None,
        }
    }

    /// Tells where work orders are asked for.
    pub fn orders_at(&mut self, address: SocketAddr) {
        if self.screen.json {
            let value =
                json!({ "event": "orders", "address": address.to_string(), "time": date::rfc3339(clock::wall_now()) });
            let written = self.screen.answer(&value);
            self.write(written);
        } else if self.words {
            let written = self.screen.say(&format!("work orders at http://{address}/orders"));
            self.write(written);
        }
    }

    fn write(&mut self, written: Result<(), Failure>) {
        self.failed = self.failed.take().or(written.err());
    }
}

/// What a signal to end sets.
///
/// # Errors
/// When the system does not let us notice signals.
pub fn stop_flag() -> Result<Arc<AtomicBool>, Failure> {
    signals::stop_flag().map_err(|e| Failure::new(Condition::Failed, format!("signals cannot be noticed: {e}")))
}

impl Listener for Daemon<'_> {
    fn told(&mut self, told: Told) {
        match &told {
            Told::NotNow { id, why } if self.held.len() < HELD_SHOWN_MAX => {
                self.held.insert(*id, why.clone());
            }
            Told::LogSound(size) => self.log = json!({ "verdict": "sound", "size": size }),
            Told::LogAlarm(why) => self.log = json!({ "verdict": "alarm", "reason": why }),
            Told::Receipted { id, .. } | Told::Stored { id, .. } => {
                self.held.remove(id);
            }
            _ => {}
        }
        if self.screen.json {
            let mut value = in_json(&told);
            value["time"] = date::rfc3339(clock::wall_now()).into();
            let written = self.screen.answer(&value);
            self.write(written);
        } else if self.words {
            let written = self.screen.say(&in_words(&told, self.screen));
            self.write(written);
        } else if matches!(
            told,
            Told::NotNow { .. }
                | Told::Denied { .. }
                | Told::Damaged(_)
                | Told::Unreadable { .. }
                | Told::NotNoted(_)
                | Told::NotPut(_)
                | Told::Nonsense(_)
                | Told::LogAlarm(_)
                | Told::Recovered
        ) {
            self.screen.warn(&in_words(&told, self.screen));
        }
    }

    fn status(&mut self, status: &Status) {
        // For people only; a full disk must not stop the link.
        let mut value = status_in_json(status);
        let (now, totals) = (Instant::now(), &status.totals);
        if let Some((at, sent, received)) = self.counted.replace((now, totals.len_sent, totals.len_received)) {
            let rate = |new: u64, old: u64| {
                (8.0 * new.saturating_sub(old) as f64 / now.duration_since(at).as_secs_f64().max(0.001)) as u64
            };
            value["measured"] =
                json!({ "up_bit_s": rate(totals.len_sent, sent), "down_bit_s": rate(totals.len_received, received) });
        }
        let in_json = |(id, why): (&ObjectId, &String)| json!({ "object": id.to_string(), "reason": why });
        value["held"] = self.held.iter().map(in_json).collect();
        value["stuck"] = self.stuck.iter().map(|(id, why)| in_json((id, why))).collect();
        value["log"] = self.log.clone();
        value["carrier"] = self.carrier.into();
        value["queue"] = self.queue.iter().map(waiting_in_json).collect();
        let _ = link_folder::write_status(&self.folder, &value.to_string());
    }

    fn queue(&mut self, queue: &[Waiting]) {
        self.queue = queue.to_vec();
    }

    fn stuck(&mut self, stuck: &[(ObjectId, String)]) {
        self.stuck = stuck.to_vec();
    }
}

fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Pack => "pack",
        ObjectKind::Manifest => "manifest",
        ObjectKind::DepositorCard => "depositor card",
        ObjectKind::Tags => "tags",
        ObjectKind::Release => "release",
        ObjectKind::Remnant => "remnant",
    }
}

fn line(line: Line) -> &'static str {
    match line {
        Line::Open => "open",
        Line::Silent => "silent",
        Line::Shut => "shut",
    }
}

fn in_words(told: &Told, screen: &Screen) -> String {
    match told {
        Told::Listening(address) => format!("listening at {address}; end it with Ctrl-C"),
        Told::Peer(address) => format!("the other end is at {address}"),
        Told::Line(Line::Open) => "the link is open".into(),
        Told::Line(Line::Silent) => screen.ink(Ink::Yellow, "nobody answers; what waits is sent once somebody does"),
        Told::Line(Line::Shut) => "no contact now, by the plan".into(),
        Told::Recovered => {
            "the other end came with other keys: with those of the recovery key, or with its own again".into()
        }
        Told::Waiting(n) => format!("{} to send", units::things(*n as u64, "object", "objects")),
        Told::Stored { kind: what, id, len } => {
            format!("stored    {} {} ({})", kind(*what), id.short(), units::bytes(*len))
        }
        Told::Held { id, why } => format!("held      {}: {why}", id.short()),
        Told::NotNow { id, why } => format!("the vault cannot store object {} now, and tries again: {why}", id.short()),
        Told::Denied { id, why } => format!("the vault does not take object {}: {why}", id.short()),
        Told::Receipted { kind: what, id, left } => {
            format!("{}  {} {}; {left} left", screen.ink(Ink::Green, "receipted"), kind(*what), id.short())
        }
        Told::Sent { id, one_in } => {
            let odds = units::count(*one_in);
            format!("sent      {}, not receipted; lost with a chance of at most 1 in {odds}", id.short())
        }
        Told::Damaged(id) => format!("object {} on this machine is damaged and is not sent", id.short()),
        Told::Unreadable { id, why } => {
            format!("object {} on this machine cannot be read and is not sent; it is tried again: {why}", id.short())
        }
        Told::NotPut(why) => format!("what comes for a command cannot be put down on this machine: {why}"),
        Told::NotNoted(why) => {
            format!("receipts cannot be noted, and what they are for stays on this machine until they can: {why}")
        }
        Told::LogSound(size) => {
            let entries = units::things(*size, "entry", "entries");
            format!("the vault's log goes on from what was known: {entries}")
        }
        Told::LogAlarm(why) => format!(
            "{} the vault cannot be believed, and nothing more is sent to it until a person has looked (`lavatube log`): {why}",
            screen.ink(Ink::Red, "ALARM:")
        ),
        Told::Mandate(text) => text.clone(),
        Told::Nonsense(what) => format!("the other end sent what makes no sense: {what}"),
    }
}

fn in_json(told: &Told) -> Value {
    match told {
        Told::Listening(address) => json!({ "event": "listening", "address": address.to_string() }),
        Told::Peer(address) => json!({ "event": "peer", "address": address.to_string() }),
        Told::Line(is) => json!({ "event": "line", "line": line(*is) }),
        Told::Recovered => json!({ "event": "recovered" }),
        Told::Waiting(n) => json!({ "event": "waiting", "objects": n }),
        Told::Stored { kind: what, id, len } => {
            json!({ "event": "stored", "kind": kind(*what), "object": id.to_string(), "bytes": len })
        }
        Told::Held { id, why } => json!({ "event": "held", "object": id.to_string(), "reason": why }),
        Told::NotNow { id, why } => json!({ "event": "not_now", "object": id.to_string(), "reason": why }),
        Told::Denied { id, why } => json!({ "event": "denied", "object": id.to_string(), "reason": why }),
        Told::Receipted { kind: what, id, left } => {
            json!({ "event": "receipted", "kind": kind(*what), "object": id.to_string(), "left": left })
        }
        Told::Sent { id, one_in } => json!({ "event": "sent", "object": id.to_string(), "lost_one_in": one_in }),
        Told::Damaged(id) => json!({ "event": "damaged", "object": id.to_string() }),
        Told::Unreadable { id, why } => json!({ "event": "unreadable", "object": id.to_string(), "reason": why }),
        Told::NotPut(why) => json!({ "event": "not_put", "reason": why }),
        Told::NotNoted(why) => json!({ "event": "not_noted", "reason": why }),
        Told::LogSound(size) => json!({ "event": "log", "verdict": "sound", "size": size }),
        Told::LogAlarm(why) => json!({ "event": "log", "verdict": "alarm", "reason": why }),
        Told::Mandate(text) => json!({ "event": "mandate", "text": text }),
        Told::Nonsense(what) => json!({ "event": "nonsense", "reason": what }),
    }
}

fn waiting_in_json(waiting: &Waiting) -> Value {
    let bill = waiting.waybill.as_ref();
    json!({
        "manifest": waiting.manifest.map(|id| id.to_string()),
        "snapshot": bill.map(|bill| &bill.snapshot),
        "taken_unix_s": bill.map(|bill| bill.taken_unix_s),
        "priority": bill.map_or(Priority::Normal, |bill| bill.priority),
        "objects": waiting.objects,
        "bytes": waiting.len,
        "there_unix_s": waiting.there_at.map(|at| at.0 / 1_000_000_000),
    })
}

/// What `lavatube link status` shows.
fn status_in_json(status: &Status) -> Value {
    let (queued, left): (u64, u64) = status.outgoing.iter().fold((0, 0), |(n, bytes), block| {
        let held = block.stage == Stage::Holding;
        let missing = if held { 0 } else { u64::from(block.missing).min(block.symbols) };
        (n + 1, bytes + block.len * missing / block.symbols.max(1))
    });
    let totals = &status.totals;
    let blocks = status.outgoing.iter().take(BLOCKS_SHOWN_MAX);
    let blocks = blocks.map(|b| {
        json!({
            "bytes": b.len,
            "priority": b.priority,
            "symbols": b.symbols,
            "missing": b.missing,
            "sent": b.sent,
            "held": b.stage == Stage::Holding,
        })
    });
    let unix_s = |at: lavatube_base::Instant| at.0 / 1_000_000_000;
    let contact = |c: Contact| {
        json!({
            "rate_up_bit_s": c.rate_up_bit_s,
            "rate_down_bit_s": c.rate_down_bit_s,
            "start_unix_s": unix_s(c.start),
            "end_unix_s": (c.end.0 < u64::MAX / 2).then_some(unix_s(c.end)),
            "budget_bytes": c.budget,
        })
    };
    json!({
        "line": line(status.line),
        "contact": status.contact.map(contact),
        "next_contact": status.next_contact.map(contact),
        "contact_bytes_sent": status.contact_len_sent,
        "loss": status.loss,
        "light_s": status.light.map(|light| light.as_secs_f64()),
        "outgoing": { "blocks": queued, "bytes_missing": left, "first": blocks.collect::<Vec<_>>() },
        "incoming": { "blocks": status.incoming.len() },
        "datagrams": {
            "sent": totals.datagrams_sent,
            "received": totals.datagrams_received,
            "refused": totals.foreign + totals.forged + totals.replayed,
        },
        "symbols": { "sent": totals.symbols_sent, "resent": totals.symbols_resent, "received": totals.symbols_received },
    })
}

/// Blocks on their way that are shown one by one.
const BLOCKS_SHOWN_MAX: usize = 20;
/// Objects that the vault cannot store now, of which one is told why.
const HELD_SHOWN_MAX: usize = 20;
