//! Standard output: the one place that writes there.

use std::fmt::Arguments;
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use super::failure::Failure;
use super::look::{Look, Style, Text, is_unicode};

/// One write for a whole screen, so that it does not flicker.
const SCREEN: usize = 256 * 1024;

/// Standard output, and what can be shown on it.
pub(super) struct Output {
    writer: BufWriter<Stdout>,
    pub(super) look: Look,
}

impl Output {
    pub(super) fn new() -> Output {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        // https://no-color.org: present and not empty.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let look = Look {
            columns: window().map(|(columns, _)| columns).filter(|_| is_terminal),
            colour: is_terminal && !no_colour && understands_escapes(),
            unicode: !is_terminal || is_unicode(|name| std::env::var(name).ok()),
        };
        Output { writer: BufWriter::with_capacity(SCREEN, stdout), look }
    }

    /// Whether a screen can be drawn anew in its place.
    pub(super) fn can_redraw(&self) -> bool {
        self.look.columns.is_some() && understands_escapes()
    }

    /// One line.
    pub(super) fn line(&mut self, line: Arguments<'_>) -> Result<(), Failure> {
        if self.look.unicode {
            return Ok(writeln!(self.writer, "{line}")?);
        }
        let line = line.to_string();
        Ok(writeln!(self.writer, "{}", self.look.shows(&line))?)
    }

    /// A text, on as many lines as it needs.
    pub(super) fn text(&mut self, text: &Text, indent: usize, hanging: usize) -> Result<(), Failure> {
        let lines = self.look.lines(text, indent, hanging);
        self.lines(&lines)
    }

    /// Lines that were laid out.
    pub(super) fn lines(&mut self, lines: &[String]) -> Result<(), Failure> {
        lines.iter().try_for_each(|line| Ok(writeln!(self.writer, "{line}")?))
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
        self.look.styled(style, text)
    }
}

/// A terminal that does what it is told, <https://no-color.org> aside: one that is called `dumb` or nothing does not.
fn understands_escapes() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// Columns and rows of the terminal, if it says.
fn window() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some((usize::from(size.ws_col), usize::from(size.ws_row)))
        .filter(|(columns, rows)| *columns > 0 && *rows > 0)
}

/// A screen of its own, that is drawn anew in its place; what was there before comes back at the end.
pub(super) struct Screen {
    output: Output,
    last: Vec<String>,
    shown: bool,
}

impl Screen {
    pub(super) fn new(output: Output) -> Screen {
        Screen { output, last: Vec::new(), shown: false }
    }

    /// What can be shown now: the window may have another size than before.
    pub(super) fn look(&mut self) -> Look {
        if let Some((columns, _)) = window() {
            self.output.look.columns = Some(columns);
        }
        self.output.look
    }

    /// Draws these lines; `anew`: over whatever is there by now.
    pub(super) fn draw(&mut self, lines: Vec<String>, anew: bool) -> Result<(), Failure> {
        let rows = window().map_or(usize::MAX, |(_, rows)| rows);
        let lines = fitted(lines, rows, self.output.look);
        let mut frame = String::new();
        if !self.shown {
            // The other screen, without the cursor.
            frame.push_str("\x1b[?1049h\x1b[?25l");
            self.shown = true;
        }
        frame.push_str(if anew { "\x1b[2J\x1b[H" } else { "\x1b[H" });
        for (index, line) in lines.iter().enumerate() {
            // Cleared before it is written: after the last column the cursor still stands on it.
            frame.push_str(if index == 0 { "\x1b[K" } else { "\r\n\x1b[K" });
            frame.push_str(line);
        }
        if lines.len() < rows {
            frame.push_str("\r\n\x1b[J");
        }
        self.last = lines;
        self.output.bytes(frame.as_bytes())?;
        self.output.flush()
    }

    /// Gives the terminal back as it was.
    pub(super) fn leave(&mut self) -> Result<(), Failure> {
        if self.shown {
            self.shown = false;
            self.output.bytes(b"\x1b[?25h\x1b[?1049l")?;
            self.output.flush()?;
        }
        Ok(())
    }

    /// The same for good: the last picture stays to be read.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.leave()?;
        let last = std::mem::take(&mut self.last);
        self.output.lines(&last)?;
        self.output.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever took the terminal away does not want it back.
        let _ = self.leave();
    }
}

/// As many lines as there are rows; the last says how many are left out.
fn fitted(mut lines: Vec<String>, rows: usize, look: Look) -> Vec<String> {
    if lines.len() > rows {
        let kept = rows.saturating_sub(1);
        let more = format!("{} {} more lines; a higher window shows them", look.mark(), lines.len() - kept);
        lines.truncate(kept);
        lines.extend(look.lines(&Text::styled(Style::Dim, more), 0, 0).into_iter().next());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_a_screen_is_counted() {
        let lines = |count: usize| (1..=count).map(|line| line.to_string()).collect::<Vec<_>>();
        assert_eq!(fitted(lines(3), 3, Look::PIPE), lines(3));
        assert_eq!(fitted(lines(5), 3, Look::PIPE), ["1", "2", "… 3 more lines; a higher window shows them"]);
        assert_eq!(fitted(lines(5), 1, Look::PIPE).len(), 1);
    }
}
