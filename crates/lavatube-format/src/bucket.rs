//! A drive in a bucket: keys of the pieces of a file that is appended to, and what an endpoint has shown of itself.
//!
//! `docs/FORMAT.md` section 21. An object of a bucket cannot be appended to, so such a file is pieces whose keys say where
//! their bytes belong. It must not know endpoints, or what is in a file.

use crate::Malformed;

/// Folder of what is only for trying an endpoint; no file of a drive is called so.
pub const PROBE: &str = "probe";

/// A piece of a file that is appended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Counts how often the whole file was replaced, from 1.
    pub generation: u32,
    /// Where in the file its bytes begin.
    pub offset: u64,
    /// How many there are.
    pub len: u32,
}

impl Piece {
    /// Where its bytes end.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.len.into())
    }

    /// Its name below that of the file.
    //= FORMAT#F54
    pub fn name(&self, file: &str) -> String {
        format!("{file}/{:08x}/{:016x}-{:08x}", self.generation, self.offset, self.len)
    }

    /// Reads the name of a piece of `file`; `None` for what is none.
    pub fn parse(file: &str, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(file)?.strip_prefix('/')?;
        let (generation, rest) = rest.split_once('/')?;
        let (offset, len) = rest.split_once('-')?;
        let piece = Self {
            generation: u32::from_str_radix(generation, 16).ok()?,
            offset: u64::from_str_radix(offset, 16).ok()?,
            len: u32::from_str_radix(len, 16).ok()?,
        };
        // One name for one piece: no signs, no upper case, no other width.
        (piece.name(file) == name).then_some(piece)
    }
}

/// Whether objects of a bucket are kept from being deleted for a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ObjectLock {
    /// The endpoint does not say.
    #[default]
    Untold,
    /// They are not.
    Off,
    /// They can be, and by themselves they are for so many days (0: not by themselves).
    On {
        /// Days.
        days: u32,
    },
}

/// What an endpoint was seen to do when it was tried.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probed {
    /// It refuses to put what is there already, when asked to (`If-None-Match: *`).
    pub conditional_put: bool,
    /// It says a checksum of what it got.
    pub checksum: bool,
    /// It reads parts of objects.
    pub ranges: bool,
    /// What was put is in the list at once.
    pub lists_at_once: bool,
    /// Whether it keeps objects from being deleted.
    pub lock: ObjectLock,
}

impl Probed {
    /// The text that is kept in the bucket.
    pub fn encode(&self) -> String {
        let word = |yes| if yes { "yes" } else { "no" };
        let lock = match self.lock {
            ObjectLock::Untold => "untold".to_owned(),
            ObjectLock::Off => "no".to_owned(),
            ObjectLock::On { days } => days.to_string(),
        };
        format!(
            "{HEAD}\nconditional-put {}\nchecksum {}\nranges {}\nlists-at-once {}\nlock {lock}\n",
            word(self.conditional_put),
            word(self.checksum),
            word(self.ranges),
            word(self.lists_at_once),
        )
    }

    /// Reads that text.
    ///
    /// # Errors
    /// [`Malformed`] for any other.
    pub fn decode(text: &[u8]) -> Result<Self, Malformed> {
        let bad = |rule| Malformed { what: "probe of an endpoint", at: 0, rule };
        let text = std::str::from_utf8(text).map_err(|_| bad("is text"))?;
        let mut words = text.strip_prefix(HEAD).ok_or(bad("begins as section 21 says"))?.split_whitespace();
        let mut value = |name: &str| if words.next() == Some(name) { words.next() } else { None };
        let is_yes = |value: Option<&str>| match value {
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            _ => Err(bad("says yes or no")),
        };
        let found = Self {
            conditional_put: is_yes(value("conditional-put"))?,
            checksum: is_yes(value("checksum"))?,
            ranges: is_yes(value("ranges"))?,
            lists_at_once: is_yes(value("lists-at-once"))?,
            lock: match value("lock") {
                Some("untold") => ObjectLock::Untold,
                Some("no") => ObjectLock::Off,
                days => {
                    ObjectLock::On { days: days.and_then(|d| d.parse().ok()).ok_or(bad("says untold, no, or days"))? }
                }
            },
        };
        if found.encode() == text { Ok(found) } else { Err(bad("is written in one way")) }
    }
}

const HEAD: &str = "lavatube probe 1";
