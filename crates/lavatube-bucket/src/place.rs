//! Where a bucket is, in text: `s3://bucket/prefix?endpoint=http://10.0.0.2:8333&region=eu-1`.
//!
//! It is what commands take and what stands in `vault.toml`, so it never holds a secret: credentials come from where the
//! AWS tools keep them, and a place may name a profile there. It must not know how a bucket is reached.

use std::fmt;
use std::str::FromStr;

use lavatube_base::limits::BUCKET_PLACE_LEN_MAX;

/// A prefix of a bucket, and what is needed to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketAt {
    /// The bucket.
    pub bucket: String,
    /// What keys in it begin with, without slashes at the ends; may be empty.
    pub prefix: String,
    /// The endpoint's URL; without it, what the environment says, else Amazon's of the region.
    pub endpoint: Option<String>,
    /// The region; without it, what the environment or the profile says.
    pub region: Option<String>,
    /// Whose credentials: a profile of the AWS tools' files; without it, those of the environment.
    pub profile: Option<String>,
    /// Bytes it is to hold at most: an endpoint does not say how much room it has.
    pub size: Option<u64>,
}

impl BucketAt {
    /// Whether a text means a bucket, well-formed or not.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// What people call it, if nothing else: the last part of its prefix, or the bucket.
    pub fn label(&self) -> &str {
        self.prefix.rsplit('/').next().filter(|part| !part.is_empty()).unwrap_or(&self.bucket)
    }

    /// Sets one of its options; `false` when there is none of that name.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        match name {
            "endpoint" => self.endpoint = Some(endpoint(value)?),
            "region" => self.region = Some(word(name, value)?),
            "profile" => self.profile = Some(word(name, value)?),
            "size" => self.size = Some(size(value)?),
            _ if SECRETS.iter().any(|secret| name.to_ascii_lowercase().contains(secret)) => {
                return Err(format!("{name:?} has no place here: it would stand in vault.toml. {WHERE}"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl FromStr for BucketAt {
    type Err = String;

    //= FORMAT#F57
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix(SCHEME).ok_or("a bucket begins with s3://")?;
        if text.len() > BUCKET_PLACE_LEN_MAX {
            return Err(format!("a bucket's place has at most {BUCKET_PLACE_LEN_MAX} bytes"));
        }
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(plain) {
            return Err(format!("{bucket:?} is no name of a bucket: 3 to 63 of a-z 0-9 - . (s3://bucket/prefix)"));
        }
        let prefix = prefix.trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let sound = |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
        if !prefix.is_empty() && !prefix.split('/').all(sound) {
            return Err(format!("{prefix:?} is no prefix: parts of A-Z a-z 0-9 - . _ with a slash between"));
        }
        let mut at = Self { bucket: bucket.to_owned(), prefix: prefix.to_owned(), ..Self::default() };
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').ok_or_else(|| format!("{option:?} is not NAME=VALUE"))?;
            if !at.set(name, value)? {
                return Err(format!("a bucket has {}, not {name:?}", OPTIONS.join(", ")));
            }
        }
        Ok(at)
    }
}

impl fmt::Display for BucketAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let size = self.size.map(|size| size.to_string());
        let values = [&self.endpoint, &self.region, &self.profile, &size];
        let mut sign = '?';
        for (name, value) in OPTIONS.iter().zip(values).filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            write!(f, "{sign}{name}={value}")?;
            sign = '&';
        }
        Ok(())
    }
}

fn endpoint(value: &str) -> Result<String, String> {
    let value = value.trim_end_matches('/');
    let host = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
    let host = host.ok_or_else(|| format!("{value:?}: an endpoint is http://HOST:PORT or https://HOST"))?;
    if host.contains('@') {
        return Err(format!("an endpoint names no user and no password: they would stand in vault.toml. {WHERE}"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(plain) {
        return Err(format!("{host:?} is no host: an endpoint is http://HOST:PORT or https://HOST, without a path"));
    }
    Ok(value.to_owned())
}

fn word(name: &str, value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if value.is_empty() || !value.chars().all(plain) {
        return Err(format!("{value:?} is no {name}: A-Z a-z 0-9 - . _"));
    }
    Ok(value.to_owned())
}

/// Reads `2TB`, `500 GiB` or a number of bytes.
fn size(value: &str) -> Result<u64, String> {
    let bad = || format!("{value:?} is no size: bytes, or as in 500GB, 2TB, 1TiB");
    let digits = value.chars().take_while(char::is_ascii_digit).count();
    let number: u64 = value[..digits].parse().map_err(|_| bad())?;
    let unit = value[digits..].trim();
    let (power, binary) = match unit.strip_suffix("iB") {
        Some(letter) => (letter, true),
        None => (unit.strip_suffix('B').unwrap_or(unit), false),
    };
    let power = ["", "k", "M", "G", "T", "P"].iter().position(|p| p.eq_ignore_ascii_case(power)).ok_or_else(bad)?;
    let base: u64 = if binary { 1024 } else { 1000 };
    let factor = base.pow(u32::try_from(power).map_err(|_| bad())?);
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(bad)
}

const SCHEME: &str = "s3://";
/// In the order of the text.
const OPTIONS: [&str; 4] = ["endpoint", "region", "profile", "size"];
/// What names of secrets have in them.
const SECRETS: [&str; 5] = ["key", "secret", "token", "password", "user"];
const WHERE: &str =
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or keep them in ~/.aws/credentials and say profile=NAME";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_written_in_one_way() {
        for text in [
            "s3://vault-a",
            "s3://vault-a/moon",
            "s3://vault-a/moon/d0?endpoint=http://10.0.0.2:8333",
            "s3://vault-a/moon?endpoint=https://s3.example.org&region=eu-1&profile=far&size=2000000000000",
        ] {
            let at: BucketAt = text.parse().unwrap();
            assert_eq!(at.to_string(), text);
        }
        let at: BucketAt = "s3://vault-a/moon/?size=2TB&endpoint=http://h:1/".parse().unwrap();
        assert_eq!(at.to_string(), "s3://vault-a/moon?endpoint=http://h:1&size=2000000000000");
        assert_eq!((at.label(), "s3://vault-a".parse::<BucketAt>().unwrap().label()), ("moon", "vault-a"));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "s3://",
            "s3://ab",
            "s3://UPPER",
            "s3://a_b_c",
            "s3://abc//d",
            "s3://abc/../d",
            "s3://abc/d e",
            "s3://abc?endpoint=ftp://h",
            "s3://abc?endpoint=http://",
            "s3://abc?endpoint=http://h/path",
            "s3://abc?size=0",
            "s3://abc?size=2XB",
            "s3://abc?size=99999999PB",
            "s3://abc?region=",
            "s3://abc?colour=red",
            "s3://abc?region",
        ] {
            assert!(text.parse::<BucketAt>().is_err(), "{text}");
        }
        let long = format!("s3://abc/{}", "d".repeat(BUCKET_PLACE_LEN_MAX - 9));
        assert!(long.parse::<BucketAt>().is_ok() && format!("{long}d").parse::<BucketAt>().is_err());
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "s3://abc?secret_access_key=hunter2",
            "s3://abc?access_key=hunter2",
            "s3://abc?endpoint=http://me:hunter2@h",
        ] {
            let error = text.parse::<BucketAt>().unwrap_err();
            assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!((size("7"), size("500GB"), size("1TiB")), (Ok(7), Ok(500_000_000_000), Ok(1 << 40)));
    }
}
