//! What a failure means: one pure function from what happened to what to do.

use std::time::Duration;

use super::failure::{Facts, Failure, Operation, SourceFailure};
use super::job::{Code, Deadline, Doubt, Reason};
use super::time::{Boot, millis};

/// `[retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Longest first wait; doubles with each attempt.
    pub first_delay: Duration,
    /// Longest wait of all.
    pub max_delay: Duration,
    /// How long a job is tried without progress.
    pub give_up_after: Duration,
}

/// What to do about a failure.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after `after`. Counts an attempt.
    Retry {
        /// From now; the server's wish if it is longer than our own back-off.
        after: Duration,
        /// What failed.
        reason: Reason,
        /// Whom the failure speaks against.
        blame: Blame,
    },
    /// The Upload is gone or of no use: open a new one.
    Restart(Reason),
    /// The same, with Parts of at most half the size: what stands before the server takes no larger body.
    SmallerParts(Reason),
    /// The server may have made the File and refuses to repeat its answer: find out. See `reconcile`.
    Inquire(Reason),
    /// The server answers, and says no to a question of ours that is about no file's content: cancel, list, get.
    Refused(Reason),
    /// This version of this file will not be accepted.
    Reject(Reason),
    /// This version is not there any more; another may be.
    Vanished(Option<Reason>),
    /// No file's fault: stop sending for the whole account.
    Hold(Reason),
}

/// Whom a failure speaks against, so that a hold can be told from a poison file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The way to the server, or the server, if others fail too.
    Server,
    /// The account, if others of it fail too.
    Account,
    /// Our pace: fewer slots.
    Pace,
    /// This job alone.
    Job,
}

/// What a verdict depends on besides the failure.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The settings in force.
    pub retry: &'a Retry,
    /// Failures of the job since its last progress, this one not counted.
    pub attempts: u32,
    /// Expiry of the Upload, if one is open.
    pub deadline: Option<Deadline>,
    /// Whether complete may have been acted on.
    pub doubt: Doubt,
    /// Whether complete has been repeated for so long that the server must have put the file together.
    pub waited_out: bool,
    /// Whether a plain refusal made this job start again before.
    pub refused_before: bool,
    /// Uniform in 0..=1, for the jitter.
    pub random: f64,
}

/// An Upload this near to its expiry is treated as expired when the server refuses it.
const NEAR_EXPIRY: Duration = Duration::from_secs(60);

/// The longest `Retry-After` that is believed. A server that means longer says it again; one that talks nonsense must not
/// stop an account for a year.
const LONGEST_WISH: Duration = Duration::from_secs(3600);

/// Judges a failure.
pub fn judge(operation: Operation, failure: &Failure, situation: &Situation<'_>, now: Boot) -> Verdict {
    match failure {
        Failure::Source(source) => judge_source(source, situation),
        Failure::Connect { message } | Failure::Transport { message } => {
            retry(situation, Reason::local(Code::Network, message.clone()), Blame::Server)
        }
        Failure::Stalled => {
            retry(situation, Reason::local(Code::Stalled, failure.to_string()), Blame::Server)
        }
        Failure::NoAnswer => {
            retry(situation, Reason::local(Code::Network, failure.to_string()), Blame::Server)
        }
        Failure::BadAnswer { facts, .. } => {
            retry(situation, reason(Code::BadAnswer, facts, failure), Blame::Server)
        }
        Failure::Refused { facts, kind, code, .. } => {
            judge_refusal(operation, facts, kind.as_deref(), code.as_deref(), failure, situation, now)
        }
    }
}

fn judge_source(source: &SourceFailure, situation: &Situation<'_>) -> Verdict {
    match source {
        SourceFailure::Missing => Verdict::Vanished(None),
        SourceFailure::NotAFile | SourceFailure::Changed => {
            Verdict::Vanished(Some(Reason::local(Code::FileChanged, source.to_string())))
        }
        SourceFailure::Unreachable { .. } => {
            retry(situation, Reason::local(Code::FileUnreadable, source.to_string()), Blame::Job)
        }
        SourceFailure::Unreadable { .. } => {
            Verdict::Reject(Reason::local(Code::FileUnreadable, source.to_string()))
        }
    }
}

fn judge_refusal(
    operation: Operation,
    facts: &Facts,
    kind: Option<&str>,
    code: Option<&str>,
    failure: &Failure,
    situation: &Situation<'_>,
    now: Boot,
) -> Verdict {
    let because = |code| reason(code, facts, failure);
    match facts.status {
        401 => Verdict::Hold(because(Code::KeyRejected)),
        // A key may be for Uploads alone; that a File or the list is refused then is an answer, and holds nothing.
        403 if operation == Operation::GetFile
            || (operation == Operation::ListFiles && situation.doubt != Doubt::None) =>
        {
            Verdict::Refused(because(Code::Forbidden))
        }
        403 => paced(situation, facts, because(Code::Forbidden), Blame::Account),
        429 if is_quota(kind, code) => Verdict::Hold(because(Code::QuotaExhausted)),
        // To a complete that may have acted one server means «it is being completed» by that, which ends; another «it is
        // completed», and would never say anything else.
        409 if situation.waited_out => judge_plain_refusal(operation, because, situation, now),
        429 => paced(situation, facts, because(Code::RateLimited), Blame::Pace),
        503 => paced(situation, facts, because(Code::ServerError), Blame::Server),
        413 if operation == Operation::Part => Verdict::SmallerParts(because(Code::FileRejected)),
        // What answers there is not the API, or it has moved: no fault of any file. A redirect is never followed.
        300..=399 => paced(situation, facts, because(Code::BadAnswer), Blame::Server),
        404 | 405 if operation == Operation::Create => {
            paced(situation, facts, because(Code::BadAnswer), Blame::Server)
        }
        // A server that has no such question, such as the list of Files.
        501 if operation.is_question() => Verdict::Refused(because(Code::BadAnswer)),
        status if retryable(status, facts.should_retry) => {
            paced(situation, facts, because(Code::ServerError), Blame::Server)
        }
        _ => judge_plain_refusal(operation, because, situation, now),
    }
}

/// A refusal that waiting does not mend. Its text says why, but texts are documented nowhere: never match on them.
fn judge_plain_refusal(
    operation: Operation,
    because: impl Fn(Code) -> Reason,
    situation: &Situation<'_>,
    now: Boot,
) -> Verdict {
    if operation.is_question() {
        return Verdict::Refused(because(Code::CompleteUnresolved));
    }
    if operation == Operation::Complete && situation.doubt != Doubt::None {
        return Verdict::Inquire(because(Code::CompleteUnresolved));
    }
    let expired = match situation.deadline {
        None => false,
        Some(Deadline::Unknown) => true,
        Some(Deadline::At(at)) => now + NEAR_EXPIRY >= at,
    };
    if expired {
        Verdict::Restart(because(Code::UploadExpired))
    } else if operation == Operation::Create || situation.refused_before {
        Verdict::Reject(because(Code::FileRejected))
    } else {
        Verdict::Restart(because(Code::FileRejected))
    }
}

/// The statuses that every official SDK tries again, unless the server says otherwise by `x-should-retry`.
fn retryable(status: u16, should_retry: Option<bool>) -> bool {
    should_retry.unwrap_or(matches!(status, 408 | 409) || status >= 500)
}

/// The 429s that no waiting mends: the account's money or quota. The API's guide lists the codes.
fn is_quota(kind: Option<&str>, code: Option<&str>) -> bool {
    const CODES: [&str; 5] = [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
    ];
    kind == Some("insufficient_quota") || code.is_some_and(|code| CODES.contains(&code))
}

fn retry(situation: &Situation<'_>, reason: Reason, blame: Blame) -> Verdict {
    Verdict::Retry { after: backoff(situation.retry, situation.attempts, situation.random), reason, blame }
}

fn paced(situation: &Situation<'_>, facts: &Facts, reason: Reason, blame: Blame) -> Verdict {
    let own = backoff(situation.retry, situation.attempts, situation.random);
    Verdict::Retry { after: wish(facts).map_or(own, |wish| wish.max(own)), reason, blame }
}

/// How long the server asks us to wait, as far as that is believed.
pub fn wish(facts: &Facts) -> Option<Duration> {
    facts.retry_after.map(|wish| wish.min(LONGEST_WISH))
}

fn reason(code: Code, facts: &Facts, failure: &Failure) -> Reason {
    Reason {
        code,
        message: failure.to_string(),
        status: Some(facts.status),
        request_id: facts.request_id.clone(),
    }
}

/// The wait before attempt number `attempts` + 1: exponential with full jitter, so that many jobs that failed together
/// do not come back together.
pub fn backoff(retry: &Retry, attempts: u32, random: f64) -> Duration {
    let longest =
        retry.first_delay.saturating_mul(2u32.saturating_pow(attempts.min(30))).min(retry.max_delay);
    longest.mul_f64(random.clamp(0.0, 1.0))
}

/// Whether a job that fails since `failing_since` has been tried long enough.
pub fn gives_up(retry: &Retry, failing_since: Boot, now: Boot) -> bool {
    now.since(failing_since) >= retry.give_up_after
}

/// Longest lifetime of an Upload that is believed. OpenAI says one hour, Azure two.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Shortest lifetime that is believed: of a shorter one every refusal would look like an expiry.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(120);

/// Lifetime of an Upload where its answer makes no sense (the published sample expires before it is created).
pub const USUAL_LIFETIME: Duration = Duration::from_secs(3600);

/// How long an Upload lives, by the two times of its answer. Their clock is only ever compared with itself.
pub fn lifetime(created_at: i64, expires_at: i64) -> Duration {
    match u64::try_from(expires_at.saturating_sub(created_at)) {
        Ok(seconds) if seconds >= SHORTEST_LIFETIME.as_secs() => {
            Duration::from_secs(seconds).min(LONGEST_LIFETIME)
        }
        _ => USUAL_LIFETIME,
    }
}

/// The rate in bytes per second that `bytes` need within an Upload's usual lifetime.
pub fn needed_rate(bytes: u64) -> u64 {
    bytes.div_ceil(u64::try_from(millis(USUAL_LIFETIME) / 1000).unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry {
        first_delay: Duration::from_millis(500),
        max_delay: Duration::from_secs(900),
        give_up_after: Duration::from_secs(86_400),
    };
    const CALM: Situation<'_> = Situation {
        retry: &RETRY,
        attempts: 0,
        deadline: Some(Deadline::At(Boot(3_600_000))),
        doubt: Doubt::None,
        waited_out: false,
        refused_before: false,
        random: 1.0,
    };

    fn refused(status: u16, code: Option<&str>, facts: Facts) -> Failure {
        Failure::Refused {
            facts: Facts { status, ..facts },
            kind: None,
            code: code.map(str::to_owned),
            message: "words".into(),
        }
    }

    /// A verdict without its words.
    fn gist(verdict: &Verdict) -> (&'static str, Option<Code>) {
        match verdict {
            Verdict::Retry { reason, .. } => ("retry", Some(reason.code)),
            Verdict::Restart(reason) => ("restart", Some(reason.code)),
            Verdict::SmallerParts(reason) => ("smaller", Some(reason.code)),
            Verdict::Inquire(reason) => ("inquire", Some(reason.code)),
            Verdict::Refused(reason) => ("refused", Some(reason.code)),
            Verdict::Reject(reason) => ("reject", Some(reason.code)),
            Verdict::Vanished(reason) => ("vanished", reason.as_ref().map(|reason| reason.code)),
            Verdict::Hold(reason) => ("hold", Some(reason.code)),
        }
    }

    #[test]
    fn each_refusal_has_its_verdict() {
        use Code::*;
        use Operation::*;
        let late = Situation { deadline: Some(Deadline::At(Boot(30_000))), ..CALM };
        let again = Situation { refused_before: true, ..CALM };
        let doubt = Situation { doubt: Doubt::MayHaveActed, ..CALM };
        for (operation, status, code, situation, expected) in [
            (Create, 401, None, CALM, ("hold", KeyRejected)),
            (Part, 401, None, CALM, ("hold", KeyRejected)),
            (Create, 403, None, CALM, ("retry", Forbidden)),
            (Create, 429, Some("insufficient_quota"), CALM, ("hold", QuotaExhausted)),
            (Create, 429, Some("project_spend_limit_exceeded"), CALM, ("hold", QuotaExhausted)),
            (Part, 429, Some("rate_limit_exceeded"), CALM, ("retry", RateLimited)),
            (Part, 429, None, CALM, ("retry", RateLimited)),
            (Part, 503, Some("slow_down"), CALM, ("retry", ServerError)),
            (Part, 500, None, CALM, ("retry", ServerError)),
            (Part, 408, None, CALM, ("retry", ServerError)),
            (Complete, 409, None, doubt, ("retry", ServerError)),
            (Part, 413, None, CALM, ("smaller", FileRejected)),
            (Create, 413, None, CALM, ("reject", FileRejected)),
            (Create, 400, None, Situation { deadline: None, ..CALM }, ("reject", FileRejected)),
            (Part, 400, None, CALM, ("restart", FileRejected)),
            (Part, 404, None, CALM, ("restart", FileRejected)),
            (Part, 400, None, again, ("reject", FileRejected)),
            (Part, 404, None, late, ("restart", UploadExpired)),
            (
                Part,
                404,
                None,
                Situation { deadline: Some(Deadline::Unknown), ..CALM },
                ("restart", UploadExpired),
            ),
            (Complete, 400, None, CALM, ("restart", FileRejected)),
            (Complete, 400, None, again, ("reject", FileRejected)),
            (Complete, 400, None, doubt, ("inquire", CompleteUnresolved)),
            (Complete, 404, None, doubt, ("inquire", CompleteUnresolved)),
            (Complete, 409, None, Situation { waited_out: true, ..doubt }, ("inquire", CompleteUnresolved)),
            (Cancel, 409, None, Situation { waited_out: true, ..doubt }, ("refused", CompleteUnresolved)),
            (Cancel, 400, None, doubt, ("refused", CompleteUnresolved)),
            (Cancel, 404, None, doubt, ("refused", CompleteUnresolved)),
            (Cancel, 500, None, doubt, ("retry", ServerError)),
            (ListFiles, 404, None, doubt, ("refused", CompleteUnresolved)),
            (ListFiles, 501, None, doubt, ("refused", BadAnswer)),
            (GetFile, 404, None, doubt, ("refused", CompleteUnresolved)),
            (GetFile, 404, None, CALM, ("refused", CompleteUnresolved)),
            (GetFile, 403, None, CALM, ("refused", Forbidden)),
            (GetFile, 500, None, CALM, ("retry", ServerError)),
            (GetFile, 401, None, CALM, ("hold", KeyRejected)),
            (ListFiles, 401, None, doubt, ("hold", KeyRejected)),
            (ListFiles, 403, None, doubt, ("refused", Forbidden)),
            (ListFiles, 403, None, CALM, ("retry", Forbidden)),
            (Cancel, 403, None, doubt, ("retry", Forbidden)),
            (Part, 302, None, CALM, ("retry", BadAnswer)),
            (Create, 404, None, Situation { deadline: None, ..CALM }, ("retry", BadAnswer)),
        ] {
            let failure = refused(status, code, Facts::default());
            let verdict = judge(operation, &failure, &situation, Boot(0));
            assert_eq!(gist(&verdict), (expected.0, Some(expected.1)), "{operation:?} {status} {code:?}");
        }
    }

    #[test]
    fn the_server_says_whether_and_when_to_come_again() {
        let later = Facts { retry_after: Some(Duration::from_secs(40)), ..Facts::default() };
        let Verdict::Retry { after, .. } = judge(Operation::Part, &refused(429, None, later), &CALM, Boot(0))
        else {
            panic!("a 429 is tried again");
        };
        assert_eq!(after, Duration::from_secs(40));

        let nonsense = Facts { retry_after: Some(Duration::from_secs(u64::MAX)), ..Facts::default() };
        assert_eq!(wish(&nonsense), Some(LONGEST_WISH));

        let never = Facts { should_retry: Some(false), ..Facts::default() };
        assert_eq!(gist(&judge(Operation::Part, &refused(500, None, never), &CALM, Boot(0))).0, "restart");
        let please = Facts { should_retry: Some(true), ..Facts::default() };
        assert_eq!(gist(&judge(Operation::Part, &refused(400, None, please), &CALM, Boot(0))).0, "retry");
    }

    #[test]
    fn waits_double_to_the_longest_and_are_spread_over_all_of_it() {
        let waits: Vec<u128> = (0..13).map(|attempts| backoff(&RETRY, attempts, 1.0).as_millis()).collect();
        assert_eq!(waits[..4], [500, 1000, 2000, 4000]);
        assert_eq!(waits[12], 900_000);
        assert_eq!(backoff(&RETRY, 3, 0.0), Duration::ZERO);
        assert_eq!(backoff(&RETRY, u32::MAX, 0.5), Duration::from_secs(450));
    }

    #[test]
    fn a_lifetime_is_the_difference_of_their_times_or_an_hour() {
        assert_eq!(lifetime(1_000, 8_200), Duration::from_secs(7200));
        // The sample in the published reference.
        assert_eq!(lifetime(1_719_184_911, 1_719_127_296), USUAL_LIFETIME);
        assert_eq!(lifetime(i64::MIN, i64::MAX), LONGEST_LIFETIME);
        assert_eq!(lifetime(5, 5), USUAL_LIFETIME);
    }
}
