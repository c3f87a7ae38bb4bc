//! The offset tables of `docs/FORMAT.md` against the bytes we write: a layout is drawn once, and the drawing is true.
//!
//! Each row of a table says where a field lies and how long it is. A value whose fields can be told apart is encoded, and
//! every row must find its field there; the rows must follow each other without gaps, up to the last byte. Layouts that
//! FORMAT writes as a sequence (`a ‖ b`) have no offsets to compare; their golden files keep them.

use lavatube_base::digest::{Verified, h16};
use lavatube_base::limits::PIECE_LEN;
use lavatube_base::{DriveId, ObjectId, SessionId, VaultId};
use lavatube_format::datagram::{Datagram, put_head};
use lavatube_format::pack::{HEADER_LEN, Header, PIECE_STORED, TAG_LEN};
use lavatube_format::shard::{Geometry, ObjectKind, ShardHeader};

const FORMAT: &str = include_str!("../../../docs/FORMAT.md");

/// One row: where the field begins, how many bytes it has, and what it is.
type Row = (&'static str, &'static str, &'static str);

/// The offset table whose first field is this magic.
fn table(magic: &str) -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.splitn(3, '|').map(str::trim).collect();
        cells.try_into().ok().map(|[offset, bytes, field]: [_; 3]| (offset, bytes, field))
    };
    let tables = FORMAT.split("| offset | bytes | field |\n|---|---|---|\n").skip(1);
    let mut found = tables.map(|t| t.lines().map_while(row).collect::<Vec<_>>());
    found.find(|rows| rows[0].2.contains(magic)).unwrap_or_else(|| panic!("FORMAT has no offset table of {magic}"))
}

/// What a cell is in bytes: a number, or one of the few sums FORMAT has, with H and the number of blocks put in.
fn number(cell: &str, h: usize, blocks: usize) -> usize {
    match cell {
        "16 · blocks" => 16 * blocks,
        "H − 32" => h - 32,
        plain => plain.parse().unwrap_or_else(|_| panic!("{cell} is no offset or length")),
    }
}

/// Magic and version as FORMAT writes them: `` magic `LVTPACK` 0x01 ``.
fn magic(field: &str) -> Vec<u8> {
    let bytes = || {
        let (name, version) = field.strip_prefix("magic `")?.split_once("` 0x")?;
        Some([name.as_bytes(), &[u8::from_str_radix(version, 16).ok()?]].concat())
    };
    bytes().unwrap_or_else(|| panic!("{field} is no magic and version"))
}

/// Compares a table with `bytes`, of which `field` says what each row must find.
fn compare(rows: &[Row], bytes: &[u8], blocks: usize, field: impl Fn(&str) -> Vec<u8>) {
    let mut end = 0;
    for (offset, len, what) in rows {
        let (at, len) = (number(offset, bytes.len(), blocks), number(len, bytes.len(), blocks));
        assert_eq!(at, end, "{what}: a gap, or two fields in one place");
        end = at + len;
        assert_eq!(bytes[at..end], field(what), "{what}");
    }
    assert_eq!(end, bytes.len(), "the table ends where the header does");
}

#[test]
fn a_pack_header_is_as_drawn() {
    let mut rows = table("LVTPACK");
    assert_eq!(rows.pop(), Some(("96", "…", "pieces to the end")));
    let header = Header { session: SessionId([0x51; 16]), number: 0x0403_0201, class: 7, commitment: [0xc0; 32] };
    compare(&rows, &header.encode(), 0, |what| match what {
        m if m.starts_with("magic ") => magic(m),
        "suite, ASCII: `aesgcm-1`" => b"aesgcm-1".to_vec(),
        "SessionId" => vec![0x51; 16],
        "pack number in the session, u32, from 0" => vec![1, 2, 3, 4],
        "class" => vec![7],
        "reserved" => vec![0; 27],
        "key commitment" => vec![0xc0; 32],
        other => panic!("a pack header has no {other}"),
    });
    assert_eq!((HEADER_LEN, PIECE_LEN, TAG_LEN, PIECE_STORED), (96, 16384, 16, 16400));
    for said in ["ceil((size − 96) / 16400) pieces", "A piece is 16384 bytes", "16-byte tag (16400 stored bytes)"] {
        assert!(FORMAT.contains(said), "FORMAT does not say any more: {said}");
    }
}

#[test]
fn a_shard_header_is_as_drawn() {
    let geometry = Geometry::new(300_001, 4, 2).unwrap();
    let hashes: Vec<_> = (0..geometry.blocks()).map(|b| h16(&[&b.to_le_bytes()])).collect();
    let (vault, drive) = (VaultId([0xaa; 16]), DriveId([0xd1; 16]));
    let (kind, object) = (ObjectKind::Manifest, ObjectId([0x0b; 32]));
    let header = ShardHeader {
        kind,
        geometry,
        index: 5,
        object,
        generation: 0x0403_0201,
        vault,
        drive,
        place: Some(0x0807_0605_0403_0201),
        hashes: hashes.clone(),
    };
    let bytes = header.encode();
    let word = |n: usize| u32::try_from(n).unwrap().to_le_bytes().to_vec();
    let long = |n: usize| (n as u64).to_le_bytes().to_vec();
    compare(&table("LVTSHRD"), &bytes, geometry.blocks(), |what| match what {
        m if m.starts_with("magic ") => magic(m),
        "header length H, u32 = 176 + 16 · blocks" => word(176 + 16 * geometry.blocks()),
        "object kind" => vec![2],
        "k" => vec![4],
        "m" => vec![2],
        "shard index, 0 … k+m−1" => vec![5],
        "object id" => vec![0x0b; 32],
        "object length, u64" => long(300_001),
        "shard length L, u64" => long(300_001_usize.div_ceil(4).next_multiple_of(64)),
        "rotation R, u64" => long(5 * (geometry.shard_len() / 6 / 64 * 64)),
        g if g.starts_with("generation, u32, from 1;") => vec![1, 2, 3, 4],
        "blocks, u32" => word(geometry.shard_len().div_ceil(16384)),
        "VaultId" => vec![0xaa; 16],
        "DriveId" => vec![0xd1; 16],
        p if p.starts_with("place in the log + 1, u64;") => vec![2, 2, 3, 4, 5, 6, 7, 8],
        "reserved" => vec![0; 24],
        "H16 of each block (of the shard as it is before rotation)" => hashes.concat(),
        "BLAKE3 of all header bytes before it" => Verified::hash(&bytes[..bytes.len() - 32]).id().0.to_vec(),
        other => panic!("a shard header has no {other}"),
    });
}

#[test]
fn a_datagram_is_as_drawn() {
    let rows = table("key id");
    let places: Vec<_> = rows.iter().map(|(offset, len, _)| (*offset, *len)).collect();
    assert_eq!(places, [("0", "2"), ("2", "6"), ("8", "…"), ("end − 16", "16")]);
    let mut bytes = Vec::new();
    put_head(&mut bytes, 0x0102, 0x0304_0506_0708);
    assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
    bytes.extend_from_slice(b"messages");
    bytes.extend_from_slice(&[9; 16]);
    let datagram = Datagram::decode(&bytes).unwrap();
    assert_eq!((datagram.messages, datagram.tag), (&b"messages"[..], &[9; 16]));
}

#[test]
fn every_offset_table_is_compared() {
    assert_eq!(FORMAT.matches("| offset |").count(), 3, "a new table needs a test here");
}
