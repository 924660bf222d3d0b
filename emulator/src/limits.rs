//! The numbers of the API.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the server accepts. Bytes are bytes of content: headers and boundaries of multipart are not counted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of an Upload. 8 GiB; Azure 9 GB.
    pub upload_bytes: u64,
    /// Most bytes of one Part. 64 MiB.
    pub part_bytes: u64,
    /// Most bytes of a File that is posted whole. 512 MiB.
    pub file_bytes: u64,
    /// Most Parts of one Upload. The API states none.
    pub parts: Option<usize>,
    /// How long an Upload lives. One hour; Azure two.
    #[serde(with = "crate::duration")]
    pub upload_lifetime: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            upload_bytes: 8 << 30,
            part_bytes: 64 << 20,
            file_bytes: 512 << 20,
            parts: None,
            upload_lifetime: Duration::from_secs(3600),
        }
    }
}

impl Limits {
    /// What Azure documents.
    #[must_use]
    pub fn azure() -> Self {
        Self { upload_bytes: 9_000_000_000, upload_lifetime: Duration::from_secs(7200), ..Self::default() }
    }
}
