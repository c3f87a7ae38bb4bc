//! The packer: what goes in comes out of the packs, in few of them, with little padding.

use std::collections::BTreeMap;

use lavatube_base::SessionId;
use lavatube_format::key_file::Secret;
use lavatube_format::pack::{ChunkEntry, Method, decode_index};
use proptest::prelude::*;

use super::*;
use crate::collect::Lane;
use crate::frame::FrameOpener;
use crate::memory::noise;

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
    PressedFrame {
        number,
        lane: Lane::Data,
        entry: FrameEntry { method: Method::Raw, stored_len: stored.len(), chunks },
        stored,
    }
}

/// Packs `frames`; gives every chunk that can be read back from the packs, and the packs' classes.
fn pack(frames: Vec<PressedFrame>) -> (BTreeMap<ChunkId, Vec<u8>>, Vec<u8>) {
    let mut packer = Packer::new(keys());
    let mut packs = Vec::new();
    for frame in frames {
        packs.extend(packer.add(frame).unwrap());
    }
    while let Some(last) = packer.close_last().unwrap() {
        packs.push(last);
    }
    let classes = packs.iter().map(|p| p.class).collect();
    let mut out = BTreeMap::new();
    for (number, pack) in packs.into_iter().enumerate() {
        let SealedPack { class, mut bytes, .. } = pack;
        assert_eq!((pack.number as usize, bytes.len()), (number, class_len(class)));
        let n = keys().pack(pack.number, class).open_pack(&mut bytes).unwrap();
        let plain = &bytes[..n];
        let footer = Footer::decode(class, &plain[n - FOOTER_LEN..]).unwrap();
        let at = footer.index_at(class);
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
    (out, classes)
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
        let (out, _) = pack(frames);
        prop_assert_eq!(out, all);
    }
}

#[test]
fn an_almost_empty_session_is_one_smallest_pack() {
    let (_, classes) = pack(vec![frame(0, &[noise(1, 900)])]);
    assert_eq!(classes, [0]);
}

#[test]
fn padding_of_a_long_session_stays_under_one_per_cent() {
    let frames: Vec<_> =
        (0..400).map(|n| frame(n, &[noise(n, 30_000 + n as usize * 7919 % 150_000), noise(n + 1000, 9_000)])).collect();
    let sum: usize = frames.iter().map(|f| f.stored.len()).sum();
    let (_, classes) = pack(frames);
    let sealed: usize = classes.iter().map(|c| class_len(*c)).sum();
    assert!(sealed * 100 < sum * 101, "{sealed} bytes sealed for {sum}: {classes:?}");
}

#[test]
fn millions_of_tiny_chunks_do_not_make_one_huge_index() {
    let tiny = |n: u64| frame(n, &(0..2000).map(|i| (n * 2000 + i).to_le_bytes().to_vec()).collect::<Vec<_>>());
    let (out, classes) = pack((0..80).map(tiny).collect());
    assert_eq!(out.len(), 160_000);
    assert!(classes.len() > 2, "{classes:?}");
    assert!(classes.iter().all(|c| *c < FULL_CLASS));
}

#[test]
fn a_pack_that_opens_to_anything_else_does_not_leave() {
    let frames = [frame(0, &[noise(1, 40_000)]), frame(1, &[noise(2, 9_000)])];
    let (class, number) = (3, 5);
    let plan = Plan::new(&frames, class);
    let seal = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        plan.lay_out(&mut bytes);
        spoil(&mut bytes);
        keys().pack(number, class).seal_in_place(&mut bytes).unwrap();
        bytes
    };
    let compare = |pack: &[u8]| open_again(&keys(), number, &plan, pack, &mut Vec::new());
    compare(&seal(&|_| ())).unwrap();
    // A memory that flips a bit of a frame, of the padding, of the index, or of the footer, before all is sealed.
    let (frames_len, end) = (49_000, capacity(class));
    for at in [0, 20_000, frames_len - 1, frames_len, end / 2, end - plan.tail.len(), end - FOOTER_LEN, end - 1] {
        let flipped = seal(&|bytes| bytes[sealed_position(at)] ^= 4);
        assert!(matches!(compare(&flipped), Err(PackError::Misealed)), "flipped at {at}");
    }
    // And one that does so afterwards.
    let mut altered = seal(&|_| ());
    altered[60_000] ^= 4;
    assert!(matches!(compare(&altered), Err(PackError::Misealed)));
}
