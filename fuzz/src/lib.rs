//! The driver of the targets beside it: takes seeds, changes them, and hands them over until the time is up.
//!
//! It exists so that fuzzing needs no other compiler and no other crate. It does not see which code is reached, so seeds matter: golden
//! files of `vectors/`. All is drawn from one number, which is told; what fails is written beside the program.

use std::time::{Duration, Instant};

/// Makes a program of a target: `PROGRAM SECONDS NUMBER [SEED FILE …]`.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:block) => {
        fn target($bytes: &[u8]) $body
        fn main() -> std::process::ExitCode {
            $crate::drive(target)
        }
    };
}

/// Runs a target; fails with the first bytes that it does not bear.
pub fn drive(target: fn(&[u8])) -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse::<u64>().ok()).unwrap_or(1).max(1);
    let (span, mut chance) = (Duration::from_secs(number(1)), Chance(number(2)));
    let mut pool = vec![Vec::new()];
    pool.extend(args.iter().skip(3).map(|path| std::fs::read(path).expect("a seed can be read")));
    let seeds = pool.len();
    let (start, mut runs) = (Instant::now(), 0u64);
    while start.elapsed() < span {
        let from = if chance.below(2) == 0 { seeds } else { pool.len() };
        let mut bytes = pool[chance.below(from)].clone();
        for _ in 0..=chance.below(6) {
            change(&mut bytes, &pool, &mut chance);
        }
        bytes.truncate(LEN_MAX);
        if std::panic::catch_unwind(|| target(&bytes)).is_err() {
            let path = format!("{}-failed", args[0]);
            std::fs::write(&path, &bytes).expect("what failed can be written");
            eprintln!("{} failed after {runs} runs from {}: {path}", args[0], number(2));
            return std::process::ExitCode::FAILURE;
        }
        runs += 1;
        if chance.below(64) == 0 && pool.len() < POOL_MAX {
            pool.push(bytes);
        }
    }
    println!("{}: {runs} runs from {}, none failed", args[0], number(2));
    std::process::ExitCode::SUCCESS
}

fn change(bytes: &mut Vec<u8>, pool: &[Vec<u8>], chance: &mut Chance) {
    let (len, byte) = (bytes.len(), chance.byte());
    let at = chance.below(len.max(1));
    let end = (at + 1 + chance.below(16)).min(len);
    match chance.below(8) {
        0 if len > 0 => bytes[at] ^= 1 << (byte % 8),
        1 if len > 0 => bytes[at] = byte,
        2 if len > 0 => bytes[at] = EDGES[chance.below(EDGES.len())],
        3 if len > 0 => drop(bytes.drain(at..end)),
        4 if len > 0 => {
            let piece = bytes[at..end].to_vec();
            let to = chance.below(len + 1);
            bytes.splice(to..to, piece);
        }
        5 => {
            let other = &pool[chance.below(pool.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[chance.below(other.len() + 1)..]);
        }
        6 if len > 0 => bytes.truncate(at),
        _ => bytes.insert(at, byte),
    }
}

/// Numbers that look like chance: xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 8) % most as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("below 256")
    }
}

const LEN_MAX: usize = 4096;
const POOL_MAX: usize = 4000;
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x20];
