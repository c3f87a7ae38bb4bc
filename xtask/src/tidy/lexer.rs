//! Blanks out comments and literals of Rust source, so that a search for a word finds code only.
//!
//! Lengths and line breaks stay as they are, so that positions and line numbers do. It must not know what is searched.

/// The source with the inside of comments, strings and characters turned into spaces.
pub fn blank(source: &str) -> String {
    let text: Vec<char> = source.chars().collect();
    let mut out = text.clone();
    let mut at = 0;
    while at < text.len() {
        let end = literal_end(&text, at);
        for c in out.get_mut(at..end).into_iter().flatten().filter(|c| **c != '\n') {
            *c = ' ';
        }
        at = end.max(at + 1);
    }
    out.into_iter().collect()
}

/// Where the comment or literal that begins at `at` ends; `at` itself when none does.
fn literal_end(text: &[char], at: usize) -> usize {
    let here = |offset: usize| text.get(at + offset).copied().unwrap_or('\0');
    let word_before = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    match here(0) {
        '/' if here(1) == '/' => find(text, at, |t, i| t[i] == '\n'),
        '/' if here(1) == '*' => comment_end(text, at),
        'r' | 'b' | 'c' if !word_before => {
            let prefix = (0..3).take_while(|o| "rbc".contains(here(*o))).count();
            let raw = (0..prefix).any(|o| here(o) == 'r');
            let hashes = (prefix..).take_while(|o| here(*o) == '#').count();
            match here(prefix + hashes) {
                '"' if raw => raw_end(text, at + prefix + hashes + 1, hashes),
                '"' if hashes == 0 => quoted_end(text, at + prefix, '"'),
                '\'' if hashes == 0 && here(0) == 'b' && prefix == 1 => quoted_end(text, at + 1, '\''),
                _ => at,
            }
        }
        '"' => quoted_end(text, at, '"'),
        // 'a' and '\n' are characters, 'a is a lifetime.
        '\'' if here(1) == '\\' || here(2) == '\'' => quoted_end(text, at, '\''),
        _ => at,
    }
}

fn find(text: &[char], from: usize, stop: impl Fn(&[char], usize) -> bool) -> usize {
    (from..text.len()).find(|i| stop(text, *i)).unwrap_or(text.len())
}

fn comment_end(text: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

fn raw_end(text: &[char], from: usize, hashes: usize) -> usize {
    let closes = |t: &[char], i: usize| t[i] == '"' && (1..=hashes).all(|h| t.get(i + h) == Some(&'#'));
    (find(text, from, closes) + 1 + hashes).min(text.len())
}

fn quoted_end(text: &[char], open: usize, quote: char) -> usize {
    let mut at = open + 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

/// Lines (from 1) on which `word` stands alone: no letter, digit or underscore beside it.
pub fn word_lines(blanked: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let alone = |line: &str| {
        line.match_indices(word)
            .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word))
    };
    blanked.lines().enumerate().filter(|(_, line)| alone(line)).map(|(i, _)| i + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let source = "let a = \"unsafe \\\" unsafe\"; // unsafe\n/* unsafe /* unsafe */ unsafe */ let b = 'u';\n\
                      let c = r#\"unsafe \" unsafe\"#; let d = b\"unsafe\"; fn e<'unsafe_>() {} unsafe {}";
        let blanked = blank(source);
        assert_eq!(blanked.chars().count(), source.chars().count());
        assert_eq!(word_lines(&blanked, "unsafe"), [3]);
        assert_eq!(blanked.matches("unsafe").count(), 2, "{blanked}");
    }

    #[test]
    fn names_that_end_in_a_prefix_letter_do_not_open_a_raw_string() {
        let blanked = blank("for x in r { r.len() } let var = 'r'; let s = \"x\"; end");
        assert!(blanked.contains("r.len()") && blanked.ends_with("end"));
    }

    #[test]
    fn what_never_closes_ends_with_the_file() {
        assert_eq!(blank("a \"b"), "a   ");
        assert_eq!(blank("a /* b"), "a     ");
    }
}
