//! One bucket over S3: requests, signatures, tries and timeouts, by `object_store` on a thread of its own.
//!
//! The vault is synchronous: each call here hands a future to the thread and waits for what comes of it. A thread a drive, so
//! that one endpoint that is slow or dead keeps nobody else. It must not know what is in an object. Step 15 of the walk.

mod credentials;
mod http;

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use hyper::body::Bytes;
use lavatube_base::limits::BUCKET_FILE_LEN_MAX;
use lavatube_format::bucket::ObjectLock;
use md5::{Digest, Md5};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential, S3ConditionalPut};
use object_store::client::{HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpService};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{BackoffConfig, GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig};
use object_store::{ObjectStore, PutResult};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::objects::{Condition, Echo, Fault, Objects, Waiting};
use crate::place::BucketAt;
use credentials::Account;
use http::Http;

/// A bucket at an S3 endpoint.
pub struct Wire {
    at: BucketAt,
    store: Arc<AmazonS3>,
    /// The same, for reading: the vault has other shards, so it is not tried for long.
    reader: Arc<AmazonS3>,
    http: Http,
    /// Where the bucket itself is, for what `object_store` does not ask.
    url: String,
    account: Arc<Account>,
    jobs: UnboundedSender<Job>,
}

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Wire {
    /// A way to the bucket of a place, with the credentials of this computer. Nothing is sent yet.
    ///
    /// # Errors
    /// In words: no credentials, no certificates, no thread.
    pub fn new(at: &BucketAt) -> Result<Self, String> {
        let account = Account::here(at)?;
        let endpoint = account.endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{}.amazonaws.com", account.region));
        let is_secure = endpoint.starts_with("https://");
        let http = Http::new(is_secure)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&at.bucket)
            .with_region(&account.region)
            .with_endpoint(&endpoint)
            .with_allow_http(!is_secure)
            .with_virtual_hosted_style_request(false)
            .with_access_key_id(&account.key_id)
            .with_secret_access_key(&account.secret)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_retry(tries(RETRIES_MAX, RETRY_WAIT))
            .with_http_connector(http.clone());
        if let Some(token) = &account.token {
            builder = builder.with_token(token);
        }
        let reader =
            builder.clone().with_retry(tries(READ_RETRIES_MAX, READ_RETRY_WAIT)).build().map_err(|e| e.to_string())?;
        let (store, reader) = (Arc::new(builder.build().map_err(|e| e.to_string())?), Arc::new(reader));
        let url = format!("{}/{}", endpoint.trim_end_matches('/'), at.bucket);
        let jobs = start().map_err(|e| format!("no thread for requests: {e}"))?;
        Ok(Self { at: at.clone(), store, reader, http, url, account: Arc::new(account), jobs })
    }

    /// Hands work to the thread; what comes of it can be waited for.
    fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Receiver<Result<T, Fault>> {
        let (tell, told) = sync_channel(1);
        let job = async move {
            let done = tokio::time::timeout(CALL_WAIT, work).await;
            let late = || Err(Fault::Gone(format!("no answer within {} s", CALL_WAIT.as_secs())));
            // Whoever asked may be gone.
            let _ = tell.send(done.unwrap_or_else(|_| late()));
        };
        let _ = self.jobs.send(Box::pin(job));
        told
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        wait(self.begin(work))
    }

    fn faults(&self) -> impl Fn(object_store::Error) -> Fault + Send + Sync + 'static {
        let bucket = self.at.bucket.clone();
        move |e| fault(&e, &bucket)
    }
}

fn wait<T>(told: Receiver<Result<T, Fault>>) -> Result<T, Fault> {
    told.recv().unwrap_or_else(|_| Err(Fault::Gone("the thread for requests ended".into())))
}

/// The thread, which ends when nobody can hand it work any more.
fn start() -> std::io::Result<UnboundedSender<Job>> {
    let (jobs, mut come) = unbounded_channel::<Job>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || {
        runtime.block_on(async {
            while let Some(job) = come.recv().await {
                tokio::spawn(job);
            }
        });
    };
    std::thread::Builder::new().name("bucket".into()).spawn(run)?;
    Ok(jobs)
}

fn tries(max_retries: usize, retry_timeout: Duration) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(2),
        ..BackoffConfig::default()
    };
    RetryConfig { backoff, max_retries, retry_timeout }
}

impl Objects for Wire {
    fn put(&self, key: &str, bytes: Arc<Vec<u8>>, when: Condition) -> Waiting {
        let (store, faults, path) = (self.store.clone(), self.faults(), Path::from(key));
        let mode = match when {
            Condition::Always => PutMode::Overwrite,
            Condition::New => PutMode::Create,
        };
        let told = self.begin(async move {
            let payload = PutPayload::from(Bytes::from_owner(Shared(bytes.clone())));
            let options = PutOptions { mode, ..PutOptions::default() };
            let put = store.put_opts(&path, payload, options).await.map_err(faults)?;
            Ok(echo(&put, &bytes))
        });
        Box::new(move || wait(told))
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        let (store, faults, path) = (self.reader.clone(), self.faults(), Path::from(key));
        let len = range.end.saturating_sub(range.start);
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.run(async move {
            let got = store.get_opts(&path, options).await.map_err(&faults)?;
            Ok(got.bytes().await.map_err(|e| broken_off(e, faults))?.to_vec())
        });
        match got {
            // Nothing is beyond the end.
            Err(Fault::Other(text)) if text.starts_with(BEYOND) => Ok(Vec::new()),
            Ok(bytes) if bytes.len() as u64 > len => {
                Err(Fault::Other("the answer is longer than was asked for".into()))
            }
            other => other,
        }
    }

    fn get_whole(&self, key: &str, max: usize) -> Result<Vec<u8>, Fault> {
        let (store, faults, path) = (self.reader.clone(), self.faults(), Path::from(key));
        let max = max.min(BUCKET_FILE_LEN_MAX) as u64;
        self.run(async move {
            let got = store.get_opts(&path, GetOptions::default()).await.map_err(&faults)?;
            if got.meta.size > max {
                return Err(Fault::Other(format!("{path} has {} bytes, and {max} are read at most", got.meta.size)));
            }
            Ok(got.bytes().await.map_err(|e| broken_off(e, faults))?.to_vec())
        })
    }

    fn len(&self, key: &str) -> Result<Option<u64>, Fault> {
        let (store, faults, path) = (self.store.clone(), self.faults(), Path::from(key));
        match self.run(async move { store.head(&path).await.map_err(faults) }) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Fault::NotFound) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), Fault> {
        let mut token: Option<String> = None;
        loop {
            let (store, faults, prefix) = (self.store.clone(), self.faults(), prefix.to_owned());
            let options = PaginatedListOptions { page_token: token.clone(), ..PaginatedListOptions::default() };
            let page = self.run(async move {
                let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
                store.list_paginated(prefix, options).await.map_err(faults)
            })?;
            for object in &page.result.objects {
                each(object.location.as_ref(), object.size);
            }
            // An endpoint that says the same page for ever is not followed.
            if page.page_token.is_some() && (page.page_token == token || page.result.objects.is_empty()) {
                return Err(Fault::Other("the endpoint's list does not go on".into()));
            }
            match page.page_token {
                Some(next) => token = Some(next),
                None => return Ok(()),
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), Fault> {
        let (store, faults, path) = (self.store.clone(), self.faults(), Path::from(key));
        match self.run(async move { store.delete(&path).await.map_err(faults) }) {
            Err(Fault::NotFound) => Ok(()),
            other => other,
        }
    }

    fn lock(&self) -> ObjectLock {
        let (http, account, url) = (self.http.clone(), self.account.clone(), format!("{}?object-lock", self.url));
        let asked = self.run(async move {
            let other = |text: String| Fault::Other(text);
            let mut request = HttpRequest::new(HttpRequestBody::empty());
            *request.uri_mut() = url.parse().map_err(|e| other(format!("{url}: {e}")))?;
            let (key_id, secret_key) = (account.key_id.clone(), account.secret.clone());
            let credential = AwsCredential { key_id, secret_key, token: account.token.clone() };
            let signer = AwsAuthorizer::new(&credential, "s3", &account.region);
            signer.try_authorize(&mut request, None).map_err(|e| other(e.to_string()))?;
            let answer = http.call(request).await.map_err(|e| other(e.to_string()))?;
            let status = answer.status();
            let body = answer.into_body().bytes().await.map_err(|e| other(e.to_string()))?;
            Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
        });
        match asked {
            Ok((200, text)) if text.contains("<ObjectLockEnabled>Enabled") => {
                let number = |name| element(&text, name).and_then(|n| n.parse::<u32>().ok());
                let years = number("Years").map(|years| years.saturating_mul(365));
                ObjectLock::On { days: number("Days").or(years).unwrap_or(0) }
            }
            Ok((200, _)) => ObjectLock::Off,
            Ok((404, text)) if text.contains("ObjectLockConfigurationNotFound") => ObjectLock::Off,
            _ => ObjectLock::Untold,
        }
    }
}

/// What the endpoint says of the bytes it got: an ETag is their MD5, where the engine does not make it of something else.
fn echo(put: &PutResult, bytes: &[u8]) -> Echo {
    let Some(tag) = put.e_tag.as_deref().map(|tag| tag.trim_matches('"')) else { return Echo::Silent };
    let own: String = Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if tag.eq_ignore_ascii_case(&own) { Echo::Same } else { Echo::Silent }
}

/// Bytes that are shared, as `object_store` takes them.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What went wrong, in few words: what the endpoint said, without the request.
fn fault(error: &object_store::Error, bucket: &str) -> Fault {
    let text = chain(error);
    let code = element(&text, "Code").unwrap_or_default();
    if code == "NoSuchBucket" {
        return Fault::Other(format!(
            "there is no bucket {bucket} at the endpoint: make it with the engine's tools first"
        ));
    }
    match error {
        object_store::Error::NotFound { .. } => return Fault::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => return Fault::Taken,
        object_store::Error::NotImplemented { .. } => return Fault::Unknown(error.to_string()),
        _ => {}
    }
    if let Some(gone) = transport(error) {
        return gone;
    }
    let status = text.split("status code: ").nth(1).and_then(|rest| rest.get(..3)).unwrap_or_default();
    let said = element(&text, "Message").filter(|said| said.len() <= WORDS_MAX).unwrap_or(code);
    match status {
        "416" => Fault::Other(BEYOND.to_owned()),
        "501" | "405" => Fault::Unknown(format!("the endpoint does not know this request: {said}")),
        "507" => Fault::Full,
        _ if FULL.contains(&code) => Fault::Full,
        "401" | "403" => Fault::Other(format!("the endpoint refuses these credentials for bucket {bucket}: {said}")),
        "" => Fault::Other(text.chars().take(WORDS_MAX).collect()),
        status => Fault::Other(format!("the endpoint answers {status}: {said}")),
    }
}

/// The endpoint did not answer, or not in time.
fn transport(error: &object_store::Error) -> Option<Fault> {
    let e = http_error(error)?;
    let is_bad = matches!(e.kind(), HttpErrorKind::Decode | HttpErrorKind::Unknown);
    let text = std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string);
    Some(if is_bad { Fault::Other(text) } else { Fault::Gone(text) })
}

fn http_error(error: &object_store::Error) -> Option<&HttpError> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = source {
        if let Some(e) = e.downcast_ref::<HttpError>() {
            return Some(e);
        }
        source = e.source();
    }
    None
}

/// The answer was begun, so the endpoint is there: an engine that meets a wrong byte on the way breaks off.
fn broken_off(error: object_store::Error, fault: impl Fn(object_store::Error) -> Fault) -> Fault {
    let kind = http_error(&error).map(HttpError::kind);
    let is_there = !matches!(kind, Some(HttpErrorKind::Timeout | HttpErrorKind::Connect));
    match fault(error) {
        Fault::Gone(text) if is_there => Fault::Other(format!("the answer broke off: {text}")),
        other => other,
    }
}

/// An error's words and those of what caused it.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        text.push_str(&format!(" {e}"));
        source = e.source();
    }
    text
}

/// The text of an element of a short XML answer.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let rest = text.split(&format!("<{name}>")).nth(1)?;
    rest.split(&format!("</{name}>")).next()
}

/// Tries after the first one, and for how long they are begun.
const RETRIES_MAX: usize = 2;
const RETRY_WAIT: Duration = Duration::from_secs(20);
const READ_RETRIES_MAX: usize = 1;
/// An engine that has refused after so long has tried for itself.
const READ_RETRY_WAIT: Duration = Duration::from_secs(5);
/// More than all tries of the largest request take at the least rate.
const CALL_WAIT: Duration = Duration::from_secs(600);
const BEYOND: &str = "beyond the end";
/// What engines say when they are full.
const FULL: [&str; 5] =
    ["QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "InsufficientCapacity", "StorageFull"];
const WORDS_MAX: usize = 300;
