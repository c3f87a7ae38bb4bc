//! The seam for symbols that came in: on disk in a real node, so that memory is bounded and a restart goes on where it was.
//!
//! A store is a cache of what the link carried: it may lose symbols (they are sent again) but not change them unnoticed for
//! long: a block whose id is wrong begins anew. It must not know codes or transfers. Steps 11 and 12 of the walk.

use std::collections::BTreeMap;
use std::sync::Arc;

use lavatube_base::BlockId;

/// The store cannot keep or read a symbol; what it says is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("symbol store: {0}")]
pub struct StoreError(pub String);

/// Shows every symbol held of a block, by number, when it is called: whenever, in any thread, once.
pub type Symbols = Box<dyn FnOnce(&mut dyn FnMut(u32, &[u8])) -> Result<(), StoreError> + Send>;

/// Keeps the symbols of blocks that are coming in, by block and number.
pub trait SymbolStore {
    /// The numbers of the symbols held of `block`, which has `symbols` in all, each of `symbol_len` bytes; makes room for a new one.
    ///
    /// # Errors
    /// When there is no room, or what is there cannot be read.
    fn open(&mut self, block: BlockId, symbols: usize, symbol_len: usize) -> Result<Vec<u32>, StoreError>;

    /// Keeps a symbol of an open block.
    ///
    /// # Errors
    /// When it was not kept.
    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError>;

    /// The symbols held of an open block; none is put while they are read.
    ///
    /// # Errors
    /// When they cannot be read.
    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError>;

    /// Forgets a block; it may be unknown.
    fn remove(&mut self, block: BlockId);
}

/// A store in memory, for tests and simulations, or for a node with nothing to lose.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore(BTreeMap<BlockId, Arc<Slots>>);

#[derive(Debug, Clone)]
struct Slots {
    symbol_len: usize,
    bytes: Vec<u8>,
    held: Vec<bool>,
}

impl SymbolStore for MemoryStore {
    fn open(&mut self, block: BlockId, symbols: usize, symbol_len: usize) -> Result<Vec<u32>, StoreError> {
        let slots = || Slots { symbol_len, bytes: vec![0; symbols * symbol_len], held: vec![false; symbols] };
        let fresh = || Arc::new(slots());
        let slots = self.0.entry(block).or_insert_with(fresh);
        Ok(slots.held.iter().zip(0..).filter(|(held, _)| **held).map(|(_, number)| number).collect())
    }

    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        let slots = Arc::make_mut(self.0.get_mut(&block).ok_or_else(|| StoreError("not open".into()))?);
        let number = usize::try_from(number).map_err(|e| StoreError(e.to_string()))?;
        slots.bytes[number * slots.symbol_len..][..symbol.len()].copy_from_slice(symbol);
        slots.held[number] = true;
        Ok(())
    }

    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError> {
        let slots = Arc::clone(self.0.get(&block).ok_or_else(|| StoreError("not open".into()))?);
        Ok(Box::new(move |show| {
            let symbols = slots.bytes.chunks_exact(slots.symbol_len).zip(&slots.held).zip(0..);
            symbols.filter(|((_, held), _)| **held).for_each(|((symbol, _), number)| show(number, symbol));
            Ok(())
        }))
    }

    fn remove(&mut self, block: BlockId) {
        self.0.remove(&block);
    }
}
