//! How a file becomes Parts, and what name and type it is sent under.

use std::ffi::OsStr;
use std::fmt::Write;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most bytes of an Upload. The API says «8 GB» without saying which; a server that means 8 000 000 000 refuses itself.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Most bytes of a Part. The API says «64 MB» without saying which; OpenAI's own Python helper sends 64 MiB.
pub const MAX_PART_BYTES: u64 = 64 * 1024 * 1024;

/// Most bytes of a Part that `auto` plans: within both readings of «64 MB».
pub const AUTO_PART_BYTES: u64 = 64_000_000;

/// Below this a Part is not worth a request of its own.
const LEAST_PART_BYTES: u64 = 1024 * 1024;

/// Least bytes of a Part at the end of a file behind which nothing waits: see [`Tail::Finer`].
const LEAST_TAIL_BYTES: u64 = 2 * 1024 * 1024;

/// Rounds of the slots that such an end adds at most: after each of them its answers are waited for.
const MORE_ROUNDS: u64 = 3;

/// Files up to this size go as one Part, through the lane of small requests.
pub const LANE_BYTES: u64 = 256 * 1024;

/// `[upload] part_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartSize {
    /// Enough Parts to fill the slots, none over [`AUTO_PART_BYTES`].
    Auto,
    /// At most so many bytes.
    Fixed(u64),
}

/// What [`PartSize::Auto`] makes of the end of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tail {
    /// Parts of one size: other files take the slots that they leave.
    Even,
    /// Smaller and smaller Parts, since nothing else wants the slots: connections are not equally fast, and those that end early
    /// would leave the link to the others, which take seconds to make use of it.
    Finer {
        /// Bytes per second that the link took of late; none if that is not known.
        rate: Option<f64>,
    },
}

/// Cuts a file of `bytes` into ranges: with [`Tail::Even`] their sizes differ by at most one byte.
///
/// `slots` is how many Parts are sent at once. `cap` is the largest body that the server is known to take.
pub fn parts(bytes: u64, size: PartSize, slots: usize, cap: u64, tail: Tail) -> Vec<Range<u64>> {
    let slots = slots.max(1) as u64;
    let most = AUTO_PART_BYTES.min(cap).max(1);
    let count = match size {
        PartSize::Fixed(size) => bytes.div_ceil(size.min(cap).max(1)),
        PartSize::Auto if bytes <= LANE_BYTES => bytes.div_ceil(cap.max(1)),
        PartSize::Auto => {
            let least = bytes.div_ceil(most);
            let filling = slots.min(bytes / LEAST_PART_BYTES);
            // A count that is no multiple of the slots ends with slots that have nothing to do.
            let even = if least > slots { least.next_multiple_of(slots) } else { least };
            even.max(filling)
        }
    }
    .max(1);
    if let (PartSize::Auto, Tail::Finer { rate }) = (size, tail) {
        // A Part has to take a second, or on a fast link the answers to so many would be waited for longer than the tail.
        let second = rate.map_or(0, |rate| (rate / slots as f64) as u64);
        return finer(bytes, count, slots, LEAST_TAIL_BYTES.max(second), most);
    }
    even(0..bytes, count).collect()
}

/// As *Factoring: a method for scheduling parallel loops* has it (Hummel, Schonberg, Flynn, Communications of the ACM, August 1992): each
/// round of the slots takes half of what is left, and the last one all. Otherwise `count` even ranges.
fn finer(bytes: u64, count: u64, slots: u64, least: u64, most: u64) -> Vec<Range<u64>> {
    let (mut ranges, mut start) = (Vec::new(), 0);
    for _ in 1..count.div_ceil(slots) + MORE_ROUNDS {
        let half = (bytes - start) / (2 * slots);
        if half < least {
            break;
        }
        for _ in 0..slots {
            ranges.push(start..start + half.min(most));
            start += half.min(most);
        }
    }
    let left = start..bytes;
    let count =
        if start == 0 { count } else { (left.end - left.start).div_ceil(most).next_multiple_of(slots) };
    ranges.extend(even(left, count));
    ranges
}

fn even(range: Range<u64>, count: u64) -> impl Iterator<Item = Range<u64>> {
    let bytes = range.end - range.start;
    let (each, over) = (bytes / count, bytes % count);
    let start = move |index: u64| range.start + index * each + index.min(over);
    (0..count).map(move |index| start(index)..start(index + 1))
}

/// The name that the File will carry: the base name; what is not UTF-8, control characters and `%` as `%XX`.
pub fn sent_name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.file_name().unwrap_or(OsStr::new("")).as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '%' {
                let mut utf8 = [0; 4];
                escape(&mut name, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                name.push(character);
            }
        }
        escape(&mut name, chunk.invalid());
    }
    name
}

fn escape(name: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(name, "%{byte:02X}");
    }
}

/// The MIME type to announce for `path`, by its extension.
pub fn mime_type(path: &Path) -> String {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    // What the general table has not, or has as something else than the API's purposes mean.
    match extension.as_deref() {
        Some("jsonl" | "ndjson") => "text/jsonl".into(),
        Some("md" | "markdown") => "text/markdown".into(),
        Some("ts" | "tsx") => "application/typescript".into(),
        Some("py") => "text/x-python".into(),
        Some("rs" | "go" | "log") => "text/plain".into(),
        _ => mime_guess::from_path(path).first_or_octet_stream().essence_str().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    const MIB: u64 = 1024 * 1024;

    fn sizes(bytes: u64, size: PartSize, slots: usize) -> Vec<u64> {
        lengths(&parts(bytes, size, slots, MAX_PART_BYTES, Tail::Even))
    }

    fn lengths(ranges: &[Range<u64>]) -> Vec<u64> {
        ranges.iter().map(|range| range.end - range.start).collect()
    }

    #[test]
    fn auto_fills_the_slots_with_medium_files_and_ends_evenly_with_large_ones() {
        assert_eq!(sizes(1, PartSize::Auto, 8).len(), 1);
        assert_eq!(sizes(LANE_BYTES, PartSize::Auto, 8).len(), 1);
        assert_eq!(sizes(3 * MIB, PartSize::Auto, 8).len(), 3);
        assert_eq!(sizes(100 * MIB, PartSize::Auto, 8).len(), 8);
        assert_eq!(sizes(1024 * MIB, PartSize::Auto, 8).len(), 24);
        assert_eq!(sizes(MAX_FILE_BYTES, PartSize::Auto, 8).len(), 136);
        assert_eq!(sizes(150 * MIB, PartSize::Fixed(64 * MIB), 8).len(), 3);
    }

    #[test]
    fn the_parts_of_a_file_that_nothing_waits_behind_get_smaller_as_far_as_the_link_is_slow() {
        let finer =
            |bytes, rate| lengths(&parts(bytes, PartSize::Auto, 8, MAX_PART_BYTES, Tail::Finer { rate }));
        let rounds = |mib: [u64; 4]| mib.into_iter().flat_map(|mib| [mib * MIB; 8]).collect::<Vec<_>>();
        assert_eq!(finer(128 * MIB, None), rounds([8, 4, 2, 2]));
        assert_eq!(finer(128 * MIB, Some(12.5e6)), rounds([8, 4, 2, 2]));
        // Of 50 MiB in a second 6.25 MiB are one slot's.
        assert_eq!(finer(128 * MIB, Some(50.0 * 1048576.0)), rounds([8, 8, 0, 0])[..16]);
        assert_eq!(finer(128 * MIB, Some(1e9)), [16 * MIB; 8], "as if something waited");
        assert_eq!(finer(16 * MIB, None), [2 * MIB; 8], "too small for it");
        assert_eq!(finer(3 * MIB, None).len(), 3);
        let large = finer(1024 * MIB, None);
        assert_eq!((large.len(), large.iter().max()), (48, Some(&AUTO_PART_BYTES)), "three rounds more");
        let fixed = PartSize::Fixed(64 * MIB);
        assert_eq!(parts(128 * MIB, fixed, 8, MAX_PART_BYTES, Tail::Finer { rate: None }).len(), 2);
    }

    #[test]
    fn names_keep_what_can_be_shown_and_escape_the_rest() {
        let name = |bytes: &[u8]| sent_name(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(name(b"dir/plain name;\"'.pdf"), "plain name;\"'.pdf");
        assert_eq!(name(b"caf\xc3\xa9"), "café");
        assert_eq!(name(b"caf\xe9.txt"), "caf%E9.txt");
        assert_eq!(name(b"a\nb\x1b[31m%41"), "a%0Ab%1B[31m%2541");
        assert_eq!(name("a\u{85}b".as_bytes()), "a%C2%85b");
    }

    #[test]
    fn types_are_those_that_the_purposes_mean() {
        for (path, expected) in [
            ("a.jsonl", "text/jsonl"),
            ("a.PDF", "application/pdf"),
            ("a.ts", "application/typescript"),
            ("a.png", "image/png"),
            ("a", "application/octet-stream"),
        ] {
            assert_eq!(mime_type(&PathBuf::from(path)), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn ranges_cover_the_file_once_within_the_limits(
            bytes in 1..=MAX_FILE_BYTES,
            fixed in proptest::option::of(MIB..=MAX_PART_BYTES),
            slots in 1usize..64,
            cap in MIB..=MAX_PART_BYTES,
            tail in prop_oneof![
                Just(Tail::Even),
                proptest::option::of(1.0..1e10).prop_map(|rate| Tail::Finer { rate }),
            ],
        ) {
            let size = fixed.map_or(PartSize::Auto, PartSize::Fixed);
            let ranges = parts(bytes, size, slots, cap, tail);
            let mut end = 0;
            for range in &ranges {
                prop_assert_eq!(range.start, end);
                prop_assert!(range.end > range.start && range.end - range.start <= cap);
                end = range.end;
            }
            prop_assert_eq!(end, bytes);
        }
    }
}
