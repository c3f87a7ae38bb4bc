use super::*;

/// Seconds since 1970 of `2026-03-01 12:00`.
fn at(text: &str) -> WallTime {
    let n = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let days = days_from_civil(n(0..4), n(5..7)) + n(8..10) - 1;
    WallTime { s: days * DAY_S + n(11..13) * 3600 + n(14..16) * 60, ns: 0 }
}

fn candidate(text: &str) -> Candidate {
    let (time, tags) = text.split_at(16);
    let tags = tags.split_whitespace().map(str::to_owned).collect();
    Candidate { time: at(time), tags, group: Vec::new() }
}

/// What a policy keeps of snapshots that are listed newest first: the reasons of each, `-` for those that go.
fn judged(policy: Policy, all: &[&str]) -> Vec<String> {
    let all: Vec<Candidate> = all.iter().map(|text| candidate(text)).collect();
    let said = |reasons: Vec<String>| if reasons.is_empty() { "-".into() } else { reasons.join("; ") };
    policy.judge(&all, at("2030-01-01 00:00")).into_iter().map(said).collect()
}

#[test]
fn the_calendar_is_right() {
    for (days, date) in [(0, (1970, 1, 1)), (-1, (1969, 12, 31)), (11_016, (2000, 2, 29)), (20_784, (2026, 11, 27))] {
        assert_eq!(civil(days), date);
        assert_eq!(days_from_civil(date.0, date.1) + date.2 - 1, days);
    }
}

#[test]
fn the_last_ones_are_kept() {
    let all = ["2026-03-03 10:00", "2026-03-02 10:00", "2026-03-01 10:00"];
    assert_eq!(judged(Policy { last: Count::Of(2), ..Policy::default() }, &all), ["last", "last", "-"]);
    assert_eq!(judged(Policy { last: Count::All, ..Policy::default() }, &all), ["last", "last", "last"]);
    assert_eq!(judged(Policy { last: Count::Of(9), ..Policy::default() }, &all), ["last", "last", "last"]);
}

#[test]
fn of_each_bucket_the_newest_is_kept_and_the_oldest_of_all_while_there_are_too_few() {
    // The table of restic's documentation: of days with several snapshots the last of each counts.
    let all = [
        "2026-03-03 22:00",
        "2026-03-03 10:00",
        "2026-03-02 23:59",
        "2026-03-02 00:01",
        "2026-02-28 10:00",
        "2026-02-28 09:00",
    ];
    let daily = |n| Policy { daily: Count::Of(n), ..Policy::default() };
    assert_eq!(judged(daily(1), &all), ["daily", "-", "-", "-", "-", "-"]);
    assert_eq!(judged(daily(3), &all), ["daily", "-", "daily", "-", "daily", "-"]);
    assert_eq!(judged(daily(4), &all), ["daily", "-", "daily", "-", "daily", "oldest daily"]);
    let hourly = Policy { hourly: Count::Of(2), ..Policy::default() };
    assert_eq!(
        judged(hourly, &["2026-03-03 10:59", "2026-03-03 10:00", "2026-03-03 09:59", "2026-03-03 08:00"]),
        ["hourly", "-", "hourly", "-"]
    );
}

#[test]
fn weeks_are_those_of_iso_and_months_and_years_those_of_the_calendar() {
    // 2025-12-29 is the Monday of the first week of 2026.
    let all = ["2026-01-04 10:00", "2025-12-29 10:00", "2025-12-28 10:00", "2025-11-30 10:00", "2024-12-31 10:00"];
    let weekly = Policy { weekly: Count::Of(2), ..Policy::default() };
    assert_eq!(judged(weekly, &all), ["weekly", "-", "weekly", "-", "-"]);
    let monthly = Policy { monthly: Count::Of(3), ..Policy::default() };
    assert_eq!(judged(monthly, &all), ["monthly", "monthly", "-", "monthly", "-"]);
    let yearly = Policy { yearly: Count::Of(10), ..Policy::default() };
    assert_eq!(judged(yearly, &all), ["yearly", "yearly", "-", "-", "yearly"]);
}

#[test]
fn rules_add_up_and_a_bucket_is_used_up_by_what_another_keeps_as_well() {
    let all = ["2026-03-03 10:00", "2026-03-02 10:00", "2026-02-20 10:00", "2026-01-20 10:00", "2025-01-20 10:00"];
    let policy = Policy { last: Count::Of(1), daily: Count::Of(2), monthly: Count::Of(2), ..Policy::default() };
    assert_eq!(judged(policy, &all), ["last; daily; monthly", "daily", "monthly", "-", "-"]);
}

#[test]
fn within_counts_back_from_the_newest_one_that_is_not_from_the_future() {
    let all = ["2026-03-31 10:00", "2026-03-01 10:00", "2026-02-28 10:01", "2026-02-27 10:00"];
    let within = |text: &str| Policy { within: Some(text.parse().unwrap()), ..Policy::default() };
    assert_eq!(judged(within("30d"), &all), ["within", "-", "-", "-"]);
    assert_eq!(judged(within("31d"), &all), ["within", "within", "within", "-"]);
    // The 31st of February is the 3rd of March.
    assert_eq!(judged(within("1m"), &all), ["within", "-", "-", "-"]);
    assert_eq!(judged(within("1m4d"), &all), ["within", "within", "within", "-"]);
    let future = ["2031-01-01 00:00", "2026-03-31 10:00", "2026-03-30 10:00", "2026-01-01 10:00"];
    assert_eq!(judged(within("7d"), &future), ["within", "within", "within", "-"]);
}

#[test]
fn tags_keep_what_has_all_of_one_list() {
    let all = ["2026-03-03 10:00", "2026-03-02 10:00 a b", "2026-03-01 10:00 b", "2026-02-01 10:00 c a"];
    let tags = |lists: &[&[&str]]| {
        let lists = lists.iter().map(|list| list.iter().map(|tag| (*tag).to_owned()).collect()).collect();
        Policy { tags: lists, ..Policy::default() }
    };
    assert_eq!(judged(tags(&[&["a", "b"]]), &all), ["-", "tag a,b", "-", "-"]);
    assert_eq!(judged(tags(&[&["a"], &["b"]]), &all), ["-", "tag a; tag b", "tag b", "tag a"]);
    // Nothing fits: even so one is left.
    assert_eq!(judged(tags(&[&["z"]]), &all), ["the newest: of no group all are forgotten", "-", "-", "-"]);
}

#[test]
fn groups_are_judged_apart_and_the_order_of_the_list_does_not_matter() {
    let mut all: Vec<Candidate> =
        ["2026-03-01 10:00", "2026-03-03 10:00", "2026-03-02 10:00"].iter().map(|text| candidate(text)).collect();
    all[0].group = vec![b"other".to_vec()];
    let kept = Policy { last: Count::Of(1), ..Policy::default() }.judge(&all, at("2030-01-01 00:00"));
    assert_eq!(kept, [vec!["last".to_owned()], vec!["last".to_owned()], vec![]]);
}

#[test]
fn words_for_spans_and_counts_are_read_or_refused() {
    assert_eq!("2y5m7d3h".parse(), Ok(Span { years: 2, months: 5, days: 7, hours: 3 }));
    for bad in ["", "7", "d", "7x", "7d5", "-1d", "0d", "999999999d"] {
        assert!(bad.parse::<Span>().is_err(), "{bad}");
    }
    assert_eq!(("7".parse(), "all".parse()), (Ok(Count::Of(7)), Ok(Count::All)));
    for bad in ["0", "", "x", "-2"] {
        assert!(bad.parse::<Count>().is_err(), "{bad}");
    }
}
