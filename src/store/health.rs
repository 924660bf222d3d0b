//! Whether the store works: what the writer and those who read found, as one answer.
//!
//! What cannot be written or read now is tried again, and sending is on hold until then. What is damaged is not tried
//! again: the service ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::model::job::Code;

use super::error::StoreError;

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

    /// How a read of `place` went. What says nothing about the store as a whole changes nothing.
    pub(super) fn heard<T>(&self, place: &str, result: &Result<T, StoreError>, again: Duration) {
        match result {
            Ok(_) => self.works(place),
            Err(StoreError::Broken { code: Code::Internal, .. }) => {}
            Err(StoreError::Broken { code: Code::StoreCorrupt, message }) => self.damaged(message.clone()),
            Err(StoreError::Broken { code, message }) => self.failed(place, *code, message.clone(), again),
            Err(_) => {}
        }
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

    #[test]
    fn one_row_that_cannot_be_understood_holds_nothing() {
        let vitals = Vitals::new();
        let row: Result<(), _> =
            Err(StoreError::Broken { code: Code::Internal, message: "unknown stage".into() });
        vitals.heard("refill", &row, AGAIN);
        assert_eq!(*vitals.health().borrow(), Health::Up);
    }
}
