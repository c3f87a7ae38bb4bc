//! The seam under a drive in a bucket: what is asked of one bucket, in calls that end.
//!
//! `wire` has the real one, tests one that forgets, lies and dies. It must not know names of a drive: keys are whole.

use std::ops::Range;
use std::sync::Arc;

use lavatube_format::bucket::ObjectLock;

/// Why a request did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no such object.
    #[error("no such object")]
    NotFound,
    /// There is one already, and it was not to be replaced.
    #[error("there is an object of that key already")]
    Taken,
    /// There is no room for it.
    #[error("there is no room left")]
    Full,
    /// The endpoint cannot be reached, or does not answer in time.
    #[error("{0}")]
    Gone(String),
    /// It does not know what was asked of it.
    #[error("{0}")]
    Unknown(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// When an object is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// When nothing has its key, if the endpoint heeds that.
    New,
}

/// What an endpoint says of the bytes it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// Nothing.
    Silent,
    /// Their checksum is that of what was sent.
    Same,
    /// It is another.
    Other,
}

/// A put that was begun: waits until it has ended.
pub type Waiting = Box<dyn FnOnce() -> Result<Echo, Fault> + Send>;

/// One bucket.
pub trait Objects: Send + Sync {
    /// Begins to put an object. Once this has ended well it is durable, as far as the endpoint's word goes.
    fn put(&self, key: &str, bytes: Arc<Vec<u8>>, when: Condition) -> Waiting;

    /// Reads a part of an object; fewer bytes only at its end.
    ///
    /// # Errors
    /// [`Fault`].
    fn get(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, Fault>;

    /// Reads an object of at most `max` bytes.
    ///
    /// # Errors
    /// [`Fault`], also for a longer one.
    fn get_whole(&self, key: &str, max: usize) -> Result<Vec<u8>, Fault>;

    /// Length of an object, `None` when there is none.
    ///
    /// # Errors
    /// [`Fault`].
    fn len(&self, key: &str) -> Result<Option<u64>, Fault>;

    /// Calls `each` with key and length of every object whose key begins with `prefix`.
    ///
    /// # Errors
    /// [`Fault`]; some may have been given before.
    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), Fault>;

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`Fault`].
    fn delete(&self, key: &str) -> Result<(), Fault>;

    /// Whether the bucket keeps objects from being deleted.
    fn lock(&self) -> ObjectLock;
}
