//! Reading packs through and through: every piece opens, every frame decompresses, every chunk id derives again.
//!
//! One pack is one piece of work; any number of threads may do one each. It must not know files; [`super::damage`] does.

use lavatube_format::catalog::PackRow;
use lavatube_format::pack::FrameEntry;

use super::{BadChunks, Turn};
use crate::fetch::pack::OpenPack;
use crate::fetch::{Archive, FetchCause};
use crate::frame::FrameOpener;
use crate::meter::Meter;
use crate::vaulted::Sessions;

/// What reading one pack found.
#[derive(Debug)]
pub struct PackRead {
    /// The pack.
    pub row: PackRow,
    /// Chunks in it that are exact.
    pub good: u64,
    /// Chunks in it that are not.
    pub bad: BadChunks,
    /// Set when the pack cannot be opened or its index read: all that is in it is suspect then.
    pub broken: Option<FetchCause>,
}

impl PackRead {
    /// Whether all of it is exact.
    pub fn is_sound(&self) -> bool {
        self.bad.is_empty() && self.broken.is_none()
    }
}

/// Stored bytes read at once, beyond a single frame.
const WINDOW_LEN: usize = 1 << 20;

/// The packs of a turn, among all that manifests name.
pub fn packs_to_read(sessions: &Sessions<'_>, turn: Turn) -> Vec<PackRow> {
    sessions.all().iter().flat_map(|vaulted| sessions.standing(vaulted)).filter(|row| turn.has(row.id)).collect()
}

/// Opens all of pack `row`.
///
/// # Errors
/// [`FetchCause`] only when the vault is away; damage is in the result.
pub fn read_pack(archive: &Archive<'_>, row: PackRow, meter: &Meter) -> Result<PackRead, FetchCause> {
    let mut out = PackRead { row, good: 0, bad: BadChunks::new(), broken: None };
    let opened = OpenPack::open(archive, row).and_then(|pack| Ok((pack.index(archive.far)?, pack)));
    let (frames, pack) = match opened {
        Ok(opened) => opened,
        Err(cause) if cause.is_away() => return Err(cause),
        Err(cause) => {
            meter.errors.add(1);
            out.broken = Some(cause);
            return Ok(out);
        }
    };
    let mut opener = FrameOpener::new()?;
    let (mut stored, mut raw) = (Vec::new(), Vec::new());
    let (mut window_at, mut at) = (0, 0);
    for (i, frame) in frames.iter().enumerate() {
        if !archive.stays(&row, at..at + frame.stored_len) {
            // It was freed: nothing needs it.
            at += frame.stored_len;
            continue;
        }
        if at < window_at || at + frame.stored_len > window_at + stored.len() {
            let ahead = frames[i..].iter().scan(0, |sum, f| {
                *sum += f.stored_len;
                Some(*sum)
            });
            let fits = |sum: &usize| *sum <= WINDOW_LEN && archive.stays(&row, at..at + *sum);
            let len = ahead.take_while(fits).last().unwrap_or(frame.stored_len);
            let mut read = pack.read(archive.far, at, len, &mut stored);
            if read.as_ref().is_err_and(|e| !e.is_away()) && len > frame.stored_len {
                read = pack.read(archive.far, at, frame.stored_len, &mut stored);
            }
            meter.stored_bytes.add(stored.len() as u64);
            match read {
                Ok(start) => window_at = start,
                Err(cause) if cause.is_away() => return Err(cause),
                Err(cause) => {
                    spoil(frame, &cause, &mut out);
                    at += frame.stored_len;
                    continue;
                }
            }
        }
        let body = &stored[at - window_at..at - window_at + frame.stored_len];
        raw.clear();
        match opener.open(frame.method, body, frame.raw_len(), &mut raw) {
            Ok(()) => verify(archive, frame, &raw, &mut out),
            Err(e) => spoil(frame, &e.into(), &mut out),
        }
        meter.bytes.add(raw.len() as u64);
        at += frame.stored_len;
    }
    meter.files.add(1);
    meter.errors.add(out.bad.len() as u64);
    Ok(out)
}

fn verify(archive: &Archive<'_>, frame: &FrameEntry, raw: &[u8], out: &mut PackRead) {
    let mut at = 0;
    for chunk in &frame.chunks {
        let body = &raw[at..at + chunk.body_len];
        at += chunk.body_len;
        // A difference is verified with its base, when a file that needs it is restored.
        if chunk.delta.is_some() || archive.chunk_ids.open(body, chunk.id).is_some() {
            out.good += 1;
        } else {
            out.bad.insert(chunk.id, FetchCause::WrongContent.to_string());
        }
    }
}

fn spoil(frame: &FrameEntry, cause: &FetchCause, out: &mut PackRead) {
    out.bad.extend(frame.chunks.iter().map(|c| (c.id, cause.to_string())));
}
