//! How long a look at the largest batch takes, and how much memory: `cargo run --release --example preflight`.
//!
//! Makes a batch of 50 000 requests and nearly 200 MiB, and looks at it as the service does, in pieces of 1 MiB; or at a
//! file that is named.

#![expect(clippy::print_stdout, reason = "the figures")]

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::Context;
use upspool::clock::Clock;
use upspool::model::preflight::{Checker, MOST_BATCH_BYTES, MOST_BATCH_LINES, Report, Rules};

fn main() -> anyhow::Result<()> {
    if let Some(path) = std::env::args_os().nth(1) {
        return look(Path::new(&path));
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("batch.jsonl");
    make(&path)?;
    look(&path)
}

fn make(path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Text with what texts have: words, numbers, an escape now and then.
    let words = r#"The file \"a.txt\" has 1024 bytes, and nobody knows why.\n"#;
    let each = usize::try_from(MOST_BATCH_BYTES / MOST_BATCH_LINES)? - 200;
    let text = words.repeat(each / words.len());
    for number in 0..MOST_BATCH_LINES {
        writeln!(
            file,
            r#"{{"custom_id":"request-{number}","method":"POST","url":"/v1/responses","body":{{"model":"m","input":"{text}","max_output_tokens":1000}}}}"#
        )?;
    }
    file.flush()?;
    Ok(())
}

fn look(path: &Path) -> anyhow::Result<()> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut piece = vec![0; 1024 * 1024];
    let before = peak_kib()?;
    let began = Clock::System.now().boot;
    let mut checker = Checker::new(Rules::Batch, Report::default());
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 || !checker.take(&piece[..length]) {
            break;
        }
    }
    let report = checker.finish();
    let took = Clock::System.now().boot.since(began);
    println!("{bytes} bytes in {took:.2?}, {:.0} MB/s", bytes as f64 / 1e6 / took.as_secs_f64());
    println!("peak memory {} KiB, {before} KiB before", peak_kib()?);
    println!("{} faults", report.total);
    report.warnings().iter().for_each(|words| println!("  {words}"));
    Ok(())
}

/// The most memory that this process had, in KiB.
fn peak_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
