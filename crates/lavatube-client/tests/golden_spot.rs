//! A spot proof that a real vault gave, kept for ever: `vectors/spot_real-v1.bin`. The rescue reader checks the same file with a
//! BLAKE3 of its own, so that neither is right alone.

#![expect(clippy::unwrap_used, reason = "tests")]

use lavatube_client::spot::{Shown, Spot, Void};
use lavatube_format::manifest::SignedManifest;
use lavatube_format::spot::SpotProof;

const PROOF: &[u8] = include_bytes!("../../../vectors/spot_real-v1.bin");

fn judge(bytes: &[u8]) -> Result<Shown, Void> {
    let proof = SpotProof::decode(bytes).unwrap();
    let manifests: Vec<_> = proof.manifests.iter().map(|m| SignedManifest::decode(m).unwrap().manifest).collect();
    Spot::new(&manifests, proof.answer.nonce, proof.answer.slices.len()).judge(&proof.answer)
}

#[test]
fn the_golden_spot_proof_shows_what_its_nonce_picks() {
    let shown = judge(PROOF).unwrap();
    assert_eq!((shown.asked, shown.packs, shown.missed.len()), (4, 6, 0));
    assert_eq!(SpotProof::decode(PROOF).unwrap().encode(), PROOF);
    // A bit in the last slice's hashes.
    let mut changed = PROOF.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(judge(&changed).unwrap().missed.len(), 1);
}
