//! Asks the far vault for its log at each contact, and once more after it has signed for manifests, and holds it to what it
//! said before. On an alarm nothing more is sent.
//!
//! What is believed, and what is kept, is decided in `lavatube_client::log`. Step 18 of the walk. It must not know how
//! messages cross.

mod releases;

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_client::far::LogWord;
use lavatube_client::log::{self, Inquiry, Verdict};
use lavatube_format::log::Answer;
use lavatube_format::message::Message;
use lavatube_link::Line;

use super::{LIST_EVERY, NearEnd};
use crate::far_end::Listener;
use crate::told::Told;
use crate::{clock, entropy};
use releases::ReleaseAsking;

/// How the vault's log is asked for.
#[derive(Default)]
pub(super) struct LogAsking {
    /// What was asked, in which turn, and when.
    asked: Option<(Inquiry, u64, Instant)>,
    /// When one last looked whether it is time to ask.
    looked: Option<Instant>,
    /// When it was last answered.
    answered: Option<Instant>,
    /// The line was not open since.
    was_away: bool,
    /// Manifests were receipted since it was last asked for.
    is_behind: bool,
    /// Why an alarm stands.
    alarm: Option<String>,
    /// The size that was last told.
    told: Option<u64>,
    /// Whether releases are among what it has gained.
    releases: ReleaseAsking,
}

impl LogAsking {
    /// Why nothing is to be sent, if an alarm stands.
    pub(super) fn alarm(&self) -> Option<String> {
        self.alarm.clone()
    }

    /// The vault has signed for a manifest.
    pub(super) fn is_behind(&mut self) {
        self.is_behind = true;
    }
}

impl NearEnd {
    /// Looks whether an alarm stands, and asks for the log when it is time to.
    pub(super) fn ask_for_log(&mut self, listener: &mut dyn Listener) {
        let now = self.driver.now();
        if self.log.looked.is_some_and(|at| now.since(at) < LIST_EVERY) {
            return;
        }
        self.log.looked = Some(now);
        self.ask_for_releases();
        // A state that cannot be read can note no receipts either: that is told, and ends nothing.
        let Ok(standing) = log::standing(&self.state) else { return };
        let standing = standing.map(|standing| standing.why);
        let before = std::mem::replace(&mut self.log.alarm, standing.clone());
        if let Some(why) = standing.filter(|_| before.is_none()) {
            listener.told(Told::LogAlarm(why));
        }
        let status = self.driver.status();
        if status.line != Line::Open {
            self.log.was_away = true;
        }
        if self.sent.is_some() || status.line != Line::Open {
            return;
        }
        let patience = self.driver.link().patience() + 2 * status.light.unwrap_or_default();
        if self.log.asked.as_ref().is_some_and(|(_, _, at)| now.since(*at) < patience.max(ASKED_AGAIN)) {
            return;
        }
        let is_old = self.log.answered.is_none_or(|at| now.since(at) >= ASKED_EVERY);
        if !(is_old || self.log.was_away || self.log.is_behind || self.log.asked.is_some()) {
            return;
        }
        let Ok(nonce) = entropy::bytes() else { return };
        let Ok(inquiry) = Inquiry::new(&self.state, self.signer, nonce) else { return };
        let turn = now.0;
        self.outbox.send(self.driver.link(), Message::LogAsked(inquiry.question.clone()).encode(turn));
        self.log.asked = Some((inquiry, turn, now));
        (self.log.was_away, self.log.is_behind) = (false, false);
    }

    /// Whether an answer may be expected any moment.
    pub(super) fn is_log_awaited(&mut self) -> bool {
        let status = self.driver.status();
        let (now, light) = (self.driver.now(), status.light.unwrap_or_default());
        self.are_releases_awaited()
            || (self.log.is_behind && status.line == Line::Open)
            || self.log.asked.as_ref().is_some_and(|(_, _, at)| now.since(*at) < 2 * light + AWAITED)
    }

    /// The vault said what its log is. What answers an earlier question is late, and says nothing any more.
    pub(super) fn logged(&mut self, turn: u64, answer: Answer, listener: &mut dyn Listener) {
        let Some((inquiry, ..)) = self.log.asked.take_if(|(_, asked, _)| *asked == turn) else { return };
        self.log.answered = Some(self.driver.now());
        match inquiry.conclude(&self.state, &LogWord::Signed(answer), clock::wall_now()) {
            Ok(Verdict::Sound(contact)) => {
                let size = contact.checkpoint.size;
                self.log_is_of(size);
                if self.log.told.replace(size) != Some(size) {
                    listener.told(Told::LogSound(size));
                }
            }
            Ok(Verdict::Alarm(alarm)) => {
                self.log.alarm = Some(alarm.to_string());
                listener.told(Told::LogAlarm(alarm.to_string()));
            }
            Ok(Verdict::Unknown(_)) => {}
            Err(e) => {
                // It is asked again, and answered again.
                self.log.answered = None;
                listener.told(Told::NotNoted(e.to_string()));
            }
        }
    }
}

/// How often a log is asked for in a contact that is open for long.
const ASKED_EVERY: Duration = Duration::from_secs(3600);
/// How long, beyond the way there and back, whoever could end waits for an answer.
const AWAITED: Duration = Duration::from_secs(2);
/// No question is asked again before.
const ASKED_AGAIN: Duration = Duration::from_secs(30);
