//! How names, sizes and times are written for people and in records, everywhere the same.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use crate::model::time::Wall;

/// A path on one line that no terminal and no log can be hurt with: control characters, and what is not UTF-8, as
/// `\xXX`; a backslash doubled.
pub fn shown(path: &Path) -> String {
    shown_bytes(path.as_os_str().as_bytes())
}

/// The same of any text.
pub fn shown_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                character if character.is_control() || is_invisible(character) => {
                    escape(character, &mut text);
                }
                character => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A name as it is typed in a shell, in words for people: between quotes where it needs them.
pub fn typed(name: &str) -> String {
    let plain = |one: char| one.is_alphanumeric() || matches!(one, '_' | '-' | '.' | '/');
    let name = shown_bytes(name.as_bytes());
    if !name.is_empty() && name.chars().all(plain) {
        name
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

/// Characters that turn the direction of a line, break it, or cannot be seen, without being control characters.
pub fn is_invisible(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// A wall-clock time as RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(wall: Wall) -> String {
    match jiff::Timestamp::from_millisecond(wall.0) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => String::from("unknown"),
    }
}

/// A size in IEC units, three digits.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // What would be shown as 1024 is one of the next unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A duration for people: the two largest units.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{:.1} s", duration.as_secs_f64()),
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A number with what it counts.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A setting's time, in the words in which it can be written in the configuration.
pub fn setting(duration: Duration) -> String {
    // `1day` is understood too, but nobody writes it.
    humantime::format_duration(duration).to_string().replace("days", "d").replace("day", "d")
}

/// How many columns of a terminal a text takes: two for each wide character, none for what joins the one before. Character
/// by character, as terminals do it.
pub fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

fn width_of(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// A text in at most `columns`, with `mark`, one column wide, for what was taken from its middle: both ends of a path tell
/// something, and its end more.
pub fn shorten(text: &str, columns: usize, mark: char) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let (mut head, mut left) = (String::new(), room / 3);
    for character in text.chars() {
        let Some(rest) = left.checked_sub(width_of(character)) else { break };
        head.push(character);
        left = rest;
    }
    let mut tail = Vec::new();
    left += room - room / 3;
    for character in text.chars().rev() {
        let Some(rest) = left.checked_sub(width_of(character)) else { break };
        tail.push(character);
        left = rest;
    }
    tail.reverse();
    // What joins the character before it stands alone now.
    let tail = tail.into_iter().skip_while(|character| width_of(*character) == 0);
    head.push(mark);
    head.extend(tail);
    head
}

/// The same text where only ASCII can be shown: what is beyond as `\xXX`, as [`shown`] does it.
pub fn ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            escape(character, &mut ascii);
        }
    }
    ascii
}

fn escape(character: char, text: &mut String) {
    let mut utf8 = [0; 4];
    for byte in character.encode_utf8(&mut utf8).bytes() {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Base64 with padding (RFC 4648), for bytes that JSON cannot carry.
pub fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let sextet = (group >> (18 - 6 * place)) & 63;
            text.push(if place <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn names_are_shown_on_one_line_whatever_they_are() {
        for (name, expected) in [
            (&b"plain name.pdf"[..], "plain name.pdf"),
            (b"a\nb", "a\\x0ab"),
            (b"\x1b[31mred", "\\x1b[31mred"),
            (b"caf\xe9", "caf\\xe9"),
            ("café".as_bytes(), "café"),
            (b"back\\slash", "back\\\\slash"),
            ("\u{202e}gpj.exe".as_bytes(), "\\xe2\\x80\\xaegpj.exe"),
            ("\u{61c}a\u{e0041}".as_bytes(), "\\xd8\\x9ca\\xf3\\xa0\\x81\\x81"),
        ] {
            assert_eq!(shown(Path::new(OsStr::from_bytes(name))), expected);
        }
    }

    #[test]
    fn a_name_in_a_command_has_quotes_where_a_shell_needs_them() {
        for (name, expected) in [
            ("batch", "batch"),
            ("報告/a-b_c.d", "報告/a-b_c.d"),
            ("two words", "'two words'"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(typed(name), expected);
        }
    }

    #[test]
    fn sizes_and_durations_have_three_digits_at_most() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (10 * 1024, "10.0 KiB"),
            (1024 * 1024 - 1, "1.00 MiB"),
            (8 << 30, "8.00 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(3900)), "1 h 5 min");
        assert_eq!(duration(Duration::from_secs(200_000)), "2 d 7 h");
    }

    #[test]
    fn a_long_text_loses_its_middle_and_never_more_columns_than_it_must() {
        assert_eq!(shorten("/srv/drop/a.pdf", 20, '…'), "/srv/drop/a.pdf");
        assert_eq!(shorten("/srv/drop/batch/report-2026.pdf", 20, '…'), "/srv/d…port-2026.pdf");
        let wide = "/srv/報告書/二〇二六年/一月の報告.pdf";
        for columns in 0..width(wide) + 2 {
            let short = shorten(wide, columns, '…');
            assert!(width(&short) <= columns, "{short} in {columns}");
            // A wide character may not fit into the last column.
            assert!(width(&short) + 2 >= columns.min(width(wide)), "{short} in {columns}");
        }
        assert_eq!(shorten("abc", 0, '~'), "");
        assert_eq!(shorten("abc", 1, '~'), "~");
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        for (text, columns) in [
            ("plain", 5),
            ("e\u{301}", 1),
            ("報告書", 6),
            ("ﾊﾝｶｸ", 4),
            ("⌚🚀🥇", 6),
            ("กำลัง", 4),
            ("שָׁלוֹם", 4),
            ("…", 1),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
    }

    #[test]
    fn what_is_beyond_ascii_can_be_written_in_ascii() {
        assert_eq!(ascii("plain\\x0a"), "plain\\x0a");
        assert_eq!(ascii("é報"), "\\xc3\\xa9\\xe5\\xa0\\xb1");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(rfc3339(Wall(1_795_366_800_123)), "2026-11-22T17:00:00.123Z");
        assert_eq!(rfc3339(Wall(i64::MAX)), "unknown");
    }
}
