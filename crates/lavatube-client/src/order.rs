//! Which manifest waits for which.
//!
//! A snapshot builds on packs of those before it, and without their manifests nobody can open these. So a manifest waits
//! until those that it follows are there, and what can be seen in the vault is whole, whatever packets overtake each other
//! and whatever becomes of this machine meanwhile. It does not wait for what cannot come. It must not know the link.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::ObjectId;
use lavatube_format::manifest::SignedManifest;

/// The manifests that wait, and what they follow.
#[derive(Debug, Default)]
pub struct Order {
    follows: BTreeMap<ObjectId, Vec<ObjectId>>,
    /// For how long a manifest has waited for one that seems to be held over there for ever.
    waited: BTreeMap<ObjectId, Duration>,
}

/// How it is with a manifest that another one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It is there, is no matter, or will never be there.
    Passed,
    /// It comes after its packs.
    Comes,
    /// Its packs are all there, and it is not, or that is not known yet.
    Lags,
}

impl Order {
    /// Forgets all that wait no more.
    pub fn retain(&mut self, here: &BTreeSet<ObjectId>) {
        self.follows.retain(|id, _| here.contains(id));
        self.waited.retain(|id, _| here.contains(id));
    }

    /// A manifest waits.
    pub fn learn(&mut self, id: ObjectId, signed: &SignedManifest) {
        self.follows.insert(id, signed.manifest.follows().collect());
    }

    /// Whether a manifest waits, where `before` tells how it is with others.
    pub fn waits(&self, id: ObjectId, mut before: impl FnMut(ObjectId) -> Before) -> bool {
        let waited = self.waited.get(&id).copied().unwrap_or_default();
        self.follows.get(&id).into_iter().flatten().any(|other| match before(*other) {
            Before::Passed => false,
            Before::Comes => true,
            Before::Lags => waited < PATIENCE,
        })
    }

    /// So much time has passed while the line was open; `before` tells how it is with the second, which the first follows.
    pub fn pass(&mut self, time: Duration, mut before: impl FnMut(ObjectId, ObjectId) -> Before) {
        for (id, follows) in &self.follows {
            if follows.iter().any(|other| before(*id, *other) == Before::Lags) {
                *self.waited.entry(*id).or_default() += time;
            }
        }
    }
}

/// How long a manifest lags behind its packs at most: the other end asks its vault every ten seconds.
const PATIENCE: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_waits_for_what_comes_and_not_for_ever_for_what_lags() {
        let [one, two, three] = [1, 2, 3].map(|n| ObjectId([n; 32]));
        let follows = BTreeMap::from([(one, vec![]), (two, vec![one]), (three, vec![two, one])]);
        let mut order = Order { follows, waited: BTreeMap::new() };
        assert!(!order.waits(one, |_| Before::Comes) && order.waits(two, |_| Before::Comes));
        assert!(!order.waits(three, |_| Before::Passed));
        assert!(order.waits(three, |id| if id == one { Before::Comes } else { Before::Passed }));
        assert!(order.waits(two, |_| Before::Lags));
        order.pass(PATIENCE / 2, |_, _| Before::Lags);
        order.pass(PATIENCE, |_, _| Before::Comes);
        assert!(order.waits(two, |_| Before::Lags), "while its packs came, it did not lag");
        order.pass(PATIENCE / 2, |_, _| Before::Lags);
        assert!(!order.waits(two, |_| Before::Lags) && order.waits(two, |_| Before::Comes));
        order.retain(&BTreeSet::from([three]));
        assert!(!order.waits(two, |_| Before::Comes));
    }
}
