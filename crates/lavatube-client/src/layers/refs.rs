//! The references of a file, list chunks expanded: a stream of chunks in the order of the content.
//!
//! At most four lists are in memory at once, whatever the size of the file. It must not know what the content is.

use lavatube_base::limits::LIST_DEPTH_MAX;
use lavatube_format::Malformed;
use lavatube_format::tree::{Content, Ref, decode_list};

use super::TreeError;
use crate::fetch::Fetcher;

struct Level {
    refs: std::vec::IntoIter<Ref>,
    depth: u64,
}

/// Gives the chunks of one file's content stream.
pub struct LeafRefs {
    levels: Vec<Level>,
}

impl LeafRefs {
    /// The chunks of `content`.
    pub fn new(content: &Content) -> Self {
        Self { levels: vec![Level { refs: content.refs.clone().into_iter(), depth: content.depth }] }
    }

    /// The next chunk, or `None` at the end.
    ///
    /// # Errors
    /// [`TreeError`] when a list cannot be had, breaks its layout, or does not add up to what refers to it.
    pub fn next(&mut self, fetcher: &mut Fetcher<'_>) -> Result<Option<Ref>, TreeError> {
        while let Some(level) = self.levels.last_mut() {
            let depth = level.depth;
            match level.refs.next() {
                None => {
                    self.levels.pop();
                }
                Some(leaf) if depth == 0 => return Ok(Some(leaf)),
                Some(list) => {
                    let refs = expand(fetcher, &list, depth)?;
                    self.levels.push(Level { refs: refs.into_iter(), depth: depth - 1 });
                }
            }
        }
        Ok(None)
    }
}

/// The references in list chunk `list`.
///
/// # Errors
/// As [`LeafRefs::next`].
pub fn expand(fetcher: &mut Fetcher<'_>, list: &Ref, depth: u64) -> Result<Vec<Ref>, TreeError> {
    let opened = fetcher.chunk(&list.id, None)?;
    let fail = |source| TreeError::Malformed { chunk: list.id, source };
    //= FORMAT#F12 a list's content is references one level down
    let refs = decode_list(opened.content()).map_err(fail)?;
    let rule = |rule| fail(Malformed { what: "list chunk", at: 0, rule });
    if depth > LIST_DEPTH_MAX {
        return Err(rule("lists are nested too deep"));
    }
    //= FORMAT#F13 references add up to what refers to them
    let sum = refs.iter().try_fold(0u64, |sum, r| sum.checked_add(r.len));
    if sum != Some(list.len) {
        return Err(rule("references do not add up to what refers to them"));
    }
    Ok(refs)
}
