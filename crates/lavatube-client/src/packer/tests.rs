//! The packer: what goes in comes out of the packs, in few of them, with little padding.

use std::collections::BTreeMap;

use lavatube_base::{ObjectId, SessionId};
use lavatube_format::key_file::Secret;
use lavatube_format::pack::{ChunkEntry, Method, decode_index};
use proptest::prelude::*;

use super::*;
use crate::frame::FrameOpener;
use crate::memory::{MemoryFar, MemoryState, noise};
use crate::spool::{Spool, SpoolError, SpoolKind};

/// A spool that must not be needed.
struct NoSpool;

impl Spool for NoSpool {
    fn put(&mut self, _: SpoolKind, _: Verified<'_>) -> Result<(), SpoolError> {
        Err(SpoolError::Full)
    }
    fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }
    fn list(&self) -> Result<Vec<(SpoolKind, ObjectId)>, SpoolError> {
        Ok(Vec::new())
    }
    fn get(&self, _: SpoolKind, _: ObjectId) -> Result<Vec<u8>, SpoolError> {
        Err(SpoolError::Full)
    }
    fn remove(&mut self, _: SpoolKind, _: ObjectId) -> Result<(), SpoolError> {
        Ok(())
    }
}

fn keys() -> SessionKeys {
    SessionKeys::derive(SessionId([1; 16]), &Secret::new([2; 32]), &Secret::new([3; 32]))
}

fn frame(number: u64, chunks: &[Vec<u8>]) -> PressedFrame {
    let entry = |c: &Vec<u8>| {
        let mut id = [0; 24];
        id.copy_from_slice(&blake3::hash(c).as_bytes()[..24]);
        ChunkEntry { id: ChunkId(id), body_len: c.len(), delta: None }
    };
    let stored = chunks.concat();
    let chunks = chunks.iter().map(entry).collect();
    PressedFrame { number, entry: FrameEntry { method: Method::Raw, stored_len: stored.len(), chunks }, stored }
}

/// Packs `frames`; gives every chunk that can be read back from the packs, and the packs' classes.
fn pack(frames: Vec<PressedFrame>, ask: &[ChunkId]) -> (BTreeMap<ChunkId, Vec<u8>>, Vec<u8>, Packed) {
    let (state, far, meter, mut spool) = (MemoryState::default(), MemoryFar::default(), Meter::default(), NoSpool);
    let mut packer = Packer::new(keys(), &state, Courier::new(Some(&far), &mut spool), &meter);
    for frame in frames {
        packer.add(frame).unwrap();
    }
    let (_, packed, _) = packer.finish(ask).unwrap();
    let mut out = BTreeMap::new();
    for (row, _) in &packed.packs {
        let mut bytes = far.packs.lock().unwrap()[&row.id].clone();
        assert_eq!(bytes.len(), class_len(row.class));
        let n = keys().pack(row.number, row.class).open_pack(&mut bytes).unwrap();
        let plain = &bytes[..n];
        let footer = Footer::decode(row.class, &plain[n - FOOTER_LEN..]).unwrap();
        let at = footer.index_at(row.class);
        let index = decode_index(footer.frames, Some(footer.frames_len), &plain[at..at + footer.index_len]).unwrap();
        let mut at = 0;
        for frame in index {
            let mut raw = Vec::new();
            let stored = &plain[at..at + frame.stored_len];
            FrameOpener::new().unwrap().open(frame.method, stored, frame.raw_len(), &mut raw).unwrap();
            at += frame.stored_len;
            let mut rest = &raw[..];
            for chunk in frame.chunks {
                let (body, after) = rest.split_at(chunk.body_len);
                out.insert(chunk.id, body.to_vec());
                rest = after;
            }
        }
    }
    let classes = packed.packs.iter().map(|(row, _)| row.class).collect();
    (out, classes, packed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_chunk_comes_out_of_its_pack(lens in proptest::collection::vec(proptest::collection::vec(1usize..60_000, 1..6), 1..30), seed: u64) {
        let mut all = BTreeMap::new();
        let frames = lens.iter().enumerate().map(|(n, lens)| {
            let chunks: Vec<Vec<u8>> = lens.iter().enumerate().map(|(i, l)| noise(seed ^ (n * 100 + i) as u64, *l)).collect();
            frame(n as u64, &chunks)
        }).inspect(|f| {
            let mut at = 0;
            for c in &f.entry.chunks {
                all.insert(c.id, f.stored[at..at + c.body_len].to_vec());
                at += c.body_len;
            }
        }).collect();
        let (out, _, _) = pack(frames, &[]);
        prop_assert_eq!(out, all);
    }
}

#[test]
fn an_almost_empty_session_is_one_smallest_pack() {
    let f = frame(0, &[noise(1, 900)]);
    let id = f.entry.chunks[0].id;
    let (_, classes, packed) = pack(vec![f], &[id]);
    assert_eq!((classes, packed.found), (vec![0], vec![(id, 0)]));
}

#[test]
fn padding_of_a_long_session_stays_under_one_per_cent() {
    let frames: Vec<_> =
        (0..400).map(|n| frame(n, &[noise(n, 30_000 + n as usize * 7919 % 150_000), noise(n + 1000, 9_000)])).collect();
    let sum: usize = frames.iter().map(|f| f.stored.len()).sum();
    let (_, classes, _) = pack(frames, &[]);
    let sealed: usize = classes.iter().map(|c| class_len(*c)).sum();
    assert!(sealed * 100 < sum * 101, "{sealed} bytes sealed for {sum}: {classes:?}");
}

#[test]
fn millions_of_tiny_chunks_do_not_make_one_huge_index() {
    let tiny = |n: u64| frame(n, &(0..2000).map(|i| (n * 2000 + i).to_le_bytes().to_vec()).collect::<Vec<_>>());
    let (out, classes, packed) = pack((0..80).map(tiny).collect(), &[]);
    assert_eq!(out.len(), 160_000);
    assert!(packed.packs.len() > 2, "{classes:?}");
    assert!(classes.iter().all(|c| *c < FULL_CLASS));
}

#[test]
fn a_spoiled_pack_is_noticed_before_it_leaves() {
    let frames = [frame(0, &[noise(5, 50_000)])];
    let (state, far, meter, mut spool) = (MemoryState::default(), MemoryFar::default(), Meter::default(), NoSpool);
    let mut packer = Packer::new(keys(), &state, Courier::new(Some(&far), &mut spool), &meter);
    let mut sealed = Vec::new();
    lay_out(&frames, 2, &mut sealed);
    keys().pack(0, 2).seal_in_place(&mut sealed).unwrap();
    packer.open_again(0, 2, &frames, &sealed).unwrap();
    for at in [HEADER_LEN, HEADER_LEN + 20_000, HEADER_LEN + 49_000] {
        sealed[at] ^= 1;
        assert!(packer.open_again(0, 2, &frames, &sealed).is_err(), "byte {at}");
        sealed[at] ^= 1;
    }
    // Sealed faultlessly, but from bytes that memory had spoiled.
    let mut spoiled = Vec::new();
    lay_out(&frames, 2, &mut spoiled);
    spoiled[sealed_position(30_000)] ^= 4;
    keys().pack(0, 2).seal_in_place(&mut spoiled).unwrap();
    assert!(matches!(packer.open_again(0, 2, &frames, &spoiled), Err(PackError::Misealed)));
}
