//! The two steps that every small file takes, of many jobs in one statement each: the writer has dozens of them for each commit,
//! and a call to SQLite's thread costs more than what it does there (docs/decisions/throughput.md).

use std::collections::{HashMap, HashSet};

use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use crate::model::answer::FileId;
use crate::model::job::{JobId, Session, State, Step};
use crate::model::time::Now;

use super::deadline::BootId;
use super::write::Write;
use super::{row, sessions, steps, values};

/// A small file whose one Part is stored; where it is is known: only `queued` leads on.
pub(super) struct Sent<'a> {
    pub(super) job: JobId,
    pub(super) session: &'a Session,
    pub(super) md5: Option<&'a str>,
    pub(super) now: Now,
}

/// An Upload that became a File.
pub(super) struct Stored<'a> {
    pub(super) job: JobId,
    pub(super) from: State,
    pub(super) file: &'a FileId,
    /// In seconds, by the server's clock.
    pub(super) expires_at: Option<i64>,
    /// Whether receipt, move or hook follow.
    pub(super) finish: bool,
    pub(super) now: Now,
}

/// The beginning of `writes` that [`take`] can do: no job twice, and nothing besides but what only the history tells, so that the order
/// does not matter.
pub(super) fn run<'a>(writes: &'a [&'a Write]) -> &'a [&'a Write] {
    let mut jobs = HashSet::new();
    let is_one = |write: &&&Write| match write {
        Write::Step { job, step, .. } => {
            matches!(**step, Step::SentWhole { .. } | Step::Stored { .. }) && jobs.insert(*job)
        }
        Write::History(_) | Write::Flush => true,
        _ => false,
    };
    &writes[..writes.iter().take_while(is_one).count()]
}

/// Takes the steps of a [`run`]. The jobs whose step was taken.
pub(super) async fn take(
    connection: &mut SqliteConnection,
    boot: &BootId,
    run: &[&Write],
) -> sqlx::Result<HashSet<JobId>> {
    let (mut whole, mut files) = (Vec::new(), Vec::new());
    for write in run {
        let Write::Step { job, from, step, now, context } = write else { continue };
        let (job, from, now) = (*job, *from, *now);
        match &**step {
            step if !steps::leads_from(from, step) => {}
            Step::SentWhole { session, md5 } => whole.push(Sent { job, session, md5: md5.as_deref(), now }),
            Step::Stored { file, expires_at } => {
                files.push(Stored { job, from, file, expires_at: *expires_at, finish: context.finish, now });
            }
            _ => {}
        }
    }
    // A File makes room for another of its name and size, which may be among them; what is only about to be one makes none.
    let mut taken = stored(connection, &files).await?;
    taken.extend(sent_whole(connection, boot, &whole).await?);
    Ok(taken)
}

/// Writes down each small file, with its Upload and Part, before complete is sent. Those whose job was `queued`; nothing was changed
/// of the others. No job may stand twice.
pub(super) async fn sent_whole(
    connection: &mut SqliteConnection,
    boot: &BootId,
    sent: &[Sent<'_>],
) -> sqlx::Result<HashSet<JobId>> {
    let mut taken = HashSet::with_capacity(sent.len());
    for some in sent.chunks(values::MOST) {
        let mut update = QueryBuilder::new("-- sent_whole\nWITH these (job, md5) AS (");
        values::push(&mut update, some.iter(), 2, |values, sent| {
            values.push_bind(sent.job.0).push_bind(sent.md5.map(str::to_owned));
        });
        update.push(
            ") UPDATE jobs SET stage = 'completing', uploads = uploads + 1, md5 = these.md5, attempts = 0, \
             failing_since = NULL, due_at = NULL, error_code = NULL, error_message = NULL, error_status = NULL, \
             error_request_id = NULL FROM these WHERE id = these.job AND stage = 'queued' RETURNING id, uploads",
        );
        let numbers = numbers(connection, update).await?;
        let number = |sent: &Sent<'_>| numbers.get(&sent.job).copied();
        let opened: Vec<_> =
            some.iter().filter_map(|sent| Some((sent.job, number(sent)?, sent.session, sent.now))).collect();
        sessions::insert(connection, boot, &opened).await?;
        taken.extend(numbers.into_keys());
    }
    Ok(taken)
}

/// Writes down each File, and that its Upload is over. Those whose job was where it was said to be; nothing was changed of the others. No
/// job may stand twice.
pub(super) async fn stored(
    connection: &mut SqliteConnection,
    stored: &[Stored<'_>],
) -> sqlx::Result<HashSet<JobId>> {
    let mut taken = HashSet::with_capacity(stored.len());
    for some in stored.chunks(values::MOST) {
        let mut update =
            QueryBuilder::new("-- stored\nWITH these (job, at, stage, file, expires, finish) AS (");
        values::push(&mut update, some.iter(), 6, |values, stored| {
            values
                .push_bind(stored.job.0)
                .push_bind(stored.now.wall.0)
                .push_bind(stored.from.as_str())
                .push_bind(stored.file.0.clone())
                .push_bind(stored.expires_at.map(|seconds| seconds.saturating_mul(1000)))
                .push_bind(row::finish_state(stored.finish));
        });
        update.push(
            ") UPDATE jobs SET stage = 'stored', file_id = these.file, file_expires_at = these.expires, \
             stored_at = these.at, ended_at = these.at, finish_state = these.finish, \
             finish_step = iif(these.finish = 'pending', 'source', NULL), finish_tries = 0, finish_due = 0, \
             finish_error = NULL, finish_failed = NULL, candidates = NULL, attempts = 0, failing_since = NULL, \
             due_at = NULL, error_code = NULL, error_message = NULL, error_status = NULL, error_request_id = NULL \
             FROM these WHERE id = these.job AND jobs.stage = these.stage RETURNING id, uploads",
        );
        // In the same call the Uploads of those that are so now; one that was so before has none that is open.
        update.push("; WITH these (job, at, file) AS (");
        values::push(&mut update, some.iter(), 3, |values, stored| {
            values.push_bind(stored.job.0).push_bind(stored.now.wall.0).push_bind(stored.file.0.clone());
        });
        update.push(
            ") UPDATE uploads SET ended_at = these.at, end_reason = 'completed' FROM these JOIN jobs ON jobs.id = these.job \
             WHERE jobs.stage = 'stored' AND jobs.file_id = these.file AND uploads.job = jobs.id \
             AND uploads.number = jobs.uploads AND uploads.ended_at IS NULL",
        );
        let numbers = numbers(connection, update).await?;
        taken.extend(numbers.into_keys());
    }
    Ok(taken)
}

/// What `update` returns: each job that it changed, and the number of its Upload.
async fn numbers(
    connection: &mut SqliteConnection,
    mut update: QueryBuilder<Sqlite>,
) -> sqlx::Result<HashMap<JobId, i64>> {
    let rows = update.build().persistent(true).fetch_all(&mut *connection).await?;
    rows.iter().map(|row| Ok((JobId(row.try_get("id")?), row.try_get("uploads")?))).collect()
}
