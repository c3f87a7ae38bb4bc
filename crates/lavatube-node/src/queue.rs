//! The queue of what waits for a far vault, for people: by snapshot, how much of it is left, and when it will be there.
//!
//! Values only. When something will be there is what the contact plan says of its bytes and of all before it, with what
//! loss and framing add; nobody decides by it. It must not know how the link works.

use std::time::Duration;

use lavatube_base::{Instant, ObjectId};
use lavatube_link::ContactPlan;

use crate::waybill::Waybill;

/// A session that waits: a manifest and its packs.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// The manifest; `None` for packs that belong to none yet.
    pub manifest: Option<ObjectId>,
    /// What is known of it.
    pub waybill: Option<Waybill>,
    /// Objects that are left.
    pub objects: u64,
    /// Their bytes.
    pub len: u64,
    /// When the receipt of the last one is expected; `None` when the plan has no room for it.
    pub there_at: Option<Instant>,
}

/// Says of each of `queue`, in the order of sending, when it will be there: `loss` of the datagrams are lost, a receipt
/// takes `round_trip`.
pub fn expect(queue: &mut [Waiting], plan: &ContactPlan, now: Instant, loss: f64, round_trip: Duration) {
    let mut before: u64 = 0;
    for waiting in queue {
        before += on_the_wire(waiting.len, loss);
        waiting.there_at = plan.when_sent(now, before.max(1)).map(|at| at + round_trip);
    }
}

/// Bytes of IP packets that carry `len` bytes of objects.
pub fn on_the_wire(len: u64, loss: f64) -> u64 {
    // Beside framing and loss the last packs need a little more than what was lost.
    let factor = 1.0 / (PAYLOAD_SHARE * (1.0 - loss.clamp(0.0, 0.9)));
    (len as f64 * factor) as u64
}

/// What of an IP packet is an object's: see FORMAT section 11.
const PAYLOAD_SHARE: f64 = 0.957;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_for_all_before_it() {
        let waiting = |len| Waiting { manifest: None, waybill: None, objects: 1, len, there_at: None };
        let mut queue = [waiting(957_000), waiting(957_000), waiting(957_000)];
        let s = |n: u64| Instant(n * 1_000_000_000);
        let plan = ContactPlan::parse("contact +0 +1 up 8000000\ncontact +10 +11 up 8000000", s(0), 1, 2).unwrap();
        expect(&mut queue, &plan, s(0), 0.0, Duration::from_secs(3));
        let at: Vec<_> = queue.iter().map(|w| w.there_at.map(|at| at.0 / 1_000_000)).collect();
        assert_eq!(at, [Some(4_000), Some(14_000), None]);
        expect(&mut queue, &plan, s(0), 0.5, Duration::from_secs(3));
        assert_eq!(queue[0].there_at.map(|at| at.0 / 1_000_000), Some(14_000));
    }
}
