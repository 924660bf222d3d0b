//! `upspool`: see `upspool --help`.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};
use upspool::cli::Cli;

/// A thread that waits for a file server that does not answer must not keep the process from ending.
const LAST_WAIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be listening any more; the code says it all the same.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    share_arenas();
    let runtime = match runtime(cli.is_service()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "upspool: the system gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    // A panic would drop the runtime, which waits for its threads without end.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(cli.execute())));
    runtime.shutdown_timeout(LAST_WAIT);
    match ended {
        Ok(ended) => ExitCode::from(ended.unwrap_or_else(|failure| failure.report())),
        Err(panic) => resume_unwind(panic),
    }
}

fn runtime(service: bool) -> std::io::Result<Runtime> {
    let mut builder = if service { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    builder.worker_threads(2).enable_all().build()
}

/// Has all threads allocate from three arenas, as many as there are threads that are busy all the time: with two these wait for each
/// other. glibc would take up to eight per core, and each keeps the most that it ever held (docs/decisions/throughput.md).
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "libc has no safe wrapper")]
fn share_arenas() {
    // SAFETY: no thread but this one runs yet, and the parameter is a plain number.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 3) };
}

#[cfg(not(target_env = "gnu"))]
fn share_arenas() {}
