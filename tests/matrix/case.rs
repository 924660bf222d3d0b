//! One file, what its Upload went through before, and the fault that then strikes. All cases are generated.

use upspool_emulator::variants::{
    AfterMismatch, CancelWhileLanding, CompleteWhileLanding, ErrorStyle, ExpiresAt, FileCreatedAt, Outcome,
    PendingFile, Presence, UnlistedParts,
};
use upspool_emulator::{Action, Calls, Late, Operation, Patch, Point, Reply, Variants};

use crate::faults::{self, Fault};
use crate::harness::noise;

/// Where the Upload stands when the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// There is none yet.
    None,
    /// Open, without Parts.
    Open,
    /// One of two Parts is stored.
    Some,
    /// All Parts are stored.
    All,
    /// A complete was accepted, its answer lost, and its File is not there yet.
    Completing,
    /// The File is there; the answer that said so was lost.
    Completed,
    /// Cancelled by somebody else.
    Cancelled,
    /// Expired by the server's clock; by ours it lives.
    Expired,
    /// The server does not know it any more.
    Forgotten,
}

/// How often the fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Once,
    /// Enough for a second refusal to be final, and for a hold.
    Thrice,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub number: usize,
    pub operation: Operation,
    pub state: State,
    pub fault: Fault,
    pub repeat: Repeat,
    /// Two Parts through a slot, rather than one through the lane.
    pub large: bool,
    /// Of [`profiles`].
    pub profile: usize,
}

/// Every operation that the client uses.
pub const OPERATIONS: [Operation; 7] = [
    Operation::Create,
    Operation::Part,
    Operation::Complete,
    Operation::Cancel,
    Operation::List,
    Operation::Get,
    Operation::Content,
];

const ENDED: [State; 3] = [State::Cancelled, State::Expired, State::Forgotten];

/// The states in which `operation` can be asked for. An operation without Upload is asked for while there is one.
pub fn states(operation: Operation) -> Vec<State> {
    use State::{All, Completed, Completing, None, Open, Some};
    let before: &[State] = match operation {
        Operation::Create => &[None],
        Operation::Part => &[Open, Some],
        Operation::Complete => &[All, Completing, Completed],
        Operation::Cancel => &[Open, Some, All, Completing, Completed],
        Operation::List => &[None, Open, Some, All, Completing, Completed],
        _ => return vec![Completed],
    };
    [before, &ENDED].concat()
}

/// What a server may do where nothing public says it, in the combinations that are tried.
pub fn profiles() -> Vec<Variants> {
    let usual = Variants::default();
    let again = Variants {
        second_complete: Outcome::Upload,
        cancel_after_complete: Outcome::Upload,
        second_cancel: Outcome::Upload,
        cancel_after_expiry: Outcome::Upload,
        ..usual
    };
    vec![
        usual,
        Variants {
            not_found: 400,
            errors: ErrorStyle::Html,
            complete_while_landing: CompleteWhileLanding::Lands,
            ..again
        },
        Variants {
            cancel_while_landing: CancelWhileLanding::Loses,
            cancel_after_complete: Outcome::Upload,
            second_cancel: Outcome::Upload,
            unlisted_parts: UnlistedParts::Counted,
            after_mismatch: AfterMismatch::Gone,
            expires_at: ExpiresAt::BeforeCreated,
            errors: ErrorStyle::Empty,
            ..usual
        },
        Variants {
            part_after_expiry: 404,
            part_after_cancel: 404,
            complete_after_expiry: 404,
            complete_after_cancel: 410,
            bad_part_list: 404,
            pending_file: PendingFile::File,
            errors: ErrorStyle::Azure,
            cancel_while_landing: CancelWhileLanding::Loses,
            ..again
        },
        Variants {
            complete_while_landing: CompleteWhileLanding::Lands,
            cancel_while_landing: CancelWhileLanding::Lies,
            file_created_at: FileCreatedAt::Upload,
            pending_file: PendingFile::Null,
            errors: ErrorStyle::Detail,
            upload_object: Presence::Omitted,
            file_status: Presence::Omitted,
            ..usual
        },
        Variants {
            second_complete: Outcome::Upload,
            cancel_while_landing: CancelWhileLanding::Lies,
            not_found: 422,
            ..usual
        },
    ]
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let profiles = profiles().len();
    for operation in OPERATIONS {
        let vocabulary = faults::all(operation);
        let states = states(operation);
        for (turn, fault) in vocabulary.iter().enumerate() {
            let mut push = |state: State, repeat: Repeat, profile: usize| {
                let number = cases.len();
                let large = match (operation, state) {
                    (_, State::Some) => true,
                    (Operation::Part, _) => number.is_multiple_of(2),
                    _ => number.is_multiple_of(7),
                };
                let profile = profile % profiles;
                cases.push(Case { number, operation, state, fault: fault.clone(), repeat, large, profile });
            };
            for (at, state) in states.iter().enumerate() {
                // The first state meets every fault, each other one its share.
                let share = match operation {
                    // The answer that is patched must be a good one, and does not depend on how far the Upload is.
                    _ if is_patched(fault) && ENDED.contains(state) => continue,
                    _ if is_patched(fault) && !is_alone(operation) => 3,
                    // What is said of a File is looked at only where one is looked for.
                    _ if is_patched(fault) && *state == State::Completed => 1,
                    _ if is_patched(fault) => continue,
                    // Of cleaning up nothing hangs.
                    Operation::Cancel | Operation::Create => 3,
                    // Each state has a turn.
                    _ if is_alone(operation) => states.len(),
                    _ => 1,
                };
                let first = at == 0 && !is_alone(operation);
                if !first && turn % share != at % share {
                    continue;
                }
                push(*state, Repeat::Once, turn + at);
                // What was done and not heard of is what the choices of the server are about.
                if operation == Operation::Complete
                    && *state == State::All
                    && fault.acts
                    && !is_patched(fault)
                {
                    (1..profiles).for_each(|profile| push(*state, Repeat::Once, turn + at + profile));
                }
            }
            if !is_alone(operation) && operation != Operation::Cancel {
                push(states[0], Repeat::Thrice, turn);
            }
        }
    }
    cases
}

fn is_patched(fault: &Fault) -> bool {
    matches!(fault.action, Action::Patch(_))
}

/// Whether faults of this operation cannot be bound to one file.
pub fn is_alone(operation: Operation) -> bool {
    !faults::names_upload(operation)
}

impl Case {
    pub fn name(&self) -> String {
        format!(
            "{} while {:?}: {}, {:?}, {}, server {}",
            self.operation,
            self.state,
            self.fault.name,
            self.repeat,
            if self.large { "large" } else { "small" },
            self.profile
        )
    }

    pub fn file_name(&self) -> String {
        format!("case-{:05}.bin", self.number)
    }

    pub fn content(&self) -> Vec<u8> {
        // A little over one Part, which becomes two halves.
        noise(if self.large { 1024 * 1024 + 512 } else { 1000 }, self.number as u64 + 1)
    }

    pub fn variants(&self) -> Variants {
        profiles().swap_remove(self.profile)
    }

    /// Whether another program makes a File of the same name and size at the same time.
    pub fn has_namesake(&self) -> bool {
        self.operation == Operation::Content
    }

    /// Whether the request that is to be struck is sent in any case, rather than only to find out about a lost answer.
    pub fn must_strike(&self) -> bool {
        match self.operation {
            Operation::Get | Operation::Content => false,
            Operation::Cancel | Operation::List => {
                !matches!(self.state, State::Completing | State::Completed)
            }
            _ => true,
        }
    }

    /// Which call of the operation is struck.
    pub fn nth(&self) -> u64 {
        match (self.operation, self.state) {
            (Operation::Create, state) if ENDED.contains(&state) => 2,
            (Operation::Part, state) if ENDED.contains(&state) && self.large => 2,
            (Operation::Part, State::Some) | (Operation::Complete, State::Completing | State::Completed) => 2,
            _ => 1,
        }
    }

    /// What leads to the state, and then the fault itself. In the order in which they act on one call.
    pub fn script(&self, stand_for: &[(&str, String)]) -> Vec<upspool_emulator::Fault> {
        let bound = |operation, nth| {
            let calls = Calls::of(operation).nth(nth);
            if is_alone(operation) { calls } else { calls.filename(self.file_name()) }
        };
        let mut script = Vec::new();
        let mut before = |operation, nth, action: Action| script.push(bound(operation, nth).meet(action));
        let answer = |status| Action::from(Reply::status(status));
        let (complete, part) = (Operation::Complete, Operation::Part);
        let nth = self.nth();
        match (self.operation, self.state) {
            (Operation::Create, state) if ENDED.contains(&state) => {
                before(part, 1, end_of(state));
            }
            (Operation::Part, state) if ENDED.contains(&state) => {
                before(part, nth, end_of(state));
            }
            (Operation::Complete, state) if ENDED.contains(&state) => before(complete, 1, end_of(state)),
            (Operation::Complete, State::Completing) => {
                before(complete, 1, Late::on_command().status(502).into());
            }
            (Operation::Complete, State::Completed) => {
                before(complete, 1, Action::drop(Point::After));
            }
            (Operation::Cancel, State::Open) => before(part, 1, answer(400)),
            (Operation::Cancel, State::Some) => before(part, 2, answer(400)),
            (Operation::Cancel, State::All) => before(complete, 1, answer(400)),
            (Operation::Cancel, state) if ENDED.contains(&state) => {
                before(part, 1, answer(400));
                before(Operation::Cancel, 1, end_of(state));
            }
            (Operation::Cancel | Operation::List, State::Completing) => {
                before(complete, 1, Late::on_command().into());
                before(complete, 2, answer(422));
            }
            // A job that fails twice with no success between has the list asked for, to see whether the server lives.
            (Operation::List, State::None) => {
                before(Operation::Create, 1, answer(500));
                before(Operation::Create, 2, answer(500));
            }
            (Operation::List, State::Open) => {
                before(part, 1, answer(500));
                before(part, 2, answer(500));
            }
            (Operation::List, State::Some) => {
                before(part, 2, answer(500));
                before(part, 3, answer(500));
            }
            (Operation::List, State::All) => {
                before(complete, 1, answer(503));
                before(complete, 2, answer(503));
            }
            (Operation::List, state) if ENDED.contains(&state) => {
                before(part, 1, end_of(state));
                before(part, 1, answer(500));
                // Of a forgotten Upload the emulator knows no name either.
                script.push(Calls::of(part).nth(2).meet(answer(500)));
            }
            (Operation::List | Operation::Cancel | Operation::Get | Operation::Content, State::Completed) => {
                before(complete, 1, Action::drop(Point::After));
            }
            _ => {}
        }
        if self.operation == Operation::Get {
            script.push(Calls::of(Operation::List).meet(Patch::default().null("/data/0/bytes")));
        }
        let calls = match self.repeat {
            Repeat::Once => bound(self.operation, nth),
            Repeat::Thrice => bound(self.operation, nth).times(3),
        };
        script.push(calls.meet(faults::resolve(&self.fault.action, stand_for)));
        script
    }
}

/// The Upload ends as the request for it arrives.
fn end_of(state: State) -> Action {
    let at = Point::Unread;
    match state {
        State::Cancelled => Action::Cancel { at },
        State::Expired => Action::Expire { at },
        _ => Action::Purge { at },
    }
}
