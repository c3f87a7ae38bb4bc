//! The line with which two ends of a link are paired (FORMAT section 13): public keys in one word that survives a telephone.
//!
//! `LVTP1-` and Crockford base32 with a check. It holds no secret; whoever passes it on must see that it is not exchanged for
//! another on the way. It must not know what the keys do.

use lavatube_base::{VaultId, Verified};

use crate::recovery::{ALPHABET, is_dash, value_of};
use crate::wire::{Malformed, Reader};

/// What one end tells the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairLine {
    /// Its X25519 public key.
    pub link_key: [u8; 32],
    /// What the end with the vault tells of it; `None` from the end that deposits.
    pub vault: Option<PairVault>,
    /// From an end that deposits: the X25519 public key of whoever comes with the recovery key, when all else is lost.
    pub recovery: Option<[u8; 32]>,
}

/// A vault as its depositor must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairVault {
    /// Its id.
    pub id: VaultId,
    /// Its Ed25519 public key: whose receipts count.
    pub key: [u8; 32],
}

const WHAT: &str = "pair line";
const PREFIX: &str = "LVTP1-";
const CHECK_LEN: usize = 4;
const DEPOSITOR: u8 = 1;
const VAULT: u8 = 2;
const DEPOSITOR_WITH_RECOVERY: u8 = 3;
/// Longer than any line, however it is spaced.
const CHARS_MAX: usize = 1024;

impl PairLine {
    /// The line.
    pub fn encode(&self) -> String {
        let role = match (&self.vault, &self.recovery) {
            (Some(_), _) => VAULT,
            (None, None) => DEPOSITOR,
            (None, Some(_)) => DEPOSITOR_WITH_RECOVERY,
        };
        let mut bytes = vec![role];
        bytes.extend_from_slice(&self.link_key);
        if let Some(vault) = &self.vault {
            bytes.extend_from_slice(&vault.id.0);
            bytes.extend_from_slice(&vault.key);
        } else if let Some(recovery) = &self.recovery {
            bytes.extend_from_slice(recovery);
        }
        bytes.extend_from_slice(&check(&bytes));
        let mut out = String::from(PREFIX);
        let bit = |at: usize| bytes.get(at / 8).is_some_and(|b| b >> (7 - at % 8) & 1 == 1);
        for n in 0..(bytes.len() * 8).div_ceil(5) {
            let value = (0..5).fold(0, |v, i| v << 1 | usize::from(bit(5 * n + i)));
            out.push(char::from(ALPHABET[value]));
        }
        out
    }

    /// Reads a line; case, spaces and dashes do not matter.
    ///
    /// # Errors
    /// [`Malformed`] when it is none, or a character differs from what was printed.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        let fail = |at, rule| Malformed { what: WHAT, at, rule };
        if text.len() > CHARS_MAX {
            return Err(fail(CHARS_MAX, "longer than any pair line"));
        }
        let word: String = text.chars().filter(|c| !c.is_whitespace() && !is_dash(*c)).collect();
        let word = word.to_ascii_uppercase();
        let Some(digits) = word.strip_prefix("LVTP1") else { return Err(fail(0, "a pair line begins with LVTP1-")) };
        let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0u16, 0);
        for (at, c) in digits.chars().enumerate() {
            let value = value_of(c).ok_or_else(|| fail(at, "a character that pair lines do not have"))?;
            buffer = buffer << 5 | u16::from(value);
            bits += 5;
            if bits >= 8 {
                bits -= 8;
                bytes.push(u8::try_from(buffer >> bits).map_err(|_| fail(at, "a digit beyond its bits"))?);
                buffer &= (1 << bits) - 1;
            }
        }
        if buffer != 0 || bits >= 5 {
            return Err(fail(0, UNLIKE_PRINTED));
        }
        Self::read(&bytes)
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let covered = bytes.len().checked_sub(CHECK_LEN).map_or(&[][..], |end| &bytes[..end]);
        r.ensure(bytes.get(covered.len()..).is_some_and(|stored| *stored == check(covered)), UNLIKE_PRINTED)?;
        let role = r.u8()?;
        r.ensure((DEPOSITOR..=DEPOSITOR_WITH_RECOVERY).contains(&role), "unknown role")?;
        let link_key = r.array()?;
        let vault = match role {
            VAULT => Some(PairVault { id: VaultId(r.array()?), key: r.array()? }),
            _ => None,
        };
        let recovery = if role == DEPOSITOR_WITH_RECOVERY { Some(r.array()?) } else { None };
        r.take(CHECK_LEN)?;
        r.finish()?;
        Ok(Self { link_key, vault, recovery })
    }
}

/// What anybody may send to a vault to be told its line: so long that the answer is not longer.
pub fn question() -> [u8; QUESTION_LEN] {
    let mut out = [0; QUESTION_LEN];
    out[..QUESTION.len()].copy_from_slice(QUESTION);
    out
}

/// The answer to a [`question`].
pub fn answer(line: &PairLine) -> Vec<u8> {
    [ANSWER, line.encode().as_bytes()].concat()
}

/// The line in an answer.
///
/// # Errors
/// [`Malformed`] when it is none.
pub fn read_answer(bytes: &[u8]) -> Result<PairLine, Malformed> {
    let text = bytes.strip_prefix(ANSWER).and_then(|text| std::str::from_utf8(text).ok());
    PairLine::decode(text.ok_or(Malformed { what: WHAT, at: 0, rule: "no answer of a vault" })?)
}

const QUESTION: &[u8; 8] = b"LVTPAIR?";
const ANSWER: &[u8; 8] = b"LVTPAIR!";
/// Length of a question.
pub const QUESTION_LEN: usize = 256;

/// How much of a line is there shows in its last bits, or in its check: to people that is one thing.
const UNLIKE_PRINTED: &str = "the check does not fit: a character is missing or differs from what was printed";

fn check(bytes: &[u8]) -> [u8; CHECK_LEN] {
    let id = Verified::hash(&[b"lavatube/1 pair", bytes].concat()).id().0;
    [id[0], id[1], id[2], id[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines() -> [PairLine; 3] {
        let vault = Some(PairVault { id: VaultId([1; 16]), key: [2; 32] });
        let line = |n, vault, recovery| PairLine { link_key: [n; 32], vault, recovery };
        [line(3, None, None), line(4, vault, None), line(5, None, Some([6; 32]))]
    }

    #[test]
    fn form_is_forgiven_and_content_is_not() {
        for line in lines() {
            let text = line.encode();
            let spaced = format!(" {} - {}\n", &text[..20].to_lowercase(), &text[20..]);
            assert_eq!(PairLine::decode(&spaced), Ok(line));
            for at in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[at] = if other[at] == b'7' { b'8' } else { b'7' };
                let other = String::from_utf8(other).unwrap();
                assert!(PairLine::decode(&other).is_err(), "{other}");
                assert!(PairLine::decode(&text[..at]).is_err());
            }
            assert!(PairLine::decode(&format!("{text}0")).is_err());
        }
        assert!(PairLine::decode(&format!("LVTP1-{}", "0".repeat(CHARS_MAX))).is_err());
    }

    #[test]
    fn a_vault_that_is_asked_answers_with_no_more_than_it_was_sent() {
        let [_, vault, _] = lines();
        let answer = answer(&vault);
        assert_eq!(read_answer(&answer), Ok(vault));
        assert!(answer.len() < question().len());
        assert!(read_answer(&question()).is_err() && read_answer(&answer[..20]).is_err());
    }

    proptest! {
        #[test]
        fn lines_survive(link_key: [u8; 32], id: [u8; 16], key: [u8; 32], has_vault: bool) {
            let vault = has_vault.then_some(PairVault { id: VaultId(id), key });
            let line = PairLine { link_key, vault, recovery: (!has_vault).then_some(key) };
            prop_assert_eq!(PairLine::decode(&line.encode()), Ok(line));
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in "(LVTP1-)?.{0,80}", digits in "LVTP1-[0-9A-Z]{0,140}") {
            let _ = (PairLine::decode(&text), PairLine::decode(&digits));
        }
    }
}
