//! Which files of a folder are taken, by their names alone. Touches no file.
//!
//! A path is judged from the top: what lies in an ignored directory is ignored for the directory's reason.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// A pattern that is none.
pub type PatternError = globset::Error;

/// What a folder takes.
#[derive(Clone, Debug)]
pub struct TakeRules {
    include: Globs,
    exclude: Globs,
    hidden: bool,
}

/// What the rules say of a path.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is taken, or for a directory: what lies in it is judged further.
    Taken,
    /// It is not, and this rule says so.
    Ignored(Rule),
}

/// The rule by which a path is ignored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The name is, or is like, one that a program gives to what is not finished or not meant for others.
    Temporary {
        /// Whose names these are.
        whose: &'static str,
        /// The pattern that fits.
        pattern: &'static str,
        /// The file or directory that it fits.
        path: PathBuf,
    },
    /// The name begins with a dot, and the folder takes no hidden files.
    Hidden {
        /// The file or directory with such a name.
        path: PathBuf,
    },
    /// A pattern of `exclude` fits.
    Excluded {
        /// The pattern as it was written.
        pattern: String,
        /// The file or directory that it fits.
        path: PathBuf,
    },
    /// No pattern of `include` fits.
    NotIncluded,
    /// The path is not one below a folder.
    NotBelow,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Temporary { whose, pattern, path } => {
                write!(f, "{path:?} is ignored as a temporary name of {whose} ({pattern})")
            }
            Rule::Hidden { path } => write!(f, "{path:?} is hidden, and hidden = false"),
            Rule::Excluded { pattern, path } => write!(f, "{path:?} is excluded by {pattern:?}"),
            Rule::NotIncluded => f.write_str("no pattern of include fits"),
            Rule::NotBelow => f.write_str("not a path below the folder"),
        }
    }
}

impl TakeRules {
    /// Rules from patterns as a person writes them.
    ///
    /// A pattern without a slash fits a name at any depth, as in rsync, rclone and git. One with a slash fits the path
    /// below the folder; a slash at its beginning says just that. One that ends in a slash fits all that lies in
    /// directories of that name. `*` and `?` do not cross a slash, `**` does.
    pub fn new<S: AsRef<str>>(
        include: &[S],
        exclude: &[S],
        hidden: bool,
    ) -> Result<TakeRules, globset::Error> {
        Ok(TakeRules { include: Globs::new(include)?, exclude: Globs::new(exclude)?, hidden })
    }

    /// Rules that take everything but the built-in list and hidden files.
    pub fn everything() -> TakeRules {
        TakeRules { include: Globs::anything(), exclude: Globs::nothing(), hidden: false }
    }

    /// Judges a path below the folder, and each directory on the way to it.
    pub fn judge(&self, relative: &Path, is_directory: bool) -> Verdict {
        let mut path = PathBuf::new();
        let mut components = relative.components().peekable();
        if components.peek().is_none() {
            return Verdict::Ignored(Rule::NotBelow);
        }
        while let Some(component) = components.next() {
            let Component::Normal(name) = component else { return Verdict::Ignored(Rule::NotBelow) };
            path.push(name);
            let verdict = self.judge_last(&path, is_directory || components.peek().is_some());
            if verdict != Verdict::Taken {
                return verdict;
            }
        }
        Verdict::Taken
    }

    /// Judges a path whose directory is known to be taken.
    pub(super) fn judge_last(&self, relative: &Path, is_directory: bool) -> Verdict {
        let Some(name) = relative.file_name() else { return Verdict::Ignored(Rule::NotBelow) };
        if let Some((whose, pattern)) = temporary(name, is_directory) {
            return Verdict::Ignored(Rule::Temporary { whose, pattern, path: relative.into() });
        }
        if !self.hidden && name.as_bytes().starts_with(b".") {
            return Verdict::Ignored(Rule::Hidden { path: relative.into() });
        }
        if let Some(pattern) = self.exclude.fitting(relative) {
            return Verdict::Ignored(Rule::Excluded { pattern: pattern.into(), path: relative.into() });
        }
        if !is_directory && self.include.fitting(relative).is_none() {
            return Verdict::Ignored(Rule::NotIncluded);
        }
        Verdict::Taken
    }
}

/// Names that are given to what is not finished, or not meant for others: whose they are, where they fit, the pattern.
/// Compared without regard to case.
const TEMPORARY: &[(&str, Fits, &str)] = {
    use Fits::{Any, Directory, File};
    &[
        ("upspool", Any, ".upspool-*"),
        ("upspool", File, "*.upspool.json"),
        ("Nextcloud and ownCloud", File, "*.ocTransferId*.part"),
        ("mc", File, "*.part.minio"),
        ("browsers", File, "*.crdownload"),
        ("browsers", File, "*.part"),
        ("browsers and rclone", File, "*.partial"),
        ("browsers", Any, "*.download"),
        ("browsers", File, "*.opdownload"),
        ("aria2", File, "*.aria2"),
        ("WinSCP", File, "*.filepart"),
        ("rsync", Directory, ".~tmp~"),
        ("rsync", Directory, ".rsync-partial"),
        ("Pure-FTPd", File, ".pureftpd-upload.*"),
        ("ProFTPD", File, ".in.*."),
        ("Syncthing", File, ".syncthing.*.tmp"),
        ("Syncthing", File, "~syncthing~*"),
        ("Syncthing", Directory, ".stversions"),
        ("Syncthing", Any, ".stfolder"),
        ("Office", File, "~$*"),
        ("Office and many others", File, "*.tmp"),
        ("LibreOffice", File, ".~lock.*#"),
        ("vim", File, "*.sw[px]"),
        ("vim", File, "4913"),
        ("editors", File, "*~"),
        ("Emacs", File, "#*#"),
        ("Emacs", File, ".#*"),
        ("GLib", File, ".goutputstream-*"),
        ("macOS", Any, ".DS_Store"),
        ("macOS", Any, "._*"),
        ("macOS", Directory, ".AppleDouble"),
        ("macOS", Directory, ".Spotlight-V100"),
        ("macOS", Directory, ".Trashes"),
        ("macOS", Directory, ".fseventsd"),
        ("macOS", Directory, ".TemporaryItems"),
        ("desktops", Directory, ".Trash-[0-9]*"),
        ("Synology", Directory, "@eaDir"),
        ("Synology", Directory, "#recycle"),
        ("Synology", Directory, "#snapshot"),
        ("Windows", File, "Thumbs.db"),
        ("Windows", File, "desktop.ini"),
        ("Windows", Directory, "$RECYCLE.BIN"),
        ("Windows", Directory, "System Volume Information"),
        ("NFS", File, ".nfs[0-9a-f]*"),
        ("FUSE", File, ".fuse_hidden*"),
        ("the file system check", Directory, "lost+found"),
    ]
};

/// The name that rsync gives to a file while it arrives. No glob says six random characters.
const RSYNC: (&str, &str) = ("rsync", ".NAME.XXXXXX");

#[derive(Clone, Copy, PartialEq)]
enum Fits {
    File,
    Directory,
    Any,
}

static TEMPORARY_SET: LazyLock<GlobSet> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    for (_, _, pattern) in TEMPORARY {
        let glob = GlobBuilder::new(pattern).case_insensitive(true).literal_separator(true).build();
        set.add(glob.expect("a test builds every pattern of the list"));
    }
    set.build().expect("a test builds the whole list")
});

fn temporary(name: &OsStr, is_directory: bool) -> Option<(&'static str, &'static str)> {
    if !is_directory && is_rsync(name.as_bytes()) {
        return Some(RSYNC);
    }
    let here = if is_directory { Fits::Directory } else { Fits::File };
    TEMPORARY_SET
        .matches(name)
        .into_iter()
        .map(|index| TEMPORARY[index])
        .find(|(_, fits, _)| *fits == here || *fits == Fits::Any)
        .map(|(whose, _, pattern)| (whose, pattern))
}

/// Whether a name is `.NAME.XXXXXX` with six random characters. Six small letters are more likely a word, as in
/// `.env.sample`, than drawn by chance (one in two hundred).
fn is_rsync(name: &[u8]) -> bool {
    let Some((head, tail)) = name.len().checked_sub(7).and_then(|at| name.split_at_checked(at)) else {
        return false;
    };
    head.len() > 1
        && head.starts_with(b".")
        && tail[0] == b'.'
        && tail[1..].iter().all(u8::is_ascii_alphanumeric)
        && !tail[1..].iter().all(u8::is_ascii_lowercase)
}

/// Patterns together with their own words.
#[derive(Clone, Debug)]
struct Globs {
    set: GlobSet,
    patterns: Vec<String>,
}

impl Globs {
    fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Globs, globset::Error> {
        let mut set = GlobSetBuilder::new();
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.as_ref().to_owned()).collect();
        for pattern in &patterns {
            set.add(GlobBuilder::new(&anchored(pattern)).literal_separator(true).build()?);
        }
        Ok(Globs { set: set.build()?, patterns })
    }

    fn nothing() -> Globs {
        Globs { set: GlobSet::empty(), patterns: Vec::new() }
    }

    fn anything() -> Globs {
        Globs::new(&["**"]).expect("a test builds this pattern")
    }

    fn fitting(&self, relative: &Path) -> Option<&str> {
        if self.set.is_empty() {
            return None;
        }
        let first = self.set.matches_candidate(&Candidate::new(relative)).into_iter().next()?;
        self.patterns.get(first).map(String::as_str)
    }
}

/// The pattern in terms of the whole path below the folder.
fn anchored(pattern: &str) -> String {
    let (body, inside) = match pattern.strip_suffix('/') {
        Some(directory) if !directory.is_empty() => (directory, "/**"),
        _ => (pattern, ""),
    };
    match body.strip_prefix('/') {
        Some(rest) => format!("{rest}{inside}"),
        None if body.contains('/') || body == "**" => format!("{body}{inside}"),
        None => format!("**/{body}{inside}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> TakeRules {
        TakeRules::new(include, exclude, false).unwrap()
    }

    fn takes(rules: &TakeRules, path: impl AsRef<OsStr>) -> bool {
        rules.judge(Path::new(path.as_ref()), false) == Verdict::Taken
    }

    #[test]
    fn ordinary_names_are_taken() {
        let rules = TakeRules::everything();
        for name in [
            "data.jsonl",
            "a/b/c.csv",
            "report (1).pdf",
            "part",
            "my.parts",
            "tmp/file",
            "a~b",
            "4913.txt",
            "#1 best.txt",
            "x.swift",
            "download/x",
            "lost+found",
            "~notes",
            "new\nline",
            "x.json",
            "README.rsync-partial",
        ] {
            assert!(takes(&rules, name), "{name:?}: {:?}", rules.judge(Path::new(name), false));
        }
        assert!(takes(&rules, OsStr::from_bytes(b"caf\xe9/\xff\xfe.bin")));
    }

    #[test]
    fn temporary_names_are_not_and_it_is_said_whose_they_are() {
        let hidden_too = TakeRules::new(&["**"], &[], true).unwrap();
        for (name, whose) in [
            ("a.crdownload", "browsers"),
            ("a.PART", "browsers"),
            ("a.partial", "browsers and rclone"),
            ("Unconfirmed.opdownload", "browsers"),
            ("film.download/data", "browsers"),
            (".data.csv.Xk3f0Q", "rsync"),
            (".~tmp~/data.csv", "rsync"),
            (".syncthing.a.txt.tmp", "Syncthing"),
            ("~syncthing~a.txt.tmp", "Syncthing"),
            ("~$report.docx", "Office"),
            ("sub/x.tmp", "Office and many others"),
            (".~lock.report.odt#", "LibreOffice"),
            (".a.txt.swp", "vim"),
            ("a.swx", "vim"),
            ("4913", "vim"),
            ("a.txt~", "editors"),
            ("#a.txt#", "Emacs"),
            (".#a.txt", "Emacs"),
            (".DS_Store", "macOS"),
            ("._a.txt", "macOS"),
            ("photos/@eaDir/a.jpg", "Synology"),
            ("#recycle/a/b.jpg", "Synology"),
            ("THUMBS.DB", "Windows"),
            ("$RECYCLE.BIN/x", "Windows"),
            ("System Volume Information/x", "Windows"),
            ("a.pdf.ocTransferId123.part", "Nextcloud and ownCloud"),
            ("a.iso.aria2", "aria2"),
            (".nfs000000000004a1b2", "NFS"),
            ("lost+found/#123", "the file system check"),
            (".upspool-17", "upspool"),
            ("a.pdf.upspool.json", "upspool"),
        ] {
            match hidden_too.judge(Path::new(name), false) {
                Verdict::Ignored(Rule::Temporary { whose: said, .. }) => assert_eq!(said, whose, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(!takes(&hidden_too, OsStr::from_bytes(b"\xff\n\xfe.part")));
        for name in [".env.sample", ".config", ".a.b"] {
            assert!(takes(&hidden_too, name), "{name}");
            assert!(!takes(&TakeRules::everything(), name), "{name}");
        }
    }

    #[test]
    fn what_lies_in_an_ignored_directory_is_ignored_for_the_directorys_reason() {
        let verdict = TakeRules::everything().judge(Path::new("a/.git/objects/x"), false);
        assert_eq!(verdict, Verdict::Ignored(Rule::Hidden { path: "a/.git".into() }));
        let verdict = rules(&["**"], &["old"]).judge(Path::new("a/old/b/x"), false);
        assert_eq!(verdict, Verdict::Ignored(Rule::Excluded { pattern: "old".into(), path: "a/old".into() }));
    }

    #[test]
    fn patterns_mean_what_users_of_rclone_and_git_expect() {
        for (pattern, fits, does_not) in [
            ("*.csv", &["a.csv", "x/y/a.csv"][..], &["a.csv.gz", "a.CSV", "csv"][..]),
            ("/*.csv", &["a.csv"], &["x/a.csv"]),
            ("in/*.csv", &["in/a.csv"], &["in/b/a.csv", "x/in/a.csv"]),
            ("in/**", &["in/a", "in/b/c"], &["x/in/a"]),
            ("in/", &["in/a", "x/in/b/c"], &["in", "x/in"]),
            ("**/in/*.csv", &["in/a.csv", "x/in/a.csv"], &["in/x/a.csv"]),
            ("**", &["a", "a/b/c"], &[]),
            ("a?c.{txt,md}", &["abc.txt", "x/abc.md"], &["a/c.txt"]),
        ] {
            let include = rules(&[pattern], &[]);
            let exclude = rules(&["**"], &[pattern]);
            for path in fits {
                assert!(takes(&include, path), "{pattern} should include {path}");
                assert!(!takes(&exclude, path), "{pattern} should exclude {path}");
            }
            for path in does_not {
                assert!(!takes(&include, path), "{pattern} should not include {path}");
            }
        }
        assert!(takes(&rules(&["*.bin"], &[]), OsStr::from_bytes(b"caf\xe9/\xff\n\xfe.bin")));
        assert!(!takes(&rules(&["**"], &["*.bin"]), OsStr::from_bytes(b"caf\xe9/\xff\n\xfe.bin")));
        assert!(TakeRules::new(&["a{b"], &[], false).is_err());
    }

    #[test]
    fn include_does_not_prune_directories() {
        let rules = rules(&["*.csv"], &[]);
        assert_eq!(rules.judge(Path::new("sub"), true), Verdict::Taken);
        assert_eq!(rules.judge(Path::new("sub"), false), Verdict::Ignored(Rule::NotIncluded));
    }

    #[test]
    fn only_paths_below_a_folder_are_judged() {
        for path in ["", "/etc/passwd", "../x", "a/../../x"] {
            let verdict = TakeRules::everything().judge(Path::new(path), false);
            assert_eq!(verdict, Verdict::Ignored(Rule::NotBelow), "{path:?}");
        }
    }
}
