//! The sky of a rehearsal: two channels and a clock, and the ports through which the ends look at it.
//!
//! It must not know who looks, nor what crosses. No step of the walk.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::Channel;

use crate::link_folder::LinkError;
use crate::port::{self, Port};

/// The two channels, and the clock.
pub(super) struct Sky {
    /// `None` when time is real.
    pub clock: Option<Instant>,
    pub channels: [Channel; 2],
    /// Until when each end waits.
    pub until: [Instant; 2],
}

impl Sky {
    /// What time it is.
    pub fn now(&self) -> Instant {
        self.clock.unwrap_or_else(port::now)
    }

    /// Whether an end has something to do.
    pub fn is_due(&self, end: usize) -> bool {
        let arrives = self.channels[1 - end].poll_timeout();
        arrives.into_iter().chain([self.until[end]]).any(|at| at <= self.now())
    }

    /// Lets time pass until then; a part of it when it is real.
    pub fn advance(&mut self, to: Instant) {
        match &mut self.clock {
            Some(clock) => *clock = to.max(*clock),
            None => std::thread::sleep(to.since(port::now()).min(NAP_MAX)),
        }
    }
}

/// The port of one end.
pub(super) struct Window {
    pub sky: Rc<RefCell<Sky>>,
    pub end: usize,
}

impl Port for Window {
    fn now(&self) -> Instant {
        self.sky.borrow().now()
    }

    fn has_peer(&self) -> bool {
        true
    }

    fn send(&mut self, datagram: &[u8]) {
        let mut sky = self.sky.borrow_mut();
        let now = sky.now();
        sky.channels[self.end].offer(datagram, now);
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let mut sky = self.sky.borrow_mut();
        let now = sky.now();
        let datagram = sky.channels[1 - self.end].poll(now)?;
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Some(len)
    }

    fn genuine(&mut self) {}

    fn wait(&mut self, wait: Duration) -> Result<(), LinkError> {
        let mut sky = self.sky.borrow_mut();
        sky.until[self.end] = sky.now() + wait;
        Ok(())
    }

    fn address(&self) -> Option<SocketAddr> {
        None
    }

    fn moved(&mut self) -> Option<SocketAddr> {
        None
    }
}

/// The longest sleep in real time: a signal to end is noticed after it.
const NAP_MAX: Duration = Duration::from_millis(100);
