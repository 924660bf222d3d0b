//! What happened to a job, with the facts of the requests behind it.

use sqlx::{QueryBuilder, Row, SqliteConnection};

use crate::model::failure::{Facts, Operation};
use crate::model::job::{Doubt, Fence, JobId, Reason, Step};
use crate::model::time::Wall;

use super::error::Result;
use super::{Store, row, values};

/// The facts around a step that only its history keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The request behind it.
    pub operation: Option<Operation>,
    /// The HTTP facts of its answer.
    pub facts: Option<Facts>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// How much it carried.
    pub bytes: Option<u64>,
    /// Which Part it carried.
    pub part: Option<u32>,
    /// Whether something is to be done after this step: receipt, move or delete, hook. Marks the job as pending in
    /// the same commit, so that a crash does not forget it.
    pub finish: bool,
}

/// One thing that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryRow {
    /// The job.
    pub job: JobId,
    /// When.
    pub at: Wall,
    /// What, in the words of the log.
    pub event: String,
    /// The request behind it.
    pub operation: Option<String>,
    /// Which failure in a row it was.
    pub attempt: Option<u32>,
    /// The HTTP status of the answer.
    pub status: Option<u16>,
    /// The server's name for the request.
    pub request_id: Option<String>,
    /// Why, as a code.
    pub code: Option<String>,
    /// Why, for people.
    pub message: Option<String>,
    /// How long the request took.
    pub duration_ms: Option<u64>,
    /// How much it carried.
    pub bytes: Option<u64>,
    /// Which Part.
    pub part: Option<u32>,
}

impl HistoryRow {
    /// A bare event.
    pub fn event(job: JobId, at: Wall, event: impl Into<String>) -> HistoryRow {
        HistoryRow {
            job,
            at,
            event: event.into(),
            operation: None,
            attempt: None,
            status: None,
            request_id: None,
            code: None,
            message: None,
            duration_ms: None,
            bytes: None,
            part: None,
        }
    }

    /// With the words of a reason; what the reason says of an answer counts only where `facts` said nothing.
    #[must_use]
    pub fn because(mut self, reason: &Reason) -> HistoryRow {
        self.code = Some(reason.code.as_str().to_owned());
        self.message = Some(reason.message.clone());
        self.status = self.status.or(reason.status);
        self.request_id = self.request_id.or_else(|| reason.request_id.clone());
        self
    }

    /// The row of a step.
    pub(super) fn of_step(job: JobId, step: &Step, at: Wall, context: &Context) -> HistoryRow {
        let facts = context.facts.as_ref();
        let row = HistoryRow {
            operation: context.operation.map(|operation| operation.name().to_owned()),
            status: facts.map(|facts| facts.status),
            request_id: facts.and_then(|facts| facts.request_id.clone()),
            duration_ms: context.duration_ms,
            bytes: context.bytes,
            part: context.part,
            ..HistoryRow::event(job, at, event_of(step))
        };
        match step {
            Step::PutOff { reason, attempts, .. } => {
                HistoryRow { attempt: Some(*attempts), ..row.because(reason) }
            }
            Step::Restarted { reason, .. }
            | Step::Failed(reason)
            | Step::Unresolved { reason, .. }
            | Step::Gone(Some(reason)) => row.because(reason),
            Step::PartStored { index, .. } => {
                HistoryRow { part: row.part.or(u32::try_from(*index).ok()), ..row }
            }
            _ => row,
        }
    }
}

/// The name of a step in logs and history.
fn event_of(step: &Step) -> &'static str {
    match step {
        Step::Opened(_) => "upload-opened",
        Step::PutOff { .. } => "retry",
        Step::Restarted { .. } => "restart",
        Step::Doubted(doubt) => match doubt {
            Doubt::Fenced(Fence::Closed) => "fence-closed",
            Doubt::Fenced(Fence::Spent) => "fence-spent",
            Doubt::Fenced(Fence::Unclear) => "fence-unclear",
            Doubt::None | Doubt::MayHaveActed | Doubt::Fencing { .. } => "fence",
        },
        other => other.name(),
    }
}

/// Writes rows, in their order.
pub(super) async fn insert(connection: &mut SqliteConnection, mut rows: Vec<HistoryRow>) -> sqlx::Result<()> {
    while !rows.is_empty() {
        let mut insert = QueryBuilder::new(
            "-- insert_history\n\
             INSERT INTO history (job, at, event, operation, attempt, status, request_id, code, message, duration_ms, \
             bytes, part) SELECT * FROM (",
        );
        let some = rows.drain(..rows.len().min(values::MOST));
        values::push(&mut insert, some, 12, |values, row| {
            values
                .push_bind(row.job.0)
                .push_bind(row.at.0)
                .push_bind(row.event)
                .push_bind(row.operation)
                .push_bind(row.attempt)
                .push_bind(row.status)
                .push_bind(row.request_id)
                .push_bind(row.code)
                .push_bind(row.message)
                .push_bind(row.duration_ms.map(row::int))
                .push_bind(row.bytes.map(row::int))
                .push_bind(row.part);
        });
        insert.push(") WHERE column1 IS NOT NULL");
        insert.build().persistent(true).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Store {
    /// What happened to a job, in order. That it was found is not among it: `Record::found_at` says so.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn history(&self, job: JobId) -> Result<Vec<HistoryRow>> {
        let rows = sqlx::query(
            "-- history\n\
             SELECT job, at, event, operation, attempt, status, request_id, code, message, duration_ms, bytes, part \
             FROM history WHERE job = ?1 ORDER BY id",
        )
        .bind(job.0)
        .fetch_all(&self.reader)
        .await?;
        let mut history = Vec::with_capacity(rows.len());
        for row in &rows {
            history.push(HistoryRow {
                job: JobId(row.try_get("job")?),
                at: Wall(row.try_get("at")?),
                event: row.try_get("event")?,
                operation: row.try_get("operation")?,
                attempt: row::opt_number(row, "attempt")?,
                status: row::opt_number(row, "status")?,
                request_id: row.try_get("request_id")?,
                code: row.try_get("code")?,
                message: row.try_get("message")?,
                duration_ms: row::opt_number(row, "duration_ms")?,
                bytes: row::opt_number(row, "bytes")?,
                part: row::opt_number(row, "part")?,
            });
        }
        Ok(history)
    }
}
