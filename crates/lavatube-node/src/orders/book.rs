//! Who has claimed which order, how far they are, and how earlier ones ended: the file `orders` of a vault's folder.
//!
//! It is written whole, at once or not at all, and read again before each change, under a lock of its own: commands and the daemon share it.
//! Losing it costs claims and history and nothing else, so a damaged one is as good as lost. Times are seconds of the wall clock, and decide
//! only when a claim ends. Must not know what an order is about.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::hex;
use lavatube_base::limits::{DRIVES_MAX, ORDER_TEXT_MAX, ORDERS_KEPT_MAX};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, IfThere};
use crate::clock;
use crate::lock::{Lock, LockError, Mode};

/// How an order stands with whoever claimed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Someone works on it.
    Claimed,
    /// Someone says that it is done, and the vault has not looked yet.
    Told,
    /// The vault looked, and there is no reason for it any more.
    Done,
    /// The vault looked, and there still is.
    Vain,
}

/// An order in the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub id: String,
    /// How it stands.
    pub stage: Stage,
    /// Who has it, or had it.
    pub by: String,
    /// When it was claimed.
    pub since_s: i64,
    /// When the claim ends, or it ended.
    pub until_s: i64,
    /// How far they say they are.
    pub percent: u8,
    /// What they say, or what the vault found.
    pub note: String,
    /// Further drives that were put in: as `lavatube vault drive add` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drives: Vec<String>,
}

/// Why the book was not changed.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// There is no such order now.
    #[error("there is no order {0} now")]
    NoSuch(String),
    /// Somebody else has it.
    #[error("order {id} is {by}'s for another {left_s} s")]
    Taken {
        /// The order.
        id: String,
        /// Whose it is.
        by: String,
        /// How long still.
        left_s: i64,
    },
    /// It is not claimed by who says so, or not any more.
    #[error("order {id} is not claimed by {by}, or not any more")]
    NotYours {
        /// The order.
        id: String,
        /// Who asked.
        by: String,
    },
    /// The vault is looking at it.
    #[error("the vault is looking whether order {0} is done")]
    Told(String),
    /// A name or a note is empty or too long, or has control characters.
    #[error("{0} is 1 to {ORDER_TEXT_MAX} bytes of text without control characters")]
    Text(&'static str),
    /// Someone else changes it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file failed.
    #[error("{0}")]
    Io(String),
}

/// All orders that were ever claimed, the newest last, as far as they are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    #[serde(default)]
    order: Vec<Entry>,
    /// By drive: since when it is away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    away: BTreeMap<String, i64>,
}

impl Book {
    /// The book of the vault in `folder`; an empty one when there is none, or it is damaged.
    pub fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        Self::decode(&text).unwrap_or_default()
    }

    /// Changes the book of the vault in `folder`, alone.
    ///
    /// # Errors
    /// What `change` says, or [`BookError`] when the file fails; it is then as it was.
    pub fn change<T>(
        folder: &Path,
        change: impl FnOnce(&mut Self, i64) -> Result<T, BookError>,
    ) -> Result<T, BookError> {
        let _alone = Lock::acquire(&folder.join(LOCK_FILE), "lavatube vault orders", Mode::Exclusive, LOCK_WAIT)?;
        let before = Self::read(folder);
        let mut book = before.clone();
        let changed = change(&mut book, clock::wall_now().s)?;
        if book != before {
            let text = book.encode().map_err(BookError::Io)?;
            let path = folder.join(FILE);
            let failed = |e: std::io::Error| BookError::Io(format!("{}: {e}", path.display()));
            atomic::write(&path, text.as_bytes(), IfThere::Replace).map_err(failed)?;
        }
        Ok(changed)
    }

    //= FORMAT#F45
    fn encode(&self) -> Result<String, String> {
        let body = toml::to_string(self).map_err(|e| e.to_string())?;
        Ok(format!("{body}{CHECK}{}\n", check_of(&body)))
    }

    fn decode(text: &str) -> Option<Self> {
        let (body, check) = text.rsplit_once(CHECK)?;
        let book: Self = toml::from_str(body).ok().filter(|_| check.strip_suffix('\n') == Some(&check_of(body)))?;
        (book.order.len() <= ORDERS_KEPT_MAX && book.away.len() <= DRIVES_MAX).then_some(book)
    }

    /// What it says of an order now: the claim that holds, or how the last one ended.
    pub fn entry(&self, id: &str, now_s: i64) -> Option<&Entry> {
        self.order.iter().rev().find(|e| e.id == id && !e.is_lapsed(now_s))
    }

    /// Orders that ended, the newest last.
    pub fn ended(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter(|e| matches!(e.stage, Stage::Done | Stage::Vain))
    }

    /// Orders of which somebody says that they are done, and the vault has not looked.
    pub fn told(&self) -> impl Iterator<Item = &Entry> {
        self.order.iter().filter(|e| e.stage == Stage::Told)
    }

    /// Whether the order was tried the last time that it came up, and it did not help.
    pub(crate) fn was_tried(&self, id: &str) -> bool {
        let last = self.order.iter().rev().find(|e| e.id == id && matches!(e.stage, Stage::Done | Stage::Vain));
        last.is_some_and(|e| e.stage == Stage::Vain)
    }

    /// By drive: since when it is away, as the steward saw it.
    pub(crate) fn away(&self) -> &BTreeMap<String, i64> {
        &self.away
    }

    /// These drives are away, and no others.
    pub(crate) fn note_away<'d>(&mut self, drives: impl Iterator<Item = &'d String>, now_s: i64) {
        let since = |drive: &String| (drive.clone(), self.away.get(drive).copied().unwrap_or(now_s));
        self.away = drives.map(since).collect();
    }

    /// Claims an order, or claims it for longer. Whoever asks knows that there is such an order.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn claim(&mut self, id: &str, by: &str, for_s: i64, now_s: i64) -> Result<Entry, BookError> {
        is_text("who claims it", by)?;
        match self.entry(id, now_s) {
            Some(e) if e.stage == Stage::Told => return Err(BookError::Told(id.into())),
            Some(e) if e.stage == Stage::Claimed && e.by != by => {
                return Err(BookError::Taken { id: id.into(), by: e.by.clone(), left_s: e.until_s - now_s });
            }
            _ => {}
        }
        let until_s = now_s.saturating_add(for_s.clamp(CLAIM_S_MIN, CLAIM_S_MAX));
        self.order.retain(|e| e.id != id || e.stage != Stage::Claimed);
        let (stage, since_s, percent, note) = (Stage::Claimed, now_s, 0, String::new());
        let entry = Entry { id: id.into(), stage, by: by.into(), since_s, until_s, percent, note, drives: Vec::new() };
        self.order.push(entry.clone());
        self.forget(now_s);
        Ok(entry)
    }

    /// Tells how far it is; the claim holds as long again as it was made for.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn progress(&mut self, id: &str, by: &str, percent: u8, note: &str, now_s: i64) -> Result<Entry, BookError> {
        let entry = self.claimed(id, by, note, now_s)?;
        let span = entry.until_s.saturating_sub(entry.since_s);
        (entry.percent, entry.since_s, entry.until_s) = (percent.min(100), now_s, now_s.saturating_add(span));
        Ok(entry.clone())
    }

    /// Says that it is done: the vault looks.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn done(&mut self, id: &str, by: &str, note: &str, drives: &[String], now_s: i64) -> Result<Entry, BookError> {
        drives.iter().try_for_each(|drive| is_text("a drive", drive))?;
        let entry = self.claimed(id, by, note, now_s)?;
        (entry.stage, entry.percent, entry.until_s, entry.drives) = (Stage::Told, 100, now_s, drives.to_vec());
        Ok(entry.clone())
    }

    /// Gives an order back.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn release(&mut self, id: &str, by: &str, now_s: i64) -> Result<(), BookError> {
        self.claimed(id, by, "", now_s)?;
        self.order.retain(|e| e.id != id || e.stage != Stage::Claimed);
        Ok(())
    }

    /// The vault has looked: whether it helped, and what it found.
    pub fn settle(&mut self, id: &str, helped: bool, found: &str, now_s: i64) {
        for entry in self.order.iter_mut().filter(|e| e.id == id && e.stage == Stage::Told) {
            entry.stage = if helped { Stage::Done } else { Stage::Vain };
            entry.until_s = now_s;
            entry.note = found.chars().filter(|c| !c.is_control()).take(ORDER_TEXT_MAX / 4).collect();
        }
    }

    fn claimed(&mut self, id: &str, by: &str, note: &str, now_s: i64) -> Result<&mut Entry, BookError> {
        if !note.is_empty() {
            is_text("a note", note)?;
        }
        let not_yours = || BookError::NotYours { id: id.into(), by: by.into() };
        let last = self.order.iter_mut().rev().find(|e| e.id == id).ok_or_else(not_yours)?;
        match last.stage {
            Stage::Told => Err(BookError::Told(id.into())),
            Stage::Claimed if last.by == by && !last.is_lapsed(now_s) => {
                if !note.is_empty() {
                    note.clone_into(&mut last.note);
                }
                Ok(last)
            }
            _ => Err(not_yours()),
        }
    }

    /// Lapsed claims, and of what ended the oldest.
    fn forget(&mut self, now_s: i64) {
        self.order.retain(|e| !e.is_lapsed(now_s));
        let over = self.order.len().saturating_sub(ORDERS_KEPT_MAX);
        let mut left = over;
        self.order.retain(|e| {
            let goes = left > 0 && matches!(e.stage, Stage::Done | Stage::Vain);
            left -= usize::from(goes);
            !goes
        });
        // Where so many are claimed at once the oldest claims go.
        self.order.drain(..self.order.len().saturating_sub(ORDERS_KEPT_MAX));
    }
}

impl Entry {
    /// Whether it is a claim that has ended by itself.
    fn is_lapsed(&self, now_s: i64) -> bool {
        self.stage == Stage::Claimed && self.until_s <= now_s
    }
}

fn is_text(what: &'static str, text: &str) -> Result<(), BookError> {
    let fits = (1..=ORDER_TEXT_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(BookError::Text(what)) }
}

fn check_of(body: &str) -> String {
    hex(&h16(&[body.as_bytes()]))
}

const FILE: &str = "orders";
const LOCK_FILE: &str = "orders.lock";
const CHECK: &str = "# check ";
/// A change takes no time.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// A claim is for so long at least and at most: a second, thirty days.
const CLAIM_S_MIN: i64 = 1;
const CLAIM_S_MAX: i64 = 30 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_one_arms_until_it_ends_or_is_given_back() {
        let mut book = Book::default();
        book.claim("replace-1", "a", 60, 1000).unwrap();
        assert!(matches!(book.claim("replace-1", "b", 60, 1059), Err(BookError::Taken { left_s: 1, .. })));
        assert!(matches!(book.progress("replace-1", "b", 5, "", 1010), Err(BookError::NotYours { .. })));
        assert_eq!(book.progress("replace-1", "a", 50, "half way", 1050).unwrap().until_s, 1110);
        assert!(book.claim("replace-1", "b", 60, 1109).is_err());
        assert_eq!(book.claim("replace-1", "b", 60, 1110).unwrap().by, "b", "it has ended");
        assert!(matches!(book.done("replace-1", "a", "", &[], 1111), Err(BookError::NotYours { .. })));
        book.release("replace-1", "b", 1112).unwrap();
        assert_eq!(book.entry("replace-1", 1113), None);
    }

    #[test]
    fn what_is_told_is_the_vaults_until_it_has_looked() {
        let mut book = Book::default();
        book.claim("add-drives", "a", 60, 1000).unwrap();
        book.done("add-drives", "a", "in", &["/mnt/x".into()], 1001).unwrap();
        assert!(matches!(book.claim("add-drives", "b", 60, 5000), Err(BookError::Told(_))));
        assert_eq!(book.told().count(), 1);
        book.settle("add-drives", false, "nothing\nthere", 5001);
        assert_eq!(
            (book.was_tried("add-drives"), book.entry("add-drives", 5002).unwrap().note.as_str()),
            (true, "nothingthere")
        );
        book.claim("add-drives", "b", 60, 5003).unwrap();
        book.done("add-drives", "b", "", &[], 5004).unwrap();
        book.settle("add-drives", true, "", 5005);
        assert_eq!((book.was_tried("add-drives"), book.ended().count()), (false, 2));
    }

    #[test]
    fn texts_and_the_book_have_limits() {
        let mut book = Book::default();
        assert!(book.claim("x", &"b".repeat(ORDER_TEXT_MAX), 60, 0).is_ok());
        for bad in ["", "a\nb", &"b".repeat(ORDER_TEXT_MAX + 1)] {
            assert!(matches!(book.claim("y", bad, 60, 0), Err(BookError::Text(_))), "{bad:?}");
        }
        for n in 0..=ORDERS_KEPT_MAX as i64 {
            let id = format!("o{n}");
            book.claim(&id, "a", 60, n).unwrap();
            book.done(&id, "a", "", &[], n).unwrap();
            book.settle(&id, true, "", n);
        }
        book.claim("last", "a", 60, 1000).unwrap();
        assert_eq!(book.order.len(), ORDERS_KEPT_MAX);
        assert_eq!(Book::decode(&book.encode().unwrap()), Some(book));
    }

    #[test]
    fn it_survives_on_disk_and_a_damaged_one_is_as_good_as_lost() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Book::read(dir.path()), Book::default());
        let claim = |by: &str| Book::change(dir.path(), |book, now| book.claim("reseat-1", by, 600, now));
        claim("arm 1").unwrap();
        assert!(matches!(claim("arm 2"), Err(BookError::Taken { .. })));
        let whole = std::fs::read(dir.path().join(FILE)).unwrap();
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 1;
            std::fs::write(dir.path().join(FILE), &bad).unwrap();
            assert_eq!(Book::read(dir.path()), Book::default(), "byte {at}");
        }
        claim("arm 2").unwrap();
        assert_eq!(Book::read(dir.path()).order.len(), 1);
    }
}
