//! Golden evidence: `vectors/evidence-v1.txt`, about `vectors/evidence-v1.file`, with `manifest_files-v1.bin`, whose manifest commits to
//! it. The rescue reader and the client's tests read the same files.
//!
//! ML-DSA signatures are randomised, so they are written once (`cargo test -p lavatube-seal --test golden_evidence -- --ignored`),
//! and then only read and verified.

#![expect(clippy::unwrap_used, reason = "tests")]

use lavatube_base::merkle::{Tree, path_over};
use lavatube_base::sign::EdSigner;
use lavatube_base::{Digests, SessionId, VaultId, Verified};
use lavatube_format::checkpoint::Checkpoint;
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::evidence::{Evidence, Placed};
use lavatube_format::key_file::Secret;
use lavatube_format::log::Leaf;
use lavatube_format::manifest::{Manifest, Note, SignedManifest, root_of};
use lavatube_format::roll::{Committed, FileFacts};
use lavatube_format::shard::ObjectKind;
use lavatube_format::tree::Extent;
use lavatube_seal::{DepositKeys, Root, Session};

const EVIDENCE: &str = include_str!("../../../vectors/evidence-v1.txt");
const FILE: &[u8] = include_bytes!("../../../vectors/evidence-v1.file");
const MANIFEST: &[u8] = include_bytes!("../../../vectors/manifest_files-v1.bin");

fn keys() -> DepositKeys {
    let root = Root::new(Secret::new([7; 32]));
    DepositKeys::new(&root, "default", "golden machine", Secret::new([8; 32]), Secret::new([9; 32])).unwrap()
}

/// A file with a hole from byte 4096 to 8192, where there are zeros.
fn file() -> Vec<u8> {
    let byte = |i: usize| if (4096..8192).contains(&i) { 0 } else { u8::try_from(i * i % 251).unwrap() };
    (0..10_000).map(byte).collect()
}

fn facts() -> FileFacts {
    let file = file();
    let extents = vec![Extent { at: 0, len: 4096 }, Extent { at: 8192, len: 1808 }];
    let stream = [&file[..4096], &file[8192..]].concat();
    FileFacts { len: file.len() as u64, digests: Digests::of(&stream), extents: Some(extents) }
}

/// The file is the 19th of 21 that a session read.
fn build() -> Evidence {
    let (keys, id) = (keys(), SessionId([0x21; 16]));
    let (key, mut given) = (keys.roll_key(), vec![3; 64]);
    let mut entropy = |out: &mut [u8]| out.copy_from_slice(&given.drain(..out.len()).collect::<Vec<_>>());
    let (session, wrap) = Session::begin(&keys, id, &Secret::new([4; 32]), &mut entropy).unwrap();
    let other = |i: u64| FileFacts { len: i, digests: Digests::of(&i.to_le_bytes()), extents: None };
    let all = (0..21).map(|i| if i == 18 { facts() } else { other(i) });
    let hashes: Vec<_> = (0..).zip(all).map(|(i, facts)| facts.leaf(&key.salt(id, i))).collect();
    let committed = Committed { time_s: 1_795_737_600, count: 21, root: lavatube_base::merkle::root_over(&hashes) };
    let manifest = Manifest {
        session: id,
        depositor: keys.depositor(),
        sequence: 1,
        previous: None,
        joins: Vec::new(),
        root: root_of(&[]),
        leaves: Vec::new(),
        wraps: vec![wrap],
        note: session.seal_note(&Note { tenant: "default".into(), snapshots: Vec::new(), marks: Vec::new() }).unwrap(),
        tags: Vec::new(),
        retention: Default::default(),
        releases: 0,
        files: Some(key.commitment(id, &committed)),
    };
    let manifest = keys.sign_manifest(manifest).unwrap();
    let signer = EdSigner::from_seed(&[5; 32]).unwrap();
    let mut log = Tree::default();
    log.push(Leaf::new(ObjectKind::DepositorCard, Verified::hash(&keys.card().encode()).id()));
    log.push(Leaf::new(ObjectKind::Manifest, Verified::hash(&manifest.encode()).id()));
    log.push(Leaf::new(ObjectKind::Manifest, Verified::hash(b"a later one").id()));
    let checkpoint = Checkpoint { vault: VaultId([6; 16]), size: 3, root: log.root(), nonce: Some([1; 16]) };
    Evidence {
        name: Some(b"evidence-v1.file".to_vec()),
        facts: facts(),
        salt: key.salt(id, 18),
        file: Placed { place: 18, path: path_over(&hashes, 18).unwrap() },
        committed,
        blind: key.blind(id),
        manifest,
        card: keys.card().clone(),
        authority: Root::new(Secret::new([7; 32])).authority().unwrap().public(),
        logged: Placed { place: 1, path: log.inclusion(1).unwrap() },
        checkpoint: checkpoint.sign(&signer),
        vault_key: signer.public(),
        made_s: 1_795_824_000,
        token: None,
    }
}

#[test]
#[ignore = "writes the golden files"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the files")]
fn write_the_golden_evidence() {
    let (evidence, vectors) = (build(), concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors"));
    std::fs::write(format!("{vectors}/evidence-v1.txt"), evidence.encode()).unwrap();
    std::fs::write(format!("{vectors}/evidence-v1.file"), file()).unwrap();
    std::fs::write(format!("{vectors}/manifest_files-v1.bin"), evidence.manifest.encode()).unwrap();
}

#[test]
fn the_golden_evidence_is_what_the_same_keys_and_file_make() {
    let stored = Evidence::decode(EVIDENCE.as_bytes()).unwrap();
    let mut made = build();
    // Signatures of ML-DSA are others each time, and what follows from them.
    let SignedManifest { manifest, .. } = &made.manifest;
    assert_eq!(&stored.manifest.manifest, manifest);
    assert_eq!(stored.card.card, made.card.card);
    made.card = SignedCard { ..stored.card.clone() };
    made.manifest = stored.manifest.clone();
    (made.logged, made.checkpoint) = (stored.logged.clone(), stored.checkpoint.clone());
    assert_eq!((stored.clone(), FILE.to_vec()), (made, file()));
    assert_eq!(stored.manifest.encode(), MANIFEST);
    stored.manifest.verify(&stored.card.card.public).unwrap();
    stored.card.verify(&stored.authority).unwrap();
    stored.checkpoint.verify(&stored.vault_key).unwrap();
}
