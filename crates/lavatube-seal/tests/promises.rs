//! Promises of `docs/THREATS.md` that rest on keys, each tried rather than believed.

#![expect(clippy::unwrap_used, reason = "tests")]

use lavatube_base::sign::PairSigner;
use lavatube_base::{ChunkId, ObjectId, SessionId};
use lavatube_format::depositor_card::SignedCard;
use lavatube_format::key_file::{DepositBody, ReadBody, Secret};
use lavatube_format::manifest::{Leaf, Manifest, Note, Retention, SignedManifest, Wrap, root_of};
use lavatube_format::pack::class_len;
use lavatube_seal::{DepositKeys, ReadKeys, Reads, Root, SealError, Session, SessionKeys, Unwrap, verify_manifest};

const SESSION: SessionId = SessionId([7; 16]);

fn root() -> Root {
    Root::new(Secret::new([0x42; 32]))
}

fn depositor(n: u8) -> DepositKeys {
    DepositKeys::new(&root(), "default", "laptop", Secret::new([n; 32]), Secret::new([n + 1; 32])).unwrap()
}

/// A session as the vault has it: a sealed pack, a signed manifest.
struct Finished {
    pack: Vec<u8>,
    manifest: SignedManifest,
}

fn finish(keys: &DepositKeys) -> Finished {
    let mut n = 0u8;
    let mut entropy = |out: &mut [u8]| {
        out.iter_mut().for_each(|b| {
            n = n.wrapping_mul(5).wrapping_add(17);
            *b = n;
        })
    };
    let (session, wrap) = Session::begin(keys, SESSION, &Secret::new([0x99; 32]), &mut entropy).unwrap();
    let mut pack = vec![0x77; class_len(0)];
    session.pack(0, 0).seal_in_place(&mut pack).unwrap();
    let leaves = vec![Leaf { class: 0, digests: lavatube_base::Digests::of(&pack) }];
    let note = Note { tenant: "default".into(), snapshots: vec![], marks: vec![] };
    let manifest = Manifest {
        session: SESSION,
        depositor: keys.depositor(),
        sequence: 2,
        previous: Some(ObjectId([1; 32])),
        joins: Vec::new(),
        root: root_of(&leaves),
        leaves,
        wraps: vec![wrap],
        note: session.seal_note(&note).unwrap(),
        tags: Vec::new(),
        retention: Retention::default(),
        releases: 0,
        files: None,
    };
    Finished { pack, manifest: keys.sign_manifest(manifest).unwrap() }
}

fn open(session: &SessionKeys, pack: &[u8]) -> Result<usize, SealError> {
    session.pack(0, 0).open_pack(&mut pack.to_vec())
}

/// What a reader does before it believes a manifest: once for each card, then for each manifest.
fn believe(read: &ReadKeys, manifest: &SignedManifest, card: &SignedCard) -> Result<(), SealError> {
    read.verify_card(card)?;
    verify_manifest(manifest, &card.card)
}

#[test]
fn a_finished_session_opens_with_the_read_key() {
    let keys = depositor(1);
    let Finished { pack, manifest } = finish(&keys);
    let manifest = SignedManifest::decode(&manifest.encode()).unwrap();
    let read = root().read_keys("default").unwrap();
    believe(&read, &manifest, keys.card()).unwrap();
    let m = &manifest.manifest;
    let session = read.open_session(m.session, m.depositor, &m.wraps).unwrap();
    assert!(open(&session, &pack).is_ok());
    assert_eq!(session.open_note(&m.note).unwrap().tenant, "default");
}

#[test]
fn p2_no_32_bytes_of_a_deposit_key_open_a_finished_session() {
    let keys = depositor(1);
    let Finished { pack, manifest } = finish(&keys);
    let m = &manifest.manifest;
    let file = keys.body().encode();
    let windows = || file.windows(32).map(|w| Secret::new(w.try_into().unwrap()));
    // As the session's secret, under the PSK the thief has; and the session's secret is nowhere in the file.
    for guess in windows() {
        assert_ne!(guess.bytes(), &[0x99; 32]);
        let session = SessionKeys::derive(SESSION, &keys.body().psk, &guess);
        assert!(open(&session, &pack).is_err());
        assert!(session.open_note(&m.note).is_err());
    }
    // As the read key itself: every secret of the file, every tenth window of the rest, under the wrap's own key id.
    let body = keys.body();
    let secrets = [&body.psk, &body.chunk_id_key, &body.chunker_secret, &body.ed25519_seed, &body.ml_dsa_65_seed]
        .map(Secret::clone);
    for guess in secrets.into_iter().chain(windows().step_by(10)) {
        let thief = ReadKeys::from_body(ReadBody {
            tenant: body.tenant.clone(),
            psk: body.psk.clone(),
            chunk_id_key: body.chunk_id_key.clone(),
            x_wing_seed: guess,
            authority: root().authority_public().unwrap(),
        })
        .unwrap();
        assert!(thief.open_session(SESSION, m.depositor, &m.wraps).is_err());
        let relabelled: Vec<_> =
            m.wraps.iter().map(|w| Wrap { key_id: thief.read_public().id(), ..w.clone() }).collect();
        assert!(thief.open_session(SESSION, m.depositor, &relabelled).is_err());
    }
}

#[test]
fn p2_the_root_and_the_read_key_are_nowhere_in_a_deposit_key() {
    let file = depositor(1).body().encode();
    let read = root().read_body("default").unwrap();
    for secret in [&[0x42; 32], read.x_wing_seed.bytes()] {
        assert!(!file.windows(32).any(|w| w == secret));
    }
    let authority = root().authority_public().unwrap().ed25519;
    assert!(!file.windows(32).any(|w| w == authority), "not even the authority's public key is needed");
}

#[test]
fn p2_one_session_opens_no_other() {
    let keys = depositor(1);
    let Finished { pack, .. } = finish(&keys);
    // The thief caught the secret of the running session.
    let running = Session::resume(&keys, SessionId([8; 16]), &Secret::new([0xaa; 32]));
    assert!(open(&running, &pack).is_err());
    let as_if = Session::resume(&keys, SESSION, &Secret::new([0xaa; 32]));
    assert!(open(&as_if, &pack).is_err());
}

#[test]
fn p3_a_depositor_cannot_sign_for_another_or_certify_itself() {
    let (one, two) = (depositor(1), depositor(3));
    let read = root().read_keys("default").unwrap();
    let foreign = finish(&one).manifest.manifest;
    assert!(matches!(two.sign_manifest(foreign.clone()), Err(SealError::Misuse(_))));
    // Signed anyway, with two's key, it is believed with neither card.
    let signer = PairSigner::from_seeds(&[3; 32], &[4; 32]).unwrap();
    let body = foreign.encode_body();
    let signature = signer.sign(lavatube_format::manifest::MANIFEST_CONTEXT, &body).unwrap();
    let forged = SignedManifest { manifest: foreign, body, signature };
    assert!(matches!(believe(&read, &forged, one.card()), Err(SealError::Untrusted { .. })));
    assert!(matches!(believe(&read, &forged, two.card()), Err(SealError::Refused(_))));
    // A card signed by the depositor itself, or by the authority of another archive.
    let mut card = two.card().clone();
    card.signature = signer.sign(lavatube_format::depositor_card::CARD_CONTEXT, &card.body).unwrap();
    assert!(matches!(read.verify_card(&card), Err(SealError::Untrusted { .. })));
    let other = Root::new(Secret::new([1; 32]));
    assert!(other.read_keys("default").unwrap().verify_card(two.card()).is_err());
}

#[test]
fn a_deposit_key_with_the_card_of_another_machine_is_refused() {
    let (one, two) = (depositor(1), depositor(3));
    let mut body = one.body().clone();
    body.card = two.card().clone();
    assert!(matches!(DepositKeys::from_body(body), Err(SealError::Refused(_))));
    let again = DepositKeys::from_body(DepositBody::decode(&one.body().encode()).unwrap()).unwrap();
    assert_eq!(again.depositor(), one.depositor());
}

#[test]
fn a_manifest_that_no_reader_would_take_is_not_signed() {
    let keys = depositor(1);
    let mut m = finish(&keys).manifest.manifest;
    m.root[0] ^= 1;
    assert!(matches!(keys.sign_manifest(m), Err(SealError::Malformed(_))));
}

#[test]
fn p9_breaking_one_signature_algorithm_forges_nothing() {
    let keys = depositor(1);
    let good = finish(&keys).manifest;
    let read = root().read_keys("default").unwrap();
    believe(&read, &good, keys.card()).unwrap();
    // Whoever broke Ed25519 has a good signature of that kind over anything, but none of the other; and the reverse.
    let mut changed = good.manifest.clone();
    changed.sequence = 3;
    let both = keys.sign_manifest(changed).unwrap();
    let mut broke_ed = both.clone();
    broke_ed.signature.ml_dsa_65 = good.signature.ml_dsa_65.clone();
    let mut broke_ml = both.clone();
    broke_ml.signature.ed25519 = good.signature.ed25519;
    for forged in [broke_ed, broke_ml] {
        assert!(matches!(believe(&read, &forged, keys.card()), Err(SealError::Untrusted { .. })));
    }
    let mut card = keys.card().clone();
    card.signature.ed25519 = depositor(3).card().signature.ed25519;
    assert!(read.verify_card(&card).is_err());
    let mut card = keys.card().clone();
    card.signature.ml_dsa_65 = depositor(3).card().signature.ml_dsa_65.clone();
    assert!(read.verify_card(&card).is_err());
}

#[test]
fn p9_breaking_one_half_of_the_wrap_or_all_of_it_opens_nothing() {
    let keys = depositor(1);
    let Finished { pack, manifest } = finish(&keys);
    let m = &manifest.manifest;
    let read = root().read_keys("default").unwrap();
    // Both halves of X-Wing count: a wrap with the ML-KEM or the X25519 part of another one does not open.
    let mut entropy = |out: &mut [u8]| out.fill(0x31);
    let secret = Secret::new([0x99; 32]);
    let other = Session::wrap(read.read_public(), SESSION, m.depositor, &secret, &mut entropy).unwrap();
    for range in [0..1088, 1088..1120] {
        let mut mixed = m.wraps[0].clone();
        mixed.enc[range.clone()].copy_from_slice(&other.enc[range]);
        assert!(read.open_session(SESSION, m.depositor, &[mixed]).is_err());
    }
    // X-Wing broken altogether gives the session's secret, and that is not enough without the tenant's PSK.
    let without_psk = SessionKeys::derive(SESSION, &Secret::new([0; 32]), &secret);
    assert!(matches!(open(&without_psk, &pack), Err(SealError::WrongKey(_))));
    let other_tenant = SessionKeys::derive(SESSION, &root().tenant("other").psk, &secret);
    assert!(matches!(open(&other_tenant, &pack), Err(SealError::WrongKey(_))));
}

#[test]
fn an_empty_note_has_keys_of_its_own_and_is_always_the_same() {
    let session = SessionKeys::derive(SessionId([1; 16]), &Secret::new([2; 32]), &Secret::new([3; 32]));
    let note = |snapshots| Note { tenant: "default".into(), snapshots, marks: vec![] };
    let (none, some) = (note(vec![]), note(vec![(ChunkId([4; 24]), 0)]));
    let sealed = |note: &Note| session.seal_note(note).unwrap();
    assert_eq!(sealed(&none), sealed(&none), "sealing it again tells nothing");
    assert_ne!(sealed(&none)[..32], sealed(&some)[..32], "they are sealed under two keys");
    for note in [none, some] {
        assert_eq!(session.open_note(&sealed(&note)).unwrap(), note);
    }
}
