//! Links that people know, as presets: what flew, what was announced, and what an operator would plan with.
//!
//! Rates and light times are published figures (the sources stand in docs/REHEARSE.md); losses, spells and failing contacts are
//! assumptions to rehearse with. It must not know who uses them.

use std::time::Duration;

use lavatube_base::Instant;

use crate::passes::Passes;
use crate::way::{Swing, Way};

/// A link that people know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preset {
    /// Its name, for commands.
    pub name: &'static str,
    /// A sentence for people.
    pub about: &'static str,
    /// Bits a second from the machine that backs up to the vault, and back; 0 when there is no way back.
    pub rates_bit_s: (u64, u64),
    /// How long light takes.
    light: Duration,
    swing: Option<Swing>,
    loss: f64,
    spell: Duration,
    /// How often contacts come, how long they are open, and the shares that fail and that close early.
    passes: Option<(Duration, Duration, f64, f64)>,
}

impl Preset {
    /// Whether nothing comes back.
    pub fn is_one_way(&self) -> bool {
        self.rates_bit_s.1 == 0
    }

    /// The two directions, from `start` on: to the vault, and back. The seed says which contacts fail.
    pub fn ways(&self, start: Instant, seed: u64) -> [Way; 2] {
        let (up, down) = self.rates_bit_s;
        [up, down].map(|rate| {
            let way = Way::new(rate.max(1), self.light).losing(self.loss, self.spell);
            let dark = if rate == 0 { vec![(Instant(0), Instant(u64::MAX))] } else { Vec::new() };
            let passes =
                self.passes.map(|(every, open, missed, cut)| Passes { seed, first: start, every, open, missed, cut });
            Way { swing: self.swing, passes, dark, ..way }
        })
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// All of them, the farthest first.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "lunar-optical",
        about: "a laser to the Moon, as flown: 20 Mbit/s up, 260 down, always in sight; 1 % lost where the air flickers",
        rates_bit_s: (20_000_000, 260_000_000),
        light: EARTH_MOON,
        swing: MOONS_ORBIT,
        loss: 0.01,
        spell: Duration::from_millis(15),
        passes: None,
    },
    Preset {
        name: "lunar-relay",
        about: "a relay in lunar orbit that one ground station sees 37 minutes of every two hours: 1 Mbit/s up, 10 down; \
                0.5 % lost, one contact of 20 fails and one of 20 closes early",
        rates_bit_s: (1_000_000, 10_000_000),
        light: EARTH_MOON,
        swing: MOONS_ORBIT,
        loss: 0.005,
        spell: Duration::ZERO,
        passes: Some((hours(2), minutes(37), 0.05, 0.05)),
    },
    Preset {
        name: "lander",
        about: "a commercial lander's own radio: 16 kbit/s up, 750 down, 1 % lost",
        rates_bit_s: (16_000, 750_000),
        light: EARTH_MOON,
        swing: MOONS_ORBIT,
        loss: 0.01,
        spell: Duration::ZERO,
        passes: None,
    },
    Preset {
        name: "polar-station",
        about: "a station near a pole of the Earth, 150 Mbit/s by satellite for 6 hours a day; 0.1 % lost, one contact of 50 \
                fails and one of 20 closes early",
        rates_bit_s: (150_000_000, 150_000_000),
        light: GEOSTATIONARY,
        swing: None,
        loss: 0.001,
        spell: Duration::ZERO,
        passes: Some((hours(24), hours(6), 0.02, 0.05)),
    },
    Preset {
        name: "ship",
        about: "a ship at sea by satellite: 5 Mbit/s up, 20 down; 2 % lost in spells of 120 ms, behind masts and waves",
        rates_bit_s: (5_000_000, 20_000_000),
        light: GEOSTATIONARY,
        swing: None,
        loss: 0.02,
        spell: Duration::from_millis(120),
        passes: None,
    },
    Preset {
        name: "diode",
        about: "one way only: 100 Mbit/s to the vault, and no word back",
        rates_bit_s: (100_000_000, 0),
        light: Duration::from_micros(100),
        swing: None,
        loss: 0.0001,
        spell: Duration::ZERO,
        passes: None,
    },
    Preset {
        name: "lan",
        about: "the next room: 1 Gbit/s both ways, nothing lost",
        rates_bit_s: (1_000_000_000, 1_000_000_000),
        light: Duration::from_micros(100),
        swing: None,
        loss: 0.0,
        spell: Duration::ZERO,
        passes: None,
    },
];

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

const fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

/// One way, on average; from 1.19 s at the nearest to 1.36 s at the farthest.
const EARTH_MOON: Duration = Duration::from_millis(1280);
const MOONS_ORBIT: Option<Swing> = Some(Swing { by: Duration::from_millis(70), every: Duration::from_secs(2_380_592) });
/// One way by a satellite that stands still, with its modems.
const GEOSTATIONARY: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;

    #[test]
    fn presets_are_found_by_name_and_say_what_they_are() {
        for one in PRESETS {
            assert_eq!(preset(one.name), Some(one));
            assert!(one.about.len() > 20 && !one.about.contains("  "), "{}", one.about);
            let [up, down] = one.ways(Instant(5), 1);
            assert!(up.light == down.light && up.loss < 0.1);
        }
        assert_eq!(preset("mars"), None);
    }

    #[test]
    fn the_relay_is_seen_a_third_of_the_time_and_a_diode_carries_nothing_back() {
        let ways = |name: &str| preset(name).unwrap().ways(Instant(0), 1).map(|way| Channel::new(way, 1));
        let [relay, _] = ways("lunar-relay");
        let open = (0..100_000).filter(|m| relay.is_open(Instant(m * 60_000_000_000))).count();
        assert!((27_000..31_000).contains(&open), "{open}");
        let [there, mut back] = ways("diode");
        back.offer(&[1], Instant(1));
        assert!(there.is_open(Instant(1)) && back.poll_timeout().is_none() && back.tally().shut == 1);
    }
}
