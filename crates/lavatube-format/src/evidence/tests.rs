//! One text for one evidence, and no other.

use proptest::prelude::*;

use super::*;

const EVIDENCE: &str = include_str!("../../../../vectors/evidence-v1.txt");

#[test]
fn golden_evidence_is_read_and_written_again_also_when_it_came_by_mail() {
    let evidence = Evidence::decode(EVIDENCE.as_bytes()).unwrap();
    assert_eq!(evidence.encode(), EVIDENCE);
    let mailed = EVIDENCE.replace('\n', "\r\n");
    assert_eq!(Evidence::decode(mailed.as_bytes()), Ok(evidence.clone()));
    let stamped = Evidence { token: Some(vec![0x30; 100]), ..evidence.clone() };
    assert_eq!(Evidence::decode(stamped.encode().as_bytes()), Ok(stamped.clone()));
    assert_eq!(stamped.stamped(), evidence.stamped(), "a token is not about itself");
    for name in [
        None,
        Some(b"moon \xff".to_vec()),
        Some("Mare Cr\u{ed}sium".into()),
        Some(b"a\nlength 5".to_vec()),
        Some(b" ".to_vec()),
    ] {
        let named = Evidence { name, ..evidence.clone() };
        assert_eq!(Evidence::decode(named.encode().as_bytes()), Ok(named));
    }
}

#[test]
fn a_line_that_is_cut_out_twice_or_of_another_form_is_told_by_its_number() {
    let lines: Vec<&str> = EVIDENCE.lines().collect();
    for i in 0..lines.len() {
        for with in [vec![], vec![lines[i], lines[i]], vec![lines[i], ""]] {
            let text: String =
                [&lines[..i], &with, &lines[i + 1..]].concat().iter().map(|l| format!("{l}\n")).collect();
            if with.is_empty() && lines[i].starts_with("name ") {
                continue;
            }
            // A line of a block that is twice or gone is another block: that is for signatures to tell.
            if !lines[i].starts_with("    ") || with.len() == 2 && with[1].is_empty() {
                assert!(Evidence::decode(text.as_bytes()).is_err(), "line {i} {with:?}");
            }
        }
    }
    let e = Evidence::decode(EVIDENCE.replace("\nlength 10000", "\nlength 010000").as_bytes()).unwrap_err();
    assert_eq!(e.at, 1 + lines.iter().position(|line| line.starts_with("length")).unwrap(), "{e}");
    assert!(Evidence::decode(format!("{EVIDENCE}more\n").as_bytes()).is_err());
    for cut in 0..EVIDENCE.len() {
        assert!(Evidence::decode(&EVIDENCE.as_bytes()[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn evidence_has_a_limit() {
    let long = vec![b'x'; EVIDENCE_LEN_MAX + 1];
    assert_eq!(Evidence::decode(&long).unwrap_err().rule, "longer than the limit");
    let evidence = Evidence::decode(EVIDENCE.as_bytes()).unwrap();
    let with = |len| Evidence { token: Some(vec![1; len]), ..evidence.clone() };
    assert!(Evidence::decode(with(TOKEN_LEN_MAX).encode().as_bytes()).is_ok());
    assert_eq!(
        Evidence::decode(with(TOKEN_LEN_MAX + 1).encode().as_bytes()).unwrap_err().rule,
        "longer than the limit"
    );
}

proptest! {
    #[test]
    fn a_changed_character_never_panics_and_never_gives_the_same(at in 0usize..EVIDENCE.len(), to in 0u8..0x7f) {
        let mut bytes = EVIDENCE.as_bytes().to_vec();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(evidence) = Evidence::decode(&bytes) {
            prop_assert_ne!(evidence.encode(), EVIDENCE);
        }
    }
}
