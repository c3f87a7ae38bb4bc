//! The roll of a session while it is made: a leaf for each file that is read, as it is read. Steps 2 and 6 of the walk.
//!
//! In memory is one hash for sixteen files. All leaves' hashes go to the state, so that evidence can be made without asking
//! the vault; the roll goes into the session's packs, so that it can be made without this state. It must not know how files
//! are read.

use lavatube_base::SessionId;
use lavatube_base::limits::{ROLL_CHUNK_LEN, ROLL_GROUP};
use lavatube_base::merkle::{Hash, root_over};
use lavatube_format::roll::{Committed, FileFacts, Roll};
use lavatube_seal::RollKey;

use crate::collect::{CollectError, Collector, Lane};
use crate::state::{NewFile, State, StateError};

/// Writes the roll of a session.
pub struct RollWriter<'s> {
    key: RollKey,
    session: SessionId,
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
    pub fn begin(state: &'s dyn State, key: RollKey, session: SessionId) -> Result<Self, StateError> {
        let name = file_name(session);
        let file = state.create(&name).map_err(StateError::on(&name))?;
        let unwritten = Vec::with_capacity(BUFFER_LEN);
        Ok(Self { key, session, file, name, unwritten, roll: Roll::default(), end: 0, group: Vec::new(), count: 0 })
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
    pub fn finish(
        mut self,
        time_s: i64,
        collector: &mut Collector<'_, '_>,
    ) -> Result<(Vec<lavatube_base::ChunkId>, Committed), RollError> {
        self.close_group();
        self.write()?;
        let Self { file, name, roll, count, .. } = self;
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

/// Where the state has the leaves' hashes of a session.
pub fn file_name(session: SessionId) -> String {
    format!("rolls/{session}")
}

const BUFFER_LEN: usize = 64 << 10;
