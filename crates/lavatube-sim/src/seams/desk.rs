//! The desk in memory: what whoever reads over a link wants, and what came.
//!
//! As `lavatube_node::directory_desk` keeps it: each file appears at once or not at all, and none is synced, because what is lost
//! is asked for anew. A kill takes nothing; after a power cut a file is there, gone, or there and not what it was, and
//! whoever begins believes none that is older than the boot. It must not know links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lavatube_base::Denial;
use lavatube_client::desk::{Desk, Errand, List};
use lavatube_format::audit::Answer;
use lavatube_format::log;
use lavatube_format::message::{Page, Part, Sent, list_digest, piece_sent};
use lavatube_format::release_word::SignedWord;
use lavatube_format::shard::ObjectKind;
use lavatube_format::spot::SpotAnswer;

use crate::chance::Chance;
use crate::sabotage::Sabotage;
use crate::wires::{Go, Halt, Wires};

/// A piece, or why it was withheld.
type Piece = Result<Vec<u8>, (Denial, String)>;

#[derive(Default)]
struct Media {
    asked: BTreeMap<u64, Errand>,
    /// With whether they were written before this system was started.
    pieces: BTreeMap<Part, (Piece, bool)>,
    lists: BTreeMap<u8, List>,
    echoes: BTreeMap<u64, Duration>,
    proofs: BTreeMap<u64, Answer>,
    words: BTreeMap<u64, log::Answer>,
    spots: BTreeMap<u64, SpotAnswer>,
    /// What became of the last release.
    release: Option<SignedWord>,
    next: u64,
}

/// The desk of one machine; clones are the same desk.
#[derive(Clone)]
pub struct SimDesk {
    media: Arc<Mutex<Media>>,
    wires: Arc<Wires>,
    sabotage: Option<Sabotage>,
}

impl SimDesk {
    /// An empty desk.
    pub fn new(wires: &Arc<Wires>, sabotage: Option<Sabotage>) -> Self {
        Self { media: Arc::default(), wires: wires.clone(), sabotage }
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power failed: files are gone, or hold zeros.
    pub fn lose_power(&self, chance: &mut Chance) {
        let mut media = self.media();
        // What nobody waits for to ask anew was synced.
        media.asked.retain(|_, errand| errand.outlives_its_command() || chance.per_mille(500));
        media.lists.retain(|_, _| chance.per_mille(500));
        media.echoes.clear();
        media.proofs.clear();
        media.words.clear();
        media.spots.clear();
        media.pieces.retain(|_, _| chance.per_mille(700));
        for (piece, is_old) in media.pieces.values_mut() {
            *is_old = true;
            if let (Ok(bytes), true) = (piece, chance.per_mille(500)) {
                bytes.fill(0);
            }
        }
    }

    /// What became of the last release that was answered.
    pub fn release(&self) -> Option<SignedWord> {
        self.media().release.clone()
    }

    /// Loses everything.
    pub fn wipe(&self) {
        let mut media = self.media();
        *media = Media { next: media.next, ..Media::default() };
    }

    /// A file is to be written under this name; one whose writing is cut is not seen.
    fn write(&self, what: &str, name: &str, len: usize) -> Result<Go<'_>, String> {
        self.wires.act(what, name, len as u64).map_err(|halt| {
            let text = match halt {
                Halt::Dead => "the process is dead",
                Halt::Fault => "input/output error",
            };
            text.into()
        })
    }
}

impl Desk for SimDesk {
    type Error = String;

    fn ask(&self, errand: &Errand) -> Result<u64, String> {
        let go = self.write("leave an errand", "", 0)?;
        let mut media = self.media();
        media.next += 1;
        let number = media.next;
        if go.torn.is_none() {
            media.asked.insert(number, errand.clone());
        }
        drop(media);
        go.done();
        Ok(number)
    }

    fn asked(&self) -> Result<Vec<u64>, String> {
        let forgets = self.sabotage == Some(Sabotage::ErrandsAreForgotten);
        // With a planted bug, every fourth is never seen by whoever turns the link.
        Ok(self.media().asked.keys().copied().filter(|number| !forgets || number % 4 != 0).collect())
    }

    fn errand(&self, number: u64) -> Option<Errand> {
        self.media().asked.get(&number).cloned()
    }

    fn is_asked(&self, number: u64) -> bool {
        self.media().asked.contains_key(&number)
    }

    fn done(&self, number: u64) {
        self.media().asked.remove(&number);
    }

    fn pieces(&self) -> Result<Vec<Part>, String> {
        let mut media = self.media();
        if self.sabotage != Some(Sabotage::OldPiecesAreBelieved) {
            media.pieces.retain(|_, (_, is_old)| !*is_old);
        }
        media.pieces.retain(|_, (piece, _)| piece.is_ok());
        Ok(media.pieces.keys().copied().collect())
    }

    fn piece(&self, piece: &Part) -> Option<Piece> {
        self.media().pieces.get(piece).map(|(piece, _)| piece.clone())
    }

    fn has(&self, piece: &Part) -> bool {
        self.media().pieces.contains_key(piece)
    }

    fn put(&self, sent: &Sent<'_>) -> Result<(), String> {
        let piece = piece_sent(sent);
        let bytes = sent.bytes.as_ref().map(|bytes| bytes.to_vec());
        let bytes = bytes.map_err(|withheld| (withheld.denial, withheld.text.clone()));
        let name = self.wires.called(&piece.id);
        let go = self.write("put a piece", &name, bytes.as_ref().map_or(0, Vec::len))?;
        if go.torn.is_none() {
            self.media().pieces.insert(piece, (bytes, false));
        }
        go.done();
        Ok(())
    }

    fn forget(&self, piece: &Part) {
        self.media().pieces.remove(piece);
    }

    fn list(&self, kind: ObjectKind) -> Option<List> {
        self.media().lists.get(&kind.code()).cloned()
    }

    fn put_list(&self, kind: ObjectKind, pages: Vec<Page>) -> Result<(), String> {
        let go = self.write("put a list", "", pages.len())?;
        let digest = pages.first().map(|page| page.digest);
        let objects: List = pages.into_iter().flat_map(|page| page.objects).collect();
        if go.torn.is_none() {
            let mut media = self.media();
            // What is not what it says it is cannot be read.
            if digest == Some(list_digest(&objects)) {
                media.lists.insert(kind.code(), objects);
            } else {
                media.lists.remove(&kind.code());
            }
        }
        go.done();
        Ok(())
    }

    fn refuse_list(&self, kind: ObjectKind, _why: &str) {
        self.media().lists.remove(&kind.code());
    }

    fn refusal(&self, _kind: ObjectKind) -> Option<String> {
        None
    }

    fn confirm_list(&self, _kind: ObjectKind) -> Result<(), String> {
        Ok(())
    }

    fn put_echo(&self, number: u64, took: Duration) -> Result<(), String> {
        self.media().echoes.insert(number, took);
        Ok(())
    }

    fn take_echo(&self, number: u64) -> Option<Duration> {
        self.media().echoes.remove(&number)
    }

    fn put_proof(&self, number: u64, answer: &Answer) -> Result<(), String> {
        self.media().proofs.insert(number, answer.clone());
        Ok(())
    }

    fn put_release_word(&self, _number: u64, word: &SignedWord) -> Result<(), String> {
        let go = self.write("put what became of a release", "", 0)?;
        if go.torn.is_none() {
            self.media().release = Some(word.clone());
        }
        go.done();
        Ok(())
    }

    fn put_spot(&self, number: u64, answer: &SpotAnswer) -> Result<(), String> {
        self.media().spots.insert(number, answer.clone());
        Ok(())
    }

    fn take_spot(&self, number: u64) -> Option<SpotAnswer> {
        self.media().spots.remove(&number)
    }

    fn put_word(&self, number: u64, word: &log::Answer) -> Result<(), String> {
        self.media().words.insert(number, word.clone());
        Ok(())
    }

    fn take_word(&self, number: u64) -> Option<log::Answer> {
        self.media().words.remove(&number)
    }

    fn take_proof(&self, number: u64) -> Option<Answer> {
        self.media().proofs.remove(&number)
    }
}
