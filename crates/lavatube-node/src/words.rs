//! The system's error numbers in plain words.
//!
//! A person reads "permission denied", not "EACCES" or "os error 13". It exists so that every room's errors sound alike;
//! it must not know which operation failed: whoever calls adds that. No step of the walk: every step may fail.

use rustix::io::Errno;

/// `errno` in the system's words, lower case and without its number.
pub(crate) fn words(errno: Errno) -> String {
    plain(&std::io::Error::from(errno).to_string())
}

/// Takes the number and the capital letter off an error of the standard library.
pub(crate) fn plain(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // An acronym keeps its capitals.
    if chars.as_str().starts_with(|c: char| c.is_uppercase()) {
        return text.to_owned();
    }
    first.to_lowercase().chain(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_number_becomes_words() {
        assert_eq!(words(Errno::ACCESS), "permission denied");
        assert_eq!(words(Errno::NOSPC), "no space left on device");
        assert_eq!(plain(""), "");
    }
}
