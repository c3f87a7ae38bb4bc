//! Where the credentials of a bucket come from: what the AWS tools read, and nothing of ours.
//!
//! The environment, or a profile of `~/.aws/credentials` and `~/.aws/config`. They are held while a drive is open, never
//! printed, never written. It must not know what is done with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::place::BucketAt;

/// What signs requests, and where they go.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) key_id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
    pub(super) region: String,
    pub(super) endpoint: Option<String>,
    /// A file of the certificates that are believed, instead of the computer's own.
    pub(super) ca_bundle: Option<String>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// What of this computer is read.
pub(super) struct Surroundings<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) file: &'a dyn Fn(&str) -> Option<String>,
}

impl Account {
    /// The account of a bucket on this computer.
    pub(super) fn here(at: &BucketAt) -> Result<Self, String> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let file = |path: &str| std::fs::read_to_string(path).ok();
        Self::find(at, &Surroundings { variable: &variable, file: &file })
    }

    fn find(at: &BucketAt, here: &Surroundings<'_>) -> Result<Self, String> {
        let variable = here.variable;
        let profile = at.profile.clone().or_else(|| variable("AWS_PROFILE"));
        let known = Files::read(here);
        let name = profile.as_deref().unwrap_or("default");
        let in_file = |key: &str| known.value(name, key);
        // A profile that is named for this bucket is meant; else the environment goes before the files.
        let from_environment = at.profile.is_none().then(|| variable("AWS_ACCESS_KEY_ID")).flatten();
        let (key_id, secret, token) = match from_environment {
            Some(key_id) => (Some(key_id), variable("AWS_SECRET_ACCESS_KEY"), variable("AWS_SESSION_TOKEN")),
            None => (in_file("aws_access_key_id"), in_file("aws_secret_access_key"), in_file("aws_session_token")),
        };
        let (Some(key_id), Some(secret)) = (key_id, secret) else {
            return Err(match &at.profile {
                Some(profile) => format!("no credentials of profile {profile} are in {}", known.credentials),
                None => format!(
                    "no credentials: neither AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are set, nor has {} a profile {name}",
                    known.credentials
                ),
            });
        };
        let region = at.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let endpoint = at.endpoint.clone().or_else(|| variable("AWS_ENDPOINT_URL_S3"));
        Ok(Self {
            key_id,
            secret,
            token,
            region: region.or_else(|| in_file("region")).unwrap_or_else(|| REGION.to_owned()),
            endpoint: endpoint.or_else(|| variable("AWS_ENDPOINT_URL")).or_else(|| in_file("endpoint_url")),
            ca_bundle: variable("AWS_CA_BUNDLE").or_else(|| in_file("ca_bundle")),
        })
    }
}

/// The files of the AWS tools: values by profile and name.
struct Files {
    credentials: String,
    values: BTreeMap<(String, String), String>,
}

impl Files {
    fn read(here: &Surroundings<'_>) -> Self {
        let home = (here.variable)("HOME").unwrap_or_default();
        let at = |variable: &str, name: &str| {
            let own = PathBuf::from(&home).join(".aws").join(name).to_string_lossy().into_owned();
            (here.variable)(variable).unwrap_or(own)
        };
        let credentials = at("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let mut values = BTreeMap::new();
        for path in [&at("AWS_CONFIG_FILE", "config"), &credentials] {
            parse(&(here.file)(path).unwrap_or_default(), &mut values);
        }
        Self { credentials, values }
    }

    fn value(&self, profile: &str, name: &str) -> Option<String> {
        self.values.get(&(profile.to_owned(), name.to_owned())).cloned().filter(|value| !value.is_empty())
    }
}

/// Reads `[profile]` or `[profile name]`, and `name = value` below it.
fn parse(text: &str, values: &mut BTreeMap<(String, String), String>) {
    let mut profile = String::new();
    for line in text.lines() {
        // What is indented belongs to a value of several lines, of which we need none.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(head) = line.trim().strip_prefix('[').and_then(|head| head.strip_suffix(']')) {
            let head = head.trim();
            head.strip_prefix("profile ").unwrap_or(head).trim().clone_into(&mut profile);
        } else if let Some((name, value)) = line.split_once('=') {
            values.insert((profile.clone(), name.trim().to_ascii_lowercase()), value.trim().to_owned());
        }
    }
}

const REGION: &str = "us-east-1";

#[cfg(test)]
mod tests {
    use super::*;

    fn find(at: &str, variables: &[(&str, &str)]) -> Result<Account, String> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let file = |path: &str| match path {
            "/home/a/.aws/credentials" => Some(
                "[default]\naws_access_key_id = D\naws_secret_access_key=ds\n# [x]\n[far]\naws_access_key_id = F\n\
                 aws_secret_access_key = fs=\naws_session_token = t\n"
                    .to_owned(),
            ),
            "/home/a/.aws/config" => Some(
                "[profile far]\nregion = eu-1\ns3 =\n  region = no\nendpoint_url = http://far:1\nca_bundle = /ca\n"
                    .to_owned(),
            ),
            _ => None,
        };
        Account::find(&at.parse().unwrap(), &Surroundings { variable: &variable, file: &file })
    }

    #[test]
    fn the_environment_goes_before_the_files_and_a_named_profile_before_both() {
        let (home, id, secret) = (("HOME", "/home/a"), ("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "es"));
        let of = |account: Account| (account.key_id, account.secret, account.token, account.region, account.endpoint);
        let text = |text: &str| text.to_owned();
        assert_eq!(
            of(find("s3://abc", &[home, id, secret, ("AWS_DEFAULT_REGION", "r"), ("AWS_ENDPOINT_URL", "http://e")])
                .unwrap()),
            (text("E"), text("es"), None, text("r"), Some(text("http://e")))
        );
        assert_eq!(
            of(find("s3://abc?profile=far", &[home, id, secret]).unwrap()),
            (text("F"), text("fs="), Some(text("t")), text("eu-1"), Some(text("http://far:1")))
        );
        assert_eq!(
            of(find("s3://abc?endpoint=http://own:1&region=x", &[home]).unwrap()),
            (text("D"), text("ds"), None, text("x"), Some(text("http://own:1")))
        );
        let of = |at: &str, variables: &[_]| find(at, variables).unwrap().ca_bundle;
        let bundle = ("AWS_CA_BUNDLE", "/own");
        assert_eq!(of("s3://abc?profile=far", &[home]).as_deref(), Some("/ca"));
        assert_eq!(of("s3://abc?profile=far", &[home, bundle]).as_deref(), Some("/own"));
        assert_eq!(of("s3://abc", &[home]), None);
        assert!(find("s3://abc?profile=none", &[home, id, secret]).unwrap_err().contains("/home/a/.aws/credentials"));
        assert!(find("s3://abc", &[]).unwrap_err().contains("AWS_ACCESS_KEY_ID"));
    }

    #[test]
    fn an_account_is_not_printed() {
        let account = find("s3://abc", &[("HOME", "/home/a")]).unwrap();
        assert!(!format!("{account:?}").contains("ds"));
    }
}
