use super::*;
use proptest::prelude::*;

fn look(rules: Rules, content: &[u8]) -> Report {
    let mut checker = Checker::new(rules, Report::default());
    checker.take(content);
    checker.finish()
}

fn faults(rules: Rules, content: impl AsRef<[u8]>) -> Vec<String> {
    let report = look(rules, content.as_ref());
    assert_eq!(report.faults.len() as u64, report.total.min(TOLD as u64));
    report.faults
}

fn request(id: &str) -> String {
    format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/responses","body":{{"input":"x"}}}}"#)
}

#[test]
fn what_is_right_has_no_fault() {
    let batch = [request("a"), request("b")].join("\n");
    for content in
        [batch.clone(), format!("{batch}\n"), batch.replace('\n', "\r\n"), format!("{batch}\n\n \n")]
    {
        assert_eq!(faults(Rules::Batch, &content), [""; 0], "{content}");
    }
    assert_eq!(faults(Rules::FineTune, "{\"messages\":[]}\n{}\n"), [""; 0]);
    assert_eq!(faults(Rules::Lines, "1\n\"two\"\n[3]\n{\"\u{fc}\":null}"), [""; 0]);
    // Keys may be escaped, and what else is in a request is not looked at.
    let odd =
        r#" {"x":[1e999,{"body":0}],"custom\u005fid":"\u00fc","method":"POST","url":"/v1/x","body":{} } "#;
    assert_eq!(faults(Rules::Batch, odd), [""; 0]);
}

#[test]
fn each_fault_of_a_batch_is_told_with_its_line() {
    let good = request("first");
    for (line, expected) in [
        ("[\"a\",\"POST\",\"/v1/responses\",{}]", "it is no JSON object"),
        ("\"text\"", "it is no JSON object"),
        ("{\"custom_id\":", "it is not JSON: EOF while parsing a value, at byte 13"),
        ("{'custom_id':1}", "it is not JSON: key must be a string, at byte 2"),
        ("{} {}", "it is not JSON: trailing characters, at byte 4"),
        (&good.replace("\"first\"", "5"), "custom_id is not a text"),
        (&good.replace("first", ""), "custom_id is empty"),
        (&good.replace("custom_id", "id"), "custom_id is missing"),
        (&good, "custom_id \"first\" is that of line 1 too"),
        (&request("b").replace("POST", "GET"), "method is \"GET\", not \"POST\""),
        (&request("b").replace("\"POST\"", "true"), "method is not a text"),
        (&request("b").replace("method", "verb"), "method is missing"),
        (&request("b").replace("/v1/", "/v2/"), "url is \"/v2/responses\", and does not begin with /v1/"),
        (
            &request("b").replace("responses", "embeddings"),
            "url is \"/v1/embeddings\", and on line 1 it is \"/v1/responses\"",
        ),
        (&request("b").replace("\"/v1/responses\"", "[]"), "url is not a text"),
        (&request("b").replace("url", "uri"), "url is missing"),
        (&request("b").replace("{\"input\":\"x\"}", "\"{}\""), "body is not an object"),
        (&request("b").replace("body", "data"), "body is missing"),
        (&format!("{{\"method\":\"POST\",{}", &request("b")[1..]), "duplicate field `method`, at byte"),
    ] {
        let found = faults(Rules::Batch, format!("{good}\n{line}\n{}\n", request("last")));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].starts_with(&format!("line 2: {expected}")), "{line}: {found:?}");
    }
    let several = faults(Rules::Batch, "{}");
    assert_eq!(
        several,
        ["custom_id is missing", "method is missing", "url is missing", "body is missing"]
            .map(|words| format!("line 1: {words}"))
    );
}

#[test]
fn what_is_no_text_of_lines_is_told_once() {
    let utf16: Vec<u8> = "{}\n{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "{}\n{}\n".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [&[0xff, 0xfe], utf16.as_slice()].concat();
    for content in [&utf16, &big, &marked] {
        assert_eq!(faults(Rules::Lines, content), ["line 1: it is UTF-16, not UTF-8"]);
    }
    assert_eq!(faults(Rules::Lines, "\u{feff}{}\n{}"), ["line 1: it begins with a byte order mark"]);
    assert_eq!(faults(Rules::Lines, b"{}\n{\"a\":\"\xff\"}"), ["line 2: byte 7 of it is not UTF-8"]);
    for empty in ["", "\n", "\r\n\n  \n"] {
        assert_eq!(faults(Rules::Lines, empty), ["there are no lines in it"], "{empty:?}");
    }
    assert_eq!(
        faults(Rules::Lines, "{}\n\n{}\n \n\t\r\n{}\n\n"),
        ["line 2: it is empty", "lines 4 to 5: they are empty"]
    );
    assert_eq!(faults(Rules::FineTune, "{}\n[]\n"), ["line 2: it is no JSON object"]);
    assert_eq!(faults(Rules::Lines, "{}\nnope"), ["line 2: it is not JSON: expected ident, at byte 2"]);
}

#[test]
fn thousands_of_faults_are_counted_and_the_first_are_told() {
    let report = look(Rules::Lines, "x\n".repeat(5000).as_bytes());
    assert_eq!((report.faults.len(), report.total), (TOLD, 5000));
    assert_eq!(report.warnings().last().unwrap(), "and 4980 more");
    assert_eq!(report.summary().unwrap(), "line 1: it is not JSON: expected value, at byte 1; and 4999 more");
    let one = look(Rules::Lines, b"x");
    assert_eq!(one.summary().unwrap(), "line 1: it is not JSON: expected value, at byte 1");
    assert_eq!(Report::default().summary(), None);
}

#[test]
fn lines_that_are_too_long_and_too_many_lines_are_faults_and_no_memory() {
    let mut checker = Checker::new(Rules::Lines, Report::default());
    checker.take(b"{}\n\"");
    let mut most = 0;
    for _ in 0..40 {
        checker.take(&[b'x'; 1024 * 1024]);
        most = most.max(checker.begun.capacity());
    }
    checker.take(b"\"\nnope\n");
    assert!(most <= 2 * LONGEST_LINE, "{most}");
    let report = checker.finish();
    assert_eq!(report.faults[0], "line 2: longer than 16777216 bytes");
    assert!(report.faults[1].starts_with("line 3: it is not JSON"), "{report:?}");

    let mut batch = String::new();
    for number in 0..MOST_BATCH_LINES + 9 {
        batch.push_str(&request(&number.to_string()));
        batch.push('\n');
    }
    assert_eq!(faults(Rules::Batch, batch), ["line 50001: a batch has at most 50000 lines"]);
}

#[test]
fn the_name_is_only_ever_a_hint_and_the_size_of_a_batch_is_a_fault() {
    let outside = |purpose: &str, name: &str| {
        Report::of_outside(Rules::of(purpose, name), purpose, name, MOST_BATCH_BYTES)
    };
    for (purpose, name, rules, odd) in [
        ("batch", "a.jsonl", Some(Rules::Batch), false),
        ("batch", "a.JSONL", Some(Rules::Batch), false),
        ("batch", "a.txt", Some(Rules::Batch), true),
        ("fine-tune", "jsonl", Some(Rules::FineTune), true),
        ("evals", "a.jsonl", Some(Rules::Lines), false),
        ("user_data", "a.jsonl", Some(Rules::Lines), false),
        ("user_data", "a.bin", None, false),
        ("vision", "a.PNG", None, false),
        ("vision", "a.bmp", None, true),
        ("assistants", "a.md", None, false),
        ("assistants", "a.iso", None, true),
        ("another", "a.iso", None, false),
    ] {
        assert_eq!(Rules::of(purpose, name), rules, "{purpose} {name}");
        let report = outside(purpose, name);
        assert_eq!((report.hints.len(), report.total), (usize::from(odd), 0), "{purpose} {name}: {report:?}");
    }
    let hint = outside("vision", "a.bmp");
    assert_eq!(
        hint.summary().unwrap(),
        "its name does not end as vision is known to take: .gif, .jpeg, .jpg, .png, .webp"
    );
    let large = Report::of_outside(Some(Rules::Batch), "batch", "a.txt", MOST_BATCH_BYTES + 1);
    assert_eq!((large.total, large.warnings().len()), (1, 2));
    assert!(large.summary().unwrap().ends_with("at most 209715200; and 1 more"), "{large:?}");
}

#[test]
fn what_is_quoted_is_short_and_on_one_line() {
    let id = format!("\\u001b[31m\\n{}", "x".repeat(500));
    let line = request(&id);
    let found = faults(Rules::Batch, format!("{line}\n{line}"));
    assert!(found[0].len() < 150 && !found[0].contains(['\u{1b}', '\n']), "{found:?}");
}

/// Lines as they are, and as they should not be.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[ab]".prop_map(|id| request(&id).into_bytes()),
        Just(b"{}".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(b"\"\xff\"".to_vec()),
        Just(b"[1,2".to_vec()),
        Just("\u{feff}".as_bytes().to_vec()),
        Just(b"\xff\xfe".to_vec()),
        Just(b"\0".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut(
        content in pieces(),
        cuts in proptest::collection::vec(1usize..9, 1..30),
    ) {
        for rules in [Rules::Batch, Rules::FineTune, Rules::Lines] {
            let whole = look(rules, &content);
            let mut checker = Checker::new(rules, Report::default());
            let mut rest = content.as_slice();
            for cut in cuts.iter().cycle() {
                // Most pieces are short, and one in eight has many lines.
                let (piece, more) = rest.split_at(if *cut == 8 { 200 } else { *cut }.min(rest.len()));
                if !checker.take(piece) || !checker.take(b"") || more.is_empty() {
                    break;
                }
                rest = more;
            }
            prop_assert_eq!(checker.finish(), whole);
        }
    }
}
