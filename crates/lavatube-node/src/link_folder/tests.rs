use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::copies;

#[test]
fn two_ends_are_paired_by_their_lines_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let (earth, other) = (dir.path().join("earth"), dir.path().join("other"));
    let line = own_line(&earth).unwrap();
    assert_eq!(own_line(&earth).unwrap(), line, "the key is made once");
    let depositors = own_line(&other).unwrap().encode();
    assert!(matches!(pair(&earth, &depositors, |_| {}), Err(LinkError::WrongEnd(_))));
    assert!(matches!(Pairing::open(&earth), Err(LinkError::NotPaired(_))));
    let vault = |key, id| {
        let vault = PairVault { id: VaultId([id; 16]), key: [2; 32] };
        PairLine { link_key: key, vault: Some(vault), recovery: None }.encode()
    };
    let there = own_line(&other).unwrap().link_key;
    assert!(matches!(pair(&earth, &vault([0; 32], 1), |_| {}), Err(LinkError::Seal(_))));
    assert!(!is_far(&earth));
    let pairing = pair(&earth, &vault(there, 1), |file| file.rate_up_bit_s = Some(5)).unwrap();
    assert_eq!((pairing.vault(), pairing.end(), is_far(&earth)), (VaultId([1; 16]), LinkEnd::Depositor, true));
    assert!(matches!(pair(&earth, &vault(there, 3), |_| {}), Err(LinkError::OtherPeer(_))));
    let again = pair(&earth, &vault(there, 1), |file| file.address = Some("moon:1".into())).unwrap();
    assert_eq!((again.file.rate_up_bit_s, again.file.address.as_deref()), (Some(5), Some("moon:1")));
    assert_eq!(vault_id(&earth).unwrap(), VaultId([1; 16]));
}

#[test]
fn one_way_is_said_by_either_key_and_nonsense_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (earth, other) = (dir.path().join("earth"), dir.path().join("other"));
    own_line(&earth).unwrap();
    let there = own_line(&other).unwrap().link_key;
    let vault = PairVault { id: VaultId([1; 16]), key: [2; 32] };
    pair(&earth, &PairLine { link_key: there, vault: Some(vault), recovery: None }.encode(), |_| {}).unwrap();
    let path = earth.join(LINK_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let with = |more: &str| {
        std::fs::write(&path, format!("{text}{more}")).unwrap();
        Pairing::open(&earth).and_then(|pairing| pairing.one_way())
    };
    assert_eq!(with("").unwrap(), None);
    assert_eq!(with("return_path = true").unwrap(), None);
    assert_eq!(with("return_path = false").unwrap(), Some(OneWayFile::default()));
    let set = with("[one_way]\nloss = 0.1\nrepeats = 3").unwrap().unwrap();
    assert_eq!(set, OneWayFile { loss: 0.1, repeats: 3, ..OneWayFile::default() });
    for bad in [
        "return_path = true\n[one_way]",
        "[one_way]\nloss = 1.5",
        "[one_way]\nburst = 0",
        "[one_way]\nloss = nan",
        "[one_way]\nodds = 3",
    ] {
        assert!(with(bad).is_err(), "{bad}");
    }
    // There is no other way to set a rate but numbers and this.
    assert!(with("rate = \"auto\"").is_ok() && with("rate = \"fast\"").is_err());
    // What a person has set stays when the ends are paired again.
    with("return_path = false\n[one_way]\nburst = 7.5").unwrap();
    let again =
        pair(&earth, &PairLine { link_key: there, vault: Some(vault), recovery: None }.encode(), |_| {}).unwrap();
    assert_eq!(again.one_way().unwrap().map(|one_way| one_way.burst), Some(7.5));
}

#[test]
fn any_file_of_an_end_that_is_lost_or_flipped_is_had_from_its_copy_and_healed() {
    let dir = tempfile::tempdir().unwrap();
    let (earth, other) = (dir.path().join("earth"), dir.path().join("other"));
    own_line(&earth).unwrap();
    let vault = PairVault { id: VaultId([1; 16]), key: [2; 32] };
    let line = PairLine { link_key: own_line(&other).unwrap().link_key, vault: Some(vault), recovery: None };
    let pairing = pair(&earth, &line.encode(), |file| file.rate_up_bit_s = Some(5)).unwrap();
    let key = *pairing.key.public();
    let mut counters = pairing.counters().unwrap();
    let most = counters.reserved + 5;
    counters.reserve(most).unwrap();
    assert_eq!(pairing.file.own, Some(hex(&key)));
    for name in ["link.toml", "link.key", "link/counters"] {
        let path = earth.join(name);
        let whole = std::fs::read(&path).unwrap();
        for file in [copies::copy_of(&path), path.clone()] {
            assert_eq!(std::fs::read(&file).unwrap(), whole, "{name} has a copy");
            let flipped = |bit: usize| {
                let mut bad = whole.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                Some(bad)
            };
            let harms = [None, Some(vec![]), Some(vec![0; whole.len()])].into_iter();
            for harm in harms.chain((0..whole.len() * 8).step_by(13).map(flipped)) {
                match &harm {
                    Some(bad) => std::fs::write(&file, bad).unwrap(),
                    None => std::fs::remove_file(&file).unwrap(),
                }
                let again = Pairing::open(&earth).unwrap();
                assert_eq!((*again.key.public(), again.file.rate_up_bit_s), (key, Some(5)), "{file:?}");
                let mut counters = again.counters().unwrap();
                assert_eq!(counters.reserved, most, "{file:?}: none is used twice");
                counters.reserve(most).unwrap();
                assert_eq!(std::fs::read(&file).unwrap(), whole, "{file:?} is healed");
            }
        }
    }
    let mode = |name: &str| earth.join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("link.key"), mode("link.key.copy")), (0o600, 0o600));
}
