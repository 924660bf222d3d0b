//! `status --follow`: the same each second, in the place of the last; or in a pipe one line for each change.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;

use super::failure::Failure;
use super::moment::local;
use super::output::{Output, Style};
use super::status::{StatusJson, look, print};
use crate::clock::Clock;
use crate::engine::live::Live;
use crate::model::job::State;
use crate::model::time::Boot;
use crate::text::shown_bytes;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Rates are over so many looks: Parts are handed over in bursts.
const LOOKS: usize = 10;

/// Goes on until it is ended.
pub(super) async fn follow(state_dir: &Path, json: bool) -> Result<u8, Failure> {
    let mut output = Output::new();
    let redraws = output.can_redraw() && !json;
    let (mut rates, mut lines, mut last) = (Rates::default(), BTreeMap::new(), None);
    let mut is_first = true;
    loop {
        let (status, why) = look(state_dir).await;
        let now = Clock::System.now();
        if let Some(live) = &status.live {
            rates.saw(live, now.boot);
        }
        if redraws {
            output.begin_frame(is_first)?;
            let title =
                output.styled(Style::Dim, &format!("{}, each second; Ctrl-C ends it", local(now.wall)));
            output.line(format_args!("{title}"))?;
            for why in &why {
                let why = output.styled(Style::Yellow, why);
                output.line(format_args!("{why}"))?;
            }
            print(&mut output, &status, Some(&rates))?;
            output.end_frame()?;
        } else if json {
            if last.as_ref() != Some(&status) {
                output.json(&status)?;
                output.flush()?;
                last = Some(status);
            }
        } else {
            let facts = facts(&status, &why);
            for line in changes(&mut lines, facts) {
                output.line(format_args!("{} {line}", local(now.wall)))?;
            }
            output.flush()?;
        }
        is_first = false;
        sleep(EVERY).await;
    }
}

/// What is true now, each under a name that stays the same.
fn facts(status: &StatusJson, why: &[String]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let service = match (&status.live, why) {
        (Some(live), _) if live.stopping => "the service is stopping".to_owned(),
        (Some(live), _) => format!("the service runs, process {}", live.pid),
        (None, why) => why.join("; "),
    };
    facts.insert("0 service".to_owned(), service);
    for hold in status.live.iter().flat_map(|live| &live.holds) {
        let scope = shown_bytes(hold.scope.as_bytes());
        let words = shown_bytes(hold.message.as_bytes());
        facts.insert(
            format!("1 hold {scope}"),
            format!("on hold: {scope}: {}: {words}; {}", hold.code, hold.remedy),
        );
    }
    for folder in &status.folders {
        let name = shown_bytes(folder.name.as_bytes());
        let counts: Vec<String> = State::ALL
            .into_iter()
            .filter_map(|state| Some((state, *folder.counts.get(state.as_str())?)))
            .filter(|(_, jobs)| *jobs > 0)
            .map(|(state, jobs)| format!("{jobs} {state}"))
            .collect();
        let counts = if counts.is_empty() { "no jobs".to_owned() } else { counts.join(", ") };
        let paused = if folder.paused { ", paused" } else { "" };
        facts.insert(format!("2 folder {name}"), format!("folder {name}: {counts}{paused}"));
    }
    for folder in status.live.iter().flat_map(|live| &live.folders) {
        let name = shown_bytes(folder.name.as_bytes());
        let why =
            folder.why.as_ref().map_or_else(String::new, |why| format!(" ({})", shown_bytes(why.as_bytes())));
        facts.insert(format!("3 watched {name}"), format!("folder {name}: {}{why}", folder.state));
    }
    facts
}

/// A line for each fact that is new or another, and for each hold that is over.
fn changes(before: &mut BTreeMap<String, String>, now: BTreeMap<String, String>) -> Vec<String> {
    let over = before.keys().filter(|name| !now.contains_key(*name));
    let over = over
        .filter_map(|name| name.strip_prefix("1 hold "))
        .map(|scope| format!("over: the hold of {scope}"));
    let mut lines: Vec<String> = over.collect();
    lines.extend(
        now.iter().filter(|(name, text)| before.get(*name) != Some(text)).map(|(_, text)| text.clone()),
    );
    *before = now;
    lines
}

/// How fast jobs are sent, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Rates {
    looks: HashMap<i64, VecDeque<(Boot, u64)>>,
}

impl Rates {
    /// Takes in how far each job is.
    fn saw(&mut self, live: &Live, now: Boot) {
        self.looks.retain(|id, _| live.active.iter().any(|job| job.id == *id));
        for job in &live.active {
            let looks = self.looks.entry(job.id).or_default();
            // It began again.
            if looks.back().is_some_and(|(_, sent)| *sent > job.bytes_sent) {
                looks.clear();
            }
            looks.push_back((now, job.bytes_sent));
            if looks.len() > LOOKS {
                looks.pop_front();
            }
        }
    }

    /// Bytes a second.
    pub(super) fn of(&self, job: i64) -> Option<u64> {
        let looks = self.looks.get(&job)?;
        let ((began, first), (ended, last)) = (looks.front()?, looks.back()?);
        let took = u64::try_from(ended.since(*began).as_millis()).ok()?;
        ((last - first) * 1_000).checked_div(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::live::LiveJob;

    fn live(sent: u64) -> Live {
        let job = LiveJob {
            id: 7,
            folder: "batch".into(),
            path: "a".into(),
            state: "uploading".into(),
            bytes: 10_000,
            bytes_sent: sent,
            parts_stored: 0,
            parts_total: 2,
            expires_in: None,
        };
        Live { active: vec![job], ..Live::default() }
    }

    #[test]
    fn a_rate_is_over_the_last_looks_and_begins_anew_with_the_upload() {
        let mut rates = Rates::default();
        let at = |second: i64| Boot(second * 1_000);
        rates.saw(&live(0), at(0));
        assert_eq!(rates.of(7), None, "one look tells nothing");
        rates.saw(&live(500), at(1));
        rates.saw(&live(2_000), at(2));
        assert_eq!(rates.of(7), Some(1_000));
        rates.saw(&live(100), at(3));
        assert_eq!(rates.of(7), None);
        rates.saw(&live(400), at(4));
        assert_eq!(rates.of(7), Some(300));
        rates.saw(&Live::default(), at(5));
        assert_eq!(rates.of(7), None);
    }

    #[test]
    fn only_what_changed_is_a_line() {
        let fact = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let mut before = BTreeMap::new();
        let first = BTreeMap::from([fact("0 service", "runs"), fact("1 hold store", "on hold: store")]);
        assert_eq!(changes(&mut before, first.clone()), ["runs", "on hold: store"]);
        assert!(changes(&mut before, first).is_empty());
        let next = BTreeMap::from([fact("0 service", "runs"), fact("2 folder a", "folder a: 1 stored")]);
        assert_eq!(changes(&mut before, next), ["over: the hold of store", "folder a: 1 stored"]);
    }
}
