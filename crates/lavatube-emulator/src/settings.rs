//! What the emulator is told: two devices, and a link by name or by numbers.
//!
//! Plain words and numbers, read by hand: one program that measures needs no library for that. It must not know packets.

use std::path::PathBuf;
use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::{PRESETS, Preset, Way, preset};

use crate::plain;

/// How it is called.
pub const HELP: &str = "\
Joins two network devices by a link that does not exist. Root only.

    lavatube-emulator --left NAME --right NAME [--link PRESET] [OPTIONS]

  --left NAME, --right NAME  the devices that are made; they go when this program ends
  --link PRESET              lunar-optical, lunar-relay, lander, polar-station, ship, diode, lan: left to right is to the vault
  --rate MBIT[/MBIT]         instead of a preset: Mbit/s from left to right, and back [100]
  --delay MS                 and the way from one end to the other [1280]
  --loss PERCENT             packets lost, both ways; also with a preset [0]
  --spell MS                 lost in spells of this mean length instead of one by one [0]
  --queue MS                 what would wait longer at the entrance is dropped [2000]
  --mtu BYTES                longest packet [1500]
  --seed N                   what befalls packets is drawn from it [1]
  --stats FILE               write what became of packets there, five times a second

It prints `ready` once the devices are there. `scripts/emulated-link` makes two hosts of them.
";

/// What the emulator is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The device at one end.
    pub left: String,
    /// The device at the other end.
    pub right: String,
    /// The longest packet.
    pub mtu: u16,
    /// What befalls packets is drawn from it.
    pub seed: u64,
    /// Where to write what became of them.
    pub stats: Option<PathBuf>,
    /// The share of packets that are lost.
    pub loss: Option<f64>,
    /// How long a spell of loss lasts.
    pub spell: Duration,
    /// One way.
    pub delay: Duration,
    /// The longest wait at the entrance.
    pub queue: Option<Duration>,
    link: Option<&'static Preset>,
    rates_bit_s: (u64, u64),
}

impl Settings {
    /// Reads a command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(args: &[String]) -> Result<Self, String> {
        let mut settings = Self {
            left: String::new(),
            right: String::new(),
            mtu: 1500,
            seed: 1,
            stats: None,
            loss: None,
            spell: Duration::ZERO,
            delay: Duration::from_millis(1280),
            queue: None,
            link: None,
            rates_bit_s: (100_000_000, 100_000_000),
        };
        for pair in args.chunks(2) {
            let [name, value] = pair else { return Err(format!("{} needs a value", pair[0])) };
            settings.set(name, value).map_err(|why| format!("{name} {value}: {why}"))?;
        }
        match (settings.left.as_str(), settings.right.as_str()) {
            ("", _) | (_, "") => Err("both --left and --right are needed".into()),
            (left, right) if left == right => Err("--left and --right are two devices".into()),
            _ => Ok(settings),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--left" => value.clone_into(&mut self.left),
            "--right" => value.clone_into(&mut self.right),
            "--mtu" => self.mtu = value.parse().map_err(|_| "no number of bytes")?,
            "--seed" => self.seed = value.parse().map_err(|_| "no whole number")?,
            "--stats" => self.stats = Some(value.into()),
            "--loss" => self.loss = Some(number(value, 99.9)? / 100.0),
            "--spell" => self.spell = millis(value)?,
            "--delay" => self.delay = millis(value)?,
            "--queue" => self.queue = Some(millis(value)?),
            "--link" => self.link = Some(preset(value).ok_or_else(names)?),
            "--rate" => {
                let (there, back) = value.split_once('/').unwrap_or((value, value));
                self.rates_bit_s = (mbit(there)?, mbit(back)?);
            }
            _ => return Err("there is no such option".into()),
        }
        Ok(())
    }

    /// Both directions, from `start` on.
    pub fn ways(&self, start: Instant) -> [Way; 2] {
        let Some(preset) = self.link else {
            return [plain(self.rates_bit_s.0, self), plain(self.rates_bit_s.1, self)];
        };
        preset.ways(start, self.seed).map(|way| {
            let queue = self.queue.unwrap_or(way.queue);
            Way { loss: self.loss.unwrap_or(way.loss), queue, ..way }
        })
    }

    /// The name of a device.
    pub fn name(&self, end: usize) -> &str {
        if end == 0 { &self.left } else { &self.right }
    }
}

fn names() -> String {
    format!("it is none of {}", PRESETS.iter().map(|p| p.name).collect::<Vec<_>>().join(", "))
}

fn number(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| (0.0..=most).contains(n));
    number.ok_or_else(|| format!("no number of 0 to {most}"))
}

fn millis(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_secs_f64(number(text, 3.6e6)? / 1000.0))
}

fn mbit(text: &str) -> Result<u64, String> {
    // Through whole microseconds, so that nothing is cut off on the way.
    let bits = Duration::from_secs_f64(number(text, 1e6)?).as_micros();
    u64::try_from(bits).ok().filter(|bits| *bits > 0).ok_or_else(|| "no rate".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Settings, String> {
        Settings::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_make_a_link_and_a_preset_may_be_changed() {
        let [there, back] =
            read("--left a --right b --rate 20/2.5 --delay 1300 --loss 0.1 --spell 5").unwrap().ways(Instant(0));
        assert_eq!(
            (there.rate_bit_s, back.rate_bit_s, there.light),
            (20_000_000, 2_500_000, Duration::from_millis(1300))
        );
        assert!((there.loss - 0.001).abs() < 1e-12 && there.spell == Duration::from_millis(5));
        let [there, back] = read("--left a --right b --link ship --loss 7").unwrap().ways(Instant(0));
        assert_eq!((there.rate_bit_s, back.rate_bit_s, there.loss), (5_000_000, 20_000_000, 0.07));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (line, why) in [
            ("--left a", "both --left and --right"),
            ("--left a --right a", "two devices"),
            ("--left a --right b --link mars", "none of lunar-optical"),
            ("--left a --right b --loss 100", "no number"),
            ("--left a --right b --rate 0", "no rate"),
            ("--left a --right b --speed 3", "no such option"),
            ("--left a --right", "needs a value"),
        ] {
            assert!(read(line).unwrap_err().contains(why), "{line}");
        }
    }
}
