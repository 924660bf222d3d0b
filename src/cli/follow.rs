//! `status --follow`: the same each second, in the place of the last; or in a pipe one line for each change.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{Signal as Heard, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::failure::Failure;
use super::look::{Style, Text};
use super::moment::{Clockface, local};
use super::output::{Output, Screen};
use super::overview::lines;
use super::status::{StatusJson, look};
use crate::clock::Clock;
use crate::model::job::State;
use crate::text::shown_bytes;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Goes on until it is ended.
pub(super) async fn follow(state_dir: &Path, json: bool) -> Result<u8, Failure> {
    let output = Output::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if output.can_redraw() && !json {
        return draw(state_dir, Screen::new(output), ticks).await;
    }
    tell(state_dir, output, ticks, json).await
}

/// The same screen again and again.
async fn draw(state_dir: &Path, mut screen: Screen, mut ticks: Interval) -> Result<u8, Failure> {
    let mut resized = signal(SignalKind::window_change()).ok();
    let mut suspended = signal(SignalKind::from_raw(Signal::TSTP.as_raw())).ok();
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).ok());
    let [interrupted, terminated, hung_up] = &mut ends;
    let mut anew = true;
    let (mut status, mut why) = look(state_dir).await;
    loop {
        let (face, shows) = (Clockface::at(Clock::System.now().wall), screen.look());
        let title = format!("{}, each second; Ctrl-C ends it", local(Clock::System.now().wall));
        let mut picture = shows.lines(&Text::styled(Style::Dim, title), 0, 0);
        for why in &why {
            picture.append(&mut shows.lines(&Text::styled(Style::Yellow, why.clone()), 0, 2));
        }
        picture.extend((!why.is_empty()).then(String::new));
        picture.append(&mut lines(&status, &face, &shows));
        screen.draw(picture, anew)?;
        anew = false;
        tokio::select! {
            _ = ticks.tick() => (status, why) = look(state_dir).await,
            // The terminal has made something of the lines that were there.
            () = heard(&mut resized) => anew = true,
            () = heard(&mut suspended) => {
                screen.leave()?;
                // Until somebody says go on.
                let _ = kill_process(getpid(), Signal::STOP);
                anew = true;
            }
            () = heard(interrupted) => break,
            () = heard(terminated) => break,
            () = heard(hung_up) => break,
        }
    }
    screen.end()?;
    Ok(0)
}

async fn heard(signal: &mut Option<Heard>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => pending().await,
    }
}

/// A line for each change, or an object.
async fn tell(state_dir: &Path, mut output: Output, mut ticks: Interval, json: bool) -> Result<u8, Failure> {
    let (mut before, mut last) = (BTreeMap::new(), None);
    loop {
        ticks.tick().await;
        let (status, why) = look(state_dir).await;
        if json {
            if last.as_ref() != Some(&status) {
                output.json(&status)?;
                output.flush()?;
                last = Some(status);
            }
        } else {
            let now = Clock::System.now().wall;
            for line in changes(&mut before, facts(&status, &why)) {
                output.line(format_args!("{} {line}", local(now)))?;
            }
            output.flush()?;
        }
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
    for stuck in status.live.iter().flat_map(|live| &live.stuck) {
        let (what, at) = (shown_bytes(stuck.what.as_bytes()), shown_bytes(stuck.at.as_bytes()));
        facts.insert(format!("1 stuck {what}"), format!("stuck: {what}: {at}"));
    }
    for pace in status.live.iter().flat_map(|live| &live.paces) {
        let account = shown_bytes(pace.account.as_bytes());
        let until = pace.until.as_ref().map_or_else(String::new, |until| format!(", nothing before {until}"));
        facts.insert(
            format!("1 pace {account}"),
            format!("slowed down by the server: account {account}{until}"),
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

/// What comes and goes: its end is told too.
const PASSING: [(&str, &str); 3] = [
    ("1 hold ", "over: the hold of "),
    ("1 stuck ", "goes on: "),
    ("1 pace ", "no longer slowed down by the server: account "),
];

/// A line for each fact that is new or another, and for each that is over.
fn changes(before: &mut BTreeMap<String, String>, now: BTreeMap<String, String>) -> Vec<String> {
    let over = before.keys().filter(|name| !now.contains_key(*name)).filter_map(|name| {
        let of = |(prefix, words): &(&str, &str)| Some(format!("{words}{}", name.strip_prefix(prefix)?));
        PASSING.iter().find_map(of)
    });
    let mut lines: Vec<String> = over.collect();
    lines.extend(
        now.iter().filter(|(name, text)| before.get(*name) != Some(text)).map(|(_, text)| text.clone()),
    );
    *before = now;
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
