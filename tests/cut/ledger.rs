//! The store as its rows have it, read past the program: from copies of its files, by statements of the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row};

/// All rows that matter.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Whether there is a database with its tables.
    pub exists: bool,
    pub jobs: BTreeMap<i64, JobRow>,
    /// Job and event, by id.
    pub history: BTreeMap<i64, (i64, String)>,
    /// By job and number.
    pub uploads: BTreeMap<(i64, i64), UploadRow>,
    /// By job, number of the Upload, and place.
    pub parts: BTreeMap<(i64, i64, i64), PartRow>,
    /// Kind and whether it was done, by id.
    pub requests: BTreeMap<i64, (String, Option<bool>)>,
    /// Whether it is paused, and whether it was scanned, by id.
    pub folders: BTreeMap<i64, (bool, bool)>,
    /// Commits of the service's writer.
    pub batches: i64,
    /// What SQLite itself finds wrong.
    pub damage: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRow {
    pub path: String,
    pub bytes: u64,
    pub mtime_ns: i64,
    pub present: bool,
    pub stage: String,
    pub uploads: i64,
    pub restarts: i64,
    pub bumped: bool,
    pub md5: Option<String>,
    pub file_id: Option<String>,
    pub deduped_from: Option<i64>,
    pub error_code: Option<String>,
    pub ended: bool,
    /// How receipt, move and hook stand, and the next of them.
    pub finish: (String, Option<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    pub upload_id: String,
    pub ended: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRow {
    pub start: u64,
    pub length: u64,
    pub part_id: Option<String>,
}

impl Ledger {
    /// Reads a copy of the database files, which is changed by that: it is recovered as the service would.
    pub async fn read(dir: &Path) -> Ledger {
        let path = dir.join("upspool.db");
        if !path.exists() {
            return Ledger::default();
        }
        let mut connection = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
        let read = Ledger::read_on(&mut connection).await;
        connection.close().await.unwrap();
        read.unwrap_or_else(|error| Ledger {
            damage: vec![format!("it cannot be read: {error}")],
            ..Ledger::default()
        })
    }

    async fn read_on(connection: &mut SqliteConnection) -> sqlx::Result<Ledger> {
        let mut ledger = Ledger::default();
        for row in sqlx::query("PRAGMA integrity_check").fetch_all(&mut *connection).await? {
            let word: String = row.try_get(0)?;
            ledger.damage.extend(Some(word).filter(|word| word != "ok"));
        }
        for row in sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *connection).await? {
            ledger.damage.push(format!("a row of {} points at nothing", row.try_get::<String, _>(0)?));
        }
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('jobs', 'batches')";
        ledger.exists = sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *connection).await? == 2;
        if !ledger.exists {
            return Ok(ledger);
        }
        ledger.batches = sqlx::query_scalar("SELECT last FROM batches").fetch_one(&mut *connection).await?;
        for row in rows(connection, "SELECT * FROM jobs").await? {
            ledger.jobs.insert(row.try_get("id")?, job(&row)?);
        }
        for row in rows(connection, "SELECT id, job, event FROM history").await? {
            ledger.history.insert(row.try_get("id")?, (row.try_get("job")?, row.try_get("event")?));
        }
        for row in rows(connection, "SELECT job, number, upload_id, ended_at FROM uploads").await? {
            let ended = row.try_get::<Option<i64>, _>("ended_at")?.is_some();
            let upload = UploadRow { upload_id: row.try_get("upload_id")?, ended };
            ledger.uploads.insert((row.try_get("job")?, row.try_get("number")?), upload);
        }
        for row in rows(connection, "SELECT job, upload, idx, start, length, part_id FROM parts").await? {
            let part = PartRow {
                start: row.try_get::<i64, _>("start")?.cast_unsigned(),
                length: row.try_get::<i64, _>("length")?.cast_unsigned(),
                part_id: row.try_get("part_id")?,
            };
            let place = (row.try_get("job")?, row.try_get("upload")?, row.try_get("idx")?);
            ledger.parts.insert(place, part);
        }
        for row in rows(connection, "SELECT id, kind, done FROM requests").await? {
            ledger.requests.insert(row.try_get("id")?, (row.try_get("kind")?, row.try_get("done")?));
        }
        for row in rows(connection, "SELECT id, paused, scanned_at FROM folders").await? {
            let scanned = row.try_get::<Option<i64>, _>("scanned_at")?.is_some();
            ledger.folders.insert(row.try_get("id")?, (row.try_get("paused")?, scanned));
        }
        Ok(ledger)
    }

    /// The job that an Upload belongs to.
    pub fn job_of_upload(&self, upload_id: &str) -> Option<(i64, &JobRow)> {
        let (job, _) = self.uploads.iter().find(|(_, upload)| upload.upload_id == upload_id)?.0;
        Some((*job, self.jobs.get(job)?))
    }

    /// What was committed since `before`: steps of jobs by their names, and the other writes, each with what it is about.
    pub fn changes_since(&self, before: &Ledger) -> Vec<(&'static str, String)> {
        let mut changes = Vec::new();
        if self.exists && !before.exists {
            changes.push(("migration", String::new()));
        }
        for (id, folder) in &self.folders {
            match before.folders.get(id) {
                None => changes.push(("folder", String::new())),
                Some(old) if old.0 != folder.0 => changes.push(("pause", String::new())),
                Some(old) if old.1 != folder.1 => changes.push(("scanned", String::new())),
                Some(_) => {}
            }
        }
        for (id, (kind, done)) in &self.requests {
            match before.requests.get(id) {
                None => changes.push(("request", kind.clone())),
                Some(old) if old.1 != *done => changes.push(("answer", kind.clone())),
                Some(_) => {}
            }
        }
        let mut stepped = BTreeSet::new();
        for (_, (job, event)) in self.history.iter().filter(|(id, _)| !before.history.contains_key(id)) {
            stepped.insert(*job);
            changes.push((self.step_of(*job, event), self.name(*job)));
        }
        for (id, job) in &self.jobs {
            match before.jobs.get(id) {
                None => changes.push(("enqueue", self.name(*id))),
                Some(old) if old.ended && job.ended && old.finish != job.finish => {
                    changes.push(("finish", self.name(*id)));
                }
                Some(old) if old.present && !job.present && job.stage != "gone" => {
                    changes.push(("retire", self.name(*id)));
                }
                Some(old) if old.mtime_ns != job.mtime_ns => changes.push(("same-version", self.name(*id))),
                Some(old) if old != job && !stepped.contains(id) => {
                    changes.push(("row without history", self.name(*id)));
                }
                Some(_) => {}
            }
        }
        changes
    }

    /// The name of the step behind an event of the history.
    fn step_of(&self, job: i64, event: &str) -> &'static str {
        let whole = || self.history.values().any(|(other, event)| *other == job && event == "sent-whole");
        let known = |name: &str| upspool::model::job::Step::NAMES.iter().find(|step| **step == name).copied();
        match event {
            // A small file notes the create that it did not have to write down.
            "upload-opened" if self.jobs.get(&job).is_some_and(|row| row.uploads == 0) || whole() => {
                "history"
            }
            "upload-opened" => "opened",
            "retry" => "put-off",
            "restart" => "restarted",
            "fence" | "fence-closed" | "fence-spent" | "fence-unclear" => "doubted",
            other => known(other).unwrap_or("history"),
        }
    }

    fn name(&self, job: i64) -> String {
        self.jobs.get(&job).map(|job| job.path.clone()).unwrap_or_default()
    }
}

async fn rows(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<Vec<SqliteRow>> {
    sqlx::query(sql).fetch_all(connection).await
}

fn job(row: &SqliteRow) -> sqlx::Result<JobRow> {
    Ok(JobRow {
        path: String::from_utf8_lossy(&row.try_get::<Vec<u8>, _>("path")?).into_owned(),
        bytes: row.try_get::<i64, _>("bytes")?.cast_unsigned(),
        mtime_ns: row.try_get("mtime_ns")?,
        present: row.try_get("present")?,
        stage: row.try_get("stage")?,
        uploads: row.try_get("uploads")?,
        restarts: row.try_get("restarts")?,
        bumped: row.try_get("bumped")?,
        md5: row.try_get("md5")?,
        file_id: row.try_get("file_id")?,
        deduped_from: row.try_get("deduped_from")?,
        error_code: row.try_get("error_code")?,
        ended: row.try_get::<Option<i64>, _>("ended_at")?.is_some(),
        finish: (row.try_get("finish_state")?, row.try_get("finish_step")?),
    })
}
