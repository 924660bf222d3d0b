//! What became of an Upload whose answer to complete was lost: what cancel and the list of Files show, and what follows.
//!
//! Cancel is the fence: behind it no complete can land any more. Only then does the absence of a File mean something. A
//! File that is there is ours only if its bytes are, or if nothing else can be meant.

use std::time::Duration;

use super::answer::{FileId, UploadStatus};
use super::job::{Deadline, Fence};
use super::time::Boot;

/// An Upload is taken for ended so long after its expiry: a complete that was accepted in its last moment may still be
/// putting the file together.
pub const PAST_EXPIRY: Duration = Duration::from_secs(300);

/// How long before its expiry an Upload may already be refused for it: our clock began when the answer to create came.
const NEAR_EXPIRY: Duration = Duration::from_secs(60);

/// An Upload of which no deadline is known (another boot, and a calendar that makes no sense) is taken for ended so long
/// after the service met it: the longest usual lifetime, with [`PAST_EXPIRY`].
pub const UNKNOWN_EXPIRY: Duration = Duration::from_secs(2 * 3600 + 300);

/// How long a File that must exist is looked for in a list that lags.
pub const LIST_LAG: Duration = Duration::from_secs(120);

/// Between the first two looks at the list.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// Between later ones.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Between two looks while nothing but time can tell.
const LOOK_SELDOM: Duration = Duration::from_secs(300);

/// Clocks of one server may differ so much between the machine that opens Uploads and the one that makes Files.
pub const SKEW_SECONDS: i64 = 5;

/// How far the fence got.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fenced {
    /// This is known now.
    Is(Fence),
    /// A refusal means nothing before this time: the Upload may just have expired.
    AskAgainAt(Boot),
}

/// What a whole answer to cancel shows; none: nothing, the request has to be repeated.
pub fn fence_of_answer(status: &UploadStatus) -> Option<Fence> {
    match status {
        UploadStatus::Cancelled | UploadStatus::Expired => Some(Fence::Closed),
        UploadStatus::Completed => Some(Fence::Spent),
        UploadStatus::Pending | UploadStatus::Other(_) => None,
    }
}

/// What a refusal of cancel shows. `again`: an earlier cancel may have acted.
pub fn fence_of_refusal(deadline: Deadline, again: bool, now: Boot) -> Fenced {
    match deadline {
        Deadline::Unknown => Fenced::Is(Fence::Unclear),
        Deadline::At(at) if now >= at + PAST_EXPIRY => Fenced::Is(Fence::Unclear),
        Deadline::At(at) if now + NEAR_EXPIRY >= at => Fenced::AskAgainAt(at + PAST_EXPIRY),
        Deadline::At(_) if again => Fenced::Is(Fence::Unclear),
        Deadline::At(_) => Fenced::Is(Fence::Spent),
    }
}

/// When no complete of the Upload can land any more, whatever cancel said. `met`: when this run of the service met it;
/// `completed`: when complete was sent last; `patience`: so long a server may put a file together.
pub fn ends_for_certain(deadline: Deadline, met: Boot, completed: Option<Boot>, patience: Duration) -> Boot {
    let expired = match deadline {
        Deadline::At(at) => at + PAST_EXPIRY,
        Deadline::Unknown => met + UNKNOWN_EXPIRY,
    };
    // Whether the deadline cut it the server alone knows.
    completed.map_or(expired, |at| expired.max(at + patience + PAST_EXPIRY))
}

/// A File of the name, the size and the purpose, made since the Upload was, and of no other job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub file: FileId,
    /// When the server deletes it.
    pub expires_at: Option<i64>,
    /// Whether it holds our bytes.
    pub content: Content,
}

/// What the content of a File is, compared with the bytes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Exactly these.
    Same,
    /// Others.
    Other,
    /// The server does not let it be read.
    Unknown,
}

/// What a look at the list of Files brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The list was read back to the Upload's creation.
    Candidates(Vec<Candidate>),
    /// The server has no such list, or refuses it.
    NoList,
}

/// What is known besides what a look brought.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// What cancel showed.
    pub fence: Fence,
    /// When no complete can land any more.
    pub ends: Boot,
    /// When the list was first looked at.
    pub since: Boot,
    /// The one File that earlier looks found, which could not be read, and when the first of them did.
    pub before: Option<(&'a FileId, Boot)>,
}

/// What follows from a look at the list.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// That one is it.
    Adopt {
        /// The File.
        file: FileId,
        /// When the server deletes it.
        expires_at: Option<i64>,
    },
    /// The Upload became no File: a new one is opened.
    StartOver,
    /// It cannot be told yet.
    LookAgain(Duration),
    /// It cannot be told: a person decides among these.
    Unresolved(Vec<FileId>),
}

/// Decides. No File is adopted that may be another's, and none is made a second time that may be there.
pub fn conclude(search: &Search<'_>, found: &Found, now: Boot) -> Conclusion {
    let searched = now.since(search.since);
    let Found::Candidates(candidates) = found else {
        return match search.fence {
            // The server's word for it is as good as an empty list.
            Fence::Closed => Conclusion::StartOver,
            Fence::Spent | Fence::Unclear => Conclusion::Unresolved(Vec::new()),
        };
    };
    let possible: Vec<&Candidate> =
        candidates.iter().filter(|candidate| candidate.content != Content::Other).collect();
    let all = || possible.iter().map(|candidate| candidate.file.clone()).collect();
    match (possible.as_slice(), search.fence) {
        ([], Fence::Closed) => Conclusion::StartOver,
        ([], Fence::Spent | Fence::Unclear) if searched < LIST_LAG => {
            // Soon at first: most lists lag by a second if at all.
            Conclusion::LookAgain(searched.clamp(LOOK_SOON, LOOK_EVERY))
        }
        ([], Fence::Spent) => Conclusion::Unresolved(Vec::new()),
        ([], Fence::Unclear) if now >= search.ends => Conclusion::StartOver,
        ([], Fence::Unclear) => Conclusion::LookAgain(search.ends.since(now).min(LOOK_SELDOM)),
        // The server says that there is no File, and there it is: either its word is wrong or it is another's.
        (_, Fence::Closed) => Conclusion::Unresolved(all()),
        ([one], _) if one.content == Content::Same => {
            Conclusion::Adopt { file: one.file.clone(), expires_at: one.expires_at }
        }
        // Nothing else can be meant, unless ours is not in the list yet: a second look shows that.
        ([one], Fence::Spent)
            if search.before.is_some_and(|(file, at)| *file == one.file && now.since(at) >= LOOK_EVERY) =>
        {
            Conclusion::Adopt { file: one.file.clone(), expires_at: one.expires_at }
        }
        ([_], Fence::Spent) => Conclusion::LookAgain(LOOK_EVERY),
        _ => Conclusion::Unresolved(all()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Boot = Boot(3_600_000);

    fn candidate(name: &str, content: Content) -> Candidate {
        Candidate { file: FileId(name.into()), expires_at: None, content }
    }

    fn search(fence: Fence) -> Search<'static> {
        Search { fence, ends: HOUR + PAST_EXPIRY, since: Boot(0), before: None }
    }

    fn gist(conclusion: Conclusion) -> String {
        match conclusion {
            Conclusion::Adopt { file, .. } => format!("adopt {file}"),
            Conclusion::StartOver => "start over".into(),
            Conclusion::LookAgain(after) => format!("look after {} s", after.as_secs()),
            Conclusion::Unresolved(files) => {
                let files: Vec<String> = files.iter().map(ToString::to_string).collect();
                format!("unresolved [{}]", files.join(" "))
            }
        }
    }

    #[test]
    fn each_pair_of_fence_and_list_has_its_conclusion() {
        use Content::{Other, Same, Unknown};
        use Fence::{Closed, Spent, Unclear};
        let late = HOUR + PAST_EXPIRY;
        for (fence, contents, now, expected) in [
            (Closed, vec![], Boot(0), "start over"),
            (Closed, vec![Other, Other], Boot(0), "start over"),
            (Closed, vec![Same], Boot(0), "unresolved [0]"),
            (Closed, vec![Unknown], Boot(0), "unresolved [0]"),
            (Spent, vec![], Boot(0), "look after 1 s"),
            (Spent, vec![], Boot(4000), "look after 4 s"),
            (Spent, vec![], Boot(60_000), "look after 15 s"),
            (Spent, vec![], Boot(120_000), "unresolved []"),
            (Spent, vec![Other], Boot(120_000), "unresolved []"),
            (Spent, vec![Same], Boot(0), "adopt 0"),
            (Spent, vec![Other, Same, Other], Boot(0), "adopt 1"),
            (Spent, vec![Same, Same], Boot(0), "unresolved [0 1]"),
            (Spent, vec![Same, Unknown], Boot(0), "unresolved [0 1]"),
            (Spent, vec![Unknown], Boot(0), "look after 15 s"),
            (Spent, vec![Unknown, Unknown], Boot(0), "unresolved [0 1]"),
            (Unclear, vec![], Boot(0), "look after 1 s"),
            (Unclear, vec![], Boot(120_000), "look after 300 s"),
            (Unclear, vec![], late - Duration::from_secs(1), "look after 1 s"),
            (Unclear, vec![], late, "start over"),
            (Unclear, vec![Other], late, "start over"),
            (Unclear, vec![Same], Boot(0), "adopt 0"),
            (Unclear, vec![Unknown], late, "unresolved [0]"),
        ] {
            let candidates =
                contents.iter().enumerate().map(|(place, content)| candidate(&place.to_string(), *content));
            let found = Found::Candidates(candidates.collect());
            assert_eq!(
                gist(conclude(&search(fence), &found, now)),
                expected,
                "{fence:?} {contents:?} {now:?}"
            );
        }
        for (fence, expected) in
            [(Closed, "start over"), (Spent, "unresolved []"), (Unclear, "unresolved []")]
        {
            assert_eq!(gist(conclude(&search(fence), &Found::NoList, Boot(0))), expected, "{fence:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_adopted_only_if_a_second_look_finds_no_other() {
        let one = Found::Candidates(vec![candidate("a", Content::Unknown)]);
        let (a, b) = (FileId("a".into()), FileId("b".into()));
        let again = Search { before: Some((&a, Boot(0))), ..search(Fence::Spent) };
        assert_eq!(gist(conclude(&again, &one, Boot(15_000))), "adopt a");
        assert_eq!(gist(conclude(&again, &one, Boot(14_000))), "look after 15 s", "too soon");
        let other = Search { before: Some((&b, Boot(0))), ..search(Fence::Spent) };
        assert_eq!(gist(conclude(&other, &one, Boot(15_000))), "look after 15 s");
    }

    #[test]
    fn a_refused_cancel_means_something_only_while_the_upload_should_live() {
        let deadline = Deadline::At(HOUR);
        for (now, again, expected) in [
            (Boot(0), false, Fenced::Is(Fence::Spent)),
            (Boot(0), true, Fenced::Is(Fence::Unclear)),
            (HOUR - Duration::from_secs(30), false, Fenced::AskAgainAt(HOUR + PAST_EXPIRY)),
            (HOUR + Duration::from_secs(30), true, Fenced::AskAgainAt(HOUR + PAST_EXPIRY)),
            (HOUR + PAST_EXPIRY, false, Fenced::Is(Fence::Unclear)),
        ] {
            assert_eq!(fence_of_refusal(deadline, again, now), expected, "{now:?} {again}");
        }
        assert_eq!(fence_of_refusal(Deadline::Unknown, false, Boot(0)), Fenced::Is(Fence::Unclear));
    }
}
