use super::*;
use crate::{Ages, Batch};

/// Sixty drives that fail at a constant rate and by themselves.
fn plain() -> Terms {
    Terms {
        drives: 60,
        shelves: 6,
        makers: 3,
        code: Code { k: 20, m: 8 },
        drive_bytes: 20e12,
        full: 0.6,
        yearly: 0.014,
        ages: Ages::flat(),
        batch: Batch { yearly: 0.0, share: 0.3, days: 30.0 },
        shelf_yearly: 0.0,
        latent_yearly: 0.0,
        scrub_days: 30.0,
        repair: Repair::Within(1.0),
        replace_days: None,
        years: 30.0,
    }
}

fn near(a: f64, b: f64, relative: f64) {
    assert!((a - b).abs() <= relative * b.abs(), "{a:e} is not {b:e}");
}

#[test]
fn without_repair_lives_agree_with_the_binomial() {
    for code in [Code { k: 17, m: 3 }, Code { k: 10, m: 4 }] {
        let terms = Terms { code, repair: Repair::Never, yearly: 0.0136, years: 10.0, ..plain() };
        let outlook = outlook(&terms, &[5.0, 10.0], 4000, 1, &mut || {}).unwrap();
        for milestone in &outlook.milestones {
            let exact = code.loss_without_repair(0.0136, milestone.years);
            let (low, high) = milestone.lost_between;
            // Twice as wide as 95 %.
            let wide = (high - low) / 2.0;
            assert!((milestone.lost - exact).abs() < 2.0 * wide, "{milestone:?} {exact}");
            assert!(wide < 0.2 * exact, "{milestone:?}");
        }
    }
}

#[test]
fn with_replacement_lives_agree_with_the_chain_of_states() {
    // Everything is as on the first day for ever, so that the rate is constant: 2+1 of 4 drives loses half of all stripes when a second one goes in
    // the time of the first.
    let terms = Terms {
        drives: 4,
        shelves: 1,
        makers: 1,
        code: Code { k: 2, m: 1 },
        full: 0.3,
        replace_days: Some(1.0),
        years: 5.0,
        ..plain()
    };
    let outlook = outlook(&terms, &[5.0], 500, 2, &mut || {}).unwrap();
    let failures = 4.0 * 0.014;
    near(outlook.milestones[0].lost, 5.0 * failures * (failures / 365.25) * 0.5, 0.02);
}

#[test]
fn nobody_comes_and_the_room_ends() {
    let outlook = outlook(&Terms { years: 60.0, ..plain() }, &[1.0, 60.0], 300, 3, &mut || {}).unwrap();
    let [first, last] = &outlook.milestones[..] else { panic!() };
    // 60 drives, 1.4 % a year: 59 after a year, 26 after 60.
    assert!(
        (58..=60).contains(&first.alive[1]) && (23..=29).contains(&last.alive[1]),
        "{:?} {:?}",
        first.alive,
        last.alive
    );
    assert!(first.parity == 8.0 && last.parity < 8.0);
    let (years, share) = outlook.spare_ends.unwrap();
    // 60 % of the drives are used and 95 % may be: room ends when 38 are left, after some 32 years.
    assert!(share > 0.95 && (28.0..38.0).contains(&years), "{years} {share}");
    assert!(first.lost < 1e-15 && last.lost > first.lost);
}

#[test]
fn batches_and_shelves_cost_what_is_spread_on_them() {
    let lost = |terms: Terms| outlook(&terms, &[10.0], 400, 4, &mut || {}).unwrap().milestones[0].lost;
    let ten =
        |code, shelves| Terms { code, shelves, shelf_yearly: 0.02, replace_days: Some(30.0), years: 10.0, ..plain() };
    // 20+8 on 6 shelves has 5 on one at most; on 3 it has 10, more than its parity.
    let (six, three) = (lost(ten(Code { k: 20, m: 8 }, 6)), lost(ten(Code { k: 20, m: 8 }, 3)));
    assert!(six < 1e-6 && three > 0.1, "{six:e} {three:e}");
    let batch = |share| Batch { yearly: 0.02, share, days: 1.0 };
    let of = |share| lost(Terms { batch: batch(share), years: 10.0, ..plain() });
    assert!(of(0.1) < 1e-5 && of(0.9) > 1e-2, "{:e} {:e}", of(0.1), of(0.9));
}

#[test]
fn old_age_and_slow_repair_and_rare_scrubs_cost() {
    let lost = |terms: &Terms| outlook(terms, &[terms.years], 200, 5, &mut || {}).unwrap().milestones[0].lost;
    let young = Terms { years: 10.0, code: Code { k: 17, m: 3 }, ..plain() };
    let base = lost(&young);
    assert!(base > 0.0);
    assert!(lost(&Terms { ages: Ages::bathtub(), ..young.clone() }) > 2.0 * base);
    assert!(lost(&Terms { repair: Repair::Within(16.0), ..young.clone() }) > 100.0 * base);
    let latent = |scrub_days| Terms { latent_yearly: 0.2, drive_bytes: 1e9, scrub_days, ..young.clone() };
    assert!(lost(&latent(365.0)) > 1.01 * lost(&latent(7.0)));
}

#[test]
fn one_seed_gives_one_outlook() {
    let of = |seed| outlook(&Terms { years: 40.0, ..plain() }, &[40.0], 50, seed, &mut || {}).unwrap();
    assert!(of(7) == of(7) && of(7) != of(8));
}

#[test]
fn terms_without_sense_are_told() {
    let bad = [
        Terms { code: Code { k: 60, m: 8 }, ..plain() },
        Terms { full: 1.5, ..plain() },
        Terms { yearly: f64::NAN, ..plain() },
        Terms { shelves: 0, ..plain() },
        Terms { scrub_days: 0.0, ..plain() },
        Terms { years: 0.0, ..plain() },
    ];
    for terms in bad {
        assert!(outlook(&terms, &[], 1, 1, &mut || {}).is_err(), "{terms:?}");
    }
    assert!(
        outlook(&plain(), &[31.0], 1, 1, &mut || {}).is_err() && outlook(&plain(), &[1.0], 0, 1, &mut || {}).is_err()
    );
}

#[test]
fn the_cheapest_code_meets_the_goal_and_a_cheaper_one_does_not() {
    let terms = Terms { years: 10.0, full: 0.4, ..plain() };
    let (code, looked) = crate::cheapest(&terms, 1e-6, 30, 200, 1, &mut || {}).unwrap();
    let code = code.expect("some code does");
    let last = looked.last().unwrap();
    assert!(last.code == code && last.outlook.milestones[0].lost <= 1e-6);
    assert!(code.expansion() < 1.5, "{code:?}");
    assert!(looked[..looked.len() - 1].iter().all(|other| other.outlook.milestones[0].lost > 1e-6));
    assert!(crate::cheapest(&Terms { yearly: 5.0, ..terms }, 1e-6, 10, 20, 1, &mut || {}).unwrap().0.is_none());
}
