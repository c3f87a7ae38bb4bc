//! Every limit of lavatube in one place, tied together by assertions the compiler checks.
//!
//! A limit bounds what one input can make us allocate or keep; each is tested at the limit and one past it where it is
//! enforced. Sizes are bytes unless the name says otherwise.

/// Longest content of one chunk.
pub const CHUNK_LEN_MAX: usize = 8 << 20;
/// Longest raw (uncompressed) frame.
pub const FRAME_RAW_MAX: usize = 16 << 20;
/// Longest body of one tree record: a path, its attributes and up to [`REFS_PER_RECORD_MAX`] references.
pub const RECORD_LEN_MAX: usize = 1 << 20;
/// Longest path in a tree. Longer than Linux's PATH_MAX: sources are walked by directory descriptors.
pub const PATH_LEN_MAX: usize = 256 << 10;
/// Most references in one tree record before list chunks are used.
pub const REFS_PER_RECORD_MAX: usize = 1024;
/// Most references in one list chunk.
pub const REFS_PER_LIST_MAX: usize = 4096;
/// Deepest nesting of list chunks: enough for 1024 · 4096^3 chunks.
pub const LIST_DEPTH_MAX: u64 = 3;
/// Longest chain of deltas below one chunk.
pub const DELTA_DEPTH_MAX: usize = 7;
/// Most layers of one snapshot's tree.
pub const LAYERS_MAX: usize = 8;
/// Most skipped entries a snapshot record lists by name (all are counted).
pub const SKIPPED_LISTED_MAX: usize = 1000;
/// Largest window a zstd frame of ours may ask for, as a power of two.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Deepest CBOR nesting we read.
pub const CBOR_DEPTH_MAX: usize = 8;
/// Longest body of a manifest: 100,000 packs of 64 MiB are 6 TB in one session.
pub const MANIFEST_LEN_MAX: usize = 8 << 20;
/// Most further ends of its chain that one manifest joins; what is left is for the next.
pub const CHAIN_JOINS_MAX: usize = 64;
/// Longest body of a drive card or depositor card.
pub const CARD_LEN_MAX: usize = 64 << 10;
/// Longest body of one journal record.
pub const JOURNAL_BODY_MAX: usize = 512;
/// Longest key file we read.
pub const KEY_FILE_MAX: usize = 64 << 10;
/// Most drives of one vault: shard indexes are one byte, GF(2^8) has 255 usable positions.
pub const DRIVES_MAX: usize = 255;
/// Block of a shard that has its own hash: the unit in which rot is found and mended.
pub const SHARD_BLOCK_LEN: usize = 16 << 10;
/// Plaintext in one sealed piece of a pack.
pub const PIECE_LEN: usize = 16 << 10;
/// Smallest pack class.
pub const PACK_LEN_MIN: usize = 4 << 10;
/// Number of pack classes, each four times the one before.
pub const PACK_CLASSES: u8 = 8;
/// Largest pack class.
pub const PACK_LEN_MAX: usize = PACK_LEN_MIN << (2 * (PACK_CLASSES as usize - 1));
/// Longest object a vault takes: the largest pack, or a manifest with its signatures.
pub const OBJECT_LEN_MAX: usize = PACK_LEN_MAX;

const _: () = assert!(CHUNK_LEN_MAX <= FRAME_RAW_MAX);
const _: () = assert!(1usize << ZSTD_WINDOW_LOG_MAX >= CHUNK_LEN_MAX);
const _: () = assert!(FRAME_RAW_MAX + (1 << 20) <= PACK_LEN_MAX);
const _: () = assert!(REFS_PER_RECORD_MAX * 34 + PATH_LEN_MAX < RECORD_LEN_MAX);
const _: () = assert!(REFS_PER_LIST_MAX * 34 <= CHUNK_LEN_MAX);
const _: () = assert!(RECORD_LEN_MAX < CHUNK_LEN_MAX);
const _: () = assert!(MANIFEST_LEN_MAX < OBJECT_LEN_MAX && PACK_LEN_MAX == 64 << 20);
