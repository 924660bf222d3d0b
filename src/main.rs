//! `upspool`.
use clap::Parser;
use std::path::PathBuf;
#[derive(Parser)]
struct Args {
    #[arg(long)]
    config: Option<PathBuf>,
    command: String,
    #[arg(long)]
    once: bool,
    #[arg(long)]
    timeout: Option<String>,
}
#[tokio::main]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    assert_eq!(args.command, "run");
    let r = upspool::config::load(&upspool::config::Sources::of_process(args.config), &Default::default());
    let config = match r {
        Ok(c) => c,
        Err(e) => {
            eprintln!("{e}");
            return 78.into();
        }
    };
    upspool::logging::start(&config.log).unwrap();
    let timeout = args.timeout.map(|t| humantime::parse_duration(&t).unwrap());
    match upspool::daemon::run(config, upspool::daemon::Options { once: args.once, timeout }).await {
        Ok(code) => code.into(),
        Err(e) => {
            eprintln!("{e}");
            e.exit_code().into()
        }
    }
}
