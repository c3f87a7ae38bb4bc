//! Floor 1: keys. What is derived from what, and the only code that seals, opens, wraps and unlocks.
//!
//! The root seed makes everything a reader needs ([`Root`], [`ReadKeys`]); a depositing machine holds [`DepositKeys`],
//! which seal and sign but cannot open what is finished (promise P2): the type has no such method, and the bytes in it
//! suffice for none. A session's secret makes one key per pack, so no nonce has to be remembered anywhere.
//!
//! This room must not know paths, the link or the vault. Entropy is handed in, byte layouts are `lavatube-format`'s.
//! Steps 3, 4 and 21 of the walk.

pub mod audit;
pub mod chunk_id;
pub mod deposit;
pub mod error;
mod kdf;
pub mod link;
pub mod lock;
pub mod mandate;
pub mod pack;
pub mod read;
pub mod release;
pub mod roll;
pub mod root;
pub mod session;

pub use audit::AuditKeys;
pub use chunk_id::{ChunkIdKey, Opened};
pub use deposit::DepositKeys;
pub use error::SealError;
pub use lavatube_format::key_file::Secret;
pub use link::{BundleKeys, LinkEnd, LinkKey, LinkKeys};
pub use pack::{PackKeys, PackOpener};
pub use read::{ReadKeys, Reads, Unwrap, verify_manifest};
pub use release::ReleaseKeys;
pub use roll::RollKey;
pub use root::{Root, TenantSecrets};
pub use session::{ReadPublic, Session, SessionKeys};
