//! The emulator as a program. Its address is the first line that it prints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use upspool_emulator::{Emulator, Storage, read_script};

/// The OpenAI Uploads API as a local server that fails on request.
#[derive(Debug, Parser)]
#[command(version)]
struct Options {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Key to accept; may be given more than once.
    #[arg(long, default_value = upspool_emulator::DEFAULT_KEY)]
    api_key: Vec<String>,
    /// How long an Upload lives, such as 3600s or 1h.
    #[arg(long, value_parser = humantime::parse_duration)]
    expires_in: Option<std::time::Duration>,
    /// TOML file of variants, limits and faults.
    #[arg(long)]
    script: Option<PathBuf>,
    /// Folder for content; without it content is kept in memory.
    #[arg(long, conflicts_with = "discard")]
    disk: Option<PathBuf>,
    /// Keep no content and make no digest.
    #[arg(long)]
    discard: bool,
    /// Speak as Azure OpenAI.
    #[arg(long)]
    azure: bool,
    /// Seconds by which the server's clock is wrong.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    skew: i64,
    /// Process that faults of kind `kill` kill.
    #[arg(long)]
    victim: Option<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the program's own error output")]
            {
                eprintln!("upspool-emulator: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> std::io::Result<()> {
    let mut builder = Emulator::builder().listen(options.listen).skew(options.skew);
    if options.azure {
        builder = builder.azure();
    }
    for key in options.api_key {
        builder = builder.api_key(key);
    }
    if let Some(path) = &options.script {
        builder = builder.script(read_script(path)?);
    }
    if let Some(lifetime) = options.expires_in {
        builder = builder.upload_lifetime(lifetime);
    }
    builder = match (options.disk, options.discard) {
        (Some(folder), _) => builder.storage(Storage::Disk(folder)),
        (None, true) => builder.storage(Storage::Discard),
        (None, false) => builder,
    };
    let emulator = builder.start().await?;
    if let Some(pid) = options.victim {
        emulator.set_victim(pid);
    }
    #[expect(clippy::print_stdout, reason = "the program's own output")]
    {
        println!("{}", emulator.base_url());
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    emulator.stop().await;
    Ok(())
}
