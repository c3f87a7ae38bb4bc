//! What a link may never do, whatever the dark does: use a counter twice, give a block that was not sent, give one again
//! that was answered, say that something is there which is not, or believe a datagram that is not the peer's and new.
//!
//! The watch of a link stands between its ends and their engines and writes down what passes. What is wrong it keeps, for
//! the loop to find.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lavatube_base::digest::h16;
use lavatube_base::{BlockId, ObjectId};
use lavatube_format::datagram::COUNTER_MAX;

use super::Verdict;
use crate::book::Book;
use crate::chance::Chance;
use crate::wires::Wires;

/// What passed at one end.
#[derive(Default)]
struct End {
    /// The first counter that may be used: none below was, or all may have been.
    next_counter: u64,
    /// Datagrams that left, some of them.
    sent: VecDeque<Vec<u8>>,
    /// Of this life: the floor it began with, counters that came in, and blocks that were answered for good.
    floor: u64,
    heard: BTreeSet<u64>,
    answered: BTreeSet<BlockId>,
}

/// What passed at a near end from which no word comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// An object is begun to be sent.
    Begun(ObjectId),
    /// It was sent, and does not arrive once in so many times.
    Spent {
        /// The object.
        id: ObjectId,
        /// In how many times.
        one_in: u64,
    },
}

/// What passed on a link.
pub struct Watch {
    passed: Vec<Passed>,
    ends: [End; 2],
    /// Blocks that were handed to an engine to be sent: by whom, and their length.
    blocks: BTreeMap<BlockId, (usize, u64)>,
    book: Arc<Book>,
    wires: Arc<Wires>,
    wrong: Option<String>,
}

impl Watch {
    /// Nothing has passed yet.
    pub fn new(book: &Arc<Book>, wires: &Arc<Wires>) -> Self {
        let (book, wires) = (book.clone(), wires.clone());
        Self { passed: Vec::new(), ends: Default::default(), blocks: BTreeMap::new(), book, wires, wrong: None }
    }

    /// The first thing that was wrong.
    ///
    /// # Errors
    /// It.
    pub fn verdict(&self) -> Verdict {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// Something is wrong.
    pub fn blame(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    /// An end begins to live, with what its disk says came in before.
    pub fn born(&mut self, end: usize, floor: u64) {
        let End { heard, answered, .. } = &mut self.ends[end];
        heard.clear();
        answered.clear();
        self.ends[end].floor = floor;
    }

    /// A block is handed to the engine of `end` to be sent. Its id is a digest of its bytes.
    pub fn submitted(&mut self, end: usize, id: BlockId, len: u64) {
        self.blocks.insert(id, (end, len));
    }

    /// A datagram leaves `end`, whose disk says that counters below `reserved` are reserved.
    pub fn leaves(&mut self, end: usize, datagram: &[u8], reserved: u64) {
        let counter = counter_of(datagram);
        let next = self.ends[end].next_counter;
        //= FORMAT#F21 a counter is used once, and only from the reserved range
        if counter < next {
            self.blame(format!("{} used counter {counter} a second time", name(end)));
        }
        if counter >= reserved {
            self.blame(format!("{} used counter {counter}, and {reserved} is the end of those on its disk", name(end)));
        }
        self.ends[end].next_counter = counter + 1;
        self.wires.search("a datagram", datagram);
        let sent = &mut self.ends[end].sent;
        if sent.len() == SENT_MAX {
            // The oldest ones stay for longer than the others.
            sent.remove(SENT_MAX / 8 + usize::try_from(counter % (SENT_MAX as u64 / 2)).unwrap_or(0));
        }
        sent.push_back(datagram.to_vec());
    }

    /// One of the datagrams that left an end.
    pub fn recorded(&self, end: usize, chance: &mut Chance) -> Option<Vec<u8>> {
        self.ends[end].sent.get(chance.index(self.ends[end].sent.len())).cloned()
    }

    /// Whether `end` may take this datagram, which its peer once sent, for new: not if it came in before, in this life or
    /// below the floor that was kept of the last one.
    pub fn may_be_new(&self, end: usize, datagram: &[u8]) -> bool {
        let counter = counter_of(datagram);
        counter >= self.ends[end].floor && !self.ends[end].heard.contains(&counter)
    }

    /// The engine of `end` took a datagram for its peer's and new.
    pub fn heard(&mut self, end: usize, datagram: &[u8]) {
        let counter = counter_of(datagram);
        let is_new = self.may_be_new(end, datagram);
        if !self.ends[end].heard.insert(counter) || !is_new {
            self.blame(format!("{} took datagram {counter} for new, which came before", name(end)));
        }
    }

    /// The engine of `end` gives a block.
    pub fn given(&mut self, end: usize, id: BlockId, bytes: &[u8]) {
        let wrong = match self.blocks.get(&id) {
            None => Some("that nobody sent"),
            Some((from, _)) if *from == end => Some("that it sent itself"),
            Some((_, len)) if BlockId(h16(&[bytes])) != id || bytes.len() as u64 != *len => {
                Some("with other bytes than were sent")
            }
            Some(_) if self.ends[end].answered.contains(&id) => Some("that it has answered for good"),
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            self.blame(format!("{} was given block {id} {wrong}", name(end)));
        }
    }

    /// `end` has answered for good.
    pub fn answered(&mut self, end: usize, id: BlockId) {
        self.ends[end].answered.insert(id);
    }

    /// Something passed at the near end.
    pub fn passes(&mut self, what: Passed) {
        self.passed.push(what);
    }

    /// What passed there since this was last asked.
    pub fn passed(&mut self) -> Vec<Passed> {
        std::mem::take(&mut self.passed)
    }

    /// The far end is said to have an object.
    pub fn delivered(&mut self, id: ObjectId) {
        if !self.book.has_receipt(id) {
            let place = self.wires.label(&id.to_string()).unwrap_or_else(|| id.short());
            self.blame(format!("object {place} was acknowledged and the vault has not stored it"));
        }
    }
}

/// The counter of a datagram, whoever it is from.
fn counter_of(datagram: &[u8]) -> u64 {
    datagram.first_chunk().map_or(0, |head| u64::from_be_bytes(*head) & COUNTER_MAX)
}

/// An end for people.
pub fn name(end: usize) -> &'static str {
    ["the near end", "the far end"][end]
}

/// Datagrams that are remembered for somebody to throw them again.
const SENT_MAX: usize = 512;
