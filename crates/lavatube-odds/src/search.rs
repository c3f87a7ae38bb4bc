//! The cheapest code that meets a goal. It must not know how losses come about.

use crate::{Code, Outlook, Terms, TermsError, outlook};

/// A code that was looked at.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The code.
    pub code: Code,
    /// The share of the drives that the same data takes with it.
    pub full: f64,
    /// What is to be expected with it.
    pub outlook: Outlook,
}

/// Of codes of at most `width` shards, the one that takes least room and with which the expected loss by the end of the terms is not above `goal`,
/// as a share of the data; the data is that of `terms`. The codes that were looked at come with it, the cheapest first. Each gets `lives`
/// lives; `lived` is called after each.
///
/// # Errors
/// [`TermsError`] when the terms make no sense.
pub fn cheapest(
    terms: &Terms,
    goal: f64,
    width: u32,
    lives: u32,
    seed: u64,
    lived: &mut dyn FnMut(),
) -> Result<(Option<Code>, Vec<Candidate>), TermsError> {
    terms.check()?;
    let data = terms.data_bytes();
    let mut codes: Vec<Code> =
        (1..=width.min(terms.drives)).flat_map(|all| (1..all).map(move |m| Code { k: all - m, m })).collect();
    codes.retain(|code| code.k >= code.m || code.k == 1);
    // Of those that cost the same the narrower one: it reads less when it mends.
    codes.sort_by(|a, b| a.expansion().total_cmp(&b.expansion()).then(a.width().cmp(&b.width())));
    let mut looked = Vec::new();
    for code in codes {
        let full = data * code.expansion() / (f64::from(terms.drives) * terms.drive_bytes);
        if full > FULL_MOST {
            break;
        }
        let asked = Terms { code, full, ..terms.clone() };
        // A look at a few lives tells most of those that are far from the goal.
        let end = [terms.years];
        let first = outlook(&asked, &end, FEW_LIVES.min(lives), seed, lived)?;
        if first.milestones[0].lost_between.0 > goal {
            continue;
        }
        let outlook = outlook(&asked, &end, lives, seed, lived)?;
        let meets = outlook.milestones[0].lost <= goal;
        looked.push(Candidate { code, full, outlook });
        if meets {
            return Ok((Some(code), looked));
        }
    }
    Ok((None, looked))
}

/// Fuller than that no vault begins.
const FULL_MOST: f64 = 0.9;
const FEW_LIVES: u32 = 50;
