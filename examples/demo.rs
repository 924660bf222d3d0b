//! The whole job on this machine, with nothing to set up: `cargo run --release --example demo`.
//!
//! Starts the emulator and the service in one process, drops real files of this machine and a large one of its own into
//! a real folder, shows progress, prints the File IDs and checks each File's SHA-256 against its source. Exits 0 only if
//! all are equal. With `--stay` it goes on and watches the folder for what you drop.

#![expect(clippy::print_stdout, reason = "a demonstration talks to the person before it")]
#![expect(clippy::disallowed_methods, reason = "it shows how long it took, and decides nothing by it")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use upspool::config::{self, Overrides, Sources};
use upspool::daemon::{self, Options, Reload};
use upspool::engine::live::Live;
use upspool::model::job::State;
use upspool::store::{Filter, Store};
use upspool::{status, text};
use upspool_emulator::{Emulator, Storage};

/// Bytes of the large file: enough for several Parts at once to be seen.
const LARGE: u64 = 400 * 1024 * 1024;

/// Real files of this machine that every Debian with Rust has, as far as they are there.
const REAL: [&str; 6] = [
    "/etc/os-release",
    "/etc/services",
    "/etc/passwd",
    "/bin/bash",
    "/usr/share/common-licenses/GPL-3",
    "/bin/ls",
];

#[tokio::main]
async fn main() -> Result<()> {
    let stay = std::env::args().any(|argument| argument == "--stay");
    let place = tempfile::Builder::new().prefix("upspool-demo-").tempdir()?;
    let drop_folder = place.path().join("drop");
    std::fs::create_dir(&drop_folder)?;
    let emulator = Emulator::builder().storage(Storage::Disk(place.path().join("server"))).start().await?;
    println!("emulator of the Uploads API   {}", emulator.base_url());
    println!("watched folder                {}", drop_folder.display());
    let files = drop_files(&drop_folder)?;
    println!("dropped                       {} files, {}\n", files.len(), text::size(total(&files)?));

    let config = configure(place.path(), &drop_folder, &emulator)?;
    let state_dir = config.store.state_dir.clone();
    let began = Instant::now();
    let options = Options { once: !stay, timeout: None };
    let mut service = tokio::spawn(daemon::run(config, options, Reload::none()));
    let ended = show_progress(&state_dir, &mut service, files.len(), stay).await?;
    let took = began.elapsed();

    check(&state_dir, &emulator, &files).await?;
    let rate = total(&files)? as f64 / took.as_secs_f64() / 1e6;
    println!(
        "\nall {} Files are byte for byte their sources; {:.1} s in all, {rate:.0} MB/s with settling, hashing and the \
         emulator on this machine",
        files.len(),
        took.as_secs_f64()
    );
    println!("at most {} Parts were on their way at once", emulator.most_parts_in_flight());
    if let Some(code) = ended {
        ensure!(code == 0, "the service ended with exit code {code}");
        return Ok(());
    }
    println!(
        "\nwatching {} for what you drop; `upspool --state-dir {} list` shows it; Ctrl-C ends it",
        drop_folder.display(),
        state_dir.display()
    );
    service.await??;
    Ok(())
}

/// Writes what is to be sent, as programs do: real files are copied, the large one is written.
fn drop_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in REAL.map(Path::new).into_iter().filter(|path| path.is_file()) {
        let target = folder.join(path.file_name().context("a real file has a name")?);
        std::fs::copy(path, &target)?;
        files.push(target);
    }
    let batch = folder.join("batch.jsonl");
    let mut lines = BufWriter::new(File::create(&batch)?);
    for number in 0..2000 {
        writeln!(
            lines,
            r#"{{"custom_id":"request-{number}","method":"POST","url":"/v1/responses","body":{{"model":"m","input":"{number}"}}}}"#
        )?;
    }
    lines.flush()?;
    files.push(batch);
    let large = folder.join("large file.bin");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&large)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..LARGE / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.write_all(&state.to_le_bytes())?;
    }
    out.flush()?;
    files.push(large);
    Ok(files)
}

fn total(files: &[PathBuf]) -> Result<u64> {
    let mut sum = 0;
    for file in files {
        sum += std::fs::metadata(file)?.len();
    }
    Ok(sum)
}

/// The configuration as a user would write it.
fn configure(place: &Path, folder: &Path, emulator: &Emulator) -> Result<config::Config> {
    let key = place.join("key");
    std::fs::write(&key, format!("{}\n", upspool_emulator::DEFAULT_KEY))?;
    let file = place.join("upspool.toml");
    let text = format!(
        "[api]\nbase_url = {:?}\nkey_file = {key:?}\n[store]\nstate_dir = {:?}\n[[folder]]\npath = {folder:?}\npurpose = \"user_data\"\n",
        emulator.base_url(),
        place.join("state"),
    );
    std::fs::write(&file, text)?;
    let env: BTreeMap<OsString, OsString> = BTreeMap::new();
    Ok(config::load(&Sources { config_flag: Some(file), env }, &Overrides::default())?)
}

/// Draws a line for each open Upload until the service has ended, or all files have. The exit code if it has.
async fn show_progress(
    state_dir: &Path,
    service: &mut tokio::task::JoinHandle<Result<u8, daemon::Error>>,
    count: usize,
    stay: bool,
) -> Result<Option<u8>> {
    let mut shown = String::new();
    loop {
        tokio::select! {
            code = &mut *service => return Ok(Some(code??)),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        let Ok(live) = status::ask(state_dir).await else { continue };
        let line = progress(&live);
        if line != shown && !line.is_empty() {
            if std::io::stdout().is_terminal() {
                print!("\r\x1b[K{line}");
                std::io::stdout().flush()?;
            } else {
                println!("{line}");
            }
            shown = line;
        }
        if stay && stored(state_dir).await? == count {
            return Ok(None);
        }
    }
}

fn progress(live: &Live) -> String {
    let Some(job) = live.active.iter().find(|job| job.parts_total > 1) else { return String::new() };
    let percent = job.bytes_sent * 100 / job.bytes.max(1);
    let filled = usize::try_from(percent / 4).unwrap_or(0).min(25);
    format!(
        "{:<20} [{}{}] {percent:>3} %  {} of {} Parts stored, {} on their way, {}",
        job.path,
        "#".repeat(filled),
        " ".repeat(25 - filled),
        job.parts_stored,
        job.parts_total,
        live.slots.parts,
        job.state,
    )
}

async fn stored(state_dir: &Path) -> Result<usize> {
    let store = Store::open_for_asking(state_dir).await?;
    let stored = store
        .counts()
        .await?
        .iter()
        .filter(|count| count.state == State::Stored)
        .map(|count| count.jobs)
        .sum::<u64>();
    Ok(usize::try_from(stored)?)
}

/// Compares what the ledger says and the server has with what lies in the folder.
async fn check(state_dir: &Path, emulator: &Emulator, files: &[PathBuf]) -> Result<()> {
    let store = Store::open_for_asking(state_dir).await?;
    let records = store.list(&Filter { limit: 1000, ..Filter::default() }).await?;
    let ledger: HashMap<PathBuf, _> =
        records.iter().map(|record| (record.folder_path.join(&record.relative_path), record)).collect();
    println!("\n\n{:<24} {:<22} {:>10}  SHA-256", "FILE", "FILE ID", "SIZE");
    for path in files {
        let record = ledger.get(path).with_context(|| format!("{} is not in the ledger", path.display()))?;
        let id = record.file_id.as_ref().with_context(|| format!("{} has no File ID", path.display()))?;
        let made: Vec<_> =
            emulator.files().into_iter().filter(|file| file.filename == record.filename).collect();
        ensure!(made.len() == 1, "{} became {} Files", path.display(), made.len());
        let file = made.first().context("there is one")?;
        ensure!(file.id == id.0, "the ledger has {id}, the server {}", file.id);
        let source = sha256(path)?;
        if file.sha256.as_deref() != Some(source.as_str()) {
            bail!("{}: the File's SHA-256 is {:?}, the source's {source}", path.display(), file.sha256);
        }
        let name = path.file_name().unwrap_or_default();
        let bytes = text::size(record.fingerprint.bytes);
        println!("{:<24} {:<22} {bytes:>10}  {}… equal", text::shown(Path::new(name)), id.0, &source[..16]);
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
