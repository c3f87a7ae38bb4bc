//! Bundles to and from a node of Hardy over TCPCL, as they are and signed and sealed.

use std::time::Duration;

use hardy_bpv7::bpsec::encryptor::{self, Encryptor};
use hardy_bpv7::bpsec::key::{EncAlgorithm, Key, KeyAlgorithm, Operation, Type};
use hardy_bpv7::bpsec::rfc9173::ScopeFlags;
use hardy_bpv7::bpsec::signer::{self, Signer};
use hardy_bpv7::builder::Builder;
use hardy_bpv7::creation_timestamp::CreationTimestamp;
use lavatube_bundle::{Bundle, BundleError, Endpoint, Mac, PairKeys, echo};
use lavatube_interop::hardy::Node;
use lavatube_interop::ours::{Ours, bundle, dtn_now, noise};
use lavatube_node::tcpcl_port::{TcpclListener, TcpclPort};

const WAIT: Duration = Duration::from_secs(60);

fn connect(node: &Node) -> Ours {
    let mut ours = (0..100)
        .find_map(|_| {
            let port = TcpclPort::connect(&node.address.to_string(), "ipn:1.0").ok();
            std::thread::sleep(Duration::from_millis(if port.is_some() { 0 } else { 50 }));
            port
        })
        .map(Ours::new)
        .expect("Hardy listens");
    assert!(ours.until(|ours| ours.peer.is_some()));
    assert_eq!(ours.peer.as_deref(), Some("ipn:2.0"));
    ours
}

fn pair_keys() -> PairKeys {
    PairKeys { mac: Mac::Sha512([3; 64]), cipher: [4; 32] }
}

/// The same keys as Hardy has them.
fn their_keys(operations: [Operation; 2]) -> Vec<Key> {
    let key = |bytes: &[u8], algorithm, cipher, operation| Key {
        key_type: Type::OctetSequence { key: bytes.into() },
        key_algorithm: Some(algorithm),
        enc_algorithm: cipher,
        operations: Some([operation].into_iter().collect()),
        ..Key::default()
    };
    vec![
        key(&[3; 64], KeyAlgorithm::HS512, None, operations[0]),
        key(&[4; 32], KeyAlgorithm::Direct, Some(EncAlgorithm::A256GCM), operations[1]),
    ]
}

/// 1 KiB, 8 MiB, and many small ones in one go.
fn payloads() -> Vec<Vec<u8>> {
    let mut all = vec![noise(1 << 10, 1), noise(8 << 20, 2)];
    all.extend((0..40).map(|i| noise(5000 + 100 * i, 3 + i as u64)));
    all
}

fn sorted(mut payloads: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    payloads.sort();
    payloads
}

#[test]
fn ours_reach_hardy_pipelined() {
    let node = Node::start(2, vec![]);
    let mut ours = connect(&node);
    let sent = payloads();
    for (key, payload) in (0..).zip(&sent) {
        ours.port.send(key, bundle(key, "ipn:2.1", payload.clone()).encode().unwrap()).unwrap();
    }
    assert!(ours.until(|ours| ours.acknowledged.len() == sent.len()));
    assert_eq!((ours.acknowledged.clone(), ours.failed.len()), ((0..sent.len() as u64).collect(), 0));
    let received = sent.iter().map(|_| node.received(WAIT).expect("a payload"));
    let received: Vec<Vec<u8>> =
        received.map(|(from, payload)| (from == "ipn:1.1").then_some(payload).unwrap()).collect();
    assert!(sorted(received) == sorted(sent));
    ours.end();
}

#[test]
fn hardys_reach_us_over_our_connection() {
    let node = Node::start(2, vec![]);
    let mut ours = connect(&node);
    let sent = payloads();
    for payload in &sent {
        node.send("ipn:1.1", payload.clone());
    }
    assert!(ours.until(|ours| ours.received.len() == sent.len()));
    let bundles: Vec<Bundle> = ours.received.iter().map(|bytes| Bundle::decode(bytes).unwrap()).collect();
    for bundle in &bundles {
        assert_eq!((&bundle.source, &bundle.destination), (&Endpoint::ipn(2, 1), &Endpoint::ipn(1, 1)));
        assert_eq!(bundle.previous_node, Some(Endpoint::ipn(2, 0)));
    }
    assert!(sorted(bundles.into_iter().map(|bundle| bundle.payload).collect()) == sorted(sent));
    ours.end();
}

#[test]
fn hardy_connects_to_us_and_both_send() {
    let node = Node::start(2, vec![]);
    let listener = TcpclListener::bind("127.0.0.1:0", "ipn:1.0").unwrap();
    node.connect(listener.address().unwrap());
    let mut ours = Ours::new(listener.accept(WAIT).unwrap().expect("Hardy connects"));
    assert!(ours.until(|ours| ours.peer.as_deref() == Some("ipn:2.0")));
    let (there, back) = (noise(300_000, 1), noise(400_000, 2));
    ours.port.send(1, bundle(1, "ipn:2.1", there.clone()).encode().unwrap()).unwrap();
    node.send("ipn:1.1", back.clone());
    assert!(ours.until(|ours| ours.acknowledged == [1] && ours.received.len() == 1));
    assert!(Bundle::decode(&ours.received[0]).unwrap().payload == back);
    assert!(node.received(WAIT).unwrap().1 == there);
    ours.end();
}

#[test]
fn what_we_seal_hardy_opens() {
    let node = Node::start(2, their_keys([Operation::Verify, Operation::Decrypt]));
    let mut ours = connect(&node);
    let payload = noise(1 << 20, 7);
    let bundle = bundle(1, "ipn:2.1", payload.clone());
    ours.port.send(1, bundle.seal(&pair_keys()).unwrap()).unwrap();
    assert!(node_or(&mut ours, &node) == payload);
    let mut signed = bundle.clone();
    signed.sequence = 2;
    ours.port.send(2, signed.sign(&pair_keys().mac).unwrap()).unwrap();
    assert!(node_or(&mut ours, &node) == payload);
    ours.end();
}

/// What the node's application receives next, while our session is turned.
fn node_or(ours: &mut Ours, node: &Node) -> Vec<u8> {
    let before = ours.acknowledged.len();
    assert!(ours.until(|ours| ours.acknowledged.len() > before));
    node.received(WAIT).expect("a payload").1
}

#[test]
fn what_hardy_seals_we_open() {
    let node = Node::start(2, vec![]);
    let mut ours = connect(&node);
    let (payload, keys) = (noise(1 << 20, 7), their_keys([Operation::Sign, Operation::Encrypt]));
    let source: hardy_bpv7::eid::Eid = "ipn:2.2".parse().unwrap();
    let builder = Builder::new(source.clone(), "ipn:1.1".parse().unwrap()).with_payload(payload.as_slice().into());
    let (parsed, bytes) = builder.build(CreationTimestamp::now()).unwrap();
    let sign = Signer::new(&parsed, &bytes);
    let sign = sign.sign_block(1, signer::Context::HMAC_SHA2(ScopeFlags::default()), source.clone(), &keys[0]);
    let (parsed, bytes) = sign.map_err(|(_, e)| e).unwrap().rebuild_bundle().unwrap();
    let seal = Encryptor::new(&parsed, &bytes);
    let seal = seal.encrypt_block(1, encryptor::Context::AES_GCM(ScopeFlags::default()), source, &keys[1]);
    node.send_bundle(seal.map_err(|(_, e)| e).unwrap().rebuild().unwrap().into_vec());
    assert!(ours.until(|ours| ours.received.len() == 1));
    let opened = Bundle::open(&ours.received[0], &pair_keys()).unwrap();
    assert!(opened.payload == payload);
    assert_eq!(opened.source, Endpoint::ipn(2, 2));
    assert_eq!(Bundle::decode(&ours.received[0]), Err(BundleError::Sealed));
    ours.end();
}

#[test]
fn an_acknowledgement_is_not_storage() {
    let node = Node::start(2, vec![]);
    let mut ours = connect(&node);
    // A bundle whose primary block has no CRC: 9f 88 07 04 00 …, made from one of ours.
    let good = bundle(1, "ipn:2.1", b"with".to_vec()).encode().unwrap();
    let block = good.windows(2).skip(2).position(|head| head == [0x86, 0x0a]).unwrap() + 2;
    let mut bare = good[..block - 5].to_vec();
    (bare[1], bare[4]) = (0x88, 0);
    bare.extend_from_slice(&good[block..]);
    assert_eq!(Bundle::decode(&bare), Err(BundleError::Unprotected), "we refuse it aloud");
    ours.port.send(1, bare).unwrap();
    ours.port.send(2, bundle(2, "ipn:2.1", b"after".to_vec()).encode().unwrap()).unwrap();
    // Hardy takes both and delivers one. That is why nothing leaves a spool for an acknowledgement.
    assert!(ours.until(|ours| ours.acknowledged == [1, 2]));
    assert_eq!(node.received(WAIT).unwrap().1, b"after");
    assert_eq!(node.received(Duration::from_secs(1)), None);
    ours.end();
}

#[test]
fn our_echo_answers_hardy() {
    let node = Node::start(2, vec![]);
    let mut ours = connect(&node);
    node.send("ipn:1.7", b"are you there?".to_vec());
    assert!(ours.until(|ours| ours.received.len() == 1));
    let mut answer = echo(&Bundle::decode(&ours.received[0]).unwrap(), 1).expect("an answer");
    answer.time_ms = dtn_now();
    ours.port.send(1, answer.encode().unwrap()).unwrap();
    assert!(ours.until(|ours| ours.acknowledged == [1]));
    assert_eq!(node.received(WAIT), Some(("ipn:1.7".into(), b"are you there?".to_vec())));
    ours.end();
}
