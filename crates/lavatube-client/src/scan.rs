//! Reads one file into chunks. Step 2 of the walk.
//!
//! Holes are skipped where the file system knows them; the content stream is cut, identified and collected; a file that
//! changes under our hands is noticed by looking at it again. It must not know paths or trees.

use lavatube_base::digest::{Digester, Digests};
use lavatube_format::roll::FileFacts;
use lavatube_format::tree::{Content, Extent, Ref};
use lavatube_seal::DepositKeys;

use crate::chunker::{ChunkSizes, Chunker, ChunkerKey};
use crate::collect::{CollectError, Collector, Lane};
use crate::frame::Sampler;
use crate::meter::Meter;
use crate::packer::PackError;
use crate::refs::RefFolder;
use crate::source::{Found, Source, SourceError};

/// Read at once; at least twice the longest chunk, so more where chunks are longer than by default.
const BUFFER_LEN: usize = 1 << 20;
const _: () = assert!(BUFFER_LEN >= 2 * ChunkSizes::INCOMPRESSIBLE.max);
/// The head of a file by which it is judged incompressible; shorter files never are.
const HEAD_LEN: usize = 256 << 10;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// Why a file was not stored.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The source could not be read: this file is skipped, and said so.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Collecting failed: the backup ends.
    #[error(transparent)]
    Collect(#[from] CollectError),
}

/// A file as it was stored.
#[derive(Debug)]
pub struct Scanned {
    /// Its content.
    pub content: Content,
    /// What it looked like when it was read.
    pub found: Found,
    /// Bytes of it that were new.
    pub new_bytes: u64,
    /// Set when it went on changing: what was stored may be a mixture.
    pub changed: bool,
    /// Both digests of the content stream.
    pub digests: Digests,
}

impl Scanned {
    /// What is said of it in the roll.
    pub fn facts(&self) -> FileFacts {
        FileFacts { len: self.content.size, digests: self.digests, extents: self.content.extents.clone() }
    }
}

/// Reads files.
pub struct Scanner {
    fine: Chunker,
    coarse: Chunker,
    sampler: Sampler,
    buffer: Vec<u8>,
    /// Bytes of the present file that the meter has been told of.
    counted: u64,
}

impl Scanner {
    /// A scanner that cuts with the tenant's chunker key: into `fine` chunks, and files that do not compress into
    /// `coarse` ones.
    ///
    /// # Errors
    /// When the compressor that judges files cannot be set up.
    pub fn new(deposit: &DepositKeys, fine: ChunkSizes, coarse: ChunkSizes) -> Result<Self, CollectError> {
        let key = ChunkerKey::from_secret(deposit.chunker_secret().bytes());
        Ok(Self {
            fine: Chunker::new(&key, fine),
            coarse: Chunker::new(&key, coarse),
            sampler: Sampler::new().map_err(PackError::from)?,
            buffer: vec![0; BUFFER_LEN.max(2 * fine.max).max(2 * coarse.max)],
            counted: 0,
        })
    }

    /// Stores file `name` in `dir`. The meter is told of its bytes as they are read.
    ///
    /// # Errors
    /// [`ScanError::Source`] when it cannot be read, [`ScanError::Collect`] when storing fails.
    pub fn scan<S: Source>(
        &mut self,
        source: &S,
        dir: &S::Dir,
        name: &[u8],
        collector: &mut Collector<'_, '_>,
        meter: &Meter,
    ) -> Result<Scanned, ScanError> {
        let mut attempt = 1;
        // What was new in any attempt is new: the next one only finds it known.
        let known = collector.new_bytes();
        loop {
            let (file, before) = source.open(dir, name)?;
            self.counted = 0;
            let (content, digests) = self.read(source, &file, &before, collector, meter)?;
            let after = source.look_again(&file)?;
            let changed = (before.size, before.mtime, before.stamp) != (after.size, after.mtime, after.stamp)
                || content.size != after.size;
            let new_bytes = collector.new_bytes() - known;
            if !changed || attempt == ATTEMPTS {
                meter.new_bytes.add(new_bytes);
                return Ok(Scanned { content, found: after, new_bytes, changed, digests });
            }
            meter.bytes.take_back(self.counted);
            attempt += 1;
        }
    }

    fn read<S: Source>(
        &mut self,
        source: &S,
        file: &S::File,
        found: &Found,
        collector: &mut Collector<'_, '_>,
        meter: &Meter,
    ) -> Result<(Content, Digests), ScanError> {
        // Below a page it is all hole or none, or kept where no blocks are counted: asked only when none is.
        let sparse = found.allocated < found.size && (found.size > 4096 || found.allocated == 0);
        let extents = if sparse { source.extents(file, found.size)? } else { None };
        let Some(extents) = extents else {
            let all = Extent { at: 0, len: u64::MAX };
            let stream = self.stream(source, file, &[all], collector, meter)?;
            let content = Content {
                size: stream.len,
                depth: stream.depth,
                refs: stream.refs,
                extents: None,
                digest: stream.digest,
            };
            return Ok((content, stream.digests));
        };
        let stream = self.stream(source, file, &extents, collector, meter)?;
        let extents = shorten(extents, stream.len);
        let whole = extents.len() == 1 && extents[0] == Extent { at: 0, len: found.size };
        let extents = (!whole).then_some(extents);
        let content =
            Content { size: found.size, depth: stream.depth, refs: stream.refs, extents, digest: stream.digest };
        Ok((content, stream.digests))
    }

    /// Cuts the concatenation of `extents` into chunks. An extent that ends early (the file shrank) ends the stream.
    fn stream<S: Source>(
        &mut self,
        source: &S,
        file: &S::File,
        extents: &[Extent],
        collector: &mut Collector<'_, '_>,
        meter: &Meter,
    ) -> Result<Stream, ScanError> {
        let mut coarse = None;
        let mut refs = RefFolder::default();
        let (mut digester, mut count) = (Digester::default(), 0u64);
        let (mut start, mut end, mut total) = (0, 0, 0u64);
        let mut rest = extents.iter().copied();
        let mut extent = rest.next().unwrap_or(Extent { at: 0, len: 0 });
        let mut eof = false;
        loop {
            while !eof && end < self.buffer.len() {
                if extent.len == 0 {
                    match rest.next() {
                        Some(next) => extent = next,
                        None => eof = true,
                    }
                    continue;
                }
                let want = usize::try_from(extent.len).unwrap_or(usize::MAX).min(self.buffer.len() - end);
                let n = source.read_at(file, extent.at, &mut self.buffer[end..end + want])?;
                eof = n == 0;
                end += n;
                meter.bytes.add(n as u64);
                self.counted += n as u64;
                extent.at += n as u64;
                extent.len -= n as u64;
            }
            // What does not compress gains nothing from small chunks but their cost. The choice depends on content alone.
            if coarse.is_none() {
                coarse = Some(end >= HEAD_LEN && !self.sampler.compresses(&self.buffer[..HEAD_LEN]));
                self.fine.reset();
                self.coarse.reset();
            }
            let (chunker, lane) =
                if coarse == Some(true) { (&mut self.coarse, Lane::Loose) } else { (&mut self.fine, Lane::Data) };
            while let Some(len) = chunker.cut(&self.buffer[start..end], eof) {
                let chunk = &self.buffer[start..start + len];
                digester.update(chunk);
                count += 1;
                let (id, _) = collector.add(lane, chunk)?;
                refs.push(Ref { id, len: len as u64 }, collector)?;
                start += len;
                total += len as u64;
            }
            if eof {
                break;
            }
            self.buffer.copy_within(start..end, 0);
            end -= start;
            start = 0;
        }
        let (depth, refs) = refs.finish(collector)?;
        let digests = digester.finish();
        // A file of one chunk is verified by the chunk's id alone.
        let digest = (count > 1).then_some(digests.blake3);
        Ok(Stream { len: total, depth, refs, digest, digests })
    }
}

struct Stream {
    len: u64,
    depth: u64,
    refs: Vec<Ref>,
    digest: Option<[u8; 32]>,
    digests: Digests,
}

/// Cuts `extents` to `len` bytes in total, for a file that shrank while it was read.
fn shorten(mut extents: Vec<Extent>, mut len: u64) -> Vec<Extent> {
    for extent in &mut extents {
        extent.len = extent.len.min(len);
        len -= extent.len;
    }
    extents.retain(|e| e.len > 0);
    extents
}
