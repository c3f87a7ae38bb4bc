use super::*;
use crate::memory::{World, dir, entry, file_of, noise};
use lavatube_base::{ChunkId, DepositorId, ObjectId};
use lavatube_format::tree::Extent;

fn listed(first_byte: u8, s: i64) -> Listed {
    let id = ChunkId([first_byte; 24]);
    let place = SnapshotPlace {
        id,
        depositor: DepositorId([0; 32]),
        manifest: ObjectId([0; 32]),
        sequence: 1,
        pack: None,
        mark: None,
    };
    let mut snapshot = Snapshot::default();
    snapshot.time.s = s;
    Listed { place, snapshot }
}

#[test]
fn snapshots_are_named_by_age_or_by_the_beginning_of_their_id() {
    let all = [listed(0xab, 1), listed(0xac, 2), listed(0x12, 3)];
    let found = |words: &str| resolve(&all, words).map(|l| l.snapshot.time.s);
    assert_eq!(found("latest"), Ok(3));
    assert_eq!(found("latest~2"), Ok(1));
    assert_eq!(found("latest~3"), Err(ResolveError::TooFarBack { have: 3 }));
    assert_eq!(found("AC"), Ok(2));
    assert_eq!(found("a"), Err(ResolveError::Ambiguous { prefix: "a".into(), count: 2 }));
    assert_eq!(found("77"), Err(ResolveError::Unknown("77".into())));
    for words in ["", "latest~", "latestx", "latest~-1", "xyz"] {
        assert_eq!(found(words), Err(ResolveError::Words(words.into())), "{words:?}");
    }
    assert!(matches!(resolve(&[], "latest"), Err(ResolveError::Empty)));
}

#[test]
fn a_snapshot_and_a_path_are_split_at_the_first_colon() {
    assert_eq!(split_spec(b"latest:/home/u/"), (&b"latest"[..], Some(&b"home/u"[..])));
    assert_eq!(split_spec(b"ab:x:y"), (&b"ab"[..], Some(&b"x:y"[..])));
    assert_eq!(split_spec(b"ab"), (&b"ab"[..], None));
}

fn two_snapshots(world: &mut World) -> Vec<Listed> {
    let mut w = world.session();
    let a = w.file("d/a", &[b"same"]);
    let mut sparse = w.file("d/s", &[b"abc", b"def"]);
    if let Kind::File(content) = &mut sparse.kind {
        content.size = 100_000;
        content.extents = Some(vec![Extent { at: 10, len: 4 }, Extent { at: 70_000, len: 2 }]);
    }
    let first = [dir("d"), a.clone(), w.file("d/b", &[b"old"]), dir("d/e"), w.file("d/e/f", &[&noise(1, 9)]), sparse];
    w.tree(&["/d"], &first);
    w.finish();
    let mut w = world.session();
    let mut touched = first[4].clone();
    touched.meta.mode = 0o600;
    let second = [dir("d"), a, w.file("d/b", &[b"new"]), dir("d/e"), touched, entry("d/z", Kind::Fifo)];
    w.tree(&["/d"], &second);
    w.finish();
    world.reading(|fetcher| snapshots(fetcher).unwrap().snapshots)
}

#[test]
fn snapshots_are_listed_by_their_time() {
    let mut world = World::new();
    let all = two_snapshots(&mut world);
    assert_eq!(all.iter().map(|l| l.snapshot.time.s).collect::<Vec<_>>(), [0, 1]);
}

//= FORMAT#F25 what was taken after another is newer
#[test]
fn a_clock_that_was_ahead_does_not_make_its_snapshot_the_latest() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for (n, clock) in [(1, 0), (2, 1000), (3, -1000), (4, 0)] {
        world.clock = clock;
        let mut w = world.session();
        // One session is cut before it has a snapshot.
        match n {
            3 => drop(w.chunk(b"x")),
            _ => ids.push(w.tree(&["/d"], &[dir("d")])),
        }
        w.finish();
    }
    let all = world.reading(|fetcher| snapshots(fetcher).unwrap().snapshots);
    assert_eq!(all.iter().map(|l| l.place.id).collect::<Vec<_>>(), ids);
    assert_eq!(all.iter().map(|l| l.snapshot.time.s).collect::<Vec<_>>(), [0, 1001, 3]);
    assert_eq!(resolve(&all, "latest").unwrap().place.id, ids[2]);
}

#[test]
fn a_listing_shows_what_is_directly_in_a_directory_or_all_below() {
    let mut world = World::new();
    let all = two_snapshots(&mut world);
    let names = |path: &[u8], deep| {
        let mut out = Vec::new();
        let each = |e: Entry| out.push(String::from_utf8(e.path).unwrap());
        let lost = world.reading(|fetcher| list(fetcher, &all[0].snapshot, path, deep, each)).unwrap();
        assert!(lost.is_empty());
        out
    };
    assert_eq!(names(b"", false), ["d"]);
    assert_eq!(names(b"/d/", false), ["d", "d/a", "d/b", "d/e", "d/s"]);
    assert_eq!(names(b"d", true), ["d", "d/a", "d/b", "d/e", "d/e/f", "d/s"]);
    assert_eq!(names(b"d/e", false), ["d/e", "d/e/f"]);
    assert_eq!(names(b"d/x", true), [""; 0]);
}

#[test]
fn a_file_is_written_out_with_its_holes() {
    let mut world = World::new();
    let all = two_snapshots(&mut world);
    world.reading(|fetcher| {
        let mut out = Vec::new();
        assert_eq!(cat(fetcher, &all[0].snapshot, b"/d/s", &mut out).unwrap(), 100_000);
        assert_eq!((&out[10..14], &out[70_000..70_002], out.len()), (&b"abcd"[..], &b"ef"[..], 100_000));
        assert_eq!(out.iter().filter(|b| **b != 0).count(), 6);
        out.clear();
        assert_eq!(cat(fetcher, &all[1].snapshot, b"d/b", &mut out).unwrap(), 3);
        assert_eq!(out, b"new");
        assert!(matches!(cat(fetcher, &all[1].snapshot, b"d/q", &mut out), Err(CatError::Missing)));
        assert!(matches!(cat(fetcher, &all[1].snapshot, b"d/e", &mut out), Err(CatError::NoFile)));
    });
}

#[test]
fn a_file_that_is_not_its_digest_is_said_to_be_wrong() {
    let mut world = World::new();
    let mut w = world.session();
    let refs = vec![w.chunk(b"one"), w.chunk(b"two")];
    w.tree(&["/"], &[file_of("f", refs, b"oneTWO")]);
    w.finish();
    world.reading(|fetcher| {
        let all = snapshots(fetcher).unwrap().snapshots;
        let mut out = Vec::new();
        assert!(matches!(cat(fetcher, &all[0].snapshot, b"f", &mut out), Err(CatError::Digest)));
    });
}

#[test]
fn differences_are_told_in_tree_order() {
    let mut world = World::new();
    let all = two_snapshots(&mut world);
    let mut out = Vec::new();
    let each = |change| {
        let (word, entry) = match change {
            Change::Added(e) => ("+", e),
            Change::Removed(e) => ("-", e),
            Change::Content(_, e) => ("C", e),
            Change::Meta(_, e) => ("m", e),
        };
        out.push(format!("{word} {}", String::from_utf8_lossy(&entry.path)));
    };
    world.reading(|fetcher| differences(fetcher, &all[0].snapshot, &all[1].snapshot, b"", each)).unwrap();
    assert_eq!(out, ["C d/b", "m d/e/f", "- d/s", "+ d/z"]);
}
