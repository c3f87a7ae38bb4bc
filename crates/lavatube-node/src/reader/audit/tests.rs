//! Vaults that lie: answers of yesterday, made-up sums, packs swapped or passed over. None is believed, and what they lie about is named.

use std::path::PathBuf;
use std::time::Duration;

use lavatube_client::backup::{Request, Sizes};
use lavatube_format::audit::Place;
use lavatube_format::manifest::Manifest;
use lavatube_format::manifest::Retention;

use super::*;
use crate::depositor::{self, Places, VaultPlan};
use crate::embedded::DriveSpec;
use crate::far_vault::Asking;
use crate::keyring::Keyring;
use crate::pipeline::Effort;
use crate::reader::Reader;
use crate::waybill::Priority;

/// A machine with a vault and a few sessions in it.
fn machine(folder: &std::path::Path, sessions: usize) -> Places {
    let base = std::fs::canonicalize(folder).unwrap();
    let places = Places { vault: base.join("vault"), state: base.join("state"), keys: base.join("keys") };
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let plan = VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() };
    depositor::init(&places, &plan, Duration::ZERO).unwrap();
    let src = base.join("src");
    std::fs::create_dir(&src).unwrap();
    for n in 0..sessions {
        let noise: Vec<u8> = (0..90_000u32).map(|i| (i.wrapping_mul(2_654_435_761 + n as u32) >> 13) as u8).collect();
        std::fs::write(src.join(format!("f{n}")), noise).unwrap();
        let request = Request {
            roots: vec![src.to_str().unwrap().trim_start_matches('/').as_bytes().to_vec()],
            exclude: &|_, _| false,
            one_file_system: false,
            read_all: false,
            allow_empty: false,
            accept_shrink: false,
            host: "box".into(),
            tags: Vec::new(),
            description: None,
            program: "test".into(),
            now: crate::clock::wall_now(),
            sizes: Sizes::DEFAULT,
        };
        let effort = Effort { level: 1, workers: 1 };
        depositor::backup(
            &places,
            &request,
            Retention::default(),
            Priority::Normal,
            effort,
            Duration::ZERO,
            &Meter::default(),
        )
        .unwrap();
    }
    places
}

fn reader(places: &Places) -> Reader {
    let keys = Keyring::at(&places.keys).read(None, &mut |_| None).unwrap();
    Reader::open(places, Box::new(keys), "test", false, Asking::default(), Duration::ZERO).unwrap()
}

/// An honest vault, and what is done to its answers.
struct Liar<'v> {
    vault: &'v EmbeddedVault,
    lie: &'v mut dyn FnMut(&Challenge, Answer) -> Answer,
}

impl Proves for Liar<'_> {
    fn prove(&mut self, challenge: &Challenge) -> Result<Answer, FarError> {
        let mut prover = Prover::new(challenge.clone());
        while prover.step(&self.vault.read()) {}
        Ok((self.lie)(challenge, prover.answer()))
    }
}

/// What an audit of these sessions finds when the vault lies so; and all that it should have proved.
fn audited(places: &Places, lie: &mut dyn FnMut(&Challenge, Answer) -> Answer) -> (Report, Vec<Bad>) {
    let reader = reader(places);
    let session = reader.session(&Meter::default()).unwrap();
    let Side::Here(holding) = &reader.side else { panic!("it is here") };
    let known = Known::new(&session.sessions, reader.side.state(), reader.keys.audit_keys(), |_| true).unwrap();
    let mut n = 0u32;
    let mut nonce = || {
        n += 1;
        let mut nonce = [0; 32];
        nonce[..4].copy_from_slice(&n.to_le_bytes());
        nonce
    };
    let whole = known.challenge(nonce());
    let report = known.audit(whole, &mut Liar { vault: &holding.vault, lie }, &mut nonce).unwrap();
    let mut all: Vec<Bad> = Vec::new();
    for vaulted in session.sessions.all() {
        let Manifest { leaves, .. } = &vaulted.manifest;
        let packs = leaves.iter().map(|leaf| Some(leaf.id()));
        all.extend(packs.chain([None]).map(|pack| Bad { manifest: vaulted.id, pack, why: Fault::Wrong }));
    }
    all.sort_by_key(|bad| (bad.manifest, bad.pack));
    (report, all)
}

#[test]
fn an_honest_vault_passes_and_an_answer_to_another_nonce_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let places = machine(dir.path(), 3);
    let mut first = None;
    let (report, all) = audited(&places, &mut |_, answer| first.get_or_insert(answer).clone());
    assert_eq!((report.bad.len(), report.answers), (0, 1));
    assert_eq!(report.manifests + report.packs, all.len() as u64);
    let yesterday = first.unwrap();
    // The same as an answer to all that comes: in each part nothing is proved.
    let (report, all) = audited(&places, &mut |challenge, honest| {
        if challenge.nonce[..4] == [1, 0, 0, 0] {
            // Nonces of this test begin anew, as those of an audit never do.
            return Answer { tags: honest.tags ^ 1, ..honest };
        }
        Answer {
            upto: honest.upto,
            manifests: honest.manifests,
            packs: honest.packs,
            bytes: honest.bytes,
            ..yesterday.clone()
        }
    });
    assert_eq!((report.manifests, report.packs, report.bad), (0, 0, all));
}

#[test]
fn one_pack_that_is_not_what_it_was_is_found_among_all() {
    let dir = tempfile::tempdir().unwrap();
    let places = machine(dir.path(), 4);
    let (_, all) = audited(&places, &mut |_, answer| answer);
    for (n, target) in all.iter().enumerate().filter(|(_, bad)| bad.pack.is_some()) {
        let reader = reader(&places);
        let session = reader.session(&Meter::default()).unwrap();
        let leaves = &session.sessions.all()[session.sessions.position(target.manifest).unwrap()].manifest.leaves;
        let position = leaves.iter().position(|leaf| Some(leaf.id()) == target.pack).unwrap() as u32 + 1;
        let place = Place { manifest: target.manifest, position };
        drop(session);
        drop(reader);
        // One bit of one of its blocks is wrong: in the sum that is one of the numbers, somewhere.
        let (report, _) = audited(&places, &mut |challenge, mut answer| {
            if (challenge.from..answer.upto).contains(&place) {
                answer.sum[n * 16] ^= challenge.weights(place, 1)[0] | 1;
            }
            answer
        });
        assert_eq!(report.bad, *std::slice::from_ref(target));
        assert_eq!(report.manifests + report.packs + 1, all.len() as u64, "all else is proved");
        assert!(report.answers <= 2 * 64, "{}", report.answers);
    }
}

#[test]
fn a_vault_that_passes_over_something_or_counts_what_is_not_there_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let places = machine(dir.path(), 2);
    type Lie = fn(&Challenge, Answer) -> Answer;
    let lies: [Lie; 4] = [
        |challenge, _| Answer::new(challenge.upto),
        |_, answer| Answer { packs: answer.packs + 1, ..answer },
        |_, answer| Answer { tags: 0, sum: vec![0; answer.sum.len()], ..answer },
        |challenge, _| Answer::new(challenge.from),
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let (report, all) = audited(&places, &mut { lie });
        assert_eq!((report.manifests, report.packs), (0, 0), "lie {n}");
        assert_eq!(report.bad.len(), all.len(), "lie {n}: {:?}", report.bad);
    }
}

#[test]
fn an_audit_that_was_killed_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let places = machine(dir.path(), 3);
    let reader = reader(&places);
    let session = reader.session(&Meter::default()).unwrap();
    let Side::Here(holding) = &reader.side else { panic!("it is here") };
    let state = reader.side.state();
    let known = Known::new(&session.sessions, state, reader.keys.audit_keys(), |_| true).unwrap();
    let mut prover = Prover::new(known.challenge([77; 32]));
    for _ in 0..4 {
        assert!(prover.step(&holding.vault.read()));
    }
    audits::keep_open(state, &prover.progress()).unwrap();
    // What was read before counts and is not read again, even where it is gone by now.
    let (first, manifest) = (session.sessions.all().iter().min_by_key(|v| v.id)).map(|v| (v.id, &v.manifest)).unwrap();
    assert!(prover.progress().answer.upto > Place { manifest: first, position: 1 });
    let gone = manifest.leaves[0].id().to_string();
    let drives = (0..3).map(|n| places.vault.join(format!("d{n}/shards/{}", &gone[..2])));
    let files = drives.flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.to_str().unwrap().contains(&gone)).collect();
    assert_eq!(files.len(), 3);
    files.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let meter = Meter::default();
    let report = session.audit(&meter).unwrap();
    assert_eq!((report.bad.len(), report.answers), (0, 1));
    assert_eq!(meter.bytes.now(), report.bytes);
    assert!(audits::open(state).is_none());
    // The next one begins anew, and finds it.
    let report = session.audit(&Meter::default()).unwrap();
    assert_eq!(report.bad.iter().map(|bad| bad.why).collect::<Vec<_>>(), [Fault::Lost]);
}
