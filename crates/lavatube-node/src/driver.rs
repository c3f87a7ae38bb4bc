//! The driver of a link: what turns the engine on a port. Steps 10 and 11 of the walk.
//!
//! What the engine asks for of the disk that is the driver's own (counters, symbols) is done here; all other events go to
//! the caller. Where the other end is, the port learns from what it sends, once the engine has found it genuine. It must not
//! know what is in a block.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_format::pair_line;
use lavatube_link::{Event, Key, Link, Status, counter_under};
use lavatube_seal::LinkEnd;

use crate::link_folder::{Counters, LinkError, Pairing, Weather, io_error};
use crate::port::{Port, UdpPort};
use crate::symbol_files::SymbolFiles;
use crate::workshop::Workshop;

/// A link, on a port.
pub struct NativeDriver {
    port: Box<dyn Port>,
    pairing: Pairing,
    /// The other keys that the other end may come with.
    spare: Option<Spare>,
    workshop: Workshop,
    link: Link<SymbolFiles>,
    counters: Counters,
    /// Counters up to this end, and more, were asked for and could not be reserved; when that is tried again.
    unreserved: Option<(u64, Instant)>,
    weather: Weather,
    floor_kept_at: Instant,
    events: VecDeque<Event>,
    switched: bool,
    outgoing: Vec<u8>,
    ends: Vec<usize>,
}

impl NativeDriver {
    /// A driver of the link of `pairing` on this computer's network, at `listen`; `peer` is where the other end is said to be.
    ///
    /// # Errors
    /// [`LinkError`] when an address or a file cannot be used.
    pub fn open(pairing: &Pairing, listen: Option<&str>, peer: Option<&str>) -> Result<Self, LinkError> {
        let peer = peer.or(pairing.file.address.as_deref());
        Self::on(pairing, Box::new(UdpPort::open(listen, peer)?))
    }

    /// A driver of the link of `pairing`, on `port`.
    ///
    /// # Errors
    /// [`LinkError`] when a file cannot be used.
    pub fn on(pairing: &Pairing, mut port: Box<dyn Port>) -> Result<Self, LinkError> {
        let (link, counters) = engine(pairing, 0, port.now())?;
        if pairing.end() == LinkEnd::Vault {
            port.answers(&pair_line::question(), pair_line::answer(&pairing.line()?));
        }
        Ok(Self {
            link,
            counters,
            unreserved: None,
            weather: pairing.weather()?,
            pairing: pairing.again()?,
            spare: pairing.recovered().map(Spare::new).transpose()?,
            floor_kept_at: port.now(),
            workshop: Workshop::new(port.has_threads()).map_err(|e| io_error(pairing.folder(), &e))?,
            port,
            events: VecDeque::new(),
            switched: false,
            outgoing: Vec::new(),
            ends: Vec::new(),
        })
    }

    /// The engine, to be told things.
    pub fn link(&mut self) -> &mut Link<SymbolFiles> {
        &mut self.link
    }

    /// What time it is.
    pub fn now(&self) -> Instant {
        self.port.now()
    }

    /// Where this end listens, if it is anywhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.address()
    }

    /// Where the other end is, once after it was heard at a new place.
    pub fn moved(&mut self) -> Option<SocketAddr> {
        self.port.moved()
    }

    /// How the link is. For people: it copies.
    pub fn status(&self) -> Status {
        self.link.status(self.now())
    }

    /// The next thing that is not the driver's own to do.
    pub fn event(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front().or_else(|| self.link.poll_event()) {
                Some(Event::ReserveCounters { end }) => self.reserve(end),
                other => return other,
            }
        }
    }

    /// Reserves counters. A full disk does not end the link: what is reserved is used, then nothing is sent, and meanwhile it is tried
    /// again.
    fn reserve(&mut self, end: u64) {
        if self.counters.reserve(end + RESERVE).is_ok() {
            self.link.reserved(end + RESERVE);
            self.unreserved = None;
        } else {
            self.unreserved = Some((end, self.now() + RESERVE_AGAIN));
        }
    }

    /// Sends what may be sent and takes in what came; waits for that at most for `wait`. Call it when there are no more
    /// events.
    ///
    /// # Errors
    /// When the socket is of no more use, or other keys cannot be begun with.
    pub fn pump(&mut self, wait: Duration) -> Result<(), LinkError> {
        self.work();
        let more = self.send();
        self.gather();
        let begin = self.now();
        let until = match self.port.has_peer() {
            // Nobody can be sent anything.
            false => begin + wait,
            true => self.link.poll_timeout(begin).map_or(begin + wait, |at| at.min(begin + wait)),
        };
        let wait = if more || !self.events.is_empty() { Duration::ZERO } else { until.since(begin).max(REST) };
        self.port.wait_or_bell(wait, self.workshop.bell())?;
        self.receive();
        if self.spare.as_ref().is_some_and(|spare| spare.heard.is_some()) {
            self.switch()?;
        }
        let now = self.now();
        if let Some((end, _)) = self.unreserved.filter(|(_, at)| *at <= now) {
            self.reserve(end);
        }
        if now >= until {
            self.link.handle_timeout(now);
        }
        self.work();
        self.gather();
        if now.since(self.floor_kept_at) >= FLOOR_EVERY {
            // A full disk must not stop the link: what is old is known in this life, and in the next one as far as was kept.
            let _ = self.keep_floor();
        }
        Ok(())
    }

    /// Keeps what a next life must know.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_floor(&mut self) -> Result<(), LinkError> {
        self.floor_kept_at = self.now();
        let status = self.status();
        if status.totals.datagrams_sent >= MEASURED {
            self.weather.keep(status.loss, status.dispersion);
        }
        self.counters.keep_floor(status.floor)
    }

    fn work(&mut self) {
        let port = &self.port;
        self.workshop.turn(&mut self.link, || port.now());
    }

    fn gather(&mut self) {
        while let Some(event) = self.link.poll_event() {
            self.events.push_back(event);
        }
    }

    /// Sends some datagrams; whether more may be sent at once.
    fn send(&mut self) -> bool {
        if !self.port.has_peer() {
            return false;
        }
        for _ in 0..BATCHES {
            self.outgoing.clear();
            self.ends.clear();
            let most = self.port.batch();
            let sent = self.link.poll_transmits(self.port.now(), &mut self.outgoing, &mut self.ends, most);
            self.port.send_many(&self.outgoing, &self.ends);
            if sent < most {
                return false;
            }
        }
        true
    }

    /// Takes in some of what came.
    fn receive(&mut self) {
        for _ in 0..BATCHES {
            let (link, spare) = (&mut self.link, &mut self.spare);
            let done = self.port.receive_many(&mut |datagrams, now| {
                link.handle_datagrams(datagrams, now) || spare.as_mut().is_some_and(|spare| spare.hears(datagrams))
            });
            if done {
                return;
            }
        }
    }

    /// The other end came with its other keys: from now on they count, and those before are the spare ones.
    fn switch(&mut self) -> Result<(), LinkError> {
        self.keep_floor()?;
        let Some(spare) = self.spare.take() else { return Ok(()) };
        (self.link, self.counters) = engine(&spare.pairing, spare.heard.unwrap_or(0), self.now())?;
        self.spare = Some(Spare::new(std::mem::replace(&mut self.pairing, spare.pairing))?);
        self.unreserved = None;
        self.events.clear();
        self.workshop = Workshop::new(self.port.has_threads()).map_err(|e| io_error(self.pairing.folder(), &e))?;
        self.switched = true;
        Ok(())
    }

    /// Whether the other end came with other keys since this was last asked: all that was under way is forgotten then.
    pub fn switched(&mut self) -> bool {
        std::mem::take(&mut self.switched)
    }
}

/// The keys that do not count now.
struct Spare {
    pairing: Pairing,
    key: Key,
    /// Counters below came in before.
    floor: u64,
    /// The other end uses them: one past the highest counter that came.
    heard: Option<u64>,
}

impl Spare {
    fn new(pairing: Pairing) -> Result<Self, LinkError> {
        let (key, floor) = (pairing.config()?.key_in, pairing.counters()?.floor);
        Ok(Self { pairing, key, floor, heard: None })
    }

    fn hears(&mut self, datagrams: &[&[u8]]) -> bool {
        let new = datagrams.iter().filter_map(|d| counter_under(&self.key, d)).filter(|counter| *counter >= self.floor);
        let heard = new.max().map(|counter| counter + 1);
        self.heard = self.heard.max(heard);
        heard.is_some()
    }
}

/// The engine of a link, with counters that were reserved for it; of the other end's, those below `heard` are used up.
fn engine(pairing: &Pairing, heard: u64, now: Instant) -> Result<(Link<SymbolFiles>, Counters), LinkError> {
    let mut counters = pairing.counters()?;
    // What brought other keys into use does so once: whoever sends it again must not change anything.
    counters.keep_floor(heard)?;
    let start = counters.reserved;
    counters.reserve(start + RESERVE)?;
    let symbols = pairing.own_folder()?.join("symbols");
    let store = SymbolFiles::open(&symbols).map_err(|e| io_error(&symbols, &e))?;
    let mut config = pairing.config()?;
    config.floor = counters.floor;
    Ok((Link::new(config, start..start + RESERVE, store, now), counters))
}

/// Counters reserved at a time.
const RESERVE: u64 = 1 << 18;
const RESERVE_AGAIN: Duration = Duration::from_secs(2);
/// Batches sent before one looks whether any came in, and the other way round.
const BATCHES: usize = 4;
/// The shortest wait, so that no mistake of anybody's keeps a processor busy.
const REST: Duration = Duration::from_micros(50);
/// Datagrams that say something about the weather.
const MEASURED: u64 = 400;
/// How often the floor goes to the disk.
const FLOOR_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
