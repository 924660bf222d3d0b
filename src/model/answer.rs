//! What the API answered, as far as decisions need it. `api` makes these from the wire.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The id of an Upload. Opaque: OpenAI sends `upload_…`, Azure `fine-tune-…`.
    UploadId
}
id! {
    /// The id of a Part. Opaque: Azure's carry `/`, `+` and `=`.
    PartId
}
id! {
    /// The id of a File. Opaque.
    FileId
}

/// The longest id that is taken, in bytes. The longest seen have some 100.
const LONGEST: usize = 512;

/// Whether this can be an id, whoever says it: one that can be kept, listed, given to a program and put into a path. A URL
/// with a segment of dots would be another URL.
pub fn can_be_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST
        && !text.chars().any(char::is_control)
        && text != "."
        && text != ".."
}

/// The state of an Upload as the server tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadStatus {
    /// Takes Parts.
    Pending,
    /// Became a File.
    Completed,
    /// Was cancelled.
    Cancelled,
    /// Its hour is over.
    Expired,
    /// A word that the API does not document.
    Other(String),
}

/// An Upload as an answer describes it. Times are the server's clock, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// What it is now; the only thing that says whether there is a File.
    pub status: UploadStatus,
    /// The file name as the server echoes it.
    pub filename: String,
    /// The bytes that were announced at create.
    pub bytes: Option<u64>,
    /// When it was created.
    pub created_at: i64,
    /// When it expires; the published sample has it before `created_at`.
    pub expires_at: i64,
    /// The File. Azure sends one while the Upload is still pending: decide on `status`.
    pub file: Option<RemoteFile>,
}

/// A File as an answer describes it. Times are the server's clock, in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Its id.
    pub id: FileId,
    /// Its size; null while it is not yet known.
    pub bytes: Option<u64>,
    /// When it was made: at complete, not at create of its Upload.
    pub created_at: i64,
    /// Its name.
    pub filename: String,
    /// Its purpose, an open set.
    pub purpose: String,
    /// When the server deletes it.
    pub expires_at: Option<i64>,
    /// Whether it can be used.
    pub status: FileStatus,
}

/// The state of a File as the server tells it. OpenAI calls the field deprecated and may leave it out; Azure uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// It is there: `uploaded`, `processed`, or nothing is said.
    Ready,
    /// It is still being made: any other word.
    Busy,
    /// It could not be made: `error`, `failed`.
    Broken,
}

/// One page of `GET /files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePage {
    /// The Files, newest first.
    pub files: Vec<RemoteFile>,
    /// Whether older ones follow.
    pub has_more: bool,
}
