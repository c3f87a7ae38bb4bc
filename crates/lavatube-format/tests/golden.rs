//! Golden bytes of the layouts inside packs: what these values encode to is what `vectors/` keeps for ever.
//!
//! A change of a layout fails here first. `UPDATE=1 cargo test -p lavatube-format --test golden` writes the files of a new
//! version; those of released versions stay, with readers that know them.

#![expect(clippy::disallowed_methods, reason = "golden bytes are files, and UPDATE asks for new ones")]

use std::path::PathBuf;

use lavatube_base::time::WallTime;
use lavatube_base::{ChunkId, ObjectId, SessionId};
use lavatube_format::catalog::{PackRow, Place, Record, RunHeader, check_page, page_records, seal_page};
use lavatube_format::check_record::{CheckRecord, Verdict};
use lavatube_format::layer::{Layer, TreeChunk};
use lavatube_format::pack::{ChunkEntry, Delta, Footer, FrameEntry, Header, Method, decode_index};
use lavatube_format::snapshot::{Skipped, Snapshot, Totals};
use lavatube_format::tree::{
    Content, Entry, Extent, Kind, Meta, RecordReader, RecordWriter, Ref, decode_list, put_refs,
};

fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, bytes).expect("a file in vectors/");
    }
    let kept = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(kept == bytes, "{name}: the layout changed");
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
    };
    golden("snapshot-v1.bin", &snapshot.encode());
    assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
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
