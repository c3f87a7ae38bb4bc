use super::*;

const BODY: &[u8] = b"the body of a key file";

fn locked() -> KeyFile {
    lock(KeyKind::Read, BODY, b"correct horse", Costs::FLOOR, [1; 16], [2; 12]).unwrap()
}

#[test]
fn the_right_passphrase_opens_and_a_wrong_one_does_not() {
    let text = locked().encode();
    let file = KeyFile::decode(&text).unwrap();
    assert_eq!(unlock(&file, KeyKind::Read, Some(b"correct horse")).unwrap().as_slice(), BODY);
    assert_eq!(unlock(&file, KeyKind::Read, Some(b"correct house")), Err(SealError::WrongPassphrase));
    assert_eq!(unlock(&file, KeyKind::Read, Some(b"")), Err(SealError::WrongPassphrase));
    assert_eq!(unlock(&file, KeyKind::Read, None), Err(SealError::PassphraseMissing));
    assert!(matches!(unlock(&file, KeyKind::Deposit, Some(b"correct horse")), Err(SealError::Refused(_))));
}

#[test]
fn a_file_without_a_lock_needs_no_passphrase() {
    let file = KeyFile::decode(&unlocked(KeyKind::Vault, BODY).encode()).unwrap();
    assert_eq!(unlock(&file, KeyKind::Vault, None).unwrap().as_slice(), BODY);
    assert_eq!(unlock(&file, KeyKind::Vault, Some(b"needless")).unwrap().as_slice(), BODY);
}

#[test]
fn an_altered_file_does_not_open() {
    let file = locked();
    let pass = Some(&b"correct horse"[..]);
    for at in [0, 11, 12, 20, file.body.len() - 1] {
        let mut bad = file.clone();
        bad.body[at] ^= 1;
        assert_eq!(unlock(&bad, KeyKind::Read, pass), Err(SealError::WrongPassphrase), "{at}");
    }
    let mut bad = file.clone();
    bad.kind = KeyKind::Vault;
    assert_eq!(unlock(&bad, KeyKind::Vault, pass), Err(SealError::WrongPassphrase));
    let mut bad = file.clone();
    bad.lock.as_mut().unwrap().salt[0] ^= 1;
    assert_eq!(unlock(&bad, KeyKind::Read, pass), Err(SealError::WrongPassphrase));
    let mut bad = file;
    bad.body.truncate(5);
    assert_eq!(unlock(&bad, KeyKind::Read, pass), Err(SealError::WrongPassphrase));
}

#[test]
fn costs_beyond_floor_and_ceiling_are_refused_before_any_memory_is_taken() {
    let outside = [
        Costs { memory_kib: (64 << 10) - 1, ..Costs::FLOOR },
        Costs { memory_kib: u32::MAX, ..Costs::FLOOR },
        Costs { passes: 0, ..Costs::FLOOR },
        Costs { passes: 17, ..Costs::FLOOR },
        Costs { lanes: 0, ..Costs::FLOOR },
        Costs { lanes: 17, ..Costs::FLOOR },
    ];
    for costs in outside {
        assert!(matches!(lock(KeyKind::Read, BODY, b"x", costs, [0; 16], [0; 12]), Err(SealError::Refused(_))));
        let mut file = locked();
        let lock = file.lock.as_mut().unwrap();
        (lock.memory_kib, lock.passes, lock.lanes) = (costs.memory_kib, costs.passes, costs.lanes);
        assert!(matches!(unlock(&file, KeyKind::Read, Some(b"x")), Err(SealError::Refused(_))));
    }
    assert!(matches!(lock(KeyKind::Read, BODY, b"", Costs::FLOOR, [0; 16], [0; 12]), Err(SealError::Refused(_))));
}

#[test]
fn the_costs_we_offer_lie_within_the_limits() {
    for Costs { memory_kib, passes, lanes } in [Costs::DAILY, Costs::FLOOR] {
        assert!(Lock { salt: [0; 16], memory_kib, passes, lanes }.is_within_limits());
    }
}
