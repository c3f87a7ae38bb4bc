//! Evidence: finding the leaf of a file in the rolls of sessions, and judging what somebody shows. Step 21 of the walk.
//!
//! Where the state has the leaves of a session, nothing is asked of the vault; else the roll in the session's packs says
//! which fifteen other files are to be read back. Whoever judges needs no keys and no vault. It must not know how evidence
//! is shown.

use lavatube_base::limits::ROLL_GROUP;
use lavatube_base::merkle::{Hash, path_over, root_over};
use lavatube_base::{ChunkId, ObjectId, SessionId};
use lavatube_format::Malformed;
use lavatube_format::evidence::Placed;
use lavatube_format::manifest::Manifest;
use lavatube_format::roll::{Committed, FileFacts, Roll, Salt};
use lavatube_format::tree::{Content, Entry, Kind};
use lavatube_seal::RollKey;

use crate::browse::Listed;
use crate::fetch::{FetchError, Fetcher};
use crate::layers::refs::LeafRefs;
use crate::layers::{Step, TreeError, TreeReader};
use crate::restore::Plan;
use crate::roll::Kept;
use crate::state::{State, StateError};

mod judging;

pub use judging::{Flaw, Proven, compare, judge};

/// Why no evidence could be made.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The state failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The vault's copies of trees or files were not had.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A roll is exactly what was stored, and breaks the layout.
    #[error("the roll of snapshot {}: {source}", .snapshot.short())]
    Roll {
        /// The snapshot.
        snapshot: ChunkId,
        /// The rule.
        source: Malformed,
    },
}

impl From<FetchError> for FindError {
    fn from(e: FetchError) -> Self {
        Self::Tree(e.into())
    }
}

/// What is looked for: a content, as it may stand in a roll.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// What is said of it.
    pub facts: FileFacts,
    /// The id of its one chunk, if its stream is short enough for one.
    pub chunk: Option<ChunkId>,
}

/// The leaf of a file.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// The manifest that commits to it.
    pub manifest: ObjectId,
    /// The content, as it stands in the roll.
    pub facts: FileFacts,
    /// The salt of the leaf.
    pub salt: Salt,
    /// Its place and path.
    pub file: Placed,
    /// What the manifest commits to,
    pub committed: Committed,
    /// and what hides that.
    pub blind: Salt,
}

impl Leaf {
    /// A leaf, if the manifest of its session commits to it.
    fn of(key: &RollKey, session: &Session<'_>, found: &Found, committed: Committed) -> Option<Self> {
        let Session { manifest, id } = session;
        let is_so = manifest.files == Some(key.commitment(manifest.session, &committed));
        is_so.then(|| Self {
            manifest: *id,
            facts: found.facts.clone(),
            salt: key.salt(manifest.session, found.place),
            file: Placed { place: found.place, path: found.path.clone() },
            committed,
            blind: key.blind(manifest.session),
        })
    }
}

/// A session with the id of its manifest.
#[derive(Clone, Copy)]
pub struct Session<'m> {
    /// What it signed.
    pub manifest: &'m Manifest,
    /// That's id.
    pub id: ObjectId,
}

struct Found {
    facts: FileFacts,
    place: u64,
    path: Vec<Hash>,
}

/// How a look into what the state keeps of a session ended.
pub enum Looked {
    /// There is nothing that could be trusted.
    Unknown,
    /// No file with this content was read in that session.
    Absent,
    /// One was.
    Found(Box<Leaf>),
}

/// Looks for a content among the leaves that the state keeps of a session.
///
/// # Errors
/// When the state cannot be read.
pub fn look(state: &dyn State, key: &RollKey, session: &Session<'_>, wanted: &[Wanted]) -> Result<Looked, StateError> {
    let id = session.manifest.session;
    let Some(kept) = Kept::open(state, id)? else { return Ok(Looked::Unknown) };
    let (mut groups, mut hit): (Vec<Hash>, Option<Hit>) = (Vec::new(), None);
    kept.for_each_group(|first, group| {
        groups.push(root_over(group));
        if hit.is_none() {
            hit = hit_in(key, id, first, group, wanted);
        }
    })?;
    let committed = Committed { time_s: kept.time_s, count: kept.count, root: root_over(&groups) };
    // What was changed since then is worth nothing.
    if session.manifest.files != Some(key.commitment(id, &committed)) {
        return Ok(Looked::Unknown);
    }
    let found = hit.map(|Hit { place, facts, group }| Found { facts, place, path: path_of(place, &group, &groups) });
    let leaf = found.and_then(|found| Leaf::of(key, session, &found, committed));
    Ok(leaf.map_or(Looked::Absent, |leaf| Looked::Found(Box::new(leaf))))
}

/// A leaf that was looked for, with the hashes of its group.
struct Hit {
    place: u64,
    facts: FileFacts,
    group: Vec<Hash>,
}

fn hit_in(key: &RollKey, session: SessionId, first: u64, group: &[Hash], wanted: &[Wanted]) -> Option<Hit> {
    (first..).zip(group).find_map(|(place, hash)| {
        let salt = key.salt(session, place);
        let wanted = wanted.iter().find(|wanted| wanted.facts.leaf(&salt) == *hash)?;
        Some(Hit { place, facts: wanted.facts.clone(), group: group.to_vec() })
    })
}

/// The audit path of the leaf at `place`: within its group, then over the groups.
fn path_of(place: u64, group: &[Hash], groups: &[Hash]) -> Vec<Hash> {
    let place = usize::try_from(place).unwrap_or(usize::MAX);
    let inside = path_over(group, place % ROLL_GROUP).unwrap_or_default();
    [inside, path_over(groups, place / ROLL_GROUP).unwrap_or_default()].concat()
}

/// Looks for a content among the files that were read for a snapshot, with what is in the vault alone: its roll, its tree,
/// and the files beside the one that is looked for.
///
/// # Errors
/// When any of that cannot be had.
pub fn look_in_vault(
    fetcher: &mut Fetcher<'_>,
    key: &RollKey,
    session: &Session<'_>,
    listed: &Listed,
    wanted: &[Wanted],
) -> Result<Option<Leaf>, FindError> {
    if listed.snapshot.roll.is_empty() || session.manifest.files.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    for chunk in &listed.snapshot.roll {
        bytes.extend_from_slice(fetcher.chunk(chunk, None)?.content());
    }
    let snapshot = listed.place.id;
    let roll = Roll::decode(&bytes).map_err(|source| FindError::Roll { snapshot, source })?;
    let Some((place, facts, group)) = group_in_tree(fetcher, listed, &roll, wanted)? else { return Ok(None) };
    let first = place - place % ROLL_GROUP as u64;
    let mut hashes = Vec::with_capacity(group.len());
    for (at, content) in (first..).zip(&group) {
        let of = if at == place { facts.clone() } else { facts_of(fetcher, content)? };
        hashes.push(of.leaf(&key.salt(session.manifest.session, at)));
    }
    let committed = Committed { time_s: listed.snapshot.time.s, count: roll.count(), root: root_over(&roll.groups) };
    let is_so = roll.groups.get(usize::try_from(first).unwrap_or(usize::MAX) / ROLL_GROUP) == Some(&root_over(&hashes));
    let found = Found { facts, place, path: path_of(place, &hashes, &roll.groups) };
    Ok(Leaf::of(key, session, &found, committed).filter(|_| is_so))
}

/// The place of a content among the files that were read, and the contents of its group.
fn group_in_tree(
    fetcher: &mut Fetcher<'_>,
    listed: &Listed,
    roll: &Roll,
    wanted: &[Wanted],
) -> Result<Option<(u64, FileFacts, Vec<Content>)>, FindError> {
    let mut reader = TreeReader::open(fetcher, &listed.snapshot, None)?;
    let mut runs = roll.runs.iter().copied();
    let (mut skip, mut take) = runs.next().unwrap_or_default();
    let (mut place, mut group, mut hit) = (0u64, Vec::new(), None);
    while let Some(step) = reader.next(fetcher)? {
        let content = match step {
            // Which files are behind it cannot be counted any more.
            Step::Lost(lost) => return Err(lost.error.into()),
            Step::Entry(Entry { kind: Kind::File(content), .. }) => content,
            Step::Entry(_) => continue,
        };
        if take == 0 {
            (skip, take) = runs.next().unwrap_or((u64::MAX, 0));
        }
        if skip > 0 {
            skip -= 1;
            continue;
        }
        take -= 1;
        if hit.is_none() {
            hit = wanted.iter().find(|wanted| is_of(&content, wanted)).map(|wanted| (place, wanted.facts.clone()));
        }
        group.push(content);
        place += 1;
        if place.is_multiple_of(ROLL_GROUP as u64) || place == roll.count() {
            if let Some((place, facts)) = hit {
                return Ok(Some((place, facts, group)));
            }
            group.clear();
        }
    }
    Ok(None)
}

/// Whether a record of a tree is of this content.
fn is_of(content: &Content, wanted: &Wanted) -> bool {
    let Wanted { facts, chunk } = wanted;
    let same = match (&content.digest, &content.refs[..]) {
        (Some(digest), _) => *digest == facts.digests.blake3,
        (None, [only]) => Some(only.id) == *chunk,
        (None, _) => true,
    };
    same && content.size == facts.len && content.extents == facts.extents
}

/// What a roll says of a content, read back.
///
/// # Errors
/// When it cannot be had.
pub fn facts_of(fetcher: &mut Fetcher<'_>, content: &Content) -> Result<FileFacts, FindError> {
    if fetcher.archive().far.is_distant() {
        let mut plan = Plan::default();
        plan.add_file(fetcher, content)?;
        let parts = plan.parts(fetcher);
        // What cannot be asked for now is asked for once more below, and then it is told.
        let _ = fetcher.archive().far.want(&parts);
    }
    let (mut leaves, mut digester) = (LeafRefs::new(content), lavatube_base::digest::Digester::default());
    while let Some(leaf) = leaves.next(fetcher)? {
        digester.update(fetcher.chunk(&leaf.id, Some(leaf.len))?.content());
    }
    Ok(FileFacts { len: content.size, digests: digester.finish(), extents: content.extents.clone() })
}

#[cfg(test)]
mod tests;
