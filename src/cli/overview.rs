//! `status` as lines: the service, what holds, then a block for each folder. Pure: what is known, the time and the
//! terminal are arguments.

use std::time::Duration;

use super::look::{Look, Style, Text};
use super::moment::{self, Clockface};
use super::status::StatusJson;
use super::table::{Cell, Column, Table};
use crate::engine::live::{Live, LiveChanging, LiveFolder, LiveJob};
use crate::model::job::State;
use crate::record::FolderJson;
use crate::text::{count, duration, shown_bytes, size, typed};

/// Rows of a folder's tables at most; the others are counted.
const ROWS: usize = 10;

/// Everything, on lines that fit.
pub(super) fn lines(status: &StatusJson, face: &Clockface, look: &Look) -> Vec<String> {
    let mut page = Page { look, face, lines: Vec::new() };
    let live = status.live.as_ref();
    if let Some(live) = live {
        page.service(live);
    }
    let mut tables = Tables::new(status, look);
    for folder in &status.folders {
        page.blank();
        page.folder(folder, live);
        page.lines.append(&mut tables.of(&folder.name, look));
    }
    // The store may not be readable, and a folder not be in it yet.
    let names: Vec<&str> = status.folders.iter().map(|folder| folder.name.as_str()).collect();
    for folder in live.iter().flat_map(|live| &live.folders) {
        if !names.contains(&folder.name.as_str()) {
            page.blank();
            page.watched(folder);
            page.lines.append(&mut tables.of(&folder.name, look));
        }
    }
    if let Some(live) = live {
        let told = u64::try_from(live.changing.len()).unwrap_or(u64::MAX);
        let more = live.changing_count.saturating_sub(told);
        if more > 0 {
            page.blank();
            page.text(
                &Text::new(format!("{} not settled", count(more, "more file has", "more files have"))),
                0,
            );
        }
    }
    page.lines
}

struct Page<'a> {
    look: &'a Look,
    face: &'a Clockface,
    lines: Vec<String>,
}

impl Page<'_> {
    fn text(&mut self, text: &Text, indent: usize) {
        self.lines.append(&mut self.look.lines(text, indent, indent + 2));
    }

    fn blank(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
    }

    fn service(&mut self, live: &Live) {
        let summary = plain(&live.summary());
        let title = Text::styled(Style::Bold, format!("upspool {}", live.version));
        self.text(&title.and(format!(", process {}: {summary}", live.pid)), 0);
        let small =
            count(u64::try_from(live.slots.small).unwrap_or(u64::MAX), "other request", "other requests");
        // Why there are not more, where the number was found out.
        let bound = live.slots.bound.as_ref().map_or_else(String::new, |bound| format!(" ({bound})"));
        self.text(
            &Text::new(format!(
                "{} of {} Part slots{bound} in use, {small}",
                live.slots.parts, live.slots.of
            )),
            0,
        );
        for stuck in &live.stuck {
            let lasted = duration(Duration::from_secs(stuck.seconds));
            let words = format!(": {}: {} for {lasted}", plain(&stuck.what), plain(&stuck.at));
            self.text(&Text::styled(Style::Red, "Stuck").and(words), 0);
        }
        for hold in &live.holds {
            self.blank();
            let title = format!("On hold: {}: {}", plain(&hold.scope), hold.code);
            self.text(&Text::styled(Style::Red, title), 0);
            self.text(&Text::new(plain(&hold.message)), 2);
            self.text(&Text::styled(Style::Bold, "remedy").and(format!(": {}", hold.remedy)), 2);
            let tries = count(u64::from(hold.probes), "try", "tries");
            let (since, next) = (self.face.when(&hold.since), self.face.next(&hold.next_probe));
            self.text(&Text::new(format!("since {since}; next try {next}; {tries} failed so far")), 2);
        }
        for pace in &live.paces {
            self.blank();
            let title = format!("Slowed down by the server: account {}", plain(&pace.account));
            let until = pace.until.as_ref().map_or_else(String::new, |until| {
                format!("; the next request {}, or at once by `upspool resume`", self.face.next(until))
            });
            let slots = count(u64::try_from(pace.slots).unwrap_or(u64::MAX), "Part", "Parts");
            self.text(&Text::styled(Style::Yellow, title).and(format!(": {slots} at once{until}")), 0);
        }
    }

    fn folder(&mut self, folder: &FolderJson, live: Option<&Live>) {
        let title = Text::styled(Style::Bold, plain(&folder.name)).and(format!("  {}", folder.path));
        self.text(&title, 0);
        let watched = live.map(|live| live.folders.iter().find(|other| other.path == folder.path));
        match watched {
            None => {}
            Some(None) => self.text(&Text::new("not watched: not in the service's configuration"), 2),
            Some(Some(watched)) => self.how_watched(watched),
        }
        if folder.paused {
            let why = folder.paused_why.as_deref().map_or_else(String::new, |why| format!(" {}", plain(why)));
            let remedy = format!("{why}; `upspool resume --folder {}` goes on", typed(&folder.name));
            self.text(&Text::styled(Style::Yellow, "paused").and(remedy), 2);
        }
        self.counts(folder);
        if folder.waiting_files > 0 {
            let files = count(folder.waiting_files, "file", "files");
            self.text(&Text::new(format!("waiting: {files}, {}", size(folder.waiting_bytes))), 2);
        }
        let rate = watched.flatten().and_then(|watched| watched.bytes_per_second).filter(|rate| *rate > 0);
        if let (Some(rate), Some(live)) = (rate, live) {
            let left = left_of(folder, live);
            let left = Some(left / rate).filter(|_| left > 0 && !folder.paused);
            let left = left.map_or_else(String::new, |seconds| {
                format!(", {} left at this rate", moment::whole_seconds(seconds))
            });
            self.text(&Text::new(format!("sending: {}/s{left}", size(rate))), 2);
        }
    }

    /// A folder of which only the service knows.
    fn watched(&mut self, folder: &LiveFolder) {
        let title = Text::styled(Style::Bold, plain(&folder.name)).and(format!("  {}", folder.path));
        self.text(&title, 0);
        self.how_watched(folder);
    }

    fn how_watched(&mut self, folder: &LiveFolder) {
        let how = match folder.state.as_str() {
            "events" => Text::new("watched by events"),
            "polling" => Text::new("watched by scans alone"),
            "degraded" => Text::styled(Style::Yellow, "watched by scans alone"),
            "missing" => Text::styled(Style::Red, "missing"),
            "starting" => Text::new("not looked at yet"),
            other => Text::new(plain(other)),
        };
        let why = folder.why.as_ref().map_or_else(String::new, |why| format!(" ({})", plain(why)));
        let scan = match &folder.last_scan {
            Some(at) => format!("last scan {}", self.face.when(at)),
            None => "no scan has ended yet".into(),
        };
        self.text(&how.and(format!("{why}, {scan}")), 2);
    }

    /// Their sum is what was found.
    fn counts(&mut self, folder: &FolderJson) {
        let total: u64 = folder.counts.values().sum();
        let mut text = Text::new(count(total, "job", "jobs"));
        let states = State::ALL.into_iter().filter_map(|state| {
            Some((state, *folder.counts.get(state.as_str())?)).filter(|(_, jobs)| *jobs > 0)
        });
        for (index, (state, jobs)) in states.enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            text = text.and(before).and_styled(Style::of(state), format!("{jobs} {state}"));
        }
        self.text(&text, 2);
    }
}

/// Bytes of a folder that are not sent yet.
fn left_of(folder: &FolderJson, live: &Live) -> u64 {
    // What is about to be opened is among the files that wait.
    let open = live.active.iter().filter(|job| job.folder == folder.name && job.state != "queued");
    folder.waiting_bytes + open.map(|job| job.bytes - job.bytes_sent.min(job.bytes)).sum::<u64>()
}

/// The tables of all folders, so that their columns are the same.
struct Tables {
    active: Lines,
    changing: Lines,
}

/// Lines below one heading, each of a folder.
struct Lines {
    heading: String,
    lines: Vec<(String, String)>,
    /// Those that were left out.
    more: Vec<(String, usize)>,
}

impl Tables {
    fn new(status: &StatusJson, look: &Look) -> Tables {
        let live = status.live.as_ref();
        let mut active = Table::new(&[
            Column::right("JOB"),
            Column::left("").rank(2),
            Column::right("DONE"),
            Column::left("STATE").rank(5),
            Column::right("SIZE").rank(3),
            Column::right("PARTS").rank(7),
            Column::right("RATE").rank(4),
            Column::right("LEFT").rank(1),
            Column::right("EXPIRES IN").rank(6),
            Column::elastic("PATH", 10),
        ]);
        let jobs = live.map(|live| live.active.as_slice()).unwrap_or_default();
        let active = Lines::new(jobs, |job| &job.folder, &mut active, |job| row_of(job, look), look);
        let mut changing = Table::new(&[
            Column::elastic("NOT SETTLED", 8),
            Column::right("FOR").rank(2),
            Column::right("SIZE").rank(1),
            Column::elastic("PATH", 10),
        ]);
        let files = live.map(|live| live.changing.as_slice()).unwrap_or_default();
        let changing = Lines::new(files, |file| &file.folder, &mut changing, changing_row, look);
        Tables { active, changing }
    }

    fn of(&mut self, folder: &str, look: &Look) -> Vec<String> {
        let mut lines = self.active.of(folder, "more under way", look);
        lines.append(&mut self.changing.of(folder, "more not settled", look));
        lines
    }
}

impl Lines {
    fn new<T>(
        items: &[T],
        folder_of: impl Fn(&T) -> &String,
        table: &mut Table,
        row: impl Fn(&T) -> Vec<Cell>,
        look: &Look,
    ) -> Lines {
        let (mut folders, mut more): (Vec<String>, Vec<(String, usize)>) = (Vec::new(), Vec::new());
        for item in items {
            let folder = folder_of(item);
            if folders.iter().filter(|other| *other == folder).count() < ROWS {
                folders.push(folder.clone());
                table.row(row(item));
            } else if let Some((_, count)) = more.iter_mut().find(|(other, _)| other == folder) {
                *count += 1;
            } else {
                more.push((folder.clone(), 1));
            }
        }
        let mut lines = table.lines(look, 2).into_iter();
        let heading = lines.next().unwrap_or_default();
        Lines { heading, lines: folders.into_iter().zip(lines).collect(), more }
    }

    fn of(&self, folder: &str, more: &str, look: &Look) -> Vec<String> {
        let own = self.lines.iter().filter(|(other, _)| other == folder).map(|(_, line)| line.clone());
        let mut lines: Vec<String> = own.collect();
        if !lines.is_empty() {
            lines.insert(0, self.heading.clone());
        }
        let count = self.more.iter().find(|(other, _)| other == folder);
        if let Some((_, count)) = count {
            lines.append(&mut look.lines(&Text::new(format!("and {count} {more}")), 2, 4));
        }
        lines
    }
}

fn row_of(job: &LiveJob, look: &Look) -> Vec<Cell> {
    let percent = (u128::from(job.bytes_sent) * 100).checked_div(u128::from(job.bytes)).unwrap_or(0);
    let percent = u64::try_from(percent).unwrap_or(100);
    let rate = job.bytes_per_second.filter(|rate| *rate > 0 && job.state == State::Uploading.as_str());
    let left = match (job.state.as_str(), rate) {
        ("uploading", Some(rate)) => {
            moment::whole_seconds((job.bytes - job.bytes_sent.min(job.bytes)) / rate)
        }
        ("uploading", None) => String::new(),
        (state, _) => state.to_owned(),
    };
    vec![
        Cell::new(job.id.to_string()),
        Cell::styled(look.bar(percent), Style::Cyan),
        Cell::new(format!("{percent} %")),
        Cell::styled(job.state.clone(), Style::Cyan),
        Cell::new(size(job.bytes)),
        Cell::new(if job.parts_total == 0 {
            String::new()
        } else {
            format!("{}/{}", job.parts_stored, job.parts_total)
        }),
        Cell::new(rate.map_or_else(String::new, |rate| format!("{}/s", size(rate)))),
        Cell::new(left),
        Cell::new(job.expires_in.map_or_else(String::new, |seconds| duration(Duration::from_secs(seconds)))),
        Cell::new(job.path.clone()),
    ]
}

fn changing_row(file: &LiveChanging) -> Vec<Cell> {
    vec![
        Cell::new(plain(&file.why)),
        Cell::new(moment::whole_seconds(file.seconds)),
        Cell::new(size(file.bytes)),
        Cell::new(file.path.clone()),
    ]
}

/// A text of others on one line that no terminal can be hurt with.
fn plain(text: &str) -> String {
    shown_bytes(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::live::{LiveHold, LivePace, Slots};
    use crate::model::time::Wall;
    use crate::text::width;

    fn folder(name: &str, counts: &[(&'static str, u64)]) -> FolderJson {
        FolderJson {
            name: name.into(),
            path: format!("/srv/{name}"),
            paused: false,
            paused_why: None,
            counts: counts.iter().copied().collect(),
            waiting_files: 0,
            waiting_bytes: 0,
        }
    }

    fn job(id: i64, folder: &str, path: &str, sent: u64) -> LiveJob {
        LiveJob {
            id,
            folder: folder.into(),
            path: path.into(),
            state: "uploading".into(),
            bytes: 400 << 20,
            bytes_sent: sent << 20,
            parts_stored: 3,
            parts_total: 16,
            bytes_per_second: Some(10 << 20),
            expires_in: Some(3_000),
        }
    }

    fn watched(name: &str) -> LiveFolder {
        LiveFolder {
            name: name.into(),
            path: format!("/srv/{name}"),
            state: "events".into(),
            last_scan: Some("2026-11-22T16:59:00Z".into()),
            bytes_per_second: Some(20 << 20),
            ..LiveFolder::default()
        }
    }

    fn busy() -> StatusJson {
        let mut batch = folder("batch", &[("queued", 3), ("uploading", 2), ("stored", 7)]);
        (batch.waiting_files, batch.waiting_bytes) = (3, 600 << 20);
        let hold = LiveHold {
            scope: "account eu".into(),
            code: "key-rejected".into(),
            message: "HTTP 401: Incorrect API key provided\u{1b}[31m".into(),
            remedy: "check the key and that this host may use it".into(),
            since: "2026-11-22T16:58:00Z".into(),
            next_probe: "2026-11-22T17:00:30Z".into(),
            probes: 4,
        };
        let changing = LiveChanging {
            folder: "報告".into(),
            path: "二〇二六年十一月の大変長い名前の報告書.pdf".into(),
            bytes: 12_345,
            why: "open-for-writing".into(),
            seconds: 75,
        };
        let live = Live {
            schema: 1,
            version: "0.1.0".into(),
            pid: 4242,
            slots: Slots { parts: 8, of: 8, small: 1, bound: None },
            holds: vec![hold],
            paces: vec![LivePace { account: "default".into(), slots: 4, until: None }],
            active: vec![
                job(12, "batch", "large file.bin", 184),
                LiveJob { state: "completing".into(), ..job(9, "batch", &"x".repeat(255), 400) },
            ],
            folders: vec![watched("batch"), watched("報告")],
            changing: vec![changing],
            changing_count: 3,
            ..Live::default()
        };
        StatusJson { schema: 1, running: true, live: Some(live), folders: vec![batch, folder("報告", &[])] }
    }

    fn shown(columns: Option<usize>, unicode: bool) -> Vec<String> {
        let face = Clockface::utc(Wall(1_795_366_800_000));
        lines(&busy(), &face, &Look { columns, colour: false, unicode })
    }

    #[test]
    fn holds_are_on_top_with_their_remedy_then_a_block_for_each_folder() {
        assert_eq!(
            shown(Some(80), true).join("\n"),
            "\
upspool 0.1.0, process 4242: ON HOLD since 2026-11-22T16:58:00Z for the account
  eu: key-rejected; check the key and that this host may use it
8 of 8 Part slots in use, 1 other request

On hold: account eu: key-rejected
  HTTP 401: Incorrect API key provided\\x1b[31m
  remedy: check the key and that this host may use it
  since 2 min 0 s ago (16:58:00); next try in 30 s (17:00:30); 4 tries failed so
    far

Slowed down by the server: account default: 4 Parts at once

batch  /srv/batch
  watched by events, last scan 1 min 0 s ago (16:59:00)
  12 jobs: 3 queued, 2 uploading, 7 stored
  waiting: 3 files, 600 MiB
  sending: 20.0 MiB/s, 40 s left at this rate
  JOB               DONE     SIZE        RATE        LEFT  PATH
   12  ████░░░░░░   46 %  400 MiB  10.0 MiB/s        21 s  large file.bin
    9  ██████████  100 %  400 MiB              completing  xxxxxx…xxxxxxxxxxxxxx

報告  /srv/報告
  watched by events, last scan 1 min 0 s ago (16:59:00)
  0 jobs
  sending: 20.0 MiB/s
  NOT SETTLED              FOR      SIZE  PATH
  open-for-writing  1 min 15 s  12.1 KiB  二〇二六年十…大変長い名前の報告書.pdf

2 more files have not settled"
        );
    }

    #[test]
    fn the_time_that_is_left_is_told_unless_the_folder_is_paused() {
        let told = |status: &StatusJson| {
            let lines = lines(status, &Clockface::utc(Wall(1_795_366_800_000)), &Look::PIPE);
            lines.into_iter().find(|line| line.contains("sending")).unwrap_or_default()
        };
        let mut status = busy();
        // 600 MiB wait, and 216 of an open Upload.
        assert_eq!(told(&status), "  sending: 20.0 MiB/s, 40 s left at this rate");
        status.folders[0].paused = true;
        assert_eq!(told(&status), "  sending: 20.0 MiB/s");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 30..220 {
            for unicode in [true, false] {
                for line in shown(Some(columns), unicode) {
                    assert!(width(&line) <= columns, "{line:?} in {columns}");
                    assert!(unicode || line.is_ascii(), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn many_jobs_of_a_folder_are_counted_and_none_is_lost() {
        let mut status = busy();
        if let Some(live) = &mut status.live {
            live.active = (0..25).map(|id| job(id, "batch", "a", 1)).collect();
            live.active.push(job(99, "報告", "b", 1));
        }
        let lines = lines(&status, &Clockface::utc(Wall(1_795_366_800_000)), &Look::PIPE);
        let rows = lines.iter().filter(|line| line.contains(" 400 MiB ")).count();
        assert_eq!(rows, ROWS + 1);
        assert!(lines.contains(&"  and 15 more under way".to_owned()), "{lines:#?}");
    }

    #[test]
    fn a_folder_that_only_one_side_knows_is_told_of() {
        let mut status = busy();
        if let Some(live) = &mut status.live {
            live.folders.remove(0);
            live.folders.push(watched("new"));
        }
        let lines = lines(&status, &Clockface::utc(Wall(1_795_366_800_000)), &Look::PIPE);
        assert!(lines.contains(&"  not watched: not in the service's configuration".to_owned()));
        assert!(lines.contains(&"new  /srv/new".to_owned()));
    }
}
