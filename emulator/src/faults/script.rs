//! Script files, and the script of a running emulator.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Action, Fault};
use crate::limits::Limits;
use crate::route::Operation;
use crate::variants::Variants;

/// A script file: `[variants]`, `[limits]` and any number of `[[fault]]`.
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
