//! The key: the header that carries it, and that it stands nowhere else.

use std::fmt;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::connect::ClientError;
use super::exchange::Answer;
use super::server::Auth;
use crate::model::failure::{Facts, Failure};

/// Fewer bytes of a key than these are a coincidence, and give nothing away.
const TELLING: usize = 8;

/// A key that can be sent. Has no `Debug`.
pub(super) struct Key {
    secret: SecretString,
    header: (HeaderName, HeaderValue),
}

impl Key {
    pub(super) fn new(auth: Auth, secret: SecretString) -> Result<Key, ClientError> {
        let key = secret.expose_secret();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientError::Key);
        }
        let (name, value) = match auth {
            Auth::Bearer => (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))),
            Auth::ApiKey => (HeaderName::from_static("api-key"), HeaderValue::from_str(key)),
        };
        let mut value = value.map_err(|_| ClientError::Key)?;
        value.set_sensitive(true);
        Ok(Key { secret, header: (name, value) })
    }

    pub(super) fn header(&self) -> (HeaderName, HeaderValue) {
        self.header.clone()
    }

    /// `failure` without the key: a debugging proxy shows whole requests in its error pages.
    pub(super) fn hidden_in(&self, mut failure: Failure) -> Failure {
        match &mut failure {
            Failure::Connect { message } | Failure::Transport { message } => self.hide(message),
            Failure::Refused { facts, kind, code, message } => {
                self.hide(message);
                [kind, code, &mut facts.request_id].into_iter().flatten().for_each(|text| self.hide(text));
            }
            Failure::BadAnswer { facts, message } => {
                self.hide(message);
                facts.request_id.iter_mut().for_each(|text| self.hide(text));
            }
            Failure::Stalled | Failure::NoAnswer | Failure::Source(_) => {}
        }
        failure
    }

    /// What `understand` makes of an answer that does not repeat the key. An id or a status that did would be kept, listed
    /// and logged.
    pub(super) fn absent_from<T: fmt::Debug>(
        &self,
        mut answer: Answer,
        understand: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<(T, Facts), Failure> {
        let key = self.secret.expose_secret();
        // JSON can write any character by its number. A page of a list is long, and seldom looked at twice.
        let may_repeat = contains(&answer.body, key.as_bytes()) || contains(&answer.body, b"\\u");
        answer.facts.request_id.iter_mut().for_each(|text| self.hide(text));
        answer.facts.rate_limits.iter_mut().for_each(|(_, text)| self.hide(text));
        let (value, facts) = answer.understood(understand)?;
        if may_repeat && key.len() >= TELLING && format!("{value:?}").contains(key) {
            return Err(Failure::BadAnswer { facts, message: "it repeats the key".to_owned() });
        }
        Ok((value, facts))
    }

    fn hide(&self, text: &mut String) {
        let key = self.secret.expose_secret();
        if key.len() < TELLING {
            return;
        }
        if text.contains(key) {
            *text = text.replace(key, "[key]");
        }
        // Texts are cut to a length, maybe within the key.
        if let Some(length) = (TELLING..key.len()).rev().find(|length| text.ends_with(&key[..*length])) {
            text.truncate(text.len() - length);
            text.push_str("[key]");
        }
    }
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_sent_is_refused() {
        for key in ["", " ", "sk-a b", "sk-a\n", "sk-ä"] {
            assert!(matches!(Key::new(Auth::Bearer, key.into()), Err(ClientError::Key)), "{key:?}");
        }
    }

    #[test]
    fn the_key_is_hidden_whole_and_cut() {
        let key = Key::new(Auth::ApiKey, "sk-0123456789".into()).ok().unwrap();
        for (text, wanted) in [
            ("it is sk-0123456789, is it?", "it is [key], is it?"),
            ("sk-0123456789sk-0123456789", "[key][key]"),
            ("cut: sk-012345", "cut: [key]"),
            ("short: sk-01", "short: sk-01"),
            ("", ""),
        ] {
            let failure = key.hidden_in(Failure::Transport { message: text.to_owned() });
            assert_eq!(failure, Failure::Transport { message: wanted.to_owned() });
        }
    }

    #[test]
    fn an_answer_that_repeats_the_key_is_none_however_it_is_written() {
        let key = Key::new(Auth::ApiKey, "sk-0123456789".into()).ok().unwrap();
        let understood = |body: &str| {
            let facts = Facts { request_id: Some("sk-0123456789".into()), ..Facts::default() };
            let answer = Answer { facts, body: body.as_bytes().to_vec() };
            key.absent_from(answer, |body| {
                serde_json::from_slice::<String>(body).map_err(|error| error.to_string())
            })
        };
        let (text, facts) = understood(r#""file-\u0031""#).unwrap();
        assert_eq!((text.as_str(), facts.request_id.as_deref()), ("file-1", Some("[key]")));
        for body in [r#""sk-0123456789""#, r#""a sk-\u0030123456789 b""#] {
            let refused = understood(body).unwrap_err();
            assert!(!format!("{refused:?}").contains("sk-0123456789"), "{refused:?}");
        }
    }
}
