//! Whether the store works: what the writer and those who read found, as one answer.
//!
//! What cannot be written or read now is tried again, and sending is on hold until then. What is damaged is not tried
//! again: the service ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::{ConnectOptions, Connection};
use tokio::sync::watch;

use crate::model::job::Code;

use super::error::{self, StoreError};
use super::{Store, check, open};

/// Whether what is written is also kept, and what is kept can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Up,
    /// Not now; it is tried again, and nothing is dropped.
    Down {
        /// Which kind of fault.
        code: Code,
        /// SQLite's words.
        message: String,
        /// Tries that have failed since it was last up.
        tries: u32,
        /// The next try comes after this.
        again: Duration,
    },
    /// It is no ledger any more, and is not tried again.
    Damaged {
        /// What was found.
        message: String,
    },
}

/// What each of those who use the store found.
#[derive(Debug)]
pub(super) struct Vitals {
    report: watch::Sender<Health>,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    faults: BTreeMap<String, (Code, String, Duration)>,
    tries: u32,
    damage: Option<String>,
}

impl Vitals {
    pub(super) fn new() -> Vitals {
        Vitals { report: watch::Sender::new(Health::Up), found: Mutex::default() }
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.report.subscribe()
    }

    /// Tries that failed in this outage, or in the last one.
    pub(super) fn tries(&self) -> u32 {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).tries
    }

    /// What makes it no ledger any more, if so.
    pub(super) fn damage(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).damage.clone()
    }

    /// `place` failed, and tries again after a while.
    pub(super) fn failed(&self, place: &str, code: Code, message: String, again: Duration) {
        self.change(|found| {
            if found.faults.is_empty() {
                found.tries = 0;
            }
            found.tries = found.tries.saturating_add(1);
            found.faults.insert(place.to_owned(), (code, message, again));
        });
    }

    /// What `place` does works.
    pub(super) fn works(&self, place: &str) {
        self.change(|found| {
            found.faults.remove(place);
        });
    }

    /// There is no point in going on.
    pub(super) fn damaged(&self, message: String) {
        self.change(|found| {
            found.damage.get_or_insert(message);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Found)) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut found);
        let health = found.health();
        // Under the lock, so that the last to change is also the last to tell.
        self.report.send_if_modified(|told| {
            let changed = *told != health;
            *told = health;
            changed
        });
    }
}

impl Store {
    /// How a read of `place` went, which is tried `again` if it failed. What says nothing about the store as a whole changes
    /// nothing.
    pub(super) async fn heard<T>(&self, place: &str, result: &Result<T, StoreError>, again: Duration) {
        match result {
            Ok(_) => self.vitals.works(place),
            Err(StoreError::Broken { code: Code::Internal, .. }) => {}
            Err(StoreError::Broken { code: Code::StoreCorrupt, message }) => {
                self.judge(place, message, again).await;
            }
            Err(StoreError::Broken { code, message }) => {
                self.vitals.failed(place, *code, message.clone(), again);
            }
            Err(_) => {}
        }
    }

    /// `place` was told that the database is damaged. SQLite says the same of a read that the disk refused, and a disk may
    /// come back: only what is there to be read, and found to be wrong, is damage.
    pub(super) async fn judge(&self, place: &str, message: &str, again: Duration) {
        let failed = |code, message| self.vitals.failed(place, code, message, again);
        if let Some(fault) = self.unreadable().await {
            return failed(Code::StoreIo, fault);
        }
        // Nothing is sent while every page is looked at.
        failed(Code::StoreCorrupt, message.to_owned());
        let found = match self.look_at_all().await {
            Ok(None) => {
                let words =
                    format!("{message}; the disk gave it so, for a look at the whole finds nothing wrong");
                return failed(Code::StoreIo, words);
            }
            Ok(Some(found)) => error::one_line(&found),
            Err(fault) if error::is_damage(&fault) => message.to_owned(),
            Err(fault) => return failed(error::code_of(&fault), fault.to_string()),
        };
        match self.unreadable().await {
            Some(fault) => failed(Code::StoreIo, fault),
            None => self.vitals.damaged(found),
        }
    }

    async fn unreadable(&self) -> Option<String> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || check::unreadable(&path)).await;
        read.ok().flatten().map(|fault| format!("it cannot be read: {fault}"))
    }

    async fn look_at_all(&self) -> sqlx::Result<Option<String>> {
        let mut connection = open::options(&self.path).connect().await?;
        let found = check::all(&mut connection).await;
        // Nothing was written by it; how it ends says nothing.
        connection.close().await.ok();
        found
    }
}

impl Found {
    fn health(&self) -> Health {
        if let Some(message) = &self.damage {
            return Health::Damaged { message: message.clone() };
        }
        match self.faults.values().next() {
            Some((code, message, again)) => {
                Health::Down { code: *code, message: message.clone(), tries: self.tries, again: *again }
            }
            None => Health::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGAIN: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_up_again_when_all_that_failed_works() {
        let vitals = Vitals::new();
        let health = vitals.health();
        vitals.failed("writing", Code::StoreFull, "full".into(), AGAIN);
        vitals.failed("reading", Code::StoreIo, "bad sector".into(), AGAIN);
        vitals.works("writing");
        assert!(matches!(&*health.borrow(), Health::Down { code: Code::StoreIo, tries: 2, .. }));
        vitals.works("reading");
        assert_eq!(*health.borrow(), Health::Up);
        assert_eq!(vitals.tries(), 2, "for who tells that it is over");
        vitals.failed("writing", Code::StoreFull, "full".into(), AGAIN);
        assert_eq!(vitals.tries(), 1, "another outage");
    }

    #[test]
    fn damage_is_final() {
        let vitals = Vitals::new();
        vitals.damaged("first".into());
        vitals.damaged("second".into());
        vitals.works("writing");
        assert_eq!(*vitals.health().borrow(), Health::Damaged { message: "first".into() });
    }

    #[tokio::test]
    async fn one_row_that_cannot_be_understood_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), crate::store::BootId("a".into())).await.unwrap();
        let code = Code::Internal;
        let row: Result<(), _> = Err(StoreError::Broken { code, message: "unknown stage".into() });
        store.heard("refill", &row, AGAIN).await;
        assert_eq!(*store.vitals.health().borrow(), Health::Up);
    }

    #[tokio::test]
    async fn who_calls_a_whole_database_damaged_was_misled_by_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(dir.path(), crate::store::BootId("a".into())).await.unwrap();
        let health = store.vitals.health();
        store.judge("refill", "malformed", AGAIN).await;
        assert!(matches!(&*health.borrow(), Health::Down { code: Code::StoreIo, .. }), "{health:?}");
        // The log has every page so far: fold it in first, so that the file is what counts.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&store.writer).await.unwrap();
        let mut bytes = std::fs::read(store.path()).unwrap();
        bytes[4096..].fill(7);
        std::fs::write(store.path(), &bytes).unwrap();
        store.judge("refill", "malformed", AGAIN).await;
        assert!(matches!(&*health.borrow(), Health::Damaged { .. }), "{health:?}");
    }
}
