//! Behaviour that the documentation leaves open: each choice can be made either way.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the server does where nothing public says it. A client must live with every combination.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Variants {
    /// Complete of an Upload that is completed.
    pub second_complete: Outcome,
    /// Cancel of an Upload that is completed.
    pub cancel_after_complete: Outcome,
    /// Cancel of an Upload that is cancelled.
    pub second_cancel: Outcome,
    /// Cancel of an Upload that has expired.
    pub cancel_after_expiry: Outcome,
    /// Status of a Part to an Upload that has expired.
    pub part_after_expiry: u16,
    /// Status of a Part to an Upload that is cancelled.
    pub part_after_cancel: u16,
    /// Status of a Part to an Upload that is completed.
    pub part_after_complete: u16,
    /// Status of complete of an Upload that has expired.
    pub complete_after_expiry: u16,
    /// Status of complete of an Upload that is cancelled.
    pub complete_after_cancel: u16,
    /// Status of any request that names an Upload or a File that the server does not know.
    pub not_found: u16,
    /// Status of a complete that lists a Part that this Upload does not have, or one twice.
    pub bad_part_list: u16,
    /// Status of a complete whose Parts do not add up to the Upload's `bytes`.
    pub wrong_size: u16,
    /// Status of a complete whose `md5` is not that of the content.
    pub wrong_md5: u16,
    /// Status of a Part larger than the limit.
    pub part_too_large: u16,
    /// How `md5` is written.
    pub md5: Md5Form,
    /// Whether Parts that complete does not list count towards `bytes`.
    pub unlisted_parts: UnlistedParts,
    /// What a complete that was refused for its size or its md5 leaves of the Upload.
    pub after_mismatch: AfterMismatch,
    /// Cancel while a complete that was accepted has not landed yet.
    pub cancel_while_landing: CancelWhileLanding,
    /// Complete while a complete that was accepted has not landed yet.
    pub complete_while_landing: CompleteWhileLanding,
    /// Which time `created_at` of a File from an Upload is.
    pub file_created_at: FileCreatedAt,
    /// Which `expires_at` the Upload shows. The time at which it expires is the same.
    pub expires_at: ExpiresAt,
    /// What `file` is while the Upload is not completed.
    pub pending_file: PendingFile,
    /// How errors are written.
    pub errors: ErrorStyle,
    /// Which purposes are accepted.
    pub purposes: Purposes,
    /// Whether the field of a Part must carry a content type of its own.
    pub part_content_type: PartContentType,
    /// Whether a Part may come without a Content-Length.
    pub chunked_part: ChunkedPart,
    /// Whether an Upload says `"object": "upload"`, which the specification does not require.
    pub upload_object: Presence,
    /// Whether a File says its deprecated `status`.
    pub file_status: Presence,
}

impl Default for Variants {
    fn default() -> Self {
        Self {
            second_complete: Outcome::Refused(400),
            cancel_after_complete: Outcome::Refused(400),
            second_cancel: Outcome::Refused(400),
            cancel_after_expiry: Outcome::Refused(400),
            part_after_expiry: 400,
            part_after_cancel: 400,
            part_after_complete: 400,
            complete_after_expiry: 400,
            complete_after_cancel: 400,
            not_found: 404,
            bad_part_list: 400,
            wrong_size: 400,
            wrong_md5: 400,
            part_too_large: 400,
            md5: Md5Form::Hex,
            unlisted_parts: UnlistedParts::Ignored,
            after_mismatch: AfterMismatch::Pending,
            cancel_while_landing: CancelWhileLanding::Wins,
            complete_while_landing: CompleteWhileLanding::Refused,
            file_created_at: FileCreatedAt::Completion,
            expires_at: ExpiresAt::True,
            pending_file: PendingFile::Absent,
            errors: ErrorStyle::OpenAi,
            purposes: Purposes::Six,
            part_content_type: PartContentType::Optional,
            chunked_part: ChunkedPart::Accepted,
            upload_object: Presence::Present,
            file_status: Presence::Present,
        }
    }
}

impl Variants {
    /// What Azure is known to do otherwise.
    #[must_use]
    pub fn azure() -> Self {
        Self {
            pending_file: PendingFile::File,
            errors: ErrorStyle::Azure,
            part_content_type: PartContentType::Required,
            ..Self::default()
        }
    }
}

/// Either the Upload as it is, with 200, or a refusal. In TOML `"upload"` or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200 and the Upload as it is.
    Upload,
    /// This status and an error.
    Refused(u16),
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Upload => serializer.serialize_str("upload"),
            Self::Refused(status) => serializer.serialize_u16(*status),
        }
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Status(u16),
            Word(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Status(status) => Ok(Self::Refused(status)),
            Written::Word(word) if word == "upload" => Ok(Self::Upload),
            Written::Word(word) => {
                Err(serde::de::Error::custom(format!("{word:?} is neither \"upload\" nor a status")))
            }
        }
    }
}

/// Defines a choice that is written in snake case.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
    };
}

choice! {
    /// How `md5` is written.
    Md5Form {
        /// Lower-case hexadecimal.
        Hex,
        /// Base64.
        Base64,
    }
}
choice! {
    /// What Parts count that complete does not list.
    UnlistedParts {
        /// Nothing.
        Ignored,
        /// As if listed: complete is refused if the sum of all Parts is not `bytes`.
        Counted,
    }
}
choice! {
    /// What a refused complete leaves.
    AfterMismatch {
        /// The Upload as it was.
        Pending,
        /// Nothing: the Upload is gone.
        Gone,
    }
}
choice! {
    /// What cancel meets while a complete has not landed.
    CancelWhileLanding {
        /// The Upload is cancelled and the complete never lands.
        Wins,
        /// The complete lands at once, and cancel meets a completed Upload.
        Loses,
        /// Cancel says `cancelled`, and yet the File appears.
        Lies,
    }
}
choice! {
    /// What complete meets while a complete has not landed.
    CompleteWhileLanding {
        /// 409: it is being completed.
        Refused,
        /// The first complete lands at once, and this one meets a completed Upload.
        Lands,
    }
}
choice! {
    /// Which time a File has.
    FileCreatedAt {
        /// That of complete.
        Completion,
        /// That of the Upload.
        Upload,
    }
}
choice! {
    /// Which `expires_at` an Upload shows.
    ExpiresAt {
        /// The true one.
        True,
        /// One before `created_at`, as in the published sample.
        BeforeCreated,
    }
}
choice! {
    /// What `file` is while there is none.
    PendingFile {
        /// Not there.
        Absent,
        /// `null`.
        Null,
        /// An object with the id that the File will have.
        File,
    }
}
choice! {
    /// How errors are written.
    ErrorStyle {
        /// `{"error": {message, type, param, code}}`.
        #[serde(rename = "openai")]
        OpenAi,
        /// The same with a sibling `detail`.
        Detail,
        /// `{"error": {code, message}}`.
        Azure,
        /// A page, as of a gateway.
        Html,
        /// No body.
        Empty,
    }
}
choice! {
    /// Which purposes are accepted.
    Purposes {
        /// assistants, batch, fine-tune, vision, user_data, evals.
        Six,
        /// assistants, batch, fine-tune, vision: what the specification lists for an Upload.
        Four,
        /// Any text.
        Any,
    }
}
choice! {
    /// Whether the field of a Part must carry a content type.
    PartContentType {
        /// It may.
        Optional,
        /// 400 without, as on Azure.
        Required,
    }
}
choice! {
    /// What a Part without Content-Length meets.
    ChunkedPart {
        /// Nothing special.
        Accepted,
        /// 411.
        Refused,
    }
}
choice! {
    /// Whether something is said.
    Presence {
        /// Yes.
        Present,
        /// No.
        Omitted,
    }
}
