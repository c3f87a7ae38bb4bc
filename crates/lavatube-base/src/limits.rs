//! Every limit of lavatube in one place, tied together by assertions the compiler checks.
//!
//! A limit bounds what one input can make us allocate or keep. Those that a decoder of `lavatube-format` keeps are tested
//! there at the limit and one past it (its `tests/limits.rs` lists them); others bound what a writer makes, or are kept
//! by the room that allocates. Sizes are bytes unless the name says otherwise.

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
/// Longest body of a manifest: 100,000 packs of 64 MiB are 6 TB in one session.
pub const MANIFEST_LEN_MAX: usize = 8 << 20;
/// Most further ends of its chain that one manifest joins; what is left is for the next.
pub const CHAIN_JOINS_MAX: usize = 64;
/// Most marks of snapshots in one note; more go into a further session.
pub const MARKS_MAX: usize = 4096;
/// Longest body of a release: some 240,000 packs; more go with a further one.
pub const RELEASE_LEN_MAX: usize = 8 << 20;
/// A pack is rewritten only where at least one part in so many of what it holds goes: reading and writing all that stays for
/// less is not worth the wear.
pub const THIN_SHARE: usize = 16;
/// Bytes of packs that are rewritten before other work is looked at: a few seconds' of an old disk.
pub const THIN_AT_A_TIME: usize = 256 << 20;
/// What a word about releases tells: leaves of the log, more of which are asked for from where it ended,
pub const LEAVES_TOLD_MAX: usize = 1 << 15;
/// and releases that are not done.
pub const RELEASES_TOLD_MAX: usize = 64;
/// Holds that are lifted in a question about releases.
pub const LIFTS_ASKED_MAX: usize = 1024;
/// Most depositors that a release need not wait for.
pub const DEPOSITORS_SETTLED_MAX: usize = 1024;
/// Block of an object in an audit: what an answer has whatever it is about, and what one tag is of.
pub const AUDIT_BLOCK_LEN: usize = 16 << 10;
/// Most tags in one object: 4 MiB of them, for 4 GiB of packs.
pub const TAGS_MAX: usize = 1 << 18;
/// Most depositors that one challenge of an audit names.
pub const AUDIT_DEPOSITORS_MAX: usize = 1024;
/// Most of what is bad that one answer names; what lies behind is for the next.
pub const AUDIT_BAD_MAX: usize = 1024;
/// Longest body of a drive card or depositor card.
pub const CARD_LEN_MAX: usize = 64 << 10;
/// Longest body of one journal record.
pub const JOURNAL_BODY_MAX: usize = 512;
/// Longest journal: some 10^10 packs.
pub const JOURNAL_LEN_MAX: u64 = 1 << 39;
/// A journal up to this length is in memory beside the drives.
pub const JOURNAL_IN_MEMORY_MAX: u64 = 64 << 20;
/// Longest key file we read.
pub const KEY_FILE_MAX: usize = 64 << 10;
/// Longest tenant name.
pub const TENANT_LEN_MAX: usize = 255;
/// Longest message to or from a key agent, without its length.
pub const AGENT_MESSAGE_LEN_MAX: usize = 64 << 10;
/// Longest reason in a refusal of a key agent.
pub const AGENT_REASON_LEN_MAX: usize = 1024;
/// Longest head of a tree cache.
pub const TREE_HEAD_LEN_MAX: usize = 64 << 10;
/// A block of a tree cache is closed when it has this length.
pub const TREE_BLOCK_LEN: usize = 256 << 10;
/// Longest block of a tree cache we read: one that was just not full, and a last record with its stamp.
pub const TREE_BLOCK_LEN_MAX: usize = TREE_BLOCK_LEN + 2 * RECORD_LEN_MAX;
/// Most drives of one vault: shard indexes are one byte, GF(2^8) has 255 usable positions.
pub const DRIVES_MAX: usize = 255;
/// Scrubs that a vault remembers, and lost objects that the record of one names; the others are counted.
pub const SCRUBS_KEPT_MAX: usize = 32;
/// See [`SCRUBS_KEPT_MAX`].
pub const SCRUB_LOST_LISTED_MAX: usize = 256;
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
/// Longest block the link carries: a pack, and what a bundle adds to it.
pub const BLOCK_LEN_MAX: usize = PACK_LEN_MAX + (4 << 10);
/// Most blocks of a bundle, primary and payload among them.
pub const BUNDLE_BLOCKS_MAX: usize = 16;
/// Longest block of a bundle but the payload's, its head included.
pub const BUNDLE_BLOCK_LEN_MAX: usize = 4 << 10;
/// Longest payload of a bundle: the longest block of the link, and the tag that encryption puts behind it.
pub const BUNDLE_PAYLOAD_LEN_MAX: usize = BLOCK_LEN_MAX + 16;
/// Longest bundle.
pub const BUNDLE_LEN_MAX: usize = BUNDLE_PAYLOAD_LEN_MAX + BUNDLE_BLOCKS_MAX * BUNDLE_BLOCK_LEN_MAX;
/// What a bundle of ours adds to its payload, at most.
pub const BUNDLE_OWN_LEN_MAX: usize = 1 << 10;
/// Longest name of a node in a TCPCL session,
pub const TCPCL_NODE_LEN_MAX: usize = 1024;
/// longest list of extensions of a TCPCL message,
pub const TCPCL_EXTENSIONS_LEN_MAX: usize = 4 << 10;
/// and so the longest TCPCL message, without the bytes of a segment.
pub const TCPCL_HEAD_LEN_MAX: usize = 21 + TCPCL_NODE_LEN_MAX + 4 + TCPCL_EXTENSIONS_LEN_MAX;
/// Longest segment a TCPCL session takes or sends.
pub const TCPCL_SEGMENT_LEN_MAX: usize = 1 << 20;
/// Most transfers a TCPCL session has sent, in part or whole, without an answer to their end.
pub const TCPCL_UNANSWERED_MAX: usize = 64;
/// Most transfers that wait to be sent in a TCPCL session,
pub const TCPCL_QUEUE_MAX: usize = 1024;
/// and bytes of them beyond which no more are taken.
pub const TCPCL_QUEUE_LEN_MAX: usize = 2 * BUNDLE_LEN_MAX;
/// Bundles that came in over a TCPCL session and are not yet stored, beyond which nothing more is taken in,
pub const TCPCL_HELD_MAX: usize = 16;
/// and bytes of them.
pub const TCPCL_HELD_LEN_MAX: usize = BUNDLE_LEN_MAX;
/// Most answers of a TCPCL session that wait for an earlier one.
pub const TCPCL_ANSWERS_MAX: usize = 1 << 12;
/// Longest datagram of the link: what a 1500-byte IPv4 packet leaves after IP and UDP.
pub const DATAGRAM_LEN_MAX: usize = 1472;
/// What a datagram has of its own: key id and counter before the messages, the tag behind them.
pub const DATAGRAM_OWN_LEN: usize = 8 + 16;
/// Longest symbol of a block: what a datagram has left for one, after 12 bytes of framing.
pub const SYMBOL_LEN_MAX: usize = DATAGRAM_LEN_MAX - DATAGRAM_OWN_LEN - 12;
/// Most symbols of a block, source and repair together: GF(2^16) has no more points.
pub const SYMBOLS_MAX: usize = 1 << 16;
/// Most blocks one report speaks of.
pub const REPORT_ENTRIES_MAX: usize = 140;
/// Most blocks one probe asks about.
pub const PROBE_ENTRIES_MAX: usize = 128;
/// Most blocks a node sends at a time: announced and not yet known to be stored.
pub const OUTGOING_MAX: usize = 1024;
/// Most blocks that may wait to be sent.
pub const QUEUE_MAX: usize = 1 << 20;
/// Most blocks a node receives at a time.
pub const INCOMING_MAX: usize = 2 * OUTGOING_MAX;
/// Most transfer numbers of the peer that are remembered, for reports.
pub const TRANSFERS_MAX: usize = 2 * INCOMING_MAX;
/// Most symbols kept that came before the announcement of their transfer: 0.7 MB.
pub const EARLY_MAX: usize = 512;
/// Most echo requests on their way, and most answers that wait to be sent.
pub const ECHOES_MAX: usize = 16;
/// Most connections of other nodes where bundles carry what crosses,
pub const DTN_SESSIONS_MAX: usize = 4;
/// bundles of the other end whose numbers are remembered, so that none is taken twice,
pub const BUNDLES_SEEN_MAX: usize = 1 << 16;
/// and longest payload of a stranger's bundle that is answered.
pub const ECHO_BUNDLE_LEN_MAX: usize = 64 << 10;
/// Bytes of bundles that arrived, were acknowledged by LTP, and wait here because there was no room for them.
pub const DTN_BUSY_LEN_MAX: usize = 128 << 20;
/// Most blocks remembered as stored, so that what comes late is answered and not stored twice.
pub const KEPT_MAX: usize = 1 << 14;
/// Counters behind the highest one among which the link tells new datagrams from replayed ones.
pub const REPLAY_WINDOW: usize = 1 << 16;
/// Most datagrams whose time of sending is remembered until a report passes them.
pub const FLIGHT_MAX: usize = 1 << 18;
/// Blocks a sender may hold in memory, whatever their size, and
pub const HELD_BLOCKS_MAX: usize = 3;
/// bytes beyond which it holds no more than those.
pub const HELD_LEN_MAX: usize = 32 << 20;
/// Blocks a receiver may have rebuilt that its caller has not stored yet, whatever their size, and
pub const REBUILT_BLOCKS_MAX: usize = 2;
/// bytes beyond which it has no more than those.
pub const REBUILT_LEN_MAX: usize = 24 << 20;
/// Most hashes of one proof of the vault's log: a tree of 2^64 leaves has no longer one.
pub const LOG_PROOF_MAX: usize = 65;
/// Longest checkpoint of a log, with all its signatures,
pub const CHECKPOINT_LEN_MAX: usize = 4 << 10;
/// and most of those.
pub const CHECKPOINT_SIGNATURES_MAX: usize = 16;
/// Most objects whose places in the log one message asks for.
pub const LOG_ASKED_MAX: usize = 64;
/// Files of a session whose hashes are kept as one: what is read back to make evidence of one of them, when nothing else is left.
pub const ROLL_GROUP: usize = 16;
/// A roll is cut into chunks of this length,
pub const ROLL_CHUNK_LEN: usize = 1 << 20;
/// and has at most so many: a quarter of a thousand million files.
pub const ROLL_CHUNKS_MAX: usize = 512;
/// Most slices that one spot proof has.
pub const SPOT_SLICES_MAX: usize = 1024;
/// Most hashes beside a slice: an object of 2^32 chunks has no more.
pub const SLICE_BESIDE_MAX: usize = 32;
/// Longest spot proof in a file, with the manifests it is about.
pub const SPOT_FILE_LEN_MAX: usize = 256 << 20;
/// Longest evidence that is read: the longest manifest in base64, and its proofs.
pub const EVIDENCE_LEN_MAX: usize = 16 << 20;
/// Longest time-stamp token in evidence.
pub const TOKEN_LEN_MAX: usize = 64 << 10;
/// Longest text of a denial that crosses the link.
pub const DENIAL_TEXT_LEN_MAX: usize = 1024;
/// Most objects that one message asks for.
pub const ASKED_MAX: usize = 1024;
/// Most parts of objects that one message asks for or brings.
pub const PARTS_MAX: usize = 1 << 16;
/// Bytes of a part that are sent in one piece.
pub const PART_PIECE_LEN: u64 = 4 << 20;
/// Most objects on one page of a list.
pub const LISTED_MAX: usize = 1 << 15;
/// Most objects of a list that a reader takes: 256 TiB in full packs. It holds all of them in memory.
pub const LIST_OBJECTS_MAX: usize = 1 << 22;
/// Most contacts of a plan.
pub const CONTACTS_MAX: usize = 1 << 16;
/// Longest LTP datagram that is read: the longest payload of UDP over IPv4. We send none above [`DATAGRAM_LEN_MAX`].
pub const LTP_DATAGRAM_LEN_MAX: usize = 65_507;
/// Most header extensions, and most trailer extensions, of one LTP segment: their counts have four bits.
pub const LTP_EXTENSIONS_MAX: u8 = 15;
/// Deepest nesting of the CBOR that a block of several bundles is split by.
pub const LTP_BUNDLE_DEPTH_MAX: usize = 32;
/// Most other engines one LTP engine speaks with.
pub const LTP_PEERS_MAX: usize = 256;
/// Most blocks that may be on their way to one LTP engine or wait for it, and most that may be coming from it.
pub const LTP_SESSIONS_MAX: usize = 1 << 14;
/// Most stretches in which one block may be coming in: every second segment of the longest block, and more.
pub const LTP_STRETCHES_MAX: usize = 1 << 16;
/// Most sessions of one LTP engine that are remembered after their end, so that what comes late is not taken for something new.
pub const LTP_ENDED_MAX: usize = 1 << 14;
/// Most reports of one incoming block that wait for their acknowledgement.
pub const LTP_REPORTS_MAX: usize = 1 << 10;
/// Most checkpoints of one block that are remembered or wait for a report.
pub const LTP_CHECKPOINTS_MAX: usize = 1 << 8;
/// Reports in a row that say nothing new before a block is given up.
pub const LTP_ROUNDS_MAX: u32 = 64;
/// Most answers and copies of questions that wait to be sent to one LTP engine; more are lost, as on the link.
pub const LTP_CONTROL_MAX: usize = 1 << 12;
/// Bundles that the end of a link has given its LTP engine and that have not arrived,
pub const LTP_UNANSWERED_MAX: usize = 1 << 10;
/// and bytes of them.
pub const LTP_UNANSWERED_LEN_MAX: usize = 512 << 20;
/// Bytes of memory for what is coming to the end of a link by LTP, or arrived and is not stored; one block more may be finished.
pub const LTP_IMPORT_LEN_MAX: usize = 256 << 20;
/// Work orders of a vault that are remembered: claimed ones, and those that ended.
pub const ORDERS_KEPT_MAX: usize = 256;
/// Bytes of a name, a note or a drive in a work order.
pub const ORDER_TEXT_MAX: usize = 512;
/// Longest body of a mandate.
pub const MANDATE_LEN_MAX: usize = 4 << 10;
/// Longest text in a mandate or about one.
pub const MANDATE_TEXT_MAX: usize = 512;
/// Mandates that a vault remembers.
pub const MANDATES_KEPT_MAX: usize = 32;
/// How far the number of a mandate may be above that of the last one: room for those that were never sent, and none for a mistake that ends all.
pub const MANDATE_LEAP_MAX: u64 = 1 << 16;
/// What a report about the care of a vault tells: bytes of a drive's label, shelf, maker or model,
pub const REPORT_NAME_LEN_MAX: usize = 32;
/// scrubs,
pub const REPORT_SCRUBS_MAX: usize = 2;
/// mandates,
pub const REPORT_MANDATES_MAX: usize = 8;
/// and so it has at most this many bytes. Of ten drives it has some 600.
pub const REPORT_LEN_MAX: usize = 64 << 10;
/// Bytes before the body of a request for work orders,
pub const REQUEST_HEAD_LEN_MAX: usize = 8 << 10;
/// and of its body.
pub const REQUEST_BODY_LEN_MAX: usize = 64 << 10;
/// Bytes that a drive in a bucket keeps in memory until they are put.
pub const BUCKET_STAGED_LEN_MAX: usize = 128 << 20;
/// Bytes of a file of such a drive: what is put is one request.
pub const BUCKET_FILE_LEN_MAX: usize = 1 << 30;
/// Pieces that a file which is appended to is left in: with more of them the last ones are made one,
pub const BUCKET_PIECES_MAX: usize = 64;
/// and pieces that are read of a list at all.
pub const BUCKET_PIECES_LISTED_MAX: usize = 1 << 16;
/// Bytes of a piece that is made of others.
pub const BUCKET_PIECE_LEN_MAX: usize = 64 << 20;
/// Bytes of the place of such a drive, in text: its bucket and what is known of it.
pub const BUCKET_PLACE_LEN_MAX: usize = 1024;
/// Objects that an endpoint did not give back, as a drive remembers them.
pub const BUCKET_REFUSALS_MAX: usize = 4096;
/// Bytes of an answer that is no object: a page of a list, an error.
pub const BUCKET_ANSWER_LEN_MAX: usize = 8 << 20;

const _: () = assert!(CHUNK_LEN_MAX <= FRAME_RAW_MAX);
const _: () = assert!(1usize << ZSTD_WINDOW_LOG_MAX >= CHUNK_LEN_MAX);
const _: () = assert!(FRAME_RAW_MAX + (1 << 20) <= PACK_LEN_MAX);
const _: () = assert!(REFS_PER_RECORD_MAX * 34 + PATH_LEN_MAX < RECORD_LEN_MAX);
const _: () = assert!(REFS_PER_LIST_MAX * 34 <= CHUNK_LEN_MAX);
const _: () = assert!(RECORD_LEN_MAX < CHUNK_LEN_MAX);
const _: () = assert!(MANIFEST_LEN_MAX < OBJECT_LEN_MAX && PACK_LEN_MAX == 64 << 20);
const _: () = assert!(BLOCK_LEN_MAX >= OBJECT_LEN_MAX + 1024);
const _: () = assert!(BLOCK_LEN_MAX >= OBJECT_LEN_MAX + 1024 + BUNDLE_OWN_LEN_MAX);
const _: () = assert!(2 * LTP_UNANSWERED_MAX < BUNDLES_SEEN_MAX && LTP_UNANSWERED_MAX <= LTP_SESSIONS_MAX);
const _: () = assert!(DTN_BUSY_LEN_MAX < LTP_IMPORT_LEN_MAX && BUNDLE_LEN_MAX < DTN_BUSY_LEN_MAX);
const _: () = assert!(SYMBOL_LEN_MAX == 1436 && BLOCK_LEN_MAX.div_ceil(SYMBOL_LEN_MAX) < SYMBOLS_MAX * 3 / 4);
const _: () = assert!(4 + 16 + 10 * REPORT_ENTRIES_MAX <= DATAGRAM_LEN_MAX - DATAGRAM_OWN_LEN);
const _: () = assert!(4 + 4 * PROBE_ENTRIES_MAX <= DATAGRAM_LEN_MAX - DATAGRAM_OWN_LEN);
const _: () = assert!(ROLL_GROUP.is_power_of_two() && ROLL_CHUNK_LEN <= CHUNK_LEN_MAX);
const _: () = assert!(EVIDENCE_LEN_MAX > MANIFEST_LEN_MAX / 3 * 4 / 64 * 69 + (1 << 20));
const _: () =
    assert!(DRIVES_MAX * (16 + 4 * (1 + REPORT_NAME_LEN_MAX) + 2 + 4 * 10 + 10) < REPORT_LEN_MAX - (14 << 10));
const _: () = assert!(REPORT_MANDATES_MAX <= MANDATES_KEPT_MAX && MANDATE_LEN_MAX > 8 * MANDATE_TEXT_MAX - 1);
const _: () = assert!(REPLAY_WINDOW.is_multiple_of(64));
