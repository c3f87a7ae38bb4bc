//! HTTP/1.1 to one endpoint, over TCP or TLS: what `object_store` sends goes through here.
//!
//! Everything has a time after which it is given up, and no answer is longer than what was asked for. It must not know S3.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{HOST, HeaderValue, RANGE};
use ::http::uri::PathAndQuery;
use ::http::{Method, Uri};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use lavatube_base::limits::{BUCKET_ANSWER_LEN_MAX, BUCKET_FILE_LEN_MAX};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;

/// A way to one endpoint, and connections that wait to be used again.
#[derive(Debug, Clone)]
pub(super) struct Http(Arc<Shared>);

struct Shared {
    tls: Option<Arc<rustls::ClientConfig>>,
    idle: Mutex<Vec<(SendRequest<HttpRequestBody>, Instant)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("no connection to {0}: {1}")]
    Connect(String, std::io::Error),
    #[error("{0} did not answer within {1} s")]
    Late(String, u64),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is longer than what was asked for")]
    Long,
    #[error("{0} is no place to send a request to")]
    Place(String),
}

impl Trouble {
    fn error(self) -> HttpError {
        let kind = match &self {
            Self::Connect(..) => HttpErrorKind::Connect,
            Self::Late(..) => HttpErrorKind::Timeout,
            Self::Http(e) if e.is_canceled() || e.is_closed() || e.is_incomplete_message() => HttpErrorKind::Request,
            Self::Http(_) => HttpErrorKind::Interrupted,
            Self::Long => HttpErrorKind::Decode,
            Self::Place(_) => HttpErrorKind::Unknown,
        };
        HttpError::new(kind, self)
    }
}

impl Http {
    /// A way to an endpoint; where it is a secure one, certificates say whom to believe: those of a file, or the computer's own.
    pub(super) fn new(is_secure: bool, ca_bundle: Option<&str>) -> Result<Self, String> {
        let tls = if is_secure { Some(Arc::new(trust(ca_bundle)?)) } else { None };
        Ok(Self(Arc::new(Shared { tls, idle: Mutex::default() })))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Trouble> {
        let uri = request.uri().clone();
        let (host, port) = place(&uri)?;
        let (max, request) = (len_max(&request), own_form(request, &host, port)?);
        let late = |wait: Duration| Trouble::Late(host.clone(), wait.as_secs());
        let mut sender = match self.idle().await {
            Some(sender) => sender,
            None => timeout(CONNECT_WAIT, self.connect(&uri, &host, port)).await.map_err(|_| late(CONNECT_WAIT))??,
        };
        let wait = ANSWER_WAIT + Duration::from_secs(request.body().content_length() as u64 / RATE_MIN);
        let response = timeout(wait, sender.send_request(request)).await.map_err(|_| late(wait))??;
        let (head, body) = response.into_parts();
        let max = if head.status.is_success() { max } else { BUCKET_ANSWER_LEN_MAX };
        let mut answer =
            Answer { body, left: max, host, late: Box::pin(sleep(STALL_WAIT)), sender: Some((sender, self.clone())) };
        if answer.body.is_end_stream() {
            answer.give_back();
        }
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(answer)))
    }

    /// A connection that was used before and is open still.
    async fn idle(&self) -> Option<SendRequest<HttpRequestBody>> {
        loop {
            let (mut sender, since) = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            let is_fresh = since.elapsed() < IDLE_MAX && !sender.is_closed();
            if is_fresh && matches!(timeout(READY_WAIT, sender.ready()).await, Ok(Ok(()))) {
                return Some(sender);
            }
        }
    }

    async fn connect(&self, uri: &Uri, host: &str, port: u16) -> Result<SendRequest<HttpRequestBody>, Trouble> {
        let named = |e| Trouble::Connect(format!("{host}:{port}"), e);
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(named)?;
        tcp.set_nodelay(true).map_err(named)?;
        match &self.0.tls {
            Some(config) if uri.scheme_str() == Some("https") => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|_| Trouble::Place(host.to_owned()))?;
                let tls = TlsConnector::from(config.clone()).connect(name, tcp).await.map_err(named)?;
                shake(Stream(tls)).await
            }
            None if uri.scheme_str() == Some("http") => shake(Stream(tcp)).await,
            _ => Err(Trouble::Place(uri.to_string())),
        }
    }
}

impl HttpConnector for Http {
    fn connect(&self, _options: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Http {
    // As `async_trait` writes it, so that there is no need for it.
    fn call<'a, 't>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 't>>
    where
        'a: 't,
        Self: 't,
    {
        Box::pin(async move { self.send(request).await.map_err(Trouble::error) })
    }
}

async fn shake<S>(stream: Stream<S>) -> Result<SendRequest<HttpRequestBody>, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(stream).await?;
    // It ends with the last of sender and body; what went wrong is told to these.
    drop(tokio::spawn(connection));
    Ok(sender)
}

fn trust(ca_bundle: Option<&str>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_bundle {
        Some(path) => {
            let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            let found = found.map_err(|e| format!("{path}, which AWS_CA_BUNDLE or ca_bundle names: {e}"))?;
            if roots.add_parsable_certificates(found).0 == 0 {
                return Err(format!("{path}, which AWS_CA_BUNDLE or ca_bundle names, has no certificate"));
            }
        }
        None => {
            if roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs).0 == 0 {
                let text = "this computer has no certificates to check an https endpoint by (Debian: ca-certificates)";
                return Err(text.into());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

fn place(uri: &Uri) -> Result<(String, u16), Trouble> {
    let bad = || Trouble::Place(uri.to_string());
    let host = uri.host().ok_or_else(bad)?.to_owned();
    let port = uri.port_u16().or(default_port(uri)).ok_or_else(bad)?;
    Ok((host, port))
}

fn default_port(uri: &Uri) -> Option<u16> {
    match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    }
}

/// A request as it goes over a connection: its path alone, and whom it is for in a header, as that was signed.
fn own_form(mut request: HttpRequest, host: &str, port: u16) -> Result<HttpRequest, Trouble> {
    let whom = if default_port(request.uri()) == Some(port) { host.to_owned() } else { format!("{host}:{port}") };
    let whom = HeaderValue::from_str(&whom).map_err(|_| Trouble::Place(host.to_owned()))?;
    request.headers_mut().insert(HOST, whom);
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(request)
}

/// How long an answer may be: what was asked for of an object, or all of one; anything else is short.
fn len_max(request: &HttpRequest) -> usize {
    let is_object = request.method() == Method::GET && request.uri().query().is_none();
    let range =
        request.headers().get(RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    match range.and_then(|(from, to)| Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()?))) {
        Some((from, to)) if is_object => to.saturating_sub(from).saturating_add(1),
        _ if is_object => BUCKET_FILE_LEN_MAX,
        _ => BUCKET_ANSWER_LEN_MAX,
    }
}

/// The body of an answer.
struct Answer {
    body: Incoming,
    left: usize,
    host: String,
    late: Pin<Box<Sleep>>,
    sender: Option<(SendRequest<HttpRequestBody>, Http)>,
}

impl Answer {
    /// The connection may be used again.
    fn give_back(&mut self) {
        if let Some((sender, http)) = self.sender.take() {
            let mut idle = http.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE_CONNECTIONS_MAX {
                idle.push((sender, Instant::now()));
            }
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            return match this.late.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    Poll::Ready(Some(Err(Trouble::Late(this.host.clone(), STALL_WAIT.as_secs()).error())))
                }
                Poll::Pending => Poll::Pending,
            };
        };
        let Some(frame) = frame else {
            this.give_back();
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(e) => return Poll::Ready(Some(Err(Trouble::Http(e).error()))),
        };
        let len = frame.data_ref().map_or(0, Bytes::len);
        let Some(left) = this.left.checked_sub(len) else {
            return Poll::Ready(Some(Err(Trouble::Long.error())));
        };
        this.left = left;
        this.late.as_mut().reset(Instant::now() + STALL_WAIT);
        if this.body.is_end_stream() {
            this.give_back();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream of tokio's as hyper takes it.
struct Stream<S>(S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Over a buffer of our own: filling hyper's in place would take code that the compiler cannot check.
        let mut own = [0; READ_LEN];
        let len = buf.remaining().min(READ_LEN);
        let mut read = ReadBuf::new(&mut own[..len]);
        match Pin::new(&mut self.0).poll_read(cx, &mut read) {
            Poll::Ready(Ok(())) => {
                buf.put_slice(read.filled());
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// For the first word of an answer, beside the time that sending takes at this rate in bytes a second.
const ANSWER_WAIT: Duration = Duration::from_secs(20);
const RATE_MIN: u64 = 256 << 10;
/// Between two pieces of an answer.
const STALL_WAIT: Duration = Duration::from_secs(20);
/// Engines close what is idle for long; a request that meets that is lost.
const IDLE_MAX: Duration = Duration::from_secs(4);
const READY_WAIT: Duration = Duration::from_millis(100);
const IDLE_CONNECTIONS_MAX: usize = 8;
const READ_LEN: usize = 16 << 10;
