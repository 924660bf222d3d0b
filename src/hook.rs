//! Hand 6: programs of the operator's that are told of a job. One is run without a shell, with nothing of our
//! environment but what it needs, and in a process group of its own, which ends whole when its time is over.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{Access, access};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::text::{setting, shown_bytes};

/// Variables of ours that a program gets, where they are set.
const PASSED_ON: [&str; 4] = ["PATH", "HOME", "LANG", "TMPDIR"];

/// Where a program looks for others if we have no such variable: systemd sets one.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is kept of what a program says, of its end.
const MOST_SAID: usize = 2_048;

/// How long the output is waited for when the program itself has ended: what it left behind may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Why a program cannot be run, or did not do well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HookError {
    /// It is not safe to run it, or it cannot be.
    #[error("{0}")]
    Unusable(String),
    /// It ended otherwise than with 0.
    #[error("{how}{}", said_after(.said))]
    Failed {
        /// With which status or signal.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// It took too long, and was ended.
    #[error("took longer than {}{}", setting(*.0), said_after(.1))]
    TimedOut(Duration, String),
}

/// Whether a program may be run: an absolute path to a file that is ours or root's, or of `service`, the user for whom it is
/// asked, and that nobody else can write or replace. Blocks.
///
/// # Errors
/// Why not, and what to do.
pub fn check(program: &Path, service: Option<u32>) -> Result<(), HookError> {
    let name = program.display();
    let unusable = |why: String| HookError::Unusable(format!("{name} {why}"));
    let system = |error: io::Error| HookError::Unusable(format!("{name}: {error}"));
    if !program.is_absolute() {
        return Err(unusable("is not an absolute path".into()));
    }
    let real = program.canonicalize().map_err(system)?;
    let file = std::fs::metadata(&real).map_err(system)?;
    let ours = |uid: u32| uid == 0 || uid == geteuid().as_raw() || Some(uid) == service;
    if !file.is_file() {
        return Err(unusable("is not a file".into()));
    }
    let link = std::fs::symlink_metadata(program).map_err(system)?;
    if !ours(file.uid()) || !ours(link.uid()) {
        return Err(unusable("belongs to neither root nor the service's user: chown root it".into()));
    }
    if file.mode() & 0o022 != 0 {
        return Err(unusable("can be written by others: chmod go-w it".into()));
    }
    for directory in program.ancestors().skip(1).chain(real.ancestors().skip(1)) {
        let found = std::fs::metadata(directory).map_err(system)?;
        // In a directory with the sticky bit nobody can replace what is not theirs.
        let replaceable = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
        if replaceable || !ours(found.uid()) {
            let directory = directory.display();
            return Err(unusable(format!(
                "can be replaced by others, who can write to {directory}: chmod go-w that"
            )));
        }
    }
    access(&real, Access::EXEC_OK).map_err(|_| unusable("may not be executed: chmod +x it".into()))
}

/// Runs a program that was [`check`]ed, with its arguments, these variables besides those passed on, and `input` on its standard input.
/// When this is dropped, or the time is over, its whole process group is killed.
///
/// # Errors
/// See [`HookError`].
pub async fn run(
    command: &[String],
    variables: &[(&'static str, OsString)],
    input: &str,
    limit: Duration,
) -> Result<(), HookError> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let own = PASSED_ON.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(own)
        .envs(variables.iter().map(|(name, value)| (OsStr::new(name), value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| HookError::Unusable(format!("{program}: {error}")))?;
    let group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut said = Said::default();
    let ended = {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // Not every program wants to know.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let listen = said.hear(stdout, stderr);
        let ended = async {
            let mut listen = std::pin::pin!(listen);
            let mut feed = std::pin::pin!(feed);
            let (mut fed, mut heard) = (false, false);
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    () = &mut feed, if !fed => fed = true,
                    () = &mut listen, if !heard => heard = true,
                }
            };
            if !heard {
                let _ = timeout(LAST_WORDS, &mut listen).await;
            }
            status
        };
        timeout(limit, ended).await
    };
    let said = said.text();
    match ended {
        Ok(Ok(status)) => {
            // What it left in the background is its own affair.
            std::mem::forget(group);
            if status.success() { Ok(()) } else { Err(HookError::Failed { how: how(status), said }) }
        }
        Ok(Err(error)) => Err(HookError::Failed { how: error.to_string(), said }),
        Err(_) => {
            drop(group);
            // Else it stays a zombie for a while.
            let _ = timeout(LAST_WORDS, child.wait()).await;
            Err(HookError::TimedOut(limit, said))
        }
    }
}

/// A process group that ends with this.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Group {
        // Its number is that of its first process.
        Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of what a program said.
#[derive(Default)]
struct Said {
    bytes: Vec<u8>,
}

impl Said {
    /// Reads until both ends are closed, so that the program never waits for us.
    async fn hear(&mut self, stdout: Option<impl AsyncRead + Unpin>, stderr: Option<impl AsyncRead + Unpin>) {
        let (mut stdout, mut stderr) = (stdout, stderr);
        let (mut out, mut err) = (vec![0; 4_096], vec![0; 4_096]);
        loop {
            tokio::select! {
                read = read(&mut stdout, &mut out), if stdout.is_some() => match read {
                    Some(count) => self.keep(&out[..count]),
                    None => stdout = None,
                },
                read = read(&mut stderr, &mut err), if stderr.is_some() => match read {
                    Some(count) => self.keep(&err[..count]),
                    None => stderr = None,
                },
                else => return,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let more = self.bytes.len().saturating_sub(MOST_SAID);
        self.bytes.drain(..more);
    }

    fn text(&self) -> String {
        shown_bytes(self.bytes.trim_ascii())
    }
}

/// How many bytes were read; nothing at the end.
async fn read(from: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> Option<usize> {
    from.as_mut()?.read(buffer).await.ok().filter(|count| *count > 0)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

fn said_after(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(", and said: {said}") }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn script(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("hook");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    async fn run_script(
        text: &str,
        input: &str,
        limit: Duration,
    ) -> (Result<(), HookError>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let program = script(directory.path(), text);
        let command = [program.to_str().unwrap().to_owned(), "an argument; with $signs".to_owned()];
        let out = directory.path().join("out");
        let variables = [("UPSPOOL_OUT", out.into_os_string())];
        (run(&command, &variables, input, limit).await, directory)
    }

    #[tokio::test]
    async fn a_program_gets_its_arguments_its_input_and_no_other_environment() {
        let text = "{ echo \"$1\"; cat; pwd; env | cut -d= -f1 | sort; } >\"$UPSPOOL_OUT\"";
        let (ran, directory) = run_script(text, "{\"id\":7}\n", LONG).await;
        ran.unwrap();
        let out = fs::read_to_string(directory.path().join("out")).unwrap();
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("an argument; with $signs"));
        assert_eq!(lines.next(), Some("{\"id\":7}"));
        assert_eq!(lines.next(), Some("/"));
        for variable in lines {
            // The last three are the shell's own.
            let known = ["PATH", "HOME", "LANG", "TMPDIR", "UPSPOOL_OUT", "PWD", "SHLVL", "_", "OLDPWD"];
            assert!(known.contains(&variable), "{variable}");
        }
    }

    #[tokio::test]
    async fn how_it_ended_and_the_end_of_what_it_said_is_told() {
        let (ran, _directory) =
            run_script("echo out; echo 'no\u{1b}[31m such table' >&2; exit 3", "", LONG).await;
        let said = ran.unwrap_err().to_string();
        assert!(said.starts_with("ended with 3, and said: "), "{said}");
        assert!(said.contains("\\x1b[31m such table") && said.contains("out"), "{said}");
        let (ran, _directory) = run_script("kill -9 $$", "", LONG).await;
        assert_eq!(ran.unwrap_err().to_string(), "was ended by signal 9");
        let (ran, _directory) = run_script("yes | head -c 10000000; exit 1", "", LONG).await;
        let said = ran.unwrap_err().to_string();
        assert!(said.len() < 3 * MOST_SAID, "{}", said.len());
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_is_no_failure() {
        let (ran, _directory) = run_script("exit 0", &"x".repeat(1_000_000), LONG).await;
        ran.unwrap();
    }

    /// Waits until a process has ended, its parent's or init's reaping included or not.
    async fn ended(pid: &str) {
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        for _ in 0..1_000 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} goes on");
    }

    #[tokio::test]
    async fn when_its_time_is_over_the_whole_group_ends() {
        let text = "sleep 1000 & echo $! >\"$UPSPOOL_OUT\"; echo waiting; wait";
        let (ran, directory) = run_script(text, "", Duration::from_millis(500)).await;
        let said = ran.unwrap_err();
        assert!(matches!(&said, HookError::TimedOut(_, words) if words == "waiting"), "{said}");
        ended(fs::read_to_string(directory.path().join("out")).unwrap().trim()).await;
    }

    #[tokio::test]
    async fn when_nobody_waits_for_it_any_more_the_whole_group_ends() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let program = script(
            directory.path(),
            "sleep 1000 & echo $! >\"$UPSPOOL_OUT.new\"; mv \"$UPSPOOL_OUT.new\" \"$UPSPOOL_OUT\"; wait",
        );
        let command = [program.to_str().unwrap().to_owned()];
        let variables = [("UPSPOOL_OUT", out.clone().into_os_string())];
        {
            let mut running = std::pin::pin!(run(&command, &variables, "", LONG));
            while !out.exists() {
                tokio::select! {
                    _ = &mut running => panic!("it ended"),
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
        }
        ended(fs::read_to_string(&out).unwrap().trim()).await;
    }

    #[tokio::test]
    async fn a_program_that_leaves_something_behind_has_ended() {
        let (ran, _directory) = run_script("sleep 5 & exit 0", "", LONG).await;
        ran.unwrap();
    }

    #[test]
    fn a_program_that_others_can_write_or_replace_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let program = script(directory.path(), "exit 0");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let why = |path: &Path| check(path, None).unwrap_err().to_string();
        assert_eq!(check(&program, None), Ok(()));
        mode(&program, 0o775);
        assert!(why(&program).contains("can be written by others"));
        mode(&program, 0o644);
        assert!(why(&program).contains("may not be executed"));
        mode(&program, 0o755);
        mode(directory.path(), 0o777);
        assert!(why(&program).contains("can be replaced by others"));
        mode(directory.path(), 0o1777);
        assert_eq!(check(&program, None), Ok(()), "the sticky bit keeps others from it");
        mode(directory.path(), 0o700);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&program, &link).unwrap();
        assert_eq!(check(&link, None), Ok(()));
        assert!(why(Path::new("hook")).contains("is not an absolute path"));
        assert!(why(&directory.path().join("none")).contains("No such file"));
        assert!(why(directory.path()).contains("is not a file"));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&program, Some(12_345), None).unwrap();
            assert!(why(&program).contains("belongs to neither root"));
        }
    }
}
