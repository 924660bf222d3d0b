//! Forms, read as a stream: the content goes to storage as it comes, the small fields are kept.

use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::intake::{Intake, Interrupt};
use crate::operations::Call;
use crate::route::Operation;
use crate::storage::{Blob, Writer};
use crate::variants::{ChunkedPart, PartContentType};

/// A form with one content.
pub(crate) struct Form {
    pub(crate) content: Blob,
    pub(crate) sha256: Option<String>,
    pub(crate) filename: Option<String>,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Small fields are words and numbers.
const FIELD_BYTES: usize = 1024;

pub(crate) async fn read(call: &Call, intake: &mut Intake) -> Result<Result<Form, ApiError>, Interrupt> {
    match try_read(call, intake).await {
        Ok(form) => Ok(Ok(form)),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::Interrupted(interrupt)) => Err(interrupt),
    }
}

enum Stop {
    Refused(ApiError),
    Interrupted(Interrupt),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<multer::Error> for Stop {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::StreamReadFailed(cause) => match cause.downcast::<Interrupt>() {
                Ok(interrupt) => Self::Interrupted(*interrupt),
                Err(other) => Self::Refused(ApiError::bad(format!("Invalid multipart form: {other}"))),
            },
            other => Self::Refused(ApiError::bad(format!("Invalid multipart form: {other}"))),
        }
    }
}

async fn try_read(call: &Call, intake: &mut Intake) -> Result<Form, Stop> {
    let is_part = call.route.operation == Operation::Part;
    let (content_name, others) = if is_part {
        ("data", &[][..])
    } else {
        ("file", &["purpose", "expires_after[anchor]", "expires_after[seconds]"][..])
    };
    let most = if is_part { call.shared.limits.part_bytes } else { call.shared.limits.file_bytes };
    if call.variants.chunked_part == ChunkedPart::Refused && !call.headers.contains_key("content-length") {
        return Err(ApiError::new(411, "Content-Length is required").into());
    }
    let content_type = call.headers.get("content-type").and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default())
        .map_err(|_| ApiError::bad("Use Content-Type multipart/form-data with a boundary"))?;

    let mut form = multer::Multipart::new(intake.stream(), boundary);
    let mut content = None;
    let mut fields = BTreeMap::new();
    while let Some(mut field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == content_name && content.is_none() {
            if is_part && call.variants.part_content_type == PartContentType::Required {
                let typed = field.headers().get("content-type").is_some_and(|value| !value.is_empty());
                if !typed {
                    let mut error = ApiError::bad("The file has no or an empty content type specified.");
                    error.code = Some("invalidPayload".to_owned());
                    return Err(error.into());
                }
            }
            let filename = field.file_name().map(str::to_owned);
            let mut writer = Writer::new(&call.shared.storage, &format!("content-{}", rand::random::<u64>()));
            let mut bytes = 0;
            while let Some(chunk) = field.chunk().await? {
                bytes += chunk.len() as u64;
                // What is too large is still read, but no more of it is kept than shows that.
                if bytes <= most || bytes - (chunk.len() as u64) <= most {
                    writer.write(chunk).await;
                }
            }
            let (blob, sha256) =
                writer.finish().await.map_err(|error| ApiError::new(500, format!("storage: {error}")))?;
            call.moment.exchange.update(|request| {
                request.data_bytes = bytes;
                request.sha256.clone_from(&sha256);
            });
            content = Some((blob, sha256, filename));
        } else if others.contains(&name.as_str()) && !fields.contains_key(&name) {
            let mut text = Vec::new();
            while let Some(chunk) = field.chunk().await? {
                text.extend_from_slice(&chunk);
                if text.len() > FIELD_BYTES {
                    return Err(ApiError::bad(format!("'{name}' is too long")).into());
                }
            }
            fields.insert(name, String::from_utf8_lossy(&text).into_owned());
        } else {
            let message = format!("Additional properties are not allowed ('{name}' was unexpected)");
            return Err(ApiError::bad(message).into());
        }
    }
    let Some((content, sha256, filename)) = content else {
        let message = format!("'{content_name}' is a required property");
        return Err(ApiError::bad(message).param(content_name).into());
    };
    Ok(Form { content, sha256, filename, fields })
}
