//! The key of rolls: it gives the leaf of each file of a session a salt of its own (FORMAT section 19).
//!
//! Whoever deposits and whoever reads has it. One salt tells nothing of another, so that evidence of one file is none about
//! the others. It must not know files. Steps 6 and 21 of the walk.

use lavatube_base::SessionId;
use lavatube_base::digest::keyed_stream;
use lavatube_format::key_file::Secret;
use lavatube_format::roll::{Committed, Salt};

use crate::kdf::{expand32, extract};

/// The key of the rolls of one tenant.
pub struct RollKey(Secret);

impl std::fmt::Debug for RollKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RollKey")
    }
}

impl RollKey {
    /// That of the tenant with this PSK.
    pub fn of(psk: &Secret) -> Self {
        Self(expand32(&extract(LABEL, psk.bytes()), &[b"salt"]))
    }

    /// The salt of the leaf at `place`.
    pub fn salt(&self, session: SessionId, place: u64) -> Salt {
        let mut out = [0; 32];
        keyed_stream(self.0.bytes(), &[&session.0, &place.to_le_bytes()], &mut out);
        out
    }

    /// What hides the commitment: the salt of a place that no leaf has.
    pub fn blind(&self, session: SessionId) -> Salt {
        self.salt(session, u64::MAX)
    }

    /// What the manifest of `session` says of the files it read.
    pub fn commitment(&self, session: SessionId, committed: &Committed) -> [u8; 32] {
        committed.sealed(&self.blind(session))
    }
}

const LABEL: &[u8] = b"lavatube/1 roll";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_every_session_under_every_key_has_another_salt() {
        let [key, other] = [1, 2].map(|n| RollKey::of(&Secret::new([n; 32])));
        let [a, b] = [SessionId([1; 16]), SessionId([2; 16])];
        let all = [key.salt(a, 0), key.salt(a, 1), key.salt(b, 0), other.salt(a, 0), key.blind(a)];
        assert!((1..all.len()).all(|i| !all[..i].contains(&all[i])));
        assert_eq!(key.salt(a, 7), RollKey::of(&Secret::new([1; 32])).salt(a, 7));
    }
}
