//! `lavatube key`: which keys are here, and how they leave, come back, are locked and made again.
//!
//! A key file is copied, read back and only then removed; nothing is ever overwritten. Must not know what keys do.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use lavatube_format::key_file::{KeyFile, KeyKind};
use lavatube_node::keyring::Keyring;
use lavatube_node::keys_io::{self, KeyFileError};
use lavatube_node::{atomic, process};
use serde_json::json;

use crate::errors::{Condition, End, Failure};
use crate::passphrase::Asker;
use crate::recovery;
use crate::screen::{Ink, Screen};
use crate::settings::Settings;

/// Show, move, lock and recover keys.
///
/// Three keys belong to an archive. The deposit key adds backups and opens nothing. The read key opens everything; it
/// may live on another machine or a stick, and lie here only while you restore. The recovery key makes both again and
/// belongs on paper.
///
/// JSON fields of `show`: path, deposit {path, here}, read {path, here, locked}, recovery_file {path, here}, exit; of the
/// others: done, from, to, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct KeyArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

const EXAMPLES: &str = "Examples:
  lavatube key                                      which keys are here
  lavatube key move-read /media/stick/read.key      this machine can then add, not read
  lavatube restore latest --target ~/back --read-key /media/stick/read.key
  lavatube key bring-read /media/stick/read.key
  lavatube key lock                                 a passphrase for the read key
  lavatube key agent --socket ~/.lavatube-agent &   type it once: lavatube restore … --agent ~/.lavatube-agent
  lavatube key import-recovery < recovery-key.txt   on a new machine";

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Which keys are here, and whether they are locked (the default)
    Show,
    /// Move the read key away, to TO; this machine can then add backups and not read them
    MoveRead {
        /// The new file, or a folder to put read.key into
        to: PathBuf,
        /// Lock it with a passphrase there
        #[arg(long)]
        passphrase: bool,
    },
    /// Bring the read key back; the file FROM stays where it is
    BringRead {
        /// The key file
        from: PathBuf,
    },
    /// Lock the read key with a passphrase, or change it
    Lock {
        /// Take the passphrase away instead
        #[arg(long)]
        remove: bool,
    },
    /// Hold the read key (unlocked once) for other commands of this user, until interrupted
    Agent {
        /// The socket to answer at
        #[arg(long, value_name = "SOCKET")]
        socket: PathBuf,
        /// Hold the key in FILE instead of the one here
        #[arg(long, value_name = "FILE")]
        read_key: Option<PathBuf>,
    },
    /// How to keep the recovery key, and whether its file still lies here
    Recovery,
    /// Make the keys again from the recovery key, read from standard input
    ImportRecovery,
}

/// Does what was asked for.
///
/// # Errors
/// When it was not done; no key is lost then.
pub fn run(args: &KeyArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let keyring = Keyring::at(&settings.places.keys);
    let asker = Asker::new(settings.passphrase_file.as_deref());
    match &args.action {
        None | Some(Action::Show) => show(&keyring, screen),
        Some(Action::MoveRead { to, passphrase }) => {
            move_read(&keyring, &settings.here.join(to), *passphrase, asker, screen)
        }
        Some(Action::BringRead { from }) => bring_read(&keyring, &settings.here.join(from), screen),
        Some(Action::Lock { remove }) => lock(&keyring, *remove, asker, screen),
        Some(Action::Agent { socket, read_key }) => {
            let file = read_key.as_ref().map(|p| settings.here.join(p));
            agent(&keyring, &settings.here.join(socket), file.as_deref(), asker, screen)
        }
        Some(Action::Recovery) => recovery(&keyring, screen),
        Some(Action::ImportRecovery) => import(&keyring, screen),
    }
}

/// Answers at `socket` until the process is ended.
fn agent(
    keyring: &Keyring,
    socket: &Path,
    file: Option<&Path>,
    mut asker: Asker,
    screen: &Screen,
) -> Result<End, Failure> {
    let keys = keyring.read(file, &mut |prompt| asker.ask(prompt)).map_err(|e| asker.blame(e))?;
    let mut said = Ok(());
    lavatube_node::agent::serve(socket, &keys, || {
        said = screen.say(&format!("answering at {0}; use it with --agent {0}", socket.display()));
    })?;
    said?;
    Ok(End::Done)
}

/// Whether the key file at `path` is there, and locked.
fn look(path: &Path) -> Result<Option<bool>, Failure> {
    match keys_io::read_key_text(path) {
        Ok(text) => Ok(Some(decode(path, &text)?.lock.is_some())),
        Err(KeyFileError::Missing(_)) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn decode(path: &Path, text: &str) -> Result<KeyFile, Failure> {
    let bad = |e: lavatube_format::Malformed| Failure::new(Condition::WrongKey, format!("{}: {e}", path.display()));
    KeyFile::decode(text).map_err(bad)
}

fn show(keyring: &Keyring, screen: &Screen) -> Result<End, Failure> {
    let (deposit, read) = (look(&keyring.deposit_path())?, look(&keyring.read_path())?);
    let recovery = keyring.recovery_path().exists();
    let read_state = match read {
        None => "not here: this machine cannot read backups",
        Some(true) => "here, locked with a passphrase",
        Some(false) => "here, not locked: whoever is you on this machine can read",
    };
    let deposit_state = if deposit.is_some() { "here: this machine can add backups" } else { "not here" };
    let recovery_state =
        if recovery { "still in a file here: print it and delete the file" } else { "not here, as it should be" };
    screen.say(&format!("{}  {}", screen.ink(Ink::Bold, "keys"), keyring.folder().display()))?;
    for (name, state) in [("deposit.key", deposit_state), ("read.key", read_state), ("recovery key", recovery_state)] {
        screen.say(&format!("  {name:<13} {state}"))?;
    }
    screen.answer(&json!({
        "path": keyring.folder().to_string_lossy(),
        "deposit": { "path": keyring.deposit_path().to_string_lossy(), "here": deposit.is_some() },
        "read": { "path": keyring.read_path().to_string_lossy(), "here": read.is_some(), "locked": read },
        "recovery_file": { "path": keyring.recovery_path().to_string_lossy(), "here": recovery },
        "exit": 0,
    }))?;
    Ok(End::Done)
}

fn move_read(
    keyring: &Keyring,
    to: &Path,
    passphrase: bool,
    mut asker: Asker<'_>,
    screen: &Screen,
) -> Result<End, Failure> {
    let from = keyring.read_path();
    let to = if to.is_dir() { to.join("read.key") } else { to.to_owned() };
    let text = keys_io::read_key_text(&from)?;
    if passphrase {
        if decode(&from, &text)?.lock.is_some() {
            let what = format!("{} is locked already and keeps its passphrase", from.display());
            return Err(
                Failure::new(Condition::Usage, what).hint("leave --passphrase away; `lavatube key lock` changes it")
            );
        }
        let new = asker.ask_new("New passphrase of the moved key")?;
        keyring.copy_read(&from, &to, &mut |_| None, Some(&new))?;
    } else {
        keys_io::write_key_text(&to, &text)?;
    }
    // What is removed here must be readable there.
    let copy = keys_io::read_key_text(&to)?;
    decode(&to, &copy)?;
    if !passphrase && *copy != *text {
        return Err(Failure::new(
            Condition::Io,
            format!("{} does not hold what was written; the key stays here", to.display()),
        ));
    }
    remove(&from)?;
    screen.tell(&format!(
        "The read key is in {} now. This machine can add backups and cannot read them.",
        to.display()
    ))?;
    screen.tell("Keep a second copy, or the recovery key on paper: without them nobody can restore.")?;
    if keyring.recovery_path().exists() {
        let path = keyring.recovery_path();
        screen.warn(&format!("{} still lies here and opens everything too: print it, then delete it", path.display()));
    }
    answer(screen, "moved", &from, &to)
}

fn bring_read(keyring: &Keyring, from: &Path, screen: &Screen) -> Result<End, Failure> {
    let text = keys_io::read_key_text(from)?;
    let file = decode(from, &text)?;
    if file.kind != KeyKind::Read {
        return Err(Failure::new(Condition::WrongKey, format!("{} is not a read key", from.display())));
    }
    let to = keyring.read_path();
    make_folder(keyring.folder())?;
    keys_io::write_key_text(&to, &text)?;
    screen.tell(&format!("The read key is in {} again; {} was left as it is.", to.display(), from.display()))?;
    answer(screen, "brought", from, &to)
}

fn lock(keyring: &Keyring, remove_it: bool, mut asker: Asker<'_>, screen: &Screen) -> Result<End, Failure> {
    let (path, side) = (keyring.read_path(), keyring.folder().join("read.key.new"));
    let locked = look(&path)?.ok_or_else(|| Failure::from(KeyFileError::Missing(path.clone())))?;
    if remove_it && !locked {
        return Err(
            Failure::new(Condition::Usage, format!("{} is not locked", path.display())).hint("nothing is to be done")
        );
    }
    let old = if locked { Some(asker.ask(&format!("Passphrase of {}", path.display()))) } else { None };
    let new = if remove_it { None } else { Some(asker.ask_new("New passphrase")?) };
    // Left behind by a run that was cut; the key itself is in its place still.
    let _ = std::fs::remove_file(&side);
    let copied = keyring.copy_read(&path, &side, &mut |_| old.clone().flatten(), new.as_ref().map(|p| p.as_str()));
    copied.map_err(|e| asker.blame(e))?;
    let text = keys_io::read_key_text(&side)?;
    decode(&side, &text)?;
    let failed = |e: std::io::Error| Failure::new(Condition::Io, format!("{}: {e}", path.display()));
    atomic::write(&path, text.as_bytes(), atomic::IfThere::Replace).map_err(failed)?;
    remove(&side)?;
    let what = if remove_it {
        "The read key has no passphrase any more."
    } else {
        "The read key is locked; restore, check and ls will ask for the passphrase."
    };
    screen.tell(what)?;
    answer(screen, if remove_it { "unlocked" } else { "locked" }, &path, &path)
}

fn recovery(keyring: &Keyring, screen: &Screen) -> Result<End, Failure> {
    let path = keyring.recovery_path();
    screen.say("The recovery key makes the read key and new deposit keys again, on any machine.")?;
    screen.say("Whoever has it can read everything; without it and without a read key nobody can.")?;
    if path.exists() {
        screen.say(&format!("It lies in {}.", path.display()))?;
        screen.say("Print that file or copy its line by hand, keep it far from this machine, then delete the file.")?;
    } else {
        screen.say(&format!("Its file is not here any more ({}), as it should be.", path.display()))?;
        screen.say("`lavatube key import-recovery` reads it from standard input, on this or another machine.")?;
    }
    screen.answer(&json!({ "path": path.to_string_lossy(), "here": path.exists(), "exit": 0 }))?;
    Ok(End::Done)
}

fn import(keyring: &Keyring, screen: &Screen) -> Result<End, Failure> {
    if std::io::stdin().is_terminal() {
        let _ = write!(std::io::stderr(), "Type the recovery key (end with an empty line): ");
    }
    let root = recovery::read_root(&mut std::io::stdin().lock())?;
    let before = (keyring.can_deposit(), keyring.read_path().exists());
    if before == (true, true) {
        let what = format!("deposit.key and read.key are in {} already", keyring.folder().display());
        return Err(
            Failure::new(Condition::Exists, what).hint("nothing is to be done; or name another folder with --keys DIR")
        );
    }
    keyring.make_from(&root, &process::host_name())?;
    keyring.make_recovery_link(&root)?;
    let made = match before {
        (false, false) => "deposit.key and read.key",
        (true, _) => "read.key",
        (_, true) => "deposit.key",
    };
    screen.tell(&format!("Made {made} in {}.", keyring.folder().display()))?;
    screen.tell("The next backup shows the new deposit key to the vault.")?;
    screen.tell("Is the vault far away? `lavatube pair --recover HOST:PORT` finds it again.")?;
    screen.answer(&json!({ "done": "imported", "to": keyring.folder().to_string_lossy(), "exit": 0 }))?;
    Ok(End::Done)
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::new(Condition::Io, format!("{}: {e}", folder.display())))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path)
        .map_err(|e| Failure::new(Condition::Io, format!("{} cannot be removed: {e}", path.display())))
}

fn answer(screen: &Screen, done: &str, from: &Path, to: &Path) -> Result<End, Failure> {
    screen.answer(&json!({ "done": done, "from": from.to_string_lossy(), "to": to.to_string_lossy(), "exit": 0 }))?;
    Ok(End::Done)
}
