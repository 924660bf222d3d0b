//! The manual pages: of the program, of each command, and of the configuration file. Nothing is written twice: they are
//! made of what `--help` says and of `config/upspool.toml`; what only a page has stands in `facts`.

mod facts;
mod file;
mod paragraphs;

use clap::builder::StyledStr;
use clap::{Arg, ArgAction, Command};
use roff::{Inline, Roff, bold, italic, roman};

use self::facts::{ENVIRONMENT, FILES, exits};
use self::paragraphs::{described, paragraph, words};

const PROGRAM: &str = "upspool";

/// One page.
#[derive(Debug)]
pub(super) struct Page {
    /// Without its section.
    pub(super) name: String,
    /// 1 for commands, 5 for files.
    pub(super) section: u8,
    /// As `man` reads it.
    pub(super) text: String,
}

impl Page {
    fn new(name: &str, section: u8, page: &Roff) -> Page {
        // roff reads a backtick as an opening quote.
        let text = page.render().replace('`', "\\(ga");
        Page { name: name.to_owned(), section, text }
    }

    /// Where it lies below a directory of manual pages.
    pub(super) fn path(&self) -> String {
        format!("man{0}/{1}.{0}", self.section, self.name)
    }
}

/// All pages, the program's first.
pub(super) fn pages(program: Command) -> Vec<Page> {
    // Else it has a page that says nothing.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().map(|command| page_of(command, &program));
    [page_of(&program, &program)].into_iter().chain(commands).chain([file::page()]).collect()
}

fn title(page: &mut Roff, name: &str, section: &str, about: &str) {
    let version = concat!("upspool ", env!("CARGO_PKG_VERSION"));
    // Without a date: it would be that of the build, and a build is to be the same every day.
    page.control("TH", [name, section, "\"\"", version, "upspool"]);
    heading(page, "NAME");
    page.text([roman(format!("{name} - {about}"))]);
}

fn heading(page: &mut Roff, name: &str) {
    page.control("SH", [name]);
}

/// What a command or argument says of itself.
fn said(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn page_of(command: &Command, program: &Command) -> Page {
    let is_program = command.get_name() == PROGRAM;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let help = Help::of(&said(command.get_after_long_help()));
    let mut page = Roff::new();
    title(&mut page, name, "1", &said(command.get_about()));
    heading(&mut page, "SYNOPSIS");
    page.text(synopsis(command));
    heading(&mut page, "DESCRIPTION");
    paragraph(&mut page, &format!("{}.", said(command.get_long_about().or(command.get_about()))));
    for text in &help.prose {
        page.control("PP", []);
        paragraph(&mut page, text);
    }
    options(&mut page, command);
    if is_program {
        heading(&mut page, "COMMANDS");
        for command in command.get_subcommands() {
            let name = vec![bold(format!("{PROGRAM}-{}", command.get_name())), roman("(1)")];
            described(&mut page, name, &said(command.get_about()));
        }
    }
    heading(&mut page, "EXIT STATUS");
    for (code, meaning) in exits(command.get_name()) {
        described(&mut page, vec![bold(code.to_string())], meaning);
    }
    if is_program {
        for (name, entries) in [("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)] {
            heading(&mut page, name);
            for (name, meaning) in entries {
                described(&mut page, words(name), meaning);
            }
        }
    }
    if !help.examples.is_empty() {
        heading(&mut page, "EXAMPLES");
        for line in &help.examples {
            // What is typed, and beside it what it does.
            let (typed, does) = line.split_once("  ").unwrap_or((line, ""));
            described(&mut page, vec![bold(typed)], does);
        }
    }
    heading(&mut page, "SEE ALSO");
    page.text(see_also(command, program));
    Page::new(name, 1, &page)
}

/// What stands below the options in `--help`, taken apart.
struct Help {
    prose: Vec<String>,
    examples: Vec<String>,
}

impl Help {
    fn of(text: &str) -> Help {
        let mut help = Help { prose: Vec::new(), examples: Vec::new() };
        for block in text.split("\n\n").filter(|block| !block.is_empty()) {
            match block.strip_prefix("Examples:\n") {
                Some(lines) => {
                    help.examples = lines.lines().map(|line| line.trim_start().to_owned()).collect()
                }
                // The page has a section of its own for them.
                None if block.starts_with("Exit codes: ") => {}
                None => help.prose.push(block.to_owned()),
            }
        }
        help
    }
}

fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(command.get_bin_name().unwrap_or_else(|| command.get_name()))];
    for option in command.get_arguments().filter(|one| !one.is_positional() && is_its_own(one)) {
        let (open, close) = if option.is_required_set() { (" ", "") } else { (" [", "]") };
        line.extend([roman(open), bold(format!("--{}", option.get_long().unwrap_or_default()))]);
        if option.get_action().takes_values() {
            line.extend([roman(" "), italic(value(option))]);
        }
        let again = if matches!(option.get_action(), ArgAction::Append) { "…" } else { "" };
        line.push(roman(format!("{close}{again}")));
    }
    for argument in command.get_positionals() {
        let (open, close) = if argument.is_required_set() { (" ", "") } else { (" [", "]") };
        let again = if matches!(argument.get_action(), ArgAction::Append) { "…" } else { "" };
        line.extend([roman(open), italic(value(argument)), roman(format!("{again}{close}"))]);
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" …")]);
    }
    line
}

fn value(argument: &Arg) -> String {
    argument.get_value_names().map(|names| names.join(" ")).unwrap_or_default()
}

/// Not one of those that every command has.
fn is_its_own(option: &Arg) -> bool {
    option.get_help_heading().is_none()
        && !matches!(
            option.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
}

/// The arguments, those of this command first.
fn options(page: &mut Roff, command: &Command) {
    let all: Vec<&Arg> = command.get_arguments().filter(|one| !one.is_hide_set()).collect();
    let (own, common): (Vec<&Arg>, Vec<&Arg>) =
        all.into_iter().partition(|one| one.get_help_heading().is_none());
    for (name, arguments) in [("OPTIONS", own), ("WITH EVERY COMMAND", common)] {
        if !arguments.is_empty() {
            heading(page, name);
        }
        for argument in arguments {
            described(page, names(argument), &meaning(argument));
        }
    }
}

fn names(argument: &Arg) -> Vec<Inline> {
    if argument.is_positional() {
        return vec![italic(value(argument))];
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let mut line = Vec::new();
    for name in short.into_iter().chain(long) {
        let comma = if line.is_empty() { "" } else { ", " };
        line.extend([roman(comma), bold(name)]);
    }
    if argument.get_action().takes_values() {
        line.extend([roman(" "), italic(value(argument))]);
    }
    line
}

fn meaning(argument: &Arg) -> String {
    let mut text = format!("{}.", said(argument.get_long_help().or(argument.get_help())));
    let possible = argument.get_possible_values();
    if argument.get_action().takes_values() && !possible.is_empty() {
        let names: Vec<&str> = possible.iter().map(|one| one.get_name()).collect();
        text.push_str(&format!(" One of {}.", names.join(", ")));
    }
    let default: Vec<_> = argument.get_default_values().iter().map(|one| one.to_string_lossy()).collect();
    if argument.get_action().takes_values() && !default.is_empty() {
        text.push_str(&format!(" The default is {}.", default.join(" ")));
    }
    text
}

fn see_also(command: &Command, program: &Command) -> Vec<Inline> {
    let mut pages = Vec::new();
    if command.get_name() == PROGRAM {
        pages.extend(
            program.get_subcommands().map(|command| (format!("{PROGRAM}-{}", command.get_name()), 1)),
        );
    } else {
        pages.push((PROGRAM.to_owned(), 1));
    }
    pages.push((file::NAME.to_owned(), 5));
    let mut line = Vec::new();
    for (name, section) in pages {
        let comma = if line.is_empty() { "" } else { ", " };
        line.extend([roman(comma), bold(name), roman(format!("({section})"))]);
    }
    line
}
