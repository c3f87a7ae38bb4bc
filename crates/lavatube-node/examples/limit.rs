//! The limit a backup holds itself against: what reading, BLAKE3, zstd 3 and AES-256-GCM alone take for a folder.
//!
//! `cargo run --release -p lavatube-node --example limit -- FOLDER...`. Each is timed on one core over blocks of a frame's
//! size, files from the page cache; the limit is their sum divided by the cores. Nothing is cut, compared or written.

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// Raw bytes of a frame.
const FRAME_LEN: usize = 512 << 10;

#[derive(Default)]
struct Times {
    read: Duration,
    blake3: Duration,
    zstd: Duration,
    aes: Duration,
}

struct Limit {
    times: Times,
    block: Vec<u8>,
    packed: Vec<u8>,
    zstd: zstd::bulk::Compressor<'static>,
    key: LessSafeKey,
    bytes: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "no key")?;
    let mut limit = Limit {
        times: Times::default(),
        block: Vec::with_capacity(2 * FRAME_LEN),
        packed: vec![0; zstd::zstd_safe::compress_bound(2 * FRAME_LEN)],
        zstd: zstd::bulk::Compressor::new(3)?,
        key: LessSafeKey::new(key),
        bytes: 0,
    };
    for folder in std::env::args().skip(1) {
        limit.folder(Path::new(&folder))?;
    }
    limit.block_done()?;
    let Times { read, blake3, zstd, aes } = limit.times;
    let cores = std::thread::available_parallelism()?.get();
    let sum = read + blake3 + zstd + aes;
    println!("{} MB on {cores} cores", limit.bytes / 1_000_000);
    println!("read {read:.2?}, BLAKE3 {blake3:.2?}, zstd 3 {zstd:.2?}, AES-256-GCM {aes:.2?} on one core");
    println!("limit: {:.2} CPU s, {:.2} s wall", sum.as_secs_f64(), sum.as_secs_f64() / cores as f64);
    Ok(())
}

impl Limit {
    fn folder(&mut self, root: &Path) -> Result<(), Box<dyn Error>> {
        let mut folders = vec![PathBuf::from(root)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    self.file(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let mut file = File::open(path)?;
        self.times.read += start.elapsed();
        loop {
            let start = Instant::now();
            let room = FRAME_LEN.saturating_sub(self.block.len()) as u64;
            let n = (&mut file).take(room).read_to_end(&mut self.block)?;
            self.times.read += start.elapsed();
            if self.block.len() >= FRAME_LEN {
                self.block_done()?;
            } else if n == 0 || (n as u64) < room {
                return Ok(());
            }
        }
    }

    fn block_done(&mut self) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        std::hint::black_box(blake3::hash(&self.block));
        let hashed = Instant::now();
        let n = self.zstd.compress_to_buffer(&self.block, &mut self.packed[..])?;
        let pressed = Instant::now();
        let sealed = &mut (if n < self.block.len() { &mut self.packed[..n] } else { &mut self.block[..] })[..];
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        self.key.seal_in_place_separate_tag(nonce, Aad::empty(), sealed).map(drop).map_err(|_| "not sealed")?;
        self.times.aes += pressed.elapsed();
        self.times.zstd += pressed - hashed;
        self.times.blake3 += hashed - start;
        self.bytes += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }
}
