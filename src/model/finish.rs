//! What is done after a job has ended: its source is moved or deleted, a receipt is written, a program is told. Which of
//! these there are, in which order, and when one that failed is tried again.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::job::State;
use super::time::Wall;

/// What a folder wants done with jobs that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// With the source of one that is stored.
    pub after_upload: Fate,
    /// With the source of one that failed.
    pub after_failure: Fate,
    /// Where its record is written.
    pub receipt: Receipt,
    /// A program and its arguments, told of one that is stored; none if empty.
    pub on_stored: Vec<String>,
    /// The same, of one that failed or is unresolved.
    pub on_failed: Vec<String>,
    /// How long such a program may take.
    pub hook_timeout: Duration,
}

/// What becomes of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    #[default]
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved below this directory; its path below the folder is kept.
    Move(Place),
}

/// Where something is put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Below the folder: no link on the way is followed, since others can write there.
    InFolder(PathBuf),
    /// Anywhere, by an absolute path, every link on which is followed.
    At(PathBuf),
    /// Below another folder, by its absolute path: no link on the way from there is followed.
    Below(PathBuf, PathBuf),
}

/// Where the record of a job is written beside the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Receipt {
    /// Nowhere.
    #[default]
    None,
    /// Beside the file.
    Beside,
    /// Below this directory, under the file's path below the folder.
    In(Place),
}

/// One thing that is done, in this order: whoever waits for a receipt finds the source where the receipt says, and
/// whoever is told finds both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FinishStep {
    /// The source is moved or deleted.
    Source,
    /// The receipt is written.
    Receipt,
    /// The program is run.
    Hook,
}

impl FinishStep {
    const ALL: [FinishStep; 3] = [FinishStep::Source, FinishStep::Receipt, FinishStep::Hook];

    /// Its name in the store, in JSON and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishStep::Source => "source",
            FinishStep::Receipt => "receipt",
            FinishStep::Hook => "hook",
        }
    }

    /// The step of that name.
    pub fn from_name(name: &str) -> Option<FinishStep> {
        FinishStep::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

impl Plan {
    /// What becomes of the source of a job that ended so.
    pub fn fate(&self, state: State) -> &Fate {
        match state {
            State::Stored => &self.after_upload,
            State::Failed => &self.after_failure,
            // An unresolved one is compared with, and perhaps sent again.
            _ => &Fate::Keep,
        }
    }

    /// The program that is told of a job that ended so.
    pub fn hook(&self, state: State) -> Option<&[String]> {
        let command = match state {
            State::Stored => &self.on_stored,
            State::Failed | State::Unresolved => &self.on_failed,
            _ => return None,
        };
        (!command.is_empty()).then_some(command)
    }

    /// Whether anything is to be done with a job that ended so.
    pub fn is_due(&self, state: State) -> bool {
        self.from(FinishStep::Source, state).is_some()
    }

    /// The first step that is to be done, from this one on.
    pub fn from(&self, step: FinishStep, state: State) -> Option<FinishStep> {
        FinishStep::ALL.into_iter().filter(|one| *one >= step).find(|step| self.has(*step, state))
    }

    /// The step after this one.
    pub fn after(&self, step: FinishStep, state: State) -> Option<FinishStep> {
        FinishStep::ALL.into_iter().filter(|one| *one > step).find(|step| self.has(*step, state))
    }

    /// Whether anything in the folder itself is changed.
    pub fn writes(&self) -> bool {
        self.after_upload != Fate::Keep || self.after_failure != Fate::Keep || self.receipt == Receipt::Beside
    }

    /// Whether receipts are written for files of the folder.
    pub fn has_receipts(&self) -> bool {
        self.receipt != Receipt::None
    }

    fn has(&self, step: FinishStep, state: State) -> bool {
        match step {
            FinishStep::Source => *self.fate(state) != Fate::Keep,
            FinishStep::Receipt => {
                self.has_receipts() && matches!(state, State::Stored | State::Failed | State::Unresolved)
            }
            FinishStep::Hook => self.hook(state).is_some(),
        }
    }
}

/// How often a step is tried.
pub const TRIES: u32 = 5;

/// Before the second try, the third and so on.
const DELAYS: [Duration; TRIES as usize - 1] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];

/// When a step is tried again that has failed `tries` times; none: never by itself.
pub fn again_at(tries: u32, now: Wall) -> Option<Wall> {
    let delay = DELAYS.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
    Some(Wall(now.0.saturating_add(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX))))
}

/// What a receipt adds to the name of its file.
pub const RECEIPT_SUFFIX: &str = ".upspool.json";

/// The name under which a source is set aside before it is touched: no rule of a folder takes it.
pub fn private_name(job: super::job::JobId) -> String {
    format!(".upspool-{}", job.0)
}

/// A name for a file whose own is taken: the number stands before the last extension, `report.2.pdf`.
pub fn numbered(name: &OsStr, number: u32) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0).unwrap_or(bytes.len());
    let mut numbered = bytes[..dot].to_vec();
    numbered.extend_from_slice(format!(".{number}").as_bytes());
    numbered.extend_from_slice(&bytes[dot..]);
    OsString::from_vec(numbered)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            after_upload: Fate::Delete,
            after_failure: Fate::Move(Place::InFolder("failed".into())),
            receipt: Receipt::Beside,
            on_stored: vec!["/bin/true".into()],
            ..Plan::default()
        }
    }

    #[test]
    fn the_steps_of_each_end_are_done_in_order() {
        use FinishStep::{Hook, Receipt, Source};
        let steps = |plan: &Plan, state| {
            let mut steps = Vec::new();
            let mut next = plan.from(Source, state);
            while let Some(step) = next {
                steps.push(step);
                next = plan.after(step, state);
            }
            steps
        };
        for (state, expected) in [
            (State::Stored, &[Source, Receipt, Hook][..]),
            (State::Failed, &[Source, Receipt]),
            (State::Unresolved, &[Receipt]),
            (State::Cancelled, &[]),
            (State::Skipped, &[]),
            (State::Gone, &[]),
            (State::Queued, &[]),
        ] {
            assert_eq!(steps(&plan(), state), expected, "{state}");
            assert_eq!(plan().is_due(state), !expected.is_empty());
            assert_eq!(steps(&Plan::default(), state), []);
        }
        let told = Plan { on_failed: vec!["/bin/true".into()], ..Plan::default() };
        assert_eq!(steps(&told, State::Unresolved), [Hook]);
        // A row of an earlier configuration goes on from where it was with what there is now.
        assert_eq!(told.from(Receipt, State::Failed), Some(Hook));
        assert_eq!(told.from(Receipt, State::Stored), None);
    }

    #[test]
    fn a_step_is_tried_five_times_and_each_time_later() {
        let now = Wall(1_000);
        let delays: Vec<i64> = (1..).map_while(|tries| again_at(tries, now)).map(|at| at.0 - now.0).collect();
        assert_eq!(delays, [1_000, 5_000, 30_000, 120_000]);
        assert_eq!(again_at(0, now), None);
    }

    #[test]
    fn a_number_stands_before_the_extension() {
        for (name, expected) in [
            ("report.pdf", "report.2.pdf"),
            ("report", "report.2"),
            ("a.tar.gz", "a.tar.2.gz"),
            (".hidden", ".hidden.2"),
            ("ends.", "ends.2."),
        ] {
            assert_eq!(numbered(OsStr::new(name), 2), expected);
        }
    }

    #[test]
    fn the_names_of_steps_are_read_back() {
        for step in FinishStep::ALL {
            assert_eq!(FinishStep::from_name(step.as_str()), Some(step));
        }
        assert_eq!(FinishStep::from_name("else"), None);
    }
}
