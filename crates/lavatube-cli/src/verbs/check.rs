//! `lavatube check`: looks for damage, says which files it touches, and mends what parity allows.
//!
//! Four looks, each deeper: the drives, the shards on them, the structure of what was backed up, the data themselves.
//! Step 18 of the walk from the terminal. Must not know how damage is found.

pub mod report;

use std::collections::BTreeSet;

use lavatube_base::ObjectId;
use lavatube_client::check::{ChainFault, Damage, Structure, Turn};
use lavatube_client::log::{Standing, Verdict as LogVerdict};
use lavatube_client::meter::Meter;
use lavatube_format::check_record::{CheckRecord, Verdict, WHOLE_SHARE};
use lavatube_node::clock;
use lavatube_node::embedded::EmbeddedVault;
use lavatube_node::holding::Holding;
use lavatube_node::link_folder;
use lavatube_node::reader::{self, DataRead, Reader, Side};
use lavatube_node::repairing::{self, Repaired};
use lavatube_node::vault_log;
use lavatube_vault::{Depth, DriveState, DriveStatus, Health, MendError, ObjectKind, ShardHealth, ShardState};

use crate::archive::{self, ReadArgs};
use crate::errors::{Condition, End, Failure};
use crate::progress;
use crate::screen::Screen;
use crate::settings::Settings;
use crate::verbs::status::worn;

pub use report::{kind, shard_to_json};

/// Look for damage, prove that files can be restored, and mend.
///
/// Looks at every drive and at the head of every shard; with the read key also at every snapshot, folder and reference.
/// With --read-data it reads every byte, opens every pack and derives every chunk's name again: what passes can be
/// restored. Damage is named down to drive and file. Without the read key only the vault's part is checked.
///
/// Exit status: 0 nothing is wrong; 4 damage was found, or the chain of manifests has several ends, and every file can
/// still be restored; 5 files are lost, and named, or the vault lacks manifests it has had; 14 the vault's log is not what it was (`lavatube log`).
///
/// JSON fields: drives [{label, state, worn}], objects, depth (headers, share or all), not_whole [{object, kind, restorable,
/// survives, shards [{shard, drive, state, blocks}]}], repair {readopted, admitted (drives that left quarantine), not_readopted [{drive, reason}], mended, placed,
/// shards_written, shards_left, beyond [{object, reason}]}, drained, waiting, structure {manifests, packs, snapshots, refused, chain}, data
/// {share, packs, chunks, damaged}, files [{snapshot, path, reason}], lost [{snapshot, from, until, reason}], unreadable
/// [{snapshot, reason}], log and log_alarm as of `lavatube status`, exit. The bytes of a path that is no UTF-8 are in path_hex (from_hex, until_hex).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Read the data: all of them, or a share (5%): the next one each time, until all were read
    #[arg(long, value_name = "SHARE", num_args = 0..=1, require_equals = true, default_missing_value = "100%",
          value_parser = share)]
    read_data: Option<f64>,
    /// Mend what parity allows: damaged and missing shards are written again, empty drives are taken in again
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    read_key: ReadArgs,
}

const EXAMPLES: &str = "Examples:
  lavatube check                     quick: drives, shards' heads, snapshots
  lavatube check --read-data=5%      every day a part, in 20 days all of it
  lavatube check --read-data --repair
  lavatube check --json | jq '.files[].path'";

/// An object that is not whole.
struct Unsound {
    id: ObjectId,
    kind: ObjectKind,
    health: Health,
}

/// What was found and done.
#[derive(Default)]
struct Found {
    /// The vault is at the other end of a link: of its drives nothing is known here.
    far: bool,
    drives: Vec<DriveStatus>,
    /// What is wrong with the small files of drives that are there, by label.
    worn: Vec<(String, &'static str)>,
    objects: u64,
    /// What was to be read, and what share of all that is.
    read: Option<(Turn, f64)>,
    /// Bytes of the objects that were read.
    bytes: u64,
    unsound: Vec<Unsound>,
    repaired: Option<Repaired>,
    /// Objects that waited here and are in the vault now.
    drained: usize,
    /// Objects that still wait here.
    waiting: usize,
    /// `None` without the read key.
    structure: Option<Structure>,
    data: Option<DataRead>,
    /// Packs that are lost in part.
    lost_packs: BTreeSet<ObjectId>,
    /// How the vault's log is; `None` of a far vault.
    log: Option<LogVerdict>,
    /// An alarm that stands.
    standing: Option<Standing>,
    /// Which files they touch was looked for.
    looked: bool,
    damage: Damage,
}

/// The vault, with the read key or without.
enum Opened {
    Reader(Box<Reader>),
    Keyless(Box<Holding>),
}

impl Opened {
    fn new(args: &CheckArgs, settings: &Settings) -> Result<Self, Failure> {
        let command = "lavatube check";
        if link_folder::is_far(&settings.places.vault) && (args.repair || args.read_data.is_some()) {
            let what = "a far vault is neither mended nor read through over a link: that would carry all of it";
            return Err(Failure::new(Condition::Usage, what)
                .hint("at the vault's own machine `lavatube check` does both; here it compares what the vault lists"));
        }
        // What was known before says nothing about what is there now.
        let read_key = ReadArgs { refresh: true, ..args.read_key.clone() };
        match archive::open(settings, &read_key, command, args.repair) {
            Err(e)
                if e.condition == Condition::NoKey
                    && args.read_key.read_key.is_none()
                    && !link_folder::is_far(&settings.places.vault) =>
            {
                let holding = Holding::open(&settings.places, command, args.repair, settings.lock_wait)?;
                Ok(Self::Keyless(Box::new(holding)))
            }
            other => Ok(Self::Reader(Box::new(other?))),
        }
    }

    /// The vault, unless it is far.
    fn holding(&self) -> Option<&Holding> {
        match self {
            Self::Reader(reader) => match &reader.side {
                Side::Here(holding) => Some(holding),
                Side::Far(_) => None,
            },
            Self::Keyless(holding) => Some(holding),
        }
    }
}

/// Checks.
///
/// # Errors
/// When the check could not be done; what it finds is no error.
pub fn run(args: &CheckArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let opened = Opened::new(args, settings)?;
    let Some(holding) = opened.holding() else { return check_far(&opened, settings, screen) };
    let vault = &holding.vault;
    let status = vault.read().status();
    // Before anything is mended or handed over.
    let log = if args.repair { holding.meet_log()? } else { holding.look_at_log()? };
    let read = args.read_data.map(|share| holding.next_turn(share));
    let turn = read.map(|(turn, _)| turn);
    let (unsound, bytes) = examine(vault, turn, screen);
    let repaired = if args.repair {
        let meter = Meter::default();
        let repair = || repairing::repair(&settings.places.vault, vault, Depth::Bytes, &meter, &|| true);
        Some(progress::during(screen, "mending", &meter, repair)?)
    } else {
        None
    };
    let drained = if args.repair { drain(holding, screen) } else { 0 };
    let mut found = Found {
        drives: status.drives,
        worn: worn(vault.report()),
        objects: status.objects,
        read,
        bytes,
        unsound,
        repaired,
        drained,
        waiting: archive::waiting(settings)?,
        log: Some(log),
        standing: vault_log::standing(&settings.places)?,
        ..Found::default()
    };
    if let Opened::Reader(reader) = &opened {
        look_inside(reader, &mut found, settings, screen)?;
    }
    // What was found is told, whatever becomes of the note.
    if let Err(e) = holding.keep_check(&found.record(), turn) {
        screen.warn(&format!("that this check was done could not be noted: {e}"));
    }
    if let Err(e) = holding.keep_losses(found.lost_objects()) {
        screen.warn(&format!("what is lost could not be noted, and the next backup may build on it: {e}"));
    }
    found.show(screen)?;
    screen.answer(&found.answer())?;
    Ok(found.end())
}

/// Compares what a far vault lists with what its manifests name, and reads all trees.
fn check_far(opened: &Opened, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let Opened::Reader(reader) = opened else { return Ok(End::Done) };
    let mut found = Found { far: true, waiting: archive::waiting(settings)?, ..Found::default() };
    look_inside(reader, &mut found, settings, screen)?;
    // It was asked for while the rest was.
    found.standing = vault_log::standing(&settings.places)?;
    if let Some(Err(e)) = reader.side.far().map(|far| far.keep_check(&found.record())) {
        screen.warn(&format!("that this check was done could not be noted: {e}"));
    }
    found.show(screen)?;
    screen.answer(&found.answer())?;
    Ok(found.end())
}

/// Whether the loss of an object is more than the loss of what is in it.
fn holds_files_together(kind: ObjectKind) -> bool {
    !matches!(kind, ObjectKind::Pack | ObjectKind::Remnant | ObjectKind::Tags)
}

/// Hands over what waits here, now that the drives are as good as they can be made.
fn drain(holding: &Holding, screen: &Screen) -> usize {
    match holding.drain() {
        Ok(drained) => drained.delivered,
        Err(e) => {
            screen.warn(&format!("what waits on this machine could not be handed over: {e}"));
            0
        }
    }
}

/// Looks at all shards' heads, and at every byte of the objects of a turn. Gives the objects that are not
/// whole, and the bytes of those that were read.
fn examine(vault: &EmbeddedVault, turn: Option<Turn>, screen: &Screen) -> (Vec<Unsound>, u64) {
    let meter = Meter::default();
    let mut unsound = Vec::new();
    let depth = if turn == Some(Turn::All) { Depth::Bytes } else { Depth::Headers };
    let title = if depth == Depth::Bytes { "reading shards" } else { "looking at shards" };
    progress::during(screen, title, &meter, || {
        reader::examine(vault, depth, &meter, |id, kind, health| unsound.push(Unsound { id, kind, health }));
    });
    let read = if depth == Depth::Bytes { meter.bytes.now() } else { 0 };
    let Some(turn) = turn.filter(|turn| *turn != Turn::All) else { return (unsound, read) };
    let meter = Meter::default();
    progress::during(screen, "reading a share of the shards", &meter, || {
        let vault = vault.read();
        for object in vault.objects().filter(|o| turn.has(o.id)) {
            meter.bytes.add(object.len);
            meter.files.add(1);
            let Ok(health) = vault.examine(object.id, Depth::Bytes) else { continue };
            unsound.retain(|u| u.id != object.id);
            if !health.is_whole() {
                unsound.push(Unsound { id: object.id, kind: object.kind, health });
            }
        }
    });
    (unsound, meter.bytes.now())
}

/// The part of the check that needs the read key.
fn look_inside(reader: &Reader, found: &mut Found, settings: &Settings, screen: &Screen) -> Result<(), Failure> {
    let session = archive::session(reader, screen)?;
    let meter = Meter::default();
    let structure = archive::reading(reader, screen, "reading snapshots", &meter, || {
        session.check_structure(&meter).map_err(Failure::from)
    })?;
    let mut bad = structure.bad.clone();
    if let Some((turn, _)) = found.read {
        let meter = Meter::default();
        let read = || session.check_data(turn, settings.workers(), &meter).map_err(Failure::from);
        let data = progress::during(screen, "opening packs", &meter, read)?;
        bad.chunks.extend(data.bad.chunks.clone());
        bad.packs.extend(data.bad.packs.clone());
        found.data = Some(data);
    }
    if let Side::Here(holding) = &reader.side {
        found.lost_packs = found.packs_beyond(&holding.vault);
    }
    // While drives are away that may be all packs, and to look is to read them: for those who want data read.
    found.looked = found.read.is_some() || found.drives.iter().all(DriveStatus::is_well);
    if found.looked {
        let suspects = found.lost_packs.iter().map(|id| (*id, format!("pack {} is lost in part", id.short())));
        bad.packs.extend(suspects);
    }
    let meter = Meter::default();
    found.damage = archive::reading(reader, screen, "looking for files that are touched", &meter, || {
        session.damage(&bad).map_err(Failure::from)
    })?;
    for (id, e) in &structure.unreadable {
        if !found.damage.unreadable.iter().any(|(known, _)| known == id) {
            found.damage.unreadable.push((*id, e.to_string()));
        }
    }
    found.structure = Some(structure);
    Ok(())
}

impl Found {
    /// What is remembered of it.
    fn record(&self) -> CheckRecord {
        let verdict = match self.end_of_data() {
            End::Done | End::Partly => Verdict::Sound,
            End::Damaged if self.is_mended() => Verdict::Mended,
            End::Damaged => Verdict::Damaged,
            End::Lost | End::Alarm => Verdict::Lost,
        };
        CheckRecord {
            time: clock::wall_now(),
            verdict,
            snapshots: self.structure.as_ref().map(|s| s.snapshots),
            // A share is above nothing, however small.
            share: self.share().map_or(0, |s| ((s * f64::from(WHOLE_SHARE)) as u32).max(1)),
            bytes: self.bytes,
            packs: self.data.as_ref().map_or(0, |d| d.packs),
            unsound: self.unsound.len() as u64,
            files: self.damage.files.len() as u64,
        }
    }

    /// Objects that are lost on drives that are there: no drive that comes back brings them.
    fn lost_objects(&self) -> impl Iterator<Item = ObjectId> + '_ {
        let is_here = |slot: usize| {
            self.drives.get(slot).is_some_and(|d| matches!(d.state, DriveState::Present | DriveState::Quarantined(_)))
        };
        let may_come_back =
            move |s: &ShardHealth| s.state == ShardState::Good || s.slot.is_some_and(|slot| !is_here(slot));
        let lost = self.unsound.iter().filter(move |u| {
            !u.health.restorable && u.health.shards.iter().filter(|s| may_come_back(s)).count() < u.health.data
        });
        lost.map(|u| u.id)
    }

    /// The share of all bytes that was read.
    fn share(&self) -> Option<f64> {
        self.read.map(|(_, share)| share)
    }

    /// Objects of which more is lost than parity can mend.
    fn beyond(&self) -> BTreeSet<ObjectId> {
        match &self.repaired {
            // What can be read is not lost, even when there are too few drives to mend it on.
            Some(repaired) => {
                let lost = repaired.beyond.iter().filter(|(_, e)| matches!(e, MendError::Read(_)));
                lost.map(|(id, _)| *id).collect()
            }
            None => self.unsound.iter().filter(|u| !u.health.restorable).map(|u| u.id).collect(),
        }
    }

    /// Those of them that are packs, or their tags, which no file needs.
    fn packs_beyond(&self, vault: &EmbeddedVault) -> BTreeSet<ObjectId> {
        let beyond = self.beyond();
        let vault = vault.read();
        let packs = vault.objects().filter(|o| !holds_files_together(o.kind) && beyond.contains(&o.id));
        packs.flat_map(|o| [o.id, vault.pack_of(o.id)]).collect()
    }

    fn end(&self) -> End {
        match self.log {
            Some(LogVerdict::Alarm(_)) => End::Alarm,
            _ if self.standing.is_some() => End::Alarm,
            _ => self.end_of_data(),
        }
    }

    /// How it ended but for the log.
    fn end_of_data(&self) -> End {
        let drives = self.drives.iter().any(|d| !d.is_well()) || !self.worn.is_empty();
        // A pack that is lost costs what files need of it and no other pack has: that was looked for, or may be anything.
        let beyond = self.beyond().iter().any(|id| !self.looked || !self.lost_packs.contains(id));
        let structure = self.structure.as_ref();
        // A manifest that cannot be read or believed takes all of its session along, whichever files that has. What is bad
        // of the structure was looked for: it is among the damage, unless another pack has it.
        let unknown = structure.is_some_and(|s| !s.refused.is_empty() || s.chain.iter().any(ChainFault::is_loss));
        let data = self.data.as_ref().is_some_and(|d| !d.bad.is_empty());
        if beyond || unknown || !self.damage.is_none() {
            End::Lost
        } else if drives || data || !self.unsound.is_empty() || structure.is_some_and(|s| !s.is_sound()) {
            End::Damaged
        } else {
            End::Done
        }
    }
}

/// Reads `5%` as 0.05.
fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    match number {
        Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err("a share is a number of percent: 5%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percent() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("100%"), Ok(1.0));
        assert_eq!(share("0.5"), Ok(0.005));
        for bad in ["0", "-1%", "101%", "x", "NaN", ""] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
