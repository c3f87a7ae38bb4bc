//! Golden bytes: `vectors/seal-v1.json`, `vectors/manifest-v1.bin`, `manifest_joins-v1.bin`, `manifest_tags-v1.bin` and `tags-v1.bin`, from fixed seeds,
//! kept for ever.
//!
//! The rescue reader is tested from the same files. To write them anew (never for a released version):
//! `cargo test -p lavatube-seal --test golden -- --ignored`. ML-DSA signatures are randomised, so card and manifest are
//! written once and then only read and verified.

#![expect(clippy::unwrap_used, reason = "tests")]

use lavatube_base::{ChunkId, Digests, DriveId, ObjectId, SessionId, VaultId, Verified};
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::key_file::{DepositBody, KeyFile, KeyKind, Secret};
use lavatube_format::mandate::{Mandate, SignedMandate, Task};
use lavatube_format::manifest::{Leaf, Manifest, Mark, Note, Retention, SignedManifest, root_of};
use lavatube_format::pack::{HEADER_LEN, capacity, class_len};
use lavatube_format::release::{Release, ReleaseNote, SignedRelease};
use lavatube_seal::lock::{Costs, lock, unlock, unlocked};
use lavatube_seal::{DepositKeys, Reads, Root, Session, SessionKeys, Unwrap, verify_manifest};
use serde_json::{Value, json};

const TENANT: &str = "default";
const PASSPHRASE: &[u8] = b"lavatube";

const JSON: &str = include_str!("../../../vectors/seal-v1.json");
const MANIFEST: &[u8] = include_bytes!("../../../vectors/manifest-v1.bin");
const JOINING: &[u8] = include_bytes!("../../../vectors/manifest_joins-v1.bin");
const RELEASE: &[u8] = include_bytes!("../../../vectors/release-v1.bin");
const MANDATE: &[u8] = include_bytes!("../../../vectors/mandate-v1.bin");
const KEPT: &[u8] = include_bytes!("../../../vectors/manifest_kept-v1.bin");
const MARKS: &[u8] = include_bytes!("../../../vectors/manifest_marks-v1.bin");
const TAGGED: &[u8] = include_bytes!("../../../vectors/manifest_tags-v1.bin");
const TAGS: &[u8] = include_bytes!("../../../vectors/tags-v1.bin");

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(v: &Value) -> Vec<u8> {
    let s = v.as_str().unwrap();
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
}

/// Byte i is (first + step · i) mod 256: seeds that differ and are easy to write down.
fn pattern<const N: usize>(first: u8, step: u8) -> [u8; N] {
    let mut next = first;
    [(); N].map(|()| {
        let byte = next;
        next = next.wrapping_add(step);
        byte
    })
}

fn root() -> Root {
    Root::new(Secret::new(pattern(0, 1)))
}

/// Everything, with the given card or a newly signed one; and the manifest to sign.
#[expect(clippy::too_many_lines, reason = "most of it is the list of what is golden")]
fn build(card: Option<SignedCard>) -> (Value, DepositKeys, Manifest) {
    let root = root();
    let tenant = root.tenant(TENANT);
    let read = root.read_body(TENANT).unwrap();
    let read_public = root.read_public().unwrap();
    let (ed, ml) = (Secret::new(pattern(0x40, 1)), Secret::new(pattern(0x60, 1)));
    let mut keys = DepositKeys::new(&root, TENANT, "golden machine", ed.clone(), ml.clone()).unwrap();
    if let Some(card) = card {
        keys = DepositKeys::from_body(DepositBody { card, ..keys.body().clone() }).unwrap();
    }
    let session_id = SessionId(pattern(0x10, 3));
    let secret = Secret::new(pattern(0x80, 5));
    let mut given = pattern::<64>(0xc0, 7).to_vec();
    let mut entropy = |out: &mut [u8]| out.copy_from_slice(&given.drain(..out.len()).collect::<Vec<_>>());
    let (session, wrap) = Session::begin(&keys, session_id, &secret, &mut entropy).unwrap();

    let plain: Vec<u8> = pattern::<3984>(1, 11).to_vec();
    assert_eq!(plain.len(), capacity(0));
    let mut pack = vec![0; class_len(0)];
    pack[HEADER_LEN..HEADER_LEN + plain.len()].copy_from_slice(&plain);
    session.pack(0, 0).seal_in_place(&mut pack).unwrap();
    // A pack of four pieces as well, for their nonces.
    let plain_2: Vec<u8> = (0..capacity(2)).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
    let mut pack_2 = vec![0; class_len(2)];
    for (at, byte) in plain_2.iter().enumerate() {
        pack_2[lavatube_format::pack::sealed_position(at)] = *byte;
    }
    session.pack(1, 2).seal_in_place(&mut pack_2).unwrap();
    let chunk = keys.chunk_id_key().id(b"lavatube");
    let note =
        Note { tenant: TENANT.into(), snapshots: vec![(chunk, 0), (ChunkId(pattern(9, 9)), 1)], marks: Vec::new() };
    let sealed_note = session.seal_note(&note).unwrap();
    let leaves = vec![Leaf { class: 0, digests: Digests::of(&pack) }, Leaf { class: 2, digests: Digests::of(&pack_2) }];
    let manifest = Manifest {
        session: session_id,
        depositor: keys.depositor(),
        sequence: 2,
        previous: Some(ObjectId(pattern(0xf0, 1))),
        joins: Vec::new(),
        root: root_of(&leaves),
        leaves,
        wraps: vec![wrap.clone()],
        note: sealed_note.clone(),
        tags: Vec::new(),
        retention: Retention::default(),
        releases: 0,
        files: None,
    };
    let locked = lock(KeyKind::Read, &read.encode(), PASSPHRASE, Costs::FLOOR, pattern(0xa0, 1), pattern(0xb0, 1));
    let deposit_file = unlocked(KeyKind::Deposit, &keys.body().encode()).encode();
    let value = json!({
        "what": "golden bytes of keys and sealing, docs/FORMAT.md sections 2, 3 and 5; all values in hex unless text",
        "root_seed": hex(pattern::<32>(0, 1)),
        "recovery_text": *root.to_recovery_text(),
        "tenant": TENANT,
        "derived": {
            "read_x_wing_seed": hex(read.x_wing_seed.bytes()),
            "psk": hex(tenant.psk.bytes()),
            "chunk_id_key": hex(tenant.chunk_id_key.bytes()),
            "chunker_secret": hex(tenant.chunker_secret.bytes()),
            "authority_ed25519_public": hex(read.authority.ed25519),
            "authority_ml_dsa_65_public": hex(&read.authority.ml_dsa_65),
            "read_public": hex(read_public.to_bytes()),
            "read_key_id": hex(read_public.id()),
        },
        "chunk": { "content_text": "lavatube", "id": hex(chunk) },
        "deposit": {
            "label": "golden machine",
            "ed25519_seed": hex(ed.bytes()),
            "ml_dsa_65_seed": hex(ml.bytes()),
            "ed25519_public": hex(keys.card().card.public.ed25519),
            "ml_dsa_65_public": hex(&keys.card().card.public.ml_dsa_65),
            "depositor": hex(keys.depositor()),
            "card": hex(keys.card().encode()),
            "key_file": *deposit_file,
        },
        "read": {
            "passphrase_text": String::from_utf8_lossy(PASSPHRASE),
            "locked_key_file": *locked.unwrap().encode(),
            "body": hex(&*read.encode()),
        },
        "session": {
            "id": hex(session_id),
            "secret": hex(secret.bytes()),
            "encapsulation_randomness": hex(pattern::<64>(0xc0, 7)),
            "enc": hex(&wrap.enc),
            "ct": hex(&wrap.ct),
        },
        "packs": [
            {
                "number": 0, "class": 0,
                "plaintext_rule": "byte i is (1 + 11 i) mod 256",
                "commitment": hex(session.pack(0, 0).header().commitment),
                "sealed": hex(&pack),
                "blake3": hex(Digests::of(&pack).blake3), "sha256": hex(Digests::of(&pack).sha256),
            },
            {
                "number": 1, "class": 2,
                "plaintext_rule": "byte i is (i * i) mod 251",
                "commitment": hex(session.pack(1, 2).header().commitment),
                "sealed_rule": "seal the plaintext again and compare the digests",
                "blake3": hex(Digests::of(&pack_2).blake3), "sha256": hex(Digests::of(&pack_2).sha256),
            },
        ],
        "note": { "plaintext": hex(note.encode()), "sealed": hex(&sealed_note) },
        "manifest": { "file": "manifest-v1.bin", "root": hex(manifest.root), "body": hex(manifest.encode_body()) },
    });
    (value, keys, manifest)
}

#[test]
#[ignore = "writes the golden files"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the files")]
fn write_golden_files() {
    let (value, keys, manifest) = build(None);
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors");
    std::fs::write(
        format!("{vectors}/seal-v1.json"),
        serde_json::to_string_pretty(&value).unwrap()
            + "
",
    )
    .unwrap();
    std::fs::write(format!("{vectors}/manifest-v1.bin"), keys.sign_manifest(manifest).unwrap().encode()).unwrap();
}

fn golden() -> (Value, Value, DepositKeys, Manifest) {
    let stored: Value = serde_json::from_str(JSON).unwrap();
    let card = SignedCard::decode(&unhex(&stored["deposit"]["card"])).unwrap();
    let (made, keys, manifest) = build(Some(card));
    (stored, made, keys, manifest)
}

#[test]
fn golden_bytes_are_made_the_same_today() {
    let (stored, made, _, _) = golden();
    for (key, value) in stored.as_object().unwrap() {
        assert_eq!(value, &made[key], "{key}");
    }
    assert_eq!(stored, made);
}

#[test]
fn the_golden_manifest_verifies_and_its_session_opens() {
    let (stored, _, _, expected) = golden();
    let root = Root::from_recovery_text(stored["recovery_text"].as_str().unwrap()).unwrap();
    let read = root.read_keys(TENANT).unwrap();
    let manifest = SignedManifest::decode(MANIFEST).unwrap();
    assert_eq!(manifest.manifest, expected);
    let card = SignedCard::decode(&unhex(&stored["deposit"]["card"])).unwrap();
    read.verify_card(&card).unwrap();
    verify_manifest(&manifest, &card.card).unwrap();
    let m = &manifest.manifest;
    let session = read.open_session(m.session, m.depositor, &m.wraps).unwrap();
    let mut pack = unhex(&stored["packs"][0]["sealed"]);
    assert_eq!(Digests::of(&pack), m.leaves[0].digests);
    let len = session.pack(0, m.leaves[0].class).open_pack(&mut pack).unwrap();
    assert_eq!(pack[..len], pattern::<3984>(1, 11));
    assert_eq!(session.open_note(&m.note).unwrap().snapshots.len(), 2);
}

/// The manifest of a session that was cut, which joins two ends of its chain; in all else like the other.
fn joining() -> (DepositKeys, Manifest) {
    let (_, _, keys, manifest) = golden();
    let session = Session::resume(&keys, manifest.session, &Secret::new(pattern(0x80, 5)));
    let note = session.seal_note(&Note { tenant: TENANT.into(), snapshots: Vec::new(), marks: Vec::new() }).unwrap();
    let joins = vec![ObjectId(pattern(0x20, 1)), ObjectId(pattern(0x30, 1))];
    (keys, Manifest { sequence: 9, joins, note, ..manifest })
}

#[test]
#[ignore = "writes the golden file"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_manifest_that_joins() {
    let (keys, manifest) = joining();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/manifest_joins-v1.bin");
    std::fs::write(path, keys.sign_manifest(manifest).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_manifest_that_joins_verifies_and_its_note_is_empty() {
    let (keys, expected) = joining();
    let stored = SignedManifest::decode(JOINING).unwrap();
    assert_eq!(stored.manifest, expected);
    stored.verify(&keys.card().card.public).unwrap();
    let session = Session::resume(&keys, expected.session, &Secret::new(pattern(0x80, 5)));
    assert_eq!(session.open_note(&stored.manifest.note).unwrap().snapshots, []);
}

/// A session without packs that says something of its own snapshot (as no program does, but one session is enough here) and
/// of one of another.
fn marking() -> (DepositKeys, Manifest, SessionKeys) {
    let (_, _, keys, manifest) = golden();
    let session = Session::resume(&keys, SessionId(pattern(0x11, 3)), &Secret::new(pattern(0x81, 5)));
    let wrap = SignedManifest::decode(MARKS).unwrap().manifest.wraps;
    let of = |byte: u8| ChunkId(pattern(byte, 9));
    let other = Session::resume(&keys, manifest.session, &Secret::new(pattern(0x80, 5)));
    let marks = vec![session.mark(of(9), true, 1), session.mark(of(9), false, 2), other.mark(of(7), true, 1)];
    let note = session.seal_note(&Note { tenant: TENANT.into(), snapshots: Vec::new(), marks }).unwrap();
    let (leaves, root) = (Vec::new(), root_of(&[]));
    (keys, Manifest { session: session.session(), sequence: 11, leaves, root, wraps: wrap, note, ..manifest }, session)
}

#[test]
#[ignore = "writes the golden file"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_manifest_with_marks() {
    let (keys, mut manifest, session) = marking();
    let mut given = pattern::<64>(0xc1, 7).to_vec();
    let mut entropy = |out: &mut [u8]| out.copy_from_slice(&given.drain(..out.len()).collect::<Vec<_>>());
    let secret = Secret::new(pattern(0x81, 5));
    manifest.wraps = vec![Session::begin(&keys, session.session(), &secret, &mut entropy).unwrap().1];
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/manifest_marks-v1.bin");
    std::fs::write(path, keys.sign_manifest(manifest).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_manifest_with_marks_verifies_and_only_marks_of_its_own_snapshots_are_right() {
    let (keys, expected, session) = marking();
    let stored = SignedManifest::decode(MARKS).unwrap();
    assert_eq!(stored.manifest, expected);
    stored.verify(&keys.card().card.public).unwrap();
    let note = session.open_note(&stored.manifest.note).unwrap();
    assert_eq!(note.marks.iter().map(|mark| session.is_right(mark)).collect::<Vec<_>>(), [true, true, false]);
    // Whoever does not know the session changes no word of a mark.
    for changed in [Mark { forgotten: false, ..note.marks[0] }, Mark { edition: 2, ..note.marks[0] }] {
        assert!(!session.is_right(&changed));
    }
}

/// The golden manifest, which is to be kept, made by someone who knew three releases.
fn retained() -> (DepositKeys, Manifest) {
    let (_, _, keys, manifest) = golden();
    let retention = Retention { s: 315_576_000, hold: true };
    (keys, Manifest { sequence: 12, retention, releases: 3, ..manifest })
}

#[test]
#[ignore = "writes the golden file"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_manifest_that_is_kept() {
    let (keys, manifest) = retained();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/manifest_kept-v1.bin");
    std::fs::write(path, keys.sign_manifest(manifest).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_manifest_that_is_kept_verifies_and_says_for_how_long() {
    let (keys, expected) = retained();
    let stored = SignedManifest::decode(KEPT).unwrap();
    assert_eq!(stored.manifest, expected);
    stored.verify(&keys.card().card.public).unwrap();
}

/// A release of two packs, after which one snapshot is gone.
fn releasing() -> (Root, Release) {
    let (root, (_, _, keys, _)) = (root(), golden());
    let note = ReleaseNote { tenant: TENANT.into(), snapshots: vec![ChunkId(pattern(9, 9))] };
    let (vault, nonce) = (VaultId([0x17; 16]), pattern(0x33, 5));
    let note = keys.release_keys().seal(vault, &nonce, &note).unwrap();
    let objects = vec![ObjectId(pattern(0x20, 1)), ObjectId(pattern(0x30, 1))];
    let (settled, log) = (vec![keys.depositor()], pattern(0x44, 3));
    (root, Release { vault, nonce, size: 300, root: log, number: 7, objects, settled, note, lifts: Vec::new() })
}

#[test]
#[ignore = "writes the golden file"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_release() {
    let (root, release) = releasing();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/release-v1.bin");
    std::fs::write(path, root.sign_release(release).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_release_verifies_and_its_note_opens() {
    let (root, expected) = releasing();
    let stored = SignedRelease::decode(RELEASE).unwrap();
    assert_eq!(stored.release, expected);
    stored.verify(&root.authority_public().unwrap()).unwrap();
    let keys = root.read_keys(TENANT).unwrap().release_keys();
    assert_eq!(keys.open(&stored.release).unwrap().snapshots, [ChunkId(pattern(9, 9))]);
}

/// What a vault is told: to retire a drive.
fn mandate() -> Mandate {
    Mandate { vault: VaultId([0x17; 16]), number: 300, task: Task::Retire { drive: DriveId([0x22; 16]) } }
}

#[test]
#[ignore = "writes the golden file"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_mandate() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/mandate-v1.bin");
    std::fs::write(path, root().sign_mandate(mandate()).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_mandate_verifies() {
    let stored = SignedMandate::decode(MANDATE).unwrap();
    assert_eq!((&stored.mandate, stored.encode().as_slice()), (&mandate(), MANDATE));
    stored.verify(&root().authority_public().unwrap()).unwrap();
}

#[test]
fn the_golden_key_files_open() {
    let (stored, _, keys, _) = golden();
    let file = KeyFile::decode(stored["read"]["locked_key_file"].as_str().unwrap()).unwrap();
    assert_eq!(unlock(&file, KeyKind::Read, Some(PASSPHRASE)).unwrap().to_vec(), unhex(&stored["read"]["body"]));
    let file = KeyFile::decode(stored["deposit"]["key_file"].as_str().unwrap()).unwrap();
    let body = DepositBody::decode(&unlock(&file, KeyKind::Deposit, None).unwrap()).unwrap();
    assert_eq!(DepositKeys::from_body(body).unwrap().depositor(), keys.depositor());
}

/// The golden manifest, with the tags of its packs.
fn tagged() -> (DepositKeys, Manifest, Vec<u8>) {
    let (keys, _) = joining();
    let manifest = SignedManifest::decode(MANIFEST).unwrap().manifest;
    let value: Value = serde_json::from_str(JSON).unwrap();
    let mut pack_2 = vec![0; class_len(2)];
    for at in 0..capacity(2) {
        pack_2[lavatube_format::pack::sealed_position(at)] = u8::try_from(at * at % 251).unwrap();
    }
    let session = Session::resume(&keys, manifest.session, &Secret::new(pattern(0x80, 5)));
    session.pack(1, 2).seal_in_place(&mut pack_2).unwrap();
    let packs = [unhex(&value["packs"][0]["sealed"]), pack_2];
    assert!(packs.iter().map(|pack| Digests::of(pack)).eq(manifest.leaves.iter().map(|leaf| leaf.digests)));
    let audit = keys.audit_keys();
    let tags: Vec<u8> = packs.iter().flat_map(|pack| audit.tags(Verified::hash(pack).id(), pack)).collect();
    let tags = lavatube_format::tags::encode(&tags);
    (keys, Manifest { sequence: 10, tags: vec![Verified::hash(&tags).id()], ..manifest }, tags)
}

#[test]
#[ignore = "writes vectors/"]
#[expect(clippy::disallowed_methods, reason = "whoever runs it by hand wants the file")]
fn write_the_golden_manifest_with_tags() {
    let (keys, manifest, tags) = tagged();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors");
    std::fs::write(format!("{folder}/tags-v1.bin"), tags).unwrap();
    std::fs::write(format!("{folder}/manifest_tags-v1.bin"), keys.sign_manifest(manifest).unwrap().encode()).unwrap();
}

#[test]
fn the_golden_manifest_with_tags_verifies_and_they_are_those_of_its_packs() {
    let (keys, expected, tags) = tagged();
    let stored = SignedManifest::decode(TAGGED).unwrap();
    assert_eq!((stored.manifest.clone(), TAGS), (expected, &tags[..]));
    stored.verify(&keys.card().card.public).unwrap();
    // Tags of some of its packs are none.
    let mut few = stored.manifest;
    few.tags.push(few.tags[0]);
    assert!(keys.sign_manifest(few).is_err());
}
