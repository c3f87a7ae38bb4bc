//! Work that takes longer than a datagram may wait: making repair symbols, and a block out of symbols.
//!
//! Why: the machine does neither clocks nor threads, so it hands such work out and goes on; its caller does it where a core is free,
//! or at once, and hands back what came of it. A job is whole in itself. It must not know datagrams or time. Steps 9 and
//! 12 of the walk.

use std::sync::Arc;

use lavatube_base::BlockId;
use lavatube_base::digest::h16;

use crate::code::{self, Rebuild, Shape};
use crate::store::{StoreError, Symbols};

/// Something to be done by [`Job::run`], in any thread; then [`crate::Link::finished`].
pub struct Job(Work);

enum Work {
    Encode { key: u64, id: BlockId, shape: Shape, bytes: Arc<Vec<u8>>, count: usize },
    Rebuild { id: BlockId, shape: Shape, symbols: Symbols },
}

/// What came of a [`Job`].
#[derive(Debug)]
pub struct Done(pub(crate) Outcome);

#[derive(Debug)]
pub(crate) enum Outcome {
    /// The first repair symbols of a block.
    Encoded { key: u64, id: BlockId, repairs: Vec<u8> },
    /// A block, unless its symbols gave another than its id says.
    Rebuilt { id: BlockId, bytes: Result<Option<Vec<u8>>, StoreError> },
}

impl Job {
    pub(crate) fn encode(key: u64, id: BlockId, shape: Shape, bytes: Arc<Vec<u8>>, count: usize) -> Self {
        Self(Work::Encode { key, id, shape, bytes, count })
    }

    pub(crate) fn rebuild(id: BlockId, shape: Shape, symbols: Symbols) -> Self {
        Self(Work::Rebuild { id, shape, symbols })
    }

    /// Whether it takes less time than handing it to another thread.
    pub fn is_small(&self) -> bool {
        let (Work::Encode { shape, .. } | Work::Rebuild { shape, .. }) = &self.0;
        shape.k() <= SMALL_SYMBOLS
    }

    /// Does it.
    pub fn run(self) -> Done {
        Done(match self.0 {
            Work::Encode { key, id, shape, bytes, count } => {
                Outcome::Encoded { key, id, repairs: code::repair(&shape, &bytes, count) }
            }
            Work::Rebuild { id, shape, symbols } => {
                let mut rebuild = Rebuild::new(shape);
                let read = symbols(&mut |number, symbol| rebuild.put(number, symbol));
                let whole = read.and_then(|()| rebuild.finish().ok_or_else(|| StoreError("symbols are gone".into())));
                //= FORMAT#F23 a block is believed when its id is right
                let bytes = whole.map(|bytes| Some(bytes).filter(|bytes| h16(&[bytes]) == id.0));
                Outcome::Rebuilt { id, bytes }
            }
        })
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Work::Encode { id, count, .. } => write!(f, "Encode({id}, {count})"),
            Work::Rebuild { id, .. } => write!(f, "Rebuild({id})"),
        }
    }
}

/// Blocks of so many symbols are worked on in less than a tenth of a millisecond.
const SMALL_SYMBOLS: usize = 64;
