//! Patterns that choose entries by name: `--exclude`, `--include` and the configuration's `exclude`.
//!
//! | pattern | means |
//! |---|---|
//! | `*.tmp` | no slash: the name of any entry, anywhere |
//! | `/home/*/.cache` | leading slash: the whole absolute path |
//! | `target/debug` | a slash inside: the end of the path |
//! | `cache/` | slash at the end: directories only |
//!
//! `*` and `?` stop at slashes, `**` does not, `{a,b}` and `[a-z]` work. Must not know what is done with the choice.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::errors::{Condition, Failure};

/// A set of patterns.
#[derive(Debug)]
pub struct Patterns {
    names: Pair,
    paths: Pair,
}

/// Patterns for any entry and for directories only.
#[derive(Debug)]
struct Pair {
    any: GlobSet,
    directories: GlobSet,
}

impl Patterns {
    /// The patterns in `texts`.
    ///
    /// # Errors
    /// A usage failure that names the pattern.
    pub fn new(texts: &[String]) -> Result<Self, Failure> {
        let mut sets: [GlobSetBuilder; 4] = std::array::from_fn(|_| GlobSetBuilder::new());
        for text in texts {
            let (pattern, directories) = match text.strip_suffix('/') {
                Some(cut) if !cut.is_empty() => (cut, true),
                _ => (text.as_str(), false),
            };
            let (whole, path) = match pattern.strip_prefix('/') {
                // Paths of the tree have no leading slash.
                Some(rest) => (rest.to_owned(), true),
                None if pattern.contains('/') => (format!("**/{pattern}"), true),
                None => (pattern.to_owned(), false),
            };
            let bad = |why: String| {
                Failure::new(Condition::Usage, format!("{text:?} is no pattern: {why}"))
                    .hint("`lavatube help patterns` explains them")
            };
            if pattern.trim_matches('/').is_empty() {
                return Err(bad("it is empty".into()));
            }
            let glob = GlobBuilder::new(&whole).literal_separator(true).backslash_escape(true).build();
            sets[usize::from(path) * 2 + usize::from(directories)].add(glob.map_err(|e| bad(e.kind().to_string()))?);
        }
        let [a, b, c, d] = sets.map(|s| s.build());
        let bad = |e: globset::Error| Failure::new(Condition::Usage, format!("patterns: {e}"));
        Ok(Self {
            names: Pair { any: a.map_err(bad)?, directories: b.map_err(bad)? },
            paths: Pair { any: c.map_err(bad)?, directories: d.map_err(bad)? },
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    /// Whether one of them means `path` (absolute, without its leading slash).
    pub fn choose(&self, path: &[u8], directory: bool) -> bool {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        self.names.choose(name, directory) || self.paths.choose(path, directory)
    }

    /// Whether one of them means `path` or a directory above it.
    pub fn choose_with_parents(&self, path: &[u8], directory: bool) -> bool {
        let parents = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| &path[..i]);
        self.choose(path, directory) || parents.into_iter().any(|p| self.choose(p, true))
    }
}

impl Pair {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.directories.is_empty()
    }

    fn choose(&self, bytes: &[u8], directory: bool) -> bool {
        if self.is_empty() {
            return false;
        }
        let path = Path::new(OsStr::from_bytes(bytes));
        self.any.is_match(path) || (directory && self.directories.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(pattern: &str, path: &str, directory: bool) -> bool {
        Patterns::new(&[pattern.to_owned()]).unwrap().choose(path.as_bytes(), directory)
    }

    #[test]
    fn patterns_mean_what_the_table_says() {
        assert!(choose("*.tmp", "home/a/b.tmp", false));
        assert!(!choose("*.tmp", "home/a.tmp/b", false));
        assert!(choose("/home/*/.cache", "home/ann/.cache", true));
        assert!(!choose("/home/*/.cache", "srv/home/ann/.cache", true));
        assert!(!choose("/home/*/.cache", "home/ann/x/.cache", true));
        assert!(choose("target/debug", "src/target/debug", true));
        assert!(choose("target/debug", "target/debug", true));
        assert!(choose("cache/", "a/cache", true));
        assert!(!choose("cache/", "a/cache", false));
        assert!(choose("/a/**/z", "a/b/c/z", false));
        assert!(choose("*.{o,a}", "x/y.o", false));
        assert!(choose(".*", "x/.hidden", false));
    }

    #[test]
    fn names_that_are_no_utf8_can_be_chosen() {
        assert!(Patterns::new(&["*.tmp".into()]).unwrap().choose(b"a/\xff.tmp", false));
    }

    #[test]
    fn a_chosen_directory_chooses_what_is_below() {
        let patterns = Patterns::new(&["cache/".into()]).unwrap();
        assert!(patterns.choose_with_parents(b"a/cache/b/c", false));
        assert!(!patterns.choose_with_parents(b"a/cache", false));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "/", "[", "{a"] {
            assert_eq!(Patterns::new(&[bad.to_owned()]).unwrap_err().condition, Condition::Usage, "{bad}");
        }
    }
}
