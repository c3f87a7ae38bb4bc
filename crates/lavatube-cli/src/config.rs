//! The configuration file: one table of keys, from which it is read, checked and documented.
//!
//! A key nobody knows is an error that names the nearest known one: a typing mistake in a configuration file must not
//! turn into a backup without its excludes. Must not know what the values are for.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::errors::{Condition, Failure};
use lavatube_node::embedded::DriveSpec;
use lavatube_node::places::{self, BucketAt};

/// One key of the configuration file.
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static str,
    /// What counts without it.
    pub default: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// A line of an example file.
    pub example: &'static str,
}

/// All keys.
pub const KEYS: &[Key] = &[
    Key {
        name: "vault",
        takes: "folder",
        default: "`$XDG_DATA_HOME/lavatube/vault`, or `~/.local/share/lavatube/vault`",
        about: "Folder of the embedded vault. Also `--vault`, `LAVATUBE_VAULT`.",
        example: "vault = \"/srv/backup/vault\"",
    },
    Key {
        name: "state",
        takes: "folder",
        default: "`$XDG_STATE_HOME/lavatube`, or `~/.local/state/lavatube`",
        about: "Folder of catalogs, caches and spool. What is *safe here* only waits in the spool, and is lost with it; \
                all else is made anew. Also `--state`, `LAVATUBE_STATE`.",
        example: "state = \"/var/lib/lavatube\"",
    },
    Key {
        name: "keys",
        takes: "folder",
        default: "`keys` beside the configuration file",
        about: "Folder of the keys. Also `--keys`, `LAVATUBE_KEYS`.",
        example: "keys = \"/etc/lavatube/keys\"",
    },
    Key {
        name: "data",
        takes: "number from 1 to 255",
        default: "4, or what the number of drives leaves beside parity",
        about: "Data shards of each stripe, when a vault is made. Also `--data`.",
        example: "data = 4",
    },
    Key {
        name: "parity",
        takes: "number from 0 to 254",
        default: "2, or 1 with less than four drives",
        about: "Parity shards of each stripe, when a vault is made: so many drives may fail. Also `--parity`.",
        example: "parity = 2",
    },
    Key {
        name: "drives",
        takes: "array of folders or of tables with `folder`, `label`, `shelf`, `maker`, `model`",
        default: "one folder `drives/dN` in the vault's folder for each shard",
        about: "Drives of a vault that is made. Shards of one stripe go to different drives, then shelves, then makers. \
                Also `--drive`, `--drives`.",
        example: "drives = [\"/mnt/a\", { folder = \"/mnt/b\", shelf = \"left\", maker = \"WD\" }]",
    },
    Key {
        name: "compression",
        takes: "number from 1 to 22",
        default: "3",
        about: "zstd level of a backup. Also `--compression`.",
        example: "compression = 3",
    },
    Key {
        name: "exclude",
        takes: "array of patterns",
        default: "none",
        about: "What a backup leaves out, added to `--exclude`.",
        example: "exclude = [\"*.tmp\", \"/home/*/.cache\"]",
    },
    Key {
        name: "one_file_system",
        takes: "true or false",
        default: "false",
        about: "Do not cross into other file systems. Also `--one-file-system`.",
        example: "one_file_system = true",
    },
    Key {
        name: "host",
        takes: "text",
        default: "the system's host name",
        about: "Host name in snapshots. Also `--host`.",
        example: "host = \"laptop\"",
    },
    Key {
        name: "workers",
        takes: "number from 1 to 256",
        default: "one for each processor",
        about: "Threads that compress or restore.",
        example: "workers = 4",
    },
];

/// What a configuration file says.
#[derive(Debug, Default, PartialEq)]
pub struct Config {
    /// The vault's folder.
    pub vault: Option<PathBuf>,
    /// The state's folder.
    pub state: Option<PathBuf>,
    /// The keys' folder.
    pub keys: Option<PathBuf>,
    /// Data shards.
    pub data: Option<u8>,
    /// Parity shards.
    pub parity: Option<u8>,
    /// Drives.
    pub drives: Vec<DriveSpec>,
    /// zstd level.
    pub compression: Option<i32>,
    /// Patterns of what is left out.
    pub exclude: Vec<String>,
    /// Stay on one file system.
    pub one_file_system: bool,
    /// Host name.
    pub host: Option<String>,
    /// Threads.
    pub workers: Option<usize>,
}

/// Reads `text`, the file at `path`. Relative folders are relative to the file's folder; `~/` is `home`.
///
/// # Errors
/// [`Condition::Config`] with line or key.
pub fn parse(text: &str, path: &Path, home: Option<&Path>) -> Result<Config, Failure> {
    let bad = |why: String| Failure::new(Condition::Config, format!("{}: {why}", path.display()));
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(e.to_string().trim_end().to_owned()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    let mut config = Config::default();
    for (name, value) in &table {
        let Some(key) = KEYS.iter().find(|k| k.name == name) else {
            return Err(bad(format!("there is no key `{name}`")).hint(nearest(name)));
        };
        let wrong = || match value.as_integer() {
            Some(n) if key.takes.starts_with("number") => {
                bad(format!("`{name}` takes a {}; {n} is out of range", key.takes))
            }
            _ => bad(format!("`{name}` takes {}, not {}", key.takes, value.type_str())),
        };
        let folder = || value.as_str().map(|s| place(s, base, home)).ok_or_else(wrong);
        match key.name {
            "vault" => config.vault = Some(folder()?),
            "state" => config.state = Some(folder()?),
            "keys" => config.keys = Some(folder()?),
            "data" => config.data = Some(number(value, 1, 255).ok_or_else(wrong)?),
            "parity" => config.parity = Some(number(value, 0, 254).ok_or_else(wrong)?),
            "compression" => config.compression = Some(number(value, 1, 22).ok_or_else(wrong)?),
            "workers" => config.workers = Some(number(value, 1, 256).ok_or_else(wrong)?),
            "one_file_system" => config.one_file_system = value.as_bool().ok_or_else(wrong)?,
            "host" => config.host = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
            "exclude" => config.exclude = texts(value).ok_or_else(wrong)?,
            "drives" => {
                let list = value.as_array().ok_or_else(wrong)?;
                config.drives = list.iter().map(|v| drive(v, base, home).map_err(&bad)).collect::<Result<_, _>>()?;
            }
            _ => return Err(bad(format!("`{name}` is known but not read: a mistake in lavatube"))),
        }
    }
    Ok(config)
}

fn number<T: TryFrom<i64>>(value: &Value, min: i64, max: i64) -> Option<T> {
    value.as_integer().filter(|n| (min..=max).contains(n)).and_then(|n| T::try_from(n).ok())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect()
}

fn place(text: &str, base: &Path, home: Option<&Path>) -> PathBuf {
    if BucketAt::is_meant(text) {
        return text.into();
    }
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => base.join(text),
    }
}

fn drive(value: &Value, base: &Path, home: Option<&Path>) -> Result<DriveSpec, String> {
    const FIELDS: [&str; 5] = ["folder", "label", "shelf", "maker", "model"];
    let mut spec = DriveSpec::default();
    match value {
        Value::String(s) => spec.folder = place(s, base, home),
        Value::Table(table) => {
            for (name, value) in table {
                let text = value.as_str().ok_or_else(|| format!("`{name}` of a drive takes text"))?;
                match name.as_str() {
                    "folder" => spec.folder = place(text, base, home),
                    "label" => spec.label = text.to_owned(),
                    "shelf" => spec.shelf = text.to_owned(),
                    "maker" => spec.maker = text.to_owned(),
                    "model" => spec.model = text.to_owned(),
                    _ => return Err(format!("a drive has no `{name}`; it has {}", FIELDS.join(", "))),
                }
            }
        }
        _ => return Err("a drive is a folder, or a table with `folder`".into()),
    }
    if spec.folder.as_os_str().is_empty() {
        return Err("a drive needs `folder`".into());
    }
    spec.folder = places::given(base, &spec.folder)?;
    spec.fill_label();
    Ok(spec)
}

fn nearest(name: &str) -> String {
    let near =
        KEYS.iter().max_by(|a, b| strsim::jaro_winkler(a.name, name).total_cmp(&strsim::jaro_winkler(b.name, name)));
    match near {
        Some(key) if strsim::jaro_winkler(key.name, name) > 0.7 => format!("did you mean `{}`?", key.name),
        _ => format!("the keys are {}", KEYS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ")),
    }
}

/// The document about the configuration file: `docs/CONFIG.md` and `lavatube help config`.
pub fn document() -> String {
    let mut out = String::from(
        "# The configuration file\n\n\
         Generated from `crates/lavatube-cli/src/config.rs`; `UPDATE=1 cargo test -p lavatube-cli` rewrites it.\n\n\
         TOML, at `$XDG_CONFIG_HOME/lavatube/lavatube.toml` (`~/.config/lavatube/lavatube.toml`), or where `--config` or\n\
         `LAVATUBE_CONFIG` says. It need not exist. An option counts before an environment variable, that before the file, and\n\
         that before the default. Relative folders are relative to the file; `~/` is the home folder. A key that is not in this\n\
         table is an error.\n\n\
         | key | takes | default | for |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let _ = writeln!(out, "| `{}` | {} | {} | {} |", key.name, key.takes, key.default, key.about);
    }
    out.push_str("\n## An example\n\n```toml\n");
    for key in KEYS {
        let _ = writeln!(out, "{}", key.example);
    }
    out.push_str("```\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, Failure> {
        parse(text, Path::new("/etc/lavatube/lavatube.toml"), Some(Path::new("/home/ann")))
    }

    #[test]
    fn docs_config_is_the_table() {
        crate::documents::compare("CONFIG.md", &document());
    }

    #[test]
    fn the_example_uses_every_key_and_is_read() {
        let example: String = KEYS.iter().map(|k| format!("{}\n", k.example)).collect();
        let config = read(&example).unwrap();
        assert_eq!(config.drives.len(), 2);
        assert_eq!((&*config.drives[1].label, &*config.drives[1].shelf), ("b", "left"));
        assert_eq!((config.data, config.parity, config.workers), (Some(4), Some(2), Some(4)));
        assert!(config.one_file_system);
    }

    #[test]
    fn folders_are_relative_to_the_file_or_the_home() {
        let config = read("vault = 'v'\nkeys = '~/k'\nstate = '/s'\n").unwrap();
        assert_eq!(config.vault, Some("/etc/lavatube/v".into()));
        assert_eq!(config.keys, Some("/home/ann/k".into()));
        assert_eq!(config.state, Some("/s".into()));
    }

    #[test]
    fn a_typing_mistake_is_named_with_the_nearest_key() {
        let e = read("excludes = []\n").unwrap_err();
        assert!(e.what.contains("`excludes`"), "{}", e.what);
        assert_eq!(e.advice(), "did you mean `exclude`?");
        assert!(read("qqq = 1").unwrap_err().advice().starts_with("the keys are vault, "));
    }

    #[test]
    fn wrong_values_are_refused() {
        for bad in
            ["data = 0", "parity = -1", "compression = 23", "workers = 'x'", "exclude = [1]", "drives = [{}]", "= 1"]
        {
            assert_eq!(read(bad).unwrap_err().condition, Condition::Config, "{bad}");
        }
        let out = read("compression = 50").unwrap_err().what;
        assert!(out.ends_with("`compression` takes a number from 1 to 22; 50 is out of range"), "{out}");
        assert!(read("parity = 'two'").unwrap_err().what.ends_with("takes number from 0 to 254, not string"));
        assert!(read("drives = [{ folder = 'a', shelve = 'b' }]").unwrap_err().what.contains("shelve"));
    }
}
