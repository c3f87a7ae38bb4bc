//! Reading the recovery key where a person typed it, or from the file a first run left. Must not know what it is for.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use lavatube_node::keyring::Keyring;
use lavatube_seal::Root;
use zeroize::Zeroizing;

use crate::errors::{Condition, Failure};
use crate::settings::Settings;

/// The root that the authority signs with: typed where `file` is `-`, from that file, or left beside the keys by a first run. `why` says, where it is
/// nowhere, what it is for.
///
/// # Errors
/// When there is none.
pub fn signing_root(file: Option<&Path>, keyring: &Keyring, settings: &Settings, why: &str) -> Result<Root, Failure> {
    match file {
        Some(path) if path.as_os_str() == "-" => {
            if std::io::stdin().is_terminal() {
                eprint!("Type the recovery key (end with an empty line): ");
            }
            read_root(&mut std::io::stdin().lock())
        }
        Some(path) => {
            let path = settings.here.join(path);
            let file = std::fs::File::open(&path)
                .map_err(|e| Failure::new(Condition::Io, format!("{}: {e}", path.display())))?;
            read_root(&mut std::io::BufReader::new(file))
        }
        None => keyring.left_recovery()?.ok_or_else(|| {
            Failure::new(Condition::NoKey, why)
                .hint("name its file with --recovery-key FILE, or type it: --recovery-key -")
        }),
    }
}

/// The root in the first line, or lines together, that are a recovery key: a whole recovery file is fine too.
///
/// # Errors
/// When there is none in it.
pub fn read_root(input: &mut impl BufRead) -> Result<Root, Failure> {
    let mut typed = Zeroizing::new(String::with_capacity(1024));
    let mut blame = None;
    for _ in 0..LINES_MAX {
        let mut line = Zeroizing::new(String::with_capacity(256));
        let n = input.read_line(&mut line).map_err(|e| Failure::new(Condition::Io, format!("standard input: {e}")))?;
        let text = line.trim();
        match Root::from_recovery_text(text) {
            Ok(root) => return Ok(root),
            Err(e) if text.contains('-') || blame.is_none() => blame = Some(e.to_string()),
            Err(_) => {}
        }
        typed.push_str(text);
        if let Ok(root) = Root::from_recovery_text(&typed) {
            return Ok(root);
        }
        if n == 0 || (text.is_empty() && std::io::stdin().is_terminal()) {
            break;
        }
    }
    let why = blame.unwrap_or_else(|| "nothing was given".into());
    Err(Failure::new(Condition::WrongKey, format!("this is no recovery key: {why}"))
        .hint("type it again, group by group"))
}

const LINES_MAX: usize = 64;
