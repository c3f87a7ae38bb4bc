//! `lavatube pair`: makes two machines the ends of a link. Must not know what keys do.

use std::time::Duration;

use lavatube_client::meter::Meter;
use lavatube_node::embedded;
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder::{self, LinkError};
use serde_json::json;

use crate::errors::{Condition, End, Failure};
use crate::progress;
use crate::screen::Screen;
use crate::settings::Settings;

/// Make this machine one end of a link to a far vault, or to its depositor.
///
/// Without a LINE it prints this end's own. Give it to the other end, and that one's line to this one: then they know each
/// other. Lines hold public keys only, but see that nobody exchanges one on its way. Where the vault's folder holds the
/// vault (made with `lavatube init` and carried to its place), this is the far end; elsewhere the folder then stands for
/// the far vault, and `lavatube backup` leaves what it makes for `lavatube node` to take there.
///
/// JSON fields: line, end (depositor or vault), vault {path, id} (id null before a depositor is paired), paired, exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PairArgs {
    /// The line that the other end printed
    #[arg(value_name = "LINE", num_args = 0..)]
    line: Vec<String>,
    /// All machines are lost: pair with the far vault that listens there, with the key that `lavatube key import-recovery`
    /// made. The vault tells its line, unless one is given
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "peer")]
    recover: Option<String>,
    /// With --recover: give up when the vault did not answer for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, requires = "recover")]
    link_wait: u64,
    /// Where the other end listens; a vault learns it from what comes in
    #[arg(long, value_name = "HOST:PORT", requires = "line")]
    peer: Option<String>,
    /// Bits a second that may leave this end [default: 20000000]
    #[arg(long, value_name = "BIT/S", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    rate_up: Option<u64>,
    /// Bits a second that may come in at this end [default: 20000000]
    #[arg(long, value_name = "BIT/S", value_parser = clap::value_parser!(u64).range(..=1_000_000_000_000))]
    rate_down: Option<u64>,
}

const BUNDLES_ONLY: &str = "a vault that bundles reach ([dtn] in its link.toml) knows only the machine it was paired with: \
     for the recovery, take [dtn] out there and start `lavatube vault serve` again";

const EXAMPLES: &str = "Examples:
  lavatube pair                                     this end's line
  lavatube pair LVTP1-… --peer moon.example:4556    on the machine that backs up, with the vault's line
  lavatube pair LVTP1-… --vault /srv/vault          at the vault, with the depositor's line
  lavatube pair --recover moon.example:4556         on a new machine, after `lavatube key import-recovery`";

/// Prints this end's line, or stores the other's.
///
/// # Errors
/// When a line is none, or of the wrong end.
pub fn run(args: &PairArgs, settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let folder = &settings.places.vault;
    let mut line = args.line.concat();
    if line.is_empty() && args.recover.is_none() && (args.rate_up.is_some() || args.rate_down.is_some()) {
        return Err(Failure::new(Condition::Usage, "rates are set when a line is given, or in link.toml"));
    }
    let keyring = Keyring::at(&settings.places.keys);
    if let Some(address) = &args.recover {
        if embedded::is_vault(folder) {
            return Err(LinkError::VaultHere(folder.clone()).into());
        }
        if line.is_empty() {
            let meter = Meter::default();
            let ask = || link_folder::ask_line(address, Duration::from_secs(args.link_wait));
            let answer = progress::during(screen, "asking the vault for its line", &meter, ask);
            line = answer.map_err(|e| Failure::from(e).hint(BUNDLES_ONLY))?.encode();
        }
        link_folder::take_key(folder, &keyring.recovery_link_path())?;
    }
    let mut own = link_folder::own_line(folder)?;
    if own.vault.is_none() {
        own.recovery = keyring.recovery_link();
    }
    let end = if embedded::is_vault(folder) { "vault" } else { "depositor" };
    if line.is_empty() {
        screen.say(&own.encode())?;
    } else {
        if args.peer.as_ref().is_some_and(|peer| !peer.contains(':')) {
            return Err(Failure::new(Condition::Usage, "an address is HOST:PORT")
                .hint("such as 192.0.2.7:4556 or [2001:db8::7]:4556"));
        }
        let pairing = link_folder::pair(folder, &line, |file| {
            file.address = args.recover.clone().or(args.peer.clone()).or(file.address.take());
            file.rate_up_bit_s = args.rate_up.or(file.rate_up_bit_s);
            file.rate_down_bit_s = args.rate_down.or(file.rate_down_bit_s);
        })?;
        screen.tell(&format!(
            "Paired for vault {}. The link's settings are in {}.",
            pairing.vault(),
            folder.join("link.toml").display()
        ))?;
        let next = match end {
            "vault" => "`lavatube vault serve` takes what comes.",
            _ => "`lavatube backup` leaves what it makes here, and `lavatube node` takes it there.",
        };
        screen.tell(next)?;
    }
    let id = own.vault.map(|vault| vault.id).or_else(|| link_folder::vault_id(folder).ok());
    screen.answer(&json!({
        "line": own.encode(),
        "end": end,
        "vault": { "path": folder.to_string_lossy(), "id": id.map(|id| id.to_string()) },
        "paired": folder.join("link.toml").exists(),
        "exit": 0,
    }))?;
    Ok(End::Done)
}
