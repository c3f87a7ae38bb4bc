//! What a daemon of the link tells of its work while it runs, for people and logs.
//!
//! Values only; the terminal is elsewhere. It must not know how they are shown.

use std::net::SocketAddr;

use lavatube_base::ObjectId;
use lavatube_format::shard::ObjectKind;
use lavatube_link::Line;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The daemon is there.
    Listening(SocketAddr),
    /// The other end was heard at this address, and is sent to there.
    Peer(SocketAddr),
    /// The line is open, silent, or shut by the contact plan.
    Line(Line),
    /// The other end came with other keys: those of the recovery key, or its own again.
    Recovered,
    /// Objects wait to cross.
    Waiting(usize),
    /// The vault has stored an object.
    Stored {
        /// What it is.
        kind: ObjectKind,
        /// The object.
        id: ObjectId,
        /// Its bytes.
        len: u64,
    },
    /// The vault holds a manifest until its packs are there.
    Held {
        /// The object.
        id: ObjectId,
        /// What is missing.
        why: String,
    },
    /// The vault cannot store an object now, for want of room or of drives: it holds it and tries again.
    NotNow {
        /// The object.
        id: ObjectId,
        /// What is wrong there.
        why: String,
    },
    /// The vault does not take an object.
    Denied {
        /// The object.
        id: ObjectId,
        /// Why.
        why: String,
    },
    /// The vault's receipt came home, and the spool let go.
    Receipted {
        /// What it is.
        kind: ObjectKind,
        /// The object.
        id: ObjectId,
        /// Objects that still wait.
        left: usize,
    },
    /// An object was sent to where no word comes back: it stays in the spool.
    Sent {
        /// The object.
        id: ObjectId,
        /// The chance that this sending did not arrive is at most one in so many, if losses are no worse than provided for.
        one_in: u64,
    },
    /// An object in the spool is not what it was.
    Damaged(ObjectId),
    /// An object in the spool cannot be read.
    Unreadable {
        /// The object.
        id: ObjectId,
        /// What the system says.
        why: String,
    },
    /// Receipts cannot be noted on this machine, because of this: what they are for stays in the spool until they can.
    NotNoted(String),
    /// What came for a command cannot be put down on this machine, because of this: it is not sent for it.
    NotPut(String),
    /// The vault's log goes on from what was known of it, and has so many entries.
    LogSound(u64),
    /// The vault's log is not what it was: nothing more is sent.
    LogAlarm(String),
    /// The vault has taken a mandate, or has not, and why.
    Mandate(String),
    /// The other end sent what makes no sense.
    Nonsense(String),
}
