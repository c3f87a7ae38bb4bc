//! Blocks between our engine and `licklider-core`, over real sockets, with and without loss.

use interop_ltp::{Outcome, Plan, block, transfer};

/// Runs a plan and compares what came with what was sent.
fn run(there: &[usize], back: &[usize], lose_one_in: u64) -> Outcome {
    let blocks =
        |seed: u64, lens: &[usize]| (seed..).zip(lens).map(|(seed, len)| block(seed, *len)).collect::<Vec<_>>();
    let plan = Plan { there: blocks(1, there), back: blocks(100, back), lose_one_in, ..Plan::default() };
    let outcome = transfer(&plan);
    let sorted = |mut blocks: Vec<Vec<u8>>| {
        blocks.sort();
        blocks
    };
    assert!(outcome.there == sorted(plan.there), "what came there is what was sent, once");
    assert!(outcome.back == sorted(plan.back), "what came back is what was sent, once");
    println!("there {there:?} back {back:?} loss 1 in {lose_one_in}: {:?}, {} bytes", outcome.took, outcome.len_sent);
    outcome
}

const SMALL: usize = 600;
const MIB: usize = 1 << 20;

#[test]
fn one_byte_and_small_blocks_cross() {
    run(&[1, 2, SMALL], &[1, 2, SMALL], 0);
}

#[test]
fn small_blocks_cross_a_lossy_link() {
    run(&[SMALL; 20], &[SMALL; 20], 20);
}

#[test]
fn a_mebibyte_crosses_both_ways() {
    run(&[MIB], &[], 0);
    run(&[], &[MIB], 0);
    run(&[MIB; 3], &[MIB; 3], 0);
}

#[test]
fn a_mebibyte_crosses_a_lossy_link_both_ways() {
    run(&[MIB], &[], 20);
    run(&[], &[MIB], 20);
    run(&[MIB; 3], &[MIB; 3], 20);
}

#[test]
fn eight_mebibytes_cross_both_ways() {
    run(&[8 * MIB], &[], 0);
    run(&[], &[8 * MIB], 0);
}

#[test]
fn eight_mebibytes_cross_a_lossy_link_both_ways() {
    run(&[8 * MIB], &[], 20);
    run(&[], &[8 * MIB], 20);
}

#[test]
fn segments_longer_than_a_packet_are_taken() {
    let plan = Plan { back: vec![block(1, MIB)], lose_one_in: 10, their_segment_len: Some(60_000), ..Plan::default() };
    assert!(transfer(&plan).back == plan.back);
}
