//! Hears of changes from the kernel, by way of notify, and passes on what may be a new file. Only hints: what is lost
//! here is found by the next scan.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKindMask, ModifyKind, RenameMode};
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};

use super::Clock;
use super::kind::FolderKind;
use crate::model::time::Wall;

/// So many hints wait for one folder. More are thrown away, and the folder is scanned instead.
pub(super) const MOST_HINTS: usize = 8_192;

/// So many names are remembered of which events told, for scans to ask; 16 bytes each.
const MOST_NAMES: usize = 32_768;

/// Where the hints for one folder go.
pub(super) struct Post {
    pub(super) root: PathBuf,
    pub(super) now: Clock,
    pub(super) hints: mpsc::Sender<PathBuf>,
    pub(super) signals: Arc<Signals>,
}

/// What happened to a folder beside hints, kept until its task has time for it.
pub(super) struct Signals {
    state: Mutex<State>,
    /// Woken when there is something to take.
    pub(super) wake: Notify,
}

struct State {
    heard: Heard,
    /// How many scans have begun, and how many were asked for.
    begun: u64,
    wanted: u64,
    kind: FolderKind,
    /// What events told of, and when.
    named: HashMap<u64, Wall>,
}

/// What was heard since it was last asked.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    /// Events were lost.
    pub(super) lost: bool,
    /// The folder itself went, or its watches did.
    pub(super) rearm: bool,
    /// A directory could not be watched, since there are no watches left.
    pub(super) limit: bool,
    /// There were too many names to be remembered.
    pub(super) forgot: bool,
}

impl Signals {
    pub(super) fn new() -> Signals {
        let kind = FolderKind::UNKNOWN;
        let state = State { heard: Heard::default(), begun: 0, wanted: 0, kind, named: HashMap::new() };
        Signals { state: Mutex::new(state), wake: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tell(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.state().heard);
        self.wake.notify_one();
    }

    /// Takes what was heard.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut self.state().heard)
    }

    /// Remembers that an event told of a path.
    fn name(&self, relative: &Path, now: Wall) {
        let mut state = self.state();
        if state.named.len() >= MOST_NAMES {
            state.named.clear();
            state.heard.forgot = true;
        }
        state.named.insert(hash_of(relative), now);
    }

    /// What events told of since a time; what is older is forgotten.
    pub(super) fn named_since(&self, time: Wall) -> HashSet<u64> {
        let mut state = self.state();
        state.named.retain(|_, at| *at >= time);
        state.named.keys().copied().collect()
    }

    /// Asks for a scan that begins after this call; returns its number.
    pub(super) fn ask(&self) -> u64 {
        let mut state = self.state();
        state.wanted = state.begun + 1;
        self.wake.notify_one();
        state.wanted
    }

    pub(super) fn is_asked(&self) -> bool {
        let state = self.state();
        state.wanted > state.begun
    }

    /// Numbers the scan that begins now.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state();
        state.begun += 1;
        state.begun
    }

    pub(super) fn kind(&self) -> FolderKind {
        self.state().kind
    }

    pub(super) fn set_kind(&self, kind: FolderKind) {
        self.state().kind = kind;
    }
}

/// What is remembered of a name.
pub(super) fn hash_of(relative: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    relative.hash(&mut hasher);
    hasher.finish()
}

/// Why a folder cannot be watched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Deaf {
    /// There are not enough watches.
    Watches,
    /// There are not enough inotify instances.
    Instances,
    /// The folder is gone.
    Gone,
    /// Files come to be of which no event tells, as this one.
    Silent(PathBuf),
    /// Something else.
    Failed(String),
}

/// The one watcher of all folders.
pub(super) struct Ears {
    posts: Arc<[Post]>,
    watcher: Mutex<Option<RecommendedWatcher>>,
}

impl Ears {
    pub(super) fn new(posts: Vec<Post>) -> Ears {
        Ears { posts: posts.into(), watcher: Mutex::new(None) }
    }

    /// Watches a folder, from scratch if it was watched before. Blocks while all its directories are walked.
    pub(super) fn arm(&self, root: &Path, recursive: bool) -> Result<(), Deaf> {
        let mut watcher = self.lock();
        let watcher = match &mut *watcher {
            Some(watcher) => watcher,
            none => none.insert(listen(self.posts.clone())?),
        };
        // Not watched is what it should be.
        let _ = watcher.unwatch(root);
        let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        watcher.watch(root, mode).map_err(|error| {
            // A part of the tree may be watched now. It would take from others what does not suffice here.
            let _ = watcher.unwatch(root);
            deaf(&error)
        })
    }

    /// Watches a folder no longer.
    pub(super) fn disarm(&self, root: &Path) {
        if let Some(watcher) = &mut *self.lock() {
            let _ = watcher.unwatch(root);
        }
    }

    /// Returns when every directory whose creation was heard of before is watched, so that a scan begun afterwards
    /// and the events together miss nothing. notify tells of a new directory before it watches it, and answers
    /// requests only when it has.
    pub(super) fn barrier(&self) {
        let mut watcher = self.lock();
        if watcher.as_ref().is_some_and(|watcher| watcher.watched_paths().is_err()) {
            // Its thread has died, and its destructor would panic for that.
            std::mem::forget(watcher.take());
            for post in self.posts.iter() {
                post.signals.tell(|heard| heard.rearm = true);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<RecommendedWatcher>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listen(posts: Arc<[Post]>) -> Result<RecommendedWatcher, Deaf> {
    // In the kernel, so that neither our own reading nor every write of others fills its queue.
    let kinds = EventKindMask::CREATE
        | EventKindMask::REMOVE
        | EventKindMask::MODIFY_NAME
        | EventKindMask::ACCESS_CLOSE;
    let config = Config::default().with_follow_symlinks(false).with_event_kinds(kinds);
    RecommendedWatcher::new(move |event| hear(&posts, event), config).map_err(|error| deaf(&error))
}

fn deaf(error: &notify::Error) -> Deaf {
    match &error.kind {
        ErrorKind::MaxFilesWatch => Deaf::Watches,
        ErrorKind::PathNotFound => Deaf::Gone,
        ErrorKind::Io(io) if io.raw_os_error() == Some(libc::EMFILE) => Deaf::Instances,
        _ => Deaf::Failed(error.to_string()),
    }
}

/// Runs on notify's thread, which reads the kernel's queue: must not wait for anything.
fn hear(posts: &[Post], event: notify::Result<Event>) {
    match event {
        Ok(event) if event.need_rescan() => posts.iter().for_each(|post| post.lost()),
        Ok(event) => match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                for (post, relative) in concerned(posts, &event.paths) {
                    post.signals.name(relative, (post.now)().wall);
                    if post.hints.try_send(relative.to_path_buf()).is_err() {
                        post.lost();
                    }
                }
            }
            // Of the folder itself: deleted, renamed or unmounted.
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => {
                for (post, relative) in concerned(posts, &event.paths) {
                    if relative.as_os_str().is_empty() {
                        post.signals.tell(|heard| heard.rearm = true);
                    }
                }
            }
            _ => {}
        },
        Err(error) => {
            let limit = match deaf(&error) {
                // It was deleted before it could be watched.
                Deaf::Gone => return,
                deaf => deaf == Deaf::Watches,
            };
            let tell = |post: &Post| {
                post.signals.tell(|heard| {
                    heard.lost = true;
                    heard.limit |= limit;
                });
            };
            if error.paths.is_empty() {
                posts.iter().for_each(tell);
            } else {
                concerned(posts, &error.paths).for_each(|(post, _)| tell(post));
            }
        }
    }
}

fn concerned<'a>(posts: &'a [Post], paths: &'a [PathBuf]) -> impl Iterator<Item = (&'a Post, &'a Path)> {
    paths.iter().flat_map(move |path| {
        posts.iter().filter_map(move |post| Some((post, path.strip_prefix(&post.root).ok()?)))
    })
}

impl Post {
    fn lost(&self) {
        self.signals.tell(|heard| heard.lost = true);
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, RemoveKind};

    use super::*;

    fn post(root: &str) -> (Post, mpsc::Receiver<PathBuf>) {
        let (hints, receiver) = mpsc::channel(1);
        let now: Clock = Arc::new(crate::model::time::Now::default);
        (Post { root: root.into(), now, hints, signals: Arc::new(Signals::new()) }, receiver)
    }

    fn created(path: &str) -> notify::Result<Event> {
        Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(path.into()))
    }

    #[test]
    fn an_event_goes_to_every_folder_that_it_concerns_and_to_no_other() {
        let ((outer, mut to_outer), (inner, mut to_inner), (other, mut to_other)) =
            (post("/a"), post("/a/b"), post("/a/bc"));
        let posts = [outer, inner, other];
        hear(&posts, created("/a/b/file"));
        assert_eq!(to_outer.try_recv().unwrap(), Path::new("b/file"));
        assert_eq!(to_inner.try_recv().unwrap(), Path::new("file"));
        assert!(to_other.try_recv().is_err());
        let removed = Event::new(EventKind::Remove(RemoveKind::Folder)).add_path("/a/b".into());
        hear(&posts, Ok(removed));
        assert!(posts[1].signals.take().rearm);
        assert!(!posts[0].signals.take().rearm);
    }

    #[test]
    fn what_cannot_be_passed_on_becomes_a_scan() {
        let (post, _hints) = post("/a");
        let posts = [post];
        hear(&posts, created("/a/1"));
        assert!(!posts[0].signals.take().lost);
        hear(&posts, created("/a/2"));
        assert!(posts[0].signals.take().lost, "the channel was full");
        hear(&posts, Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(posts[0].signals.take().lost, "the kernel's queue was full");
        let error = notify::Error::new(ErrorKind::MaxFilesWatch).add_path("/a/new".into());
        hear(&posts, Err(error));
        let heard = posts[0].signals.take();
        assert!(heard.lost && heard.limit);
        hear(&posts, Err(notify::Error::new(ErrorKind::PathNotFound).add_path("/a/gone".into())));
        assert!(!posts[0].signals.take().lost);
    }

    #[test]
    fn a_scan_that_is_asked_for_begins_after_it_was() {
        let signals = Signals::new();
        assert!(!signals.is_asked());
        assert_eq!(signals.ask(), 1);
        assert_eq!(signals.begin(), 1);
        assert!(!signals.is_asked());
        assert_eq!(signals.ask(), 2, "one that is under way is no answer");
        assert!(signals.is_asked());
    }
}
