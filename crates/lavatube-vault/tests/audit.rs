//! Proofs: what an answer sums up, against sums that are made one by one, and what it names.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod world;

use lavatube_base::sign::PairSigner;
use lavatube_base::{Denial, Digests, ObjectId, Refusal, SessionId, Verified};
use lavatube_codes::field::element;
use lavatube_codes::naive;
use lavatube_format::audit::{Answer, Challenge, Place, Progress};
use lavatube_format::depositor_card::depositor_id;
use lavatube_format::manifest::{Leaf, Manifest};
use lavatube_format::pack::class_len;
use lavatube_format::tags;
use lavatube_vault::audit::Prover;
use lavatube_vault::{ObjectKind, Vault};
use world::World;

/// A session in the vault: its manifest's bytes, its packs', and their tags, which need not be true here.
struct Told {
    id: ObjectId,
    manifest: Vec<u8>,
    packs: Vec<Vec<u8>>,
    tags: Vec<u8>,
}

fn depositor() -> PairSigner {
    PairSigner::from_seeds(&[11; 32], &[12; 32]).unwrap()
}

fn session(world: &mut World, vault: &mut Vault, sequence: u64, classes: &[u8], tagged: bool) -> Told {
    let packs: Vec<Vec<u8>> = classes.iter().map(|c| world.chance.bytes(class_len(*c))).collect();
    packs.iter().for_each(|pack| world::keep(vault, pack));
    let leaves: Vec<Leaf> =
        classes.iter().zip(&packs).map(|(c, p)| Leaf { class: *c, digests: Digests::of(p) }).collect();
    let of_packs = world.chance.bytes(tags::tags_of(&leaves) as usize * 16);
    let mut ids = Vec::new();
    if tagged {
        let object = tags::encode(&of_packs);
        vault.store(ObjectKind::Tags, Verified::hash(&object)).unwrap();
        ids.push(Verified::hash(&object).id());
    }
    let manifest = Manifest {
        session: SessionId([sequence as u8; 16]),
        sequence,
        previous: None.or((sequence > 1).then_some(ObjectId([9; 32]))),
        tags: ids,
        ..world::manifest(&depositor(), leaves)
    };
    let bytes = world::signed(manifest, &depositor());
    vault.deposit_manifest(&bytes).unwrap();
    Told { id: Verified::hash(&bytes).id(), manifest: bytes, packs, tags: if tagged { of_packs } else { Vec::new() } }
}

fn told(world: &mut World) -> (Vault, Vec<Told>) {
    let mut vault = world.create(4, 2);
    vault.deposit_card(&world::card(&depositor(), &world::authority())).unwrap();
    let mut all = vec![
        session(world, &mut vault, 1, &[0, 1, 2, 3], true),
        session(world, &mut vault, 2, &[2], false),
        session(world, &mut vault, 3, &[0; 9], true),
        session(world, &mut vault, 4, &[1], true),
    ];
    all.sort_by_key(|told| told.id);
    (vault, all)
}

fn challenge(upto: u64) -> Challenge {
    let depositors = vec![(depositor_id(&depositor().public()), upto)];
    Challenge { nonce: [42; 32], from: Place::START, upto: Place::END, depositors }
}

fn prove(vault: &Vault, challenge: Challenge) -> Answer {
    let mut prover = Prover::new(challenge);
    while prover.step(vault) {}
    prover.answer()
}

fn numbers(weights: &[u8]) -> Vec<u128> {
    weights.chunks(16).map(element).collect()
}

/// The sums, one product after the other, of what `counts`.
fn naively(all: &[Told], challenge: &Challenge, counts: impl Fn(Place) -> bool) -> (Vec<u8>, u128) {
    let (mut blocks, mut of_tags) = (vec![0; 16 << 10], 0);
    let mut add = |place: Place, bytes: &[u8]| {
        let weights = numbers(&challenge.weights(place, tags::blocks(bytes.len() as u64)));
        let sum = naive::weighted_sum(16 << 10, &weights, bytes);
        blocks.iter_mut().zip(sum).for_each(|(b, s)| *b ^= s);
    };
    for told in all {
        let place = Place { manifest: told.id, position: 0 };
        if counts(place) {
            add(place, &told.manifest);
        }
        let mut rest = &told.tags[..];
        for (pack, position) in told.packs.iter().zip(1..) {
            let place = Place { manifest: told.id, position };
            let n = tags::blocks(pack.len() as u64) as usize * 16;
            if rest.is_empty() {
                continue;
            }
            let (own, more) = rest.split_at(n);
            rest = more;
            if counts(place) {
                add(place, pack);
                let weights = numbers(&challenge.weights(place, n as u64 / 16));
                of_tags = own.chunks(16).zip(weights).fold(of_tags, |sum, (t, w)| sum ^ naive::dot(element(t), w));
            }
        }
    }
    (blocks, of_tags)
}

#[test]
fn an_answer_is_the_sum_of_all_blocks_and_tags_however_often_it_was_begun() {
    let mut world = World::new(6);
    let (vault, all) = told(&mut world);
    let challenge = challenge(99);
    let whole = prove(&vault, challenge.clone());
    let want = naively(&all, &challenge, |_| true);
    assert_eq!((&whole.sum, whole.tags), (&want.0, want.1));
    assert_eq!((whole.manifests, whole.packs, whole.upto), (4, 14, Place::END));
    assert!(whole.bad.is_empty());

    // A process for each step.
    let mut progress = Progress { answer: Answer::new(challenge.from), challenge: challenge.clone() };
    loop {
        let mut prover = Prover::resumed(Progress::decode(&progress.encode()).unwrap());
        let more = prover.step(&vault);
        progress = prover.progress();
        if !more {
            break;
        }
    }
    assert_eq!(progress.answer, whole);

    // Parts add up to the whole, wherever it is cut.
    let places: Vec<Place> =
        all.iter().flat_map(|t| [0, 1, 3].map(|p| Place { manifest: t.id, position: p })).collect();
    for cut in places {
        let parts = [
            prove(&vault, Challenge { upto: cut, ..challenge.clone() }),
            prove(&vault, Challenge { from: cut, ..challenge.clone() }),
        ];
        let sum: Vec<u8> = parts[0].sum.iter().zip(&parts[1].sum).map(|(a, b)| a ^ b).collect();
        assert_eq!((sum, parts[0].tags ^ parts[1].tags), (whole.sum.clone(), whole.tags), "{cut:?}");
    }
}

#[test]
fn only_what_is_asked_about_is_in_it() {
    let mut world = World::new(6);
    let (vault, all) = told(&mut world);
    let challenge = challenge(1);
    let first = all.iter().find(|t| t.packs.len() == 4).unwrap().id;
    let answer = prove(&vault, challenge.clone());
    let want = naively(&all, &challenge, |place| place.manifest == first);
    assert_eq!((answer.sum, answer.tags, answer.manifests, answer.packs), (want.0, want.1, 1, 4));
    let nobody = prove(&vault, Challenge { depositors: Vec::new(), ..challenge });
    assert_eq!(nobody, Answer::new(Place::END));
}

#[test]
fn what_cannot_be_read_is_named_and_in_no_sum() {
    let mut world = World::new(6);
    let (vault, all) = told(&mut world);
    drop(vault);
    let lost = all.iter().find(|t| t.packs.len() == 9).unwrap();
    let whole = all.iter().find(|t| t.packs.len() == 4).unwrap();
    let gone = Verified::hash(&lost.packs[4]).id();
    let of_tags = Verified::hash(&tags::encode(&whole.tags)).id();
    for drive in &world.drives {
        drive.with(|files| {
            files.retain(|name, _| !name.contains(&gone.to_string()) && !name.contains(&of_tags.to_string()))
        });
    }
    let (vault, _) = world.open();
    let challenge = challenge(99);
    let answer = prove(&vault, challenge.clone());
    let mut bad = vec![(Place { manifest: lost.id, position: 5 }, Denial::Lost)];
    bad.extend((1..=4).map(|position| (Place { manifest: whole.id, position }, Denial::Refused(Refusal::Object))));
    bad.sort_by_key(|(place, _)| *place);
    assert_eq!(answer.bad, bad);
    let is_bad = |place| bad.iter().any(|(bad, _)| *bad == place);
    let want = naively(&all, &challenge, |place| !is_bad(place));
    assert_eq!((answer.sum, answer.tags, answer.packs), (want.0, want.1, 9));
}
