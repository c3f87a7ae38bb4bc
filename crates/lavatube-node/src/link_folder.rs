//! The folder of one end of a link: who the other end is, this end's key, and which counters were used up.
//!
//! At the far end it is the vault's own folder; on a depositing machine a folder with `link.toml` instead of `vault.toml`
//! stands for a vault that is far away. Lines hold public keys only, the key file is private. It must not know datagrams,
//! nor what crosses the link. FORMAT section 13. No step of the walk.

mod counters;
mod own;
mod settings;
mod weather;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::{Instant, VaultId, hex};
use lavatube_client::far::Signer;
use lavatube_format::Malformed;
use lavatube_format::key_file::{KeyKind, LinkBody, Secret};
use lavatube_format::pair_line::{self, PairLine, PairVault};
use lavatube_link::{Config, ContactPlan, OneWay, PlanError};
use lavatube_seal::{BundleKeys, LinkEnd, LinkKey, SealError};

use counters::first_counter;
use own::{has_key, is_paired, read_file, read_key};

pub(crate) use counters::Counters;
pub use settings::{CarrierFile, DtnFile, LinkFile, OneWayFile, RateFile};
pub(crate) use weather::Weather;

use crate::atomic::{COMMON, PRIVATE, make_folders};
use crate::embedded::{self, EmbeddedVault, LINK_FILE, VaultError};
use crate::keys_io::{self, KeyFileError};
use crate::lock::LockError;
use crate::words::plain;
use crate::{clock, entropy};

const COUNTERS: &str = "counters";
/// Datagrams that the weather of another day is worth.
const WEATHER_WORTH: f64 = 400.0;
const RECOVERY_COUNTERS: &str = "counters-recovery";
const STATUS: &str = "link/status.json";
const STATUS_NEW: &str = "link/.status.json.new";

/// Why a link cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody is at its other end yet.
    #[error("{} is not paired with another end of a link", .0.display())]
    NotPaired(PathBuf),
    /// There is no vault to serve here, only the way to one.
    #[error("{} leads to a far vault; there is none to serve in it", .0.display())]
    NoVaultHere(PathBuf),
    /// The vault itself is here.
    #[error("the vault itself is in {}: nothing has to cross a link", .0.display())]
    VaultHere(PathBuf),
    /// It is paired with somebody else.
    #[error("{} is paired with another end already", .0.display())]
    OtherPeer(PathBuf),
    /// The line is none, or of the wrong end.
    #[error("{0}")]
    Line(#[from] Malformed),
    /// The line is that of another depositor, or of another vault.
    #[error("{0}")]
    WrongEnd(&'static str),
    /// A file of ours makes no sense.
    #[error("{}: {text}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// A file or folder failed.
    #[error("{}: {text}", path.display())]
    Io {
        /// What failed.
        path: PathBuf,
        /// The system's words.
        text: String,
    },
    /// The contact plan.
    #[error("the contact plan {}: {source}", path.display())]
    Plan {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: PlanError,
    },
    /// An address cannot be used.
    #[error("the address {address}: {text}")]
    Address {
        /// The address.
        address: String,
        /// What the system said.
        text: String,
    },
    /// Another daemon uses it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The keys.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// Spool, ledger or state of a depositor.
    #[error(transparent)]
    Courier(#[from] lavatube_client::courier::CourierError),
    /// The state of a depositor.
    #[error(transparent)]
    State(#[from] lavatube_client::state::StateError),
    /// No entropy.
    #[error(transparent)]
    Entropy(#[from] entropy::EntropyError),
    /// It ended while it was needed.
    #[error("the link: {0}")]
    Ended(String),
    /// The vault's log is not what it was, and nobody has looked yet.
    #[error("nothing more is sent, because the vault cannot be believed: {0}")]
    LogAlarm(String),
    /// Objects are left that cannot be sent.
    #[error("{count} objects are left that cannot be sent, the first because {why}")]
    Stuck {
        /// How many.
        count: usize,
        /// Why.
        why: String,
    },
}

/// One end of a link, with all that its daemon needs.
pub struct Pairing {
    folder: PathBuf,
    end: LinkEnd,
    key: LinkKey,
    peer: PairLine,
    vault: PairVault,
    /// The other end comes with the recovery key.
    is_recovery: bool,
    /// What a person has set.
    pub file: LinkFile,
}

/// Whether `folder` stands for a vault at the other end of a link.
pub fn is_far(folder: &Path) -> bool {
    is_paired(folder) && !embedded::is_vault(folder)
}

/// The id of the vault in `folder`, or of the far one that it leads to.
///
/// # Errors
/// When there is neither.
pub fn vault_id(folder: &Path) -> Result<VaultId, LinkError> {
    if !is_far(folder) {
        return Ok(embedded::vault_id(folder)?);
    }
    let path = folder.join(LINK_FILE);
    let line = PairLine::decode(&read_file(folder)?.peer).map_err(|e| unfit(&path, &e))?;
    line.vault.map(|vault| vault.id).ok_or(LinkError::WrongEnd(DEPOSITORS_LINE))
}

/// The line of the end in `folder`, for the other one; its key is made when there is none.
///
/// # Errors
/// [`LinkError`] when key or vault cannot be read or made.
pub fn own_line(folder: &Path) -> Result<PairLine, LinkError> {
    make_folders(folder, COMMON).map_err(|e| io_error(folder, &e))?;
    if !has_key(folder) {
        let body = LinkBody { x25519: Secret::new(entropy::bytes()?) }.encode();
        let text = lavatube_seal::lock::unlocked(KeyKind::Link, &body).encode();
        match own::write_key(folder, &text) {
            // Another command was faster.
            Ok(()) | Err(KeyFileError::Exists(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let link_key = *read_key(folder)?.public();
    Ok(PairLine { link_key, vault: own_vault(folder)?, recovery: None })
}

/// The vault in `folder`, if there is one.
fn own_vault(folder: &Path) -> Result<Option<PairVault>, LinkError> {
    if !embedded::is_vault(folder) {
        return Ok(None);
    }
    let vault = EmbeddedVault::open(folder, false)?;
    let vault = vault.read();
    Ok(Some(PairVault { id: vault.id(), key: vault.vault_key() }))
}

/// Stores who is at the other end. `change` sets what else a person may set. A file that is there keeps the rest.
///
/// # Errors
/// [`LinkError`]; nothing was changed then.
pub fn pair(folder: &Path, line: &str, change: impl FnOnce(&mut LinkFile)) -> Result<Pairing, LinkError> {
    let own = own_line(folder)?;
    let peer = PairLine::decode(line)?;
    let vault = own.vault.or(peer.vault);
    match (own.vault, peer.vault) {
        (Some(_), Some(_)) => return Err(LinkError::WrongEnd(VAULTS_LINE)),
        (None, None) => return Err(LinkError::WrongEnd(DEPOSITORS_LINE)),
        _ => {}
    }
    if let Some(vault) = vault {
        // A line that cannot be agreed with is refused before it is stored.
        read_key(folder)?.agree(end_of(folder), &peer.link_key, vault.id)?;
    }
    let mut file = match is_paired(folder) {
        true => read_file(folder)?,
        false => LinkFile { peer: peer.encode(), ..LinkFile::default() },
    };
    if PairLine::decode(&file.peer).is_ok_and(|before| (before.link_key, before.vault) != (peer.link_key, peer.vault)) {
        return Err(LinkError::OtherPeer(folder.to_owned()));
    }
    // A line may tell more than it did before.
    file.peer = peer.encode();
    file.own = Some(hex(&own.link_key));
    change(&mut file);
    own::write_file(folder, &file)?;
    Pairing::open(folder)
}

/// Makes `key` the link key of `folder`, where there is none yet: that of whoever has nothing but the recovery key.
///
/// # Errors
/// [`LinkError`] when it has another one, or `key` cannot be read.
pub fn take_key(folder: &Path, key: &Path) -> Result<(), LinkError> {
    make_folders(folder, COMMON).map_err(|e| io_error(folder, &e))?;
    let text = keys_io::read_key_text(key)?;
    if has_key(folder) {
        let same = *keys_io::read_key_text(&folder.join(own::KEY_FILE))? == *text;
        return if same { Ok(()) } else { Err(LinkError::OtherPeer(folder.to_owned())) };
    }
    Ok(own::write_key(folder, &text)?)
}

/// Asks whoever listens at `address` for the line of its vault, until it answers or for so long. Nobody vouches for the answer
/// but what the vault can show: it cannot show snapshots that the recovery key opens unless it has them.
///
/// # Errors
/// [`LinkError::Address`] when nobody answers.
pub fn ask_line(address: &str, patience: Duration) -> Result<PairLine, LinkError> {
    let bad = |text: String| LinkError::Address { address: address.to_owned(), text };
    let io = |e: io::Error| bad(plain(&e.to_string()));
    let peer = address.to_socket_addrs().map_err(io)?.next().ok_or_else(|| bad("it has no address".into()))?;
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).map_err(io)?;
    socket.set_read_timeout(Some(ASK_EVERY)).map_err(io)?;
    let (begin, mut buffer) = (std::time::Instant::now(), [0; 2048]);
    while begin.elapsed() < patience {
        // One that is lost, or that nobody listens to now, is asked again.
        let _ = socket.send_to(&pair_line::question(), peer);
        let asked = std::time::Instant::now();
        while asked.elapsed() < ASK_EVERY {
            if let Ok((len, from)) = socket.recv_from(&mut buffer)
                && from == peer
                && let Ok(line) = pair_line::read_answer(&buffer[..len])
            {
                return Ok(line);
            }
        }
    }
    Err(bad("no vault answers there".into()))
}

fn end_of(folder: &Path) -> LinkEnd {
    if embedded::is_vault(folder) { LinkEnd::Vault } else { LinkEnd::Depositor }
}

impl Pairing {
    /// The end of a link in `folder`.
    ///
    /// # Errors
    /// [`LinkError`] when it is not paired, or a file of it cannot be used.
    pub fn open(folder: &Path) -> Result<Self, LinkError> {
        let (file, path) = (read_file(folder)?, folder.join(LINK_FILE));
        let peer = PairLine::decode(&file.peer).map_err(|e| unfit(&path, &e))?;
        let vault = own_vault(folder)?.or(peer.vault).ok_or(LinkError::WrongEnd(DEPOSITORS_LINE))?;
        let key = read_key(folder)?;
        Ok(Self { folder: folder.to_owned(), end: end_of(folder), key, peer, vault, is_recovery: false, file })
    }

    /// Which end this is.
    pub fn end(&self) -> LinkEnd {
        self.end
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose receipts count.
    pub fn signer(&self) -> Signer {
        Signer { vault: self.vault.id, key: self.vault.key }
    }

    /// The vault of this link.
    pub fn vault(&self) -> VaultId {
        self.vault.id
    }

    /// The folder of what a daemon keeps of the link; made when missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn own_folder(&self) -> Result<PathBuf, LinkError> {
        let link = self.folder.join("link");
        make_folders(&link, PRIVATE).map_err(|e| io_error(&link, &e))?;
        own::heal(&self.folder);
        Ok(link)
    }

    /// Settings of the engine: keys and plan.
    ///
    /// # Errors
    /// When the plan cannot be read.
    pub(crate) fn config(&self) -> Result<Config, LinkError> {
        let keys = self.key.agree(self.end, &self.peer.link_key, self.vault.id)?;
        let mut config = Config::new(*keys.outbound.bytes(), *keys.inbound.bytes(), self.plan()?);
        config.governed = self.file.rate.is_some();
        if let Some((loss, dispersion)) = self.weather()?.known {
            (config.loss, config.dispersion, config.worth) = (loss, dispersion, WEATHER_WORTH);
        }
        if let Some(OneWayFile { loss, burst, failure, .. }) = self.one_way()? {
            // What is repeated the near end knows, over restarts.
            config.one_way = Some(OneWay { loss, burst, failure, repeats: 0 });
            config.listens_only = self.end == LinkEnd::Vault;
        }
        Ok(config)
    }

    /// What is provided for where nothing comes back from the vault; `None` where something does.
    ///
    /// # Errors
    /// When `link.toml` says what makes no sense.
    pub fn one_way(&self) -> Result<Option<OneWayFile>, LinkError> {
        let unfit = |text: &'static str| unfit(&self.folder.join(LINK_FILE), &text);
        match (self.file.return_path, self.file.one_way) {
            (Some(true), Some(_)) => Err(unfit("with return_path = true there is no one_way")),
            (Some(true) | None, None) => Ok(None),
            (_, _) if self.file.rate.is_some() => Err(unfit("where nothing comes back, no rate can be found out")),
            (_, one_way) => one_way.unwrap_or_default().check().map(Some).map_err(unfit),
        }
    }

    /// How bundles carry what crosses; `None` where the native link does.
    ///
    /// # Errors
    /// When `link.toml` says what makes no sense.
    pub(crate) fn dtn(&self) -> Result<Option<DtnFile>, LinkError> {
        let unfit = |text: &'static str| unfit(&self.folder.join(LINK_FILE), &text);
        let Some(dtn) = self.file.dtn.clone() else { return Ok(None) };
        if self.one_way()?.is_some() {
            return Err(unfit("where nothing comes back, no bundles are carried"));
        }
        if dtn.carrier == CarrierFile::Ltp && self.file.rate.is_some() {
            return Err(unfit(
                "LTP sends as fast as it is told: instead of rate = \"auto\" it needs rate_up_bit_s, or a plan",
            ));
        }
        dtn.check().map(Some).map_err(unfit)
    }

    /// `link.toml` says too little or too much.
    pub(crate) fn unfit(&self, text: &dyn std::fmt::Display) -> LinkError {
        unfit(&self.folder.join(LINK_FILE), text)
    }

    /// The keys of bundles: of those that leave, and of those that come.
    ///
    /// # Errors
    /// When they cannot be agreed on.
    pub(crate) fn bundle_keys(&self) -> Result<[BundleKeys; 2], LinkError> {
        let keys = self.key.agree(self.end, &self.peer.link_key, self.vault.id)?;
        Ok([BundleKeys::of(keys.outbound.bytes()), BundleKeys::of(keys.inbound.bytes())])
    }

    /// The contact plan.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn plan(&self) -> Result<ContactPlan, LinkError> {
        let unset = if self.file.rate.is_some() { RATE_AUTO_MOST_BIT_S } else { RATE_BIT_S };
        let up = self.file.rate_up_bit_s.unwrap_or(unset).max(1);
        let down = self.file.rate_down_bit_s.unwrap_or(RATE_BIT_S);
        let Some(path) = &self.file.plan else { return Ok(ContactPlan::always(up, down)) };
        let path = self.folder.join(path);
        let text = std::fs::read_to_string(&path).map_err(|e| io_error(&path, &e))?;
        let origin = Instant(0) + Duration::from_secs(self.file.plan_origin_unix_s.unwrap_or(0));
        // Of ION's lines those between these two nodes count: the depositor is 1, the vault 2.
        let (here, there) = if self.end == LinkEnd::Depositor { (1, 2) } else { (2, 1) };
        ContactPlan::parse(&text, origin, here, there).map_err(|source| LinkError::Plan { path, source })
    }

    /// This end's line, for whoever asks: that of the vault.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn line(&self) -> Result<PairLine, LinkError> {
        own_line(&self.folder)
    }

    /// The same, for another owner.
    pub(crate) fn again(&self) -> Result<Self, LinkError> {
        let key = read_key(&self.folder)?;
        let (folder, file) = (self.folder.clone(), self.file.clone());
        Ok(Self { folder, end: self.end, key, peer: self.peer, vault: self.vault, is_recovery: self.is_recovery, file })
    }

    /// The same link with whoever comes with the recovery key, at a vault that was told of it.
    pub(crate) fn recovered(&self) -> Option<Self> {
        let recovery = self.peer.recovery.filter(|key| self.end == LinkEnd::Vault && *key != self.peer.link_key)?;
        let peer = PairLine { link_key: recovery, recovery: None, ..self.peer };
        Some(Self { peer, is_recovery: true, ..self.again().ok()? })
    }

    /// What was measured of this link.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub(crate) fn weather(&self) -> Result<Weather, LinkError> {
        Ok(Weather::open(self.own_folder()?.join("weather")))
    }

    /// The counters of this link.
    ///
    /// # Errors
    /// When their file cannot be read: they must not be used a second time.
    pub(crate) fn counters(&self) -> Result<Counters, LinkError> {
        let (depositor, vault) = match self.end {
            LinkEnd::Depositor => (self.key.public(), &self.peer.link_key),
            LinkEnd::Vault => (&self.peer.link_key, self.key.public()),
        };
        let keys = hex(&h16(&[depositor, vault]));
        let name = if self.is_recovery { RECOVERY_COUNTERS } else { COUNTERS };
        Counters::open(self.own_folder()?.join(name), keys, first_counter(clock::wall_now()))
    }
}

/// What carries what crosses the link of `folder`, for people.
///
/// # Errors
/// When its `link.toml` cannot be read.
pub fn carrier_name(folder: &Path) -> Result<&'static str, LinkError> {
    Ok(match read_file(folder)?.dtn.map(|dtn| dtn.carrier) {
        None => "native",
        Some(CarrierFile::Tcpcl) => "tcpcl",
        Some(CarrierFile::Ltp) => "ltp",
    })
}

/// What a running daemon says of itself: written for people, read by nobody who decides.
///
/// # Errors
/// When it cannot be written.
pub fn write_status(folder: &Path, text: &str) -> io::Result<()> {
    let (path, new) = (folder.join(STATUS), folder.join(STATUS_NEW));
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}

/// What a daemon last said of itself, and how long ago; `None` when there never was one.
///
/// # Errors
/// When it cannot be read.
pub fn read_status(folder: &Path) -> Result<Option<(String, Duration)>, LinkError> {
    let path = folder.join(STATUS);
    let read = || {
        let text = std::fs::read_to_string(&path)?;
        Ok::<_, io::Error>((text, path.metadata()?.modified()?.elapsed().unwrap_or_default()))
    };
    match read() {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(&path, &e)),
    }
}

fn unfit(path: &Path, text: &dyn std::fmt::Display) -> LinkError {
    LinkError::Unfit { path: path.to_owned(), text: text.to_string() }
}

pub(crate) fn io_error(path: &Path, e: &io::Error) -> LinkError {
    LinkError::Io { path: path.to_owned(), text: plain(&e.to_string()) }
}

const VAULTS_LINE: &str =
    "this is the line of a vault, and a vault is what is here: give it that of the depositing machine";
const DEPOSITORS_LINE: &str =
    "this is the line of a depositing machine, and no vault is here: give it that of the vault";
/// What a link carries when nobody says: 20 Mbit/s.
const RATE_BIT_S: u64 = 20_000_000;
/// How often one asks for a line.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// The most that is found out: more than the engine can do.
const RATE_AUTO_MOST_BIT_S: u64 = 10_000_000_000;

#[cfg(test)]
mod tests;
