//! `bp7`, an independent decoder, and ours on the same bytes: on all bundles that we make, on bundles that it makes, and on
//! both with bytes changed. Where they disagree there is a rule in [`RULES`] that says why; without one the test fails.

use bp7::bundle::Bundle as Theirs;
use bp7::canonical::CanonicalData;
use lavatube_bundle::{Bundle, BundleError, Endpoint, Flags, Hops, Mac, PairKeys};
use proptest::prelude::*;

/// Why one reads a bundle that the other does not, or reads it differently.
struct Rule {
    name: &'static str,
    holds: fn(&Seen) -> bool,
    /// A bundle for which it is needed, in hexadecimal.
    example: &'static str,
}

/// What both say of some bytes.
struct Seen<'a> {
    bytes: &'a [u8],
    ours: Result<String, String>,
    theirs: Result<String, String>,
}

impl Seen<'_> {
    fn ours_refuse(&self, why: &str) -> bool {
        self.theirs.is_ok() && self.ours.as_ref().is_err_and(|e| e.contains(why))
    }
    fn theirs_refuse(&self, why: &str) -> bool {
        self.ours.is_ok() && self.theirs.as_ref().is_err_and(|e| e.contains(why))
    }
}

const RULES: &[Rule] = &[
    Rule {
        name: "flags that mean nothing yet: bp7 refuses them, we keep them for who knows them (RFC 9171, 4.2.3 and 4.2.4)",
        example: "9f89071a00070068028201672f2f7a366f2f618202821a1676289d1aff01a1b5820100821b7e268b94d784ddd01b91b181aaf008b0571b93241e7e449421bc4416d6b1f686010100024528871a3dc144529d6bdcff",
        holds: |seen| seen.theirs_refuse("reserved bits"),
    },
    Rule {
        name: "names that no URI may have: bp7 takes any text for a dtn name (RFC 3986)",
        example: "9f890704028202821a2bedfb601a8e4405338201692f2f6e33342f6436758201682f2f032f612f3065821b87e82bca5e1fe6e81bb191fd869b42950b1be73f4c9fa25434854490765aea860101000241e24402815e90ff",
        holds: |seen| seen.ours_refuse("'dtn' scheme-specific part"),
    },
    Rule {
        name: "numbers of services beyond 32 bits: bp7 takes 64 (RFC 9758, 6.1)",
        example: "9f89070402820282021b00000100000000008202820101820100821b000000b2d05e0000011a05265c00444b1ce33c86010100024161442a35229cff",
        holds: |seen| seen.ours_refuse("Invalid ipn service number"),
    },
    Rule {
        name: "a block that says it is a signature or an encryption and has no such content: bp7 does not look",
        example: "9f890704028202821aee5a71dd1a11cb8d6582016c2f2f6338383731302f753465820100821b5f79904081c05a5a1b84fb36298c35d19d1b8ca6de422a215f33447a4b32d0860b0200024582185f1840443f19eefd8601010002419644fb8814bfff",
        holds: |seen| seen.ours_refuse("Failed to parse BPSec"),
    },
    Rule {
        name: "a block that says it is a second primary block: bp7 takes it for one of an unknown kind (RFC 9171, 9.1)",
        example: "9f890704028202821aaec805711a7e9456b28202821ae18a4cdb1ab08c8f28820100821b86640505e391be001b3a0d693c1dc8fe051b426108935bdf98e6449856c460860002000245821850184244c6273bf8860101000258262c73a60c4efcaf90772804806f806ef4dde1f732ae6be3cda2eff5cbcd19f26fe1f55aee746544cc3a90bcff",
        holds: |seen| seen.ours_refuse("Primary block cannot be block number"),
    },
    Rule {
        name: "a hop limit of 0: bp7 takes it (RFC 9171, 4.4.3)",
        example: "9f89071a00070000028202821a000100001a000100008202821a000100001a000100008202821a000100001a00010000821b00000001000000001b00000001000000001b000000010000000044f7af07c2860a0200024482001818449473e6f68601010002581a0000000000000000000000000000000000000000000000000000441ef6e127ff",
        holds: |seen| seen.ours_refuse("invalid hop limit 0"),
    },
    Rule {
        name: "more hops than 255 behind it: bp7 counts in 8 bits (RFC 9171, 4.4.3 has no limit of the count)",
        example: "9f890700028202821a000100001a000100008202821a000100001a00010000820100821b00000001000000001b00000001000000001b000000010000000044671c06e6860a02000245821019181844e78f21b08601010002460000000000004486ecd6e2ff",
        holds: |seen| seen.theirs_refuse("of type 10 can not be decoded"),
    },
    Rule {
        name: "bytes that are not canonical: bp7 checks a CRC over what it would write itself (RFC 9171, 4.1)",
        example: "9f89071a00070000028202821ab8ff96311ad75c47478202821a5c104e381a6c61ef2e8202821a29dc60421a4320521882001bce382f11ba9eb9f61b5ea74017f89202c244013ec59ecb8607030002491bd9fbcb0dd6074609448ebc4459860101000242e8e14496952499ff",
        holds: |seen| {
            let again = Theirs::try_from(seen.bytes.to_vec()).map(|mut bundle| bundle.to_cbor());
            seen.ours_refuse("") && again.is_ok_and(|again| again != seen.bytes)
        },
    },
    Rule {
        name: "one name in two spellings: we write what need not be plain as %XX, and ipn:(a · 2^32 + n).s as ipn:a.n.s",
        example: "9f890704028202821a5d867ad31aa973fd1482016d2f2f6a66353d7332727576302f82010082001bd10475aa0c59e0e71b98953670152e99e544cc2e7ebf8607020002491b72934602b23e05224456e5d0ed860101000243c6402344ca0aead2ff",
        holds: |seen| match (&seen.ours, &seen.theirs) {
            (Ok(ours), Ok(theirs)) => spelled(ours) == spelled(theirs),
            _ => false,
        },
    },
];

/// The one spelling of names in a text: no %XX, and 64 bits of ipn nodes in one number.
fn spelled(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.map_or('%', char::from));
        rest = &rest[at + if code.is_some() { 3 } else { 1 }..];
    }
    out.push_str(rest);
    let parts = out.split('"').map(|part| {
        let numbers: Option<Vec<u64>> = part.strip_prefix("ipn:").map(|n| n.split('.').flat_map(str::parse).collect());
        match numbers.as_deref() {
            Some([allocator, node, service]) => format!("ipn:{}.{service}", allocator << 32 | node),
            _ => part.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("\"")
}

/// Fails when the two disagree and no rule says why.
fn compare(bytes: &[u8]) -> Result<(), TestCaseError> {
    let seen = Seen { bytes, ours: ours(bytes), theirs: theirs(bytes) };
    if seen.ours == seen.theirs || (seen.ours.is_err() && seen.theirs.is_err()) {
        return Ok(());
    }
    if !RULES.iter().any(|rule| (rule.holds)(&seen)) {
        let hex: String = seen.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let why = format!("no rule for this:\n  ours   {:?}\n  theirs {:?}\n  {hex}", seen.ours, seen.theirs);
        return Err(TestCaseError::fail(why));
    }
    Ok(())
}

/// What we read, as text that both can make.
fn ours(bytes: &[u8]) -> Result<String, String> {
    match Bundle::decode(bytes) {
        Ok(b) => Ok(text(
            [&b.source, &b.destination, &b.report_to].map(Endpoint::to_string),
            [b.time_ms, b.sequence, b.lifetime_ms, b.flags.0],
            b.age_ms,
            b.hops.map(|hops| (u64::from(hops.limit), hops.count)),
            b.previous_node.map(|node| node.to_string()),
            &b.payload,
        )),
        Err(e) => Err(format!("{e:?}")),
    }
}

/// What `bp7` reads.
fn theirs(bytes: &[u8]) -> Result<String, String> {
    let b = Theirs::try_from(bytes.to_vec()).map_err(|e| format!("{e:?}"))?;
    b.validate().map_err(|e| format!("{e:?}"))?;
    let find = |kind| b.canonicals.iter().find(|block| block.block_type == kind).map(|block| block.data().clone());
    let p = &b.primary;
    Ok(text(
        [&p.source, &p.destination, &p.report_to].map(|eid| eid.to_string()),
        [
            p.creation_timestamp.dtntime(),
            p.creation_timestamp.seqno(),
            u64::try_from(p.lifetime.as_millis()).unwrap_or(u64::MAX),
            p.bundle_control_flags,
        ],
        find(7).and_then(|data| if let CanonicalData::BundleAge(age) = data { Some(age) } else { None }),
        find(10).and_then(|data| {
            if let CanonicalData::HopCount(limit, count) = data { Some((limit.into(), count.into())) } else { None }
        }),
        find(6)
            .and_then(|data| if let CanonicalData::PreviousNode(node) = data { Some(node.to_string()) } else { None }),
        b.payload().map_or(&[], |payload| payload.as_slice()),
    ))
}

fn text(
    ends: [String; 3],
    numbers: [u64; 4],
    age: Option<u64>,
    hops: Option<(u64, u64)>,
    previous: Option<String>,
    payload: &[u8],
) -> String {
    format!("{ends:?} {numbers:?} {age:?} {hops:?} {previous:?} {payload:02x?}")
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        4 => (1..=u32::MAX - 1, any::<u32>()).prop_map(|(node, service)| Endpoint::ipn(node, service)),
        2 => ("[a-z][a-z0-9]{0,9}", "[a-z0-9/]{0,9}").prop_map(|(n, s)| format!("dtn://{n}/{s}").parse().unwrap()),
    ]
}

prop_compose! {
    fn bundle()(
        ends in (endpoint(), endpoint(), prop_oneof![endpoint(), Just(Endpoint::NONE)]),
        time in prop_oneof![Just(0u64), any::<u64>()],
        numbers in any::<(u64, u64, u64)>(),
        flags in prop::sample::select(vec![0u64, Flags::WHOLE.0, Flags::ACK.0, 1 << 14 | 1 << 6, 1 << 18 | 1 << 17 | 1 << 16]),
        payload in prop::collection::vec(any::<u8>(), 0..60),
        aged in any::<bool>(),
        hops in prop::option::of((1..=255u8, any::<u8>())),
        previous_node in prop::option::of(endpoint()),
    ) -> Bundle {
        Bundle {
            source: ends.0, destination: ends.1, report_to: ends.2,
            time_ms: time, sequence: numbers.0, lifetime_ms: numbers.1,
            flags: Flags(flags), payload,
            age_ms: (aged || time == 0).then_some(numbers.2),
            hops: hops.map(|(limit, count)| Hops { limit, count: count.into() }),
            previous_node,
        }
    }
}

/// First bytes and ends of the blocks of a bundle.
fn blocks(bytes: &[u8]) -> Vec<(usize, usize)> {
    fn skip(bytes: &[u8], at: usize) -> usize {
        let (kind, low) = (bytes[at] >> 5, bytes[at] & 31);
        let more = [1, 2, 4, 8].get(usize::from(low).wrapping_sub(24)).copied().unwrap_or(0);
        let value = bytes[at + 1..at + 1 + more].iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let value = if more == 0 { usize::from(low) } else { value };
        let at = at + 1 + more;
        match kind {
            2 | 3 => at + value,
            4 => (0..value).fold(at, |at, _| skip(bytes, at)),
            _ => at,
        }
    }
    let (mut all, mut at) = (Vec::new(), 1);
    while bytes[at] != 0xff {
        let end = skip(bytes, at);
        all.push((at, end));
        at = end;
    }
    all
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, step)
}

/// Changes a byte, and makes the CRC of its block right again, if it has one of four bytes.
fn changed(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut out = bytes.to_vec();
    out[at] = byte;
    if let Some((start, end)) = blocks(bytes).into_iter().find(|(start, end)| (*start..*end).contains(&at))
        && end - start > 5
        && bytes[end - 5] == 0x44
        && at < end - 5
    {
        out[end - 4..end].fill(0);
        let crc = crc32c(&out[start..end]);
        out[end - 4..end].copy_from_slice(&crc.to_be_bytes());
    }
    out
}

#[test]
fn every_rule_is_needed() {
    for rule in RULES {
        let hex = rule.example.as_bytes().chunks(2).map(|two| str::from_utf8(two).unwrap());
        let bytes: Vec<u8> = hex.map(|two| u8::from_str_radix(two, 16).unwrap()).collect();
        let seen = Seen { bytes: &bytes, ours: ours(&bytes), theirs: theirs(&bytes) };
        assert!((rule.holds)(&seen), "{}\n  {:?}\n  {:?}", rule.name, seen.ours, seen.theirs);
        let others = RULES.iter().filter(|other| other.name != rule.name && (other.holds)(&seen)).count();
        assert_eq!(others, 0, "no other rule says why: {}", rule.name);
    }
}

/// Cases of a run; `PROPTEST_CASES` has more of them.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_read_what_we_make_and_read_the_same(bundle in bundle(), signed: bool) {
        let bytes = if signed { bundle.sign(&Mac::Sha256([1; 32])) } else { bundle.encode() }.unwrap();
        prop_assert_eq!(theirs(&bytes), ours(&bytes));
        prop_assert!(ours(&bytes).is_ok());
    }

    #[test]
    fn both_agree_on_bundles_with_a_changed_byte_but_for_a_reason(bundle in bundle(), at: prop::sample::Index, byte: u8, bit in prop::option::of(0..8u8)) {
        let bytes = bundle.encode().unwrap();
        let at = at.index(bytes.len());
        // A single bit more often than any byte.
        let byte = bit.map_or(byte, |bit| bytes[at] ^ 1 << bit);
        compare(&changed(&bytes, at, byte))?;
    }

    #[test]
    fn both_agree_on_cut_and_doubled_bundles_but_for_a_reason(bundle in bundle(), from: prop::sample::Index, to: prop::sample::Index) {
        let bytes = bundle.encode().unwrap();
        let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
        let cut = [&bytes[..from.min(to)], &bytes[from.max(to)..]].concat();
        let doubled = [&bytes[..from.max(to)], &bytes[from.min(to)..]].concat();
        compare(&cut)?;
        compare(&doubled)?;
        // Whole blocks left out, doubled and moved.
        let blocks = blocks(&bytes);
        let (a, b) = (blocks[from % blocks.len()], blocks[to % blocks.len()]);
        let block = |(start, end): (usize, usize)| &bytes[start..end];
        for order in [
            blocks.iter().filter(|other| **other != a).map(|other| block(*other)).collect::<Vec<_>>(),
            blocks.iter().flat_map(|other| if *other == a { vec![block(a), block(b)] } else { vec![block(*other)] }).collect(),
            blocks.iter().map(|other| if *other == a { block(b) } else if *other == b { block(a) } else { block(*other) }).collect(),
        ] {
            compare(&[&[0x9f], order.concat().as_slice(), &[0xff]].concat())?;
        }
    }

    #[test]
    fn what_is_sealed_is_a_bundle_to_both(bundle in bundle()) {
        let keys = PairKeys { mac: Mac::Sha512([1; 64]), cipher: [2; 32] };
        let bytes = bundle.seal(&keys).unwrap();
        prop_assert_eq!(Bundle::decode(&bytes), Err(BundleError::Sealed));
        prop_assert!(theirs(&bytes).is_ok(), "{:?}", theirs(&bytes));
    }
}
