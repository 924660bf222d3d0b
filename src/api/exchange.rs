//! From a request to a whole answer, or to a failure.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use tokio::time::timeout;

use super::pacing;
use super::refusal::{beginning, cut, refused};
use crate::model::failure::{Facts, Failure};

/// How much is read of an answer, in bytes. An Upload takes half a KiB.
pub(super) const ONE: usize = 1024 * 1024;

/// The same for a page of a list: a File takes 300 bytes, and a page has at most 10 000.
pub(super) const LIST: usize = 16 * 1024 * 1024;

/// How much of an answer that is not understood goes into the message, in bytes.
const SHOWN: usize = 200;

/// A whole answer with a status of 2xx.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) facts: Facts,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// Its body, as `understand` reads it.
    pub(super) fn understood<T>(
        self,
        understand: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<(T, Facts), Failure> {
        match understand(&self.body) {
            Ok(value) => Ok((value, self.facts)),
            Err(why) => {
                let message = format!("{why}: {}", beginning(&self.body, SHOWN));
                Err(Failure::BadAnswer { facts: self.facts, message })
            }
        }
    }
}

/// Sends `request` and reads the answer, at most `limit` bytes of it, until `patience` ends with its reason.
pub(super) async fn exchange(
    request: RequestBuilder,
    patience: impl Future<Output = Failure>,
    limit: usize,
) -> Result<Answer, Failure> {
    let mut patience = pin!(patience);
    let mut answer = tokio::select! {
        biased;
        answer = request.send() => answer.map_err(lost)?,
        failure = &mut patience => return Err(failure),
    };
    let facts = pacing::facts(answer.status().as_u16(), answer.headers());
    let mut body = Vec::new();
    let read = tokio::select! {
        biased;
        read = read(&mut answer, &mut body, limit) => read,
        failure = &mut patience => Err(failure),
    };
    if !answer.status().is_success() {
        // The status is worth more than why its body is not whole.
        return Err(refused(facts, answer.headers(), &body));
    }
    if read? {
        return Ok(Answer { facts, body });
    }
    let message = format!("more than {limit} bytes: {}", beginning(&body, SHOWN));
    Err(Failure::BadAnswer { facts, message })
}

/// Sends `request` and hands the body of the answer to `take` as it comes. Until the answer begins, `patience` says how
/// long; then no byte may be missing for `stall`.
pub(super) async fn stream(
    request: RequestBuilder,
    patience: impl Future<Output = Failure>,
    stall: Duration,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(bool, Facts), Failure> {
    let mut patience = pin!(patience);
    let mut answer = tokio::select! {
        biased;
        answer = request.send() => answer.map_err(lost)?,
        failure = &mut patience => return Err(failure),
    };
    let facts = pacing::facts(answer.status().as_u16(), answer.headers());
    if !answer.status().is_success() {
        let mut body = Vec::new();
        // The status is worth more than why its body is not whole.
        let _ = timeout(stall, read(&mut answer, &mut body, ONE)).await;
        return Err(refused(facts, answer.headers(), &body));
    }
    loop {
        match timeout(stall, answer.chunk()).await {
            Err(_) => return Err(Failure::Stalled),
            Ok(Err(error)) => return Err(lost(error)),
            Ok(Ok(None)) => return Ok((true, facts)),
            Ok(Ok(Some(chunk))) if take(&chunk) => {}
            Ok(Ok(Some(_))) => return Ok((false, facts)),
        }
    }
}

/// Whether the whole body is in `body`, rather than the first `limit` bytes of more.
async fn read(answer: &mut Response, body: &mut Vec<u8>, limit: usize) -> Result<bool, Failure> {
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        let room = limit - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an error of the HTTP library means for the question that counts: may anything have been sent?
fn lost(error: reqwest::Error) -> Failure {
    let message = causes(&error);
    if error.is_connect() {
        Failure::Connect { message }
    } else if timed_out(&error) {
        // The kernel's own watch over unacknowledged bytes (TCP_USER_TIMEOUT) came before ours.
        Failure::Stalled
    } else {
        Failure::Transport { message }
    }
}

fn timed_out(error: &reqwest::Error) -> bool {
    chain(error).any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
    })
}

/// The causes of `error`, outermost first, without the address: its query may hold a secret.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    // The outermost text is the one that shows the address, and says no more than what the operation was.
    for cause in chain(error).skip(1) {
        let text = cause.to_string();
        // Several layers repeat what the one below says.
        if causes.last().is_none_or(|last| !last.ends_with(&text)) {
            causes.push(text);
        }
    }
    if causes.is_empty() {
        causes.push("the HTTP library gave no cause".to_owned());
    }
    cut(&causes.join(": "), 2048)
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
