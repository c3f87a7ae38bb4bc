//! What a drive of a new vault is, as people say it: where it is, what it is called, what it shares its fate with.
//!
//! It must not know how drives are opened. Step 14 of the walk.

use std::path::PathBuf;
use std::str::FromStr;

use lavatube_base::DriveId;
use lavatube_format::drive_card::SlotCard;

use crate::places::{self, BucketAt};

/// One drive of a new vault.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriveSpec {
    /// Its folder, or the bucket it is in.
    pub folder: PathBuf,
    /// What people call it.
    pub label: String,
    /// Its shelf: what fails together.
    pub shelf: String,
    /// Its maker.
    pub maker: String,
    /// Its model.
    pub model: String,
}

impl FromStr for DriveSpec {
    type Err = String;

    /// Reads `/mnt/a,maker=WD,model=X,shelf=left,label=A`, or `s3://bucket/prefix,endpoint=http://host:8333,size=2TB,shelf=far`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let folder = parts.next().unwrap_or_default();
        if folder.is_empty() || folder.contains('=') {
            return Err("it begins with the drive's folder: /mnt/a,maker=WD,shelf=left".into());
        }
        let mut bucket = if BucketAt::is_meant(folder) { Some(folder.parse::<BucketAt>()?) } else { None };
        let mut spec = Self { folder: folder.into(), ..Self::default() };
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=VALUE"))?;
            let field = match name.trim() {
                "label" => &mut spec.label,
                "shelf" => &mut spec.shelf,
                "maker" => &mut spec.maker,
                "model" => &mut spec.model,
                other => match &mut bucket {
                    Some(bucket) => {
                        if bucket.set(other, value.trim())? {
                            continue;
                        }
                        let has = "label, shelf, maker and model, and in a bucket endpoint, region, profile and size";
                        return Err(format!("a drive has {has}, not {other:?}"));
                    }
                    None => return Err(format!("a drive has label, shelf, maker and model, not {other:?}")),
                },
            };
            value.trim().clone_into(field);
        }
        if let Some(bucket) = bucket {
            spec.folder = bucket.to_string().into();
        }
        spec.fill_label();
        Ok(spec)
    }
}

impl std::fmt::Display for DriveSpec {
    /// As it is read.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.folder.display())?;
        let named = [("label", &self.label), ("shelf", &self.shelf), ("maker", &self.maker), ("model", &self.model)];
        named.iter().filter(|(_, value)| !value.is_empty()).try_for_each(|(name, value)| write!(f, ",{name}={value}"))
    }
}

impl DriveSpec {
    /// Gives it the name of its folder, if it has no label.
    pub fn fill_label(&mut self) {
        if self.label.is_empty() {
            self.label = places::name(&self.folder);
        }
    }

    /// Its entry on the cards, as drive `drive`.
    pub(crate) fn card(&self, drive: DriveId) -> SlotCard {
        let Self { label, shelf, maker, model, .. } = self.clone();
        SlotCard { drive, label, shelf, maker, model, retired: false }
    }
}
