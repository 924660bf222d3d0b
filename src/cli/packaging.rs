//! `completions` and `man`: for packages, made from the same source as `--help`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;
use super::failure::Failure;
use super::output::Output;
use crate::text::shown;

/// What `completions` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool completions bash > /usr/share/bash-completion/completions/upspool
  source <(upspool completions zsh)")]
pub struct Completions {
    /// For this shell
    shell: Shell,
}

/// What `man` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  upspool man | man -l -                    the page of the program
  upspool man --dir /usr/share/man/man1     that, and one for each command")]
pub struct Manual {
    /// Write upspool.1 and a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "upspool", &mut text);
    print(&text)
}

pub(super) fn manual(arguments: &Manual) -> Result<u8, Failure> {
    match &arguments.dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir)
            .map(|()| 0)
            .map_err(|error| Failure::said(format!("{}: {error}", shown(dir)))),
        None => {
            let mut text = Vec::new();
            Man::new(Cli::command()).render(&mut text).map_err(|error| Failure::said(error.to_string()))?;
            print(&text)
        }
    }
}

fn print(text: &[u8]) -> Result<u8, Failure> {
    let mut output = Output::new();
    output.bytes(text)?;
    output.flush()?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        manual(&Manual { dir: Some(dir.path().to_owned()) }).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = std::fs::read_to_string(dir.path().join(format!("upspool-{}.1", command.get_name())))
                .unwrap();
            assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
        }
        assert!(std::fs::read_to_string(dir.path().join("upspool.1")).unwrap().contains("resolve"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "upspool", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("resolve"), "{shell}");
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let missing = manual(&Manual { dir: Some("/nonexistent".into()) }).unwrap_err();
        assert!(matches!(&missing, Failure::Said(words) if words.contains("/nonexistent")));
    }
}
