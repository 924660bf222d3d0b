//! The key: the header that carries it, and that it stands nowhere else.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::connect::ClientError;
use super::server::Auth;
use crate::model::failure::Failure;

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
}
