//! Which drives a new vault gets: from options, from the configuration, or six folders in its own folder.
//!
//! Must not know how a vault is made.

use std::path::{Path, PathBuf};

use lavatube_node::depositor::VaultPlan;
use lavatube_node::embedded::DriveSpec;
use lavatube_node::places;

use crate::config::Config;
use crate::errors::{Condition, Failure};

/// The shape of a vault that is made: options of `init` and `backup`.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "The vault, when it is made")]
pub struct ShapeArgs {
    /// Drives as folders, separated by commas [default: six folders inside the vault's folder]
    #[arg(long, value_name = "DIR,DIR,…", value_delimiter = ',')]
    pub drives: Vec<PathBuf>,
    /// Data shards of each stripe [default: 4]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u8).range(1..))]
    pub data: Option<u8>,
    /// Parity shards of each stripe: so many drives may fail at once [default: 2]
    #[arg(long, value_name = "M")]
    pub parity: Option<u8>,
}

impl ShapeArgs {
    /// Whether any of them was given.
    pub fn is_given(&self) -> bool {
        !self.drives.is_empty() || self.data.is_some() || self.parity.is_some()
    }
}

/// The plan of a vault: drives given one by one, or as folders, or configured, or the default ones.
///
/// # Errors
/// A usage failure when drives and shards do not go together.
pub fn plan(single: &[DriveSpec], shape: &ShapeArgs, config: &Config, here: &Path) -> Result<VaultPlan, Failure> {
    let bad = |what: String| Failure::new(Condition::Usage, what);
    let mut drives: Vec<DriveSpec> = if !single.is_empty() || !shape.drives.is_empty() {
        let plain = shape.drives.iter().map(|folder| DriveSpec { folder: folder.clone(), ..DriveSpec::default() });
        let given = single.iter().cloned().chain(plain);
        given
            .map(|d| Ok(DriveSpec { folder: places::given(here, &d.folder).map_err(bad)?, ..d }))
            .collect::<Result<_, Failure>>()?
    } else {
        config.drives.clone()
    };
    let count = drives.len();
    let parity = shape.parity.or(config.parity).map(usize::from);
    let data = shape.data.or(config.data).map(usize::from);
    let parity = parity.unwrap_or_else(|| match (count, data) {
        (0, _) => 2,
        (n, Some(k)) => n.saturating_sub(k).min(2),
        (n, None) => [0, 0, 1, 1].get(n).copied().unwrap_or(2),
    });
    let data = data.unwrap_or(if count == 0 { 4 } else { count.saturating_sub(parity) });
    if count == 0 {
        let folder = |i| PathBuf::from(format!("drives/d{i}"));
        drives = (0..data + parity).map(|i| DriveSpec { folder: folder(i), ..DriveSpec::default() }).collect();
    }
    if data == 0 || data + parity > drives.len() {
        return Err(bad(format!(
            "{data} data and {parity} parity shards need {} drives, and {count} are given",
            data + parity
        ))
        .hint("give more drives, or lower --data or --parity"));
    }
    for i in 0..drives.len() {
        drives[i].fill_label();
        if drives[..i].iter().any(|d| d.folder == drives[i].folder) {
            return Err(bad(format!("the drive {} is given twice", drives[i].folder.display()))
                .hint("shards on one drive are lost together: give each drive once"));
        }
        // Two drives people call alike would be a riddle in every report.
        if drives[..i].iter().any(|d| d.label == drives[i].label) {
            drives[i].label = format!("{}-{i}", drives[i].label);
        }
    }
    let (k, m) = (u8::try_from(data), u8::try_from(parity));
    match (k, m) {
        (Ok(k), Ok(m)) => Ok(VaultPlan { k, m, drives }),
        _ => Err(bad(format!("{} shards are more than a stripe can have (255)", data + parity))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DriveSpec, String> {
        text.parse()
    }

    fn shape(drives: usize, data: Option<u8>, parity: Option<u8>) -> Result<(u8, u8, usize), Failure> {
        let drives = (0..drives).map(|i| format!("/mnt/{i}").into()).collect();
        let plan = plan(&[], &ShapeArgs { drives, data, parity }, &Config::default(), Path::new("/"))?;
        Ok((plan.k, plan.m, plan.drives.len()))
    }

    #[test]
    fn the_shape_follows_the_drives() {
        assert_eq!(shape(0, None, None).unwrap(), (4, 2, 6));
        assert_eq!(shape(0, Some(2), Some(1)).unwrap(), (2, 1, 3));
        assert_eq!(shape(6, None, None).unwrap(), (4, 2, 6));
        assert_eq!(shape(3, None, None).unwrap(), (2, 1, 3));
        assert_eq!(shape(1, None, None).unwrap(), (1, 0, 1));
        assert_eq!(shape(10, None, Some(3)).unwrap(), (7, 3, 10));
        assert_eq!(shape(8, Some(4), None).unwrap(), (4, 2, 8));
        assert_eq!(shape(5, Some(4), Some(2)).unwrap_err().condition, Condition::Usage);
        assert_eq!(shape(2, None, Some(2)).unwrap_err().condition, Condition::Usage);
    }

    #[test]
    fn a_drive_is_read_with_its_labels() {
        let drive = parse("/mnt/a,maker=WD,model=X 1,shelf=left").unwrap();
        let DriveSpec { folder, label, shelf, maker, model } = drive;
        assert_eq!(folder, Path::new("/mnt/a"));
        assert_eq!([label, shelf, maker, model].join("|"), "a|left|WD|X 1");
        assert!(parse("maker=WD").is_err());
        assert!(parse("/mnt/a,size=3").is_err());
        assert!(parse("/mnt/a,left").is_err());
    }

    #[test]
    fn one_drive_cannot_be_two_and_two_cannot_have_one_name() {
        let twice = [parse("/mnt/a").unwrap(), parse("/mnt/a").unwrap()];
        assert!(plan(&twice, &ShapeArgs::default(), &Config::default(), Path::new("/")).is_err());
        let alike = [parse("/mnt/a/v").unwrap(), parse("/mnt/b/v").unwrap()];
        let plan = plan(&alike, &ShapeArgs::default(), &Config::default(), Path::new("/")).unwrap();
        assert_eq!([&*plan.drives[0].label, &*plan.drives[1].label], ["v", "v-1"]);
    }
}
