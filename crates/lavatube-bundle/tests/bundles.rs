//! Bundles as values and as bytes: what is made is read, what is broken is refused by its name, and nothing panics.

use lavatube_base::limits::{
    BLOCK_LEN_MAX, BUNDLE_BLOCK_LEN_MAX, BUNDLE_BLOCKS_MAX, BUNDLE_LEN_MAX, BUNDLE_PAYLOAD_LEN_MAX,
};
use lavatube_bundle::{Bundle, BundleError, Endpoint, Flags, Hops, Mac, PairKeys};
use proptest::prelude::*;

fn small() -> Bundle {
    let mut bundle = Bundle::new(Endpoint::ipn(1, 1), Endpoint::ipn(2, 1), b"0123456789".to_vec());
    bundle.time_ms = 850_000_000_000;
    bundle.sequence = 3;
    bundle
}

fn keys() -> PairKeys {
    PairKeys { mac: Mac::Sha384([5; 48]), cipher: [6; 32] }
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        4 => (1..=u32::MAX, any::<u32>()).prop_map(|(node, service)| Endpoint::ipn(node, service)),
        1 => (1..99u32, 1..99u32, 0..99u32).prop_map(|(a, n, s)| format!("ipn:{a}.{n}.{s}").parse().expect("a name")),
        2 => ("[a-z][a-z0-9]{0,9}", "[a-z0-9/]{0,9}").prop_map(|(n, s)| format!("dtn://{n}/{s}").parse().expect("a name")),
    ]
}

prop_compose! {
    fn bundle()(
        ends in (endpoint(), endpoint(), prop_oneof![endpoint(), Just(Endpoint::NONE)]),
        time in prop_oneof![Just(0u64), any::<u64>()],
        numbers in any::<(u64, u64, u64)>(),
        flags in prop::sample::select(vec![0u64, Flags::WHOLE.0, Flags::ACK.0, 1 << 14 | 1 << 6, 1 << 18 | 1 << 17 | 1 << 16]),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        aged in any::<bool>(),
        hops in prop::option::of((1..=255u8, any::<u64>())),
        previous_node in prop::option::of(endpoint()),
    ) -> Bundle {
        Bundle {
            source: ends.0, destination: ends.1, report_to: ends.2,
            time_ms: time, sequence: numbers.0, lifetime_ms: numbers.1,
            flags: Flags(flags), payload,
            age_ms: (aged || time == 0).then_some(numbers.2),
            hops: hops.map(|(limit, count)| Hops { limit, count }),
            previous_node,
        }
    }
}

proptest! {
    #[test]
    fn what_is_made_is_read(bundle in bundle()) {
        prop_assert_eq!(&Bundle::decode(&bundle.encode().unwrap()).unwrap(), &bundle);
    }

    #[test]
    fn what_is_signed_is_verified_and_what_is_sealed_is_opened(bundle in bundle(), which in 0..3u8) {
        let mac = || match which { 0 => Mac::Sha256([1; 32]), 1 => Mac::Sha384([1; 48]), _ => Mac::Sha512([1; 64]) };
        let signed = bundle.sign(&mac()).unwrap();
        prop_assert_eq!(&Bundle::verify(&signed, &mac()).unwrap(), &bundle);
        let keys = PairKeys { mac: mac(), cipher: [9; 32] };
        let sealed = bundle.seal(&keys).unwrap();
        prop_assert_eq!(&Bundle::open(&sealed, &keys).unwrap(), &bundle);
        prop_assert!(bundle.payload.len() < 8 || !sealed.windows(8).any(|part| part == &bundle.payload[..8]));
        prop_assert_eq!(Bundle::decode(&sealed), Err(BundleError::Sealed));
    }

    #[test]
    fn nothing_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = (Bundle::decode(&bytes), Bundle::verify(&bytes, &Mac::Sha256([0; 32])), Bundle::open(&bytes, &keys()));
    }

    #[test]
    fn nothing_panics_on_mutated_bundles_and_no_sealed_one_is_believed(
        bundle in bundle(), sealed in 0..3u8, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in 0..6u8,
    ) {
        let mut bytes = match sealed {
            0 => bundle.encode(),
            1 => bundle.sign(&keys().mac),
            _ => bundle.seal(&keys()),
        }.unwrap();
        let at = at.index(bytes.len());
        match cut {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            _ => bytes[at] = byte,
        }
        let _ = Bundle::decode(&bytes);
        // The payload and who sends it to whom are those that were sealed, or nothing is believed.
        for read in [Bundle::open(&bytes, &keys()), Bundle::verify(&bytes, &keys().mac)].into_iter().flatten() {
            prop_assert_eq!(&read.payload, &bundle.payload);
            prop_assert_eq!((&read.source, &read.destination, read.sequence), (&bundle.source, &bundle.destination, bundle.sequence));
        }
    }
}

#[test]
fn every_block_of_ours_has_a_crc_and_a_bundle_without_any_protection_is_refused_by_its_name() {
    let bytes = small().encode().unwrap();
    // 9f, array of 9, version 7, flags 4, CRC type 2; then, behind the primary block, array of 6, type 1, number 1, flags 0,
    // CRC type 2, 10 bytes.
    assert_eq!(bytes[..5], [0x9f, 0x89, 0x07, 0x04, 0x02]);
    let payload = bytes.windows(6).position(|part| part == [0x86, 1, 1, 0, 2, 0x4a]).unwrap();
    // The same bundle with its CRC taken off the primary block, and another one in which only the number says so.
    let mut bare = bytes[..payload - 5].to_vec();
    bare[1] = 0x88;
    bare[4] = 0;
    bare.extend_from_slice(&bytes[payload..]);
    assert_eq!(Bundle::decode(&bare), Err(BundleError::Unprotected));
    assert!(BundleError::Unprotected.to_string().contains("its sender must keep it"));
    let mut lying = bytes.clone();
    lying[4] = 0;
    assert!(matches!(Bundle::decode(&lying), Err(BundleError::Unread(_))));
    // A CRC that is wrong, in each block.
    for at in [payload - 1, bytes.len() - 2] {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1;
        assert!(
            matches!(Bundle::decode(&wrong), Err(BundleError::Unread(why)) if why.contains("CRC") || why.contains("Crc"))
        );
    }
}

#[test]
fn protection_cannot_be_taken_away() {
    let (bundle, keys) = (small(), keys());
    assert_eq!(Bundle::open(&bundle.encode().unwrap(), &keys), Err(BundleError::Open("encrypted")));
    assert_eq!(Bundle::open(&bundle.sign(&keys.mac).unwrap(), &keys), Err(BundleError::Open("encrypted")));
    assert_eq!(Bundle::verify(&bundle.encode().unwrap(), &keys.mac), Err(BundleError::Open("signed")));
    let other = PairKeys { mac: Mac::Sha384([5; 48]), cipher: [7; 32] };
    assert!(matches!(Bundle::open(&bundle.seal(&keys).unwrap(), &other), Err(BundleError::Forged(_))));
    let other = PairKeys { mac: Mac::Sha384([4; 48]), cipher: [6; 32] };
    assert!(matches!(Bundle::open(&bundle.seal(&keys).unwrap(), &other), Err(BundleError::Forged(_))));
    let shorter = Mac::Sha256([5; 32]);
    assert!(matches!(Bundle::verify(&bundle.sign(&keys.mac).unwrap(), &shorter), Err(BundleError::Forged(_))));
}

#[test]
fn two_seals_of_one_bundle_differ() {
    let (bundle, keys) = (small(), keys());
    assert_ne!(bundle.seal(&keys).unwrap(), bundle.seal(&keys).unwrap());
}

#[test]
fn a_bundle_without_time_or_age_is_neither_made_nor_read() {
    let mut bundle = small();
    bundle.time_ms = 0;
    assert_eq!(bundle.encode(), Err(BundleError::Ageless));
    bundle.age_ms = Some(0);
    assert!(bundle.encode().is_ok());
}

#[test]
fn what_breaks_a_rule_is_not_made() {
    let with = |change: fn(&mut Bundle)| {
        let mut bundle = small();
        change(&mut bundle);
        bundle.encode()
    };
    assert_eq!(with(|b| b.flags = Flags(1)), Err(BundleError::Fragment));
    assert!(matches!(with(|b| b.hops = Some(Hops { limit: 0, count: 0 })), Err(BundleError::Unfit(_))));
    assert!(matches!(with(|b| b.flags = Flags(Flags::ADMIN.0 | 1 << 14)), Err(BundleError::Unfit(_))));
    assert!(matches!(with(|b| (b.source, b.flags) = (Endpoint::NONE, Flags(0))), Err(BundleError::Unfit(_))));
    assert!(with(|b| b.source = Endpoint::NONE).is_ok(), "nobody may send what cannot be cut");
}

#[test]
fn bundle_blocks_max_and_bundle_block_len_max() {
    // Blocks of a kind that nobody knows, put between primary and payload by hand.
    let bytes = small().encode().unwrap();
    let payload = bytes.windows(6).position(|part| part == [0x86, 1, 1, 0, 2, 0x4a]).unwrap();
    let with = |count: usize, len: usize| {
        let mut out = bytes[..payload].to_vec();
        for number in 0..count {
            out.extend_from_slice(&[0x85, 0x18, 200, 0x18, 30 + u8::try_from(number).unwrap(), 0, 0, 0x59]);
            out.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
            out.resize(out.len() + len, 0);
        }
        out.extend_from_slice(&bytes[payload..]);
        Bundle::decode(&out)
    };
    assert!(with(BUNDLE_BLOCKS_MAX - 2, 300).is_ok());
    assert_eq!(with(BUNDLE_BLOCKS_MAX - 1, 300), Err(BundleError::TooLong));
    let head = 10;
    let crc = 5;
    assert!(with(1, BUNDLE_BLOCK_LEN_MAX - crc - head).is_ok());
    assert_eq!(with(1, BUNDLE_BLOCK_LEN_MAX - crc - head + 1), Err(BundleError::TooLong));
}

#[test]
fn bundle_payload_len_max() {
    let mut bundle = small();
    bundle.payload = vec![7; BLOCK_LEN_MAX];
    let bytes = bundle.encode().unwrap();
    assert_eq!(Bundle::decode(&bytes).unwrap().payload.len(), BLOCK_LEN_MAX);
    let sealed = bundle.seal(&keys()).unwrap();
    assert!(sealed.len() < BUNDLE_LEN_MAX);
    assert_eq!(Bundle::open(&sealed, &keys()).unwrap(), bundle);
    bundle.payload.push(7);
    assert_eq!(bundle.encode(), Err(BundleError::TooLong));
    // One past, made by hand: the scan refuses it before a CRC is looked at.
    for (len, good) in [(BUNDLE_PAYLOAD_LEN_MAX, false), (BUNDLE_PAYLOAD_LEN_MAX + 1, true)] {
        let at = bytes.len() - 2 - 4 - BLOCK_LEN_MAX - 4;
        let mut longer = bytes[..at].to_vec();
        longer.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        longer.resize(longer.len() + len, 7);
        longer.extend_from_slice(&bytes[bytes.len() - 6..]);
        assert_eq!(Bundle::decode(&longer) == Err(BundleError::TooLong), good, "{len}");
    }
}

#[test]
fn bundle_len_max() {
    assert_eq!(Bundle::decode(&vec![0x9f; BUNDLE_LEN_MAX + 1]), Err(BundleError::TooLong));
    assert!(matches!(Bundle::decode(&vec![0x9f; BUNDLE_LEN_MAX]), Err(BundleError::Malformed { .. })));
}
