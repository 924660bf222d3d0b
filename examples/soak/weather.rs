//! What goes wrong between the service and the server. Never a lie: what was done is not denied by a whole answer, since
//! nothing could be proved of what comes of that.

use std::time::Duration;

use upspool_emulator::{Action, Body, Calls, Emulator, Fault, Lag, Late, Operation, Point, Reply};

use crate::dice::Dice;

const OPERATIONS: [Operation; 6] = [
    Operation::Create,
    Operation::Part,
    Operation::Complete,
    Operation::Cancel,
    Operation::List,
    Operation::Content,
];

/// Other weather than before; its name is for the line that is printed.
pub fn change(emulator: &Emulator, dice: &mut Dice) -> String {
    emulator.clear_faults();
    if dice.percent(25) {
        return "fair".to_owned();
    }
    let mut names = Vec::new();
    for _ in 0..dice.within(1, 4) {
        let (name, fault) = some_fault(dice);
        names.push(name);
        emulator.fault(fault);
    }
    names.join(", ")
}

fn some_fault(dice: &mut Dice) -> (String, Fault) {
    let operation = dice.of(&OPERATIONS);
    let every = dice.within(2, 9);
    let calls = |operation, every| Calls::of(operation).every(every);
    match dice.within(0, 9) {
        0 | 1 => {
            let status = dice.of(&[408, 409, 429, 500, 502, 503, 504]);
            let reply = Reply::status(status).header("retry-after-ms", "200");
            let body = dice.of(&[Body::Error, Body::Html, Body::Empty, Body::Garbage, Body::Endless]);
            (format!("{status} for {operation}"), calls(operation, every).meet(reply.body(body)))
        }
        2 => {
            let status = dice.of(&[500, 502, 504]);
            let reply = Reply::status(status).at(Point::After);
            (format!("{status} after {operation}"), calls(operation, every).meet(reply))
        }
        3 | 4 => {
            let at =
                dice.of(&[Point::Unread, Point::Body(1000), Point::Before, Point::After, Point::Answered]);
            let action = if dice.percent(50) { Action::drop(at) } else { Action::reset(at) };
            (format!("cut of {operation}"), calls(operation, every).meet(action))
        }
        5 => {
            let at = dice.of(&[Point::Unread, Point::Before, Point::After]);
            (format!("stall of {operation}"), calls(operation, every + 10).meet(Action::stall(at)))
        }
        6 => {
            let late = Late::after(Duration::from_millis(dice.within(100, 4000)));
            let late = if dice.percent(50) { late.status(504) } else { late };
            ("late completes".to_owned(), calls(Operation::Complete, every).meet(late))
        }
        7 => {
            let at = dice.of(&[Point::Before, Point::After]);
            let action = dice.of(&[Action::Expire { at }, Action::Cancel { at }, Action::Purge { at }]);
            ("Uploads that end".to_owned(), calls(Operation::Part, every + 6).meet(action))
        }
        8 => {
            let lag = Lag::younger_than(Duration::from_secs(dice.within(1, 20)));
            ("a list that lags".to_owned(), Calls::of(Operation::List).meet(lag))
        }
        _ => {
            let bytes = Some(usize::try_from(dice.within(0, 40)).unwrap_or(0));
            (format!("half answers to {operation}"), calls(operation, every).meet(Action::Half { bytes }))
        }
    }
}
