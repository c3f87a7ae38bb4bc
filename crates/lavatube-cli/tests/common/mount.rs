//! A small file system, for tests of full disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, mounted over a folder.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(folder: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder);
        mount.output().is_ok_and(|o| o.status.success()).then(|| Self(folder.to_owned()))
    }

    /// The same file system at a second place, for as long as this lives.
    pub fn also_at(&self, folder: &Path) -> Self {
        fs::create_dir_all(folder).unwrap();
        assert!(Command::new("mount").arg("--bind").arg(&self.0).arg(folder).status().unwrap().success());
        Self(folder.to_owned())
    }

    pub fn resize(&self, size: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
