//! The catalog against a map: whatever is put in is found, whatever is not is not, through merges and reopening.

use std::collections::{BTreeMap, BTreeSet};

use lavatube_base::{ObjectId, SessionId};
use lavatube_format::catalog::PAGE_LEN;
use lavatube_format::pack::Method;
use proptest::prelude::*;

use super::*;
use crate::memory::MemoryState;

fn record(n: u64) -> Record {
    let mut id = [0; 24];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut id);
    let place = Place {
        pack: (n % 7) as u32,
        frame_at: n as u32,
        frame_len: 9,
        method: Method::Zstd,
        body_at: 3,
        delta: false,
    };
    Record { id: ChunkId(id), place }
}

fn row(n: u8) -> PackRow {
    PackRow { id: ObjectId([n; 32]), class: 1, session: SessionId([n; 16]), number: n.into() }
}

/// A catalog with the rows that [`record`] points to.
fn with_rows(state: &MemoryState) -> Catalog<'_> {
    let mut catalog = Catalog::open(state).unwrap();
    catalog.add_packs(&(0..7).map(row).collect::<Vec<_>>()).unwrap();
    catalog
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_catalog_finds_what_was_put_in(
        runs in proptest::collection::vec(proptest::collection::vec((0u64..2000, 0u32..7), 0..700), 1..8),
    ) {
        let state = MemoryState::default();
        let mut known: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
        {
            let mut catalog = with_rows(&state);
            for run in &runs {
                run.iter().for_each(|(n, pack)| {
                    known.entry(*n).or_default().insert(*pack);
                });
                catalog.add_records(run.iter().map(|(n, pack)| record_in(*pack, *n)).collect()).unwrap();
                let few = catalog.runs().names().count() as u32 <= 2 + catalog.chunks().max(1).ilog2();
                prop_assert!(few, "{} runs", catalog.runs().names().count());
            }
        }
        let catalog = Catalog::open(&state).unwrap();
        for n in 0..2000 {
            let places = catalog.places(&record(n).id).unwrap();
            let packs: BTreeSet<u32> = places.iter().map(|p| p.pack).collect();
            prop_assert_eq!(places.len(), packs.len(), "each place is told once");
            prop_assert_eq!(packs, known.get(&n).cloned().unwrap_or_default(), "record {}", n);
            prop_assert_eq!(catalog.find(&record(n).id).unwrap(), places.first().copied());
        }
    }
}

/// [`record`] in another pack.
fn record_in(pack: u32, n: u64) -> Record {
    let Record { id, place } = record(n);
    Record { id, place: Place { pack, ..place } }
}

#[test]
fn of_a_chunks_places_the_newest_comes_first_across_runs_and_pages() {
    let state = MemoryState::default();
    let mut catalog = Catalog::open(&state).unwrap();
    let want: Vec<u32> = (0..700).rev().collect();
    let packs = |n| catalog_packs(&state, n);
    catalog.add_packs(&(0..700).map(|n| row(n as u8)).collect::<Vec<_>>()).unwrap();
    // In runs of ever other lengths, in any order within one, and between others.
    let mut from = 0;
    for len in [1, 5, 300, 30, 2, 200, 162] {
        let mut records: Vec<Record> = (from..from + len).map(|pack| record_in(pack, 5)).collect();
        records.extend((0..40).map(|i| record_in(from, 100 + i)));
        catalog.add_records(records).unwrap();
        from += len;
        assert_eq!(packs(5), want[700 - from as usize..]);
        assert_eq!(packs(100)[0], from - len);
    }
    assert_eq!((packs(139).len(), packs(140).len()), (7, 0));
}

#[test]
fn a_chunk_is_known_while_one_of_its_packs_is_not_in_doubt() {
    let state = MemoryState::default();
    let mut catalog = with_rows(&state);
    let id = record(5).id;
    catalog.add_records([0, 2, 3, 4].map(|pack| record_in(pack, 5)).to_vec()).unwrap();
    for (packs, known) in [(&[2, 3][..], true), (&[], true), (&[3], true), (&[2, 3, 4], true), (&[0, 2, 3, 4], false)] {
        catalog.doubt(packs.iter().copied().collect());
        assert_eq!(catalog.knows(&id).unwrap(), known, "{packs:?}");
    }
}

fn catalog_packs(state: &MemoryState, n: u64) -> Vec<u32> {
    let places = Catalog::open(state).unwrap().places(&record(n).id).unwrap();
    places.iter().map(|p| p.pack).collect()
}

#[test]
fn ids_that_share_their_first_bytes_are_told_apart_across_pages() {
    let state = MemoryState::default();
    let mut catalog = Catalog::open(&state).unwrap();
    let alike = |n: u32| {
        let mut id = [7; 24];
        id[20..].copy_from_slice(&n.to_be_bytes());
        Record { id: ChunkId(id), place: Place { frame_at: n, ..record(0).place } }
    };
    catalog.add_records((0..500).map(alike).collect()).unwrap();
    for n in 0..500 {
        assert_eq!(catalog.find(&alike(n).id).unwrap().map(|p| p.frame_at), Some(n));
    }
    assert_eq!(catalog.find(&alike(500).id).unwrap(), None);
}

#[test]
fn a_torn_pack_table_loses_only_the_torn_row() {
    let state = MemoryState::default();
    Catalog::open(&state).unwrap().add_packs(&[row(1), row(2)]).unwrap();
    state.0.lock().unwrap().get_mut(PACKS).unwrap().truncate(PACK_LEN + 5);
    let mut catalog = Catalog::open(&state).unwrap();
    assert_eq!(catalog.packs(), [row(1)]);
    assert_eq!(catalog.add_packs(&[row(3)]).unwrap(), 1);
    assert_eq!(Catalog::open(&state).unwrap().packs(), [row(1), row(3)]);
}

/// The bytes of the only run.
fn run_of(files: &mut BTreeMap<String, Vec<u8>>) -> &mut Vec<u8> {
    files.iter_mut().find(|(name, _)| name.ends_with(".run")).unwrap().1
}

/// A catalog of 300 records in one run, of three pages, and where its pages end.
fn three_pages() -> (MemoryState, usize) {
    let state = MemoryState::default();
    with_rows(&state).add_records((0..300).map(record).collect()).unwrap();
    let len = run_of(&mut state.0.lock().unwrap()).len();
    (state, len - 3 * 8 - 32)
}

#[test]
fn no_damaged_byte_of_a_run_makes_a_wrong_answer() {
    let (state, pages_end) = three_pages();
    let len = run_of(&mut state.0.lock().unwrap()).len();
    let (mut left_out, mut refused) = (0, 0);
    for at in (0..len).step_by(7).chain([len - 1]) {
        run_of(&mut state.0.lock().unwrap())[at] ^= 1;
        let catalog = Catalog::open(&state).unwrap();
        assert_eq!(catalog.is_hurt(), !(PAGE_LEN..pages_end).contains(&at), "byte {at}");
        left_out += u64::from(catalog.is_hurt());
        for n in 0..300 {
            match catalog.find(&record(n).id) {
                Ok(Some(place)) => assert_eq!(place, record(n).place, "byte {at}"),
                Ok(None) => assert!(catalog.is_hurt(), "byte {at}: record {n} is not found, and nobody is told"),
                Err(CatalogError::Damaged { .. }) => refused += 1,
                Err(e) => panic!("byte {at}: {e}"),
            }
        }
        run_of(&mut state.0.lock().unwrap())[at] ^= 1;
    }
    assert!(left_out > 500 && refused > 10_000, "{left_out} {refused}");
    assert!(!Catalog::open(&state).unwrap().is_hurt());
}

#[test]
fn a_backup_goes_on_without_a_damaged_run_and_marks_the_catalog() {
    let (state, _) = three_pages();
    run_of(&mut state.0.lock().unwrap())[PAGE_LEN + 5] ^= 1;
    let mut catalog = Catalog::open(&state).unwrap();
    assert!(!catalog.is_marked().unwrap());
    let known = (0..300).filter(|n| catalog.knows(&record(*n).id).unwrap()).count();
    assert!(known < 200, "{known} were looked up before one in the damaged page was");
    assert!(catalog.is_marked().unwrap() && catalog.is_hurt());
    catalog.add_records((0..9).map(record).collect()).unwrap();
    assert!(catalog.knows(&record(3).id).unwrap());
    assert!(Catalog::open(&state).unwrap().is_marked().unwrap(), "until it is rebuilt");
}

#[test]
fn a_damaged_run_is_not_merged_into_a_good_one() {
    let (state, pages_end) = three_pages();
    run_of(&mut state.0.lock().unwrap())[pages_end - 1] ^= 1;
    let mut catalog = Catalog::open(&state).unwrap();
    catalog.add_records((300..700).map(record).collect()).unwrap();
    assert!(catalog.is_hurt() && catalog.is_marked().unwrap());
    assert_eq!(catalog.chunks(), 400);
    for n in 300..700 {
        assert_eq!(catalog.find(&record(n).id).unwrap(), Some(record(n).place));
    }
}

#[test]
fn a_damaged_or_shorter_pack_table_forgets_the_catalog() {
    for harm in [|table: &mut Vec<u8>| table[40] ^= 1, |table: &mut Vec<u8>| table.truncate(6 * PACK_LEN)] {
        let (state, _) = three_pages();
        harm(state.0.lock().unwrap().get_mut(PACKS).unwrap());
        let catalog = Catalog::open(&state).unwrap();
        assert!(catalog.is_empty() && catalog.is_hurt() && catalog.is_marked().unwrap());
        assert_eq!(state.list(FOLDER).unwrap(), [""; 0]);
    }
}
