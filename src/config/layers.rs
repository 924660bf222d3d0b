//! The layers of the configuration: which file, what the environment says, and one laid over the
//! other. The environment is an argument, so that nothing here depends on who runs it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::fault::{Fault, Place};
use super::raw::Raw;
use super::{Sources, schema};

/// Where each key was said, by its full name: `upload.part_size`, `folder[0].path`,
/// `accounts.eu.auth`; tables have their place too.
#[derive(Debug, Default)]
pub(super) struct Places {
    said: BTreeMap<String, Place>,
    file: Option<PathBuf>,
}

impl Places {
    pub(super) fn new(file: Option<PathBuf>) -> Self {
        Self { said: BTreeMap::new(), file }
    }

    pub(super) fn put(&mut self, key: impl Into<String>, place: Place) {
        self.said.insert(key.into(), place);
    }

    pub(super) fn said(&self, key: &str) -> bool {
        self.said.contains_key(key)
    }

    /// The place of the key, else of its table, else the file.
    pub(super) fn of(&self, key: &str) -> Place {
        let table = key.rsplit_once('.').map_or(key, |(table, _)| table);
        match (self.said.get(key).or_else(|| self.said.get(table)), &self.file) {
            (Some(place), _) => place.clone(),
            (None, Some(file)) => Place::File(file.clone()),
            (None, None) => Place::Default,
        }
    }
}

/// The file that is in force, if there is one. One that is named must be there.
pub(super) fn find_file(sources: &Sources, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let named = match (&sources.config_flag, sources.path("UPSPOOL_CONFIG")) {
        (Some(file), _) => Some((Place::Flag("--config"), file.clone())),
        (None, Some(file)) => Some((Place::Variable("UPSPOOL_CONFIG".into()), file)),
        (None, None) => None,
    };
    let Some((place, file)) = named else {
        return usual_files(sources).into_iter().find(|file| is_there(file));
    };
    if is_there(&file) {
        return Some(std::path::absolute(&file).unwrap_or(file));
    }
    faults.push(
        Fault::new(place, "", format!("{} does not exist", file.display()))
            .remedy("name a file that is there, or none to use the usual places"),
    );
    None
}

/// Lays the layers over each other, the weakest first: SDK variables, file, environment.
pub(super) fn merge(
    sdk: Table,
    mut file: Table,
    env: Table,
    places: &Places,
    faults: &mut Vec<Fault>,
) -> Option<Raw> {
    // The crate would mix two tables of one key; a setting is taken whole from one layer.
    if env.get("api").is_some_and(|api| api.get("query").is_some())
        && let Some(Value::Table(api)) = file.get_mut("api")
    {
        api.remove("query");
    }
    let merged = [sdk, file, env]
        .into_iter()
        .fold(config::Config::builder(), |builder, table| builder.add_source(Layer(table)))
        .build();
    let (key, why) = match merged.map(serde_path_to_error::deserialize::<_, Raw>) {
        Ok(Ok(raw)) => return Some(raw),
        // Every value was checked before, so this fails only if schema and types have drifted apart.
        Ok(Err(why)) => (why.path().to_string(), why.into_inner().to_string()),
        Err(why) => (String::new(), why.to_string()),
    };
    faults.push(Fault::new(places.of(&key), key, why));
    None
}

/// What `UPSPOOL__TABLE__KEY` variables say.
pub(super) fn read_environment(
    env: &BTreeMap<OsString, OsString>,
    places: &mut Places,
    faults: &mut Vec<Fault>,
) -> Table {
    const PREFIX: &str = "UPSPOOL__";
    let known: Vec<(String, &str, &schema::Key)> = schema::TABLES
        .iter()
        .filter(|(table, _)| *table != "folder")
        .flat_map(|(table, keys)| {
            keys.iter().map(move |key| (variable(PREFIX, table, key.name), *table, key))
        })
        .collect();
    let mut layer = Table::new();
    for (name, value) in env {
        let name = name.to_string_lossy();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let place = Place::Variable(name.to_string());
        if ["FOLDER", "ACCOUNTS"].contains(&rest.split("__").next().unwrap_or_default()) {
            faults.push(
                Fault::new(place, "", "folders and accounts cannot come from the environment")
                    .remedy("put them into the configuration file"),
            );
            continue;
        }
        let Some((_, table, key)) = known.iter().find(|(known, ..)| *known == name) else {
            let names = known.iter().map(|(known, ..)| known.as_str());
            let hint = match nearest(&name, names) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => "variables are named UPSPOOL__TABLE__KEY, as UPSPOOL__UPLOAD__PARALLEL_PARTS".into(),
            };
            faults.push(Fault::new(place, "", "unknown variable").remedy(hint));
            continue;
        };
        put_text(&mut layer, (table, key), value, place, places, faults);
    }
    layer
}

/// What the variables of OpenAI's SDKs say, where nothing stronger spoke.
pub(super) fn read_sdk_variables(sources: &Sources, places: &mut Places, faults: &mut Vec<Fault>) -> Table {
    let mut layer = Table::new();
    for (name, key) in
        [("OPENAI_BASE_URL", "base_url"), ("OPENAI_ORG_ID", "organization"), ("OPENAI_PROJECT_ID", "project")]
    {
        // Empty means unset, as in the SDKs.
        let value = sources.env.get(OsStr::new(name)).filter(|value| !value.is_empty());
        let key = schema::table("api").and_then(|keys| keys.iter().find(|known| known.name == key));
        if let (Some(value), Some(key)) = (value, key)
            && !places.said(&format!("api.{}", key.name))
        {
            put_text(&mut layer, ("api", key), value, Place::Variable(name.into()), places, faults);
        }
    }
    layer
}

/// The candidate that a slip of the pen would have made into `given`.
pub(super) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below this two words have no more in common than chance.
    const ALIKE: f64 = 0.8;
    candidates
        .map(|candidate| (strsim::jaro_winkler(given, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn put_text(
    layer: &mut Table,
    (table, key): (&str, &schema::Key),
    value: &OsStr,
    place: Place,
    places: &mut Places,
    faults: &mut Vec<Fault>,
) {
    let full = format!("{table}.{}", key.name);
    let Some(text) = value.to_str() else {
        faults.push(Fault::new(place, full, "is not UTF-8"));
        return;
    };
    let value = key.kind.read_text(text);
    match key.kind.check(&value) {
        Ok(()) => {
            let entry = layer.entry(table).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(entry) = entry {
                entry.insert(key.name.to_owned(), value);
            }
            places.put(full, place);
        }
        Err(wrong) => faults.push(Fault::new(place, full, wrong.message).remedy(wrong.remedy)),
    }
}

fn variable(prefix: &str, table: &str, key: &str) -> String {
    format!("{prefix}{table}__{key}").to_uppercase()
}

fn usual_files(sources: &Sources) -> Vec<PathBuf> {
    let user = sources.base_directory("XDG_CONFIG_HOME", ".config");
    let system = PathBuf::from("/etc/upspool/upspool.toml");
    user.map(|directory| directory.join("upspool/upspool.toml")).into_iter().chain([system]).collect()
}

/// What cannot be looked at counts as there: reading it then says why.
fn is_there(file: &Path) -> bool {
    file.try_exists().unwrap_or(true)
}

/// A table as a source for the crate `config`.
#[derive(Debug, Clone)]
struct Layer(Table);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<config::Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.iter().map(|(key, value)| (key.clone(), convert(value))).collect())
    }
}

fn convert(value: &Value) -> config::Value {
    let kind = match value {
        Value::String(text) => config::ValueKind::String(text.clone()),
        Value::Integer(n) => config::ValueKind::I64(*n),
        Value::Float(n) => config::ValueKind::Float(*n),
        Value::Boolean(b) => config::ValueKind::Boolean(*b),
        // No key takes a date; its check has refused it.
        Value::Datetime(date) => config::ValueKind::String(date.to_string()),
        Value::Array(list) => config::ValueKind::Array(list.iter().map(convert).collect()),
        Value::Table(table) => {
            config::ValueKind::Table(table.iter().map(|(key, value)| (key.clone(), convert(value))).collect())
        }
    };
    config::Value::new(None, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(env: &[(&str, &str)]) -> Sources {
        Sources { config_flag: None, env: env.iter().map(|(k, v)| (k.into(), v.into())).collect() }
    }

    #[test]
    fn the_users_file_is_looked_for_before_the_systems() {
        let system = PathBuf::from("/etc/upspool/upspool.toml");
        for (env, user) in [
            (&[("HOME", "/home/u"), ("XDG_CONFIG_HOME", "/x")][..], Some("/x/upspool/upspool.toml")),
            (&[("HOME", "/home/u")], Some("/home/u/.config/upspool/upspool.toml")),
            (&[("HOME", "/home/u"), ("XDG_CONFIG_HOME", "")], Some("/home/u/.config/upspool/upspool.toml")),
            (&[], None),
        ] {
            let expected: Vec<_> = user.map(PathBuf::from).into_iter().chain([system.clone()]).collect();
            assert_eq!(usual_files(&sources(env)), expected);
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["part_size", "parallel_parts", "checksum"];
        assert_eq!(nearest("paralel_parts", names.into_iter()), Some("parallel_parts"));
        assert_eq!(nearest("verify", names.into_iter()), None);
    }
}
