//! The library that is loaded into the service, and the image of what it has made durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// What becomes of that which no completed sync has made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// Nothing: the process is killed and the kernel lives on.
    None,
    /// All of it is lost.
    All,
    /// Of each file some blocks are lost and some are not, of the names that came and went too.
    Torn,
}

/// Where the service's syncs are counted, and at which it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aim {
    /// At this one; 0: at none.
    pub at: u64,
    /// Once it is done, rather than before.
    pub after: bool,
    /// From this one on a copy of the database is kept of each; 0: none.
    pub snapshots_from: u64,
}

/// The durable image of a state directory, as the shim keeps it.
pub struct Image {
    dir: PathBuf,
    state: PathBuf,
    /// Whether syncs are said to be done that are not.
    pub lies: bool,
}

impl Image {
    pub fn new(dir: PathBuf, state: PathBuf) -> Image {
        for part in ["data", "entries"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        Image { dir, state, lies: false }
    }

    /// Loads the shim into `command`; snapshots and the list of syncs go to `run`.
    pub fn watch(&self, command: &mut Command, run: &Path, aim: Aim) {
        command
            .env("LD_PRELOAD", library())
            .env("CUT_DIR", &self.state)
            .env("CUT_IMAGE", &self.dir)
            .env("CUT_AT", aim.at.to_string())
            .env("CUT_WHEN", if aim.after { "after" } else { "before" })
            .env("CUT_LIES", if self.lies { "1" } else { "" })
            .env("CUT_SNAPS", run)
            .env("CUT_FROM", aim.snapshots_from.to_string())
            .env("CUT_LOG", run.join("syncs"));
    }

    /// What the disk has of the file of this key. One that was never synced is empty.
    fn synced(&self, key: &str) -> Vec<u8> {
        fs::read(self.dir.join("data").join(key)).unwrap_or_default()
    }

    /// The durable names, each with the key of the file that it stands for.
    fn durable(&self) -> BTreeMap<String, String> {
        let named = |entry: fs::DirEntry| {
            let key = fs::read_link(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), key.to_str().unwrap().to_owned())
        };
        fs::read_dir(self.dir.join("entries")).unwrap().map(Result::unwrap).map(named).collect()
    }

    /// Takes the power away: the state directory becomes what the disk has of it. Nobody may be using it.
    pub fn lose(&self, loss: Loss, seed: u64) {
        if loss == Loss::None || !self.state.exists() {
            return;
        }
        let durable = self.durable();
        let current = files_in(&self.state);
        let names: BTreeSet<&String> = durable.keys().chain(current.keys()).collect();
        let mut dice = Dice(seed | 1);
        let mut left = BTreeMap::new();
        for name in names {
            let old = durable.get(name);
            let new = current.get(name).map(|content| (key(&self.state.join(name)), content));
            // A name that came, went or stands for another file since the directory was synced may or may not do so on disk. The
            // file behind it is one of the two and never a mixture: what has lost its name keeps its blocks until that is durable.
            let is_old = match (old, &new, loss) {
                (_, _, Loss::All) => true,
                (Some(old), Some((new, _)), _) if old == new => false,
                _ => dice.throw(2) == 0,
            };
            let content = match (old, new) {
                (Some(old), _) if is_old => Some(self.synced(old)),
                (_, Some((new, content))) if !is_old => Some(torn(&self.synced(&new), content, &mut dice)),
                _ => None,
            };
            if let Some(content) = content {
                left.insert(name.clone(), content);
            }
        }
        self.replace(&left);
    }

    /// Puts these files into the state directory, all of them durable.
    pub fn replace(&self, files: &BTreeMap<String, Vec<u8>>) {
        fs::remove_dir_all(&self.state).unwrap();
        for part in ["data", "entries"] {
            fs::remove_dir_all(self.dir.join(part)).unwrap();
            fs::create_dir(self.dir.join(part)).unwrap();
        }
        // Without a name in it the directory itself is not durable.
        if files.is_empty() {
            return;
        }
        fs::create_dir(&self.state).unwrap();
        fs::set_permissions(&self.state, fs::Permissions::from_mode(0o750)).unwrap();
        for (name, content) in files {
            let path = self.state.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let key = key(&path);
            fs::write(self.dir.join("data").join(&key), content).unwrap();
            std::os::unix::fs::symlink(&key, self.dir.join("entries").join(name)).unwrap();
        }
    }
}

/// The regular files of a directory, each with its content.
pub fn files_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Copies the database of a state directory, to be read there: to open it would change it.
pub fn copy_database(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in ["upspool.db", "upspool.db-wal", "upspool.db-journal"] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// As the shim names a file.
fn key(path: &Path) -> String {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::INO | StatxFlags::BTIME).unwrap();
    format!("{}-{}.{:09}", found.stx_ino, found.stx_btime.tv_sec, found.stx_btime.tv_nsec)
}

/// What a disk may have of a file that was `old` at its last sync and is `new` in memory: any blocks of either, and any
/// length between.
fn torn(old: &[u8], new: &[u8], dice: &mut Dice) -> Vec<u8> {
    let block = if dice.throw(2) == 0 { 512 } else { 4096 };
    let (short, long) = (old.len().min(new.len()), old.len().max(new.len()));
    let steps = (long - short).div_ceil(block) as u64;
    let length = long.min(short + block * usize::try_from(dice.throw(steps + 1)).unwrap());
    let mut left = vec![0; length];
    for start in (0..length).step_by(block) {
        let end = length.min(start + block);
        let source = if dice.throw(2) == 0 { old } else { new };
        let source = source.get(start..end.min(source.len())).unwrap_or_default();
        left[start..start + source.len()].copy_from_slice(source);
    }
    left
}

/// Chances that are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }
}

/// The shim, compiled once for each run of the tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cut/shim.c");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(target).unwrap();
        // Beside another run of the tests, perhaps: each makes its own and gives it the name.
        let fresh = target.join(format!("cut-shim-{}.so", std::process::id()));
        let library = target.join("cut-shim.so");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&fresh)
            .arg(source)
            .args(["-ldl", "-lpthread"])
            .output()
            .expect("cc is needed to build the project, and for this test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::rename(&fresh, &library).unwrap();
        library
    })
}
