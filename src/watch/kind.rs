//! What kind of file system a folder lies on, and so what can be had there.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::presence::{Identity, Standing};

/// What can be had of a folder's file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FolderKind {
    /// Its name, for people.
    pub name: &'static str,
    /// Whether the kernel tells of every change, whoever makes it. Not so where another machine can.
    pub events: bool,
    /// Whether the times of change come from this machine's own clock, and nobody else sets them.
    pub local_times: bool,
    /// Whether it can be tested that nobody has a file open for writing. Each file has the last word.
    pub lease: bool,
    /// The directory itself.
    pub root: Standing,
}

impl FolderKind {
    /// Of which nothing is known yet, and nothing can be had.
    pub const UNKNOWN: FolderKind = FolderKind {
        name: "unknown",
        events: false,
        local_times: false,
        lease: false,
        root: Standing { identity: Identity { file_system: 0, fsid: 0, inode: 0 }, device: 0, made_up: true },
    };

    /// Whether a folder is still the directory that it was a moment ago.
    pub(super) fn is_still(&self, now: &FolderKind) -> bool {
        self.root.is_still(&now.root)
    }

    /// Whether to open a file on it asks this machine alone, and so takes no longer than to find it. Of what lies below an overlay
    /// nobody can tell.
    pub fn is_near(&self) -> bool {
        self.events && self.root.identity.file_system != OVERLAY
    }

    /// Asks the system. Blocks, for ever where a file server does not answer.
    pub fn probe(root: &Path) -> io::Result<FolderKind> {
        let metadata = std::fs::metadata(root)?;
        if !metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        // The field is signed on some machines: its 32 bits are what counts.
        let magic = u64::from(rustix::fs::statfs(root)?.f_type as u32);
        let fsid = rustix::fs::statvfs(root)?.f_fsid;
        Ok(FolderKind::of(magic, fsid, &metadata))
    }

    fn of(magic: u64, fsid: u64, metadata: &Metadata) -> FolderKind {
        let (name, [events, local_times, lease]) = FILE_SYSTEMS
            .iter()
            .find(|(number, ..)| *number == magic)
            .map_or(("an unknown file system", NETWORK), |(_, name, can)| (name, *can));
        let identity = Identity { file_system: magic, fsid, inode: metadata.ino() };
        // Where other machines write, the server may make up the inodes as they are asked for.
        let root = Standing { identity, device: metadata.dev(), made_up: !events };
        FolderKind { name, events, local_times, lease, root }
    }
}

/// Events, times and leases can be had.
const LOCAL: [bool; 3] = [true, true, true];
/// Written by this machine alone, but without a time of change that is worth the name.
const FOREIGN: [bool; 3] = [true, false, true];
/// Others may write to it.
const NETWORK: [bool; 3] = [false, false, false];

const OVERLAY: u64 = 0x794c_7630;

/// By the numbers of `statfs(2)`. What is not here is treated as a network's: slower, never wrong.
const FILE_SYSTEMS: &[(u64, &str, [bool; 3])] = &[
    (0xef53, "ext4", LOCAL),
    (0x5846_5342, "xfs", LOCAL),
    (0x9123_683e, "btrfs", LOCAL),
    (0x0102_1994, "tmpfs", LOCAL),
    (0x8584_58f6, "ramfs", LOCAL),
    (OVERLAY, "overlay", LOCAL),
    (0xf2f5_2010, "f2fs", LOCAL),
    (0xca45_1a4e, "bcachefs", LOCAL),
    (0x2fc1_2fc1, "zfs", LOCAL),
    (0x3153_464a, "jfs", LOCAL),
    (0x3434, "nilfs", LOCAL),
    (0x4d44, "vfat", FOREIGN),
    (0x2011_bab0, "exfat", FOREIGN),
    (0x7366_746e, "ntfs", FOREIGN),
    (0x6969, "nfs", NETWORK),
    (0x517b, "smb", NETWORK),
    (0xff53_4d42, "cifs", NETWORK),
    (0xfe53_4d42, "smb", NETWORK),
    (0x0102_1997, "9p", NETWORK),
    (0x6573_5546, "fuse", NETWORK),
    (0x00c3_6400, "ceph", NETWORK),
    (0x0bd0_0bd0, "lustre", NETWORK),
    (0x4750_4653, "gpfs", NETWORK),
    (0x0116_1970, "gfs2", NETWORK),
    (0x7461_636f, "ocfs2", NETWORK),
    (0x5346_414f, "afs", NETWORK),
    (0x6b41_4653, "afs", NETWORK),
    (0x786f_4256, "vboxsf", NETWORK),
    (0xbacb_acbc, "vmhgfs", NETWORK),
    (0x1983_0326, "beegfs", NETWORK),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_a_kind_and_what_is_none_has_not() {
        let directory = tempfile::tempdir().unwrap();
        let kind = FolderKind::probe(directory.path()).unwrap();
        assert_ne!(kind.root, Standing::default());
        assert_eq!(kind, FolderKind::probe(directory.path()).unwrap());
        let missing = FolderKind::probe(&directory.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(FolderKind::probe(&file).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_file_system_that_nobody_knows_is_treated_as_a_networks() {
        let metadata = std::fs::metadata("/").unwrap();
        let kind = FolderKind::of(0x1234_5678, 1, &metadata);
        assert!(!kind.events && !kind.local_times && !kind.lease);
        assert!(FolderKind::of(0xef53, 1, &metadata).lease);
    }

    #[test]
    fn what_is_opened_without_a_wait_lies_on_a_disk_of_this_machine() {
        let metadata = std::fs::metadata("/").unwrap();
        let near = |magic| FolderKind::of(magic, 1, &metadata).is_near();
        assert!(near(0xef53) && near(0x0102_1994));
        assert!(!near(0x6969) && !near(0x6573_5546) && !near(OVERLAY) && !near(0x1234_5678));
        assert!(!FolderKind::UNKNOWN.is_near());
    }

    #[test]
    fn no_number_stands_twice() {
        let numbers: std::collections::BTreeSet<_> = FILE_SYSTEMS.iter().map(|(number, ..)| number).collect();
        assert_eq!(numbers.len(), FILE_SYSTEMS.len());
    }
}
