//! Floor 3: a prefix of a bucket as a [`Drive`](lavatube_vault::Drive) of the vault, over S3.
//!
//! The vault's own hashes and code lie above whatever engine keeps the objects: an engine's node is a drive that may lie, be
//! slow or be gone. Time, sockets and async live in `wire` alone, which the feature `wire` switches on; what a drive in a
//! bucket *is* stands in the other files, which know [`Objects`] and no network. It must not know what a shard, a journal's
//! record or a pack is, nor where a vault's folder lies. Steps 15, 16 and 18 of the walk.
//!
//! | file | is |
//! |---|---|
//! | `place` | where a bucket is, in text: what is given to commands and stands in `vault.toml` |
//! | `objects` | the seam: put, get, list and delete of one bucket |
//! | `drive` | named files over objects, staged and synced |
//! | `pieces` | a file that is appended to, made of objects that cannot be |
//! | `refusals` | objects that the endpoint does not give back, and is not asked for again and again |
//! | `probe` | what an endpoint does, found by trying |
//! | `wire` | requests, signatures, timeouts: `object_store` over one thread |

mod drive;
mod objects;
mod pieces;
mod place;
pub mod probe;
mod refusals;
#[cfg(feature = "wire")]
mod wire;

pub use drive::{BucketDrive, Opened};
pub use lavatube_format::bucket::{ObjectLock, Probed};
pub use objects::{Condition, Echo, Fault, Objects, Waiting};
pub use place::BucketAt;
#[cfg(feature = "wire")]
pub use wire::Wire;
