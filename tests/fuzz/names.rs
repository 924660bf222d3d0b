//! Names of files: as they are sent, shown, and written as JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;
use upspool::model::plan::{mime_type, sent_name};
use upspool::text::{base64, shorten, shown, width};
use upspool_emulator::Emulator;

use crate::harness::Bench;
use crate::mutate::Mutator;
use crate::{Session, is_one_line};

const SEEDS: [&[u8]; 14] = [
    b"plain.jsonl",
    b"with space.tar.gz",
    "\u{fc}mlaut-\u{65e5}\u{672c}.pdf".as_bytes(),
    b"100%25.md",
    b"%",
    b"line\nbreak.py",
    b"caf\xe9.txt",
    b"\xff\xfe\xfd",
    "\u{202e}gpj.exe".as_bytes(),
    b"\x1b[31mred",
    b"back\\slash\"quote'",
    b"-rf",
    b"=1+2,\"x\"\r.csv",
    b"e\xcc\x81\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9.html",
];

/// A name that a file can have.
fn name(mutator: &mut Mutator) -> Vec<u8> {
    let mut name = if mutator.below(4) == 0 { mutator.bytes(60) } else { mutator.mutant(&SEEDS) };
    name.retain(|byte| !matches!(byte, 0 | b'/'));
    name.truncate(200);
    name
}

/// Base64 read back, bit by bit.
fn decoded(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    assert!(text.len().is_multiple_of(4), "{text}");
    let (mut bits, mut bytes) = (Vec::new(), Vec::new());
    for character in text.trim_end_matches('=').chars() {
        let value = ALPHABET.find(character).unwrap();
        bits.extend((0..6).rev().map(|place| value >> place & 1));
    }
    for byte in bits.chunks_exact(8) {
        bytes.push(byte.iter().fold(0, |byte, bit| byte << 1 | u8::try_from(*bit).unwrap()));
    }
    bytes
}

#[test]
fn names_as_they_are_sent_and_shown() {
    let (mut session, mut mutator) = Session::new("names");
    while session.goes_on() {
        let name = name(&mut mutator);
        let path = Path::new(OsStr::from_bytes(&name));
        is_one_line(&shown(path), &name);
        let sent = sent_name(path);
        assert!(!sent.chars().any(char::is_control), "{sent:?}");
        if path.file_name() == Some(OsStr::from_bytes(&name)) {
            let back: Vec<u8> = percent_encoding::percent_decode_str(&sent).collect();
            assert_eq!(back, name, "two names would be sent as one: {sent:?}");
        }
        let mime = mime_type(path);
        assert!(mime.contains('/') && mime.is_ascii(), "{mime}");
        let (text, columns) = (shown(path), mutator.below(100));
        assert!(width(&shorten(&text, columns, '…')) <= columns, "{text:?} in {columns}");
        let decoded = decoded(&base64(&name));
        assert_eq!(decoded, name);
    }
    session.end();
}

/// Through the real folder, the real ledger and the real commands, many at a time.
#[tokio::test]
async fn names_in_the_ledger_and_in_its_records() {
    let (mut session, mut mutator) = Session::new("names in the ledger");
    while session.goes_on() {
        let mut bench = Bench::with(Emulator::builder()).await;
        bench.folder = "hidden = true\nexisting = \"upload\"\n".into();
        let mut names = Vec::new();
        for turn in 0..30 {
            // What editors and downloads call their temporary files is ignored, and is not what this is about.
            let name = [format!("{turn}-").into_bytes(), name(&mut mutator), b".x".to_vec()].concat();
            bench.drop_file(OsStr::from_bytes(&name), &[b'x'; 10]);
            names.push(name);
        }
        let (code, printed, log) = bench.once(&[]).await;
        assert_eq!(code, 0, "{printed}\n{log:?}");
        assert_eq!(printed.lines().count(), names.len(), "one line for each: {printed}");
        printed.lines().for_each(|line| is_one_line(&line.replace('\t', " "), line.as_bytes()));
        let output = bench.command(&["list", "--limit", "100", "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut listed: Vec<Vec<u8>> = text
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).unwrap();
                let path = record["path"].as_str().unwrap().as_bytes().to_vec();
                let path = record["path_base64"].as_str().map_or(path, decoded);
                let root = format!("{}/", bench.path("drop").display());
                path.strip_prefix(root.as_bytes()).unwrap().to_vec()
            })
            .collect();
        listed.sort();
        names.sort();
        assert_eq!(listed, names, "each record leads back to its file");
        let output = bench.command(&["list", "--limit", "100"]).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(!table.chars().any(|c| c.is_control() && c != '\n'), "{table:?}");
        bench.assert_ledger_is_the_truth().await;
    }
    session.end();
}
