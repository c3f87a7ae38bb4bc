//! One link by hand: what it takes and does not take, tells and does not tell.

use std::time::Duration;

use lavatube_base::digest::h16;
use lavatube_base::limits::BLOCK_LEN_MAX;
use lavatube_base::{BlockId, Instant};
use lavatube_link::{
    Block, Config, ContactPlan, Event, Line, Link, MemoryStore, StoreError, SubmitError, SymbolStore, Symbols,
};
use proptest::prelude::*;

const T0: Instant = Instant(1_000_000_000);

fn link<S: SymbolStore>(which: u8, counters: std::ops::Range<u64>, store: S) -> Link<S> {
    let plan = ContactPlan::always(1_000_000_000, 1_000_000_000);
    Link::new(Config::new([which; 32], [3 - which; 32], plan), counters, store, T0)
}

fn block(key: u64, bytes: &[u8]) -> Block {
    Block { key, priority: 1, len: bytes.len() as u64, id: BlockId(h16(&[bytes])), resumed: false }
}

fn datagrams<S: SymbolStore>(link: &mut Link<S>, now: Instant) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut one = Vec::new();
    work(link);
    while link.poll_transmit(now, &mut one) {
        all.push(std::mem::take(&mut one));
    }
    all
}

/// What `from` sends at `sent` arrives at `to` at `at`.
fn carry(from: &mut Link<MemoryStore>, to: &mut Link<MemoryStore>, sent: Instant, at: Instant) {
    for datagram in datagrams(from, sent) {
        to.handle_datagram(&datagram, at);
    }
}

/// Does at once what a node does in another thread.
fn work<S: SymbolStore>(link: &mut Link<S>) {
    while let Some(job) = link.poll_job(T0) {
        link.finished(job.run(), T0);
    }
}

fn events<S: SymbolStore>(link: &mut Link<S>) -> Vec<Event> {
    work(link);
    std::iter::from_fn(|| link.poll_event()).collect()
}

/// A sender that has been given one block, and its first datagrams.
fn sent(bytes: &[u8]) -> (Link<MemoryStore>, Vec<Vec<u8>>) {
    let mut near = link(1, 0..1 << 20, MemoryStore::default());
    near.submit(block(7, bytes)).expect("a block");
    assert_eq!(events(&mut near), [Event::Wanted { key: 7 }]);
    near.supply(7, bytes.to_vec());
    let all = datagrams(&mut near, T0);
    (near, all)
}

#[test]
fn a_small_block_crosses_in_one_datagram_and_its_receipt_in_another() {
    let (mut near, all) = sent(b"moon");
    let mut far = link(2, 0..1 << 20, MemoryStore::default());
    assert!(far.handle_datagram(&all[0], T0));
    let id = BlockId(h16(&[b"moon"]));
    assert_eq!(events(&mut far), [Event::Received { id, priority: 1, bytes: b"moon".to_vec() }]);
    far.accepted(id, T0);
    for report in datagrams(&mut far, T0) {
        assert!(near.handle_datagram(&report, T0));
    }
    assert_eq!(events(&mut near), [Event::Delivered { key: 7 }]);
    assert!(near.status(T0).outgoing.is_empty());
}

#[test]
fn forged_replayed_and_cut_datagrams_change_nothing() {
    let (_, all) = sent(&[9; 5000]);
    let mut far = link(2, 0..1 << 20, MemoryStore::default());
    assert!(far.handle_datagram(&all[0], T0));
    let before = far.status(T0);
    let timeout = far.poll_timeout(T0);
    for datagram in &all[1..] {
        for at in 0..datagram.len() {
            let mut forged = datagram.clone();
            forged[at] ^= 0x10;
            assert!(!far.handle_datagram(&forged, T0));
        }
        assert!(!far.handle_datagram(&datagram[..datagram.len() - 1], T0));
    }
    assert!(!far.handle_datagram(&all[0], T0) && !far.handle_datagram(&[], T0));
    let mut after = far.status(T0);
    assert!(after.totals.forged > 0 && after.totals.foreign > 0 && after.totals.replayed == 1);
    after.totals = before.totals;
    assert_eq!((after, far.poll_timeout(T0)), (before, timeout));
    assert!(events(&mut far).is_empty());
}

#[test]
fn any_order_and_any_repetition_of_datagrams_give_the_same_block() {
    let bytes: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let (_, all) = sent(&bytes);
    for seed in 0..50 {
        let mut order: Vec<usize> = (0..all.len()).chain(0..all.len()).collect();
        order.sort_by_key(|i| (*i as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
        let mut far = link(2, 0..1 << 20, MemoryStore::default());
        for i in order {
            far.handle_datagram(&all[i], T0);
        }
        let received = events(&mut far);
        assert!(matches!(&received[..], [Event::Received { bytes: same, .. }] if *same == bytes), "seed {seed}");
    }
}

#[test]
fn an_announcement_that_is_lost_or_late_costs_no_symbol() {
    let bytes: Vec<u8> = (0..40 * 1436u32).map(|i| (i % 251) as u8).collect();
    let (_, all) = sent(&bytes);
    // The first is the announcement alone; the next is with the second symbol, or later.
    assert!(all[0].len() < 100);
    let mut far = link(2, 0..1 << 20, MemoryStore::default());
    let lost = all[1..].iter();
    let late = all[1..all.len() - 1].iter().chain([&all[0], &all[all.len() - 1]]);
    for order in [lost.collect::<Vec<_>>(), late.collect()] {
        order.iter().for_each(|datagram| {
            far.handle_datagram(datagram, T0);
        });
        assert_eq!(far.totals().symbols_needless, 0);
        assert!(matches!(&events(&mut far)[..], [Event::Received { bytes: same, .. }] if *same == bytes));
        far = link(2, 0..1 << 20, MemoryStore::default());
    }
}

#[test]
fn blocks_are_taken_up_to_the_limit_and_each_key_once() {
    let mut near = link(1, 0..1 << 20, MemoryStore::default());
    let of = |key, len| Block { key, priority: 0, len, id: BlockId([1; 16]), resumed: false };
    assert_eq!(near.submit(of(1, 0)), Err(SubmitError::Length));
    assert_eq!(near.submit(of(1, BLOCK_LEN_MAX as u64 + 1)), Err(SubmitError::Length));
    assert_eq!(near.submit(of(1, BLOCK_LEN_MAX as u64)), Ok(()));
    assert_eq!(near.submit(of(1, 5)), Err(SubmitError::Known));
}

#[test]
fn no_more_than_three_large_blocks_are_asked_for() {
    let mut near = link(1, 0..1 << 20, MemoryStore::default());
    for key in 0..10 {
        near.submit(Block { key, priority: 1, len: 60 << 20, id: BlockId([1; 16]), resumed: false }).unwrap();
    }
    assert_eq!(events(&mut near), [0, 1, 2].map(|key| Event::Wanted { key }));
    // One more of their rank waits; a more precious one takes the place of the last.
    near.supply(2, vec![0; 60 << 20]);
    assert!(events(&mut near).is_empty());
    near.submit(Block { key: 10, priority: 0, len: 1000, id: BlockId([2; 16]), resumed: false }).unwrap();
    assert_eq!(events(&mut near), [Event::Wanted { key: 10 }]);
}

#[test]
fn counters_end_before_they_are_used_twice() {
    let mut near = link(1, 5..8, MemoryStore::default());
    (0..9).for_each(|nonce| near.ping(nonce));
    let bytes = vec![3; 100_000];
    near.submit(block(1, &bytes)).unwrap();
    near.supply(1, bytes);
    assert_eq!(datagrams(&mut near, T0).len(), 3);
    assert_eq!(events(&mut near)[1..], [Event::ReserveCounters { end: 8 }]);
    near.reserved(10);
    assert_eq!(datagrams(&mut near, T0).len(), 2);
}

#[test]
fn an_echo_comes_back_with_its_time() {
    let (mut near, mut far) = (link(1, 0..99, MemoryStore::default()), link(2, 0..99, MemoryStore::default()));
    near.ping(42);
    carry(&mut near, &mut far, T0, T0);
    let later = Instant(T0.0 + 2_600_000_000);
    carry(&mut far, &mut near, T0, later);
    assert!(events(&mut near).contains(&Event::Echoed { nonce: 42, took: later.since(T0) }));
}

#[test]
fn a_line_that_fell_silent_over_a_question_is_found_open_again_by_a_block_that_comes_later() {
    let (mut near, mut far) =
        (link(1, 0..1 << 20, MemoryStore::default()), link(2, 0..1 << 20, MemoryStore::default()));
    near.ping(42);
    // Nobody is there, and nothing is under way that one could ask about.
    assert_eq!(datagrams(&mut near, T0).len(), 1);
    let mut now = Instant(T0.0 + 3_600_000_000_000);
    near.handle_timeout(now);
    assert_eq!(near.status(now).line, Line::Silent);
    near.submit(block(7, b"moon")).expect("a block");
    assert_eq!(events(&mut near), [Event::Wanted { key: 7 }]);
    near.supply(7, b"moon".to_vec());
    for _ in 0..100 {
        carry(&mut near, &mut far, now, now);
        for event in events(&mut far) {
            if let Event::Received { id, .. } = event {
                far.accepted(id, now);
            }
        }
        carry(&mut far, &mut near, now, now);
        if events(&mut near).contains(&Event::Delivered { key: 7 }) {
            return;
        }
        now = Instant(now.0 + 10_000_000_000);
        near.handle_timeout(now);
        far.handle_timeout(now);
    }
    panic!("the block is never sent: {:?}", near.status(now));
}

#[test]
fn a_refused_block_is_not_sent_again() {
    let (mut near, all) = sent(b"moon");
    let mut far = link(2, 0..1 << 20, MemoryStore::default());
    far.handle_datagram(&all[0], T0);
    far.refused(BlockId(h16(&[b"moon"])), T0);
    carry(&mut far, &mut near, T0, T0);
    assert_eq!(events(&mut near), [Event::Refused { key: 7 }]);
}

#[test]
fn a_block_that_is_withdrawn_is_forgotten_there_too() {
    let bytes = vec![8; 100_000];
    let mut near = link(1, 0..1 << 20, MemoryStore::default());
    near.submit(block(7, &bytes)).unwrap();
    near.supply(7, bytes);
    let mut far = link(2, 0..1 << 20, MemoryStore::default());
    let mut one = Vec::new();
    for _ in 0..5 {
        assert!(near.poll_transmit(T0, &mut one));
        far.handle_datagram(&std::mem::take(&mut one), T0);
    }
    assert_eq!(far.status(T0).incoming.len(), 1);
    near.withdraw(7);
    carry(&mut near, &mut far, T0, T0);
    assert!(far.status(T0).incoming.is_empty() && near.status(T0).outgoing.is_empty());
}

/// A store that changes what it keeps, once.
#[derive(Default)]
struct Rotten {
    inner: MemoryStore,
    rotted: bool,
}

impl SymbolStore for Rotten {
    fn open(&mut self, block: BlockId, symbols: usize, symbol_len: usize) -> Result<Vec<u32>, StoreError> {
        self.inner.open(block, symbols, symbol_len)
    }
    fn put(&mut self, block: BlockId, number: u32, symbol: &[u8]) -> Result<(), StoreError> {
        self.inner.put(block, number, symbol)
    }
    fn symbols(&mut self, block: BlockId) -> Result<Symbols, StoreError> {
        let (rot, inner) = (!std::mem::replace(&mut self.rotted, true), self.inner.symbols(block)?);
        Ok(Box::new(move |show| {
            inner(&mut |number, symbol| {
                let mut symbol = symbol.to_vec();
                symbol[0] ^= u8::from(rot && number == 3);
                show(number, &symbol);
            })
        }))
    }
    fn remove(&mut self, block: BlockId) {
        self.inner.remove(block);
    }
}

#[test]
fn a_block_that_rotted_in_the_store_is_never_handed_out() {
    let bytes = vec![5; 10_000];
    let (_, all) = sent(&bytes);
    let mut far = link(2, 0..1 << 20, Rotten::default());
    for datagram in &all {
        far.handle_datagram(datagram, T0);
    }
    assert!(events(&mut far).is_empty());
    assert_eq!(far.totals().damaged, 1);
    let block = &far.status(T0).incoming[0];
    assert!(!block.whole && block.held < block.symbols, "it begins anew");
}

/// Tags what a peer that has the key, and its wits lost, might say.
fn tagged(which: u8, counter: u64, messages: &[u8]) -> Vec<u8> {
    let key = [which; 32];
    let id = h16(&[b"lavatube/1 link key", &key]);
    let mut out = [&id[..2], &counter.to_be_bytes()[2..], messages].concat();
    let tag = *blake3::keyed_hash(&key, &out).as_bytes();
    out.extend_from_slice(&tag[..16]);
    out
}

/// A message of a type that there is, with whatever content.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kind =
        prop_oneof![Just(5u8), Just(0x70), Just(0x72), Just(0x78), Just(0x79), Just(0x7a), Just(0x7b), any::<u8>()];
    // Few transfers and small numbers, so that messages are about the same things.
    let small = prop_oneof![4 => 0u8..4, 1 => any::<u8>()];
    (kind, proptest::collection::vec(small, 0..60)).prop_map(|(kind, content)| {
        let len = content.len() as u8;
        [&[kind, 0, 0, len], &content[..]].concat()
    })
}

/// An announcement that may be believed.
fn announcement() -> impl Strategy<Value = Vec<u8>> {
    (0u32..3, 1u64..100_000, 0u8..3).prop_map(|(transfer, len, id)| {
        let symbols = len.div_ceil(1436);
        let symbol_len = len.div_ceil(symbols).next_multiple_of(2) as u16;
        let head = [&[0x78, 0, 0, 31][..], &transfer.to_be_bytes(), &len.to_be_bytes(), &symbol_len.to_be_bytes()];
        [&head.concat()[..], &[1], &[id; 16]].concat()
    })
}

proptest! {
    #[test]
    fn no_peer_makes_an_end_panic_or_forget_its_limits(
        said in proptest::collection::vec(proptest::collection::vec(prop_oneof![message(), announcement()], 1..8), 1..40),
    ) {
        let mut far = link(2, 0..1 << 20, MemoryStore::default());
        far.submit(block(7, &[3; 50_000])).unwrap();
        far.supply(7, vec![3; 50_000]);
        let mut now = T0;
        for (counter, messages) in (0..).zip(&said) {
            let bytes = tagged(1, counter, &messages.concat());
            prop_assert!(far.handle_datagram(&bytes, now));
            while let Some(job) = far.poll_job(now) {
                far.finished(job.run(), now);
            }
            while let Some(event) = far.poll_event() {
                if let Event::Wanted { key } = event {
                    far.supply(key, vec![3; 50_000]);
                }
            }
            prop_assert!(datagrams(&mut far, now).len() <= 64, "no more than a burst at once");
            now = now + Duration::from_millis(300);
            if far.poll_timeout(now).is_some_and(|at| at <= now) {
                far.handle_timeout(now);
            }
        }
    }
}
