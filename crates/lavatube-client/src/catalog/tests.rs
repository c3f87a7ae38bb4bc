//! The catalog against a map: whatever is put in is found, whatever is not is not, through merges and reopening.

use std::collections::BTreeMap;

use lavatube_base::{ObjectId, SessionId};
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_catalog_finds_what_was_put_in(runs in proptest::collection::vec(proptest::collection::vec(0u64..4000, 0..700), 1..8)) {
        let state = MemoryState::default();
        let mut known = BTreeMap::new();
        {
            let mut catalog = Catalog::open(&state).unwrap();
            for run in &runs {
                known.extend(run.iter().map(|n| (*n, record(*n).place)));
                catalog.add_records(run.iter().map(|n| record(*n)).collect()).unwrap();
                let few = catalog.runs.len() as u32 <= 2 + known.len().max(1).ilog2();
                prop_assert!(few, "{} runs", catalog.runs.len());
            }
        }
        let catalog = Catalog::open(&state).unwrap();
        for n in 0..4000 {
            prop_assert_eq!(catalog.find(&record(n).id).unwrap(), known.get(&n).copied(), "record {}", n);
        }
    }
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
    let row = |n: u8| PackRow { id: ObjectId([n; 32]), class: 1, session: SessionId([n; 16]), number: n.into() };
    Catalog::open(&state).unwrap().add_packs(&[row(1), row(2)]).unwrap();
    state.0.lock().unwrap().get_mut(PACKS).unwrap().truncate(PACK_LEN + 5);
    let mut catalog = Catalog::open(&state).unwrap();
    assert_eq!(catalog.packs(), [row(1)]);
    assert_eq!(catalog.add_packs(&[row(3)]).unwrap(), 1);
    assert_eq!(Catalog::open(&state).unwrap().packs(), [row(1), row(3)]);
}

#[test]
fn a_damaged_run_is_an_error_and_never_a_wrong_answer() {
    let state = MemoryState::default();
    Catalog::open(&state).unwrap().add_records((0..300).map(record).collect()).unwrap();
    let name = state.0.lock().unwrap().keys().find(|n| n.ends_with(".run")).cloned().unwrap();
    let len = state.0.lock().unwrap()[&name].len();
    for at in [0, 9, len - 40, len - 1] {
        state.0.lock().unwrap().get_mut(&name).unwrap()[at] ^= 1;
        assert!(Catalog::open(&state).is_err(), "byte {at}");
        state.0.lock().unwrap().get_mut(&name).unwrap()[at] ^= 1;
    }
    assert!(Catalog::open(&state).is_ok());
}
