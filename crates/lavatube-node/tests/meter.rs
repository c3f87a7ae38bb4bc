//! What a bar is drawn from: bytes count while a large file is under way, holes never, and the sum is known before the end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lavatube_client::backup::Request;
use lavatube_client::meter::Meter;
use lavatube_client::restore::{Overwrite, RestoreRequest};
use lavatube_client::source::Found;
use lavatube_client::survey::{Scope, Sum, survey};
use lavatube_node::clock;
use lavatube_node::depositor::{self, Places, VaultPlan};
use lavatube_node::directory_source::DirectorySource;
use lavatube_node::embedded::DriveSpec;
use lavatube_node::far_vault::Asking;
use lavatube_node::keyring::Keyring;
use lavatube_node::pipeline::Effort;
use lavatube_node::reader::Reader;

const LARGE: u64 = 40 << 20;
const SPARSE: u64 = 1 << 40;

fn source(folder: &Path) -> Vec<Vec<u8>> {
    fs::create_dir_all(folder.join("sub/cache")).unwrap();
    let mut x = 1u32;
    let noise = std::iter::repeat_with(|| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (x >> 24) as u8
    });
    fs::write(folder.join("large"), noise.take(LARGE as usize).collect::<Vec<_>>()).unwrap();
    fs::write(folder.join("sub/small"), [7; 1000]).unwrap();
    fs::write(folder.join("sub/cache/unwanted"), [7; 1000]).unwrap();
    let sparse = File::create(folder.join("sparse")).unwrap();
    sparse.set_len(SPARSE).unwrap();
    sparse.write_all_at(&[1; 4096], SPARSE / 2).unwrap();
    vec![folder.as_os_str().as_bytes()[1..].to_vec()]
}

fn exclude(path: &[u8], _: &Found) -> bool {
    path.ends_with(b"/cache")
}

/// Whether bytes were seen to grow before the file they belong to was done.
fn grows(meter: &Meter, over: &AtomicBool) -> bool {
    let mut grown = false;
    while !over.load(Ordering::Relaxed) {
        let bytes = meter.bytes.now();
        grown |= (1 << 20..LARGE).contains(&bytes) && meter.files.now() == 0;
        std::thread::sleep(Duration::from_millis(1));
    }
    grown
}

/// Ends the watch, however the work ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn watched<R>(meter: &Meter, work: impl FnOnce() -> R) -> (R, bool) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = Ending(&over);
        let watch = scope.spawn(|| grows(meter, &over));
        let done = work();
        drop(ending);
        (done, watch.join().unwrap())
    })
}

#[test]
fn bytes_count_as_they_are_read_and_written_and_holes_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let base = fs::canonicalize(dir.path()).unwrap();
    let roots = source(&base.join("src"));
    let scope = Scope { roots: &roots, exclude: &exclude, one_file_system: true };
    let files = DirectorySource::new().unwrap();
    let want = Sum { files: 3, bytes: LARGE + SPARSE + 1000, holes: SPARSE - 4096 };
    assert_eq!(survey(&files, &scope, &|| true), Some(want));
    assert_eq!(survey(&files, &scope, &|| false), None, "it ends when the backup does");

    let places = Places { vault: base.join("vault"), state: base.join("state"), keys: base.join("keys") };
    let drive =
        |i| DriveSpec { folder: PathBuf::from(format!("d{i}")), label: format!("d{i}"), ..DriveSpec::default() };
    let plan = VaultPlan { k: 2, m: 1, drives: (0..3).map(drive).collect() };
    depositor::init(&places, &plan, Duration::ZERO).unwrap();
    let request = Request {
        roots,
        exclude: &exclude,
        one_file_system: false,
        read_all: false,
        allow_empty: false,
        accept_shrink: false,
        host: "box".into(),
        tags: Vec::new(),
        description: None,
        program: "test".into(),
        now: clock::wall_now(),
        sizes: lavatube_client::backup::Sizes::DEFAULT,
    };
    let effort = Effort { level: 1, workers: 1 };
    let meter = Meter::default();
    let (done, grown) = watched(&meter, || {
        depositor::backup(
            &places,
            &request,
            Default::default(),
            lavatube_node::waybill::Priority::Normal,
            effort,
            Duration::ZERO,
            &meter,
        )
        .unwrap()
    });
    let data = LARGE + 1000 + 4096;
    let counts = |meter: &Meter| (meter.files.now(), meter.bytes.now(), meter.holes.now());
    assert_eq!(counts(&meter), (3, data, SPARSE - 4096));
    assert_eq!(done.report.totals.bytes, want.bytes, "sizes are apparent ones");
    assert!(grown, "large is counted while it is read");

    let keys = Keyring::at(&places.keys).read(None, &mut |_| None).unwrap();
    let reader = Reader::open(&places, Box::new(keys), "test", false, Asking::default(), Duration::ZERO).unwrap();
    let session = reader.session(&Meter::default()).unwrap();
    let request = RestoreRequest {
        snapshot: done.report.snapshot.unwrap(),
        inside: None,
        select: &|_, _| true,
        overwrite: Overwrite::Never,
        doubt: false,
        booted: clock::booted(),
    };
    let meter = Meter::default();
    fs::create_dir(base.join("back")).unwrap();
    let (_, grown) = watched(&meter, || session.restore(&base.join("back"), request, b"", 1, &meter).unwrap());
    assert_eq!(counts(&meter), (3, data, SPARSE - 4096));
    assert_eq!(meter.bytes_total.now() - meter.holes.now(), data);
    assert!(grown, "large is counted while it is written");
}
