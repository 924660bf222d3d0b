//! Forgets by itself what `keep_history` says: what happened to jobs that ended long ago. Their rows stay.

use std::time::Duration;

use tracing::{info, warn};

use crate::clock::Clock;
use crate::model::job::JobId;
use crate::store::{Store, StoreError};

/// How often.
const EVERY: Duration = Duration::from_secs(6 * 3_600);

/// Between two pages, so that what is written meanwhile waits for one at most.
const PAUSE: Duration = Duration::from_millis(50);

/// Forgets, now and then, until the service ends.
pub(super) async fn forget(store: Store, clock: Clock, keep: Duration) {
    loop {
        match forget_once(&store, &clock, keep).await {
            Ok(0) => {}
            Ok(rows) => info!(
                event = "history-forgotten",
                rows, "the history of jobs that ended long ago is forgotten"
            ),
            Err(fault) => warn!(
                event = "history-kept",
                code = fault.code().map(crate::model::job::Code::as_str),
                "old history is not forgotten: {fault}; tried again in some hours"
            ),
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn forget_once(store: &Store, clock: &Clock, keep: Duration) -> Result<u64, StoreError> {
    let before = clock.now().wall - keep;
    let (mut after, mut rows) = (JobId(0), 0);
    loop {
        let pruned = store.prune_history(before, after).await?;
        rows += pruned.rows;
        match pruned.next {
            Some(next) => after = next,
            None => return Ok(rows),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
