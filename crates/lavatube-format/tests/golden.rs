//! Golden bytes of the layouts inside packs, of a depositor's state and of the key agent: what these values encode to is what `vectors/` keeps for ever.
//!
//! A change of a layout fails here first. `UPDATE=1 cargo test -p lavatube-format --test golden` writes the files of a new
//! version; those of released versions stay, with readers that know them.

#![expect(clippy::disallowed_methods, reason = "golden bytes are files, and UPDATE asks for new ones")]

use std::path::PathBuf;

use lavatube_base::digest::h16;
use lavatube_base::sign::{EdSigner, ML_DSA_65_PUBLIC_LEN, PairPublic};
use lavatube_base::slice::Slice;
use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, Denial, DepositorId, DriveId, ObjectId, Refusal, SessionId, VaultId};
use lavatube_format::agent::{self, Reply, Request};
use lavatube_format::audit::{self, Answer, Challenge, Progress};
use lavatube_format::audit_record::{AuditRecord, Outcome};
use lavatube_format::bucket::{ObjectLock, Piece, Probed};
use lavatube_format::care::{CareDrive, CareQuestion, CareScrub, DriveWord, Report, SignedReport};
use lavatube_format::catalog::{PackRow, Place, Record, RunHeader, check_page, page_records, seal_page};
use lavatube_format::check_record::{CheckRecord, Verdict};
use lavatube_format::checkpoint::Checkpoint;
use lavatube_format::drive_card::DriveCard;
use lavatube_format::journal::{self, Distrust, FIRST_CHECK};
use lavatube_format::key_file::Secret;
use lavatube_format::layer::{Layer, TreeChunk};
use lavatube_format::ledger::{LedgerReader, put_entry};
use lavatube_format::log::{self, Placed, Question};
use lavatube_format::mandate::{Mandate, Progress as Followed, Stage, Task, decode_book, encode_book};
use lavatube_format::manifest::{CT_LEN, ENC_LEN, Wrap};
use lavatube_format::message::{Message, Page, Part, Sent, Withheld, list_digest};
use lavatube_format::open_session::{self, Begun, PackDone, decode_log};
use lavatube_format::pack::{ChunkEntry, Delta, Footer, FrameEntry, Header, Method, decode_index};
use lavatube_format::pair_line::{PairLine, PairVault};
use lavatube_format::receipt::{Receipt, ReceiptBody};
use lavatube_format::roll::Roll;
use lavatube_format::scrub_record::{ScrubDrive, ScrubEnd, ScrubRecord, decode_scrubs, encode_scrubs};
use lavatube_format::shard::{Geometry, ObjectKind, ShardHeader};
use lavatube_format::snapshot::{Skipped, Snapshot, Totals};
use lavatube_format::spot::{self, Pick, SpotAnswer, SpotProof, SpotQuestion};
use lavatube_format::tags;
use lavatube_format::tree::{
    Content, Entry, Extent, Kind, Meta, RecordReader, RecordWriter, Ref, decode_list, put_refs,
};
use lavatube_format::tree_cache::{BlockReader, BlockWriter, CacheHead, CachedEntry, CachedLayer, Stamp, block_len};

fn golden(name: &str, bytes: &[u8]) {
    let path = vector(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, bytes).expect("a file in vectors/");
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(kept == bytes, "{name}: the layout changed");
}

fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}

fn chunk(n: u8) -> ChunkId {
    ChunkId([n; 24])
}

#[test]
fn pack_header_index_and_footer_are_as_ever() {
    let header = Header { session: SessionId([1; 16]), number: 7, class: 2, commitment: [2; 32] };
    golden("pack_header-v1.bin", &header.encode());
    assert_eq!(Header::decode(&header.encode()), Ok(header));

    let delta = Some(Box::new(Delta { base: chunk(4), content_len: 300 }));
    let frames = vec![
        FrameEntry {
            method: Method::Zstd,
            stored_len: 1000,
            chunks: vec![
                ChunkEntry { id: chunk(3), body_len: 20_000, delta: None },
                ChunkEntry { id: chunk(5), body_len: 17, delta },
            ],
        },
        FrameEntry {
            method: Method::Raw,
            stored_len: 64,
            chunks: vec![ChunkEntry { id: chunk(6), body_len: 64, delta: None }],
        },
    ];
    let mut index = Vec::new();
    frames.iter().for_each(|f| f.encode(&mut index));
    golden("pack_index-v1.bin", &index);
    assert_eq!(decode_index(2, Some(1064), &index), Ok(frames));
    let footer = Footer { index_len: index.len(), frames_len: 1064, frames: 2 };
    golden("pack_footer-v1.bin", &footer.encode());
}

fn tree() -> Vec<Entry> {
    let meta = |mode, s| Meta { mode, uid: 1000, gid: 100, mtime: WallTime { s, ns: 5 }, ..Meta::default() };
    let entry = |path: &[u8], kind, meta| Entry { path: path.to_vec(), kind, meta };
    let file = |size, refs: Vec<Ref>, digest| Kind::File(Content { size, depth: 0, refs, extents: None, digest });
    let one = vec![Ref { id: chunk(7), len: 12 }];
    let two = vec![Ref { id: chunk(8), len: 16_384 }, Ref { id: chunk(9), len: 1 }];
    let sparse = Kind::File(Content {
        size: 1 << 30,
        depth: 0,
        refs: vec![Ref { id: chunk(10), len: 8192 }],
        extents: Some(vec![Extent { at: 4096, len: 4096 }, Extent { at: 1 << 20, len: 4096 }]),
        digest: None,
    });
    let long = Kind::File(Content {
        size: 100_000_000,
        depth: 1,
        refs: vec![Ref { id: chunk(11), len: 100_000_000 }],
        extents: None,
        digest: Some([12; 32]),
    });
    let mut with_xattrs = meta(0o644, -1);
    with_xattrs.xattrs = vec![(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), b"value".to_vec())];
    let mut link = meta(0o644, -1);
    link.first_link = Some(b"home/a".to_vec());
    vec![
        entry(b"home", Kind::Directory, meta(0o1777, 1_700_000_000)),
        entry(b"home/a", file(12, one.clone(), None), with_xattrs),
        entry(b"home/a-link", file(12, one, None), link),
        entry(b"home/dir", Kind::Directory, meta(0o755, 0)),
        entry(b"home/dir/\xff", file(16_385, two, Some([13; 32])), meta(0o4755, 0)),
        entry(b"home/empty", file(0, vec![], None), meta(0, 0)),
        entry(b"home/fifo", Kind::Fifo, meta(0o600, 0)),
        entry(b"home/gone", Kind::Gone, Meta::default()),
        entry(b"home/long", long, meta(0o644, 0)),
        entry(b"home/null", Kind::CharDevice { major: 1, minor: 3 }, meta(0o666, 0)),
        entry(b"home/sda", Kind::BlockDevice { major: 8, minor: 0 }, meta(0o660, 0)),
        entry(b"home/socket", Kind::Socket, meta(0o755, 0)),
        entry(b"home/sparse", sparse, meta(0o644, 0)),
        entry(b"home/to", Kind::Symlink(b"../elsewhere".to_vec()), meta(0o777, 0)),
    ]
}

#[test]
fn tree_chunks_lists_and_layers_are_as_ever() {
    let (mut bytes, mut writer) = (Vec::new(), RecordWriter::default());
    let tree = tree();
    tree.iter().for_each(|e| writer.put(&mut bytes, e));
    golden("tree_chunk-v1.bin", &bytes);
    let (mut reader, mut again) = (RecordReader::new(&bytes), Vec::new());
    while let Some(entry) = reader.next_entry().unwrap() {
        again.push(entry);
    }
    assert_eq!(again, tree);

    let refs = vec![Ref { id: chunk(1), len: 65_536 }, Ref { id: chunk(2), len: 3 }];
    let mut list = Vec::new();
    put_refs(&mut list, &refs);
    golden("list_chunk-v1.bin", &list);
    assert_eq!(decode_list(&list), Ok(refs));

    let first = TreeChunk { id: chunk(1), len: 300, first_path: b"home".to_vec() };
    let layer =
        Layer { entries: 14, chunks: vec![first, TreeChunk { id: chunk(2), len: 9, first_path: b"z\xff".to_vec() }] };
    golden("layer-v1.bin", &layer.encode());
    assert_eq!(Layer::decode(&layer.encode()), Ok(layer));
}

#[test]
fn snapshot_records_are_as_ever() {
    let snapshot = Snapshot {
        time: WallTime { s: 1_790_000_000, ns: 123 },
        host: "moon".into(),
        paths: vec![b"/home".to_vec(), b"/srv/\xff".to_vec()],
        tags: vec!["weekly".into()],
        program: "lavatube 0.1.0".into(),
        layers: vec![chunk(2), chunk(1)],
        totals: Totals { files: 6, directories: 2, others: 5, bytes: 1 << 31, new_bytes: 24, skipped: 1 },
        skipped: vec![Skipped { path: b"home/locked".to_vec(), reason: "permission denied".into() }],
        parent: Some(chunk(3)),
        description: Some("before the move".into()),
        roll: Vec::new(),
    };
    golden("snapshot-v1.bin", &snapshot.encode());
    assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot.clone()));
    let rolled = Snapshot { roll: vec![chunk(4), chunk(5)], ..snapshot };
    golden("snapshot_roll-v1.bin", &rolled.encode());
    assert_eq!(Snapshot::decode(&rolled.encode()), Ok(rolled));
}

/// Mandates of all kinds, and how far each is.
fn mandates() -> Vec<(Mandate, Followed)> {
    let drive = DriveId([4; 16]);
    let tasks = [
        Task::Scrub { bytes_s: 50_000_000, rest_percent: 80, for_s: 7200, anew: true },
        Task::Repair,
        Task::Label { drive, names: [Some("A3".into()), Some("left".into()), None, None] },
        Task::Add { drive: "/mnt/g/lavatube,label=A7".into() },
        Task::Admit { drive },
        Task::Retire { drive },
    ];
    let stages = [Stage::Done, Stage::InPart, Stage::Failed, Stage::Done, Stage::UnderWay, Stage::Waits];
    let of = |((task, stage), number): ((Task, Stage), u64)| {
        let progress = Followed { stage, since_s: 1_790_000_000, done: 300, total: 900, text: "d3".into() };
        (Mandate { vault: VaultId([1; 16]), number, task }, progress)
    };
    tasks.into_iter().zip(stages).zip(7..).map(of).collect()
}

#[test]
fn what_crosses_for_the_care_of_a_vault_is_as_ever() {
    let first = std::fs::read(vector("drive_card-v1.bin")).expect("a file in vectors/");
    let card = DriveCard { edition: 4, mandates: 300, ..DriveCard::decode(&first).expect("a card") };
    golden("drive_card_mandates-v1.bin", &card.encode());
    assert_eq!(DriveCard::decode(&card.encode()), Ok(card));
    golden("mandates-v1.bin", &encode_book(&mandates()));
    assert_eq!(decode_book(&encode_book(&mandates())), Ok(mandates()));
    let question = CareQuestion { nonce: [9; 16], mandate: Some(b"not one".to_vec()) };
    let bare = CareQuestion { nonce: [9; 16], mandate: None };
    let drive = |n: u8, word, distrust| CareDrive {
        drive: DriveId([n; 16]),
        names: ["d1", "left", "WD", ""].map(str::to_owned),
        word,
        distrust,
        total: 1 << 40,
        free: 1 << 39,
        damaged: n.into(),
        missing: 300,
    };
    let scrub =
        |end| CareScrub { end, began_s: 1_780_000_000, until_s: 1_790_000_000, counts: [1, 2, 3, 4, 5, 6, 7, 8, 300] };
    let report = Report {
        vault: VaultId([1; 16]),
        nonce: [9; 16],
        time_s: 1_790_000_000,
        refusal: "its number is 3, and mandate 4 was taken before".into(),
        k: 1,
        m: 1,
        counts: [900, 1 << 33, 1, 2],
        one_disk: true,
        redundancy: vec![0, 899],
        drives: vec![drive(2, DriveWord::Present, None), drive(3, DriveWord::Quarantined, Some(Distrust::Slow))],
        scrubs: vec![scrub(ScrubEnd::Whole), scrub(ScrubEnd::Open)],
        last_mandate: 12,
        mandates: mandates().into_iter().skip(4).map(|(m, followed)| (m.number, m.task.code(), followed)).collect(),
    };
    let report = Box::new(SignedReport { report, signature: [8; 64] });
    for (name, message) in [
        ("care_asked", Message::CareAsked { request: 7, question }),
        ("care_asked_bare", Message::CareAsked { request: 7, question: bare }),
        ("cared", Message::Cared { request: 7, report }),
    ] {
        golden(&format!("message_{name}-v1.bin"), &message.encode(9));
        assert_eq!((Message::decode(&message.encode(9)), Message::turn(&message.encode(9))), (Ok(message), 9));
    }
}

#[test]
fn spot_proofs_are_as_ever() {
    let pick = |n, number| Pick { pack: ObjectId([n; 32]), number };
    let question = SpotQuestion { nonce: [7; 32], picks: vec![pick(1, 0), pick(1, 300), pick(2, 65_535)] };
    let message = Message::SpotAsked { request: 5, question };
    golden("message_spot_asked-v1.bin", &message.encode(9));
    assert_eq!(Message::decode(&message.encode(9)), Ok(message));
    let slice = Slice { bytes: (0..=255).cycle().take(1024).collect(), beside: vec![[1; 32], [2; 32]] };
    let answer = SpotAnswer { nonce: [7; 32], slices: vec![Ok(slice), Err(Denial::Away), Err(Denial::Lost)] };
    let message = Message::Spot { request: 5, answer: answer.clone() };
    golden("message_spot-v1.bin", &message.encode(9));
    assert_eq!(Message::decode(&message.encode(9)), Ok(message));
    let proof = SpotProof { time_s: 1_790_000_000, manifests: vec![b"not one".to_vec()], answer };
    golden("spot_proof-v1.bin", &proof.encode());
    assert_eq!(SpotProof::decode(&proof.encode()), Ok(proof));
    // Which slices a nonce picks is part of the format.
    let packs = [(ObjectId([1; 32]), 4096), (ObjectId([2; 32]), 1 << 20)];
    let drawn = spot::picks(&[7; 32], &packs, 8);
    golden(
        "spot_picks-v1.bin",
        &drawn.iter().flat_map(|p| [&p.pack.0[..], &p.number.to_le_bytes()].concat()).collect::<Vec<_>>(),
    );
}

#[test]
fn rolls_are_as_ever() {
    let roll = Roll { runs: vec![(0, 2), (300, 16), (1, 1)], groups: vec![[1; 32], [2; 32]] };
    golden("roll-v1.bin", &roll.encode());
    assert_eq!(Roll::decode(&roll.encode()), Ok(roll));
}

#[test]
fn catalog_records_are_as_ever() {
    let place = Place { pack: 1, frame_at: 2, frame_len: 3, method: Method::Zstd, body_at: 4, delta: true };
    let record = Record { id: chunk(5), place }.encode();
    golden("catalog_record-v1.bin", &record);
    let mut page = record.to_vec();
    seal_page(3, &mut page);
    golden("catalog_page-v2.bin", &page);
    assert_eq!(check_page(3, &mut page), Ok(()));
    assert_eq!(page_records(&page), [record]);
    let header = RunHeader { records: 103, packs: 2 };
    golden("catalog_header-v2.bin", &header.encode());
    assert_eq!(RunHeader::decode(&header.encode()), Ok(header));
    let row = PackRow { id: ObjectId([6; 32]), class: 6, session: SessionId([7; 16]), number: 8 };
    golden("catalog_pack-v2.bin", &row.encode());
    assert_eq!(PackRow::decode(&row.encode()), Ok(row));
}

#[test]
fn a_check_record_is_as_ever() {
    let record = CheckRecord {
        time: WallTime { s: 1_795_417_957, ns: 5 },
        verdict: Verdict::Damaged,
        snapshots: Some(3),
        share: 50_000,
        bytes: 1 << 40,
        packs: 7,
        unsound: 2,
        files: 1,
    };
    golden("check_record-v1.bin", &record.encode());
    assert_eq!(CheckRecord::decode(&record.encode()), Ok(record));
}

#[test]
fn scrubs_are_as_ever() {
    let began = WallTime { s: 1_795_417_957, ns: 5 };
    let whole = ScrubRecord {
        until: WallTime { s: 1_795_427_957, ns: 6 },
        end: ScrubEnd::Whole,
        upto: ObjectId([0xfe; 32]),
        worked_ms: 9_000_000,
        objects: 1234,
        bytes: 1 << 40,
        read: 3 << 39,
        unsound: 3,
        degraded: 1,
        mended: 2,
        left: 1,
        lost: 1,
        lost_ids: vec![ObjectId([7; 32])],
        drives: vec![ScrubDrive { damaged: 300, missing: 1, ..ScrubDrive::of(DriveId([2; 16])) }],
        ..ScrubRecord::begin(began)
    };
    let records =
        [whole, ScrubRecord { end: ScrubEnd::Dropped, ..ScrubRecord::begin(began) }, ScrubRecord::begin(began)];
    let first = std::fs::read(vector("scrubs-v1.bin")).expect("a file in vectors/");
    assert_eq!(decode_scrubs(&first), Ok(records.to_vec()), "version 1 is read for ever");
    let mut records = records;
    let tried = ScrubDrive { away: 2, left: 4, on_trial: true, ..ScrubDrive::of(DriveId([3; 16])) };
    records[0].drives.push(tried);
    records[0].sequence = 70_000;
    golden("scrubs-v2.bin", &encode_scrubs(&records));
    assert_eq!(decode_scrubs(&encode_scrubs(&records)), Ok(records.to_vec()));
}

#[test]
fn records_of_drives_in_a_journal_are_as_ever() {
    let held = Distrust::ALL.iter().zip(0u8..).map(|(why, slot)| journal::Record::Quarantined { slot, why: *why });
    let cleared = journal::Record::Cleared { object: ObjectId([7; 32]), index: 4, slot: 1 };
    let (mut out, mut check) = (Vec::new(), FIRST_CHECK);
    for (record, sequence) in held.chain([journal::Record::Admitted { slot: 2 }, cleared]).zip(1..) {
        check = record.encode(sequence, &check, &mut out);
    }
    golden("journal_drives-v1.bin", &out);
}

#[test]
fn a_tree_cache_is_as_ever() {
    let layers = vec![
        CachedLayer { id: chunk(2), since: 3, at: 4, entries: 200 },
        CachedLayer { id: chunk(1), since: 0, at: 3, entries: 14 },
    ];
    let head = CacheHead {
        snapshot: chunk(3),
        started: WallTime { s: 1_790_000_000, ns: 123 },
        generation: 4,
        layers,
        entries: 13,
        bytes: 1 << 31,
        body: [5; 32],
    };
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    golden("tree_cache_head-v1.bin", &bytes);
    assert_eq!(CacheHead::decode(&bytes), Ok(head));

    let stamp = |n| Stamp { ctime: WallTime { s: -1, ns: 999_999_999 }, inode: n, device: 0x801 };
    let cached = |(n, entry)| CachedEntry { stamp: stamp(n), born: 1 + n % 4, entry };
    let entries: Vec<_> = (500..).zip(tree()).map(cached).collect();
    let (mut writer, mut body) = (BlockWriter::default(), Vec::new());
    for block in entries.chunks(5) {
        block.iter().for_each(|e| writer.put(e));
        writer.close(|bytes| body.extend_from_slice(bytes));
    }
    golden("tree_cache_body-v1.bin", &body);
    let (mut rest, mut again) = (&body[..], Vec::new());
    while let Some((head, tail)) = rest.split_first_chunk() {
        let (block, tail) = tail.split_at(block_len(*head).unwrap());
        let mut reader = BlockReader::new(block);
        while let Some(entry) = reader.next_entry().unwrap() {
            again.push(entry);
        }
        rest = tail;
    }
    assert_eq!(again, entries);
}

fn wraps() -> Vec<Wrap> {
    let wrap = |n| Wrap { key_id: [n; 8], enc: vec![n + 1; ENC_LEN], ct: vec![n + 2; CT_LEN] };
    vec![wrap(1), wrap(4)]
}

#[test]
fn an_open_session_is_as_ever() {
    let session = SessionId([7; 16]);
    let (depositor, tenant) = (DepositorId([5; 32]), "default".to_owned());
    let begun = Begun { session, depositor, tenant, secret: Secret::new([8; 32]), wraps: wraps() };
    let chunks = vec![ChunkEntry { id: chunk(3), body_len: 64, delta: None }];
    let frames = vec![FrameEntry { method: Method::Raw, stored_len: 64, chunks }];
    let row = PackRow { id: ObjectId([6; 32]), class: 2, session, number: 300 };
    let mut bytes = Vec::new();
    begun.encode(&mut bytes);
    PackDone { row, sha256: [9; 32], frames }.encode(&mut bytes);
    golden("open_session-v2.bin", &bytes);
    let mut again = Vec::new();
    for record in decode_log(&bytes) {
        match record {
            open_session::Record::Begun(begun) => begun.encode(&mut again),
            open_session::Record::Pack(pack) => pack.encode(&mut again),
        }
    }
    assert_eq!(again, bytes);
}

#[test]
fn a_ledger_is_as_ever() {
    let receipt = |n: u8, kind| {
        let (vault, object) = (VaultId([1; 16]), ObjectId([n; 32]));
        let body = ReceiptBody { vault, sequence: 300, kind, object, check: [n + 1; 16] };
        Receipt { body, signature: [n + 2; 64] }
    };
    let all = [receipt(2, ObjectKind::Pack), receipt(5, ObjectKind::Manifest)];
    let mut bytes = Vec::new();
    all.iter().for_each(|r| put_entry(&mut bytes, r.body.object, &r.encode()));
    golden("ledger-v1.bin", &bytes);
    assert!(LedgerReader::new(&bytes).eq(all));
}

#[test]
fn messages_of_the_link_are_as_ever() {
    let body = ReceiptBody {
        vault: VaultId([1; 16]),
        sequence: 300,
        kind: ObjectKind::Pack,
        object: ObjectId([2; 32]),
        check: [3; 16],
    };
    let part = |id, start, len| Part { id: ObjectId([id; 32]), start, len };
    let sent = |id, bytes| Sent { id: ObjectId([id; 32]), start: 0, bytes };
    let withheld = Withheld { len: 5, denial: Denial::Lost, text: "two drives are gone".into() };
    let objects = vec![(ObjectId([1; 32]), 4096), (ObjectId([2; 32]), 300)];
    let page = Page { kind: ObjectKind::Manifest, digest: list_digest(&objects), total: 2, first: 0, objects };
    let all = [
        Message::Deposit { kind: ObjectKind::Manifest, object: b"a manifest" },
        Message::Receipted(Receipt { body, signature: [4; 64] }),
        Message::Denied { id: ObjectId([5; 32]), denial: Denial::Refused(Refusal::Object), text: "no manifest".into() },
        Message::Asked(vec![ObjectId([6; 32]), ObjectId([7; 32])]),
        Message::Fetch { request: 8, parts: vec![part(1, 0, 48), part(1, 70_000, 300), part(2, 5, 1)] },
        Message::Parcel { request: 8, parts: vec![sent(1, Ok(b"a part")), sent(2, Err(withheld))] },
        Message::List { kind: ObjectKind::Manifest, known: [9; 16] },
        Message::Listed(page),
    ];
    let names = ["deposit", "receipted", "denied", "asked", "fetch", "parcel", "list", "listed"];
    for (name, message) in names.iter().zip(all) {
        let bytes = message.encode(10);
        golden(&format!("message_{name}-v1.bin"), &bytes);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }
}

#[test]
fn keys_of_pieces_and_what_an_endpoint_has_shown_are_as_ever() {
    let piece = |generation, offset, len| Piece { generation, offset, len };
    let pieces = [piece(1, 0, 0), piece(1, 0, 302), piece(0x12ab, 0x1_0000_0000, 64 << 20)];
    let text: String = pieces.iter().map(|piece| piece.name("journal") + "\n").collect();
    golden("bucket_pieces-v1.txt", text.as_bytes());
    let read: Vec<_> = text.lines().map(|line| Piece::parse("journal", line)).collect();
    assert_eq!(read, pieces.map(Some));
    for other in [
        "journal",
        "journal/1/0-0",
        "journal/00000001/0000000000000000-0000000A",
        "other/00000001/0000000000000000-00000000",
    ] {
        assert_eq!(Piece::parse("journal", other), None);
    }
    let shown = Probed { conditional_put: true, ranges: true, lock: ObjectLock::On { days: 30 }, ..Probed::default() };
    golden("bucket_probe-v1.txt", shown.encode().as_bytes());
    assert_eq!(Probed::decode(shown.encode().as_bytes()), Ok(shown.clone()));
    for lock in [ObjectLock::Untold, ObjectLock::Off] {
        let shown = Probed { lock, ..shown.clone() };
        assert_eq!(Probed::decode(shown.encode().as_bytes()), Ok(shown));
    }
    for other in ["", "lavatube probe 1\n", "lavatube probe 2\nconditional-put yes\n", &(shown.encode() + "x")] {
        assert!(Probed::decode(other.as_bytes()).is_err());
    }
}

#[test]
fn pair_lines_are_as_ever() {
    let vault = PairVault { id: VaultId([1; 16]), key: [2; 32] };
    let line = |n, vault, recovery| PairLine { link_key: [n; 32], vault, recovery };
    let all = [line(3, None, None), line(4, Some(vault), None)];
    let recovery = line(5, None, Some([6; 32]));
    golden("pair_line_recovery-v1.txt", format!("{}\n", recovery.encode()).as_bytes());
    assert_eq!(PairLine::decode(&recovery.encode()), Ok(recovery));
    let text = all.each_ref().map(PairLine::encode);
    golden("pair_line-v1.txt", format!("{}\n{}\n", text[0], text[1]).as_bytes());
    assert_eq!(text.each_ref().map(|text| PairLine::decode(text)), all.map(Ok));
    assert_eq!(text.each_ref().map(String::len), [6 + 60, 6 + 136]);
}

/// Messages as they follow each other on the socket.
#[test]
fn messages_of_the_log_are_as_ever() {
    let objects = vec![ObjectId([1; 32]), ObjectId([2; 32])];
    let question = Message::LogAsked(Question { nonce: [7; 16], known: 300, objects });
    let vault = VaultId([0xa1; 16]);
    let signer = EdSigner::from_seed(&[4; 32]).unwrap();
    let note = Checkpoint { vault, size: 301, root: [0x5a; 32], nonce: Some([7; 16]) }.sign(&signer);
    let placed = |n, place| Placed { id: ObjectId([n; 32]), place };
    let answer = Message::Logged(log::Answer {
        note: note.note().as_bytes().to_vec(),
        consistency: Some(vec![[3; 32], [4; 32]]),
        objects: vec![placed(1, Some((300, vec![[5; 32]]))), placed(2, None)],
    });
    for (name, message) in [("log_asked", question), ("logged", answer)] {
        let bytes = message.encode(10);
        golden(&format!("message_{name}-v1.bin"), &bytes);
        assert_eq!((Message::decode(&bytes), Message::turn(&bytes)), (Ok(message), 10));
    }
    let note = Checkpoint { vault, size: 12_345, root: [0x5a; 32], nonce: Some([0x0f; 16]) }.sign(&signer);
    golden("checkpoint-v1.txt", note.note().as_bytes());
}

#[test]
fn the_shard_header_of_what_is_in_the_log_is_as_ever() {
    let geometry = Geometry::new(5000, 4, 2).unwrap();
    let hashes = (0..geometry.blocks()).map(|b| h16(&[&b.to_le_bytes()])).collect();
    let header = ShardHeader {
        kind: ObjectKind::Manifest,
        geometry,
        index: 1,
        object: ObjectId([0x5a; 32]),
        generation: 1,
        vault: VaultId([0xaa; 16]),
        drive: DriveId([0xd1; 16]),
        place: Some(0x0102_0304),
        hashes,
    };
    golden("shard_logged-v1.bin", &header.encode());
    assert_eq!(ShardHeader::decode(&header.encode()), Ok(header));
}

fn conversation(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&agent::head(m).expect("a short message"), *m].concat()).collect()
}

#[test]
fn agent_messages_are_as_ever() {
    let (session, depositor) = (SessionId([7; 16]), DepositorId([8; 32]));
    let requests = [Request::Hello, Request::Open { session, depositor, wraps: wraps() }];
    let bytes = requests.each_ref().map(Request::encode);
    golden("agent_requests-v1.bin", &conversation(&bytes.each_ref().map(|b| &b[..])));
    bytes.iter().zip(requests).for_each(|(b, request)| assert_eq!(Request::decode(b), Ok(request)));

    let authority = PairPublic { ed25519: [3; 32], ml_dsa_65: vec![4; ML_DSA_65_PUBLIC_LEN] };
    let (psk, chunk_id_key) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let hello = Reply::Hello { tenant: "default".into(), psk, chunk_id_key, authority };
    let replies = [hello, Reply::Opened(Secret::new([5; 32])), Reply::Refused("another key".into())];
    let bytes = replies.each_ref().map(Reply::encode);
    golden("agent_replies-v1.bin", &conversation(&bytes.each_ref().map(|b| &b[..])));
    bytes.iter().zip(replies).for_each(|(b, reply)| assert_eq!(Reply::decode(b), Ok(reply)));
}

#[test]
fn audits_are_as_ever() {
    let place = |n, position| audit::Place { manifest: ObjectId([n; 32]), position };
    let depositors = vec![(DepositorId([1; 32]), 7), (DepositorId([2; 32]), 300)];
    let challenge = Challenge { nonce: [9; 32], from: place(3, 2), upto: audit::Place::END, depositors };
    let mut answer = Answer::new(place(8, 3));
    (answer.manifests, answer.packs, answer.bytes, answer.tags) = (3, 900, 1 << 40, 5 << 120);
    answer.bad = vec![(place(3, 4), Denial::Lost), (place(8, 2), Denial::Refused(Refusal::Object))];
    answer.sum.iter_mut().zip(0u32..).for_each(|(byte, i)| *byte = (i * 7 % 251) as u8);
    let messages = [
        ("message_challenge-v1.bin", Message::Challenge { request: 7, challenge: challenge.clone() }),
        ("message_proof-v1.bin", Message::Proof { request: 7, answer: answer.clone() }),
    ];
    for (name, message) in messages {
        golden(name, &message.encode(9));
        assert_eq!(Message::turn(&message.encode(9)), 9);
        assert_eq!(Message::decode(&message.encode(9)), Ok(message));
    }
    let progress = Progress { challenge: challenge.clone(), answer };
    golden("audit_progress-v1.bin", &progress.encode());
    assert_eq!(Progress::decode(&progress.encode()), Ok(progress));
    golden("audit_weights-v1.bin", &challenge.weights(place(4, 1), 3));

    let record = AuditRecord {
        time: WallTime { s: 1_800_000_000, ns: 5 },
        outcome: Outcome::Away,
        manifests: 1,
        packs: 2,
        bytes: 3 << 40,
        untagged: 4,
        bad: 5,
        answered: 16_470,
    };
    golden("audit_record-v1.bin", &record.encode());
    assert_eq!(AuditRecord::decode(&record.encode()), Ok(record));

    let mut entry = Vec::new();
    tags::put_entry(&mut entry, ObjectId([3; 32]), &[9; 32]);
    golden("open_tags-v1.bin", &entry);
    assert_eq!(tags::read_entry(&entry), Ok((ObjectId([3; 32]), &[9; 32][..])));
}
