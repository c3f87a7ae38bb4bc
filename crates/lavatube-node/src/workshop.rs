//! The thread that makes repair symbols and whole blocks for a link, so that datagrams need not wait for them. Steps 9 and
//! 12 of the walk.
//!
//! Where there is one core only, or the thread is gone, work is done at once. Whoever waits for datagrams waits for
//! [`Workshop::bell`] too. It must not know what a job does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use lavatube_base::Instant;
use lavatube_link::{Done, Job, Link, SymbolStore};
use rustix::event::{EventfdFlags, eventfd};

/// Where jobs of a link are done.
pub(crate) struct Workshop {
    /// The thread, and the way to it.
    todo: Option<(Sender<Job>, JoinHandle<()>)>,
    done: Receiver<Done>,
    bell: Arc<OwnedFd>,
}

impl Workshop {
    /// With a thread of its own, if it may have one and there is a core for it.
    ///
    /// # Errors
    /// When the system has no more descriptors or threads.
    pub fn new(threads: bool) -> std::io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let (results, done) = channel();
        let mut todo = None;
        if threads && std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
            let (jobs, queue) = channel::<Job>();
            let ring = Arc::clone(&bell);
            let thread = std::thread::Builder::new().name("link jobs".into()).spawn(move || {
                for job in queue {
                    if results.send(job.run()).is_err() {
                        return;
                    }
                    // A bell that is full rings already.
                    let _ = rustix::io::write(&*ring, &1u64.to_ne_bytes());
                }
            })?;
            todo = Some((jobs, thread));
        }
        Ok(Self { todo, done, bell })
    }

    /// Takes what the link has to be done, and gives it what is.
    pub fn turn<S: SymbolStore>(&mut self, link: &mut Link<S>, now: impl Fn() -> Instant) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&*self.bell, &mut count);
        loop {
            while let Ok(done) = self.done.try_recv() {
                link.finished(done, now());
            }
            let Some(job) = link.poll_job(now()) else { return };
            let job = match &self.todo {
                Some((jobs, _)) if !job.is_small() => match jobs.send(job) {
                    Ok(()) => continue,
                    Err(back) => back.0,
                },
                _ => job,
            };
            link.finished(job.run(), now());
        }
    }

    /// Readable when something is done.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Some((jobs, thread)) = self.todo.take() {
            drop(jobs);
            // It ends after the job it is at; if it panicked, its message was printed.
            let _ = thread.join();
        }
    }
}
