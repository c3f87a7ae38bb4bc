use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lavatube_format::pair_line::PairLine;

use super::*;
use crate::depositor::VaultPlan;
use crate::embedded::DriveSpec;
use crate::{link_folder, stage};

/// A port whose datagrams lie here: those that come, and those that left.
#[derive(Clone, Default)]
struct Table {
    come: Rc<RefCell<VecDeque<Vec<u8>>>>,
    left: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Port for Table {
    fn now(&self) -> Instant {
        crate::port::now()
    }

    fn has_peer(&self) -> bool {
        true
    }

    fn send(&mut self, datagram: &[u8]) {
        self.left.borrow_mut().push(datagram.to_vec());
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let datagram = self.come.borrow_mut().pop_front()?;
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Some(datagram.len())
    }

    fn genuine(&mut self) {}

    fn wait(&mut self, _wait: Duration) -> Result<(), LinkError> {
        Ok(())
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn moved(&mut self) -> Option<SocketAddr> {
        None
    }
}

/// A datagram of the machine in `folder`.
fn datagram(folder: &Path) -> Vec<u8> {
    let table = Table::default();
    let mut driver = NativeDriver::on(&Pairing::open(folder).unwrap(), Box::new(table.clone())).unwrap();
    driver.link().ping(1);
    driver.pump(Duration::ZERO).unwrap();
    let datagram = table.left.borrow().first().cloned();
    datagram.expect("a question")
}

#[test]
fn a_datagram_brings_other_keys_into_use_once() {
    let dir = tempfile::tempdir().unwrap();
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let stage = stage::set(dir.path(), &VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() }).unwrap();
    let (near, far, other) = (&stage.near.vault, &stage.far.vault, dir.path().join("other"));
    // The vault is told that its depositor may come with the key of a second machine.
    let recovery = Some(link_folder::own_line(&other).unwrap().link_key);
    link_folder::pair(far, &PairLine { recovery, ..link_folder::own_line(near).unwrap() }.encode(), |_| {}).unwrap();
    link_folder::pair(&other, &link_folder::own_line(far).unwrap().encode(), |_| {}).unwrap();

    let table = Table::default();
    let mut vault = NativeDriver::on(&Pairing::open(far).unwrap(), Box::new(table.clone())).unwrap();
    let mut switches = |datagram: &[u8]| {
        table.come.borrow_mut().push_back(datagram.to_vec());
        vault.pump(Duration::ZERO).unwrap();
        vault.switched()
    };
    let (first, second) = (datagram(&other), datagram(near));
    assert!(switches(&first) && switches(&second), "each comes with its own keys");
    assert!(!switches(&first) && !switches(&second), "sent again by whoever heard them");
    assert!(switches(&datagram(&other)));
}

#[test]
fn counters_that_cannot_be_reserved_now_are_reserved_later() {
    let dir = tempfile::tempdir().unwrap();
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let stage = stage::set(dir.path(), &VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() }).unwrap();
    let mut vault = NativeDriver::on(&Pairing::open(&stage.far.vault).unwrap(), Box::new(Table::default())).unwrap();
    let (link, away) = (stage.far.vault.join("link"), stage.far.vault.join("away"));
    let before = vault.counters.reserved;

    std::fs::rename(&link, &away).unwrap();
    std::fs::write(&link, "no folder").unwrap();
    vault.reserve(before);
    assert_eq!(vault.counters.reserved, before, "none but what the disk says");
    vault.pump(Duration::ZERO).unwrap();
    let (end, _) = vault.unreserved.expect("it is tried again");

    std::fs::remove_file(&link).unwrap();
    std::fs::rename(&away, &link).unwrap();
    vault.unreserved = Some((end, Instant(0)));
    vault.pump(Duration::ZERO).unwrap();
    assert!(vault.unreserved.is_none());
    let on_disk = Pairing::open(&stage.far.vault).unwrap().counters().unwrap().reserved;
    assert_eq!((on_disk, vault.counters.reserved), (before + RESERVE, before + RESERVE));
}
