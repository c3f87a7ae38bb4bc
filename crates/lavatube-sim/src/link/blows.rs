//! What strikes during a crossing, and when: drawn at its beginning.
//!
//! Most strikes come early, because most of a crossing is over early and the rest is waiting. It must not know how a blow
//! is dealt.

use std::time::Duration;

use lavatube_base::Instant;

use super::errands::Wish;
use super::weather::{Weather, share};
use crate::chance::Chance;

/// Something that strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// An end dies; its power may fail with it.
    Kill {
        /// Which.
        end: usize,
        /// Whether what was not synced is in doubt.
        power: bool,
    },
    /// An end is told to end, and does.
    Stop(usize),
    /// Nothing passes from these ends for so long.
    Outage {
        /// From which.
        from: [bool; 2],
        /// How long.
        lasts: Duration,
    },
    /// Somebody throws so many datagrams.
    Attack(u64),
    /// The near end has another address.
    Move,
    /// The drives that were away are there again.
    DrivesComeBack,
    /// Somebody begins to read.
    Read(Wish),
}

/// What strikes from `start` on, within `span`, in order.
pub fn draw(weather: &Weather, start: Instant, span: Duration, chance: &mut Chance) -> Vec<(Instant, Blow)> {
    let mut out = Vec::new();
    let mut some = |likelihood: u64, most: u64, chance: &mut Chance, make: &dyn Fn(&mut Chance) -> Blow| {
        if chance.per_mille(likelihood) {
            for _ in 0..=chance.below(most) {
                let at = start + span.mul_f64(share(chance).powi(5));
                out.push((at, make(chance)));
            }
        }
    };
    some(weather.kills, 4, chance, &|chance| match chance.below(5) {
        0 => Blow::Stop(chance.index(2)),
        n => Blow::Kill { end: chance.index(2), power: n == 1 },
    });
    some(weather.outages, 3, chance, &|chance| {
        let from = *chance.pick(&[[true, true], [true, false], [false, true], [false, true]]);
        Blow::Outage { from, lasts: OUTAGE_MAX.mul_f64(share(chance).powi(6)) }
    });
    some(weather.attacks, 6, chance, &|chance| Blow::Attack(1 + chance.below(8)));
    some(weather.moves, 2, chance, &|_| Blow::Move);
    some(1000, 0, chance, &|_| Blow::DrivesComeBack);
    let mut own = Chance::new(chance.draw());
    some(weather.reads, 4, &mut own, &|chance| Blow::Read(Wish::draw(chance)));
    out.sort_by_key(|(at, _)| *at);
    out
}

/// The longest blackout: two weeks, as when the Moon's night falls on a lander.
const OUTAGE_MAX: Duration = Duration::from_secs(14 * 86_400);
