//! The key agent: one process holds the read key, others on this machine ask it to open sessions.
//!
//! So a locked read key is unlocked once, and a restore never sees it. The socket is its owner's alone; whoever may
//! connect may read. It must not know what sessions hold.

use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lavatube_base::sign::PairPublic;
use lavatube_base::{DepositorId, SessionId};
use lavatube_format::Malformed;
use lavatube_format::agent::{HEAD_LEN, Reply, Request, head, message_len};
use lavatube_format::manifest::Wrap;
use lavatube_seal::{
    AuditKeys, ChunkIdKey, ReadKeys, Reads, ReleaseKeys, RollKey, SealError, Secret, SessionKeys, Unwrap,
};

/// Why an agent cannot be asked, or cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The socket.
    #[error("the key agent at {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not speak our language.
    #[error("what answers at {} is no key agent of this version", .0.display())]
    Strange(PathBuf),
}

fn socket(path: &Path) -> impl FnOnce(io::Error) -> AgentError {
    let path = path.to_owned();
    move |source| AgentError::Socket { path, source }
}

/// Serves `keys` at `path` until the process ends; `ready` is called once it listens.
///
/// # Errors
/// [`AgentError::Socket`] when the socket cannot be made, another agent lives there for one.
pub fn serve(path: &Path, keys: &ReadKeys, ready: impl FnOnce()) -> Result<(), AgentError> {
    if UnixStream::connect(path).is_ok() {
        return Err(socket(path)(io::Error::new(io::ErrorKind::AddrInUse, "an agent answers there already")));
    }
    let listen = || {
        if let Some(folder) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // A socket nobody answers at is what a killed agent left.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = listen().map_err(socket(path))?;
    ready();
    std::thread::scope(|scope| {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            scope.spawn(move || while answer(&mut stream, keys).is_ok() {});
        }
    });
    Ok(())
}

fn answer(stream: &mut UnixStream, keys: &ReadKeys) -> io::Result<()> {
    let message = receive(stream)?;
    let body = keys.body();
    let reply = match Request::decode(&message) {
        Ok(Request::Hello) => Reply::Hello {
            tenant: body.tenant.clone(),
            psk: body.psk.clone(),
            chunk_id_key: body.chunk_id_key.clone(),
            authority: body.authority.clone(),
        },
        Ok(Request::Open { session, depositor, wraps }) => match keys.open_secret(session, depositor, &wraps) {
            Ok(secret) => Reply::Opened(secret),
            Err(e) => Reply::Refused(e.to_string()),
        },
        Err(e) => Reply::Refused(e.to_string()),
    };
    send(stream, &reply.encode())
}

fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&head(message).map_err(strange)?)?;
    stream.write_all(message)
}

fn receive(stream: &mut UnixStream) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head)?;
    let mut message = zeroize::Zeroizing::new(vec![0; message_len(head).map_err(strange)?]);
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn strange(e: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}

/// Read keys that an agent holds.
pub struct AgentKeys {
    stream: Mutex<UnixStream>,
    tenant: String,
    psk: Secret,
    chunk_id_key: Secret,
    authority: PairPublic,
}

impl AgentKeys {
    /// Asks the agent at `path`.
    ///
    /// # Errors
    /// [`AgentError`] when nobody answers, or in another language.
    pub fn connect(path: &Path) -> Result<Self, AgentError> {
        let mut stream = UnixStream::connect(path).map_err(socket(path))?;
        let reply = ask(&mut stream, &Request::Hello).map_err(socket(path))?;
        let Reply::Hello { tenant, psk, chunk_id_key, authority } = reply else {
            return Err(AgentError::Strange(path.to_owned()));
        };
        Ok(Self { stream: Mutex::new(stream), tenant, psk, chunk_id_key, authority })
    }

    /// The tenant whose keys the agent holds.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }
}

fn ask(stream: &mut UnixStream, request: &Request) -> io::Result<Reply> {
    send(stream, &request.encode())?;
    Reply::decode(&receive(stream)?).map_err(strange)
}

impl Unwrap for AgentKeys {
    fn open_session(
        &self,
        session: SessionId,
        depositor: DepositorId,
        wraps: &[Wrap],
    ) -> Result<SessionKeys, SealError> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let request = Request::Open { session, depositor, wraps: wraps.to_vec() };
        match ask(&mut stream, &request) {
            Ok(Reply::Opened(secret)) => Ok(SessionKeys::derive(session, &self.psk, &secret)),
            Ok(_) => Err(SealError::WrongKey("this session")),
            Err(_) => Err(SealError::Refused("the key agent went away; start it again")),
        }
    }
}

impl Reads for AgentKeys {
    fn chunk_id_key(&self) -> ChunkIdKey {
        ChunkIdKey::new(self.chunk_id_key.clone())
    }

    fn audit_keys(&self) -> AuditKeys {
        AuditKeys::of(&self.psk)
    }

    fn release_keys(&self) -> ReleaseKeys {
        ReleaseKeys::of(&self.psk)
    }

    fn roll_key(&self) -> RollKey {
        RollKey::of(&self.psk)
    }

    fn authority_public(&self) -> &PairPublic {
        &self.authority
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lavatube_seal::{DepositKeys, Root, Session};
    use std::sync::mpsc::channel;

    #[test]
    fn an_agent_opens_sessions_and_keeps_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run").join("agent.sock");
        let root = Root::new(Secret::new([7; 32]));
        let (ed, ml) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let deposit = DepositKeys::new(&root, "t", "moon", ed, ml).unwrap();
        let session = SessionId([3; 16]);
        let mut dice = |out: &mut [u8]| out.fill(9);
        let (keys, wrap) = Session::begin(&deposit, session, &Secret::new([4; 32]), &mut dice).unwrap();
        assert!(AgentKeys::connect(&path).is_err());

        let (listens_in, listens) = channel();
        let (at, served) = (path.clone(), root.read_keys("t").unwrap());
        // The agent lives as long as the process.
        std::thread::spawn(move || serve(&at, &served, || listens_in.send(()).unwrap()));
        listens.recv().unwrap();
        let agent = AgentKeys::connect(&path).unwrap();
        assert_eq!((agent.tenant(), agent.authority_public()), ("t", &root.authority_public().unwrap()));
        let opened = agent.open_session(session, deposit.depositor(), std::slice::from_ref(&wrap)).unwrap();
        assert_eq!(opened.pack(0, 0).header(), keys.pack(0, 0).header());
        assert!(agent.open_session(SessionId([8; 16]), deposit.depositor(), &[wrap]).is_err());
        assert!(serve(&path, &root.read_keys("t").unwrap(), || {}).is_err(), "one agent a socket");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
