//! What the vault answers to what was sent, and questions where it does not.
//!
//! Receipts let the spool go of objects, denials say what cannot be sent. Step 17 of the walk. It must not know how
//! messages cross.

use std::time::Duration;

use lavatube_base::limits::ASKED_MAX;
use lavatube_base::{BlockId, Denial, ObjectId, Refusal};
use lavatube_client::courier::CourierError;
use lavatube_client::far::ReceiptBytes;
use lavatube_client::ledger::{self, LedgerError};
use lavatube_client::spool::{Spool, SpoolKind};
use lavatube_format::care::SignedReport;
use lavatube_format::message::Message;
use lavatube_format::receipt::Receipt;
use lavatube_format::release_word::SignedWord;

use super::{NearEnd, Progress};
use crate::far_end::Listener;
use crate::link_folder::LinkError;
use crate::told::Told;
use crate::waybill;

impl NearEnd {
    /// A message came in.
    pub(super) fn message(&mut self, id: BlockId, bytes: &[u8], listener: &mut dyn Listener) -> Result<(), LinkError> {
        let now = self.driver.now();
        match Message::decode(bytes) {
            Ok(Message::Receipted(receipt)) => {
                self.receipts.keep(&receipt);
                self.receipted(&receipt, listener)?;
                self.driver.link().accepted(id, now);
            }
            Ok(Message::Denied { id: object, denial, text }) => {
                self.denied(object, denial, text, listener);
                self.driver.link().accepted(id, now);
            }
            Ok(Message::Parcel { request, parts }) => {
                let put = self.clerk.parcel(request, &parts, now);
                self.driver.link().accepted(id, now);
                if !self.was_put(put, listener).unwrap_or(true) {
                    // Whoever wanted it was killed: the rest need not come.
                    let nothing = Message::Fetch { request, parts: Vec::new() }.encode(now.0);
                    self.outbox.send(self.driver.link(), nothing);
                }
            }
            Ok(Message::Listed(page)) => {
                let put = self.clerk.listed(page, now);
                self.driver.link().accepted(id, now);
                self.was_put(put, listener);
            }
            Ok(Message::Proof { request, answer }) => {
                let put = self.clerk.proved(request, &answer);
                self.driver.link().accepted(id, now);
                self.was_put(put, listener);
            }
            Ok(Message::Spot { request, answer }) => {
                let put = self.clerk.spotted(request, &answer);
                self.driver.link().accepted(id, now);
                self.was_put(put, listener);
            }
            Ok(Message::Cared { request, report }) => {
                self.cared(request, &report, listener);
                self.driver.link().accepted(id, now);
            }
            Ok(Message::ReleaseTold { request, word }) => {
                self.told_of_releases(request, &word, listener);
                self.driver.link().accepted(id, now);
            }
            Ok(Message::Logged(answer)) => {
                // What a command asked for is for that to judge.
                let put = self.clerk.logged(&answer);
                if self.was_put(put, listener) == Some(false) {
                    self.logged(Message::turn(bytes), answer, listener);
                }
                self.driver.link().accepted(id, now);
            }
            Ok(
                Message::Deposit { .. }
                | Message::Asked(_)
                | Message::Fetch { .. }
                | Message::List { .. }
                | Message::Challenge { .. }
                | Message::LogAsked(_)
                | Message::CareAsked { .. }
                | Message::ReleaseAsked { .. }
                | Message::SpotAsked { .. },
            ) => {
                listener.told(Told::Nonsense("a message that only depositors send".into()));
                self.driver.link().refused(id, now);
            }
            Err(e) => {
                listener.told(Told::Nonsense(e.to_string()));
                self.driver.link().refused(id, now);
            }
        }
        Ok(())
    }

    fn cared(&mut self, request: u64, report: &SignedReport, listener: &mut dyn Listener) {
        //= FORMAT#F60 what another signed is nobody's word
        if report.report.vault == self.signer.vault && report.verify(&self.signer.key).is_ok() {
            let put = self.clerk.cared(request, report);
            self.was_put(put, listener);
        } else {
            listener.told(Told::Nonsense("a report that the vault did not sign".into()));
        }
    }

    fn told_of_releases(&mut self, request: u64, word: &SignedWord, listener: &mut dyn Listener) {
        //= FORMAT#F62 what another signed is nobody's word
        if word.verify(self.signer.vault, &self.signer.key).is_ok() {
            if word.word.about.as_ref().is_some_and(|about| about.outcome.is_ok()) {
                // The log has grown by a release, and the next backup is to know.
                self.log.is_behind();
            }
            let put = self.clerk.told_of_releases(request, word);
            self.was_put(put, listener);
        } else {
            listener.told(Told::Nonsense("a word about releases that the vault did not sign".into()));
        }
    }

    /// A receipt came home: once it is in the ledger, the spool lets go.
    pub(super) fn receipted(&mut self, receipt: &Receipt, listener: &mut dyn Listener) -> Result<(), LinkError> {
        let id = receipt.body.object;
        let Some(kind) = SpoolKind::of(receipt.body.kind) else { return Ok(()) };
        let Some(spool) = self.spool.as_mut().filter(|spool| spool.waiting(kind).any(|waits| waits == id)) else {
            return Ok(());
        };
        match ledger::note(&self.state, &self.signer, kind, id, &ReceiptBytes(receipt.encode())) {
            Ok(()) => {}
            Err(e @ LedgerError::Unfit { .. }) => {
                listener.told(Told::Nonsense(e.to_string()));
                return Ok(());
            }
            Err(e @ LedgerError::State(_)) => {
                self.cannot_note(id, e, listener);
                return Ok(());
            }
        }
        self.again.is_noted();
        spool.remove(kind, id).map_err(CourierError::from)?;
        self.lens.remove(&id);
        if kind == SpoolKind::Manifest {
            self.needs.remove(&id);
            self.log.is_behind();
            waybill::forget(self.state.folder(), id);
        }
        let left = spool.list().map_err(CourierError::from)?.len();
        self.said = left;
        if let Some(Progress::UnderWay(key)) = self.objects.remove(&id) {
            self.keys.remove(&key);
            self.driver.link().withdraw(key);
        }
        listener.told(Told::Receipted { kind: kind.object_kind(), id, left });
        if left == 0 {
            self.listed_at = None;
        }
        Ok(())
    }

    pub(super) fn denied(&mut self, id: ObjectId, denial: Denial, why: String, listener: &mut dyn Listener) {
        // An object, or the card of whoever made it, is there and is stored once it can be; nothing more is sent of it.
        if matches!(denial, Denial::Away | Denial::Refused(Refusal::Full)) {
            let now = self.driver.now();
            let Some(progress) = self.objects.get_mut(&id) else { return };
            let was_told = matches!(progress, Progress::Held(_));
            if let Progress::Awaited(_) | Progress::Held(_) = progress {
                *progress = Progress::Held(now);
            }
            if !was_told {
                listener.told(Told::NotNow { id, why });
            }
            return;
        }
        let Some(progress) = self.objects.get(&id) else {
            if self.cards.denied(id, &why).is_some() {
                self.take_back_manifests();
                listener.told(Told::Denied { id, why });
            }
            return;
        };
        // It has signed for it.
        if *progress == Progress::Unnoted {
            return;
        }
        if denial == Denial::Absent {
            if matches!(progress, Progress::Travels(_)) {
                return;
            }
            // It is sent again. What crosses just now was not there when it was asked for.
            if matches!(progress, Progress::Awaited(_) | Progress::Held(_)) {
                self.objects.remove(&id);
            }
            return;
        }
        self.objects.insert(id, Progress::Stuck(format!("the vault refuses object {id}: {why}")));
        listener.told(Told::Denied { id, why });
    }

    /// A card was refused: manifests on their way are looked at again.
    pub(super) fn take_back_manifests(&mut self) {
        let manifests = self.keys.iter().filter(|(_, (kind, ..))| *kind == SpoolKind::Manifest);
        for (key, id) in manifests.map(|(key, (_, id, _))| (*key, *id)).collect::<Vec<_>>() {
            self.keys.remove(&key);
            self.driver.link().withdraw(key);
            self.objects.remove(&id);
            self.queue.push_back((SpoolKind::Manifest, id));
        }
    }

    /// Asks for receipts that are long in coming: they, or the other end's memory of them, may be lost.
    pub(super) fn ask(&mut self) {
        if self.question.is_some_and(|key| self.outbox.has(key)) {
            return;
        }
        let round_trip = self.driver.status().light.unwrap_or_default() * 2;
        let (now, patience) = (self.driver.now(), self.driver.link().patience());
        let late = |p: &&mut Progress| match p {
            Progress::Awaited(at) | Progress::Held(at) => now.since(*at) >= patience + round_trip,
            Progress::Travels(asked) => asked.is_none_or(|at| now.since(at) >= TRAVELS_ASKED_EVERY),
            _ => false,
        };
        let mut ids = Vec::new();
        for (id, progress) in self.objects.iter_mut().filter(|(_, p)| late(p)).take(ASKED_MAX) {
            ids.push(*id);
            *progress = match progress {
                Progress::Travels(_) => Progress::Travels(Some(now)),
                Progress::Held(_) => Progress::Held(now),
                _ => Progress::Awaited(now),
            };
        }
        if !ids.is_empty() {
            let question = Message::Asked(ids).encode(self.driver.now().0);
            self.question = self.outbox.send(self.driver.link(), question);
        }
    }
}

/// How often one asks whether what travels on a disk has arrived.
const TRAVELS_ASKED_EVERY: Duration = Duration::from_secs(600);
