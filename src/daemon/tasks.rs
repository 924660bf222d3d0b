//! The tasks that live as long as the service. One that ends by itself, whether it panicked or returned, ends the service
//! with an exit code that has it started again: without it the service would go on half.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tracing::error;

use super::Error;
use crate::model::job::Code;

#[cfg(not(panic = "unwind"))]
compile_error!("a panic in one job must fail that job alone, which needs panic = \"unwind\"");

/// Tasks that are not to end before they are told to.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    /// Spawns one; `name` is what the log calls it.
    pub(super) fn spawn<F>(&mut self, name: &'static str, task: F)
    where
        F: Future + Send + 'static,
    {
        let handle = self.running.spawn(async move {
            // What a task says when it ends is nothing that anybody waits for: that it ended is the news.
            task.await;
        });
        self.names.insert(handle.id(), name);
    }

    /// The first one that ends by itself. Never, if none does.
    pub(super) async fn ended(&mut self) -> Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => ended(self.name(id), None),
            Some(Err(fault)) => ended(self.name(fault.id()), Some(&fault)),
            None => std::future::pending().await,
        }
    }

    /// Ends all of them, and waits until what they held is dropped.
    pub(super) async fn end(mut self) {
        self.running.shutdown().await;
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("a task")
    }
}

/// A task with a handle of its own, since it ends in its turn: it ended before that.
pub(super) async fn ended_early<T>(task: &mut JoinHandle<T>, name: &'static str) -> Error {
    ended(name, task.await.err().as_ref())
}

/// Says so, and what it is for the exit code.
pub(super) fn ended(name: &'static str, fault: Option<&JoinError>) -> Error {
    let code = Code::Internal.as_str();
    match fault {
        Some(fault) => error!(event = "failed", code, task = name, "{name}: {fault}"),
        None => error!(event = "failed", code, task = name, "{name}: it returned, although the service runs"),
    }
    Error::Task(name)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_task_that_returns_or_panics_is_named_and_ends_the_service_non_zero() {
        for (name, panics) in [("keys", false), ("status socket", true)] {
            let mut tasks = Tasks::default();
            let (go, went) = oneshot::channel::<()>();
            tasks.spawn("intake", std::future::pending::<()>());
            tasks.spawn(name, async move {
                went.await.unwrap();
                assert!(!panics, "as asked");
            });
            // None has ended, so nobody is told.
            assert!(futures_util::poll!(Box::pin(tasks.ended())).is_pending());
            go.send(()).unwrap();
            let fault = tasks.ended().await;
            assert!(matches!(fault, Error::Task(which) if which == name), "{fault}");
            assert_eq!(fault.exit_code(), 1);
            assert_eq!(
                fault.to_string(),
                format!("the {name} ended by itself; the service cannot go on without it")
            );
            tasks.end().await;
        }
    }

    #[tokio::test]
    async fn tasks_that_are_ended_have_dropped_what_they_held() {
        let mut tasks = Tasks::default();
        let (held, mut gone) = oneshot::channel::<()>();
        tasks.spawn("intake", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tasks.end().await;
        assert_eq!(gone.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert!(futures_util::poll!(Box::pin(Tasks::default().ended())).is_pending());
    }

    #[tokio::test]
    async fn a_task_with_a_handle_of_its_own_is_named_as_well() {
        let mut writer = tokio::spawn(async { panic!("as asked") });
        assert!(matches!(ended_early::<()>(&mut writer, "writer").await, Error::Task("writer")));
    }
}
