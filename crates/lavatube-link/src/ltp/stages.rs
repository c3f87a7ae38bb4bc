//! Where a block is, on its way out and on its way in: two tables, as drawn.
//!
//! Out:
//!
//! ```text
//!             begin            sent              whole
//!   Waiting ---------> Sending ------> Asking ----------> Done <--+
//!      |                 |              |  ^                ^     |
//!      |                 |      missing |  | sent           |     |
//!      |                 |              v  |     whole      |     |
//!      |                 |            Resending ------------+     |
//!      |                 | give up      |                         |
//!      |                 +------> GivingUp -----------------------+
//!      |  give up                                answered         |
//!      +----------------------------------------------------------+
//! ```
//!
//! Asking and Resending give up as Sending does; a green block is whole when it is sent; when the peer gives up, a block is done from wherever
//! it is. In:
//!
//! ```text
//!               whole            acknowledged
//!   Receiving ----------> Whole --------------> Done <--+
//!       |                                        ^      |
//!       | give up                       answered |      |
//!       +----------------> GivingUp -------------+      |
//!       |                                               |
//!       +--- and Whole: given up by the peer -----------+
//! ```
//!
//! It must not know what makes a block turn.

/// Where a block is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing {
    /// Nothing of it was sent.
    Waiting,
    /// It is being sent for the first time.
    Sending,
    /// All of it was sent; a report is awaited.
    Asking,
    /// What was missing is being sent again.
    Resending,
    /// It is given up, and the peer is told so.
    GivingUp,
    /// Nothing is to be done any more.
    Done,
}

/// What may happen to a block on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutTurn {
    /// Its first piece is to be sent.
    Begin,
    /// All that was to be sent is.
    Sent,
    /// Something is missing.
    Missing,
    /// Nothing is missing.
    Whole,
    /// It was given up here.
    GiveUp,
    /// The peer knows that it was given up, or does not say.
    Answered,
    /// The peer gave it up.
    GivenUp,
}

impl Outgoing {
    /// The one transition table; what it does not name changes nothing.
    pub(crate) fn next(self, turn: OutTurn) -> Self {
        match (self, turn) {
            (Self::Waiting, OutTurn::Begin) => Self::Sending,
            (Self::Sending | Self::Resending, OutTurn::Sent) => Self::Asking,
            (Self::Asking, OutTurn::Missing) => Self::Resending,
            (Self::Sending | Self::Asking | Self::Resending, OutTurn::Whole) => Self::Done,
            (Self::Sending | Self::Asking | Self::Resending, OutTurn::GiveUp) => Self::GivingUp,
            (Self::Waiting, OutTurn::GiveUp) | (Self::GivingUp, OutTurn::Answered) | (_, OutTurn::GivenUp) => {
                Self::Done
            }
            (state, _) => state,
        }
    }
}

/// Where a block is on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// Pieces are missing.
    Receiving,
    /// It was handed out; reports wait for their acknowledgement.
    Whole,
    /// It is given up, and the peer is told so.
    GivingUp,
    /// Nothing is to be done any more.
    Done,
}

/// What may happen to a block on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InTurn {
    /// The last piece came.
    Whole,
    /// No report waits for its acknowledgement.
    Acknowledged,
    /// It was given up here.
    GiveUp,
    /// The peer knows that it was given up, or does not say.
    Answered,
    /// The peer gave it up.
    GivenUp,
}

impl Incoming {
    /// The one transition table; what it does not name changes nothing.
    pub(crate) fn next(self, turn: InTurn) -> Self {
        match (self, turn) {
            (Self::Receiving, InTurn::Whole) => Self::Whole,
            (Self::Receiving, InTurn::GiveUp) => Self::GivingUp,
            (Self::Whole, InTurn::Acknowledged)
            | (Self::GivingUp, InTurn::Answered)
            | (Self::Receiving | Self::Whole, InTurn::GivenUp) => Self::Done,
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_the_first_drawing() {
        use Outgoing::{Asking, Done, GivingUp, Resending, Sending, Waiting};
        let drawn = [
            (Waiting, OutTurn::Begin, Sending),
            (Sending, OutTurn::Sent, Asking),
            (Asking, OutTurn::Missing, Resending),
            (Resending, OutTurn::Sent, Asking),
            (Sending, OutTurn::Whole, Done),
            (Asking, OutTurn::Whole, Done),
            (Resending, OutTurn::Whole, Done),
            (Waiting, OutTurn::GiveUp, Done),
            (Sending, OutTurn::GiveUp, GivingUp),
            (Asking, OutTurn::GiveUp, GivingUp),
            (Resending, OutTurn::GiveUp, GivingUp),
            (GivingUp, OutTurn::Answered, Done),
        ];
        let turns = [
            OutTurn::Begin,
            OutTurn::Sent,
            OutTurn::Missing,
            OutTurn::Whole,
            OutTurn::GiveUp,
            OutTurn::Answered,
            OutTurn::GivenUp,
        ];
        for state in [Waiting, Sending, Asking, Resending, GivingUp, Done] {
            for turn in turns {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (state, turn)).map(|(_, _, to)| *to);
                // The peer may give up whatever it wants.
                let stays = if turn == OutTurn::GivenUp { Done } else { state };
                assert_eq!(state.next(turn), arrow.unwrap_or(stays), "{state:?} {turn:?}");
            }
        }
    }

    #[test]
    fn the_way_in_is_the_second_drawing() {
        use Incoming::{Done, GivingUp, Receiving, Whole};
        let drawn = [
            (Receiving, InTurn::Whole, Whole),
            (Whole, InTurn::Acknowledged, Done),
            (Receiving, InTurn::GiveUp, GivingUp),
            (GivingUp, InTurn::Answered, Done),
            (Receiving, InTurn::GivenUp, Done),
            (Whole, InTurn::GivenUp, Done),
        ];
        for state in [Receiving, Whole, GivingUp, Done] {
            for turn in [InTurn::Whole, InTurn::Acknowledged, InTurn::GiveUp, InTurn::Answered, InTurn::GivenUp] {
                let arrow = drawn.iter().find(|(from, what, _)| (*from, *what) == (state, turn));
                assert_eq!(state.next(turn), arrow.map_or(state, |(_, _, to)| *to), "{state:?} {turn:?}");
            }
        }
    }
}
