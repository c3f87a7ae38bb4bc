//! Floor 0: the words every room shares: ids, units, limits, digests, signatures.
//!
//! It exists so that two rooms mean the same thing by a pack id or a limit. It must not know files, sockets, the real
//! clock or entropy: time and chance are handed in by the rooms that have them.

pub mod chance;
pub mod denial;
pub mod digest;
pub mod id;
pub mod latest;
pub mod limits;
pub mod many;
pub mod merkle;
pub mod sign;
pub mod slice;
pub mod stays;
pub mod time;

pub use chance::Chance;
pub use denial::{Denial, Refusal};
pub use digest::{Digests, Verified};
pub use id::{BlockId, ChunkId, DepositorId, DriveId, ObjectId, SessionId, VaultId, hex};
pub use latest::Latest;
pub use stays::{Stays, Thinned};
pub use time::Instant;
