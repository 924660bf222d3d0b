//! What the faces look at: the engine, the store, what was counted. Only ever read.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};

use crate::engine::live::Live;
use crate::engine::metrics::Metrics;
use crate::engine::vitals::Vitals;
use crate::engine::why::Inquiry;
use crate::engine::{ENGINE, Message};
use crate::model::job::FolderId;
use crate::model::time::{Boot, Wall};
use crate::record::{FolderJson, JobJson};
use crate::store::{Filter, Store, StoreError};

/// How long a service may take to say how it is.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How old the counts of the folders may be: they walk an index, and many may look.
const FRESH: Duration = Duration::from_secs(1);

/// What is shown, and where it comes from.
#[derive(Clone, Debug)]
pub struct Views {
    engine: mpsc::Sender<Message>,
    vitals: Arc<Vitals>,
    inquiry: Inquiry,
    store: Store,
    metrics: Arc<Metrics>,
    started: Wall,
    /// One read of the store at a time, whoever asks: its connections are for the service.
    reading: Arc<Mutex<Counts>>,
}

/// The last counts, and when they were made.
type Counts = Option<(Boot, Arc<Ledger>)>;

/// What was counted in the store.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) folders: Vec<FolderJson>,
    /// When the oldest job that waits was found, by the name of its folder.
    pub(super) oldest: Vec<(String, Wall)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store does not answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Views {
    /// Looks at these.
    pub fn new(
        engine: mpsc::Sender<Message>,
        vitals: Arc<Vitals>,
        inquiry: Inquiry,
        store: Store,
        metrics: Arc<Metrics>,
    ) -> Views {
        let started = inquiry.clock.now().wall;
        Views { engine, vitals, inquiry, store, metrics, started, reading: Arc::default() }
    }

    pub(super) fn inquiry(&self) -> &Inquiry {
        &self.inquiry
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// When this run of the service began.
    pub(super) fn started(&self) -> Wall {
        self.started
    }

    pub(super) fn now(&self) -> Wall {
        self.inquiry.clock.now().wall
    }

    /// What is true only now, or why the engine does not say.
    pub(super) async fn live(&self) -> Result<Live, String> {
        let stuck = self.vitals.stuck();
        if let Some(engine) = stuck.iter().find(|stuck| stuck.what == ENGINE) {
            // It would be waited for in vain, and who asks may not wait as long.
            return Err(engine.to_string());
        }
        match inspect(&self.engine).await {
            Some(live) => Ok(live),
            None => {
                let first = self.vitals.stuck().first().map(ToString::to_string);
                Err(first.unwrap_or_else(|| "its engine does not answer".into()))
            }
        }
    }

    /// The newest jobs that a filter lets through.
    pub(super) async fn jobs(&self, filter: &Filter) -> Result<Vec<JobJson>, NoAnswer> {
        let records = in_time(async {
            let _turn = self.reading.lock().await;
            Ok(self.store.list(filter).await?)
        });
        let (records, now) = (records.await?, self.now());
        Ok(records.iter().map(|record| JobJson::new(record, now)).collect())
    }

    /// What was counted in the store, a second ago at most.
    pub(super) async fn ledger(&self) -> Result<Arc<Ledger>, NoAnswer> {
        in_time(async { self.count(self.reading.lock().await).await }).await
    }

    async fn count(&self, mut last: MutexGuard<'_, Counts>) -> Result<Arc<Ledger>, NoAnswer> {
        let now = self.inquiry.clock.now().boot;
        if let Some((at, ledger)) = &*last
            && now.since(*at) < FRESH
        {
            return Ok(ledger.clone());
        }
        let (rows, counts) = (self.store.folders().await?, self.store.counts().await?);
        let (waiting, oldest) = (self.store.queue_totals().await?, self.store.oldest_queued().await?);
        let name = |id: FolderId| rows.iter().find(|row| row.id == id).map(|row| row.name.clone());
        let oldest = oldest.into_iter().filter_map(|(id, at)| Some((name(id)?, at))).collect();
        let ledger = Arc::new(Ledger { oldest, folders: FolderJson::all(rows, &counts, &waiting) });
        *last = Some((now, ledger.clone()));
        Ok(ledger)
    }
}

async fn in_time<T>(read: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
    tokio::time::timeout(PATIENCE, read).await.unwrap_or(Err(NoAnswer::Late))
}

/// Asks the engine how it is; nothing if it does not say in time.
pub async fn inspect(engine: &mpsc::Sender<Message>) -> Option<Live> {
    let (answer, live) = oneshot::channel();
    let asked = async {
        engine.send(Message::Inspect(answer)).await.ok()?;
        live.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok()?
}
