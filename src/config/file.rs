//! The file against the schema: every unknown key and every wrong value with its line, and what is
//! left as plain values. The crate `config` knows no lines and stops at the first error.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::fault::{Fault, Place};
use super::layers::{Places, nearest};
use super::{checks, schema};

/// Reads the text of a file. What is at fault is left out of the table and told in `faults`.
/// Without `folders`, what stands in `[[folder]]` is not looked at.
pub(super) fn read(
    file: &Path,
    text: &str,
    folders: bool,
    places: &mut Places,
    faults: &mut Vec<Fault>,
) -> Table {
    let mut walk = Walk { file, text, places, faults };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut last = None;
        for error in errors {
            let place = walk.place(error.span().unwrap_or_default(), true);
            // One slip makes the parser stumble several times in its line.
            let line = line_of(&place);
            if last.replace(line) != Some(line) {
                walk.faults.push(Fault::new(place, "", error.message().trim().replace('\n', ", ")));
            }
        }
        return Table::new();
    }
    walk.document(document.get_ref(), folders)
}

/// The line of a place in the file, for sorting; the end for all others.
pub(super) fn line_of(place: &Place) -> usize {
    match place {
        Place::Line { line, .. } => *line,
        _ => usize::MAX,
    }
}

struct Walk<'a> {
    file: &'a Path,
    text: &'a str,
    places: &'a mut Places,
    faults: &'a mut Vec<Fault>,
}

impl Walk<'_> {
    fn document(&mut self, document: &DeTable<'_>, folders: bool) -> Table {
        let mut result = Table::new();
        for (name, value) in document {
            let key = name.get_ref().as_ref();
            let span = name.span();
            let entry = match key {
                "folder" if !folders => continue,
                "folder" => self.folders(span, value),
                "accounts" => self.accounts(span, value),
                _ => match schema::table(key) {
                    Some(_) => self.table(key, key, span, value),
                    None => {
                        self.unknown_table(key, span);
                        continue;
                    }
                },
            };
            result.insert(key.to_owned(), entry);
        }
        result
    }

    fn folders(&mut self, span: Range<usize>, value: &Spanned<DeValue<'_>>) -> Value {
        let Some(list) = value.get_ref().as_array() else {
            self.fault(span, "folder", "is not a list of tables", "write [[folder]], with two brackets");
            return Value::Array(Vec::new());
        };
        let mut folders = Vec::new();
        for (index, folder) in list.iter().enumerate() {
            let prefix = format!("folder[{index}]");
            let given = self.table("folder", &prefix, folder.span(), folder);
            if let Some(table) = folder.get_ref().as_table() {
                for (key, example) in [("path", "\"/srv/drop/batch\""), ("purpose", "\"batch\"")] {
                    if !table.contains_key(key) {
                        let remedy = format!("for example {key} = {example}");
                        self.fault(folder.span(), &format!("folder.{key}"), "is missing", &remedy);
                    }
                }
            }
            folders.push(given);
        }
        Value::Array(folders)
    }

    fn accounts(&mut self, span: Range<usize>, value: &Spanned<DeValue<'_>>) -> Value {
        let mut accounts = Table::new();
        let Some(table) = value.get_ref().as_table() else {
            self.fault(span, "accounts", "is not a table of accounts", "write [accounts.NAME]");
            return Value::Table(accounts);
        };
        for (name, account) in table {
            let (span, name) = (name.span(), name.get_ref().as_ref());
            let prefix = format!("accounts.{name}");
            if let Err(why) = checks::account_name(name) {
                self.fault(span, "accounts", &format!("\"{name}\" {why}"), "for example [accounts.eu]");
            } else if name == super::DEFAULT_ACCOUNT {
                self.fault(span, &prefix, "is the name of the account of [api]", "give it another name");
            } else {
                accounts.insert(name.to_owned(), self.table("api", &prefix, span, account));
            }
        }
        Value::Table(accounts)
    }

    /// One table with the keys of the schema's `table`; `prefix` is its full name here.
    fn table(
        &mut self,
        table: &str,
        prefix: &str,
        span: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Value {
        let shown = prefix.split('[').next().unwrap_or(prefix).to_owned();
        let mut result = Table::new();
        let Some(given) = value.get_ref().as_table() else {
            self.fault(span, &shown, "is not a table", &format!("write [{shown}] on a line of its own"));
            return Value::Table(result);
        };
        let place = self.place(span, false);
        self.places.put(prefix, place);
        for (name, value) in given {
            let (span, name) = (name.span(), name.get_ref().as_ref());
            let known = schema::table(table).and_then(|keys| keys.iter().find(|known| known.name == name));
            let Some(known) = known else {
                self.fault(span, &format!("{shown}.{name}"), "unknown key", &hint(table, &shown, name));
                continue;
            };
            let place = self.place(span, false);
            self.places.put(format!("{prefix}.{name}"), place.clone());
            let full = format!("{shown}.{name}");
            let checked = plain(value).and_then(|value| {
                known.kind.check(&value).map_err(|wrong| (wrong.message, wrong.remedy))?;
                Ok(value)
            });
            match checked {
                Ok(value) => drop(result.insert(name.to_owned(), value)),
                Err((message, remedy)) => self.faults.push(Fault::new(place, full, message).remedy(remedy)),
            }
        }
        Value::Table(result)
    }

    fn unknown_table(&mut self, name: &str, span: Range<usize>) {
        let tables = schema::TABLES.iter().map(|(table, _)| *table).chain(["accounts"]);
        let owner = schema::TABLES.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name));
        let hint = match (nearest(name, tables.clone()), owner) {
            (_, Some((table, _))) => format!("it belongs in [{table}]"),
            (Some(near), None) => format!("did you mean \"{near}\"?"),
            (None, None) => format!("there are {}", tables.collect::<Vec<_>>().join(", ")),
        };
        self.fault(span, name, "unknown key", &hint);
    }

    fn fault(&mut self, span: Range<usize>, key: &str, message: &str, remedy: &str) {
        let place = self.place(span, false);
        self.faults.push(Fault::new(place, key, message).remedy(remedy));
    }

    fn place(&self, span: Range<usize>, with_column: bool) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::Line { file: self.file.to_owned(), line, column: with_column.then_some(column) }
    }
}

fn hint(table: &str, shown: &str, name: &str) -> String {
    let keys = schema::table(table).unwrap_or_default().iter().map(|key| key.name);
    if table == "api" && ["key", "api_key", "apikey", "token", "secret"].contains(&name) {
        return "a key does not stand in the configuration: put it in a file and say key_file".into();
    }
    if let Some(near) = nearest(name, keys.clone()) {
        return format!("did you mean \"{near}\"?");
    }
    match schema::TABLES.iter().find(|(_, keys)| keys.iter().any(|key| key.name == name)) {
        Some((owner, _)) => format!("it belongs in [{owner}]"),
        None => format!("[{shown}] has {}", keys.collect::<Vec<_>>().join(", ")),
    }
}

fn plain(value: &Spanned<DeValue<'_>>) -> Result<Value, (String, String)> {
    Value::deserialize(value.clone().into_deserializer())
        .map_err(|why| (why.message().trim().replace('\n', ", "), String::new()))
}
