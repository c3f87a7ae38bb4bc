use super::*;
use lavatube_format::layer::TreeChunk;
use lavatube_format::tree::RecordWriter;

use crate::memory::{World, Writer, dir, entry, noise};

fn paths(world: &World, id: ChunkId, inside: Option<&[u8]>) -> (Vec<String>, Vec<LostRange>) {
    world.reading(|fetcher| {
        let snapshot = read_snapshot(fetcher, &id).unwrap();
        let mut reader = TreeReader::open(fetcher, &snapshot, inside).unwrap();
        let (mut out, mut lost) = (Vec::new(), Vec::new());
        while let Some(step) = reader.next(fetcher).unwrap() {
            match step {
                Step::Entry(e) => out.push(format!("{}:{}", String::from_utf8_lossy(&e.path), e.meta.uid)),
                Step::Lost(range) => lost.push(range),
            }
        }
        (out, lost)
    })
}

fn owned(path: &str, uid: u32) -> Entry {
    let mut e = entry(path, Kind::Fifo);
    e.meta.uid = uid;
    e
}

fn gone(path: &str) -> Entry {
    Entry { meta: Default::default(), ..entry(path, Kind::Gone) }
}

/// A tree chunk of one record.
fn record(w: &mut Writer<'_>, entry: &Entry) -> TreeChunk {
    let (mut writer, mut bytes) = (RecordWriter::default(), Vec::new());
    writer.put(&mut bytes, entry);
    TreeChunk { id: w.chunk(&bytes).id, len: bytes.len(), first_path: entry.path.clone() }
}

fn layered(w: &mut Writer<'_>, per_chunk: usize) -> Vec<ChunkId> {
    let oldest: Vec<Entry> = ["a", "b", "b/c", "b/d", "b-", "e"].iter().map(|p| owned(p, 1)).collect();
    let middle = [owned("b/c", 2), gone("b-"), owned("f", 2)];
    let newest = [owned("a", 3), gone("b/d"), owned("b-", 3), gone("g")];
    let oldest = w.layer(&oldest, per_chunk);
    let middle = w.layer(&middle, per_chunk);
    vec![w.layer(&newest, per_chunk), middle, oldest]
}

#[test]
fn the_newest_layer_that_has_a_path_counts_and_gone_hides() {
    for per_chunk in 1..4 {
        let mut world = World::new();
        let mut w = world.session();
        let layers = layered(&mut w, per_chunk);
        let id = w.snapshot(&["/"], layers);
        w.finish();
        assert_eq!(paths(&world, id, None).0, ["a:3", "b:1", "b/c:2", "b-:3", "e:1", "f:2"]);
    }
}

#[test]
fn what_is_below_a_path_is_read_without_the_rest() {
    let mut world = World::new();
    let mut w = world.session();
    let layers = layered(&mut w, 1);
    let id = w.snapshot(&["/"], layers);
    w.finish();
    assert_eq!(paths(&world, id, Some(b"b")).0, ["b:1", "b/c:2"]);
    assert_eq!(paths(&world, id, Some(b"b/c")).0, ["b/c:2"]);
    assert_eq!(paths(&world, id, Some(b"b-")).0, ["b-:3"]);
    assert_eq!(paths(&world, id, Some(b"zz")).0, [""; 0]);
    assert_eq!(paths(&world, id, Some(b"")).0.len(), 6);
}

#[test]
fn a_lost_newer_part_hides_what_may_be_out_of_date() {
    let mut world = World::new();
    let mut w = world.session();
    let old: Vec<Entry> = (0..8).map(|i| owned(&format!("f{i}"), 1)).collect();
    let old = w.layer(&old, 8);
    w.cut_pack();
    let head = record(&mut w, &owned("f1", 2));
    let lost = w.cut_pack();
    let tail = record(&mut w, &owned("f4", 2));
    let chunks = vec![head, tail];
    let newer = w.chunk(&Layer { entries: 2, chunks }.encode()).id;
    let snapshot = w.snapshot(&["/"], vec![newer, old]);
    w.finish();
    assert_eq!(paths(&world, snapshot, None).0.len(), 8);
    world.far.packs.lock().unwrap().remove(&lost);
    let (found, lost) = paths(&world, snapshot, None);
    assert_eq!(found, ["f0:1", "f4:2", "f5:1", "f6:1", "f7:1"]);
    assert_eq!((lost.len(), &lost[0].from[..], lost[0].until.as_deref()), (1, &b"f1"[..], Some(&b"f4"[..])));
}

#[test]
fn hostile_paths_never_get_out_of_a_tree() {
    for path in ["../x", "a/../../x", "/etc", "a//b", "a\0b"] {
        let mut world = World::new();
        let mut w = world.session();
        let id = w.tree(&["/"], &[owned(path, 1)]);
        w.finish();
        let (found, lost) = paths(&world, id, None);
        assert_eq!((found.len(), lost.len()), (0, 1), "{path:?}");
    }
}

#[test]
fn a_tree_chunk_that_begins_elsewhere_than_its_layer_says_is_refused() {
    let mut world = World::new();
    let mut w = world.session();
    let chunk = TreeChunk { first_path: b"b".to_vec(), ..record(&mut w, &owned("a", 1)) };
    let layer = w.chunk(&Layer { entries: 1, chunks: vec![chunk] }.encode()).id;
    let id = w.snapshot(&["/"], vec![layer]);
    w.finish();
    assert_eq!(paths(&world, id, None).1.len(), 1);
}

#[test]
fn list_chunks_are_expanded_and_must_add_up() {
    use super::refs::LeafRefs;
    use lavatube_format::tree::{Content, Ref, put_refs};
    let mut world = World::new();
    let mut w = world.session();
    let leaves: Vec<Ref> = (0..10).map(|i| w.chunk(&noise(i, 100 + i as usize))).collect();
    let list = |w: &mut Writer<'_>, refs: &[Ref]| {
        let mut bytes = Vec::new();
        put_refs(&mut bytes, refs);
        Ref { id: w.chunk(&bytes).id, len: refs.iter().map(|r| r.len).sum() }
    };
    let low = [list(&mut w, &leaves[..4]), list(&mut w, &leaves[4..])];
    let top = list(&mut w, &low);
    let content = |depth, refs| Content { size: top.len, depth, refs, extents: None, digest: None };
    let (deep, wrong) = (content(2, vec![top]), content(2, vec![Ref { len: top.len + 1, ..top }]));
    w.chunk(&dir("x").path);
    w.finish();
    world.reading(|fetcher| {
        let mut refs = LeafRefs::new(&deep);
        let mut found = Vec::new();
        while let Some(r) = refs.next(fetcher).unwrap() {
            found.push(r);
        }
        assert_eq!(found, leaves);
        assert!(LeafRefs::new(&wrong).next(fetcher).is_err());
    });
}
