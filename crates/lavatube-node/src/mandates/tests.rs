use std::path::PathBuf;

use lavatube_base::{DriveId, Verified};
use lavatube_client::far::Far;
use lavatube_format::mandate::SignedMandate;
use lavatube_seal::{Root, Secret};
use lavatube_vault::Status;

use super::*;
use crate::embedded::{self, DriveSpec, EmbeddedVault};

/// A vault of six drives with some packs, its authority, and whoever runs it.
struct Moon {
    _dir: tempfile::TempDir,
    folder: PathBuf,
    root: Root,
    vault: EmbeddedVault,
}

impl Home for Moon {
    fn vault(&self) -> &EmbeddedVault {
        &self.vault
    }
    fn open_again(&mut self) -> bool {
        EmbeddedVault::open(&self.folder, true).map(|vault| self.vault = vault).is_ok()
    }
    fn read_past_cache(&mut self) {}
}

impl Moon {
    fn new(drives: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("vault");
        let root = Root::new(Secret::new([5; 32]));
        let drive = |n| DriveSpec { folder: format!("d{n}").into(), label: format!("d{n}"), ..DriveSpec::default() };
        let specs: Vec<DriveSpec> = (0..drives).map(drive).collect();
        embedded::create(&folder, 4, 2, &specs, root.authority_public().unwrap()).unwrap();
        let vault = EmbeddedVault::open(&folder, true).unwrap();
        for n in 0..5u8 {
            vault.deliver_pack(Verified::hash(&[n; 5000])).unwrap();
        }
        Self { _dir: dir, folder, root, vault }
    }

    fn open(&mut self) -> Mandates {
        self.open_again();
        Mandates::open(&self.folder, self.vault.read().last_mandate())
    }

    fn drive(&self, slot: usize) -> DriveId {
        self.vault.read().drives()[slot].drive
    }

    fn signed(&self, number: u64, task: Task) -> SignedMandate {
        let vault = self.vault.read().id();
        self.root.sign_mandate(Mandate { vault, number, task }).unwrap()
    }

    /// Why it is not taken; empty when it is.
    fn tell(&mut self, mandates: &mut Mandates, number: u64, task: Task) -> String {
        let mandate = Some(self.signed(number, task).encode());
        mandates.care(self, &CareQuestion { nonce: [1; 16], mandate }).unwrap().report.refusal
    }

    /// Numbers and stages, as the vault tells.
    fn told(&mut self, mandates: &mut Mandates) -> Vec<(u64, Stage)> {
        let report = mandates.care(self, &CareQuestion { nonce: [2; 16], mandate: None }).unwrap().report;
        assert_eq!((report.nonce, report.last_mandate), ([2; 16], self.vault.read().last_mandate()));
        report.mandates.into_iter().map(|(number, _, progress)| (number, progress.stage)).collect()
    }

    /// Follows what there is to follow to its end.
    fn follow(&mut self, mandates: &mut Mandates) {
        while mandates.wait().is_some() {
            mandates.handle_timeout(self);
        }
    }
}

const SCRUB: Task = Task::Scrub { bytes_s: 0, rest_percent: 0, for_s: 0, anew: false };

#[test]
fn a_mandate_is_followed_to_its_end_wherever_whoever_runs_the_vault_is_killed() {
    let mut moon = Moon::new(7);
    let mut mandates = moon.open();
    let retire = Task::Retire { drive: moon.drive(2) };
    assert_eq!(moon.tell(&mut mandates, 1, SCRUB), "");
    assert_eq!(moon.tell(&mut mandates, 2, retire.clone()), "");
    // Taken, and killed before anything was done; then after it was begun.
    mandates = moon.open();
    assert_eq!(moon.told(&mut mandates), [(1, Stage::Waits), (2, Stage::Waits)]);
    moon.follow(&mut mandates);
    assert_eq!(moon.told(&mut mandates), [(1, Stage::Done), (2, Stage::Done)]);
    mandates = moon.open();
    assert_eq!(moon.tell(&mut mandates, 3, Task::Repair), "");
    mandates.handle_timeout(&mut moon);
    assert_eq!(moon.told(&mut mandates)[2], (3, Stage::UnderWay));
    mandates = moon.open();
    moon.follow(&mut mandates);
    assert_eq!(moon.told(&mut mandates)[2], (3, Stage::Done));
    assert_eq!(moon.vault.read().drives()[2].state, DriveState::Retired);
    // The same again is as good as taken, another under its number is not.
    assert_eq!(moon.tell(&mut mandates, 2, retire), "");
    assert!(moon.tell(&mut mandates, 2, SCRUB).contains("mandate 3 was taken before"));
    assert!(moon.tell(&mut mandates, 4, Task::Admit { drive: moon.drive(2) }).contains("no drive"));
    assert_eq!(moon.told(&mut mandates).len(), 3);
}

#[test]
fn what_was_noted_and_not_taken_is_none_and_what_was_taken_and_is_forgotten_is_not_taken_again() {
    let mut moon = Moon::new(6);
    let mut mandates = moon.open();
    assert_eq!(moon.tell(&mut mandates, 1, Task::Repair), "");
    // Killed between the note and the cards.
    let noted = moon.signed(2, SCRUB).mandate;
    let progress = mandates.entries[0].1.clone();
    mandates.entries.push((noted, progress));
    mandates.keep().unwrap();
    mandates = moon.open();
    assert_eq!(moon.told(&mut mandates), [(1, Stage::Waits)]);
    assert_eq!(moon.tell(&mut mandates, 2, SCRUB), "");
    // The file is lost: what it had is neither done nor taken.
    std::fs::remove_file(moon.folder.join(FILE)).unwrap();
    mandates = moon.open();
    assert_eq!((moon.told(&mut mandates), mandates.wait()), (vec![], None));
    assert!(moon.tell(&mut mandates, 2, SCRUB).contains("mandate 2 was taken before"));
    assert_eq!(moon.tell(&mut mandates, 3, SCRUB), "");
}

#[test]
fn nobody_but_the_authority_is_listened_to_and_everybody_is_told_how_the_vault_is() {
    let mut moon = Moon::new(6);
    let mut mandates = moon.open();
    let thief = Root::new(Secret::new([6; 32]));
    let vault = moon.vault.read().id();
    let mandate = thief.sign_mandate(Mandate { vault, number: 1, task: Task::Retire { drive: moon.drive(0) } });
    let question = CareQuestion { nonce: [3; 16], mandate: Some(mandate.unwrap().encode()) };
    let signed = mandates.care(&mut moon, &question).unwrap();
    assert!(signed.report.refusal.contains("the authority of this vault did not sign it"), "{}", signed.report.refusal);
    assert!(signed.verify(&moon.vault.signer().key).is_ok());
    assert_eq!((moon.told(&mut mandates), moon.vault.read().last_mandate()), (vec![], 0));
    // What it says is what there is; how much is free others change meanwhile.
    let without_free = |mut status: Status| {
        status.drives.iter_mut().filter_map(|drive| drive.space.as_mut()).for_each(|space| space.free = 0);
        status
    };
    let (status, scrubs) = status_of(&signed.report);
    assert_eq!((without_free(status), scrubs), (without_free(moon.vault.read().status()), vec![]));
}

#[test]
fn a_scrub_that_is_told_for_how_long_goes_on_with_the_next_one() {
    let mut moon = Moon::new(6);
    let mut mandates = moon.open();
    // So slow that its second is over after the first object.
    let slow = Task::Scrub { bytes_s: 1, rest_percent: 0, for_s: 1, anew: false };
    assert_eq!(moon.tell(&mut mandates, 1, slow), "");
    mandates.handle_timeout(&mut moon);
    mandates.handle_timeout(&mut moon);
    let wait = mandates.wait().unwrap();
    assert!(mandates.is_scrubbing() && wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    // Killed, and told to go on at once.
    mandates = moon.open();
    mandates.entries[0].1.stage = Stage::InPart;
    assert_eq!(moon.tell(&mut mandates, 2, SCRUB), "");
    moon.follow(&mut mandates);
    let last = crate::scrubbing::scrubs(&moon.folder).pop().unwrap();
    assert_eq!((last.end, last.objects), (lavatube_format::scrub_record::ScrubEnd::Whole, 5));
    assert_eq!(crate::scrubbing::scrubs(&moon.folder).len(), 1, "it was one scrub");
}
