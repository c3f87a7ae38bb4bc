//! Releases that come over the link: each is taken or refused as any other object, and the answer says what became of it.
//!
//! Whoever asks again for the same is answered again: a release that the log has is as good as taken. It must not know what a release frees. Step 18 of the walk.

use lavatube_base::{BlockId, Verified};
use lavatube_format::message::Message;
use lavatube_format::release::SignedRelease;
use lavatube_format::release_word::{About, ReleaseQuestion};

use super::{BlockDone, Verdict, Word, Worker, Workplace};
use crate::ObjectKind;

impl<W: Workplace> Worker<W> {
    /// Takes the release in a question, if there is one, and answers.
    pub(super) fn of_releases(
        &mut self,
        block: BlockId,
        request: u64,
        turn: u64,
        question: &ReleaseQuestion,
    ) -> BlockDone {
        let mut done = BlockDone::new(block, Verdict::Accepted);
        let about = question.release.as_ref().map(|bytes| {
            let object = Verified::hash(bytes);
            let number = SignedRelease::decode(bytes).map_or(0, |signed| signed.release.number);
            let id = object.id();
            let was_here = self.place.vault().contains(id);
            let outcome = match self.store(ObjectKind::Release, object) {
                Ok(receipt) => {
                    if !was_here {
                        done.told.push(Word::Stored { kind: ObjectKind::Release, id, len: bytes.len() as u64 });
                    }
                    Ok(receipt.encode())
                }
                Err(e) => {
                    let why = e.to_string();
                    done.told.push(Word::Denied { id, why: why.clone() });
                    Err(why)
                }
            };
            About { id, number, outcome }
        });
        let word = self.place.vault_mut().answer_of_releases(question, about.clone());
        let word = match word {
            Err(_) if self.reopen() => self.place.vault_mut().answer_of_releases(question, about),
            other => other,
        };
        // Where nothing can be said, whoever asks asks again.
        let told = word.ok().map(|word| Message::ReleaseTold { request, word: Box::new(word) }.encode(turn));
        done.messages = told.into_iter().collect();
        done
    }
}
