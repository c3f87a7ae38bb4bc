//! Why a vault does not do as asked, in the words that both of its sides share.
//!
//! The vault says it of each of its errors, its client acts upon it, and whoever stands between them (a function call, a
//! simulator, a link) only passes it on. It must not know what was asked.

/// Why a vault does not do as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It has no such object.
    Absent,
    /// It has the object, but not as it was stored any more.
    Lost,
    /// It cannot now: its drives are not all there.
    Away,
    /// It will not.
    Refused(Refusal),
}

/// On what ground a vault refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has no space left.
    Full,
    /// It does not know the depositor, or the signature is not theirs.
    Depositor,
    /// The object breaks a rule.
    Object,
    /// It was asked for what cannot be: bytes beyond an object's end, or to take something in when it was opened to read.
    Caller,
}
