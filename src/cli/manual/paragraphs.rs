//! Plain text as a page has it: what stands in backticks is bold, and examples stay as they are.

use roff::{Inline, Roff, bold, roman};

/// One paragraph of running text.
pub(super) fn paragraph(page: &mut Roff, text: &str) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    page.text(words(&text));
}

/// Text in which every second piece between backticks is bold.
pub(super) fn words(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate().filter(|(_, piece)| !piece.is_empty());
    pieces.map(|(index, piece)| if index % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}

/// A name, and below it what it means.
pub(super) fn described(page: &mut Roff, name: Vec<Inline>, meaning: &str) {
    page.control("TP", []);
    page.text(name);
    if !meaning.trim().is_empty() {
        paragraph(page, meaning);
    }
}

/// Lines as they stand.
pub(super) fn example(page: &mut Roff, lines: &[String]) {
    page.control("EX", []);
    for line in lines {
        page.text([roman(line.as_str())]);
    }
    page.control("EE", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_backticks_is_bold_and_nothing_is_a_request_of_roff() {
        assert_eq!(words("as `run` does"), [roman("as "), bold("run"), roman(" does")]);
        assert_eq!(words("`run`"), [bold("run")]);
        let mut page = Roff::new();
        paragraph(&mut page, ".so /etc/passwd\n  and 'more");
        example(&mut page, &[".de evil".to_owned(), r"a\b".to_owned()]);
        assert_eq!(page.to_roff(), "\\&.so /etc/passwd and 'more\n.EX\n\\&.de evil\na\\\\b\n.EE\n");
    }
}
