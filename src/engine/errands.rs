//! Short tasks of the engine: each ends with a message that somebody waits for. One that panics would leave a job or a
//! line waiting for ever, so it ends the service, which finds everything again when it starts.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tracing::error;

use super::Message;
use crate::model::job::Code;
use crate::text::shown_bytes;

/// Runs `errand` beside everything else.
pub(super) fn spawn(
    name: &'static str,
    engine: mpsc::Sender<Message>,
    errand: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(async move {
        if let Err(panic) = AssertUnwindSafe(errand).catch_unwind().await {
            error!(event = "failed", code = Code::Internal.as_str(), "{name}: {}", panic_text(&*panic));
            // The engine is gone only when the service ends.
            let _ = engine.send(Message::Broken(name)).await;
        }
    });
}

/// What a panic said, on one line.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    shown_bytes(text.unwrap_or("a panic without a message").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_errand_that_panics_is_told_by_its_name_and_one_that_ends_is_not() {
        let (engine, mut messages) = mpsc::channel(1);
        spawn("a good errand", engine.clone(), async {});
        spawn("writing a step", engine, async { panic!("no such row") });
        assert!(matches!(messages.recv().await, Some(Message::Broken("writing a step"))));
        assert!(messages.recv().await.is_none());
    }
}
