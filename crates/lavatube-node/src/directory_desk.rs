//! The desk in a directory: where commands of this machine leave what they want of a far vault, and find it.
//!
//! Files, because whoever turns the link may be another process and may be killed, and a contact may be days
//! away: what was asked for stays asked for, and what came is not asked for again. Bytes here are as the vault sent them, and what
//! has rotted here since is not here; whoever reads them verifies. It must not know links, nor what is in an object. Steps 19 and 20 of the walk.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lavatube_base::Denial;
use lavatube_base::digest::h16;
use lavatube_client::desk::{Desk, Errand, List};
use lavatube_format::audit::Answer;
use lavatube_format::care::SignedReport;
use lavatube_format::log;
use lavatube_format::message::{Message, Page, Part, Sent, list_digest, piece_sent};
use lavatube_format::release_word::SignedWord;
use lavatube_format::shard::ObjectKind;
use lavatube_format::spot::SpotAnswer;
use rustix::fs::statvfs;

use crate::atomic::{self, IfThere, PRIVATE, make_folders};
use crate::{clock, entropy};

/// The folder. Several processes may use it at a time.
#[derive(Debug, Clone)]
pub struct DirectoryDesk {
    folder: PathBuf,
}

impl DirectoryDesk {
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

    fn asked_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{ASKED}/{number:016x}"))
    }

    fn piece_path(&self, piece: &Part) -> PathBuf {
        self.folder.join(piece_name(piece))
    }

    /// The list of a kind, as it last came, and when.
    pub fn list_at(&self, kind: ObjectKind) -> Option<(List, SystemTime)> {
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

    /// Whether there is a report at the desk in a folder of state.
    pub(crate) fn has_report(state: &Path) -> bool {
        state.join("desk").join(REPORT).exists()
    }

    /// The last report about the vault that came, for which errand, and when. Its signature is to be verified.
    pub fn report(&self) -> Option<(u64, SignedReport, SystemTime)> {
        let path = self.folder.join(REPORT);
        let bytes = fs::read(&path).ok()?;
        let Ok(Message::Cared { request, report }) = Message::decode(&bytes) else { return None };
        Some((request, *report, path.metadata().and_then(|about| about.modified()).ok()?))
    }

    /// What became of the last release that was sent from here, for which errand, and when. Its signature is to be verified.
    pub fn release(&self) -> Option<(u64, SignedWord, SystemTime)> {
        self.release_word(RELEASE)
    }

    /// How releases stood when the vault was last asked without one, and when it said so. Its signature is to be verified.
    pub fn standing_of_releases(&self) -> Option<(SignedWord, SystemTime)> {
        self.release_word(STANDING).map(|(_, word, came)| (word, came))
    }

    fn release_word(&self, name: &str) -> Option<(u64, SignedWord, SystemTime)> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).ok()?;
        let Ok(Message::ReleaseTold { request, word }) = Message::decode(&bytes) else { return None };
        Some((request, *word, path.metadata().and_then(|about| about.modified()).ok()?))
    }

    /// Whether a release was sent or left at the desk in a folder of state.
    pub(crate) fn has_release(state: &Path) -> bool {
        let folder = state.join("desk");
        folder.join(RELEASE).exists() || folder.join(ASKED).read_dir().is_ok_and(|mut all| all.next().is_some())
    }

    fn list_path(&self, kind: ObjectKind) -> PathBuf {
        self.folder.join(format!("{LISTS}/{}", kind.code()))
    }

    /// Writes a file at once or not at all. It need not outlive a power loss: it is asked for anew then.
    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}{NEW}")));
        fs::write(&new, bytes)?;
        fs::rename(new, path)
    }

    /// What is in a file, which is gone then.
    fn take(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let bytes = fs::read(&path).ok()?;
        let _ = fs::remove_file(path);
        Some(bytes)
    }
}

impl Desk for DirectoryDesk {
    type Error = io::Error;

    fn ask(&self, errand: &Errand) -> io::Result<u64> {
        let number = u64::from_le_bytes(entropy::bytes().map_err(io::Error::other)?);
        let bytes = match errand {
            Errand::Fetch(parts) => Message::Fetch { request: number, parts: parts.clone() }.encode(0),
            Errand::List(kind) => Message::List { kind: *kind, known: self.digest(*kind) }.encode(0),
            Errand::Prove(challenge) => Message::Challenge { request: number, challenge: challenge.clone() }.encode(0),
            Errand::Log(question) => Message::LogAsked(question.clone()).encode(0),
            Errand::Spot(question) => Message::SpotAsked { request: number, question: question.clone() }.encode(0),
            Errand::Care(question) => Message::CareAsked { request: number, question: question.clone() }.encode(0),
            Errand::Releases(question) => {
                Message::ReleaseAsked { request: number, question: question.clone() }.encode(0)
            }
            Errand::Ping => vec![PING],
        };
        let is_to_last = match errand {
            Errand::Care(question) => question.mandate.is_some(),
            other => other.outlives_its_command(),
        };
        if is_to_last {
            // Nobody waits for it to ask anew.
            atomic::write(&self.asked_path(number), &bytes, IfThere::Replace)?;
        } else {
            self.write(&format!("{ASKED}/{number:016x}"), &bytes)?;
        }
        Ok(number)
    }

    fn asked(&self) -> io::Result<Vec<u64>> {
        let names =
            fs::read_dir(self.folder.join(ASKED))?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name.len() == 16).filter_map(|name| u64::from_str_radix(&name, 16).ok()).collect())
    }

    fn errand(&self, number: u64) -> Option<Errand> {
        let bytes = fs::read(self.asked_path(number)).ok()?;
        if bytes == [PING] {
            return Some(Errand::Ping);
        }
        match Message::decode(&bytes).ok()? {
            Message::Fetch { parts, .. } => Some(Errand::Fetch(parts)),
            Message::List { kind, .. } => Some(Errand::List(kind)),
            Message::Challenge { challenge, .. } => Some(Errand::Prove(challenge)),
            Message::LogAsked(question) => Some(Errand::Log(question)),
            Message::CareAsked { question, .. } => Some(Errand::Care(question)),
            Message::SpotAsked { question, .. } => Some(Errand::Spot(question)),
            Message::ReleaseAsked { question, .. } => Some(Errand::Releases(question)),
            _ => None,
        }
    }

    fn is_asked(&self, number: u64) -> bool {
        self.asked_path(number).exists()
    }

    fn done(&self, number: u64) {
        let _ = fs::remove_file(self.asked_path(number));
    }

    fn pieces(&self) -> io::Result<Vec<Part>> {
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

    fn piece(&self, piece: &Part) -> Option<Result<Vec<u8>, (Denial, String)>> {
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

    fn has(&self, piece: &Part) -> bool {
        let path = self.piece_path(piece);
        path.metadata().is_ok_and(|about| about.len() == file_len(piece)) || withheld_path(&path).exists()
    }

    fn put(&self, sent: &Sent<'_>) -> io::Result<()> {
        let piece = piece_sent(sent);
        match &sent.bytes {
            Ok(bytes) => self.write(&piece_name(&piece), &[bytes, &h16(&[bytes])[..]].concat()),
            Err(_) => {
                let bytes = Message::Parcel { request: 0, parts: vec![sent.clone()] }.encode(0);
                self.write(&format!("{}{WITHHELD}", piece_name(&piece)), &bytes)
            }
        }
    }

    fn forget(&self, piece: &Part) {
        let path = self.piece_path(piece);
        let _ = fs::remove_file(withheld_path(&path));
        let _ = fs::remove_file(path);
    }

    fn list(&self, kind: ObjectKind) -> Option<List> {
        self.list_at(kind).map(|(objects, _)| objects)
    }

    fn put_list(&self, kind: ObjectKind, pages: Vec<Page>) -> io::Result<()> {
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

    fn refuse_list(&self, kind: ObjectKind, why: &str) {
        let _ = fs::remove_file(self.list_path(kind));
        // Where there is no room for a reason, there is no list all the same.
        let _ = self.write(&format!("{LISTS}/{}{WITHHELD}", kind.code()), why.as_bytes());
    }

    fn refusal(&self, kind: ObjectKind) -> Option<String> {
        fs::read_to_string(with_end(&self.list_path(kind), WITHHELD)).ok()
    }

    fn room(&self) -> Option<u64> {
        let about = statvfs(&self.folder).ok()?;
        Some(about.f_bavail.saturating_mul(about.f_frsize))
    }

    fn confirm_list(&self, kind: ObjectKind) -> io::Result<()> {
        fs::File::options().append(true).open(self.list_path(kind))?.set_modified(SystemTime::now())
    }

    fn put_echo(&self, number: u64, took: Duration) -> io::Result<()> {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.write(&echo_name(number), &took.to_le_bytes())
    }

    fn take_echo(&self, number: u64) -> Option<Duration> {
        let bytes = self.take(&echo_name(number))?;
        Some(Duration::from_nanos(u64::from_le_bytes(bytes.try_into().ok()?)))
    }

    fn put_proof(&self, number: u64, answer: &Answer) -> io::Result<()> {
        self.write(&proof_name(number), &Message::Proof { request: number, answer: answer.clone() }.encode(0))
    }

    fn take_proof(&self, number: u64) -> Option<Answer> {
        let bytes = self.take(&proof_name(number))?;
        let Ok(Message::Proof { answer, .. }) = Message::decode(&bytes) else { return None };
        Some(answer)
    }

    fn put_report(&self, number: u64, report: &SignedReport) -> io::Result<()> {
        let report = Box::new(report.clone());
        atomic::write(
            &self.folder.join(REPORT),
            &Message::Cared { request: number, report }.encode(0),
            IfThere::Replace,
        )
    }

    fn put_release_word(&self, number: u64, word: &SignedWord) -> io::Result<()> {
        let bytes = Message::ReleaseTold { request: number, word: Box::new(word.clone()) }.encode(0);
        if word.word.about.is_some() {
            return atomic::write(&self.folder.join(RELEASE), &bytes, IfThere::Replace);
        }
        if word.word.leaves.is_empty() {
            // For people who look later; whoever asked has it anyway.
            let _ = self.write(STANDING, &bytes);
        }
        self.write(&release_name(number), &bytes)
    }

    fn take_release_word(&self, number: u64) -> Option<SignedWord> {
        let bytes = self.take(&release_name(number))?;
        let Ok(Message::ReleaseTold { word, .. }) = Message::decode(&bytes) else { return None };
        Some(*word)
    }

    fn refuse_errand(&self, number: u64) {
        // Where it cannot be written, whoever waits sees that it is over, and not why.
        let _ = self.write(&refused_name(number), &[]);
    }

    fn take_refusal(&self, number: u64) -> bool {
        self.take(&refused_name(number)).is_some()
    }

    fn put_spot(&self, number: u64, answer: &SpotAnswer) -> io::Result<()> {
        self.write(&spot_name(number), &Message::Spot { request: number, answer: answer.clone() }.encode(0))
    }

    fn take_spot(&self, number: u64) -> Option<SpotAnswer> {
        let bytes = self.take(&spot_name(number))?;
        let Ok(Message::Spot { answer, .. }) = Message::decode(&bytes) else { return None };
        Some(answer)
    }

    fn put_word(&self, number: u64, word: &log::Answer) -> io::Result<()> {
        self.write(&word_name(number), &Message::Logged(word.clone()).encode(0))
    }

    fn take_word(&self, number: u64) -> Option<log::Answer> {
        let bytes = self.take(&word_name(number))?;
        let Ok(Message::Logged(word)) = Message::decode(&bytes) else { return None };
        Some(word)
    }
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

fn proof_name(number: u64) -> String {
    format!("{ASKED}/proof-{number:016x}")
}

fn spot_name(number: u64) -> String {
    format!("{ASKED}/spot-{number:016x}")
}

fn release_name(number: u64) -> String {
    format!("{ASKED}/release-{number:016x}")
}

fn refused_name(number: u64) -> String {
    format!("{ASKED}/refused-{number:016x}")
}

fn word_name(number: u64) -> String {
    format!("{ASKED}/log-{number:016x}")
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
const REPORT: &str = "report";
const RELEASE: &str = "release";
const STANDING: &str = "releases";
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
    use lavatube_base::limits::LIST_OBJECTS_MAX;
    use lavatube_base::{Instant, ObjectId, VaultId};
    use lavatube_client::clerk::{Clerk, Post, Sight};
    use lavatube_format::message::Withheld;
    use lavatube_format::release_word::{About, KeptWord, ReleaseQuestion, ReleaseWord};

    fn part(id: u8, start: u64, len: u64) -> Part {
        Part { id: ObjectId([id; 32]), start, len }
    }

    #[test]
    fn errands_lie_on_the_desk_until_they_are_done() {
        let dir = tempfile::tempdir().unwrap();
        let desk = DirectoryDesk::open(dir.path()).unwrap();
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
        let desk = DirectoryDesk::open(dir.path()).unwrap();
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
        let desk = DirectoryDesk::open(dir.path()).unwrap();
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
        assert_eq!(desk.list(ObjectKind::Manifest), Some(objects));
        desk.confirm_list(ObjectKind::Manifest).unwrap();
    }

    /// A post from which nothing can be seen.
    struct Deaf;

    impl Post for Deaf {
        fn send(&mut self, _message: Vec<u8>) -> Option<u64> {
            Some(7)
        }
        fn has(&self, _key: u64) -> bool {
            false
        }
        fn ping(&mut self, _nonce: u64) {}
        fn patience(&self) -> Duration {
            Duration::from_secs(5)
        }
        fn look(&self, _now: Instant) -> Sight {
            Sight { is_open: false, light: None, incoming: Vec::new() }
        }
    }

    /// Leaves an errand, and lets the clerk take it up at second `s`.
    fn leave(desk: &DirectoryDesk, clerk: &mut Clerk<DirectoryDesk>, errand: &Errand, s: u64) -> u64 {
        let number = desk.ask(errand).unwrap();
        clerk.turn(&mut Deaf, Instant(s * 1_000_000_000)).unwrap();
        assert!(!clerk.is_idle());
        number
    }

    #[test]
    fn a_list_that_no_vault_has_is_refused_and_the_one_before_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let desk = DirectoryDesk::open(dir.path()).unwrap();
        let mut clerk = Clerk::new(desk.clone());
        let (errand, kind, one) = (Errand::List(ObjectKind::Pack), ObjectKind::Pack, vec![(ObjectId([1; 32]), 9)]);
        let page = |total: usize, digest| Page { kind, digest, total: total as u64, first: 0, objects: one.clone() };
        leave(&desk, &mut clerk, &errand, 1);
        clerk.listed(page(1, list_digest(&one)), Instant(1)).unwrap();
        assert!(desk.list(kind) == Some(one.clone()) && clerk.is_idle());
        let number = leave(&desk, &mut clerk, &errand, 2);
        clerk.listed(page(LIST_OBJECTS_MAX, [7; 16]), Instant(2)).unwrap();
        assert!(desk.is_asked(number), "as many as that may come");
        clerk.listed(page(LIST_OBJECTS_MAX + 1, [8; 16]), Instant(3)).unwrap();
        assert!(!desk.is_asked(number) && clerk.is_idle() && desk.list(kind).is_none());
        assert!(desk.refusal(kind).is_some_and(|why| why.contains("4194305 objects")));
        leave(&desk, &mut clerk, &errand, 3);
        clerk.listed(page(1, list_digest(&one)), Instant(4)).unwrap();
        assert_eq!((desk.list(kind), desk.refusal(kind)), (Some(one), None));
    }

    #[test]
    fn a_release_is_asked_about_until_what_became_of_it_is_here_or_the_vault_does_not_know_the_question() {
        let dir = tempfile::tempdir().unwrap();
        let desk = DirectoryDesk::open(dir.path()).unwrap();
        let mut clerk = Clerk::new(desk.clone());
        let asked = |release| Errand::Releases(ReleaseQuestion { nonce: [1; 16], from: 0, lifts: Vec::new(), release });
        let number = leave(&desk, &mut clerk, &asked(Some(b"one".to_vec())), 1);
        let about = Some(About { id: ObjectId([3; 32]), number: 1, outcome: Err("no".into()) });
        let (vault, kept, open, leaves) = (VaultId([2; 16]), KeptWord::Nothing, Vec::new(), Vec::new());
        let word = ReleaseWord { vault, nonce: [1; 16], about, size: 0, root: [0; 32], kept, open, from: 0, leaves };
        let word = SignedWord { word, signature: [4; 64] };
        // As if the disk were full.
        fs::create_dir(desk.folder.join(RELEASE)).unwrap();
        assert!(clerk.told_of_releases(number, &word).is_err() && desk.is_asked(number) && !clerk.is_idle());
        fs::remove_dir(desk.folder.join(RELEASE)).unwrap();
        clerk.told_of_releases(number, &word).unwrap();
        assert!(!desk.is_asked(number) && desk.release().is_some_and(|(of, kept, _)| of == number && kept == word));
        let number = leave(&desk, &mut clerk, &asked(None), 9);
        clerk.refused(8);
        assert!(desk.is_asked(number), "it was another message");
        clerk.refused(7);
        assert!(!desk.is_asked(number) && clerk.is_idle() && desk.take_refusal(number) && !desk.take_refusal(number));
    }

    #[test]
    fn what_cannot_be_put_down_is_not_asked_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let desk = DirectoryDesk::open(dir.path()).unwrap();
        let mut clerk = Clerk::new(desk.clone());
        let one = part(1, 0, 4);
        let number = leave(&desk, &mut clerk, &Errand::Fetch(vec![one]), 1);
        // As if the disk were full.
        fs::remove_dir(desk.folder.join(PARTS)).unwrap();
        let sent = Sent { id: one.id, start: 0, bytes: Ok(b"four") };
        assert!(clerk.parcel(number, &[sent], Instant(1)).is_err());
        assert!(clerk.is_idle() && !desk.is_asked(number) && !desk.has(&one));
    }
}
