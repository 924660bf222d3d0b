//! What is looked at before a file is sent: whether it is right, and whether the server has it already.

use std::ops::Range;
use std::time::Duration;

use super::answer::{FileId, FileStatus, RemoteFile};
use super::digest::Digest;
use super::job::{JobId, Subject};
use super::preflight::{Preflight, Report, Rules, is_odd_name};
use super::time::{Now, Wall};

/// What a folder wants to have looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examination {
    /// `[[folder]] preflight`.
    pub preflight: Preflight,
    /// `[[folder]] dedupe`.
    pub dedupe: bool,
}

/// What there is to look at of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it is to be right, and what becomes of it if it is not.
    pub preflight: Preflight,
    /// Whether its bytes may have a File already.
    pub dedupe: bool,
}

impl Examination {
    /// What there is to look at of this file; none: it is sent as it stands.
    pub fn of(self, subject: &Subject) -> Option<Look> {
        let (purpose, name) = (&subject.purpose, &subject.filename);
        let checked = Rules::of(purpose, name).is_some() || is_odd_name(purpose, name);
        let preflight = if checked { self.preflight } else { Preflight::Off };
        let look = Look { preflight, dedupe: self.dedupe };
        (preflight != Preflight::Off || look.dedupe).then_some(look)
    }
}

impl Look {
    /// What can be said before the file is read, and what it is to be held to when it is; none: it need not be read.
    pub fn begin(&self, subject: &Subject) -> (Report, Option<Rules>) {
        if self.preflight == Preflight::Off {
            return (Report::default(), None);
        }
        let (purpose, name) = (&subject.purpose, &subject.filename);
        let rules = Rules::of(purpose, name);
        let report = Report::of_outside(rules, purpose, name, subject.fingerprint.bytes);
        let rules = rules.filter(|_| report.total == 0);
        (report, rules)
    }

    /// Whether a file of which this is said is not to be sent.
    pub fn rejects(&self, report: &Report) -> bool {
        self.preflight == Preflight::Reject && report.total > 0
    }
}

/// A job of the ledger that sent exactly these bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Same {
    /// It.
    pub job: JobId,
    /// Its File.
    pub file: FileId,
    /// When its File was known to be made.
    pub stored_at: Wall,
    /// The ranges in which it was sent, with their digests: they cover the file.
    pub sent: Vec<(Range<u64>, Digest)>,
    /// The MD5 of the whole, where it was made.
    pub md5: Option<String>,
}

/// Whether a File of the same bytes can stand for one that would be made now: it is whole, of the same size and purpose,
/// and lives for at least half as long as that one would.
///
/// Its age is measured by our calendar, and its lifetime by the server's: the two are never compared. A calendar that
/// was set back gives no age, and then nothing is believed.
pub fn can_stand_for(file: &RemoteFile, same: &Same, subject: &Subject, now: Now) -> bool {
    let is_it = file.id == same.file
        && file.status == FileStatus::Ready
        && file.bytes == Some(subject.fingerprint.bytes)
        && file.purpose == subject.purpose;
    let Some(expires_at) = file.expires_at else { return is_it };
    let lifetime =
        Duration::from_secs(u64::try_from(expires_at.saturating_sub(file.created_at)).unwrap_or(0));
    let fresh = subject.expires_after.map_or(lifetime, Duration::from_secs);
    let left = lifetime.checked_sub(now.wall.since(same.stored_at));
    let known = now.wall >= same.stored_at;
    is_it && known && left.is_some_and(|left| !left.is_zero() && left >= fresh / 2)
}

#[cfg(test)]
mod tests {
    use super::super::file::Fingerprint;
    use super::super::job::{AccountName, FolderId};
    use super::super::time::Boot;
    use super::*;

    const DAY: i64 = 86_400;

    fn subject(purpose: &str, name: &str, expires_after: Option<u64>) -> Subject {
        Subject {
            folder: FolderId(1),
            path: name.into(),
            fingerprint: Fingerprint { bytes: 10, mtime_ns: 0, ctime_ns: 0, inode: 1 },
            filename: name.into(),
            purpose: purpose.into(),
            mime_type: "text/jsonl".into(),
            expires_after,
            account: AccountName("default".into()),
        }
    }

    #[test]
    fn only_what_has_something_to_look_at_is_looked_at() {
        let preflight = Examination { preflight: Preflight::Warn, dedupe: false };
        let both = Examination { dedupe: true, ..preflight };
        let off = Examination::default();
        for (purpose, name, is_checked) in [
            ("batch", "a.jsonl", true),
            ("user_data", "a.jsonl", true),
            ("vision", "a.bmp", true),
            ("vision", "a.png", false),
            ("user_data", "a.pdf", false),
        ] {
            let subject = subject(purpose, name, None);
            assert_eq!(preflight.of(&subject).is_some(), is_checked, "{purpose} {name}");
            let look = both.of(&subject).unwrap();
            assert_eq!(
                (look.preflight != Preflight::Off, look.dedupe),
                (is_checked, true),
                "{purpose} {name}"
            );
            assert_eq!(off.of(&subject), None);
        }
    }

    #[test]
    fn a_name_needs_no_reading_and_only_faults_reject() {
        let look = Look { preflight: Preflight::Reject, dedupe: false };
        let (report, rules) = look.begin(&subject("vision", "a.bmp", None));
        assert_eq!((report.hints.len(), rules), (1, None));
        assert!(!look.rejects(&report));
        let mut large = subject("batch", "a.jsonl", None);
        assert_eq!(look.begin(&large).1, Some(Rules::Batch));
        large.fingerprint.bytes = 1 << 40;
        let (report, rules) = look.begin(&large);
        assert_eq!((report.total, rules), (1, None), "it is not read in vain");
        assert!(look.rejects(&report));
        assert!(!Look { preflight: Preflight::Warn, ..look }.rejects(&report));
    }

    #[test]
    fn a_file_stands_for_another_only_without_doubt_and_for_long_enough() {
        let stored_at = Wall(1_000_000 * 1000);
        let same =
            Same { job: JobId(1), file: FileId("file-1".into()), stored_at, sent: Vec::new(), md5: None };
        let file = |life: Option<i64>| RemoteFile {
            id: same.file.clone(),
            bytes: Some(10),
            // Another clock entirely.
            created_at: 5_000,
            filename: "a.jsonl".into(),
            purpose: "batch".into(),
            expires_at: life.map(|life| 5_000 + life),
            status: FileStatus::Ready,
        };
        let after = |days: i64| Now { wall: Wall(stored_at.0 + days * DAY * 1000), boot: Boot(0) };
        let lives = |life: Option<i64>, wanted: Option<u64>, days: i64| {
            can_stand_for(&file(life), &same, &subject("batch", "a.jsonl", wanted), after(days))
        };
        assert!(lives(None, None, 1000) && lives(None, Some(3600), 1000));
        assert!(lives(Some(30 * DAY), None, 15) && !lives(Some(30 * DAY), None, 16));
        let ten_days = Some(10 * DAY.unsigned_abs());
        assert!(lives(Some(30 * DAY), ten_days, 25) && !lives(Some(30 * DAY), ten_days, 26));
        assert!(!lives(Some(30 * DAY), None, 31) && !lives(Some(0), None, 0) && !lives(Some(-5), None, 0));
        assert!(!lives(Some(30 * DAY), None, -1), "a calendar that was set back is believed nothing");

        let now = after(0);
        let batch = subject("batch", "a.jsonl", None);
        let good = file(None);
        assert!(can_stand_for(&good, &same, &batch, now));
        for wrong in [
            RemoteFile { id: FileId("file-2".into()), ..good.clone() },
            RemoteFile { bytes: None, ..good.clone() },
            RemoteFile { bytes: Some(11), ..good.clone() },
            RemoteFile { purpose: "evals".into(), ..good.clone() },
            RemoteFile { purpose: String::new(), ..good.clone() },
            RemoteFile { status: FileStatus::Busy, ..good.clone() },
            RemoteFile { status: FileStatus::Broken, ..good },
        ] {
            assert!(!can_stand_for(&wrong, &same, &batch, now), "{wrong:?}");
        }
    }
}
