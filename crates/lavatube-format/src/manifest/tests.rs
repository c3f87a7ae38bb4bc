use super::*;
use lavatube_base::sign::PairSigner;
use proptest::prelude::*;

fn leaf(n: u8) -> Leaf {
    Leaf { class: n % PACK_CLASSES, digests: Digests::of(&[n]) }
}

fn manifest(leaves: u8) -> Manifest {
    let leaves: Vec<_> = (0..leaves).map(leaf).collect();
    Manifest {
        session: SessionId([1; 16]),
        depositor: DepositorId([2; 32]),
        sequence: 7,
        previous: Some(ObjectId([3; 32])),
        joins: Vec::new(),
        root: root_of(&leaves),
        leaves,
        wraps: vec![Wrap { key_id: [4; 8], enc: vec![5; ENC_LEN], ct: vec![6; CT_LEN] }],
        note: vec![7; NOTE_OVERHEAD + NOTE_PADDING],
        tags: Vec::new(),
        retention: Retention::default(),
        releases: 0,
        files: None,
    }
}

fn signed(m: &Manifest) -> (SignedManifest, PairPublic) {
    let signer = PairSigner::from_seeds(&[1; 32], &[2; 32]).unwrap();
    let body = m.encode_body();
    let signature = signer.sign(MANIFEST_CONTEXT, &body).unwrap();
    (SignedManifest { manifest: m.clone(), body, signature }, signer.public())
}

#[test]
fn a_manifest_survives_and_verifies() {
    let (sm, public) = signed(&manifest(5));
    let again = SignedManifest::decode(&sm.encode()).unwrap();
    assert_eq!(again, sm);
    again.verify(&public).unwrap();
}

#[test]
fn a_manifest_that_joins_ends_of_its_chain_survives_up_to_the_limit() {
    let id = |n: usize| ObjectId([9 + n as u8; 32]);
    let mut m = manifest(2);
    m.joins = (0..CHAIN_JOINS_MAX).map(id).collect();
    assert_eq!(Manifest::decode_body(&m.encode_body()), Ok(m.clone()));
    m.joins.push(id(CHAIN_JOINS_MAX));
    assert!(Manifest::decode_body(&m.encode_body()).is_err());
    for joins in [vec![id(1), id(0)], vec![id(1), id(1)], vec![ObjectId([3; 32])]] {
        m.joins = joins;
        assert!(Manifest::decode_body(&m.encode_body()).is_err(), "{:?}", m.joins);
    }
    m.joins = vec![id(0)];
    m.previous = None;
    assert!(Manifest::decode_body(&m.encode_body()).is_err());
}

#[test]
fn the_first_manifest_has_none_before_and_a_later_one_may_know_of_none() {
    let mut m = manifest(0);
    m.sequence = 1;
    assert!(Manifest::decode_body(&m.encode_body()).is_err());
    m.previous = None;
    assert_eq!(Manifest::decode_body(&m.encode_body()), Ok(m.clone()));
    m.sequence = 2;
    assert_eq!(Manifest::decode_body(&m.encode_body()), Ok(m.clone()));
    m.sequence = 0;
    assert!(Manifest::decode_body(&m.encode_body()).is_err());
}

#[test]
fn every_field_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 6] = [
        ("root", |m| m.root[0] ^= 1),
        ("class", |m| {
            m.leaves[1].class = PACK_CLASSES;
            m.root = root_of(&m.leaves);
        }),
        ("enc", |m| m.wraps[0].enc.push(0)),
        ("ct", |m| m.wraps[0].ct.truncate(47)),
        ("note", |m| m.note.push(0)),
        ("empty note", |m| m.note.truncate(NOTE_OVERHEAD)),
    ];
    for (what, change) in changes {
        let mut m = manifest(3);
        change(&mut m);
        assert!(Manifest::decode_body(&m.encode_body()).is_err(), "{what}");
    }
}

#[test]
fn the_root_binds_class_order_and_both_digests() {
    let leaves = [leaf(1), leaf(2), leaf(3)];
    let root = root_of(&leaves);
    let mut other = leaves;
    other.swap(0, 1);
    assert_ne!(root_of(&other), root);
    let mut other = leaves;
    other[2].class ^= 1;
    assert_ne!(root_of(&other), root);
    let mut other = leaves;
    other[2].digests.sha256[31] ^= 1;
    assert_ne!(root_of(&other), root);
    assert_ne!(root_of(&leaves[..2]), root);
}

#[test]
fn a_manifest_at_the_limit_is_read_and_one_past_it_is_not() {
    let mut m = manifest(1);
    let fixed = m.encode_body().len() - m.note.len();
    m.note = vec![0; (MANIFEST_LEN_MAX - fixed - 10 - NOTE_OVERHEAD) / NOTE_PADDING * NOTE_PADDING + NOTE_OVERHEAD];
    assert!(m.encode_body().len() <= MANIFEST_LEN_MAX);
    assert!(Manifest::decode_body(&m.encode_body()).is_ok());
    m.note.extend_from_slice(&[0; NOTE_PADDING]);
    assert!(m.encode_body().len() > MANIFEST_LEN_MAX);
    assert!(Manifest::decode_body(&m.encode_body()).is_err());
    assert!(SignedManifest::decode(&signed(&m).0.encode()).is_err());
}

#[test]
fn cbor_in_another_form_is_refused() {
    let body = manifest(0).encode_body();
    // Key 3's value 7 written with one byte more.
    let at = body.windows(2).position(|w| w == [3, 7]).unwrap();
    let mut long = body.clone();
    long.splice(at + 1..at + 2, [0x18, 7]);
    assert!(Manifest::decode_body(&long).is_err());
    let mut trailing = body.clone();
    trailing.push(0);
    assert!(Manifest::decode_body(&trailing).is_err());
    let mut indefinite = body;
    indefinite[0] = 0xbf;
    indefinite.push(0xff);
    assert!(Manifest::decode_body(&indefinite).is_err());
}

#[test]
fn an_array_that_promises_more_than_the_input_is_refused_without_allocating() {
    let mut body = manifest(0).encode_body();
    let at = body.windows(2).position(|w| w == [5, 0x80]).unwrap();
    body.splice(at + 1..at + 2, [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(Manifest::decode_body(&body).is_err());
}

#[test]
fn notes_are_padded_so_that_few_snapshots_look_like_none() {
    let none = Note { tenant: "default".into(), snapshots: vec![], marks: vec![] };
    let some = Note {
        tenant: "default".into(),
        snapshots: vec![(ChunkId([9; 24]), 4), (ChunkId([8; 24]), u32::MAX)],
        marks: vec![],
    };
    assert_eq!(none.encode().len(), NOTE_PADDING);
    assert_eq!(some.encode().len(), NOTE_PADDING);
    assert_eq!(Note::decode(&none.encode()), Ok(none.clone()));
    assert_eq!(Note::decode(&some.encode()), Ok(some));
    let mut dirty = none.encode();
    dirty[255] = 1;
    assert!(Note::decode(&dirty).is_err());
    let mut long = none.encode();
    long.resize(512, 0);
    assert!(Note::decode(&long).is_err());
    assert!(Note::decode(&none.encode()[..255]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_manifest_survives(n in 0u8..40, sequence in 2u64.., wraps in 0usize..4, pad in 1usize..4, session: [u8; 16]) {
        let mut m = manifest(n);
        m.session = SessionId(session);
        m.sequence = sequence;
        m.wraps = vec![m.wraps[0].clone(); wraps];
        m.note = vec![1; NOTE_OVERHEAD + pad * NOTE_PADDING];
        prop_assert_eq!(Manifest::decode_body(&m.encode_body()), Ok(m));
    }

    #[test]
    fn any_note_survives(tenant in "\\PC{0,40}", snapshots in proptest::collection::vec((any::<[u8; 24]>(), any::<u32>()), 0..30),
                         marks in proptest::collection::vec((any::<[u8; 24]>(), any::<bool>(), any::<u64>(), any::<[u8; 32]>()), 0..30)) {
        let mark = |(id, forgotten, edition, proof)| Mark { snapshot: ChunkId(id), forgotten, edition, proof };
        let snapshots = snapshots.into_iter().map(|(id, p)| (ChunkId(id), p)).collect();
        let note = Note { tenant, snapshots, marks: marks.into_iter().map(mark).collect() };
        let bytes = note.encode();
        prop_assert!(bytes.len().is_multiple_of(NOTE_PADDING));
        prop_assert_eq!(Note::decode(&bytes), Ok(note));
    }

    #[test]
    fn a_changed_byte_is_refused_or_decodes_to_what_it_says(at in 0usize..500, bit in 0u8..8) {
        let mut body = manifest(3).encode_body();
        let at = at % body.len();
        body[at] ^= 1 << bit;
        if let Ok(m) = Manifest::decode_body(&body) {
            prop_assert_eq!(m.encode_body(), body);
        }
    }

    #[test]
    fn no_input_makes_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = SignedManifest::decode(&bytes);
        let _ = Manifest::decode_body(&bytes);
        let _ = Note::decode(&bytes);
    }
}

#[test]
fn a_note_has_as_many_marks_as_it_may_and_no_more() {
    let mark = |n: usize| Mark { snapshot: ChunkId([1; 24]), forgotten: true, edition: n as u64, proof: [2; 32] };
    let mut note = Note { tenant: String::new(), snapshots: vec![], marks: (0..MARKS_MAX).map(mark).collect() };
    assert_eq!(Note::decode(&note.encode()), Ok(note.clone()));
    note.marks.push(mark(0));
    assert!(Note::decode(&note.encode()).is_err());
    // Neither forgotten nor not.
    note.marks.truncate(1);
    let mut bytes = note.encode();
    let at = bytes.windows(2).position(|w| w == [1, 0]).unwrap();
    bytes[at] = 2;
    assert!(Note::decode(&bytes).is_err());
}
