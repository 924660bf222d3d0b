//! Everything that can go wrong, all at once and for as long as one likes: `just soak MINUTES`.
//!
//! Files come at a steady rate and are replaced, rewritten, touched, deleted and renamed while they wait; the server fails,
//! stalls, cuts, is late and is away; the service is killed every few seconds. Every 30 seconds the ledger is compared with
//! the emulator, and at the end, when all is calm, whether anything was lost. Exits 0 only if nothing was wrong.
//!
//! `soak MINUTES [SEED]`: what is done follows from the seed, though not to the millisecond.

#![expect(clippy::print_stdout, reason = "it reports to the person before it")]
#![expect(clippy::disallowed_methods, reason = "it paces itself by the clock, and decides nothing by it")]
#![expect(unreachable_pub, reason = "modules of an example")]

mod dice;
mod folder;
mod ledger;
mod service;
mod weather;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use upspool_emulator::variants::Outcome;
use upspool_emulator::{Emulator, Storage, Variants};

use dice::Dice;
use folder::Folder;
use ledger::{Seen, compare};
use service::Service;

/// Accepted by the emulator; may stand in no log.
const KEY: &str = "sk-soak-8c1f52d07e";

/// Between two things that happen in the folder.
const PACE: Duration = Duration::from_millis(200);
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// How long all may take to end once it is calm: a hold's longest pause, and the two minutes for which a list is looked at
/// that should show a File.
const CALM: Duration = Duration::from_secs(480);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let minutes: f64 = arguments.next().context("how many MINUTES?")?.parse()?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let seed = arguments.next().map(|seed| seed.parse()).transpose()?.unwrap_or(clock);
    println!("seed {seed}");
    let place = tempfile::Builder::new().prefix("upspool-soak-").tempdir()?;
    let mut soak = Soak::new(place.path(), seed).await?;
    soak.storm(Duration::from_secs_f64(minutes * 60.0)).await?;
    let seen = soak.calm().await?;
    soak.table(&seen);
    if soak.violations.is_empty() {
        return Ok(());
    }
    // The ledger and the log say what happened.
    let kept = place.keep();
    bail!("{} violations with seed {seed}; look into {}", soak.violations.len(), kept.display());
}

struct Soak {
    emulator: Emulator,
    service: Service,
    folder: Folder,
    dice: Dice,
    began: Instant,
    state_dir: std::path::PathBuf,
    counts: BTreeMap<&'static str, u64>,
    peak_kib: u64,
    violations: Vec<String>,
}

impl Soak {
    async fn new(place: &Path, seed: u64) -> Result<Soak> {
        let drop_folder = place.join("drop");
        std::fs::create_dir(&drop_folder)?;
        // A server whose answers to a second cancel say how the Upload ended: else what became of a cancel whose answer is
        // lost can be told only when the Upload's hour is over, and the soak would have to wait for it.
        let variants = Variants {
            second_cancel: Outcome::Upload,
            cancel_after_expiry: Outcome::Upload,
            cancel_after_complete: Outcome::Upload,
            ..Variants::default()
        };
        let storage = Storage::Disk(place.join("server"));
        let emulator = Emulator::builder().api_key(KEY).storage(storage).variants(variants).start().await?;
        std::fs::write(place.join("key"), KEY)?;
        let state_dir = place.join("state");
        let config = format!(
            "[api]\nbase_url = {:?}\nkey_file = {:?}\nstall_timeout = \"3s\"\nanswer_timeout = \"3s\"\n\
             complete_timeout = \"3s\"\n[upload]\npart_size = \"1 MiB\"\nparallel_parts = 4\n\
             [retry]\nfirst_delay = \"100ms\"\nmax_delay = \"2s\"\n[store]\nstate_dir = {state_dir:?}\n\
             [log]\nformat = \"text\"\n[[folder]]\npath = {drop_folder:?}\npurpose = \"user_data\"\n\
             settle = \"400ms\"\nrescan_interval = \"20s\"\n",
            emulator.base_url(),
            place.join("key")
        );
        std::fs::write(place.join("upspool.toml"), config)?;
        Ok(Soak {
            emulator,
            service: Service::new(place)?,
            folder: Folder::new(drop_folder, place.to_owned(), seed),
            dice: Dice::new(!seed),
            began: Instant::now(),
            state_dir,
            counts: BTreeMap::new(),
            peak_kib: 0,
            violations: Vec::new(),
        })
    }

    async fn storm(&mut self, time: Duration) -> Result<()> {
        self.service.start()?;
        let (mut kill_at, mut weather_at, mut report_at) = (self.soon(2, 8), self.soon(1, 3), REPORT_EVERY);
        let mut pace = tokio::time::interval(PACE);
        while self.began.elapsed() < time {
            pace.tick().await;
            self.folder.happens()?;
            if let Some(status) = self.service.ended()? {
                self.violations.push(format!("the service ended by itself with {status}"));
                self.service.start()?;
            }
            let now = self.began.elapsed();
            if now >= kill_at {
                self.peak_kib = self.peak_kib.max(self.service.peak_kib());
                self.service.kill()?;
                self.count("kills");
                kill_at = self.soon(2, 8);
                self.service.start()?;
            }
            if now >= weather_at {
                self.weather().await?;
                weather_at = self.soon(2, 8);
            }
            if now >= report_at {
                self.report(false).await?;
                report_at += REPORT_EVERY;
            }
        }
        Ok(())
    }

    async fn weather(&mut self) -> Result<()> {
        match self.dice.within(0, 11) {
            0 | 1 => {
                self.count("outages");
                self.emulator.pause().await;
                tokio::time::sleep(Duration::from_millis(self.dice.within(200, 3000))).await;
                self.emulator.resume().await?;
                self.service.ask(&["resume"])?;
            }
            2 => {
                self.count("rejected keys");
                self.emulator.set_api_keys(["sk-another"]);
                tokio::time::sleep(Duration::from_millis(self.dice.within(200, 2000))).await;
                self.emulator.set_api_keys([KEY]);
                self.service.ask(&["resume"])?;
            }
            _ => {
                let name = weather::change(&self.emulator, &mut self.dice);
                self.count(if name == "fair" { "fair weather" } else { "foul weather" });
            }
        }
        Ok(())
    }

    /// Waits until every job has ended, and compares all.
    async fn calm(&mut self) -> Result<Seen> {
        self.emulator.clear_faults();
        let until = self.began.elapsed() + CALM;
        let mut pace = tokio::time::interval(Duration::from_secs(2));
        let mut still = 0;
        // A scan more than there was, so that what was changed last has been seen.
        while self.began.elapsed() < until {
            pace.tick().await;
            self.service.ask(&["resume"])?;
            let waited = self.service.ask(&["wait", "--timeout", "10s"])?;
            let seen = compare(&self.state_dir, &self.emulator, &self.folder, true).await?;
            still = if seen.open.is_empty() && waited.code() != Some(75) { still + 1 } else { 0 };
            if still == 2 {
                break;
            }
        }
        self.peak_kib = self.peak_kib.max(self.service.peak_kib());
        let seen = self.report(true).await?;
        for open in &seen.open {
            self.violations.push(format!("has not ended: {open}"));
        }
        if let Some(status) = self.service.stop()?
            && !status.success()
        {
            self.violations.push(format!("the service ended with {status}"));
        }
        self.read_log()?;
        Ok(seen)
    }

    fn read_log(&mut self) -> Result<()> {
        let log = std::fs::read(self.service.log())?;
        for line in String::from_utf8_lossy(&log).lines() {
            if [KEY, "panick", "write-refused"].iter().any(|word| line.contains(word)) {
                self.violations.push(format!("in the log: {line}"));
            }
        }
        Ok(())
    }

    async fn report(&mut self, calm: bool) -> Result<Seen> {
        let seen = compare(&self.state_dir, &self.emulator, &self.folder, calm).await?;
        let states: Vec<String> =
            seen.states.iter().map(|(state, count)| format!("{state} {count}")).collect();
        println!(
            "{:4} s  {} paths, {} Files, {} requests, {} kills; {}",
            self.began.elapsed().as_secs(),
            self.folder.versions.len(),
            seen.files,
            seen.requests,
            self.counts.get("kills").unwrap_or(&0),
            states.join(", ")
        );
        for violation in &seen.violations {
            println!("VIOLATION  {violation}");
        }
        self.violations.extend(seen.violations.iter().cloned());
        Ok(seen)
    }

    fn table(&self, seen: &Seen) {
        println!();
        for (what, count) in self.folder.done.iter().chain(&self.counts) {
            println!("{what:20} {count:8}");
        }
        let versions: usize = self.folder.versions.values().map(Vec::len).sum();
        println!("{:20} {versions:8}", "versions of files");
        println!("{:20} {:8}", "requests", seen.requests);
        println!("{:20} {:8}", "Files", seen.files);
        for (state, count) in &seen.states {
            println!("jobs {state:15} {count:8}");
        }
        println!("{:20} {:8}", "peak memory, MiB", self.peak_kib / 1024);
        println!("{:20} {:8}", "violations", self.violations.len());
        for violation in &self.violations {
            println!("  {violation}");
        }
    }

    fn soon(&mut self, low: u64, high: u64) -> Duration {
        self.began.elapsed() + Duration::from_millis(self.dice.within(low * 1000, high * 1000))
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}
