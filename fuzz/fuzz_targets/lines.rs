//! What people write or copy: contact plans, pair lines, recovery words.
//!
//! A pair line that is read must come out the same when it is written and read again, and a plan must be in order.

use lavatube_base::Instant;
use lavatube_format::pair_line::PairLine;
use lavatube_format::recovery;
use lavatube_fuzz::fuzz_target;
use lavatube_link::ContactPlan;

fuzz_target!(|bytes: &[u8]| {
    let Some((&kind, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kind % 3 {
        0 => {
            if let Ok(plan) = ContactPlan::parse(text, Instant(1_700_000_000_000_000_000), 1, 2) {
                for at in [0, 1_700_000_000_000_000_000, u64::MAX] {
                    let _ = (plan.at(Instant(at)), plan.next(Instant(at)));
                }
            }
        }
        1 => {
            if let Ok(line) = PairLine::decode(text) {
                assert_eq!(PairLine::decode(&line.encode()), Ok(line));
            }
        }
        _ => drop(recovery::decode(text)),
    }
});
