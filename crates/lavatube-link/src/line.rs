//! Whether it is worth sending: the contact is open, and somebody answers.
//!
//! ```text
//!            open                unanswered
//!   Shut ------------> Open <-----------------> Silent
//!    ^                  |        answered          |
//!    |      close       |          close           |
//!    +------------------+--------------------------+
//! ```
//!
//! A contact that fails to open, or closes early, costs a little more than one round trip of bytes; then there are only probes,
//! more and more rarely. It must not know what is sent.

/// Whether it is worth sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// No contact: nothing is sent.
    Shut,
    /// Blocks are sent.
    Open,
    /// A contact, but no answer for too long: only probes are sent.
    Silent,
}

/// What may happen to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A contact opened.
    Open,
    /// The contact closed.
    Close,
    /// Nothing was answered for too long.
    Unanswered,
    /// An answer came.
    Answered,
}

impl Line {
    /// The one transition table; what it does not name changes nothing.
    pub(crate) fn next(self, turn: Turn) -> Self {
        match (self, turn) {
            (Self::Shut, Turn::Open) | (Self::Silent, Turn::Answered) => Self::Open,
            (Self::Open, Turn::Unanswered) => Self::Silent,
            (_, Turn::Close) => Self::Shut,
            (line, _) => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_drawing() {
        use Line::{Open, Shut, Silent};
        let drawn = [
            (Shut, Turn::Open, Open),
            (Open, Turn::Unanswered, Silent),
            (Silent, Turn::Answered, Open),
            (Open, Turn::Close, Shut),
            (Silent, Turn::Close, Shut),
        ];
        for line in [Shut, Open, Silent] {
            for turn in [Turn::Open, Turn::Close, Turn::Unanswered, Turn::Answered] {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (line, turn));
                assert_eq!(line.next(turn), arrow.map_or(line, |(_, _, to)| *to), "{line:?} {turn:?}");
            }
        }
    }
}
