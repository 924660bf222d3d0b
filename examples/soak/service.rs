//! The real program, as a process that can be killed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};

pub struct Service {
    program: PathBuf,
    place: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// The program that lies beside this one: `cargo build` makes it with the same profile.
    pub fn new(place: &Path) -> Result<Service> {
        let own = std::env::current_exe()?;
        let built = own.parent().and_then(Path::parent).context("no directory of builds")?;
        let program = built.join("upspool");
        ensure!(program.is_file(), "{} is not there: `cargo build` first", program.display());
        Ok(Service { program, place: place.to_owned(), child: None })
    }

    pub fn log(&self) -> PathBuf {
        self.place.join("log")
    }

    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = self.command(&["run"]).stdout(log.try_clone()?).stderr(log).spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL, wherever it is just now.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// How it ended, if it ended by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().map(Child::try_wait).transpose()?.flatten())
    }

    /// SIGTERM, and how it ended.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )?;
        Ok(Some(child.wait()?))
    }

    pub fn peak_kib(&self) -> u64 {
        let id = self.child.as_ref().map_or(0, Child::id);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
    }

    /// A command of it, such as `resume`. What it says is of no interest.
    pub fn ask(&self, arguments: &[&str]) -> Result<ExitStatus> {
        let mut command = self.command(arguments);
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status()?)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.place.join("upspool.toml")).args(arguments);
        command.env_clear().env("HOME", &self.place).stdin(Stdio::null());
        command
    }
}

/// No service is left behind by a soak that ends in an error.
impl Drop for Service {
    fn drop(&mut self) {
        // It is going to be gone either way.
        let _ = self.kill();
    }
}
