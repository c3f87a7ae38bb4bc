//! What is worth more than what: where room ends, what is worth least gives up first, and what is worth most is repaired first.
//!
//! Cards, manifests, packs and tags are worth what hangs on them. Packs that came with a session which its maker called precious keep a shard more
//! than others. It must not know what is done for it. Step 18 of the walk.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use lavatube_base::ObjectId;
use lavatube_format::manifest::{Preciousness, SignedManifest};

use crate::{ObjectKind, Vault};

/// Packs that are more or less precious than most, as the manifests say of the log of a size.
#[derive(Debug, Clone, Default)]
pub(crate) struct Precious {
    /// Entries of the log, and objects that went.
    upto: Option<(u64, usize)>,
    objects: Arc<BTreeMap<ObjectId, Preciousness>>,
}

/// What hangs on an object, the least number first: without cards no manifest is believed, without releases what was freed looks lost,
/// without a manifest none of its packs can be opened, and tags only prove that packs are there.
pub(crate) fn worth(kind: ObjectKind) -> u8 {
    match kind {
        ObjectKind::DepositorCard | ObjectKind::Release => 0,
        ObjectKind::Manifest => 1,
        ObjectKind::Pack | ObjectKind::Remnant => 2,
        ObjectKind::Tags => 3,
    }
}

impl Precious {
    /// How an object that outlives `spare` further losses stands beside others of its kind: as one that outlives a loss less, when it is precious, and a
    /// loss more, when it is the least so. So all sink together, the precious ones a step behind.
    //= FORMAT#F49
    pub(crate) fn standing(&self, id: ObjectId, spare: usize) -> usize {
        spare
            + match self.objects.get(&id) {
                Some(Preciousness::High) => 0,
                Some(Preciousness::Normal) | None => 1,
                Some(Preciousness::Low) => 2,
            }
    }
}

impl Vault {
    /// What the manifests say now. Those that cannot be read say nothing.
    pub(crate) fn precious(&self) -> Precious {
        let mut known = self.precious.lock().unwrap_or_else(PoisonError::into_inner);
        let upto = Some((self.index.log.size(), self.index.released.len()));
        if known.upto != upto {
            *known = Precious { upto, objects: Arc::new(self.look_what_is_precious()) };
        }
        known.clone()
    }

    fn look_what_is_precious(&self) -> BTreeMap<ObjectId, Preciousness> {
        let mut out: BTreeMap<ObjectId, Preciousness> = BTreeMap::new();
        for object in self.objects_of(ObjectKind::Manifest) {
            let signed = self.read_small(object.id).and_then(|bytes| SignedManifest::decode(&bytes).ok());
            let Some(manifest) = signed.map(|signed| signed.manifest) else { continue };
            let own = manifest.retention.precious;
            if own != Preciousness::Normal {
                // Of several that name it the one that values it most counts.
                manifest.leaves.iter().for_each(|leaf| {
                    out.entry(leaf.id()).and_modify(|known| *known = own.min(*known)).or_insert(own);
                });
            }
        }
        // What stays of a pack is worth what that was.
        let stays = self.index.thin.iter().filter_map(|(pack, remnant)| Some((*remnant, *out.get(pack)?)));
        let stays: Vec<_> = stays.collect();
        out.extend(stays);
        out
    }
}
