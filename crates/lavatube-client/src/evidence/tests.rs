//! Golden evidence is believed, and nothing that was changed in it.

use lavatube_base::Digests;
use lavatube_format::evidence::Evidence;
use lavatube_format::tree::Extent;

use super::*;

const EVIDENCE: &str = include_str!("../../../../vectors/evidence-v1.txt");
const FILE: &[u8] = include_bytes!("../../../../vectors/evidence-v1.file");

fn golden() -> Evidence {
    Evidence::decode(EVIDENCE.as_bytes()).unwrap()
}

fn of_file(bytes: &[u8]) -> FileFacts {
    let extents = golden().facts.extents.unwrap();
    let data = extents.iter().flat_map(|e| bytes.get(e.at as usize..(e.at + e.len) as usize).unwrap_or_default());
    let stream: Vec<u8> = data.copied().collect();
    FileFacts { len: bytes.len() as u64, digests: Digests::of(&stream), extents: Some(extents) }
}

#[test]
fn golden_evidence_proves_its_file_and_no_other() {
    let evidence = golden();
    judge(&evidence).unwrap();
    compare(&evidence, &of_file(FILE)).unwrap();
    let mut flipped = FILE.to_vec();
    flipped[9000] ^= 1;
    assert_eq!(compare(&evidence, &of_file(&flipped)), Err(Flaw::Altered("content")));
    let longer = Flaw::Longer { found: 10_001, said: 10_000 };
    assert_eq!(compare(&evidence, &of_file(&[FILE, b"x"].concat())), Err(longer));
    let shorter = Flaw::Shorter { found: 9999, said: 10_000 };
    assert_eq!(compare(&evidence, &of_file(&FILE[..9999])), Err(shorter));
    let filled = FileFacts { extents: None, ..of_file(FILE) };
    assert!(matches!(compare(&evidence, &filled), Err(Flaw::Altered(_))));
}

/// One of two hash functions being broken makes no other file pass.
#[test]
fn both_digests_must_fit() {
    let evidence = golden();
    let (mut one, mut other) = (of_file(FILE), of_file(FILE));
    one.digests.blake3[0] ^= 1;
    other.digests.sha256[0] ^= 1;
    assert_eq!(compare(&evidence, &one), Err(Flaw::Altered("BLAKE3 digest")));
    assert_eq!(compare(&evidence, &other), Err(Flaw::Altered("SHA-256 digest")));
}

#[test]
fn each_link_of_the_chain_is_looked_at() {
    let mut all: Vec<(&str, Evidence)> = Vec::new();
    let mut with = |name, change: &dyn Fn(&mut Evidence)| {
        let mut evidence = golden();
        change(&mut evidence);
        // As it would come in a text, so that the root is that of leaf and path.
        all.push((name, Evidence::decode(evidence.encode().as_bytes()).unwrap_or(evidence)));
    };
    with("length", &|e| e.facts.len += 1);
    with("blake3", &|e| e.facts.digests.blake3[3] ^= 1);
    with("sha256", &|e| e.facts.digests.sha256[3] ^= 1);
    with("extents", &|e| e.facts.extents = Some(vec![Extent { at: 0, len: 5904 }]));
    with("salt", &|e| e.salt[0] ^= 1);
    with("place", &|e| e.file.place = 17);
    with("path", &|e| e.file.path[0][0] ^= 1);
    with("count", &|e| e.committed.count = 22);
    with("date", &|e| e.committed.time_s += 1);
    with("blind", &|e| e.blind[9] ^= 1);
    let found: Vec<_> = all.drain(..).map(|(name, e)| (name, judge(&e))).collect();
    for (name, verdict) in found {
        assert_eq!(verdict, Err(Flaw::NotCommitted), "{name}");
    }
    let verdict = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = golden();
        change(&mut evidence);
        judge(&evidence).unwrap_err()
    };
    assert_eq!(verdict(&|e| e.manifest.manifest.files = None), Flaw::NoCommitment);
    assert!(matches!(verdict(&|e| e.manifest.signature.ed25519[0] ^= 1), Flaw::Manifest(_)));
    assert!(matches!(verdict(&|e| e.manifest.signature.ml_dsa_65[0] ^= 1), Flaw::Manifest(_)));
    assert!(matches!(verdict(&|e| *e.manifest.body.last_mut().unwrap() ^= 1), Flaw::Manifest(_)));
    assert!(matches!(verdict(&|e| e.card.signature.ml_dsa_65[0] ^= 1), Flaw::Card(_)));
    assert!(matches!(verdict(&|e| e.authority.ed25519[0] ^= 1), Flaw::Card(_)));
    assert!(matches!(verdict(&|e| e.vault_key[0] ^= 1), Flaw::Checkpoint(_)));
    assert_eq!(verdict(&|e| e.logged.place = 0), Flaw::NotLogged);
    assert_eq!(verdict(&|e| e.logged.path[0][0] ^= 1), Flaw::NotLogged);
    assert_eq!(verdict(&|e| e.checkpoint.checkpoint.root[0] ^= 1), Flaw::NotLogged);
}

/// Somebody has keys of his own, and signs anything with them: only the fingerprints tell.
#[test]
fn fingerprints_tell_whose_keys_they_are() {
    let proven = judge(&golden()).unwrap();
    assert_eq!((proven.authority.len(), proven.vault.len()), (64, 64));
    assert_ne!(proven.authority, proven.vault);
}
