//! Depositor cards and manifests: who may leave what, and when.

mod world;

use lavatube_base::Verified;
use lavatube_base::sign::PairSigner;
use lavatube_vault::{DepositError, ObjectKind, StoreError};
use world::World;

fn manifest(depositor: &PairSigner, packs: &[&[u8]]) -> Vec<u8> {
    world::signed(world::manifest(depositor, world::leaves(packs)), depositor)
}

#[test]
fn a_manifest_is_taken_from_a_certified_depositor_once_all_its_packs_are_durable() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let depositor = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
    let stranger = PairSigner::from_seeds(&[13; 32], &[14; 32]).unwrap();
    let (a, b) = (world.chance.bytes(4096), world.chance.bytes(4096));
    let signed = manifest(&depositor, &[&a, &b]);

    assert!(matches!(vault.deposit_manifest(&signed), Err(DepositError::UnknownDepositor(_))));
    assert!(matches!(vault.deposit_card(&world::card(&depositor, &stranger)), Err(DepositError::Signature(_))));
    vault.deposit_card(&world::card(&depositor, &world::authority())).unwrap();
    world::store(&mut vault, &a);
    let missing = vec![Verified::hash(&b).id()];
    assert_eq!(vault.deposit_manifest(&signed), Err(DepositError::MissingPacks { missing }));
    world::store(&mut vault, &b);
    let receipt = vault.deposit_manifest(&signed).unwrap();
    receipt.verify(&vault.vault_key()).unwrap();
    assert_eq!(receipt.body.kind, ObjectKind::Manifest);
    assert_eq!(vault.deposit_manifest(&signed), Ok(receipt.clone()));

    let mut forged = signed.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(vault.deposit_manifest(&forged), Err(DepositError::Signature(_))));
    assert!(matches!(vault.deposit_manifest(&signed[..last]), Err(DepositError::Malformed(_))));
    assert!(matches!(vault.deposit_manifest(&manifest(&stranger, &[&a])), Err(DepositError::UnknownDepositor(_))));

    // The card is found again after opening, also with two drives gone.
    world.drives[0].delete_all();
    let (mut vault, _) = world.open();
    assert_eq!(vault.deposit_manifest(&signed), Ok(receipt));
}

#[test]
fn while_too_few_drives_are_there_nobody_is_called_a_stranger() {
    let mut world = World::new(6);
    let mut vault = world.create(4, 2);
    let depositor = PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap();
    vault.deposit_card(&world::card(&depositor, &world::authority())).unwrap();
    let pack = world.chance.bytes(4096);
    world::store(&mut vault, &pack);
    drop(vault);
    let mut drives = world.boxed();
    drives[..3].iter_mut().for_each(|d| *d = None);
    let (mut vault, _) = world::open(drives, Some(world::signer())).unwrap();
    let came = vault.deposit_manifest(&manifest(&depositor, &[&pack]));
    assert!(matches!(came, Err(DepositError::Store(StoreError::Shortfall { .. }))), "{came:?}");
}
