//! Keyed, content-defined cut points: a byte stream in, chunk lengths out. Step 2 of the walk.
//!
//! An edit in the middle of a file must change one or two chunks, not all that follow, so cuts follow content. And
//! whoever sees chunk lengths must learn nothing from them without the key, not even for a file he planted: rolling
//! hashes used as the cut rule itself leak their secret (eprint 2025/532, 2025/558). Here a cut looks only at AES.
//! Must not know: files, where bytes come from, chunk ids, packs.
//!
//! # The rule
//!
//! Integers are little-endian. From the 32-byte secret, 80 bytes of BLAKE3 in derive-key mode (context
//! [`KEY_CONTEXT`], key material = the secret, extended output): bytes 0..16 are an AES-128 key, bytes 16..80 eight
//! `u64` words `k[0..8]`. Read a 64-byte window as eight `u64` words `m[0..8]`, and let
//!
//! ```text
//! NH(m)   = Σ over i in {0,2,4,6} of ((m[i] + k[i]) mod 2^64) · ((m[i+1] + k[i+1]) mod 2^64)     mod 2^128
//! out     = AES-128(NH as 16 bytes)
//! ticket  = out[0..8] as u64          jump = 1 + (out[8] mod 64)
//! bar     = floor((2^64 - 1) / max(1, floor(2·(mean - min) / 65)))
//! ```
//!
//! A chunk starts where the last one ended. Its length is found by a walk over candidate lengths `p`, from `p = min`:
//! when `p` reaches `max`, the chunk is `max` long; else, when `p` lies beyond the end of the stream, the chunk is
//! what is left; else take the window of the 64 bytes that end at `p`: if `ticket < bar` the chunk is `p` long, if
//! not, `p += jump`. Golden vectors with all their inputs are in `chunker/tests.rs`.
//!
//! # Why it may jump
//!
//! Two walks that once stand on the same byte stay together for ever, and walks on the same content meet soon: a walk
//! visits one position in 32.5, so after an edit the new walk falls onto the old one within about 1 KiB, far less
//! than a chunk. That buys 32 bytes per AES call where a test at every byte would buy one, at the same deduplication
//! (`docs/decisions/0002-chunk-and-frame-sizes.md`).
//!
//! # Why it does not leak
//!
//! NH on 64-bit words is 2^-64-almost-universal (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, CRYPTO '99, theorem
//! for equal-length strings): two fixed different windows meet in one NH value with probability at most 2^-64 over
//! `k`. While no two visited windows meet, AES runs on distinct inputs, so its outputs cannot be told from
//! independent random strings; tickets and jumps then depend on which windows are *equal*, and on nothing else of
//! content or key. An observer of lengths has the view of one who sees a walk with fresh coins: no equation in `k` to
//! collect, no list of public candidate positions to match against a known file. Not hidden: the lengths themselves,
//! and that equal content cuts equally under one key. Lengths are hidden by whole, padded packs.

use std::fmt;

use aes::Aes128;
use aes::cipher::consts::U16;
use aes::cipher::{Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, KeyInit};
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Bounds and target of chunk lengths, all in bytes. Must satisfy `WINDOW <= min < mean < max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    /// No chunk is shorter, except the last of a stream. Bytes before it are never examined.
    pub min: usize,
    /// Mean length on content without long repeats, the effect of `max` aside.
    pub mean: usize,
    /// No chunk is longer.
    pub max: usize,
}

impl ChunkSizes {
    /// What every archive uses unless told otherwise; measured in `docs/decisions/0002-chunk-and-frame-sizes.md`.
    pub const DEFAULT: Self = Self { min: 8 << 10, mean: 16 << 10, max: 64 << 10 };

    /// For files whose first bytes do not compress (photographs, films, archives): such files are rarely edited in
    /// place, so an eighth of the references will do. `max` still fits one frame.
    pub const INCOMPRESSIBLE: Self = Self { min: 64 << 10, mean: 128 << 10, max: 512 << 10 };
}

/// The secret half of the rule: the NH words and the AES key, wiped when dropped. Two archives with one key cut alike.
#[derive(Clone, ZeroizeOnDrop)]
pub struct ChunkerKey {
    nh: [u64; WORDS],
    aes: Aes128,
}

impl ChunkerKey {
    /// Derives both keys from a uniformly random secret that has no other use.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let mut stream = blake3::Hasher::new_derive_key(KEY_CONTEXT).update(secret).finalize_xof();
        let mut aes_key = Zeroizing::new([0; 16]);
        stream.fill(&mut *aes_key);
        let nh = std::array::from_fn(|_| {
            let mut word = [0; 8];
            stream.fill(&mut word);
            u64::from_le_bytes(word)
        });
        Self { nh, aes: Aes128::new((&*aes_key).into()) }
    }
}

impl fmt::Debug for ChunkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChunkerKey(secret)")
    }
}

/// Finds the cuts of one stream after another. Cheap to keep, holds no content.
#[derive(Debug)]
pub struct Chunker {
    key: ChunkerKey,
    sizes: ChunkSizes,
    /// A ticket below it wins.
    bar: u64,
    /// The candidate length to look at next; survives between calls, so nothing is examined twice.
    next: usize,
}

impl Chunker {
    /// A chunker at the start of a stream.
    ///
    /// # Panics
    /// If the sizes are out of order or `min` is shorter than a window: the caller's mistake.
    #[must_use]
    pub fn new(key: &ChunkerKey, sizes: ChunkSizes) -> Self {
        assert!(WINDOW <= sizes.min && sizes.min < sizes.mean && sizes.mean < sizes.max, "{sizes:?} out of order");
        let visits_mean = (2 * (sizes.mean - sizes.min) / (usize::from(JUMP_MAX) + 1)).max(1);
        Self { key: key.clone(), sizes, bar: u64::MAX / visits_mean as u64, next: sizes.min }
    }

    /// The length of the next chunk, given every byte of the stream since the last cut, or `None` if more bytes must
    /// come first. `eof` says that `data` reaches the end of the stream; then the answer is `None` only for no data.
    ///
    /// After `None`, call again with the same bytes and more behind them. After `Some(n)`, drop `n` bytes; the next
    /// call is about the next chunk. Where cuts fall does not depend on how the bytes were handed in. `sizes.max`
    /// bytes always suffice for an answer.
    pub fn cut(&mut self, data: &[u8], eof: bool) -> Option<usize> {
        let cut = self.scan(data).or_else(|| {
            if data.len() >= self.sizes.max {
                Some(self.sizes.max)
            } else {
                (eof && !data.is_empty()).then_some(data.len())
            }
        });
        if cut.is_some() {
            self.reset();
        }
        cut
    }

    /// Forgets a half-scanned chunk, to start on another stream. Not needed after `cut` has returned a length.
    pub fn reset(&mut self) {
        self.next = self.sizes.min;
    }

    /// Walks the candidates that `data` covers; leaves `next` at the first it does not.
    fn scan(&mut self, data: &[u8]) -> Option<usize> {
        let Self { key, sizes, bar, next } = self;
        let mut found = None;
        // One call for the whole walk: the cipher lays its keys out for the processor at every call anew.
        key.aes.encrypt_with_backend(Walk { nh: &key.nh, max: sizes.max, bar: *bar, data, next, found: &mut found });
        found
    }
}

/// A walk over candidates, inside the cipher.
struct Walk<'w> {
    nh: &'w [u64; WORDS],
    max: usize,
    bar: u64,
    data: &'w [u8],
    next: &'w mut usize,
    found: &'w mut Option<usize>,
}

impl BlockSizeUser for Walk<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Walk<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        while *self.next < self.max {
            let window = self.data.get(*self.next - WINDOW..*self.next).and_then(|w| w.first_chunk::<WINDOW>());
            let Some(window) = window else { return };
            let verdict = judge(self.nh, window, backend);
            let (ticket, [jump, ..]) = verdict.split_at(8) else { return };
            if ticket.first_chunk().is_some_and(|ticket| u64::from_le_bytes(*ticket) < self.bar) {
                *self.found = Some(*self.next);
                return;
            }
            *self.next += 1 + usize::from(jump % JUMP_MAX);
        }
    }
}

/// The 16 pseudo-random bytes that belong to one window: the only thing a cut may depend on.
#[inline(always)]
fn judge<B: BlockCipherEncBackend<BlockSize = U16>>(nh: &[u64; WORDS], window: &[u8; WINDOW], backend: &B) -> [u8; 16] {
    let (words, _) = window.as_chunks::<8>();
    let keyed = |i: usize| u128::from(u64::from_le_bytes(words[i]).wrapping_add(nh[i]));
    let digest = (0..WORDS).step_by(2).fold(0u128, |sum, i| sum.wrapping_add(keyed(i) * keyed(i + 1)));
    let mut block = Block::<B>::from(digest.to_le_bytes());
    backend.encrypt_block((&mut block).into());
    block.into()
}

/// Bytes that decide about a cut: the ones just before it.
pub const WINDOW: usize = 64;

/// Domain separation of the key derivation; part of the format.
pub const KEY_CONTEXT: &str = "lavatube 2026-11-23 chunker v1: NH words and AES-128 key";

/// Jumps are 1 to this many bytes. No more than [`WINDOW`], so that every byte past `min` lies in some window.
const JUMP_MAX: u8 = 64;

const WORDS: usize = WINDOW / 8;

const _: () = assert!(JUMP_MAX as usize <= WINDOW && 256 % JUMP_MAX as usize == 0, "jumps are uniform and gapless");

#[cfg(test)]
mod tests;
