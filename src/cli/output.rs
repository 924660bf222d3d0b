//! Standard output: the one place that writes there.

use std::fmt::Arguments;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use super::failure::Failure;
use crate::model::job::State;

/// Standard output, and what can be had of it.
pub(super) struct Output {
    writer: BufWriter<Stdout>,
    /// Columns of the terminal; none if it is no terminal, and then nothing is cut.
    pub(super) columns: Option<usize>,
    colour: bool,
    /// Lines that still fit on the screen, while one is drawn.
    frame: Option<usize>,
}

/// How a text stands out on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Style {
    #[default]
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Output {
    pub(super) fn new() -> Output {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let columns = rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        // https://no-color.org: present and not empty.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Output {
            writer: BufWriter::new(stdout),
            columns: columns.filter(|columns| is_terminal && *columns > 0),
            colour: is_terminal && !no_colour && !dumb,
            frame: None,
        }
    }

    /// Whether a screen can be drawn anew in its place.
    pub(super) fn can_redraw(&self) -> bool {
        self.columns.is_some() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
    }

    /// Begins a screen in the place of the last one. The window may have another size by now.
    pub(super) fn begin_frame(&mut self, is_first: bool) -> Result<(), Failure> {
        let window = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let size = |size: u16| Some(usize::from(size)).filter(|size| *size > 0);
        self.columns = window.and_then(|window| size(window.ws_col)).or(self.columns);
        // The last line stays empty, or the terminal scrolls.
        self.frame = Some(window.and_then(|window| size(window.ws_row)).map_or(usize::MAX, |rows| rows - 1));
        Ok(self.writer.write_all(if is_first { b"\x1b[2J\x1b[H" } else { b"\x1b[H" })?)
    }

    /// Ends it: what the last one had below is taken away.
    pub(super) fn end_frame(&mut self) -> Result<(), Failure> {
        self.frame = None;
        self.writer.write_all(b"\x1b[J")?;
        self.flush()
    }

    /// One line.
    pub(super) fn line(&mut self, line: Arguments<'_>) -> Result<(), Failure> {
        match &mut self.frame {
            None => Ok(writeln!(self.writer, "{line}")?),
            Some(0) => Ok(()),
            Some(1) => {
                self.frame = Some(0);
                Ok(writeln!(self.writer, "…\x1b[K")?)
            }
            Some(left) => {
                *left -= 1;
                // What a longer line left there is taken away.
                Ok(writeln!(self.writer, "{line}\x1b[K")?)
            }
        }
    }

    /// One object on one line.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.writer, value).map_err(io::Error::from)?;
        Ok(writeln!(self.writer)?)
    }

    /// A text as it is.
    pub(super) fn bytes(&mut self, text: &[u8]) -> Result<(), Failure> {
        Ok(self.writer.write_all(text)?)
    }

    /// All of it is on its way now.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.flush()?)
    }

    /// The text with what makes it stand out, where that can be seen.
    pub(super) fn styled(&self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Cyan => "36",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Style {
    /// How a state stands out.
    pub(super) fn of(state: State) -> Style {
        match state {
            State::Queued => Style::Plain,
            State::Uploading | State::Completing => Style::Cyan,
            State::Stored => Style::Green,
            State::Failed | State::Unresolved => Style::Red,
            State::Skipped | State::Cancelled | State::Gone => Style::Dim,
        }
    }
}
