use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::{CWD, FileType, mknodat};

use super::*;
use crate::model::digest::Algorithm;
use crate::model::finish::Receipt;

struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Ground {
        Ground { folder: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.root().join(relative)
    }

    /// A file that was sent.
    fn sent(&self, relative: &str, content: &str) -> Version {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let bytes = content.len() as u64;
        let digest = Digest::of(Algorithm::Xxh3, content.as_bytes());
        Version {
            job: JobId(7),
            path: relative.into(),
            fingerprint: Fingerprint::of(&fs::symlink_metadata(&path).unwrap()),
            ranges: if bytes > 0 { vec![(0..bytes, digest)] } else { Vec::new() },
        }
    }

    fn put(&self, version: &Version, fate: &Fate) -> io::Result<Put> {
        put_away(self.root(), version, fate, &|_| false)
    }

    /// All that lies in the folder.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut directories = vec![self.root().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                } else {
                    let path = entry.path();
                    names.push(path.strip_prefix(self.root()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        names.sort();
        names
    }
}

fn done() -> Fate {
    Fate::Move(Place::InFolder("done".into()))
}

#[test]
fn the_version_that_was_sent_is_deleted() {
    let ground = Ground::new();
    let version = ground.sent("a/report.pdf", "text");
    let other = ground.sent("a/other", "else");
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Deleted);
    assert_eq!(ground.names(), ["a/other"]);
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Gone, "done again after a crash");
    assert_eq!(ground.put(&other, &Fate::Keep).unwrap(), Put::Gone);
    assert_eq!(ground.names(), ["a/other"]);
}

#[test]
fn a_moved_file_keeps_its_path_below_the_folder_and_takes_nobodys_name() {
    let ground = Ground::new();
    for (content, expected) in
        [("one", "done/a/b/report.pdf"), ("two", "done/a/b/report.2.pdf"), ("three", "done/a/b/report.3.pdf")]
    {
        let version = ground.sent("a/b/report.pdf", content);
        assert_eq!(ground.put(&version, &done()).unwrap(), Put::Moved(ground.path(expected)));
        assert_eq!(fs::read_to_string(ground.path(expected)).unwrap(), content);
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let deep = Fate::Move(Place::At(elsewhere.path().join("not/mounted")));
    let version = ground.sent("a/b/report.pdf", "four");
    assert!(ground.put(&version, &deep).unwrap_err().to_string().starts_with("making "));
    let target = elsewhere.path().join("made");
    let version = ground.sent("a/b/report.pdf", "four");
    let put = ground.put(&version, &Fate::Move(Place::At(target.clone()))).unwrap();
    assert_eq!(put, Put::Moved(target.join("a/b/report.pdf")));
    assert_eq!(fs::read_to_string(target.join("a/b/report.pdf")).unwrap(), "four");
    assert_eq!(ground.names(), ["done/a/b/report.2.pdf", "done/a/b/report.3.pdf", "done/a/b/report.pdf"]);
}

#[test]
fn another_version_stays_where_it_is() {
    let ground = Ground::new();
    for fate in [Fate::Delete, done()] {
        let version = ground.sent("report", "first");
        // In place, of the same size; by a rename; and as what is no file at all.
        fs::write(ground.path("report"), "other").unwrap();
        assert_eq!(ground.put(&version, &fate).unwrap(), Put::Changed);
        fs::write(ground.path("new"), "newer one").unwrap();
        fs::rename(ground.path("new"), ground.path("report")).unwrap();
        assert_eq!(ground.put(&version, &fate).unwrap(), Put::Changed);
        assert_eq!(fs::read_to_string(ground.path("report")).unwrap(), "newer one");
        fs::remove_file(ground.path("report")).unwrap();
        symlink("/etc/passwd", ground.path("report")).unwrap();
        assert_eq!(ground.put(&version, &fate).unwrap(), Put::Changed);
        fs::remove_file(ground.path("report")).unwrap();
        mknodat(CWD, ground.path("report"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(ground.put(&version, &fate).unwrap(), Put::Changed);
        fs::remove_file(ground.path("report")).unwrap();
        fs::create_dir(ground.path("report")).unwrap();
        assert_eq!(ground.put(&version, &fate).unwrap(), Put::Changed);
        assert!(ground.path("report").is_dir());
        fs::remove_dir(ground.path("report")).unwrap();
    }
}

#[test]
fn the_same_bytes_under_other_times_are_the_same_version() {
    let ground = Ground::new();
    let version = ground.sent("report", "text");
    fs::set_permissions(ground.path("report"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(ground.path("copy"), "text").unwrap();
    fs::rename(ground.path("copy"), ground.path("report")).unwrap();
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Deleted);
    assert_eq!(ground.names(), [""; 0]);
}

#[test]
fn what_was_never_sent_is_known_by_its_inode_size_and_time() {
    let ground = Ground::new();
    let empty = ground.sent("empty", "");
    fs::set_permissions(ground.path("empty"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(ground.put(&empty, &done()).unwrap(), Put::Moved(ground.path("done/empty")));
    let empty = ground.sent("other", "");
    fs::remove_file(ground.path("other")).unwrap();
    fs::write(ground.path("keeps-the-inode-busy"), "").unwrap();
    fs::write(ground.path("other"), "").unwrap();
    assert_eq!(ground.put(&empty, &done()).unwrap(), Put::Changed);
}

#[test]
fn a_file_that_somebody_writes_to_is_left_alone_under_its_own_name() {
    let ground = Ground::new();
    let version = ground.sent("report.pdf", "text");
    let busy = put_away(ground.root(), &version, &Fate::Delete, &|private| {
        assert_eq!(private, Path::new(".upspool-7"));
        true
    });
    assert!(busy.unwrap_err().to_string().contains("open for writing"));
    assert_eq!(ground.names(), ["report.pdf"]);
    // Another file took its name meanwhile: nothing is lost, and nothing is overwritten.
    let busy = put_away(ground.root(), &version, &Fate::Delete, &|_| {
        fs::write(ground.path("report.pdf"), "new").unwrap();
        true
    });
    assert!(busy.is_err());
    assert_eq!(ground.names(), ["report.2.pdf", "report.pdf"]);
    assert_eq!(fs::read_to_string(ground.path("report.pdf")).unwrap(), "new");
    assert_eq!(fs::read_to_string(ground.path("report.2.pdf")).unwrap(), "text");
}

#[test]
fn a_writer_that_was_there_before_and_wrote_since_makes_it_another_version() {
    let ground = Ground::new();
    let version = ground.sent("report", "text");
    let changed = put_away(ground.root(), &version, &Fate::Delete, &|private| {
        fs::write(ground.root().join(private), "something longer").unwrap();
        false
    });
    assert_eq!(changed.unwrap(), Put::Changed);
    assert_eq!(fs::read_to_string(ground.path("report")).unwrap(), "something longer");
}

#[test]
fn a_crash_after_each_step_is_made_good() {
    let ground = Ground::new();
    // It had its private name.
    let version = ground.sent("a/report", "text");
    fs::rename(ground.path("a/report"), ground.path("a/.upspool-7")).unwrap();
    fs::write(ground.path("a/report"), "a new version, dropped meanwhile").unwrap();
    assert_eq!(ground.put(&version, &done()).unwrap(), Put::Moved(ground.path("done/a/report")));
    assert_eq!(ground.names(), ["a/report", "done/a/report"]);
    // It was moved, and nobody wrote that down.
    fs::remove_file(ground.path("a/report")).unwrap();
    assert_eq!(ground.put(&version, &done()).unwrap(), Put::Moved(ground.path("done/a/report")));
    // Or under a number, and the directory that it lay in has gone.
    fs::rename(ground.path("done/a/report"), ground.path("done/a/report.2")).unwrap();
    fs::write(ground.path("done/a/report"), "else").unwrap();
    fs::remove_dir(ground.path("a")).unwrap();
    assert_eq!(ground.put(&version, &done()).unwrap(), Put::Moved(ground.path("done/a/report.2")));
    // What has a private name of ours and is not this version belongs to somebody else.
    let version = ground.sent("b", "bbbb");
    fs::write(ground.path(".upspool-7"), "of another store").unwrap();
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Deleted);
    assert_eq!(fs::read_to_string(ground.path("b.2")).unwrap(), "of another store");
}

#[test]
fn a_name_that_a_crash_left_private_is_given_back() {
    let ground = Ground::new();
    ground.sent("a/report.pdf", "text");
    fs::rename(ground.path("a/report.pdf"), ground.path("a/.upspool-7")).unwrap();
    for _ in 0..2 {
        give_back(ground.root(), JobId(7), Path::new("a/report.pdf")).unwrap();
        assert_eq!(ground.names(), ["a/report.pdf"]);
    }
    fs::write(ground.path("a/.upspool-7"), "older").unwrap();
    give_back(ground.root(), JobId(7), Path::new("a/report.pdf")).unwrap();
    assert_eq!(ground.names(), ["a/report.2.pdf", "a/report.pdf"]);
    give_back(ground.root(), JobId(7), Path::new("none/report.pdf")).unwrap();
    // Where a second name stands in for a rename, a crash may leave both.
    let version = ground.sent("b", "bbbb");
    fs::hard_link(ground.path("b"), ground.path(".upspool-7")).unwrap();
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Deleted);
    assert_eq!(ground.names(), ["a/report.2.pdf", "a/report.pdf"]);
}

#[test]
fn a_target_below_another_folder_is_reached_by_no_link_from_there() {
    let (ground, other, outside) =
        (Ground::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fate = Fate::Move(Place::Below(other.path().to_owned(), "done".into()));
    let version = ground.sent("a/report", "text");
    symlink(outside.path(), other.path().join("done")).unwrap();
    assert!(ground.put(&version, &fate).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    fs::remove_file(other.path().join("done")).unwrap();
    assert_eq!(ground.put(&version, &fate).unwrap(), Put::Moved(other.path().join("done/a/report")));
}

#[test]
fn a_target_that_became_a_link_leads_nowhere() {
    let ground = Ground::new();
    let outside = tempfile::tempdir().unwrap();
    let version = ground.sent("a/report", "text");
    symlink(outside.path(), ground.path("done")).unwrap();
    let refused = ground.put(&version, &done()).unwrap_err();
    assert!(refused.to_string().starts_with("opening the target directory"), "{refused}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(ground.path("a/report")).unwrap(), "text", "under its own name again");
    // The directory of the source as well.
    fs::rename(ground.path("a"), ground.path("moved")).unwrap();
    symlink(outside.path(), ground.path("a")).unwrap();
    fs::write(outside.path().join("report"), "text").unwrap();
    assert_eq!(ground.put(&version, &Fate::Delete).unwrap(), Put::Gone);
    assert!(outside.path().join("report").exists());
}

/// A directory on another file system than the temporary one.
#[test]
fn directories_that_are_made_have_the_rights_of_the_one_that_they_lie_in() {
    let ground = Ground::new();
    fs::set_permissions(ground.root(), fs::Permissions::from_mode(0o2770)).unwrap();
    let version = ground.sent("a/report.pdf", "text");
    ground.put(&version, &Fate::Move(Place::InFolder("done".into()))).unwrap();
    for made in ["done", "done/a"] {
        assert_eq!(fs::metadata(ground.path(made)).unwrap().mode() & 0o7777, 0o2770, "{made}");
    }
}

fn other_file_system() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let here = tempfile::tempdir().unwrap();
    assert_ne!(device(directory.path()), device(here.path()), "/dev/shm is no other file system here");
    directory
}

#[test]
fn to_another_file_system_a_copy_goes_with_mode_and_time_before_the_source_does() {
    let (ground, other) = (Ground::new(), other_file_system());
    let fate = Fate::Move(Place::At(other.path().to_owned()));
    let content = "x".repeat(1_000_000);
    let version = ground.sent("a/report.pdf", &content);
    fs::set_permissions(ground.path("a/report.pdf"), fs::Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(ground.path("a/report.pdf")).unwrap();
    let target = other.path().join("a/report.pdf");
    assert_eq!(ground.put(&version, &fate).unwrap(), Put::Moved(target.clone()));
    assert_eq!(fs::read_to_string(&target).unwrap(), content);
    let after = fs::metadata(&target).unwrap();
    assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
    assert_eq!(ground.names(), [""; 0]);
    // The same again: the name is taken by another.
    let version = ground.sent("a/report.pdf", "short");
    assert_eq!(ground.put(&version, &fate).unwrap(), Put::Moved(other.path().join("a/report.2.pdf")));
    // A crash between the copy and the delete, and one in the middle of the copy.
    fs::write(ground.path("a/.upspool-7"), "short").unwrap();
    // Somebody else's, who uses the same target.
    fs::write(other.path().join("a/.upspool-7"), "sh").unwrap();
    assert_eq!(ground.put(&version, &fate).unwrap(), Put::Moved(other.path().join("a/report.2.pdf")));
    assert_eq!(ground.names(), [""; 0]);
    let version = ground.sent("a/new", "newer");
    assert_eq!(ground.put(&version, &fate).unwrap(), Put::Moved(other.path().join("a/new")));
    let mut left: Vec<_> =
        fs::read_dir(other.path().join("a")).unwrap().map(|one| one.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".upspool-7", "new", "report.2.pdf", "report.pdf"]);
}

#[test]
fn a_receipt_is_whole_and_replaces_the_older_one() {
    let ground = Ground::new();
    ground.sent("a/report.pdf", "text");
    for json in ["{\"id\":1}", "{\"id\":2}"] {
        write_receipt(ground.root(), Path::new("a/report.pdf"), &Receipt::Beside, JobId(7), json).unwrap();
        let written = fs::read_to_string(ground.path("a/report.pdf.upspool.json")).unwrap();
        assert_eq!(written, format!("{json}\n"));
    }
    let mode = fs::metadata(ground.path("a/report.pdf.upspool.json")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o644);
    let receipts = Receipt::In(Place::InFolder("receipts".into()));
    write_receipt(ground.root(), Path::new("a/report.pdf"), &receipts, JobId(7), "{}").unwrap();
    assert_eq!(
        ground.names(),
        ["a/report.pdf", "a/report.pdf.upspool.json", "receipts/a/report.pdf.upspool.json"]
    );
    for receipt in [Receipt::Beside, receipts, Receipt::None] {
        for _ in 0..2 {
            remove_receipt(ground.root(), Path::new("a/report.pdf"), &receipt).unwrap();
        }
    }
    assert_eq!(ground.names(), ["a/report.pdf"]);
    remove_receipt(ground.root(), Path::new("none/report.pdf"), &Receipt::Beside).unwrap();
}

#[test]
fn a_receipt_goes_through_no_link() {
    let (ground, outside) = (Ground::new(), tempfile::tempdir().unwrap());
    symlink(outside.path(), ground.path("a")).unwrap();
    fs::write(outside.path().join("x.upspool.json"), "theirs").unwrap();
    assert!(write_receipt(ground.root(), Path::new("a/x"), &Receipt::Beside, JobId(7), "{}").is_err());
    remove_receipt(ground.root(), Path::new("a/x"), &Receipt::Beside).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("x.upspool.json")).unwrap(), "theirs");
    // A link in the receipt's own place is replaced, not followed.
    fs::write(outside.path().join("target"), "theirs").unwrap();
    symlink(outside.path().join("target"), ground.path("y.upspool.json")).unwrap();
    write_receipt(ground.root(), Path::new("y"), &Receipt::Beside, JobId(7), "{}").unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("target")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(ground.path("y.upspool.json")).unwrap(), "{}\n");
}
