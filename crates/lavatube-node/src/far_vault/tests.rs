use std::path::{Path, PathBuf};

use lavatube_client::desk::Desk;
use lavatube_client::distant::ASKED_AGAIN;
use lavatube_client::far::Far;
use lavatube_format::message::Page;
use lavatube_format::shard::ObjectKind;

use super::*;
use crate::depositor::VaultPlan;
use crate::embedded::DriveSpec;
use crate::stage;

/// A far vault that nobody turns the link to, and the desk at which something is wanted of it.
fn far(folder: &Path) -> (FarVault, DirectoryDesk) {
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let stage = stage::set(folder, &VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() }).unwrap();
    let asking = Asking { refresh: false, patience: Some(Duration::from_secs(4)) };
    let vault = FarVault::open(&stage.near, "a test", asking, Duration::ZERO).unwrap();
    let desk = DirectoryDesk::open(vault.state().folder()).unwrap();
    (vault, desk)
}

/// Does with each errand what `answer` does, `n` times.
fn answer(desk: &DirectoryDesk, n: usize, answer: impl Fn(&DirectoryDesk)) {
    for _ in 0..n {
        let number = loop {
            match desk.asked().unwrap().first() {
                Some(number) => break *number,
                None => thread::sleep(LOOK_EVERY),
            }
        };
        answer(desk);
        desk.done(number);
    }
}

#[test]
fn a_list_that_is_not_what_it_says_is_told_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, desk) = far(dir.path());
    let page =
        Page { kind: ObjectKind::Manifest, digest: [7; 16], total: 1, first: 0, objects: vec![(ObjectId([1; 32]), 9)] };
    let listed = thread::scope(|scope| {
        scope.spawn(|| answer(&desk, 1, |desk| desk.put_list(ObjectKind::Manifest, vec![page.clone()]).unwrap()));
        vault.manifests()
    });
    assert!(matches!(&listed, Err(FarError::Away(text)) if text.contains("list")), "{listed:?}");
}

#[test]
fn what_came_and_is_gone_again_and_again_is_told_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, desk) = far(dir.path());
    let read = thread::scope(|scope| {
        scope.spawn(|| answer(&desk, usize::from(ASKED_AGAIN) + 1, |_| {}));
        vault.fetch(ObjectId([1; 32]), 0..9, &mut Vec::new())
    });
    assert!(matches!(&read, Err(FarError::Away(text)) if text.contains("gone")), "{read:?}");
}
