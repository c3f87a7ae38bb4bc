//! Looking into the vault without restoring: which snapshots there are, what is in them, one file, what changed.
//!
//! Everything streams: a listing costs the tree chunks of its directory, a file its own chunks. It must not know how
//! things are shown.

mod differences;
mod order;

pub use differences::{Change, differences};

use std::io::{self, Write};

use lavatube_format::snapshot::Snapshot;
use lavatube_format::tree::{Content, Entry, Kind};

use crate::fetch::{FetchError, Fetcher};
use crate::layers::refs::LeafRefs;
use crate::layers::{LostRange, Step, TreeError, TreeReader, is_within, read_snapshot};
use crate::restore::trim;
use crate::vaulted::{Refused, SnapshotPlace};

/// A snapshot with its record.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it was found.
    pub place: SnapshotPlace,
    /// Its record.
    pub snapshot: Snapshot,
}

/// All snapshots of a vault, and what stands in the way of being sure of that.
#[derive(Debug, Default)]
pub struct Listing {
    /// The snapshots, oldest first: what was taken after another is behind it whatever the clocks said; else their times
    /// count.
    pub snapshots: Vec<Listed>,
    /// Snapshots whose records cannot be read.
    pub unreadable: Vec<(SnapshotPlace, TreeError)>,
    /// Manifests that are not believed or whose notes do not open: they may have further snapshots.
    pub refused: Vec<Refused>,
}

/// Lists all snapshots.
///
/// # Errors
/// [`TreeError`] only when the vault is away; a record that is lost is in [`Listing::unreadable`].
pub fn snapshots(fetcher: &mut Fetcher<'_>) -> Result<Listing, TreeError> {
    let sessions = fetcher.archive().sessions;
    let (places, closed) = sessions.snapshots();
    fetcher.want(&places.iter().map(|place| place.id).collect::<Vec<_>>())?;
    let mut out = Listing { refused: [sessions.refused(), &closed].concat(), ..Listing::default() };
    for place in places {
        match read_snapshot(fetcher, &place.id) {
            Ok(snapshot) => out.snapshots.push(Listed { place, snapshot }),
            Err(e) if e.is_away() => return Err(e),
            Err(e) => out.unreadable.push((place, e)),
        }
    }
    order::oldest_first(sessions, &mut out.snapshots);
    Ok(out)
}

/// Why words name no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is none at all.
    #[error("there are no snapshots")]
    Empty,
    /// `latest~N` goes back too far.
    #[error("there are only {have} snapshots")]
    TooFarBack {
        /// How many there are.
        have: usize,
    },
    /// No id begins so.
    #[error("no snapshot's id begins with {0:?}")]
    Unknown(String),
    /// Several ids begin so.
    #[error("{count} snapshots' ids begin with {prefix:?}")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// Neither `latest`, `latest~N` nor hexadecimal digits.
    #[error("{0:?} is neither `latest`, `latest~N` nor the beginning of a snapshot's id")]
    Words(String),
}

/// Splits `SNAPSHOT:PATH`; without a colon there is no path. The path comes without slashes at its ends.
pub fn split_spec(spec: &[u8]) -> (&[u8], Option<&[u8]>) {
    match spec.iter().position(|b| *b == b':') {
        Some(colon) => (&spec[..colon], Some(trim(&spec[colon + 1..]))),
        None => (spec, None),
    }
}

/// The snapshot that `words` name among `snapshots` (oldest first): `latest`, `latest~2` or a unique prefix of its id.
///
/// # Errors
/// [`ResolveError`] when they name none or more than one.
pub fn resolve<'l>(snapshots: &'l [Listed], words: &str) -> Result<&'l Listed, ResolveError> {
    if let Some(back) = words.strip_prefix("latest") {
        let back = match back.strip_prefix('~') {
            Some(n) => n.parse::<usize>().ok(),
            None => back.is_empty().then_some(0),
        };
        let back = back.ok_or_else(|| ResolveError::Words(words.to_owned()))?;
        // One that is forgotten can be named by its id alone.
        let known: Vec<&Listed> = snapshots.iter().filter(|l| !l.place.is_forgotten()).collect();
        if known.is_empty() {
            return Err(ResolveError::Empty);
        }
        return known.iter().rev().nth(back).copied().ok_or(ResolveError::TooFarBack { have: known.len() });
    }
    if words.is_empty() || !words.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ResolveError::Words(words.to_owned()));
    }
    let prefix = words.to_ascii_lowercase();
    let mut fits = snapshots.iter().filter(|l| l.place.id.to_string().starts_with(&prefix));
    match (fits.next(), fits.count()) {
        (None, _) => Err(ResolveError::Unknown(prefix)),
        (Some(only), 0) => Ok(only),
        (Some(_), more) => Err(ResolveError::Ambiguous { prefix, count: more + 1 }),
    }
}

/// Lists what is at and below `path` in tree order: with `deep` everything, else the entry itself and what lies directly
/// in it. Gives the parts of the tree that cannot be read, which `each` was not told of.
///
/// # Errors
/// [`TreeError`] when a layer cannot be read or the vault is away.
pub fn list(
    fetcher: &mut Fetcher<'_>,
    snapshot: &Snapshot,
    path: &[u8],
    deep: bool,
    mut each: impl FnMut(Entry),
) -> Result<Vec<LostRange>, TreeError> {
    let path = trim(path);
    let mut reader = TreeReader::open(fetcher, snapshot, (!path.is_empty()).then_some(path))?;
    let mut lost = Vec::new();
    while let Some(step) = reader.next(fetcher)? {
        match step {
            Step::Lost(range) => lost.push(range),
            Step::Entry(entry) if deep || is_directly_in(&entry.path, path) => each(entry),
            Step::Entry(_) => {}
        }
    }
    Ok(lost)
}

fn is_directly_in(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir).unwrap_or_default();
    is_within(path, dir) && !rest.strip_prefix(b"/").unwrap_or(rest).contains(&b'/')
}

/// The entry at `path`, or `None` when the snapshot has none there.
///
/// # Errors
/// [`TreeError`] when a layer or the tree chunk that should have it cannot be read.
pub fn find(fetcher: &mut Fetcher<'_>, snapshot: &Snapshot, path: &[u8]) -> Result<Option<Entry>, TreeError> {
    let path = trim(path);
    let mut reader = TreeReader::open(fetcher, snapshot, Some(path))?;
    match reader.next(fetcher)? {
        Some(Step::Entry(entry)) => Ok(Some(entry).filter(|e| e.path == path)),
        Some(Step::Lost(lost)) => Err(lost.error),
        None => Ok(None),
    }
}

/// Why a file's content was not written out.
#[derive(Debug, thiserror::Error)]
pub enum CatError {
    /// The tree or a chunk was not had.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Nothing is at that path.
    #[error("the snapshot has nothing at that path")]
    Missing,
    /// What is there is no regular file.
    #[error("what the snapshot has at that path is no regular file")]
    NoFile,
    /// All chunks are right and together they are not the file.
    #[error("the content does not have the digest that was recorded; do not use what was written")]
    Digest,
    /// The output failed.
    #[error("writing failed: {0}")]
    Write(#[from] io::Error),
}

impl From<FetchError> for CatError {
    fn from(e: FetchError) -> Self {
        Self::Tree(e.into())
    }
}

/// Writes the content of the file at `path`, holes as zeros, and gives its length. Every chunk is verified before it is
/// written; that they make up the file is known at the end.
///
/// # Errors
/// [`CatError`]; part of the content may have been written then.
pub fn cat(fetcher: &mut Fetcher<'_>, snapshot: &Snapshot, path: &[u8], out: &mut dyn Write) -> Result<u64, CatError> {
    let entry = find(fetcher, snapshot, path)?.ok_or(CatError::Missing)?;
    let Kind::File(content) = entry.kind else { return Err(CatError::NoFile) };
    write_content(fetcher, &content, out)?;
    Ok(content.size)
}

/// Writes the content of a file, holes as zeros.
///
/// # Errors
/// As [`cat`].
pub fn write_content(fetcher: &mut Fetcher<'_>, content: &Content, out: &mut dyn Write) -> Result<(), CatError> {
    let mut leaves = LeafRefs::new(content);
    let mut hasher = blake3::Hasher::new();
    let mut extents = content.extents.iter().flatten().copied();
    // Without holes the stream is one extent of the file's size.
    let mut left = if content.extents.is_some() { 0 } else { content.size };
    let mut at = 0;
    let mut group = Vec::new();
    loop {
        group.clear();
        while group.len() < GROUP
            && let Some(leaf) = leaves.next(fetcher)?
        {
            group.push(leaf);
        }
        if group.is_empty() {
            break;
        }
        let places: Vec<_> = group.iter().filter_map(|r| fetcher.place(&r.id).ok()).collect();
        fetcher.expect(places);
        for leaf in &group {
            let mut bytes = fetcher.chunk(&leaf.id, Some(leaf.len))?.content();
            hasher.update(bytes);
            while !bytes.is_empty() {
                if left == 0 {
                    // The format's reader has checked that extents and stream are of one length.
                    let Some(extent) = extents.next() else { break };
                    io::copy(&mut io::Read::take(io::repeat(0), extent.at - at), out)?;
                    (at, left) = (extent.at, extent.len);
                    continue;
                }
                let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                out.write_all(now)?;
                at += now.len() as u64;
                left -= now.len() as u64;
                bytes = later;
            }
        }
    }
    io::copy(&mut io::Read::take(io::repeat(0), content.size.saturating_sub(at)), out)?;
    if content.digest.is_some_and(|digest| digest != *hasher.finalize().as_bytes()) {
        return Err(CatError::Digest);
    }
    Ok(())
}

/// References looked ahead at once.
const GROUP: usize = 64;

#[cfg(test)]
mod tests;
