//! `lavatube status` of a vault at the other end of a link: what this machine knows of it, without asking. Must not know how a link
//! works.

use lavatube_base::time::WallTime;
use lavatube_client::log::Standing as LogStanding;
use lavatube_node::audits::{self, Standing};
use lavatube_node::checks::{self, Remembered};
use lavatube_node::keyring::Keyring;
use lavatube_node::link_folder::{self, Pairing};
use lavatube_node::{clock, depositor, vault_log};
use serde_json::{Value, json};

use super::{check_to_json, keys, keys_in_json, last_backup, remember};
use crate::archive;
use crate::errors::{End, Failure};
use crate::screen::{Ink, Screen};
use crate::settings::Settings;
use crate::verbs::vault::afar;
use crate::verbs::{audit, log, release};
use crate::{date, units};

/// What is known here.
struct Known {
    id: String,
    /// Where it is said to be.
    address: Option<String>,
    /// What the daemon last said, and how many seconds ago.
    daemon: Option<(Value, u64)>,
    waiting: usize,
    /// Backups that went out from here, and those of them that the vault has signed for.
    sent: usize,
    receipted: usize,
    last: Option<WallTime>,
    checks: Remembered,
    audits: Standing,
    now: WallTime,
    /// An alarm that stands.
    alarm: Option<LogStanding>,
}

impl Known {
    fn look(settings: &Settings) -> Result<Self, Failure> {
        let vault = &settings.places.vault;
        let id = link_folder::vault_id(vault)?;
        let state = depositor::state_folder(&settings.places, id);
        let said = link_folder::read_status(vault)?;
        let (sent, receipted) = depositor::crossed(&state)?;
        Ok(Self {
            id: id.to_string(),
            address: Pairing::open(vault)?.file.address.clone(),
            daemon: said.and_then(|(text, age)| Some((serde_json::from_str(&text).ok()?, age.as_secs()))),
            waiting: archive::waiting(settings)?,
            sent,
            receipted,
            last: last_backup(&state),
            checks: checks::remembered(&settings.places)?,
            audits: Standing::of(&audits::history(&settings.places)?),
            now: clock::wall_now(),
            alarm: vault_log::standing(&settings.places)?,
        })
    }

    fn end(&self) -> End {
        if self.alarm.is_some() {
            return End::Alarm;
        }
        if super::remembers_loss(&self.checks, &self.audits) { End::Lost } else { End::Done }
    }

    /// What the running daemon says.
    fn running(&self) -> Option<&Value> {
        self.daemon.as_ref().filter(|(_, age)| *age <= STALE_S).map(|(said, _)| said)
    }

    fn link(&self, screen: &Screen) -> String {
        let (Some(said), true) = (self.running(), self.daemon.is_some()) else {
            let ago = self
                .daemon
                .as_ref()
                .map_or(String::new(), |(_, age)| format!("; one did {} ago", units::whole_span(*age)));
            return screen.ink(Ink::Yellow, &format!("no daemon runs{ago}: `lavatube node` takes there what waits"));
        };
        let loss = 100.0 * said["loss"].as_f64().unwrap_or_default();
        match said["line"].as_str() {
            Some("open") => {
                format!("{}, {loss:.1} % lost; `lavatube link status` says more", screen.ink(Ink::Green, "open"))
            }
            Some("silent") => screen.ink(Ink::Yellow, "nobody answers"),
            _ => "no contact now, by the plan".to_owned(),
        }
    }

    /// When all that waits will be there, as the daemon expects.
    fn there_unix_s(&self) -> Option<i64> {
        let queue = self.running()?["queue"].as_array()?;
        let times: Option<Vec<i64>> = queue.iter().map(|waiting| waiting["there_unix_s"].as_i64()).collect();
        times?.into_iter().max()
    }

    /// How many objects the vault cannot store now (`held`), or this machine cannot send (`stuck`), as far as that is known.
    fn count(&self, name: &str) -> u64 {
        self.running().and_then(|said| said[name].as_array()).map_or(0, |all| all.len() as u64)
    }

    fn waiting(&self) -> String {
        if self.waiting == 0 {
            return "nothing waits here".to_owned();
        }
        let mut text = format!("{}, here only", units::things(self.waiting as u64, "object", "objects"));
        let (held, stuck) = (self.count("held"), self.count("stuck"));
        if stuck > 0 {
            text.push_str(&format!("; {} cannot be sent: `lavatube link status` says why", units::count(stuck)));
        } else if held > 0 {
            text.push_str(&format!(
                "; the vault cannot store {} now: `lavatube link status` says why",
                units::count(held)
            ));
        } else if let Some(s) = self.there_unix_s() {
            let wait = u64::try_from(s.saturating_sub(self.now.s)).unwrap_or(0);
            text.push_str(&format!("; there in {}, if all goes by the plan", units::whole_span(wait)));
        }
        text
    }

    fn receipted(&self, screen: &Screen) -> String {
        let sent = units::things(self.sent as u64, "backup", "backups");
        match self.receipted {
            _ if self.sent == 0 => "nothing was backed up from here yet".to_owned(),
            n if n == self.sent => {
                screen.ink(Ink::Green, &format!("{sent} of this machine, each with the vault's receipt"))
            }
            n => format!("{} of {sent} of this machine", units::count(n as u64)),
        }
    }
}

/// Shows it.
///
/// # Errors
/// When the state or the link's files cannot be read.
pub(super) fn run(settings: &Settings, screen: &Screen) -> Result<End, Failure> {
    let known = Known::look(settings)?;
    let (keyring, end) = (Keyring::at(&settings.places.keys), known.end());
    let heading = |text: &str| screen.ink(Ink::Bold, text);
    screen.say(&format!("{}  {}, at the other end of a link", heading("vault"), settings.places.vault.display()))?;
    screen.say(&format!("  id          {}", known.id))?;
    if let Some(address) = &known.address {
        screen.say(&format!("  address     {address}"))?;
    }
    screen.say(&format!("  link        {}", known.link(screen)))?;
    let care = afar::known(settings, screen)?;
    if let Some((line, _)) = &care {
        screen.say(&format!("  drives      {line}"))?;
    }
    let releases = release::afar::known(settings, screen)?;
    for line in releases.iter().flat_map(|(lines, _)| release::afar::headed(lines.clone())) {
        screen.say(&line)?;
    }
    screen.say(&heading("this machine"))?;
    screen.say(&format!("  keys        {}: {}", settings.places.keys.display(), keys(&keyring)))?;
    screen.say(&format!("  state       {}", settings.places.state.display()))?;
    if let Some(last) = known.last {
        screen.say(&format!("  last        {}", date::rfc3339(last)))?;
    }
    screen.say(&format!("  safe here   {}", known.waiting()))?;
    screen.say(&format!("  safe there  {}", known.receipted(screen)))?;
    let remembered = remember(&known.checks, known.now, true, screen);
    for line in
        remembered.into_iter().chain(audit::standing(&known.audits, super::is_loss(&known.checks), known.now, screen))
    {
        screen.say(&line)?;
    }
    for line in known.alarm.iter().flat_map(|alarm| log::standing_in_words(alarm, screen)) {
        screen.say(&line)?;
    }
    super::warn_of_recovery_key(&keyring, screen);
    let check = |check: Option<_>| check.map(|c| check_to_json(&c, known.now));
    screen.answer(&json!({
        "vault": {
            "path": settings.places.vault.to_string_lossy(),
            "id": known.id,
            "far": true,
            "address": known.address,
        },
        "link": known.daemon.as_ref().map(|(said, age)| json!({ "line": said["line"], "loss": said["loss"], "age_s": age })),
        "care": care.map(|(_, value)| value),
        "release": releases.map(|(_, value)| value),
        "waiting": known.waiting,
        "there_unix_s": known.there_unix_s(),
        "held": known.count("held"),
        "stuck": known.count("stuck"),
        "backups": known.sent,
        "receipted": known.receipted,
        "last": known.last.map(date::rfc3339),
        "checked": check(known.checks.last),
        "read": check(known.checks.read),
        "still_there": known.audits.passed.map(|a| audit::to_json(&a, known.now)),
        "not_proved": known.audits.failed.map(|a| audit::to_json(&a, known.now)),
        "log_alarm": known.alarm.as_ref().map(log::standing_to_json),
        "keys": keys_in_json(&keyring),
        "state": settings.places.state.to_string_lossy(),
        "config": settings.config_file.as_ref().map(|c| c.to_string_lossy()),
        "exit": end.status(),
    }))?;
    Ok(end)
}

/// A status older than this is not that of a running daemon.
const STALE_S: u64 = 5;
