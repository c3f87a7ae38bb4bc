//! `lavatube plan durability`: what is lost in years by drives that die, and which code is the cheapest that will do. Must
//! not know how that is reckoned.

use lavatube_odds::{Ages, Batch, Code, Milestone, Outlook, Repair, Terms, TermsError, cheapest, outlook};
use serde_json::{Value, json};

use crate::errors::{Condition, End, Failure};
use crate::progress::Steps;
use crate::quantities;
use crate::screen::{Ink, Screen};
use crate::units;

/// What a vault of these drives is expected to lose in years, and the cheapest code that will do
///
/// Lives of the vault are lived by chance: drives die, the more the older they are; makers' drives die together; shelves go; nobody
/// replaces anything unless --replace says so. Dead drives' shards are made anew on those that are left while there is room; then parity
/// goes, evenly, and then data. How much is lost is reckoned from that, exactly, so that what is lost once in 10^20 years shows as well.
/// What counts is the expected loss as a share of the data, with the range in which that mean lies with 95 % confidence: it is the mean
/// of the lives that were lived, not the worst of them.
///
/// Not in it: mistakes of people and programs, fire, theft, and whatever nobody thought of. Below some 1e-12 those are what you should fear.
/// 1.4 % a year is what large fleets see; how often a maker's drives or a shelf go together is a guess: try others.
///
/// JSON fields: terms {…}, data_bytes, lives, milestones [{years, lost_share, lost_share_low, lost_share_high, lost_bytes,
/// lives_with_loss, alive [5 %, middle, 95 %], room [the same], parity}], spare_ends (null, or {years, share_of_lives}), by_formula
/// {windows_yearly, without_repair}, cheapest (with --goal: {code, expansion, full, lost_share}, or null where none will do), looked_at [the same], exit.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct DurabilityArgs {
    /// Drives
    #[arg(long, value_name = "N", default_value_t = 60)]
    drives: u32,
    /// Data and parity shards [default: 20+8, or 4+2 with fewer than 30 drives]
    #[arg(long, value_name = "K+M", value_parser = code)]
    code: Option<Code>,
    /// For so many years
    #[arg(long, value_name = "N", default_value_t = 30.0)]
    years: f64,
    /// A drive's failures a year, when it is neither new nor old
    #[arg(long, value_name = "SHARE", default_value = "1.4%", value_parser = quantities::share)]
    afr: f64,
    /// How failures change with age: flat, bathtub, or factors for the first, second, … year: 1.2,0.9,1,1.5,3
    #[arg(long, value_name = "CURVE", default_value = "bathtub", value_parser = ages)]
    age: Ages,
    /// Bytes of a drive
    #[arg(long, value_name = "SIZE", default_value = "20TB", value_parser = quantities::size)]
    drive_size: u64,
    /// How full the drives are at the beginning
    #[arg(long, value_name = "SHARE", default_value = "60%", value_parser = quantities::share)]
    full: f64,
    /// Shelves the drives stand on, evenly [default: one for ten drives]
    #[arg(long, value_name = "N")]
    shelves: Option<u32>,
    /// A shelf's failures a year: all its drives are gone at once
    #[arg(long, value_name = "SHARE", default_value = "0.1%", value_parser = quantities::share)]
    shelf_afr: f64,
    /// Makers the drives are of, evenly
    #[arg(long, value_name = "N", default_value_t = 2)]
    makers: u32,
    /// Drives of a maker that die together: how often a year, how many of them, within which time; or none
    #[arg(long, value_name = "SHARE:SHARE:TIME", default_value = "1%:20%:30d", value_parser = batch)]
    batch: Batch,
    /// How often a year a drive gets places it cannot read
    #[arg(long, value_name = "SHARE", default_value = "1.3%", value_parser = quantities::share)]
    latent: f64,
    /// Every byte is read within this time
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = days)]
    scrub: f64,
    /// A dead drive's shards are made anew within this time, or never
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = repair)]
    repair: Repair,
    /// A dead drive is replaced after this time, or never
    #[arg(long, value_name = "TIME", default_value = "never", value_parser = replace)]
    replace: f64,
    /// Find the code that takes least room and loses no more than this share of the data by the end, such as 1e-9
    #[arg(long, value_name = "SHARE", value_parser = goal)]
    goal: Option<f64>,
    /// Widest code to look at, with --goal
    #[arg(long, value_name = "SHARDS", default_value_t = 32, requires = "goal")]
    widest: u32,
    /// Lives to live
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    lives: u32,
    /// Chance is drawn from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

const EXAMPLES: &str = "Examples:
  lavatube plan durability --drives 60 --afr 1.4% --years 30
  lavatube plan durability --drives 60 --code 17+3 --repair 16d    a fortnight without power
  lavatube plan durability --drives 60 --replace 30d               a robot comes once a month
  lavatube plan durability --drives 24 --full 40% --goal 1e-9      the cheapest code that will do
  lavatube plan durability --json | jq '.milestones[-1].lost_share'";

/// Reckons and shows it.
///
/// # Errors
/// When what is asked makes no sense.
pub(super) fn run(args: &DurabilityArgs, screen: &Screen) -> Result<End, Failure> {
    let terms = terms(args);
    let misuse = |e: TermsError| Failure::new(Condition::Usage, e.to_string());
    terms.check().map_err(misuse)?;
    let mut at: Vec<f64> = MILESTONES.into_iter().filter(|years| *years < terms.years).collect();
    at.push(terms.years);
    let steps = Steps::new(screen, "lives", u64::from(args.lives));
    let outlook = outlook(&terms, &at, args.lives, args.seed, &mut || steps.step()).map_err(misuse)?;
    drop(steps);
    show(&terms, &outlook, screen)?;
    let mut answer = json!({
        "terms": said(&terms),
        "data_bytes": terms.data_bytes(),
        "lives": outlook.lives,
        "milestones": outlook.milestones.iter().map(|m| milestone(m, &terms)).collect::<Vec<_>>(),
        "spare_ends": outlook.spare_ends.map(|(years, share)| json!({ "years": years, "share_of_lives": share })),
        "by_formula": {
            "windows_yearly": terms.repair.days().map(|days| terms.code.yearly_loss_by_windows(terms.yearly, days)),
            "without_repair": terms.code.loss_without_repair(terms.yearly, terms.years),
        },
    });
    if let Some(goal) = args.goal {
        let steps = Steps::new(screen, "lives", 0);
        let found = cheapest(&terms, goal, args.widest, args.lives, args.seed, &mut || steps.step()).map_err(misuse)?;
        drop(steps);
        let (code, looked) = found;
        screen.say("")?;
        match looked.last().filter(|_| code.is_some()) {
            Some(found) => screen.say(&format!(
                "cheapest code that loses no more than {goal:e} of the data in {} years: {}\n  it takes {} bytes for a byte and fills the drives to {}; expected loss {}",
                terms.years,
                screen.ink(Ink::Bold, &name(found.code)),
                two(found.code.expansion()),
                percent(found.full),
                science(found.outlook.milestones[0].lost),
            ))?,
            None => {
                let text = format!("no code of at most {} shards loses no more than {goal:e} of the data in {} years", args.widest, terms.years);
                screen.say(&screen.ink(Ink::Yellow, &text))?;
            }
        }
        let row = |c: &lavatube_odds::Candidate| json!({ "code": name(c.code), "expansion": c.code.expansion(), "full": c.full, "lost_share": c.outlook.milestones[0].lost });
        answer["cheapest"] = code.and(looked.last()).map_or(Value::Null, row);
        answer["looked_at"] = looked.iter().map(row).collect();
    }
    answer["exit"] = json!(End::Done.status());
    screen.answer(&answer)?;
    Ok(End::Done)
}

fn terms(args: &DurabilityArgs) -> Terms {
    let code = args.code.unwrap_or(if args.drives < WIDE_FROM { Code { k: 4, m: 2 } } else { Code { k: 20, m: 8 } });
    Terms {
        drives: args.drives,
        shelves: args.shelves.unwrap_or_else(|| args.drives.div_ceil(10).max(1)),
        makers: args.makers,
        code,
        drive_bytes: args.drive_size as f64,
        full: args.full,
        yearly: args.afr,
        ages: args.age.clone(),
        batch: args.batch,
        shelf_yearly: args.shelf_afr,
        latent_yearly: args.latent,
        scrub_days: args.scrub,
        repair: args.repair,
        replace_days: Some(args.replace).filter(|days| days.is_finite()),
        years: args.years,
    }
}

fn show(terms: &Terms, outlook: &Outlook, screen: &Screen) -> Result<(), Failure> {
    let data = terms.data_bytes();
    let size = |bytes: f64| units::bytes(bytes as u64);
    screen.say(&format!(
        "{} of {} on {}, of {}; {}, {} full: {} of data",
        units::things(u64::from(terms.drives), "drive", "drives"),
        size(terms.drive_bytes),
        units::things(u64::from(terms.shelves), "shelf", "shelves"),
        units::things(u64::from(terms.makers), "maker", "makers"),
        name(terms.code),
        percent(terms.full),
        size(data),
    ))?;
    screen.say(&format!("{}\n", screen.ink(Ink::Dim, &world(terms))))?;
    screen.say(
        &screen
            .ink(Ink::Bold, "years   expected loss   of the data   95 % between           drives left   room   parity"),
    )?;
    for m in &outlook.milestones {
        let bytes = m.lost * data;
        let lost = if bytes < 1.0 { "under a byte".into() } else { size(bytes) };
        let between = format!("{} and {}", science(m.lost_between.0), science(m.lost_between.1));
        let drives = format!("{} ({}-{})", m.alive[1], m.alive[0], m.alive[2]);
        screen.say(&format!(
            "{:>5}   {lost:>13}   {:>11}   {between:<20}   {drives:>11}   {:>4}   {:>6}",
            m.years,
            science(m.lost),
            percent(m.room[1]),
            format!("{:.1}", m.parity),
        ))?;
    }
    screen.say("")?;
    match outlook.spare_ends {
        Some((years, share)) => screen.say(&format!(
            "room for all parity ends after {years:.0} years on the mean, in {} of {} lives",
            percent(share),
            units::count(u64::from(outlook.lives))
        )),
        None => screen.say("room for all parity never ended"),
    }?;
    let most = terms.code.width().div_ceil(terms.shelves);
    if most > terms.code.m && terms.shelf_yearly > 0.0 {
        let text = format!(
            "a stripe has {most} shards on one shelf and {} parity shards: when a shelf goes, data is lost; more shelves or parity would do",
            terms.code.m
        );
        screen.say(&screen.ink(Ink::Yellow, &text))?;
    }
    Ok(())
}

/// What befalls the drives and what is done about it, in a line.
fn world(terms: &Terms) -> String {
    let mended = terms.repair.days().map_or("never mended".into(), |days| format!("mended within {}", span(days)));
    let replaced =
        terms.replace_days.map_or("nobody replaces any".into(), |days| format!("replaced after {}", span(days)));
    let aged = if terms.ages == Ages::flat() { "" } else { ", by age" };
    format!(
        "{} of drives fail a year{aged}; read over every {}, {mended}; {replaced}",
        percent(terms.yearly),
        span(terms.scrub_days)
    )
}

fn milestone(m: &Milestone, terms: &Terms) -> Value {
    json!({
        "years": m.years,
        "lost_share": m.lost,
        "lost_share_low": m.lost_between.0,
        "lost_share_high": m.lost_between.1,
        "lost_bytes": m.lost * terms.data_bytes(),
        "lives_with_loss": m.lives_with_loss,
        "alive": m.alive,
        "room": m.room,
        "parity": m.parity,
    })
}

fn said(terms: &Terms) -> Value {
    json!({
        "drives": terms.drives, "shelves": terms.shelves, "makers": terms.makers, "code": name(terms.code),
        "drive_bytes": terms.drive_bytes, "full": terms.full, "afr": terms.yearly, "shelf_afr": terms.shelf_yearly,
        "batch": { "yearly": terms.batch.yearly, "share": terms.batch.share, "days": terms.batch.days },
        "latent_yearly": terms.latent_yearly, "scrub_days": terms.scrub_days,
        "repair_days": terms.repair.days(),
        "replace_days": terms.replace_days, "years": terms.years,
    })
}

fn name(code: Code) -> String {
    format!("{}+{}", code.k, code.m)
}

fn span(days: f64) -> String {
    match days.round() {
        whole if (whole - days).abs() < 1e-9 => units::things(whole as u64, "day", "days"),
        _ => units::whole_span((days * DAY).round() as u64),
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{} %", two(percent)) }
}

/// Two digits after the point, but no zeros at the end.
fn two(n: f64) -> String {
    format!("{n:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `12 %`, `3.1e-9`; 0 where it is less than arithmetic can tell.
fn science(share: f64) -> String {
    match share {
        share if share < LEAST => "0".into(),
        share if share < PERCENT_FROM => format!("{share:.1e}"),
        share => percent(share),
    }
}

fn code(text: &str) -> Result<Code, String> {
    let both =
        text.split_once('+').and_then(|(k, m)| Some(Code { k: k.trim().parse().ok()?, m: m.trim().parse().ok()? }));
    both.ok_or_else(|| "a code is data and parity shards: 20+8".into())
}

fn ages(text: &str) -> Result<Ages, String> {
    match text {
        "flat" => Ok(Ages::flat()),
        "bathtub" => Ok(Ages::bathtub()),
        factors => {
            let factors: Option<Vec<f64>> = factors.split(',').map(|factor| factor.trim().parse().ok()).collect();
            factors
                .and_then(Ages::of)
                .ok_or_else(|| "a curve is flat, bathtub, or factors for each year: 1.2,0.9,1,1.5,3".into())
        }
    }
}

fn batch(text: &str) -> Result<Batch, String> {
    if text == "none" {
        return Ok(Batch { yearly: 0.0, share: 0.0, days: 1.0 });
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [yearly, share, within] = parts[..] else {
        return Err("a batch is SHARE:SHARE:TIME, such as 1%:20%:30d, or none".into());
    };
    Ok(Batch { yearly: quantities::share(yearly)?, share: quantities::share(share)?, days: days(within)? })
}

fn days(text: &str) -> Result<f64, String> {
    let seconds = quantities::seconds(text)?;
    if seconds > 0.0 { Ok(seconds / DAY) } else { Err("a time of more than nothing".into()) }
}

fn repair(text: &str) -> Result<Repair, String> {
    if text == "never" { Ok(Repair::Never) } else { days(text).map(Repair::Within) }
}

/// Days; infinite for never.
fn replace(text: &str) -> Result<f64, String> {
    if text == "never" { Ok(f64::INFINITY) } else { days(text) }
}

fn goal(text: &str) -> Result<f64, String> {
    let goal = text.parse::<f64>().ok().filter(|goal| *goal > 0.0 && *goal < 1.0);
    goal.ok_or_else(|| "a goal is a share of the data, more than 0 and less than 1: 1e-9".into())
}

const DAY: f64 = 86_400.0;
/// From so many drives on a wide code is what one would take.
const WIDE_FROM: u32 = 30;
/// Years that everybody asks for.
const MILESTONES: [f64; 4] = [1.0, 5.0, 10.0, 30.0];
/// What is more is told in percents.
const PERCENT_FROM: f64 = 0.001;
/// Less than this is not told apart from nothing.
const LEAST: f64 = 1e-60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_read() {
        assert_eq!(code("20+8"), Ok(Code { k: 20, m: 8 }));
        assert_eq!(batch("1%:20%:30d"), Ok(Batch { yearly: 0.01, share: 0.2, days: 30.0 }));
        assert_eq!((ages("flat"), ages("1, 2.5")), (Ok(Ages::flat()), Ok(Ages::of(vec![1.0, 2.5]).unwrap())));
        assert_eq!((repair("never"), repair("12h")), (Ok(Repair::Never), Ok(Repair::Within(0.5))));
        assert_eq!((replace("never"), replace("30d")), (Ok(f64::INFINITY), Ok(30.0)));
        assert_eq!(goal("1e-9"), Ok(1e-9));
        for bad in ["20", "a+b", "20+", "+8", "20+8+1"] {
            assert!(code(bad).is_err(), "{bad}");
        }
        assert!(batch("1%:20%").is_err() && ages("").is_err() && ages("1,-1").is_err() && repair("0d").is_err());
        assert!(goal("0").is_err() && goal("1").is_err() && goal("NaN").is_err());
    }

    #[test]
    fn shares_are_said_as_people_read_them() {
        assert_eq!([0.0, 3.14e-9, 0.0251, 0.6, 1.0].map(science), ["0", "3.1e-9", "2.51 %", "60 %", "100 %"]);
        assert_eq!([30.0, 1.0, 0.5].map(span), ["30 days", "1 day", "12 h 0 min"]);
    }
}
