//! What a vault of many packs costs before it has done anything: memory of its index, and how long it takes to open.
//!
//! Why: a vault of 10^8 packs is planned on paper (decision 0003's sizes and these figures), and the paper needs bytes a pack. The journals are
//! real, the shards they speak of are not there: opening asks for none while the journals agree. Run with
//! `cargo run --release -p lavatube-node --example vault_index -- FOLDER [PACKS [K M]]`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use lavatube_base::sign::PairSigner;
use lavatube_format::journal::{FIRST_CHECK, Record};
use lavatube_format::shard::{Geometry, ObjectKind};
use lavatube_node::embedded::{self, DriveSpec, EmbeddedVault};

const PACK_LEN: u64 = 16 << 20;
/// Packs that are looked for.
const LOOKUPS: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder")?).join("vault-index");
    let packs = args.next().map_or(Ok(1_000_000), |packs| packs.parse::<u64>())?;
    let (k, m) = match (args.next(), args.next()) {
        (Some(k), Some(m)) => (k.parse()?, m.parse()?),
        _ => (4, 2),
    };
    fs::create_dir_all(&folder)?;
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let drives: Vec<DriveSpec> = (0..k + m).map(drive).collect();
    embedded::create(&folder, k, m, &drives, PairSigner::from_seeds(&[1; 32], &[2; 32])?.public())?;

    let mut journal = fs::read(folder.join("d0/journal"))?;
    if !journal.is_empty() {
        return Err("a new vault's journal is not empty".into());
    }
    let (geometry, mut check) = (Geometry::new(PACK_LEN, k, m).ok_or("no such code")?, FIRST_CHECK);
    for sequence in 1..=packs {
        let object = lavatube_base::Verified::hash(&sequence.to_le_bytes()).id();
        let slots = (0..k + m).map(|i| (i + (sequence % u64::from(k + m)) as u8) % (k + m)).collect();
        let record = Record::Stored { kind: ObjectKind::Pack, object, geometry, generation: 1, slots };
        check = record.encode(sequence, &check, &mut journal);
    }
    for i in 0..k + m {
        fs::write(folder.join(format!("d{i}/journal")), &journal)?;
    }
    let journal_len = journal.len();
    drop(journal);

    let _ = fs::write("/proc/self/clear_refs", "5");
    let (before, start) = (of_memory("VmRSS:"), Instant::now());
    let vault = EmbeddedVault::open(&folder, false)?;
    let took = start.elapsed();
    let (now, peak) = (of_memory("VmRSS:"), of_memory("VmHWM:"));
    let asked = Instant::now();
    let known = vault.read().status().objects;
    let status_took = asked.elapsed();
    let asked = Instant::now();
    let id = |n: u64| lavatube_base::Verified::hash(&(1 + n * 7919 % packs).to_le_bytes()).id();
    let found = (0..LOOKUPS).filter(|n| vault.read().find(id(*n)).is_some()).count();
    let find_took = asked.elapsed();
    let asked = Instant::now();
    let in_order = vault.read().objects().take(LOOKUPS as usize).count();
    let order_took = asked.elapsed();
    let each = |kib: u64| (kib.saturating_sub(before) << 10) as f64 / packs as f64;
    println!("{k}+{m}, {packs} packs of 16 MiB ({:.1} TB), {known} known", (packs * PACK_LEN) as f64 / 1e12);
    println!("opened in {:.2} s, {:.2} µs a pack", took.as_secs_f64(), took.as_secs_f64() * 1e6 / packs as f64);
    println!("memory {:.1} bytes a pack, {:.1} while opening; {} MiB in all", each(now), each(peak), now >> 10);
    println!(
        "status {:.2} s; {found} lookups {:.2} µs each; {in_order} in order {:.2} µs each",
        status_took.as_secs_f64(),
        find_took.as_secs_f64() * 1e6 / LOOKUPS as f64,
        order_took.as_secs_f64() * 1e6 / LOOKUPS as f64
    );
    println!("journal {:.0} bytes a pack on each of {} drives", journal_len as f64 / packs as f64, k + m);
    drop(vault);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// Kibibytes of memory that this process has, or had at most.
fn of_memory(what: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(what)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
