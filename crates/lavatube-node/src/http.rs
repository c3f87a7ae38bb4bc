//! A small HTTP server for programs on this machine: one request a connection, one answer, nothing kept in between.
//!
//! It is for robots and their operators, a few requests a minute. Only on loopback, and only for who has the token: else any page that a
//! browser on this machine has open could ask. `httparse` reads the head; what a request may take of memory and time is bounded before
//! anything of it is believed. It must not know what is asked for. No step of the walk.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::hex;
use lavatube_base::limits::{REQUEST_BODY_LEN_MAX, REQUEST_HEAD_LEN_MAX};
use zeroize::Zeroizing;

use crate::atomic::{self, IfThere};
use crate::clock;
use crate::entropy;
use crate::keys_io;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`.
    pub method: String,
    /// The path, without what follows a `?`.
    pub path: String,
    /// The body.
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 404 …
    pub status: u16,
    /// JSON.
    pub body: String,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is not of this machine alone.
    #[error("{0} is not a loopback address: who may ask would be anybody's")]
    NotLoopback(String),
    /// It cannot be listened at.
    #[error("{0}: {1}")]
    Listen(String, String),
    /// The token could not be read or made.
    #[error("the token: {0}")]
    Token(String),
}

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Zeroizing<String>,
}

impl Server {
    /// Listens at `address` (host:port, loopback only) for who has the token in `token_file`, which is made when there is none.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn open(address: &str, token_file: &Path) -> Result<Self, ServerError> {
        let failed = |e: io::Error| ServerError::Listen(address.to_owned(), e.to_string());
        let at = address.to_socket_addrs().map_err(failed)?.next();
        let at = at.filter(|at| at.ip().is_loopback()).ok_or_else(|| ServerError::NotLoopback(address.to_owned()))?;
        let listener = TcpListener::bind(at).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, token: token(token_file)? })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests one after the other until `stop` is set.
    pub fn serve(&self, stop: &AtomicBool, answer: &dyn Fn(&Request) -> Response) {
        while !stop.load(Ordering::Relaxed) {
            match self.listener.accept() {
                // Whoever hangs up is not answered.
                Ok((stream, _)) => drop(self.turn(stream, answer)),
                Err(_) => thread::sleep(NAP),
            }
        }
    }

    fn turn(&self, mut stream: TcpStream, answer: &dyn Fn(&Request) -> Response) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let response = match self.read(&mut stream) {
            Ok(request) => answer(&request),
            Err(response) => response,
        };
        let Response { status, body } = response;
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            reason(status),
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        stream.flush()
    }

    /// Reads a request, or says what is wrong with it.
    fn read(&self, stream: &mut TcpStream) -> Result<Request, Response> {
        let until = clock::now() + PATIENCE;
        let mut bytes = Vec::new();
        let (mut request, body_len, at, is_allowed) = loop {
            if let Some(head) = self.head(&bytes)? {
                break head;
            }
            if bytes.len() >= REQUEST_HEAD_LEN_MAX {
                return Err(refuse(431, "the head is too long"));
            }
            more(stream, &mut bytes, REQUEST_HEAD_LEN_MAX + REQUEST_BODY_LEN_MAX, until)?;
        };
        if !is_allowed {
            return Err(refuse(
                401,
                "Authorization: Bearer TOKEN is missing or wrong; the token is in orders.token in the vault's folder",
            ));
        }
        if body_len > REQUEST_BODY_LEN_MAX {
            return Err(refuse(413, "the body is too long"));
        }
        while bytes.len() < at + body_len {
            more(stream, &mut bytes, at + body_len, until)?;
        }
        request.body = bytes[at..at + body_len].to_vec();
        Ok(request)
    }

    /// The request, the length of its body, where that begins, and whether the token is right; `None` while the head is not whole.
    fn head(&self, bytes: &[u8]) -> Result<Option<(Request, usize, usize, bool)>, Response> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        let at = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(at)) if at <= REQUEST_HEAD_LEN_MAX => at,
            Ok(httparse::Status::Complete(_)) => return Err(refuse(431, "the head is too long")),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(e) => return Err(refuse(400, &e.to_string())),
        };
        let header = |name: &str| {
            let mut all = parsed.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            all.next().filter(|_| all.next().is_none()).and_then(|h| std::str::from_utf8(h.value).ok())
        };
        if parsed.headers.iter().any(|h| h.name.eq_ignore_ascii_case("transfer-encoding")) {
            return Err(refuse(411, "a body has a Content-Length"));
        }
        let body_len = match parsed.headers.iter().any(|h| h.name.eq_ignore_ascii_case("content-length")) {
            true => {
                header("content-length").and_then(|v| v.trim().parse().ok()).ok_or(refuse(400, "Content-Length"))?
            }
            false => 0,
        };
        let token = header("authorization").and_then(|v| v.strip_prefix("Bearer ")).unwrap_or_default();
        // Digests are compared, so that the time tells nothing of the token.
        let is_allowed = h16(&[token.trim().as_bytes()]) == h16(&[self.token.as_bytes()]);
        let path = parsed.path.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
        let method = parsed.method.unwrap_or_default().to_owned();
        Ok(Some((Request { method, path, body: Vec::new() }, body_len, at, is_allowed)))
    }
}

/// Reads some more, not beyond `max` bytes altogether.
fn more(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    max: usize,
    until: lavatube_base::Instant,
) -> Result<(), Response> {
    let mut part = [0; 4096];
    let room = part.len().min(max.saturating_sub(bytes.len()));
    let read = if clock::now() < until { stream.read(&mut part[..room]) } else { Ok(0) };
    match read {
        Ok(n) if n > 0 => {
            bytes.extend_from_slice(&part[..n]);
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        _ => Err(refuse(408, "the request is not whole")),
    }
}

fn refuse(status: u16, why: &str) -> Response {
    Response { status, body: format!("{{\"error\":\"{}\"}}", why.replace(['"', '\\'], "'")) }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// The token in a file that only its owner may read; a new one where there is none.
fn token(file: &Path) -> Result<Zeroizing<String>, ServerError> {
    let failed = |e: &dyn std::fmt::Display| ServerError::Token(format!("{}: {e}", file.display()));
    if !file.exists() {
        let new = hex(&entropy::bytes::<16>().map_err(|e| failed(&e))?);
        atomic::write(file, format!("{new}\n").as_bytes(), IfThere::Refuse).map_err(|e| failed(&e))?;
    }
    let text = keys_io::read_key_text(file).map_err(|e| ServerError::Token(e.to_string()))?;
    let token = Zeroizing::new(text.trim().to_owned());
    if token.len() < TOKEN_LEN_MIN {
        return Err(failed(&"a token has 16 characters at least; remove the file, and another is made"));
    }
    Ok(token)
}

/// A request comes and goes within this time.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a sleep is until the next look whether somebody asks.
const NAP: Duration = Duration::from_millis(50);
const HEADERS_MAX: usize = 64;
const TOKEN_LEN_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(server: &Server, request: &[u8]) -> String {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let echo = |r: &Request| Response {
                status: 200,
                body: format!("{} {} {}", r.method, r.path, String::from_utf8_lossy(&r.body)),
            };
            scope.spawn({
                let stop = &stop;
                move || server.serve(stop, &echo)
            });
            let mut stream = TcpStream::connect(server.address()).unwrap();
            // Who is refused may be hung up on.
            let _ = stream.write_all(request);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            stop.store(true, Ordering::Relaxed);
            answer
        })
    }

    #[test]
    fn who_has_the_token_is_answered_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.token");
        let server = Server::open("127.0.0.1:0", &file).unwrap();
        let token = std::fs::read_to_string(&file).unwrap();
        let with = |line: &str, token: &str, rest: &str| {
            ask(&server, format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{rest}").as_bytes())
        };
        let token = token.trim();
        let answer = with("POST /orders/x/claim?y", token, "content-length: 4\r\n\r\nbody");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nPOST /orders/x/claim body"),
            "{answer}"
        );
        assert!(with("GET /orders", token, "\r\n").ends_with("GET /orders "));
        for wrong in ["", "x", &token[1..], &format!("{token}0")] {
            assert!(with("GET /orders", wrong, "\r\n").starts_with("HTTP/1.1 401 "));
        }
        assert!(ask(&server, b"GET /orders HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 401 "));
        // A second server finds the same token.
        assert_eq!(&**Server::open("127.0.0.1:0", &file).unwrap().token, token);
    }

    #[test]
    fn what_is_no_request_or_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.token");
        let server = Server::open("[::1]:0", &file).or_else(|_| Server::open("127.0.0.1:0", &file)).unwrap();
        let token = std::fs::read_to_string(&file).unwrap();
        let key = format!("Authorization: Bearer {}", token.trim());
        let status = |request: String| ask(&server, request.as_bytes()).chars().skip(9).take(3).collect::<String>();
        assert_eq!(status("nonsense\r\n\r\n".into()), "400");
        assert_eq!(status("GET / HTTP/1.1\r\n".into()), "408");
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{key}\r\nContent-Length: 5\r\n\r\nabc")), "408");
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{key}\r\nContent-Length: -1\r\n\r\n")), "400");
        assert_eq!(status(format!("GET / HTTP/1.1\r\n{key}\r\nTransfer-Encoding: chunked\r\n\r\n")), "411");
        let body = |n: usize| format!("POST / HTTP/1.1\r\n{key}\r\nContent-Length: {n}\r\n\r\n{}", "b".repeat(n));
        assert_eq!(status(body(REQUEST_BODY_LEN_MAX)), "200");
        assert_eq!(status(body(REQUEST_BODY_LEN_MAX + 1)), "413");
        let head = |n: usize| {
            let line = format!("GET / HTTP/1.1\r\n{key}\r\nX: ");
            let fill = n - line.len() - 4;
            format!("{line}{}\r\n\r\n", "x".repeat(fill))
        };
        assert_eq!(status(head(REQUEST_HEAD_LEN_MAX)), "200");
        assert_eq!(status(head(REQUEST_HEAD_LEN_MAX + 1)), "431");
        assert_eq!(status("x".repeat(3 * REQUEST_HEAD_LEN_MAX)), "431");
    }

    #[test]
    fn it_listens_for_this_machine_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("orders.token");
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            assert!(matches!(Server::open(address, &file), Err(ServerError::NotLoopback(_))), "{address}");
        }
        std::fs::write(&file, "0123456789abcdef0123").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Server::open("127.0.0.1:0", &file), Err(ServerError::Token(_))));
    }
}
