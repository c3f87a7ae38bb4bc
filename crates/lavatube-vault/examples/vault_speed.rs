//! How fast a vault stores, reads and examines 16 MiB packs on drives in memory: `cargo run --release -p lavatube-vault --example vault_speed`.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on shall stop")]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use lavatube_base::Verified;
use lavatube_vault::{Depth, ObjectKind};
use world::World;

fn main() {
    for (k, m) in [(4u8, 2u8), (10, 4), (20, 8)] {
        let mut world = World::new(usize::from(k + m));
        let mut vault = world.create(k, m);
        let packs: Vec<Vec<u8>> = (0..12).map(|_| world.chance.bytes(16 << 20)).collect();
        let verified: Vec<Verified<'_>> = packs.iter().map(|p| Verified::hash(p)).collect();
        let megabytes = (packs.len() * packs[0].len()) as f64 / 1e6;
        let mut out = Vec::new();
        let say = |what: &str, start: Instant| {
            println!("{k}+{m} {what:<28} {:7.0} MB/s", megabytes / start.elapsed().as_secs_f64());
        };
        let mut other = World::new(usize::from(k + m)).create_discarding(k, m);
        let start = Instant::now();
        verified.iter().for_each(|v| assert!(other.store(ObjectKind::Pack, *v).is_ok()));
        say("store, drives that discard", start);
        let start = Instant::now();
        verified.iter().for_each(|v| assert!(vault.store(ObjectKind::Pack, *v).is_ok()));
        say("store, one by one", start);
        let mut read_all = |what: &str, vault: &lavatube_vault::Vault| {
            let start = Instant::now();
            for v in &verified {
                out.clear();
                vault.read(v.id(), 0..v.bytes().len() as u64, &mut out).unwrap();
            }
            say(what, start);
        };
        read_all("read", &vault);
        let start = Instant::now();
        verified.iter().for_each(|v| assert!(vault.examine(v.id(), Depth::Bytes).unwrap().is_whole()));
        say("examine every byte", start);
        (0..usize::from(m)).for_each(|d| world.drives[d].delete_all());
        let (mut vault, _) = world.open();
        read_all("read, m drives emptied", &vault);
        (0..usize::from(m)).for_each(|d| vault.readopt(d, None).unwrap());
        let start = Instant::now();
        verified.iter().for_each(|v| assert!(vault.mend(v.id()).unwrap().left.is_empty()));
        say("mend, m drives emptied", start);
    }
}
