use super::*;
use proptest::prelude::*;

fn block(len: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

fn symbol(shape: &Shape, block: &[u8], repair: &[u8], number: usize) -> Vec<u8> {
    let mut symbol = match number.checked_sub(shape.k()) {
        None => shape.source(block, number).to_vec(),
        Some(i) => repair[i * shape.symbol_len()..][..shape.symbol_len()].to_vec(),
    };
    symbol.resize(shape.symbol_len(), 0);
    symbol
}

fn shape(len: usize) -> Shape {
    Shape::of(len as u64).unwrap()
}

#[test]
fn shapes_keep_to_their_limits() {
    assert_eq!(Shape::of(0), None);
    assert_eq!(Shape::of(BLOCK_LEN_MAX as u64 + 1), None);
    for len in [1, 2, 1435, 1436, 1437, 2 * 1436, 22_977, 8 << 20, BLOCK_LEN_MAX] {
        let shape = shape(len);
        assert!(shape.k() * shape.symbol_len() >= len && shape.symbol_len().is_multiple_of(2));
        assert!(shape.symbol_len() <= SYMBOL_LEN_MAX && shape.symbols() <= lavatube_base::limits::SYMBOLS_MAX);
        assert!((shape.k() - 1) * shape.symbol_len() < len, "no symbol is empty");
        assert!(shape.symbols() - shape.k() >= (shape.k() / 4).max(R_MIN));
    }
    assert_eq!((shape(1).k(), shape(1).symbol_len(), shape(1).symbols()), (1, 2, 17));
    assert_eq!((shape(8 << 20).k(), shape(8 << 20).symbols()), (5842, 5842 + 2048));
}

#[test]
fn slices_change_nothing() {
    // 64 KiB wide slices are one slice; the same code lane by lane must give the same symbols.
    let block = block(100 * 1436 - 7);
    let shape = shape(block.len());
    let whole = repair(&shape, &block, shape.r);
    let mut lanes = vec![0; whole.len()];
    for (at, width) in (0..1436).step_by(LANE).map(|at| (at, LANE.min(1436 - at))) {
        let mut encoder: HighRateEncoder<DefaultEngine> =
            HighRateEncoder::new(shape.k(), shape.r, width, DefaultEngine::new(), None).unwrap();
        for n in 0..shape.k() {
            encoder.add_original_shard(&symbol(&shape, &block, &whole, n)[at..at + width]).unwrap();
        }
        let coded = encoder.encode().unwrap();
        for (i, slice) in coded.recovery_iter().enumerate() {
            lanes[i * 1436 + at..][..width].copy_from_slice(slice);
        }
    }
    assert!(whole == lanes);
}

#[test]
fn the_golden_symbols_stay_as_they_are() {
    // A change here means that old and new nodes no longer understand each other.
    let block = block(50_000);
    let digest = lavatube_base::digest::h16(&[&repair(&shape(block.len()), &block, shape(block.len()).r)]);
    assert_eq!(lavatube_base::BlockId(digest).to_string(), GOLDEN);
}

const GOLDEN: &str = "6e457d01f946be715b14b24ac40bdee8";

#[test]
fn the_longest_block_comes_back_from_its_last_symbols() {
    let block = block(BLOCK_LEN_MAX);
    let shape = shape(block.len());
    let repair = repair(&shape, &block, shape.r);
    let mut rebuild = Rebuild::new(shape);
    for number in (shape.symbols() - shape.k())..shape.symbols() {
        rebuild.put(number as u32, &symbol(&shape, &block, &repair, number));
    }
    assert!(rebuild.finish().unwrap() == block);
}

/// Both ways of both steps, at the sizes of real blocks and around the edges of their transforms.
#[test]
fn the_fast_code_makes_the_bytes_of_the_crate() {
    let Some(lanes) = Lanes::best() else { return };
    for len in [1437, 2873, 20_000, 22_976, 91_904, 91_905, 100_001, 3 << 20, 8 << 20] {
        let (block, shape) = (block(len), shape(len));
        let plain = plain_repair(&shape, &block, shape.r);
        assert!(fast::repair(lanes, &shape, &block, shape.r) == plain, "{len}");
        let few = shape.r / 3;
        assert!(fast::repair(lanes, &shape, &block, few)[..] == plain[..few * shape.symbol_len], "{len}");
        // As many as can be missing, here and there.
        let mut rebuilds = [Rebuild::new(shape), Rebuild::new(shape)];
        for number in (0..shape.symbols()).rev().take(shape.k()) {
            let number = (number * 2 + number / shape.k()) % shape.symbols();
            let symbol = symbol(&shape, &block, &plain, number);
            rebuilds.iter_mut().for_each(|rebuild| rebuild.put(number as u32, &symbol));
        }
        for number in 0..shape.symbols() {
            let symbol = symbol(&shape, &block, &plain, number);
            rebuilds.iter_mut().for_each(|rebuild| rebuild.put(number as u32, &symbol));
        }
        let [mut plain, mut fast] = rebuilds;
        if !plain.repair_numbers.is_empty() {
            plain.plain_decode().unwrap();
            fast::decode(lanes, &mut fast);
        }
        assert!(plain.sources == fast.sources && fast.sources[..len] == block, "{len}");
    }
}

/// Transforms of every length, from one missing symbol on, and repair symbols that are not the first.
#[test]
fn few_missing_symbols_come_back() {
    let Some(lanes) = Lanes::best() else { return };
    for (len, missing) in
        [(2873, 1), (2873, 2), (100_001, 3), (100_001, 16), (3 << 20, 60), (8 << 20, 59), (8 << 20, 152)]
    {
        let (block, shape) = (block(len), shape(len));
        let repair = repair(&shape, &block, shape.r);
        let mut rebuild = Rebuild::new(shape);
        // The last source symbol is among them: it is shorter.
        let lost = |number: usize| (shape.k() - 1 - number).is_multiple_of(shape.k() / missing) && number > 0;
        let sources = (0..shape.k()).filter(|number| !lost(*number));
        // Not the first, and not in order.
        for number in sources.chain((shape.k()..shape.symbols()).rev().step_by(2)).chain(shape.k()..shape.symbols()) {
            rebuild.put(number as u32, &symbol(&shape, &block, &repair, number));
        }
        assert!(rebuild.repair_numbers.len() + 2 > missing, "{len} {}", rebuild.repair_numbers.len());
        fast::decode(lanes, &mut rebuild);
        assert!(rebuild.sources[..len] == block, "{len} {missing}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_k_symbols_give_the_block_and_one_less_does_not(len in 1usize..200_000, seed: u64) {
        let block = block(len);
        let shape = shape(len);
        let repair = repair(&shape, &block, shape.r);
        let mut order: Vec<usize> = (0..shape.symbols()).collect();
        order.sort_by_key(|n| (*n as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17));
        let mut rebuild = Rebuild::new(shape);
        for number in &order[..shape.k() - 1] {
            rebuild.put(*number as u32, &symbol(&shape, &block, &repair, *number));
            // Neither a symbol that came before nor one of another length counts.
            rebuild.put(*number as u32, &symbol(&shape, &block, &repair, *number));
            rebuild.put(order[shape.k()] as u32, b"1");
        }
        prop_assert_eq!(rebuild.missing, 1);
        let last = order[shape.k() - 1];
        rebuild.put(last as u32, &symbol(&shape, &block, &repair, last));
        prop_assert!(rebuild.finish().unwrap() == block);
    }
}
