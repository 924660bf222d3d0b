//! OpenAI's paths, header and ids, and those of Azure OpenAI.

use base64::Engine as _;
use hyper::HeaderMap;
use serde::{Deserialize, Serialize};

/// Whose server this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `https://api.openai.com/v1`, `Authorization: Bearer`.
    #[default]
    OpenAi,
    /// `/openai/uploads?api-version=…` (or `/openai/v1/uploads`), `api-key` or Bearer, ids with `/`, `+` and `=`.
    Azure,
}

impl Dialect {
    /// The path that a client appends `/uploads` to.
    pub(crate) fn base_path(self) -> &'static str {
        match self {
            Self::OpenAi => "/v1",
            Self::Azure => "/openai",
        }
    }

    pub(crate) fn strip_base(self, path: &str, has_version: bool) -> Option<&str> {
        match self {
            Self::OpenAi => path.strip_prefix("/v1/"),
            Self::Azure => match path.strip_prefix("/openai/v1/") {
                Some(rest) => Some(rest),
                None => path.strip_prefix("/openai/").filter(|_| has_version),
            },
        }
    }

    /// The key that the request carries, if it carries one in the form that this dialect reads.
    pub(crate) fn key(self, headers: &HeaderMap) -> Option<&str> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
        match self {
            Self::OpenAi => bearer,
            Self::Azure => text("api-key").or(bearer),
        }
    }

    pub(crate) fn upload_id(self) -> String {
        match self {
            Self::OpenAi => format!("upload_{}", hex_id(12)),
            Self::Azure => format!("fine-tune-{}", hex_id(16)),
        }
    }

    pub(crate) fn part_id(self) -> String {
        match self {
            Self::OpenAi => format!("part_{}", hex_id(12)),
            Self::Azure => format!("uplprt/{}+{}==", hex_id(8), hex_id(8)),
        }
    }

    /// The `azure_block_id` of a Part: base64, and so with `/`, `+` and `=`.
    pub(crate) fn block_id(self) -> Option<String> {
        match self {
            Self::OpenAi => None,
            Self::Azure => {
                let mut bytes = vec![0xfb, 0xff, 0xfe];
                bytes.extend_from_slice(hex_id(8).as_bytes());
                Some(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
        }
    }

    pub(crate) fn file_id(self) -> String {
        format!("file-{}", hex_id(12))
    }
}

fn hex_id(bytes: usize) -> String {
    let mut id = vec![0_u8; bytes];
    rand::fill(&mut id[..]);
    hex::encode(id)
}
