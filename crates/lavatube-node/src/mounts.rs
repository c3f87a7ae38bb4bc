//! Where file systems are mounted: what tells a drive that was emptied from one whose disk is not there.
//!
//! A mount point without its disk is an empty folder of another disk, and must not be taken for the drive. Device numbers
//! tell a mount point from its parent; no table of mounts is read. It must not know what a drive is. No step of the walk.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The mount point of the file system that `path` is on.
///
/// # Errors
/// When `path` is not there.
pub fn mount_of(path: &Path) -> io::Result<PathBuf> {
    let path = path.canonicalize()?;
    let device = path.metadata()?.dev();
    let is_here = |folder: &&Path| folder.metadata().is_ok_and(|m| m.dev() == device);
    let mount = path.ancestors().take_while(is_here).last();
    Ok(mount.unwrap_or(&path).to_owned())
}

/// Whether `path` lies below `mount`, and no file system is mounted there. `path` need not exist.
pub fn is_unmounted(mount: &Path, path: &Path) -> bool {
    let below = path.ancestors().find_map(|above| {
        // What is not there has no links to follow.
        let rest = path.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    });
    below.is_some_and(|path| path.starts_with(mount)) && mount_of(mount).ok().as_deref() != Some(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_always_mounted_and_a_plain_folder_never() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        assert!(!is_unmounted(Path::new("/"), &folder));
        assert!(is_unmounted(&folder, &folder.join("gone/too")), "below it");
        assert!(!is_unmounted(&folder.join("disk"), &folder.join("elsewhere")), "not below it: it was moved");
        assert!(is_unmounted(&folder.join("disk"), &folder.join("disk")), "no mount point at all");
        let mount = mount_of(&folder).unwrap();
        assert!(folder.starts_with(&mount) && mount != folder);
        assert!(!is_unmounted(&mount, &folder));
        std::os::unix::fs::symlink("disk", folder.join("link")).unwrap();
        std::fs::create_dir(folder.join("disk")).unwrap();
        assert!(is_unmounted(&folder.join("disk"), &folder.join("link/drive")), "through a link");
    }
}
