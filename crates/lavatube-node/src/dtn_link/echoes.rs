//! Questions whether anybody is there: our own, and how often those of strangers are answered. It must not know bundles.

use std::collections::VecDeque;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_base::limits::ECHOES_MAX;

use crate::port::now;

/// Our questions, and a measure of answers.
pub(super) struct Echoes {
    waiting: VecDeque<u64>,
    asked: VecDeque<(u64, Instant)>,
    /// So many more are answered in the second that began then.
    left: u32,
    at: Instant,
}

impl Echoes {
    pub fn new() -> Self {
        Self { waiting: VecDeque::new(), asked: VecDeque::new(), left: PER_SECOND, at: now() }
    }

    /// `nonce` is to be asked.
    pub fn ask(&mut self, nonce: u64) {
        self.waiting.push_back(nonce);
        self.waiting.truncate(ECHOES_MAX);
    }

    /// The next question that leaves now.
    pub fn next(&mut self) -> Option<[u8; 8]> {
        let nonce = self.waiting.pop_front()?;
        self.asked.push_back((nonce, now()));
        self.asked.truncate(ECHOES_MAX);
        Some(nonce.to_be_bytes())
    }

    /// An answer: which question it is to, and how long it took.
    pub fn answered(&mut self, payload: &[u8]) -> Option<(u64, Duration)> {
        let nonce = u64::from_be_bytes(payload.try_into().ok()?);
        let at = self.asked.iter().position(|(asked, _)| *asked == nonce)?;
        let (_, sent) = self.asked.remove(at)?;
        Some((nonce, now().since(sent)))
    }

    /// Whether one more stranger is answered.
    pub fn may_answer(&mut self) -> bool {
        if now().since(self.at) >= Duration::from_secs(1) {
            (self.left, self.at) = (PER_SECOND, now());
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

const PER_SECOND: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_is_to_one_question_and_strangers_have_ten_a_second() {
        let mut echoes = Echoes::new();
        echoes.ask(7);
        let question = echoes.next().unwrap();
        assert!(echoes.next().is_none() && echoes.answered(b"8 bytes!").is_none() && echoes.answered(b"").is_none());
        assert!(matches!(echoes.answered(&question), Some((7, _))) && echoes.answered(&question).is_none());
        let begin = now();
        let answered = (0..100).filter(|_| echoes.may_answer()).count() as u64;
        assert!((10..=10 * (2 + now().since(begin).as_secs())).contains(&answered), "{answered}");
    }
}
