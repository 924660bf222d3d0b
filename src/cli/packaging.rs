//! `completions` and `man`: for packages, made from the same source as `--help`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::failure::Failure;
use super::manual::pages;
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
  upspool man upspool.toml | man -l -       the page of the configuration file
  upspool man retry | man -l -              the page of a command
  upspool man --dir /usr/local/share/man    all of them")]
pub struct Manual {
    /// A command, or upspool.toml [default: the program]
    page: Option<String>,
    /// Write all pages into man1 and man5 of this directory
    #[arg(long, value_name = "DIR", conflicts_with = "page")]
    dir: Option<PathBuf>,
}

pub(super) fn completions(arguments: &Completions) -> Result<u8, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "upspool", &mut text);
    print(&text)
}

pub(super) fn manual(arguments: &Manual) -> Result<u8, Failure> {
    let pages = pages(Cli::command());
    if let Some(dir) = &arguments.dir {
        for page in pages {
            let path = dir.join(page.path());
            let parent = path.parent().unwrap_or(dir);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, page.text))
                .map_err(|error| Failure::said(format!("{}: {error}", shown(&path))))?;
        }
        return Ok(0);
    }
    let asked = arguments.page.as_deref().unwrap_or("upspool");
    let page = pages.iter().find(|page| page.name.strip_prefix("upspool-").unwrap_or(&page.name) == asked);
    let page = page.ok_or_else(|| {
        Failure::said(format!(
            "there is no page {asked}; say a command, upspool.toml, or nothing for the program's"
        ))
    })?;
    print(page.text.as_bytes())
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
        manual(&Manual { page: None, dir: Some(dir.path().join("man")) }).unwrap();
        let read = |page: &str| fs::read_to_string(dir.path().join("man").join(page)).unwrap();
        for command in Cli::command().get_subcommands() {
            let page = read(&format!("man1/upspool-{}.1", command.get_name()));
            for part in [".TH", "SYNOPSIS", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
                assert!(page.contains(part), "{part}: {page}");
            }
        }
        let program = read("man1/upspool.1");
        for part in ["upspool\\-resolve", "ENVIRONMENT", "FILES", "\\fB75\\fR"] {
            assert!(program.contains(part), "{part}: {program}");
        }
        assert!(read("man5/upspool.toml.5").contains(".TH upspool.toml 5"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "upspool", &mut text);
            assert!(String::from_utf8(text).unwrap().contains("resolve"), "{shell}");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_and_a_page_that_there_is_not_are_named() {
        let words = |arguments: Manual| match manual(&arguments).unwrap_err() {
            Failure::Said(words) => words,
            other => panic!("{other:?}"),
        };
        let missing = words(Manual { page: None, dir: Some("/dev/null".into()) });
        assert!(missing.starts_with("/dev/null/man1/upspool.1: "), "{missing}");
        assert!(words(Manual { page: Some("lost".into()), dir: None }).contains("no page lost"));
    }
}
