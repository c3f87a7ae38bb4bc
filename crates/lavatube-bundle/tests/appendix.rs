//! The examples of RFC 9173, appendix A.
//!
//! Their primary blocks have no CRC, as the RFC says itself, and those of A.1 and A.2 no signature either: so `Bundle` refuses
//! them, which is tested here too, and the security blocks are tested on the library below it. What is signed only is made
//! again byte for byte (A.1 whole, A.3 the two signatures); what is encrypted has a random nonce and is decrypted only.

use hardy_bpv7::bpsec::key::{EncAlgorithm, Key, KeyAlgorithm, KeySet, Operation, Type};
use hardy_bpv7::bpsec::rfc9173::ScopeFlags;
use hardy_bpv7::bpsec::signer::{Context, Signer};
use hardy_bpv7::bundle::{Bundle as Parsed, ParsedBundle};
use lavatube_bundle::{Bundle, BundleError, Endpoint, Mac, PairKeys};

const PRIMARY: &str = "88070000820282010282028202018202820201820018281a000f4240";
const PLAIN: &str = "85010100005823526561647920746f2067656e657261746520612033322d62797465207061796c6f6164";
const A1_BIB: &str = "850b0200005856810101018202820201828201078203008181820158403bdc69b3a34a2b5d3a8554368bd1e808f606219d2a10a846eae3886ae4ecc83c4ee550fdfb1cc636b904e2f1a73e303dcd4b6ccece003e95e8164dcc89a156e1";
const A2_BCB: &str = "850c02010058508101020182028202018482014c5477656c76653132313231328202018203581869c411276fecddc4780df42c8a2af89296fabf34d7fae7008204008181820150efa4b5ac0108e3816c5606479801bc04";
const A2_PAYLOAD: &str = "850101000058233a09c1e63fe23a7f66a59c7303837241e070b02619fc59c5214a22f08cd70795e73e9a";
const A3_BIB: &str = "850b030000585c8200020101820282030082820105820300828182015820cac6ce8e4c5dae57988b757e49a6dd1431dc04763541b2845098265bc817241b81820158203ed614c0d97f49b3633627779aa18a338d212bf3c92b97759d9739cd50725596";
const A3_BCB: &str = "850c04010058348101020182028202018382014c5477656c76653132313231328202018204008181820150efa4b5ac0108e3816c5606479801bc04";
const A3_AGE: &str = "85070200004319012c";
const A4_BIB: &str = "850b0300005846438ed6208eb1c1ffb94d952175167df0902902064a2983910c4fb2340790bf420a7d1921d5bf7c4721e02ab87a93ab1e0b75cf62e4948727c8b5dae46ed2af05439b88029191";
const A4_BCB: &str = "850c0201005849820301020182028202018382014c5477656c76653132313231328202038204078281820150220ffc45c8a901999ecc60991dd78b2981820150d2c51cb2481792dae8b21d848cede99b";
const A4_PAYLOAD: &str = "8501010000582390eab6457593379298a8724e16e61f837488e127212b59ac91f8a86287b7d07630a122";
const TEXT: &[u8] = b"Ready to generate a 32-byte payload";

fn bundle(blocks: &[&str]) -> Vec<u8> {
    let hex: String = [&["9f", PRIMARY], blocks, &["ff"]].concat().concat();
    hex.as_bytes()
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

fn key(bytes: &[u8], algorithm: KeyAlgorithm, cipher: Option<EncAlgorithm>, operations: &[Operation]) -> Key {
    Key {
        key_type: Type::OctetSequence { key: bytes.into() },
        key_algorithm: Some(algorithm),
        enc_algorithm: cipher,
        operations: Some(operations.iter().copied().collect()),
        ..Key::default()
    }
}

fn mac(algorithm: KeyAlgorithm, operation: Operation) -> Key {
    key(&[0x1a, 0x2b].repeat(8), algorithm, None, &[operation])
}

fn parse(bytes: &[u8], keys: &KeySet) -> Parsed {
    ParsedBundle::parse_with_keys(bytes, keys).expect("a bundle").bundle
}

#[test]
fn a_1_simple_integrity_byte_for_byte() {
    let (plain, signed) = (bundle(&[PLAIN]), bundle(&[A1_BIB, PLAIN]));
    let keys = KeySet::new(vec![mac(KeyAlgorithm::HS512, Operation::Verify)]);
    assert!(parse(&signed, &keys).verify_block(1, &signed, &keys).unwrap());
    let (parsed, key) = (parse(&plain, &KeySet::EMPTY), mac(KeyAlgorithm::HS512, Operation::Sign));
    let source = Endpoint::ipn(2, 1).to_string().parse().unwrap();
    let made = Signer::new(&parsed, &plain).sign_block(1, Context::HMAC_SHA2(ScopeFlags::NONE), source, &key);
    assert_eq!(made.map_err(|(_, e)| e).unwrap().rebuild().unwrap().as_ref(), signed.as_slice());
    for bytes in [plain, signed] {
        assert_eq!(Bundle::decode(&bytes), Err(BundleError::Unprotected));
    }
}

#[test]
fn a_2_simple_confidentiality_with_key_wrap() {
    let sealed = bundle(&[A2_BCB, A2_PAYLOAD]);
    let unwrap = [Operation::UnwrapKey, Operation::Decrypt];
    let keys = KeySet::new(vec![key(b"abcdefghijklmnop", KeyAlgorithm::A128KW, Some(EncAlgorithm::A128GCM), &unwrap)]);
    let text = parse(&sealed, &keys).decrypt_block_data(1, &sealed, &keys).unwrap();
    assert_eq!(text.as_ref(), TEXT);
    assert_eq!(Bundle::decode(&sealed), Err(BundleError::Unprotected));
}

#[test]
fn a_3_security_blocks_from_several_sources() {
    let bytes = bundle(&[A3_BIB, A3_BCB, A3_AGE, A2_PAYLOAD]);
    let cipher = key(b"qwertyuiopasdfgh", KeyAlgorithm::Direct, Some(EncAlgorithm::A128GCM), &[Operation::Decrypt]);
    let keys = KeySet::new(vec![mac(KeyAlgorithm::HS256, Operation::Verify), cipher]);
    let parsed = parse(&bytes, &keys);
    assert!(parsed.verify_block(0, &bytes, &keys).unwrap() && parsed.verify_block(2, &bytes, &keys).unwrap());
    assert_eq!(parsed.decrypt_block_data(1, &bytes, &keys).unwrap().as_ref(), TEXT);

    // Both signatures again, from the bundle without them. The library keeps targets in a map, so their order is not ours.
    let plain = bundle(&[A3_AGE, PLAIN]);
    let (parsed, key) = (parse(&plain, &KeySet::EMPTY), mac(KeyAlgorithm::HS256, Operation::Sign));
    let mut signer = Signer::new(&parsed, &plain);
    for target in [0, 2] {
        let source = "ipn:3.0".parse().unwrap();
        signer =
            signer.sign_block(target, Context::HMAC_SHA2(ScopeFlags::NONE), source, &key).map_err(|(_, e)| e).unwrap();
    }
    let made = signer.rebuild().unwrap();
    let vector = bundle(&[A3_BIB]);
    let block = &vector[29..vector.len() - 1];
    let tags = [&block[block.len() - 74..block.len() - 42], &block[block.len() - 32..]];
    assert!(tags.iter().all(|tag| made.windows(32).any(|part| part == *tag)), "both tags are those of the RFC");

    // The primary block is signed, so the bundle is one for us, but for the payload that is encrypted.
    assert_eq!(Bundle::decode(&bytes), Err(BundleError::Sealed));
    let signed = bundle(&[A3_BIB, A3_AGE, PLAIN]);
    let read = Bundle::decode(&signed).unwrap();
    assert_eq!((read.payload.as_slice(), read.age_ms, read.sequence), (TEXT, Some(300), 40));
    assert_eq!((read.source, read.destination), (Endpoint::ipn(2, 1), Endpoint::ipn(1, 2)));
}

#[test]
fn a_4_integrity_and_confidentiality_of_one_payload() {
    let bytes = bundle(&[A4_BIB, A4_BCB, A4_PAYLOAD]);
    let cipher = key(
        b"qwertyuiopasdfghqwertyuiopasdfgh",
        KeyAlgorithm::Direct,
        Some(EncAlgorithm::A256GCM),
        &[Operation::Decrypt],
    );
    let keys = KeySet::new(vec![mac(KeyAlgorithm::HS384, Operation::Verify), cipher]);
    let parsed = parse(&bytes, &keys);
    assert_eq!(parsed.decrypt_block_data(1, &bytes, &keys).unwrap().as_ref(), TEXT);
    assert!(parsed.verify_block(1, &bytes, &keys).unwrap());
    // The primary block is covered by the payload's signature, but is no target of one of its own; and without the keys
    // nobody can tell.
    assert_eq!(Bundle::decode(&bytes), Err(BundleError::Unprotected));
    let ours = PairKeys { mac: Mac::Sha384([0; 48]), cipher: *b"qwertyuiopasdfghqwertyuiopasdfgh" };
    assert_eq!(Bundle::open(&bytes, &ours), Err(BundleError::Unprotected), "nor does a key help");
}
