//! upspool.toml(5), made of `config/upspool.toml`: each key with the comment that stands before it.

use roff::{Roff, bold, roman};

use super::paragraphs::{described, example, paragraph, words};
use super::{Page, heading, title};

pub(super) const NAME: &str = "upspool.toml";

/// The file that has every key.
const SOURCE: &str = include_str!("../../../config/upspool.toml");

/// What stands in it, in its order.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// `[api]`, as it is written.
    Table(&'a str),
    /// Comments, one paragraph.
    Text(String),
    /// Lines that are indented in a comment.
    Example(Vec<String>),
    /// A key with its value, the comment before it, and what else it may be.
    Key { line: &'a str, has_default: bool, text: String, or: Vec<&'a str> },
}

pub(super) fn page() -> Page {
    let mut page = Roff::new();
    title(&mut page, NAME, "5", "configuration of upspool");
    heading(&mut page, "DESCRIPTION");
    let mut begins = true;
    for piece in pieces(SOURCE) {
        match piece {
            Piece::Table(name) => {
                heading(&mut page, name);
                begins = true;
                continue;
            }
            Piece::Text(text) => {
                if !begins {
                    page.control("PP", []);
                }
                paragraph(&mut page, &text);
            }
            Piece::Example(lines) => {
                page.control("RS", ["4"]);
                example(&mut page, &lines);
                page.control("RE", []);
            }
            Piece::Key { line, has_default, text, or } => {
                let unset = if has_default { "" } else { "    (not set)" };
                described(&mut page, vec![bold(line), roman(unset)], &text);
                for other in or {
                    page.control("IP", []);
                    page.text(words(&format!("Or: `{other}`")));
                }
            }
        }
        begins = false;
    }
    heading(&mut page, "SEE ALSO");
    page.text([bold("upspool"), roman("(1), "), bold("upspool-check"), roman("(1)")]);
    Page::new(NAME, 5, &page)
}

fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut text: Vec<&str> = Vec::new();
    let mut shown: Vec<String> = Vec::new();
    for line in source.lines() {
        let comment = line.strip_prefix('#').map(|rest| rest.strip_prefix(' ').unwrap_or(rest));
        if let Some(example) = comment.and_then(|comment| comment.strip_prefix("    ")) {
            end(&mut pieces, &mut text);
            shown.push(example.to_owned());
            continue;
        }
        if !shown.is_empty() {
            pieces.push(Piece::Example(std::mem::take(&mut shown)));
        }
        match comment {
            Some("") => end(&mut pieces, &mut text),
            Some(comment) if comment.starts_with("Or: ") => {
                if let Some(Piece::Key { or, .. }) = pieces.last_mut() {
                    or.push(comment.trim_start_matches("Or: "));
                }
            }
            Some(comment) if is_key(comment) => pieces.push(key(comment, false, &mut text)),
            Some(comment) => text.push(comment),
            None if line.is_empty() => end(&mut pieces, &mut text),
            None if line.starts_with('[') => {
                let before = std::mem::take(&mut text);
                pieces.push(Piece::Table(line));
                text = before;
                end(&mut pieces, &mut text);
            }
            None => pieces.push(key(line, true, &mut text)),
        }
    }
    end(&mut pieces, &mut text);
    pieces
}

fn end<'a>(pieces: &mut Vec<Piece<'a>>, text: &mut Vec<&str>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(std::mem::take(text).join(" ")));
    }
}

fn key<'a>(line: &'a str, has_default: bool, text: &mut Vec<&str>) -> Piece<'a> {
    Piece::Key { line, has_default, text: std::mem::take(text).join(" "), or: Vec::new() }
}

/// Whether a comment is a key that has no default, and so is commented out.
fn is_key(comment: &str) -> bool {
    comment
        .split_once(" = ")
        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_taken_apart_into_what_a_page_says() {
        let source = "# Every key.\n# Two lines.\n#\n# Another.\n\n[api]\n# The server.\nbase_url = \"x\"\n# key_file = \"/k\"\n\n\
                      # More of it.\n#\n#     [accounts.eu]\n#     base_url = \"y\"\n\n# Each one.\n[[folder]]\n# Then.\n\
                      after = \"keep\"\n# Or: after = \"delete\"\n";
        let key =
            |line, has_default, text: &str, or| Piece::Key { line, has_default, text: text.to_owned(), or };
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(
            pieces(source),
            [
                text("Every key. Two lines."),
                text("Another."),
                Piece::Table("[api]"),
                key("base_url = \"x\"", true, "The server.", vec![]),
                key("key_file = \"/k\"", false, "", vec![]),
                text("More of it."),
                Piece::Example(vec!["[accounts.eu]".to_owned(), "base_url = \"y\"".to_owned()]),
                Piece::Table("[[folder]]"),
                text("Each one."),
                key("after = \"keep\"", true, "Then.", vec!["after = \"delete\""]),
            ]
        );
    }

    #[test]
    fn every_line_of_the_file_is_on_the_page() {
        let text =
            page().text.replace("\\-", "-").replace("\\(ga", "`").replace("\\fB", "").replace("\\fR", "");
        let text = text.replace("\\*(Aq", "'").replace("\\&", "");
        let whole = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in
            SOURCE.lines().map(|line| line.trim_start_matches('#').trim()).filter(|line| !line.is_empty())
        {
            let line = line.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(whole.contains(&line), "{line}");
        }
    }
}
