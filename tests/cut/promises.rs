//! What must be true however the service was cut: its promises, held against the rows of the store and against
//! what the emulator itself recorded.

use std::collections::{BTreeMap, BTreeSet};

use upspool::model::job::State;
use upspool::store::Store;
use upspool_emulator::{FileRecord, Operation, RequestRecord};

use crate::harness::sha256;
use crate::ledger::{JobRow, Ledger, PartRow};
use crate::room::{Moment, Room, Version};
use crate::workloads::Workload;

/// Whether the service looks a lost File up in the server's list. Until it does, a complete whose answer was lost and
/// that the server refuses to repeat ends `unresolved`: not lost, and never a second File. Then only what a workload
/// says nobody can tell may.
const LOST_FILES_ARE_LOOKED_UP: bool = false;

/// The promises that are broken, each in words.
pub async fn broken(room: &Room, workload: &Workload, creates: &BTreeMap<String, usize>) -> Vec<String> {
    let case = Case {
        ledger: room.ledger().await,
        requests: room.bench.emulator.requests(),
        files: room.bench.emulator.files(),
        room,
        workload,
    };
    let mut broken = room.troubles.clone();
    case.the_store_is_whole(&mut broken).await;
    case.every_version_ended_once(&mut broken);
    case.rows_and_files_name_each_other(&mut broken);
    case.no_version_has_two_files(&mut broken);
    case.stored_parts_are_not_sent_again(&mut broken);
    case.living_uploads_are_gone_on_with(creates, &mut broken);
    case.nothing_is_asked_of_an_upload_that_ended(&mut broken);
    case.what_was_sent_and_told_was_on_disk(&mut broken);
    case.what_was_on_disk_stays(&mut broken);
    case.sources_are_where_they_belong(&mut broken);
    case.ends_are_done_and_told(&mut broken);
    broken
}

/// How many Uploads were opened for each file.
pub fn creates(room: &Room) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in room.bench.emulator.requests_of(Operation::Create) {
        *counts.entry(request.filename.unwrap_or_default()).or_default() += 1;
    }
    counts
}

struct Case<'a> {
    ledger: Ledger,
    requests: Vec<RequestRecord>,
    files: Vec<FileRecord>,
    room: &'a Room,
    workload: &'a Workload,
}

impl Case<'_> {
    /// The database is sound, at the cut and at the end; the states add up; every request of the operator was taken up.
    async fn the_store_is_whole(&self, broken: &mut Vec<String>) {
        for (when, ledger) in
            self.moments().map(|moment| ("at the cut", &moment.ledger)).chain([("at the end", &self.ledger)])
        {
            broken.extend(ledger.damage.iter().map(|fault| format!("the database {when}: {fault}")));
        }
        if !self.ledger.exists {
            broken.push("there is no store at the end".into());
            return;
        }
        let store = match Store::open_for_asking(&self.room.bench.state_dir()).await {
            Ok(store) => store,
            Err(fault) => {
                broken.push(format!("no command can read the store at the end: {fault}"));
                return;
            }
        };
        let counted: u64 = store.counts().await.unwrap().iter().map(|count| count.jobs).sum();
        store.close().await;
        if counted != self.ledger.jobs.len() as u64 {
            broken.push(format!("{} jobs, and the states add up to {counted}", self.ledger.jobs.len()));
        }
        for (id, (kind, done)) in &self.ledger.requests {
            if done.is_none() {
                broken.push(format!("the request {id}, {kind}, was never answered"));
            }
        }
    }

    /// Promise 1: each version that lay in the folder has one row, which ended where it may.
    fn every_version_ended_once(&self, broken: &mut Vec<String>) {
        for (id, job) in &self.ledger.jobs {
            if self.version(job).is_none() {
                broken.push(format!("job {id} is of no version that lay there: {job:?}"));
            }
        }
        for version in &self.room.versions {
            let gone =
                |job: &JobRow| job.stage == "gone" && job.error_code.as_deref() == Some("file-changed");
            let mut rows: Vec<&JobRow> =
                self.ledger.jobs.values().filter(|job| is_of(job, version)).collect();
            rows.retain(|job| !(version.touched && gone(job)));
            let [job] = rows.as_slice() else {
                broken.push(format!("{} has {} rows, not one: {rows:?}", named(version), rows.len()));
                continue;
            };
            let state = State::from_name(&job.stage);
            let excused = state == Some(State::Unresolved) && self.may_be_unresolved(job);
            if !excused && !state.is_some_and(|state| version.ends.contains(&state)) {
                broken.push(format!("{} ended as {}: {job:?}", named(version), job.stage));
            }
            if job.ended != state.is_some_and(State::has_ended) {
                broken.push(format!("{}: whether its row has ended does not fit: {job:?}", named(version)));
            }
        }
    }

    /// Whether an answer to complete was lost, and the service cannot look the File up.
    fn may_be_unresolved(&self, job: &JobRow) -> bool {
        let uploads = self.uploads_of(job);
        let completes = |request: &&RequestRecord| {
            request.operation == Operation::Complete
                && request.upload_id.as_ref().is_some_and(|id| uploads.contains(id))
        };
        let lost = self.requests.iter().filter(completes).any(|request| {
            let told = request.delivered && request.status == Some(200);
            !told || self.moments().any(|moment| is_completing(moment, &uploads))
        });
        !LOST_FILES_ARE_LOOKED_UP && lost
    }

    /// Promise 2, and that no File is without a row.
    fn rows_and_files_name_each_other(&self, broken: &mut Vec<String>) {
        let mut claimed = BTreeSet::new();
        for job in self.ledger.jobs.values().filter(|job| job.stage == "stored" || job.file_id.is_some()) {
            let Some(file) = self.files.iter().find(|file| Some(&file.id) == job.file_id.as_ref()) else {
                broken.push(format!("there is no such File: {job:?}"));
                continue;
            };
            // One that shares it says whose it is.
            let owner = job.deduped_from.and_then(|from| self.ledger.jobs.get(&from));
            let shares = owner.is_some_and(|one| one.file_id == job.file_id && one.deduped_from.is_none());
            if job.deduped_from.is_some() != shares || (!shares && !claimed.insert(file.id.clone())) {
                broken.push(format!("File {} is in the ledger twice: {job:?}", file.id));
            }
            let content = self.version(job).map(|version| sha256(&version.content));
            let name = job.path.rsplit('/').next().unwrap_or_default();
            if content != file.sha256 || file.filename != name || job.stage != "stored" {
                broken.push(format!("the ledger names another file's bytes: {job:?}, {file:?}"));
            }
        }
        for file in self.files.iter().filter(|file| !claimed.contains(&file.id)) {
            let unresolved = file.upload_id.as_ref().and_then(|id| self.ledger.job_of_upload(id));
            if unresolved.is_none_or(|(_, job)| job.stage != "unresolved") {
                broken.push(format!("File {} of {} is in no row", file.id, file.filename));
            }
        }
    }

    /// Promise 3. Contents differ from version to version, except where a folder wants the same bytes to be sent once: so a
    /// content that is there twice was sent twice.
    fn no_version_has_two_files(&self, broken: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for file in &self.files {
            if !seen.insert((&file.filename, &file.sha256)) {
                broken.push(format!("two Files of one version of {}: {:#?}", file.filename, self.files));
            }
        }
    }

    /// Promise 4: what the rows had at the cut is not sent again to that Upload.
    fn stored_parts_are_not_sent_again(&self, broken: &mut Vec<String>) {
        for (moment, until) in self.windows() {
            for ((job, number, _), part) in &moment.ledger.parts {
                let (Some(row), Some(upload)) =
                    (moment.ledger.jobs.get(job), moment.ledger.uploads.get(&(*job, *number)))
                else {
                    continue;
                };
                let Some(version) = self.version(row).filter(|_| part.part_id.is_some()) else { continue };
                let (start, length) = (part.start as usize, part.length as usize);
                let sent = sha256(&version.content[start..start + length]);
                let again = self.requests[moment.requests..until].iter().find(|request| {
                    request.operation == Operation::Part
                        && request.upload_id.as_ref() == Some(&upload.upload_id)
                        && request.sha256.as_ref() == Some(&sent)
                });
                if let Some(again) = again {
                    broken.push(format!("request {} sends again what was stored: {part:?}", again.number));
                }
            }
        }
    }

    /// Promise 4, the other half: an Upload that lives is not given up for a new one. Each cut may lose one create, whose
    /// Upload nobody knows of.
    fn living_uploads_are_gone_on_with(&self, creates: &BTreeMap<String, usize>, broken: &mut Vec<String>) {
        if self.workload.restarts {
            return;
        }
        for (name, count) in self::creates(self.room) {
            let allowed = creates.get(&name).copied().unwrap_or_default();
            let same = self.room.versions.iter().filter(|version| base_name(&version.path) == name);
            let touched = same.clone().filter(|version| version.touched).count();
            if count > allowed + same.count().max(1) * self.room.moments.len() + touched {
                broken.push(format!("{count} Uploads of {name}; without a cut there are {allowed}"));
            }
        }
        for (moment, until) in self.windows() {
            for (id, job) in moment.ledger.jobs.iter().filter(|(_, job)| is_open(job)) {
                let some =
                    |((job, ..), part): (&(i64, i64, i64), &PartRow)| job == id && part.part_id.is_some();
                if self.version(job).is_none_or(|version| version.touched)
                    && !moment.ledger.parts.iter().any(some)
                {
                    continue;
                }
                let name = base_name(&job.path);
                let twins = self.room.versions.iter().filter(|version| base_name(&version.path) == name);
                let anew = self.requests[moment.requests..until].iter().find(|request| {
                    request.operation == Operation::Create && request.filename.as_deref() == Some(name)
                });
                if let (1, Some(anew)) = (twins.count(), anew) {
                    broken.push(format!("request {} gives up a living Upload: {job:?}", anew.number));
                }
            }
        }
    }

    /// No Part and no complete goes to an Upload of which the service had heard that it ended, unless a cut took that
    /// knowledge from it; and a complete names Parts of its own Upload, each once.
    fn nothing_is_asked_of_an_upload_that_ended(&self, broken: &mut Vec<String>) {
        for upload in self.room.bench.emulator.uploads() {
            let of_it = |request: &&RequestRecord| request.upload_id.as_ref() == Some(&upload.id);
            let ending = self.requests.iter().filter(of_it).find(|request| {
                matches!(request.operation, Operation::Complete | Operation::Cancel)
                    && request.status == Some(200)
                    && request.worked
            });
            for request in self.requests.iter().filter(of_it) {
                if request.operation == Operation::Complete {
                    let ids = request.json.as_ref().and_then(|json| json["part_ids"].as_array().cloned());
                    let ids = ids.unwrap_or_default();
                    let its: BTreeSet<_> = upload.parts.iter().map(|part| part.id.as_str()).collect();
                    let named: BTreeSet<_> = ids.iter().filter_map(|id| id.as_str()).collect();
                    if named.len() != ids.len() || !named.is_subset(&its) {
                        broken.push(format!("request {} names Parts of elsewhere", request.number));
                    }
                }
                let Some(ending) = ending.filter(|ending| ending.number < request.number) else { continue };
                let late = request.started_ms > ending.finished_ms.unwrap_or(u64::MAX);
                let uses = matches!(request.operation, Operation::Part | Operation::Complete);
                let forgotten = self.moments().any(|moment| {
                    let between = (ending.number..request.number).contains(&(moment.requests as u64));
                    let known =
                        moment.ledger.uploads.values().any(|row| row.upload_id == upload.id && row.ended);
                    between && !known
                });
                if uses && late && ending.delivered && !forgotten {
                    let (one, other) = (request.number, ending.number);
                    broken.push(format!("request {one} uses an Upload that request {other} ended"));
                }
            }
        }
    }

    /// At a cut the disk has what the server was asked to finish, and what a person was told.
    fn what_was_sent_and_told_was_on_disk(&self, broken: &mut Vec<String>) {
        for moment in self.moments() {
            let heard = self.requests.iter().take(moment.requests);
            for complete in heard.filter(|request| request.operation == Operation::Complete) {
                let Some(id) = &complete.upload_id else { continue };
                let row = moment.ledger.job_of_upload(id);
                let ended = moment.ledger.uploads.values().any(|row| row.upload_id == *id && row.ended);
                if !ended
                    && row.is_none_or(|(_, job)| !matches!(job.stage.as_str(), "completing" | "unresolved"))
                {
                    let number = complete.number;
                    broken.push(format!("request {number} completes what was not written: {row:?}"));
                }
            }
            for file in &moment.told {
                if !moment.ledger.jobs.values().any(|job| job.file_id.as_ref() == Some(file)) {
                    broken.push(format!("{file} was printed, and is not on disk"));
                }
            }
        }
    }

    /// What a power cut left is on disk, and stays: jobs, Files, and the Parts of Uploads that go on.
    fn what_was_on_disk_stays(&self, broken: &mut Vec<String>) {
        let later = self.moments().skip(1).map(|moment| &moment.ledger).chain([&self.ledger]);
        for (moment, later) in self.moments().zip(later).filter(|(moment, _)| moment.is_durable) {
            for (id, job) in &moment.ledger.jobs {
                let now = later.jobs.get(id);
                let is_there = now.is_some_and(|now| now.path == job.path && now.bytes == job.bytes);
                let has_file = job.file_id.is_none() || now.is_some_and(|now| now.file_id == job.file_id);
                if !is_there || !has_file {
                    broken.push(format!("what was on disk is lost: {job:?}, now {now:?}"));
                }
            }
            for (place, part) in moment.ledger.parts.iter().filter(|(_, part)| part.part_id.is_some()) {
                if later.parts.get(place) != Some(part) {
                    broken.push(format!("what was on disk is lost: Part {place:?}, {part:?}"));
                }
            }
        }
    }

    /// Promise 5: what is to stay stays, and what is to be moved was, once, whole, and over nothing.
    fn sources_are_where_they_belong(&self, broken: &mut Vec<String>) {
        let found = self.room.folder();
        if found != self.room.lies {
            broken.push(format!("the folder holds {found:?}, not {:?}", self.room.lies));
        }
    }

    /// What is to be done after the end of a job was done: its receipt says what the ledger says, and the program was told at
    /// least once, after everything else, and nothing but the truth.
    fn ends_are_done_and_told(&self, broken: &mut Vec<String>) {
        let told = self.room.told();
        for path in &self.room.receipts {
            let Some((id, job)) = self.ledger.jobs.iter().find(|(_, job)| job.path == *path) else {
                continue;
            };
            if job.finish != ("done".to_owned(), None) {
                broken.push(format!("the end of job {id} is not done: {job:?}"));
            }
            let is_true = |record: &serde_json::Value| {
                record["state"] == job.stage.as_str() && record["file_id"].as_str() == job.file_id.as_deref()
            };
            let receipt = self.room.receipt(path).unwrap_or_default();
            if receipt["id"] != *id || !is_true(&receipt) {
                broken.push(format!("the receipt of {path} says {receipt}: {job:?}"));
            }
            let own: Vec<_> = told.iter().filter(|record| record["id"] == *id).collect();
            if own.is_empty()
                || !own.iter().all(|record| is_true(record) && record["finish"]["moved_to"].is_string())
            {
                broken.push(format!("the program was told of job {id}: {own:?}"));
            }
        }
    }

    /// Each moment with the number of requests that were heard before the next: a second cut may take what the first one
    /// left only in memory.
    fn windows(&self) -> impl Iterator<Item = (&Moment, usize)> {
        let next = self.room.moments.iter().skip(1).map(|moment| moment.requests);
        self.moments().zip(next.chain([self.requests.len()]))
    }

    fn moments(&self) -> impl Iterator<Item = &Moment> {
        self.room.moments.iter()
    }

    fn version(&self, job: &JobRow) -> Option<&Version> {
        self.room.versions.iter().find(|version| is_of(job, version))
    }

    /// The Uploads that were ever opened for a job, as the rows have them.
    fn uploads_of(&self, job: &JobRow) -> BTreeSet<String> {
        let id = self.ledger.jobs.iter().find(|(_, other)| *other == job).map(|(id, _)| *id);
        let its = self.ledger.uploads.iter().filter(|((job, _), _)| Some(*job) == id);
        its.map(|(_, upload)| upload.upload_id.clone()).collect()
    }
}

fn is_completing(moment: &Moment, uploads: &BTreeSet<String>) -> bool {
    uploads.iter().any(|id| moment.ledger.job_of_upload(id).is_some_and(|(_, job)| job.stage == "completing"))
}

fn is_open(job: &JobRow) -> bool {
    matches!(job.stage.as_str(), "uploading" | "completing")
}

/// Versions of one path differ in size.
fn is_of(job: &JobRow, version: &Version) -> bool {
    job.path == version.path && job.bytes == version.content.len() as u64
}

fn named(version: &Version) -> String {
    format!("{} of {} bytes", version.path, version.content.len())
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
