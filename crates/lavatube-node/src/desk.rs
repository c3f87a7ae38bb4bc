//! The desk: where commands of this machine leave what they want of a far vault, and find it.
//!
//! A folder of files, because whoever turns the link may be another process and may be killed, and a contact may be days
//! away: what was asked for stays asked for, and what came is not asked for again. Bytes here are as the vault sent them, and what
//! has rotted here since is not here; whoever reads them verifies. It must not know links, nor what is in an object. Steps 19 and 20 of the walk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lavatube_base::digest::h16;
use lavatube_base::limits::PART_PIECE_LEN;
use lavatube_base::{Denial, ObjectId};
use lavatube_format::message::{Message, Page, Part, Sent, Withheld, list_digest};
use lavatube_format::shard::ObjectKind;
use rustix::fs::statvfs;

use crate::atomic::{PRIVATE, make_folders};
use crate::{clock, entropy};

/// What a command wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Parts of objects.
    Fetch(Vec<Part>),
    /// The list of all objects of a kind.
    List(ObjectKind),
    /// An echo.
    Ping,
}

/// The folder. Several processes may use it at a time.
#[derive(Debug, Clone)]
pub struct Desk {
    folder: PathBuf,
}

/// A list of objects with their lengths, and when it came.
pub type List = (Vec<(ObjectId, u64)>, SystemTime);

impl Desk {
    /// The desk in a folder of state; made when missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(state: &Path) -> io::Result<Self> {
        let folder = state.join("desk");
        for part in [ASKED, PARTS, LISTS] {
            make_folders(&folder.join(part), PRIVATE)?;
        }
        Ok(Self { folder })
    }

    /// Leaves an errand; gives its number.
    ///
    /// # Errors
    /// When it cannot be written, or there is no entropy.
    pub fn ask(&self, errand: &Errand) -> io::Result<u64> {
        let number = u64::from_le_bytes(entropy::bytes().map_err(io::Error::other)?);
        let bytes = match errand {
            Errand::Fetch(parts) => Message::Fetch { request: number, parts: parts.clone() }.encode(0),
            Errand::List(kind) => Message::List { kind: *kind, known: self.digest(*kind) }.encode(0),
            Errand::Ping => vec![PING],
        };
        self.write(&format!("{ASKED}/{number:016x}"), &bytes)?;
        Ok(number)
    }

    /// Numbers of the errands that are to be done.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn asked(&self) -> io::Result<Vec<u64>> {
        let names =
            fs::read_dir(self.folder.join(ASKED))?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.len() == 16).filter_map(|name| u64::from_str_radix(&name, 16).ok()).collect())
    }

    /// An errand; `None` when it is done, or makes no sense.
    pub fn errand(&self, number: u64) -> Option<Errand> {
        let bytes = fs::read(self.asked_path(number)).ok()?;
        if bytes == [PING] {
            return Some(Errand::Ping);
        }
        match Message::decode(&bytes).ok()? {
            Message::Fetch { parts, .. } => Some(Errand::Fetch(parts)),
            Message::List { kind, .. } => Some(Errand::List(kind)),
            _ => None,
        }
    }

    /// Whether an errand is still to be done.
    pub fn is_asked(&self, number: u64) -> bool {
        self.asked_path(number).exists()
    }

    /// An errand is done, or not wanted any more.
    pub fn done(&self, number: u64) {
        let _ = fs::remove_file(self.asked_path(number));
    }

    fn asked_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{ASKED}/{number:016x}"))
    }

    /// Pieces that came whole since this system was started: what was written before may have been cut. For a command that
    /// begins: nobody else may wait for any.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn pieces(&self) -> io::Result<Vec<Part>> {
        let booted = clock::booted();
        let booted = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(booted.s).unwrap_or(0));
        let mut all = Vec::new();
        for entry in fs::read_dir(self.folder.join(PARTS))? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let (Some(piece), Ok(about)) = (piece_of(&name), entry.metadata()) else {
                // What was withheld once is asked for again.
                let _ = fs::remove_file(entry.path());
                continue;
            };
            let written = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if about.len() != file_len(&piece) || written < booted {
                let _ = fs::remove_file(entry.path());
                continue;
            }
            all.push((written, piece));
        }
        // What was looked at long ago makes room.
        all.sort_unstable_by(|a, b| b.cmp(a));
        let mut kept: u64 = 0;
        let (keep, drop): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, piece)| {
            kept = kept.saturating_add(piece.len);
            kept <= PARTS_KEPT_LEN
        });
        drop.iter().for_each(|(_, piece)| self.forget(piece));
        Ok(keep.into_iter().map(|(_, piece)| piece).collect())
    }

    /// The bytes of a piece, or why they are not to be had; `None` when it is not here yet.
    pub fn piece(&self, piece: &Part) -> Option<Result<Vec<u8>, (Denial, String)>> {
        let path = self.piece_path(piece);
        if let Ok(mut bytes) = fs::read(&path) {
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX);
            match bytes.split_at_checked(len) {
                Some((body, check)) if check == h16(&[body]) => {
                    bytes.truncate(len);
                    return Some(Ok(bytes));
                }
                // It has rotted: asked for anew, it comes again.
                _ => drop(fs::remove_file(&path)),
            }
        }
        let bytes = fs::read(withheld_path(&path)).ok()?;
        let Ok(Message::Parcel { parts, .. }) = Message::decode(&bytes) else { return None };
        let withheld = parts.into_iter().next()?.bytes.err()?;
        Some(Err((withheld.denial, withheld.text)))
    }

    /// Whether a piece is here, or was withheld.
    pub fn has(&self, piece: &Part) -> bool {
        let path = self.piece_path(piece);
        path.metadata().is_ok_and(|about| about.len() == file_len(piece)) || withheld_path(&path).exists()
    }

    /// Puts what the vault sent: the bytes of a piece, or why it has none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, sent: &Sent<'_>) -> io::Result<()> {
        let piece = piece_sent(sent);
        match &sent.bytes {
            Ok(bytes) => self.write(&piece_name(&piece), &[bytes, &h16(&[bytes])[..]].concat()),
            Err(_) => {
                let bytes = Message::Parcel { request: 0, parts: vec![sent.clone()] }.encode(0);
                self.write(&format!("{}{WITHHELD}", piece_name(&piece)), &bytes)
            }
        }
    }

    /// Forgets a piece: it will be asked for anew.
    pub fn forget(&self, piece: &Part) {
        let path = self.piece_path(piece);
        let _ = fs::remove_file(withheld_path(&path));
        let _ = fs::remove_file(path);
    }

    fn piece_path(&self, piece: &Part) -> PathBuf {
        self.folder.join(piece_name(piece))
    }

    /// The list of a kind, as it last came.
    pub fn list(&self, kind: ObjectKind) -> Option<List> {
        let path = self.list_path(kind);
        let bytes = fs::read(&path).ok()?;
        let mut rest = &bytes[..];
        let mut objects = Vec::new();
        let mut expected = None;
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let (page, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            let Ok(Message::Listed(page)) = Message::decode(page) else { return None };
            expected = Some(page.digest);
            objects.extend(page.objects);
            rest = after;
        }
        (expected == Some(list_digest(&objects))).then_some(())?;
        Some((objects, path.metadata().and_then(|about| about.modified()).ok()?))
    }

    /// The digest of the list that is here; zeros for none.
    pub fn digest(&self, kind: ObjectKind) -> [u8; 16] {
        self.list(kind).map_or([0; 16], |(objects, _)| list_digest(&objects))
    }

    /// Puts all pages of a list.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_list(&self, kind: ObjectKind, pages: Vec<Page>) -> io::Result<()> {
        let path = self.list_path(kind);
        let new = with_end(&path, NEW);
        let mut file = io::BufWriter::new(fs::File::create(&new)?);
        // One by one: encoded, all of them would be in memory once more.
        for page in pages {
            let page = Message::Listed(page).encode(0);
            file.write_all(&u32::try_from(page.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            file.write_all(&page)?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        let _ = fs::remove_file(with_end(&path, WITHHELD));
        fs::rename(new, path)
    }

    /// No list of the kind is to be had, because of this. One that came before is not what the vault has now.
    pub fn refuse_list(&self, kind: ObjectKind, why: &str) {
        let _ = fs::remove_file(self.list_path(kind));
        // Where there is no room for a reason, there is no list all the same.
        let _ = self.write(&format!("{LISTS}/{}{WITHHELD}", kind.code()), why.as_bytes());
    }

    /// Why no list of the kind is to be had.
    pub fn refusal(&self, kind: ObjectKind) -> Option<String> {
        fs::read_to_string(with_end(&self.list_path(kind), WITHHELD)).ok()
    }

    /// Bytes that there is room for, as far as the system says.
    pub fn room(&self) -> Option<u64> {
        let about = statvfs(&self.folder).ok()?;
        Some(about.f_bavail.saturating_mul(about.f_frsize))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The list that is here is still right.
    ///
    /// # Errors
    /// When its file cannot be touched.
    pub fn confirm_list(&self, kind: ObjectKind) -> io::Result<()> {
        fs::File::options().append(true).open(self.list_path(kind))?.set_modified(SystemTime::now())
    }

    fn list_path(&self, kind: ObjectKind) -> PathBuf {
        self.folder.join(format!("{LISTS}/{}", kind.code()))
    }

    /// An echo came back.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_echo(&self, number: u64, took: Duration) -> io::Result<()> {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.write(&echo_name(number), &took.to_le_bytes())
    }

    /// How long an echo took, once it is back.
    pub fn take_echo(&self, number: u64) -> Option<Duration> {
        let path = self.folder.join(echo_name(number));
        let bytes = fs::read(&path).ok()?;
        let _ = fs::remove_file(path);
        Some(Duration::from_nanos(u64::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// Writes a file at once or not at all. It need not outlive a power loss: it is asked for anew then.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}{NEW}")));
        fs::write(&new, bytes)?;
        fs::rename(new, path)
    }
}

/// The pieces that a part is sent in.
pub fn pieces_of(part: &Part) -> impl Iterator<Item = Part> + use<> {
    let part = *part;
    let pieces = part.len.div_ceil(PART_PIECE_LEN);
    (0..pieces).map(move |n| {
        let begin = n * PART_PIECE_LEN;
        Part { id: part.id, start: part.start + begin, len: PART_PIECE_LEN.min(part.len - begin) }
    })
}

/// Parts that are sent in just these pieces, which ascend.
pub fn parts_of<'p>(pieces: impl IntoIterator<Item = &'p Part>) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for piece in pieces {
        match out.last_mut() {
            Some(last)
                if last.id == piece.id
                    && last.start + last.len == piece.start
                    && last.len.is_multiple_of(PART_PIECE_LEN) =>
            {
                last.len += piece.len
            }
            _ => out.push(*piece),
        }
    }
    out
}

/// Which piece was sent.
pub fn piece_sent(sent: &Sent<'_>) -> Part {
    let len = sent.bytes.as_ref().map_or_else(|Withheld { len, .. }| *len, |bytes| bytes.len() as u64);
    Part { id: sent.id, start: sent.start, len }
}

/// Length of the file of a piece: its bytes, and a digest of them.
fn file_len(piece: &Part) -> u64 {
    piece.len.saturating_add(CHECK_LEN)
}

fn piece_name(piece: &Part) -> String {
    format!("{PARTS}/{}-{}-{}", piece.id, piece.start, piece.len)
}

fn piece_of(name: &str) -> Option<Part> {
    let mut words = name.split('-');
    let id = words.next()?.parse().ok()?;
    let (start, len) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(Part { id, start, len })
}

fn echo_name(number: u64) -> String {
    format!("{ASKED}/echo-{number:016x}")
}

fn withheld_path(path: &Path) -> PathBuf {
    with_end(path, WITHHELD)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

const ASKED: &str = "asked";
const PARTS: &str = "parts";
const LISTS: &str = "lists";
/// Behind the name of a piece that the vault does not have, or a list that was not taken.
const WITHHELD: &str = ".withheld";
const NEW: &str = ".new";
const PING: u8 = 0;
const CHECK_LEN: u64 = 16;
/// Bytes of parts that stay here for later commands.
const PARTS_KEPT_LEN: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: u8, start: u64, len: u64) -> Part {
        Part { id: ObjectId([id; 32]), start, len }
    }

    #[test]
    fn parts_are_cut_the_same_way_wherever_one_takes_them_up() {
        let whole = part(1, 5, 2 * PART_PIECE_LEN + 7);
        let pieces: Vec<_> = pieces_of(&whole).collect();
        assert_eq!(pieces.len(), 3);
        for from in 0..pieces.len() {
            let rest: Vec<_> = parts_of(&pieces[from..]).iter().flat_map(pieces_of).collect();
            assert_eq!(rest, pieces[from..]);
        }
        assert_eq!(parts_of(&pieces), [whole]);
        let (short, next) = (part(1, 0, 10), part(1, 10, 10));
        assert_eq!(parts_of(&[short, next, part(2, 20, 1)]), [short, next, part(2, 20, 1)]);
    }

    #[test]
    fn errands_lie_on_the_desk_until_they_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path()).unwrap();
        let errands = [Errand::Fetch(vec![part(1, 0, 9)]), Errand::List(ObjectKind::Pack), Errand::Ping];
        for errand in errands {
            let number = desk.ask(&errand).unwrap();
            assert_eq!((desk.asked().unwrap(), desk.errand(number)), (vec![number], Some(errand)));
            desk.done(number);
            assert!(!desk.is_asked(number) && desk.errand(number).is_none());
        }
        assert_eq!(desk.take_echo(7), None);
        desk.put_echo(7, Duration::from_millis(2600)).unwrap();
        assert_eq!((desk.take_echo(7), desk.take_echo(7)), (Some(Duration::from_millis(2600)), None));
    }

    #[test]
    fn pieces_are_here_whole_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path()).unwrap();
        let (one, two) = (part(1, 0, 4), part(1, 4, 300));
        desk.put(&Sent { id: one.id, start: 0, bytes: Ok(b"four") }).unwrap();
        let withheld = Withheld { len: 300, denial: Denial::Lost, text: "gone".into() };
        assert!(desk.has(&one) && !desk.has(&two) && desk.piece(&two).is_none());
        desk.put(&Sent { id: two.id, start: 4, bytes: Err(withheld) }).unwrap();
        assert_eq!(desk.piece(&one), Some(Ok(b"four".to_vec())));
        assert_eq!(desk.piece(&two), Some(Err((Denial::Lost, "gone".into()))));
        assert_eq!(desk.pieces().unwrap(), [one]);
        fs::write(desk.piece_path(&one), "fo").unwrap();
        assert!(!desk.has(&one) && desk.piece(&one).is_none() && desk.pieces().unwrap().is_empty());
        desk.put(&Sent { id: one.id, start: 0, bytes: Ok(b"four") }).unwrap();
        let mut rotten = fs::read(desk.piece_path(&one)).unwrap();
        rotten[2] ^= 1;
        fs::write(desk.piece_path(&one), rotten).unwrap();
        assert!(desk.has(&one), "nobody has read it");
        assert!(desk.piece(&one).is_none() && !desk.has(&one), "what has rotted is not here");
    }

    #[test]
    fn a_list_is_believed_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let desk = Desk::open(dir.path()).unwrap();
        let objects: Vec<_> = (0..5).map(|n| (ObjectId([n; 32]), 7)).collect();
        let page = |first: usize, objects: &[(ObjectId, u64)]| Page {
            kind: ObjectKind::Manifest,
            digest: list_digest(&(0..5).map(|n| (ObjectId([n; 32]), 7)).collect::<Vec<_>>()),
            total: 5,
            first: first as u64,
            objects: objects.to_vec(),
        };
        assert_eq!((desk.list(ObjectKind::Manifest), desk.digest(ObjectKind::Manifest)), (None, [0; 16]));
        desk.put_list(ObjectKind::Manifest, vec![page(0, &objects[..3])]).unwrap();
        assert_eq!(desk.list(ObjectKind::Manifest), None);
        desk.put_list(ObjectKind::Manifest, vec![page(0, &objects[..3]), page(3, &objects[3..])]).unwrap();
        assert_eq!(desk.list(ObjectKind::Manifest).map(|(list, _)| list), Some(objects));
        desk.confirm_list(ObjectKind::Manifest).unwrap();
    }
}
