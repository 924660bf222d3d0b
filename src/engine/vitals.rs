//! What everything that may hang is waiting for, for the watchdog to see without asking: who hangs does not answer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::stream::Stream;

use crate::model::board::{Grant, Work};
use crate::model::job::JobId;
use crate::model::watchdog::{Await, Sight, Stuck};

/// The places of all that is under way, and what the watchdog made of them.
#[derive(Debug, Default)]
pub struct Vitals {
    places: Mutex<HashMap<u64, Arc<Place>>>,
    last: AtomicU64,
    neglected: Mutex<Option<JobId>>,
    stuck: Mutex<Vec<Stuck>>,
}

tokio::task_local! {
    /// Where the operation is that this task performs.
    static HERE: Arc<Whereabouts>;
}

/// Where one task is.
#[derive(Debug)]
struct Place {
    what: String,
    at: AtomicU8,
    /// Grows with each await.
    turns: AtomicU32,
    /// Bytes, or whatever else is counted.
    moved: Arc<AtomicU64>,
}

/// A task's own side of its place. When it is dropped, nobody is there any more.
#[derive(Debug)]
pub struct Whereabouts {
    vitals: Arc<Vitals>,
    id: u64,
    place: Arc<Place>,
}

impl Vitals {
    /// A place for what people call `what`.
    pub fn enter(self: &Arc<Vitals>, what: impl Into<String>) -> Whereabouts {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place {
            what: what.into(),
            at: AtomicU8::new(Await::Start as u8),
            turns: AtomicU32::new(0),
            moved: Arc::default(),
        });
        lock(&self.places).insert(id, place.clone());
        Whereabouts { vitals: self.clone(), id, place }
    }

    /// A place for a granted operation.
    pub(super) fn enter_operation(self: &Arc<Vitals>, grant: &Grant) -> Whereabouts {
        let work = match &grant.work {
            Work::Part { index, .. } => format!("Part {index}"),
            Work::Whole { .. } => "the one Part".into(),
            Work::Create(_) => "create".into(),
            Work::Hash(_) => "the MD5".into(),
            Work::Examine { .. } => "the look at the file".into(),
            Work::Confirm { .. } => "the question for a File".into(),
            Work::Verify { .. } => "the last look before complete".into(),
            Work::Complete { .. } => "complete".into(),
            Work::Cancel(_) => "cancel".into(),
            _ => "a request".into(),
        };
        self.enter(match grant.job {
            Some(job) => format!("{work} of job {}", job.0),
            None => format!("{work} for the account {}", grant.account.0),
        })
    }

    /// The job that the board should be working on and is not.
    pub(super) fn set_neglected(&self, job: Option<JobId>) {
        *lock(&self.neglected) = job;
    }

    /// Everything that may be waiting, as it is now.
    pub fn sights(&self) -> Vec<Sight> {
        let mut sights: Vec<Sight> = lock(&self.places)
            .iter()
            .map(|(id, place)| {
                let at = usize::from(place.at.load(Ordering::Relaxed));
                let turns = u64::from(place.turns.load(Ordering::Relaxed)) << 48;
                Sight {
                    id: *id,
                    what: place.what.clone(),
                    at: Await::ALL.get(at).copied().unwrap_or(Await::Start),
                    mark: place.moved.load(Ordering::Relaxed) ^ turns,
                }
            })
            .collect();
        if let Some(job) = *lock(&self.neglected) {
            let what = format!("job {}", job.0);
            sights.push(Sight { id: u64::MAX, what, at: Await::Nothing, mark: job.0.unsigned_abs() });
        }
        sights
    }

    /// How many wait for this.
    pub(super) fn waiting_for(&self, what: Await) -> usize {
        let places = lock(&self.places);
        places.values().filter(|place| place.at.load(Ordering::Relaxed) == what as u8).count()
    }

    /// What the watchdog found at its last look, the longest first.
    pub fn stuck(&self) -> Vec<Stuck> {
        lock(&self.stuck).clone()
    }

    /// What the watchdog found.
    pub fn set_stuck(&self, stuck: Vec<Stuck>) {
        *lock(&self.stuck) = stuck;
    }
}

impl Whereabouts {
    /// From now on it waits for this.
    pub fn at(&self, at: Await) {
        if self.place.at.swap(at as u8, Ordering::Relaxed) != at as u8 {
            self.place.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It got on, although it may wait for the same again.
    pub fn got_on(&self) {
        self.place.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// What grows with each byte that it gets on, or with whatever else it counts.
    pub fn moved(&self) -> Arc<AtomicU64> {
        self.place.moved.clone()
    }
}

impl Drop for Whereabouts {
    fn drop(&mut self) {
        lock(&self.vitals.places).remove(&self.id);
    }
}

/// Performs `operation` at this place.
pub(super) fn within<F: Future>(whereabouts: Whereabouts, operation: F) -> impl Future<Output = F::Output> {
    HERE.scope(Arc::new(whereabouts), operation)
}

/// The operation that this task performs waits for `what` from now on.
pub(super) fn at(what: Await) {
    // Outside of an operation nobody asks.
    let _ = HERE.try_with(|here| here.at(what));
}

/// What grows with each byte of the file that this task's operation reads.
pub(super) fn moved() -> Arc<AtomicU64> {
    HERE.try_with(|here| here.moved()).unwrap_or_default()
}

/// The body of a Part, which says whether the file or the connection is waited for.
pub(super) struct Followed<S> {
    body: Pin<Box<S>>,
    /// Its own, since the connection sends it in a task of its own.
    here: Option<Arc<Whereabouts>>,
}

/// Follows the body of this task's operation on its way.
pub(super) fn followed<S>(body: S) -> Followed<S> {
    at(Await::Connection);
    Followed { body: Box::pin(body), here: HERE.try_with(Arc::clone).ok() }
}

impl<S: Stream> Stream for Followed<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let polled = self.body.as_mut().poll_next(context);
        if let Some(here) = &self.here {
            match &polled {
                Poll::Pending => here.at(Await::Reading),
                Poll::Ready(Some(_)) => {
                    here.at(Await::Sending);
                    here.got_on();
                }
                Poll::Ready(None) => here.at(Await::Answer),
            }
        }
        polled
    }
}

/// A lock that a panic elsewhere does not take away.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_body_says_whether_the_file_or_the_connection_is_waited_for() {
        let vitals = Arc::new(Vitals::default());
        let sight = || vitals.sights().pop().unwrap();
        let whereabouts = vitals.enter("Part 3 of job 12");
        assert_eq!((sight().at, sight().what.as_str()), (Await::Start, "Part 3 of job 12"));
        let (file, mut chunks) = mpsc::channel(1);
        let operation = within(whereabouts, async {
            let mut body = followed(stream::poll_fn(move |context| chunks.poll_recv(context)));
            assert_eq!(sight().at, Await::Connection, "nobody has asked for bytes yet");
            for _ in 0..2 {
                assert!(futures_util::poll!(body.next()).is_pending());
                assert_eq!((sight().at, sight().mark), (Await::Reading, 2 << 48), "to ask again is no move");
            }
            file.send(7).await.unwrap();
            assert_eq!(body.next().await, Some(7));
            assert_eq!(sight().at, Await::Sending);
            let before = sight().mark;
            file.send(8).await.unwrap();
            assert_eq!(body.next().await, Some(8));
            assert_ne!(sight().mark, before, "it moved, although it waits for the same again");
            drop(file);
            assert_eq!(body.next().await, None);
            assert_eq!(sight().at, Await::Answer);
            moved().fetch_add(9, Ordering::Relaxed);
            assert_eq!(sight().mark & 0xffff, 9);
        });
        operation.await;
        assert_eq!(vitals.sights(), [], "nobody is there any more");
        at(Await::Hashing);
    }

    #[test]
    fn a_job_that_is_neglected_is_seen_until_it_is_not() {
        let vitals = Vitals::default();
        vitals.set_neglected(Some(JobId(7)));
        let sight = vitals.sights().pop().unwrap();
        assert_eq!((sight.what.as_str(), sight.at), ("job 7", Await::Nothing));
        vitals.set_neglected(None);
        assert_eq!(vitals.sights(), []);
    }
}
