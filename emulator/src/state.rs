//! Uploads and Files, and what may happen to them. No I/O, no clock: time comes as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::faults::Lag;
use crate::storage::Blob;
use crate::variants::{ExpiresAt, PendingFile, Presence, Variants};

/// Where an Upload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    /// Parts may be added.
    Pending,
    /// Its File exists, or existed.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// Its time ran out.
    Expired,
}

/// A Part as the emulator saw it.
#[derive(Clone, Debug, Serialize)]
pub struct PartRecord {
    /// Its id.
    pub id: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, unless content is discarded.
    pub sha256: Option<String>,
}

/// An Upload as the emulator saw it.
#[derive(Clone, Debug, Serialize)]
pub struct UploadRecord {
    /// Its id.
    pub id: String,
    /// The name its File is to have.
    pub filename: String,
    /// Its purpose.
    pub purpose: String,
    /// The bytes it was created for.
    pub bytes: u64,
    /// Its MIME type.
    pub mime_type: String,
    /// Where it stands.
    pub status: UploadStatus,
    /// Unix time.
    pub created_at: i64,
    /// Unix time.
    pub expires_at: i64,
    /// All Parts that were stored, listed by complete or not.
    pub parts: Vec<PartRecord>,
    /// Its File, if completed.
    pub file_id: Option<String>,
    /// Whether a complete was accepted that has not landed.
    pub landing: bool,
}

/// A File as the emulator has it.
#[derive(Clone, Debug, Serialize)]
pub struct FileRecord {
    /// Its id.
    pub id: String,
    /// Its name.
    pub filename: String,
    /// Its length.
    pub bytes: u64,
    /// Its purpose.
    pub purpose: String,
    /// SHA-256 of its content, unless content is discarded.
    pub sha256: Option<String>,
    /// MD5 of its content, unless content is discarded.
    pub md5: Option<String>,
    /// The Upload that it came from.
    pub upload_id: Option<String>,
    /// Unix time.
    pub created_at: i64,
    /// Unix time.
    pub expires_at: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) block_id: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) blob: Arc<Blob>,
}

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    pub(crate) filename: String,
    pub(crate) purpose: String,
    pub(crate) bytes: u64,
    pub(crate) mime_type: String,
    pub(crate) created_at: i64,
    pub(crate) expires_at_ms: i64,
    /// Lifetime of the File.
    pub(crate) file_lifetime: Option<i64>,
    /// The id that the File will have.
    pub(crate) file_id: String,
    pub(crate) ended: Option<UploadStatus>,
    pub(crate) parts: Vec<Part>,
    pub(crate) landing: Option<Landing>,
    /// Held by complete and cancel, so that one waits for the other's digest.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// A complete that was accepted and whose File is not there yet.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) file: File,
    pub(crate) due_ms: Option<i64>,
    pub(crate) requests_left: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) record: FileRecord,
    pub(crate) parts: Vec<Arc<Blob>>,
    pub(crate) lists: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) uploads: BTreeMap<String, Upload>,
    pub(crate) files: Files,
    /// Uploads of which a complete was accepted and has not landed, and some of which it has: each request asks.
    landings: BTreeSet<String>,
}

/// Files in order of creation, found by their ids without a search: there may be a hundred thousand.
#[derive(Debug, Default)]
pub(crate) struct Files {
    all: Vec<File>,
    places: HashMap<String, usize>,
}

impl Upload {
    pub(crate) fn status(&self, now_ms: i64) -> UploadStatus {
        match self.ended {
            Some(status) => status,
            None if now_ms >= self.expires_at_ms => UploadStatus::Expired,
            None => UploadStatus::Pending,
        }
    }

    pub(crate) fn record(&self, now_ms: i64) -> UploadRecord {
        let status = self.status(now_ms);
        UploadRecord {
            id: self.id.clone(),
            filename: self.filename.clone(),
            purpose: self.purpose.clone(),
            bytes: self.bytes,
            mime_type: self.mime_type.clone(),
            status,
            created_at: self.created_at,
            expires_at: self.expires_at_ms.div_euclid(1000),
            parts: self
                .parts
                .iter()
                .map(|part| PartRecord {
                    id: part.id.clone(),
                    bytes: part.blob.len(),
                    sha256: part.sha256.clone(),
                })
                .collect(),
            file_id: (status == UploadStatus::Completed).then(|| self.file_id.clone()),
            landing: self.landing.is_some(),
        }
    }

    /// The Upload as the API shows it.
    pub(crate) fn json(&self, file: Option<&File>, now_ms: i64, variants: Variants) -> Value {
        let expires_at = match variants.expires_at {
            ExpiresAt::True => self.expires_at_ms.div_euclid(1000),
            // The distance in the published sample.
            ExpiresAt::BeforeCreated => self.created_at - 57_615,
        };
        let status = self.status(now_ms);
        let mut json = json!({
            "id": self.id, "object": "upload", "bytes": self.bytes, "created_at": self.created_at,
            "filename": self.filename, "purpose": self.purpose, "status": status, "expires_at": expires_at,
        });
        if variants.upload_object == Presence::Omitted
            && let Some(json) = json.as_object_mut()
        {
            json.remove("object");
        }
        match (status, file, variants.pending_file) {
            (UploadStatus::Completed, Some(file), _) => json["file"] = file.json(variants),
            (UploadStatus::Completed, None, _) | (_, _, PendingFile::Null) => json["file"] = Value::Null,
            (_, _, PendingFile::File) => {
                json["file"] = json!({
                    "id": self.file_id, "object": "file", "bytes": self.bytes,
                    "created_at": self.created_at, "filename": self.filename,
                    "purpose": self.purpose, "status": "uploaded",
                });
            }
            (_, _, PendingFile::Absent) => {}
        }
        json
    }
}

impl File {
    /// The File as the API shows it.
    pub(crate) fn json(&self, variants: Variants) -> Value {
        let file = &self.record;
        let mut json = json!({
            "id": file.id, "object": "file", "bytes": file.bytes, "created_at": file.created_at,
            "filename": file.filename, "purpose": file.purpose,
        });
        if let Some(expires_at) = file.expires_at {
            json["expires_at"] = expires_at.into();
        }
        if variants.file_status == Presence::Present {
            json["status"] = "processed".into();
        }
        json
    }

    fn lives(&self, now: i64) -> bool {
        self.record.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl Files {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, File> {
        self.all.iter()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&File> {
        self.places.get(id).and_then(|place| self.all.get(*place))
    }

    pub(crate) fn push(&mut self, file: File) {
        self.places.insert(file.record.id.clone(), self.all.len());
        self.all.push(file);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        let Some(place) = self.places.remove(id) else { return };
        self.all.remove(place);
        for later in self.places.values_mut().filter(|later| **later > place) {
            *later -= 1;
        }
    }
}

impl State {
    pub(crate) fn file(&self, id: &str, now: i64) -> Option<&File> {
        self.files.get(id).filter(|file| file.lives(now))
    }

    pub(crate) fn upload_json(&self, upload: &Upload, now_ms: i64, variants: Variants) -> Value {
        upload.json(self.files.get(&upload.file_id), now_ms, variants)
    }

    /// Accepts a complete, which [`State::settle`] makes real.
    pub(crate) fn accept(&mut self, upload_id: &str, landing: Landing) {
        if let Some(upload) = self.uploads.get_mut(upload_id) {
            upload.landing = Some(landing);
            self.landings.insert(upload_id.to_owned());
        }
    }

    /// Makes real each accepted complete whose moment has come. A request counts as one if `is_request`.
    pub(crate) fn settle(&mut self, now_ms: i64, is_request: bool) -> bool {
        let mut landed = Vec::new();
        let uploads = &mut self.uploads;
        self.landings.retain(|id| {
            // It may have been made real, cancelled or purged since.
            let Some(landing) = uploads.get_mut(id).and_then(|upload| upload.landing.as_mut()) else {
                return false;
            };
            if is_request && let Some(left) = &mut landing.requests_left {
                *left = left.saturating_sub(1);
            }
            if landing.due_ms.is_some_and(|due| now_ms >= due) || landing.requests_left == Some(0) {
                landed.push(id.clone());
            }
            true
        });
        landed.iter().for_each(|id| self.land(id));
        !landed.is_empty()
    }

    /// Makes an accepted complete real, whatever became of its Upload.
    pub(crate) fn land(&mut self, upload_id: &str) {
        let Some(upload) = self.uploads.get_mut(upload_id) else { return };
        let Some(landing) = upload.landing.take() else { return };
        upload.ended.get_or_insert(UploadStatus::Completed);
        self.files.push(landing.file);
    }

    pub(crate) fn purge(&mut self, id: &str) {
        self.uploads.remove(id);
        self.files.remove(id);
    }

    /// One page of Files, and whether there are more. `None`: `after` is unknown.
    pub(crate) fn list(&mut self, page: &Page<'_>, lag: &[Lag], now: i64) -> Option<(Vec<&File>, bool)> {
        let hidden = |file: &File| {
            lag.iter().any(|lag| {
                let young = lag.younger_than.is_some_and(|age| {
                    now - file.record.created_at < i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
                });
                young || lag.lists.is_some_and(|lists| file.lists < lists)
            })
        };
        let seen: Vec<bool> = self.files.iter().map(|file| file.lives(now) && !hidden(file)).collect();
        for file in &mut self.files.all {
            file.lists += 1;
        }
        let mut files: Vec<(usize, &File)> =
            self.files.iter().enumerate().filter(|(at, _)| seen[*at]).collect();
        files.sort_by_key(|(at, file)| (file.record.created_at, *at));
        if page.descending {
            files.reverse();
        }
        let start = match page.after {
            None => 0,
            Some(after) => files.iter().position(|(_, file)| file.record.id == after)? + 1,
        };
        let wanted = |file: &&File| page.purpose.is_none_or(|purpose| file.record.purpose == purpose);
        let mut rest = files[start..].iter().map(|(_, file)| *file).filter(wanted);
        let data: Vec<&File> = rest.by_ref().take(page.limit).collect();
        let has_more = rest.next().is_some();
        Some((data, has_more))
    }
}

/// What a list asks for.
pub(crate) struct Page<'a> {
    pub(crate) limit: usize,
    pub(crate) descending: bool,
    pub(crate) after: Option<&'a str>,
    pub(crate) purpose: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: &str) -> File {
        let record = FileRecord {
            id: id.to_owned(),
            filename: String::new(),
            bytes: 0,
            purpose: String::new(),
            sha256: None,
            md5: None,
            upload_id: None,
            created_at: 0,
            expires_at: None,
        };
        File { record, parts: Vec::new(), lists: 0 }
    }

    #[test]
    fn files_are_found_by_their_ids_also_when_others_were_removed() {
        let mut files = Files::default();
        for id in ["a", "b", "c", "d"] {
            files.push(file(id));
        }
        for gone in ["b", "b", "unknown"] {
            files.remove(gone);
        }
        files.push(file("e"));
        assert!(files.get("b").is_none());
        for id in ["a", "c", "d", "e"] {
            assert_eq!(files.get(id).map(|file| file.record.id.as_str()), Some(id));
        }
        let order: Vec<&str> = files.iter().map(|file| file.record.id.as_str()).collect();
        assert_eq!(order, ["a", "c", "d", "e"]);
    }
}
