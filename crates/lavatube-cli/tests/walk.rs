//! docs/WALK.md on a real folder: after each step, what the walk says is true afterwards.
//!
//! Looked at from outside: files on drives and in the state, decoded with `lavatube-format` and hashed here. The numbers
//! are those of the walk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::facts::{Facts, assert_same, look};
use common::{Chance, Machine, files_below, is_shard, number, seed, text};
use lavatube_base::ObjectId;
use lavatube_base::digest::{Digests, Verified};
use lavatube_format::drive_card::DriveCard;
use lavatube_format::journal::{FIRST_CHECK, Line, Record};
use lavatube_format::ledger::LedgerReader;
use lavatube_format::manifest::{SignedManifest, root_of};
use lavatube_format::shard::{ObjectKind, ShardHeader};

/// The shards of one object: drive, header, and the shard's bytes in their own order.
type Shards = Vec<(usize, ShardHeader, Vec<u8>)>;

/// All objects on the drives.
fn objects(machine: &Machine) -> BTreeMap<ObjectId, Shards> {
    let mut out: BTreeMap<ObjectId, Shards> = BTreeMap::new();
    for drive in 0..6 {
        for path in files_below(&machine.drive(drive)).iter().filter(|path| is_shard(path)) {
            let file = fs::read(path).unwrap();
            let header = ShardHeader::decode(&file[..ShardHeader::claimed_len(&file).unwrap()]).unwrap();
            let g = header.geometry;
            let copy = file.split_at(file.len() - g.header_len()).1;
            assert_eq!(file[..g.header_len()], *copy, "two headers alike: {}", path.display());
            let mut body = file[g.header_len()..][..g.shard_len()].to_vec();
            body.rotate_left(g.rotation(header.index.into()));
            out.entry(header.object).or_default().push((drive, header, body));
        }
    }
    out
}

/// An object from its data shards.
fn bytes_of(shards: &Shards) -> Vec<u8> {
    let g = shards[0].1.geometry;
    let mut data: Vec<_> = shards.iter().filter(|(_, h, _)| usize::from(h.index) < g.k()).collect();
    data.sort_by_key(|(_, h, _)| h.index);
    let mut bytes = data.iter().flat_map(|(_, _, body)| body.clone()).collect::<Vec<_>>();
    assert!(bytes.split_off(g.object_len()).iter().all(|b| *b == 0), "zeros at the end");
    bytes
}

/// 6, 7: the vault is away, so all of the snapshot is in the spool, each object whole, and nothing of it on the drives.
fn is_safe_here(machine: &Machine) {
    let away = [4, 5].map(|n| (machine.drive(n), machine.path(&format!("away{n}"))));
    away.iter().for_each(|(drive, aside)| fs::rename(drive, aside).unwrap());
    let before = machine.drive_files();
    let done = machine.backup();
    assert_eq!(done["promise"], "safe-here", "{done:#}");
    assert_eq!(machine.drive_files(), before, "nothing of it on the drives");
    let spooled = files_below(&machine.state().join("spool"));
    assert!(spooled.len() >= 2, "packs and a manifest: {spooled:?}");
    for path in &spooled {
        let id = Verified::hash(&fs::read(path).unwrap()).id().to_string();
        assert!(path.to_str().unwrap().ends_with(&id), "named by its digest: {}", path.display());
    }
    away.iter().for_each(|(drive, aside)| fs::rename(aside, drive).unwrap());
}

/// 1 to 3: what did not change is not read, and what is known by its content is not sent.
fn is_not_read_and_not_sent_again(machine: &Machine) {
    fs::copy(machine.path("src/large-noise"), machine.path("src/copy")).unwrap();
    let done = machine.backup();
    assert_eq!((number(&done["files_read"]), number(&done["new_bytes"])), (1, 0), "only the copy is read: {done:#}");
    assert!(number(&done["drained"]) > 0, "the spool went first: {done:#}");
    assert_eq!(files_below(&machine.state().join("spool")), Vec::<std::path::PathBuf>::new(), "17: it may let go");
}

/// 5, 13 to 15: every object is what its id says, closed, and in six shards on six drives.
fn is_on_the_drives(machine: &Machine, objects: &BTreeMap<ObjectId, Shards>) {
    let plain = fs::read(machine.path("src/large-noise")).unwrap();
    for (id, shards) in objects {
        let bytes = bytes_of(shards);
        assert!(Verified::check(&bytes, *id).is_some(), "{id} is what its id says");
        let (drives, indexes): (Vec<_>, Vec<_>) = shards.iter().map(|(drive, h, _)| (*drive, h.index)).unzip();
        assert_eq!(drives, [0, 1, 2, 3, 4, 5], "{id}: each drive has one");
        assert_eq!(indexes.iter().sum::<u8>(), 15, "{id}: each shard is there once: {indexes:?}");
        if shards[0].1.kind == ObjectKind::Pack {
            assert!(bytes.starts_with(b"LVTPACK"), "{id}");
            assert_eq!(bytes.len() % 4096, 0, "{id}: an exact size");
            assert!(!bytes.windows(16).any(|w| w == &plain[..16]), "{id} is closed");
        }
    }
}

/// 16: the journal says of every object where it is, in the same words on every drive.
fn is_in_the_journal(machine: &Machine, objects: &BTreeMap<ObjectId, Shards>) -> BTreeMap<ObjectId, Line> {
    let journal = fs::read(machine.drive(0).join("journal")).unwrap();
    for drive in 1..6 {
        assert_eq!(fs::read(machine.drive(drive).join("journal")).unwrap(), journal, "drive {drive}");
    }
    let (mut lines, mut rest, mut before) = (BTreeMap::new(), &journal[..], FIRST_CHECK);
    for sequence in 1.. {
        if rest.is_empty() {
            break;
        }
        let (line, len) = Line::decode(rest, sequence, &before).unwrap();
        (rest, before) = (&rest[len..], line.check);
        let (object, slots) = match &line.record {
            Record::Stored { object, slots, .. } => (*object, slots),
            // How old the vault was then.
            Record::Aged { .. } => continue,
            other => panic!("nothing moved, nothing went: {other:?}"),
        };
        for (drive, header, _) in &objects[&object] {
            assert_eq!(usize::from(slots[usize::from(header.index)]), *drive, "{object}");
        }
        lines.insert(object, line);
    }
    assert!(lines.keys().eq(objects.keys()), "all objects and nothing else");
    lines
}

/// 17: the ledger has a receipt for every object of the sessions, signed by the vault, about the very journal record; the
/// manifests list the packs with both digests.
fn is_receipted(machine: &Machine, objects: &BTreeMap<ObjectId, Shards>, journal: &BTreeMap<ObjectId, Line>) {
    let card = DriveCard::decode(&fs::read(machine.drive(0).join("drive.card")).unwrap()).unwrap();
    let ledger = fs::read(machine.state().join("ledger")).unwrap();
    let mut receipted = Vec::new();
    for receipt in LedgerReader::new(&ledger) {
        receipt.verify(&card.vault_key).unwrap();
        let line = &journal[&receipt.body.object];
        assert_eq!((receipt.body.sequence, receipt.body.check), (line.sequence, line.check));
        receipted.push(receipt.body.object);
    }
    for (id, shards) in objects {
        let kind = shards[0].1.kind;
        assert_eq!(receipted.contains(id), kind != ObjectKind::DepositorCard, "{id}: {kind:?}");
        if kind == ObjectKind::Manifest {
            let manifest = SignedManifest::decode(&bytes_of(shards)).unwrap().manifest;
            assert_eq!(manifest.root, root_of(&manifest.leaves));
            for leaf in &manifest.leaves {
                assert_eq!(leaf.digests, Digests::of(&bytes_of(&objects[&leaf.id()])), "{id}");
            }
        }
    }
}

/// 18: a torn shard is found, and made anew as it was.
fn is_still_there(machine: &Machine) {
    let shard = machine.drive_files().into_iter().find(|path| is_shard(path)).unwrap();
    let whole = fs::read(&shard).unwrap();
    fs::write(&shard, &whole[..whole.len() / 2]).unwrap();
    let found = machine.json(&["check", "--read-data"], 4);
    let object = text(&found["not_whole"][0]["object"]);
    assert!(shard.to_str().unwrap().contains(&object), "{found:#}");
    machine.json(&["check", "--read-data", "--repair"], 4);
    assert_eq!(fs::read(&shard).unwrap(), whole);
}

/// 19 to 21: from any four drives, on a machine that knows nothing but its keys.
fn is_home(machine: &Machine, want: &Facts) {
    for n in [1, 2] {
        fs::rename(machine.drive(n), machine.path(&format!("gone{n}"))).unwrap();
    }
    fs::remove_dir_all(machine.path("state")).unwrap();
    assert_same(want, &machine.restore("latest", "back").join("src"), "home");
}

#[test]
fn a_byte_walks_as_the_walk_says() {
    let machine = Machine::in_memory(seed(111));
    common::fill(&machine.src(), &mut Chance::new(machine.seed), 40, 1 << 20);
    machine.json(&["init"], 0);
    is_safe_here(&machine);
    is_not_read_and_not_sent_again(&machine);
    let objects = objects(&machine);
    is_on_the_drives(&machine, &objects);
    let journal = is_in_the_journal(&machine, &objects);
    is_receipted(&machine, &objects, &journal);
    is_still_there(&machine);
    is_home(&machine, &look(&machine.src()));
}
