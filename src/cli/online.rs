//! `check --online`: one request for each account.

use serde::Serialize;

use crate::accounts;
use crate::clock::Clock;
use crate::config::{Account, Config};
use crate::model::failure::{Failure, Operation};
use crate::model::job::{Code, Doubt, Reason};
use crate::model::policy::{Retry, Situation, Verdict, judge};
use crate::model::time::Boot;

/// What came of the request of an account.
#[derive(Debug, Serialize)]
pub(super) struct Trial {
    pub(super) ok: bool,
    pub(super) duration_ms: u64,
    pub(super) status: Option<u16>,
    pub(super) request_id: Option<String>,
    pub(super) code: Option<&'static str>,
    pub(super) message: Option<String>,
    pub(super) remedy: Option<&'static str>,
}

/// Lists one File.
pub(super) async fn try_account(config: &Config, account: &Account) -> Trial {
    let begun = Clock::System.now().boot;
    let client = match accounts::client_of(account) {
        Ok(client) => client,
        Err(error) => return Trial::failed(begun, &Reason::local(error.code(), error.to_string())),
    };
    match client.list_files(None, 1, None).await {
        Ok((_, facts)) => Trial {
            ok: true,
            duration_ms: since(begun),
            status: Some(facts.status),
            request_id: facts.request_id,
            code: None,
            message: None,
            remedy: None,
        },
        Err(failure) => Trial::failed(begun, &reason_of(config, failure, begun)),
    }
}

impl Trial {
    fn failed(begun: Boot, reason: &Reason) -> Trial {
        Trial {
            ok: false,
            duration_ms: since(begun),
            status: reason.status,
            request_id: reason.request_id.clone(),
            code: Some(reason.code.as_str()),
            message: Some(reason.message.clone()),
            remedy: Some(reason.code.remedy()),
        }
    }
}

fn since(begun: Boot) -> u64 {
    u64::try_from(Clock::System.now().boot.since(begun).as_millis()).unwrap_or(u64::MAX)
}

/// The reason as a running service would see it.
fn reason_of(config: &Config, failure: Failure, now: Boot) -> Reason {
    let retry = Retry {
        first_delay: config.retry.first_delay,
        max_delay: config.retry.max_delay,
        give_up_after: config.retry.give_up_after,
    };
    let situation = Situation {
        retry: &retry,
        attempts: 0,
        deadline: None,
        doubt: Doubt::None,
        waited_out: false,
        refused_before: false,
        random: 0.0,
    };
    match judge(Operation::ListFiles, &failure, &situation, now) {
        Verdict::Retry { reason, .. } | Verdict::Hold(reason) => reason,
        // No file is concerned here, so the address must be.
        Verdict::Restart(reason)
        | Verdict::SmallerParts(reason)
        | Verdict::Inquire(reason)
        | Verdict::Refused(reason)
        | Verdict::Reject(reason)
        | Verdict::Vanished(Some(reason)) => Reason { code: Code::BadAnswer, ..reason },
        Verdict::Vanished(None) => Reason::local(Code::Internal, failure.to_string()),
    }
}
