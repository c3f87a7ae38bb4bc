//! What becomes of a vault in years: chance for what is slow, arithmetic for what is fast.
//!
//! A life goes in steps of a month. Slow is which drives live, and so how much room there is: that is drawn. Fast is which drives are gone
//! and not yet made good: their number follows from the rates (Poisson, as in M/G/∞), so that the expected loss of the month is a sum
//! ([`Code::yearly_loss`]). Batches and shelves take many drives at once and are drawn; what a stripe has of them, when it is spread evenly,
//! is arithmetic again. When the room ends, parity goes, evenly, and then data. Without repair nothing is fast, and losses are those of the
//! drives that were drawn.

use std::collections::BTreeMap;

use lavatube_base::Chance;

use crate::drives::Drives;
use crate::stripe::{hypergeometric, more_than, poisson};
use crate::terms::YEAR_DAYS;
use crate::{Code, Repair, Terms, TermsError};

/// What is to be expected at some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Milestone {
    /// Years after the beginning.
    pub years: f64,
    /// The share of the data that is lost, on the mean of all lives.
    pub lost: f64,
    /// Where that mean is with 95 % confidence: it is of as many lives as were lived.
    pub lost_between: (f64, f64),
    /// Lives in which more was lost than rounding: the share of them.
    pub lives_with_loss: f64,
    /// Drives alive, at the fifth, fiftieth and ninety-fifth of a hundred lives.
    pub alive: [u32; 3],
    /// Data that would fit with all its parity, over what there is, at the same.
    pub room: [f64; 3],
    /// Parity shards a stripe has, on the mean of all lives.
    pub parity: f64,
}

/// What is to be expected.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// At the years that were asked for.
    pub milestones: Vec<Milestone>,
    /// Lives that were lived.
    pub lives: u32,
    /// The years after which the room for all parity is gone, on the mean of the lives in which that happens, and their share.
    pub spare_ends: Option<(f64, f64)>,
}

/// What is to be expected at these years, from so many lives; `lived` is called after each.
///
/// # Errors
/// [`TermsError`] when the terms make no sense.
pub fn outlook(
    terms: &Terms,
    at: &[f64],
    lives: u32,
    seed: u64,
    lived: &mut dyn FnMut(),
) -> Result<Outlook, TermsError> {
    terms.check()?;
    if lives == 0 || at.iter().any(|years| !(*years > 0.0 && *years <= terms.years)) {
        return Err(TermsError("a life is lived at least, and years are those of the terms at most".into()));
    }
    let mut known = Known::default();
    let one = |life| {
        let life = Life::live(terms, at, Chance::new(seed, u64::from(life)), &mut known);
        lived();
        life
    };
    let lived: Vec<Life> = (0..lives).map(one).collect();
    let milestones = at
        .iter()
        .enumerate()
        .map(|(i, years)| milestone(*years, lived.iter().map(|life| life.marks[i]).collect()))
        .collect();
    let ends: Vec<f64> = lived.iter().filter_map(|life| life.spare_ended).collect();
    let spare_ends = (!ends.is_empty())
        .then(|| (ends.iter().sum::<f64>() / ends.len() as f64, ends.len() as f64 / f64::from(lives)));
    Ok(Outlook { milestones, lives, spare_ends })
}

fn milestone(years: f64, marks: Vec<Mark>) -> Milestone {
    let n = marks.len() as f64;
    let lost = marks.iter().map(|mark| mark.lost).sum::<f64>() / n;
    let variance = marks.iter().map(|mark| (mark.lost - lost).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let wide = Z * (variance / n).sqrt();
    // Losses are rare and large, so that their mean is rather too low than too high: the range moves up by what their skewness says (Johnson 1978).
    let third = marks.iter().map(|mark| (mark.lost - lost).powi(3)).sum::<f64>() / n;
    let middle = if variance > 0.0 { lost + third / (6.0 * variance * n) } else { lost };
    let mut alive: Vec<u32> = marks.iter().map(|mark| mark.alive).collect();
    let mut room: Vec<f64> = marks.iter().map(|mark| mark.room).collect();
    alive.sort_unstable();
    room.sort_unstable_by(f64::total_cmp);
    let at = [0.05, 0.5, 0.95].map(|share| ((n - 1.0) * share).round() as usize);
    Milestone {
        years,
        lost,
        lost_between: ((middle - wide).max(0.0), (middle + wide).min(1.0)),
        lives_with_loss: marks.iter().filter(|mark| mark.lost > ROUNDING).count() as f64 / n,
        alive: at.map(|i| alive[i]),
        room: at.map(|i| room[i]),
        parity: marks.iter().map(|mark| mark.parity).sum::<f64>() / n,
    }
}

/// A life at some time.
#[derive(Debug, Clone, Copy)]
struct Mark {
    lost: f64,
    alive: u32,
    room: f64,
    parity: f64,
}

struct Life {
    marks: Vec<Mark>,
    spare_ended: Option<f64>,
}

/// Sums that come again and again: by drives, drives gone, and parity.
#[derive(Default)]
struct Known(BTreeMap<(u32, u32, u32), f64>);

impl Known {
    fn loss_if_gone(&mut self, code: Code, drives: u32, gone: u32, latent: f64) -> f64 {
        *self.0.entry((drives, gone, code.m)).or_insert_with(|| code.loss_if_gone(drives, gone, latent))
    }
}

impl Life {
    fn live(terms: &Terms, at: &[f64], mut chance: Chance, known: &mut Known) -> Self {
        let mut drives = Drives::new(terms.drives);
        let (mut lost, mut spare_ended, mut now) = (0.0f64, None, 0.0);
        let mut marks: Vec<Option<Mark>> = vec![None; at.len()];
        let replaced_after = terms.replace_days.map(|days| days / YEAR_DAYS);
        while now < terms.years {
            let step = STEP.min(terms.years - now);
            let parity = parity(terms, drives.alive());
            if parity < f64::from(terms.code.m) {
                spare_ended.get_or_insert(now);
            }
            let share = match terms.repair {
                Repair::Within(days) => {
                    let quick = step * flow(terms, &drives, now, days / YEAR_DAYS, known);
                    quick + strikes(terms, &mut drives, now, step, replaced_after, &mut chance)
                }
                Repair::Never => 0.0,
            };
            drives.age(now, step, terms.yearly, &terms.ages, replaced_after, &mut chance);
            now += step;
            drives.replace(now);
            lost = match terms.repair {
                Repair::Within(_) => (lost + (1.0 - lost) * share.min(1.0)).max(without_room(terms, drives.alive())),
                Repair::Never => lost.max(known.loss_if_gone(
                    terms.code,
                    terms.drives,
                    terms.drives - drives.alive(),
                    terms.latent(),
                )),
            };
            let left = f64::from(drives.alive());
            let mark = Mark {
                lost,
                alive: drives.alive(),
                room: left * terms.drive_bytes * USED_MOST / (terms.data_bytes() * terms.code.expansion()),
                parity: self::parity(terms, drives.alive()).max(0.0),
            };
            at.iter().zip(&mut marks).filter(|(years, _)| **years <= now + step / 2.0).for_each(|(_, at)| {
                at.get_or_insert(mark);
            });
        }
        let end = Mark { lost, alive: drives.alive(), room: 0.0, parity: 0.0 };
        Self { marks: marks.into_iter().map(|mark| mark.unwrap_or(end)).collect(), spare_ended }
    }
}

/// Parity shards a stripe can have on what is left: as many as the code says, while there is room and there are drives.
fn parity(terms: &Terms, alive: u32) -> f64 {
    if terms.repair == Repair::Never {
        return f64::from(terms.code.m);
    }
    let k = f64::from(terms.code.k);
    let room = f64::from(alive) * terms.drive_bytes * USED_MOST / (terms.data_bytes() / k).max(1.0) - k;
    room.min(f64::from(alive) - k).min(f64::from(terms.code.m))
}

/// The share of the data for which there is no room, not even without parity.
fn without_room(terms: &Terms, alive: u32) -> f64 {
    if alive < terms.code.k {
        return 1.0;
    }
    (1.0 - f64::from(alive) * terms.drive_bytes * USED_MOST / terms.data_bytes().max(1.0)).max(0.0)
}

/// Codes that stripes have when there is room for `parity` shards: some have one more than others; and the share of each.
fn codes(terms: &Terms, parity: f64) -> [(Code, f64); 2] {
    let parity = parity.max(0.0);
    let (less, more) = (parity.floor(), parity.fract());
    let code = |m: f64| Code { k: terms.code.k, m: m as u32 };
    [(code(less), 1.0 - more), (code(less + 1.0), more)]
}

/// Loss a year by drives that fail by themselves.
fn flow(terms: &Terms, drives: &Drives, now: f64, within: f64, known: &mut Known) -> f64 {
    let failures = drives.failures(now, terms.yearly, &terms.ages);
    let (alive, latent) = (drives.alive(), terms.latent());
    let of = |(code, share): (Code, f64)| {
        let fits = share > 0.0 && code.width() <= alive;
        let mut gone = |gone| known.loss_if_gone(code, alive, gone, latent);
        if fits { share * code.yearly_loss(alive, failures, failures * within, &mut gone) } else { 0.0 }
    };
    codes(terms, parity(terms, alive)).map(of).iter().sum()
}

/// Makers and shelves that fail within a step, drawn; the share of the data that goes with them.
fn strikes(
    terms: &Terms,
    drives: &mut Drives,
    now: f64,
    step: f64,
    replaced_after: Option<f64>,
    chance: &mut Chance,
) -> f64 {
    let mut lost = 0.0;
    let within = terms.repair.days().unwrap_or(0.0);
    let happens = |chance: &mut Chance, yearly: f64| chance.hits(-f64::exp_m1(-yearly * step));
    for maker in 0..terms.makers {
        if happens(chance, terms.batch.yearly) {
            // Of those that go within some days, so many are gone at a time.
            let together = terms.batch.share * (within / terms.batch.days).min(1.0);
            let left = groups_left(drives, terms.makers, |place| terms.maker(place));
            lost += group_loss(terms, drives, now, left, together);
            let goes = |place: usize| terms.maker(place) == maker && chance.hits(terms.batch.share);
            strike(drives, now, replaced_after, goes);
        }
    }
    for shelf in 0..terms.shelves {
        if happens(chance, terms.shelf_yearly) {
            lost += group_loss(terms, drives, now, groups_left(drives, terms.shelves, |place| terms.shelf(place)), 1.0);
            strike(drives, now, replaced_after, |place| terms.shelf(place) == shelf);
        }
    }
    lost
}

/// Makers or shelves that have drives left.
fn groups_left(drives: &Drives, groups: u32, of: impl Fn(usize) -> u32) -> u32 {
    let alive =
        |group: u32| drives.since.iter().enumerate().any(|(place, since)| since.is_some() && of(place) == group);
    (0..groups).filter(|group| alive(*group)).count().try_into().unwrap_or(groups).max(1)
}

fn strike(drives: &mut Drives, now: f64, replaced_after: Option<f64>, mut goes: impl FnMut(usize) -> bool) {
    for place in 0..drives.since.len() {
        if drives.since[place].is_some() && goes(place) {
            drives.lose(place, now, replaced_after);
        }
    }
}

/// The share of stripes lost when of one of `groups`, over which each is spread evenly, a share of the drives is gone, and of all others those that
/// happen to be.
fn group_loss(terms: &Terms, drives: &Drives, now: f64, groups: u32, share: f64) -> f64 {
    let alive = drives.alive();
    let within = terms.repair.days().unwrap_or(0.0) / YEAR_DAYS;
    let under_way = drives.failures(now, terms.yearly, &terms.ages) * within;
    let of = |(code, part): (Code, f64)| {
        if part == 0.0 || code.width() > alive {
            return 0.0;
        }
        // Some stripes have one more there than others.
        let (few, more) = (code.width() / groups, f64::from(code.width() % groups) / f64::from(groups));
        let of_stripe = |here: u32| loss_beside(code, alive, here, share, under_way, terms.latent());
        part * ((1.0 - more) * of_stripe(few) + if more > 0.0 { more * of_stripe(few + 1) } else { 0.0 })
    };
    codes(terms, parity(terms, alive)).map(of).iter().sum()
}

/// The chance that a stripe is lost of which each of `here` shards is gone with chance `share`, while `under_way` other drives are on the mean.
fn loss_beside(code: Code, alive: u32, here: u32, share: f64, under_way: f64, latent: f64) -> f64 {
    let others = code.width().saturating_sub(here);
    let exactly = |n: u32, j: u32| {
        let above = |most: Option<u32>| most.map_or(1.0, |most| more_than(n, most, share));
        (above(j.checked_sub(1)) - above(Some(j))).max(0.0)
    };
    let mut sum = 0.0;
    for gone in 0..=GONE_MOST.min(alive.saturating_sub(here)) {
        let weight = poisson(under_way, gone);
        let of_others = |i: u32| hypergeometric(alive.saturating_sub(here), gone, others, i);
        for i in 0..=gone.min(others) {
            let both = |j: u32| exactly(here, j) * code.loss_if_missing(i + j, latent);
            sum += weight * of_others(i) * (0..=here).map(both).sum::<f64>();
        }
    }
    sum.min(1.0)
}

/// A month.
const STEP: f64 = 1.0 / 12.0;
/// The share of drives that may be used: the rest is for what is on its way.
const USED_MOST: f64 = 0.95;
/// What is less than this share of the data is rounding.
const ROUNDING: f64 = 1e-9;
/// Drives gone by themselves beside a batch: more are never at a time.
const GONE_MOST: u32 = 24;
/// Normal deviate of 95 %.
const Z: f64 = 1.96;

#[cfg(test)]
mod tests;
