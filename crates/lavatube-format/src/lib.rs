//! Floor 1: the one room where bytes become values and values become bytes.
//!
//! One file per layout, each drawn in `docs/FORMAT.md` and nowhere else (but for LTP, which its standard draws). Decoding takes any input without panicking and
//! allocates nothing that the input has not paid for in length. This room must not know time, policy, keys, or where
//! bytes come from.

pub mod agent;
pub mod audit;
pub mod audit_record;
pub mod btpu;
pub mod bucket;
pub mod care;
pub mod catalog;
pub mod cbor;
pub mod check_record;
pub mod checkpoint;
pub mod datagram;
pub mod depositor_card;
pub mod drive_card;
pub mod evidence;
pub mod journal;
pub mod kept_head;
pub mod key_file;
pub mod layer;
pub mod ledger;
pub mod log;
pub mod ltp;
pub mod mandate;
pub mod manifest;
pub mod message;
pub mod open_session;
pub mod pack;
pub mod pair_line;
pub mod receipt;
pub mod recovery;
pub mod release;
pub mod release_word;
pub mod remnant;
pub mod roll;
pub mod scrub_record;
pub mod shard;
pub mod snapshot;
pub mod spot;
pub mod tags;
pub mod tcpcl;
pub mod timestamp;
pub mod tree;
pub mod tree_cache;
pub mod wire;
pub mod witness;

pub use wire::Malformed;
