//! How fast packs are sealed and opened, chunk ids computed and passphrases stretched, on one thread of this machine.
//!
//! `cargo run --release -p lavatube-seal --example seal_speed`. The figures of `docs/BENCHMARKS.md` come from here.

use std::time::Instant;

use lavatube_base::SessionId;
use lavatube_format::key_file::{KeyKind, Secret};
use lavatube_format::pack::class_len;
use lavatube_seal::{ChunkIdKey, SealError, SessionKeys, lock};

fn main() -> Result<(), SealError> {
    let session = SessionKeys::derive(SessionId([1; 16]), &Secret::new([2; 32]), &Secret::new([3; 32]));
    for class in [0u8, 3, 5, 7] {
        let mut pack = vec![0x5a; class_len(class)];
        let rounds = ((512 << 20) / pack.len()).min(2000);
        let seal = best(|| (0..rounds).try_for_each(|_| session.pack(0, class).seal_in_place(&mut pack)))?;
        let mut open = f64::MAX;
        for _ in 0..3 {
            session.pack(0, class).seal_in_place(&mut pack)?;
            let start = Instant::now();
            session.pack(0, class).open_pack(&mut pack)?;
            open = open.min(start.elapsed().as_secs_f64());
        }
        let bytes = pack.len() as f64 / 1e9;
        println!(
            "pack of {:>8} bytes: seal {:.2} GB/s, open {:.2} GB/s",
            pack.len(),
            bytes * rounds as f64 / seal,
            bytes / open
        );
    }
    let (key, content) = (ChunkIdKey::new(Secret::new([4; 32])), vec![0x5a; 1 << 20]);
    let time = best(|| {
        for _ in 0..500 {
            std::hint::black_box(key.id(&content));
        }
        Ok(())
    })?;
    println!("chunk ids, 1 MiB: {:.2} GB/s", 500.0 * content.len() as f64 / 1e9 / time);
    let start = Instant::now();
    lock::lock(KeyKind::Read, b"body", b"passphrase", lock::Costs::DAILY, [0; 16], [0; 12])?;
    println!("daily lock: {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn best(mut run: impl FnMut() -> Result<(), SealError>) -> Result<f64, SealError> {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
