//! Which orders there are: what is wrong with drives that hands could mend, and where drives are too few. Must not know worth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lavatube_base::digest::h16;
use lavatube_vault::{Distrust, DriveState, DriveStatus, Status};

use super::book::Book;
use crate::drive_care;
use crate::embedded::{self, EmbeddedVault, VaultError};

/// What hands are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Look at a whole shelf: its power, its cables.
    Shelf,
    /// Pull a drive out and push it in again, or mount it.
    Reseat,
    /// Put an empty drive in a drive's place.
    Replace,
    /// Put in further drives.
    Add,
}

impl Task {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Shelf => "shelf",
            Self::Reseat => "reseat",
            Self::Replace => "replace",
            Self::Add => "add",
        }
    }
}

/// Something that hands could do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its name, the same as long as there is a reason for it.
    pub id: String,
    /// What it is.
    pub task: Task,
    /// The slots of the drives it is about; none of [`Task::Add`].
    pub slots: Vec<usize>,
    /// How many drives it takes; 0 where none.
    pub drives: u64,
    /// Why, for people.
    pub why: String,
    /// What to do, for people.
    pub what: String,
}

/// How a vault is, as far as orders go.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Drives and objects.
    pub status: Status,
    /// By slot: where the drive's folder is, as far as it is known.
    pub folders: Vec<Option<PathBuf>>,
    /// By slot: the mount point that has nothing mounted.
    pub unmounted: Vec<Option<PathBuf>>,
}

/// Looks at an open vault.
///
/// # Errors
/// [`VaultError`] when the vault's folder cannot be read.
pub fn look(folder: &Path, vault: &EmbeddedVault) -> Result<Seen, VaultError> {
    let status = vault.read().status();
    let (all, away) = (embedded::drive_folders(folder)?, embedded::unmounted(folder)?);
    let positions: Vec<Option<usize>> = vault.report().drives.iter().map(|d| d.position).collect();
    // A drive that is not there has the folder that is left over, best the one at its own place.
    let at = |slot: usize| {
        let free = |at: &usize| !positions.contains(&Some(*at)) && *at < all.len();
        positions.get(slot).copied().flatten().or_else(|| Some(slot).filter(free)).or_else(|| (0..all.len()).find(free))
    };
    let places: Vec<Option<usize>> = (0..status.drives.len()).map(at).collect();
    let folders = places.iter().map(|at| all.get((*at)?).cloned()).collect();
    let unmounted = places.iter().map(|at| away.get((*at)?).cloned().flatten()).collect();
    Ok(Seen { status, folders, unmounted })
}

/// All orders, by slot. `book` tells what was tried before.
//= FORMAT#F44
pub fn list(seen: &Seen, book: &Book) -> Vec<Order> {
    let mut orders: Vec<Order> = seen.status.drives.iter().filter_map(|drive| of_drive(seen, drive, book)).collect();
    join_shelves(seen, &mut orders);
    orders.extend(more_drives(seen, &orders));
    orders
}

/// What a drive needs of hands: most troubles the vault sees to by itself.
fn of_drive(seen: &Seen, drive: &DriveStatus, book: &Book) -> Option<Order> {
    let (slot, label) = (drive.slot, &drive.label);
    let unmounted = seen.unmounted.get(slot).cloned().flatten();
    let (first, why) = match &drive.state {
        DriveState::Retired | DriveState::CardDamaged => return None,
        DriveState::Missing => match unmounted {
            Some(mount) => (Task::Reseat, format!("nothing is mounted at {}", mount.display())),
            None => (Task::Reseat, "it is not there".to_owned()),
        },
        DriveState::Blank if unmounted.is_some() => (Task::Reseat, "it is not mounted".to_owned()),
        DriveState::Blank => (Task::Replace, "there is nothing of this vault in its place".to_owned()),
        DriveState::Foreign => (Task::Replace, "a drive of another vault is in its place".to_owned()),
        DriveState::Suspect(lavatube_vault::DriveError::Full) => return None,
        DriveState::Suspect(e) => (Task::Reseat, e.to_string()),
        DriveState::Present | DriveState::Quarantined(_) => match drive.distrust? {
            Distrust::Away => return None,
            Distrust::Wrong => (Task::Replace, drive_care::why(Distrust::Wrong).to_owned()),
            other => (Task::Reseat, drive_care::why(other).to_owned()),
        },
    };
    let id = |task: Task| format!("{}-{}", task.word(), &drive.drive.to_string()[..ID_DIGITS]);
    // What was reseated and is no better is not reseated again.
    let task = if first == Task::Reseat && book.was_tried(&id(Task::Reseat)) { Task::Replace } else { first };
    let place = seen.folders.get(slot).cloned().flatten().map_or(String::new(), |f| format!(" ({})", f.display()));
    let (drives, what) = match task {
        Task::Replace => (1, format!("put an empty drive in the place of {label}{place}")),
        _ => (0, format!("see to the power and cables of {label}{place}, pull it out and push it in again, mount it")),
    };
    Some(Order { id: id(task), task, slots: vec![slot], drives, why, what })
}

/// Where all drives of a shelf are gone it is the shelf.
fn join_shelves(seen: &Seen, orders: &mut Vec<Order>) {
    let mut shelves: BTreeMap<&str, (usize, Vec<usize>)> = BTreeMap::new();
    for drive in seen.status.drives.iter().filter(|d| !d.shelf.is_empty() && d.state != DriveState::Retired) {
        let (all, gone) = shelves.entry(&drive.shelf).or_default();
        *all += 1;
        gone.extend((drive.state == DriveState::Missing).then_some(drive.slot));
    }
    for (shelf, (all, gone)) in shelves.into_iter().filter(|(_, (all, gone))| *all > 1 && gone.len() == *all) {
        orders.retain(|order| order.task != Task::Reseat || !order.slots.iter().any(|slot| gone.contains(slot)));
        // Those that were reseated one by one are replaced one by one.
        if orders.iter().any(|order| order.slots.iter().any(|slot| gone.contains(slot))) {
            continue;
        }
        orders.push(Order {
            id: format!("shelf-{:08x}", shelf_number(shelf)),
            task: Task::Shelf,
            slots: gone,
            drives: 0,
            why: format!("none of its {all} drives is there"),
            what: format!("see to the power and cables of shelf {shelf}, or move its drives to another one"),
        });
    }
}

/// Drives that are wanted beyond those which other orders bring back: for whole stripes, for one that dies, and for room.
fn more_drives(seen: &Seen, orders: &[Order]) -> Option<Order> {
    let status = &seen.status;
    let good = |d: &&DriveStatus| d.state == DriveState::Present && d.distrust.is_none();
    let present: Vec<&DriveStatus> = status.drives.iter().filter(good).collect();
    let coming: usize = orders.iter().map(|order| order.slots.len()).sum();
    let shards = usize::from(status.k) + usize::from(status.m);
    let there = present.len() + coming;
    let (total, free) = present
        .iter()
        .filter_map(|d| d.space)
        .fold((0u128, 0u128), |(total, free), s| (total + u128::from(s.total), free + u128::from(s.free)));
    let used = total.saturating_sub(free);
    let mean = total / u128::try_from(present.len().max(1)).unwrap_or(1);
    // So many that what is used fills three fifths of all.
    let for_room = if mean > 0 && used * 100 > total * FULL_PERCENT {
        usize::try_from((used * 100 / FILL_PERCENT).saturating_sub(total).div_ceil(mean)).unwrap_or(usize::MAX)
    } else {
        0
    };
    let for_spare = (shards + 1).saturating_sub(there);
    let wanted = for_spare.max(for_room).min(lavatube_base::limits::DRIVES_MAX);
    let why = match () {
        () if wanted == 0 => return None,
        () if there < shards => format!("an object has {shards} shards, and there are {there} drives for them"),
        () if for_spare > 0 => "no drive is spare: what the next dead one held could not be made anew".to_owned(),
        () => format!(
            "{} per cent of all room is used: what dead drives held will soon have no place",
            used * 100 / total
        ),
    };
    let what = format!("put in {wanted} further {}, and say where", if wanted == 1 { "drive" } else { "drives" });
    Some(Order { id: "add-drives".into(), task: Task::Add, slots: Vec::new(), drives: wanted as u64, why, what })
}

/// Names of shelves may be any text.
fn shelf_number(shelf: &str) -> u32 {
    let hash = h16(&[shelf.as_bytes()]);
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Digits of an id in an order's name.
const ID_DIGITS: usize = 8;
/// From so full on drives are wanted,
const FULL_PERCENT: u128 = 80;
/// until all are so full.
const FILL_PERCENT: u128 = 60;

#[cfg(test)]
mod tests {
    use lavatube_base::DriveId;
    use lavatube_vault::{DriveError, Space};

    use super::*;

    fn seen(states: Vec<(DriveState, Option<Distrust>)>) -> Seen {
        let drive = |(slot, (state, distrust)): (usize, (DriveState, Option<Distrust>))| DriveStatus {
            slot,
            drive: DriveId([slot as u8 + 1; 16]),
            label: format!("d{slot}"),
            shelf: format!("s{}", slot % 3),
            maker: String::new(),
            model: String::new(),
            state,
            distrust,
            space: Some(Space { total: 1 << 40, free: 1 << 39 }),
        };
        let n = states.len();
        let drives = states.into_iter().enumerate().map(drive).collect();
        let status =
            Status { k: 4, m: 2, drives, objects: 9, bytes: 9, redundancy: vec![0, 0, 9], lost: 0, left_over: 0 };
        Seen { status, folders: vec![None; n], unmounted: vec![None; n] }
    }

    fn well(n: usize) -> Vec<(DriveState, Option<Distrust>)> {
        vec![(DriveState::Present, None); n]
    }

    fn tasks(seen: &Seen, book: &Book) -> Vec<(Task, Vec<usize>, u64)> {
        list(seen, book).into_iter().map(|o| (o.task, o.slots, o.drives)).collect()
    }

    #[test]
    fn a_vault_that_is_well_and_has_a_spare_drive_wants_nothing() {
        assert_eq!(list(&seen(well(7)), &Book::default()), []);
        assert_eq!(tasks(&seen(well(6)), &Book::default()), [(Task::Add, vec![], 1)]);
        assert_eq!(tasks(&seen(well(5)), &Book::default()), [(Task::Add, vec![], 2)]);
    }

    #[test]
    fn each_trouble_has_its_order_and_what_the_vault_mends_itself_has_none() {
        let of = |state: DriveState, distrust| {
            let mut all = well(8);
            all[3] = (state, distrust);
            list(&seen(all), &Book::default()).first().map(|o| o.task)
        };
        let held = |why| of(DriveState::Quarantined(why), Some(why));
        assert_eq!(of(DriveState::Missing, None), Some(Task::Reseat));
        assert_eq!(of(DriveState::Blank, None), Some(Task::Replace));
        assert_eq!(of(DriveState::Suspect(DriveError::Io("x".into())), None), Some(Task::Reseat));
        assert_eq!(of(DriveState::Suspect(DriveError::Full), None), None);
        assert_eq!((held(Distrust::Wrong), held(Distrust::Failed)), (Some(Task::Replace), Some(Task::Reseat)));
        assert_eq!((held(Distrust::Slow), held(Distrust::Away)), (Some(Task::Reseat), None));
        assert_eq!((of(DriveState::CardDamaged, None), of(DriveState::Retired, None)), (None, None));
    }

    #[test]
    fn what_was_reseated_in_vain_is_replaced() {
        let mut all = well(8);
        all[2] = (DriveState::Missing, Some(Distrust::Away));
        let (seen, mut book) = (seen(all), Book::default());
        let order = list(&seen, &book).remove(0);
        assert_eq!(order.task, Task::Reseat);
        book.claim(&order.id, "arm", 60, 1000).unwrap();
        book.done(&order.id, "arm", "", &[], 1010).unwrap();
        book.settle(&order.id, false, "it is not there", 1020);
        let order = list(&seen, &book).remove(0);
        assert_eq!((order.task, order.slots, order.drives), (Task::Replace, vec![2], 1));
    }

    #[test]
    fn a_shelf_whose_drives_are_all_gone_is_one_order() {
        let mut all = well(9);
        for slot in [1, 4, 7] {
            all[slot] = (DriveState::Missing, Some(Distrust::Away));
        }
        assert_eq!(tasks(&seen(all.clone()), &Book::default()), [(Task::Shelf, vec![1, 4, 7], 0)]);
        all[7] = (DriveState::Present, None);
        assert_eq!(tasks(&seen(all), &Book::default()).len(), 2);
    }

    #[test]
    fn drives_are_wanted_before_room_ends() {
        let mut full = seen(well(10));
        full.status.drives.iter_mut().for_each(|d| d.space = Some(Space { total: 1000, free: 100 }));
        // Nine tenths of ten are three fifths of fifteen.
        assert_eq!(tasks(&full, &Book::default()), [(Task::Add, vec![], 5)]);
    }
}
