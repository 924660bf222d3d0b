//! Script files, and the script of a running emulator.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Action, Fault};
use crate::limits::Limits;
use crate::route::Operation;
use crate::variants::Variants;

/// A script file: `[variants]`, `[limits]` and any number of `[[fault]]`.
///
/// ```
/// # let script: upspool_emulator::ScriptFile = toml::from_str(r#"
/// [variants]                      # fields of Variants
/// second_complete = "upload"      # or a status such as 409
/// errors = "html"
///
/// [limits]                        # fields of Limits; only at the start
/// part_bytes = 1000000
/// upload_lifetime = "2h"
///
/// [[fault]]
/// operation = "part"              # an Operation, or "any" (the default)
/// nth = 3                         # or every = 5, or from = 2 with times = 4; all calls if nothing is said
/// filename = "big.jsonl"          # only for the Upload of this file
/// action.answer = { status = 429, headers = { retry-after = "2" }, code = "slow_down", at = "unread" }
///
/// [[fault]]
/// operation = "complete"
/// action.late = { after = "90s", status = 504 }
///
/// [[fault]]
/// action.drop = { at = { body = 100000 }, reset = true }
/// # "#).unwrap();
/// # assert_eq!(script.fault.len(), 3);
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptFile {
    /// Choices to make otherwise than by default.
    pub variants: Option<Variants>,
    /// Limits to set otherwise.
    pub limits: Option<Limits>,
    /// The faults, in the order in which they act when one call meets several.
    pub fault: Vec<Fault>,
}

/// The faults of a running emulator, each with its count of calls.
#[derive(Debug, Default)]
pub(crate) struct Script(Mutex<Vec<(Fault, u64)>>);

impl Script {
    pub(crate) fn add(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.extend(faults.into_iter().map(|fault| (fault, 0)));
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn needs_filename(&self, operation: Operation) -> bool {
        let script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        script.iter().any(|(fault, _)| fault.calls.needs_filename(operation))
    }

    /// Counts this call and takes what it meets.
    pub(crate) fn draw(&self, operation: Operation, filename: Option<&str>) -> Vec<Action> {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut actions = Vec::new();
        for (fault, count) in script.iter_mut().filter(|(fault, _)| fault.calls.is_for(operation, filename)) {
            *count += 1;
            if fault.calls.includes(*count) {
                actions.push(fault.action.clone());
            }
        }
        actions
    }
}
