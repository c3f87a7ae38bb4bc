//! Which condition of the table a library's error is.
//!
//! Libraries name who is to blame; this file turns that into what a user can do about it. Errors it does not know are
//! `failed`, never silently fine. Must not know verbs or the screen.

use lavatube_client::audit::AuditError;
use lavatube_client::backup::BackupError;
use lavatube_client::browse::{CatError, ResolveError};
use lavatube_client::catalog::CatalogError;
use lavatube_client::check::CheckError;
use lavatube_client::collect::CollectError;
use lavatube_client::courier::CourierError;
use lavatube_client::evidence::FindError;
use lavatube_client::far::{FarError, Refusal};
use lavatube_client::fault::Fault;
use lavatube_client::layers::TreeError;
use lavatube_client::ledger::LedgerError;
use lavatube_client::packer::PackError;
use lavatube_client::rebuild::RebuildError;
use lavatube_client::restore::RestoreError;
use lavatube_client::session::SessionError;
use lavatube_client::sink::SinkError;
use lavatube_client::spool::SpoolError;
use lavatube_client::state::StateError;
use lavatube_client::vaulted::SessionsError;
use lavatube_node::agent::AgentError;
use lavatube_node::awake::AwakeError;
use lavatube_node::depositor::DepositorError;
use lavatube_node::drive_care::DriveCareError;
use lavatube_node::embedded::VaultError;
use lavatube_node::http::ServerError;
use lavatube_node::keyring::KeyringError;
use lavatube_node::keys_io::KeyFileError;
use lavatube_node::link_folder::LinkError;
use lavatube_node::lock::LockError;
use lavatube_node::reader::ReaderError;
use lavatube_node::releasing::ReleasingError;
use lavatube_seal::SealError;
use lavatube_vault::{CardError, CreateError, DepositError, DriveError, OpenError, StoreError};

use crate::errors::{Condition, Failure};

impl From<DepositorError> for Failure {
    fn from(e: DepositorError) -> Self {
        match e {
            DepositorError::Lock(e) => e.into(),
            DepositorError::Vault(e) => e.into(),
            DepositorError::Link(e) => e.into(),
            DepositorError::Keys(e) => e.into(),
            DepositorError::Backup(e) => e.into(),
            DepositorError::Session(e) => e.into(),
            DepositorError::Pack(e) => e.into(),
            DepositorError::Courier(e) => e.into(),
            DepositorError::Catalog(e) => e.into(),
            DepositorError::State(e) => e.into(),
            DepositorError::LogAlarm { ref evidence, .. } => {
                let evidence = evidence.display();
                Self::new(Condition::LogAlarm, e.to_string()).hint(format!(
                    "keep all drives and copies, and find out what happened: {evidence} has what the vault said before and \
                     now; `lavatube log` and `lavatube check` tell more; then go on with `lavatube log accept`"
                ))
            }
            DepositorError::Io { ref source, .. } => Self::new(of_system(source), e.to_string()),
        }
    }
}

impl From<LinkError> for Failure {
    fn from(e: LinkError) -> Self {
        let text = e.to_string();
        match e {
            LinkError::NotPaired(_) => Self::new(Condition::NoVault, text)
                .hint("`lavatube pair` at each end prints a line; give it to the other end with `lavatube pair LINE`"),
            LinkError::NoVaultHere(_) => Self::new(Condition::NoVault, text)
                .hint("name the vault's folder with --vault DIR; here, `lavatube node` takes what waits to the vault"),
            LinkError::VaultHere(_) => Self::new(Condition::Usage, text)
                .hint("`lavatube backup` stores in it directly; `lavatube vault serve` takes deposits from elsewhere"),
            LinkError::OtherPeer(path) => Self::new(Condition::Exists, text).hint(format!(
                "to pair anew, move {} and link.toml.copy beside it away first",
                path.join("link.toml").display()
            )),
            LinkError::Line(_) | LinkError::WrongEnd(_) => Self::new(Condition::Usage, text)
                .hint("copy the line that `lavatube pair` printed at the other end, from LVTP1- to its end"),
            LinkError::Address { .. } => Self::new(Condition::Io, text)
                .hint("an address is HOST:PORT, such as 192.0.2.7:4556 or [2001:db8::7]:4556"),
            LinkError::Plan { .. } | LinkError::Unfit { .. } => {
                Self::new(Condition::Config, text).hint("correct the file, or put it back from a copy")
            }
            LinkError::Io { .. } => Self::new(Condition::Io, text),
            LinkError::Ended(_) => Self::new(Condition::VaultAway, text)
                .hint("what waits stays on this machine; `lavatube node` tries again"),
            LinkError::Lock(e) => e.into(),
            LinkError::Key(e) => e.into(),
            LinkError::Seal(_) => Self::new(Condition::WrongKey, text)
                .hint("copy the line that `lavatube pair` printed at the other end, from LVTP1- to its end"),
            LinkError::Vault(e) => e.into(),
            LinkError::Courier(e) => e.into(),
            LinkError::State(e) => e.into(),
            LinkError::Entropy(_) => Self::new(Condition::Failed, text),
            LinkError::LogAlarm(_) => Self::new(Condition::LogAlarm, text),
            LinkError::Stuck { .. } => Self::new(Condition::Refused, text)
                .hint("they stay on this machine; back up again what they hold, if it still exists"),
        }
    }
}

impl From<AwakeError> for Failure {
    fn from(e: AwakeError) -> Self {
        let condition = if matches!(e, AwakeError::Io(..)) { Condition::Io } else { Condition::Usage };
        Self::new(condition, e.to_string())
            .hint("a line is like: awake 2027-01-10T00:00:00Z 2027-01-24T00:00:00Z every 2551443")
    }
}

impl From<ServerError> for Failure {
    fn from(e: ServerError) -> Self {
        let text = format!("work orders cannot be served: {e}");
        match e {
            ServerError::NotLoopback(_) => Self::new(Condition::Usage, text)
                .hint("give 127.0.0.1:8640; who asks from elsewhere comes through a tunnel of yours (ssh -L)"),
            ServerError::Listen(..) | ServerError::Token(_) => Self::new(Condition::Io, text),
        }
    }
}

impl From<DriveCareError> for Failure {
    fn from(e: DriveCareError) -> Self {
        let text = e.to_string();
        match e {
            DriveCareError::Lock(e) => e.into(),
            DriveCareError::Vault(e) => e.into(),
            DriveCareError::NoSuch { .. } => Self::new(Condition::Usage, text)
                .hint("`lavatube vault status` lists the drives; the first digits of an id are enough, too"),
            DriveCareError::Listed(_) | DriveCareError::Card(CardError::Taken) => Self::new(Condition::Exists, text)
                .hint("give a folder that is empty; a drive that was emptied comes back with `lavatube vault repair`"),
            DriveCareError::Store(e) => Self::new(Condition::Io, e.to_string()).hint("bring more drives back first"),
            DriveCareError::Away(_) => {
                Self::new(Condition::Io, text).hint("mount it, or replace it and run `lavatube vault repair`")
            }
            DriveCareError::Folder(..) | DriveCareError::Card(CardError::Drive(_)) => Self::new(Condition::Io, text),
            DriveCareError::Card(e) => match e {
                CardError::TooFew { .. } => {
                    Self::new(Condition::Refused, text).hint("add a drive first: `lavatube vault drive add DIR`")
                }
                CardError::SameLabel(_) => {
                    Self::new(Condition::Usage, text).hint("give another label: DIR,label=NAME, or --label NAME")
                }
                CardError::TooLong | CardError::NoDrive(_) => {
                    Self::new(Condition::Usage, text).hint("`lavatube vault status` lists the drives")
                }
                CardError::Store(_) => Self::new(Condition::VaultAway, text)
                    .hint("more than half of the drives must be there: it is written on the cards of all"),
                _ => Self::new(Condition::Refused, text),
            },
        }
    }
}

impl From<LockError> for Failure {
    fn from(e: LockError) -> Self {
        let condition = match e {
            LockError::Held { .. } => Condition::Locked,
            LockError::Io { .. } => Condition::Io,
        };
        Self::new(condition, e.to_string())
    }
}

impl From<VaultError> for Failure {
    fn from(e: VaultError) -> Self {
        let text = e.to_string();
        match e {
            VaultError::Unsigned(_) => Self::new(Condition::VaultAway, e.to_string()),
            VaultError::NoVault(_) => Self::new(Condition::NoVault, text),
            VaultError::Far(_) => Self::new(Condition::VaultAway, text).hint(
                "backups wait here until `lavatube node` has taken them there; read, restore and check at the vault's own machine",
            ),
            VaultError::Io { .. } | VaultError::Bucket { .. } => Self::new(Condition::Io, text),
            VaultError::Unfit { .. } => Self::new(Condition::VaultAway, text)
                .hint("put the file back from a copy; the drives themselves are not touched by it"),
            VaultError::Key(e) => e.into(),
            VaultError::Create(CreateError::Shape { .. }) => {
                Self::new(Condition::Usage, text).hint("give more drives, or lower --data or --parity")
            }
            VaultError::Create(CreateError::Taken { .. }) => Self::new(Condition::Exists, text)
                .hint("use empty folders, or name the existing vault with --vault DIR"),
            VaultError::Create(CreateError::Drive { error: DriveError::Full, .. }) => Self::new(Condition::Full, text),
            VaultError::Create(_) => Self::new(Condition::Failed, text),
            VaultError::Open(OpenError::WrongKey(_)) => Self::new(Condition::WrongKey, text)
                .hint("the file vault.key in the vault's folder belongs to another vault; put the right one back"),
            VaultError::Open(_) => Self::new(Condition::VaultAway, text),
            VaultError::Card(DepositError::Store(e)) => store(&e),
            VaultError::Card(_) | VaultError::OtherArchive(_) => other_archive(text),
            VaultError::Signer(_) | VaultError::Entropy(_) => Self::new(Condition::Failed, text),
        }
    }
}

fn other_archive(text: String) -> Failure {
    Failure::new(Condition::WrongKey, text)
        .hint("the keys here belong to another archive: name the right ones with --keys DIR, or another vault")
}

fn store(e: &StoreError) -> Failure {
    let condition = match e {
        StoreError::Full { .. } | StoreError::JournalFull => Condition::Full,
        StoreError::Shortfall { .. } => Condition::VaultAway,
        _ => Condition::Failed,
    };
    Failure::new(condition, e.to_string())
}

impl From<KeyringError> for Failure {
    fn from(e: KeyringError) -> Self {
        let text = e.to_string();
        match e {
            KeyringError::File(e) => e.into(),
            KeyringError::Locked(_) => Self::new(Condition::WrongKey, text)
                .hint("run it on a terminal to be asked, or give --passphrase-file FILE"),
            KeyringError::Content { source: SealError::WrongPassphrase, path } => {
                Self::new(Condition::WrongKey, format!("the passphrase does not open {}", path.display()))
                    .hint("try again, or use a copy of the file if it may be damaged")
            }
            KeyringError::Content { .. } => Self::new(Condition::WrongKey, text),
            KeyringError::Busy(e) => e.into(),
            KeyringError::NoRoot(_) => {
                Self::new(Condition::NoKey, text).hint("`lavatube key import-recovery` makes a new one from it")
            }
            KeyringError::OtherRoot(_) => Self::new(Condition::WrongKey, text)
                .hint("keys of two archives do not go into one folder: name another with --keys DIR"),
            _ => Self::new(Condition::Failed, text),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(e: KeyFileError) -> Self {
        let text = e.to_string();
        match e {
            KeyFileError::Missing(_) => Self::new(Condition::NoKey, text),
            KeyFileError::Exposed(path) => {
                Self::new(Condition::KeyExposed, format!("the key file {} can be read by others", path.display()))
                    .hint(format!("chmod 600 {}; and think about who may have read it", path.display()))
            }
            KeyFileError::Exists(_) => Self::new(Condition::Exists, text),
            KeyFileError::Unfit { .. } => Self::new(Condition::WrongKey, text),
            KeyFileError::Io { .. } => Self::new(Condition::Io, text),
        }
    }
}

impl From<AgentError> for Failure {
    fn from(e: AgentError) -> Self {
        Self::new(Condition::NoKey, e.to_string())
            .hint("start one with `lavatube key agent --socket SOCKET`, or name another socket")
    }
}

impl From<BackupError> for Failure {
    fn from(e: BackupError) -> Self {
        let text = e.to_string();
        match e {
            BackupError::Root { .. } | BackupError::Unreadable { .. } => Self::new(Condition::Io, text),
            BackupError::Empty => Self::new(Condition::Empty, text),
            BackupError::Shrunk { .. } => Self::new(Condition::Shrunk, text),
            BackupError::State(e) => e.into(),
            BackupError::Collect(CollectError::Catalog(e)) => e.into(),
            BackupError::Collect(CollectError::Pack(e)) => e.into(),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(e: SessionError) -> Self {
        match e {
            SessionError::State(e) => e.into(),
            SessionError::Catalog(e) => e.into(),
            SessionError::Courier(e) => e.into(),
            e => Self::new(Condition::Failed, e.to_string()),
        }
    }
}

impl From<PackError> for Failure {
    fn from(e: PackError) -> Self {
        match e {
            PackError::State(e) => e.into(),
            PackError::Courier(e) => e.into(),
            e => Self::new(Condition::Failed, e.to_string()),
        }
    }
}

impl From<CourierError> for Failure {
    fn from(e: CourierError) -> Self {
        match e {
            CourierError::Far(e) => e.into(),
            CourierError::Spool(SpoolError::Full) => Self::new(Condition::Full, SpoolError::Full.to_string()),
            CourierError::Spool(e) => Self::new(Condition::Io, e.to_string()),
            CourierError::Ledger(LedgerError::State(e)) => e.into(),
            CourierError::Ledger(e) => Self::new(Condition::Refused, e.to_string()),
        }
    }
}

impl From<FarError> for Failure {
    fn from(e: FarError) -> Self {
        let text = e.to_string();
        match e {
            FarError::Absent(_) | FarError::Lost { .. } => Self::new(Condition::Lost, text),
            FarError::Refused { why: Refusal::Full, .. } => Self::new(Condition::Full, text),
            FarError::Refused { why: Refusal::Depositor, .. } => other_archive(text),
            FarError::Refused { .. } => Self::new(Condition::Refused, text),
            FarError::Away(_) => Self::new(Condition::VaultAway, text),
            FarError::NoRoom(_) => Self::new(Condition::Full, text),
        }
    }
}

impl From<CatalogError> for Failure {
    fn from(e: CatalogError) -> Self {
        match e {
            CatalogError::State(e) => e.into(),
            e => Self::new(Condition::Failed, e.to_string())
                .hint("`lavatube snapshots` makes the catalog again from the vault; it needs the read key"),
        }
    }
}

impl From<StateError> for Failure {
    fn from(e: StateError) -> Self {
        Self::new(of_system(&e.source), e.to_string())
    }
}

fn of_system(e: &std::io::Error) -> Condition {
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Condition::Full,
        _ => Condition::Io,
    }
}

impl From<ReaderError> for Failure {
    fn from(e: ReaderError) -> Self {
        match e {
            ReaderError::Open(e) => e.into(),
            ReaderError::Sessions(SessionsError::Far(e)) => e.into(),
            ReaderError::Sessions(SessionsError::State(e)) => e.into(),
            ReaderError::Rebuild(RebuildError::Catalog(e)) => e.into(),
            ReaderError::Rebuild(RebuildError::State(e)) => e.into(),
            ReaderError::Rebuild(e @ RebuildError::Again) => Self::new(Condition::Io, e.to_string()),
            ReaderError::Rebuild(RebuildError::Away(e)) => Self::new(condition(e.fault()), e.to_string()),
            ReaderError::Tree(e) | ReaderError::Check(CheckError::Tree(e)) => e.into(),
            ReaderError::Restore(RestoreError::Tree(e)) | ReaderError::Cat(CatError::Tree(e)) => e.into(),
            ReaderError::Resolve(e) => e.into(),
            ReaderError::Cat(CatError::Write(e)) => crate::screen::written(e),
            ReaderError::Cat(e @ CatError::Missing) => Self::new(Condition::NoPath, e.to_string()),
            ReaderError::Cat(e @ CatError::NoFile) => Self::new(Condition::NoPath, e.to_string())
                .hint("`lavatube restore` brings back folders and everything else"),
            ReaderError::Cat(e @ CatError::Digest) => Self::new(Condition::Lost, e.to_string()),
            ReaderError::Restore(e @ RestoreError::Nothing) => Self::new(Condition::NoPath, e.to_string()),
            ReaderError::Target(SinkError::Full) => Self::new(Condition::Full, SinkError::Full.to_string()),
            ReaderError::Target(e) => Self::new(condition(e.fault()), format!("the target: {e}")),
            ReaderError::Check(CheckError::Far(e)) => e.into(),
            ReaderError::Audit(AuditError::Far(e)) => e.into(),
            ReaderError::Audit(AuditError::State(e)) => e.into(),
            ReaderError::Find(FindError::State(e)) => e.into(),
            ReaderError::Find(FindError::Tree(e)) => e.into(),
            ReaderError::Find(e @ FindError::Roll { .. }) => Self::new(Condition::Failed, e.to_string()),
            ReaderError::Audit(e @ AuditError::Astray) => Self::new(Condition::Failed, e.to_string()),
            ReaderError::Fetch(e) => Self::new(condition(e.fault()), e.to_string()),
            ReaderError::Frame(e) => Self::new(Condition::Failed, e.to_string()),
        }
    }
}

impl From<ReleasingError> for Failure {
    fn from(e: ReleasingError) -> Self {
        match e {
            ReleasingError::Depositor(e) => e.into(),
            ReleasingError::Far(e) => e.into(),
            ReleasingError::Doubt(_) => Self::new(Condition::Doubt, e.to_string()),
            ReleasingError::OlderVault => Self::new(Condition::Refused, e.to_string())
                .hint("bring lavatube up to date where the vault is; until then a release can be made there"),
            ReleasingError::OtherArchive => Self::new(Condition::WrongKey, e.to_string()),
            ReleasingError::Seal(_) | ReleasingError::Entropy(_) => Self::new(Condition::Failed, e.to_string()),
        }
    }
}

impl From<TreeError> for Failure {
    fn from(e: TreeError) -> Self {
        Self::new(condition(e.fault()), e.to_string())
    }
}

/// The condition that a fault is when nothing more can be done because of it.
pub fn condition(fault: Fault) -> Condition {
    match fault {
        Fault::Lost => Condition::Lost,
        Fault::Away => Condition::VaultAway,
        Fault::Key => Condition::WrongKey,
        Fault::Here => Condition::Failed,
        Fault::Full => Condition::Full,
        Fault::Taken => Condition::Exists,
        Fault::Target => Condition::Io,
    }
}

impl From<ResolveError> for Failure {
    fn from(e: ResolveError) -> Self {
        let text = match e {
            ResolveError::TooFarBack { have: 1 } => "there is only one snapshot".to_owned(),
            e => e.to_string(),
        };
        Self::new(Condition::NoSnapshot, text)
    }
}
