//! The limits of `lavatube_base::limits` that decoders keep: what is at the limit is read, what is one past it is refused.
//!
//! One test for each limit, named after it. Where a thing at the limit cannot be whole for another reason, the rule that
//! was broken tells the two apart. Limits that only private decoders see are tested beside those: [`PACK_LEN_MAX`] in
//! `open_session.rs`, [`KEY_FILE_MAX`] and [`TENANT_LEN_MAX`] in `key_file/tests.rs`, [`CARD_LEN_MAX`] for depositor cards
//! in `depositor_card.rs`.
//!
//! [`PACK_LEN_MAX`]: lavatube_base::limits::PACK_LEN_MAX
//! [`KEY_FILE_MAX`]: lavatube_base::limits::KEY_FILE_MAX
//! [`TENANT_LEN_MAX`]: lavatube_base::limits::TENANT_LEN_MAX

use lavatube_base::digest::h16;
use lavatube_base::limits::{
    AGENT_MESSAGE_LEN_MAX, AGENT_REASON_LEN_MAX, ASKED_MAX, CARD_LEN_MAX, CHUNK_LEN_MAX, DENIAL_TEXT_LEN_MAX,
    DRIVES_MAX, FRAME_RAW_MAX, JOURNAL_BODY_MAX, LAYERS_MAX, LIST_DEPTH_MAX, LISTED_MAX, MANIFEST_LEN_MAX,
    OBJECT_LEN_MAX, PACK_CLASSES, PARTS_MAX, PATH_LEN_MAX, RECORD_LEN_MAX, REFS_PER_LIST_MAX, SHARD_BLOCK_LEN,
    SKIPPED_LISTED_MAX, TREE_BLOCK_LEN_MAX,
};
use lavatube_base::sign::PairPublic;
use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, DriveId, SessionId, VaultId};
use lavatube_format::agent::{self, Reply};
use lavatube_format::drive_card::{DriveCard, SlotCard};
use lavatube_format::journal::{FIRST_CHECK, Line};
use lavatube_format::layer::{Layer, TreeChunk};
use lavatube_format::manifest::Manifest;
use lavatube_format::message::Message;
use lavatube_format::pack::{ChunkEntry, Delta, FrameEntry, Header, Method, decode_index};
use lavatube_format::shard::{Geometry, HEADER_LEN_MAX, ShardHeader};
use lavatube_format::snapshot::{Skipped, Snapshot};
use lavatube_format::tree::{Content, Entry, Kind, Meta, RecordReader, RecordWriter, Ref, decode_list, put_refs};
use lavatube_format::tree_cache::{CacheHead, CachedLayer, block_len};
use lavatube_format::wire::{put_bytes, put_varint};

const ID: ChunkId = ChunkId([1; 24]);

// --- packs ---

/// Whether an index is read that has one frame with these chunks: body length, and content length of a delta.
fn index_is_read(method: Method, stored_len: usize, chunks: &[(usize, Option<usize>)]) -> bool {
    let delta = |content_len| Box::new(Delta { base: ID, content_len });
    let chunk = |(body_len, content): &(usize, Option<usize>)| ChunkEntry {
        id: ID,
        body_len: *body_len,
        delta: content.map(delta),
    };
    let mut bytes = Vec::new();
    FrameEntry { method, stored_len, chunks: chunks.iter().map(chunk).collect() }.encode(&mut bytes);
    decode_index(1, None, &bytes).is_ok()
}

#[test]
fn chunk_len_max() {
    for (len, good) in [(CHUNK_LEN_MAX, true), (CHUNK_LEN_MAX + 1, false)] {
        assert_eq!(index_is_read(Method::Zstd, 9, &[(len, None)]), good, "body of {len}");
        assert_eq!(index_is_read(Method::Zstd, 9, &[(9, Some(len))]), good, "content of a delta of {len}");
        let layer = Layer { entries: 1, chunks: vec![TreeChunk { id: ID, len, first_path: vec![] }] };
        assert_eq!(Layer::decode(&layer.encode()).is_ok(), good, "tree chunk of {len}");
    }
}

#[test]
fn frame_raw_max() {
    assert_eq!(FRAME_RAW_MAX, 2 * CHUNK_LEN_MAX);
    let full = [(CHUNK_LEN_MAX, None), (CHUNK_LEN_MAX, None), (1, None)];
    assert!(index_is_read(Method::Raw, FRAME_RAW_MAX, &full[..2]));
    assert!(!index_is_read(Method::Raw, FRAME_RAW_MAX + 1, &full));
    assert!(index_is_read(Method::Zstd, FRAME_RAW_MAX + 64, &full[..2]));
    assert!(!index_is_read(Method::Zstd, FRAME_RAW_MAX + 65, &full[..2]));
}

#[test]
fn pack_classes() {
    for (class, good) in [(PACK_CLASSES - 1, true), (PACK_CLASSES, false)] {
        let header = Header { session: SessionId([1; 16]), number: 0, class, commitment: [2; 32] };
        assert_eq!(Header::decode(&header.encode()).is_ok(), good, "class {class}");
    }
}

// --- trees ---

fn records(entries: &[Entry]) -> Vec<u8> {
    let (mut writer, mut out) = (RecordWriter::default(), Vec::new());
    entries.iter().for_each(|e| writer.put(&mut out, e));
    out
}

fn are_read(bytes: &[u8]) -> bool {
    let mut reader = RecordReader::new(bytes);
    loop {
        match reader.next_entry() {
            Ok(Some(_)) => {}
            end => return end.is_ok(),
        }
    }
}

fn fifo(path: Vec<u8>) -> Entry {
    Entry { path, kind: Kind::Fifo, meta: Meta::default() }
}

#[test]
fn record_len_max() {
    let with_value = |len: usize| {
        let mut entry = fifo(b"a".to_vec());
        entry.meta.xattrs = vec![(b"user.a".to_vec(), vec![7; len])];
        records(&[entry])
    };
    // The record's own length takes three bytes here, as does that of the value.
    let rest = with_value(RECORD_LEN_MAX - 1000).len() - 3 - (RECORD_LEN_MAX - 1000);
    for (body, good) in [(RECORD_LEN_MAX, true), (RECORD_LEN_MAX + 1, false)] {
        let bytes = with_value(body - rest);
        assert_eq!((bytes.len() - 3, are_read(&bytes)), (body, good));
    }
}

#[test]
fn path_len_max() {
    for (len, good) in [(PATH_LEN_MAX, true), (PATH_LEN_MAX + 1, false)] {
        let long = vec![b'a'; len];
        assert_eq!(are_read(&records(&[fifo(long.clone())])), good, "path of {len}");
        let before = fifo(long[..len - 1].to_vec());
        assert_eq!(are_read(&records(&[before, fifo(long.clone())])), good, "path of {len}, most of it shared");
        let link = Entry { kind: Kind::Symlink(long.clone()), ..fifo(b"b".to_vec()) };
        assert_eq!(are_read(&records(&[link])), good, "target of {len}");
        let mut again = fifo(b"b".to_vec());
        again.meta.first_link = Some(long.clone());
        assert_eq!(are_read(&records(&[again])), good, "first name of {len}");
        let layer = Layer { entries: 1, chunks: vec![TreeChunk { id: ID, len: 1, first_path: long }] };
        assert_eq!(Layer::decode(&layer.encode()).is_ok(), good, "first path of {len}");
    }
}

#[test]
fn list_depth_max() {
    for (depth, good) in [(LIST_DEPTH_MAX, true), (LIST_DEPTH_MAX + 1, false)] {
        let refs = vec![Ref { id: ID, len: 9 }];
        let file = Kind::File(Content { size: 9, depth, refs, extents: None, digest: Some([3; 32]) });
        assert_eq!(are_read(&records(&[Entry { kind: file, ..fifo(b"a".to_vec()) }])), good, "depth {depth}");
    }
}

#[test]
fn refs_per_list_max() {
    for (n, good) in [(REFS_PER_LIST_MAX, true), (REFS_PER_LIST_MAX + 1, false)] {
        let mut list = Vec::new();
        put_refs(&mut list, &vec![Ref { id: ID, len: 1 }; n]);
        assert_eq!(decode_list(&list).is_ok(), good, "{n} references");
    }
}

#[test]
fn layers_max() {
    for (n, good) in [(LAYERS_MAX, true), (LAYERS_MAX + 1, false)] {
        let snapshot = Snapshot { layers: vec![ID; n], ..Snapshot::default() };
        assert_eq!(Snapshot::decode(&snapshot.encode()).is_ok(), good, "snapshot of {n} layers");
        let layer = CachedLayer { id: ID, since: 1, at: 2, entries: 3 };
        let time = WallTime { s: 1, ns: 2 };
        let (layers, body) = (vec![layer; n], [4; 32]);
        let head = CacheHead { snapshot: ID, started: time, generation: 1, layers, entries: 1, bytes: 1, body };
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        assert_eq!(CacheHead::decode(&bytes).is_ok(), good, "tree cache of {n} layers");
    }
}

#[test]
fn skipped_listed_max() {
    for (n, good) in [(SKIPPED_LISTED_MAX, true), (SKIPPED_LISTED_MAX + 1, false)] {
        let skipped = vec![Skipped { path: b"x".to_vec(), reason: "gone".into() }; n];
        let snapshot = Snapshot { layers: vec![ID], skipped, ..Snapshot::default() };
        assert_eq!(Snapshot::decode(&snapshot.encode()).is_ok(), good, "{n} skipped");
    }
}

#[test]
fn manifest_len_max() {
    for (len, good) in [(MANIFEST_LEN_MAX, true), (MANIFEST_LEN_MAX + 1, false)] {
        // Zeros are no manifest either; the longest that is one is in `manifest/tests.rs`.
        let rule = Manifest::decode_body(&vec![0; len]).unwrap_err().rule;
        assert_eq!(rule != "body exceeds its limit", good, "body of {len}");
    }
}

// --- drives ---

fn card(k: u8, slots: usize, label: &str) -> DriveCard {
    let slot = |n: usize| SlotCard {
        drive: DriveId([n.to_le_bytes()[0]; 16]),
        label: if n == 0 { label.to_owned() } else { String::new() },
        shelf: String::new(),
        maker: String::new(),
        model: String::new(),
        retired: false,
    };
    DriveCard {
        vault: VaultId([9; 16]),
        drive: DriveId([0; 16]),
        k,
        m: 0,
        vault_key: [7; 32],
        authority: PairPublic { ed25519: [8; 32], ml_dsa_65: vec![6; 1952] },
        slots: (0..slots).map(slot).collect(),
        edition: 0,
        mandates: 0,
    }
}

#[test]
fn drives_max() {
    for (n, good) in [(DRIVES_MAX, true), (DRIVES_MAX + 1, false)] {
        assert_eq!(DriveCard::decode(&card(1, n, "").encode()).is_ok(), good, "card of {n} drives");
        let parity = u8::try_from(n - 4).unwrap();
        assert_eq!(Geometry::new(1, 4, parity).is_some(), good, "stripe of {n} shards");
    }
}

#[test]
fn card_len_max() {
    let body_len = |bytes: &[u8]| bytes.len() / 2 - 8 - 4 - 32;
    // A text of this length has the same three bytes before it.
    let rest = body_len(&card(1, 1, &"x".repeat(60_000)).encode()) - 60_000;
    for (len, good) in [(CARD_LEN_MAX, true), (CARD_LEN_MAX + 1, false)] {
        let bytes = card(1, 1, &"x".repeat(len - rest)).encode();
        assert_eq!((body_len(&bytes), DriveCard::decode(&bytes).is_ok()), (len, good));
    }
}

#[test]
fn object_len_max() {
    for (len, good) in [(1, true), (0, false), (OBJECT_LEN_MAX, true), (OBJECT_LEN_MAX + 1, false)] {
        assert_eq!(Geometry::new(len as u64, 1, 0).is_some(), good, "object of {len}");
    }
    let longest = Geometry::new(OBJECT_LEN_MAX as u64, 1, 0).unwrap();
    assert!(longest.header_len() <= HEADER_LEN_MAX && longest.blocks() == OBJECT_LEN_MAX / SHARD_BLOCK_LEN);
    for (len, good) in [(HEADER_LEN_MAX, true), (HEADER_LEN_MAX + 1, false)] {
        let start = [&b"LVTSHRD\x01"[..], &u32::try_from(len).unwrap().to_le_bytes()].concat();
        assert_eq!(ShardHeader::claimed_len(&start), good.then_some(len));
    }
}

#[test]
fn journal_body_max() {
    const TOO_LONG: &str = "record body longer than the limit";
    for (len, good) in [(JOURNAL_BODY_MAX, true), (JOURNAL_BODY_MAX + 1, false)] {
        let mut bytes = u32::try_from(len).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.resize(bytes.len() + 1 + len, 1);
        let check = h16(&[&FIRST_CHECK, &bytes]);
        bytes.extend_from_slice(&check);
        // No record is so long, so this one is refused for what is in it.
        assert_eq!(Line::decode(&bytes, 1, &FIRST_CHECK).unwrap_err().rule != TOO_LONG, good, "body of {len}");
    }
}

// --- what a depositor keeps and says ---

#[test]
fn tree_block_len_max() {
    for (len, good) in [(TREE_BLOCK_LEN_MAX, true), (TREE_BLOCK_LEN_MAX + 1, false)] {
        let head = u32::try_from(len).unwrap().to_le_bytes();
        assert_eq!(block_len(head).ok(), good.then_some(len));
    }
}

#[test]
fn agent_message_len_max() {
    for (len, good) in [(AGENT_MESSAGE_LEN_MAX, true), (AGENT_MESSAGE_LEN_MAX + 1, false)] {
        let head = u32::try_from(len).unwrap().to_le_bytes();
        assert_eq!(agent::message_len(head).ok(), good.then_some(len));
        assert_eq!(agent::head(&vec![0; len]).ok(), good.then_some(head));
    }
}

#[test]
fn agent_reason_len_max() {
    for (len, good) in [(AGENT_REASON_LEN_MAX, true), (AGENT_REASON_LEN_MAX + 1, false)] {
        let reason = "x".repeat(len);
        let mut bytes = vec![3];
        put_bytes(&mut bytes, reason.as_bytes());
        assert_eq!(Reply::decode(&bytes).is_ok(), good, "reason of {len}");
        // A longer one is cut when it is sent.
        let cut = Reply::decode(&Reply::Refused(reason.clone()).encode());
        assert_eq!(cut, Ok(Reply::Refused(reason[..len.min(AGENT_REASON_LEN_MAX)].to_owned())));
    }
}

// --- the link ---

#[test]
fn denial_text_len_max() {
    for (len, good) in [(DENIAL_TEXT_LEN_MAX, true), (DENIAL_TEXT_LEN_MAX + 1, false)] {
        let mut bytes = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(&[0; 32]);
        put_bytes(&mut bytes, "x".repeat(len).as_bytes());
        assert_eq!(Message::decode(&bytes).is_ok(), good, "text of {len}");
    }
}

#[test]
fn asked_max() {
    for (count, good) in [(ASKED_MAX, true), (ASKED_MAX + 1, false)] {
        let mut bytes = vec![4, 0, 0, 0, 0, 0, 0, 0, 0];
        put_varint(&mut bytes, count as u64);
        bytes.resize(bytes.len() + 32 * count, 1);
        assert_eq!(Message::decode(&bytes).is_ok(), good, "{count} objects");
    }
}

#[test]
fn parts_max() {
    for (count, good) in [(PARTS_MAX, true), (PARTS_MAX + 1, false)] {
        let mut fetch = [&[5][..], &[0; 16], &[1]].concat();
        fetch.extend_from_slice(&[7; 32]);
        put_varint(&mut fetch, count as u64);
        (0..count).for_each(|_| fetch.extend_from_slice(&[0, 1]));
        assert_eq!(Message::decode(&fetch).is_ok(), good, "{count} parts are asked for");
        let mut parcel = [&[6][..], &[0; 16]].concat();
        put_varint(&mut parcel, count as u64);
        (0..count).for_each(|_| parcel.extend_from_slice(&[&[7; 32][..], &[0, 0, 1, 9]].concat()));
        assert_eq!(Message::decode(&parcel).is_ok(), good, "{count} parts come");
    }
}

#[test]
fn listed_max() {
    for (count, good) in [(LISTED_MAX, true), (LISTED_MAX + 1, false)] {
        let mut page = vec![8, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        page.extend_from_slice(&[0; 16]);
        put_varint(&mut page, count as u64);
        page.push(0);
        put_varint(&mut page, count as u64);
        for n in 0..count as u32 {
            page.extend_from_slice(&[&n.to_be_bytes()[..], &[0; 28], &[1]].concat());
        }
        assert_eq!(Message::decode(&page).is_ok(), good, "{count} objects are listed");
    }
}

#[test]
fn object_len_max_of_a_deposit() {
    for (len, good) in [(0, false), (1, true), (OBJECT_LEN_MAX, true), (OBJECT_LEN_MAX + 1, false)] {
        let bytes = [&[1, 1][..], &vec![7; len]].concat();
        assert_eq!(Message::decode(&bytes).is_ok(), good, "object of {len}");
    }
}

/// F2 beside the limits: a claim within the limit costs nothing when the bytes are not there.
#[test]
fn a_claim_within_the_limit_is_compared_with_what_is_left() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, RECORD_LEN_MAX as u64);
    assert!(!are_read(&bytes));
}
