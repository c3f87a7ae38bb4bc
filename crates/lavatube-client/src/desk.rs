//! The desk: where whoever reads leaves what he wants of a far vault, and finds it.
//!
//! A seam, because whoever turns the link may be another process and may be killed, and a contact may be days away: what was
//! asked for stays asked for, and what came is not asked for again. Bytes here are as the vault sent them; whoever reads
//! them verifies. It must not know links, nor what is in an object. Steps 19 and 20 of the walk.

use std::time::Duration;

use lavatube_base::{Denial, ObjectId};
use lavatube_format::audit::{Answer, Challenge};
use lavatube_format::care::{CareQuestion, SignedReport};
use lavatube_format::log::{self, Question};
use lavatube_format::message::{Page, Part, Sent, list_digest};
use lavatube_format::release_word::{ReleaseQuestion, SignedWord};
use lavatube_format::shard::ObjectKind;
use lavatube_format::spot::{SpotAnswer, SpotQuestion};

/// What a command wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// Parts of objects.
    Fetch(Vec<Part>),
    /// The list of all objects of a kind.
    List(ObjectKind),
    /// A proof.
    Prove(Challenge),
    /// The vault's word about its log.
    Log(Question),
    /// A spot proof.
    Spot(SpotQuestion),
    /// How the vault is, and perhaps a mandate for it. It outlives the command that left it.
    Care(CareQuestion),
    /// What a release would stand on, and perhaps a release for it. One with a release outlives the command that left it.
    Releases(ReleaseQuestion),
    /// An echo.
    Ping,
}

impl Errand {
    /// Whether it lies there until it is answered, also when nobody waits for it any more.
    pub fn outlives_its_command(&self) -> bool {
        match self {
            Self::Care(_) => true,
            Self::Releases(question) => question.release.is_some(),
            Self::Fetch(_) | Self::List(_) | Self::Prove(_) | Self::Log(_) | Self::Spot(_) | Self::Ping => false,
        }
    }
}

/// All objects of a kind and their lengths.
pub type List = Vec<(ObjectId, u64)>;

/// A desk. Several may use it at a time.
pub trait Desk {
    /// Why it cannot be used.
    type Error: std::fmt::Display;

    /// Leaves an errand; gives its number, which no other has had.
    ///
    /// # Errors
    /// When it cannot be written down.
    fn ask(&self, errand: &Errand) -> Result<u64, Self::Error>;

    /// Numbers of the errands that are to be done.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    fn asked(&self) -> Result<Vec<u64>, Self::Error>;

    /// An errand; `None` when it is done, or makes no sense.
    fn errand(&self, number: u64) -> Option<Errand>;

    /// Whether an errand is still to be done.
    fn is_asked(&self, number: u64) -> bool;

    /// An errand is done, or not wanted any more.
    fn done(&self, number: u64);

    /// Pieces that are here whole, for whoever begins: nobody else may wait for any. What was withheld is forgotten.
    ///
    /// # Errors
    /// When the desk cannot be looked at.
    fn pieces(&self) -> Result<Vec<Part>, Self::Error>;

    /// The bytes of a piece, or why they are not to be had; `None` when it is not here yet.
    fn piece(&self, piece: &Part) -> Option<Result<Vec<u8>, (Denial, String)>>;

    /// Whether a piece is here, or was withheld.
    fn has(&self, piece: &Part) -> bool;

    /// Puts what the vault sent: the bytes of a piece, or why it has none.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put(&self, sent: &Sent<'_>) -> Result<(), Self::Error>;

    /// Forgets a piece: it will be asked for anew.
    fn forget(&self, piece: &Part);

    /// The list of a kind, as it last came.
    fn list(&self, kind: ObjectKind) -> Option<List>;

    /// The digest of the list that is here; zeros for none.
    fn digest(&self, kind: ObjectKind) -> [u8; 16] {
        self.list(kind).map_or([0; 16], |objects| list_digest(&objects))
    }

    /// Puts all pages of a list.
    ///
    /// # Errors
    /// When they cannot be put down.
    fn put_list(&self, kind: ObjectKind, pages: Vec<Page>) -> Result<(), Self::Error>;

    /// No list of the kind is to be had, because of this. One that came before is not what the vault has now.
    fn refuse_list(&self, kind: ObjectKind, why: &str);

    /// Why no list of the kind is to be had, where that was written down.
    fn refusal(&self, kind: ObjectKind) -> Option<String>;

    /// Bytes of pieces that there is room for, where that is known.
    fn room(&self) -> Option<u64> {
        None
    }

    /// The list that is here is still right.
    ///
    /// # Errors
    /// When that cannot be written down.
    fn confirm_list(&self, kind: ObjectKind) -> Result<(), Self::Error>;

    /// An echo came back.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_echo(&self, number: u64, took: Duration) -> Result<(), Self::Error>;

    /// How long an echo took, once it is back.
    fn take_echo(&self, number: u64) -> Option<Duration>;

    /// A proof came.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_proof(&self, number: u64, answer: &Answer) -> Result<(), Self::Error>;

    /// A proof, once it has come.
    fn take_proof(&self, number: u64) -> Option<Answer>;

    /// The vault's word about its log came.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_word(&self, number: u64, word: &log::Answer) -> Result<(), Self::Error>;

    /// The vault's word about its log, once it has come.
    fn take_word(&self, number: u64) -> Option<log::Answer>;

    /// A report came: it takes the place of the one before. Desks of those who ask for none need not keep it.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_report(&self, _number: u64, _report: &SignedReport) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The vault's word about releases came. What became of a release is kept, in the place of what became of the one before.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_release_word(&self, _number: u64, _word: &SignedWord) -> Result<(), Self::Error> {
        Ok(())
    }

    /// The vault's word about releases that came without one, once it has come.
    fn take_release_word(&self, _number: u64) -> Option<SignedWord> {
        None
    }

    /// The vault does not know what is asked: its program is older than this one.
    fn refuse_errand(&self, _number: u64) {}

    /// Whether it did not know.
    fn take_refusal(&self, _number: u64) -> bool {
        false
    }

    /// A spot proof came.
    ///
    /// # Errors
    /// When it cannot be put down.
    fn put_spot(&self, number: u64, answer: &SpotAnswer) -> Result<(), Self::Error>;

    /// A spot proof, once it has come.
    fn take_spot(&self, number: u64) -> Option<SpotAnswer>;
}
