//! The house keeps its rules: who may import whom, who alone knows which library, and that what is written points at
//! something. Read from the sources, since a rule that nothing holds fades.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room of `src/`, and the rooms that it may import besides itself. `docs/ARCHITECTURE.md` says why.
const ROOMS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("text", &["model"]),
    ("clock", &["model"]),
    // Below a folder, and nowhere else.
    ("beneath", &[]),
    ("config", &["text"]),
    // The hands: the world, each its own part of it. No hand imports another.
    ("api", &["model", "text"]),
    ("source", &["beneath", "model", "text"]),
    ("store", &["model", "text"]),
    ("putaway", &["beneath", "model"]),
    ("hook", &["text"]),
    ("watch", &["beneath", "model", "text", "clock"]),
    // A job as programs read it, the same everywhere.
    ("record", &["store", "model", "text"]),
    (
        "engine",
        &[
            "beneath", "record", "hook", "putaway", "api", "source", "store", "watch", "model", "text",
            "clock",
        ],
    ),
    // What puts the configuration and the rooms together.
    ("accounts", &["config", "api", "model", "text", "clock"]),
    ("logging", &["config", "model", "text", "clock"]),
    // The faces: they look in, and ask by rows.
    ("status", &["engine", "record", "store", "model", "text", "clock"]),
    (
        "daemon",
        &[
            "beneath", "accounts", "logging", "config", "status", "engine", "hook", "api", "source", "store",
            "watch", "model", "text", "clock",
        ],
    ),
    (
        "cli",
        &[
            "accounts", "logging", "config", "daemon", "status", "engine", "record", "api", "store", "watch",
            "model", "text", "clock",
        ],
    ),
    // Nobody imports cli but main.
    ("main", &["cli", "daemon", "logging", "config"]),
    // The tour: it names the modules, and imports none.
    ("lib", &[]),
];

/// Libraries and calls that one room alone knows.
const KEPT: &[(&str, &[&str])] = &[
    ("sqlx::", &["store"]),
    // To the API's server only `api` talks; `status` asks the service's own socket.
    ("reqwest::", &["api", "status"]),
    ("notify::", &["watch"]),
    ("walkdir::", &["watch"]),
    ("globset::", &["watch", "config"]),
    ("clap::", &["cli", "main"]),
    ("clap_complete::", &["cli"]),
    ("roff::", &["cli"]),
    ("csv::", &["cli"]),
    ("sd_notify::", &["daemon"]),
    ("clock_gettime", &["clock"]),
    ("SystemTime::now", &["clock"]),
    ("Instant::now", &["clock"]),
];

/// Longer files are listed: look at them again.
const LONG: usize = 400;

/// A line of a source file that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// The room of a file, by its path below `src/`.
fn room_of(file: &Path) -> String {
    let first = file.iter().next().unwrap_or_default().to_string_lossy();
    first.strip_suffix(".rs").unwrap_or(&first).to_owned()
}

/// What a file says, without its comments and the text of its strings; lines stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let bytes: Vec<char> = text.chars().collect();
    let mut at = 0;
    let keep_lines = |from: usize, to: usize, code: &mut String| {
        code.extend(bytes[from..to].iter().filter(|character| **character == '\n'));
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let next_is = |text: &str| text.chars().enumerate().all(|(index, one)| rest.get(index) == Some(&one));
        let end = if next_is("//") {
            Some(rest.iter().position(|one| *one == '\n').unwrap_or(rest.len()))
        } else if next_is("/*") {
            let close = rest.windows(2).position(|two| two == ['*', '/']);
            Some(close.map_or(rest.len(), |close| close + 2))
        } else if next_is("'\"'") || next_is("b'\"'") {
            Some(rest.iter().position(|one| *one == '"').map_or(rest.len(), |quote| quote + 2))
        } else if next_is("'\\") {
            rest.iter().skip(3).position(|one| *one == '\'').map(|close| close + 4)
        } else if rest[0] == '"' {
            Some(string_end(rest))
        } else if rest[0] == 'r' && !at.checked_sub(1).is_some_and(|before| is_word(bytes[before])) {
            raw_string_end(rest)
        } else {
            None
        };
        if let Some(end) = end {
            keep_lines(at, at + end, &mut code);
            code.push(' ');
            at += end;
        } else {
            code.push(bytes[at]);
            at += 1;
        }
    }
    code
}

fn string_end(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string_end(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|one| **one == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &rest[2 + hashes..];
    let found = body.windows(close.len()).position(|part| part == close)?;
    Some(2 + hashes + found + close.len())
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every place in `code` where `word` stands for itself, with its line and what follows. A path such as `sqlx::` begins
/// there; a call such as `Instant::now` may have a path before it.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let before = &code[..at];
        let inner = word.ends_with("::") && before.ends_with("::");
        if inner || before.chars().next_back().is_some_and(is_word) {
            return None;
        }
        Some((1 + before.matches('\n').count(), &code[at + word.len()..]))
    })
}

/// The rooms that a path after `crate::` names: one, or those of a group in braces.
fn named(after: &str) -> Vec<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|one| is_word(*one)).collect::<String>();
    let Some(group) = after.trim_start().strip_prefix('{') else { return vec![word(after)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(word(&group[start..at]));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What is wrong with one file, by its path below `src/`.
fn violations(file: &Path, text: &str) -> Vec<Violation> {
    let (room, code) = (room_of(file), code_of(text));
    let at = |line, what| Violation { file: file.to_owned(), line, what };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![at(
            1,
            format!("the room `{room}` is not in the list of tests/architecture.rs: give it its rule"),
        )];
    };
    let mut found = Vec::new();
    for root in ["crate::", "upspool::"] {
        for (line, after) in places(&code, root) {
            for name in named(after) {
                let is_room = ROOMS.iter().any(|(room, _)| *room == name);
                if is_room && name != room && !allowed.contains(&name.as_str()) {
                    found.push(at(line, format!("`{room}` may not import `{name}`")));
                }
            }
        }
    }
    for (word, keepers) in KEPT {
        for (line, _) in places(&code, word) {
            if !keepers.contains(&room.as_str()) {
                found.push(at(line, format!("only {keepers:?} may know `{word}`, and this is `{room}`")));
            }
        }
    }
    if room == "model" {
        for word in ["async ", "tokio::", "std::fs", "std::net", "std::io", "std::process", "tracing::"] {
            // What `fstat` said is plain data.
            let io = places(&code, word).filter(|(_, after)| !after.starts_with("::Metadata"));
            for (line, _) in io {
                found.push(at(line, format!("`model` does no I/O and is not async, and this is `{word}`")));
            }
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `directory` with this extension, by their paths from there.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).expect("a directory of the repository can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|one| one == extension) {
                found.push(path.strip_prefix(directory).expect("it was found there").to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_room_imports_only_what_it_may() {
    let src = root().join("src");
    let sources = files(&src, "rs");
    assert!(sources.len() > 50, "these are not all sources: {sources:?}");
    let check = |file: &PathBuf| violations(file, &fs::read_to_string(src.join(file)).unwrap());
    let found: Vec<String> = sources.iter().flat_map(check).map(|one| format!("src/{one}")).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_emulator_imports_nothing_of_upspool() {
    let src = root().join("emulator");
    for file in files(&src, "rs") {
        let code = code_of(&fs::read_to_string(src.join(&file)).unwrap());
        let line = places(&code, "upspool::").next();
        assert!(line.is_none(), "emulator/{}:{}: imports upspool", file.display(), line.unwrap().0);
    }
    let manifest = fs::read_to_string(src.join("Cargo.toml")).unwrap();
    assert!(!manifest.lines().any(|line| line.starts_with("upspool ") || line.starts_with("upspool=")));
}

#[test]
fn a_line_that_breaks_a_rule_is_found_and_what_only_looks_like_one_is_not() {
    for (file, text, expected) in [
        (
            "model/job.rs",
            "use std::fmt;\nuse crate::store::Store;",
            Some((2, "`model` may not import `store`")),
        ),
        ("watch/scan.rs", "fn f() {\n    crate::store::f()\n}", Some((2, "`watch` may not import `store`"))),
        (
            "api/client.rs",
            "use crate::{\n    model::{job, time},\n    source::Source,\n};",
            Some((1, "`api` may not import `source`")),
        ),
        ("engine/mod.rs", "use crate::cli::run;", Some((1, "`engine` may not import `cli`"))),
        ("daemon.rs", "use upspool::cli;", Some((1, "`daemon` may not import `cli`"))),
        ("engine/mod.rs", "let row = sqlx::query();", Some((1, "only [\"store\"] may know `sqlx::`"))),
        ("engine/mod.rs", "let now = std::time::Instant::now();", Some((1, "only [\"clock\"]"))),
        ("model/plan.rs", "pub async fn f() {}", Some((1, "`model` does no I/O"))),
        ("attic.rs", "", Some((1, "the room `attic` is not in the list"))),
        (
            "model/job.rs",
            "// use crate::store::Store;\n/* crate::api::x */ const A: &str = \"sqlx::\";",
            None,
        ),
        ("model/job.rs", "const A: &str = r#\"a \" crate::store::x\"#; const B: char = '\"';", None),
        ("engine/mod.rs", "use crate::model::job::Job;\nuse crate::engine::live::Live;", None),
        ("store/mod.rs", "use sqlx::Row;\nuse crate::model::time::Now;", None),
        ("daemon.rs", "let my_notify::X = crate::engine::notify::x;", None),
    ] {
        let found = violations(Path::new(file), text);
        match expected {
            None => assert_eq!(found, [], "{text}"),
            Some((line, what)) => {
                assert_eq!(found.len(), 1, "{text}: {found:?}");
                assert_eq!(found[0].line, line, "{text}");
                assert!(found[0].what.starts_with(what), "{found:?}");
            }
        }
    }
}

/// The targets of the links in a Markdown text, with their lines; code is left out.
fn links(text: &str) -> Vec<(usize, String)> {
    let (mut found, mut fenced) = (Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        // What stands between backticks is every other piece.
        let prose: String = line.split('`').step_by(2).collect();
        if fenced {
            continue;
        }
        for (at, _) in prose.match_indices("](") {
            let target: String =
                prose[at + 2..].chars().take_while(|one| !matches!(one, ')' | ' ')).collect();
            found.push((index + 1, target));
        }
    }
    found
}

/// The anchors of a Markdown text: its headings as code forges write them.
fn anchors(text: &str) -> Vec<String> {
    let heading = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|one| is_word(*one) || matches!(one, ' ' | '-'));
        kept.map(|one| if one == ' ' { '-' } else { one }).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(heading).collect()
}

#[test]
fn every_link_in_the_documents_has_a_target() {
    let root = root();
    let mut documents: Vec<PathBuf> =
        files(&root.join("docs"), "md").iter().map(|one| Path::new("docs").join(one)).collect();
    documents.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from));
    let mut missing = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for (line, target) in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if path.is_empty() {
                root.join(document)
            } else {
                root.join(document).parent().unwrap().join(path)
            };
            let there = file.exists()
                && (anchor.is_empty()
                    || fs::read_to_string(&file)
                        .is_ok_and(|text| anchors(&text).iter().any(|one| one == anchor)));
            if !there {
                missing.push(format!("{}:{line}: {target}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
    assert_eq!(links("a [b](c.md#d) `[e](f)`\n```\n[g](h)\n```"), [(1, "c.md#d".to_owned())]);
    assert_eq!(anchors("# One\n## The path of one file, twice"), ["one", "the-path-of-one-file-twice"]);
}

/// Says which files have grown long; none fails for it.
#[test]
#[expect(clippy::print_stdout, reason = "seen with --nocapture")]
fn long_files_are_listed() {
    let src = root().join("src");
    let lines = |file: &PathBuf| fs::read_to_string(src.join(file)).unwrap().lines().count();
    let mut long: Vec<(usize, PathBuf)> = files(&src, "rs")
        .into_iter()
        .map(|file| (lines(&file), file))
        .filter(|(lines, _)| *lines > LONG)
        .collect();
    long.sort();
    for (lines, file) in long.iter().rev() {
        println!("{lines} lines: src/{}", file.display());
    }
}
