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
        let numbers = numbers(connection, update_sent(some)).await?;
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
        let numbers = numbers(connection, update_stored(some)).await?;
        taken.extend(numbers.into_keys());
    }
    Ok(taken)
}

/// Takes the step of those that are queued.
fn update_sent(some: &[Sent<'_>]) -> QueryBuilder<Sqlite> {
    let mut update = QueryBuilder::new("-- sent_whole\nWITH these (job, md5) AS (");
    values::push(&mut update, some.iter(), 2, |values, sent| {
        values.push_bind(sent.job.0).push_bind(sent.md5.map(str::to_owned));
    });
    update.push(
        ") UPDATE jobs SET stage = 'completing', uploads = uploads + 1, md5 = these.md5, attempts = 0, \
         failing_since = NULL, due_at = NULL, error_code = NULL, error_message = NULL, error_status = NULL, \
         error_request_id = NULL FROM these WHERE id = these.job AND stage = 'queued' RETURNING id, uploads",
    );
    update
}

/// Takes the step of those that are where they are said to be, and ends their Uploads.
fn update_stored(some: &[Stored<'_>]) -> QueryBuilder<Sqlite> {
    let mut update = QueryBuilder::new("-- stored\nWITH these (job, at, stage, file, expires, finish) AS (");
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
    // In the same call the Uploads of those that are so now; one that was so before has none that is open. No join with jobs: with many
    // rows SQLite would go through all that were ever stored.
    update.push("; WITH these (job, at, file) AS (");
    values::push(&mut update, some.iter(), 3, |values, stored| {
        values.push_bind(stored.job.0).push_bind(stored.now.wall.0).push_bind(stored.file.0.clone());
    });
    update.push(
        ") UPDATE uploads SET ended_at = these.at, end_reason = 'completed' FROM these \
         WHERE uploads.job = these.job AND uploads.ended_at IS NULL AND uploads.number = \
         (SELECT uploads FROM jobs WHERE id = these.job AND stage = 'stored' AND file_id = these.file)",
    );
    update
}

/// What `update` returns: each job that it changed, and the number of its Upload.
async fn numbers(
    connection: &mut SqliteConnection,
    mut update: QueryBuilder<Sqlite>,
) -> sqlx::Result<HashMap<JobId, i64>> {
    let rows = update.build().persistent(true).fetch_all(&mut *connection).await?;
    rows.iter().map(|row| Ok((JobId(row.try_get("id")?), row.try_get("uploads")?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{Boot, Wall};
    use crate::store::{BootId, Store};

    /// What is found by anything else than its key is sought among all that the ledger ever had.
    #[tokio::test]
    async fn each_row_is_found_by_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(directory.path(), BootId("a".into())).await.unwrap();
        let now = Now { wall: Wall(1), boot: Boot(1) };
        let file = FileId("file-1".into());
        let stored = || Stored {
            job: JobId(1),
            from: State::Completing,
            file: &file,
            expires_at: None,
            finish: false,
            now,
        };
        let session = Session {
            upload: crate::model::answer::UploadId("upload_1".into()),
            echoed_name: String::new(),
            server_created_at: 0,
            deadline: crate::model::job::Deadline::Unknown,
            parts: Vec::new(),
        };
        let sent = || Sent { job: JobId(1), session: &session, md5: None, now };
        for count in [1, 4, 16, values::MOST] {
            let (sent, stored): (Vec<_>, Vec<_>) = (0..count).map(|_| (sent(), stored())).unzip();
            let texts = [update_sent(&sent).into_string(), update_stored(&stored).into_string()];
            for statement in texts.iter().flat_map(|text| text.split("; ")) {
                let plan = format!("EXPLAIN QUERY PLAN {}", statement.rsplit('\n').next().unwrap());
                let rows = sqlx::query(sqlx::AssertSqlSafe(plan)).fetch_all(&store.reader).await.unwrap();
                let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
                let of_tables = steps.iter().filter(|step| step.contains("jobs") || step.contains("uploads"));
                let of_tables: Vec<_> = of_tables.collect();
                assert!(!of_tables.is_empty(), "{steps:?}");
                for step in of_tables {
                    let by_key = [
                        "jobs USING INTEGER PRIMARY KEY (rowid=?)",
                        "uploads USING PRIMARY KEY (job=? AND number=?)",
                    ];
                    assert!(
                        by_key.iter().any(|key| step == &format!("SEARCH {key}")),
                        "{statement}: {steps:?}"
                    );
                }
            }
        }
    }
}
