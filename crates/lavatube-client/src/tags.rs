//! Tags of the packs of the open session: noted as each pack is delivered, delivered themselves when the session ends.
//!
//! Audits compare what the vault proves with them. A session whose tags are not all to be had (an older version began it, or
//! a crash cut the note) is ended without any: its packs are there, and no proof covers them. Steps 5 to 7 of the walk. It
//! must not know how tags are made.

use std::io;

use lavatube_base::limits::TAGS_MAX;
use lavatube_base::{ObjectId, Verified};
use lavatube_format::tags::{self, TAG_LEN, entry_len, put_entry, read_entry};
use lavatube_seal::AuditKeys;

use crate::courier::Courier;
use crate::session::SessionError;
use crate::state::{State, StateError, read_exact};

/// Tags of the packs of the open session, in the state.
pub const OPEN_TAGS: &str = "open-tags";

/// Notes the tags of a pack, before the pack itself is noted.
///
/// # Errors
/// When the state cannot be written.
pub fn note(state: &dyn State, keys: &AuditKeys, pack: Verified<'_>) -> Result<(), StateError> {
    let mut entry = Vec::new();
    put_entry(&mut entry, pack.id(), &keys.tags(pack.id(), pack.bytes()));
    state.append(OPEN_TAGS, &entry).map_err(StateError::on(OPEN_TAGS))
}

/// Delivers the tags of `packs`, in their order, and returns the objects they are in: none when they are not all there.
///
/// # Errors
/// When the state cannot be read, or neither vault nor spool takes them.
pub fn deliver(
    state: &dyn State,
    packs: &[ObjectId],
    courier: &mut Courier<'_>,
) -> Result<Vec<ObjectId>, SessionError> {
    if state.len(OPEN_TAGS).map_err(StateError::on(OPEN_TAGS))?.is_none() {
        return Ok(Vec::new());
    }
    // All of them are looked for before one is delivered.
    let mut log = Log { state, at: 0 };
    for pack in packs {
        if log.of(*pack)?.is_none() {
            return Ok(Vec::new());
        }
    }
    let (mut out, mut open) = (Vec::new(), Vec::new());
    let mut log = Log { state, at: 0 };
    let mut send = |tags: &[u8]| {
        let object = tags::encode(tags);
        let object = Verified::hash(&object);
        out.push(object.id());
        courier.deliver_tags(object)
    };
    for pack in packs {
        open.extend(log.of(*pack)?.unwrap_or_default());
        while open.len() >= TAGS_MAX * TAG_LEN {
            let rest = open.split_off(TAGS_MAX * TAG_LEN);
            send(&open)?;
            open = rest;
        }
    }
    if !open.is_empty() {
        send(&open)?;
    }
    Ok(out)
}

/// Forgets them.
///
/// # Errors
/// When the file cannot be removed.
pub fn forget(state: &dyn State) -> Result<(), StateError> {
    state.remove(OPEN_TAGS).map_err(StateError::on(OPEN_TAGS))
}

/// The note, read from its beginning.
struct Log<'s> {
    state: &'s dyn State,
    at: u64,
}

impl Log<'_> {
    /// The tags of a pack, which come behind those that were asked for before; what is between is passed over.
    fn of(&mut self, pack: ObjectId) -> Result<Option<Vec<u8>>, StateError> {
        while let Some(bytes) = self.entry()? {
            // What is torn ends the note: a crash was there.
            let Ok((id, tags)) = read_entry(&bytes) else { return Ok(None) };
            self.at += bytes.len() as u64;
            if id == pack {
                return Ok(Some(tags.to_vec()));
            }
        }
        Ok(None)
    }

    fn entry(&self) -> Result<Option<Vec<u8>>, StateError> {
        let mut head = [0; 4];
        if !self.fill(self.at, &mut head)? {
            return Ok(None);
        }
        let Some(len) = entry_len(&head) else { return Ok(None) };
        let mut bytes = vec![0; len];
        Ok(self.fill(self.at, &mut bytes)?.then_some(bytes))
    }

    /// Reads so many bytes; whether there are as many.
    fn fill(&self, at: u64, out: &mut [u8]) -> Result<bool, StateError> {
        match read_exact(self.state, OPEN_TAGS, at, out) {
            Err(e) if e.source.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use lavatube_seal::{DepositKeys, Root, Secret};

    use super::*;
    use crate::memory::MemoryState;
    use crate::spool::{Spool, SpoolError, SpoolKind};

    /// Keeps what is put, with its kind.
    #[derive(Default)]
    struct Shelf(Vec<(SpoolKind, ObjectId, Vec<u8>)>);

    impl Spool for Shelf {
        fn put(&mut self, kind: SpoolKind, object: Verified<'_>) -> Result<(), SpoolError> {
            self.0.push((kind, object.id(), object.bytes().to_vec()));
            Ok(())
        }
        fn sync(&mut self) -> Result<(), SpoolError> {
            Ok(())
        }
        fn list(&self) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError> {
            Ok(self.0.iter().map(|(kind, id, _)| (*kind, *id)).collect())
        }
        fn get(&self, _: SpoolKind, id: ObjectId) -> Result<Vec<u8>, SpoolError> {
            let found = self.0.iter().find(|(_, known, _)| *known == id);
            found.map(|(.., bytes)| bytes.clone()).ok_or(SpoolError::Io("none".into()))
        }
        fn remove(&mut self, _: SpoolKind, _: ObjectId) -> Result<(), SpoolError> {
            Ok(())
        }
    }

    #[test]
    fn tags_of_all_packs_are_delivered_in_their_order_or_none_are() {
        let root = Root::new(Secret::new([7; 32]));
        let deposit = DepositKeys::new(&root, "default", "rover", Secret::new([1; 32]), Secret::new([2; 32])).unwrap();
        let (keys, state) = (deposit.audit_keys(), MemoryState::default());
        let packs = [vec![1; 4096], vec![2; 65_536], vec![3; 20_000]];
        let ids = packs.each_ref().map(|pack| Verified::hash(pack).id());
        let delivered = |ids: &[ObjectId]| {
            let mut shelf = Shelf::default();
            let out = deliver(&state, ids, &mut Courier::new(None, &mut shelf, &state)).unwrap();
            assert!(out.iter().eq(shelf.0.iter().map(|(_, id, _)| id)));
            shelf.0
        };
        assert!(delivered(&ids).is_empty(), "an older version began the session");
        packs.iter().for_each(|pack| note(&state, &keys, Verified::hash(pack)).unwrap());
        let all = delivered(&ids);
        let want: Vec<u8> = packs.iter().zip(ids).flat_map(|(pack, id)| keys.tags(id, pack)).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0, tags::decode(&all[0].2)), (SpoolKind::Tags, Ok(&want[..])));
        assert_eq!(want.len(), (1 + 4 + 2) * TAG_LEN);
        // A pack that was delivered and not noted in the session is passed over; one that nobody noted costs all of them.
        let some = delivered(&[ids[0], ids[2]]);
        assert_eq!(tags::decode(&some[0].2).unwrap(), [&want[..16], &want[80..]].concat());
        assert!(delivered(&[ids[0], ObjectId([9; 32])]).is_empty() && delivered(&[ids[2], ids[0]]).is_empty());
        // What is torn is as good as not noted.
        let whole = crate::state::read_all(&state, OPEN_TAGS, 1 << 20).unwrap().unwrap();
        forget(&state).unwrap();
        state.append(OPEN_TAGS, &whole[..whole.len() - 1]).unwrap();
        assert!(delivered(&ids).is_empty() && !delivered(&ids[..2]).is_empty());
    }
}
