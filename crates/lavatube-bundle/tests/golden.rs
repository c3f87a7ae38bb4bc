//! Golden bytes: what these bundles encode to is what `vectors/` keeps for ever. (Sealed ones differ from run to run.)

use lavatube_bundle::{Bundle, Endpoint, Flags, Hops, Mac};

const PLAIN: &[u8] = include_bytes!("../../../vectors/bundle-v1.bin");
const SIGNED: &[u8] = include_bytes!("../../../vectors/bundle_signed-v1.bin");

fn bundle() -> Bundle {
    let mut bundle = Bundle::new(Endpoint::ipn(1, 1), Endpoint::ipn(2, 1), b"what a block of the link holds".to_vec());
    (bundle.time_ms, bundle.sequence, bundle.lifetime_ms) = (0, 7, 2_592_000_000);
    bundle.flags = Flags::WHOLE;
    bundle.age_ms = Some(1300);
    bundle.hops = Some(Hops { limit: 32, count: 1 });
    bundle.previous_node = Some(Endpoint::ipn(1, 0));
    bundle.report_to = Endpoint::NONE;
    bundle
}

#[test]
fn bundles_encode_to_the_golden_bytes_and_are_read_from_them() {
    let mac = Mac::Sha256([7; 32]);
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(hex(&bundle().encode().unwrap()), hex(PLAIN));
    assert_eq!(hex(&bundle().sign(&mac).unwrap()), hex(SIGNED));
    assert_eq!(Bundle::decode(PLAIN), Ok(bundle()));
    assert_eq!(Bundle::verify(SIGNED, &mac), Ok(bundle()));
}
