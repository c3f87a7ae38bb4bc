//! Numbers and names as people read them: decimal sizes like drives and links have, counts, spans of time, safe names.
//!
//! One place, so that every screen says the same thing the same way. Must not know what is being counted.

use std::time::Duration;

/// `n` bytes in decimal units with three significant digits: `882 MB`, `5.21 MB`, `0 B`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut whole = n as f64 / 1000.0;
    let mut unit = 0;
    // 999.5 would print as 1000 of its unit.
    while whole >= 999.5 && unit + 1 < UNITS.len() {
        whole /= 1000.0;
        unit += 1;
    }
    let digits = if whole < 9.995 { 2 } else { usize::from(whole < 99.95) };
    format!("{whole:.digits$} {}", UNITS[unit])
}

/// A count with its thousands apart: `78,175`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n` things: `1 file`, `2 files`, `3 entries`.
pub fn things(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Bits a second: `20.0 Mbit/s`.
pub fn bit_rate(bit_s: u64) -> String {
    match bit_s {
        0..1_000 => format!("{bit_s} bit/s"),
        1_000..1_000_000 => format!("{:.1} kbit/s", bit_s as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} Mbit/s", bit_s as f64 / 1e6),
        _ => format!("{:.2} Gbit/s", bit_s as f64 / 1e9),
    }
}

/// A span of time as a person would say it: `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`, `12 days 3 h`.
pub fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.2} s", d.as_secs_f64()),
        10..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..259_200 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} days {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Whole seconds: `8 s`, `3 min 20 s`, `2 h 5 min`.
pub fn whole_span(s: u64) -> String {
    if s < 60 { format!("{s} s") } else { span(Duration::from_secs(s)) }
}

/// How long ago that was, in days where it is days: `just now`, `5 minutes ago`, `3 hours ago`, `12 days ago`.
pub fn ago(s: i64) -> String {
    let Ok(s) = u64::try_from(s) else { return "at a time yet to come, by this machine's clock".into() };
    let span = match s {
        0..60 => return "just now".into(),
        60..3600 => things(s / 60, "minute", "minutes"),
        3600..172_800 => things(s / 3600, "hour", "hours"),
        _ => things(s / 86_400, "day", "days"),
    };
    format!("{span} ago")
}

/// A name or path from a tree, fit for a terminal: what would steer the terminal, and what is no UTF-8, is escaped.
pub fn name(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_control() || is_sly(c) { out.extend(c.escape_default()) } else { out.push(c) }
        }
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Characters that make a name look like another one: marks that turn the direction of writing, and invisible ones.
fn is_sly(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A path of the tree (absolute, without its leading slash) fit for a terminal.
pub fn tree_path(path: &[u8]) -> String {
    format!("/{}", name(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_and_decimal_units() {
        for (n, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (882_000_000, "882 MB"),
            (5_210_000, "5.21 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn counts_and_spans_read_well() {
        assert_eq!(
            [count(0), count(999), count(1000), count(78_175), count(1_000_000)].join(" "),
            "0 999 1,000 78,175 1,000,000"
        );
        assert_eq!(things(1, "file", "files"), "1 file");
        assert_eq!(span(Duration::from_millis(420)), "0.42 s");
        assert_eq!(span(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(span(Duration::from_secs(7500)), "2 h 5 min");
        let ages = [-1, 59, 60, 7200, 172_799, 172_800, 400 * 86_400].map(ago);
        let want = ["just now", "1 minute ago", "2 hours ago", "47 hours ago", "2 days ago", "400 days ago"];
        assert!(ages[0].contains("yet to come") && ages[1..] == want, "{ages:?}");
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        assert_eq!(name("café.txt".as_bytes()), "café.txt");
        assert_eq!(name(b"a\x1b[31mb\n\xff"), "a\\u{1b}[31mb\\n\\xff");
        assert_eq!(name("gpj\u{202e}exe".as_bytes()), "gpj\\u{202e}exe");
    }
}
