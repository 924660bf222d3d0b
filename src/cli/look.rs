//! How text is laid out for whoever reads it: pure, with what their terminal can show as an argument.

use std::borrow::Cow;

use crate::model::job::State;
use crate::text::{ascii, width};

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Columns of the terminal; none if it is no terminal, and then nothing is cut or wrapped.
    pub(super) columns: Option<usize>,
    pub(super) colour: bool,
    /// Characters beyond ASCII.
    pub(super) unicode: bool,
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

/// A text of which some stands out.
#[derive(Clone, Debug, Default)]
pub(super) struct Text(Vec<(Style, String)>);

impl Text {
    pub(super) fn new(text: impl Into<String>) -> Text {
        Text(vec![(Style::Plain, text.into())])
    }

    pub(super) fn styled(style: Style, text: impl Into<String>) -> Text {
        Text(vec![(style, text.into())])
    }

    /// The same with more behind it.
    pub(super) fn and(self, text: impl Into<String>) -> Text {
        self.and_styled(Style::Plain, text)
    }

    /// The same with another text behind it.
    pub(super) fn and_all(mut self, mut other: Text) -> Text {
        self.0.append(&mut other.0);
        self
    }

    /// The same with more behind it, which stands out.
    pub(super) fn and_styled(mut self, style: Style, text: impl Into<String>) -> Text {
        self.0.push((style, text.into()));
        self
    }
}

impl Look {
    /// No terminal.
    #[cfg(test)]
    pub(super) const PIPE: Look = Look { columns: None, colour: false, unicode: true };

    /// A text with characters that can be shown.
    pub(super) fn shows<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.unicode || text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(ascii(text)) }
    }

    /// Stands for what was left out, one column wide.
    pub(super) fn mark(&self) -> char {
        if self.unicode { '…' } else { '~' }
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

    /// The text on lines that fit, broken at blanks where it can be: the first behind `indent` blanks, the others behind
    /// `hanging`.
    pub(super) fn lines(&self, text: &Text, indent: usize, hanging: usize) -> Vec<String> {
        let mut page =
            Page { look: *self, lines: Vec::new(), line: " ".repeat(indent), used: indent, hanging };
        let mut is_first = true;
        for (style, text) in &text.0 {
            for (place, word) in self.shows(text).split(' ').enumerate() {
                page.word(*style, word, place > 0, is_first);
                is_first = false;
            }
        }
        page.lines.push(page.line);
        page.lines
    }

    /// How much of it is done, in ten steps.
    pub(super) fn bar(&self, percent: u64) -> String {
        let done = usize::try_from(percent / 10).unwrap_or(10).min(10);
        if self.unicode {
            "█".repeat(done) + &"░".repeat(10 - done)
        } else {
            format!("[{}{}]", "#".repeat(done), ".".repeat(10 - done))
        }
    }
}

/// Lines that are being filled.
struct Page {
    look: Look,
    lines: Vec<String>,
    line: String,
    used: usize,
    hanging: usize,
}

impl Page {
    /// A word, behind a blank if `apart`; `is_first`: the line has nothing but its indent.
    fn word(&mut self, style: Style, word: &str, apart: bool, is_first: bool) {
        let wide = width(word);
        let blank = usize::from(apart);
        let fits = self.look.columns.is_none_or(|columns| self.used + blank + wide <= columns);
        if fits {
            self.line.push_str(if apart { " " } else { "" });
            self.line.push_str(&self.look.styled(style, word));
            self.used += blank + wide;
            return;
        }
        if apart && !is_first {
            self.next();
        }
        // What fits on no line is broken anywhere.
        let mut piece = String::new();
        for character in word.chars() {
            let wide = width(character.encode_utf8(&mut [0; 4]));
            if self.look.columns.is_some_and(|columns| self.used + wide > columns && self.used > self.hanging)
            {
                self.line.push_str(&self.look.styled(style, &piece));
                piece.clear();
                self.next();
            }
            piece.push(character);
            self.used += wide;
        }
        self.line.push_str(&self.look.styled(style, &piece));
    }

    fn next(&mut self) {
        self.lines.push(std::mem::replace(&mut self.line, " ".repeat(self.hanging)));
        self.used = self.hanging;
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

/// Whether the locale has characters beyond ASCII, by the first of these variables that says anything. Where none does
/// everything is UTF-8 nowadays; systemd sees it so as well.
pub(super) fn is_unicode(variable: impl Fn(&str) -> Option<String>) -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(variable).find(|said| !said.is_empty());
    said.is_none_or(|said| {
        let said = said.to_ascii_lowercase();
        said.contains("utf-8") || said.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW: Look = Look { columns: Some(20), colour: false, unicode: true };

    #[test]
    fn words_are_broken_at_blanks_and_long_ones_anywhere() {
        let text = Text::styled(Style::Red, "On hold").and(": the key was refused by the server");
        assert_eq!(NARROW.lines(&text, 0, 2), ["On hold: the key was", "  refused by the", "  server"]);
        assert_eq!(Look::PIPE.lines(&text, 2, 4), ["  On hold: the key was refused by the server"]);
        let long = Text::new("see /a/very/long/path/in/one/word and more");
        assert_eq!(
            NARROW.lines(&long, 2, 4),
            ["  see", "    /a/very/long/pat", "    h/in/one/word", "    and more"]
        );
        let wide = Text::new("報告書報告書報告書報告書");
        assert_eq!(NARROW.lines(&wide, 1, 3), [" 報告書報告書報告書", "   報告書"]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_whatever_the_text() {
        let text =
            Text::new("ab  報告書 /a/very/long/path ").and_styled(Style::Red, "🚀🚀🚀 e\u{301}").and("x");
        for columns in 8..40 {
            let look = Look { columns: Some(columns), ..NARROW };
            for line in look.lines(&text, 2, 4) {
                assert!(width(&line) <= columns, "{line:?} in {columns}");
            }
        }
    }

    #[test]
    fn only_what_stands_out_is_styled() {
        let look = Look { columns: Some(12), colour: true, unicode: true };
        let text = Text::styled(Style::Red, "On hold").and(": no key");
        assert_eq!(look.lines(&text, 0, 2), ["\x1b[31mOn\x1b[0m \x1b[31mhold\x1b[0m: no", "  key"]);
    }

    #[test]
    fn a_bar_has_ten_steps_and_what_it_is_made_of_can_be_shown() {
        let plain = Look { unicode: false, ..NARROW };
        for (percent, unicode, ascii) in [
            (0, "░░░░░░░░░░", "[..........]"),
            (46, "████░░░░░░", "[####......]"),
            (99, "█████████░", "[#########.]"),
            (100, "██████████", "[##########]"),
        ] {
            assert_eq!((NARROW.bar(percent), plain.bar(percent)), (unicode.into(), ascii.into()));
        }
        assert_eq!(plain.shows("é"), "\\xc3\\xa9");
    }

    #[test]
    fn a_locale_that_is_said_to_be_plain_is_believed() {
        let locale = |variables: &'static [(&'static str, &'static str)]| {
            is_unicode(|name| {
                variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(locale(&[]));
        assert!(locale(&[("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LANG", "C.utf8")]));
        assert!(!locale(&[("LANG", "C")]));
        assert!(!locale(&[("LANG", "de_DE.ISO-8859-1")]));
        assert!(!locale(&[("LC_ALL", "POSIX"), ("LANG", "de_DE.UTF-8")]));
        assert!(locale(&[("LC_ALL", ""), ("LANG", "de_DE.UTF-8")]));
    }
}
