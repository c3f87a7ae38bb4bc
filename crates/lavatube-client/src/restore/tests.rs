use super::*;
use crate::memory::{MemorySink, World, dir, entry, file_of, noise};
use lavatube_format::tree::{Extent, Ref};

fn all(_: &[u8], _: bool) -> bool {
    true
}

fn request(snapshot: ChunkId) -> RestoreRequest<'static> {
    RestoreRequest {
        snapshot,
        inside: None,
        select: &all,
        overwrite: Overwrite::Never,
        doubt: false,
        booted: WallTime::default(),
    }
}

fn run(world: &World, sink: &MemorySink, request: RestoreRequest<'_>) -> Result<Outcome, RestoreError> {
    world.reading(|fetcher| restore(fetcher, sink, request, &Meter::default()))
}

fn failed_paths(outcome: &Outcome) -> Vec<String> {
    let mut paths: Vec<_> = outcome.failed.iter().map(|f| String::from_utf8_lossy(&f.path).into_owned()).collect();
    paths.sort();
    paths
}

/// A tree with one of everything below /home/u/docs.
fn everything(world: &mut World) -> (ChunkId, Vec<Entry>) {
    let mut w = world.session();
    let big = noise(1, 300_000);
    let mut sparse = w.file("home/u/docs/s/sparse", &[b"abcdef"]);
    if let Kind::File(content) = &mut sparse.kind {
        content.size = 1000;
        content.extents = Some(vec![Extent { at: 10, len: 4 }, Extent { at: 500, len: 2 }]);
    }
    let entries = vec![
        dir("home/u/docs"),
        w.file("home/u/docs/a", &[b"alpha"]),
        dir("home/u/docs/bare"),
        w.file("home/u/docs/big", &[&big[..100_000], &big[100_000..250_000], &big[250_000..]]),
        file_of("home/u/docs/none", Vec::new(), b""),
        entry("home/u/docs/pipe", Kind::Fifo),
        dir("home/u/docs/s"),
        sparse,
        entry("home/u/docs/way", Kind::Symlink(b"../../etc".to_vec())),
    ];
    let snapshot = w.tree(&["/home/u/docs"], &entries);
    w.finish();
    (snapshot, entries)
}

#[test]
fn a_tree_comes_back_as_it_was_under_the_last_component_of_its_source() {
    let mut world = World::new();
    let (snapshot, entries) = everything(&mut world);
    let sink = MemorySink::new();
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert!(outcome.is_whole(), "{outcome:?}");
    assert_eq!((outcome.files, outcome.directories, outcome.others, outcome.warnings_total), (4, 3, 2, 2));
    let want: Vec<String> = entries.iter().map(|e| String::from_utf8_lossy(&e.path[7..]).into_owned()).collect();
    let mut found = sink.paths();
    found.sort_by(|a, b| lavatube_format::tree::path_order(a.as_bytes(), b.as_bytes()));
    assert_eq!(found, want);
    for e in &entries {
        let path = String::from_utf8_lossy(&e.path[7..]).into_owned();
        assert_eq!(sink.meta(&path).as_ref(), Some(&e.meta), "metadata of {path}, set last for directories");
    }
    assert_eq!(sink.content("docs/a").unwrap(), b"alpha");
    assert_eq!(sink.content("docs/big").unwrap(), noise(1, 300_000));
    assert_eq!(sink.content("docs/none").unwrap(), b"");
    assert_eq!(sink.target("docs/way").unwrap(), b"../../etc");
    let sparse = sink.content("docs/s/sparse").unwrap();
    assert_eq!((&sparse[10..14], &sparse[500..502], sparse.len()), (&b"abcd"[..], &b"ef"[..], 1000));
    assert_eq!(sparse.iter().filter(|b| **b != 0).count(), 6);
}

#[test]
fn nothing_is_looked_for_in_directories_that_are_new() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(sink.looks(), 1, "only whether docs is there");
}

#[test]
fn a_part_of_a_tree_is_restored_under_its_own_name() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    let inside = Some(&b"/home/u/docs/s/"[..]);
    let outcome = run(&world, &sink, RestoreRequest { inside, ..request(snapshot) }).unwrap();
    assert!(outcome.is_whole());
    assert_eq!(sink.paths(), ["s", "s/sparse"]);
    let inside = Some(&b"home/u/docs/a"[..]);
    run(&world, &sink, RestoreRequest { inside, ..request(snapshot) }).unwrap();
    assert_eq!(sink.paths(), ["a", "s", "s/sparse"]);
}

#[test]
fn a_restore_that_finds_nothing_is_an_error() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    let inside = Some(&b"home/u/dogs"[..]);
    assert_eq!(run(&world, &sink, RestoreRequest { inside, ..request(snapshot) }), Err(RestoreError::Nothing));
    let select = &|_: &[u8], _| false;
    assert_eq!(run(&world, &sink, RestoreRequest { select, ..request(snapshot) }), Err(RestoreError::Nothing));
    assert!(sink.paths().is_empty());
}

#[test]
fn directories_above_a_selected_file_are_made_and_others_are_not() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    let select = &|path: &[u8], _| path.ends_with(b"sparse");
    let outcome = run(&world, &sink, RestoreRequest { select, ..request(snapshot) }).unwrap();
    assert!(outcome.is_whole());
    assert_eq!(sink.paths(), ["docs", "docs/s", "docs/s/sparse"]);
    assert!(sink.meta("docs/s").is_some());
}

#[test]
fn two_sources_are_restored_below_what_they_share() {
    let paths = |list: &[&str]| common_parent(&list.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>());
    assert_eq!(paths(&["/home/u/docs"]), b"home/u");
    assert_eq!(paths(&["/home/u/a", "/home/u/b"]), b"home/u");
    assert_eq!(paths(&["/home/ua", "/home/u/b"]), b"home");
    assert_eq!(paths(&["/home/u/b", "/srv/x"]), b"");
    assert_eq!(paths(&["/"]), b"");
    assert_eq!(paths(&[]), b"");
}

#[test]
fn a_second_run_finds_everything_done_and_fetches_no_content() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    run(&world, &sink, request(snapshot)).unwrap();
    let before = sink.paths();
    world.reading(|fetcher| {
        let meter = Meter::default();
        let mut again = Restore::begin(fetcher, &sink, request(snapshot), &meter).unwrap();
        let mut jobs = Vec::new();
        while let Some(job) = again.next_job(fetcher).unwrap() {
            jobs.push(job);
        }
        world.fetches();
        for job in jobs {
            assert!(!job.is_empty());
            again.absorb(run_job(job, fetcher, &sink, &meter));
        }
        assert_eq!(world.fetches(), 0);
        let outcome = again.finish(fetcher).unwrap();
        assert!(outcome.is_whole(), "{outcome:?}");
        assert_eq!((outcome.files, outcome.already_there), (0, 6));
    });
    assert_eq!(sink.paths(), before);
}

#[test]
fn in_doubt_a_file_that_only_looks_restored_is_written_again() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    let doubtful = RestoreRequest { doubt: true, ..request(snapshot) };
    // Nobody told of a cut, but the system started after the file was changed.
    let after_a_start = RestoreRequest { booted: WallTime { s: i64::MAX, ns: 0 }, ..request(snapshot) };
    run(&world, &sink, request(snapshot)).unwrap();
    let whole = ["docs/a", "docs/big", "docs/s/sparse"].map(|path| (path, sink.content(path).unwrap()));
    for (path, content) in &whole {
        // Size and time are right, the bytes never came: none, the last, or the whole content.
        for zeros in [0..content.len(), content.len() - 500.min(content.len())..content.len(), 0..1] {
            let mut torn = content.clone();
            torn[zeros].fill(0);
            let differs = torn != *content;
            sink.tear(path, &torn);
            let trusting = run(&world, &sink, request(snapshot)).unwrap();
            assert_eq!((trusting.files, trusting.already_there), (0, 6), "without doubt it counts as done");
            for request in [doubtful, after_a_start] {
                sink.tear(path, &torn);
                let outcome = run(&world, &sink, request).unwrap();
                assert!(outcome.is_whole(), "{path}: {outcome:?}");
                let files = u64::from(differs);
                assert_eq!((outcome.files, outcome.already_there), (files, 6 - files), "{path}");
                assert_eq!(sink.content(path).unwrap(), *content, "{path}");
            }
        }
    }
    sink.put("docs/a", b"precious", 5);
    let outcome = run(&world, &sink, doubtful).unwrap();
    assert_eq!((outcome.files, outcome.kept.len()), (0, 1), "what does not even look like ours is kept");
}

#[test]
fn what_is_there_is_kept_unless_it_may_be_replaced() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    sink.put("docs/a", b"precious", 5);
    sink.put("docs/.part-big", b"left behind by a cut", 5);
    sink.put("docs/none/x", b"a directory is in the way", 5);
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    let kept: Vec<_> = outcome.kept.iter().map(|k| &k.path[..]).collect();
    assert_eq!(kept, [&b"home/u/docs/a"[..], b"home/u/docs/none"]);
    assert!(!outcome.is_whole() && outcome.failed.is_empty());
    assert_eq!(sink.content("docs/a").unwrap(), b"precious");
    assert_eq!(sink.content("docs/big").unwrap(), noise(1, 300_000));
    assert!(!sink.paths().contains(&"docs/.part-big".to_owned()));
    let outcome = run(&world, &sink, RestoreRequest { overwrite: Overwrite::IfChanged, ..request(snapshot) }).unwrap();
    assert_eq!((outcome.files, outcome.kept.len()), (1, 1), "the directory is never removed");
    assert_eq!(sink.content("docs/a").unwrap(), b"alpha");
    let outcome = run(&world, &sink, RestoreRequest { overwrite: Overwrite::Always, ..request(snapshot) }).unwrap();
    assert_eq!((outcome.files, outcome.already_there), (3, 0));
}

#[test]
fn chunks_that_the_older_file_still_has_are_not_fetched() {
    let mut world = World::new();
    let mut w = world.session();
    let (one, two) = (noise(1, 100_000), noise(2, 100_000));
    let refs = vec![w.chunk(&one)];
    w.cut_pack();
    let second = w.chunk(&two);
    let lost = w.cut_pack();
    let whole = [&one[..], &two].concat();
    let snapshot = w.tree(&["/f"], &[file_of("f", [refs, vec![second]].concat(), &whole)]);
    w.finish();
    let sink = MemorySink::new();
    sink.put("f", &[&noise(9, 100_000)[..], &two].concat(), 5);
    world.reading(|_| {});
    world.far.packs.lock().unwrap().remove(&lost);
    let outcome = run(&world, &sink, RestoreRequest { overwrite: Overwrite::IfChanged, ..request(snapshot) }).unwrap();
    assert!(outcome.is_whole(), "the lost pack's chunk was in the file: {outcome:?}");
    assert_eq!(sink.content("f").unwrap(), whole);
    assert_eq!(sink.paths(), ["f"]);
}

#[test]
fn a_symbolic_link_in_the_target_is_not_followed() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::new();
    sink.put_symlink("docs", "/etc");
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!((outcome.files, outcome.directories), (0, 0));
    assert_eq!(outcome.failed.len(), 9, "docs itself and each entry below it");
    assert_eq!(sink.paths(), ["docs"]);
    let outcome = run(&world, &sink, RestoreRequest { overwrite: Overwrite::Always, ..request(snapshot) }).unwrap();
    assert!(outcome.is_whole(), "with permission the link makes way: {outcome:?}");
}

#[test]
fn a_lost_pack_fails_exactly_its_files() {
    let mut world = World::new();
    let mut w = world.session();
    let mut entries = vec![dir("d"), w.file("d/a", &[b"one"])];
    w.cut_pack();
    entries.extend([w.file("d/b", &[b"two"]), w.file("d/c", &[b"three"])]);
    let lost = w.cut_pack();
    entries.push(w.file("d/d", &[b"four"]));
    let snapshot = w.tree(&["/d"], &entries);
    w.finish();
    world.reading(|_| {});
    world.far.packs.lock().unwrap().remove(&lost);
    let sink = MemorySink::new();
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(failed_paths(&outcome), ["d/b", "d/c"]);
    assert!(outcome.failed[0].reason.contains(&lost.short()), "{}", outcome.failed[0].reason);
    assert_eq!(sink.paths(), ["d", "d/a", "d/d"]);
    assert!(sink.meta("d").is_some());
}

#[test]
fn wrong_content_is_an_error_and_never_a_file() {
    let mut world = World::new();
    let mut w = world.session();
    let right = w.chunk(b"right");
    let wrong = lavatube_base::ChunkId([9; 24]);
    let wrong = w.chunk_as(wrong, b"wrong");
    let entries = [
        file_of("bad", vec![wrong], b"wrong"),
        file_of("long", vec![right, wrong], b"rightwrong"),
        file_of("short", vec![Ref { len: 4, ..right }], b"righ"),
        file_of("zest", vec![right], b"right"),
    ];
    let snapshot = w.tree(&["/"], &entries);
    w.finish();
    let sink = MemorySink::new();
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(failed_paths(&outcome), ["bad", "long", "short"]);
    assert_eq!(sink.content("zest").unwrap(), b"right");
    assert_eq!(sink.paths(), ["zest"], "nothing is left of the others, under whatever name");
}

#[test]
fn a_file_whose_digest_differs_does_not_get_its_name() {
    let mut world = World::new();
    let mut w = world.session();
    let refs = vec![w.chunk(b"first"), w.chunk(b"second")];
    let snapshot = w.tree(&["/"], &[file_of("f", refs, b"firstSECOND")]);
    w.finish();
    let sink = MemorySink::new();
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(failed_paths(&outcome), ["f"]);
    assert_eq!(outcome.failed[0].fault, Fault::Lost);
    assert_eq!(sink.content("f"), None);
}

#[test]
fn a_vault_that_goes_away_ends_the_restore_and_nothing_counts_as_lost() {
    let mut world = World::new();
    let mut w = world.session();
    let mut entries = vec![w.file("a", &[b"near"])];
    let near = w.cut_pack();
    entries.push(w.file("b", &[b"far"]));
    let far = w.cut_pack();
    let snapshot = w.tree(&["/"], &entries);
    w.finish();
    world.reading(|_| {});
    world.far.away.lock().unwrap().extend([near, far]);
    let outcome = run(&world, &MemorySink::new(), request(snapshot)).unwrap();
    assert_eq!(outcome.stopped.as_ref().map(|s| s.fault), Some(Fault::Away));
    let faults: Vec<_> = outcome.failed.iter().map(|f| f.fault).collect();
    assert_eq!(faults, [Fault::Away, Fault::Away]);
}

#[test]
fn a_full_target_ends_the_restore_and_says_what_was_not_attempted() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::with_room(1000);
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(outcome.stopped.as_ref().map(|s| s.fault), Some(Fault::Full));
    assert!(outcome.failed.iter().all(|f| f.fault == Fault::Full));
    assert_eq!(sink.content("docs/a").unwrap(), b"alpha");
    assert!(failed_paths(&outcome).contains(&"home/u/docs/s/sparse".to_owned()));
}

#[test]
fn when_one_job_finds_the_target_full_no_other_tries() {
    let mut world = World::new();
    let mut w = world.session();
    let entries: Vec<Entry> = (0..2000).map(|i| w.file(&format!("f{i:04}"), &[&noise(i, 10)])).collect();
    let snapshot = w.tree(&["/"], &entries);
    w.finish();
    let sink = MemorySink::with_room(100);
    world.reading(|fetcher| {
        let meter = Meter::default();
        let mut restore = Restore::begin(fetcher, &sink, request(snapshot), &meter).unwrap();
        let (one, two) = (restore.next_job(fetcher).unwrap().unwrap(), restore.next_job(fetcher).unwrap().unwrap());
        let one = run_job(one, fetcher, &sink, &meter);
        assert!(one.stopped.is_some());
        let tried = two.len();
        let two = run_job(two, fetcher, &sink, &meter);
        assert_eq!((two.files, two.failed.len()), (0, tried));
        assert!(two.failed[0].reason.starts_with("not attempted: "));
        // Even before the coordinator is told.
        assert!(restore.next_job(fetcher).unwrap().is_none());
        restore.absorb(one);
        restore.absorb(two);
        let outcome = restore.finish(fetcher).unwrap();
        assert_eq!((outcome.files, outcome.is_whole()), (10, false));
    });
}

#[test]
fn a_small_file_that_does_not_fit_does_not_stay_half_written() {
    let mut world = World::new();
    let (snapshot, _) = everything(&mut world);
    let sink = MemorySink::with_room(3);
    run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!(sink.content("docs/a"), None);
}

fn linked(world: &mut World) -> (ChunkId, lavatube_base::ObjectId) {
    let mut w = world.session();
    let first = w.file("d/a/first", &[b"shared content"]);
    let lost = w.cut_pack();
    let further = |path: &str| {
        let mut link = Entry { path: path.into(), ..first.clone() };
        link.meta.first_link = Some(b"d/a/first".to_vec());
        link
    };
    let entries = [
        dir("d"),
        dir("d/a"),
        first.clone(),
        dir("d/b"),
        further("d/b/second"),
        dir("d/c"),
        dir("d/c/e"),
        further("d/c/e/third"),
    ];
    let snapshot = w.tree(&["/d"], &entries);
    w.finish();
    (snapshot, lost)
}

#[test]
fn hard_links_share_one_file_and_directories_keep_their_times() {
    let mut world = World::new();
    let (snapshot, _) = linked(&mut world);
    let sink = MemorySink::new();
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert!(outcome.is_whole());
    assert_eq!((outcome.files, outcome.links, outcome.warnings_total), (1, 2, 0));
    assert_eq!(sink.inode("d/a/first"), sink.inode("d/b/second"));
    assert_eq!(sink.inode("d/a/first"), sink.inode("d/c/e/third"));
    for path in ["d", "d/a", "d/b", "d/c", "d/c/e"] {
        assert!(sink.meta(path).is_some_and(|m| m.mtime.s > 0), "{path} was finished after its links");
    }
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!((outcome.is_whole(), outcome.already_there), (true, 3));
}

#[test]
fn without_the_first_name_the_first_selected_one_becomes_the_file() {
    let mut world = World::new();
    let (snapshot, _) = linked(&mut world);
    let sink = MemorySink::new();
    let select = &|path: &[u8], _| !path.starts_with(b"d/a");
    let outcome = run(&world, &sink, RestoreRequest { select, ..request(snapshot) }).unwrap();
    assert!(outcome.is_whole());
    assert_eq!((outcome.files, outcome.links), (1, 1));
    assert_eq!(sink.content("d/b/second").unwrap(), b"shared content");
    assert_eq!(sink.inode("d/b/second"), sink.inode("d/c/e/third"));
    let sink = MemorySink::new();
    let inside = Some(&b"d/c"[..]);
    let outcome = run(&world, &sink, RestoreRequest { inside, ..request(snapshot) }).unwrap();
    assert_eq!((outcome.files, outcome.links), (1, 0));
    assert_eq!(sink.content("c/e/third").unwrap(), b"shared content");
}

#[test]
fn no_link_leads_to_what_was_not_restored() {
    let mut world = World::new();
    let (snapshot, lost) = linked(&mut world);
    let sink = MemorySink::new();
    sink.put("d/a/first", b"something else", 5);
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert_eq!((outcome.files, outcome.links, outcome.kept.len()), (1, 1, 1));
    assert_eq!(sink.content("d/a/first").unwrap(), b"something else");
    assert_eq!(sink.content("d/b/second").unwrap(), b"shared content");
    assert_eq!(sink.inode("d/b/second"), sink.inode("d/c/e/third"));
    world.far.packs.lock().unwrap().remove(&lost);
    let outcome = run(&world, &MemorySink::new(), request(snapshot)).unwrap();
    assert_eq!(failed_paths(&outcome), ["d/a/first", "d/b/second", "d/c/e/third"]);
}

#[test]
fn a_link_whose_first_name_the_tree_does_not_have_is_a_file_of_its_own() {
    let mut world = World::new();
    let mut w = world.session();
    let mut link = w.file("b", &[b"mine"]);
    link.meta.first_link = Some(b"a".to_vec());
    let snapshot = w.tree(&["/"], &[link]);
    w.finish();
    let sink = MemorySink::new();
    sink.put("a", b"not in the tree", 5);
    let outcome = run(&world, &sink, request(snapshot)).unwrap();
    assert!(outcome.is_whole());
    assert_eq!(sink.content("b").unwrap(), b"mine");
    assert_eq!(sink.content("a").unwrap(), b"not in the tree");
}

#[test]
fn jobs_may_run_in_any_order() {
    let mut world = World::new();
    let mut w = world.session();
    let mut entries = Vec::new();
    for d in 0..80 {
        entries.push(dir(&format!("r/{d:02}")));
        for f in 0..9 {
            entries.push(w.file(&format!("r/{d:02}/{f}"), &[format!("{d} {f}").as_bytes()]));
        }
        if d % 8 == 0 {
            w.cut_frame();
        }
    }
    let snapshot = w.tree(&["/r"], &entries);
    w.finish();
    let sink = MemorySink::new();
    world.reading(|fetcher| {
        let meter = Meter::default();
        let mut restore = Restore::begin(fetcher, &sink, request(snapshot), &meter).unwrap();
        let mut jobs = Vec::new();
        while let Some(job) = restore.next_job(fetcher).unwrap() {
            jobs.push(job);
        }
        assert!(jobs.len() > 2, "{}", jobs.len());
        for job in jobs.into_iter().rev() {
            let report = run_job(job, fetcher, &sink, &meter);
            restore.absorb(report);
        }
        let outcome = restore.finish(fetcher).unwrap();
        assert!(outcome.is_whole());
        assert_eq!((outcome.files, meter.files.now()), (720, 720));
    });
    assert_eq!(sink.content("r/79/8").unwrap(), b"79 8");
    assert!((0..80).all(|d| sink.meta(&format!("r/{d:02}")).is_some()));
}

#[test]
fn a_lost_part_of_the_tree_is_never_passed_over_in_silence() {
    let mut world = World::new();
    let mut w = world.session();
    let entries: Vec<Entry> = (0..9).map(|i| w.file(&format!("f{i}"), &[&[i]])).collect();
    w.cut_pack();
    let layer = w.layer(&entries, 3);
    w.cut_pack();
    let snapshot = w.snapshot(&["/"], vec![layer]);
    w.finish();
    // The second tree chunk's content is not what its id says: store the layer again with a bad middle.
    let mut w = world.session();
    let mut bytes = Vec::new();
    let mut writer = lavatube_format::tree::RecordWriter::default();
    entries[3..6].iter().rev().for_each(|e| writer.put(&mut bytes, e));
    let bad = w.chunk(&bytes);
    let good = |w: &mut crate::memory::Writer<'_>, part: &[Entry]| {
        let (mut writer, mut bytes) = (lavatube_format::tree::RecordWriter::default(), Vec::new());
        part.iter().for_each(|e| writer.put(&mut bytes, e));
        w.chunk(&bytes)
    };
    let (head, tail) = (good(&mut w, &entries[..3]), good(&mut w, &entries[6..]));
    let chunk = |r: Ref, first: &Entry| lavatube_format::layer::TreeChunk {
        id: r.id,
        len: r.len as usize,
        first_path: first.path.clone(),
    };
    let chunks = vec![chunk(head, &entries[0]), chunk(bad, &entries[3]), chunk(tail, &entries[6])];
    let layer = w.chunk(&lavatube_format::layer::Layer { entries: 9, chunks }.encode()).id;
    let damaged = w.snapshot(&["/"], vec![layer]);
    w.finish();
    let whole = run(&world, &MemorySink::new(), request(snapshot)).unwrap();
    assert_eq!((whole.is_whole(), whole.files), (true, 9));
    let outcome = run(&world, &MemorySink::new(), request(damaged)).unwrap();
    assert_eq!((outcome.files, outcome.lost.len(), outcome.is_whole()), (6, 1, false));
    assert_eq!((&outcome.lost[0].from[..], outcome.lost[0].until.as_deref()), (&b"f3"[..], Some(&b"f6"[..])));
}
