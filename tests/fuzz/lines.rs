//! What is in files of lines: as it is looked at before it is sent.

use serde_json::Value;
use upspool::model::preflight::{Checker, Report, Rules};

use crate::{Session, is_one_line};

const SEEDS: [&[u8]; 8] = [
    b"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{\"input\":[1,\"x\"]}}\n\
      {\"custom_id\":\"b\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{}}\n",
    b"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/x\",\"body\":{}}\n\n{\"custom_id\":\"a\"}",
    b"{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00fc \\ud83d\\ude00\"}]}\r\n{}\r\n",
    b"[1, 2.5e-3, -0, true, null, \"\\\"\\\\\"]\n\"text\"\n",
    b"\xef\xbb\xbf{}\n{}\n",
    b"\xff\xfe{\0}\0\n\0",
    b"\n \n\t\n{}\n\n",
    "{\"k\u{e9}y\":\"\u{65e5}\u{672c}\"}\n".as_bytes(),
];

/// The longest sentence about a file: a quote of two texts, each at most 60 characters and up to ten times as long when it is
/// escaped.
const LONGEST: usize = 1500;

fn look(rules: Rules, content: &[u8], mut length: impl FnMut() -> usize) -> Report {
    let mut checker = Checker::new(rules, Report::default());
    let mut rest = content;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(length().clamp(1, rest.len()));
        if !checker.take(piece) {
            break;
        }
        rest = more;
    }
    checker.finish()
}

/// Whether every line is JSON for whoever builds all of it; nothing if that one has limits of its own.
fn is_right(content: &[u8]) -> Option<bool> {
    let text = std::str::from_utf8(content).ok()?;
    let mut lines = text.split('\n').map(|line| line.trim_matches([' ', '\t', '\r', '\u{c}']));
    lines.try_fold(true, |right, line| match serde_json::from_str::<Value>(line) {
        _ if line.is_empty() => None,
        Ok(_) => Some(right),
        Err(fault) => {
            let words = fault.to_string();
            let own = ["recursion", "range", "surrogate", "escape"].iter().any(|word| words.contains(word));
            (!own).then_some(false)
        }
    })
}

#[test]
fn lines_that_are_looked_at_before_they_are_sent() {
    let (mut session, mut mutator) = Session::new("lines");
    while session.goes_on() {
        let content = if mutator.below(8) == 0 { mutator.bytes(200) } else { mutator.mutant(&SEEDS) };
        for rules in [Rules::Batch, Rules::FineTune, Rules::Lines] {
            let report = look(rules, &content, || usize::MAX);
            let most = [1, 2, 7, 100][mutator.below(4)];
            let cut = look(rules, &content, || 1 + mutator.below(most));
            assert_eq!(cut, report, "{}", content.escape_ascii());
            assert_eq!(report.total == 0, report.warnings().is_empty(), "{report:?}");
            assert!(report.warnings().len() <= 21, "{report:?}");
            for words in report.warnings().iter().chain(&report.summary()) {
                is_one_line(words, &content);
                assert!(words.len() <= LONGEST, "{words}");
            }
            let encoded =
                content.starts_with(b"\xef\xbb\xbf") || content[..content.len().min(2)].contains(&0);
            if let Some(right) = is_right(&content).filter(|_| rules == Rules::Lines && !encoded) {
                assert_eq!(report.total == 0, right, "{} {report:?}", content.escape_ascii());
            }
        }
    }
    session.end();
}
