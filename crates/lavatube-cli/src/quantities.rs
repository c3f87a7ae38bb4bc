//! Quantities as people type them: sizes, shares, spans of time. Must not know what they are for.

/// Bytes: `20GB`, `1.5 TB`, `7`.
///
/// # Errors
/// When it is none.
pub fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "P" | "PB" => 1e15,
        _ => return Err("a size is a number and B, kB, MB, GB, TB or PB: 20GB".into()),
    };
    match number.parse::<f64>() {
        Ok(n) if n >= 0.0 && n * factor < 1e18 => Ok((n * factor) as u64),
        _ => Err("a size is a number and B, kB, MB, GB, TB or PB: 20GB".into()),
    }
}

/// A share: `1.4%`, of 0 to less than 1.
///
/// # Errors
/// When it is none.
pub fn share(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
    percent.filter(|n| (0.0..100.0).contains(n)).map(|n| n / 100.0).ok_or_else(|| "a share is 0% to 99%".into())
}

/// Seconds: `14d`, `6h`, `90m`, `20s`.
///
/// # Errors
/// When it is none.
pub fn seconds(text: &str) -> Result<f64, String> {
    let bad = || "a time is a number and d, h, m or s: 14d".to_owned();
    let unit = text.chars().last().ok_or_else(bad)?;
    let number: f64 = text.strip_suffix(unit).and_then(|n| n.trim().parse().ok()).ok_or_else(bad)?;
    let seconds = match unit {
        'd' => 86_400.0,
        'h' => 3600.0,
        'm' => 60.0,
        's' => 1.0,
        _ => return Err(bad()),
    };
    Some(number * seconds).filter(|s: &f64| s.is_finite() && *s >= 0.0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!((size("8TB"), size("1.5 GB"), size("7")), (Ok(8_000_000_000_000), Ok(1_500_000_000), Ok(7)));
        for bad in ["", "GB", "-5", "5 parsecs", "1e30"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_and_times_are_read() {
        assert_eq!((share("12.5%"), share("0 %")), (Ok(0.125), Ok(0.0)));
        assert_eq!((seconds("14d"), seconds("1.5h"), seconds("0s")), (Ok(1_209_600.0), Ok(5400.0), Ok(0.0)));
        for bad in ["", "1.4", "100%", "-1%", "NaN%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        for bad in ["", "d", "14", "-1d", "14w", "infd"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
