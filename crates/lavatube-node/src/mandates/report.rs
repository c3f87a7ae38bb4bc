//! The report about a vault: how it is made where the drives are, and what is read out of it on Earth. Must not know screens.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lavatube_base::limits::{REPORT_MANDATES_MAX, REPORT_SCRUBS_MAX};
use lavatube_base::time::WallTime;
use lavatube_format::care::{CareDrive, CareScrub, DriveWord, Report, SignedReport};
use lavatube_format::mandate::{Mandate, Progress};
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord};
use lavatube_vault::{Distrust, DriveError, DriveState, DriveStatus, Space, Status};

use crate::embedded::{self, EmbeddedVault};
use crate::{clock, scrubbing};

/// What a vault said of itself, and when that came here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// It.
    pub report: Report,
    /// Bytes of the answer.
    pub len: usize,
    /// When it came, by this machine's clock.
    pub came: WallTime,
}

/// Makes the report; `None` where the vault has no key to sign it with.
pub(super) fn make(
    folder: &Path,
    vault: &EmbeddedVault,
    nonce: [u8; 16],
    refusal: String,
    mandates: &[(Mandate, Progress)],
) -> Option<SignedReport> {
    let (status, scrubs) = (vault.read().status(), scrubbing::scrubs(folder));
    let last = scrubs.iter().rev().find(|scrub| scrub.end == ScrubEnd::Whole);
    let open = scrubs.last().filter(|scrub| scrub.end == ScrubEnd::Open);
    let found_on = |drive| {
        let of = |scrub: &ScrubRecord| scrub.drives.iter().find(|found| found.drive == drive).copied();
        let found = [open, last].into_iter().flatten().filter_map(of).find(|found| found.damaged + found.missing > 0);
        found.unwrap_or_else(|| ScrubDrive::of(drive))
    };
    let drive = |d: &DriveStatus| CareDrive {
        drive: d.drive,
        names: [&d.label, &d.shelf, &d.maker, &d.model].map(Clone::clone),
        word: word(&d.state),
        distrust: d.distrust,
        total: d.space.map_or(0, |space| space.total),
        free: d.space.map_or(0, |space| space.free),
        damaged: found_on(d.drive).damaged,
        missing: found_on(d.drive).missing,
    };
    let told = mandates.len().saturating_sub(REPORT_MANDATES_MAX);
    let told =
        mandates[told..].iter().map(|(mandate, progress)| (mandate.number, mandate.task.code(), progress.clone()));
    let (id, last_mandate) = (vault.read().id(), vault.read().last_mandate());
    let report = Report {
        vault: id,
        nonce,
        time_s: clock::wall_now().s,
        refusal,
        k: status.k,
        m: status.m,
        counts: [status.objects, status.bytes, status.lost, status.left_over],
        one_disk: one_disk(folder),
        redundancy: status.redundancy.clone(),
        drives: status.drives.iter().map(drive).collect(),
        scrubs: [last, open].into_iter().flatten().take(REPORT_SCRUBS_MAX).map(brief).collect(),
        last_mandate,
        mandates: told.collect(),
    };
    vault.read().sign_report(report).ok()
}

/// Whether all drives of a vault are folders of one file system.
pub fn one_disk(folder: &Path) -> bool {
    let folders = embedded::drive_folders(folder).unwrap_or_default();
    // Those that are away may be on any.
    let disks: Vec<u64> = folders.iter().filter_map(|f| f.metadata().ok()).map(|m| m.dev()).collect();
    disks.len() > 1 && disks.iter().all(|dev| *dev == disks[0])
}

fn brief(scrub: &ScrubRecord) -> CareScrub {
    CareScrub { end: scrub.end, began_s: scrub.began.s, until_s: scrub.until.s, counts: scrub.counts() }
}

fn word(state: &DriveState) -> DriveWord {
    match state {
        DriveState::Present => DriveWord::Present,
        DriveState::CardDamaged => DriveWord::CardDamaged,
        DriveState::Blank => DriveWord::Blank,
        DriveState::Foreign => DriveWord::Foreign,
        DriveState::Missing => DriveWord::Missing,
        DriveState::Retired => DriveWord::Retired,
        DriveState::Suspect(DriveError::Full) => DriveWord::Full,
        DriveState::Suspect(_) => DriveWord::Failed,
        DriveState::Quarantined(_) => DriveWord::Quarantined,
    }
}

/// The vault as a report tells of it, and its scrubs.
pub fn status_of(report: &Report) -> (Status, Vec<ScrubRecord>) {
    let state = |d: &CareDrive| match d.word {
        DriveWord::Present => DriveState::Present,
        DriveWord::CardDamaged => DriveState::CardDamaged,
        DriveWord::Blank => DriveState::Blank,
        DriveWord::Foreign => DriveState::Foreign,
        DriveWord::Missing => DriveState::Missing,
        DriveWord::Retired => DriveState::Retired,
        DriveWord::Full => DriveState::Suspect(DriveError::Full),
        DriveWord::Failed => DriveState::Suspect(DriveError::Io("it failed over there".into())),
        DriveWord::Quarantined => DriveState::Quarantined(d.distrust.unwrap_or(Distrust::Away)),
    };
    let drive = |(slot, d): (usize, &CareDrive)| {
        let [label, shelf, maker, model] = d.names.clone();
        let space = (d.total > 0).then_some(Space { total: d.total, free: d.free });
        DriveStatus { slot, drive: d.drive, label, shelf, maker, model, state: state(d), distrust: d.distrust, space }
    };
    let [objects, bytes, lost, left_over] = report.counts;
    let drives = report.drives.iter().enumerate().map(drive).collect();
    let redundancy = report.redundancy.clone();
    let status = Status { k: report.k, m: report.m, drives, objects, bytes, redundancy, lost, left_over };
    let mut scrubs: Vec<ScrubRecord> = report.scrubs.iter().map(record).collect();
    let found = |d: &CareDrive| ScrubDrive { damaged: d.damaged, missing: d.missing, ..ScrubDrive::of(d.drive) };
    if let Some(latest) = scrubs.last_mut() {
        let any = report.drives.iter().filter(|d| d.damaged + d.missing > 0);
        latest.drives = any.map(found).collect();
    }
    (status, scrubs)
}

fn record(scrub: &CareScrub) -> ScrubRecord {
    let at = |s| WallTime { s, ns: 0 };
    let begun = ScrubRecord::begin(at(scrub.began_s)).with_counts(scrub.counts);
    ScrubRecord { until: at(scrub.until_s), end: scrub.end, ..begun }
}
