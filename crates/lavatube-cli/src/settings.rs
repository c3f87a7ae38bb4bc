//! Where everything is, for one command: option before environment before configuration before default.
//!
//! Must not know what is there.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_node::depositor::Places;

use crate::args::Global;
use crate::config::{self, Config};
use crate::errors::{Condition, Failure};

/// The settings of one command.
#[derive(Debug)]
pub struct Settings {
    /// Where vault, state and keys are.
    pub places: Places,
    /// What the configuration file says.
    pub config: Config,
    /// The configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// How long to wait for others.
    pub lock_wait: Duration,
    /// Where a passphrase is read from, instead of the terminal.
    pub passphrase_file: Option<PathBuf>,
    /// The working directory.
    pub here: PathBuf,
}

impl Settings {
    /// Reads environment and configuration.
    ///
    /// # Errors
    /// When the configuration file has a mistake or is not where it was said to be.
    pub fn load(global: &Global) -> Result<Self, Failure> {
        let here =
            env::current_dir().map_err(|e| Failure::new(Condition::Io, format!("the working directory: {e}")))?;
        let home = variable("HOME");
        let asked = global.config.clone().or_else(|| variable("LAVATUBE_CONFIG")).map(|p| here.join(p));
        let default = folder("XDG_CONFIG_HOME", home.as_deref(), ".config").map(|d| d.join("lavatube/lavatube.toml"));
        let path = asked.clone().or(default);
        let text = match &path {
            None => None,
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && asked.is_none() => None,
                Err(e) => {
                    let what = format!("the configuration file {}: {}", path.display(), crate::roots::plain(&e));
                    return Err(Failure::new(Condition::Config, what).hint("see that the path is right"));
                }
            },
        };
        let config = match (&text, &path) {
            (Some(text), Some(path)) => config::parse(text, path, home.as_deref())?,
            _ => Config::default(),
        };
        let pick = |option: &Option<PathBuf>, name: &str, configured: &Option<PathBuf>, default: Option<PathBuf>| {
            let given = option.clone().or_else(|| variable(name)).or_else(|| configured.clone());
            let found = given.or(default).ok_or_else(|| {
                Failure::new(Condition::Usage, format!("neither HOME nor {name} is set"))
                    .hint("name the folders with --vault, --state and --keys")
            });
            found.map(|p| here.join(p))
        };
        let beside = path.as_deref().and_then(Path::parent).map(|d| d.join("keys"));
        let data = folder("XDG_DATA_HOME", home.as_deref(), ".local/share").map(|d| d.join("lavatube/vault"));
        let state = folder("XDG_STATE_HOME", home.as_deref(), ".local/state").map(|d| d.join("lavatube"));
        let places = Places {
            vault: pick(&global.vault, "LAVATUBE_VAULT", &config.vault, data)?,
            state: pick(&global.state, "LAVATUBE_STATE", &config.state, state)?,
            keys: pick(&global.keys, "LAVATUBE_KEYS", &config.keys, beside)?,
        };
        let passphrase_file = global.passphrase_file.clone().map(|p| here.join(p));
        let config_file = path.filter(|_| text.is_some());
        let lock_wait = Duration::from_secs(global.lock_wait);
        Ok(Self { places, config, config_file, lock_wait, passphrase_file, here })
    }

    /// Threads to use.
    pub fn workers(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.config.workers.unwrap_or_else(all)
    }
}

/// An environment variable that holds a path; an empty one counts as not set.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// An XDG folder; a relative one is ignored, as their specification says.
fn folder(name: &str, home: Option<&Path>, default: &str) -> Option<PathBuf> {
    variable(name).filter(|p| p.is_absolute()).or_else(|| home.map(|h| h.join(default)))
}
