//! What the body of an error says, whatever wrote it: the API, another server that speaks like it, a proxy.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, LOCATION};
use serde_json::Value;

use crate::model::failure::{Facts, Failure};

/// How much of a message is kept, in bytes, and of a type or code.
const MESSAGE: usize = 2048;
const WORD: usize = 256;

/// The failure that an answer with a status other than 2xx is.
pub(super) fn refused(facts: Facts, headers: &HeaderMap, body: &[u8]) -> Failure {
    let mut said = said(body);
    if let Some(target) = redirect(&facts, headers) {
        said.message =
            format!("the server redirects to {target}, where the key is not sent: is base_url right?");
    } else if said.message.is_empty() {
        let reason = StatusCode::from_u16(facts.status).ok().and_then(|status| status.canonical_reason());
        said.message = format!("{} (no message)", reason.unwrap_or("unknown status"));
    }
    Failure::Refused {
        facts,
        kind: said.kind.map(|word| cut(&word, WORD)),
        code: said.code.map(|word| cut(&word, WORD)),
        message: cut(&said.message, MESSAGE),
    }
}

/// At most `limit` bytes of `text`.
pub(super) fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

/// The beginning of a body that is not understood, on one line.
pub(super) fn beginning(body: &[u8], limit: usize) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * limit)]);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    cut(&words.collect::<Vec<_>>().join(" "), limit)
}

#[derive(Debug, Default, PartialEq)]
struct Said {
    kind: Option<String>,
    code: Option<String>,
    message: String,
}

fn said(body: &[u8]) -> Said {
    let body_text = || title(body).unwrap_or_else(|| beginning(body, MESSAGE));
    let Ok(Value::Object(envelope)) = serde_json::from_slice::<Value>(body) else {
        return Said { message: body_text(), ..Said::default() };
    };
    // `error` is the API's; `detail` stands beside it at times, and alone where the server is built otherwise. Some send
    // the fields without an envelope.
    let error = envelope.get("error").or(envelope.get("detail"));
    match error.filter(|error| !error.is_null()) {
        Some(Value::Object(error)) => Said {
            kind: word(error.get("type")),
            code: word(error.get("code")),
            message: word(error.get("message")).unwrap_or_else(body_text),
        },
        Some(Value::String(message)) => {
            Said { kind: None, code: word(envelope.get("code")), message: message.clone() }
        }
        _ => Said {
            kind: word(envelope.get("type")),
            code: word(envelope.get("code")),
            message: word(envelope.get("message")).unwrap_or_else(body_text),
        },
    }
}

/// What a page of HTML is called: a proxy's own words, without its style sheet.
fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    // Of the same length, so that places in it are places in the text.
    let lower = text.to_ascii_lowercase();
    if !lower.trim_start().starts_with('<') {
        return None;
    }
    let start = lower.find("<title>")? + "<title>".len();
    let title = beginning(text[start..].split('<').next()?.as_bytes(), MESSAGE);
    (!title.is_empty()).then(|| format!("a page of HTML: {title}"))
}

fn word(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(word) if !word.is_empty() => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Where a redirect leads, without its query.
fn redirect(facts: &Facts, headers: &HeaderMap) -> Option<String> {
    let location = headers.get(LOCATION).filter(|_| (300..400).contains(&facts.status))?.to_str().ok()?;
    location.split(['?', '#']).next().map(|target| cut(target, WORD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_page_its_title_is_told_and_not_its_style() {
        let squid = "<!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\">\n<html><head>\n<TITLE>ERROR: The requested\n\
                     URL could not be retrieved</TITLE>\n<style>body { color: red; }</style></head></html>";
        assert_eq!(
            said(squid.as_bytes()).message,
            "a page of HTML: ERROR: The requested URL could not be retrieved"
        );
        for plain in ["<p>no title</p>", "<title>", "<title></title>", "a <title>b</title>", "<title>\u{e9}"]
        {
            let message = said(plain.as_bytes()).message;
            assert_eq!(message.starts_with("a page of HTML"), plain.ends_with('\u{e9}'), "{message}");
        }
    }

    fn words(kind: &str, code: &str, message: &str) -> Said {
        let word = |word: &str| (!word.is_empty()).then(|| word.to_owned());
        Said { kind: word(kind), code: word(code), message: message.to_owned() }
    }

    #[test]
    fn every_shape_of_error_is_understood() {
        let cases: &[(&str, Said)] = &[
            (r#"{"error":{"message":"M","type":"T","param":null,"code":"C"}}"#, words("T", "C", "M")),
            (r#"{"error":{"message":"M","type":"T","param":null,"code":null}}"#, words("T", "", "M")),
            (
                r#"{"error":{"message":"M","type":"T","code":"C"},"detail":{"message":"D","code":null}}"#,
                words("T", "C", "M"),
            ),
            (
                r#"{"error":{"code":"404","message":"Resource not found"}}"#,
                words("", "404", "Resource not found"),
            ),
            (r#"{"error":{"code":404,"message":"M"}}"#, words("", "404", "M")),
            (r#"{"error":"M"}"#, words("", "", "M")),
            (r#"{"error":"M","code":"C"}"#, words("", "C", "M")),
            (r#"{"error":null,"message":"M"}"#, words("", "", "M")),
            (r#"{"detail":"Not Found"}"#, words("", "", "Not Found")),
            (r#"{"message":"M","type":"T","code":"C"}"#, words("T", "C", "M")),
            (r#"{"error":{}}"#, words("", "", r#"{"error":{}}"#)),
            (r#"[1]"#, words("", "", "[1]")),
            ("<html>\r\n <h1>413</h1>\n</html>", words("", "", "<html> <h1>413</h1> </html>")),
            ("", words("", "", "")),
        ];
        for (body, wanted) in cases {
            assert_eq!(said(body.as_bytes()), *wanted, "{body}");
        }
    }

    #[test]
    fn little_is_kept_and_never_half_a_character() {
        let facts = || Facts { status: 500, ..Facts::default() };
        let long =
            format!(r#"{{"error":{{"message":"{}","code":"{}"}}}}"#, "é".repeat(4000), "c".repeat(4000));
        for body in [long.as_bytes(), "é".repeat(4000).as_bytes(), &[0xff; 9000], b""] {
            let Failure::Refused { code, message, .. } = refused(facts(), &HeaderMap::new(), body) else {
                panic!("not a refusal")
            };
            assert!(!message.is_empty() && message.len() <= MESSAGE);
            assert!(code.is_none_or(|code| code.len() <= WORD));
        }
    }
}
