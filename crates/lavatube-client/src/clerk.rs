//! The clerk: at the near end of a link, does what commands left on the desk, and puts there what comes for them.
//!
//! It asks again for what is long in coming, since an answer is sent once and remembered by nobody. It must not know who
//! wants it, nor what is in an object. Steps 19 and 20 of the walk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lavatube_base::limits::{LIST_OBJECTS_MAX, LISTED_MAX};
use lavatube_base::{BlockId, Instant};
use lavatube_format::audit::{Answer, Challenge};
use lavatube_format::care::{CareQuestion, SignedReport};
use lavatube_format::checkpoint::SignedCheckpoint;
use lavatube_format::log::{self, Question};
use lavatube_format::mandate::SignedMandate;
use lavatube_format::message::{Message, Page, Part, Sent, parts_of, piece_sent, pieces_of};
use lavatube_format::release_word::{ReleaseQuestion, SignedWord};
use lavatube_format::shard::ObjectKind;
use lavatube_format::spot::{SpotAnswer, SpotQuestion};

use crate::desk::{Desk, Errand};

/// What the clerk asks of the end of a link at which it works.
pub trait Post {
    /// Sends a short message before all else; gives its name, or `None` when too many wait.
    fn send(&mut self, message: Vec<u8>) -> Option<u64>;
    /// Whether that message is still on its way.
    fn has(&self, key: u64) -> bool;
    /// Asks the other end to send `nonce` back.
    fn ping(&mut self, nonce: u64);
    /// How long an answer may take before one asks again, beside the measured way there and back.
    fn patience(&self) -> Duration;
    /// What comes in.
    fn look(&self, now: Instant) -> Sight;
}

/// What can be seen from a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Somebody answers.
    pub is_open: bool,
    /// How long the way takes, once it was measured.
    pub light: Option<Duration>,
    /// Blocks that come in, and how much of each is here.
    pub incoming: Vec<(BlockId, u64)>,
}

/// What was found on the desk.
pub struct Clerk<D> {
    desk: D,
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
    Prove(Challenge),
    Log(Question),
    Spot(SpotQuestion),
    /// With the number of the mandate in it; 0 when there is none.
    Care(CareQuestion, u64),
    Releases(ReleaseQuestion),
    Ping,
}

impl<D: Desk> Clerk<D> {
    /// A clerk for the desk.
    pub fn new(desk: D) -> Self {
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
    pub fn turn(&mut self, post: &mut dyn Post, now: Instant) -> Result<(), D::Error> {
        if self.looked_at.is_some_and(|at| now.since(at) < LOOK_EVERY) {
            return Ok(());
        }
        self.looked_at = Some(now);
        let asked: BTreeSet<u64> = self.desk.asked()?.into_iter().collect();
        let gone: Vec<u64> = self.open.keys().filter(|number| !asked.contains(number)).copied().collect();
        for number in gone {
            if let Some(Open { errand: What::Fetch(_), .. }) = self.open.remove(&number) {
                // Whoever wanted it does not any more.
                post.send(Message::Fetch { request: number, parts: Vec::new() }.encode(now.0));
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
        let sight = post.look(now);
        let patience = post.patience() + 2 * sight.light.unwrap_or_default();
        let quiet = self.is_quiet(sight, patience, now);
        let first = self.first_mandate();
        for (number, open) in &mut self.open {
            // A vault reads for hours before it has a proof.
            let patience = if matches!(open.errand, What::Prove(_) | What::Spot(_)) {
                patience.max(PROOF_ASKED_EVERY)
            } else {
                patience
            };
            let late = open.moved.is_none_or(|at| quiet && now.since(at) >= patience);
            if late && open.question.is_none_or(|key| !post.has(key)) {
                open.moved = Some(now);
                let message = match &open.errand {
                    What::Fetch(missing) => Message::Fetch { request: *number, parts: parts_of(missing) },
                    What::List(kind, _) => Message::List { kind: *kind, known: self.desk.digest(*kind) },
                    What::Prove(challenge) => Message::Challenge { request: *number, challenge: challenge.clone() },
                    What::Log(question) => Message::LogAsked(question.clone()),
                    What::Spot(question) => Message::SpotAsked { request: *number, question: question.clone() },
                    //= FORMAT#F61 one mandate after the other, so that none overtakes an earlier one
                    What::Care(_, mandate) if *mandate > first => {
                        open.moved = None;
                        continue;
                    }
                    What::Care(question, _) => Message::CareAsked { request: *number, question: question.clone() },
                    What::Releases(question) => Message::ReleaseAsked { request: *number, question: question.clone() },
                    What::Ping => {
                        post.ping(*number);
                        continue;
                    }
                };
                open.question = post.send(message.encode(now.0));
            }
        }
        Ok(())
    }

    /// Whether nothing comes in that may be what is waited for. A block that stands still is none: whoever sent it may have
    /// been started anew, and know nothing of it.
    fn is_quiet(&mut self, sight: Sight, patience: Duration, now: Instant) -> bool {
        let before = std::mem::take(&mut self.coming);
        for (id, held) in sight.incoming {
            let same = before.get(&id).filter(|(before, _)| sight.is_open && *before == held);
            self.coming.insert(id, (held, same.map_or(now, |(_, since)| *since)));
        }
        sight.is_open && self.coming.values().all(|(_, since)| now.since(*since) >= patience)
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
            Some(Errand::Prove(challenge)) => What::Prove(challenge),
            Some(Errand::Log(question)) => What::Log(question),
            Some(Errand::Spot(question)) => What::Spot(question),
            Some(Errand::Care(question)) => {
                let signed = question.mandate.as_ref().and_then(|bytes| SignedMandate::decode(bytes).ok());
                What::Care(question, signed.map_or(0, |signed| signed.mandate.number))
            }
            Some(Errand::Releases(question)) => What::Releases(question),
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
    pub fn parcel(&mut self, request: u64, parts: &[Sent<'_>], now: Instant) -> Result<bool, D::Error> {
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
    pub fn listed(&mut self, page: Page, now: Instant) -> Result<(), D::Error> {
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

    /// A proof came.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn proved(&mut self, number: u64, answer: &Answer) -> Result<(), D::Error> {
        if self.open.get(&number).is_some_and(|open| matches!(open.errand, What::Prove(_))) {
            self.open.remove(&number);
            self.news += 1;
            self.desk.put_proof(number, answer)?;
            self.desk.done(number);
        }
        Ok(())
    }

    /// A spot proof came.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn spotted(&mut self, number: u64, answer: &SpotAnswer) -> Result<(), D::Error> {
        if self.open.get(&number).is_some_and(|open| matches!(open.errand, What::Spot(_))) {
            self.open.remove(&number);
            self.news += 1;
            let put = self.desk.put_spot(number, answer);
            self.desk.done(number);
            put?;
        }
        Ok(())
    }

    /// A report came, whose signature is good.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn cared(&mut self, number: u64, report: &SignedReport) -> Result<(), D::Error> {
        let is_it = |open: &Open| matches!(&open.errand, What::Care(q, _) if q.nonce == report.report.nonce);
        if self.open.get(&number).is_some_and(is_it) {
            self.open.remove(&number);
            self.news += 1;
            let put = self.desk.put_report(number, report);
            self.desk.done(number);
            put?;
        }
        Ok(())
    }

    /// The vault's word about releases came, whose signature is good.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn told_of_releases(&mut self, number: u64, word: &SignedWord) -> Result<(), D::Error> {
        let is_it = |open: &Open| matches!(&open.errand, What::Releases(q) if q.nonce == word.word.nonce);
        if self.open.get(&number).is_some_and(is_it) {
            self.news += 1;
            let put = self.desk.put_release_word(number, word);
            // Nobody may be there to ask anew for what became of a release: the errand stays, and is asked for again.
            if put.is_ok() || word.word.about.is_none() {
                self.open.remove(&number);
                self.desk.done(number);
            }
            put?;
        }
        Ok(())
    }

    /// The vault refuses a message: an older one knows no question about releases, and never will.
    pub fn refused(&mut self, key: u64) {
        let is_it = |open: &Open| open.question == Some(key) && matches!(open.errand, What::Releases(_));
        let Some(number) = self.open.iter().find(|(_, open)| is_it(open)).map(|(number, _)| *number) else { return };
        self.open.remove(&number);
        self.news += 1;
        self.desk.refuse_errand(number);
        self.desk.done(number);
    }

    /// The lowest number of a mandate that was not answered; 0 where there is none.
    fn first_mandate(&self) -> u64 {
        let numbers = self.open.values().filter_map(|open| match open.errand {
            What::Care(_, number) if number > 0 => Some(number),
            _ => None,
        });
        numbers.min().unwrap_or(0)
    }

    /// The vault's word about its log came; whether somebody at the desk had asked for it: it has the nonce of the question.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn logged(&mut self, word: &log::Answer) -> Result<bool, D::Error> {
        let nonce = SignedCheckpoint::decode(&word.note).ok().and_then(|note| note.checkpoint.nonce);
        let is_it = |open: &Open| matches!(&open.errand, What::Log(question) if Some(question.nonce) == nonce);
        let Some(number) = self.open.iter().find(|(_, open)| is_it(open)).map(|(number, _)| *number) else {
            return Ok(false);
        };
        self.open.remove(&number);
        self.news += 1;
        let put = self.desk.put_word(number, word);
        self.desk.done(number);
        put.map(|()| true)
    }

    /// An echo came back.
    ///
    /// # Errors
    /// As [`Clerk::parcel`].
    pub fn echoed(&mut self, number: u64, took: Duration) -> Result<(), D::Error> {
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
/// How often one asks again for a proof: the question may be lost, or the vault have been started anew.
const PROOF_ASKED_EVERY: Duration = Duration::from_secs(60);
