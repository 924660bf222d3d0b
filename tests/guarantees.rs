//! `docs/GUARANTEES.md` is true to the tests: each promise names some, each name is a test, and none is ignored.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "docs/GUARANTEES.md";

/// The promises are numbered from 1 to this.
const PROMISES: usize = 7;

/// Names of tests stand alone between backticks and are long: sentences of behaviour.
const SHORTEST: usize = 3;

/// Rust files below `directory`.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the repository can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|one| one == "rs") {
            found.push(path);
        }
    }
}

/// The tests in a text, with whether each is run without being asked for.
fn tests_in(text: &str) -> Vec<(String, bool)> {
    let (mut found, mut test, mut ignored) = (Vec::new(), false, false);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            ignored |= line.starts_with("#[ignore");
        } else if let Some(name) = test.then(|| name_of_fn(line)).flatten() {
            found.push((name, !ignored));
            (test, ignored) = (false, false);
        } else if !line.is_empty() && !line.starts_with("//") && !line.ends_with(']') {
            (test, ignored) = (false, false);
        }
    }
    found
}

fn name_of_fn(line: &str) -> Option<String> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let line = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    Some(line.chars().take_while(|one| one.is_alphanumeric() || *one == '_').collect())
}

/// The names of tests that a text gives, by the promise under whose heading they stand; with their lines.
fn named(text: &str) -> Vec<(Option<usize>, usize, String)> {
    let (mut promise, mut found) = (None, Vec::new());
    for (index, line) in text.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            promise = heading.split_once('.').and_then(|(number, _)| number.parse().ok());
        }
        // What stands between backticks is every second piece.
        for piece in line.split('`').skip(1).step_by(2) {
            let name = piece.rsplit("::").next().unwrap_or(piece);
            let word = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '_';
            if name.chars().all(word) && name.matches('_').count() >= SHORTEST {
                found.push((promise, index + 1, name.to_owned()));
            }
        }
    }
    found
}

#[test]
fn every_promise_names_tests_and_every_name_is_a_test_that_is_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests", "emulator"] {
        sources(&root.join(directory), &mut files);
    }
    let mut tests = BTreeMap::new();
    for file in &files {
        tests.extend(tests_in(&fs::read_to_string(file).unwrap()));
    }
    assert!(tests.len() > 250, "these are not all tests: {}", tests.len());
    let text = fs::read_to_string(root.join(DOCUMENT)).unwrap();
    let names = named(&text);
    let wrong: Vec<String> = names
        .iter()
        .filter_map(|(_, line, name)| match tests.get(name) {
            Some(true) => None,
            Some(false) => Some(format!("{DOCUMENT}:{line}: {name} is run only if asked for")),
            None => Some(format!("{DOCUMENT}:{line}: there is no test {name}")),
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    for promise in 1..=PROMISES {
        let shown = names.iter().filter(|(of, ..)| *of == Some(promise)).count();
        assert!(shown > 0, "promise {promise} of {DOCUMENT} names no test");
        let heading = text.lines().any(|line| line.starts_with(&format!("## {promise}. ")));
        assert!(heading, "{DOCUMENT} has no promise {promise}");
    }
    let extra = names.iter().find(|(of, ..)| of.is_some_and(|of| !(1..=PROMISES).contains(&of)));
    assert_eq!(extra, None, "a promise that nobody gave");
}

#[test]
fn tests_and_their_names_are_found_where_they_are_and_nowhere_else() {
    let text = "#[test]\nfn one_two_three_four() {}\n\n#[tokio::test(flavor = \"multi_thread\")]\n// Why.\nasync fn b() {}\n\
                #[test]\n#[ignore = \"slow\"]\nfn c() {}\nfn no_test_at_all() {}\n#[test]\nconst X: u8 = 1;\nfn d() {}\n";
    let expected = [("one_two_three_four", true), ("b", true), ("c", false)];
    assert_eq!(tests_in(text), expected.map(|(name, run)| (name.to_owned(), run)));
    let text = "## 2. Promise\n`a_b_c_d`, `mod_a::e_f_g_h` and `stall_timeout`\n## Limits\n`i_j_k_l` `NOT_A_TEST_NAME`\n";
    let expected = [(Some(2), 2, "a_b_c_d"), (Some(2), 2, "e_f_g_h"), (None, 4, "i_j_k_l")];
    assert_eq!(named(text), expected.map(|(promise, line, name)| (promise, line, name.to_owned())));
}
