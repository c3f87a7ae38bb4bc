//! How far a session is.
//!
//! ```text
//!             greeted            opened             end
//!   Greeting ---------> Opening --------> Open --------------+
//!       |                |  |               |                v
//!       |                |  +--- end -------|-----------> Ending
//!       | close          | close            | close          | close
//!       +----------------+------------------+----------------+-----> Closed
//! ```

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The peer's greeting is awaited.
    Greeting,
    /// What it is and takes is awaited.
    Opening,
    /// Bundles are sent and received.
    Open,
    /// What is under way is finished, and nothing begins.
    Ending,
    /// It is over.
    Closed,
}

/// What may happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// A greeting came.
    Greeted,
    /// Both have said what they are and take.
    Opened,
    /// One of both wants to end it.
    End,
    /// All is done, or nothing more can be.
    Close,
}

impl Stage {
    /// The one transition table; what it does not name changes nothing.
    pub(super) fn next(self, turn: Turn) -> Self {
        match (self, turn) {
            (Self::Greeting, Turn::Greeted) => Self::Opening,
            (Self::Opening, Turn::Opened) => Self::Open,
            (Self::Opening | Self::Open, Turn::End) => Self::Ending,
            (_, Turn::Close) => Self::Closed,
            (stage, _) => stage,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_drawing() {
        use Stage::{Closed, Ending, Greeting, Open, Opening};
        let drawn = [
            (Greeting, Turn::Greeted, Opening),
            (Opening, Turn::Opened, Open),
            (Opening, Turn::End, Ending),
            (Open, Turn::End, Ending),
            (Greeting, Turn::Close, Closed),
            (Opening, Turn::Close, Closed),
            (Open, Turn::Close, Closed),
            (Ending, Turn::Close, Closed),
        ];
        for stage in [Greeting, Opening, Open, Ending, Closed] {
            for turn in [Turn::Greeted, Turn::Opened, Turn::End, Turn::Close] {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (stage, turn));
                assert_eq!(stage.next(turn), arrow.map_or(stage, |(_, _, to)| *to), "{stage:?} {turn:?}");
            }
        }
    }
}
