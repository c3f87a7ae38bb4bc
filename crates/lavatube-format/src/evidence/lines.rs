//! The lines of an evidence: a word and its value, or a word and indented lines below it.
//!
//! Everything is read as it comes, in one order, and an error names the line. It must not know what the words mean.

use std::str::FromStr;

use lavatube_base::hex;
use lavatube_base::merkle::Hash;

use super::base64;
use crate::key_file::armour;
use crate::wire::Malformed;

/// What lines of bytes begin with,
const INDENT: &str = "    ";
/// and lines of a text within the text.
pub(super) const QUOTE: &str = "    |";
const COLUMNS: usize = 76;

/// Appends a word and hexadecimal digits.
pub(super) fn put_hex(out: &mut String, word: &str, bytes: &[u8]) {
    out.push_str(word);
    out.push(' ');
    out.push_str(&hex(bytes));
    out.push('\n');
}

/// Appends a word and the base64 of `bytes` below it.
pub(super) fn put_block(out: &mut String, word: &str, bytes: &[u8]) {
    out.push_str(word);
    out.push('\n');
    for line in bytes.chunks(COLUMNS / 4 * 3) {
        out.push_str(&format!("{INDENT}{}\n", base64(line)));
    }
}

/// Appends a word and a line of base64 for each hash.
pub(super) fn put_hashes(out: &mut String, word: &str, hashes: &[Hash]) {
    out.push_str(word);
    out.push('\n');
    hashes.iter().for_each(|hash| out.push_str(&format!("{INDENT}{}\n", base64(hash))));
}

/// A rule that the line of this number breaks.
pub(super) fn fail(line: usize, rule: &'static str) -> Malformed {
    Malformed { what: "evidence, line", at: line, rule }
}

/// Reads line by line.
pub(super) struct Lines<'t> {
    rest: &'t str,
    /// The number of the line that comes next.
    next: usize,
    last: &'t str,
}

impl<'t> Lines<'t> {
    /// The lines of `text` from byte `start` on, which is in line `next`.
    pub(super) fn new(text: &'t str, start: usize, next: usize) -> Self {
        Self { rest: text.get(start..).unwrap_or_default(), next, last: "" }
    }

    /// A rule that the line which was read last breaks.
    pub(super) fn fail(&self, rule: &'static str) -> Malformed {
        fail(self.next.saturating_sub(1), rule)
    }

    fn peek(&self) -> Option<&'t str> {
        self.rest.split_once('\n').map(|(line, _)| line)
    }

    fn line(&mut self) -> Option<&'t str> {
        let (line, rest) = self.rest.split_once('\n')?;
        (self.rest, self.next, self.last) = (rest, self.next + 1, line);
        Some(line)
    }

    /// The value of `word`, when it is the next.
    pub(super) fn maybe(&mut self, word: &str) -> Result<Option<&'t str>, Malformed> {
        let value = |line: &'t str| line.strip_prefix(word)?.strip_prefix(' ');
        let Some(line) = self.peek() else { return Err(fail(self.next, "the text ends here, and more should come")) };
        let found = value(line);
        if found.is_some() {
            self.line();
        }
        Ok(found)
    }

    /// The bytes of the value that was read last.
    pub(super) fn hex_of_last(&self) -> Result<Vec<u8>, Malformed> {
        let text = self.last.split_once(' ').map_or("", |(_, value)| value);
        let wrong = || self.fail("hexadecimal digits are missing or wrong");
        if !text.len().is_multiple_of(2) || !text.is_ascii() {
            return Err(wrong());
        }
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).map_err(|_| wrong())).collect()
    }

    fn value(&mut self, word: &'static str) -> Result<&'t str, Malformed> {
        let at = self.next;
        self.maybe(word)?.ok_or_else(|| fail(at, expected(word)))
    }

    pub(super) fn number<N: FromStr>(&mut self, word: &'static str) -> Result<N, Malformed> {
        let value = self.value(word)?;
        value.parse().map_err(|_| self.fail("no number"))
    }

    pub(super) fn hash(&mut self, word: &'static str) -> Result<Hash, Malformed> {
        self.value(word)?;
        self.hex_of_last()?.try_into().map_err(|_| self.fail("not 64 hexadecimal digits"))
    }

    pub(super) fn place(&mut self, word: &'static str) -> Result<(u64, u64), Malformed> {
        let value = self.value(word)?.split_once(" of ");
        let both = value.and_then(|(place, count)| Some((place.parse().ok()?, count.parse().ok()?)));
        both.ok_or_else(|| self.fail("not a place of a number"))
    }

    fn head(&mut self, word: &'static str) -> Result<(), Malformed> {
        let at = self.next;
        match self.line() {
            Some(line) if line == word => Ok(()),
            Some(_) => Err(fail(at, expected(word))),
            None => Err(fail(at, "the text ends here, and more should come")),
        }
    }

    /// The bytes below `word`, when it is the next; none at the end of the text.
    pub(super) fn maybe_block(&mut self, word: &'static str, max: usize) -> Result<Option<Vec<u8>>, Malformed> {
        if self.peek() == Some(word) { self.block(word, max).map(Some) } else { Ok(None) }
    }

    pub(super) fn block(&mut self, word: &'static str, max: usize) -> Result<Vec<u8>, Malformed> {
        self.head(word)?;
        let mut out = Vec::new();
        while let Some(line) = self.peek().and_then(|line| line.strip_prefix(INDENT)) {
            self.line();
            out.extend_from_slice(&armour::decode(line).map_err(|_| self.fail("not base64"))?);
            if out.len() > max {
                return Err(self.fail("longer than the limit"));
            }
        }
        Ok(out)
    }

    pub(super) fn hashes(&mut self, word: &'static str, max: usize) -> Result<Vec<Hash>, Malformed> {
        let bytes = self.block(word, 32 * max)?;
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() { Ok(hashes.to_vec()) } else { Err(self.fail("a hash that is cut")) }
    }

    pub(super) fn quoted(&mut self, word: &'static str, max: usize) -> Result<String, Malformed> {
        self.head(word)?;
        let mut out = String::new();
        while let Some(line) = self.peek().and_then(|line| line.strip_prefix(QUOTE)) {
            self.line();
            out.push_str(line);
            out.push('\n');
            if out.len() > max {
                return Err(self.fail("longer than the limit"));
            }
        }
        Ok(out)
    }
}

/// What stands where `word` should.
fn expected(word: &'static str) -> &'static str {
    match word {
        "length" => "`length` should stand here",
        "blake3" | "sha256" => "a digest should stand here",
        "manifest" | "depositor-card" | "authority" => "something signed should stand here",
        "checkpoint" => "`checkpoint` should stand here",
        _ => "another word should stand here",
    }
}
