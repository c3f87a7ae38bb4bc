use super::*;
use crate::depositor_card::{CARD_CONTEXT, DepositorCard};
use lavatube_base::sign::PairSigner;
use proptest::prelude::*;

fn deposit() -> DepositBody {
    let authority = PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap();
    let public = PairSigner::from_seeds(&[3; 32], &[4; 32]).unwrap().public();
    let card = DepositorCard { label: "laptop".into(), public };
    let body = card.encode_body();
    let signature = authority.sign(CARD_CONTEXT, &body).unwrap();
    DepositBody {
        tenant: "default".into(),
        psk: Secret::new([0xa1; 32]),
        chunk_id_key: Secret::new([0xa2; 32]),
        chunker_secret: Secret::new([0xa3; 32]),
        read_public: vec![5; READ_PUBLIC_LEN],
        ed25519_seed: Secret::new([3; 32]),
        ml_dsa_65_seed: Secret::new([4; 32]),
        card: SignedCard { card, body, signature },
    }
}

fn read() -> ReadBody {
    ReadBody {
        tenant: "default".into(),
        psk: Secret::new([0xa1; 32]),
        chunk_id_key: Secret::new([0xa2; 32]),
        x_wing_seed: Secret::new([0xa4; 32]),
        authority: PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap().public(),
    }
}

const LOCK: Lock = Lock { salt: [9; 16], memory_kib: 256 << 10, passes: 3, lanes: 1 };

#[test]
fn every_body_survives() {
    let bytes = deposit().encode();
    assert_eq!(*DepositBody::decode(&bytes).unwrap().encode(), *bytes);
    let bytes = read().encode();
    assert_eq!(*ReadBody::decode(&bytes).unwrap().encode(), *bytes);
    let bytes = VaultBody { ed25519_seed: Secret::new([7; 32]) }.encode();
    assert_eq!(VaultBody::decode(&bytes).unwrap().ed25519_seed.bytes(), &[7; 32]);
    assert_eq!(*bytes, [&[0xa1, 1, 0x58, 32][..], &[7; 32]].concat());
    let bytes = LinkBody { x25519: Secret::new([8; 32]) }.encode();
    assert_eq!(LinkBody::decode(&bytes).unwrap().x25519.bytes(), &[8; 32]);
}

#[test]
fn a_body_of_another_kind_is_refused() {
    assert!(ReadBody::decode(&deposit().encode()).is_err());
    assert!(DepositBody::decode(&read().encode()).is_err());
    assert!(VaultBody::decode(&read().encode()).is_err());
    assert!(LinkBody::decode(&read().encode()).is_err());
}

#[test]
fn tenant_names_have_a_limit() {
    for (len, good) in [(0, false), (1, true), (TENANT_LEN_MAX, true), (TENANT_LEN_MAX + 1, false)] {
        let body = ReadBody { tenant: "t".repeat(len), ..read() };
        assert_eq!(ReadBody::decode(&body.encode()).is_ok(), good, "{len}");
    }
}

#[test]
fn a_file_survives_with_and_without_a_lock() {
    for lock in [None, Some(LOCK)] {
        let file = KeyFile { kind: KeyKind::Deposit, lock, body: deposit().encode() };
        let again = KeyFile::decode(&file.encode()).unwrap();
        assert_eq!((again.kind, again.lock, &*again.body), (KeyKind::Deposit, lock, &*file.body));
    }
}

#[test]
fn armour_and_map_must_name_one_kind() {
    let text = KeyFile { kind: KeyKind::Vault, lock: None, body: Zeroizing::new(vec![0; 40]) }.encode();
    assert!(KeyFile::decode(&text.replace("VAULT", "READ")).is_err());
    assert!(KeyFile::decode(&text.replace("BEGIN LAVATUBE VAULT", "BEGIN LAVATUBE READ")).is_err());
    assert!(KeyFile::decode(&text.replace("VAULT", "HOUSE")).is_err());
}

#[test]
fn lock_costs_have_a_floor_and_a_ceiling() {
    let cases = [
        (64 << 10, 1, 1, true),
        ((64 << 10) - 1, 1, 1, false),
        (64 << 10, 0, 1, false),
        (64 << 10, 1, 0, false),
        (4 << 20, 16, 16, true),
        ((4 << 20) + 1, 16, 16, false),
        (4 << 20, 17, 16, false),
        (4 << 20, 16, 17, false),
        (u32::MAX, u32::MAX, u32::MAX, false),
    ];
    for (memory_kib, passes, lanes, good) in cases {
        let lock = Lock { memory_kib, passes, lanes, ..LOCK };
        let text = KeyFile { kind: KeyKind::Read, lock: Some(lock), body: Zeroizing::new(vec![0; 60]) }.encode();
        assert_eq!(KeyFile::decode(&text).is_ok(), good, "{lock:?}");
    }
}

#[test]
fn a_locked_body_has_at_least_nonce_and_tag() {
    for (len, good) in [(LOCK_OVERHEAD - 1, false), (LOCK_OVERHEAD, true)] {
        let text = KeyFile { kind: KeyKind::Read, lock: Some(LOCK), body: Zeroizing::new(vec![0; len]) }.encode();
        assert_eq!(KeyFile::decode(&text).is_ok(), good, "{len}");
    }
}

#[test]
fn a_text_beyond_the_limit_is_refused() {
    let text = KeyFile { kind: KeyKind::Vault, lock: None, body: Zeroizing::new(vec![0; 40]) }.encode();
    let padded = format!("{}{}", *text, " ".repeat(KEY_FILE_MAX - text.len()));
    assert!(KeyFile::decode(&padded).is_ok());
    assert!(KeyFile::decode(&format!("{padded} ")).is_err());
}

#[test]
fn the_aad_is_the_map_without_its_body() {
    let aad = lock_aad(KeyKind::Read, &LOCK);
    assert_eq!(aad[..8], [0xa3, 0, 1, 1, 2, 2, 0xa4, 1]);
    let file = KeyFile { kind: KeyKind::Read, lock: Some(LOCK), body: Zeroizing::new(vec![1; 30]) };
    assert_eq!(file.encode_map()[0], 0xa4);
    assert_eq!(file.encode_map()[1..aad.len()], aad[1..]);
}

#[test]
fn debug_shows_no_secret() {
    let file = KeyFile { kind: KeyKind::Deposit, lock: None, body: deposit().encode() };
    let shown = format!("{:?} {:?} {:?}", deposit(), read(), file).to_lowercase();
    for secret in ["161, 161", "a1a1", "162, 162", "a2a2", "163, 163", "164, 164", "a4a4", "3, 3, 3, 3", "4, 4, 4, 4"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

proptest! {
    #[test]
    fn no_input_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,200}") {
        let _ = DepositBody::decode(&bytes);
        let _ = ReadBody::decode(&bytes);
        let _ = VaultBody::decode(&bytes);
        let _ = KeyFile::decode(&text);
        let _ = KeyFile::decode(&armour::wrap("READ", &bytes));
    }
}
