//! The ledger and the emulator, compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::Result;
use upspool::model::job::State;
use upspool::store::{Filter, Record, Store};
use upspool_emulator::{Emulator, Operation};

use crate::folder::Folder;

/// What a comparison saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub states: BTreeMap<&'static str, usize>,
    pub files: usize,
    pub requests: usize,
    pub violations: Vec<String>,
    /// Jobs that have not ended.
    pub open: Vec<String>,
}

/// Compares. While things happen only what can never be wrong is judged; when all is `calm`, everything.
pub async fn compare(state_dir: &Path, emulator: &Emulator, folder: &Folder, calm: bool) -> Result<Seen> {
    let store = Store::open_for_asking(state_dir).await?;
    let records = store.list(&Filter { limit: 10_000_000, ..Filter::default() }).await?;
    let counts = store.counts().await?;
    store.close().await;
    // After the rows: a File is made before its row is written, never the other way round.
    let files = emulator.files();
    let mut seen = Seen { files: files.len(), ..Seen::default() };
    for record in &records {
        *seen.states.entry(record.state.as_str()).or_default() += 1;
        if !record.state.has_ended() {
            seen.open.push(format!("{} {}", record.state.as_str(), record.relative_path.display()));
        }
    }
    let none = Vec::new();
    let of_path = |record: &Record| folder.versions.get(&record.relative_path).unwrap_or(&none);

    // Each row names one File of its own, with the bytes of one version of its path.
    let by_id: HashMap<&str, &upspool_emulator::FileRecord> =
        files.iter().map(|file| (file.id.as_str(), file)).collect();
    let mut named = BTreeSet::new();
    for record in &records {
        let Some(id) = record.file_id.as_ref().map(|id| id.0.as_str()) else { continue };
        let path = &record.relative_path;
        if !named.insert(id) {
            seen.violations.push(format!("two rows name {id}, one of them {path:?}"));
        }
        match by_id.get(id) {
            None => seen.violations.push(format!("{path:?} names {id}, which does not exist")),
            Some(file) => {
                let digest = file.sha256.clone().unwrap_or_default();
                if !of_path(record).contains(&digest) || file.bytes != record.fingerprint.bytes {
                    seen.violations.push(format!("{path:?} names {id}, whose bytes never were its"));
                }
            }
        }
    }

    // No version became two Files, and no File is of bytes that never lay there as one version.
    let mut versions: HashMap<&str, usize> = HashMap::new();
    for digest in folder.versions.values().flatten() {
        *versions.entry(digest).or_default() += 1;
    }
    let mut made: HashMap<&str, Vec<&str>> = HashMap::new();
    for file in &files {
        made.entry(file.sha256.as_deref().unwrap_or_default()).or_default().push(&file.id);
    }
    for (digest, ids) in &made {
        let lay_there = versions.get(digest).copied().unwrap_or(0);
        if ids.len() > lay_there {
            seen.violations.push(format!("{ids:?} are of {lay_there} versions with SHA-256 {digest}"));
        }
    }

    parts_stay_in_their_upload(emulator, &mut seen);

    if calm {
        let total: u64 = counts.iter().map(|count| count.jobs).sum();
        if total != records.len() as u64 {
            seen.violations.push(format!("{} rows, and {total} by states", records.len()));
        }
        let waits = |file: &upspool_emulator::FileRecord| {
            let doubtful = |record: &&Record| matches!(record.state, State::Unresolved | State::Completing);
            records.iter().filter(doubtful).any(|record| {
                record.filename == file.filename
                    && of_path(record).contains(file.sha256.as_ref().unwrap_or(&String::new()))
            })
        };
        for file in files.iter().filter(|file| !named.contains(file.id.as_str()) && !waits(file)) {
            seen.violations.push(format!("{} ({}) has no row", file.id, file.filename));
        }
        what_lies_there_has_ended(&records, folder, &by_id, &mut seen);
    }
    Ok(seen)
}

/// Nothing is lost: of what lies in the folder exactly one row speaks, and says what became of these bytes.
fn what_lies_there_has_ended(
    records: &[Record],
    folder: &Folder,
    by_id: &HashMap<&str, &upspool_emulator::FileRecord>,
    seen: &mut Seen,
) {
    let mut present: BTreeMap<&Path, Vec<&Record>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.present) {
        present.entry(&record.relative_path).or_default().push(record);
    }
    for path in &folder.there {
        let rows = present.get(path.as_path()).map(Vec::as_slice).unwrap_or_default();
        let [record] = rows else {
            seen.violations.push(format!("{path:?} lies there, and {} rows speak of it", rows.len()));
            continue;
        };
        let current = folder.versions.get(path).and_then(|versions| versions.last());
        let stored = record.file_id.as_ref().and_then(|id| by_id.get(id.0.as_str()));
        match record.state {
            State::Stored if stored.and_then(|file| file.sha256.as_ref()) != current => {
                seen.violations.push(format!("{path:?} is stored with the bytes of an older version"));
            }
            State::Stored | State::Failed | State::Unresolved | State::Completing => {}
            other => seen.violations.push(format!("{path:?} lies there and is {}", other.as_str())),
        }
    }
}

/// A Part of an Upload that was given up is never listed for another.
fn parts_stay_in_their_upload(emulator: &Emulator, seen: &mut Seen) {
    let requests = emulator.requests();
    seen.requests = requests.len();
    let mut home = HashMap::new();
    for request in requests.iter().filter(|request| request.operation == Operation::Part) {
        if let (Some(part), Some(upload)) = (&request.part_id, &request.upload_id) {
            home.insert(part.as_str(), upload.as_str());
        }
    }
    for request in requests.iter().filter(|request| request.operation == Operation::Complete) {
        let listed = request.json.as_ref().and_then(|json| json["part_ids"].as_array());
        for part in listed.into_iter().flatten().filter_map(|part| part.as_str()) {
            if home.get(part).copied() != request.upload_id.as_deref() {
                let upload = request.upload_id.as_deref().unwrap_or_default();
                seen.violations.push(format!("complete of {upload} lists {part} of {:?}", home.get(part)));
            }
        }
    }
}
