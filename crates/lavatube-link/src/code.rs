//! The packet code: a block as K source symbols, R repair symbols, and a block again from any K of them.
//!
//! One code of one crate in one form ([decision 0007](../../../docs/decisions/0007-packet-code.md)), so that the rest of the
//! link sees lengths and numbers only; where the machine can, [`fast`] makes the same bytes. It must not know datagrams, time or
//! why a symbol is missing. Steps 9 and 12 of the walk.

use lavatube_base::limits::{BLOCK_LEN_MAX, SYMBOL_LEN_MAX};
use lavatube_codes::lanes::Lanes;
use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

mod fast;

/// How a block of some length is cut: everything about it follows from the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    block_len: usize,
    symbol_len: usize,
    k: usize,
    r: usize,
}

impl Shape {
    /// The shape of a block of `block_len` bytes; `None` for an empty one or one beyond [`BLOCK_LEN_MAX`].
    pub fn of(block_len: u64) -> Option<Self> {
        let block_len = usize::try_from(block_len).ok().filter(|len| (1..=BLOCK_LEN_MAX).contains(len))?;
        //= FORMAT#F20 symbols are as equal as they can be, and even
        let k = block_len.div_ceil(SYMBOL_LEN_MAX);
        let symbol_len = block_len.div_ceil(k).next_multiple_of(2);
        let mut r = R_MIN;
        while 4 * r <= k {
            r *= 2;
        }
        Some(Self { block_len, symbol_len, k, r })
    }

    /// Bytes of the block.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Bytes of each symbol.
    pub fn symbol_len(&self) -> usize {
        self.symbol_len
    }

    /// Source symbols: as many symbols as are needed, whichever they are.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Source and repair symbols.
    pub fn symbols(&self) -> usize {
        self.k + self.r
    }

    /// Repair symbols there are.
    pub fn r(&self) -> usize {
        self.r
    }

    /// Source symbol `number` as far as the block reaches; zeros follow up to the symbol's length.
    pub fn source<'a>(&self, block: &'a [u8], number: usize) -> &'a [u8] {
        let end = block.len().min((number + 1) * self.symbol_len);
        block.get(number * self.symbol_len..end).unwrap_or_default()
    }

    /// The widths in which all symbols are coded, one slice after the other, so that the work fits `scratch_len` bytes. The
    /// code does not notice: it works on 64 bytes at a time.
    fn slices(&self, rows: usize, scratch_len: usize) -> impl Iterator<Item = (usize, usize)> {
        let (len, width) = (self.symbol_len, (scratch_len / rows / LANE * LANE).max(LANE));
        (0..len).step_by(width).map(move |at| (at, width.min(len - at)))
    }
}

/// The first `count` repair symbols of a block, one after the other.
pub fn repair(shape: &Shape, block: &[u8], count: usize) -> Vec<u8> {
    assert!(block.len() == shape.block_len, "the block has the length of its shape");
    assert!(count <= shape.r, "no more repair symbols than there are");
    if shape.k == 1 {
        // One symbol needs no arithmetic: each repair symbol is the block.
        let mut out = vec![0; count * shape.symbol_len];
        out.chunks_exact_mut(shape.symbol_len).for_each(|symbol| symbol[..block.len()].copy_from_slice(block));
        return out;
    }
    match Lanes::best() {
        Some(lanes) => fast::repair(lanes, shape, block, count),
        None => plain_repair(shape, block, count),
    }
}

/// [`repair`] by the crate.
fn plain_repair(shape: &Shape, block: &[u8], count: usize) -> Vec<u8> {
    let len = shape.symbol_len;
    let mut out = vec![0; count * len];
    let mut work = None;
    let mut padded = vec![0; len];
    for (at, width) in shape.slices(shape.k.next_multiple_of(shape.r), ENCODE_SCRATCH_LEN) {
        let mut encoder =
            HighRateEncoder::new(shape.k, shape.r, width, DefaultEngine::new(), work.take()).expect(SHAPES_FIT);
        for number in 0..shape.k {
            let mut source = shape.source(block, number);
            if source.len() < len {
                padded.fill(0);
                padded[..source.len()].copy_from_slice(source);
                source = &padded;
            }
            encoder.add_original_shard(&source[at..at + width]).expect(SHAPES_FIT);
        }
        let coded = encoder.encode().expect(SHAPES_FIT);
        for (symbol, slice) in out.chunks_exact_mut(len).zip(coded.recovery_iter()) {
            symbol[at..at + width].copy_from_slice(slice);
        }
        drop(coded);
        work = Some(encoder.into_parts().1);
    }
    out
}

/// A block that comes back symbol by symbol.
#[derive(Debug)]
pub struct Rebuild {
    shape: Shape,
    /// The source symbols, those that are missing as zeros.
    sources: Vec<u8>,
    held: Vec<bool>,
    missing: usize,
    repairs: Vec<u8>,
    repair_numbers: Vec<usize>,
}

impl Rebuild {
    /// Of nothing yet.
    pub fn new(shape: Shape) -> Self {
        let sources = vec![0; shape.k * shape.symbol_len];
        Self {
            shape,
            sources,
            held: vec![false; shape.symbols()],
            missing: shape.k,
            repairs: Vec::new(),
            repair_numbers: Vec::new(),
        }
    }

    /// Takes a symbol; one of a strange length or number, or that is not needed, is left.
    pub fn put(&mut self, number: u32, symbol: &[u8]) {
        let len = self.shape.symbol_len;
        let Ok(number) = usize::try_from(number) else { return };
        if symbol.len() != len || number >= self.shape.symbols() || self.missing == 0 {
            return;
        }
        if std::mem::replace(&mut self.held[number], true) {
            return;
        }
        self.missing -= 1;
        if number < self.shape.k {
            self.sources[number * len..][..len].copy_from_slice(symbol);
        } else {
            self.repair_numbers.push(number - self.shape.k);
            self.repairs.extend_from_slice(symbol);
        }
    }

    /// The block, or `None` while symbols are missing. Whether it is the right one its id tells.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        if self.missing > 0 {
            return None;
        }
        if self.shape.k == 1 && !self.held[0] {
            self.sources.copy_from_slice(&self.repairs[..self.shape.symbol_len]);
        } else if !self.repair_numbers.is_empty() {
            match Lanes::best() {
                Some(lanes) => fast::decode(lanes, &mut self),
                None => self.plain_decode()?,
            }
        }
        self.sources.truncate(self.shape.block_len);
        Some(self.sources)
    }

    /// Decoding by the crate.
    fn plain_decode(&mut self) -> Option<()> {
        let Shape { k, r, symbol_len: len, .. } = self.shape;
        let mut work = None;
        for (at, width) in self.shape.slices((k + r).next_power_of_two(), DECODE_SCRATCH_LEN) {
            let mut decoder = HighRateDecoder::new(k, r, width, DefaultEngine::new(), work.take()).ok()?;
            for (number, _) in self.held[..k].iter().enumerate().filter(|(_, held)| **held) {
                decoder.add_original_shard(number, &self.sources[number * len + at..][..width]).ok()?;
            }
            for (number, symbol) in self.repair_numbers.iter().zip(self.repairs.chunks_exact(len)) {
                decoder.add_recovery_shard(*number, &symbol[at..at + width]).ok()?;
            }
            let decoded = decoder.decode().ok()?;
            for (number, slice) in decoded.restored_original_iter() {
                self.sources[number * len + at..][..width].copy_from_slice(slice);
            }
            drop(decoded);
            work = Some(decoder.into_parts().1);
        }
        Some(())
    }
}

/// Fewest repair symbols: tiny blocks lose all their symbols at once more easily than large ones.
const R_MIN: usize = 16;
/// Memory that encoding may take beside three blocks and their repair symbols.
const ENCODE_SCRATCH_LEN: usize = 32 << 20;
/// Memory that decoding may take beside one block: enough for any in one slice, because each call has a cost of its own (decision 0007).
const DECODE_SCRATCH_LEN: usize = 96 << 20;
/// The code's own unit.
const LANE: usize = 64;
const SHAPES_FIT: &str = "a Shape is within the code's limits";

#[cfg(test)]
mod tests;
