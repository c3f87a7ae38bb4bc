//! The clerk: at the near end of a link, does what commands left on the desk, and puts there what comes for them.
//!
//! It asks again for what is long in coming, since an answer is sent once and remembered by nobody. It must not know who
//! wants it, nor what is in an object. Steps 19 and 20 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use lavatube_base::limits::{LIST_OBJECTS_MAX, LISTED_MAX};
use lavatube_base::{BlockId, Instant};
use lavatube_format::message::{Message, Page, Part, Sent};
use lavatube_format::shard::ObjectKind;
use lavatube_link::{Line, Status};

use crate::carrier::Carrier;
use crate::desk::{Desk, Errand, parts_of, piece_sent, pieces_of};
use crate::outbox::Outbox;

/// What was found on the desk.
pub(crate) struct Clerk {
    desk: Desk,
    looked_at: Option<Instant>,
    open: BTreeMap<u64, Open>,
    /// Blocks that come in: how much of each is here, and since when.
    coming: BTreeMap<BlockId, (u64, Instant)>,
    /// How often something was put on the desk, or taken from it.
    news: u64,
}

struct Open {
    errand: What,
    /// When it was last asked for or something came of it; `None` before it was asked for.
    moved: Option<Instant>,
    /// The message that asks, on its way.
    question: Option<u64>,
}

enum What {
    /// Pieces that have not come.
    Fetch(BTreeSet<Part>),
    /// Pages that have come, by the number of their first object.
    List(ObjectKind, BTreeMap<u64, Page>),
    Ping,
}

impl Clerk {
    /// A clerk for the desk.
    pub fn new(desk: Desk) -> Self {
        Self { desk, looked_at: None, open: BTreeMap::new(), coming: BTreeMap::new(), news: 0 }
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// How often whoever waits at the desk may have found something new there.
    pub fn news(&self) -> u64 {
        self.news
    }

    /// Looks for new errands and asks the vault for what is missing.
    ///
    /// # Errors
    /// When the desk cannot be read.
    pub fn turn(&mut self, link: &mut dyn Carrier, outbox: &mut Outbox, now: Instant) -> io::Result<()> {
        if self.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return Ok(());
        }
        self.looked_at = Some(now);
        let asked: BTreeSet<u64> = self.desk.asked()?.into_iter().collect();
        let gone: Vec<u64> = self.open.keys().filter(|number| !asked.contains(number)).copied().collect();
        for number in gone {
            if let Some(Open { errand: What::Fetch(_), .. }) = self.open.remove(&number) {
                // Whoever wanted it does not any more.
                outbox.send(link, Message::Fetch { request: number, parts: Vec::new() }.encode(now.0));
            }
        }
        for number in asked {
            if !self.open.contains_key(&number) {
                self.take_up(number);
            }
        }
        if self.open.is_empty() {
            return Ok(());
        }
        let status = link.status(now);
        let patience = link.patience() + 2 * status.light.unwrap_or_default();
        let quiet = self.is_quiet(&status, patience, now);
        for (number, open) in &mut self.open {
            let late = open.moved.is_none_or(|at| quiet && now.since(at) >= patience);
            if late && open.question.is_none_or(|key| !outbox.has(key)) {
                open.moved = Some(now);
                let message = match &open.errand {
                    What::Fetch(missing) => Message::Fetch { request: *number, parts: parts_of(missing) },
                    What::List(kind, _) => Message::List { kind: *kind, known: self.desk.digest(*kind) },
                    What::Ping => {
                        link.ping(*number);
                        continue;
                    }
                };
                open.question = outbox.send(link, message.encode(now.0));
            }
        }
        Ok(())
    }

    /// Whether nothing comes in that may be what is waited for. A block that stands still is none: whoever sent it may have
    /// been started anew, and know nothing of it.
    fn is_quiet(&mut self, status: &Status, patience: Duration, now: Instant) -> bool {
        let (before, is_open) = (std::mem::take(&mut self.coming), status.line == Line::Open);
        for block in &status.incoming {
            let same = before.get(&block.id).filter(|(held, _)| is_open && *held == block.held);
            self.coming.insert(block.id, (block.held, same.map_or(now, |(_, since)| *since)));
        }
        is_open && self.coming.values().all(|(_, since)| now.since(*since) >= patience)
    }

    fn take_up(&mut self, number: u64) {
        self.news += 1;
        let errand = match self.desk.errand(number) {
            Some(Errand::Fetch(parts)) => {
                let missing: BTreeSet<Part> =
                    parts.iter().flat_map(pieces_of).filter(|piece| !self.desk.has(piece)).collect();
                if missing.is_empty() {
                    return self.desk.done(number);
                }
                What::Fetch(missing)
            }
            Some(Errand::List(kind)) => What::List(kind, BTreeMap::new()),
            Some(Errand::Ping) => What::Ping,
            // It is done, or nobody can tell what it is.
            None => return self.desk.done(number),
        };
        self.open.insert(number, Open { errand, moved: None, question: None });
    }

    /// Takes in what was asked for; whether anybody has.
    ///
    /// # Errors
    /// When it cannot be put on the desk: its errand is over then.
    pub fn parcel(&mut self, request: u64, parts: &[Sent<'_>], now: Instant) -> io::Result<bool> {
        let Some(Open { errand: What::Fetch(missing), moved, .. }) = self.open.get_mut(&request) else {
            return Ok(self.desk.is_asked(request));
        };
        *moved = Some(now);
        self.news += 1;
        for sent in parts {
            let piece = piece_sent(sent);
            if missing.contains(&piece) {
                if let Err(e) = self.desk.put(sent) {
                    // Asked for again and again, it would cross for nothing. Whoever wanted it sees that it is over.
                    self.open.remove(&request);
                    self.desk.done(request);
                    return Err(e);
                }
                missing.remove(&piece);
            }
        }
        if missing.is_empty() {
            self.open.remove(&request);
            self.desk.done(request);
        }
        Ok(true)
    }

    /// Takes in a page of a list.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn listed(&mut self, page: Page, now: Instant) -> io::Result<()> {
        let is_it = |open: &Open| matches!(&open.errand, What::List(kind, _) if *kind == page.kind);
        let Some(number) = self.open.iter().find(|(_, open)| is_it(open)).map(|(number, _)| *number) else {
            return Ok(());
        };
        let kind = page.kind;
        self.news += 1;
        if page.total > LIST_OBJECTS_MAX as u64 {
            let why = format!("it says it has {} objects of a kind, more than are believed", page.total);
            self.desk.refuse_list(kind, &why);
            self.list_is_over(kind);
            return Ok(());
        }
        if page.objects.is_empty() && page.digest == self.desk.digest(kind) {
            self.desk.confirm_list(kind)?;
        } else {
            let Some(Open { errand: What::List(_, pages), moved, .. }) = self.open.get_mut(&number) else {
                return Ok(());
            };
            *moved = Some(now);
            // A page of another list: that one has changed meanwhile.
            pages.retain(|_, other| other.digest == page.digest);
            let total = page.total;
            pages.insert(page.first, page);
            if pages.len() > LIST_OBJECTS_MAX / LISTED_MAX {
                pages.clear();
            }
            let mut next = 0;
            pages.values().for_each(|page| {
                if page.first == next {
                    next += page.objects.len() as u64
                }
            });
            if next < total {
                return Ok(());
            }
            let pages = std::mem::take(pages);
            if let Err(e) = self.desk.put_list(kind, pages.into_values().collect()) {
                self.desk.refuse_list(kind, &format!("its list of objects cannot be put down here: {e}"));
                self.list_is_over(kind);
                return Err(e);
            }
        }
        self.list_is_over(kind);
        Ok(())
    }

    /// All who wanted this list have it now, or will not have it.
    fn list_is_over(&mut self, kind: ObjectKind) {
        let done: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| matches!(&open.errand, What::List(k, _) if *k == kind))
            .map(|(n, _)| *n)
            .collect();
        for number in done {
            self.open.remove(&number);
            self.desk.done(number);
        }
    }

    /// An echo came back.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn echoed(&mut self, number: u64, took: Duration) -> io::Result<()> {
        if self.open.remove(&number).is_some() {
            self.news += 1;
            self.desk.put_echo(number, took)?;
            self.desk.done(number);
        }
        Ok(())
    }
}

/// How often the desk is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_base::ObjectId;

    /// A clerk with an errand on its desk, as if it had asked.
    fn asked(folder: &std::path::Path, errand: &Errand) -> (Clerk, Desk, u64) {
        let desk = Desk::open(folder).unwrap();
        let mut clerk = Clerk::new(desk.clone());
        let number = desk.ask(errand).unwrap();
        clerk.take_up(number);
        (clerk, desk, number)
    }

    fn page(first: u64, total: u64, digest: [u8; 16]) -> Page {
        Page { kind: ObjectKind::Pack, digest, total, first, objects: vec![(ObjectId([1; 32]), 9)] }
    }

    #[test]
    fn a_list_that_no_vault_has_is_refused_and_the_one_before_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let (mut clerk, desk, number) = asked(dir.path(), &Errand::List(ObjectKind::Pack));
        let one = vec![(ObjectId([1; 32]), 9)];
        let digest = lavatube_format::message::list_digest(&one);
        clerk.listed(page(0, 1, digest), Instant(1)).unwrap();
        assert!(desk.list(ObjectKind::Pack).is_some() && !desk.is_asked(number));
        let number = desk.ask(&Errand::List(ObjectKind::Pack)).unwrap();
        clerk.take_up(number);
        clerk.listed(page(0, LIST_OBJECTS_MAX as u64, [7; 16]), Instant(2)).unwrap();
        assert!(desk.is_asked(number), "as many as that may come");
        clerk.listed(page(0, LIST_OBJECTS_MAX as u64 + 1, [8; 16]), Instant(3)).unwrap();
        assert!(!desk.is_asked(number) && clerk.is_idle() && desk.list(ObjectKind::Pack).is_none());
        assert!(desk.refusal(ObjectKind::Pack).is_some_and(|why| why.contains("4194305 objects")));
        let number = desk.ask(&Errand::List(ObjectKind::Pack)).unwrap();
        clerk.take_up(number);
        clerk.listed(page(0, 1, digest), Instant(4)).unwrap();
        assert!(desk.list(ObjectKind::Pack).is_some_and(|(objects, _)| objects == one));
        assert_eq!(desk.refusal(ObjectKind::Pack), None);
    }

    #[test]
    fn what_cannot_be_put_down_is_not_asked_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part { id: ObjectId([1; 32]), start: 0, len: 4 };
        let (mut clerk, desk, number) = asked(dir.path(), &Errand::Fetch(vec![part]));
        // As if the disk were full.
        std::fs::remove_dir(desk.folder().join("parts")).unwrap();
        let sent = Sent { id: part.id, start: 0, bytes: Ok(b"four") };
        assert!(clerk.parcel(number, &[sent], Instant(1)).is_err());
        assert!(clerk.is_idle() && !desk.is_asked(number) && !desk.has(&part));
    }
}
