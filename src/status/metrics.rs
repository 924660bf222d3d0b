//! `/metrics`: what was counted and what is true now, in Prometheus's text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use axum::Router;
use axum::extract::State as Of;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::views::{Ledger, Views};
use crate::engine::live::Live;
use crate::engine::metrics::{BUCKETS, Counted, Counter, Histogram};
use crate::model::time::Wall;

/// `GET /metrics`. What cannot be had now is left out, and `upspool_engine_up` or `upspool_store_readable` says so.
pub(super) fn routes(views: Views) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(views)
}

async fn metrics(Of(views): Of<Views>) -> Response {
    let (live, ledger) = tokio::join!(views.live(), views.ledger());
    let mut text = Text::default();
    process(&mut text, views.started());
    text.gauge("upspool_engine_up", "Whether the engine answers.", [(vec![], is(live.is_ok()))]);
    text.gauge("upspool_store_readable", "Whether the store answers.", [(vec![], is(ledger.is_ok()))]);
    if let Ok(live) = &live {
        now(&mut text, live);
    }
    if let Ok(ledger) = &ledger {
        in_store(&mut text, ledger, views.now());
    }
    counted(&mut text, &views.metrics().counted());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.0).into_response()
}

fn is(true_now: bool) -> f64 {
    f64::from(u8::from(true_now))
}

/// A count as a number for Prometheus, which has no other than this: exact below 2^53.
fn number(count: u64) -> f64 {
    count as f64
}

fn places(count: usize) -> f64 {
    count as f64
}

/// The names and values of the labels of one line.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// What all processes tell by these names.
fn process(text: &mut Text, started: Wall) {
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    text.gauge("upspool_build_info", "The version that runs.", [(version, 1.0)]);
    let start = started.0 as f64 / 1000.0;
    text.gauge("process_start_time_seconds", "When the service started, in Unix time.", [(vec![], start)]);
    if let Some(bytes) = resident() {
        let help = "Memory that is in use.";
        text.gauge("process_resident_memory_bytes", help, [(vec![], number(bytes))]);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The one that reads is none that stays.
        let open = open.count().saturating_sub(1);
        text.gauge("process_open_fds", "Open file descriptors.", [(vec![], places(open))]);
    }
}

fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(|kib: u64| kib * 1024)
}

fn now(text: &mut Text, live: &Live) {
    let mut holds = BTreeMap::new();
    for hold in &live.holds {
        // `account NAME`, `server URL` or `store`.
        let scope = hold.scope.split(' ').next().unwrap_or_default();
        *holds.entry((scope, hold.code.as_str())).or_insert(0.0) += 1.0;
    }
    let lines =
        holds.into_iter().map(|((scope, code), count)| (vec![("scope", scope), ("code", code)], count));
    text.gauge("upspool_hold_active", "Holds in force: nothing is sent for what they keep back.", lines);
    let one = |value| [(vec![], value)];
    text.gauge("upspool_stopping", "Whether the service was told to end.", one(is(live.stopping)));
    text.gauge(
        "upspool_stuck",
        "What does not go on although it should; 20 at most.",
        one(places(live.stuck.len())),
    );
    text.gauge("upspool_changing_files", "Files that have not settled.", one(number(live.changing_count)));
    text.gauge("upspool_open_jobs", "Jobs that are worked on.", one(places(live.active.len())));
    text.gauge(
        "upspool_part_slots",
        "Parts of large files that may be on their way at once.",
        one(places(live.slots.of)),
    );
    text.gauge(
        "upspool_parts_in_flight",
        "Parts of large files that are on their way.",
        one(places(live.slots.parts)),
    );
    let help = "Other requests that are on their way.";
    text.gauge("upspool_small_requests_in_flight", help, one(places(live.slots.small)));
    let folders = || live.folders.iter();
    let watched =
        folders().map(|folder| (vec![("folder", folder.name.as_str()), ("how", folder.state.as_str())], 1.0));
    text.gauge("upspool_folder_watched", "How each folder is watched; `missing`: it is not there.", watched);
    let paused = folders().map(|folder| (vec![("folder", folder.name.as_str())], is(folder.paused)));
    text.gauge("upspool_folder_paused", "Whether sending from it is paused.", paused);
    let scans = folders().filter_map(|folder| {
        let at: jiff::Timestamp = folder.last_scan.as_ref()?.parse().ok()?;
        Some((vec![("folder", folder.name.as_str())], at.as_millisecond() as f64 / 1000.0))
    });
    let help = "When the last whole scan ended, in Unix time.";
    text.gauge("upspool_folder_last_scan_timestamp_seconds", help, scans);
}

fn in_store(text: &mut Text, ledger: &Ledger, now: Wall) {
    // A folder whose path has changed has a row for each path, by one name: together, since no line may be there twice.
    let (mut jobs, mut waiting) = (BTreeMap::new(), BTreeMap::new());
    for folder in &ledger.folders {
        let name = folder.name.as_str();
        *waiting.entry(name).or_insert(0) += folder.waiting_bytes;
        for (state, count) in &folder.counts {
            *jobs.entry((name, *state)).or_insert(0) += count;
        }
    }
    let mut oldest: BTreeMap<&str, Wall> = BTreeMap::new();
    for (folder, at) in &ledger.oldest {
        let first = oldest.entry(folder).or_insert(*at);
        *first = (*at).min(*first);
    }
    let jobs = jobs
        .into_iter()
        .map(|((folder, state), jobs)| (vec![("folder", folder), ("state", state)], number(jobs)));
    text.gauge("upspool_jobs", "Jobs in the store; the sum over the states is what was found.", jobs);
    let waiting = waiting.into_iter().map(|(folder, bytes)| (vec![("folder", folder)], number(bytes)));
    text.gauge("upspool_queued_bytes", "Bytes of the files that wait to be sent.", waiting);
    let oldest =
        oldest.into_iter().map(|(folder, at)| (vec![("folder", folder)], now.since(at).as_secs_f64()));
    text.gauge(
        "upspool_oldest_queued_seconds",
        "For how long the oldest file waits that is not sent.",
        oldest,
    );
}

fn counted(text: &mut Text, counted: &Counted) {
    for counter in Counter::ALL {
        text.head(counter.name(), counter.help(), "counter");
        let lines = counted.counters.iter().filter(|((other, _), _)| *other == counter);
        for ((_, values), count) in lines {
            let labels = counter.labels().iter().copied().zip(values.iter().map(String::as_str)).collect();
            text.line(counter.name(), "", &labels, number(*count));
        }
    }
    let name = "upspool_operation_duration_seconds";
    text.head(name, "How long operations took that were not interrupted.", "histogram");
    for (operation, histogram) in &counted.durations {
        text.histogram(name, operation, histogram);
    }
}

/// The text as it grows.
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, lines: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        self.head(name, help, "gauge");
        for (labels, value) in lines {
            self.line(name, "", &labels, value);
        }
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &Labels<'_>, value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{suffix}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, operation: &str, histogram: &Histogram) {
        let mut sum = 0;
        let ends = BUCKETS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (end, count) in ends.zip(histogram.counts) {
            sum += count;
            self.line(name, "_bucket", &vec![("operation", operation), ("le", &end)], number(sum));
        }
        self.line(name, "_sum", &vec![("operation", operation)], histogram.sum);
        self.line(name, "_count", &vec![("operation", operation)], number(sum));
    }
}

/// The value of a label, as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::FolderJson;

    #[test]
    fn a_histogram_is_cumulative_and_a_label_is_escaped() {
        let mut histogram = Histogram { sum: 1.5, ..Histogram::default() };
        (histogram.counts[0], histogram.counts[15]) = (2, 1);
        let mut text = Text::default();
        text.histogram("h", "part", &histogram);
        assert!(text.0.starts_with("h_bucket{operation=\"part\",le=\"0.01\"} 2\n"), "{}", text.0);
        let end = "h_bucket{operation=\"part\",le=\"600\"} 2\nh_bucket{operation=\"part\",le=\"+Inf\"} 3\n\
                   h_sum{operation=\"part\"} 1.5\nh_count{operation=\"part\"} 3\n";
        assert!(text.0.ends_with(end), "{}", text.0);
        let mut text = Text::default();
        text.line("g", "", &vec![("folder", "a\\b\"c\nd")], 3.0);
        assert_eq!(text.0, "g{folder=\"a\\\\b\\\"c\\nd\"} 3\n");
    }

    #[test]
    fn a_folder_that_has_moved_has_each_line_once() {
        let folder = |path: &str, queued: u64, waiting_bytes: u64| FolderJson {
            name: "batch".into(),
            path: path.into(),
            paused: false,
            paused_why: None,
            counts: [("queued", queued), ("stored", 2)].into(),
            waiting_files: queued,
            waiting_bytes,
        };
        let ledger = Ledger {
            folders: vec![folder("/srv/old", 1, 10), folder("/srv/new", 3, 200)],
            oldest: vec![("batch".into(), Wall(5_000)), ("batch".into(), Wall(9_000))],
        };
        let mut text = Text::default();
        in_store(&mut text, &ledger, Wall(11_000));
        let lines: Vec<_> = text.0.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = [
            "upspool_jobs{folder=\"batch\",state=\"queued\"} 4",
            "upspool_jobs{folder=\"batch\",state=\"stored\"} 4",
            "upspool_queued_bytes{folder=\"batch\"} 210",
            "upspool_oldest_queued_seconds{folder=\"batch\"} 6",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_this_process_is_like_is_told() {
        let mut text = Text::default();
        process(&mut text, Wall(1_795_366_800_500));
        for line in [
            "process_start_time_seconds 1795366800.5\n",
            "\nprocess_open_fds ",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(text.0.contains(line), "{}", text.0);
        }
        assert!(resident().unwrap() > 100_000);
    }
}
