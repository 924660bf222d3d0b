//! The JSON that goes out and comes in. What comes in is taken as it is, unless an id or a status is missing: servers
//! leave out what they do not need, send null for what they do not know, and add what we do not.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::NewUpload;
use crate::model::answer::{
    FileId, FilePage, FileStatus, PartId, RemoteFile, Upload, UploadId, UploadStatus, can_be_id,
};

/// How much is kept of a status that is not documented, in bytes.
const STATUS: usize = 64;

#[derive(Serialize)]
pub(super) struct CreateUpload<'a> {
    filename: &'a str,
    purpose: &'a str,
    bytes: u64,
    mime_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_after: Option<ExpiresAfter>,
}

#[derive(Serialize)]
struct ExpiresAfter {
    anchor: &'static str,
    seconds: u64,
}

impl<'a> CreateUpload<'a> {
    pub(super) fn new(new: &'a NewUpload) -> CreateUpload<'a> {
        CreateUpload {
            filename: &new.filename,
            purpose: &new.purpose,
            bytes: new.bytes,
            mime_type: &new.mime_type,
            expires_after: new
                .expires_after_seconds
                .map(|seconds| ExpiresAfter { anchor: "created_at", seconds }),
        }
    }
}

#[derive(Serialize)]
pub(super) struct CompleteUpload<'a> {
    pub(super) part_ids: Vec<&'a str>,
    /// Absent rather than null: the API takes a string only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) md5: Option<&'a str>,
}

/// The Upload that create answered for `asked`.
pub(super) fn created(body: &[u8], asked: &NewUpload) -> Result<Upload, String> {
    let mut upload: WireUpload = json(body)?;
    upload.filename.get_or_insert_with(|| asked.filename.clone());
    let upload = upload.understood()?;
    if matches!(upload.status, UploadStatus::Completed | UploadStatus::Cancelled | UploadStatus::Expired) {
        return Err(format!("a new Upload that is {:?}", upload.status));
    }
    if upload.bytes.is_some_and(|bytes| bytes != asked.bytes) {
        return Err(format!("an Upload of {} bytes was asked for", asked.bytes));
    }
    Ok(upload)
}

/// The Upload `asked`, as complete or cancel answered.
pub(super) fn upload(body: &[u8], asked: &UploadId) -> Result<Upload, String> {
    let upload = json::<WireUpload>(body)?.understood()?;
    if upload.id != *asked { Err(format!("not the Upload {asked}")) } else { Ok(upload) }
}

/// The id of the Part that was added to `asked`.
pub(super) fn part(body: &[u8], asked: &UploadId) -> Result<PartId, String> {
    let part: WirePart = json(body)?;
    if part.upload_id.is_some_and(|of| of != asked.0) {
        return Err(format!("not a Part of the Upload {asked}"));
    }
    id(part.id).map(PartId)
}

/// The File `asked`.
pub(super) fn file(body: &[u8], asked: &FileId) -> Result<RemoteFile, String> {
    let file = json::<WireFile>(body)?.understood()?;
    if file.id != *asked { Err(format!("not the File {asked}")) } else { Ok(file) }
}

/// A page of at most `limit` Files.
pub(super) fn page(body: &[u8], limit: u32) -> Result<FilePage, String> {
    let page: WirePage = json(body)?;
    let full = page.data.len() as u64 >= u64::from(limit);
    let files = page.data.into_iter().map(|file| {
        // Whoever searches by time must not take a missing one for 1970.
        number(&file.created_at).ok_or("a File without created_at")?;
        file.understood()
    });
    // One page too many is cheap; one too few hides a File.
    Ok(FilePage { files: files.collect::<Result<_, _>>()?, has_more: page.has_more.unwrap_or(full) })
}

#[derive(Deserialize)]
struct WireUpload {
    id: Option<String>,
    status: Option<String>,
    filename: Option<String>,
    #[serde(default)]
    bytes: Value,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    expires_at: Value,
    #[serde(default)]
    file: Value,
}

impl WireUpload {
    fn understood(self) -> Result<Upload, String> {
        let status = match self.status.ok_or("an Upload without status")?.as_str() {
            "pending" => UploadStatus::Pending,
            "completed" => UploadStatus::Completed,
            "cancelled" => UploadStatus::Cancelled,
            "expired" => UploadStatus::Expired,
            other => UploadStatus::Other(super::refusal::cut(other, STATUS)),
        };
        let file = match serde_json::from_value::<WireFile>(self.file).map_err(|error| error.to_string()) {
            Ok(file) => file.understood(),
            Err(why) => Err(why),
        };
        let file = match (&status, file) {
            (UploadStatus::Completed, Err(why)) => return Err(format!("completed without a File ({why})")),
            (_, file) => file.ok(),
        };
        Ok(Upload {
            id: UploadId(id(self.id)?),
            status,
            filename: self.filename.unwrap_or_default(),
            bytes: size(&self.bytes),
            created_at: number(&self.created_at).unwrap_or(0),
            expires_at: number(&self.expires_at).unwrap_or(0),
            file,
        })
    }
}

#[derive(Deserialize)]
struct WirePart {
    id: Option<String>,
    upload_id: Option<String>,
}

#[derive(Deserialize)]
struct WireFile {
    id: Option<String>,
    filename: Option<String>,
    purpose: Option<String>,
    #[serde(default)]
    bytes: Value,
    #[serde(default)]
    created_at: Value,
    #[serde(default)]
    expires_at: Value,
    status: Option<String>,
}

impl WireFile {
    fn understood(self) -> Result<RemoteFile, String> {
        Ok(RemoteFile {
            id: FileId(id(self.id)?),
            bytes: size(&self.bytes),
            created_at: number(&self.created_at).unwrap_or(0),
            filename: self.filename.unwrap_or_default(),
            purpose: self.purpose.unwrap_or_default(),
            expires_at: number(&self.expires_at),
            status: match self.status.as_deref() {
                None | Some("uploaded" | "processed") => FileStatus::Ready,
                Some("error" | "failed") => FileStatus::Broken,
                Some(_) => FileStatus::Busy,
            },
        })
    }
}

#[derive(Deserialize)]
struct WirePage {
    data: Vec<WireFile>,
    has_more: Option<bool>,
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("not the JSON that was expected ({error})"))
}

fn id(id: Option<String>) -> Result<String, String> {
    let id = id.filter(|id| !id.is_empty()).ok_or("without an id")?;
    if can_be_id(&id) { Ok(id) } else { Err("with an id that cannot be one".to_owned()) }
}

fn size(value: &Value) -> Option<u64> {
    number(value).and_then(|number| u64::try_from(number).ok())
}

/// A whole number, however it is written.
fn number(value: &Value) -> Option<i64> {
    let float = || value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15);
    value.as_i64().or_else(|| float().map(|float| float as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_leave_out_or_write_otherwise_is_tolerated() {
        let asked = UploadId("u".to_owned());
        let least = upload(br#"{"id":"u","status":"created"}"#, &asked).unwrap();
        assert_eq!(least.status, UploadStatus::Other("created".to_owned()));
        assert_eq!((least.filename.as_str(), least.bytes, least.created_at, least.file), ("", None, 0, None));

        let odd = br#"{"id":"u","status":"expired","bytes":-1,"created_at":1.7e9,"expires_at":"soon","file":"none"}"#;
        let odd = upload(odd, &asked).unwrap();
        assert_eq!((odd.status, odd.bytes), (UploadStatus::Expired, None));
        assert_eq!((odd.created_at, odd.expires_at, odd.file), (1_700_000_000, 0, None));

        let large = br#"{"id":"u","status":"completed","file":{"id":"f","bytes":8589934592}}"#;
        let file = upload(large, &asked).unwrap().file.unwrap();
        assert_eq!((file.bytes, file.purpose.as_str(), file.expires_at), (Some(8 << 30), "", None));
    }

    #[test]
    fn a_page_that_does_not_say_whether_more_follows_says_so_by_being_full() {
        let body = br#"{"data":[{"id":"f","created_at":1}]}"#;
        assert!(page(body, 1).unwrap().has_more);
        assert!(!page(body, 2).unwrap().has_more);
        assert!(page(br#"{"data":[{"id":"f"}]}"#, 1).is_err(), "a File without a time");
    }
}
