//! Where drives are: folders of this computer, or prefixes of buckets.
//!
//! A drive's place is a path wherever drives are listed; one that begins with `s3://` is a bucket. A build without the feature
//! `s3` knows such places and says so, and reaches none. It must not know what is on a drive. Step 15 of the walk.

use std::path::{Path, PathBuf};

pub use lavatube_bucket::probe;
pub use lavatube_bucket::{BucketAt, ObjectLock, Probed};
use lavatube_format::drive_card::DriveCard;
use lavatube_vault::drive::{Drive, DriveError};

use crate::directory_drive::DirectoryDrive;

/// How a drive is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read.
    Read,
    /// To read and to write.
    Write,
    /// The same, and what is read comes from the disks.
    PastCache,
}

/// A drive that was opened, or why not.
pub(crate) type Opened = Result<(Box<dyn Drive>, Option<Probed>), String>;

/// What was seen of the place of a drive when the vault was opened.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What a bucket's endpoint has shown of itself.
    pub probed: Option<Probed>,
    /// Why it could not be opened.
    pub trouble: Option<String>,
}

/// The bucket that a drive's place means, if it is none of a folder.
pub fn bucket(place: &Path) -> Option<&str> {
    place.to_str().filter(|text| BucketAt::is_meant(text))
}

/// A drive's place, as it stands in the vault file in `folder`.
pub fn at(folder: &Path, place: &Path) -> PathBuf {
    if bucket(place).is_some() { place.to_owned() } else { folder.join(place) }
}

/// A place given by a person who is in `here`; a bucket in the one way in which it is written.
///
/// # Errors
/// What is wrong with a bucket.
pub fn given(here: &Path, place: &Path) -> Result<PathBuf, String> {
    match bucket(place) {
        Some(text) => text.parse::<BucketAt>().map(|at| at.to_string().into()),
        None => Ok(std::path::absolute(here.join(place)).unwrap_or_else(|_| place.to_owned())),
    }
}

/// What a drive is called by its place.
pub(crate) fn name(place: &Path) -> String {
    match bucket(place) {
        Some(text) => text.parse::<BucketAt>().map_or_else(|_| text.to_owned(), |at| at.label().to_owned()),
        None => place.file_name().unwrap_or(place.as_os_str()).to_string_lossy().into_owned(),
    }
}

/// Opens the drive at a place.
pub(crate) fn open(place: &Path, access: Access) -> Opened {
    if let Some(text) = bucket(place) {
        return open_bucket(text, access);
    }
    let drive = match access {
        Access::Read => DirectoryDrive::open_read_only(place),
        Access::Write => DirectoryDrive::open(place),
        Access::PastCache => DirectoryDrive::open(place).map(DirectoryDrive::past_cache),
    };
    drive.map(|drive| (Box::new(drive) as Box<dyn Drive>, None)).map_err(|e| e.to_string())
}

/// Opens all drives, those in buckets at the same time: one that is gone is waited for, and only once for all.
pub(crate) fn open_all(places: &[PathBuf], access: Access) -> Vec<Opened> {
    std::thread::scope(|scope| {
        let begin = |place: &'_ PathBuf| {
            let place = place.clone();
            match bucket(&place) {
                Some(_) => Err(scope.spawn(move || open(&place, access))),
                None => Ok(open(&place, access)),
            }
        };
        let begun: Vec<_> = places.iter().map(begin).collect();
        let ended = begun.into_iter().map(|opened| match opened {
            Ok(opened) => opened,
            Err(thread) => thread.join().unwrap_or_else(|_| Err("it could not be opened".into())),
        });
        ended.collect()
    })
}

/// Whether the drive at a place answers; that may take its time.
pub(crate) fn answers(place: &Path) -> bool {
    open(place, Access::Read).is_ok_and(|(drive, _)| card_in_bucket(&*drive).is_ok_and(|card| card.is_some()))
}

#[cfg(feature = "s3")]
fn open_bucket(text: &str, access: Access) -> Opened {
    use lavatube_bucket::{BucketDrive, Opened as How, Wire};
    let at: BucketAt = text.parse()?;
    let how = if access == Access::Read { How::ToRead } else { How::ToWrite };
    let drive = BucketDrive::open(Box::new(Wire::new(&at)?), &at.prefix, at.size, how).map_err(|e| e.to_string())?;
    let probed = drive.probed().cloned();
    Ok((Box::new(drive), probed))
}

#[cfg(not(feature = "s3"))]
fn open_bucket(text: &str, _access: Access) -> Opened {
    text.parse::<BucketAt>()?;
    Err(WITHOUT.into())
}

/// The card of the drive in a bucket; `None` when there is none.
///
/// # Errors
/// In words, when it cannot be looked for.
pub(crate) fn card_in_bucket(drive: &dyn Drive) -> Result<Option<DriveCard>, DriveError> {
    let Some(len) = drive.len(CARD_FILE)? else { return Ok(None) };
    let mut bytes = vec![0; usize::try_from(len.min(CARD_LEN_MAX)).unwrap_or_default()];
    let read = drive.read_at(CARD_FILE, 0, &mut bytes)?;
    Ok(DriveCard::decode(&bytes[..read]).ok())
}

pub(crate) const CARD_FILE: &str = "drive.card";
/// More than any card has, twice.
const CARD_LEN_MAX: u64 = 256 << 10;
/// What a build says that cannot reach buckets.
#[cfg(not(feature = "s3"))]
const WITHOUT: &str = "this lavatube was built without drives in buckets: build it with them, as in \
                       `cargo install --path crates/lavatube-cli --features s3`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_not_below_a_folder() {
        let (vault, bucket) = (Path::new("/v"), Path::new("s3://abc/moon?endpoint=http://h:1"));
        assert_eq!(at(vault, bucket), bucket);
        assert_eq!(at(vault, Path::new("d0")), Path::new("/v/d0"));
        assert_eq!(given(vault, Path::new("s3://abc/moon/")).unwrap(), Path::new("s3://abc/moon"));
        assert!(given(vault, Path::new("s3://A")).is_err());
        assert_eq!((name(bucket), name(Path::new("/v/d0"))), ("moon".into(), "d0".into()));
    }

    #[test]
    #[cfg(not(feature = "s3"))]
    fn a_build_without_buckets_says_how_to_get_them() {
        let text = open(Path::new("s3://abc"), Access::Read).err().unwrap();
        assert!(text.contains("--features s3"), "{text}");
    }
}
