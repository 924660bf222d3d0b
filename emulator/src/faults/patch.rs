//! Changes to true answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Changes to the JSON of the true answer, by JSON pointer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    /// Values to set.
    pub set: BTreeMap<String, Value>,
    /// Values to make null (TOML has no null).
    pub null: Vec<String>,
    /// Keys to remove.
    pub remove: Vec<String>,
    /// Another status.
    pub status: Option<u16>,
    /// Headers to set.
    pub headers: BTreeMap<String, String>,
}

impl Patch {
    /// Sets a value.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        self.set.insert(pointer.to_owned(), value.into());
        self
    }

    /// Makes a value null.
    #[must_use]
    pub fn null(mut self, pointer: &str) -> Self {
        self.null.push(pointer.to_owned());
        self
    }

    /// Removes a key.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        self.remove.push(pointer.to_owned());
        self
    }

    pub(crate) fn apply(&self, value: &mut Value) {
        for (pointer, new) in &self.set {
            put(value, pointer, Some(new.clone()));
        }
        for pointer in &self.null {
            put(value, pointer, Some(Value::Null));
        }
        for pointer in &self.remove {
            put(value, pointer, None);
        }
    }
}

fn put(value: &mut Value, pointer: &str, new: Option<Value>) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let Some(parent) = value.pointer_mut(parent) else { return };
    match (parent, new) {
        (Value::Object(object), Some(new)) => {
            object.insert(key.to_owned(), new);
        }
        (Value::Object(object), None) => {
            object.remove(key);
        }
        (Value::Array(array), new) => {
            let slot = key.parse::<usize>().ok().and_then(|at| array.get_mut(at));
            if let (Some(slot), Some(new)) = (slot, new) {
                *slot = new;
            }
        }
        _ => {}
    }
}
