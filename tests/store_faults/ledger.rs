//! What these tests ask of a bench besides: its database as SQLite itself sees it, and what the service says of itself.

use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use upspool::clock::Clock;

use crate::harness::{Bench, PATIENCE, Service, noise};

impl Bench {
    pub fn database(&self) -> PathBuf {
        self.state_dir().join("upspool.db")
    }

    /// A connection of somebody else.
    pub async fn outsider(&self) -> SqliteConnection {
        let options =
            SqliteConnectOptions::new().filename(self.database()).busy_timeout(Duration::from_secs(30));
        options.connect().await.unwrap()
    }

    /// Asserts that the ledger is the truth, and that the database is whole.
    pub async fn assert_whole(&self) {
        self.assert_ledger_is_the_truth().await;
        let mut connection = self.outsider().await;
        let said: String =
            sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await.unwrap();
        assert_eq!(said, "ok");
        let dangling = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut connection).await.unwrap();
        assert!(dangling.is_empty(), "{} rows refer to nothing", dangling.len());
        connection.close().await.unwrap();
    }

    /// Drops small files that differ.
    pub fn drop_files(&self, prefix: &str, count: u64) {
        for n in 0..count {
            let seed = prefix.bytes().fold(n + 1, |seed, byte| seed * 31 + u64::from(byte));
            self.drop_file(format!("{prefix}{n:03}.bin"), &noise(500 + usize::try_from(n).unwrap(), seed));
        }
    }

    /// Runs a command to its end.
    pub async fn ask(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = self.command(arguments);
        // What is done to the service's own calls is not done to those of who looks.
        command.env_remove("LD_PRELOAD");
        let output: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text)
    }

    /// What the service says of itself, once `wanted` holds. Asked again and again: it is true only now.
    pub async fn live(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Clock::System.now().boot + PATIENCE;
        loop {
            let live = upspool::status::ask(&self.state_dir()).await;
            let live = live.map(|live| serde_json::to_value(live).unwrap()).unwrap_or_default();
            if wanted(&live) {
                return live;
            }
            assert!(Clock::System.now().boot < end, "never {what}: {live:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until so many rows have their File: a line of the log comes before the commit.
    pub async fn committed(&self, count: usize) {
        let end = Clock::System.now().boot + PATIENCE;
        loop {
            let stored = self.records().await.iter().filter(|record| record.file_id.is_some()).count();
            if stored >= count {
                return;
            }
            assert!(Clock::System.now().boot < end, "only {stored} of {count} are in the ledger");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many requests the server has seen.
    pub fn seen(&self) -> usize {
        self.emulator.requests().len()
    }
}

impl Service {
    pub fn count(&self, event: &str) -> usize {
        self.log().iter().filter(|line| line["event"] == event).count()
    }

    /// Waits for the hold of the store, and asserts what its line says.
    pub async fn wait_held(&self, code: &'static str) {
        let line = self.wait_event("hold").await;
        assert_eq!(line["code"], code, "{line}");
        let words = line["message"].as_str().unwrap();
        assert!(words.starts_with("sending stopped for the store: "), "{words}");
    }

    /// Asserts one line for the hold and one for its end, which counts what failed between.
    pub async fn assert_told_once(&self) {
        let line = self.wait_event("resumed").await;
        assert_eq!((self.count("hold"), self.count("resumed")), (1, 1), "{}", self.raw_log());
        let words = line["message"].as_str().unwrap();
        let count = words.strip_prefix("sending goes on for the store after ").unwrap();
        let count: u32 = count.split(' ').next().unwrap().parse().unwrap();
        assert!(count >= 1, "{words}");
        assert!(line["duration_ms"].as_u64().is_some(), "{line}");
    }
}

/// The hold of the store among what the service says of itself.
pub fn hold_of(live: &Value) -> Option<&Value> {
    live["holds"].as_array()?.iter().find(|hold| hold["scope"] == "store")
}
