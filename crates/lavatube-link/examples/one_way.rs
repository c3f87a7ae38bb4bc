//! Ten thousand packs over a link with no way back: how many are lost, against the probability that is stated.
//!
//! Why: nobody will ever tell the sender, so the statement has to be right. Datagrams are counted, not made; a test holds the real engine to the
//! same counts (`tests/seeds.rs`). Run with `cargo run --release -p lavatube-link --example one_way`.

#[path = "../tests/world/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod world;

use lavatube_link::OneWay;
use world::{Chance, counted_lost};

const PACKS: u64 = 10_000;
const PACK_LEN: u64 = (8 << 20) + 2;

fn main() {
    println!("{PACKS} packs of 8 MiB each");
    println!(
        "{:>6} {:>6} {:>9} {:>8} {:>10} {:>9} {:>12} {:>8}",
        "loss", "burst", "wanted", "sent", "beyond 1/q", "stated", "may be lost", "lost"
    );
    for (loss, burst) in [(0.01, 1.0), (0.05, 1.0), (0.1, 1.0), (0.02, 50.0)] {
        for failure in [1e-2, 1e-3, 1e-4, 1e-6] {
            let one_way = OneWay { loss, burst, failure, repeats: 0 };
            let margin = one_way.margin(PACK_LEN).expect("a block of a length that may be");
            let chance = &mut Chance::new(1, 0);
            let lost = counted_lost(loss, burst, margin.needed, margin.sent, PACKS, chance);
            println!(
                "{:>5.0} % {burst:>6} {failure:>9.0e} {:>8} {:>8.2} % {:>9.1e} {:>12.2} {lost:>8}",
                loss * 100.0,
                margin.sent,
                (margin.sent as f64 * (1.0 - loss) / margin.needed as f64 - 1.0) * 100.0,
                margin.failure,
                margin.failure * PACKS as f64
            );
        }
    }
}
