//! Floor 4: `lavatube-emulator`, a link that does not exist between two network devices.
//!
//! Every IP packet that the system sends into one device comes out of the other, as late and as seldom as the channel says;
//! kernel TCP and UDP cross it unchanged, so that any two programs are measured over the same link. `scripts/emulated-link` puts
//! the devices into two network namespaces. It is a program of its own so that the command has no part of it. It must not
//! know what is in a packet. No step of the walk.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::{Channel, Way};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;
use tun_rs::{DeviceBuilder, SyncDevice};

mod settings;

use settings::Settings;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        print!("{}", settings::HELP);
        return ExitCode::SUCCESS;
    }
    let settings = match Settings::read(&args) {
        Ok(settings) => settings,
        Err(why) => {
            eprintln!("error: {why}\n\n{}", settings::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&settings) {
        Ok(never) => match never {},
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What never is: the emulator runs until it is killed, and its devices go with it.
enum Never {}

fn run(settings: &Settings) -> Result<Never, String> {
    let clock = Clock(std::time::Instant::now());
    let devices = [open(&settings.left, settings.mtu)?, open(&settings.right, settings.mtu)?];
    let [there, back] = settings.ways(clock.now());
    let mut channels = [Channel::new(there, settings.seed), Channel::new(back, !settings.seed)];
    let mut told = clock.now();
    println!("ready");
    let mut buffer = vec![0; PACKET_LEN_MAX];
    loop {
        for (from, channel) in channels.iter_mut().enumerate() {
            let (enters, leaves) = (&devices[from], &devices[1 - from]);
            take(enters, channel, &clock, &mut buffer).map_err(|e| format!("{}: {e}", settings.name(from)))?;
            while let Some(packet) = channel.poll(clock.now()) {
                // Of a device that is not up yet or any more, packets are lost like any others.
                let _ = leaves.send(&packet);
            }
        }
        let now = clock.now();
        if let Some(path) = &settings.stats
            && now.since(told) >= TELL_EVERY
        {
            told = now;
            std::fs::write(path, tally(&channels)).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        let next = channels.iter().filter_map(Channel::poll_timeout).min();
        rest(&devices, next.map_or(NAP_MAX, |at| at.since(now).min(NAP_MAX))).map_err(|e| e.to_string())?;
    }
}

/// A device; the system is told its size, and packets are read when they are there.
fn open(name: &str, mtu: u16) -> Result<SyncDevice, String> {
    let failed = |e: io::Error| match e.kind() {
        ErrorKind::PermissionDenied => format!("{name}: only root may make network devices"),
        ErrorKind::NotFound => format!("{name}: this system has no TUN devices (/dev/net/tun)"),
        _ => format!("{name}: {e}"),
    };
    let device = DeviceBuilder::new().name(name).mtu(mtu).build_sync().map_err(failed)?;
    device.set_nonblocking(true).map_err(failed)?;
    Ok(device)
}

/// Takes some of the packets that the system has sent.
fn take(device: &SyncDevice, channel: &mut Channel, clock: &Clock, buffer: &mut [u8]) -> io::Result<()> {
    for _ in 0..BATCH {
        match device.recv(buffer) {
            Ok(len) => channel.offer(&buffer[..len], clock.now()),
            // A device that is moved between namespaces is down for a moment.
            Err(e) if e.kind() == ErrorKind::WouldBlock || e.raw_os_error() == Some(DEVICE_DOWN) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Waits for packets.
fn rest(devices: &[SyncDevice; 2], wait: Duration) -> io::Result<()> {
    let mut fds = devices.each_ref().map(|device| PollFd::new(device, PollFlags::IN));
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
    match poll(&mut fds, Some(&wait)) {
        Err(e) if e != rustix::io::Errno::INTR => return Err(e.into()),
        _ => {}
    }
    // A device that is down is always ready, and has nothing.
    if fds.iter().any(|fd| fd.revents().contains(PollFlags::ERR)) {
        std::thread::sleep(DOWN_WAIT);
    }
    Ok(())
}

/// A line for each direction, for programs that measure.
fn tally(channels: &[Channel; 2]) -> String {
    let line = |(name, channel): (&str, &Channel)| {
        let t = channel.tally();
        format!(
            "{name} packets {} bytes {} delivered {} lost {} overflowed {} shut {}\n",
            t.offered, t.len_offered, t.delivered, t.lost, t.overflowed, t.shut
        )
    };
    ["there", "back"].into_iter().zip(channels).map(line).collect()
}

/// Time since the emulator began.
struct Clock(std::time::Instant);

impl Clock {
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// One direction at a rate, as `--rate` and its like say.
fn plain(rate_bit_s: u64, settings: &Settings) -> Way {
    let way = Way::new(rate_bit_s, settings.delay).losing(settings.loss.unwrap_or(0.0), settings.spell);
    Way { queue: settings.queue.unwrap_or(way.queue), ..way }
}

/// Packets taken from one device before the other has its turn.
const BATCH: usize = 64;
const PACKET_LEN_MAX: usize = 1 << 16;
const NAP_MAX: Duration = Duration::from_millis(20);
const DOWN_WAIT: Duration = Duration::from_millis(5);
const TELL_EVERY: Duration = Duration::from_millis(200);
/// EIO: what a TUN device says that is down.
const DEVICE_DOWN: i32 = 5;
