//! Spot proofs: the slices that were asked for, one pack after the other (FORMAT section 19).
//!
//! To show a slice with what is beside it a whole pack is read and hashed: what is shown is there, and so was the rest a moment
//! ago. Step 18 of the walk. It must not know keys, nor why these slices.

use lavatube_base::slice::slice;
use lavatube_base::{Denial, Refusal, Thinned};
use lavatube_format::spot::{SpotAnswer, SpotQuestion};

use crate::{ObjectKind, Vault};

/// An answer that is being made.
pub struct SpotProver {
    question: SpotQuestion,
    answer: SpotAnswer,
}

impl SpotProver {
    /// Begins an answer.
    pub fn new(question: SpotQuestion) -> Self {
        let answer = SpotAnswer { nonce: question.nonce, slices: Vec::new() };
        Self { question, answer }
    }

    /// What is asked.
    pub fn question(&self) -> &SpotQuestion {
        &self.question
    }

    /// The slices of one more pack; whether there are further ones.
    pub fn step(&mut self, vault: &Vault) -> bool {
        let Some(next) = self.question.picks.get(self.answer.slices.len()) else { return false };
        let of_pack = self.question.picks[self.answer.slices.len()..].iter().take_while(|pick| pick.pack == next.pack);
        if let Some(thinned) = vault.read_thinned(next.pack) {
            let thinned = thinned.map_err(|e| e.denial());
            // What went is not there, and what stays is proved like that of a whole pack.
            let of = |thinned: &Thinned, number| thinned.slice(number).ok_or(Denial::Absent);
            let slices =
                of_pack.map(|pick| thinned.as_ref().map_err(|d| *d).and_then(|thinned| of(thinned, pick.number)));
            let slices: Vec<_> = slices.collect();
            self.answer.slices.extend(slices);
            return self.answer.slices.len() < self.question.picks.len();
        }
        let object = vault.find(next.pack).filter(|object| object.kind == ObjectKind::Pack);
        let mut bytes = Vec::new();
        let read = match object {
            None => Err(Denial::Absent),
            Some(object) => vault.read(object.id, 0..object.len, &mut bytes).map(drop).map_err(|e| e.denial()),
        };
        let none = Denial::Refused(Refusal::Caller);
        let slices: Vec<_> = of_pack.map(|pick| read.and_then(|()| slice(&bytes, pick.number).ok_or(none))).collect();
        self.answer.slices.extend(slices);
        self.answer.slices.len() < self.question.picks.len()
    }

    /// The answer: whole once [`SpotProver::step`] has said so.
    pub fn into_answer(self) -> SpotAnswer {
        self.answer
    }
}
