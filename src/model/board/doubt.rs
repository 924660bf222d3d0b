//! The inquiry after a lost answer to complete: repeat, fence, list. What is done when; `reconcile` says what it means.

use super::super::answer::{FileId, FileStatus, RemoteFile, Upload};
use super::super::failure::Failure;
use super::super::job::{Code, Deadline, Doubt, Fence, Job, JobId, Reason, Stage, Step, Why};
use super::super::reconcile::{
    Conclusion, Content, Fenced, Found, Search, conclude, ends_for_certain, fence_of_answer, fence_of_refusal,
};
use super::super::time::Now;
use super::grants::wanted;
use super::task::Task;
use super::{Board, Context, Done, Effect, Kind, Work};

/// Answers to cancel that say neither yes nor no, before it is taken for neither.
const VAGUE_ANSWERS: u32 = 3;

/// So many Uploads may be given up before one whose complete made no File ends the job: a file that the server never puts
/// together would be sent each hour for ever.
const FRUITLESS: u32 = 5;

impl Board {
    /// The repeated complete was refused. Cancelling the Upload shows whether the first one made a File, and sees to it
    /// that it cannot do so later.
    pub(super) fn inquire(&mut self, id: JobId, reason: Reason, context: Context, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.inquiry = Some(reason);
        task.not_before = now.boot;
        // A second cancel is read differently from the first, so a crash must not forget that there was one.
        task.committed = false;
        self.step(id, Step::Doubted(Doubt::Fencing { again: false }), context, true);
    }

    /// This question was asked for long enough: on to the next.
    pub(super) fn inquire_further(&mut self, id: JobId, reason: Reason, context: Context, now: Now) {
        match self.tasks.get(&id).map(Task::doubts) {
            Some(Doubt::MayHaveActed) => self.inquire(id, reason, context, now),
            Some(Doubt::Fencing { .. }) => self.fenced(id, Fence::Unclear, context, now),
            Some(Doubt::Fenced(_)) => {
                let single = self.tasks.get(&id).and_then(|task| task.single.clone());
                let candidates = single.map(|(file, _)| file);
                self.unresolved(id, reason, candidates.into_iter().collect(), context);
            }
            Some(Doubt::None) | None => {}
        }
    }

    pub(super) fn fence_answered(&mut self, id: JobId, upload: Upload, context: Context, now: Now) {
        match fence_of_answer(&upload.status) {
            // Cancel came too late, and says what for.
            Some(Fence::Spent) if upload.file.is_some() => self.completed(id, upload, context, now),
            Some(fence) => self.fenced(id, fence, context, now),
            None => {
                let Some(task) = self.tasks.get_mut(&id) else { return };
                task.doubt(now.boot);
                if task.job.attempts + 1 >= VAGUE_ANSWERS {
                    self.fenced(id, Fence::Unclear, context, now);
                    return;
                }
                let words = format!("cancel was answered with an Upload that is {:?}", upload.status);
                self.put_off(id, Reason::local(Code::BadAnswer, words), None, context, now);
            }
        }
    }

    /// The server refused cancel, the list, or the File that was asked for.
    pub(super) fn question_refused(
        &mut self,
        id: JobId,
        kind: Kind,
        failure: &Failure,
        reason: Reason,
        context: Context,
        now: Now,
    ) {
        match kind {
            Kind::Fence => self.fence_refused(id, failure, reason, context, now),
            Kind::Confirm => self.not_the_same(id),
            Kind::Search => self.searched(id, &Found::NoList, context, now),
            // It is not there yet, or never will be: complete is repeated.
            _ => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.ask_named = false;
                }
                self.put_off(id, reason, None, context, now);
            }
        }
    }

    fn fence_refused(&mut self, id: JobId, failure: &Failure, reason: Reason, context: Context, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Stage::Completing(session, Doubt::Fencing { again }) = &task.job.stage else { return };
        // What a gateway refuses, the server behind it may have done; and one that does not know the Upload at all does not
        // say that it completed.
        let unknown = failure.facts().is_some_and(|facts| matches!(facts.status, 404 | 410));
        let again = *again || failure.may_have_acted() || unknown;
        match fence_of_refusal(session.deadline, again, now.boot) {
            Fenced::Is(fence) => self.fenced(id, fence, context, now),
            Fenced::AskAgainAt(at) => self.wait(id, at.since(now.boot), reason, context, now),
        }
    }

    pub(super) fn fenced(&mut self, id: JobId, fence: Fence, context: Context, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.not_before = now.boot;
        self.step(id, Step::Doubted(Doubt::Fenced(fence)), context, false);
    }

    pub(super) fn searched(&mut self, id: JobId, found: &Found, context: Context, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Stage::Completing(session, Doubt::Fenced(fence)) = &task.job.stage else { return };
        let (fence, deadline) = (*fence, session.deadline);
        let search = Search {
            fence,
            ends: ends_for_certain(deadline, task.met, task.completed_at, self.limits.complete_timeout),
            since: *task.searching_since.get_or_insert(now.boot),
            before: task.single.as_ref().map(|(file, at)| (file, *at)),
        };
        match conclude(&search, found, now.boot) {
            Conclusion::Adopt { file, expires_at } => {
                let bytes = Some(task.job.subject.fingerprint.bytes);
                self.step(id, Step::Stored { file, expires_at }, Context { bytes, ..context }, false);
                self.forget(id);
            }
            Conclusion::StartOver => self.start_over(id, deadline, context, now),
            Conclusion::LookAgain(after) => {
                let single = match found {
                    Found::Candidates(candidates) => {
                        candidates.iter().find(|candidate| candidate.content == Content::Unknown)
                    }
                    Found::NoList => None,
                };
                let before = task.single.take();
                task.single = single.map(|one| match before {
                    Some((file, at)) if file == one.file => (file, at),
                    _ => (one.file.clone(), now.boot),
                });
                let words = "complete may have made a File; the list of Files does not tell yet";
                self.wait(id, after, Reason::local(Code::CompleteUnresolved, words), context, now);
            }
            Conclusion::Unresolved(candidates) => {
                let words = match found {
                    Found::NoList => {
                        "complete may have made a File, and the server has no list to look for it".into()
                    }
                    Found::Candidates(_) => format!(
                        "complete may have made a File; {} may be it (the Upload is {})",
                        match candidates.len() {
                            0 => "none in the list of Files".to_owned(),
                            1 => "one in the list of Files".to_owned(),
                            count => format!("{count} in the list of Files"),
                        },
                        match fence {
                            Fence::Closed => "cancelled",
                            Fence::Spent => "completed, as it seems",
                            Fence::Unclear => "over",
                        }
                    ),
                };
                self.unresolved(id, Reason::local(Code::CompleteUnresolved, words), candidates, context);
            }
        }
    }

    /// No File came of the Upload. What the server refused twice it will not take a third time; and what it never completes
    /// is not sent for ever.
    fn start_over(&mut self, id: JobId, deadline: Deadline, context: Context, now: Now) {
        let Some(task) = self.tasks.get(&id) else { return };
        let words = "complete was refused after its answer was lost, and made no File";
        let reason = task.inquiry.clone().unwrap_or_else(|| Reason::local(Code::UploadExpired, words));
        let expired = matches!(deadline, Deadline::At(at) if at <= now.boot) || deadline == Deadline::Unknown;
        // A conflict or a gateway's error is no judgement of the file.
        let plain = reason.status.is_some_and(|status| (400..500).contains(&status) && status != 409);
        let refused = plain && !expired && !task.may_blame_lost_part();
        if (refused && task.job.refusals > 0) || task.job.restarts >= FRUITLESS {
            let code = if plain { Code::FileRejected } else { Code::ServerError };
            self.step(id, Step::Failed(Reason { code, ..reason }), context, false);
            self.forget(id);
        } else {
            let (why, code) =
                if refused { (Why::Refused, Code::FileRejected) } else { (Why::Other, Code::UploadExpired) };
            self.restart(id, why, Reason { code, ..reason }, context, now);
        }
    }

    fn unresolved(&mut self, id: JobId, reason: Reason, candidates: Vec<FileId>, context: Context) {
        self.step(id, Step::Unresolved { reason, candidates }, context, false);
        self.forget(id);
    }

    /// The File that complete's answer named while it was still being made.
    pub(super) fn file_seen(&mut self, id: JobId, file: RemoteFile, context: Context, now: Now) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let bytes = task.job.subject.fingerprint.bytes;
        if file.status == FileStatus::Ready && file.bytes == Some(bytes) {
            let step = Step::Stored { file: file.id, expires_at: file.expires_at };
            self.step(id, step, Context { bytes: Some(bytes), ..context }, false);
            self.forget(id);
            return;
        }
        task.ask_named = file.status == FileStatus::Busy;
        let words = format!("File {} is not made yet", file.id);
        self.put_off(id, Reason::local(Code::BadAnswer, words), None, context, now);
    }

    /// A person says which File an unresolved job became: it is looked at first.
    pub(super) fn check_file(
        &mut self,
        job: Job,
        file: FileId,
        request: i64,
        now: Now,
    ) -> Result<(), String> {
        let id = job.id;
        let Stage::Unresolved(session) = &job.stage else {
            return Err(format!(
                "job {} is {}; only unresolved jobs can be resolved",
                id.0,
                job.stage.state()
            ));
        };
        if self.tasks.contains_key(&id) {
            return Err(format!("job {} is being resolved already", id.0));
        }
        let account = job.subject.account.clone();
        if !self.limits.accounts.contains_key(&account) {
            return Err(format!(
                "account {} is not in use any more, so that nobody can look at the File: say --unchecked if you have",
                account.0
            ));
        }
        let wanted = Box::new(wanted(&job, session));
        let mut task = Task::new(job, now);
        task.request = Some(request);
        task.under_way.insert(super::task::UnderWay::Request);
        self.tasks.insert(id, task);
        self.start(Some(id), account, Kind::Check, Work::Check { file, wanted });
        Ok(())
    }

    pub(super) fn checked(&mut self, id: JobId, result: Result<Done, Failure>, context: Context) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(request) = task.request else { return };
        let bytes = task.job.subject.fingerprint.bytes;
        let answer = match result {
            Ok(Done::Checked { file, taken: Some(other), .. }) => {
                Err(format!("{} is the File of job {}", file.id, other.0))
            }
            Ok(Done::Checked { file, content: Content::Same, .. }) => {
                Ok((file, "it holds exactly the bytes that were sent"))
            }
            Ok(Done::Checked { file, content: Content::Other, .. }) => {
                let size =
                    file.bytes.map_or_else(|| "unknown size".to_owned(), |size| format!("{size} bytes"));
                Err(format!("{} holds other bytes than were sent ({size}; {bytes} were sent)", file.id))
            }
            Ok(Done::Checked { file, .. }) => Err(format!(
                "the server does not let the content of {} be read, so it cannot be compared; name and size are as they \
                 should be; say --unchecked if you are sure",
                file.id
            )),
            Ok(Done::Panicked(text)) => Err(format!("looking at the File panicked: {text}")),
            Ok(_) => Err("looking at the File gave no answer".to_owned()),
            Err(failure) => Err(format!("the File cannot be looked at: {failure}")),
        };
        let done = answer.is_ok();
        let text = match answer {
            Ok((file, how)) => {
                let text = format!("job {} is stored as {}: {how}", id.0, file.id);
                let step = Step::Stored { file: file.id, expires_at: file.expires_at };
                self.step(id, step, Context { bytes: Some(bytes), ..context }, false);
                text
            }
            Err(text) => format!("job {} stays unresolved: {text}", id.0),
        };
        self.forget(id);
        self.effects.push(Effect::Answer { request, done, text });
    }
}
