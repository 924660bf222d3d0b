//! Somebody who does things to files below a folder, and remembers what has to come of it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::harness::{noise, sha256};

/// One thing that is done. Paths begin with `in`, in the watched folder, or with `out`, beside it on the same file system.
#[derive(Clone, Debug)]
pub enum Action {
    /// A file comes to be, or is written anew, in one go.
    Write(&'static str, usize),
    /// A file is opened anew, and stays open for writing.
    Open(&'static str),
    /// So much more is written to the file that is open.
    More(usize),
    /// It is closed.
    Close,
    /// So much is added to a file that was closed.
    Append(&'static str, usize),
    /// The file gets this length.
    Truncate(&'static str, usize),
    /// A new file, written by way of a mapping.
    Map(&'static str, usize),
    /// A file or a directory gets another name, in the place of what has that name.
    Rename(&'static str, &'static str),
    /// A file gets a second name.
    Link(&'static str, &'static str),
    /// A file is deleted.
    Delete(&'static str),
    /// A directory comes to be, with those around it.
    MakeDirectory(&'static str),
    /// The time of a file is set.
    Touch(&'static str),
    /// The mode of a file is changed.
    Mode(&'static str),
    /// All is waited for.
    Settle,
}

#[derive(Debug)]
struct Node {
    content: Vec<u8>,
    hash: String,
    open: bool,
}

/// What has to come of the files of an actor.
#[derive(Debug, Default)]
pub struct Expected {
    /// What lies in the folder now, by the path below it: the SHA-256 of whole files, or nothing while one is open.
    pub there: BTreeMap<PathBuf, Option<String>>,
    /// How often each content came to lie at each path.
    pub arrivals: HashMap<(PathBuf, String), usize>,
}

/// See the module.
pub struct Actor {
    /// Its name, which its directories have.
    pub name: String,
    folder: PathBuf,
    beside: PathBuf,
    files: BTreeMap<PathBuf, usize>,
    nodes: Vec<Node>,
    open: Option<(File, usize)>,
    seed: u64,
    /// The last whole content at each path.
    last: BTreeMap<PathBuf, String>,
    pub expected: Expected,
}

impl Actor {
    /// One with a directory of its own in the folder, and one beside it.
    pub fn new(name: &str, folder: &Path, beside: &Path) -> Actor {
        for side in [folder, beside] {
            fs::create_dir_all(side.join(name)).unwrap();
        }
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Actor {
            name: name.to_owned(),
            folder: folder.to_owned(),
            beside: beside.to_owned(),
            files: BTreeMap::new(),
            nodes: Vec::new(),
            open: None,
            seed,
            last: BTreeMap::new(),
            expected: Expected::default(),
        }
    }

    /// Whether it has a file of this name.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(Path::new(path))
    }

    /// Whether a file is open for writing.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a directory lies there.
    pub fn has_directory(&self, path: &str) -> bool {
        self.place(path).is_dir()
    }

    fn place(&self, path: &str) -> PathBuf {
        let (side, rest) = path.split_once('/').unwrap();
        if side == "in" {
            self.folder.join(&self.name).join(rest)
        } else {
            self.beside.join(&self.name).join(rest)
        }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.seed += 1;
        noise(count, self.seed)
    }

    fn new_node(&mut self, path: &str, content: Vec<u8>) -> usize {
        // What is opened anew keeps its inode, and with it its other names.
        let node = Node { hash: sha256(&content), content, open: false };
        if let Some(index) = self.files.get(Path::new(path)) {
            self.nodes[*index] = node;
            return *index;
        }
        self.nodes.push(node);
        self.files.insert(path.into(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let node = &mut self.nodes[index];
        change(&mut node.content);
        node.hash = sha256(&node.content);
    }

    fn node(&self, path: &str) -> usize {
        self.files[Path::new(path)]
    }

    /// Does it, and notes what it means. [`Action::Settle`] is for whoever waits.
    pub fn perform(&mut self, action: &Action) {
        match *action {
            Action::Write(path, count) => {
                let content = self.bytes(count);
                fs::write(self.place(path), &content).unwrap();
                self.new_node(path, content);
            }
            Action::Open(path) => {
                let file = File::create(self.place(path)).unwrap();
                let index = self.new_node(path, Vec::new());
                self.nodes[index].open = true;
                self.open = Some((file, index));
            }
            Action::More(count) => {
                let content = self.bytes(count);
                let (file, index) = self.open.as_mut().unwrap();
                file.write_all(&content).unwrap();
                let index = *index;
                self.change(index, |all| all.extend(content));
            }
            Action::Close => {
                let (file, index) = self.open.take().unwrap();
                drop(file);
                self.nodes[index].open = false;
            }
            Action::Append(path, count) => {
                let content = self.bytes(count);
                let mut file = File::options().append(true).open(self.place(path)).unwrap();
                file.write_all(&content).unwrap();
                self.change(self.node(path), |all| all.extend(content));
            }
            Action::Truncate(path, count) => {
                File::options().write(true).open(self.place(path)).unwrap().set_len(count as u64).unwrap();
                self.change(self.node(path), |all| all.resize(count, 0));
            }
            Action::Map(path, count) => {
                let content = self.bytes(count);
                let file =
                    File::options().read(true).write(true).create_new(true).open(self.place(path)).unwrap();
                file.set_len(count as u64).unwrap();
                write_by_mapping(&file, &content);
                self.new_node(path, content);
            }
            Action::Rename(from, to) => {
                fs::rename(self.place(from), self.place(to)).unwrap();
                let of = |path| self.files.get(Path::new(path));
                // Two names of one file: the system does nothing.
                if of(from).is_some() && of(from) == of(to) {
                    return;
                }
                self.files.remove(Path::new(to));
                let moved: Vec<PathBuf> =
                    self.files.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let index = self.files.remove(&path).unwrap();
                    let rest = path.strip_prefix(from).unwrap();
                    let target =
                        if rest.as_os_str().is_empty() { to.into() } else { Path::new(to).join(rest) };
                    self.files.insert(target, index);
                }
            }
            Action::Link(from, to) => {
                fs::hard_link(self.place(from), self.place(to)).unwrap();
                self.files.insert(to.into(), self.node(from));
            }
            Action::Delete(path) => {
                fs::remove_file(self.place(path)).unwrap();
                self.files.remove(Path::new(path));
            }
            Action::MakeDirectory(path) => fs::create_dir_all(self.place(path)).unwrap(),
            Action::Touch(path) => {
                self.seed += 1;
                let time =
                    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.seed % 1_000_000);
                File::options().write(true).open(self.place(path)).unwrap().set_modified(time).unwrap();
            }
            Action::Mode(path) => {
                self.seed += 1;
                let mode = 0o600 | (self.seed as u32 % 8);
                fs::set_permissions(self.place(path), fs::Permissions::from_mode(mode)).unwrap();
            }
            Action::Settle => {}
        }
        self.note();
    }

    /// Notes which whole files lie in the folder now.
    fn note(&mut self) {
        self.expected.there.clear();
        for (path, index) in &self.files {
            let node = &self.nodes[*index];
            let Ok(below) = path.strip_prefix("in") else { continue };
            if below.extension().is_some_and(|extension| extension == "part") {
                continue;
            }
            let below = Path::new(&self.name).join(below);
            // Open for writing it is no version of anything, and what it was before may be what is known.
            let whole = (!node.open).then(|| node.hash.clone());
            if let Some(hash) = whole.as_ref().filter(|hash| self.last.get(&below) != Some(hash)) {
                *self.expected.arrivals.entry((below.clone(), hash.clone())).or_default() += 1;
                self.last.insert(below.clone(), hash.clone());
            }
            self.expected.there.insert(below, whole);
        }
        self.last.retain(|path, _| self.expected.there.contains_key(path));
    }
}

/// Writes the bytes of a file in two steps through memory.
#[expect(unsafe_code, reason = "a mapping is a pointer")]
fn write_by_mapping(file: &File, content: &[u8]) {
    let length = content.len();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the mapping is as long as the file, which nobody truncates, and is given back before `file` is closed.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(at, libc::MAP_FAILED);
        for half in [0..length / 2, length / 2..length] {
            let target = at.cast::<u8>().add(half.start);
            std::ptr::copy_nonoverlapping(content[half.clone()].as_ptr(), target, half.len());
        }
        assert_eq!(libc::munmap(at, length), 0);
    }
}
