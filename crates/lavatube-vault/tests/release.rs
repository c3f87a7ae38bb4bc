//! Releases: who may free what and when, what is waited for, and that nothing comes back or is half gone after a crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use std::time::Duration;

use lavatube_base::sign::PairSigner;
use lavatube_base::{DepositorId, ObjectId, SessionId, VaultId, Verified};
use lavatube_format::depositor_card::depositor_id;
use lavatube_format::manifest::{Manifest, Retention};
use lavatube_format::release::{RELEASE_CONTEXT, Release, SignedRelease};
use lavatube_vault::{DepositError, ObjectKind, ReleaseError, Standing, StoreError, Vault};
use world::{Crash, World};

/// Someone who backs up.
struct Depositor {
    signer: PairSigner,
    sequence: u64,
    previous: Option<ObjectId>,
    /// Releases it knows of.
    knows: u64,
    /// What its next manifest says.
    retention: Retention,
}

impl Depositor {
    fn new(vault: &mut Vault, byte: u8) -> Self {
        let signer = PairSigner::from_seeds(&[byte; 32], &[byte + 1; 32]).unwrap();
        vault.deposit_card(&world::card(&signer, &world::authority())).unwrap();
        Self { signer, sequence: 0, previous: None, knows: 0, retention: Retention::default() }
    }

    fn id(&self) -> DepositorId {
        depositor_id(&self.signer.public())
    }

    /// The next manifest, which names these packs. It follows the one before whether or not that was deposited.
    fn manifest(&mut self, packs: &[&[u8]]) -> Vec<u8> {
        self.sequence += 1;
        let manifest = Manifest {
            session: SessionId([u8::try_from(self.sequence).unwrap(); 16]),
            sequence: self.sequence,
            previous: self.previous,
            retention: self.retention,
            releases: self.knows,
            ..world::manifest(&self.signer, world::leaves(packs))
        };
        let bytes = world::signed(manifest, &self.signer);
        self.previous = Some(Verified::hash(&bytes).id());
        bytes
    }

    /// Backs these packs up.
    fn backs_up(&mut self, vault: &mut Vault, packs: &[&[u8]]) -> Result<(), DepositError> {
        packs.iter().for_each(|pack| world::keep(vault, pack));
        let manifest = self.manifest(packs);
        vault.deposit_manifest(&manifest).map(drop)
    }
}

/// A release for the vault as it is.
fn release(vault: &Vault, packs: &[&[u8]], settled: &[DepositorId]) -> Release {
    let mut objects: Vec<ObjectId> = packs.iter().map(|pack| Verified::hash(pack).id()).collect();
    objects.sort();
    let sight = vault.look_at_log(0, &[]).unwrap().checkpoint;
    Release {
        vault: vault.id(),
        nonce: [8; 32],
        size: sight.size,
        root: sight.root,
        number: vault.releases() + 1,
        objects,
        settled: settled.to_vec(),
        note: vec![9; 32 + 16 + 256],
        lifts: Vec::new(),
        thins: Vec::new(),
    }
}

fn signed(release: Release, by: &PairSigner) -> Vec<u8> {
    let body = release.encode_body();
    let signature = by.sign(RELEASE_CONTEXT, &body).unwrap();
    SignedRelease { release, body, signature }.encode()
}

fn by_authority(release: Release) -> Vec<u8> {
    signed(release, &world::authority())
}

fn refusal(vault: &mut Vault, release: Release) -> ReleaseError {
    match vault.deposit_release(&by_authority(release)) {
        Err(DepositError::Release(e)) => e,
        other => panic!("{other:?}"),
    }
}

/// Three packs of one depositor in two sessions.
fn filled(world: &mut World) -> (Vault, Depositor, Vec<Vec<u8>>) {
    let mut vault = world.create(4, 2);
    let packs: Vec<Vec<u8>> = (0..3).map(|_| world.chance.bytes(4096)).collect();
    let mut depositor = Depositor::new(&mut vault, 11);
    depositor.backs_up(&mut vault, &[&packs[0], &packs[1]]).unwrap();
    depositor.backs_up(&mut vault, &[&packs[2]]).unwrap();
    (vault, depositor, packs)
}

fn is_gone(world: &World, vault: &Vault, pack: &[u8]) -> bool {
    let id = Verified::hash(pack).id();
    let named = format!("{id}.");
    let left = world.drives.iter().flat_map(|d| d.shard_files()).filter(|name| name.contains(&named)).count();
    assert_eq!(vault.is_released(id), !vault.contains(id));
    vault.is_released(id) && left == 0
}

#[test]
fn what_the_authority_frees_is_gone_from_all_drives_and_never_comes_back() {
    let mut world = World::new(6);
    let (mut vault, depositor, packs) = filled(&mut world);
    let bytes = by_authority(release(&vault, &[&packs[0]], &[depositor.id()]));
    let receipt = vault.deposit_release(&bytes).unwrap();
    receipt.verify(&vault.vault_key()).unwrap();
    assert_eq!(receipt.body.kind, ObjectKind::Release);
    assert!(is_gone(&world, &vault, &packs[0]) && vault.open_releases().is_empty());
    assert_eq!((world::read(&vault, &packs[1]), world::read(&vault, &packs[2])), (Ok(()), Ok(())));
    assert_eq!(vault.log().last().and_then(|leaf| leaf.kind()), Some(ObjectKind::Release));
    assert_eq!(vault.deposit_release(&bytes), Ok(receipt.clone()), "the same again is the same");
    assert_eq!(
        vault.store(ObjectKind::Pack, Verified::hash(&packs[0])),
        Err(StoreError::Released(Verified::hash(&packs[0]).id()))
    );
    // By the journals, and by the shards alone.
    for lose in [false, true] {
        if lose {
            world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
        }
        let (mut vault, report) = world.open();
        assert_eq!((report.scanned, report.incomplete.len()), (lose, 0));
        assert!(is_gone(&world, &vault, &packs[0]), "scanned: {lose}");
        assert_eq!(vault.deposit_release(&bytes).unwrap().body.object, receipt.body.object);
        assert_eq!(world::read(&vault, &packs[1]), Ok(()));
        assert!(vault.open_releases().is_empty());
    }
}

#[test]
fn nobody_else_frees_anything_and_the_authority_only_here_and_now() {
    let mut world = World::new(6);
    let (mut vault, mut depositor, packs) = filled(&mut world);
    let good = release(&vault, &[&packs[0]], &[depositor.id()]);
    for thief in [&depositor.signer, &PairSigner::from_seeds(&[91; 32], &[92; 32]).unwrap()] {
        let stolen = vault.deposit_release(&signed(good.clone(), thief));
        assert!(matches!(stolen, Err(DepositError::Signature(_))), "{stolen:?}");
    }
    let mut changed = by_authority(good.clone());
    changed[60] ^= 1;
    assert!(vault.deposit_release(&changed).is_err());
    let other = VaultId([9; 16]);
    let elsewhere = refusal(&mut vault, Release { vault: other, ..good.clone() });
    assert_eq!(elsewhere, ReleaseError::OtherVault(other));
    // A vault with the same id that was made from the same drives and went another way.
    assert!(matches!(refusal(&mut vault, Release { root: [0; 32], ..good.clone() }), ReleaseError::Outdated { .. }));
    assert!(matches!(refusal(&mut vault, Release { number: 2, ..good.clone() }), ReleaseError::Number { .. }));
    let strange = ObjectId([1; 32]);
    assert_eq!(refusal(&mut vault, Release { objects: vec![strange], ..good.clone() }), ReleaseError::Unknown(strange));
    let manifest = depositor.previous.unwrap();
    let is_manifest = refusal(&mut vault, Release { objects: vec![manifest], ..good.clone() });
    assert_eq!(is_manifest, ReleaseError::Unknown(manifest));
    // A pack of a session that is not finished yet.
    let under_way = world.chance.bytes(4096);
    world::keep(&mut vault, &under_way);
    let id = Verified::hash(&under_way).id();
    assert_eq!(refusal(&mut vault, Release { objects: vec![id], ..good.clone() }), ReleaseError::Unnamed(id));
    // Someone backed up between the computation and the delivery.
    depositor.backs_up(&mut vault, &[&under_way]).unwrap();
    assert!(matches!(refusal(&mut vault, good), ReleaseError::Outdated { looked: 3, has: 4 }));
    assert!(packs.iter().all(|pack| world::read(&vault, pack) == Ok(())));
    assert_eq!(vault.releases(), 0);
}

#[test]
fn it_waits_until_everyone_knows_and_is_void_when_someone_did_not() {
    let mut world = World::new(6);
    let (mut vault, mut first, packs) = filled(&mut world);
    let mut second = Depositor::new(&mut vault, 21);
    let new: Vec<Vec<u8>> = (0..4).map(|_| world.chance.bytes(4096)).collect();
    // The second has a session under way whose packs are not all there.
    let late = second.manifest(&[&new[0]]);
    vault.deposit_release(&by_authority(release(&vault, &[&packs[0]], &[first.id()]))).unwrap();
    let standing = |vault: &Vault| vault.open_releases()[0].standing.clone().unwrap();
    assert_eq!(standing(&vault), Standing::Waits(vec![second.id()]));
    assert_eq!(world::read(&vault, &packs[0]), Ok(()), "it may lean on it");
    // Whoever said that nothing is under way may not come with something older.
    let bytes = first.manifest(&[&packs[1]]);
    let overtaken = vault.deposit_manifest(&bytes);
    assert_eq!(overtaken, Err(DepositError::Overtaken { knew: 0, releases: 1 }));
    (first.sequence, first.previous, first.knows) = (2, vault_last(&vault), 1);
    first.backs_up(&mut vault, &[&new[1]]).unwrap();
    // It knows, but what it made before is still missing.
    second.knows = 1;
    second.backs_up(&mut vault, &[&new[2]]).unwrap();
    assert_eq!(standing(&vault), Standing::Waits(vec![second.id()]));
    world::keep(&mut vault, &new[0]);
    vault.deposit_manifest(&late).unwrap();
    assert!(vault.open_releases().is_empty() && world::read(&vault, &packs[0]) == Ok(()), "it is void");

    // The next one finds everyone knowing.
    vault.deposit_release(&by_authority(release(&vault, &[&packs[0]], &[]))).unwrap();
    first.knows = 2;
    first.backs_up(&mut vault, &[&new[3]]).unwrap();
    assert_eq!(standing(&vault), Standing::Waits(vec![second.id()]));
    second.knows = 2;
    let last = world.chance.bytes(4096);
    second.backs_up(&mut vault, &[&last]).unwrap();
    assert!(is_gone(&world, &vault, &packs[0]));
    second.knows = 1;
    let old = second.manifest(&[&last]);
    assert!(matches!(vault.deposit_manifest(&old), Err(DepositError::Overtaken { knew: 1, releases: 2 })));
}

fn vault_last(vault: &Vault) -> Option<ObjectId> {
    let mut manifests = vault.log().iter().filter(|leaf| leaf.kind() == Some(ObjectKind::Manifest));
    manifests.next_back().map(|leaf| leaf.id())
}

#[test]
fn a_drive_that_was_away_gives_up_what_was_freed_when_it_is_back() {
    let mut world = World::new(6);
    let (vault, depositor, packs) = filled(&mut world);
    drop(vault);
    let mut drives = world.boxed();
    drives[2] = None;
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    vault.deposit_release(&by_authority(release(&vault, &[&packs[0]], &[depositor.id()]))).unwrap();
    assert_eq!(vault.open_releases()[0].standing, Some(Standing::Followed));
    assert!(!is_gone(&world, &vault, &packs[0]), "one drive has its shard still");
    drop(vault);
    let (mut vault, _) = world.open();
    vault.settle_releases().unwrap();
    assert!(is_gone(&world, &vault, &packs[0]) && vault.open_releases().is_empty());
    assert_eq!(world::read(&vault, &packs[1]), Ok(()));
}

#[test]
fn a_crash_at_any_operation_leaves_a_release_undone_or_done() {
    let mut world = World::new(6);
    let (vault, depositor, packs) = filled(&mut world);
    let bytes = by_authority(release(&vault, &[&packs[0], &packs[1]], &[depositor.id()]));
    drop(vault);
    let before = world.images();
    let (mut vault, _) = world.open();
    world.power.lock().unwrap().used = 0;
    vault.deposit_release(&bytes).unwrap();
    let operations = world.power.lock().unwrap().used;
    drop(vault);
    assert!(operations > 30, "{operations}");
    let (mut undone, mut done) = (0, 0);
    for at in 0..=operations {
        for crash in [Crash::None, Crash::All, Crash::Random] {
            let receipt = world.cut(&before, at, crash, |vault| vault.deposit_release(&bytes).ok());
            let (mut vault, _) = world.open();
            vault.settle_releases().unwrap();
            let here = vault.contains(Verified::hash(&bytes).id());
            assert!(here || receipt.is_none(), "operation {at}, {crash:?}: a receipt means that it is in the log");
            for pack in &packs[..2] {
                let is = if here { is_gone(&world, &vault, pack) } else { world::read(&vault, pack) == Ok(()) };
                assert!(is, "operation {at}, {crash:?}: done is {here}");
            }
            assert_eq!(world::read(&vault, &packs[2]), Ok(()));
            if here {
                done += 1
            } else {
                undone += 1
            }
            // Carried on with, it ends the same way.
            vault.deposit_release(&bytes).unwrap();
            assert!(is_gone(&world, &vault, &packs[0]) && is_gone(&world, &vault, &packs[1]));
        }
    }
    assert!(done > 10 && undone > 10, "{done} done, {undone} undone");
}

/// A manifest with a retention, as the next of a depositor.
fn keeps(depositor: &mut Depositor, vault: &mut Vault, pack: &[u8], retention: Retention) -> ObjectId {
    depositor.retention = retention;
    depositor.backs_up(vault, &[pack]).unwrap();
    depositor.retention = Retention::default();
    depositor.previous.unwrap()
}

#[test]
fn what_is_retained_stays_with_all_before_it_until_the_vault_itself_has_aged() {
    const DAY: u64 = 86_400;
    let mut world = World::new(6);
    let (mut vault, mut depositor, packs) = filled(&mut world);
    let up = |vault: &mut Vault, boot: u8, s: u64| vault.handle_uptime([boot; 16], Duration::from_secs(s));
    let (kept, after) = (world.chance.bytes(4096), world.chance.bytes(4096));
    up(&mut vault, 1, 100);
    let manifest = keeps(&mut depositor, &mut vault, &kept, Retention { s: DAY, ..Retention::default() });
    depositor.backs_up(&mut vault, &[&after]).unwrap();
    let refused = |vault: &mut Vault, pack: &[u8]| {
        let release = release(vault, &[pack], &[depositor.id()]);
        match refusal(vault, release) {
            ReleaseError::Kept { manifest: by, left_s, .. } => (by, left_s),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&mut vault, &kept), (manifest, Some(DAY)));
    assert_eq!(refused(&mut vault, &packs[0]), (manifest, Some(DAY)), "it may lean on it");
    // What came after it is not kept.
    vault.deposit_release(&by_authority(release(&vault, &[&after], &[depositor.id()]))).unwrap();
    up(&mut vault, 1, 100 + DAY / 2);
    assert_eq!(refused(&mut vault, &kept), (manifest, Some(DAY / 2)));
    vault.note_age(Duration::ZERO).unwrap();
    drop(vault);
    // Time between two starts does not count, nor does a clock that runs backwards.
    let (mut vault, _) = world.open();
    assert_eq!(vault.age_s(), DAY / 2);
    up(&mut vault, 2, 50 * DAY);
    up(&mut vault, 2, 3);
    assert_eq!(refused(&mut vault, &kept), (manifest, Some(DAY / 2)));
    up(&mut vault, 2, 50 * DAY + DAY / 2 - 1);
    assert_eq!(refused(&mut vault, &kept), (manifest, Some(1)));
    vault.note_age(Duration::ZERO).unwrap();
    drop(vault);
    // Without its journals the vault has witnessed nothing, and retention begins anew.
    let images = world.images();
    world.drives.iter().for_each(|drive| drive.with(|files| drop(files.remove("journal"))));
    let (mut vault, _) = world.open();
    up(&mut vault, 2, 51 * DAY);
    vault.note_age(Duration::ZERO).unwrap();
    assert_eq!(refused(&mut vault, &kept), (manifest, Some(DAY)));
    drop(vault);
    world.restore(&images);
    let (mut vault, _) = world.open();
    up(&mut vault, 2, 51 * DAY);
    assert_eq!(vault.kept(), Ok(None));
    vault.deposit_release(&by_authority(release(&vault, &[&kept, &packs[0]], &[depositor.id()]))).unwrap();
    assert!(is_gone(&world, &vault, &kept) && is_gone(&world, &vault, &packs[0]));
}

#[test]
fn what_is_held_stays_until_the_authority_lifts_it() {
    let mut world = World::new(6);
    let (mut vault, mut depositor, packs) = filled(&mut world);
    let kept = world.chance.bytes(4096);
    let manifest = keeps(&mut depositor, &mut vault, &kept, Retention { hold: true, ..Retention::default() });
    vault.handle_uptime([1; 16], Duration::from_secs(1));
    vault.handle_uptime([1; 16], Duration::from_secs(1 << 40));
    let free = |vault: &Vault| release(vault, &[&packs[0]], &[depositor.id()]);
    let other = vault.log().iter().find(|leaf| leaf.kind() == Some(ObjectKind::Manifest)).unwrap().id();
    for lifts in [vec![], vec![other]] {
        let lifting = Release { lifts, ..free(&vault) };
        let refused = refusal(&mut vault, lifting);
        assert!(matches!(refused, ReleaseError::Kept { left_s: None, .. }), "{refused:?}");
    }
    let lifting = Release { objects: Vec::new(), lifts: vec![manifest], ..free(&vault) };
    vault.deposit_release(&by_authority(lifting)).unwrap();
    assert_eq!((vault.kept(), world::read(&vault, &packs[0])), (Ok(None), Ok(())), "lifting frees nothing yet");
    let (mut vault, _) = world.open();
    vault.deposit_release(&by_authority(free(&vault))).unwrap();
    assert!(is_gone(&world, &vault, &packs[0]));
}
