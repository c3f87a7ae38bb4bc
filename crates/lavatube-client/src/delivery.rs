//! Delivery: sealed packs to the courier, in order, each noted in the open session. Step 7 of the walk.
//!
//! A pack is noted only once it is durable in the vault or in the spool, so that a run that takes the session up again
//! finds nothing noted that is not there. It must not know how packs are made, nor where the courier takes them.

use lavatube_base::{ChunkId, SessionId, Verified};
use lavatube_format::catalog::PackRow;
use lavatube_format::open_session::PackDone;
use lavatube_format::pack::FrameEntry;
use lavatube_seal::AuditKeys;

use crate::courier::Courier;
use crate::heads;
use crate::meter::Meter;
use crate::packer::{PackError, SealedPack};
use crate::session::OPEN_SESSION;
use crate::state::{State, StateError};
use crate::tags;

/// A pack that is durable in the vault or in the spool.
#[derive(Debug)]
pub struct DeliveredPack {
    /// Its row for the catalog.
    pub row: PackRow,
    /// Its index.
    pub frames: Vec<FrameEntry>,
}

/// What a session has delivered, once it is finished.
#[derive(Debug, Default)]
pub struct Packed {
    /// Packs in order: row and SHA-256.
    pub packs: Vec<(PackRow, [u8; 32])>,
    /// For each chunk that was asked for, the pack it went to.
    pub found: Vec<(ChunkId, u32)>,
}

/// The deliveries of one session.
pub struct Delivery<'a> {
    session: SessionId,
    keys: AuditKeys,
    state: &'a dyn State,
    courier: Courier<'a>,
    meter: &'a Meter,
    packs: Vec<(PackRow, [u8; 32])>,
    keeps_heads: bool,
}

impl<'a> Delivery<'a> {
    /// Hands packs of `session` to `courier` and notes each in `state`, with its tags under `keys`.
    pub fn new(
        session: SessionId,
        keys: AuditKeys,
        state: &'a dyn State,
        courier: Courier<'a>,
        meter: &'a Meter,
    ) -> Self {
        Self { session, keys, state, courier, meter, packs: Vec::new(), keeps_heads: false }
    }

    /// Keeps the heads of packs here, for a vault that is far away.
    #[must_use]
    pub fn keeping_heads(mut self, keeps: bool) -> Self {
        self.keeps_heads = keeps;
        self
    }

    /// Delivers a pack; returns what the catalog must know of it, and its buffer to use again.
    ///
    /// # Errors
    /// When neither vault nor spool took it, or it could not be noted. The session must end then.
    pub fn deliver(&mut self, pack: SealedPack) -> Result<(DeliveredPack, Vec<u8>), PackError> {
        let SealedPack { number, class, bytes, sha256, frames, head } = pack;
        let object = Verified::hash(&bytes);
        let row = PackRow { id: object.id(), class, session: self.session, number };
        self.courier.deliver_pack(object)?;
        self.meter.stored_bytes.add(bytes.len() as u64);
        if self.keeps_heads {
            heads::keep(self.state, row.id, &bytes, &head)?;
        }
        tags::note(self.state, &self.keys, object)?;
        let done = PackDone { row, sha256, frames };
        let mut log = Vec::new();
        done.encode(&mut log);
        self.state.append(OPEN_SESSION, &log).map_err(StateError::on(OPEN_SESSION))?;
        self.packs.push((row, sha256));
        Ok((DeliveredPack { row, frames: done.frames }, bytes))
    }

    /// All that was delivered, and the courier for the manifest. `ask` are chunks whose pack the caller must know; they
    /// are looked for in the `last` packs, where a session's end is.
    pub fn finish(self, last: &[DeliveredPack], ask: &[ChunkId]) -> (Packed, Courier<'a>) {
        let chunks = last.iter().flat_map(|p| p.frames.iter().flat_map(|f| &f.chunks).map(|c| (c.id, p.row.number)));
        let found = chunks.filter(|(id, _)| ask.contains(id)).collect();
        (Packed { packs: self.packs, found }, self.courier)
    }
}
