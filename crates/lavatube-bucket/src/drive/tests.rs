use std::collections::BTreeMap;
use std::ops::Range;

use lavatube_format::bucket::ObjectLock;

use super::*;

/// A bucket in memory: what it heeds, whether it is there, and what it does wrong.
#[derive(Clone, Default)]
struct Bucket(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    /// Conditions, checksums and ranges it does not know.
    plain: bool,
    gone: bool,
    /// Puts until one is lost though its answer says otherwise; the next ones until one is kept and its answer is lost.
    lies_after: Option<usize>,
    mute_after: Option<usize>,
    full_after: Option<usize>,
    /// The bytes of each object that are wrong: what touches them is refused.
    wrong: BTreeMap<String, Range<u64>>,
    requests: usize,
}

fn due(count: &mut Option<usize>) -> bool {
    match count {
        Some(0) => true,
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl Bucket {
    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Fault> {
        let mut inner = lock(&self.0);
        inner.requests += 1;
        if inner.gone { Err(Fault::Gone("no answer".into())) } else { Ok(inner) }
    }

    fn open(&self) -> BucketDrive {
        BucketDrive::open(Box::new(self.clone()), "moon/d0", None, Opened::ToWrite).unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut lock(&self.0));
    }

    fn keys(&self) -> Vec<String> {
        let inner = lock(&self.0);
        inner.objects.keys().filter(|key| !key.contains("/probe/")).cloned().collect()
    }
}

impl Objects for Bucket {
    fn put(&self, key: &str, bytes: Arc<Vec<u8>>, when: Condition) -> Waiting {
        let put = || {
            let mut inner = self.inner()?;
            if inner.plain && when == Condition::New {
                return Err(Fault::Unknown("not implemented".into()));
            }
            if when == Condition::New && inner.objects.contains_key(key) {
                return Err(Fault::Taken);
            }
            if due(&mut inner.full_after) {
                return Err(Fault::Full);
            }
            let mut kept = bytes.to_vec();
            if due(&mut inner.lies_after) {
                inner.lies_after = None;
                kept[0] ^= 1;
            }
            inner.wrong.remove(key);
            inner.objects.insert(key.to_owned(), kept);
            if due(&mut inner.mute_after) {
                inner.mute_after = None;
                return Err(Fault::Gone("no answer".into()));
            }
            let sent = inner.objects[key] == *bytes;
            Ok(if inner.plain {
                Echo::Silent
            } else if sent {
                Echo::Same
            } else {
                Echo::Other
            })
        };
        let result = put();
        Box::new(move || result)
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, Fault> {
        let inner = self.inner()?;
        if inner.plain {
            return Err(Fault::Unknown("not implemented".into()));
        }
        let bytes = inner.objects.get(key).ok_or(Fault::NotFound)?;
        if inner.wrong.get(key).is_some_and(|wrong| wrong.start < range.end && range.start < wrong.end) {
            return Err(Fault::Other("the endpoint answers 500".into()));
        }
        let at = |at: u64| usize::try_from(at).unwrap().min(bytes.len());
        Ok(bytes[at(range.start)..at(range.end)].to_vec())
    }

    fn get_whole(&self, key: &str, max: usize) -> Result<Vec<u8>, Fault> {
        let bytes = self.inner()?.objects.get(key).cloned().ok_or(Fault::NotFound)?;
        if bytes.len() > max { Err(Fault::Other("too long".into())) } else { Ok(bytes) }
    }

    fn len(&self, key: &str) -> Result<Option<u64>, Fault> {
        Ok(self.inner()?.objects.get(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &str, each: &mut dyn FnMut(&str, u64)) -> Result<(), Fault> {
        let inner = self.inner()?;
        inner.objects.iter().filter(|(key, _)| key.starts_with(prefix)).for_each(|(k, b)| each(k, b.len() as u64));
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), Fault> {
        self.inner()?.objects.remove(key);
        Ok(())
    }

    fn lock(&self) -> ObjectLock {
        ObjectLock::Off
    }
}

fn read(drive: &BucketDrive, name: &str) -> Result<Vec<u8>, DriveError> {
    let mut buf = vec![0xee; 1 << 16];
    let n = drive.read_at(name, 0, &mut buf)?;
    buf.truncate(n);
    Ok(buf)
}

fn names(drive: &BucketDrive, prefix: &str) -> Vec<String> {
    let mut all = Vec::new();
    drive.list(prefix, &mut |name| all.push(name.to_owned())).unwrap();
    all
}

#[test]
fn what_is_put_is_seen_after_the_sync_and_by_who_opens_it_anew() {
    for plain in [false, true] {
        let bucket = Bucket::default();
        bucket.set(|b| b.plain = plain);
        let drive = bucket.open();
        drive.put("shards/00/a.01", &[b"one ", b"two"], PutMode::New).unwrap();
        drive.put("drive.card", &[b"card"], PutMode::Replace).unwrap();
        assert_eq!(read(&drive, "shards/00/a.01"), Err(DriveError::NotFound));
        assert_eq!((drive.len("shards/00/a.01"), names(&drive, "").len()), (Ok(None), 0));
        drive.sync().unwrap();
        for drive in [drive, bucket.open()] {
            assert_eq!(read(&drive, "shards/00/a.01").unwrap(), b"one two");
            assert_eq!(drive.len("drive.card"), Ok(Some(4)));
            assert_eq!(names(&drive, "shards/"), ["shards/00/a.01"]);
            let mut part = [0; 3];
            assert_eq!((drive.read_at("shards/00/a.01", 4, &mut part), &part), (Ok(3), b"two"));
            assert_eq!(drive.read_at("shards/00/a.01", 7, &mut part), Ok(0));
            assert_eq!(
                drive.probed().map(|p| (p.conditional_put, p.checksum, p.ranges)),
                Some((!plain, !plain, !plain))
            );
        }
    }
}

#[test]
fn drives_of_several_vaults_in_one_bucket_share_nothing_but_that() {
    let bucket = Bucket::default();
    let size = Some(1000);
    let open = |prefix: &str| BucketDrive::open(Box::new(bucket.clone()), prefix, size, Opened::ToWrite).unwrap();
    // One prefix begins with the other.
    let (moon, mars) = (open("moon/d1"), open("moon/d10"));
    for (drive, bytes) in [(&moon, &b"one"[..]), (&mars, b"other")] {
        drive.put("drive.card", &[bytes], PutMode::New).unwrap();
        drive.append("journal", bytes).unwrap();
        drive.sync().unwrap();
    }
    for (drive, bytes) in [(&moon, &b"one"[..]), (&mars, b"other")] {
        assert_eq!((read(drive, "drive.card").unwrap(), read(drive, "journal").unwrap()), (bytes.into(), bytes.into()));
        assert_eq!(names(drive, ""), ["drive.card", "journal"]);
    }
    let room = |prefix: &str| open(prefix).space().unwrap().free;
    let before = room("moon/d10");
    moon.remove("drive.card").unwrap();
    moon.remove("journal").unwrap();
    assert!(names(&moon, "").is_empty() && names(&mars, "").len() == 2 && read(&mars, "journal").unwrap() == b"other");
    assert_eq!(room("moon/d10"), before);
    assert!(room("moon/d1") > before, "what another has is not counted");
}

#[test]
fn a_new_file_takes_no_name_that_another_has() {
    for plain in [false, true] {
        let bucket = Bucket::default();
        bucket.set(|b| b.plain = plain);
        let drive = bucket.open();
        drive.put("x", &[b"one"], PutMode::New).unwrap();
        drive.sync().unwrap();
        drive.put("x", &[b"one"], PutMode::New).unwrap();
        drive.sync().unwrap();
        let put = drive.put("x", &[b"two"], PutMode::New).and_then(|()| drive.sync());
        assert_eq!(put, Err(DriveError::Exists));
        assert!(drive.put("y", &[b"y"], PutMode::New).is_err(), "it failed before");
        let drive = bucket.open();
        assert_eq!(read(&drive, "x").unwrap(), b"one");
        drive.put("x", &[b"two"], PutMode::Replace).unwrap();
        drive.sync().unwrap();
        assert_eq!(read(&drive, "x").unwrap(), b"two");
    }
}

#[test]
fn what_is_abandoned_is_taken_back() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    drive.put("old", &[b"old"], PutMode::New).unwrap();
    drive.sync().unwrap();
    drive.put("old", &[b"new"], PutMode::Replace).unwrap();
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    drive.abandon();
    drive.sync().unwrap();
    assert_eq!((names(&drive, ""), read(&drive, "old").unwrap()), (vec!["old".to_owned()], b"old".to_vec()));
}

#[test]
fn a_file_that_is_appended_to_is_read_as_one() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    assert_eq!(drive.len("journal"), Ok(None));
    drive.put("journal", &[], PutMode::Replace).unwrap();
    drive.sync().unwrap();
    assert_eq!((drive.len("journal"), read(&drive, "journal")), (Ok(Some(0)), Ok(Vec::new())));
    let mut whole = Vec::new();
    for n in 0..500u32 {
        let record = vec![u8::try_from(n % 251).unwrap(); usize::try_from(n % 7 + 1).unwrap()];
        drive.append("journal", &record).unwrap();
        drive.append("journal", &[]).unwrap();
        drive.sync().unwrap();
        whole.extend(record);
    }
    assert_eq!(read(&drive, "journal").unwrap(), whole);
    assert!(bucket.keys().len() <= 64, "{} pieces", bucket.keys().len());
    let drive = bucket.open();
    assert_eq!((drive.len("journal"), read(&drive, "journal").unwrap()), (Ok(Some(whole.len() as u64)), whole));
    assert_eq!(names(&drive, ""), ["journal"]);
    drive.put("journal", &[b"anew "], PutMode::Replace).unwrap();
    drive.sync().unwrap();
    drive.append("journal", b"on").unwrap();
    drive.sync().unwrap();
    assert_eq!(read(&bucket.open(), "journal").unwrap(), b"anew on");
    assert_eq!(bucket.keys().len(), 2, "the old pieces are gone");
    drive.remove("journal").unwrap();
    assert_eq!(bucket.open().len("journal"), Ok(None));
}

#[test]
fn a_lost_piece_leaves_the_others_in_their_places() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    for part in [&b"one "[..], b"two ", b"three"] {
        drive.append("journal", part).unwrap();
        drive.sync().unwrap();
    }
    let second = bucket.keys().into_iter().find(|key| key.ends_with("/0000000000000004-00000004")).unwrap();
    bucket.set(|b| drop(b.objects.remove(&second)));
    // One that is open still knows of the piece, one that is opened anew does not.
    for drive in [drive, bucket.open()] {
        assert_eq!(read(&drive, "journal").unwrap(), b"one \0\0\0\0three");
    }
}

#[test]
fn a_put_whose_answer_was_lost_is_not_taken_for_a_good_one_and_does_no_harm() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    drive.append("journal", b"one").unwrap();
    drive.sync().unwrap();
    bucket.set(|b| b.mute_after = Some(0));
    drive.append("journal", b"two").unwrap();
    assert_eq!(drive.sync(), Err(DriveError::Gone));
    assert!(drive.append("journal", b"x").is_err(), "not before it is opened anew");
    let drive = bucket.open();
    drive.append("journal", b"three").unwrap();
    drive.sync().unwrap();
    assert_eq!(read(&bucket.open(), "journal").unwrap(), b"onetwothree");
    bucket.set(|b| b.mute_after = Some(0));
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    assert_eq!(drive.sync(), Err(DriveError::Gone));
    let drive = bucket.open();
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    drive.sync().unwrap();
}

#[test]
fn what_the_endpoint_keeps_wrongly_is_not_taken_for_durable() {
    for plain in [false, true] {
        let bucket = Bucket::default();
        bucket.set(|b| b.plain = plain);
        let drive = bucket.open();
        drive.put("x", &[b"x"], PutMode::New).unwrap();
        bucket.set(|b| b.lies_after = Some(0));
        drive.put("y", &[b"y"], PutMode::New).unwrap();
        assert!(matches!(drive.sync(), Err(DriveError::Io(_))));
        assert!(drive.sync().is_err(), "a failed sync is never taken back");
    }
}

#[test]
fn an_endpoint_that_is_gone_is_not_asked_again_and_again() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    drive.put("x", &[b"x"], PutMode::New).unwrap();
    drive.sync().unwrap();
    bucket.set(|b| (b.gone, b.requests) = (true, 0));
    for _ in 0..50 {
        assert_eq!(read(&drive, "x"), Err(DriveError::Gone));
    }
    assert_eq!(lock(&bucket.0).requests, 1);
    let opened = BucketDrive::open(Box::new(bucket.clone()), "", None, Opened::ToRead);
    assert!(matches!(opened.err(), Some(Fault::Gone(_))));
}

#[test]
fn an_object_that_is_refused_is_asked_for_a_few_times_and_others_and_what_is_put_there_anew_are_read() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    let body = vec![7; 64 << 10];
    for name in ["x", "y"] {
        drive.put(name, &[&body], PutMode::New).unwrap();
    }
    drive.sync().unwrap();
    let blocks = |drive: &BucketDrive, name: &str| {
        let block = |at: u64| drive.read_at(name, at * 1024, &mut [0; 1024]).is_ok();
        (0..64).filter(|at| block(*at)).count()
    };
    bucket.set(|b| {
        b.wrong.insert("moon/d0/x".into(), 0..u64::MAX);
        b.wrong.insert("moon/d0/y".into(), 20_000..20_001);
        b.requests = 0;
    });
    assert_eq!((blocks(&drive, "x"), lock(&bucket.0).requests), (0, 3));
    assert_eq!(drive.read_at("x", 0, &mut [0]), Err(DriveError::Io("the endpoint answers 500".into())));
    // One wrong sector does not take its neighbours with it.
    assert_eq!((blocks(&drive, "y"), lock(&bucket.0).requests), (63, 3 + 64));
    assert!(drive.len("x").unwrap().is_some() && names(&drive, "").len() == 2, "only reading is refused");
    drive.put("x", &[&body], PutMode::Replace).unwrap();
    drive.sync().unwrap();
    assert_eq!(blocks(&drive, "x"), 64);
}

#[test]
fn a_size_is_kept_and_room_is_told_where_one_is_set() {
    let bucket = Bucket::default();
    assert!(bucket.open().space().is_err());
    let open = || BucketDrive::open(Box::new(bucket.clone()), "moon", Some(10_000), Opened::ToWrite).unwrap();
    let drive = open();
    let before = drive.space().unwrap();
    assert!(before.total == 10_000 && before.free > 9000);
    drive.put("x", &[&[7; 5000]], PutMode::New).unwrap();
    drive.sync().unwrap();
    assert_eq!(drive.space().unwrap().free, before.free - 5000);
    assert_eq!(drive.put("y", &[&[7; 5000]], PutMode::New), Err(DriveError::Full));
    assert_eq!(open().space().unwrap().free, before.free - 5000);
    drive.remove("x").unwrap();
    drive.put("y", &[&[7; 5000]], PutMode::New).unwrap();
    drive.sync().unwrap();
    bucket.set(|b| b.full_after = Some(0));
    drive.put("z", &[b"z"], PutMode::New).unwrap();
    assert_eq!(drive.sync(), Err(DriveError::Full));
    bucket.set(|b| b.full_after = None);
    drive.put("z", &[b"z"], PutMode::New).unwrap();
    assert_eq!(drive.sync(), Ok(()), "one that was full may have room again");
}

#[test]
fn strange_names_and_writing_to_what_was_opened_to_read_are_refused() {
    let bucket = Bucket::default();
    let drive = bucket.open();
    for name in ["", "/x", "a//b", "a/../b", "probe/try", "journal/00000001/x", "a b"] {
        assert!(drive.put(name, &[b"x"], PutMode::New).is_err(), "{name:?}");
    }
    assert!(drive.append("x", b"x").is_err());
    let reader = BucketDrive::open(Box::new(bucket), "moon/d0", None, Opened::ToRead).unwrap();
    assert!(reader.put("x", &[b"x"], PutMode::New).is_err() && reader.append("journal", b"x").is_err());
    assert!(reader.remove("x").is_err() && reader.probed().is_some());
}
