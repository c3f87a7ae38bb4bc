//! No key and nonce twice: one content for a pack number, one note for a session (FORMAT#F17).

use super::Verdict;
use crate::book::Book;

/// Nothing left the depositor under a number that had left before with other content.
///
/// # Errors
/// The first that did.
pub fn once(book: &Book) -> Verdict {
    book.faults().into_iter().next().map_or(Ok(()), Err)
}
