//! Bundles of the standard's network: read, and opened with keys that do not fit.
//!
//! What is read without security must be read again the same when it is written.

use lavatube_bundle::{Bundle, Mac, PairKeys, echo};
use lavatube_fuzz::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = Bundle::decode(bytes) {
        let _ = echo(&bundle, 1);
        if let Ok(written) = bundle.encode() {
            assert_eq!(Bundle::decode(&written).expect("it was just written"), bundle);
        }
    }
    let _ = Bundle::verify(bytes, &Mac::Sha256([7; 32]));
    let _ = Bundle::open(bytes, &PairKeys { mac: Mac::Sha256([7; 32]), cipher: [7; 32] });
});
