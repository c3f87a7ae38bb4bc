//! The roll of a session while it is made: a leaf for each file that is read, as it is read. Steps 2 and 6 of the walk.
//!
//! In memory is one hash for sixteen files. All leaves' hashes go to the state, so that evidence can be made without asking
//! the vault; the roll goes into the session's packs, so that it can be made without this state. It must not know how files
//! are read.

use lavatube_base::limits::{ROLL_CHUNK_LEN, ROLL_GROUP};
use lavatube_base::merkle::{Hash, root_over};
use lavatube_base::{ChunkId, SessionId};
use lavatube_format::roll::{Committed, FileFacts, Roll};
use lavatube_seal::RollKey;

use crate::collect::{CollectError, Collector, Lane};
use crate::state::{NewFile, State, StateError, read_exact};

/// Writes the roll of a session.
pub struct RollWriter<'s> {
    key: RollKey,
    session: SessionId,
    time_s: i64,
    file: Box<dyn NewFile + 's>,
    name: String,
    unwritten: Vec<u8>,
    roll: Roll,
    /// The number after the last file that was read.
    end: u64,
    group: Vec<Hash>,
    count: u64,
}

impl<'s> RollWriter<'s> {
    /// An empty roll.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn begin(state: &'s dyn State, key: RollKey, session: SessionId, time_s: i64) -> Result<Self, StateError> {
        let name = file_name(session);
        let file = state.create(&name).map_err(StateError::on(&name))?;
        let mut unwritten = Vec::with_capacity(BUFFER_LEN + HEAD_LEN);
        unwritten.extend_from_slice(MAGIC);
        unwritten.extend_from_slice(&time_s.to_le_bytes());
        let (roll, group) = (Roll::default(), Vec::with_capacity(ROLL_GROUP));
        Ok(Self { key, session, time_s, file, name, unwritten, roll, end: 0, group, count: 0 })
    }

    /// The regular file of this number in the tree was read.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn add(&mut self, ordinal: u64, facts: &FileFacts) -> Result<(), StateError> {
        let leaf = facts.leaf(&self.key.salt(self.session, self.count));
        self.roll.take_after(ordinal, self.end);
        (self.end, self.count) = (ordinal + 1, self.count + 1);
        self.group.push(leaf);
        if self.group.len() == ROLL_GROUP {
            self.close_group();
        }
        self.unwritten.extend_from_slice(&leaf);
        if self.unwritten.len() >= BUFFER_LEN { self.write() } else { Ok(()) }
    }

    fn close_group(&mut self) {
        if !self.group.is_empty() {
            self.roll.groups.push(root_over(&self.group));
            self.group.clear();
        }
    }

    fn write(&mut self) -> Result<(), StateError> {
        self.file.write_all(&self.unwritten).map_err(StateError::on(&self.name))?;
        self.unwritten.clear();
        Ok(())
    }

    /// Ends the roll: its chunks, for the snapshot record, and what the manifest is to commit to.
    ///
    /// # Errors
    /// When state or collector fail.
    pub fn finish(mut self, collector: &mut Collector<'_, '_>) -> Result<(Vec<ChunkId>, Committed), RollError> {
        self.close_group();
        self.write()?;
        let Self { file, name, roll, count, time_s, .. } = self;
        file.commit().map_err(StateError::on(&name))?;
        let root = root_over(&roll.groups);
        let bytes = roll.encode();
        let chunks = bytes.chunks(ROLL_CHUNK_LEN).map(|part| collector.add(Lane::Tree, part).map(|(id, _)| id));
        Ok((chunks.collect::<Result<_, _>>()?, Committed { time_s, count, root }))
    }
}

/// Why a roll was not finished.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// Storing failed.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// The leaves' hashes of a session, as the state has them.
pub struct Kept<'s> {
    state: &'s dyn State,
    name: String,
    /// When its snapshot began.
    pub time_s: i64,
    /// How many files it read.
    pub count: u64,
}

impl<'s> Kept<'s> {
    /// Those of `session`; `None` when there are none, or they are not whole.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn open(state: &'s dyn State, session: SessionId) -> Result<Option<Self>, StateError> {
        let name = file_name(session);
        let len = state.len(&name).map_err(StateError::on(&name))?;
        let Some(body) = len.and_then(|len| len.checked_sub(HEAD_LEN as u64)).filter(|n| n.is_multiple_of(32)) else {
            return Ok(None);
        };
        let mut head = [0; HEAD_LEN];
        read_exact(state, &name, 0, &mut head)?;
        let (magic, time) = head.split_at(MAGIC.len());
        let time_s = i64::from_le_bytes(time.try_into().unwrap_or_default());
        Ok((magic == MAGIC).then_some(Self { state, name, time_s, count: body / 32 }))
    }

    /// Hands all hashes on, in groups as rolls have them.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn for_each_group(&self, mut each: impl FnMut(u64, &[Hash])) -> Result<(), StateError> {
        let (mut at, mut buffer) = (0, vec![0; BUFFER_LEN]);
        while at < self.count {
            let n = usize::try_from(self.count - at).unwrap_or(usize::MAX).min(BUFFER_LEN / 32);
            read_exact(self.state, &self.name, HEAD_LEN as u64 + 32 * at, &mut buffer[..32 * n])?;
            for group in buffer[..32 * n].as_chunks::<32>().0.chunks(ROLL_GROUP) {
                each(at, group);
                at += group.len() as u64;
            }
        }
        Ok(())
    }
}

fn file_name(session: SessionId) -> String {
    format!("rolls/{session}")
}

const MAGIC: &[u8; 8] = b"LVTROLL\x01";
const HEAD_LEN: usize = MAGIC.len() + 8;

/// A whole number of groups.
const BUFFER_LEN: usize = 64 << 10;
const _: () = assert!(BUFFER_LEN.is_multiple_of(32 * ROLL_GROUP));
