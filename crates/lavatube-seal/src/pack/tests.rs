use super::*;
use crate::session::SessionKeys;
use aes_gcm::aead::{Aead, KeyInit};
use lavatube_base::limits::PACK_CLASSES;
use lavatube_format::key_file::Secret;
use lavatube_format::pack::{capacity, sealed_position};
use proptest::prelude::*;

const SESSION: SessionId = SessionId([7; 16]);

fn session() -> SessionKeys {
    SessionKeys::derive(SESSION, &Secret::new([1; 32]), &Secret::new([2; 32]))
}

fn plaintext(class: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..capacity(class)).map(next).collect()
}

fn sealed(number: u32, class: u8) -> Vec<u8> {
    let mut pack = vec![0xee; class_len(class)];
    for (at, byte) in plaintext(class).iter().enumerate() {
        pack[sealed_position(at)] = *byte;
    }
    session().pack(number, class).seal_in_place(&mut pack).unwrap();
    pack
}

fn open(number: u32, class: u8, pack: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut pack = pack.to_vec();
    let len = session().pack(number, class).open_pack(&mut pack)?;
    pack.truncate(len);
    Ok(pack)
}

#[test]
fn every_class_opens_as_it_was_sealed() {
    for class in 0..PACK_CLASSES - 1 {
        assert_eq!(open(3, class, &sealed(3, class)).unwrap(), plaintext(class), "class {class}");
    }
}

#[test]
fn a_change_of_any_byte_is_noticed() {
    let pack = sealed(0, 0);
    for at in 0..pack.len() {
        for change in [1, 0x80] {
            let mut bad = pack.clone();
            bad[at] ^= change;
            let e = open(0, 0, &bad).unwrap_err();
            match at {
                0..16 | 37..64 => assert!(matches!(e, SealError::Malformed(_)), "{at} {e:?}"),
                36 => assert!(matches!(e, SealError::OtherPack { .. } | SealError::Malformed(_)), "{at} {e:?}"),
                16..36 => assert!(matches!(e, SealError::OtherPack { .. }), "{at} {e:?}"),
                64..96 => assert_eq!(e, SealError::WrongKey("this pack"), "{at}"),
                _ => assert_eq!(e, SealError::Tampered { piece: 0 }, "{at}"),
            }
        }
    }
}

#[test]
fn a_change_in_a_later_piece_names_it() {
    let mut pack = sealed(0, 2);
    pack[HEADER_LEN + 2 * PIECE_STORED + 5] ^= 4;
    assert_eq!(open(0, 2, &pack), Err(SealError::Tampered { piece: 2 }));
}

#[test]
fn any_truncation_is_noticed() {
    let pack = sealed(0, 0);
    assert!((0..pack.len()).all(|n| open(0, 0, &pack[..n]).is_err()));
    let pack = sealed(0, 2);
    for n in 0..=3 {
        assert!(open(0, 2, &pack[..HEADER_LEN + n * PIECE_STORED]).is_err(), "{n} pieces");
    }
    let mut long = pack.clone();
    long.push(0);
    assert!(open(0, 2, &long).is_err());
    long.extend_from_slice(&pack[HEADER_LEN..HEADER_LEN + PIECE_STORED]);
    assert!(open(0, 2, &long).is_err());
}

#[test]
fn exchanged_pieces_are_noticed() {
    let pack = sealed(0, 2);
    let (a, b) = (HEADER_LEN, HEADER_LEN + PIECE_STORED);
    let mut bad = pack.clone();
    bad[a..a + PIECE_STORED].copy_from_slice(&pack[b..b + PIECE_STORED]);
    bad[b..b + PIECE_STORED].copy_from_slice(&pack[a..a + PIECE_STORED]);
    assert_eq!(open(0, 2, &bad), Err(SealError::Tampered { piece: 0 }));
    // A piece of the same place from another pack of the session.
    let mut bad = pack;
    bad[b..b + PIECE_STORED].copy_from_slice(&sealed(1, 2)[b..b + PIECE_STORED]);
    assert_eq!(open(0, 2, &bad), Err(SealError::Tampered { piece: 1 }));
}

#[test]
fn number_class_and_session_are_bound_by_the_key_and_not_only_by_the_header() {
    let pack = sealed(5, 0);
    let header = *session().pack(5, 0).header();
    assert!(matches!(open(6, 0, &pack), Err(SealError::OtherPack { number: 5, .. })));
    let (psk, secret) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let others = [
        SessionKeys::derive(SESSION, &psk, &Secret::new([3; 32])).pack(5, 0),
        SessionKeys::derive(SESSION, &Secret::new([3; 32]), &secret).pack(5, 0),
    ];
    for other in others {
        assert!(matches!(other.check(&header), Err(SealError::WrongKey(_))));
    }
    // The header rewritten for another number, session or class does not help: the commitment is another.
    let rewritten = [
        (session().pack(6, 0), Header { number: 6, ..header }),
        (session().pack(5, 1), Header { class: 1, ..header }),
        (
            SessionKeys::derive(SessionId([8; 16]), &psk, &secret).pack(5, 0),
            Header { session: SessionId([8; 16]), ..header },
        ),
    ];
    for (keys, header) in rewritten {
        assert!(matches!(keys.check(&header), Err(SealError::WrongKey(_))), "{header:?}");
    }
    // Nor does a rewritten commitment: then the pieces do not open.
    for keys in [session().pack(6, 0), SessionKeys::derive(SessionId([8; 16]), &psk, &secret).pack(5, 0)] {
        let mut body = pack[HEADER_LEN..].to_vec();
        let header = *keys.header();
        let opener = keys.check(&header).unwrap();
        assert_eq!(opener.open_pieces(0, &mut body), Err(SealError::Tampered { piece: 0 }));
    }
}

#[test]
fn a_buffer_of_another_length_is_refused() {
    for len in [0, 1, class_len(0) - 1, class_len(0) + 1, class_len(1)] {
        assert!(matches!(session().pack(0, 0).seal_in_place(&mut vec![0; len]), Err(SealError::Misuse(_))), "{len}");
    }
}

#[test]
fn pieces_that_do_not_exist_are_refused() {
    let keys = session().pack(0, 2);
    let header = *keys.header();
    let opener = keys.check(&header).unwrap();
    assert_eq!(opener.open_pieces(0, &mut []), Ok(0));
    assert_eq!(opener.open_pieces(u32::MAX, &mut []), Ok(0));
    for first in [4, 5, u32::MAX] {
        assert!(matches!(opener.open_pieces(first, &mut [0; 100]), Err(SealError::Malformed(_))), "{first}");
    }
    // Its last piece (number 3) is short; stored as if it were whole it is not taken.
    assert!(matches!(opener.open_pieces(3, &mut [0; PIECE_STORED]), Err(SealError::Tampered { piece: 3 })));
}

#[test]
fn the_other_backend_seals_the_same_bytes() {
    for class in [0, 1, 2, 3] {
        let pack = sealed(9, class);
        let info = [&b"lavatube/1 pack"[..], b"aesgcm-1", &SESSION.0, &9u32.to_le_bytes(), &[class]].concat();
        let mut keys = [0; 64];
        hkdf::Hkdf::<sha2::Sha512>::new(Some(&[1; 32]), &[2; 32]).expand(&info, &mut keys).unwrap();
        assert_eq!(pack[64..96], keys[32..], "commitment");
        let cipher = aes_gcm::Aes256Gcm::new_from_slice(&keys[..32]).unwrap();
        let plain = plaintext(class);
        let chunks: Vec<_> = plain.chunks(PIECE_LEN).collect();
        let mut expected = Vec::new();
        for (i, chunk) in chunks.iter().enumerate() {
            let mut nonce = [0; 12];
            nonce[7..11].copy_from_slice(&u32::try_from(i).unwrap().to_be_bytes());
            nonce[11] = u8::from(i + 1 == chunks.len());
            expected.extend(cipher.encrypt(&nonce.into(), *chunk).unwrap());
        }
        assert_eq!(pack[HEADER_LEN..], expected[..], "class {class}");
    }
}

#[test]
fn keys_may_go_to_worker_threads() {
    fn sendable<T: Send + Sync>() {}
    sendable::<PackKeys>();
    sendable::<PackOpener>();
    sendable::<SessionKeys>();
    sendable::<crate::ChunkIdKey>();
    sendable::<crate::ReadKeys>();
    sendable::<crate::DepositKeys>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_run_of_whole_pieces_opens(first in 0usize..16, n in 1usize..17) {
        let (class, last) = (3u8, 15);
        let end = (first + n).min(last + 1);
        let range = HEADER_LEN + first * PIECE_STORED..(HEADER_LEN + end * PIECE_STORED).min(class_len(class));
        let mut stored = sealed(1, class)[range].to_vec();
        let keys = session().pack(1, class);
        let header = *keys.header();
        let len = keys.check(&header).unwrap().open_pieces(u32::try_from(first).unwrap(), &mut stored).unwrap();
        let plain = plaintext(class);
        prop_assert_eq!(&stored[..len], &plain[first * PIECE_LEN..(end * PIECE_LEN).min(plain.len())]);
    }

    #[test]
    fn pieces_in_the_wrong_place_do_not_open(first in 0u32..16, claimed in 0u32..20) {
        let from = HEADER_LEN + usize::try_from(first).unwrap() * PIECE_STORED;
        let mut stored = sealed(1, 3)[from..(from + PIECE_STORED).min(class_len(3))].to_vec();
        let keys = session().pack(1, 3);
        let header = *keys.header();
        let result = keys.check(&header).unwrap().open_pieces(claimed, &mut stored);
        prop_assert_eq!(result.is_ok(), first == claimed);
    }

    #[test]
    fn no_input_makes_opening_panic(first: u32, mut stored in proptest::collection::vec(any::<u8>(), 0..40_000), class in 0u8..8) {
        let keys = session().pack(1, class);
        let header = *keys.header();
        let _ = keys.check(&header).unwrap().open_pieces(first, &mut stored);
        let _ = session().pack(1, class).open_pack(&mut stored);
    }
}
