//! The recovery key: the archive's root seed as a person writes it down (FORMAT section 2).
//!
//! Crockford base32 with a checksum, in groups. Reading is forgiving in form and strict in content: case, spaces, dashes
//! and the letters that look like digits do not matter, a wrong character is named with its place. This file must not
//! know what the seed is for, and its errors never repeat the key.

use zeroize::Zeroizing;

pub(crate) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// `LVT1` as it looks once the letter L is taken for the digit 1.
const PREFIX: &[char; 4] = &['1', 'V', 'T', '1'];
const SYMBOLS: usize = 56;
const CHECK_LEN: usize = 3;

/// Why a text is not a recovery key, in words for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// It does not begin with `LVT1`.
    #[error("a recovery key begins with LVT1-; check that this is one, and that its beginning was typed")]
    Prefix,
    /// A character that recovery keys do not have.
    #[error("{character:?}, in place {position}, is not a character of recovery keys; compare it with the paper")]
    Character {
        /// What was typed.
        character: char,
        /// Its place among all typed characters, from 1.
        position: usize,
    },
    /// Too many or too few characters.
    #[error(
        "a recovery key has {expected} characters after LVT1-, here are {got}; look for one that is missing or double"
    )]
    Length {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// Each character is possible but they do not belong together.
    #[error("the checksum does not fit: at least one character differs from the paper, or two are swapped")]
    Checksum,
}

/// The recovery key of `root`: `LVT1-` and groups of five, the last of six.
pub fn encode(root: &[u8; 32]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0u8; 35]);
    bytes[..32].copy_from_slice(root);
    bytes[32..].copy_from_slice(&checksum(root));
    let mut out = Zeroizing::new(String::with_capacity(80));
    out.push_str("LVT1");
    for n in 0..SYMBOLS {
        if n % 5 == 0 && n < SYMBOLS - 1 {
            out.push('-');
        }
        let value = (0..5).fold(0, |v, i| v << 1 | usize::from(bit(&bytes[..], 5 * n + i)));
        out.push(char::from(ALPHABET[value]));
    }
    out
}

/// Reads a recovery key.
///
/// # Errors
/// [`RecoveryError`] says what to look for.
pub fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, RecoveryError> {
    let mut symbols = Zeroizing::new(Vec::with_capacity(text.len()));
    let typed = text.chars().enumerate().filter(|(_, c)| !c.is_whitespace() && !is_dash(*c));
    for (place, character) in typed {
        let value = value_of(character).ok_or(RecoveryError::Character { character, position: place + 1 })?;
        symbols.push(value);
    }
    let prefix: Vec<_> = PREFIX.iter().filter_map(|c| value_of(*c)).collect();
    let symbols = symbols.strip_prefix(&prefix[..]).ok_or(RecoveryError::Prefix)?;
    if symbols.len() != SYMBOLS {
        return Err(RecoveryError::Length { expected: SYMBOLS, got: symbols.len() });
    }
    let mut bytes = Zeroizing::new([0u8; 35]);
    for (n, symbol) in symbols.iter().enumerate() {
        for i in 0..5 {
            let at = 5 * n + i;
            bytes[at / 8] |= (symbol >> (4 - i) & 1) << (7 - at % 8);
        }
    }
    let mut root = Zeroizing::new([0u8; 32]);
    root.copy_from_slice(&bytes[..32]);
    if checksum(&root) == bytes[32..] { Ok(root) } else { Err(RecoveryError::Checksum) }
}

fn checksum(root: &[u8; 32]) -> [u8; CHECK_LEN] {
    let mut named = Zeroizing::new([0u8; 19 + 32]);
    named[..19].copy_from_slice(b"lavatube/1 recovery");
    named[19..].copy_from_slice(root);
    let hash = lavatube_base::digest::Verified::hash(&named[..]).id();
    [hash.0[0], hash.0[1], hash.0[2]]
}

fn bit(bytes: &[u8], at: usize) -> bool {
    bytes[at / 8] >> (7 - at % 8) & 1 == 1
}

pub(crate) fn is_dash(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

pub(crate) fn value_of(c: char) -> Option<u8> {
    let c = match c.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|a| char::from(*a) == c).and_then(|v| u8::try_from(v).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_form_is_the_one_on_paper() {
        let text = encode(&[0xab; 32]);
        let groups: Vec<_> = text.split('-').collect();
        assert_eq!(groups[0], "LVT1");
        assert_eq!(groups.len(), 12);
        assert!(groups[1..11].iter().all(|g| g.len() == 5));
        assert_eq!(groups[11].len(), 6);
        assert_eq!(*decode(&text).unwrap(), [0xab; 32]);
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        let text = encode(&[7; 32]).to_string();
        assert_eq!(decode(&text[..text.len() - 1]), Err(RecoveryError::Length { expected: 56, got: 55 }));
        assert_eq!(decode(&format!("{text}0")), Err(RecoveryError::Length { expected: 56, got: 57 }));
        assert_eq!(decode(&text[5..]), Err(RecoveryError::Prefix));
        assert_eq!(decode(""), Err(RecoveryError::Prefix));
        let mut bad = text.clone();
        bad.replace_range(7..8, "U");
        assert_eq!(decode(&bad), Err(RecoveryError::Character { character: 'U', position: 8 }));
        bad.replace_range(7..8, "é");
        assert_eq!(decode(&bad), Err(RecoveryError::Character { character: 'é', position: 8 }));
    }

    #[test]
    fn any_single_wrong_character_is_noticed() {
        let text = encode(&[0x5a; 32]).to_string();
        for (at, old) in text.char_indices().skip(5).filter(|(_, c)| *c != '-') {
            for new in ALPHABET.iter().map(|a| char::from(*a)).filter(|c| *c != old) {
                let mut bad = text.clone();
                bad.replace_range(at..=at, &new.to_string());
                assert_eq!(decode(&bad), Err(RecoveryError::Checksum), "{at} {new}");
            }
        }
    }

    #[test]
    fn errors_do_not_repeat_the_key() {
        let text = encode(&[9; 32]).to_string();
        let mut bad = text.clone();
        bad.replace_range(7..8, "!");
        assert!(!decode(&bad).unwrap_err().to_string().contains(&text[10..20]));
    }

    proptest! {
        #[test]
        fn a_key_survives_any_handwriting(root: [u8; 32], lower: bool, gap in "[ \t\n-]{0,3}") {
            let mut text = encode(&root).replace('-', &gap).replace('0', "O");
            if lower {
                text = text.to_lowercase().replace('1', "i");
            }
            prop_assert_eq!(*decode(&text).unwrap(), root);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}") {
            let _ = decode(&text);
        }
    }
}
