//! Long lists of references: the chunks of a large file, folded into list chunks when they are many.
//!
//! Lists end where the content says, like chunks do, so that an insertion into a huge file changes one list and not
//! all that follow. Memory is bounded by one list a level. It must not know where list chunks are put. Step 2 of
//! the walk.

use lavatube_base::limits::{REFS_PER_LIST_MAX, REFS_PER_RECORD_MAX};
use lavatube_format::tree::{Ref, put_refs};

use crate::collect::{CollectError, Collector, Lane};

/// Collects the references of one file.
#[derive(Debug, Default)]
pub struct RefFolder {
    /// Open lists, lowest level first.
    lists: Vec<Vec<Ref>>,
    /// What the record will hold if nothing more comes.
    top: Vec<Ref>,
}

impl RefFolder {
    /// Adds the next reference.
    ///
    /// # Errors
    /// When a list chunk cannot be stored.
    pub fn push(&mut self, r: Ref, collector: &mut Collector<'_, '_>) -> Result<(), CollectError> {
        self.feed(0, r, collector)
    }

    fn feed(&mut self, level: usize, r: Ref, collector: &mut Collector<'_, '_>) -> Result<(), CollectError> {
        if let Some(list) = self.lists.get_mut(level) {
            list.push(r);
            if ends_list(&r) || list.len() == REFS_PER_LIST_MAX {
                self.close_list(level, collector)?;
            }
            return Ok(());
        }
        self.top.push(r);
        if self.top.len() > REFS_PER_RECORD_MAX {
            self.lists.push(Vec::new());
            for r in std::mem::take(&mut self.top) {
                self.feed(level, r, collector)?;
            }
        }
        Ok(())
    }

    fn close_list(&mut self, level: usize, collector: &mut Collector<'_, '_>) -> Result<(), CollectError> {
        let list = std::mem::take(&mut self.lists[level]);
        let mut content = Vec::new();
        put_refs(&mut content, &list);
        let (id, _) = collector.add(Lane::Tree, &content)?;
        let len = list.iter().map(|r| r.len).sum();
        self.feed(level + 1, Ref { id, len }, collector)
    }

    /// The depth and references for the file's record.
    ///
    /// # Errors
    /// When a list chunk cannot be stored.
    pub fn finish(mut self, collector: &mut Collector<'_, '_>) -> Result<(u64, Vec<Ref>), CollectError> {
        let mut level = 0;
        while level < self.lists.len() {
            if !self.lists[level].is_empty() {
                self.close_list(level, collector)?;
            }
            level += 1;
        }
        Ok((self.lists.len() as u64, self.top))
    }
}

/// Whether a list ends after `r`.
fn ends_list(r: &Ref) -> bool {
    //= FORMAT#F12 lists end content-defined
    u16::from_le_bytes([r.id.0[0], r.id.0[1]]).is_multiple_of(1024)
}
