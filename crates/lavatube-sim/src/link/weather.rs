//! What a link is like: rates, light, weather and clocks, drawn from the seed of its world.
//!
//! The seed also draws which hardships there are at all. It must not know what crosses.

use std::time::Duration;

use lavatube_base::Instant;
use lavatube_channel::{Passes, Way};
use lavatube_link::{Contact, ContactPlan, OneWay};

use crate::chance::Chance;

/// A link of one world. Likelihoods are per thousand.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Bits a second from the near end, and from the far one, as both plans say.
    pub rates_bit_s: [u64; 2],
    /// Both ends find their rate out.
    pub governed: bool,
    /// What the channels are like while there is torment: from the near end, from the far one.
    pub ways: [Way; 2],
    /// How wrong a clock may be when its end begins to live, in seconds.
    pub clock_off_s: u64,
    /// How much too fast or too slow clocks run, in millionths.
    pub drift_ppm: u64,
    /// Jobs of the engine take up to this.
    pub work: Duration,
    /// Symbol files that may be open at a time.
    pub open_max: usize,
    /// Crossings in which an end is killed now and then.
    pub kills: u64,
    /// Crossings in which there are outages and blackouts.
    pub outages: u64,
    /// Crossings in which somebody throws datagrams at the ends.
    pub attacks: u64,
    /// Crossings in which the near end gets another address.
    pub moves: u64,
    /// Crossings from which no word comes back at all.
    pub deaf: u64,
    /// Crossings in which somebody reads.
    pub reads: u64,
    /// No word ever comes back, and this is provided for.
    pub one_way: Option<OneWay>,
}

impl Weather {
    /// The link of a seed, which begins at `start`.
    pub fn draw(seed: u64, start: Instant) -> Self {
        let mut chance = Chance::named(seed, "weather", 0);
        let up = *chance.pick(&[64_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000]);
        let down = *chance.pick(&[16_000, 200_000, 2_000_000, 20_000_000]);
        let rates_bit_s = [up, down];
        let light = *chance.pick(&[100_000, 300_000_000, 1_280_000_000, 1_280_000_000]);
        let passes = chance.per_mille(300).then(|| {
            let every = Duration::from_secs(600 + chance.below(5400));
            let open = every.mul_f64(0.2 + 0.6 * share(&mut chance));
            Passes { seed, first: start, every, open, missed: 0.05, cut: 0.1 }
        });
        let ways = rates_bit_s.map(|planned| {
            // Now and then the link is slower than its plan says, and drops what is too much.
            let rate = match chance.below(5) {
                0 => planned / 2,
                1 => planned,
                _ => u64::MAX,
            };
            let loss = if chance.per_mille(250) { 0.0 } else { 0.3 * share(&mut chance) };
            let spell = if chance.per_mille(500) { 0.0 } else { 0.4 * share(&mut chance).powi(2) };
            let jitter = if chance.per_mille(300) { 10.0 * share(&mut chance).powi(3) } else { 0.0 };
            Way {
                corrupted: if chance.per_mille(500) { 0.01 * share(&mut chance) } else { 0.0 },
                duplicated: if chance.per_mille(500) { 0.2 * share(&mut chance) } else { 0.0 },
                jitter: Duration::from_secs_f64(jitter),
                own_len: 28,
                passes,
                ..Way::new(rate, Duration::from_nanos(light)).losing(loss, Duration::from_secs_f64(spell))
            }
        });
        // Who has a contact plan needs a clock.
        let clock_off_s = if passes.is_some() { 2 } else { *chance.pick(&[0, 3600, TEN_YEARS_S, TEN_YEARS_S]) };
        let mut some = |values: &[u64]| *chance.pick(values);
        let weather = Self {
            rates_bit_s,
            governed: some(&[0, 0, 0, 1]) == 1,
            ways,
            clock_off_s,
            drift_ppm: some(&[0, 50]),
            work: Duration::from_millis(some(&[0, 0, 300])),
            open_max: if some(&[0, 1]) == 0 { 256 } else { 3 },
            kills: some(&[0, 400, 900]),
            outages: some(&[0, 400, 800]),
            attacks: some(&[0, 500, 900]),
            moves: some(&[0, 300]),
            deaf: 0,
            reads: 0,
            one_way: None,
        };
        // A stream of its own: in all else a seed is what it was.
        let mut chance = Chance::named(seed, "way back", 0);
        let (deaf, reads) = (*chance.pick(&[0, 0, 250]), *chance.pick(&[0, 400, 800]));
        let weather = Self { deaf, reads, ..weather };
        if chance.per_mille(DIODES) { weather.one_way(&mut chance) } else { weather }
    }

    /// The same without a way back. Losses stay within what is provided for, but for what strikes.
    fn one_way(self, chance: &mut Chance) -> Self {
        let rate = self.rates_bit_s[0].min(5_000_000);
        let [mut there, back] = self.ways;
        there.rate_bit_s = u64::MAX;
        let passes = there.passes.map(|passes| Passes { missed: 0.0, cut: 0.0, ..passes });
        there.passes = passes;
        there.spell = if chance.per_mille(700) { Duration::ZERO } else { there.spell.min(SPELL_ONE_WAY) };
        let burst = 1.0 + 2.0 * there.spell.as_secs_f64() * rate as f64 / (8.0 * 1500.0);
        let lost = 1.0 - (1.0 - there.loss) * (1.0 - there.corrupted);
        // Where the link is always up there is no later contact.
        let repeats = if passes.is_some() { u8::try_from(chance.below(3)).unwrap_or(0) } else { 0 };
        let one_way = OneWay { loss: 1.1 * lost + 0.01, burst, failure: 1e-6, repeats };
        let (clock_off_s, drift_ppm) = if passes.is_some() { (0, 0) } else { (self.clock_off_s, self.drift_ppm) };
        let ways = [there, Way { passes, loss: 1.0, ..back }];
        let rates_bit_s = [rate, self.rates_bit_s[1]];
        Self { rates_bit_s, ways, clock_off_s, drift_ppm, one_way: Some(one_way), ..self }
    }

    /// The contact plan that `end` is told.
    pub fn plan(&self, end: usize) -> ContactPlan {
        let (rate_up_bit_s, rate_down_bit_s) = (self.rates_bit_s[end], self.rates_bit_s[1 - end]);
        let always = ContactPlan::always(rate_up_bit_s, rate_down_bit_s);
        let Some(passes) = self.ways[0].passes else { return always };
        let contact = |n| {
            let (start, end) = passes.promised(n);
            Contact { start, end, rate_up_bit_s, rate_down_bit_s, light: None, budget: None }
        };
        ContactPlan::new((0..CONTACTS).map(contact).collect()).unwrap_or(always)
    }

    /// The channels once nothing strikes any more: a little is lost, contacts are kept.
    pub fn calm(&self) -> [Way; 2] {
        self.ways.clone().map(|way| Way {
            rate_bit_s: u64::MAX,
            loss: way.loss.min(0.03),
            corrupted: 0.0,
            duplicated: 0.0,
            jitter: Duration::ZERO,
            passes: way.passes.map(|passes| Passes { missed: 0.0, cut: 0.0, ..passes }),
            dark: Vec::new(),
            ..way
        })
    }

    /// How long `len` bytes may take to come back at most, once nothing strikes any more.
    pub fn patience_home(&self, len: u64) -> Duration {
        let [up, down] = self.rates_bit_s;
        Self { rates_bit_s: [down, up], ..self.clone() }.patience(len)
    }

    /// How long `len` bytes may take at most once nothing strikes any more: four times what they take on the link, and
    /// an hour for timers that had given up hope.
    pub fn patience(&self, len: u64) -> Duration {
        let bits = |len: u64, rate: u64| Duration::from_secs_f64(len as f64 * 8.0 / rate as f64);
        let open = bits(4 * len + (64 << 10), self.rates_bit_s[0].min(RATE_GOVERNED.max(self.rates_bit_s[0] / 8)))
            + bits((64 << 10) + len / 8, self.rates_bit_s[1]);
        match self.ways[0].passes {
            None => open + HOPE,
            Some(passes) => {
                let share = passes.every.as_secs_f64() / passes.open.as_secs_f64();
                (open + HOPE).mul_f64(share) + 3 * passes.every
            }
        }
    }
}

/// A share of 0 to 1.
pub fn share(chance: &mut Chance) -> f64 {
    chance.below(1 << 53) as f64 / (1u64 << 53) as f64
}

/// Links without a way back, in a thousand.
const DIODES: u64 = 120;
/// Longer spells would cost more than anybody sends.
const SPELL_ONE_WAY: Duration = Duration::from_millis(20);
const TEN_YEARS_S: u64 = 10 * 365 * 86_400;
/// Contacts that a plan names: more than any world lives to see.
const CONTACTS: u64 = 4000;
/// A timer may have doubled until it is two minutes, several times over; nothing waits for an hour.
const HOPE: Duration = Duration::from_secs(3600);
/// Whoever finds the rate out begins low.
const RATE_GOVERNED: u64 = 64_000;
