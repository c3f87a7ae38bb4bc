//! What depositor and vault say to each other over a link (FORMAT section 12): one message a block.
//!
//! A message stands alone: it may come twice, late, or in any order, and means the same. Nothing in it is believed because of
//! the way it came: objects carry their digests, manifests and receipts their signatures, parts of packs their seals. Steps
//! 7, 17, 19 and 20 of the walk. It must not know how blocks travel.

mod pieces;
mod reading;

pub use pieces::{parts_of, piece_sent, pieces_of};
pub use reading::{Page, Part, Sent, Withheld, list_digest};

use lavatube_base::limits::{ASKED_MAX, DENIAL_TEXT_LEN_MAX, OBJECT_LEN_MAX};
use lavatube_base::{Denial, ObjectId, Refusal};

use crate::audit::{self, Challenge};
use crate::care::{CareQuestion, SignedReport};
use crate::log::{Answer, Question};
use crate::receipt::Receipt;
use crate::release_word::{ReleaseQuestion, SignedWord};
use crate::shard::ObjectKind;
use crate::spot::{SpotAnswer, SpotQuestion};
use crate::wire::{Malformed, Reader, put_bytes, put_varint};

/// A message; an object is borrowed from the block it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message<'a> {
    /// To the vault: keep this object.
    Deposit {
        /// What it is.
        kind: ObjectKind,
        /// Its bytes.
        object: &'a [u8],
    },
    /// From the vault: it is durable. Not yet verified.
    Receipted(Receipt),
    /// From the vault: it does not keep the object.
    Denied {
        /// The object.
        id: ObjectId,
        /// On what ground.
        denial: Denial,
        /// The vault's account, for people.
        text: String,
    },
    /// To the vault: which of these do you have? Answered by a receipt for each, or a denial.
    Asked(Vec<ObjectId>),
    /// To the vault: send these parts of objects. Answered by parcels; no parts at all withdraw the request.
    Fetch {
        /// The request's number.
        request: u64,
        /// The parts, those of an object ascending and one behind the other.
        parts: Vec<Part>,
    },
    /// From the vault: parts that were asked for.
    Parcel {
        /// The request's number.
        request: u64,
        /// The parts.
        parts: Vec<Sent<'a>>,
    },
    /// To the vault: list all objects of a kind. Answered by its pages, or by one without objects when the list is known.
    List {
        /// The kind.
        kind: ObjectKind,
        /// The digest of the list that is known; zeros for none.
        known: [u8; 16],
    },
    /// From the vault: a page of a list.
    Listed(Page),
    /// To the vault: prove what you have. Answered by a proof, when it is ready.
    Challenge {
        /// The request's number.
        request: u64,
        /// What is to be proved.
        challenge: Challenge,
    },
    /// From the vault: what it was challenged to prove.
    Proof {
        /// The request's number.
        request: u64,
        /// The answer.
        answer: audit::Answer,
    },
    /// To the vault: say what your log is.
    LogAsked(Question),
    /// From the vault: what its log is.
    Logged(Answer),
    /// To the vault: say how you are, and perhaps do this. Answered by [`Message::Cared`].
    CareAsked {
        /// The request's number.
        request: u64,
        /// What is asked.
        question: CareQuestion,
    },
    /// From the vault: how it is. Not yet verified.
    Cared {
        /// The request's number.
        request: u64,
        /// The report.
        report: Box<SignedReport>,
    },
    /// To the vault: say what a release would stand on, and perhaps take this one. Answered by [`Message::ReleaseTold`].
    ReleaseAsked {
        /// The request's number.
        request: u64,
        /// What is asked.
        question: ReleaseQuestion,
    },
    /// From the vault: what a release stands on, and what became of the one that came. Not yet verified.
    ReleaseTold {
        /// The request's number.
        request: u64,
        /// The vault's word.
        word: Box<SignedWord>,
    },
    /// To the vault: show these slices. Answered by [`Message::Spot`], when all are read.
    SpotAsked {
        /// The request's number.
        request: u64,
        /// Which.
        question: SpotQuestion,
    },
    /// From the vault: the slices.
    Spot {
        /// The request's number.
        request: u64,
        /// They.
        answer: SpotAnswer,
    },
}

const WHAT: &str = "message";
const DEPOSIT: u8 = 1;
const RECEIPTED: u8 = 2;
const DENIED: u8 = 3;
const ASKED: u8 = 4;
const FETCH: u8 = 5;
const PARCEL: u8 = 6;
const LIST: u8 = 7;
const LISTED: u8 = 8;
const CHALLENGE: u8 = 9;
const PROOF: u8 = 10;
const LOG_ASKED: u8 = 11;
const LOGGED: u8 = 12;
const CARE_ASKED: u8 = 13;
const CARED: u8 = 14;
const RELEASES: u8 = 15;
const SPOT_ASKED: u8 = 17;
const SPOT: u8 = 18;
/// Which of the two a message about releases is.
const IS_ASKED: u8 = 0;
const IS_TOLD: u8 = 1;

impl<'a> Message<'a> {
    /// The message's bytes: a block. A link carries no block twice, so that a question asked again, and its answer, need a
    /// `turn` that they did not have before; an answer has that of its question. Objects and receipts have none.
    ///
    /// # Panics
    /// When it has more objects or parts than its limits say: a mistake of our caller.
    pub fn encode(&self, turn: u64) -> Vec<u8> {
        let begin = |message: u8| [&[message], &turn.to_le_bytes()[..]].concat();
        let numbered = |message: u8, request: &u64| [&begin(message)[..], &request.to_le_bytes()].concat();
        match self {
            Self::Deposit { kind, object } => {
                let mut out = Vec::with_capacity(2 + object.len());
                out.extend([DEPOSIT, kind.code()]);
                out.extend_from_slice(object);
                out
            }
            Self::Receipted(receipt) => [&[RECEIPTED], &receipt.encode()[..]].concat(),
            Self::Denied { id, denial, text } => {
                let mut out = begin(DENIED);
                out.push(ground(*denial));
                out.extend_from_slice(&id.0);
                put_bytes(&mut out, cut(text).as_bytes());
                out
            }
            Self::Asked(ids) => {
                assert!(ids.len() <= ASKED_MAX, "asked for too many objects at once");
                let mut out = begin(ASKED);
                put_varint(&mut out, ids.len() as u64);
                ids.iter().for_each(|id| out.extend_from_slice(&id.0));
                out
            }
            Self::Fetch { request, parts } => {
                let mut out = begin(FETCH);
                out.extend_from_slice(&request.to_le_bytes());
                reading::put_parts(&mut out, parts);
                out
            }
            Self::Parcel { request, parts } => {
                let mut out = begin(PARCEL);
                out.extend_from_slice(&request.to_le_bytes());
                reading::put_sent(&mut out, parts);
                out
            }
            Self::List { kind, known } => [&begin(LIST)[..], &[kind.code()], known].concat(),
            Self::Listed(page) => {
                let mut out = begin(LISTED);
                reading::put_page(&mut out, page);
                out
            }
            Self::Challenge { request, challenge } => {
                [&begin(CHALLENGE)[..], &request.to_le_bytes(), &challenge.encode()].concat()
            }
            Self::Proof { request, answer } => [&begin(PROOF)[..], &request.to_le_bytes(), &answer.encode()].concat(),
            Self::LogAsked(question) => written(begin(LOG_ASKED), |out| question.encode(out)),
            Self::Logged(answer) => written(begin(LOGGED), |out| answer.encode(out)),
            Self::CareAsked { request, question } => written(numbered(CARE_ASKED, request), |out| question.encode(out)),
            Self::Cared { request, report } => [&begin(CARED)[..], &request.to_le_bytes(), &report.encode()].concat(),
            Self::ReleaseAsked { request, question } => written(numbered(RELEASES, request), |out| {
                out.push(IS_ASKED);
                question.encode(out);
            }),
            Self::ReleaseTold { request, word } => written(numbered(RELEASES, request), |out| {
                out.push(IS_TOLD);
                out.extend_from_slice(&word.encode());
            }),
            Self::SpotAsked { request, question } => written(numbered(SPOT_ASKED, request), |out| question.encode(out)),
            Self::Spot { request, answer } => written(numbered(SPOT, request), |out| answer.encode(out)),
        }
    }

    /// The turn of a message that was decoded: 0 for those that have none.
    pub fn turn(bytes: &[u8]) -> u64 {
        match bytes.split_first() {
            Some((code, rest)) if has_turn(*code) => rest.first_chunk().map_or(0, |turn| u64::from_le_bytes(*turn)),
            _ => 0,
        }
    }

    /// Reads a message from exactly its bytes; signatures and digests are for the caller to verify.
    ///
    /// # Errors
    /// [`Malformed`] when they are none.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let code = r.u8()?;
        if has_turn(code) {
            r.u64()?;
        }
        let out = match code {
            DEPOSIT => {
                let code = r.u8()?;
                let kind = ObjectKind::from_code(code).ok_or_else(|| r.fail("unknown kind of object"))?;
                let len = r.left();
                r.ensure((1..=OBJECT_LEN_MAX).contains(&len), "an object has 1 byte to 64 MiB")?;
                Self::Deposit { kind, object: r.take(len)? }
            }
            RECEIPTED => Self::Receipted(Receipt::decode(r.take(r.left())?)?),
            DENIED => {
                let code = r.u8()?;
                let denial = denial(code).ok_or_else(|| r.fail("unknown ground of a denial"))?;
                let id = ObjectId(r.array()?);
                let len = r.varint_max(DENIAL_TEXT_LEN_MAX, "text of a denial longer than the limit")?;
                let text = std::str::from_utf8(r.take(len)?).map_err(|_| r.fail("text that is not UTF-8"))?;
                Self::Denied { id, denial, text: text.to_owned() }
            }
            ASKED => {
                let count = r.varint_max(ASKED_MAX, "more objects asked for than the limit")?;
                r.ensure(r.left() == count * ObjectId::LEN, "another number of objects than it says")?;
                Self::Asked((0..count).map(|_| r.array().map(ObjectId)).collect::<Result<_, _>>()?)
            }
            FETCH => Self::Fetch { request: r.u64()?, parts: reading::parts(&mut r)? },
            PARCEL => Self::Parcel { request: r.u64()?, parts: reading::sent(&mut r)? },
            LIST => Self::List { kind: reading::kind(&mut r)?, known: r.array()? },
            LISTED => Self::Listed(reading::page(&mut r)?),
            CHALLENGE => Self::Challenge { request: r.u64()?, challenge: Challenge::read(&mut r)? },
            PROOF => Self::Proof { request: r.u64()?, answer: audit::Answer::read(&mut r)? },
            LOG_ASKED => Self::LogAsked(Question::decode(&mut r)?),
            LOGGED => Self::Logged(Answer::decode(&mut r)?),
            CARE_ASKED => Self::CareAsked { request: r.u64()?, question: CareQuestion::decode(&mut r)? },
            CARED => Self::Cared { request: r.u64()?, report: Box::new(SignedReport::decode(&mut r)?) },
            RELEASES => {
                let request = r.u64()?;
                match r.u8()? {
                    IS_ASKED => Self::ReleaseAsked { request, question: ReleaseQuestion::decode(&mut r)? },
                    IS_TOLD => Self::ReleaseTold { request, word: Box::new(SignedWord::decode(&mut r)?) },
                    _ => return Err(r.fail("neither asked nor told")),
                }
            }
            SPOT_ASKED => Self::SpotAsked { request: r.u64()?, question: SpotQuestion::decode(&mut r)? },
            SPOT => Self::Spot { request: r.u64()?, answer: SpotAnswer::decode(&mut r)? },
            _ => return Err(r.fail("unknown message")),
        };
        r.finish()?;
        Ok(out)
    }
}

/// `out`, to which `put` has appended.
fn written(mut out: Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    put(&mut out);
    out
}

fn has_turn(code: u8) -> bool {
    matches!(code, DENIED..=RELEASES | SPOT_ASKED | SPOT)
}

/// The byte that stands for a denial.
pub(crate) fn ground(denial: Denial) -> u8 {
    match denial {
        Denial::Absent => 1,
        Denial::Lost => 2,
        Denial::Away => 3,
        Denial::Refused(Refusal::Full) => 4,
        Denial::Refused(Refusal::Depositor) => 5,
        Denial::Refused(Refusal::Object) => 6,
        Denial::Refused(Refusal::Caller) => 7,
    }
}

pub(crate) fn denial(code: u8) -> Option<Denial> {
    Some(match code {
        1 => Denial::Absent,
        2 => Denial::Lost,
        3 => Denial::Away,
        4 => Denial::Refused(Refusal::Full),
        5 => Denial::Refused(Refusal::Depositor),
        6 => Denial::Refused(Refusal::Object),
        7 => Denial::Refused(Refusal::Caller),
        _ => return None,
    })
}

/// As much of `text` as a denial has room for.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(DENIAL_TEXT_LEN_MAX)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Placed;
    use crate::receipt::ReceiptBody;
    use lavatube_base::VaultId;
    use proptest::prelude::*;

    #[test]
    fn every_ground_has_a_byte_of_its_own() {
        for code in 1..=7 {
            assert_eq!(denial(code).map(ground), Some(code));
        }
        assert_eq!((denial(0), denial(8)), (None, None));
    }

    #[test]
    fn a_long_account_is_cut_between_characters() {
        let text = "é".repeat(DENIAL_TEXT_LEN_MAX);
        let bytes = Message::Denied { id: ObjectId([1; 32]), denial: Denial::Lost, text }.encode(7);
        let Ok(Message::Denied { text, .. }) = Message::decode(&bytes) else { panic!("a denial") };
        assert_eq!(text, "é".repeat(DENIAL_TEXT_LEN_MAX / 2));
    }

    fn kinds() -> impl Strategy<Value = ObjectKind> {
        prop_oneof![
            Just(ObjectKind::Pack),
            Just(ObjectKind::Manifest),
            Just(ObjectKind::DepositorCard),
            Just(ObjectKind::Tags)
        ]
    }

    fn reading_messages(bytes: &[u8]) -> Vec<Message<'_>> {
        let part = |n, start, len| Part { id: ObjectId([n; 32]), start, len };
        let withheld = Withheld { len: 9, denial: Denial::Lost, text: "two drives are gone".into() };
        let sent = |n, bytes| Sent { id: ObjectId([n; 32]), start: 70_000, bytes };
        let objects = vec![(ObjectId([1; 32]), 4096), (ObjectId([2; 32]), 1)];
        let page = Page { kind: ObjectKind::Pack, digest: list_digest(&objects), total: 7, first: 5, objects };
        vec![
            Message::Fetch { request: 7, parts: vec![part(1, 0, 5), part(1, 5, 1), part(1, 900, 3), part(0, 1, 1)] },
            Message::Fetch { request: u64::MAX, parts: vec![] },
            Message::Parcel { request: 7, parts: vec![sent(1, Ok(bytes)), sent(2, Err(withheld))] },
            Message::List { kind: ObjectKind::Manifest, known: [7; 16] },
            Message::Listed(page),
            Message::LogAsked(Question { nonce: [3; 16], known: 300, objects: vec![ObjectId([1; 32])] }),
            Message::Logged(Answer {
                note: bytes.to_vec(),
                consistency: Some(vec![[4; 32], [5; 32]]),
                objects: vec![
                    Placed { id: ObjectId([1; 32]), place: Some((300, vec![[6; 32]])) },
                    Placed { id: ObjectId([2; 32]), place: None },
                ],
            }),
            Message::Logged(Answer { note: bytes.to_vec(), consistency: None, objects: vec![] }),
        ]
    }

    #[test]
    fn parts_that_overlap_or_reach_too_far_are_refused() {
        let fetch = |parts: &[u8]| {
            let bytes = [&[FETCH][..], &[0; 16], &[1], &[7; 32], parts].concat();
            Message::decode(&bytes).map(drop).map_err(|e| e.rule)
        };
        assert!(fetch(&[1, 0, 1]).is_ok());
        assert_eq!(fetch(&[1, 0, 0]), Err("beyond the longest object"));
        assert_eq!(fetch(&[0]), Err("an object without a part"));
        let mut far = vec![1];
        put_varint(&mut far, OBJECT_LEN_MAX as u64);
        far.push(1);
        assert_eq!(fetch(&far), Err("beyond the longest object"));
    }

    proptest! {
        #[test]
        fn messages_survive(
            kind in kinds(),
            object in proptest::collection::vec(any::<u8>(), 1..100),
            ids in proptest::collection::vec(any::<[u8; 32]>(), 0..5),
            code in 1..=7u8,
            text in ".{0,50}",
            sequence: u64,
        ) {
            let body = ReceiptBody { vault: VaultId([1; 16]), sequence, kind, object: ObjectId([2; 32]), check: [3; 16] };
            let all = [
                Message::Deposit { kind, object: &object },
                Message::Receipted(Receipt { body, signature: [4; 64] }),
                Message::Denied { id: ObjectId([5; 32]), denial: denial(code).unwrap(), text },
                Message::Asked(ids.into_iter().map(ObjectId).collect()),
            ];
            for message in all.into_iter().chain(reading_messages(&object)) {
                let bytes = message.encode(sequence);
                let turn = Message::turn(&bytes);
                let has_none = matches!(message, Message::Deposit { .. } | Message::Receipted(_));
                prop_assert_eq!(turn, if has_none { 0 } else { sequence });
                prop_assert_eq!(Message::decode(&bytes), Ok(message));
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(first in 0..20u8, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [&[first], &bytes[..]].concat();
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(Message::turn(&bytes)), bytes);
            }
        }
    }
}
