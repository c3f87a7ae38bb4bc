//! How fast a vault takes in, scrubs and mends on real drives, against the disk's own sequential writes and reads in the same run.
//!
//! Why: the vault's own `vault_speed` is on drives in memory. All drives here are folders of one disk, so that the limit is one file
//! written or read from end to end, of as many bytes as the vault writes or reads. Caches of the kernel are emptied before reading, which
//! needs root; else it says that they were not. Run with `cargo run --release -p lavatube-node --example vault_disk -- FOLDER [MIB [K M]]`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use lavatube_base::Verified;
use lavatube_base::sign::PairSigner;
use lavatube_client::meter::Meter;
use lavatube_node::embedded::{self, DriveSpec, EmbeddedVault};
use lavatube_node::repairing::repair;
use lavatube_node::scrubbing::{ScrubRun, scrub};
use lavatube_vault::scrub::Pace;
use lavatube_vault::{Depth, ObjectKind};

const PACK_LEN: usize = 16 << 20;
/// Packs that are stored with one sync of each drive, as a backup delivers them.
const BATCH: usize = 4;
const ROUNDS: usize = 3;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().ok_or("give a folder")?);
    let mib = args.next().map_or(Ok(1024), |mib| mib.parse::<usize>())?;
    let (k, m) = match (args.next(), args.next()) {
        (Some(k), Some(m)) => (k.parse()?, m.parse()?),
        _ => (4, 2),
    };
    let packs: Vec<Vec<u8>> = (0..mib << 20 >> 24).map(noise).collect();
    println!("{k}+{m}, {} packs of 16 MiB; MB/s of bytes on the drives, parity included", packs.len());
    println!("{:>8} {:>9} {:>9} {:>7}", "", "vault", "disk", "ratio");
    for _ in 0..ROUNDS {
        round(&folder.join("vault-disk"), &packs, k, m)?;
    }
    Ok(())
}

/// Bytes that no disk can make fewer, from a seed.
fn noise(seed: usize) -> Vec<u8> {
    let mut bytes = vec![0; PACK_LEN];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn round(work: &Path, packs: &[Vec<u8>], k: u8, m: u8) -> Outcome<()> {
    fs::create_dir_all(work)?;
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let drives: Vec<DriveSpec> = (0..k + m).map(drive).collect();
    // Somebody whose depositors the vault would take; none come.
    let authority = PairSigner::from_seeds(&[1; 32], &[2; 32])?.public();
    embedded::create(work, k, m, &drives, authority)?;
    let vault = EmbeddedVault::open(work, true)?;

    let start = Instant::now();
    for batch in packs.chunks(BATCH) {
        // What comes is compared with its name first: that is part of taking it in.
        let objects: Vec<_> = batch.iter().map(|pack| (ObjectKind::Pack, Verified::hash(pack))).collect();
        vault.write().store_batch(&objects)?;
    }
    let took = start.elapsed().as_secs_f64();
    let folders: Vec<PathBuf> = (0..k + m).map(|i| work.join(format!("d{i}"))).collect();
    let stored: u64 = folders.iter().map(|folder| len_of(folder)).sum::<Outcome<u64>>()?;
    let written = write_plain(&work.join("plain"), packs, stored)?;
    say("ingest", stored, took, written);

    empty_caches();
    drop(vault);
    let stop = AtomicBool::new(false);
    let run =
        ScrubRun { pace: Pace { bytes_s: None, rest: 0.0 }, time: None, anew: true, wait: Duration::ZERO, stop: &stop };
    let (start, cpu) = (Instant::now(), cpu_s());
    let scrubbed = scrub(work, &run, &Meter::default(), &mut |_| {})?;
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_s() - cpu);
    let looked = (scrubbed.record.objects, scrubbed.record.unsound);
    assert_eq!(looked, (packs.len() as u64, 0), "what was just stored is whole");
    empty_caches();
    let plain_cpu = cpu_s();
    say("scrub", stored, took, read_plain(&work.join("plain"))?);
    let per_gb = |cpu: f64| cpu * 1e9 / stored as f64;
    println!("{:>8} {:.2} CPU s a GB; reading the file alone {:.2}", "", per_gb(cpu), per_gb(cpu_s() - plain_cpu));

    fs::remove_dir_all(work.join("d0/shards"))?;
    let vault = EmbeddedVault::open(work, true)?;
    empty_caches();
    let (start, before) = (Instant::now(), read_by_us()?);
    let repaired = repair(work, &vault, Depth::Headers, &Meter::default(), &|| true)?;
    let (took, read) = (start.elapsed().as_secs_f64(), read_by_us()? - before);
    let mended: usize = repaired.mended.iter().map(|(_, report)| report.mended.len()).sum();
    let shard = PACK_LEN.div_ceil(usize::from(k)) as f64;
    println!(
        "{:>8} {mended} shards in {took:.2} s; {:.2} shards read for each ({k} are needed)",
        "repair",
        read as f64 / (mended as f64 * shard)
    );
    fs::remove_dir_all(work)?;
    Ok(())
}

fn say(what: &str, len: u64, took: f64, disk: f64) {
    let rate = len as f64 / took / 1e6;
    println!("{what:>8} {rate:>9.0} {disk:>9.0} {:>7.2}", rate / disk);
}

/// Seconds of processors that this process had, in the kernel or not.
fn cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|word| word.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn len_of(folder: &Path) -> Outcome<u64> {
    let mut len = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        len += if entry.file_type()?.is_dir() { len_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(len)
}

/// MB/s of one file of `len` bytes, written from end to end and synced.
fn write_plain(path: &Path, packs: &[Vec<u8>], len: u64) -> Outcome<f64> {
    let (start, mut left) = (Instant::now(), usize::try_from(len)?);
    let mut file = File::create(path)?;
    for pack in packs.iter().cycle() {
        let part = pack.len().min(left);
        file.write_all(&pack[..part])?;
        left -= part;
        if left == 0 {
            break;
        }
    }
    file.sync_all()?;
    Ok(len as f64 / start.elapsed().as_secs_f64() / 1e6)
}

fn read_plain(path: &Path) -> Outcome<f64> {
    let (start, mut buffer, mut len) = (Instant::now(), vec![0; 1 << 20], 0);
    let mut file = File::open(path)?;
    loop {
        let n = file.read(&mut buffer)?;
        len += n;
        if n == 0 {
            return Ok(len as f64 / start.elapsed().as_secs_f64() / 1e6);
        }
    }
}

/// Bytes that this process has asked its files for.
fn read_by_us() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).ok_or("no rchar")?;
    Ok(line.parse()?)
}

fn empty_caches() {
    if fs::write("/proc/sys/vm/drop_caches", "3").is_err() {
        println!("(the kernel's caches were not emptied: that needs root)");
    }
}
