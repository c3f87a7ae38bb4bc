//! The two ways to carry: the native link, and bundles of the standard's network. The ends of a link cannot tell which.
//!
//! [`Driver`] picks by `link.toml`; [`Carrier`] is what an end asks of either. It must not know what is in a block. No step
//! of the walk, which takes the native way.

use std::net::SocketAddr;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_link::{Carrier, Event, Status};

use crate::driver::NativeDriver;
use crate::dtn_link::DtnLink;
use crate::link_folder::{LinkError, Pairing};
use crate::port::Port;

/// What turns the carrier of a link.
pub enum Driver {
    /// The native link, on a port.
    Native(Box<NativeDriver>),
    /// Bundles.
    Dtn(Box<DtnLink>),
}

impl Driver {
    /// The carrier that `link.toml` names, on this computer's network, at `listen`; `peer` is where the other end is said to be.
    ///
    /// # Errors
    /// [`LinkError`] when an address or a file cannot be used.
    pub fn open(pairing: &Pairing, listen: Option<&str>, peer: Option<&str>) -> Result<Self, LinkError> {
        match pairing.dtn()? {
            Some(dtn) => DtnLink::open(pairing, dtn, listen, peer).map(|link| Self::Dtn(Box::new(link))),
            None => NativeDriver::open(pairing, listen, peer).map(|driver| Self::Native(Box::new(driver))),
        }
    }

    /// The native link of `pairing`, on `port`.
    ///
    /// # Errors
    /// [`LinkError`] when a file cannot be used.
    pub fn on(pairing: &Pairing, port: Box<dyn Port>) -> Result<Self, LinkError> {
        NativeDriver::on(pairing, port).map(|driver| Self::Native(Box::new(driver)))
    }

    /// The carrier, to be told things.
    pub fn link(&mut self) -> &mut dyn Carrier {
        match self {
            Self::Native(driver) => driver.link(),
            Self::Dtn(link) => link.as_mut(),
        }
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        match self {
            Self::Native(driver) => driver.now(),
            Self::Dtn(_) => crate::port::now(),
        }
    }

    /// Where this end listens, if it is anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Native(driver) => driver.address(),
            Self::Dtn(link) => link.address(),
        }
    }

    /// Where the other end is, once after it was heard at a new place.
    pub fn moved(&mut self) -> Option<SocketAddr> {
        match self {
            Self::Native(driver) => driver.moved(),
            Self::Dtn(link) => link.moved(),
        }
    }

    /// How the link is. For people: it copies.
    pub fn status(&self) -> Status {
        match self {
            Self::Native(driver) => driver.status(),
            Self::Dtn(link) => link.status(self.now()),
        }
    }

    /// The next thing that is not the driver's own to do.
    pub fn event(&mut self) -> Option<Event> {
        match self {
            Self::Native(driver) => driver.event(),
            Self::Dtn(link) => link.event(),
        }
    }

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`. Call it when there are no more
    /// events.
    ///
    /// # Errors
    /// When a file cannot be written, or the socket is of no more use.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        match self {
            Self::Native(driver) => driver.pump(wait),
            Self::Dtn(link) => link.pump(wait),
        }
    }

    /// Keeps what a next life must know.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_floor(&mut self) -> Result<(), LinkError> {
        match self {
            Self::Native(driver) => driver.keep_floor(),
            Self::Dtn(link) => link.keep_floor(),
        }
    }

    /// Whether the other end came with other keys since this was last asked: all that was under way is forgotten then.
    pub fn switched(&mut self) -> bool {
        match self {
            Self::Native(driver) => driver.switched(),
            Self::Dtn(_) => false,
        }
    }
}
