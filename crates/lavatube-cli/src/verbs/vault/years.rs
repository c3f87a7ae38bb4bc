//! What a vault is expected to lose in years, as it is now: its own drives, code, room and scrubs. Must not know how that is reckoned.

use lavatube_odds::{Ages, Batch, Code, Repair, Terms, outlook};
use lavatube_vault::{DriveState, DriveStatus, Status};
use serde_json::{Value, json};

/// What the reckoning rests on that the vault does not tell itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Assumed {
    /// A drive's failures a year, when it is neither new nor old.
    pub afr: f64,
    /// Days after which a dead drive is replaced, if anybody does.
    pub replace_days: Option<f64>,
    /// Days between scrubs.
    pub scrub_days: f64,
    /// All drives are one disk.
    pub one_disk: bool,
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Years {
    /// Something is lost already, or there is nothing to lose.
    None(&'static str),
    /// No parity is left: what the first drive takes along is lost; drives that die in a year.
    NextDrive(f64),
    /// Shares of the objects that are expected to be lost, by years; and the years until that is one in a thousand.
    Outlook {
        /// By years.
        lost: Vec<(f64, f64)>,
        /// `None` when that is beyond [`HORIZON`] years.
        to_loss: Option<u32>,
    },
}

/// Reckons.
pub(super) fn years(status: &Status, assumed: &Assumed) -> Years {
    let present: Vec<&DriveStatus> = status.drives.iter().filter(|d| d.state == DriveState::Present).collect();
    if status.lost > 0 {
        return Years::None("objects are lost already");
    }
    let alive = u32::try_from(present.len()).unwrap_or(u32::MAX);
    // Objects that have lost shards set out from what they have.
    let spare = status.redundancy.iter().position(|n| *n > 0).unwrap_or(status.m.into());
    let parity = u32::try_from(spare).unwrap_or(0).min(alive.saturating_sub(status.k.into()));
    if assumed.one_disk || parity == 0 {
        return Years::NextDrive(if assumed.one_disk { assumed.afr } else { assumed.afr * f64::from(alive) });
    }
    let terms = terms(status, &present, parity, assumed);
    let at: Vec<f64> = (1..=HORIZON).map(f64::from).collect();
    let Ok(outlook) = outlook(&terms, &at, LIVES, 1, &mut || ()) else {
        return Years::None("it cannot be reckoned for such a vault");
    };
    let asked = outlook.milestones.iter().filter(|m| MILESTONES.contains(&m.years)).map(|m| (m.years, m.lost));
    let passed = (1..=HORIZON).zip(&outlook.milestones).find(|(_, m)| m.lost >= LOSS).map(|(years, _)| years);
    Years::Outlook { lost: asked.collect(), to_loss: passed }
}

/// The share of the objects that is expected to be lost in so many years.
pub(super) fn lost_share(status: &Status, assumed: &Assumed, at: u32) -> f64 {
    let gone = status.lost as f64 / status.objects.max(1) as f64;
    match years(&Status { lost: 0, ..status.clone() }, assumed) {
        Years::None(_) => 1.0,
        Years::NextDrive(yearly) => (gone + yearly * f64::from(at)).min(1.0),
        Years::Outlook { lost, .. } => {
            let share = lost.iter().find(|(years, _)| *years == f64::from(at)).map_or(0.0, |(_, share)| *share);
            (gone + share).min(1.0)
        }
    }
}

/// Drives that may die before an object cannot have all its shards, or what there is has no room; and the years until that is to be expected.
pub(super) fn spare(status: &Status, afr: f64) -> (u32, f64) {
    let present: Vec<&DriveStatus> =
        status.drives.iter().filter(|d| d.state == DriveState::Present && d.distrust.is_none()).collect();
    let n = u32::try_from(present.len()).unwrap_or(u32::MAX);
    let (total, free) = present
        .iter()
        .filter_map(|d| d.space)
        .fold((0.0, 0.0), |(total, free), s| (total + s.total as f64, free + s.free as f64));
    // What all but these many drives can hold is what is used now.
    let by_room = if total > 0.0 { (f64::from(n) * free / total).floor() as u32 } else { n };
    let by_shards = n.saturating_sub(u32::from(status.k) + u32::from(status.m));
    let spare = by_room.min(by_shards).min(n);
    // The one after the last spare one.
    let years = (n - spare..=n).filter(|alive| *alive > 0).map(|alive| 1.0 / (afr.max(1e-9) * f64::from(alive))).sum();
    (spare, years)
}

fn terms(status: &Status, present: &[&DriveStatus], parity: u32, assumed: &Assumed) -> Terms {
    let code = Code { k: status.k.into(), m: parity };
    let free: f64 = present.iter().filter_map(|d| d.space).map(|s| s.free as f64).sum();
    let own = status.bytes as f64 * (f64::from(status.k) + f64::from(status.m)) / f64::from(status.k.max(1));
    let drives = u32::try_from(present.len()).unwrap_or(u32::MAX);
    let kinds = |of: fn(&DriveStatus) -> &str| {
        let mut all: Vec<&str> = present.iter().map(|d| of(d)).collect();
        all.sort_unstable();
        all.dedup();
        u32::try_from(all.len()).unwrap_or(1).clamp(1, drives.max(1))
    };
    let (shelves, makers) = (kinds(|d| &d.shelf), kinds(|d| &d.maker));
    Terms {
        drives,
        shelves,
        makers,
        code,
        drive_bytes: ((own + free) / f64::from(drives.max(1))).clamp(1e6, 1e17),
        full: (own / (own + free).max(1.0)).clamp(1e-9, 1.0),
        yearly: assumed.afr,
        ages: Ages::bathtub(),
        // Nobody said that drives stand together where there is one shelf, or none.
        batch: if makers > 1 { BATCH } else { Batch { yearly: 0.0, ..BATCH } },
        shelf_yearly: if shelves > 1 { SHELF_YEARLY } else { 0.0 },
        latent_yearly: LATENT_YEARLY,
        scrub_days: assumed.scrub_days.clamp(1.0, 3650.0),
        repair: Repair::Within(REPAIR_DAYS),
        replace_days: assumed.replace_days,
        years: f64::from(HORIZON),
    }
}

impl Years {
    /// As JSON.
    pub fn answer(&self, assumed: &Assumed) -> Value {
        let mut value = json!({
            "afr": assumed.afr,
            "replace_days": assumed.replace_days,
            "scrub_days": assumed.scrub_days,
            "loss": LOSS,
            "years_to_loss": null,
            "expected": [],
        });
        match self {
            Self::None(why) => value["why"] = json!(why),
            Self::NextDrive(yearly) => {
                value["why"] = json!("no parity is left");
                value["lost_yearly"] = json!(yearly);
            }
            Self::Outlook { lost, to_loss } => {
                value["years_to_loss"] = json!(to_loss);
                value["expected"] =
                    lost.iter().map(|(years, share)| json!({ "years": years, "lost_share": share })).collect();
            }
        }
        value
    }
}

/// Years that everybody asks for.
const MILESTONES: [f64; 4] = [1.0, 5.0, 10.0, 30.0];
/// Years that are looked ahead.
pub(super) const HORIZON: u32 = 50;
/// The share of the objects that is called a loss.
pub(super) const LOSS: f64 = 1e-3;
/// Enough for a year or two, and half a second of 60 drives.
const LIVES: u32 = 100;
const BATCH: Batch = Batch { yearly: 0.01, share: 0.2, days: 30.0 };
const SHELF_YEARLY: f64 = 0.001;
const LATENT_YEARLY: f64 = 0.013;
const REPAIR_DAYS: f64 = 1.0;

#[cfg(test)]
mod tests {
    use lavatube_base::DriveId;
    use lavatube_vault::Space;

    use super::*;

    const ASSUMED: Assumed = Assumed { afr: 0.014, replace_days: None, scrub_days: 30.0, one_disk: false };

    fn status(drives: usize, away: usize, redundancy: Vec<u64>) -> Status {
        let drive = |slot: usize| DriveStatus {
            slot,
            drive: DriveId([slot as u8; 16]),
            label: format!("d{slot}"),
            shelf: String::new(),
            maker: String::new(),
            model: String::new(),
            state: if slot < away { DriveState::Missing } else { DriveState::Present },
            distrust: None,
            space: Some(Space { total: 10 << 40, free: 5 << 40 }),
        };
        Status {
            k: 4,
            m: 2,
            drives: (0..drives).map(drive).collect(),
            objects: 9,
            bytes: 10 << 40,
            redundancy,
            lost: 0,
            left_over: 0,
        }
    }

    fn by(years: &Years, at: f64) -> f64 {
        let Years::Outlook { lost, .. } = years else { panic!("{years:?}") };
        lost.iter().find(|(years, _)| *years == at).unwrap().1
    }

    #[test]
    fn more_drives_and_replacing_them_is_better_and_a_lost_one_is_worse() {
        let now = years(&status(6, 0, vec![0, 0, 9]), &ASSUMED);
        let spares = years(&status(9, 0, vec![0, 0, 9]), &ASSUMED);
        let replaced = years(&status(6, 0, vec![0, 0, 9]), &Assumed { replace_days: Some(30.0), ..ASSUMED });
        let worn = years(&status(6, 1, vec![0, 9]), &ASSUMED);
        assert!(by(&spares, 10.0) < by(&now, 10.0) && by(&replaced, 10.0) < by(&now, 10.0));
        assert!(by(&now, 10.0) < by(&worn, 10.0) && by(&now, 1.0) < by(&now, 30.0));
        let to_loss = |years: &Years| match years {
            Years::Outlook { to_loss, .. } => to_loss.unwrap_or(HORIZON + 1),
            _ => 0,
        };
        assert!(to_loss(&worn) < to_loss(&now) && to_loss(&now) < to_loss(&spares));
    }

    #[test]
    fn spare_drives_end_by_number_or_by_room() {
        let of = |n: usize, free: u64| {
            let mut status = status(n, 0, vec![0, 0, 9]);
            status.drives.iter_mut().for_each(|d| d.space = Some(Space { total: 100, free }));
            spare(&status, 0.014)
        };
        assert_eq!((of(6, 90).0, of(9, 90).0, of(9, 12).0, of(20, 50).0), (0, 3, 1, 10));
        // The first of six dies after twelve years, on average.
        assert!((of(6, 90).1 - 1.0 / (0.014 * 6.0)).abs() < 1e-9);
        assert!(of(9, 90).1 > of(9, 12).1 && of(7, 90).1 > of(6, 90).1);
    }

    #[test]
    fn a_share_is_lost_in_years_whatever_is_known() {
        let of = |status: &Status| lost_share(status, &ASSUMED, 10);
        let (well, worn) = (of(&status(7, 0, vec![0, 0, 9])), of(&status(6, 1, vec![0, 9])));
        assert!(well < worn && worn < of(&status(6, 2, vec![9])));
        assert!(of(&Status { lost: 3, ..status(6, 1, vec![0, 6]) }) > 1.0 / 3.0);
    }

    #[test]
    fn without_parity_the_next_drive_is_one_too_many() {
        assert_eq!(years(&status(6, 2, vec![9]), &ASSUMED), Years::NextDrive(0.014 * 4.0));
        let one_disk = Assumed { one_disk: true, ..ASSUMED };
        assert_eq!(years(&status(6, 0, vec![0, 0, 9]), &one_disk), Years::NextDrive(0.014));
        let lost = Status { lost: 1, ..status(6, 0, vec![0, 0, 8]) };
        assert!(matches!(years(&lost, &ASSUMED), Years::None(_)));
    }
}
