//! The cuts: where each is made, what it is called, and which of them there are.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use upspool_emulator::{Emulator, Operation, Point};

use crate::shim::Loss;

/// One cut of a run of the service.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    /// Of which run of the workload, from 1.
    pub run: usize,
    pub place: Place,
    pub loss: Loss,
}

/// Where a run is cut.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// At a sync of the store.
    Sync {
        /// Which of the run, from 1.
        number: u64,
        /// Once it is done, rather than before.
        after: bool,
    },
    /// At a request.
    Request {
        operation: Operation,
        /// Of this file's Upload; none: it is of no file.
        filename: Option<String>,
        /// Which of those in the run, from 1.
        nth: u64,
        point: Point,
    },
}

impl Cut {
    /// For the chances of what is torn: the same for the same cut.
    pub fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.to_string().hash(&mut hasher);
        hasher.finish()
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}, ", self.run)?;
        match &self.place {
            Place::Sync { number, after } => {
                write!(f, "{} sync {number}", if *after { "after" } else { "before" })?;
            }
            Place::Request { operation, filename, nth, point } => {
                let of = filename.as_ref().map(|name| format!(" of {name}")).unwrap_or_default();
                let point = match point {
                    Point::Unread => "unread".to_owned(),
                    Point::Body(bytes) => format!("{bytes} bytes read"),
                    Point::Before => "before the work".to_owned(),
                    Point::After => "after the work".to_owned(),
                    Point::Answered => "after the answer".to_owned(),
                };
                write!(f, "{operation} #{nth}{of}, {point}")?;
            }
        }
        f.write_str(match self.loss {
            Loss::None => "",
            Loss::All => ", power loss",
            Loss::Torn => ", torn by power loss",
        })
    }
}

/// What a run of the service did when nothing cut it.
#[derive(Debug, Default)]
pub struct Seen {
    /// Of each sync the file, and what it committed.
    pub syncs: Vec<(String, Vec<(&'static str, String)>)>,
    /// Of each request its kind, its file, its number among those, and where it can be cut.
    pub requests: Vec<(Operation, Option<String>, u64, Vec<Point>)>,
}

/// All cuts of a run. The syncs that commit nothing, those that make, open, fold and close the database, are the same in
/// all runs: they are cut only where `house_too` says so.
pub fn all(run: usize, seen: &Seen, house_too: bool) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for ((_, committed), number) in seen.syncs.iter().zip(1..) {
        if !house_too && committed.iter().all(|(what, _)| matches!(*what, "migration" | "folder")) {
            continue;
        }
        // After a sync without loss leaves the same files as before it: the kernel has them either way.
        for (after, loss) in [(false, Loss::None), (false, Loss::All), (false, Loss::Torn), (true, Loss::All)]
        {
            if loss == Loss::Torn && number % 2 == 0 {
                continue;
            }
            cuts.push(Cut { run, place: Place::Sync { number, after }, loss });
        }
    }
    for (index, (operation, filename, nth, points)) in seen.requests.iter().enumerate() {
        for (place, point) in points.iter().enumerate() {
            // Of a request that comes again the first stands for the others, until its work.
            if *nth > 1 && order(*point) < order(Point::Before) {
                continue;
            }
            // Both at complete, on which it hangs whether there is a File; at the others in turn.
            let both = [Loss::None, Loss::All];
            let losses = match (operation, (index + place) % 2) {
                (Operation::Complete, _) => &both[..],
                (_, 0) => &both[..1],
                _ => &both[1..],
            };
            for loss in losses {
                let (operation, filename, nth, point) = (*operation, filename.clone(), *nth, *point);
                let place = Place::Request { operation, filename, nth, point };
                cuts.push(Cut { run, place, loss: *loss });
            }
        }
    }
    cuts
}

/// Of all cuts of a run a few: for each thing that is committed the first sync that commits it, and for each kind of
/// request the first of it.
pub fn few(run: usize, seen: &Seen, known: &mut Vec<String>) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for ((file, committed), number) in seen.syncs.iter().zip(1..) {
        let mut names: Vec<String> = committed.iter().map(|(step, _)| (*step).to_owned()).collect();
        names.extend(Some(format!("a sync of {file}")).filter(|_| committed.is_empty()));
        names.retain(|name| !known.contains(name));
        if names.is_empty() {
            continue;
        }
        for (after, loss) in [(false, Loss::None), (false, Loss::All), (true, Loss::All)] {
            cuts.push(Cut { run, place: Place::Sync { number, after }, loss });
        }
        known.extend(names);
    }
    for (operation, filename, nth, points) in &seen.requests {
        for (index, point) in points.iter().enumerate() {
            let name = format!("{operation} {}", order(*point));
            if known.contains(&name) {
                continue;
            }
            known.push(name);
            let loss = if index % 2 == 0 { Loss::None } else { Loss::All };
            let place = Place::Request {
                operation: *operation,
                filename: filename.clone(),
                nth: *nth,
                point: *point,
            };
            cuts.push(Cut { run, place, loss });
        }
    }
    cuts
}

/// The place of a point among the points of a request.
fn order(point: Point) -> u8 {
    match point {
        Point::Unread => 0,
        Point::Body(_) => 1,
        Point::Before => 2,
        Point::After => 3,
        Point::Answered => 4,
    }
}

/// Pairs of cuts, one after the other in the same run: the second falls into the start that the first made necessary.
pub fn pairs(run: usize, seen: &Seen) -> Vec<[Cut; 2]> {
    let singles = all(run, seen, true);
    let (syncs, requests): (Vec<&Cut>, Vec<&Cut>) =
        singles.iter().partition(|cut| matches!(cut.place, Place::Sync { .. }));
    let mut pairs = Vec::new();
    // What a kill left is in the kernel's memory and not on disk. The next start sees it, and must not act on it before it
    // is: then the power goes.
    for ((_, committed), number) in seen.syncs.iter().zip(1..) {
        for (_, file) in committed.iter().filter(|(step, _)| matches!(*step, "completing" | "sent-whole")) {
            let first = Cut { run, place: Place::Sync { number, after: false }, loss: Loss::None };
            let filename = file.rsplit('/').next().map(str::to_owned);
            let place =
                Place::Request { operation: Operation::Complete, filename, nth: 1, point: Point::After };
            pairs.push([first, Cut { run, place, loss: Loss::All }]);
        }
    }
    for (index, first) in singles.iter().enumerate().step_by(11) {
        let loss = if index % 2 == 0 { Loss::All } else { Loss::Torn };
        let early = Cut { run, place: Place::Sync { number: 1, after: index % 3 == 0 }, loss };
        pairs.push([first.clone(), early]);
        for seconds in [&syncs, &requests] {
            let second =
                seconds.get(index * 5 % seconds.len().max(1)).map(|cut| Cut { loss, ..(*cut).clone() });
            pairs.extend(second.map(|second| [first.clone(), second]));
        }
    }
    pairs
}

/// How many requests there are of each kind and file, and how far each can be cut.
pub fn requests_of(emulator: &Emulator, from: usize) -> Vec<(Operation, Option<String>, u64, Vec<Point>)> {
    let mut counts: BTreeMap<(String, Option<String>), u64> = BTreeMap::new();
    let mut found = Vec::new();
    for request in emulator.requests().into_iter().skip(from) {
        let count = counts.entry((request.operation.to_string(), request.filename.clone())).or_default();
        *count += 1;
        let mut points = vec![Point::Unread];
        if request.operation == Operation::Part && request.data_bytes > 100_000 {
            points.push(Point::Body(request.data_bytes / 2));
        }
        points.extend([Point::Before, Point::After, Point::Answered]);
        for fault in &request.faults {
            let at =
                [("Unread", 0), ("Before", 2), ("After", 3)].into_iter().find(|(at, _)| fault.ends_with(at));
            let ends = ["answer", "drop", "reset"].iter().any(|word| fault.starts_with(word));
            match at {
                // What comes after the fault's own point never comes to pass.
                Some((_, limit)) if ends => points.retain(|point| {
                    order(*point) < limit || (fault.starts_with("answer") && *point == Point::Answered)
                }),
                _ if fault == "late" => points.retain(|point| order(*point) < 3),
                _ => {}
            }
        }
        found.push((request.operation, request.filename, *count, points));
    }
    found
}
