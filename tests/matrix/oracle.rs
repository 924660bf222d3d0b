//! Which outcomes are right, from the contract: what PRODUCT promises of a file and what ARCHITECTURE says of refusals,
//! holds and lost answers. Nothing here is taken from what the service does.

use upspool::model::job::State as JobState;
use upspool_emulator::variants::{CancelWhileLanding, CompleteWhileLanding, Outcome};
use upspool_emulator::{Action, Operation};

use crate::case::{Case, Repeat, State};
use crate::faults::{Change, Seen};

/// Whether the service finds out by a fence and the list of Files what a lost answer to complete said. Then a job is
/// `unresolved` only where neither can tell.
pub const RECONCILES: bool = true;

/// The outcomes that are right for one case.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    pub stored: bool,
    pub failed: bool,
    pub unresolved: bool,
    /// The server says what is not so, and nothing that can be asked says otherwise: it made the File and refuses it,
    /// or names another. Then a second File, or a row that names no File, is not the service's fault.
    pub lied_to: bool,
}

impl Expected {
    pub fn allows(&self, state: JobState) -> bool {
        match state {
            JobState::Stored => self.stored,
            JobState::Failed => self.failed,
            // Until the Upload's hour is over nobody can know that it made nothing, if its cancel may have been heard.
            JobState::Completing => RECONCILES && self.unresolved,
            JobState::Unresolved => self.unresolved,
            _ => false,
        }
    }
}

const STORED: Expected = Expected { stored: true, failed: false, unresolved: false, lied_to: false };
const FAILED: Expected = Expected { stored: false, failed: true, ..STORED };
const STORED_OR_FAILED: Expected = Expected { failed: true, ..STORED };
const STORED_OR_UNRESOLVED: Expected = Expected { unresolved: true, ..STORED };
const ANY: Expected = Expected { failed: true, unresolved: true, ..STORED };

/// The codes with which a job may end that the server refuses for good.
pub const CODES_OF_REFUSAL: [&str; 3] = ["file-rejected", "upload-expired", "too-slow"];

/// What may come of `case`: of each thing that the client can take the answer for, together.
pub fn expected(case: &Case) -> Expected {
    let each = case.fault.seen.iter().map(|seen| of(case, *seen));
    each.reduce(|one, other| Expected {
        stored: one.stored || other.stored,
        failed: one.failed || other.failed,
        unresolved: one.unresolved || other.unresolved,
        lied_to: one.lied_to || other.lied_to,
    })
    .unwrap_or_default()
}

/// Whether it may take minutes until nothing more can be found out: a list that should show a File and does not is looked
/// at for two.
pub fn may_take_minutes(case: &Case) -> bool {
    RECONCILES && case.operation != Operation::Part && expected(case).unresolved
}

fn of(case: &Case, seen: Seen) -> Expected {
    match case.operation {
        Operation::Create => of_create(case, seen),
        Operation::Part => of_part(case, seen),
        Operation::Complete => of_complete(case, seen),
        Operation::Cancel => of_cancel(case, seen),
        _ => of_list(case),
    }
}

/// Nothing exists yet, so everything but a refusal is tried again.
fn of_create(case: &Case, seen: Seen) -> Expected {
    match seen {
        // What answers may not be the API at all, which is no file's fault.
        Seen::Refusal if matches!(case.fault.status(), Some(404 | 405)) => STORED_OR_FAILED,
        // A gateway's 500 that says «do not come again» is a refusal as well as an outage.
        Seen::Refusal if case.fault.seen.len() > 1 => STORED_OR_FAILED,
        Seen::Refusal => FAILED,
        // An Upload of no use is refused at its first Part, and replaced once; this one may be the replacement.
        _ if case.state == State::None && case.repeat == Repeat::Once => STORED,
        Seen::True | Seen::Changed(_) => STORED_OR_FAILED,
        _ => STORED,
    }
}

/// A refusal makes the job start again, and the same again is final.
fn of_part(case: &Case, seen: Seen) -> Expected {
    match (seen, case.repeat) {
        // Two halves of a little over 1 MiB cannot be made smaller, nor can 1 000 bytes.
        (Seen::Refusal, _) if case.fault.status() == Some(413) => STORED_OR_FAILED,
        (Seen::Refusal, Repeat::Thrice) => STORED_OR_FAILED,
        (Seen::True | Seen::Changed(_), Repeat::Thrice) => STORED_OR_FAILED,
        // A Part that was taken twice spoils its Upload where all Parts count; then a new one is made.
        _ => STORED,
    }
}

fn of_complete(case: &Case, seen: Seen) -> Expected {
    let variants = case.variants();
    let says_again = variants.second_complete == Outcome::Upload;
    // What a repeated complete tells of one that was acted on and not heard of.
    let repeated = if RECONCILES || says_again { STORED } else { STORED_OR_UNRESOLVED };
    let told = if RECONCILES { STORED } else { STORED_OR_UNRESOLVED };
    let lied_to = Expected { lied_to: true, ..ANY };
    let lasts = case.repeat == Repeat::Thrice;
    match case.state {
        State::All if case.fault.acts => match seen {
            Seen::True => STORED,
            // It did what it refuses, and nothing was lost.
            Seen::Wait | Seen::Refusal | Seen::Changed(Change::Ended | Change::FileId) => lied_to,
            Seen::Lost | Seen::WaitInDoubt => repeated,
            Seen::Changed(Change::Other) => Expected { unresolved: true, ..repeated },
        },
        State::All => match seen {
            Seen::Refusal | Seen::True if lasts => STORED_OR_FAILED,
            Seen::Refusal if case.fault.seen.len() > 1 => told,
            _ => STORED,
        },
        // Nothing was made, so at the first plain refusal a new Upload is opened; with an answer lost before it, the
        // fence has to say first that nothing can be made any more, and a server that refuses to say so leaves it open.
        State::Cancelled | State::Expired | State::Forgotten => match seen {
            Seen::Lost | Seen::WaitInDoubt => STORED_OR_UNRESOLVED,
            Seen::Refusal if case.fault.seen.len() > 1 => STORED_OR_UNRESOLVED,
            _ => STORED,
        },
        State::Completing => {
            // Refused before the File is there, and the fence says falsely that it will never be.
            let fence_lies = variants.cancel_while_landing == CancelWhileLanding::Lies;
            let lands = variants.complete_while_landing == CompleteWhileLanding::Lands;
            match seen {
                Seen::Changed(Change::Ended | Change::FileId) if lands => lied_to,
                Seen::Changed(_) if lands => STORED_OR_UNRESOLVED,
                Seen::Refusal => {
                    Expected { lied_to: fence_lies, unresolved: !RECONCILES || fence_lies, ..told }
                }
                // Ended or forgotten while it lands: as above.
                Seen::True if case.fault.ends_upload.is_some() => {
                    Expected { lied_to: fence_lies, ..STORED_OR_UNRESOLVED }
                }
                _ => repeated,
            }
        }
        _ => match seen {
            Seen::Changed(Change::Ended | Change::FileId) if says_again => lied_to,
            Seen::Changed(_) if says_again => STORED_OR_UNRESOLVED,
            Seen::Refusal => told,
            Seen::True if matches!(case.fault.action, Action::Purge { .. }) => told,
            _ => repeated,
        },
    }
}

/// Cleaning up changes nothing for the file. As a fence it tells what to do.
fn of_cancel(case: &Case, seen: Seen) -> Expected {
    let variants = case.variants();
    match case.state {
        State::Completing => {
            let lies = variants.cancel_while_landing == CancelWhileLanding::Lies
                || matches!(seen, Seen::Changed(Change::Ended));
            Expected { lied_to: lies, ..STORED_OR_UNRESOLVED }
        }
        State::Completed if variants.second_complete == Outcome::Upload => STORED,
        State::Completed if RECONCILES && !matches!(seen, Seen::Changed(_)) => STORED,
        State::Completed => STORED_OR_UNRESOLVED,
        _ => STORED,
    }
}

/// To ask whether the server lives changes nothing for the file. To look for a File may fail, and is done again.
fn of_list(case: &Case) -> Expected {
    match case.state {
        State::Completing => {
            let lies = case.variants().cancel_while_landing == CancelWhileLanding::Lies;
            Expected { lied_to: lies, ..STORED_OR_UNRESOLVED }
        }
        State::Completed if case.variants().second_complete == Outcome::Upload => STORED,
        // A list that never shows the File, or one that is not true, cannot tell.
        State::Completed if RECONCILES && case.operation == Operation::List && !is_lasting(case) => STORED,
        State::Completed => STORED_OR_UNRESOLVED,
        _ => STORED,
    }
}

fn is_lasting(case: &Case) -> bool {
    case.fault.seen.iter().any(|seen| matches!(seen, Seen::Changed(_)))
}
