//! Real file systems, small enough to fill: for whoever may mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::Bench;

/// A file system of its own under a state directory. Unmounted when it is dropped.
pub struct Mount {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Mount {
    /// ext4 in a file of the bench. None, and a line that says why, where that cannot be had.
    pub fn ext4(bench: &Bench, mebibytes: u64) -> Option<Mount> {
        let image = bench.path("disk");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let mount = Mount { at: made(bench.state_dir()), image: Some(image.clone()) };
        // Without a reserve for root, who would not meet the end of the disk.
        if !run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image)) || !mount.mount() {
            return not_run("a loop mount of ext4");
        }
        Some(mount)
    }

    /// Memory with a limit.
    pub fn tmpfs(bench: &Bench, mebibytes: u64) -> Option<Mount> {
        let at = made(bench.state_dir());
        let size = format!("size={mebibytes}m,mode=0750");
        if !run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&at)) {
            return not_run("a mount of tmpfs");
        }
        Some(Mount { at, image: None })
    }

    /// Memory on any directory.
    pub fn tmpfs_at(at: PathBuf, mebibytes: u64) -> Option<Mount> {
        Mount::with(at, &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "none"])
    }

    /// A directory under a second name.
    pub fn bind(from: &Path, at: PathBuf) -> Option<Mount> {
        Mount::with(at, &["--bind", from.to_str().unwrap()])
    }

    /// A directory, seen through an overlay whose changes lie in directories below `work`.
    pub fn overlay(lower: &Path, work: &Path, at: PathBuf) -> Option<Mount> {
        let (upper, work) = (made(work.join("upper")), made(work.join("work")));
        let [lower, upper, work] = [lower, &upper, &work].map(|path| path.to_str().unwrap());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Mount::with(at, &["-t", "overlay", "-o", &options, "none"])
    }

    fn with(at: PathBuf, arguments: &[&str]) -> Option<Mount> {
        if !run(Command::new("mount").args(arguments).arg(made(at.clone()))) {
            return not_run(&format!("mount {}", arguments.join(" ")));
        }
        Some(Mount { at, image: None })
    }

    /// Mounts it again.
    pub fn mount(&self) -> bool {
        let image = self.image.as_deref().unwrap();
        run(Command::new("mount").args(["-o", "loop,errors=remount-ro"]).arg(image).arg(&self.at))
    }

    pub fn umount(&self) -> bool {
        run(Command::new("umount").arg(&self.at))
    }

    pub fn remount(&self, options: &str) -> bool {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.at))
    }

    /// Takes all the room that is left, but for some KiB. Gives back what takes it.
    pub fn fill(&self, leave: u64) -> PathBuf {
        let ballast = self.at.join("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let block = [7; 4096];
        // Until the disk says that it is full.
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        file.sync_all().ok();
        let length = file.metadata().unwrap().len();
        file.set_len(length - (leave << 10)).unwrap();
        file.sync_all().unwrap();
        ballast
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whatever still uses it goes with the test.
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

fn made(path: PathBuf) -> PathBuf {
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn not_run<T>(what: &str) -> Option<T> {
    let line = format!("NOT RUN: this test needs root and {what}\n");
    // Past the capture, so that nobody takes it for a test that passed.
    std::io::Write::write_all(&mut std::fs::File::create("/dev/stderr").unwrap(), line.as_bytes()).ok();
    None
}

/// How many bytes are free.
pub fn free(path: &Path) -> u64 {
    let found = rustix::fs::statvfs(path).unwrap();
    found.f_bavail * found.f_frsize
}
