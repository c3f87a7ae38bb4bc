//! wip
#![expect(missing_docs)]
use std::array;

use aes::Aes128;
use aes::Block;
use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// sizes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    pub min: usize,
    pub mean: usize,
    pub max: usize,
    pub norm: u32,
}

#[derive(Clone)]
struct Tables {
    enter: [u64; 256],
    leave: [u64; 256],
}

#[derive(Clone)]
pub struct ChunkerKey {
    tables: Box<Tables>,
    aes: Aes128,
}

impl ChunkerKey {
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut xof = blake3::Hasher::new_derive_key("lavatube 2026 chunker v1")
            .update(secret)
            .finalize_xof();
        let mut aes_key = [0; 16];
        xof.fill(&mut aes_key);
        let mut t = Tables { enter: [0; 256], leave: [0; 256] };
        for (e, l) in t.enter.iter_mut().zip(&mut t.leave) {
            let mut w = [0; 8];
            xof.fill(&mut w);
            *e = u64::from_le_bytes(w);
            *l = (0..WINDOW).fold(*e, |h, _| times_x(h));
        }
        Self { tables: Box::new(t), aes: Aes128::new(&aes_key.into()) }
    }
}

#[inline(always)]
fn times_x(h: u64) -> u64 {
    (h << 1) ^ ((h.cast_signed() >> 63).cast_unsigned() & REDUCE)
}

pub struct Chunker {
    key: ChunkerKey,
    sizes: ChunkSizes,
    strict: u64,
    loose: u64,
    scanned: usize,
    blocks: Box<[Block; BATCH]>,
    stage: Box<[[u8; WINDOW + STEPS]; LANES]>,
}

impl Chunker {
    pub fn new(key: &ChunkerKey, sizes: ChunkSizes) -> Self {
        let d = (sizes.mean - sizes.min) as u64;
        Self {
            key: key.clone(),
            sizes,
            strict: u64::MAX / (d << sizes.norm),
            loose: u64::MAX / (d >> sizes.norm).max(1),
            scanned: 0,
            blocks: Box::new([Block::default(); BATCH]),
            stage: Box::new([[0; WINDOW + STEPS]; LANES]),
        }
    }

    pub fn reset(&mut self) {
        self.scanned = 0;
    }

    pub fn cut(&mut self, data: &[u8], eof: bool) -> Option<usize> {
        let end = data.len().min(self.sizes.max - 1);
        let mut next = self.scanned.max(self.sizes.min);
        if !(eof && data.len() <= self.sizes.min) {
        while next <= end {
            let (threshold, border) = if next < self.sizes.mean {
                (self.strict, self.sizes.mean - 1)
            } else {
                (self.loose, end)
            };
            let last = end.min(border).min(next + SEGMENT - 1);
            if let Some(cut) = self.first_below(data, next, last, threshold) {
                self.scanned = 0;
                return Some(cut);
            }
            next = last + 1;
        }
        }
        if data.len() >= self.sizes.max {
            self.scanned = 0;
            Some(self.sizes.max)
        } else if eof && !data.is_empty() {
            self.scanned = 0;
            Some(data.len())
        } else {
            self.scanned = next;
            None
        }
    }

    fn first_below(&mut self, data: &[u8], from: usize, to: usize, threshold: u64) -> Option<usize> {
        let tables = &self.key.tables;
        let count = to - from + 1;
        let lane_len = count.div_ceil(LANES);
        let starts: [usize; LANES] = array::from_fn(|lane| (from + lane * lane_len).min(to + 1 - lane_len));
        let mut digests = [0u64; LANES];
        for (start, stage) in starts.iter().zip(self.stage.iter_mut()) {
            stage[..WINDOW + lane_len].copy_from_slice(&data[start - 1 - WINDOW..][..WINDOW + lane_len]);
        }
        let stage = &*self.stage;
        for step in 0..WINDOW {
            for lane in 0..LANES {
                digests[lane] = times_x(digests[lane]) ^ tables.enter[usize::from(stage[lane][step])];
            }
        }
        let mut found: Option<usize> = None;
        let steps = lane_len.min(STEPS);
            let blocks = &mut self.blocks[..steps * LANES];
            for (step, row) in blocks.chunks_exact_mut(LANES).enumerate().take(STEPS) {
                for lane in 0..LANES {
                    digests[lane] = times_x(digests[lane])
                        ^ tables.enter[usize::from(stage[lane][step + WINDOW])]
                        ^ tables.leave[usize::from(stage[lane][step])];
                    row[lane] = Block::from(u128::from(digests[lane]).to_le_bytes());
                }
            }
            if !NOAES {self.key.aes.encrypt_blocks(blocks);}
            if blocks.iter().fold(false, |any, b| any | (head(b) < threshold)) {
                for (step, row) in blocks.chunks_exact(LANES).enumerate() {
                    for lane in 0..LANES {
                        if head(&row[lane]) < threshold {
                            let p = starts[lane] + step;
                            found = Some(found.map_or(p, |f| f.min(p)));
                        }
                    }
                }
            }
        found
    }
}
const NOAES: bool = option_env!("NOAES").is_some();

#[inline(always)]
fn head(b: &Block) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

pub const WINDOW: usize = 64;
const REDUCE: u64 = 0x1B;
const LANES: usize = 6;
const STEPS: usize = 3840 / LANES;
const BATCH: usize = LANES * STEPS;
const SEGMENT: usize = BATCH;
