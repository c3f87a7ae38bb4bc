//! Restore gives exact bytes, or says which entries it does not give (promise P6).

use std::collections::{BTreeMap, BTreeSet};

use lavatube_client::restore::Outcome;
use lavatube_client::source::{Found, FoundKind};
use lavatube_format::tree::Meta;

use super::{Verdict, show};
use crate::seams::sink::Restored;
use crate::seams::source::{Log, Looked, content_of};

/// Every entry that was restored is as it was read; `stripped` is what a restore leaves out of paths, with its slash.
///
/// # Errors
/// The first entry that differs.
pub fn as_read(all: &BTreeMap<Vec<u8>, Restored>, log: &Log, stripped: &[u8], outcome: &Outcome) -> Verdict {
    let missing: BTreeSet<&[u8]> = outcome.failed.iter().chain(&outcome.kept).map(|f| &f.path[..]).collect();
    for (path, restored) in all {
        let path = [stripped, path].concat();
        let Some(looked) = log.looked.get(&path) else {
            return Err(format!("{} was restored and never looked at", show(&path)));
        };
        // What was said to have failed need not be right, and must not be there under its name.
        if missing.contains(&path[..]) && restored.kind == FoundKind::File {
            return Err(format!("{} was said to have failed and is there", show(&path)));
        }
        entry(&path, restored, looked, log)?;
    }
    Ok(())
}

fn entry(path: &[u8], restored: &Restored, looked: &Looked, log: &Log) -> Verdict {
    let found = &looked.found;
    if restored.kind != found.kind {
        return Err(format!("{} was a {:?} and is a {:?}", show(path), found.kind, restored.kind));
    }
    if restored.kind == FoundKind::File {
        let (is, may_be) = (content_of(&restored.bytes), log.may_be(path));
        if !may_be.contains(&is) {
            let was: Vec<u64> = may_be.iter().map(|c| c.0).collect();
            let opened = if log.read.contains_key(path) { "read" } else { "not opened, believed to be unchanged" };
            return Err(format!("{} ({opened}) has other content: {} bytes, not {was:?}; {found:?}", show(path), is.0));
        }
    }
    if restored.kind == FoundKind::Symlink && restored.target != looked.target {
        return Err(format!("{} leads elsewhere", show(path)));
    }
    // Several names of one file share what was last said of any of them.
    if restored.links() > 1 || found.links > 1 {
        return Ok(());
    }
    match &restored.meta {
        None => Err(format!("{} has no metadata", show(path))),
        Some(meta) if !same(meta, found) || meta.xattrs != looked.xattrs => {
            Err(format!("{} has other metadata: {meta:?}, seen was {looked:?}", show(path)))
        }
        Some(_) => Ok(()),
    }
}

fn same(meta: &Meta, found: &Found) -> bool {
    (meta.mode, meta.uid, meta.gid, meta.mtime) == (found.mode, found.uid, found.gid, found.mtime)
}
