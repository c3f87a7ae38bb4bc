//! What chunk and frame sizes cost: takes real snapshots with sizes of one's choice and throws the sealed packs away.
//!
//! `cargo run --release -p lavatube-node --example chunk_sizes -- [--mean KIB] [--loose KIB] [--frame KIB] [--level N]
//! FOLDER...`. The folders are states of one folder, snapshotted in turn into one archive with fixed keys, so that the
//! bytes come out the same every time. `--loose` is the mean for files that do not compress. A chunk is half to four times
//! its mean. The figures of `docs/decisions/0002-chunk-and-frame-sizes.md` come from here.

use std::collections::BTreeSet;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lavatube_base::limits::PACK_CLASSES;
use lavatube_base::sign::EdSigner;
use lavatube_base::{ChunkId, ObjectId, VaultId, Verified};
use lavatube_client::backup::{self, Request, Sizes};
use lavatube_client::catalog::Catalog;
use lavatube_client::chain::Chain;
use lavatube_client::chunker::ChunkSizes;
use lavatube_client::collect::{Lane, Outlet};
use lavatube_client::courier::Courier;
use lavatube_client::delivery::{DeliveredPack, Delivery};
use lavatube_client::far::{Far, FarError, ReceiptBytes, Signer};
use lavatube_client::frame::RawFrame;
use lavatube_client::meter::Meter;
use lavatube_client::packer::{PackError, Packer};
use lavatube_client::session::{self, Said};
use lavatube_client::state::State;
use lavatube_format::key_file::Secret;
use lavatube_format::pack::{FOOTER_LEN, class_len};
use lavatube_format::receipt::ReceiptBody;
use lavatube_format::shard::ObjectKind;
use lavatube_node::clock;
use lavatube_node::directory_source::DirectorySource;
use lavatube_node::directory_spool::DirectorySpool;
use lavatube_node::directory_state::DirectoryState;
use lavatube_node::pipeline::{self, Effort};
use lavatube_seal::{DepositKeys, Root};
use rustix::time::{ClockId, clock_gettime};

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let Wish { sizes, level, folders } = Wish::read(std::env::args().skip(1))?;
    let root = Root::new(Secret::new([1; 32]));
    let deposit = DepositKeys::new(&root, "default", "measured", Secret::new([2; 32]), Secret::new([3; 32]))?;
    let temporary = tempfile::tempdir()?;
    let state = DirectoryState::open(&temporary.path().join("state"))?;
    let mut catalog = Catalog::open(&state)?;
    let effort = Effort { level, workers: std::thread::available_parallelism()?.get() };
    println!("{sizes:?}, level {level}");
    let (mut total, mut cpu) = (0, 0.0);
    for folder in &folders {
        let before = cpu_seconds();
        let tally = snapshot(folder, sizes, effort, &deposit, &state, &mut catalog)?;
        let took = cpu_seconds() - before;
        let stored = tally.packs_len() + tally.manifest;
        println!(
            "{}: {} MB stored = content {} + trees {} + index {} + seals and padding {} + manifest {}; packs {}; {} chunks, \
             {took:.2} CPU s",
            folder.display(),
            mb(stored),
            mb(tally.content),
            mb(tally.trees),
            mb(tally.index),
            mb(tally.packs_len() - tally.content - tally.trees - tally.index),
            mb(tally.manifest),
            tally.classes(),
            tally.chunks
        );
        total += stored;
        cpu += took;
    }
    let names = state.list("catalog/")?.into_iter();
    let on_disk: u64 = names.map(|name| Ok(state.len(&name)?.unwrap_or(0))).sum::<std::io::Result<u64>>()?;
    println!("all: {} MB stored, {} chunks, catalog {} MB, {cpu:.2} CPU s", mb(total), catalog.chunks(), mb(on_disk));
    Ok(())
}

/// What the command line asks for.
struct Wish {
    sizes: Sizes,
    level: i32,
    folders: Vec<PathBuf>,
}

impl Wish {
    fn read(mut args: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut wish = Self { sizes: Sizes::DEFAULT, level: 3, folders: Vec::new() };
        let around = |mean| ChunkSizes { min: mean / 2, mean, max: 4 * mean };
        while let Some(arg) = args.next() {
            let mut number =
                || args.next().ok_or(format!("{arg} what?"))?.parse::<usize>().map_err(Box::<dyn Error>::from);
            match &arg[..] {
                "--mean" => wish.sizes.chunks = around(number()? << 10),
                "--loose" => wish.sizes.loose_chunks = around(number()? << 10),
                "--frame" => wish.sizes.frame = number()? << 10,
                "--level" => wish.level = i32::try_from(number()?)?,
                folder => wish.folders.push(PathBuf::from(folder)),
            }
        }
        Ok(wish)
    }
}

/// Takes a snapshot of `folder` as the command does.
fn snapshot<'a>(
    folder: &Path,
    sizes: Sizes,
    effort: Effort,
    deposit: &DepositKeys,
    state: &'a DirectoryState,
    catalog: &mut Catalog<'a>,
) -> Fallible<Tally> {
    let source = DirectorySource::below(folder)?;
    let request = Request {
        roots: vec![Vec::new()],
        exclude: &|_, _| false,
        one_file_system: false,
        read_all: false,
        allow_empty: false,
        accept_shrink: true,
        host: "measured".into(),
        tags: Vec::new(),
        description: None,
        program: "chunk_sizes".into(),
        now: clock::wall_now(),
        sizes,
    };
    let (meter, nowhere) = (Meter::default(), Nowhere::new()?);
    let mut spool = DirectorySpool::open(&state.folder().join("spool"))?;
    let courier = Courier::new(Some(&nowhere), &mut spool, state);
    let mut chain = Chain::survey(state, deposit, &nowhere)?;
    // Nothing sealed here is kept: these need not be secret.
    let open = session::begin(state, deposit, &mut |out| out.fill(4))?;
    let delivery = Delivery::new(open.keys.session(), deposit.audit_keys(), state, courier, &meter);
    pipeline::run(Packer::new(open.keys.clone()), delivery, effort, |outlet, finish| {
        let mut watched = Watched { outlet, tally: Tally::default(), trees: BTreeSet::new() };
        let prepared =
            backup::prepare(&source, &request, deposit, open.keys.session(), state, catalog, &mut watched, &meter)?;
        let ask: Vec<_> = prepared.report.snapshot.into_iter().collect();
        let (packed, mut courier) = finish(&ask)?;
        session::finish(
            state,
            deposit,
            &open,
            &packed.packs,
            Said { snapshots: packed.found, ..Said::default() },
            &prepared.committed,
            &mut chain,
            &mut courier,
        )?;
        prepared.complete()?;
        session::close(state)?;
        let manifest = nowhere.manifests_len.load(Ordering::Relaxed);
        Ok(Tally { manifest, ..watched.tally })
    })
}

/// Where the bytes of a snapshot's packs went.
#[derive(Default)]
struct Tally {
    packs: [u64; PACK_CLASSES as usize],
    content: u64,
    trees: u64,
    index: u64,
    manifest: u64,
    chunks: usize,
}

impl Tally {
    /// Bytes of all packs, whole.
    fn packs_len(&self) -> u64 {
        (0..PACK_CLASSES).zip(self.packs).map(|(class, packs)| class_len(class) as u64 * packs).sum()
    }

    fn classes(&self) -> String {
        let used = (0..PACK_CLASSES).zip(self.packs).filter(|(_, packs)| *packs > 0).rev();
        used.map(|(class, packs)| format!("{packs} of {} KiB", class_len(class) >> 10)).collect::<Vec<_>>().join(", ")
    }
}

/// The pipeline's front, with somebody who counts what goes in and what has come out.
struct Watched<'o> {
    outlet: &'o mut dyn Outlet,
    tally: Tally,
    /// First chunks of frames of trees.
    trees: BTreeSet<ChunkId>,
}

impl Outlet for Watched<'_> {
    fn submit(&mut self, frame: RawFrame) -> Result<(), PackError> {
        let first = frame.chunks.first().filter(|_| frame.lane == Lane::Tree);
        self.trees.extend(first.map(|chunk| chunk.id));
        self.outlet.submit(frame)
    }

    fn delivered(&mut self) -> Vec<DeliveredPack> {
        let packs = self.outlet.delivered();
        for pack in &packs {
            self.tally.packs[usize::from(pack.row.class)] += 1;
            let mut index = Vec::new();
            for frame in &pack.frames {
                frame.encode(&mut index);
                self.tally.chunks += frame.chunks.len();
                let tree = frame.chunks.first().is_some_and(|chunk| self.trees.contains(&chunk.id));
                *(if tree { &mut self.tally.trees } else { &mut self.tally.content }) += frame.stored_len as u64;
            }
            self.tally.index += (index.len() + FOOTER_LEN) as u64;
        }
        packs
    }

    fn buffer(&mut self) -> Vec<u8> {
        self.outlet.buffer()
    }
}

/// A far side that signs for everything and has nothing. Counts the bytes of manifests.
struct Nowhere {
    signer: EdSigner,
    manifests_len: AtomicU64,
}

impl Nowhere {
    fn new() -> Fallible<Self> {
        Ok(Self { signer: EdSigner::from_seed(&[5; 32])?, manifests_len: AtomicU64::new(0) })
    }

    fn sign(&self, kind: ObjectKind, object: ObjectId) -> ReceiptBytes {
        let vault = self.signer().vault;
        ReceiptBytes(ReceiptBody { vault, sequence: 1, kind, object, check: [0; 16] }.sign(&self.signer).encode())
    }
}

impl Far for Nowhere {
    fn signer(&self) -> Signer {
        Signer { vault: VaultId([0; 16]), key: self.signer.public() }
    }

    fn deliver_pack(&self, pack: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Ok(self.sign(ObjectKind::Pack, pack.id()))
    }

    fn deliver_tags(&self, tags: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        Ok(self.sign(ObjectKind::Tags, tags.id()))
    }

    fn deliver_manifest(&self, manifest: Verified<'_>) -> Result<ReceiptBytes, FarError> {
        self.manifests_len.fetch_add(manifest.bytes().len() as u64, Ordering::Relaxed);
        Ok(self.sign(ObjectKind::Manifest, manifest.id()))
    }

    fn fetch(&self, id: ObjectId, _: Range<u64>, _: &mut Vec<u8>) -> Result<(), FarError> {
        Err(FarError::Absent(id))
    }

    fn manifests(&self) -> Result<Vec<(ObjectId, u64)>, FarError> {
        Ok(Vec::new())
    }

    fn has(&self, _: ObjectId) -> Result<bool, FarError> {
        Ok(false)
    }
}

/// User and system time of all threads of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn mb(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
