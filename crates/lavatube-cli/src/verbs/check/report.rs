//! What `check` found, in words and as JSON. Must not know how it was found.

use std::collections::BTreeMap;

use lavatube_base::ChunkId;
use lavatube_client::check::{ChainFault, Damage, Structure};
use lavatube_vault::{DriveState, DriveStatus, MendError, ObjectKind, ShardHealth, ShardState};
use serde_json::json;

use super::{Found, Unsound, holds_files_together};
use crate::archive::lost_in_words;
use crate::errors::{End, Failure};
use crate::roots::with_path;
use crate::screen::{Ink, Screen};
use crate::units::{self, things};
use crate::verbs::log;
use crate::verbs::ls::lost_to_json;
use crate::verbs::status::drive_state;

impl Found {
    /// Says it on the screen.
    pub(super) fn show(&self, screen: &Screen) -> Result<(), Failure> {
        let mut lines = Vec::new();
        if !self.far {
            self.drives(&mut lines);
            self.shards(&mut lines);
        }
        lines.extend(self.log.iter().map(|log| log::in_words(log, HEAD, screen)));
        if let Some(standing) = &self.standing {
            lines.extend(log::standing_in_words(standing, screen));
        }
        self.repair(&mut lines);
        self.waiting(&mut lines);
        self.structure(&mut lines);
        self.data(&mut lines);
        let end = self.end();
        for line in lines {
            // What is wrong is said even when quiet.
            if end == End::Done { screen.tell(&line)? } else { screen.say(&line)? }
        }
        touched(&self.damage, screen)?;
        let verdict = match (end, &self.repaired) {
            (End::Alarm, _) => {
                screen.ink(Ink::Red, "The vault is not what it was.")
                    + " Keep all drives and copies; nothing is backed up to it until a person has looked (`lavatube log`)."
            }
            (End::Done, _) if self.far => {
                screen.ink(Ink::Green, "Nothing is missing")
                    + " in the vault's own list. `lavatube check` at its machine looks at its drives."
            }
            (End::Done, _) if self.structure.is_none() => {
                screen.ink(Ink::Green, "The vault is whole.") + " Without the read key nothing more can be told."
            }
            (End::Done, _) if self.data.is_some() => {
                screen.ink(Ink::Green, "Nothing is wrong") + " with what was read."
            }
            (End::Done, _) => screen.ink(Ink::Green, "Nothing is wrong.") + " --read-data looks at every byte.",
            (End::Lost, _) => self.loss(screen),
            _ if self.is_sound_but_for_chains() => {
                screen.ink(Ink::Yellow, "No file that the vault has is lost.")
                    + " The chain of manifests is not as it should be."
            }
            (_, Some(_)) if self.is_mended() => screen.ink(Ink::Green, "All damage is mended."),
            (_, Some(_)) => {
                screen.ink(Ink::Yellow, "Damage is left that could not be mended now.") + " No file is lost."
            }
            (_, None) => {
                let what = screen.ink(Ink::Yellow, "Damage was found; no file is lost.");
                format!("{what} Mount drives that only seem empty, then `lavatube check --repair`.")
            }
        };
        if end == End::Done { screen.tell(&verdict) } else { screen.say(&verdict) }
    }

    /// What more than parity can mend means now, and what can be said of the rest.
    fn loss(&self, screen: &Screen) -> String {
        let gone = |s: &DriveState| matches!(s, DriveState::Missing | DriveState::Blank);
        let drives: Vec<_> =
            self.drives.iter().filter(|d| gone(&d.state)).map(|d| units::name(d.label.as_bytes())).collect();
        let mut text = match drives.is_empty() {
            true => screen.ink(Ink::Red, "Data are lost."),
            false => {
                let head = screen.ink(Ink::Red, "Data cannot be read with the drives that are here.");
                format!("{head} Bring {} back, if you can.", drives.join(", "))
            }
        };
        let told =
            self.structure.as_ref().is_some_and(|s| s.refused.is_empty() && !s.chain.iter().any(ChainFault::is_loss))
                && (self.looked || self.lost_packs.is_empty());
        let all = self.data.is_some() && self.share().is_some_and(|share| share >= 1.0);
        let packs_only = self.unsound.iter().all(|u| u.health.restorable || !holds_files_together(u.kind));
        text.push_str(match told {
            true if self.damage.is_none() && packs_only => " No file of any snapshot needs what is gone.",
            true if all => " Everything that is not named here can be restored.",
            true => " As far as was looked, that is all; --read-data looks at every byte.",
            false => " Which files that touches cannot be told now.",
        });
        text
    }

    /// Whether nothing is wrong but what no mending helps: how manifests follow each other.
    fn is_sound_but_for_chains(&self) -> bool {
        let chains = |s: &Structure| !s.chain.is_empty() && s.refused.is_empty() && s.bad.is_empty();
        self.structure.as_ref().is_some_and(chains)
            && self.unsound.is_empty()
            && self.worn.is_empty()
            && self.drives.iter().all(DriveStatus::is_well)
            && self.data.as_ref().is_none_or(|d| d.bad.is_empty())
    }

    pub(super) fn is_mended(&self) -> bool {
        self.repaired.as_ref().is_some_and(|r| {
            r.beyond.is_empty() && r.not_readopted.is_empty() && r.mended.iter().all(|(_, m)| m.left.is_empty())
        }) && self.structure.as_ref().is_none_or(Structure::is_sound)
            && self.data.as_ref().is_none_or(|d| d.bad.is_empty())
    }

    fn drives(&self, lines: &mut Vec<String>) {
        let there = self.drives.iter().filter(|d| d.state == DriveState::Present).count() - self.worn.len();
        lines.push(format!("drives     {there} of {} as they should be", self.drives.len()));
        for drive in self.drives.iter().filter(|d| !d.is_well()) {
            let (word, why) = drive_state(drive);
            lines.push(format!("  {}  {word}: {why}", units::name(drive.label.as_bytes())));
        }
        for (label, why) in &self.worn {
            let mended = if self.repaired.is_some() { " (written anew)" } else { "" };
            lines.push(format!("  {}  worn: {why}{mended}", units::name(label.as_bytes())));
        }
    }

    fn shards(&self, lines: &mut Vec<String>) {
        let depth = match self.share() {
            None => "heads looked at".to_owned(),
            Some(share) if share < 1.0 => format!("heads looked at, {:.1} % read wholly", share * 100.0),
            Some(_) => "every byte read".to_owned(),
        };
        let objects = things(self.objects, "object", "objects");
        if self.unsound.is_empty() {
            lines.push(format!("shards     {objects}, {depth}: all whole"));
            return;
        }
        lines.push(format!("shards     {objects}, {depth}: {} not whole", units::count(self.unsound.len() as u64)));
        for (label, harm) in per_drive(&self.unsound) {
            lines.push(format!("  {}  {}", units::name(label.as_bytes()), harm.in_words()));
        }
        let mut lost: Vec<_> = self.unsound.iter().filter(|u| !u.health.restorable).collect();
        lost.sort_by_key(|u| (kind(u.kind), u.id));
        if self.repaired.is_none() {
            let more = lost.len().saturating_sub(SHOWN_MAX);
            for unsound in lost.into_iter().take(SHOWN_MAX) {
                let bytes: u64 = unsound.health.lost.iter().map(|r| r.end - r.start).sum();
                let (kind, id) = (kind(unsound.kind), unsound.id.short());
                lines.push(format!("  {kind} {id}: {} are lost beyond parity", units::bytes(bytes)));
            }
            if more > 0 {
                lines.push(format!("  and {}", things(more as u64, "more object", "more objects")));
            }
        }
    }

    fn repair(&self, lines: &mut Vec<String>) {
        let Some(repaired) = &self.repaired else { return };
        let written: usize = repaired.mended.iter().map(|(_, m)| m.mended.len()).sum();
        let left: usize = repaired.mended.iter().map(|(_, m)| m.left.len()).sum();
        let objects = things(repaired.mended.len() as u64, "object", "objects");
        lines.push(format!("repair     {objects} mended, {} written", things(written as u64, "shard", "shards")));
        if repaired.placed > 0 {
            let entries = things(repaired.placed as u64, "entry", "entries");
            lines.push(format!("  {entries} of the log told their place in it to their shards"));
        }
        if !repaired.readopted.is_empty() {
            lines.push(format!("  taken in again: {}", repaired.readopted.join(", ")));
        }
        for (label, tried) in &repaired.tried {
            let text = if tried.admitted { "read wholly, and trusted again" } else { "still in quarantine" };
            lines.push(format!("  {label}: {text}"));
        }
        for (label, why) in &repaired.not_readopted {
            lines.push(format!("  {label} could not be taken in again: {why}"));
        }
        if left > 0 {
            lines.push(format!("  {} without a drive to write to", things(left as u64, "shard is", "shards are")));
        }
        for (id, e) in &repaired.beyond {
            let what = match e {
                MendError::Read(_) => "is beyond mending",
                MendError::Store(_) => "could not be mended now",
            };
            lines.push(format!("  object {} {what}: {e}", id.short()));
        }
    }

    fn waiting(&self, lines: &mut Vec<String>) {
        if self.drained > 0 {
            let objects = things(self.drained as u64, "object", "objects");
            lines.push(format!("waiting    {objects} waited on this machine and went to the vault"));
        }
        if self.waiting > 0 {
            let objects = things(self.waiting as u64, "object", "objects");
            lines.push(format!("waiting    {objects}, safe here only: not in the vault yet"));
        }
    }

    fn structure(&self, lines: &mut Vec<String>) {
        let Some(structure) = &self.structure else {
            lines.push("structure  not checked: the read key is not on this machine (--read-key FILE)".into());
            return;
        };
        let lost = self.lost_packs.len() as u64;
        let verdict = match (structure.is_sound(), lost) {
            (true, 0) => "sound".to_owned(),
            (true, n) => format!("sound but for {}", things(n, "lost pack", "lost packs")),
            (false, _) => "not sound".to_owned(),
        };
        lines.push(format!(
            "structure  {}, {}, {}: {verdict}",
            things(structure.snapshots, "snapshot", "snapshots"),
            things(structure.packs, "pack", "packs"),
            things(structure.manifests, "manifest", "manifests"),
        ));
        for refused in &structure.refused {
            lines.push(format!("  manifest {} is not believed: {}", refused.id.short(), refused.reason));
        }
        for fault in &structure.chain {
            lines.push(format!("  {fault}"));
        }
        for reason in structure.bad.packs.values() {
            lines.push(format!("  {reason}"));
        }
    }

    fn data(&self, lines: &mut Vec<String>) {
        let Some(data) = &self.data else { return };
        let verdict = match data.damaged {
            0 => "all exact".to_owned(),
            n => format!("{} damaged", things(n, "pack", "packs")),
        };
        let packs = things(data.packs, "pack", "packs");
        let chunks = things(data.chunks, "chunk", "chunks");
        lines.push(format!("data       {packs} opened, {chunks} derived again: {verdict}"));
    }

    /// The same as JSON.
    pub(super) fn answer(&self) -> serde_json::Value {
        let worn = |label: &str| self.worn.iter().find(|(l, _)| l == label).map(|(_, why)| *why);
        let drives =
            self.drives.iter().map(|d| json!({ "label": d.label, "state": drive_state(d).0, "worn": worn(&d.label) }));
        let depth = match self.share() {
            None => "headers",
            Some(share) if share < 1.0 => "share",
            Some(_) => "all",
        };
        let repair = self.repaired.as_ref().map(|r| {
            json!({
                "readopted": r.readopted,
                "admitted": r.tried.iter().filter(|(_, t)| t.admitted).map(|(d, _)| d).collect::<Vec<_>>(),
                "not_readopted": r.not_readopted.iter().map(|(d, why)| json!({ "drive": d, "reason": why })).collect::<Vec<_>>(),
                "mended": r.mended.len(),
                "placed": r.placed,
                "shards_written": r.mended.iter().map(|(_, m)| m.mended.len()).sum::<usize>(),
                "shards_left": r.mended.iter().map(|(_, m)| m.left.len()).sum::<usize>(),
                "beyond": r.beyond.iter().map(|(id, e)| json!({ "object": id.to_string(), "reason": e.to_string() })).collect::<Vec<_>>(),
            })
        });
        let structure = self.structure.as_ref().map(|s| {
            json!({
                "manifests": s.manifests,
                "packs": s.packs,
                "snapshots": s.snapshots,
                "refused": s.refused.iter().map(|r| json!({ "manifest": r.id.to_string(), "reason": r.reason })).collect::<Vec<_>>(),
                "chain": s.chain.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        });
        let data = self
            .data
            .as_ref()
            .map(|d| json!({ "share": self.share(), "packs": d.packs, "chunks": d.chunks, "damaged": d.damaged }));
        let [files, lost, unreadable] = touched_to_json(&self.damage);
        json!({
            "drives": drives.collect::<Vec<_>>(),
            "objects": self.objects,
            "depth": depth,
            "not_whole": self.unsound.iter().map(unsound_to_json).collect::<Vec<_>>(),
            "repair": repair,
            "drained": self.drained,
            "waiting": self.waiting,
            "structure": structure,
            "data": data,
            "files": files,
            "lost": lost,
            "unreadable": unreadable,
            "log_alarm": self.standing.as_ref().map(log::standing_to_json),
            "log": self.log.as_ref().map(log::to_json),
            "exit": self.end().status(),
        })
    }
}

/// What damage touches: files, parts of trees, whole snapshots.
pub fn touched(damage: &Damage, screen: &Screen) -> Result<(), Failure> {
    let mut by_snapshot: BTreeMap<ChunkId, Vec<String>> = BTreeMap::new();
    for file in &damage.files {
        let line = format!("    {}: {}", units::tree_path(&file.path), file.reason);
        by_snapshot.entry(file.snapshot).or_default().push(line);
    }
    for (snapshot, range) in &damage.lost {
        by_snapshot.entry(*snapshot).or_default().push(format!("    {}", lost_in_words(range)));
    }
    for (snapshot, why) in &damage.unreadable {
        by_snapshot.entry(*snapshot).or_default().push(format!("    all of it: {why}"));
    }
    if by_snapshot.is_empty() {
        return Ok(());
    }
    let files = match damage.files.len() as u64 {
        0 => "parts".to_owned(),
        n => things(n, "file", "files"),
    };
    let snapshots = things(by_snapshot.len() as u64, "snapshot", "snapshots");
    screen.say(&screen.ink(Ink::Red, &format!("lost       {files} of {snapshots}")))?;
    for (snapshot, lines) in by_snapshot {
        screen.say(&format!("  snapshot {}", snapshot.short()))?;
        for line in lines {
            screen.say(&line)?;
        }
    }
    Ok(())
}

/// The same as JSON: files, parts of trees, snapshots.
pub fn touched_to_json(damage: &Damage) -> [serde_json::Value; 3] {
    let files = damage.files.iter();
    let files = files.map(|f| with_path(&f.path, json!({ "snapshot": f.snapshot.to_string(), "reason": f.reason })));
    let lost = damage.lost.iter().map(|(snapshot, range)| {
        let mut value = lost_to_json(range);
        value["snapshot"] = snapshot.to_string().into();
        value
    });
    let unreadable = damage.unreadable.iter();
    let unreadable = unreadable.map(|(id, why)| json!({ "snapshot": id.to_string(), "reason": why }));
    [files.collect(), lost.collect(), unreadable.collect()]
}

fn unsound_to_json(unsound: &Unsound) -> serde_json::Value {
    let bad = unsound.health.shards.iter().filter(|s| s.state != ShardState::Good);
    json!({
        "object": unsound.id.to_string(),
        "kind": kind(unsound.kind),
        "restorable": unsound.health.restorable,
        "survives": unsound.health.losses_survivable,
        "shards": bad.map(shard_to_json).collect::<Vec<_>>(),
    })
}

/// A shard that is not as it should be, as JSON.
pub fn shard_to_json(s: &ShardHealth) -> serde_json::Value {
    let blocks: &[u32] = if let ShardState::Damaged { blocks, .. } = &s.state { blocks } else { &[] };
    json!({ "shard": s.shard, "drive": s.label, "state": word(&s.state), "blocks": blocks })
}

/// What an object is, in a word.
pub fn kind(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Pack => "pack",
        ObjectKind::Manifest => "manifest",
        ObjectKind::DepositorCard => "depositor-card",
        ObjectKind::Tags => "tags",
        ObjectKind::Release => "release",
        ObjectKind::Remnant => "remnant",
    }
}

fn word(state: &ShardState) -> &'static str {
    match state {
        ShardState::Good => "good",
        ShardState::NotStored => "not-stored",
        ShardState::Missing => "missing",
        ShardState::Unreadable(_) => "unreadable",
        ShardState::HeadersLost => "headers-lost",
        ShardState::OtherStripe => "other-stripe",
        ShardState::Damaged { .. } => "damaged",
    }
}

/// What is wrong on one drive.
#[derive(Default)]
struct Harm {
    words: BTreeMap<&'static str, u64>,
    blocks: u64,
    headers: u64,
}

impl Harm {
    fn in_words(&self) -> String {
        let mut parts = Vec::new();
        for (word, n) in &self.words {
            let shards = things(*n, "shard", "shards");
            let what = match *word {
                "missing" => format!("{shards} missing"),
                "not-stored" => format!("{shards} never written"),
                "unreadable" => format!("{shards} unreadable"),
                "headers-lost" => format!("{shards} overwritten beyond recognition"),
                "other-stripe" => format!("{shards} in the wrong place"),
                _ => {
                    let mut text = format!("{shards} damaged");
                    if self.blocks > 0 {
                        text.push_str(&format!(", {} of 16 KiB", things(self.blocks, "block", "blocks")));
                    }
                    if self.headers > 0 {
                        text.push_str(&format!(", {} of a header", things(self.headers, "copy", "copies")));
                    }
                    text
                }
            };
            parts.push(what);
        }
        parts.join("; ")
    }
}

fn per_drive(unsound: &[Unsound]) -> BTreeMap<String, Harm> {
    let mut drives: BTreeMap<String, Harm> = BTreeMap::new();
    for shard in unsound.iter().flat_map(|u| &u.health.shards).filter(|s| s.state != ShardState::Good) {
        let label = if shard.label.is_empty() { "(no drive)" } else { &shard.label };
        let harm = drives.entry(label.to_owned()).or_default();
        *harm.words.entry(word(&shard.state)).or_default() += 1;
        if let ShardState::Damaged { header_copies, blocks } = &shard.state {
            harm.blocks += blocks.len() as u64;
            harm.headers += u64::from(*header_copies);
        }
    }
    drives
}

/// Columns of the heads of lines.
const HEAD: usize = 11;
/// Lost objects listed on the screen; the files they touch are all listed, and JSON has all objects.
const SHOWN_MAX: usize = 10;
