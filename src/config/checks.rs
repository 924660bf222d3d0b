//! What a text must look like: the checks that need nothing but the text.

use std::path::{Component, Path};

use url::Url;

use super::globs;

type Check = Result<(), String>;

pub(super) fn base_url(text: &str) -> Check {
    let Ok(url) = Url::parse(text) else {
        return Err("is not a URL".into());
    };
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("is not an http or https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or a password, which belong in key_file".into());
    }
    if url.query().is_some() {
        return Err("holds a query, which belongs in the key query".into());
    }
    if url.fragment().is_some() {
        return Err("holds a fragment (#…)".into());
    }
    Ok(())
}

pub(super) fn absolute_path(text: &str) -> Check {
    if text.contains('\0') {
        return Err("holds a zero byte".into());
    }
    if !text.starts_with('/') {
        return Err("is not an absolute path".into());
    }
    Ok(())
}

pub(super) fn folder_path(text: &str) -> Check {
    absolute_path(text)?;
    // Paths of files are kept as the folder's path and the name in it: one spelling only.
    if Path::new(text).components().any(|part| part == Component::ParentDir) {
        return Err("holds \"..\"".into());
    }
    Ok(())
}

/// A directory in the folder, by its path there, or an absolute one.
pub(super) fn directory_in_or_out(path: &Path) -> Check {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err("holds \"..\"".into());
    }
    if path.is_relative() && !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("is the folder itself".into());
    }
    Ok(())
}

/// What goes into a header as it stands.
pub(super) fn header_word(text: &str) -> Check {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(())
    } else {
        Err("holds more than visible ASCII".into())
    }
}

pub(super) fn log_level(text: &str) -> Check {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // A lone word is a target's name to EnvFilter: a misspelt level would silence the log.
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_word {
        return if LEVELS.contains(&text) {
            Ok(())
        } else {
            Err(format!("is not one of {}", LEVELS.join(", ")))
        };
    }
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| ())
        .map_err(|why| format!("is not a log directive: {why}"))
}

pub(super) fn listen(text: &str) -> Check {
    text.parse::<super::settings::Listen>().map(|_| ())
}

pub(super) fn purpose(text: &str) -> Check {
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("holds blanks or control characters".into());
    }
    Ok(())
}

pub(super) fn folder_name(text: &str) -> Check {
    if text.chars().any(char::is_control) {
        return Err("holds control characters".into());
    }
    if text.trim() != text {
        return Err("begins or ends with a blank".into());
    }
    Ok(())
}

pub(super) fn account_name(text: &str) -> Check {
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
        return Err("is not an account's name: a-z, 0-9, _ and - only".into());
    }
    Ok(())
}

pub(super) fn mime_type(text: &str) -> Check {
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match text.split_once('/') {
        Some((kind, subtype)) if is_token(kind) && is_token(subtype) => Ok(()),
        _ => Err("is not of the form type/subtype".into()),
    }
}

pub(super) fn glob(text: &str) -> Check {
    globs::compile(text).map(|_| ()).map_err(|why| format!("is not a pattern: {why}"))
}
