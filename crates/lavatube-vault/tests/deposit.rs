//! Depositor cards and manifests: who may leave what, and when.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::sign::PairSigner;
use lavatube_base::{Digests, SessionId, Verified};
use lavatube_format::depositor_card::{CARD_CONTEXT, DepositorCard, SignedCard, depositor_id};
use lavatube_format::manifest::{Leaf, MANIFEST_CONTEXT, Manifest, Retention, SignedManifest, Wrap, root_of};
use lavatube_vault::{DepositError, ObjectKind, StoreError, Vault};
use world::World;

fn card(depositor: &PairSigner, authority: &PairSigner) -> Vec<u8> {
    let card = DepositorCard { label: "laptop".into(), public: depositor.public() };
    let body = card.encode_body();
    let signature = authority.sign(CARD_CONTEXT, &body).unwrap();
    SignedCard { card, body, signature }.encode()
}

fn manifest(depositor: &PairSigner, packs: &[&[u8]]) -> Vec<u8> {
    let leaves: Vec<Leaf> = packs.iter().map(|p| Leaf { class: 0, digests: Digests::of(p) }).collect();
    let manifest = Manifest {
        session: SessionId([1; 16]),
        depositor: depositor_id(&depositor.public()),
        sequence: 1,
        previous: None,
        joins: Vec::new(),
        root: root_of(&leaves),
        leaves,
        wraps: vec![Wrap { key_id: [4; 8], enc: vec![5; 1120], ct: vec![6; 48] }],
        note: vec![7; 32 + 16 + 256],
        tags: Vec::new(),
        retention: Retention::default(),
        releases: 0,
        files: None,
    };
    let body = manifest.encode_body();
    let signature = depositor.sign(MANIFEST_CONTEXT, &body).unwrap();
    SignedManifest { manifest, body, signature }.encode()
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
    assert!(matches!(vault.deposit_card(&card(&depositor, &stranger)), Err(DepositError::Signature(_))));
    vault.deposit_card(&card(&depositor, &world::authority())).unwrap();
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
    vault.deposit_card(&card(&depositor, &world::authority())).unwrap();
    let pack = world.chance.bytes(4096);
    world::store(&mut vault, &pack);
    drop(vault);
    let mut drives = world.boxed();
    drives[..3].iter_mut().for_each(|d| *d = None);
    let (mut vault, _) = Vault::open(drives, Some(world::signer())).unwrap();
    let came = vault.deposit_manifest(&manifest(&depositor, &[&pack]));
    assert!(matches!(came, Err(DepositError::Store(StoreError::Shortfall { .. }))), "{came:?}");
}
